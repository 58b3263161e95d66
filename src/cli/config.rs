//! `config ...`

use clap::{Args, Subcommand, ValueEnum};

use super::import::{ImportFolder, ImportHooks};

/// `config ...`
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Check postrider.conf and domains.conf. Each error names the file, the line and the key.
    Test {
        /// Also connect to each hook and each milter that is in use. Nothing is asked.
        #[arg(long)]
        hooks: bool,
    },
    /// Print all keys, each with its type, default and meaning.
    Describe,
    /// Write postrider.conf and domains.conf from the files of mox: mox.conf, domains.conf and the
    /// DKIM keys. The command lists what became of each setting. It takes no passwords and
    /// overwrites nothing.
    ImportMox(ImportFolder),
    /// Write postrider.conf and domains.conf from the files of Postfix: main.cf, master.cf and the
    /// tables that they name. The command lists what became of each setting. It takes no passwords
    /// and overwrites nothing.
    ImportPostfix(ImportFolder),
    /// Print the hooks and milters in a file of Stalwart as tables for postrider.conf, or add them
    /// to it.
    ImportStalwart(ImportHooks),
    /// Add, remove, list and change domains.
    #[command(subcommand)]
    Domain(Domain),
    /// Add, remove, list, change and suspend accounts.
    #[command(subcommand)]
    Account(Account),
    /// Add, remove and list the addresses of accounts.
    #[command(subcommand)]
    Address(Address),
    /// Add, remove, list and change aliases. Each member of an alias gets its mail.
    #[command(subcommand)]
    Alias(Alias),
    /// List accounts, lists and domains with their numbers, or remove many at once.
    #[command(subcommand)]
    Principal(Principal),
    /// Make, remove, list and rotate the keys for DKIM.
    #[command(subcommand)]
    Dkim(Dkim),
    /// Add, remove and list routes: the transports for messages.
    #[command(subcommand)]
    Route(Route),
    /// Print the values of domains.conf at a key and below it. Secrets are shown as ****.
    Get {
        /// The key, such as accounts.info.quota or 'domains."example.org".dkim'. Without it, the
        /// whole file.
        #[arg(default_value = "")]
        key: String,
        /// Print a JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Set a value of domains.conf.
    Set {
        /// The key, such as accounts.info.quota.
        key: String,
        /// The value: a string without quotes, a number, true or false. An array or a table is
        /// written as in the file. "-" reads it as one line from standard input: other users of
        /// this machine may see the arguments of a command.
        value: String,
    },
    /// Remove keys from domains.conf, so that their defaults hold.
    Unset {
        /// The keys.
        #[arg(required = true)]
        keys: Vec<String>,
    },
}

/// `config domain ...`
#[derive(Debug, Subcommand)]
pub enum Domain {
    /// Add a domain with keys for DKIM, and print its records.
    Add {
        /// The domain.
        domain: String,
        /// The account for the reports about the domain.
        account: String,
        /// The local-part of the first address of a new account. An account that exists gets
        /// postmaster at the domain.
        localpart: Option<String>,
        /// Add it disabled: it takes no mail until "config domain enable".
        #[arg(long)]
        disabled: bool,
        /// The customer whose domain it is: a number or a name. Management keys of this tenant have
        /// the domain.
        #[arg(long)]
        tenant: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Remove a domain. Its key files go to the folder "old" beside them.
    Rm {
        /// The domain.
        domain: String,
    },
    /// List the domains.
    List {
        /// Print a JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Show a domain.
    Get {
        /// The domain.
        domain: String,
        /// Print a JSON array with one element.
        #[arg(long)]
        json: bool,
    },
    /// Change settings of a domain, such as description or localpart_catchall_separators.
    Set {
        /// The domain.
        domain: String,
        /// The settings.
        #[command(flatten)]
        settings: Settings,
    },
    /// Let a domain receive and send mail again.
    Enable {
        /// The domain.
        domain: String,
    },
    /// Let a domain receive and send no mail. Senders try again later.
    Disable {
        /// The domain.
        domain: String,
    },
}

/// Changes of settings.
#[derive(Debug, Args)]
pub struct Settings {
    /// Settings, each as KEY=VALUE. docs/config.md has the keys. An array or a table is written as
    /// in the file.
    #[arg(value_name = "KEY=VALUE", required_unless_present = "unset")]
    pub set: Vec<String>,
    /// A key to remove, so that its default holds. May be given several times.
    #[arg(long, value_name = "KEY")]
    pub unset: Vec<String>,
}

/// `config account ...`
#[derive(Debug, Subcommand)]
pub enum Account {
    /// Add an account with one address. "setpassword" lets it log in.
    Add {
        /// The name of the account.
        account: String,
        /// Its first address.
        address: String,
    },
    /// Remove an account with its mail, password, keys and suppressed addresses. Its queued
    /// messages fail.
    Rm {
        /// The account.
        account: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// List the accounts.
    List {
        /// Print a JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Show an account.
    Get {
        /// The account.
        account: String,
        /// Print a JSON array with one element.
        #[arg(long)]
        json: bool,
    },
    /// Change settings of an account, such as quota or outgoing_webhook.url.
    Set {
        /// The account.
        account: String,
        /// The settings.
        #[command(flatten)]
        settings: Settings,
    },
    /// Refuse logins and submissions of an account. It still receives mail.
    Suspend {
        /// The account.
        account: String,
        /// The message for those who log in.
        #[arg(long, value_name = "TEXT")]
        message: Option<String>,
    },
    /// Let an account log in again.
    Unsuspend {
        /// The account.
        account: String,
    },
}

/// `config address ...`
#[derive(Debug, Subcommand)]
pub enum Address {
    /// Add an address to an account.
    Add {
        /// The address. "@DOMAIN" gets all mail of the domain that no other address gets.
        address: String,
        /// The account.
        account: String,
    },
    /// Remove an address from its account, and from the aliases.
    Rm {
        /// The address.
        address: String,
    },
    /// List addresses.
    List {
        /// Only addresses of this account.
        #[arg(long)]
        account: Option<String>,
        /// Print a JSON array.
        #[arg(long)]
        json: bool,
    },
}

/// `config alias ...`
#[derive(Debug, Subcommand)]
pub enum Alias {
    /// Add an alias.
    Add {
        /// The address of the alias.
        alias: String,
        /// The members. Each is an address of an account.
        #[arg(required = true, value_name = "ADDRESS")]
        members: Vec<String>,
        /// Accept mail from senders who are not members.
        #[arg(long)]
        post_public: bool,
        /// Let members see each other.
        #[arg(long)]
        list_members: bool,
        /// Let members send with the alias as From.
        #[arg(long)]
        allow_msg_from: bool,
    },
    /// Remove an alias.
    Rm {
        /// The address of the alias.
        alias: String,
    },
    /// List aliases.
    List {
        /// Only aliases of this domain.
        #[arg(long)]
        domain: Option<String>,
        /// Print a JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Change who may post, see the members, or send as the alias.
    Set {
        /// The address of the alias.
        alias: String,
        /// Accept mail from senders who are not members.
        #[arg(long, value_name = "BOOL")]
        post_public: Option<bool>,
        /// Let members see each other.
        #[arg(long, value_name = "BOOL")]
        list_members: Option<bool>,
        /// Let members send with the alias as From.
        #[arg(long, value_name = "BOOL")]
        allow_msg_from: Option<bool>,
    },
    /// Add members.
    AddMembers {
        /// The address of the alias.
        alias: String,
        /// The new members.
        #[arg(required = true, value_name = "ADDRESS")]
        members: Vec<String>,
    },
    /// Remove members. One must stay.
    RmMembers {
        /// The address of the alias.
        alias: String,
        /// The members.
        #[arg(required = true, value_name = "ADDRESS")]
        members: Vec<String>,
    },
}

/// The kind of a DKIM key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KeyAlgorithm {
    /// Short and fast. Not all receivers know it, so use it beside an RSA key.
    Ed25519,
    /// RSA with 2048 bits. All receivers know it.
    Rsa,
}

/// `config dkim ...`
#[derive(Debug, Subcommand)]
pub enum Dkim {
    /// Make a key, and print its record.
    Add {
        /// The domain.
        domain: String,
        /// The selector, such as 2026a. Default: the next one in the order of year and letters.
        selector: Option<String>,
        /// The kind of the key.
        #[arg(long)]
        algorithm: KeyAlgorithm,
        /// Sign with the key from now on. Its record should be in DNS before.
        #[arg(long)]
        sign: bool,
        /// The hash of the signature: sha256, or sha1.
        #[arg(long)]
        hash: Option<String>,
        /// The canonicalization of header and body, such as relaxed/relaxed.
        #[arg(long, value_name = "HEADER/BODY")]
        canonicalization: Option<String>,
        /// The header fields that are signed, separated by commas.
        #[arg(long, value_delimiter = ',', value_name = "FIELD")]
        headers: Vec<String>,
        /// Let other servers add such fields without breaking the signature.
        #[arg(long)]
        dont_seal_headers: bool,
        /// How long a signature is valid, such as 72h.
        #[arg(long, value_name = "DURATION")]
        expiration: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Remove a key. Its file goes to the folder "old" beside it.
    Rm {
        /// The domain.
        domain: String,
        /// The selector.
        selector: String,
    },
    /// List keys with their records.
    List {
        /// Only keys of this domain.
        domain: Option<String>,
        /// Print a JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Sign with the next keys of a domain. Their records must be in DNS; the command looks, and
    /// prints the records that are missing. It makes the keys after the next, and says when the
    /// old ones may go.
    Rotate {
        /// The domain.
        domain: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// `config route ...`
#[derive(Debug, Subcommand)]
pub enum Route {
    /// Add a route.
    Add {
        /// The name of a transport in postrider.conf.
        transport: String,
        /// Where the route belongs.
        #[command(flatten)]
        scope: Scope,
        /// Only for these domains of the sender, separated by commas. A leading dot includes
        /// subdomains.
        #[arg(long, value_delimiter = ',', value_name = "DOMAIN")]
        from: Vec<String>,
        /// Only for these domains of the recipient, separated by commas. A leading dot includes
        /// subdomains.
        #[arg(long, value_delimiter = ',', value_name = "DOMAIN")]
        to: Vec<String>,
        /// Only for messages with at least this number of earlier attempts.
        #[arg(long, value_name = "N", default_value_t = 0)]
        minimum_attempts: u32,
        /// The place among the other routes, from 1. Default: behind them.
        #[arg(long, value_name = "N")]
        number: Option<usize>,
    },
    /// Remove a route.
    Rm {
        /// The place of the route, as "config route list" shows it.
        number: usize,
        /// Where the route belongs.
        #[command(flatten)]
        scope: Scope,
    },
    /// List all routes. The first that matches wins; those of the account come first, then those
    /// of the sender's domain, then the global ones.
    List {
        /// Print a JSON array.
        #[arg(long)]
        json: bool,
    },
}

/// Where a route belongs. Without options: to all mail.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub struct Scope {
    /// To mail of this account.
    #[arg(long)]
    pub account: Option<String>,
    /// To mail from this domain.
    #[arg(long)]
    pub domain: Option<String>,
}

/// `config principal ...`
#[derive(Debug, Subcommand)]
pub enum Principal {
    /// List them.
    List {
        /// Only these types, separated by commas. Default: all of them.
        #[arg(
            long = "type",
            value_name = "TYPE",
            value_delimiter = ',',
            default_value = "account,list,domain"
        )]
        types: Vec<PrincipalType>,
        /// Only those that have all these words in the name, an address or the description.
        #[arg(long, default_value = "", hide_default_value = true)]
        filter: String,
        /// Print a JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Remove all that match, or none. Without --confirm, print them and remove nothing. The queued
    /// messages of a removed account fail.
    Rm {
        /// The types, separated by commas.
        #[arg(
            long = "type",
            value_name = "TYPE",
            value_delimiter = ',',
            required = true
        )]
        types: Vec<PrincipalType>,
        /// Only those that have all these words in the name, an address or the description.
        #[arg(long, default_value = "", hide_default_value = true)]
        filter: String,
        /// Remove them.
        #[arg(long)]
        confirm: bool,
    },
}

/// A type of principals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PrincipalType {
    /// An account.
    Account,
    /// An alias with members.
    List,
    /// A domain.
    Domain,
}
