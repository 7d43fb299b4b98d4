//! Programs run by tests: input given, output kept, never waited for without end.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process, pidfd_open, waitid};

use crate::wait::{PATIENCE, readable};

/// A program to run. Standard input is empty unless given.
pub struct Cmd {
    command: Command,
    input: Vec<u8>,
    limit: Duration,
}

/// What a program did.
#[derive(Debug)]
pub struct Output {
    /// The command, for messages.
    pub shown: String,
    /// Exit code; 128+n if it was killed by signal n.
    pub code: i32,
    /// All of standard output.
    pub stdout: Vec<u8>,
    /// All of standard error.
    pub stderr: Vec<u8>,
}

/// A program that runs while the test does something else.
pub struct Running {
    child: Child,
    shown: String,
    stdout: Receiver<Vec<u8>>,
    stderr: Receiver<Vec<u8>>,
    limit: Duration,
}

impl Cmd {
    /// A program by path or by name on PATH.
    pub fn new(program: impl AsRef<OsStr>) -> Cmd {
        Cmd { command: Command::new(program), input: Vec::new(), limit: PATIENCE }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Cmd {
        self.command.args(args);
        self
    }

    /// Sets a variable in the program's environment.
    #[must_use]
    pub fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Cmd {
        self.command.env(key, value);
        self
    }

    /// Takes a variable out of the program's environment.
    #[must_use]
    pub fn without_env(mut self, key: &str) -> Cmd {
        self.command.env_remove(key);
        self
    }

    /// Gives it standard input, followed by the end of input.
    #[must_use]
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Cmd {
        self.input = bytes.into();
        self
    }

    /// Replaces the time it may take.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Cmd {
        self.limit = limit;
        self
    }

    /// Gives up the builder, for what it cannot say.
    pub fn into_command(self) -> Command {
        self.command
    }

    /// Runs it to its end.
    pub fn run(self) -> Output {
        self.spawn().wait()
    }

    /// Runs it, checks that it succeeded, and returns its standard output without the last newline.
    pub fn ok(self) -> String {
        self.run().ok()
    }

    /// Runs it, checks that it ended with `code`, and returns its standard error.
    pub fn fails(self, code: i32) -> String {
        self.run().fails(code)
    }

    /// Starts it and returns at once.
    pub fn spawn(mut self) -> Running {
        let shown = shown(&self.command);
        let stdin = if self.input.is_empty() { Stdio::null() } else { Stdio::piped() };
        let mut child = self
            .command
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("cannot run `{shown}`: {e}"));
        if let Some(mut pipe) = child.stdin.take() {
            let input = self.input;
            // A program that does not read all of its input is no fault of the test.
            thread::spawn(move || drop(pipe.write_all(&input)));
        }
        let stdout = collect(child.stdout.take());
        let stderr = collect(child.stderr.take());
        Running { child, shown, stdout, stderr, limit: self.limit }
    }
}

impl Running {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal)
            .unwrap_or_else(|e| panic!("cannot signal `{}`: {e}", self.shown));
    }

    /// True if it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_none())
    }

    /// Waits for its end; a program that takes too long is killed and fails the test.
    pub fn wait(mut self) -> Output {
        let late = !ends_within(&self.child, self.limit);
        if late {
            let _ = self.child.kill();
        }
        let status = self.child.wait().unwrap_or_else(|e| panic!("cannot wait for `{}`: {e}", self.shown));
        // Something that the program left running may hold its output open: that is not waited for.
        let rest = Duration::from_secs(2);
        let output = Output {
            shown: self.shown,
            code: code(status),
            stdout: self.stdout.recv_timeout(rest).unwrap_or_else(|_| b"(output still held open)".to_vec()),
            stderr: self.stderr.recv_timeout(rest).unwrap_or_else(|_| b"(output still held open)".to_vec()),
        };
        assert!(!late, "took longer than {:?}: {output}", self.limit);
        output
    }
}

/// True once `child` has ended, false if `limit` passes first.
pub fn ends_within(child: &Child, limit: Duration) -> bool {
    match pidfd_open(Pid::from_child(child), PidfdFlags::empty()) {
        Ok(fd) => readable(&fd, limit),
        Err(Errno::NOSYS) => is_gone_within(child, limit),
        // Already waited for.
        Err(_) => true,
    }
}

/// By a thread that waits for the child and leaves its status: for suites run as if the kernel had no pidfds.
fn is_gone_within(child: &Child, limit: Duration) -> bool {
    let pid = Pid::from_child(child);
    // Ended, or already waited for.
    let is_gone = move |options| {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | options;
        !matches!(rustix::io::retry_on_intr(|| waitid(WaitId::Pid(pid), options)), Ok(None))
    };
    // Looked for here first: no thread answers within no time at all.
    let gone = is_gone(WaitIdOptions::NOHANG);
    if gone || limit.is_zero() {
        return gone;
    }
    let (ended, end) = channel();
    thread::spawn(move || {
        is_gone(WaitIdOptions::empty());
        // Nobody may be listening any more.
        let _ = ended.send(());
    });
    end.recv_timeout(limit).is_ok()
}

impl Output {
    /// Checks that it succeeded and returns standard output without the last newline.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "should have succeeded: {self}");
        self.out()
    }

    /// Checks that it ended with `code` and returns standard error.
    #[track_caller]
    pub fn fails(self, code: i32) -> String {
        assert_eq!(self.code, code, "should have ended with {code}: {self}");
        self.err()
    }

    /// Standard output as text, without the last newline.
    pub fn out(&self) -> String {
        trimmed(&self.stdout)
    }

    /// Standard error as text, without the last newline.
    pub fn err(&self) -> String {
        trimmed(&self.stderr)
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` ended with {}\nstdout: {}\nstderr: {}", self.shown, self.code, self.out(), self.err())
    }
}

fn trimmed(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.strip_suffix('\n').unwrap_or(&text).to_string()
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes);
        }
        let _ = sender.send(bytes);
    });
    receiver
}

/// An exit status as a shell shows it.
pub fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// The command as one would type it.
pub fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|w| w.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_child_is_seen_without_pidfds_and_without_waiting() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        assert!(!is_gone_within(&child, Duration::ZERO));
        assert!(!is_gone_within(&child, Duration::from_millis(1)));
        drop(child.stdin.take());
        assert!(is_gone_within(&child, PATIENCE));
        assert!(is_gone_within(&child, Duration::ZERO));
        child.wait().unwrap();
        assert!(is_gone_within(&child, Duration::ZERO));
    }
}
