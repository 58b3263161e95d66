//! A simulated internet: thousands of sites with hosts of all kinds, and a day of mail for them.
//!
//! A world is made of a seed. The queue is the real one, with a store in memory. Around it all is
//! simulated, so that a day of mail passes in seconds and the same seed gives the same course:
//!
//! | part | how |
//! |---|---|
//! | time | tokio's time is stopped, and jumps to the next timer when all tasks wait (`clock`) |
//! | network | a dialer that gives pipes in memory, and knows where they come from (`net`) |
//! | mail servers | one value for each host says what it does at which stage (`host`, `session`) |
//! | DNS | tables, or zones that are signed and asked over UDP and TCP (`zones`) |
//! | MTA-STS | one HTTPS server with the policies of all domains (`policy_host`) |
//! | sites | each has a kind, and the kind says how its mail ends (`kind`, `sites`) |
//! | mail | some letters while the trouble of a site lasts, the rest over the day (`letters`) |
//!
//! Hosts note what they see (`ledger`). When all messages have ended, the oracle holds the notes
//! and the log of the account against what the kinds say (`oracle`). What was seen is counted, and
//! what was not seen fails the test: so no rule goes untested by accident. The traces, the lines of
//! the log and the counts must tell the same story of each message (`stories`).
//!
//! docs/testing.md says how to run a world again.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that fails says where"
)]

#[path = "internet/certificates.rs"]
mod certificates;
#[path = "internet/clock.rs"]
mod clock;
#[path = "internet/course.rs"]
mod course;
#[path = "internet/host.rs"]
mod host;
#[path = "internet/kind.rs"]
mod kind;
#[path = "internet/ledger.rs"]
mod ledger;
#[path = "internet/letters.rs"]
mod letters;
#[path = "internet/net.rs"]
mod net;
#[path = "internet/oracle.rs"]
mod oracle;
#[path = "internet/policy_host.rs"]
mod policy_host;
#[path = "internet/session.rs"]
mod session;
#[path = "internet/sites.rs"]
mod sites;
#[path = "internet/stories.rs"]
mod stories;
#[path = "internet/zones.rs"]
mod zones;

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use course::{Report, Seed};
use kind::Kind;

/// How many kinds of broken rules are shown.
const SHOWN: usize = 20;

/// What each world shows beside its kinds of sites.
const SEEN: &[&str] = &[
    "421 above a number of connections",
    "452 for a later recipient",
    "Delivered",
    "Failed",
    "MAIL while it blocked us",
    "Suppressed",
    "a block of our address",
    "a handshake that the client ends",
    "a message in plain text",
    "a message that came again",
    "a message that came back after greylisting",
    "a message under TLS",
    "a reply about the rate",
    "a report of a delay",
    "a text by BDAT",
    "connections in three hours of an outage",
    "greylisting",
];

/// A number from the environment.
fn given(name: &str) -> Option<u64> {
    let name = format!("POSTRIDER_INTERNET_{name}");
    let text = std::env::var(&name).ok()?;
    match text.parse() {
        Ok(number) => Some(number),
        Err(_) => panic!("{name} is no number: {text:?}"),
    }
}

/// The worlds that the environment chooses, or else a small one.
fn chosen(signed: bool) -> Vec<Seed> {
    let count = |name, usual: usize| given(name).map_or(usual, |count| count as usize);
    let first = given("SEED").unwrap_or(1);
    let seeds = first..first + given("RUNS").unwrap_or(1);
    let seed = |number| Seed {
        number,
        sites: count("SITES", Kind::ALL.len() + 10),
        messages: count("MESSAGES", 600),
        days: count("DAYS", 1) as u32,
        signed,
    };
    seeds.map(seed).collect()
}

/// Runs a world. The error is what went wrong, with the seed.
fn run(seed: Seed) -> Result<Report, String> {
    let report = seed.run();
    let mut first: BTreeMap<&str, (usize, &str)> = BTreeMap::new();
    for (about, text) in &report.findings {
        first.entry(about).or_insert((0, text)).0 += 1;
    }
    let kinds = Kind::ALL.iter().map(|kind| format!("{kind:?}"));
    let names = SEEN.iter().map(|name| (*name).to_owned());
    let unseen: Vec<String> = kinds
        .chain(names)
        .filter(|name| !report.seen.contains_key(name))
        .collect();
    if first.is_empty() && unseen.is_empty() {
        return Ok(report);
    }
    let mut text = format!(
        "{} broken rules in {seed:?}; not seen: {unseen:?}\n",
        report.findings.len()
    );
    for (about, (count, first)) in first.iter().take(SHOWN) {
        text.push_str(&format!("{about}, {count} times: {first}\n"));
    }
    Err(text)
}

/// Runs worlds, as many at once as there are processors. Gives what was seen in all of them.
fn run_all(seeds: &[Seed]) -> BTreeMap<String, u64> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let reports = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads.min(seeds.len()) {
            scope.spawn(|| {
                while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let report = run(*seed);
                    reports.lock().unwrap().push(report);
                }
            });
        }
    });
    let (mut seen, mut failed) = (BTreeMap::new(), Vec::new());
    for report in reports.into_inner().unwrap() {
        match report {
            Ok(report) => {
                for (what, count) in report.seen {
                    *seen.entry(what).or_default() += count;
                }
            }
            Err(text) => failed.push(text),
        }
    }
    assert!(
        failed.is_empty(),
        "{} of {} worlds\n{}",
        failed.len(),
        seeds.len(),
        failed.join("\n")
    );
    seen
}

#[test]
fn every_message_of_a_day_ends_once_and_as_its_site_has_it() {
    let seen = run_all(&chosen(false));
    if std::env::var_os("POSTRIDER_INTERNET_SHOW").is_some() {
        show(&seen);
    }
}

/// The same over UDP and TCP, with signatures that are validated.
#[test]
fn so_it_is_where_zones_are_signed() {
    run_all(&chosen(true));
}

#[expect(clippy::print_stdout, reason = "the one who runs the test asks for it")]
fn show(seen: &BTreeMap<String, u64>) {
    for (what, count) in seen {
        println!("{count:8} {what}");
    }
}

#[test]
fn a_seed_gives_the_same_course_again() {
    for seed in chosen(false) {
        let [first, second] = [seed.run(), seed.run()];
        let mut both = first.trace.iter().zip(&second.trace);
        let differs = both.position(|(first, second)| first != second);
        if let Some(place) = differs {
            let from = place.saturating_sub(3);
            let part = |trace: &[String]| trace[from..].iter().take(8).cloned().collect();
            let parts: [Vec<String>; 2] = [part(&first.trace), part(&second.trace)];
            panic!("{seed:?}: at line {place} the course is {parts:#?}");
        }
        assert_eq!(first.seen, second.seen, "{seed:?}");
    }
}
