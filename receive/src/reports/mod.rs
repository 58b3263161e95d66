//! Reports that come in: about DMARC, about TLS, and about single messages.
//!
//! The mail itself goes to its mailbox as any other. Beside it, the operation that takes it notes
//! in the store that it may be a report (`arrival`). So no report is lost once the client has its
//! 250. The worker reads such mails afterwards, and keeps a summary of each report, its name, and
//! its part of the sums. Whoever looks at a report later gets it from the text of the mail, which
//! is read once more.
//!
//! Anybody can send such mail. All work on it has limits, which stand in [`fault`].
//!
//! | module | what it has |
//! |---|---|
//! | `arrival` | which mails may be reports, and who stands behind them |
//! | [`fault`] | the limits, and why a mail has no report that counts |
//! | `words` | enums with words in reports |
//! | `packed`, `zip` | files that are packed |
//! | [`dmarc`], [`tls`], [`arf`] | the three kinds, each with its parser |
//! | [`find`] | the report in a mail |
//! | `summary`, `counts`, `traced` | what is kept of it, and what metrics and traces have |
//! | `worker` | the worker, and reports that somebody looks at |
//!
//! Absent on purpose: reports in files that are packed twice, and those that come over HTTPS.

#[macro_use]
mod words;

pub mod arf;
mod arrival;
mod counts;
pub mod dmarc;
pub mod fault;
pub mod find;
mod packed;
#[cfg(test)]
pub(crate) mod samples;
mod summary;
#[cfg(test)]
mod tests;
pub mod tls;
mod traced;
mod worker;
mod zip;

pub(crate) use arrival::arrived;
pub use worker::{Reports, ReportsParts};
