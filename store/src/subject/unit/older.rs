//! The operations before version 8, in which mails had no summaries.
//!
//! Before version 7 a unit had no mail that may be a report.
//!
//! Before version 6 messages had no route.
//!
//! Before version 4 no message was a report or one of many.
//!
//! Before version 3 a unit had one message at most, and no refused mail.
//!
//! Messages of versions 1 and 2 have no origin and are not urgent. Messages, attempts and
//! suppressions of version 1 have fewer fields.

use serde::{Deserialize, Serialize};

use super::{Op, Outcome, Party, Unit};
use crate::{
    Attempt, NewArrivedReport, NewEvent, NewHook, NewMessage, NewSuppression, Note, Once, QueueId,
    TakenMail,
    subject::{
        mail::older::NewMailV7,
        queue::older::{AttemptV1, NewMessageV1, NewMessageV2, NewMessageV3, NewMessageV5, NoteV1},
        rejects::older::NewRejectV7,
        suppression::older::NewSuppressionV1,
        texts::OpText,
    },
};

pub(super) type OpV1 =
    Older<NewMessageV1, AttemptV1, OlderUnit<NewMessageV1, NoteV1, NewSuppressionV1>>;
pub(super) type OpV2 = Older<NewMessageV2, Attempt, OlderUnit<NewMessageV2, Note, NewSuppression>>;
pub(super) type OpV3 = Older<NewMessageV3, Attempt, UnitWith<NewMessageV3>>;
pub(super) type OpV5 = Older<NewMessageV5, Attempt, UnitWith<NewMessageV5>>;

pub(super) type OpV6 = Routed<UnitWith<NewMessage>>;
pub(super) type OpV7 = Routed<UnitV7>;

/// The operations since version 6, with this shape of a unit.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Routed<U> {
    Accept(U),
    AcceptAll {
        messages: Vec<NewMessage>,
        once: Option<Box<Once>>,
    },
    Settle {
        id: QueueId,
        fence: u64,
        party: Party,
        attempt: Option<Attempt>,
        outcome: Outcome,
        delay_told: bool,
        unit: U,
        route: Option<String>,
    },
    Start,
}

impl<U: Into<Unit>> From<Routed<U>> for Op {
    fn from(old: Routed<U>) -> Self {
        match old {
            Routed::Accept(unit) => Self::Accept(unit.into()),
            Routed::AcceptAll { messages, once } => Self::AcceptAll { messages, once },
            Routed::Settle {
                id,
                fence,
                party,
                attempt,
                outcome,
                delay_told,
                unit,
                route,
            } => Self::Settle {
                id,
                fence,
                party,
                attempt,
                outcome,
                delay_told,
                unit: unit.into(),
                route,
            },
            Routed::Start => Self::Start,
        }
    }
}

/// A unit with this shape of a message. All else has the shape of today.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct UnitWith<M> {
    text: Option<OpText>,
    queue: Vec<M>,
    mails: Vec<NewMailV7>,
    hooks: Vec<NewHook>,
    notes: Vec<Note>,
    suppress: Vec<NewSuppression>,
    events: Vec<NewEvent>,
    once: Option<Box<Once>>,
    rejects: Vec<NewRejectV7>,
    taken: Vec<TakenMail>,
}

impl<M: Into<NewMessage>> From<UnitWith<M>> for Unit {
    fn from(old: UnitWith<M>) -> Self {
        Self {
            text: old.text,
            queue: old.queue.into_iter().map(M::into).collect(),
            mails: old.mails.into_iter().map(Into::into).collect(),
            hooks: old.hooks,
            notes: old.notes,
            suppress: old.suppress,
            events: old.events,
            once: old.once,
            rejects: old.rejects.into_iter().map(Into::into).collect(),
            taken: old.taken,
            reports: Vec::new(),
        }
    }
}

/// The unit of version 7.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct UnitV7 {
    before: UnitWith<NewMessage>,
    reports: Vec<NewArrivedReport>,
}

impl From<UnitV7> for Unit {
    fn from(old: UnitV7) -> Self {
        Self {
            reports: old.reports,
            ..old.before.into()
        }
    }
}

/// An operation with these shapes of a message, an attempt and a unit.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Older<M, A, U> {
    Accept(U),
    AcceptAll {
        messages: Vec<M>,
        once: Option<Box<Once>>,
    },
    Settle {
        id: QueueId,
        fence: u64,
        party: Party,
        attempt: Option<A>,
        outcome: Outcome,
        delay_told: bool,
        unit: U,
    },
    Start,
}

/// A unit with these shapes of a message, a note and a suppression.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct OlderUnit<M, N, S> {
    text: Option<OpText>,
    queue: Option<M>,
    mails: Vec<NewMailV7>,
    hooks: Vec<NewHook>,
    notes: Vec<N>,
    suppress: Vec<S>,
    events: Vec<NewEvent>,
    once: Option<Box<Once>>,
}

impl<M, A, U> From<Older<M, A, U>> for Op
where
    M: Into<NewMessage>,
    A: Into<Attempt>,
    U: Into<Unit>,
{
    fn from(old: Older<M, A, U>) -> Self {
        match old {
            Older::Accept(unit) => Self::Accept(unit.into()),
            Older::AcceptAll { messages, once } => Self::AcceptAll {
                messages: messages.into_iter().map(M::into).collect(),
                once,
            },
            Older::Settle {
                id,
                fence,
                party,
                attempt,
                outcome,
                delay_told,
                unit,
            } => Self::Settle {
                id,
                fence,
                party,
                attempt: attempt.map(A::into),
                outcome,
                delay_told,
                unit: unit.into(),
                route: None,
            },
            Older::Start => Self::Start,
        }
    }
}

impl<M, N, S> From<OlderUnit<M, N, S>> for Unit
where
    M: Into<NewMessage>,
    N: Into<Note>,
    S: Into<NewSuppression>,
{
    fn from(old: OlderUnit<M, N, S>) -> Self {
        Self {
            text: old.text,
            queue: old.queue.into_iter().map(M::into).collect(),
            mails: old.mails.into_iter().map(Into::into).collect(),
            hooks: old.hooks,
            notes: old.notes.into_iter().map(N::into).collect(),
            suppress: old.suppress.into_iter().map(S::into).collect(),
            events: old.events,
            once: old.once,
            rejects: Vec::new(),
            taken: Vec::new(),
            reports: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use super::*;
    use crate::{subject::Operations as _, table::value::append};

    fn unit<M, N, S>() -> OlderUnit<M, N, S> {
        OlderUnit {
            text: None,
            queue: None,
            mails: Vec::new(),
            hooks: Vec::new(),
            notes: Vec::new(),
            suppress: Vec::new(),
            events: Vec::new(),
            once: None,
        }
    }

    fn unit_with<M>() -> UnitWith<M> {
        UnitWith {
            text: None,
            queue: Vec::new(),
            mails: vec![NewMailV7::sample()],
            hooks: Vec::new(),
            notes: Vec::new(),
            suppress: Vec::new(),
            events: Vec::new(),
            once: None,
            rejects: vec![NewRejectV7::sample()],
            taken: Vec::new(),
        }
    }

    fn check<M, A, U>(version: u8, unit: impl Fn() -> U)
    where
        M: Into<NewMessage> + Serialize + Debug,
        A: Into<Attempt> + Serialize + Debug,
        U: Into<Unit> + Serialize + Debug,
    {
        let settle = Older::<M, A, U>::Settle {
            id: QueueId(1),
            fence: 2,
            party: Party::Claimant,
            attempt: None,
            outcome: Outcome::Release,
            delay_told: true,
            unit: unit(),
        };
        for old in [settle, Older::Accept(unit()), Older::Start] {
            let mut bytes = Vec::new();
            append(&old, &mut bytes);
            let read = Op::older(version, &bytes).unwrap();
            assert_eq!(format!("{read:?}"), format!("{:?}", Op::from(old)));
        }
    }

    #[test]
    fn operations_of_older_versions_are_read() {
        check::<NewMessageV1, AttemptV1, _>(1, unit::<NewMessageV1, NoteV1, NewSuppressionV1>);
        check::<NewMessageV2, Attempt, _>(2, unit::<NewMessageV2, Note, NewSuppression>);
        check::<NewMessageV3, Attempt, _>(3, unit_with::<NewMessageV3>);
        for version in [4, 5] {
            check::<NewMessageV5, Attempt, _>(version, unit_with::<NewMessageV5>);
        }
        assert!(Op::older(0, &[]).is_err());
    }

    fn check_routed<U>(version: u8, unit: impl Fn() -> U)
    where
        U: Into<Unit> + Serialize + Debug,
    {
        let all = || {
            let settle = Routed::Settle {
                id: QueueId(1),
                fence: 2,
                party: Party::Claimant,
                attempt: None,
                outcome: Outcome::Release,
                delay_told: true,
                unit: unit(),
                route: Some("relay".into()),
            };
            let accept_all = Routed::AcceptAll {
                messages: Vec::new(),
                once: None,
            };
            [Routed::Accept(unit()), accept_all, settle, Routed::Start]
        };
        for (old, expected) in all().into_iter().zip(all()) {
            let mut bytes = Vec::new();
            append(&old, &mut bytes);
            let read = Op::older(version, &bytes).unwrap();
            assert_eq!(format!("{read:?}"), format!("{:?}", Op::from(expected)));
        }
    }

    #[test]
    fn operations_with_routes_are_read() {
        check_routed::<UnitWith<NewMessage>>(6, unit_with);
        let unit = || UnitV7 {
            before: unit_with(),
            reports: Vec::new(),
        };
        check_routed(7, unit);
    }
}
