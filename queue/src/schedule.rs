//! When work may begin, and when a failed message is tried again: pure functions of the work in
//! flight, of limits, and of what sites show.
//!
//! | file | its job |
//! |---|---|
//! | `window` | how many connections a site takes |
//! | `bucket` | the rates of messages and connections |
//! | `state` | when nothing is tried at a site, and for how long |
//! | `observation` | what a result says of its site |
//! | `senders` | what a site says of the domains of senders |
//! | `at_source`, `warm_up` | what holds for one source of ours at a site |
//! | `limits`, `tally` | the limits of a site, and its results of the last hour |
//! | `pace` | all of this for one site, shared by those who work there |
//! | `lanes` | what each lane of due messages waits for, and what waits at each site |
//! | `fair` | who is next at a site, by class and account |
//! | `places` | which site gets the next place among all deliveries |
//! | `wakes` | when a site may go on |
//! | `in_flight` | the workers of all sites |

mod at_source;
mod bucket;
mod fair;
mod in_flight;
mod lanes;
mod limits;
mod observation;
mod pace;
mod places;
mod senders;
mod state;
mod tally;
mod wakes;
mod warm_up;
mod window;

use std::time::Duration;

use postrider_config::QueueConfig;
use postrider_store::Time;
use rand::{Rng, RngExt};

pub(crate) use at_source::{AtSource, Bar, Barred, LearntOfSource};
pub(crate) use bucket::{Bucket, Tokens};
pub(crate) use fair::QUANTUM;
pub(crate) use in_flight::{InFlight, May};
pub(crate) use lanes::{ClaimedBatch, Lanes, REVIEW_AFTER, Share, Turn, cost};
pub(crate) use limits::{LimitInForce, SiteLimits};
#[cfg(test)]
pub(crate) use pace::Brief;
pub use pace::LimitedBy;
pub(crate) use pace::{Known, LastError, LearntOfSite, Of, Opened, Pace, Wait};
pub(crate) use places::{PLACE_COST, WaitingSites};
pub(crate) use state::Halt;
pub use state::SiteState;
pub use tally::Counts;
#[cfg(test)]
pub(crate) use tests::{local_plan, message as test_message};
pub(crate) use wakes::Wakes;
pub(crate) use warm_up::WarmUp;
pub(crate) use window::Learnt;

/// How long a claim holds unless it is renewed.
pub(crate) const LEASE: Duration = Duration::from_secs(600);

/// How many messages a worker takes at once: enough to fill a pipeline, few enough that ten
/// connections share a burst.
pub(crate) const BATCH: usize = 32;

/// How many messages all workers take together. A message that is worked on costs some KiB, with
/// its envelope, its dialog and its result.
const IN_WORK: usize = 4096;

/// A worker takes so many even if there are very many workers: one way to the store for each
/// message would cost too much.
const SHARE_MIN: usize = 8;

/// How many messages each of so many workers takes at once. A few workers fill their pipelines.
/// Many workers keep the server busy with less each, and memory follows [`IN_WORK`].
pub(crate) fn share(workers: usize) -> usize {
    let each = IN_WORK.checked_div(workers);
    each.map_or(BATCH, |each| each.clamp(SHARE_MIN, BATCH))
}

/// How long nothing is tried after so many failures in a row, before this one: of connections to a
/// site, or of look-ups for a domain.
pub(crate) fn down_for(failures: usize) -> Duration {
    const MINUTES: [u64; 6] = [1, 2, 4, 8, 15, 30];
    let minutes = MINUTES.get(failures).or(MINUTES.last());
    Duration::from_secs(60 * minutes.copied().unwrap_or(1))
}

/// When a message is tried again whose attempt number `attempts` (from 1) failed at `now`. None
/// after the last attempt.
pub(crate) fn retry_at(
    now: Time,
    attempts: u32,
    config: &QueueConfig,
    rng: &mut impl Rng,
) -> Option<Time> {
    let index = usize::try_from(attempts)
        .unwrap_or(usize::MAX)
        .saturating_sub(1);
    let interval = config.retry_intervals.get(index)?;
    let spread = config.retry_spread.clamp(0.0, 1.0);
    let factor = 1.0 + spread * rng.random_range(-1.0..=1.0);
    Some(now.after(interval.mul_f64(factor)))
}

/// When the last attempt of a message is due, if attempt number `attempts` failed and the next one
/// is due at `next`.
pub(crate) fn gives_up_at(next: Time, attempts: u32, config: &QueueConfig) -> Time {
    let done = usize::try_from(attempts).unwrap_or(usize::MAX);
    config
        .retry_intervals
        .iter()
        .skip(done)
        .fold(next, |time, interval| time.after(*interval))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{
        collections::BTreeMap,
        sync::{Arc, LazyLock},
    };

    use postrider_config::Static;
    use postrider_smtp::ReversePath;
    use postrider_store::{Common, Notify, QueueId, Queued, TextId, Top};
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;
    use crate::next_hop::Plan;

    pub(crate) fn message(id: u64, recipient: &str) -> Queued {
        Queued {
            id: QueueId(id),
            base: QueueId(id),
            top: Top::EMPTY,
            text: TextId(1),
            common: Arc::new(Common {
                account: String::new(),
                queued: Time(0),
                from: None,
                message_id: String::new(),
                subject: String::new(),
                size: 0,
                needs: Default::default(),
                smtputf8: false,
                require_tls: None,
                future_release: String::new(),
                ret_full: None,
                envid: String::new(),
                list: String::new(),
                extra: BTreeMap::new(),
                origin: postrider_store::Origin::Sent,
                urgency: Default::default(),
            }),
            reverse_path: ReversePath::Null,
            from_id: String::new(),
            recipient: recipient.parse().unwrap(),
            notify: Notify::default(),
            orcpt: String::new(),
            transport: String::new(),
            route: String::new(),
            hold: false,
            held_since: None,
            first_due: Time(0),
            attempts: 1,
            last_attempt: None,
            next_attempt: Time(0),
            delay_told: false,
            fence: 1,
            results: Vec::new(),
            envids: Vec::new(),
        }
    }

    pub(crate) fn local_plan(destination: &str) -> Plan {
        static STATICS: LazyLock<Static> = LazyLock::new(|| {
            let statics = "hostname = \"a.example\"\npostmaster.account = \"a\"\n\
                           listeners.l.ips = [\"127.0.0.1\"]\n";
            Static::parse(statics, "postrider.conf").unwrap()
        });
        Plan::local(destination, &STATICS.providers)
    }

    pub(crate) fn config() -> QueueConfig {
        let statics = "hostname = \"a.example\"\n[postmaster]\naccount = \"a\"\n[listeners.l]\nips = [\"127.0.0.1\"]\n";
        Static::parse(statics, "postrider.conf").unwrap().queue
    }

    #[test]
    fn many_workers_share_the_messages_in_work() {
        for (workers, each) in [
            (0, 32),
            (1, 32),
            (128, 32),
            (129, 31),
            (256, 16),
            (500, 8),
            (5000, 8),
        ] {
            assert_eq!(share(workers), each, "{workers}");
        }
    }

    #[test]
    fn nine_attempts_and_then_none() {
        let mut config = config();
        config.retry_spread = 0.0;
        let mut rng = StdRng::seed_from_u64(1);
        let waits: Vec<u64> = (1..=9)
            .map_while(|attempts| retry_at(Time(0), attempts, &config, &mut rng))
            .map(|time| time.since(Time(0)).as_secs())
            .collect();
        assert_eq!(waits, [450, 900, 1800, 3600, 7200, 14400, 28800, 57600]);
        let next = Time(0).after(Duration::from_secs(28800));
        assert_eq!(gives_up_at(next, 7, &config).since(next).as_secs(), 57600);
        assert_eq!(gives_up_at(next, 8, &config), next);
    }

    #[test]
    fn the_spread_is_bounded() {
        let config = config();
        let mut rng = StdRng::seed_from_u64(7);
        for _ in 0..1000 {
            let wait = retry_at(Time(0), 1, &config, &mut rng)
                .unwrap()
                .since(Time(0))
                .as_secs_f64();
            assert!((405.0..=495.0).contains(&wait), "{wait}");
        }
    }
}
