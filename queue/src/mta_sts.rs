//! MTA-STS (RFC 8461): the policies by which domains say that their MX hosts have valid TLS.
//!
//! | module | its job |
//! |---|---|
//! | `policy` | the text of a policy, and the hosts that it is for |

mod policy;

pub use policy::{Policy, PolicyError, matches};

/// The path of a policy at its host (RFC 8461 §3.3).
pub const POLICY_PATH: &str = "/.well-known/mta-sts.txt";
