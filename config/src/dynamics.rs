//! The types of `domains.conf`: what takes effect when the file is saved.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use postrider_smtp::{Address, Domain, LocalPart};

use crate::{
    dkim_key::DkimKey,
    lookup::Index,
    quantity::Size,
    values::{
        Canonicalization, DestinationAddress, DkimAlgorithm, DkimHash, DomainPattern, FailureDsn,
        MtaStsMode, Pattern, WebhookEvent, WebhookSecret,
    },
};

/// `domains.conf`. Fields have the names of its keys; paths are resolved against the file's folder.
///
/// It never changes: a new file makes a new value.
#[derive(Clone, Debug)]
pub struct Dynamic {
    /// The file it was read from.
    pub path: PathBuf,
    /// Domains that mail is taken for.
    pub domains: BTreeMap<Domain, DomainConfig>,
    /// Accounts by name.
    pub accounts: BTreeMap<String, Account>,
    /// Routes for all that no account's and no domain's route matches.
    pub routes: Vec<Route>,
    /// Zones in which the own addresses are looked up daily.
    pub monitor_dnsbls: Vec<Domain>,
    pub(crate) text: Text,
    pub(crate) index: Index,
    pub(crate) not_yet: Vec<String>,
    pub(crate) warnings: Vec<String>,
}

impl Dynamic {
    /// Full keys that are set although this version does nothing with them yet.
    #[must_use]
    pub fn not_yet(&self) -> Vec<String> {
        self.not_yet.clone()
    }

    /// What is valid but probably not meant, each a sentence with its place.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The text it was made from.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text.0
    }
}

/// The text of the file. Its `Debug` form hides it, since secrets are in it.
#[derive(Clone)]
pub(crate) struct Text(pub(crate) Arc<str>);

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Text({} bytes)", self.0.len())
    }
}

impl PartialEq for Dynamic {
    /// Whether both say the same, wherever and however it is written.
    fn eq(&self, other: &Self) -> bool {
        self.domains == other.domains
            && self.accounts == other.accounts
            && self.routes == other.routes
            && self.monitor_dnsbls == other.monitor_dnsbls
    }
}

/// `domains."D"`.
#[derive(Clone, Debug, PartialEq)]
pub struct DomainConfig {
    /// A disabled domain takes no mail (451) and sends none.
    pub disabled: bool,
    /// For people.
    pub description: String,
    /// The name that mail programs shall use.
    pub client_settings_domain: Domain,
    /// `user+anything@D` is delivered to `user@D`.
    pub localpart_catchall_separators: Vec<String>,
    /// Whether local-parts that differ by case are different.
    pub localpart_case_sensitive: bool,
    /// Signatures.
    pub dkim: Dkim,
    /// Where DMARC reports are received.
    pub dmarc: Option<ReportAddress>,
    /// Where TLS reports are received.
    pub tls_rpt: Option<ReportAddress>,
    /// The published policy.
    pub mta_sts: Option<MtaSts>,
    /// Lists by local-part.
    pub aliases: BTreeMap<LocalPart, Alias>,
    /// For what is sent from this domain.
    pub routes: Vec<Route>,
}

/// `domains."D".dkim`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dkim {
    /// Keys by selector.
    pub selectors: BTreeMap<Domain, DkimSelector>,
    /// Selectors that sign; each is in `selectors`.
    pub sign: Vec<Domain>,
}

impl Dkim {
    /// The selectors that sign, with their keys.
    pub fn signing(&self) -> impl Iterator<Item = (&Domain, &DkimSelector)> {
        self.sign
            .iter()
            .filter_map(|name| self.selectors.get_key_value(name))
    }
}

/// `domains."D".dkim.selectors."S"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DkimSelector {
    /// PKCS#8 in PEM.
    pub private_key_file: PathBuf,
    /// The kind of the key, as found in the file.
    pub algorithm: DkimAlgorithm,
    /// Of the signature.
    pub hash: DkimHash,
    /// Of header and body.
    pub canonicalization: Canonicalization,
    /// Header fields that are signed; From is among them.
    pub headers: Vec<String>,
    /// Whether fields may be added later without breaking the signature. Otherwise each name is signed once more than it is there.
    pub dont_seal_headers: bool,
    /// How long a signature holds.
    pub expiration: Duration,
    /// The key itself.
    pub key: Arc<DkimKey>,
}

/// `domains."D".dmarc` and `.tls_rpt`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportAddress {
    /// The account that receives reports.
    pub account: String,
    /// Its mailbox for them.
    pub mailbox: String,
    /// Of the address in the DNS record.
    pub localpart: LocalPart,
    /// Of the address in the DNS record: one of `domains`.
    pub domain: Domain,
}

/// `domains."D".mta_sts` (RFC 8461).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MtaSts {
    /// Changes with each change of the policy.
    pub policy_id: String,
    /// What others shall do.
    pub mode: MtaStsMode,
    /// How long others may remember it.
    pub max_age: Duration,
    /// Hosts, or `*.domain`; empty: the server's hostname.
    pub mx: Vec<String>,
}

/// `domains."D".aliases."LOCALPART"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alias {
    /// Members, each a destination of an account.
    pub addresses: Vec<Address>,
    /// Whether others than members may write to it.
    pub post_public: bool,
    /// Whether members may see each other.
    pub list_members: bool,
    /// Whether members may write in its name.
    pub allow_msg_from: bool,
}

/// One of `routes`: the first that matches names the transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Sender's domain is one of these; empty: any.
    pub from_domain: Vec<DomainPattern>,
    /// Recipient's domain is one of these; empty: any.
    pub to_domain: Vec<DomainPattern>,
    /// So many attempts were made before.
    pub minimum_attempts: u32,
    /// One of `transports`.
    pub transport: String,
}

/// `accounts.A`.
#[derive(Clone, Debug, PartialEq)]
pub struct Account {
    /// Its own domain: one of `domains`.
    pub domain: Domain,
    /// For people.
    pub description: String,
    /// In From, when none is given.
    pub full_name: String,
    /// Not empty: logins are refused with this message.
    pub login_disabled: String,
    /// Addresses of this account.
    pub destinations: BTreeMap<DestinationAddress, Destination>,
    /// Before the domain's and the global ones.
    pub routes: Vec<Route>,
    /// Told of what became of sent messages.
    pub outgoing_webhook: Option<OutgoingWebhook>,
    /// Told of received messages.
    pub incoming_webhook: Option<IncomingWebhook>,
    /// How a failed delivery is told.
    pub failure_dsn: FailureDsn,
    /// Whether a policy block (x.7.1 and the like) suppresses the recipient too.
    pub suppress_policy_blocks: bool,
    /// A login with one of these gives each message its own fromid.
    pub from_id_login_addresses: Vec<Address>,
    /// How long sent messages are kept in history; zero: not at all.
    pub keep_retired_message_period: Duration,
    /// How long calls of webhooks are kept in history; zero: not at all.
    pub keep_retired_webhook_period: Duration,
    /// For all its mail; `None`: no limit.
    pub quota: Option<Size>,
    /// Recipients in 24 hours.
    pub max_outgoing_messages_per_day: u32,
    /// Recipients never mailed before, in 24 hours.
    pub max_first_time_recipients_per_day: u32,
    /// Where refused mail is kept.
    pub rejects_mailbox: String,
    /// Whether refused mail is kept for good.
    pub keep_rejects: bool,
    /// Where junk goes.
    pub junk_mailbox: String,
    /// Whether the account's page offers generated passwords only.
    pub no_custom_password: bool,
}

/// `accounts.A.destinations."ADDRESS"`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Destination {
    /// Where mail goes that no ruleset takes.
    pub mailbox: String,
    /// The first that matches names the mailbox.
    pub rulesets: Vec<Ruleset>,
    /// RCPT is refused with this.
    pub smtp_error: Option<SmtpError>,
    /// Not empty: mail whose From domain is not verified is refused with this text.
    pub message_auth_required_smtp_error: String,
    /// In From, when this address logged in; empty: the account's.
    pub full_name: String,
    /// Not empty: an LMTP transport that gets the mail instead of the mailbox.
    pub forward_lmtp: String,
}

/// `smtp_error`: a reply to RCPT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmtpError {
    /// 4xx or 5xx.
    pub code: u16,
    /// What follows, with an enhanced code when one was given; may be empty.
    pub text: String,
}

/// One of a destination's `rulesets`: all conditions that are set must hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Ruleset {
    /// Of the reverse-path.
    pub mail_from_regexp: Option<Pattern>,
    /// Of the address in From.
    pub msg_from_regexp: Option<Pattern>,
    /// Verified by SPF or DKIM; subdomains too.
    pub verified_domain: Option<Domain>,
    /// Name and value of a field, in lower case: each pair must match one.
    pub headers_regexp: Vec<(Pattern, Pattern)>,
    /// A mailing list's domain: such mail is not judged as spam.
    pub list_allow_domain: Option<Domain>,
    /// Not empty: refused mail is accepted all the same, into this mailbox.
    pub accept_rejects_to_mailbox: String,
    /// Where it goes.
    pub mailbox: String,
}

/// `outgoing_webhook`. Its `Debug` form hides what authorizes.
#[derive(Clone, PartialEq, Eq)]
pub struct OutgoingWebhook {
    /// Starts with http:// or https://.
    pub url: String,
    /// Sent as `Authorization`; empty: none.
    pub authorization: String,
    /// Wanted ones; empty: all.
    pub events: Vec<WebhookEvent>,
    /// At most two, so that one can be replaced; the first is the current one.
    pub secret: Vec<WebhookSecret>,
}

impl OutgoingWebhook {
    /// Whether it is to be called for an event.
    #[must_use]
    pub fn wants(&self, event: WebhookEvent) -> bool {
        self.events.is_empty() || self.events.contains(&event)
    }
}

/// `incoming_webhook`. Its `Debug` form hides what authorizes.
#[derive(Clone, PartialEq, Eq)]
pub struct IncomingWebhook {
    /// Starts with http:// or https://.
    pub url: String,
    /// Sent as `Authorization`; empty: none.
    pub authorization: String,
    /// At most two, so that one can be replaced; the first is the current one.
    pub secret: Vec<WebhookSecret>,
}

impl fmt::Debug for OutgoingWebhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutgoingWebhook")
            .field("url", &self.url)
            .field("events", &self.events)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for IncomingWebhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IncomingWebhook")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// The folder of a file, as relative paths in it are meant.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or_else(|| Path::new(""))
}
