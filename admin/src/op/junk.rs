//! The junk filter: teach it, ask it, let it forget.

use std::{collections::BTreeMap, net::IpAddr};

use bytes::Bytes;
use postrider_receive::junk::{
    JunkVerdict,
    examine::{Examiner, Question},
    filter::{Filter, Letter, SERVER},
    learn::lesson,
};
use postrider_smtp::ReversePath;
use postrider_store::{JUNK_FLAG, JunkKey, MailChange, MailId, NOT_JUNK_FLAG};
use serde::{Deserialize, Serialize};

use super::{Operation, Single, Sink, queue::Piece, suppression::parse};
use crate::{AdminError, Context};

/// The bytes of a message that the filter reads. More need not be sent.
pub const READ_MAX: usize = postrider_receive::junk::tokens::READ_MAX;
/// Mails of a mailbox that are read at once.
const PAGE: usize = 100;

/// The name of a filter: an account, or the server's own filter (None). The server's filter judges
/// for accounts that have not learnt enough.
fn filter_of(context: &Context, account: Option<&str>) -> Result<String, AdminError> {
    match account {
        Some(account) => {
            context.check_account(account)?;
            Ok(account.to_owned())
        }
        None => Ok(SERVER.to_owned()),
    }
}

/// The name of a filter in the audit log.
fn name_of(account: Option<&str>) -> &str {
    account.unwrap_or("server")
}

/// The key under which words are hashed.
async fn key(context: &Context) -> Result<JunkKey, AdminError> {
    let (store, limits) = (&context.store, context.statics.limits.mime());
    Ok(Filter { store, limits }.key().await?)
}

/// Teaches a filter the words of a message.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Train {
    /// The account whose filter learns; None: the server's own filter.
    pub account: Option<String>,
    /// The message is junk, or it is not.
    pub junk: bool,
    /// The message. The first 512 KiB count.
    pub message: Piece,
}

impl Single for Train {
    type Output = ();

    async fn answer(self, context: &Context) -> Result<(), AdminError> {
        let account = self.account.clone();
        let described = BTreeMap::from([("junk", self.junk)]);
        let target = name_of(account.as_deref());
        // The first use makes a key. The entry of the audit log tells of what follows.
        let key = key(context).await?;
        let context = &context.carrying("junk.train", target, &described);
        let trained = self.train(context, &key).await;
        context
            .record("junk.train", target, &described, trained)
            .await
    }
}

impl Train {
    async fn train(self, context: &Context, key: &JunkKey) -> Result<(), AdminError> {
        let _held = match &self.account {
            Some(account) => Some(context.hold_account(account).await?),
            None => None,
        };
        let account = filter_of(context, self.account.as_deref())?;
        let limits = context.statics.limits.mime();
        let letter = Letter::read(&self.message.0, limits, key);
        if letter.tokens.is_empty() {
            let text = "the message has no words, so there is nothing to learn";
            return Err(AdminError::invalid(text).at("message"));
        }
        let now = context.clock.now();
        let trained = context
            .store
            .train_junk(&account, letter.tokens, self.junk, now);
        Ok(trained.await?)
    }
}

/// Calls all mail in a mailbox of an account junk, or good, and learns from it. Mail that is called
/// so already teaches nothing new.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainMailbox {
    /// The account.
    pub account: String,
    /// The name of the mailbox.
    pub mailbox: String,
    /// The mail is junk, or it is not.
    pub junk: bool,
}

/// What was learnt from the mail in a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainedMailbox {
    /// How many mails the mailbox has.
    pub mails: u64,
    /// How many of them taught something new. The others were learnt so before.
    pub learnt: u64,
}

impl Single for TrainMailbox {
    type Output = TrainedMailbox;

    async fn answer(self, context: &Context) -> Result<TrainedMailbox, AdminError> {
        let account = self.account.clone();
        key(context).await?;
        let context = &context.carrying("junk.train_mailbox", &account, &self);
        let trained = self.train(context).await;
        context
            .record("junk.train_mailbox", &account, &self, trained)
            .await
    }
}

impl TrainMailbox {
    async fn train(&self, context: &Context) -> Result<TrainedMailbox, AdminError> {
        let config = context.config.load_full();
        context.check_account(&self.account)?;
        let words = config.accounts.get(&self.account);
        let words = words.is_some_and(|account| account.junk_filter);
        let (add, remove) = match self.junk {
            true => (JUNK_FLAG, NOT_JUNK_FLAG),
            false => (NOT_JUNK_FLAG, JUNK_FLAG),
        };
        let change = MailChange {
            add_flags: vec![add.to_owned()],
            remove_flags: vec![remove.to_owned()],
            mailbox: None,
        };
        let (store, limits) = (&context.store, context.statics.limits.mime());
        let (mut mails, mut learnt, mut after) = (0, 0, None::<MailId>);
        loop {
            let page = store.list_mails(&self.account, Some(&self.mailbox), after, PAGE);
            let page = page.await?;
            for mail in &page.items {
                let now = context.clock.now();
                let lesson = lesson(store, limits, words, mail, now).await?;
                let change = change.clone();
                let _held = context.hold_account(&self.account).await?;
                let before = store.trained(mail.id).await?;
                let changed = store.learn_mail(&self.account, mail.id, change, lesson);
                mails += u64::from(changed.await?);
                if store.trained(mail.id).await? != before {
                    learnt += 1;
                    context.hooks.teach(store, &context.clock, mail, self.junk);
                }
            }
            match page.next {
                None => break,
                next => after = next,
            }
        }
        if mails == 0 {
            let text = format!("there is no mail in {:?}", self.mailbox);
            return Err(AdminError::not_found(text).at("mailbox"));
        }
        Ok(TrainedMailbox { mails, learnt })
    }
}

/// Judges a message. Only the message is needed. Without the address of a client, nothing is
/// checked in DNS.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Classify {
    /// The account for which the message is judged; None: the server's own filter.
    pub account: Option<String>,
    /// The message.
    pub message: Piece,
    /// The address of the client.
    #[serde(default)]
    pub remote_ip: Option<IpAddr>,
    /// The name in EHLO.
    #[serde(default)]
    pub helo: Option<String>,
    /// The client used TLS; None: as if it did.
    #[serde(default)]
    pub tls: Option<bool>,
    /// MAIL FROM; empty: the null reverse-path.
    #[serde(default)]
    pub mail_from: String,
    /// The recipients; empty: as if the message named them in To.
    #[serde(default)]
    pub recipients: Vec<String>,
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Disposition {
    /// It goes to the mailbox that it would go to.
    Accept,
    /// It goes to the junk mailbox.
    Junk,
    /// It is refused.
    Refuse,
}

/// The judgement of a message. It has no word of the message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Classified {
    /// What becomes of the message.
    pub disposition: Disposition,
    /// Why it is junk or refused; empty if it is not.
    pub reason: String,
    /// The sum of what all tags add. 5 or more means junk.
    pub score: f64,
    /// What was found out, and what each adds to the score.
    pub tags: BTreeMap<String, f64>,
}

impl Single for Classify {
    type Output = Classified;

    async fn answer(self, context: &Context) -> Result<Classified, AdminError> {
        let account = filter_of(context, self.account.as_deref())?;
        let mail_from = match self.mail_from.as_str() {
            "" => ReversePath::Null,
            address => ReversePath::Mailbox(parse(address, "mail_from")?),
        };
        let recipients = self.recipients.iter();
        let recipients = recipients.map(|address| parse(address, "recipients"));
        let config = context.config.load();
        let of_account = config.accounts.get(&account);
        let question = Question {
            words: of_account.is_none_or(|account| account.junk_filter),
            message: Bytes::from(self.message.0),
            account,
            remote: self.remote_ip,
            helo: self.helo,
            tls: self.tls,
            mail_from,
            recipients: recipients.collect::<Result<_, _>>()?,
        };
        let examiner = Examiner {
            store: &context.store,
            resolver: &context.resolver,
            clock: &context.clock,
            limits: context.statics.limits.mime(),
            threshold: context.statics.policy.junk_threshold,
        };
        let examined = examiner.examine(&question).await?;
        let (disposition, reason) = match &examined.verdict {
            JunkVerdict::Accept(_) => (Disposition::Accept, ""),
            JunkVerdict::Junk(reason) => (Disposition::Junk, reason.as_str()),
            JunkVerdict::Refuse(reason) => (Disposition::Refuse, reason.as_str()),
        };
        let tags = examined.tags.into_iter();
        Ok(Classified {
            disposition,
            reason: reason.to_owned(),
            score: examined.score,
            tags: tags.map(|tag| (tag.name, tag.score)).collect(),
        })
    }
}

/// Lets a filter forget all words. What is known of senders stays.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reset {
    /// The account whose filter forgets; None: the server's own filter.
    pub account: Option<String>,
}

impl Single for Reset {
    type Output = ();

    async fn answer(self, context: &Context) -> Result<(), AdminError> {
        let target = name_of(self.account.as_deref());
        let context = &context.carrying("junk.reset", target, &());
        let forgotten = match filter_of(context, self.account.as_deref()) {
            Ok(account) => {
                let forgotten = context.store.forget_junk(&account).await;
                forgotten.map(drop).map_err(AdminError::from)
            }
            Err(error) => Err(error),
        };
        context.record("junk.reset", target, &(), forgotten).await
    }
}

/// Shows how much a filter has learnt.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {
    /// The account; None: the server's own filter, and those of all accounts.
    pub account: Option<String>,
}

/// What a filter has learnt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilterItem {
    /// The account; empty: the server's own filter.
    pub account: String,
    /// How many messages of junk it has learnt.
    pub spam: u32,
    /// How many other messages it has learnt.
    pub ham: u32,
}

impl Operation for Status {
    type Item = FilterItem;

    async fn run(
        self,
        context: &Context,
        items: &mut impl Sink<FilterItem>,
    ) -> Result<(), AdminError> {
        let names = match self.account.as_deref() {
            Some(account) => vec![filter_of(context, Some(account))?],
            None => {
                let config = context.config.load();
                let accounts = config.accounts.keys().cloned();
                std::iter::once(SERVER.to_owned()).chain(accounts).collect()
            }
        };
        for account in names {
            let counts = context.store.junk_counts(&account, Vec::new()).await?;
            let (spam, ham) = (counts.ever_spam, counts.ever_ham);
            items.send(vec![FilterItem { account, spam, ham }]).await?;
        }
        Ok(())
    }
}
