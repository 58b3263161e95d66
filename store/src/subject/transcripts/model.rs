//! Transcripts in the model. It remembers all, and shows those of messages that are there.

use std::collections::BTreeMap;

use super::{KeepTranscripts, TRANSCRIPTS_MAX, Transcript};
use crate::{
    QueueId,
    subject::{ModelPart, ModelState, queue},
};

#[derive(Clone, Debug, Default)]
pub(crate) struct Model(BTreeMap<QueueId, Vec<Transcript>>);

impl ModelPart for Model {}

impl Model {
    pub(crate) fn of(&self, queue: &queue::model::Model, id: QueueId) -> Vec<Transcript> {
        let all = self.0.get(&id).filter(|_| queue.has(id));
        let all = all.map(Vec::as_slice).unwrap_or_default();
        let last = all.len().saturating_sub(TRANSCRIPTS_MAX);
        all.get(last..).unwrap_or_default().to_vec()
    }
}

impl KeepTranscripts {
    pub(super) fn apply_to_model(self, model: &mut ModelState) {
        for (id, transcript) in self.all {
            if model.queue.has(id) {
                let all = model.transcripts.0.entry(id).or_default();
                all.push(transcript.cut());
            }
        }
    }
}
