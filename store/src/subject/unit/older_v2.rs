//! The operations of version 2. Their messages have neither a priority nor a deadline.

use serde::{Deserialize, Serialize};

use super::{Op, Outcome, Party, Unit};
use crate::{
    Attempt, NewEvent, NewHook, NewMail, NewMessage, NewSuppression, Note, Once, QueueId,
    subject::{queue::older_v2::NewMessageV2, texts::OpText},
};

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
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{subject::Operations as _, table::value::append};

    #[test]
    fn operations_of_version_2_are_read() {
        let settle = OpV2::Settle {
            id: QueueId(1),
            fence: 2,
            party: Party::Claimant,
            attempt: None,
            outcome: Outcome::Release,
            delay_told: true,
            unit: UnitV2::default(),
        };
        for old in [settle, OpV2::Accept(UnitV2::default()), OpV2::Start] {
            let mut bytes = Vec::new();
            append(&old, &mut bytes);
            let read = Op::older(2, &bytes).unwrap();
            assert_eq!(format!("{read:?}"), format!("{:?}", Op::from(old)));
        }
    }
}
