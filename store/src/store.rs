//! The handle through which everything else uses the store.

use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use postrider_smtp::Address;
use tokio::sync::watch;

use crate::{
    Accept, Accepted, Answered, ApiKey, ApiKeyId, Change, Claim, ClaimHooks, Claimed, ClaimedHooks,
    Counted, Credential, EventFilter, EventId, Found, HoldFilter, HoldRule, HoldRuleId, Hook,
    HookAttempt, HookFilter, HookId, LoggedEvent, Mail, MailChange, MailId, Message, NewApiKey,
    NewMessage, NewSuppression, NewText, NextAttempt, Once, OpenError, Options, Order, Page,
    QueueFilter, QueueId, Queued, Reference, Retired, RetiredFilter, RetiredHook,
    RetiredHookFilter, Sent, Settle, SettleHook, StoreError, Suppression, SuppressionId, Text,
    TextId, TextSource, TextWriter, Time, Top, engine::Durable, memory::Model,
};

/// What is kept durably. Clones are the same store.
#[derive(Clone)]
pub struct Store {
    engine: Arc<Engine>,
}

enum Engine {
    Model(Box<Model>),
    Durable(Durable),
}

/// How much there is of everything. Costs nothing to ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages to be sent, one per recipient, held ones too.
    pub queued: u64,
    /// Those of them that are held.
    pub held: u64,
    /// Those of them that are being attempted.
    pub claimed: u64,
    /// Sent and failed messages in the history.
    pub retired: u64,
    /// Webhook calls to be made.
    pub hooks: u64,
    /// Webhook calls in the history.
    pub retired_hooks: u64,
    /// Messages in mailboxes.
    pub mails: u64,
    /// Entries of suppression lists.
    pub suppressions: u64,
    /// Hold rules.
    pub hold_rules: u64,
    /// Bytes on disk that the journal takes; 0 in memory.
    pub journal_bytes: u64,
    /// Bytes of texts that are still referred to, in the journal and in files of their own.
    pub text_bytes: u64,
}

impl Store {
    /// Opens a data folder, making it if it is not there, and takes up where the last process stopped, however it did.
    /// All claims end.
    ///
    /// # Errors
    /// Each says what is wrong with the folder and what to do.
    pub fn open(options: Options) -> Result<Self, OpenError> {
        Ok(Self {
            engine: Arc::new(Engine::Durable(Durable::open(&options)?)),
        })
    }

    /// On another disk.
    #[cfg(test)]
    pub(crate) fn open_on(
        disk: Arc<dyn crate::disk::Disk>,
        options: &Options,
        mode: crate::engine::Mode,
    ) -> Result<Self, OpenError> {
        Ok(Self {
            engine: Arc::new(Engine::Durable(Durable::open_on(disk, options, mode)?)),
        })
    }

    /// Brings the index up to date.
    #[cfg(test)]
    pub(crate) async fn checkpoint(&self) {
        if let Engine::Durable(durable) = &*self.engine {
            durable.checkpoint().await;
        }
    }

    /// Ends all claims of a model.
    #[cfg(test)]
    pub(crate) fn crash(&self) {
        if let Engine::Model(memory) = &*self.engine {
            memory.crash();
        }
    }

    /// The last number that a text got: what was staged and went leaves no other trace.
    #[cfg(test)]
    pub(crate) fn last_text(&self) -> u64 {
        match &*self.engine {
            Engine::Model(memory) => memory.last_text(),
            Engine::Durable(durable) => durable.last_text(),
        }
    }

    /// A copy of a model.
    #[cfg(test)]
    pub(crate) fn fork(&self) -> Self {
        match &*self.engine {
            Engine::Model(memory) => Self {
                engine: Arc::new(Engine::Model(Box::new(memory.fork()))),
            },
            Engine::Durable(_) => self.clone(),
        }
    }

    /// An empty store that is gone when the last handle is dropped: for tests, and the model of what a store does.
    #[must_use]
    pub fn memory() -> Self {
        Self {
            engine: Arc::new(Engine::Model(Box::new(Model::new()))),
        }
    }

    /// Stops in good order: what was asked before is carried out, later calls fail with [`StoreError::Closed`].
    pub async fn close(self) {
        match &*self.engine {
            Engine::Model(memory) => memory.close(),
            Engine::Durable(durable) => durable.close().await,
        }
    }

    /// Waits until the store takes nothing any more, and tells why: [`StoreError::Closed`] after [`close`](Self::close), else
    /// a failure that only a new start can mend.
    pub async fn stopped(&self) -> StoreError {
        match &*self.engine {
            Engine::Model(_) => std::future::pending().await,
            Engine::Durable(durable) => durable.stopped().await,
        }
    }

    /// Begins a text. It is stored with the [`Accept`] or [`Settle`] that brings it.
    #[must_use]
    pub fn text_writer(&self) -> TextWriter {
        match &*self.engine {
            Engine::Model(_) => TextWriter::in_memory(),
            Engine::Durable(durable) => durable.text_writer(),
        }
    }

    /// The first bytes, `max` at most, of a text that is not stored yet.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn beginning(&self, text: &NewText, max: u64) -> Result<Bytes, StoreError> {
        match (text, &*self.engine) {
            (NewText::Inline(text), _) => {
                let max = usize::try_from(max).unwrap_or(usize::MAX);
                Ok(text.slice(..text.len().min(max)))
            }
            (NewText::File(file), Engine::Durable(durable)) => durable.beginning(file, max),
            (NewText::File(_), Engine::Model(_)) => {
                Err(StoreError::Invalid("a file of another store"))
            }
        }
    }

    /// Takes mail, messages to be sent, and events. When this returns, they are durable.
    ///
    /// # Errors
    /// [`StoreError::Full`] without room; then, as with every error, nothing was taken.
    pub async fn accept(&self, accept: Accept) -> Result<Accepted, StoreError> {
        accept.check()?;
        match &*self.engine {
            Engine::Model(memory) => memory.accept(accept),
            Engine::Durable(durable) => durable.accept(accept).await,
        }
    }

    /// Takes messages that are due, so that nobody else gets them until they are settled or the claim ends. Does not wait
    /// for the disk: the attempts that begin with it are made durable with what is written next.
    ///
    /// Costs what is claimed and what is skipped by `except`, however much is queued.
    ///
    /// # Errors
    /// If the store is closed or can't be read.
    pub async fn claim(&self, claim: Claim) -> Result<Claimed, StoreError> {
        match &*self.engine {
            Engine::Model(memory) => memory.claim(&claim),
            Engine::Durable(durable) => durable.claim(claim).await,
        }
    }

    /// Lets claims (message and fence) hold until a later time. False: it has ended already, and another may have it.
    ///
    /// # Errors
    /// If the store is closed.
    pub async fn renew(
        &self,
        claims: Vec<(QueueId, u64)>,
        until: Time,
    ) -> Result<Vec<bool>, StoreError> {
        match &*self.engine {
            Engine::Model(memory) => memory.renew(&claims, until),
            Engine::Durable(durable) => durable.renew(claims, until).await,
        }
    }

    /// Records what became of claimed messages, with the mail and events that follow from it; each is one atomic change.
    /// When this returns they are durable. False: the claim was not the last one of that message, or the message is gone;
    /// nothing was changed then.
    ///
    /// A claim that ran out but was not given to another can still be settled.
    ///
    /// # Errors
    /// If the store is closed or not one of them could be made durable, which then stay claimed.
    pub async fn settle(&self, settles: Vec<Settle>) -> Result<Vec<bool>, StoreError> {
        settles.iter().try_for_each(Settle::check)?;
        match &*self.engine {
            Engine::Model(memory) => memory.settle(settles),
            Engine::Durable(durable) => durable.settle(settles).await,
        }
    }

    /// Takes webhook calls that are due. A claim holds until it is settled or the process ends.
    ///
    /// # Errors
    /// If the store is closed or can't be read.
    pub async fn claim_hooks(&self, claim: ClaimHooks) -> Result<ClaimedHooks, StoreError> {
        match &*self.engine {
            Engine::Model(memory) => memory.claim_hooks(&claim),
            Engine::Durable(durable) => durable.claim_hooks(claim).await,
        }
    }

    /// Records what became of claimed webhook calls, as [`settle`](Self::settle) does.
    ///
    /// # Errors
    /// As for `settle`.
    pub async fn settle_hooks(&self, settles: Vec<SettleHook>) -> Result<Vec<bool>, StoreError> {
        match &*self.engine {
            Engine::Model(memory) => memory.settle_hooks(settles),
            Engine::Durable(durable) => durable.settle_hooks(settles).await,
        }
    }

    /// Moves when a message may have become due earlier than was told by the last claim.
    #[must_use]
    pub fn queue_changed(&self) -> watch::Receiver<u64> {
        match &*self.engine {
            Engine::Model(memory) => memory.queue_changed(),
            Engine::Durable(durable) => durable.queue_changed(),
        }
    }

    /// Likewise for webhook calls.
    #[must_use]
    pub fn hooks_changed(&self) -> watch::Receiver<u64> {
        match &*self.engine {
            Engine::Model(memory) => memory.hooks_changed(),
            Engine::Durable(durable) => durable.hooks_changed(),
        }
    }

    /// A stored text.
    ///
    /// # Errors
    /// [`StoreError::NoText`] if no record refers to it any more.
    pub async fn text(&self, id: TextId) -> Result<Text, StoreError> {
        match &*self.engine {
            Engine::Model(memory) => memory.text(id),
            Engine::Durable(durable) => durable.text(id),
        }
    }

    /// The message that has this top and this stored text.
    ///
    /// # Errors
    /// As for [`text`](Self::text).
    pub async fn message(&self, top: &Top, text: TextId) -> Result<Message, StoreError> {
        Ok(Message::new(top.clone(), self.text(text).await?))
    }

    /// The message of a record in the queue.
    ///
    /// # Errors
    /// As for [`text`](Self::text).
    pub async fn queued_message(&self, queued: &Queued) -> Result<Message, StoreError> {
        self.message(&queued.top, queued.text).await
    }

    /// The message of a record in a mailbox.
    ///
    /// # Errors
    /// As for [`text`](Self::text).
    pub async fn mail_message(&self, mail: &Mail) -> Result<Message, StoreError> {
        self.message(&mail.top, mail.text).await
    }

    /// A message in the queue; None if it is not there (any more).
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn queued(&self, id: QueueId) -> Result<Option<Queued>, StoreError> {
        match &*self.engine {
            Engine::Model(memory) => memory.queued(id),
            Engine::Durable(durable) => durable.queued(id),
        }
    }

    /// Whether somebody has claimed a message.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn is_claimed(&self, id: QueueId) -> Result<bool, StoreError> {
        match &*self.engine {
            Engine::Model(memory) => memory.is_claimed(id),
            Engine::Durable(durable) => durable.is_claimed(id),
        }
    }

    /// Messages in the queue that match, by their numbers, beginning behind `after`. With a filter for an account, a domain
    /// (`@example.com`), a transport, held ones or numbers, it looks at few others; without one that may be all, so it may take
    /// long: not to be called from where others wait.
    ///
    /// # Errors
    /// If they can't be read.
    pub async fn list(
        &self,
        filter: &QueueFilter,
        after: Option<QueueId>,
        order: Order,
        limit: usize,
    ) -> Result<Page<Queued, QueueId>, StoreError> {
        match &*self.engine {
            Engine::Model(memory) => memory.list(filter, after, order, limit),
            Engine::Durable(durable) => durable.list(filter, after, order, limit).await,
        }
    }

    /// A message in the history.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn retired(&self, id: QueueId) -> Result<Option<Retired>, StoreError> {
        match &*self.engine {
            Engine::Model(memory) => memory.retired(id),
            Engine::Durable(durable) => durable.retired(id),
        }
    }

    /// Messages in the history that match, as [`list`](Self::list).
    ///
    /// # Errors
    /// If they can't be read.
    pub async fn list_retired(
        &self,
        filter: &RetiredFilter,
        after: Option<QueueId>,
        order: Order,
        limit: usize,
    ) -> Result<Page<Retired, QueueId>, StoreError> {
        match &*self.engine {
            Engine::Model(memory) => memory.list_retired(filter, after, order, limit),
            Engine::Durable(durable) => durable.list_retired(filter, after, order, limit).await,
        }
    }

    /// Messages that are called so, queued or in the history; with `recipient` (in Unicode form, in any case) only to this one,
    /// with `account` only of this one. At most `limit`, in no certain order. One look-up, however many there are that are
    /// called otherwise.
    ///
    /// # Errors
    /// If they can't be read.
    pub async fn find(
        &self,
        reference: Reference<'_>,
        recipient: Option<&str>,
        account: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Found>, StoreError> {
        match &*self.engine {
            Engine::Model(memory) => memory.find(reference, recipient, account, limit),
            Engine::Durable(durable) => durable.find(reference, recipient, account, limit).await,
        }
    }

    /// Changes queued messages, and tells how many there were of them. Each message is changed as a whole; they are not
    /// changed at one moment.
    ///
    /// # Errors
    /// If it can't be made durable.
    pub async fn change(&self, ids: Vec<QueueId>, change: &Change) -> Result<u64, StoreError> {
        match &*self.engine {
            Engine::Model(memory) => memory.change(&ids, change),
            Engine::Durable(durable) => durable.change(ids, change).await,
        }
    }

    /// The entry of a suppression list; None if that base address is not on it.
    ///
    /// # Errors
    /// If it can't be read.
    #[doc(alias = "base_in_list")]
    pub async fn suppression(
        &self,
        account: &str,
        base: &str,
    ) -> Result<Option<Suppression>, StoreError> {
        match &*self.engine {
            Engine::Model(memory) => memory.suppression(account, base),
            Engine::Durable(durable) => durable.suppression(account, base),
        }
    }

    /// The suppression list of an account, or all, by number.
    ///
    /// # Errors
    /// If they can't be read.
    pub async fn list_suppressions(
        &self,
        account: Option<&str>,
        after: Option<SuppressionId>,
        limit: usize,
    ) -> Result<Page<Suppression, SuppressionId>, StoreError> {
        match &*self.engine {
            Engine::Model(memory) => memory.list_suppressions(account, after, limit),
            Engine::Durable(durable) => durable.list_suppressions(account, after, limit).await,
        }
    }

    /// Puts an address on a suppression list. False: it is there already, and stays as it is.
    ///
    /// # Errors
    /// If it can't be made durable.
    pub async fn suppress(&self, suppression: NewSuppression) -> Result<bool, StoreError> {
        match &*self.engine {
            Engine::Model(memory) => memory.suppress(suppression),
            Engine::Durable(durable) => durable.suppress(suppression).await,
        }
    }

    /// Takes a base address off a suppression list. False: it was not there.
    ///
    /// # Errors
    /// If it can't be made durable.
    pub async fn unsuppress(&self, account: &str, base: &str) -> Result<bool, StoreError> {
        match &*self.engine {
            Engine::Model(memory) => memory.unsuppress(account, base),
            Engine::Durable(durable) => durable.unsuppress(account, base).await,
        }
    }

    /// Keeps a text for messages that are going to be accepted by [`accept_all`](Self::accept_all). It goes with the process.
    ///
    /// # Errors
    /// If it can't be made durable.
    pub async fn stage(&self, text: NewText) -> Result<TextId, StoreError> {
        match &*self.engine {
            Engine::Model(memory) => memory.stage(text),
            Engine::Durable(durable) => durable.stage(text).await,
        }
    }

    /// Lets staged texts go.
    ///
    /// # Errors
    /// If it can't be made durable.
    pub async fn unstage(&self, ids: Vec<TextId>) -> Result<(), StoreError> {
        if ids.is_empty() {
            return Ok(());
        }
        match &*self.engine {
            Engine::Model(memory) => memory.unstage(&ids),
            Engine::Durable(durable) => durable.unstage(ids).await,
        }
    }

    /// Takes messages whose texts are staged: all of them, or none. Gives the numbers of their recipients, one after the other.
    ///
    /// # Errors
    /// If one of them can't be taken, or it can't be made durable.
    pub async fn accept_all(
        &self,
        messages: Vec<NewMessage>,
        once: Option<Once>,
    ) -> Result<Vec<QueueId>, StoreError> {
        if messages
            .iter()
            .any(|message| message.recipients.is_empty() || message.text == TextSource::New)
        {
            return Err(StoreError::Invalid(
                "a message without recipients, or without a staged text",
            ));
        }
        match &*self.engine {
            Engine::Model(memory) => memory.accept_all(messages, once),
            Engine::Durable(durable) => durable.accept_all(messages, once).await,
        }
    }

    /// Adds a key for the API.
    ///
    /// # Errors
    /// If it can't be made durable.
    pub async fn add_api_key(&self, key: NewApiKey) -> Result<ApiKeyId, StoreError> {
        match &*self.engine {
            Engine::Model(memory) => memory.add_api_key(key),
            Engine::Durable(durable) => durable.add_api_key(key).await,
        }
    }

    /// Removes a key for the API. False: there is none of this number.
    ///
    /// # Errors
    /// If it can't be made durable.
    pub async fn remove_api_key(&self, id: ApiKeyId) -> Result<bool, StoreError> {
        match &*self.engine {
            Engine::Model(memory) => memory.remove_api_key(id),
            Engine::Durable(durable) => durable.remove_api_key(id).await,
        }
    }

    /// A key for the API.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn api_key(&self, id: ApiKeyId) -> Result<Option<ApiKey>, StoreError> {
        match &*self.engine {
            Engine::Model(memory) => memory.api_key(id),
            Engine::Durable(durable) => durable.api_key(id),
        }
    }

    /// All keys for the API, by their numbers.
    ///
    /// # Errors
    /// If they can't be read.
    pub async fn api_keys(&self) -> Result<Vec<ApiKey>, StoreError> {
        match &*self.engine {
            Engine::Model(memory) => memory.api_keys(),
            Engine::Durable(durable) => durable.api_keys().await,
        }
    }

    /// The answer to what an account did once under this key, unless it is forgotten by now.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn answered(
        &self,
        account: &str,
        key: &str,
        now: Time,
    ) -> Result<Option<Answered>, StoreError> {
        match &*self.engine {
            Engine::Model(memory) => memory.answered(account, key, now),
            Engine::Durable(durable) => durable.answered(account, key, now),
        }
    }

    /// Events of an account's log, by their numbers in either order, beginning behind `after`.
    ///
    /// # Errors
    /// If they can't be read.
    pub async fn list_events(
        &self,
        filter: &EventFilter,
        after: Option<EventId>,
        order: Order,
        limit: usize,
    ) -> Result<Page<LoggedEvent, EventId>, StoreError> {
        match &*self.engine {
            Engine::Model(memory) => memory.list_events(filter, after, order, limit),
            Engine::Durable(durable) => durable.list_events(filter, after, order, limit).await,
        }
    }

    /// How many events of each kind an account had, by day and domain. Days are counted from 1970, in UTC, and kept for 400 days.
    ///
    /// # Errors
    /// If they can't be read.
    pub async fn counted_events(
        &self,
        account: &str,
        days: RangeInclusive<u64>,
    ) -> Result<Vec<(Counted, u64)>, StoreError> {
        match &*self.engine {
            Engine::Model(memory) => memory.counted_events(account, &days),
            Engine::Durable(durable) => durable.counted_events(account, days).await,
        }
    }

    /// Changes when there are more events.
    #[must_use]
    pub fn events_changed(&self) -> watch::Receiver<u64> {
        match &*self.engine {
            Engine::Model(memory) => memory.events_changed(),
            Engine::Durable(durable) => durable.events_changed(),
        }
    }

    /// What an account has sent since a time, counted by the hour: from the beginning of that hour.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn sent(&self, account: &str, since: Time) -> Result<Sent, StoreError> {
        match &*self.engine {
            Engine::Model(memory) => memory.sent(account, since),
            Engine::Durable(durable) => durable.sent(account, since),
        }
    }

    /// Whether an account has ever sent to a recipient.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn is_known(&self, account: &str, recipient: &Address) -> Result<bool, StoreError> {
        match &*self.engine {
            Engine::Model(memory) => memory.is_known(account, recipient),
            Engine::Durable(durable) => durable.is_known(account, recipient),
        }
    }

    /// The hold rules, by number.
    ///
    /// # Errors
    /// If they can't be read.
    pub async fn hold_rules(&self) -> Result<Vec<HoldRule>, StoreError> {
        match &*self.engine {
            Engine::Model(memory) => memory.hold_rules(),
            Engine::Durable(durable) => durable.hold_rules(),
        }
    }

    /// Adds a hold rule. All that is accepted from now on and matches is held.
    ///
    /// # Errors
    /// If it can't be made durable.
    pub async fn add_hold_rule(
        &self,
        filter: HoldFilter,
        created: Time,
    ) -> Result<HoldRuleId, StoreError> {
        match &*self.engine {
            Engine::Model(memory) => memory.add_hold_rule(filter, created),
            Engine::Durable(durable) => durable.add_hold_rule(filter, created).await,
        }
    }

    /// Removes a hold rule; what it held stays so. False: there is none of this number.
    ///
    /// # Errors
    /// If it can't be made durable.
    pub async fn remove_hold_rule(&self, id: HoldRuleId) -> Result<bool, StoreError> {
        match &*self.engine {
            Engine::Model(memory) => memory.remove_hold_rule(id),
            Engine::Durable(durable) => durable.remove_hold_rule(id).await,
        }
    }

    /// A webhook call that is to be made.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn hook(&self, id: HookId) -> Result<Option<Hook>, StoreError> {
        match &*self.engine {
            Engine::Model(memory) => memory.hook(id),
            Engine::Durable(durable) => durable.hook(id),
        }
    }

    /// Webhook calls that are to be made, by their numbers in either order, beginning behind `after`.
    ///
    /// # Errors
    /// If they can't be read.
    pub async fn list_hooks(
        &self,
        filter: &HookFilter,
        after: Option<HookId>,
        order: Order,
        limit: usize,
    ) -> Result<Page<Hook, HookId>, StoreError> {
        match &*self.engine {
            Engine::Model(memory) => memory.list_hooks(filter, after, order, limit),
            Engine::Durable(durable) => durable.list_hooks(filter, after, order, limit).await,
        }
    }

    /// Webhook calls in the history, likewise.
    ///
    /// # Errors
    /// If they can't be read.
    pub async fn list_retired_hooks(
        &self,
        filter: &RetiredHookFilter,
        after: Option<HookId>,
        order: Order,
        limit: usize,
    ) -> Result<Page<RetiredHook, HookId>, StoreError> {
        match &*self.engine {
            Engine::Model(memory) => memory.list_retired_hooks(filter, after, order, limit),
            Engine::Durable(durable) => {
                durable
                    .list_retired_hooks(filter, after, order, limit)
                    .await
            }
        }
    }

    /// Moves the next calls of webhooks, and tells of how many. A call that is being made is moved for the case that it fails, until
    /// its result says otherwise.
    ///
    /// # Errors
    /// If it can't be made durable.
    pub async fn schedule_hooks(
        &self,
        ids: Vec<HookId>,
        next: NextAttempt,
    ) -> Result<u64, StoreError> {
        match &*self.engine {
            Engine::Model(memory) => memory.schedule_hooks(&ids, next),
            Engine::Durable(durable) => durable.schedule_hooks(ids, next).await,
        }
    }

    /// Ends calls of webhooks that are not being made, with this as their last result, and tells how many. Each is kept in the history
    /// until the time beside it.
    ///
    /// # Errors
    /// If it can't be made durable.
    pub async fn end_hooks(
        &self,
        ends: Vec<(HookId, Option<Time>)>,
        result: &HookAttempt,
    ) -> Result<u64, StoreError> {
        match &*self.engine {
            Engine::Model(memory) => memory.end_hooks(&ends, result),
            Engine::Durable(durable) => durable.end_hooks(ends, result).await,
        }
    }

    /// A message in a mailbox.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn mail(&self, id: MailId) -> Result<Option<Mail>, StoreError> {
        match &*self.engine {
            Engine::Model(memory) => memory.mail(id),
            Engine::Durable(durable) => durable.mail(id),
        }
    }

    /// Messages of an account, in one mailbox or all, by their numbers, beginning after `after`.
    ///
    /// # Errors
    /// If they can't be read.
    pub async fn list_mails(
        &self,
        account: &str,
        mailbox: Option<&str>,
        after: Option<MailId>,
        limit: usize,
    ) -> Result<Page<Mail, MailId>, StoreError> {
        match &*self.engine {
            Engine::Model(memory) => memory.list_mails(account, mailbox, after, limit),
            Engine::Durable(durable) => durable.list_mails(account, mailbox, after, limit).await,
        }
    }

    /// Changes a mail of an account. False: the account has none of this number.
    ///
    /// # Errors
    /// If it can't be made durable.
    pub async fn change_mail(
        &self,
        account: &str,
        id: MailId,
        change: MailChange,
    ) -> Result<bool, StoreError> {
        match &*self.engine {
            Engine::Model(memory) => memory.change_mail(account, id, &change),
            Engine::Durable(durable) => durable.change_mail(account, id, change).await,
        }
    }

    /// Removes a mail of an account for good. False: the account has none of this number.
    ///
    /// # Errors
    /// If it can't be made durable.
    pub async fn remove_mail(&self, account: &str, id: MailId) -> Result<bool, StoreError> {
        match &*self.engine {
            Engine::Model(memory) => memory.remove_mail(account, id),
            Engine::Durable(durable) => durable.remove_mail(account, id).await,
        }
    }

    /// Whether there has been a mail of this number.
    pub async fn was_mail(&self, id: MailId) -> bool {
        match &*self.engine {
            Engine::Model(memory) => memory.was_mail(id),
            Engine::Durable(durable) => durable.was_mail(id),
        }
    }

    /// How an account proves who it is; None if no password was set.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn credential(&self, account: &str) -> Result<Option<Credential>, StoreError> {
        match &*self.engine {
            Engine::Model(memory) => memory.credential(account),
            Engine::Durable(durable) => durable.credential(account),
        }
    }

    /// Sets or removes an account's credential, durably.
    ///
    /// # Errors
    /// If it can't be made durable.
    pub async fn set_credential(
        &self,
        account: &str,
        credential: Option<Credential>,
    ) -> Result<(), StoreError> {
        match &*self.engine {
            Engine::Model(memory) => memory.set_credential(account, credential),
            Engine::Durable(durable) => durable.set_credential(account, credential).await,
        }
    }

    /// Removes the history whose time is over, at most so many records, and tells how many went; fewer than `max` when no
    /// more are over. Each costs the writer about as much as a message that is accepted, so who removes many does it in
    /// small steps, with pauses.
    ///
    /// # Errors
    /// If it can't be made durable.
    pub async fn expire(&self, now: Time, max: u64) -> Result<u64, StoreError> {
        match &*self.engine {
            Engine::Model(memory) => memory.expire(now, max),
            Engine::Durable(durable) => durable.expire(now, max).await,
        }
    }

    /// How much there is of everything.
    pub async fn counts(&self) -> Counts {
        match &*self.engine {
            Engine::Model(memory) => memory.counts(),
            Engine::Durable(durable) => durable.counts(),
        }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}
