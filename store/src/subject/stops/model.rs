//! Stops in the model.

use super::{RESTORED_IDS, Restored, Set, Stops};
use crate::subject::{ModelPart, ModelState};

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) stops: Stops,
}

impl ModelPart for Model {}

impl Set {
    pub(super) fn apply_to_model(self, model: &mut ModelState) -> bool {
        model.stops.stops.set(self.work, self.since)
    }
}

impl Restored {
    pub(super) fn apply_to_model(self, model: &mut ModelState) {
        model.skip_ids(RESTORED_IDS);
        model.stops.stops.set_all(self.now);
        model.mail_tokens.end_all();
        model.web_sessions.end_all();
    }
}
