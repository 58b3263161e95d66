//! Units in the model.

use super::{Accepted, Op, TextSource, Unit};
use crate::{
    MailId, NewEvent, NewHook, NewHookKind, NewMessage, NewSuppression, NewText, Once, QueueId,
    StoreError, TextId,
    subject::{Applied, ModelPart, ModelState},
};

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {}

impl ModelPart for Model {}

impl ModelState {
    pub(super) fn apply_unit(&mut self, op: Op, text: Option<NewText>) -> Applied {
        match op {
            Op::Accept(unit) => match self.accept(unit, text) {
                Ok(accepted) => Applied::Accepted(accepted),
                Err(error) => Applied::Refused(error),
            },
            Op::AcceptAll { messages, once } => match self.accept_all(messages, once) {
                Ok(accepted) => Applied::Accepted(accepted),
                Err(error) => Applied::Refused(error),
            },
            Op::Settle {
                id,
                fence,
                party,
                attempt,
                outcome,
                delay_told,
                unit,
                route,
            } => {
                let Some(queued) = self.queue.to_settle(id, fence, party) else {
                    return Applied::Flag(false);
                };
                let mut unit = unit;
                let old = queued.text;
                let new = match self.bring(text, &unit) {
                    Ok(new) => new,
                    Err(error) => return Applied::Refused(error),
                };
                self.add_queue(&mut unit, new);
                self.add_rest(unit, new);
                self.queue
                    .settle(queued, attempt, outcome, delay_told, route);
                self.drop_unused(old);
                self.drop_unused(new);
                Applied::Flag(true)
            }
            Op::Start => {
                self.end_process();
                Applied::Done
            }
        }
    }

    /// Ends all claims and drops what was staged.
    pub(crate) fn end_process(&mut self) {
        self.queue.end_claims();
        self.hooks.end_claims();
        for id in std::mem::take(&mut self.texts.staged) {
            self.drop_unused(id);
        }
    }

    fn accept(&mut self, mut unit: Unit, text: Option<NewText>) -> Result<Accepted, StoreError> {
        self.check_once(unit.once.as_deref())?;
        for message in &unit.queue {
            self.queue.check_from_ids(message)?;
        }
        unit.rejects
            .retain(|reject| !self.rejects.has(&reject.mail.account, reject.key));
        let new = self.bring(text, &unit)?;
        let queue = self.add_queue(&mut unit, new);
        let once = unit.once.take();
        let (rejects, taken) = (
            std::mem::take(&mut unit.rejects),
            std::mem::take(&mut unit.taken),
        );
        let mails = self.add_rest(unit, new);
        let mut kept = Vec::new();
        for taken in &taken {
            self.drop_taken(taken);
        }
        for reject in rejects {
            let text = reject.mail.text.resolve(new);
            kept.extend(self.keep(reject, text));
        }
        self.drop_unused(new);
        self.once.remember(once, &queue);
        Ok(Accepted {
            queue,
            mails,
            rejects: kept,
        })
    }

    fn accept_all(
        &mut self,
        messages: Vec<NewMessage>,
        once: Option<Box<Once>>,
    ) -> Result<Accepted, StoreError> {
        self.check_once(once.as_deref())?;
        for message in &messages {
            self.queue.check_from_ids(message)?;
        }
        for message in &messages {
            self.check_text(message.text)?;
        }
        let mut accepted = Accepted::default();
        for message in messages {
            let text = message.text.resolve(TextId::default());
            let ids = self.add_message(message, text);
            accepted.queue.extend(ids);
            self.texts.staged.remove(&text);
        }
        self.once.remember(once, &accepted.queue);
        Ok(accepted)
    }

    fn check_once(&self, once: Option<&Once>) -> Result<(), StoreError> {
        match once.is_some_and(|once| self.once.is_done(once)) {
            true => Err(StoreError::DoneBefore),
            false => Ok(()),
        }
    }

    fn check_text(&self, source: TextSource) -> Result<(), StoreError> {
        match source {
            TextSource::Existing(id) if !self.texts.texts.contains_key(&id) => {
                Err(StoreError::NoText(id))
            }
            _ => Ok(()),
        }
    }

    /// Checks that the texts referred to are there. Then stores the new text.
    fn bring(&mut self, text: Option<NewText>, unit: &Unit) -> Result<TextId, StoreError> {
        for hook in &unit.hooks {
            if let NewHookKind::Again(mail) = &hook.kind {
                self.check_text(TextSource::Existing(mail.text))?;
            }
        }
        for message in &unit.queue {
            self.check_text(message.text)?;
        }
        let refused = unit.rejects.iter().map(|reject| &reject.mail);
        for mail in unit.mails.iter().chain(refused) {
            self.check_text(mail.text)?;
        }
        for report in &unit.reports {
            self.check_text(report.text)?;
        }
        match text {
            None => Ok(TextId::default()),
            Some(text) => self.texts.add(text),
        }
    }

    /// Adds the messages of a unit.
    fn add_queue(&mut self, unit: &mut Unit, new: TextId) -> Vec<QueueId> {
        let mut ids = Vec::new();
        for message in std::mem::take(&mut unit.queue) {
            let text = message.text.resolve(new);
            ids.extend(self.add_message(message, new));
            self.texts.staged.remove(&text);
        }
        ids
    }

    /// Adds all parts of a unit but its messages.
    fn add_rest(&mut self, unit: Unit, new: TextId) -> Vec<MailId> {
        let mut mails = Vec::new();
        for mail in unit.mails {
            let text = mail.text.resolve(new);
            mails.push(self.add_mail(mail, text));
        }
        for report in unit.reports {
            let text = report.text.resolve(new);
            self.received_reports.await_reading(report, text);
        }
        for note in unit.notes {
            self.queue.note(note);
        }
        self.suppress_and_tell(unit.suppress, unit.hooks, unit.events, &mails);
        mails
    }

    fn suppress_and_tell(
        &mut self,
        suppress: Vec<NewSuppression>,
        mut hooks: Vec<NewHook>,
        events: Vec<NewEvent>,
        mails: &[MailId],
    ) {
        let asked = !suppress.is_empty();
        let added = suppress
            .into_iter()
            .filter(|new| self.suppression.add(new.clone()));
        let suppressed = !asked || added.count() > 0;
        if !suppressed {
            let told = hooks.into_iter().filter_map(NewHook::not_suppressing);
            hooks = told.collect();
        }
        self.add_hooks(hooks, mails);
        for event in events {
            let told = match suppressed {
                true => Some(event),
                false => event.not_suppressing(),
            };
            if let Some(event) = told {
                self.events.log(event);
            }
        }
    }
}
