//! `junk ...`

use std::{net::IpAddr, path::PathBuf};

use clap::{Args, Subcommand};

/// The commands for the junk filter. All of them ask the running server.
#[derive(Debug, Subcommand)]
pub enum Junk {
    /// Teach the junk filter that messages are junk, or that they are not.
    Train(Train),
    /// Judge a message, and show why.
    Classify(Classify),
    /// Show how much the filters have learnt.
    Status {
        /// The account. Without it, the server's own filter and those of all accounts are shown.
        account: Option<String>,
        /// Print one JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Let a filter forget all words. What is known of senders stays.
    Reset {
        /// The account. Without it, the server's own filter forgets.
        account: Option<String>,
    },
}

/// The arguments of `junk train`.
#[derive(Debug, Args)]
pub struct Train {
    /// What the messages are.
    #[command(flatten)]
    pub kind: Kind,
    /// The account whose filter learns. Without it, the server's own filter learns: it judges for
    /// accounts that have not learnt enough.
    #[arg(long)]
    pub account: Option<String>,
    /// Learn from the mail in a mailbox of the account, instead of from files.
    #[arg(
        long,
        value_name = "NAME",
        requires = "account",
        conflicts_with = "files"
    )]
    pub mailbox: Option<String>,
    /// Files with a message each, mbox files, or maildir folders. Without any, or with "-", one
    /// message is read from standard input.
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// Junk or not.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Kind {
    /// The messages are junk.
    #[arg(long)]
    pub spam: bool,
    /// The messages are not junk.
    #[arg(long)]
    pub ham: bool,
}

/// The arguments of `junk classify`.
#[derive(Debug, Args)]
pub struct Classify {
    /// The account for which the message is judged. Without it, the server's own filter judges.
    #[arg(long)]
    pub account: Option<String>,
    /// The address of the client that brought the message. Without it, nothing is checked in DNS.
    #[arg(long, value_name = "IP")]
    pub remote: Option<IpAddr>,
    /// The name that the client gave in EHLO.
    #[arg(long, value_name = "NAME", requires = "remote")]
    pub helo: Option<String>,
    /// The client did not use TLS.
    #[arg(long)]
    pub no_tls: bool,
    /// The address in MAIL FROM. Default: the null reverse-path.
    #[arg(long, value_name = "ADDRESS", default_value = "")]
    pub from: String,
    /// A recipient. May be given several times. Default: as if the message named them in To.
    #[arg(long = "to", value_name = "ADDRESS")]
    pub recipients: Vec<String>,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
    /// The file with the message. Without it, or with "-", the command reads standard input.
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
}
