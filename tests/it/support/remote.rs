//! A mail server on a loopback port that follows a script.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_rustls::{TlsAcceptor, rustls};

use super::patience::patiently;

/// An action of the remote at a point of a session.
#[derive(Clone, Debug)]
#[allow(
    dead_code,
    reason = "each of the crates that share this uses some of them"
)]
pub enum Act {
    /// Send this reply.
    Say(&'static str),
    /// Closes the connection without a reply.
    Drop,
    /// Says yes to STARTTLS, and then closes the connection.
    Cut,
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
    /// The key exchange of the TLS under which it came, as rustls writes it. None: in clear.
    pub tls: Option<String>,
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

/// The TLS of a remote, by STARTTLS.
#[derive(Clone)]
pub struct RemoteTls {
    acceptor: TlsAcceptor,
    /// The certificate in PEM, if the remote issued it itself. A client that trusts it takes the
    /// remote for a host of its names.
    pub certificate: String,
    /// What EHLO says under TLS, beside the usual.
    pub extensions: &'static str,
}

impl RemoteTls {
    /// With a certificate for these names that the remote issued itself.
    pub fn new(names: &[&str], extensions: &'static str) -> Self {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        Self {
            certificate: made.cert.pem(),
            ..Self::of(&[&made.cert], &made.signing_key, extensions)
        }
    }

    /// With these certificates, its own first, and the key of its own.
    pub fn of(
        chain: &[&rcgen::Certificate],
        key: &rcgen::KeyPair,
        extensions: &'static str,
    ) -> Self {
        let key = rustls::pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let chain = chain.iter().map(|certificate| certificate.der().clone());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain.collect(), key)
            .unwrap();
        Self {
            acceptor: Arc::new(config).into(),
            certificate: String::new(),
            extensions,
        }
    }
}

struct State {
    script: Arc<Script>,
    tls: Option<RemoteTls>,
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
        Self::start_with(None, script).await
    }

    /// Starts a remote that offers STARTTLS.
    pub async fn start_with(
        tls: Option<RemoteTls>,
        script: impl Fn(&Point, usize) -> Option<Act> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::new(watch::Sender::new(Vec::new()));
        let state = Arc::new(State {
            script: Arc::new(script),
            tls,
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

/// The connection of a session, with or without TLS.
trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

type Lines = BufReader<Box<dyn Io>>;

async fn say(lines: &mut Lines, line: &str) -> std::io::Result<()> {
    let out = lines.get_mut();
    out.write_all(format!("{line}\r\n").as_bytes()).await?;
    out.flush().await
}

async fn session(stream: TcpStream, state: &State) -> std::io::Result<()> {
    // Each reply is a write of its own. Without this, the second one waits for an acknowledgement.
    stream.set_nodelay(true)?;
    let mut lines: Lines = BufReader::new(Box::new(stream));
    say(&mut lines, "220 remote.test ESMTP").await?;
    let (mut mail, mut rcpts, mut tls) = (String::new(), Vec::new(), None);
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
            Some(Act::Cut) => return say(&mut lines, "220 2.0.0 yes").await,
            Some(Act::Say(reply)) => {
                say(&mut lines, reply).await?;
                if !reply.starts_with('2') && !reply.starts_with('3') {
                    continue;
                }
            }
            None => match (verb.as_str(), &state.tls) {
                ("EHLO", offered) => {
                    let more = match (&tls, offered) {
                        (Some(_), Some(offered)) => offered.extensions,
                        (None, Some(_)) => "STARTTLS",
                        (_, None) => "",
                    };
                    let words = ["remote.test", "PIPELINING", "8BITMIME"].into_iter();
                    let words = words.chain(more.split_whitespace());
                    let mut reply: String = words.map(|word| format!("250-{word}\r\n")).collect();
                    reply.push_str("250 ENHANCEDSTATUSCODES");
                    say(&mut lines, &reply).await?;
                }
                ("STARTTLS", Some(offered)) => {
                    say(&mut lines, "220 2.0.0 go").await?;
                    let stream = offered.acceptor.accept(lines.into_inner()).await?;
                    let group = stream.get_ref().1.negotiated_key_exchange_group();
                    tls = Some(
                        group
                            .map(|group| format!("{:?}", group.name()))
                            .unwrap_or_default(),
                    );
                    lines = BufReader::new(Box::new(stream));
                }
                ("DATA", _) if rcpts.is_empty() => {
                    say(&mut lines, "554 5.5.1 no valid recipients").await?;
                    continue;
                }
                ("DATA", _) => say(&mut lines, "354 go on").await?,
                ("QUIT", _) => return say(&mut lines, "221 2.0.0 bye").await,
                _ => say(&mut lines, "250 2.0.0 ok").await?,
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
                    tls: tls.clone(),
                    rcpts: std::mem::take(&mut rcpts),
                    text,
                };
                state
                    .received
                    .send_modify(|received| received.push(message));
                match act {
                    None => say(&mut lines, "250 2.0.0 taken").await?,
                    Some(Act::Say(reply)) => say(&mut lines, reply).await?,
                    Some(Act::Drop | Act::Cut) => return Ok(()),
                }
            }
            _ => {}
        }
    }
}

async fn read_data(lines: &mut Lines) -> std::io::Result<String> {
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
