//! A server with something to show on every page.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use postrider_dns::{FakePrimary, KeyAlgorithm, UpdateKey};
use postrider_store::Clock;
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::site::{APP, Site, zone};
use crate::{
    received_reports::{self as reports, COMPLAINT, COMPLAINT_KIND},
    support::{
        Setup,
        dkim::DkimKey,
        dns::ServedZone,
        patience::patiently,
        program,
        receiver::Receiver,
        remote::{Act, Point, Remote},
    },
};

const STATICS: &str = "nat_ips = [\"203.0.113.5\"]\n[transports.relay.smtp]\nhost = \"relay.test\"\n\
    [policy]\ngreylist = false\nfirst_time_sender_delay = \"0s\"\n";

/// The address of the primary server of the zone example.org.
const PRIMARY: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 53));
/// The key that the server of the zone example.org knows.
const ZONE_KEY: UpdateKey<'_> = UpdateKey {
    name: "postrider",
    algorithm: KeyAlgorithm::HmacSha256,
    secret: b"a secret",
};
/// Its secret in base64.
const ZONE_SECRET: &[u8] = b"YSBzZWNyZXQ=";

/// The address of the server, as others see it.
const OWN: [u8; 4] = [203, 0, 113, 5];

const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: i64 = 24 * 60 * 60;

/// What the server has, as arguments of the program.
const MADE: &[&str] = &[
    "config alias add team@example.org app@example.org other@example.org",
    "config dkim add --algorithm rsa --sign example.org",
    "config route add relay --domain example.org --to partner.test",
    "apikey add shop --account app --scope send,events --expires 90d",
    "apikey add monitoring --scope manage-read",
    "apppassword add app phone",
    "tlspubkey add app@example.org localserve.crt --name printer",
    "queue hold-rules add --recipient held@remote.test",
];

/// A server with something to show on every page: messages of all fates, events and calls, reports
/// that came in, keys, rules, an alias and a route.
pub struct Furnished {
    pub site: Site,
    /// What DNS has. More can be added.
    pub zone: ServedZone,
    receiver: Receiver,
    /// The answers of the receiver.
    answer: Arc<AtomicU16>,
    _remote: Remote,
    /// The folder of the key of the zone.
    _keys: TempDir,
}

impl Furnished {
    /// Starts the server. The last call of its webhook fails.
    pub async fn start() -> Self {
        let remote = Remote::start(|point, _| match point {
            Point::Command(line) if line.contains("bad@") => {
                Some(Act::Say("550 5.1.1 No such user here"))
            }
            Point::Command(line) if line.contains("slow@") => {
                Some(Act::Say("451 4.2.2 The mailbox is full, try again later"))
            }
            _ => None,
        })
        .await;
        let answer = Arc::new(AtomicU16::new(200));
        let answered = Arc::clone(&answer);
        let receiver = Receiver::start(move |_| answered.load(Ordering::Relaxed)).await;
        let key = DkimKey::new();
        let zone = zone()
            .host("mail.example.org", OWN.into())
            .txt("_dmarc.reporter.test", "v=DMARC1; p=none")
            .txt("k._domainkey.reporter.test", &key.record());
        let zone = zone.serve_changing().await;
        let keys = tempfile::tempdir().unwrap();
        let zone_key = keys.path().join("tsig.key");
        postrider_config::replace_private(&zone_key, ZONE_SECRET).unwrap();
        let primary = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let zone_of_domain = format!(
            "[dns_update.\"example.org\"]\nserver = \"{PRIMARY}:53\"\nkey_name = {:?}\n\
             key_file = {zone_key:?}\n",
            ZONE_KEY.name
        );
        let setup = Setup {
            dns: Some(zone.address),
            statics: STATICS.to_owned() + &zone_of_domain,
            dynamics: reports::DYNAMICS.to_owned(),
            app: format!(
                "full_name = \"The shop\"\nkeep_retired_webhook_period = \"7d\"\n\
                 outgoing_webhook = {{ url = {:?} }}\n",
                receiver.url()
            ),
            ..Setup::default()
        };
        let furnished = Self {
            site: Site::facing_with(&remote, setup).await,
            zone,
            receiver,
            answer,
            _remote: remote,
            _keys: keys,
        };
        for command in MADE {
            furnished.run(command).await;
        }
        furnished.take_reports(&key).await;
        furnished.send().await;
        let address = primary.local_addr().unwrap();
        furnished.site.world.dialer.lead(PRIMARY, address);
        furnished.serve_zone(primary);
        furnished
    }

    /// Serves the zone of the domain, without records, at the time that the clock shows now.
    fn serve_zone(&self, listener: TcpListener) {
        let now = u64::try_from(self.site.world.clock.now().0).unwrap() / 1_000_000;
        let primary = FakePrimary::new("example.org", ZONE_KEY, now).unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                primary.serve(stream).await.unwrap();
            }
        });
    }

    /// Runs the program. The certificate is that of the server.
    async fn run(&self, command: &str) {
        let dir = self.site.world.dir.path();
        let certificate = dir.join("localserve.crt");
        let word = |word| match word {
            "localserve.crt" => certificate.to_str().unwrap(),
            word => word,
        };
        let words: Vec<&str> = command.split(' ').map(word).collect();
        let output = program::run(&dir.join("postrider.conf"), &words).await;
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command}: {errors}");
    }

    /// Takes a report of each kind about yesterday.
    async fn take_reports(&self, key: &DkimKey) {
        let world = &self.site.world;
        let now = world.clock.now().0 / 1_000_000;
        let yesterday = jiff::Timestamp::from_second((now / DAY - 1) * DAY).unwrap();
        let dmarc = reports::xml(yesterday, "r1", "example.org");
        for (to, kind, body) in [
            ("dmarcreports@example.org", "application/xml", &*dmarc),
            (
                "tlsreports@example.org",
                "application/tlsrpt+json",
                &reports::tls(yesterday),
            ),
            ("info@example.org", COMPLAINT_KIND, COMPLAINT),
            ("dmarcreports@example.org", "application/xml", "<feedback>"),
        ] {
            let mail = key.sign("reporter.test", "k", &reports::mail(kind, body));
            let mut session = world.client("smtp").await;
            session.expect("EHLO mx.reporter.test", "250").await;
            let reply = session.submit("noreply@reporter.test", &[to], &mail).await;
            assert!(reply.starts_with("250 "), "{to}: {reply}");
        }
        let all_read = async {
            let store = world.server.store();
            while !store.arrived_reports(None, 9).await.unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        patiently("the worker to read all reports", all_read).await;
    }

    /// Sends messages of all fates, with an hour between them. One is delivered to one recipient
    /// and waits for the other, so its text is there though its delivery is past.
    async fn send(&self) {
        let messages: [(&[&str], _, _); _] = [
            (&["jo@remote.test"], "Your order 1041", Some(200)),
            (&["bad@remote.test"], "Your order 1042", Some(200)),
            (&["held@remote.test"], "Your invoice for November", None),
            (&["slow@remote.test"], "Your order 1043", Some(200)),
            (
                &["jo@remote.test", "slow@remote.test"],
                "Your orders",
                Some(200),
            ),
            (&["ann@remote.test"], "Your order 1044", Some(503)),
        ];
        for (to, subject, answer) in messages {
            self.site.world.clock.advance(HOUR);
            if let Some(status) = answer {
                self.answer.store(status, Ordering::Relaxed);
            }
            self.site.send(to, subject).await;
            if answer.is_some() {
                self.is_told(subject).await;
            }
        }
    }

    /// Waits until the receiver was told of a message with this subject.
    async fn is_told(&self, subject: &str) {
        let mut count = 1;
        loop {
            let calls = self.receiver.wait_for(count).await;
            if calls.iter().any(|call| call.payload["Subject"] == subject) {
                return;
            }
            count = calls.len() + 1;
        }
    }

    /// Makes things with long words: addresses, subjects, ids, the application's own data, replies.
    pub async fn add_long(&self) {
        let word = |pieces: usize| vec!["abcdefghi"; pieces].join(".");
        let long = format!("{}.remote.test", word(12));
        let to_long = format!("queue hold-rules add --recipient-domain {long}");
        self.run(&to_long).await;
        let to_other = format!("slow+{}@{}.test", word(5), word(12));
        for to in [format!("{}@{long}", word(5)), to_other] {
            self.site.send(&[&to], &word(40)).await;
        }
        let request = json!({
            "From": [{"Address": APP, "Name": word(20)}],
            "To": [{"Address": "held@remote.test"}],
            "Subject": word(40),
            "Text": word(100),
            "Extra": {word(10): word(50)},
            "MessageID": format!("<{}@example.org>", word(20)),
        });
        self.site.webapi("Send", &request).await;
        let description = word(30);
        self.run(&format!("config domain add long.{} other", word(6)))
            .await;
        self.run(&format!(
            "config account set other description={description}"
        ))
        .await;
    }
}
