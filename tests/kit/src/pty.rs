//! Programs on a terminal of their own.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::cmd::{self, Cmd, ends_within};
use crate::wait::{PATIENCE, readable};

/// A program, the terminal it runs on, and what it has written so far.
pub struct Pty {
    master: File,
    slave: File,
    child: Child,
    shown: String,
    seen: Vec<u8>,
}

impl Pty {
    /// Starts the program as the leader of a session on a fresh terminal of 80 × 24.
    pub fn spawn(cmd: Cmd) -> Pty {
        let inner = cmd.into_command();
        let shown = cmd::shown(&inner);
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
        grantpt(&master).and_then(|()| unlockpt(&master)).expect("a terminal of our own");
        let name = ptsname(&master, Vec::new()).expect("the terminal's name");
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave =
            File::from(rustix::fs::open(&name, flags, Mode::empty()).expect("the terminal's other end"));
        let end = || slave.try_clone().expect("another descriptor");
        // `setsid --ctty` makes the terminal the controlling one; doing it here would need unsafe code after fork.
        let mut command = Command::new("setsid");
        command.arg("--ctty").arg(inner.get_program()).args(inner.get_args());
        for (key, value) in inner.get_envs() {
            match value {
                Some(value) => command.env(key, value),
                None => command.env_remove(key),
            };
        }
        command.env("TERM", "xterm");
        let child = command
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap_or_else(|e| panic!("cannot run `setsid --ctty {shown}`: {e}"));
        let pty = Pty { master: File::from(master), slave, child, shown, seen: Vec::new() };
        pty.resize(24, 80);
        pty
    }

    /// Types.
    pub fn type_in(&mut self, keys: impl AsRef<[u8]>) {
        self.master
            .write_all(keys.as_ref())
            .unwrap_or_else(|e| panic!("cannot type into `{}`: {e}", self.shown));
    }

    /// Changes the window's size; the program is told by SIGWINCH.
    pub fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(self.master.as_fd(), size).expect("the window's size");
    }

    /// True if the terminal is in raw mode: no echo, no line editing.
    pub fn is_raw(&self) -> bool {
        let modes = tcgetattr(&self.slave).expect("the terminal's modes").local_modes;
        !modes.intersects(LocalModes::ICANON | LocalModes::ECHO)
    }

    /// Everything written to the terminal so far.
    pub fn seen(&self) -> String {
        String::from_utf8_lossy(&self.seen).into_owned()
    }

    /// Reads until `text` has been written after what was matched before; fails the test if it does not come.
    #[track_caller]
    pub fn expect(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.seen().find(text) {
                let end = at + text.len();
                self.seen = self.seen().as_bytes()[end..].to_vec();
                return;
            }
            assert!(
                self.read_some(deadline.saturating_duration_since(Instant::now())),
                "`{}` did not write {text:?}; it wrote {:?}",
                self.shown,
                self.seen()
            );
        }
    }

    /// Reads what is there; false if nothing comes within `limit`.
    fn read_some(&mut self, limit: Duration) -> bool {
        if limit.is_zero() || !readable(&self.master, limit) {
            return false;
        }
        let mut buffer = [0; 4096];
        // EIO is a terminal's end of file, once nobody holds its other end; we do, so it cannot come.
        let n = self.master.read(&mut buffer).unwrap_or(0);
        self.seen.extend_from_slice(&buffer[..n]);
        n > 0
    }

    /// True if the program has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_none())
    }

    /// Waits for the program's end; its exit code, and all that was not matched yet.
    #[track_caller]
    pub fn wait(mut self) -> (i32, String) {
        let deadline = Instant::now() + PATIENCE;
        while !ends_within(&self.child, Duration::ZERO) {
            self.read_some(Duration::from_millis(20));
            if Instant::now() > deadline {
                let _ = self.child.kill();
                let _ = self.child.wait();
                panic!("`{}` did not end; it wrote {:?}", self.shown, self.seen());
            }
        }
        while self.read_some(Duration::from_millis(1)) {}
        let status = self.child.wait().unwrap_or_else(|e| panic!("cannot wait for `{}`: {e}", self.shown));
        (cmd::code(status), self.seen())
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        if self.is_running() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_on_a_terminal_sees_a_terminal_its_size_and_its_keys() {
        let mut pty =
            Pty::spawn(Cmd::new("sh").args(["-c", "test -t 0 && stty size; read x; echo got-$x; exit 3"]));
        pty.expect("24 80");
        pty.type_in("hello\n");
        pty.expect("got-hello");
        assert_eq!(pty.wait().0, 3);
    }
}
