//! The client's driver against servers on loopback that follow a script.
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "helpers of tests; a panic is how they fail"
)]

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use postrider_smtp::{
    Address, BodyType, Cause, Certificate, DeliveryStatus, Host, ReversePath,
    client::{
        Again, AnyCertificate, Connection, Envelope, MessageSource, Options, OutgoingMessage,
        Prefixed, Remote, Tls, TlsFault, TlsFaultKind, TlsMode, Unopened,
    },
};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

/// A step of a server's script.
#[derive(Clone, Copy)]
enum Act {
    /// Sends this line.
    Say(&'static str),
    /// Reads a command that begins so.
    Hear(&'static str),
    /// Reads to the line with the dot.
    HearText,
    /// Makes the TLS handshake.
    StartTls,
    /// Says nothing more. The clock jumps to the client's deadline.
    Sleep,
    /// Says and reads nothing more. The clock jumps to the client's deadline.
    Stall,
    /// Sends a byte a minute until the client closes. The clock jumps from minute to minute.
    Dribble,
}

use Act::{Dribble, Hear, HearText, Say, Sleep, Stall, StartTls};

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Follows the script, then closes. Gives what the client said.
async fn serve(
    socket: TcpStream,
    script: Vec<Act>,
    tls: Option<TlsAcceptor>,
) -> io::Result<String> {
    socket.set_nodelay(true)?;
    let mut heard = String::new();
    let mut io: BufReader<Box<dyn Io>> = BufReader::new(Box::new(socket));
    for act in script {
        match act {
            Say(line) => io.write_all(format!("{line}\r\n").as_bytes()).await?,
            Hear(command) => {
                let start = heard.len();
                if io.read_line(&mut heard).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                assert!(
                    heard[start..].starts_with(command),
                    "{:?} instead of {command}",
                    &heard[start..]
                );
            }
            HearText => {
                let mut line = String::new();
                while line != ".\r\n" {
                    line.clear();
                    if io.read_line(&mut line).await? == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    heard.push_str(&line);
                }
            }
            StartTls => {
                let stream = tls.as_ref().unwrap().accept(io.into_inner()).await?;
                io = BufReader::new(Box::new(stream));
            }
            Sleep => {
                tokio::time::pause();
                let mut rest = Vec::new();
                io.read_to_end(&mut rest).await?;
            }
            Stall => {
                tokio::time::pause();
                std::future::pending::<()>().await;
            }
            Dribble => {
                tokio::time::pause();
                let mut rest = Vec::new();
                loop {
                    tokio::select! {
                        biased;
                        end = io.read_to_end(&mut rest) => {
                            end?;
                            break;
                        }
                        () = tokio::time::sleep(Duration::from_secs(60)) => {}
                    }
                    io.write_all(b"2").await?;
                }
            }
        }
    }
    io.shutdown().await?;
    Ok(heard)
}

type Served = JoinHandle<io::Result<String>>;

async fn start(script: &[Act], tls: Option<TlsAcceptor>) -> (TcpStream, Served) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (socket, _) = listener.accept().await.unwrap();
    (client, tokio::spawn(serve(socket, script.to_vec(), tls)))
}

fn options(tls: TlsMode) -> Options {
    Options::new(Host::parse("client.example.org").unwrap(), tls)
}

async fn open(io: TcpStream, tls: TlsMode) -> Result<Connection, DeliveryStatus> {
    let opened = try_open(io, tls).await;
    opened.map_err(|unopened| unopened.status)
}

async fn try_open(io: TcpStream, tls: TlsMode) -> Result<Connection, Unopened> {
    let remote = Remote {
        name: "mx.x.org".to_owned(),
        ip: Some("127.0.0.1".parse().unwrap()),
    };
    Connection::open(io, remote, options(tls)).await
}

fn envelope(to: &str) -> Envelope {
    Envelope {
        reverse_path: ReversePath::Null,
        body_type: BodyType::SevenBit,
        smtputf8: false,
        require_tls: false,
        delivery: Default::default(),
        ret: None,
        envid: None,
        recipients: vec![Address::parse(to).unwrap().into()],
    }
}

fn outgoing<S: MessageSource>(to: &str, source: S) -> OutgoingMessage<S> {
    OutgoingMessage {
        envelope: envelope(to),
        source,
    }
}

fn text() -> Bytes {
    Bytes::from_static(b"Subject: x\r\n\r\n.\r\n")
}

const EHLO: &[Act] = &[
    Say("220 mx.x.org"),
    Hear("EHLO client.example.org"),
    Say("250 mx.x.org"),
];
const PIPELINING: &[Act] = &[
    Say("220 mx.x.org"),
    Hear("EHLO"),
    Say("250-mx.x.org"),
    Say("250 PIPELINING"),
];
const STARTTLS: &[Act] = &[
    Say("220 mx.x.org"),
    Hear("EHLO"),
    Say("250-mx.x.org"),
    Say("250 STARTTLS"),
    Hear("STARTTLS"),
];
const MAIL: &[Act] = &[
    Hear("MAIL FROM:<>"),
    Say("250 ok"),
    Hear("RCPT TO:<a@x.org>"),
    Say("250 ok"),
    Hear("DATA"),
    Say("354 go"),
    HearText,
    Say("250 2.0.0 queued"),
];
const QUIT: &[Act] = &[Hear("QUIT"), Say("221 bye")];

#[tokio::test]
async fn one_message_and_quit() {
    let (io, served) = start(&[EHLO, MAIL, QUIT].concat(), None).await;
    let mut connection = open(io, TlsMode::Never).await.unwrap();
    assert_eq!(connection.extensions().name, "mx.x.org");
    let source = Prefixed {
        prefix: Bytes::from_static(b"DKIM-Signature: x\r\n"),
        message: text(),
    };
    let results = connection.send(vec![outgoing("a@x.org", source)]).await;
    let result = &results[0].recipients[0];
    assert!(result.status.is_success());
    assert_eq!(
        result.status.to_string(),
        "mx.x.org [127.0.0.1]: end of data: 250 2.0.0 queued"
    );
    assert!(connection.usable());
    connection.quit().await;
    let expected = "EHLO client.example.org\r\nMAIL FROM:<>\r\nRCPT TO:<a@x.org>\r\nDATA\r\n\
        DKIM-Signature: x\r\nSubject: x\r\n\r\n..\r\n.\r\nQUIT\r\n";
    assert_eq!(served.await.unwrap().unwrap(), expected);
}

#[tokio::test]
async fn many_messages_in_two_batches() {
    let mut script = PIPELINING.to_vec();
    for _ in 0..20 {
        script.extend_from_slice(MAIL);
    }
    let (io, served) = start(&script, None).await;
    let mut connection = open(io, TlsMode::Never).await.unwrap();
    for _ in 0..2 {
        let batch = (0..10).map(|_| outgoing("a@x.org", text())).collect();
        let results = connection.send(batch).await;
        assert_eq!(results.len(), 10);
        assert!(
            results
                .iter()
                .all(|result| result.recipients[0].status.is_success())
        );
    }
    connection.quit().await;
    assert_eq!(
        served
            .await
            .unwrap()
            .unwrap()
            .matches("..\r\n.\r\n")
            .count(),
        20
    );
}

#[tokio::test]
async fn a_server_that_goes_away_at_any_step() {
    let script = [EHLO, MAIL].concat();
    for length in 0..script.len() {
        let (io, served) = start(&script[..length], None).await;
        match open(io, TlsMode::Never).await {
            Err(status) => {
                assert!(length < 3, "{status}");
                assert!(matches!(status.cause, Cause::Lost), "{status}");
            }
            Ok(mut connection) => {
                let results = connection.send(vec![outgoing("a@x.org", text())]).await;
                let result = &results[0].recipients[0];
                assert_eq!(result.status.cause, Cause::Lost);
                assert!(result.status.is_transient());
                let uncertain = result
                    .status
                    .text
                    .ends_with("; the message may have been delivered");
                // From the DATA's 354 on the text is on its way.
                assert_eq!(
                    uncertain,
                    length >= EHLO.len() + 6,
                    "{length}: {}",
                    result.status
                );
                assert_eq!(result.again, Again::No);
                assert!(!connection.usable());
                let again = connection.send(vec![outgoing("a@x.org", text())]).await;
                assert_eq!(again[0].recipients[0].again, Again::NewConnection);
                connection.quit().await;
            }
        }
        // The server may find its client gone. Only the commands that it read matter.
        let _ = served.await.unwrap();
    }
}

#[tokio::test]
async fn refusals_and_garbage() {
    let cases: &[(&[Act], &str)] = &[
        (&[Hear("MAIL"), Say("550 5.7.1 no")], "MAIL: 550 5.7.1 no"),
        (
            &[Hear("MAIL"), Say("250 ok"), Hear("RCPT"), Say("450 later")],
            "RCPT: 450 later",
        ),
        (&[Hear("MAIL"), Say("421 bye")], "MAIL: 421 bye"),
        (
            &[Hear("MAIL"), Say("+OK")],
            "MAIL: 4.5.0 not an SMTP reply: \"+OK\"",
        ),
    ];
    for (script, expected) in cases {
        let (io, served) = start(&[EHLO, script].concat(), None).await;
        let mut connection = open(io, TlsMode::Never).await.unwrap();
        let results = connection.send(vec![outgoing("a@x.org", text())]).await;
        let shown = results[0].recipients[0].status.to_string();
        assert_eq!(shown, format!("mx.x.org [127.0.0.1]: {expected}"));
        served.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_server_that_says_nothing() {
    let cases: &[&[Act]] = &[&[], EHLO, &[EHLO, &MAIL[..7]].concat()];
    for script in cases {
        let (io, served) = start(&[script, &[Sleep] as &[Act]].concat(), None).await;
        let before = tokio::time::Instant::now();
        let status = match open(io, TlsMode::Never).await {
            Err(status) => status,
            Ok(mut connection) => {
                let results = connection.send(vec![outgoing("a@x.org", text())]).await;
                results[0].recipients[0].status.clone()
            }
        };
        assert_eq!(status.cause, Cause::Timeout, "{status}");
        assert!(before.elapsed() >= Duration::from_secs(300));
        let _ = served.await.unwrap();
        tokio::time::resume();
    }
}

#[tokio::test]
async fn a_server_that_replies_byte_by_byte() {
    let cases: &[&[Act]] = &[&[], EHLO, &[EHLO, &MAIL[..7]].concat()];
    for script in cases {
        let (io, served) = start(&[script, &[Dribble] as &[Act]].concat(), None).await;
        let status = match open(io, TlsMode::Never).await {
            Err(status) => status,
            Ok(mut connection) => {
                let results = connection.send(vec![outgoing("a@x.org", text())]).await;
                results[0].recipients[0].status.clone()
            }
        };
        assert_eq!(status.cause, Cause::Timeout, "{status}");
        let _ = served.await.unwrap();
        tokio::time::resume();
    }
}

/// A message that is made up while it is read, in pieces of odd sizes.
struct Long(u64);

impl Long {
    fn byte(offset: u64) -> u8 {
        b"Some line of text.\r\n."[usize::try_from(offset % 21).unwrap()]
    }
}

impl MessageSource for Long {
    fn size(&self) -> u64 {
        self.0
    }

    async fn read(&self, offset: u64, max: usize) -> io::Result<Bytes> {
        let end = self.0.min(offset + max.min(7777) as u64);
        Ok((offset..end).map(Self::byte).collect())
    }
}

#[tokio::test]
async fn a_long_text_to_a_slow_reader() {
    let size = 21 * 200_000;
    let (io, served) = start(&[EHLO, MAIL].concat(), None).await;
    let mut connection = open(io, TlsMode::Never).await.unwrap();
    let results = connection.send(vec![outgoing("a@x.org", Long(size))]).await;
    assert!(results[0].recipients[0].status.is_success());
    let heard = served.await.unwrap().unwrap();
    let text = heard
        .split_once("DATA\r\n")
        .unwrap()
        .1
        .strip_suffix("\r\n.\r\n")
        .unwrap();
    // Every line but the first begins with a dot. The last line is a doubled dot.
    let expected: Vec<u8> = (0..size).map(Long::byte).collect();
    assert_eq!(text.replace("\r\n..", "\r\n.").as_bytes(), expected);
}

#[tokio::test]
async fn a_long_text_in_chunks() {
    let size = 3 * 1024 * 1024;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let io = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (socket, _) = listener.accept().await.unwrap();
    let served = tokio::spawn(async move {
        let mut io = BufReader::new(socket);
        io.write_all(b"220 mx\r\n").await.unwrap();
        let mut text = Vec::new();
        let mut line = String::new();
        while io.read_line(&mut line).await.unwrap() > 0 {
            if let Some(chunk) = line.strip_prefix("BDAT ") {
                let length: usize = chunk.split_whitespace().next().unwrap().parse().unwrap();
                let start = text.len();
                text.resize(start + length, 0);
                io.read_exact(&mut text[start..]).await.unwrap();
            }
            let reply = match &line[..4] {
                "EHLO" => "250-mx\r\n250-CHUNKING\r\n250 PIPELINING\r\n",
                _ => "250 ok\r\n",
            };
            io.write_all(reply.as_bytes()).await.unwrap();
            line.clear();
        }
        text
    });
    let mut connection = open(io, TlsMode::Never).await.unwrap();
    let results = connection.send(vec![outgoing("a@x.org", Long(size))]).await;
    assert!(results[0].recipients[0].status.is_success());
    drop(connection);
    let expected: Vec<u8> = (0..size).map(Long::byte).collect();
    assert!(served.await.unwrap() == expected);
}

struct Unreadable;

impl MessageSource for Unreadable {
    fn size(&self) -> u64 {
        10
    }

    async fn read(&self, _offset: u64, _max: usize) -> io::Result<Bytes> {
        Err(io::ErrorKind::PermissionDenied.into())
    }
}

#[tokio::test]
async fn a_text_that_cannot_be_read() {
    let (io, served) = start(&[EHLO, MAIL].concat(), None).await;
    let mut connection = open(io, TlsMode::Never).await.unwrap();
    let results = connection.send(vec![outgoing("a@x.org", Unreadable)]).await;
    let status = &results[0].recipients[0].status;
    assert_eq!((status.cause, status.is_transient()), (Cause::Local, true));
    assert!(!connection.usable());
    drop(connection);
    assert_eq!(
        served.await.unwrap().unwrap_err().kind(),
        io::ErrorKind::UnexpectedEof
    );
}

/// The TLS of a server `mx.x.org`, and of a client that trusts it.
fn tls() -> (TlsAcceptor, Tls) {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let made = rcgen::generate_simple_self_signed(["mx.x.org".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions();
    let config = config
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key);
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap();
    let client = client.with_root_certificates(roots).with_no_client_auth();
    (
        Arc::new(config.unwrap()).into(),
        Tls {
            config: Arc::new(client),
            name: name("mx.x.org"),
        },
    )
}

fn name(name: &'static str) -> ServerName<'static> {
    ServerName::try_from(name).unwrap()
}

/// A configuration that accepts any certificate.
fn any_config() -> ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate::new(provider)))
        .with_no_client_auth()
}

#[tokio::test]
async fn starttls() {
    let (acceptor, trusting) = tls();
    let anyone = Tls {
        config: Arc::new(any_config()),
        name: name("another.org"),
    };
    for mode in [TlsMode::Required(trusting), TlsMode::Opportunistic(anyone)] {
        let script = [STARTTLS, &[Say("220 go"), StartTls], &EHLO[1..], MAIL, QUIT].concat();
        let (io, served) = start(&script, Some(acceptor.clone())).await;
        let mut connection = open(io, mode).await.unwrap();
        let tls = connection.tls().unwrap();
        assert_eq!(
            (tls.version.as_str(), &tls.cipher[..8]),
            ("TLSv1.3", "TLS_AES_")
        );
        assert!(!connection.extensions().start_tls);
        let certificate = Certificate::read(&connection.peer_certificates()[0]).unwrap();
        assert_eq!(certificate.names, ["mx.x.org"]);
        let results = connection.send(vec![outgoing("a@x.org", text())]).await;
        assert!(results[0].recipients[0].status.is_success());
        connection.quit().await;
        served.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn implicit_tls() {
    let (acceptor, trusting) = tls();
    let (io, served) = start(&[&[StartTls], EHLO, MAIL, QUIT].concat(), Some(acceptor)).await;
    let mut connection = open(io, TlsMode::Implicit(trusting)).await.unwrap();
    let results = connection.send(vec![outgoing("a@x.org", text())]).await;
    assert!(results[0].recipients[0].status.is_success());
    connection.quit().await;
    served.await.unwrap().unwrap();
}

/// The server stops reading amid a text. Then the socket takes nothing more, and no goodbye.
#[tokio::test]
async fn a_server_that_does_not_read_the_goodbye_is_left() {
    let (acceptor, trusting) = tls();
    let script = [
        STARTTLS,
        &[Say("220 go"), StartTls],
        &EHLO[1..],
        &MAIL[..6],
        &[Stall],
    ]
    .concat();
    let (io, served) = start(&script, Some(acceptor)).await;
    let mut connection = open(io, TlsMode::Required(trusting)).await.unwrap();
    let results = connection
        .send(vec![outgoing("a@x.org", Long(64 * 1024 * 1024))])
        .await;
    let status = &results[0].recipients[0].status;
    assert_eq!(status.cause, Cause::Timeout, "{status}");
    let quit = tokio::time::timeout(Duration::from_secs(60), connection.quit());
    quit.await.unwrap();
    served.abort();
}

/// Checks an opening that fails since there is no TLS. The failure is transient.
async fn check_tls_failure(
    script: &[Act],
    acceptor: Option<TlsAcceptor>,
    mode: TlsMode,
    kind: TlsFaultKind,
    text: &str,
) -> TlsFault {
    let (io, served) = start(script, acceptor).await;
    let Unopened { status, tls } = try_open(io, mode).await.unwrap_err();
    assert!(status.cause == Cause::Tls && !status.permanent, "{status}");
    let fault = *tls.unwrap();
    assert_eq!(fault.kind, kind, "{status}");
    assert!(status.text.starts_with(text), "{status}");
    assert_eq!(status.remote.as_deref(), Some("mx.x.org [127.0.0.1]"));
    // The server's side of a failed handshake is of no interest.
    let _ = served.await.unwrap();
    fault
}

#[tokio::test]
async fn starttls_that_fails() {
    use TlsFaultKind as Kind;
    let (acceptor, trusting) = tls();
    let required = || TlsMode::Required(trusting.clone());
    let text = "the server does not offer STARTTLS";
    check_tls_failure(EHLO, None, required(), Kind::NotOffered, text).await;
    let refused = [STARTTLS, &[Say("454 4.7.0 not now")]].concat();
    check_tls_failure(&refused, None, required(), Kind::Refused, "not now").await;
    // A certificate for another name, and one that nobody trusts.
    let wrong = Tls {
        name: name("another.org"),
        ..trusting.clone()
    };
    let accept = [STARTTLS, &[Say("220 go"), StartTls]].concat();
    let text = "the certificate is not valid";
    check_tls_failure(
        &accept,
        Some(acceptor.clone()),
        TlsMode::Required(wrong),
        Kind::NameMismatch,
        "the certificate is for another name",
    )
    .await;
    let stranger = Tls {
        config: tls().1.config,
        ..trusting.clone()
    };
    let stranger = TlsMode::Required(stranger);
    check_tls_failure(
        &accept,
        Some(acceptor),
        stranger,
        Kind::BadCertificate,
        text,
    )
    .await;
    // In the place of a handshake: bytes that are not TLS, the end, and silence.
    let injected = [STARTTLS, &[Say("220 go\r\n250 mx")]].concat();
    let text = "the server sent more than the reply";
    check_tls_failure(&injected, None, required(), Kind::Protocol, text).await;
    let not_tls = [STARTTLS, &[Say("220 go"), Hear("")]].concat();
    let text = "the connection ended during the TLS handshake";
    check_tls_failure(&not_tls, None, required(), Kind::Broken, text).await;
    let ends = [STARTTLS, &[Say("220 go")]].concat();
    check_tls_failure(&ends, None, required(), Kind::Broken, text).await;
    let sleeps = [STARTTLS, &[Say("220 go"), Sleep]].concat();
    let text = "the TLS handshake took too long";
    check_tls_failure(&sleeps, None, required(), Kind::TimedOut, text).await;
}

/// A verifier tells what is wrong with which certificate.
#[tokio::test]
async fn a_refused_certificate_is_named() {
    #[derive(Debug)]
    struct Refuses(AnyCertificate);
    impl ServerCertVerifier for Refuses {
        fn verify_server_cert(
            &self,
            leaf: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, rustls::Error> {
            let error = rustls::Error::InvalidCertificate(rustls::CertificateError::Expired);
            Err(TlsFault::refusal(&error, leaf))
        }
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            leaf: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            self.0.verify_tls12_signature(message, leaf, signed)
        }
        fn verify_tls13_signature(
            &self,
            message: &[u8],
            leaf: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            self.0.verify_tls13_signature(message, leaf, signed)
        }
        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.0.supported_verify_schemes()
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = any_config();
    let verifier = Refuses(AnyCertificate::new(provider));
    config
        .dangerous()
        .set_certificate_verifier(Arc::new(verifier));
    let refusing = Tls {
        config: Arc::new(config),
        name: name("mx.x.org"),
    };
    let accept = [STARTTLS, &[Say("220 go"), StartTls]].concat();
    let fault = check_tls_failure(
        &accept,
        Some(tls().0),
        TlsMode::Required(refusing),
        TlsFaultKind::Expired,
        "the certificate has expired (subject \"CN=rcgen self signed cert\", issuer",
    )
    .await;
    assert_eq!(fault.certificate.unwrap().names, ["mx.x.org"]);
}
