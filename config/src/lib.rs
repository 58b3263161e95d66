//! The two configuration files as types: parse, check, describe, rewrite, watch.
//!
//! `postrider.conf` becomes a [`Static`], read once at start; `domains.conf` becomes a [`Dynamic`], an immutable value that a new
//! one replaces ([`Live`]) whenever the file is saved and right. Either is taken whole or not at all: a file with an error gives
//! [`Errors`], which has every problem with its line and key, and changes nothing.
//!
//! Each key is described once, in [`schema`]: name, kind, default, range, meaning. Parsing takes defaults and ranges from there, and
//! so do suggestions for misspelt keys, [`describe()`] and `docs/config.md`.
//!
//! Absent on purpose: passwords and everything else that changes while mail flows, which is in the store; and certificates, which
//! the listeners read and read again.

mod check;
mod describe;
mod dkim_key;
mod duration;
mod dynamics;
mod edit;
mod error;
mod file;
mod keys_dynamic;
mod keys_static;
mod listeners;
mod lookup;
mod parse_dynamic;
mod parse_static;
mod quantity;
mod reader;
mod scalar;
pub mod schema;
mod statics;
mod suggest;
mod values;
mod watch;

pub use describe::{KeyDescription, describe, describe_markdown, describe_text};
pub use dkim_key::DkimKey;
pub use duration::parse_duration;
pub use dynamics::{
    Account, Alias, Destination, Dkim, DkimSelector, DomainConfig, Dynamic, IncomingWebhook,
    MtaSts, OutgoingWebhook, ReportAddress, Route, Ruleset, SmtpError,
};
pub use edit::{EditError, edit};
pub use error::{ConfigError, Errors};
pub use file::{replace, replace_private};
pub use lookup::{Found, LoginName, Match, Target};
pub use quantity::{Size, format_duration};
pub use statics::{
    Acme, CertificateFiles, CertificateSource, Delivery, Direct, Eab, Fail, HttpService, Limits,
    Listener, ListenerTls, Lmtp, Log, LoginFailures, OutgoingTls, PerDestination, Policy,
    Postmaster, QueueConfig, ResolverConfig, Smarthost, SmtpClient, SmtpService, Socks, Static,
    StoreConfig, SubmissionService, SubmissionsService, Transport, TransportAuth, WebhookConfig,
};
pub use values::{
    Canonicalization, DestinationAddress, DkimAlgorithm, DkimHash, DomainPattern, FailureDsn,
    LogFormat, LogLevel, Mechanism, MtaStsMode, Pattern, StoreEngine, TlsVersion, WebhookEvent,
    WebhookSecret,
};
pub use watch::{Outcome, Watcher, reload, watch};

/// For the functions that [`edit`] takes.
pub use toml_edit;

/// The configuration in force: load it once for each decision, so that all of the decision sees the same.
pub type Live = std::sync::Arc<arc_swap::ArcSwap<Dynamic>>;
