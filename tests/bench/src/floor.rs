//! The kernel's floor, from `floor.c`: one start at a time, whenever asked.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::Done;

/// The running floor program.
pub(crate) struct Floor {
    child: Child,
    ask: ChildStdin,
    answer: BufReader<ChildStdout>,
}

impl Floor {
    /// Compiles and starts it; its layers go into `place`.
    pub(crate) fn start(place: &Path, rootfs: &Path) -> Done<Floor> {
        let source = place.join("floor.c");
        let program = place.join("floor");
        let layers = place.join("layers");
        std::fs::write(&source, include_str!("floor.c")).map_err(|e| format!("floor: {e}"))?;
        std::fs::create_dir_all(&layers).map_err(|e| format!("floor: {e}"))?;
        let built = Command::new("cc").args(["-O2", "-static", "-o"]).arg(&program).arg(&source).status();
        if !built.as_ref().is_ok_and(std::process::ExitStatus::success) {
            return Err(format!("floor: cc failed: {built:?}"));
        }
        let mut child = Command::new(&program)
            .arg(rootfs)
            .arg(&layers)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("floor: cannot run: {e}"))?;
        let (ask, answer) = (child.stdin.take(), child.stdout.take());
        let (Some(ask), Some(answer)) = (ask, answer) else { return Err("floor: no pipes".into()) };
        Ok(Floor { child, ask, answer: BufReader::new(answer) })
    }

    /// One start; milliseconds.
    pub(crate) fn once(&mut self) -> Done<f64> {
        self.ask.write_all(b"\n").map_err(|e| format!("floor: {e}"))?;
        let mut line = String::new();
        self.answer.read_line(&mut line).map_err(|e| format!("floor: {e}"))?;
        let nanoseconds: f64 = line.trim().parse().map_err(|_| format!("floor: answered {line:?}"))?;
        Ok(nanoseconds / 1e6)
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
