//! TLS at the sockets: tickets, protocols (ALPN), server names, and handshakes that fail.

use std::{net::SocketAddr, path::Path, sync::Arc};

use postrider_smtp::HandshakeFailure;
use rustls::{ClientConfig, HandshakeKind, RootCertStore, pki_types::ServerName, version};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::support::{
    PASSWORD, Setup, World, base64,
    client::Client,
    message,
    patience::patiently,
    tls::{Hello, client_config, config_of, handshake},
};

const HELLO: Hello<'_> = Hello {
    name: Some("localhost"),
    alpn: &[],
};

/// A server with HTTPS, whose postrider.conf is changed at these places.
async fn world(changes: &[(&str, &str)]) -> World {
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup {
        statics: "webapi_https = { enabled = true, port = 0 }\n".to_owned(),
        ..Setup::default()
    };
    let conf = setup.write(dir.path());
    let mut text = std::fs::read_to_string(&conf).unwrap();
    for (old, new) in changes {
        assert!(text.contains(old), "{old} in {text}");
        text = text.replace(old, new);
    }
    std::fs::write(&conf, text).unwrap();
    World::start_in(dir).await
}

async fn secure(config: Arc<ClientConfig>, stream: TcpStream) -> TlsStream<TcpStream> {
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(config)
        .connect(name, stream)
        .await
        .unwrap()
}

/// The replies up to the last line of one.
async fn hear(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    use tokio::io::AsyncReadExt;

    let mut heard = String::new();
    while !heard
        .lines()
        .any(|line| line.as_bytes().get(3) == Some(&b' '))
        || !heard.ends_with('\n')
    {
        let byte = patiently("a reply", stream.read_u8()).await.unwrap();
        heard.push(char::from(byte));
    }
    heard
}

async fn say(
    stream: &mut (impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin),
    line: &str,
) -> String {
    use tokio::io::AsyncWriteExt;

    stream
        .write_all(format!("{line}\r\n").as_bytes())
        .await
        .unwrap();
    stream.flush().await.unwrap();
    hear(stream).await
}

/// Makes a connection, uses it, and gives the kind of its handshake.
async fn kind_of(address: SocketAddr, starttls: bool, config: &Arc<ClientConfig>) -> HandshakeKind {
    let mut stream = TcpStream::connect(address).await.unwrap();
    if starttls {
        hear(&mut stream).await;
        say(&mut stream, "EHLO a.test").await;
        say(&mut stream, "STARTTLS").await;
    }
    let mut stream = secure(Arc::clone(config), stream).await;
    if !starttls {
        hear(&mut stream).await;
    }
    // A ticket comes before the reply.
    say(&mut stream, "EHLO a.test").await;
    let kind = stream.get_ref().1.handshake_kind().unwrap();
    let said = say(&mut stream, "QUIT").await;
    assert!(said.starts_with("221"), "{said}");
    kind
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_are_resumed_but_not_at_port_25() {
    let world = world(&[]).await;
    for versions in [[&version::TLS13], [&version::TLS12]] {
        for (service, starttls, second) in [
            ("smtp", true, HandshakeKind::Full),
            ("submission", true, HandshakeKind::Resumed),
            ("submissions", false, HandshakeKind::Resumed),
        ] {
            let config = config_of(HELLO, &versions);
            let address = world.server.address(service).unwrap();
            let first = kind_of(address, starttls, &config).await;
            assert_ne!(first, HandshakeKind::Resumed, "{service}");
            let kind = kind_of(address, starttls, &config).await;
            assert_eq!(
                kind == HandshakeKind::Resumed,
                second == HandshakeKind::Resumed,
                "{service}"
            );
        }
    }
    // Tickets of one service are good at another one of the listener.
    let config = client_config(HELLO);
    let submission = world.server.address("submission").unwrap();
    let submissions = world.server.address("submissions").unwrap();
    kind_of(submission, true, &config).await;
    let kind = kind_of(submissions, false, &config).await;
    assert_eq!(kind, HandshakeKind::Resumed);

    // After a restart the keys are others.
    kind_of(submission, true, &config).await;
    let world = world.restart().await;
    let submission = world.server.address("submission").unwrap();
    assert_ne!(
        kind_of(submission, true, &config).await,
        HandshakeKind::Resumed
    );
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tickets_at_port_25_are_a_choice() {
    let on = "smtp = { enabled = true, port = 0, tls_tickets = true }";
    let world = world(&[("smtp = { enabled = true, port = 0 }", on)]).await;
    let address = world.server.address("smtp").unwrap();
    let config = client_config(HELLO);
    kind_of(address, true, &config).await;
    assert_eq!(
        kind_of(address, true, &config).await,
        HandshakeKind::Resumed
    );
    world.server.stop().await;
}

/// A connection to a port that begins with TLS, with the protocol that was agreed on. None: an
/// alert.
async fn agreed(address: SocketAddr, alpn: &[&[u8]]) -> Option<(Client, Option<Vec<u8>>)> {
    let stream = TcpStream::connect(address).await.unwrap();
    let hello = Hello { alpn, ..HELLO };
    let stream = handshake(Box::new(stream), hello).await.ok()?;
    let protocol = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
    Some((Client::over(Box::new(stream)), protocol))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn submission_on_the_https_port() {
    let off = "submissions = { enabled = true, port = 0 }";
    let on = "submissions = { enabled = false, on_https = true }";
    let world = world(&[(off, on)]).await;
    let https = world.server.address("webapi_https").unwrap();
    let (client, protocol) = agreed(https, &[b"smtp"]).await.unwrap();
    assert_eq!(protocol.as_deref(), Some(&b"smtp"[..]));
    let mut client = client.greeted().await;
    let offered = client.expect("EHLO a.test", "250").await;
    assert!(
        offered.contains("AUTH ") && !offered.contains("STARTTLS"),
        "{offered}"
    );
    // A login can be bound to the certificate. An error in the place of the salt would say no.
    let first = base64(b"p=tls-server-end-point,,n=app@example.org,r=client");
    let auth = format!("AUTH SCRAM-SHA-256-PLUS {first}");
    let salt = client.expect(&auth, "334").await;
    let begins = base64(b"r=client");
    assert!(
        salt.starts_with(&format!("334 {}", &begins[..10])),
        "{salt}"
    );
    client.expect("*", "501").await;
    let secret = base64(format!("\0app@example.org\0{PASSWORD}").as_bytes());
    client.expect(&format!("AUTH PLAIN {secret}"), "235").await;
    let text = message("alpn");
    let sent = client.submit("app@example.org", &["rcpt@remote.test"], &text);
    let reply = sent.await;
    assert!(reply.starts_with("250 2.0.0"), "{reply}");
    client.expect("QUIT", "221").await;
    assert_eq!(client.rest().await, "");

    // Without a protocol, and with one of HTTP beside it, the client gets HTTP.
    let request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    for (offer, expected) in [
        (&[][..], None),
        (&[&b"smtp"[..], b"http/1.1"][..], Some(&b"http/1.1"[..])),
        (&[b"http/1.1", b"smtp"], Some(b"http/1.1")),
    ] {
        let (mut client, protocol) = agreed(https, offer).await.unwrap();
        assert_eq!(protocol.as_deref(), expected);
        client.send(request).await;
        let answer = client.rest().await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    let (_, protocol) = agreed(https, &[b"smtp", b"h2"]).await.unwrap();
    assert_eq!(protocol.as_deref(), Some(&b"h2"[..]));
    world.all_ended().await;
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_on_https_there_is_no_submission_and_elsewhere_offers_do_no_harm() {
    let world = world(&[]).await;
    let https = world.server.address("webapi_https").unwrap();
    assert!(agreed(https, &[b"smtp"]).await.is_none());
    let submissions = world.server.address("submissions").unwrap();
    for offer in [&[&b"smtp"[..]][..], &[b"h2", b"http/1.1"], &[b"imap"]] {
        let (client, protocol) = agreed(submissions, offer).await.unwrap();
        assert_eq!(protocol, None);
        client.greeted().await.expect("QUIT", "221").await;
        let config = client_config(Hello {
            alpn: offer,
            ..HELLO
        });
        for service in ["smtp", "submission"] {
            kind_of(world.server.address(service).unwrap(), true, &config).await;
        }
    }
    world.server.stop().await;
}

/// The certificate that a client of port 25 gets.
async fn certificate(address: SocketAddr, name: Option<&str>) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    hear(&mut stream).await;
    say(&mut stream, "EHLO a.test").await;
    say(&mut stream, "STARTTLS").await;
    let hello = Hello { name, alpn: &[] };
    let stream = handshake(Box::new(stream), hello).await.unwrap();
    let (_, connection) = stream.get_ref();
    connection.peer_certificates().unwrap()[0].to_vec()
}

fn names(certificate: &[u8]) -> String {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).unwrap();
    let names = parsed.subject_alternative_name().unwrap().unwrap();
    names
        .value
        .general_names
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn replace(dir: &Path, name: &str) {
    let other = tempfile::tempdir().unwrap();
    let made = postrider::tls::ensure_self_signed(other.path(), &[name.to_owned()]).unwrap();
    std::fs::copy(made.key, dir.join("localserve.key")).unwrap();
    std::fs::copy(made.cert, dir.join("localserve.crt")).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn port_25_has_a_certificate_for_any_name_and_new_files_are_shown() {
    let world = world(&[]).await;
    let smtp = world.server.address("smtp").unwrap();
    for name in [Some("localhost"), Some("unknown.test"), None] {
        let shown = names(&certificate(smtp, name).await);
        assert!(shown.contains("localhost"), "{shown}");
    }
    replace(world.dir.path(), "renewed.test");
    world.server.read_again();
    let shown = names(&certificate(smtp, Some("unknown.test")).await);
    assert!(shown.contains("renewed.test"), "{shown}");
    // A file that is no certificate changes nothing.
    std::fs::write(world.dir.path().join("localserve.crt"), "no PEM").unwrap();
    world.server.read_again();
    let shown = names(&certificate(smtp, None).await);
    assert!(shown.contains("renewed.test"), "{shown}");
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handshakes_that_fail_are_counted_by_their_kind() {
    let world = world(&[]).await;
    let counted = async |kind, count| {
        let failures = world.server.handshake_failures();
        let all = async {
            while failures.count(kind) < count {
                tokio::task::yield_now().await;
            }
        };
        patiently(kind.as_str(), all).await;
        assert_eq!(failures.count(kind), count);
    };
    let ports =
        ["submissions", "webapi_https"].map(|service| world.server.address(service).unwrap());
    for (address, count) in ports.into_iter().zip(1..) {
        let mut client = Client::open(address, b"EHLO a.test\r\n").await;
        // The answer is an alert in bytes of TLS, or none.
        client.close_half().await;
        counted(HandshakeFailure::NotTls, count).await;

        drop(Client::open(address, b"").await);
        counted(HandshakeFailure::EndOfStream, count).await;

        let strict = ClientConfig::builder_with_provider(Arc::new(
            rustls::crypto::aws_lc_rs::default_provider(),
        ));
        let strict = strict.with_safe_default_protocol_versions().unwrap();
        let strict = strict
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let stream = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let refused = TlsConnector::from(Arc::new(strict)).connect(name, stream);
        refused.await.unwrap_err();
        counted(HandshakeFailure::Alert, count).await;
    }
    assert!(agreed(ports[1], &[b"smtp"]).await.is_none());
    counted(HandshakeFailure::Refused, 1).await;
    world.all_ended().await;
    world.server.stop().await;
}
