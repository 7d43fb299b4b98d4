//! Datagrams of a container.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use super::server::{Fate, Served};
use super::wire::{LARGEST_DATAGRAM, Transport};

/// Questions after which other containers have their turn.
const AT_A_TIME: usize = 32;
/// A socket that fails at once would be asked for ever; it is given time.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers until it is dropped, and with it every question that it handed on.
pub(super) async fn run(served: Arc<Served>, socket: UdpSocket) {
    let socket = Arc::new(socket);
    let mut handed = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = handed.join_next() => {}
            ready = socket.readable() => {
                if ready.is_err() || !drain(&served, &socket, &mut handed) {
                    tokio::time::sleep(PAUSE).await;
                }
                tokio::task::yield_now().await;
            }
        }
    }
}

/// Takes what is there, up to a number; false if the socket fails. Not async, so that thousands who wait hold no buffers.
fn drain(served: &Arc<Served>, socket: &Arc<UdpSocket>, handed: &mut JoinSet<()>) -> bool {
    // Many come at a time, so many must go.
    while handed.try_join_next().is_some() {}
    let mut buffer = [0; LARGEST_DATAGRAM];
    for _ in 0..AT_A_TIME {
        let (length, asker) = match socket.try_recv_from(&mut buffer) {
            Ok(received) => received,
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        };
        match served.take(buffer.get(..length).unwrap_or_default(), Transport::Udp) {
            Fate::Said(answer) => send(socket, &answer, asker),
            Fate::Handed(question) => {
                let socket = socket.clone();
                handed.spawn(async move { send(&socket, &question.answer().await, asker) });
            }
            Fate::Ignored => {}
        }
    }
    true
}

/// Not waited for: an asker who is gone or does not read asks again, as after any lost datagram.
fn send(socket: &UdpSocket, answer: &[u8], asker: SocketAddr) {
    let _ = socket.try_send_to(answer, asker);
}
