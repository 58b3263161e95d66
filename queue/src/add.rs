//! The one way into the queue.

use std::collections::{BTreeMap, HashMap};

use postrider_config::Dynamic;
use postrider_smtp::{Address, Host, LocalPart, ReversePath, convert::TextNeeds};
use postrider_store::{
    Accept, Common, NewMessage, NewRecipient, NewText, Notify, Once, Origin, QueueId, StoreError,
    TextId, TextSource, Time, Top, Urgency,
};
use rand::Rng;
use tracing::warn;

use crate::{Queue, header, route};

/// A message that an account submits. Its taker has checked it.
#[derive(Debug)]
pub struct Submission {
    /// The account.
    pub account: String,
    /// The address that was used to log in.
    pub login: Option<Address>,
    /// The reverse-path, before a fromid is added.
    pub reverse_path: ReversePath,
    /// If this login uses fromids, the part of the reverse-path behind its separator is the
    /// submitter's own fromid.
    pub own_from_id: bool,
    /// At least one recipient. An address that is there twice gets the message once.
    pub recipients: Vec<SubmittedRecipient>,
    /// The fields that stand before the text: Received, for a message that came over SMTP.
    pub top: Top,
    /// The complete text.
    pub text: NewText,
    /// The size of the text in bytes.
    pub size: u64,
    /// The Message-ID with `<` and `>`.
    pub message_id: String,
    /// The decoded subject.
    pub subject: String,
    /// The author's address.
    pub from: Option<Address>,
    /// What top and text have that not every server takes.
    pub needs: TextNeeds,
    /// The header section or the envelope needs SMTPUTF8.
    pub smtputf8: bool,
    /// None: TLS by policy. True: REQUIRETLS or no delivery. False: as with `TLS-Required: No`.
    pub require_tls: Option<bool>,
    /// The time of the first attempt. None: at once.
    pub not_before: Option<Time>,
    /// The message waits until somebody releases it, whatever the hold rules say.
    pub hold: bool,
    /// The submitter's words for `not_before` (`for;N` or `until;TIME`). Empty without any.
    pub future_release: String,
    /// The application's own data.
    pub extra: BTreeMap<String, String>,
    /// RET: full (true) or headers (false).
    pub ret_full: Option<bool>,
    /// ENVID. Empty without one.
    pub envid: String,
    /// The application's mailing list. Empty without one.
    pub list: String,
    /// How urgently the message is to be delivered.
    pub urgency: Urgency,
    /// The key by which the message is added only once. None: each submission adds a message.
    pub once: Option<DoOnce>,
}

/// Makes the answer to the submitter, with an entry for each recipient that the submitter named.
pub type MakeAnswer = Box<dyn FnOnce(&[Named]) -> Vec<u8> + Send>;

/// A recipient that the submitter named, before its message has a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The number of its message less that of the first message. A recipient that is named twice
    /// has one message.
    pub place: u64,
    /// The unique part of the reverse-path. Empty if the login uses no fromids.
    pub from_id: String,
}

/// An idempotency key: it keeps a submission from being added twice.
pub struct DoOnce {
    /// The key. Each account has its own keys.
    pub key: String,
    /// A hash of the request.
    pub request: [u8; 32],
    /// When the key may be used again.
    pub until: Time,
    /// Makes the answer that is stored, for a submitter that uses the key again.
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
    /// The address.
    pub address: Address,
    /// For which results the submitter wants a DSN.
    pub notify: Notify,
    /// ORCPT as `type;address`. Empty without one.
    pub orcpt: String,
}

/// The names of one recipient's message from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submitted {
    /// Its number in the queue and in the history.
    pub id: QueueId,
    /// The unique part of its reverse-path. Empty if the login uses no fromids.
    pub from_id: String,
}

/// Why a message is not added.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// The message has no recipients.
    #[error("no recipients")]
    NoRecipients,
    /// A fromid of the submitter can stand for one recipient only.
    #[error("a reverse-path with a fromid of its own can have one recipient only")]
    FromIdRecipients,
    /// The fromid of the submitter was used before.
    #[error("the fromid {0:?} was used before")]
    FromIdInUse(String),
    /// The account was removed meanwhile.
    #[error("the account was removed")]
    AccountGone,
    /// The idempotency key was used before.
    #[error("it was added before")]
    DoneBefore,
    /// The store can't take the message.
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
    /// Adds a message. When this returns, the message is durable, and due at once or at
    /// `not_before`. Gives the names of the message of each recipient of the submission, in their
    /// order. A recipient that is there twice has the same names twice.
    ///
    /// # Errors
    /// If the message has no recipients, the account is gone, or the store can't take it. Then
    /// nothing is queued.
    pub async fn add(&self, mut submission: Submission) -> Result<Vec<Submitted>, AddError> {
        let now = self.clock.now();
        let config = self.config.load_full();
        let once = submission.once.take();
        let account = submission.account.clone();
        let held = self.hold_account(&account).await;
        let _held = held.ok_or(AddError::AccountGone)?;
        let (message, text, places) = self.message(&config, submission, now)?;
        let named = named([(&message, places.as_slice())]);
        let accept = Accept {
            text: Some(text),
            queue: vec![message],
            once: once.map(|once| once.of(account, &named, now)),
            ..Accept::default()
        };
        let accepted = self.store.accept(accept).await?;
        self.see_new_holds(&accepted.queue).await;
        Ok(submitted(&accepted.queue, named))
    }

    /// Stores the text of a message. [`add_all`](Self::add_all) adds the message later, with
    /// others.
    ///
    /// # Errors
    /// If the message has no recipients, or the store can't take it.
    pub async fn stage(&self, submission: Submission) -> Result<Staged, AddError> {
        let config = self.config.load_full();
        let (mut message, text, places) = self.message(&config, submission, self.clock.now())?;
        let text = self.store.stage(text).await?;
        message.text = TextSource::Existing(text);
        Ok(Staged {
            message,
            places,
            text,
        })
    }

    /// Adds messages of one account, all or none. Gives the names of each recipient's message, in
    /// their order.
    ///
    /// # Errors
    /// If the account is gone, or the store can't take a message. Then all texts are removed.
    pub async fn add_all(
        &self,
        account: &str,
        staged: Vec<Staged>,
        once: Option<DoOnce>,
    ) -> Result<Vec<Submitted>, AddError> {
        let rows = staged.iter();
        let named = named(rows.map(|staged| (&staged.message, staged.places.as_slice())));
        let once = once.map(|once| once.of(account.to_owned(), &named, self.clock.now()));
        let (messages, texts): (Vec<_>, Vec<_>) = staged
            .into_iter()
            .map(|staged| (staged.message, staged.text))
            .unzip();
        let added = match self.hold_account(account).await {
            Some(_held) => self.store.accept_all(messages, once).await,
            None => {
                self.forget(texts).await;
                return Err(AddError::AccountGone);
            }
        };
        match added {
            Ok(queue) => {
                self.see_new_holds(&queue).await;
                Ok(submitted(&queue, named))
            }
            Err(error) => {
                self.forget(texts).await;
                Err(error.into())
            }
        }
    }

    /// Removes the texts of staged messages that will not be added.
    pub async fn unstage(&self, staged: Vec<Staged>) {
        let texts = staged.into_iter().map(|staged| staged.text).collect();
        self.forget(texts).await;
    }

    async fn forget(&self, texts: Vec<TextId>) {
        // If this fails, the next start removes the texts.
        if let Err(error) = self.store.unstage(texts).await {
            warn!(%error, "texts that nobody needs stay until the next start");
        }
    }

    /// The record of a submission, its text, and for each recipient of the submission the place of
    /// its recipient in the record.
    fn message(
        &self,
        config: &Dynamic,
        submission: Submission,
        now: Time,
    ) -> Result<(NewMessage, NewText, Vec<usize>), AddError> {
        let mut submission = submission;
        let places = take_once(&mut submission.recipients);
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
                    route: String::new(),
                    hold: submission.hold,
                    next_attempt,
                }
            })
            .collect();
        let common = Common {
            list: submission.list,
            account: submission.account,
            queued: now,
            from: submission.from,
            message_id: submission.message_id,
            subject: submission.subject,
            size: submission.top.len() + submission.size,
            needs: submission.needs,
            smtputf8: submission.smtputf8,
            require_tls: submission.require_tls,
            future_release: submission.future_release,
            ret_full: submission.ret_full,
            envid: submission.envid,
            extra: submission.extra,
            origin: Origin::Sent,
            urgency: submission.urgency,
        };
        let mut message = NewMessage {
            common,
            top: submission.top,
            text: TextSource::New,
            recipients,
        };
        route::note(&mut message, config);
        Ok((message, submission.text, places))
    }
}

/// A message that is not queued yet, but whose text is stored.
#[derive(Debug)]
pub struct Staged {
    message: NewMessage,
    /// For each recipient of the submission, the place of its recipient in the message.
    places: Vec<usize>,
    text: TextId,
}

impl DoOnce {
    fn of(self, account: String, named: &[Named], now: Time) -> Once {
        Once {
            account,
            key: self.key,
            request: self.request,
            answer: (self.answer)(named),
            now,
            until: self.until,
        }
    }
}

/// Leaves each recipient once, where it is first. Gives the place of each.
pub(crate) fn take_once(recipients: &mut Vec<SubmittedRecipient>) -> Vec<usize> {
    let mut known: HashMap<Address, usize> = HashMap::with_capacity(recipients.len());
    let mut once: Vec<SubmittedRecipient> = Vec::with_capacity(recipients.len());
    let mut places = Vec::with_capacity(recipients.len());
    for recipient in recipients.drain(..) {
        let place = *known.entry(recipient.address.clone()).or_insert(once.len());
        match once.get_mut(place) {
            Some(first) => first.add(recipient),
            None => once.push(recipient),
        }
        places.push(place);
    }
    *recipients = once;
    places
}

impl SubmittedRecipient {
    /// Adds the wishes of the same recipient.
    fn add(&mut self, other: Self) {
        self.notify = match (self.notify.given, other.notify.given) {
            (true, true) => Notify {
                success: self.notify.success || other.notify.success,
                failure: self.notify.failure || other.notify.failure,
                delay: self.notify.delay || other.notify.delay,
                given: true,
            },
            // Nothing less than what happens without a wish.
            (true, false) | (false, true) => Notify {
                success: self.notify.success || other.notify.success,
                failure: true,
                delay: true,
                given: true,
            },
            (false, false) => self.notify,
        };
        if self.orcpt.is_empty() {
            self.orcpt = other.orcpt;
        }
    }
}

/// The recipients of submissions, as their submitter named them.
fn named<'a>(messages: impl IntoIterator<Item = (&'a NewMessage, &'a [usize])>) -> Vec<Named> {
    let mut named = Vec::new();
    let mut first = 0;
    for (message, places) in messages {
        named.extend(places.iter().map(|place| {
            Named {
                place: first + *place as u64,
                from_id: message
                    .recipients
                    .get(*place)
                    .map(|to| to.from_id.clone())
                    .unwrap_or_default(),
            }
        }));
        first += message.recipients.len() as u64;
    }
    named
}

fn submitted(queue: &[QueueId], named: Vec<Named>) -> Vec<Submitted> {
    let submitted = named.into_iter().filter_map(|named| {
        let id = *queue.get(usize::try_from(named.place).ok()?)?;
        Some(Submitted {
            id,
            from_id: named.from_id,
        })
    });
    submitted.collect()
}

/// The common part of the reverse-paths of a submission. Each recipient gets an own id behind it.
pub(crate) struct UniquePath {
    /// The local-part with its separator.
    pub(crate) stem: String,
    pub(crate) host: Host,
}

impl UniquePath {
    pub(crate) fn with_id(&self, rng: &mut impl Rng, now: Time) -> (ReversePath, String) {
        let id = header::timed_id(rng, now);
        match LocalPart::from_decoded(&format!("{}{id}", self.stem)) {
            Ok(local) => (
                ReversePath::Mailbox(Address {
                    local,
                    host: self.host.clone(),
                }),
                id,
            ),
            // The local-part is too long with an id, so it has none.
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
    /// Each recipient gets a new fromid.
    Made(UniquePath),
    /// The fromid of the submitter.
    Own(String),
}

/// Which fromids a submission gets. None: its login has none configured, or the sender's domain has
/// no separator. An address that ends with its separator stays as it is and gets no fromid.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipient_that_is_named_twice_counts_once() {
        let to = |address: &str, notify: &str, orcpt: &str| SubmittedRecipient {
            address: address.parse().unwrap(),
            notify: Notify {
                success: notify.contains('s'),
                failure: notify.contains('f'),
                delay: notify.contains('d'),
                given: !notify.is_empty(),
            },
            orcpt: orcpt.to_owned(),
        };
        let mut recipients = vec![
            to("a@b\u{fc}cher.test", "s", ""),
            to("A@b\u{fc}cher.test", "", ""),
            to("a@XN--BCHER-KVA.test", "f", "rfc822;x@y.test"),
            to("b@x.test", "s", "rfc822;b@x.test"),
            to("\"a\"@b\u{fc}cher.test", "n", ""),
            to("b@x.test", "", "rfc822;c@x.test"),
        ];
        assert_eq!(take_once(&mut recipients), [0, 1, 0, 2, 0, 2]);
        assert_eq!(
            recipients,
            [
                to("a@b\u{fc}cher.test", "sf", "rfc822;x@y.test"),
                to("A@b\u{fc}cher.test", "", ""),
                to("b@x.test", "sfd", "rfc822;b@x.test"),
            ]
        );
    }
}
