//! Operations that change several subjects at once. Each calls the functions of the subjects in
//! order.

#[cfg(any(test, feature = "memory"))]
pub(crate) mod model;
mod older;
mod record;

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use self::older::{OpV1, OpV2, OpV3, OpV5, OpV6, OpV7};
pub use self::record::*;
#[cfg(any(test, feature = "memory"))]
use super::ModelState;
use super::{Applied, Operations, State, texts::OpText};
use crate::{
    Attempt, Mail, NewArrivedReport, NewEvent, NewHook, NewHookKind, NewMail, NewMessage,
    NewReject, NewSuppression, Note, Once, QueueId, Store, StoreError, TakenMail, TextId,
    error::Fault,
    journal::{Space, TextPlace},
    table::{
        tables,
        value::{Unreadable, exactly},
    },
    textfile::TextFilePlace,
};

tables! {
    /// A unit has no tables of its own.
    counters: (),
}

subject!(counters (), keys 1);

/// Operations that change several subjects.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Op {
    Accept(Unit),
    /// Accepts messages whose texts are staged: all of them, or none. Their texts are staged no
    /// more then.
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
        unit: Unit,
        route: Option<String>,
    },
    /// A process began, so all claims of the process before ended.
    Start,
}

/// The records that one operation creates together.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Unit {
    text: Option<OpText>,
    queue: Vec<NewMessage>,
    mails: Vec<NewMail>,
    hooks: Vec<NewHook>,
    notes: Vec<Note>,
    suppress: Vec<NewSuppression>,
    events: Vec<NewEvent>,
    once: Option<Box<Once>>,
    rejects: Vec<NewReject>,
    taken: Vec<TakenMail>,
    reports: Vec<NewArrivedReport>,
}

impl Op {
    pub(crate) fn accept(accept: Accept) -> (Self, Option<NewText>) {
        let Accept {
            text,
            queue,
            mails,
            hooks,
            notes,
            suppress,
            events,
            once,
            rejects,
            taken,
            reports,
        } = accept;
        let unit = Unit {
            text: text.as_ref().map(OpText::of),
            queue,
            mails,
            hooks,
            notes,
            suppress,
            events,
            once: once.map(Box::new),
            rejects,
            taken,
            reports,
        };
        (Self::Accept(unit), text)
    }

    pub(crate) fn settle(settle: Settle) -> (Self, Option<NewText>) {
        let Settle {
            id,
            fence,
            party,
            attempt,
            outcome,
            route,
            delay_told,
            text,
            queue,
            mails,
            hooks,
            suppress,
            events,
            reports,
        } = settle;
        let unit = Unit {
            text: text.as_ref().map(OpText::of),
            queue,
            mails,
            hooks,
            suppress,
            events,
            reports,
            ..Unit::default()
        };
        let op = Self::Settle {
            id,
            fence,
            party,
            attempt,
            outcome,
            delay_told,
            unit,
            route,
        };
        (op, text)
    }
}

impl Op {
    /// The messages that it queues.
    pub(crate) fn messages(&self) -> &[NewMessage] {
        match self {
            Self::Accept(unit) | Self::Settle { unit, .. } => &unit.queue,
            Self::AcceptAll { messages, .. } => messages,
            Self::Start => &[],
        }
    }
}

impl Operations for Op {
    /// Version 3 has any number of messages in a unit, their origin, and refused mail.
    /// Version 4 has messages that are reports, and such that are one of many.
    /// Version 5 says what the text of a message needs, in the byte that only said 8-bit or not.
    /// Version 6 has the routes of messages.
    /// Version 7 has mails that may be reports.
    /// Version 8 has summaries of mails.
    const VERSION: u8 = 8;

    fn older(version: u8, bytes: &[u8]) -> Result<Self, Unreadable> {
        match version {
            1 => exactly(bytes).map(|old: OpV1| old.into()),
            2 => exactly(bytes).map(|old: OpV2| old.into()),
            3 => exactly(bytes).map(|old: OpV3| old.into()),
            4 | 5 => exactly(bytes).map(|old: OpV5| old.into()),
            6 => exactly(bytes).map(|old: OpV6| old.into()),
            7 => exactly(bytes).map(|old: OpV7| old.into()),
            _ => Err(Unreadable::Older(version)),
        }
    }

    fn apply(self, state: &mut State, place: Option<TextPlace>) -> Result<Applied, Fault> {
        match self {
            Self::Accept(unit) => Ok(accepted(state.add_unit(unit, place)?)),
            Self::AcceptAll { messages, once } => Ok(accepted(state.add_all(messages, once)?)),
            Self::Settle {
                id,
                fence,
                party,
                attempt,
                outcome,
                delay_told,
                unit,
                route,
            } => {
                let queued = state.queue.queued.get(&id)?;
                let queued = queued.filter(|queued| queued.fence == fence);
                let in_use = party == Party::Administrator && state.queue.claimed.contains(&id)?;
                let Some(queued) = queued.filter(|_| !in_use) else {
                    state.drop_text(unit.text);
                    return Ok(Applied::Flag(false));
                };
                if let Err(error) = state.add_unit(unit, place)? {
                    return Ok(Applied::Refused(error));
                }
                state.settle_message(queued, attempt, outcome, delay_told, route)?;
                Ok(Applied::Flag(true))
            }
            Self::Start => {
                state.end_process()?;
                Ok(Applied::Done)
            }
        }
    }

    #[cfg(any(test, feature = "memory"))]
    fn apply_to_model(self, model: &mut ModelState, text: Option<NewText>) -> Applied {
        model.apply_unit(self, text)
    }

    fn changes(&self) -> usize {
        match self {
            Self::Accept(unit) => unit.records(),
            Self::AcceptAll { messages, .. } => messages.iter().map(recipients).sum(),
            Self::Settle { unit, .. } => 1 + unit.records(),
            Self::Start => 1,
        }
    }

    /// A settlement ends a message, or leaves it as it was. It must not get lost.
    fn space(&self) -> Space {
        match self {
            Self::Accept(_) | Self::AcceptAll { .. } => Space::Ordinary,
            Self::Settle { .. } | Self::Start => Space::Reserve,
        }
    }

    fn set_file(&mut self, place: TextFilePlace) {
        if let Self::Accept(unit) | Self::Settle { unit, .. } = self {
            unit.text = Some(OpText::File(place));
        }
    }
}

fn accepted(added: Result<Accepted, StoreError>) -> Applied {
    added.map_or_else(Applied::Refused, Applied::Accepted)
}

impl State {
    /// Ends all claims and drops what was staged, since the process that had them is gone.
    pub(crate) fn end_process(&mut self) -> Result<(), Fault> {
        for (id, ()) in self.texts.staged.all()? {
            self.unstage(id)?;
        }
        self.end_claims_of_messages()?;
        self.end_claims_of_hooks()
    }

    /// Why new messages can't be queued, if so.
    fn check_new(
        &self,
        once: Option<&Once>,
        messages: &[NewMessage],
    ) -> Result<Option<StoreError>, Fault> {
        if let Some(once) = once
            && self.is_done(once)?
        {
            return Ok(Some(StoreError::DoneBefore));
        }
        for message in messages {
            if let Some(error) = self.queue.check_from_ids(message)? {
                return Ok(Some(error));
            }
        }
        Ok(None)
    }

    fn add_unit(
        &mut self,
        mut unit: Unit,
        place: Option<TextPlace>,
    ) -> Result<Result<Accepted, StoreError>, Fault> {
        if let Some(error) = self.check_new(unit.once.as_deref(), &unit.queue)? {
            self.drop_text(unit.text);
            return Ok(Err(error));
        }
        unit.rejects = self.new_rejects(unit.rejects)?;
        let refs = unit.references();
        let existing = refs.keys().flatten().map(|id| TextSource::Existing(*id));
        if let Some(error) = self.check_texts(existing)? {
            self.drop_text(unit.text);
            return Ok(Err(error));
        }
        let new = match unit.text {
            None => TextId::default(),
            Some(text) => {
                let new_refs = refs.get(&None).copied().unwrap_or_default();
                self.add_text(text.place(place), new_refs)?
            }
        };
        for (id, count) in refs {
            if let Some(id) = id {
                self.retain_text(id, count)?;
            }
        }
        let mut accepted = Accepted::default();
        for message in unit.queue {
            let text = message.text;
            accepted.queue.extend(self.add_message(message, new)?);
            if let TextSource::Existing(text) = text {
                self.unstage(text)?;
            }
        }
        let mails = unit.mails.into_iter().map(|mail| {
            let text = mail.text.resolve(new);
            self.mail.number(mail, text)
        });
        let (mails, summaries): (Vec<Mail>, Vec<_>) = mails.unzip();
        accepted.mails = mails.iter().map(|mail| mail.id).collect();
        for note in unit.notes {
            self.queue.note(note)?;
        }
        let suppressed = self.suppress_all(unit.suppress)?;
        for hook in unit.hooks {
            let told = match suppressed {
                true => Some(hook),
                false => hook.not_suppressing(),
            };
            let Some(hook) = told else {
                continue;
            };
            let mail = match hook.kind {
                NewHookKind::Incoming(index) => mails.get(index as usize).cloned().map(Arc::new),
                NewHookKind::Outgoing(_) | NewHookKind::OutgoingV1(_) | NewHookKind::Again(_) => {
                    None
                }
            };
            self.add_new_hook(hook, mail)?;
        }
        for (mail, summary) in mails.into_iter().zip(summaries) {
            self.add_mail(mail, summary)?;
        }
        for taken in &unit.taken {
            self.drop_taken(taken)?;
        }
        for reject in unit.rejects {
            let text = reject.mail.text.resolve(new);
            let mail = self.mail.number(reject.mail.clone(), text);
            accepted.rejects.push(mail.0.id);
            self.keep(mail, &reject)?;
        }
        for report in unit.reports {
            let text = report.text.resolve(new);
            self.received_reports.await_reading(report, text);
            self.effects.reports_arrived = true;
        }
        for event in unit.events {
            let told = match suppressed {
                true => Some(event),
                false => event.not_suppressing(),
            };
            if let Some(event) = told {
                self.log(event)?;
            }
        }
        self.remember(unit.once, &accepted.queue)?;
        Ok(Ok(accepted))
    }

    /// Adds entries to suppression lists. False if all addresses were there already.
    fn suppress_all(&mut self, new: Vec<NewSuppression>) -> Result<bool, Fault> {
        let mut suppressed = new.is_empty();
        for suppression in new {
            suppressed |= self.suppress(suppression)?;
        }
        Ok(suppressed)
    }

    fn add_all(
        &mut self,
        messages: Vec<NewMessage>,
        once: Option<Box<Once>>,
    ) -> Result<Result<Accepted, StoreError>, Fault> {
        if let Some(error) = self.check_new(once.as_deref(), &messages)? {
            return Ok(Err(error));
        }
        let texts = messages.iter().map(|message| message.text);
        if let Some(error) = self.check_texts(texts)? {
            return Ok(Err(error));
        }
        let mut accepted = Accepted::default();
        for message in messages {
            let text = message.text.resolve(TextId::default());
            self.retain_text(text, message.recipients.len() as u64)?;
            accepted.queue.extend(self.add_message(message, text)?);
            self.unstage(text)?;
        }
        self.remember(once, &accepted.queue)?;
        Ok(Ok(accepted))
    }
}

/// How many records a message makes: one for each recipient.
const fn recipients(message: &NewMessage) -> usize {
    message.recipients.len()
}

impl Unit {
    /// How many records the unit makes.
    fn records(&self) -> usize {
        self.queue.iter().map(recipients).sum::<usize>()
            + self.mails.len()
            + self.hooks.len()
            + self.notes.len()
            + self.suppress.len()
            + self.events.len()
            + self.rejects.len()
            + self.taken.len()
            + self.reports.len()
            + usize::from(self.once.is_some())
    }

    /// How many records of the unit refer to each text. None: the text of the unit.
    fn references(&self) -> BTreeMap<Option<TextId>, u64> {
        let queued = self
            .queue
            .iter()
            .map(|message| (message.text, message.recipients.len() as u64));
        let refused = self.rejects.iter().map(|reject| &reject.mail);
        let mailed = self.mails.iter().chain(refused);
        let mailed = mailed.map(|mail| (mail.text, 1));
        let reports = self.reports.iter().map(|report| (report.text, 1));
        let told = self.hooks.iter().filter_map(|hook| match &hook.kind {
            NewHookKind::Incoming(index) => {
                let mail = self.mails.get(*index as usize);
                mail.map(|mail| (mail.text, 1))
            }
            NewHookKind::Again(mail) => Some((TextSource::Existing(mail.text), 1)),
            NewHookKind::Outgoing(_) | NewHookKind::OutgoingV1(_) => None,
        });
        let mut refs = BTreeMap::new();
        for (source, count) in queued.chain(mailed).chain(reports).chain(told) {
            let id = match source {
                TextSource::New => None,
                TextSource::Existing(id) => Some(id),
            };
            *refs.entry(id).or_default() += count;
        }
        refs
    }
}

impl Store {
    /// Takes messages whose texts are staged: all of them, or none. Gives the numbers of their
    /// recipients, one after the other.
    ///
    /// # Errors
    /// If one of the messages can't be taken, or the change can't be made durable.
    pub async fn accept_all(
        &self,
        messages: Vec<NewMessage>,
        once: Option<Once>,
    ) -> Result<Vec<QueueId>, StoreError> {
        if messages
            .iter()
            .any(|message| message.recipients.is_empty() || message.text == TextSource::New)
        {
            return Err(StoreError::Invalid(
                "a message without recipients, or without a staged text",
            ));
        }
        let once = once.map(Box::new);
        let op = super::Op::Unit(Op::AcceptAll { messages, once });
        let accepted: Accepted = self.change_one(op, None).await?.output()?;
        Ok(accepted.queue)
    }
}

#[cfg(test)]
pub(crate) fn samples() -> Vec<Op> {
    use crate::tests::samples;
    let mut queued = samples::message(&["x@a.example"]);
    queued.reports = vec![super::received_reports::tests::arrived()];
    let message = queued.queue.clone();
    let (accept, _) = Op::accept(queued);
    let settle = Op::Settle {
        id: QueueId(1),
        fence: 2,
        party: Party::Claimant,
        attempt: Some(samples::attempt(samples::at(3), true)),
        outcome: samples::KEPT,
        delay_told: true,
        unit: Unit::default(),
        route: Some("relay".into()),
    };
    let all = Op::AcceptAll {
        messages: message,
        once: None,
    };
    vec![accept, all, settle, Op::Start]
}
