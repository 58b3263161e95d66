//! The pace of a site for each source of ours.
//!
//! Where the configuration has sources, the figures of a provider hold for each of them, and a site
//! that blocks one does not block the others. Else the site has one budget, and nothing here is of
//! any effect.

use std::time::Duration;

use postrider_smtp::DeliveryStatus;
use postrider_store::Moment;

use super::{
    super::{
        at_source::{AtSource, Barred, LearntOfSource, ProviderRates},
        bucket::Tokens,
        state::{Halt, SiteState},
    },
    Pace, Wait,
    known::Known,
};
use crate::{next_hop::Site, sites::Now, source::Source};

/// How many sources of connections to a site are remembered, for those who ask.
const SOURCES_MAX: usize = 16;

impl Known {
    /// What is known of a source. None: sources do not matter at the site.
    pub(super) fn at(&mut self, source: &Source) -> Option<&mut AtSource> {
        if !self.by_source {
            return None;
        }
        let provider = ProviderRates {
            messages: self.limits.rate,
            connects: self.limits.connect_rate,
        };
        if !self.at_sources.contains_key(&*source.name) {
            let new = AtSource::default();
            self.at_sources.insert(source.name.clone(), new);
        }
        let at = self.at_sources.get_mut(&*source.name)?;
        at.set(source.terms, provider);
        Some(at)
    }

    /// A source is remembered, for those who ask.
    pub(super) fn came_from(&mut self, source: &Source) {
        let is_known = self.sources.iter().any(|known| known == source);
        if !is_known && self.sources.len() < SOURCES_MAX {
            self.sources.push(source.clone());
        }
    }

    /// The site answered in order about messages from a source, of a batch that began at `began`.
    /// `taken`: it took some. True: that tells something that is to be kept.
    pub(super) fn answered_to(
        &mut self,
        site: &Site,
        from: Option<&Source>,
        taken: bool,
        (began, now): (Moment, Moment),
    ) -> bool {
        let learnt = self.halts.answered(site, taken, began, now);
        let Some(source) = from else {
            return learnt;
        };
        let name = format_args!("{site} from {}", source.name);
        let of_source = self
            .at(source)
            .is_some_and(|at| at.answered(&name, taken, (began, now)));
        learnt || of_source
    }

    /// How many messages a source may send at most. None: sources do not matter.
    pub(super) fn most_of_a_source(&self, now: Moment) -> Option<usize> {
        let sources = self.at_sources.values();
        sources.map(|at| at.tokens(now)).max()
    }

    /// The block that ends first, if all sources are blocked that are known.
    pub(crate) fn all_blocked(&self, now: Moment) -> Option<&Halt> {
        let mut first: Option<&Halt> = None;
        for at in self.at_sources.values() {
            let block = at.block(now)?;
            first = first
                .filter(|first| first.until <= block.until)
                .or(Some(block));
        }
        first
    }

    /// Why messages wait that no source may send now.
    pub(crate) fn held(&self, now: Moment) -> Option<&Barred> {
        self.held.as_ref().filter(|held| now < held.until)
    }

    pub(super) fn learnt_of_sources(&self, now: Moment) -> Vec<(String, LearntOfSource)> {
        let sources = self.at_sources.iter();
        sources
            .filter_map(|(name, at)| Some((name.clone(), at.learnt(now)?)))
            .collect()
    }

    pub(super) fn restore_sources(&mut self, learnt: Vec<(String, LearntOfSource)>) {
        let sources = learnt.into_iter();
        let sources = sources.map(|(name, learnt)| (name, AtSource::restored(learnt)));
        self.at_sources.extend(sources);
    }
}

impl Pace {
    /// Whether a source is blocked at the site.
    pub(crate) fn is_blocked(&self, source: &Source, now: Moment) -> bool {
        let known = self.known();
        let at = known.at_sources.get(&*source.name);
        at.is_some_and(|at| at.block(now).is_some())
    }

    /// Why no message goes from a source now. `connecting`: it would need a new connection.
    pub(crate) fn bar(&self, source: &Source, connecting: bool, now: Now) -> Option<Barred> {
        self.known().at(source)?.bar(connecting, now)
    }

    /// Why messages wait that no source may send now.
    pub(crate) fn held(&self, now: Moment) -> Option<Wait> {
        let known = self.known();
        known.held(now).map(|held| Wait {
            until: held.until,
            failing: held.failing(),
            status: held.status.clone(),
        })
    }

    /// Messages wait that no source may send now.
    pub(crate) fn hold(&self, barred: &Barred) {
        self.known().held = Some(barred.clone());
    }

    /// Takes tokens for messages from a source: as many as there are, and `count` at most. None:
    /// sources do not matter at the site. The second part: a restart must not forget it.
    pub(crate) fn take_from(
        &self,
        source: &Source,
        count: usize,
        now: Now,
    ) -> Option<(Tokens, bool)> {
        let mut known = self.known();
        let at = known.at(source)?;
        Some((at.take(count, now), at.is_kept()))
    }

    /// Puts back tokens of messages from a source that were not attempted.
    pub(crate) fn put_back_from(&self, source: &Source, unused: Tokens, now: Now) {
        if let Some(at) = self.known().at(source) {
            at.put_back(unused, now);
        }
    }

    /// A source is not used at the site. It is shown to those who ask.
    pub(crate) fn left_out(&self, source: &Source) {
        self.known().came_from(source);
    }

    /// What a rule of the provider says after a reply holds for its source only. False: it holds
    /// for the site.
    pub(super) fn block_source(
        &self,
        source: &Source,
        state: SiteState,
        (status, time): (&DeliveryStatus, Duration),
        now: Moment,
    ) -> bool {
        let mut known = self.known();
        let name = format_args!("{} from {}", self.site, source.name);
        match known.at(source).filter(|_| state == SiteState::Blocked) {
            Some(at) => {
                at.block_as_told(&name, time, status, now);
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use postrider_config::Rate;
    use postrider_smtp::{Cause, EnhancedCode, client::Again};
    use postrider_store::Time;

    use super::{
        super::{LimitedBy, SiteLimits},
        *,
    };
    use crate::{
        next_hop::Way,
        schedule::{Brief, local_plan, tests::config},
        source::{Terms, Via},
    };

    const MINUTE: Duration = Duration::from_secs(60);

    fn at(minutes: u32) -> Now {
        Now {
            time: Time(0).after(MINUTE * (100_000 + minutes)),
            moment: Moment(MINUTE * (1000 + minutes)),
        }
    }

    fn source(name: &str) -> Source {
        Source {
            name: name.to_owned(),
            via: Via::Any,
            ehlo: "mail.example.org".parse().unwrap(),
            terms: Terms::default(),
        }
    }

    fn pace(by_source: bool) -> Arc<Pace> {
        let limits = SiteLimits {
            rate: Rate::parse("10/minute").ok(),
            connect_rate: Rate::parse("2/minute").ok(),
            ..SiteLimits::usual(&config())
        };
        let pace = Pace::new("mx.test".into(), limits.clone(), at(0).moment);
        let mut plan = local_plan("x.test");
        plan.way = Way::Direct(Default::default());
        pace.planned(&plan, "x.test", (limits, by_source), at(0).moment);
        Arc::new(pace)
    }

    fn listed() -> DeliveryStatus {
        DeliveryStatus {
            code: 550,
            permanent: true,
            ..DeliveryStatus::transient(Cause::Reply, EnhancedCode::SYSTEM, "")
        }
    }

    fn block(pace: &Pace, from: &Source) {
        let status = DeliveryStatus {
            text: "5.7.1 192.0.2.1 is listed at zen.spamhaus.org".to_owned(),
            ..listed().with_command("MAIL")
        };
        for _ in 0..3 {
            pace.observe_result(
                &status,
                (None, Again::No),
                Some(from),
                (at(0).moment, at(0).moment),
            );
        }
    }

    #[test]
    fn the_rates_of_an_entry_hold_for_each_source() {
        let pace = pace(true);
        for name in ["one", "two"] {
            let source = source(name);
            let (taken, kept) = pace.take_from(&source, 5, at(0)).unwrap();
            assert_eq!((taken.count, kept), (1, false), "{name}");
            assert!(pace.bar(&source, false, at(0)).is_some());
            assert!(pace.take_connect(&source, at(0).moment).is_ok());
            assert!(pace.take_connect(&source, at(0).moment).is_err());
            pace.put_back_from(&source, taken, at(0));
            assert_eq!(pace.bar(&source, false, at(0)), None);
        }
        let brief: Brief = pace.brief(at(0).moment);
        assert_eq!((brief.tokens_at, brief.connect_at), (None, None));
        assert_eq!(pace.batch(at(0).moment), 1);
        // Without sources the site has one budget.
        let pace = self::pace(false);
        assert!(pace.take_from(&source(""), 5, at(0)).is_none());
        assert_eq!(pace.take_tokens(5, at(0).moment).count, 1);
        assert!(pace.brief(at(0).moment).tokens_at.is_some());
        assert!(pace.take_connect(&source(""), at(0).moment).is_ok());
        assert!(pace.take_connect(&source(""), at(0).moment).is_err());
    }

    #[test]
    fn a_block_is_of_one_source_and_all_blocked_sources_block_the_site() {
        let (pace, one, two) = (pace(true), source("one"), source("two"));
        pace.take_from(&two, 1, at(0));
        block(&pace, &one);
        let now = at(0).moment;
        assert!(pace.halt(now).is_none() && pace.is_blocked(&one, now));
        assert!(!pace.is_blocked(&two, now));
        let state = |now: Moment| pace.copy().state(now);
        assert_eq!(state(now).0, SiteState::Active);
        pace.hold(&pace.bar(&one, false, at(0)).unwrap());
        assert_eq!(state(now), (SiteState::Limited, vec![LimitedBy::Blocked]));
        block(&pace, &two);
        assert_eq!(state(now).0, SiteState::Blocked);
        let learnt = pace.learnt(now).unwrap();
        assert_eq!(learnt.sources.len(), 2);
        let again = self::pace(true);
        again.restore(learnt);
        assert!(again.is_blocked(&one, now) && again.is_of_use(at(11).moment));
        // What was under way ends no block. A probe that is taken ends that of its source.
        again.succeeded((1, 1), Duration::ZERO, Some(&one), now);
        assert!(again.is_blocked(&one, now));
        let later = at(30 * 60).moment;
        again.succeeded((1, 1), Duration::ZERO, Some(&one), later);
        let blocked = |pace: &Pace| -> Vec<String> {
            let learnt = pace.learnt(later).into_iter();
            let sources = learnt.flat_map(|it| it.sources);
            let blocked = sources.filter(|(_, it)| it.blocks > 0);
            blocked.map(|(name, _)| String::from(&*name)).collect()
        };
        assert_eq!(blocked(&again), ["two"]);
        again.forget();
        assert_eq!(blocked(&again), [""; 0]);
        // Without sources the site blocks us as a whole.
        let pace = self::pace(false);
        block(&pace, &one);
        assert_eq!(pace.halt(now).map(|it| it.failing), Some(true));
    }
}
