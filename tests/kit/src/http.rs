//! The Engine API by hand: one request per connection, so that a test sees exactly what goes over the socket.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::wait::PATIENCE;

/// What the daemon answered.
#[derive(Debug)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// Header names in lower case, with their values.
    pub headers: Vec<(String, String)>,
    /// The body, chunks joined.
    pub body: Vec<u8>,
}

impl Response {
    /// The body as JSON; `null` if it is not.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// Checks the status and gives the body as JSON.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "unexpected answer: {}", self.text());
        self.json()
    }
}

/// A body to send: its type and its bytes.
pub struct Body<'a> {
    /// The `Content-Type`.
    pub kind: &'a str,
    /// The bytes.
    pub bytes: &'a [u8],
}

/// One request; the whole answer.
pub fn request(
    socket: &Path,
    method: &str,
    path: &str,
    body: Option<&Body<'_>>,
) -> std::io::Result<Response> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    send(&mut stream, method, path, body, "Connection: close\r\n")?;
    let mut reader = BufReader::new(stream);
    let mut response = read_head(&mut reader)?;
    response.body = read_body(&mut reader, &response)?;
    Ok(response)
}

/// One request that becomes a raw stream (attach, exec start): the head of the answer, and the stream behind it.
pub fn upgrade(
    socket: &Path,
    path: &str,
    body: Option<&Body<'_>>,
) -> std::io::Result<(Response, BufReader<UnixStream>)> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    send(&mut stream, "POST", path, body, "Connection: Upgrade\r\nUpgrade: tcp\r\n")?;
    let mut reader = BufReader::new(stream);
    let head = read_head(&mut reader)?;
    Ok((head, reader))
}

/// One request whose answer goes on (events, followed logs): the head, and the stream still to be read.
pub fn stream(
    socket: &Path,
    path: &str,
    limit: Duration,
) -> std::io::Result<(Response, BufReader<UnixStream>)> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(limit))?;
    send(&mut stream, "GET", path, None, "Connection: close\r\n")?;
    let mut reader = BufReader::new(stream);
    let head = read_head(&mut reader)?;
    Ok((head, reader))
}

fn send(
    stream: &mut UnixStream,
    method: &str,
    path: &str,
    body: Option<&Body<'_>>,
    connection: &str,
) -> std::io::Result<()> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: docker\r\n{connection}");
    if let Some(body) = body {
        head.push_str(&format!("Content-Type: {}\r\nContent-Length: {}\r\n", body.kind, body.bytes.len()));
    } else if method != "GET" {
        head.push_str("Content-Length: 0\r\n");
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes())?;
    match body {
        // A daemon may answer and close before it has read all of a body that it refuses.
        Some(body) => match stream.write_all(body.bytes) {
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            other => other,
        },
        None => Ok(()),
    }
}

fn read_head(reader: &mut BufReader<UnixStream>) -> std::io::Result<Response> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if reader.read_until(b'\n', &mut head)? == 0 {
            return Err(fault("the daemon closed the connection without an answer"));
        }
    }
    let mut slots = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Response::new(&mut slots);
    parsed.parse(&head).map_err(|e| fault(&format!("not an HTTP answer: {e}")))?;
    let headers = parsed
        .headers
        .iter()
        .map(|h| (h.name.to_ascii_lowercase(), String::from_utf8_lossy(h.value).into_owned()))
        .collect();
    Ok(Response { status: parsed.code.unwrap_or(0), headers, body: Vec::new() })
}

fn read_body(reader: &mut BufReader<UnixStream>, head: &Response) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if head.header("transfer-encoding").is_some_and(|v| v.contains("chunked")) {
        while read_chunk(reader, &mut body)? {}
    } else if let Some(length) = head.header("content-length").and_then(|v| v.parse().ok()) {
        reader.take(length).read_to_end(&mut body)?;
    } else if head.status != 204 && head.status != 304 {
        reader.read_to_end(&mut body)?;
    }
    Ok(body)
}

/// Reads one chunk of a chunked body onto `out`; false at its end.
pub fn read_chunk(reader: &mut BufReader<UnixStream>, out: &mut Vec<u8>) -> std::io::Result<bool> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(false);
    }
    let size = line.trim().split(';').next().unwrap_or("");
    let size = u64::from_str_radix(size, 16).map_err(|_| fault(&format!("bad chunk size {line:?}")))?;
    reader.by_ref().take(size).read_to_end(out)?;
    reader.read_line(&mut line)?;
    Ok(size > 0)
}

fn fault(why: &str) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, why)
}

/// Splits Docker's multiplexed stream into standard output and standard error.
pub fn demultiplex(mut raw: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    while raw.len() >= 8 {
        let length = u32::from_be_bytes([raw[4], raw[5], raw[6], raw[7]]) as usize;
        let end = (8 + length).min(raw.len());
        if raw[0] == 2 { &mut err } else { &mut out }.extend_from_slice(&raw[8..end]);
        raw = &raw[end..];
    }
    (out, err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multiplexed_frames_come_apart() {
        let raw = b"\x01\0\0\0\0\0\0\x02hi\x02\0\0\0\0\0\0\x03err\x01\0\0\0\0\0\0\x01!";
        assert_eq!(demultiplex(raw), (b"hi!".to_vec(), b"err".to_vec()));
    }
}
