use proptest::prelude::*;

use super::*;
use crate::schedule::{local_plan, test_message};

const fn at(seconds: i64) -> Time {
    Time(seconds * 1_000_000)
}

fn lane(destination: &str, account: &str) -> Lane {
    Lane::new(destination, "", DeliveryClass::Normal, account)
}

fn bulk(destination: &str) -> Lane {
    Lane::new(destination, "", DeliveryClass::Bulk, "ann")
}

fn site(name: &str) -> Site {
    Site::from(name)
}

/// Lanes that are due since second 1, planned for a site.
fn at_site(all: &[&Lane], name: &str) -> Lanes {
    let mut lanes = Lanes::default();
    let heads = all.iter().map(|lane| ((*lane).clone(), Some(at(1))));
    lanes.follow(heads.collect());
    assert!(
        lanes.advance(at(2), |_| true).is_empty(),
        "they have no site yet"
    );
    while let Some(lane) = lanes.next_unplanned() {
        lanes.put(&lane, &site(name), at(2));
    }
    lanes
}

fn taken(lanes: &mut Lanes, name: &str, max: usize) -> Vec<Lane> {
    match lanes.take(&site(name), max, 10, at(2)) {
        None => Vec::new(),
        Some((Turn::Claim(lanes), _)) => lanes,
        Some((Turn::Deliver(batches), _)) => panic!("{batches:?}"),
    }
}

#[test]
fn a_lane_is_planned_when_it_is_due_and_then_goes_to_its_site_by_itself() {
    let a = lane("a.test", "ann");
    let mut lanes = Lanes::default();
    lanes.follow(vec![(a.clone(), Some(at(10)))]);
    assert_eq!(lanes.wakes_at(), Some(at(10)));
    assert!(lanes.advance(at(9), |_| true).is_empty());
    assert_eq!(lanes.next_unplanned(), None);
    assert!(lanes.advance(at(10), |_| true).is_empty());
    assert_eq!(lanes.next_unplanned(), Some(a.clone()));
    assert_eq!(lanes.next_unplanned(), None, "the caller has it");
    lanes.put(&a, &site("s"), at(10));
    assert_eq!(lanes.turns(&site("s"), 10), 1);
    let (turn, bulk) = lanes.take(&site("s"), 32, 10, at(10)).unwrap();
    assert!(matches!(turn, Turn::Claim(taken) if taken == [a.clone()]) && !bulk);
    assert!(
        lanes.take(&site("s"), 32, 10, at(10)).is_none(),
        "it is out"
    );
    // The claim left a message for later.
    lanes.follow(vec![(a.clone(), Some(at(20)))]);
    lanes.done(&a, &site("s"), 8, at(10));
    assert!(lanes.take(&site("s"), 32, 10, at(19)).is_none());
    assert_eq!(
        lanes.advance(at(20), |_| true),
        BTreeMap::from([(site("s"), vec![a.clone()])])
    );
    assert_eq!(
        taken(&mut lanes, "s", 32).len(),
        0,
        "the clock of this test stands at 2"
    );
    let (turn, _) = lanes.take(&site("s"), 32, 10, at(20)).unwrap_or_else(|| {
        lanes.advance(at(20), |_| true);
        lanes.take(&site("s"), 32, 10, at(20)).unwrap()
    });
    assert!(matches!(turn, Turn::Claim(taken) if taken == [a.clone()]));
    // The claim left nothing.
    lanes.follow(vec![(a.clone(), None)]);
    lanes.done(&a, &site("s"), 8, at(20));
    assert!(lanes.lanes.is_empty() && lanes.later.is_empty() && lanes.reviews.is_empty());
    lanes.tidy(&site("s"));
    assert!(lanes.sites.is_empty());
}

#[test]
fn a_lane_with_more_has_its_next_turn_behind_the_others() {
    let all = ["a", "b", "c"].map(|name| lane(&format!("{name}.test"), name));
    let mut lanes = at_site(&[&all[0], &all[1], &all[2]], "s");
    let first = taken(&mut lanes, "s", 1);
    assert_eq!(first.len(), 1);
    lanes.done(&first[0], &site("s"), 8, at(2));
    assert!(
        lanes.has_more(&site("s")) && !lanes.has_more(&site("s")),
        "told once"
    );
    let others = taken(&mut lanes, "s", 2);
    assert_eq!(others.len(), 2);
    assert!(!others.contains(&first[0]));
    assert_eq!(lanes.turns(&site("s"), 10), 1);
    assert!(lanes.has_more(&site("s")), "the loop has looked since");
}

#[test]
fn one_account_does_not_keep_another_from_a_site() {
    let mut many: Vec<Lane> = (0..1000)
        .map(|n| lane(&format!("d{n}.test"), "a"))
        .collect();
    many.push(lane("x.test", "b"));
    let mut lanes = at_site(&many.iter().collect::<Vec<_>>(), "s");
    let first = taken(&mut lanes, "s", 8);
    assert!(first.iter().any(|lane| lane.account() == "b"), "{first:?}");
}

#[test]
fn bulk_mail_leaves_one_connection_free() {
    let all = [bulk("a.test"), bulk("b.test"), bulk("c.test")];
    let mut lanes = at_site(&[&all[0], &all[1], &all[2]], "s");
    let s = site("s");
    for (connections, turns) in [(1, 1), (2, 2), (10, 3)] {
        assert_eq!(lanes.turns(&s, connections), turns, "{connections}");
    }
    let (_, is_bulk) = lanes.take(&s, 1, 2, at(2)).unwrap();
    assert!(is_bulk);
    assert!(lanes.take(&s, 1, 2, at(2)).is_none());
    assert_eq!(lanes.turns(&s, 2), 0);
    assert!(lanes.take(&s, 1, 3, at(2)).is_some());
    lanes.bulk_ended(&s);
    lanes.bulk_ended(&s);
    assert!(lanes.take(&s, 1, 1, at(2)).is_some(), "the only connection");
}

#[test]
fn claimed_messages_go_first_and_in_batches() {
    let a = lane("a.test", "ann");
    let mut lanes = at_site(&[&a], "local:site");
    let s = local_plan("site").site;
    let batch = |count: u64| ClaimedBatch {
        plan: Arc::new(local_plan("site")),
        messages: (0..count).map(|id| test_message(id, "x@a.test")).collect(),
        claimed: Moment::default(),
    };
    lanes.put(&a, &s, at(2));
    for count in [32, 20, 12, 1] {
        lanes.push(batch(count)).unwrap();
    }
    assert_eq!(
        lanes.turns(&s, 10),
        3 + lanes.sites[&s].lanes.waiting(DeliveryClass::Normal)
    );
    let mut sizes = Vec::new();
    while let Some((Turn::Deliver(batches), _)) = lanes.take(&s, 32, 10, at(2)) {
        sizes.push(
            batches
                .iter()
                .map(|batch| batch.messages.len())
                .collect::<Vec<_>>(),
        );
    }
    assert_eq!(sizes, [vec![32], vec![20, 12], vec![1]]);
    lanes.push(batch(3)).unwrap();
    let probe = lanes.take(&s, 1, 10, at(2)).unwrap();
    assert!(matches!(probe.0, Turn::Deliver(batches) if batches[0].messages.len() == 1));
    assert_eq!(lanes.take_claimed(&s)[0].messages.len(), 2);
    lanes.push(batch(4)).unwrap();
    assert_eq!(lanes.close().len(), 1);
    assert!(lanes.push(batch(1)).is_err());
    // A worker that comes back with a lane gets no other turn.
    lanes.put(&a, &s, at(2));
    assert!(lanes.take(&s, 32, 10, at(2)).is_none());
}

#[test]
fn lanes_are_paused_put_off_and_go_on() {
    let (a, b) = (lane("a.test", "ann"), lane("b.test", "ann"));
    let mut lanes = at_site(&[&a, &b], "s");
    let out = taken(&mut lanes, "s", 2);
    assert_eq!(out.len(), 2);
    lanes.pause(&a, Some(&site("s")), at(2));
    lanes.done(&b, &site("s"), 1, at(2));
    assert_eq!(taken(&mut lanes, "s", 2), std::slice::from_ref(&b));
    lanes.replan(&b, at(2));
    lanes.done(&b, &site("s"), 1, at(2));
    lanes.advance(at(3), |_| true);
    assert_eq!(lanes.next_unplanned(), Some(b.clone()));
    lanes.put_off(&b, at(50), false, at(3));
    lanes.advance(at(49), |_| true);
    assert_eq!(lanes.next_unplanned(), None);
    lanes.go_on(at(49));
    let moved = BTreeMap::from([(site("s"), vec![a.clone()])]);
    assert_eq!(lanes.advance(at(49), |_| true), moved, "the paused one");
    assert_eq!(lanes.site_of(&a), Some(site("s")));
    lanes.try_now(&b);
    lanes.advance(at(49), |_| true);
    assert_eq!(lanes.next_unplanned(), Some(b));
}

#[test]
fn lanes_that_were_put_off_go_on_at_once() {
    let (a, b) = (lane("a.test", "ann"), lane("b.test", "ann"));
    let mut lanes = at_site(&[&a, &b], "s");
    lanes.put_off(&a, at(50), false, at(3));
    lanes.advance(at(49), |_| true);
    assert_eq!(lanes.next_unplanned(), None);
    lanes.try_all_now();
    lanes.advance(at(49), |_| true);
    assert_eq!(lanes.next_unplanned(), Some(a));
    assert_eq!(lanes.next_unplanned(), None, "the other is at its site");
}

/// The limits of a site that is not known any more are those of a plan.
#[test]
fn a_lane_whose_site_is_forgotten_is_planned_anew() {
    let a = lane("a.test", "ann");
    let mut lanes = at_site(&[&a], "s");
    let out = taken(&mut lanes, "s", 1);
    lanes.follow(vec![(a.clone(), Some(at(50)))]);
    lanes.done(&out[0], &site("s"), 1, at(2));
    assert!(!lanes.waits_at(&site("s")) && lanes.sites_of("a.test").contains(&site("s")));
    assert!(lanes.advance(at(50), |_| false).is_empty());
    assert_eq!(lanes.next_unplanned(), Some(a.clone()));
    lanes.put(&a, &site("s"), at(50));
    assert!(lanes.waits_at(&site("s")));
}

/// A lane that leaves a site leaves a trace there. A lane that is named twice in a claim would have
/// its messages sent twice.
#[test]
fn a_lane_that_comes_back_to_a_site_has_one_turn() {
    let a = lane("a.test", "ann");
    let mut lanes = at_site(&[&a], "s");
    for _ in 0..3 {
        lanes.put_off(&a, at(2), false, at(2));
        lanes.put(&a, &site("s"), at(2));
    }
    assert_eq!(taken(&mut lanes, "s", 32), [a]);
    assert!(taken(&mut lanes, "s", 32).is_empty());
}

#[test]
fn a_lane_that_waits_for_long_is_reviewed_and_may_leave() {
    let (a, b) = (lane("a.test", "ann"), lane("b.test", "ann"));
    let mut lanes = at_site(&[&a], "s");
    lanes.follow(vec![(b.clone(), Some(at(1)))]);
    lanes.advance(at(2), |_| true);
    lanes.next_unplanned();
    lanes.put_off(&b, at(10_000), false, at(2));
    assert_eq!(lanes.next_review(at(301)), None);
    assert_eq!(lanes.wakes_at(), Some(at(302)));
    let mut reviews = vec![lanes.next_review(at(302)), lanes.next_review(at(302))];
    reviews.sort();
    assert_eq!(
        reviews,
        [Some((a.clone(), Some(site("s")))), Some((b.clone(), None))]
    );
    assert_eq!(lanes.next_review(at(302)), None);
    lanes.reviewed(&a, at(400), at(0), false);
    assert_eq!(lanes.wakes_at(), Some(at(400)));
    lanes.leave(&a, &site("s"), at(400));
    lanes.advance(at(400), |_| true);
    assert_eq!(lanes.next_unplanned(), Some(a.clone()));
    // It is not found where it waited before.
    assert_eq!(taken(&mut lanes, "s", 1), []);
    lanes.put(&a, &site("t"), at(400));
    assert_eq!(
        lanes.next_review(at(400)),
        None,
        "it waits for the new site since a moment"
    );
    assert_eq!(
        lanes.next_review(at(700)),
        Some((a.clone(), Some(site("t"))))
    );
    lanes.reviewed(&a, at(1000), at(760), false);
    lanes.review_soon(&a, at(700));
    assert_eq!(lanes.wakes_at(), Some(at(760)), "not before");
    assert!(lanes.next_review(at(760)).is_some());
}

/// The time of a message may be over while its lane waits for an answer of the DNS.
#[test]
fn a_lane_whose_look_up_fails_is_looked_at_then_and_at_the_time_that_a_review_names() {
    let a = lane("a.test", "ann");
    let mut lanes = Lanes::default();
    lanes.follow(vec![(a.clone(), Some(at(1)))]);
    lanes.advance(at(1), |_| true);
    lanes.next_unplanned();
    lanes.put_off(&a, at(1800), true, at(2));
    assert_eq!(lanes.next_review(at(2)), Some((a.clone(), None)));
    lanes.reviewed(&a, at(50), at(62), true);
    assert_eq!(lanes.wakes_at(), Some(at(62)), "not before");
    assert_eq!(lanes.next_review(at(62)), Some((a.clone(), None)));
    lanes.reviewed(&a, at(1800), at(122), true);
    // The next look-up is under way at that time. When it has failed, it is time.
    lanes.advance(at(1800), |_| true);
    assert_eq!(lanes.next_unplanned(), Some(a.clone()));
    assert_eq!(lanes.next_review(at(1800)), None);
    lanes.put_off(&a, at(3600), true, at(1830));
    assert_eq!(lanes.next_review(at(1830)), Some((a.clone(), None)));
    lanes.reviewed(&a, at(1900), at(1830), false);
    // A plan is made, and the site takes mail.
    lanes.advance(at(3600), |_| true);
    lanes.next_unplanned();
    lanes.put(&a, &site("s"), at(3600));
    assert_eq!(lanes.next_review(at(3600)), None);
}

#[test]
fn one_worker_makes_way_for_a_lane_of_another_account() {
    let (a, b, c) = (
        lane("a.test", "ann"),
        lane("b.test", "bob"),
        lane("c.test", "cid"),
    );
    let mut lanes = at_site(&[&a], "s");
    let s = site("s");
    let shares = |count: u64| {
        let mut messages: Vec<_> = (0..count).map(|id| test_message(id, "x@a.test")).collect();
        for message in &mut messages {
            Arc::make_mut(&mut message.common).account = "ann".to_owned();
        }
        Share::of(&messages)
    };
    for _ in 0..2 {
        assert_eq!(taken(&mut lanes, "s", 32), std::slice::from_ref(&a));
        lanes.hold(&s, &shares(32));
        lanes.done(&a, &s, 32, at(2));
    }
    let makes_way =
        |lanes: &mut Lanes, much| lanes.makes_way(&s, DeliveryClass::Normal, much, false);
    assert_eq!(
        makes_way(&mut lanes, true),
        None,
        "there is only its own mail"
    );
    lanes.follow(vec![(b.clone(), Some(at(1)))]);
    lanes.advance(at(2), |_| true);
    lanes.next_unplanned();
    lanes.put(&b, &s, at(2));
    assert_eq!(makes_way(&mut lanes, false), None, "no more than a turn");
    assert_eq!(makes_way(&mut lanes, true), Some(DeliveryClass::Normal));
    assert_eq!(makes_way(&mut lanes, true), None, "one is enough");
    assert_eq!(taken(&mut lanes, "s", 1), std::slice::from_ref(&b));
    lanes.refund(&s, &shares(31));
    lanes.done(&b, &s, 1, at(2));
    lanes.follow(vec![(c.clone(), Some(at(1)))]);
    lanes.advance(at(2), |_| true);
    lanes.next_unplanned();
    lanes.put(&c, &s, at(2));
    assert_eq!(makes_way(&mut lanes, true), Some(DeliveryClass::Normal));
    // All is done.
    for lane in [&a, &b, &c] {
        lanes.follow(vec![(lane.clone(), None)]);
    }
    assert!(taken(&mut lanes, "s", 32).is_empty());
    lanes.tidy(&s);
    assert!(!lanes.sites.is_empty(), "workers have messages");
    lanes.let_go(&s, &shares(32));
    lanes.let_go(&s, &shares(32));
    lanes.tidy(&s);
    assert!(lanes.sites.is_empty());
}

#[test]
fn the_lanes_of_a_worker_that_failed_are_taken_by_another() {
    let a = lane("a.test", "ann");
    let mut lanes = at_site(&[&a], "s");
    assert_eq!(taken(&mut lanes, "s", 1), std::slice::from_ref(&a));
    lanes.rescue(&site("s"), at(2));
    assert_eq!(taken(&mut lanes, "s", 1), std::slice::from_ref(&a));
    // Its messages go elsewhere, though it waits for its next turn already.
    lanes.done(&a, &site("s"), 1, at(2));
    lanes.replan(&a, at(2));
    lanes.advance(at(2), |_| true);
    assert_eq!(lanes.next_unplanned(), Some(a));
}

/// A lane of the model: the times of its messages.
type Model = BTreeMap<Lane, Vec<i64>>;

proptest! {
    /// Whatever happens in whatever order, each message is claimed once it is due and its site may
    /// be served, and a lane is never at two places.
    #[test]
    fn no_message_is_forgotten(
        steps in prop::collection::vec((0..8_u8, 0..4_usize, 0..30_i64), 1..200),
    ) {
        let all = [
            lane("a.test", "ann"),
            lane("b.test", "ann"),
            bulk("a.test"),
            lane("a.test", "bob"),
        ];
        let sites = [site("s"), site("t")];
        let (mut lanes, mut model) = (Lanes::default(), Model::new());
        let mut out: Vec<(Lane, Site, bool)> = Vec::new();
        let mut now = 0;
        let head = |model: &Model, lane: &Lane| {
            let times = model.get(lane).and_then(|times| times.iter().min().copied());
            (lane.clone(), times.map(at))
        };
        for (step, which, time) in steps {
            let lane = &all[which];
            match step {
                0 | 1 => {
                    model.entry(lane.clone()).or_default().push(now + time);
                    lanes.follow(vec![head(&model, lane)]);
                }
                2 => now += time,
                3 => {
                    lanes.advance(at(now), |_| true);
                    if let Some(lane) = lanes.next_unplanned() {
                        lanes.put(&lane, &sites[which % 2], at(now));
                    }
                }
                4 => {
                    let site = &sites[which % 2];
                    if let Some((Turn::Claim(taken), bulk)) = lanes.take(site, 2, 3, at(now)) {
                        let taken = taken.into_iter().enumerate();
                        out.extend(taken.map(|(at, lane)| (lane, site.clone(), bulk && at == 0)));
                    }
                }
                5 | 6 => {
                    if let Some((lane, site, bulk)) = out.pop() {
                        let due = model.get_mut(&lane).unwrap();
                        due.retain(|time| *time > now);
                        lanes.follow(vec![head(&model, &lane)]);
                        lanes.done(&lane, &site, 8, at(now));
                        if bulk {
                            lanes.bulk_ended(&site);
                        }
                    }
                }
                _ => {
                    lanes.advance(at(now), |_| true);
                    if let Some(lane) = lanes.next_unplanned() {
                        lanes.put_off(&lane, at(now + time), which % 2 == 0, at(now));
                    }
                }
            }
        }
        // In the end all goes its way.
        now += 1000;
        for (lane, site, bulk) in out.drain(..) {
            lanes.done(&lane, &site, 8, at(now));
            if bulk {
                lanes.bulk_ended(&site);
            }
        }
        for _ in 0..100 {
            lanes.advance(at(now), |_| true);
            while let Some(lane) = lanes.next_unplanned() {
                lanes.put(&lane, &sites[0], at(now));
            }
            for site in &sites {
                while let Some((Turn::Claim(taken), bulk)) = lanes.take(site, 8, 3, at(now)) {
                    for lane in taken {
                        model.remove(&lane);
                        lanes.follow(vec![head(&model, &lane)]);
                        lanes.done(&lane, site, 1, at(now));
                    }
                    if bulk {
                        lanes.bulk_ended(site);
                    }
                }
            }
        }
        model.retain(|_, times| !times.is_empty());
        prop_assert!(model.is_empty(), "{model:?} {lanes:?}");
        prop_assert!(lanes.lanes.is_empty() && lanes.later.is_empty());
        prop_assert!(lanes.reviews.is_empty(), "{:?}", lanes.reviews);
    }
}

#[test]
fn a_lane_that_waits_for_a_source_stays_at_its_site_and_holds_up_no_other() {
    let [a, b] = ["ann", "bob"].map(|account| lane("a.test", account));
    let mut lanes = at_site(&[&a, &b], "s");
    lanes.wait_for_source(&a, at(60), at(2));
    assert_eq!(taken(&mut lanes, "s", 32), std::slice::from_ref(&b));
    // A worker has it, and finds out by itself.
    lanes.wait_for_source(&b, at(60), at(2));
    lanes.done(&b, &site("s"), 8, at(2));
    assert_eq!(taken(&mut lanes, "s", 32), [b]);
    assert!(lanes.advance(at(59), |_| true).is_empty());
    assert_eq!(lanes.site_of(&a), Some(site("s")));
    let waits = BTreeMap::from([(site("s"), vec![a.clone()])]);
    assert_eq!(lanes.advance(at(60), |_| true), waits);
    assert_eq!(taken(&mut lanes, "s", 32), std::slice::from_ref(&a));
    // What it waited for may be forgotten.
    lanes.done(&a, &site("s"), 8, at(2));
    lanes.wait_for_source(&a, at(500), at(2));
    lanes.try_all_now();
    assert_eq!(lanes.advance(at(2), |_| true), waits);
}
