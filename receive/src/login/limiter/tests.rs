//! Who is refused after which failures, and for how long.

use super::*;

const ANN: Identity<'static> = Identity::Account("ann");
const BOB: Identity<'static> = Identity::Account("bob");

/// The logins of a test, which all come to one limiter.
#[derive(Default)]
struct World {
    limiter: Arc<LoginLimiter>,
    now: Duration,
}

impl World {
    fn at(&self, ip: &str) -> Source {
        Source {
            limiter: Arc::clone(&self.limiter),
            ip: ip.parse().unwrap(),
            behind_proxy: false,
            now: Time(0).after(self.now),
        }
    }

    fn behind_proxy(&self, ip: &str) -> Source {
        Source {
            behind_proxy: true,
            ..self.at(ip)
        }
    }
}

/// Fails until a login is refused. Gives the number of failures.
fn fail(source: &Source, identity: Identity<'_>) -> usize {
    std::iter::from_fn(|| source.begin(identity).ok()).count()
}

fn fail_times(source: &Source, identity: Identity<'_>, times: u32) {
    for _ in 0..times {
        source.begin(identity).unwrap();
    }
}

#[test]
fn an_account_has_ten_in_a_minute_and_fifty_in_a_day_from_an_address() {
    let mut world = World::default();
    for round in 0..5 {
        let here = world.at("192.0.2.1");
        assert_eq!(fail(&here, ANN), 10, "{round}");
        // Attempts that are refused do not count.
        assert_eq!(fail(&here, ANN), 0, "{round}");
        assert_eq!(here.wait(BOB), None, "{round}");
        assert_eq!(world.at("198.51.100.1").wait(ANN), None, "{round}");
        world.now += MINUTE;
    }
    assert_eq!(fail(&world.at("192.0.2.1"), ANN), 0);
    world.now = DAY;
    assert_eq!(world.at("192.0.2.1").wait(ANN), None);
}

#[test]
fn the_wait_is_the_time_until_the_next_login_is_checked() {
    let mut world = World::default();
    fail_times(&world.at("192.0.2.1"), ANN, 4);
    world.now = Duration::from_secs(20);
    fail_times(&world.at("192.0.2.1"), ANN, 6);
    world.now = Duration::from_secs(45);
    let wait = world.at("192.0.2.1").wait(ANN);
    assert_eq!(wait, Some(Duration::from_secs(15)));
    assert_eq!(
        world.at("192.0.2.1").begin(ANN),
        Err(Duration::from_secs(15))
    );
    world.now += Duration::from_secs(15);
    assert_eq!(world.at("192.0.2.1").wait(ANN), None);
    // Forty more failures make a day of it.
    for _ in 0..4 {
        fail(&world.at("192.0.2.1"), ANN);
        world.now += MINUTE;
    }
    assert_eq!(world.at("192.0.2.1").wait(ANN), Some(DAY - world.now));
}

#[test]
fn one_account_with_a_wrong_password_leaves_the_others_at_its_address_alone() {
    let mut world = World::default();
    for _ in 0..100 {
        fail(&world.at("192.0.2.1"), ANN);
        world.now += MINUTE / 2;
    }
    assert!(world.at("192.0.2.1").wait(ANN).is_some());
    assert_eq!(world.at("192.0.2.1").wait(BOB), None);
}

#[test]
fn all_accounts_together_have_ten_times_as_many() {
    let world = World::default();
    let names: Vec<String> = (0..20).map(|n| format!("guess{n}@x.test")).collect();
    let failures: usize = names
        .iter()
        .map(|name| fail(&world.at("192.0.2.1"), Identity::Unknown(name)))
        .sum();
    assert_eq!(failures, 100);
    assert_eq!(world.at("192.0.2.1").wait(ANN), Some(MINUTE));
    assert_eq!(world.at("192.0.2.2").wait(ANN), None);
}

#[test]
fn nobody_is_refused_for_others_at_loopback_and_behind_a_proxy() {
    let world = World::default();
    for source in [
        world.at("127.0.0.1"),
        world.at("::ffff:127.0.0.1"),
        world.at("::1"),
        world.behind_proxy("192.0.2.1"),
    ] {
        world.limiter.forget(None, None);
        for n in 0..200 {
            fail(&source, Identity::Unknown(&n.to_string()));
        }
        assert_eq!(source.wait(ANN), None, "{source:?}");
        fail(&source, ANN);
        assert!(source.wait(ANN).is_some(), "{source:?}");
    }
}

#[test]
fn wider_networks_have_three_and_nine_times_the_limit() {
    let world = World::default();
    let fail_at = |ip: String| fail_times(&world.at(&ip), ANN, 3);
    (1..=10).for_each(|host| fail_at(format!("192.0.2.{host}")));
    assert!(world.at("192.0.2.60").wait(ANN).is_some());
    assert_eq!(world.at("192.0.2.60").wait(BOB), None);
    assert_eq!(world.at("192.0.2.64").wait(ANN), None);
    (0..30).for_each(|net| fail_at(format!("2001:db8:{net:x}::1")));
    assert!(world.at("2001:db8:ffff::1").wait(ANN).is_some());
    assert_eq!(world.at("2001:db9::1").wait(ANN), None);
}

#[test]
fn an_ipv6_network_is_one_and_a_mapped_address_is_ipv4() {
    let world = World::default();
    fail_times(&world.at("2001:db8::1"), ANN, 5);
    fail_times(&world.at("2001:db8::ffff:1"), ANN, 5);
    assert!(world.at("2001:db8::2").wait(ANN).is_some());
    fail(&world.at("::ffff:192.0.2.1"), ANN);
    assert!(world.at("192.0.2.1").wait(ANN).is_some());
}

#[test]
fn a_right_login_clears_the_count_of_its_own_account_only() {
    let world = World::default();
    let here = world.at("192.0.2.1");
    for _ in 0..5 {
        fail_times(&here, ANN, 9);
        here.begin(ANN).unwrap();
        here.right(ANN, true);
    }
    fail_times(&here, BOB, 9);
    here.right(ANN, false);
    assert_eq!(fail(&here, BOB), 1);
    // All of ann's 45 failures still count for the network: 100 - 45 - 10 are left.
    let mut left = 0;
    for n in 0..100 {
        left += fail(&here, Identity::Unknown(&n.to_string()));
    }
    assert_eq!(left, 45);
}

#[test]
fn identities_of_different_kinds_differ_and_unknown_names_ignore_case() {
    let world = World::default();
    let here = world.at("192.0.2.1");
    fail(&here, Identity::Unknown("ann"));
    assert!(here.wait(Identity::Unknown("ANN")).is_some());
    assert_eq!(here.wait(ANN), None);
    fail(&here, Identity::Key(1));
    assert_eq!(here.wait(Identity::Key(2)), None);
}

#[test]
fn an_administrator_can_unlock_an_account_a_network_or_both() {
    let world = World::default();
    let all = || {
        for ip in ["192.0.2.1", "198.51.100.1"] {
            fail(&world.at(ip), ANN);
            fail(&world.at(ip), BOB);
        }
    };
    let refused = || {
        let mut refused = Vec::new();
        for ip in ["192.0.2.1", "198.51.100.1"] {
            for (name, identity) in [("ann", ANN), ("bob", BOB)] {
                if world.at(ip).wait(identity).is_some() {
                    refused.push(format!("{name} {ip}"));
                }
            }
        }
        refused.join(", ")
    };
    all();
    let here = "192.0.2.1".parse().unwrap();
    assert_ne!(world.limiter.forget(Some(ANN), Some(here)), 0);
    assert_eq!(
        refused(),
        "bob 192.0.2.1, ann 198.51.100.1, bob 198.51.100.1"
    );
    assert_ne!(world.limiter.forget(Some(ANN), None), 0);
    assert_eq!(refused(), "bob 192.0.2.1, bob 198.51.100.1");
    assert_ne!(world.limiter.forget(None, Some(here)), 0);
    assert_eq!(refused(), "bob 198.51.100.1");
    assert_eq!(world.limiter.forget(None, Some(here)), 0);
}

#[test]
fn memory_is_bounded_and_what_is_refused_stays_refused() {
    let world = World::default();
    fail(&world.at("192.0.2.1"), ANN);
    for n in 0..COUNTS_MAX as u128 / 4 {
        let ip = IpAddr::V6((n << 96).into());
        let source = Source {
            ip,
            ..world.at("::")
        };
        let _ = source.begin(BOB);
    }
    assert!(world.limiter.counts().len() <= COUNTS_MAX + 6);
    assert!(world.at("192.0.2.1").wait(ANN).is_some());
}

#[test]
fn waits_have_words() {
    for (seconds, words) in [
        (0.0, "1 second"),
        (0.2, "1 second"),
        (59.1, "60 seconds"),
        (120.0, "120 seconds"),
        (121.0, "3 minutes"),
        (7201.0, "3 hours"),
        (86400.0, "24 hours"),
    ] {
        assert_eq!(wait_in_words(Duration::from_secs_f64(seconds)), words);
    }
}
