use std::time::Duration;

use postrider_config::Rate;
use postrider_smtp::{Cause, DeliveryStatus, EnhancedCode};
use postrider_store::Time;
use proptest::prelude::*;

use super::*;
use crate::schedule::{limits::LimitInForce, tests::config};

const NOW: Now = at(Duration::ZERO);

const fn at(passed: Duration) -> Now {
    Now {
        time: Time(0),
        moment: Moment(passed),
    }
}

fn workers<W>(config: &QueueConfig) -> InFlight<W> {
    InFlight::new(Arc::new(Sites::new(config, false)))
}

/// The site answers, and is good from now on.
fn answer<W>(in_flight: &mut InFlight<W>, site: &Site) {
    let pace = in_flight.pace(site, NOW);
    pace.answered(1, Duration::ZERO, NOW.moment);
}

fn status() -> DeliveryStatus {
    DeliveryStatus::transient(Cause::Connect, EnhancedCode::NO_ANSWER, "silent")
}

#[test]
fn limits_hold_in_all_and_per_site() {
    let mut config = config();
    config.max_concurrency = 3;
    config.per_destination.connections = 2;
    let mut in_flight = workers::<u8>(&config);
    let (a, b) = (Site::from("a"), Site::from("b"));
    for site in [&a, &b] {
        answer(&mut in_flight, site);
    }
    in_flight.begin(&a, NOW);
    assert_eq!(in_flight.may_begin(&a, &config, NOW, false), May::Begin);
    in_flight.begin(&a, NOW);
    assert_eq!(
        in_flight.may_begin(&a, &config, NOW, false),
        May::NotAtThisSite
    );
    in_flight.begin(&b, NOW);
    assert_eq!(in_flight.room(&config), 0);
    assert_eq!(in_flight.may_begin(&b, &config, NOW, false), May::NotNow);
    in_flight.end(&a, |_| false);
    assert_eq!(in_flight.may_begin(&b, &config, NOW, false), May::Begin);
    assert_eq!(in_flight.busy(), 2);
}

#[test]
fn idle_workers_take_no_place_and_are_woken_or_sent_away() {
    let mut config = config();
    config.per_destination.connections = 1;
    let mut in_flight = workers(&config);
    let (a, b) = (Site::from("a"), Site::from("b"));
    in_flight.begin(&a, NOW);
    assert!(in_flight.make_room(1).is_none(), "it is busy");
    in_flight.rest(&a, 1, Duration::ZERO);
    assert_eq!(in_flight.wake(&b), None);
    assert_eq!(in_flight.wake(&a), Some(1));
    assert_eq!(in_flight.busy(), 1);
    in_flight.rest(&a, 1, Duration::ZERO);
    assert_eq!(in_flight.make_room(2), None);
    assert_eq!(in_flight.make_room(1), Some(1));
    in_flight.end(&a, |_| false);
    assert_eq!(in_flight.busy(), 0);
    // A worker that gave up waiting ends as an idle one.
    in_flight.begin(&b, NOW);
    in_flight.begin(&b, NOW);
    in_flight.rest(&b, 2, Duration::ZERO);
    in_flight.end(&b, |worker| *worker == 2);
    assert_eq!(in_flight.busy(), 1);
    assert_eq!(in_flight.wake(&b), None);
}

#[test]
fn the_fastest_of_the_idle_workers_is_woken() {
    let mut in_flight = workers(&config());
    let a = Site::from("a");
    for (worker, millis) in [(1, 30), (2, 10), (3, 20), (4, 10), (5, 40)] {
        in_flight.begin(&a, NOW);
        in_flight.rest(&a, worker, Duration::from_millis(millis));
    }
    let woken: Vec<i32> = std::iter::from_fn(|| in_flight.wake(&a)).collect();
    assert_eq!(woken, [4, 2, 3, 1, 5], "of equal ones, the last one");
}

#[test]
fn sites_that_are_not_known_to_answer_have_half_of_the_places() {
    let mut config = config();
    config.max_concurrency = 4;
    let mut in_flight = workers::<u8>(&config);
    let good = Site::from("good");
    let silent = ["a", "b", "c"].map(Site::from);
    answer(&mut in_flight, &good);
    let [a, b, c] = &silent;
    in_flight.begin(a, NOW);
    in_flight.begin(b, NOW);
    assert_eq!(
        in_flight.may_begin(c, &config, NOW, false),
        May::NotUnproven
    );
    assert_eq!(in_flight.may_begin(&good, &config, NOW, false), May::Begin);
    // A connection that waits long takes no place.
    in_flight.slow(a, true, NOW.moment);
    assert_eq!(in_flight.busy(), 1);
    assert_eq!(in_flight.may_begin(c, &config, NOW, false), May::Begin);
    in_flight.slow(a, false, NOW.moment);
    assert_eq!(
        in_flight.may_begin(c, &config, NOW, false),
        May::NotUnproven
    );
    // A site that answers is one of the others.
    answer(&mut in_flight, b);
    in_flight.prove(b, NOW.moment);
    assert_eq!(in_flight.may_begin(c, &config, NOW, false), May::Begin);
    in_flight.end(a, |_| false);
    in_flight.end(b, |_| false);
    assert_eq!(in_flight.busy(), 0);
    assert_eq!(in_flight.unproven, Unproven::default());
}

/// Each slow site answers after 14 minutes. New sites come all the time.
#[test]
fn slow_sites_leave_places_for_sites_that_were_never_tried() {
    const TAKES: Duration = Duration::from_secs(14 * 60);
    let mut config = config();
    config.max_concurrency = 40;
    let mut in_flight = workers::<u8>(&config);
    let slow: Vec<Site> = (0..125)
        .map(|number| Site::from(format!("slow{number}").as_str()))
        .collect();
    let mut now = NOW;
    let begin_all = |in_flight: &mut InFlight<u8>, sites: &[Site], now: Now| {
        let mut begun = Vec::new();
        for site in sites {
            if in_flight.may_begin(site, &config, now, false) == May::Begin {
                in_flight.begin(site, now);
                begun.push(site.clone());
            }
        }
        begun
    };
    let mut first = true;
    for round in 0..20 {
        let busy = begin_all(&mut in_flight, &slow, now);
        let new: Vec<Site> = (0..10)
            .map(|number| Site::from(format!("new{round}.{number}").as_str()))
            .collect();
        let tried = begin_all(&mut in_flight, &new, now).len();
        // So far nothing is known of the slow sites.
        let known = in_flight.sites.values();
        let poor = known.filter(|it| it.busy > 0 && it.pace.brief(now.moment).poor);
        assert!(poor.count() <= 10, "round {round}");
        assert!(first || busy.len() <= 20);
        // By then all slow sites were tried once.
        if round > 125 / 10 {
            assert_eq!(tried, 10, "round {round}");
        }
        for site in &new {
            if in_flight.sites.get(site).is_some_and(|it| it.busy > 0) {
                in_flight.end(site, |_| false);
            }
        }
        now = at(now.moment.0 + TAKES);
        for site in &busy {
            in_flight.pace(site, now).answered(1, TAKES, now.moment);
            in_flight.prove(site, now.moment);
            in_flight.end(site, |_| false);
        }
        first = false;
    }
    assert_eq!(in_flight.unproven, Unproven::default());
}

#[test]
fn one_site_has_half_of_the_places_while_others_wait() {
    let mut config = config();
    config.max_concurrency = 4;
    let mut in_flight = workers::<u8>(&config);
    let a = Site::from("a");
    answer(&mut in_flight, &a);
    in_flight.begin(&a, NOW);
    assert_eq!(in_flight.may_begin(&a, &config, NOW, true), May::Begin);
    in_flight.begin(&a, NOW);
    assert_eq!(
        in_flight.may_begin(&a, &config, NOW, true),
        May::AfterOthers
    );
    assert_eq!(in_flight.may_begin(&a, &config, NOW, false), May::Begin);
}

#[test]
fn probes_have_a_twentieth_of_the_places() {
    let mut config = config();
    config.max_concurrency = 40;
    let mut in_flight = workers::<u8>(&config);
    let minute = at(Duration::from_secs(60));
    let down = ["a", "b", "c"].map(Site::from);
    for site in &down {
        in_flight.pace(site, NOW).unreachable(&status(), NOW.moment);
        let may = in_flight.may_begin(site, &config, NOW, false);
        assert_eq!(may, May::NotAtThisSite, "it is down");
    }
    let [a, b, c] = &down;
    for site in [a, b] {
        assert_eq!(
            in_flight.may_begin(site, &config, minute, false),
            May::Begin
        );
        in_flight.begin(site, minute);
        let may = in_flight.may_begin(site, &config, minute, false);
        assert_eq!(may, May::NotAtThisSite, "one probe at a time");
    }
    assert_eq!(
        in_flight.may_begin(c, &config, minute, false),
        May::NotProbe
    );
    let new = Site::from("new");
    assert_eq!(
        in_flight.may_begin(&new, &config, minute, false),
        May::Begin
    );
    in_flight.end(a, |_| false);
    assert_eq!(in_flight.may_begin(c, &config, minute, false), May::Begin);
}

#[test]
fn a_site_without_tokens_waits_for_the_next() {
    let config = config();
    let mut in_flight = workers::<u8>(&config);
    let site = Site::from("a");
    let pace = Arc::clone(in_flight.pace(&site, NOW));
    pace.order(
        "a",
        Some(LimitInForce {
            target: "a".into(),
            connections: None,
            rate: Rate::parse("1/minute").ok(),
            until: None,
        }),
    );
    assert_eq!(in_flight.may_begin(&site, &config, NOW, false), May::Begin);
    assert_eq!(pace.take_tokens(5, NOW.moment).count, 1);
    let may = in_flight.may_begin(&site, &config, NOW, false);
    assert_eq!(may, May::NotAtThisSite);
    let minute = at(Duration::from_secs(60));
    let may = in_flight.may_begin(&site, &config, minute, false);
    assert_eq!(may, May::Begin);
}

/// What is counted of the workers of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Worker {
    Busy,
    Idle(u32),
}

proptest! {
    /// Whatever sites and workers do, there are never more deliveries than allowed: in all, at one
    /// site, and at sites that are not known to be good. In the end nothing is counted.
    #[test]
    fn no_limit_is_exceeded(
        max in 1_usize..12,
        connections in 1_usize..6,
        steps in prop::collection::vec((0..8_u8, 0..5_usize, 0..700_u64), 1..200),
    ) {
        let mut config = config();
        config.max_concurrency = max;
        config.per_destination.connections = connections;
        let mut in_flight = workers::<u32>(&config);
        let sites: Vec<Site> = (0..5).map(|number| Site::from(&*number.to_string())).collect();
        let mut model: Vec<Vec<Worker>> = vec![Vec::new(); sites.len()];
        let (mut now, mut names) = (NOW, 0_u32);
        for (step, which, seconds) in steps {
            let (site, its) = (&sites[which], &mut model[which]);
            let busy = its.iter().position(|worker| *worker == Worker::Busy);
            match step {
                0..=2 => {
                    let woken = in_flight.wake(site);
                    let idle = its.iter_mut().find(|it| woken.map(Worker::Idle) == Some(**it));
                    match (woken, idle) {
                        (Some(_), Some(worker)) => *worker = Worker::Busy,
                        (None, _) if in_flight.may_begin(site, &config, now, false) == May::Begin => {
                            in_flight.begin(site, now);
                            its.push(Worker::Busy);
                            let of_site = in_flight.sites[site].pace.brief(now.moment).connections;
                            let at_site = its.iter().filter(|it| **it == Worker::Busy).count();
                            prop_assert!(at_site <= of_site.min(connections));
                            prop_assert!(in_flight.unproven.all <= half(&config));
                        }
                        _ => prop_assert!(woken.is_none(), "{woken:?} is no idle worker"),
                    }
                }
                3 => {
                    if let Some(at) = busy {
                        names += 1;
                        its[at] = Worker::Idle(names);
                        in_flight.rest(site, names, Duration::from_secs(seconds));
                    }
                }
                4 => {
                    if let Some(worker) = its.pop() {
                        in_flight.end(site, |idle| worker == Worker::Idle(*idle));
                    }
                }
                5 => {
                    in_flight.pace(site, now).answered(1, Duration::ZERO, now.moment);
                    in_flight.prove(site, now.moment);
                    if its.is_empty() {
                        in_flight.tidy(site);
                    }
                }
                6 => {
                    in_flight.pace(site, now).observe(&status(), None, None, now.moment);
                    if its.is_empty() {
                        in_flight.tidy(site);
                    }
                }
                _ => now = at(now.moment.0 + Duration::from_secs(seconds)),
            }
            let all = model.iter().flatten();
            let busy = all.filter(|worker| **worker == Worker::Busy).count();
            prop_assert_eq!(in_flight.busy(), busy);
        }
        for (site, its) in sites.iter().zip(&model) {
            for worker in its {
                in_flight.end(site, |idle| *worker == Worker::Idle(*idle));
            }
        }
        prop_assert_eq!((in_flight.busy(), in_flight.idle), (0, 0));
        prop_assert_eq!(in_flight.unproven, Unproven::default());
        prop_assert!(in_flight.sites.is_empty());
    }
}
