//! The server's driver over sockets: TLS, time limits, the end of the server, and clients that
//! leave.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; a panic is how they fail"
)]

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use postrider_smtp::{
    EnhancedCode, HandshakeFailure, Reply, ReplyCode, TlsInfo, reason,
    sasl::{Evidence, Login, ScramKeys, ScramOffer, ScramRequest, Verdict, key_fingerprint},
    server::{
        AnyClientCertificate, Client, Event, Handler, MailFrom, RcptTo, SaslConfig, ServeError,
        SessionConfig, SessionId, Transaction, serve,
    },
};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
    sign::{CertifiedKey, SingleCertAndKey},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};
use tokio_rustls::TlsConnector;

mod certificates;

/// The calls of a handler.
#[derive(Default)]
struct Seen {
    /// The texts that came whole, each with its client.
    texts: Vec<(Client, Vec<u8>)>,
    resets: usize,
    restarts: usize,
    /// The reasons of refusals.
    refused: Vec<&'static str>,
    /// The steps of the connection.
    steps: Vec<&'static str>,
}

/// A handler that accepts everything but mail to `nobody`, and texts above 1,000,000 bytes.
struct Taker {
    seen: Arc<Mutex<Seen>>,
    text: Vec<u8>,
    /// The fingerprint of the key that may log in.
    key: Option<String>,
    /// There is no place for a client that begins with TLS.
    full: bool,
}

impl Handler for Taker {
    fn connecting(&mut self, _: &Client) -> Result<(), Reply> {
        match self.full {
            true => Err(Reply::fixed(ReplyCode::UNAVAILABLE, None, "full").because("full")),
            false => Ok(()),
        }
    }

    async fn greeting(&mut self, _: &Client) -> Result<(), Reply> {
        Ok(())
    }

    async fn login(&mut self, _: &Client, login: &Login) -> Verdict {
        match &login.evidence {
            Evidence::Password(password) if login.user == "ann" && **password == "secret" => {
                return Ok(login.user.clone());
            }
            Evidence::Certificate(key) if Some(key) == self.key.as_ref() => {
                return Ok("ann".to_owned());
            }
            _ => {}
        }
        let code = Some(EnhancedCode::BAD_CREDENTIALS);
        Err(Reply::fixed(ReplyCode::AUTHENTICATION_FAILED, code, "no"))
    }

    async fn scram_keys(
        &mut self,
        _: &Client,
        request: &ScramRequest,
    ) -> Result<ScramOffer, Reply> {
        let keys = ScramKeys::derive(request.hash, b"secret", b"salt", 4096.try_into().unwrap());
        Ok(ScramOffer {
            salt: b"salt".to_vec(),
            rounds: 4096,
            keys: vec![keys],
            nonce: "server".to_owned(),
        })
    }

    async fn mail(&mut self, _: &Client, _: &MailFrom) -> Result<(), Reply> {
        Ok(())
    }

    async fn rcpt(&mut self, _: &Client, _: &Transaction, rcpt: &RcptTo) -> Result<(), Reply> {
        if rcpt.forward_path.to_string().starts_with("nobody@") {
            let code = Some(EnhancedCode::UNKNOWN_MAILBOX);
            let reply = Reply::fixed(ReplyCode::MAILBOX_UNAVAILABLE, code, "no");
            return Err(reply.because("nobody"));
        }
        Ok(())
    }

    async fn data(&mut self, _: &Client, _: &Transaction) -> Result<(), Reply> {
        Ok(())
    }

    async fn text(&mut self, piece: &[u8]) -> Result<(), Reply> {
        self.text.extend_from_slice(piece);
        if self.text.len() > 1_000_000 {
            return Err(Reply::fixed(ReplyCode::LOCAL_ERROR, None, "no more"));
        }
        Ok(())
    }

    async fn end(&mut self, client: &Client, _: &Transaction) -> Reply {
        let text = std::mem::take(&mut self.text);
        self.seen.lock().unwrap().texts.push((client.clone(), text));
        Reply::ok("taken")
    }

    fn reset(&mut self) {
        self.text.clear();
        self.seen.lock().unwrap().resets += 1;
    }

    fn restart(&mut self) {
        self.seen.lock().unwrap().restarts += 1;
    }

    fn happened(&mut self, _: &Client, event: &Event) {
        let mut seen = self.seen.lock().unwrap();
        match event {
            Event::Refused(refused) => seen.refused.push(refused.reply.reason().unwrap_or("")),
            Event::Connected => seen.steps.push("connected"),
            Event::Secured { .. } => seen.steps.push("secured"),
            Event::HandshakeFailed { .. } => seen.steps.push("handshake failed"),
            Event::Ended => seen.steps.push("ended"),
            Event::Hello | Event::Replaced | Event::Replied { .. } => {}
        }
    }
}

/// A server of one connection.
struct Server {
    seen: Arc<Mutex<Seen>>,
    shutdown: watch::Sender<bool>,
    task: JoinHandle<Result<(), ServeError>>,
    tls: TlsConnector,
}

fn config() -> SessionConfig {
    SessionConfig {
        hostname: "mx.example.org".parse().unwrap(),
        max_message_size: 10_000_000,
        max_line: 10_000,
        starttls: true,
        auth: false,
        auth_required: false,
        auth_requires_tls: true,
        require_tls_extension: true,
        submission: false,
        sasl: SaslConfig::default(),
        binary_mime: false,
        dsn: true,
        ask_hello: false,
        max_recipients: 10,
        max_messages: 10,
        max_errors: 10,
        command_timeout: Duration::from_secs(300),
        data_timeout: Duration::from_secs(600),
        message_timeout: Duration::from_secs(1800),
    }
}

type Talk = BufReader<Box<dyn Io>>;
trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// The TLS of both sides.
struct TlsSides {
    server: Arc<ServerConfig>,
    client: TlsConnector,
    /// The fingerprint of the client's key. None: the client has no certificate.
    key: Option<String>,
}

fn tls() -> TlsSides {
    tls_of(rustls::ALL_VERSIONS, None)
}

/// The certificate that a client shows, and its key.
type Shown = (CertificateDer<'static>, PrivateKeyDer<'static>);

fn tls_of(
    versions: &[&'static rustls::SupportedProtocolVersion],
    shown: Option<Shown>,
) -> TlsSides {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let made = rcgen::generate_simple_self_signed(["mx.example.org".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .unwrap()
        .with_client_cert_verifier(AnyClientCertificate::new(Arc::clone(&provider)))
        .with_single_cert(vec![made.cert.der().clone()], key);
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    let fingerprint = shown.as_ref().and_then(|(it, _)| key_fingerprint(it));
    let client = match shown {
        None => client.with_no_client_auth(),
        Some((certificate, key)) => {
            // The library would refuse a certificate that it can't read.
            let key = provider.key_provider.load_private_key(key).unwrap();
            let shown = CertifiedKey::new(vec![certificate], key);
            client.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(shown)))
        }
    };
    TlsSides {
        server: Arc::new(server.unwrap()),
        client: Arc::new(client).into(),
        key: fingerprint,
    }
}

async fn start(config: SessionConfig, implicit_tls: bool) -> (Server, TcpStream) {
    start_with(config, implicit_tls, tls(), b"").await
}

/// A server whose client says `early` before the session begins.
async fn start_with(
    config: SessionConfig,
    implicit_tls: bool,
    tls: TlsSides,
    early: &[u8],
) -> (Server, TcpStream) {
    let handler = Taker {
        seen: Arc::default(),
        text: Vec::new(),
        key: tls.key.clone(),
        full: false,
    };
    start_taker(handler, config, implicit_tls, tls, early).await
}

async fn start_taker(
    handler: Taker,
    config: SessionConfig,
    implicit_tls: bool,
    tls: TlsSides,
    early: &[u8],
) -> (Server, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap());
    let mut io = client.await.unwrap();
    let (socket, remote) = listener.accept().await.unwrap();
    if !early.is_empty() {
        io.write_all(early).await.unwrap();
        socket.readable().await.unwrap();
    }
    let mut client = Client::new(SessionId::of(1), remote, socket.local_addr().unwrap());
    client.xclient = true;
    let seen = Arc::clone(&handler.seen);
    let (shutdown, stop) = watch::channel(false);
    let serving = serve(
        Box::new(client),
        socket,
        Arc::new(config),
        Some(tls.server),
        implicit_tls,
        handler,
        stop,
    );
    let server = Server {
        seen,
        shutdown,
        task: tokio::spawn(serving),
        tls: tls.client,
    };
    (server, io)
}

impl Server {
    async fn handshake(&self, io: Box<dyn Io>) -> Talk {
        let name = ServerName::try_from("mx.example.org").unwrap();
        let stream = self.tls.connect(name, io).await.unwrap();
        BufReader::new(Box::new(stream))
    }
}

/// Sends lines, then reads replies until one begins with `last`. Gives the replies.
async fn say(io: &mut Talk, lines: &str, last: &str) -> String {
    io.write_all(lines.as_bytes()).await.unwrap();
    io.flush().await.unwrap();
    hear(io, last).await
}

async fn hear(io: &mut Talk, last: &str) -> String {
    let mut heard = String::new();
    loop {
        let start = heard.len();
        let count = io.read_line(&mut heard).await.unwrap();
        assert!(count > 0, "closed after {heard:?}");
        if heard.get(start..).unwrap().starts_with(last) {
            return heard;
        }
    }
}

async fn closed(io: &mut Talk) {
    let mut rest = Vec::new();
    // The end may come as an error.
    let _ = io.read_to_end(&mut rest).await;
    assert_eq!(String::from_utf8_lossy(&rest), "");
}

/// A client that has read the greeting.
async fn greeted(io: TcpStream) -> Talk {
    let mut io = talk(io);
    hear(&mut io, "220").await;
    io
}

fn talk(io: TcpStream) -> Talk {
    BufReader::new(Box::new(io))
}

const MAIL: &str = "MAIL FROM:<a@x.org>\r\nRCPT TO:<b@y.org>\r\n";

#[tokio::test]
async fn the_handler_learns_the_reason_of_each_refusal() {
    let (server, io) = start(config(), false).await;
    let mut io = greeted(io).await;
    let lines = "NONSENSE\r\nEHLO a.example\r\nMAIL FROM:<a@x.org>\r\nRCPT TO:<nobody@y.org>\r\n\
                 DATA\r\nQUIT\r\n";
    say(&mut io, lines, "221").await;
    closed(&mut io).await;
    let seen = server.seen.lock().unwrap();
    assert_eq!(
        seen.refused,
        [reason::UNKNOWN_COMMAND, "nobody", reason::RCPT_FIRST]
    );
    assert_eq!(seen.steps, ["connected", "ended"]);
}

#[tokio::test]
async fn starttls_begins_the_session_anew() {
    let config = SessionConfig {
        auth: true,
        ..config()
    };
    let (server, io) = start(config, false).await;
    let mut io = greeted(io).await;
    let heard = say(&mut io, "EHLO before.example\r\n", "250 ").await;
    assert!(heard.contains("STARTTLS") && !heard.contains("AUTH"));
    // Commands that a man in the middle adds after STARTTLS do not count (RFC 3207 §4.2,
    // CVE-2011-0411).
    let heard = say(&mut io, "STARTTLS\r\n", "220 2").await;
    assert_eq!(heard.lines().count(), 1);
    let mut io = server.handshake(io.into_inner()).await;
    let heard = say(&mut io, MAIL, "503").await;
    assert!(heard.starts_with("503"), "EHLO is asked for: {heard}");
    hear(&mut io, "503").await;
    let heard = say(&mut io, "EHLO after.example\r\n", "250 ").await;
    assert!(heard.contains("AUTH PLAIN LOGIN") && !heard.contains("STARTTLS"));
    // \0ann\0wrong, \0ann\0secret
    say(&mut io, "AUTH PLAIN AGFubgB3cm9uZw==\r\n", "535 5.7.8").await;
    say(&mut io, "AUTH PLAIN AGFubgBzZWNyZXQ=\r\n", "235 ").await;
    say(&mut io, &format!("{MAIL}DATA\r\n"), "354").await;
    say(&mut io, "Subject: x\r\n\r\n..\r\n.\r\nQUIT\r\n", "221").await;
    closed(&mut io).await;
    server.task.await.unwrap().unwrap();
    let seen = server.seen.lock().unwrap();
    let [(client, text)] = seen.texts.as_slice() else {
        panic!("{} texts", seen.texts.len())
    };
    assert_eq!(text, b"Subject: x\r\n\r\n.\r\n");
    assert_eq!(client.helo.as_deref(), Some("after.example"));
    assert_eq!(client.login.as_deref(), Some("ann"));
    let tls = TlsInfo {
        version: "TLSv1.3".to_owned(),
        cipher: "TLS_AES_256_GCM_SHA384".to_owned(),
    };
    assert_eq!(client.tls, Some(tls));
}

#[tokio::test]
async fn commands_behind_starttls_in_clear_are_not_carried_out() {
    let (server, io) = start(config(), false).await;
    let mut io = talk(io);
    hear(&mut io, "220").await;
    say(&mut io, "EHLO x.example\r\n", "250 ").await;
    io.write_all(format!("STARTTLS\r\n{MAIL}").as_bytes())
        .await
        .unwrap();
    let mut heard = String::new();
    io.read_to_string(&mut heard).await.unwrap();
    assert!(heard.starts_with('5'), "{heard}");
    assert_eq!(heard.lines().count(), 1, "{heard}");
    server.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn tls_from_the_first_byte() {
    let (server, io) = start(config(), true).await;
    let mut io = server.handshake(Box::new(io)).await;
    hear(&mut io, "220").await;
    let heard = say(&mut io, "EHLO x.example\r\n", "250 ").await;
    assert!(heard.contains("REQUIRETLS") && !heard.contains("STARTTLS"));
    say(&mut io, "QUIT\r\n", "221").await;
    closed(&mut io).await;
    server.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_client_without_a_place_gets_no_handshake() {
    for implicit_tls in [true, false] {
        let handler = Taker {
            seen: Arc::default(),
            text: Vec::new(),
            key: None,
            full: true,
        };
        let (server, mut io) = start_taker(handler, config(), implicit_tls, tls(), b"").await;
        if !implicit_tls {
            // Its greeting decides.
            greeted(io).await;
            continue;
        }
        let mut heard = Vec::new();
        io.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"");
        server.task.await.unwrap().unwrap();
        let seen = server.seen.lock().unwrap();
        assert_eq!(seen.refused, ["full"]);
        assert_eq!(seen.steps, ["connected", "ended"]);
    }
}

#[tokio::test]
async fn what_is_no_tls_ends_the_connection() {
    let (server, mut io) = start(config(), true).await;
    io.write_all(b"EHLO x.example\r\n").await.unwrap();
    let error = server.task.await.unwrap().unwrap_err();
    assert_eq!(error.handshake(), Some(HandshakeFailure::NotTls));
}

#[tokio::test]
async fn a_client_that_leaves_amid_the_handshake_and_one_that_distrusts_us_are_told_apart() {
    let (server, io) = start(config(), true).await;
    drop(io);
    let error = server.task.await.unwrap().unwrap_err();
    assert_eq!(error.handshake(), Some(HandshakeFailure::EndOfStream));

    let (server, io) = start(config(), true).await;
    // The certificate has no such name, so the client sends an alert.
    let name = ServerName::try_from("other.example").unwrap();
    assert!(server.tls.connect(name, io).await.is_err());
    let error = server.task.await.unwrap().unwrap_err();
    assert_eq!(error.handshake(), Some(HandshakeFailure::Alert));
}

#[tokio::test]
async fn what_a_client_says_before_the_greeting_is_not_carried_out() {
    let early = format!("EHLO x.example\r\n{MAIL}");
    let (server, mut io) = start_with(config(), false, tls(), early.as_bytes()).await;
    let mut heard = String::new();
    io.read_to_string(&mut heard).await.unwrap();
    assert!(heard.starts_with("554 5.5.1 "), "{heard}");
    assert_eq!(heard.lines().count(), 1, "{heard}");
    server.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn the_handler_forgets_the_client_at_xclient() {
    let (server, io) = start(config(), false).await;
    let mut io = greeted(io).await;
    let heard = say(&mut io, "EHLO proxy.example\r\n", "250 ").await;
    assert!(heard.contains("250 XCLIENT NAME ADDR PORT "), "{heard}");
    say(&mut io, "XCLIENT ADDR=IPV6:2001:db8::7 PORT=9\r\n", "220").await;
    say(&mut io, &format!("EHLO a.example\r\n{MAIL}DATA\r\n"), "354").await;
    say(&mut io, "Subject: x\r\n\r\n.\r\nQUIT\r\n", "221").await;
    closed(&mut io).await;
    server.task.await.unwrap().unwrap();
    let seen = server.seen.lock().unwrap();
    let [(client, _)] = seen.texts.as_slice() else {
        panic!("{} texts", seen.texts.len())
    };
    assert_eq!(client.remote.to_string(), "[2001:db8::7]:9");
    assert_eq!(seen.restarts, 1);
}

#[tokio::test]
async fn a_client_that_says_nothing_is_told_421() {
    let (server, io) = start(config(), false).await;
    let mut io = talk(io);
    hear(&mut io, "220").await;
    tokio::time::pause();
    hear(&mut io, "421 4.4.2").await;
    closed(&mut io).await;
    server.task.await.unwrap().unwrap();
}

/// Sends a byte a minute until the server says 421 and closes.
async fn dribble(io: TcpStream, before: &str, last: &str) {
    let mut io = greeted(io).await;
    say(&mut io, before, last).await;
    tokio::time::pause();
    let mut heard = String::new();
    while heard.is_empty() {
        tokio::select! {
            biased;
            read = io.read_line(&mut heard) => assert!(read.unwrap() > 0, "closed"),
            () = tokio::time::sleep(Duration::from_secs(60)) => {
                io.write_all(b"x").await.unwrap();
                io.flush().await.unwrap();
            }
        }
    }
    assert!(heard.starts_with("421 4.4.2"), "{heard}");
    closed(&mut io).await;
}

#[tokio::test]
async fn a_command_that_comes_byte_by_byte_is_cut_off() {
    let (server, io) = start(config(), false).await;
    dribble(io, "EHLO x.example\r\n", "250 ").await;
    server.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_text_that_comes_byte_by_byte_is_cut_off() {
    let (server, io) = start(config(), false).await;
    let before = format!("EHLO x.example\r\n{MAIL}DATA\r\n");
    dribble(io, &before, "354").await;
    server.task.await.unwrap().unwrap();
    let seen = server.seen.lock().unwrap();
    assert!(seen.texts.is_empty() && seen.resets > 0);
}

#[tokio::test]
async fn a_text_that_stops_coming_is_forgotten() {
    let (server, io) = start(config(), false).await;
    let mut io = greeted(io).await;
    say(&mut io, "EHLO x.example\r\n", "250 ").await;
    say(&mut io, &format!("{MAIL}DATA\r\n"), "354").await;
    io.write_all(b"Subject: x\r\n\r\nhalf").await.unwrap();
    tokio::time::pause();
    hear(&mut io, "421 4.4.2").await;
    closed(&mut io).await;
    server.task.await.unwrap().unwrap();
    let seen = server.seen.lock().unwrap();
    assert!(seen.texts.is_empty() && seen.resets > 0);
}

#[tokio::test]
async fn a_client_that_never_finishes_the_handshake_is_given_up() {
    let (server, io) = start(config(), false).await;
    let mut io = greeted(io).await;
    say(&mut io, "EHLO x.example\r\n", "250 ").await;
    say(&mut io, "STARTTLS\r\n", "220 2").await;
    tokio::time::pause();
    let error = server.task.await.unwrap().unwrap_err();
    assert_eq!(error.handshake(), Some(HandshakeFailure::Timeout));
    let steps = server.seen.lock().unwrap().steps.clone();
    assert_eq!(steps, ["connected", "handshake failed", "ended"]);
}

#[tokio::test]
async fn a_client_that_leaves_amid_a_text_leaves_nothing() {
    let (server, io) = start(config(), false).await;
    let mut io = greeted(io).await;
    say(&mut io, "EHLO x.example\r\n", "250 ").await;
    say(&mut io, &format!("{MAIL}DATA\r\n"), "354").await;
    io.write_all(b"Subject: x\r\n\r\nhalf\r\n").await.unwrap();
    drop(io);
    // The system decides whether this is the end of the stream or an error.
    let _ = server.task.await.unwrap();
    let seen = server.seen.lock().unwrap();
    assert!(seen.texts.is_empty() && seen.resets > 0);
}

#[tokio::test]
async fn an_idle_session_ends_with_the_server() {
    let (server, io) = start(config(), false).await;
    let mut io = talk(io);
    hear(&mut io, "220").await;
    server.shutdown.send(true).unwrap();
    hear(&mut io, "421 4.3.2").await;
    closed(&mut io).await;
    server.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_text_that_is_coming_is_taken_before_the_server_ends() {
    let (server, io) = start(config(), false).await;
    let mut io = greeted(io).await;
    say(&mut io, "EHLO x.example\r\n", "250 ").await;
    say(&mut io, &format!("{MAIL}DATA\r\n"), "354").await;
    server.shutdown.send(true).unwrap();
    let heard = say(&mut io, "Subject: x\r\n\r\n.\r\n", "421").await;
    assert!(heard.starts_with("250"), "{heard}");
    closed(&mut io).await;
    server.task.await.unwrap().unwrap();
    assert_eq!(server.seen.lock().unwrap().texts.len(), 1);
}

#[tokio::test]
async fn a_text_refused_halfway_is_read_to_its_end() {
    let (server, io) = start(config(), false).await;
    let mut io = greeted(io).await;
    say(&mut io, "EHLO x.example\r\n", "250 ").await;
    say(&mut io, &format!("{MAIL}DATA\r\n"), "354").await;
    let line = format!("{}\r\n", "x".repeat(998));
    for _ in 0..3000 {
        io.write_all(line.as_bytes()).await.unwrap();
    }
    let heard = say(&mut io, ".\r\nNOOP\r\n", "250").await;
    assert!(heard.starts_with("451"), "{heard}");
    let all = format!("{MAIL}RCPT TO:<nobody@y.org>\r\nBDAT 6 LAST\r\nHi!!\r\nQUIT\r\n");
    let heard = say(&mut io, &all, "221").await;
    let codes: Vec<&str> = heard.lines().filter_map(|line| line.get(..3)).collect();
    assert_eq!(codes, ["250", "250", "550", "250", "221"]);
    closed(&mut io).await;
    server.task.await.unwrap().unwrap();
    let seen = server.seen.lock().unwrap();
    assert_eq!(
        seen.texts
            .iter()
            .map(|(_, text)| text.as_slice())
            .collect::<Vec<_>>(),
        [b"Hi!!\r\n"]
    );
}

#[tokio::test]
async fn a_client_that_does_not_read_is_given_up() {
    let (server, io) = start(config(), false).await;
    io.readable().await.unwrap();
    // More replies than the buffers of the sockets have room for. In the end neither side can
    // write.
    let help = "HELP\r\n".repeat(1000);
    let mut stuck = 0;
    while stuck < 1000 {
        match io.try_write(help.as_bytes()) {
            Ok(_) => stuck = 0,
            Err(_) => stuck += 1,
        }
        tokio::task::yield_now().await;
    }
    tokio::time::pause();
    match server.task.await.unwrap().unwrap_err() {
        ServeError::Connection(error) => assert_eq!(error.kind(), io::ErrorKind::TimedOut),
        other => panic!("{other}"),
    }
}
