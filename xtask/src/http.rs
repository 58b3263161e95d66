//! The part of HTTP/1.1 that the tasks need, over any byte stream: requests and answers with a
//! length or in chunks, on kept connections.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// The limit on a body.
const MAX: usize = 64 << 20;

/// A request or an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// The request line or the status line, without its end.
    pub(crate) first_line: String,
    /// Names in lower case, values trimmed.
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Whether another message may follow on the connection.
    pub(crate) keep_alive: bool,
}

impl Message {
    /// The first field of this (lower-case) name.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        field(&self.fields, name)
    }

    /// The target of a request.
    pub(crate) fn target(&self) -> &str {
        self.first_line.split(' ').nth(1).unwrap_or_default()
    }
}

fn field<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    fields
        .iter()
        .find(|(have, _)| have == name)
        .map(|(_, value)| value.as_str())
}

/// A connection on which messages are read and bytes written.
pub(crate) struct Connection<S> {
    stream: S,
    /// Bytes that were read and are not yet used.
    buffer: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            buffer: Vec::with_capacity(8192),
        }
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Writes an answer with a body of this type.
    pub(crate) async fn answer(&mut self, status: &str, kind: &str, body: &[u8]) -> io::Result<()> {
        let mut bytes = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        bytes.extend_from_slice(body);
        self.write(&bytes).await
    }

    /// Reads one message. None if the peer closed between two messages.
    pub(crate) async fn read_message(&mut self) -> io::Result<Option<Message>> {
        let Some(head_length) = self.fill_until(b"\r\n\r\n").await? else {
            if self.buffer.is_empty() {
                return Ok(None);
            }
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        let head: Vec<u8> = self.buffer.drain(..head_length).collect();
        let head = String::from_utf8_lossy(&head);
        let mut lines = head.split("\r\n");
        let first_line = lines.next().unwrap_or_default().to_owned();
        let fields: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let body = if field(&fields, "transfer-encoding").is_some() {
            self.read_chunks().await?
        } else {
            let length = field(&fields, "content-length").unwrap_or("0");
            let length = length
                .parse()
                .map_err(|_| invalid("Content-Length is no number"))?;
            self.take(length).await?
        };
        let close =
            field(&fields, "connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        Ok(Some(Message {
            first_line,
            keep_alive: !close,
            fields,
            body,
        }))
    }

    async fn read_chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let Some(line) = self.fill_until(b"\r\n").await? else {
                return Err(io::ErrorKind::UnexpectedEof.into());
            };
            let line = self.take(line).await?;
            let size = String::from_utf8_lossy(&line);
            let size = size.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16)
                .map_err(|_| invalid("the length of a chunk is no number"))?;
            if size > MAX || body.len() + size > MAX {
                return Err(invalid("longer than 64 MiB"));
            }
            let mut chunk = self.take(size + 2).await?;
            chunk.truncate(size);
            body.extend_from_slice(&chunk);
            if size == 0 {
                return Ok(body);
            }
        }
    }

    /// Reads until the pattern is in the buffer, and returns the length up to its end. None if the
    /// peer closed before.
    async fn fill_until(&mut self, pattern: &[u8]) -> io::Result<Option<usize>> {
        loop {
            if let Some(at) = memchr::memmem::find(&self.buffer, pattern) {
                return Ok(Some(at + pattern.len()));
            }
            if self.buffer.len() > 1 << 20 {
                return Err(invalid("a head longer than 1 MiB"));
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }

    async fn take(&mut self, length: usize) -> io::Result<Vec<u8>> {
        if length > MAX {
            return Err(invalid("longer than 64 MiB"));
        }
        while self.buffer.len() < length {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.buffer.drain(..length).collect())
    }
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &[u8]) -> io::Result<Vec<Message>> {
        let (mut near, far) = tokio::io::duplex(7);
        let bytes = bytes.to_vec();
        let writer = tokio::spawn(async move { near.write_all(&bytes).await });
        let mut connection = Connection::new(far);
        let mut messages = Vec::new();
        while let Some(message) = connection.read_message().await? {
            messages.push(message);
        }
        writer.await.unwrap().unwrap();
        Ok(messages)
    }

    #[tokio::test]
    async fn messages_follow_each_other() {
        let messages = read(
            b"POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\
              Connection: close\r\n\r\n2\r\nde\r\n1;x=y\r\nf\r\n0\r\n\r\n",
        )
        .await
        .unwrap();
        let bodies: Vec<_> = messages
            .iter()
            .map(|message| {
                (
                    message.target(),
                    message.body.as_slice(),
                    message.keep_alive,
                )
            })
            .collect();
        assert_eq!(
            bodies,
            [("/a", &b"abc"[..], true), ("200", &b"def"[..], false)]
        );
    }

    #[tokio::test]
    async fn what_is_cut_off_is_an_error() {
        for cut in [
            &b"GET / HTTP/1.1\r\nContent-Le"[..],
            b"GET / HTTP/1.1\r\nContent-Length: 4\r\n\r\nabc",
            b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
            b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffff\r\n",
        ] {
            assert!(read(cut).await.is_err(), "{cut:?}");
        }
    }
}
