//! Bounces in many forms, and mail that only looks like a bounce.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; a panic is how they fail"
)]

use std::{fs, path::PathBuf, sync::LazyLock};

use postrider_smtp::mime::Limits;
use postrider_smtp::{
    Address, Cause, DeliveryStatus, EnhancedCode, Stage,
    bounce::{Blame, Reading, Recipient, Report, Said, blame, classify, read},
    dsn::{self, Action, Reported, Returned},
};
use proptest::prelude::*;
use toml_edit::{DocumentMut, TableLike};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../testdata/bounces")
}

/// The mails of the folder, with their names.
static MAILS: LazyLock<Vec<(String, Vec<u8>)>> = LazyLock::new(|| {
    let mut mails: Vec<(String, Vec<u8>)> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "eml"))
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, fs::read(path).unwrap())
        })
        .collect();
    mails.sort();
    mails
});

/// A reading in the words of the file: the expected one, or the real one.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    kind: String,
    recipients: Vec<String>,
    message_id: Option<String>,
    envid: Option<String>,
}

fn expected(table: &dyn TableLike) -> Told {
    let text = |key: &str| {
        table
            .get(key)
            .and_then(|item| item.as_str())
            .map(str::to_owned)
    };
    let recipients = table.get("recipients").and_then(|item| item.as_array());
    let words = |value: &toml_edit::Value| match value {
        toml_edit::Value::Array(array) => {
            let words: Vec<String> = array
                .iter()
                .map(|word| match word {
                    toml_edit::Value::String(text) => text.value().clone(),
                    other => other.to_string().trim().to_owned(),
                })
                .collect();
            words.join(" ")
        }
        other => other.as_str().unwrap_or_default().to_owned(),
    };
    Told {
        kind: text("kind").unwrap(),
        recipients: recipients
            .map(|array| array.iter().map(words).collect())
            .unwrap_or_default(),
        message_id: text("message_id"),
        envid: text("envid"),
    }
}

fn told(reading: Reading) -> Told {
    match reading {
        Reading::Report(report) => Told {
            kind: "report".to_owned(),
            recipients: report.recipients.iter().map(words).collect(),
            message_id: report.original_message_id,
            envid: report.envid,
        },
        Reading::Complaint(complaint) => Told {
            kind: format!("complaint:{}", complaint.feedback_type),
            recipients: complaint.original_rcpt_to,
            message_id: complaint.original_message_id,
            envid: complaint.envid,
        },
        Reading::Unusable(_) => Told {
            kind: "unusable".to_owned(),
            ..Told::default()
        },
        Reading::Other => Told {
            kind: "other".to_owned(),
            ..Told::default()
        },
    }
}

fn words(recipient: &Recipient) -> String {
    let address = recipient.final_recipient.as_ref();
    let address = address.or(recipient.original_recipient.as_ref());
    let enhanced = recipient.enhanced.map(|code| code.to_string());
    [
        address.cloned().unwrap_or_default(),
        recipient.action.name().to_owned(),
        recipient.code.to_string(),
        enhanced.unwrap_or_default(),
        recipient.class.name().to_owned(),
    ]
    .join(" ")
}

/// Every mail is read as the file says. The test prints precision and recall, which are 1 then.
#[test]
fn the_corpus_is_read_as_expected() {
    let file = fs::read_to_string(folder().join("expected.toml")).unwrap();
    let file: DocumentMut = file.parse().unwrap();
    let mails = &*MAILS;
    assert_eq!(
        file.len(),
        mails.len(),
        "a mail without expectation, or the reverse"
    );
    let (mut right, mut wrong, mut missed) = (0_u32, 0_u32, 0_u32);
    let mut differing = Vec::new();
    for (name, text) in mails {
        let table = file.get(name).and_then(|item| item.as_table_like());
        let expected = expected(table.unwrap_or_else(|| panic!("nothing is expected of {name}")));
        let found = told(read(text, Limits::default()));
        let tells = |told: &Told| told.kind != "other" && told.kind != "unusable";
        match (tells(&expected), tells(&found)) {
            (true, true) => right += 1,
            (true, false) => missed += 1,
            (false, true) => wrong += 1,
            (false, false) => {}
        }
        if expected != found {
            differing.push(format!(
                "{name}:\n  expected {expected:?}\n  found    {found:?}"
            ));
        }
    }
    let share = |part: u32, rest: u32| f64::from(part) / f64::from((part + rest).max(1));
    println!(
        "{} mails; precision {:.3}, recall {:.3}, read wholly right {:.3}",
        mails.len(),
        share(right, wrong),
        share(right, missed),
        1.0 - differing.len() as f64 / mails.len() as f64
    );
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

#[test]
fn line_ends_do_not_matter() {
    for (name, text) in &*MAILS {
        let bare: Vec<u8> = text.iter().copied().filter(|byte| *byte != b'\r').collect();
        assert_eq!(
            told(read(&bare, Limits::default())),
            told(read(text, Limits::default())),
            "{name}"
        );
    }
}

/// The replies of `replies.txt` mean what the file says.
#[test]
fn replies_have_their_meaning() {
    let file = fs::read_to_string(folder().join("replies.txt")).unwrap();
    let mut differing = Vec::new();
    for line in file.lines() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut words = line.split_ascii_whitespace();
        let [class, blamed, stage, code, enhanced] =
            std::array::from_fn(|_| words.next().unwrap_or_else(|| panic!("short: {line}")));
        let text = words.collect::<Vec<_>>().join(" ");
        let stage = match stage {
            "-" => None,
            "dot" => Some(Stage::EndOfData),
            stage => Some(Stage::of_command(stage).unwrap()),
        };
        let said = Said {
            stage,
            code: code.parse().unwrap(),
            enhanced: (enhanced != "-").then(|| enhanced.parse().unwrap()),
            text: if text == "-" { "" } else { &text },
        };
        let found = (classify(&said).name(), word(blame(&said)));
        if found != (class, blamed) {
            differing.push(format!("{line}\n  found {found:?}"));
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

fn word(blame: Blame) -> &'static str {
    match blame {
        Blame::Yes => "yes",
        Blame::OnThird => "third",
        Blame::No => "no",
    }
}

/// A report about one message has one result, whatever addresses it names.
#[test]
fn a_report_has_one_result_for_a_recipient() {
    let with = |groups: &[&str]| {
        let head = "Return-Path: <>\r\nContent-Type: multipart/report; \
                    report-type=delivery-status; boundary=b\r\n\r\n--b\r\n\
                    Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; r.example\r\n";
        let text = format!("{head}\r\n{}\r\n--b--\r\n", groups.join("\r\n"));
        let Reading::Report(report) = read(text.as_bytes(), Limits::default()) else {
            panic!("not a report: {text}")
        };
        let result = report.result_for("List@x.example").unwrap();
        result.final_recipient.clone().unwrap()
    };
    let dead = "Final-Recipient: rfc822; dead@x.example\r\nAction: failed\r\nStatus: 5.1.1\r\n";
    let full = "Final-Recipient: rfc822; full@x.example\r\nAction: failed\r\nStatus: 5.2.2\r\n";
    let late = "Final-Recipient: rfc822; late@x.example\r\nAction: delayed\r\nStatus: 4.0.0\r\n";
    let good = "Final-Recipient: rfc822; good@x.example\r\nAction: delivered\r\nStatus: 2.0.0\r\n";
    let own = "Final-Recipient: rfc822; list@x.example\r\nAction: failed\r\nStatus: 5.1.1\r\n";
    let moved = "Original-Recipient: rfc822; list@X.example\r\nFinal-Recipient: rfc822; m@x.example\r\n\
                 Action: failed\r\nStatus: 5.1.1\r\n";
    for (groups, expected) in [
        (&[dead][..], "dead@x.example"),
        (&[dead, full], "full@x.example"),
        (&[full, dead, late], "late@x.example"),
        (&[dead, late, good], "good@x.example"),
        (&[good, own], "list@x.example"),
        (&[good, moved], "m@x.example"),
    ] {
        assert_eq!(with(groups), expected, "{groups:?}");
    }
}

/// Time in proportion to the square of the length would be too long. Each mail repeats a piece
/// where a search, or a copy of the rest, would begin again each time.
#[test]
fn a_long_mail_is_read_once() {
    let head = "Return-Path: <>\nFrom: mailer-daemon@x.example\nSubject: Undelivered mail\n";
    let fields = "Content-Type: message/delivery-status\n\n\
                  Final-Recipient: rfc822; a@y.example\nAction: failed\n";
    let report = format!(
        "{head}Content-Type: multipart/report; report-type=delivery-status; boundary=b\n\n--b\n{fields}"
    );
    let many = |piece: &str| piece.repeat((1 << 19) / piece.len());
    let text = format!("{head}\nYour message could not be delivered to these recipients:\n\n");
    let failed: String = (0..8_000).map(|n| format!("r{n}@y.example, ")).collect();
    let listed: String = (0..8_000).map(|n| format!("r{n}@y.example\n")).collect();
    let words = format!("no {}", "word ".repeat(12_000));
    for mail in [
        format!("{report}{}:\n{}", "x".repeat(1 << 19), many(" a\n")),
        format!("{report}Diagnostic-Code: smtp; {}", many("550 no \n ")),
        format!(
            "{report}Final-Recipient: utf-8; {}@y.example\n",
            many("\\x{")
        ),
        format!("{report}{}", many("Status: x\n")),
        format!("{text}{listed}"),
        format!("{text}{listed}{words}\n"),
        format!("{text}r@y.example {words}{words}\n{listed}"),
        format!(
            "X-Failed-Recipients: {failed}\n{text}{}",
            listed.replace('\n', " ")
        ),
        format!("{text}{}", many("<mailto:")),
        format!("{text}{}", many("From: a@y.example\n")),
        format!("{text}{}", many("-- copy of the message\n")),
    ] {
        let _ = read(mail.as_bytes(), Limits::default());
    }
}

/// Our own reports can be read.
#[test]
fn our_own_reports_read_back() {
    let address: Address = "user@remote.example".parse().unwrap();
    let postmaster: Address = "postmaster@mail.example.org".parse().unwrap();
    let mut status =
        DeliveryStatus::permanent(Cause::Reply, EnhancedCode::UNKNOWN_MAILBOX, "no such user");
    status.code = 550;
    for action in [Action::Failed, Action::Delayed, Action::Relayed] {
        let text = dsn::compose(&dsn::Report {
            reporting_mta: "mail.example.org",
            from: &postmaster,
            to: &address,
            message_id: "<r@mail.example.org>",
            date: jiff::Timestamp::UNIX_EPOCH,
            boundary: "b0undary",
            envid: Some("my-id"),
            arrival: None,
            original_message_id: "<m@example.org>",
            smtputf8: false,
            recipients: &[Reported {
                recipient: &address,
                orcpt: Some("rfc822;first@example.net"),
                action,
                status: &status,
                last_attempt: None,
                will_retry_until: None,
            }],
            returned: Returned::Headers(b"Message-ID: <m@example.org>\r\nSubject: x\r\n"),
        });
        let Reading::Report(Report {
            envid,
            recipients,
            original_message_id,
            reporting_mta,
            ..
        }) = read(&text, Limits::default())
        else {
            panic!("not a report")
        };
        assert_eq!(envid.as_deref(), Some("my-id"));
        assert_eq!(original_message_id.as_deref(), Some("<m@example.org>"));
        assert_eq!(reporting_mta.as_deref(), Some("mail.example.org"));
        let recipient = recipients.first().unwrap();
        assert_eq!(recipient.action, action);
        assert_eq!(
            recipient.original_recipient.as_deref(),
            Some("first@example.net")
        );
        if action == Action::Failed {
            assert_eq!((recipient.code, recipient.enhanced), (550, status.enhanced));
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let _ = read(&bytes, Limits::default());
    }

    #[test]
    fn no_change_of_a_mail_makes_it_panic(
        which: prop::sample::Index,
        at: prop::sample::Index,
        len in 0..40_usize,
        with in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut text = which.get(&MAILS).1.clone();
        let from = at.index(text.len().max(1)).min(text.len());
        let to = (from + len).min(text.len());
        text.splice(from..to, with);
        let _ = read(&text, Limits::default());
    }
}
