//! Keys that are derived from events. They are part of the stored format: whoever changes one
//! raises [`VERSION`].

use super::LoggedEvent;
use crate::{Time, subject::sent::hour};

/// The version of these keys.
pub(crate) const VERSION: u8 = 1;

/// The groups of an event.
pub(crate) fn event_groups(event: &LoggedEvent) -> Vec<String> {
    ['a', 'r', 'm']
        .iter()
        .filter_map(|kind| event_group_of(*kind, event))
        .collect()
}

/// Whether an event is in the group of this name.
pub(crate) fn in_event_group(name: &str, event: &LoggedEvent) -> bool {
    let kind = name.chars().next();
    kind.and_then(|kind| event_group_of(kind, event))
        .is_some_and(|group| group == name)
}

/// The group of this kind that an event is in.
fn event_group_of(kind: char, event: &LoggedEvent) -> Option<String> {
    let of = match kind {
        'a' => "",
        'r' => &event.recipient,
        'm' => &event.told.message_id,
        _ => return None,
    };
    Some(event_group(kind, &event.account, of))
}

/// The length of the account is in it, so that no two groups have the same name.
pub(super) fn event_group(kind: char, account: &str, of: &str) -> String {
    format!("{kind}{}.{account}{of}", account.len())
}

/// Days since 1970, in UTC.
pub(crate) fn day(time: Time) -> u64 {
    hour(time) / 24
}

/// Days for which events are counted.
pub(crate) const COUNTED_DAYS: u64 = 400;

#[cfg(test)]
mod tests {
    use super::*;

    /// These are stored keys: other forms need another [`VERSION`].
    #[test]
    fn the_keys_of_events_are_fixed() {
        assert_eq!(VERSION, 1);
        assert_eq!(event_group('a', "ann", ""), "a3.ann");
        assert_eq!(event_group('r', "ann", "x@a.example"), "r3.annx@a.example");
        assert_eq!(
            event_group('m', "ann", "<1@a.example>"),
            "m3.ann<1@a.example>"
        );
        assert_eq!(day(Time(86_400_000_000)), 1);
    }
}
