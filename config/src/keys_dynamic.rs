//! Every key of `domains.conf`.

use crate::{
    schema::{
        Default::{Absent, Required, Value},
        Key,
        Kind::{
            Address, Bool, Domain, DomainPattern, Duration, Integer, List, LocalPart, Map, Path,
            Regexp, Reply, Secret, Size, Text, Url, Word,
        },
        Section,
    },
    values::{Canonicalization, DkimAlgorithm, DkimHash, FailureDsn, MtaStsMode, WebhookEvent},
};

const fn key(
    name: &'static str,
    kind: crate::schema::Kind,
    default: crate::schema::Default,
    meaning: &'static str,
) -> Key {
    Key::new(name, kind, default, meaning)
}

pub(crate) static SECTIONS: &[Section] = &[
    Section {
        title: "General",
        intro: "Routes: the first that matches of the account, then of the sender's domain, then these; without one, mail goes straight to its MX hosts.",
        keys: &[GENERAL, &ROUTES],
    },
    Section {
        title: "`domains.\"<domain>\"`",
        intro: "A domain that mail is taken for and sent from.",
        keys: &[DOMAIN, &DOMAIN_ROUTES],
    },
    Section {
        title: "`accounts.<name>`",
        intro: "A destination is `\"user@example.com\"`, or `\"@example.com\"` for all that no other destination of the domain takes.",
        keys: &[ACCOUNT, DESTINATION, &ACCOUNT_ROUTES],
    },
];

static GENERAL: &[Key] = &[key(
    "monitor_dnsbls",
    List(&Domain),
    Value("[]"),
    "Zones in which the own addresses are looked up daily.",
)
.later()];

macro_rules! routes {
    ($prefix:literal) => {
        [
            key(concat!($prefix, "routes[].from_domain"), List(&DomainPattern), Value("[]"), "The sender's domain is one of these; none: any. A leading dot takes subdomains too."),
            key(concat!($prefix, "routes[].to_domain"), List(&DomainPattern), Value("[]"), "The recipient's domain is one of these; none: any."),
            key(concat!($prefix, "routes[].minimum_attempts"), Integer, Value("0"), "At least so many attempts were made before.").range("0", "1000"),
            key(concat!($prefix, "routes[].transport"), Text, Required, "One of `transports` in postrider.conf."),
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
        "Take no mail (451) and send none.",
    ),
    key(
        "domains.<domain>.description",
        Text,
        Value("\"\""),
        "For people.",
    ),
    key(
        "domains.<domain>.client_settings_domain",
        Domain,
        Absent("\"mail.\" and the domain"),
        "The name that mail programs shall use.",
    ),
    key(
        "domains.<domain>.localpart_catchall_separators",
        List(&Text),
        Value("[]"),
        "With \"+\", mail to user+anything is delivered to user; needed for fromid.",
    ),
    key(
        "domains.<domain>.localpart_case_sensitive",
        Bool,
        Value("false"),
        "Local-parts that differ by case are different.",
    ),
    key(
        "domains.<domain>.dkim.selectors.<selector>.private_key_file",
        Path,
        Required,
        "Private key, PKCS#8 in PEM: RSA of 1024 bits or more, or Ed25519.",
    ),
    key(
        "domains.<domain>.dkim.selectors.<selector>.algorithm",
        Word(DkimAlgorithm::WORDS),
        Absent("that of the key"),
        "Must be that of the key.",
    ),
    key(
        "domains.<domain>.dkim.selectors.<selector>.hash",
        Word(DkimHash::WORDS),
        Value("\"sha256\""),
        "Of the signature; sha1 is deprecated, and for RSA only.",
    ),
    key(
        "domains.<domain>.dkim.selectors.<selector>.canonicalization",
        Word(Canonicalization::WORDS),
        Value("\"relaxed/relaxed\""),
        "Of header and body (RFC 6376 section 3.4).",
    ),
    key(
        "domains.<domain>.dkim.selectors.<selector>.headers",
        List(&Text),
        Value(
            "[\"From\", \"To\", \"Cc\", \"Bcc\", \"Reply-To\", \"References\", \"In-Reply-To\", \"Subject\", \"Date\", \"Message-Id\", \"Content-Type\", \"MIME-Version\", \"List-Id\", \"List-Unsubscribe\", \"List-Unsubscribe-Post\"]",
        ),
        "Header fields that are signed, From among them.",
    ),
    key(
        "domains.<domain>.dkim.selectors.<selector>.dont_seal_headers",
        Bool,
        Value("false"),
        "Let others add more fields of these names without breaking the signature.",
    ),
    key(
        "domains.<domain>.dkim.selectors.<selector>.expiration",
        Duration,
        Value("\"72h\""),
        "How long a signature holds; 0s: for ever.",
    )
    .range("\"0s\"", "\"3650d\""),
    key(
        "domains.<domain>.dkim.sign",
        List(&Text),
        Value("[]"),
        "Selectors that sign.",
    ),
    key(
        "domains.<domain>.dmarc.account",
        Text,
        Required,
        "The account that gets DMARC reports about this domain.",
    )
    .later(),
    key(
        "domains.<domain>.dmarc.mailbox",
        Text,
        Value("\"DMARC\""),
        "Its mailbox for them.",
    )
    .later(),
    key(
        "domains.<domain>.dmarc.localpart",
        LocalPart,
        Value("\"dmarcreports\""),
        "Of their address.",
    )
    .later(),
    key(
        "domains.<domain>.dmarc.domain",
        Domain,
        Absent("the domain itself"),
        "Of their address: one of `domains`.",
    )
    .later(),
    key(
        "domains.<domain>.tls_rpt.account",
        Text,
        Required,
        "The account that gets TLS reports about this domain.",
    )
    .later(),
    key(
        "domains.<domain>.tls_rpt.mailbox",
        Text,
        Value("\"TLSRPT\""),
        "Its mailbox for them.",
    )
    .later(),
    key(
        "domains.<domain>.tls_rpt.localpart",
        LocalPart,
        Value("\"tlsreports\""),
        "Of their address.",
    )
    .later(),
    key(
        "domains.<domain>.tls_rpt.domain",
        Domain,
        Absent("the domain itself"),
        "Of their address: one of `domains`.",
    )
    .later(),
    key(
        "domains.<domain>.mta_sts.policy_id",
        Text,
        Required,
        "1 to 32 letters and digits; to be changed with each change of the policy.",
    )
    .later(),
    key(
        "domains.<domain>.mta_sts.mode",
        Word(MtaStsMode::WORDS),
        Value("\"enforce\""),
        "What others shall do (RFC 8461).",
    )
    .later(),
    key(
        "domains.<domain>.mta_sts.max_age",
        Duration,
        Value("\"24h\""),
        "How long others may remember it.",
    )
    .range("\"1s\"", "\"365d6h\"")
    .later(),
    key(
        "domains.<domain>.mta_sts.mx",
        List(&Text),
        Absent("hostname"),
        "The MX hosts; \"*.example.com\" stands for all hosts one level below.",
    )
    .later(),
    key(
        "domains.<domain>.aliases.<localpart>.addresses",
        List(&Address),
        Required,
        "Members, each a destination of an account.",
    )
    .later(),
    key(
        "domains.<domain>.aliases.<localpart>.post_public",
        Bool,
        Value("false"),
        "Take mail from others than members.",
    )
    .later(),
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
        "Let members write in its name.",
    ),
];

static ACCOUNT: &[Key] = &[
    key(
        "accounts.<name>.domain",
        Domain,
        Required,
        "The account's own domain: one of `domains`.",
    ),
    key(
        "accounts.<name>.description",
        Text,
        Value("\"\""),
        "For people.",
    ),
    key(
        "accounts.<name>.full_name",
        Text,
        Value("\"\""),
        "Goes with the address in From when none is given.",
    ),
    key(
        "accounts.<name>.login_disabled",
        Text,
        Value("\"\""),
        "Not empty: logins are refused with this message.",
    ),
    key(
        "accounts.<name>.outgoing_webhook.url",
        Url,
        Required,
        "Called for what becomes of sent messages.",
    ),
    key(
        "accounts.<name>.outgoing_webhook.authorization",
        Text,
        Value("\"\""),
        "Sent as Authorization, as it stands here.",
    ),
    key(
        "accounts.<name>.outgoing_webhook.events",
        List(&Word(WebhookEvent::WORDS)),
        Value("[]"),
        "Those that are told; none: all.",
    ),
    key(
        "accounts.<name>.outgoing_webhook.secret",
        Secret,
        Absent("none"),
        "\"whsec_\" and base64 of 24 bytes or more: signs calls. Two while one replaces the other; the first is the current one.",
    ),
    key(
        "accounts.<name>.incoming_webhook.url",
        Url,
        Required,
        "Called for received messages.",
    ),
    key(
        "accounts.<name>.incoming_webhook.authorization",
        Text,
        Value("\"\""),
        "Sent as Authorization, as it stands here.",
    ),
    key(
        "accounts.<name>.incoming_webhook.secret",
        Secret,
        Absent("none"),
        "As in outgoing_webhook.",
    ),
    key(
        "accounts.<name>.failure_dsn",
        Word(FailureDsn::WORDS),
        Value("\"mail\""),
        "How a failed delivery is told; the event goes out in any case when a webhook wants it, \"event\" means no DSN mail.",
    ),
    key(
        "accounts.<name>.suppress_policy_blocks",
        Bool,
        Value("false"),
        "Suppress a recipient also after x.7.1 and the like.",
    ),
    key(
        "accounts.<name>.from_id_login_addresses",
        List(&Address),
        Value("[]"),
        "A login with one of these addresses gives each message its own fromid.",
    ),
    key(
        "accounts.<name>.keep_retired_message_period",
        Duration,
        Value("\"0s\""),
        "How long sent messages stay in history; 0s: not at all.",
    )
    .range("\"0s\"", "\"3650d\""),
    key(
        "accounts.<name>.keep_retired_webhook_period",
        Duration,
        Value("\"0s\""),
        "How long calls of webhooks stay in history; 0s: not at all.",
    )
    .range("\"0s\"", "\"3650d\""),
    key(
        "accounts.<name>.quota",
        Size,
        Absent("no limit"),
        "For all mail of the account; beyond it, 452 4.2.2.",
    )
    .range("1", "\"1000TiB\"")
    .later(),
    key(
        "accounts.<name>.max_outgoing_messages_per_day",
        Integer,
        Value("1000"),
        "Recipients in 24 hours; beyond, 451 4.7.x.",
    )
    .range("1", "1000000000"),
    key(
        "accounts.<name>.max_first_time_recipients_per_day",
        Integer,
        Value("200"),
        "Of them, recipients never mailed before.",
    )
    .range("1", "1000000000"),
    key(
        "accounts.<name>.rejects_mailbox",
        Text,
        Value("\"Rejects\""),
        "Where refused mail is kept for a while; \"\": nowhere.",
    )
    .later(),
    key(
        "accounts.<name>.keep_rejects",
        Bool,
        Value("false"),
        "Keep refused mail for good.",
    )
    .later(),
    key(
        "accounts.<name>.junk_mailbox",
        Text,
        Value("\"Junk\""),
        "Where junk goes.",
    )
    .later(),
    key(
        "accounts.<name>.no_custom_password",
        Bool,
        Value("false"),
        "The account's page offers generated passwords only.",
    )
    .later(),
];

static DESTINATION: &[Key] = &[
    key("accounts.<name>.destinations.<address>.mailbox", Text, Value("\"Inbox\""), "Where mail goes that no ruleset takes."),
    key("accounts.<name>.destinations.<address>.rulesets[].mail_from_regexp", Regexp, Absent("any"), "Matches the reverse-path.").later(),
    key("accounts.<name>.destinations.<address>.rulesets[].msg_from_regexp", Regexp, Absent("any"), "Matches the address in From.").later(),
    key("accounts.<name>.destinations.<address>.rulesets[].verified_domain", Domain, Absent("any"), "SPF or DKIM verified this domain, or one below it.").later(),
    key("accounts.<name>.destinations.<address>.rulesets[].headers_regexp", Map(&Regexp), Value("{}"), "Each pair matches the name and value of a field, both in lower case.").later(),
    key("accounts.<name>.destinations.<address>.rulesets[].list_allow_domain", Domain, Absent("none"), "A mailing list's verified domain: such mail is not judged as spam.").later(),
    key("accounts.<name>.destinations.<address>.rulesets[].accept_rejects_to_mailbox", Text, Value("\"\""), "Take mail that would be refused, into this mailbox.").later(),
    key("accounts.<name>.destinations.<address>.rulesets[].mailbox", Text, Required, "Where mail goes for which all conditions of this ruleset hold; the first such ruleset wins.").later(),
    key("accounts.<name>.destinations.<address>.smtp_error", Reply, Absent("none"), "RCPT is refused with this reply, such as \"550 5.1.1 no such user\".").later(),
    key("accounts.<name>.destinations.<address>.message_auth_required_smtp_error", Text, Value("\"\""), "Not empty: mail whose From domain is not verified is refused with this text.").later(),
    key("accounts.<name>.destinations.<address>.full_name", Text, Value("\"\""), "As the account's, for logins with this address."),
    key("accounts.<name>.destinations.<address>.forward_lmtp", Text, Value("\"\""), "A transport of kind lmtp: it gets the mail, instead of the mailbox.").later(),
];
