//! What comes to published ports, passed on to containers. Runs in the shared namespace; the sockets that it listens at are
//! the host's.
//!
//! A container sees the gateway of its network as the sender.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::net::sockopt::{set_socket_linger, set_socket_reuseaddr};
use tare_model::network::{Protocol, Published};
use tare_model::{Error, Result};
use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

/// Connections that wait to be accepted, at most what net.core.somaxconn allows.
const BACKLOG: i32 = 4096;
/// How long a container may take to accept.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes on the way, each way.
const BUFFER: usize = 64 << 10;
/// A sender of UDP that neither sends nor is answered for so long is forgotten.
const IDLE: Duration = Duration::from_secs(60);
/// Senders of UDP that are remembered for each port; others wait until one is forgotten.
const SENDERS: usize = 1024;
/// After an error that will not go away at once, such as descriptors used up.
const PAUSE: Duration = Duration::from_millis(50);

/// All that is forwarded.
#[derive(Default)]
pub(super) struct Forwards {
    tasks: HashMap<Published, JoinHandle<()>>,
}

// === impl Forwards ===

impl Forwards {
    /// Forwards from now on what comes to `socket`.
    ///
    /// # Errors
    /// `System` with the kernel's refusal; `Unsupported` for another protocol than TCP and UDP.
    pub(super) fn add(&mut self, published: &Published, socket: OwnedFd) -> Result<()> {
        let target = SocketAddr::new(published.address, published.port);
        let failed = |e: std::io::Error| {
            let at = SocketAddr::new(published.host, published.host_port);
            Error::system(format!("listen({}, {at}): {e}", published.protocol))
        };
        let task = match published.protocol {
            Protocol::Tcp => {
                // Connections have it from their listener: those that linger must not keep the port from the next.
                set_socket_reuseaddr(&socket, true)
                    .and_then(|()| rustix::net::listen(&socket, BACKLOG))
                    .map_err(|e| failed(e.into()))?;
                let listener = std::net::TcpListener::from(socket);
                listener.set_nonblocking(true).map_err(failed)?;
                tokio::spawn(tcp(TcpListener::from_std(listener).map_err(failed)?, target))
            }
            Protocol::Udp => {
                let socket = std::net::UdpSocket::from(socket);
                socket.set_nonblocking(true).map_err(failed)?;
                tokio::spawn(udp(Arc::new(UdpSocket::from_std(socket).map_err(failed)?), target))
            }
            Protocol::Sctp => return Err(Error::unsupported("ports of SCTP are not forwarded")),
        };
        self.tasks.insert(published.clone(), task);
        Ok(())
    }

    /// Ends it. The port is free when this returns.
    pub(super) async fn remove(&mut self, published: &Published) {
        if let Some(task) = self.tasks.remove(published) {
            task.abort();
            // It says only that it was told to end.
            let _ = task.await;
        }
    }

    /// All of them.
    pub(super) fn list(&self) -> Vec<Published> {
        self.tasks.keys().cloned().collect()
    }
}

async fn tcp(listener: TcpListener, target: SocketAddr) {
    // With this, all connections end too.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => { connections.spawn(connection(client, target)); }
                Err(_) => sleep(PAUSE).await,
            }
        }
    }
}

async fn connection(mut client: TcpStream, target: SocketAddr) {
    let Ok(Ok(mut container)) = timeout(PATIENCE, TcpStream::connect(target)).await else {
        // As if nobody listened: a reset.
        let _ = set_socket_linger(&client, Some(Duration::ZERO));
        return;
    };
    let _ = (client.set_nodelay(true), container.set_nodelay(true));
    // Whichever end has failed, the other learns of it as both are closed.
    let _ = copy_bidirectional_with_sizes(&mut client, &mut container, BUFFER, BUFFER).await;
}

/// One sender's socket to the container.
struct Sender {
    socket: Arc<UdpSocket>,
    has_sent: Arc<AtomicBool>,
}

async fn udp(port: Arc<UdpSocket>, target: SocketAddr) {
    let mut senders: HashMap<SocketAddr, Sender> = HashMap::new();
    let mut answers = JoinSet::new();
    let mut packet = vec![0; usize::from(u16::MAX)];
    loop {
        tokio::select! {
            Some(done) = answers.join_next() => if let Ok(peer) = done { senders.remove(&peer); },
            received = port.recv_from(&mut packet) => {
                let Ok((length, peer)) = received else { continue };
                if !senders.contains_key(&peer) && senders.len() < SENDERS
                    && let Ok(socket) = connected(target).await
                {
                    let (socket, has_sent) = (Arc::new(socket), Arc::new(AtomicBool::new(true)));
                    answers.spawn(answer(Arc::clone(&port), Arc::clone(&socket), peer, Arc::clone(&has_sent)));
                    senders.insert(peer, Sender { socket, has_sent });
                }
                if let Some(sender) = senders.get(&peer) {
                    sender.has_sent.store(true, Ordering::Relaxed);
                    // A packet may be lost.
                    let _ = sender.socket.try_send(packet.get(..length).unwrap_or_default());
                }
            }
        }
    }
}

async fn connected(target: SocketAddr) -> std::io::Result<UdpSocket> {
    let any: SocketAddr = match target {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(target).await?;
    Ok(socket)
}

/// Passes answers on until neither side has sent anything for a while, or the container refuses.
async fn answer(
    port: Arc<UdpSocket>,
    container: Arc<UdpSocket>,
    peer: SocketAddr,
    has_sent: Arc<AtomicBool>,
) -> SocketAddr {
    let mut packet = vec![0; usize::from(u16::MAX)];
    loop {
        match timeout(IDLE, container.recv(&mut packet)).await {
            Ok(Ok(length)) => {
                let _ = port.send_to(packet.get(..length).unwrap_or_default(), peer).await;
            }
            Err(_) if has_sent.swap(false, Ordering::Relaxed) => {}
            _ => return peer,
        }
    }
}
