//! Known providers: the shipped entries, the layers over them, and which entry is for a domain.

use std::{fs, path::Path, time::Duration};

use postrider_config::{Dynamic, Provider, ProviderTls, Providers, Rate, ReplyScope, Static};
use postrider_smtp::{Domain, bounce::Class};

use crate::support::{self, DYNAMIC, dynamic, statics};

fn shipped() -> std::sync::Arc<Providers> {
    statics("").providers
}

fn entry<'a>(providers: &'a Providers, domain: &str, hosts: &[&str]) -> &'a Provider {
    providers.find(&Domain::parse(domain).unwrap(), hosts)
}

fn rate(text: &str) -> Option<Rate> {
    Some(Rate::parse(text).unwrap())
}

#[test]
fn the_figures_of_the_shipped_entries() {
    use ProviderTls::{Encrypt, Opportunistic};
    let providers = shipped();
    let found: Vec<_> = providers
        .iter()
        .map(|it| {
            let figures = (it.connections, it.messages_per_connection);
            (it.name.as_str(), figures, it.tls, it.rollup)
        })
        .collect();
    let expected = [
        ("apple", (10, 5), Opportunistic, true),
        ("comcast", (25, 1000), Encrypt, true),
        ("gmx", (4, 20), Encrypt, true),
        ("google", (5, 50), Encrypt, true),
        ("microsoft-365", (5, 50), Opportunistic, true),
        ("mimecast", (10, 100), Opportunistic, false),
        ("netease", (4, 7), Opportunistic, true),
        ("orange", (2, 100), Encrypt, true),
        ("outlook", (5, 50), Opportunistic, true),
        ("proofpoint", (10, 100), Opportunistic, false),
        ("qq", (4, 8), Opportunistic, true),
        ("t-online", (2, 20), Opportunistic, true),
        ("yahoo", (10, 20), Opportunistic, true),
    ];
    assert_eq!(found, expected);
    for provider in providers.iter() {
        assert!(
            !provider.from.is_empty() && provider.chunking,
            "{}",
            provider.name
        );
        assert_eq!(
            provider.connect_rate,
            rate("100/minute"),
            "{}",
            provider.name
        );
        assert_eq!(
            (provider.rate, provider.recipients_per_transaction),
            (None, 100)
        );
    }
    let default = providers.default();
    assert_eq!(
        (default.connections, default.messages_per_connection),
        (10, 100)
    );
    assert_eq!(default.connect_rate, rate("100/minute"));
    assert!(!default.rollup && default.replies.iter().next().is_none());
}

#[test]
fn an_entry_is_found_by_domain_then_by_the_longest_name_that_all_hosts_match() {
    let statics = statics("");
    let more = "[providers.mine]\nmx = [\"mx1.google.com\"]\n\
                [providers.customer]\ndomains = [\"Customer.example\"]\n";
    let config = dynamic(&format!("{DYNAMIC}{more}"), &statics);
    let providers = &config.providers;
    for (domain, hosts, expected) in [
        ("gmail.com", &["gmail-smtp-in.l.google.com"][..], "google"),
        ("a.example", &["google.com", "x.googlemail.com"], "google"),
        ("a.example", &["mx1.google.com", "a.mx1.google.com"], "mine"),
        ("a.example", &["mx1.google.com", "mx2.google.com"], "google"),
        ("a.example", &["mx2.google.com", "mx1.google.com"], "google"),
        (
            "a.example",
            &["mx1.google.com", "mx.backup.example"],
            "default",
        ),
        (
            "a.example",
            &["mx.backup.example", "mx1.google.com"],
            "default",
        ),
        ("a.example", &["xgoogle.com"], "default"),
        ("a.example", &["com"], "default"),
        ("a.example", &[], "default"),
        ("google.com", &["mx.google.example"], "default"),
        ("customer.example", &["mx1.google.com"], "customer"),
        ("customer.example", &[], "customer"),
        (
            "hotmail.com",
            &["hotmail-com.olc.protection.outlook.com"],
            "outlook",
        ),
        (
            "a.example",
            &["a-example.mail.protection.outlook.com"],
            "microsoft-365",
        ),
        ("a.example", &["protection.outlook.com"], "default"),
    ] {
        let found = entry(providers, domain, hosts);
        assert_eq!(found.name, expected, "{domain} {hosts:?}");
    }
    assert!(providers.default().mx.is_empty());
}

#[test]
fn layers_override_by_name_and_key() {
    let dir = tempfile::tempdir().unwrap();
    let file = "[default]\nconnections = 6\nrate = \"1000/hour\"\n\
                [google]\nconnections = 3\nconnect_rate = \"none\"\nchunking = false\n\
                [t-online]\nmx = []\n\
                [[orange.reply]]\nmatch = \"slow\"\nclass = \"rate_limited\"\nrest = \"5m\"\n";
    fs::write(dir.path().join("providers.toml"), file).unwrap();
    let text = format!(
        "{}[delivery]\nproviders_file = \"providers.toml\"\n\
         [queue.per_destination]\nconnections = 7\nmessages_per_connection = 80\n",
        support::STATIC
    );
    let statics = Static::parse(&text, dir.path().join("postrider.conf")).unwrap();
    let more = "[providers.google]\nconnections = 2\ntls = \"opportunistic\"\n\
                [providers.gmx2]\nmx = [\"web.de\"]\n";
    let config = dynamic(&format!("{DYNAMIC}{more}"), &statics);
    let google = entry(&config.providers, "gmail.com", &["mx.google.com"]);
    assert_eq!(
        google.connections, 2,
        "domains.conf is stronger than the file"
    );
    assert_eq!(
        google.messages_per_connection, 50,
        "nothing changes the shipped figure"
    );
    assert_eq!(google.tls, ProviderTls::Opportunistic);
    assert_eq!((google.connect_rate, google.chunking), (None, false));
    assert_eq!(google.rate, rate("1000/hour"), "as in default");
    let default = config.providers.default();
    assert_eq!(
        default.connections, 6,
        "the file is stronger than queue.per_destination"
    );
    assert_eq!(default.messages_per_connection, 80);
    assert_eq!(config.providers.per_destination().connections, 7);
    assert_eq!(config.providers.per_destination().connect_rate, None);
    let of = |hosts: &[&str]| entry(&config.providers, "a.example", hosts).name.clone();
    assert_eq!(
        of(&["mx1.t-online.de"]),
        "default",
        "its hosts were taken away"
    );
    assert_eq!(of(&["mx1.web.de"]), "gmx2", "the last layer has the name");
    assert_eq!(of(&["mx1.gmx.net"]), "gmx");
    let orange = entry(&config.providers, "orange.fr", &["smtp-in.orange.fr"]);
    assert!(orange.replies.find("421 OFR004_104 [104]").is_none());
    let rule = orange.replies.find("450 4.7.0 SLOW down").unwrap();
    assert_eq!(rule.rest, Some(Duration::from_secs(300)));
    // Without a change, the entries are those of the static configuration.
    let same = dynamic(DYNAMIC, &statics);
    assert!(std::sync::Arc::ptr_eq(&same.providers, &statics.providers));
    assert!(same != config);
}

#[test]
fn problems_name_file_line_and_key() {
    let check = |more: &str, expected: &[&str]| {
        let text = format!("{DYNAMIC}{more}");
        let errors = Dynamic::parse(&text, "domains.conf", &statics("")).unwrap_err();
        let found: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(found, expected);
    };
    check(
        "[providers.gogle]\nconnections = 1\n",
        &[
            "domains.conf:5:12: providers.gogle: needs mx or domains, which say whom it is for: \
           there is no shipped entry of this name; did you mean \"google\"?",
        ],
    );
    check(
        "[providers.a]\nmx = [\"a.example\"]\nconnect_rate = \"100\"\nrate = 5\nconections = 1\n",
        &[
            "domains.conf:7:1: providers.a.connect_rate: \"100\" is not a rate; write a number per \
             second, minute, hour or day, as in \"100/minute\", or \"none\"",
            "domains.conf:8:1: providers.a.rate: must be a rate, not a number; put it in quotes",
            "domains.conf:9:1: providers.a.conections: unknown key; did you mean \"connections\"?",
        ],
    );
    check(
        "[providers.a]\nmx = [\"a.example\"]\n[providers.b]\nmx = [\"b.example\", \"A.example\"]\n",
        &["domains.conf:8:20: providers.b.mx[1]: is in the entry a too; remove one"],
    );
    check(
        "[providers.default]\nmx = []\n[providers.\"A b\"]\ndomains = [\"a.example\"]\n",
        &[
            "domains.conf:6:1: providers.default.mx: is not for the entry default, which is for \
             all other hosts",
            "domains.conf:7:12: providers.\"A b\": is not the name of an entry: 1 to 64 lower-case \
             letters, digits and hyphens",
        ],
    );
    check(
        "[[providers.google.reply]]\nmatch = \"(\"\nclass = \"slow\"\n\
         [[providers.google.reply]]\nmatch = \"x\"\nclass = \"spam\"\nscope = \"message\"\nrest = \"1h\"\n",
        &[
            "domains.conf:6:1: providers.google.reply[0].match: is not a regular expression: \
             unclosed group",
            "domains.conf:7:1: providers.google.reply[0].class: \"slow\" is not a value of this \
             key; write \"unknown_mailbox\", \"mailbox_disabled\", \"mailbox_full\", \"too_big\", \
             \"split\", \"recipient_rate\", \"greylisted\", \"rate_limited\", \"connections\", \
             \"system\", \"blocked\", \"policy\", \"authentication\", \"spam\", \"content\", \
             \"sender\", \"login\", \"protocol\", \"domain\", \"loop\", \"network\", \"tls\", \
             \"dns\" or \"unknown\"",
            "domains.conf:12:1: providers.google.reply[1].rest: is for rules of scope \"source\" \
             only: other messages go on to the provider",
        ],
    );
}

#[test]
fn problems_of_the_file_name_that_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("postrider.conf");
    let text = format!(
        "{}[delivery]\nproviders_file = \"p.toml\"\n",
        support::STATIC
    );
    let error = || Static::parse(&text, &path).unwrap_err().to_string();
    let shown = dir.path().display();
    let missing = error();
    assert!(missing.starts_with(&format!(
        "{shown}/postrider.conf:6:1: delivery.providers_file:"
    )));
    assert!(missing.contains("p.toml cannot be read"), "{missing}");
    fs::write(dir.path().join("p.toml"), "[google]\n\nconnections = 0\n").unwrap();
    assert_eq!(
        error(),
        format!("{shown}/p.toml:3:1: google.connections: must be between 1 and 10000")
    );
    fs::write(dir.path().join("p.toml"), "[google\n").unwrap();
    assert!(error().starts_with(&format!("{shown}/p.toml:1:8: not valid TOML")));
}

/// Example replies, from the providers' pages and from logs.
#[test]
fn replies_of_providers() {
    use ReplyScope::{Domain, Message, Source};
    let providers = shipped();
    let by_name = |name: &str| providers.iter().find(|it| it.name == name).unwrap();
    for (name, reply, class, scope) in [
        (
            "google",
            "421 4.7.28 Gmail has detected an unusual rate of unsolicited mail originating from \
             your IP address. To protect our users from spam, mail sent from your IP address has \
             been temporarily rate limited.",
            Class::RateLimited,
            Source,
        ),
        (
            "google",
            "421 4.7.28 Gmail has detected an unusual rate of unsolicited mail originating from \
             your SPF domain [a.example 35]. To protect our users",
            Class::RateLimited,
            Domain,
        ),
        (
            "google",
            "421 4.7.28 Gmail has detected an unusual rate of unsolicited mail originating from \
             your DKIM domain [a.example 35].",
            Class::RateLimited,
            Domain,
        ),
        (
            "google",
            "421 4.7.28 Gmail has detected an unusual rate of unsolicited mail containing one of \
             your URL domains.",
            Class::RateLimited,
            Message,
        ),
        (
            "google",
            "550 5.7.25 The IP address sending this message does not have a PTR record",
            Class::Authentication,
            Source,
        ),
        (
            "google",
            "421 4.7.23 The sending IP address doesn't match",
            Class::Authentication,
            Source,
        ),
        (
            "google",
            "550 5.7.26 Your email has been blocked because the sender is unauthenticated.",
            Class::Authentication,
            Domain,
        ),
        (
            "google",
            "550 5.7.27 SPF does not pass",
            Class::Authentication,
            Domain,
        ),
        (
            "google",
            "421 4.7.29 not over TLS",
            Class::Authentication,
            Source,
        ),
        (
            "google",
            "550 5.7.30 DKIM does not pass",
            Class::Authentication,
            Domain,
        ),
        (
            "google",
            "550 5.7.31 no DMARC record",
            Class::Authentication,
            Domain,
        ),
        (
            "google",
            "421 4.7.32 From header is not aligned",
            Class::Authentication,
            Domain,
        ),
        (
            "google",
            "550 5.7.40 DMARC policy is missing",
            Class::Authentication,
            Domain,
        ),
        (
            "outlook",
            "451 4.7.500 Server busy. Please try again later from [192.0.2.1]. (S77719)",
            Class::RateLimited,
            Source,
        ),
        (
            "outlook",
            "421 RP-001 (COL004-MC1F5) Unfortunately, some messages from 192.0.2.1 weren't sent.",
            Class::RateLimited,
            Source,
        ),
        (
            "outlook",
            "451 4.7.650 The mail server [192.0.2.1] has been temporarily rate limited due to IP reputation. (S775)",
            Class::Blocked,
            Source,
        ),
        (
            "outlook",
            "550 5.7.1 Unfortunately, messages from [192.0.2.1] weren't sent. Part of their network is on our block list (S3150).",
            Class::Blocked,
            Source,
        ),
        (
            "outlook",
            "550 5.7.1 Unfortunately, messages from [192.0.2.1] weren't sent (S3140).",
            Class::Blocked,
            Source,
        ),
        (
            "microsoft-365",
            "550 5.7.511 Access denied, banned sender[192.0.2.1].",
            Class::Blocked,
            Source,
        ),
        (
            "microsoft-365",
            "550 5.7.606 Access denied, banned sending IP [192.0.2.1].",
            Class::Blocked,
            Source,
        ),
        (
            "microsoft-365",
            "550 5.7.649 Access denied, banned sending IP [192.0.2.1].",
            Class::Blocked,
            Source,
        ),
        (
            "outlook",
            "550 5.7.515 Access denied, sending domain a.example doesn't meet the required authentication level.",
            Class::Authentication,
            Domain,
        ),
        (
            "microsoft-365",
            "550 5.4.1 Recipient address rejected: Access denied. [DB5EUR01FT032]",
            Class::UnknownMailbox,
            Message,
        ),
        (
            "yahoo",
            "421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to unexpected volume or user complaints - 4.16.55.1",
            Class::Blocked,
            Source,
        ),
        (
            "yahoo",
            "421 4.7.1 [TS03] All messages from 192.0.2.1 will be permanently deferred",
            Class::Blocked,
            Source,
        ),
        (
            "yahoo",
            "421 4.7.0 [IPTS04] Messages from 192.0.2.1 temporarily deferred",
            Class::Blocked,
            Source,
        ),
        (
            "yahoo",
            "553 5.7.1 [BL21] Connections will not be accepted from 192.0.2.1, because the ip is in Spamhaus's list",
            Class::Blocked,
            Source,
        ),
        (
            "yahoo",
            "554 delivery error: dd This user doesn't have a yahoo.com account (x@yahoo.com) [0]",
            Class::UnknownMailbox,
            Message,
        ),
        (
            "apple",
            "421 4.7.0 [HC1] too many messages",
            Class::RateLimited,
            Source,
        ),
        (
            "apple",
            "554 5.7.1 [HM08] Message rejected due to local policy.",
            Class::Spam,
            Message,
        ),
        (
            "apple",
            "550 5.7.0 [CS01] Message rejected due to local policy.",
            Class::Spam,
            Message,
        ),
        (
            "comcast",
            "421 4.1.0 192.0.2.1 Throttled - try again later. Please see https://postmaster.comcast.net/smtp-error-codes.php#RL000001",
            Class::RateLimited,
            Source,
        ),
        (
            "comcast",
            "554 5.4.1 192.0.2.1 blocked. Please see https://postmaster.comcast.net/smtp-error-codes.php#BL000000",
            Class::Blocked,
            Source,
        ),
        (
            "orange",
            "421 mwinf5c04 ME Trop de connexions, veuillez verifier votre configuration. Too many connections, slow down. OFR004_104 [104]",
            Class::Connections,
            Source,
        ),
        (
            "gmx",
            "554 Transaction failed Reject due to policy restrictions. For explanation visit https://postmaster.gmx.net/",
            Class::RateLimited,
            Source,
        ),
        (
            "t-online",
            "554 IP=192.0.2.1 - A problem occurred. Ask your postmaster for help or to contact tosa@rx.t-online.de. (BL)",
            Class::Blocked,
            Source,
        ),
        (
            "qq",
            "550 Ip frequency limited. http://service.mail.qq.com/",
            Class::RateLimited,
            Source,
        ),
        (
            "netease",
            "554 DT:SPM 163 smtp4,abc http://mail.163.com/help/help_spam_16.htm",
            Class::Spam,
            Message,
        ),
    ] {
        let rule = by_name(name).replies.find(reply);
        let rule = rule.unwrap_or_else(|| panic!("{name} has no rule for {reply}"));
        assert_eq!((rule.class, rule.scope), (class, scope), "{reply}");
        let two_hours = Some(Duration::from_secs(2 * 3600));
        let rests = name == "yahoo" && reply.starts_with("421");
        assert_eq!(rule.rest, two_hours.filter(|_| rests), "{reply}");
    }
    for (name, reply) in [
        (
            "google",
            "450 4.2.1 The user you are trying to contact is receiving mail too quickly",
        ),
        ("google", "550 5.1.1 4.7.28 is not the code"),
        ("outlook", "550 5.7.650 x"),
        (
            "outlook",
            "550 5.5.0 Requested action not taken: mailbox unavailable (S2017062302).",
        ),
        ("yahoo", "421 4.7.0 try later"),
        ("t-online", "550 5.1.1 user unknown"),
    ] {
        assert!(
            by_name(name).replies.find(reply).is_none(),
            "{name}: {reply}"
        );
    }
}

/// `POSTRIDER_BLESS=1 cargo test -p postrider-config` writes the table again.
#[test]
fn the_page_has_a_table_of_the_shipped_entries() {
    const BEGIN: &str = "<!-- The shipped entries. A test makes this table from the data. -->\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/providers.md");
    let page = fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let end = rest.find("\n\n").unwrap() + 1;
    let (found, after) = rest.split_at(end);
    let expected = table(&shipped());
    if std::env::var_os("POSTRIDER_BLESS").is_some() {
        fs::write(&path, format!("{before}{BEGIN}{expected}{after}")).unwrap();
    } else {
        assert!(
            found == expected,
            "the table in docs/providers.md differs from providers.toml; run the test with \
             POSTRIDER_BLESS=1"
        );
    }
}

fn table(providers: &Providers) -> String {
    let mut text = String::from(
        "| entry | MX hosts | roll-up | connections | messages each | TLS | reply rules | from |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    let default = std::iter::once(providers.default());
    for provider in providers.iter().chain(default) {
        let hosts: Vec<&str> = provider.mx.iter().map(Domain::ascii).collect();
        text.push_str(&format!(
            "| {} | {} | {} | {} | {} | {} | {} | {} |\n",
            provider.name,
            hosts.join(", "),
            if provider.rollup { "yes" } else { "no" },
            provider.connections,
            provider.messages_per_connection,
            provider.tls,
            provider.replies.iter().count(),
            provider.from,
        ));
    }
    text
}
