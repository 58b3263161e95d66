//! Messages that the junk filter of an account judges.

use postrider_smtp::TlsInfo;
use postrider_store::{JUNK_FLAG, MailChange, NOT_JUNK_FLAG};

use super::*;
use crate::junk::{
    Letter,
    content::{LEAST_HAM, LEAST_SPAM},
    learn,
    senders::Senders,
};

/// Calls a mail junk or good, as its user does.
pub(super) async fn call(world: &World, mail: &Mail, junk: bool) {
    let (add, remove) = match junk {
        true => (JUNK_FLAG, NOT_JUNK_FLAG),
        false => (NOT_JUNK_FLAG, JUNK_FLAG),
    };
    let change = MailChange {
        add_flags: vec![add.to_owned()],
        remove_flags: vec![remove.to_owned()],
        mailbox: None,
    };
    let context = &world.context;
    let config = context.dynamic();
    let habits = (&config.accounts["ann"]).into();
    let (limits, now) = (context.statics.limits.mime(), context.clock.now());
    let changed = learn::change_mail(&context.store, limits, habits, mail, change, now);
    assert!(changed.await.unwrap());
}

async fn reply(world: &World, client: &Client, from: &str, message: &str) -> String {
    let transaction = transaction(from);
    let mut session = world.session();
    begin(&mut session, client, &transaction).await;
    text(&mut session, client, &transaction, message).await;
    session.end(client, &transaction).await.to_string()
}

#[tokio::test]
async fn a_sender_of_junk_is_refused_until_the_user_changes_their_mind() {
    let world = World::new();
    let (first, _) = send(&world, REMOTE, "ann@remote.test", MESSAGE).await;
    assert_eq!(first.mailbox, "Inbox");
    call(&world, &first, true).await;
    let client = client(REMOTE);
    let refused = reply(&world, &client, "ann@remote.test", MESSAGE).await;
    assert_eq!(
        refused,
        "550 5.7.1 earlier mail from you was marked as junk; postmaster@example.org can help"
    );
    // Another author of the domain is no junk from one mail alone.
    let other = MESSAGE.replace("ann@remote.test", "bob@remote.test");
    let (second, _) = send(&world, REMOTE, "bob@remote.test", &other).await;
    assert_eq!(second.mailbox, "Inbox");
    call(&world, &first, false).await;
    let (third, _) = send(&world, REMOTE, "ann@remote.test", MESSAGE).await;
    assert_eq!(third.mailbox, "Inbox");
    // Our own verdicts teach nothing.
    assert_eq!(world.context.store.trained(third.id).await.unwrap(), None);
}

#[tokio::test]
async fn spf_that_fails_makes_mail_of_a_stranger_junk() {
    let world = World::new();
    let (mail, _) = send(&world, "192.0.2.8:1", "ann@remote.test", MESSAGE).await;
    assert_eq!(mail.mailbox, "Junk");
    // The account knows the domain, whoever claims to write from it.
    let (good, _) = send(&world, REMOTE, "ann@remote.test", MESSAGE).await;
    call(&world, &good, false).await;
    let (mail, _) = send(&world, "192.0.2.8:1", "ann@remote.test", MESSAGE).await;
    assert_eq!(mail.mailbox, "Junk", "validated mail of the address exists");
}

#[tokio::test]
async fn the_words_of_junk_make_junk_when_enough_was_learnt() {
    let world = World::new();
    let store = &world.context.store;
    let limits = world.context.statics.limits.mime();
    let key = store.junk_key(|| [1; 16]).await.unwrap();
    let message = |subject: &str, to: &str| {
        format!("From: x@remote.test\r\nTo: {to}\r\nSubject: {subject}\r\n\r\nHello.\r\n")
    };
    let (offer, order) = ("cheap watches and pills", "minutes of yesterday's meeting");
    for (subject, junk, count) in [(offer, true, LEAST_SPAM), (order, false, LEAST_HAM)] {
        let message = message(subject, "ann@example.org");
        for _ in 0..count {
            let tokens = Letter::read(message.as_bytes(), limits, &key).tokens;
            let now = world.context.clock.now();
            store.train_junk("ann", tokens, junk, now).await.unwrap();
        }
    }
    let to_ann = message(offer, "Ann <ANN@example.org>");
    let tls = Client {
        tls: Some(TlsInfo {
            version: "TLSv1.3".to_owned(),
            cipher: "TLS_AES_256_GCM_SHA384".to_owned(),
        }),
        ..client(REMOTE)
    };
    let taken = reply(&world, &tls, "x@remote.test", &to_ann).await;
    assert!(taken.starts_with("250 "), "{taken}");
    assert_eq!(world.mails().await.pop().unwrap().0.mailbox, "Junk");
    let good = message(order, "ann@example.org");
    let taken = reply(&world, &tls, "x@remote.test", &good).await;
    assert!(taken.starts_with("250 "), "{taken}");
    assert_eq!(world.mails().await.pop().unwrap().0.mailbox, "Inbox");
    // Neither TLS nor the recipient in To: two doubts.
    let hidden = message(offer, "undisclosed");
    let refused = reply(&world, &client(REMOTE), "x@remote.test", &hidden).await;
    assert_eq!(
        refused,
        "550 5.7.1 earlier mail from you was marked as junk; postmaster@example.org can help"
    );
}

fn rcpt(to: &str) -> RcptTo {
    RcptTo {
        forward_path: ForwardPath::parse(to).unwrap(),
        notify: None,
        orcpt: None,
    }
}

/// Sends a message to several. Gives the reply, and how many questions the store was asked at the
/// end of the text.
async fn ask(world: &World, to: &[String]) -> (String, u64) {
    let client = client(REMOTE);
    let mut transaction = transaction("ann@remote.test");
    transaction.recipients = to.iter().map(|to| rcpt(to)).collect();
    let mut session = world.session();
    begin(&mut session, &client, &transaction).await;
    text(&mut session, &client, &transaction, MESSAGE).await;
    let before = world.context.store.asked();
    let reply = session.end(&client, &transaction).await.to_string();
    (reply, world.context.store.asked() - before)
}

#[tokio::test]
async fn an_account_is_asked_once_for_all_its_addresses() {
    let world = World::new();
    let (reply, once) = ask(&world, &["ann+0@example.org".to_owned()]).await;
    assert!(reply.starts_with("250 "), "{reply}");
    let to: Vec<String> = (0..1000).map(|n| format!("ann+{n}@example.org")).collect();
    let (reply, asked) = ask(&world, &to).await;
    assert!(reply.starts_with("250 "), "{reply}");
    assert_eq!(asked, once);
}

/// The words of a message are looked up once for all accounts that have learnt too little.
#[tokio::test]
async fn the_filters_of_a_list_are_asked_only_if_it_takes_the_message() {
    let world = World::new();
    let mut dynamics = DYNAMICS.replace(
        "[accounts.ann]",
        "aliases.\"open\" = { addresses = [ADDRESSES], post_public = true }\n\
         aliases.\"closed\" = { addresses = [ADDRESSES] }\n[accounts.ann]",
    );
    let addresses: Vec<String> = (0..50).map(|n| format!("\"m{n}@example.org\"")).collect();
    dynamics = dynamics.replace("ADDRESSES", &addresses.join(", "));
    for n in 0..50 {
        dynamics += &format!(
            "[accounts.m{n}]\ndomain = \"example.org\"\ndestinations.\"m{n}@example.org\" = {{}}\n"
        );
    }
    let dynamics = Dynamic::parse(&dynamics, "domains.conf", &world.context.statics).unwrap();
    world.context.config.store(Arc::new(dynamics));
    let (reply, asked) = ask(&world, &["closed@example.org".to_owned()]).await;
    assert!(reply.starts_with("550 5.7.2 "), "{reply}");
    assert_eq!(asked, 0);
    let (reply, asked) = ask(&world, &["open@example.org".to_owned()]).await;
    assert!(reply.starts_with("250 "), "{reply}");
    assert!(asked >= 50, "{asked}");
}

/// Ann wrote to `bob@bank.test`.
async fn wrote_to_bob(world: &World) {
    dmarc::ann_sends(world).await;
    world.dns.add(
        "bank.test",
        Record::Txt(b"v=spf1 a:mail.remote.test -all".to_vec()),
    );
}

#[tokio::test]
async fn whom_the_account_wrote_to_is_believed_if_somebody_stands_behind_the_author() {
    let world = World::new();
    wrote_to_bob(&world).await;
    let by_bob = MESSAGE.replace("ann@remote.test", "bob@bank.test");
    let (mail, _) = send(&world, REMOTE, "bob@bank.test", &by_bob).await;
    assert_eq!(mail.mailbox, "Inbox");
    let (mail, _) = send(&world, "192.0.2.8:1", "bob@bank.test", &by_bob).await;
    assert_eq!(mail.mailbox, "Junk", "SPF fails");
    // The same for another author of the domain.
    let by_eve = by_bob.replace("bob@", "eve@");
    let (mail, _) = send(&world, "192.0.2.8:1", "eve@bank.test", &by_eve).await;
    assert_eq!(mail.mailbox, "Junk", "SPF fails");
    // The sender is another one, for whom SPF passes. Nothing speaks against the author.
    let (mail, _) = send(&world, REMOTE, "x@remote.test", &by_bob).await;
    assert_eq!(mail.mailbox, "Inbox");
}

#[tokio::test]
async fn reports_at_their_address_are_taken() {
    let world = World::new();
    let dynamics = DYNAMICS.replace(
        "[accounts.ann]",
        "dmarc = { account = \"ann\", localpart = \"Reports\" }\n[accounts.ann]",
    );
    // The address is a destination, too.
    let dynamics = dynamics + "destinations.\"reports@example.org\" = {}\n";
    let dynamics = Dynamic::parse(&dynamics, "domains.conf", &world.context.statics).unwrap();
    world.context.config.store(Arc::new(dynamics));
    let (first, _) = send(&world, REMOTE, "ann@remote.test", MESSAGE).await;
    call(&world, &first, true).await;
    let to = |to: &str| [to.to_owned()];
    let (reply, _) = ask(&world, &to("ann@example.org")).await;
    assert!(reply.starts_with("550 5.7.1 "), "{reply}");
    let (reply, _) = ask(&world, &to("reports@example.org")).await;
    assert!(reply.starts_with("250 "), "{reply}");
    let (mail, _) = world.mails().await.pop().unwrap();
    assert_eq!(mail.mailbox, "Inbox", "SPF stands behind the author");
}

/// From now on, a ruleset says that `remote.test` is a server of ours.
fn forward(world: &World) {
    let ruleset = "{ mail_from_regexp = '@remote\\.test$', verified_domain = \"remote.test\", \
                   is_forward = true, mailbox = \"Forwarded\" }";
    let dynamics = DYNAMICS.replace(
        "\"ann@example.org\" = {}",
        &format!("\"ann@example.org\" = {{ rulesets = [{ruleset}] }}"),
    );
    let dynamics = Dynamic::parse(&dynamics, "domains.conf", &world.context.statics).unwrap();
    world.context.config.store(Arc::new(dynamics));
}

/// What a user says about a forwarded mail says nothing about the server that forwards it.
#[tokio::test]
async fn a_forwarder_learns_nothing_from_the_mail_that_it_forwards() {
    let world = World::new();
    forward(&world);
    let by_other = MESSAGE.replace("ann@remote.test", "junk@bank.test");
    let (mail, text) = send(&world, REMOTE, "ann@remote.test", &by_other).await;
    assert_eq!(mail.mailbox, "Forwarded");
    assert!(
        text.contains("\r\nX-Postrider-Forwarded-By: remote.test\r\n"),
        "{text}"
    );
    call(&world, &mail, true).await;
    // The same client and the same sender, without a forward.
    let dynamics = Dynamic::parse(DYNAMICS, "domains.conf", &world.context.statics).unwrap();
    world.context.config.store(Arc::new(dynamics));
    let (mail, text) = send(&world, REMOTE, "ann@remote.test", MESSAGE).await;
    assert_eq!(mail.mailbox, "Inbox");
    assert!(!text.contains("X-Postrider-Forwarded-By"), "{text}");
    let keys = Senders::of_mail(&mail).keys();
    let marks = world.context.store.history("ann", &keys).await.unwrap();
    assert!(marks.iter().all(Vec::is_empty), "{marks:?}");
}

/// No block list is asked about a server of ours, and its mail is taken.
#[tokio::test]
async fn the_client_of_a_forwarded_mail_is_not_judged() {
    let world = World::new();
    forward(&world);
    world.dns.add_address("2.0.0.127.bl.test", "127.0.0.2");
    world.dns.add_address("7.2.0.192.bl.test", "127.0.0.2");
    let rules = MxRules {
        dnsbls: [Domain::parse("bl.test").unwrap()].into(),
        ..MxRules::default()
    };
    let (client, transaction) = (client(REMOTE), transaction("ann@remote.test"));
    let mut session = world.session().with_rules(rules);
    begin(&mut session, &client, &transaction).await;
    text(&mut session, &client, &transaction, MESSAGE).await;
    let reply = session.end(&client, &transaction).await.to_string();
    assert!(reply.starts_with("250 "), "{reply}");
    let asked = Question::new("7.2.0.192.bl.test", RecordType::A);
    assert_eq!(world.dns.asked(&asked), 0);
}
