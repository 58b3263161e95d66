//! The types of `domains.conf`. The file takes effect when it is saved.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use postrider_smtp::{
    Address, Domain, LocalPart,
    canonical::{HeaderFields, MAX_NAMES},
};

use crate::{
    dkim_key::DkimKey,
    lookup::Index,
    providers::Providers,
    quantity::Size,
    tenant::Tenant,
    values::{
        Canonicalization, DestinationAddress, DkimAlgorithm, DkimHash, DomainPattern, FailureDsn,
        MtaStsMode, Pattern, Right, WebhookEvent, WebhookSecret,
    },
};

/// `domains.conf`. Fields have the names of its keys. Paths are resolved against the file's folder.
///
/// The value never changes. A new file makes a new value.
#[derive(Clone, Debug)]
pub struct Dynamic {
    /// The path of the file.
    pub path: PathBuf,
    /// The domains that we receive mail for and send mail from.
    pub domains: BTreeMap<Domain, DomainConfig>,
    /// Accounts by name.
    pub accounts: BTreeMap<String, Account>,
    /// Routes for mail that no route of its account or domain matches.
    pub routes: Vec<Route>,
    /// The domain of the reverse-paths of forwards. It is one of `domains`. None: the domain of the
    /// address that forwards.
    pub srs_domain: Option<Domain>,
    /// DNSBL zones in which our own IP addresses are looked up daily.
    pub monitor_dnsbls: Vec<Domain>,
    /// Pairs of domains. The web pages of the first lead to the second.
    pub web_redirects: Vec<(Domain, Domain)>,
    /// Known providers: those of the static configuration, with the changes of `providers`.
    pub providers: Arc<Providers>,
    pub(crate) text: Text,
    pub(crate) index: Index,
    pub(crate) not_yet: Vec<String>,
    pub(crate) warnings: Vec<String>,
}

impl Dynamic {
    /// The full names of keys that are set, but that this version only checks.
    #[must_use]
    pub fn not_yet(&self) -> Vec<String> {
        self.not_yet.clone()
    }

    /// The files that the configuration names: the private keys of DKIM. They are read again with
    /// each change.
    pub fn key_files(&self) -> impl Iterator<Item = &Path> {
        let selectors = self.domains.values();
        let selectors = selectors.flat_map(|domain| domain.dkim.selectors.values());
        selectors.map(|selector| selector.private_key_file.as_path())
    }

    /// Warnings about values that are valid but probably wrong. Each is a sentence with its place.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The text of the file.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text.0
    }
}

/// The text of the file. It has secrets, so its `Debug` form hides it.
#[derive(Clone)]
pub(crate) struct Text(pub(crate) Arc<str>);

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Text({} bytes)", self.0.len())
    }
}

impl PartialEq for Dynamic {
    /// Whether both have the same settings. Path and text do not count.
    fn eq(&self, other: &Self) -> bool {
        self.domains == other.domains
            && self.accounts == other.accounts
            && self.routes == other.routes
            && self.srs_domain == other.srs_domain
            && self.monitor_dnsbls == other.monitor_dnsbls
            && self.web_redirects == other.web_redirects
            && self.providers == other.providers
    }
}

/// `domains."D"`.
#[derive(Clone, Debug, PartialEq)]
pub struct DomainConfig {
    /// Whether the domain is disabled: it receives no mail (451) and sends none.
    pub disabled: bool,
    /// A description for people.
    pub description: String,
    /// The customer whose domain it is.
    pub tenant: Option<Tenant>,
    /// The tracking of opened messages and followed links. None: nothing is tracked.
    pub tracking: Option<Tracking>,
    /// The host name for mail programs.
    pub client_settings_domain: Domain,
    /// The host and port of an IMAP server for this domain's mailboxes.
    pub client_settings_imap: Option<(Domain, u16)>,
    /// The separators, such as `+`. With it, mail to `user+anything@D` is delivered to `user@D`.
    pub localpart_catchall_separators: Vec<String>,
    /// Whether local-parts that differ in case are different addresses.
    pub localpart_case_sensitive: bool,
    /// The DKIM signatures.
    pub dkim: Dkim,
    /// The address for DMARC reports.
    pub dmarc: Option<ReportAddress>,
    /// The address for TLS reports.
    pub tls_rpt: Option<ReportAddress>,
    /// The published MTA-STS policy.
    pub mta_sts: Option<MtaSts>,
    /// Aliases by local-part.
    pub aliases: BTreeMap<LocalPart, Alias>,
    /// Routes for mail from this domain.
    pub routes: Vec<Route>,
}

/// `domains."D".tracking`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracking {
    /// The host name in tracked links.
    pub host: Domain,
    /// Whether messages that ask for it tell when they are opened.
    pub opens: bool,
    /// Whether messages that ask for it tell when their links are followed.
    pub clicks: bool,
}

/// `domains."D".dkim`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dkim {
    /// Keys by selector.
    pub selectors: BTreeMap<Domain, Arc<DkimSelector>>,
    /// The selectors that sign. Each is in `selectors`.
    pub sign: Vec<Domain>,
}

impl Dkim {
    /// The selectors that sign, with their keys: RSA before Ed25519, since many verifiers know RSA
    /// only.
    #[must_use]
    pub fn signing(&self) -> Vec<(&Domain, &Arc<DkimSelector>)> {
        let names = self.sign.iter();
        let found = names.filter_map(|name| self.selectors.get_key_value(name));
        let mut found: Vec<_> = found.collect();
        found.sort_by_key(|(_, selector)| selector.algorithm != DkimAlgorithm::Rsa);
        found
    }
}

/// `domains."D".dkim.selectors."S"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DkimSelector {
    /// The file with the private key, PKCS#8 in PEM.
    pub private_key_file: PathBuf,
    /// The algorithm of the key in the file.
    pub algorithm: DkimAlgorithm,
    /// The hash of the signature.
    pub hash: DkimHash,
    /// The canonicalization of header and body.
    pub canonicalization: Canonicalization,
    /// The names of the header fields that are signed. From is one of them. Those that
    /// [change](Self::changes) are left out.
    pub headers: Vec<String>,
    /// Whether other servers may add such fields without breaking the signature. If not, each name
    /// is signed once more than there are fields. Fields of lists are never sealed.
    pub dont_seal_headers: bool,
    /// How long a signature is valid. Zero means without end.
    pub expiration: Duration,
    /// The private key.
    pub key: Arc<DkimKey>,
}

impl DkimSelector {
    /// Whether servers on the way add, change or remove fields of this name. A signature over them
    /// does not last, so they are never signed.
    #[must_use]
    pub fn changes(name: &str) -> bool {
        const CHANGING: [&str; 6] = [
            "authentication-results",
            "bcc",
            "delivered-to",
            "dkim-signature",
            "received",
            "return-path",
        ];
        let name = name.to_ascii_lowercase();
        CHANGING.contains(&name.as_str()) || name.starts_with("arc-")
    }

    /// The names that a signature over these fields covers, at most [`MAX_NAMES`]: each name as
    /// often as there are such fields, and once more if it is sealed.
    #[must_use]
    pub fn names_to_sign(&self, fields: &HeaderFields) -> Vec<String> {
        let lasting = self.headers.iter().filter(|name| !Self::changes(name));
        let names = lasting.flat_map(|name| {
            let present = fields.named(name.as_bytes()).len();
            let times = present + usize::from(self.seals(name));
            std::iter::repeat_n(name.clone(), times)
        });
        names.take(MAX_NAMES).collect()
    }

    /// Whether nobody may add a field of this name (RFC 6376 §8.15). Mailing lists add their own
    /// `List-` fields.
    fn seals(&self, name: &str) -> bool {
        let is_of_list = name
            .get(..5)
            .is_some_and(|begin| begin.eq_ignore_ascii_case("list-"));
        !self.dont_seal_headers && !is_of_list
    }
}

/// `domains."D".dmarc` and `.tls_rpt`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportAddress {
    /// The account that gets the reports.
    pub account: String,
    /// The mailbox of that account for the reports.
    pub mailbox: String,
    /// The local-part of the address in the DNS record.
    pub localpart: LocalPart,
    /// The domain of the address in the DNS record. It is one of `domains`.
    pub domain: Domain,
}

/// `domains."D".mta_sts` (RFC 8461).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MtaSts {
    /// The id of the policy. It changes with each change of the policy.
    pub policy_id: String,
    /// What other servers do when TLS fails.
    pub mode: MtaStsMode,
    /// How long other servers may remember the policy.
    pub max_age: Duration,
    /// The MX hosts, or `*.domain` for all hosts one level below.
    pub mx: Vec<String>,
}

impl MtaSts {
    /// The text of the policy, as other servers fetch it (RFC 8461 §3.2).
    #[must_use]
    pub fn policy(&self) -> String {
        let mut text = format!("version: STSv1\r\nmode: {}\r\n", self.mode);
        for host in &self.mx {
            text.push_str("mx: ");
            text.push_str(host);
            text.push_str("\r\n");
        }
        text.push_str("max_age: ");
        text.push_str(&self.max_age.as_secs().to_string());
        text.push_str("\r\n");
        text
    }
}

/// `domains."D".aliases."LOCALPART"`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alias {
    /// The members. Each is a destination of an account.
    pub addresses: Vec<Address>,
    /// Whether senders who are not members may write to the alias.
    pub post_public: bool,
    /// Whether members may see each other.
    pub list_members: bool,
    /// Whether members may send with the alias as From.
    pub allow_msg_from: bool,
    /// The name of the list in the management API. None: its address.
    pub name: Option<String>,
    /// A description for people.
    pub description: String,
    /// Web pages about the list, for people.
    pub urls: Vec<String>,
}

/// One of `routes`. The first route that matches names the transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The domains of the sender. Empty means any domain.
    pub from_domain: Vec<DomainPattern>,
    /// The domains of the recipient. Empty means any domain.
    pub to_domain: Vec<DomainPattern>,
    /// The least number of earlier attempts.
    pub minimum_attempts: u32,
    /// The name of a transport.
    pub transport: String,
}

/// `accounts.A`.
#[derive(Clone, Debug, PartialEq)]
pub struct Account {
    /// The account's own domain. It is one of `domains`.
    pub domain: Domain,
    /// A description for people.
    pub description: String,
    /// Web pages about the account, for people.
    pub urls: Vec<String>,
    /// The name beside the address in From, if a message has none.
    pub full_name: String,
    /// If not empty, logins are refused with this message.
    pub login_disabled: String,
    /// The addresses of this account.
    pub destinations: BTreeMap<DestinationAddress, Destination>,
    /// Routes that come before the domain's and the global routes.
    pub routes: Vec<Route>,
    /// The webhook for events of sent messages.
    pub outgoing_webhook: Option<OutgoingWebhook>,
    /// The webhook for received messages.
    pub incoming_webhook: Option<IncomingWebhook>,
    /// How the account learns of a failed delivery.
    pub failure_dsn: FailureDsn,
    /// The rights of other accounts to the mailboxes of this one, by the name of the other account.
    pub shared_with: BTreeMap<String, Right>,
    /// Whether Sieve scripts and rules may send mail on.
    pub allow_forward: bool,
    /// How long deleted mail is kept. None: as `undelete` says.
    pub undelete_period: Option<Duration>,
    /// Whether a policy block (x.7.1 and similar codes) suppresses the recipient too.
    pub suppress_policy_blocks: bool,
    /// The pool of addresses that its mail to MX hosts comes from, by name. None: that of
    /// `delivery`.
    pub source_pool: Option<String>,
    /// How long an address stays on the suppression list after a failure or a complaint. None:
    /// until it is removed.
    pub suppression_period: Option<Duration>,
    /// Each message from a login with one of these addresses gets its own fromid.
    pub from_id_login_addresses: Vec<Address>,
    /// How long sent messages stay in the history. Zero means that they do not enter it.
    pub keep_retired_message_period: Duration,
    /// How long webhook calls stay in the history. Zero means that they do not enter it.
    pub keep_retired_webhook_period: Duration,
    /// The largest size of all mail of the account. None means no limit.
    pub quota: Option<Size>,
    /// The most recipients in 24 hours.
    pub max_outgoing_messages_per_day: u32,
    /// The most recipients in 24 hours that the account never wrote to before.
    pub max_first_time_recipients_per_day: u32,
    /// The mailbox for refused mail. Empty means none.
    pub rejects_mailbox: String,
    /// Whether refused mail is kept without a time limit.
    pub keep_rejects: bool,
    /// Whether mail is judged by its words.
    pub junk_filter: bool,
    /// Whether strangers wait as the policy says.
    pub first_time_delay: bool,
    /// The mailbox for junk.
    pub junk_mailbox: String,
    /// Whether the account's page offers generated passwords only.
    pub no_custom_password: bool,
}

impl Account {
    /// The right of another account to the mailboxes of this one. None: it has no right.
    #[must_use]
    pub fn right_of(&self, other: &str) -> Option<Right> {
        self.shared_with.get(other).copied()
    }

    /// The first of its addresses. None: it has no address, or catch-alls only.
    #[must_use]
    pub fn first_address(&self) -> Option<&Address> {
        self.destinations.keys().find_map(|address| match address {
            DestinationAddress::Address(address) => Some(address),
            DestinationAddress::CatchAll(_) => None,
        })
    }
}

/// `accounts.A.destinations."ADDRESS"`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Destination {
    /// The mailbox for mail that no ruleset takes.
    pub mailbox: String,
    /// The rulesets. The first ruleset that matches names the mailbox.
    pub rulesets: Vec<Ruleset>,
    /// The reply that refuses RCPT.
    pub smtp_error: Option<SmtpError>,
    /// If not empty, mail with an unverified From domain is refused with this text.
    pub message_auth_required_smtp_error: String,
    /// The name beside the address in From, for logins with this address. Empty means the
    /// account's.
    pub full_name: String,
    /// If not empty, the name of an LMTP transport that gets the mail instead of the mailbox.
    pub forward_lmtp: String,
    /// If not empty, the addresses elsewhere that get the mail instead of the mailbox.
    pub forward: Vec<Address>,
}

impl Destination {
    /// Whether its mail goes on to another server instead of to a mailbox.
    #[must_use]
    pub const fn passes_on(&self) -> bool {
        !self.forward.is_empty() || !self.forward_lmtp.is_empty()
    }
}

/// `smtp_error`: a reply to RCPT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmtpError {
    /// The reply code, 4xx or 5xx.
    pub code: u16,
    /// The text behind the code. It may be empty, and it may begin with an enhanced code.
    pub text: String,
}

/// One of a destination's `rulesets`. A message must fulfill all conditions that are set.
#[derive(Clone, Debug, PartialEq)]
pub struct Ruleset {
    /// The pattern of the reverse-path.
    pub mail_from_regexp: Option<Pattern>,
    /// The pattern of the address in From.
    pub msg_from_regexp: Option<Pattern>,
    /// The domain that SPF or DKIM verified, or its parent domain.
    pub verified_domain: Option<Domain>,
    /// Patterns of the name and the value of a field, in lower case. Each pair must match a field.
    pub headers_regexp: Vec<(Pattern, Pattern)>,
    /// Whether another server of ours forwards the mail.
    pub is_forward: bool,
    /// The domain of a mailing list. Its mail is not checked for spam.
    pub list_allow_domain: Option<Domain>,
    /// If not empty, mail that would be refused is accepted into this mailbox.
    pub accept_rejects_to_mailbox: String,
    /// The mailbox for the mail.
    pub mailbox: String,
}

/// `outgoing_webhook`. Its `Debug` form hides the authorization and the secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct OutgoingWebhook {
    /// The URL, with http:// or https://.
    pub url: String,
    /// The value of the `Authorization` field of calls. Empty means no such field.
    pub authorization: String,
    /// The events that cause a call. Empty means all events.
    pub events: Vec<WebhookEvent>,
    /// The version of the payloads, 0 or 1.
    pub version: u32,
    /// The keys that sign calls. There are two while one replaces the other. The first is the
    /// current one.
    pub secret: Vec<WebhookSecret>,
}

impl OutgoingWebhook {
    /// Whether an event causes a call.
    #[must_use]
    pub fn wants(&self, event: WebhookEvent) -> bool {
        self.knows(event) && (self.events.is_empty() || self.events.contains(&event))
    }

    /// Whether the version of the payloads has this event.
    pub(crate) const fn knows(&self, event: WebhookEvent) -> bool {
        let is_later = matches!(event, WebhookEvent::Unsubscribed | WebhookEvent::Complained);
        self.version > 0 || !(is_later || event.is_tracked())
    }
}

/// `incoming_webhook`. Its `Debug` form hides the authorization and the secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct IncomingWebhook {
    /// The URL, with http:// or https://.
    pub url: String,
    /// The value of the `Authorization` field of calls. Empty means no such field.
    pub authorization: String,
    /// The keys that sign calls. There are two while one replaces the other. The first is the
    /// current one.
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

/// The folder of a file. Relative paths in the file start here.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or_else(|| Path::new(""))
}
