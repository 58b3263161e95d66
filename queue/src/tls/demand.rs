//! What TLS a connection to a host needs for a message: the first rule that applies.
//!
//! | rule | applies | TLS | plain text |
//! |---|---|---|---|
//! | [`Waived`](Rule::Waived) | the sender says `TLS-Required: No` (RFC 8689 §5) | if offered, any certificate | yes |
//! | [`Transport`](Rule::Transport) | the configuration names the host | as it says | as it says |
//! | [`Provider`](Rule::Provider) | the entry of the provider says `none` | none | yes |
//! | | it is not known whether there are TLSA records | the next host | no |
//! | [`Dane`](Rule::Dane) | TLSA records can be used (RFC 7672) | a match | no |
//! | [`MtaSts`](Rule::MtaSts) | the domain's policy is "enforce" (RFC 8461) | hosts of the policy, with a valid certificate for the host's name | no |
//! | [`UnusableTlsa`](Rule::UnusableTlsa) | there are TLSA records, and none can be used | any certificate | no |
//! | [`Provider`](Rule::Provider) | the entry of the provider says `encrypt`, `verify` or `dane` | any certificate, a valid one, a match | no |
//! | [`Opportunistic`](Rule::Opportunistic) | else (RFC 7435) | if offered, any certificate | yes |
//!
//! An entry with `encrypt`, `verify` or `dane` is the least: the rules above it hold too where they
//! demand more. Otherwise the figures for a provider would weaken what its domains publish.
//!
//! `MtaSts` comes before `UnusableTlsa`, as it demands more. A message with REQUIRETLS (RFC 8689
//! §4) needs `Dane` or `MtaSts`, or a host that the configuration names and whose certificate is
//! checked: only these prove that the host is the right one.

use postrider_config::{Provider, ProviderTls};
use postrider_smtp::{Cause, DeliveryStatus, EnhancedCode};
use postrider_store::Queued;

use crate::route::SmarthostTls;

/// What the sender of a message asks of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Requested {
    /// `TLS-Required: No`: the delivery counts more than TLS.
    Waived,
    /// Nothing.
    Unsaid,
    /// REQUIRETLS.
    Required,
}

impl Requested {
    /// What the sender of this message asks.
    pub(crate) fn of(message: &Queued) -> Self {
        match message.common.require_tls {
            Some(true) => Self::Required,
            Some(false) => Self::Waived,
            None => Self::Unsaid,
        }
    }
}

/// The TLS that the configuration sets for a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TlsRule {
    /// Nothing: what DANE and MTA-STS say of each host counts.
    ByHost,
    /// As the entry of the provider says. It is not `opportunistic`.
    Provider(ProviderTls),
    /// An LMTP server: if offered, with any certificate.
    Lmtp,
    /// As the transport says.
    Smarthost {
        tls: SmarthostTls,
        /// The certificate must be valid for the host.
        verify: bool,
        /// There is a login. Its password goes only where the transport says.
        login: bool,
    },
}

impl TlsRule {
    /// The TLS for the hosts of a provider.
    pub(crate) const fn of_provider(provider: &Provider) -> Self {
        match provider.tls {
            ProviderTls::Opportunistic => Self::ByHost,
            tls => Self::Provider(tls),
        }
    }
}

/// What a connection proves. More is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Proven {
    /// Nothing: it is in clear.
    Plain,
    /// It is encrypted.
    Encrypted,
    /// A trusted CA says that the server has the host's name.
    Pkix,
    /// TLSA records of the host match (RFC 7672).
    Dane,
}

impl Proven {
    /// The name in traces.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Encrypted => "encrypted",
            Self::Pkix => "pkix",
            Self::Dane => "dane",
        }
    }
}

/// The TLSA records of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TlsaFact<'a> {
    /// There are none, or DNSSEC does not prove the way to them.
    Absent,
    /// DNSSEC proves nothing at this time, since the DNS servers pass on no signatures.
    Unvalidated,
    /// It is not known whether there are any, for this reason.
    Failed(&'a str),
    /// There are some, and none can be used.
    Unusable,
    /// Some can be used.
    Usable,
}

/// The MTA-STS policy of the recipient's domain, and a host. A policy in mode "testing" or "none"
/// changes no delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MtaStsFact {
    /// No policy is enforced.
    Absent,
    /// It is not known whether there is a policy: it could not be looked at.
    Unknown,
    /// The policy is enforced, and has the host.
    Listed,
    /// The policy is enforced, and does not have the host.
    NotListed,
}

/// All that the rules go by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) requested: Requested,
    pub(crate) rule: TlsRule,
    pub(crate) tlsa: TlsaFact<'a>,
    pub(crate) mta_sts: MtaStsFact,
}

/// The rule that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    Waived,
    Transport,
    Provider,
    Dane,
    UnusableTlsa,
    MtaSts,
    Opportunistic,
}

impl Rule {
    /// The name in the texts of failures and in logs.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Waived => "TLS-Required: No",
            Self::Transport => "the transport",
            Self::Provider => "the entry of the provider",
            Self::Dane => "DANE",
            Self::UnusableTlsa => "a TLSA record that can't be used",
            Self::MtaSts => "MTA-STS",
            Self::Opportunistic => "opportunistic TLS",
        }
    }
}

/// When TLS begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    Never,
    /// After STARTTLS, if the host offers it and the handshake works.
    IfOffered,
    /// After STARTTLS.
    Upgrade,
    /// With the first byte.
    Implicit,
}

/// The check of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// None, for TLS that may as well be left out.
    Lenient,
    /// None, but the server has its key.
    Encrypted,
    /// By the trusted CAs, for the host's name (RFC 6125).
    Pkix,
    /// By the host's TLSA records.
    Dane,
}

/// The TLS that a connection needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Demand {
    pub(crate) rule: Rule,
    pub(crate) start: Start,
    pub(crate) check: Check,
}

impl Demand {
    /// No TLS, and none needed.
    pub(crate) const PLAIN: Self = Self {
        rule: Rule::Transport,
        start: Start::Never,
        check: Check::Lenient,
    };

    const fn opportunistic(rule: Rule) -> Self {
        Self {
            rule,
            start: Start::IfOffered,
            check: Check::Lenient,
        }
    }

    const fn start_tls(rule: Rule, check: Check) -> Self {
        Self {
            rule,
            start: Start::Upgrade,
            check,
        }
    }

    /// The least that a connection must prove.
    pub(crate) const fn least(&self) -> Proven {
        match (self.start, self.check) {
            (Start::Never | Start::IfOffered, _) => Proven::Plain,
            (_, Check::Lenient | Check::Encrypted) => Proven::Encrypted,
            (_, Check::Pkix) => Proven::Pkix,
            (_, Check::Dane) => Proven::Dane,
        }
    }
}

/// Why a host is left out before a connection to it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It may do later.
    ForNow(DeliveryStatus),
    /// It lacks what the message needs. The status is permanent, and counts if all hosts lack it.
    Lacks(DeliveryStatus),
}

/// The TLS for a message at a host.
///
/// # Errors
/// Why there is to be no connection.
pub(crate) fn demand(facts: &Facts<'_>) -> Result<Demand, Refusal> {
    let required = facts.requested == Requested::Required;
    let demand = match (facts.requested, facts.rule) {
        (Requested::Waived, rule) => return Ok(waived(rule)),
        (_, TlsRule::Smarthost { tls, verify, .. }) => transport(tls, verify),
        (Requested::Required, TlsRule::Lmtp) => Demand::start_tls(Rule::Transport, Check::Pkix),
        (Requested::Unsaid, TlsRule::Lmtp) => Demand::opportunistic(Rule::Transport),
        (Requested::Unsaid, TlsRule::Provider(tls)) => by_provider(tls, facts)?,
        (Requested::Required, TlsRule::Provider(tls)) => {
            let by_host = by_host(facts)?;
            if tls == ProviderTls::Dane && by_host.check == Check::Pkix {
                return Err(no_dane());
            }
            by_host
        }
        (_, TlsRule::ByHost) => by_host(facts)?,
    };
    match required && demand.least() < Proven::Pkix {
        true => Err(unproven(facts)),
        false => Ok(demand),
    }
}

/// REQUIRETLS is needed, and nothing proves the host.
fn unproven(facts: &Facts<'_>) -> Refusal {
    let for_now = |text| {
        let code = EnhancedCode::NO_SECURITY_FEATURE;
        Refusal::ForNow(DeliveryStatus::transient(Cause::Tls, code, text))
    };
    let by_host = matches!(facts.rule, TlsRule::ByHost | TlsRule::Provider(_));
    let text = match (facts.tlsa, facts.mta_sts) {
        (_, MtaStsFact::Unknown) if by_host => {
            return for_now(
                "REQUIRETLS is needed, and it is not known whether the domain has an MTA-STS policy",
            );
        }
        (TlsaFact::Unvalidated, _) if by_host => {
            return for_now(
                "REQUIRETLS is needed, and DNSSEC can't tell at this time whether the host has TLSA \
                 records",
            );
        }
        _ if by_host => "REQUIRETLS is needed, and neither DANE nor MTA-STS proves the host",
        _ => "REQUIRETLS is needed, and the transport does not check the certificate",
    };
    let code = EnhancedCode::REQUIRETLS_NEEDED;
    Refusal::Lacks(DeliveryStatus::permanent(Cause::Local, code, text))
}

/// The sender's waiver is about the rules of the recipient's side. It opens no password, and does
/// not change how a port works.
const fn waived(rule: TlsRule) -> Demand {
    match rule {
        TlsRule::Smarthost {
            tls, verify, login, ..
        } => match tls {
            SmarthostTls::StartTls if !login => Demand::opportunistic(Rule::Waived),
            tls => transport(tls, verify),
        },
        TlsRule::ByHost | TlsRule::Provider(_) | TlsRule::Lmtp => {
            Demand::opportunistic(Rule::Waived)
        }
    }
}

const fn transport(tls: SmarthostTls, verify: bool) -> Demand {
    Demand {
        rule: Rule::Transport,
        start: match tls {
            SmarthostTls::Implicit => Start::Implicit,
            SmarthostTls::StartTls => Start::Upgrade,
            SmarthostTls::Never => Start::Never,
        },
        check: match verify {
            true => Check::Pkix,
            false => Check::Encrypted,
        },
    }
}

/// The least that the entry says, or more if the host demands it.
fn by_provider(tls: ProviderTls, facts: &Facts<'_>) -> Result<Demand, Refusal> {
    let least = match tls {
        ProviderTls::None => {
            return Ok(Demand {
                rule: Rule::Provider,
                ..Demand::PLAIN
            });
        }
        ProviderTls::Opportunistic => return by_host(facts),
        ProviderTls::Encrypt => Demand::start_tls(Rule::Provider, Check::Encrypted),
        ProviderTls::Verify => Demand::start_tls(Rule::Provider, Check::Pkix),
        ProviderTls::Dane => Demand::start_tls(Rule::Provider, Check::Dane),
    };
    let by_host = by_host(facts)?;
    if by_host.least() >= least.least() {
        return Ok(by_host);
    }
    match tls {
        ProviderTls::Dane => Err(no_dane()),
        _ => Ok(least),
    }
}

/// The entry of a provider demands DANE in vain.
fn no_dane() -> Refusal {
    Refusal::ForNow(DeliveryStatus::transient(
        Cause::Tls,
        EnhancedCode::CRYPTOGRAPHIC_FAILURE,
        "the entry of the provider demands DANE, and the host has no TLSA records that can be used",
    ))
}

fn by_host(facts: &Facts<'_>) -> Result<Demand, Refusal> {
    match (facts.tlsa, facts.mta_sts) {
        (TlsaFact::Failed(reason), _) => Err(Refusal::ForNow(DeliveryStatus::transient(
            Cause::Dns,
            EnhancedCode::DIRECTORY_FAILURE,
            format!("looking up the TLSA records of the host: {reason}"),
        ))),
        (TlsaFact::Usable, _) => Ok(Demand::start_tls(Rule::Dane, Check::Dane)),
        (_, MtaStsFact::Listed) => Ok(Demand::start_tls(Rule::MtaSts, Check::Pkix)),
        (_, MtaStsFact::NotListed) => Err(Refusal::ForNow(DeliveryStatus::transient(
            Cause::Tls,
            EnhancedCode::CRYPTOGRAPHIC_FAILURE,
            "the MTA-STS policy of the domain does not have the host",
        ))),
        (TlsaFact::Unusable, MtaStsFact::Absent | MtaStsFact::Unknown) => {
            Ok(Demand::start_tls(Rule::UnusableTlsa, Check::Encrypted))
        }
        (TlsaFact::Absent | TlsaFact::Unvalidated, MtaStsFact::Absent | MtaStsFact::Unknown) => {
            Ok(Demand::opportunistic(Rule::Opportunistic))
        }
    }
}

#[cfg(test)]
mod tests {
    use Requested::{Required, Unsaid, Waived};

    use super::*;

    const SMARTHOST: TlsRule = TlsRule::Smarthost {
        tls: SmarthostTls::StartTls,
        verify: true,
        login: true,
    };

    /// The decision in one line: the rule, when TLS begins, the check; or the status.
    fn shown(facts: &Facts<'_>) -> String {
        match demand(facts) {
            Ok(demand) => format!("{:?} {:?} {:?}", demand.rule, demand.start, demand.check),
            Err(Refusal::ForNow(status)) => format!("wait: {status}"),
            Err(Refusal::Lacks(status)) => format!("lacks: {status}"),
        }
    }

    /// One line for each rule, and for what comes before what.
    #[test]
    fn the_first_rule_that_applies_counts() {
        use MtaStsFact::{Absent, Listed, NotListed, Unknown};
        use TlsaFact::{Failed, Unusable, Unvalidated, Usable};
        const NONE: TlsaFact<'static> = TlsaFact::Absent;
        const LACKS: &str = "lacks: 5.7.30 REQUIRETLS is needed, and neither DANE nor MTA-STS \
                             proves the host";
        const UNLISTED: &str =
            "wait: 4.7.5 the MTA-STS policy of the domain does not have the host";
        const UNKNOWN: &str = "wait: 4.7.4 REQUIRETLS is needed, and it is not known whether the \
                               domain has an MTA-STS policy";
        const FAILED: &str = "wait: 4.4.3 looking up the TLSA records of the host: bogus";
        const UNPROVEN: &str = "wait: 4.7.4 REQUIRETLS is needed, and DNSSEC can't tell at this \
                                time whether the host has TLSA records";
        for (requested, tlsa, mta_sts, expected) in [
            (Unsaid, NONE, Absent, "Opportunistic IfOffered Lenient"),
            (Unsaid, NONE, Listed, "MtaSts Upgrade Pkix"),
            (Unsaid, NONE, NotListed, UNLISTED),
            (Unsaid, Unusable, Absent, "UnusableTlsa Upgrade Encrypted"),
            (Unsaid, Unusable, Listed, "MtaSts Upgrade Pkix"),
            (Unsaid, Unusable, NotListed, UNLISTED),
            (Unsaid, Usable, Absent, "Dane Upgrade Dane"),
            (Unsaid, Usable, NotListed, "Dane Upgrade Dane"),
            (Unsaid, Failed("bogus"), Listed, FAILED),
            (Waived, Failed("bogus"), Absent, "Waived IfOffered Lenient"),
            (Waived, Usable, Listed, "Waived IfOffered Lenient"),
            (Required, NONE, Absent, LACKS),
            (Required, NONE, Unknown, UNKNOWN),
            (Required, Unvalidated, Absent, UNPROVEN),
            (Required, Unvalidated, Listed, "MtaSts Upgrade Pkix"),
            (
                Unsaid,
                Unvalidated,
                Absent,
                "Opportunistic IfOffered Lenient",
            ),
            (Unsaid, Unvalidated, NotListed, UNLISTED),
            (Required, Usable, Unknown, "Dane Upgrade Dane"),
            (Unsaid, NONE, Unknown, "Opportunistic IfOffered Lenient"),
            (Required, Unusable, Absent, LACKS),
            (Required, Failed("bogus"), Absent, FAILED),
            (Required, NONE, Listed, "MtaSts Upgrade Pkix"),
            (Required, NONE, NotListed, UNLISTED),
            (Required, Usable, Absent, "Dane Upgrade Dane"),
        ] {
            let facts = Facts {
                requested,
                rule: TlsRule::ByHost,
                tlsa,
                mta_sts,
            };
            assert_eq!(shown(&facts), expected, "{facts:?}");
        }
    }

    #[test]
    fn the_entry_of_a_provider_is_the_least() {
        use MtaStsFact::{Absent, Listed, NotListed};
        use ProviderTls::{Dane, Encrypt, None, Verify};
        use TlsaFact::{Failed, Unusable, Usable};
        const NO_TLSA: TlsaFact<'static> = TlsaFact::Absent;
        const NO_DANE: &str = "wait: 4.7.5 the entry of the provider demands DANE, and the host has \
                               no TLSA records that can be used";
        const LACKS: &str = "lacks: 5.7.30 REQUIRETLS is needed, and neither DANE nor MTA-STS \
                             proves the host";
        for (requested, tls, tlsa, mta_sts, expected) in [
            (Unsaid, None, NO_TLSA, Absent, "Provider Never Lenient"),
            (Unsaid, None, Usable, Listed, "Provider Never Lenient"),
            (
                Unsaid,
                Encrypt,
                NO_TLSA,
                Absent,
                "Provider Upgrade Encrypted",
            ),
            (
                Unsaid,
                Encrypt,
                Unusable,
                Absent,
                "UnusableTlsa Upgrade Encrypted",
            ),
            (Unsaid, Encrypt, Usable, Absent, "Dane Upgrade Dane"),
            (Unsaid, Encrypt, NO_TLSA, Listed, "MtaSts Upgrade Pkix"),
            (Unsaid, Verify, NO_TLSA, Absent, "Provider Upgrade Pkix"),
            (Unsaid, Verify, Unusable, Absent, "Provider Upgrade Pkix"),
            (Unsaid, Verify, Usable, Absent, "Dane Upgrade Dane"),
            (Unsaid, Dane, Usable, NotListed, "Dane Upgrade Dane"),
            (Unsaid, Dane, NO_TLSA, Listed, NO_DANE),
            (Unsaid, Dane, Unusable, Absent, NO_DANE),
            (Waived, Verify, Usable, Listed, "Waived IfOffered Lenient"),
            (Required, Verify, NO_TLSA, Absent, LACKS),
            (Required, None, NO_TLSA, Listed, "MtaSts Upgrade Pkix"),
            (Required, Verify, NO_TLSA, Listed, "MtaSts Upgrade Pkix"),
            (Required, Dane, Usable, Listed, "Dane Upgrade Dane"),
            (Required, Dane, NO_TLSA, Listed, NO_DANE),
            (Required, Dane, NO_TLSA, Absent, LACKS),
        ] {
            let facts = Facts {
                requested,
                rule: TlsRule::Provider(tls),
                tlsa,
                mta_sts,
            };
            assert_eq!(shown(&facts), expected, "{facts:?}");
        }
        for tls in [Encrypt, Verify, Dane] {
            let facts = Facts {
                requested: Unsaid,
                rule: TlsRule::Provider(tls),
                tlsa: Failed("bogus"),
                mta_sts: Absent,
            };
            assert!(shown(&facts).starts_with("wait: 4.4.3 "), "{facts:?}");
        }
    }

    #[test]
    fn a_transport_is_as_configured() {
        let smarthost = |tls, verify, login| TlsRule::Smarthost { tls, verify, login };
        const LACKS: &str = "lacks: 5.7.30 REQUIRETLS is needed, and the transport does not check \
                             the certificate";
        use SmarthostTls::{Implicit, Never, StartTls};
        for (requested, rule, expected) in [
            (Unsaid, SMARTHOST, "Transport Upgrade Pkix"),
            (Required, SMARTHOST, "Transport Upgrade Pkix"),
            (
                Unsaid,
                smarthost(StartTls, false, true),
                "Transport Upgrade Encrypted",
            ),
            (Required, smarthost(StartTls, false, true), LACKS),
            (
                Unsaid,
                smarthost(Implicit, true, true),
                "Transport Implicit Pkix",
            ),
            (Unsaid, smarthost(Never, true, true), "Transport Never Pkix"),
            (Required, smarthost(Never, true, true), LACKS),
            // A waiver opens no password, and does not change how a port works.
            (Waived, SMARTHOST, "Transport Upgrade Pkix"),
            (
                Waived,
                smarthost(StartTls, true, false),
                "Waived IfOffered Lenient",
            ),
            (
                Waived,
                smarthost(Implicit, true, false),
                "Transport Implicit Pkix",
            ),
            (Unsaid, TlsRule::Lmtp, "Transport IfOffered Lenient"),
            (Waived, TlsRule::Lmtp, "Waived IfOffered Lenient"),
            (Required, TlsRule::Lmtp, "Transport Upgrade Pkix"),
        ] {
            let facts = Facts {
                requested,
                rule,
                tlsa: TlsaFact::Absent,
                mta_sts: MtaStsFact::Absent,
            };
            assert_eq!(shown(&facts), expected, "{facts:?}");
        }
    }

    #[test]
    fn what_is_proven_has_an_order() {
        assert!(Proven::Plain < Proven::Encrypted && Proven::Encrypted < Proven::Pkix);
        assert!(Proven::Pkix < Proven::Dane);
        let least = |start, check| {
            let rule = Rule::Transport;
            Demand { rule, start, check }.least()
        };
        assert_eq!(least(Start::IfOffered, Check::Pkix), Proven::Plain);
        assert_eq!(least(Start::Never, Check::Pkix), Proven::Plain);
        assert_eq!(least(Start::Upgrade, Check::Encrypted), Proven::Encrypted);
        assert_eq!(least(Start::Implicit, Check::Pkix), Proven::Pkix);
        assert_eq!(least(Start::Upgrade, Check::Dane), Proven::Dane);
    }
}
