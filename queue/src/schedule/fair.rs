//! Who is next at a site: deficit round robin over the classes of mail, and within a class over the
//! accounts. There is no I/O here.
//!
//! Each turn costs what it claims: 1 a recipient, and 1 for each 256 KiB of text. A turn that
//! claims nothing costs 1, or it could be taken for ever. A class gets 16, 4 or 1 times [`QUANTUM`]
//! in a round, and an account [`QUANTUM`]. Whoever used more than it got waits until the others had
//! theirs. What nobody else wants goes to those who want it.
//!
//! An account is new here if something of it waits, and no worker has anything of it. Workers that
//! have more of others than a turn make way for it ([`Fair::newcomer`]).

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use postrider_store::DeliveryClass;

/// What an account gets in a round.
pub(crate) const QUANTUM: i64 = 8;

/// The classes, in the order of their urgency, with their weights.
const WEIGHTS: [i64; 3] = [16, 4, 1];

/// Things that wait, by class and account. Those of an account come in order.
#[derive(Debug)]
pub(crate) struct Fair<T> {
    classes: [Class<T>; 3],
}

#[derive(Debug)]
struct Class<T> {
    deficit: i64,
    accounts: HashMap<Arc<str>, Account<T>>,
    /// The accounts with things that wait, in the order of their turns.
    order: VecDeque<Arc<str>>,
    waiting: usize,
    out: usize,
    /// The accounts that are new.
    new: usize,
}

#[derive(Debug)]
struct Account<T> {
    deficit: i64,
    waiting: VecDeque<T>,
    /// So many were taken, and what they cost is not known yet.
    out: usize,
    /// So many messages of it are in the hands of workers.
    held: usize,
}

impl<T> Account<T> {
    fn is_new(&self) -> bool {
        !self.waiting.is_empty() && self.out == 0 && self.held == 0
    }

    fn is_gone(&self) -> bool {
        self.waiting.is_empty() && self.out == 0 && self.held == 0
    }
}

impl<T> Default for Fair<T> {
    fn default() -> Self {
        Self {
            classes: Default::default(),
        }
    }
}

impl<T> Default for Class<T> {
    fn default() -> Self {
        Self {
            deficit: 0,
            accounts: HashMap::new(),
            order: VecDeque::new(),
            waiting: 0,
            out: 0,
            new: 0,
        }
    }
}

impl<T> Default for Account<T> {
    fn default() -> Self {
        Self {
            deficit: 0,
            waiting: VecDeque::new(),
            out: 0,
            held: 0,
        }
    }
}

const fn index(class: DeliveryClass) -> usize {
    match class {
        DeliveryClass::Urgent => 0,
        DeliveryClass::Normal => 1,
        DeliveryClass::Bulk => 2,
    }
}

impl<T> Fair<T> {
    fn class(&mut self, class: DeliveryClass) -> &mut Class<T> {
        let [urgent, normal, bulk] = &mut self.classes;
        match class {
            DeliveryClass::Urgent => urgent,
            DeliveryClass::Normal => normal,
            DeliveryClass::Bulk => bulk,
        }
    }

    /// How many things of a class wait.
    pub(crate) fn waiting(&self, class: DeliveryClass) -> usize {
        self.classes.get(index(class)).map_or(0, |it| it.waiting)
    }

    /// Nothing waits, and nothing is out or in the hands of workers.
    pub(crate) fn is_idle(&self) -> bool {
        let mut classes = self.classes.iter();
        classes.all(|class| class.out == 0 && class.accounts.is_empty())
    }

    /// Adds a thing behind those of its account.
    pub(crate) fn push(&mut self, class: DeliveryClass, account: &str, thing: T) {
        self.class(class).push(account, thing);
    }

    /// Takes the next thing. It counts as [`QUANTUM`] until [`done`](Self::done) tells what it
    /// cost. `bulk`: bulk mail may be taken.
    pub(crate) fn pop(&mut self, bulk: bool) -> Option<T> {
        let allowed = if bulk {
            WEIGHTS.len()
        } else {
            index(DeliveryClass::Bulk)
        };
        let weighted = || WEIGHTS.iter().copied().take(allowed);
        let rounds = self
            .classes
            .iter()
            .zip(weighted())
            .filter(|(class, _)| class.waiting > 0)
            .map(|(class, weight)| rounds(class.deficit, weight * QUANTUM))
            .min()?;
        let classes = self.classes.iter_mut().zip(weighted());
        for (class, weight) in classes.filter(|(class, _)| class.waiting > 0) {
            class.deficit += rounds * weight * QUANTUM;
        }
        let mut classes = self.classes.iter_mut().take(allowed);
        let class = classes.find(|class| class.waiting > 0 && class.deficit > 0)?;
        class.pop()
    }

    /// A thing that was taken has cost so much. If it waits again, it is to be added before this:
    /// an account of which nothing waits owes nothing.
    pub(crate) fn done(&mut self, class: DeliveryClass, account: &str, cost: u64) {
        self.class(class).done(account, cost);
    }

    /// So many messages of an account come into the hands of a worker.
    pub(crate) fn hold(&mut self, class: DeliveryClass, account: &str, count: usize) {
        let class = self.class(class);
        if count > 0 && !class.accounts.contains_key(account) {
            class.accounts.insert(account.into(), Account::default());
        }
        class.change(account, |known| known.held += count);
    }

    /// So many messages of an account are in the hands of a worker no more.
    pub(crate) fn let_go(&mut self, class: DeliveryClass, account: &str, count: usize) {
        self.class(class).change(account, |known| {
            known.held = known.held.saturating_sub(count);
        });
    }

    /// Messages that cost so much were given back before they were sent: they cost nothing.
    pub(crate) fn refund(&mut self, class: DeliveryClass, account: &str, cost: u64) {
        let share = WEIGHTS.get(index(class)).map_or(QUANTUM, |it| it * QUANTUM);
        let cost = whole(cost);
        let class = self.class(class);
        if class.out > 0 || class.waiting > 0 {
            class.deficit = class.deficit.saturating_add(cost).min(share);
        }
        class.change(account, |known| {
            known.deficit = known.deficit.saturating_add(cost).min(QUANTUM);
        });
    }

    /// The most urgent class with an account that is new and goes before more mail of `class`: it
    /// is of a more urgent class. `much`: a worker has more of that mail than a turn, and one of
    /// the same class goes before it too.
    pub(crate) fn newcomer(&self, class: DeliveryClass, much: bool) -> Option<DeliveryClass> {
        let goes_before = |other: DeliveryClass| other < class || (much && other == class);
        let mut classes = DeliveryClass::ALL.into_iter().zip(&self.classes);
        let found = classes.find(|(other, it)| it.new > 0 && goes_before(*other));
        found.map(|(other, _)| other)
    }
}

/// A cost as a number to count with.
fn whole(cost: u64) -> i64 {
    i64::try_from(cost.min(1 << 40)).unwrap_or_default()
}

/// How many rounds it takes until there is something left again.
const fn rounds(deficit: i64, share: i64) -> i64 {
    match deficit > 0 {
        true => 0,
        false => -deficit / share + 1,
    }
}

impl<T> Class<T> {
    /// Changes an account that is known, and forgets it if nothing of it is left.
    fn change(&mut self, account: &str, change: impl FnOnce(&mut Account<T>)) {
        let Some(known) = self.accounts.get_mut(account) else {
            return;
        };
        let before = usize::from(known.is_new());
        change(known);
        let after = usize::from(known.is_new());
        self.new = (self.new + after).saturating_sub(before);
        if known.is_gone() {
            self.accounts.remove(account);
        }
    }

    fn push(&mut self, account: &str, thing: T) {
        self.waiting += 1;
        let known = self.accounts.get(account);
        if known.is_none_or(|known| known.waiting.is_empty()) {
            self.order.push_back(account.into());
        }
        if known.is_none() {
            self.accounts.insert(account.into(), Account::default());
        }
        self.change(account, |known| known.waiting.push_back(thing));
    }

    fn pop(&mut self) -> Option<T> {
        // If each account used more than it got, all get the same, until one has something left.
        let in_order = self.order.iter();
        let deficits = in_order.filter_map(|name| Some(self.accounts.get(name)?.deficit));
        let missing = deficits.map(|deficit| rounds(deficit, QUANTUM)).min()?;
        if missing > 1 {
            for name in &self.order {
                if let Some(account) = self.accounts.get_mut(name) {
                    account.deficit += (missing - 1) * QUANTUM;
                }
            }
        }
        for _ in 0..self.order.len() {
            let name = self.order.front()?;
            let account = self.accounts.get_mut(name)?;
            if account.deficit <= 0 {
                account.deficit += QUANTUM;
            }
            if account.deficit <= 0 {
                self.order.rotate_left(1);
                continue;
            }
            self.new -= usize::from(account.is_new());
            let thing = account.waiting.pop_front()?;
            account.deficit -= QUANTUM;
            account.out += 1;
            if account.waiting.is_empty() {
                self.order.pop_front();
            } else if account.deficit <= 0 {
                self.order.rotate_left(1);
            }
            self.deficit -= QUANTUM;
            self.waiting -= 1;
            self.out += 1;
            return Some(thing);
        }
        None
    }

    fn done(&mut self, account: &str, cost: u64) {
        let more = whole(cost.max(1)) - QUANTUM;
        self.out = self.out.saturating_sub(1);
        self.deficit = self.deficit.saturating_sub(more);
        if self.out == 0 && self.waiting == 0 {
            self.deficit = 0;
        }
        self.change(account, |known| {
            known.out = known.out.saturating_sub(1);
            known.deficit = known.deficit.saturating_sub(more);
        });
    }
}

#[cfg(test)]
mod tests {
    use postrider_store::DeliveryClass::{Bulk, Normal, Urgent};
    use proptest::prelude::*;

    use super::*;

    type Sample = Fair<(DeliveryClass, &'static str)>;

    fn add(fair: &mut Sample, class: DeliveryClass, account: &'static str) {
        fair.push(class, account, (class, account));
    }

    /// Takes the next thing, which costs so much, and puts it back: there is always more of it.
    fn turn(fair: &mut Sample, cost: u64) -> (DeliveryClass, &'static str) {
        let (class, account) = fair.pop(true).unwrap();
        add(fair, class, account);
        fair.done(class, account, cost);
        (class, account)
    }

    #[test]
    fn accounts_take_turns_however_much_waits_for_each() {
        let mut fair = Sample::default();
        for _ in 0..1000 {
            add(&mut fair, Normal, "a");
        }
        add(&mut fair, Normal, "b");
        let first: Vec<_> = (0..2).map(|_| turn(&mut fair, 8).1).collect();
        assert!(first.contains(&"b"), "{first:?}");
        let mut turns = [0, 0];
        for _ in 0..100 {
            turns[usize::from(turn(&mut fair, 8).1 == "b")] += 1;
        }
        assert_eq!(turns, [50, 50]);
    }

    #[test]
    fn turns_that_claim_nothing_starve_nobody() {
        let mut fair = Sample::default();
        add(&mut fair, Urgent, "a");
        add(&mut fair, Normal, "b");
        let mut turns = (0..2000).map(|_| turn(&mut fair, 0));
        assert!(turns.any(|(class, _)| class == Normal));
    }

    #[test]
    fn an_account_with_large_messages_has_fewer_turns() {
        let mut fair = Sample::default();
        add(&mut fair, Normal, "large");
        add(&mut fair, Normal, "small");
        let mut sums = [0, 0];
        for _ in 0..1000 {
            let (_, account) = fair.pop(true).unwrap();
            let cost = if account == "large" { 80 } else { 8 };
            sums[usize::from(account == "small")] += cost;
            add(&mut fair, Normal, account);
            fair.done(Normal, account, cost);
        }
        let [large, small] = sums.map(|sum| f64::from(u32::try_from(sum).unwrap()));
        assert!((0.9..1.1).contains(&(large / small)), "{large} {small}");
    }

    #[test]
    fn classes_share_by_their_weights_and_none_starves() {
        let mut fair = Sample::default();
        for class in [Bulk, Normal, Urgent] {
            add(&mut fair, class, "a");
        }
        let mut counts = [0, 0, 0];
        for _ in 0..2100 {
            counts[index(turn(&mut fair, 8).0)] += 1;
        }
        assert_eq!(counts, [1600, 400, 100]);
    }

    #[test]
    fn bulk_mail_waits_when_it_has_to() {
        let mut fair = Sample::default();
        add(&mut fair, Bulk, "a");
        assert_eq!(fair.pop(false), None);
        add(&mut fair, Normal, "a");
        assert_eq!(fair.pop(false), Some((Normal, "a")));
        assert_eq!((fair.waiting(Bulk), fair.waiting(Normal)), (1, 0));
        assert_eq!(fair.pop(true), Some((Bulk, "a")));
        assert!(!fair.is_idle(), "both are out");
        fair.done(Bulk, "a", 1);
        fair.done(Normal, "a", 1);
        assert!(fair.is_idle());
        assert!(fair.classes.iter().all(|class| class.accounts.is_empty()));
    }

    #[test]
    fn an_account_of_which_no_worker_has_anything_goes_before_much_of_others() {
        let mut fair = Sample::default();
        add(&mut fair, Normal, "a");
        assert_eq!(fair.newcomer(Normal, true), Some(Normal));
        fair.pop(true).unwrap();
        assert_eq!(fair.newcomer(Bulk, true), None, "it is out");
        fair.hold(Normal, "a", 32);
        add(&mut fair, Normal, "a");
        fair.done(Normal, "a", 32);
        assert_eq!(fair.newcomer(Bulk, true), None, "a worker has some of it");
        add(&mut fair, Normal, "b");
        let before = |class, much| fair.newcomer(class, much);
        assert_eq!(
            (before(Normal, true), before(Normal, false)),
            (Some(Normal), None)
        );
        assert_eq!(
            (before(Urgent, true), before(Bulk, false)),
            (None, Some(Normal))
        );
        // An account that is new is next, and what was given back cost nothing.
        assert_eq!(fair.pop(true), Some((Normal, "b")));
        fair.done(Normal, "b", 1);
        fair.refund(Normal, "a", 31);
        add(&mut fair, Normal, "b");
        assert_eq!(fair.pop(true), Some((Normal, "a")));
        fair.done(Normal, "a", 1);
        fair.let_go(Normal, "a", 32);
        fair.pop(true).unwrap();
        fair.done(Normal, "b", 1);
        assert!(fair.is_idle());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// The accounts that are new are counted right, and nothing is left in the end.
        #[test]
        fn new_accounts_are_known(
            steps in prop::collection::vec((0..5_u8, 0..3_usize, 0..3_usize), 1..100),
        ) {
            const ACCOUNTS: [&str; 3] = ["a", "b", "c"];
            let mut fair = Fair::default();
            let (mut out, mut held) = (Vec::new(), Vec::new());
            for (step, class, account) in steps {
                let (class, account) = (DeliveryClass::ALL[class], ACCOUNTS[account]);
                match step {
                    0 | 1 => fair.push(class, account, (class, account)),
                    2 => out.extend(fair.pop(true)),
                    3 => {
                        if let Some((class, account)) = out.pop() {
                            fair.hold(class, account, 5);
                            held.push((class, account));
                            fair.done(class, account, 5);
                        }
                    }
                    _ => {
                        if let Some((class, account)) = held.pop() {
                            fair.refund(class, account, 3);
                            fair.let_go(class, account, 5);
                        }
                    }
                }
                for class in &fair.classes {
                    let accounts = class.accounts.values();
                    let new = accounts.filter(|account| account.is_new()).count();
                    prop_assert_eq!(class.new, new);
                }
            }
            out.extend(std::iter::from_fn(|| fair.pop(true)));
            for (class, account) in out {
                fair.done(class, account, 1);
            }
            for (class, account) in held {
                fair.let_go(class, account, 5);
            }
            prop_assert!(fair.is_idle());
        }

        /// Whatever waits has its turn before anyone else had twice what it got in a round and the
        /// dearest turn.
        #[test]
        fn nobody_starves(
            things in prop::collection::vec((0..3_usize, 0..4_usize), 1..20),
            costs in prop::collection::vec(0..200_u64, 1..20),
        ) {
            const ACCOUNTS: [&str; 4] = ["a", "b", "c", "d"];
            let mut fair = Fair::default();
            for (number, (class, account)) in things.iter().enumerate() {
                fair.push(DeliveryClass::ALL[*class], ACCOUNTS[*account], number);
            }
            let mut costs = costs.iter().cycle();
            let mut seen = vec![0_u32; things.len()];
            // The bulk class has one part of 21, and each of its things one of 20 of that.
            for _ in 0..20_000 {
                let number = fair.pop(true).unwrap();
                seen[number] += 1;
                let (class, account) = things[number];
                let (class, account) = (DeliveryClass::ALL[class], ACCOUNTS[account]);
                fair.push(class, account, number);
                fair.done(class, account, *costs.next().unwrap());
            }
            prop_assert!(seen.iter().all(|seen| *seen > 0), "{seen:?}");
        }
    }
}
