//! Fetching the policy of a domain: first the record that announces it, then its text.

use std::time::Duration;

use postrider_dns::{DnsError, Resolver};

use super::{POLICY_PATH, Policy, PolicyError, record};
use crate::https::{HTTPS_PORT, HttpsClient, HttpsError};

/// The time for the text of a policy.
pub(super) const FETCH_TIME: Duration = Duration::from_secs(60);

/// What the record of a domain says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Announced {
    /// A policy with this id.
    Id(String),
    /// No policy, or none that counts.
    Nothing,
}

/// Why there is no new policy.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// The record is not known.
    #[error("looking up its record: {0}")]
    Record(DnsError),
    /// There is no record any more.
    #[error("no record announces it")]
    Unannounced,
    /// The text has not come.
    #[error(transparent)]
    Https(#[from] HttpsError),
    /// The host answers with another status than 200.
    #[error("its host answers {0}, not 200")]
    Status(u16),
    /// The text is no policy.
    #[error("the text is no policy: {0}")]
    Syntax(#[from] PolicyError),
}

/// What is wrong with a policy that is announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FetchFault {
    /// The text has not come.
    Fetch,
    /// The certificate of its host is not valid.
    Certificate,
    /// The text is no policy.
    Syntax,
}

impl FetchError {
    /// What is wrong with the policy. None if none is announced, as far as is known.
    pub(super) const fn fault(&self) -> Option<FetchFault> {
        match self {
            Self::Record(_) | Self::Unannounced => None,
            Self::Https(HttpsError::Certificate(_)) => Some(FetchFault::Certificate),
            Self::Https(_) | Self::Status(_) => Some(FetchFault::Fetch),
            Self::Syntax(_) => Some(FetchFault::Syntax),
        }
    }
}

/// Asks what the record of a domain announces. Gives how long the answer holds, too.
///
/// # Errors
/// If there is no answer.
pub(super) async fn announced(
    resolver: &dyn Resolver,
    domain: &str,
) -> Result<(Announced, Duration), FetchError> {
    match resolver.txt(&record::name(domain)).await {
        Ok(answer) => {
            let id = record::id(&answer.records).map(str::to_owned);
            Ok((id.map_or(Announced::Nothing, Announced::Id), answer.ttl))
        }
        Err(DnsError::NoName(negative) | DnsError::NoRecords(negative)) => {
            Ok((Announced::Nothing, negative.ttl))
        }
        Err(error) => Err(FetchError::Record(error)),
    }
}

/// Fetches the text of a domain's policy (RFC 8461 §3.3).
///
/// # Errors
/// If it does not come, or is no policy.
pub(super) async fn policy(client: &HttpsClient<'_>, domain: &str) -> Result<Policy, FetchError> {
    let host = format!("mta-sts.{domain}");
    let answer = client.get(&host, HTTPS_PORT, POLICY_PATH).await?;
    match answer.status {
        200 => Ok(Policy::parse(&answer.body)?),
        status => Err(FetchError::Status(status)),
    }
}
