//! `dns ...`

use clap::Subcommand;

/// `dns ...`
#[derive(Debug, Subcommand)]
pub enum Dns {
    /// Print the DNS records that a domain should have.
    Records {
        /// The domain, as in domains.conf.
        domain: String,
        /// Print a zone file. Without it, each text is in one piece, for the forms of a provider.
        #[arg(long)]
        zone: bool,
        /// Print a JSON array.
        #[arg(long, conflicts_with = "zone")]
        json: bool,
    },
    /// Compare what DNS and the services say with what they should say. The exit status is 1 if
    /// something that the domain needs is not right.
    Check {
        /// The domain, as in domains.conf.
        domain: String,
        /// Print a JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Ask DNS for the records of a name, and tell what DNSSEC says and how long the answer holds.
    /// The running server asks, past its cache. Without one, this command asks the servers of
    /// postrider.conf, or those of the system. The command fails unless there are records.
    Lookup {
        /// The type: A, AAAA, CAA, CNAME, MX, NS, PTR, SRV, TLSA or TXT.
        #[arg(value_name = "TYPE")]
        record_type: String,
        /// The name. For PTR it may be an IP address.
        name: String,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Write the records at the servers of dns_update in postrider.conf, and print what changed.
    /// Records of others are never removed.
    Publish {
        /// The domain, as in domains.conf.
        domain: String,
        /// Only print what would change.
        #[arg(long)]
        dry_run: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}
