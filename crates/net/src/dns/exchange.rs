//! One question to one upstream server.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::wire::{Answer, Asked, LARGEST_DATAGRAM};

/// Datagrams that are not the answer; who sends more is guessing, or broken.
const STRANGERS: usize = 64;

/// Asks by UDP, and by TCP for the whole of an answer that was cut short; takes as long as the server does.
///
/// # Errors
/// What the socket says; `InvalidData` for an answer that cannot be read.
pub(super) async fn ask(server: SocketAddr, asked: &Asked) -> io::Result<Answer> {
    let short = by_udp(server, asked).await?;
    if !short.truncated {
        return Ok(short);
    }
    // The beginning is better than nothing: the asker sees that it is no more than that.
    Ok(by_tcp(server, asked).await.unwrap_or(short))
}

async fn by_udp(server: SocketAddr, asked: &Asked) -> io::Result<Answer> {
    // A socket for each question: the kernel draws its port at random, and takes answers from this server only.
    let local: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(local).await?;
    socket.connect(server).await?;
    let (id, question) = question(asked)?;
    socket.send(&question).await?;
    for _ in 0..STRANGERS {
        socket.readable().await?;
        match receive(&socket, id, asked) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Ok(None) => {}
            Ok(Some(answer)) => return Ok(answer),
            Err(error) => return Err(error),
        }
    }
    Err(broken())
}

/// One datagram, if it is the answer. Apart, so that thousands who wait hold no buffers.
fn receive(socket: &UdpSocket, id: u16, asked: &Asked) -> io::Result<Option<Answer>> {
    let mut buffer = [0; LARGEST_DATAGRAM];
    let length = socket.try_recv(&mut buffer)?;
    let bytes = buffer.get(..length).unwrap_or_default();
    if !Answer::belongs(bytes, id, &asked.section) {
        return Ok(None);
    }
    Answer::read(bytes, &asked.section).map(Some).ok_or_else(broken)
}

async fn by_tcp(server: SocketAddr, asked: &Asked) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(server).await?;
    let (id, question) = question(asked)?;
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], &question].concat()).await?;
    let length = stream.read_u16().await?;
    let mut bytes = vec![0; length.into()];
    stream.read_exact(&mut bytes).await?;
    let whole = Answer::belongs(&bytes, id, &asked.section).then(|| Answer::read(&bytes, &asked.section));
    whole.flatten().filter(|answer| !answer.truncated).ok_or_else(broken)
}

/// A number nobody can guess, and the message.
fn question(asked: &Asked) -> io::Result<(u16, Vec<u8>)> {
    let mut id = [0; 2];
    rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty())?;
    let id = u16::from_ne_bytes(id);
    Ok((id, asked.put(id).ok_or_else(broken)?))
}

fn broken() -> io::Error {
    ErrorKind::InvalidData.into()
}
