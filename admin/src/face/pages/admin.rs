//! The pages for administrators.

pub(super) mod account;
pub(super) mod accounts;
pub(super) mod audit;
mod bar;
pub(super) mod check;
pub(super) mod config;
pub(super) mod config_domains;
pub(super) mod destinations;
mod difference;
pub(super) mod domain;
pub(super) mod domains;
pub(super) mod dry_run;
pub(super) mod hold_rules;
pub(super) mod keys;
pub(super) mod logins;
pub(super) mod logs;
pub(super) mod message_check;
pub(super) mod metrics;
pub(super) mod overview;
mod plot;
pub(super) mod queue;
pub(super) mod report;
pub(super) mod reports;
pub(super) mod sessions;
pub(super) mod traces;
