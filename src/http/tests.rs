//! What clients of HTTP can and cannot do to a connection.

use std::sync::atomic::AtomicBool;

use axum::{
    body::{Body, Bytes},
    routing::{get, post},
};
use futures_util::{StreamExt, stream};
use hyper::client::conn::http2;
use postrider_observe::metrics::Listener;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    sync::Notify,
    task::JoinHandle,
};

use super::*;
use crate::{
    gate::{Gate, Kind},
    idle::IDLE,
};

/// The length of the answer of `/long`.
const LONG: usize = 10 << 20;

/// A client of a server that takes each POST. `buffer` bytes fit between the two. The clock
/// moves as soon as both sides wait.
fn client(buffer: usize) -> (DuplexStream, JoinHandle<Result<(), String>>) {
    let router = Router::new()
        .route("/", post(async |body: Bytes| format!("{}\n", body.len())))
        .route("/refused", post(async || "no"))
        .route("/long", get(async || Body::from(vec![b'x'; LONG])))
        .route("/slow", post(slow));
    let (client, server) = tokio::io::duplex(buffer);
    let remote = SocketAddr::from(([192, 0, 2, 1], 1234));
    let serving = tokio::spawn(async move {
        let (_running, shutdown) = watch::channel(false);
        exchange(server, remote, (router, Arc::default()), shutdown, ()).await
    });
    (client, serving)
}

/// An answer that takes longer than an idle connection may last.
async fn slow() -> Body {
    tokio::time::sleep(3 * IDLE).await;
    Body::from_stream(stream::once(async {
        tokio::time::sleep(3 * IDLE).await;
        Ok::<_, Infallible>("at last")
    }))
}

async fn all(mut client: DuplexStream) -> String {
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(start_paused = true)]
async fn a_header_or_a_body_that_stops_coming_ends_the_connection() {
    for silent in [&b""[..], b"PRI"] {
        let (mut slow, serving) = client(4096);
        slow.write_all(silent).await.unwrap();
        assert_eq!(all(slow).await, "");
        assert!(serving.await.unwrap().is_err());
    }

    let (mut slow, serving) = client(4096);
    slow.write_all(b"POST / HTTP/1.1\r\nHost: x\r\n")
        .await
        .unwrap();
    assert_eq!(all(slow).await, "");
    assert!(serving.await.unwrap().is_err());

    let (mut slow, serving) = client(4096);
    slow.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345")
        .await
        .unwrap();
    let answer = all(slow).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    serving.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_body_that_comes_slowly_is_read() {
    let (mut slow, serving) = client(4096);
    slow.write_all(
        b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 10\r\n\r\n",
    )
    .await
    .unwrap();
    for _ in 0..10 {
        tokio::time::sleep(BODY_TIMEOUT - Duration::from_secs(1)).await;
        slow.write_all(b"x").await.unwrap();
    }
    let answer = all(slow).await;
    assert!(answer.ends_with("\r\n\r\n10\n"), "{answer}");
    serving.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_sends_a_long_body_to_its_end_hears_that_it_was_refused() {
    let body = vec![b'x'; LONG];
    let head = format!("POST /refused HTTP/1.1\r\nHost: x\r\nContent-Length: {LONG}\r\n\r\n");
    let (mut eager, serving) = client(64 << 10);
    eager.write_all(head.as_bytes()).await.unwrap();
    eager.write_all(&body).await.unwrap();
    let answer = all(eager).await;
    assert!(answer.ends_with("\r\n\r\nno"), "{answer}");
    // It has no other request to send here.
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    serving.await.unwrap().unwrap();

    // The server does not read an endless body for ever.
    let (mut endless, serving) = client(64 << 10);
    endless
        .write_all(head.replace(&LONG.to_string(), "99999999999").as_bytes())
        .await
        .unwrap();
    while endless.write_all(&body[..1000]).await.is_ok() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    serving.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn after_a_short_body_that_nobody_read_the_connection_goes_on() {
    let (mut stream, serving) = client(64 << 10);
    let short = b"POST /refused HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n12345";
    let last = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\nab";
    stream.write_all(short).await.unwrap();
    stream.write_all(last).await.unwrap();
    let answers = all(stream).await;
    assert_eq!(answers.matches("connection: close").count(), 1, "{answers}");
    assert!(
        answers.contains("no") && answers.ends_with("2\n"),
        "{answers}"
    );
    serving.await.unwrap().unwrap();

    // A client that holds its body back is not asked for it.
    let (mut stream, serving) = client(64 << 10);
    let asks =
        b"POST /refused HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    stream.write_all(asks).await.unwrap();
    let answer = all(stream).await;
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("no"),
        "{answer}"
    );
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    serving.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn in_http2_the_rest_of_a_refused_body_is_read_before_the_stream_ends() {
    let (stream, _serving) = client(64 << 10);
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let ended = Arc::new(AtomicBool::new(false));
    let end = Arc::clone(&ended);
    let body = stream::iter(["first", "second"]).then(move |piece| {
        let end = Arc::clone(&end);
        async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            end.store(piece == "second", Ordering::Relaxed);
            Ok::<_, Infallible>(Bytes::from(piece))
        }
    });
    let request = Request::post("http://x/refused").body(Body::from_stream(body));
    let answer = sender.send_request(request.unwrap()).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(ended.load(Ordering::Relaxed), "all of the body was read");
    // The server does not wait for the end of an endless body.
    let endless = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
    let request = Request::post("http://x/refused").body(endless);
    let answer = sender.send_request(request.unwrap()).await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_request_with_two_readings_is_refused() {
    let chunked = "Transfer-Encoding: chunked\r\n";
    let length = "Content-Length: 5\r\n";
    let host = "Host: x\r\n";
    for (fields, fault) in [
        (String::new(), "no Host"),
        (format!("{host}Host: y\r\n"), "two Host"),
        (format!("{host}{chunked}{chunked}"), "two Transfer-Encoding"),
        (format!("{host}{length}{length}"), "two Content-Length"),
        (
            format!("{host}{length}{chunked}"),
            "and a Transfer-Encoding",
        ),
        (
            format!("{host}{chunked}{length}"),
            "and a Transfer-Encoding",
        ),
    ] {
        let (mut smuggler, serving) = client(4096);
        // The first request is fine. The bytes after the second one are not read as a request.
        let wire = format!(
            "POST / HTTP/1.1\r\n{host}{length}\r\nfirst\
             POST / HTTP/1.1\r\n{fields}\r\n0\r\n\r\n\
             POST / HTTP/1.1\r\n{host}{length}\r\nthird"
        );
        smuggler.write_all(wire.as_bytes()).await.unwrap();
        let answers = all(smuggler).await;
        let statuses: Vec<&str> = answers
            .match_indices("HTTP/1.1 ")
            .filter_map(|(at, status)| answers.get(at + status.len()..at + status.len() + 3))
            .collect();
        assert_eq!(statuses, ["200", "400"], "{fields:?}: {answers}");
        assert!(answers.contains(fault), "{fields:?}: {answers}");
        assert!(answers.contains("connection: close"), "{answers}");
        serving.await.unwrap().unwrap();
    }
    let (mut old, _serving) = client(4096);
    old.write_all(b"POST / HTTP/1.0\r\nContent-Length: 3\r\n\r\nold")
        .await
        .unwrap();
    let answer = all(old).await;
    assert!(answer.ends_with("\r\n\r\n3\n"), "{answer}");
}

/// A client of HTTP/2 that answers pings.
async fn multiplexed(buffer: usize) -> (http2::SendRequest<Body>, JoinHandle<Result<(), String>>) {
    let (stream, serving) = client(buffer);
    let stream = TokioIo::new(stream);
    let (sender, connection) = http2::handshake(TokioExecutor::new(), stream)
        .await
        .unwrap();
    tokio::spawn(connection);
    (sender, serving)
}

#[tokio::test(start_paused = true)]
async fn an_http2_connection_without_work_ends() {
    let begun = tokio::time::Instant::now();
    // The client may close first, so the result of the connection can be either.
    let (_silent, serving) = multiplexed(4096).await;
    let _ = serving.await.unwrap();
    assert!((IDLE..2 * IDLE).contains(&begun.elapsed()));

    let (mut once, serving) = multiplexed(4096).await;
    let request = Request::post("http://x/refused").body(Body::empty());
    let answer = once.send_request(request.unwrap()).await.unwrap();
    assert_eq!(answer.status(), 200);
    let _ = serving.await.unwrap();

    // The window of the stream is full, and the client does not read on.
    let (mut lazy, serving) = multiplexed(64 << 10).await;
    let request = Request::get("http://x/long").body(Body::empty()).unwrap();
    let answer = lazy.send_request(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    serving.await.unwrap().unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn an_http2_connection_with_a_long_answer_goes_on() {
    let (mut patient, serving) = multiplexed(4096).await;
    let request = Request::post("http://x/slow").body(Body::empty()).unwrap();
    let answer = patient.send_request(request).await.unwrap();
    let bytes = axum::body::to_bytes(Body::new(answer.into_body()), 100).await;
    assert_eq!(bytes.unwrap(), "at last");
    drop(patient);
    serving.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn in_http2_the_host_must_be_clear_too() {
    let (mut sender, _serving) = multiplexed(4096).await;
    for (hosts, status) in [
        (&["x"][..], 200),
        (&["X"], 200),
        (&["y"], 400),
        (&["x", "x"], 400),
    ] {
        let mut request = Request::post("http://x/refused");
        for host in hosts {
            request = request.header("host", *host);
        }
        let request = request.body(Body::empty()).unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.status(), status, "{hosts:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_reads_ends_the_connection() {
    let (mut lazy, serving) = client(4096);
    lazy.write_all(b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    assert!(serving.await.unwrap().is_err());
    assert!(all(lazy).await.len() < LONG);
}

/// A request whose answer waits for the test.
#[derive(Default)]
struct Held {
    begun: Notify,
    release: Notify,
}

/// A server and its stop signal. It answers `/` at once and `/held` on request; the answer of
/// `/endless` never ends. `/upgraded` gives back what it gets.
async fn server() -> (SocketAddr, watch::Sender<bool>, Arc<Held>, JoinHandle<()>) {
    let held = Arc::<Held>::default();
    let handler = Arc::clone(&held);
    let router = Router::new()
        .route("/", get(async || "done"))
        .route(
            "/held",
            get(move || async move {
                handler.begun.notify_one();
                handler.release.notified().await;
                "done"
            }),
        )
        .route("/upgraded", get(upgraded))
        .route(
            "/endless",
            get(async || Body::from_stream(stream::pending::<Result<Bytes, Infallible>>())),
        );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopping) = watch::channel(false);
    let port = Port {
        entrance: entrance(door(), &[], false),
        tls: None,
        handshakes: Arc::default(),
        requests: Arc::default(),
        submission: None,
    };
    let serving = tokio::spawn(serve(listener, port, router, stopping));
    (address, stop, held, serving)
}

/// Another protocol on the connection, as a WebSocket is: the client gets back what it sends.
async fn upgraded(mut request: axum::extract::Request) -> Response<Body> {
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let stream = TokioIo::new(upgrade.await.unwrap());
        let (mut reader, mut writer) = tokio::io::split(stream);
        tokio::io::copy(&mut reader, &mut writer).await.unwrap();
    });
    let head = [(CONNECTION, "upgrade"), (hyper::header::UPGRADE, "echo")];
    (StatusCode::SWITCHING_PROTOCOLS, head).into_response()
}

fn door() -> Door {
    Gate::new(10, 10, &[]).door(Kind::Http, false, (&Arc::default(), Listener::Http))
}

/// A connection that sent this request.
async fn ask(address: SocketAddr, path: &str) -> TcpStream {
    let mut client = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    client
}

async fn rest(client: &mut TcpStream) -> String {
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn at_a_stop_idle_connections_are_closed_and_running_requests_are_answered() {
    let (address, stop, held, serving) = server().await;
    let mut idle = ask(address, "/").await;
    let mut running = ask(address, "/held").await;
    assert_ne!(idle.read(&mut [0; 1000]).await.unwrap(), 0);
    held.begun.notified().await;

    stop.send(true).unwrap();
    assert_eq!(rest(&mut idle).await, "");
    held.release.notify_one();
    assert!(rest(&mut running).await.ends_with("\r\n\r\ndone"));
    serving.await.unwrap();
}

#[tokio::test]
async fn an_upgraded_connection_keeps_its_place_until_it_ends() {
    let (address, stop, _held, serving) = server().await;
    let mut client = TcpStream::connect(address).await.unwrap();
    let request =
        "GET /upgraded HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
    client.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "));
    // These bytes are no requests, whatever they look like.
    let bytes = b"GET / HTTP/1.1\r\n\r\n\x00";
    for _ in 0..2 {
        client.write_all(bytes).await.unwrap();
        let mut echo = [0; 19];
        client.read_exact(&mut echo).await.unwrap();
        assert_eq!(&echo, bytes);
        assert!(!serving.is_finished(), "the server waits for it");
        stop.send_replace(true);
    }
    drop(client);
    serving.await.unwrap();
}

#[tokio::test]
async fn what_does_not_end_by_itself_is_cut_off_after_a_stop() {
    let (address, stop, _held, serving) = server().await;
    let mut endless = ask(address, "/endless").await;
    let mut head = [0; 15];
    endless.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    // From here on the clock moves as soon as both sides wait.
    tokio::time::pause();
    stop.send(true).unwrap();
    serving.await.unwrap();
    while endless
        .read(&mut [0; 1000])
        .await
        .is_ok_and(|read| read > 0)
    {}
}

#[test]
fn the_refusal_is_an_answer_of_http() {
    let (head, body) = std::str::from_utf8(REFUSAL)
        .unwrap()
        .split_once("\r\n\r\n")
        .unwrap();
    assert!(head.ends_with(&format!("Content-Length: {}", body.len())));
}

#[test]
fn requests_count_for_what_answers_them_and_those_for_health_for_nothing() {
    let counts = RequestCounts {
        metrics: Arc::default(),
        paths: vec![
            ("/webapi/".to_owned(), Api::Webapi),
            ("/".to_owned(), Api::WellKnown),
        ],
    };
    let expected = [
        ("/webapi/v0/Send", Some(Api::Webapi)),
        ("/.well-known/mta-sts.txt", Some(Api::WellKnown)),
        ("/healthz", None),
    ];
    for (path, api) in expected {
        assert_eq!(counts.api(path), api, "{path}");
    }
}

/// 503 is no fault of ours: nobody who watches 5xx is called for it.
#[test]
fn an_answer_counts_for_the_class_of_its_status() {
    let counts = RequestCounts::default();
    for (status, class) in [
        (101, StatusClass::Two),
        (200, StatusClass::Two),
        (303, StatusClass::Three),
        (429, StatusClass::Four),
        (500, StatusClass::Five),
        (502, StatusClass::Five),
        (503, StatusClass::Unavailable),
    ] {
        let counter = counts
            .metrics
            .http_requests_total
            .with((Api::Webapi, class));
        let before = counter.get();
        counts.count(
            Api::Webapi,
            StatusCode::from_u16(status).unwrap(),
            Duration::ZERO,
        );
        assert_eq!(counter.get(), before + 1, "{status}");
    }
}
