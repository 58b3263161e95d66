//! The one way into the queue.

use std::collections::BTreeMap;

use postrider_config::Dynamic;
use postrider_smtp::{Address, Host, LocalPart, ReversePath};
use postrider_store::{
    Accept, Common, NewMessage, NewRecipient, NewText, Notify, Once, QueueId, StoreError, TextId,
    TextSource, Time, Top,
};
use rand::Rng;
use tracing::warn;

use crate::{Queue, header};

/// A message that an account hands in, checked by whoever took it.
#[derive(Debug)]
pub struct Submission {
    /// Whose.
    pub account: String,
    /// The address that was used to log in.
    pub login: Option<Address>,
    /// What MAIL FROM will say, before a fromid is added.
    pub reverse_path: ReversePath,
    /// What the reverse-path has behind its separator already is meant as its fromid, if this login uses them.
    pub own_from_id: bool,
    /// At least one.
    pub recipients: Vec<SubmittedRecipient>,
    /// The fields that stand before the text: Received, for a message that came over SMTP.
    pub top: Top,
    /// The complete text.
    pub text: NewText,
    /// Bytes of the text.
    pub size: u64,
    /// With `<` and `>`.
    pub message_id: String,
    /// Decoded.
    pub subject: String,
    /// The author's address.
    pub from: Option<Address>,
    /// The text has bytes above 127.
    pub eight_bit: bool,
    /// Header or envelope need SMTPUTF8.
    pub smtputf8: bool,
    /// None: by policy; true: REQUIRETLS or fail; false: as with `TLS-Required: No`.
    pub require_tls: Option<bool>,
    /// No attempt before this time; None: at once.
    pub not_before: Option<Time>,
    /// The request behind `not_before` (`for;N` or `until;TIME`); empty if none.
    pub future_release: String,
    /// The application's own data.
    pub extra: BTreeMap<String, String>,
    /// RET: full (true) or headers (false).
    pub ret_full: Option<bool>,
    /// ENVID; empty if none.
    pub envid: String,
    /// The application's mailing list that it belongs to; empty if none.
    pub list: String,
    /// If it is to be added once, however often it comes.
    pub once: Option<DoOnce>,
}

/// Makes an answer of the fromids of the recipients.
pub type MakeAnswer = Box<dyn FnOnce(&[String]) -> Vec<u8> + Send>;

/// What keeps a submission from being added twice.
pub struct DoOnce {
    /// What the submitter calls it; its account's own.
    pub key: String,
    /// A hash of what was asked.
    pub request: [u8; 32],
    /// From when on it may be added again.
    pub until: Time,
    /// Makes what is kept to be told to who comes again.
    pub answer: MakeAnswer,
}

impl std::fmt::Debug for DoOnce {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DoOnce")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// One recipient of a [`Submission`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubmittedRecipient {
    /// Who.
    pub address: Address,
    /// When a DSN is wanted.
    pub notify: Notify,
    /// ORCPT as `type;address`; empty if none.
    pub orcpt: String,
}

/// What a recipient of a submission is known by from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submitted {
    /// In the queue and the history.
    pub id: QueueId,
    /// The unique part of its reverse-path; empty when not used.
    pub from_id: String,
}

/// Why a message is not taken.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// There is nobody to send to.
    #[error("no recipients")]
    NoRecipients,
    /// The submitter's own fromid can stand for one recipient only.
    #[error("a reverse-path with a fromid of its own can have one recipient only")]
    FromIdRecipients,
    /// The submitter's own fromid was used before.
    #[error("the fromid {0:?} was used before")]
    FromIdInUse(String),
    /// It was added before.
    #[error("it was added before")]
    DoneBefore,
    /// The store can't take it.
    #[error(transparent)]
    Store(StoreError),
}

impl From<StoreError> for AddError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::FromIdInUse(id) => Self::FromIdInUse(id),
            StoreError::DoneBefore => Self::DoneBefore,
            error => Self::Store(error),
        }
    }
}

impl Queue {
    /// Takes a message. When this returns, it is durable, and due at once or at `not_before`.
    ///
    /// # Errors
    /// If there are no recipients or the store can't take it. Nothing is queued then.
    pub async fn add(&self, mut submission: Submission) -> Result<Vec<Submitted>, AddError> {
        let now = self.clock.now();
        let config = self.config.load_full();
        let once = submission.once.take();
        let account = submission.account.clone();
        let (message, text) = self.message(&config, submission, now)?;
        let from_ids = from_ids(std::slice::from_ref(&message));
        let accept = Accept {
            text: Some(text),
            queue: Some(message),
            once: once.map(|once| once.of(account, &from_ids, now)),
            ..Accept::default()
        };
        let accepted = self.store.accept(accept).await?;
        Ok(submitted(accepted.queue, from_ids))
    }

    /// Keeps the text of a message that is going to be added with others by [`add_all`](Self::add_all).
    ///
    /// # Errors
    /// If there are no recipients or the store can't take it.
    pub async fn stage(&self, submission: Submission) -> Result<Staged, AddError> {
        let config = self.config.load_full();
        let (mut message, text) = self.message(&config, submission, self.clock.now())?;
        let text = self.store.stage(text).await?;
        message.text = TextSource::Existing(text);
        Ok(Staged { message, text })
    }

    /// Takes messages of one account, all of them or none; gives what each recipient is known by, in their order.
    ///
    /// # Errors
    /// If the store can't take one. Their texts are let go then.
    pub async fn add_all(
        &self,
        account: &str,
        staged: Vec<Staged>,
        once: Option<DoOnce>,
    ) -> Result<Vec<Submitted>, AddError> {
        let (messages, texts): (Vec<_>, Vec<_>) = staged
            .into_iter()
            .map(|staged| (staged.message, staged.text))
            .unzip();
        let from_ids = from_ids(&messages);
        let once = once.map(|once| once.of(account.to_owned(), &from_ids, self.clock.now()));
        match self.store.accept_all(messages, once).await {
            Ok(queue) => Ok(submitted(queue, from_ids)),
            Err(error) => {
                self.forget(texts).await;
                Err(error.into())
            }
        }
    }

    /// Lets messages go that were staged and are not going to be added.
    pub async fn unstage(&self, staged: Vec<Staged>) {
        let texts = staged.into_iter().map(|staged| staged.text).collect();
        self.forget(texts).await;
    }

    async fn forget(&self, texts: Vec<TextId>) {
        // If it fails, they go at the next start.
        if let Err(error) = self.store.unstage(texts).await {
            warn!(%error, "texts that nobody needs stay until the next start");
        }
    }

    /// The record that a submission becomes, and its text.
    fn message(
        &self,
        config: &Dynamic,
        submission: Submission,
        now: Time,
    ) -> Result<(NewMessage, NewText), AddError> {
        if submission.recipients.is_empty() {
            return Err(AddError::NoRecipients);
        }
        let unique = from_id_path(config, &submission);
        if matches!(unique, Some(FromId::Own(_))) && submission.recipients.len() > 1 {
            return Err(AddError::FromIdRecipients);
        }
        let next_attempt = submission.not_before.map_or(now, |time| time.max(now));
        let recipients: Vec<NewRecipient> = submission
            .recipients
            .into_iter()
            .map(|recipient| {
                let (reverse_path, from_id) = match &unique {
                    Some(FromId::Made(path)) => path.with_id(&mut *self.rng(), now),
                    Some(FromId::Own(id)) => (submission.reverse_path.clone(), id.clone()),
                    None => (submission.reverse_path.clone(), String::new()),
                };
                NewRecipient {
                    reverse_path,
                    from_id,
                    recipient: recipient.address,
                    notify: recipient.notify,
                    orcpt: recipient.orcpt,
                    transport: String::new(),
                    hold: false,
                    next_attempt,
                }
            })
            .collect();
        // Where a fromid is used, answers come to it.
        let all_have_one = recipients.iter().all(|to| !to.from_id.is_empty());
        let own_envid = if !submission.envid.is_empty() || all_have_one {
            String::new()
        } else {
            header::timed_id(&mut *self.rng(), now)
        };
        let common = Common {
            own_envid,
            list: submission.list,
            account: submission.account,
            queued: now,
            from: submission.from,
            message_id: submission.message_id,
            subject: submission.subject,
            size: submission.top.len() + submission.size,
            eight_bit: submission.eight_bit,
            smtputf8: submission.smtputf8,
            require_tls: submission.require_tls,
            future_release: submission.future_release,
            ret_full: submission.ret_full,
            envid: submission.envid,
            extra: submission.extra,
        };
        let message = NewMessage {
            common,
            top: submission.top,
            text: TextSource::New,
            recipients,
        };
        Ok((message, submission.text))
    }
}

/// A message whose text is kept, and which is not queued yet.
#[derive(Debug)]
pub struct Staged {
    message: NewMessage,
    text: TextId,
}

impl DoOnce {
    fn of(self, account: String, from_ids: &[String], now: Time) -> Once {
        Once {
            account,
            key: self.key,
            request: self.request,
            answer: (self.answer)(from_ids),
            now,
            until: self.until,
        }
    }
}

fn from_ids(messages: &[NewMessage]) -> Vec<String> {
    let recipients = messages.iter().flat_map(|message| &message.recipients);
    recipients.map(|to| to.from_id.clone()).collect()
}

fn submitted(queue: Vec<QueueId>, from_ids: Vec<String>) -> Vec<Submitted> {
    let submitted = queue.into_iter().zip(from_ids);
    submitted
        .map(|(id, from_id)| Submitted { id, from_id })
        .collect()
}

/// A reverse-path that each recipient gets its own form of.
struct UniquePath {
    /// Local-part and separator.
    stem: String,
    host: Host,
}

impl UniquePath {
    fn with_id(&self, rng: &mut impl Rng, now: Time) -> (ReversePath, String) {
        let id = header::timed_id(rng, now);
        match LocalPart::from_decoded(&format!("{}{id}", self.stem)) {
            Ok(local) => (
                ReversePath::Mailbox(Address {
                    local,
                    host: self.host.clone(),
                }),
                id,
            ),
            // Too long with its id: then without.
            Err(_) => match LocalPart::from_decoded(&self.stem) {
                Ok(local) => (
                    ReversePath::Mailbox(Address {
                        local,
                        host: self.host.clone(),
                    }),
                    String::new(),
                ),
                Err(_) => (ReversePath::Null, String::new()),
            },
        }
    }
}

/// The fromids of a submission.
enum FromId {
    /// Each recipient gets one.
    Made(UniquePath),
    /// The submitter's.
    Own(String),
}

/// Whether this login's messages get a fromid: it is configured so, and the sender's domain has a separator. An address with
/// nothing behind its separator keeps it so, and has none.
fn from_id_path(config: &Dynamic, submission: &Submission) -> Option<FromId> {
    let login = submission.login.as_ref()?;
    if !config.uses_from_id(&submission.account, login) {
        return None;
    }
    let address = submission.reverse_path.address()?;
    let domain = config.domains.get(address.host.domain()?)?;
    let separators = &domain.localpart_catchall_separators;
    let separator = separators.first()?;
    let local = address.local.as_str();
    let cut = separators
        .iter()
        .filter_map(|separator| local.split_once(separator.as_str()))
        .min_by_key(|(base, _)| base.len());
    let base = match cut {
        Some((_, "")) if submission.own_from_id => return None,
        Some((_, id)) if submission.own_from_id => return Some(FromId::Own(id.to_owned())),
        Some((base, _)) => base,
        None => local,
    };
    Some(FromId::Made(UniquePath {
        stem: format!("{base}{separator}"),
        host: address.host.clone(),
    }))
}
