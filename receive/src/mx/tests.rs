//! Whole sessions with a client on the internet, and DNS from tables.

mod dialog;
mod dmarc;
mod early;
mod explained;
mod forward;
mod guards;
mod junk;
mod observed;
mod rejects;
mod reported;
mod reports;
mod scripts;
mod signatures;
mod unanswered;

use std::{net::SocketAddr, time::Duration};

use arc_swap::ArcSwap;
use postrider_config::{Dynamic, Static};
use postrider_dns::{FakeResolver, Question, Record, RecordType, Resolver};
use postrider_queue::{DeliveryMode, Queue, QueueParts, TcpDialer};
use postrider_smtp::{Address, ForwardPath, ReversePath, server::SessionId};
use postrider_store::{Mail, ManualClock, Store, Time};
use rand::{SeedableRng, rngs::StdRng};

use super::*;
use crate::{
    Guards,
    checks::questions::TIME_LIMIT,
    login::{LoginLimiter, LoginLimits, Logins},
    memory::TextMemory,
};

const STATICS: &str = r#"hostname = "mx.example.org"
[postmaster]
account = "ann"
[listeners.l]
ips = ["127.0.0.1"]
hostname = "other.example.org"
"#;

const DYNAMICS: &str = r#"[domains."example.org"]
localpart_catchall_separators = ["+"]
[accounts.ann]
domain = "example.org"
from_id_login_addresses = ["ann+id@example.org"]
keep_retired_message_period = "168h"
destinations."ann@example.org" = {}
"#;

const REMOTE: &str = "192.0.2.7:25000";

/// A configuration with more keys. There is no greylist, and no stranger waits.
fn quiet(more: &str) -> Static {
    let statics = format!("{STATICS}{more}");
    let mut statics = Static::parse(&statics, "postrider.conf").unwrap();
    statics.policy.greylist = false;
    statics.policy.first_time_sender_delay = Duration::ZERO;
    statics
}

struct World {
    context: SessionContext,
    dns: FakeResolver,
    clock: ManualClock,
}

impl World {
    /// A server, and a remote host whose names and SPF record are right.
    fn new() -> Self {
        Self::with("")
    }

    /// The same with more keys in postrider.conf.
    fn with(more: &str) -> Self {
        Self::of(quiet(more))
    }

    fn of(statics: Static) -> Self {
        let dynamic = Dynamic::parse(DYNAMICS, "domains.conf", &statics).unwrap();
        let (statics, store) = (Arc::new(statics), Store::memory());
        let config = Arc::new(ArcSwap::from_pointee(dynamic));
        let clock = ManualClock::new(Time(1_800_000_000_000_000));
        let dns = FakeResolver::default();
        let resolver: Arc<dyn Resolver> = Arc::new(dns.clone());
        let queue = Queue::new(QueueParts {
            metrics: Arc::default(),
            store: store.clone(),
            tracer: postrider_observe::Tracer::off(),
            config: Arc::clone(&config),
            statics: Arc::clone(&statics),
            clock: Arc::new(clock.clone()),
            resolver: Arc::clone(&resolver),
            dialer: Arc::new(TcpDialer),
            delivery: DeliveryMode::Remote,
            rng: StdRng::seed_from_u64(1),
        });
        let context = SessionContext {
            hooks: Arc::default(),
            scripts: Arc::new(crate::sieve::ready::Scripts::new(store.clone())),
            metrics: Arc::default(),
            config,
            queue: Arc::new(queue.unwrap()),
            logins: Arc::new(Logins::new(store.clone())),
            limiter: Arc::new(LoginLimiter::new(LoginLimits::default())),
            memory: TextMemory::new(1 << 20),
            guards: Arc::new(Guards::new(
                &statics,
                Arc::new(clock.clone()),
                Arc::clone(&resolver),
            )),
            clock: Arc::new(clock.clone()),
            simulate: false,
            store,
            tracer: postrider_observe::Tracer::off(),
            resolver,
            statics,
        };
        let reverse = Question::reverse([192, 0, 2, 7].into());
        dns.add(reverse.name(), Record::Ptr("mail.remote.test".to_owned()));
        dns.add_address("mail.remote.test", "192.0.2.7");
        for domain in ["remote.test", "other.test", "bank.test"] {
            dns.set_mx(domain, &[(10, "mail.remote.test")]);
        }
        for name in ["remote.test", "mail.remote.test"] {
            dns.add(
                name,
                Record::Txt(b"v=spf1 a:mail.remote.test -all".to_vec()),
            );
        }
        Self {
            context,
            dns,
            clock,
        }
    }

    fn session(&self) -> MxSession {
        MxSession::new(self.context.clone(), "other.example.org".to_owned())
    }

    /// The mails in the inbox, the newest last, each with its whole text.
    async fn mails(&self) -> Vec<(Mail, String)> {
        let store = &self.context.store;
        let found = store.list_mails("ann", None, None, 10).await.unwrap();
        let mut mails = Vec::new();
        for mail in found.items {
            let message = store.mail_message(&mail).await.unwrap();
            let text = message.whole().await.unwrap();
            mails.push((mail, String::from_utf8(text.to_vec()).unwrap()));
        }
        mails
    }
}

fn client(remote: &str) -> Client {
    let remote: SocketAddr = remote.parse().unwrap();
    Client {
        helo: Some("mail.remote.test".to_owned()),
        esmtp: true,
        ..Client::new(SessionId::of(1), remote, "203.0.113.1:25".parse().unwrap())
    }
}

fn transaction(from: &str) -> Transaction {
    let reverse_path = match from {
        "" => ReversePath::Null,
        from => ReversePath::Mailbox(Address::parse(from).unwrap()),
    };
    Transaction {
        mail: MailFrom {
            reverse_path,
            size: None,
            body: BodyType::SevenBit,
            smtputf8: false,
            require_tls: false,
            ret: None,
            envid: None,
            delivery: Default::default(),
        },
        recipients: vec![RcptTo {
            forward_path: ForwardPath::Mailbox(Address::parse("ann@example.org").unwrap()),
            notify: None,
            orcpt: None,
        }],
    }
}

/// MAIL and RCPT.
async fn begin(session: &mut MxSession, client: &Client, transaction: &Transaction) {
    session.mail(client, &transaction.mail).await.unwrap();
    for rcpt in &transaction.recipients {
        session.rcpt(client, transaction, rcpt).await.unwrap();
    }
}

/// DATA, up to the end of the text.
async fn text(session: &mut MxSession, client: &Client, transaction: &Transaction, text: &str) {
    session.data(client, transaction).await.unwrap();
    session.text(text.as_bytes()).await.unwrap();
}

/// Sends a message. Returns its mail, and its text without the Received field.
async fn send(world: &World, remote: &str, from: &str, message: &str) -> (Mail, String) {
    let (client, transaction) = (client(remote), transaction(from));
    let mut session = world.session();
    begin(&mut session, &client, &transaction).await;
    text(&mut session, &client, &transaction, message).await;
    let reply = session.end(&client, &transaction).await.to_string();
    assert!(reply.starts_with("250 "), "{reply}");
    let (mail, text) = world.mails().await.pop().unwrap();
    let (before, rest) = text.split_once("Received: ").unwrap();
    let mut lines = rest.split_inclusive("\r\n").skip(1);
    let after: String = lines
        .by_ref()
        .skip_while(|line| line.starts_with(['\t', ' ']))
        .collect();
    (mail, format!("{before}{after}"))
}

const MESSAGE: &str = "From: <ann@remote.test>\r\nSubject: hi\r\n\r\nHello.\r\n";

#[tokio::test]
async fn the_results_stand_between_return_path_and_received() {
    let world = World::new();
    let right = "Return-Path: <ann@remote.test>\r\n\
                 Delivered-To: ann@example.org\r\n\
                 Authentication-Results: other.example.org; iprev=pass policy.iprev=192.0.2.7;\r\n\
                 \tspf=pass smtp.mailfrom=remote.test;\r\n\
                 \tdmarc=none header.from=remote.test\r\n";
    let (mail, text) = send(&world, REMOTE, "ann@remote.test", MESSAGE).await;
    assert_eq!(text, format!("{right}{MESSAGE}"));
    let arrival = mail.smtp.unwrap();
    assert!(arrival.mail_from_validated && arrival.msg_from_validated);
    // Nothing of the mail's own counts as ours.
    let forged = "Authentication-Results: (x) MX.example.org; spf=pass\r\n\
                  Return-Path: <ceo@bank.test>\r\n\
                  authentication-results\r\n : \"Other\\.example.org\" 1; dkim=pass\r\n\
                  X-Postrider-Anything: x\r\n";
    let of_others = "Authentication-Results: mx.remote.test; spf=fail\r\n";
    let sent = format!("{forged}{of_others}{MESSAGE}");
    let (_, text) = send(&world, REMOTE, "ann@remote.test", &sent).await;
    assert_eq!(text, format!("{right}{of_others}{MESSAGE}"));
}

#[tokio::test]
async fn a_failure_is_a_fact_and_no_refusal() {
    let world = World::new();
    let (mail, text) = send(&world, "192.0.2.8:1", "ann@remote.test", MESSAGE).await;
    let expected = "Authentication-Results: other.example.org; iprev=permerror \
                    reason=\"the address has no name\" policy.iprev=192.0.2.8;\r\n\
                    \tspf=fail reason=\"-all matches in the record of remote.test\" \
                    smtp.mailfrom=remote.test;\r\n";
    assert!(text.contains(expected), "{text}");
    assert!(!mail.smtp.unwrap().mail_from_validated);
    // A null reverse-path is checked by the name in EHLO, and validates no MAIL FROM.
    let (mail, text) = send(&world, REMOTE, "", MESSAGE).await;
    assert!(
        text.contains("\tspf=pass smtp.helo=mail.remote.test;\r\n"),
        "{text}"
    );
    assert!(!mail.smtp.unwrap().mail_from_validated);
}

#[tokio::test]
async fn a_client_on_this_machine_is_not_asked_for_and_localserve_checks_nobody() {
    let world = World::new();
    for remote in ["127.0.0.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
        let (_, text) = send(&world, remote, "ann@remote.test", MESSAGE).await;
        let expected = "Authentication-Results: other.example.org; \
                        dmarc=none header.from=remote.test\r\n";
        assert!(text.contains(expected), "{text}");
    }
    let spf = Question::new("remote.test", RecordType::Txt);
    assert_eq!(world.dns.asked(&spf), 0);
    let author = Question::new("_dmarc.remote.test", RecordType::Txt);
    let asked = world.dns.asked(&author);
    let mut world = world;
    world.context.simulate = true;
    let (_, text) = send(&world, REMOTE, "ann@remote.test", MESSAGE).await;
    assert!(text.contains("other.example.org; none\r\n"), "{text}");
    assert_eq!(world.dns.asked(&spf), 0);
    assert_eq!(world.dns.asked(&author), asked);
}

/// A domain with a record of SPF whose end has no answer.
fn silent() -> World {
    let world = World::new();
    world.dns.set_mx("silent.test", &[(10, "mail.remote.test")]);
    let record = Record::Txt(b"v=spf1 include:spf.silent.test -all".to_vec());
    world.dns.add("silent.test", record);
    world.dns.hang("spf.silent.test");
    world
}

/// The questions are asked before the text comes. Silent servers of a sender cost it its own time.
#[tokio::test]
async fn silent_dns_is_a_temporary_error_after_20_seconds() {
    let world = silent();
    let (client, transaction) = (client(REMOTE), transaction("ann@silent.test"));
    let mut session = world.session();
    begin(&mut session, &client, &transaction).await;
    let spf = Question::new("spf.silent.test", RecordType::Txt);
    while world.dns.asked(&spf) == 0 {
        tokio::task::yield_now().await;
    }
    text(&mut session, &client, &transaction, MESSAGE).await;
    let later = async { world.clock.advance(TIME_LIMIT) };
    let (reply, ()) = tokio::join!(session.end(&client, &transaction), later);
    assert!(reply.to_string().starts_with("250 "));
    let (_, text) = world.mails().await.pop().unwrap();
    assert!(
        text.contains("\tspf=temperror reason=\"no answer about spf.silent.test: the time"),
        "{text}"
    );
}

#[tokio::test]
async fn rset_ends_the_checks() {
    let world = silent();
    let (client, transaction) = (client(REMOTE), transaction("ann@silent.test"));
    let mut session = world.session();
    begin(&mut session, &client, &transaction).await;
    let clocks = || Arc::strong_count(&world.context.clock);
    assert!(clocks() > 2, "the checks hold the clock");
    session.reset();
    while clocks() > 2 {
        tokio::task::yield_now().await;
    }
    // The next transaction has results of its own.
    let (mail, _) = send(&world, REMOTE, "ann@remote.test", MESSAGE).await;
    assert!(mail.smtp.unwrap().mail_from_validated);
}
