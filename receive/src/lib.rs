//! Incoming mail, from the first command of a session to the store.
//!
//! In reading order:
//! - [`facts`], [`mod@decide`]: the knowledge about a session and its message, and the one decision
//!   over it.
//! - [`mx`], [`submission`]: a session with a mail server, and with an application. Both add facts
//!   and ask for decisions.
//! - [`local`]: a session with localserve's SMTP port, which is one of these two.
//! - [`intake`]: a message on its way into the store, and the one change of its text.
//! - [`memory`]: the memory for texts that arrive.
//! - [`checks`]: one file or folder for each check of a message.
//! - [`resolve`]: the accounts behind an address, members of lists included.
//! - `deliver`: the records of a message for the mailboxes of accounts.
//! - [`login`]: passwords, API keys, and limits for wrong ones.
//! - [`context`]: the parts of the server that each session uses. `reply`: replies for failures of
//!   our own. `work`: work that takes long.
//!
//! Not here: the protocol (`postrider-smtp`), outgoing mail (`postrider-queue`), the files on disk
//! (`postrider-store`).

pub mod checks;
pub mod context;
pub mod decide;
mod deliver;
pub mod facts;
pub mod intake;
pub mod local;
pub mod login;
pub mod memory;
pub mod mx;
mod reply;
pub mod resolve;
pub mod submission;
mod work;

pub use context::SessionContext;
pub use local::LocalSession;
pub use mx::MxSession;
pub use submission::SubmissionSession;
