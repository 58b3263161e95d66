//! The queue in the model.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    Change, ENVIDS_MAX, Found, Lane, LaneCount, NewMessage, Note, Origin, QueueId, Queued, Reroute,
    Retired, Transaction,
    apply::RESULTS_MAX,
    keys::reference_key,
    read::{Find, List, ListRetired},
};
use crate::{
    Attempt, Claim, Claimed, Moment, Outcome, Page, Party, StoreError, TextId, Time, Which,
    filter::{ordered, page},
    subject::{ModelPart, ModelState, next, tag},
};

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    last: u64,
    pub(crate) queued: BTreeMap<QueueId, Queued>,
    /// The lane of each message. A message keeps it but for changes of its transport or route.
    lanes: BTreeMap<QueueId, Lane>,
    claimed: BTreeMap<QueueId, Lease>,
    pub(crate) retired: BTreeMap<QueueId, Retired>,
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    until: Moment,
    /// When the attempt before began.
    last_attempt: Option<Time>,
}

impl ModelPart for Model {
    fn skip_ids(&mut self, by: u64) {
        self.last = self.last.saturating_add(by);
    }

    fn uses(&self, text: TextId) -> bool {
        self.queued.values().any(|queued| queued.text == text)
    }

    fn history(&self) -> Vec<(Time, u64)> {
        let retired = self.retired.iter();
        retired.map(|(id, it)| (it.keep_until, id.0)).collect()
    }

    fn forget(&mut self, number: u64) {
        self.retired.remove(&QueueId(number));
    }
}

impl Model {
    pub(crate) fn is_claimed(&self, id: QueueId) -> bool {
        self.claimed.contains_key(&id)
    }

    /// Whether a message is in the queue or in the history.
    pub(crate) fn has(&self, id: QueueId) -> bool {
        self.queued.contains_key(&id) || self.retired.contains_key(&id)
    }

    pub(crate) fn claimed(&self) -> usize {
        self.claimed.len()
    }

    pub(crate) fn end_claims(&mut self) {
        self.claimed.clear();
    }

    pub(super) fn change(&mut self, ids: &[QueueId], change: &Change, now: Time) -> u64 {
        let mut count = 0;
        for id in ids {
            if let Some(queued) = self.queued.get_mut(id) {
                change.apply(queued, now);
                self.lanes.insert(*id, queued.lane());
                count += 1;
            }
        }
        count
    }

    pub(super) fn reroute(&mut self, messages: Vec<Reroute>) -> u64 {
        let mut count = 0;
        for to in messages {
            let claimed = self.is_claimed(to.id);
            let queued = self.queued.get_mut(&to.id);
            let same = |queued: &&mut Queued| queued.fence == to.fence && !claimed;
            if let Some(queued) = queued.filter(same) {
                queued.route = to.route;
                self.lanes.insert(to.id, queued.lane());
                count += 1;
            }
        }
        count
    }

    pub(super) fn list(&self, asked: &List) -> Page<Queued, QueueId> {
        let items = self.queued.values().filter(|queued| {
            let after = asked.after;
            after.is_none_or(|after| asked.order.follows(queued.id, after))
                && asked.filter.matches(queued)
        });
        page(ordered(items, asked.order), asked.limit, |queued| queued.id)
    }

    pub(super) fn list_retired(&self, asked: &ListRetired) -> Page<Retired, QueueId> {
        let items = self.retired.values().filter(|retired| {
            let after = asked.after;
            after.is_none_or(|after| asked.order.follows(retired.message.id, after))
                && asked.filter.matches(retired)
        });
        page(ordered(items, asked.order), asked.limit, |retired| {
            retired.message.id
        })
    }

    pub(super) fn find(&self, asked: &Find) -> Vec<Found> {
        let called = |message: &Queued| {
            let account = asked.account.as_ref();
            let recipient = asked.recipient.as_ref();
            account.is_none_or(|account| message.common.account == *account)
                && message
                    .references()
                    .any(|it| reference_key(it) == asked.name)
                && recipient.is_none_or(|to| *to == message.recipient.unicode().to_lowercase())
        };
        let queued = self.queued.values().filter(|queued| called(queued));
        let retired = self.retired.values();
        let retired = retired.filter(|retired| called(&retired.message));
        let found = queued
            .cloned()
            .map(Found::Queued)
            .chain(retired.cloned().map(Found::Retired));
        found.take(asked.limit).collect()
    }

    pub(crate) fn check_from_ids(&self, message: &NewMessage) -> Result<(), StoreError> {
        let ids = message
            .recipients
            .iter()
            .map(|recipient| &recipient.from_id);
        let mut ids = ids.filter(|id| !id.is_empty()).peekable();
        if ids.peek().is_none() {
            return Ok(());
        }
        let known = self
            .queued
            .values()
            .chain(self.retired.values().map(|retired| &retired.message));
        let mut seen: BTreeSet<&String> = known.map(|message| &message.from_id).collect();
        match ids.find(|id| !seen.insert(id)) {
            Some(id) => Err(StoreError::FromIdInUse(id.clone())),
            None => Ok(()),
        }
    }

    pub(crate) fn note(&mut self, note: Note) {
        let results = if let Some(queued) = self.queued.get_mut(&note.id) {
            &mut queued.results
        } else if let Some(retired) = self.retired.get_mut(&note.id) {
            retired.last_activity = retired.last_activity.max(note.result.start);
            &mut retired.message.results
        } else {
            return;
        };
        if results.len() < RESULTS_MAX {
            results.push(note.result);
        }
    }

    /// The messages that are neither held nor claimed, with their lanes.
    fn free(&self) -> impl Iterator<Item = (&Lane, (Time, QueueId))> {
        let queued = self.queued.values();
        let free = queued.filter(|it| !it.hold && !self.claimed.contains_key(&it.id));
        free.filter_map(|it| Some((self.lanes.get(&it.id)?, (it.next_attempt, it.id))))
    }

    /// The messages of one lane that are neither held nor claimed, by time.
    fn free_in(&self, lane: &Lane) -> Vec<(Time, QueueId)> {
        let free = self.free().filter(|(of, _)| *of == lane);
        let mut entries: Vec<_> = free.map(|(_, entry)| entry).collect();
        entries.sort_unstable();
        entries
    }

    /// The lanes with messages, and when the first of each is due.
    pub(crate) fn lanes(&self) -> BTreeMap<Lane, Time> {
        let mut lanes: BTreeMap<Lane, Time> = BTreeMap::new();
        for (lane, (time, _)) in self.free() {
            match lanes.get_mut(lane) {
                Some(head) => *head = time.min(*head),
                None => {
                    lanes.insert(lane.clone(), time);
                }
            }
        }
        lanes
    }

    pub(super) fn due_in(
        &self,
        lane: &Lane,
        after: Option<(Time, QueueId)>,
        now: Time,
        limit: usize,
    ) -> Vec<Queued> {
        let entries = self.free_in(lane).into_iter();
        let due =
            entries.filter(|entry| entry.0 <= now && after.is_none_or(|after| *entry > after));
        let messages = due.take(limit).filter_map(|(_, id)| self.queued.get(&id));
        messages.cloned().collect()
    }

    pub(super) fn count_in(&self, lane: &Lane, now: Time, max: u64) -> LaneCount {
        let mut count = LaneCount::default();
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        for (time, _) in self.free_in(lane).into_iter().take(max) {
            count.add(time, now);
        }
        count
    }

    pub(crate) fn claim(&mut self, claim: &Claim) -> Claimed {
        self.claimed.retain(|_, lease| lease.until > claim.moment);
        let chosen = match &claim.which {
            Which::All => {
                let mut lanes: BTreeMap<String, Vec<_>> = BTreeMap::new();
                for (lane, entry) in self.free() {
                    lanes
                        .entry(lane.name().to_string())
                        .or_default()
                        .push(entry);
                }
                choose(lanes, claim.now, claim.max, claim.max_per_lane).0
            }
            Which::Lanes(lanes) => {
                let mut chosen = Vec::new();
                let mut left: BTreeSet<&Lane> = lanes.iter().collect();
                for lane in lanes.iter().filter(|lane| left.remove(lane)) {
                    let room = claim.max_per_lane.min(claim.max - chosen.len());
                    let due = self.free_in(lane).into_iter();
                    let due = due.filter(|(time, _)| *time <= claim.now);
                    chosen.extend(due.take(room).map(|(_, id)| id));
                }
                chosen
            }
            Which::Messages(ids) => {
                let due = |id: &&QueueId| {
                    let mut free = self.free();
                    free.any(|(_, (time, it))| it == **id && time <= claim.now)
                };
                let mut left: BTreeSet<&QueueId> = ids.iter().collect();
                let distinct = ids.iter().filter(|id| left.remove(id));
                distinct.filter(due).take(claim.max).copied().collect()
            }
        };
        let mut messages = Vec::new();
        for id in chosen {
            let Some(queued) = self.queued.get_mut(&id) else {
                continue;
            };
            let lease = Lease {
                until: claim.moment.after(claim.lease),
                last_attempt: queued.last_attempt,
            };
            self.claimed.insert(id, lease);
            queued.fence += 1;
            queued.attempts += 1;
            queued.last_attempt = Some(claim.now);
            messages.push(queued.clone());
        }
        Claimed { messages }
    }

    pub(crate) fn begin(&mut self, transactions: &[Transaction]) {
        for transaction in transactions {
            for id in &transaction.messages {
                let Some(queued) = self.queued.get_mut(id) else {
                    continue;
                };
                if !queued.envids.contains(&transaction.envid) {
                    queued.envids.push(transaction.envid.clone());
                }
                if queued.envids.len() > ENVIDS_MAX {
                    queued.envids.remove(0);
                }
            }
        }
    }

    pub(crate) fn renew(&mut self, id: QueueId, fence: u64, until: Moment) -> bool {
        let current = self
            .queued
            .get(&id)
            .is_some_and(|queued| queued.fence == fence);
        match self.claimed.get_mut(&id) {
            Some(lease) if current => {
                lease.until = until;
                true
            }
            _ => false,
        }
    }

    /// The message of a settlement that is not out of date.
    pub(crate) fn to_settle(&self, id: QueueId, fence: u64, party: Party) -> Option<Queued> {
        let queued = self.queued.get(&id).filter(|queued| queued.fence == fence);
        let in_use = party == Party::Administrator && self.is_claimed(id);
        queued.filter(|_| !in_use).cloned()
    }

    pub(crate) fn settle(
        &mut self,
        mut queued: Queued,
        attempt: Option<Attempt>,
        outcome: Outcome,
        delay_told: bool,
        route: Option<String>,
    ) {
        let id = queued.id;
        let lease = self.claimed.remove(&id);
        self.queued.remove(&id);
        queued.fence += 1;
        queued.results.extend(attempt);
        queued.delay_told |= delay_told;
        queued.route = route.unwrap_or(queued.route);
        self.lanes.insert(id, queued.lane());
        match outcome {
            Outcome::Release | Outcome::Postpone(_) => {
                queued.attempts = queued.attempts.saturating_sub(1);
                if let Some(lease) = lease {
                    queued.last_attempt = lease.last_attempt;
                }
                if let Outcome::Postpone(time) = outcome {
                    queued.next_attempt = time;
                }
                self.queued.insert(queued.id, queued);
            }
            Outcome::Retry(time) => {
                queued.next_attempt = time;
                self.queued.insert(queued.id, queued);
            }
            Outcome::Retire {
                success,
                now,
                keep_until,
            } => {
                if let Some(keep_until) = keep_until {
                    let retired = Retired {
                        message: queued,
                        success,
                        last_activity: now,
                        keep_until,
                    };
                    self.retired.insert(id, retired);
                }
            }
        }
    }
}

impl ModelState {
    /// Removes messages from the history before their time.
    pub(super) fn forget_ended(&mut self, ids: &[QueueId]) -> u64 {
        let mut count = 0;
        for id in ids {
            if self.queue.retired.contains_key(id) {
                self.forget(tag::queue, id.0);
                self.drop_forgotten();
                self.drop_forgotten_texts();
                count += 1;
            }
        }
        count
    }

    pub(crate) fn add_message(&mut self, message: NewMessage, new: TextId) -> Vec<QueueId> {
        let common = Arc::new(message.common);
        let base = QueueId(self.queue.last + 1);
        let text = message.text.resolve(new);
        let mut ids = Vec::new();
        if common.origin == Origin::Sent {
            self.sent.count(&common, &message.recipients);
        }
        for recipient in message.recipients {
            let id = QueueId(next(&mut self.queue.last));
            let top = message.top.clone();
            let mut queued = recipient.queued(id, base, top, text, Arc::clone(&common));
            let mut rules = self.hold_rules.rules.values();
            if rules.any(|rule| rule.filter.matches(&queued)) {
                queued.set_hold(true, common.queued);
            }
            self.queue.lanes.insert(id, queued.lane());
            self.queue.queued.insert(id, queued);
            ids.push(id);
        }
        ids
    }
}

/// Picks what is due: lanes (of the queue, or accounts with URLs) in the order of their earliest, a
/// limited number of each. Also tells when the earliest of the rest is due.
pub(crate) fn choose<Id: Ord + Copy>(
    lanes: BTreeMap<String, Vec<(Time, Id)>>,
    now: Time,
    max: usize,
    max_per_lane: usize,
) -> (Vec<Id>, Option<Time>) {
    let mut lanes: Vec<_> = lanes.into_iter().collect();
    for (_, lane) in &mut lanes {
        lane.sort_unstable();
    }
    lanes.sort_by(|(a, lane_a), (b, lane_b)| {
        (lane_a.first().map(|d| d.0), a).cmp(&(lane_b.first().map(|d| d.0), b))
    });
    let mut chosen = Vec::new();
    let mut next_due = None;
    for (_, lane) in lanes {
        let due = lane.iter().take_while(|(time, _)| *time <= now).count();
        let take = due.min(max_per_lane).min(max - chosen.len());
        let (taken, rest) = lane.split_at(take);
        chosen.extend(taken.iter().map(|(_, id)| *id));
        let first = rest.first().map(|(time, _)| *time);
        next_due = match (next_due, first) {
            (Some(a), Some(b)) => Some(std::cmp::min(a, b)),
            (a, b) => a.or(b),
        };
    }
    (chosen, next_due)
}
