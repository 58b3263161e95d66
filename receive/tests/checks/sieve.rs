//! Sieve scripts of users, run for messages of strangers:
//!
//! - No script makes the compiler panic. An error has a place in the script and is one line.
//! - A script that compiles runs to its end within its limits, whatever the message is. It fails
//!   with an error of one line and then keeps the message, or its results are within the limits.
//! - An answer to the message has one header section with the fields of an answer.
//! - A rule and an auto-responder that are read become scripts that compile.
//!
//! The input is a script, a NUL, and a message. The script is also read as a rule in JSON.

use std::sync::Arc;

use jiff::{Timestamp, tz::TimeZone};
use postrider_receive::sieve::{
    Facts, KnownMailbox, Limits, NamedScript, Outcome, Rank, Script, SieveError,
    auto_responder::AutoResponder,
    rules::Rule,
    run,
    vacation::{Audience, Circumstances, Request, decide},
};
use postrider_smtp::{Address, ReversePath, field};

/// Fails where one of these does not hold.
pub(crate) fn check(data: &[u8]) {
    let mut halves = data.splitn(2, |byte| *byte == 0);
    let script = halves.next().unwrap_or_default();
    let message = halves.next().unwrap_or_default();
    check_json(script);
    match Script::compile(script) {
        Ok(script) => check_run(script, message),
        Err(error) => check_error(&error),
    }
}

fn check_error(error: &SieveError) {
    assert!(error.line > 0 && error.column > 0, "{error}");
    let is_line = error.text.len() < 700 && !error.text.contains(char::is_control);
    assert!(is_line, "{error}");
}

fn check_json(text: &[u8]) {
    let Ok(value) = serde_json::from_slice(text) else {
        return;
    };
    if let Ok(rule) = Rule::read(&value) {
        assert!(
            Script::compile(rule.script().as_bytes()).is_ok(),
            "{rule:?}"
        );
    }
    if let Ok(responder) = AutoResponder::read(&value) {
        let script = responder.script();
        assert!(Script::compile(script.as_bytes()).is_ok(), "{script}");
    }
}

fn address(text: &str) -> Address {
    Address::parse(text).unwrap_or_else(|error| panic!("{error}"))
}

fn check_run(script: Script, message: &[u8]) {
    script.warnings().iter().for_each(check_error);
    let (sender, recipient) = (address("ann@example.com"), address("user+x@example.org"));
    let end = message.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    let header = message.get(..end.map_or(message.len(), |end| end + 2));
    let header = header.unwrap_or_default();
    let sender = ReversePath::Mailbox(sender);
    let facts = Facts {
        sender: &sender,
        recipient: &recipient,
        header,
        message: &message,
        size: message.len() as u64,
        now: &Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC),
        mailboxes: &[KnownMailbox {
            name: "Spam".to_owned(),
            special_use: Some("\\Junk".to_owned()),
        }],
        keep_mailbox: "Inbox",
        separator: "+",
    };
    // Little work, so that the fuzzer runs many scripts.
    let limits = Limits {
        effort: 1 << 20,
        ..Limits::default()
    };
    let script = NamedScript {
        rank: Rank::Script,
        name: "script".to_owned(),
        script: Arc::new(script),
    };
    let outcome = run(&[script], &facts, &limits);
    check_outcome(&outcome, &limits);
    if let Some(request) = &outcome.vacation {
        check_answer(request, &facts);
    }
}

fn check_outcome(outcome: &Outcome, limits: &Limits) {
    assert!(outcome.filed.len() <= limits.mailboxes);
    assert!(outcome.redirects.len() <= limits.redirects);
    let filed = outcome.filed.iter().map(|filed| &filed.flags);
    for flags in filed.chain(&outcome.keep) {
        assert!(flags.len() <= 100 && flags.iter().all(|flag| flag.is_ascii()));
    }
    for filed in &outcome.filed {
        let name = &filed.mailbox;
        assert!(name != "Inbox" && !name.is_empty() && !name.contains(char::is_control));
    }
    if outcome.rejection.is_some() {
        assert!(outcome.keep.is_none() && outcome.filed.is_empty());
        assert!(outcome.redirects.is_empty() && outcome.vacation.is_none());
    }
    for failure in &outcome.failures {
        check_error(&failure.error);
        assert!(outcome.keep.is_some());
    }
}

/// The fields of an answer, in order. Some may be missing, and fields about the content follow.
const FIELDS: [&str; 9] = [
    "From",
    "To",
    "Subject",
    "Date",
    "Message-ID",
    "In-Reply-To",
    "References",
    "Auto-Submitted",
    "MIME-Version",
];

fn check_answer(request: &Request, facts: &Facts<'_>) {
    assert!((1..=30).contains(&request.days) && request.handle.len() == 64);
    let circumstances = Circumstances {
        sender: facts.sender,
        recipient: facts.recipient,
        header: facts.header,
        own: &[],
        is_suppressed: false,
        is_junk: false,
        is_verified: true,
        audience: Audience::All,
        is_contact: false,
        is_internal: false,
    };
    let Ok(reply) = decide(request, &circumstances) else {
        return;
    };
    let written = reply.message("<id@example.org>", facts.now);
    let mut known = FIELDS.iter();
    for field in field::fields(&written) {
        let is_content = field.name.len() > 8
            && field
                .name
                .get(..8)
                .is_some_and(|begin| begin.eq_ignore_ascii_case(b"Content-"));
        assert!(
            is_content || known.any(|name| field.is(name)),
            "{}",
            String::from_utf8_lossy(&written)
        );
    }
    assert_eq!(
        field::written(&written).count(),
        field::fields(&written).count()
    );
}
