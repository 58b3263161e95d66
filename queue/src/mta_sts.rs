//! MTA-STS (RFC 8461): the policies by which domains say that their MX hosts have valid TLS.
//!
//! | module | its job |
//! |---|---|
//! | `record` | the record that announces a policy |
//! | `policy` | the text of a policy, and the hosts that it is for |
//! | `fetch` | the questions for both |
//! | `policies` | the policies that are known, and when they are fetched again |
//! | `failures` | when a domain is tried again whose policy can't be fetched |

mod failures;
mod fetch;
mod policies;
mod policy;
mod record;

pub(crate) use fetch::FetchFault;
pub(crate) use policies::{Applied, Known, Parts, Policies};
pub use policy::{Policy, PolicyError, matches};

/// The path of a policy at its host (RFC 8461 §3.3).
pub const POLICY_PATH: &str = "/.well-known/mta-sts.txt";
