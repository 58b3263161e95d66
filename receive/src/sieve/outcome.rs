//! What becomes of a message.

use postrider_smtp::Address;

use super::{error::SieveError, vacation::Request};

/// What the scripts of an account want for a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The flags in the mailbox of `keep`. None: the message does not go there.
    pub keep: Option<Vec<String>>,
    /// The other mailboxes that get the message. Each stands once.
    pub filed: Vec<Filed>,
    /// The addresses that get the message. Each stands once.
    pub redirects: Vec<Address>,
    /// The message is refused. Then nothing else happens with it.
    pub rejection: Option<Rejection>,
    /// The answer that a script asks for. [`decide`](super::vacation::decide) says whether it goes
    /// out.
    pub vacation: Option<Request>,
    /// The script that asks for it.
    pub answering: Option<String>,
    /// What each script did, in the order in which they ran. Those that did nothing are left out.
    pub acted: Vec<Acted>,
    /// The faults of scripts, for the log. The message is kept then.
    pub failures: Vec<Failure>,
}

impl Outcome {
    /// Nobody gets the message, and its sender is not told.
    #[must_use]
    pub const fn is_discarded(&self) -> bool {
        self.keep.is_none()
            && self.filed.is_empty()
            && self.redirects.is_empty()
            && self.rejection.is_none()
    }
}

/// What one script did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acted {
    /// The name of the script.
    pub script: String,
    /// Its actions in a few words, such as `fileinto Lists`.
    pub did: Vec<String>,
}

/// The name of the script, and its actions.
impl std::fmt::Display for Acted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.script, self.did.join(", "))
    }
}

/// A mailbox that gets the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filed {
    /// The name of the mailbox.
    pub mailbox: String,
    /// The flags that the message gets there.
    pub flags: Vec<String>,
    /// The mailbox may be made if it is not there.
    pub create: bool,
    /// The special use that a new mailbox gets.
    pub special_use: Option<String>,
}

/// The refusal of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The reason. Its lines end with CRLF. It may be empty.
    pub reason: String,
    /// The command was `ereject` (RFC 5429 §2.1): a refusal in the session is preferred.
    pub in_session: bool,
}

/// A fault of a script while it ran.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("script {script:?}, {error}")]
pub struct Failure {
    /// The name of the script.
    pub script: String,
    /// The fault and its place.
    pub error: SieveError,
}
