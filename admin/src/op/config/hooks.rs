//! Hooks and milters of another server, added to `postrider.conf`.
//!
//! The change has the same lock as changes of `domains.conf`, so two commands never write into the
//! folder of the configuration at once. It takes effect at the next start.

use std::{
    fmt,
    path::{Component, Path},
    sync::Arc,
};

use postrider_config::import::{Fragment, PrivateFile, WriteError};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::to_its_end;
use crate::{
    AdminError, Context,
    op::{Listed as _, Single},
};

/// The folder for the files, beside `postrider.conf`.
const FOLDER: &str = "hooks";
/// The name of the file that changes, in the audit log.
const FILE: &str = "postrider.conf";

/// A file with the secret of a hook.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretFile {
    /// The path, relative to the folder of `postrider.conf`: `hooks/NAME`.
    pub path: String,
    /// The content.
    pub content: String,
}

/// Hides the content.
impl fmt::Debug for SecretFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)
    }
}

/// Adds tables of hooks and milters to the end of `postrider.conf`, and writes the files with their
/// secrets. A table or a file of the same name is never replaced.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Import {
    /// The tables.
    pub text: String,
    /// The files.
    pub files: Vec<SecretFile>,
}

/// Hides the text, since header fields of hooks may be secrets.
impl fmt::Debug for Import {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Import");
        out.field("files", &self.files).finish_non_exhaustive()
    }
}

impl Single for Import {
    type Output = ();

    async fn answer(self, context: &Context) -> Result<(), AdminError> {
        let context = context.clone();
        to_its_end(async move { self.make(&context).await }).await
    }
}

impl Import {
    async fn make(self, context: &Context) -> Result<(), AdminError> {
        let fragment = match self.fragment() {
            Ok(fragment) => fragment,
            Err(error) => {
                return context.record(Self::NAME, FILE, &(), Err(error)).await;
            }
        };
        let added = json!({"added": fragment.names()});
        let (file, conf) = (Arc::clone(&context.domains), context.statics.path.clone());
        let write = move || match file.alone(|| fragment.write(&conf)) {
            Ok(written) => written.map_err(AdminError::from),
            Err(error) => Err(AdminError::internal(format!(
                "failed to lock {}: {error}",
                file.path().display()
            ))),
        };
        let written = tokio::task::spawn_blocking(write).await;
        let written = written.map_err(AdminError::internal).flatten();
        context.record(Self::NAME, FILE, &added, written).await
    }

    fn fragment(self) -> Result<Fragment, AdminError> {
        let file = |file: SecretFile| match is_in_folder(&file.path) {
            true => Ok(PrivateFile {
                path: file.path.into(),
                content: file.content.into_bytes(),
            }),
            false => {
                let text = format!("{:?} is not a file in the folder {FOLDER}", file.path);
                Err(AdminError::invalid(text).at("files"))
            }
        };
        Ok(Fragment {
            text: self.text,
            files: self.files.into_iter().map(file).collect::<Result<_, _>>()?,
            notes: Vec::new(),
        })
    }
}

/// Whether a path is `hooks/NAME`.
fn is_in_folder(path: &str) -> bool {
    let mut parts = Path::new(path).components();
    let folder = parts.next() == Some(Component::Normal(FOLDER.as_ref()));
    folder && matches!(parts.next(), Some(Component::Normal(_))) && parts.next().is_none()
}

impl From<WriteError> for AdminError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Exists(_) | WriteError::Defined { .. } => Self::conflict(error),
            WriteError::Invalid(_) => Self::invalid(error),
            WriteError::Changed(_) | WriteError::Io { .. } => Self::internal(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_in_their_folder_and_secrets_are_hidden() {
        for (path, expected) in [
            ("hooks/a.secret", true),
            ("hooks/./a.secret", true),
            ("hooks", false),
            ("hooks/..", false),
            ("hooks/../a", false),
            ("hooks/a/b", false),
            ("dkim/a", false),
            ("/hooks/a", false),
            ("", false),
        ] {
            let import = Import {
                text: "[hooks.a]".to_owned(),
                files: vec![SecretFile {
                    path: path.to_owned(),
                    content: "a secret".to_owned(),
                }],
            };
            let shown = format!("{import:?}");
            assert!(!shown.contains("a secret"), "{shown}");
            assert_eq!(import.fragment().is_ok(), expected, "{path}");
        }
    }
}
