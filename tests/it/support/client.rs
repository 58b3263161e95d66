//! A plain SMTP client for tests. A test sends commands or single bytes.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use super::patience::patiently;

pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// The first line of a proxy for a client at this address.
pub fn proxy_header(from: &str) -> Vec<u8> {
    let (family, to) = match from.contains(':') {
        true => ("TCP6", "2001:db8::25"),
        false => ("TCP4", "198.51.100.25"),
    };
    format!("PROXY {family} {from} {to} 4711 25\r\n").into_bytes()
}

/// A session with our server.
pub struct Client {
    stream: BufReader<Box<dyn Stream>>,
    /// The name of the session or the transaction in the last reply that had one.
    pub name: String,
}

impl Client {
    /// Connects and reads the greeting.
    pub async fn connect(address: SocketAddr) -> Self {
        Self::open(address, b"").await.greeted().await
    }

    /// Connects, and sends these bytes at once. It reads nothing.
    pub async fn open(address: SocketAddr, first: &[u8]) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(first).await.unwrap();
        Self::over(Box::new(stream))
    }

    /// A session over a stream, before its greeting.
    pub fn over(stream: Box<dyn Stream>) -> Self {
        Self {
            stream: BufReader::new(stream),
            name: String::new(),
        }
    }

    /// Reads the greeting.
    pub async fn greeted(self) -> Self {
        let mut client = self;
        let greeting = client.reply().await;
        assert!(greeting.starts_with("220 "), "{greeting}");
        client
    }

    /// Connects to a server without a free place. Returns its reply.
    pub async fn refused(address: SocketAddr) -> String {
        Self::open(address, b"").await.reply().await
    }

    /// Says that no more bytes will come. Replies can still be read.
    pub async fn close_half(&mut self) {
        self.stream.get_mut().shutdown().await.unwrap();
    }

    /// All that the server sends until it closes the connection.
    pub async fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        // The end may come as an error, if the server did not read all.
        let _ = patiently("the end", self.stream.read_to_end(&mut rest)).await;
        String::from_utf8(rest).unwrap()
    }

    /// Connects as soon as the server has a free place.
    pub async fn connect_when_free(address: SocketAddr) {
        let free = async { while !Self::refused(address).await.starts_with("220 ") {} };
        patiently("a free place", free).await;
    }

    /// Sends bytes as they are.
    pub async fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).await.unwrap();
        self.stream.get_mut().flush().await.unwrap();
    }

    /// The next reply, with its lines joined by `\n`, without the name at its end. Empty if the
    /// server has closed the connection.
    pub async fn reply(&mut self) -> String {
        let mut reply = String::new();
        loop {
            let mut line = String::new();
            let read = self.stream.read_line(&mut line);
            if patiently("a reply", read).await.unwrap_or(0) == 0 {
                return reply;
            }
            let (text, name) = split_name(line.trim_end());
            reply.push_str(text);
            if let Some(name) = name {
                self.name = name.to_owned();
            }
            if line.as_bytes().get(3) != Some(&b'-') {
                return reply;
            }
            reply.push('\n');
        }
    }

    /// Sends a command and returns the reply.
    pub async fn command(&mut self, line: &str) -> String {
        self.send(format!("{line}\r\n").as_bytes()).await;
        self.reply().await
    }

    /// Sends a command. The reply must begin with `expected`.
    pub async fn expect(&mut self, line: &str, expected: &str) -> String {
        let reply = self.command(line).await;
        assert!(
            reply.starts_with(expected),
            "{line:?}: expected {expected:?}, got {reply:?}"
        );
        reply
    }

    /// STARTTLS without a check of the certificate.
    pub async fn starttls(self) -> Self {
        let mut client = self;
        client.expect("STARTTLS", "220").await;
        let stream = super::tls::connect(client.stream.into_inner()).await;
        Self {
            stream: BufReader::new(Box::new(stream)),
            name: client.name,
        }
    }

    /// Sends EHLO, STARTTLS, EHLO and AUTH PLAIN.
    pub async fn login(self, user: &str, password: &str) -> Self {
        let mut client = self;
        client.expect("EHLO client.test", "250").await;
        let mut client = client.starttls().await;
        client.expect("EHLO client.test", "250").await;
        let secret = super::base64(format!("\0{user}\0{password}").as_bytes());
        client.expect(&format!("AUTH PLAIN {secret}"), "235").await;
        client
    }

    /// A whole transaction. Returns the last reply.
    pub async fn submit(&mut self, from: &str, to: &[&str], text: &str) -> String {
        self.expect(&format!("MAIL FROM:<{from}>"), "250").await;
        for to in to {
            let reply = self.command(&format!("RCPT TO:<{to}>")).await;
            if !reply.starts_with("250") {
                return reply;
            }
        }
        self.expect("DATA", "354").await;
        self.command(&format!("{text}\r\n.")).await
    }
}

/// Splits a line of a reply into its text, and the name of the session at its end:
/// ` (7h3kq0v9x2mc.1)`.
fn split_name(line: &str) -> (&str, Option<&str>) {
    let is_name = |name: &str| {
        let (session, number) = name.split_once('.').unwrap_or((name, "0"));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        session.len() == 12 && digits(session) && number.parse::<u32>().is_ok()
    };
    let split = line
        .strip_suffix(')')
        .and_then(|line| line.rsplit_once(" ("));
    match split.filter(|(_, name)| is_name(name)) {
        Some((text, name)) => (text, Some(name)),
        None => (line, None),
    }
}
