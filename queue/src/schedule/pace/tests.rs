//! The pace of a site.

use postrider_config::Rate;
use postrider_smtp::{Cause, EnhancedCode};
use proptest::prelude::*;

use super::{known::SLOW, *};
use crate::schedule::{local_plan, tests::config};

const MINUTE: Duration = Duration::from_secs(60);

fn at(minutes: u32) -> Moment {
    Moment(MINUTE * (1000 + minutes))
}

fn pace() -> Arc<Pace> {
    let limits = SiteLimits::usual(&config());
    Arc::new(Pace::new("mx.test".into(), limits, at(0)))
}

fn source() -> Source {
    Source {
        name: String::new(),
        via: crate::source::Via::Any,
        ehlo: "mail.example.org".parse().unwrap(),
        terms: Default::default(),
    }
}

fn lost() -> DeliveryStatus {
    DeliveryStatus::transient(Cause::Lost, EnhancedCode::NO_ANSWER, "lost")
}

fn reply(code: u16, text: &str, command: &'static str) -> DeliveryStatus {
    DeliveryStatus {
        code,
        permanent: code >= 500,
        enhanced: None,
        ..DeliveryStatus::transient(Cause::Reply, EnhancedCode::NO_ANSWER, text)
            .with_command(command)
    }
}

#[test]
fn a_site_that_hangs_after_its_greeting_is_dead_in_the_end() {
    let pace = pace();
    for connections in [4, 3, 2] {
        assert_eq!(pace.brief(at(0)).connections, connections);
        let mut opened = pace.open();
        opened.ready();
        assert!(!pace.observe_result(&lost(), (None, Again::No), None, (at(0), at(0))));
    }
    let halt = pace.halt(at(0)).unwrap();
    assert_eq!(halt.until, at(1));
    assert!(halt.failing);
    assert_eq!(pace.brief(at(0)).connections, 0);
    let probed = pace.brief(at(1));
    assert!(probed.probed && probed.poor && probed.connections == 1);
    assert_eq!(pace.batch(at(1)), 1);
    let refused = reply(550, "no such user", "RCPT");
    pace.observe_result(&refused, (None, Again::No), None, (at(1), at(1)));
    assert_eq!(
        (pace.brief(at(1)).connections, pace.batch(at(1))),
        (1, BATCH)
    );
    assert!(!pace.brief(at(1)).probed, "it answers");
}

#[test]
fn a_site_with_open_connections_is_not_dead() {
    let pace = pace();
    let mut opened = pace.open();
    opened.ready();
    pace.unreachable(&lost(), at(0));
    assert!(pace.halt(at(0)).is_none());
    drop(opened);
    pace.unreachable(&lost(), at(0));
    assert!(pace.halt(at(0)).is_some());
    assert!(pace.ask_for_probe(false, at(0)));
    assert!(pace.halt(at(0)).is_none() && pace.brief(at(0)).probed);
}

#[test]
fn all_that_limits_a_site_is_told() {
    let pace = pace();
    let told = |now| {
        let (state, limits) = pace.copy().state(now);
        let names: Vec<&str> = limits.iter().map(|limit| limit.name()).collect();
        format!("{state} {}", names.join(" "))
    };
    assert_eq!(told(at(0)), "active ");
    let order = LimitInForce {
        target: "mx.test".into(),
        connections: Some(1),
        rate: Rate::parse("1/hour").ok(),
        until: None,
    };
    pace.order("mx.test", Some(order));
    assert_eq!(pace.take_tokens(1, at(0)).count, 1);
    assert_eq!(told(at(0)), "limited rate");
    let working = pace.work(1);
    assert_eq!(told(at(0)), "limited rate connections");
    drop(working);
    pace.unreachable(&lost(), at(0));
    assert_eq!(told(at(0)), "down ");
    assert_eq!(told(at(1)), "down probe rate");
    assert_eq!(told(at(60)), "down probe");
    pace.pause(Some(None));
    assert_eq!(told(at(1)), "paused ");
}

#[test]
fn connections_above_the_window_end() {
    let pace = pace();
    let mut opened: Vec<Opened> = (0..4).map(|_| pace.open()).collect();
    opened.iter_mut().for_each(Opened::ready);
    assert!(opened.iter_mut().all(|it| !it.is_too_many(at(0))));
    let text = "too many connections from your host";
    pace.observe(&reply(421, text, "MAIL"), None, None, at(0));
    let over = opened
        .iter_mut()
        .filter_map(|it| it.is_too_many(at(0)).then_some(()));
    assert_eq!(over.count(), 1);
    assert_eq!(pace.brief(at(0)).connections, 3);
    assert_eq!(pace.learnt(at(0)).unwrap().cap.unwrap().connections, 3);
}

#[test]
fn an_order_holds_until_its_end() {
    let pace = pace();
    let order = LimitInForce {
        target: "mx.test".into(),
        connections: Some(2),
        rate: Rate::parse("60/hour").ok(),
        until: Some(at(10)),
    };
    pace.order("mx.test", Some(order));
    assert_eq!(pace.copy().max(at(0)), 2);
    assert_eq!(pace.take_tokens(100, at(0)).count, 6);
    assert!(pace.brief(at(0)).tokens_at.is_some());
    assert_eq!(pace.learnt(at(0)).unwrap().buckets.len(), 1);
    assert_eq!(pace.copy().max(at(10)), 10);
    let plan = local_plan("x.test");
    pace.planned(
        &plan,
        "x.test",
        (SiteLimits::usual(&config()), false),
        at(10),
    );
    assert_eq!(pace.take_tokens(100, at(10)).count, 100);
    assert!(pace.has_domain("x.test") && !pace.has_domain("y.test"));
    pace.pause(Some(Some(at(20))));
    assert!(pace.is_paused(at(19)) && !pace.is_paused(at(20)));
    assert_eq!(pace.brief(at(19)).connections, 0);
}

/// No plan is made while no token is left.
#[test]
fn the_rate_of_an_order_ends_without_a_plan() {
    let pace = pace();
    let order = LimitInForce {
        target: "x.test".into(),
        connections: None,
        rate: Rate::parse("1/day").ok(),
        until: Some(at(10)),
    };
    pace.order("x.test", Some(order));
    assert_eq!(pace.take_tokens(100, at(0)).count, 1);
    assert!(pace.brief(at(9)).tokens_at.is_some() && pace.has_domain("x.test"));
    assert_eq!(pace.brief(at(10)).tokens_at, None);
    assert_eq!(pace.take_tokens(100, at(10)).count, 100);
}

#[test]
fn what_was_learnt_is_restored_and_can_be_forgotten() {
    let pace = pace();
    pace.observe(
        &reply(421, "too many connections", "greeting"),
        None,
        None,
        at(0),
    );
    pace.unreachable(&lost(), at(0));
    let learnt = pace.learnt(at(0)).unwrap();
    assert_eq!(learnt.deaths, 1);
    let again = self::pace();
    assert_eq!(again.learnt(at(0)), None);
    again.restore(learnt.clone());
    assert_eq!(again.learnt(at(0)), Some(learnt));
    assert_eq!(again.halt(at(0)).unwrap().until, at(1));
    again.forget();
    assert_eq!(again.learnt(at(0)), None);
    assert_eq!(again.brief(at(0)).connections, 4);
}

#[test]
fn a_site_is_good_while_it_answers_fast_and_poor_while_it_is_slow() {
    let pace = pace();
    assert!(!pace.brief(at(0)).good && !pace.brief(at(0)).poor);
    assert!(pace.answered(1, 6 * SLOW, at(0)), "it answers");
    assert!(!pace.brief(at(0)).good && pace.brief(at(359)).poor);
    assert!(!pace.brief(at(360)).poor);
    let mut told = false;
    for _ in 0..20 {
        told = told || pace.answered(10, SLOW, at(0));
    }
    assert!(told && pace.brief(at(9)).good && !pace.brief(at(10)).good);
    pace.unanswered(SLOW / 2, at(400));
    assert!(
        !pace.brief(at(400)).poor,
        "the server only closed a connection"
    );
    pace.unanswered(MINUTE, at(400));
    assert!(pace.brief(at(400)).poor && pace.is_of_use(at(759)));
    assert!(!pace.is_of_use(at(760)));
}

/// A batch is under way when another connection hears that we are blocked.
#[test]
fn a_success_that_began_before_a_block_does_not_end_it() {
    let pace = pace();
    let status = reply(421, "[TSS04] messages temporarily deferred", "MAIL");
    let told = (Class::Blocked, 2 * 60 * MINUTE);
    pace.rest_as_told(&status, told, &source(), at(1));
    for (now, took) in [(1, 1), (121, 121)] {
        assert!(!pace.succeeded((1, 1), took * MINUTE, None, at(now)));
        let refused = reply(550, "no", "RCPT");
        pace.observe_result(&refused, (None, Again::No), None, (at(0), at(now)));
    }
    assert_eq!(pace.halt(at(120)).unwrap().until, at(121));
    assert!(pace.brief(at(121)).probed);
    assert!(
        pace.succeeded((1, 1), MINUTE, None, at(122)),
        "this was the probe"
    );
    assert!(!pace.brief(at(122)).probed && pace.learnt(at(122)).is_none());
}

#[test]
fn ten_messages_in_a_row_that_are_taken_for_spam_are_told_of() {
    let pace = pace();
    let spam = reply(554, "5.7.1 spam message rejected", "end of data");
    assert_eq!(Observation::of(&spam, None).1, Class::Spam);
    let alerts = |now| pace.copy().alerts(now);
    for _ in 0..9 {
        pace.observe_sender("x.test", &spam, None, (at(0), at(0)));
    }
    assert_eq!(alerts(at(0)), None);
    pace.observe_sender("y.test", &lost(), None, (at(0), at(0)));
    pace.observe_sender("y.test", &spam, None, (at(0), at(0)));
    assert!(
        alerts(at(0))
            .unwrap()
            .contains("the last 10 messages for spam")
    );
    let taken = reply(250, "ok", "end of data");
    assert!(taken.is_success());
    pace.observe_sender("x.test", &taken, None, (at(1), at(1)));
    assert_eq!(alerts(at(1)), None);
}

/// The window is not halved twice in half a minute, and the site is busy still.
#[test]
fn a_probe_that_finds_the_site_busy_is_the_last_for_a_minute() {
    let pace = pace();
    let busy = reply(421, "busy", "MAIL");
    let order = LimitInForce {
        target: "mx.test".into(),
        connections: Some(1),
        rate: None,
        until: None,
    };
    pace.order("mx.test", Some(order));
    pace.observe(&busy, None, None, at(0));
    assert!(pace.ask_for_probe(false, at(0)) && pace.brief(at(0)).probed);
    pace.observe(&busy, None, None, at(0));
    assert_eq!(pace.halt(at(0)).unwrap().until, at(1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever happens, there are no more connections than the limits allow, each halt ends within
    /// a day, and there is no connection only during a halt. When the trouble is over, the site
    /// gets as many connections as ever.
    #[test]
    fn the_pace_recovers(events in prop::collection::vec((0..8_u8, 0..4000_u64), 0..60)) {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        const STEP: Duration = Duration::from_secs(10);
        let pace = pace();
        let max = config().per_destination.connections;
        let mut now = at(0);
        for (event, seconds) in events {
            now = now.after(Duration::from_secs(seconds));
            let said = match event {
                0 => Some(lost()),
                1 => Some(reply(421, "too many connections from your host", "MAIL")),
                2 => Some(reply(451, "try again later", "MAIL")),
                3 => Some(reply(554, "your address is listed", "MAIL")),
                4 => Some(reply(450, "blocked using a list", "RCPT")),
                5 => Some(reply(535, "no", "AUTH")),
                _ => None,
            };
            match said {
                Some(status) => pace.observe(&status, None, None, now),
                None if event == 6 => pace.unreachable(&lost(), now),
                None => {
                    pace.succeeded((1, 1), STEP, None, now);
                }
            }
            let brief = pace.brief(now);
            prop_assert!(brief.connections <= max);
            let halt = pace.halt(now);
            prop_assert_eq!(brief.connections == 0, halt.is_some());
            prop_assert!(halt.is_none_or(|halt| halt.until.since(now) <= DAY));
        }
        now = pace.halt(now).map_or(now, |halt| halt.until);
        // A learnt limit ends within three hours.
        for _ in 0..2000 {
            let connections = pace.brief(now).connections;
            prop_assert!((1..=max).contains(&connections));
            let working: Vec<Working> = (0..connections).map(|_| pace.work(1)).collect();
            pace.succeeded((connections, connections), Duration::from_millis(10), None, now);
            drop(working);
            now = now.after(STEP);
        }
        prop_assert_eq!(pace.brief(now).connections, max);
    }
}
