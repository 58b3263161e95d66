//! Refused mail in the model.

use std::collections::BTreeMap;

use super::{NewReject, Reject, RejectKey, RejectLimit, TakenMail};
use crate::{
    MailId, MailUsage, TextId, Time,
    subject::{ModelPart, ModelState},
};

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) rejects: BTreeMap<MailId, Reject>,
    /// The mails whose time is over. They go together with their texts.
    over: Vec<MailId>,
}

impl ModelPart for Model {
    fn history(&self) -> Vec<(Time, u64)> {
        let rejects = self.rejects.iter();
        rejects
            .filter_map(|(id, reject)| Some((reject.until?, id.0)))
            .collect()
    }

    fn forget(&mut self, number: u64) {
        self.rejects.remove(&MailId(number));
        self.over.push(MailId(number));
    }
}

impl Model {
    /// Whether the account keeps a mail of this key.
    pub(crate) fn has(&self, account: &str, key: RejectKey) -> bool {
        self.find(account, key).is_some()
    }

    fn find(&self, account: &str, key: RejectKey) -> Option<MailId> {
        let mut rejects = self.rejects.iter();
        let found = rejects.find(|(_, reject)| reject.account == account && reject.key == key);
        found.map(|(id, _)| *id)
    }

    pub(super) fn total(&self, account: &str) -> MailUsage {
        let mut total = MailUsage::default();
        let of_account = |reject: &&Reject| reject.account == account;
        for reject in self.rejects.values().filter(of_account) {
            total.add(reject.size);
        }
        total
    }
}

impl ModelState {
    /// How much mail an account has that it did not refuse.
    pub(crate) fn mail_usage(&self, account: &str) -> MailUsage {
        let mut usage = MailUsage::default();
        for mail in self.mail.mails.values() {
            if mail.account == account && !self.rejects.rejects.contains_key(&mail.id) {
                usage.add(mail.size);
            }
        }
        usage
    }

    /// Keeps a refused mail. None: the account keeps one of this key.
    pub(crate) fn keep(&mut self, new: NewReject, text: TextId) -> Option<MailId> {
        let account = new.mail.account.clone();
        if self.rejects.find(&account, new.key).is_some() {
            return None;
        }
        let reject = Reject {
            account: account.clone(),
            key: new.key,
            size: new.mail.size,
            until: new.until,
        };
        let id = self.add_mail(new.mail, text);
        self.rejects.rejects.insert(id, reject);
        if let Some(limit) = new.limit {
            self.trim_rejects(&account, limit);
        }
        Some(id)
    }

    fn trim_rejects(&mut self, account: &str, limit: RejectLimit) {
        loop {
            let total = self.rejects.total(account);
            if total.mails <= limit.mails && total.bytes <= limit.bytes {
                return;
            }
            let mut rejects = self.rejects.rejects.iter();
            let oldest = rejects.find(|(_, reject)| reject.account == account);
            let Some(oldest) = oldest.map(|(id, _)| *id) else {
                return;
            };
            self.remove_mail(oldest);
        }
    }

    pub(crate) fn drop_taken(&mut self, taken: &TakenMail) {
        if let Some(id) = self.rejects.find(&taken.account, taken.key) {
            self.remove_mail(id);
        }
    }

    /// Removes the refused mails whose time is over, and the texts of such reports.
    pub(crate) fn drop_forgotten(&mut self) {
        for id in std::mem::take(&mut self.rejects.over) {
            self.remove_mail(id);
        }
        for text in std::mem::take(&mut self.received_reports.over) {
            self.drop_unused(text);
        }
    }

    /// Removes a mail, refused or not.
    pub(crate) fn remove_mail(&mut self, id: MailId) {
        self.rejects.rejects.remove(&id);
        self.mail.trained.remove(&id);
        if let Some(mail) = self.mail.mails.remove(&id) {
            self.folders.remove(&mail);
            self.drop_unused(mail.text);
        }
    }
}
