//! The last texts of `domains.conf` that were in force.

#[cfg(any(test, feature = "memory"))]
pub(crate) mod model;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use super::{State, next};
use crate::{
    Order, Store, StoreError, Time,
    error::Fault,
    id::ids,
    table::{Table, tables, value::records, values},
};

ids! {
    /// A version of the file.
    ConfigVersionId,
}

/// How many versions are kept. When one more comes, the oldest goes.
pub const CONFIG_VERSIONS_MAX: usize = 20;

/// A text of the file that was in force.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigVersion {
    /// The number. The store gives it.
    pub id: ConfigVersionId,
    /// When it came into force.
    pub time: Time,
    /// Who changed the file: a login, the name of a key or a system user. Empty: somebody with an
    /// editor.
    pub who: String,
    /// The operation and what it changed. Empty: somebody with an editor.
    pub what: String,
    /// What the caller knows the text by.
    pub hash: String,
    /// The text, with its secrets.
    pub text: String,
}

/// Hides the text.
impl std::fmt::Debug for ConfigVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConfigVersion")
            .field("id", &self.id)
            .field("time", &self.time)
            .field("who", &self.who)
            .field("what", &self.what)
            .field("hash", &self.hash)
            .finish_non_exhaustive()
    }
}

impl ConfigVersion {
    /// Whether the same text tells nothing new. `named`: it is known who brings it.
    fn has_all_of(&self, hash: &str, named: bool) -> bool {
        self.hash == hash && !(named && self.what.is_empty())
    }
}

/// What becomes of the newest version when a text comes into force.
enum Newest {
    /// It stays, and the text is another one.
    Older,
    /// It is the same text.
    Same,
    /// It is the same text, and now it is known who brought it.
    Named(ConfigVersion),
}

impl Newest {
    fn of(newest: Option<ConfigVersion>, new: &ConfigVersion) -> Self {
        match newest {
            Some(newest) if newest.has_all_of(&new.hash, !new.what.is_empty()) => Self::Same,
            Some(newest) if newest.hash == new.hash => Self::Named(ConfigVersion {
                who: new.who.clone(),
                what: new.what.clone(),
                ..newest
            }),
            _ => Self::Older,
        }
    }
}

/// Numbers that are kept with the tables.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Counters {
    last: u64,
}

records! {
    ConfigVersion: version 1,
}

tables! {
    /// The versions.
    counters: Counters,
    versions: Table<ConfigVersionId, ConfigVersion> = Table::new("config_versions"),
}

impl Tables {
    fn newest(&self) -> Result<Option<ConfigVersion>, Fault> {
        let mut newest_first = self.versions.scan(None, None, Order::Descending)?;
        let newest = newest_first.next().transpose()?;
        Ok(newest.map(|(_, version)| version))
    }
}

subject!(
    counters Counters, keys 1,
    fn skip_ids(&mut self, by: u64) {
        self.counters.last = self.counters.last.saturating_add(by);
    }
);

operations! {
    ConfigVersions, version 1:
    KeepVersion -> bool, Ordinary;
}

/// Keeps a text.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct KeepVersion(ConfigVersion);

impl KeepVersion {
    fn apply(self, state: &mut State) -> Result<bool, Fault> {
        let tables = &mut state.config_versions;
        match Newest::of(tables.newest()?, &self.0) {
            Newest::Same => return Ok(false),
            Newest::Named(version) => {
                tables.versions.put(version.id, version);
                return Ok(false);
            }
            Newest::Older => {}
        }
        let versions = &mut tables.versions;
        let kept = versions.all()?;
        let id = ConfigVersionId(next(&mut tables.counters.last));
        versions.put_new(id, ConfigVersion { id, ..self.0 });
        let over = (kept.len() + 1).saturating_sub(CONFIG_VERSIONS_MAX);
        for (id, _) in kept.iter().take(over) {
            versions.remove(id);
        }
        Ok(true)
    }
}

questions! {
    /// Whether a text with this hash is the newest version already. `named`: it is known who
    /// brings it.
    ask IsNewest<'a> { hash: &'a str, named: bool } -> bool,
    |this, state| {
        let newest = state.config_versions.newest()?;
        Ok(newest.is_some_and(|newest| newest.has_all_of(this.hash, this.named)))
    },
    |this, model| {
        let newest = model.config_versions.newest();
        newest.is_some_and(|newest| newest.has_all_of(this.hash, this.named))
    };

    ask One { id: ConfigVersionId } -> Option<ConfigVersion>,
    |this, state| state.config_versions.versions.get(&this.id),
    |this, model| model.config_versions.one(this.id);

    scan AllVersions {} -> Vec<ConfigVersion>,
    |_this, reader| Ok(values(reader.state()?.config_versions.versions.all()?)),
    |_this, model| model.config_versions.all();
}

impl Store {
    /// Keeps a text of `domains.conf` that came into force. False: the newest version has the same
    /// hash. If nobody knows yet who brought that one, `version` says so.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn keep_config_version(&self, version: ConfigVersion) -> Result<bool, StoreError> {
        // A text may be long, so the journal gets none that is known.
        let is_newest = IsNewest {
            hash: &version.hash,
            named: !version.what.is_empty(),
        };
        if self.ask(is_newest).await? {
            return Ok(false);
        }
        self.change_by(KeepVersion(version)).await
    }

    /// The version with this number.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn config_version(
        &self,
        id: ConfigVersionId,
    ) -> Result<Option<ConfigVersion>, StoreError> {
        self.ask(One { id }).await
    }

    /// The versions that are kept, oldest first.
    ///
    /// # Errors
    /// If they can't be read.
    pub async fn config_versions(&self) -> Result<Vec<ConfigVersion>, StoreError> {
        self.scan(AllVersions {}).await
    }
}

#[cfg(test)]
pub(crate) fn samples() -> Vec<Op> {
    vec![Op::KeepVersion(KeepVersion(tests::version("a", "ann")))]
}
