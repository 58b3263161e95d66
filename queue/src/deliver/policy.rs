//! The MTA-STS policy of a destination, during an attempt.

use postrider_store::Queued;

use super::attempt::OngoingAttempt;
use crate::{settle::Postponed, tls::MtaStsFact};

impl OngoingAttempt<'_> {
    /// What the MTA-STS policy of the destination says of a host.
    pub(super) fn mta_sts(&self, host: &str) -> MtaStsFact {
        let policy = self.plan.mta_sts.as_ref();
        match policy {
            Some(applied) => applied.fact(host),
            None if self.plan.mta_sts_unknown => MtaStsFact::Unknown,
            None => MtaStsFact::Absent,
        }
    }

    /// Before messages fail by an MTA-STS policy, the policy is fetched again (RFC 8461 §5.1). If
    /// it is another one now, the messages are due at once, under that one.
    pub(super) async fn look_at_policy_again(&mut self) {
        let (queue, applied) = (self.queue, self.plan.mta_sts.as_ref());
        let (Some(policies), Some(applied)) = (&queue.policies, applied) else {
            return;
        };
        let failed = self.failed_by_policy && !self.pending.is_empty();
        if !failed || !policies.is_outdated(applied).await {
            return;
        }
        let now = queue.clock.moment();
        queue.plans().forget_destination(&applied.domain, now);
        let until = queue.clock.now();
        let begun = &self.begun;
        let untried =
            |(message, _): &mut (Queued, _)| begun.iter().all(|(id, _)| *id != message.id);
        let untried = self.pending.extract_if(.., untried);
        self.postponed
            .extend(untried.map(|(message, status)| Postponed {
                message,
                status,
                until,
                failing: false,
            }));
    }
}
