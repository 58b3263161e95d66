//! What must be true of a world when all of its messages have ended.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use postrider_store::{Event, EventFilter, Order, QueueFilter, QueueId, Retired, Store};

use super::{
    clock::SimClock,
    kind::{End, Form, Kind, LIFE_MAX, Under},
    ledger::HostNotes,
    letters::{Letter, Recipient},
    net::Net,
    sites::Site,
    stories::{Stories, Sums},
};

/// The broken rules, each with what it is about: a kind of sites, or a word.
pub(crate) type Findings = Vec<(String, String)>;

/// What is judged.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) store: &'a Store,
    pub(crate) net: &'a Net,
    pub(crate) sites: &'a [Site],
    pub(crate) letters: &'a [Letter],
    /// The messages of each letter.
    pub(crate) ids: &'a [Vec<QueueId>],
    pub(crate) stories: &'a Stories,
}

/// What was told of a message.
#[derive(Clone, Debug, Default)]
struct Told {
    ends: Vec<Event>,
    delays: usize,
    /// When it ended.
    ended: Duration,
}

/// The mails to the sender about a recipient.
#[derive(Clone, Copy, Debug, Default)]
struct Mails {
    delayed: usize,
    failed: usize,
}

/// The connections that a site may have (§6 of the rules: the entry `default`).
const CONNECTIONS_MAX: usize = 10;
/// The messages of one of its connections.
const MESSAGES_MAX: usize = 100;
/// The connections of a site in a minute.
const CONNECTS_MAX: usize = 100;
/// The connections of an address over all sites.
const ADDRESS_MAX: usize = 20;
/// So many replies in so short a time tell that a site blocks us. Then it is left alone for so
/// long.
const BLOCKS: usize = 3;
const BLOCKS_WITHIN: Duration = Duration::from_secs(10 * 60);
const BLOCKED_FOR: Duration = Duration::from_secs(4 * 60 * 60);
/// A part of an outage, and the connections that are tried in it.
const OUTAGE: Duration = Duration::from_secs(3 * 60 * 60);
const TRIES_MAX: usize = 15;
/// Beside 5 % of its messages, so many connections may be more than a site takes.
const FEW_MAX: usize = 3;
/// How many attempts of a message are shown.
const RESULTS_SHOWN: usize = 9;
const MINUTE: Duration = Duration::from_secs(60);

/// Judges a world.
pub(crate) async fn judge(subject: Subject<'_>) -> Findings {
    let mut judge = Judge {
        told: subject.told().await,
        mails: subject.mails().await,
        findings: Findings::new(),
        sums: Sums::default(),
        subject,
    };
    for fault in subject.net.ledger().faults() {
        judge.findings.push(("network".to_owned(), fault));
    }
    let left = judge.unended().await;
    judge.findings.extend(left);
    for (number, (letter, ids)) in subject.letters.iter().zip(subject.ids).enumerate() {
        let text = letter.text(number);
        for (to, id) in letter.to.iter().zip(ids) {
            judge.message((letter, &text), to, *id).await;
        }
    }
    for site in subject.sites {
        judge.site(site);
    }
    judge.strays();
    let Sums { results, ends } = judge.sums;
    let wrong = subject.stories.judge_all(results, ends).into_iter();
    let wrong = wrong.map(|what| ("stories".to_owned(), what));
    judge.findings.extend(wrong);
    judge.findings
}

impl Subject<'_> {
    /// What the log of the account has of each message.
    async fn told(&self) -> BTreeMap<QueueId, Told> {
        let mut told: BTreeMap<QueueId, Told> = BTreeMap::new();
        let filter = EventFilter::default();
        let all = self
            .store
            .list_events(&filter, None, Order::Ascending, usize::MAX / 2);
        for event in all.await.unwrap().items {
            let entry = told.entry(event.told.queue_id).or_default();
            match event.told.event {
                Event::Delayed => entry.delays += 1,
                end => {
                    entry.ends.push(end);
                    entry.ended = SimClock::age_at(event.told.queued);
                }
            }
        }
        told
    }

    /// The reports in the Inbox of the account, by recipient.
    async fn mails(&self) -> BTreeMap<String, Mails> {
        let mut mails: BTreeMap<String, Mails> = BTreeMap::new();
        let all = self.store.list_mails("ann", None, None, usize::MAX / 2);
        for mail in all.await.unwrap().items {
            let message = self.store.mail_message(&mail).await.unwrap();
            let text = message.whole().await.unwrap();
            let text = String::from_utf8_lossy(&text).into_owned();
            let field = |name: &str| {
                let mut lines = text.lines();
                lines.find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()))
            };
            let to = field("Final-Recipient: rfc822;").unwrap_or_default();
            let entry = mails.entry(to).or_default();
            match field("Action: ").as_deref() {
                Some("delayed") => entry.delayed += 1,
                Some("failed") => entry.failed += 1,
                _ => {}
            }
        }
        mails
    }
}

struct Judge<'a> {
    subject: Subject<'a>,
    told: BTreeMap<QueueId, Told>,
    mails: BTreeMap<String, Mails>,
    findings: Findings,
    sums: Sums,
}

impl Judge<'_> {
    fn see(&self, what: impl std::fmt::Display) {
        self.subject.net.ledger().see(what);
    }

    /// The messages that never ended.
    async fn unended(&self) -> Findings {
        let filter = QueueFilter::default();
        let left = self
            .subject
            .store
            .list(&filter, None, Order::Ascending, 1000);
        let left = left.await.unwrap().items;
        left.iter()
            .map(|it| {
                let text = format!("{} has not ended: {it:?}", it.recipient);
                ("no end".to_owned(), text)
            })
            .collect()
    }

    /// One message of a letter.
    async fn message(&mut self, (letter, text): (&Letter, &str), to: &Recipient, id: QueueId) {
        let Ok(Some(retired)) = self.subject.store.retired(id).await else {
            return;
        };
        let site = &self.subject.sites[letter.site];
        let told = self.told.get(&id).cloned().unwrap_or_default();
        let is_suppressed = told.ends.contains(&Event::Suppressed);
        self.sums.add(&retired, is_suppressed);
        let wrong = [
            self.end(to, &told, &retired),
            self.reports(to, &told),
            self.copies(site, (letter, text), to),
            self.attempts(site, letter, to, &told, &retired),
            self.sticks(site, to),
            self.subject.stories.judge(&retired),
        ];
        let wrong: Vec<String> = wrong.into_iter().flatten().collect();
        if wrong.is_empty() {
            self.see(format_args!("{:?}", site.kind));
        }
        for what in wrong {
            let results: Vec<String> = retired
                .message
                .results
                .iter()
                .take(RESULTS_SHOWN)
                .map(|it| {
                    let at = SimClock::age_at(it.start);
                    let code = it.enhanced.map(|code| code.to_string());
                    format!("  {at:?} {} {code:?} {} {}", it.code, it.remote, it.error)
                })
                .collect();
            let text = format!(
                "{}, at {:?}: {what}\n{}",
                to.address,
                letter.at,
                results.join("\n")
            );
            self.findings.push((format!("{:?}", site.kind), text));
        }
    }

    /// It ended once, and as the site has it.
    fn end(&self, to: &Recipient, told: &Told, retired: &Retired) -> Option<String> {
        let [end] = told.ends.as_slice() else {
            return Some(format!("it ended with {:?}", told.ends));
        };
        let last = retired.message.results.last();
        let code = last.map(|last| match last.enhanced {
            Some(code) => code.to_string(),
            None => last.code.to_string(),
        });
        let code = code.unwrap_or_default();
        let fits = match (to.end, end) {
            (End::Delivered, Event::Delivered) => retired.success,
            (End::Suppressed, Event::Suppressed) => true,
            (End::Fails(codes), Event::Failed) => {
                self.see(format_args!("failed with {code}"));
                codes.contains(&code.as_str())
            }
            _ => false,
        };
        self.see(format_args!("{end:?}"));
        (!fits).then(|| format!("it ended as {end:?} {code}, not as {:?}", to.end))
    }

    /// The sender was told as it should be.
    fn reports(&self, to: &Recipient, told: &Told) -> Option<String> {
        let mails = self.mails.get(&to.address).copied().unwrap_or_default();
        if mails.delayed > 0 {
            self.see("a report of a delay");
        }
        // A second message to a mailbox that does not exist has a report of its own.
        let failed = match to.address.starts_with("ghost") {
            true => mails.failed.min(1),
            false => mails.failed,
        };
        let expected = usize::from(told.ends != [Event::Delivered]);
        (mails.delayed > 1 || failed != expected).then(|| {
            format!(
                "{} reports of a delay and {} of a failure",
                mails.delayed, mails.failed
            )
        })
    }

    /// Hosts have taken it as often as they should, unchanged, and under the TLS that it needs.
    fn copies(
        &self,
        site: &Site,
        (letter, text): (&Letter, &str),
        to: &Recipient,
    ) -> Option<String> {
        let taken = self.subject.net.ledger().taken_for(&to.address);
        let told = taken.iter().filter(|it| it.told).count();
        let expected = usize::from(to.end == End::Delivered);
        if told != expected || (taken.len() > told && !site.kind.repeats()) {
            let tried = self.subject.net.ledger().tried_for(&to.address);
            let ages: Vec<Duration> = tried.iter().map(|it| it.age).collect();
            return Some(format!(
                "{told} of {} copies are right, tried at {ages:?}",
                taken.len()
            ));
        }
        if taken.len() > told {
            self.see("a message that came again");
        }
        for copy in &taken {
            let wrong_tls = match site.kind.under() {
                Under::Tls => !copy.tls,
                Under::PlainText => copy.tls,
                Under::Either => false,
            };
            if wrong_tls {
                return Some(format!("a copy came with TLS: {}", copy.tls));
            }
            if copy.require_tls != (letter.form == Form::RequireTls) {
                return Some(format!("a copy came with REQUIRETLS: {}", copy.require_tls));
            }
            if !site.hosts.contains(&copy.host) {
                let host = &self.subject.net.host(copy.host).name;
                return Some(format!("{host} got it"));
            }
            self.see(match copy.tls {
                true => "a message under TLS",
                false => "a message in plain text",
            });
            let is_right = match letter.form {
                Form::EightBit => is_converted(&copy.text),
                _ => copy.text == text.as_bytes(),
            };
            if !is_right {
                let text = String::from_utf8_lossy(&copy.text);
                return Some(format!("a copy has another text: {text:?}"));
            }
        }
        None
    }

    /// It was tried neither too often nor too seldom nor for too long.
    fn attempts(
        &self,
        site: &Site,
        letter: &Letter,
        to: &Recipient,
        told: &Told,
        retired: &Retired,
    ) -> Option<String> {
        let results = &retired.message.results;
        if told.ended > letter.at + LIFE_MAX {
            return Some(format!("it lasted until {:?}", told.ended));
        }
        // One delay may be told of that is no attempt.
        let delayed = results.len().saturating_sub(1);
        if !(delayed..=delayed + 1).contains(&told.delays) {
            return Some(format!(
                "{} events of delays for {} attempts",
                told.delays,
                results.len()
            ));
        }
        let max = site.kind.attempts_max() + to.put_off;
        if results.len() > max.min(9) {
            return Some(format!("{} attempts, {max} should do", results.len()));
        }
        let early = results.iter().rev().skip(1).any(|result| result.success);
        early.then(|| "an attempt came behind a success".to_owned())
    }

    /// After greylisting it comes back to the same host from the same address.
    fn sticks(&self, site: &Site, to: &Recipient) -> Option<String> {
        if site.kind != Kind::Greylist {
            return None;
        }
        let tried = self.subject.net.ledger().tried_for(&to.address);
        let places: BTreeSet<_> = tried.iter().map(|it| (it.host, it.source)).collect();
        self.see("a message that came back after greylisting");
        (places.len() > 1).then(|| format!("it came to {places:?}"))
    }

    /// The limits of a site and its hosts.
    fn site(&mut self, site: &Site) {
        let ledger = self.subject.net.ledger().clone();
        let is_shared = site.kind == Kind::SharedHosts;
        for host in site.hosts.iter().chain(&site.others) {
            let notes = ledger.at_host(*host, |notes| notes.clone());
            let (most, messages) = (notes.most, notes.most_messages);
            let max = match is_shared {
                true => ADDRESS_MAX,
                false => CONNECTIONS_MAX,
            };
            if most > max {
                self.found(site, format!("{most} connections at once"));
            }
            if messages > MESSAGES_MAX {
                self.found(site, format!("{messages} messages over one connection"));
            }
            let mut minute = notes.dialed.windows(CONNECTS_MAX + 1);
            if !is_shared && minute.any(|it| it[CONNECTS_MAX] - it[0] < MINUTE) {
                self.found(site, "too many connections in a minute".to_owned());
            }
            self.patience(site, &notes);
        }
    }

    /// A site that does not want mail, or does not answer, is left alone.
    fn patience(&mut self, site: &Site, notes: &HostNotes) {
        let Some((from, to)) = site.span else {
            return;
        };
        let count = |ages: &[Duration], from, to| {
            let span = from..to;
            ages.iter().filter(|age| span.contains(*age)).count()
        };
        let (what, found, max) = match site.kind {
            Kind::Paused => {
                let found = count(&notes.mails, from + MINUTE, to);
                ("MAIL while it was paused", found, 0)
            }
            Kind::Block => {
                let blocked = notes.mails.iter().filter(|age| (from..to).contains(*age));
                let blocked: Vec<Duration> = blocked.copied().collect();
                let mut tries = blocked.windows(BLOCKS);
                let told = tries.find_map(|tries| match tries {
                    [first, .., last] if *last - *first <= BLOCKS_WITHIN => Some(*last),
                    _ => None,
                });
                // What is under way then comes to its end.
                let after = |told| count(&blocked, told + MINUTE, told + BLOCKED_FOR);
                ("MAIL while it blocked us", told.map_or(0, after), 0)
            }
            Kind::Outage | Kind::SilentOutage => {
                let first = notes.dialed.iter().find(|age| **age >= from);
                let first = first.copied().unwrap_or(to);
                let found = count(&notes.dialed, first, to.min(first + OUTAGE));
                ("connections in three hours of an outage", found, TRIES_MAX)
            }
            Kind::FewConnections => {
                let refused = notes.refused;
                let max = notes.mails.len() / 20 + FEW_MAX;
                ("connections above its limit", refused, max)
            }
            _ => return,
        };
        self.see(what);
        if found > max {
            self.found(site, format!("{what}: {found}"));
        }
    }

    fn found(&mut self, site: &Site, what: String) {
        let text = format!("{}: {what}", site.domain);
        self.findings.push((format!("{:?}", site.kind), text));
    }

    /// No host got a message that nobody sent.
    fn strays(&mut self) {
        let letters = self.subject.letters.iter();
        let sent: BTreeSet<&str> = letters
            .flat_map(|letter| letter.to.iter().map(|to| to.address.as_str()))
            .collect();
        for recipient in self.subject.net.ledger().recipients() {
            if !sent.contains(recipient.as_str()) {
                let text = format!("a message for {recipient}, which nobody sent");
                self.findings.push(("network".to_owned(), text));
            }
        }
    }
}

/// Whether the 8-bit text of a letter was converted for a host without 8BITMIME.
fn is_converted(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    let field = text.contains("Content-Transfer-Encoding: base64\r\n");
    // The line of the letter, with its end.
    text.is_ascii() && field && text.contains("\r\n\r\nR3LDvMOfZQ0K\r\n")
}
