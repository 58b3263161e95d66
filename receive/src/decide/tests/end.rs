//! What becomes of a message for each recipient and each member of a list.

use postrider_smtp::Domain;

use super::*;
use crate::checks::{
    dmarc::{DmarcOutcome, DmarcPolicy, DmarcResult},
    results::AuthenticationResults,
};

/// A message that app@example.org seems to have written.
fn from_app(outcome: DmarcOutcome) -> Facts {
    Facts {
        header: Some(Header::scan(b"From: <App@example.org>\r\n")),
        authentication: Some(AuthenticationResults {
            dmarc: Some(DmarcResult {
                outcome,
                from: Some(Domain::parse("example.org").unwrap()),
                record_domain: None,
                policy: Some(DmarcPolicy::None),
                spf_aligned: false,
                dkim_aligned: outcome == DmarcOutcome::Pass,
                reason: String::new(),
            }),
            ..AuthenticationResults::default()
        }),
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
fn check(facts: Facts, to: &[&str], expected: &[&str]) {
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
    case.config.accounts.remove("ben");
    case.check_end(&transaction(&to), &["Inbox", "451 4.3.0"]);
    case.config.accounts.clear();
    let gone = ["451 4.3.0", "451 4.3.0", "reply 451 4.3.0"];
    case.check_end(&transaction(&to), &gone);
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
    let results = other.facts.authentication.as_mut().unwrap();
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
        &["451 4.3.0", "550 5.7.2", "451 4.3.0", "reply 451 4.3.0"],
    );
}
