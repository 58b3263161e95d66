//! Addresses that take no reports: one that bounces gets none for a while.

use std::time::Duration;

use postrider_smtp::{Cause, DeliveryStatus};
use postrider_store::{Origin, Queued};
use tracing::{debug, warn};

use super::schedule::ATTEMPTS_MAX;
use crate::Queue;

/// How long an address gets no reports after one bounced.
const REST: Duration = Duration::from_secs(60 * 24 * 60 * 60);

/// Whether a message is a report that was tried often enough. No other mail is.
pub(crate) fn is_worn(message: &Queued) -> bool {
    matches!(message.common.origin, Origin::Report(_)) && message.attempts >= ATTEMPTS_MAX
}

impl Queue {
    /// Lets the address of a report rest that failed in the queue, if a server or DNS refused it
    /// for good.
    pub(crate) async fn report_failed(&self, message: &Queued, status: &DeliveryStatus) {
        if status.permanent && status.cause != Cause::Local {
            self.report_bounced(message).await;
        }
    }

    /// Lets the address of a report rest that failed for good. Nothing happens for other mail.
    pub(crate) async fn report_bounced(&self, message: &Queued) {
        if !matches!(message.common.origin, Origin::Report(_)) {
            return;
        }
        let address = message.recipient.to_string();
        let until = self.clock.now().after(REST);
        debug!(%address, %until, "the address takes no reports, and gets none until then");
        if let Err(error) = self.store.rest_report_address(&address, until).await {
            warn!(%error, %address, "the address of a report that bounced gets further ones");
        }
    }

    /// Whether an address gets no reports now.
    pub(super) async fn rests(&self, address: &str) -> Result<bool, postrider_store::StoreError> {
        let until = self.store.report_address_rests(address).await?;
        Ok(until.is_some_and(|until| self.clock.now() < until))
    }
}
