//! Messages whose route is another than that of their lane: they move to the lane of their route.
//!
//! A message keeps the name of the transport that its route gives the next attempt, and so all
//! messages of a lane go to one site. The name is noted when the message is added and after each
//! attempt. When the routes of the configuration change, and at the start, all lanes are walked
//! whose messages may have another route by now. A claim and a review of a lane look too: so a
//! message that was added or settled by the routes of before moves as well.

use std::sync::Arc;

use postrider_config::{CertainRoutes, Dynamic};
use postrider_smtp::Host;
use postrider_store::{Lane, Queued, Reroute, StoreError, Time};
use tokio::sync::watch;
use tracing::{debug, error};

use super::{LANES_PAGE, STORE_RETRY, released};
use crate::{Queue, route, told::Settlements};

/// How many messages are read at once.
const PAGE: usize = 100;

impl Queue {
    /// Tells the queue that the configuration was replaced: messages that wait may have other
    /// routes.
    pub fn follow_config(&self) {
        self.replaced.notify_one();
    }

    /// Moves messages that wait when the routes change, until `shutdown` is true.
    pub(super) async fn keep_routes(self: Arc<Self>, mut shutdown: watch::Receiver<bool>) {
        let mut known: Option<Arc<Dynamic>> = None;
        loop {
            let config = self.config.load_full();
            let same = known.is_some_and(|known| known.has_routes_of(&config));
            let moved = async {
                match same {
                    true => Ok(0),
                    false => self.reroute_all(&config).await,
                }
            };
            let moved = tokio::select! {
                moved = moved => moved,
                // The next start does it.
                _ = shutdown.wait_for(|stop| *stop) => return,
            };
            let next = async {
                match &moved {
                    Ok(_) => self.replaced.notified().await,
                    Err(_) => {
                        let again_at = self.clock.moment().after(STORE_RETRY);
                        self.clock.sleep_until_moment(again_at).await;
                    }
                }
            };
            match &moved {
                Ok(0) => {}
                Ok(count) => debug!(count, "messages that wait have other routes now"),
                Err(error) => error!(%error, "failed to move messages that have other routes now"),
            }
            tokio::select! {
                () = next => {}
                _ = shutdown.wait_for(|stop| *stop) => return,
            }
            known = moved.is_ok().then_some(config);
        }
    }

    /// Gives all messages that wait the routes of this configuration. Tells how many have others
    /// now. Only lanes are read whose messages may have another route.
    async fn reroute_all(&self, config: &Dynamic) -> Result<u64, StoreError> {
        let certain = CertainRoutes::of(config);
        let (mut after, mut count) = (None, 0);
        loop {
            let lanes = self.store.lanes(after, LANES_PAGE).await?;
            let is_last = lanes.len() < LANES_PAGE;
            after = lanes.last().map(|(lane, _)| lane.clone());
            for (lane, _) in lanes {
                let to = Host::parse(lane.destination()).ok();
                let to = to.as_ref().and_then(Host::domain);
                if certain.transport(lane.account(), to) != Some(lane.transport()) {
                    count += self.reroute_lane(&lane, config).await?;
                }
            }
            if is_last {
                return Ok(count);
            }
        }
    }

    /// Does so for the messages of a lane, due or not.
    async fn reroute_lane(&self, lane: &Lane, config: &Dynamic) -> Result<u64, StoreError> {
        let (mut after, mut count) = (None, 0);
        loop {
            let page = self.store.due_in_lane(lane, after, Time(i64::MAX), PAGE);
            let mut page = page.await?;
            let is_last = page.len() < PAGE;
            after = page.last().map(|last| (last.next_attempt, last.id));
            count += self.reroute(&mut page, config).await?;
            if is_last {
                return Ok(count);
            }
        }
    }

    /// Does so for these messages, and leaves those that stay in their lane: a forced transport
    /// wins. Those that are claimed meanwhile do not move: their claim looks itself.
    pub(crate) async fn reroute(
        &self,
        messages: &mut Vec<Queued>,
        config: &Dynamic,
    ) -> Result<u64, StoreError> {
        let mut moves = Vec::new();
        messages.retain(|message| {
            let Some(route) = route::changed(message, message.attempts, config) else {
                return true;
            };
            moves.push(Reroute {
                id: message.id,
                fence: message.fence,
                route: route.to_owned(),
            });
            !message.transport.is_empty()
        });
        match moves.is_empty() {
            true => Ok(0),
            false => self.store.reroute(moves).await,
        }
    }

    /// Gives back claimed messages whose route is another than that of their lane, and gives the
    /// others.
    pub(super) async fn keep_in_place(&self, mut claimed: Vec<Queued>) -> Vec<Queued> {
        let config = self.config.load_full();
        let mut moved = Settlements::default();
        claimed.retain(|message| {
            // The claim counts the attempt to come.
            let made = message.attempts.saturating_sub(1);
            let forced = !message.transport.is_empty();
            let to = route::changed(message, made, &config).filter(|_| !forced);
            if let Some(to) = to {
                moved.push(released(message, Some(to.to_owned())));
            }
            to.is_none()
        });
        if !moved.is_empty() {
            self.settle(moved).await;
            self.follow_lanes();
        }
        claimed
    }
}
