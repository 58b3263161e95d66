//! Faults of ours during attempts.

use std::time::Duration;

use postrider_smtp::DeliveryStatus;
use postrider_store::Moment;
use tracing::error;

use super::PAUSE;
use crate::{Queue, faults::OwnFault};

impl Queue {
    /// No site and no look-up that failed waits longer than the messages.
    pub(crate) fn longest_retry_interval(&self) -> Duration {
        let intervals = self.statics.queue.retry_intervals.iter();
        intervals.max().copied().unwrap_or(PAUSE)
    }

    /// Tells of a fault of ours, which counts for no message. Gives the moment of the next try.
    pub(crate) fn own_fault(&self, fault: OwnFault, status: &DeliveryStatus) -> Moment {
        let now = self.clock.moment();
        match fault {
            OwnFault::UsedUp => self.faults.used_up(status, now),
            OwnFault::NoWay | OwnFault::Settings | OwnFault::Store => {
                if self.faults.tell(now) {
                    error!(%status, "no connection to a host can be made by a fault of ours; no attempt counts");
                }
                now.after(PAUSE)
            }
        }
    }
}
