//! Tables of facts and verdicts.

mod dmarc;
mod end;
mod hooks;
mod junk;
mod onward;
mod unanswered;

use std::time::Duration;

use postrider_queue::header::Header;
use postrider_smtp::{BodyType, server::MailFrom};

use super::*;
use crate::{facts::LoggedIn, resolve::resolve};

const STATICS: &str = r#"
hostname = "mx.example.org"
[listeners.l]
ips = ["127.0.0.1"]
[postmaster]
account = "app"
"#;

const DYNAMICS: &str = r#"
[domains."example.org"]
localpart_catchall_separators = ["+"]
aliases."public" = { addresses = ["app@example.org", "full@example.org"], post_public = true }
aliases."team" = { addresses = ["app@example.org", "ben@example.org"], allow_msg_from = true }
aliases."news" = { addresses = ["app@example.org", "ben@example.org"], post_public = true }
aliases."nobody" = { addresses = ["full@example.org"], post_public = true }
aliases."gone" = { addresses = ["gone@here.test"], post_public = true }
aliases."mixed" = { addresses = ["gone@here.test", "app@off.test"], post_public = true }
aliases."part" = { addresses = ["app@off.test", "ben@example.org"], post_public = true }
dmarc = { account = "app", mailbox = "DMARC", localpart = "reports" }
[domains."here.test"]
[domains."off.test"]
disabled = true
[accounts.app]
domain = "example.org"
destinations."app@example.org" = {}
destinations."info@example.org" = { mailbox = "Info" }
destinations."app@off.test" = {}
[accounts.full]
domain = "example.org"
destinations."full@example.org" = { smtp_error = "452 come back later" }
destinations."gone@here.test" = { smtp_error = "550 left" }
[accounts.ben]
domain = "example.org"
rejects_mailbox = ""
destinations."ben@example.org" = {}
[accounts.locked]
domain = "example.org"
login_disabled = "ask the help desk"
destinations."locked@example.org" = {}
"#;

struct Case {
    statics: Static,
    config: Dynamic,
    simulate: bool,
    role: Role,
    facts: Facts,
}

impl Case {
    fn mx() -> Self {
        let statics = Static::parse(STATICS, "postrider.conf").unwrap();
        let config = Dynamic::parse(DYNAMICS, "domains.conf", &statics).unwrap();
        Self {
            statics,
            config,
            simulate: false,
            role: Role::Mx,
            facts: Facts::default(),
        }
    }

    fn submission() -> Self {
        Self {
            role: Role::Submission,
            facts: Facts {
                login: Some(LoggedIn {
                    account: "app".into(),
                    address: address("app@example.org"),
                }),
                ..Facts::default()
            },
            ..Self::mx()
        }
    }

    fn policy(&self) -> Policy<'_> {
        Policy {
            role: self.role,
            statics: &self.statics,
            config: &self.config,
            simulate: self.simulate,
        }
    }

    fn check(&self, stage: Stage<'_>, expected: &str) {
        let reply = match decide(stage, &self.facts, &self.policy()) {
            Verdict::Accept => "ok".to_owned(),
            Verdict::Junk(suspicion) => format!("junk: {}", suspicion.as_str()),
            Verdict::Refuse(refusal) => refusal.reply().to_string(),
            Verdict::Discard(reply) => format!("dropped: {reply}"),
        };
        assert!(reply.starts_with(expected), "{stage:?}: {reply}");
    }

    fn check_mail(&self, from: &str, expected: &str) {
        self.check(Stage::Mail(&mail(from)), expected);
    }

    fn check_rcpt(&self, to: &str, expected: &str) -> RecipientFacts {
        let forward_path = match to {
            "postmaster" => ForwardPath::Postmaster,
            to => ForwardPath::Mailbox(address(to)),
        };
        let recipient = resolve(&self.policy(), &forward_path);
        self.check(Stage::Rcpt(&rcpt(forward_path), &recipient), expected);
        recipient
    }

    /// Adds a recipient that was taken at RCPT.
    fn add(&mut self, to: &str) {
        let recipient = self.check_rcpt(to, "ok");
        self.facts.recipients.push(recipient);
    }

    /// The decision at the end: what becomes of the message for each target, as text.
    fn at_end(&self, transaction: &Transaction) -> Vec<String> {
        let decision = decide_end(transaction, &self.facts, &self.policy());
        let mut shown: Vec<String> = decision.deliveries.iter().map(shown).collect();
        shown.extend(
            decision
                .refusal
                .map(|refusal| format!("reply {}", refusal.reply())),
        );
        shown
    }

    /// Checks the beginnings of what [`Self::at_end`] gives.
    fn check_end(&self, transaction: &Transaction, expected: &[&str]) {
        let found = self.at_end(transaction);
        let fits = found.len() == expected.len()
            && found
                .iter()
                .zip(expected)
                .all(|(found, expected)| found.starts_with(expected));
        assert!(fits, "{found:#?}\nis not\n{expected:#?}");
    }

    fn check_header(&mut self, section: &str, expected: &str) {
        self.facts.header = Some(Header::scan(section.as_bytes()));
        self.facts.author = checks::author(section.as_bytes());
        self.check(Stage::Header, expected);
    }
}

fn shown(delivery: &Delivery) -> String {
    match &delivery.outcome {
        Outcome::Mailbox { mailbox, junk } => match junk {
            None => mailbox.clone(),
            Some(suspicion) => format!("{mailbox}: {}", suspicion.as_str()),
        },
        Outcome::Forward(to) => {
            let to: Vec<String> = to.iter().map(Address::to_string).collect();
            format!("on to {}", to.join(" "))
        }
        Outcome::Lmtp { transport, junk } => match junk {
            None => format!("by {transport}"),
            Some(suspicion) => format!("by {transport}: {}", suspicion.as_str()),
        },
        Outcome::Held => "held".to_owned(),
        Outcome::Relay(to) => format!("back to {to}"),
        Outcome::Rejects { mailbox, refusal } => format!("{mailbox} {}", refusal.reply()),
        Outcome::Refused(refusal) => refusal.reply().to_string(),
        Outcome::Skipped(skip) => format!("skipped {skip:?}"),
    }
}

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

fn mail(from: &str) -> MailFrom {
    MailFrom {
        reverse_path: match from {
            "" => ReversePath::Null,
            from => ReversePath::Mailbox(address(from)),
        },
        size: None,
        body: BodyType::SevenBit,
        smtputf8: false,
        require_tls: false,
        ret: None,
        envid: None,
        delivery: Default::default(),
    }
}

const fn rcpt(forward_path: ForwardPath) -> RcptTo {
    RcptTo {
        forward_path,
        notify: None,
        orcpt: None,
    }
}

fn transaction(to: &[&str]) -> Transaction {
    Transaction {
        mail: mail("a@x.test"),
        recipients: to
            .iter()
            .map(|to| rcpt(ForwardPath::Mailbox(address(to))))
            .collect(),
    }
}

#[test]
fn an_mx_takes_mail_for_known_recipients_only() {
    let case = Case::mx();
    for (to, expected) in [
        ("app@example.org", "ok"),
        ("App+tag@example.org", "ok"),
        ("postmaster", "ok"),
        (
            "none@example.org",
            "550 5.1.1 there is no none@example.org here",
        ),
        ("b@y.test", "550 5.7.1 mail for y.test is not taken here"),
        ("app@off.test", "451 4.3.0"),
        ("full@example.org", "452 4.2.1 come back later"),
        ("public@example.org", "ok"),
        // The author is known at the end only.
        ("team@example.org", "ok"),
        // What all members say.
        ("nobody@example.org", "452 4.2.1 come back later"),
        ("gone@example.org", "550 5.2.1 left"),
        ("mixed@example.org", "451 4.3.0 off.test takes no mail"),
        // The domain comes before the local-part.
        ("none@off.test", "451 4.3.0"),
        ("postmaster@off.test", "451 4.3.0"),
    ] {
        case.check_rcpt(to, expected);
    }
}

/// The part behind the separator makes any number of addresses of a list.
#[test]
fn a_list_that_is_named_again_has_no_more_targets() {
    let case = Case::mx();
    let recipient = |to: &str| case.check_rcpt(to, "ok");
    let first = vec![recipient("news+1@example.org")];
    for (to, targets) in [
        ("News+2@example.org", 0),
        ("team@example.org", 2),
        ("app@example.org", 1),
    ] {
        let joined = recipient(to).joined(&first);
        assert_eq!(joined.targets().len(), targets, "{to}");
        assert_eq!(joined.same_as.is_some(), targets == 0, "{to}");
        let path = ForwardPath::Mailbox(address(to));
        case.check(Stage::Rcpt(&rcpt(path), &joined), "ok");
    }
    let mut all = case;
    all.facts.recipients = first;
    let again = all.check_rcpt("news+2@example.org", "ok");
    let again = again.joined(&all.facts.recipients);
    all.facts.recipients.push(again);
    let to = ["news+1@example.org", "news+2@example.org"];
    all.check_end(&transaction(&to), &["Inbox", "Inbox"]);
}

#[test]
fn the_targets_of_a_transaction_are_bounded() {
    let mut case = Case::mx();
    let recipient = case.check_rcpt("news@example.org", "ok");
    let member = recipient.targets()[0].clone();
    let large = |count| Resolution::List(vec![member.clone(); count]);
    let of = |count| RecipientFacts::new(address("news@example.org"), large(count));
    let path = || rcpt(ForwardPath::Mailbox(address("news@example.org")));
    // One list is taken, however large it is.
    case.check(Stage::Rcpt(&path(), &of(TARGETS_MAX + 1)), "ok");
    case.facts.recipients.push(of(TARGETS_MAX - 1));
    case.check(Stage::Rcpt(&path(), &of(1)), "ok");
    case.check(Stage::Rcpt(&path(), &of(2)), "452 4.5.3 too many mailboxes");
}

#[test]
fn a_recipient_has_its_targets() {
    let case = Case::mx();
    for (to, expected) in [
        ("info@example.org", &["app Info"][..]),
        ("postmaster", &["app Postmaster all"]),
        ("abuse@example.org", &["app Postmaster all"]),
        (
            "public@example.org",
            &["app Inbox app@example.org", "full Inbox full@example.org"],
        ),
    ] {
        let recipient = case.check_rcpt(to, "ok");
        let targets = recipient.targets().iter().map(|target| {
            let all = if target.takes_all { " all" } else { "" };
            let member = target.member.as_ref();
            let member = member
                .map(|member| format!(" {member}"))
                .unwrap_or_default();
            format!("{} {}{all}{member}", target.account, target.mailbox)
        });
        assert_eq!(targets.collect::<Vec<_>>(), expected, "{to}");
    }
}

#[test]
fn localserve_takes_any_recipient_and_plays_failures() {
    let case = Case {
        simulate: true,
        ..Case::mx()
    };
    case.check_rcpt("b@y.test", "ok");
    case.check_rcpt("rcptto+451@y.test", "451 4.0.0");
    case.check_mail("mailfrom+550@x.test", "550 5.0.0");
    case.check(Stage::End(&transaction(&["x+550@y.test"])), "550 5.0.0");
    let login = Case {
        simulate: true,
        ..Case::submission()
    };
    login.check_mail("mailfrom+550@x.test", "550 5.0.0");
    login.check_mail("mailfrom+451@example.org", "451 4.0.0");
    let real = Case::mx();
    real.check_mail("mailfrom+550@x.test", "ok");
}

#[test]
fn a_login_sends_from_its_own_addresses_only() {
    let mut case = Case::submission();
    case.check_mail("app@example.org", "ok");
    case.check_mail("app+tag@example.org", "ok");
    case.check_mail("", "ok");
    case.check_mail("locked@example.org", "550 5.7.1");
    case.check_rcpt("postmaster", "550 5.1.3");
    case.check_rcpt("anyone@y.test", "ok");
    case.check_header("From: app@example.org\r\n", "ok");
    case.check_header("Subject: no author\r\n", "ok");
    case.check_header("From: locked@example.org\r\n", "550 5.7.1");
    case.check_header("From: a@x.test, b@x.test\r\n", "550 5.6.0");
    // A name that is read as another author.
    let another = "550 5.7.1 the name in the From field has the address ceo@bank.test";
    for (from, expected) in [
        ("\"ceo@bank.test\" <app@example.org>", another),
        ("ceo@bank.test <app@example.org>", another),
        ("app@example.org <app@example.org>", "ok"),
        ("\"info@example.org\" <app@example.org>", "ok"),
        (
            "App: app@example.org;",
            "550 5.6.0 the From field has a group",
        ),
    ] {
        case.check_header(&format!("From: {from}\r\n"), expected);
    }
    case.check_mail("app@off.test", "451 4.3.0 off.test sends no mail for now");
    case.check_header("From: app@off.test\r\n", "451 4.3.0");
    case.facts.login = None;
    case.check_mail("app@example.org", "530 5.7.0");
    case.check(Stage::Header, "530 5.7.0");
}

#[test]
fn a_mail_loop_is_refused_everywhere() {
    let section = "Received: from a by b\r\n".repeat(101);
    for mut case in [Case::mx(), Case::submission()] {
        case.check_header(&section, "554 5.4.6");
    }
    // Our own field is one more, and a queue would send it on.
    let section = format!(
        "From: <app@example.org>\r\n{}",
        "Received: from a by b\r\n".repeat(100)
    );
    Case::mx().check_header(&section, "ok");
    Case::submission().check_header(&section, "554 5.4.6");
}

#[test]
fn logins_have_their_answers() {
    let case = Case {
        facts: Facts::default(),
        ..Case::submission()
    };
    let account = |name: &str| case.config.accounts.get(name);
    for (name, check, acts_as_other, expected) in [
        ("app", PasswordCheck::Right, false, "ok"),
        (
            "app",
            PasswordCheck::Right,
            true,
            "535 5.7.8 wrong user or password",
        ),
        ("app", PasswordCheck::Wrong, false, "535 5.7.8 wrong user"),
        ("none", PasswordCheck::Right, false, "535 5.7.8 wrong user"),
        (
            "app",
            PasswordCheck::TooMany(Duration::from_secs(40)),
            false,
            "454 4.7.0 too many failed logins from your network, try again in 40 seconds",
        ),
        (
            "locked",
            PasswordCheck::Right,
            false,
            "525 5.7.13 ask the help desk",
        ),
        (
            "app",
            PasswordCheck::TooWeak,
            false,
            "534 5.7.9 the account has one-time codes, so programs log in with an app password",
        ),
        (
            "none",
            PasswordCheck::TooWeak,
            false,
            "535 5.7.8 wrong user",
        ),
        (
            "locked",
            PasswordCheck::TooWeak,
            false,
            "525 5.7.13 ask the help desk",
        ),
        (
            "locked",
            PasswordCheck::Wrong,
            false,
            "535 5.7.8 wrong user",
        ),
    ] {
        let login = LoginFacts {
            account: account(name),
            check,
            acts_as_other,
        };
        case.check(Stage::Login(&login), expected);
    }
    let login = LoginFacts {
        account: account("app"),
        check: PasswordCheck::Right,
        acts_as_other: false,
    };
    Case::mx().check(Stage::Login(&login), "502 5.5.1");
}
