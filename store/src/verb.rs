//! The verbs: what can be asked of a store. One call is one atomic unit; nobody is answered before it is durable.

use std::{collections::HashSet, sync::Arc, time::Duration};

use bytes::Bytes;
use postrider_smtp::{Address, Domain, Host, ReversePath};
use serde::{Deserialize, Serialize};

use crate::{
    ApiKey, ApiKeyId, Event, EventId, Hook, HookId, HookKind, LoggedEvent, Mail, MailId, QueueId,
    Scope, StoreError, Suppression, SuppressionId, TextFile, TextId, Time, Top,
    record::{
        Arrival, Attempt, Common, HookAttempt, Notify, OutgoingEvent, Queued, Retired, RetiredHook,
    },
};

/// A message's results; what is heard of it beyond that is not recorded.
pub(crate) const RESULTS_MAX: usize = 100;

/// A message text to be stored.
#[derive(Debug)]
pub enum NewText {
    /// Held in memory and appended to the journal: at most [`crate::INLINE_TEXT_MAX`] bytes.
    Inline(Bytes),
    /// Already written to a file of its own, and synced.
    File(TextFile),
}

/// Which text a new record refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TextSource {
    /// The one that this unit brings along.
    New,
    /// One that is stored already and alive.
    Existing(TextId),
}

/// Mail, messages to be sent and events that come into being together, or not at all.
#[derive(Debug, Default)]
pub struct Accept {
    /// The text; None if nothing here refers to a new one.
    pub text: Option<NewText>,
    /// To be sent.
    pub queue: Option<NewMessage>,
    /// To be put in mailboxes.
    pub mails: Vec<NewMail>,
    /// Events.
    pub hooks: Vec<NewHook>,
    /// What is heard of messages sent earlier.
    pub notes: Vec<Note>,
    /// Addresses not to be mailed any more. Those that are on the list already stay as they are.
    pub suppress: Vec<NewSuppression>,
    /// What is written down in the accounts' logs.
    pub events: Vec<NewEvent>,
    /// If it is to be done once. When it was done before, nothing happens, and the error is [`StoreError::DoneBefore`].
    pub once: Option<Once>,
}

/// An event for the log of an account. The fields are those of [`LoggedEvent`](crate::LoggedEvent).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "each is described at the field of the same name of LoggedEvent"
)]
pub struct NewEvent {
    pub account: String,
    pub recipient: String,
    pub told: OutgoingEvent,
    pub keep_until: Time,
}

impl NewEvent {
    /// What is told when the suppressions that came with it were there already: not that it was this one that suppressed, and
    /// nothing of one who unsubscribed again.
    pub(crate) fn not_suppressing(mut self) -> Option<Self> {
        self.told.suppressing = false;
        (self.told.event != Event::Unsubscribed).then_some(self)
    }

    /// The record that it becomes.
    pub(crate) fn event(self, id: EventId) -> LoggedEvent {
        LoggedEvent {
            id,
            account: self.account,
            recipient: self.recipient,
            told: self.told,
            keep_until: self.keep_until,
        }
    }

    /// The number that it gets behind this one.
    pub(crate) fn number(&self, last: u64) -> u64 {
        last.saturating_add(1)
            .max(self.told.queued.0.max(0).cast_unsigned())
    }

    /// Where it is counted.
    pub(crate) fn counted_as(&self) -> Counted {
        Counted {
            day: day(self.told.queued),
            account: self.account.clone(),
            event: self.told.event,
            domain: self
                .recipient
                .rsplit_once('@')
                .map_or("", |(_, domain)| domain)
                .to_owned(),
        }
    }
}

/// Days since 1970, in UTC.
pub(crate) fn day(time: Time) -> u64 {
    hour(time) / 24
}

/// Days for which events are counted.
pub(crate) const COUNTED_DAYS: u64 = 400;

/// What events are counted by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Counted {
    /// Days since 1970, in UTC.
    pub day: u64,
    /// Whose.
    pub account: String,
    /// Of which kind.
    pub event: Event,
    /// The recipients' domain, in Unicode form.
    pub domain: String,
}

/// Which events of an account's log are listed. Given fields must all match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Whose.
    pub account: String,
    /// Of these kinds; empty: any.
    pub events: Vec<Event>,
    /// About messages to this recipient, in Unicode form.
    pub recipient: Option<String>,
    /// About messages with this Message-ID.
    pub message_id: Option<String>,
    /// Made at this time or later.
    pub since: Option<Time>,
    /// Made before this time.
    pub before: Option<Time>,
}

impl EventFilter {
    /// Whether it matches an event.
    #[must_use]
    pub fn matches(&self, event: &LoggedEvent) -> bool {
        let told = &event.told;
        event.account == self.account
            && (self.events.is_empty() || self.events.contains(&told.event))
            && self
                .recipient
                .as_ref()
                .is_none_or(|recipient| *recipient == event.recipient)
            && self
                .message_id
                .as_ref()
                .is_none_or(|id| *id == told.message_id)
            && self.since.is_none_or(|since| told.queued >= since)
            && self.before.is_none_or(|before| told.queued < before)
    }

    /// The events that are looked at for it.
    pub(crate) fn group(&self) -> String {
        match (&self.message_id, &self.recipient) {
            (Some(id), _) => event_group('m', &self.account, id),
            (None, Some(recipient)) => event_group('r', &self.account, recipient),
            (None, None) => event_group('a', &self.account, ""),
        }
    }
}

/// The groups that an event is listed by.
pub(crate) fn event_groups(event: &LoggedEvent) -> Vec<String> {
    ['a', 'r', 'm']
        .iter()
        .filter_map(|kind| event_group_of(*kind, event))
        .collect()
}

/// Whether an event is in the group of this name.
pub(crate) fn in_event_group(name: &str, event: &LoggedEvent) -> bool {
    let kind = name.chars().next();
    kind.and_then(|kind| event_group_of(kind, event))
        .is_some_and(|group| group == name)
}

/// The one of a kind that an event is in.
fn event_group_of(kind: char, event: &LoggedEvent) -> Option<String> {
    let of = match kind {
        'a' => "",
        'r' => &event.recipient,
        'm' => &event.told.message_id,
        _ => return None,
    };
    Some(event_group(kind, &event.account, of))
}

/// With the account's length, so that no two are written alike.
fn event_group(kind: char, account: &str, of: &str) -> String {
    format!("{kind}{}.{account}{of}", account.len())
}

/// What keeps something from being done twice, for a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Once {
    /// Who does it.
    pub account: String,
    /// What the caller calls it.
    pub key: String,
    /// A hash of what was asked.
    pub request: [u8; 32],
    /// What is to be told to who asks again; the numbers of what is queued are kept beside it.
    pub answer: Vec<u8>,
    /// When it is done.
    pub now: Time,
    /// From when on it may be done again.
    pub until: Time,
}

/// A key for the API. The fields are those of [`ApiKey`](crate::ApiKey).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "each is described at the field of the same name of ApiKey"
)]
pub struct NewApiKey {
    pub name: String,
    pub account: String,
    pub hash: [u8; 32],
    pub scopes: Vec<Scope>,
    pub created: Time,
    pub expires: Option<Time>,
}

impl NewApiKey {
    /// The record that it becomes.
    pub(crate) fn key(self, id: ApiKeyId) -> ApiKey {
        ApiKey {
            id,
            name: self.name,
            account: self.account,
            hash: self.hash,
            scopes: self.scopes,
            created: self.created,
            expires: self.expires,
        }
    }
}

/// Something heard of a message that is queued or in the history. One that is neither changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// The message.
    pub id: QueueId,
    /// Added to its results. Its start is the message's last activity.
    pub result: Attempt,
}

/// An address to be put on a suppression list. The fields are those of [`Suppression`](crate::Suppression).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "each is described at the field of the same name of Suppression"
)]
pub struct NewSuppression {
    pub account: String,
    pub base: String,
    pub list: String,
    pub original: String,
    pub created: Time,
    pub manual: bool,
    pub reason: String,
}

/// What a base address is called as one of a mailing list, where entries of suppression lists are looked up; as it is without a
/// list.
#[must_use]
pub fn base_in_list(base: &str, list: &str) -> String {
    match list {
        "" => base.to_owned(),
        list => format!("{base}\n{list}"),
    }
}

/// A name by which what comes back calls a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reference<'a> {
    /// The unique part of its reverse-path.
    FromId(&'a str),
    /// The ENVID it was sent with.
    Envid(&'a str),
    /// Its Message-ID with `<` and `>`.
    MessageId(&'a str),
    /// An entry of the application's own data: of the first five that have 200 bytes at most.
    Extra {
        /// Whose application.
        account: &'a str,
        /// Its key.
        key: &'a str,
        /// Its value.
        value: &'a str,
    },
}

/// A message that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// In the queue.
    Queued(Queued),
    /// In the history.
    Retired(Retired),
}

/// What an administrator changes of queued messages. None leaves as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Change {
    /// Held or not.
    pub hold: Option<bool>,
    /// When it is tried next.
    pub next_attempt: Option<NextAttempt>,
    /// Forced transport; empty: by routes.
    pub transport: Option<String>,
    /// As [`Common::require_tls`].
    pub require_tls: Option<Option<bool>>,
}

/// A new time for the next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NextAttempt {
    /// At this time.
    At(Time),
    /// Later by so many microseconds; earlier if negative.
    Shift(i64),
}

impl NextAttempt {
    pub(crate) const fn instead_of(self, before: Time) -> Time {
        match self {
            Self::At(time) => time,
            Self::Shift(micros) => Time(before.0.saturating_add(micros)),
        }
    }
}

/// In which order records are listed: by their numbers, which is the order in which they came to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Oldest first.
    #[default]
    Ascending,
    /// Newest first.
    Descending,
}

/// A message to be sent to one or more recipients.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NewMessage {
    /// What the recipients have in common.
    pub common: Common,
    /// The fields before the text, for all recipients.
    pub top: Top,
    /// Its text.
    pub text: TextSource,
    /// At least one. Ids are given in this order, consecutive.
    pub recipients: Vec<NewRecipient>,
}

/// One recipient of a [`NewMessage`]. The fields are those of [`Queued`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "each is described at the field of the same name of Queued"
)]
pub struct NewRecipient {
    pub reverse_path: ReversePath,
    pub from_id: String,
    pub recipient: Address,
    pub notify: Notify,
    pub orcpt: String,
    pub transport: String,
    pub hold: bool,
    pub next_attempt: Time,
}

/// A message to be put in a mailbox. The fields are those of [`crate::Mail`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "each is described at the field of the same name of Mail"
)]
pub struct NewMail {
    pub account: String,
    pub mailbox: String,
    pub top: Top,
    pub text: TextSource,
    pub size: u64,
    pub received: Time,
    pub flags: Vec<String>,
    pub dsn: bool,
    pub smtp: Option<Arrival>,
}

/// A webhook call to be made.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "each is described at the field of the same name of Hook"
)]
pub struct NewHook {
    pub account: String,
    pub url: String,
    pub authorization: String,
    pub kind: NewHookKind,
    pub submitted: Time,
    pub next_attempt: Time,
}

/// What a new webhook call is about.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum NewHookKind {
    /// What became of a sent message.
    Outgoing(OutgoingEvent),
    /// The mail at this index of the same unit's `mails`.
    Incoming(u32),
    /// A mail that was told of before, and whose text is still there.
    Again(Box<Mail>),
}

/// The numbers given to what was accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// One for each recipient, in their order.
    pub queue: Vec<QueueId>,
    /// One for each mail, in their order.
    pub mails: Vec<MailId>,
}

/// Where a queued message goes: the recipient's domain in A-labels, lower-case, or the address literal with brackets.
pub type Destination = String;

/// Which due messages are wanted.
#[derive(Clone, Debug)]
pub struct Claim {
    /// What is due at this time.
    pub now: Time,
    /// At most this many in all.
    pub max: usize,
    /// At most this many of one destination.
    pub max_per_destination: usize,
    /// Only of this destination.
    pub only: Option<Destination>,
    /// None of these (their limits are used up).
    pub except: HashSet<Destination>,
    /// How long the claim holds, unless renewed. A claim of a process that died ends with it.
    pub lease: Duration,
}

/// What a claim gives.
#[derive(Clone, Debug, Default)]
pub struct Claimed {
    /// The messages, those of one destination together, due ones first. `attempts` already counts this attempt.
    pub messages: Vec<Queued>,
    /// When the next message that is not in `except` and not claimed falls due; in the past if there was no room for it.
    pub next_due: Option<Time>,
}

/// What became of a claimed message.
#[derive(Debug)]
pub struct Settle {
    /// The message.
    pub id: QueueId,
    /// That of the claim, or the present one for [`Party::Administrator`]. A settlement with an older one changes nothing.
    pub fence: u64,
    /// Who settles it.
    pub party: Party,
    /// Recorded in its results. None when no attempt was made (see [`Outcome::Release`]).
    pub attempt: Option<Attempt>,
    /// What happens to it.
    pub outcome: Outcome,
    /// A "delayed" DSN goes out with this.
    pub delay_told: bool,
    /// A text that comes along (a DSN).
    pub text: Option<NewText>,
    /// Mail that comes into being with it: a DSN, or the delivery of localserve, which refers to the message's own text.
    pub mails: Vec<NewMail>,
    /// Events that tell of it.
    pub hooks: Vec<NewHook>,
    /// As in [`Accept`].
    pub suppress: Vec<NewSuppression>,
    /// As in [`Accept`].
    pub events: Vec<NewEvent>,
}

/// Who settles a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Party {
    /// Who claimed it.
    #[default]
    Claimant,
    /// An administrator, who ends it while nobody has it claimed; one that is claimed stays as it is.
    Administrator,
}

/// What happens to a claimed message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Given back as it was, due at once; the attempt does not count.
    Release,
    /// Tried again at this time.
    Retry(Time),
    /// Its end.
    Retire {
        /// The next hop accepted it.
        success: bool,
        /// When it ended.
        now: Time,
        /// Until when it is kept in the history; None: not kept.
        keep_until: Option<Time>,
    },
}

/// Which due webhook calls are wanted.
#[derive(Clone, Debug)]
pub struct ClaimHooks {
    /// What is due at this time.
    pub now: Time,
    /// At most this many in all.
    pub max: usize,
    /// At most this many of an account to one URL.
    pub max_per_lane: usize,
    /// None of these [lanes](hook_lane) (their limits are used up).
    pub except: HashSet<String>,
}

/// What calls have in common that are made one after another, or only so many at once: the account and the URL.
#[must_use]
pub fn hook_lane(account: &str, url: &str) -> String {
    // Neither can have a line end.
    format!("{account}\n{url}")
}

/// What a claim of webhook calls gives. Never two of the same message and URL: the later waits for the end of the earlier.
#[derive(Clone, Debug, Default)]
pub struct ClaimedHooks {
    /// The calls. `attempts` already counts this one.
    pub hooks: Vec<Hook>,
    /// As in [`Claimed`].
    pub next_due: Option<Time>,
}

/// What became of a claimed webhook call.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SettleHook {
    /// The call.
    pub id: HookId,
    /// That of the claim.
    pub fence: u64,
    /// Recorded in its results.
    pub attempt: HookAttempt,
    /// `Release` gives it back, as for messages.
    pub outcome: Outcome,
}

/// Which queued messages are listed. An empty filter matches all; given fields must all match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct QueueFilter {
    /// One of these; empty: any.
    pub ids: Vec<QueueId>,
    /// Of this account.
    pub account: Option<String>,
    /// The reverse-path, in its Unicode form, has this substring. `@example.com` asks for a domain.
    pub from: Option<String>,
    /// Likewise the recipient.
    pub to: Option<String>,
    /// Held, or not.
    pub hold: Option<bool>,
    /// Forced to this transport.
    pub transport: Option<String>,
    /// Queued before this time.
    pub submitted_before: Option<Time>,
    /// Queued after this time.
    pub submitted_after: Option<Time>,
    /// Next attempt before this time.
    pub next_attempt_before: Option<Time>,
    /// Next attempt after this time.
    pub next_attempt_after: Option<Time>,
}

/// Which messages of the history are listed. An empty filter matches all; given fields must all match.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RetiredFilter {
    /// One of these; empty: any.
    pub ids: Vec<QueueId>,
    /// Of this account.
    pub account: Option<String>,
    /// As in [`QueueFilter`].
    pub from: Option<String>,
    /// Likewise the recipient.
    pub to: Option<String>,
    /// To exactly this recipient, in its Unicode form.
    pub recipient: Option<String>,
    /// Forced to this transport.
    pub transport: Option<String>,
    /// The next hop accepted it, or not.
    pub success: Option<bool>,
    /// Queued before this time.
    pub submitted_before: Option<Time>,
    /// Queued after this time.
    pub submitted_after: Option<Time>,
    /// Last activity before this time.
    pub last_activity_before: Option<Time>,
    /// Last activity after this time.
    pub last_activity_after: Option<Time>,
}

/// A page of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T, C> {
    /// In the listing's order.
    pub items: Vec<T>,
    /// Where the next page begins; None at the end.
    pub next: Option<C>,
}

impl Accept {
    /// Whether its parts refer to each other as they should.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        if self
            .queue
            .as_ref()
            .is_some_and(|message| message.recipients.is_empty())
        {
            return Err(StoreError::Invalid("a message without recipients"));
        }
        let queued = self.queue.iter().map(|message| message.text);
        check(self.text.as_ref(), queued, &self.mails, &self.hooks)
    }
}

impl Settle {
    /// Likewise.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        check(
            self.text.as_ref(),
            std::iter::empty(),
            &self.mails,
            &self.hooks,
        )
    }
}

fn check(
    text: Option<&NewText>,
    queued: impl Iterator<Item = TextSource>,
    mails: &[NewMail],
    hooks: &[NewHook],
) -> Result<(), StoreError> {
    let mut sources = queued.chain(mails.iter().map(|mail| mail.text));
    if text.is_none() && sources.any(|source| source == TextSource::New) {
        return Err(StoreError::Invalid(
            "a record refers to a new text, but there is none",
        ));
    }
    let outside = |hook: &NewHook| matches!(hook.kind, NewHookKind::Incoming(index) if index as usize >= mails.len());
    if hooks.iter().any(outside) {
        return Err(StoreError::Invalid(
            "an event tells of a mail that is not there",
        ));
    }
    Ok(())
}

/// Whether it is one of those asked for; without any, all are.
fn is_among<I: PartialEq>(ids: &[I], id: I) -> bool {
    ids.is_empty() || ids.contains(&id)
}

fn is<T>(wanted: Option<&T>, test: impl FnOnce(&T) -> bool) -> bool {
    wanted.is_none_or(test)
}

impl QueueFilter {
    /// Whether a message matches.
    #[must_use]
    pub fn matches(&self, queued: &Queued) -> bool {
        is_among(&self.ids, queued.id) && self.matches_but_for_ids(queued)
    }

    /// For a message that is known to be among those asked for.
    pub(crate) fn matches_but_for_ids(&self, queued: &Queued) -> bool {
        let (account, transport) = (self.account.as_ref(), self.transport.as_ref());
        is_sent(queued, account, transport)
            && is_from_to(queued, self.from.as_ref(), self.to.as_ref())
            && is(self.hold.as_ref(), |hold| queued.hold == *hold)
            && is_between(
                queued.common.queued,
                self.submitted_after,
                self.submitted_before,
            )
            && is_between(
                queued.next_attempt,
                self.next_attempt_after,
                self.next_attempt_before,
            )
    }

    /// The group of messages that it asks for, if there is one: fewer to look at than all.
    pub(crate) fn group(&self) -> Option<Group> {
        in_domain(self.to.as_ref(), Group::ToDomain)
            .or_else(|| in_domain(self.from.as_ref(), Group::FromDomain))
            .or_else(|| self.hold?.then_some(Group::Held))
            .or_else(|| forced_to(self.transport.as_ref()))
            .or_else(|| self.account.clone().map(Group::Account))
    }
}

impl RetiredFilter {
    /// Whether a message matches.
    #[must_use]
    pub fn matches(&self, retired: &Retired) -> bool {
        is_among(&self.ids, retired.message.id) && self.matches_but_for_ids(retired)
    }

    /// For a message that is known to be among those asked for.
    pub(crate) fn matches_but_for_ids(&self, retired: &Retired) -> bool {
        let message = &retired.message;
        let (account, transport) = (self.account.as_ref(), self.transport.as_ref());
        is_sent(message, account, transport)
            && is(self.success.as_ref(), |success| retired.success == *success)
            && is_between(
                message.common.queued,
                self.submitted_after,
                self.submitted_before,
            )
            && is_between(
                retired.last_activity,
                self.last_activity_after,
                self.last_activity_before,
            )
            && is(self.recipient.as_ref(), |recipient| {
                message.recipient.unicode() == *recipient
            })
            && is_from_to(message, self.from.as_ref(), self.to.as_ref())
    }

    /// As for queued messages.
    pub(crate) fn group(&self) -> Option<Group> {
        self.recipient
            .clone()
            .map(Group::Recipient)
            .or_else(|| in_domain(self.to.as_ref(), Group::ToDomain))
            .or_else(|| in_domain(self.from.as_ref(), Group::FromDomain))
            .or_else(|| forced_to(self.transport.as_ref()))
            .or_else(|| (self.success == Some(false)).then_some(Group::Failed))
            .or_else(|| self.account.clone().map(Group::Account))
    }
}

/// Messages that can be listed without looking at others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    Account(String),
    /// By the reverse-path's domain in A-labels.
    FromDomain(String),
    /// By the recipient's.
    ToDomain(String),
    /// In Unicode form.
    Recipient(String),
    Transport(String),
    Held,
    Failed,
}

impl Group {
    /// As in an index.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Account(name) => format!("a{name}"),
            Self::FromDomain(name) => format!("f{name}"),
            Self::ToDomain(name) => format!("t{name}"),
            Self::Recipient(name) => format!("r{name}"),
            Self::Transport(name) => format!("x{name}"),
            Self::Held => "h".to_owned(),
            Self::Failed => "!".to_owned(),
        }
    }

    /// Whether a queued message is in the group of this name: as [`of_queued`](Self::of_queued) says, but without making
    /// all names.
    pub(crate) fn has_queued(name: &str, queued: &Queued) -> bool {
        match name.split_at_checked(1) {
            Some(("h", "")) => queued.hold,
            Some((kind, of)) => Self::has_message(kind, of, queued),
            None => false,
        }
    }

    /// Likewise one in the history.
    pub(crate) fn has_retired(name: &str, retired: &Retired) -> bool {
        match name.split_at_checked(1) {
            Some(("!", "")) => !retired.success,
            Some(("r", of)) => is_address(&retired.message.recipient, of),
            Some((kind, of)) => Self::has_message(kind, of, &retired.message),
            None => false,
        }
    }

    fn has_message(kind: &str, of: &str, message: &Queued) -> bool {
        match kind {
            "a" => message.common.account == of,
            "t" => is_host(&message.recipient.host, of),
            "f" => {
                let sender = message.reverse_path.address();
                sender.is_some_and(|sender| is_host(&sender.host, of))
            }
            "x" => message.transport == of,
            _ => false,
        }
    }

    /// Those of a queued message.
    pub(crate) fn of_queued(queued: &Queued) -> Vec<Self> {
        let mut groups = Self::of_message(queued);
        if queued.hold {
            groups.push(Self::Held);
        }
        groups
    }

    /// Those of one in the history.
    pub(crate) fn of_retired(retired: &Retired) -> Vec<Self> {
        let mut groups = Self::of_message(&retired.message);
        groups.push(Self::Recipient(retired.message.recipient.unicode()));
        if !retired.success {
            groups.push(Self::Failed);
        }
        groups
    }

    fn of_message(message: &Queued) -> Vec<Self> {
        let mut groups = vec![
            Self::Account(message.common.account.clone()),
            Self::ToDomain(message.destination()),
        ];
        let sender = message.reverse_path.address();
        groups.extend(sender.map(|sender| Self::FromDomain(sender.host.ascii())));
        if !message.transport.is_empty() {
            groups.push(Self::Transport(message.transport.clone()));
        }
        groups
    }
}

fn is_host(host: &Host, ascii: &str) -> bool {
    match host.domain() {
        Some(domain) => domain.ascii() == ascii,
        None => host.ascii() == ascii,
    }
}

/// Whether this is the address's Unicode form.
fn is_address(address: &Address, unicode: &str) -> bool {
    let maybe = address
        .host
        .domain()
        .is_none_or(|domain| domain.ascii().contains("xn--") || unicode.ends_with(domain.ascii()));
    maybe && address.unicode() == unicode
}

/// For a pattern that asks for a domain as a whole.
fn in_domain(pattern: Option<&String>, group: fn(String) -> Group) -> Option<Group> {
    let domain: Domain = pattern?.strip_prefix('@')?.parse().ok()?;
    Some(group(domain.ascii().to_owned()))
}

fn forced_to(transport: Option<&String>) -> Option<Group> {
    transport
        .filter(|transport| !transport.is_empty())
        .cloned()
        .map(Group::Transport)
}

fn is_sent(message: &Queued, account: Option<&String>, transport: Option<&String>) -> bool {
    is(account, |account| message.common.account == *account)
        && is(transport, |transport| message.transport == *transport)
}

fn is_from_to(message: &Queued, from: Option<&String>, to: Option<&String>) -> bool {
    is(from, |from| {
        address_matches(message.reverse_path.address(), from)
    }) && is(to, |to| address_matches(Some(&message.recipient), to))
}

fn address_matches(address: Option<&Address>, part: &str) -> bool {
    let text = address.map(Address::unicode).unwrap_or_default();
    if part.starts_with('@') {
        text.ends_with(part)
    } else {
        text.contains(part)
    }
}

/// What an account has sent in some time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// Recipients in all.
    pub recipients: u64,
    /// Those that had never been sent to before.
    pub first_time: u64,
}

impl Sent {
    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            recipients: self.recipients + other.recipients,
            first_time: self.first_time + other.first_time,
        }
    }
}

/// Hours since 1970: what is sent is counted by them.
pub(crate) fn hour(time: Time) -> u64 {
    (time.0.max(0) / 3_600_000_000).cast_unsigned()
}

/// Hours that are counted: more than the 24 that anybody asks for.
pub(crate) const SENT_HOURS: u64 = 48;

/// How a recipient is remembered as one who was sent to.
pub(crate) fn known_as(recipient: &Address) -> String {
    recipient.unicode().to_lowercase()
}

/// Which webhook calls to be made are listed or changed. An empty filter matches all; given fields must all match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HookFilter {
    /// One of these; empty: any.
    pub ids: Vec<HookId>,
    /// Of this account.
    pub account: Option<String>,
    /// The name of an event, or `incoming`.
    pub event: Option<String>,
    /// Of events of this message.
    pub message: Option<QueueId>,
    /// Made before this time.
    pub submitted_before: Option<Time>,
    /// Made after this time.
    pub submitted_after: Option<Time>,
    /// Next call before this time.
    pub next_attempt_before: Option<Time>,
    /// Next call after this time.
    pub next_attempt_after: Option<Time>,
}

impl HookFilter {
    /// Whether it matches a call.
    #[must_use]
    pub fn matches(&self, hook: &Hook) -> bool {
        is_among(&self.ids, hook.id) && self.matches_but_for_ids(hook)
    }

    /// For a call that is known to be among those asked for.
    pub(crate) fn matches_but_for_ids(&self, hook: &Hook) -> bool {
        let (account, event) = (self.account.as_ref(), self.event.as_ref());
        is_of(hook, account, event, self.message)
            && is_between(hook.submitted, self.submitted_after, self.submitted_before)
            && is_between(
                hook.next_attempt,
                self.next_attempt_after,
                self.next_attempt_before,
            )
    }
}

/// Which webhook calls of the history are listed. An empty filter matches all; given fields must all match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RetiredHookFilter {
    /// One of these; empty: any.
    pub ids: Vec<HookId>,
    /// Of this account.
    pub account: Option<String>,
    /// The name of an event, or `incoming`.
    pub event: Option<String>,
    /// Of events of this message.
    pub message: Option<QueueId>,
    /// The receiver took it, or not.
    pub success: Option<bool>,
    /// Made before this time.
    pub submitted_before: Option<Time>,
    /// Made after this time.
    pub submitted_after: Option<Time>,
    /// Ended before this time.
    pub last_activity_before: Option<Time>,
    /// Ended after this time.
    pub last_activity_after: Option<Time>,
}

impl RetiredHookFilter {
    /// Whether it matches a call.
    #[must_use]
    pub fn matches(&self, retired: &RetiredHook) -> bool {
        is_among(&self.ids, retired.hook.id) && self.matches_but_for_ids(retired)
    }

    /// For a call that is known to be among those asked for.
    pub(crate) fn matches_but_for_ids(&self, retired: &RetiredHook) -> bool {
        let hook = &retired.hook;
        let (account, event) = (self.account.as_ref(), self.event.as_ref());
        is_of(hook, account, event, self.message)
            && self
                .success
                .is_none_or(|success| success == retired.success)
            && is_between(hook.submitted, self.submitted_after, self.submitted_before)
            && is_between(
                retired.last_activity,
                self.last_activity_after,
                self.last_activity_before,
            )
    }
}

fn is_of(
    hook: &Hook,
    account: Option<&String>,
    event: Option<&String>,
    message: Option<QueueId>,
) -> bool {
    let (name, about) = match &hook.kind {
        HookKind::Outgoing(outgoing) => (outgoing.event.name(), Some(outgoing.queue_id)),
        HookKind::Incoming(_) => ("incoming", None),
    };
    account.is_none_or(|account| *account == hook.account)
        && event.is_none_or(|event| event == name)
        && (message.is_none() || message == about)
}

fn is_between(time: Time, after: Option<Time>, before: Option<Time>) -> bool {
    after.is_none_or(|after| time > after) && before.is_none_or(|before| time < before)
}

/// What is changed of a mail in a mailbox.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailChange {
    /// Flags that it gets, as in [`Mail::flags`].
    pub add_flags: Vec<String>,
    /// Flags that are taken off it.
    pub remove_flags: Vec<String>,
    /// The mailbox that it goes to.
    pub mailbox: Option<String>,
}

impl MailChange {
    pub(crate) fn apply(&self, mail: &mut Mail) {
        mail.flags.retain(|flag| !self.remove_flags.contains(flag));
        for flag in &self.add_flags {
            if let Err(at) = mail.flags.binary_search(flag) {
                mail.flags.insert(at, flag.clone());
            }
        }
        if let Some(mailbox) = &self.mailbox {
            mail.mailbox.clone_from(mailbox);
        }
    }
}

/// The first `limit` items as a page.
pub(crate) fn page<T, C>(
    mut items: impl Iterator<Item = T>,
    limit: usize,
    cursor: impl Fn(&T) -> C,
) -> Page<T, C> {
    let page: Vec<T> = items.by_ref().take(limit).collect();
    let next = items.next().and_then(|_| page.last().map(cursor));
    Page { items: page, next }
}

impl NewRecipient {
    /// The record that it becomes.
    pub(crate) fn queued(
        self,
        id: QueueId,
        base: QueueId,
        top: Top,
        text: TextId,
        common: Arc<Common>,
    ) -> Queued {
        Queued {
            id,
            base,
            top,
            text,
            common,
            reverse_path: self.reverse_path,
            from_id: self.from_id,
            recipient: self.recipient,
            notify: self.notify,
            orcpt: self.orcpt,
            transport: self.transport,
            hold: self.hold,
            attempts: 0,
            last_attempt: None,
            next_attempt: self.next_attempt,
            delay_told: false,
            fence: 0,
            results: Vec::new(),
        }
    }
}

impl NewMail {
    /// The record that it becomes.
    pub(crate) fn mail(self, id: MailId, text: TextId) -> Mail {
        Mail {
            id,
            account: self.account,
            mailbox: self.mailbox,
            top: self.top,
            text,
            size: self.size,
            received: self.received,
            flags: self.flags,
            dsn: self.dsn,
            smtp: self.smtp,
        }
    }
}

impl Order {
    /// Whether one number comes behind another.
    pub(crate) fn follows<T: Ord>(self, one: T, other: T) -> bool {
        match self {
            Self::Ascending => one > other,
            Self::Descending => one < other,
        }
    }
}

impl Change {
    /// Makes the change.
    pub(crate) fn apply(&self, queued: &mut Queued) {
        if let Some(hold) = self.hold {
            queued.hold = hold;
        }
        if let Some(next) = self.next_attempt {
            queued.next_attempt = next.instead_of(queued.next_attempt);
        }
        if let Some(transport) = &self.transport {
            queued.transport.clone_from(transport);
        }
        if let Some(require_tls) = self.require_tls {
            Arc::make_mut(&mut queued.common).require_tls = require_tls;
        }
    }
}

impl NewSuppression {
    /// The record that it becomes.
    pub(crate) fn suppression(self, id: SuppressionId) -> Suppression {
        Suppression {
            id,
            account: self.account,
            base: self.base,
            list: self.list,
            original: self.original,
            created: self.created,
            manual: self.manual,
            reason: self.reason,
        }
    }
}

impl Found {
    /// The message itself.
    #[must_use]
    pub const fn message(&self) -> &Queued {
        match self {
            Self::Queued(queued) => queued,
            Self::Retired(retired) => &retired.message,
        }
    }
}

impl NewHook {
    /// Of an event that says that it put the address on the suppression list: that it did not, as it was there.
    pub(crate) fn not_suppressing(&mut self) {
        if let NewHookKind::Outgoing(outgoing) = &mut self.kind {
            outgoing.suppressing = false;
        }
    }

    /// The record that it becomes; None if the mail that it tells of is missing.
    pub(crate) fn hook(self, id: HookId, mail: Option<Arc<Mail>>) -> Option<Hook> {
        let kind = match self.kind {
            NewHookKind::Outgoing(outgoing) => HookKind::Outgoing(outgoing),
            NewHookKind::Incoming(_) => HookKind::Incoming(mail?),
            NewHookKind::Again(mail) => HookKind::Incoming(Arc::from(mail)),
        };
        Some(Hook {
            id,
            account: self.account,
            url: self.url,
            authorization: self.authorization,
            kind,
            submitted: self.submitted,
            attempts: 0,
            next_attempt: self.next_attempt,
            fence: 0,
            results: Vec::new(),
        })
    }
}
