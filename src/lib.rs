//! The server: listeners, policy and commands, wired from the crates below.
//!
//! In reading order:
//! - [`cli`], [`command`]: the command line as types, and the commands.
//! - [`server`], [`services`], [`listener`], `proxied`, [`gate`], `sessions`, [`descriptors`],
//!   [`tls`], `resolvers`, `shared`, `background`, `loads`, [`prepared`], [`privileges`],
//!   [`sandbox`], [`service_manager`], `wrong_clock`: from a configuration to a running server.
//! - [`logging`], `told`, `otlp`: the log, and the collector that gets it.
//! - [`acme`]: certificates from a CA.
//! - [`http`]: the HTTP services. The files beside it limit what a client may do to a connection.
//! - [`wellknown`]: what an HTTP port answers before its services.
//! - [`backup`], [`export`]: copies of the data, and mail in files for other programs.
//! - [`localserve`], [`quickstart`]: the development server, and the files of a new one.
//!
//! Not here: the protocol (`postrider-smtp`), incoming mail (`postrider-receive`), outgoing mail
//! (`postrider-queue`), the files on disk (`postrider-store`).

pub mod acme;
mod background;
pub mod backup;
pub mod cli;
pub mod command;
pub mod descriptors;
mod expiry;
pub mod export;
pub mod files;
mod framing;
pub mod gate;
pub mod health;
pub mod http;
mod idle;
mod linger;
pub mod listener;
mod loads;
pub mod localserve;
pub mod logging;
mod observed;
mod otlp;
pub mod prepared;
pub mod privileges;
mod proxied;
pub mod quickstart;
mod resolvers;
pub mod sandbox;
pub mod server;
pub mod service_manager;
pub mod services;
mod sessions;
mod shared;
mod sparing;
pub mod tls;
mod told;
pub mod traces;
pub mod wellknown;
mod wrong_clock;
