//! Reports that came in.

use std::time::Duration;

use postrider_smtp::Address;
use postrider_store::{
    Accept, NewArrivedReport, NewReceivedReport, NewSum, NewSums, NewText, ReceivedKind,
    ReportRoom, ReportSum, ReportSummary, Scope, TextSource,
};
use serde_json::json;

use super::{super::Desk, Site};

/// 2024-10-04.
const DAY: u32 = 20_000;

const XML: &str = "<feedback><report_metadata><report_id>r</report_id><date_range>\
    <begin>1728000000</begin><end>1728086399</end></date_range></report_metadata>\
    <policy_published><domain>a.test</domain></policy_published></feedback>";

/// Adds a report of this kind, about these domains.
async fn add(site: &Site, kind: ReceivedKind, domains: &[&str], subject: &str) {
    add_with(site, kind, domains, subject, "").await;
}

/// Adds a report about DMARC with these sums.
async fn add_rows(site: &Site, rows: Vec<NewSum>) {
    add_all(site, ReceivedKind::Dmarc, &["a.test"], ("", ""), rows).await;
}

/// Adds a mail that has this error, or none.
async fn add_with(site: &Site, kind: ReceivedKind, domains: &[&str], subject: &str, error: &str) {
    let row = NewSum {
        source: "192.0.2.0/24".into(),
        from: "a.test".into(),
        sum: ReportSum {
            messages: 4,
            passed: 3,
            none: 3,
            rejected: 1,
            ..ReportSum::default()
        },
    };
    add_all(site, kind, domains, (subject, error), vec![row]).await;
}

async fn add_all(
    site: &Site,
    kind: ReceivedKind,
    domains: &[&str],
    (subject, error): (&str, &str),
    rows: Vec<NewSum>,
) {
    let now = site.now();
    let xml = if error.is_empty() { XML } else { "<feedback>" };
    let mail = format!("Subject: {subject}\r\nContent-Type: text/xml\r\n\r\n{xml}");
    let domains: Vec<String> = domains.iter().map(ToString::to_string).collect();
    let report = NewReceivedReport {
        about: ReportSummary {
            kind,
            from: "Reporter <r@reporter.test>".into(),
            to: vec!["dmarcreports@a.test".into()],
            subject: subject.to_owned(),
            reporter: "reporter.test".into(),
            organization: String::new(),
            report_id: "r".into(),
            domains: domains.clone(),
            begin: None,
            end: None,
            verified: true,
            error: error.to_owned(),
            passed: 3,
            failed: 1,
            message: None,
        },
        keep_until: now.after(Duration::from_secs(60)),
        name: None,
        sums: (kind == ReceivedKind::Dmarc && error.is_empty()).then(|| NewSums {
            domain: domains.first().unwrap().clone(),
            day: DAY,
            reporter: "reporter.test".into(),
            keep_until: now.after(Duration::from_secs(60)),
            rows,
        }),
    };
    site.desk.arrive(mail, report).await;
}

impl Desk {
    /// A report comes in by this mail, and is read.
    pub(crate) async fn arrive(&self, mail: String, report: NewReceivedReport) {
        let (store, now) = (&self.context.store, self.context.clock.now());
        let accept = Accept {
            reports: vec![NewArrivedReport {
                text: TextSource::New,
                size: mail.len() as u64,
                received: now,
                rcpt_to: vec![Address::parse("dmarcreports@a.test").unwrap()],
                for_reports: true,
                from: None,
                from_passed: true,
                signed_for_tls: true,
                queue_id: None,
            }],
            text: Some(NewText::Inline(mail.into())),
            ..Accept::default()
        };
        store.accept(accept).await.unwrap();
        let arrived = store.arrived_reports(None, 1).await.unwrap().remove(0);
        let room = ReportRoom(1 << 20);
        let read = store.report_read(arrived.id, Some(report), room);
        assert!(read.await.unwrap());
    }
}

/// A site with three reports about DMARC, and one of each other kind.
async fn site() -> Site {
    let site = Site::open().await;
    add(&site, ReceivedKind::Dmarc, &["a.test"], "one").await;
    add(&site, ReceivedKind::Tls, &["a.test", "b.test"], "two").await;
    add(&site, ReceivedKind::Dmarc, &["b.test"], "three").await;
    add(&site, ReceivedKind::Arf, &["b.test"], "four").await;
    add(&site, ReceivedKind::Dmarc, &["a.test"], "five").await;
    site
}

/// The id of a report in lists.
fn id(site: &Site, number: u64) -> String {
    let expires = site.now().after(Duration::from_secs(60));
    format!("{number}_{}", expires.timestamp().as_second())
}

#[tokio::test]
async fn reports_are_listed_by_kind_text_and_page() {
    let site = site().await;
    let list = async |path: &str| site.get(&format!("/api/reports/{path}")).await;
    let ids = |numbers: &[u64]| {
        let ids: Vec<String> = numbers.iter().map(|number| id(&site, *number)).collect();
        json!(ids)
    };
    let all = json!({"items": ids(&[5, 3, 1]), "total": 3});
    for path in [
        "dmarc",
        "dmarc?text=&limit=0",
        "dmarc?filter=REPORTER",
        "dmarc/",
    ] {
        assert_eq!(list(path).await, all, "{path}");
    }
    for (path, expected) in [
        ("tls", ids(&[2])),
        ("arf", ids(&[4])),
        ("dmarc?text=b.test", ids(&[3])),
        ("dmarc?filter=five", ids(&[5])),
        ("dmarc?text=four", ids(&[])),
        ("dmarc?sort=id", ids(&[1, 3, 5])),
        ("dmarc?page=2&limit=2", ids(&[1])),
        ("dmarc?limit=1&cursor=5", ids(&[3])),
    ] {
        assert_eq!(list(path).await["items"], expected, "{path}");
    }
    let whole = list("tls?values=1").await;
    let item = &whole["items"][0];
    assert_eq!((&item["id"], &item["type"]), (&json!(2), &json!("tls")));
    assert_eq!(item["domains"], json!(["a.test", "b.test"]));
    let other = site.call("GET /api/reports/other", "").await;
    assert_eq!(other.error(), (404, "notFound".to_owned()));
}

/// Clients of the contract open each id of a list, and expect a report.
#[tokio::test]
async fn a_mail_without_a_report_is_listed_as_an_object_only() {
    let site = Site::open().await;
    add(&site, ReceivedKind::Dmarc, &["a.test"], "one").await;
    let error = "the report is packed twice";
    add_with(&site, ReceivedKind::Dmarc, &["a.test"], "two", error).await;
    let list = site.get("/api/reports/dmarc").await;
    assert_eq!(list, json!({"items": [id(&site, 1)], "total": 1}));
    let whole = site.get("/api/reports/dmarc?values=1").await;
    assert_eq!(
        (&whole["total"], &whole["items"][0]["error"]),
        (&json!(2), &json!(error))
    );
    let shown = site.get("/api/reports/dmarc/2").await;
    assert_eq!(
        (&shown["report"], &shown["error"]),
        (&json!(null), &json!(error))
    );
    // All that match go, also what is listed as an object only.
    let removed = site.call("DELETE /api/reports/dmarc", "").await.data();
    assert_eq!(removed, json!(true));
    assert_eq!(site.get("/api/reports/dmarc?values=1").await["total"], 0);
}

#[tokio::test]
async fn a_report_is_shown_and_removed_by_its_id() {
    let site = site().await;
    let shown = site
        .get(&format!("/api/reports/dmarc/{}", id(&site, 5)))
        .await;
    assert_eq!(shown["from"], "Reporter <r@reporter.test>");
    assert_eq!(shown["to"], json!(["dmarcreports@a.test"]));
    assert_eq!(shown["subject"], "five");
    assert_eq!(shown["report"]["policy_published"]["domain"], "a.test");
    assert_eq!(shown["left_out"], 0);
    assert_eq!(site.get("/api/reports/dmarc/5").await, shown);
    // The kind has to be right.
    for path in ["tls/5", "dmarc/2", "dmarc/9", "dmarc/x", "other/5"] {
        for method in ["GET", "DELETE"] {
            let got = site
                .call(&format!("{method} /api/reports/{path}"), "")
                .await;
            assert_eq!(got.error(), (404, "notFound".to_owned()), "{path}");
        }
    }
    let remove = async |path: &str| {
        let request = format!("DELETE /api/reports/{path}");
        site.call(&request, "").await.data()
    };
    assert_eq!(
        remove(&format!("dmarc/{}", id(&site, 5))).await,
        json!(true)
    );
    for wrong in ["?text=", "?limit=1", "?nothing=1"] {
        let got = site
            .call(&format!("DELETE /api/reports/dmarc{wrong}"), "")
            .await;
        assert_eq!(got.status, 400, "{wrong}");
    }
    assert_eq!(remove("dmarc?text=five").await, json!(false));
    assert_eq!(remove("dmarc").await, json!(true));
    assert_eq!(site.get("/api/reports/dmarc").await["total"], 0);
    assert_eq!(site.get("/api/reports/tls").await["total"], 1);
    let audit = site.get("/api/audit?operation=report.remove").await;
    assert_eq!(audit["items"][0]["target"], "5");
    assert_eq!(audit["items"][0]["outcome"], "done");
}

#[tokio::test]
async fn sums_are_by_source_day_or_reporter() {
    let site = site().await;
    let sums = async |query: &str| {
        let found = site.get(&format!("/api/reports/dmarc/sums{query}")).await;
        found["items"].clone()
    };
    let sum = |messages: u64| {
        json!({"messages": messages, "passed": messages / 4 * 3, "failed": messages / 4,
            "none": messages / 4 * 3, "quarantined": 0, "rejected": messages / 4})
    };
    let with = |name: &str, value: &str, messages| {
        let mut sum = sum(messages);
        sum[name] = json!(value);
        sum
    };
    let mut source = with("source", "192.0.2.0/24", 12);
    source["from"] = json!("a.test");
    assert_eq!(sums("").await, json!([source]));
    assert_eq!(
        sums("?by=day").await,
        json!([with("day", "2024-10-04", 12)])
    );
    let by_reporter = with("reporter", "reporter.test", 8);
    assert_eq!(
        sums("?by=reporter&domain=A.test").await,
        json!([by_reporter])
    );
    for (query, found) in [
        ("?after=2024-10-04&before=2024-10-05", true),
        ("?after=2024-10-05", false),
        ("?before=2024-10-04", false),
        ("?after=2024-10-04T23:00:00Z", true),
        ("?domain=c.test", false),
        ("?by=nothing&after=x", true),
    ] {
        assert_eq!(sums(query).await != json!([]), found, "{query}");
    }
}

/// Sums of three networks, as the pages with one sum each that a client reads. Between the first
/// and the second one a report comes in, about networks that stand before and behind.
async fn pages_of_sums(query: &str) -> Vec<String> {
    let site = Site::open().await;
    let add = async |networks: &[(u8, u64)]| {
        let rows = networks.iter().map(|(network, messages)| NewSum {
            source: format!("192.0.{network}.0/24"),
            from: "a.test".into(),
            sum: ReportSum {
                messages: *messages,
                ..ReportSum::default()
            },
        });
        add_rows(&site, rows.collect()).await;
    };
    add(&[(2, 3), (4, 2), (6, 1)]).await;
    let text = |page: &serde_json::Value, at: &str| page.pointer(at)?.as_str().map(str::to_owned);
    let (mut seen, mut next) = (Vec::new(), String::new());
    loop {
        let path = format!("/api/reports/dmarc/sums?limit=1{query}{next}");
        let page = site.get(&path).await;
        seen.push(text(&page, "/items/0/source").unwrap());
        if seen.len() == 1 {
            add(&[(1, 9), (3, 8), (7, 1)]).await;
        }
        match text(&page, "/next") {
            Some(cursor) => next = format!("&cursor={}", cursor.replace('/', "%2F")),
            None => return seen,
        }
    }
}

#[tokio::test]
async fn pages_of_sums_go_on_behind_the_last_one() {
    let networks = |numbers: &[u8]| {
        let networks = numbers.iter().map(|it| format!("192.0.{it}.0/24"));
        networks.collect::<Vec<_>>()
    };
    for (query, expected) in [
        ("", networks(&[2, 4, 6, 7])),
        ("&sort=id", networks(&[2, 3, 4, 6, 7])),
        ("&sort=-id", networks(&[6, 4, 3, 2, 1])),
    ] {
        assert_eq!(pages_of_sums(query).await, expected, "{query}");
    }
}

/// A report about several domains is seen by those who have all of them.
#[tokio::test]
async fn a_tenant_sees_reports_about_its_domains() {
    let site = site().await;
    let key = site.make_key(&[Scope::Manage], &["b.test"], |_| {}).await;
    let call = async |request: &str| {
        let headers = format!("Authorization: Bearer {key}\r\n");
        site.send(request, &headers, "").await
    };
    let list = async |path: &str| call(&format!("GET /api/reports/{path}")).await.data();
    assert_eq!(
        list("dmarc").await,
        json!({"items": [id(&site, 3)], "total": 1})
    );
    assert_eq!(list("tls").await["total"], 0);
    assert_eq!(list("arf").await["total"], 1);
    assert_eq!(list("dmarc/sums?by=day").await["items"][0]["messages"], 4);
    assert_eq!(list("dmarc/sums?domain=a.test").await["items"], json!([]));
    for path in ["dmarc/1", "tls/2"] {
        for method in ["GET", "DELETE"] {
            let got = call(&format!("{method} /api/reports/{path}")).await;
            assert_eq!(got.error(), (404, "notFound".to_owned()), "{path}");
        }
    }
    // The mail came to an address of somebody else.
    let whole = list("dmarc?values=1").await;
    assert_eq!(whole["items"][0]["to"], json!([]));
    assert_eq!(
        call("GET /api/reports/dmarc/3").await.data()["to"],
        json!([])
    );
    assert_eq!(list("dmarc?text=dmarcreports").await["total"], 0);
    assert_eq!(list("dmarc?text=reporter.test").await["total"], 1);
    let got = call("DELETE /api/reports/dmarc").await;
    assert_eq!(got.data(), json!(true));
    assert_eq!(site.get("/api/reports/dmarc").await["total"], 2);
    let reader = site.make_key(&[Scope::ManageObserve], &[], |_| {}).await;
    let headers = format!("Authorization: Bearer {reader}\r\n");
    let got = site.send("DELETE /api/reports/dmarc/1", &headers, "").await;
    assert_eq!(got.status, 403);
    let got = site.send("GET /api/reports/dmarc/1", &headers, "").await;
    assert_eq!(got.status, 200);
}
