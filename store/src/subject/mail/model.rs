//! Mail in the model.

use std::collections::BTreeMap;

use super::{ChangeOne, InOrder, List, Mail, MailChange, MailId, NewMail, Remove, Trained};
use crate::{
    Page, TextId,
    filter::{ordered, page},
    subject::{ModelPart, ModelState, next},
};

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(super) last: u64,
    pub(crate) mails: BTreeMap<MailId, Mail>,
    pub(crate) trained: BTreeMap<MailId, Trained>,
}

impl ModelPart for Model {
    fn skip_ids(&mut self, by: u64) {
        self.last = self.last.saturating_add(by);
    }

    fn uses(&self, text: TextId) -> bool {
        self.mails.values().any(|mail| mail.text == text)
    }
}

impl Model {
    pub(super) fn list(&self, asked: &List) -> Page<Mail, MailId> {
        let items = self.mails.values().filter(|mail| {
            let mailbox = asked.mailbox.as_ref();
            Some(mail.id) > asked.after
                && mail.account == asked.account
                && mailbox.is_none_or(|mailbox| mail.mailbox == *mailbox)
        });
        page(items.cloned(), asked.limit, |mail| mail.id)
    }

    pub(super) fn in_order(&self, asked: &InOrder) -> Page<Mail, MailId> {
        let items = self.mails.values().filter(|mail| {
            let after = asked.after;
            after.is_none_or(|after| asked.order.follows(mail.id, after)) && asked.matches(mail)
        });
        page(ordered(items, asked.order), asked.limit, |mail| mail.id)
    }
}

impl ModelState {
    /// Puts a new mail into its mailbox.
    pub(crate) fn add_mail(&mut self, mail: NewMail, text: TextId) -> MailId {
        let id = MailId(next(&mut self.mail.last));
        let (mail, summary) = mail.split(id, text);
        self.folders.add(&mail, summary);
        self.mail.mails.insert(id, mail);
        id
    }

    /// Changes a mail of an account, and gives it as it is then.
    pub(crate) fn change_mail(
        &mut self,
        account: &str,
        id: MailId,
        change: &MailChange,
    ) -> Option<Mail> {
        let mail = self.mail.mails.get_mut(&id);
        let mail = mail.filter(|mail| mail.account == account)?;
        let before = mail.clone();
        change.apply(mail);
        self.folders.refile(&before, mail);
        if mail.mailbox != before.mailbox {
            self.rejects.rejects.remove(&id);
        }
        Some(mail.clone())
    }
}

impl ChangeOne {
    pub(super) fn apply_to_model(self, model: &mut ModelState) -> bool {
        let changed = model.change_mail(&self.account, self.id, &self.change);
        changed.is_some()
    }
}

impl Remove {
    pub(super) fn apply_to_model(self, model: &mut ModelState) -> bool {
        let mail = model.mail.mails.get(&self.id);
        let is_there = mail.is_some_and(|mail| mail.account == self.account);
        if is_there {
            model.remove_mail(self.id);
        }
        is_there
    }
}
