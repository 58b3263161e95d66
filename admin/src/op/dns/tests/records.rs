//! The records of a domain, in all their forms.
//!
//! `POSTRIDER_BLESS=1 cargo test -p postrider-admin --lib` writes the expected files again. Read
//! the diff before you commit it.

use std::path::Path;

use postrider_dns::Record;

use super::{Files, digests};
use crate::op::dns::{Ca, HostFacts, Need, RecordItem, Wanted, wanted};

fn golden(name: &str, text: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/dns");
    let path = folder.join(name);
    if std::env::var_os("POSTRIDER_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "{name}");
}

fn items(wanted: &[Wanted]) -> Vec<RecordItem> {
    wanted.iter().map(Wanted::item).collect()
}

#[test]
fn the_records_of_a_domain() {
    let files = Files::new("", |_, _| {});
    let mut facts = files.facts();
    facts.cas[0].account_uris = vec!["https://acme.example/acct/1".into()];
    let domain = "example.org".parse().unwrap();
    let config = &files.config.domains[&domain];
    let items = items(&wanted(&files.statics, config, &domain, &facts));
    golden("example.org.zone", &RecordItem::zone_file(&items));
    golden("example.org.txt", &RecordItem::text(&items));
    let json = serde_json::to_string_pretty(&items).unwrap();
    golden("example.org.json", &format!("{json}\n"));
    let tlsa: Vec<&RecordItem> = items.iter().filter(|it| it.record_type == "TLSA").collect();
    let expected = digests(&facts)
        .into_iter()
        .map(|hex| format!("3 1 1 {hex}"));
    assert!(tlsa.iter().map(|it| it.content.clone()).eq(expected));
}

#[test]
fn the_records_of_the_host_and_of_a_bare_domain() {
    let files = Files::new("", |statics, dynamics| {
        // No certificates by ACME, no keys that stay, and no services but mail.
        *statics = "hostname = \"mail.example.org\"\npostmaster.account = \"app\"\n\
            host_tls_rpt.account = \"app\"\n[listeners.l]\nips = [\"192.0.2.10\"]\nsmtp = {}\n"
            .to_owned();
        *dynamics = dynamics.replace("dkim.s", "#");
    });
    let facts = files.facts();
    assert_eq!(facts.tls_keys, []);
    for name in ["reports.example", "mail.example.org"] {
        golden(
            &format!("{name}.zone"),
            &RecordItem::zone_file(&items(&files.wanted(name))),
        );
    }
}

#[test]
fn without_dnssec_keys_wait() {
    let files = Files::new("", |_, _| {});
    let facts = HostFacts {
        dnssec: false,
        ..files.facts()
    };
    let domain = "example.org".parse().unwrap();
    let config = &files.config.domains[&domain];
    let records = wanted(&files.statics, config, &domain, &facts);
    let tlsa: Vec<&Wanted> = records
        .iter()
        .filter(|it| matches!(it.record, Record::Tlsa(_)))
        .collect();
    assert_eq!(tlsa.len(), 2);
    assert!(tlsa.iter().all(|it| it.need == Need::Later));
    let zone = RecordItem::zone_file(&items(&records));
    assert!(
        zone.contains("\n; _25._tcp.mail.example.org. 300 IN TLSA 3 1 1 "),
        "{zone}"
    );
}

#[test]
fn addresses_are_those_of_the_listeners_for_mail() {
    let listener = |lines: &str| {
        let files = Files::new("", |statics, dynamics| {
            *statics = format!(
                "hostname = \"mail.example.org\"\npostmaster.account = \"app\"\n[listeners.a]\n\
                {lines}\n[listeners.web]\nips = [\"203.0.113.9\"]\nwebapi_http = {{}}\n"
            );
            *dynamics = dynamics.replace("dkim.s", "#");
        });
        let interfaces = [
            "127.0.0.1",
            "10.0.0.1",
            "192.0.2.5",
            "::1",
            "fe80::1",
            "2001:db8::5",
        ];
        let interfaces = interfaces.map(|ip| ip.parse().unwrap());
        let (facts, warnings) = HostFacts::gather(&files.statics, &interfaces);
        let shown: Vec<String> = facts.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(warnings.is_empty(), !shown.is_empty(), "{warnings:?}");
        shown.join(" ")
    };
    for (lines, expected) in [
        ("ips = [\"192.0.2.10\"]\nsmtp = {}", "192.0.2.10"),
        ("ips = [\"0.0.0.0\"]\nsmtp = {}", "192.0.2.5"),
        (
            "ips = [\"0.0.0.0\", \"::\"]\nsmtp = {}",
            "192.0.2.5 2001:db8::5",
        ),
        (
            "ips = [\"10.0.0.1\"]\nnat_ips = [\"192.0.2.7\"]\nsmtp = {}",
            "192.0.2.7",
        ),
        ("ips = [\"10.0.0.1\"]\nsmtp = {}", "10.0.0.1"),
        (
            "ips = [\"10.0.0.1\", \"192.0.2.10\"]\nsmtp = {}",
            "192.0.2.10",
        ),
        ("ips = [\"127.0.0.1\"]\nsmtp = {}", ""),
        ("ips = [\"192.0.2.10\"]\nwebapi_http = {}", ""),
    ] {
        assert_eq!(listener(lines), expected, "{lines}");
    }
}

#[test]
fn a_key_file_that_is_no_key_is_told() {
    let files = Files::new("", |statics, _| {
        *statics = statics.replace("\"ed25519.pem\"]", "\"no.pem\", \"missing.pem\"]");
    });
    postrider_config::replace_private(&files.statics.path.with_file_name("no.pem"), b"no key")
        .unwrap();
    let (facts, warnings) = HostFacts::gather(&files.statics, &[]);
    assert_eq!(facts.tls_keys.len(), 1);
    let [no_key, missing] = warnings.as_slice() else {
        panic!("{warnings:?}");
    };
    assert!(no_key.contains("no.pem: is not a PEM file"), "{no_key}");
    assert!(missing.contains("missing.pem: cannot be read"), "{missing}");
    let issuer = "letsencrypt.org".parse().unwrap();
    let ca = Ca {
        issuer,
        directories: vec!["https://acme-v02.api.letsencrypt.org/directory".into()],
        account_uris: Vec::new(),
    };
    assert_eq!(facts.cas, [ca]);
}
