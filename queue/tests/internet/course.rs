//! The course of a world: it is made of a seed, its mail is submitted, and time goes on until each
//! message has ended.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use postrider_config::{Dynamic, Static};
use postrider_queue::{
    DeliveryMode, Queue, QueueParts, Submission, SubmittedRecipient, header::Header,
};
use postrider_smtp::convert::TextNeeds;
use postrider_store::{Clock, NewText, Notify, QueueId, Store, Top, Urgency};
use rand::{SeedableRng, rngs::StdRng};
use tokio::sync::watch;

use super::{
    certificates,
    clock::SimClock,
    kind::{Form, LIFE_MAX},
    ledger::Ledger,
    letters::{self, Letter},
    net::Net,
    oracle::{self, Findings, Subject},
    policy_host::PolicyHost,
    sites::{Builder, Change, OUR_ADDRESS, OUR_NAME},
    stories::Stories,
    zones::Zones,
};

/// What a world is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seed {
    pub(crate) number: u64,
    pub(crate) sites: usize,
    pub(crate) messages: usize,
    /// So many days have mail.
    pub(crate) days: u32,
    /// The zones are signed, and asked over sockets.
    pub(crate) signed: bool,
}

/// What a world showed.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) findings: Findings,
    /// What was seen, with how often.
    pub(crate) seen: BTreeMap<String, u64>,
    /// All RCPT commands and taken messages, in their order.
    pub(crate) trace: Vec<String>,
}

/// How often the course looks whether all messages have ended.
const LOOK: Duration = Duration::from_secs(10 * 60);

impl Seed {
    /// Runs the world.
    pub(crate) fn run(self) -> Report {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        let stories = Stories::new();
        // The world has one thread, so this is the log of all of it.
        tracing::subscriber::with_default(stories.clone(), || {
            runtime.block_on(self.course(stories))
        })
    }

    async fn course(self, stories: Stories) -> Report {
        let mut rng = StdRng::seed_from_u64(self.number);
        let map = Builder::build(self.sites, &mut rng);
        let letters = letters::letters(&map.sites, (self.messages, self.days), &mut rng);
        let zones = match self.signed {
            true => Zones::signed().await,
            false => Zones::tables(),
        };
        for (name, record) in &map.records {
            zones.add(name, record);
        }
        for (name, fault) in &map.faults {
            zones.spoil(name, *fault);
        }
        let clock = SimClock::begin();
        let net = Net::new(clock, map.hosts, PolicyHost::new(map.policies));
        let ends = stories.clone();
        // Each RCPT may be the last step of a trace. So not many wait.
        net.ledger().at_each_try(move || ends.take());
        let rng = StdRng::from_rng(&mut rng);
        let server = Server::start(clock, &net, &zones, (rng, &stories));
        let mut changes = map.changes;
        changes.sort_by_key(|(at, _)| *at);
        let mut changes = changes.into_iter().peekable();
        let mut ids = Vec::with_capacity(letters.len());
        for (number, letter) in letters.iter().enumerate() {
            while let Some((at, change)) = changes.next_if(|(at, _)| *at <= letter.at) {
                clock.wait_for(at).await;
                server.change(&zones, change).await;
            }
            clock.wait_for(letter.at).await;
            ids.push(server.submit(number, letter).await);
        }
        for (at, change) in changes {
            clock.wait_for(at).await;
            server.change(&zones, change).await;
        }
        let limit = letters::DAY * (self.days + 1) + LIFE_MAX;
        while server.store.counts().await.queued > 0 && clock.age() < limit {
            clock.wait_for(clock.age() + LOOK).await;
            stories.take();
        }
        // Idle connections end.
        clock.wait_for(clock.age() + LOOK).await;
        stories.take();
        let subject = Subject {
            store: &server.store,
            net: &net,
            sites: &map.sites,
            letters: &letters,
            ids: &ids,
            stories: &stories,
        };
        let findings = oracle::judge(subject).await;
        let ledger: Ledger = net.ledger().clone();
        server.stop().await;
        Report {
            findings,
            seen: ledger.seen(),
            trace: ledger.trace(),
        }
    }
}

/// The queue under test.
struct Server {
    store: Store,
    queue: Arc<Queue>,
    clock: SimClock,
    stop: watch::Sender<bool>,
    running: tokio::task::JoinHandle<()>,
    _dir: tempfile::TempDir,
}

impl Server {
    fn start(
        clock: SimClock,
        net: &Net,
        zones: &Zones,
        (rng, stories): (StdRng, &Stories),
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = dir.path().join("ca.pem");
        std::fs::write(&ca, certificates::ca_pem()).unwrap();
        let statics = format!(
            "hostname = \"{OUR_NAME}\"\n[postmaster]\naccount = \"ann\"\n\
             [listeners.l]\nips = [\"{OUR_ADDRESS}\"]\nsmtp.enabled = true\n\
             [tls]\nca_files = [{ca:?}]\n[delivery]\nsource_pool = \"all\"\n\
             [sources.one]\nip = \"127.0.0.11\"\nehlo = \"one.example.org\"\n\
             [sources.two]\nip = \"127.0.0.12\"\nehlo = \"two.example.org\"\n\
             [sources.six]\nip = \"2001:db8::11\"\nehlo = \"six.example.org\"\n\
             [pools.all.sources]\none = 1\ntwo = 1\nsix = 1\n"
        );
        let statics = Static::parse(&statics, "postrider.conf").unwrap();
        let dynamics = "[domains.\"example.org\"]\n[accounts.ann]\ndomain = \"example.org\"\n\
             destinations.\"ann@example.org\" = {}\nkeep_retired_message_period = \"1000h\"\n";
        let dynamics = Dynamic::parse(dynamics, "domains.conf", &statics).unwrap();
        let store = Store::memory();
        let queue = Queue::new(QueueParts {
            metrics: Arc::clone(&stories.metrics),
            store: store.clone(),
            tracer: stories.tracer.clone(),
            config: Arc::new(ArcSwap::from_pointee(dynamics)),
            statics: Arc::new(statics),
            clock: Arc::new(clock),
            resolver: zones.resolver(clock),
            dialer: Arc::new(net.clone()),
            delivery: DeliveryMode::Remote,
            rng,
        });
        let queue = Arc::new(queue.unwrap());
        let (stop, stopped) = watch::channel(false);
        let running = tokio::spawn(Arc::clone(&queue).run(stopped));
        Self {
            store,
            queue,
            clock,
            stop,
            running,
            _dir: dir,
        }
    }

    async fn change(&self, zones: &Zones, change: Change) {
        match change {
            Change::Mend(name) => zones.mend(&name),
            Change::Replace(domain, hosts) => zones.replace(&domain, &hosts),
            Change::Pause(domain, until) => {
                let until = Some(SimClock::time_at(until));
                let paused =
                    self.queue
                        .pause_site(&self.store, &domain, until, "a test of patience");
                paused.await.unwrap();
            }
        }
    }

    /// Adds a letter to the queue. Gives the message of each recipient.
    async fn submit(&self, number: usize, letter: &Letter) -> Vec<QueueId> {
        let text = letter.text(number);
        let header = Header::scan(text.as_bytes());
        let recipients = letter.to.iter().map(|to| SubmittedRecipient {
            address: to.address.parse().unwrap(),
            notify: Notify::default(),
            orcpt: String::new(),
        });
        let submission = Submission {
            urgency: Urgency::default(),
            once: None,
            list: String::new(),
            account: "ann".into(),
            login: Some("ann@example.org".parse().unwrap()),
            reverse_path: "ann@example.org".parse().unwrap(),
            own_from_id: false,
            recipients: recipients.collect(),
            top: Top::EMPTY,
            text: NewText::Inline(text.as_bytes().to_vec().into()),
            size: text.len() as u64,
            message_id: header.message_id().into(),
            subject: header.subject().into(),
            from: header.from().cloned(),
            needs: TextNeeds::of(text.as_bytes()),
            smtputf8: false,
            require_tls: match letter.form {
                Form::RequireTls => Some(true),
                Form::TlsNotRequired => Some(false),
                Form::Plain | Form::Large | Form::EightBit => None,
            },
            not_before: Some(self.clock.now()),
            hold: false,
            future_release: String::new(),
            extra: BTreeMap::new(),
            ret_full: None,
            envid: String::new(),
        };
        let submitted = self.queue.add(submission).await.unwrap();
        submitted.iter().map(|submitted| submitted.id).collect()
    }

    async fn stop(self) {
        self.stop.send_replace(true);
        self.running.await.unwrap();
    }
}
