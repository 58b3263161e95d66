//! Mail that goes on to other servers.

use postrider_smtp::Domain;

use super::*;
use crate::{
    checks::{
        dmarc::{DmarcOutcome, DmarcPolicy, DmarcResult},
        results::AuthenticationResults,
    },
    facts::ReturnFault,
};

/// Addresses that pass mail on, in the account of the other tests.
const ONWARD: &str = r#"
[accounts.on]
domain = "example.org"
destinations."away@example.org" = { forward = ["x@a.test", "y@b.test"] }
destinations."imap@example.org" = { forward_lmtp = "dovecot" }
[accounts.on.destinations."rules@example.org"]
forward_lmtp = "dovecot"
rulesets = [{ mailbox = "Bank", msg_from_regexp = "bank", accept_rejects_to_mailbox = "Doubt" }]
"#;

fn case(outcome: DmarcOutcome, to: &[&str]) -> Case {
    let mut case = Case::mx();
    let statics = format!("{STATICS}[transports.dovecot.lmtp]\nsocket = \"/run/lmtp\"\n");
    case.statics = Static::parse(&statics, "postrider.conf").unwrap();
    let dynamics = format!("{DYNAMICS}{ONWARD}");
    case.config = Dynamic::parse(&dynamics, "domains.conf", &case.statics).unwrap();
    case.facts = Facts {
        header: Some(Header::scan(b"From: <a@bank.test>\r\n")),
        authentication: Some(Box::new(AuthenticationResults {
            dmarc: Some(DmarcResult {
                outcome,
                from: Some(Domain::parse("bank.test").unwrap()),
                record_domain: None,
                policy: Some(DmarcPolicy::Quarantine),
                published: None,
                spf_aligned: false,
                dkim_aligned: outcome == DmarcOutcome::Pass,
                unanswered: outcome == DmarcOutcome::TempError,
                reason: String::new(),
            }),
            ..AuthenticationResults::default()
        })),
        ..Facts::default()
    };
    for to in to {
        case.add(to);
    }
    case
}

#[test]
fn forwards_go_on_unless_they_are_junk() {
    let to = ["away@example.org", "imap@example.org"];
    let case_of = |outcome| case(outcome, &to);
    let passed = case_of(DmarcOutcome::Pass);
    let way = ["on to x@a.test y@b.test", "by dovecot"];
    passed.check_end(&transaction(&to), &way);
    let junk = case_of(DmarcOutcome::Fail);
    let way = ["Junk: DMARC failed", "by dovecot: DMARC failed"];
    junk.check_end(&transaction(&to), &way);
}

#[test]
fn a_message_that_came_too_far_goes_no_further() {
    for (count, expected) in [
        (99, ["on to x@a.test y@b.test", "by dovecot"].as_slice()),
        (100, &["554 5.4.6", "554 5.4.6", "reply 554 5.4.6"]),
    ] {
        let to = ["away@example.org", "imap@example.org"];
        let mut case = case(DmarcOutcome::Pass, &to);
        let section = "Received: from a by b\r\n".repeat(count);
        case.facts.header = Some(Header::scan(section.as_bytes()));
        case.check_end(&transaction(&to), expected);
    }
}

#[test]
fn a_report_about_a_forward_goes_back_whatever_it_looks_like() {
    let to = ["SRS0=x@example.org"];
    use DmarcPolicy::{Quarantine, Reject};
    for (outcome, policy) in [
        (DmarcOutcome::Pass, Reject),
        (DmarcOutcome::Fail, Quarantine),
        (DmarcOutcome::Fail, Reject),
        (DmarcOutcome::TempError, Reject),
    ] {
        let mut case = case(outcome, &[]);
        let results = case.facts.authentication.as_deref_mut().unwrap();
        results.dmarc.as_mut().unwrap().policy = Some(policy);
        let resolution = Resolution::Return {
            target: Target {
                account: "app".to_owned(),
                destination: None,
                mailbox: "Postmaster".to_owned(),
                takes_all: false,
                member: None,
                used: None,
                junk: None,
            },
            to: address("bob@remote.test"),
        };
        let recipient = RecipientFacts::new(address(to[0]), resolution);
        let path = ForwardPath::Mailbox(address(to[0]));
        case.check(Stage::Rcpt(&rcpt(path), &recipient), "ok");
        case.facts.recipients.push(recipient);
        case.check_end(&transaction(&to), &["back to bob@remote.test"]);
    }
}

/// Nobody looks here for the mail of mailboxes at an LMTP server.
#[test]
fn what_an_lmtp_destination_refuses_is_kept_at_its_server() {
    let to = ["imap@example.org", "postmaster@example.org"];
    let refusing = |to: &[&str]| {
        let mut case = case(DmarcOutcome::Fail, to);
        let results = case.facts.authentication.as_deref_mut().unwrap();
        results.dmarc.as_mut().unwrap().policy = Some(DmarcPolicy::Reject);
        case
    };
    let refused = "by dovecot: refused, and another recipient takes it";
    refusing(&to).check_end(&transaction(&to), &[refused, "Junk: DMARC failed"]);
    let mut none = refusing(&to);
    none.config.accounts.get_mut("on").unwrap().rejects_mailbox = String::new();
    none.check_end(&transaction(&to), &[refused, "Junk: DMARC failed"]);
    // Nobody takes it.
    let only = &to[..1];
    let all = ["Rejects 550 5.7.1", "reply 550 5.7.1"];
    refusing(only).check_end(&transaction(only), &all);
    // A ruleset takes what a check refuses.
    let to = ["rules@example.org"];
    let taken = ["by dovecot: refused, and a ruleset takes it"];
    refusing(&to).check_end(&transaction(&to), &taken);
}

#[test]
fn addresses_that_lead_nowhere_are_refused() {
    let case = case(DmarcOutcome::Pass, &[]);
    for (fault, reply) in [
        (ReturnFault::NoReport, "550 5.7.1 only reports"),
        (ReturnFault::Forged, "550 5.7.1 this server did not write"),
        (ReturnFault::Old, "550 5.7.1 the time of this address"),
    ] {
        let to = address("SRS0=x@example.org");
        let recipient = RecipientFacts::new(to.clone(), Resolution::BadReturn(fault));
        let path = ForwardPath::Mailbox(to);
        case.check(Stage::Rcpt(&rcpt(path), &recipient), reply);
    }
}
