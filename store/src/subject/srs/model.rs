//! Sender rewriting in the model.

use std::collections::BTreeMap;

use super::{Keep, Rotate, SRS_SENDERS_MAX, SrsKey, SrsSender};
use crate::{
    Time,
    subject::{ModelPart, ModelState},
};

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    /// The newest first.
    pub(crate) secrets: Vec<SrsKey>,
    pub(crate) senders: BTreeMap<String, SrsSender>,
}

impl Model {
    /// The names by the time until which they are kept.
    fn ends(&self) -> Vec<(Time, String)> {
        let senders = self.senders.iter();
        let mut ends: Vec<_> = senders
            .map(|(name, sender)| (sender.keep_until, name.clone()))
            .collect();
        ends.sort();
        ends
    }
}

impl ModelPart for Model {
    fn sweep(&mut self, now: Time, max: u64) -> u64 {
        let old = self.ends().into_iter().filter(|(end, _)| *end <= now);
        let old: Vec<_> = old
            .take(usize::try_from(max).unwrap_or(usize::MAX))
            .collect();
        for (_, name) in &old {
            self.senders.remove(name);
        }
        old.len() as u64
    }
}

impl Rotate {
    pub(super) fn apply_to_model(self, model: &mut ModelState) {
        let secrets = &mut model.srs.secrets;
        if secrets.first().is_none_or(|key| key.since < self.before) {
            secrets.insert(0, self.key);
            secrets.truncate(2);
        }
    }
}

impl Keep {
    pub(super) fn apply_to_model(self, model: &mut ModelState) {
        let model = &mut model.srs;
        model.senders.remove(&self.name);
        if model.senders.len() as u64 >= SRS_SENDERS_MAX
            && let Some((_, first)) = model.ends().into_iter().next()
        {
            model.senders.remove(&first);
        }
        model.senders.insert(self.name, self.sender);
    }
}
