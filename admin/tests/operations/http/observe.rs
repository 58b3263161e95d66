//! The log, the counts of refusals, and the certificates that are read again.

use std::sync::{Arc, Mutex};

use postrider_admin::op::{
    certificates::{CertificateFiles, Read},
    logs::{Level, LogLine},
};
use postrider_store::{Scope, Time};
use serde_json::{Value, json};

use super::{super::Desk, Site, TENANTS};

/// A site whose log has three lines.
async fn site() -> Site {
    let site = Site::open().await;
    for (second, level, event) in [
        (0, Level::Info, "message queued"),
        (1, Level::Warn, "login refused"),
        (2, Level::Error, "failed to queue"),
    ] {
        site.desk.context.logs.add(LogLine {
            time: Time(second * 1_000_000),
            level,
            event: event.to_owned(),
            event_id: "postrider.queue".to_owned(),
            details: format!("number = {second}"),
        });
    }
    site
}

/// What happened, in the lines of a list.
fn events(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().unwrap().iter();
    items.map(|item| item["event"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn the_log_is_listed_from_its_end() {
    let site = site().await;
    let list = site.get("/api/logs?limit=100").await;
    assert_eq!(
        events(&list),
        ["failed to queue", "login refused", "message queued"]
    );
    assert_eq!(list["total"], json!(3));
    let first = json!({
        "timestamp": "1970-01-01T00:00:02Z", "level": "ERROR", "event": "failed to queue",
        "event_id": "postrider.queue", "details": "number = 2",
    });
    assert_eq!(list["items"][0], first);
    let filtered = site.get("/api/logs?filter=QUEUED").await;
    assert_eq!(events(&filtered), ["message queued"]);
    assert_eq!(filtered["total"], json!(1));
    let page = site.get("/api/logs?limit=2&page=2").await;
    assert_eq!(
        (events(&page), &page["total"]),
        (vec!["message queued"], &json!(3))
    );
    let page = site.get("/api/logs?limit=1").await;
    let next = page["next"].as_str().unwrap();
    let page = site.get(&format!("/api/logs?limit=1&cursor={next}")).await;
    assert_eq!(events(&page), ["login refused"]);
    let oldest = site.get("/api/logs?sort=id&limit=1").await;
    assert_eq!(events(&oldest), ["message queued"]);
}

#[tokio::test]
async fn the_log_is_for_those_who_see_everything() {
    let site = site().await;
    for (scope, domains, status) in [
        (Scope::ManageObserve, &[][..], 200),
        (Scope::ManageRead, &[], 200),
        (Scope::ManageQueue, &[], 403),
        (Scope::Manage, &["a.test"], 403),
    ] {
        let key = site.make_key(&[scope], domains, |_| {}).await;
        let got = site.with_key(&key, "GET /api/logs", "").await;
        assert_eq!(got.status, status, "{scope:?} {domains:?}");
    }
}

/// Files that have this to say, and that note whether they were only checked.
#[derive(Default)]
struct Files {
    says: Read,
    checks: Mutex<Vec<bool>>,
}

impl CertificateFiles for Files {
    fn read(&self, check_only: bool) -> Read {
        self.checks.lock().unwrap().push(check_only);
        self.says.clone()
    }

    fn ends(&self) -> Vec<(String, i64)> {
        Vec::new()
    }
}

#[tokio::test]
async fn certificates_are_read_again_or_checked() {
    let text = |text: &str| text.to_owned();
    let files = Arc::new(Files {
        says: Read {
            warnings: [(text("listeners.l.tls.certs.0"), text("expires soon"))].into(),
            errors: [(text("listeners.l.tls.certs.1"), text("no PEM"))].into(),
        },
        ..Files::default()
    });
    let mut desk = Desk::with(super::STATICS, TENANTS);
    desk.context.certificates = files.clone();
    let site = Site::of(desk).await;
    let expected = json!({
        "warnings": {"listeners.l.tls.certs.0": {"type": "build", "error": "expires soon"}},
        "errors": {"listeners.l.tls.certs.1": {"type": "build", "error": "no PEM"}},
    });
    let checked = site.get("/api/reload/certificate?dry-run=1").await;
    assert_eq!(checked, expected);
    assert_eq!(site.get("/api/reload/certificate").await, expected);
    assert_eq!(*files.checks.lock().unwrap(), [true, false]);
    // A check changes nothing. So it is not in the audit log.
    let audit = site
        .get("/api/audit?operation=server.reload_certificates")
        .await;
    assert_eq!(
        (&audit["total"], &audit["items"][0]["outcome"]),
        (&json!(1), &json!("no PEM"))
    );
    let key = site.make_key(&[Scope::ManageRead], &[], |_| {}).await;
    let got = site.with_key(&key, "GET /api/reload/certificate", "").await;
    assert_eq!(got.status, 403);
}

/// The whole list is there from the start, since a counter that appears late hides its first
/// refusal.
#[tokio::test]
async fn refusals_are_counted_by_reason() {
    let site = Site::open().await;
    let counts = Arc::clone(&site.desk.context.refusals);
    let total = counts.all().count();
    for reason in ["greylisted", "connections", "greylisted"] {
        counts.count(reason);
    }
    let list = site.get("/api/telemetry/refusals").await;
    let items = list["items"].as_array().unwrap();
    assert_eq!((items.len(), &list["total"]), (total, &json!(total)));
    let second = items.get(1);
    let given = items.iter().filter(|item| item["count"] != json!(0));
    let given: Vec<Value> = given.cloned().collect();
    let expected = [
        json!({"reason": "connections", "count": 1}),
        json!({"reason": "greylisted", "count": 2}),
    ];
    assert_eq!(given, expected);
    let page = site.get("/api/telemetry/refusals?limit=1&page=2").await;
    assert_eq!(page["items"].get(0), second);
    for (scope, domains, status) in [
        (Scope::ManageObserve, &[][..], 200),
        (Scope::ManageQueue, &[], 403),
        (Scope::Manage, &["a.test"], 403),
    ] {
        let key = site.make_key(&[scope], domains, |_| {}).await;
        let got = site.with_key(&key, "GET /api/telemetry/refusals", "").await;
        assert_eq!(got.status, status, "{scope:?} {domains:?}");
    }
}
