//! What becomes of a message for each recipient and each member of a list.

use postrider_smtp::Domain;

use super::*;
use crate::{
    checks::{
        dkim::{DkimOutcome, DkimResult},
        dmarc::{DmarcOutcome, DmarcPolicy, DmarcResult},
        results::AuthenticationResults,
        spf::{SpfIdentity, SpfOutcome, SpfResult},
    },
    facts::PlainField,
};

/// A message that app@example.org seems to have written.
pub(super) fn from_app(outcome: DmarcOutcome) -> Facts {
    Facts {
        header: Some(Header::scan(b"From: <App@example.org>\r\n")),
        authentication: Some(Box::new(AuthenticationResults {
            dmarc: Some(DmarcResult {
                outcome,
                from: Some(Domain::parse("example.org").unwrap()),
                record_domain: None,
                policy: Some(DmarcPolicy::None),
                published: None,
                spf_aligned: false,
                dkim_aligned: outcome == DmarcOutcome::Pass,
                unanswered: outcome == DmarcOutcome::TempError,
                reason: String::new(),
            }),
            ..AuthenticationResults::default()
        })),
        ..Facts::default()
    }
}

/// A case with these recipients.
fn case(facts: Facts, to: &[&str]) -> Case {
    let mut case = Case {
        facts,
        ..Case::mx()
    };
    for to in to {
        case.add(to);
    }
    case
}

/// Checks what becomes of a message for these recipients.
pub(super) fn check(facts: Facts, to: &[&str], expected: &[&str]) {
    case(facts, to).check_end(&transaction(to), expected);
}

fn author(from: &str) -> Facts {
    let section = format!("From: <{from}>\r\n");
    Facts {
        header: Some(Header::scan(section.as_bytes())),
        ..from_app(DmarcOutcome::Pass)
    }
}

#[test]
fn a_removed_account_is_a_temporary_failure() {
    let to = ["app@example.org", "ben@example.org"];
    let mut case = case(Facts::default(), &to);
    case.check_end(&transaction(&to), &["Inbox", "Inbox"]);
    let mut list = self::case(Facts::default(), &["news@example.org"]);
    case.config.accounts.remove("ben");
    list.config.accounts.remove("ben");
    // The client has to try again for ben, and so for all.
    let gone = ["451 4.3.0", "451 4.3.0", "reply 451 4.3.0"];
    case.check_end(&transaction(&to), &gone);
    case.config.accounts.clear();
    case.check_end(&transaction(&to), &gone);
    // One member of a list is enough.
    list.check_end(&transaction(&["news@example.org"]), &["Inbox", "451 4.3.0"]);
}

#[test]
fn members_write_to_a_list_and_strangers_do_not() {
    let list = &["team@example.org"];
    let refused = "550 5.7.2 only its members may write to team@example.org";
    let all_refuse = &[refused, refused, "reply 550 5.7.2"];
    let passed = DmarcOutcome::Pass;
    // The author gets no copy.
    check(from_app(passed), list, &["skipped Author", "Inbox"]);
    check(author("info@example.org"), list, &["Inbox", "Inbox"]);
    check(
        author("app+x@example.org"),
        list,
        &["skipped Author", "Inbox"],
    );
    // As the list itself.
    check(author("Team@example.org"), list, &["Inbox", "Inbox"]);
    check(author("news@example.org"), list, all_refuse);
    check(author("full@example.org"), list, all_refuse);
    check(author("stranger@example.org"), list, all_refuse);
    // Nobody stands behind the author.
    for outcome in [DmarcOutcome::Fail, DmarcOutcome::None] {
        check(from_app(outcome), list, all_refuse);
    }
    let later = "451 4.7.1 there is no answer just now about whether a member of team@example.org";
    let no_answer = DmarcOutcome::TempError;
    check(
        from_app(no_answer),
        list,
        &[later, later, "reply 451 4.7.1"],
    );
    let of_stranger = Facts {
        header: Some(Header::scan(b"From: <x@example.org>\r\n")),
        ..from_app(no_answer)
    };
    check(of_stranger, list, all_refuse);
    // Another domain is validated than that of the author.
    let other = Facts {
        header: Some(Header::scan(b"From: <app@example.org>\r\n")),
        ..from_app(passed)
    };
    let mut other = case(other, list);
    let results = other.facts.authentication.as_deref_mut().unwrap();
    results.dmarc.as_mut().unwrap().from = Some(Domain::parse("x.test").unwrap());
    other.check_end(&transaction(list), all_refuse);
    check(Facts::default(), list, all_refuse);
    // Localserve believes everybody.
    let mut local = case(from_app(DmarcOutcome::None), list);
    local.simulate = true;
    local.check_end(&transaction(list), &["skipped Author", "Inbox"]);
}

#[test]
fn everybody_writes_to_a_public_list() {
    let list = &["news@example.org"];
    check(Facts::default(), list, &["Inbox", "Inbox"]);
    check(author("x@x.test"), list, &["Inbox", "Inbox"]);
    check(
        author("app@example.org"),
        list,
        &["skipped Author", "Inbox"],
    );
    // A forged author is not left out.
    check(from_app(DmarcOutcome::None), list, &["Inbox", "Inbox"]);
    // One member takes it. The other one's copy does not get lost.
    check(
        author("x@x.test"),
        &["public@example.org"],
        &["Inbox", "Rejects 452 4.2.1 come back later"],
    );
    // The domain of a member takes no mail for now.
    check(
        author("x@x.test"),
        &["part@example.org"],
        &["Rejects 451 4.3.0 off.test takes no mail", "Inbox"],
    );
}

#[test]
fn a_member_beside_the_list_gets_one_copy() {
    let to = ["ben@example.org", "news@example.org"];
    let beside = ["Inbox", "Inbox", "skipped NamedBeside"];
    check(Facts::default(), &to, &beside);
    // Another address of the same account is another place.
    let to = ["info@example.org", "news@example.org"];
    check(Facts::default(), &to, &["Info", "Inbox", "Inbox"]);
    // The author is the only one who could get it.
    let to = ["app@example.org", "news@example.org"];
    let mut alone = case(author("app@example.org"), &to);
    alone.facts.recipients.remove(0);
    let domain = Domain::parse("example.org").unwrap();
    let aliases = &mut alone.config.domains.get_mut(&domain).unwrap().aliases;
    for alias in aliases.values_mut() {
        alias.addresses.truncate(1);
    }
    let list = resolve(
        &alone.policy(),
        &ForwardPath::Mailbox(address("news@example.org")),
    );
    alone.facts.recipients = vec![list];
    alone.check_end(&transaction(&["news@example.org"]), &["Inbox"]);
}

#[test]
fn what_one_refuses_and_another_takes_is_kept_apart() {
    // The list refuses the author. The account without a mailbox for refused mail gets junk.
    check(
        author("x@x.test"),
        &["info@example.org", "team@example.org"],
        &[
            "Info",
            "Rejects 550 5.7.2",
            "Junk: refused, and another recipient takes it",
        ],
    );
}

#[test]
fn a_transient_refusal_is_the_reply_of_all() {
    let to = ["team@example.org", "app@example.org"];
    let mut case = case(author("x@x.test"), &to);
    case.config.accounts.remove("app");
    case.check_end(
        &transaction(&to),
        &["451 4.3.0", "451 4.3.0", "451 4.3.0", "reply 451 4.3.0"],
    );
}

/// The configuration of ann, whose destination has these keys.
pub(super) fn ann(destination: &str) -> Case {
    let config = format!(
        "[domains.\"example.org\"]\n[accounts.app]\ndomain = \"example.org\"\n\
         [accounts.ann]\ndomain = \"example.org\"\nquota = 1000\n\
         [accounts.ann.destinations.\"ann@example.org\"]\n{destination}"
    );
    let statics = Static::parse(STATICS, "postrider.conf").unwrap();
    let config = Dynamic::parse(&config, "domains.conf", &statics).unwrap();
    let mut case = Case {
        config,
        facts: author("x@list.test"),
        ..Case::mx()
    };
    case.facts.authentication = Some(Box::default());
    case.add("ann@example.org");
    case
}

pub(super) const ANN: [&str; 1] = ["ann@example.org"];

/// Checks the only delivery of a message to ann.
pub(super) fn check_ann(case: &Case, expected: &str) {
    let found = case.at_end(&transaction(&ANN));
    assert!(
        found[0].starts_with(expected),
        "{found:?} is not {expected}"
    );
}

pub(super) fn results_of(case: &mut Case) -> &mut AuthenticationResults {
    case.facts.authentication.as_deref_mut().unwrap()
}

pub(super) fn spf_pass(domain: &str, identity: SpfIdentity) -> SpfResult {
    let domain = Domain::parse(domain).unwrap();
    SpfResult::plain(SpfOutcome::Pass, identity, Some(domain), "")
}

pub(super) fn dkim_pass(domain: &str) -> DkimResult {
    DkimResult {
        outcome: DkimOutcome::Pass,
        reason: None,
        domain: Some(Domain::parse(domain).unwrap()),
        selector: None,
        identity: None,
        algorithm: None,
        signature: String::new(),
        for_tls_reports: false,
    }
}

#[test]
fn all_conditions_of_a_ruleset_hold() {
    let field = |name: &str, value: &str| PlainField {
        name: name.to_owned(),
        value: value.to_owned(),
    };
    for (conditions, expected) in [
        ("mail_from_regexp = '^a@x\\.test$'", true),
        ("mail_from_regexp = '^x\\.test$'", false),
        ("msg_from_regexp = '@list'", true),
        ("msg_from_regexp = '^a@x'", false),
        ("verified_domain = \"list.test\"", true),
        ("verified_domain = \"x.list.test\"", false),
        ("verified_domain = \"signed.test\"", true),
        ("verified_domain = \"igned.test\"", false),
        ("headers_regexp = { '^list-id$' = '^<b>$' }", true),
        ("headers_regexp = { '^list-id$' = 'c' }", false),
        (
            "headers_regexp = { '^list-id$' = 'a', '^subject$' = 'hello' }",
            true,
        ),
        (
            "headers_regexp = { '^list-id$' = 'a', '^subject$' = 'other' }",
            false,
        ),
        (
            "mail_from_regexp = 'x'\nmsg_from_regexp = 'list'\nverified_domain = \"list.test\"",
            true,
        ),
        (
            "mail_from_regexp = 'x'\nmsg_from_regexp = 'list'\nverified_domain = \"other.test\"",
            false,
        ),
    ] {
        let rulesets = format!(
            "mailbox = \"Rest\"\n[[accounts.ann.destinations.\"ann@example.org\".rulesets]]\n\
             {conditions}\nmailbox = \"Ruled\"\n"
        );
        let mut case = ann(&rulesets);
        let results = results_of(&mut case);
        results.spf = Some(spf_pass("a.list.test", SpfIdentity::MailFrom));
        results.dkim.push(dkim_pass("signed.test"));
        case.facts.fields = vec![
            field("list-id", "<a>"),
            field("list-id", "<b>"),
            field("subject", "hello"),
        ];
        check_ann(&case, if expected { "Ruled" } else { "Rest" });
    }
}

#[test]
fn the_first_ruleset_names_the_mailbox() {
    let ruleset = "[[accounts.ann.destinations.\"ann@example.org\".rulesets]]\n";
    let case = ann(&format!(
        "{ruleset}mail_from_regexp = 'nobody'\nmailbox = \"One\"\n\
         {ruleset}mail_from_regexp = 'x'\nmailbox = \"Two\"\n\
         {ruleset}mail_from_regexp = 'x.test'\nmailbox = \"Three\"\n"
    ));
    check_ann(&case, "Two");
    // The null reverse-path is an empty text.
    let case = ann(&format!(
        "{ruleset}mail_from_regexp = '.'\nmailbox = \"One\"\n\
         {ruleset}mail_from_regexp = '^$'\nmailbox = \"Two\"\n"
    ));
    let null = Transaction {
        mail: mail(""),
        ..transaction(&ANN)
    };
    assert_eq!(case.at_end(&null), ["Two"]);
    check_ann(&case, "One");
}

/// A message that fails, and whose author's domain wants it refused.
pub(super) fn forged(destination: &str) -> Case {
    let mut case = ann(destination);
    results_of(&mut case).dmarc = Some(DmarcResult {
        outcome: DmarcOutcome::Fail,
        from: Some(Domain::parse("bank.test").unwrap()),
        record_domain: Some("bank.test".to_owned()),
        policy: Some(DmarcPolicy::Reject),
        published: None,
        spf_aligned: false,
        dkim_aligned: false,
        unanswered: false,
        reason: "SPF fail".to_owned(),
    });
    results_of(&mut case).spf = Some(spf_pass("x.test", SpfIdentity::MailFrom));
    case
}

fn differs(case: &Case) -> String {
    let decision = decide_end(&transaction(&ANN), &case.facts, &case.policy());
    let differs = decision.deliveries[0].differs.clone();
    differs.as_deref().unwrap_or_default().to_owned()
}

#[test]
fn a_ruleset_names_forwarders_and_lists() {
    let ruleset = |more: &str| {
        format!(
            "[[accounts.ann.destinations.\"ann@example.org\".rulesets]]\n\
             mail_from_regexp = 'x'\nmailbox = \"Ruled\"\n{more}"
        )
    };
    let rejects = "Rejects 550 5.7.1 rejected per DMARC policy of bank.test";
    for (more, expected, why) in [
        ("", rejects, ""),
        (
            "is_forward = true\nverified_domain = \"x.test\"",
            "Ruled",
            "none: forwarded by a server of ours",
        ),
        (
            "is_forward = true\nverified_domain = \"y.test\"",
            rejects,
            "",
        ),
        (
            "list_allow_domain = \"x.test\"",
            "Ruled",
            "none: sent by a list",
        ),
        (
            "list_allow_domain = \"y.test\"",
            "Junk: DMARC failed",
            "junk: sent by a list",
        ),
        (
            "accept_rejects_to_mailbox = \"Maybe\"",
            "Maybe: refused, and a ruleset takes it",
            "none: a ruleset takes it",
        ),
    ] {
        let case = forged(&ruleset(more));
        check_ann(&case, expected);
        assert_eq!(differs(&case), why, "{more}");
    }
    // The mailbox is for mail that would be refused. A full account has no place for it.
    let accepting = ruleset("accept_rejects_to_mailbox = \"Maybe\"");
    let mut full = forged(&accepting);
    set_used(&mut full, 1000);
    check_ann(&full, "452 4.2.2");
    check_ann(&ann(&accepting), "Ruled");
}

#[test]
fn refused_mail_is_kept_if_the_refusal_is_an_opinion() {
    let case = forged("");
    let refused = "550 5.7.1 rejected per DMARC policy of bank.test: SPF fail";
    let rejects = format!("Rejects {refused}");
    case.check_end(&transaction(&ANN), &[&rejects, &format!("reply {refused}")]);
    let mut none = forged("");
    let account = none.config.accounts.get_mut("ann").unwrap();
    account.rejects_mailbox.clear();
    none.check_end(&transaction(&ANN), &[refused, &format!("reply {refused}")]);
}

fn set_used(case: &mut Case, used: u64) {
    for recipient in &mut case.facts.recipients {
        for target in recipient.targets_mut() {
            target.used = Some(used);
        }
    }
}

#[test]
fn a_quota_limits_the_mail_of_an_account() {
    let full = "452 4.2.2 the mailbox is full, try again later";
    for (used, size, expected) in [
        (0, Some(1000), "Inbox"),
        (0, Some(1001), full),
        (999, Some(1), "Inbox"),
        (1000, Some(1), full),
        (2000, Some(0), full),
        (999, None, "Inbox"),
        (1000, None, full),
        (u64::MAX, Some(u64::MAX), full),
    ] {
        let mut case = ann("");
        case.facts.size = size;
        set_used(&mut case, used);
        check_ann(&case, expected);
        let recipient = &case.facts.recipients[0];
        let path = rcpt(ForwardPath::Mailbox(address("ann@example.org")));
        let at_rcpt = if expected == full { full } else { "ok" };
        case.check(Stage::Rcpt(&path, recipient), at_rcpt);
        // Whether it is a report about mail of the account is known at the end. That is always
        // taken.
        let mut recipient = case.facts.recipients.remove(0);
        case.facts.has_null_path = true;
        case.check(Stage::Rcpt(&path, &recipient), "ok");
        recipient.may_answer_our_mail = true;
        case.facts.recipients.push(recipient);
        check_ann(&case, expected);
        case.facts.recipients[0].answers_our_mail = true;
        check_ann(&case, "Inbox");
    }
    let mut unlimited = ann("");
    unlimited.config.accounts.get_mut("ann").unwrap().quota = None;
    set_used(&mut unlimited, u64::MAX);
    check_ann(&unlimited, "Inbox");
}

#[test]
fn a_destination_may_ask_for_a_proved_author() {
    let asks = "message_auth_required_smtp_error = \"sign your mail\"\n";
    let (refused, later) = ("550 5.7.26 sign your mail", "451 4.7.26 sign your mail");
    let no_answer = DmarcOutcome::TempError;
    for (outcome, is_proved, expected) in [
        (DmarcOutcome::Pass, true, "Inbox"),
        (DmarcOutcome::None, true, "Inbox"),
        (DmarcOutcome::None, false, refused),
        (DmarcOutcome::Fail, false, refused),
        (no_answer, false, later),
        (no_answer, true, "Inbox"),
    ] {
        let mut case = ann(asks);
        let mut dmarc = from_app(outcome).authentication.unwrap().dmarc.unwrap();
        dmarc.dkim_aligned = is_proved;
        results_of(&mut case).dmarc = Some(dmarc);
        let found = case.at_end(&transaction(&ANN));
        let reply = found.last().unwrap().trim_start_matches("reply ");
        assert!(reply.starts_with(expected), "{outcome:?}: {reply}");
        case.facts.recipients[0].answers_our_mail = true;
        let expected = match expected {
            "Inbox" => expected,
            _ => "Junk: the recipient takes all mail",
        };
        check_ann(&case, expected);
    }
    // A message that was not checked has no proved author.
    check_ann(&ann(asks), &format!("Rejects {refused}"));
    let local = Case {
        simulate: true,
        ..ann(asks)
    };
    check_ann(&local, "Inbox");
}

#[test]
fn a_message_that_comes_back_is_refused() {
    let refused = "554 5.4.6 the message is in a mail loop: ann@example.org had it before";
    for (before, expected) in [
        ("Ann@Example.org", refused),
        ("ann+x@example.org", "Inbox"),
        ("ann@elsewhere.test", "Inbox"),
    ] {
        let mut case = ann("");
        let section = format!("From: <x@list.test>\r\nDelivered-To: {before}\r\n");
        case.facts.header = Some(Header::scan(section.as_bytes()));
        check_ann(&case, expected);
    }
    // A list, and a member of it.
    for (before, expected) in [
        (
            "news@example.org",
            ["554 5.4.6", "554 5.4.6", "reply 554 5.4.6"].as_slice(),
        ),
        ("ben@example.org", &["Inbox", "Rejects 554 5.4.6"]),
    ] {
        let section = format!("Delivered-To: {before}\r\n");
        let facts = Facts {
            header: Some(Header::scan(section.as_bytes())),
            ..Facts::default()
        };
        let list = &["news@example.org"];
        let mut case = case(facts, list);
        case.config.accounts.get_mut("ben").unwrap().rejects_mailbox = "Rejects".to_owned();
        case.check_end(&transaction(list), expected);
    }
}
