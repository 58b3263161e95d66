//! Lists of bad clients in DNS (RFC 5782).
//!
//! A zone says by an address in 127.0.0.0/8 that a client is listed. A zone that has stopped its
//! service may list everybody, or nobody. So each zone is tested: it must list 127.0.0.2 and must
//! not list 127.0.0.1 (RFC 5782 §5). A zone that fails is left out until the next test.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::join_all;
use postrider_dns::Question;
use postrider_smtp::Domain;
use postrider_store::Moment;
use tracing::warn;

use super::questions::Questions;
use crate::junk::Listed;

/// How long all look-ups for one client may take together.
const TIME_LIMIT: Duration = Duration::from_secs(5);
/// How long the result of a test counts.
const TEST_AGAIN: Duration = Duration::from_secs(4 * 60 * 60);
/// The answer of these zones that forbids to ask: `127.255.255.x` has no meaning for the client.
const DO_NOT_ASK: [u8; 3] = [127, 255, 255];

/// The zones, with what is known of their service.
#[derive(Debug, Default)]
pub struct Dnsbls {
    /// The zones that were tested.
    tested: Mutex<HashMap<Domain, Test>>,
}

/// The result of a test of a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Test {
    at: Moment,
    is_good: bool,
}

impl Dnsbls {
    /// Looks a client up in all zones at once, in at most five seconds. Gives the first of the
    /// zones that lists it. Without an answer a zone counts as one that does not list it.
    ///
    /// The questions count among those of the message. `now` is the time of the tests.
    pub async fn look_up(
        &self,
        questions: &Questions,
        zones: &[Domain],
        client: IpAddr,
        now: Moment,
    ) -> Option<Listed> {
        let address = client.to_canonical();
        let questions = questions.within(TIME_LIMIT);
        let all = zones.iter().map(|zone| async {
            let is_good = async {
                match self.known(zone, now) {
                    Some(is_good) => is_good,
                    None => self.test(&questions, zone, now).await,
                }
            };
            let (is_good, is_listed) = tokio::join!(is_good, lists(&questions, zone, address));
            (is_good && is_listed == Some(true)).then(|| zone.clone())
        });
        let zone = join_all(all).await.into_iter().flatten().next()?;
        Some(Listed { zone, address })
    }

    /// The result of the last test, while it counts.
    fn known(&self, zone: &Domain, now: Moment) -> Option<bool> {
        let tested = self.tested.lock().unwrap_or_else(PoisonError::into_inner);
        let test = tested.get(zone)?;
        (now.since(test.at) < TEST_AGAIN).then_some(test.is_good)
    }

    /// Tests a zone. A test without an answer says nothing about the next one.
    async fn test(&self, questions: &Questions, zone: &Domain, now: Moment) -> bool {
        let (listed, unlisted) = tokio::join!(
            lists(questions, zone, [127, 0, 0, 2].into()),
            lists(questions, zone, [127, 0, 0, 1].into())
        );
        let (Some(listed), Some(unlisted)) = (listed, unlisted) else {
            return false;
        };
        let is_good = listed && !unlisted;
        let mut tested = self.tested.lock().unwrap_or_else(PoisonError::into_inner);
        tested.insert(zone.clone(), Test { at: now, is_good });
        drop(tested);
        if !is_good {
            let reason = match unlisted {
                true => "it lists everybody, as 127.0.0.1 shows",
                false => "it does not list 127.0.0.2, as a zone in service does",
            };
            warn!(
                zone = zone.ascii(),
                reason, "a DNSBL zone is left out for 4 hours"
            );
        }
        is_good
    }
}

/// Whether a zone lists an address. None: there is no answer for now.
async fn lists(questions: &Questions, zone: &Domain, address: IpAddr) -> Option<bool> {
    let name = name_in(zone, address);
    match questions.ask(|dns| dns.a(&name)).await {
        Ok(answer) => {
            let mut records = answer.records.iter().map(std::net::Ipv4Addr::octets);
            Some(records.any(|record| record[0] == 127 && !record.starts_with(&DO_NOT_ASK)))
        }
        Err(error) => error.negative().map(|_| false),
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

    use super::*;
    use crate::checks::questions::tests::questions;

    const CLIENT: &str = "192.0.2.7";

    /// A zone in service.
    fn zone(fake: &FakeResolver, zone: &str) {
        fake.add_address(&format!("2.0.0.127.{zone}"), "127.0.0.2");
    }

    fn now(seconds: u64) -> Moment {
        Moment(Duration::from_secs(seconds))
    }

    async fn look_up(fake: &FakeResolver, dnsbls: &Dnsbls, zones: &[&str], client: &str) -> String {
        let (questions, _clock) = questions(fake);
        let zones: Vec<_> = zones.iter().map(|it| Domain::parse(it).unwrap()).collect();
        let client = client.parse().unwrap();
        let found = dnsbls.look_up(&questions, &zones, client, now(0)).await;
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
                let found = look_up(&fake, &Dnsbls::default(), &["bl.test"], client).await;
                assert_eq!(found, expected, "{answer}");
            }
            let other = look_up(&fake, &Dnsbls::default(), &["bl.test"], "192.0.2.8").await;
            assert_eq!(other, "-");
        }
    }

    #[tokio::test]
    async fn an_ipv6_client_is_asked_for_by_its_digits() {
        let fake = FakeResolver::default();
        zone(&fake, "bl.test");
        let name = "7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.bl.test";
        fake.add_address(name, "127.0.0.3");
        let found = look_up(&fake, &Dnsbls::default(), &["bl.test"], "2001:db8::7").await;
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
        let found = look_up(&fake, &Dnsbls::default(), &zones, CLIENT).await;
        assert_eq!(found, "good.test 192.0.2.7");
        let found = look_up(&fake, &Dnsbls::default(), &zones[..3], CLIENT).await;
        assert_eq!(found, "-");
    }

    #[tokio::test]
    async fn a_test_counts_for_four_hours_and_one_without_an_answer_for_no_time() {
        let fake = FakeResolver::default();
        let dnsbls = Dnsbls::default();
        let zones = [Domain::parse("bl.test").unwrap()];
        fake.add_address("7.2.0.192.bl.test", "127.0.0.2");
        let good = Question::new("2.0.0.127.bl.test", RecordType::A);
        let check = async |seconds, listed, tests| {
            let (questions, _clock) = questions(&fake);
            let client = CLIENT.parse().unwrap();
            let found = dnsbls
                .look_up(&questions, &zones, client, now(seconds))
                .await;
            assert_eq!(found.is_some(), listed, "{seconds}");
            assert_eq!(fake.asked(&good), tests, "{seconds}");
        };
        fake.fail("1.0.0.127.bl.test");
        check(0, false, 1).await;
        fake.mend("1.0.0.127.bl.test");
        check(1, false, 2).await;
        zone(&fake, "bl.test");
        check(4 * 3600, false, 2).await;
        check(4 * 3600 + 1, true, 3).await;
        check(8 * 3600, true, 3).await;
        check(8 * 3600 + 1, true, 4).await;
    }

    #[tokio::test]
    async fn a_silent_zone_takes_five_seconds_and_hides_no_other() {
        let fake = FakeResolver::default();
        zone(&fake, "good.test");
        fake.add_address("7.2.0.192.good.test", "127.0.0.2");
        fake.hang("7.2.0.192.silent.test");
        zone(&fake, "silent.test");
        let zones = ["silent.test", "good.test"].map(|zone| Domain::parse(zone).unwrap());
        let (questions, clock) = questions(&fake);
        let dnsbls = Dnsbls::default();
        let look_up = dnsbls.look_up(&questions, &zones, CLIENT.parse().unwrap(), now(0));
        let later = async { clock.advance(TIME_LIMIT) };
        let (found, ()) = tokio::join!(look_up, later);
        assert_eq!(found.map(|it| it.zone), Some(zones[1].clone()));
    }
}
