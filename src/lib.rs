//! The server: listeners, policy and commands, wired from the crates below.
//!
//! In reading order:
//! - [`cli`], [`commands`], `queue_commands`: the command line, and what each command does.
//! - [`server`], [`services`], [`listener`], [`tls`], [`privileges`]: from a configuration to a
//!   running server.
//! - [`http`]: the HTTP services.
//! - [`localserve`]: the development server.
//!
//! Not here: the protocol (`postrider-smtp`), incoming mail (`postrider-receive`), outgoing mail
//! (`postrider-queue`), the files on disk (`postrider-store`).

pub mod cli;
pub mod commands;
pub mod files;
pub mod http;
mod linger;
pub mod listener;
pub mod localserve;
pub mod logging;
pub mod privileges;
mod queue_commands;
pub mod server;
pub mod services;
pub mod tls;
mod webapi_command;
