//! TLS of delivery: what a connection needs, and the checks of certificates.
//!
//! | module | its job |
//! |---|---|
//! | `demand` | the rules, in the order in which they apply, as one pure function |
//! | `verifiers` | the checks of certificates |
//! | `tlsa` | which TLSA records can be used, and whether certificates match them |
//! | `dane` | the check of certificates by the TLSA records of a host |
//! | `configs` | the configurations of rustls: one for each check, so that sessions resume only under the check that they began with |
//! | `habits` | the addresses where TLS works only in part |

mod configs;
mod dane;
mod demand;
mod habits;
mod tlsa;
mod verifiers;

pub(crate) use configs::{Configs, KeyShares};
pub(crate) use dane::DaneCheck;
pub(crate) use demand::{
    Check, Demand, Facts, MtaStsFact, Proven, Refusal, Requested, Rule, Start, TlsRule, TlsaFact,
    demand,
};
pub(crate) use habits::Habits;
pub(crate) use tlsa::{TlsaSet, zone_form};
pub use verifiers::certificate_verifier;
