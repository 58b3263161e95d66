//! The check as a whole, and faults that show at several places.

use std::{sync::Arc, time::Duration};

use postrider_dns::{Question, Record, RecordType, Tlsa};
use postrider_observe::{Metrics, metrics::RecordKind};
use postrider_queue::{Dialer, Dialing};
use postrider_smtp::Domain;
use postrider_store::{ManualClock, Time};

use super::{
    Files, Zone,
    faults::mx,
    servers::{Behaviour, ENDS, Servers, Shown},
};
use crate::{
    Code,
    op::dns::{CheckItem, Verdict, Verdicts, records::tlsa_of, watch::look},
};

pub(super) const ED: &str = "ed._domainkey.example.org";
pub(super) const RSA: &str = "rsa._domainkey.example.org";
pub(super) const TLSA: &str = "_25._tcp.mail.example.org";
const MAIL: &str = "mail programs";
pub(super) const TXT: RecordType = RecordType::Txt;

#[tokio::test]
async fn a_right_domain_has_no_fault() {
    let servers = Servers::start().await;
    let files = Files::new(servers.ca(), |_, _| {});
    let world = files.world(Zone::right(&files).resolver(), servers.dialer());
    let items = world.check("Example.org.").await.unwrap();
    let wrong: Vec<&CheckItem> = items
        .iter()
        .filter(|it| it.verdict != Verdict::Ok)
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    for check in [
        "DNSSEC", "host", "PTR", "MX", "SMTP", "TLSA", "SPF", "DKIM", "DMARC", "TLS-RPT",
        "MTA-STS", "SRV", MAIL, "CAA", "DNSBL",
    ] {
        assert!(items.iter().any(|it| it.check == check), "{check}");
    }
    let json = serde_json::to_value(&items[0]).unwrap();
    for member in ["type", "name", "wanted", "found", "verdict", "advice"] {
        assert!(json.get(member).is_some(), "{member}");
    }
    assert_eq!(json["verdict"], "ok");
    let unknown = world.check("example.net").await.unwrap_err();
    assert_eq!(
        (unknown.code, unknown.field.as_deref()),
        (Code::NotFound, Some("domain"))
    );
}

#[tokio::test]
async fn what_is_of_this_host_is_asked_once_for_all_domains() {
    let servers = Servers::start().await;
    let files = Files::new(servers.ca(), |_, _| {});
    let fake = Zone::right(&files).resolver();
    let world = files.world(fake.clone(), servers.dialer());
    let (metrics, verdicts) = (Metrics::default(), Verdicts::default());
    look(&world, &metrics, &verdicts).await;
    assert_eq!(files.config.domains.len(), 3);
    for question in [
        Question::reverse("192.0.2.10".parse().unwrap()),
        Question::new("11.2.0.192.bl.example", RecordType::A),
        Question::new("mail.example.org", RecordType::A),
    ] {
        assert_eq!(fake.asked(&question), 1, "{question:?}");
    }
    let wrong = |kind| metrics.dns_records_wrong.with(kind).get();
    // The other domains have no records.
    assert_eq!((wrong(RecordKind::Ptr), wrong(RecordKind::Spf)), (0, 2));
    let unchecked = |kind| metrics.dns_records_unchecked.with(kind).get();
    assert_eq!(unchecked(RecordKind::Spf), 0);
    let verdict = |name: &str| verdicts.of(&Domain::parse(name).unwrap()).unwrap();
    let right = verdict("example.org");
    assert_eq!((right.wrong, right.unknown), (0, 0), "{right:?}");
    // Without answers nothing is wrong, and nothing is known.
    fake.fail("example.org");
    look(&world, &metrics, &verdicts).await;
    assert_eq!((wrong(RecordKind::Spf), unchecked(RecordKind::Spf)), (2, 1));
    assert!(verdict("example.org").unknown > 0);
}

/// The items that are not right, as `check type name`.
pub(super) fn wrong(items: &[CheckItem]) -> Vec<String> {
    let wrong = items.iter().filter(|it| it.verdict != Verdict::Ok);
    wrong
        .map(|it| format!("{} {} {}", it.check, it.record_type, it.name))
        .collect()
}

#[tokio::test]
async fn faults_with_consequences() {
    let servers = Servers::start().await;
    let files = Files::new(servers.ca(), |_, _| {});
    let right = Zone::right(&files);
    let run = async |zone: &Zone, behaviour: Behaviour| {
        servers.behave(behaviour);
        let world = files.world(zone.resolver(), servers.dialer());
        world.check("example.org").await.unwrap()
    };
    // Without an MX, `mx` in the SPF record has no addresses, but all addresses are named.
    let mut zone = right.clone();
    zone.remove("example.org", RecordType::Mx);
    let items = run(&zone, Behaviour::default()).await;
    assert_eq!(wrong(&items), ["MX MX example.org."]);
    assert_eq!(
        items.iter().find(|it| it.check == "MX").unwrap().verdict,
        Verdict::Missing
    );

    // Another host takes mail too, and is not in the policy.
    for (address, advice) in [
        (None, "without an address: lost.example.net"),
        (Some("203.0.113.1"), "not this server: lost.example.net"),
    ] {
        let mut zone = right.clone();
        zone.add("example.org", mx(20, "lost.example.net"));
        if let Some(address) = address {
            zone.add_address("lost.example.net", address);
        }
        let items = run(&zone, Behaviour::default()).await;
        let of_mx = items.iter().find(|it| it.check == "MX").unwrap();
        assert_eq!(of_mx.verdict, Verdict::Differs);
        assert!(of_mx.advice.contains(advice), "{of_mx:?}");
        assert_eq!(wrong(&items)[..1], ["MX MX example.org."]);
        assert!(wrong(&items).contains(&"MTA-STS HTTPS mta-sts.example.org.".to_owned()));
        let policy = items.iter().find(|it| it.record_type == "HTTPS").unwrap();
        assert!(
            policy
                .advice
                .contains("lost.example.net is not in the policy"),
            "{policy:?}"
        );
    }

    let mut zone = right.clone();
    zone.add_address("mail.example.org", "203.0.113.1");
    let items = run(&zone, Behaviour::default()).await;
    let host = items.iter().find(|it| it.check == "host").unwrap();
    assert!(
        host.advice
            .contains("not an address of this host: 203.0.113.1"),
        "{host:?}"
    );
    assert!(wrong(&items).contains(&"MX MX example.org.".to_owned()));

    let mut zone = right.clone();
    zone.remove("mail.example.org", RecordType::A);
    zone.add_address("mail.example.org", "127.0.0.1");
    let items = run(&zone, Behaviour::default()).await;
    let host = items.iter().find(|it| it.check == "host").unwrap();
    assert!(
        host.advice.contains("leads each machine to itself"),
        "{host:?}"
    );

    // Bad certificates show wherever they are used; on port 25 a TLSA record helps.
    for certificate in [Shown::Untrusted, Shown::OtherName] {
        let behaviour = || Behaviour {
            certificate,
            ..Behaviour::default()
        };
        let everywhere = [
            "SMTP SMTP mail.example.org.",
            "SMTP SMTP mail.example.org.",
            "MTA-STS HTTPS mta-sts.example.org.",
            "mail programs TLS smtp.example.org.",
            "mail programs HTTPS autoconfig.example.org.",
            "mail programs TLS mail.example.org.",
        ];
        let items = run(&right, behaviour()).await;
        assert_eq!(wrong(&items), everywhere, "{certificate:?}");
        let smtp = items.iter().find(|it| it.check == "SMTP").unwrap();
        assert!(
            smtp.advice.contains("the certificate does not fit"),
            "{smtp:?}"
        );
    }
    let mut zone = right.clone();
    let digest = servers.untrusted_digest();
    zone.add(TLSA, Record::Tlsa(tlsa_of(&digest)));
    let behaviour = Behaviour {
        certificate: Shown::Untrusted,
        ..Behaviour::default()
    };
    let items = run(&zone, behaviour).await;
    assert!(
        !wrong(&items).iter().any(|it| it.starts_with("SMTP")),
        "{items:#?}"
    );
}

#[tokio::test]
async fn a_certificate_that_ends_soon_is_told() {
    let servers = Servers::start().await;
    let files = Files::new(servers.ca(), |_, _| {});
    let end = i64::from(ENDS - 1970) * 31_556_952;
    for (days, fits) in [(20, true), (10, false), (-5, false)] {
        let mut world = files.world(Zone::right(&files).resolver(), servers.dialer());
        // The length of a year is a mean, so the day is right within one.
        let now = Time((end - days * 24 * 3600) * 1_000_000);
        world.clock = Arc::new(ManualClock::new(now));
        let items = world.check("example.org").await.unwrap();
        let smtp = items.iter().find(|it| it.check == "SMTP").unwrap();
        assert_eq!(smtp.verdict == Verdict::Ok, fits, "{days}: {smtp:?}");
        assert_eq!(smtp.advice.contains("renew it"), !fits, "{days}");
    }
}

/// Connections are never made.
struct NoWay;

impl Dialer for NoWay {
    fn dial(&self, _: std::net::SocketAddr, _: Option<std::net::IpAddr>) -> Dialing {
        Box::pin(std::future::pending())
    }
}

#[tokio::test(start_paused = true)]
async fn what_does_not_answer_holds_nothing_up() {
    let files = Files::new("", |statics, _| {
        *statics = statics.replace("tls.ca_files = [\"ca.pem\"]\n", "");
    });
    let zone = Zone::right(&files);
    let fake = zone.resolver();
    fake.hang("_dmarc.example.org");
    let world = files.world(fake, Arc::new(NoWay));
    let begun = tokio::time::Instant::now();
    let items = world.check("example.org").await.unwrap();
    assert!(
        begun.elapsed() <= Duration::from_secs(31),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(
        wrong(&items),
        [
            "SMTP SMTP mail.example.org.",
            "SMTP SMTP mail.example.org.",
            "DMARC DMARC example.org.",
            "MTA-STS HTTPS mta-sts.example.org.",
            "mail programs TLS smtp.example.org.",
            "mail programs HTTPS autoconfig.example.org.",
            "mail programs TLS mail.example.org.",
        ]
    );
    let late = items.iter().find(|it| it.check == "DMARC").unwrap();
    assert!(late.advice.contains("no result within 30 s"), "{late:?}");
    let smtp = items.iter().find(|it| it.check == "SMTP").unwrap();
    assert!(smtp.advice.contains("no answer within 10 s"), "{smtp:?}");
}

#[tokio::test]
async fn a_record_that_is_published_already_only_needs_time() {
    let servers = Servers::start().await;
    let files = Files::new(servers.ca(), |_, _| {});
    let right = Zone::right(&files);
    let mut old = right.clone();
    old.set_text(ED, "v=DKIM1; k=ed25519; p=old");
    old.remove(RSA, TXT);
    old.add("example.org", Record::Ns("ns.example.net".into()));
    old.add_address("ns.example.net", "192.0.2.53");
    let mut at_zone = right.clone();
    at_zone.remove(RSA, TXT);
    let fake = old.resolver();
    fake.set_ttl(Duration::from_secs(77));
    fake.set_zone_servers(at_zone.resolver());
    let items = files
        .world(fake, servers.dialer())
        .check("example.org")
        .await
        .unwrap();
    let of = |name: &str| {
        items
            .iter()
            .find(|it| it.name == format!("{name}."))
            .unwrap()
    };
    assert_eq!(of(ED).verdict, Verdict::Differs);
    assert!(
        of(ED).advice.contains("the old answer is cached for 77 s"),
        "{:?}",
        of(ED)
    );
    assert_eq!(of(RSA).verdict, Verdict::Missing);
    assert!(of(RSA).advice.contains("add the record"), "{:?}", of(RSA));
}

#[tokio::test]
async fn a_domain_without_settings_gets_advice() {
    let servers = Servers::start().await;
    let files = Files::new(servers.ca(), |statics, dynamics| {
        *statics = statics.replace("host_tls_rpt.account = \"app\"\n", "");
        *statics = statics.replace(", host_keys = [\"rsa2048.pem\", \"ed25519.pem\"]", "");
        for key in ["dkim.s", "dmarc =", "tls_rpt =", "mta_sts ="] {
            *dynamics = dynamics.replace(key, "#");
        }
    });
    let mut zone = Zone::right(&files);
    zone.add_text("_mta-sts.example.org", "v=STSv1; id=1");
    zone.add(
        TLSA,
        Record::Tlsa(Tlsa {
            usage: 3,
            ..tlsa_of(&[1; 32])
        }),
    );
    let world = files.world(zone.resolver(), servers.dialer());
    let items = world.check("example.org").await.unwrap();
    let of = |check: &str| items.iter().find(|it| it.check == check).unwrap();
    for (check, verdict, needed, advice) in [
        ("DKIM", Verdict::Missing, true, "config dkim add"),
        ("DMARC", Verdict::Differs, false, "set domains.D.dmarc"),
        ("TLS-RPT", Verdict::Missing, false, "set domains.D.tls_rpt"),
        (
            "MTA-STS",
            Verdict::Differs,
            true,
            "domains.D.mta_sts is not set",
        ),
        (
            "TLSA",
            Verdict::Differs,
            true,
            "set tls.host_keys, or remove",
        ),
    ] {
        let item = of(check);
        assert_eq!((item.verdict, item.needed), (verdict, needed), "{item:?}");
        assert!(item.advice.contains(advice), "{item:?}");
    }
    zone.remove(TLSA, RecordType::Tlsa);
    zone.remove("_mta-sts.example.org", TXT);
    let world = files.world(zone.resolver(), servers.dialer());
    let items = world.check("example.org").await.unwrap();
    let of = |check: &str| items.iter().find(|it| it.check == check).unwrap();
    assert_eq!(of("TLSA").verdict, Verdict::Ok);
    assert!(of("TLSA").advice.contains("not used"));
    assert_eq!(
        (of("MTA-STS").verdict, of("MTA-STS").needed),
        (Verdict::Missing, false)
    );
}
