//! The lanes with due messages: where each waits, and for what. There is no I/O here, and the time
//! is an argument.
//!
//! | place of a lane | it waits for |
//! |---|---|
//! | later | the time of its first message, or the next look-up for its destination |
//! | unplanned | a plan |
//! | paused | an administrator |
//! | at a site | a worker of the site |
//! | out | its worker, which claims messages of it |
//!
//! The store tells the heads of lanes ([`Lanes::follow`]). The loop moves lanes that are due to
//! their sites, and workers take them there. Messages stay in the store until a worker claims them.
//! So the memory follows the number of lanes, and not that of messages. A site that is halted keeps
//! its lanes, and none of their messages is touched.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use postrider_store::{DeliveryClass, Lane, LaneHead, Moment, Queued, Time};

use super::{BATCH, fair::Fair};
use crate::next_hop::{Plan, Site};

mod in_hand;

pub(crate) use in_hand::Share;

/// A lane that waits for something else than its time is looked at after so long: senders may have
/// to be told.
pub(crate) const REVIEW_AFTER: Duration = Duration::from_secs(5 * 60);

/// How many lanes a worker takes at once.
const LANES_MAX: usize = 8;

/// Bytes that cost as much as a recipient.
const COST_BYTES: u64 = 256 * 1024;

/// Claimed messages that go to one site by one plan.
#[derive(Debug)]
pub(crate) struct ClaimedBatch {
    pub(crate) plan: Arc<Plan>,
    pub(crate) messages: Vec<Queued>,
    /// When they were claimed.
    pub(crate) claimed: Moment,
}

/// The next step of a worker.
#[derive(Debug)]
pub(crate) enum Turn {
    /// Deliver these messages: as many as were wanted at most.
    Deliver(Vec<ClaimedBatch>),
    /// Claim messages of these lanes.
    Claim(Vec<Lane>),
}

/// What a lane waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Later,
    Unplanned,
    Paused,
    AtSite,
    Out,
}

#[derive(Debug)]
struct State {
    /// When the first message is due; None: there is none.
    head: Option<Time>,
    /// Nothing is done before this time.
    not_before: Time,
    place: Place,
    /// When it began to wait there.
    since: Time,
    /// Its entry in `later`.
    wakes: Option<Time>,
    /// Its entry in `reviews`.
    reviewed: Option<Time>,
    /// It is looked at though it does not wait for long.
    at_once: bool,
    /// It is not looked at again before.
    review_from: Time,
    /// The site where its messages went last.
    site: Option<Site>,
}

/// What waits at a site.
#[derive(Debug, Default)]
struct AtSite {
    lanes: Fair<Lane>,
    /// Claimed messages that another worker found.
    batches: VecDeque<ClaimedBatch>,
    messages: usize,
    /// How many workers deliver bulk mail.
    bulk: usize,
    /// The loop was told that there is more for workers to do.
    told: bool,
    /// A worker makes way for what is new here, and takes the next turn.
    called: bool,
}

impl AtSite {
    fn is_idle(&self) -> bool {
        self.lanes.is_idle() && self.batches.is_empty() && self.bulk == 0
    }

    /// Bulk mail leaves one connection free, if there is more than one.
    const fn takes_bulk(&self, connections: usize) -> bool {
        self.bulk < connections.saturating_sub(1) || (connections == 1 && self.bulk == 0)
    }
}

/// All lanes with messages.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    lanes: HashMap<Lane, State>,
    later: BTreeSet<(Time, Lane)>,
    reviews: BTreeSet<(Time, Lane)>,
    unplanned: VecDeque<Lane>,
    paused: HashSet<Lane>,
    sites: HashMap<Site, AtSite>,
    /// The queue ends: there are no more turns.
    closed: bool,
}

impl Lanes {
    /// Takes the heads of lanes as they are now.
    pub(crate) fn follow(&mut self, heads: Vec<LaneHead>) {
        for (lane, head) in heads {
            match self.lanes.get_mut(&lane) {
                Some(state) => state.head = head,
                None if head.is_some() => {
                    let state = State {
                        head,
                        not_before: Time(i64::MIN),
                        place: Place::Later,
                        since: Time(i64::MIN),
                        wakes: None,
                        reviewed: None,
                        at_once: false,
                        review_from: Time(i64::MIN),
                        site: None,
                    };
                    self.lanes.insert(lane.clone(), state);
                }
                None => continue,
            }
            self.settle_later(&lane);
        }
    }

    /// Sets the entry in `later` of a lane that waits for its time. Forgets the lane if it has no
    /// messages.
    fn settle_later(&mut self, lane: &Lane) {
        let Some(state) = self.lanes.get_mut(lane) else {
            return;
        };
        if state.place != Place::Later {
            return;
        }
        let wakes = state.head.map(|head| head.max(state.not_before));
        if state.wakes != wakes {
            if let Some(old) = state.wakes {
                self.later.remove(&(old, lane.clone()));
            }
            state.wakes = wakes;
            if let Some(new) = wakes {
                self.later.insert((new, lane.clone()));
            }
        }
        if wakes.is_none() {
            if let Some(at) = state.reviewed {
                self.reviews.remove(&(at, lane.clone()));
            }
            self.lanes.remove(lane);
        }
    }

    /// Moves a lane to another place. `now`: it begins to wait there.
    fn set_place(&mut self, lane: &Lane, place: Place, now: Time) {
        let Some(state) = self.lanes.get_mut(lane) else {
            return;
        };
        if let Some(old) = state.wakes.take() {
            self.later.remove(&(old, lane.clone()));
        }
        if state.place == Place::Paused {
            self.paused.remove(lane);
        }
        state.place = place;
        // A plan is a matter of moments.
        if place != Place::Unplanned {
            state.since = now;
        }
        match place {
            Place::Later => self.settle_later(lane),
            Place::Unplanned => self.unplanned.push_back(lane.clone()),
            Place::Paused => {
                self.paused.insert(lane.clone());
                self.watch(lane, now);
            }
            Place::AtSite => self.watch(lane, now),
            Place::Out => {}
        }
    }

    /// Has a lane looked at that may wait for long.
    fn watch(&mut self, lane: &Lane, now: Time) {
        let known = self.lanes.get(lane).and_then(|state| state.reviewed);
        if known.is_none() {
            self.set_review(lane, now.after(REVIEW_AFTER));
        }
    }

    /// Moves the lanes that are due. Gives those that wait at sites now. A lane whose site is not
    /// known any more is planned anew: its plan has the limits of the site.
    pub(crate) fn advance(
        &mut self,
        now: Time,
        is_known: impl Fn(&Site) -> bool,
    ) -> BTreeMap<Site, Vec<Lane>> {
        let mut sites: BTreeMap<Site, Vec<Lane>> = BTreeMap::new();
        while let Some((time, lane)) = self.later.first() {
            if *time > now {
                break;
            }
            let lane = lane.clone();
            let site = self.lanes.get(&lane).and_then(|state| state.site.clone());
            match site.filter(&is_known) {
                Some(site) => {
                    self.put(&lane, &site, now);
                    sites.entry(site).or_default().push(lane);
                }
                None => self.set_place(&lane, Place::Unplanned, now),
            }
        }
        sites
    }

    /// The next lane without a plan. It waits for the caller from now on.
    pub(crate) fn next_unplanned(&mut self) -> Option<Lane> {
        while let Some(lane) = self.unplanned.pop_front() {
            let place = self.lanes.get(&lane).map(|state| state.place);
            if place == Some(Place::Unplanned) {
                return Some(lane);
            }
        }
        None
    }

    /// When there is something to do that only depends on the time.
    pub(crate) fn wakes_at(&self) -> Option<Time> {
        let later = self.later.first().map(|(time, _)| *time);
        let review = self.reviews.first().map(|(time, _)| *time);
        later.into_iter().chain(review).min()
    }

    /// A lane waits at this site from now on.
    pub(crate) fn put(&mut self, lane: &Lane, site: &Site, now: Time) {
        let Some(state) = self.lanes.get_mut(lane) else {
            return;
        };
        if state.place == Place::AtSite || state.place == Place::Out {
            return;
        }
        state.site = Some(site.clone());
        state.not_before = Time(i64::MIN);
        if state.head.is_none_or(|head| head > now) {
            return self.set_place(lane, Place::Later, now);
        }
        self.set_place(lane, Place::AtSite, now);
        let at = self.sites.entry(site.clone()).or_default();
        at.lanes.push(lane.class(), lane.account(), lane.clone());
    }

    /// A lane is to be planned when its next message is due, and not before `until`. `failing`: a
    /// message whose time is over fails meanwhile, so the lane is looked at soon.
    pub(crate) fn put_off(&mut self, lane: &Lane, until: Time, failing: bool, now: Time) {
        if let Some(state) = self.lanes.get_mut(lane) {
            // It waits since it was put off first.
            let before = state.not_before > Time(i64::MIN);
            let since = if before { state.since } else { now };
            state.not_before = until;
            state.site = None;
            self.set_place(lane, Place::Later, since);
            match failing {
                true => self.review_soon(lane, now),
                false => self.watch(lane, now),
            }
        }
    }

    /// No source of ours may send the messages of a lane before `until`. It stays at its site. A
    /// worker that has it now finds out by itself.
    pub(crate) fn wait_for_source(&mut self, lane: &Lane, until: Time, now: Time) {
        if let Some(state) = self.lanes.get_mut(lane)
            && matches!(state.place, Place::AtSite | Place::Later)
        {
            state.not_before = until;
            self.set_place(lane, Place::Later, now);
            self.watch(lane, now);
        }
    }

    /// An administrator wants nothing done with a lane. If a worker of a site has it, the worker is
    /// done with it.
    pub(crate) fn pause(&mut self, lane: &Lane, of: Option<&Site>, now: Time) {
        if let Some(at) = of.and_then(|site| self.sites.get_mut(site)) {
            at.lanes.done(lane.class(), lane.account(), 0);
        }
        self.set_place(lane, Place::Paused, now);
    }

    /// A lane waits for its time again, and is planned anew then.
    pub(crate) fn back(&mut self, lane: &Lane, now: Time) {
        self.replan(lane, now);
        self.set_place(lane, Place::Later, now);
    }

    /// Lets all lanes go on that were paused.
    pub(crate) fn go_on(&mut self, now: Time) {
        for lane in std::mem::take(&mut self.paused) {
            self.set_place(&lane, Place::Later, now);
        }
    }

    /// Lets a lane go on that was put off.
    pub(crate) fn try_now(&mut self, lane: &Lane) {
        if let Some(state) = self.lanes.get_mut(lane) {
            state.not_before = Time(i64::MIN);
            self.settle_later(lane);
        }
    }

    /// The messages of a lane may go elsewhere: it is planned anew when no worker has it.
    pub(crate) fn replan(&mut self, lane: &Lane, now: Time) {
        let Some(state) = self.lanes.get_mut(lane) else {
            return;
        };
        state.site = None;
        if state.place == Place::AtSite {
            self.set_place(lane, Place::Later, now);
        }
    }

    /// Lets all lanes go on that were put off.
    pub(crate) fn try_all_now(&mut self) {
        let waiting: Vec<Lane> = self.later.iter().map(|(_, lane)| lane.clone()).collect();
        waiting.iter().for_each(|lane| self.try_now(lane));
    }

    /// Adds claimed messages to those that wait at their site.
    ///
    /// # Errors
    /// The queue ends: they are to be given back to the store.
    pub(crate) fn push(&mut self, batch: ClaimedBatch) -> Result<(), ClaimedBatch> {
        if self.closed {
            return Err(batch);
        }
        let at = self.sites.entry(batch.plan.site.clone()).or_default();
        at.messages += batch.messages.len();
        at.batches.push_back(batch);
        Ok(())
    }

    /// How many workers of a site with so many connections could take a turn now.
    pub(crate) fn turns(&mut self, site: &Site, connections: usize) -> usize {
        let Some(at) = self.sites.get_mut(site) else {
            return 0;
        };
        at.told = false;
        let bulk = match at.takes_bulk(connections) {
            true => at.lanes.waiting(DeliveryClass::Bulk).min(connections),
            false => 0,
        };
        let others = [DeliveryClass::Urgent, DeliveryClass::Normal];
        let others = others
            .map(|class| at.lanes.waiting(class))
            .iter()
            .sum::<usize>();
        at.messages.div_ceil(BATCH) + others + bulk
    }

    /// The next turn of a worker, with so many messages at most, at a site that may have so many
    /// connections. The second part: it is a turn of bulk mail, which ends with
    /// [`bulk_ended`](Self::bulk_ended).
    pub(crate) fn take(
        &mut self,
        site: &Site,
        max: usize,
        connections: usize,
        now: Time,
    ) -> Option<(Turn, bool)> {
        if self.closed {
            return None;
        }
        let at = self.sites.get_mut(site)?;
        at.called = false;
        if let Some(turn) = at.take_batches(max) {
            return Some((turn, false));
        }
        let takes_bulk = at.takes_bulk(connections);
        let wanted = max.clamp(1, LANES_MAX);
        let (mut lanes, mut gone, mut bulk) = (Vec::new(), Vec::new(), false);
        while lanes.len() < wanted
            && let Some(lane) = at.lanes.pop(takes_bulk)
        {
            let state = self.lanes.get(&lane).filter(|state| {
                // Else it is the trace of a lane that left. It may have come back since.
                state.place == Place::AtSite
                    && state.site.as_ref() == Some(site)
                    && !lanes.contains(&lane)
            });
            let is_due = state.map(|state| state.head.is_some_and(|head| head <= now));
            if is_due == Some(true) {
                bulk |= lane.class() == DeliveryClass::Bulk;
                lanes.push(lane);
                continue;
            }
            at.lanes.done(lane.class(), lane.account(), 0);
            if is_due.is_some() {
                gone.push(lane);
            }
        }
        at.bulk += usize::from(bulk);
        for lane in gone {
            self.set_place(&lane, Place::Later, now);
        }
        for lane in &lanes {
            self.set_place(lane, Place::Out, now);
        }
        (!lanes.is_empty()).then_some((Turn::Claim(lanes), bulk))
    }

    /// A worker of a site is done with a lane, from which it claimed messages of this cost. If more
    /// is due, the lane waits for its next turn.
    pub(crate) fn done(&mut self, lane: &Lane, site: &Site, cost: u64, now: Time) {
        let state = self.lanes.get_mut(lane);
        if let Some(state) = state.filter(|state| state.place == Place::Out) {
            state.place = Place::Later;
            match state.site.clone() {
                Some(site) => self.put(lane, &site, now),
                None => self.set_place(lane, Place::Later, now),
            }
        }
        if let Some(at) = self.sites.get_mut(site) {
            at.lanes.done(lane.class(), lane.account(), cost);
        }
    }

    /// A worker of a site failed. The lanes that it had wait for another.
    pub(crate) fn rescue(&mut self, site: &Site, now: Time) {
        let out = self
            .lanes
            .iter()
            .filter(|(_, state)| state.place == Place::Out && state.site.as_ref() == Some(site));
        let out: Vec<Lane> = out.map(|(lane, _)| lane.clone()).collect();
        for lane in out {
            self.done(&lane, site, 0, now);
        }
    }

    /// Whether the loop is to be told that there is more to do at a site. It is told once.
    pub(crate) fn has_more(&mut self, site: &Site) -> bool {
        let Some(at) = self.sites.get_mut(site) else {
            return false;
        };
        let classes = DeliveryClass::ALL.iter();
        let more = classes.map(|class| at.lanes.waiting(*class)).sum::<usize>() > 0;
        more && !std::mem::replace(&mut at.told, true)
    }

    /// A worker has ended a turn of bulk mail.
    pub(crate) fn bulk_ended(&mut self, site: &Site) {
        if let Some(at) = self.sites.get_mut(site) {
            at.bulk = at.bulk.saturating_sub(1);
        }
    }

    /// Forgets a site where nothing waits and nothing is done.
    pub(crate) fn tidy(&mut self, site: &Site) {
        if self.sites.get(site).is_some_and(AtSite::is_idle) {
            self.sites.remove(site);
        }
    }

    /// Whether something waits at a site, or is done there.
    pub(crate) fn waits_at(&self, site: &Site) -> bool {
        self.sites.get(site).is_some_and(|at| !at.is_idle())
    }

    /// The sites where something waits, in the order of their names.
    pub(crate) fn sites(&self) -> Vec<Site> {
        let mut sites: Vec<Site> = self.sites.keys().cloned().collect();
        sites.sort_unstable();
        sites
    }

    /// Takes the claimed messages that wait at a site.
    pub(crate) fn take_claimed(&mut self, site: &Site) -> Vec<ClaimedBatch> {
        let Some(at) = self.sites.get_mut(site) else {
            return Vec::new();
        };
        at.messages = 0;
        std::mem::take(&mut at.batches).into()
    }

    /// Ends all turns. Gives the claimed messages that wait.
    pub(crate) fn close(&mut self) -> Vec<ClaimedBatch> {
        self.closed = true;
        let sites = std::mem::take(&mut self.sites).into_values();
        sites.flat_map(|at| at.batches).collect()
    }

    /// All lanes, with the sites where their messages went last.
    pub(crate) fn with_sites(&self) -> Vec<(Lane, Option<Site>)> {
        let lanes = self.lanes.iter();
        lanes
            .map(|(lane, state)| (lane.clone(), state.site.clone()))
            .collect()
    }

    /// The sites where messages for a destination went last.
    pub(crate) fn sites_of(&self, destination: &str) -> HashSet<Site> {
        let lanes = self.lanes.iter();
        let of_it = lanes.filter(|(lane, _)| lane.destination() == destination);
        of_it.filter_map(|(_, state)| state.site.clone()).collect()
    }

    /// The site where the messages of a lane went last.
    pub(crate) fn site_of(&self, lane: &Lane) -> Option<Site> {
        self.lanes.get(lane)?.site.clone()
    }

    /// Until when nothing is looked up for a lane.
    pub(crate) fn put_off_until(&self, lane: &Lane, now: Time) -> Option<Time> {
        let state = self.lanes.get(lane)?;
        let waits = state.place == Place::Later && state.not_before > now;
        waits.then_some(state.not_before)
    }

    /// The next lane that has waited for long, and the site where it does.
    /// [`reviewed`](Self::reviewed) is to be called for it.
    pub(crate) fn next_review(&mut self, now: Time) -> Option<(Lane, Option<Site>)> {
        while let Some((time, lane)) = self.reviews.first()
            && *time <= now
        {
            let lane = lane.clone();
            self.reviews.remove(&(*time, lane.clone()));
            let Some(state) = self.lanes.get_mut(&lane) else {
                continue;
            };
            state.reviewed = None;
            let waits = match state.place {
                Place::AtSite | Place::Paused => true,
                Place::Later => state.not_before > now && state.head.is_some_and(|at| at <= now),
                // It is looked at when its look-up fails.
                Place::Unplanned => continue,
                // It was tried a moment ago.
                Place::Out => {
                    self.watch(&lane, now);
                    continue;
                }
            };
            let due = state.since.after(REVIEW_AFTER);
            if waits && due > now && !state.at_once {
                state.reviewed = Some(due);
                self.reviews.insert((due, lane));
            } else if waits {
                state.at_once = false;
                let site = (state.place == Place::AtSite).then(|| state.site.clone());
                return Some((lane, site.flatten()));
            } else if state.not_before > now
                && let Some(head) = state.head
            {
                // Its first message comes while it is put off.
                self.set_review(&lane, head);
            }
        }
        None
    }

    /// A lane was looked at. It is to be looked at again then, if it still waits, and not before
    /// `from`. `exact`: even if it does not wait for long then.
    pub(crate) fn reviewed(&mut self, lane: &Lane, next: Time, from: Time, exact: bool) {
        if let Some(state) = self.lanes.get_mut(lane) {
            state.review_from = from;
            // It may have been asked for while it went on.
            state.at_once |= exact;
            self.set_review(lane, next.max(from));
        }
    }

    /// A lane came to a site that takes nothing now, or was tried there in vain: it is looked at
    /// soon.
    pub(crate) fn review_soon(&mut self, lane: &Lane, now: Time) {
        if let Some(state) = self.lanes.get_mut(lane) {
            state.at_once = true;
            let at = state.review_from.max(now);
            self.set_review(lane, at);
        }
    }

    /// A lane is to be looked at by then.
    fn set_review(&mut self, lane: &Lane, at: Time) {
        let Some(state) = self.lanes.get_mut(lane) else {
            return;
        };
        if let Some(known) = state.reviewed {
            if known <= at {
                return;
            }
            self.reviews.remove(&(known, lane.clone()));
        }
        state.reviewed = Some(at);
        self.reviews.insert((at, lane.clone()));
    }

    /// A lane that waits at this site is to be planned anew.
    pub(crate) fn leave(&mut self, lane: &Lane, site: &Site, now: Time) {
        let here = self
            .lanes
            .get(lane)
            .is_some_and(|state| state.place == Place::AtSite && state.site.as_ref() == Some(site));
        if here {
            self.back(lane, now);
        }
    }
}

impl AtSite {
    fn take_batches(&mut self, max: usize) -> Option<Turn> {
        let mut first = self.batches.pop_front()?;
        if first.messages.len() > max {
            let rest = ClaimedBatch {
                plan: Arc::clone(&first.plan),
                messages: first.messages.split_off(max),
                claimed: first.claimed,
            };
            self.batches.push_front(rest);
        }
        let mut messages = first.messages.len();
        let mut batches = vec![first];
        while let Some(next) = self.batches.front()
            && messages + next.messages.len() <= max
            && let Some(next) = self.batches.pop_front()
        {
            messages += next.messages.len();
            batches.push(next);
        }
        self.messages = self.messages.saturating_sub(messages);
        Some(Turn::Deliver(batches))
    }
}

/// What the turn of a message costs.
pub(crate) fn cost(message: &Queued) -> u64 {
    1 + message.common.size / COST_BYTES
}

#[cfg(test)]
mod tests;
