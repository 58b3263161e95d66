//! Lists of bad clients in DNS (RFC 5782).
//!
//! A zone says by an address in 127.0.0.0/8 that a client is listed. A zone that has stopped its
//! service may list everybody, or nobody, or give no answers. So each zone is tested: it must list
//! 127.0.0.2 and must not list 127.0.0.1 (RFC 5782 §5). A zone that fails is left out until the
//! next test, so that nobody waits for a dead one. One that goes silent between two tests is left
//! out too.
//!
//! The sender of a message chooses nothing here, so these questions do not count among those of the
//! message: a sender that spends them all is looked up like any other.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::join_all;
use postrider_dns::{Question, Resolver};
use postrider_smtp::Domain;
use postrider_store::{Clock, Moment};
use tracing::{info, warn};

use crate::junk::Listed;

/// How long all look-ups for one client may take together.
const TIME_LIMIT: Duration = Duration::from_secs(5);
/// How long the result of a test counts.
const TEST_AGAIN: Duration = Duration::from_secs(4 * 60 * 60);
/// How long a zone without an answer is left out.
const SILENT_AGAIN: Duration = Duration::from_secs(5 * 60);
/// A zone that gives no answer so many times in a row is silent.
const MISSES: u8 = 3;
/// The answer of these zones that forbids to ask: `127.255.255.x` has no meaning for the client.
const DO_NOT_ASK: [u8; 3] = [127, 255, 255];

/// The zones, with what is known of their service.
pub struct Dnsbls {
    resolver: Arc<dyn Resolver>,
    clock: Arc<dyn Clock>,
    /// The zones that were asked.
    zones: Mutex<HashMap<Domain, Zone>>,
}

/// What is known of a zone.
#[derive(Debug, Default)]
struct Zone {
    /// None before the first test.
    service: Option<Service>,
    /// The time of the next test.
    until: Moment,
    /// How many look-ups had no answer since the last one that had.
    misses: u8,
}

/// What a zone does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Service {
    Good,
    ListsEverybody,
    ListsNobody,
    Silent,
}

/// What to ask a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    Nothing,
    Client,
    /// The test, and the client meanwhile.
    Test,
}

impl Service {
    /// Why the zone is left out. None: it is not.
    const fn fault(self) -> Option<&'static str> {
        match self {
            Self::Good => None,
            Self::ListsEverybody => Some("it lists everybody, as 127.0.0.1 shows"),
            Self::ListsNobody => Some("it does not list 127.0.0.2, as a zone in service does"),
            Self::Silent => Some("it gives no answers"),
        }
    }

    const fn holds(self) -> Duration {
        match self {
            Self::Silent => SILENT_AGAIN,
            Self::Good | Self::ListsEverybody | Self::ListsNobody => TEST_AGAIN,
        }
    }
}

impl Dnsbls {
    /// Zones of which nothing is known yet.
    #[must_use]
    pub fn new(resolver: Arc<dyn Resolver>, clock: Arc<dyn Clock>) -> Self {
        Self {
            resolver,
            clock,
            zones: Mutex::default(),
        }
    }

    /// Looks a client up in all zones at once, in at most five seconds. Gives the first of the
    /// zones that lists it. Without an answer a zone counts as one that does not list it.
    pub async fn look_up(&self, zones: &[Domain], client: IpAddr) -> Option<Listed> {
        let address = client.to_canonical();
        let now = self.clock.moment();
        let all = zones.iter().map(|zone| async move {
            let is_listed = self.look_up_in(zone, address, now).await;
            is_listed.then(|| zone.clone())
        });
        let zone = join_all(all).await.into_iter().flatten().next()?;
        Some(Listed { zone, address })
    }

    async fn look_up_in(&self, zone: &Domain, address: IpAddr, now: Moment) -> bool {
        let deadline = now.after(TIME_LIMIT);
        let client = self.lists(zone, address, deadline);
        let (tested, client) = match self.what_to_ask(zone, now) {
            Ask::Nothing => return false,
            Ask::Client => (None, client.await),
            Ask::Test => {
                let (service, client) = tokio::join!(self.test(zone, deadline), client);
                (Some(service), client)
            }
        };
        let service = self.learn(zone, tested, client.is_some(), now);
        service == Some(Service::Good) && client == Some(true)
    }

    fn zones(&self) -> MutexGuard<'_, HashMap<Domain, Zone>> {
        self.zones.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn what_to_ask(&self, zone: &Domain, now: Moment) -> Ask {
        let mut zones = self.zones();
        let Some(known) = zones.get_mut(zone) else {
            return Ask::Test;
        };
        match known.service {
            Some(Service::Good) if now < known.until => Ask::Client,
            Some(_) if now < known.until => Ask::Nothing,
            // One look-up finds out whether it answers again. The others do not wait.
            Some(Service::Silent) => {
                known.until = now.after(TIME_LIMIT);
                Ask::Test
            }
            _ => Ask::Test,
        }
    }

    /// Takes the result of a test, if there was one, and whether there was an answer about a
    /// client. Gives what is known now, and logs it if it has changed.
    fn learn(
        &self,
        zone: &Domain,
        tested: Option<Service>,
        has_answer: bool,
        now: Moment,
    ) -> Option<Service> {
        let mut zones = self.zones();
        let known = zones.entry(zone.clone()).or_default();
        let before = known.service;
        known.misses = match has_answer {
            true => 0,
            false => known.misses.saturating_add(1),
        };
        let mut service = tested.or(before)?;
        if service == Service::Good && known.misses >= MISSES {
            service = Service::Silent;
        }
        let is_new = before != Some(service);
        if tested.is_some() || is_new {
            known.until = now.after(service.holds());
        }
        if is_new && service == Service::Silent {
            // After that, the next miss is enough.
            known.misses = MISSES;
        }
        known.service = Some(service);
        drop(zones);
        let zone = zone.ascii();
        match service.fault() {
            Some(reason) if is_new => warn!(zone, reason, "a DNSBL zone is left out"),
            None if is_new && before.is_some() => {
                info!(zone, "a DNSBL zone is in service again");
            }
            _ => {}
        }
        Some(service)
    }

    async fn test(&self, zone: &Domain, deadline: Moment) -> Service {
        let (listed, unlisted) = tokio::join!(
            self.lists(zone, [127, 0, 0, 2].into(), deadline),
            self.lists(zone, [127, 0, 0, 1].into(), deadline)
        );
        match (listed, unlisted) {
            (Some(_), Some(true)) => Service::ListsEverybody,
            (Some(false), Some(false)) => Service::ListsNobody,
            (Some(true), Some(false)) => Service::Good,
            (None, _) | (_, None) => Service::Silent,
        }
    }

    /// Whether a zone lists an address. None: there is no answer for now.
    async fn lists(&self, zone: &Domain, address: IpAddr, deadline: Moment) -> Option<bool> {
        let answer = tokio::select! {
            biased;
            answer = self.resolver.a(&name_in(zone, address)) => answer,
            () = self.clock.sleep_until_moment(deadline) => return None,
        };
        match answer {
            Ok(answer) => {
                let mut records = answer.records.iter().map(std::net::Ipv4Addr::octets);
                Some(records.any(|record| record[0] == 127 && !record.starts_with(&DO_NOT_ASK)))
            }
            Err(error) => error.negative().map(|_| false),
        }
    }
}

impl std::fmt::Debug for Dnsbls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dnsbls")
            .field("zones", &self.zones)
            .finish_non_exhaustive()
    }
}

/// The name that a zone has for an address (RFC 5782 §2.1, §2.4).
fn name_in(zone: &Domain, address: IpAddr) -> String {
    let reverse = Question::reverse(address);
    let digits = reverse.name();
    let digits = digits
        .strip_suffix("in-addr.arpa")
        .or_else(|| digits.strip_suffix("ip6.arpa"));
    format!("{}{}", digits.unwrap_or_default(), zone.ascii())
}

#[cfg(test)]
mod tests {
    use postrider_dns::{FakeResolver, RecordType};
    use postrider_store::{ManualClock, Time};

    use super::*;

    const CLIENT: &str = "192.0.2.7";

    /// A zone in service.
    fn zone(fake: &FakeResolver, zone: &str) {
        fake.add_address(&format!("2.0.0.127.{zone}"), "127.0.0.2");
    }

    fn dnsbls(fake: &FakeResolver) -> (Dnsbls, ManualClock) {
        let clock = ManualClock::new(Time::default());
        let dnsbls = Dnsbls::new(Arc::new(fake.clone()), Arc::new(clock.clone()));
        (dnsbls, clock)
    }

    async fn look_up(dnsbls: &Dnsbls, zones: &[&str], client: &str) -> String {
        let zones: Vec<_> = zones.iter().map(|it| Domain::parse(it).unwrap()).collect();
        let found = dnsbls.look_up(&zones, client.parse().unwrap()).await;
        found.map_or("-".to_owned(), |it| {
            format!("{} {}", it.zone.ascii(), it.address)
        })
    }

    #[tokio::test]
    async fn a_zone_in_service_lists_a_client_by_an_address_in_127() {
        for (answer, is_listed) in [
            ("127.0.0.2", true),
            ("127.0.0.10", true),
            ("127.255.254.1", true),
            ("127.255.255.254", false),
            ("192.0.2.99", false),
            ("2001:db8::1", false),
        ] {
            let fake = FakeResolver::default();
            zone(&fake, "bl.test");
            fake.add_address("7.2.0.192.bl.test", answer);
            let expected = if is_listed { "bl.test 192.0.2.7" } else { "-" };
            for client in [CLIENT, "::ffff:192.0.2.7"] {
                let found = look_up(&dnsbls(&fake).0, &["bl.test"], client).await;
                assert_eq!(found, expected, "{answer}");
            }
            let other = look_up(&dnsbls(&fake).0, &["bl.test"], "192.0.2.8").await;
            assert_eq!(other, "-");
        }
    }

    #[tokio::test]
    async fn an_ipv6_client_is_asked_for_by_its_digits() {
        let fake = FakeResolver::default();
        zone(&fake, "bl.test");
        let name = "7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.bl.test";
        fake.add_address(name, "127.0.0.3");
        let found = look_up(&dnsbls(&fake).0, &["bl.test"], "2001:db8::7").await;
        assert_eq!(found, "bl.test 2001:db8::7");
    }

    #[tokio::test]
    async fn a_zone_out_of_service_is_left_out() {
        let fake = FakeResolver::default();
        for listing in ["dead.test", "all.test", "good.test", "dumb.test"] {
            fake.add_address(&format!("7.2.0.192.{listing}"), "127.0.0.2");
        }
        zone(&fake, "all.test");
        fake.add_address("1.0.0.127.all.test", "127.0.0.2");
        zone(&fake, "good.test");
        fake.fail("2.0.0.127.dumb.test");
        let zones = ["dead.test", "all.test", "dumb.test", "good.test"];
        let found = look_up(&dnsbls(&fake).0, &zones, CLIENT).await;
        assert_eq!(found, "good.test 192.0.2.7");
        let found = look_up(&dnsbls(&fake).0, &zones[..3], CLIENT).await;
        assert_eq!(found, "-");
    }

    /// A zone that lists the client, and what its look-ups cost.
    struct World {
        fake: FakeResolver,
        dnsbls: Dnsbls,
        clock: ManualClock,
    }

    impl World {
        fn new() -> Self {
            let fake = FakeResolver::default();
            fake.add_address("7.2.0.192.bl.test", "127.0.0.2");
            let (dnsbls, clock) = dnsbls(&fake);
            Self {
                fake,
                dnsbls,
                clock,
            }
        }

        /// How often the test and the client were asked for.
        fn asked(&self) -> (usize, usize) {
            let asked = |name| self.fake.asked(&Question::new(name, RecordType::A));
            (asked("2.0.0.127.bl.test"), asked("7.2.0.192.bl.test"))
        }

        /// Looks the client up at a second since the start.
        async fn check(&self, second: u64, is_listed: bool, asked: (usize, usize)) {
            let passed = self.clock.moment().0;
            self.clock.advance(Duration::from_secs(second) - passed);
            let found = look_up(&self.dnsbls, &["bl.test"], CLIENT).await;
            let expected = if is_listed { "bl.test 192.0.2.7" } else { "-" };
            assert_eq!(found, expected, "{second}");
            assert_eq!(self.asked(), asked, "{second}");
        }
    }

    #[tokio::test]
    async fn a_test_counts_for_four_hours() {
        let world = World::new();
        // It does not list 127.0.0.2.
        world.check(0, false, (1, 1)).await;
        zone(&world.fake, "bl.test");
        world.check(4 * 3600 - 1, false, (1, 1)).await;
        world.check(4 * 3600, true, (2, 2)).await;
        world.check(8 * 3600 - 1, true, (2, 3)).await;
        world.check(8 * 3600, true, (3, 4)).await;
    }

    #[tokio::test]
    async fn a_zone_without_an_answer_is_left_out_for_five_minutes() {
        let world = World::new();
        zone(&world.fake, "bl.test");
        world.fake.fail("1.0.0.127.bl.test");
        world.check(0, false, (1, 1)).await;
        world.fake.mend("1.0.0.127.bl.test");
        world.check(299, false, (1, 1)).await;
        world.check(300, true, (2, 2)).await;
        world.check(301, true, (2, 3)).await;
    }

    #[tokio::test]
    async fn a_zone_that_goes_silent_between_two_tests_is_left_out() {
        let world = World::new();
        zone(&world.fake, "bl.test");
        world.check(0, true, (1, 1)).await;
        let client = "7.2.0.192.bl.test";
        // An answer may get lost.
        world.fake.fail(client);
        world.check(1, false, (1, 2)).await;
        world.check(2, false, (1, 3)).await;
        world.fake.mend(client);
        world.check(3, true, (1, 4)).await;
        world.fake.fail(client);
        for (second, asked) in [(4, 5), (5, 6), (6, 7), (7, 7), (305, 7)] {
            world.check(second, false, (1, asked)).await;
        }
        // The test may be answered from a cache. One more look-up without an answer is enough.
        world.check(306, false, (2, 8)).await;
        world.check(307, false, (2, 8)).await;
        world.fake.mend(client);
        world.check(606, true, (3, 9)).await;
        world.check(607, true, (3, 10)).await;
    }

    /// While one look-up waits for a zone that was silent, the others do not.
    #[tokio::test]
    async fn one_look_up_at_a_time_waits_for_a_silent_zone() {
        let world = World::new();
        for name in ["2.0.0.127.bl.test", "7.2.0.192.bl.test"] {
            world.fake.hang(name);
        }
        let check = |second, asked| world.check(second, false, asked);
        let silent = async { world.clock.advance(TIME_LIMIT) };
        tokio::join!(check(0, (1, 1)), silent);
        check(299, (1, 1)).await;
        let other = async {
            check(301, (2, 2)).await;
            world.clock.advance(TIME_LIMIT);
        };
        tokio::join!(check(300, (2, 2)), other);
        check(599, (2, 2)).await;
    }

    #[tokio::test]
    async fn silent_zones_take_five_seconds_and_hide_no_other() {
        let fake = FakeResolver::default();
        zone(&fake, "good.test");
        fake.add_address("7.2.0.192.good.test", "127.0.0.2");
        let mut zones: Vec<String> = (0..20).map(|it| format!("silent{it}.test")).collect();
        for silent in &zones {
            for name in ["7.2.0.192", "2.0.0.127", "1.0.0.127"] {
                fake.hang(&format!("{name}.{silent}"));
            }
        }
        zones.push("good.test".to_owned());
        let zones: Vec<&str> = zones.iter().map(String::as_str).collect();
        let (dnsbls, clock) = dnsbls(&fake);
        let later = async { clock.advance(TIME_LIMIT) };
        let (found, ()) = tokio::join!(look_up(&dnsbls, &zones, CLIENT), later);
        assert_eq!(found, "good.test 192.0.2.7");
    }
}
