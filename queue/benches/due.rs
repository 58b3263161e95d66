//! Measures how long it takes to find the next due message and to claim it, with a million messages
//! in 100,000 lanes.
//!
//! `cargo bench -p postrider-queue --features bench`
//!
//! The environment variables are those of the benchmark `store` of postrider-store.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a program for developers: it prints its results and ends when something fails"
)]

#[path = "../../store/benches/common/mod.rs"]
#[allow(dead_code, reason = "it has the parts of other benchmarks too")]
mod common;

use std::{
    env,
    path::PathBuf,
    time::{Duration, Instant},
};

use common::{SMALL_TEXT, count, memory, message, runtime};
use postrider_queue::bench::DueLanes;
use postrider_store::{Claim, Lane, Moment, Options, Store, Time, Which};

/// Each has a lane.
const DOMAINS: u64 = 100_000;
/// So many domains have their hosts in common, with each other.
const SITES: u64 = 1000;
/// Messages that are accepted at once.
const PRODUCERS: u64 = 100;
/// The most turns of a kind.
const TURNS_MAX: u64 = 20_000;
const NOW: Time = Time(1 << 50);

fn domain(number: u64) -> String {
    format!("d{}.example", number % DOMAINS)
}

/// The site of a lane.
fn site(lane: &Lane) -> String {
    let number = lane.destination().trim_start_matches('d');
    let number: u64 = number.trim_end_matches(".example").parse().unwrap();
    format!("site{}", number % SITES)
}

async fn fill(store: &Store, count: u64) {
    let tasks: Vec<_> = (0..PRODUCERS)
        .map(|first| {
            let store = store.clone();
            tokio::spawn(async move {
                for number in (first..count).step_by(PRODUCERS as usize) {
                    let mut accept = message(number, SMALL_TEXT, Time(number as i64));
                    let recipient = format!("user{number}@{}", domain(number));
                    accept.queue[0].recipients[0].recipient = recipient.parse().unwrap();
                    store.accept(accept).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

/// All lanes of the store.
async fn heads(store: &Store) -> Vec<(Lane, Option<Time>)> {
    let mut heads = Vec::new();
    loop {
        let after = heads.last().map(|(lane, _): &(Lane, _)| lane.clone());
        let page = store.lanes(after, 500).await.unwrap();
        if page.is_empty() {
            return heads;
        }
        heads.extend(page.into_iter().map(|(lane, head)| (lane, Some(head))));
    }
}

/// Turns with so many messages each. Gives the time to find the lanes, and all the time, for one
/// turn.
async fn turns(store: &Store, lanes: &mut DueLanes, max: usize) -> (f64, f64) {
    // Each kind of turn takes a quarter of all messages at most.
    let turns = TURNS_MAX.min(count() / (4 * max as u64)).max(1);
    let (mut finding, begun) = (Duration::ZERO, Instant::now());
    for turn in 0..turns {
        let site = format!("site{}", turn % SITES);
        let start = Instant::now();
        let taken = lanes.take(&site, max, NOW);
        finding += start.elapsed();
        let claim = Claim {
            now: NOW,
            moment: Moment::default(),
            max,
            max_per_lane: max.div_ceil(taken.len()),
            which: Which::Lanes(taken.clone()),
            lease: Duration::from_secs(600),
        };
        let claimed = store.claim(claim).await.unwrap().messages;
        assert!(!claimed.is_empty());
        let start = Instant::now();
        lanes.follow(store.changed_lanes());
        for lane in &taken {
            lanes.done(lane, &site, claimed.len() as u64, NOW);
        }
        finding += start.elapsed();
    }
    let each = |time: Duration| time.as_secs_f64() / turns as f64 * 1e6;
    (each(finding), each(begun.elapsed()))
}

fn main() {
    let parent = env::var_os("STORE_BENCH_DIR").map_or_else(env::temp_dir, PathBuf::from);
    let dir = tempfile::Builder::new()
        .prefix("due-bench-")
        .tempdir_in(parent)
        .unwrap();
    let store = Store::open(Options::new(dir.path())).unwrap();
    runtime().block_on(async {
        let begun = Instant::now();
        fill(&store, count()).await;
        let took = begun.elapsed().as_secs_f64();
        println!("{} queued in {took:.0} s, {}", count(), memory());
        store.follow_lanes();
        let mut lanes = DueLanes::default();
        lanes.follow(heads(&store).await);
        let begun = Instant::now();
        let due = lanes.put_due(site, NOW);
        let each = begun.elapsed().as_secs_f64() / due as f64 * 1e6;
        println!(
            "{due} lanes are due; one goes to its site in {each:.2} us; {}",
            memory()
        );
        for max in [1, 8, 32] {
            let (finding, all) = turns(&store, &mut lanes, max).await;
            println!(
                "a turn of {max}: the lanes in {finding:.2} us, with the claim in the store {all:.1} us"
            );
        }
        store.close().await;
    });
}
