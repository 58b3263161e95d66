//! Zones and servers with one fault each: the check finds that fault, and no other.

use postrider_dns::{Caa, Mx, Record, RecordType, Srv};

use super::{
    Files, Zone,
    check::{ED, RSA, TLSA, TXT, wrong},
    servers::{Behaviour, Servers},
};
use crate::op::dns::{Verdict, records::tlsa_of};

/// What a test changes before the check.
struct Case {
    zone: Zone,
    behaviour: Behaviour,
}

/// A fault, and the one thing that the check says about it.
struct Fault {
    change: fn(&mut Case),
    /// The check, the type and the name.
    what: &'static str,
    verdict: Verdict,
    needed: bool,
    advice: &'static str,
}

/// A fault of something that is needed.
const fn fault(
    change: fn(&mut Case),
    what: &'static str,
    verdict: Verdict,
    advice: &'static str,
) -> Fault {
    Fault {
        change,
        what,
        verdict,
        needed: true,
        advice,
    }
}

const fn warning(fault: Fault) -> Fault {
    Fault {
        needed: false,
        ..fault
    }
}

pub(super) fn mx(preference: u16, host: &str) -> Record {
    Record::Mx(Mx {
        preference,
        host: host.to_owned(),
    })
}

fn srv(port: u16, target: &str) -> Record {
    Record::Srv(Srv {
        priority: 0,
        weight: 1,
        port,
        target: target.to_owned(),
    })
}

fn issue(value: &str) -> Record {
    Record::Caa(Caa {
        critical: false,
        tag: "issue".into(),
        value: value.as_bytes().to_vec(),
    })
}

fn foreign_key() -> Record {
    Record::Tlsa(tlsa_of(&[7; 32]))
}

/// Checks each fault by itself.
async fn find(faults: &[Fault]) {
    let servers = Servers::start().await;
    let files = Files::new(servers.ca(), |_, _| {});
    let right = Zone::right(&files);
    for fault in faults {
        let mut case = Case {
            zone: right.clone(),
            behaviour: Behaviour::default(),
        };
        (fault.change)(&mut case);
        servers.behave(case.behaviour);
        let world = files.world(case.zone.resolver(), servers.dialer());
        let items = world.check("example.org").await.unwrap();
        let what = format!("{}.", fault.what);
        // The same fault may show at each address of the host.
        let mut faults = wrong(&items);
        faults.dedup();
        assert_eq!(faults, [what.as_str()], "{:#?}", items);
        let item = items.iter().find(|it| it.verdict != Verdict::Ok).unwrap();
        assert_eq!(
            (item.verdict, item.needed),
            (fault.verdict, fault.needed),
            "{item:?}"
        );
        assert!(item.advice.contains(fault.advice), "{item:?}");
    }
}

#[tokio::test]
async fn faults_of_hosts() {
    find(&[
        warning(fault(
            |case| case.zone.not_authentic.push("com".into()),
            "DNSSEC DNSSEC com",
            Verdict::Differs,
            "use a validating resolver",
        )),
        warning(fault(
            |case| case.zone.not_authentic.push("example.org".into()),
            "DNSSEC DNSSEC example.org",
            Verdict::Differs,
            "does not sign the zone",
        )),
        fault(
            |case| case.zone.set_reverse("192.0.2.10", &[]),
            "PTR PTR 10.2.0.192.in-addr.arpa",
            Verdict::Missing,
            "ask the provider of the address for mail.example.org",
        ),
        fault(
            |case| {
                let names = ["mail.example.org", "www.example.org"];
                case.zone.set_reverse("192.0.2.10", &names);
            },
            "PTR PTR 10.2.0.192.in-addr.arpa",
            Verdict::Differs,
            "must have one name, mail.example.org",
        ),
        fault(
            |case| case.zone.set_reverse("198.51.100.7", &["mail.example.org"]),
            "PTR PTR 7.100.51.198.in-addr.arpa",
            Verdict::Differs,
            "must have one name, proxy.example.net",
        ),
        fault(
            |case| case.zone.remove("out.example.org", RecordType::A),
            "PTR PTR 11.2.0.192.in-addr.arpa",
            Verdict::Differs,
            "does not lead back",
        ),
        fault(
            |case| {
                case.zone.add_address("4.2.0.192.bl.example", "127.0.0.2");
                case.zone.add_address("10.2.0.192.bl.example", "127.0.0.4");
                case.zone.add_text("10.2.0.192.bl.example", "spam was seen");
            },
            "DNSBL DNSBL 10.2.0.192.bl.example",
            Verdict::Differs,
            "lists 192.0.2.10, so some servers refuse its mail (spam was seen)",
        ),
        warning(fault(
            |case| {
                case.zone
                    .add_address("10.2.0.192.bl2.example", "127.255.255.254")
            },
            "DNSBL DNSBL 10.2.0.192.bl2.example",
            Verdict::Error,
            "use a resolver of your own",
        )),
    ])
    .await;
}

#[tokio::test]
async fn faults_of_the_way_in() {
    find(&[
        fault(
            |case| case.behaviour.refused.push(25),
            "SMTP SMTP mail.example.org",
            Verdict::Error,
            "try from outside",
        ),
        fault(
            |case| case.behaviour.starttls = false,
            "SMTP SMTP mail.example.org",
            Verdict::Differs,
            "STARTTLS is not offered",
        ),
        fault(
            |case| case.zone.remove(TLSA, RecordType::Tlsa),
            "TLSA TLSA _25._tcp.mail.example.org",
            Verdict::Missing,
            "add the records",
        ),
        fault(
            |case| case.zone.add(TLSA, foreign_key()),
            "TLSA TLSA _25._tcp.mail.example.org",
            Verdict::Extra,
            "a key that is not ours",
        ),
        fault(
            |case| {
                case.zone.remove(TLSA, RecordType::Tlsa);
                case.zone.add(TLSA, foreign_key());
            },
            "TLSA TLSA _25._tcp.mail.example.org",
            Verdict::Differs,
            "no record has a key of this server",
        ),
        fault(
            |case| {
                let records = case.zone.records.get_mut(TLSA).unwrap();
                records.truncate(1);
            },
            "TLSA TLSA _25._tcp.mail.example.org",
            Verdict::Differs,
            "a key has no record",
        ),
        warning(fault(
            |case| case.zone.not_authentic.push(TLSA.into()),
            "TLSA TLSA _25._tcp.mail.example.org",
            Verdict::Differs,
            "sign the zone",
        )),
        fault(
            |case| case.zone.add("example.org", mx(5, "")),
            "MX MX example.org",
            Verdict::Differs,
            "null MX",
        ),
    ])
    .await;
}

#[tokio::test]
async fn faults_of_records_about_senders() {
    find(&[
        fault(
            |case| case.zone.remove("example.org", TXT),
            "SPF TXT example.org",
            Verdict::Missing,
            "add the record",
        ),
        fault(
            |case| case.zone.add_text("example.org", "v=spf1 -all"),
            "SPF TXT example.org",
            Verdict::Extra,
            "keep one",
        ),
        fault(
            |case| {
                case.zone
                    .set_text("example.org", "v=spf1 mx ip4:192.0.2.11 ~all")
            },
            "SPF TXT example.org",
            Verdict::Differs,
            "mail from 198.51.100.7 does not pass",
        ),
        fault(
            |case| case.zone.set_text("example.org", "v=spf1 mx +all"),
            "SPF TXT example.org",
            Verdict::Differs,
            "+all lets every host",
        ),
        fault(
            |case| {
                case.zone
                    .set_text("example.org", "v=spf1 mx ipv4:192.0.2.11 ~all")
            },
            "SPF TXT example.org",
            Verdict::Differs,
            "\"ipv4:192.0.2.11\" is no term",
        ),
        fault(
            |case| {
                let all = "ip4:192.0.2.0/24 ip4:198.51.100.7 ip6:2001:db8::/32";
                let many = "a:example.net ".repeat(11);
                case.zone
                    .set_text("example.org", &format!("v=spf1 {all} {many}-all"));
            },
            "SPF TXT example.org",
            Verdict::Differs,
            "more than 10 terms",
        ),
        fault(
            |case| case.zone.remove("mail.example.org", TXT),
            "SPF TXT mail.example.org",
            Verdict::Missing,
            "add the record",
        ),
        fault(
            |case| case.zone.remove(ED, TXT),
            "DKIM TXT ed._domainkey.example.org",
            Verdict::Missing,
            "nobody can verify its signatures",
        ),
        warning(fault(
            |case| case.zone.remove(RSA, TXT),
            "DKIM TXT rsa._domainkey.example.org",
            Verdict::Missing,
            "before the key signs",
        )),
        fault(
            |case| {
                let other = case.zone.text(RSA);
                case.zone.set_text(ED, &other);
            },
            "DKIM TXT ed._domainkey.example.org",
            Verdict::Differs,
            "replace the record",
        ),
        fault(
            |case| {
                let text = case.zone.text(ED);
                case.zone.set_text(ED, &format!("{text}; t=s:y"));
            },
            "DKIM TXT ed._domainkey.example.org",
            Verdict::Differs,
            "under test",
        ),
        fault(
            |case| {
                let text = case.zone.text(ED);
                case.zone.set_text(ED, &text.replace("ed25519", "rsa"));
            },
            "DKIM TXT ed._domainkey.example.org",
            Verdict::Differs,
            "another kind of key",
        ),
        fault(
            |case| {
                let text = case.zone.text(ED);
                case.zone.set_text(ED, &text.replace("h=sha256", "h=sha1"));
            },
            "DKIM TXT ed._domainkey.example.org",
            Verdict::Differs,
            "forbids the hash",
        ),
        fault(
            |case| case.zone.add_text(ED, "v=DKIM1; p="),
            "DKIM TXT ed._domainkey.example.org",
            Verdict::Extra,
            "keep the right one",
        ),
    ])
    .await;
}

#[tokio::test]
async fn faults_of_policies() {
    const DMARC: &str = "_dmarc.example.org";
    const RUA: &str = "rua=mailto:dmarcreports@reports.example";
    find(&[
        fault(
            |case| case.zone.remove(DMARC, TXT),
            "DMARC TXT _dmarc.example.org",
            Verdict::Missing,
            "add the record",
        ),
        fault(
            |case| case.zone.add_text(DMARC, "v=DMARC1; p=none"),
            "DMARC TXT _dmarc.example.org",
            Verdict::Extra,
            "count as none",
        ),
        fault(
            |case| {
                case.zone
                    .set_text(DMARC, "v=DMARC1; p=reject; rua=mailto:x@example.net")
            },
            "DMARC TXT _dmarc.example.org",
            Verdict::Differs,
            "our address for reports",
        ),
        fault(
            |case| {
                case.zone
                    .set_text(DMARC, &format!("v=DMARC1; p=rejected; {RUA}"))
            },
            "DMARC TXT _dmarc.example.org",
            Verdict::Differs,
            "must be none, quarantine or reject",
        ),
        warning(fault(
            |case| {
                case.zone
                    .set_text(DMARC, &format!("v=DMARC1; p=reject; sp=none; {RUA}"))
            },
            "DMARC TXT _dmarc.example.org",
            Verdict::Differs,
            "stops no forged mail",
        )),
        fault(
            |case| {
                case.zone
                    .remove("example.org._report._dmarc.reports.example", TXT)
            },
            "DMARC TXT example.org._report._dmarc.reports.example",
            Verdict::Missing,
            "did not agree",
        ),
        fault(
            |case| {
                case.zone
                    .set_text("_smtp._tls.example.org", "v=TLSRPTv1; rua=mailto:x@y.z")
            },
            "TLS-RPT TXT _smtp._tls.example.org",
            Verdict::Differs,
            "our address for reports",
        ),
        fault(
            |case| case.zone.remove("_smtp._tls.mail.example.org", TXT),
            "TLS-RPT TXT _smtp._tls.mail.example.org",
            Verdict::Missing,
            "add the record",
        ),
        fault(
            |case| case.zone.failing.push("_smtp._tls.example.org".into()),
            "TLS-RPT TXT _smtp._tls.example.org",
            Verdict::Error,
            "no answer from DNS",
        ),
        fault(
            |case| case.zone.remove("_mta-sts.example.org", TXT),
            "MTA-STS TXT _mta-sts.example.org",
            Verdict::Missing,
            "nobody looks for the policy",
        ),
        fault(
            |case| {
                case.zone
                    .set_text("_mta-sts.example.org", "v=STSv1; id=20250101;")
            },
            "MTA-STS TXT _mta-sts.example.org",
            Verdict::Differs,
            "older policy",
        ),
        fault(
            |case| case.zone.add_address("mta-sts.example.org", "203.0.113.1"),
            "MTA-STS CNAME mta-sts.example.org",
            Verdict::Differs,
            "leads to another server",
        ),
        fault(
            |case| case.behaviour.policy_status = 404,
            "MTA-STS HTTPS mta-sts.example.org",
            Verdict::Differs,
            "answers 404",
        ),
        fault(
            |case| case.behaviour.policy = "<html>".into(),
            "MTA-STS HTTPS mta-sts.example.org",
            Verdict::Differs,
            "is not a policy",
        ),
        fault(
            |case| {
                let policy = &mut case.behaviour.policy;
                *policy = policy.replace("enforce", "testing");
            },
            "MTA-STS HTTPS mta-sts.example.org",
            Verdict::Differs,
            "another policy is served",
        ),
    ])
    .await;
}

#[tokio::test]
async fn faults_of_what_mail_programs_ask() {
    find(&[
        fault(
            |case| {
                case.zone
                    .remove("_submissions._tcp.example.org", RecordType::Srv)
            },
            "SRV SRV _submissions._tcp.example.org",
            Verdict::Missing,
            "add the record",
        ),
        fault(
            |case| {
                let name = "_submissions._tcp.example.org";
                case.zone.remove(name, RecordType::Srv);
                case.zone.add(name, srv(465, "other.example.net"));
            },
            "SRV SRV _submissions._tcp.example.org",
            Verdict::Differs,
            "to another place",
        ),
        warning(fault(
            |case| case.zone.remove("_pop3._tcp.example.org", RecordType::Srv),
            "SRV SRV _pop3._tcp.example.org",
            Verdict::Missing,
            "optional",
        )),
        warning(fault(
            |case| {
                case.zone
                    .add("_imap._tcp.example.org", srv(143, "mail.example.org"))
            },
            "SRV SRV _imap._tcp.example.org",
            Verdict::Differs,
            "does not have the service",
        )),
        fault(
            |case| case.behaviour.settings_status = 500,
            "mail programs HTTPS autoconfig.example.org",
            Verdict::Differs,
            "the settings are not there",
        ),
        fault(
            |case| case.behaviour.refused.push(465),
            "mail programs TLS smtp.example.org",
            Verdict::Error,
            "can't be reached",
        ),
        fault(
            |case| case.zone.add_address("smtp.example.org", "203.0.113.1"),
            "mail programs CNAME smtp.example.org",
            Verdict::Differs,
            "leads to another server",
        ),
    ])
    .await;
}

#[tokio::test]
async fn cas_that_may_not_issue() {
    find(&[
        fault(
            |case| {
                case.zone.remove("example.org", RecordType::Caa);
                case.zone.add("example.org", issue("other-ca.example"));
            },
            "CAA CAA example.org",
            Verdict::Differs,
            "forbid letsencrypt.org",
        ),
        fault(
            |case| {
                // Without records of its own, those of the name above count.
                case.zone.remove("example.org", RecordType::Caa);
                case.zone.add("org", issue(";"));
            },
            "CAA CAA example.org",
            Verdict::Differs,
            "forbid letsencrypt.org",
        ),
        fault(
            |case| {
                case.zone.remove("example.org", RecordType::Caa);
                let value = "letsencrypt.org; validationmethods=dns-01";
                case.zone.add("example.org", issue(value));
            },
            "CAA CAA example.org",
            Verdict::Differs,
            "not by http-01",
        ),
        fault(
            |case| {
                case.zone.add(
                    "example.org",
                    Record::Caa(Caa {
                        critical: true,
                        tag: "future".into(),
                        value: Vec::new(),
                    }),
                );
            },
            "CAA CAA example.org",
            Verdict::Differs,
            "does not know future",
        ),
    ])
    .await;
}
