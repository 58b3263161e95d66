//! Messages after the modifications of a hook.

use super::*;
use crate::hooks::testing::{LIMITS, changed, draft, text_of};

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
async fn a_message_in_quarantine_has_all_changes() {
    let body = json!({
        "action": "quarantine",
        "modifications": [
            {"type": "addHeader", "name": "X", "value": "x"},
            {"type": "replaceContents", "value": "new\r\n"},
        ],
    });
    let answer = read(HookStage::Data, body.to_string().as_bytes()).unwrap();
    let (text, _) = changed("A: 1\r\n\r\nbody\r\n", &answer.changes).await;
    assert_eq!(text, "X: x\r\nA: 1\r\n\r\nnew\r\n");
}
