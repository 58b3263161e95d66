//! What a user says about a mail, and what the filter learns from it.
//!
//! A user says it by the flags `$Junk` and `$NotJunk`, or by a move. A move sets the flags:
//!
//! | move | the mail is |
//! |---|---|
//! | into the junk mailbox, or one below it such as `Junk/2024` | junk |
//! | out of these into the inbox | not junk |
//! | from anywhere into `Archive` or another mailbox with a name of its own | not junk |
//! | into the inbox from elsewhere; into the mailbox for rejects; into `Postmaster`, `Trash`, `Deleted Items`, `Drafts`, `Sent`, and what is below these | what it was |

use postrider_config::Account;
use postrider_smtp::mime::Limits;
use postrider_store::{
    JUNK_FLAG, Lesson, Mail, MailChange, NOT_JUNK_FLAG, Store, StoreError, Time,
};
use tracing::warn;

use super::{
    filter::{Filter, Letter},
    senders::Senders,
    tokens::{READ_MAX, TOKENIZER},
};

/// Mailboxes that say nothing about the mail in them, by the names that clients give them. Names
/// are compared without case. What is below one but the inbox says nothing either.
const NEUTRAL: [&str; 9] = [
    "Postmaster",
    "Trash",
    "Deleted Items",
    "Deleted Messages",
    "Drafts",
    "Sent",
    "Sent Items",
    "Sent Messages",
    "Outbox",
];
/// The mailbox for new mail.
const INBOX: &str = "Inbox";

/// The settings of an account that matter here.
#[derive(Clone, Copy, Debug)]
pub struct Habits<'a> {
    /// The mailbox for junk.
    pub junk_mailbox: &'a str,
    /// The mailbox for refused mail. Empty: none.
    pub rejects_mailbox: &'a str,
    /// Words are learnt, and not the senders alone.
    pub words: bool,
}

impl<'a> From<&'a Account> for Habits<'a> {
    fn from(account: &'a Account) -> Self {
        Self {
            junk_mailbox: &account.junk_mailbox,
            rejects_mailbox: &account.rejects_mailbox,
            words: account.junk_filter,
        }
    }
}

/// What a move of a mail between mailboxes of an account says: junk, or not junk. None: nothing.
#[must_use]
pub fn said_by_move(habits: Habits<'_>, from: &str, to: &str) -> Option<bool> {
    if is_within(to, habits.junk_mailbox) {
        return (from != to).then_some(true);
    }
    let top = to.split('/').next().unwrap_or_default();
    let is_inbox = to.eq_ignore_ascii_case(INBOX);
    let neutral = NEUTRAL.iter().any(|name| top.eq_ignore_ascii_case(name))
        || is_within(to, habits.rejects_mailbox)
        || is_inbox;
    let taken_out = is_within(from, habits.junk_mailbox) && is_inbox;
    (taken_out || !neutral).then_some(false)
}

/// What a change of a mail says that its flags do not say yet: junk, or not junk. None: nothing.
#[must_use]
pub fn news(habits: Habits<'_>, mail: &Mail, change: &MailChange) -> Option<bool> {
    let to = change.mailbox.as_ref();
    let moved = to.and_then(|to| said_by_move(habits, &mail.mailbox, to));
    let flagged = || {
        let adds = |flag: &str| change.add_flags.iter().any(|added| added == flag);
        match (adds(JUNK_FLAG), adds(NOT_JUNK_FLAG)) {
            (true, false) => Some(true),
            (false, true) => Some(false),
            _ => None,
        }
    };
    let junk = moved.or_else(flagged)?;
    let flag = match junk {
        true => JUNK_FLAG,
        false => NOT_JUNK_FLAG,
    };
    (!mail.flags.iter().any(|has| has == flag)).then_some(junk)
}

/// Whether a mailbox is this one, or below it.
fn is_within(mailbox: &str, other: &str) -> bool {
    let below = mailbox.strip_prefix(other);
    !other.is_empty() && below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
}

/// Changes a mail as its user asks, and learns what the change says about the mail. False: the
/// account has no such mail.
///
/// # Errors
/// If the store fails.
pub async fn change_mail(
    store: &Store,
    limits: Limits,
    habits: Habits<'_>,
    mail: &Mail,
    mut change: MailChange,
    now: Time,
) -> Result<bool, StoreError> {
    let to = change.mailbox.as_ref();
    let said = to.and_then(|to| said_by_move(habits, &mail.mailbox, to));
    if let Some(junk) = said {
        let (add, remove) = match junk {
            true => (JUNK_FLAG, NOT_JUNK_FLAG),
            false => (NOT_JUNK_FLAG, JUNK_FLAG),
        };
        change.add_flags.push(add.to_owned());
        change.remove_flags.push(remove.to_owned());
    }
    let flags = change.add_flags.iter().chain(&change.remove_flags);
    let says = flags
        .into_iter()
        .any(|flag| [JUNK_FLAG, NOT_JUNK_FLAG].contains(&flag.as_str()));
    if !says {
        return store.change_mail(&mail.account, mail.id, change).await;
    }
    let lesson = lesson(store, limits, habits.words, mail, now).await?;
    store
        .learn_mail(&mail.account, mail.id, change, lesson)
        .await
}

/// What there is to learn from a mail. Its words only if `words` is true.
///
/// # Errors
/// If the store fails.
pub async fn lesson(
    store: &Store,
    limits: Limits,
    words: bool,
    mail: &Mail,
    now: Time,
) -> Result<Lesson, StoreError> {
    let senders = Senders::of_mail(mail);
    let tokens = match words {
        true => tokens(store, limits, mail).await?,
        false => Vec::new(),
    };
    Ok(Lesson {
        // A mail without words teaches none.
        tokenizer: if tokens.is_empty() { 0 } else { TOKENIZER },
        tokens,
        author: senders.author.as_ref().map_or(0, |author| author.number),
        senders: senders.keys(),
        today: now.day(),
    })
}

async fn tokens(store: &Store, limits: Limits, mail: &Mail) -> Result<Vec<u64>, StoreError> {
    let key = Filter { store, limits }.key().await?;
    let message = store.mail_message(mail).await?;
    match message.beginning(READ_MAX as u64).await {
        Ok(message) => Ok(Letter::read(&message, limits, &key).tokens),
        Err(error) => {
            // The user may still flag and move a mail whose text is damaged.
            warn!(%error, mail = %mail.id, "failed to read a mail to learn from it");
            Ok(Vec::new())
        }
    }
}

#[cfg(test)]
mod tests {
    use postrider_store::{
        Accept, Arrival, HistoryKey, HistoryKind, NewMail, NewText, TextSource, Top, Trained,
    };

    use super::*;

    const HABITS: Habits<'_> = Habits {
        junk_mailbox: "Junk",
        rejects_mailbox: "Rejects",
        words: true,
    };

    #[test]
    fn a_move_says_what_the_user_thinks() {
        let said = |from, to| said_by_move(HABITS, from, to);
        assert_eq!(said("Inbox", "Junk"), Some(true));
        assert_eq!(said("Archive", "Junk"), Some(true));
        assert_eq!(said("Rejects", "Junk"), Some(true));
        assert_eq!(said("Junk", "Junk"), None);
        assert_eq!(said("Inbox", "Junk/2024"), Some(true));
        assert_eq!(said("Junk", "Junk/2024"), Some(true));
        assert_eq!(said("Junk/2024", "Junk/2024"), None);
        assert_eq!(said("Junk/2024", "Inbox"), Some(false));
        assert_eq!(said("Inbox", "Junkyard"), Some(false));
        assert_eq!(said("Inbox", "Inbox/Work"), Some(false));
        assert_eq!(said("Junk", "Inbox"), Some(false));
        assert_eq!(said("Junk", "Work"), Some(false));
        assert_eq!(said("Inbox", "Archive"), Some(false));
        assert_eq!(said("Rejects", "Work"), Some(false));
        for to in [
            "Rejects",
            "Trash",
            "Trash/2024",
            "Deleted Items",
            "deleted messages",
            "Drafts",
            "Sent",
            "postmaster",
        ] {
            assert_eq!(said("Junk", to), None, "{to}");
            assert_eq!(said("Work", to), None, "{to}");
        }
        assert_eq!(said("Rejects", "Inbox"), None);
        assert_eq!(said("Work", "INBOX"), None);
    }

    async fn brings(store: &Store) -> Mail {
        let text = "From: jane@shop.example\r\nSubject: cheap offer\r\n\r\nbuy now\r\n";
        let mail = NewMail {
            account: "ann".into(),
            mailbox: "Inbox".into(),
            top: Top::new("Return-Path: <b@shop.example>\r\n").unwrap(),
            text: TextSource::New,
            size: text.len() as u64,
            received: Time(86_400_000_000),
            flags: Vec::new(),
            dsn: false,
            summary: None,
            smtp: Some(Arrival {
                mail_from: "b@shop.example"
                    .parse()
                    .map(postrider_smtp::ReversePath::Mailbox)
                    .unwrap(),
                rcpt_to: "ann@x.example".parse().unwrap(),
                msg_from: Some("jane@shop.example".parse().unwrap()),
                mail_from_validated: true,
                msg_from_validated: true,
                dkim_domains: Vec::new(),
                remote_ip: Some([192, 0, 2, 1].into()),
            }),
        };
        let accept = Accept {
            text: Some(NewText::Inline(text.into())),
            mails: vec![mail],
            ..Accept::default()
        };
        let id = store.accept(accept).await.unwrap().mails[0];
        store.mail(id).await.unwrap().unwrap()
    }

    async fn change(store: &Store, habits: Habits<'_>, mail: &Mail, change: MailChange) -> Mail {
        let now = Time(2 * 86_400_000_000);
        let changed = change_mail(store, Limits::default(), habits, mail, change, now);
        assert!(changed.await.unwrap());
        store.mail(mail.id).await.unwrap().unwrap()
    }

    async fn trained_of(store: &Store, mail: &Mail) -> Option<Trained> {
        store.trained(mail.id).await.unwrap()
    }

    fn to(mailbox: &str) -> MailChange {
        MailChange {
            mailbox: Some(mailbox.into()),
            ..MailChange::default()
        }
    }

    async fn marks(store: &Store) -> Vec<bool> {
        let key = HistoryKey {
            kind: HistoryKind::FromDomain,
            name: "shop.example".into(),
            validated: true,
        };
        let marks = store.history("ann", &[key]).await.unwrap();
        marks[0].iter().map(|mark| mark.junk).collect()
    }

    #[tokio::test]
    async fn a_user_teaches_by_moves_and_by_flags() {
        let store = Store::memory();
        let mail = brings(&store).await;
        let counts = async || store.junk_counts("ann", Vec::new()).await.unwrap();
        let junk = change(&store, HABITS, &mail, to("Junk")).await;
        assert_eq!(junk.flags, ["$junk"]);
        assert_eq!(junk.mailbox, "Junk");
        let trained = |junk, tokenizer| {
            Some(Trained {
                junk,
                tokenizer,
                epoch: 0,
            })
        };
        assert_eq!(trained_of(&store, &junk).await, trained(true, TOKENIZER));
        assert_eq!((counts().await.spam, counts().await.ham), (1, 0));
        assert_eq!(marks(&store).await, [true]);

        let trash = change(&store, HABITS, &junk, to("Trash")).await;
        assert_eq!(trained_of(&store, &trash).await, trained(true, TOKENIZER));

        let flags = MailChange {
            remove_flags: vec!["$junk".into()],
            ..MailChange::default()
        };
        let neither = change(&store, HABITS, &trash, flags).await;
        assert_eq!(trained_of(&store, &neither).await, None);
        assert_eq!((counts().await.spam, counts().await.ham), (0, 0));
        assert!(marks(&store).await.is_empty());

        let good = change(&store, HABITS, &neither, to("Archive")).await;
        assert_eq!(good.flags, ["$notjunk"]);
        assert_eq!(marks(&store).await, [false]);
        assert_eq!((counts().await.spam, counts().await.ham), (0, 1));
    }

    #[tokio::test]
    async fn news_is_said_once() {
        let mut mail = brings(&Store::memory()).await;
        let flags = |add: &[&str]| MailChange {
            add_flags: add.iter().map(|flag| (*flag).to_owned()).collect(),
            ..MailChange::default()
        };
        for (has, mailbox, change, expected) in [
            ("", "Inbox", to("Junk"), Some(true)),
            ("$notjunk", "Inbox", to("Junk"), Some(true)),
            ("$junk", "Inbox", to("Junk"), None),
            ("$junk", "Junk", to("Inbox"), Some(false)),
            ("", "Junk", to("Trash"), None),
            ("", "Inbox", flags(&["$junk"]), Some(true)),
            ("$junk", "Inbox", flags(&["$junk"]), None),
            ("$junk", "Inbox", flags(&["$notjunk"]), Some(false)),
            ("", "Inbox", flags(&["$junk", "$notjunk"]), None),
            ("", "Inbox", flags(&["\\seen"]), None),
        ] {
            mail.flags = vec![has.to_owned()];
            mail.mailbox = mailbox.to_owned();
            assert_eq!(news(HABITS, &mail, &change), expected, "{has} {change:?}");
        }
    }

    #[tokio::test]
    async fn without_the_content_filter_the_senders_are_learnt() {
        let store = Store::memory();
        let habits = Habits {
            words: false,
            ..HABITS
        };
        let mail = brings(&store).await;
        let junk = change(&store, habits, &mail, to("Junk")).await;
        assert_eq!(
            trained_of(&store, &junk)
                .await
                .map(|trained| trained.tokenizer),
            Some(0)
        );
        assert_eq!(marks(&store).await, [true]);
        assert_eq!(store.junk_counts("ann", Vec::new()).await.unwrap().spam, 0);
    }

    #[tokio::test]
    async fn the_words_of_a_mail_are_those_of_the_message_that_came() {
        let store = Store::memory();
        let mail = brings(&store).await;
        let lesson = lesson(&store, Limits::default(), true, &mail, Time(0)).await;
        let filter = Filter {
            store: &store,
            limits: Limits::default(),
        };
        let text = "From: jane@shop.example\r\nSubject: cheap offer\r\n\r\nbuy now\r\n";
        let path = &mail.smtp.as_ref().unwrap().mail_from;
        let came = filter.letter(path, &NewText::Inline(text.into())).await;
        assert_eq!(lesson.unwrap().tokens, came.unwrap().tokens);
    }
}
