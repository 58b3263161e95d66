//! Mail that accounts refuse, quotas, and several recipients, with a store.

use postrider_store::Mail;

use super::{
    dmarc::{FORGED, REFUSED, REJECT, rcpt},
    *,
};

const ACCOUNTS: &str = r#"[accounts.bob]
domain = "example.org"
destinations."bob@example.org" = {}
[accounts.bob.incoming_webhook]
url = "http://127.0.0.1:9/"
[accounts.cy]
domain = "example.org"
rejects_mailbox = ""
destinations."cy@example.org" = {}
[accounts.dan]
domain = "example.org"
keep_rejects = true
quota = 100000
destinations."dan@example.org" = {}
[[accounts.bob.destinations."maybe@example.org".rulesets]]
headers_regexp = { '^subject$' = '^hi$' }
mailbox = "Greetings"
accept_rejects_to_mailbox = "Maybe"
"#;

/// Changes the quota of dan.
fn configure(world: &World, quota: u64) {
    let dynamic = format!("{DYNAMICS}{ACCOUNTS}").replace("100000", &quota.to_string());
    let dynamic = Dynamic::parse(&dynamic, "domains.conf", &world.context.statics).unwrap();
    world.context.config.store(Arc::new(dynamic));
}

/// Mail of `bank.test`, which wants forged mail refused.
fn world() -> World {
    let world = World::new();
    configure(&world, 100_000);
    world
        .dns
        .add("_dmarc.bank.test", Record::Txt(REJECT.into()));
    world
}

/// Sends a message, and gives the reply.
async fn send_to(world: &World, to: &[&str], message: &str) -> String {
    let client = client(REMOTE);
    let mut transaction = transaction("x@remote.test");
    transaction.recipients = to.iter().map(|to| rcpt(to)).collect();
    let mut session = world.session();
    begin(&mut session, &client, &transaction).await;
    text(&mut session, &client, &transaction, message).await;
    session.end(&client, &transaction).await.to_string()
}

async fn mails(world: &World, account: &str) -> Vec<Mail> {
    let store = &world.context.store;
    let page = store.list_mails(account, None, None, 99).await;
    page.unwrap().items
}

/// The mailboxes of an account's mail, in the order of the mail.
async fn mailboxes(world: &World, account: &str) -> Vec<String> {
    let mails = mails(world, account).await;
    mails.into_iter().map(|mail| mail.mailbox).collect()
}

async fn hooks(world: &World) -> u64 {
    world.context.store.counts().await.hooks
}

#[tokio::test]
async fn one_takes_it_and_the_others_keep_it_apart() {
    let world = world();
    let all = ["bob@example.org", "postmaster", "cy@example.org"];
    let reply = send_to(&world, &all, FORGED).await;
    assert!(reply.starts_with("250 2.0.0 delivered as 1,2"), "{reply}");
    assert_eq!(mailboxes(&world, "ann").await, ["Junk"]);
    assert_eq!(mailboxes(&world, "bob").await, ["Rejects"]);
    // Without a mailbox for refused mail.
    assert_eq!(mailboxes(&world, "cy").await, ["Junk"]);
    let kept = mails(&world, "bob").await;
    assert_eq!(kept[0].flags, ["\\seen"]);
    assert_eq!(hooks(&world).await, 0, "nobody is told of refused mail");
    let message = world.context.store.mail_message(&kept[0]).await.unwrap();
    let text = String::from_utf8(message.whole().await.unwrap().to_vec()).unwrap();
    let expected = "Return-Path: <x@remote.test>\r\nDelivered-To: bob@example.org\r\n";
    assert!(text.starts_with(expected), "{text}");
}

#[tokio::test]
async fn what_all_refuse_is_kept_once_and_for_some_time() {
    let world = world();
    let both = ["bob@example.org", "cy@example.org"];
    for _ in 0..3 {
        let reply = send_to(&world, &both, FORGED).await;
        assert!(reply.starts_with(REFUSED), "{reply}");
    }
    assert_eq!(mailboxes(&world, "bob").await, ["Rejects"]);
    assert!(mailboxes(&world, "cy").await.is_empty());
    // Another text, and twice another Message-ID.
    let other = FORGED.replace("Pay.", "Pay now.");
    let named = format!("Message-ID: <1@bank.test>\r\n{FORGED}");
    let renamed = named.replace("Pay.", "Pay now.");
    for message in [&other, &named, &renamed] {
        let reply = send_to(&world, &both, message).await;
        assert!(reply.starts_with(REFUSED), "{reply}");
    }
    assert_eq!(mailboxes(&world, "bob").await, ["Rejects"; 3]);
    let store = &world.context.store;
    let day = Duration::from_hours(24);
    let now = world.context.clock.now();
    let before = now.after(day * 14 - Duration::from_secs(1));
    assert_eq!(store.expire(before, 9).await.unwrap(), 0);
    assert_eq!(store.expire(now.after(day * 14), 9).await.unwrap(), 3);
    assert!(mailboxes(&world, "bob").await.is_empty());
}

#[tokio::test]
async fn refused_mail_goes_when_it_is_taken_after_all() {
    let world = world();
    world.dns.fail("_dmarc.bank.test");
    let to = ["bob@example.org"];
    let reply = send_to(&world, &to, FORGED).await;
    assert!(reply.starts_with("451 4.7.1 "), "{reply}");
    assert_eq!(mailboxes(&world, "bob").await, ["Rejects"]);
    // Another mail changes nothing.
    assert!(send_to(&world, &to, MESSAGE).await.starts_with("250 "));
    assert_eq!(mailboxes(&world, "bob").await, ["Rejects", "Inbox"]);
    let context = &world.context;
    let context = SessionContext {
        hooks: Arc::default(),
        statics: Arc::new(quiet("[policy]\ndmarc = \"report\"\n")),
        ..context.clone()
    };
    world.dns.mend("_dmarc.bank.test");
    let world = World { context, ..world };
    assert!(send_to(&world, &to, FORGED).await.starts_with("250 "));
    assert_eq!(mailboxes(&world, "bob").await, ["Inbox", "Inbox"]);
    assert_eq!(hooks(&world).await, 2);
}

#[tokio::test]
async fn a_ruleset_looks_at_fields_and_may_take_refused_mail() {
    let world = world();
    let to = ["maybe@example.org"];
    let subject = MESSAGE.replace(
        "Subject: hi",
        "subject : \r\n\t=?utf-8?q?H?=\r\n =?utf-8?q?I?= ",
    );
    for message in [MESSAGE, &subject] {
        assert!(send_to(&world, &to, message).await.starts_with("250 "));
    }
    let other = MESSAGE.replace("Subject: hi", "Subject: high");
    assert!(send_to(&world, &to, &other).await.starts_with("250 "));
    assert!(send_to(&world, &to, FORGED).await.starts_with("250 "));
    let expected = ["Greetings", "Greetings", "Inbox", "Maybe"];
    assert_eq!(mailboxes(&world, "bob").await, expected);
    let other = FORGED.replace("Subject: hi", "Subject: high");
    let reply = send_to(&world, &to, &other).await;
    assert!(reply.starts_with(REFUSED), "{reply}");
}

#[tokio::test]
async fn a_full_account_takes_no_more() {
    let world = world();
    let full = "452 4.2.2 the mailbox is full, try again later";
    let dan = ["dan@example.org"];
    // Refused mail does not count, and there is no end of it.
    for at in 0..3 {
        let forged = FORGED.replace("Pay.", &format!("Pay {at}."));
        assert!(send_to(&world, &dan, &forged).await.starts_with(REFUSED));
    }
    let far = world.context.clock.now().after(Duration::from_hours(9999));
    assert_eq!(world.context.store.expire(far, 9).await.unwrap(), 0);
    assert_eq!(mailboxes(&world, "dan").await.len(), 3);
    assert!(send_to(&world, &dan, MESSAGE).await.starts_with("250 "));
    // What came counts with its trace.
    let used = world.context.store.mail_usage("dan").await.unwrap();
    assert_eq!(used.mails, 1);
    assert!(used.bytes > MESSAGE.len() as u64 + 200, "{used:?}");
    let size = MESSAGE.len() as u64;
    configure(&world, used.bytes + size - 1);
    // At RCPT by the size that the client declares, and at the end by the real one.
    let client = client(REMOTE);
    let mut transaction = transaction("x@remote.test");
    transaction.recipients = vec![rcpt("dan@example.org")];
    let mut session = world.session();
    for (declared, is_full) in [(Some(size), true), (Some(size - 1), false), (None, false)] {
        transaction.mail.size = declared;
        session.mail(&client, &transaction.mail).await.unwrap();
        let refused = session.rcpt(&client, &transaction, &transaction.recipients[0]);
        let reply = refused.await.err().map(|reply| reply.to_string());
        assert_eq!(reply.is_some_and(|reply| reply.starts_with(full)), is_full);
        session.reset();
    }
    let reply = send_to(&world, &dan, MESSAGE).await;
    assert!(reply.starts_with(full), "{reply}");
    // Together with another, the mail must not get lost.
    let both = ["dan@example.org", "bob@example.org"];
    assert!(send_to(&world, &both, MESSAGE).await.starts_with("250 "));
    assert_eq!(mailboxes(&world, "bob").await, ["Inbox"]);
    let mut expected = vec!["Rejects"; 3];
    expected.extend(["Inbox"]);
    // The account has that mail in its inbox.
    let found = mailboxes(&world, "dan").await;
    assert_eq!(found[..4], expected);
    assert_eq!(found[4..], ["Rejects"]);
}
