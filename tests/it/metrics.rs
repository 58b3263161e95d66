//! The metrics of the real server: all are there from the start, and count what happens.

use std::{collections::BTreeMap, net::SocketAddr};

use postrider_observe::metrics::Metrics;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{PASSWORD, Setup, World, patience::patiently, webapi};

/// The values of all series of the page.
async fn series(address: SocketAddr) -> BTreeMap<String, f64> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, page) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.0 200 "), "{head}");
    let kind = "content-type: text/plain; version=0.0.4; charset=utf-8";
    assert!(head.to_lowercase().contains(kind), "{head}");
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    let values = lines.map(|line| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        (name.to_owned(), value.parse().unwrap())
    });
    values.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_metrics_are_there_and_count_what_happens() {
    let world = World::start(Setup {
        statics: "admin_http = { enabled = true, port = 0 }\n\
            metrics_http = { enabled = true, port = 0 }\n\
            [hooks.scan]\nurl = \"http://127.0.0.1:9/\"\n"
            .to_owned(),
        ..Setup::default()
    })
    .await;
    let metrics = world.server.address("metrics_http").unwrap();
    let before = series(metrics).await;
    for definition in Metrics::definitions() {
        // Without zones no zone lists an address.
        let is_there = before.keys().any(|name| name.starts_with(definition.name));
        let expected = definition.name != "postrider_dnsbl_listed";
        assert_eq!(is_there, expected, "{}", definition.name);
    }
    assert_eq!(before["postrider_hook_down{hook=\"scan\"}"], 0.0);
    assert_eq!(
        before["postrider_config_last_load_successful{file=\"domains\"}"],
        1.0
    );
    let ends = before.iter().find(|(name, _)| {
        name.starts_with("postrider_certificate_expiry_timestamp_seconds{name=\"")
    });
    assert!(*ends.unwrap().1 > 1_000_000_000.0);

    let mut client = world.client("smtp").await;
    let request =
        r#"{"To": [{"Address": "x@remote.test"}, {"Address": "y@remote.test"}], "Text": "Hi"}"#;
    let http = world.server.address("webapi_http").unwrap();
    let login = "app@example.org";
    let sent = webapi(http, login, "Send", request).await;
    assert!(sent["MessageID"].is_string(), "{sent}");
    let wrong = reqwest::Client::new()
        .post(format!("http://{http}/webapi/v0/Send"))
        .basic_auth(login, Some(PASSWORD))
        .form(&[("request", "{}")]);
    assert_eq!(wrong.send().await.unwrap().status(), 400);
    let admin = world.server.address("admin_http").unwrap();
    let after = series(admin).await;
    let grew = |name: &str| {
        let name = format!("postrider_{name}");
        after[&name] - before[&name]
    };
    for (name, expected) in [
        ("connections{service=\"smtp\"}", 1.0),
        ("connections_total{service=\"smtp\",result=\"ok\"}", 1.0),
        ("accepted_messages_total{by=\"webapi\"}", 1.0),
        ("accepted_recipients_total{by=\"webapi\"}", 2.0),
        ("accept_duration_seconds_count{by=\"webapi\"}", 1.0),
        (
            "authentications_total{service=\"webapi\",result=\"ok\"}",
            2.0,
        ),
        ("authentication_mechanisms_total{mechanism=\"basic\"}", 2.0),
        ("webapi_calls_total{method=\"Send\",result=\"ok\"}", 1.0),
        ("webapi_calls_total{method=\"Send\",result=\"user\"}", 1.0),
        ("http_requests_total{api=\"webapi\",code=\"2xx\"}", 1.0),
        ("http_requests_total{api=\"webapi\",code=\"4xx\"}", 1.0),
        ("http_requests_total{api=\"metrics\",code=\"2xx\"}", 1.0),
        ("store_errors_total{operation=\"sync\"}", 0.0),
    ] {
        assert_eq!(grew(name), expected, "{name}");
    }
    for name in [
        "accepted_bytes_total{by=\"webapi\"}",
        "store_batch_operations_count",
        "store_sync_duration_seconds_count",
    ] {
        assert!(grew(name) > 0.0, "{name}");
    }
    client.command("QUIT").await;
    let gone = async {
        while series(metrics).await["postrider_connections{service=\"smtp\"}"] > 0.0 {
            tokio::task::yield_now().await;
        }
    };
    patiently("the connection ends", gone).await;
}
