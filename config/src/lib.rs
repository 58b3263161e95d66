//! The two configuration files as types: parse, check, describe, rewrite, watch.
//!
//! `postrider.conf` becomes a [`Static`]. It is read once, at start. `domains.conf` becomes a
//! [`Dynamic`], an immutable value. Each time the file is saved without errors, a new value
//! replaces the old one ([`Live`]). A file with an error changes nothing. It gives [`Errors`]:
//! every problem with its line and key.
//!
//! [`schema`] describes each key once: name, kind, default, range and meaning. Parsing, the
//! suggestions for misspelt keys, [`describe()`] and `docs/config.md` use this description.
//!
//! | modules | content |
//! |---|---|
//! | [`schema`], [`keys`], `keys_*`, `describe` | the keys and their description |
//! | `statics`, `transports`, `dynamics`, `hooks`, `oauth`, `otlp` | the types of the tables |
//! | `words`, `values`, `quantity`, `day`, `duration`, `dkim_key`, `origin`, `tenant` | the types of values |
//! | `providers`, `providers.toml` | known providers: the entries, and which one is for a domain |
//! | `reader`, `scalar`, `tables`, `parse_*`, `listeners`, `check`, `suggest`, `error` | from text to types |
//! | `lookup` | questions to a [`Dynamic`], such as the account of an address |
//! | `loaded`, `last_good` | both files together, and the last `domains.conf` without errors |
//! | `domains_file`, `settings`, `file`, `watch` | changes of the files |
//! | [`import`] | the configuration of other mail servers |
//!
//! Absent on purpose: passwords and other data that changes while mail flows (the store has it),
//! and certificates (the listeners read them, and read them again when they change).

mod check;
mod day;
mod describe;
mod dkim_key;
mod dns_update;
mod domains_file;
mod duration;
mod dynamics;
mod error;
mod file;
mod hooks;
pub mod import;
pub mod keys;
mod keys_dynamic;
mod keys_hooks;
mod keys_listeners;
mod keys_oauth;
mod keys_providers;
mod keys_queue;
mod keys_sources;
mod keys_static;
mod keys_transports;
mod last_good;
mod listeners;
mod loaded;
mod lookup;
mod mailboxes;
mod oauth;
mod origin;
mod otlp;
mod parse_dynamic;
mod parse_providers;
mod parse_static;
mod providers;
mod public;
mod quantity;
mod reader;
mod routes;
mod scalar;
pub mod schema;
mod secret_file;
mod settings;
mod sources;
mod statics;
mod suggest;
mod tables;
mod tenant;
mod traces;
mod transports;
mod values;
mod watch;
mod words;

pub use day::Day;
pub use describe::{KeyDescription, describe, describe_markdown, describe_text};
pub use dkim_key::{DkimKey, SigningKey, UnusableKey, pkcs8_of_pem};
pub use dns_update::{DnsUpdate, TsigSecret};
pub use domains_file::{Changed, DomainsFile, EditError};
pub use duration::parse_duration;
pub use dynamics::{
    Account, Alias, Destination, Dkim, DkimSelector, DomainConfig, Dynamic, IncomingWebhook,
    MtaSts, OutgoingWebhook, ReportAddress, Route, Ruleset, SmtpError, Tracking,
};
pub use error::{ConfigError, Errors};
pub use file::{replace, replace_private};
pub use hooks::{
    Hook, HookAuth, HookBody, HookBreaker, HookConditions, HookController, HookError, HookKind,
    HookQuarantine, HookStage, Milter, MilterSocket,
};
pub use last_good::{LastGood, keep_good, last_good};
pub use loaded::Loaded;
pub use lookup::{Found, LoginName, Match, Target};
pub use mailboxes::{MailApi, Undelete};
pub use oauth::{ClientSecret, Oauth, OauthConfig};
pub use origin::Origin;
pub use otlp::{OtlpConfig, OtlpHeaders};
pub use providers::{Provider, ProviderTls, Providers, ReplyRule, ReplyRules, ReplyScope};
pub use public::is_public;
pub use quantity::{Rate, Size, format_duration};
pub use routes::CertainRoutes;
pub use secret_file::{SecretFileError, read_secret_file};
pub use settings::{
    Difference, HIDDEN, Settings, differences, is_secret, masked, settings, shown, shown_url,
};
pub use sources::{OutgoingSource, Pool};
pub use statics::{
    Acme, CertificateFiles, CertificateSource, Delivery, Eab, HostTlsRpt, HttpService, Limits,
    Listener, ListenerTls, Log, LoginFailures, MetricsConfig, OutgoingTls, PerDestination, Policy,
    Postmaster, QueueConfig, Reports, ResolverConfig, SmtpClient, SmtpService, Static, StoreConfig,
    SubmissionService, SubmissionsService, Web, WebhookConfig,
};
pub use suggest::nearest_names;
pub use tenant::Tenant;
pub use traces::TracesConfig;
pub use transports::{
    Direct, Fail, Lmtp, Smarthost, Socks, Transport, TransportAuth, TransportSecret,
};
pub use values::{
    Canonicalization, DestinationAddress, DkimAlgorithm, DkimHash, DmarcHandling, DomainPattern,
    FailureDsn, KeepTranscripts, LogFormat, LogLevel, Mechanism, MtaStsMode, Network, OnBlock,
    Pattern, ReportsTls, RequireTls, RequireTotp, Right, StoreEngine, TlsVersion, TsigAlgorithm,
    WebhookEvent, WebhookSecret,
};
pub use watch::{Outcome, ReadAgain, Watcher};

/// The type of the document that [`DomainsFile::change`] changes.
pub use toml_edit;

/// The configuration in force. Load it once for each decision, so that the whole decision uses one
/// configuration.
pub type Live = std::sync::Arc<arc_swap::ArcSwap<Dynamic>>;
