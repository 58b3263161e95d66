//! The metrics: the page, the points, the stream.

use std::time::Duration;

use axum::{
    body::{Body, to_bytes},
    extract::ConnectInfo,
    http::Request,
};
use postrider_admin::{
    face::http::{Endpoint, Management},
    op::metrics::keep_points,
};
use postrider_observe::metrics::{
    Accepted, By, Cached, DsnAction, Listener, Reason, Service, StreamKind,
};
use postrider_store::{Clock, MetricsPoint, PointAmount, PointSpan, Scope, Time};
use serde_json::{Value, json};
use tokio::sync::watch;
use tower::ServiceExt;

use super::{
    super::{Desk, accounts::queue},
    Site,
    live::Stream,
};

/// The page of metrics, as a client at this address gets it: the status and the text.
async fn page(desk: &Desk, client: &str, forwarded: Option<&str>) -> (u16, String) {
    let (_stop, stopping) = watch::channel(false);
    let endpoint = Endpoint {
        forwarded_hops: usize::from(forwarded.is_some()),
    };
    let router = Management::new(desk.context.clone(), stopping).metrics(endpoint, "/metrics");
    let mut request = Request::get("/metrics");
    if let Some(forwarded) = forwarded {
        request = request.header("x-forwarded-for", forwarded);
    }
    let mut request = request.body(Body::empty()).unwrap();
    let client: std::net::SocketAddr = client.parse().unwrap();
    request.extensions_mut().insert(ConnectInfo(client));
    let answer = router.oneshot(request).await.unwrap();
    let status = answer.status().as_u16();
    let body = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn the_page_is_for_loopback_and_private_networks() {
    let desk = Desk::open();
    for (client, forwarded, status) in [
        ("127.0.0.1:9", None, 200),
        ("[::1]:9", None, 200),
        ("[::ffff:10.1.2.3]:9", None, 200),
        ("192.168.1.1:9", None, 200),
        ("192.0.2.1:9", None, 403),
        ("[2001:db8::1]:9", None, 403),
        ("127.0.0.1:9", Some("192.0.2.1"), 403),
        ("192.0.2.1:9", Some("10.0.0.7"), 200),
    ] {
        let (got, text) = page(&desk, client, forwarded).await;
        assert_eq!(got, status, "{client} {forwarded:?}");
        assert_eq!(
            text.contains("# TYPE postrider_connections gauge"),
            status == 200
        );
    }
}

#[tokio::test]
async fn what_the_store_knows_is_read_when_asked() {
    let site = Site::open().await;
    queue(&site.desk, "ann", "ann@a.test").await;
    queue(&site.desk, "ann", "ann@a.test").await;
    site.desk.clock.advance(Duration::from_secs(700));
    let (_, text) = page(&site.desk, "127.0.0.1:9", None).await;
    for line in [
        "postrider_queue_messages{state=\"scheduled\"} 2",
        "postrider_queue_messages{state=\"deferred\"} 0",
        "postrider_queue_oldest_seconds 700",
        "postrider_queue_overdue_seconds 640",
        "postrider_queue_paused 0",
        "postrider_store_records_set_aside 0",
    ] {
        assert!(text.contains(&format!("\n{line}\n")), "{line}");
    }
    let free = text
        .lines()
        .find(|line| line.starts_with("postrider_store_free_bytes "));
    assert!(free.is_some_and(|line| !line.ends_with(" 0")), "{free:?}");
}

/// The item with this id.
fn item<'a>(items: &'a Value, id: &str) -> &'a Value {
    let items = items.as_array().unwrap();
    let found = items.iter().find(|item| item["id"] == id);
    found.unwrap_or_else(|| panic!("no {id}"))
}

#[tokio::test]
async fn points_tell_how_the_metrics_grew() {
    let site = Site::open().await;
    let (clock, metrics) = (&site.desk.clock, &site.desk.context.metrics);
    let (stop, stopping) = watch::channel(false);
    let keeping = tokio::spawn(keep_points(site.desk.context.clone(), stopping));
    let refused = metrics
        .refusals_total
        .with((Service::Smtp, Reason::Unknown));
    // The clock of the test begins at a full hour. A point is kept when its time has come.
    let next = async |minutes: u64| {
        for _ in 0..minutes {
            clock.advance(Duration::from_secs(60));
            tokio::task::yield_now().await;
        }
        let end = clock.now().to_string();
        loop {
            let all = site.get("/api/telemetry/metrics").await;
            if all
                .as_array()
                .unwrap()
                .iter()
                .any(|item| item["timestamp"] == end)
            {
                return all;
            }
            tokio::task::yield_now().await;
        }
    };
    refused.add(3);
    metrics.connections.with(Listener::Smtp).set(2);
    metrics
        .connections_total
        .with((Listener::Smtp, Accepted::Ok))
        .add(5);
    let duration = metrics.accept_duration_seconds.with(By::Smtp);
    duration.observe(Duration::from_millis(1500));
    let first = next(5).await;
    let time = clock.now().to_string();
    for (id, members) in [
        ("postrider.refusals", json!({"type": "counter", "value": 3})),
        (
            "smtp.connection-start",
            json!({"type": "counter", "value": 5}),
        ),
        (
            "smtp.active-connections",
            json!({"type": "gauge", "value": 2}),
        ),
        ("user.count", json!({"type": "gauge", "value": 4})),
        ("domain.count", json!({"type": "gauge", "value": 3})),
        (
            "postrider.accept_duration_seconds",
            json!({"type": "histogram", "count": 1, "sum": 2, "exact": 1.5}),
        ),
    ] {
        let found = item(&first, id);
        for (member, value) in members.as_object().unwrap() {
            assert_eq!(found[member], *value, "{id} {member}");
        }
        assert_eq!(found["timestamp"], *time, "{id}");
    }
    // Clients of Stalwart hold all of these as whole numbers, and fail otherwise.
    for item in first.as_array().unwrap() {
        let numbers = ["value", "count", "sum"].map(|name| &item[name]);
        let is_whole = |number: &&Value| number.is_null() || number.is_u64();
        assert!(numbers.iter().all(is_whole), "{item}");
    }
    refused.add(4);
    metrics.connections.with(Listener::Smtp).set(0);
    next(5).await;
    let after = site
        .get(&format!("/api/telemetry/metrics?after={time}"))
        .await;
    assert_eq!(item(&after, "postrider.refusals")["value"], 4);
    // What is empty has a point too. What did not grow has none.
    for id in [
        "smtp.active-connections",
        "queue.count",
        "postrider.hold_rules",
    ] {
        assert_eq!(item(&after, id)["value"], 0, "{id}");
    }
    let all = after.as_array().unwrap();
    assert!(all.iter().all(|item| item["id"] != "smtp.connection-start"));
    let before = site
        .get(&format!("/api/telemetry/metrics?before={time}"))
        .await;
    assert_eq!(before, json!([]));
    stop.send(true).unwrap();
    keeping.await.unwrap();
}

/// A long time is told in fewer points, and up to now.
#[tokio::test]
async fn a_long_time_has_fewer_points() {
    const HOUR: u64 = 60 * 60;
    const DAY: u64 = 24 * HOUR;
    let site = Site::open().await;
    let store = &site.desk.context.store;
    let begun = site.desk.clock.now();
    let at = |seconds: u64| begun.after(Duration::from_secs(seconds));
    let keep = async |span, seconds: u64, sent: f64, waiting: f64| {
        let point = MetricsPoint {
            time: at(seconds),
            span,
            values: vec![
                ("postrider.attempts".into(), PointAmount::Counter(sent)),
                ("queue.count".into(), PointAmount::Gauge(waiting)),
            ],
            keep_until: Time(i64::MAX),
        };
        store.keep_metrics(point).await.unwrap();
    };
    // An hour long ago, of which no shorter times are kept, and then now and again.
    keep(PointSpan::Hour, 2 * HOUR, 100.0, 9.0).await;
    for (seconds, sent, waiting) in [
        (100 * DAY + 300, 1.0, 3.0),
        (100 * DAY + HOUR, 2.0, 4.0),
        (100 * DAY + HOUR + 300, 4.0, 5.0),
        (139 * DAY + 23 * HOUR + 300, 8.0, 6.0),
        (140 * DAY - 600, 16.0, 7.0),
        (140 * DAY, 32.0, 8.0),
    ] {
        keep(PointSpan::Short, seconds, sent, waiting).await;
    }
    // It says something else than the shorter ones, so that the answer shows which were read.
    keep(PointSpan::Hour, 100 * DAY + HOUR, 30.0, 4.0).await;
    site.desk.clock.advance(Duration::from_secs(140 * DAY));
    for (after, interval, expected) in [
        (
            140 * DAY - HOUR,
            300,
            vec![
                (139 * DAY + 23 * HOUR + 300, 8, 6),
                (140 * DAY - 600, 16, 7),
                (140 * DAY, 32, 8),
            ],
        ),
        (
            100 * DAY,
            3600,
            vec![
                (100 * DAY + HOUR, 30, 4),
                (100 * DAY + HOUR + 300, 4, 5),
                (140 * DAY, 56, 8),
            ],
        ),
        // The hour is not whole.
        (
            100 * DAY + 600,
            3600,
            vec![
                (100 * DAY + HOUR, 2, 4),
                (100 * DAY + HOUR + 300, 4, 5),
                (140 * DAY, 56, 8),
            ],
        ),
        (
            0,
            6 * HOUR,
            vec![
                (2 * HOUR, 100, 9),
                (100 * DAY + HOUR + 300, 34, 5),
                (140 * DAY, 56, 8),
            ],
        ),
    ] {
        let path = format!("/api/telemetry/metrics?after={}", at(after));
        let answer = site.call(&format!("GET {path}"), "").await;
        assert_eq!(answer.json()["interval"], interval);
        let items = expected.iter().flat_map(|(seconds, sent, waiting)| {
            let time = at(*seconds).to_string();
            let values = [
                ("counter", "postrider.attempts", sent),
                ("gauge", "queue.count", waiting),
            ];
            values.map(|(kind, id, value)| {
                json!({"type": kind, "id": id, "timestamp": time, "value": value})
            })
        });
        assert_eq!(answer.data(), items.collect::<Value>(), "{interval}");
    }
}

#[tokio::test]
async fn the_points_of_an_hour_are_kept_for_long() {
    let site = Site::open().await;
    let (clock, metrics) = (&site.desk.clock, &site.desk.context.metrics);
    let (_stop, stopping) = watch::channel(false);
    tokio::spawn(keep_points(site.desk.context.clone(), stopping));
    let store = &site.desk.context.store;
    let begun = clock.now();
    // It waits for its first point.
    tokio::task::yield_now().await;
    for point in 1..=12 {
        metrics.hold_rules.set(point);
        metrics.dsns_total.with(DsnAction::Failed).inc();
        let wait = clock.now();
        clock.advance(Duration::from_secs(300));
        loop {
            let span = PointSpan::Short;
            let end = Time(i64::MAX);
            let found = store.list_metrics(span, wait.after(Duration::from_micros(1)), end, 9);
            if !found.await.unwrap().is_empty() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    let hours = async || {
        let span = PointSpan::Hour;
        let end = Time(i64::MAX);
        store.list_metrics(span, begun, end, 9).await.unwrap()
    };
    while hours().await.is_empty() {
        tokio::task::yield_now().await;
    }
    // After 90 days only the hour is left.
    clock.advance(Duration::from_secs(91 * 24 * 60 * 60));
    store.expire(clock.now(), 1000).await.unwrap();
    let path = format!("/api/telemetry/metrics?after={begun}");
    let old = site.get(&path).await;
    let found = item(&old, "postrider.dsns");
    assert_eq!(found["value"], 12);
    assert_eq!(
        found["timestamp"],
        begun.after(Duration::from_secs(3600)).to_string()
    );
}

#[tokio::test]
async fn the_stream_has_the_wanted_metrics_again_and_again() {
    let site = Site::open().await;
    let metrics = &site.desk.context.metrics;
    metrics.dns_cache_total.with(Cached::Hit).add(7);
    let observer = site.make_key(&[Scope::ManageObserve], &[], |_| {}).await;
    let token = site
        .with_key(&observer, "GET /api/telemetry/live/metrics-token", "")
        .await;
    let token = token.data().as_str().unwrap().to_owned();
    let query = format!("?token={token}&interval=30&metrics=postrider.dns_cache");
    let path = "/api/telemetry/metrics/live";
    let mut stream = Stream::at(&site, &format!("{path}{query}"), "").await;
    let head = stream.until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let (_, name, data) = stream.event().await;
    let expected = json!([{"type": "counter", "id": "postrider.dns_cache", "value": 7}]);
    assert_eq!((name.as_str(), &data), ("metrics", &expected));
    assert_eq!(metrics.streams.with(StreamKind::Metrics).get(), 1);
    metrics.dns_cache_total.with(Cached::Miss).inc();
    site.desk.clock.advance(Duration::from_secs(30));
    let (_, _, data) = stream.event().await;
    assert_eq!(data[0]["value"], 8);
    // The token opens nothing else, and tenants see no metrics.
    for path in ["/api/events/live", "/api/telemetry/metrics"] {
        let request = format!("GET {path}?token={token}");
        assert_eq!(site.send(&request, "", "").await.status, 401, "{path}");
    }
    let tenant = site.make_key(&[Scope::Manage], &["a.test"], |_| {}).await;
    for path in [
        "/api/telemetry/metrics",
        "/api/telemetry/metrics/live",
        "/api/telemetry/live/metrics-token",
    ] {
        let got = site.with_key(&tenant, &format!("GET {path}"), "").await;
        assert_eq!(got.status, 403, "{path}");
    }
    drop(stream);
    site.stop.send(true).unwrap();
    while metrics.streams.with(StreamKind::Metrics).get() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_stream_of_metrics_has_no_pings() {
    let site = Site::open().await;
    let login = format!("Authorization: Bearer {}\r\n", site.key);
    let path = "/api/telemetry/metrics/live?metrics=queue.count";
    let mut stream = Stream::at(&site, path, &login).await;
    stream.until("\r\n\r\n").await;
    let (_, name, _) = stream.event().await;
    assert_eq!(name, "metrics");
    // From here on the clock of the runtime moves as soon as both sides wait. That of the site,
    // which the values wait for, does not.
    tokio::time::pause();
    let silence = stream.until("\n\n").await;
    assert!(silence.contains(": nothing new\n"), "{silence}");
}
