//! The lanes of a queue, as the benchmark `due` measures them.

use postrider_store::{Lane, LaneHead, Time};

use crate::{
    next_hop::Site,
    schedule::{Lanes, Turn},
};

/// The lanes with due messages, at their sites.
#[derive(Debug, Default)]
pub struct DueLanes {
    lanes: Lanes,
}

impl DueLanes {
    /// Takes the heads of lanes, as the store tells them.
    pub fn follow(&mut self, heads: Vec<LaneHead>) {
        self.lanes.follow(heads);
    }

    /// Puts all lanes that are due at their sites, which `site` names. Gives how many there are.
    pub fn put_due(&mut self, site: impl Fn(&Lane) -> String, now: Time) -> usize {
        let mut count = 0;
        self.lanes.advance(now);
        while let Some(lane) = self.lanes.next_unplanned() {
            self.lanes.put(&lane, &Site::from(&*site(&lane)), now);
            count += 1;
        }
        count
    }

    /// The lanes of the next turn at a site, for so many messages.
    pub fn take(&mut self, site: &str, max: usize, now: Time) -> Vec<Lane> {
        match self.lanes.take(&Site::from(site), max, 10, now) {
            Some((Turn::Claim(lanes), _)) => lanes,
            Some((Turn::Deliver(_), _)) | None => Vec::new(),
        }
    }

    /// The turn of a lane is over. It cost so much.
    pub fn done(&mut self, lane: &Lane, site: &str, cost: u64, now: Time) {
        self.lanes.done(lane, &Site::from(site), cost, now);
    }
}
