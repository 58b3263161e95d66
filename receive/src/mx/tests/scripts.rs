//! Scripts of accounts at delivery.

use postrider_store::{
    NewText, Order, Origin, QueueFilter, Queued, SieveResponder, SieveRule, SieveRuleId,
    SieveScript, SieveScriptChange, SpecialUse,
};

use super::*;

/// Two accounts beside the one of the other tests: bob may redirect, and carl may not.
const ACCOUNTS: &str = r#"
[accounts.bob]
domain = "example.org"
allow_forward = true
max_outgoing_messages_per_day = 6
destinations."bob@example.org" = {}
destinations."b@example.org" = {}
[accounts.carl]
domain = "example.org"
destinations."carl@example.org" = { mailbox = "Work" }
[accounts.carl.incoming_webhook]
url = "http://127.0.0.1:1/"
"#;

/// A message that two of the accounts are named in.
const NAMED: &str = "From: <ann@remote.test>\r\nTo: bob@example.org, carl@example.org\r\n\
    Subject: hi\r\nMessage-ID: <1@remote.test>\r\n\r\nHello, there.\r\n";

fn world() -> World {
    let world = World::new();
    let dynamics = format!("{DYNAMICS}{ACCOUNTS}");
    let dynamic = Dynamic::parse(&dynamics, "domains.conf", &world.context.statics).unwrap();
    world.context.config.store(Arc::new(dynamic));
    world
}

impl World {
    async fn script(&self, account: &str, name: &str, text: &str) {
        let change = SieveScriptChange {
            account: account.into(),
            name: name.into(),
            script: Some(SieveScript {
                name: name.into(),
                text: text.into(),
                enabled: true,
                changed: Time(1),
            }),
        };
        let store = &self.context.store;
        assert_eq!(store.set_sieve_scripts(vec![change]).await.unwrap(), 1);
    }

    /// Sends a message. Gives the reply.
    async fn deliver(&self, from: &str, to: &[&str], message: &str) -> String {
        let (client, mut transaction) = (client(REMOTE), transaction(from));
        transaction.recipients = to
            .iter()
            .map(|to| RcptTo {
                forward_path: ForwardPath::Mailbox(Address::parse(to).unwrap()),
                notify: None,
                orcpt: None,
            })
            .collect();
        let mut session = self.session();
        begin(&mut session, &client, &transaction).await;
        text(&mut session, &client, &transaction, message).await;
        session.end(&client, &transaction).await.to_string()
    }

    /// The mails of an account, each by its mailbox and its flags.
    async fn filed(&self, account: &str) -> Vec<String> {
        let found = self.context.store.list_mails(account, None, None, 50).await;
        let mails = found.unwrap().items.into_iter();
        mails
            .map(|mail| {
                format!("{} {}", mail.mailbox, mail.flags.join(" "))
                    .trim()
                    .to_owned()
            })
            .collect()
    }

    /// The messages in the queue, by recipient.
    async fn onward(&self) -> Vec<Queued> {
        let filter = QueueFilter::default();
        let found = self.context.store.list(&filter, None, Order::Ascending, 50);
        found.await.unwrap().items
    }

    /// The recipients of the messages in the queue.
    async fn to(&self) -> Vec<String> {
        let queued = self.onward().await;
        queued.iter().map(|it| it.recipient.to_string()).collect()
    }

    async fn queued_text(&self, message: &Queued) -> String {
        let text = self.context.store.queued_message(message).await.unwrap();
        String::from_utf8(text.whole().await.unwrap().to_vec()).unwrap()
    }
}

/// What one script of an account does with a message to it.
#[tokio::test]
async fn a_script_says_what_becomes_of_a_mail() {
    let all = "require [\"fileinto\", \"copy\", \"imap4flags\", \"mailbox\", \"special-use\", \
        \"body\", \"envelope\", \"variables\", \"reject\", \"vacation\"];\n";
    for (account, script, expected, onward) in [
        ("carl", "keep;", &["Work"][..], &[][..]),
        ("carl", "stop;", &["Work"], &[]),
        ("carl", "discard;", &[], &[]),
        (
            "carl",
            "addflag \"\\\\Seen\"; addflag [\"$Label\", \"Red\"];",
            &["Work $label Red \\seen"],
            &[],
        ),
        ("carl", "fileinto \"Lists/a\";", &["Lists/a"], &[]),
        ("carl", "fileinto \"INBOX\";", &["Inbox"], &[]),
        (
            "carl",
            "fileinto :copy \"A\"; fileinto :flags \"\\\\Flagged\" \"B\"; keep;",
            &["Work", "A", "B \\flagged"],
            &[],
        ),
        (
            "carl",
            "if body :contains \"there\" { fileinto \"Body\"; }",
            &["Body"],
            &[],
        ),
        (
            "carl",
            "if envelope \"to\" \"carl@example.org\" { fileinto \"To\"; }",
            &["To"],
            &[],
        ),
        (
            "carl",
            "if mailboxexists \"Work\" { fileinto \"There\"; }",
            &["There"],
            &[],
        ),
        (
            "carl",
            "fileinto :specialuse \"\\\\Junk\" :create \"Else\";",
            &["Junk"],
            &[],
        ),
        // Without leave nothing goes on, and the message is kept.
        ("carl", "redirect \"x@elsewhere.test\";", &["Work"], &[]),
        (
            "carl",
            "redirect \"x@elsewhere.test\"; fileinto \"A\";",
            &["A"],
            &[],
        ),
        (
            "bob",
            "redirect \"x@elsewhere.test\";",
            &[],
            &["x@elsewhere.test"],
        ),
        (
            "bob",
            "redirect :copy \"x@elsewhere.test\";",
            &["Inbox"],
            &["x@elsewhere.test"],
        ),
        (
            "bob",
            "redirect \"x@elsewhere.test\"; redirect \"y@other.test\"; keep;",
            &["Inbox"],
            &["x@elsewhere.test", "y@other.test"],
        ),
        // It would come back.
        ("bob", "redirect \"bob@example.org\";", &["Inbox"], &[]),
        // A fault while it runs keeps the message.
        (
            "bob",
            "redirect \"a@x.test\"; redirect \"b@x.test\"; redirect \"c@x.test\"; \
            redirect \"d@x.test\"; redirect \"e@x.test\";",
            &["Inbox"],
            &[],
        ),
        (
            "bob",
            "set \"a\" \"0123456789\"; set \"a\" \"${a}${a}${a}${a}${a}${a}${a}${a}\"; \
            set \"a\" \"${a}${a}${a}${a}${a}${a}${a}${a}${a}${a}${a}${a}${a}${a}${a}${a}\"; \
            fileinto \"${a}\";",
            &["Inbox"],
            &[],
        ),
        ("bob", "keep; reject \"no\";", &["Inbox"], &[]),
    ] {
        let world = world();
        world.script(account, "a", &format!("{all}{script}")).await;
        let to = format!("{account}@example.org");
        let reply = world.deliver("ann@remote.test", &[&to], NAMED).await;
        assert!(reply.starts_with("250 "), "{script}: {reply}");
        assert_eq!(world.filed(account).await, expected, "{script}");
        assert_eq!(world.to().await, onward, "{script}");
    }
}

#[tokio::test]
async fn rules_run_before_scripts_by_priority() {
    let world = world();
    for (priority, name, stops) in [(2, "Second", true), (1, "First", false)] {
        let text = format!(
            r#"{{"name": "r", "stop_processing": {stops}, "actions":
                [{{"action_type": "copy", "value": "{name}"}}]}}"#
        );
        let rule = SieveRule {
            id: SieveRuleId(0),
            priority,
            text,
            changed: Time(1),
        };
        world
            .context
            .store
            .add_sieve_rule("carl", rule)
            .await
            .unwrap();
    }
    // A rule stopped before it.
    world.script("carl", "a", "discard;").await;
    let reply = world
        .deliver("ann@remote.test", &["carl@example.org"], NAMED)
        .await;
    assert!(reply.starts_with("250 "), "{reply}");
    assert_eq!(world.filed("carl").await, ["Work", "First", "Second"]);
    // One event tells of all three.
    let filter = Default::default();
    let store = &world.context.store;
    let hooks = store.list_hooks(&filter, None, Order::Ascending, 10);
    assert_eq!(hooks.await.unwrap().items.len(), 1);
}

#[tokio::test]
async fn all_recipients_refuse_or_the_mail_is_kept_apart() {
    let reject = "require \"reject\"; reject \"We have moved.\r\nGo away.\";";
    let world = world();
    world.script("bob", "a", reject).await;
    let both = ["bob@example.org", "carl@example.org"];
    let reply = world.deliver("ann@remote.test", &both, NAMED).await;
    assert!(reply.starts_with("250 "), "{reply}");
    assert_eq!(world.filed("carl").await, ["Work"]);
    assert_eq!(world.filed("bob").await, ["Rejects \\seen"]);
    world.script("carl", "a", reject).await;
    let again = NAMED.replace("<1@", "<2@");
    let reply = world.deliver("ann@remote.test", &both, &again).await;
    assert_eq!(reply, "550 5.7.1 We have moved. Go away.");
    assert_eq!(world.filed("carl").await, ["Work"]);
    assert_eq!(world.filed("bob").await, ["Rejects \\seen"]);
    assert!(world.onward().await.is_empty(), "nobody writes a bounce");
}

#[tokio::test]
async fn a_message_that_all_drop_is_taken() {
    let world = world();
    world.script("bob", "a", "discard;").await;
    let reply = world
        .deliver("ann@remote.test", &["bob@example.org"], NAMED)
        .await;
    assert_eq!(reply, "250 2.0.0 taken");
    let verdicts = &world.context.metrics.verdicts_total;
    let discarded = postrider_observe::metrics::Verdict::Discarded;
    assert_eq!(verdicts.with(discarded).get(), 1);
}

#[tokio::test]
async fn a_redirect_is_a_forward_within_the_daily_limit() {
    let world = world();
    world
        .script(
            "bob",
            "a",
            "redirect \"x@elsewhere.test\"; redirect \"y@x.test\";",
        )
        .await;
    for number in 1..=4 {
        let message = NAMED.replace("<1@", &format!("<{number}@"));
        // An address that is named twice is one account, and gets one copy.
        let to = ["bob@example.org", "b@example.org"];
        let to = if number == 1 { &to[..] } else { &to[..1] };
        world.deliver("ann@remote.test", to, &message).await;
    }
    assert_eq!(world.to().await.len(), 6);
    assert_eq!(world.filed("bob").await, ["Inbox"]);
    let first = world.onward().await.remove(0);
    assert!(
        first.reverse_path.to_string().starts_with("SRS0="),
        "{}",
        first.reverse_path
    );
    let is_passed = matches!(first.common.origin, Origin::Passed { .. });
    assert!(is_passed);
    let text = world.queued_text(&first).await;
    assert!(
        text.starts_with("Delivered-To: bob@example.org\r\n"),
        "{text}"
    );
    // The message that comes back is not redirected again.
    let back = format!("Delivered-To: x@elsewhere.test\r\n{NAMED}");
    let world = self::world();
    world
        .script("bob", "a", "redirect \"x@elsewhere.test\";")
        .await;
    world
        .deliver("ann@remote.test", &["bob@example.org"], &back)
        .await;
    assert_eq!(world.filed("bob").await, ["Inbox"]);
    assert!(world.onward().await.is_empty());
}

#[tokio::test]
async fn a_special_use_makes_its_mailbox() {
    let world = world();
    let script = "require [\"fileinto\", \"special-use\", \"mailbox\"]; \
        fileinto :specialuse \"\\\\Trash\" :create \"Bin\";";
    world.script("bob", "a", script).await;
    world
        .deliver("ann@remote.test", &["bob@example.org"], NAMED)
        .await;
    let folder = world
        .context
        .store
        .folder("bob", "Bin")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(folder.special_use, Some(SpecialUse::Trash));
    assert_eq!(folder.exists, 1);
}

/// A text in a file is read when a script asks for it.
#[tokio::test]
async fn a_large_message_is_read_by_who_asks() {
    let world = world();
    let script = "require [\"body\", \"fileinto\"]; \
        if body :contains \"needle\" { fileinto \"Found\"; }";
    world.script("bob", "a", script).await;
    let filler = "x".repeat(70) + "\r\n";
    let large = format!(
        "{NAMED}{}needle\r\n{}",
        filler.repeat(1000),
        filler.repeat(9000)
    );
    let reply = world
        .deliver("ann@remote.test", &["bob@example.org"], &large)
        .await;
    assert!(reply.starts_with("250 "), "{reply}");
    assert_eq!(world.filed("bob").await, ["Found"]);
}

#[tokio::test]
async fn junk_and_mail_for_the_postmaster_see_no_script() {
    let world = world();
    world.script("ann", "a", "discard;").await;
    world
        .script(
            "bob",
            "a",
            "require \"vacation\"; vacation \"Away\"; discard;",
        )
        .await;
    let reply = world
        .deliver("ann@remote.test", &["postmaster@example.org"], NAMED)
        .await;
    assert!(reply.starts_with("250 "), "{reply}");
    assert_eq!(world.filed("ann").await.len(), 1);
}

/// Who gets an automatic answer.
#[tokio::test]
async fn an_answer_goes_to_verified_senders_that_are_people_once() {
    let vacation = "require \"vacation\"; vacation :days 3 \"Away.\";";
    let list = NAMED.replace("Subject", "List-Id: <a.remote.test>\r\nSubject");
    let others = NAMED.replace("bob@example.org, carl@example.org", "someone@remote.test");
    for (from, message, expected) in [
        ("ann@remote.test", NAMED, 1),
        ("", NAMED, 0),
        ("ann@remote.test", list.as_str(), 0),
        ("ann@remote.test", others.as_str(), 0),
        ("noreply@remote.test", NAMED, 0),
        // SPF says nothing about it.
        ("ann@other.test", NAMED, 0),
    ] {
        let world = world();
        world.script("bob", "vacation", vacation).await;
        let to = ["bob@example.org", "b@example.org"];
        let to = if from.is_empty() { &to[..1] } else { &to };
        let reply = world.deliver(from, to, message).await;
        assert!(reply.starts_with("250 "), "{reply}");
        assert_eq!(world.onward().await.len(), expected, "{from} {message}");
        assert_eq!(world.filed("bob").await, ["Inbox"], "{from}");
    }
}

#[tokio::test]
async fn an_answer_has_the_form_of_rfc_3834_and_comes_once_in_its_days() {
    let world = world();
    let responder = SieveResponder {
        text: r#"{"plain": "Back on Monday.", "days": 2}"#.into(),
        changed: Time(1),
    };
    let store = &world.context.store;
    store
        .set_sieve_responder("bob", Some(responder))
        .await
        .unwrap();
    // A script of the same account drops other mail only.
    let drops = "if header \"Subject\" \"other\" { discard; } else { stop; }";
    world.script("bob", "a", drops).await;
    let send = async |number: u8, subject: &str| {
        let message = NAMED
            .replace("<1@", &format!("<{number}@"))
            .replace("hi", subject);
        world
            .deliver("ann@remote.test", &["bob@example.org"], &message)
            .await
    };
    send(1, "hi").await;
    send(2, "again").await;
    let queued = world.onward().await;
    let [answer] = queued.as_slice() else {
        panic!("{queued:?}");
    };
    assert_eq!(answer.recipient.to_string(), "ann@remote.test");
    assert_eq!(answer.reverse_path, ReversePath::Null);
    assert_eq!(answer.notify, postrider_store::Notify::NEVER);
    assert_eq!(answer.common.origin, Origin::Server);
    let text = world.queued_text(answer).await;
    for field in [
        "From: bob@example.org\r\n",
        "To: ann@remote.test\r\n",
        "Subject: Auto: hi\r\n",
        "In-Reply-To: <1@remote.test>\r\n",
        "Auto-Submitted: auto-replied\r\n",
    ] {
        assert!(text.contains(field), "{field}: {text}");
    }
    // After its days it comes again, and never for discarded mail.
    world.clock.advance(Duration::from_hours(48));
    send(3, "other").await;
    assert_eq!(world.onward().await.len(), 1);
    send(4, "hi").await;
    assert_eq!(world.onward().await.len(), 2);
    // A suppressed address gets none.
    world.clock.advance(Duration::from_hours(48));
    let now = world.context.clock.now();
    let suppression = postrider_store::NewSuppression {
        account: "bob".into(),
        base: "ann@remote.test".into(),
        list: String::new(),
        original: "ann@remote.test".into(),
        created: now,
        manual: true,
        reason: "asked".into(),
        reply: None,
        until: None,
    };
    store.suppress(suppression).await.unwrap();
    send(5, "hi").await;
    assert_eq!(world.onward().await.len(), 2);
}

/// Texts that no answer took are gone.
#[tokio::test]
async fn an_answer_that_does_not_go_out_leaves_no_text() {
    let world = world();
    world
        .script(
            "bob",
            "vacation",
            "require \"vacation\"; vacation \"Away.\";",
        )
        .await;
    for number in 1..=3 {
        let message = NAMED.replace("<1@", &format!("<{number}@"));
        world
            .deliver("ann@remote.test", &["bob@example.org"], &message)
            .await;
    }
    let store = &world.context.store;
    assert_eq!(world.onward().await.len(), 1);
    // One text of each mail, one of the answer, and those that were dropped.
    let next = store.stage(NewText::Inline("x".into())).await.unwrap();
    let mut left = 0;
    for id in 1..next.0 {
        left += usize::from(store.text(postrider_store::TextId(id)).await.is_ok());
    }
    assert_eq!(left, 4);
}
