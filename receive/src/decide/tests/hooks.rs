//! What outside programs say, and what becomes of it.

use postrider_config::HookQuarantine;
use postrider_smtp::{EnhancedCode, ReplyCode};

use super::*;

#[test]
fn a_refusal_of_a_program_is_the_reply_and_all_else_goes_on() {
    let case = Case::mx();
    let own = Reply::new(
        ReplyCode::LOCAL_ERROR,
        Some(EnhancedCode::SYSTEM_TRANSIENT),
        "busy",
    );
    for (vote, expected) in [
        (Vote::Accept, "ok"),
        (Vote::reject(), "550 5.7.1 Message rejected."),
        (
            Vote::tempfail(),
            "451 4.3.5 Unable to accept message at this time.",
        ),
        (Vote::Refuse(own), "451 4.3.0 busy"),
        // These count at the end of the message.
        (Vote::discard(), "ok"),
        (Vote::Quarantine("virus".into()), "ok"),
        (Vote::Junk("spam".into()), "ok"),
    ] {
        case.check(Stage::Hook(&vote), expected);
    }
    let refusal = Refusal::Hook(Reply::ok("x"));
    assert_eq!((refusal.name(), refusal.is_opinion()), ("hook", false));
    assert_eq!(refusal.reply().reason(), Some("hook"));
}

#[test]
fn a_message_that_a_program_drops_is_dropped() {
    let mut case = Case::mx();
    case.add("app@example.org");
    case.facts.hooks.discard = Some(Reply::ok("taken"));
    let transaction = transaction(&["app@example.org"]);
    case.check(Stage::End(&transaction), "dropped: 250 2.0.0 taken");
    case.facts.reset();
    case.check(Stage::End(&transaction), "ok");
}

#[test]
fn quarantine_is_the_junk_mailbox_or_a_place_on_hold() {
    let to = [
        "app@example.org",
        "ben@example.org",
        "postmaster@example.org",
    ];
    for (way, expected) in [
        (None, ["Inbox", "Inbox", "Postmaster"]),
        (
            Some(HookQuarantine::Junk),
            ["Junk: an outside program says so"; 3],
        ),
        (Some(HookQuarantine::Hold), ["held"; 3]),
    ] {
        let mut case = Case::mx();
        for to in to {
            case.add(to);
        }
        case.facts.hooks.quarantine = way;
        case.check_end(&transaction(&to), &expected);
    }
}

/// A refusal is no matter of taste: a message on hold would be refused when it is released.
#[test]
fn what_is_refused_is_not_held() {
    let mut case = Case::mx();
    case.add("app@example.org");
    case.facts.header = Some(Header::scan(
        b"From: a@x.test\r\nDelivered-To: app@example.org\r\n",
    ));
    case.facts.hooks.quarantine = Some(HookQuarantine::Hold);
    let transaction = transaction(&["app@example.org"]);
    case.check_end(
        &transaction,
        &["554 5.4.6 the message is in a mail loop", "reply 554 5.4.6"],
    );
}
