//! The model as an engine: what a store does, in the plainest way, in memory. For tests only.
//!
//! It looks at everything to find something, keeps no index and shares no code with the journal
//! engine, so that a test can hold the two against each other. The subjects bring its parts.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokio::sync::watch;

use super::{Changes, Engine};
use crate::{
    Accept, Accepted, Claim, ClaimHooks, Claimed, ClaimedHooks, Counts, DiskUse, Lane, Moment,
    NewText, QueueId, Settle, SettleHook, StoreError, Text, TextFile, TextId, TextWriter, Time,
    Transaction,
    subject::{Applied, ModelState, Op, Question, Scan, hooks, unit},
};

/// A store in memory.
#[derive(Default)]
pub(crate) struct Model {
    state: Mutex<Content>,
    changes: Changes,
    refusal: Refusal,
    /// How many questions were asked.
    asked: AtomicU64,
}

/// Results are refused, as by a full disk, and how many calls were refused so far.
#[derive(Default)]
struct Refusal {
    on: AtomicBool,
    count: watch::Sender<u64>,
}

#[derive(Clone, Default)]
struct Content {
    closed: bool,
    state: ModelState,
    /// The heads of lanes as they were told last.
    heads: BTreeMap<Lane, Time>,
}

impl Model {
    fn content(&self) -> MutexGuard<'_, Content> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many questions were asked so far.
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// Works with the state of a store that is open.
    fn with<T>(&self, work: impl FnOnce(&mut ModelState) -> T) -> Result<T, StoreError> {
        let mut content = self.content();
        match content.closed {
            true => Err(StoreError::Closed),
            false => Ok(work(&mut content.state)),
        }
    }

    /// Tells of the lanes whose heads are not those that it told of last.
    fn tell_lanes(&self) {
        if !self.changes.lanes.is_followed() {
            return;
        }
        let mut content = self.content();
        let now = content.state.queue.lanes();
        let before = std::mem::replace(&mut content.heads, now.clone());
        let gone = before.keys().filter(|lane| !now.contains_key(lane));
        let gone = gone.map(|lane| (Arc::clone(lane.name()), None));
        let new = now
            .iter()
            .filter(|(lane, head)| before.get(lane) != Some(head));
        let new = new.map(|(lane, head)| (Arc::clone(lane.name()), Some(*head)));
        self.changes.lanes.tell(gone.chain(new).collect());
    }

    fn apply(&self, ops: Vec<(Op, Option<NewText>)>) -> Result<Vec<Applied>, StoreError> {
        let applied = self.with(|state| {
            let ops = ops.into_iter();
            ops.map(|(op, text)| op.apply_to_model(state, text))
                .collect()
        })?;
        self.tell_lanes();
        self.changes.queue.send_modify(|count| *count += 1);
        self.changes.hooks.send_modify(|count| *count += 1);
        self.changes.events.send_modify(|count| *count += 1);
        self.changes.reports.send_modify(|count| *count += 1);
        self.changes.sieve.send_modify(|count| *count += 1);
        self.changes.mail.tell_all();
        Ok(applied)
    }

    fn apply_one(&self, op: Op, text: Option<NewText>) -> Result<Applied, StoreError> {
        let applied = self.apply(vec![(op, text)])?;
        applied.into_iter().next().ok_or(StoreError::Closed)
    }

    /// From now on results are refused, or taken again. Gives how often they were refused.
    pub(crate) fn refuse_results(&self, refuse: bool) -> watch::Receiver<u64> {
        self.refusal.on.store(refuse, Ordering::SeqCst);
        self.refusal.count.subscribe()
    }

    fn check_results(&self) -> Result<(), StoreError> {
        if self.refusal.on.load(Ordering::SeqCst) {
            self.refusal.count.send_modify(|count| *count += 1);
            return Err(StoreError::Full);
        }
        Ok(())
    }

    /// Does what a crash does: it ends all claims, and what was staged goes.
    #[cfg(test)]
    pub(crate) fn crash(&self) {
        self.content().state.end_process();
    }

    /// The last number that a text got.
    #[cfg(test)]
    pub(crate) fn last_text(&self) -> u64 {
        self.content().state.texts.last
    }

    /// Another model that has the same content now.
    #[cfg(test)]
    pub(crate) fn fork(&self) -> Self {
        Self {
            state: Mutex::new(self.content().clone()),
            ..Self::default()
        }
    }
}

impl Engine for Model {
    async fn accept(&self, accept: Accept) -> Result<Accepted, StoreError> {
        let (op, text) = unit::Op::accept(accept);
        self.apply_one(Op::Unit(op), text)?.output()
    }

    async fn claim(&self, claim: Claim) -> Result<Claimed, StoreError> {
        self.with(|state| match state.stops.stops.deliveries {
            None => state.queue.claim(&claim),
            Some(_) => state.queue.claim(&Claim { max: 0, ..claim }),
        })
        .inspect(|_| self.tell_lanes())
    }

    async fn begin(&self, transactions: Vec<Transaction>) -> Result<(), StoreError> {
        self.with(|state| state.queue.begin(&transactions))
    }

    async fn renew(
        &self,
        claims: Vec<(QueueId, u64)>,
        until: Moment,
    ) -> Result<Vec<bool>, StoreError> {
        self.with(|state| {
            let claims = claims.iter();
            claims
                .map(|(id, fence)| state.queue.renew(*id, *fence, until))
                .collect()
        })
    }

    async fn settle(&self, settles: Vec<Settle>) -> Result<Vec<bool>, StoreError> {
        self.check_results()?;
        let settles = settles.into_iter().map(|settle| {
            let (op, text) = unit::Op::settle(settle);
            (Op::Unit(op), text)
        });
        let applied = self.apply(settles.collect())?;
        applied.into_iter().map(Applied::output).collect()
    }

    async fn claim_hooks(&self, claim: ClaimHooks) -> Result<ClaimedHooks, StoreError> {
        self.with(|state| match state.stops.stops.webhooks {
            None => state.hooks.claim(&claim),
            Some(_) => ClaimedHooks::default(),
        })
    }

    async fn settle_hooks(&self, settles: Vec<SettleHook>) -> Result<Vec<bool>, StoreError> {
        self.check_results()?;
        let settles = settles.into_iter();
        let ops = settles.map(|settle| (Op::Hooks(hooks::Op::Settle(settle)), None));
        let applied = self.apply(ops.collect())?;
        applied.into_iter().map(Applied::output).collect()
    }

    async fn change(&self, ops: Vec<(Op, Option<NewText>)>) -> Result<Vec<Applied>, StoreError> {
        self.apply(ops)
    }

    async fn ask<Q: Question>(&self, question: Q) -> Result<Q::Answer, StoreError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.with(|state| question.answer_of_model(state))
    }

    async fn scan<S: Scan>(&self, scan: S) -> Result<S::Answer, StoreError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.with(|state| scan.answer_of_model(state))
    }

    async fn text(&self, id: TextId) -> Result<Text, StoreError> {
        let text = self.with(|state| state.texts.texts.get(&id).cloned())?;
        text.map(Text::of_bytes).ok_or(StoreError::NoText(id))
    }

    fn text_writer(&self) -> TextWriter {
        TextWriter::in_memory()
    }

    async fn new_text(&self, _: &TextFile) -> Result<Text, StoreError> {
        Err(StoreError::Invalid("a file of another store"))
    }

    async fn counts(&self) -> Counts {
        let content = self.content();
        let state = &content.state;
        let queued = &state.queue.queued;
        Counts {
            queued: queued.len() as u64,
            held: queued.values().filter(|queued| queued.hold).count() as u64,
            claimed: state.queue.claimed() as u64,
            retired: state.queue.retired.len() as u64,
            hooks: state.hooks.hooks.len() as u64,
            retired_hooks: state.hooks.retired.len() as u64,
            mails: state.mail.mails.len() as u64,
            suppressions: state.suppression.entries.len() as u64,
            hold_rules: state.hold_rules.rules.len() as u64,
            journal_bytes: 0,
            text_bytes: state
                .texts
                .texts
                .values()
                .map(|text| text.len() as u64)
                .sum(),
            report_bytes: state.received_reports.all_bytes(),
        }
    }

    async fn set_aside(&self) -> u64 {
        0
    }

    async fn disk_use(&self) -> std::io::Result<DiskUse> {
        Ok(DiskUse::default())
    }

    async fn journal_size(&self) -> std::io::Result<u64> {
        Ok(0)
    }

    fn changes(&self) -> &Changes {
        &self.changes
    }

    fn follow_lanes(&self) {
        let mut content = self.content();
        content.heads = content.state.queue.lanes();
        self.changes.lanes.follow();
    }

    async fn close(&self) {
        self.content().closed = true;
    }

    async fn stopped(&self) -> StoreError {
        std::future::pending().await
    }
}
