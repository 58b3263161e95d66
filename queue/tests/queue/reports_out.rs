//! Reports to other domains: what is counted, and who gets a report.

use std::{net::Ipv4Addr, time::Duration};

use mail_auth::report::{
    Report,
    tlsrpt::{PolicyType, ResultType, TlsReport},
};
use postrider_dns::Record;
use postrider_queue::{Arrived, ReturnEffects};
use postrider_smtp::{ReversePath, bounce, mime::Limits};
use postrider_store::{
    DmarcAction, DmarcCount, DmarcNote, DmarcPublished, DmarcRow, DueReport, ReportKind, Store,
    TlsCounts, TlsFailure, TlsNote, TlsPolicy, TlsPolicyKind, TlsResultType, TlsResults,
};

use crate::{
    https_host::{Answer, Ca, HttpsHost},
    mta_sts::{PolicyWorld, policy},
    remote::{Act, Point, Remote, RemoteTls},
    support::{DkimKeys, Message, Setup, World},
};

/// The day on which the worlds begin.
const DAY: u32 = 20_833;
const HOUR: Duration = Duration::from_secs(60 * 60);
/// From the beginning of a world until all reports of its day were due.
const NEXT_DAY: Duration = Duration::from_secs(20 * 60 * 60);

/// The counts of a domain, in words.
pub(crate) async fn counted(store: &Store, domain: &str) -> Vec<String> {
    let results = store.tls_results(DAY, domain).await.unwrap();
    let counts = results.map(|results| results.counts).unwrap_or_default();
    let words = counts.iter().map(|it| {
        let details = it.details.iter().map(|(failure, count)| {
            let ip = failure.to.map_or("-".into(), |ip| ip.to_string());
            let (result, reason) = (failure.result.name(), &failure.reason);
            format!(" {count}*{result} {reason} {} {ip}", failure.host)
        });
        let (kind, domain) = (it.policy.kind.name(), &it.policy.domain);
        let details: String = details.collect();
        format!(
            "{kind} {domain} +{} -{}{details}",
            it.successes, it.failures
        )
    });
    words.collect()
}

#[tokio::test]
async fn connections_count_for_the_domains_of_their_messages() {
    let world = World::start(Setup::default());
    let tls = RemoteTls::new(&["mx.a.test"], "");
    let safe = Remote::start_with(Some(tls), |_, _| None).await;
    let plain = Remote::start(|_, _| None).await;
    for (domain, ip, remote) in [
        ("a", "192.0.2.1", &safe),
        ("b", "192.0.2.2", &plain),
        ("c", "192.0.2.3", &safe),
    ] {
        let host = format!("mx.{domain}.test");
        world.mx(&format!("{domain}.test"), &[(10, &host)]);
        world.host(&host, ip);
        world.lead(ip, remote);
    }
    world.add::<1>(Message::to(&["x@a.test"])).await;
    world.add::<1>(Message::to(&["x@b.test"])).await;
    // Whoever waives TLS does not try its policies.
    let waiving = Message {
        require_tls: Some(false),
        ..Message::to(&["x@c.test"])
    };
    world.add::<1>(waiving).await;
    world.events(3).await;
    let store = world.store.clone();
    // What was counted is noted at the end at the latest.
    world.stop().await;
    assert_eq!(
        counted(&store, "a.test").await,
        ["no-policy-found a.test +1 -0"]
    );
    let failed = "no-policy-found b.test +0 -1 1*starttls-not-supported  mx.b.test 192.0.2.2";
    assert_eq!(counted(&store, "b.test").await, [failed]);
    assert_eq!(counted(&store, "c.test").await, [""; 0]);
    let results = store.tls_results(DAY, "b.test").await.unwrap().unwrap();
    let from = results.counts[0].details[0].0.from;
    assert_eq!(from, Some(Ipv4Addr::LOCALHOST.into()));
    let due = store.next_reports(9).await.unwrap();
    let due: Vec<_> = due.into_iter().map(|it| it.domain).collect();
    assert_eq!(due.len(), 2, "{due:?}");
}

#[tokio::test]
async fn nothing_is_counted_where_no_reports_are_sent() {
    let statics = "[reports]\ntls = \"none\"\n";
    let world = World::start(Setup {
        statics,
        ..Setup::default()
    });
    let remote = Remote::start(|_, _| None).await;
    world.mx("a.test", &[(10, "mx.a.test")]);
    world.host("mx.a.test", "192.0.2.1");
    world.lead("192.0.2.1", &remote);
    world.add::<1>(Message::to(&["x@a.test"])).await;
    world.events(1).await;
    let store = world.store.clone();
    world.stop().await;
    assert_eq!(counted(&store, "a.test").await, [""; 0]);
}

#[tokio::test]
async fn a_policy_counts_with_its_failures() {
    // Its issuer has the name of the trusted one.
    let untrusted = "1*validation-failure bad-certificate mx.a.test 192.0.2.1";
    let unlisted = "1*validation-failure host-not-in-policy mx.a.test";
    for (answer, waits, expected) in [
        (
            policy("testing", "*.a.test"),
            false,
            format!("+0 -1 {untrusted}"),
        ),
        (
            policy("enforce", "*.a.test"),
            true,
            format!("+0 -1 {untrusted}"),
        ),
        (
            policy("enforce", "b.test"),
            true,
            format!("+0 -1 {unlisted} -"),
        ),
        (
            policy("testing", "b.test"),
            false,
            format!("+0 -1 {unlisted} 192.0.2.1"),
        ),
        (
            Answer::of(404, ""),
            false,
            "+0 -1 1*sts-policy-fetch-error  mx.a.test 192.0.2.1".to_owned(),
        ),
        (
            Answer::of(200, "x"),
            false,
            "+0 -1 1*sts-policy-invalid  mx.a.test 192.0.2.1".to_owned(),
        ),
    ] {
        let tls = RemoteTls::new(&["mx.a.test"], "");
        let remote = Remote::start_with(Some(tls), |_, _| None).await;
        let it = PolicyWorld::new(answer, "", &remote).await;
        let world = it.world;
        world.add::<1>(Message::to(&["x@a.test"])).await;
        match waits {
            true => {
                let attempted = |it: &[postrider_store::Queued]| it[0].results.len() == 1;
                world.queued_until(attempted).await;
            }
            false => {
                world.events(1).await;
            }
        }
        let store = world.store.clone();
        world.stop().await;
        let found = counted(&store, "a.test").await;
        assert_eq!(found, [format!("sts a.test {expected}")]);
    }
}

/// A failure that was counted for a domain on the first day.
fn failed(domain: &str) -> TlsNote {
    let failure = TlsFailure {
        result: TlsResultType::CertificateExpired,
        reason: String::new(),
        text: String::new(),
        from: None,
        host: format!("mx.{domain}"),
        to: None,
    };
    let policy = TlsPolicy {
        kind: TlsPolicyKind::NoPolicyFound,
        domain: domain.to_owned(),
        lines: Vec::new(),
        hosts: Vec::new(),
    };
    note(
        domain,
        TlsCounts {
            policy,
            successes: 7,
            failures: 1,
            details: vec![(failure, 1)],
        },
    )
}

fn note(domain: &str, counts: TlsCounts) -> TlsNote {
    TlsNote {
        results: TlsResults {
            day: DAY,
            domain: domain.to_owned(),
            counts: vec![counts],
        },
        due: postrider_store::Time(1_800_000_000_000_000).after(17 * HOUR),
    }
}

/// A world with keys that sign, and a host for mail to reports.test.
struct Reporting {
    world: World,
    remote: Remote,
    keys: DkimKeys,
}

impl Reporting {
    async fn new(statics: &str, script: fn(&Point, usize) -> Option<Act>) -> Self {
        let keys = DkimKeys::new();
        let world = World::start(Setup {
            statics,
            domain: &keys.config(),
            ..Setup::default()
        });
        let remote = Remote::start(script).await;
        world.mx("reports.test", &[(10, "mx.reports.test")]);
        world.host("mx.reports.test", "192.0.2.9");
        world.lead("192.0.2.9", &remote);
        Self {
            world,
            remote,
            keys,
        }
    }

    /// Notes counts as the queue of an earlier process did. The store knows what is due, whoever
    /// sends it.
    async fn note_tls(&mut self, notes: Vec<TlsNote>) {
        self.world.store.note_tls_results(notes).await.unwrap();
        self.world.restart().await;
    }

    fn txt(&self, name: &str, text: &str) {
        let record = Record::Txt(text.as_bytes().to_vec());
        self.world.resolver.add(name, record);
    }

    /// Waits until the reports that are due are as they should be.
    async fn due_until(&self, is_right: impl Fn(&[DueReport]) -> bool) -> Vec<DueReport> {
        loop {
            let due = self.world.store.next_reports(9).await.unwrap();
            if is_right(&due) {
                return due;
            }
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_report_about_tls_goes_to_those_who_ask_for_it_at_that_time() {
    let mut reporting = Reporting::new("", |_, _| None).await;
    let store = reporting.world.store.clone();
    let notes = ["a.test", "silent.test"].map(failed).to_vec();
    reporting.note_tls(notes).await;
    let successes = TlsCounts {
        failures: 0,
        details: Vec::new(),
        ..failed("fine.test").results.counts.remove(0)
    };
    let fine = note("fine.test", successes);
    reporting.note_tls(vec![fine]).await;
    let rua = "v=TLSRPTv1; rua=mailto:tls@reports.test,mailto:small@reports.test!1k";
    reporting.txt("_smtp._tls.a.test", rua);
    reporting.txt("_smtp._tls.fine.test", rua);
    reporting.world.clock.advance(NEXT_DAY);
    let received = reporting.remote.wait_for(1).await;
    reporting.due_until(<[DueReport]>::is_empty).await;

    let [message] = received.as_slice() else {
        panic!("{received:?}");
    };
    assert_eq!(message.mail, "MAIL FROM:<postmaster@example.org>");
    assert_eq!(message.rcpts, ["RCPT TO:<tls@reports.test>"]);
    let text = &message.text;
    for field in [
        "From: <postmaster@example.org>\r\n",
        "To: <tls@reports.test>\r\n",
        "TLS-Report-Domain: a.test\r\n",
        "TLS-Report-Submitter: example.org\r\n",
        "TLS-Required: No\r\n",
        "Content-Type: multipart/report; report-type=tlsrpt;\r\n",
    ] {
        assert!(text.contains(field), "{field} in {text}");
    }
    let signatures = reporting.keys.verify(text).await;
    assert_eq!(signatures, ["pass ed", "pass rsa"]);
    let report = TlsReport::parse_rfc5322(text.as_bytes(), 1 << 20).unwrap();
    let [policy] = report.policies.as_slice() else {
        panic!("{report:?}");
    };
    assert_eq!(policy.policy.policy_type, PolicyType::NoPolicyFound);
    assert_eq!(policy.summary.total_success, 7);
    let detail = &policy.failure_details[0];
    assert_eq!(detail.result_type, ResultType::CertificateExpired);

    // The delivery of the report itself is not counted.
    reporting.world.stop().await;
    let counts = store.tls_results(DAY + 1, "reports.test").await.unwrap();
    assert_eq!(counts, None);
    assert!(store.tls_results(DAY, "a.test").await.unwrap().is_none());
}

#[tokio::test]
async fn a_report_over_https_is_tried_five_times_in_a_day() {
    let (ca, dir) = (Ca::new(), tempfile::tempdir().unwrap());
    let file = dir.path().join("ca.pem");
    std::fs::write(&file, ca.pem()).unwrap();
    let statics = format!("[tls]\nca_files = [{file:?}]\n");
    let mut reporting = Reporting::new(&statics, |_, _| None).await;
    let busy = Answer::of(503, "");
    let host = HttpsHost::start(ca.server(&["r.a.test"]), busy.clone()).await;
    reporting.world.host("r.a.test", "192.0.2.60");
    reporting.world.lead_to("192.0.2.60", host.address);
    let both = "v=TLSRPTv1; rua=https://r.a.test/in?x=1,mailto:tls@reports.test";
    reporting.txt("_smtp._tls.a.test", both);
    let notes = vec![failed("a.test")];
    reporting.note_tls(notes.clone()).await;
    reporting.world.clock.advance(NEXT_DAY);
    for tries in 1..5 {
        let requests = host.requests(tries).await;
        let request = &requests[tries - 1];
        assert!(
            request.starts_with("POST /in?x=1 HTTP/1.1\r\n"),
            "{request}"
        );
        let kind = "content-type: application/tlsrpt+gzip\r\n";
        assert!(request.contains(kind), "{request}");
        let attempts = u32::try_from(tries).unwrap();
        let tried = |due: &[DueReport]| due[0].attempts == attempts;
        let due = reporting.due_until(tried).await;
        assert_eq!(due[0].done, ["mailto:tls@reports.test"]);
        reporting.world.clock.set(due[0].due);
    }
    assert_eq!(host.requests(5).await.len(), 5);
    reporting.due_until(<[DueReport]>::is_empty).await;
    // Who has it got it once.
    assert_eq!(reporting.remote.wait_for(1).await.len(), 1);

    // One that is taken is not sent again, however much the answer says.
    host.answer(Answer::of(201, &"x".repeat(100_000)));
    reporting.note_tls(notes).await;
    host.requests(6).await;
    reporting.due_until(<[DueReport]>::is_empty).await;
    reporting.world.stop().await;
}

#[tokio::test]
async fn a_silent_receiver_holds_up_no_other_report() {
    let (ca, dir) = (Ca::new(), tempfile::tempdir().unwrap());
    let file = dir.path().join("ca.pem");
    std::fs::write(&file, ca.pem()).unwrap();
    let statics = format!("[tls]\nca_files = [{file:?}]\n");
    let mut reporting = Reporting::new(&statics, |_, _| None).await;
    let host = HttpsHost::start(ca.server(&["r.a.test"]), Answer::Silence).await;
    reporting.world.host("r.a.test", "192.0.2.60");
    reporting.world.lead_to("192.0.2.60", host.address);
    let silent = "v=TLSRPTv1; rua=https://r.a.test/in";
    reporting.txt("_smtp._tls.a.test", silent);
    let rua = "v=TLSRPTv1; rua=mailto:tls@reports.test";
    reporting.txt("_smtp._tls.b.test", rua);
    let later = TlsNote {
        due: failed("b.test").due.after(HOUR),
        ..failed("b.test")
    };
    reporting.note_tls(vec![failed("a.test"), later]).await;
    reporting.world.clock.advance(17 * HOUR);
    host.requests(1).await;
    assert!(reporting.remote.received().is_empty());
    reporting.world.clock.advance(HOUR);
    let received = reporting.remote.wait_for(1).await;
    assert!(received[0].text.contains("TLS-Report-Domain: b.test"));
    let due = reporting.due_until(|due| due.len() == 1).await;
    assert_eq!((due[0].domain.as_str(), due[0].attempts), ("a.test", 0));
    reporting.world.stop().await;
}

#[tokio::test]
async fn an_address_that_bounces_rests() {
    let mut reporting = Reporting::new("", |point, _| match point {
        Point::Command(line) if line.contains("gone@") => Some(Act::Say("550 5.1.1 nobody")),
        _ => None,
    })
    .await;
    let rua = "v=TLSRPTv1; rua=mailto:gone@reports.test";
    reporting.txt("_smtp._tls.a.test", rua);
    reporting.note_tls(vec![failed("a.test")]).await;
    let world = &reporting.world;
    let store = world.store.clone();
    world.clock.advance(NEXT_DAY);
    let rest = loop {
        let until = store.report_address_rests("gone@reports.test").await;
        if let Some(until) = until.unwrap() {
            break until;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(rest.since(world.now()).as_secs() / 86_400, 60);
    world.queued_until(<[_]>::is_empty).await;
    let dialed = world.dialed("192.0.2.9");

    // The next report is not even queued.
    let mut next = failed("a.test");
    next.results.day += 1;
    world.clock.advance(24 * HOUR);
    reporting.note_tls(vec![next]).await;
    let world = &reporting.world;
    reporting.due_until(<[DueReport]>::is_empty).await;
    world.queued_until(<[_]>::is_empty).await;
    assert_eq!(world.dialed("192.0.2.9"), dialed);
    assert!(
        store
            .report_address_rests("gone@reports.test")
            .await
            .unwrap()
            .is_some()
    );
    reporting.world.stop().await;
}

#[tokio::test]
async fn an_address_rests_also_by_a_dsn_that_comes_later() {
    let mut reporting = Reporting::new("", |_, _| None).await;
    let rua = "v=TLSRPTv1; rua=mailto:gone@reports.test";
    reporting.txt("_smtp._tls.a.test", rua);
    reporting.note_tls(vec![failed("a.test")]).await;
    let world = &reporting.world;
    let store = world.store.clone();
    world.clock.advance(NEXT_DAY);
    let received = reporting.remote.wait_for(1).await;
    world.queued_until(<[_]>::is_empty).await;
    let mut lines = received[0].text.lines();
    let message_id = lines.find_map(|line| line.strip_prefix("Message-ID: "));
    let dsn = format!(
        "From: <mailer-daemon@reports.test>\r\nTo: <postmaster@example.org>\r\n\
         Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n\
         --b\r\n\r\nNo.\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\n\
         Reporting-MTA: dns; mx.reports.test\r\n\r\n\
         Final-Recipient: rfc822; gone@reports.test\r\nAction: failed\r\n\
         Status: 5.1.1\r\n\r\n--b\r\nContent-Type: text/rfc822-headers\r\n\r\n\
         Message-ID: {}\r\n\r\n--b--\r\n",
        message_id.unwrap()
    );
    let path = ReversePath::Null;
    let reading = bounce::read_with_path(&path, dsn.as_bytes(), Limits::default());
    let arrived = Arrived {
        account: "ann",
        reverse_path: &path,
        rcpt_to: &"postmaster@example.org".parse().unwrap(),
        report: true,
        authenticated: None,
    };
    let mut effects = ReturnEffects::default();
    let config = world.config.load_full();
    let returned = world
        .queue
        .returned(&config, &arrived, async { &reading }, &mut effects)
        .await;
    assert!(returned.unwrap());
    let rest = store.report_address_rests("gone@reports.test").await;
    assert!(rest.unwrap().is_some());
    // The account is told nothing: it did not send the report.
    assert!(effects.hooks.is_empty() && effects.events.is_empty() && effects.suppress.is_empty());
    reporting.world.stop().await;
}

#[tokio::test]
async fn a_report_that_is_not_signed_is_not_sent() {
    let mut world = World::start(Setup::default());
    let record = Record::Txt(b"v=TLSRPTv1; rua=mailto:tls@reports.test".to_vec());
    world.resolver.add("_smtp._tls.a.test", record);
    let notes = vec![failed("a.test")];
    world.store.note_tls_results(notes).await.unwrap();
    world.restart().await;
    world.clock.advance(NEXT_DAY);
    while !world.store.next_reports(1).await.unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    world.queued_until(<[_]>::is_empty).await;
    assert!(
        world
            .store
            .tls_results(DAY, "a.test")
            .await
            .unwrap()
            .is_none()
    );
    world.stop().await;
}

#[tokio::test]
async fn a_report_about_dmarc_goes_to_those_who_agree() {
    let mut reporting = Reporting::new("", |_, _| None).await;
    let row = DmarcRow {
        source: [192, 0, 2, 77].into(),
        disposition: DmarcAction::Reject,
        dkim_aligned: false,
        spf_aligned: false,
        overrides: Vec::new(),
        header_from: "a.test".into(),
        envelope_from: "b.test".into(),
        envelope_to: "example.org".into(),
        dkim: Vec::new(),
        spf: Some(("b.test".into(), "fail".into())),
    };
    let note = DmarcNote {
        day: DAY,
        domain: "a.test".into(),
        due: failed("a.test").due,
        published: DmarcPublished {
            policy: Some(DmarcAction::Reject),
            below: None,
            missing: None,
            dkim_strict: false,
            spf_strict: false,
            testing: false,
        },
        name: "row".into(),
        count: DmarcCount { row, count: 4 },
    };
    let store = reporting.world.store.clone();
    store.note_dmarc_results(vec![note]).await.unwrap();
    reporting.world.restart().await;
    let world = &reporting.world;
    let rua = "v=DMARC1; p=reject; rua=mailto:victim@victim.test,mailto:x@reports.test!10m";
    reporting.txt("_dmarc.a.test", rua);
    let agrees = "v=DMARC1; rua=mailto:dmarc@reports.test";
    reporting.txt("a.test._report._dmarc.reports.test", agrees);
    world.clock.advance(NEXT_DAY);
    let received = reporting.remote.wait_for(1).await;
    // Its own delivery counts for a report about TLS.
    let is_sent = |due: &[DueReport]| due.iter().all(|it| it.kind == ReportKind::Tls);
    reporting.due_until(is_sent).await;
    assert_eq!(received[0].rcpts, ["RCPT TO:<dmarc@reports.test>"]);
    let text = &received[0].text;
    let signatures = reporting.keys.verify(text).await;
    assert_eq!(signatures, ["pass ed", "pass rsa"]);
    let report = Report::parse_rfc5322(text.as_bytes(), 1 << 20).unwrap();
    assert_eq!(report.policy_published.domain, "a.test");
    assert_eq!(report.record[0].row.count, 4);
    world.queued_until(<[_]>::is_empty).await;
    assert_eq!(world.dialed("192.0.2.9"), 1);
    reporting.world.stop().await;
}
