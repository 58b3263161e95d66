//! The log, the counts of refusals, and the certificates that are read again.

use std::sync::{Arc, Mutex};

use postrider_admin::op::{
    audit::List,
    certificates::{CertificateFiles, Read},
    logs::SetLevel,
};
use postrider_observe::log::{Level, Line, Value as Field};
use postrider_store::Scope;
use serde_json::{Value, json};

use super::{
    super::{Code, Desk},
    Site, TENANTS,
};

/// A site whose log has three lines.
async fn site() -> Site {
    let site = Site::open().await;
    for (second, level, event) in [
        (0, Level::Info, "message queued"),
        (1, Level::Warn, "login refused"),
        (2, Level::Error, "failed to queue"),
    ] {
        site.desk.context.logs.add(Line {
            micros: second * 1_000_000,
            level,
            target: "postrider_queue".into(),
            message: event.to_owned(),
            event: None,
            fields: vec![("number", Field::Signed(second))],
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
        "event_id": "postrider.failed-to-queue", "details": "number = 2",
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

/// Who asks for some lines costs a look at those, and is told that there may be more.
#[tokio::test]
async fn a_filter_looks_at_no_more_lines_than_it_needs() {
    let site = site().await;
    let list = site.get("/api/logs?filter=queue&limit=1").await;
    assert_eq!(events(&list), ["failed to queue"]);
    assert_eq!((&list["total"], &list["more"]), (&json!(2), &json!(true)));
    let next = list["next"].as_str().unwrap();
    let list = site
        .get(&format!("/api/logs?filter=message&limit=1&cursor={next}"))
        .await;
    assert_eq!(events(&list), ["message queued"]);
    assert_eq!((&list["total"], &list["more"]), (&json!(1), &Value::Null));
}

#[tokio::test]
async fn levels_are_set_for_a_while_and_taken_back() {
    let site = site().await;
    let configured = json!({
        "module": "", "remote": null, "level": "info", "until": null, "configured": true,
    });
    let levels = site.get("/api/logs/levels").await;
    assert_eq!(levels["items"], json!([configured]));
    let manager = site.make_key(&[Scope::Manage], &[], |_| {}).await;
    let set = async |body: &str| {
        site.with_key(&manager, "POST /api/logs/levels", body)
            .await
            .status
    };
    for body in [
        r#"{"module": "queue", "level": "debug", "for": "10m"}"#,
        r#"{"remote": "192.0.2.0/24", "level": "trace"}"#,
    ] {
        assert_eq!(set(body).await, 200, "{body}");
    }
    let levels = site.get("/api/logs/levels").await;
    let until = site
        .desk
        .context
        .clock
        .now()
        .after(std::time::Duration::from_secs(600));
    let expected = json!([
        configured,
        {"module": "postrider_queue", "remote": null, "level": "debug",
         "until": until.to_string(), "configured": false},
        {"module": null, "remote": "192.0.2.0/24", "level": "trace", "until": null,
         "configured": false},
    ]);
    assert_eq!(levels["items"], expected);
    for (body, status) in [
        (r#"{"module": "queue", "level": "loud"}"#, 422),
        (r#"{"module": "a b", "level": "info"}"#, 422),
        (r#"{"module": "quue", "level": "info"}"#, 422),
        (r#"{"remote": "nowhere", "level": "info"}"#, 422),
        (
            r#"{"module": "queue", "remote": "192.0.2.1", "level": "info"}"#,
            422,
        ),
        (r#"{"level": "info"}"#, 422),
        (
            r#"{"module": "queue", "level": "info", "for": "soon"}"#,
            422,
        ),
        (r#"{"module": "queue", "level": "info", "until": 7}"#, 400),
    ] {
        assert_eq!(set(body).await, status, "{body}");
    }
    let reset = site.with_key(&manager, "DELETE /api/logs/levels", "").await;
    assert_eq!(reset.status, 200);
    let levels = site.get("/api/logs/levels").await;
    assert_eq!(levels["items"], json!([configured]));
    let audit = site.get("/api/audit?operation=log.set_level").await;
    let done = audit["items"].as_array().unwrap().iter();
    assert_eq!(
        done.filter(|it| it["outcome"] == json!("done")).count(),
        2,
        "{audit}"
    );
    let audit = site.get("/api/audit?operation=log.reset_levels").await;
    assert_eq!(audit["total"], json!(1));
    let quue = SetLevel {
        module: Some("quue".to_owned()),
        level: "info".to_owned(),
        ..SetLevel::default()
    };
    let said = site.desk.refuses(quue, Code::Invalid, "module").await;
    assert!(said.contains("the nearest are queue, "), "{said}");
    // All operations of the log, and none that there is not.
    let all = site.get("/api/audit?operation=log").await;
    let named = |it: &Value| it["operation"].as_str().unwrap().starts_with("log.");
    let items = all["items"].as_array().unwrap();
    assert!(items.len() > 8 && items.iter().all(named), "{all}");
    let lgo = List {
        operation: Some("lgo".to_owned()),
        ..List::default()
    };
    let said = site.desk.refuses(lgo, Code::Invalid, "operation").await;
    assert!(said.contains("the nearest are log, "), "{said}");
    let reader = site.make_key(&[Scope::ManageObserve], &[], |_| {}).await;
    for call in ["POST /api/logs/levels", "DELETE /api/logs/levels"] {
        assert_eq!(site.with_key(&reader, call, "{}").await.status, 403);
    }
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
    let given = site.get("/api/telemetry/refusals").await;
    let list = site.get("/api/telemetry/refusals?all=1").await;
    let items = list["items"].as_array().unwrap();
    assert_eq!((items.len(), &list["total"]), (total, &json!(total)));
    let second = items.get(1);
    let expected = json!([
        {"reason": "connections", "count": 1},
        {"reason": "greylisted", "count": 2},
    ]);
    assert_eq!((&given["items"], &given["total"]), (&expected, &json!(2)));
    let shown = items.iter().filter(|item| item["count"] != json!(0));
    assert_eq!(json!(shown.collect::<Vec<_>>()), expected);
    let page = site
        .get("/api/telemetry/refusals?all=1&limit=1&page=2")
        .await;
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
