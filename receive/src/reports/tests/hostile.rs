//! Reports that nobody could read in memory or time.

use proptest::prelude::*;

use super::*;
use crate::reports::{
    arf, dmarc,
    fault::{Limit, ReportFault},
    find::Found,
    samples::{deflated_zeros, gzip_of},
    tls,
};

const HEAD: &str = "<feedback><report_metadata><date_range><begin>1700006400</begin>\
    <end>1700092799</end></date_range></report_metadata>\
    <policy_published><domain>example.com</domain></policy_published>";

fn xml(body: &str) -> Result<dmarc::Report, ReportFault> {
    let never = || false;
    let text = format!("{HEAD}{body}</feedback>");
    dmarc::parse(text.as_bytes(), false, Patience::until(&never))
}

fn json(text: &str) -> Result<tls::Report, ReportFault> {
    let never = || false;
    tls::parse(text.as_bytes(), Patience::until(&never))
}

fn limit<T: std::fmt::Debug>(read: Result<T, ReportFault>) -> Limit {
    match read.unwrap_err() {
        ReportFault::Limit(limit) => limit,
        other => panic!("{other}"),
    }
}

#[test]
fn a_million_records_are_too_many() {
    assert_eq!(
        xml(&"<record/>".repeat(100_000)).unwrap().record.len(),
        100_000
    );
    assert_eq!(limit(xml(&"<record/>".repeat(1_000_000))), Limit::Records);
    let failures = |count: usize| {
        let failures = vec!["{}"; count].join(",");
        format!("{{\"policies\":[{{\"failure-details\":[{failures}]}}]}}")
    };
    let read = json(&failures(99_999)).unwrap();
    assert_eq!(read.policies[0].failure_details.len(), 99_999);
    assert_eq!(limit(json(&failures(100_000))), Limit::Records);
    assert_eq!(limit(json(&failures(1_000_000))), Limit::Records);
}

#[test]
fn results_are_counted_over_all_records() {
    let record = |results: usize| {
        let results = "<dkim/>".repeat(results);
        format!("<record><auth_results>{results}</auth_results></record>")
    };
    assert!(xml(&record(400_000)).is_ok());
    assert_eq!(limit(xml(&record(200_001).repeat(2))), Limit::Values);
    let hosts = |count: usize| {
        let hosts = vec!["\"\""; count].join(",");
        format!("{{\"policies\":[{{\"policy\":{{\"mx-host\":[{hosts}]}}}}]}}")
    };
    let read = json(&hosts(1_000_000)).unwrap();
    assert_eq!(read.policies[0].policy.mx_host.len(), 100);
    assert_eq!(limit(json(&hosts(2_000_002))), Limit::Values);
}

#[test]
fn depth_is_limited() {
    let nested = |levels: usize| format!("{}{}", "<a>".repeat(levels), "</a>".repeat(levels));
    assert!(xml(&nested(15)).is_ok());
    assert_eq!(limit(xml(&nested(16))), Limit::Depth);
    assert_eq!(limit(xml(&nested(1_000_000))), Limit::Depth);
    let nested = |levels: usize| {
        let (open, close) = ("[".repeat(levels), "]".repeat(levels));
        format!("{{\"policies\":[{{}}],\"x\":{open}{close}}}")
    };
    assert!(json(&nested(15)).is_ok());
    assert_eq!(limit(json(&nested(16))), Limit::Depth);
    assert_eq!(limit(json(&nested(1_000_000))), Limit::Depth);
    // Brackets in texts are no levels.
    let text = format!("{{\"policies\":[{{}}],\"x\":\"\\\"{}\"}}", "[".repeat(99));
    assert!(json(&text).is_ok());
}

/// Numbers that no program holds exactly, and sums that go beyond the end of a counter.
#[test]
fn messages_and_sessions_are_limited() {
    let rows = |counts: &[u64]| {
        let row = |count| format!("<record><row><count>{count}</count></row></record>");
        counts.iter().map(row).collect::<String>()
    };
    let sessions = |good: u64, bad: u64, failed: u64| {
        format!(
            "{{\"policies\":[{{}},{{\"summary\":{{\"total-successful-session-count\":{good},\
             \"total-failure-session-count\":{bad}}},\"failure-details\":[{{\
             \"failed-session-count\":{failed}}}]}}]}}"
        )
    };
    const MOST: u64 = 4_000_000_000;
    assert!(xml(&rows(&[MOST - 1, 1])).is_ok());
    for counts in [&[MOST, 1][..], &[MOST + 1], &[u64::MAX]] {
        assert_eq!(limit(xml(&rows(counts))), Limit::Counts, "{counts:?}");
    }
    assert_eq!(
        json(&sessions(MOST - 2, 2, MOST)).unwrap().sessions(),
        (MOST - 2, 2)
    );
    for (good, bad, failed) in [
        (MOST, 1, 0),
        (0, MOST + 1, 0),
        (u64::MAX, u64::MAX, 0),
        (1 << 53, 0, 0),
        (0, 0, MOST + 1),
    ] {
        let read = json(&sessions(good, bad, failed));
        assert_eq!(limit(read), Limit::Counts, "{good} {bad} {failed}");
    }
}

/// JSON has no such numbers: a client would find null in the place of a number.
#[test]
fn a_version_is_a_number() {
    for (text, version) in [
        ("1.0", 1.0),
        ("2", 2.0),
        ("NaN", 0.0),
        ("-inf", 0.0),
        ("infinity", 0.0),
        ("1e99", 0.0),
        ("x", 0.0),
    ] {
        let policy = format!(
            "<version>{text}</version><policy_published><domain>example.com</domain>\
             <version_published>{text}</version_published></policy_published>"
        );
        let read = xml(&policy).unwrap();
        let published = Some(version).filter(|version| *version > 0.0);
        let found = (read.version, read.policy_published.version_published);
        assert_eq!(found, (version, published), "{text}");
        let shown = serde_json::to_value(&read).unwrap();
        assert!(shown["version"].is_number(), "{text}");
    }
}

/// A verified stranger may name any time. The days with sums stay few.
#[test]
fn times_are_limited() {
    const DAY: i64 = 24 * 60 * 60;
    const KEEP: i64 = 365 * DAY;
    let head = "From: r@reporter.test\r\nTo: dmarcreports@example.com\r\nContent-Type: ";
    let now = NOW.timestamp().as_second();
    let (long, old) = (ReportFault::Long.to_string(), ReportFault::Old.to_string());
    let future = ReportFault::Future.to_string();
    for (begin, end, error) in [
        (now - 2 * DAY, now - DAY, ""),
        (now - 8 * DAY, now - DAY, ""),
        (now - 8 * DAY - 1, now - DAY, long.as_str()),
        (now - KEEP - DAY, now - KEEP, ""),
        (now - KEEP - DAY, now - KEEP - 1, old.as_str()),
        (DAY, 2 * DAY, old.as_str()),
        (now, now + DAY, ""),
        (now, now + DAY + 1, future.as_str()),
    ] {
        let date = |second| jiff::Timestamp::from_second(second).unwrap();
        let dmarc = format!(
            "{head}text/xml\r\n\r\n<feedback><report_metadata><date_range><begin>{begin}</begin>\
             <end>{end}</end></date_range></report_metadata><policy_published><domain>example.com\
             </domain></policy_published><record/></feedback>"
        );
        let tls = format!(
            "{head}application/tlsrpt+json\r\n\r\n{{\"date-range\":{{\"start-datetime\":\
             \"{}\",\"end-datetime\":\"{}\"}},\"policies\":[{{\"policy\":{{\"policy-domain\":\
             \"example.com\"}}}}]}}",
            date(begin),
            date(end)
        );
        for mail in [&dmarc, &tls] {
            let report = kept(mail.as_bytes(), |_| {}).unwrap();
            assert_eq!(report.about.error, error, "{mail}");
            assert_eq!(report.sums.is_some(), error.is_empty() && mail == &dmarc);
            if let Some(sums) = report.sums {
                let keep_until = (begin / DAY + 1) * DAY + KEEP;
                assert_eq!(sums.keep_until.timestamp().as_second(), keep_until);
            }
        }
        let arf = format!(
            "{head}multipart/report; report-type=feedback-report; boundary=b\r\n\r\n--b\r\n\
             Content-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\n\
             Original-Mail-From: <a@example.com>\r\nArrival-Date: {}\r\n--b--\r\n",
            jiff::fmt::rfc2822::to_string(&date(begin).to_zoned(jiff::tz::TimeZone::UTC)).unwrap()
        );
        let complaint = kept(arf.as_bytes(), |_| {}).unwrap().about;
        assert_eq!(complaint.begin.unwrap().timestamp().as_second(), begin);
        assert_eq!(complaint.error, "", "{arf}");
    }
    let absurd = format!("{HEAD}</feedback>").replace("1700092799", "17000927990000000");
    let never = || false;
    let read = dmarc::parse(absurd.as_bytes(), false, Patience::until(&never));
    assert_eq!(read, Err(ReportFault::Without("date_range with dates")));
}

#[test]
fn values_are_cut() {
    let long = "\u{e4}".repeat(100_000);
    let record = format!(
        "<record><identifiers><header_from>{long}&lt;</header_from></identifiers></record>"
    );
    let read = xml(&record).unwrap();
    assert_eq!(read.record[0].identifiers.header_from.len(), 1024);
    let read = json(&format!("{{\"report-id\":\"{long}\",\"policies\":[{{}}]}}")).unwrap();
    assert_eq!(read.report_id.len(), 1024);
    let fields = format!("Feedback-Type: abuse\r\nUser-Agent: {long}\r\n");
    let many = format!("{fields}{}", "Reported-Domain: x.test\r\n".repeat(1000));
    let read = arf::parse(many.as_bytes());
    assert_eq!(read.user_agent.unwrap().len(), 1024);
    assert_eq!(read.reported_domain.len(), 100);
}

#[test]
fn work_ends_when_time_is_over() {
    use std::sync::atomic::{AtomicUsize, Ordering};

    let asked = AtomicUsize::new(0);
    let over = || asked.fetch_add(1, Ordering::Relaxed) >= 2;
    let text = format!("{HEAD}{}</feedback>", "<record/>".repeat(100_000));
    let read = dmarc::parse(text.as_bytes(), false, Patience::until(&over));
    assert_eq!(limit(read), Limit::Time);
    asked.store(0, Ordering::Relaxed);
    let text = format!("{{{}", " ".repeat(4 << 20));
    let read = tls::parse(text.as_bytes(), Patience::until(&over));
    assert_eq!(limit(read), Limit::Time);
    // The other parts of a mail are not looked at any more.
    asked.store(2, Ordering::Relaxed);
    let part = "--b\r\nContent-Type: application/tlsrpt+json\r\n\r\n{\"policies\":[{}]}\r\n";
    let mail = format!(
        "From: a@x.test\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n{}--b--\r\n",
        part.repeat(100)
    );
    let limits = postrider_smtp::mime::Limits::default();
    let read = find::read(mail.as_bytes(), 1, limits, Patience::until(&over));
    let faulty = read.report.unwrap().unwrap_err();
    assert_eq!(faulty.fault, Limit::Time.into());
    assert_eq!(asked.load(Ordering::Relaxed), 3);
}

/// A mail with a file of 10 GB is listed as over a limit, and so is one that is too large itself.
#[test]
fn a_bomb_by_mail_is_listed() {
    use base64::Engine as _;

    let bomb = gzip_of(&deflated_zeros(10 << 10));
    let bomb = base64::engine::general_purpose::STANDARD.encode(bomb);
    let mail = format!(
        "From: a@x.test\r\nTo: dmarcreports@example.com\r\n\
         Content-Type: application/gzip; name=\"x!example.com!1!2.xml.gz\"\r\n\
         Content-Transfer-Encoding: base64\r\n\r\n{bomb}\r\n"
    );
    let about = kept(mail.as_bytes(), |_| {}).unwrap().about;
    assert_eq!(about.error, "the report is over a limit: 32 MiB unpacked");
    assert_eq!(about.domains, ["example.com"]);
    let never = || false;
    let limits = postrider_smtp::mime::Limits::default();
    let head = b"From: a@x.test\r\nSubject: x\r\n\r\n";
    let read = find::read(head, 25 << 20, limits, Patience::until(&never));
    let faulty = read.report.unwrap().unwrap_err();
    assert_eq!(faulty.fault, Limit::Mail.into());
}

/// Pieces of XML of reports, in any order.
fn pieces() -> impl Strategy<Value = String> {
    let names = [
        "feedback",
        "record",
        "row",
        "count",
        "source_ip",
        "auth_results",
        "dkim",
        "spf",
        "reason",
        "policy_evaluated",
        "date_range",
        "begin",
        "report_metadata",
        "domain",
        "policy_published",
        "x:y",
    ];
    let name = || prop::sample::select(names.to_vec());
    let piece = prop_oneof![
        name().prop_map(|name| format!("<{name}>")),
        name().prop_map(|name| format!("</{name}>")),
        name().prop_map(|name| format!("<{name}/>")),
        "[0-9]{1,20}",
        "&[a-z#0-9]{0,4};",
        prop::sample::select(vec![
            "<!-- x -->",
            "<![CDATA[1]]>",
            "<?x?>",
            "<!DOCTYPE a>",
            "]]>"
        ])
        .prop_map(str::to_owned),
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_xml_breaks_the_parser(text in pieces()) {
        if let Ok(report) = xml(&text) {
            prop_assert!(!report.policy_published.domain.is_empty());
        }
        let never = || false;
        let _ = dmarc::parse(text.as_bytes(), true, Patience::until(&never));
    }

    #[test]
    fn no_json_breaks_the_parser(text in "[\\[\\]{}\",:0-9a\\\\.-]{0,80}") {
        let _ = json(&format!("{{\"policies\":{text}}}"));
        let _ = json(&text);
    }

    /// A changed byte or a missing end of a mail makes another report, or a fault.
    #[test]
    fn no_change_of_a_mail_breaks_its_reading(
        which in 0_usize..100,
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<bool>(),
    ) {
        let mails = samples::mails();
        let mut mail = mails[which % mails.len()].1.clone();
        let at = at.index(mail.len());
        match cut {
            true => mail.truncate(at),
            false => mail[at] = byte,
        }
        if let Some(Ok(Found::Dmarc(report))) = read(&mail).report {
            let range = report.report_metadata.date_range;
            prop_assert!(range.begin > 0 && range.end > 0);
        }
    }

    /// What is written is read again.
    #[test]
    fn a_report_about_tls_is_read_as_it_is_written(
        texts in prop::collection::vec("[ -~]{0,20}", 6),
        counts in prop::collection::vec(0..=2_000_000_000_u64, 3),
        hosts in prop::collection::vec("[a-z.]{1,9}", 0..4),
    ) {
        let report = tls::Report {
            organization_name: texts[0].clone(),
            report_id: texts[1].clone(),
            policies: vec![tls::Policy {
                policy: tls::PolicyDetails {
                    policy_type: texts[2].clone(),
                    policy_domain: texts[3].clone(),
                    mx_host: hosts,
                    ..Default::default()
                },
                summary: tls::Summary {
                    total_successful_session_count: counts[0],
                    total_failure_session_count: counts[1],
                },
                failure_details: vec![tls::FailureDetails {
                    result_type: texts[4].clone(),
                    failed_session_count: counts[2],
                    failure_reason_code: texts[5].clone(),
                    ..Default::default()
                }],
            }],
            ..Default::default()
        };
        let written = serde_json::to_string(&report).unwrap();
        prop_assert_eq!(json(&written).unwrap(), report);
    }
}
