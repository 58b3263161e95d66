//! `hooks ...`

use std::{net::IpAddr, path::PathBuf};

use clap::{Args, Subcommand};

/// The commands for outside programs that have a say. They ask the running server.
#[derive(Debug, Subcommand)]
pub enum Hooks {
    /// List the hooks and milters that are in use, in the order in which they are asked, and
    /// whether they answer.
    List {
        /// Print a JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Ask one of them about a message that nobody sent. Print the call, the answer, and what would
    /// become of the message. Nothing is queued or delivered. The command fails if there is no
    /// answer that counts.
    Test(HooksTest),
}

/// The arguments of `hooks test`.
#[derive(Debug, Args)]
pub struct HooksTest {
    /// The name of the hook or the milter in postrider.conf.
    pub name: String,
    /// The stage: connect, ehlo, auth, mail, rcpt or data.
    #[arg(long, default_value = "data")]
    pub stage: String,
    /// The file with the message; - for standard input. Default: a short sample.
    #[arg(long, value_name = "FILE")]
    pub message: Option<PathBuf>,
    /// The address of the client.
    #[arg(long, value_name = "IP", default_value = "192.0.2.1")]
    pub ip: IpAddr,
    /// The name in EHLO.
    #[arg(long, value_name = "NAME", default_value = "client.example.net")]
    pub helo: String,
    /// The user that is logged in. Default: nobody is.
    #[arg(long, value_name = "USER")]
    pub login: Option<String>,
    /// The reverse-path. Empty: the null one.
    #[arg(long, value_name = "ADDRESS", default_value = "sender@example.net")]
    pub from: String,
    /// A recipient. May be given several times.
    #[arg(long, value_name = "ADDRESS", default_value = "recipient@example.org")]
    pub to: Vec<String>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}
