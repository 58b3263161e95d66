//! The plans that are remembered.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use postrider_config::{Providers, Static, Transport};
use postrider_smtp::{DeliveryStatus, Host};
use postrider_store::Moment;

use super::{Hop, Plan, PlanKey, Planned, Site, failures::Failures};
use crate::{mta_sts::Applied, route, schedule::Wait, tls::Requested};

/// The shortest time that a plan holds: mail to a domain comes in bursts.
const HOLDS_MIN: Duration = Duration::from_secs(60);
/// The longest time that a plan holds.
const HOLDS_MAX: Duration = Duration::from_secs(60 * 60);
/// How long a plan may still be used while a new one is made.
const STALE_MAX: Duration = Duration::from_secs(5 * 60);
/// How many plans are remembered.
const PLANS_MAX: usize = 10_000;
/// How many bytes the parts of them may take that others choose.
const BYTES_MAX: usize = 8 << 20;

/// The longest pause before the next look-up while our resolver seems to be out of order.
const OURS_MAX: Duration = Duration::from_secs(4 * 60);

/// A remembered plan.
#[derive(Clone, Debug)]
pub(crate) struct Remembered {
    pub(crate) plan: Result<Arc<Plan>, DeliveryStatus>,
    /// It may be used, but a new one is to be made.
    pub(crate) stale: bool,
}

/// There may be very many, so each is small.
#[derive(Debug)]
struct Entry {
    plan: Result<Arc<Plan>, Box<DeliveryStatus>>,
    until: Moment,
    /// The bytes of its parts that others choose.
    bytes: usize,
}

/// Plans by what they are for. Transports that name a host need no look-up, so their plans are made
/// at the start and stay.
#[derive(Debug, Default)]
pub(crate) struct Plans {
    named: BTreeMap<String, Arc<Plan>>,
    /// The entries of providers that the plans have.
    providers: Option<Arc<Providers>>,
    entries: HashMap<Arc<PlanKey>, Entry>,
    /// The bytes of all entries.
    bytes: usize,
    /// The look-ups that failed.
    failures: Failures<PlanKey>,
    /// The attempts for messages, by what their senders ask of TLS, that the rules of TLS let come
    /// to no host.
    refusals: Failures<(PlanKey, Requested)>,
    /// The entries by the moment until which they hold.
    ends: BTreeSet<(Moment, Arc<PlanKey>)>,
}

impl Plans {
    pub(crate) fn new(statics: &Static) -> Self {
        let named = statics.transports.iter().filter_map(|(name, transport)| {
            let plan = match transport {
                Transport::Lmtp(place) => Plan::lmtp(name, place, &statics.providers),
                other => {
                    let (host, tls) = route::smarthost(other)?;
                    Plan::smarthost(name, host, tls, &statics.providers)
                }
            };
            Some((name.clone(), Arc::new(plan)))
        });
        Self {
            named: named.collect(),
            ..Self::default()
        }
    }

    /// Gives all plans these entries of providers. It does nothing unless the entries have changed.
    pub(crate) fn set_providers(&mut self, providers: &Arc<Providers>) {
        let before = self.providers.replace(Arc::clone(providers));
        let same = |before: &Arc<Providers>| Arc::ptr_eq(before, providers) || before == providers;
        if before.as_ref().is_some_and(same) {
            return;
        }
        for (key, entry) in &mut self.entries {
            if let (Ok(plan), Ok(destination)) = (&mut entry.plan, Host::parse(&key.destination)) {
                *plan = Arc::new(plan.with(&destination, providers));
            }
        }
    }

    /// The plan of a transport that names a host.
    pub(crate) fn named(&self, transport: &str) -> Option<Arc<Plan>> {
        self.named.get(transport).map(Arc::clone)
    }

    /// The remembered plan, if it may still be used.
    pub(crate) fn find(&self, key: &PlanKey, now: Moment) -> Option<Remembered> {
        let entry = self.entries.get(key)?;
        let stale = entry.until <= now;
        // That there is no plan is not believed for longer than it holds.
        let usable = !stale || (entry.plan.is_ok() && now < entry.until.after(STALE_MAX));
        usable.then(|| Remembered {
            plan: entry.plan.clone().map_err(|status| *status),
            stale,
        })
    }

    /// A look-up had no answer. Gives when the next one is to be made, at most `max` from now.
    pub(crate) fn failed(
        &mut self,
        key: &PlanKey,
        status: &DeliveryStatus,
        max: Duration,
        now: Moment,
    ) -> Moment {
        let key = key.clone();
        self.failures
            .failed(key, (status, false), now, |pause| pause.min(max))
    }

    /// A look-up had no answer, and our resolver seems to be out of order. Gives when the next one
    /// is to be made: earlier than after other failures. `spread` is from 0.5 to 1, at random. It
    /// keeps apart what failed at the same moment, so that few ask at a time.
    pub(crate) fn failed_by_us(
        &mut self,
        key: &PlanKey,
        status: &DeliveryStatus,
        spread: f64,
        now: Moment,
    ) -> Moment {
        let pause = |pause: Duration| pause.min(OURS_MAX).mul_f64(spread);
        self.failures
            .failed(key.clone(), (status, true), now, pause)
    }

    /// All plans that were made by look-ups.
    pub(crate) fn all(&self) -> Vec<Arc<Plan>> {
        let entries = self.entries.values();
        let plans = entries.filter_map(|entry| entry.plan.as_ref().ok());
        plans.map(Arc::clone).collect()
    }

    /// The sites of the plans of a destination.
    pub(crate) fn sites_of(&self, destination: &str) -> HashSet<Site> {
        let entries = self.entries.iter();
        let of_it = entries.filter(|(key, _)| &*key.destination == destination);
        let plans = of_it.filter_map(|(_, entry)| entry.plan.as_ref().ok());
        plans.map(|plan| plan.site.clone()).collect()
    }

    /// Until when no look-up is made, after some that had no answer, and what came of the last one.
    pub(crate) fn failure(&self, key: &PlanKey, now: Moment) -> Option<Wait> {
        self.failures.last(key, now)
    }

    /// The rules of TLS let an attempt come to no host. Gives when the next one is to be made, at
    /// most `max` from now.
    pub(crate) fn refused(
        &mut self,
        key: PlanKey,
        requested: Requested,
        status: &DeliveryStatus,
        max: Duration,
        now: Moment,
    ) -> Moment {
        let pause = |pause: Duration| pause.min(max);
        self.refusals
            .failed((key, requested), (status, false), now, pause)
    }

    /// Until when no attempt is made after some that were refused, and why the last one was.
    pub(crate) fn refusal(&self, key: PlanKey, requested: Requested, now: Moment) -> Option<Wait> {
        self.refusals.last(&(key, requested), now)
    }

    /// Whether attempts were refused.
    pub(crate) fn has_refusals(&self) -> bool {
        !self.refusals.is_empty()
    }

    /// An attempt came to a host.
    pub(crate) fn accepted(&mut self, key: PlanKey, requested: Requested) {
        self.refusals.forget(&(key, requested));
    }

    /// Lets the look-ups and the attempts for a destination be made again that wait after a
    /// failure. How often they failed stays.
    pub(crate) fn try_now(&mut self, destination: &str, now: Moment) {
        let is_its = |key: &PlanKey| &*key.destination == destination;
        self.failures.try_now(is_its, now);
        self.refusals.try_now(|(key, _)| is_its(key), now);
    }

    /// The same for look-ups that failed while our resolver seemed to be out of order.
    pub(crate) fn forgive_ours(&mut self) {
        self.failures.forget_ours();
    }

    /// Remembers a plan, if it holds. A failure that may be over soon does not end an older plan.
    pub(crate) fn remember(&mut self, key: PlanKey, planned: &Planned, now: Moment) {
        if planned.holds.is_zero() && planned.plan.is_err() {
            return;
        }
        self.failures.forget(&key);
        self.forget(&key);
        let bytes = bytes_of(&key, &planned.plan);
        while let Some((_, first)) = self
            .ends
            .first()
            .filter(|(end, _)| {
                let is_full = self.entries.len() >= PLANS_MAX || self.bytes + bytes > BYTES_MAX;
                is_full || end.after(STALE_MAX) <= now
            })
            .cloned()
        {
            self.forget(&first);
        }
        self.bytes += bytes;
        let until = now.after(planned.holds.clamp(HOLDS_MIN, HOLDS_MAX));
        let key = Arc::new(key);
        self.ends.insert((until, Arc::clone(&key)));
        let entry = Entry {
            plan: planned.plan.clone().map_err(Box::new),
            until,
            bytes,
        };
        self.entries.insert(key, entry);
    }

    /// Forgets the plans of a destination, by any transport, and lets what was refused by them be
    /// tried again.
    pub(crate) fn forget_destination(&mut self, destination: &str, now: Moment) {
        let is_its = |(key, _): &(PlanKey, Requested)| &*key.destination == destination;
        self.refusals.try_now(is_its, now);
        let keys = self.entries.keys();
        let keys = keys.filter(|key| &*key.destination == destination);
        for key in keys.cloned().collect::<Vec<_>>() {
            self.forget(&key);
        }
    }

    fn forget(&mut self, key: &PlanKey) {
        if let Some((key, entry)) = self.entries.remove_entry(key) {
            self.bytes -= entry.bytes;
            self.ends.remove(&(entry.until, key));
        }
    }
}

/// The bytes of an entry that others choose.
fn bytes_of(key: &PlanKey, plan: &Result<Arc<Plan>, DeliveryStatus>) -> usize {
    let plan = match plan {
        Ok(plan) => variable_bytes(plan),
        Err(status) => status.text.len(),
    };
    key.destination.len() + plan
}

/// The bytes that others choose: names of hosts, and the MTA-STS policy.
fn variable_bytes(plan: &Plan) -> usize {
    let hops = plan.hops.iter();
    let hops: usize = hops.map(|hop| size_of::<Hop>() + hop.name.len()).sum();
    let names = plan.secure_names.iter().flatten();
    let names: usize = names.map(|name| size_of::<String>() + name.len()).sum();
    let policy = plan.mta_sts.as_ref().map_or(0, |applied| {
        let patterns = applied.policy.mx.iter();
        let bytes = patterns.map(|pattern| size_of::<String>() + pattern.len());
        size_of::<Applied>() + bytes.sum::<usize>()
    });
    hops + names + policy
}

#[cfg(test)]
mod tests {
    use postrider_smtp::{Cause, EnhancedCode};

    use super::*;
    use crate::schedule::local_plan;

    fn key(destination: &str) -> PlanKey {
        PlanKey {
            destination: destination.into(),
            transport: String::new(),
        }
    }

    fn planned(holds: u64) -> Planned {
        Planned {
            plan: Ok(Arc::new(local_plan("a.test"))),
            fault: None,
            unanswered: false,
            holds: Duration::from_secs(holds),
        }
    }

    fn failed(holds: u64) -> Planned {
        let status = DeliveryStatus::transient(Cause::Dns, EnhancedCode::DIRECTORY_FAILURE, "no");
        Planned {
            plan: Err(status),
            fault: None,
            unanswered: false,
            holds: Duration::from_secs(holds),
        }
    }

    fn at(seconds: u64) -> Moment {
        Moment(Duration::from_secs(seconds))
    }

    #[test]
    fn plans_hold_for_their_ttl_within_limits() {
        let mut plans = Plans::default();
        let a = key("a.test");
        let stale = |plans: &Plans, seconds| Some(plans.find(&a, at(seconds))?.stale);
        plans.remember(a.clone(), &planned(0), at(0));
        assert_eq!(stale(&plans, 59), Some(false));
        assert_eq!(stale(&plans, 60), Some(true));
        assert_eq!(stale(&plans, 359), Some(true));
        assert_eq!(stale(&plans, 360), None);
        plans.remember(a.clone(), &planned(u64::MAX), at(0));
        assert_eq!(stale(&plans, 3599), Some(false));
        assert_eq!(stale(&plans, 3600), Some(true));
        // The domain is gone: that is remembered for as long as it holds, and no longer.
        plans.remember(a.clone(), &failed(120), at(0));
        assert_eq!(stale(&plans, 119), Some(false));
        assert_eq!(stale(&plans, 120), None);
    }

    #[test]
    fn a_failed_look_up_ends_no_plan() {
        let mut plans = Plans::default();
        plans.remember(key("a.test"), &failed(0), at(0));
        assert!(plans.find(&key("a.test"), at(0)).is_none());
        plans.remember(key("a.test"), &planned(60), at(0));
        plans.remember(key("a.test"), &failed(0), at(60));
        assert!(plans.find(&key("a.test"), at(61)).unwrap().plan.is_ok());
    }

    #[test]
    fn look_ups_that_fail_are_made_at_longer_and_longer_intervals() {
        let mut plans = Plans::default();
        let (a, max) = (key("a.test"), Duration::from_secs(1000));
        let status = failed(0).plan.unwrap_err();
        let mut now = 0;
        for seconds in [60, 120, 240, 480, 900, 1000, 1000] {
            assert_eq!(plans.failed(&a, &status, max, at(now)), at(now + seconds));
            let wait = plans.failure(&a, at(now + seconds - 1)).unwrap();
            assert_eq!((wait.until, wait.failing), (at(now + seconds), true));
            now += seconds;
            assert!(plans.failure(&a, at(now)).is_none());
        }
        assert_eq!(
            plans.failed(&a, &status, max, at(now + 3600)),
            at(now + 3660),
            "it is long ago"
        );
        plans.remember(a.clone(), &planned(60), at(now + 3660));
        assert_eq!(
            plans.failed(&a, &status, max, at(now + 3660)),
            at(now + 3720),
            "one succeeded"
        );
        plans.try_now("b.test", at(now + 3660));
        assert!(plans.failure(&a, at(now + 3660)).is_some());
        plans.try_now("a.test", at(now + 3660));
        assert!(plans.failure(&a, at(now + 3660)).is_none());
        let next = plans.failed(&a, &status, max, at(now + 3660));
        assert_eq!(next, at(now + 3780), "the earlier failures count");
    }

    #[test]
    fn look_ups_by_a_resolver_out_of_order_are_made_sooner_and_apart() {
        let mut plans = Plans::default();
        let (a, b) = (key("a.test"), key("b.test"));
        let status = failed(0).plan.unwrap_err();
        let mut now = 0;
        for seconds in [30, 60, 120, 120] {
            let until = plans.failed_by_us(&a, &status, 0.5, at(now));
            assert_eq!(until, at(now + seconds));
            assert!(!plans.failure(&a, at(now)).unwrap().failing);
            now += seconds;
        }
        assert_eq!(plans.failed_by_us(&a, &status, 1.0, at(now)), at(now + 240));
        plans.failed(&b, &status, HOLDS_MAX, at(now));
        plans.forgive_ours();
        assert!(plans.failure(&a, at(now)).is_none());
        assert!(plans.failure(&b, at(now)).is_some());
    }

    #[test]
    fn a_destination_is_forgotten_with_all_its_transports() {
        let mut plans = Plans::default();
        let by_transport = PlanKey {
            transport: "out".into(),
            ..key("a.test")
        };
        for key in [key("a.test"), by_transport.clone(), key("b.test")] {
            plans.remember(key, &planned(60), at(0));
        }
        let status = failed(0).plan.unwrap_err();
        for name in ["a.test", "b.test"] {
            let until = plans.refused(key(name), Requested::Unsaid, &status, HOLDS_MAX, at(0));
            assert_eq!(until, at(60));
        }
        let refusal = |plans: &Plans, name: &str| {
            let refusal = plans.refusal(key(name), Requested::Unsaid, at(59));
            refusal.is_some_and(|wait| wait.failing)
        };
        assert!(refusal(&plans, "a.test") && refusal(&plans, "b.test"));
        let waived = plans.refusal(key("b.test"), Requested::Waived, at(59));
        assert!(waived.is_none());
        plans.forget_destination("a.test", at(59));
        assert!(!refusal(&plans, "a.test") && refusal(&plans, "b.test"));
        plans.try_now("b.test", at(59));
        assert!(!refusal(&plans, "b.test") && plans.has_refusals());
        for name in ["a.test", "b.test"] {
            plans.accepted(key(name), Requested::Unsaid);
        }
        assert!(!plans.has_refusals());
        assert!(plans.find(&key("a.test"), at(0)).is_none());
        assert!(plans.find(&by_transport, at(0)).is_none());
        assert!(plans.find(&key("b.test"), at(0)).is_some());
        assert_eq!(plans.ends.len(), 1);
    }

    /// A hostile DNS server has many hosts with long names below each of many names.
    #[test]
    fn the_bytes_of_plans_are_bounded() {
        let mut plans = Plans::default();
        let hop = || Hop {
            name: "x".repeat(250),
            preference: 10,
            port: 25,
        };
        let wide = Plan {
            hops: std::iter::repeat_with(hop).take(10).collect(),
            ..local_plan("a.test")
        };
        let wide = Planned {
            plan: Ok(Arc::new(wide)),
            ..planned(60)
        };
        for number in 0..5000 {
            plans.remember(key(&format!("{number}.test")), &wide, at(0));
            assert!(plans.bytes <= BYTES_MAX);
        }
        let count = plans.entries.len();
        assert!((2000..4000).contains(&count), "{count}");
        assert_eq!(plans.ends.len(), count);
        plans.remember(key("b.test"), &planned(60), at(10_000));
        assert_eq!((plans.entries.len(), plans.bytes), (1, "b.test".len()));
    }

    #[test]
    fn the_number_of_plans_is_bounded() {
        let mut plans = Plans::default();
        for number in 0..=PLANS_MAX {
            let holds = 60 + number as u64 % 7;
            plans.remember(key(&format!("{number}.test")), &planned(holds), at(0));
        }
        assert_eq!(
            (plans.entries.len(), plans.ends.len()),
            (PLANS_MAX, PLANS_MAX)
        );
        // Entries that ended go when the next entry comes.
        plans.remember(key("a.test"), &planned(60), at(10_000));
        assert_eq!((plans.entries.len(), plans.ends.len()), (1, 1));
    }
}
