//! Versions of `domains.conf` in the model.

use super::{CONFIG_VERSIONS_MAX, ConfigVersion, ConfigVersionId, KeepVersion, Newest};
use crate::subject::{ModelPart, ModelState, next};

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    last: u64,
    versions: Vec<ConfigVersion>,
}

impl ModelPart for Model {
    fn skip_ids(&mut self, by: u64) {
        self.last = self.last.saturating_add(by);
    }
}

impl Model {
    pub(super) fn one(&self, id: ConfigVersionId) -> Option<ConfigVersion> {
        self.versions.iter().find(|it| it.id == id).cloned()
    }

    pub(super) fn newest(&self) -> Option<&ConfigVersion> {
        self.versions.last()
    }

    pub(super) fn all(&self) -> Vec<ConfigVersion> {
        self.versions.clone()
    }
}

impl KeepVersion {
    pub(super) fn apply_to_model(self, model: &mut ModelState) -> bool {
        let model = &mut model.config_versions;
        match Newest::of(model.newest().cloned(), &self.0) {
            Newest::Same => return false,
            Newest::Named(version) => {
                model.versions.pop();
                model.versions.push(version);
                return false;
            }
            Newest::Older => {}
        }
        let id = ConfigVersionId(next(&mut model.last));
        model.versions.push(ConfigVersion { id, ..self.0 });
        let over = model.versions.len().saturating_sub(CONFIG_VERSIONS_MAX);
        model.versions.drain(..over);
        true
    }
}
