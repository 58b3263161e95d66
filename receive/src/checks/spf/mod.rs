//! SPF: whether a domain lets a client send mail in its name (RFC 7208).
//!
//! | module | what it has |
//! |---|---|
//! | here | the check of a client, and its results |
//! | `record` | SPF records |
//! | `macros` | texts with values of the message in them |
//! | `evaluate` | the evaluation of records, with its limits |
//! | `explain` | the explanation of a failure |
//!
//! Limits (RFC 7208 §4.6.4): ten terms that ask DNS, ten hosts of an MX look-up, ten names of the
//! client's address, and two terms that find nothing. [`Questions`] limits the time and the
//! questions of the whole message.

mod evaluate;
mod explain;
mod macros;
mod record;
#[cfg(test)]
mod suite;
#[cfg(test)]
mod tests;

use std::{fmt, net::IpAddr, time::Duration};

use postrider_smtp::{Domain, Host, ReversePath};

use self::{evaluate::Evaluation, macros::MacroString};
use super::questions::Questions;

/// The local-part of a sender that has none (RFC 7208 §4.3).
const POSTMASTER: &str = "postmaster";

/// The outcome of an SPF check (RFC 7208 §2.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SpfOutcome {
    /// There is no domain to check, or it has no record.
    None,
    /// The domain says nothing about the client.
    Neutral,
    /// The domain lets the client send.
    Pass,
    /// The domain does not let the client send.
    Fail,
    /// The domain probably does not let the client send.
    SoftFail,
    /// There is no answer of DNS for now.
    TempError,
    /// The domain's records can't be evaluated.
    PermError,
}

impl SpfOutcome {
    /// The word in Authentication-Results (RFC 8601 §2.7.2).
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Neutral => "neutral",
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::SoftFail => "softfail",
            Self::TempError => "temperror",
            Self::PermError => "permerror",
        }
    }
}

impl fmt::Display for SpfOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whose domain was checked (RFC 7208 §2.3 and §2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SpfIdentity {
    /// The name in EHLO. Also for a null reverse-path.
    Helo,
    /// The domain of the reverse-path.
    MailFrom,
}

/// The result of an SPF check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpfResult {
    /// The outcome.
    pub outcome: SpfOutcome,
    /// Whose domain was checked.
    pub identity: SpfIdentity,
    /// The domain that was checked. None if there is none, such as for an address literal.
    pub domain: Option<Domain>,
    /// The mechanism that decided. None if no mechanism matched or was at fault.
    pub mechanism: Option<SpfMechanism>,
    /// Why the outcome is so, in words.
    pub reason: String,
    explanation: Option<Explanation>,
}

impl SpfResult {
    /// The domain of MAIL FROM lets the client send. Not for a null reverse-path, which has none.
    #[must_use]
    pub fn validates_mail_from(&self) -> bool {
        self.outcome == SpfOutcome::Pass && self.identity == SpfIdentity::MailFrom
    }

    /// A result without a mechanism.
    pub(crate) fn plain(
        outcome: SpfOutcome,
        identity: SpfIdentity,
        domain: Option<Domain>,
        reason: &str,
    ) -> Self {
        Self {
            outcome,
            identity,
            domain,
            mechanism: None,
            reason: reason.to_owned(),
            explanation: None,
        }
    }
}

/// A mechanism and the record that has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpfMechanism {
    /// The mechanism with its qualifier as the record has it, without the end of a long one. For
    /// example `-all`.
    pub text: String,
    /// The domain of the record. Another one than that of the result after a redirection.
    pub domain: String,
}

/// Where the explanation of a failure stands.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Explanation {
    name: MacroString,
    /// The domain of the record.
    domain: String,
    local_part: String,
}

/// The SPF checks of one client for one message.
#[derive(Clone, Debug)]
pub struct SpfCheck {
    questions: Questions,
    client: IpAddr,
    helo: String,
}

impl SpfCheck {
    /// The checks of a client with this address, which gave this name in EHLO.
    #[must_use]
    pub fn new(questions: Questions, client: IpAddr, helo: &str) -> Self {
        let name = Domain::parse(helo);
        Self {
            questions,
            client: client.to_canonical(),
            helo: name.map_or_else(|_| helo.to_owned(), |name| name.ascii().to_owned()),
        }
    }

    /// The same for checks that start now, and have so much time.
    #[must_use]
    pub fn within(&self, time: Duration) -> Self {
        Self {
            questions: self.questions.within(time),
            ..self.clone()
        }
    }

    /// Checks the name in EHLO (RFC 7208 §2.3). The outcome is "none" for a name without a dot.
    pub async fn helo(&self) -> SpfResult {
        let domain = Domain::parse(&self.helo).ok();
        let domain = domain.filter(|domain| domain.ascii().contains('.'));
        self.check(SpfIdentity::Helo, POSTMASTER, domain).await
    }

    /// Checks the domain of the reverse-path (RFC 7208 §2.4). For a null reverse-path, this is the
    /// check of the name in EHLO.
    pub async fn mail_from(&self, reverse_path: &ReversePath) -> SpfResult {
        match reverse_path {
            ReversePath::Null => self.helo().await,
            ReversePath::Mailbox(address) => {
                let domain = match &address.host {
                    Host::Domain(domain) => Some(domain.clone()),
                    Host::Literal(_) => None,
                };
                self.sender(address.local.as_str(), domain).await
            }
        }
    }

    /// Checks the domain of a sender. An empty local-part is `postmaster` (RFC 7208 §4.3).
    async fn sender(&self, local_part: &str, domain: Option<Domain>) -> SpfResult {
        let local_part = match local_part {
            "" => POSTMASTER,
            local_part => local_part,
        };
        self.check(SpfIdentity::MailFrom, local_part, domain).await
    }

    async fn check(
        &self,
        identity: SpfIdentity,
        local_part: &str,
        domain: Option<Domain>,
    ) -> SpfResult {
        let Some(domain) = domain else {
            let reason = "there is no domain to check";
            return SpfResult::plain(SpfOutcome::None, identity, None, reason);
        };
        let mut evaluation = Evaluation::new(self, local_part, domain.ascii());
        let found = evaluation.check_host(domain.ascii()).await;
        let found = found.unwrap_or_else(|error| error);
        let explanation = found.explanation.map(|name| Explanation {
            name,
            domain: found.domain.clone(),
            local_part: local_part.to_owned(),
        });
        SpfResult {
            outcome: found.outcome,
            identity,
            domain: Some(domain),
            mechanism: found.mechanism.map(|text| SpfMechanism {
                text,
                domain: found.domain,
            }),
            reason: found.reason,
            explanation: explanation.filter(|_| found.outcome == SpfOutcome::Fail),
        }
    }
}
