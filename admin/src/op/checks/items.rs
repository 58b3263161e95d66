//! The results of checks, as the faces show them.

use postrider_receive::checks::{
    arc::{ArcOutcome, ArcResult},
    dkim::{DkimOutcome, DkimResult},
    dmarc::{DmarcOutcome, DmarcPolicy, DmarcResult},
    examine::Found,
    iprev::{IprevOutcome, IprevResult},
    spf::{SpfOutcome, SpfResult},
};
use serde::{Deserialize, Serialize};

/// A result, in the words of the management API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum CheckOutcome {
    /// The check passed.
    Pass,
    /// There was nothing to check.
    None,
    /// The check failed.
    Fail {
        /// The reason.
        details: Option<String>,
    },
    /// The check failed, and the owner of the domain is not sure.
    SoftFail {
        /// The reason.
        details: Option<String>,
    },
    /// There is no answer of DNS for now.
    TempError {
        /// The reason.
        details: Option<String>,
    },
    /// What was to be checked is at fault.
    PermError {
        /// The reason.
        details: Option<String>,
    },
    /// The check says nothing.
    Neutral {
        /// The reason.
        details: Option<String>,
    },
}

/// What the owner of a domain wants for mail that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum CheckPolicy {
    /// Nothing.
    None,
    /// It goes to the junk mailbox.
    Quarantine,
    /// It is refused.
    Reject,
    /// There is no policy.
    Unspecified,
}

/// An SPF result with its reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct SpfItem {
    /// The domain that was checked; None: there is none.
    pub domain: Option<String>,
    /// The word of RFC 7208 in lower case, for example `softfail`.
    pub result: String,
    /// The mechanism that decided, for example `-all`.
    pub mechanism: Option<String>,
    /// The domain of the record with that mechanism.
    pub record: Option<String>,
    /// The reason.
    pub reason: String,
    /// What the domain says about a failure. It is asked for only by the check of SPF alone.
    pub explanation: Option<String>,
}

/// The SPF results of a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpfChecked {
    /// Of the name in EHLO.
    pub helo: SpfItem,
    /// Of MAIL FROM; for the null reverse-path, of the name in EHLO.
    pub mail_from: SpfItem,
    /// How long the check took, in milliseconds.
    pub elapsed: u64,
}

/// The result of one DKIM signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct DkimItem {
    /// The word of RFC 8601, for example `pass` or `policy`. Only a pass counts.
    pub result: String,
    /// The domain that signed, `d=`; None: it can't be read.
    pub domain: Option<String>,
    /// The selector, `s=`; None: it can't be read.
    pub selector: Option<String>,
    /// The identity, `i=`; None: there is none.
    pub identity: Option<String>,
    /// The algorithm, `a=`; None: it can't be read.
    pub algorithm: Option<String>,
    /// The beginning of the signature, `b=`.
    pub signature: String,
    /// The reason; None for a pass.
    pub reason: Option<String>,
}

/// The names of a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct IprevDetails {
    /// `pass`, `fail`, `permerror` or `temperror`.
    pub result: String,
    /// The name that leads back to the address.
    pub name: Option<String>,
    /// The names that were looked up.
    pub names: Vec<String>,
    /// The reason; None for a pass.
    pub reason: Option<String>,
}

/// The ARC chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct ArcDetails {
    /// `none`, `pass` or `fail`.
    pub result: String,
    /// The instance of the oldest message signature that passes with all newer ones; 0: all do.
    pub oldest_pass: Option<u32>,
    /// The trusted domain that says by its seal that the message passed. It overrides a failure of
    /// DMARC.
    pub vouches: Option<String>,
    /// The reason; None for a pass.
    pub reason: Option<String>,
}

/// DMARC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct DmarcDetails {
    /// `none`, `pass`, `fail`, `temperror` or `permerror`.
    pub result: String,
    /// The domain of the author; None: the message has not exactly one.
    pub from: Option<String>,
    /// The domain whose record counts.
    pub record: Option<String>,
    /// The policy of that record for this message.
    pub policy: Option<String>,
    /// SPF passed for an aligned domain.
    pub spf_aligned: bool,
    /// A DKIM signature passed for an aligned domain.
    pub dkim_aligned: bool,
    /// The reason.
    pub reason: String,
}

/// All results with their reasons.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct CheckDetails {
    /// The names of the client.
    pub iprev: IprevDetails,
    /// SPF of the name in EHLO.
    pub spf_ehlo: SpfItem,
    /// SPF of MAIL FROM; for the null reverse-path, of the name in EHLO.
    pub spf_mail_from: SpfItem,
    /// The signatures.
    pub dkim: Vec<DkimItem>,
    /// The ARC chain.
    pub arc: ArcDetails,
    /// DMARC.
    pub dmarc: DmarcDetails,
}

/// The results of all checks of a message, as the management API has them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct DmarcChecked {
    /// The name in EHLO; empty: it is no name that can be checked.
    pub spf_ehlo_domain: String,
    /// SPF of that name.
    pub spf_ehlo_result: CheckOutcome,
    /// The domain of MAIL FROM; for the null reverse-path, the name in EHLO.
    pub spf_mail_from_domain: String,
    /// SPF of that domain.
    pub spf_mail_from_result: CheckOutcome,
    /// The check of the client's names.
    pub ip_rev_result: CheckOutcome,
    /// The names of the client that were looked up.
    pub ip_rev_ptr: Vec<String>,
    /// One result for each signature.
    pub dkim_results: Vec<CheckOutcome>,
    /// A signature passed.
    pub dkim_pass: bool,
    /// The ARC chain.
    pub arc_result: CheckOutcome,
    /// DMARC.
    pub dmarc_result: CheckOutcome,
    /// DMARC passed.
    pub dmarc_pass: bool,
    /// The policy for this message.
    pub dmarc_policy: CheckPolicy,
    /// How long the checks took, in milliseconds.
    pub elapsed: u64,
    /// The same with more facts. Clients of Stalwart do not know them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<CheckDetails>,
}

impl CheckOutcome {
    fn of_spf(result: &SpfResult) -> Self {
        let details = Some(result.reason.clone());
        match result.outcome {
            SpfOutcome::None => Self::None,
            SpfOutcome::Neutral => Self::Neutral { details },
            SpfOutcome::Pass => Self::Pass,
            SpfOutcome::Fail => Self::Fail { details },
            SpfOutcome::SoftFail => Self::SoftFail { details },
            SpfOutcome::TempError => Self::TempError { details },
            SpfOutcome::PermError => Self::PermError { details },
        }
    }

    /// A signature that only a rule of ours does not accept says nothing.
    fn of_dkim(result: &DkimResult) -> Self {
        let details = result.reason.clone();
        match result.outcome {
            DkimOutcome::Pass => Self::Pass,
            DkimOutcome::Fail => Self::Fail { details },
            DkimOutcome::Neutral | DkimOutcome::Policy => Self::Neutral { details },
            DkimOutcome::PermError => Self::PermError { details },
            DkimOutcome::TempError => Self::TempError { details },
        }
    }

    fn of_iprev(result: &IprevResult) -> Self {
        let details = result.reason.clone();
        match result.outcome {
            IprevOutcome::Pass => Self::Pass,
            IprevOutcome::Fail => Self::Fail { details },
            IprevOutcome::PermError => Self::PermError { details },
            IprevOutcome::TempError => Self::TempError { details },
        }
    }

    fn of_arc(result: &ArcResult) -> Self {
        let details = result.reason.clone();
        match result.outcome {
            ArcOutcome::None => Self::None,
            ArcOutcome::Pass => Self::Pass,
            ArcOutcome::Fail => Self::Fail { details },
            ArcOutcome::TempError => Self::TempError { details },
        }
    }

    fn of_dmarc(result: &DmarcResult) -> Self {
        let details = Some(result.reason.clone());
        match result.outcome {
            DmarcOutcome::None => Self::None,
            DmarcOutcome::Pass => Self::Pass,
            DmarcOutcome::Fail => Self::Fail { details },
            DmarcOutcome::TempError => Self::TempError { details },
            DmarcOutcome::PermError => Self::PermError { details },
        }
    }
}

impl From<Option<DmarcPolicy>> for CheckPolicy {
    fn from(policy: Option<DmarcPolicy>) -> Self {
        match policy {
            None => Self::Unspecified,
            Some(DmarcPolicy::None) => Self::None,
            Some(DmarcPolicy::Quarantine) => Self::Quarantine,
            Some(DmarcPolicy::Reject) => Self::Reject,
        }
    }
}

impl SpfItem {
    pub(super) fn of(result: &SpfResult) -> Self {
        let mechanism = result.mechanism.as_ref();
        Self {
            domain: result.domain.as_ref().map(ToString::to_string),
            result: result.outcome.as_str().to_owned(),
            mechanism: mechanism.map(|it| it.text.clone()),
            record: mechanism.map(|it| it.domain.clone()),
            reason: result.reason.clone(),
            explanation: None,
        }
    }

    fn unchecked() -> Self {
        Self {
            domain: None,
            result: SpfOutcome::None.as_str().to_owned(),
            mechanism: None,
            record: None,
            reason: "it was not checked".to_owned(),
            explanation: None,
        }
    }
}

impl DkimItem {
    pub(super) fn of(result: &DkimResult) -> Self {
        Self {
            result: result.outcome.as_str().to_owned(),
            domain: result.domain.as_ref().map(ToString::to_string),
            selector: result.selector.clone(),
            identity: result.identity.clone(),
            algorithm: result.algorithm.clone(),
            signature: result.signature.chars().take(8).collect(),
            reason: result.reason.clone(),
        }
    }
}

/// What a check that was not made says.
fn or_none<T>(result: Option<&T>, of: impl Fn(&T) -> CheckOutcome) -> CheckOutcome {
    result.map_or(CheckOutcome::None, of)
}

impl DmarcChecked {
    pub(super) fn of(found: &Found, elapsed: u64) -> Self {
        let results = &found.results;
        let (helo, spf) = (found.helo.as_ref(), results.spf.as_ref());
        let (iprev, dmarc) = (results.iprev.as_ref(), results.dmarc.as_ref());
        let domain = |spf: Option<&SpfResult>| {
            let domain = spf.and_then(|spf| spf.domain.as_ref());
            domain.map(ToString::to_string).unwrap_or_default()
        };
        let mut dkim = results.dkim.iter();
        let is_pass = |dmarc: &DmarcResult| dmarc.outcome == DmarcOutcome::Pass;
        Self {
            spf_ehlo_domain: domain(helo),
            spf_ehlo_result: or_none(helo, CheckOutcome::of_spf),
            spf_mail_from_domain: domain(spf),
            spf_mail_from_result: or_none(spf, CheckOutcome::of_spf),
            ip_rev_result: or_none(iprev, CheckOutcome::of_iprev),
            ip_rev_ptr: iprev.map(|it| it.names.clone()).unwrap_or_default(),
            dkim_results: dkim.clone().map(CheckOutcome::of_dkim).collect(),
            dkim_pass: dkim.any(|it| it.outcome == DkimOutcome::Pass),
            arc_result: or_none(results.arc.as_ref(), CheckOutcome::of_arc),
            dmarc_result: or_none(dmarc, CheckOutcome::of_dmarc),
            dmarc_pass: dmarc.is_some_and(is_pass),
            dmarc_policy: dmarc.and_then(|it| it.policy).into(),
            elapsed,
            details: Some(CheckDetails::of(found)),
        }
    }
}

impl CheckDetails {
    fn of(found: &Found) -> Self {
        let results = &found.results;
        let spf = |result: Option<&SpfResult>| result.map_or_else(SpfItem::unchecked, SpfItem::of);
        let iprev = results.iprev.as_ref();
        let arc = results.arc.as_ref();
        let dmarc = results.dmarc.as_ref();
        Self {
            iprev: IprevDetails {
                result: iprev.map_or("none", |it| it.outcome.as_str()).to_owned(),
                name: iprev.and_then(|it| it.name.clone()),
                names: iprev.map(|it| it.names.clone()).unwrap_or_default(),
                reason: iprev.and_then(|it| it.reason.clone()),
            },
            spf_ehlo: spf(found.helo.as_ref()),
            spf_mail_from: spf(results.spf.as_ref()),
            dkim: results.dkim.iter().map(DkimItem::of).collect(),
            arc: ArcDetails {
                result: arc.map_or("none", |it| it.outcome.as_str()).to_owned(),
                oldest_pass: arc.and_then(|it| it.oldest_pass),
                vouches: results.arc_vouches.as_ref().map(ToString::to_string),
                reason: arc.and_then(|it| it.reason.clone()),
            },
            dmarc: DmarcDetails {
                result: dmarc.map_or("none", |it| it.outcome.as_str()).to_owned(),
                from: dmarc
                    .and_then(|it| it.from.as_ref())
                    .map(ToString::to_string),
                record: dmarc.and_then(|it| it.record_domain.clone()),
                policy: dmarc
                    .and_then(|it| it.policy)
                    .map(|it| it.as_str().to_owned()),
                spf_aligned: dmarc.is_some_and(|it| it.spf_aligned),
                dkim_aligned: dmarc.is_some_and(|it| it.dkim_aligned),
                reason: dmarc.map(|it| it.reason.clone()).unwrap_or_default(),
            },
        }
    }
}
