//! How a session behaves.

use std::time::Duration;

use super::{Credentials, Recorder};

/// The options of a session: the part of [`super::Options`] that the session needs.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// The client's name in EHLO.
    pub helo: String,
    /// The server, as `name [ip]`.
    pub remote: String,
    /// The use of TLS.
    pub security: Security,
    /// The credentials. None: no login.
    pub login: Option<Credentials>,
    /// The time limits.
    pub timeouts: Timeouts,
    /// LMTP instead of SMTP.
    pub lmtp: bool,
    /// Use BDAT where the server offers CHUNKING.
    pub chunking: bool,
    /// Records the dialog.
    pub recorder: Option<Recorder>,
}

/// The use of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// No TLS.
    Never,
    /// STARTTLS where the server offers it.
    Opportunistic,
    /// STARTTLS, or no mail.
    Required,
    /// The connection has TLS already.
    Active,
}

/// The time limits of a session. The defaults are those of RFC 5321 §4.5.3.2. A reply has to be
/// whole in its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For the TLS handshake.
    pub tls: Duration,
    /// For the greeting.
    pub greeting: Duration,
    /// For the replies to EHLO, HELO, STARTTLS, AUTH and RSET.
    pub helo: Duration,
    /// For the reply to MAIL.
    pub mail: Duration,
    /// For the reply to RCPT.
    pub rcpt: Duration,
    /// For the reply to DATA.
    pub data: Duration,
    /// For the server to take the next block of a text, of about 64 KiB, as a whole.
    pub block: Duration,
    /// For the reply to the end of the text.
    pub dot: Duration,
    /// For a message, from its MAIL to the reply to the end of its text, beside the time of its
    /// text at `min_rate`.
    pub message: Duration,
    /// The least bytes of a text per second that the server takes, in each minute.
    pub min_rate: u64,
    /// For a connection from the end of its opening on. No message begins after it.
    pub connection: Duration,
    /// For the reply to QUIT, and for the end of TLS after it. The RFC has no figure for it, and
    /// nothing depends on it.
    pub quit: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let minutes = |minutes: u64| Duration::from_secs(minutes.saturating_mul(60));
        Self {
            tls: minutes(2),
            greeting: minutes(5),
            helo: minutes(5),
            mail: minutes(5),
            rcpt: minutes(5),
            data: minutes(2),
            block: minutes(3),
            dot: minutes(10),
            message: minutes(15),
            min_rate: 500,
            connection: minutes(5),
            quit: Duration::from_secs(5),
        }
    }
}

impl Timeouts {
    /// The time limit of a message of this size in bytes.
    pub(super) fn for_message(&self, size: u64) -> Duration {
        let text = Duration::from_secs(size / self.min_rate.max(1));
        self.message.saturating_add(text)
    }
}
