//! Errors, warnings and limits.

use super::{ALL, Case, Limits, Script};

#[test]
fn each_fault_has_its_place_and_says_what_to_do() {
    for (script, line, column, words) in [
        ("frob;", 1, 1, "no command \"frob\""),
        ("if frob { }", 1, 4, "no test \"frob\""),
        ("require \"frob\";", 1, 9, "\"frob\" is not supported"),
        (
            "require [\"copy\",\n \"frob\"];",
            2,
            2,
            "\"frob\" is not supported",
        ),
        ("require 1;", 1, 9, "needs a text or a list"),
        ("keep; require \"copy\";", 1, 7, "before all other commands"),
        ("keep true;", 1, 6, "takes no test"),
        ("keep\nstop;", 2, 1, "End the command with"),
        ("keep { }", 1, 1, "takes no block"),
        ("keep 1;", 1, 6, "too many"),
        ("keep :copy;", 1, 6, "no tag \":copy\""),
        ("if true;", 1, 1, "needs a block"),
        ("if { }", 1, 1, "needs one test"),
        ("if (true, true) { }", 1, 1, "needs one test"),
        ("if 1 true { }", 1, 4, "too many"),
        ("else { }", 1, 1, "no \"if\" before"),
        ("if true { } keep; else { }", 1, 19, "no \"if\" before"),
        (
            "if true { } else { } elsif true { }",
            1,
            22,
            "no \"if\" before",
        ),
        ("if true { } else true { }", 1, 18, "takes no test"),
        ("if not { }", 1, 4, "needs one test"),
        ("if not (true, true) { }", 1, 4, "needs one test"),
        ("if allof { }", 1, 4, "needs tests"),
        ("if true true { }", 1, 9, "takes no test"),
        ("if header \"a\" { }", 1, 4, "keys to compare with"),
        (
            "if header :is :contains \"a\" \"b\" { }",
            1,
            15,
            "second match type",
        ),
        ("if header :is :is \"a\" \"b\" { }", 1, 15, "stands twice"),
        ("if header :all \"a\" \"b\" { }", 1, 11, "no tag \":all\""),
        (
            "if header \"a\" :is \"b\" { }",
            1,
            15,
            "before other arguments",
        ),
        ("if header \"a\" \"b\" \"c\" { }", 1, 19, "too many"),
        (
            "if header \"a\" \"b\" :is { }",
            1,
            19,
            "Tags must stand before",
        ),
        (
            "if header :comparator \"x\" \"a\" \"b\" { }",
            1,
            23,
            "no comparator",
        ),
        (
            "if header :contains :comparator \"i;ascii-numeric\" \"a\" \"b\" { }",
            1,
            11,
            "whole numbers",
        ),
        (
            "if header :value \"xx\" \"a\" \"b\" { }",
            1,
            18,
            "no relation",
        ),
        ("if header :value \"a\" { }", 1, 18, "no relation"),
        ("if header :regex \"a\" \"(b\" { }", 1, 22, "unclosed group"),
        (
            "if address :all :domain \"a\" \"b\" { }",
            1,
            17,
            "second part",
        ),
        ("if envelope \"auth\" \"b\" { }", 1, 13, "no part \"auth\""),
        ("if size 1 { }", 1, 4, ":over or :under"),
        ("if size :over \"1\" { }", 1, 15, "needs a number"),
        ("if size :about 1 { }", 1, 9, "no tag \":about\""),
        ("if currentdate \"age\" \"1\" { }", 1, 16, "no part \"age\""),
        (
            "if currentdate :originalzone \"year\" \"1\" { }",
            1,
            16,
            "no tag",
        ),
        (
            "if date :zone \"x\" \"date\" \"year\" \"1\" { }",
            1,
            15,
            "no offset",
        ),
        (
            "if date :zone \"+0000\" :originalzone \"date\" \"year\" \"1\" { }",
            1,
            23,
            "second zone",
        ),
        ("if body :raw :text \"b\" { }", 1, 14, "Remove one of them"),
        ("fileinto;", 1, 1, "name of a mailbox"),
        ("fileinto [\"a\"];", 1, 10, "and has a list"),
        ("fileinto \"\";", 1, 10, "is empty"),
        ("fileinto \"a*\";", 1, 10, "control character"),
        ("redirect \"a\";", 1, 10, "The address \"a\" is wrong"),
        ("redirect 5;", 1, 10, "and has the number 5"),
        ("set \"1\" \"x\";", 1, 5, "can't be the name"),
        ("set \"a.b\" \"x\";", 1, 5, "can't be the name"),
        (
            "set :upper :lower \"a\" \"x\";",
            1,
            12,
            "another of its kind",
        ),
        ("set \"a\" \"${x.y}\";", 1, 9, "namespace"),
        ("set \"a\" \"${32}\";", 1, 9, "beyond"),
        ("set \"a\" \"${99999999999999999999}\";", 1, 9, "beyond"),
        (
            "require \"encoded-character\"; keep; redirect \"${unicode:d800}\";",
            1,
            45,
            "no character",
        ),
        ("vacation :days \"7\" \"x\";", 1, 16, "needs a number"),
        ("vacation :frob \"x\";", 1, 10, "no tag \":frob\""),
        ("a\0b", 1, 2, "NUL"),
        ("keep; }", 1, 7, "closes no block"),
    ] {
        let error = Script::compile(script.as_bytes()).unwrap_err();
        assert_eq!(
            (error.line, error.column),
            (line, column),
            "{script}: {error}"
        );
        assert!(error.text.contains(words), "{script}: {error}");
        assert!(error.text.ends_with('.'), "{error}");
    }
    let error = Script::compile(b"# \xc3\xa9\n\xff").unwrap_err();
    assert_eq!(
        error.to_string(),
        "line 2, column 1: This byte is no UTF-8. Save the script as UTF-8."
    );
}

#[test]
fn what_is_used_without_being_required_is_a_warning() {
    for (script, expected) in [
        ("keep;", &[][..]),
        ("require \"fileinto\"; fileinto \"a\"; fileinto \"b\";", &[]),
        ("fileinto \"a\"; fileinto \"b\";", &["1:1 fileinto"]),
        (
            "fileinto :copy :create :flags \"x\" :specialuse \"y\" \"a\";",
            &[
                "1:1 fileinto",
                "1:10 copy",
                "1:16 mailbox",
                "1:24 imap4flags",
                "1:35 special-use",
            ],
        ),
        ("setflag \"a\";", &["1:1 imap4flags"]),
        ("if header :regex \"a\" \"b\" { }", &["1:11 regex"]),
        (
            "if header :value \"eq\" :comparator \"i;ascii-numeric\" \"a\" \"b\" { }",
            &["1:11 relational", "1:35 comparator-i;ascii-numeric"],
        ),
        ("if currentdate \"year\" \"b\" { }", &["1:4 date"]),
        (
            "if envelope :user \"from\" \"b\" { }",
            &["1:4 envelope", "1:13 subaddress"],
        ),
        (
            "if body \"b\" { reject \"\"; }",
            &["1:4 body", "1:15 reject"],
        ),
        (
            "if true { ereject \"\"; } vacation \"x\";",
            &["1:11 ereject", "1:25 vacation"],
        ),
        ("set \"a\" \"${a}\";", &["1:1 variables"]),
        ("redirect \"${a}@b.test\";", &["1:10 variables"]),
    ] {
        let script = Script::compile(script.as_bytes()).unwrap();
        let found = script.warnings().iter();
        let words = |text: &str| {
            let names = [
                "variables",
                "special-use",
                "comparator-i;ascii-numeric",
                "imap4flags",
                "subaddress",
                "relational",
                "vacation",
                "fileinto",
                "envelope",
                "mailbox",
                "ereject",
                "reject",
                "regex",
                "copy",
                "date",
                "body",
            ];
            let named = |name: &&str| {
                text.contains(&format!("\"{name}\". Name"))
                    || text.contains(&format!("Name \"{name}\""))
            };
            (*names.iter().find(|name| named(name)).unwrap_or(&"?")).to_owned()
        };
        let found: Vec<_> = found
            .map(|warning| {
                format!(
                    "{}:{} {}",
                    warning.line,
                    warning.column,
                    words(&warning.text)
                )
            })
            .collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn scripts_have_limits() {
    let of = |script: String| {
        Script::compile(script.as_bytes())
            .map(|_| ())
            .map_err(|error| error.text)
    };
    assert_eq!(of(" ".repeat(64 << 10)), Ok(()));
    assert!(
        of(" ".repeat((64 << 10) + 1))
            .unwrap_err()
            .contains("65536 bytes are the most")
    );
    let variables = |count| {
        (0..count)
            .map(|number| format!("set \"v{number}\" \"\";"))
            .collect()
    };
    assert_eq!(of(variables(128)), Ok(()));
    assert!(of(variables(129)).unwrap_err().contains("128 variables"));
    let regexes = |count| "if header :regex \"a\" \"b\" { }".repeat(count);
    assert_eq!(of(regexes(100)), Ok(()));
    assert!(
        of(regexes(101))
            .unwrap_err()
            .contains("100 regular expressions")
    );
    let warnings = Script::compile("fileinto \"${a}\";".repeat(100).as_bytes()).unwrap();
    assert_eq!(warnings.warnings().len(), 20);
}

#[test]
fn runs_have_limits() {
    let case = Case::default();
    let keeps = |count| format!("{ALL} {}", "keep;".repeat(count));
    assert_eq!(case.outcome(&keeps(10_000)), "keep");
    assert_eq!(
        case.outcome(&keeps(10_001)),
        format!("keep, fault script 1:{}", ALL.len() + 2 + 50_000)
    );

    let redirects = |count| {
        let commands = (0..count).map(|number| format!("redirect \"a{number}@b.test\";"));
        case.outcome(&commands.collect::<String>())
    };
    assert!(!redirects(4).contains("fault"));
    assert!(redirects(5).starts_with("keep, fault"), "{}", redirects(5));

    let files = |count| {
        let commands = (0..count).map(|number| format!("fileinto \"a{number}\";"));
        case.outcome(&commands.collect::<String>())
    };
    assert!(!files(32).contains("fault"));
    assert!(files(33).starts_with("keep, fault"));
}

#[test]
fn values_stay_bounded() {
    let case = Case::default();
    let doubled = "set \"a\" \"x\";".to_owned() + &"set \"a\" \"${a}${a}\";".repeat(100);
    let script = format!("{doubled} set :length \"n\" \"${{a}}\"; fileinto \"n${{n}}\";");
    assert_eq!(case.outcome(&script), "file n4096");
    let long = format!("{doubled} reject \"{}\";", "${a}".repeat(17));
    assert!(case.outcome(&long).starts_with("keep, fault"));
}

#[test]
fn work_is_bounded() {
    let stars = "if body :raw :matches \"*a*a*a*a*a*a*a*a*b\" { }".repeat(50);
    let case = Case {
        message: format!("A: b\r\n\r\n{}", "a".repeat(400 << 10)),
        limits: Limits {
            effort: 10_000_000,
            ..Limits::default()
        },
        ..Case::default()
    };
    assert!(case.outcome(&stars).starts_with("keep, fault"));
    let contains = "if body :raw :contains \"b\" { }".repeat(20);
    assert_eq!(case.outcome(&contains), "keep");
}
