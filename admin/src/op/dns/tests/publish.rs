//! Publishing at a primary server of the test: what is ours is written, and what belongs to others
//! stays.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use postrider_dns::{
    Caa, FakePrimary, FakeResolver, KeyAlgorithm, Mx, Record, RecordType, Srv, UpdateKey,
};
use postrider_queue::{Dialer, Dialing};
use tokio::net::{TcpListener, TcpStream};

use super::{Files, NOW, Zone};
use crate::{Code, op::dns::Published, op::dns::records::tlsa_of};

const KEY: UpdateKey<'_> = UpdateKey {
    name: "postrider",
    algorithm: KeyAlgorithm::HmacSha256,
    secret: b"a secret",
};

/// A primary server, and the dialer that leads to it.
#[derive(Clone)]
struct Primary {
    zone: FakePrimary,
    address: SocketAddr,
}

impl Primary {
    async fn start(key: UpdateKey<'_>) -> Self {
        let zone = FakePrimary::new("example.org", key, NOW as u64).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = zone.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = server.clone();
                tokio::spawn(async move { server.serve(stream).await });
            }
        });
        Self { zone, address }
    }

    fn add(&self, name: &str, record: Record) {
        self.zone.add(name, &record).unwrap();
    }

    fn add_text(&self, name: &str, text: &str) {
        self.add(name, Record::Txt(text.as_bytes().to_vec()));
    }

    fn texts(&self, name: &str) -> Vec<String> {
        let records = self.zone.records(name, RecordType::Txt).into_iter();
        let texts = records.map(|record| match record {
            Record::Txt(text) => String::from_utf8(text).unwrap(),
            other => panic!("{other:?}"),
        });
        texts.collect()
    }
}

impl Dialer for Primary {
    fn dial(&self, address: SocketAddr, _: Option<IpAddr>) -> Dialing {
        assert_eq!(address, "192.0.2.53:53".parse().unwrap());
        let target = self.address;
        Box::pin(async move { Ok(TcpStream::connect(target).await?.into()) })
    }
}

const UPDATE: &str = "\n[dns_update.\"example.org\"]\nserver = \"192.0.2.53:53\"\n\
    key_name = \"postrider\"\nkey_file = \"tsig.key\"\n";

fn files() -> Files {
    Files::new("", |statics, _| {
        *statics = statics.replace("tls.ca_files = [\"ca.pem\"]\n", "");
        *statics += UPDATE;
    })
}

async fn publish(files: &Files, primary: &Primary, resolver: FakeResolver) -> Published {
    let world = files.world(resolver, Arc::new(primary.clone()));
    world.publish("example.org", false).await.unwrap()
}

/// The names, types and reasons of what was left.
fn left(published: &Published) -> Vec<String> {
    let left = published.left.iter();
    left.map(|it| format!("{} {}: {}", it.record_type, it.name, it.reason))
        .collect()
}

#[tokio::test]
async fn an_empty_zone_gets_all_records_once() {
    let (files, primary) = (files(), Primary::start(KEY).await);
    let resolver = Zone::right(&files).resolver();
    let world = files.world(resolver.clone(), Arc::new(primary.clone()));
    let planned = world.publish("example.org", true).await.unwrap();
    assert!(!planned.written && primary.zone.updates() == 0);
    let published = publish(&files, &primary, resolver.clone()).await;
    assert!(published.written);
    assert_eq!(
        (&planned.changes, &planned.left),
        (&published.changes, &published.left)
    );
    assert_eq!(primary.zone.updates(), 1, "one step for the zone");
    let outside = "TXT example.org._report._dmarc.reports.example.: no zone of dns_update has the \
        name";
    let caa = "CAA example.org.: every CA may issue certificates now; with the record, the \
        certificates of other servers below the name could fail";
    assert_eq!(left(&published), [outside, caa]);
    for wanted in files.wanted("example.org") {
        let there = primary
            .zone
            .records(&wanted.name, wanted.record.record_type());
        let missing = !there.contains(&wanted.record);
        let is_left =
            matches!(wanted.record, Record::Caa(_)) || wanted.name.ends_with("reports.example");
        assert_eq!(missing, is_left, "{wanted:?}");
    }
    // The second time there is nothing to do.
    let again = publish(&files, &primary, resolver).await;
    assert!(!again.written && again.changes.is_empty(), "{again:?}");
    assert_eq!(again.left, published.left);
    assert_eq!(primary.zone.updates(), 1);
}

#[tokio::test]
async fn records_of_others_stay() {
    let (files, primary) = (files(), Primary::start(KEY).await);
    let mx = Record::Mx(Mx {
        preference: 5,
        host: "mx.example.net".into(),
    });
    let imap = Record::Srv(Srv {
        priority: 0,
        weight: 0,
        port: 143,
        target: "imap.example.net".into(),
    });
    let key = Record::Tlsa(tlsa_of(&[9; 32]));
    let other_ca = Record::Caa(Caa {
        critical: false,
        tag: "issue".into(),
        value: b"other-ca.example".to_vec(),
    });
    primary.add("example.org", mx.clone());
    primary.add("example.org", other_ca.clone());
    primary.add_text("example.org", "some-verification=1");
    primary.add("_imap._tcp.example.org", imap.clone());
    primary.add("_25._tcp.mail.example.org", key.clone());
    primary.add("smtp.example.org", Record::A([203, 0, 113, 1].into()));
    let alias = Record::Cname("elsewhere.example.net".into());
    primary.add("autoconfig.example.org", alias.clone());
    primary.add("_dmarc.example.org", alias.clone());
    let published = publish(&files, &primary, Zone::right(&files).resolver()).await;
    assert!(
        published
            .changes
            .iter()
            .all(|change| change.removed.is_empty()),
        "{published:?}"
    );
    for (name, record) in [
        ("example.org", &mx),
        ("example.org", &other_ca),
        ("_imap._tcp.example.org", &imap),
        ("_25._tcp.mail.example.org", &key),
        ("autoconfig.example.org", &alias),
        ("_dmarc.example.org", &alias),
    ] {
        let there = primary.zone.records(name, record.record_type());
        assert!(there.contains(record), "{name}");
    }
    assert_eq!(primary.zone.records("example.org", RecordType::Mx), [mx]);
    assert_eq!(
        primary.zone.records("smtp.example.org", RecordType::Cname),
        []
    );
    let texts = primary.texts("example.org");
    assert_eq!(texts[0], "some-verification=1");
    assert!(texts[1].starts_with("v=spf1 ip4:192.0.2.10 "), "{texts:?}");
    // Beside a foreign CA, ours is added: it takes nothing from anybody.
    assert_eq!(
        primary.zone.records("example.org", RecordType::Caa).len(),
        2
    );
    assert_eq!(
        primary
            .zone
            .records("_25._tcp.mail.example.org", RecordType::Tlsa)
            .len(),
        3
    );
    let left = left(&published);
    let other = "there is another record, perhaps of another server";
    for part in [
        &format!("MX example.org.: {other}: 5 mx.example.net."),
        &format!("SRV _imap._tcp.example.org.: {other}: 0 0 143 imap.example.net."),
        "CNAME smtp.example.org.: the name has addresses of its own: 203.0.113.1",
        &format!("CNAME autoconfig.example.org.: {other}: elsewhere.example.net."),
        "TXT _dmarc.example.org.: the name is an alias of elsewhere.example.net",
    ] {
        assert!(left.iter().any(|it| it == part), "{part}: {left:#?}");
    }
}

#[tokio::test]
async fn a_wildcard_is_no_obstacle() {
    let (files, primary) = (files(), Primary::start(KEY).await);
    primary.add_text("*.example.org", "v=spf1 -all");
    primary.add("*.example.org", Record::A([203, 0, 113, 1].into()));
    let other = Record::Cname("x.example.net".into());
    primary.add("*._tcp.example.org", other.clone());
    let published = publish(&files, &primary, Zone::right(&files).resolver()).await;
    for wanted in files.wanted("example.org") {
        let there = primary
            .zone
            .records(&wanted.name, wanted.record.record_type());
        let is_left = published
            .left
            .iter()
            .any(|it| it.name == format!("{}.", wanted.name));
        assert!(is_left || there.contains(&wanted.record), "{wanted:?}");
    }
    assert_eq!(published.left.len(), 2, "{:#?}", published.left);
    assert_eq!(
        primary
            .zone
            .records("*._tcp.example.org", RecordType::Cname),
        [other]
    );
    assert_eq!(primary.texts("*.example.org"), ["v=spf1 -all"]);
}

#[tokio::test]
async fn our_old_records_are_replaced_and_policies_are_completed() {
    let (files, primary) = (files(), Primary::start(KEY).await);
    for (name, text) in [
        ("ed._domainkey.example.org", "v=DKIM1; k=ed25519; p=b2xk"),
        ("ed._domainkey.example.org", "a note"),
        ("_mta-sts.example.org", "v=STSv1; id=1"),
        ("example.org", "v=spf1 include:_spf.example.net -all"),
        (
            "_dmarc.example.org",
            "v=DMARC1; p=none; rua=mailto:x@example.net!1m; pct=50",
        ),
        ("_smtp._tls.example.org", "v=TLSRPTv1;rua="),
    ] {
        primary.add_text(name, text);
    }
    let mut zone = Zone::right(&files);
    zone.add_text("_spf.example.net", "v=spf1 ip4:192.0.2.0/24 -all");
    let published = publish(&files, &primary, zone.resolver()).await;
    assert!(published.written);
    let ed = primary.texts("ed._domainkey.example.org");
    assert_eq!(ed[0], "a note");
    assert_eq!(ed[1..], [zone.text("ed._domainkey.example.org")]);
    for (name, text) in [
        ("_mta-sts.example.org", "v=STSv1; id=20260101"),
        (
            "example.org",
            "v=spf1 include:_spf.example.net ip4:198.51.100.7 ip6:2001:db8::10 -all",
        ),
        (
            "_dmarc.example.org",
            "v=DMARC1; p=none; \
            rua=mailto:x@example.net!1m,mailto:dmarcreports@reports.example!10m; pct=50",
        ),
        (
            "_smtp._tls.example.org",
            "v=TLSRPTv1; rua=mailto:tlsreports@example.org",
        ),
    ] {
        assert_eq!(primary.texts(name), [text], "{name}");
    }
    let again = publish(&files, &primary, zone.resolver()).await;
    assert!(again.changes.is_empty(), "{again:?}");
}

#[tokio::test]
async fn what_a_person_must_decide_is_left() {
    let (files, primary) = (files(), Primary::start(KEY).await);
    for (name, text) in [
        ("example.org", "v=spf1 include:gone.example.net -all"),
        ("_dmarc.example.org", "v=DMARC1; p=none"),
        ("_dmarc.example.org", "v=DMARC1; p=reject"),
        ("mail.example.org", "v=spf1 -all"),
        ("mail.example.org", "v=spf1 ~all"),
    ] {
        primary.add_text(name, text);
    }
    let published = publish(&files, &primary, Zone::right(&files).resolver()).await;
    let left = left(&published);
    for part in [
        "TXT example.org.: the SPF record can't be completed: gone.example.net has no SPF record",
        "TXT _dmarc.example.org.: there are several records with v=DMARC1; keep one",
        "TXT mail.example.org.: there are several SPF records; keep one",
    ] {
        assert!(left.iter().any(|it| it == part), "{part}: {left:#?}");
    }
    assert_eq!(primary.texts("example.org").len(), 1);
    assert_eq!(primary.texts("_dmarc.example.org").len(), 2);
}

#[tokio::test]
async fn a_server_that_refuses_is_told() {
    let files = files();
    let resolver = Zone::right(&files).resolver();
    let other = UpdateKey {
        secret: b"another",
        ..KEY
    };
    let primary = Primary::start(other).await;
    let world = files.world(resolver.clone(), Arc::new(primary.clone()));
    let error = world.publish("example.org", false).await.unwrap_err();
    assert_eq!(error.code, Code::Invalid);
    assert_eq!(
        error.text,
        "zone example.org at 192.0.2.53:53: the server has another secret for the key: check \
        key_file and algorithm"
    );
    assert_eq!(primary.zone.updates(), 0);
    let error = world.publish("reports.example", false).await.unwrap_err();
    assert_eq!(
        (error.code, error.field.as_deref()),
        (Code::Invalid, Some("domain"))
    );
    assert!(
        error
            .text
            .contains("no zone of dns_update has reports.example"),
        "{error}"
    );
    let error = world.publish("example.net", false).await.unwrap_err();
    assert_eq!(error.code, Code::NotFound);
}

#[test]
fn the_audit_log_shows_both_sides() {
    let change = |name: &str, removed: &[&str], added: &[&str]| crate::op::dns::ChangeItem {
        zone: "example.org".into(),
        name: name.into(),
        record_type: "TXT".into(),
        removed: removed.iter().map(|it| (*it).to_owned()).collect(),
        added: added.iter().map(|it| (*it).to_owned()).collect(),
    };
    let published = Published {
        written: true,
        changes: vec![
            change("a.", &["old"], &["new"]),
            change("b.", &[], &["new"]),
        ],
        left: Vec::new(),
    };
    let (before, after) = published.before_and_after();
    assert_eq!(before, r#"{"a. TXT":["old"],"b. TXT":[]}"#);
    assert_eq!(after, r#"{"a. TXT":["new"],"b. TXT":["new"]}"#);
}
