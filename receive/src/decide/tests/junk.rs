//! What the junk filter of an account says, among the other steps.

use super::*;
use crate::{
    checks::spf::SpfOutcome,
    junk::{
        Doubts, JunkFacts, Listed,
        content::Content,
        history::{Basis, History, Opinion},
    },
};

fn of_sender(opinion: Opinion) -> JunkFacts {
    JunkFacts {
        history: History {
            basis: Basis::Author,
            opinion,
            conclusive: true,
        },
        ..JunkFacts::of_stranger()
    }
}

/// A case in which the filter of each account knows something of the message.
fn case(known: &[(&str, JunkFacts)]) -> (Case, Transaction) {
    let mut case = Case::mx();
    for (to, facts) in known {
        case.add(to);
        let recipient = case.facts.recipients.last_mut().unwrap();
        recipient.targets_mut()[0].junk = Some(Box::new(facts.clone()));
    }
    let to: Vec<&str> = known.iter().map(|(to, _)| *to).collect();
    (case, transaction(&to))
}

fn check(known: &[(&str, JunkFacts)], expected: &[&str]) {
    let (case, transaction) = case(known);
    case.check_end(&transaction, expected);
}

const REFUSED: &str =
    "550 5.7.1 earlier mail from you was marked as junk; postmaster@example.org can help";

#[test]
fn each_account_judges_for_itself() {
    let (good, junk) = (of_sender(Opinion::Good), of_sender(Opinion::Junk));
    let kept = format!("Rejects {REFUSED}");
    check(
        &[("app@example.org", junk), ("ben@example.org", good)],
        &[&kept, "Inbox"],
    );
}

#[test]
fn each_reason_has_its_reply_or_its_word() {
    let of = |facts: JunkFacts, expected: &str| {
        let (case, transaction) = case(&[("app@example.org", facts)]);
        let found = case.at_end(&transaction);
        assert!(found[0].contains(expected), "{found:?}");
    };
    of(of_sender(Opinion::Junk), REFUSED);
    let words = Content {
        probability: 0.9999,
        threshold: 0.95,
    };
    let content = JunkFacts {
        content: Some(words),
        ..JunkFacts::of_stranger()
    };
    of(content.clone(), "Junk: the words are those of junk");
    let certain = JunkFacts {
        doubts: Doubts {
            no_tls: true,
            not_addressed: true,
            ..Doubts::default()
        },
        ..content
    };
    // The reply tells nobody what the filter knows of words.
    of(certain, REFUSED);
    let spf = JunkFacts {
        spf: Some(SpfOutcome::SoftFail),
        ..JunkFacts::of_stranger()
    };
    of(spf, "Junk: SPF fails, and little is known of the sender");
    let listed = JunkFacts {
        listed: Some(Listed {
            zone: "bl.test".parse().unwrap(),
            address: [192, 0, 2, 1].into(),
        }),
        ..JunkFacts::of_stranger()
    };
    of(listed, "550 5.7.1 192.0.2.1 is listed by bl.test");
    of(JunkFacts::of_stranger(), "Inbox");
}

#[test]
fn some_recipients_get_the_mail_all_the_same() {
    let junk = of_sender(Opinion::Junk);
    let (mut case, transaction) = case(&[("postmaster@example.org", junk)]);
    let found = case.at_end(&transaction);
    assert!(found[0].starts_with("Junk: "), "{found:?}");
    // A report about our own mail.
    case.facts.recipients[0].answers_our_mail = true;
    case.check_end(&transaction, &["Postmaster"]);
    // Mail that only looks like one is judged.
    let (mut case, transaction) = self::case(&[("app@example.org", of_sender(Opinion::Junk))]);
    case.facts.recipients[0].may_answer_our_mail = true;
    let found = case.at_end(&transaction);
    assert!(found[0].starts_with("Junk: "), "{found:?}");
}
