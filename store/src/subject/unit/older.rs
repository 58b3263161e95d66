//! The operations of earlier versions. Those of version 1 have messages, attempts and suppressions
//! with fewer fields. Those of versions 1 and 2 know no refused mail, and their messages are not
//! urgent.

use serde::{Deserialize, Serialize};

use super::{Op, Outcome, Party, Unit};
use crate::{
    Attempt, NewEvent, NewHook, NewMail, NewMessage, NewSuppression, Note, Once, QueueId,
    subject::{
        queue::{
            older::{AttemptV1, NewMessageV1, NoteV1},
            older_v2::NewMessageV2,
        },
        suppression::older::NewSuppressionV1,
        texts::OpText,
    },
};

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum OpV1 {
    Accept(UnitV1),
    AcceptAll {
        messages: Vec<NewMessageV1>,
        once: Option<Box<Once>>,
    },
    Settle {
        id: QueueId,
        fence: u64,
        party: Party,
        attempt: Option<AttemptV1>,
        outcome: Outcome,
        delay_told: bool,
        unit: UnitV1,
    },
    Start,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct UnitV1 {
    text: Option<OpText>,
    queue: Option<NewMessageV1>,
    mails: Vec<NewMail>,
    hooks: Vec<NewHook>,
    notes: Vec<NoteV1>,
    suppress: Vec<NewSuppressionV1>,
    events: Vec<NewEvent>,
    once: Option<Box<Once>>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum OpV2 {
    Accept(UnitV2),
    AcceptAll {
        messages: Vec<NewMessageV2>,
        once: Option<Box<Once>>,
    },
    Settle {
        id: QueueId,
        fence: u64,
        party: Party,
        attempt: Option<Attempt>,
        outcome: Outcome,
        delay_told: bool,
        unit: UnitV2,
    },
    Start,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct UnitV2 {
    text: Option<OpText>,
    queue: Option<NewMessageV2>,
    mails: Vec<NewMail>,
    hooks: Vec<NewHook>,
    notes: Vec<Note>,
    suppress: Vec<NewSuppression>,
    events: Vec<NewEvent>,
    once: Option<Box<Once>>,
}

impl From<OpV1> for OpV2 {
    fn from(old: OpV1) -> Self {
        match old {
            OpV1::Accept(unit) => Self::Accept(unit.into()),
            OpV1::AcceptAll { messages, once } => Self::AcceptAll {
                messages: messages.into_iter().map(NewMessageV2::from).collect(),
                once,
            },
            OpV1::Settle {
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
                attempt: attempt.map(Attempt::from),
                outcome,
                delay_told,
                unit: unit.into(),
            },
            OpV1::Start => Self::Start,
        }
    }
}

impl From<UnitV1> for UnitV2 {
    fn from(old: UnitV1) -> Self {
        Self {
            text: old.text,
            queue: old.queue.map(NewMessageV2::from),
            mails: old.mails,
            hooks: old.hooks,
            notes: old.notes.into_iter().map(Note::from).collect(),
            suppress: old.suppress.into_iter().map(NewSuppression::from).collect(),
            events: old.events,
            once: old.once,
        }
    }
}

impl From<OpV1> for Op {
    fn from(old: OpV1) -> Self {
        OpV2::from(old).into()
    }
}

impl From<OpV2> for Op {
    fn from(old: OpV2) -> Self {
        match old {
            OpV2::Accept(unit) => Self::Accept(unit.into()),
            OpV2::AcceptAll { messages, once } => Self::AcceptAll {
                messages: messages.into_iter().map(NewMessage::from).collect(),
                once,
            },
            OpV2::Settle {
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
                attempt,
                outcome,
                delay_told,
                unit: unit.into(),
            },
            OpV2::Start => Self::Start,
        }
    }
}

impl From<UnitV2> for Unit {
    fn from(old: UnitV2) -> Self {
        Self {
            text: old.text,
            queue: old.queue.map(NewMessage::from),
            mails: old.mails,
            hooks: old.hooks,
            notes: old.notes,
            suppress: old.suppress,
            events: old.events,
            once: old.once,
            rejects: Vec::new(),
            taken: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{subject::Operations as _, table::value::append};

    #[test]
    fn operations_of_version_2_are_read() {
        let old = OpV2::Settle {
            id: QueueId(1),
            fence: 2,
            party: Party::Claimant,
            attempt: None,
            outcome: Outcome::Release,
            delay_told: true,
            unit: UnitV2::default(),
        };
        for old in [old, OpV2::Accept(UnitV2::default()), OpV2::Start] {
            let mut bytes = Vec::new();
            append(&old, &mut bytes);
            let read = Op::older(2, &bytes).unwrap();
            assert_eq!(format!("{read:?}"), format!("{:?}", Op::from(old)));
        }
    }

    #[test]
    fn operations_of_version_1_are_read() {
        let settle = OpV1::Settle {
            id: QueueId(1),
            fence: 2,
            party: Party::Claimant,
            attempt: None,
            outcome: Outcome::Release,
            delay_told: true,
            unit: UnitV1::default(),
        };
        for old in [settle, OpV1::Accept(UnitV1::default()), OpV1::Start] {
            let mut bytes = Vec::new();
            append(&old, &mut bytes);
            let read = Op::older(1, &bytes).unwrap();
            assert_eq!(format!("{read:?}"), format!("{:?}", Op::from(old)));
        }
        assert!(Op::older(0, &[]).is_err());
    }
}
