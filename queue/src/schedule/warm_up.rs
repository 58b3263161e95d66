//! The warm-up of a source: other servers come to know a new address by mail that grows slowly.
//!
//! | day | messages to one site |
//! |---|---|
//! | before the first one | none |
//! | the first one | [`FIRST`] |
//! | each further one | half as many again; after a day with a block as many as on that day |
//! | after [`STEPS`] days, and one more for each that did not grow | any number |

use postrider_config::Day;

/// The messages of the first day.
const FIRST: u64 = 100;
/// How many days it takes, if the number grows on each.
const STEPS: u32 = 30;

/// The last day on which a source sent to a site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct WarmUp {
    /// The day, as a number of days since 1970-01-01.
    pub(crate) day: u32,
    /// The messages of that day.
    pub(crate) sent: u32,
    /// The site said on that day that it blocks the source.
    pub(crate) blocked: bool,
    /// The days before that one on which the number did not grow.
    pub(crate) repeats: u32,
}

impl WarmUp {
    /// The most messages of a day, for a warm-up that began on `first`. None: any number.
    pub(crate) fn max(self, first: Day, today: Day) -> Option<u32> {
        let Some(days) = today.0.checked_sub(first.0) else {
            return Some(0);
        };
        let step = days.saturating_sub(self.repeats_until(today));
        if step >= STEPS {
            return None;
        }
        let max = FIRST * 3_u64.pow(step) / 2_u64.pow(step);
        Some(u32::try_from(max).unwrap_or(u32::MAX))
    }

    /// The messages of a day so far.
    pub(crate) const fn sent(self, today: Day) -> u32 {
        if self.day == today.0 { self.sent } else { 0 }
    }

    /// The days before one on which the number did not grow.
    fn repeats_until(self, today: Day) -> u32 {
        let counts = self.blocked && self.day < today.0;
        self.repeats.saturating_add(u32::from(counts))
    }

    /// So many messages are sent.
    pub(crate) fn add(&mut self, count: usize, today: Day) {
        if count == 0 {
            return;
        }
        if self.day != today.0 {
            *self = Self {
                day: today.0,
                sent: 0,
                blocked: false,
                repeats: self.repeats_until(today),
            };
        }
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.sent = self.sent.saturating_add(count);
    }

    /// Messages that were counted on a day were not sent.
    pub(crate) fn put_back(&mut self, count: usize, day: Day) {
        if self.day == day.0 {
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            self.sent = self.sent.saturating_sub(count);
        }
    }

    /// The site said about a message that it blocks the source.
    pub(crate) const fn blocked(&mut self) {
        // Without a warm-up nothing is counted, so there is no day.
        self.blocked = self.day > 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST_DAY: Day = Day(20_000);

    fn max(warm_up: WarmUp, day: u32) -> Option<u32> {
        warm_up.max(FIRST_DAY, Day(FIRST_DAY.0 + day))
    }

    #[test]
    fn half_as_many_again_each_day_for_a_month() {
        let warm_up = WarmUp::default();
        assert_eq!(warm_up.max(FIRST_DAY, Day(19_999)), Some(0));
        let days: Vec<_> = (0..6).map(|day| max(warm_up, day).unwrap()).collect();
        assert_eq!(days, [100, 150, 225, 337, 506, 759]);
        assert_eq!(max(warm_up, 29), Some(12_783_403));
        assert_eq!(max(warm_up, 30), None);
        assert_eq!(max(warm_up, 1000), None);
    }

    #[test]
    fn after_a_block_the_number_is_the_same_again() {
        let day = |day| Day(FIRST_DAY.0 + day);
        let mut warm_up = WarmUp::default();
        warm_up.blocked();
        assert_eq!(warm_up, WarmUp::default(), "nothing was counted");
        warm_up.add(10, day(2));
        warm_up.blocked();
        assert_eq!(max(warm_up, 2), Some(225));
        assert_eq!(max(warm_up, 3), Some(225));
        assert_eq!(max(warm_up, 4), Some(337));
        warm_up.add(10, day(3));
        assert_eq!((warm_up.sent(day(3)), warm_up.sent(day(4))), (10, 0));
        warm_up.put_back(4, day(2));
        warm_up.put_back(3, day(3));
        assert_eq!(warm_up.sent(day(3)), 7);
        warm_up.blocked();
        assert_eq!(max(warm_up, 4), Some(225));
        warm_up.add(1, day(6));
        assert_eq!(max(warm_up, 6), Some(506));
        assert_eq!(
            (max(warm_up, 31), max(warm_up, 32)),
            (Some(12_783_403), None)
        );
    }
}
