//! Lanes that wait for long: senders are told, messages whose time is over fail, and a lane whose
//! destination has another site by now goes there.
//!
//! Nothing else looks at messages that wait in the store. A review reads the messages of a lane
//! that are due, or will be soon, and claims those of which something is to be told. The next one
//! comes when something is to be told again, and after [`REVIEW_AFTER`] at the latest.

use std::{sync::Arc, time::Duration};

use postrider_smtp::{Cause, DeliveryStatus, EnhancedCode};
use postrider_store::{Lane, QueueId, Queued, StoreError, Time, Which};
use tokio::task::JoinError;
use tracing::error;

use super::{QueueLoop, REVIEWS_MAX, STORE_RETRY, course::Course, serve::paused};
use crate::{
    Queue,
    next_hop::Site,
    schedule::{REVIEW_AFTER, Wait},
    settle::Postponed,
    told::Settlements,
};

/// How many messages are read at once.
const PAGE: usize = 100;
/// The shortest time between two reviews of a lane.
const PAUSE_MIN: Duration = Duration::from_secs(60);
/// The next review waits this much longer for each message that was looked at: so the work is
/// bounded, however much waits.
const PAUSE_PER_MESSAGE: Duration = Duration::from_millis(1);

/// When a lane is looked at again: then, or earlier for a reason, but not before `from`.
pub(super) struct Next {
    at: Time,
    from: Time,
    /// Something is to be told then.
    exact: bool,
}

impl QueueLoop {
    /// Begins to look at lanes that have waited for long.
    pub(super) fn review(&mut self) {
        let queue = Arc::clone(&self.queue);
        let now = queue.now();
        while let Some(next) = queue.lanes().next_review(now.time) {
            self.to_review.push_back(next);
        }
        while self.reviews.len() < REVIEWS_MAX
            && let Some((lane, site)) = self.to_review.pop_front()
        {
            let queue = Arc::clone(&queue);
            self.reviews.spawn(async move {
                let reviewed = queue.review(&lane, site.as_ref()).await;
                let next = reviewed.unwrap_or_else(|error| {
                    error!(%error, "failed to look at messages that wait");
                    let at = queue.clock.now().after(STORE_RETRY);
                    Next {
                        at,
                        from: at,
                        exact: false,
                    }
                });
                (lane, next)
            });
        }
    }

    pub(super) fn take_review(&mut self, ended: Result<(Lane, Next), JoinError>) {
        match ended {
            Ok((lane, next)) => {
                let mut lanes = self.queue.lanes();
                lanes.reviewed(&lane, next.at, next.from, next.exact);
            }
            Err(_) => error!("looking at messages that wait failed"),
        }
        self.review();
    }
}

impl Queue {
    /// Looks at the messages of a lane that waits at a site, or for an answer of the DNS. Gives
    /// when to look again.
    async fn review(&self, lane: &Lane, site: Option<&Site>) -> Result<Next, StoreError> {
        let now = self.now();
        let config = self.config.load_full();
        let (mut after, mut looked) = (None, 0_u32);
        let latest = now.time.after(REVIEW_AFTER);
        let mut next = latest;
        let mut why: Option<Wait> = None;
        let mut leaves = false;
        loop {
            let mut page = self.store.due_in_lane(lane, after, latest, PAGE).await?;
            let Some(last) = page.last() else {
                break;
            };
            after = Some((last.next_attempt, last.id));
            looked = looked.saturating_add(u32::try_from(page.len()).unwrap_or(u32::MAX));
            let is_last = page.len() < PAGE;
            // What has another route waits for something else.
            self.reroute(&mut page, &config).await?;
            if why.is_none()
                && let Some(first) = page.first()
            {
                let first = vec![first.clone()];
                let course = self.courses(&config, first, now.moment).pop();
                let course = course.map(|(course, _)| course);
                let planned = match &course {
                    Some(Course::Known { plan, .. }) => Some(&plan.site),
                    _ => None,
                };
                // Its plan is gone, or names another site.
                leaves = site.is_some() && planned != site;
                why = Some(self.why(lane, site, course));
            }
            if let Some(why) = &why {
                let (told, soonest) = self.to_tell(&page, why.failing);
                next = next.min(soonest.unwrap_or(next));
                self.tell_of(told, why).await?;
            }
            if is_last {
                break;
            }
        }
        // Without due messages there is nothing to wait for.
        if (leaves || looked == 0)
            && let Some(site) = site
        {
            self.lanes().leave(lane, site, now.time);
        }
        let pause = PAUSE_MIN.max(PAUSE_PER_MESSAGE.saturating_mul(looked));
        Ok(Next {
            at: next,
            from: now.time.after(pause),
            exact: next < latest,
        })
    }

    /// Why the messages of a lane wait.
    fn why(&self, lane: &Lane, site: Option<&Site>, course: Option<Course>) -> Wait {
        let now = self.now();
        match course {
            Some(Course::Later(wait)) => return wait,
            // It waits for a source, as others do that wait for the same site.
            Some(Course::Known { plan, .. }) if site.is_none() => {
                let held = self.sites.pace(&plan.site, now).held(now.moment);
                if let Some(held) = held {
                    return held;
                }
            }
            _ => {}
        }
        let name = lane.destination();
        let waits = |text: String| {
            DeliveryStatus::transient(Cause::Local, EnhancedCode::SYSTEM_TRANSIENT, text)
        };
        let pace = site.map(|site| (site, self.sites.pace(site, now)));
        let halted = pace.as_ref().and_then(|(_, pace)| pace.halt(now.moment));
        if let Some(halted) = halted {
            return halted;
        }
        let status = match pace {
            Some((site, pace)) if pace.is_paused(now.moment) => paused(site),
            _ if self.sites.is_paused(name, now.time) => paused(name),
            _ => waits(format!("waits for its turn at the hosts of {name}")),
        };
        Wait {
            until: now.moment,
            failing: false,
            status,
        }
    }

    /// The messages of which something is to be told now, and when the next is.
    fn to_tell(&self, messages: &[Queued], failing: bool) -> (Vec<QueueId>, Option<Time>) {
        let now = self.clock.now();
        let (mut told, mut soonest) = (Vec::new(), None);
        for message in messages {
            let at = self.next_word(message, failing).max(message.next_attempt);
            if at <= now {
                told.push(message.id);
            } else {
                soonest = soonest.into_iter().chain([at]).min();
            }
        }
        (told, soonest)
    }

    /// Claims messages, tells what is to be told of them, and gives them back as they were.
    async fn tell_of(&self, ids: Vec<QueueId>, why: &Wait) -> Result<(), StoreError> {
        if ids.is_empty() {
            return Ok(());
        }
        let max = ids.len();
        let claimed = self.claim(Which::Messages(ids), max).await?;
        let config = self.config.load_full();
        let mut settles = Settlements::default();
        for message in claimed {
            // Those that came first go first when the site takes mail again.
            let until = message.next_attempt;
            let postponed = Postponed::by(message, why, until);
            settles.push(self.postponement(&config, postponed).await);
        }
        self.settle(settles).await;
        self.follow_lanes();
        Ok(())
    }
}
