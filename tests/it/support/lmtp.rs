//! An LMTP server that keeps what it gets (RFC 2033). It has one reply for each recipient.

use std::{net::SocketAddr, path::Path, sync::Arc};

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader},
    net::{TcpListener, UnixListener},
    sync::watch,
};

use super::patience::patiently;

/// A message that an LMTP server got.
#[derive(Clone, Debug)]
pub struct Got {
    /// The MAIL line.
    pub mail: String,
    /// The accepted recipients with the reply to the text that each got.
    pub recipients: Vec<(String, String)>,
    /// The text without dot-stuffing.
    pub text: String,
}

/// The reply for a recipient: at RCPT if the flag is false, and after the text if it is true.
type Script = dyn Fn(&str, bool) -> Option<&'static str> + Send + Sync;

/// A running LMTP server.
#[derive(Clone)]
pub struct LmtpServer {
    got: Arc<watch::Sender<Vec<Got>>>,
}

impl LmtpServer {
    /// Starts a server on a loopback port. Where the script gives None, the server accepts.
    pub async fn tcp(
        script: impl Fn(&str, bool) -> Option<&'static str> + Send + Sync + 'static,
    ) -> (Self, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (server, script) = (Self::new(), Arc::new(script));
        let got = Arc::clone(&server.got);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(session(stream, Arc::clone(&script) as _, Arc::clone(&got)));
            }
        });
        (server, address)
    }

    /// Starts a server on a Unix socket.
    pub fn unix(
        path: &Path,
        script: impl Fn(&str, bool) -> Option<&'static str> + Send + Sync + 'static,
    ) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        let (server, script) = (Self::new(), Arc::new(script));
        let got = Arc::clone(&server.got);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(session(stream, Arc::clone(&script) as _, Arc::clone(&got)));
            }
        });
        server
    }

    fn new() -> Self {
        Self {
            got: Arc::new(watch::Sender::new(Vec::new())),
        }
    }

    /// Waits until `count` messages came. Gives all messages.
    pub async fn wait_for(&self, count: usize) -> Vec<Got> {
        let what = format!("{count} messages at the LMTP server");
        let mut got = self.got.subscribe();
        patiently(&what, got.wait_for(|got| got.len() >= count))
            .await
            .unwrap()
            .clone()
    }
}

async fn session(
    stream: impl AsyncRead + AsyncWrite,
    script: Arc<Script>,
    got: Arc<watch::Sender<Vec<Got>>>,
) -> std::io::Result<()> {
    let (read, mut out) = tokio::io::split(stream);
    let mut lines = BufReader::new(read);
    out.write_all(b"220 store.test LMTP\r\n").await?;
    let (mut mail, mut accepted) = (String::new(), Vec::new());
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let line = line.trim_end();
        let reply = match line.split(' ').next().unwrap_or_default() {
            "LHLO" => "250-store.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES",
            "MAIL" => {
                line.clone_into(&mut mail);
                accepted.clear();
                "250 2.1.0 ok"
            }
            "RCPT" => {
                let address = line.split(['<', '>']).nth(1).unwrap_or_default();
                let reply = script(address, false).unwrap_or("250 2.1.5 ok");
                if reply.starts_with('2') {
                    accepted.push(address.to_owned());
                }
                reply
            }
            "DATA" if accepted.is_empty() => "503 5.5.1 no valid recipients",
            "DATA" => {
                out.write_all(b"354 go on\r\n").await?;
                let text = text(&mut lines).await?;
                let mut recipients = Vec::new();
                for address in accepted.drain(..) {
                    let reply = script(&address, true).unwrap_or("250 2.0.0 stored");
                    recipients.push((address, reply.to_owned()));
                }
                let replies: Vec<String> = recipients
                    .iter()
                    .map(|(_, reply)| format!("{reply}\r\n"))
                    .collect();
                let mail = mail.clone();
                got.send_modify(|got| {
                    got.push(Got {
                        mail,
                        recipients,
                        text,
                    });
                });
                out.write_all(replies.concat().as_bytes()).await?;
                continue;
            }
            "QUIT" => return out.write_all(b"221 2.0.0 bye\r\n").await,
            "RSET" => "250 2.0.0 ok",
            _ => "500 5.5.1 this is LMTP",
        };
        out.write_all(format!("{reply}\r\n").as_bytes()).await?;
    }
}

async fn text(lines: &mut (impl AsyncBufReadExt + Unpin)) -> std::io::Result<String> {
    let mut text = Vec::new();
    loop {
        let mut line = Vec::new();
        if lines.read_until(b'\n', &mut line).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if line == b".\r\n" {
            return Ok(String::from_utf8_lossy(&text).into_owned());
        }
        text.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
    }
}
