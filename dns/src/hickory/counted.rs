//! The questions to servers, counted.

use std::{sync::Arc, time::Instant};

use hickory_resolver::proto::rr::RecordType as WireType;
use postrider_observe::{
    Metrics,
    metrics::{DnsResult, DnsType},
};

use super::chain::Response;
use crate::DnsError;

/// A question that is being asked. One that nobody waits for any more, since its time is over,
/// counts as without an answer.
pub(super) struct Counted {
    metrics: Arc<Metrics>,
    label: DnsType,
    begun: Instant,
    result: DnsResult,
}

impl Counted {
    pub(super) fn begin(metrics: &Arc<Metrics>, record_type: WireType) -> Self {
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
            result: DnsResult::Timeout,
        }
    }

    /// Counts the answer.
    pub(super) fn end(mut self, answer: &Result<Response, DnsError>) {
        self.result = match answer {
            Ok(response) => response.result(),
            Err(DnsError::Bogus { .. }) => DnsResult::Bogus,
            Err(_) => DnsResult::Timeout,
        };
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let labels = (self.label, self.result);
        self.metrics.dns_questions_total.with(labels).inc();
        let duration = &self.metrics.dns_question_duration_seconds;
        duration.with(self.label).observe(self.begun.elapsed());
    }
}
