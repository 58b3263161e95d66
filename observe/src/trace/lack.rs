//! What goes when the disk has no room: how much of the traces, and how fast.

/// How long after a segment went for the sake of room the next one may go, in microseconds.
pub(super) const PAUSE: i64 = 30_000_000;
/// How many segments go one after the other without making room. Somebody else takes it then.
pub(super) const IN_VAIN_MAX: u32 = 4;
/// This share of the room of all traces is never given up.
const KEPT: u64 = 4;

/// What went so far.
#[derive(Debug, Default)]
pub(super) struct Lack {
    /// When a segment went last.
    last: Option<i64>,
    /// How many went since there was room.
    in_vain: u32,
}

impl Lack {
    /// Whether the oldest segment goes. `left` is the size of the others, of `max_size` that traces
    /// may have, in bytes.
    pub(super) fn takes_one(&mut self, now: i64, has_room: bool, left: u64, max_size: u64) -> bool {
        if has_room {
            self.in_vain = 0;
            return false;
        }
        let is_soon = self.last.is_some_and(|last| {
            // Somebody may have set the clock back.
            (0..PAUSE).contains(&now.saturating_sub(last))
        });
        let goes = !is_soon && self.in_vain < IN_VAIN_MAX && left >= max_size / KEPT;
        if goes {
            self.last = Some(now);
            self.in_vain += 1;
        }
        goes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    /// When segments of a size go, of so many bytes at first, while there is no room.
    fn gone(lack: &mut Lack, seconds: std::ops::Range<i64>, size: &mut u64) -> Vec<i64> {
        let goes = |second: &i64| {
            let goes = lack.takes_one(second * SECOND, false, size.saturating_sub(10), 160);
            *size -= if goes { 10 } else { 0 };
            goes
        };
        seconds.filter(goes).collect()
    }

    #[test]
    fn one_goes_in_half_a_minute_until_that_did_not_help() {
        let (mut lack, mut size) = (Lack::default(), 155);
        assert_eq!(gone(&mut lack, 5..1000, &mut size), [5, 35, 65, 95]);
        assert!(!lack.takes_one(1000 * SECOND, true, size, 160));
        assert_eq!(
            gone(&mut lack, 1001..2000, &mut size),
            [1001, 1031, 1061, 1091]
        );
        // A moment with room does not make them go faster.
        assert!(!lack.takes_one(1100 * SECOND, true, size, 160));
        assert_eq!(gone(&mut lack, 1101..1130, &mut size), [1121]);
    }

    #[test]
    fn a_quarter_of_the_room_is_kept() {
        let (mut lack, mut size) = (Lack::default(), 65);
        assert_eq!(gone(&mut lack, 0..1000, &mut size), [0, 30]);
        assert_eq!(size, 45);
        let mut size = 49;
        assert_eq!(gone(&mut Lack::default(), 0..1000, &mut size), [0; 0]);
    }

    #[test]
    fn a_clock_that_is_set_back_holds_up_nothing() {
        let mut lack = Lack::default();
        assert!(lack.takes_one(1000 * SECOND, false, 150, 160));
        assert!(lack.takes_one(5 * SECOND, false, 150, 160));
        assert!(!lack.takes_one(6 * SECOND, false, 150, 160));
    }
}
