//! The messages in the hands of a worker, and who makes way for others that come to its site.
//!
//! A worker claims as many messages as one turn may have, and looks before each MAIL whether it
//! goes on with them:
//!
//! | what waits | what the worker gives back |
//! |---|---|
//! | mail of a more urgent class, from a newcomer | what is less urgent |
//! | mail of the same class, from a newcomer | that of accounts with much of it in the batch |
//! | other sites, for a place, while this batch costs much more than a turn | all |
//!
//! A newcomer is an account of which no worker of the site has mail of that class. Much is more
//! than [`QUANTUM`] messages.
//!
//! Then it takes the next turn of the site, which is that of the newcomer. One worker makes way for
//! it, and the first message of each turn is sent in any case: so nobody starves, and a claim is
//! made anew only when somebody comes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use postrider_store::{DeliveryClass, Queued};

use crate::{
    Queue,
    next_hop::Site,
    schedule::{BATCH, PLACE_COST, QUANTUM, Share},
};

/// The messages in the hands of a worker, until the value is dropped.
pub(crate) struct Hand {
    queue: Arc<Queue>,
    site: Site,
    shares: Vec<Share>,
    /// While other sites wait for a place, the messages may cost so much.
    may_cost: u64,
    progress: Mutex<Progress>,
}

/// How far the worker is.
#[derive(Debug, Default)]
struct Progress {
    /// What the messages that began cost.
    cost: u64,
    /// It makes way for mail of this class.
    newcomer: Option<DeliveryClass>,
    /// It makes way for other sites.
    is_over: bool,
}

impl Hand {
    /// Takes messages into the hands of a worker, which spent `used` of its turn before.
    pub(super) fn take(queue: &Arc<Queue>, site: &Site, shares: Vec<Share>, used: u64) -> Self {
        queue.lanes().hold(site, &shares);
        Self::held(queue, site, shares, used)
    }

    /// The same for messages that [`Lanes::hold`](crate::schedule::Lanes::hold) knows of already.
    pub(super) fn held(queue: &Arc<Queue>, site: &Site, shares: Vec<Share>, used: u64) -> Self {
        // So a batch of small messages is never cut.
        let may_cost = (PLACE_COST + BATCH as u64).saturating_sub(used);
        Self {
            queue: Arc::clone(queue),
            site: site.clone(),
            shares,
            may_cost,
            progress: Mutex::default(),
        }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether messages may begin, of which this is the share. `goes_on`: they began before, at
    /// another host.
    pub(crate) fn begin(&self, share: &Share, goes_on: bool) -> bool {
        let mut progress = self.progress();
        if !goes_on && progress.cost > 0 {
            self.look(&mut progress, share);
            if self.stops(&progress, share) {
                return false;
            }
        }
        progress.cost += share.cost;
        true
    }

    /// Looks whether somebody waits.
    fn look(&self, progress: &mut Progress, share: &Share) {
        let others = self.queue.flow.has_others();
        progress.is_over |= others && progress.cost >= self.may_cost;
        if self.stops(progress, share) {
            return;
        }
        let (much, called) = (self.has_much(share), progress.newcomer.is_some());
        let mut lanes = self.queue.lanes();
        let newcomer = lanes.makes_way(&self.site, share.class, much, called);
        progress.newcomer = newcomer.or(progress.newcomer);
    }

    /// Whether no further message of a share begins.
    fn stops(&self, progress: &Progress, share: &Share) -> bool {
        let makes_way =
            |newcomer| newcomer < share.class || (newcomer == share.class && self.has_much(share));
        progress.is_over || progress.newcomer.is_some_and(makes_way)
    }

    /// Whether there are more messages of a class and an account than those of a turn.
    fn has_much(&self, share: &Share) -> bool {
        let is_same = |it: &&Share| it.class == share.class && it.account == share.account;
        let count = self.shares.iter().find(is_same).map_or(0, |it| it.count);
        i64::try_from(count).unwrap_or(i64::MAX) > QUANTUM
    }

    /// Whether a message that did not begin is given back.
    pub(crate) fn makes_way(&self, message: &Queued) -> bool {
        let progress = self.progress();
        if !progress.is_over && progress.newcomer.is_none() {
            return false;
        }
        let mut shares = self.shares.iter();
        let share = shares.find(|share| share.has(message));
        share.is_some_and(|share| self.stops(&progress, share))
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        self.queue.lanes().let_go(&self.site, &self.shares);
    }
}
