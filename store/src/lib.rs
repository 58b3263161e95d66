//! Everything postrider keeps on disk, and every change to it as one durable value.

pub mod bodyfile;
pub mod disk;
mod id;
pub mod journal;
mod time;

pub use bodyfile::BodyFile;
pub use id::{BodyId, HookId, MailId, QueueId};
pub use time::{Clock, ManualClock, Sleep, SystemClock, Time};
