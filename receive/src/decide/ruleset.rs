//! Rulesets: which mailbox of a destination gets a message, and what the administrator knows of its
//! senders.

use postrider_config::{Pattern, Ruleset};
use postrider_smtp::Address;

use super::end::Case;
use crate::{checks::results::AuthenticationResults, facts::Facts};

/// The first ruleset whose conditions all hold, by these results of the checks.
pub(super) fn matching<'a>(
    rulesets: &'a [Ruleset],
    mail_from: Option<&Address>,
    facts: &Facts,
    results: Option<&AuthenticationResults>,
) -> Option<&'a Ruleset> {
    rulesets
        .iter()
        .find(|ruleset| holds(ruleset, mail_from, facts, results))
}

/// Whether all conditions of a ruleset hold. `mail_from` is None for a null reverse-path, which is
/// an empty text to a pattern.
fn holds(
    ruleset: &Ruleset,
    mail_from: Option<&Address>,
    facts: &Facts,
    results: Option<&AuthenticationResults>,
) -> bool {
    let author = facts.header.as_ref().and_then(|header| header.from());
    let is_verified = |domain| results.is_some_and(|results| results.verifies(domain));
    let mail_from_fits = |pattern: &Pattern| match mail_from {
        Some(address) => fits_address(pattern, address),
        None => pattern.0.is_match(""),
    };
    let author_fits =
        |pattern: &Pattern| author.is_some_and(|author| fits_address(pattern, author));
    let has_field = |(name, value): &(Pattern, Pattern)| {
        let mut fields = facts.fields.iter();
        fields.any(|field| name.0.is_match(&field.name) && value.0.is_match(&field.value))
    };
    ruleset.mail_from_regexp.as_ref().is_none_or(mail_from_fits)
        && ruleset.msg_from_regexp.as_ref().is_none_or(author_fits)
        && ruleset.verified_domain.as_ref().is_none_or(is_verified)
        && ruleset.headers_regexp.iter().all(has_field)
}

/// A pattern may be written for either form of a domain.
fn fits_address(pattern: &Pattern, address: &Address) -> bool {
    pattern.0.is_match(&address.to_string()) || pattern.0.is_match(&address.unicode())
}

/// What a ruleset says of the server that sends a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vouched {
    /// Nothing.
    No,
    /// Another server of ours forwards the message.
    Forward,
    /// The message comes from a mailing list, and SPF or DKIM stands behind the list.
    List,
    /// The message seems to come from a mailing list, and nothing stands behind the list.
    ListUnproved,
}

impl Vouched {
    pub(super) fn by(case: &Case<'_>) -> Self {
        match case.ruleset {
            Some(Ruleset {
                is_forward: true, ..
            }) => Self::Forward,
            Some(Ruleset {
                list_allow_domain: Some(list),
                ..
            }) => match case.results.is_some_and(|results| results.verifies(list)) {
                true => Self::List,
                false => Self::ListUnproved,
            },
            _ => Self::No,
        }
    }
}
