//! Verdicts about messages that were checked by DMARC.

use DmarcHandling::{Enforce, Junk, Report};
use DmarcOutcome::{Fail, None as NoRecord, Pass, PermError, TempError};
use DmarcPolicy::{None as Nothing, Quarantine, Reject};
use postrider_config::DmarcHandling;
use postrider_smtp::Domain;

use super::*;
use crate::{
    checks::{
        dkim::{DkimOutcome, DkimResult},
        dmarc::{DmarcOutcome, DmarcPolicy, DmarcResult},
        results::AuthenticationResults,
    },
    junk::JunkFacts,
};

fn domain(text: &str) -> Domain {
    Domain::parse(text).unwrap()
}

fn dmarc(outcome: DmarcOutcome, policy: Option<DmarcPolicy>) -> DmarcResult {
    DmarcResult {
        outcome,
        from: Some(domain("x.bank.test")),
        record_domain: policy.map(|_| "bank.test".to_owned()),
        policy,
        published: None,
        spf_aligned: outcome == Pass,
        dkim_aligned: false,
        unanswered: outcome == TempError,
        reason: "SPF fail".to_owned(),
    }
}

/// A message for ann that has this result.
struct Checked {
    case: Case,
    to: Transaction,
}

impl Checked {
    fn new(result: DmarcResult) -> Self {
        let mut case = Case::mx();
        case.add("app@example.org");
        case.facts.authentication = Some(Box::new(AuthenticationResults {
            dmarc: Some(result),
            ..AuthenticationResults::default()
        }));
        let to = transaction(&["app@example.org"]);
        Self { case, to }
    }

    fn results(&mut self) -> &mut AuthenticationResults {
        self.case.facts.authentication.as_deref_mut().unwrap()
    }

    /// Checks what becomes of the message for the last recipient, and why it differs from the
    /// policy.
    fn check(&self, expected: &str, differs: &str) {
        let policy = self.case.policy();
        let decision = decide_end(&self.to, &self.case.facts, &policy);
        let last = decision.deliveries.last().unwrap();
        let found = shown(last);
        assert!(found.starts_with(expected), "{found} is not {expected}");
        let found = last.differs.as_deref().unwrap_or_default();
        assert_eq!(found, differs, "{expected}");
    }

    /// Adds a recipient.
    fn add(&mut self, to: &str) {
        self.case.add(to);
        let path = match to {
            "postmaster" => ForwardPath::Postmaster,
            to => ForwardPath::Mailbox(address(to)),
        };
        self.to.recipients.push(rcpt(path));
    }
}

const REFUSED: &str = "Rejects 550 5.7.1 rejected per DMARC policy of bank.test: SPF fail";
const LATER: &str = "Rejects 451 4.7.1 there is no answer about the DMARC policy of x.bank.test just now, try again later";
const OK: &str = "Inbox";
const JUNK: &str = "Junk: DMARC failed";
const REPORTS: &str = "none: this server only reports";
const SETTING: &str = "junk: this server refuses nothing by DMARC";
const TAKES_ALL: &str = "junk: the recipient takes all mail";

#[test]
fn the_outcome_the_policy_and_the_setting_decide() {
    for (setting, outcome, policy, expected, differs) in [
        (Enforce, Pass, Some(Reject), OK, ""),
        (Enforce, NoRecord, None, OK, ""),
        (Enforce, PermError, None, OK, ""),
        (Enforce, Fail, None, OK, ""),
        (Enforce, Fail, Some(Nothing), OK, ""),
        (Enforce, Fail, Some(Quarantine), JUNK, ""),
        (Enforce, Fail, Some(Reject), REFUSED, ""),
        (Enforce, TempError, Some(Nothing), OK, ""),
        (Enforce, TempError, Some(Quarantine), LATER, ""),
        (Enforce, TempError, Some(Reject), LATER, ""),
        // The policy itself has no answer.
        (Enforce, TempError, None, LATER, ""),
        (Junk, Fail, Some(Nothing), OK, ""),
        (Junk, Fail, Some(Quarantine), JUNK, ""),
        (Junk, Fail, Some(Reject), JUNK, SETTING),
        (Junk, TempError, Some(Reject), LATER, ""),
        (Report, Fail, Some(Nothing), OK, ""),
        (Report, Fail, Some(Quarantine), OK, REPORTS),
        (Report, Fail, Some(Reject), OK, REPORTS),
        (Report, TempError, Some(Reject), OK, ""),
    ] {
        let mut checked = Checked::new(dmarc(outcome, policy));
        checked.case.statics.policy.dmarc = setting;
        checked.check(expected, differs);
    }
    // Something aligned passed, and only the record has no answer.
    let passed = DmarcResult {
        dkim_aligned: true,
        ..dmarc(TempError, None)
    };
    Checked::new(passed).check(OK, "");
}

#[test]
fn a_list_needs_a_domain_that_stands_behind_it() {
    let signed = |outcome| DkimResult {
        outcome,
        reason: None,
        domain: Some(domain("list.test")),
        selector: None,
        identity: None,
        algorithm: None,
        signature: String::new(),
        for_tls_reports: false,
    };
    for (section, outcome, expected, differs) in [
        (
            "List-Id: <a.b>\r\n",
            DkimOutcome::Pass,
            JUNK,
            "junk: sent by a list",
        ),
        (
            "list-post: NO\r\n",
            DkimOutcome::Pass,
            JUNK,
            "junk: sent by a list",
        ),
        ("List-Id: <a.b>\r\n", DkimOutcome::Fail, REFUSED, ""),
        ("List-Help: <a:b>\r\n", DkimOutcome::Pass, REFUSED, ""),
    ] {
        let mut checked = Checked::new(dmarc(Fail, Some(Reject)));
        checked.case.facts.header = Some(Header::scan(section.as_bytes()));
        checked.results().dkim.push(signed(outcome));
        checked.check(expected, differs);
    }
}

/// RFC 9989 §7.4.
#[test]
fn a_good_domain_saves_a_message_that_was_broken_on_the_way() {
    let why = "junk: broken on the way, and a good domain stands behind it";
    for (signer, outcome, good, expected, differs) in [
        ("x.bank.test", DkimOutcome::Fail, true, JUNK, why),
        ("x.bank.test", DkimOutcome::Fail, false, REFUSED, ""),
        ("x.bank.test", DkimOutcome::PermError, true, REFUSED, ""),
        ("bank.test", DkimOutcome::Fail, true, REFUSED, ""),
    ] {
        let mut checked = Checked::new(dmarc(Fail, Some(Reject)));
        checked.results().dkim.push(DkimResult {
            outcome,
            reason: None,
            domain: Some(domain(signer)),
            selector: None,
            identity: None,
            algorithm: None,
            signature: String::new(),
            for_tls_reports: false,
        });
        let target = &mut checked.case.facts.recipients[0].targets_mut()[0];
        target.junk = Some(Box::new(JunkFacts {
            good_domain_passes: good,
            ..JunkFacts::of_stranger()
        }));
        checked.check(expected, differs);
    }
}

#[test]
fn a_trusted_server_that_saw_it_pass_overrides_a_failure() {
    for policy in [Quarantine, Reject] {
        let mut checked = Checked::new(dmarc(Fail, Some(policy)));
        checked.results().arc_vouches = Some(domain("list.test"));
        checked.check(OK, "none: list.test saw it pass");
    }
    let mut checked = Checked::new(dmarc(Fail, Some(Nothing)));
    checked.results().arc_vouches = Some(domain("list.test"));
    checked.check(OK, "");
}

#[test]
fn some_recipients_take_all_mail() {
    for to in [
        "postmaster",
        "POSTMASTER@example.org",
        "abuse@example.org",
        "abuse+tag@example.org",
        "reports@example.org",
    ] {
        let mut checked = Checked::new(dmarc(Fail, Some(Reject)));
        checked.add(to);
        checked.check(JUNK, TAKES_ALL);
        *checked.results() = AuthenticationResults {
            dmarc: Some(dmarc(TempError, None)),
            ..AuthenticationResults::default()
        };
        checked.check("Junk: no answer about DMARC", TAKES_ALL);
    }
    // The others refuse it.
    let mut checked = Checked::new(dmarc(Fail, Some(Reject)));
    checked.add("postmaster");
    checked.case.check_end(&checked.to, &[REFUSED, JUNK]);
    let mut checked = Checked::new(dmarc(Fail, Some(Reject)));
    checked.add("info@example.org");
    checked.check(REFUSED, "");
    checked.case.facts.recipients[1].answers_our_mail = true;
    checked.check(JUNK, TAKES_ALL);
    checked.case.check_end(&checked.to, &[REFUSED, JUNK]);
}

#[test]
fn an_unclear_author_is_refused_whatever_the_setting() {
    for setting in [Enforce, Junk, Report] {
        let unclear = DmarcResult {
            from: None,
            ..dmarc(PermError, None)
        };
        let mut checked = Checked::new(unclear);
        checked.case.statics.policy.dmarc = setting;
        checked.check("Rejects 554 5.6.0 exactly one From is needed", "");
        checked.to.mail = mail("");
        checked.check("Junk: not exactly one From of one domain", "");
    }
    // A message that was not checked.
    let mut checked = Checked::new(dmarc(Fail, Some(Reject)));
    *checked.results() = AuthenticationResults::default();
    checked.check(OK, "");
}
