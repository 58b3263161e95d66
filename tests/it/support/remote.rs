//! A mail server on a loopback port that follows a script.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream, tcp::OwnedWriteHalf},
    sync::watch,
};

use super::patience::patiently;

/// An action of the remote at a point of a session.
#[derive(Clone, Debug)]
pub enum Act {
    /// Send this reply.
    Say(&'static str),
    /// Closes the connection without a reply.
    Drop,
}

/// A point of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Point {
    /// The remote has received this command line.
    Command(String),
    /// The remote has received the final dot.
    EndOfData,
}

/// A message that the remote received as a whole.
#[derive(Clone, Debug)]
pub struct Received {
    /// The MAIL line.
    pub mail: String,
    /// The RCPT lines that were accepted.
    pub rcpts: Vec<String>,
    /// The text without dot-stuffing.
    pub text: String,
}

type Script = dyn Fn(&Point, usize) -> Option<Act> + Send + Sync;

/// A running remote.
#[derive(Clone)]
pub struct Remote {
    /// Its address.
    pub address: SocketAddr,
    received: Arc<watch::Sender<Vec<Received>>>,
}

struct State {
    script: Arc<Script>,
    /// How often sessions passed each kind of point, in all connections.
    seen: Mutex<std::collections::HashMap<String, usize>>,
    received: Arc<watch::Sender<Vec<Received>>>,
}

impl Remote {
    /// Starts a remote. `script` gets each point, and how often a point of its kind came before in
    /// all connections. Where the script gives None, the remote accepts.
    pub async fn start(
        script: impl Fn(&Point, usize) -> Option<Act> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::new(watch::Sender::new(Vec::new()));
        let state = Arc::new(State {
            script: Arc::new(script),
            seen: Mutex::default(),
            received: Arc::clone(&received),
        });
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&state);
                tokio::spawn(async move {
                    // In many scripts a peer closes the connection, so an error is no failure.
                    let _ = session(stream, &state).await;
                });
            }
        });
        Self { address, received }
    }

    /// Waits until `count` messages were received. Returns all messages.
    pub async fn wait_for(&self, count: usize) -> Vec<Received> {
        let what = format!("{count} messages at the remote");
        self.wait_until(&what, |received| received.len() >= count)
            .await
    }

    /// Waits until `enough` is true for the received messages. Returns all messages.
    pub async fn wait_until(
        &self,
        what: &str,
        mut enough: impl FnMut(&[Received]) -> bool,
    ) -> Vec<Received> {
        let mut received = self.received.subscribe();
        patiently(what, received.wait_for(|received| enough(received)))
            .await
            .unwrap()
            .clone()
    }

    /// The messages received so far.
    pub fn received(&self) -> Vec<Received> {
        self.received.borrow().clone()
    }
}

impl State {
    fn act(&self, point: &Point, kind: &str) -> Option<Act> {
        let mut seen = self.seen.lock().unwrap();
        let count = seen.entry(kind.to_owned()).or_default();
        *count += 1;
        (self.script)(point, *count - 1)
    }
}

async fn say(out: &mut OwnedWriteHalf, line: &str) -> std::io::Result<()> {
    out.write_all(format!("{line}\r\n").as_bytes()).await
}

async fn session(stream: TcpStream, state: &State) -> std::io::Result<()> {
    // Each reply is a write of its own. Without this, the second one waits for an acknowledgement.
    stream.set_nodelay(true)?;
    let (read, mut out) = stream.into_split();
    let mut lines = BufReader::new(read);
    say(&mut out, "220 remote.test ESMTP").await?;
    let (mut mail, mut rcpts) = (String::new(), Vec::new());
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let line = line.trim_end().to_owned();
        let verb = line
            .split([' ', ':'])
            .next()
            .unwrap_or_default()
            .to_ascii_uppercase();
        let point = Point::Command(line.clone());
        match state.act(&point, &verb) {
            Some(Act::Drop) => return Ok(()),
            Some(Act::Say(reply)) => {
                say(&mut out, reply).await?;
                if !reply.starts_with('2') && !reply.starts_with('3') {
                    continue;
                }
            }
            None => match verb.as_str() {
                "EHLO" => say(
                    &mut out,
                    "250-remote.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES",
                )
                .await?,
                "DATA" if rcpts.is_empty() => {
                    say(&mut out, "554 5.5.1 no valid recipients").await?;
                    continue;
                }
                "DATA" => say(&mut out, "354 go on").await?,
                "QUIT" => return say(&mut out, "221 2.0.0 bye").await,
                _ => say(&mut out, "250 2.0.0 ok").await?,
            },
        }
        match verb.as_str() {
            "MAIL" => (mail, rcpts) = (line, Vec::new()),
            "RCPT" => rcpts.push(line),
            "RSET" => rcpts.clear(),
            "DATA" => {
                let text = read_data(&mut lines).await?;
                let act = state.act(&Point::EndOfData, "end of data");
                let message = Received {
                    mail: mail.clone(),
                    rcpts: std::mem::take(&mut rcpts),
                    text,
                };
                state
                    .received
                    .send_modify(|received| received.push(message));
                match act {
                    None => say(&mut out, "250 2.0.0 taken").await?,
                    Some(Act::Say(reply)) => say(&mut out, reply).await?,
                    Some(Act::Drop) => return Ok(()),
                }
            }
            _ => {}
        }
    }
}

async fn read_data(
    lines: &mut BufReader<tokio::net::tcp::OwnedReadHalf>,
) -> std::io::Result<String> {
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
