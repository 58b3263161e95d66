//! Any bytes as a script and as a message: nothing panics, and all results stay within limits.

use proptest::prelude::*;

use super::{Case, Limits, Outcome, Script, named};

/// Pieces of which a generated script is made.
const PIECES: &[&str] = &[
    "if ",
    "elsif ",
    "else ",
    "not ",
    "anyof (",
    "allof (",
    ")",
    "{",
    "}",
    ";",
    ",",
    "[",
    "]",
    "true",
    "false",
    "keep",
    "stop",
    "discard",
    "fileinto ",
    "redirect ",
    "reject ",
    "vacation ",
    "setflag ",
    "addflag ",
    "set ",
    "header ",
    "address ",
    "envelope ",
    "body ",
    "date ",
    "currentdate ",
    "hasflag ",
    "string ",
    "exists ",
    "size ",
    "mailboxexists ",
    ":is ",
    ":matches ",
    ":contains ",
    ":regex ",
    ":value \"gt\" ",
    ":count \"ge\" ",
    ":copy ",
    ":create ",
    ":flags ",
    ":over 1K ",
    ":domain ",
    ":comparator \"i;octet\" ",
    ":days 3 ",
    ":zone \"+0100\" ",
    ":upper ",
    ":length ",
    "\"subject\" ",
    "\"from\" ",
    "\"*${1}\" ",
    "\"${a}\" ",
    "\"a\" ",
    "\"a@b.test\" ",
    "\"hour\" ",
    "\"\\\\Seen\" ",
    "\"(a|b)*\" ",
    "text:\nx\n.\n",
    "require \"variables\"; ",
    "\"",
    "\\",
    "/*",
    "*/",
    "#",
    "\n",
    "\u{e9}",
    "\0",
    "5 ",
];

/// Fails where a result is beyond a limit.
fn check_limits(outcome: &Outcome) {
    let limits = Limits::default();
    assert!(outcome.filed.len() <= limits.mailboxes && outcome.redirects.len() <= limits.redirects);
    let flags = outcome
        .filed
        .iter()
        .map(|filed| &filed.flags)
        .chain(&outcome.keep);
    assert!(flags.into_iter().all(|flags| flags.len() <= 100));
    assert!(
        outcome
            .rejection
            .as_ref()
            .is_none_or(|rejection| rejection.reason.len() <= 2048)
    );
    if !outcome.failures.is_empty() {
        assert!(outcome.keep.is_some() && outcome.rejection.is_none());
    }
    for failure in &outcome.failures {
        assert!(failure.error.text.len() < 500, "{failure}");
    }
}

fn try_script(script: &[u8], message: &str) {
    match Script::compile(script) {
        Ok(script) => {
            let case = Case {
                message: message.to_owned(),
                limits: Limits {
                    effort: 1 << 20,
                    ..Limits::default()
                },
                ..Case::default()
            };
            check_limits(&case.run(&[named("a", script)]));
        }
        Err(error) => {
            assert!(error.line > 0 && error.column > 0);
            assert!(
                error.text.len() < 600 && !error.text.contains(char::is_control),
                "{error}"
            );
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_a_script_or_an_error(script in prop::collection::vec(any::<u8>(), 0..200)) {
        try_script(&script, "");
    }

    #[test]
    fn any_pieces_are_a_script_or_an_error(
        pieces in prop::collection::vec(prop::sample::select(PIECES), 0..40),
        message in "(Subject|From|Date|X): [ -~\r\n\u{e9}]{0,80}",
    ) {
        try_script(pieces.concat().as_bytes(), &message);
    }

    #[test]
    fn any_command_runs(
        test in prop::sample::select(&[
            "header :matches \"subject\"", "address :regex \"from\"", "body :contains",
            "header :value \"le\" \"subject\"", "string :matches \"${1}x\"", "hasflag",
            "date \"date\" \"hour\"", "envelope :detail \"to\"", "mailboxexists",
        ][..]),
        key in "[a-z*?\\[\\](){}$.|+^ ]{0,20}",
        command in prop::sample::select(&[
            "fileinto \"${1}\";", "addflag \"${2} x\";", "redirect \"${1}@b.test\";", "reject \"${0}\";",
            "set :quotewildcard \"a\" \"${1}\";", "vacation \"${0}\";", "keep;",
        ][..]),
        message in "(Subject|From|Date): [ -~\r\n\u{e9}]{0,80}",
    ) {
        let script = format!("require \"variables\"; if {test} \"{key}\" {{ {command} }} {command}");
        try_script(script.as_bytes(), &message);
    }
}

#[test]
fn hostile_texts_are_errors_or_bounded() {
    for piece in [
        "if true {",
        "not ",
        "anyof (",
        "[",
        "\"a\",",
        "/*",
        "text:\n",
        "a ",
        "${",
        "(",
        "\\",
    ] {
        for frame in ["", "if ", "keep \"", "if header \"a\" :regex \""] {
            let script = format!("{frame}{}", piece.repeat((60 << 10) / piece.len()));
            try_script(script.as_bytes(), "");
        }
    }
    let list: String = "\"a\",".repeat(10_000);
    try_script(
        format!("if header [{list}\"b\"] [{list}\"c\"] {{ discard; }}").as_bytes(),
        "A: b\r\n\r\n",
    );
    let fields = "Subject: x\r\n".repeat(5000);
    try_script(
        "if header :matches \"subject\" \"*y*\" { }"
            .repeat(1000)
            .as_bytes(),
        &fields,
    );
}

#[test]
fn hostile_bodies_are_read_once() {
    for piece in [
        "<", "<!--", "<a ", "&", "&amp", "<style>", "</p", "<p>", "<script", "\u{e9}&#",
    ] {
        for kind in ["text/html", "text/plain", "message/rfc822"] {
            let body = piece.repeat((300 << 10) / piece.len());
            let message = format!("Content-Type: {kind}\r\n\r\n{body}");
            try_script(b"if body :contains \"x\" { keep; }", &message);
        }
    }
}
