//! `spf ...`, `dkim ...`, `dmarc ...`: the checks of incoming mail, by hand.

use std::{net::IpAddr, path::PathBuf};

use clap::{Args, Subcommand};

/// `spf ...`
#[derive(Debug, Subcommand)]
pub enum Spf {
    /// Check by SPF whether a client may send mail in the name of a domain. The command fails
    /// unless it may.
    Check(CheckedClient),
}

/// `dkim ...`
#[derive(Debug, Subcommand)]
pub enum DkimCheck {
    /// Verify the DKIM signatures of a message. The command fails unless one passes.
    Verify {
        /// The file with the message; "-" is standard input.
        file: PathBuf,
        /// Print a JSON array.
        #[arg(long)]
        json: bool,
    },
}

/// `dmarc ...`
#[derive(Debug, Subcommand)]
pub enum Dmarc {
    /// Check a message as if a client brought it now: the names of the client, SPF, DKIM, ARC and
    /// DMARC. The command fails unless DMARC passes.
    Check {
        /// The file with the message; "-" is standard input.
        file: PathBuf,
        /// The client.
        #[command(flatten)]
        client: CheckedClient,
    },
}

/// A client and its sender.
#[derive(Debug, Args)]
pub struct CheckedClient {
    /// The address of the client.
    #[arg(long)]
    pub ip: IpAddr,
    /// The address in MAIL FROM; "" is the null reverse-path.
    #[arg(long, value_name = "ADDRESS")]
    pub from: String,
    /// The name that the client gives in EHLO.
    #[arg(
        long,
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    pub helo: String,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}
