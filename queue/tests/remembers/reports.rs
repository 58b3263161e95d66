//! Reports and complaints that come back.

use std::time::Duration;

use postrider_queue::{AddError, Arrived, EndAs, ReturnEffects};
use postrider_smtp::{Address, Domain, ReversePath, bounce, mime::Limits};
use postrider_store::{Accept, Event, EventFilter, Order, OutgoingEvent, QueueFilter, QueueId};

use crate::{
    accepting, accepting_with_dsn, entry, envids,
    remote::{Act, Point, Remote},
    support::{Message, Setup, World},
    unsuppress,
};

const FROM_ID: Setup<'_> = Setup {
    statics: "",
    dynamics: "",
    domain: "localpart_catchall_separators = [\"+\"]\n",
    account: "from_id_login_addresses = [\"ann+id@example.org\"]\n",
};

#[tokio::test]
async fn a_submitters_own_fromid_is_for_one_recipient_and_once() {
    let world = World::start(FROM_ID);
    let own = |path: &'static str, to: &[&'static str]| Message {
        reverse_path: path.parse().unwrap(),
        own_from_id: true,
        login: "ann+id@example.org",
        ..Message::to(to).later(60)
    };
    let submitted = world
        .submit(own("ann+order7@example.org", &["x@remote.test"]))
        .await;
    assert_eq!(submitted[0].from_id, "order7");
    let again = own("ann+order7@example.org", &["y@remote.test"]);
    let error = world.try_submit(again).await.unwrap_err();
    assert!(matches!(error, AddError::FromIdInUse(id) if id == "order7"));
    let two = own(
        "ann+order8@example.org",
        &["x@remote.test", "y@remote.test"],
    );
    let error = world.try_submit(two).await.unwrap_err();
    assert!(matches!(error, AddError::FromIdRecipients));
    let empty = own("ann+@example.org", &["x@remote.test", "y@remote.test"]);
    let submitted = world.submit(empty).await;
    assert!(
        submitted
            .iter()
            .all(|submitted| submitted.from_id.is_empty())
    );
    // Even if only the history has the message.
    world
        .queue
        .end_all(&world.store, &QueueFilter::default(), EndAs::Drop, "ann")
        .await
        .unwrap();
    let again = own("ann+order7@example.org", &["y@remote.test"]);
    let error = world.try_submit(again).await.unwrap_err();
    assert!(matches!(error, AddError::FromIdInUse(_)));
    world.stop().await;
}

/// Takes a mail to `rcpt_to` as the MX does. Gives the events that it makes.
async fn comes_back(
    world: &World,
    reverse_path: &str,
    rcpt_to: &str,
    text: &str,
) -> Option<Vec<OutgoingEvent>> {
    comes_back_from(world, None, "ann", reverse_path, rcpt_to, text).await
}

/// The same, for a mail that was proved to come from a domain, to an account.
async fn comes_back_from(
    world: &World,
    authenticated: Option<&str>,
    account: &str,
    reverse_path: &str,
    rcpt_to: &str,
    text: &str,
) -> Option<Vec<OutgoingEvent>> {
    let authenticated: Option<Domain> = authenticated.map(|domain| domain.parse().unwrap());
    let rcpt_to: Address = rcpt_to.parse().unwrap();
    let reverse_path = match reverse_path {
        "<>" => ReversePath::Null,
        address => ReversePath::Mailbox(address.parse().unwrap()),
    };
    let arrived = Arrived {
        account,
        reverse_path: &reverse_path,
        rcpt_to: &rcpt_to,
        report: text.contains("multipart/report"),
        authenticated: authenticated.as_ref(),
    };
    let before = world.told().await.len();
    let config = world.config.load_full();
    let text = text.replace('\n', "\r\n");
    let reading = bounce::read_with_path(&reverse_path, text.as_bytes(), Limits::default());
    let mut returned = ReturnEffects::default();
    let is_own = world
        .queue
        .returned(&config, &arrived, async { &reading }, &mut returned)
        .await
        .unwrap();
    if !is_own {
        assert!(returned.notes.is_empty());
        return None;
    }
    let accept = Accept {
        notes: returned.notes,
        hooks: returned.hooks,
        suppress: returned.suppress,
        events: returned.events,
        ..Accept::default()
    };
    world.store.accept(accept).await.unwrap();
    Some(world.told().await.split_off(before))
}

fn dsn(fields: &str, recipient: &str, returned: &str) -> String {
    format!(
        "From: mailer-daemon@remote.test\nSubject: Undelivered\nMIME-Version: 1.0\n\
         Content-Type: multipart/report; report-type=delivery-status; boundary=b\n\n\
         --b\nContent-Type: text/plain\n\nSorry.\n\
         --b\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; remote.test\n{fields}\n{recipient}\n\
         --b\nContent-Type: text/rfc822-headers\n\n{returned}\n--b--\n"
    )
}

const FAILED: &str = "Final-Recipient: rfc822; x@remote.test\nAction: failed\nStatus: 5.1.1\nDiagnostic-Code: smtp; 550 5.1.1 no such user\n";

#[tokio::test]
async fn mail_to_a_fromid_is_about_its_message() {
    let world = World::start(FROM_ID);
    let _remote = accepting(&world).await;
    let message = Message {
        login: "ann+id@example.org",
        ..Message::to(&["x@remote.test"])
    };
    let submitted = world.submit(message).await;
    let (id, from_id) = (submitted[0].id, submitted[0].from_id.clone());
    world.events(1).await;
    let address = format!("ann+{from_id}@example.org");
    let told = |told: Option<Vec<OutgoingEvent>>| {
        let told = told.unwrap();
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].queue_id, id);
        assert_eq!(told[0].extra["K"], "v");
        (
            told[0].event,
            told[0].dsn,
            told[0].suppressing,
            told[0].code,
        )
    };
    for (action, event) in [
        ("delayed", Event::Delayed),
        ("delivered", Event::Delivered),
        ("relayed", Event::Relayed),
        ("expanded", Event::Expanded),
    ] {
        let status = if action == "delayed" {
            "4.4.1"
        } else {
            "2.0.0"
        };
        let recipient =
            format!("Final-Recipient: rfc822; x@remote.test\nAction: {action}\nStatus: {status}\n");
        let code = if action == "delayed" { 400 } else { 0 };
        let back = comes_back(&world, "<>", &address, &dsn("", &recipient, "")).await;
        assert_eq!(told(back), (event, true, false, code));
    }
    let back = comes_back(&world, "<>", &address, &dsn("", FAILED, ""))
        .await
        .unwrap();
    assert_eq!(back[0].error, "550 5.1.1 no such user");
    assert_eq!(told(Some(back)), (Event::Failed, true, true, 550));
    // The list has the address now, so the second report adds nothing.
    let back = comes_back(&world, "<>", &address, &dsn("", FAILED, "")).await;
    assert_eq!(told(back), (Event::Failed, true, false, 550));
    // A report is about the recipient of the message, whatever addresses it names.
    let two = format!("{FAILED}\n{}", FAILED.replace("x@", "y@"));
    for recipients in [two, FAILED.replace("x@remote.test", "other@elsewhere.test")] {
        assert!(unsuppress(&world, "x@remote.test").await);
        let back = comes_back(&world, "<>", &address, &dsn("", &recipients, "")).await;
        assert_eq!(told(back), (Event::Failed, true, true, 550));
        assert_eq!(entry(&world, "other@elsewhere.test").await, None);
        assert_eq!(entry(&world, "y@remote.test").await, None);
    }
    let vague = FAILED.replace("failed", "vanished");
    let back = comes_back(&world, "<>", &address, &dsn("", &vague, "")).await;
    assert_eq!(told(back), (Event::Unrecognized, true, false, 0));
    let vacation = "From: x@remote.test\nSubject: Out of office\n\nI am away.\n";
    let back = comes_back(&world, "x@remote.test", &address, vacation).await;
    assert_eq!(told(back), (Event::Unrecognized, false, false, 0));
    let retired = world.store.retired(id).await.unwrap().unwrap();
    assert!(
        retired.success,
        "what comes later does not change how it left"
    );
    assert_eq!(retired.message.results.len(), 11);
    // The fromid of another account means nothing here.
    let back = comes_back(
        &world,
        "<>",
        "ann+0123456789@example.org",
        &dsn("", FAILED, ""),
    )
    .await;
    assert_eq!(back, None);
    world.stop().await;
}

/// The events of a report: message, event, whether it suppresses.
fn heard(told: Option<Vec<OutgoingEvent>>) -> Vec<(QueueId, Event, bool)> {
    let told = told.unwrap_or_default();
    told.iter()
        .map(|told| (told.queue_id, told.event, told.suppressing))
        .collect()
}

#[tokio::test]
async fn without_a_fromid_the_envid_and_then_the_message_id_lead_back() {
    let world = World::start(Setup::default());
    let remote = accepting_with_dsn(&world).await;
    let [x, y]: [QueueId; 2] = world
        .add(Message::to(&["x@remote.test", "y@remote.test"]))
        .await;
    world.events(2).await;
    let envid = format!("Original-Envelope-Id: {}\n", envids(&remote)[0]);
    // Only the server of the transaction knows our ENVID, and the transaction had both recipients.
    let both = format!("{FAILED}\n{}", FAILED.replace("x@", "y@"));
    let told = comes_back(&world, "<>", "ann@example.org", &dsn(&envid, &both, "")).await;
    let expected = [(x, Event::Failed, true), (y, Event::Failed, true)];
    assert_eq!(heard(told), expected);
    let entry = entry(&world, "y@remote.test").await.unwrap();
    assert_eq!(
        entry.reason,
        "DSN: 550, 5.1.1 from remote.test: 550 5.1.1 no such user"
    );
    let text = dsn(&envid, FAILED, "").replace('\n', "\r\n");
    let reading = bounce::read_with_path(&ReversePath::Null, text.as_bytes(), Limits::default());
    let bounce::Reading::Report(report) = reading else {
        panic!("{reading:?}")
    };
    for (account, expected) in [("ann", true), ("bob", false)] {
        let known = world.queue.knows_envid(account, &report).await.unwrap();
        assert_eq!(known, expected, "{account}");
    }
    // Many know the Message-ID: the recipient must match, and nobody is suppressed.
    assert!(unsuppress(&world, "x@remote.test").await);
    let header = "Message-ID: <1@example.org>\nFrom: ann@example.org\n";
    let told = comes_back(&world, "<>", "ann@example.org", &dsn("", FAILED, header)).await;
    assert_eq!(heard(told), [(x, Event::Failed, false)]);
    let stranger = FAILED.replace("x@", "z@");
    for fields in ["", &envid] {
        let text = dsn(fields, &stranger, header);
        let back = comes_back(&world, "<>", "ann@example.org", &text).await;
        assert_eq!(back, None, "the transaction had two recipients");
    }
    // A queued message is found too.
    let queued = Message::to(&["q@remote.test"]).later(60);
    let [q] = world.add(queued).await;
    let about = FAILED.replace("x@", "q@");
    let told = comes_back(&world, "<>", "ann@example.org", &dsn("", &about, header)).await;
    assert_eq!(heard(told), [(q, Event::Failed, false)]);
    let queued = world.store.queued(q).await.unwrap().unwrap();
    assert_eq!(queued.results.len(), 1);
    world.stop().await;
}

#[tokio::test]
async fn the_server_of_one_recipient_proves_nothing_about_another() {
    let world = World::start(Setup::default());
    let remote = accepting_with_dsn(&world).await;
    // Its own server sees the messages to this domain.
    let other = accepting_with_dsn(&world).await;
    world.mx("other.test", &[(10, "b.test")]);
    world.host("b.test", "192.0.2.2");
    world.lead("192.0.2.2", &other);
    world.lead("192.0.2.1", &remote);
    let [x, o]: [QueueId; 2] = world
        .add(Message::to(&["x@remote.test", "o@other.test"]))
        .await;
    world.events(2).await;
    let (to_x, to_o) = (envids(&remote), envids(&other));
    assert_eq!((to_x.len(), to_o.len()), (1, 1));
    assert_ne!(to_x, to_o, "each transaction has its own");
    let to = "ann@example.org";
    let envid = |id: &str| format!("Original-Envelope-Id: {id}\n");
    let header = "Message-ID: <1@example.org>\nFrom: ann@example.org\n";
    // The other server names x, with all that it knows.
    let forged = dsn(&envid(&to_o[0]), FAILED, "");
    let told = comes_back(&world, "<>", to, &forged).await;
    assert_eq!(
        heard(told),
        [(o, Event::Failed, true)],
        "it is about o alone"
    );
    let forged = dsn("", FAILED, header);
    let told = comes_back(&world, "<>", to, &forged).await;
    assert_eq!(heard(told), [(x, Event::Failed, false)]);
    assert_eq!(entry(&world, "x@remote.test").await, None);
    // The report of the right server proves something, but not to another account.
    let right = dsn(&envid(&to_x[0]), FAILED, header);
    let told = comes_back_from(&world, None, "bob", "<>", to, &right).await;
    assert_eq!(told, None);
    let told = comes_back(&world, "<>", to, &right).await;
    assert_eq!(heard(told), [(x, Event::Failed, true)]);
    // Again, it does nothing more.
    let told = comes_back(&world, "<>", to, &right).await;
    assert_eq!(heard(told), [(x, Event::Failed, false)]);
    let fine = "Final-Recipient: rfc822; x@remote.test\nAction: delivered\nStatus: 2.0.0\n";
    let told = comes_back(&world, "<>", to, &dsn(&envid(&to_x[0]), fine, "")).await;
    assert_eq!(heard(told), [(x, Event::Delivered, false)]);
    assert!(entry(&world, "x@remote.test").await.is_some());
    world.stop().await;
}

#[tokio::test]
async fn each_attempt_has_an_envid_of_its_own_and_a_given_one_proves_nothing() {
    let world = World::start(Setup::default());
    let remote = Remote::start(|point, number| match point {
        Point::Command(line) if line.starts_with("EHLO") => Some(Act::Say("250-a.test\r\n250 DSN")),
        Point::Command(line) if line.starts_with("RCPT") && number == 0 => {
            Some(Act::Say("451 4.7.1 later"))
        }
        _ => None,
    })
    .await;
    world.mx("remote.test", &[(10, "a.test")]);
    world.host("a.test", "192.0.2.1");
    world.lead("192.0.2.1", &remote);
    let [x] = world.add(Message::to(&["x@remote.test"])).await;
    world.events(1).await;
    let first = world.store.queued(x).await.unwrap().unwrap().envids;
    assert_eq!(first.len(), 1);
    world.clock.advance(Duration::from_secs(3600));
    world.events(2).await;
    let both = world
        .store
        .retired(x)
        .await
        .unwrap()
        .unwrap()
        .message
        .envids;
    assert_eq!((both.len(), &both[0]), (2, &first[0]));
    assert_ne!(both[0], both[1]);
    // A late report about the first attempt still counts.
    let envid = format!("Original-Envelope-Id: {}\n", first[0]);
    let told = comes_back(&world, "<>", "ann@example.org", &dsn(&envid, FAILED, "")).await;
    assert_eq!(heard(told), [(x, Event::Failed, true)]);
    // The submitter's ENVID goes along as it is. Everybody who gets a copy knows it.
    let given = Message {
        envid: "given",
        ..Message::to(&["y@remote.test", "z@remote.test"])
    };
    let [y, _] = world.add(given).await;
    world.events(4).await;
    assert_eq!(
        remote
            .received()
            .last()
            .map(|_| envids(&remote))
            .unwrap()
            .last()
            .unwrap(),
        "given"
    );
    let kept = world.store.retired(y).await.unwrap().unwrap();
    assert_eq!(kept.message.envids, Vec::<String>::new());
    let envid = "Original-Envelope-Id: given\n";
    let about = FAILED.replace("x@", "y@");
    let told = comes_back(&world, "<>", "ann@example.org", &dsn(envid, &about, "")).await;
    assert_eq!(heard(told), [(y, Event::Failed, false)]);
    let stranger = FAILED.replace("x@", "s@");
    let told = comes_back(&world, "<>", "ann@example.org", &dsn(envid, &stranger, "")).await;
    assert_eq!(told, None, "the recipient must match");
    world.stop().await;
}

/// A complaint of this type about the message to x@remote.test.
fn complaint(kind: &str) -> String {
    format!(
        "From: fbl@remote.test\nSubject: FW: x\nMIME-Version: 1.0\n\
        Content-Type: multipart/report; report-type=feedback-report; boundary=b\n\n\
        --b\nContent-Type: text/plain\n\nA complaint.\n\
        --b\nContent-Type: message/feedback-report\n\nFeedback-Type: {kind}\nUser-Agent: fbl/1\nVersion: 1\n\
        Original-Rcpt-To: <x@remote.test>\n\n\
        --b\nContent-Type: text/rfc822-headers\n\nMessage-ID: <1@example.org>\n\n--b--\n"
    )
}

/// The last event in the log of ann: its kind, and whether it suppressed.
async fn last_logged(world: &World) -> (Event, bool) {
    let filter = EventFilter {
        account: Some("ann".into()),
        ..EventFilter::default()
    };
    let page = world
        .store
        .list_events(&filter, None, Order::Descending, 1)
        .await;
    let last = &page.unwrap().items[0].told;
    (last.event, last.suppressing)
}

#[tokio::test]
async fn a_complaint_suppresses_only_with_proof() {
    let world = World::start(Setup {
        statics: "[policy]\ntrusted_reporters = [\"fbl.test\"]\n",
        ..Setup::default()
    });
    let _remote = accepting(&world).await;
    let [id] = world.add(Message::to(&["x@remote.test"])).await;
    world.events(1).await;
    let text = complaint("abuse");
    // A stranger can know the Message-ID and the recipient.
    for (domain, to) in [
        (None, "ann@example.org"),
        (None, "abuse@example.org"),
        (Some("remote.test"), "abuse@example.org"),
        (Some("not.fbl.test"), "abuse@example.org"),
    ] {
        let told = comes_back_from(&world, domain, "ann", "fbl@remote.test", to, &text).await;
        assert_eq!(told, Some(Vec::new()), "the contract has no event for it");
        assert_eq!(last_logged(&world).await, (Event::Complained, false));
        assert_eq!(entry(&world, "x@remote.test").await, None);
    }
    let retired = world.store.retired(id).await.unwrap().unwrap();
    assert_eq!(
        retired.message.results[1].error,
        "complaint by the recipient (abuse)"
    );
    // It is no news for another account.
    let trusted = Some("fbl.test");
    for to in ["bob@example.org", "abuse@other.test"] {
        let told = comes_back_from(&world, trusted, "bob", "fbl@fbl.test", to, &text).await;
        assert_eq!(told, None, "{to}");
    }
    assert_eq!(entry(&world, "x@remote.test").await, None);
    let to = "abuse@example.org";
    // These are no complaints, whoever sends them.
    for kind in ["auth-failure", "Auth-Failure", "not-spam"] {
        let text = complaint(kind);
        let told = comes_back_from(&world, trusted, "ann", "fbl@fbl.test", to, &text).await;
        assert_eq!(told, None, "{kind}");
    }
    let told = comes_back_from(&world, trusted, "ann", "fbl@fbl.test", to, &text).await;
    assert_eq!(told, Some(Vec::new()));
    assert_eq!(last_logged(&world).await, (Event::Complained, true));
    let entry = entry(&world, "x@remote.test").await.unwrap();
    assert_eq!((&*entry.reason, entry.reply), ("complaint: abuse", None));
    world.stop().await;
}

#[tokio::test]
async fn a_complaint_to_a_fromid_ends_mail_to_its_author() {
    let world = World::start(FROM_ID);
    let _remote = accepting(&world).await;
    let message = Message {
        login: "ann+id@example.org",
        ..Message::to(&["x@remote.test"])
    };
    let submitted = world.submit(message).await;
    let address = format!("ann+{}@example.org", submitted[0].from_id);
    world.events(1).await;
    let failure = complaint("auth-failure");
    let told = comes_back(&world, "fbl@remote.test", &address, &failure).await;
    assert_eq!(heard(told), [(submitted[0].id, Event::Unrecognized, false)]);
    assert_eq!(entry(&world, "x@remote.test").await, None);
    // Whatever recipient it names.
    let abuse = complaint("abuse").replace("<x@remote.test>", "<other@elsewhere.test>");
    let told = comes_back(&world, "fbl@remote.test", &address, &abuse).await;
    assert_eq!(told, Some(Vec::new()));
    assert_eq!(last_logged(&world).await, (Event::Complained, true));
    assert!(entry(&world, "x@remote.test").await.is_some());
    assert_eq!(entry(&world, "other@elsewhere.test").await, None);
    world.stop().await;
}

/// What a complaint to an address leads to, for all the accounts that get it: how many events, and
/// whether each account is told of a message of its own.
async fn complained(world: &World, to: &str, accounts: &[&str], text: &str) -> (usize, Vec<bool>) {
    let path = ReversePath::Mailbox("fbl@remote.test".parse().unwrap());
    let text = text.replace('\n', "\r\n");
    let reading = bounce::read_with_path(&path, text.as_bytes(), Limits::default());
    let (to, config) = (to.parse().unwrap(), world.config.load_full());
    let mut effects = ReturnEffects::default();
    let mut own = Vec::new();
    for account in accounts {
        let arrived = Arrived {
            account,
            reverse_path: &path,
            rcpt_to: &to,
            report: false,
            authenticated: None,
        };
        let returned = world
            .queue
            .returned(&config, &arrived, async { &reading }, &mut effects);
        own.push(returned.await.unwrap());
    }
    assert_eq!(effects.notes.len(), effects.events.len());
    let accounts = effects.events.iter().map(|event| &*event.account);
    assert!(accounts.into_iter().all(|account| account == "ann"));
    let accept = Accept {
        notes: effects.notes,
        events: effects.events,
        suppress: effects.suppress,
        ..Accept::default()
    };
    let count = accept.events.len();
    world.store.accept(accept).await.unwrap();
    (count, own)
}

#[tokio::test]
async fn a_complaint_to_the_abuse_address_of_a_domain_is_told_to_the_sender() {
    let world = World::start(FROM_ID);
    let _remote = accepting(&world).await;
    let message = Message {
        login: "ann+id@example.org",
        ..Message::to(&["x@remote.test"])
    };
    let submitted = world.submit(message).await;
    world.events(1).await;
    let text = complaint("abuse");
    let abuse = "abuse@example.org";
    // Nobody but the sender is told, once, however many accounts read the address.
    for (to, accounts, expected) in [
        (abuse, &["bob"][..], (1, vec![false])),
        ("Postmaster@Example.org", &["bob"], (1, vec![false])),
        (abuse, &["bob", "ann", "eve"], (1, vec![false, true, false])),
        (abuse, &["ann", "bob"], (1, vec![true, false])),
        ("abuse@other.test", &["bob"], (0, vec![false])),
        ("abuse@sub.example.org", &["bob"], (0, vec![false])),
        ("bob@example.org", &["bob"], (0, vec![false])),
        ("other@example.org", &["ann"], (0, vec![false])),
    ] {
        assert_eq!(
            complained(&world, to, accounts, &text).await,
            expected,
            "{to}"
        );
        assert_eq!(entry(&world, "x@remote.test").await, None, "no proof");
    }
    assert_eq!(last_logged(&world).await, (Event::Complained, false));
    // Other names are no names of a message.
    for (from, to) in [
        ("<1@example.org>", "<2@example.org>"),
        ("<x@remote.test>", "<y@remote.test>"),
        ("abuse\n", "not-spam\n"),
        ("abuse\n", "auth-failure\n"),
    ] {
        let other = text.replace(from, to);
        let told = complained(&world, abuse, &["bob"], &other).await;
        assert_eq!(told, (0, vec![false]), "{to}");
    }
    // The fromid of the message proves that its author got the message.
    let from_id = &submitted[0].from_id;
    let with_path = |path: &str| {
        let field = format!("Version: 1\nOriginal-Mail-From: <{path}>\n");
        let text = text.replace("Version: 1\n", &field);
        text.replace("x@remote", "hidden@remote")
    };
    for path in ["ann+guess@example.org", "ann@example.org", "nobody"] {
        let told = complained(&world, abuse, &["bob"], &with_path(path)).await;
        assert_eq!(told, (0, vec![false]), "{path}");
    }
    let path = format!("ann+{from_id}@example.org");
    let told = complained(&world, "abuse@other.test", &["bob"], &with_path(&path)).await;
    assert_eq!(told, (0, vec![false]));
    let told = complained(&world, abuse, &["bob"], &with_path(&path)).await;
    assert_eq!(told, (1, vec![false]));
    assert!(entry(&world, "x@remote.test").await.is_some());
    world.stop().await;
}

#[tokio::test]
async fn a_complaint_with_our_envid_is_an_event_without_a_suppression() {
    let world = World::start(Setup::default());
    let remote = accepting_with_dsn(&world).await;
    let [_] = world.add(Message::to(&["x@remote.test"])).await;
    world.events(1).await;
    let envids = envids(&remote);
    let text = complaint("abuse")
        .replace(
            "Version: 1\n",
            &format!("Version: 1\nOriginal-Envelope-Id: {}\n", envids[0]),
        )
        .replace("Original-Rcpt-To: <x@remote.test>\n", "")
        .replace("<1@example.org>", "<other@example.org>");
    let abuse = "abuse@example.org";
    assert_eq!(
        complained(&world, abuse, &["bob"], &text).await,
        (1, vec![false])
    );
    let told = complained(&world, "abuse@other.test", &["bob"], &text).await;
    assert_eq!(told, (0, vec![false]));
    assert_eq!(entry(&world, "x@remote.test").await, None);
    world.stop().await;
}
