//! A queue with everything that it needs.

#[path = "../../../tests/it/support/dkim_records.rs"]
#[allow(unreachable_pub, reason = "the whole-server tests share it")]
mod dkim_records;

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use arc_swap::ArcSwap;
use base64::{Engine, engine::general_purpose::STANDARD};
use postrider_config::{Dynamic, Live, Static};
use postrider_dns::FakeResolver;
use postrider_observe::{
    Metrics, Tracer,
    trace::{HandedOver, TracerSettings},
};
use postrider_queue::{
    AddError, DeliveryMode, Dialer, Dialing, Queue, QueueParts, Submission, Submitted,
    SubmittedRecipient, TcpDialer, header::Header,
};
use postrider_smtp::{ReversePath, convert::TextNeeds};
use postrider_store::{
    Clock, Event, HookFilter, ManualClock, NewText, Notify, Order, OutgoingEvent, QueueFilter,
    QueueId, Queued, Store, Time, Top, Urgency,
};
use rand::{SeedableRng, rngs::StdRng};
use tokio::{sync::watch, task::JoinHandle};

use self::dkim_records::DkimRecords;
use crate::{patience::patiently, remote::Remote};

/// The end of a connection to an address.
#[derive(Clone, Copy)]
enum Way {
    /// It leads to this port.
    To(SocketAddr),
    /// It is never made.
    Silent,
    /// It fails with this error of the system.
    Fails(i32),
}

/// Leads connections for an address. Other addresses refuse connections.
#[derive(Clone, Default)]
struct Leading {
    ways: Arc<Mutex<HashMap<IpAddr, Way>>>,
    dialed: Arc<watch::Sender<HashMap<IpAddr, usize>>>,
}

impl Dialer for Leading {
    fn dial(&self, address: SocketAddr, from: Option<IpAddr>) -> Dialing {
        let way = self.ways.lock().unwrap().get(&address.ip()).copied();
        self.dialed
            .send_modify(|dialed| *dialed.entry(address.ip()).or_default() += 1);
        Box::pin(async move {
            match way {
                Some(Way::To(to)) => TcpDialer.dial(to, from).await,
                Some(Way::Silent) => std::future::pending().await,
                Some(Way::Fails(error)) => Err(std::io::Error::from_raw_os_error(error)),
                None => Err(std::io::ErrorKind::ConnectionRefused.into()),
            }
        })
    }
}

/// What people see of a queue.
pub(crate) struct Observed {
    tracer: Tracer,
    pub(crate) traces: HandedOver,
    pub(crate) metrics: Arc<Metrics>,
}

impl Default for Observed {
    fn default() -> Self {
        let (tracer, traces) = Tracer::new(TracerSettings::default());
        Self {
            tracer,
            traces,
            metrics: Arc::default(),
        }
    }
}

/// The choices of a test.
#[derive(Default)]
pub(crate) struct Setup<'a> {
    /// Text for the end of postrider.conf.
    pub(crate) statics: &'a str,
    /// Text for the end of domains.conf.
    pub(crate) dynamics: &'a str,
    /// Text for the table of example.org.
    pub(crate) domain: &'a str,
    /// Text for the table of the account.
    pub(crate) account: &'a str,
}

/// A queue over the same parts each time.
fn queue_of(
    store: &Store,
    config: &Live,
    statics: &Arc<Static>,
    clock: &ManualClock,
    resolver: &FakeResolver,
    (leading, observed): (&Leading, &Observed),
) -> Arc<Queue> {
    let queue = Queue::new(QueueParts {
        metrics: Arc::clone(&observed.metrics),
        store: store.clone(),
        tracer: observed.tracer.clone(),
        config: Arc::clone(config),
        statics: Arc::clone(statics),
        clock: Arc::new(clock.clone()),
        resolver: Arc::new(resolver.clone()),
        dialer: Arc::new(leading.clone()),
        delivery: DeliveryMode::Remote,
        rng: StdRng::seed_from_u64(1),
    });
    Arc::new(queue.unwrap())
}

/// A running queue.
pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) clock: ManualClock,
    pub(crate) resolver: FakeResolver,
    leading: Leading,
    pub(crate) observed: Observed,
    pub(crate) queue: Arc<Queue>,
    pub(crate) config: Live,
    statics: Arc<Static>,
    stop: watch::Sender<bool>,
    running: JoinHandle<()>,
}

/// A message to send.
pub(crate) struct Message<'a> {
    pub(crate) to: Vec<&'a str>,
    pub(crate) reverse_path: ReversePath,
    pub(crate) own_from_id: bool,
    pub(crate) notify: Notify,
    pub(crate) envid: &'a str,
    pub(crate) text: &'a str,
    pub(crate) account: &'a str,
    pub(crate) login: &'a str,
    pub(crate) seconds: u64,
    pub(crate) list: &'a str,
    pub(crate) require_tls: Option<bool>,
}

impl<'a> Message<'a> {
    pub(crate) fn to(to: &[&'a str]) -> Self {
        Self {
            to: to.to_vec(),
            reverse_path: "ann@example.org".parse().unwrap(),
            own_from_id: false,
            notify: Notify::default(),
            envid: "",
            text: "From: ann@example.org\r\nSubject: x\r\nMessage-Id: <1@example.org>\r\n\r\nHi.\r\n",
            list: "",
            account: "ann",
            login: "ann@example.org",
            seconds: 0,
            require_tls: None,
        }
    }

    /// The same message, with its first attempt so many seconds from now.
    pub(crate) fn later(self, seconds: u64) -> Self {
        Self { seconds, ..self }
    }
}

impl World {
    pub(crate) fn start(setup: Setup<'_>) -> Self {
        let statics = format!(
            "hostname = \"mail.example.org\"\n[postmaster]\naccount = \"ann\"\n\
             [listeners.l]\nips = [\"127.0.0.1\"]\n{}",
            setup.statics
        );
        let statics = Static::parse(&statics, "postrider.conf").unwrap();
        let dynamics = format!(
            "[domains.\"example.org\"]\n{}\n[accounts.ann]\ndomain = \"example.org\"\n\
             destinations.\"ann@example.org\" = {{}}\nkeep_retired_message_period = \"168h\"\n\
             outgoing_webhook.url = \"http://127.0.0.1:9/\"\n{}\n{}",
            setup.domain, setup.account, setup.dynamics
        );
        let dynamic = Dynamic::parse(&dynamics, "domains.conf", &statics).unwrap();
        let store = Store::memory();
        let clock = ManualClock::new(Time(1_800_000_000_000_000));
        let resolver = FakeResolver::default();
        let leading = Leading::default();
        let config = Arc::new(ArcSwap::from_pointee(dynamic));
        let statics = Arc::new(statics);
        let observed = Observed::default();
        let around = (&leading, &observed);
        let queue = queue_of(&store, &config, &statics, &clock, &resolver, around);
        let (stop, stopped) = watch::channel(false);
        let running = tokio::spawn(Arc::clone(&queue).run(stopped));
        Self {
            store,
            clock,
            resolver,
            leading,
            observed,
            queue,
            config,
            statics,
            stop,
            running,
        }
    }

    /// Ends the queue, and begins another one that knows only what the store has.
    pub(crate) async fn restart(&mut self) {
        let (stop, stopped) = watch::channel(false);
        std::mem::replace(&mut self.stop, stop).send_replace(true);
        let ended = std::mem::replace(&mut self.running, tokio::spawn(async {}));
        ended.await.unwrap();
        self.queue = queue_of(
            &self.store,
            &self.config,
            &self.statics,
            &self.clock,
            &self.resolver,
            (&self.leading, &self.observed),
        );
        self.running = tokio::spawn(Arc::clone(&self.queue).run(stopped));
    }

    /// Ends the queue in the middle, without a word, and begins another one that knows only what
    /// the store has.
    pub(crate) fn kill(&mut self) {
        self.running.abort();
        let (stop, stopped) = watch::channel(false);
        self.stop = stop;
        self.queue = queue_of(
            &self.store,
            &self.config,
            &self.statics,
            &self.clock,
            &self.resolver,
            (&self.leading, &self.observed),
        );
        self.running = tokio::spawn(Arc::clone(&self.queue).run(stopped));
    }

    pub(crate) fn now(&self) -> Time {
        self.clock.now()
    }

    pub(crate) fn mx(&self, domain: &str, hosts: &[(u16, &str)]) {
        self.resolver.set_mx(domain, hosts);
    }

    pub(crate) fn host(&self, name: &str, ip: &str) {
        self.resolver.add_address(name, ip);
    }

    pub(crate) fn lead(&self, ip: &str, remote: &Remote) {
        self.lead_to(ip, remote.address);
    }

    pub(crate) fn lead_to(&self, ip: &str, address: SocketAddr) {
        self.set_way(ip, Way::To(address));
    }

    /// Connections to this address are never made.
    pub(crate) fn silence(&self, ip: &str) {
        self.set_way(ip, Way::Silent);
    }

    /// Connections to this address fail with an error of the system.
    pub(crate) fn break_way(&self, ip: &str, error: i32) {
        self.set_way(ip, Way::Fails(error));
    }

    fn set_way(&self, ip: &str, way: Way) {
        let mut ways = self.leading.ways.lock().unwrap();
        ways.insert(ip.parse().unwrap(), way);
    }

    /// How often connections to this address were asked for.
    pub(crate) fn dialed(&self, ip: &str) -> usize {
        let dialed = self.leading.dialed.borrow();
        dialed.get(&ip.parse().unwrap()).copied().unwrap_or(0)
    }

    /// Waits until so many connections to this address were asked for.
    pub(crate) async fn dialed_until(&self, ip: &str, count: usize) {
        let ip: IpAddr = ip.parse().unwrap();
        let mut dialed = self.leading.dialed.subscribe();
        let enough = |dialed: &HashMap<IpAddr, usize>| dialed.get(&ip) >= Some(&count);
        dialed.wait_for(enough).await.unwrap();
    }

    /// Waits until `enough` is true for the queued messages. Gives them.
    pub(crate) async fn queued_until(&self, enough: impl Fn(&[Queued]) -> bool) -> Vec<Queued> {
        let mut changed = self.store.queue_changed();
        loop {
            changed.mark_unchanged();
            let filter = QueueFilter::default();
            let page = self.store.list(&filter, None, Order::Ascending, 1000);
            let queued = page.await.unwrap().items;
            if enough(&queued) {
                return queued;
            }
            changed.changed().await.unwrap();
        }
    }

    /// Waits until nothing is under way, and gives the messages: each waits for its time, for its
    /// site, for an answer of the DNS, or for the end of a fault.
    pub(crate) async fn at_rest(&self) -> Vec<Queued> {
        const WAITS: [&str; 7] = [
            " from a source of ours until ",
            " is down until ",
            " is resting until ",
            " is blocked until ",
            " paused",
            " are looked up at ",
            "all deliveries wait until ",
        ];
        // What the time alone begins comes first.
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        let rest = async {
            loop {
                let filter = QueueFilter::default();
                let page = self.store.list(&filter, None, Order::Ascending, 1000);
                let queued = page.await.unwrap().items;
                let mut rests = true;
                for message in &queued {
                    let due = message.next_attempt <= self.now() && !message.hold;
                    let explained = self.queue.explain(message).await.unwrap();
                    let why = WAITS.iter().find_map(|why| explained.split_once(why));
                    let waits = why.is_some_and(|(_, until)| !self.is_over(until));
                    let claimed = self.store.is_claimed(message.id).await.unwrap();
                    rests = !claimed && (!due || waits);
                    if !rests {
                        break;
                    }
                }
                if rests {
                    return queued;
                }
                tokio::task::yield_now().await;
            }
        };
        patiently("the queue at rest", rest).await
    }

    /// Whether this text begins with a time that is over.
    fn is_over(&self, text: &str) -> bool {
        let time = text.split_once('Z').map(|(time, _)| format!("{time}Z"));
        time.is_some_and(|time| {
            time.starts_with(char::is_numeric) && time <= self.now().to_string()
        })
    }

    pub(crate) async fn submit(&self, message: Message<'_>) -> Vec<Submitted> {
        self.try_submit(message).await.unwrap()
    }

    pub(crate) async fn try_submit(
        &self,
        message: Message<'_>,
    ) -> Result<Vec<Submitted>, AddError> {
        self.queue.add(self.submission(message)).await
    }

    pub(crate) async fn submit_urgently(&self, message: Message<'_>, urgency: Urgency) {
        let mut submission = self.submission(message);
        submission.urgency = urgency;
        self.queue.add(submission).await.unwrap();
    }

    fn submission(&self, message: Message<'_>) -> Submission {
        let header = Header::scan(message.text.as_bytes());
        let recipients = message.to.iter().map(|address| SubmittedRecipient {
            address: address.parse().unwrap(),
            notify: message.notify,
            orcpt: String::new(),
        });
        Submission {
            urgency: Urgency::default(),
            once: None,
            list: message.list.into(),
            account: message.account.into(),
            login: Some(message.login.parse().unwrap()),
            reverse_path: message.reverse_path,
            own_from_id: message.own_from_id,
            recipients: recipients.collect(),
            top: Top::EMPTY,
            text: NewText::Inline(message.text.as_bytes().to_vec().into()),
            size: message.text.len() as u64,
            message_id: header.message_id().into(),
            subject: header.subject().into(),
            from: header.from().cloned(),
            needs: TextNeeds::of(message.text.as_bytes()),
            smtputf8: !header.is_ascii(),
            require_tls: message.require_tls,
            not_before: Some(self.now().after(Duration::from_secs(message.seconds))),
            hold: false,
            future_release: String::new(),
            extra: BTreeMap::from([("K".into(), "v".into())]),
            ret_full: None,
            envid: message.envid.into(),
        }
    }

    pub(crate) async fn add<const N: usize>(&self, message: Message<'_>) -> [QueueId; N] {
        let submitted = self.submit(message).await;
        let ids: Vec<QueueId> = submitted.iter().map(|submitted| submitted.id).collect();
        ids.try_into().unwrap()
    }

    /// Waits for so many events, and gives all, oldest first.
    pub(crate) async fn events(&self, count: usize) -> Vec<(QueueId, Event)> {
        let mut changed = self.store.hooks_changed();
        loop {
            changed.mark_unchanged();
            let hooks = self
                .store
                .list_hooks(&HookFilter::default(), None, Order::Ascending, 1000)
                .await
                .unwrap()
                .items;
            if hooks.len() >= count {
                let told = hooks.iter().filter_map(|hook| hook.kind.outgoing());
                return told.map(|told| (told.queue_id, told.event)).collect();
            }
            changed.changed().await.unwrap();
        }
    }

    /// The contents of all events so far, oldest first.
    pub(crate) async fn told(&self) -> Vec<OutgoingEvent> {
        let hooks = self
            .store
            .list_hooks(&HookFilter::default(), None, Order::Ascending, 1000)
            .await
            .unwrap()
            .items;
        let told = hooks.iter().filter_map(|hook| hook.kind.outgoing());
        told.cloned().collect()
    }

    /// The texts in the account's Inbox.
    pub(crate) async fn mails(&self) -> Vec<String> {
        let page = self.store.list_mails("ann", Some("Inbox"), None, 100).await;
        let mut texts = Vec::new();
        for mail in page.unwrap().items {
            let stored = self.store.mail_message(&mail).await.unwrap();
            texts.push(String::from_utf8(stored.whole().await.unwrap().to_vec()).unwrap());
        }
        texts
    }

    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        self.running.await.unwrap();
    }
}

/// Two keys of example.org, and their DNS records.
pub(crate) struct DkimKeys {
    dir: tempfile::TempDir,
    records: DkimRecords,
}

impl DkimKeys {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ed = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let rsa =
            rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048)
                .unwrap();
        for (name, pem) in [
            ("ed.pem", ed.serialize_pem()),
            ("rsa.pem", rsa.serialize_pem()),
        ] {
            postrider_config::replace_private(&dir.path().join(name), pem.as_bytes()).unwrap();
        }
        let ed_record = format!(
            "v=DKIM1; k=ed25519; p={}",
            STANDARD.encode(ed.public_key_raw())
        );
        let rsa_record = format!("v=DKIM1; k=rsa; p={}", STANDARD.encode(spki(&rsa)));
        let records = DkimRecords::new([("ed", ed_record), ("rsa", rsa_record)]);
        Self { dir, records }
    }

    /// The configuration of the keys, for the domain's table.
    pub(crate) fn config(&self) -> String {
        let path = |name: &str| self.dir.path().join(name).display().to_string();
        format!(
            "dkim.sign = [\"ed\", \"rsa\"]\ndkim.selectors.ed.private_key_file = {:?}\n\
             dkim.selectors.rsa.private_key_file = {:?}\n",
            path("ed.pem"),
            path("rsa.pem")
        )
    }

    /// The result and selector of each signature, sorted.
    pub(crate) async fn verify(&self, text: &str) -> Vec<String> {
        self.records.verify(text).await
    }
}

fn spki(key: &rcgen::KeyPair) -> Vec<u8> {
    use rcgen::PublicKeyData;
    key.subject_public_key_info()
}
