//! Scripts made of rules and of auto-responders: they compile, and do what was asked for.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Case, Script, described, named};
use crate::sieve::{
    FieldError,
    auto_responder::AutoResponder,
    rules::Rule,
    vacation::{Answer, Request},
};

/// Runs the rule for a message and describes the outcome.
fn outcome(case: &Case, rule: &Value) -> String {
    let rule = Rule::read(rule).unwrap_or_else(|errors| panic!("{errors:?}"));
    case.outcome(&rule.script())
}

fn condition(field: &str, operator: &str, value: &str) -> Value {
    json!({"field": field, "operator": operator, "value": value, "header_name": "X-Count"})
}

fn moves(conditions: &[Value]) -> Value {
    json!({"name": "r", "conditions": conditions,
        "actions": [{"action_type": "move", "value": "M"}]})
}

#[test]
fn conditions_hold_for_the_right_mail() {
    for (field, operator, value, expected) in [
        ("from", "contains", "smith", true),
        ("from", "contains", "Ann, Smith", true),
        ("from", "equals", "ann.smith@example.com", true),
        ("from", "equals", "ann", false),
        ("from", "startsWith", "ann.", true),
        ("from", "endsWith", "@example.com", true),
        ("from", "regex", "^ann\\.", true),
        ("from", "notContains", "smith", false),
        ("from", "notContains", "jones", true),
        ("to", "endsWith", ".net", true),
        ("cc", "exists", "", true),
        ("cc", "contains", "x", false),
        ("subject", "contains", "[LIST]", true),
        ("subject", "equals", "caf\u{e9} [list] hello world", true),
        ("subject", "startsWith", "caf", true),
        ("subject", "startsWith", "*", false),
        ("subject", "endsWith", "?", false),
        ("subject", "regex", "l{2}o", true),
        ("header", "equals", "9", true),
        ("header", "exists", "", true),
        ("list_id", "exists", "", false),
        ("list_id", "notContains", "x", true),
        ("body", "contains", "BOLD", true),
        ("body", "notContains", "bold", false),
        ("body", "startsWith", "the plain", true),
        ("body", "regex", "pl.in", true),
        ("size", "larger", "10", true),
        ("size", "larger", "1m", false),
        ("size", "smaller", "1K", true),
    ] {
        let found = outcome(
            &Case::default(),
            &moves(&[condition(field, operator, value)]),
        );
        let expected = if expected { "file M+" } else { "keep" };
        assert_eq!(found, expected, "{field} {operator} {value}");
    }
    let mut exact = condition("subject", "contains", "[LIST]");
    exact["case_sensitive"] = json!(true);
    assert_eq!(outcome(&Case::default(), &moves(&[exact])), "keep");
    let number = json!({"field": "size", "operator": "larger", "value": 10});
    assert_eq!(outcome(&Case::default(), &moves(&[number])), "file M+");
}

#[test]
fn all_or_any_of_the_conditions_must_hold() {
    let yes = || condition("subject", "contains", "list");
    let no = || condition("subject", "contains", "nothing");
    for (quantity, conditions, expected) in [
        ("all", vec![yes(), yes()], "file M+"),
        ("all", vec![yes(), no()], "keep"),
        ("any", vec![no(), yes()], "file M+"),
        ("any", vec![no(), no()], "keep"),
        ("all", vec![], "file M+"),
        ("any", vec![], "file M+"),
    ] {
        let mut rule = moves(&conditions);
        rule["match"] = json!(quantity);
        assert_eq!(outcome(&Case::default(), &rule), expected, "{rule}");
        rule["enabled"] = json!(false);
        assert_eq!(outcome(&Case::default(), &rule), "keep");
    }
}

#[test]
fn actions_do_what_they_say() {
    let action = |kind: &str, value: &str| json!({"action_type": kind, "value": value});
    for (actions, expected) in [
        (vec![action("move", "A \"b\" \\c")], "file A \"b\" \\c+"),
        (vec![action("copy", "A")], "file A+, keep"),
        (vec![action("copy", "${1}")], "file ${1}+, keep"),
        (vec![action("mark_read", "")], "keep [\\Seen]"),
        (vec![action("mark_flagged", "ignored")], "keep [\\Flagged]"),
        (vec![action("label", "work")], "keep [work]"),
        (
            vec![action("move", "A"), action("mark_read", "")],
            "file A+ [\\Seen]",
        ),
        (vec![action("forward", "b@c.test")], "redirect b@c.test"),
        (
            vec![action("forward", "b@c.test"), action("copy", "INBOX")],
            "redirect b@c.test, keep",
        ),
        (
            vec![action("reject", "no\n\"way\" ${x}")],
            "reject \"no\\r\\n\\\"way\\\" ${x}\"",
        ),
        (
            vec![action("reject", "no"), action("label", "x")],
            "reject \"no\"",
        ),
        (vec![action("delete", "")], "file Bin+"),
        (vec![action("discard", "")], "discard"),
        (vec![action("discard", ""), action("copy", "A")], "file A+"),
    ] {
        let rule = json!({"actions": actions});
        assert_eq!(outcome(&Case::default(), &rule), expected, "{rule}");
    }
    let stops = |stop: bool| {
        let rule = json!({"actions": [action("label", "a")], "stop_processing": stop});
        let rule = Rule::read(&rule).unwrap();
        let compiled = |text: &str| Script::compile(text.as_bytes()).unwrap();
        let scripts = [
            named("a", compiled(&rule.script())),
            named("b", compiled("discard;")),
        ];
        described(&Case::default().run(&scripts))
    };
    assert_eq!(
        (stops(true).as_str(), stops(false).as_str()),
        ("keep [a]", "discard")
    );
}

/// Reads something that is wrong and describes its errors.
fn faults<T>(read: Result<T, Vec<FieldError>>) -> Vec<String> {
    let errors = read.err().unwrap_or_default();
    assert!(
        errors.iter().all(|error| error.detail.ends_with('.')),
        "{errors:?}"
    );
    errors.into_iter().map(|error| error.field).collect()
}

#[test]
fn each_fault_of_a_rule_names_its_field() {
    let with = |condition: Value| json!({"conditions": [condition], "actions": [{"action_type": "discard"}]});
    let does = |action: Value| json!({"actions": [action]});
    for (rule, expected) in [
        (json!(1), &[""][..]),
        (json!({}), &["actions"]),
        (json!({"actions": []}), &["actions"]),
        (
            json!({"actions": {}, "name": 1, "enabled": "x", "priority": 1.5, "match": "some"}),
            &["name", "enabled", "priority", "match", "actions"],
        ),
        (does(json!("x")), &["actions[0]"]),
        (does(json!({})), &["actions[0].action_type"]),
        (
            does(json!({"action_type": "fly"})),
            &["actions[0].action_type"],
        ),
        (does(json!({"action_type": "move"})), &["actions[0].value"]),
        (
            does(json!({"action_type": "move", "value": ""})),
            &["actions[0].value"],
        ),
        (
            does(json!({"action_type": "copy", "value": "a*"})),
            &["actions[0].value"],
        ),
        (
            does(json!({"action_type": "forward", "value": "a"})),
            &["actions[0].value"],
        ),
        (
            does(json!({"action_type": "label", "value": "a b"})),
            &["actions[0].value"],
        ),
        (
            does(json!({"action_type": "label", "value": "\\Seen"})),
            &["actions[0].value"],
        ),
        (
            json!({"actions": [{"action_type": "reject", "value": "x"}, {"action_type": "discard"}]}),
            &["actions"],
        ),
        (
            with(json!({})),
            &["conditions[0].field", "conditions[0].operator"],
        ),
        (
            with(json!({"field": "age", "operator": "contains", "value": "1"})),
            &["conditions[0].field"],
        ),
        (
            with(json!({"field": "subject", "operator": "is", "value": "1"})),
            &["conditions[0].operator"],
        ),
        (
            with(json!({"field": "subject", "operator": "contains"})),
            &["conditions[0].value"],
        ),
        (
            with(json!({"field": "subject", "operator": "contains", "value": 1})),
            &["conditions[0].value"],
        ),
        (
            with(json!({"field": "subject", "operator": "contains", "value": "a\0"})),
            &["conditions[0].value"],
        ),
        (
            with(json!({"field": "subject", "operator": "regex", "value": "("})),
            &["conditions[0].value"],
        ),
        (
            with(json!({"field": "subject", "operator": "larger", "value": "1"})),
            &["conditions[0].operator"],
        ),
        (
            with(json!({"field": "size", "operator": "equals", "value": "1"})),
            &["conditions[0].operator"],
        ),
        (
            with(json!({"field": "size", "operator": "larger", "value": "big"})),
            &["conditions[0].value"],
        ),
        (
            with(json!({"field": "size", "operator": "larger", "value": -1})),
            &["conditions[0].value"],
        ),
        (
            with(json!({"field": "body", "operator": "exists"})),
            &["conditions[0].operator"],
        ),
        (
            with(json!({"field": "header", "operator": "exists"})),
            &["conditions[0].header_name"],
        ),
        (
            with(json!({"field": "header", "operator": "exists", "header_name": "a:"})),
            &["conditions[0].header_name"],
        ),
    ] {
        assert_eq!(faults(Rule::read(&rule)), expected, "{rule}");
    }
    let long = json!({"field": "subject", "operator": "contains", "value": "x".repeat(4000)});
    let rule = json!({"conditions": vec![long; 20], "actions": [{"action_type": "discard"}]});
    assert_eq!(faults(Rule::read(&rule)), [""]);
}

#[test]
fn a_rule_is_shown_in_the_words_of_clients() {
    let written = json!({
        "name": "r", "enabled": true, "priority": 3, "match": "any",
        "conditions": [
            {"field": "list_id", "operator": "notContains", "value": "x", "case_sensitive": false},
            {"field": "header", "operator": "startsWith", "value": "x", "header_name": "X",
                "case_sensitive": true},
        ],
        "actions": [{"action_type": "mark_read", "value": ""}],
        "stop_processing": true,
    });
    let rule = Rule::read(&written).unwrap();
    assert_eq!(serde_json::to_value(&rule).unwrap(), written);
}

fn answer(responder: &Value) -> Option<Request> {
    let responder = AutoResponder::read(responder).unwrap_or_else(|errors| panic!("{errors:?}"));
    let script = Script::compile(responder.script().as_bytes()).unwrap();
    let outcome = Case::default().run(&[named("vacation", script)]);
    assert!(outcome.failures.is_empty());
    outcome.vacation
}

#[test]
fn an_auto_responder_answers_within_its_time() {
    for (start, end, expected) in [
        (json!(null), json!(null), true),
        (json!("2024-06-15"), json!("2024-06-15"), true),
        (json!("2024-06-16"), json!(null), false),
        (json!(null), json!("2024-06-14"), false),
        (
            json!("2024-06-15T10:30:00Z"),
            json!("2024-06-15T12:30:00+02:00"),
            true,
        ),
        (json!("2024-06-15T10:30:01Z"), json!(null), false),
        (json!(""), json!("2024-06-15T10:29:59Z"), false),
    ] {
        let responder = json!({"plain": "x", "start": start, "end": end});
        assert_eq!(answer(&responder).is_some(), expected, "{responder}");
    }
    assert!(answer(&json!({"plain": "x", "enabled": false})).is_none());
    for (exclude, expected) in [
        (json!(["x@y.test", "ANN@example.com"]), false),
        (json!(["@Example.com"]), false),
        (json!(["@sub.example.com", "ann@example.net"]), true),
    ] {
        assert_eq!(
            answer(&json!({"plain": "x", "exclude": exclude})).is_some(),
            expected
        );
    }
}

#[test]
fn an_auto_responder_has_the_texts_that_were_given() {
    let plain = "I am \"away\" \\ until ${date}.\n.\nBye";
    let request = answer(&json!({"plain": plain, "subject": "Re \"x\" ${1}", "days": 3})).unwrap();
    assert_eq!(request.answer, Answer::Text(plain.replace('\n', "\r\n")));
    assert_eq!(
        (request.subject.as_deref(), request.days),
        (Some("Re \"x\" ${1}"), 3)
    );
    let request = answer(&json!({"html": "<p>Gone</p>"})).unwrap();
    let Answer::Mime(mime) = request.answer else {
        panic!("no MIME");
    };
    assert!(
        mime.starts_with("Content-Type: text/html; charset=utf-8\r\n"),
        "{mime}"
    );
    let request = answer(&json!({"html": "<p>Gone</p>", "plain": "Gone"})).unwrap();
    let Answer::Mime(mime) = request.answer else {
        panic!("no MIME");
    };
    let parsed = mail_parser::MessageParser::new().parse(&mime).unwrap();
    assert_eq!(parsed.body_text(0).unwrap(), "Gone");
    assert_eq!(parsed.body_html(0).unwrap(), "<p>Gone</p>");
}

#[test]
fn each_fault_of_an_auto_responder_names_its_field() {
    for (responder, expected) in [
        (json!([]), &[""][..]),
        (json!({}), &["plain"]),
        (json!({"plain": " \n"}), &["plain"]),
        (json!({"plain": "x", "days": 0}), &["days"]),
        (json!({"plain": "x", "days": 31}), &["days"]),
        (json!({"plain": "x", "only": "friends"}), &["only"]),
        (json!({"plain": "x", "start": "soon"}), &["start"]),
        (
            json!({"plain": "x", "start": "2024-02-02", "end": "2024-02-01"}),
            &["end"],
        ),
        (
            json!({"plain": "x", "start": "2024-02-01T10:00:00Z", "end": "2024-02-01T09:00:00Z"}),
            &["end"],
        ),
        (
            json!({"plain": "x", "exclude": ["a@b.test", "c", 1]}),
            &["exclude[1]", "exclude[2]"],
        ),
        (
            json!({"plain": "x", "subject": "x".repeat(501)}),
            &["subject"],
        ),
        (json!({"plain": "x".repeat(70_000)}), &[""]),
    ] {
        assert_eq!(
            faults(AutoResponder::read(&responder)),
            expected,
            "{responder}"
        );
    }
    let written = json!({"enabled": true, "subject": "s", "plain": "p", "html": "", "start":
        "2024-02-01", "end": "2024-02-01T09:00:00Z", "days": 7, "only": "contacts",
        "exclude": ["@b.test"]});
    assert_eq!(AutoResponder::read(&written).unwrap().json(), written);
}

proptest! {
    /// Whatever text a client sends, the script compares with this text.
    #[test]
    fn texts_keep_their_meaning_in_rules(value in "[a-c\"\\\\*?${}\\[\\]();\u{e9} ]{1,12}") {
        let trimmed = value.trim().to_owned();
        prop_assume!(!trimmed.is_empty());
        let case = Case {
            message: format!("Subject: {trimmed}\r\nX-Count: x{trimmed}y\r\n\r\n{trimmed}"),
            ..Case::default()
        };
        for (field, operator) in [
            ("subject", "equals"),
            ("subject", "startsWith"),
            ("subject", "endsWith"),
            ("header", "contains"),
            ("body", "contains"),
            ("body", "equals"),
        ] {
            let rule = moves(&[condition(field, operator, &trimmed)]);
            prop_assert_eq!(outcome(&case, &rule), "file M+", "{}", rule);
        }
        let other = moves(&[condition("subject", "equals", &format!("{trimmed}*"))]);
        prop_assert_eq!(outcome(&case, &other), "keep");
        let reject = json!({"actions": [{"action_type": "reject", "value": trimmed}]});
        prop_assert_eq!(outcome(&case, &reject), format!("reject {trimmed:?}"));
    }
}
