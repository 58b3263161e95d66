//! The questions to servers, counted.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use hickory_resolver::proto::rr::RecordType as WireType;
use postrider_observe::{
    Metrics,
    metrics::{DnsResult, DnsType},
};

use super::chain::Response;
use crate::DnsError;

/// A question that is being asked. When nobody waits for it any more, it counts as without an
/// answer if a server had its time, and not at all if the asker left before.
pub(super) struct Counted {
    metrics: Arc<Metrics>,
    label: DnsType,
    begun: Instant,
    /// The time that a server has for an answer.
    patience: Duration,
    result: Option<DnsResult>,
}

impl Counted {
    pub(super) fn begin(metrics: &Arc<Metrics>, record_type: WireType, patience: Duration) -> Self {
        let label = match record_type {
            WireType::A => DnsType::A,
            WireType::AAAA => DnsType::Aaaa,
            WireType::MX => DnsType::Mx,
            WireType::TXT => DnsType::Txt,
            WireType::PTR => DnsType::Ptr,
            WireType::TLSA => DnsType::Tlsa,
            WireType::CNAME => DnsType::Cname,
            _ => DnsType::Other,
        };
        Self {
            metrics: Arc::clone(metrics),
            label,
            begun: Instant::now(),
            patience,
            result: None,
        }
    }

    /// Counts the answer. `failed` is why there is none.
    pub(super) fn end(mut self, answer: &Result<Response, DnsError>, failed: Option<DnsResult>) {
        self.result = Some(match answer {
            Ok(response) => response.result(),
            Err(DnsError::Bogus { .. }) => DnsResult::Bogus,
            Err(_) => failed.unwrap_or(DnsResult::Error),
        });
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let took = self.begun.elapsed();
        let is_late = took >= self.patience;
        let Some(result) = self.result.or(is_late.then_some(DnsResult::Timeout)) else {
            return;
        };
        let labels = (self.label, result);
        self.metrics.dns_questions_total.with(labels).inc();
        let duration = &self.metrics.dns_question_duration_seconds;
        duration.with(self.label).observe(took);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_that_its_asker_left_is_not_counted() {
        let metrics = Arc::<Metrics>::default();
        let count = || {
            let labels = (DnsType::Mx, DnsResult::Timeout);
            let duration = metrics.dns_question_duration_seconds.with(DnsType::Mx);
            (
                metrics.dns_questions_total.with(labels).get(),
                duration.count(),
            )
        };
        let begin = |patience| Counted::begin(&metrics, WireType::MX, patience);
        drop(begin(Duration::MAX));
        assert_eq!(count(), (0, 0));
        drop(begin(Duration::ZERO));
        assert_eq!(count(), (1, 1));
        let none = Err(DnsError::Temporary("no answer".to_owned()));
        begin(Duration::MAX).end(&none, Some(DnsResult::Timeout));
        assert_eq!(count(), (2, 2));
        begin(Duration::ZERO).end(&none, None);
        assert_eq!(count(), (2, 3), "only what took too long counts as that");
        let errors = metrics
            .dns_questions_total
            .with((DnsType::Mx, DnsResult::Error));
        assert_eq!(errors.get(), 1);
    }
}
