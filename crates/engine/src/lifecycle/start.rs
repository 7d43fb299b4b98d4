//! Starting: everything is prepared, then one message to a new monitor does it.

use std::sync::Arc;

use tare_model::sandbox::WindowSize;
use tare_model::{Error, ErrorKind, Result, Status};
use tare_shim::client::Network;
use tare_shim::protocol::{LogSettings, StartRequest, Started, StdioSettings};

use super::driver::Driver;
use super::prepare;
use crate::api::event::Action;
use crate::api::options::StartOptions;
use crate::monitors::Link;
use crate::networks::Attached;
use crate::networks::door::Door;
use crate::spec;

// === impl Driver ===

impl Driver {
    /// Starts the container. The record that says so is written while the monitor works; both are done when this returns.
    pub(super) async fn start(&mut self, options: &StartOptions) -> Result<()> {
        let sources = prepare::ready_sources(&self.core, &self.me.made.fixed).await;
        // Forked while the rest is prepared here.
        let mut monitor = None;
        let taken = match sources {
            Ok(()) => {
                monitor = self.core.monitors.ready().await;
                self.take_networks().await
            }
            Err(e) => Err(e),
        };
        let prepared = match taken {
            Ok(()) => self.request(options).and_then(|request| Ok((request, self.door()?))),
            Err(e) => Err(e),
        };
        let (request, door) = match prepared {
            Ok(prepared) => prepared,
            Err(e) => {
                self.give_networks_back().await;
                return self.start_failed(e).await;
            }
        };
        let (ours, theirs) = door.unzip();
        let streams = std::mem::take(&mut self.waiting).into_iter().map(|(_, peer)| peer).collect();
        let before = self.me.life.clone();
        let life = &mut self.me.life;
        (life.running, life.start_failure, life.error) = (true, None, String::new());
        life.starts += 1;
        // One that removes itself is not expected to be there after the next boot: nothing to write.
        let saved = self.save_unless_transient();
        // On its own: what it began in the kernel must not stop half-way. It ends by itself when the start has failed.
        let network = ours.map(|(door, attached)| {
            let networks = Arc::clone(&self.core.networks);
            tokio::spawn(networks.serve(door, self.me.id.clone(), attached))
        });
        let (saved, launched) =
            tokio::join!(saved, self.core.monitors.start(monitor, request, streams, theirs));
        if let Some(network) = network
            && let Err(e) = network.await
        {
            tracing::error!(container = self.me.id.as_str(), "set up its network: {e}");
        }
        match (launched, saved) {
            (Ok((link, started)), Ok(())) => self.started(link, started),
            (Ok((link, started)), Err(e)) => {
                // What cannot be recorded must not run: nobody could answer for it after a crash.
                self.started(link, started);
                self.signal(tare_model::Signal::KILL).await?;
                return Err(e.context("the start could not be recorded, so the container was killed"));
            }
            (Err(e), _) => {
                self.me.life = before;
                self.give_networks_back().await;
                if e.kind() == ErrorKind::Unavailable
                    && let Err(left) = self.clean_up().await
                {
                    tracing::error!(container = self.me.id.as_str(), "clean up after a failed start: {left}");
                }
                return self.start_failed(e).await;
            }
        }
        Ok(())
    }

    fn started(&mut self, link: Link, started: Started) {
        self.link = Some(link);
        (self.pid, self.shim_pid) = (Some(started.pid), Some(started.shim_pid));
        self.me.life.started = Some(started.started_at);
        self.status = Status::Running;
        self.publish();
        self.tell_networks(&Action::NetworkConnect);
        self.core.tell(&self.view(), Action::Start, &[]);
    }

    /// Both ends of the door behind which its network is set up, if it is to have one.
    fn door(&self) -> Result<Option<((Door, Attached), Network)>> {
        let Some(attached) = self.attached.clone() else { return Ok(None) };
        let (ours, door) = Door::pair()?;
        let keep = self.core.networks.to_be_kept();
        Ok(Some(((ours, attached), Network { door, keep })))
    }

    /// It could not be started: what `inspect` and `wait` say of that, as Docker does.
    async fn start_failed(&mut self, e: Error) -> Result<()> {
        // Whoever attached for this start sees the end of the stream.
        self.waiting.clear();
        self.me.life.start_failure = Some(match e.kind() {
            ErrorKind::CommandNotFound => 127,
            ErrorKind::CommandNotExecutable => 126,
            _ => 128,
        });
        self.me.life.error = e.to_string();
        self.publish();
        if self.me.made.fixed.config.auto_remove {
            self.remove_itself().await;
        } else if let Err(unsaved) = self.save().await {
            tracing::error!(container = self.me.id.as_str(), "keep its failed start: {unsaved}");
        }
        Err(e)
    }

    fn save_unless_transient(&self) -> impl Future<Output = Result<()>> + Send + 'static + use<> {
        let save = (!self.me.made.fixed.config.auto_remove).then(|| self.save());
        async move {
            match save {
                Some(save) => save.await,
                None => Ok(()),
            }
        }
    }

    fn request(&self, options: &StartOptions) -> Result<StartRequest> {
        let fixed = &self.me.made.fixed;
        let process = &fixed.config.process;
        let spec = prepare::sandbox(&self.core, &self.me, self.attached.as_ref())?;
        let (rows, columns) = options.console_size.or(process.console_size).unwrap_or_default();
        Ok(StartRequest {
            spec,
            run_dir: fixed.paths.run_dir.clone(),
            stdio: StdioSettings {
                terminal: process.tty.then_some(WindowSize { rows, columns }),
                open_stdin: process.open_stdin,
                stdin_once: process.stdin_once,
            },
            log: LogSettings { config: fixed.config.log.clone(), directory: fixed.paths.log.clone() },
            attach: self.waiting.iter().map(|(streams, _)| *streams).collect(),
        })
    }

    /// Its cgroup.
    pub(super) fn cgroups_path(&self) -> String {
        spec::plan::cgroups_path(&self.me.made.fixed.config, &self.core.cgroup_parent, self.me.id.as_str())
    }
}
