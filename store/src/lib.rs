//! Everything that postrider keeps on disk, and every change of it as one durable value.
//!
//! A [`Store`] is asked in verbs, such as [`accept`](Store::accept), [`claim`](Store::claim),
//! [`settle`](Store::settle) and [`list`](Store::list). Each call is one atomic unit and is
//! answered when it is durable.
//!
//! In reading order:
//! - `store`: the handle. `engine`: what lies behind it. Nobody above can tell which engine a store
//!   has.
//! - `subject`: the kinds of things that the store keeps, in one folder each, and the one list of
//!   them.
//! - `table`: the tables of the journal engine. [`journal`], [`disk`], [`textfile`]: what lies on
//!   disk.
//! - `text`, `message`, `pieces`: the bytes of messages.
//! - `backup`: copies of a store, and a look at a store that nobody uses.
//!
//! Absent on purpose: policy. The store does not know when a retry is due, what an event
//! says, or which password is right. It remembers what it is told. It asks no clock for records:
//! times are passed in.

mod backup;
pub mod disk;
mod engine;
mod error;
mod filter;
mod id;
pub mod journal;
mod message;
mod options;
mod pieces;
mod store;
mod subject;
mod table;
#[cfg(test)]
mod tests;
mod text;
pub mod textfile;
mod time;

pub use backup::{Inspection, Part, STORE_FORMAT, Snapshot, StoreFile, inspect};
pub use error::{OpenError, StoreError};
pub use filter::{Order, Page};
pub use message::{Message, Top};
pub use options::Options;
pub use pieces::Pieces;
pub use store::{Counts, DiskUse, Store};
pub use subject::exports::*;
pub use text::{Scratch, Text, TextWriter};
pub use textfile::TextFile;
pub use time::{Clock, ManualClock, Moment, Sleep, SystemClock, Time};

/// The largest text, in bytes, that goes into the journal. A larger text gets a file of its own.
pub const INLINE_TEXT_MAX: usize = 256 * 1024;
