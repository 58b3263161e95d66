//! The greylist in the model.

use std::collections::BTreeMap;

use super::{Row, SetSecret, Try, changed};
use crate::{
    Time,
    subject::{ModelPart, ModelState},
};

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(super) secret: Option<[u8; 16]>,
    rows: BTreeMap<u64, Row>,
}

impl ModelPart for Model {
    fn sweep(&mut self, now: Time, max: u64) -> u64 {
        let over = self.rows.values().filter(|row| row.until <= now).count();
        self.remove_first(max.min(over as u64))
    }
}

impl Model {
    pub(super) fn row(&self, hash: u64) -> Option<Row> {
        self.rows.get(&hash).copied()
    }

    fn remove_first(&mut self, count: u64) -> u64 {
        for _ in 0..count {
            let first = self
                .rows
                .iter()
                .min_by_key(|(hash, row)| (row.until, **hash));
            if let Some(hash) = first.map(|(hash, _)| *hash) {
                self.rows.remove(&hash);
            }
        }
        count
    }
}

impl Try {
    pub(super) fn apply_to_model(self, model: &mut ModelState) -> bool {
        let model = &mut model.greylist;
        let (sender, network) = (model.row(self.0.sender), model.row(self.0.network));
        let (passes, rows) = changed(self.0, sender, network);
        model.rows.extend(rows);
        let over = (model.rows.len() as u64).saturating_sub(self.0.max_rows);
        model.remove_first(over);
        passes
    }
}

impl SetSecret {
    pub(super) fn apply_to_model(self, model: &mut ModelState) {
        model.greylist.secret.get_or_insert(self.0);
    }
}
