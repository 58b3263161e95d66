//! The mails of `testdata/reports`, in the shapes in which large receivers send reports, with their
//! oddities. `expected.txt` says what is kept of each. With `POSTRIDER_BLESS=1` it is written anew.

use std::{fmt::Write as _, fs, path::PathBuf};

use mail_auth::report;
use postrider_store::ReceivedKind;
use serde_json::Value;

use super::*;
use crate::reports::find::Found;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../testdata/reports")
}

/// The mails with their names.
pub(super) fn mails() -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder()).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mails = paths.filter(|path| path.extension().is_some_and(|it| it == "eml"));
    let mut mails: Vec<_> = mails
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, fs::read(path).unwrap())
        })
        .collect();
    mails.sort();
    mails
}

fn mail(name: &str) -> Vec<u8> {
    fs::read(folder().join(name)).unwrap()
}

/// What is kept, in lines.
fn in_words(kept: Option<&NewReceivedReport>) -> String {
    let Some(kept) = kept else {
        return "no report\n".to_owned();
    };
    let about = &kept.about;
    let time = |time: Option<Time>| time.map_or_else(|| "-".to_owned(), |time| time.to_string());
    let mut out = String::new();
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            writeln!(out, "{name}: {value}").unwrap();
        }
    };
    line("kind", about.kind.as_str());
    line("error", &about.error);
    line("from", &about.from);
    line("subject", &about.subject);
    line("reporter", &about.reporter);
    line("organization", &about.organization);
    line("id", &about.report_id);
    line("domains", &about.domains.join(" "));
    let range = format!("{} to {}", time(about.begin), time(about.end));
    line("range", &range);
    line("passed", &about.passed.to_string());
    line("failed", &about.failed.to_string());
    if let Some(message) = &about.message {
        line("message", &format!("{message:?}"));
    }
    for row in kept.sums.iter().flat_map(|sums| &sums.rows) {
        let sum = row.sum;
        let text = format!(
            "{} {} messages {} passed {} none {} quarantined {} rejected {}",
            row.source, row.from, sum.messages, sum.passed, sum.none, sum.quarantined, sum.rejected
        );
        line("sum", &text);
    }
    out
}

#[test]
fn what_receivers_send_is_read() {
    let mut found = String::new();
    for (name, mail) in mails() {
        let kept = kept(&mail, |_| {});
        writeln!(found, "[{name}]\n{}", in_words(kept.as_ref())).unwrap();
    }
    let path = folder().join("expected.txt");
    if std::env::var_os("POSTRIDER_BLESS").is_some() {
        fs::write(&path, &found).unwrap();
    }
    assert_eq!(found, fs::read_to_string(path).unwrap());
}

fn shown(mail: &[u8]) -> Value {
    match read(mail).report.unwrap().unwrap() {
        Found::Dmarc(report) => serde_json::to_value(report),
        Found::Tls(report) => serde_json::to_value(report),
        Found::Arf(report) => serde_json::to_value(report),
    }
    .unwrap()
}

/// Clients of the management API read reports with the types of mail-auth. Where mail-auth reads
/// the same mail rightly, it finds the same.
#[test]
fn reports_have_the_shape_of_mail_auth() {
    const SIZE: usize = 1 << 20;
    for name in ["microsoft-dmarc.eml", "no-records.eml"] {
        let mail = mail(name);
        let known = report::Report::parse_rfc5322(&mail, SIZE).unwrap();
        // Its types have no word for `sampled_out`.
        let text = shown(&mail).to_string().replace("SampledOut", "Other");
        let ours: report::Report = serde_json::from_str(&text).unwrap();
        assert_eq!(ours, known, "{name}");
    }
    for name in ["arf-abuse.eml", "arf-auth-failure.eml"] {
        let mail = mail(name);
        let known = report::Feedback::parse_rfc5322(&mail).unwrap();
        let value = shown(&mail);
        let text = value.to_string();
        let ours: report::Feedback<'_> = serde_json::from_str(&text).unwrap();
        assert_eq!(ours.feedback_type, known.feedback_type, "{name}");
        assert_eq!(ours.arrival_date, known.arrival_date, "{name}");
        // It does not read the form that RFC 5321 has for IPv6.
        let is_ipv6 = ours.source_ip.is_some_and(|ip| ip.is_ipv6());
        assert!(ours.source_ip == known.source_ip || is_ipv6, "{name}");
        assert_eq!(ours.reported_domain, known.reported_domain, "{name}");
        assert_eq!(ours.auth_failure, known.auth_failure, "{name}");
        assert_eq!(ours.identity_alignment, known.identity_alignment, "{name}");
    }
    let mail = mail("google-tls.eml");
    let text = shown(&mail).to_string();
    let ours = report::tlsrpt::TlsReport::parse_json(text.as_bytes()).unwrap();
    let known = report::tlsrpt::TlsReport::parse_rfc5322(&mail, SIZE).unwrap();
    assert_eq!(ours, known);
}

#[test]
fn words_of_overrides_are_those_of_the_contract() {
    let report = shown(&mail("microsoft-dmarc.eml"));
    let reason = &report["record"][0]["row"]["policy_evaluated"]["reason"][0];
    assert_eq!(
        *reason,
        serde_json::json!({"type_": "SampledOut", "comment": null})
    );
    let report = shown(&mail("google-dmarc.eml"));
    let reason = &report["record"][2]["row"]["policy_evaluated"]["reason"][0];
    assert_eq!(reason["type_"], "LocalPolicy");
    assert_eq!(report["policy_published"]["p"], "Reject");
}

/// What nobody stands behind is listed, and counts for nothing.
#[test]
fn a_report_is_verified_by_who_sends_it() {
    let unproven = |arrived: &mut ArrivedReport| {
        arrived.from_passed = false;
        arrived.signed_for_tls = false;
    };
    for name in ["google-dmarc.eml", "google-tls.eml", "arf-abuse.eml"] {
        let mail = mail(name);
        let proven = kept(&mail, |_| {}).unwrap();
        assert!(proven.about.verified, "{name}");
        let stranger = kept(&mail, unproven).unwrap();
        assert!(
            !stranger.about.verified && stranger.sums.is_none(),
            "{name}"
        );
        // It does not keep out the report of the one whose name it uses.
        assert!(stranger.name.is_none() || stranger.name != proven.name);
        // Each kind has its own proof.
        let other = kept(&mail, |arrived| match proven.about.kind {
            ReceivedKind::Tls => arrived.signed_for_tls = false,
            ReceivedKind::Dmarc | ReceivedKind::Arf => arrived.from_passed = false,
        });
        assert!(!other.unwrap().about.verified, "{name}");
    }
}

#[test]
fn a_name_tells_reports_apart() {
    let first = kept(&mail("google-dmarc.eml"), |_| {}).unwrap().name;
    assert!(first.is_some());
    let again = kept(&mail("google-dmarc.eml"), |_| {}).unwrap().name;
    assert_eq!(first, again);
    let from_other = kept(&mail("google-dmarc.eml"), |arrived| {
        arrived.from = Some(Address::parse("noreply@elsewhere.test").unwrap());
    });
    assert_ne!(from_other.unwrap().name, first);
    // Without an id there is no name, and with a fault neither.
    assert_eq!(kept(&mail("arf-abuse.eml"), |_| {}).unwrap().name, None);
    let faulty = kept(&mail("fault-foreign.eml"), |_| {}).unwrap();
    assert_eq!((faulty.name, faulty.sums), (None, None));
}

/// A mail to another address is a report only if it says so.
#[test]
fn mail_to_other_addresses_is_no_report_about_dmarc() {
    for (name, expected) in [
        ("google-dmarc.eml", false),
        ("google-tls.eml", false),
        ("arf-abuse.eml", true),
    ] {
        let elsewhere = |arrived: &mut ArrivedReport| arrived.for_reports = false;
        assert_eq!(kept(&mail(name), elsewhere).is_some(), expected, "{name}");
    }
}

/// A complaint about a message of our queue is about our domain, whatever it names.
#[test]
fn a_complaint_about_our_message_is_ours() {
    let known = |arrived: &mut ArrivedReport| {
        arrived.queue_id = Some(postrider_store::QueueId(7));
    };
    let report = kept(&mail("fault-arf-foreign.eml"), known).unwrap().about;
    assert_eq!(report.error, "");
    assert_eq!(report.domains, ["example.com"]);
    assert_eq!(report.message.unwrap().queue_id.unwrap().0, 7);
}

/// A complaint has addresses of people. So it belongs to all domains that have to do with it, and a
/// tenant who has some of them only does not see it.
#[test]
fn a_complaint_belongs_to_all_domains_that_have_to_do_with_it() {
    let address = |text: &str| Address::parse(text).unwrap();
    let complaint = |mail_from: &str, names: &str, change: &dyn Fn(&mut ArrivedReport)| {
        let mail = format!(
            "From: fbl@reporter.test\r\nTo: ann@example.com\r\nMIME-Version: 1.0\r\n\
             Content-Type: multipart/report; report-type=feedback-report; boundary=b\r\n\r\n\
             --b\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\n\
             Original-Mail-From: <{mail_from}>\r\n{names}--b--\r\n"
        );
        kept(mail.as_bytes(), change).unwrap().about.domains
    };
    let named = "Reported-Domain: other.test\r\n";
    let (ours, both) = (vec!["example.com"], vec!["example.com", "other.test"]);
    assert_eq!(complaint("ann@example.com", "", &|_| {}), ours);
    // It names a domain of somebody else, who must not learn who complained to ann.
    assert_eq!(complaint("x@elsewhere.test", named, &|_| {}), both);
    assert_eq!(complaint("ann@example.com", named, &|_| {}), both);
    assert_eq!(complaint("bob@other.test", "", &|_| {}), both);
    // The mail went to bob, too, and to an account with addresses of two domains.
    let to_bob = |arrived: &mut ArrivedReport| arrived.rcpt_to.push(address("bob@other.test"));
    assert_eq!(complaint("ann@example.com", "", &to_bob), both);
    let to_eve = |arrived: &mut ArrivedReport| arrived.rcpt_to = vec![address("eve@other.test")];
    let of_eve = vec!["other.test", "third.test"];
    assert_eq!(complaint("eve@other.test", "", &to_eve), of_eve);
    // An address for the reports about a domain is no matter of those who read it.
    let to_reports = |arrived: &mut ArrivedReport| {
        arrived.rcpt_to = vec![address("dmarcreports@example.com")];
    };
    assert_eq!(complaint("ann@example.com", "", &to_reports), ours);
}

/// The message that a complaint is about belongs to the account that sent it.
#[test]
fn a_complaint_belongs_to_the_sender_of_the_message() {
    let mut arrived = arrived("bob@other.test", Some("fbl@reporter.test"));
    let parts = parts();
    let config = parts.config.load_full();
    let ours = Ours {
        statics: &parts.statics,
        config: &config,
    };
    let reading = read(&mail("arf-abuse.eml"));
    arrived.queue_id = Some(postrider_store::QueueId(7));
    let of = |account| summary::kept(&arrived, &reading, account, ours).unwrap();
    let expected = ["example.com", "other.test", "third.test"];
    assert_eq!(of(Some("eve")).about.domains, expected);
    // Nobody but administrators of the whole server sees the things of an account that is gone.
    for gone in [None, Some("gone")] {
        assert!(of(gone).about.domains.is_empty(), "{gone:?}");
    }
}

#[test]
fn no_faulty_mail_says_that_it_is_good() {
    for (name, mail) in mails() {
        let kept = kept(&mail, |_| {});
        let is_faulty = kept.as_ref().is_some_and(|it| !it.about.error.is_empty());
        assert_eq!(is_faulty, name.starts_with("fault-"), "{name}");
        assert_eq!(kept.is_none(), name.starts_with("none-"), "{name}");
        // What is said to be readable can be opened. Without a date nobody can tell.
        let was_read = kept.is_some_and(|it| it.about.was_read());
        let opens = read(&mail).report.is_some_and(|it| it.is_ok());
        let has_dates = name != "fault-tls-without-dates";
        assert_eq!(was_read, opens && has_dates, "{name}");
    }
}
