//! When and how urgently a submitted message is delivered: FUTURERELEASE (RFC 4865), MT-PRIORITY
//! (RFC 6710) and DELIVERBY (RFC 2852).

use std::time::Duration;

use postrider_smtp::{
    ByMode, DeliveryOptions, EnhancedCode, Hold, Reply, ReplyCode, server::HOLD_MAX,
};
use postrider_store::{Deadline, Time, Urgency};

use crate::refusals::reason;

/// Refuses a hold that is too long, and a deadline that comes before its end.
pub(super) fn check(options: &DeliveryOptions, now: Time) -> Result<(), Reply> {
    let release = release(options, now);
    let refused = |code, text: String| {
        let enhanced = Some(EnhancedCode::INVALID_ARGUMENTS);
        Err(Reply::new(code, enhanced, text).because(reason::DELIVERY_TIME))
    };
    // The clock of a client may be a little ahead.
    let latest = now.after(HOLD_MAX + Duration::from_secs(60));
    if release.is_some_and(|release| release > latest) {
        let days = HOLD_MAX.as_secs() / 86_400;
        let text = format!("a message is held for {days} days at most");
        return refused(ReplyCode::TRANSACTION_FAILED, text);
    }
    let deadline = stored(options, now).deadline;
    if let (Some(release), Some(deadline)) = (release, deadline)
        && deadline.at < release
    {
        let text = "the time in BY is over before the message is released".to_owned();
        return refused(ReplyCode::PARAMETER_ERROR, text);
    }
    Ok(())
}

fn release(options: &DeliveryOptions, now: Time) -> Option<Time> {
    Some(match options.hold? {
        Hold::For(seconds) => now.after(Duration::from_secs(seconds.into())),
        Hold::Until(time) => Time(time.as_microsecond()),
    })
}

/// The time of the first attempt. None: at once.
pub(super) fn not_before(options: &DeliveryOptions, now: Time) -> Option<Time> {
    release(options, now).filter(|release| *release > now)
}

/// What the queue keeps.
pub(super) fn stored(options: &DeliveryOptions, now: Time) -> Urgency {
    Urgency {
        priority: options.priority.get(),
        deadline: options.deliver_by.map(|by| Deadline {
            at: Time(now.0.saturating_add(by.seconds.saturating_mul(1_000_000))),
            fails: by.mode == ByMode::Return,
            trace: by.trace,
        }),
        bulk: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u32 = 86_400;
    const NOW: Time = Time(1_000_000_000_000_000);

    fn options(hold: Option<Hold>, by: Option<&str>) -> DeliveryOptions {
        DeliveryOptions {
            hold,
            deliver_by: by.map(|by| by.parse().unwrap()),
            ..DeliveryOptions::default()
        }
    }

    #[test]
    fn a_hold_is_at_most_sixty_days() {
        let check = |hold: Hold, expected: &str| {
            let checked = check(&options(Some(hold), None), NOW);
            let shown = checked.map_or_else(|reply| reply.to_string(), |()| String::new());
            assert_eq!(shown, expected, "{hold}");
        };
        let until = |days: u32| {
            Hold::Until(
                NOW.after(Duration::from_secs((days * DAY).into()))
                    .timestamp(),
            )
        };
        let long = "554 5.5.4 a message is held for 60 days at most";
        check(Hold::For(60 * DAY), "");
        check(Hold::For(61 * DAY), long);
        check(until(60), "");
        check(until(61), long);
        check(Hold::Until(Time(0).timestamp()), "");
    }

    #[test]
    fn a_hold_moves_the_first_attempt() {
        let first = |hold| not_before(&options(Some(hold), None), NOW);
        assert_eq!(
            first(Hold::For(60)),
            Some(NOW.after(Duration::from_secs(60)))
        );
        assert_eq!(first(Hold::For(0)), None);
        assert_eq!(first(Hold::Until(Time(0).timestamp())), None);
        assert_eq!(not_before(&options(None, None), NOW), None);
    }

    #[test]
    fn a_deadline_is_a_moment() {
        let deadline = |by| stored(&options(None, Some(by)), NOW).deadline.unwrap();
        let expected = Deadline {
            at: NOW.after(Duration::from_secs(120)),
            fails: true,
            trace: true,
        };
        assert_eq!(deadline("120;RT"), expected);
        let past = deadline("-120;N");
        assert_eq!(past.at, NOW.before(Duration::from_secs(120)));
        assert!(!past.fails && !past.trace);
    }

    #[test]
    fn a_deadline_before_the_release_is_refused() {
        let both = |by| check(&options(Some(Hold::For(100)), Some(by)), NOW);
        assert_eq!(both("100;R"), Ok(()));
        let reply = both("99;R").unwrap_err().to_string();
        assert!(reply.starts_with("501 5.5.4"), "{reply}");
    }
}
