//! The log of the real program, and the traces of a server, at a collector of OpenTelemetry.

use std::{os::unix::fs::PermissionsExt as _, sync::Arc};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use nix::sys::signal::Signal;
use opentelemetry_proto::tonic::{
    collector::{logs::v1::ExportLogsServiceRequest, trace::v1::ExportTraceServiceRequest},
    common::v1::any_value::Value,
};
use prost::Message as _;
use tokio::{net::TcpListener, sync::watch};

use crate::support::{Setup, World, client::Client, patience::patiently, program::Program};

/// What a collector got: header fields and frames. It is out of order at the first request.
type Got = watch::Sender<Vec<(HeaderMap, Bytes)>>;

async fn take(State(got): State<Arc<Got>>, headers: HeaderMap, frame: Bytes) -> StatusCode {
    got.send_modify(|got| got.push((headers, frame)));
    match got.borrow().len() {
        1 => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::OK,
    }
}

/// The texts of all lines in the frames, with those of a field.
fn lines(frames: &[(HeaderMap, Bytes)], field: &str) -> Vec<(String, Option<Value>)> {
    let requests = frames.iter();
    let requests = requests.map(|(_, frame)| ExportLogsServiceRequest::decode(&**frame).unwrap());
    let logs = requests.flat_map(|request| request.resource_logs);
    let records = logs
        .flat_map(|logs| logs.scope_logs)
        .flat_map(|scope| scope.log_records);
    let records = records.map(|record| {
        let Some(Value::StringValue(text)) = record.body.and_then(|body| body.value) else {
            panic!("a line without a text");
        };
        let value = record.attributes.into_iter().find(|it| it.key == field);
        (text, value.and_then(|it| it.value).and_then(|it| it.value))
    });
    records.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_gets_the_log_also_after_it_was_down() {
    let got = Arc::new(Got::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new()
        .route("/v1/logs", post(take))
        .with_state(Arc::clone(&got));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let dir = tempfile::tempdir().unwrap();
    let headers = dir.path().join("headers");
    std::fs::write(&headers, "Authorization: Bearer Zcollector-secret\n").unwrap();
    std::fs::set_permissions(&headers, std::fs::Permissions::from_mode(0o600)).unwrap();
    let setup = Setup {
        statics: format!(
            "[otlp]\nendpoint = {endpoint:?}\nheaders_file = \"headers\"\n[log]\nlevel = \"trace\"\n"
        ),
        ..Setup::default()
    };
    let server = Program::start(&setup.write(dir.path()));
    server.address("test.smtp").await;
    let mut frames = got.subscribe();
    let has = |text: &'static str| {
        move |frames: &Vec<(HeaderMap, Bytes)>| {
            let taken = frames.get(1..).unwrap_or_default();
            lines(taken, "").iter().any(|(line, _)| line == text)
        }
    };
    patiently("the start", frames.wait_for(has("started")))
        .await
        .unwrap();
    server.signal(Signal::SIGTERM);
    // What waits at the end is sent too.
    patiently("the end", frames.wait_for(has("stopping")))
        .await
        .unwrap();
    server.logs("INFO stopped", 1).await;
    assert!(
        !server.log().contains("Zcollector-secret"),
        "{}",
        server.log()
    );
    let frames = got.borrow().clone();
    assert_eq!(
        frames[0].1, frames[1].1,
        "the request that failed came again"
    );
    for (headers, frame) in &frames {
        assert_eq!(headers["authorization"], "Bearer Zcollector-secret");
        assert_eq!(headers["content-type"], "application/x-protobuf");
        let secret = b"Zcollector-secret";
        assert!(!frame.windows(secret.len()).any(|bytes| bytes == secret));
    }
    let listening = lines(&frames[1..], "service");
    let expected = Value::StringValue("test.smtp".to_owned());
    assert!(
        listening.contains(&("listening".to_owned(), Some(expected))),
        "{listening:?}"
    );
}

/// A session that the stop of the server ends is not lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_gets_the_traces_that_end_while_the_server_stops() {
    let frames = Arc::new(watch::Sender::<Vec<Bytes>>::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let got = Arc::clone(&frames);
    let take = async move |frame| got.send_modify(|got| got.push(frame));
    let router = Router::new().route("/v1/traces", post(take));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let setup = Setup {
        statics: format!("[otlp]\nendpoint = {endpoint:?}\nlogs = false\n"),
        ..Setup::default()
    };
    let world = World::start(setup).await;
    let smtp = world.server.address("smtp").unwrap();
    let mut client = Client::connect(smtp).await;
    client.expect("EHLO client.test", "250").await;
    client.expect("MAIL FROM:<a@remote.test>", "250").await;
    client.expect("RCPT TO:<nobody@example.org>", "550").await;
    patiently("the end", world.server.stop()).await;
    let frames = frames.borrow().clone();
    let spans: Vec<_> = { frames.iter() }
        .map(|frame| ExportTraceServiceRequest::decode(&**frame).unwrap())
        .flat_map(|request| request.resource_spans)
        .flat_map(|of_resource| of_resource.scope_spans)
        .flat_map(|of_scope| of_scope.spans)
        .map(|span| span.name)
        .collect();
    assert_eq!(spans, ["session"]);
}
