//! Latencies, and the outcome of a run of load.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::process::{MemoryUse, Processes};

/// The bits of a latency that are kept. So a bucket is at most 1.6 % wide.
const PRECISION: u32 = 6;
const BUCKETS: usize = ((64 - PRECISION as usize) + 1) << PRECISION;

/// Latencies in logarithmic buckets. Memory use is constant, and no message allocates.
#[derive(Clone)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self {
            counts: vec![0; BUCKETS],
            total: 0,
            max: 0,
        }
    }

    pub(crate) fn record(&mut self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        if let Some(count) = self.counts.get_mut(bucket(nanos)) {
            *count += 1;
        }
        self.total += 1;
        self.max = self.max.max(nanos);
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.total += other.total;
        self.max = self.max.max(other.max);
    }

    /// The latency that this share (0 to 1) of all messages does not exceed.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let rank = ((self.total as f64 * share).ceil() as u64).clamp(1, self.total.max(1));
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_nanos(highest(index).min(self.max));
            }
        }
        Duration::ZERO
    }

    pub(crate) fn max(&self) -> Duration {
        Duration::from_nanos(self.max)
    }
}

fn bucket(nanos: u64) -> usize {
    if nanos < 1 << PRECISION {
        return nanos as usize;
    }
    let shift = 63 - nanos.leading_zeros() - PRECISION;
    ((shift as usize) << PRECISION) + (nanos >> shift) as usize
}

/// The highest value that falls in a bucket.
fn highest(index: usize) -> u64 {
    if index < 1 << PRECISION {
        return index as u64;
    }
    let shift = (index >> PRECISION) - 1;
    let mantissa = (index - (shift << PRECISION)) as u64;
    (mantissa << shift) + ((1 << shift) - 1)
}

/// The counts of one session.
pub(crate) struct Tally {
    pub(crate) latencies: Histogram,
    pub(crate) accepted: u64,
    /// The numbers of the accepted messages, if they are to be written into a file.
    pub(crate) numbers: Option<Vec<u64>>,
    /// Each error, and how often it occurred.
    pub(crate) errors: BTreeMap<String, u64>,
}

impl Tally {
    pub(crate) fn new(keep_numbers: bool) -> Self {
        Self {
            latencies: Histogram::new(),
            accepted: 0,
            numbers: keep_numbers.then(Vec::new),
            errors: BTreeMap::new(),
        }
    }

    pub(crate) fn accept(&mut self, number: u64, latency: Duration) {
        self.latencies.record(latency);
        self.accepted += 1;
        if let Some(numbers) = &mut self.numbers {
            numbers.push(number);
        }
    }

    pub(crate) fn fail(&mut self, why: impl Into<String>) {
        *self.errors.entry(why.into()).or_default() += 1;
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.latencies.add(&other.latencies);
        self.accepted += other.accepted;
        if let (Some(mine), Some(theirs)) = (&mut self.numbers, other.numbers) {
            mine.extend(theirs);
        }
        for (why, count) in other.errors {
            *self.errors.entry(why).or_default() += count;
        }
    }
}

/// The CPU time at the start of a run, from which the end computes the cost.
pub(crate) struct Cost {
    processes: Processes,
    cpu_at_start: f64,
}

impl Cost {
    pub(crate) fn start(processes: Processes) -> Self {
        let cpu_at_start = processes.cpu_seconds();
        Self {
            processes,
            cpu_at_start,
        }
    }

    /// CPU seconds since the start, and memory use now. None if no process was named.
    pub(crate) fn end(&self) -> Option<(f64, MemoryUse)> {
        (!self.processes.is_empty()).then(|| {
            let cpu = self.processes.cpu_seconds() - self.cpu_at_start;
            (cpu, self.processes.memory())
        })
    }
}

/// The result of a run.
pub(crate) struct Outcome {
    pub(crate) tally: Tally,
    pub(crate) elapsed: Duration,
    pub(crate) cost: Option<(f64, MemoryUse)>,
    /// CPU seconds of the driver itself. They show whether the driver was the bottleneck.
    pub(crate) own_cpu: f64,
}

impl Outcome {
    pub(crate) fn rate(&self) -> f64 {
        self.tally.accepted as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// One JSON object with plain numbers: seconds, bytes, messages per second.
    pub(crate) fn json(&self) -> Value {
        let latency = |share| self.tally.latencies.quantile(share).as_secs_f64();
        json!({
            "accepted": self.tally.accepted,
            "seconds": self.elapsed.as_secs_f64(),
            "rate": self.rate(),
            "p50": latency(0.5),
            "p99": latency(0.99),
            "max": self.tally.latencies.max().as_secs_f64(),
            "errors": self.tally.errors,
            "cpu_seconds": self.cost.map(|(cpu, _)| cpu),
            "rss": self.cost.map(|(_, memory)| memory.rss),
            "pss": self.cost.map(|(_, memory)| memory.pss),
            "driver_cpu_seconds": self.own_cpu,
        })
    }

    pub(crate) fn print(&self) {
        let milliseconds = |duration: Duration| duration.as_secs_f64() * 1000.0;
        println!(
            "{} accepted in {:.3} s: {:.0} a second",
            self.tally.accepted,
            self.elapsed.as_secs_f64(),
            self.rate()
        );
        println!(
            "latency: p50 {:.3} ms, p99 {:.3} ms, max {:.3} ms",
            milliseconds(self.tally.latencies.quantile(0.5)),
            milliseconds(self.tally.latencies.quantile(0.99)),
            milliseconds(self.tally.latencies.max())
        );
        let per_thousand = |cpu: f64| cpu * 1000.0 / self.tally.accepted.max(1) as f64;
        if let Some((cpu, memory)) = self.cost {
            println!(
                "server: {:.3} CPU seconds per 1000, RSS {:.1} MiB, PSS {:.1} MiB",
                per_thousand(cpu),
                mebibytes(memory.rss),
                mebibytes(memory.pss)
            );
        }
        println!(
            "driver: {:.3} CPU seconds per 1000",
            per_thousand(self.own_cpu)
        );
        for (why, count) in &self.tally.errors {
            println!("{count} times: {why}");
        }
    }
}

pub(crate) fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_narrow_and_in_order() {
        let mut values: Vec<u64> = (0..64)
            .flat_map(|shift| [1u64 << shift, (1u64 << shift) + (1u64 << shift) / 3])
            .chain([0, u64::MAX])
            .collect();
        values.sort_unstable();
        for pair in values.windows(2) {
            assert!(bucket(pair[0]) <= bucket(pair[1]), "{pair:?}");
        }
        for value in values {
            assert!(bucket(value) < BUCKETS, "{value}");
            let highest = highest(bucket(value));
            assert!(highest >= value, "{value} {highest}");
            assert!(highest - value <= value / 63, "{value} {highest}");
        }
    }

    #[test]
    fn quantiles() {
        let mut histogram = Histogram::new();
        assert_eq!(histogram.quantile(0.5), Duration::ZERO);
        for micros in 1..=100 {
            histogram.record(Duration::from_micros(micros));
        }
        let near = |share, micros: u64| {
            let got = histogram.quantile(share).as_nanos() as f64;
            (got / (micros as f64 * 1000.0) - 1.0).abs() < 0.02
        };
        assert!(near(0.5, 50) && near(0.99, 99) && near(1.0, 100) && near(0.0, 1));
        assert_eq!(histogram.max(), Duration::from_micros(100));
    }

    #[test]
    fn tallies_add_up() {
        let mut all = Tally::new(true);
        for number in [7, 9] {
            let mut one = Tally::new(true);
            one.accept(number, Duration::from_millis(number));
            one.fail("451");
            all.add(one);
        }
        assert_eq!(all.accepted, 2);
        assert_eq!(all.numbers, Some(vec![7, 9]));
        assert_eq!(all.errors.get("451"), Some(&2));
        assert_eq!(all.latencies.max(), Duration::from_millis(9));
    }
}
