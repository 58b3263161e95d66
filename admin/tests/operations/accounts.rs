//! What an account or an address leaves behind, or must not.

use std::time::Duration;

use postrider_admin::{
    Code,
    op::{
        Single as _,
        config::{accounts, addresses, aliases},
        passwords,
    },
};
use postrider_observe::metrics::{LoginMechanism, LoginResult, LoginService};
use postrider_receive::login::Attempt;
use postrider_store::{
    Accept, Common, EventFilter, HookFilter, KeepDeleted, LoginAttemptFilter, LoginOf, NewMail,
    NewMessage, NewRecipient, NewText, Notify, Order, QueueFilter, TextSource, Time, Top, Urgency,
};

use super::{
    Desk,
    config::{DYNAMICS, setting},
    suppression,
};

fn wrong_password(account: &str, now: Time) -> Attempt<'_> {
    Attempt {
        account: Some(account),
        result: LoginResult::Wrong,
        service: LoginService::Submission,
        mechanism: LoginMechanism::Plain,
        client: "",
        key: "",
        login: "",
        ip: [192, 0, 2, 1].into(),
        tls: "",
        now,
    }
}

/// Queues a message of an account with this sender.
pub(super) async fn queue(desk: &Desk, account: &str, sender: &str) {
    queue_as(desk, account, sender, Urgency::default()).await;
}

/// The same, with an urgency.
pub(super) async fn queue_as(desk: &Desk, account: &str, sender: &str, urgency: Urgency) {
    queue_to(desk, (account, sender), &["a@remote.test"], urgency).await;
}

/// The same, to several recipients.
pub(super) async fn queue_to(
    desk: &Desk,
    (account, sender): (&str, &str),
    recipients: &[&str],
    urgency: Urgency,
) {
    let now = desk.context.clock.now();
    let common = Common {
        account: account.to_owned(),
        queued: now,
        from: Some(sender.parse().unwrap()),
        message_id: "<1@example.org>".to_owned(),
        subject: String::new(),
        size: 4,
        needs: Default::default(),
        smtputf8: false,
        require_tls: None,
        future_release: String::new(),
        ret_full: None,
        envid: String::new(),
        list: String::new(),
        extra: Default::default(),
        origin: postrider_store::Origin::Sent,
        urgency,
    };
    let recipients = recipients.iter().map(|recipient| NewRecipient {
        reverse_path: sender.parse().unwrap(),
        from_id: String::new(),
        recipient: recipient.parse().unwrap(),
        notify: Notify::default(),
        orcpt: String::new(),
        transport: String::new(),
        route: String::new(),
        hold: false,
        next_attempt: now.after(Duration::from_secs(60)),
    });
    let accept = Accept {
        text: Some(NewText::Inline(b"\r\nHi".to_vec().into())),
        queue: vec![NewMessage {
            common,
            top: Top::EMPTY,
            text: TextSource::New,
            recipients: recipients.collect(),
        }],
        ..Accept::default()
    };
    desk.context.store.accept(accept).await.unwrap();
}

/// A mail in the inbox of mira.
fn mail_of_mira(received: Time) -> NewMail {
    NewMail {
        account: "mira".to_owned(),
        mailbox: "Inbox".to_owned(),
        top: Top::EMPTY,
        text: TextSource::New,
        size: 4,
        received,
        flags: Vec::new(),
        dsn: false,
        smtp: None,
        summary: None,
    }
}

#[tokio::test]
async fn an_address_stays_while_a_queued_message_needs_it() {
    let desk = Desk::domains();
    queue(&desk, "app", "info+id@example.org").await;
    let remove = || addresses::Remove {
        address: "info@example.org".to_owned(),
    };
    let text = desk.refuses(remove(), Code::Invalid, "address").await;
    assert!(
        text.contains("message 1 in the queue was sent from info+id@"),
        "{text}"
    );
    assert_eq!(desk.text(), DYNAMICS);
    // A catch-all of the same account covers the address.
    desk.ask(addresses::Add {
        address: "@example.org".to_owned(),
        account: "app".to_owned(),
    })
    .await;
    desk.ask(remove()).await;
    let all = addresses::Remove {
        address: "@example.org".to_owned(),
    };
    desk.refuses(all, Code::Invalid, "address").await;
}

#[tokio::test]
async fn a_removed_account_leaves_nothing_behind() {
    let desk = Desk::domains();
    let store = &desk.context.store;
    desk.ask(accounts::Add {
        account: "mira".to_owned(),
        address: "mira@example.org".to_owned(),
    })
    .await;
    desk.ask(aliases::AddMembers {
        alias: "team@example.org".to_owned(),
        members: vec!["mira@example.org".to_owned()],
    })
    .await;
    desk.ask(accounts::Set {
        account: "mira".to_owned(),
        settings: vec![
            setting("keep_retired_message_period", Some("24h")),
            setting("outgoing_webhook.url", Some("https://hook.test/")),
        ],
    })
    .await;
    desk.ask(passwords::Set {
        account: "mira".to_owned(),
        password: "correct horse".to_owned(),
    })
    .await;
    desk.ask(suppression::Add {
        account: "mira".to_owned(),
        address: "gone@remote.test".to_owned(),
        reason: String::new(),
        list: String::new(),
    })
    .await;
    queue(&desk, "mira", "mira@example.org").await;
    queue(&desk, "jane", "jane@example.org").await;
    let mail = mail_of_mira(desk.context.clock.now());
    let accept = Accept {
        text: Some(NewText::Inline(b"\r\nHi".to_vec().into())),
        mails: vec![mail.clone(), mail],
        ..Accept::default()
    };
    let mails = store.accept(accept).await.unwrap().mails;
    // What the account deleted lately goes, too.
    let now = desk.context.clock.now();
    let keep = KeepDeleted {
        until: now.after(Duration::from_secs(60)),
        bytes: 1000,
    };
    let deleted = store.delete_mail("mira", mails[0], now, keep).await;
    assert!(deleted.unwrap());
    assert_eq!(store.deleted_usage("mira").await.unwrap().mails, 1);

    let remove = || accounts::Remove {
        account: "mira".to_owned(),
    };
    // A login of it is noted, and one waits for the store.
    let logins = &desk.context.logins;
    let attempt = wrong_password("mira", now);
    logins.note(&attempt);
    logins.note(&wrong_password("jane", now));
    assert!(logins.write_attempts().await);
    logins.note(&attempt);
    let removed = desk.ask(remove()).await;
    // One message came, and one is the DSN about the message that failed.
    let expected = accounts::Removed {
        failed: 1,
        in_delivery: 0,
        mails: 2,
        keys: 0,
        suppressions: 1,
    };
    assert_eq!(removed, expected);
    assert_eq!(store.deleted_usage("mira").await.unwrap().mails, 0);
    assert_eq!(desk.text(), DYNAMICS);
    let all = QueueFilter::default();
    let queued = store.list(&all, None, Order::Ascending, 9).await;
    let queued = queued.unwrap().items;
    assert_eq!(queued.len(), 1);
    assert_eq!(queued[0].common.account, "jane");
    let all = HookFilter::default();
    let hooks = store.list_hooks(&all, None, Order::Ascending, 9).await;
    let hooks = hooks.unwrap().items;
    assert_eq!(hooks.len(), 1, "its webhook learns of the failure");
    assert_eq!(hooks[0].account, "mira");
    let all = EventFilter {
        account: Some("mira".to_owned()),
        ..EventFilter::default()
    };
    let events = store.list_events(&all, None, Order::Ascending, 9).await;
    assert_eq!(events.unwrap().items.len(), 1);
    assert!(store.credential("mira").await.unwrap().is_none());
    assert!(logins.write_attempts().await);
    let all = LoginAttemptFilter::default();
    let noted = store
        .list_logins(&all, None, Order::Descending, 9)
        .await
        .unwrap()
        .items;
    let noted: Vec<_> = noted.into_iter().map(|noted| noted.of).collect();
    assert_eq!(noted, [LoginOf::Account("jane".to_owned())]);
    assert!(
        store
            .list_mails("mira", None, None, 9)
            .await
            .unwrap()
            .items
            .is_empty()
    );
    desk.refuses(remove(), Code::NotFound, "account").await;
}

#[tokio::test]
async fn mail_that_comes_back_while_its_account_goes_is_not_left_for_the_next_one() {
    let desk = Desk::domains();
    let (context, store) = (&desk.context, &desk.context.store);
    let add = || accounts::Add {
        account: "mira".to_owned(),
        address: "mira@example.org".to_owned(),
    };
    desk.ask(add()).await;
    let mail = mail_of_mira(context.clock.now());
    let accept = Accept {
        text: Some(NewText::Inline(b"\r\nHi".to_vec().into())),
        mails: vec![mail],
        ..Accept::default()
    };
    // Mail comes as an operation brings it back, which holds the account.
    let held = context.hold_account("mira").await.unwrap();
    let remove = accounts::Remove {
        account: "mira".to_owned(),
    };
    let of_removal = context.clone();
    let mut removing = tokio::spawn(async move { remove.answer(&of_removal).await });
    tokio::time::pause();
    let waited = tokio::time::timeout(Duration::from_secs(3600), &mut removing).await;
    tokio::time::resume();
    assert!(waited.is_err(), "the removal waits");
    store.accept(accept).await.unwrap();
    drop(held);
    assert_eq!(removing.await.unwrap().unwrap().mails, 1);
    desk.ask(add()).await;
    let mails = store.list_mails("mira", None, None, 9).await.unwrap();
    assert!(mails.items.is_empty());
    // An account that is not there can't be held.
    let missing = context.hold_account("nobody").await.unwrap_err();
    assert_eq!(missing.code, Code::NotFound);
}

#[tokio::test]
async fn a_new_account_inherits_no_password_of_an_old_one() {
    let desk = Desk::domains();
    let store = &desk.context.store;
    let credential = postrider_store::Credential {
        argon2: "$argon2id$".to_owned(),
        set: desk.context.clock.now(),
        ..Default::default()
    };
    store
        .set_credential("mira", Some(credential))
        .await
        .unwrap();
    desk.ask(accounts::Add {
        account: "mira".to_owned(),
        address: "mira@example.org".to_owned(),
    })
    .await;
    assert!(store.credential("mira").await.unwrap().is_none());
}

/// Each key of both files that names an account keeps that account. A new key of this kind needs a
/// line here.
#[tokio::test]
async fn an_account_that_a_file_names_stays_and_the_refusal_says_where() {
    let described = postrider_config::describe().into_iter();
    let named: Vec<&str> = described
        .map(|key| key.key)
        .filter(|key| key.ends_with(".account"))
        .collect();
    let lines = [
        ("postmaster.account", "app"),
        ("host_tls_rpt.account", "host"),
        ("domains.<domain>.dmarc.account", "dmarc"),
        ("domains.<domain>.tls_rpt.account", "tls"),
    ];
    let (keys, owners): (Vec<&str>, Vec<&str>) = lines.into_iter().unzip();
    assert_eq!(named, keys);
    let statics = "hostname = \"mail.example.org\"\npostmaster.account = \"app\"\n\
        host_tls_rpt.account = \"host\"\n[listeners.l]\nips = [\"127.0.0.1\"]\n";
    let mut dynamics = "[domains.\"example.org\"]\ndmarc.account = \"dmarc\"\n\
        tls_rpt.account = \"tls\"\n"
        .to_owned();
    for owner in &owners {
        dynamics += &format!(
            "[accounts.{owner}]\ndomain = \"example.org\"\n\
             destinations.\"{owner}@example.org\" = {{}}\n"
        );
    }
    let desk = Desk::with(statics, &dynamics);
    for (key, owner) in lines {
        let remove = accounts::Remove {
            account: owner.to_owned(),
        };
        let text = desk.refuses(remove, Code::Invalid, "account").await;
        let key = key.replace("<domain>", "\"example.org\"");
        assert!(text.contains(&key), "{key}: {text}");
        assert!(text.starts_with(owner), "{text}");
    }
    assert_eq!(desk.text(), dynamics);
}
