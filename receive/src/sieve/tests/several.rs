//! Several scripts, and scripts of clients.

use std::{borrow::Cow, io};

use super::{Case, Facts, Limits, NamedScript, Rank, Script, described, named, run};
use crate::sieve::MessageText;

/// Runs scripts, each with its name.
fn outcome(scripts: &[(&str, &str)]) -> String {
    let compiled = |script: &str| Script::compile(script.as_bytes()).unwrap();
    let scripts: Vec<NamedScript> = scripts
        .iter()
        .map(|(name, script)| named(name, compiled(script)))
        .collect();
    described(&Case::default().run(&scripts))
}

#[test]
fn scripts_run_by_their_names_and_the_answer_comes_last() {
    for (scripts, expected) in [
        (&[][..], "keep"),
        (
            &[("b", "fileinto \"B\";"), ("a", "fileinto \"A\";")],
            "file A, file B",
        ),
        (&[("a", "fileinto \"A\";"), ("b", "keep;")], "file A, keep"),
        (
            &[("a", "addflag \"x\";"), ("b", "addflag \"y\";")],
            "keep [x y]",
        ),
        (
            &[
                ("a", "set \"v\" \"x\";"),
                ("b", "set \"w\" \"\"; fileinto \"b${v}\";"),
            ],
            "file b",
        ),
        (
            &[("vacation", "vacation \"x\";"), ("z", "addflag \"z\";")],
            "keep [z], answer",
        ),
        // What stops.
        (&[("a", "stop;"), ("b", "discard;")], "keep"),
        (
            &[
                ("a", "stop;"),
                ("b", "discard;"),
                ("vacation", "vacation \"x\";"),
            ],
            "keep, answer",
        ),
        (
            &[
                ("vacation", "stop; vacation \"x\";"),
                ("z", "addflag \"z\";"),
            ],
            "keep [z]",
        ),
        (
            &[
                ("a", "discard;"),
                ("b", "keep;"),
                ("vacation", "vacation \"x\";"),
            ],
            "discard",
        ),
        (
            &[
                ("a", "reject \"n\";"),
                ("b", "keep;"),
                ("vacation", "vacation \"x\";"),
            ],
            "reject \"n\"",
        ),
        (&[("a", "vacation \"x\";"), ("b", "discard;")], "discard"),
        (
            &[("a", "vacation \"x\";"), ("vacation", "vacation \"x\";")],
            "keep, answer",
        ),
        // What fails.
        (
            &[
                ("a", "addflag \"x\";"),
                ("b", "fileinto \"B\"; reject \"n\";"),
                ("c", "discard;"),
            ],
            "keep [x], fault b 1:15",
        ),
        (
            &[
                ("a", "keep; reject \"n\";"),
                ("vacation", "vacation \"x\";"),
            ],
            "keep, answer, fault a 1:7",
        ),
        (
            &[("a", "fileinto \"A\";"), ("b", "keep; reject \"n\";")],
            "file A, keep, fault b 1:7",
        ),
        (
            &[("a", "keep; reject \"n\";"), ("vacation", "discard;")],
            "keep, fault a 1:7",
        ),
        (
            &[("a", "fileinto \"A\";"), ("b", "reject \"n\";")],
            "file A, keep, fault b 1:1",
        ),
    ] {
        assert_eq!(outcome(scripts), expected, "{scripts:?}");
    }
}

#[test]
fn rules_run_before_scripts_by_their_priority() {
    let script = |rank, name: &str, text: &str| NamedScript {
        rank,
        ..named(name, Script::compile(text.as_bytes()).unwrap())
    };
    let scripts = [
        script(Rank::Vacation, "a", "fileinto \"4\";"),
        script(Rank::Script, "a", "fileinto \"3\";"),
        script(Rank::Rule(10), "a", "fileinto \"2\";"),
        script(Rank::Rule(-1), "z", "fileinto \"1\";"),
    ];
    let found = described(&Case::default().run(&scripts));
    assert_eq!(found, "file 1, file 2, file 3, file 4");
}

#[test]
fn all_scripts_share_the_limits() {
    let keeps = |name| {
        named(
            name,
            Script::compile("keep;".repeat(6000).as_bytes()).unwrap(),
        )
    };
    let outcome = Case::default().run(&[keeps("a"), keeps("b")]);
    assert_eq!(outcome.failures.len(), 1);
    assert_eq!(outcome.failures[0].script, "b");
    let text = outcome.failures[0].to_string();
    assert!(
        text.starts_with("script \"b\", line 1, column 20001: The scripts have run"),
        "{text}"
    );
}

/// The forms in which a published client writes scripts.
#[test]
fn scripts_of_clients_run() {
    let require = "require [\"fileinto\", \"reject\", \"vacation\", \"imap4flags\", \"copy\"];\n\n";
    let nocase = ":comparator \"i;ascii-casemap\"";
    for (script, expected) in [
        ("# Rule: a\n# DISABLED\n".to_owned(), "keep"),
        (
            "# Rule: a\n# Always applies\nfileinto \"X\";\nstop;\n".to_owned(),
            "file X",
        ),
        (
            format!(
                "# Rule: a\nif allof (header :contains {nocase} \"Subject\" \"LIST\", \
                 header :matches {nocase} \"From\" \"*example.com>\") {{\n    \
                 fileinto :copy \"X\";\n    setflag \"\\\\Seen\";\n    stop;\n}}\n"
            ),
            "file X, keep [\\Seen]",
        ),
        (
            format!("if allof (header :regex {nocase} \"Subject\" \"^caf.*d$\") {{ discard; }}"),
            "discard",
        ),
        (
            format!(
                "if allof (not header :contains {nocase} \"X-Custom\" \"a\") {{ redirect \"a@b.test\"; }}"
            ),
            "redirect a@b.test",
        ),
        (
            format!("if allof (header :is {nocase} \"To\" \"a\") {{ reject \"no\"; }}"),
            "keep",
        ),
    ] {
        assert_eq!(
            outcome(&[("filter_1", &format!("{require}{script}"))]),
            expected,
            "{script}"
        );
    }

    let vacation = |start, end| {
        format!(
            "require [\"vacation\", \"variables\", \"date\", \"relational\"];\n\n\
             # Date-based activation\n\
             if currentdate :value \"lt\" \"date\" \"{start}\" {{ stop; }}\n\
             if currentdate :value \"gt\" \"date\" \"{end}\" {{ stop; }}\n\n\
             vacation :days 7 :subject \"Away \\\"now\\\"\" \"I am\\naway\";\n"
        )
    };
    for (start, end, expected) in [
        ("2024-06-15", "2024-06-15", "keep, answer"),
        ("2024-06-16", "2024-06-20", "keep"),
        ("2024-06-01", "2024-06-14", "keep"),
    ] {
        assert_eq!(outcome(&[("vacation", &vacation(start, end))]), expected);
    }
    // The documented form opens more blocks than it closes.
    let error = Script::compile(
        b"if header :contains \"a\" \"b\" {\nif header :contains \"c\" \"d\" {\ndiscard;\n}\n",
    );
    let error = error.unwrap_err();
    assert_eq!((error.line, error.column), (1, 29), "{error}");
}

#[test]
fn a_body_that_can_not_be_read_is_a_fault() {
    struct Broken;
    impl MessageText for Broken {
        fn read(&self, _most: usize) -> io::Result<Cow<'_, [u8]>> {
            Err(io::Error::other("disk on fire"))
        }
    }
    let case = Case::default();
    let facts = Facts {
        sender: &case.sender,
        recipient: &case.recipient,
        header: b"Subject: x\r\n",
        message: &Broken,
        size: 100,
        now: &case.now,
        mailboxes: &[],
        keep_mailbox: "Inbox",
        separator: "",
    };
    let script = Script::compile(b"if body :contains \"x\" { discard; }").unwrap();
    let outcome = run(&[named("a", script)], &facts, &Limits::default());
    assert_eq!(described(&outcome), "keep, fault a 1:4");
    assert!(outcome.failures[0].error.text.contains("disk on fire"));
    let script = Script::compile(b"if header \"subject\" \"x\" { discard; }").unwrap();
    let outcome = run(&[named("a", script)], &facts, &Limits::default());
    assert_eq!(described(&outcome), "discard");
    // Without a separator there is no detail.
    let script = Script::compile(b"if envelope :user \"to\" \"user+lists\" { discard; }").unwrap();
    let outcome = run(&[named("a", script)], &facts, &Limits::default());
    assert_eq!(described(&outcome), "discard");
}
