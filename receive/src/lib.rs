//! Incoming mail, from the first command of a session to the store.
//!
//! In reading order:
//! - [`facts`], [`mod@decide`]: the knowledge about a session and its message, and the one decision
//!   over it.
//! - [`mx`], [`submission`]: a session with a mail server, and with an application. Both add facts
//!   and ask for decisions.
//! - [`local`]: a session with localserve's SMTP port, which is one of these two.
//! - [`intake`]: a message on its way into the store, and the one change of its text.
//! - [`memory`], [`shape`]: the memory for texts that arrive, and limits on what is in them.
//! - [`checks`]: one file or folder for each check of a message.
//! - [`resolve`]: the accounts behind an address, members of lists included.
//! - `deliver`: the records of a message for the mailboxes of accounts.
//! - [`hooks`]: outside programs that have a say: milters, rspamd, HTTP hooks.
//! - [`junk`]: the junk filter: the history of senders, words, and what users teach it.
//! - [`forward`]: mail that goes on to other servers.
//! - [`sieve`]: scripts, rules and auto-responders that say what becomes of a mail. [`scripted`]:
//!   their run at delivery.
//! - `mailboxes`: mail of our own queue for our own addresses.
//! - [`login`]: passwords, API keys, and limits for wrong ones.
//! - [`network`], [`rates`]: the networks of clients, and how much may come from each.
//! - [`slow`]: answers that come late. [`guards`]: what all sessions know of clients together.
//! - [`refusals`]: how often something was refused, by reason. `observer`: what others see of a
//!   session, in the log, in metrics and in its trace.
//! - [`reports`]: reports about our domains that come in.
//! - [`context`]: the parts of the server that each session uses. `reply`: replies for failures of
//!   our own. `roots`: CAs for calls over HTTP. `work`: work that takes long. `json`: a look over
//!   JSON from outside.
//!
//! Not here: the protocol (`postrider-smtp`), outgoing mail (`postrider-queue`), the files on disk
//! (`postrider-store`).

pub mod checks;
pub mod context;
pub mod decide;
mod deliver;
pub mod facts;
pub mod forward;
pub mod guards;
pub mod hooks;
pub mod intake;
mod json;
pub mod junk;
pub mod local;
pub mod login;
mod mailboxes;
pub mod memory;
pub mod mx;
pub mod network;
mod observer;
pub mod rates;
pub mod refusals;
mod reply;
pub mod reports;
pub mod resolve;
mod roots;
pub mod scripted;
pub mod shape;
pub mod sieve;
pub mod slow;
pub mod submission;
mod work;

pub use context::SessionContext;
pub use guards::Guards;
pub use hooks::Hooks;
pub use local::LocalSession;
pub use mailboxes::LocalMailboxes;
pub use mx::{MxRules, MxSession};
pub use refusals::RefusalCounts;
pub use reports::{Reports, ReportsParts};
pub use submission::SubmissionSession;
