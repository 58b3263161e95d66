//! Requests to a host on loopback.

use postrider_dns::FakeResolver;
use tokio::net::TcpStream;

use super::*;
use crate::{
    dial::Dialing,
    https_host::{Answer, Ca, HttpsHost},
};

/// Leads all connections but those to 192.0.2.9 to one host.
struct Leading(SocketAddr);

impl Dialer for Leading {
    fn dial(&self, address: SocketAddr, _: Option<IpAddr>) -> Dialing {
        let target = self.0;
        Box::pin(async move {
            match address.to_string().as_str() {
                "192.0.2.9:443" => Err(io::ErrorKind::ConnectionRefused.into()),
                _ => Ok(TcpStream::connect(target).await?.into()),
            }
        })
    }
}

/// A host with this answer, and a client that knows its CA.
async fn world(answer: Answer) -> (HttpsHost, Arc<ClientConfig>, FakeResolver) {
    let (ca, dir) = (Ca::new(), tempfile::tempdir().unwrap());
    std::fs::write(dir.path().join("ca.pem"), ca.pem()).unwrap();
    let statics = "hostname = \"mail.example.org\"\npostmaster.account = \"app\"\n\
        tls.ca_files = [\"ca.pem\"]\n[listeners.l]\nips = [\"127.0.0.1\"]\n";
    let statics = Static::parse(statics, dir.path().join("postrider.conf")).unwrap();
    let tls = Arc::new(tls_config(&statics).unwrap());
    let resolver = FakeResolver::default();
    for name in ["host.test", "other.test"] {
        resolver.add_address(name, "192.0.2.9");
        resolver.add_address(name, "192.0.2.1");
    }
    let host = HttpsHost::start(ca.server(&["host.test"]), answer).await;
    (host, tls, resolver)
}

type World = (HttpsHost, Arc<ClientConfig>, FakeResolver);

async fn get(world: &World, name: &str) -> Result<(u16, usize), String> {
    get_by(world, name, false).await
}

async fn get_by(world: &World, name: &str, only_public: bool) -> Result<(u16, usize), String> {
    let (host, tls, resolver) = world;
    let client = HttpsClient {
        resolver,
        dialer: &Leading(host.address),
        tls: Arc::clone(tls),
        limit: Duration::from_secs(60),
        only_public,
    };
    let answer = client.get(name, HTTPS_PORT, "/a").await;
    let answer = answer.map_err(|error| error.to_string())?;
    Ok((answer.status, answer.body.len()))
}

#[tokio::test]
async fn an_answer_is_taken_up_to_its_limit_and_no_redirect_is_followed() {
    let world = world(Answer::of(200, "text")).await;
    assert_eq!(get(&world, "host.test").await, Ok((200, 4)));
    let requests = world.0.requests(1).await;
    assert!(
        requests[0].starts_with("GET /a HTTP/1.1\r\nhost: host.test\r\n"),
        "{requests:?}"
    );
    let full = "x".repeat(ANSWER_MAX);
    world.0.answer(Answer::of(200, &full));
    assert_eq!(get(&world, "host.test").await, Ok((200, ANSWER_MAX)));
    let chunk = format!("HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n10001\r\nx{full}\r\n");
    for large in [
        Answer::of(200, &format!("x{full}")),
        Answer::Bytes(chunk.into_bytes()),
    ] {
        world.0.answer(large);
        let error = get(&world, "host.test").await.unwrap_err();
        assert!(
            error.contains("could not be read (length limit exceeded)"),
            "{error}"
        );
    }
    let moved = "HTTP/1.1 301 x\r\nLocation: https://host.test/b\r\nContent-Length: 0\r\n\r\n";
    world.0.answer(Answer::Bytes(moved.into()));
    assert_eq!(get(&world, "host.test").await, Ok((301, 0)));
    assert_eq!(world.0.requests(5).await.len(), 5);
}

#[tokio::test]
async fn hosts_of_strangers_are_not_looked_for_inside() {
    let world = world(Answer::of(200, "text")).await;
    let (_, _, resolver) = &world;
    resolver.remove("host.test");
    resolver.add_address("host.test", "::ffff:10.0.0.1");
    resolver.add_address("host.test", "127.0.0.1");
    let error = get_by(&world, "host.test", true).await.unwrap_err();
    assert_eq!(error, "host.test has no address that may be used");
    assert_eq!(get(&world, "host.test").await, Ok((200, 4)));
    resolver.add_address("host.test", "192.0.2.1");
    assert_eq!(get_by(&world, "host.test", true).await, Ok((200, 4)));
}

#[tokio::test]
async fn each_failure_is_told_by_its_kind() {
    let world = world(Answer::Bytes(b"no HTTP\r\n\r\n".to_vec())).await;
    world.2.exist("empty.test");
    world.2.add_address("refuses.test", "192.0.2.9");
    world.2.add_address("a..test", "192.0.2.1");
    for (name, expected) in [
        ("host.test", "the HTTP request failed ("),
        (
            "other.test",
            "the certificate does not fit (the certificate is for another name (subject",
        ),
        ("empty.test", "empty.test: the name has no such records"),
        (
            "refuses.test",
            "192.0.2.9 port 443 can't be reached from here (connection refused)",
        ),
        ("a..test", "a..test is a name that no certificate can have"),
    ] {
        let error = get(&world, name).await.unwrap_err();
        assert!(error.starts_with(expected), "{error}");
    }
    // A host of another CA.
    let host = HttpsHost::start(Ca::new().server(&["host.test"]), Answer::of(200, "")).await;
    let error = get(&(host, world.1, world.2), "host.test")
        .await
        .unwrap_err();
    assert!(error.contains("the certificate does not fit"), "{error}");
}

#[tokio::test]
async fn a_host_that_says_nothing_costs_a_limited_time() {
    let world = world(Answer::Silence).await;
    let asking = get(&world, "host.test");
    tokio::pin!(asking);
    tokio::select! {
        _ = &mut asking => panic!("an answer out of nothing"),
        _ = world.0.requests(1) => {}
    }
    tokio::time::pause();
    let error = asking.await.unwrap_err();
    assert_eq!(error, "no answer within 60 s from here");
}
