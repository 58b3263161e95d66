//! The claimed messages of one site that wait for a worker, and the destinations whose turn comes
//! later.
//!
//! | who | does what |
//! |---|---|
//! | the loop | adds claimed messages by [`Turns::push`] |
//! | the loop | leaves the destinations of [`Turns::held`] out of its claims, if the site is full |
//! | a worker | takes the next turn by [`Turns::next`], whenever it has nothing to do |
//!
//! Turns are in the order in which they came, so destinations of one site share its connections
//! evenly. Messages that find no place go back to the store, and their destination is *parked*. It
//! is let go, so that it is claimed again, when half of the places are free.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use postrider_store::{Destination, Moment, Queued};

use super::BATCH;
use crate::next_hop::Plan;

/// How many claimed messages of a site wait at most.
const WAITING_MAX: usize = 1024;

/// Claimed messages of one destination that share a plan.
#[derive(Debug)]
pub(crate) struct ClaimedBatch {
    pub(crate) destination: Destination,
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
    /// Claim more of this destination.
    Claim(Destination),
}

/// The result of [`Turns::next`].
#[derive(Debug, Default)]
pub(crate) struct Next {
    /// None: nothing waits.
    pub(crate) turn: Option<Turn>,
    /// Destinations were let go, so the loop may claim them again.
    pub(crate) let_go: bool,
}

/// The messages that wait for the workers of one site. The loop and the workers share them.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    turns: VecDeque<Turned>,
    /// The messages in `turns`.
    messages: usize,
    /// The destinations in `turns` that are to be claimed.
    claims: HashSet<Destination>,
    /// Destinations whose messages went back to the store.
    parked: VecDeque<Destination>,
    is_parked: HashSet<Destination>,
    closed: bool,
}

#[derive(Debug)]
enum Turned {
    Batch(ClaimedBatch),
    Claim(Destination),
}

impl Turns {
    /// The lock is held for a moment, never over a wait.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds claimed messages.
    ///
    /// # Errors
    /// There is no place for them: they are to be given back to the store. Their destination is
    /// parked already.
    pub(crate) fn push(&self, batch: ClaimedBatch) -> Result<(), ClaimedBatch> {
        let mut state = self.state();
        if state.closed {
            return Err(batch);
        }
        if state.messages + batch.messages.len() > WAITING_MAX {
            return Err(state.park(batch));
        }
        state.messages += batch.messages.len();
        state.turns.push_back(Turned::Batch(batch));
        Ok(())
    }

    /// Parks the destination of messages, which are to be given back to the store.
    pub(crate) fn park(&self, batch: ClaimedBatch) -> ClaimedBatch {
        self.state().park(batch)
    }

    /// Lets all parked destinations go.
    pub(crate) fn let_all_go(&self) {
        let mut state = self.state();
        state.parked.clear();
        state.is_parked.clear();
    }

    /// Parks a destination without claimed messages.
    pub(crate) fn park_name(&self, destination: Destination) {
        self.state().park_name(destination);
    }

    /// All parked destinations are to be claimed by workers.
    pub(crate) fn claim_parked(&self) {
        let mut state = self.state();
        state.is_parked.clear();
        for destination in std::mem::take(&mut state.parked) {
            if state.claims.insert(destination.clone()) {
                state.turns.push_back(Turned::Claim(destination));
            }
        }
    }

    /// The next turn, with so many messages at most. `again` is a destination that may have more
    /// messages: its turn comes after all others. `lets_go`: parked destinations may be claimed
    /// again when there is room.
    pub(crate) fn next(&self, again: Option<Destination>, max: usize, lets_go: bool) -> Next {
        let mut state = self.state();
        if state.closed {
            return Next::default();
        }
        if let Some(again) = again
            && state.claims.insert(again.clone())
        {
            state.turns.push_back(Turned::Claim(again));
        }
        let turn = state.take(max);
        Next {
            let_go: lets_go && state.let_go(),
            turn,
        }
    }

    /// How many workers could take a turn now.
    pub(crate) fn waiting(&self) -> usize {
        let state = self.state();
        state.messages.div_ceil(BATCH) + state.claims.len()
    }

    /// Nothing waits, and no destination is parked.
    pub(crate) fn is_empty(&self) -> bool {
        let state = self.state();
        state.turns.is_empty() && state.parked.is_empty()
    }

    /// How many messages wait, and how many destinations are held.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let state = self.state();
        (state.messages, state.turns.len() + state.parked.len())
    }

    /// Adds the destinations whose turn comes without a further claim by the loop.
    pub(crate) fn held(&self, into: &mut HashSet<Destination>) {
        let state = self.state();
        for turn in &state.turns {
            let (Turned::Batch(ClaimedBatch { destination, .. }) | Turned::Claim(destination)) =
                turn;
            into.insert(destination.clone());
        }
        into.extend(state.parked.iter().cloned());
    }

    /// Ends all turns, and gives the messages that wait.
    pub(crate) fn close(&self) -> Vec<ClaimedBatch> {
        let mut state = self.state();
        state.closed = true;
        state.drain()
    }

    /// Gives the messages that wait, and leaves the destinations whose turn comes later.
    pub(crate) fn take_batches(&self) -> Vec<ClaimedBatch> {
        let mut state = self.state();
        state.messages = 0;
        let turns = std::mem::take(&mut state.turns);
        let mut batches = Vec::new();
        for turn in turns {
            match turn {
                Turned::Batch(batch) => batches.push(batch),
                claim @ Turned::Claim(_) => state.turns.push_back(claim),
            }
        }
        batches
    }

    /// Gives the messages that wait, and forgets the destinations whose turn comes later.
    pub(crate) fn drain(&self) -> Vec<ClaimedBatch> {
        self.state().drain()
    }
}

impl State {
    fn drain(&mut self) -> Vec<ClaimedBatch> {
        self.messages = 0;
        self.claims.clear();
        self.parked.clear();
        self.is_parked.clear();
        let turns = std::mem::take(&mut self.turns);
        turns
            .into_iter()
            .filter_map(|turn| match turn {
                Turned::Batch(batch) => Some(batch),
                Turned::Claim(_) => None,
            })
            .collect()
    }

    fn park(&mut self, batch: ClaimedBatch) -> ClaimedBatch {
        self.park_name(batch.destination.clone());
        batch
    }

    fn park_name(&mut self, destination: Destination) {
        if self.is_parked.insert(destination.clone()) {
            self.parked.push_back(destination);
        }
    }

    fn take(&mut self, max: usize) -> Option<Turn> {
        let mut first = match self.turns.pop_front()? {
            // From here on the loop may claim the destination too. A message that comes after our
            // claim must not be overlooked.
            Turned::Claim(destination) => {
                self.claims.remove(&destination);
                return Some(Turn::Claim(destination));
            }
            Turned::Batch(batch) => batch,
        };
        if first.messages.len() > max {
            let rest = ClaimedBatch {
                destination: first.destination.clone(),
                plan: Arc::clone(&first.plan),
                messages: first.messages.split_off(max),
                claimed: first.claimed,
            };
            self.turns.push_front(Turned::Batch(rest));
        }
        let mut messages = first.messages.len();
        let mut batches = vec![first];
        while let Some(Turned::Batch(next)) = self.turns.front()
            && messages + next.messages.len() <= max
        {
            messages += next.messages.len();
            if let Some(Turned::Batch(next)) = self.turns.pop_front() {
                batches.push(next);
            }
        }
        self.messages -= messages;
        Some(Turn::Deliver(batches))
    }

    /// Lets parked destinations go when half of the places are free: as many as there are places.
    fn let_go(&mut self) -> bool {
        if self.parked.is_empty() || self.messages > WAITING_MAX / 2 {
            return false;
        }
        for _ in self.messages..WAITING_MAX {
            let Some(destination) = self.parked.pop_front() else {
                break;
            };
            self.is_parked.remove(&destination);
        }
        true
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::{collections::BTreeMap, sync::LazyLock};

    use postrider_config::Static;
    use postrider_smtp::ReversePath;
    use postrider_store::{Common, Notify, QueueId, TextId, Top};

    use super::*;

    pub(crate) fn message(id: u64, recipient: &str) -> Queued {
        Queued {
            id: QueueId(id),
            base: QueueId(id),
            top: Top::EMPTY,
            text: TextId(1),
            common: Arc::new(Common {
                account: String::new(),
                queued: postrider_store::Time(0),
                from: None,
                message_id: String::new(),
                subject: String::new(),
                size: 0,
                eight_bit: false,
                smtputf8: false,
                require_tls: None,
                future_release: String::new(),
                ret_full: None,
                envid: String::new(),
                list: String::new(),
                extra: BTreeMap::new(),
                origin: postrider_store::Origin::Sent,
                urgency: Default::default(),
            }),
            reverse_path: ReversePath::Null,
            from_id: String::new(),
            recipient: recipient.parse().unwrap(),
            notify: Notify::default(),
            orcpt: String::new(),
            transport: String::new(),
            hold: false,
            held_since: None,
            first_due: postrider_store::Time(0),
            attempts: 1,
            last_attempt: None,
            next_attempt: postrider_store::Time(0),
            delay_told: false,
            fence: 1,
            results: Vec::new(),
            envids: Vec::new(),
        }
    }

    pub(crate) fn local_plan(destination: &str) -> Plan {
        static STATICS: LazyLock<Static> = LazyLock::new(|| {
            let statics = "hostname = \"a.example\"\npostmaster.account = \"a\"\n\
                           listeners.l.ips = [\"127.0.0.1\"]\n";
            Static::parse(statics, "postrider.conf").unwrap()
        });
        Plan::local(destination, &STATICS.providers)
    }

    pub(crate) fn batch(destination: &str, messages: usize) -> ClaimedBatch {
        let recipient = format!("x@{destination}");
        ClaimedBatch {
            destination: destination.into(),
            plan: Arc::new(local_plan("site")),
            messages: (0..messages)
                .map(|id| message(id as u64, &recipient))
                .collect(),
            claimed: Moment::default(),
        }
    }

    fn taken(turns: &Turns, again: Option<&str>) -> Vec<String> {
        match turns.next(again.map(str::to_owned), BATCH, true).turn {
            None => Vec::new(),
            Some(Turn::Claim(destination)) => vec![format!("claim {destination}")],
            Some(Turn::Deliver(batches)) => batches
                .iter()
                .map(|batch| format!("{} {}", batch.destination, batch.messages.len()))
                .collect(),
        }
    }

    fn held(turns: &Turns) -> Vec<String> {
        let mut held = HashSet::new();
        turns.held(&mut held);
        let mut held: Vec<String> = held.into_iter().collect();
        held.sort();
        held
    }

    #[test]
    fn destinations_take_turns_and_small_batches_go_together() {
        let turns = Turns::default();
        for (destination, messages) in [("a", 32), ("b", 20), ("c", 12), ("d", 1)] {
            turns.push(batch(destination, messages)).unwrap();
        }
        assert_eq!(held(&turns), ["a", "b", "c", "d"]);
        assert_eq!(turns.waiting(), 3);
        assert_eq!(taken(&turns, None), ["a 32"]);
        assert_eq!(held(&turns), ["b", "c", "d"]);
        assert_eq!(taken(&turns, Some("a")), ["b 20", "c 12"]);
        assert_eq!(taken(&turns, Some("a")), ["d 1"]);
        assert_eq!(taken(&turns, None), ["claim a"]);
        assert_eq!(taken(&turns, None), [""; 0]);
        assert_eq!(taken(&turns, Some("a")), ["claim a"]);
        assert!(turns.is_empty() && held(&turns).is_empty());
    }

    #[test]
    fn a_destination_without_a_place_is_parked_until_half_is_free() {
        let turns = Turns::default();
        let mut refused = 0;
        for number in 0..WAITING_MAX + 100 {
            let destination = format!("d{number:04}");
            refused += usize::from(turns.push(batch(&destination, 1)).is_err());
        }
        assert_eq!(refused, 100);
        assert!(turns.push(batch("d1050", 1)).is_err(), "it is parked once");
        assert_eq!(turns.counts(), (WAITING_MAX, WAITING_MAX + 100));
        let mut taken = 0;
        loop {
            let next = turns.next(None, BATCH, true);
            let Some(Turn::Deliver(batches)) = next.turn else {
                panic!("a turn is missing");
            };
            taken += batches.len();
            if next.let_go {
                break;
            }
        }
        assert_eq!(taken, WAITING_MAX / 2);
        assert_eq!(turns.counts(), (WAITING_MAX / 2, WAITING_MAX / 2));
        assert!(!turns.next(None, BATCH, true).let_go);
    }

    #[test]
    fn a_probe_takes_one_message_and_leaves_the_others() {
        let turns = Turns::default();
        turns.push(batch("a", 3)).unwrap();
        turns.push(batch("b", 1)).unwrap();
        let Some(Turn::Deliver(batches)) = turns.next(None, 1, true).turn else {
            panic!("a turn is missing");
        };
        assert_eq!((batches.len(), batches[0].messages.len()), (1, 1));
        assert_eq!(turns.counts().0, 3);
        assert_eq!(taken(&turns, None), ["a 2", "b 1"]);
        assert_eq!(turns.counts(), (0, 0));
    }

    #[test]
    fn parked_destinations_are_claimed_by_workers() {
        let turns = Turns::default();
        turns.park(batch("a", 2));
        turns.park_name("b".into());
        turns.park_name("a".into());
        assert!(
            !turns.next(None, BATCH, false).let_go,
            "they wait for a token"
        );
        assert_eq!(turns.counts(), (0, 2));
        turns.claim_parked();
        turns.claim_parked();
        assert_eq!(turns.waiting(), 2);
        assert_eq!(taken(&turns, None), ["claim a"]);
        assert_eq!(taken(&turns, None), ["claim b"]);
        assert!(turns.is_empty());
    }

    #[test]
    fn the_end_gives_back_what_waits() {
        let turns = Turns::default();
        turns.push(batch("a", 2)).unwrap();
        turns.next(None, BATCH, true);
        turns.push(batch("b", 3)).unwrap();
        let left = turns.close();
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].messages.len(), 3);
        assert!(turns.push(batch("c", 1)).is_err());
        assert!(turns.next(Some("a".into()), BATCH, true).turn.is_none());
        assert!(turns.is_empty());
    }
}
