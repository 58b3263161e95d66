//! The sites that are known, and orders for them.

use postrider_smtp::{Cause, DeliveryStatus, EnhancedCode};

use super::*;
use crate::schedule::{LearntOfSite, local_plan, tests::config};

const MINUTE: Duration = Duration::from_secs(60);

fn at(minutes: u32) -> Now {
    Now {
        time: Time(0).after(MINUTE * (100_000 + minutes)),
        moment: Moment(MINUTE * minutes),
    }
}

fn paused(target: &str, since: u32, until: Option<u32>) -> SiteOrder {
    SiteOrder {
        target: target.to_owned(),
        pause: Some(SitePause {
            since: at(since).time,
            until: until.map(|until| at(until).time),
            reason: String::new(),
        }),
        limit: None,
        paused: vec![(at(2).time, at(4).time)],
    }
}

/// What was learnt of a site leaves the memory when the store has it, and comes back with the
/// site, but not after a week.
#[test]
fn idle_sites_leave_the_memory_and_come_back_as_they_were() {
    let sites = Sites::new(&config(), false);
    let site = Site::from("mx.test");
    let learn = |now: Now| {
        let status = DeliveryStatus::transient(Cause::Connect, EnhancedCode::NO_ANSWER, "x");
        sites.pace(&site, now).unreachable(&status, now.moment);
    };
    let known = |waits: bool, minutes| {
        sites.sweep(|_| waits, at(minutes).moment);
        sites.is_known(&site)
    };
    sites.pace(&site, at(0));
    assert!(known(false, 9), "it is used");
    assert!(known(true, 10), "mail waits there");
    assert!(!known(false, 10));
    learn(at(20));
    assert!(known(false, 120), "the store has nothing of it");
    let learnt = sites.pace(&site, at(120)).learnt(at(120).moment);
    sites
        .state()
        .kept
        .put(site.clone(), learnt.clone().unwrap(), at(120).time);
    assert!(!known(false, 120));
    assert!(sites.pace(&site, at(200)).brief(at(200).moment).probed);
    assert_eq!(sites.pace(&site, at(200)).learnt(at(200).moment), learnt);
    assert!(!known(false, 220));
    let weeks = 2 * 7 * 24 * 60;
    sites.state().kept.tidy(at(weeks));
    assert_eq!(sites.pace(&site, at(weeks)).learnt(at(weeks).moment), None);
}

#[test]
fn what_only_the_store_knows_can_be_forgotten() {
    let sites = Sites::new(&config(), false);
    let site = Site::from("mx.test");
    let learnt = LearntOfSite {
        deaths: 3,
        ..LearntOfSite::default()
    };
    sites.state().kept.put(site.clone(), learnt, at(0).time);
    for (target, its) in [
        ("mx.test", HashSet::new()),
        ("a.test", HashSet::from([site.clone()])),
    ] {
        assert_eq!(
            sites.with_kept(target, &its),
            BTreeSet::from([site.clone()])
        );
    }
    assert!(sites.with_kept("b.test", &HashSet::new()).is_empty());
    sites.forget(&site);
    assert!(!sites.pace(&site, at(1)).brief(at(1).moment).probed);
}

#[test]
fn a_pause_holds_for_its_site_or_domain_and_time_stands_still() {
    let sites = Sites::new(&config(), false);
    let site = Site::from("mx.test");
    sites.set_order(paused("mx.test", 10, Some(20)), &HashSet::new(), at(10));
    sites.set_order(paused("a.test", 15, None), &HashSet::new(), at(15));
    let pace = sites.pace(&site, at(15));
    assert!(pace.is_paused(at(19).moment) && !pace.is_paused(at(20).moment));
    assert!(sites.is_paused("a.test", at(99).time));
    assert_eq!(sites.next_end(at(15).time), Some(at(20).time));
    assert_eq!(sites.next_end(at(20).time), None);
    let stood = |site: Option<&Site>, domain: &str, from: u32, to: u32| {
        let stood = sites.stood_still(site, domain, at(from).time, at(to).time);
        stood.as_secs() / 60
    };
    for (with_site, domain, from, to, expected) in [
        (true, "b.test", 0, 5, 2),
        (true, "b.test", 3, 5, 1),
        (true, "b.test", 5, 15, 5),
        (true, "b.test", 5, 30, 10),
        (true, "a.test", 5, 30, 20),
        (false, "a.test", 5, 30, 15),
        (false, "b.test", 0, 30, 0),
    ] {
        let site = with_site.then_some(&site);
        assert_eq!(
            stood(site, domain, from, to),
            expected,
            "{domain} {from} {to}"
        );
    }
    let resumed = SiteOrder {
        pause: None,
        paused: Vec::new(),
        ..paused("mx.test", 10, None)
    };
    sites.set_order(resumed, &HashSet::new(), at(16));
    assert!(!pace.is_paused(at(16).moment));
    assert_eq!(sites.state().orders.len(), 1);
}

#[test]
fn the_limit_of_a_domain_is_one_of_its_site_also_of_the_next() {
    let sites = Sites::new(&config(), false);
    let limited = SiteOrder {
        pause: None,
        limit: Some(SiteLimit {
            since: at(0).time,
            until: Some(at(60).time),
            connections: Some(2),
            rate: Some("5/hour".into()),
            reason: String::new(),
        }),
        ..paused("a.test", 0, None)
    };
    sites.set_order(limited, &HashSet::new(), at(0));
    let planned = |site: &str, now| {
        let mut plan = local_plan("a.test");
        plan.site = site.into();
        sites.planned(&plan, "a.test", now)
    };
    for site in ["old.test", "new.test"] {
        let pace = planned(site, at(1));
        assert_eq!(pace.copy().max(at(1).moment), 2);
        assert_eq!(pace.take_tokens(9, at(1).moment).count, 1);
    }
    let pace = planned("new.test", at(60));
    assert_eq!(pace.copy().max(at(60).moment), 10);
}

/// A site remembers some of its domains. The others are known by their lanes and plans.
#[test]
fn an_order_for_any_domain_of_a_site_is_in_force_at_once() {
    let sites = Sites::new(&config(), false);
    let mut plan = local_plan("a.test");
    plan.site = "big.test".into();
    for number in 0..30 {
        sites.planned(&plan, &format!("{number}.test"), at(0));
    }
    assert!(sites.matching("25.test", &HashSet::new()).is_empty());
    let limited = SiteOrder {
        pause: None,
        limit: Some(SiteLimit {
            since: at(0).time,
            until: None,
            connections: Some(2),
            rate: None,
            reason: String::new(),
        }),
        ..paused("25.test", 0, None)
    };
    let its = HashSet::from([plan.site.clone()]);
    sites.set_order(limited.clone(), &its, at(0));
    let pace = sites.pace(&plan.site, at(0));
    assert_eq!(pace.copy().max(at(0).moment), 2);
    // A restart reads the order before there is a lane. The next claim puts it in force.
    let again = Sites::new(&config(), false);
    again.set_order(limited, &HashSet::new(), at(0));
    let pace = again.planned(&plan, "25.test", at(0));
    assert_eq!(pace.copy().max(at(0).moment), 2);
}

#[test]
fn new_limits_of_a_provider_hold_for_sites_that_are_known() {
    let sites = Sites::new(&config(), false);
    let mut plan = local_plan("a.test");
    plan.site = "big.test".into();
    sites.set_limits(&plan);
    assert!(!sites.is_known(&plan.site), "nothing goes on there");
    let pace = sites.planned(&plan, "a.test", at(0));
    let provider = Arc::make_mut(&mut plan.provider);
    provider.connections = 1;
    provider.rate = Some(Rate::parse("1/hour").unwrap());
    sites.set_limits(&plan);
    assert_eq!(pace.copy().max(at(0).moment), 1);
    assert_eq!(pace.take_tokens(9, at(0).moment).count, 1);
}
