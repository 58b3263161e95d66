//! The messages in the hands of workers, and who makes way for those that come.

use postrider_store::{DeliveryClass, Queued};

use super::{Lanes, cost};
use crate::next_hop::Site;

/// The messages of one class and account in the hands of a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) class: DeliveryClass,
    pub(crate) account: String,
    pub(crate) count: usize,
    /// What they cost.
    pub(crate) cost: u64,
}

impl Share {
    /// The shares of all who have one of these messages.
    pub(crate) fn of<'a>(messages: impl IntoIterator<Item = &'a Queued>) -> Vec<Self> {
        let mut shares: Vec<Self> = Vec::new();
        for message in messages {
            let cost = cost(message);
            match shares.iter_mut().find(|share| share.has(message)) {
                Some(share) => {
                    share.count += 1;
                    share.cost += cost;
                }
                None => shares.push(Self {
                    class: DeliveryClass::of(&message.common.urgency),
                    account: message.common.account.clone(),
                    count: 1,
                    cost,
                }),
            }
        }
        shares
    }

    /// Whether a message is one of those.
    pub(crate) fn has(&self, message: &Queued) -> bool {
        let class = DeliveryClass::of(&message.common.urgency);
        class == self.class && message.common.account == self.account
    }
}

impl Lanes {
    /// These messages come into the hands of a worker of a site.
    pub(crate) fn hold(&mut self, site: &Site, shares: &[Share]) {
        if self.closed || shares.is_empty() {
            return;
        }
        let at = self.sites.entry(site.clone()).or_default();
        for share in shares {
            at.lanes.hold(share.class, &share.account, share.count);
        }
    }

    /// These messages are in the hands of a worker of a site no more.
    pub(crate) fn let_go(&mut self, site: &Site, shares: &[Share]) {
        if let Some(at) = self.sites.get_mut(site) {
            for share in shares {
                at.lanes.let_go(share.class, &share.account, share.count);
            }
        }
    }

    /// A worker of a site gave these messages back before it sent them. This is to be told when the
    /// newcomer had its turn: until then they count, so that the turn is that of the newcomer.
    pub(crate) fn refund(&mut self, site: &Site, shares: &[Share]) {
        if let Some(at) = self.sites.get_mut(site) {
            for share in shares {
                at.lanes.refund(share.class, &share.account, share.cost);
            }
        }
    }

    /// Whether a worker is to make way, which goes on with messages of this class. Gives the class
    /// of what came, if so. Then the worker takes the next turn of the site, and no other worker
    /// makes way meanwhile.
    ///
    /// `much`: it has more messages of this class and account than a turn. `called`: it makes way
    /// already.
    pub(crate) fn makes_way(
        &mut self,
        site: &Site,
        class: DeliveryClass,
        much: bool,
        called: bool,
    ) -> Option<DeliveryClass> {
        let at = self.sites.get_mut(site)?;
        if at.called && !called {
            return None;
        }
        let newcomer = at.lanes.newcomer(class, much)?;
        at.called = true;
        Some(newcomer)
    }
}
