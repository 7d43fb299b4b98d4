//! Signals and window sizes on their way to the daemon, each sent without waiting for its answer.

use crate::failure::Failure;
use crate::term::{signal_name, window_size};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::{SIGINT, SIGTERM};
use tare_docker_api::client::{Client, Pending, Request, Response};

/// So many SIGINT or SIGTERM end the client whatever the container and the daemon do.
const PATIENCE: u32 = 3;

/// What signals do during a session.
pub(crate) struct Control {
    client: Client,
    /// `/containers/ID` or `/exec/ID`.
    target: String,
    /// Signals go to the container; otherwise they end this program.
    proxy: bool,
    /// The window's size goes to the container.
    tty: bool,
    running: bool,
    early: Vec<i32>,
    in_flight: Vec<Pending>,
    interrupts: u32,
}

// === impl Control ===

impl Control {
    /// Control over `target`, through `client`'s daemon.
    pub(crate) fn new(client: Client, target: String, proxy: bool, tty: bool) -> Self {
        Self {
            client,
            target,
            proxy,
            tty,
            running: false,
            early: Vec::new(),
            in_flight: Vec::new(),
            interrupts: 0,
        }
    }

    /// The client, when the session is over.
    pub(crate) fn into_client(self) -> Client {
        self.client
    }

    /// Writes the request that starts the process, on a kept connection if there is one.
    pub(crate) fn begin(&mut self, request: Request<'_>) -> Result<Pending, Failure> {
        Ok(self.client.begin(request)?)
    }

    pub(super) fn reuse(&mut self, mut response: Response) {
        // An answer to `start` has no body worth reading; one step brings the connection to its end.
        let _ = response.body_mut().advance(&mut Vec::new());
        self.client.reclaim(response);
    }

    pub(super) fn started(&mut self) {
        self.running = true;
        self.resize();
        for signal in std::mem::take(&mut self.early) {
            self.send_signal(signal);
        }
    }

    /// The window changed, or may have.
    pub(super) fn resize(&mut self) {
        if !self.tty || !self.running {
            return;
        }
        if let Some((rows, columns)) =
            window_size(std::io::stdout()).or_else(|| window_size(std::io::stdin()))
        {
            let request = Request::post(format!("{}/resize", self.target));
            self.send(request.query("h", rows.to_string()).query("w", columns.to_string()));
        }
    }

    /// A signal came: pass it on, or end.
    pub(super) fn signal(&mut self, signal: i32) -> Result<(), Failure> {
        if !self.proxy {
            return Err(Failure::silent(128 + signal));
        }
        if matches!(signal, SIGINT | SIGTERM) {
            self.interrupts += 1;
            if self.interrupts >= PATIENCE {
                return Err(Failure::new(format!("got {PATIENCE} SIGTERM/SIGINTs, forcefully exiting")));
            }
        }
        if self.running {
            self.send_signal(signal)
        } else {
            self.early.push(signal)
        }
        Ok(())
    }

    fn send_signal(&mut self, signal: i32) {
        let request = Request::post(format!("{}/kill", self.target)).query("signal", signal_name(signal));
        self.send(request);
    }

    /// Sends and does not wait. A failure means that the process or the daemon is gone, which the stream tells better.
    fn send(&mut self, request: Request<'_>) {
        self.collect();
        if let Ok(pending) = self.client.begin(request) {
            self.in_flight.push(pending);
        }
    }

    /// Takes the answers that have come and keeps their connections.
    fn collect(&mut self) {
        let (done, waiting): (Vec<Pending>, Vec<Pending>) = self.in_flight.drain(..).partition(|pending| {
            let mut fds = [PollFd::new(pending, PollFlags::IN)];
            matches!(poll(&mut fds, Some(&Timespec::default())), Ok(n) if n > 0)
        });
        self.in_flight = waiting;
        for pending in done {
            if let Ok(response) = pending.response() {
                self.reuse(response);
            }
        }
    }
}
