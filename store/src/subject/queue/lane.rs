//! Lanes: due messages that wait for the same thing.

use std::fmt;

use super::{Queued, Urgency};
use crate::table::key::Name;

/// Ends each part of a lane's name. No part has it: destinations and transports are names, and an
/// account comes last.
const END: char = '\u{1f}';

/// The class of a message. Urgent mail goes before normal mail, and normal mail before bulk mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeliveryClass {
    /// A priority of 4 or more (RFC 6710).
    Urgent,
    /// All other mail.
    Normal,
    /// A priority of -4 or less, and mail that was sent as bulk.
    Bulk,
}

impl DeliveryClass {
    /// All classes, the most urgent one first.
    pub const ALL: [Self; 3] = [Self::Urgent, Self::Normal, Self::Bulk];

    /// The class of mail of this urgency.
    #[must_use]
    pub const fn of(urgency: &Urgency) -> Self {
        match urgency.priority {
            4.. => Self::Urgent,
            ..=-4 => Self::Bulk,
            _ if urgency.bulk => Self::Bulk,
            _ => Self::Normal,
        }
    }

    const fn letter(self) -> char {
        match self {
            Self::Urgent => 'u',
            Self::Normal => 'n',
            Self::Bulk => 'b',
        }
    }
}

/// A lane: the due messages with one destination, transport, class and account. The transport is
/// the forced one or that of the routes ([`Queued::next_transport`]). So all messages of a lane go
/// to one site. The store keeps them in the order of their times, and claims are made by lane.
///
/// A copy costs a count.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane(Name);

impl Lane {
    /// The lane of such messages. `transport` is empty without one.
    #[must_use]
    pub fn new(destination: &str, transport: &str, class: DeliveryClass, account: &str) -> Self {
        let class = class.letter();
        Self(format!("{destination}{END}{class}{END}{transport}{END}{account}").into())
    }

    pub(crate) const fn of(name: Name) -> Self {
        Self(name)
    }

    pub(crate) const fn name(&self) -> &Name {
        &self.0
    }

    fn part(&self, number: usize) -> &str {
        self.0.splitn(4, END).nth(number).unwrap_or_default()
    }

    /// The destination of its messages.
    #[must_use]
    pub fn destination(&self) -> &str {
        self.part(0)
    }

    /// The class of its messages.
    #[must_use]
    pub fn class(&self) -> DeliveryClass {
        match self.part(1) {
            "u" => DeliveryClass::Urgent,
            "b" => DeliveryClass::Bulk,
            _ => DeliveryClass::Normal,
        }
    }

    /// The name of the transport of its messages; empty: none.
    #[must_use]
    pub fn transport(&self) -> &str {
        self.part(2)
    }

    /// The account of its messages.
    #[must_use]
    pub fn account(&self) -> &str {
        self.part(3)
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.replace(END, "|"))
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl Queued {
    /// The lane of the message.
    #[must_use]
    pub fn lane(&self) -> Lane {
        Lane(self.lane_name())
    }

    pub(crate) fn lane_name(&self) -> Name {
        let Lane(name) = Lane::new(
            &self.destination(),
            self.next_transport(),
            DeliveryClass::of(&self.common.urgency),
            &self.common.account,
        );
        name
    }
}

/// A lane whose head changed, and when its head is due. None: the lane is empty.
pub type LaneHead = (Lane, Option<crate::Time>);

#[cfg(test)]
mod tests {
    use super::*;

    /// These are stored keys: other forms need another version of the keys.
    #[test]
    fn the_name_of_a_lane_is_fixed_and_tells_its_parts() {
        for (priority, bulk, class, letter) in [
            (9, true, DeliveryClass::Urgent, "u"),
            (4, false, DeliveryClass::Urgent, "u"),
            (3, false, DeliveryClass::Normal, "n"),
            (0, true, DeliveryClass::Bulk, "b"),
            (-3, false, DeliveryClass::Normal, "n"),
            (-4, false, DeliveryClass::Bulk, "b"),
        ] {
            let urgency = Urgency {
                priority,
                bulk,
                deadline: None,
            };
            let found = DeliveryClass::of(&urgency);
            assert_eq!(found, class, "{priority}");
            let lane = Lane::new("a.example", "", found, "ann");
            assert_eq!(lane.to_string(), format!("a.example|{letter}||ann"));
            assert_eq!(lane.transport(), "");
            assert_eq!(
                &**lane.name(),
                format!("a.example\u{1f}{letter}\u{1f}\u{1f}ann")
            );
        }
        let lane = Lane::new("[192.0.2.1]", "relay", DeliveryClass::Bulk, "a\u{1f}b");
        assert_eq!(lane.destination(), "[192.0.2.1]");
        assert_eq!(lane.transport(), "relay");
        assert_eq!(lane.class(), DeliveryClass::Bulk);
        assert_eq!(lane.account(), "a\u{1f}b");
    }
}
