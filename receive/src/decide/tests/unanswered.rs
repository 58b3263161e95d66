//! Messages about which DNS lacks an answer. No refusal of them lasts if the answer may change it.

use postrider_config::DmarcHandling;
use postrider_smtp::Domain;

use super::{
    end::{ANN, ann, check, check_ann, dkim_pass, forged, from_app, results_of, spf_pass},
    *,
};
use crate::{
    checks::{
        dkim::{DkimOutcome, DkimResult},
        dmarc::{DmarcOutcome, DmarcPolicy},
        spf::{SpfIdentity, SpfOutcome, SpfResult},
    },
    junk::{
        JunkFacts,
        history::{Basis, History, Opinion},
    },
};

const LATER: &str =
    "Rejects 451 4.7.1 there is no answer just now about who stands behind this mail";
const REFUSED: &str = "Rejects 550 5.7.1 rejected per DMARC policy of bank.test";
const JUNK: &str = "Junk: DMARC failed";

fn spf(domain: &str, outcome: SpfOutcome) -> SpfResult {
    let mut result = spf_pass(domain, SpfIdentity::MailFrom);
    result.outcome = outcome;
    result
}

fn dkim(domain: &str, outcome: DkimOutcome) -> DkimResult {
    DkimResult {
        outcome,
        ..dkim_pass(domain)
    }
}

/// Mail of a list that `bank.test` wants refused, with these results.
fn of_list(list: SpfOutcome, signature: DkimOutcome) -> Case {
    let mut case = forged("");
    case.facts.header = Some(Header::scan(
        b"From: <ceo@bank.test>\r\nList-Id: <a.list.test>\r\n",
    ));
    results_of(&mut case).spf = Some(spf("list.test", list));
    let dkim = [
        dkim("bank.test", DkimOutcome::Fail),
        dkim("list.test", signature),
    ];
    results_of(&mut case).dkim.extend(dkim);
    case
}

#[test]
fn the_domain_of_a_list_may_stand_behind_it() {
    let (fail, broken) = (SpfOutcome::Fail, DkimOutcome::Fail);
    for (list, signature, expected) in [
        (fail, broken, REFUSED),
        (SpfOutcome::TempError, broken, LATER),
        (fail, DkimOutcome::TempError, LATER),
        (fail, DkimOutcome::PermError, REFUSED),
        (SpfOutcome::Pass, DkimOutcome::TempError, JUNK),
    ] {
        check_ann(&of_list(list, signature), expected);
    }
    // It is no list, so the answer changes nothing.
    let mut case = of_list(SpfOutcome::TempError, DkimOutcome::TempError);
    case.facts.header = Some(Header::scan(b"From: <ceo@bank.test>\r\n"));
    check_ann(&case, REFUSED);
    // Nor does it where nothing is refused.
    let mut case = of_list(SpfOutcome::TempError, broken);
    case.statics.policy.dmarc = DmarcHandling::Junk;
    check_ann(&case, JUNK);
    case.statics.policy.dmarc = DmarcHandling::Report;
    check_ann(&case, "Inbox");
    let mut case = of_list(SpfOutcome::TempError, broken);
    case.facts.recipients[0].answers_our_mail = true;
    check_ann(&case, JUNK);
}

#[test]
fn a_trusted_server_may_have_seen_it_pass() {
    for policy in [DmarcPolicy::Quarantine, DmarcPolicy::Reject] {
        let mut case = forged("");
        let results = results_of(&mut case);
        results.dmarc.as_mut().unwrap().policy = Some(policy);
        results.arc_may_vouch = Some(Domain::parse("s1.test").unwrap());
        check_ann(&case, LATER);
        case.check_end(&transaction(&ANN), &[LATER, "reply 451 4.7.1"]);
        case.facts.recipients[0].answers_our_mail = true;
        check_ann(&case, JUNK);
    }
}

#[test]
fn a_good_domain_may_stand_behind_a_broken_message() {
    let facts = JunkFacts {
        good_domain_passes: false,
        ..JunkFacts::of_stranger()
    };
    for (signature, signed, expected) in [
        (DkimOutcome::TempError, DkimOutcome::Fail, LATER),
        (DkimOutcome::TempError, DkimOutcome::PermError, REFUSED),
        (DkimOutcome::Fail, DkimOutcome::Fail, REFUSED),
    ] {
        let mut case = forged("");
        let signatures = [dkim("bank.test", signed), dkim("good.test", signature)];
        results_of(&mut case).dkim.extend(signatures);
        case.facts.recipients[0].targets_mut()[0].junk = Some(Box::new(facts.clone()));
        check_ann(&case, expected);
    }
}

#[test]
fn the_domain_of_a_ruleset_may_pass() {
    let ruleset = |more: &str| {
        format!(
            "[[accounts.ann.destinations.\"ann@example.org\".rulesets]]\n\
             mail_from_regexp = 'x'\nmailbox = \"Ruled\"\n{more}"
        )
    };
    let forward = ruleset("is_forward = true\nverified_domain = \"y.test\"");
    let list = ruleset("list_allow_domain = \"y.test\"");
    let rejects = ruleset("accept_rejects_to_mailbox = \"Maybe\"\nverified_domain = \"y.test\"");
    let other = ruleset("is_forward = true\nverified_domain = \"other.test\"");
    for (rules, answer, expected) in [
        (&forward, SpfOutcome::TempError, LATER),
        (&forward, SpfOutcome::Fail, REFUSED),
        (&forward, SpfOutcome::Pass, "Ruled"),
        (&list, SpfOutcome::TempError, LATER),
        (&list, SpfOutcome::Fail, JUNK),
        (&rejects, SpfOutcome::TempError, LATER),
        (&rejects, SpfOutcome::Fail, REFUSED),
        (&other, SpfOutcome::TempError, REFUSED),
    ] {
        let mut case = forged(rules);
        results_of(&mut case).spf = Some(spf("y.test", answer));
        check_ann(&case, expected);
    }
    // The account's own filter refuses mail that a list of a ruleset would bring in.
    let junk = JunkFacts {
        history: History {
            basis: Basis::Author,
            opinion: Opinion::Junk,
            conclusive: true,
        },
        ..JunkFacts::of_stranger()
    };
    for (answer, expected) in [
        (SpfOutcome::TempError, LATER),
        (SpfOutcome::Fail, "Rejects 550 5.7.1 earlier mail from you"),
        (SpfOutcome::Pass, "Ruled"),
    ] {
        let mut case = ann(&list);
        results_of(&mut case).spf = Some(spf("y.test", answer));
        case.facts.recipients[0].targets_mut()[0].junk = Some(Box::new(junk.clone()));
        check_ann(&case, expected);
    }
    // A ruleset takes what is refused for now.
    let mut case = forged(&ruleset("accept_rejects_to_mailbox = \"Maybe\""));
    results_of(&mut case).arc_may_vouch = Some(Domain::parse("s1.test").unwrap());
    check_ann(&case, "Maybe: ");
}

/// The author's domain has no DMARC record, so DMARC itself has an answer.
#[test]
fn the_author_may_be_proved() {
    let open = || {
        let mut facts = from_app(DmarcOutcome::None);
        let results = facts.authentication.as_deref_mut().unwrap();
        results.dmarc.as_mut().unwrap().unanswered = true;
        facts
    };
    let later = "451 4.7.1 there is no answer just now about whether a member of team@example.org";
    check(
        open(),
        &["team@example.org"],
        &[later, later, "reply 451 4.7.1"],
    );
    let mut case = ann("message_auth_required_smtp_error = \"sign your mail\"\n");
    case.facts.authentication = open().authentication;
    check_ann(&case, "Rejects 451 4.7.26 sign your mail");
}
