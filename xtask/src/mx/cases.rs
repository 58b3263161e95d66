//! The recipient domains: what DNS says of each, what its host is like, and what becomes of mail.

use std::net::Ipv4Addr;

use super::certificates::Issued;

/// The first address of an MX host. The others follow in the order of [`CASES`].
const FIRST: Ipv4Addr = Ipv4Addr::new(127, 91, 1, 1);
/// The host of the MTA-STS policies.
pub(super) const POLICY_HOST: Ipv4Addr = Ipv4Addr::new(127, 91, 1, 250);

/// A recipient domain with one MX host.
pub(super) struct Case {
    /// The first label of the domain.
    pub(super) name: &'static str,
    pub(super) zone: Zone,
    /// None if the host offers no STARTTLS.
    pub(super) certificate: Option<Issued>,
    pub(super) tlsa: Tlsa,
    /// Whether the domain has a policy of MTA-STS with the mode enforce.
    pub(super) mta_sts: bool,
    pub(super) answer: Answer,
    pub(super) wanted: Wanted,
}

/// The zone above the domain.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Zone {
    Signed,
    Unsigned,
    /// Signed with another key than its parent says.
    Bogus,
}

/// The TLSA records of the host.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tlsa {
    None,
    /// The key of the host.
    Right,
    /// A key that the host has not.
    Wrong,
    /// One record of each kind.
    WrongAndRight,
    /// The CA that signed the certificate.
    Ca,
}

/// What Postfix says to RCPT.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Accept,
    /// 550 5.1.1
    Refuse,
    /// 450 4.2.1
    Defer,
    /// What postgrey says.
    Greylist,
}

/// What becomes of a message at the first attempt.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// It is delivered with TLS.
    Delivered,
    /// It is delivered in clear.
    InClear,
    /// It waits, and the error has this status and these words. Postfix got no MAIL.
    Waits(&'static str, &'static str),
    /// It waits, and the error has this status and these words. Postfix refused the recipient.
    Deferred(&'static str, &'static str),
    /// It fails.
    Failed,
}

/// A host with a certificate of its own, and a domain that asks for nothing.
const PLAIN: Case = Case {
    name: "plain",
    zone: Zone::Unsigned,
    certificate: Some(Issued::Own),
    tlsa: Tlsa::None,
    mta_sts: false,
    answer: Answer::Accept,
    wanted: Wanted::Delivered,
};

/// The same in a signed zone, with a TLSA record.
const DANE: Case = Case {
    name: "dane",
    zone: Zone::Signed,
    tlsa: Tlsa::Right,
    ..PLAIN
};

pub(super) const CASES: &[Case] = &[
    PLAIN,
    Case {
        name: "clear",
        certificate: None,
        wanted: Wanted::InClear,
        ..PLAIN
    },
    DANE,
    Case {
        name: "two",
        tlsa: Tlsa::WrongAndRight,
        ..DANE
    },
    Case {
        // Dates mean nothing to DANE-EE (RFC 7672 §3.1.1).
        name: "expired",
        certificate: Some(Issued::Expired),
        ..DANE
    },
    Case {
        name: "anchor",
        certificate: Some(Issued::ByCa),
        tlsa: Tlsa::Ca,
        ..DANE
    },
    Case {
        name: "expired-anchor",
        certificate: Some(Issued::ByExpiredCa),
        tlsa: Tlsa::Ca,
        wanted: Wanted::Waits("4.7.5", "expired"),
        ..DANE
    },
    Case {
        name: "wrong",
        tlsa: Tlsa::Wrong,
        wanted: Wanted::Waits("4.7.5", "TLSA"),
        ..DANE
    },
    Case {
        name: "stripped",
        certificate: None,
        wanted: Wanted::Waits("4.7.", "TLS"),
        ..DANE
    },
    Case {
        name: "forged",
        zone: Zone::Bogus,
        wanted: Wanted::Waits("4.4.3", "bogus"),
        ..DANE
    },
    Case {
        name: "policy",
        certificate: Some(Issued::ByCa),
        mta_sts: true,
        ..PLAIN
    },
    Case {
        name: "unmet-policy",
        mta_sts: true,
        wanted: Wanted::Waits("4.7.5", "MTA-STS"),
        ..PLAIN
    },
    Case {
        name: "refuses",
        answer: Answer::Refuse,
        wanted: Wanted::Failed,
        ..PLAIN
    },
    Case {
        name: "defers",
        answer: Answer::Defer,
        wanted: Wanted::Deferred("4.2.1", "the mailbox is full"),
        ..PLAIN
    },
    Case {
        name: "greylists",
        answer: Answer::Greylist,
        wanted: Wanted::Deferred("4.2.0", "Greylisted"),
        ..PLAIN
    },
];

impl Case {
    /// The recipient domain, without a dot at the end.
    pub(super) fn domain(&self) -> String {
        let zone = match self.zone {
            Zone::Signed => "signed",
            Zone::Unsigned => "unsigned",
            Zone::Bogus => "bogus",
        };
        format!("{}.{zone}.example", self.name)
    }

    pub(super) fn recipient(&self) -> String {
        format!("x@{}", self.domain())
    }

    /// The name of the MX host.
    pub(super) fn host(&self) -> String {
        format!("mx.{}", self.domain())
    }

    /// The address of the MX host.
    pub(super) fn address(&self) -> Ipv4Addr {
        let before = CASES.iter().take_while(|case| case.name != self.name);
        let number = u32::try_from(before.count()).unwrap_or(u32::MAX);
        Ipv4Addr::from_bits(FIRST.to_bits().saturating_add(number))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_case_has_a_name_and_an_address_of_its_own() {
        let names: BTreeSet<_> = CASES.iter().map(|case| case.name).collect();
        let addresses: BTreeSet<_> = CASES.iter().map(Case::address).collect();
        assert_eq!((names.len(), addresses.len()), (CASES.len(), CASES.len()));
        assert!(addresses.iter().all(|address| *address < POLICY_HOST));
    }
}
