//! Incoming mail, from the first command of a session to the store.
//!
//! In reading order:
//! - [`context`]: the parts of the server that each session uses, and replies for our own troubles.
//! - [`mx`], [`submission`]: the policy of a session with a mail server, and with an application.
//! - [`intake`]: a message on its way into the store.
//! - [`login`]: passwords, API keys, and limits for wrong ones.
//!
//! Not here: the protocol (`postrider-smtp`), outgoing mail (`postrider-queue`), the files on disk
//! (`postrider-store`).

pub mod context;
pub mod intake;
pub mod login;
pub mod mx;
pub mod submission;

pub use context::SessionContext;
pub use mx::MxSession;
pub use submission::SubmissionSession;
