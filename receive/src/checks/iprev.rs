//! The check of a client's names: an address has a name, and the name leads back to the address
//! (RFC 8601 §3).

use std::net::IpAddr;

use postrider_dns::{DnsError, Resolver};

use super::questions::Questions;

/// How many names of an address are looked up. A stranger chooses their number.
pub const MAX_NAMES: usize = 5;

/// The result of the check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IprevResult {
    /// The outcome.
    pub outcome: IprevOutcome,
    /// The client's address. An IPv4 address is never in its IPv6 form.
    pub address: IpAddr,
    /// The name that leads back to the address. None without a pass.
    pub name: Option<String>,
    /// The names of the address, as many as are looked up.
    pub names: Vec<String>,
    /// Why there is no pass, in words. None for a pass.
    pub reason: Option<String>,
}

/// The outcome of the check (RFC 8601 §2.7.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IprevOutcome {
    /// A name of the address leads back to it.
    Pass,
    /// The address has names, and none leads back.
    Fail,
    /// The address has no name.
    PermError,
    /// There is no answer of DNS for now.
    TempError,
}

impl IprevOutcome {
    /// The word in Authentication-Results.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::PermError => "permerror",
            Self::TempError => "temperror",
        }
    }
}

/// Checks the names of a client. Asks at most one question for the names, and one for each of the
/// first [`MAX_NAMES`] names.
pub async fn iprev(questions: &Questions, client: IpAddr) -> IprevResult {
    let address = client.to_canonical();
    let no_pass = |outcome, names: Vec<String>, reason: String| IprevResult {
        outcome,
        address,
        name: None,
        names,
        reason: Some(reason),
    };
    let mut names = match questions.ask(|dns| dns.ptr(address)).await {
        Ok(answer) => answer.records,
        Err(error) if error.negative().is_some() => {
            return no_pass(
                IprevOutcome::PermError,
                Vec::new(),
                "the address has no name".to_owned(),
            );
        }
        Err(error) => return no_pass(IprevOutcome::TempError, Vec::new(), error.to_string()),
    };
    names.truncate(MAX_NAMES);
    let mut unanswered = None;
    for name in &names {
        match leads_to(questions, name, address).await {
            Ok(true) => {
                return IprevResult {
                    outcome: IprevOutcome::Pass,
                    address,
                    name: Some(name.clone()),
                    names,
                    reason: None,
                };
            }
            Ok(false) => {}
            Err(error) => unanswered = Some(error),
        }
    }
    match unanswered {
        Some(error) => no_pass(IprevOutcome::TempError, names, error.to_string()),
        None => no_pass(
            IprevOutcome::Fail,
            names,
            "no name of the address leads back to it".to_owned(),
        ),
    }
}

/// Whether a name has this address. A name that does not exist has none.
///
/// # Errors
/// There is no answer for now.
pub(super) async fn leads_to(
    questions: &Questions,
    name: &str,
    address: IpAddr,
) -> Result<bool, DnsError> {
    let found = match address {
        IpAddr::V4(address) => has(questions, |dns| dns.a(name), address).await,
        IpAddr::V6(address) => has(questions, |dns| dns.aaaa(name), address).await,
    };
    match found {
        Err(error) if error.negative().is_some() => Ok(false),
        found => found,
    }
}

async fn has<T: PartialEq>(
    questions: &Questions,
    lookup: impl FnOnce(&dyn Resolver) -> postrider_dns::Lookup<T>,
    address: T,
) -> Result<bool, DnsError> {
    let answer = questions.ask(lookup).await?;
    Ok(answer.records.contains(&address))
}

#[cfg(test)]
mod tests {
    use postrider_dns::{FakeResolver, Question, Record};

    use super::*;
    use crate::checks::questions::tests::questions;

    const CLIENT: &str = "192.0.2.7";

    fn name_client(fake: &FakeResolver, client: &str, name: &str) {
        let question = Question::reverse(client.parse().unwrap());
        fake.add(question.name(), Record::Ptr(name.to_owned()));
    }

    async fn check(fake: &FakeResolver, client: &str, expected: &str, asked: u32) {
        let (questions, _clock) = questions(fake);
        let result = iprev(&questions, client.parse().unwrap()).await;
        let name = result.name.as_deref().unwrap_or("-");
        assert_eq!(format!("{} {name}", result.outcome.as_str()), expected);
        assert_eq!(questions.asked(), asked, "{expected}");
        assert_eq!(result.reason.is_none(), result.name.is_some());
    }

    #[tokio::test]
    async fn a_name_must_lead_back() {
        let fake = FakeResolver::default();
        check(&fake, CLIENT, "permerror -", 1).await;
        name_client(&fake, CLIENT, "other.test");
        fake.add_address("other.test", "192.0.2.8");
        name_client(&fake, CLIENT, "missing.test");
        check(&fake, CLIENT, "fail -", 3).await;
        name_client(&fake, CLIENT, "mx.test");
        fake.add_address("mx.test", CLIENT);
        check(&fake, CLIENT, "pass mx.test", 4).await;
        check(&fake, "::ffff:192.0.2.7", "pass mx.test", 4).await;
        name_client(&fake, "2001:db8::7", "mx.test");
        check(&fake, "2001:db8::7", "fail -", 2).await;
        fake.add_address("mx.test", "2001:db8::7");
        check(&fake, "2001:db8::7", "pass mx.test", 2).await;
    }

    #[tokio::test]
    async fn no_answer_is_a_temporary_error_if_no_name_leads_back() {
        let fake = FakeResolver::default();
        name_client(&fake, CLIENT, "silent.test");
        fake.fail("silent.test");
        check(&fake, CLIENT, "temperror -", 2).await;
        name_client(&fake, CLIENT, "mx.test");
        fake.add_address("mx.test", CLIENT);
        check(&fake, CLIENT, "pass mx.test", 3).await;
        fake.fail(Question::reverse(CLIENT.parse().unwrap()).name());
        check(&fake, CLIENT, "temperror -", 1).await;
    }

    #[tokio::test]
    async fn only_the_first_names_are_looked_up() {
        let fake = FakeResolver::default();
        for n in 0..1000 {
            name_client(&fake, CLIENT, &format!("mx{n}.test"));
        }
        fake.add_address("mx5.test", CLIENT);
        check(&fake, CLIENT, "fail -", 6).await;
        fake.add_address("mx4.test", CLIENT);
        check(&fake, CLIENT, "pass mx4.test", 6).await;
        let (questions, _clock) = questions(&fake);
        let result = iprev(&questions, CLIENT.parse().unwrap()).await;
        let first = (0..MAX_NAMES).map(|n| format!("mx{n}.test"));
        assert!(result.names.iter().cloned().eq(first), "{result:?}");
    }
}
