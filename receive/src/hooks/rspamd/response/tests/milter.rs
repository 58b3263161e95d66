//! Messages after the changes of a `milter` object.

use super::*;

const SECTION: &str = "A: 1\r\nB: 1\r\nA: 2\r\na: 3\r\nSubject: s\r\n";

/// The header section after the changes of this milter object.
async fn section_after(action: &str, milter: &Value) -> String {
    let body = json!({"action": action, "milter": milter, "subject": "new"});
    let (text, envelope) = changed(TEXT, &answer(&body).changes).await;
    assert_eq!(envelope, ENVELOPE);
    text.strip_suffix("\r\nbody\r\n").unwrap().to_owned()
}

#[tokio::test]
async fn each_part_of_the_milter_object_changes_the_header_section() {
    let add = |added: Value| json!({"add_headers": {"X": added}});
    let at = |order: i64| add(json!({"value": "n", "order": order}));
    let remove = |which: Value| json!({"remove_headers": {"a": which}});
    let rest = "B: 1\r\nA: 2\r\na: 3\r\nSubject: s\r\n";
    let without = |gone: &str| SECTION.replace(gone, "");
    for (milter, expected) in [
        (json!(null), SECTION.to_owned()),
        (json!([]), SECTION.to_owned()),
        (
            json!({"remove_headers": [], "add_headers": "X"}),
            SECTION.to_owned(),
        ),
        (remove(json!(0)), "B: 1\r\nSubject: s\r\n".into()),
        (remove(json!(1)), rest.into()),
        (remove(json!(1.0)), rest.into()),
        (remove(json!(3)), without("a: 3\r\n")),
        (remove(json!(4)), SECTION.into()),
        (remove(json!(-1)), without("a: 3\r\n")),
        (remove(json!(-3)), rest.into()),
        (remove(json!(-4)), SECTION.into()),
        (remove(json!("1")), SECTION.into()),
        (remove(json!(1.5)), SECTION.into()),
        (remove(json!(-1e300)), SECTION.into()),
        // Several places count the fields as they are before.
        (
            remove(json!([1, 2])),
            "B: 1\r\na: 3\r\nSubject: s\r\n".into(),
        ),
        (
            remove(json!([2, 1, 2])),
            "B: 1\r\na: 3\r\nSubject: s\r\n".into(),
        ),
        (
            remove(json!([-1, -2])),
            "A: 1\r\nB: 1\r\nSubject: s\r\n".into(),
        ),
        (
            remove(json!([1, -1])),
            "B: 1\r\nA: 2\r\nSubject: s\r\n".into(),
        ),
        (remove(json!([3, 0])), "B: 1\r\nSubject: s\r\n".into()),
        (add(json!("n")), format!("{SECTION}X: n\r\n")),
        (add(json!({"value": "n"})), format!("{SECTION}X: n\r\n")),
        (add(json!({"order": 1})), SECTION.into()),
        (add(json!(1)), SECTION.into()),
        (at(0), format!("X: n\r\n{SECTION}")),
        (at(1), format!("X: n\r\n{SECTION}")),
        (at(2), format!("A: 1\r\nX: n\r\n{rest}")),
        (at(99), format!("{SECTION}X: n\r\n")),
        (at(i64::MAX), format!("{SECTION}X: n\r\n")),
        (at(-1), format!("{SECTION}X: n\r\n")),
        (at(-2), SECTION.replace("Subject", "X: n\r\nSubject")),
        (at(-99), format!("X: n\r\n{SECTION}")),
        (at(i64::MIN), format!("X: n\r\n{SECTION}")),
        (
            add(json!({"value": "n", "index": 2})),
            format!("A: 1\r\nX: n\r\n{rest}"),
        ),
        (
            add(json!({"value": "n", "order": "2"})),
            format!("{SECTION}X: n\r\n"),
        ),
        (
            add(json!(["1", {"value": "2", "order": 1}, "3"])),
            format!("X: 2\r\n{SECTION}X: 1\r\nX: 3\r\n"),
        ),
        // The new field stays.
        (
            json!({"add_headers": {"A": "n"}, "remove_headers": {"A": 0}}),
            "B: 1\r\nSubject: s\r\nA: n\r\n".into(),
        ),
        // Values are made safe.
        (
            add(json!("a\n\tb\r\n\tc\n")),
            format!("{SECTION}X: a\r\n\tb\r\n\tc\r\n"),
        ),
        (
            add(json!("a\nX-Evil: b\n\n\n c\0\r")),
            format!("{SECTION}X: a\r\n\tX-Evil: b\r\n c\r\n"),
        ),
        (add(json!("a\rb\0c")), format!("{SECTION}X: a b c\r\n")),
        (add(json!("")), format!("{SECTION}X: \r\n")),
        (
            json!({"no_action": true}),
            format!("{SECTION}X-Rspamd-Action: no action\r\n"),
        ),
    ] {
        assert_eq!(
            section_after("no action", &milter).await,
            expected,
            "{milter}"
        );
    }
}

#[tokio::test]
async fn an_action_changes_the_header_section() {
    let text = |section: &str| format!("{section}X-Spam: Yes\r\n");
    for (action, milter, expected) in [
        ("add header", json!(null), text(SECTION)),
        (
            "add header",
            json!({"spam_header": "Maybe"}),
            format!("{SECTION}X-Spam: Maybe\r\n"),
        ),
        (
            "add header",
            json!({"spam_header": {"a": "n", "X-Junk": "1", "Y": 1}}),
            "B: 1\r\nSubject: s\r\na: n\r\nX-Junk: 1\r\n".into(),
        ),
        ("add header", json!({"spam_header": 1}), text(SECTION)),
        (
            "add header",
            json!({"no_action": true}),
            format!("{SECTION}X-Rspamd-Action: add header\r\n"),
        ),
        (
            "rewrite subject",
            json!(null),
            SECTION.replace(": s", ": new"),
        ),
        (
            "rewrite subject",
            json!({"remove_headers": {"Subject": 0}}),
            SECTION.replace(": s", ": new"),
        ),
        ("no action", json!({"spam_header": "Maybe"}), SECTION.into()),
        ("greylist", json!(null), SECTION.into()),
        (
            "quarantine",
            json!({"add_headers": {"X": "n"}}),
            format!("{SECTION}X: n\r\n"),
        ),
    ] {
        let section = section_after(action, &milter).await;
        assert_eq!(section, expected, "{action} {milter}");
    }
}

#[tokio::test]
async fn the_milter_object_changes_the_envelope() {
    for (milter, expected) in [
        (
            json!({"change_from": "<x@y.test>"}),
            "<x@y.test>, <b@example.org>, <c@example.org>",
        ),
        (
            json!({"change_from": "<>"}),
            "<>, <b@example.org>, <c@example.org>",
        ),
        (json!({"change_from": 1}), ENVELOPE),
        (
            json!({"add_rcpt": ["<d@e.test>", "postmaster", 1], "del_rcpt": ["B@example.org"]}),
            "<a@example.net>, <c@example.org>, <d@e.test>",
        ),
        (
            json!({"add_rcpt": "d@e.test", "del_rcpt": "b@example.org"}),
            ENVELOPE,
        ),
    ] {
        let body = json!({"action": "no action", "milter": milter});
        let (text, envelope) = changed(TEXT, &answer(&body).changes).await;
        assert_eq!(envelope, expected, "{body}");
        assert_eq!(text, TEXT);
    }
}

proptest! {
    #[test]
    fn any_value_of_a_field_is_one(value in "(\\PC|[\r\n\t\0 ]){0,60}") {
        let body = json!({"action": "no action", "milter": {"add_headers": {"X": value}}});
        prop_assert_eq!(answer(&body).changes.len(), 1);
    }
}
