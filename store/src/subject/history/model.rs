//! The end of the history's records in the model.

use super::Expire;
use crate::subject::{ModelPart, ModelState};

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {}

impl ModelPart for Model {}

impl Expire {
    pub(super) fn apply_to_model(self, model: &mut ModelState) -> u64 {
        let mut over = model.history();
        over.retain(|(until, ..)| *until <= self.now);
        over.sort_unstable();
        over.truncate(usize::try_from(self.max).unwrap_or(usize::MAX));
        for (_, tag, number) in &over {
            model.forget(*tag, *number);
            model.drop_forgotten();
            model.drop_forgotten_texts();
        }
        let removed = over.len() as u64;
        removed + model.sweep(self.now, self.max - removed)
    }
}
