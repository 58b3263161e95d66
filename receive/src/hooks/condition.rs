//! When a program is asked.

use postrider_config::{DomainPattern, HookConditions};
use postrider_smtp::Address;

use super::asked::Asked;

/// Whether all conditions hold at a listener. They never do at another one.
pub(super) fn hold_at(conditions: &HookConditions, listener: &str) -> bool {
    let listeners = &conditions.listeners;
    listeners.is_empty() || listeners.iter().any(|name| name == listener)
}

/// Whether all conditions hold. A condition about a sender or a recipient does not hold before MAIL
/// or RCPT. At RCPT the recipient in question counts, at the end of the message any of them.
pub(super) fn hold(conditions: &HookConditions, asked: &Asked<'_>) -> bool {
    let HookConditions {
        listeners: _,
        authenticated,
        remote,
        sender_domains,
        recipient_domains,
    } = conditions;
    let sender = || asked.sender().and_then(|path| path.address());
    let recipients = match asked.draft {
        Some(draft) => draft.recipients.as_slice(),
        None => asked
            .recipients
            .last()
            .map_or(&[][..], std::slice::from_ref),
    };
    let to = || {
        recipients
            .iter()
            .filter_map(|rcpt| rcpt.forward_path.address())
    };
    hold_at(conditions, asked.listener)
        && authenticated.is_none_or(|wanted| wanted == asked.login.is_some())
        && (remote.is_empty()
            || remote
                .iter()
                .any(|network| network.contains(asked.remote())))
        && (sender_domains.is_empty() || sender().is_some_and(|from| is_in(sender_domains, from)))
        && (recipient_domains.is_empty() || to().any(|to| is_in(recipient_domains, to)))
}

fn is_in(patterns: &[DomainPattern], address: &Address) -> bool {
    let domain = address.host.domain();
    domain.is_some_and(|domain| patterns.iter().any(|pattern| pattern.matches(domain)))
}
