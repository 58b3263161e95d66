//! Whole-server tests: the real server over real sockets. Remote servers, DNS and webhook receivers
//! are on loopback.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed test names the line"
)]
#![expect(unreachable_pub, reason = "nothing outside uses the modules of a test")]

mod acme;
mod administration;
mod asking;
mod backup;
mod browser;
mod checks;
mod config;
mod crash;
mod dane;
mod delivery;
mod dns;
mod forward;
mod hooks;
mod hostile;
mod import;
mod journey;
mod junk;
mod limits;
mod localserve;
mod log;
mod logins;
mod mailbox;
mod mailbox_events;
mod metrics;
mod mta_sts;
mod mx;
mod onward;
mod onward_tls;
mod operate;
mod otlp;
mod own_domains;
mod pages;
mod proxy;
mod received_reports;
mod recipients;
mod reports;
mod returned;
mod rights;
mod scripts;
mod second_factor;
mod secrets;
mod seeing;
mod service;
mod smarthost;
mod stories;
mod strangers;
mod submission;
mod support;
mod tls;
mod traces;
mod tracking;
mod undelete;
mod webapi;
