//! The keys of `domains.conf`.

use crate::{
    keys_providers,
    schema::{
        Default::{Absent, Required, Value},
        Key,
        Kind::{
            Address, Bool, Domain, DomainPattern, Duration, Integer, List, LocalPart, Map, Path,
            Regexp, Reply, Secret, Size, Tenant, Text, Url, Word,
        },
        Section, key,
    },
    values::{
        Canonicalization, DkimAlgorithm, DkimHash, FailureDsn, MtaStsMode, Right, WebhookEvent,
    },
};

pub(crate) static SECTIONS: &[Section] = &[
    Section {
        title: "General",
        intro: "The first route that matches names the transport. The routes of the account come \
            first, then the routes of the sender's domain, then these. Mail without a route \
            goes directly to its MX hosts.",
        keys: &[GENERAL, &ROUTES],
    },
    Section {
        title: "`domains.\"<domain>\"`",
        intro: "A domain that we receive mail for and send mail from.",
        keys: &[DOMAIN, &DOMAIN_ROUTES],
    },
    Section {
        title: "`accounts.<name>`",
        intro: "A destination is `\"user@example.com\"`, or `\"@example.com\"` for all addresses \
            of the domain without another destination.",
        keys: &[ACCOUNT, DESTINATION, &ACCOUNT_ROUTES],
    },
    keys_providers::SECTION,
];

static GENERAL: &[Key] = &[
    key(
        "srs_domain",
        Domain,
        Absent("the domain of the address that forwards"),
        "The domain of the reverse-paths of forwards. It must be one of `domains`, so that reports \
            come back, and its SPF record must list this server.",
    ),
    key(
        "monitor_dnsbls",
        List(&Domain),
        Value("[]"),
        "The DNSBL zones in which our own IP addresses are looked up daily.",
    )
    .later(),
    key(
        "web.redirects",
        Map(&Domain),
        Value("{}"),
        "Domains whose web pages lead to the same pages of another domain: \
            {\"old.example\" = \"new.example\"}. They lead to HTTPS (308), on each port that serves HTTP.",
    ),
];

macro_rules! routes {
    ($prefix:literal) => {
        [
            key(
                concat!($prefix, "routes[].from_domain"),
                List(&DomainPattern),
                Value("[]"),
                "The route is for these domains of the sender. An empty array means any domain. A \
            leading dot includes subdomains.",
            ),
            key(
                concat!($prefix, "routes[].to_domain"),
                List(&DomainPattern),
                Value("[]"),
                "The route is for these domains of the recipient. An empty array means any domain.",
            ),
            key(
                concat!($prefix, "routes[].minimum_attempts"),
                Integer,
                Value("0"),
                "The route is for messages with at least this number of earlier attempts.",
            )
            .range("0", "1000"),
            key(
                concat!($prefix, "routes[].transport"),
                Text,
                Required,
                "The name of a transport in postrider.conf.",
            ),
        ]
    };
}

static ROUTES: [Key; 4] = routes!("");
static DOMAIN_ROUTES: [Key; 4] = routes!("domains.<domain>.");
static ACCOUNT_ROUTES: [Key; 4] = routes!("accounts.<name>.");

static DOMAIN: &[Key] = &[
    key(
        "domains.<domain>.disabled",
        Bool,
        Value("false"),
        "Receive no mail for the domain (451) and send none.",
    ),
    key(
        "domains.<domain>.description",
        Text,
        Value("\"\""),
        "A description for people.",
    ),
    key(
        "domains.<domain>.tenant",
        Tenant,
        Absent("none"),
        "The customer whose domain it is: a whole number below 2^53, or a name. Management keys for \
            this tenant have the domain.",
    ),
    key(
        "domains.<domain>.tracking.host",
        Domain,
        Required,
        "The host name in tracked links. It must lead to this server.",
    ),
    key(
        "domains.<domain>.tracking.opens",
        Bool,
        Value("false"),
        "Messages that ask for it tell when they are opened.",
    ),
    key(
        "domains.<domain>.tracking.clicks",
        Bool,
        Value("false"),
        "Messages that ask for it tell when their links are followed.",
    ),
    key(
        "domains.<domain>.client_settings_domain",
        Domain,
        Absent("\"mail.\" and the domain"),
        "The host name for mail programs.",
    ),
    key(
        "domains.<domain>.client_settings.imap",
        Text,
        Absent("none"),
        "The \"HOST:PORT\" of an IMAP server with this domain's mailboxes, for mail programs.",
    ),
    key(
        "domains.<domain>.localpart_catchall_separators",
        List(&Text),
        Value("[]"),
        "With \"+\", mail to user+anything is delivered to user. A fromid needs a separator.",
    ),
    key(
        "domains.<domain>.localpart_case_sensitive",
        Bool,
        Value("false"),
        "Local-parts that differ in case are different addresses.",
    ),
    key(
        "domains.<domain>.dkim.selectors.<selector>.private_key_file",
        Path,
        Required,
        "The private key as PKCS#8 in PEM. It is RSA with at least 1024 bits, or Ed25519.",
    ),
    key(
        "domains.<domain>.dkim.selectors.<selector>.algorithm",
        Word(DkimAlgorithm::WORDS),
        Absent("the key's algorithm"),
        "The algorithm. It must be the algorithm of the key.",
    ),
    key(
        "domains.<domain>.dkim.selectors.<selector>.hash",
        Word(DkimHash::WORDS),
        Value("\"sha256\""),
        "The hash of the signature. sha1 is deprecated and possible with RSA only.",
    ),
    key(
        "domains.<domain>.dkim.selectors.<selector>.canonicalization",
        Word(Canonicalization::WORDS),
        Value("\"relaxed/relaxed\""),
        "The canonicalization of header and body (RFC 6376 section 3.4).",
    ),
    key(
        "domains.<domain>.dkim.selectors.<selector>.headers",
        List(&Text),
        Value(
            "[\"From\", \"Sender\", \"Reply-To\", \"To\", \"Cc\", \"Subject\", \"Date\", \
            \"Message-ID\", \"In-Reply-To\", \"References\", \"MIME-Version\", \
            \"Content-Type\", \"Content-Transfer-Encoding\", \"List-Id\", \"List-Post\", \
            \"List-Owner\", \"List-Archive\", \"List-Help\", \"List-Subscribe\", \
            \"List-Unsubscribe\", \"List-Unsubscribe-Post\"]",
        ),
        "The header fields that are signed. From must be one of them. Fields that change on the \
        way, such as Received and Bcc, are left out.",
    ),
    key(
        "domains.<domain>.dkim.selectors.<selector>.dont_seal_headers",
        Bool,
        Value("false"),
        "Let other servers add fields with these names without breaking the signature. They may \
        always add fields of lists, whose names begin with List-.",
    ),
    key(
        "domains.<domain>.dkim.selectors.<selector>.expiration",
        Duration,
        Value("\"72h\""),
        "How long a signature is valid. 0s means without end.",
    )
    .range("\"0s\"", "\"3650d\""),
    key(
        "domains.<domain>.dkim.sign",
        List(&Text),
        Value("[]"),
        "The selectors that sign.",
    ),
    key(
        "domains.<domain>.dmarc.account",
        Text,
        Required,
        "The account that gets DMARC reports about this domain.",
    ),
    key(
        "domains.<domain>.dmarc.mailbox",
        Text,
        Value("\"DMARC\""),
        "The mailbox of that account for the reports.",
    ),
    key(
        "domains.<domain>.dmarc.localpart",
        LocalPart,
        Value("\"dmarcreports\""),
        "The local-part of the report address.",
    ),
    key(
        "domains.<domain>.dmarc.domain",
        Domain,
        Absent("the domain itself"),
        "The domain of the report address. It must be one of `domains`.",
    ),
    key(
        "domains.<domain>.tls_rpt.account",
        Text,
        Required,
        "The account that gets TLS reports about this domain.",
    ),
    key(
        "domains.<domain>.tls_rpt.mailbox",
        Text,
        Value("\"TLSRPT\""),
        "The mailbox of that account for the reports.",
    ),
    key(
        "domains.<domain>.tls_rpt.localpart",
        LocalPart,
        Value("\"tlsreports\""),
        "The local-part of the report address.",
    ),
    key(
        "domains.<domain>.tls_rpt.domain",
        Domain,
        Absent("the domain itself"),
        "The domain of the report address. It must be one of `domains`.",
    ),
    key(
        "domains.<domain>.mta_sts.policy_id",
        Text,
        Required,
        "The id of the policy: 1 to 32 letters and digits. Change it with each change of \
            the policy.",
    ),
    key(
        "domains.<domain>.mta_sts.mode",
        Word(MtaStsMode::WORDS),
        Value("\"enforce\""),
        "What other servers do when TLS fails (RFC 8461).",
    ),
    key(
        "domains.<domain>.mta_sts.max_age",
        Duration,
        Value("\"24h\""),
        "How long other servers may remember the policy.",
    )
    .range("\"1s\"", "\"365d6h\""),
    key(
        "domains.<domain>.mta_sts.mx",
        List(&Text),
        Absent("hostname"),
        "The MX hosts. \"*.example.com\" means all hosts one level below.",
    ),
    key(
        "domains.<domain>.aliases.<localpart>.addresses",
        List(&Address),
        Required,
        "The members. Each must be a destination of an account.",
    ),
    key(
        "domains.<domain>.aliases.<localpart>.post_public",
        Bool,
        Value("false"),
        "Accept mail from senders who are not members.",
    ),
    key(
        "domains.<domain>.aliases.<localpart>.list_members",
        Bool,
        Value("false"),
        "Let members see each other.",
    )
    .later(),
    key(
        "domains.<domain>.aliases.<localpart>.allow_msg_from",
        Bool,
        Value("false"),
        "Let members send with the alias as From.",
    ),
    key(
        "domains.<domain>.aliases.<localpart>.name",
        Text,
        Absent("the address"),
        "The name of the list in the management API. It has no capitals and not only digits, and no \
            other list has it.",
    ),
    key(
        "domains.<domain>.aliases.<localpart>.description",
        Text,
        Value("\"\""),
        "A description for people.",
    ),
    key(
        "domains.<domain>.aliases.<localpart>.urls",
        List(&Text),
        Value("[]"),
        "Web pages about the list, for people.",
    ),
];

static ACCOUNT: &[Key] = &[
    key(
        "accounts.<name>.domain",
        Domain,
        Required,
        "The account's own domain. It must be one of `domains`.",
    ),
    key(
        "accounts.<name>.description",
        Text,
        Value("\"\""),
        "A description for people.",
    ),
    key(
        "accounts.<name>.urls",
        List(&Text),
        Value("[]"),
        "Web pages about the account, for people.",
    ),
    key(
        "accounts.<name>.full_name",
        Text,
        Value("\"\""),
        "The name beside the address in From, if a message has none.",
    ),
    key(
        "accounts.<name>.login_disabled",
        Text,
        Value("\"\""),
        "If this is not empty, logins are refused with this message.",
    ),
    key(
        "accounts.<name>.outgoing_webhook.url",
        Url,
        Required,
        "The URL that is called for events of sent messages.",
    ),
    key(
        "accounts.<name>.outgoing_webhook.authorization",
        Text,
        Value("\"\""),
        "The value of the Authorization field of calls.",
    )
    .secret(),
    key(
        "accounts.<name>.outgoing_webhook.events",
        List(&Word(WebhookEvent::WORDS)),
        Value("[]"),
        "The events that cause a call. An empty array means all events. \"opened\" and \"clicked\" \
            need version = 1.",
    ),
    key(
        "accounts.<name>.outgoing_webhook.version",
        Integer,
        Value("0"),
        "The version of the payloads. 0 is compatible with mox. 1 has the recipient too, and tells \
            when a recipient unsubscribed, complained, opened a message or followed a link.",
    )
    .range("0", "1"),
    key(
        "accounts.<name>.outgoing_webhook.secret",
        Secret,
        Absent("none"),
        "The key that signs calls: \"whsec_\" and base64 of at least 24 bytes. Set two \
            keys, the current one first, while one replaces the other.",
    )
    .secret(),
    key(
        "accounts.<name>.incoming_webhook.url",
        Url,
        Required,
        "The URL that is called for received messages.",
    ),
    key(
        "accounts.<name>.incoming_webhook.authorization",
        Text,
        Value("\"\""),
        "The value of the Authorization field of calls.",
    )
    .secret(),
    key(
        "accounts.<name>.incoming_webhook.secret",
        Secret,
        Absent("none"),
        "The key that signs calls, as in outgoing_webhook.",
    )
    .secret(),
    key(
        "accounts.<name>.failure_dsn",
        Word(FailureDsn::WORDS),
        Value("\"mail\""),
        "How the account learns of a failed delivery. \"event\" means no DSN mail. A \
            webhook that wants the event gets it in any case.",
    ),
    key(
        "accounts.<name>.shared_with.<account>",
        Word(Right::WORDS),
        Absent("none"),
        "What another account may do with the mailboxes of this one. \"write\" includes \"read\". \
            \"send\" includes both, and lets the other account use this one's addresses in From.",
    ),
    key(
        "accounts.<name>.allow_forward",
        Bool,
        Value("false"),
        "Let the Sieve scripts and rules of the account send its mail on to other addresses.",
    ),
    key(
        "accounts.<name>.undelete_period",
        Duration,
        Absent("undelete.keep"),
        "How long mail that the account deletes can come back. With \"0s\" it goes at once.",
    )
    .range("\"0s\"", "\"3650d\""),
    key(
        "accounts.<name>.suppress_policy_blocks",
        Bool,
        Value("false"),
        "Suppress a recipient after a policy block (x.7.1 and similar codes) too.",
    ),
    key(
        "accounts.<name>.source_pool",
        Text,
        Absent("that of the provider, then delivery.source_pool"),
        "The pool of addresses that the account's mail to MX hosts comes from: a name in `pools` of \
            postrider.conf. A transport with addresses of its own comes before it.",
    ),
    key(
        "accounts.<name>.suppression_period",
        Duration,
        Absent("until it is removed"),
        "How long an address stays suppressed after a failure or a complaint. An entry that a \
            person or an application makes stays.",
    )
    .range("\"1m\"", "\"3650d\""),
    key(
        "accounts.<name>.from_id_login_addresses",
        List(&Address),
        Value("[]"),
        "Each message from a login with one of these addresses gets its own fromid.",
    ),
    key(
        "accounts.<name>.keep_retired_message_period",
        Duration,
        Value("\"0s\""),
        "How long sent messages stay in the history. 0s means that they do not enter it.",
    )
    .range("\"0s\"", "\"3650d\""),
    key(
        "accounts.<name>.keep_retired_webhook_period",
        Duration,
        Value("\"0s\""),
        "How long webhook calls stay in the history. 0s means that they do not enter it.",
    )
    .range("\"0s\"", "\"3650d\""),
    key(
        "accounts.<name>.quota",
        Size,
        Absent("no limit"),
        "The largest size of all mail of the account. More mail is refused with 452 4.2.2.",
    )
    .range("1", "\"1000TiB\""),
    key(
        "accounts.<name>.max_outgoing_messages_per_day",
        Integer,
        Value("1000"),
        "The most recipients in 24 hours. More are refused with 451 4.7.x.",
    )
    .range("1", "1000000000"),
    key(
        "accounts.<name>.max_first_time_recipients_per_day",
        Integer,
        Value("200"),
        "The most recipients in 24 hours that the account never wrote to before.",
    )
    .range("1", "1000000000"),
    key(
        "accounts.<name>.rejects_mailbox",
        Text,
        Value("\"Rejects\""),
        "The mailbox that keeps refused mail for 14 days, 1000 mails at most. \"\" means none.",
    ),
    key(
        "accounts.<name>.keep_rejects",
        Bool,
        Value("false"),
        "Keep refused mail without a limit of time and number.",
    ),
    key(
        "accounts.<name>.junk_filter",
        Bool,
        Value("true"),
        "Judge mail by its words, as the account's earlier mail was judged.",
    ),
    key(
        "accounts.<name>.first_time_delay",
        Bool,
        Value("true"),
        "Let strangers wait as policy.first_time_sender_delay says.",
    ),
    key(
        "accounts.<name>.junk_mailbox",
        Text,
        Value("\"Junk\""),
        "The mailbox for junk.",
    ),
    key(
        "accounts.<name>.no_custom_password",
        Bool,
        Value("false"),
        "Offer only generated passwords on the account's page.",
    )
    .later(),
];

static DESTINATION: &[Key] = &[
    key(
        "accounts.<name>.destinations.<address>.mailbox",
        Text,
        Value("\"Inbox\""),
        "The mailbox for mail that no ruleset takes.",
    ),
    key(
        "accounts.<name>.destinations.<address>.rulesets[].mail_from_regexp",
        Regexp,
        Absent("any"),
        "The ruleset takes mail whose reverse-path matches.",
    ),
    key(
        "accounts.<name>.destinations.<address>.rulesets[].msg_from_regexp",
        Regexp,
        Absent("any"),
        "The ruleset takes mail whose address in From matches.",
    ),
    key(
        "accounts.<name>.destinations.<address>.rulesets[].verified_domain",
        Domain,
        Absent("any"),
        "The ruleset takes mail for which SPF or DKIM verified this domain or a subdomain.",
    ),
    key(
        "accounts.<name>.destinations.<address>.rulesets[].headers_regexp",
        Map(&Regexp),
        Value("{}"),
        "The ruleset takes mail with a matching field for each pair. A pair matches the \
            name and the value of a field, both in lower case.",
    ),
    key(
        "accounts.<name>.destinations.<address>.rulesets[].is_forward",
        Bool,
        Value("false"),
        "The mail is forwarded by another server of ours. DMARC does not refuse it, and it says \
            nothing about the server that sends it. Needs mail_from_regexp and verified_domain.",
    ),
    key(
        "accounts.<name>.destinations.<address>.rulesets[].list_allow_domain",
        Domain,
        Absent("none"),
        "The verified domain of a mailing list. Mail from the list is not checked for spam.",
    ),
    key(
        "accounts.<name>.destinations.<address>.rulesets[].accept_rejects_to_mailbox",
        Text,
        Value("\"\""),
        "If this is not empty, mail that would be refused is accepted into this mailbox.",
    ),
    key(
        "accounts.<name>.destinations.<address>.rulesets[].mailbox",
        Text,
        Required,
        "The mailbox for mail that fulfills all conditions of the ruleset. The first such \
            ruleset wins.",
    ),
    key(
        "accounts.<name>.destinations.<address>.smtp_error",
        Reply,
        Absent("none"),
        "The reply that refuses RCPT, such as \"550 5.1.1 no such user\".",
    ),
    key(
        "accounts.<name>.destinations.<address>.message_auth_required_smtp_error",
        Text,
        Value("\"\""),
        "If this is not empty, mail with an unverified From domain is refused with this text.",
    ),
    key(
        "accounts.<name>.destinations.<address>.full_name",
        Text,
        Value("\"\""),
        "The name beside the address in From, for logins with this address. It replaces \
            the account's.",
    ),
    key(
        "accounts.<name>.destinations.<address>.forward_lmtp",
        Text,
        Value("\"\""),
        "The name of a transport of kind lmtp that gets the mail instead of the mailbox.",
    ),
    key(
        "accounts.<name>.destinations.<address>.forward",
        List(&Address),
        Value("[]"),
        "Addresses elsewhere that get the mail instead of the mailbox.",
    ),
];
