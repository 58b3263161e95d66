//! Answers of hooks.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::hooks::answer::CHANGES_MAX;

mod modifications;

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
    for action in ["accept", "reject", "discard", "quarantine"] {
        let body = json!({
            "action": action,
            "modifications": [{"type": "deleteRecipient", "value": "b@example.org"}],
        });
        for stage in HookStage::ALL {
            let answer = read(*stage, body.to_string().as_bytes()).unwrap();
            let deleted = Change::DeleteRecipient("b@example.org".into());
            let expected = match (stage, action) {
                (HookStage::Data, "accept" | "quarantine") => vec![deleted],
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

proptest! {
    #[test]
    fn any_text_is_an_answer_or_a_failure(body in ".*") {
        let _ = read(HookStage::Data, body.as_bytes());
    }
}
