//! The same scripts run for the same messages by us and by Pigeonhole, the Sieve of Dovecot.
//!
//! `cargo xtask test --full sieve` installs Pigeonhole and runs the comparison. Scripts and
//! messages are in `testdata/sieve`.

use std::{fs, path::Path, process::Command, thread};

use postrider_smtp::{Address, ReversePath};
use tempfile::TempDir;

use super::{Case, Script, named};
use crate::sieve::Outcome;

const REQUIRE: &str = "require [\"body\", \"comparator-i;ascii-numeric\", \"copy\", \"date\", \
    \"encoded-character\", \"envelope\", \"fileinto\", \"imap4flags\", \"mailbox\", \"regex\", \
    \"reject\", \"relational\", \"subaddress\", \"vacation\", \"variables\"];\n";

/// The pairs of a script and a message, or `*` for all messages, about which we differ, each with
/// the reason.
const DIFFERENCES: &[(&str, &str, &str)] = &[
    (
        "copy and file",
        "*",
        "a command without :copy cancels the implicit keep (RFC 3894), also for the same mailbox",
    ),
    (
        "flags of both",
        "*",
        "a mailbox that gets a message twice has the flags of both commands",
    ),
    (
        "string",
        "*",
        "the default comparator is i;ascii-casemap for each test (RFC 5228 section 2.7.3)",
    ),
    (
        "variables of address",
        "plain",
        "the domain of an address is in lower case here",
    ),
    (
        "variables of the whole",
        "plain",
        "the domain of an address is in lower case here",
    ),
    (
        "vacation and discard",
        "*",
        "a discarded message gets no answer here",
    ),
    (
        "fault: date part",
        "*",
        "a wrong part of a date is an error here",
    ),
    (
        "fault: namespace",
        "*",
        "an unknown namespace is an error (RFC 5229 section 3)",
    ),
];

/// A script or a message of `testdata/sieve`.
struct Entry {
    name: String,
    /// The words behind the name.
    values: Vec<(String, String)>,
    text: String,
}

impl Entry {
    fn value(&self, name: &str) -> &str {
        let found = self.values.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }
}

/// The entries of a file. Each begins with a line of `####`, its name, and values.
fn entries(file: &str) -> Vec<Entry> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/sieve");
    let text = fs::read_to_string(folder.join(file)).unwrap();
    let entries = text.split("#### ").skip(1).map(|entry| {
        let (head, text) = entry.split_once('\n').unwrap();
        let (values, name): (Vec<_>, Vec<_>) = head.split(' ').partition(|word| word.contains('='));
        let values = values.into_iter().map(|word| {
            let (name, value) = word.split_once('=').unwrap();
            (name.to_owned(), value.to_owned())
        });
        Entry {
            name: name.join(" "),
            values: values.collect(),
            text: text.to_owned(),
        }
    });
    entries.collect()
}

fn case(message: &Entry) -> Case {
    Case {
        sender: ReversePath::parse(message.value("sender")).unwrap(),
        recipient: Address::parse(message.value("recipient")).unwrap(),
        message: message.text.replace('\n', "\r\n"),
        now: "2024-06-15T12:30:00+00:00[UTC]".parse().unwrap(),
        mailboxes: Vec::new(),
        ..Case::default()
    }
}

/// A result in a form that both sides have: sorted lines.
fn lines(mut lines: Vec<String>) -> String {
    if lines.is_empty() {
        lines.push("discard".to_owned());
    }
    lines.sort();
    lines.join("; ")
}

fn with_flags(what: &str, flags: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let flags = flags
        .into_iter()
        .map(|flag| flag.as_ref().to_ascii_lowercase());
    let mut flags: Vec<String> = flags.collect();
    flags.sort();
    format!("{what} {}", flags.join(" ")).trim_end().to_owned()
}

fn ours(script: &Entry, message: &Entry) -> String {
    match Script::compile(format!("{REQUIRE}{}", script.text).as_bytes()) {
        Ok(script) => described(&case(message).run(&[named("script", script)])),
        Err(_) => "no script".to_owned(),
    }
}

fn described(outcome: &Outcome) -> String {
    let filed = outcome.filed.iter();
    let filed = filed.map(|filed| with_flags(&format!("file {}", filed.mailbox), &filed.flags));
    let mut found: Vec<String> = filed.collect();
    found.extend(outcome.keep.iter().map(|flags| with_flags("keep", flags)));
    found.extend(
        outcome
            .redirects
            .iter()
            .map(|address| format!("redirect {address}")),
    );
    let rejection = outcome.rejection.iter();
    found.extend(rejection.map(|rejection| {
        let reason = rejection.reason.trim_end();
        format!("reject {}", reason.replace(char::is_control, "?"))
    }));
    found.extend(outcome.vacation.iter().map(|_| "answer".to_owned()));
    found.extend(outcome.failures.iter().map(|_| "fault".to_owned()));
    lines(found)
}

/// Runs Pigeonhole's program for a script and a message in this folder.
fn theirs(program: &str, folder: &Path, script: usize, message: usize, of: &Entry) -> String {
    let mut words = program.split(' ');
    let output = Command::new(words.next().unwrap())
        .args(words)
        .args(["-C", "-f", of.value("sender")])
        .args(["-a", of.value("recipient")])
        .args(["-r", of.value("recipient")])
        .arg(folder.join(format!("{script}.sieve")))
        .arg(folder.join(format!("{message}.eml")))
        .env("TZ", "UTC")
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    if stderr.contains("failed to compile") {
        return "no script".to_owned();
    }
    // After a fault only the message is kept, and no actions are listed.
    if stderr.contains("final result: failed; resolved with successful implicit keep") {
        return "fault; keep".to_owned();
    }
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stdout.contains("Performed actions:"), "{stdout}{stderr}");
    lines(read(&stdout))
}

/// The actions in the output of Pigeonhole's program.
fn read(output: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut in_answer = false;
    for line in output.lines().map(str::trim) {
        if in_answer {
            in_answer = line != "END MESSAGE";
        } else if line == "START MESSAGE" {
            in_answer = true;
        } else if let Some(folder) = line.strip_prefix("* store message in folder: ") {
            found.push(match folder {
                "INBOX" => "keep".to_owned(),
                folder => format!("file {folder}"),
            });
        } else if let Some(flags) = line.strip_prefix("+ add IMAP flags: ") {
            let last = found.pop().unwrap();
            found.push(with_flags(&last, flags.split(' ')));
        } else if let Some(address) = line.strip_prefix("* redirect message to: <") {
            found.push(format!("redirect {}", address.trim_end_matches('>')));
        } else if let Some(reason) = line.strip_prefix("* reject message with reason: ") {
            found.push(format!("reject {}", reason.trim_end_matches('?')));
        } else if line == "* send vacation message:" {
            found.push("answer".to_owned());
        }
    }
    found
}

fn differs(script: &Entry, message: &Entry) -> bool {
    DIFFERENCES.iter().any(|(of_script, of_message, _)| {
        *of_script == script.name && (*of_message == "*" || *of_message == message.name)
    })
}

#[test]
fn the_scripts_compile_unless_they_are_faults() {
    for script in entries("scripts.txt") {
        let compiled = Script::compile(format!("{REQUIRE}{}", script.text).as_bytes());
        let is_fault = script.name.starts_with("fault:");
        assert_eq!(
            compiled.is_err(),
            is_fault,
            "{}: {:?}",
            script.name,
            compiled.err()
        );
    }
    let names: Vec<String> = entries("scripts.txt")
        .into_iter()
        .map(|it| it.name)
        .collect();
    for (script, _, _) in DIFFERENCES {
        assert!(names.iter().any(|name| name == script), "{script}");
    }
}

#[test]
#[ignore = "it needs Pigeonhole; `cargo xtask test --full sieve` installs it"]
fn pigeonhole_agrees() {
    let program = std::env::var("POSTRIDER_SIEVE_TEST")
        .expect("POSTRIDER_SIEVE_TEST is the command line of sieve-test");
    let (scripts, messages) = (entries("scripts.txt"), entries("messages.txt"));
    let folder = TempDir::new().unwrap();
    open_to_all(folder.path());
    for (number, script) in scripts.iter().enumerate() {
        let text = format!("{REQUIRE}{}", script.text);
        fs::write(folder.path().join(format!("{number}.sieve")), text).unwrap();
    }
    for (number, message) in messages.iter().enumerate() {
        let text = message.text.replace('\n', "\r\n");
        fs::write(folder.path().join(format!("{number}.eml")), text).unwrap();
    }
    let compare = |numbers: std::ops::Range<usize>| {
        let mut found = Vec::new();
        for number in numbers {
            let script = &scripts[number];
            for (of, message) in messages.iter().enumerate() {
                let ours = ours(script, message);
                let theirs = theirs(&program, folder.path(), number, of, message);
                if (ours == theirs) == differs(script, message) {
                    found.push(format!(
                        "{:?} {:?}: {ours} | {theirs}",
                        script.name, message.name
                    ));
                }
            }
        }
        found
    };
    let half = scripts.len() / 2;
    let found = thread::scope(|scope| {
        let first = scope.spawn(|| compare(0..half));
        let mut found = compare(half..scripts.len());
        found.splice(0..0, first.join().unwrap());
        found
    });
    assert!(
        found.is_empty(),
        "{} pairs, script message: ours | theirs\n{}",
        found.len(),
        found.join("\n")
    );
}

/// Pigeonhole's program runs as another user.
fn open_to_all(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
}
