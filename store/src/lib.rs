//! Everything postrider keeps on disk, and every change to it as one durable value.

mod id;
mod time;

pub use id::{BodyId, HookId, MailId, QueueId};
pub use time::{Clock, ManualClock, Sleep, SystemClock, Time};
