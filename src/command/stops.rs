//! `queue status`, `queue stop` and `queue start`.

use postrider_admin::op::stops::{GetStatus, Start, Status, Stop};
use postrider_store::Work;

use super::{
    output::{print, print_json},
    running::Running,
};
use crate::cli;

impl From<cli::Work> for Work {
    fn from(work: cli::Work) -> Self {
        match work {
            cli::Work::Deliveries => Self::Deliveries,
            cli::Work::Webhooks => Self::Webhooks,
        }
    }
}

pub(super) fn status(server: &Running, json: bool) -> anyhow::Result<()> {
    let status = server.ask(&GetStatus {})?;
    match json {
        true => print_json(&status),
        false => print(&shown(&status)),
    }
}

pub(super) fn stop(server: &Running, only: Option<cli::Work>) -> anyhow::Result<()> {
    let only = only.map(Work::from);
    server.ask(&Stop { only })?;
    status(server, false)
}

pub(super) fn start(server: &Running, only: Option<cli::Work>) -> anyhow::Result<()> {
    let only = only.map(Work::from);
    server.ask(&Start { only })?;
    status(server, false)
}

/// One line for each kind of work.
fn shown(status: &Status) -> String {
    let line = |name: &str, stopped: &Option<String>| match stopped {
        None => format!("{name}  running\n"),
        Some(since) => format!("{name}  stopped since {since}\n"),
    };
    let mut lines = line("deliveries", &status.deliveries_stopped);
    lines.push_str(&line("webhooks  ", &status.webhooks_stopped));
    if !status.deliveries || !status.webhooks {
        lines.push_str("\"postrider queue start\" lets the work go on\n");
    }
    lines
}
