//! `tared`: the engine and its faces in one process.
//!
//! ```text
//!   arguments ─▶ lock the run directory ─▶ bind a socket under a temporary name ─▶ open the engine
//!     ─▶ give the socket its name ─▶ "ready" on --ready-fd ─▶ serve until SIGTERM ─▶ take the name away
//! ```
//!
//! Containers outlive this process: SIGTERM ends the daemon and nothing else.
//!
//! Started by an ordinary user it first becomes root of a user namespace (`user`).

mod args;
mod lock;
mod process;
mod ready;
mod socket;
mod user;

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use tare_engine::{Engine, EngineConfig};
use tare_model::{Error, ErrorKind, Result};
use tokio::signal::unix::{SignalKind, signal};

use args::Args;
use lock::Lock;
use ready::Ready;
use socket::Socket;

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|word| word == tare_engine::NETWORK_KEEPER) {
        return keep_network(words);
    }
    let args = Args::parse();
    process::log_to_stderr(args.log_level.filter());
    let mut ready = Ready::new(args.ready_fd);
    match run(&args, &mut ready) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            tracing::error!("{e}");
            ready.failed(&e);
            ExitCode::FAILURE
        }
    }
}

/// Is not a daemon but what keeps the network of one.
fn keep_network(words: impl Iterator<Item = OsString>) -> ExitCode {
    process::log_to_stderr(tracing::level_filters::LevelFilter::INFO);
    match tare_engine::network_keeper(words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            tracing::error!("keep the network: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args, ready: &mut Ready) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        return user::start_again(args);
    }
    process::settle()?;
    let run_dir = args.run_dir();
    let lock = Lock::take(&run_dir)?;
    // Before there are threads: the permissions of the socket hang on the process's umask.
    let socket = Socket::bind(&args.socket())?;
    let config = EngineConfig {
        root: args.root(),
        run_dir,
        libexec: process::libexec()?,
        keeper: process::own_path()?,
        bridge: args.bridge.clone(),
        host_dns: args.host_dns,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("tared")
        .enable_all()
        .build()
        .map_err(|e| Error::system(format!("start the runtime: {e}")))?;
    let result = runtime.block_on(serve(config, socket, &lock, ready));
    // Threads that read a log for somebody who is gone need not be waited for.
    runtime.shutdown_timeout(Duration::from_secs(1));
    drop(lock);
    result
}

async fn serve(config: EngineConfig, socket: Socket, lock: &Lock, ready: &mut Ready) -> Result<()> {
    // Installed before anyone can know of this process, so that none of them ends it halfway.
    let stop = stop_signal()?;
    let engine = open(config).await?;
    let (listener, name) = socket.publish()?;
    let listener = tokio::net::UnixListener::from_std(listener)
        .map_err(|e| Error::system(format!("epoll_ctl({}): {e}", name.path().display())))?;
    tracing::info!("tared {} listens on {}", env!("CARGO_PKG_VERSION"), name.path().display());
    lock.serving();
    ready.ready();
    let served =
        tare_docker::serve(listener, Arc::clone(&engine), tare_docker::Limits::default(), stop).await;
    lock.leaving();
    name.remove();
    engine.retire().await;
    served.map_err(|e| Error::system(format!("accept({}): {e}", name.path().display())))
}

/// Opens the engine. The kernel lets go of what a killed daemon held one thing after another, so the root may be locked for
/// a moment longer than the run directory was.
async fn open(config: EngineConfig) -> Result<Arc<Engine>> {
    const TRIES: u32 = 100;
    const PAUSE: Duration = Duration::from_millis(20);
    for _ in 1..TRIES {
        match Engine::open(config.clone()).await {
            Err(e) if e.kind() == ErrorKind::Conflict => tokio::time::sleep(PAUSE).await,
            result => return result,
        }
    }
    Engine::open(config).await
}

/// Resolves when the daemon is told to go. SIGHUP is taken and means nothing: a terminal that closes is no reason.
fn stop_signal() -> Result<impl Future<Output = ()> + Send + use<>> {
    let install = |kind, name| signal(kind).map_err(|e| Error::system(format!("sigaction({name}): {e}")));
    let mut terminate = install(SignalKind::terminate(), "SIGTERM")?;
    let mut interrupt = install(SignalKind::interrupt(), "SIGINT")?;
    let mut hangup = install(SignalKind::hangup(), "SIGHUP")?;
    Ok(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => return,
                _ = interrupt.recv() => return,
                _ = hangup.recv() => {}
            }
        }
    })
}
