//! When a name is tried again after a failure, and when a certificate is renewed.
//!
//! CAs count failures. Let's Encrypt, for example, allows five failed checks of a name in an hour.
//! So the pauses grow, and they hold over restarts.

use std::time::Duration;

use postrider_store::Time;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;

/// The pauses after failures of a name, in seconds. The last one is repeated.
const NAME: [u64; 8] = [
    5 * MINUTE,
    15 * MINUTE,
    30 * MINUTE,
    HOUR,
    2 * HOUR,
    4 * HOUR,
    8 * HOUR,
    12 * HOUR,
];
/// The pauses after failures that the CA did not hear of. They are short, since an administrator
/// who adds a DNS record waits for the certificate.
const UNASKED: [u64; 5] = [MINUTE, 2 * MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR];
/// The pauses of all names after failures of the CA itself.
const CA: [u64; 6] = [MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR, 2 * HOUR, 6 * HOUR];
/// The longest pause that a CA may ask for.
const LONGEST: Duration = Duration::from_secs(7 * 24 * HOUR);
/// The pause after a refusal for too many requests, if the CA does not say how long.
const LIMITED: Duration = Duration::from_secs(3 * HOUR);

/// The subject of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// One name.
    Name,
    /// One name, and the CA was not asked.
    Unasked,
    /// The CA or the account: other names would fail as well.
    Ca,
}

/// The pause after so many failures, at least 1.
pub(super) fn pause(scope: Scope, failures: u32) -> Duration {
    let pauses: &[u64] = match scope {
        Scope::Name => &NAME,
        Scope::Unasked => &UNASKED,
        Scope::Ca => &CA,
    };
    let at = usize::try_from(failures.saturating_sub(1)).unwrap_or(usize::MAX);
    let pause = pauses.get(at).or(pauses.last());
    Duration::from_secs(pause.copied().unwrap_or(HOUR))
}

/// The pause after a refusal for too many requests.
pub(super) fn limited(wished: Option<Duration>) -> Duration {
    wished.unwrap_or(LIMITED).min(LONGEST)
}

/// When a certificate is renewed: `renew_before` its end, but not before half of its time is over.
/// A certificate of six days would else be renewed at once, again and again.
pub(super) fn renew_at(begins: Time, ends: Time, renew_before: Duration) -> Time {
    ends.before(renew_before.min(ends.since(begins) / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * HOUR);

    #[test]
    fn five_failures_of_a_name_take_more_than_an_hour() {
        let pauses = (1..=4).map(|failures| pause(Scope::Name, failures));
        assert!(pauses.sum::<Duration>() > Duration::from_secs(HOUR));
        for scope in [Scope::Name, Scope::Unasked, Scope::Ca] {
            let pauses: Vec<_> = (1..20).map(|failures| pause(scope, failures)).collect();
            assert!(pauses.is_sorted(), "{pauses:?}");
            assert_eq!(pause(scope, u32::MAX), pauses[18]);
            assert_eq!(pause(scope, 0), pauses[0]);
        }
        assert_eq!(limited(Some(DAY)), DAY);
        assert_eq!(limited(Some(DAY * 100)), LONGEST);
        assert_eq!(limited(None), LIMITED);
    }

    #[test]
    fn a_certificate_is_used_for_half_of_its_time_at_least() {
        let begins = Time(0);
        for (days, renew_before, day) in [(90, 30, 60), (90, 89, 45), (6, 30, 3), (90, 0, 90)] {
            let ends = begins.after(DAY * days);
            let at = renew_at(begins, ends, DAY * renew_before);
            assert_eq!(at, begins.after(DAY * day), "{days} {renew_before}");
        }
        // The dates are in the wrong order.
        assert_eq!(renew_at(Time(5), Time(1), DAY), Time(1));
    }
}
