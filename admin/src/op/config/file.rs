//! Both files as texts: shown, checked, saved, and earlier texts of `domains.conf`.
//!
//! Each text of `domains.conf` that comes into force is kept in the store, [`CONFIG_VERSIONS_MAX`]
//! at most, whoever brought it: an operation, or somebody with an editor.
//!
//! [`CONFIG_VERSIONS_MAX`]: postrider_store::CONFIG_VERSIONS_MAX

use std::{fs, path::Path, sync::Arc};

use postrider_config::{
    Difference, Dynamic, Errors, HIDDEN, Static, differences, is_secret, masked, settings,
    toml_edit::DocumentMut,
};
use postrider_store::{ConfigVersion, ConfigVersionId};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::{sync::watch, task};
use tracing::warn;

use super::to_its_end;
use crate::{
    AdminError, Context,
    op::{Listed as _, Operation, Single, Sink, hex},
};

/// The most bytes of a text.
const TEXT_MAX: usize = 16 << 20;

/// A text of one of the files.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileText {
    /// The path of the file.
    pub path: String,
    /// The text. `****` stands for each secret if they are hidden.
    pub text: String,
    /// The hash of the text with its secrets, for [`DomainsSave`].
    pub hash: String,
    /// Whether the running server works with another text. For `postrider.conf`: the file waits
    /// for a restart. For `domains.conf`: the file was refused, or is not read yet.
    pub differs: bool,
    /// The keys and tables at the top of `postrider.conf` that wait for a restart.
    #[serde(default)]
    pub waiting: Vec<String>,
    /// Why a restart would fail, or why the file was refused.
    #[serde(default)]
    pub problems: Vec<Problem>,
}

/// Hides the text.
impl std::fmt::Debug for FileText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileText")
            .field("path", &self.path)
            .field("hash", &self.hash)
            .field("differs", &self.differs)
            .finish_non_exhaustive()
    }
}

/// The hash of a text: SHA-256 in hexadecimal. Line ends do not count, since an operation may
/// change them.
fn hash(text: &str) -> String {
    hex(Sha256::digest(text.replace("\r\n", "\n")))
}

fn read(path: &Path) -> Result<String, AdminError> {
    fs::read_to_string(path).map_err(|error| {
        let text = format!("failed to read {}: {error}", path.display());
        AdminError::internal(text)
    })
}

/// A text without its secrets.
fn hidden(text: &str) -> Result<String, AdminError> {
    masked(text).map_err(|error| {
        let text = format!("the file is no TOML, so its secrets can't be hidden: {error}");
        AdminError::invalid(text)
    })
}

/// Runs work that reads and checks files.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, AdminError> + Send + 'static,
) -> Result<T, AdminError> {
    let done = task::spawn_blocking(work).await;
    done.map_err(AdminError::internal)?
}

/// Shows `domains.conf`.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DomainsShow {
    /// With `****` in the place of secrets. Such a text can't be saved.
    pub hide_secrets: bool,
}

impl Single for DomainsShow {
    type Output = FileText;

    async fn answer(self, context: &Context) -> Result<FileText, AdminError> {
        let (domains, statics) = (Arc::clone(&context.domains), Arc::clone(&context.statics));
        aside(move || {
            let text = read(domains.path())?;
            let differs = domains.live().load().text() != text;
            let refused = match differs {
                true => Dynamic::parse(&text, domains.path(), &statics).err(),
                false => None,
            };
            Ok(FileText {
                path: domains.path().display().to_string(),
                hash: hash(&text),
                differs,
                waiting: Vec::new(),
                problems: refused.map_or_else(Vec::new, |errors| problems(&errors)),
                text: match self.hide_secrets {
                    true => hidden(&text)?,
                    false => text,
                },
            })
        })
        .await
    }
}

/// Shows `postrider.conf` without its secrets.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StaticShow {}

impl Single for StaticShow {
    type Output = FileText;

    async fn answer(self, context: &Context) -> Result<FileText, AdminError> {
        let statics = Arc::clone(&context.statics);
        aside(move || {
            let text = read(&statics.path)?;
            let now = Static::parse(&text, &statics.path);
            let (waiting, problems) = match &now {
                Ok(now) => (statics.differing(now), Vec::new()),
                Err(errors) => (Vec::new(), problems(errors)),
            };
            Ok(FileText {
                path: statics.path.display().to_string(),
                hash: hash(&text),
                differs: now.map_or(true, |now| now != *statics),
                waiting: waiting.into_iter().map(str::to_owned).collect(),
                problems,
                text: hidden(&text)?,
            })
        })
        .await
    }
}

/// A problem of a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The file: `domains.conf`, or one that it names.
    pub file: String,
    /// The line, from 1. 0: the whole file.
    pub line: usize,
    /// The column in characters, from 1. 0 with line 0.
    pub column: usize,
    /// The full key. Empty for an error of TOML.
    pub key: String,
    /// The sentence.
    pub message: String,
}

/// The change of one value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedValue {
    /// The full key.
    pub key: String,
    /// The value in force, `****` for a secret. None: there is none.
    pub before: Option<String>,
    /// The value in the text, `****` for a secret. None: there is none.
    pub after: Option<String>,
}

impl From<Difference> for ChangedValue {
    fn from(difference: Difference) -> Self {
        let Difference { key, before, after } = difference.without_secrets();
        Self { key, before, after }
    }
}

/// What a check of a text found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// All problems. With one of them the text can't be saved.
    pub problems: Vec<Problem>,
    /// What is allowed, and may be meant otherwise.
    pub warnings: Vec<String>,
    /// The values that are not as in the configuration in force.
    pub changes: Vec<ChangedValue>,
}

/// Checks a text as `domains.conf`. Nothing changes.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DomainsCheck {
    /// The text.
    pub text: String,
}

/// Hides the text.
impl std::fmt::Debug for DomainsCheck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DomainsCheck").finish_non_exhaustive()
    }
}

impl Single for DomainsCheck {
    type Output = Checked;

    async fn answer(self, context: &Context) -> Result<Checked, AdminError> {
        let (domains, statics) = (Arc::clone(&context.domains), Arc::clone(&context.statics));
        aside(move || {
            check_size(&self.text)?;
            let mut checked = Checked::default();
            match Dynamic::parse(&self.text, domains.path(), &statics) {
                Ok(config) => {
                    checked.warnings = config.warnings().to_vec();
                    checked
                        .problems
                        .extend(hidden_secret(&self.text, domains.path()));
                }
                Err(errors) => checked.problems = problems(&errors),
            }
            let flat = |text: &str| {
                text.parse()
                    .map(|document: DocumentMut| settings(&document))
            };
            if let (Ok(before), Ok(after)) = (flat(domains.live().load().text()), flat(&self.text))
            {
                let changes = differences(&before, &after).into_iter();
                checked.changes = changes.map(ChangedValue::from).collect();
            }
            Ok(checked)
        })
        .await
    }
}

fn check_size(text: &str) -> Result<(), AdminError> {
    match text.len() <= TEXT_MAX {
        true => Ok(()),
        false => {
            let text = format!("the text is longer than {TEXT_MAX} bytes");
            Err(AdminError::invalid(text).at("text"))
        }
    }
}

fn problems(errors: &Errors) -> Vec<Problem> {
    let problem = |error: &postrider_config::ConfigError| Problem {
        file: error.file.display().to_string(),
        line: error.line,
        column: error.column,
        key: error.key.clone(),
        message: error.message.clone(),
    };
    errors.iter().map(problem).collect()
}

/// The problem of a text that was shown with hidden secrets.
fn hidden_secret(text: &str, path: &Path) -> Option<Problem> {
    let document: DocumentMut = text.parse().ok()?;
    let all = settings(&document);
    let mut hidden = all
        .iter()
        .filter(|(key, value)| is_secret(key) && *value == HIDDEN);
    hidden.next().map(|(key, _)| Problem {
        file: path.display().to_string(),
        line: 0,
        column: 0,
        key: key.clone(),
        message: format!("the secret is {HIDDEN}, as where it is hidden"),
    })
}

/// Saves a text as `domains.conf`, and puts it in force.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DomainsSave {
    /// The text.
    pub text: String,
    /// The hash of the text that was edited, from [`DomainsShow`].
    pub hash: String,
}

/// Hides the text.
impl std::fmt::Debug for DomainsSave {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DomainsSave")
            .field("hash", &self.hash)
            .finish_non_exhaustive()
    }
}

/// What became of `domains.conf`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// The hash of the text that is in force now.
    pub hash: String,
    /// The values that changed.
    pub changes: Vec<ChangedValue>,
}

impl Single for DomainsSave {
    type Output = Saved;

    async fn answer(self, context: &Context) -> Result<Saved, AdminError> {
        save(
            context,
            Self::NAME,
            "domains.conf",
            self.text,
            Some(self.hash),
        )
        .await
    }
}

/// Puts a text in the place of `domains.conf`, as all operations change it. `edited` is the hash of
/// the text that it was made from; None: whatever stands there is replaced.
async fn save(
    context: &Context,
    operation: &'static str,
    target: &'static str,
    text: String,
    edited: Option<String>,
) -> Result<Saved, AdminError> {
    let path = context.domains.path().to_owned();
    let change = move |document: &mut DocumentMut| {
        let is_edited = |edited: &String| *edited == hash(&document.to_string());
        if !edited.as_ref().is_none_or(is_edited) {
            let text = "the file has changed since it was read; look at the change, and edit again";
            return Err(AdminError::conflict(text).at("hash"));
        }
        check_size(&text)?;
        if let Some(problem) = hidden_secret(&text, &path) {
            let text = format!("{}: {}", problem.key, problem.message);
            return Err(AdminError::invalid(text).at("text"));
        }
        *document = text
            .parse::<DocumentMut>()
            .map_err(|error| AdminError::invalid(error).at("text"))?;
        Ok(())
    };
    let context = context.clone();
    let work = async move { context.change_domains(operation, target, change).await };
    let changed = to_its_end(work).await.map_err(|error| match error.field {
        // What the check of the whole text found.
        None if error.code == crate::Code::Invalid => error.at("text"),
        _ => error,
    })?;
    Ok(Saved {
        hash: hash(changed.after.text()),
        changes: changed.differences.into_iter().map(Into::into).collect(),
    })
}

/// A version of `domains.conf`. The time is RFC 3339.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionItem {
    /// The number.
    pub id: u64,
    /// When it came into force.
    pub time: String,
    /// Who changed the file. Empty: somebody with an editor.
    pub who: String,
    /// The operation and what it changed. Empty: somebody with an editor.
    pub what: String,
    /// The hash of the text.
    pub hash: String,
    /// The bytes of the text.
    pub size: usize,
    /// Whether the text is in force now.
    pub in_force: bool,
}

/// Lists the versions of `domains.conf` that are kept, newest first.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DomainsVersions {}

impl Operation for DomainsVersions {
    type Item = VersionItem;

    async fn run(
        self,
        context: &Context,
        items: &mut impl Sink<VersionItem>,
    ) -> Result<(), AdminError> {
        let in_force = hash(context.config.load().text());
        let versions = context.store.config_versions().await?;
        let item = |version: ConfigVersion| VersionItem {
            id: version.id.0,
            time: version.time.to_string(),
            who: version.who,
            what: version.what,
            size: version.text.len(),
            in_force: version.hash == in_force,
            hash: version.hash,
        };
        items
            .send(versions.into_iter().rev().map(item).collect())
            .await
    }
}

async fn version(context: &Context, id: u64) -> Result<ConfigVersion, AdminError> {
    let found = context.store.config_version(ConfigVersionId(id)).await?;
    found.ok_or_else(|| {
        let text = format!("there is no version {id} any more");
        AdminError::not_found(text).at("id")
    })
}

/// Shows a version of `domains.conf`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DomainsVersion {
    /// The number.
    pub id: u64,
    /// With `****` in the place of secrets.
    #[serde(default)]
    pub hide_secrets: bool,
}

impl Single for DomainsVersion {
    type Output = FileText;

    async fn answer(self, context: &Context) -> Result<FileText, AdminError> {
        let version = version(context, self.id).await?;
        Ok(FileText {
            path: context.domains.path().display().to_string(),
            differs: context.config.load().text() != version.text,
            waiting: Vec::new(),
            problems: Vec::new(),
            text: match self.hide_secrets {
                true => hidden(&version.text)?,
                false => version.text,
            },
            hash: version.hash,
        })
    }
}

/// Puts a version of `domains.conf` in force again.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DomainsRestore {
    /// The number.
    pub id: u64,
    /// The hash of the text that it replaces, from [`DomainsShow`]; None: whatever stands there.
    #[serde(default)]
    pub hash: Option<String>,
}

impl Single for DomainsRestore {
    type Output = Saved;

    async fn answer(self, context: &Context) -> Result<Saved, AdminError> {
        let version = match version(context, self.id).await {
            Ok(version) => version,
            Err(error) => {
                let refused = Err(error);
                return context
                    .record(Self::NAME, "domains.conf", &self.id, refused)
                    .await;
            }
        };
        save(context, Self::NAME, "domains.conf", version.text, self.hash).await
    }
}

impl Context {
    /// Keeps the text of a configuration that came into force. `what` names the operation; empty:
    /// somebody used an editor. A store that fails is told to the log only: the text is in force.
    pub(crate) async fn keep_version(&self, config: &Dynamic, what: &str) {
        let version = ConfigVersion {
            time: self.clock.now(),
            who: match what {
                "" => String::new(),
                _ => self.caller.name.clone(),
            },
            what: what.to_owned(),
            hash: hash(config.text()),
            text: config.text().to_owned(),
            ..ConfigVersion::default()
        };
        if let Err(error) = self.store.keep_config_version(version).await {
            warn!(%error, what, "the version of domains.conf not kept");
        }
    }
}

/// Keeps the text in force, and each text that comes into force, until `stop` is true. Operations
/// keep theirs themselves, with a name; this is for those of editors.
pub async fn keep_versions(context: Context, mut stop: watch::Receiver<bool>) {
    let mut applied = context.domains.applied();
    loop {
        applied.mark_unchanged();
        let config = context.config.load_full();
        context.keep_version(&config, "").await;
        tokio::select! {
            changed = applied.changed() => if changed.is_err() { return },
            _ = stop.wait_for(|stops| *stops) => return,
        }
    }
}
