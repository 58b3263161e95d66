//! What people see of the running server.
//!
//! | module | content |
//! |---|---|
//! | [`metrics`] | the list of all metrics, their labels, and the handles that count |
//! | `trace` | what happened to a session, a message or a call, step by step, and the files of traces |
//! | `log` | the layers that write lines, join repeated ones and keep the newest |
//!
//! Other crates hold the handles and fill them in. This crate knows nothing of mail, and depends on
//! no crate of ours.
#![forbid(unsafe_code)]

pub mod metrics;
pub mod trace;

pub use metrics::Metrics;
pub use trace::{EventType, Keep, Key, Kind, Term, Trace, Tracer};
