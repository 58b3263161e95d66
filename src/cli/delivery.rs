//! `delivery ...`

use clap::{Args, Subcommand};

/// The commands for deliveries. They ask the running server.
#[derive(Debug, Subcommand)]
pub enum Delivery {
    /// Walk the way of a message to an address, without a message: MX, MTA-STS, DANE, connection,
    /// STARTTLS, MAIL and RCPT. Print what is found. The command fails unless a host takes mail for
    /// the address. Each site is checked once a minute.
    Check(DeliveryCheck),
}

/// The arguments of `delivery check`.
#[derive(Debug, Args)]
pub struct DeliveryCheck {
    /// The recipient. A domain stands for its postmaster.
    pub address: String,
    /// The reverse-path, whose domain may have routes. Default: the null reverse-path.
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "",
        hide_default_value = true
    )]
    pub from: String,
    /// Connect from this source of postrider.conf.
    #[arg(long, value_name = "NAME")]
    pub source: Option<String>,
    /// The most seconds for each of these at an address: to connect, to open a session, to ask for
    /// the recipient, and to quit. Default: as long as deliveries wait.
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
    /// Print a JSON array of the stages.
    #[arg(long)]
    pub json: bool,
}
