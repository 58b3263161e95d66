//! DANE: deliveries to hosts with TLSA records (RFC 7672).

use std::time::Duration;

use postrider_dns::{Question, Record, RecordType, Tlsa};
use postrider_store::{Attempt, Event, QueueId, Queued, StsPolicy};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd,
};
use sha2::{Digest, Sha256};

use crate::{
    remote::{Remote, RemoteTls},
    support::{Message, Setup, World},
};

pub(crate) const TLSA: &str = "_25._tcp.mx.test";
pub(crate) const EE: u8 = 3;
const TA: u8 = 2;

/// The certificate of a host, and of its issuer.
pub(crate) struct Certificates {
    leaf: Certificate,
    issuer: Certificate,
    key: KeyPair,
}

impl Certificates {
    /// For this name; valid before these years.
    pub(crate) fn new(name: &str, leaf_before: i32, issuer_before: i32) -> Self {
        let valid = |mut params: CertificateParams, before| {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(before, 1, 1);
            params
        };
        let mut issuer = CertificateParams::new([]).unwrap();
        issuer.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = valid(issuer, issuer_before);
        let issuer_key = KeyPair::generate().unwrap();
        let issuer_certificate = issuer.self_signed(&issuer_key).unwrap();
        let leaf = valid(
            CertificateParams::new([name.to_owned()]).unwrap(),
            leaf_before,
        );
        let key = KeyPair::generate().unwrap();
        let leaf = leaf.signed_by(&key, &Issuer::new(issuer, issuer_key));
        Self {
            leaf: leaf.unwrap(),
            issuer: issuer_certificate,
            key,
        }
    }

    pub(crate) fn remote_tls(&self, extensions: &'static str) -> RemoteTls {
        RemoteTls::of(&[&self.leaf, &self.issuer], &self.key, extensions)
    }

    /// The record for one of them.
    pub(crate) fn record(&self, usage: u8) -> Record {
        let certificate = if usage == EE {
            &self.leaf
        } else {
            &self.issuer
        };
        record(usage, Sha256::digest(certificate.der()).to_vec())
    }
}

fn record(usage: u8, data: Vec<u8>) -> Record {
    Record::Tlsa(Tlsa {
        usage,
        selector: 0,
        matching: 1,
        data,
    })
}

pub(crate) fn wrong() -> Record {
    record(EE, vec![7; 32])
}

/// A world whose mail for remote.test goes to mx.test, with these TLSA records.
pub(crate) fn world(statics: &str, remote: &Remote, records: &[Record]) -> World {
    let world = World::start(Setup {
        statics,
        ..Setup::default()
    });
    world.mx("remote.test", &[(10, "mx.test")]);
    world.host("mx.test", "192.0.2.1");
    world.lead("192.0.2.1", remote);
    for record in records {
        world.resolver.add(TLSA, record.clone());
    }
    world
}

async fn send(world: &World) -> QueueId {
    let [id] = world.add(Message::to(&["x@remote.test"])).await;
    id
}

/// The last attempt of a message that waits after it.
async fn waits(world: &World, id: QueueId) -> Attempt {
    let queued = world
        .queued_until(|queued| {
            let mut queued = queued.iter();
            queued.any(|message| message.id == id && message.attempts == 1)
        })
        .await;
    let message = queued.iter().find(|message| message.id == id).unwrap();
    message.results.last().unwrap().clone()
}

async fn delivered(world: &World, id: QueueId) {
    let mut events = world.events(1).await;
    if events.contains(&(id, Event::Delayed)) {
        events = world.events(2).await;
    }
    assert!(events.contains(&(id, Event::Delivered)), "{events:?}");
}

/// Waits for the next attempt.
async fn later(world: &World) {
    world.clock.advance(Duration::from_secs(3600));
}

#[tokio::test]
async fn a_host_whose_tlsa_records_are_bogus_or_unknown_gets_no_connection() {
    for bogus in [true, false] {
        let certificates = Certificates::new("mx.test", 2040, 2040);
        let tls = certificates.remote_tls("");
        let remote = Remote::start_with(Some(tls), |_, _| None).await;
        let world = world("", &remote, &[certificates.record(EE)]);
        match bogus {
            true => world.resolver.bogus(TLSA),
            false => world.resolver.fail(TLSA),
        }
        let id = send(&world).await;
        let found = waits(&world, id).await;
        assert_eq!(found.enhanced.unwrap().to_string(), "4.4.3");
        assert_eq!(found.error.contains("bogus"), bogus, "{}", found.error);
        assert!(found.error.contains(TLSA), "{}", found.error);
        assert_eq!(
            (found.remote.as_str(), world.dialed("192.0.2.1")),
            ("mx.test", 0)
        );
        world.resolver.mend(TLSA);
        later(&world).await;
        delivered(&world, id).await;
        assert!(remote.received()[0].tls.is_some());
        world.stop().await;
    }
}

#[tokio::test]
async fn the_next_host_takes_what_a_host_with_bogus_records_does_not_get() {
    let remote = Remote::start(|_, _| None).await;
    let world = world("", &remote, &[]);
    world.mx("remote.test", &[(10, "mx.test"), (20, "b.test")]);
    world.host("b.test", "192.0.2.2");
    world.lead("192.0.2.2", &remote);
    world.resolver.bogus(TLSA);
    let id = send(&world).await;
    delivered(&world, id).await;
    assert_eq!(
        (world.dialed("192.0.2.1"), world.dialed("192.0.2.2")),
        (0, 1)
    );
    world.stop().await;
}

/// Which records let a certificate in.
#[tokio::test]
async fn a_certificate_must_match_a_record() {
    let good = Certificates::new("mx.test", 2040, 2040);
    let over = Certificates::new("other.test", 2025, 2025);
    let issuer_over = Certificates::new("mx.test", 2040, 2025);
    let elsewhere = Certificates::new("other.test", 2040, 2040);
    let of_domain = Certificates::new("remote.test", 2040, 2040);
    for (certificates, records, refusal) in [
        (&good, vec![good.record(EE)], None),
        (&good, vec![wrong(), good.record(EE)], None),
        (&good, vec![good.record(TA)], None),
        (&good, vec![wrong()], Some("no TLSA record matches")),
        (
            &good,
            vec![wrong(), over.record(EE)],
            Some("no TLSA record matches"),
        ),
        // Neither dates nor names matter for the certificate itself.
        (&over, vec![over.record(EE)], None),
        // They do below an issuer.
        (
            &over,
            vec![over.record(TA)],
            Some("the certificate has expired"),
        ),
        (
            &issuer_over,
            vec![issuer_over.record(TA)],
            Some("the certificate has expired"),
        ),
        (
            &elsewhere,
            vec![elsewhere.record(TA)],
            Some("the certificate is for another name"),
        ),
        (&of_domain, vec![of_domain.record(TA)], None),
    ] {
        let remote = Remote::start_with(Some(certificates.remote_tls("")), |_, _| None).await;
        let world = world("", &remote, &records);
        let id = send(&world).await;
        match refusal {
            None => {
                delivered(&world, id).await;
                assert!(remote.received()[0].tls.is_some());
            }
            Some(text) => {
                let found = waits(&world, id).await;
                assert_eq!(found.enhanced.unwrap().to_string(), "4.7.5");
                let text = format!("DANE demands TLS: {text}");
                assert!(found.error.contains(&text), "{}", found.error);
                assert!(found.error.contains("SPKI SHA-256"), "{}", found.error);
                assert!(remote.received().is_empty());
            }
        }
        world.stop().await;
    }
}

#[tokio::test]
async fn a_host_with_records_gets_no_plain_text() {
    for (records, rule) in [
        (vec![wrong()], "DANE"),
        // None of these can be used.
        (
            vec![record(1, vec![7; 32]), record(EE, vec![7; 31])],
            "a TLSA record",
        ),
    ] {
        let remote = Remote::start(|_, _| None).await;
        let world = world("", &remote, &records);
        let id = send(&world).await;
        let found = waits(&world, id).await;
        assert_eq!(found.enhanced.unwrap().to_string(), "4.7.4");
        assert!(found.error.contains(rule), "{}", found.error);
        assert!(remote.received().is_empty());
        world.stop().await;
    }
}

#[tokio::test]
async fn records_that_can_not_be_used_demand_tls_with_any_certificate() {
    let tls = RemoteTls::new(&["other.test"], "");
    let remote = Remote::start_with(Some(tls), |_, _| None).await;
    let world = world("", &remote, &[record(0, vec![7; 32])]);
    let id = send(&world).await;
    delivered(&world, id).await;
    assert!(remote.received()[0].tls.is_some());
    world.stop().await;
}

/// Wrong records, which nobody may look at.
#[tokio::test]
async fn records_count_only_where_dnssec_proves_the_way_to_them() {
    for (distrusted, statics, asked) in [
        ("remote.test", "", 0),
        ("mx.test", "", 0),
        (TLSA, "", 1),
        ("", "[delivery]\ndane = false\n", 0),
    ] {
        let remote = Remote::start(|_, _| None).await;
        let world = world(statics, &remote, &[wrong()]);
        world.resolver.distrust(distrusted);
        let id = send(&world).await;
        delivered(&world, id).await;
        let question = Question::new(TLSA, RecordType::Tlsa);
        assert_eq!(world.resolver.asked(&question), asked, "{distrusted}");
        world.stop().await;
    }
}

#[tokio::test]
async fn records_at_the_end_of_secure_cnames_come_first() {
    let certificates = Certificates::new("host.test", 2040, 2040);
    let remote = Remote::start_with(Some(certificates.remote_tls("")), |_, _| None).await;
    let world = world("", &remote, &[wrong()]);
    world.resolver.remove("mx.test");
    world
        .resolver
        .add("mx.test", Record::Cname("host.test".to_owned()));
    world.host("host.test", "192.0.2.1");
    world
        .resolver
        .add("_25._tcp.host.test", certificates.record(TA));
    let id = send(&world).await;
    delivered(&world, id).await;
    world.stop().await;
}

#[tokio::test]
async fn a_sender_may_waive_dane_or_demand_it() {
    for (require_tls, record_is_right, statics) in [(false, false, ""), (true, true, "")] {
        let certificates = Certificates::new("mx.test", 2040, 2040);
        let tls = certificates.remote_tls("REQUIRETLS");
        let remote = Remote::start_with(Some(tls), |_, _| None).await;
        let right = match record_is_right {
            true => certificates.record(EE),
            false => wrong(),
        };
        let world = world(statics, &remote, &[right]);
        let message = Message {
            require_tls: Some(require_tls),
            ..Message::to(&["x@remote.test"])
        };
        let [id] = world.add(message).await;
        delivered(&world, id).await;
        let received = remote.received();
        assert_eq!(received[0].mail.ends_with(" REQUIRETLS"), require_tls);
        world.stop().await;
    }
}

/// An open connection proves what the records said when it was made.
#[tokio::test]
async fn an_open_connection_is_not_used_after_the_records_have_changed() {
    let certificates = Certificates::new("mx.test", 2040, 2040);
    let remote = Remote::start_with(Some(certificates.remote_tls("")), |_, _| None).await;
    let world = world("", &remote, &[certificates.record(EE)]);
    let id = send(&world).await;
    delivered(&world, id).await;
    world.resolver.remove(TLSA);
    world.resolver.add(TLSA, wrong());
    let id = send(&world).await;
    let found = waits(&world, id).await;
    assert!(found.error.contains("no TLSA record"), "{}", found.error);
    assert_eq!(remote.received().len(), 1);
    world.stop().await;
}

/// The other domain has the same host. What DANE proves is not what its MTA-STS policy demands.
#[tokio::test]
async fn a_connection_that_dane_proved_is_not_used_where_mta_sts_demands_a_trusted_ca() {
    let certificates = Certificates::new("mx.test", 2040, 2040);
    let remote = Remote::start_with(Some(certificates.remote_tls("")), |_, _| None).await;
    let world = world("", &remote, &[certificates.record(EE)]);
    world.mx("sts.test", &[(10, "mx.test")]);
    world.resolver.distrust("sts.test");
    let now = world.now();
    let policy = StsPolicy {
        domain: "sts.test".into(),
        id: "1".into(),
        text: "version: STSv1\r\nmode: enforce\r\nmx: mx.test\r\nmax_age: 604800\r\n".into(),
        fetched: now,
        ends: now.after(Duration::from_secs(604_800)),
        used: now,
        refresh: now.after(Duration::from_secs(86_400)),
        failures: 0,
    };
    world.store.keep_sts_policy(policy).await.unwrap();
    let id = send(&world).await;
    delivered(&world, id).await;
    let [other] = world.add(Message::to(&["x@sts.test"])).await;
    let found = waits(&world, other).await;
    assert!(
        found.error.contains("MTA-STS demands TLS"),
        "{}",
        found.error
    );
    assert_eq!(remote.received().len(), 1);
    world.stop().await;
}

/// While answers are not validated, nobody knows whether DANE proves the host.
#[tokio::test]
async fn a_message_that_needs_dane_waits_while_dnssec_is_out() {
    for out in [true, false] {
        let certificates = Certificates::new("mx.test", 2040, 2040);
        let tls = certificates.remote_tls("REQUIRETLS");
        let remote = Remote::start_with(Some(tls), |_, _| None).await;
        let world = world("", &remote, &[certificates.record(EE)]);
        world.resolver.distrust("remote.test");
        world.resolver.set_validation_out(out);
        let message = Message {
            require_tls: Some(true),
            ..Message::to(&["x@remote.test"])
        };
        let [id] = world.add(message).await;
        if out {
            let found = waits(&world, id).await;
            assert_eq!(found.enhanced.unwrap().to_string(), "4.7.4");
            assert!(found.error.contains("DNSSEC"), "{}", found.error);
        } else {
            assert_eq!(world.events(1).await, [(id, Event::Failed)]);
        }
        assert_eq!(world.dialed("192.0.2.1"), 0);
        world.stop().await;
    }
}

/// Look-ups in forty of fifty domains without an answer tell that our resolver is out of order.
/// Those of TLSA records count too: without them, five more had to fail.
#[tokio::test]
async fn look_ups_of_tlsa_records_tell_of_the_resolver() {
    let remote = Remote::start(|_, _| None).await;
    let world = world("", &remote, &[]);
    for number in 0..15 {
        let host = format!("mx.{number}.test");
        world.mx(&format!("{number}.test"), &[(10, &host)]);
        world.host(&host, "192.0.2.1");
        if number >= 10 {
            let [_] = world.add(Message::to(&[&format!("x@{number}.test")])).await;
            world.at_rest().await;
            continue;
        }
        world.resolver.fail(&format!("_25._tcp.{host}"));
        let [id] = world.add(Message::to(&[&format!("x@{number}.test")])).await;
        waits(&world, id).await;
    }
    for number in 15..50 {
        world.resolver.fail(&format!("{number}.test"));
        let [_] = world.add(Message::to(&[&format!("x@{number}.test")])).await;
        world.at_rest().await;
    }
    let message = world.at_rest().await.pop().unwrap();
    let explained = world.queue.explain(&message).await.unwrap();
    assert!(
        explained.contains("all deliveries wait until"),
        "{explained}"
    );
    world.stop().await;
}

/// Many messages wait for a host whose certificate matches no record. One of them counts for each
/// connection, the others wait, and messages that waive TLS do not.
#[tokio::test]
async fn a_refusal_counts_for_one_message_and_the_domain_is_left_for_a_while() {
    const MESSAGES: usize = 70;
    let certificates = Certificates::new("mx.test", 2040, 2040);
    let tls = certificates.remote_tls("");
    let remote = Remote::start_with(Some(tls), |_, _| None).await;
    let statics = "[queue]\nper_destination.connections = 1\n";
    let world = world(statics, &remote, &[wrong()]);
    for _ in 0..MESSAGES {
        world
            .add::<1>(Message::to(&["x@remote.test"]).later(5))
            .await;
    }
    let attempts = async || {
        let now = world.now();
        let wait = |queued: &[Queued]| {
            queued.len() == MESSAGES && queued.iter().all(|it| it.next_attempt > now)
        };
        let queued = world.queued_until(wait).await;
        queued.iter().map(|message| message.attempts).sum::<u32>()
    };
    world.clock.advance(Duration::from_secs(5));
    assert_eq!(attempts().await, 1);
    assert_eq!(world.dialed("192.0.2.1"), 1);
    let waived = Message {
        require_tls: Some(false),
        ..Message::to(&["y@remote.test"])
    };
    world.add::<1>(waived).await;
    remote.wait_for(1).await;
    world.clock.advance(Duration::from_secs(60));
    assert_eq!(attempts().await, 2);
    assert_eq!(world.dialed("192.0.2.1"), 3);
    world.resolver.add(TLSA, certificates.record(EE));
    later(&world).await;
    remote.wait_for(1 + MESSAGES).await;
    world.stop().await;
}
