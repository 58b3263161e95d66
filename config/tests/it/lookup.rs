//! Look-ups: accounts of addresses, logins, senders and routes.

use postrider_config::{CertainRoutes, Dynamic, Match, Target};
use postrider_smtp::{Domain, Host};

use crate::support::{address, dynamic, statics};

const TEXT: &str = r#"
routes = [
    { to_domain = ["slow.example"], minimum_attempts = 2, transport = "fail" },
    { from_domain = ["example.org"], to_domain = [".example.net"], transport = "relay" },
]

[domains."example.org"]
localpart_catchall_separators = ["+", "--"]
aliases.team = { addresses = ["alice@example.org", "Bob@case.example"], allow_msg_from = true }
aliases.quiet = { addresses = ["alice@example.org"] }
dmarc = { account = "alice" }
routes = [{ to_domain = ["domain.example"], transport = "domain" }]

[domains."case.example"]
localpart_case_sensitive = true

[domains."☺.example"]
disabled = true

[accounts.alice]
domain = "example.org"
destinations."alice@example.org" = { mailbox = "Alice" }
destinations."élan@example.org" = {}
destinations."alice@☺.example" = {}
from_id_login_addresses = ["alice+id@example.org"]
routes = [{ to_domain = ["account.example", "domain.example"], transport = "account" }]

[accounts.bob]
domain = "case.example"
destinations."Bob@case.example" = {}
destinations."\u00c5@case.example" = { mailbox = "Ring" }
destinations."@case.example" = { mailbox = "Rest" }
"#;

fn config() -> Dynamic {
    let transports = ["fail", "relay", "domain", "account"]
        .map(|name| format!("transports.{name}.fail = {{}}\n"))
        .concat();
    // Keys of the root table come before the first table.
    let text = format!("{transports}{}", crate::support::STATIC);
    dynamic(
        TEXT,
        &postrider_config::Static::parse(&text, "postrider.conf").unwrap(),
    )
}

/// The result of a look-up as text, such as `account mailbox by tail`.
fn found(config: &Dynamic, text: &str) -> String {
    let address = address(text);
    let Some(found) = config.lookup(&address) else {
        return "nobody".to_owned();
    };
    let tail = found
        .tail
        .map(|tail| format!(" +{tail}"))
        .unwrap_or_default();
    let disabled = if found.disabled() { " disabled" } else { "" };
    match found.target {
        Target::Account {
            name,
            destination,
            by,
            ..
        } => {
            assert_eq!(found.account(), Some(name));
            let mailbox = &destination.mailbox;
            format!("{name} {mailbox} {by:?}{tail}{disabled}")
        }
        Target::Alias { local, alias } => {
            format!("alias {local} of {}{tail}", alias.addresses.len())
        }
    }
}

/// RFC 5321 §4.5.1: postmaster is without case, whatever the domain says of others.
#[test]
fn required_names_are_without_case() {
    let text = r#"
[domains."case.example"]
localpart_case_sensitive = true
[accounts.alice]
domain = "case.example"
destinations."postmaster@case.example" = { mailbox = "P" }
destinations."Abuse@case.example" = { mailbox = "A" }
destinations."x@case.example" = { mailbox = "X" }
"#;
    let config = dynamic(text, &statics(""));
    assert_eq!(found(&config, "Postmaster@case.example"), "alice P Exact");
    assert_eq!(found(&config, "abuse@case.example"), "alice A Exact");
    assert_eq!(found(&config, "X@case.example"), "nobody");
}

#[test]
fn reports_about_the_server_reach_their_account() {
    let reports = "[host_tls_rpt]\naccount = \"alice\"\nmailbox = \"TLS\"\n";
    let at_host = address("TLSreports@mail.example.org");
    let domain = |more: &str| {
        format!(
            "{more}[domains.\"example.org\"]\n[accounts.alice]\ndomain = \"example.org\"\n\
            destinations.\"alice@example.org\" = {{}}\n"
        )
    };
    let own = "destinations.\"@mail.example.org\" = {}\n";
    let host = "[domains.\"mail.example.org\"]\n";
    for text in [domain(""), domain(host), format!("{}{own}", domain(host))] {
        let config = dynamic(&text, &statics(reports));
        let found = config.lookup(&at_host).unwrap();
        let Target::Account {
            name,
            destination,
            by,
            ..
        } = found.target
        else {
            panic!("{found:?}");
        };
        assert_eq!((name, &*destination.mailbox), ("alice", "TLS"));
        assert_eq!(by, Match::Report);
        assert_eq!(config.lookup(&address("other@example.org")), None);
    }
    let config = dynamic(&domain(""), &statics(""));
    assert_eq!(config.lookup(&at_host), None);
    let taken = format!(
        "{}destinations.\"tlsreports@mail.example.org\" = {{}}\n",
        domain(host)
    );
    let errors = Dynamic::parse(&taken, "domains.conf", &statics(reports)).unwrap_err();
    assert!(
        errors.to_string().contains("is the address for reports"),
        "{errors}"
    );
    let reports = reports.replace("alice", "bob");
    let errors = Dynamic::parse(&domain(""), "domains.conf", &statics(&reports)).unwrap_err();
    assert!(
        errors
            .to_string()
            .contains("host_tls_rpt.account: names account \"bob\""),
        "{errors}"
    );
}

#[test]
fn addresses_are_found() {
    let config = config();
    for (text, expected) in [
        ("alice@example.org", "alice Alice Exact"),
        ("ALICE@EXAMPLE.org", "alice Alice Exact"),
        (
            "Alice+Tail+More@example.org",
            "alice Alice Exact +Tail+More",
        ),
        ("alice--x+y@example.org", "alice Alice Exact +x+y"),
        ("alice-x@example.org", "nobody"),
        ("alice+@example.org", "alice Alice Exact +"),
        ("+alice@example.org", "nobody"),
        ("ÉLAN@example.org", "alice Inbox Exact"),
        // The accent as a character of its own.
        ("E\u{301}lan@example.org", "alice Inbox Exact"),
        ("\"alice\"@example.org", "alice Alice Exact"),
        ("Team+x@example.org", "alias team of 2 +x"),
        ("dmarcreports@example.org", "alice DMARC Report"),
        ("alice@xn--74h.example", "alice Inbox Exact disabled"),
        ("bob@☺.example", "nobody"),
        ("Bob@case.example", "bob Inbox Exact"),
        ("\u{c5}@case.example", "bob Ring Exact"),
        ("A\u{30a}@case.example", "bob Ring Exact"),
        ("a\u{30a}@case.example", "bob Rest CatchAll"),
        ("bob@case.example", "bob Rest CatchAll"),
        ("bob+x@case.example", "bob Rest CatchAll"),
        ("postmaster@mail.example.org", "alice Postmaster Postmaster"),
        ("PostMaster@MAIL.example.org", "alice Postmaster Postmaster"),
        ("root@mail.example.org", "nobody"),
        ("Abuse@mail.example.org", "alice Postmaster Postmaster"),
        // Each domain has these two, even if the file does not name them.
        ("postmaster@example.org", "alice Postmaster Postmaster"),
        (
            "ABUSE+report7@example.org",
            "alice Postmaster Postmaster +report7",
        ),
        ("abuse@☺.example", "alice Postmaster Postmaster disabled"),
        ("abuse@case.example", "bob Rest CatchAll"),
        ("abuser@example.org", "nobody"),
        ("alice@[192.0.2.1]", "nobody"),
        ("alice@sub.example.org", "nobody"),
    ] {
        assert_eq!(found(&config, text), expected, "{text}");
    }
    assert!(matches!(
        config.postmaster().unwrap().target,
        Target::Account {
            name: "alice",
            by: Match::Postmaster,
            ..
        }
    ));
}

#[test]
fn logins() {
    let config = config();
    for (user, account) in [
        ("alice@example.org", Some("alice")),
        ("Alice+Any@Example.org", Some("alice")),
        ("anyone@case.example", Some("bob")),
        ("team@example.org", None),
        ("dmarcreports@example.org", None),
        ("postmaster@mail.example.org", None),
        ("alice", None),
        ("", None),
    ] {
        let login = config.login(user);
        assert_eq!(login.as_ref().map(|login| login.account), account, "{user}");
    }
    let login = config.login("Alice+Any@Example.org").unwrap();
    assert_eq!(login.address, address("Alice+Any@example.org"));
    assert!(!config.uses_from_id("alice", &login.address));
    assert!(config.uses_from_id("alice", &address("alice+id@EXAMPLE.org")));
    assert!(!config.uses_from_id("alice", &address("Alice+id@example.org")));
    assert!(!config.uses_from_id("bob", &address("alice+id@example.org")));
}

#[test]
fn senders() {
    let config = config();
    for (account, sender, may) in [
        ("alice", "alice@example.org", true),
        ("alice", "ALICE+news@example.org", true),
        ("alice", "Bob@case.example", false),
        ("bob", "anyone@case.example", true),
        ("bob", "alice@example.org", false),
        ("alice", "team@example.org", true),
        ("bob", "team@example.org", true),
        ("alice", "quiet@example.org", false),
        ("alice", "postmaster@mail.example.org", false),
        ("alice", "dmarcreports@example.org", false),
        ("alice", "alice@elsewhere.example", false),
        ("nobody", "alice@example.org", false),
    ] {
        assert_eq!(
            config.may_send_from(account, &address(sender)),
            may,
            "{account} {sender}"
        );
    }
}

#[test]
fn routes() {
    let config = config();
    let domain = |text: &str| Domain::parse(text).unwrap();
    for (account, from, to, attempts, transport) in [
        (
            "alice",
            "example.org",
            "account.example",
            0,
            Some("account"),
        ),
        ("bob", "example.org", "account.example", 0, None),
        ("alice", "example.org", "domain.example", 0, Some("account")),
        ("bob", "example.org", "domain.example", 0, Some("domain")),
        ("bob", "case.example", "domain.example", 0, None),
        ("bob", "example.org", "a.example.net", 0, Some("relay")),
        ("bob", "case.example", "a.example.net", 0, None),
        ("bob", "case.example", "slow.example", 1, None),
        ("bob", "case.example", "slow.example", 2, Some("fail")),
        ("gone", "gone.example", "slow.example", 9, Some("fail")),
    ] {
        let found = config.routes_for(account, Some(&domain(from)), Some(&domain(to)), attempts);
        assert_eq!(found, transport, "{account} {from} {to} {attempts}");
    }
    assert_eq!(config.routes_for("bob", None, None, 9), None);
    assert!(config.is_local(&Host::Domain(domain("Example.ORG"))));
    assert!(!config.is_local(&Host::Domain(domain("mail.example.org"))));
}

#[test]
fn routes_are_certain_unless_senders_or_attempts_count() {
    let config = config();
    let certain = CertainRoutes::of(&config);
    for (account, to, transport) in [
        ("alice", "account.example", Some("account")),
        ("bob", "account.example", Some("")),
        ("alice", "domain.example", Some("account")),
        ("bob", "domain.example", None),
        ("bob", "slow.example", None),
        ("bob", "a.example.net", None),
        ("bob", "example.com", Some("")),
        ("gone", "account.example", Some("")),
    ] {
        let to = Domain::parse(to).unwrap();
        assert_eq!(
            certain.transport(account, Some(&to)),
            transport,
            "{account} {to}"
        );
    }
    assert_eq!(certain.transport("alice", None), Some(""));
    let mut all = config.clone();
    all.routes[0].to_domain.clear();
    all.routes[0].minimum_attempts = 0;
    assert_eq!(CertainRoutes::of(&all).transport("bob", None), Some("fail"));
}

#[test]
fn a_changed_route_is_seen_wherever_it_stands() {
    let config = config();
    assert!(config.has_routes_of(&config));
    let mut same = config.clone();
    same.accounts.remove("bob");
    same.accounts.get_mut("alice").unwrap().description = "x".into();
    assert!(config.has_routes_of(&same), "only the routes count");
    let mut everywhere = config.clone();
    everywhere.routes.reverse();
    let mut account = config.clone();
    account.accounts.get_mut("alice").unwrap().routes.clear();
    let mut domain = config.clone();
    domain
        .domains
        .remove(&Domain::parse("example.org").unwrap());
    for other in [everywhere, account, domain] {
        assert!(!config.has_routes_of(&other));
        assert!(!other.has_routes_of(&config));
    }
}

#[test]
fn a_catch_all_alone_gets_all_mail() {
    let config = dynamic(
        "[domains.localhost]\n[accounts.alice]\ndomain = \"localhost\"\ndestinations.\"@localhost\" = {}\n",
        &statics(""),
    );
    assert_eq!(
        found(&config, "\"any thing\"@localhost"),
        "alice Inbox CatchAll"
    );
}
