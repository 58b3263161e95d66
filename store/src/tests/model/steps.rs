//! The steps that a test takes, and how they are made up.

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use crate::disk::sim::Calls;
use crate::tests::samples::*;
use crate::{
    Accept, Change, Common, Event, HoldFilter, INLINE_TEXT_MAX, NewAuditEntry, NewEvent,
    NewHookKind, NewMessage, NewRecipient, NewReject, NewSuppression, NewText, NextAttempt, Note,
    Once, Origin, Outcome, QueueId, Queued, RejectKey, RejectLimit, Settle, Store, StoreError,
    TakenMail, TextSource, Time, Top,
};

pub(super) const DOMAINS: [&str; 4] = ["a.example", "b.example", "c.example", "[192.0.2.1]"];
pub(super) const FOLDERS: [&str; 3] = ["Inbox", "Archive", "Other"];
pub(super) const ONCE: [&str; 2] = ["one", "two"];
pub(super) const URLS: [&str; 3] = [
    "http://one.example/",
    "http://two.example/",
    "http://three.example/",
];

/// Where a claim looks.
#[derive(Clone, Debug)]
pub(super) enum Of {
    All,
    Domains(Vec<usize>),
    Messages(Vec<u64>),
}

fn of() -> impl Strategy<Value = Of> {
    prop_oneof![
        6 => Just(Of::All),
        3 => prop::collection::vec(0..DOMAINS.len(), 1..3).prop_map(|mut domains| {
            domains.dedup();
            Of::Domains(domains)
        }),
        1 => prop::collection::vec(1..20_u64, 1..4).prop_map(|mut ids| {
            ids.sort_unstable();
            ids.dedup();
            Of::Messages(ids)
        }),
    ]
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    Accept {
        domains: Vec<usize>,
        due: u16,
        hold: bool,
        text: Length,
        mails: u8,
        hook: Option<usize>,
        extras: Extras,
    },
    Claim {
        max: usize,
        per_lane: usize,
        of: Of,
        lease: u16,
    },
    /// Transactions with these claimed messages begin.
    Begin {
        which: Vec<prop::sample::Index>,
        envid: u8,
    },
    Renew {
        until: u16,
    },
    Settle {
        which: Vec<prop::sample::Index>,
        fate: Fate,
        dsn: bool,
        hook: Option<usize>,
        suppress: Option<u8>,
    },
    /// An administrator ends a message.
    End {
        id: u64,
        keep: Option<u16>,
    },
    Change {
        ids: Vec<u64>,
        change: Change,
    },
    /// Messages get another route. `stale`: that was decided before a claim that came since.
    Reroute {
        ids: Vec<u64>,
        relay: bool,
        stale: bool,
    },
    /// Messages leave the history before their time.
    Forget(Vec<u64>),
    Suppress(u8),
    Unsuppress(u8),
    AddHoldRule(HoldFilter),
    RemoveHoldRule(u64),
    ChangeMail {
        id: u64,
        seen: bool,
        archive: bool,
    },
    RemoveMail(u64),
    MakeFolder(usize),
    RenameFolder {
        from: usize,
        to: usize,
    },
    RemoveFolder(usize),
    /// Mails of a mailbox are moved to another, or marked.
    ChangeMails {
        of: usize,
        uids: Vec<u32>,
        to: Option<usize>,
    },
    DeleteMails {
        of: usize,
        uids: Vec<u32>,
        keep: u16,
    },
    Summarize(Vec<u64>),
    DeleteMail {
        id: u64,
        keep: u16,
        bytes: u16,
    },
    RestoreMail(u64),
    PurgeDeleted {
        all: bool,
        max: u8,
    },
    /// The account calls a mail junk, good, or neither.
    Learn {
        id: u64,
        junk: Option<bool>,
        tokens: u8,
    },
    ForgetLearnt,
    Stage,
    Unstage,
    AcceptAll {
        once: Option<u8>,
        due: u16,
    },
    /// An automatic answer with the text that was staged last.
    Answer(u8),
    /// An account wants something else of its mail.
    Sieve {
        account: u8,
        what: u8,
    },
    AddApiKey,
    RemoveApiKey(u64),
    ScheduleHooks {
        ids: Vec<u64>,
        by: i16,
    },
    EndHooks {
        ids: Vec<u64>,
        keep: Option<u16>,
    },
    ClaimHooks {
        max: usize,
        per_url: usize,
        except: Option<usize>,
    },
    SettleHook {
        which: prop::sample::Index,
        fate: Fate,
    },
    Credential {
        account: u8,
        set: bool,
    },
    Secrets {
        account: u8,
        what: u8,
    },
    Audit(u8),
    Expire {
        max: u8,
    },
    Pass {
        seconds: u16,
    },
    Checkpoint,
    /// Begins a checkpoint and holds it back, so that what follows meets a frozen layer.
    Freeze,
    /// Lets it go on.
    Thaw,
    /// Some mails come and most of them go, so that a segment has few living texts.
    Churn,
    FailSync,
    /// One of the next calls of the disk fails.
    FailCall {
        kind: Calls,
        after: u8,
    },
    /// Bytes of the disk that are free.
    Space(Option<u32>),
    CopyOnWrite(bool),
    Crash {
        kind: Crash,
        again: Option<u8>,
    },
    PowerFailsAfter(u8),
    Reopen,
}

/// The further parts of an accepted unit.
#[derive(Clone, Debug)]
pub(super) struct Extras {
    account: bool,
    from_id: Option<u8>,
    transport: bool,
    note: Option<u64>,
    suppress: Option<u8>,
    once: Option<u8>,
    /// Refused mail with this key.
    reject: Option<u8>,
    /// The key of a mail that is taken.
    taken: Option<u8>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Length {
    None,
    Short(u16),
    Large,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Fate {
    Release,
    Retry(u16),
    Postpone(u16),
    Retire { success: bool, keep: Option<u16> },
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Crash {
    /// Bytes without a sync are lost or torn.
    Power,
    /// `kill -9`.
    Kill,
}

pub(super) fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        1 => Just(Fate::Release),
        1 => (0..300_u16).prop_map(Fate::Postpone),
        2 => (0..300_u16).prop_map(Fate::Retry),
        4 => (any::<bool>(), prop::option::of(0..300_u16)).prop_map(|(success, keep)| Fate::Retire { success, keep }),
    ]
}

pub(super) fn text_kind() -> impl Strategy<Value = Length> {
    prop_oneof![2 => Just(Length::None), 20 => (0..9000_u16).prop_map(Length::Short), 1 => Just(Length::Large)]
}

pub(super) fn extras() -> impl Strategy<Value = Extras> {
    let id = prop::option::weighted(0.3, 0..8_u8);
    let suppress = prop::option::weighted(0.1, 0..6_u8);
    let note = prop::option::weighted(0.2, 1..20_u64);
    let once = prop::option::weighted(0.2, 0..2_u8);
    let reject = prop::option::weighted(0.3, 0..5_u8);
    let taken = prop::option::weighted(0.1, 0..5_u8);
    (
        any::<bool>(),
        id,
        prop::bool::weighted(0.2),
        note,
        suppress,
        once,
        reject,
        taken,
    )
        .prop_map(
            |(account, from_id, transport, note, suppress, once, reject, taken)| Extras {
                account,
                from_id,
                transport,
                note,
                suppress,
                once,
                reject,
                taken,
            },
        )
}

pub(super) fn change() -> impl Strategy<Value = Change> {
    let next = prop_oneof![
        (0..300_i64).prop_map(|seconds| NextAttempt::At(at(seconds))),
        (-100_000_000..100_000_000_i64).prop_map(NextAttempt::Shift),
    ];
    let transport = prop_oneof![Just(String::new()), Just("other".to_owned())];
    (
        prop::option::of(any::<bool>()),
        prop::option::of(next),
        prop::option::of(transport),
        prop::option::weighted(0.2, prop::option::of(any::<bool>())),
    )
        .prop_map(|(hold, next_attempt, transport, require_tls)| Change {
            hold,
            next_attempt,
            transport,
            require_tls,
        })
}

pub(super) fn hold_filter() -> impl Strategy<Value = HoldFilter> {
    (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(account, sender, recipient)| {
        HoldFilter {
            account: account.then(|| "bob".to_owned()),
            sender_domain: sender.then(|| "example.org".parse().unwrap()),
            recipient_domain: recipient.then(|| "b.example".parse().unwrap()),
            ..HoldFilter::default()
        }
    })
}

/// The kinds of calls of a disk.
pub(super) const KINDS: [Calls; 6] = [
    Calls::Open,
    Calls::Read,
    Calls::Write,
    Calls::Sync,
    Calls::Name,
    Calls::SyncDir,
];

fn calls() -> impl Strategy<Value = Calls> {
    prop_oneof![1 => Just(Calls::All), 6 => prop::sample::select(KINDS.as_slice())]
}

impl Step {
    /// Whether the step is a fault of the disk or the end of a process.
    pub(super) const fn is_fault(&self) -> bool {
        matches!(
            self,
            Self::FailSync
                | Self::FailCall { .. }
                | Self::Space(_)
                | Self::CopyOnWrite(_)
                | Self::PowerFailsAfter(_)
                | Self::Crash { .. }
                | Self::Reopen
        )
    }
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let url = || prop::option::of(0..URLS.len());
    prop_oneof![
        20 => (prop::collection::vec(0..DOMAINS.len(), 0..4), 0..100_u16, prop::bool::weighted(0.1), text_kind(), 0..3_u8, url(), extras())
            .prop_map(|(domains, due, hold, text, mails, hook, extras)| Step::Accept { domains, due, hold, text, mails, hook, extras }),
        12 => (1..6_usize, 1..4_usize, of(), 1..200_u16)
            .prop_map(|(max, per_lane, of, lease)| Step::Claim { max, per_lane, of, lease }),
        3 => (prop::collection::vec(any::<prop::sample::Index>(), 1..4), 0..3_u8)
            .prop_map(|(which, envid)| Step::Begin { which, envid }),
        2 => (0..300_u16).prop_map(|until| Step::Renew { until }),
        12 => (prop::collection::vec(any::<prop::sample::Index>(), 1..4), fate(), any::<bool>(), url(), prop::option::weighted(0.2, 0..6_u8))
            .prop_map(|(which, fate, dsn, hook, suppress)| Step::Settle { which, fate, dsn, hook, suppress }),
        3 => (1..20_u64, prop::option::of(0..300_u16)).prop_map(|(id, keep)| Step::End { id, keep }),
        5 => (prop::collection::vec(1..20_u64, 1..5), change()).prop_map(|(ids, change)| Step::Change { ids, change }),
        4 => (prop::collection::vec(1..20_u64, 1..5), any::<bool>(), prop::bool::weighted(0.1))
            .prop_map(|(ids, relay, stale)| Step::Reroute { ids, relay, stale }),
        2 => prop::collection::vec(1..20_u64, 1..5).prop_map(Step::Forget),
        2 => (0..6_u8).prop_map(Step::Suppress),
        1 => (0..6_u8).prop_map(Step::Unsuppress),
        1 => hold_filter().prop_map(Step::AddHoldRule),
        1 => (1..4_u64).prop_map(Step::RemoveHoldRule),
        2 => (1..10_u64, any::<bool>(), any::<bool>())
            .prop_map(|(id, seen, archive)| Step::ChangeMail { id, seen, archive }),
        2 => (1..10_u64).prop_map(Step::RemoveMail),
        12 => super::mailboxes::steps(),
        4 => (1..10_u64, 0..300_u16, 0..400_u16)
            .prop_map(|(id, keep, bytes)| Step::DeleteMail { id, keep, bytes }),
        3 => (1..10_u64).prop_map(Step::RestoreMail),
        1 => (any::<bool>(), 0..3_u8).prop_map(|(all, max)| Step::PurgeDeleted { all, max }),
        4 => (1..10_u64, prop::option::of(any::<bool>()), 0..5_u8)
            .prop_map(|(id, junk, tokens)| Step::Learn { id, junk, tokens }),
        1 => Just(Step::ForgetLearnt),
        4 => Just(Step::Stage),
        1 => Just(Step::Unstage),
        3 => (prop::option::weighted(0.3, 0..2_u8), 0..100_u16)
            .prop_map(|(once, due)| Step::AcceptAll { once, due }),
        3 => (0..3_u8).prop_map(Step::Answer),
        2 => (0..2_u8, 0..6_u8).prop_map(|(account, what)| Step::Sieve { account, what }),
        1 => Just(Step::AddApiKey),
        1 => (1..4_u64).prop_map(Step::RemoveApiKey),
        3 => (prop::collection::vec(1..20_u64, 1..4), -100..100_i16)
            .prop_map(|(ids, by)| Step::ScheduleHooks { ids, by }),
        3 => (prop::collection::vec(1..20_u64, 1..4), prop::option::of(0..300_u16))
            .prop_map(|(ids, keep)| Step::EndHooks { ids, keep }),
        8 => (1..6_usize, 1..4_usize, prop::option::weighted(0.2, 0..URLS.len()))
            .prop_map(|(max, per_url, except)| Step::ClaimHooks { max, per_url, except }),
        8 => (any::<prop::sample::Index>(), fate()).prop_map(|(which, fate)| Step::SettleHook { which, fate }),
        1 => (0..2_u8, any::<bool>()).prop_map(|(account, set)| Step::Credential { account, set }),
        2 => (0..2_u8, 0..6_u8).prop_map(|(account, what)| Step::Secrets { account, what }),
        1 => (0..3_u8).prop_map(Step::Audit),
        2 => (1_u8..4).prop_map(|max| Step::Expire { max }),
        6 => (1..200_u16).prop_map(|seconds| Step::Pass { seconds }),
        5 => Just(Step::Checkpoint),
        4 => Just(Step::Freeze),
        2 => Just(Step::Thaw),
        3 => Just(Step::Churn),
        2 => Just(Step::FailSync),
        4 => (calls(), 0..24_u8).prop_map(|(kind, after)| Step::FailCall { kind, after }),
        3 => prop::option::of(0..400_000_u32).prop_map(Step::Space),
        1 => any::<bool>().prop_map(Step::CopyOnWrite),
        3 => (prop_oneof![Just(Crash::Power), Just(Crash::Kill)], prop::option::weighted(0.3, any::<u8>()))
            .prop_map(|(kind, again)| Step::Crash { kind, again }),
        3 => (0..60_u8).prop_map(Step::PowerFailsAfter),
        1 => Just(Step::Reopen),
    ]
}

pub(super) use super::mailboxes::{lesson, senders};

#[expect(clippy::too_many_arguments, reason = "they are the fields of a step")]
pub(super) async fn accept(
    store: &Store,
    domains: &[usize],
    due: Time,
    hold: bool,
    text: Length,
    mails: u8,
    hook: Option<usize>,
    now: Time,
) -> Result<Accept, StoreError> {
    let text = match text {
        Length::None => None,
        Length::Short(length) => Some(vec![b'x'; length.into()]),
        Length::Large => Some(vec![b'y'; INLINE_TEXT_MAX + 1]),
    };
    let text = match text {
        None => None,
        Some(text) => {
            let mut writer = store.text_writer();
            writer.write(&text).await?;
            Some(writer.finish().await?)
        }
    };
    let recipients = domains.iter().map(|at| {
        let mut recipient = recipient(&format!("x@{}", DOMAINS[*at]), due);
        recipient.hold = hold;
        recipient
    });
    // Mail for two mailboxes comes with a forward of a third address.
    let mut origins = vec![Origin::Sent];
    origins.extend((mails > 1).then_some(Origin::Passed {
        sender: "ann@example.org".parse().unwrap(),
    }));
    let mut mail = mail("Inbox", TextSource::New);
    mail.received = now;
    let mails: Vec<_> = (0..mails)
        .map(|number| {
            let account = if number == 0 { "ann" } else { "bob" };
            crate::NewMail {
                account: account.into(),
                ..mail.clone()
            }
        })
        .collect();
    let kind = if mails.is_empty() {
        event(Event::Delivered, QueueId(1))
    } else {
        NewHookKind::Incoming(0)
    };
    Ok(Accept {
        text,
        queue: messages(recipients.collect(), &origins),
        mails,
        hooks: hook
            .map(|at| crate::tests::samples::hook(URLS[at], kind, due))
            .into_iter()
            .collect(),
        ..Accept::default()
    })
}

/// A message of each origin for these recipients.
fn messages(recipients: Vec<NewRecipient>, origins: &[Origin]) -> Vec<NewMessage> {
    if recipients.is_empty() {
        return Vec::new();
    }
    let messages = origins.iter().map(|origin| NewMessage {
        common: Common {
            origin: origin.clone(),
            ..common()
        },
        top: Top::EMPTY,
        text: TextSource::New,
        recipients: recipients.clone(),
    });
    messages.collect()
}

pub(super) fn add_extras(accept: &mut Accept, extras: &Extras, now: Time) {
    for message in &mut accept.queue {
        if extras.account {
            message.common.account = "bob".into();
        }
        message.common.envid = "given".into();
        for (at, recipient) in message.recipients.iter_mut().enumerate() {
            if let Some(id) = extras.from_id
                && message.common.origin == Origin::Sent
            {
                recipient.from_id = format!("id{}", usize::from(id) + at);
            }
            if extras.transport {
                recipient.transport = "other".into();
            }
        }
    }
    accept.notes = extras
        .note
        .map(|id| Note {
            id: QueueId(id),
            result: attempt(now, false),
        })
        .into_iter()
        .collect();
    accept.suppress = extras
        .suppress
        .map(|base| suppression(base, now))
        .into_iter()
        .collect();
    accept.events = extras.note.map(|id| logged(id, now)).into_iter().collect();
    accept.once = extras.once.map(|key| done_once(key, now));
    let with_text = extras.reject.filter(|_| accept.text.is_some());
    accept.rejects = with_text.map(|key| reject(key, now)).into_iter().collect();
    let taken = extras.taken.map(|key| TakenMail {
        account: "ann".into(),
        key: RejectKey(key.into()),
    });
    accept.taken = taken.into_iter().collect();
}

/// A refused mail of ann's, who keeps two with a limit. The last key has no end.
pub(super) fn reject(key: u8, now: Time) -> NewReject {
    let is_bound = key < 4;
    NewReject {
        mail: mail("Rejects", TextSource::New),
        key: RejectKey(key.into()),
        until: is_bound.then(|| now.after(Duration::from_secs(100))),
        limit: is_bound.then_some(RejectLimit {
            mails: 2,
            bytes: 1000,
        }),
    }
}

pub(super) fn audited(subject: u8, now: Time) -> NewAuditEntry {
    NewAuditEntry {
        time: now,
        name: "root".into(),
        operation: "change".into(),
        target: format!("target {subject}"),
        keep_until: now.after(Duration::from_secs(100)),
        ..NewAuditEntry::default()
    }
}

pub(super) fn done_once(key: u8, now: Time) -> Once {
    Once {
        account: "ann".into(),
        key: ONCE[usize::from(key)].into(),
        request: [key; 32],
        answer: vec![key],
        now,
        until: now.after(Duration::from_secs(100)),
    }
}

pub(super) fn logged(id: u64, now: Time) -> NewEvent {
    let NewHookKind::Outgoing(mut told) = event(Event::ALL[id as usize % 9], QueueId(id)) else {
        panic!("an event is outgoing");
    };
    told.queued = now;
    told.suppressing = true;
    told.message_id = format!("<{}@x.example>", id % 3);
    NewEvent {
        account: if id.is_multiple_of(4) { "bob" } else { "ann" }.into(),
        recipient: format!("x@{}", DOMAINS[id as usize % 4]),
        told,
        keep_until: now.after(Duration::from_secs(10 * id)),
    }
}

pub(super) fn suppression(base: u8, now: Time) -> NewSuppression {
    let account = if base.is_multiple_of(2) { "ann" } else { "bob" };
    NewSuppression {
        account: account.into(),
        base: format!("x{base}@a.example"),
        list: if base == 5 { "news" } else { "" }.into(),
        original: format!("x{base}+1@a.example"),
        created: now,
        manual: false,
        reason: "test".into(),
        reply: None,
        until: (base < 4).then(|| now.after(Duration::from_secs(100))),
    }
}

pub(super) fn outcome(fate: Fate, now: Time) -> Outcome {
    let later = |seconds: u16| now.after(Duration::from_secs(seconds.into()));
    match fate {
        Fate::Release => Outcome::Release,
        Fate::Retry(seconds) => Outcome::Retry(later(seconds)),
        Fate::Postpone(seconds) => Outcome::Postpone(later(seconds)),
        Fate::Retire { success, keep } => Outcome::Retire {
            success,
            now,
            keep_until: keep.map(later),
        },
    }
}

/// The name of the transport that the routes give, or none.
pub(super) fn route(relay: bool) -> String {
    match relay {
        true => "relay".to_owned(),
        false => String::new(),
    }
}

pub(super) fn settlement(
    queued: &Queued,
    outcome: Outcome,
    dsn: bool,
    hook: Option<usize>,
    suppress: Option<u8>,
    now: Time,
) -> Settle {
    let mut settle = settle(queued, outcome);
    if matches!(outcome, Outcome::Release | Outcome::Postpone(_)) {
        settle.attempt = None;
        return settle;
    }
    if dsn {
        settle.text = Some(NewText::Inline(Bytes::from_static(b"A report\r\n")));
        settle.mails = vec![
            mail("Inbox", TextSource::New),
            mail("Sent", TextSource::Existing(queued.text)),
        ];
        settle.delay_told = true;
    }
    settle.suppress = suppress
        .map(|base| suppression(base, now))
        .into_iter()
        .collect();
    let mut event = event(Event::Delayed, queued.id);
    if let NewHookKind::Outgoing(outgoing) = &mut event {
        outgoing.suppressing = suppress.is_some();
    }
    settle.hooks = hook
        .map(|at| crate::tests::samples::hook(URLS[at], event, now))
        .into_iter()
        .collect();
    settle
}
