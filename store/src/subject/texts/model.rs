//! Texts in the model.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::TextId;
use crate::{
    NewText, StoreError,
    subject::{Applied, ModelPart, ModelState, next},
};

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) last: u64,
    pub(crate) texts: BTreeMap<TextId, Bytes>,
    pub(crate) staged: BTreeSet<TextId>,
}

impl ModelPart for Model {
    fn uses(&self, text: TextId) -> bool {
        self.staged.contains(&text)
    }
}

impl Model {
    /// Stores a text.
    pub(crate) fn add(&mut self, text: NewText) -> Result<TextId, StoreError> {
        match text {
            NewText::File(_) => Err(StoreError::Invalid("a file of another store")),
            NewText::Inline(text) => {
                let id = TextId(next(&mut self.last));
                self.texts.insert(id, text);
                Ok(id)
            }
        }
    }
}

impl ModelState {
    /// Drops a text if no record refers to it.
    pub(crate) fn drop_unused(&mut self, text: TextId) {
        if !self.uses(text) {
            self.texts.texts.remove(&text);
        }
    }

    pub(super) fn stage(&mut self, text: Option<NewText>) -> Applied {
        let Some(text) = text else {
            return Applied::Refused(StoreError::Invalid("no text to stage"));
        };
        match self.texts.add(text) {
            Ok(id) => {
                self.texts.staged.insert(id);
                Applied::Number(id.0)
            }
            Err(error) => Applied::Refused(error),
        }
    }

    pub(crate) fn unstage(&mut self, id: TextId) {
        if self.texts.staged.remove(&id) {
            self.drop_unused(id);
        }
    }
}
