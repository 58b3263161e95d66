//! A limit on equal lines of the log. A flood of connections must not become a flood of lines.

use std::time::Duration;

use tokio::time::Instant;

/// The most lines of a period.
const LINES: u32 = 20;
/// A period begins with its first line.
const PERIOD: Duration = Duration::from_secs(60);

/// Counts the lines of a period, and the events without a line.
#[derive(Debug, Default)]
pub(crate) struct Sparing {
    /// The end of the period. None before the first line.
    until: Option<Instant>,
    lines: u32,
    left_out: u64,
}

impl Sparing {
    /// Counts an event. True: it gets a line.
    pub(crate) fn count(&mut self, now: Instant) -> bool {
        // The events without a line are told before the next period begins.
        if self.left_out == 0 && self.until.is_none_or(|until| now >= until) {
            self.until = now.checked_add(PERIOD);
            self.lines = 0;
        }
        if self.lines < LINES {
            self.lines += 1;
            return true;
        }
        self.left_out += 1;
        false
    }

    /// The time to tell how many events got no line. None: all got one.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.until.filter(|_| self.left_out > 0)
    }

    /// The number of events without a line. The period is over.
    pub(crate) fn take_left_out(&mut self) -> u64 {
        std::mem::take(self).left_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_has_some_lines_and_a_count() {
        let start = Instant::now();
        let mut lines = Sparing::default();
        let logged = |lines: &mut Sparing, events: u32, now| -> usize {
            (0..events).filter(|_| lines.count(now)).count()
        };
        assert_eq!(logged(&mut lines, 5, start), 5);
        assert_eq!(lines.due(), None);
        assert_eq!(logged(&mut lines, 1000, start + PERIOD / 2), 15);
        assert_eq!(lines.due(), Some(start + PERIOD));
        // Nobody has told the count yet.
        assert_eq!(logged(&mut lines, 10, start + PERIOD), 0);
        assert_eq!(lines.take_left_out(), 995);
        assert_eq!(logged(&mut lines, 1000, start + PERIOD), 20);
        assert_eq!(lines.take_left_out(), 980);
        // A slow row of events has a line for each.
        for period in 2..9 {
            assert_eq!(logged(&mut lines, 20, start + period * PERIOD), 20);
        }
        assert_eq!((lines.due(), lines.take_left_out()), (None, 0));
    }
}
