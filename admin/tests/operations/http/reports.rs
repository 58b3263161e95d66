//! Reports about TLS and DMARC that wait to be sent.

use std::time::Duration;

use postrider_dns::Record;
use postrider_store::{
    AuditFilter, DmarcAction, DmarcCount, DmarcNote, DmarcPublished, DmarcRow, Order, Scope,
    TlsCounts, TlsNote, TlsPolicy, TlsPolicyKind, TlsResults,
};
use serde_json::{Value, json};

use super::Site;

/// 2024-10-04.
const DAY: u32 = 20_000;

/// A site where reports wait: two about TLS, and one about DMARC.
async fn site() -> Site {
    let site = Site::open().await;
    let store = &site.desk.context.store;
    let due = site.now().after(Duration::from_secs(60));
    let policy = |domain: &str| TlsPolicy {
        kind: TlsPolicyKind::NoPolicyFound,
        domain: domain.to_owned(),
        lines: Vec::new(),
        hosts: Vec::new(),
    };
    let note = |day, domain: &str, failures| TlsNote {
        results: TlsResults {
            day,
            domain: domain.to_owned(),
            counts: vec![TlsCounts {
                successes: 5,
                failures,
                ..TlsCounts::none(policy(domain))
            }],
        },
        due,
    };
    let notes = vec![note(DAY, "mail.b.test", 1), note(DAY + 1, "a.test", 0)];
    store.note_tls_results(notes).await.unwrap();
    let row = DmarcRow {
        source: "192.0.2.9".parse().unwrap(),
        disposition: DmarcAction::Reject,
        dkim_aligned: false,
        spf_aligned: false,
        overrides: Vec::new(),
        header_from: "a.test".into(),
        envelope_from: "c.test".into(),
        envelope_to: "example.org".into(),
        dkim: Vec::new(),
        spf: None,
    };
    let note = DmarcNote {
        day: DAY,
        domain: "a.test".into(),
        due,
        published: DmarcPublished {
            policy: Some(DmarcAction::Reject),
            below: None,
            missing: None,
            dkim_strict: false,
            spf_strict: false,
            testing: false,
        },
        name: "1".into(),
        count: DmarcCount { row, count: 3 },
    };
    store.note_dmarc_results(vec![note]).await.unwrap();
    site
}

/// The ids of the reports of [`site`], in the order of lists.
fn ids(site: &Site) -> [String; 3] {
    let due = site.now().after(Duration::from_secs(60));
    let due = due.timestamp().as_second();
    [
        format!("d!a.test!0!1728000000!{due}"),
        format!("t!mail.b.test!0!1728000000!{due}"),
        format!("t!a.test!0!1728086400!{due}"),
    ]
}

fn path(id: &str) -> String {
    format!("/api/queue/reports/{}", id.replace('!', "%21"))
}

#[tokio::test]
async fn waiting_reports_are_listed_by_filter_and_page() {
    let site = site().await;
    let [dmarc, of_b, of_a] = ids(&site);
    let list = async |query: &str| site.get(&format!("/api/queue/reports{query}")).await;
    let all = json!({"items": [dmarc, of_b, of_a], "total": 3});
    for query in [
        "",
        "?domain=&type=",
        "?type=other",
        "?nothing=1",
        "?domain=TEST",
    ] {
        assert_eq!(list(query).await, all, "{query}");
    }
    for (query, expected) in [
        ("?type=dmarc", json!([dmarc])),
        ("?type=tls", json!([of_b, of_a])),
        ("?domain=a.test", json!([dmarc, of_a])),
        ("?domain=mail&type=tls", json!([of_b])),
        ("?domain=c.test", json!([])),
        ("?page=2&limit=2", json!([of_a])),
        ("?sort=-id&limit=2", json!([of_a, of_b])),
    ] {
        assert_eq!(list(query).await["items"], expected, "{query}");
    }
    let first = list("?limit=1").await;
    let expected = json!({"items": [dmarc], "total": 3, "next": dmarc});
    assert_eq!(first, expected);
    // The list goes on also when the last report is gone.
    let gone = site.call(&format!("DELETE {}", path(&dmarc)), "").await;
    assert_eq!(gone.data(), json!(true));
    let rest = list(&format!("?limit=1&cursor={dmarc}")).await;
    assert_eq!(rest, json!({"items": [of_b], "total": 2, "next": of_b}));
    let whole = list("?values=1&domain=mail").await;
    let due = site.now().after(Duration::from_secs(60)).to_string();
    assert_eq!(
        whole["items"],
        json!([{"type": "tls", "id": of_b, "domain": "mail.b.test",
            "range_from": "2024-10-04T00:00:00Z", "range_to": "2024-10-04T23:59:59Z",
            "due": due, "attempts": 0, "done": []}])
    );
}

#[tokio::test]
async fn a_waiting_report_says_what_would_be_sent_and_to_whom() {
    let site = site().await;
    let [dmarc, of_b, of_a] = ids(&site);
    let txt = |name: &str, text: &str| {
        let record = Record::Txt(text.as_bytes().to_vec());
        site.desk.resolver.add(name, record);
    };
    txt(
        "_dmarc.a.test",
        "v=DMARC1; p=reject; rua=mailto:d@a.test!10m, mailto:x@foreign.test",
    );
    txt(
        "_smtp._tls.mail.b.test",
        "v=TLSRPTv1; rua=mailto:t@b.test,https://b.test/tls",
    );
    let shown = site.get(&path(&dmarc)).await;
    assert_eq!(
        (&shown["type"], &shown["id"], &shown["domain"]),
        (&json!("dmarc"), &json!(dmarc), &json!("a.test"))
    );
    assert_eq!(shown["range_from"], "2024-10-04T00:00:00Z");
    // The host of the other address does not agree.
    let rua = json!([{"uri": "d@a.test", "max_size": 10 << 20}]);
    assert_eq!(shown["rua"], rua);
    let report = &shown["report"];
    assert_eq!(report["policy_published"]["p"], "Reject");
    assert_eq!(report["record"][0]["row"]["count"], 3);
    assert_eq!(
        shown["obstacle"],
        "no DKIM key signs for postmaster@example.org"
    );

    let shown = site.get(&path(&of_b)).await;
    let rua = json!([{"Mail": "t@b.test"}, {"Http": "https://b.test/tls"}]);
    assert_eq!((&shown["type"], &shown["rua"]), (&json!("tls"), &rua));
    let summary = &shown["report"]["policies"][0]["summary"];
    assert_eq!(summary["total-failure-session-count"], 1);

    let shown = site.get(&path(&of_a)).await;
    assert_eq!(shown["rua"], json!([]));
    site.desk.resolver.fail("_smtp._tls.a.test");
    assert_eq!(site.get(&path(&of_a)).await["rua"], json!([]));

    for missing in [
        "t!c.test!0!1728000000!1",
        "t!a.test!0!1728000000!1",
        "x",
        "d!a.test!0!1!1",
    ] {
        for method in ["GET", "DELETE"] {
            let got = site.call(&format!("{method} {}", path(missing)), "").await;
            assert_eq!(got.error(), (404, "notFound".to_owned()), "{missing}");
            assert_eq!(got.json()["item"], missing);
        }
    }
}

#[tokio::test]
async fn an_id_stays_good_when_another_try_is_due() {
    let site = site().await;
    let [_, of_b, _] = ids(&site);
    let store = &site.desk.context.store;
    let found = store.due_report(postrider_store::ReportKind::Tls, DAY, "mail.b.test");
    let mut report = found.await.unwrap().unwrap();
    report.attempts = 1;
    report.due = report.due.after(Duration::from_secs(1800));
    assert!(store.put_off_report(report).await.unwrap());
    let shown = site.get(&path(&of_b)).await;
    assert_eq!(shown["attempts"], 1);
    assert_ne!(shown["id"], json!(of_b));
    let gone = site.call(&format!("DELETE {}", path(&of_b)), "").await;
    assert_eq!(gone.data(), json!(true));
}

#[tokio::test]
async fn reports_are_dropped_with_their_results() {
    let site = site().await;
    let [dmarc, _, of_a] = ids(&site);
    let store = &site.desk.context.store;
    for query in ["?type=", "?type=x", "?domain=", "?limit=1", "?nothing=1"] {
        let got = site
            .call(&format!("DELETE /api/queue/reports{query}"), "")
            .await;
        assert_eq!(got.status, 400, "{query}");
    }
    let drop = async |query: &str| {
        let request = format!("DELETE /api/queue/reports{query}");
        site.call(&request, "").await.data()
    };
    assert_eq!(drop("?domain=c.test").await, json!(false));
    assert_eq!(drop("?domain=b.test&type=tls").await, json!(true));
    assert!(
        store
            .tls_results(DAY, "mail.b.test")
            .await
            .unwrap()
            .is_none()
    );
    let left = site.get("/api/queue/reports").await;
    assert_eq!(left["items"], json!([dmarc, of_a]));
    assert_eq!(drop("").await, json!(true));
    assert_eq!(drop("").await, json!(false));
    assert!(store.dmarc_results(DAY, "a.test").await.unwrap().is_none());
    let filter = AuditFilter {
        operation: Some("queue_report.drop_all".to_owned()),
        ..AuditFilter::default()
    };
    let entries = store
        .list_audit(&filter, None, Order::Descending, 10)
        .await
        .unwrap()
        .items;
    assert_eq!(entries.len(), 4);
}

#[tokio::test]
async fn a_tenant_sees_reports_about_its_domains() {
    let site = site().await;
    let [dmarc, of_b, of_a] = ids(&site);
    let key = site
        .make_key(&[Scope::ManageQueue], &["a.test"], |_| {})
        .await;
    let call = async |request: &str| site.with_key(&key, request, "").await;
    let list = call("GET /api/queue/reports").await.data();
    assert_eq!(list, json!({"items": [dmarc, of_a], "total": 2}));
    for method in ["GET", "DELETE"] {
        let foreign = call(&format!("{method} {}", path(&of_b))).await;
        assert_eq!(foreign.status, 404, "{method}");
    }
    let shown: Value = call(&format!("GET {}", path(&dmarc))).await.data();
    assert_eq!(shown["domain"], "a.test");
    assert_eq!(call("DELETE /api/queue/reports").await.data(), json!(true));
    let left = site.get("/api/queue/reports").await;
    assert_eq!(left["items"], json!([of_b]));
    let observer = site.make_key(&[Scope::ManageObserve], &[], |_| {}).await;
    let refused = site.with_key(&observer, "GET /api/queue/reports", "");
    assert_eq!(refused.await.status, 403);
}
