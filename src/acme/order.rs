//! One order of a certificate (RFC 8555 §7.4), from the request to the chain.

use std::{sync::Arc, time::Duration};

use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Error, Identifier, NewOrder, Order, OrderStatus,
    Problem, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};

use super::{
    challenges::{Answer, Challenges, Way},
    schedule::Scope,
};

/// How often, and for how long, the CA is asked whether it is ready.
const PATIENCE: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(250))
    .backoff(1.5)
    .timeout(Duration::from_secs(90));
/// Before the names of problems (RFC 8555 §6.7).
const PREFIX: &str = "urn:ietf:params:acme:error:";

/// Why there is no certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) scope: Scope,
    /// The name of the problem as RFC 8555 §6.7 lists it, such as `rateLimited`. Empty: none of
    /// these.
    pub(super) problem: String,
    /// The reason, in a sentence without a full stop.
    pub(super) reason: String,
}

impl Failure {
    /// A failure of one name without a problem of the CA.
    pub(super) fn of_name(reason: impl Into<String>) -> Self {
        Self {
            scope: Scope::Name,
            problem: String::new(),
            reason: reason.into(),
        }
    }

    /// A failure before the CA was asked.
    pub(super) fn ours(reason: impl Into<String>) -> Self {
        Self {
            scope: Scope::Unasked,
            ..Self::of_name(reason)
        }
    }

    /// A failure to reach the CA or to use the account.
    pub(super) fn of_ca(error: &Error) -> Self {
        let failure = Self::of_order(error);
        Self {
            scope: Scope::Ca,
            ..failure
        }
    }

    /// A failure of an order.
    fn of_order(error: &Error) -> Self {
        match error {
            Error::Api(problem) => Self::of_problem(problem),
            Error::Timeout(_) => Self::of_name("the CA did not finish in time"),
            Error::Json(error) => Self {
                scope: Scope::Ca,
                ..Self::of_name(format!(
                    "the CA gave an answer that makes no sense: {error}"
                ))
            },
            error => Self {
                scope: Scope::Ca,
                ..Self::of_name(error.to_string())
            },
        }
    }

    fn of_problem(problem: &Problem) -> Self {
        let name = problem.r#type.as_deref().unwrap_or_default();
        let name = name.strip_prefix(PREFIX).unwrap_or(name);
        let mut reason = problem.detail.clone().unwrap_or_else(|| name.to_owned());
        for sub in problem
            .subproblems
            .iter()
            .filter_map(|sub| sub.detail.as_ref())
        {
            reason = format!("{reason}; {sub}");
        }
        Self {
            scope: scope(name, &reason),
            problem: name.to_owned(),
            reason,
        }
    }
}

/// Whether a problem of an order is about the name, or about the account and the CA.
fn scope(problem: &str, detail: &str) -> Scope {
    match problem {
        "accountDoesNotExist"
        | "badNonce"
        | "badPublicKey"
        | "badSignatureAlgorithm"
        | "externalAccountRequired"
        | "invalidContact"
        | "serverInternal"
        | "unsupportedContact"
        | "userActionRequired" => Scope::Ca,
        // The text alone tells one limit from another. A limit of the account or of our address
        // stops other names too.
        "rateLimited"
            if ["this account", "this IP", "service busy"]
                .iter()
                .any(|it| detail.contains(it)) =>
        {
            Scope::Ca
        }
        _ => Scope::Name,
    }
}

impl Way {
    fn kind(self) -> ChallengeType {
        match self {
            Self::TlsAlpn => ChallengeType::TlsAlpn01,
            Self::Http => ChallengeType::Http01,
        }
    }
}

/// Gets a certificate for a name. Returns its chain in PEM. `ways` are the ways in which this
/// server can answer the CA, the first choice first.
///
/// # Errors
/// If the CA refuses, can't check the name, or does not answer.
pub(super) async fn order(
    account: &Account,
    name: &str,
    pair: &KeyPair,
    challenges: &Arc<Challenges>,
    ways: &[Way],
) -> Result<String, Failure> {
    let request = request(name, pair).map_err(|error| Failure::ours(format!("{error:#}")))?;
    let names = [Identifier::Dns(name.to_owned())];
    let order = account.new_order(&NewOrder::new(&names)).await;
    let mut order = order.map_err(|error| Failure::of_order(&error))?;
    let answers = answer(&mut order, name, challenges, ways).await?;
    let ready = order.poll_ready(&PATIENCE).await;
    if !matches!(ready, Ok(OrderStatus::Ready)) {
        if let Some(problem) = problem_of(&mut order).await {
            return Err(Failure::of_problem(&problem));
        }
        ready.map_err(|error| Failure::of_order(&error))?;
        return Err(Failure::of_name("the CA ended the order without a reason"));
    }
    drop(answers);
    let finalized = order.finalize_csr(&request).await;
    finalized.map_err(|error| Failure::of_order(&error))?;
    let chain = order.poll_certificate(&PATIENCE).await;
    chain.map_err(|error| Failure::of_order(&error))
}

/// A certificate signing request in DER.
fn request(name: &str, pair: &KeyPair) -> anyhow::Result<Vec<u8>> {
    let mut params = CertificateParams::new([name.to_owned()])?;
    params.distinguished_name = DistinguishedName::new();
    Ok(params.serialize_request(pair)?.der().to_vec())
}

/// Lets the CA check the name. The answers are there until they are dropped.
async fn answer(
    order: &mut Order,
    name: &str,
    challenges: &Arc<Challenges>,
    ways: &[Way],
) -> Result<Vec<Answer>, Failure> {
    let mut answers = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.map_err(|error| Failure::of_order(&error))?;
        match authorization.status {
            // The CA remembers an earlier check.
            AuthorizationStatus::Valid => continue,
            AuthorizationStatus::Pending => {}
            status => {
                let reason = format!("the CA has marked the name as {status:?}");
                return Err(Failure::of_name(reason));
            }
        }
        let offered = |way: &&Way| {
            let mut offered = authorization.challenges.iter();
            offered.any(|challenge| challenge.r#type == way.kind())
        };
        let way = ways.iter().find(offered).copied();
        let challenge = way.and_then(|way| authorization.challenge(way.kind()));
        let (Some(way), Some(mut challenge)) = (way, challenge) else {
            let reason = "the CA offers no check that a listener of this server can answer";
            return Err(Failure::of_name(reason));
        };
        let key = challenge.key_authorization();
        answers.push(match way {
            Way::Http => challenges.answer_http(&challenge.token, key.as_str()),
            Way::TlsAlpn => challenges
                .answer_tls(name, key.digest().as_ref())
                .map_err(|error| Failure::ours(format!("{error:#}")))?,
        });
        let told = challenge.set_ready().await;
        told.map_err(|error| Failure::of_order(&error))?;
    }
    Ok(answers)
}

/// The problem that the CA found with the name.
async fn problem_of(order: &mut Order) -> Option<Problem> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.ok()?;
        let state = authorization.refresh().await.ok()?;
        let mut challenges = state.challenges.iter();
        if let Some(problem) = challenges.find_map(|challenge| challenge.error.clone()) {
            return Some(problem);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(problem: &str, detail: &str) -> Failure {
        let json = format!(r#"{{"type": "{PREFIX}{problem}", "detail": "{detail}"}}"#);
        Failure::of_order(&Error::Api(serde_json::from_str(&json).unwrap()))
    }

    #[test]
    fn problems_of_a_name_and_of_the_account_differ() {
        for (problem, detail, expected) in [
            ("dns", "no A record", Scope::Name),
            ("unauthorized", "wrong answer", Scope::Name),
            ("serverInternal", "maintenance", Scope::Ca),
            ("userActionRequired", "new terms", Scope::Ca),
            (
                "rateLimited",
                "too many failed authorizations for x",
                Scope::Name,
            ),
            (
                "rateLimited",
                "too many new orders from this account",
                Scope::Ca,
            ),
            ("rateLimited", "Service busy; service busy", Scope::Ca),
        ] {
            let found = failure(problem, detail);
            assert_eq!(found.scope, expected, "{problem} {detail}");
            assert_eq!(
                (found.problem.as_str(), found.reason.as_str()),
                (problem, detail)
            );
        }
        assert_eq!(Failure::of_order(&Error::Timeout(None)).scope, Scope::Name);
        assert_eq!(Failure::of_ca(&Error::Timeout(None)).scope, Scope::Ca);
        assert_eq!(Failure::of_order(&Error::Str("x")).scope, Scope::Ca);
    }

    #[test]
    fn the_parts_of_a_problem_are_in_the_reason() {
        let json = r#"{"type": "urn:ietf:params:acme:error:rejectedIdentifier", "detail": "refused",
            "subproblems": [{"detail": "not this one"}, {"detail": "nor that one"}]}"#;
        let found = Failure::of_order(&Error::Api(serde_json::from_str(json).unwrap()));
        assert_eq!(found.reason, "refused; not this one; nor that one");
        let bare = Failure::of_order(&Error::Api(serde_json::from_str("{}").unwrap()));
        assert_eq!((bare.problem.as_str(), bare.scope), ("", Scope::Name));
    }
}
