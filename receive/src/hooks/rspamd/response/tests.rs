//! Answers of rspamd, and messages after their changes. The files in `testdata/rspamd` are answers
//! of rspamd 3.4.

use std::{fs, path::Path};

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::hooks::{answer::CHANGES_MAX, testing::changed};

mod milter;

const TEXT: &str = "A: 1\r\nB: 1\r\nA: 2\r\na: 3\r\nSubject: s\r\n\r\nbody\r\n";
const ENVELOPE: &str = "<a@example.net>, <b@example.org>, <c@example.org>";

fn real(name: &str) -> RspamdAnswer {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../testdata/rspamd")
        .join(name);
    read(&fs::read(path).unwrap()).unwrap()
}

fn answer(body: &Value) -> Answer {
    read(body.to_string().as_bytes()).unwrap().answer
}

fn short(vote: &Vote) -> String {
    match vote {
        Vote::Accept => "accept".to_owned(),
        Vote::Refuse(reply) => format!("refuse {reply}"),
        Vote::Discard(reply) => format!("discard {reply}"),
        Vote::Quarantine(reason) => format!("quarantine: {reason}"),
        Vote::Junk(reason) => format!("junk: {reason}"),
    }
}

#[test]
fn real_answers_have_their_votes() {
    for (name, score, required, action, vote) in [
        ("signed", -0.1, 15.0, "no action", "accept"),
        ("greylist", 5.6, 15.0, "greylist", "accept"),
        ("dkim-verified", 5.4, 950.0, "greylist", "accept"),
        (
            "gtube",
            15.0,
            15.0,
            "reject",
            "refuse 554 5.7.1 Gtube pattern",
        ),
        (
            "reject",
            -0.6,
            15.0,
            "reject",
            "refuse 554 5.7.1 we do not want this",
        ),
        (
            "soft-reject",
            -0.6,
            15.0,
            "soft reject",
            "refuse 451 4.7.1 come later",
        ),
        ("rewrite-subject", -0.6, 950.0, "rewrite subject", "accept"),
        (
            "add-header",
            12.6,
            15.0,
            "add header",
            "junk: rspamd: add header, score 12.60 of 15.00",
        ),
        (
            "quarantine",
            -0.6,
            950.0,
            "quarantine",
            "quarantine: rspamd: quarantine, score -0.60 of 950.00",
        ),
        (
            "discard",
            -0.1,
            950.0,
            "discard",
            "discard 250 2.0.0 Message queued for delivery.",
        ),
    ] {
        let read = real(&format!("{name}.json"));
        assert!((read.score - score).abs() < 0.01, "{name}: {}", read.score);
        assert!((read.required_score - required).abs() < 0.01, "{name}");
        assert_eq!(read.action, action);
        assert_eq!(short(&read.answer.vote), vote, "{name}");
        assert!(!read.symbols.is_empty());
    }
    let verified = real("dkim-verified.json").symbols;
    let dkim = verified.iter().find(|symbol| symbol.name == "R_DKIM_ALLOW");
    assert_eq!(
        dkim,
        Some(&Symbol {
            name: "R_DKIM_ALLOW".into(),
            score: -0.2,
            options: vec!["sender.test:s=s1".into()],
        })
    );
}

/// A message with fields that the answers remove.
const FORGED: &str = "X-Spam: No\r\nX-Old: 1\r\nX-First: 1\r\nx-old: 2\r\nX-Last: 1\r\nX-First: 2\r\n\
    X-Last: 2\r\nAuthentication-Results: mx.example.test; dkim=pass\r\nX-Rspamd-Action: no action\r\n\
    Subject: s\r\n\r\nbody\r\n";

/// The names of the fields, and the values of those that have one of these names.
async fn fields_after(name: &str, wanted: &[&str]) -> (Vec<String>, String) {
    let answer = real(name).answer;
    let (text, envelope) = changed(FORGED, &answer.changes).await;
    assert_eq!(envelope, ENVELOPE);
    assert!(text.ends_with("\r\n\r\nbody\r\n"));
    let fields = postrider_smtp::field::fields(text.as_bytes());
    let (mut names, mut values) = (Vec::new(), String::new());
    for field in fields {
        let name = String::from_utf8(field.name.to_vec()).unwrap();
        if wanted.contains(&name.as_str()) {
            values.push_str(str::from_utf8(field.value).unwrap());
        }
        names.push(name);
    }
    (names, values)
}

#[tokio::test]
async fn real_answers_change_the_message() {
    let kept = ["X-Last", "X-First", "Subject"];
    let left = |names: &[String]| -> Vec<String> {
        let is_left = |name: &&String| kept.contains(&name.as_str()) || name.starts_with("X-Old");
        names.iter().filter(is_left).cloned().collect()
    };
    let (names, values) = fields_after("greylist.json", &["X-First", "X-Last"]).await;
    assert_eq!(names[0], "Authentication-Results");
    assert_eq!(left(&names), ["X-Last", "X-First", "Subject"]);
    assert_eq!(values, " 1\r\n 2\r\n");
    assert!(!names.contains(&"X-Spam".to_owned()), "{names:?}");
    assert_eq!(names.last().unwrap(), "X-Rspamd-Server");

    let (names, values) = fields_after("signed.json", &["DKIM-Signature"]).await;
    assert_eq!(names[..2], ["DKIM-Signature", "Authentication-Results"]);
    assert!(
        values.starts_with(" v=1; a=rsa-sha256; c=relaxed/relaxed; d=sender.test; s=s1;\r\n\tt=")
    );
    assert!(values.ends_with("==\r\n"), "{values}");

    let (names, values) = fields_after("add-header.json", &["X-Spam"]).await;
    assert_eq!(names.iter().filter(|name| *name == "X-Spam").count(), 1);
    assert_eq!(values, " Yes\r\n");

    let (_, values) = fields_after("rewrite-subject.json", &["Subject"]).await;
    assert!(
        values.starts_with(" =?UTF-8?Q?=5BSPAM=5D_gr=C3=BC=C3=9Fe_"),
        "{values}"
    );

    for refused in ["gtube", "reject", "soft-reject", "discard"] {
        assert_eq!(real(&format!("{refused}.json")).answer.changes, []);
    }
}

#[test]
fn each_action_has_its_vote() {
    let message = |text: &str| json!({"smtp_message": text});
    let quarantine = "quarantine: rspamd: reject, score 16.00 of 15.00";
    let refused = "refuse 554 5.7.1 Spam message rejected";
    let discarded = "discard 250 2.0.0 Message queued for delivery.";
    for (more, expected) in [
        (json!({"action": "no action"}), "accept"),
        (json!({"action": "greylist"}), "accept"),
        (json!({"action": "rewrite subject"}), "accept"),
        (json!({"action": "my own"}), "accept"),
        (
            json!({"action": "add header"}),
            "junk: rspamd: add header, score 16.00 of 15.00",
        ),
        (
            json!({"action": "soft reject"}),
            "refuse 451 4.7.1 Try again later",
        ),
        (
            json!({"action": "soft reject", "messages": message("not now")}),
            "refuse 451 4.7.1 not now",
        ),
        (json!({"action": "reject"}), refused),
        (json!({"action": "reject", "messages": []}), refused),
        (
            json!({"action": "reject", "messages": message(" ")}),
            refused,
        ),
        (
            json!({"action": "reject", "messages": message("a\r\n250 b\0")}),
            "refuse 554 5.7.1 a  250 b ",
        ),
        (json!({"action": "reject", "reject": "discard"}), discarded),
        (
            json!({"action": "reject", "reject": "quarantine"}),
            quarantine,
        ),
        (
            json!({"action": "reject", "milter": {"reject": "discard"}}),
            discarded,
        ),
        (
            json!({"action": "reject", "milter": {"reject": "quarantine"}}),
            quarantine,
        ),
        (
            json!({"action": "reject", "milter": {"reject": "other"}}),
            refused,
        ),
        // It changes a refusal, and nothing else.
        (
            json!({"action": "no action", "milter": {"reject": "discard"}}),
            "accept",
        ),
        (json!({"action": "discard", "reject": "discard"}), discarded),
        (
            json!({"action": "quarantine", "reject": "quarantine"}),
            "quarantine: rspamd: quarantine, score 16.00 of 15.00",
        ),
        (
            json!({"action": "reject", "milter": {"no_action": true}}),
            "accept",
        ),
        (
            json!({"action": "reject", "milter": {"no_action": false}}),
            refused,
        ),
        (json!({"action": "reject", "is_skipped": true}), refused),
        (json!({"action": "reject", "error": null}), refused),
    ] {
        let mut body = json!({"score": 16, "required_score": 15.0});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let answer = answer(&body);
        assert_eq!(short(&answer.vote), expected, "{body}");
        assert!(!answer.closes && answer.reply.is_none());
    }
}

#[test]
fn what_is_no_answer_is_a_failure() {
    for (body, expected) in [
        ("", "can't be read"),
        ("pong", "can't be read"),
        ("[]", "no action"),
        ("{}", "no action"),
        (r#"{"action":1}"#, "no action"),
        (
            r#"{"action":"reject","milter":{"add_headers":{"X Y":"z"}}}"#,
            "",
        ),
        (
            r#"{"action":"no action","milter":{"add_headers":{"X Y":"z"}}}"#,
            "header field \"X Y\": the name",
        ),
        (
            r#"{"action":"add header","milter":{"spam_header":{"X\nY":"z"}}}"#,
            "header field \"X Y\": the name",
        ),
        (
            r#"{"action":"no action","milter":{"change_from":"nobody"}}"#,
            "\"nobody\" as a sender",
        ),
        (
            r#"{"action":"no action","milter":{"add_rcpt":["a@"]}}"#,
            "\"a@\" as a recipient",
        ),
    ] {
        match read(body.as_bytes()) {
            Err(Failure::Invalid(text)) => {
                assert!(
                    !expected.is_empty() && text.contains(expected),
                    "{body}: {text}"
                );
            }
            Ok(_) => assert_eq!(expected, "", "{body}"),
            other => panic!("{body}: {other:?}"),
        }
    }
    let failed = br#"{"error":"invalid command","error_domain":"protocol-error"}"#;
    let failure = Failure::Unavailable("rspamd says: invalid command".into());
    assert_eq!(read(failed), Err(failure));
    let wide = format!(
        "{{\"action\":\"reject\",\"urls\":[{}0]}}",
        "0,".repeat(300_000)
    );
    assert!(
        read(wide.as_bytes())
            .unwrap_err()
            .to_string()
            .contains("values")
    );
    let numbers: Vec<i64> = (1..=CHANGES_MAX as i64 + 1).collect();
    let body = json!({"action": "no action", "milter": {"remove_headers": {"A": numbers}}});
    let failure = read(body.to_string().as_bytes()).unwrap_err().to_string();
    assert!(failure.contains("5001 changes"), "{failure}");
}

#[tokio::test]
async fn a_subject_is_written_in_ascii_and_on_its_own() {
    for (subject, expected) in [
        (json!("***SPAM*** x"), "Subject: ***SPAM*** x\r\n"),
        (json!("gr\u{fc}n"), "Subject: =?utf-8?q?gr=C3=BCn?=\r\n"),
        (json!("a\r\nX-Evil: b"), "Subject: a\r\n\tX-Evil: b\r\n"),
        (json!(""), "Subject: s\r\n"),
        (json!(1), "Subject: s\r\n"),
        (json!(null), "Subject: s\r\n"),
    ] {
        let body = json!({"action": "rewrite subject", "subject": subject});
        let (text, _) = changed(TEXT, &answer(&body).changes).await;
        let expected = format!("a: 3\r\n{expected}\r\nbody");
        assert!(text.contains(&expected), "{subject}: {text}");
    }
}

#[tokio::test]
async fn signatures_stand_on_top_in_their_order() {
    let body = |signature: Value| {
        json!({
            "action": "no action",
            "dkim-signature": signature,
            "milter": {"add_headers": {"X": {"value": "n", "order": 1}}},
        })
    };
    let one = "DKIM-Signature: v=1;\r\n\tb=1\r\n";
    for (signature, expected) in [
        (json!("v=1;\n\tb=1"), one.to_owned()),
        (
            json!(["v=1;\n\tb=1", 7, "v=1; b=2"]),
            format!("{one}DKIM-Signature: v=1; b=2\r\n"),
        ),
        (json!(null), String::new()),
    ] {
        let (text, _) = changed(TEXT, &answer(&body(signature)).changes).await;
        assert_eq!(text, format!("{expected}X: n\r\n{TEXT}"));
    }
}

#[test]
fn symbols_are_cut() {
    let many: serde_json::Map<String, Value> = (0..300)
        .map(|at| {
            (
                format!("{at}{}", "x".repeat(200)),
                json!({"score": 1, "options": vec!["a\nb"; 20]}),
            )
        })
        .collect();
    let body = json!({"action": "no action", "symbols": many});
    let symbols = read(body.to_string().as_bytes()).unwrap().symbols;
    assert_eq!(symbols.len(), SYMBOLS_MAX);
    assert_eq!(symbols[0].name.len(), SYMBOL_MAX);
    assert_eq!(symbols[0].options, ["a b"; OPTIONS_MAX]);
    let odd =
        json!({"action": "no action", "symbols": {"A": 1, "B": {"score": "x", "options": [1]}}});
    let symbols = read(odd.to_string().as_bytes()).unwrap().symbols;
    let plain = |name: &str| Symbol {
        name: name.into(),
        score: 0.0,
        options: vec![],
    };
    assert_eq!(symbols, [plain("A"), plain("B")]);
}

proptest! {
    #[test]
    fn any_text_is_an_answer_or_a_failure(body in ".*") {
        let _ = read(body.as_bytes());
    }
}
