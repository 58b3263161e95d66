//! Reports to other domains, from the connection or the message to the report in their mailbox.

use std::{net::IpAddr, path::Path, time::Duration};

use mail_auth::report::{
    ActionDisposition, Disposition, Report,
    tlsrpt::{PolicyType, ResultType, TlsReport},
};

use serde_json::{Value, json};

use crate::support::{
    Setup, World,
    dkim::DkimKey,
    dns::Zone,
    message, program,
    remote::{Received, Remote},
};

const MX: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 2));
const REPORTS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 3));
/// From the beginning of a world until four hours after its day.
const NEXT_DAY: Duration = Duration::from_secs(20 * 60 * 60);

/// A server whose domain signs, and a host that takes reports to reports.test.
async fn start(zone: Zone, statics: &str) -> (World, Remote) {
    let zone = zone
        .mx("reports.test", 10, "mx.reports.test")
        .address("mx.reports.test", REPORTS);
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup {
        dns: Some(zone.serve().await),
        statics: statics.to_owned(),
        dynamics: "[domains.\"example.org\".dkim]\nsign = [\"s\"]\n\
                   selectors.s.private_key_file = \"dkim.pem\"\n"
            .to_owned(),
        ..Setup::default()
    };
    write_key(dir.path());
    setup.write(dir.path());
    let world = World::start_in(dir).await;
    let reports = Remote::start(|_, _| None).await;
    world.dialer.lead(REPORTS, reports.address);
    (world, reports)
}

fn write_key(dir: &Path) {
    let key = DkimKey::new().pem();
    postrider_config::replace_private(&dir.join("dkim.pem"), key.as_bytes()).unwrap();
}

/// The report that comes in the night after the first day, also over a restart.
async fn report(world: World, reports: &Remote) -> Received {
    let world = world.restart().await;
    world.clock.advance(NEXT_DAY);
    let report = reports.wait_for(1).await.remove(0);
    world.server.stop().await;
    assert_eq!(report.mail, "MAIL FROM:<postmaster@example.org>");
    assert!(report.text.starts_with("DKIM-Signature: "), "{report:?}");
    assert!(report.text.contains(" d=example.org;"), "{report:?}");
    report
}

/// A world that sent a message to a host without TLS, whose domain asks for reports.
async fn sent_without_tls(listener: &str) -> (World, Remote) {
    let zone = Zone::default()
        .mx("remote.test", 10, "mx.remote.test")
        .address("mx.remote.test", MX)
        .txt(
            "_smtp._tls.remote.test",
            "v=TLSRPTv1; rua=mailto:tls@reports.test",
        );
    let (world, reports) = start(zone, listener).await;
    let remote = Remote::start(|_, _| None).await;
    world.dialer.lead(MX, remote.address);
    let mut submission = world.submission().await;
    let reply = submission
        .submit("app@example.org", &["rcpt@remote.test"], &message("tls"))
        .await;
    assert!(reply.starts_with("250 2.0.0"), "{reply}");
    remote.wait_for(1).await;
    drop(submission);
    (world, reports)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_domain_learns_that_its_host_has_no_tls() {
    let (world, reports) = sent_without_tls("").await;

    let report = report(world, &reports).await;
    assert_eq!(report.rcpts, ["RCPT TO:<tls@reports.test>"]);
    let report = TlsReport::parse_rfc5322(report.text.as_bytes(), 1 << 20).unwrap();
    assert_eq!(report.organization_name.as_deref(), Some("example.org"));
    let [policy] = report.policies.as_slice() else {
        panic!("{report:?}");
    };
    assert_eq!(policy.policy.policy_type, PolicyType::NoPolicyFound);
    assert_eq!(policy.policy.policy_domain, "remote.test");
    let summary = &policy.summary;
    assert_eq!((summary.total_success, summary.total_failure), (0, 1));
    let detail = &policy.failure_details[0];
    assert_eq!(detail.result_type, ResultType::StartTlsNotSupported);
    let host = detail.receiving_mx_hostname.as_deref();
    assert_eq!(host, Some("mx.remote.test"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_domain_learns_who_forges_its_mail() {
    let zone = Zone::default()
        .mx("sender.test", 10, "mx.sender.test")
        .host("mx.sender.test", "192.0.2.7".parse().unwrap())
        .txt("sender.test", "v=spf1 ip4:192.0.2.7 -all")
        .txt(
            "_dmarc.sender.test",
            "v=DMARC1; p=reject; rua=mailto:dmarc@reports.test",
        )
        .txt("sender.test._report._dmarc.reports.test", "v=DMARC1");
    let statics = "proxy_from = [\"127.0.0.0/8\"]\n[policy]\ngreylist = false\n\
                   first_time_sender_delay = \"0s\"\n";
    let (world, reports) = start(zone, statics).await;
    let text = "From: <ceo@sender.test>\r\nTo: <app@example.org>\r\nSubject: x\r\n\r\nHello.";
    for (client, expected) in [("192.0.2.7", "250 "), ("203.0.113.9", "550 5.7.1 ")] {
        let mut session = world.proxied("smtp", client).await;
        session.expect("EHLO mx.sender.test", "250").await;
        let reply = session
            .submit("ceo@sender.test", &["app@example.org"], text)
            .await;
        assert!(reply.starts_with(expected), "{client}: {reply}");
    }

    let report = report(world, &reports).await;
    assert_eq!(report.rcpts, ["RCPT TO:<dmarc@reports.test>"]);
    let report = Report::parse_rfc5322(report.text.as_bytes(), 1 << 20).unwrap();
    assert_eq!(report.policy_published.domain, "sender.test");
    assert_eq!(report.policy_published.p, Disposition::Reject);
    let rows = report.record.iter().map(|record| {
        let source = record.row.source_ip.unwrap().to_string();
        (
            source,
            record.row.policy_evaluated.disposition,
            record.row.count,
        )
    });
    let mut rows: Vec<_> = rows.collect();
    rows.sort_by(|one, other| one.0.cmp(&other.0));
    let expected = [
        ("192.0.2.7".to_owned(), ActionDisposition::Pass, 1),
        ("203.0.113.9".to_owned(), ActionDisposition::Reject, 1),
    ];
    assert_eq!(rows, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_that_waits_is_seen_and_dropped() {
    let listener = "admin_http = { enabled = true, port = 0 }\n";
    let (world, reports) = sent_without_tls(listener).await;
    // What was counted is stored at the end at the latest.
    let world = world.restart().await;
    let conf = world.dir.path().join("postrider.conf");
    let says = async |arguments: &[&str]| {
        let output = program::run(&conf, arguments).await;
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    };
    let key = says(&["apikey", "add", "tool", "--scope", "manage-queue"]).await;
    let address = world.server.address("admin_http").unwrap();
    let http = reqwest::Client::new();
    let get = async |path: &str| {
        let request = http.get(format!("http://{address}/api/queue/reports{path}"));
        let answer = request.bearer_auth(key.trim_end()).send().await.unwrap();
        let answer: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        answer["data"].clone()
    };
    let list = get("").await;
    assert_eq!(list["total"], 1, "{list}");
    let id = list["items"][0].as_str().unwrap();
    assert!(id.starts_with("t!remote.test!0!"), "{id}");
    let shown = get(&format!("/{id}")).await;
    assert_eq!(shown["type"], "tls");
    assert_eq!(shown["rua"], json!([{"Mail": "tls@reports.test"}]));
    assert_eq!(shown["obstacle"], Value::Null, "{shown}");
    let summary = &shown["report"]["policies"][0]["summary"];
    assert_eq!(summary["total-failure-session-count"], 1);

    let listed = says(&["queue", "reports", "list", "--json"]).await;
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed, get("?values=1").await["items"]);
    let said = says(&["queue", "reports", "show", id, "--json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&said).unwrap(), shown);
    let said = says(&["queue", "reports", "show", id]).await;
    assert!(said.contains("\nfor tls@reports.test\n"), "{said}");
    let wrong = ["queue", "reports", "drop"];
    let wrong = program::run(&conf, &wrong).await;
    assert_eq!(wrong.status.code(), Some(2), "which ones?");
    let said = says(&["queue", "reports", "drop", "--type", "dmarc"]).await;
    assert_eq!(said, "0 reports dropped\n");
    let said = says(&["queue", "reports", "drop", id]).await;
    assert_eq!(said, "1 report dropped\n");
    let gone = program::run(&conf, &["queue", "reports", "drop", id]).await;
    assert_eq!(gone.status.code(), Some(1));
    assert_eq!(get("").await, json!({"items": [], "total": 0}));
    world.clock.advance(NEXT_DAY);
    world.server.stop().await;
    assert!(reports.received().is_empty());
}
