//! Answers of hooks, and messages after their modifications.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::hooks::{
    answer::CHANGES_MAX,
    testing::{LIMITS, changed, draft, text_of},
};

/// An answer in short: the vote with its reply, and `closes`.
fn short(stage: HookStage, body: &Value) -> String {
    match read(stage, body.to_string().as_bytes()) {
        Ok(answer) => {
            let mut text = match &answer.vote {
                Vote::Accept => "accept".to_owned(),
                Vote::Refuse(reply) => format!("refuse {reply}"),
                Vote::Discard(reply) => format!("discard {reply}"),
                Vote::Quarantine(reason) => format!("quarantine ({reason})"),
                Vote::Junk(reason) => format!("junk ({reason})"),
            };
            if let Some(reply) = &answer.reply {
                text.push_str(&format!(" {reply}"));
            }
            if answer.closes {
                text.push_str(", closes");
            }
            text
        }
        Err(Failure::Invalid(text)) => format!("invalid: {text}"),
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn each_action_has_its_reply() {
    use HookStage::{Auth, Connect, Data, Ehlo, Mail, Rcpt};
    let rejected = "refuse 550 5.7.1 Message rejected.";
    let out_of_place = "refuse 503 5.5.3 Message rejected.";
    let queued = "discard 250 2.0.0 Message queued for delivery.";
    let all: &[HookStage] = HookStage::ALL;
    let with = |action: &str, response: Value| json!({"action": action, "response": response});
    for (stages, body, expected) in [
        (all, json!({"action": "accept"}), "accept"),
        (&[Mail, Rcpt, Data], json!({"action": "reject"}), rejected),
        (
            &[Connect, Ehlo, Auth],
            json!({"action": "reject"}),
            out_of_place,
        ),
        (all, json!({"action": "discard"}), queued),
        (
            all,
            json!({"action": "quarantine"}),
            "quarantine (a hook asks for quarantine)",
        ),
        // The response counts with its status and its message, and not with accept.
        (
            all,
            with(
                "accept",
                json!({"status": 550, "message": "no", "disconnect": true}),
            ),
            "accept",
        ),
        (
            all,
            with(
                "reject",
                json!({"status": 550, "enhancedStatus": "5.7.1", "message": "no"}),
            ),
            "refuse 550 5.7.1 no",
        ),
        (
            all,
            with(
                "reject",
                json!({"status": 451, "enhanced_status": "4.3.5", "message": "later"}),
            ),
            "refuse 451 4.3.5 later",
        ),
        (
            all,
            with(
                "reject",
                json!({"status": 550, "enhancedStatus": "5.7.1", "enhanced_status": "5.1.1", "message": "no"}),
            ),
            "refuse 550 5.7.1 no",
        ),
        (
            all,
            with(
                "reject",
                json!({"status": 550, "enhancedStatus": null, "enhanced_status": "5.1.1", "message": "no"}),
            ),
            "refuse 550 5.1.1 no",
        ),
        // The class is that of the status.
        (
            all,
            with(
                "reject",
                json!({"status": 421, "enhancedStatus": "5.3.0", "message": "bye"}),
            ),
            "refuse 421 4.3.0 bye",
        ),
        (
            all,
            with("reject", json!({"status": 599, "message": ""})),
            "refuse 599 ",
        ),
        (&[Data], with("reject", json!({"status": 550})), rejected),
        (&[Data], with("reject", json!({"message": "no"})), rejected),
        (&[Data], with("reject", json!(null)), rejected),
        (
            &[Data],
            with("reject", json!({"disconnect": true, "more": [1]})),
            "refuse 550 5.7.1 Message rejected., closes",
        ),
        (
            all,
            with(
                "discard",
                json!({"status": 250, "message": "thanks", "disconnect": true}),
            ),
            "discard 250 thanks, closes",
        ),
        (
            all,
            with(
                "quarantine",
                json!({"status": 250, "enhancedStatus": "2.6.0", "message": "held"}),
            ),
            "quarantine (held) 250 2.6.0 held",
        ),
        (
            &[Data],
            with(
                "reject",
                json!({"status": null, "enhancedStatus": null, "message": null, "disconnect": null}),
            ),
            rejected,
        ),
    ] {
        for stage in stages {
            assert_eq!(short(*stage, &body), expected, "{stage} {body}");
        }
    }
}

#[test]
fn what_is_no_answer_is_a_failure() {
    let with = |action: &str, response: Value| json!({"action": action, "response": response});
    let modified =
        |modification: Value| json!({"action": "accept", "modifications": [modification]});
    for (body, expected) in [
        (json!({}), "missing field `action`"),
        (json!([]), "can't be read"),
        (json!({"action": null}), "can't be read"),
        (json!({"action": "Accept"}), "\"Accept\""),
        (
            json!({"action": "x\r\ny"}),
            "the action \"x  y\"; it must be accept,",
        ),
        (json!({"action": "accept", "response": 1}), "can't be read"),
        (with("accept", json!({"status": "250"})), "can't be read"),
        (with("reject", json!({"status": -1})), "can't be read"),
        (
            with("reject", json!({"status": 250})),
            "response.status 250; it must be 400 to 599 with reject",
        ),
        (
            with(
                "reject",
                json!({"status": 321, "enhancedStatus": "3.1.1", "message": "Test"}),
            ),
            "status 321",
        ),
        (
            with("reject", json!({"status": 600, "message": "x"})),
            "status 600",
        ),
        (
            with("reject", json!({"status": 65536 + 550, "message": "x"})),
            "status 66086",
        ),
        (
            with("discard", json!({"status": 550, "message": "x"})),
            "200 to 299 with discard",
        ),
        (
            with("discard", json!({"status": 354, "message": "x"})),
            "status 354",
        ),
        (
            with("quarantine", json!({"status": 451, "message": "x"})),
            "status 451",
        ),
        (
            with("reject", json!({"status": 550, "message": "a\nb"})),
            "response.message with a line break",
        ),
        (
            with("reject", json!({"status": 550, "message": "a\r"})),
            "response.message with a line break",
        ),
        (with("reject", json!({"message": "a\0"})), "or a NUL"),
        (
            with(
                "reject",
                json!({"status": 550, "message": "x", "enhancedStatus": "nope"}),
            ),
            "enhancedStatus \"nope\"",
        ),
        (
            json!({"action": "accept", "modifications": {}}),
            "can't be read",
        ),
        (modified(json!({})), "missing field `type`"),
        (
            modified(json!({"type": "explode"})),
            "unknown variant `explode`",
        ),
        (
            modified(json!({"type": "addHeader", "name": "X"})),
            "missing field `value`",
        ),
        (
            modified(json!({"type": "addHeader", "value": "x"})),
            "missing field `name`",
        ),
        (
            modified(json!({"type": "insertHeader", "name": "X", "value": "x"})),
            "missing field `index`",
        ),
        (
            modified(json!({"type": "deleteHeader", "index": -1, "name": "X"})),
            "can't be read",
        ),
        (
            modified(json!({"type": "deleteHeader", "index": 4_294_967_296_u64, "name": "X"})),
            "can't be read",
        ),
        (
            modified(json!({"type": "changeFrom"})),
            "missing field `value`",
        ),
        (
            modified(json!({"type": "changeFrom", "value": "x y@z"})),
            "\"x y@z\" as a sender",
        ),
        (
            modified(json!({"type": "addRecipient", "value": "x@"})),
            "\"x@\" as a recipient",
        ),
        (
            modified(
                json!({"type": "addRecipient", "value": "x@y.test", "parameters": {"NOTIFY": 1}}),
            ),
            "modifications[0].parameters",
        ),
        (
            modified(json!({"type": "addHeader", "name": "X Y", "value": "x"})),
            "header field \"X Y\": the name",
        ),
        (
            modified(json!({"type": "addHeader", "name": "", "value": "x"})),
            "the name",
        ),
        (
            modified(json!({"type": "addHeader", "name": "X", "value": "a\r\nb"})),
            "modifications[0] with the header field \"X\": the value",
        ),
        (
            modified(json!({"type": "insertHeader", "index": 1, "name": "X", "value": "a\0"})),
            "the value",
        ),
        (
            modified(json!({"type": "changeHeader", "index": 1, "name": "X:", "value": "a"})),
            "the name",
        ),
        (
            modified(json!({"type": "deleteHeader", "index": 1, "name": "X\n"})),
            "the name",
        ),
    ] {
        let text = short(HookStage::Data, &body);
        assert!(text.starts_with("invalid: its answer "), "{body}: {text}");
        assert!(text.contains(expected), "{body}: {text}");
    }
    for body in [
        &b""[..],
        b"no json",
        b"{\"action\":\"accept\"} x",
        b"\xff",
        b"{\"action\":\"acc",
    ] {
        assert!(matches!(
            read(HookStage::Data, body),
            Err(Failure::Invalid(_))
        ));
    }
}

#[test]
fn an_answer_has_limits() {
    let deep = format!("{{\"action\":\"accept\",\"more\":{}", "[".repeat(100_000));
    let wide = format!(
        "{{\"action\":\"accept\",\"more\":[{}0]}}",
        "0,".repeat(300_000)
    );
    for (body, expected) in [(deep, "levels"), (wide, "values")] {
        let failure = read(HookStage::Data, body.as_bytes())
            .unwrap_err()
            .to_string();
        assert!(failure.contains(expected), "{failure}");
    }
    let one = json!({"type": "addHeader", "name": "X", "value": "x"});
    let body = |number: usize| json!({"action": "accept", "modifications": vec![&one; number]});
    assert_eq!(short(HookStage::Data, &body(CHANGES_MAX)), "accept");
    let text = short(HookStage::Data, &body(CHANGES_MAX + 1));
    assert!(text.contains("5001 changes"), "{text}");
}

#[test]
fn a_long_message_is_cut() {
    let message = "\u{e9}".repeat(MESSAGE_MAX);
    let body = json!({"action": "reject", "response": {"status": 550, "message": message}});
    let answer = read(HookStage::Data, body.to_string().as_bytes()).unwrap();
    let Vote::Refuse(reply) = answer.vote else {
        panic!("{:?}", answer.vote)
    };
    assert_eq!(reply.text(), "\u{e9}".repeat(MESSAGE_MAX / 2));
}

#[test]
fn modifications_count_at_data_for_a_message_that_is_taken() {
    let mark = quarantine_mark().unwrap();
    for action in ["accept", "reject", "discard", "quarantine"] {
        let body = json!({
            "action": action,
            "modifications": [{"type": "deleteRecipient", "value": "b@example.org"}],
        });
        for stage in HookStage::ALL {
            let answer = read(*stage, body.to_string().as_bytes()).unwrap();
            let deleted = Change::DeleteRecipient("b@example.org".into());
            let expected = match (stage, action) {
                (HookStage::Data, "accept") => vec![deleted],
                (HookStage::Data, "quarantine") => vec![deleted, mark.clone()],
                _ => vec![],
            };
            assert_eq!(answer.changes, expected, "{action} at {stage}");
        }
    }
    // A refusal needs no sense in them, but they must be of the form.
    let body = |name: Value| {
        let modification = json!({"type": "addHeader", "name": name, "value": "x"});
        json!({"action": "reject", "modifications": [modification]})
    };
    assert!(short(HookStage::Data, &body(json!("no name"))).starts_with("refuse 550"));
    assert!(short(HookStage::Rcpt, &body(json!(1))).starts_with("invalid"));
}

const TEXT: &str = "A: 1\r\nB: 1\r\nA: 2\r\na: 3\r\n\r\nbody\r\n";
const ENVELOPE: &str = "<a@example.net>, <b@example.org>, <c@example.org>";

/// The message and its envelope after these modifications.
async fn after(modifications: Value) -> (String, String) {
    let body = json!({"action": "accept", "modifications": modifications});
    let answer = read(HookStage::Data, body.to_string().as_bytes()).unwrap();
    assert_eq!(answer.vote, Vote::Accept);
    changed(TEXT, &answer.changes).await
}

#[tokio::test]
async fn each_modification_changes_the_header_section() {
    let add = |name: &str, value: &str| json!({"type": "addHeader", "name": name, "value": value});
    let insert = |index: u32, name: &str| json!({"type": "insertHeader", "index": index, "name": name, "value": "n"});
    let change = |index: u32, name: &str, value: &str| json!({"type": "changeHeader", "index": index, "name": name, "value": value});
    let delete =
        |index: u32, name: &str| json!({"type": "deleteHeader", "index": index, "name": name});
    let section = "A: 1\r\nB: 1\r\nA: 2\r\na: 3\r\n";
    let on_top = |top: &str| format!("{top}{section}");
    for (modifications, expected) in [
        (json!([]), on_top("")),
        (json!(null), on_top("")),
        (json!([add("X", "x")]), on_top("X: x\r\n")),
        (
            json!([add("X", "x"), add("Y", "y")]),
            on_top("X: x\r\nY: y\r\n"),
        ),
        (
            json!([add("X", "x"), delete(1, "B"), add("Y", "y")]),
            "X: x\r\nY: y\r\nA: 1\r\nA: 2\r\na: 3\r\n".into(),
        ),
        // A value keeps its white space, its folds and its own line end.
        (
            json!([add("X", "\tx\r\n y\r\n")]),
            on_top("X:\tx\r\n y\r\n"),
        ),
        (json!([add("X", "")]), on_top("X: \r\n")),
        (json!([add("X", "gr\u{fc}n")]), on_top("X: gr\u{fc}n\r\n")),
        (json!([insert(0, "A")]), on_top("A: n\r\n")),
        (json!([insert(1, "X")]), on_top("X: n\r\n")),
        (json!([insert(1, "A")]), on_top("A: n\r\n")),
        (
            json!([insert(2, "a")]),
            "A: 1\r\nB: 1\r\na: n\r\nA: 2\r\na: 3\r\n".into(),
        ),
        (
            json!([insert(3, "A")]),
            "A: 1\r\nB: 1\r\nA: 2\r\nA: n\r\na: 3\r\n".into(),
        ),
        (
            json!([insert(9, "A")]),
            "A: 1\r\nB: 1\r\nA: 2\r\nA: n\r\na: 3\r\n".into(),
        ),
        (
            json!([change(2, "a", "n")]),
            "A: 1\r\nB: 1\r\na: n\r\na: 3\r\n".into(),
        ),
        (json!([change(1, "X", "n")]), on_top("X: n\r\n")),
        (json!([change(4, "A", "n")]), on_top("")),
        (json!([change(0, "A", "n")]), on_top("")),
        (json!([change(4_294_967_295, "A", "n")]), on_top("")),
        (
            json!([change(2, "A", "")]),
            "A: 1\r\nB: 1\r\na: 3\r\n".into(),
        ),
        (json!([change(1, "X", "")]), on_top("")),
        // The second field is the first one behind the removal.
        (
            json!([change(1, "A", ""), change(1, "A", "n")]),
            "B: 1\r\nA: n\r\na: 3\r\n".into(),
        ),
        (
            json!([delete(1, "A"), change(1, "A", "n")]),
            "B: 1\r\nA: n\r\na: 3\r\n".into(),
        ),
        (json!([delete(3, "A")]), "A: 1\r\nB: 1\r\nA: 2\r\n".into()),
        (json!([delete(4, "A")]), on_top("")),
        (json!([delete(0, "A")]), on_top("")),
        (json!([delete(1, "X")]), on_top("")),
    ] {
        let (text, envelope) = after(modifications.clone()).await;
        assert_eq!(text, format!("{expected}\r\nbody\r\n"), "{modifications}");
        assert_eq!(envelope, ENVELOPE);
    }
}

#[tokio::test]
async fn contents_of_one_answer_are_joined() {
    let replace = |value: &str| json!({"type": "replaceContents", "value": value});
    let section = "A: 1\r\nB: 1\r\nA: 2\r\na: 3\r\n";
    for (modifications, expected) in [
        (json!([replace("new\r\n")]), format!("{section}\r\nnew\r\n")),
        (
            json!([replace("one\r\n"), replace("two\r\n")]),
            format!("{section}\r\none\r\ntwo\r\n"),
        ),
        (
            json!([replace("one"), {"type": "addHeader", "name": "X", "value": "x"}, replace(""), replace(" two\r\n")]),
            format!("X: x\r\n{section}\r\none two\r\n"),
        ),
        (json!([replace("")]), TEXT.to_owned()),
        // Lines end in CRLF, whatever the hook writes. A CR and its LF may come apart.
        (
            json!([replace("a\nb\r"), replace("\nc")]),
            format!("{section}\r\na\r\nb\r\nc"),
        ),
    ] {
        let (text, envelope) = after(modifications.clone()).await;
        assert_eq!(text, expected, "{modifications}");
        assert_eq!(envelope, ENVELOPE);
    }
}

#[tokio::test]
async fn contents_of_a_later_hook_are_alone() {
    let mut draft = draft(TEXT).await;
    for value in ["first\r\n", "second\r\n"] {
        let body = json!({
            "action": "accept",
            "modifications": [{"type": "replaceContents", "value": value}],
        });
        let answer = read(HookStage::Data, body.to_string().as_bytes()).unwrap();
        draft.apply(&answer.changes, &LIMITS).unwrap();
    }
    let text = text_of(&draft).await;
    assert!(text.ends_with("\r\n\r\nsecond\r\n"), "{text}");
}

#[tokio::test]
async fn each_modification_changes_the_envelope() {
    let from = |value: &str, parameters: Value| json!({"type": "changeFrom", "value": value, "parameters": parameters});
    let add = |value: &str, parameters: Value| json!({"type": "addRecipient", "value": value, "parameters": parameters});
    let delete = |value: &str| json!({"type": "deleteRecipient", "value": value});
    let to = ", <b@example.org>, <c@example.org>";
    let none = || json!(null);
    for (modifications, expected) in [
        (
            json!([{"type": "changeFrom", "value": "x@y.test"}]),
            format!("<x@y.test>{to}"),
        ),
        (
            json!([from("<x@y.test>", none())]),
            format!("<x@y.test>{to}"),
        ),
        (json!([from("<>", none())]), format!("<>{to}")),
        (json!([from("", none())]), format!("<>{to}")),
        (
            json!([from("x@y.test", json!({"ret": "HDRS", "ENVID": "abc+2B"}))]),
            format!("<x@y.test> RET=HDRS ENVID=abc+2B{to}"),
        ),
        // A later one resets the parameters.
        (
            json!([
                from("x@y.test", json!({"RET": "HDRS"})),
                from("z@y.test", none())
            ]),
            format!("<z@y.test>{to}"),
        ),
        // Parameters that are wrong are left out, all of them.
        (
            json!([from("x@y.test", json!({"RET": "HDRS", "ENVID": "a b"}))]),
            format!("<x@y.test>{to}"),
        ),
        (
            json!([from("x@y.test", json!({"RET": "HDRS", "ENVID": "a\r\n"}))]),
            format!("<x@y.test>{to}"),
        ),
        (
            json!([from("x@y.test", json!({"RET": "HDRS", "NO\t": null}))]),
            format!("<x@y.test>{to}"),
        ),
        (
            json!([from("x@y.test", json!({"RET": "MAYBE"}))]),
            format!("<x@y.test>{to}"),
        ),
        (
            json!([from("x@y.test", json!({"RET": null}))]),
            format!("<x@y.test>{to}"),
        ),
        (
            json!([{"type": "addRecipient", "value": "d@e.test"}]),
            format!("{ENVELOPE}, <d@e.test>"),
        ),
        (
            json!([add(
                "<d@e.test>",
                json!({"NOTIFY": "NEVER", "ORCPT": "rfc822;o@e.test"})
            )]),
            format!("{ENVELOPE}, <d@e.test> NOTIFY=NEVER ORCPT=rfc822;o@e.test"),
        ),
        (
            json!([add("d@e.test", json!({"NOTIFY": "never mind"}))]),
            format!("{ENVELOPE}, <d@e.test>"),
        ),
        (json!([add("postmaster", none())]), ENVELOPE.into()),
        (
            json!([add("B@Example.ORG", json!({"NOTIFY": "NEVER"}))]),
            ENVELOPE.into(),
        ),
        (
            json!([delete("<B@Example.ORG>")]),
            "<a@example.net>, <c@example.org>".into(),
        ),
        (json!([delete("nobody@example.org")]), ENVELOPE.into()),
        (
            json!([delete("b@example.org"), delete("c@example.org")]),
            "<a@example.net>".into(),
        ),
        (
            json!([delete("b@example.org"), add("b@example.org", none())]),
            "<a@example.net>, <c@example.org>, <b@example.org>".into(),
        ),
    ] {
        let (text, envelope) = after(modifications.clone()).await;
        assert_eq!(envelope, expected, "{modifications}");
        assert_eq!(text, TEXT);
    }
}

#[tokio::test]
async fn a_message_in_quarantine_has_its_mark_and_all_changes() {
    let body = json!({
        "action": "quarantine",
        "modifications": [
            {"type": "addHeader", "name": "X", "value": "x"},
            {"type": "replaceContents", "value": "new\r\n"},
        ],
    });
    let answer = read(HookStage::Data, body.to_string().as_bytes()).unwrap();
    let (text, _) = changed("A: 1\r\n\r\nbody\r\n", &answer.changes).await;
    assert_eq!(text, "X: x\r\nX-Quarantine: true\r\nA: 1\r\n\r\nnew\r\n");
}

proptest! {
    #[test]
    fn any_bytes_are_an_answer_or_a_failure(body in ".*") {
        let _ = read(HookStage::Data, body.as_bytes());
    }
}
