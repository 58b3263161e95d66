//! The meaning of a recipient address: the accounts that get its mail.

use postrider_config::{
    Alias, Destination, DestinationAddress, Dynamic, Found, Match, ReportAddress, Static,
};
use postrider_smtp::{Address, Domain, ForwardPath, Host, LocalPart};

use crate::{
    decide::Policy,
    facts::{RecipientFacts, Resolution, Target},
};

/// The mailbox of a destination without a configured mailbox.
const INBOX: &str = "Inbox";

/// The local-parts whose mail is never refused by an opinion about it (RFC 2142).
const TAKE_ALL: [&str; 2] = ["postmaster", "abuse"];

/// Looks up a recipient.
#[must_use]
pub fn resolve(policy: &Policy<'_>, path: &ForwardPath) -> RecipientFacts {
    let address = address_of(policy.statics, path);
    let config = policy.config;
    let found = match path {
        ForwardPath::Mailbox(_) => config.lookup(&address),
        ForwardPath::Postmaster => config.postmaster(),
    };
    let resolution = match found {
        Some(found) => resolve_found(policy, &address, &found),
        None if policy.simulate => any_account(config),
        None if is_disabled(config, &address.host) => Resolution::DisabledDomain,
        None if config.is_local(&address.host) => Resolution::UnknownLocalPart,
        None => Resolution::NotLocal,
    };
    let list = matches!(resolution, Resolution::List(_)).then(|| config.canonical(&address));
    RecipientFacts {
        list: list.flatten(),
        ..RecipientFacts::new(address, resolution)
    }
}

/// Whether a host is a domain of ours that takes no mail for now.
pub(crate) fn is_disabled(config: &Dynamic, host: &Host) -> bool {
    let domain = host.domain().and_then(|domain| config.domains.get(domain));
    domain.is_some_and(|domain| domain.disabled)
}

/// The address of a recipient. The bare `<postmaster>` stands for postmaster at our host name (RFC
/// 5321 §4.5.1).
pub(crate) fn address_of(statics: &Static, path: &ForwardPath) -> Address {
    match path {
        ForwardPath::Mailbox(address) => address.clone(),
        ForwardPath::Postmaster => Address {
            local: LocalPart::postmaster(),
            host: Host::Domain(statics.hostname.clone()),
        },
    }
}

/// The kinds of reports that an address is configured for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reports {
    /// About TLS connections (RFC 8460). These come also over connections without TLS, since they
    /// tell of its failures.
    pub(crate) tls: bool,
    /// About DMARC (RFC 9990).
    pub(crate) dmarc: bool,
}

impl Reports {
    /// The address is configured for reports.
    pub(crate) const fn any(self) -> bool {
        self.tls || self.dmarc
    }
}

/// The reports that an address is configured for. An address may take other mail too.
pub(crate) fn reports_to(address: &Address, policy: &Policy<'_>) -> Reports {
    reports_at(address, policy.statics, policy.config)
}

/// The same under a configuration.
pub(crate) fn reports_at(address: &Address, statics: &Static, config: &Dynamic) -> Reports {
    let is_report = |report: &Option<ReportAddress>| {
        let report = report.as_ref();
        report.is_some_and(|report| is_report_address(address, report))
    };
    let domains = config.domains.values();
    let of_host = statics.host_tls_rpt.as_ref();
    Reports {
        tls: of_host.is_some_and(|report| is(address, &report.localpart, &statics.hostname))
            || domains.clone().any(|domain| is_report(&domain.tls_rpt)),
        dmarc: domains.clone().any(|domain| is_report(&domain.dmarc)),
    }
}

/// Whether an address is this address of reports.
pub(crate) fn is_report_address(address: &Address, report: &ReportAddress) -> bool {
    is(address, &report.localpart, &report.domain)
}

/// Whether an address has these parts. The case of letters makes no difference.
fn is(address: &Address, localpart: &LocalPart, domain: &Domain) -> bool {
    let lower = |local: &LocalPart| local.as_str().to_lowercase();
    address.host.domain() == Some(domain) && lower(&address.local) == lower(localpart)
}

fn resolve_found(policy: &Policy<'_>, address: &Address, found: &Found<'_>) -> Resolution {
    use postrider_config::Target as Owner;
    if found.disabled() {
        return Resolution::DisabledDomain;
    }
    // An address for reports may be a destination, too.
    let is_required = is_required(address) || reports_to(address, policy).any();
    match found.target {
        Owner::Account {
            name,
            destination,
            key,
            by,
            ..
        } => {
            let takes_all = is_required || matches!(by, Match::Postmaster | Match::Report);
            Resolution::Account(target(name, destination, key, takes_all))
        }
        Owner::Alias { alias, .. } => Resolution::List(members(policy.config, alias, is_required)),
    }
}

/// Each domain has these addresses, and they take all mail.
fn is_required(address: &Address) -> bool {
    let local = address.local.as_str();
    TAKE_ALL.iter().any(|name| local.eq_ignore_ascii_case(name))
}

fn target(
    account: &str,
    destination: &Destination,
    key: Option<&DestinationAddress>,
    takes_all: bool,
) -> Target {
    let mailbox = match destination.mailbox.as_str() {
        "" => INBOX,
        mailbox => mailbox,
    };
    Target {
        account: account.to_owned(),
        destination: key.cloned(),
        mailbox: mailbox.to_owned(),
        takes_all,
        member: None,
        junk: None,
        used: None,
    }
}

/// The accounts behind the members of a list. A member that is a list itself has none.
fn members(config: &Dynamic, alias: &Alias, takes_all: bool) -> Vec<Target> {
    let members = alias.addresses.iter().filter_map(|member| {
        let postrider_config::Target::Account {
            name,
            destination,
            key,
            ..
        } = config.lookup(member)?.target
        else {
            return None;
        };
        Some(Target {
            member: Some(member.clone()),
            ..target(name, destination, key, takes_all)
        })
    });
    members.collect()
}

/// The inbox of the first account: localserve takes any recipient.
fn any_account(config: &Dynamic) -> Resolution {
    match config.accounts.keys().next() {
        Some(account) => {
            let destination = Destination::default();
            Resolution::Account(target(account, &destination, None, false))
        }
        None => Resolution::NotLocal,
    }
}

/// Whether a ruleset of a recipient looks at fields of the header section.
pub(crate) fn asks_for_fields(config: &Dynamic, recipients: &[RecipientFacts]) -> bool {
    let mut targets = recipients.iter().flat_map(RecipientFacts::targets);
    targets.any(|target| {
        let destination = target.destination_in(config);
        let rulesets = destination.map_or(&[][..], |it| &it.rulesets);
        rulesets
            .iter()
            .any(|ruleset| !ruleset.headers_regexp.is_empty())
    })
}
