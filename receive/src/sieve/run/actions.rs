//! Commands that do something with the message.

use postrider_smtp::Address;

use super::Runner;
use crate::sieve::{
    error::{SieveError, shown},
    flags::{Change, Flags},
    mailbox,
    outcome::{Failure, Filed, Outcome, Rejection},
    program::{FileInto, Text, Vacation},
    text::cut,
    vacation::{Answer, Request},
};

/// The most bytes of a reason for a refusal.
const REASON_MAX: usize = 2048;

/// What the scripts have done so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    /// The internal variable of flags.
    flags: Flags,
    /// A command has taken the place of the implicit keep.
    is_handled: bool,
    /// The flags of an explicit keep.
    kept: Option<Flags>,
    filed: Vec<(Filed, Flags)>,
    redirects: Vec<Address>,
    rejection: Option<Rejection>,
    vacation: Option<Request>,
    /// A script has failed, so the message is kept.
    pub(super) has_failed: bool,
}

impl State {
    /// The message is not kept, and is not answered.
    pub(super) fn discard(&mut self) {
        self.is_handled = true;
        self.vacation = None;
    }

    /// The end of all scripts.
    pub(super) fn outcome(self, failures: Vec<Failure>) -> Outcome {
        let implicit = (!self.is_handled || self.has_failed).then_some(self.flags);
        let rejection = self.rejection.filter(|_| !self.has_failed);
        let filed = self.filed.into_iter().map(|(mut filed, flags)| {
            filed.flags = flags.list().to_vec();
            filed
        });
        Outcome {
            keep: self.kept.or(implicit).map(|flags| flags.list().to_vec()),
            filed: filed.collect(),
            redirects: self.redirects,
            rejection,
            vacation: self.vacation,
            answering: None,
            acted: Vec::new(),
            failures,
        }
    }

    /// A script has asked for an answer.
    pub(super) const fn asks_for_answer(&self) -> bool {
        self.vacation.is_some()
    }

    /// The actions of a script that found this state and left another one, in a few words.
    pub(super) fn actions_until(&self, after: &Self) -> Vec<String> {
        let mut actions = Vec::new();
        let is_new = |filed: &&(Filed, Flags)| !self.filed.contains(filed);
        let filed = after.filed.iter().filter(is_new);
        actions.extend(filed.map(|(filed, _)| format!("fileinto {}", filed.mailbox)));
        let redirects = after.redirects.iter().skip(self.redirects.len());
        actions.extend(redirects.map(|address| format!("redirect {address}")));
        let mut add = |is_done: bool, name: &str| {
            if is_done {
                actions.push(name.to_owned());
            }
        };
        add(after.kept != self.kept, "keep");
        let rejects = after.rejection != self.rejection;
        add(rejects, "reject");
        add(
            after.vacation.is_some() && !self.asks_for_answer(),
            "vacation",
        );
        add(after.flags != self.flags, "flags");
        let is_gone = after.is_handled && !self.is_handled && actions.is_empty();
        if is_gone {
            actions.push("discard".to_owned());
        }
        actions
    }
}

impl Runner<'_> {
    /// The flags of `:flags`, or those of the internal variable.
    fn flags(&mut self, flags: Option<&[Text]>) -> Result<Flags, SieveError> {
        match flags {
            Some(flags) => {
                let flags = self.expand_all(flags)?;
                Ok(Flags::read(flags.iter().map(String::as_str)))
            }
            None => Ok(self.state.flags.clone()),
        }
    }

    pub(super) fn keep(&mut self, flags: Option<&[Text]>) -> Result<(), SieveError> {
        let flags = self.flags(flags)?;
        self.state.is_handled = true;
        match &mut self.state.kept {
            Some(kept) => kept.change(Change::Add, flags),
            kept => *kept = Some(flags),
        }
        Ok(())
    }

    pub(super) fn file(&mut self, file: &FileInto) -> Result<(), SieveError> {
        let written = self.expand(&file.mailbox)?;
        let mut name = mailbox::name(&written).map_err(|fault| self.fault(fault))?;
        let mut special_use = None;
        if let Some(wanted) = &file.special_use {
            let wanted = self.expand(wanted)?.into_owned();
            let known = self.facts.mailboxes.iter();
            match known.clone().find(|known| known.has_use(&wanted)) {
                Some(known) => name.clone_from(&known.name),
                None => special_use = Some(wanted),
            }
        }
        if name == self.facts.keep_mailbox {
            self.keep(file.flags.as_deref())?;
            return Ok(());
        }
        let flags = self.flags(file.flags.as_deref())?;
        let filed = &mut self.state.filed;
        if let Some((filed, of_filed)) = filed.iter_mut().find(|(filed, _)| filed.mailbox == name) {
            of_filed.change(Change::Add, flags);
            filed.create |= file.create;
        } else if filed.len() >= self.limits.mailboxes {
            return Err(self.fault(format!(
                "The message would go into more than {} mailboxes. Use fewer.",
                self.limits.mailboxes
            )));
        } else {
            let filed_now = Filed {
                mailbox: name,
                flags: Vec::new(),
                create: file.create,
                special_use,
            };
            filed.push((filed_now, flags));
        }
        self.state.is_handled |= !file.copy;
        Ok(())
    }

    pub(super) fn redirect(&mut self, address: &Text, copy: bool) -> Result<(), SieveError> {
        let text = self.expand(address)?;
        let address = Address::parse(&text).map_err(|fault| {
            self.fault(format!("The address {} is wrong: {fault}.", shown(&text)))
        })?;
        let redirects = &mut self.state.redirects;
        if !redirects.contains(&address) {
            if redirects.len() >= self.limits.redirects {
                return Err(self.fault(format!(
                    "The message would be redirected to more than {} addresses. Use fewer.",
                    self.limits.redirects
                )));
            }
            redirects.push(address);
        }
        self.state.is_handled |= !copy;
        Ok(())
    }

    pub(super) fn reject(&mut self, reason: &Text, in_session: bool) -> Result<(), SieveError> {
        let state = &self.state;
        if state.kept.is_some() || !state.filed.is_empty() || !state.redirects.is_empty() {
            return Err(self.fault(
                "The message is kept, filed or redirected already, so it can't be refused. \
                 Write \"stop\" before.",
            ));
        }
        let reason = self.expand(reason)?.into_owned();
        self.state.discard();
        self.state.rejection = Some(Rejection {
            reason: cut(reason, REASON_MAX),
            in_session,
        });
        Ok(())
    }

    pub(super) fn change_flags(
        &mut self,
        change: Change,
        variable: Option<usize>,
        flags: &[Text],
    ) -> Result<(), SieveError> {
        let flags = self.flags(Some(flags))?;
        match variable {
            None => self.state.flags.change(change, flags),
            Some(variable) => {
                let mut list = self.flags_of(variable);
                list.change(change, flags);
                self.assign(variable, list.joined());
            }
        }
        Ok(())
    }

    /// The flags that a variable holds.
    pub(super) fn flags_of(&self, variable: usize) -> Flags {
        Flags::read([super::value(&self.variables, variable)])
    }

    /// The flags of the internal variable.
    pub(super) fn internal_flags(&self) -> &[String] {
        self.state.flags.list()
    }

    pub(super) fn vacation(&mut self, vacation: &Vacation) -> Result<(), SieveError> {
        if self.has_answered {
            return Err(
                self.fault("The script has asked for an answer already. Use \"vacation\" once.")
            );
        }
        self.has_answered = true;
        let subject = self.optional(vacation.subject.as_ref())?;
        let from = self.optional(vacation.from.as_ref())?;
        let handle = self.optional(vacation.handle.as_ref())?;
        let addresses = self.expand_all(&vacation.addresses)?;
        let reason = self.expand(&vacation.reason)?.into_owned();
        let answer = match vacation.mime {
            true => Answer::Mime(reason),
            false => Answer::Text(reason),
        };
        let request = Request::new(handle, vacation.days, subject, from, addresses, answer);
        // An earlier script comes first.
        self.state.vacation.get_or_insert(request);
        Ok(())
    }

    fn optional(&mut self, text: Option<&Text>) -> Result<Option<String>, SieveError> {
        let text = text.map(|text| self.expand(text)).transpose()?;
        Ok(text.map(std::borrow::Cow::into_owned))
    }
}
