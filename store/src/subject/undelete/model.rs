//! Deleted mail in the model.

use std::collections::BTreeMap;

use super::{Delete, DeletedMail, DeletedPlace, KeepDeleted, ListDeleted, Purge, Restore, place};
use crate::{
    MailId, MailUsage, Page, TextId, Time, Trained,
    filter::page,
    subject::{ModelPart, ModelState},
};

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    deleted: BTreeMap<MailId, (DeletedMail, Option<Trained>)>,
    /// The texts of mails whose time is over.
    over: Vec<TextId>,
}

impl ModelPart for Model {
    fn uses(&self, text: TextId) -> bool {
        self.deleted.values().any(|(it, _)| it.mail.text == text)
    }

    fn history(&self) -> Vec<(Time, u64)> {
        let deleted = self.deleted.iter();
        deleted.map(|(id, (it, _))| (it.until, id.0)).collect()
    }

    fn forget(&mut self, number: u64) {
        let forgotten = self.deleted.remove(&MailId(number));
        self.over.extend(forgotten.map(|(it, _)| it.mail.text));
    }
}

impl Model {
    /// The deleted mails of an account, or of all, oldest first.
    fn of(&self, account: Option<&str>) -> Vec<DeletedMail> {
        let all = self.deleted.values().map(|(it, _)| it);
        let of_account = |it: &&DeletedMail| account.is_none_or(|name| name == it.mail.account);
        let mut found: Vec<_> = all.filter(of_account).cloned().collect();
        found.sort_by_key(place);
        found
    }

    pub(super) fn total(&self, account: &str) -> MailUsage {
        let mut total = MailUsage::default();
        for deleted in self.of(Some(account)) {
            total.add(deleted.mail.size);
        }
        total
    }

    pub(super) fn list(&self, asked: &ListDeleted) -> Page<DeletedMail, DeletedPlace> {
        let all = self.of(Some(&asked.account)).into_iter();
        let behind = all.filter(|it| Some(place(it)) > asked.after);
        page(behind, asked.limit, place)
    }
}

impl ModelState {
    /// Removes the texts of deleted mails whose time is over.
    pub(crate) fn drop_forgotten_texts(&mut self) {
        for text in std::mem::take(&mut self.undelete.over) {
            self.drop_unused(text);
        }
    }

    /// Deletes a mail that is there.
    pub(crate) fn delete_mail(&mut self, id: MailId, now: Time, keep: KeepDeleted) {
        let Some(mail) = self.mail.mails.get(&id).cloned() else {
            return;
        };
        let (account, is_kept) = (mail.account.clone(), keep.keeps(now, mail.size));
        let deleted = DeletedMail {
            deleted: now,
            until: keep.until,
            mail,
        };
        if is_kept {
            let kept = (deleted, self.mail.trained.get(&id).copied());
            self.undelete.deleted.insert(id, kept);
        }
        self.remove_mail(id);
        loop {
            let all = self.undelete.of(Some(&account));
            let bytes: u64 = all.iter().map(|it| it.mail.size).sum();
            match all.first() {
                Some(oldest) if bytes > keep.bytes => self.end_deleted(oldest.mail.id),
                _ => return,
            }
        }
    }

    fn end_deleted(&mut self, id: MailId) {
        if let Some((ended, _)) = self.undelete.deleted.remove(&id) {
            self.drop_unused(ended.mail.text);
        }
    }
}

impl Delete {
    pub(super) fn apply_to_model(self, model: &mut ModelState) -> bool {
        let mail = model.mail.mails.get(&self.id);
        let is_there = mail.is_some_and(|mail| mail.account == self.account);
        if is_there {
            model.delete_mail(self.id, self.now, self.keep);
        }
        is_there
    }
}

impl Restore {
    pub(super) fn apply_to_model(self, model: &mut ModelState) -> bool {
        let deleted = &mut model.undelete.deleted;
        let found = deleted.get(&self.id);
        if found.is_none_or(|(it, _)| it.mail.account != self.account) {
            return false;
        }
        let Some((restored, trained)) = deleted.remove(&self.id) else {
            return false;
        };
        let mut mail = restored.mail;
        mail.mailbox = self.mailbox;
        mail.received = self.received.unwrap_or(mail.received);
        model.folders.add(&mail, None);
        model.mail.mails.insert(self.id, mail);
        model.mail.trained.extend(trained.map(|it| (self.id, it)));
        true
    }
}

impl Purge {
    pub(super) fn apply_to_model(self, model: &mut ModelState) -> u64 {
        let mut found = model.undelete.of(self.account.as_deref());
        // The tables have all accounts one behind the other.
        found.sort_by(|a, b| a.mail.account.cmp(&b.mail.account));
        found.truncate(usize::try_from(self.max).unwrap_or(usize::MAX));
        for deleted in &found {
            model.end_deleted(deleted.mail.id);
        }
        found.len() as u64
    }
}
