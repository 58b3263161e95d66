//! Reports, read by other programs: `mail-parser`, and Python's email package if there is Python.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; a panic is how they fail"
)]

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use jiff::Timestamp;
use mail_parser::{MessageParser, MimeHeaders, PartType};
use postrider_smtp::{
    Address, Cause, DeliveryStatus, EnhancedCode, Reply, ReplyCode,
    dsn::{Action, Report, Reported, Returned, compose},
};
use proptest::prelude::*;

const ORIGINAL: &[u8] = b"From: <s@example.org>\r\nSubject: hello\r\n\r\nsecret text\r\n.\r\n";

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

fn refused() -> DeliveryStatus {
    let reply = Reply::new(
        ReplyCode::MAILBOX_UNAVAILABLE,
        Some(EnhancedCode::UNKNOWN_MAILBOX),
        "no such user\nhere",
    );
    DeliveryStatus::from_reply(&reply, "RCPT").with_remote("mx.x.org [192.0.2.1]")
}

fn time(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn report<'a>(
    from: &'a Address,
    to: &'a Address,
    recipients: &'a [Reported<'a>],
    returned: Returned<'a>,
) -> Report<'a> {
    Report {
        reporting_mta: "mail.example.org",
        from,
        to,
        message_id: "<report.1@mail.example.org>",
        date: time(7200),
        boundary: "b0undary",
        envid: Some("env id"),
        arrival: Some(time(0)),
        original_message_id: "<m1@example.org>",
        smtputf8: false,
        recipients,
        returned,
    }
}

/// The content types and texts of the parts.
fn parts(message: &[u8]) -> Vec<(String, String)> {
    let parsed = MessageParser::default().parse(message).expect("parses");
    let parts = parsed.parts.iter().skip(1).map(|part| {
        let kind = part
            .content_type()
            .map(|kind| format!("{}/{}", kind.ctype(), kind.subtype().unwrap_or_default()));
        let text = match &part.body {
            PartType::Text(text) | PartType::Html(text) => text.to_string(),
            PartType::Binary(bytes) | PartType::InlineBinary(bytes) => {
                String::from_utf8_lossy(bytes).into_owned()
            }
            PartType::Message(message) => {
                String::from_utf8_lossy(&message.raw_message).into_owned()
            }
            PartType::Multipart(_) => String::new(),
        };
        (kind.unwrap_or_default(), text)
    });
    parts.collect()
}

/// Checks the lines: each ends with CRLF, and none is too long.
fn check_lines(message: &[u8]) {
    let text = String::from_utf8_lossy(message);
    assert!(text.ends_with("\r\n"));
    assert!(!text.replace("\r\n", "").contains(['\r', '\n']));
    assert!(text.split("\r\n").all(|line| line.len() <= 998));
}

#[test]
fn a_failure_with_headers() {
    let (from, to, a) = (
        address("postmaster@mail.example.org"),
        address("s@example.org"),
        address("a+b@x.org"),
    );
    let status = refused();
    let recipients = [Reported {
        recipient: &a,
        orcpt: Some("rfc822;old@x.org"),
        action: Action::Failed,
        status: &status,
        last_attempt: Some(time(3600)),
        will_retry_until: Some(time(9)),
    }];
    let message = compose(&report(
        &from,
        &to,
        &recipients,
        Returned::Headers(ORIGINAL),
    ));
    let expected = "From: Mail Delivery System <postmaster@mail.example.org>\r\n\
        To: <s@example.org>\r\n\
        Subject: Your message could not be delivered\r\n\
        Date: Fri, 15 Jan 2027 10:00:00 +0000\r\n\
        Message-ID: <report.1@mail.example.org>\r\n\
        In-Reply-To: <m1@example.org>\r\n\
        References: <m1@example.org>\r\n\
        Auto-Submitted: auto-replied\r\n\
        MIME-Version: 1.0\r\n\
        Content-Type: multipart/report; report-type=delivery-status;\r\n boundary=\"b0undary\"\r\n\
        \r\n\
        This is a delivery report in several parts (RFC 3464).\r\n\
        \r\n--b0undary\r\n\
        Content-Type: text/plain; charset=utf-8\r\n\
        \r\n\
        This is the mail server at mail.example.org.\r\n\
        \r\n\
        Your message of Fri, 15 Jan 2027 08:00:00 +0000 could not be delivered to:\r\n\
        \r\n  a+b@x.org\r\n    \
        The server mx.x.org [192.0.2.1] answered to RCPT: 550 5.1.1 no such user\r\n    here\r\n\
        \r\n\
        This was the last attempt. You may send the message again once the cause is\r\nremoved.\r\n\
        \r\n--b0undary\r\n\
        Content-Type: message/delivery-status\r\n\
        \r\n\
        Original-Envelope-Id: env id\r\n\
        Reporting-MTA: dns; mail.example.org\r\n\
        Arrival-Date: Fri, 15 Jan 2027 08:00:00 +0000\r\n\
        \r\n\
        Original-Recipient: rfc822; old@x.org\r\n\
        Final-Recipient: rfc822; a+b@x.org\r\n\
        Action: failed\r\n\
        Status: 5.1.1\r\n\
        Remote-MTA: dns; mx.x.org\r\n\
        Diagnostic-Code: smtp; 550 5.1.1 no such user here\r\n\
        Last-Attempt-Date: Fri, 15 Jan 2027 09:00:00 +0000\r\n\
        \r\n--b0undary\r\n\
        Content-Type: text/rfc822-headers\r\n\
        \r\n\
        From: <s@example.org>\r\nSubject: hello\r\n\
        \r\n--b0undary--\r\n";
    assert_eq!(String::from_utf8(message.clone()).unwrap(), expected);
    let kinds: Vec<_> = parts(&message).into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(
        kinds,
        [
            "text/plain",
            "message/delivery-status",
            "text/rfc822-headers"
        ]
    );
}

#[test]
fn a_delay_and_a_failure_in_one() {
    let (from, to) = (
        address("postmaster@mail.example.org"),
        address("s@example.org"),
    );
    let (a, b) = (address("a@x.org"), address("b@y.org"));
    let gone = refused();
    let busy = DeliveryStatus::transient(
        Cause::Connect,
        EnhancedCode::NO_ANSWER,
        "connection refused",
    )
    .with_remote("mx.y.org [192.0.2.2]");
    let one = |recipient, action, status| Reported {
        recipient,
        orcpt: None,
        action,
        status,
        last_attempt: None,
        will_retry_until: Some(time(86400)),
    };
    let recipients = [
        one(&a, Action::Failed, &gone),
        one(&b, Action::Delayed, &busy),
    ];
    let message = compose(&report(&from, &to, &recipients, Returned::Full(ORIGINAL)));
    check_lines(&message);
    let parts = parts(&message);
    let text = &parts[0]
        .1
        .split_ascii_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    assert!(
        text.contains("It will be tried again until Sat, 16 Jan 2027 08:00:00 +0000."),
        "{text}"
    );
    assert!(
        text.contains("The server mx.y.org [192.0.2.2] could not be reached: connection refused"),
        "{text}"
    );
    let status = &parts[1].1;
    assert!(
        status.contains("Action: delayed\r\nStatus: 4.4.1\r\n"),
        "{status}"
    );
    assert!(
        status.contains("Diagnostic-Code: X-Postrider; connection refused\r\nWill-Retry-Until:"),
        "{status}"
    );
    assert_eq!(status.matches("Will-Retry-Until").count(), 1);
    assert_eq!(parts[2].0, "message/rfc822");
    assert!(parts[2].1.contains("secret text"));
    assert!(
        String::from_utf8(message)
            .unwrap()
            .contains("Subject: What became of your message\r\n")
    );
}

#[test]
fn successes_return_nothing() {
    let (from, to, a) = (
        address("postmaster@mail.example.org"),
        address("s@example.org"),
        address("a@x.org"),
    );
    let status = DeliveryStatus::from_reply(&Reply::ok("queued"), "end of data")
        .with_remote("mx.x.org [192.0.2.1]");
    for (action, subject) in [
        (Action::Delivered, "was delivered"),
        (Action::Relayed, "was passed on"),
    ] {
        let recipients = [Reported {
            recipient: &a,
            orcpt: None,
            action,
            status: &status,
            last_attempt: None,
            will_retry_until: None,
        }];
        let message = compose(&report(&from, &to, &recipients, Returned::Nothing));
        check_lines(&message);
        let parts = parts(&message);
        assert_eq!(parts.len(), 2);
        assert!(
            parts[1]
                .1
                .contains(&format!("Action: {}\r\nStatus: 2.0.0\r\n", action.name()))
        );
        assert!(
            String::from_utf8(message)
                .unwrap()
                .contains(&format!("Subject: Your message {subject}\r\n"))
        );
    }
}

#[test]
fn internationalised() {
    let (from, to) = (
        address("postmaster@mail.example.org"),
        address("s@example.org"),
    );
    let a = address("\u{fc}@x.org");
    let status = refused();
    let recipients = [Reported {
        recipient: &a,
        orcpt: Some("utf-8;\u{fc}@x.org"),
        action: Action::Failed,
        status: &status,
        last_attempt: None,
        will_retry_until: None,
    }];
    for (returned, kind) in [
        (Returned::Full(ORIGINAL), "message/global"),
        (Returned::Headers(ORIGINAL), "message/global-headers"),
    ] {
        let message = compose(&report(&from, &to, &recipients, returned));
        check_lines(&message);
        let parts = parts(&message);
        assert_eq!(
            (parts[1].0.as_str(), parts[2].0.as_str()),
            ("message/global-delivery-status", kind)
        );
        assert!(
            parts[1]
                .1
                .contains("Final-Recipient: utf-8; \u{fc}@x.org\r\n"),
            "{}",
            parts[1].1
        );
        assert!(
            parts[1]
                .1
                .contains("Original-Recipient: utf-8; \u{fc}@x.org\r\n")
        );
    }
}

#[test]
fn eight_bit_text_is_declared() {
    let (from, to, a) = (
        address("postmaster@mail.example.org"),
        address("s@example.org"),
        address("a@x.org"),
    );
    let status = refused();
    let recipients = [Reported {
        recipient: &a,
        orcpt: Some("utf-8;\u{fc}@x.org"),
        action: Action::Failed,
        status: &status,
        last_attempt: None,
        will_retry_until: None,
    }];
    let message = compose(&report(
        &from,
        &to,
        &recipients,
        Returned::Full(b"Subject: x\r\n\r\ncaf\xe9"),
    ));
    let text = String::from_utf8_lossy(&message);
    assert_eq!(
        text.matches("Content-Transfer-Encoding: 8bit\r\n").count(),
        2,
        "{text}"
    );
    assert!(
        text.contains("Original-Recipient: utf-8; \\x{FC}@x.org\r\n"),
        "{text}"
    );
    assert!(message.ends_with(b"caf\xe9\r\n\r\n--b0undary--\r\n"));
}

/// A report, read by Python's email package: content types, and the fields of the status groups.
fn python(message: &[u8]) -> Option<String> {
    let script = "import sys, email, email.policy\n\
        m = email.message_from_bytes(sys.stdin.buffer.read(), policy=email.policy.SMTP)\n\
        print(m.get_content_type(), m.get_param('report-type'), m.defects)\n\
        for p in m.iter_parts():\n print(p.get_content_type(), p.defects)\n\
        for g in m.get_payload()[1].get_payload():\n print([k for k in g.keys()])\n";
    let child = Command::new("python3")
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn();
    let mut child = child.ok()?;
    child.stdin.take()?.write_all(message).ok()?;
    String::from_utf8(child.wait_with_output().ok()?.stdout).ok()
}

#[test]
fn python_reads_it() {
    let (from, to) = (
        address("postmaster@mail.example.org"),
        address("s@example.org"),
    );
    let (a, b) = (address("a@x.org"), address("b@x.org"));
    let status = refused();
    let one = |recipient| Reported {
        recipient,
        orcpt: None,
        action: Action::Failed,
        status: &status,
        last_attempt: Some(time(1)),
        will_retry_until: None,
    };
    let recipients = [one(&a), one(&b)];
    let Some(seen) = python(&compose(&report(
        &from,
        &to,
        &recipients,
        Returned::Full(ORIGINAL),
    ))) else {
        eprintln!("skipped: there is no python3");
        return;
    };
    let group = "['Final-Recipient', 'Action', 'Status', 'Remote-MTA', 'Diagnostic-Code', 'Last-Attempt-Date']\n";
    let expected = format!(
        "multipart/report delivery-status []\ntext/plain []\nmessage/delivery-status []\nmessage/rfc822 []\n\
        ['Original-Envelope-Id', 'Reporting-MTA', 'Arrival-Date']\n{group}{group}"
    );
    assert_eq!(seen, expected);
}

proptest! {
    // A quarter of the usual cases, also when PROPTEST_CASES asks for more.
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases / 4, ..ProptestConfig::default() })]
    #[test]
    fn no_remote_can_write_fields(text in "(\\PC|\r|\n| ){0,1500}", remote in ".{0,50}", envid in ".{0,80}") {
        let (from, to, a) = (address("postmaster@mail.example.org"), address("s@example.org"), address("a@x.org"));
        let reply = Reply::new(ReplyCode::MAILBOX_UNAVAILABLE, None, text);
        let status = DeliveryStatus::from_reply(&reply, "RCPT").with_remote(remote);
        let recipients = [Reported {
            recipient: &a,
            orcpt: None,
            action: Action::Failed,
            status: &status,
            last_attempt: None,
            will_retry_until: None,
        }];
        let report = Report { envid: Some(&envid), ..report(&from, &to, &recipients, Returned::Headers(ORIGINAL)) };
        let message = compose(&report);
        check_lines(&message);
        let parts = parts(&message);
        prop_assert_eq!(parts.len(), 3);
        let fields = parts[1].1.lines().filter(|line| !line.is_empty() && !line.starts_with(' '));
        let known = ["Original-Envelope-Id", "Reporting-MTA", "Arrival-Date", "Final-Recipient", "Action", "Status",
            "Remote-MTA", "Diagnostic-Code"];
        for field in fields {
            prop_assert!(known.iter().any(|name| field.starts_with(&format!("{name}: "))), "{}", field);
        }
        prop_assert!(parts[1].1.is_ascii());
    }
}

#[test]
fn a_path_of_this_machine_is_in_no_report() {
    let (from, to) = (address("postmaster@x.org"), address("a@b.org"));
    for (remote, expected) in [
        ("/run/my lmtp/socket", None),
        ("lmtp", Some("lmtp")),
        ("192.0.2.1 [192.0.2.1]", Some("[192.0.2.1]")),
        ("2001:db8::1 [2001:db8::1]", Some("[IPv6:2001:db8::1]")),
    ] {
        for status in [
            DeliveryStatus::permanent(Cause::Connect, EnhancedCode::NO_ANSWER, "no"),
            DeliveryStatus::permanent(Cause::Reply, EnhancedCode::NO_ANSWER, "550 no"),
        ] {
            let status = status.with_remote(remote);
            let recipients = [Reported {
                recipient: &to,
                orcpt: None,
                action: Action::Failed,
                status: &status,
                last_attempt: None,
                will_retry_until: None,
            }];
            let report = compose(&report(&from, &to, &recipients, Returned::Nothing));
            let report = String::from_utf8(report).unwrap();
            let mut lines = report.lines();
            let found = lines.find_map(|line| line.strip_prefix("Remote-MTA: dns; "));
            assert_eq!(found, expected, "{report}");
            assert!(
                !report.contains("/run") && !report.contains("socket"),
                "{report}"
            );
        }
    }
}
