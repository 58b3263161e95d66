//! Delivery by DANE over signed zones (RFC 7672), and what is asked without validation.

use postrider_dns::{FakeServer, Fault, Mx, Record, RecordType, Tlsa};
use sha2::{Digest, Sha256};

use crate::support::{
    Setup, World, message,
    patience::patiently,
    receiver::Receiver,
    remote::{Remote, RemoteTls},
};

/// The address of the hosts.
pub(crate) const HOST: [u8; 4] = [127, 0, 0, 2];

/// Signed zones `test`, `remote.test` and `bogus.test`. The mail of the last two goes to hosts in
/// them, whose TLSA records are those of the certificate. `stranger.test` is not signed.
pub(crate) async fn zones(certificate: &[u8]) -> FakeServer {
    let server = FakeServer::start().await.unwrap();
    server.add_zone("test", true).unwrap();
    server.add_zone("stranger.test", false).unwrap();
    for domain in ["remote.test", "bogus.test"] {
        server.add_zone(domain, true).unwrap();
        let host = format!("mx.{domain}");
        let mx = Record::Mx(Mx {
            preference: 10,
            host: host.clone(),
        });
        server.add(domain, &mx).unwrap();
        server.add(&host, &Record::A(HOST.into())).unwrap();
        let tlsa = Record::Tlsa(Tlsa {
            usage: 3,
            selector: 0,
            matching: 1,
            data: Sha256::digest(certificate).to_vec(),
        });
        server.add(&format!("_25._tcp.{host}"), &tlsa).unwrap();
    }
    let tlsa = Some(RecordType::Tlsa);
    server
        .add_fault("_25._tcp.mx.bogus.test", tlsa, Fault::Expired)
        .unwrap();
    server
}

pub(crate) fn certificate(tls: &RemoteTls) -> Vec<u8> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(tls.certificate.as_bytes()).unwrap();
    pem.contents
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signed_zones_prove_a_host_and_stop_mail_to_another() {
    let tls = RemoteTls::new(&["other.test"], "REQUIRETLS");
    let dns = zones(&certificate(&tls)).await;
    let remote = Remote::start_with(Some(tls), |_, _| None).await;
    let receiver = Receiver::start(|_| 200).await;
    let world = World::start(Setup {
        dns: Some(dns.address()),
        trust_anchor: Some(dns.trust_anchor()),
        app: format!(
            "[accounts.app.outgoing_webhook]\nurl = {:?}\n",
            receiver.url()
        ),
        ..Setup::default()
    })
    .await;
    world.dialer.lead(HOST.into(), remote.address);
    let mut client = world.submission().await;
    client
        .expect("MAIL FROM:<app@example.org> REQUIRETLS", "250")
        .await;
    client.expect("RCPT TO:<x@remote.test>", "250").await;
    client.expect("RCPT TO:<x@bogus.test>", "250").await;
    client.expect("DATA", "354").await;
    client
        .expect(&format!("{}\r\n.", message("secret")), "250")
        .await;
    let received = remote.wait_for(1).await;
    assert_eq!(received[0].rcpts, ["RCPT TO:<x@remote.test>"]);
    assert!(received[0].tls.is_some());
    let calls = receiver.wait_for(2).await;
    let delayed = calls.iter().find(|call| call.payload["Event"] == "delayed");
    let delayed = &delayed.unwrap().payload;
    let error = delayed["Error"].as_str().unwrap();
    assert!(
        error.starts_with("mx.bogus.test: 4.4.3 ") && error.contains("is bogus"),
        "{error}"
    );
    assert_eq!(remote.received().len(), 1);
    world.server.stop().await;
}

/// Checks of incoming mail cost no questions of the validation. Whether it works is looked at all
/// the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_strangers_make_us_ask_is_not_validated() {
    let dns = zones(&[]).await;
    let spf = Record::Txt(b"v=spf1 ip4:127.0.0.1 -all".to_vec());
    dns.add("stranger.test", &spf).unwrap();
    let world = World::start(Setup {
        dns: Some(dns.address()),
        trust_anchor: Some(dns.trust_anchor()),
        ..Setup::default()
    })
    .await;
    let root = async {
        while !dns.asked().contains(&"udp  SOA".to_owned()) {
            tokio::task::yield_now().await;
        }
    };
    patiently("the question about the root", root).await;
    let mut client = world.client("smtp").await;
    client.expect("EHLO mx.stranger.test", "250").await;
    client.expect("MAIL FROM:<x@stranger.test>", "250").await;
    client.expect("RCPT TO:<info@example.org>", "250").await;
    client.expect("DATA", "354").await;
    client
        .expect(&format!("{}\r\n.", message("hello")), "250")
        .await;
    let asked = dns.asked();
    let about = |record_type: &str| {
        let question = format!("stranger.test {record_type}");
        asked
            .iter()
            .filter(|asked| asked.ends_with(&question))
            .count()
    };
    assert!(about("TXT") > 0, "{asked:?}");
    assert_eq!(
        (about("DS"), about("DNSKEY"), about("NS")),
        (0, 0, 0),
        "{asked:?}"
    );
    world.server.stop().await;
}
