//! The SMTP load driver: hand-written SMTP over plain sockets or TLS.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::Args;
use memchr::memchr;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Barrier;
use tokio_rustls::TlsConnector;

use super::{Common, Supply, Tally, drive, filler, wait_for_start};

#[derive(Args, Clone)]
pub(crate) struct SmtpArgs {
    #[command(flatten)]
    common: Common,
    /// The server's host name or address
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// The server's port
    #[arg(long)]
    port: u16,
    /// Connections at the same time, each with one message under way
    #[arg(long, default_value_t = 1)]
    sessions: usize,
    /// Recipients of each message; the second and further ones are --to with -2, -3, ... at the end of the local-part
    #[arg(long, default_value_t = 1)]
    recipients: usize,
    /// The reverse-path
    #[arg(long, default_value = "load@load.example")]
    from: String,
    /// The recipient
    #[arg(long, default_value = "sink@sink.example")]
    to: String,
    /// Send all messages of a session over one connection (the default)
    #[arg(long, conflicts_with_all = ["no_reuse", "messages_per_session"])]
    reuse: bool,
    /// A new connection for each message
    #[arg(long)]
    no_reuse: bool,
    /// A new connection after this many messages
    #[arg(long, conflicts_with = "no_reuse")]
    messages_per_session: Option<u64>,
    /// Send MAIL, RCPT and DATA in one group, and the next message's group right behind a message's end (RFC 2920)
    #[arg(long)]
    pipelining: bool,
    /// Upgrade with STARTTLS; certificates are not checked
    #[arg(long, conflicts_with = "tls")]
    starttls: bool,
    /// TLS from the first byte; certificates are not checked
    #[arg(long)]
    tls: bool,
    /// Log in as this user with AUTH PLAIN
    #[arg(long, requires = "password")]
    login: Option<String>,
    #[arg(long, requires = "login")]
    password: Option<String>,
}

/// All that sessions share.
struct Plan {
    args: SmtpArgs,
    tls: Option<TlsConnector>,
    /// MAIL, RCPT... and DATA, one command each, with their line ends.
    envelope: Vec<Vec<u8>>,
    /// Messages per connection.
    per_connection: u64,
}

pub(crate) fn run(args: SmtpArgs) -> Result<()> {
    let Some((local, domain)) = args.to.rsplit_once('@') else {
        bail!("--to {:?} has no @", args.to);
    };
    let mut envelope = vec![format!("MAIL FROM:<{}>\r\n", args.from).into_bytes()];
    for index in 1..=args.recipients.max(1) {
        let rcpt = match index {
            1 => format!("RCPT TO:<{}>\r\n", args.to),
            _ => format!("RCPT TO:<{local}-{index}@{domain}>\r\n"),
        };
        envelope.push(rcpt.into_bytes());
    }
    envelope.push(b"DATA\r\n".to_vec());
    let per_connection = match args.messages_per_session {
        Some(messages) => messages.max(1),
        None if args.no_reuse => 1,
        None => u64::MAX,
    };
    let plan = Arc::new(Plan {
        tls: (args.starttls || args.tls).then(tls::connector),
        envelope,
        per_connection,
        args,
    });
    let common = plan.args.common.clone();
    drive(
        &common,
        plan.args.sessions.max(1),
        move |supply, barrier| session(Arc::clone(&plan), supply, barrier),
    )
}

/// One session: connections one after the other, a message at a time on each.
async fn session(plan: Arc<Plan>, supply: Arc<Supply>, barrier: Arc<Barrier>) -> Tally {
    let mut tally = Tally::new(plan.args.common.accepted.is_some());
    let mut template = Template::new(&plan.args);
    let mut first = Some(Connection::open(&plan).await);
    wait_for_start(&barrier).await;
    let started = Instant::now();
    // The message that is to go next. It outlives a connection that broke before its text was sent.
    let mut next = supply.take(started);
    let mut given_up = None;
    while next.is_some() {
        let opened = match first.take() {
            Some(opened) => opened,
            None => Connection::open(&plan).await,
        };
        let mut connection = match opened {
            Ok(connection) => {
                given_up = None;
                connection
            }
            Err(error) => {
                let now = Instant::now();
                let deadline = *given_up.get_or_insert(now + plan.args.common.patience);
                if now < deadline {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
                tally.fail(format!("no connection: {error}"));
                break;
            }
        };
        let mut sender = Sender {
            plan: &plan,
            supply: &supply,
            started,
            template: &mut template,
            tally: &mut tally,
        };
        match sender.send_all(&mut connection, &mut next).await {
            Ok(()) => connection.quit().await,
            Err(error) => tally.fail(format!("connection lost: {error}")),
        }
    }
    tally
}

struct Sender<'a> {
    plan: &'a Plan,
    supply: &'a Supply,
    started: Instant,
    template: &'a mut Template,
    tally: &'a mut Tally,
}

impl Sender<'_> {
    /// Sends messages until none is left or the connection has had its share. `next` is the message to begin with, and
    /// after an error or the end the first one that was not tried.
    async fn send_all(
        &mut self,
        connection: &mut Connection,
        next: &mut Option<u64>,
    ) -> io::Result<()> {
        let mut left = self.plan.per_connection;
        let group: Vec<u8> = self.plan.envelope.concat();
        let mut envelope_sent = false;
        let mut begun = Instant::now();
        while let Some(number) = *next {
            if left == 0 {
                return Ok(());
            }
            left -= 1;
            if !envelope_sent {
                begun = Instant::now();
            }
            let go_ahead = if self.plan.args.pipelining {
                if !envelope_sent {
                    connection.write(&group).await?;
                }
                self.read_group(connection).await?
            } else {
                self.step_by_step(connection).await?
            };
            *next = self.supply.take(self.started);
            envelope_sent = false;
            if !go_ahead {
                // The envelope was refused and counted. What the server kept of it must not meet the next one.
                connection.write(b"RSET\r\n").await?;
                connection.reply().await?;
                continue;
            }
            let text = self.template.stamp(number);
            let ahead = self.plan.args.pipelining && next.is_some() && left > 0;
            let mut following = begun;
            if ahead {
                following = Instant::now();
                connection.write_two(text, &group).await?;
                envelope_sent = true;
            } else {
                connection.write(text).await?;
            }
            match connection.reply().await? {
                250 => self.tally.accept(number, begun.elapsed()),
                _ => self.tally.fail(connection.last_text()),
            }
            begun = following;
        }
        Ok(())
    }

    /// Sends each command when the one before it was answered. Gives whether the text may follow.
    async fn step_by_step(&mut self, connection: &mut Connection) -> io::Result<bool> {
        for command in &self.plan.envelope {
            connection.write(command).await?;
            let code = connection.reply().await?;
            if code >= 400 {
                self.tally.fail(connection.last_text());
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads the replies to a whole group. Gives whether the text may follow: it must after a 354, whatever came before.
    async fn read_group(&mut self, connection: &mut Connection) -> io::Result<bool> {
        let mut refusal = None;
        let mut code = 0;
        for _ in &self.plan.envelope {
            code = connection.reply().await?;
            if code >= 400 && refusal.is_none() {
                refusal = Some(connection.last_text());
            }
        }
        if code != 354
            && let Some(text) = refusal
        {
            self.tally.fail(text);
        }
        Ok(code == 354)
    }
}

/// A message with its final dot, made once; only its number changes.
struct Template {
    bytes: Vec<u8>,
    /// Where the number stands.
    places: Vec<usize>,
}

const DIGITS: usize = 12;

impl Template {
    fn new(args: &SmtpArgs) -> Self {
        // Different for each run of the driver, so that Message-IDs are never used twice.
        let run = format!(
            "{:x}.{:x}",
            std::process::id(),
            std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .map_or(0, |age| age.as_millis())
        );
        let mut bytes = Vec::with_capacity(args.common.size + 5);
        let mut places = Vec::new();
        bytes.extend_from_slice(
            format!("From: <{}>\r\nTo: <{}>\r\n", args.from, args.to).as_bytes(),
        );
        bytes.extend_from_slice(b"Subject: load ");
        places.push(bytes.len());
        bytes.extend_from_slice(&[b'0'; DIGITS]);
        bytes.extend_from_slice(format!("\r\nMessage-ID: <load.{run}.").as_bytes());
        places.push(bytes.len());
        bytes.extend_from_slice(&[b'0'; DIGITS]);
        bytes.extend_from_slice(b"@load.example>\r\nDate: Thu, 01 Jan 2026 00:00:00 +0000\r\n\r\n");
        // The last two bytes of the size are the line end before the dot.
        let body = args.common.size.saturating_sub(bytes.len() + 2);
        bytes.extend_from_slice(&filler(body));
        bytes.extend_from_slice(b"\r\n.\r\n");
        Self { bytes, places }
    }

    /// The message with this number.
    fn stamp(&mut self, number: u64) -> &[u8] {
        for place in &self.places {
            let mut rest = number;
            if let Some(digits) = self.bytes.get_mut(*place..*place + DIGITS) {
                for digit in digits.iter_mut().rev() {
                    *digit = b'0' + (rest % 10) as u8;
                    rest /= 10;
                }
            }
        }
        &self.bytes
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

struct Connection {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// The last reply, all its lines.
    last: Vec<u8>,
    /// Text and envelope put together for one write.
    joined: Vec<u8>,
}

impl Connection {
    async fn open(plan: &Plan) -> io::Result<Self> {
        let args = &plan.args;
        let tcp = TcpStream::connect((args.host.as_str(), args.port)).await?;
        tcp.set_nodelay(true)?;
        let mut connection = match &plan.tls {
            Some(connector) if args.tls => Self::new(tls::connect(connector, tcp).await?),
            Some(connector) => {
                let mut clear = Clear::new(tcp);
                clear.expect(None, 220).await?;
                clear.expect(Some("EHLO load.example\r\n"), 250).await?;
                clear.expect(Some("STARTTLS\r\n"), 220).await?;
                Self::new(tls::connect(connector, clear.tcp).await?)
            }
            None => Self::new(tcp),
        };
        if !args.starttls {
            connection.expect(220).await?;
        }
        connection.write(b"EHLO load.example\r\n").await?;
        connection.expect(250).await?;
        if let (Some(login), Some(password)) = (&args.login, &args.password) {
            let token = BASE64.encode(format!("\0{login}\0{password}"));
            connection
                .write(format!("AUTH PLAIN {token}\r\n").as_bytes())
                .await?;
            connection.expect(235).await?;
        }
        Ok(connection)
    }

    fn new(stream: impl Stream + 'static) -> Self {
        Self {
            stream: Box::new(stream),
            buffer: vec![0; 8192],
            start: 0,
            end: 0,
            last: Vec::with_capacity(256),
            joined: Vec::new(),
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        // TLS keeps what the socket would not take; without this it might wait there for the reply that it asks for.
        self.stream.flush().await
    }

    async fn write_two(&mut self, first: &[u8], second: &[u8]) -> io::Result<()> {
        self.joined.clear();
        self.joined.extend_from_slice(first);
        self.joined.extend_from_slice(second);
        self.stream.write_all(&self.joined).await?;
        self.stream.flush().await
    }

    /// Reads a whole reply and gives its code. 421 is an error: the server closes the connection after it.
    async fn reply(&mut self) -> io::Result<u16> {
        self.last.clear();
        loop {
            let filled = self.buffer.get(self.start..self.end).unwrap_or_default();
            let Some(at) = memchr(b'\n', filled) else {
                self.fill().await?;
                continue;
            };
            let line = filled.get(..=at).unwrap_or_default();
            self.start += at + 1;
            self.last.extend_from_slice(line);
            let digits = line
                .get(..3)
                .and_then(|code| std::str::from_utf8(code).ok());
            let Some(code) = digits.and_then(|digits| digits.parse().ok()) else {
                return Err(io::Error::other(format!("no reply: {}", self.last_text())));
            };
            if line.get(3) == Some(&b'-') {
                continue;
            }
            if code == 421 {
                return Err(io::Error::other(self.last_text()));
            }
            return Ok(code);
        }
    }

    async fn fill(&mut self) -> io::Result<()> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let room = self.buffer.get_mut(self.end..).unwrap_or_default();
        if room.is_empty() {
            return Err(io::Error::other("a reply line longer than 8 KiB"));
        }
        let read = self.stream.read(room).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.end += read;
        Ok(())
    }

    async fn expect(&mut self, code: u16) -> io::Result<()> {
        if self.reply().await? == code {
            return Ok(());
        }
        Err(io::Error::other(self.last_text()))
    }

    fn last_text(&self) -> String {
        String::from_utf8_lossy(&self.last).trim_end().to_owned()
    }

    /// Says goodbye and waits for the answer, so that the server's closing is not part of the next connection.
    async fn quit(mut self) {
        if self.write(b"QUIT\r\n").await.is_ok() {
            let _ = self.reply().await;
        }
    }
}

/// The clear part of a connection that will be upgraded: it must not read anything beyond the reply to STARTTLS.
struct Clear {
    tcp: TcpStream,
}

impl Clear {
    fn new(tcp: TcpStream) -> Self {
        Self { tcp }
    }

    async fn expect(&mut self, command: Option<&str>, code: u16) -> io::Result<()> {
        if let Some(command) = command {
            self.tcp.write_all(command.as_bytes()).await?;
        }
        loop {
            let mut line = Vec::new();
            // A byte at a time: only a few lines are ever read in this way.
            while !line.ends_with(b"\n") {
                line.push(self.tcp.read_u8().await?);
            }
            if line.get(3) == Some(&b'-') {
                continue;
            }
            if line.starts_with(code.to_string().as_bytes()) {
                return Ok(());
            }
            return Err(io::Error::other(
                String::from_utf8_lossy(&line).trim_end().to_owned(),
            ));
        }
    }
}

/// TLS that trusts every certificate: what is measured is a server on this machine.
mod tls {
    use super::{Arc, ServerName, TcpStream, TlsConnector, io};

    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::crypto::{CryptoProvider, aws_lc_rs};
    use rustls::pki_types::{CertificateDer, UnixTime};
    use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

    pub(super) fn connector() -> TlsConnector {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = Arc::new(TrustAll(Arc::clone(&provider)));
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap_or_else(|_| unreachable!("the default provider has the default versions"));
        let config = builder
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        TlsConnector::from(Arc::new(config))
    }

    pub(super) async fn connect(
        connector: &TlsConnector,
        tcp: TcpStream,
    ) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        connector.connect(name, tcp).await
    }

    #[derive(Debug)]
    struct TrustAll(Arc<CryptoProvider>);

    impl ServerCertVerifier for TrustAll {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.0.signature_verification_algorithms.supported_schemes()
        }
    }
}
