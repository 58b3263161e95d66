//! The states of a site.
//!
//! | state | begins | ends |
//! |---|---|---|
//! | active | else | |
//! | limited | the window or a rate is used up | with a free place, or a token |
//! | resting | the site is busy at one connection, or refused our login | by time, or by a probe |
//! | down | the site is dead | a probe after 1, 2, 4, 8, 15, 30 minutes succeeds |
//! | blocked | three replies within ten minutes say so, without a success | a probe after a time that doubles succeeds |
//! | paused | an administrator wants it | by order, or by time |
//!
//! Resting, down and blocked are *halts*: they have an end and a reason, and one function changes
//! and traces them. After a halt that waits for a probe, the site gets one message at a time until
//! it answers. What was under way when a halt began does not end it. A site may also block one
//! source only (`at_source`). There is no I/O here, and the
//! time is an argument.

use std::{fmt, time::Duration};

use postrider_smtp::DeliveryStatus;
use postrider_store::Moment;
use tracing::{debug, info, warn};

use super::down_for;

/// How long a site rests that refused our login.
const LOGIN_REST: Duration = Duration::from_secs(5 * 60);
/// So many replies tell that the site blocks us.
const BLOCKED_MIN: usize = 3;
/// Within this time.
const BLOCKED_WITHIN: Duration = Duration::from_secs(10 * 60);
/// How long a site is blocked that replied with 4xx, at first and at most.
const BLOCKED_4XX: (Duration, Duration) = (
    Duration::from_secs(30 * 60),
    Duration::from_secs(4 * 60 * 60),
);
/// The same for 5xx.
const BLOCKED_5XX: (Duration, Duration) = (
    Duration::from_secs(4 * 60 * 60),
    Duration::from_secs(24 * 60 * 60),
);

/// How long a site is left alone that blocks us, and did so often before.
pub(super) fn blocked_for(blocks: u32, permanent: bool) -> Duration {
    let (first, max) = if permanent { BLOCKED_5XX } else { BLOCKED_4XX };
    first.saturating_mul(1 << blocks.min(8)).min(max)
}

/// The state of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SiteState {
    /// It takes mail.
    Active,
    /// Its connections or its rate are used up at this moment.
    Limited,
    /// It is left in peace for a while.
    Resting,
    /// It can't be reached. One message at a time finds out when it can.
    Down,
    /// It has blocked us.
    Blocked,
    /// An administrator has paused it.
    Paused,
}

impl SiteState {
    /// All states.
    pub const ALL: [Self; 6] = [
        Self::Active,
        Self::Limited,
        Self::Resting,
        Self::Down,
        Self::Blocked,
        Self::Paused,
    ];

    /// The name in logs and APIs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Limited => "limited",
            Self::Resting => "resting",
            Self::Down => "down",
            Self::Blocked => "blocked",
            Self::Paused => "paused",
        }
    }

    /// Whether nothing is tried at the site for a while, since attempts failed.
    #[must_use]
    pub const fn is_halt(self) -> bool {
        matches!(self, Self::Resting | Self::Down | Self::Blocked)
    }

    /// The state with a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

impl fmt::Display for SiteState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A time in which nothing is tried at a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Halt {
    /// Resting, down or blocked.
    pub(crate) state: SiteState,
    pub(crate) until: Moment,
    /// A message whose time is over fails meanwhile. False: the halt is our own affair.
    pub(crate) failing: bool,
    /// The reason.
    pub(crate) status: DeliveryStatus,
}

/// The halts of a site, and what leads to them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Halts {
    /// The last halt. Down and blocked stay after their end until the site answers.
    halt: Option<Halt>,
    /// How often the site was dead since it answered.
    deaths: usize,
    /// How often the site was blocked since it took a message.
    blocks: u32,
    /// When the site last said that it blocks us, since it took a message.
    told_blocked: Vec<Moment>,
    /// The end of the last block, until the site answers after it. Other halts may follow.
    block: Option<Moment>,
    /// When the last halt began. What was under way by then says nothing of its end.
    halted: Moment,
    /// Somebody asked for a probe, and the site did not answer since.
    asked: bool,
}

impl Halts {
    /// The halt that lasts.
    pub(crate) fn now(&self, now: Moment) -> Option<&Halt> {
        self.halt.as_ref().filter(|halt| now < halt.until)
    }

    /// The last halt, though it may be over.
    pub(crate) const fn last(&self) -> Option<&Halt> {
        self.halt.as_ref()
    }

    /// How often the site was dead since it answered, and blocked since it took a message.
    pub(crate) const fn counts(&self) -> (usize, u32) {
        (self.deaths, self.blocks)
    }

    /// Sets what was known before a restart.
    pub(crate) fn restore(&mut self, halt: Option<Halt>, deaths: usize, blocks: u32) {
        // A rest that followed a block is probed too: at worst, that is one probe too many.
        let counts = |halt: &&Halt| halt.state == SiteState::Blocked || blocks > 0;
        let block = halt.as_ref().filter(counts);
        self.block = block.map(|halt| halt.until);
        self.halt = halt;
        self.deaths = deaths;
        self.blocks = blocks;
    }

    /// The site gets one message at a time, which finds out whether it answers again.
    pub(crate) const fn is_probed(&self) -> bool {
        self.probed_as().is_some()
    }

    /// What the site was when it last answered, if the next message is a probe: blocked, down, or
    /// resting until somebody asked for the probe.
    pub(crate) const fn probed_as(&self) -> Option<SiteState> {
        match (self.block, self.deaths) {
            (Some(_), _) => Some(SiteState::Blocked),
            (None, 0) if self.asked => Some(SiteState::Resting),
            (None, 0) => None,
            (None, _) => Some(SiteState::Down),
        }
    }

    /// The site is dead.
    pub(crate) fn dead(&mut self, site: &dyn fmt::Display, status: &DeliveryStatus, now: Moment) {
        if self.now(now).is_some() {
            return;
        }
        let time = down_for(self.deaths);
        self.deaths = self.deaths.saturating_add(1);
        self.halt(site, SiteState::Down, time, true, status, now);
    }

    /// The site is busy, and rests for this time.
    pub(crate) fn rest(
        &mut self,
        site: &dyn fmt::Display,
        time: Duration,
        status: &DeliveryStatus,
        now: Moment,
    ) {
        self.halt(site, SiteState::Resting, time, true, status, now);
    }

    /// Nothing can be tried at the site for this time, and that is not its fault.
    pub(crate) fn wait(
        &mut self,
        site: &dyn fmt::Display,
        time: Duration,
        status: &DeliveryStatus,
        now: Moment,
    ) {
        let failing = self.is_probed();
        self.halt(site, SiteState::Resting, time, failing, status, now);
    }

    /// The site refused our login.
    pub(crate) fn login_refused(
        &mut self,
        site: &dyn fmt::Display,
        status: &DeliveryStatus,
        now: Moment,
    ) {
        if self.now(now).is_none() {
            warn!(%site, reason = %status, "our login is refused");
        }
        self.rest(site, LOGIN_REST, status, now);
    }

    /// A rule of the provider says for how long to leave the site in peace.
    pub(crate) fn rest_as_told(
        &mut self,
        site: &dyn fmt::Display,
        state: SiteState,
        time: Duration,
        status: &DeliveryStatus,
        now: Moment,
    ) {
        self.halt(site, state, time, true, status, now);
    }

    /// The site said that it blocks us. `by_rule`: a rule of the provider says so, and once is
    /// enough.
    pub(crate) fn told_blocked(
        &mut self,
        site: &dyn fmt::Display,
        (permanent, by_rule): (bool, bool),
        status: &DeliveryStatus,
        now: Moment,
    ) {
        self.told_blocked
            .retain(|at| now.since(*at) < BLOCKED_WITHIN);
        self.told_blocked.push(now);
        let is_probe = self.block.is_some();
        if self.told_blocked.len() < BLOCKED_MIN && !is_probe && !by_rule {
            return;
        }
        if let Some(Halt {
            state: SiteState::Blocked,
            ..
        }) = self.now(now)
        {
            return;
        }
        self.told_blocked.clear();
        let time = blocked_for(self.blocks, permanent);
        self.blocks = self.blocks.saturating_add(1);
        self.halt(site, SiteState::Blocked, time, true, status, now);
    }

    /// The site answered in order about messages of a batch that began at `began`. `taken`: it took
    /// some. While a halt lasts nothing begins, so only what began after it tells of its end. True:
    /// it tells something that is to be kept.
    pub(crate) fn answered(
        &mut self,
        site: &dyn fmt::Display,
        taken: bool,
        began: Moment,
        now: Moment,
    ) -> bool {
        if began < self.halted || self.now(now).is_some() {
            return false;
        }
        let before = (self.counts(), self.block, self.halt.is_some());
        if taken {
            self.told_blocked.clear();
            self.blocks = 0;
        }
        self.deaths = 0;
        self.asked = false;
        self.block = None;
        if self.halt.is_some() {
            self.change(site, None);
        }
        before != (self.counts(), self.block, false)
    }

    /// The next message is a probe, and is sent at once. `even_blocked`: also if the site has
    /// blocked us. Gives whether that changes anything.
    pub(crate) fn ask_for_probe(
        &mut self,
        site: &dyn fmt::Display,
        even_blocked: bool,
        now: Moment,
    ) -> bool {
        let blocked = self.block.is_some_and(|until| now < until);
        let Some(halt) = self.now(now) else {
            return false;
        };
        if !even_blocked && (blocked || halt.state == SiteState::Blocked) {
            return false;
        }
        let ended = Halt {
            until: now,
            ..halt.clone()
        };
        self.block = self.block.map(|until| until.min(now));
        self.asked = true;
        self.change(site, Some(ended));
        true
    }

    /// Begins a halt, or makes it longer. One that lasts is not made shorter.
    fn halt(
        &mut self,
        site: &dyn fmt::Display,
        state: SiteState,
        time: Duration,
        failing: bool,
        status: &DeliveryStatus,
        now: Moment,
    ) {
        let until = now.after(time);
        self.halted = now;
        self.asked = false;
        if state == SiteState::Blocked {
            self.block = self.block.max(Some(until));
        }
        if self.now(now).is_some_and(|halt| halt.until >= until) {
            return;
        }
        let halt = Halt {
            state,
            until,
            failing,
            status: status.clone(),
        };
        self.change(site, Some(halt));
    }

    /// The only place that changes the state.
    fn change(&mut self, site: &dyn fmt::Display, halt: Option<Halt>) {
        let state = |halt: &Option<Halt>| halt.as_ref().map_or(SiteState::Active, |it| it.state);
        let (old, new) = (state(&self.halt), state(&halt));
        if let Some(halt) = &halt {
            let reason = &halt.status;
            match new {
                _ if old == new => {
                    debug!(%site, state = %new, %reason, "the state of a site lasts")
                }
                // Nobody but a person can do something about it.
                SiteState::Blocked => warn!(%site, from = %old, to = %new, %reason, "site state"),
                _ => info!(%site, from = %old, to = %new, %reason, "site state"),
            }
        } else if old != new {
            info!(%site, from = %old, to = %new, "site state");
        }
        self.halt = halt;
    }
}

#[cfg(test)]
mod tests {
    use postrider_smtp::{Cause, EnhancedCode};

    use super::*;
    use crate::next_hop::Site;

    const MINUTE: Duration = Duration::from_secs(60);
    const HOUR: Duration = Duration::from_secs(60 * 60);

    fn at(minutes: u64) -> Moment {
        Moment(Duration::from_secs(60 * (1000 + minutes)))
    }

    /// Before any halt of a test.
    fn before_all() -> Moment {
        Moment(Duration::from_secs(60))
    }

    fn status() -> DeliveryStatus {
        DeliveryStatus::transient(Cause::Connect, EnhancedCode::NO_ANSWER, "silent")
    }

    fn site() -> Site {
        "mx.test".into()
    }

    fn shown(halts: &Halts, now: Moment) -> Option<(SiteState, u64)> {
        let halt = halts.now(now)?;
        Some((halt.state, halt.until.since(now).as_secs() / 60))
    }

    #[test]
    fn a_dead_site_is_probed_at_longer_and_longer_intervals() {
        let mut halts = Halts::default();
        let mut now = 0;
        for minutes in [1, 2, 4, 8, 15, 30, 30] {
            halts.dead(&site(), &status(), at(now));
            assert_eq!(shown(&halts, at(now)), Some((SiteState::Down, minutes)));
            halts.dead(&site(), &status(), at(now));
            assert_eq!(shown(&halts, at(now)), Some((SiteState::Down, minutes)));
            now += minutes;
            assert_eq!(shown(&halts, at(now)), None);
            assert!(halts.is_probed());
        }
        assert!(halts.answered(&site(), false, at(now), at(now)));
        assert!(!halts.is_probed());
        halts.dead(&site(), &status(), at(now));
        assert_eq!(shown(&halts, at(now)), Some((SiteState::Down, 1)));
        assert!(halts.ask_for_probe(&site(), false, at(now)));
        assert_eq!(shown(&halts, at(now)), None);
        assert!(halts.is_probed(), "the next connection is a probe");
        assert!(!halts.ask_for_probe(&site(), false, at(now)));
    }

    /// A kick ends no block, and a rest that is ended so ends with a probe.
    #[test]
    fn a_probe_can_be_asked_for() {
        let mut halts = Halts::default();
        halts.rest(&site(), HOUR, &status(), at(0));
        assert!(halts.ask_for_probe(&site(), false, at(1)));
        assert_eq!(shown(&halts, at(1)), None);
        assert_eq!(halts.probed_as(), Some(SiteState::Resting));
        assert!(halts.answered(&site(), false, at(1), at(1)));
        assert!(!halts.is_probed());
        for rests in [false, true] {
            let mut halts = Halts::default();
            halts.told_blocked(&site(), (false, true), &status(), at(0));
            if rests {
                halts.rest(&site(), HOUR, &status(), at(0));
            }
            let before = shown(&halts, at(1));
            assert!(!halts.ask_for_probe(&site(), false, at(1)));
            assert_eq!(shown(&halts, at(1)), before);
            assert!(halts.ask_for_probe(&site(), true, at(1)));
            assert_eq!(shown(&halts, at(1)), None);
            assert_eq!(halts.probed_as(), Some(SiteState::Blocked));
            assert_eq!(halts.counts(), (0, 1), "the doubling stays");
        }
    }

    /// Ten connections are open. One hears that we are blocked, and another one takes a message.
    #[test]
    fn what_was_under_way_ends_no_halt() {
        type Begin = fn(&mut Halts);
        let begins: [(SiteState, Begin); 3] = [
            (SiteState::Blocked, |halts| {
                halts.told_blocked(&site(), (true, true), &status(), at(0));
            }),
            (SiteState::Down, |halts| {
                halts.dead(&site(), &status(), at(0))
            }),
            (SiteState::Resting, |halts| {
                halts.rest(&site(), HOUR, &status(), at(0))
            }),
        ];
        for (state, begin) in begins {
            let mut halts = Halts::default();
            begin(&mut halts);
            let counts = halts.counts();
            // The transaction may outlast the halt.
            for minute in [0, 1, 300] {
                assert!(
                    !halts.answered(&site(), true, before_all(), at(minute)),
                    "{state}"
                );
                assert_eq!(halts.last().map(|halt| halt.state), Some(state));
                assert_eq!(halts.counts(), counts, "{state}");
            }
            assert!(halts.answered(&site(), true, at(300), at(300)), "{state}");
            assert_eq!((halts.last(), halts.counts()), (None, (0, 0)), "{state}");
        }
    }

    #[test]
    fn three_replies_in_ten_minutes_tell_of_a_block() {
        let mut halts = Halts::default();
        let tell = |halts: &mut Halts, permanent, minute| {
            halts.told_blocked(&site(), (permanent, false), &status(), at(minute));
            shown(halts, at(minute))
        };
        assert_eq!(tell(&mut halts, true, 0), None);
        assert_eq!(tell(&mut halts, true, 1), None);
        assert_eq!(tell(&mut halts, true, 10), None, "the first is too old");
        halts.answered(&site(), true, at(10), at(10));
        assert_eq!(tell(&mut halts, true, 10), None);
        assert_eq!(tell(&mut halts, true, 10), None);
        let blocked = |hours| Some((SiteState::Blocked, 60 * hours));
        assert_eq!(tell(&mut halts, true, 10), blocked(4));
        assert_eq!(tell(&mut halts, true, 11), Some((SiteState::Blocked, 239)));
        halts.answered(&site(), false, at(11), at(11));
        assert_eq!(shown(&halts, at(11)), Some((SiteState::Blocked, 239)));
        // Each probe that is refused doubles the time.
        let mut now = 10 + 4 * 60;
        for hours in [8, 16, 24, 24] {
            assert_eq!(shown(&halts, at(now)), None);
            assert!(halts.is_probed());
            assert_eq!(tell(&mut halts, true, now), blocked(hours));
            now += hours * 60;
        }
        halts.answered(&site(), true, at(now), at(now));
        for minutes in [30, 60, 120, 240, 240] {
            for _ in 0..2 {
                tell(&mut halts, false, now);
            }
            let told = tell(&mut halts, false, now);
            assert_eq!(told, Some((SiteState::Blocked, minutes)));
            now += minutes;
            // An answer that is no success ends the state then, and not the doubling.
            halts.answered(&site(), false, at(now - 1), at(now - 1));
            assert!(halts.is_probed());
            halts.answered(&site(), false, at(now), at(now));
            assert!(!halts.is_probed());
        }
    }

    /// A block ends. The probe finds the site busy, so it rests. What comes then is a probe too.
    #[test]
    fn a_rest_after_a_block_ends_no_probing() {
        for persisted in [false, true] {
            let mut halts = Halts::default();
            halts.told_blocked(&site(), (false, true), &status(), at(0));
            assert_eq!(shown(&halts, at(0)), Some((SiteState::Blocked, 30)));
            halts.rest(&site(), MINUTE, &status(), at(30));
            if persisted {
                let (deaths, blocks) = halts.counts();
                let last = halts.last().cloned();
                halts = Halts::default();
                halts.restore(last, deaths, blocks);
            }
            assert_eq!(shown(&halts, at(30)), Some((SiteState::Resting, 1)));
            assert_eq!(shown(&halts, at(31)), None);
            assert_eq!(halts.probed_as(), Some(SiteState::Blocked));
            // One more reply tells of the next block, which lasts twice as long.
            let mut blocked = halts.clone();
            blocked.told_blocked(&site(), (false, false), &status(), at(31));
            assert_eq!(shown(&blocked, at(31)), Some((SiteState::Blocked, 60)));
            halts.answered(&site(), false, at(31), at(31));
            assert!(!halts.is_probed());
        }
        // So it is if the rest outlasts the block.
        let mut halts = Halts::default();
        halts.rest(&site(), HOUR, &status(), at(0));
        halts.told_blocked(&site(), (false, true), &status(), at(0));
        assert_eq!(shown(&halts, at(59)), Some((SiteState::Resting, 1)));
        assert_eq!(halts.probed_as(), Some(SiteState::Blocked));
    }

    #[test]
    fn a_halt_is_not_made_shorter() {
        let mut halts = Halts::default();
        for _ in 0..3 {
            halts.told_blocked(&site(), (true, false), &status(), at(0));
        }
        halts.rest(&site(), MINUTE, &status(), at(0));
        halts.dead(&site(), &status(), at(0));
        halts.login_refused(&site(), &status(), at(0));
        assert_eq!(shown(&halts, at(0)), Some((SiteState::Blocked, 240)));
        let mut halts = Halts::default();
        halts.told_blocked(&site(), (false, true), &status(), at(0));
        assert_eq!(
            shown(&halts, at(0)),
            Some((SiteState::Blocked, 30)),
            "by a rule"
        );
        halts.rest_as_told(&site(), SiteState::Blocked, 2 * HOUR, &status(), at(0));
        assert_eq!(shown(&halts, at(0)), Some((SiteState::Blocked, 120)));
        let mut halts = Halts::default();
        halts.login_refused(&site(), &status(), at(0));
        assert_eq!(shown(&halts, at(0)), Some((SiteState::Resting, 5)));
        assert!(!halts.is_probed());
        assert!(halts.now(at(0)).is_some_and(|halt| halt.failing));
        let mut halts = Halts::default();
        halts.wait(&site(), MINUTE, &status(), at(0));
        assert!(halts.now(at(0)).is_some_and(|halt| !halt.failing));
    }

    #[test]
    fn each_state_has_a_name_of_its_own() {
        for state in SiteState::ALL {
            assert_eq!(SiteState::from_name(state.name()), Some(state));
        }
        assert_eq!(SiteState::from_name("gone"), None);
    }
}
