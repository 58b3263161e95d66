//! Certificates by ACME, from a CA on loopback.

use std::{fs, net::SocketAddr, path::Path, time::Duration};

use axum::http::StatusCode;
use postrider_config::replace_private;
use postrider_store::ManualClock;
use rcgen::KeyPair;
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::support::{
    Setup, World,
    acme::{Ca, Refusal},
    clock,
    dns::Zone,
    patience::patiently,
    program,
    tls::{Hello, handshake},
};

const HOUR: Duration = Duration::from_secs(3600);
const HOST: &str = "mail.example.org";

/// The surroundings of a server whose listener `acme` has these services.
struct Place {
    dir: TempDir,
    clock: ManualClock,
    ca: Ca,
}

impl Place {
    /// Names in the zone have an address. `dynamics` has lines for the end of domains.conf.
    async fn new(services: &str, names: &[&str], dynamics: &str) -> Self {
        let (dir, clock) = (tempfile::tempdir().unwrap(), clock());
        let ca = Ca::start(dir.path(), &clock).await;
        let zone = names.iter().fold(Zone::default(), |zone, name| {
            zone.address(name, [127, 0, 0, 1].into())
        });
        let setup = Setup {
            dns: Some(zone.serve().await),
            statics: format!(
                "[acme.test]\ndirectory_url = \"{}\"\nca_file = \"root.pem\"\n\
                 contact_email = \"admin@example.org\"\n\
                 [listeners.acme]\nips = [\"127.0.0.1\"]\ntls.acme = \"test\"\n{services}",
                ca.directory
            ),
            dynamics: dynamics.into(),
            ..Setup::default()
        };
        setup.write(dir.path());
        Self { dir, clock, ca }
    }

    /// Starts the server. The CA checks names as soon as the server runs, if it is told so.
    async fn start(self, at_once: bool) -> (World, Ca) {
        let world = World::start_at(self.dir, self.clock).await;
        if at_once {
            check(&world, &self.ca);
        }
        (world, self.ca)
    }
}

/// Lets the CA check names at the webapi of the server.
fn check(world: &World, ca: &Ca) {
    let http = world.server.address("webapi_http").unwrap();
    ca.check_at(address(world, "webapi_https"), http);
}

/// Waits until the store has a failed try with this reason. From then on the pause holds.
async fn noted(world: &World, name: &str, reason: &str) {
    let is_noted = async || {
        let tries = world.server.store().acme_tries().await.unwrap();
        let mut tries = tries.iter();
        tries.any(|it| it.name == name && it.reason.contains(reason))
    };
    patiently(reason, async { while !is_noted().await {} }).await;
}

fn address(world: &World, service: &str) -> SocketAddr {
    let name = format!("acme.{service}");
    let mut all = world.server.addresses().iter();
    all.find(|(found, _)| *found == name).unwrap().1
}

/// The certificate that a client gets, in DER. None: an alert.
async fn certificate(address: SocketAddr, name: Option<&str>) -> Option<Vec<u8>> {
    let stream = TcpStream::connect(address).await.unwrap();
    let hello = Hello { name, alpn: &[] };
    let stream = handshake(Box::new(stream), hello).await.ok()?;
    let (_, connection) = stream.get_ref();
    Some(connection.peer_certificates()?.first()?.to_vec())
}

/// The subject and the public key of a certificate.
fn facts(certificate: &[u8]) -> (String, Vec<u8>) {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).unwrap();
    let key = parsed.public_key().subject_public_key.data.to_vec();
    (parsed.subject().to_string(), key)
}

/// A request over HTTPS to a name. The client trusts the CA alone. None: no connection.
async fn get(
    dir: &Path,
    address: SocketAddr,
    name: &str,
    path: &str,
) -> Option<(StatusCode, String)> {
    let root = fs::read(dir.join("root.pem")).unwrap();
    let root = reqwest::Certificate::from_pem(&root).unwrap();
    let client = reqwest::Client::builder()
        .tls_certs_only([root])
        .resolve(name, address)
        .build()
        .unwrap();
    let url = format!("https://{name}:{}{path}", address.port());
    let answer = client.get(url).send().await.ok()?;
    let status = answer.status();
    Some((status, answer.text().await.ok()?))
}

/// Asks until there is an answer.
async fn got(dir: &Path, address: SocketAddr, name: &str, path: &str) -> (StatusCode, String) {
    patiently(name, async {
        loop {
            if let Some(answer) = get(dir, address, name, path).await {
                return answer;
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_starts_at_once_and_gets_keeps_and_renews_its_certificates() {
    let names = [
        "autoconfig.example.org",
        "autoconfig.sts.example",
        HOST,
        "mail.sts.example",
        "mta-sts.sts.example",
        "mail.new.example",
    ];
    let services = "tls.host_keys = [\"host.pem\"]\nsmtp.port = 0\nsubmissions.port = 0\n\
                    autoconfig_https.port = 0\nmta_sts_https.port = 0\n";
    let domains = "[domains.\"sts.example\"]\nmta_sts.policy_id = \"1\"\n";
    let place = Place::new(services, &names, domains).await;
    let key = KeyPair::generate().unwrap();
    replace_private(
        &place.dir.path().join("host.pem"),
        key.serialize_pem().as_bytes(),
    )
    .unwrap();
    let (world, ca) = place.start(false).await;
    let dir = world.dir.path().to_owned();

    // No certificate yet: a self-signed one with the host key, or none.
    let submissions = address(&world, "submissions");
    let first = certificate(submissions, None).await.unwrap();
    assert!(facts(&first).0.contains("waiting for a certificate"));
    assert_eq!(facts(&first).1, key.public_key_raw());
    assert_eq!(certificate(submissions, Some("other.example")).await, None);
    let policies = address(&world, "mta_sts_https");
    assert_eq!(certificate(policies, Some(HOST)).await, None);
    let mut client = world.client("smtp").await;
    client.expect("EHLO client.test", "250").await;
    client
        .starttls()
        .await
        .expect("EHLO client.test", "250")
        .await;

    ca.check_at(address(&world, "autoconfig_https"), policies);
    let seen = ca
        .until("five certificates", |seen| seen.issued.len() == 5)
        .await;
    let mut issued: Vec<&str> = seen.issued.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(issued.first(), Some(&HOST), "the hostname comes first");
    issued.sort_unstable();
    assert_eq!(issued, names[..5]);
    assert!(seen.issued.iter().all(|(_, kind)| kind == "tls-alpn-01"));
    assert_eq!((seen.accounts, seen.ordered.len()), (1, 5));

    let host = "mta-sts.sts.example";
    let (status, text) = got(&dir, policies, host, "/.well-known/mta-sts.txt").await;
    assert_eq!(status, 200);
    assert!(text.contains("mx: mail.example.org\r\n"), "{text}");
    let settings = address(&world, "autoconfig_https");
    let (status, text) = got(
        &dir,
        settings,
        "autoconfig.sts.example",
        "/mail/config-v1.1.xml",
    )
    .await;
    assert_eq!(status, 200);
    assert!(
        text.contains("<hostname>mail.sts.example</hostname>"),
        "{text}"
    );
    // Each port has its own services.
    let (status, _) = got(&dir, settings, host, "/.well-known/mta-sts.txt").await;
    assert_eq!(status, 404);
    let issued = certificate(submissions, None).await.unwrap();
    assert!(issued != first && facts(&issued).1 == key.public_key_raw());

    // After a start the certificates are there at once.
    let world = world.restart().await;
    let again = certificate(address(&world, "submissions"), None).await;
    assert_eq!(again.as_ref(), Some(&issued));
    let policies = address(&world, "mta_sts_https");
    assert!(get(&dir, policies, host, "/").await.is_some());
    ca.check_at(address(&world, "autoconfig_https"), policies);

    // A new domain is ordered at once. A name without an address is not ordered.
    let path = dir.join("domains.conf");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{text}\n[domains.\"new.example\"]\n")).unwrap();
    let seen = ca.until("a new name", |seen| seen.issued.len() == 6).await;
    assert_eq!(seen.issued[5].0, "mail.new.example");
    assert_eq!(seen.ordered.len(), 6);
    let submissions = address(&world, "submissions");
    patiently("the new certificate in use", async {
        loop {
            let found = certificate(submissions, Some("mail.new.example")).await;
            if found.is_some_and(|found| !facts(&found).0.contains("waiting")) {
                return;
            }
        }
    })
    .await;

    world.clock.advance(61 * 24 * HOUR);
    let seen = ca.until("renewals", |seen| seen.issued.len() == 12).await;
    assert_eq!((seen.accounts, seen.ordered.len()), (1, 12));
    let renewed = patiently("the renewed certificate", async {
        loop {
            let now = certificate(submissions, Some(HOST)).await.unwrap();
            if now != issued {
                return now;
            }
        }
    });
    assert_eq!(facts(&renewed.await).1, key.public_key_raw());
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_name_is_not_tried_again_before_its_time_not_even_after_a_restart() {
    let names = [HOST, "mail.marker.example"];
    let place = Place::new("webapi_https.port = 0\n", &names, "").await;
    place.ca.offer(&["http-01"]);
    place.ca.refuse(Some(Refusal {
        problem: "rateLimited",
        detail: "too many certificates for this name",
        retry_after: Some(2 * 3600),
    }));
    let (world, ca) = place.start(true).await;
    ca.until("an order", |seen| seen.ordered == [HOST]).await;
    noted(&world, HOST, "too many").await;
    let world = world.restart().await;
    check(&world, &ca);
    world.clock.advance(HOUR);
    // The order of another name shows that the server would have tried by now.
    let path = world.dir.path().join("domains.conf");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{text}\n[domains.\"marker.example\"]\n")).unwrap();
    ca.until("the marker", |seen| {
        seen.ordered == [HOST, "mail.marker.example"]
    })
    .await;
    noted(&world, "mail.marker.example", "too many").await;

    ca.refuse(None);
    world.clock.advance(HOUR);
    let seen = ca
        .until("a certificate", |seen| seen.issued.len() == 1)
        .await;
    assert_eq!(seen.issued, [(HOST.to_owned(), "http-01".to_owned())]);
    world.clock.advance(HOUR);
    ca.until("the other certificate", |seen| seen.issued.len() == 2)
        .await;
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trouble_of_the_ca_stops_all_names_and_a_lost_account_is_made_anew() {
    let names = [HOST, "mail.more.example"];
    let more = "[domains.\"more.example\"]\n";
    let place = Place::new("webapi_https.port = 0\n", &names, more).await;
    place.ca.refuse(Some(Refusal {
        problem: "serverInternal",
        detail: "maintenance",
        retry_after: None,
    }));
    let (world, ca) = place.start(true).await;
    ca.until("an order", |seen| seen.ordered == [HOST]).await;
    noted(&world, "", "maintenance").await;
    ca.refuse(Some(Refusal {
        problem: "accountDoesNotExist",
        detail: "who are you",
        retry_after: None,
    }));
    world.clock.advance(HOUR);
    // The other name had to wait too. The order is repeated with a new account.
    ca.until("a new account", |seen| {
        seen.ordered == [HOST; 3] && seen.accounts == 2
    })
    .await;
    noted(&world, "", "who are you").await;
    ca.refuse(None);
    world.clock.advance(HOUR);
    let seen = ca
        .until("certificates", |seen| seen.issued.len() == 2)
        .await;
    assert_eq!(seen.ordered.len(), 5);
    world.server.stop().await;
}

#[tokio::test]
async fn config_test_reads_the_files_of_acme() {
    let services = "tls.host_keys = [\"host.pem\"]\nwebapi_https.port = 0\n";
    let place = Place::new(services, &[], "").await;
    let conf = place.dir.path().join("postrider.conf");
    let told = async || {
        let output = program::run(&conf, &["config", "test"]).await;
        let told = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(told).unwrap())
    };
    let (code, text) = told().await;
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("listeners.acme.tls.host_keys") && text.contains("host.pem"),
        "{text}"
    );
    let key = place.dir.path().join("host.pem");
    let pem = KeyPair::generate().unwrap().serialize_pem();
    fs::write(&key, &pem).unwrap();
    let (code, text) = told().await;
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("host.pem is open to every user of this machine"),
        "{text}"
    );
    replace_private(&key, pem.as_bytes()).unwrap();
    let (code, text) = told().await;
    assert_eq!(code, Some(0), "{text}");
    fs::write(place.dir.path().join("root.pem"), "").unwrap();
    let (code, text) = told().await;
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("acme.test") && text.contains("ca_file"),
        "{text}"
    );
}
