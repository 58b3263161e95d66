//! The DNS questions that mail asks, and the changes of zones that have its records.
//!
//! | type | its job |
//! |---|---|
//! | [`Resolver`] | the trait that answers questions; other crates use only this trait |
//! | [`Answer`], [`DnsError`] | what a question gives: records, CNAMEs, DNSSEC status and TTL |
//! | [`HickoryResolver`] | asks DNS servers, with DNSSEC validation if configured |
//! | [`CachingResolver`] | keeps answers for their TTL, joins equal questions, and limits them |
//! | [`FakeResolver`] | answers from tables, for tests |
//! | [`FakeServer`] | a DNS server on a loopback port with signed zones and faults, for tests |
//! | [`FakePrimary`] | the primary server of a zone in memory, for tests |
//! | [`ZoneClient`] | reads and changes the records of a zone at its primary server |
//!
//! Invariants:
//! - The key of the cache is name and type, never more.
//! - No code here reads a clock. The time is passed in as [`Now`]. Time limits are timers of tokio.
//! - A look-up ends within its time limit. A question that nobody waits for is given up.
//! - An answer is authentic only if DNSSEC validated each record of it, with each CNAME on the way.
//!
//! Absent on purpose: which host takes the mail of a domain. That is the job of `postrider-queue`.

mod answer;
mod cache;
mod caching;
mod fake;
mod fake_primary;
mod fake_server;
mod hickory;
mod name;
mod places;
mod record;
mod resolver;
mod update;

use std::{sync::Arc, time::Duration};

pub use answer::{Alias, Answer, DnsError, Negative};
pub use cache::CacheLimits;
pub use caching::CachingResolver;
pub use fake::FakeResolver;
pub use fake_primary::FakePrimary;
pub use fake_server::{FakeServer, Fault};
pub use hickory::{
    HickoryResolver, HickorySettings, HickorySetupError, TrustAnchorError, TrustAnchors,
};
pub use name::{is_public_suffix, is_within, organisation};
pub use record::{Caa, Mx, Question, Record, RecordType, Srv, Tlsa};
pub use resolver::{Lookup, Resolver, UNVALIDATED_COUNTS};
pub use update::{
    Change, KeyAlgorithm, Rrset, TXT_PIECE, UpdateError, UpdateKey, ZoneClient, ZoneRecord,
};

/// How many CNAMEs are followed from one name.
const ALIASES_MAX: usize = 8;

/// Tells the time, as the duration since a moment that stays the same.
pub type Now = Arc<dyn Fn() -> Duration + Send + Sync>;
