//! The daemon's handle to its nursery: spawned when first needed, spawned again when dead.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tare_model::{ContainerId, Error, ErrorKind, Result};
use tokio::sync::{Mutex, oneshot};

use super::control::{Control, Events, Reply};
use super::socket::Socket;
use crate::protocol::{
    Answer, Call, FdRole, NurseryCall, NurseryRequest, Request, StartRequest, Started, VERSION,
};
use crate::wire::{self, Outgoing};

/// How often a request is made anew when the nursery dies under it.
const ATTEMPTS: usize = 4;

/// Starts shims and cleans up after dead ones.
#[derive(Debug)]
pub struct Nursery {
    program: PathBuf,
    name: String,
    live: Mutex<Option<Live>>,
}

/// What a container whose network is set up by the daemon starts with.
#[derive(Debug)]
pub struct Network {
    /// The container's end of the door behind which that is done.
    pub door: OwnedFd,
    /// Something of the daemon's that must not end with it ([`FdRole::Keep`]).
    pub keep: Option<OwnedFd>,
}

/// A shim that was forked for a start to come. Dropping it ends it.
#[derive(Debug)]
pub struct Ready {
    control: Control,
    events: Events,
    hello: oneshot::Receiver<()>,
    refused: oneshot::Receiver<Result<Reply>>,
}

#[derive(Debug)]
struct Live {
    /// `None` only while it is being dropped.
    socket: Option<Socket>,
    child: Child,
}

// === impl Nursery ===

impl Nursery {
    /// Spawns `program` (the path of `tare-shim`) as a nursery. `name` is the name of the cgroup that it and its shims live
    /// in; each instance of the engine has its own.
    ///
    /// # Errors
    /// `System` when the program cannot be executed.
    pub fn spawn(program: impl Into<PathBuf>, name: impl Into<String>) -> Result<Self> {
        let (program, name) = (program.into(), name.into());
        let live = Live::spawn(&program, &name)?;
        Ok(Self { program, name, live: Mutex::new(Some(live)) })
    }

    /// Has a shim forked for the start that comes next: it is there when the caller has prepared that.
    ///
    /// # Errors
    /// `Unavailable` when nurseries die at once; the kernel's refusal of a socket.
    pub async fn ready(&self) -> Result<Ready> {
        let (ours, theirs) = wire::pair()?;
        self.request(NurseryCall::Shim, theirs).await?;
        let (sender, refused) = oneshot::channel();
        let (control, events, hello) = Control::open(ours, Some(sender))?;
        Ok(Ready { control, events, hello, refused })
    }

    /// Starts a container under `ready`, or under a shim that is forked for it; `streams` are the attachments, one per entry of
    /// `request.attach`.
    ///
    /// # Errors
    /// What the launch failed with (nothing is left then), or `Unavailable` when the shim was killed meanwhile (then
    /// [`Nursery::cleanup`] is due).
    pub async fn start(
        &self,
        mut ready: Option<Ready>,
        request: StartRequest,
        mut streams: Vec<OwnedFd>,
        network: Option<Network>,
    ) -> Result<(Control, Events, Started)> {
        if streams.len() != request.attach.len() {
            return Err(Error::invalid(format!(
                "start of {}: {} attach sockets for {} attachments",
                request.spec.id,
                streams.len(),
                request.attach.len()
            )));
        }
        let mut fds = vec![FdRole::Stream; streams.len()];
        if let Some(Network { door, keep }) = network {
            fds.push(FdRole::Network);
            fds.extend(keep.is_some().then_some(FdRole::Keep));
            streams.extend([door].into_iter().chain(keep));
        }
        let request = Request { fds, ..Request::new(1, Call::Start(Box::new(request))) };
        let packet = Outgoing::new(&request, streams)?;
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let Ready { control, events, hello, mut refused } = match ready.take() {
                Some(ready) => ready,
                None => self.ready().await?,
            };
            control.fresh_id();
            let (sent, answer) = match control.submit(request.id, &packet).await {
                Ok(reply) => (true, control.reply(reply).await),
                Err(e) => (false, Err(e)),
            };
            match answer {
                Ok((Answer::Started(started), _)) => return Ok((control, events, started)),
                Ok((other, _)) => {
                    return Err(Error::unsupported(format!("the shim answered Start with {other:?}")));
                }
                Err(e) if e.kind() != ErrorKind::Unavailable || (sent && hello.await.is_ok()) => {
                    return Err(e);
                }
                // No shim has seen the request, so it is safe to repeat: the nursery died before it forked, or could not, or
                // what it forked was gone when the request was to be sent.
                Err(e) => match refused.try_recv() {
                    Ok(Err(refusal)) if refusal.kind() != ErrorKind::Unavailable => return Err(refusal),
                    _ => last = Some(e),
                },
            }
        }
        Err(last
            .unwrap_or_else(|| Error::system("no attempt was made"))
            .context("the nursery or its shim died each time"))
    }

    /// Kills what a dead shim left of `container`, removes its cgroups and the directories `remove`. Idempotent.
    ///
    /// # Errors
    /// Everything that could not be removed, in one message.
    pub async fn cleanup(
        &self,
        container: &ContainerId,
        cgroups_path: &str,
        remove: Vec<PathBuf>,
    ) -> Result<()> {
        let call = NurseryCall::Cleanup {
            container: container.clone(),
            cgroups_path: cgroups_path.to_owned(),
            remove,
        };
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let (ours, theirs) = wire::pair()?;
            self.request(call.clone(), theirs).await?;
            let (sender, reply) = oneshot::channel();
            let (_control, _events, _hello) = Control::open(ours, Some(sender))?;
            match reply.await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(e)) if e.kind() == ErrorKind::Unavailable => last = Some(e),
                Ok(Err(e)) => return Err(e),
                Err(_) => {}
            }
        }
        Err(last
            .unwrap_or_else(|| Error::system("no answer"))
            .context(format!("cleanup of container {container}")))
    }

    /// Process id of the nursery, if one was spawned.
    pub async fn pid(&self) -> Option<u32> {
        self.live.lock().await.as_ref().map(|live| live.child.id())
    }

    /// Sends a request, to a new nursery if the one there is dead.
    async fn request(&self, call: NurseryCall, control: OwnedFd) -> Result<()> {
        let packet = Outgoing::new(&NurseryRequest { version: VERSION, call }, vec![control])?;
        let mut live = self.live.lock().await;
        let mut cause = None;
        for _ in 0..ATTEMPTS {
            let current = match live.take() {
                Some(current) => live.insert(current),
                None => live.insert(Live::spawn(&self.program, &self.name)?),
            };
            let Some(socket) = &current.socket else { continue };
            match socket.send(&packet).await {
                Ok(()) => return Ok(()),
                Err(e) => {
                    cause = Some(e);
                    *live = None;
                }
            }
        }
        let cause = cause.map_or_else(String::new, |e| format!(": {e}"));
        Err(Error::new(
            ErrorKind::Unavailable,
            format!("the nursery ({} nursery) dies at once{cause}", self.program.display()),
        ))
    }
}

// === impl Live ===

impl Live {
    fn spawn(program: &Path, name: &str) -> Result<Self> {
        let (ours, theirs) = wire::pair()?;
        // No pre_exec and no working directory (which a static C library has no posix_spawn for), so that the standard
        // library uses posix_spawn and the daemon's address space is never copied. The socket is its standard input: the
        // one descriptor that can be handed over without a hook.
        let child = Command::new(program)
            .args(["nursery", name])
            .env_clear()
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .spawn()
            .map_err(|e| Error::system(format!("posix_spawn({} nursery): {e}", program.display())))?;
        let socket = Socket::new(ours)?;
        Ok(Self { socket: Some(socket), child })
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        // It exits when its socket closes; its shims live on. Waited for so that no zombie is left.
        drop(self.socket.take());
        let _ = self.child.wait();
    }
}
