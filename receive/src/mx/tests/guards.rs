//! What a client is asked for before its text.

use futures_util::FutureExt;
use postrider_observe::{
    Tracer,
    trace::{self, EventType, Key, TracerSettings},
};
use postrider_smtp::{
    sasl::{Evidence, Mechanism},
    server::{Refused, SessionName},
};

use super::{junk::call, *};
use crate::{SubmissionSession, mx::MxRules};

pub(super) const SECOND: Duration = Duration::from_secs(1);
/// A client without names and without SPF.
pub(super) const STRANGER: &str = "192.0.2.99:25000";

/// A server with a greylist.
pub(super) fn world() -> World {
    let statics = format!("{STATICS}[limits]\nmessages_per_network = 3\n");
    let mut statics = Static::parse(&statics, "postrider.conf").unwrap();
    statics.policy.first_time_sender_delay = Duration::ZERO;
    World::of(statics)
}

/// The text of a reply, whose refusal counts. Empty: the answer is yes.
fn said<T>(session: &mut impl Handler, answer: Result<T, Reply>) -> String {
    let Err(reply) = answer else {
        return String::new();
    };
    let refused = Refused::of_session(SessionName::default(), reply.clone());
    session.happened(&client(STRANGER), &Event::Refused(Box::new(refused)));
    reply.to_string()
}

/// MAIL in a session of its own.
async fn mail(world: &World, remote: &str, from: &str) -> String {
    let mail = transaction(from).mail;
    let mut session = world.session();
    let answer = session.mail(&client(remote), &mail).await;
    said(&mut session, answer)
}

/// RCPT after MAIL.
async fn rcpt(session: &mut MxSession, client: &Client, from: &str, to: &str) -> String {
    let mut transaction = transaction(from);
    session.mail(client, &transaction.mail).await.unwrap();
    session.facts.recipients.clear();
    transaction.recipients.clear();
    let forward_path = ForwardPath::parse(to).unwrap();
    let rcpt = RcptTo {
        forward_path,
        notify: None,
        orcpt: None,
    };
    let answer = session.rcpt(client, &transaction, &rcpt).await;
    said(session, answer)
}

/// How often a refusal was counted.
fn counted(world: &World, name: &str) -> u64 {
    let mut all = world.context.guards.refusals.all();
    all.find(|(it, _)| *it == name).unwrap().1
}

#[tokio::test]
async fn the_domain_of_the_sender_has_to_take_mail() {
    let world = World::new();
    world.dns.set_mx("null.test", &[(0, "")]);
    world.dns.exist("empty.test");
    world.dns.fail("silent.test");
    world.dns.add_address("host.test", "192.0.2.50");
    for (from, expected, counter) in [
        ("x@remote.test", "", ""),
        ("x@host.test", "", ""),
        ("", "", ""),
        (
            "x@null.test",
            "550 5.7.27 the sender's domain null.test takes no mail, as its MX says",
            "sender_null_mx",
        ),
        (
            "x@empty.test",
            "550 5.1.8 the sender's domain empty.test has no MX and no address in DNS",
            "sender_takes_no_mail",
        ),
        (
            "x@silent.test",
            "451 4.4.3 there is no answer about the sender's domain silent.test just now, try \
             again later",
            "sender_no_answer",
        ),
        (
            "x@[192.0.2.7]",
            "550 5.7.1 the sender's address needs a domain in the place of [192.0.2.7]",
            "sender_literal",
        ),
    ] {
        assert_eq!(mail(&world, REMOTE, from).await, expected);
        if !counter.is_empty() {
            assert_eq!(counted(&world, counter), 1, "{from}");
        }
        // A program on this machine may pass on what nobody else would take.
        assert_eq!(mail(&world, "127.0.0.1:1", from).await, "", "{from}");
    }
    let mut world = world;
    world.context.simulate = true;
    assert_eq!(mail(&world, REMOTE, "x@null.test").await, "");
}

#[tokio::test]
async fn a_network_has_so_many_messages_a_minute() {
    let world = world();
    for _ in 0..3 {
        assert_eq!(mail(&world, REMOTE, "x@remote.test").await, "");
    }
    let refused = mail(&world, REMOTE, "x@remote.test").await;
    let expected = "451 4.7.28 too many messages from 192.0.2.7, try again in 60 seconds";
    assert_eq!(refused, expected);
    assert_eq!(mail(&world, "192.0.2.8:1", "x@remote.test").await, "");
    for _ in 0..9 {
        assert_eq!(mail(&world, "127.0.0.1:1", "x@remote.test").await, "");
    }
    world.clock.advance(60 * SECOND);
    assert_eq!(mail(&world, REMOTE, "x@remote.test").await, "");
}

/// A list of addresses costs the client its recipients, whether they are taken or refused.
#[tokio::test]
async fn a_network_names_so_many_recipients_a_minute() {
    let world = World::with("[limits]\nrecipients_per_network = 100\n");
    let client = client(REMOTE);
    for n in 0..50 {
        let mut session = world.session();
        assert_eq!(rcpt(&mut session, &client, "", "ann@example.org").await, "");
        let unknown = rcpt(&mut session, &client, "", "x@example.org").await;
        assert!(unknown.starts_with("550 5.1.1 "), "{n}: {unknown}");
    }
    let mut session = world.session();
    let refused = rcpt(&mut session, &client, "", "ann@example.org").await;
    let expected = "451 4.7.28 too many recipients from 192.0.2.7, try again in 60 seconds";
    assert_eq!(refused, expected);
    assert_eq!(counted(&world, "too_many_recipients"), 1);
    let near = self::client("127.0.0.1:1");
    for _ in 0..101 {
        let mut session = world.session();
        assert_eq!(rcpt(&mut session, &near, "", "ann@example.org").await, "");
    }
    world.clock.advance(60 * SECOND);
    let mut session = world.session();
    assert_eq!(rcpt(&mut session, &client, "", "ann@example.org").await, "");
}

/// The bytes of a text count while they come, also for addresses that take all mail.
#[tokio::test]
async fn a_network_sends_so_many_bytes_a_minute() {
    let world = World::with("[limits]\nbytes_per_network = \"1MiB\"\n");
    let refused = "451 4.7.28 too much mail from 192.0.2.7, try again in 60 seconds";
    let to = ["postmaster"];
    let reply = deliver(&mut world.session(), REMOTE, &to).await;
    assert!(reply.starts_with("250 "), "{reply}");
    let (client, transaction) = (client(REMOTE), transaction(""));
    let mut session = world.session();
    begin(&mut session, &client, &transaction).await;
    text(&mut session, &client, &transaction, MESSAGE).await;
    let piece = vec![b'x'; 1 << 20];
    session.text(&piece).await.unwrap();
    let answer = session.text(&piece).await;
    assert_eq!(said(&mut session, answer), refused);
    session.reset();
    assert_eq!(mail(&world, REMOTE, "").await, refused);
    assert_eq!(counted(&world, "too_many_bytes"), 2);
    let reply = deliver(&mut world.session(), "192.0.2.8:1", &to).await;
    assert!(reply.starts_with("250 "), "{reply}");
    world.clock.advance(60 * SECOND);
    let reply = deliver(&mut world.session(), REMOTE, &to).await;
    assert!(reply.starts_with("250 "), "{reply}");
}

/// One address has any number of names behind its separator.
#[tokio::test]
async fn the_greylist_remembers_addresses_and_few_of_a_transaction() {
    let statics = Static::parse(STATICS, "postrider.conf").unwrap();
    let world = World::of(statics);
    let names: Vec<String> = (0..30)
        .map(|n| format!("\"n{n}@example.org\" = {{}}\n"))
        .collect();
    let more = format!("[accounts.ann.destinations]\n{}", names.concat());
    let dynamics = DYNAMICS.replace("destinations.\"ann@example.org\" = {}", "");
    let dynamics = format!("{dynamics}{more}\"ann@example.org\" = {{}}\n");
    let dynamics = Dynamic::parse(&dynamics, "domains.conf", &world.context.statics).unwrap();
    world.context.config.store(Arc::new(dynamics));
    let client = client(STRANGER);
    let stranger = "451 4.7.1 unknown sender, please retry in a minute";
    let name = async |session: &mut MxSession, to: &str| {
        let transaction = transaction("x@remote.test");
        let rcpt = dmarc::rcpt(to);
        let answer = session.rcpt(&client, &transaction, &rcpt).await;
        said(session, answer)
    };
    let from = transaction("x@remote.test").mail;
    let mut session = world.session();
    session.mail(&client, &from).await.unwrap();
    assert_eq!(name(&mut session, "ann+1@example.org").await, stranger);
    session.reset();
    session.mail(&client, &from).await.unwrap();
    for n in 0..30 {
        let to = format!("n{n}@example.org");
        assert_eq!(name(&mut session, &to).await, stranger);
    }
    world.clock.advance(60 * SECOND);
    let mut session = world.session();
    session.mail(&client, &from).await.unwrap();
    // The last ones have no row, and two with one make the network known.
    assert_eq!(name(&mut session, "n29@example.org").await, stranger);
    assert_eq!(name(&mut session, "Ann+2@example.org").await, "");
    assert_eq!(name(&mut session, "n28@example.org").await, stranger);
    assert_eq!(name(&mut session, "n19@example.org").await, "");
    assert_eq!(name(&mut session, "n27@example.org").await, "");
}

#[tokio::test]
async fn a_network_makes_so_many_connections_a_minute() {
    let world = world();
    let greet = async |remote| {
        let mut session = world.session();
        let answer = session.greeting(&client(remote)).await;
        said(&mut session, answer)
    };
    for _ in 0..300 {
        assert_eq!(greet(REMOTE).await, "");
    }
    let refused = "421 4.7.0 too many connections from 192.0.2.7";
    assert_eq!(greet(REMOTE).await, refused);
    assert_eq!(greet("192.0.2.8:1").await, "");
    for _ in 0..301 {
        assert_eq!(greet("[::1]:1").await, "");
    }
    assert_eq!(counted(&world, "too_many_connections"), 1);
}

#[tokio::test]
async fn a_doubtful_stranger_comes_again_after_a_minute() {
    let world = world();
    let client = client(STRANGER);
    let mut session = world.session();
    let stranger = "451 4.7.1 unknown sender, please retry in a minute";
    let (from, to) = ("x@remote.test", "ann@example.org");
    assert_eq!(rcpt(&mut session, &client, from, to).await, stranger);
    world.clock.advance(59 * SECOND);
    assert_eq!(rcpt(&mut session, &client, from, to).await, stranger);
    world.clock.advance(SECOND);
    assert_eq!(rcpt(&mut session, &client, from, to).await, "");
    let other = rcpt(&mut session, &client, from, "ann+x@example.org").await;
    assert_eq!(other, "");
    assert_eq!(counted(&world, "greylisted"), 2);
}

#[tokio::test]
async fn who_is_not_doubtful_and_what_must_arrive_pass_the_greylist() {
    let statics = format!("{STATICS}[host_tls_rpt]\naccount = \"ann\"\nlocalpart = \"tls\"\n");
    let world = World::of(Static::parse(&statics, "postrider.conf").unwrap());
    let dynamics = DYNAMICS.replace(
        "[accounts.ann]",
        "dmarc = { account = \"ann\", localpart = \"DMARC\" }\n[accounts.ann]",
    );
    let dynamics = Dynamic::parse(&dynamics, "domains.conf", &world.context.statics).unwrap();
    world.context.config.store(Arc::new(dynamics));
    let to = "ann@example.org";
    for (remote, from, to) in [
        // SPF passes.
        (REMOTE, "x@remote.test", to),
        // A report, and addresses that take all mail.
        (STRANGER, "", to),
        (STRANGER, "x@remote.test", "postmaster"),
        (STRANGER, "x@remote.test", "Abuse@example.org"),
        (STRANGER, "x@remote.test", "tls@mx.example.org"),
        (STRANGER, "x@remote.test", "dmarc@example.org"),
        ("127.0.0.1:1", "x@remote.test", to),
    ] {
        let mut session = world.session();
        let answer = rcpt(&mut session, &client(remote), from, to).await;
        assert_eq!(answer, "", "{remote} {from} {to}");
    }
    let off = World::new();
    let mut session = off.session();
    let answer = rcpt(&mut session, &client(STRANGER), "x@remote.test", to).await;
    assert_eq!(answer, "");
}

/// A result that is late by more than five seconds counts as no pass.
#[tokio::test]
async fn the_greylist_waits_five_seconds_for_spf() {
    let world = world();
    world.dns.set_mx("slow.test", &[(10, "mail.remote.test")]);
    let record = Record::Txt(b"v=spf1 include:hangs.test -all".to_vec());
    world.dns.add("slow.test", record);
    world.dns.hang("hangs.test");
    let client = client(REMOTE);
    let mut session = world.session();
    let asked = rcpt(&mut session, &client, "x@slow.test", "ann@example.org");
    let hangs = Question::new("hangs.test", RecordType::Txt);
    let begun = || world.dns.asked(&hangs) > 0;
    let answer = after(&world, 5 * SECOND, begun, asked).await;
    assert_eq!(answer, "451 4.7.1 unknown sender, please retry in a minute");
}

/// The answer that comes after this time, and not before. `begun` says that the wait has begun.
async fn after<T>(
    world: &World,
    time: Duration,
    begun: impl Fn() -> bool,
    asked: impl Future<Output = T>,
) -> T {
    let mut asked = std::pin::pin!(asked);
    while !begun() {
        assert!((&mut asked).now_or_never().is_none(), "too early");
        tokio::task::yield_now().await;
    }
    world.clock.advance(time - Duration::from_millis(1));
    for _ in 0..100 {
        assert!((&mut asked).now_or_never().is_none(), "too early");
        tokio::task::yield_now().await;
    }
    world.clock.advance(Duration::from_millis(1));
    asked.await
}

/// The answer that is late by this time.
async fn late<T>(world: &World, seconds: u32, asked: impl Future<Output = T>) -> T {
    match seconds {
        0 => asked.await,
        seconds => {
            let begun = || world.context.guards.slow.late() > 0;
            after(world, seconds * SECOND, begun, asked).await
        }
    }
}

#[tokio::test]
async fn unknown_recipients_are_answered_ever_later() {
    let world = World::new();
    let client = client(REMOTE);
    let mut session = world.session();
    let unknown = "550 5.1.1 there is no x@example.org here";
    for seconds in [0, 0, 1, 2, 3, 4, 5, 6, 7] {
        let asked = rcpt(&mut session, &client, "", "x@example.org");
        assert_eq!(late(&world, seconds, asked).await, unknown);
    }
    let asked = rcpt(&mut session, &client, "", "x@example.org");
    let last = late(&world, 8, asked).await;
    assert_eq!(last, "421 4.7.0 too many unknown recipients, closing");
    assert_eq!(counted(&world, "unknown_recipient"), 9);
    assert_eq!(counted(&world, "too_many_unknown_recipients"), 1);
    // Somebody with a right address goes on.
    let mut session = world.session();
    assert_eq!(rcpt(&mut session, &client, "", "ann@example.org").await, "");
    for n in 0..20_u32 {
        let asked = rcpt(&mut session, &client, "", "x@example.org");
        let seconds = n.saturating_sub(1).min(10);
        assert_eq!(late(&world, seconds, asked).await, unknown, "{n}");
    }
}

#[tokio::test]
async fn a_report_has_one_recipient() {
    let world = World::new();
    let (client, transaction) = (client(REMOTE), transaction(""));
    let mut session = world.session();
    begin(&mut session, &client, &transaction).await;
    let second = session
        .rcpt(&client, &transaction, &transaction.recipients[0])
        .await;
    let expected = "452 4.5.3 a report has one recipient, send the others in transactions of their \
                    own";
    assert_eq!(said(&mut session, second), expected);
}

#[tokio::test]
async fn tls_is_needed_but_for_reports_about_tls() {
    let statics = format!("{STATICS}[host_tls_rpt]\naccount = \"ann\"\nlocalpart = \"tls\"\n");
    let world = World::of(Static::parse(&statics, "postrider.conf").unwrap());
    let rules = MxRules {
        require_starttls: true,
        ..MxRules::default()
    };
    let mut session = world.session().with_rules(rules);
    let mut client = client("127.0.0.1:1");
    for to in ["ann@example.org", "x@example.org", "postmaster"] {
        let answer = rcpt(&mut session, &client, "", to).await;
        assert_eq!(answer, "530 5.7.0 use STARTTLS first", "{to}");
    }
    assert_eq!(
        rcpt(&mut session, &client, "", "TLS@mx.example.org").await,
        ""
    );
    client.tls = Some(postrider_smtp::TlsInfo {
        version: "TLSv1.3".to_owned(),
        cipher: "TLS_AES_256_GCM_SHA384".to_owned(),
    });
    assert_eq!(rcpt(&mut session, &client, "", "ann@example.org").await, "");
}

/// Sends a message and gives the reply.
async fn deliver(session: &mut MxSession, remote: &str, to: &[&str]) -> String {
    deliver_from(session, remote, "x@remote.test", to).await
}

async fn deliver_from(session: &mut MxSession, remote: &str, from: &str, to: &[&str]) -> String {
    let (client, mut transaction) = (client(remote), transaction(from));
    let to = to.iter().map(|to| RcptTo {
        forward_path: ForwardPath::parse(to).unwrap(),
        notify: None,
        orcpt: None,
    });
    transaction.recipients = to.collect();
    begin(session, &client, &transaction).await;
    text(session, &client, &transaction, MESSAGE).await;
    let reply = session.end(&client, &transaction).await;
    match reply.code().is_positive() {
        true => reply.to_string(),
        false => said(session, Err::<(), _>(reply)),
    }
}

#[tokio::test]
async fn a_listed_client_is_refused_if_nothing_else_is_known() {
    let world = World::new();
    let zone = "bl.test";
    world.dns.add_address("2.0.0.127.bl.test", "127.0.0.2");
    world.dns.add_address("7.2.0.192.bl.test", "127.0.0.2");
    let rules = MxRules {
        dnsbls: [Domain::parse(zone).unwrap()].into(),
        ..MxRules::default()
    };
    let session = || world.session().with_rules(rules.clone());
    let reply = deliver(&mut session(), REMOTE, &["ann@example.org"]).await;
    assert_eq!(reply, "550 5.7.1 192.0.2.7 is listed by bl.test");
    assert_eq!(counted(&world, "listed"), 1);
    let reply = deliver(&mut session(), "192.0.2.8:1", &["ann@example.org"]).await;
    assert!(reply.starts_with("250 "), "{reply}");
    // Some addresses take all mail, at worst as junk.
    let reply = deliver(&mut session(), REMOTE, &["abuse@example.org"]).await;
    assert!(reply.starts_with("250 "), "{reply}");
    let (mail, _) = world.mails().await.pop().unwrap();
    assert_eq!(mail.mailbox, "Junk");
    // Nobody asks about a client on this machine.
    let asked = Question::new("1.0.0.127.bl.test", RecordType::A);
    let before = world.dns.asked(&asked);
    let reply = deliver(&mut session(), "127.0.0.1:1", &["ann@example.org"]).await;
    assert!(reply.starts_with("250 "), "{reply}");
    assert_eq!(world.dns.asked(&asked), before);
}

/// A domain whose SPF record needs one question for itself, ten for its terms, and one for each of
/// so many hosts.
fn greedy(world: &World, hosts: u8) {
    let hosts: Vec<_> = (0..hosts).map(|it| format!("{it}.greedy.test")).collect();
    for host in &hosts {
        world.dns.add_address(host, "198.51.100.1");
    }
    let mut record = "v=spf1".to_owned();
    for term in 0..10 {
        let hosts = hosts.iter().skip(term * 10).take(10);
        let hosts: Vec<(u16, &str)> = hosts.map(|host| (10, host.as_str())).collect();
        world.dns.set_mx(&format!("t{term}.test"), &hosts);
        record += &format!(" mx:t{term}.test");
    }
    record += " ?all";
    world.dns.set_mx("greedy.test", &[(10, "mail.remote.test")]);
    world.dns.add("greedy.test", Record::Txt(record.into()));
}

/// A sender that spends questions of its message is looked up like any other. With all of them
/// spent, there is none for DMARC, and the message is refused for that.
#[tokio::test]
async fn a_sender_can_not_ask_so_much_that_its_client_is_not_looked_up() {
    let mut replies = Vec::new();
    for hosts in 75..=100 {
        let world = World::new();
        world.dns.add_address("2.0.0.127.bl.test", "127.0.0.2");
        world.dns.add_address("7.2.0.192.bl.test", "127.0.0.2");
        greedy(&world, hosts);
        let rules = MxRules {
            dnsbls: [Domain::parse("bl.test").unwrap()].into(),
            ..MxRules::default()
        };
        let mut session = world.session().with_rules(rules);
        let to = ["ann@example.org"];
        replies.push(deliver_from(&mut session, REMOTE, "x@greedy.test", &to).await);
    }
    replies.dedup();
    let expected = [
        "550 5.7.1 192.0.2.7 is listed by bl.test",
        "451 4.7.1 there is no answer about the DMARC policy of remote.test just now, try again \
         later",
    ];
    assert_eq!(replies, expected);
}

#[tokio::test]
async fn an_account_gets_so_much_from_a_network() {
    let world = World::new();
    let client: IpAddr = "192.0.2.7".parse().unwrap();
    let now = world.context.clock.moment();
    let rates = &world.context.guards.rates;
    for _ in 0..499 {
        let accounts = std::iter::once("ann");
        rates.take_message(client, accounts, 1, now).unwrap();
    }
    let to = ["ann@example.org", "ann+x@example.org"];
    let reply = deliver(&mut world.session(), REMOTE, &to).await;
    assert!(reply.starts_with("250 "), "{reply}");
    let reply = deliver(&mut world.session(), REMOTE, &to).await;
    let expected = "451 4.7.28 too much mail from 192.0.2.7 for this recipient, try again in 60 \
                    seconds";
    assert_eq!(reply, expected);
    assert_eq!(counted(&world, "account_flooded"), 1);
    let reply = deliver(&mut world.session(), REMOTE, &["postmaster"]).await;
    assert!(reply.starts_with("250 "), "{reply}");
}

/// Refused mail that the account keeps counts too, and over the limit nothing is kept.
#[tokio::test]
async fn an_account_keeps_so_much_refused_mail_of_a_network() {
    let world = World::new();
    world.dns.add_address("2.0.0.127.bl.test", "127.0.0.2");
    world.dns.add_address("7.2.0.192.bl.test", "127.0.0.2");
    let rules = MxRules {
        dnsbls: [Domain::parse("bl.test").unwrap()].into(),
        ..MxRules::default()
    };
    let client: IpAddr = "192.0.2.7".parse().unwrap();
    let rates = &world.context.guards.rates;
    let now = world.context.clock.moment();
    for _ in 0..499 {
        let accounts = std::iter::once("ann");
        rates.take_message(client, accounts, 1, now).unwrap();
    }
    let to = ["ann@example.org"];
    let mut session = world.session().with_rules(rules);
    let reply = deliver(&mut session, REMOTE, &to).await;
    assert!(reply.starts_with("550 5.7.1 "), "{reply}");
    let reply = deliver(&mut session, REMOTE, &to).await;
    assert!(
        reply.starts_with("451 4.7.28 too much mail from"),
        "{reply}"
    );
    let (kept, _) = world.mails().await.pop().unwrap();
    assert_eq!(kept.mailbox, "Rejects");
    assert_eq!(world.mails().await.len(), 1);
}

#[tokio::test]
async fn a_network_with_a_good_history_is_no_stranger() {
    let world = world();
    let other = "x@other.test";
    let mut session = world.session();
    let client = client(REMOTE);
    let stranger = "451 4.7.1 unknown sender, please retry in a minute";
    assert_eq!(
        rcpt(&mut session, &client, other, "ann@example.org").await,
        stranger
    );
    let (mail, _) = send(&world, REMOTE, "ann@remote.test", MESSAGE).await;
    call(&world, &mail, false).await;
    assert_eq!(
        rcpt(&mut session, &client, other, "ann@example.org").await,
        ""
    );
}

/// A mail of a stranger is stored after the wait, and not before.
#[tokio::test]
async fn a_stranger_waits_for_the_answer_to_the_text() {
    let to = ["ann@example.org"];
    let mut statics = Static::parse(STATICS, "postrider.conf").unwrap();
    statics.policy.greylist = false;
    let mut world = World::of(statics);
    let (tracer, handed_over) = Tracer::new(TracerSettings::default());
    world.context.tracer = tracer;
    let mut session = world.session();
    session.happened(&client(REMOTE), &Event::Connected);
    let reply = late(&world, 15, deliver(&mut session, REMOTE, &to)).await;
    assert!(reply.starts_with("250 "), "{reply}");
    let (mail, _) = world.mails().await.pop().unwrap();
    // Now its sender is known.
    call(&world, &mail, false).await;
    let reply = deliver(&mut session, REMOTE, &to).await;
    assert!(reply.starts_with("250 "), "{reply}");
    // Nobody waits on this machine, for a refusal, or for an account that wants no waits.
    let reply = deliver(&mut session, "127.0.0.1:1", &to).await;
    assert!(reply.starts_with("250 "), "{reply}");
    let patient = DYNAMICS.replace("domain = ", "first_time_delay = false\ndomain = ");
    let patient = Dynamic::parse(&patient, "domains.conf", &world.context.statics).unwrap();
    world.context.config.store(Arc::new(patient));
    let message = MESSAGE.replace("remote.test", "bank.test");
    let (mail, _) = send(&world, "198.51.100.1:1", "x@bank.test", &message).await;
    assert_eq!(mail.mailbox, "Inbox");
    // The trace says for whom it waited, and how long.
    session.happened(&client(REMOTE), &Event::Ended);
    let records = handed_over.take();
    let events = records.iter().flat_map(trace::Record::events);
    let waits: Vec<_> = events
        .filter(|it| it.event == EventType::PostriderDelayed)
        .map(|it| {
            let to = it.text(Key::To).map(str::to_owned);
            (to, it.number(Key::Elapsed))
        })
        .collect();
    assert_eq!(waits, [(Some("ann@example.org".to_owned()), Some(15_000))]);
}

#[tokio::test]
async fn failed_logins_are_answered_ever_later() {
    let world = World::new();
    let client = client(REMOTE);
    let mut session = SubmissionSession::new(world.context.clone(), "mx.example.org".to_owned());
    let login = Login {
        mechanism: Mechanism::Plain,
        authorization: String::new(),
        user: "nobody@example.org".to_owned(),
        evidence: Evidence::Password("wrong".to_owned().into()),
    };
    for seconds in [0, 0, 1, 2, 3, 4, 5, 6, 7] {
        let answer = late(&world, seconds, session.login(&client, &login)).await;
        let expected = "535 5.7.8 wrong user or password";
        assert_eq!(said(&mut session, answer), expected);
    }
    let last = late(&world, 8, session.login(&client, &login)).await;
    let expected = "421 4.7.0 too many failed logins, closing";
    assert_eq!(said(&mut session, last), expected);
    assert_eq!(counted(&world, "bad_credentials"), 9);
    assert_eq!(counted(&world, "too_many_failed_logins"), 1);
}
