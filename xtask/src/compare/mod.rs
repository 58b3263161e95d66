//! Side by side: postrider and another server under the same load on the same machine, in
//! alternating rounds.
//!
//! The disk and the neighbours of a machine change from minute to minute. So absolute rates of two
//! days cannot be compared. The ratio of two runs that follow each other can. Each round measures
//! all servers in turn. Each server is new, in an empty folder, and warmed up. The ratios are taken
//! within a round, and the table shows medians.

mod internet;
mod measure;
mod program;
mod table;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Args as ClapArgs, ValueEnum};

pub(crate) use internet::{DNS, MAILBOX_DOMAIN, MAILBOXES};
use measure::{Bench, Figures};

use crate::duration::parse_duration;
use crate::postrider::Dkim;
use crate::process::Processes;
use crate::workspace::refuse_debug_build;

#[derive(ClapArgs)]
pub(crate) struct Args {
    /// The other server
    #[arg(value_enum)]
    peer: Peer,
    /// How often each server is measured
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Numbers of sessions
    #[arg(long, value_delimiter = ',', default_value = "1,8,32,100")]
    sessions: Vec<usize>,
    /// The work to measure
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "accept,relay"
    )]
    work: Vec<Work>,
    /// The servers to measure
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "sink,peer,postrider"
    )]
    only: Vec<Who>,
    /// How long one measurement sends messages
    #[arg(long, value_parser = parse_duration, default_value = "4s")]
    time: Duration,
    /// How long the warm-up before a measurement is
    #[arg(long, value_parser = parse_duration, default_value = "1s")]
    warm_up: Duration,
    /// Bytes of a message
    #[arg(long, default_value_t = 4096)]
    size: usize,
    /// Send the commands of a message in one group
    #[arg(long)]
    pipelining: bool,
    /// Submit with TLS from the first byte, on kept connections
    #[arg(long)]
    tls: bool,
    /// Pass messages on with TLS, by STARTTLS
    #[arg(long)]
    relay_tls: bool,
    /// postrider signs relayed messages with these keys (the other server does not)
    #[arg(long, value_enum)]
    dkim: Option<Dkim>,
    /// A setting of the other server that replaces or adds to ours, such as max_use=100
    #[arg(long, value_name = "NAME=VALUE")]
    peer_set: Vec<String>,
    /// The folder in which the servers' folders are made; its disk is measured
    #[arg(long)]
    dir: Option<PathBuf>,
    /// The postrider binary; without it the task builds the binary that is shipped
    #[arg(long)]
    binary: Option<PathBuf>,
    /// The binary of an earlier postrider, for `before` and `webapi-before` in --only
    #[arg(long)]
    before: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Peer {
    /// Debian's Postfix
    Postfix,
}

/// The work of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Work {
    /// Accept messages and keep them; nothing is delivered meanwhile
    Accept,
    /// Accept messages and pass them on to a sink; a message counts when the sink has it
    Relay,
    /// Accept signed mail from the internet for mailboxes, with SPF, DKIM and DMARC checked;
    /// nothing is delivered onward. Beside Postfix run OpenDKIM and OpenDMARC
    Receive,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Who {
    /// The disk: one message at a time written and synced, into a file that has its size
    Disk,
    /// The sink itself, as the floor: it stores nothing
    Sink,
    /// The other server
    Peer,
    Postrider,
    /// postrider that asks a stage hook over HTTP about each message, at data
    Hook,
    /// postrider with messages over its webapi
    Webapi,
    /// An earlier postrider: the binary of --before
    Before,
    /// The webapi of the earlier postrider
    WebapiBefore,
}

impl Who {
    fn name(self, peer: Peer) -> &'static str {
        match (self, peer) {
            (Self::Disk, _) => "disk",
            (Self::Sink, _) => "sink",
            (Self::Peer, Peer::Postfix) => "postfix",
            (Self::Postrider, _) => "postrider",
            (Self::Hook, _) => "with a hook",
            (Self::Webapi, _) => "its webapi",
            (Self::Before, _) => "before",
            (Self::WebapiBefore, _) => "webapi before",
        }
    }

    /// Whether this is postrider, which is compared with the others.
    fn is_ours(self) -> bool {
        matches!(self, Self::Postrider | Self::Hook | Self::Webapi)
    }

    /// Whether this is an earlier postrider.
    const fn is_before(self) -> bool {
        matches!(self, Self::Before | Self::WebapiBefore)
    }

    /// Whether the messages go over the webapi.
    const fn is_webapi(self) -> bool {
        matches!(self, Self::Webapi | Self::WebapiBefore)
    }

    /// What an answer of 250 means. The table shows it beside the rate.
    fn durability(self) -> &'static str {
        match self {
            Self::Sink => "nothing stored",
            Self::Disk => "A: synced, without SMTP",
            Self::Peer | Self::Postrider | Self::Hook | Self::Before => "A: synced before 250",
            Self::Webapi | Self::WebapiBefore => "A: synced before 200",
        }
    }
}

/// A server to put load on.
pub(crate) struct Target {
    pub(crate) port: u16,
    /// The port of the webapi, if the load goes there.
    pub(crate) webapi: Option<u16>,
    /// A reverse-path that the server accepts.
    pub(crate) from: String,
    pub(crate) login: Option<(String, String)>,
    pub(crate) processes: Processes,
}

type Cell = (Work, usize, Who);

pub(crate) fn run(args: &Args) -> Result<()> {
    refuse_debug_build("compare")?;
    let bench = Bench::new(args)?;
    let mut results: BTreeMap<Cell, Vec<Figures>> = BTreeMap::new();
    for round in 1..=args.rounds {
        for &work in &args.work {
            for &sessions in &args.sessions {
                for &who in &args.only {
                    // The sink and the disk only take. The disk has no sessions, and the sink has
                    // no TLS.
                    let absent = match who {
                        Who::Disk => {
                            work != Work::Accept || Some(&sessions) != args.sessions.first()
                        }
                        Who::Sink => work != Work::Accept || args.tls,
                        // The load driver speaks plain HTTP, and the internet sends no HTTP.
                        Who::Webapi | Who::WebapiBefore => args.tls || work == Work::Receive,
                        Who::Peer | Who::Postrider | Who::Hook | Who::Before => false,
                    };
                    if absent {
                        continue;
                    }
                    let figures = bench
                        .measure(work, sessions, who)
                        .with_context(|| format!("{} failed", who.name(args.peer)))?;
                    eprintln!(
                        "round {round}: {work:?} {sessions} sessions {}: {:.0}/s{}",
                        who.name(args.peer),
                        figures.rate,
                        figures.errors
                    );
                    results
                        .entry((work, sessions, who))
                        .or_default()
                        .push(figures);
                }
            }
        }
    }
    table::print(args, &results);
    Ok(())
}
