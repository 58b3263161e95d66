//! What a connection, or the lack of one, means for reports about TLS (RFC 8460 §4.3): facts in,
//! the results by policy out.
//!
//! | seen | result type |
//! |---|---|
//! | STARTTLS is missing or refused | starttls-not-supported |
//! | the certificate is for other names; is over; nobody trusted stands behind it | certificate-host-mismatch; certificate-expired; certificate-not-trusted |
//! | an alert, a time-out, a certificate that is not valid yet, no matching TLSA record, a host that the policy does not have, and the like | validation-failure, with the reason |
//! | TLSA records that can't be used; a bogus answer; none where the configuration demands DANE | tlsa-invalid; dnssec-invalid; dane-required |
//! | an MTA-STS policy that was not fetched; its host's certificate; its syntax | sts-policy-fetch-error; sts-webpki-invalid; sts-policy-invalid |
//!
//! A connection counts for each policy that it is made under: DANE, MTA-STS, or neither. DANE comes
//! before MTA-STS (RFC 8461 §2): a host with TLSA records that can be used has no MTA-STS.

use postrider_smtp::client::{TlsFault, TlsFaultKind};
use postrider_store::{TlsPolicyKind, TlsResultType};

use crate::mta_sts::FetchFault;

/// The TLSA records of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TlsaSeen {
    /// There are none that count.
    Absent,
    /// It is not known whether there are any.
    Unknown,
    /// DNSSEC proves the answer wrong.
    Bogus,
    /// There are some, and none can be used.
    Unusable,
    /// Some can be used.
    Usable,
}

/// The MTA-STS policy of the recipient's domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StsSeen {
    /// There is none that asks for anything.
    Absent,
    /// There is one, enforced or in testing.
    Policy {
        /// The host is in it.
        listed: bool,
    },
    /// It is announced, and could not be fetched.
    Unfetched(FetchFault),
}

/// The TLS of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionSeen<'a> {
    /// None was made, by a rule about the host.
    NotMade,
    /// There is none, since the host does not offer it.
    Plain,
    /// It works. The fault is what is wrong with the certificate by the trusted CAs.
    Encrypted(Option<&'a TlsFault>),
    /// It failed.
    Failed(&'a TlsFault),
}

/// What was seen of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen<'a> {
    pub(crate) tlsa: TlsaSeen,
    /// The configuration demands TLSA records.
    pub(crate) dane_required: bool,
    pub(crate) sts: StsSeen,
    pub(crate) session: SessionSeen<'a>,
}

/// A failure by its type, with a word for what exactly failed, and with what happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failed {
    pub(crate) result: TlsResultType,
    pub(crate) reason: &'static str,
    pub(crate) text: String,
}

impl Failed {
    fn plainly(result: TlsResultType) -> Self {
        Self {
            result,
            reason: "",
            text: String::new(),
        }
    }

    fn by(fault: &TlsFault) -> Self {
        use TlsFaultKind as Kind;
        let result = match fault.kind {
            Kind::NotOffered | Kind::Refused => TlsResultType::StarttlsNotSupported,
            Kind::NameMismatch => TlsResultType::CertificateHostMismatch,
            Kind::Expired => TlsResultType::CertificateExpired,
            Kind::UnknownIssuer => TlsResultType::CertificateNotTrusted,
            Kind::NotYetValid
            | Kind::NoTlsaMatch
            | Kind::BadCertificate
            | Kind::Alert
            | Kind::TimedOut
            | Kind::Broken
            | Kind::Protocol => TlsResultType::ValidationFailure,
        };
        let says_all = result != TlsResultType::ValidationFailure && fault.kind != Kind::Refused;
        Self {
            result,
            reason: if says_all { "" } else { fault.kind.name() },
            text: fault.to_string(),
        }
    }
}

/// The results: for each policy its failures. None is a success.
pub(crate) fn results(seen: &Seen<'_>) -> Vec<(TlsPolicyKind, Vec<Failed>)> {
    let mut results = Vec::new();
    results.extend(by_tlsa(seen).map(|failed| (TlsPolicyKind::Tlsa, failed)));
    results.extend(by_sts(seen).map(|failed| (TlsPolicyKind::Sts, failed)));
    if results.is_empty() {
        let failed = of_session(seen.session);
        results.extend(failed.map(|failed| (TlsPolicyKind::NoPolicyFound, failed)));
    }
    results
}

/// What the session says, whatever the certificate. None if there was none.
fn of_session(session: SessionSeen<'_>) -> Option<Vec<Failed>> {
    match session {
        SessionSeen::NotMade => None,
        SessionSeen::Plain => Some(vec![Failed::plainly(TlsResultType::StarttlsNotSupported)]),
        SessionSeen::Encrypted(_) => Some(Vec::new()),
        SessionSeen::Failed(fault) => Some(vec![Failed::by(fault)]),
    }
}

/// None: there are no TLSA records, and none are demanded.
fn by_tlsa(seen: &Seen<'_>) -> Option<Vec<Failed>> {
    let lacks = match seen.tlsa {
        TlsaSeen::Bogus => return Some(vec![Failed::plainly(TlsResultType::DnssecInvalid)]),
        TlsaSeen::Usable => return of_session(seen.session),
        TlsaSeen::Unusable => Some(TlsResultType::TlsaInvalid),
        TlsaSeen::Absent | TlsaSeen::Unknown => None,
    };
    let demanded = seen.dane_required && seen.tlsa != TlsaSeen::Unknown;
    let demanded = demanded.then_some(TlsResultType::DaneRequired);
    let failed: Vec<Failed> = lacks
        .into_iter()
        .chain(demanded)
        .map(Failed::plainly)
        .collect();
    if failed.is_empty() {
        return None;
    }
    let session = of_session(seen.session).unwrap_or_default();
    Some(failed.into_iter().chain(session).collect())
}

/// None: there is no policy, or it does not count for the host.
fn by_sts(seen: &Seen<'_>) -> Option<Vec<Failed>> {
    if matches!(seen.tlsa, TlsaSeen::Usable | TlsaSeen::Bogus) {
        return None;
    }
    match (seen.sts, seen.session) {
        (StsSeen::Absent, _) => None,
        (StsSeen::Policy { listed: false }, _) => Some(vec![Failed {
            result: TlsResultType::ValidationFailure,
            reason: "host-not-in-policy",
            text: "the policy does not have the MX host".to_owned(),
        }]),
        (StsSeen::Policy { listed: true }, SessionSeen::Encrypted(Some(fault))) => {
            Some(vec![Failed::by(fault)])
        }
        (StsSeen::Policy { listed: true }, session) => of_session(session),
        (StsSeen::Unfetched(fault), session) => {
            let mut failed = vec![Failed::plainly(match fault {
                FetchFault::Fetch => TlsResultType::StsPolicyFetchError,
                FetchFault::Certificate => TlsResultType::StsWebpkiInvalid,
                FetchFault::Syntax => TlsResultType::StsPolicyInvalid,
            })];
            failed.extend(of_session(session)?);
            Some(failed)
        }
    }
}

#[cfg(test)]
mod tests {
    use TlsaSeen::{Absent, Bogus, Unknown, Unusable, Usable};

    use super::*;

    fn fault(kind: TlsFaultKind) -> TlsFault {
        TlsFault {
            kind,
            text: String::new(),
            certificate: None,
        }
    }

    fn shown(seen: &Seen<'_>) -> String {
        let shown = results(seen).into_iter().map(|(policy, failed)| {
            let failed = failed.iter().map(|failed| match failed.reason {
                "" => failed.result.name().to_owned(),
                reason => format!("{}({reason})", failed.result.name()),
            });
            let failed: Vec<_> = failed.collect();
            format!("{}:{}", policy.name(), failed.join("+"))
        });
        shown.collect::<Vec<_>>().join(" ")
    }

    const NO_STS: StsSeen = StsSeen::Absent;
    const STS: StsSeen = StsSeen::Policy { listed: true };

    fn seen(tlsa: TlsaSeen, sts: StsSeen, session: SessionSeen<'_>) -> Seen<'_> {
        Seen {
            tlsa,
            dane_required: false,
            sts,
            session,
        }
    }

    /// One line for each kind of fault, under a policy of each kind.
    #[test]
    fn each_fault_has_its_type() {
        use TlsFaultKind as Kind;
        for (kind, expected) in [
            (Kind::NotOffered, "starttls-not-supported"),
            (Kind::Refused, "starttls-not-supported(starttls-refused)"),
            (Kind::NameMismatch, "certificate-host-mismatch"),
            (Kind::Expired, "certificate-expired"),
            (Kind::UnknownIssuer, "certificate-not-trusted"),
            (Kind::NotYetValid, "validation-failure(not-yet-valid)"),
            (Kind::NoTlsaMatch, "validation-failure(no-tlsa-match)"),
            (Kind::BadCertificate, "validation-failure(bad-certificate)"),
            (Kind::Alert, "validation-failure(alert)"),
            (Kind::TimedOut, "validation-failure(time-out)"),
            (Kind::Broken, "validation-failure(connection-lost)"),
            (Kind::Protocol, "validation-failure(protocol)"),
        ] {
            let fault = fault(kind);
            let failed = SessionSeen::Failed(&fault);
            for (tlsa, sts, policy) in [
                (Usable, STS, "tlsa"),
                (Absent, STS, "sts"),
                (Absent, NO_STS, "no-policy-found"),
            ] {
                let found = shown(&seen(tlsa, sts, failed));
                assert_eq!(found, format!("{policy}:{expected}"), "{kind:?}");
            }
        }
    }

    #[test]
    fn a_connection_counts_for_the_policies_that_it_is_made_under() {
        use SessionSeen::{Encrypted, NotMade, Plain};
        let untrusted = fault(TlsFaultKind::UnknownIssuer);
        let unlisted = StsSeen::Policy { listed: false };
        let unfetched = StsSeen::Unfetched;
        for (tlsa, sts, session, expected) in [
            (Absent, NO_STS, Encrypted(None), "no-policy-found:"),
            (
                Absent,
                NO_STS,
                Encrypted(Some(&untrusted)),
                "no-policy-found:",
            ),
            (
                Absent,
                NO_STS,
                Plain,
                "no-policy-found:starttls-not-supported",
            ),
            (Absent, NO_STS, NotMade, ""),
            (Unknown, NO_STS, NotMade, ""),
            (Unknown, STS, NotMade, ""),
            (Usable, STS, Encrypted(Some(&untrusted)), "tlsa:"),
            (Usable, unlisted, Encrypted(None), "tlsa:"),
            (Usable, NO_STS, NotMade, ""),
            (Bogus, STS, NotMade, "tlsa:dnssec-invalid"),
            (Unusable, NO_STS, Encrypted(None), "tlsa:tlsa-invalid"),
            (Unusable, STS, Encrypted(None), "tlsa:tlsa-invalid sts:"),
            (
                Unusable,
                STS,
                Encrypted(Some(&untrusted)),
                "tlsa:tlsa-invalid sts:certificate-not-trusted",
            ),
            (Absent, STS, Encrypted(None), "sts:"),
            (
                Absent,
                STS,
                Encrypted(Some(&untrusted)),
                "sts:certificate-not-trusted",
            ),
            (Absent, STS, Plain, "sts:starttls-not-supported"),
            (Absent, STS, NotMade, ""),
            (
                Absent,
                unlisted,
                NotMade,
                "sts:validation-failure(host-not-in-policy)",
            ),
            (
                Absent,
                unlisted,
                Encrypted(None),
                "sts:validation-failure(host-not-in-policy)",
            ),
            (
                Absent,
                unfetched(FetchFault::Fetch),
                Encrypted(None),
                "sts:sts-policy-fetch-error",
            ),
            (
                Absent,
                unfetched(FetchFault::Certificate),
                Plain,
                "sts:sts-webpki-invalid+starttls-not-supported",
            ),
            (
                Absent,
                unfetched(FetchFault::Syntax),
                Encrypted(None),
                "sts:sts-policy-invalid",
            ),
            (Absent, unfetched(FetchFault::Syntax), NotMade, ""),
        ] {
            let seen = seen(tlsa, sts, session);
            assert_eq!(shown(&seen), expected, "{seen:?}");
        }
    }

    #[test]
    fn dane_that_is_demanded_needs_records() {
        for (tlsa, expected) in [
            (Absent, "tlsa:dane-required"),
            (Unusable, "tlsa:tlsa-invalid+dane-required"),
            (Bogus, "tlsa:dnssec-invalid"),
            (Unknown, ""),
            (Usable, ""),
        ] {
            let seen = Seen {
                dane_required: true,
                ..seen(tlsa, NO_STS, SessionSeen::NotMade)
            };
            assert_eq!(shown(&seen), expected, "{seen:?}");
        }
    }
}
