//! What people see of the running server.
//!
//! | module | content |
//! |---|---|
//! | [`metrics`] | the list of all metrics, their labels, and the handles that count |
//! | `trace` | what happened to a session, a message or a call, step by step, and its files |
//! | `log` | the layer that makes lines, joins repeated ones, writes them and keeps the newest |
//! | `otlp` | the log as a collector of OpenTelemetry takes it |
//! | [`panics`] | all panics are counted and logged |
//!
//! Other crates hold the handles and fill them in. This crate knows nothing of mail, and depends on
//! no crate of ours.
#![forbid(unsafe_code)]

pub mod log;
pub mod metrics;
pub mod otlp;
pub mod panics;
pub mod trace;

pub use metrics::Metrics;
pub use trace::{EventType, Keep, Key, Kind, Term, Trace, Tracer};

/// Whole milliseconds, as lines of the log and traces have them.
#[must_use]
pub fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
