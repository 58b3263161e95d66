//! The history of senders in the model.

use std::collections::BTreeMap;

use super::{
    FORGOTTEN_AT_ONCE, ForgetSome, HISTORY_ROWS, HistoryKey, Mark, Marks, Row, RowKey,
    last_useless_day, row_key,
};
use crate::{
    Time,
    subject::{ModelPart, ModelState},
    table::key::Name,
};

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    rows: BTreeMap<RowKey, Row>,
}

impl ModelPart for Model {
    fn sweep(&mut self, now: Time, max: u64) -> u64 {
        let Some(last) = last_useless_day(now) else {
            return 0;
        };
        let mut removed = 0;
        while removed < max {
            let Some(key) = self.oldest(None, last) else {
                break;
            };
            self.rows.remove(&key);
            removed += 1;
        }
        removed
    }
}

impl Model {
    /// The row, of one account or of all, whose last mark is oldest, and not after a day.
    fn oldest(&self, account: Option<&Name>, last: u64) -> Option<RowKey> {
        let rows = self.rows.iter();
        let rows = rows.filter(|(key, row)| {
            row.day() <= last && account.is_none_or(|account| key.0 == *account)
        });
        let oldest = rows.min_by_key(|(key, row)| (row.day(), (*key).clone()));
        oldest.map(|(key, _)| key.clone())
    }

    fn count(&self, account: &Name) -> u64 {
        self.rows.keys().filter(|key| key.0 == *account).count() as u64
    }

    pub(crate) fn mark(&mut self, account: &Name, key: &HistoryKey, mark: Mark) {
        self.rows
            .entry(row_key(account, key))
            .or_default()
            .add(mark);
        // No more rows than that can belong to one account.
        if self.rows.len() as u64 > HISTORY_ROWS && self.count(account) > HISTORY_ROWS {
            let oldest = self.oldest(Some(account), u64::MAX);
            oldest.and_then(|oldest| self.rows.remove(&oldest));
        }
    }

    pub(crate) fn unmark(&mut self, account: &Name, key: &HistoryKey, mark: Mark) {
        let key = row_key(account, key);
        if let Some(row) = self.rows.get_mut(&key) {
            row.remove(mark);
            if row.0.is_empty() {
                self.rows.remove(&key);
            }
        }
    }

    pub(super) fn marks(&self, asked: &Marks<'_>) -> Vec<Vec<Mark>> {
        let account: Name = asked.account.into();
        let row = |key| self.rows.get(&row_key(&account, key)).cloned();
        let rows = asked.keys.iter().map(|key| row(key).unwrap_or_default().0);
        rows.collect()
    }
}

impl ForgetSome {
    pub(super) fn apply_to_model(self, model: &mut ModelState) -> u64 {
        let model = &mut model.reputation;
        let account: Name = self.account.into();
        let count = model.count(&account).min(FORGOTTEN_AT_ONCE as u64);
        for _ in 0..count {
            let oldest = model.oldest(Some(&account), u64::MAX);
            oldest.and_then(|oldest| model.rows.remove(&oldest));
        }
        count
    }
}
