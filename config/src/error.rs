//! What is wrong with a configuration, all of it at once.

use std::{
    fmt,
    path::{Path, PathBuf},
};

/// One problem: where it is, and in a sentence what it is and what to do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConfigError {
    /// The file as it was named.
    pub file: PathBuf,
    /// Line from 1; 0 when the whole file is meant (it cannot be read).
    pub line: usize,
    /// Column in characters from 1; 0 with line 0.
    pub column: usize,
    /// The full key, such as `accounts.alice.domain`; empty for a syntax error.
    pub key: String,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.message)
    }
}

/// All problems of a configuration, in the order of the file; never empty. Displays as one line for each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Errors(Vec<ConfigError>);

impl Errors {
    /// Sorts by file and place, and drops what was found twice. `None` when there is nothing wrong.
    pub(crate) fn new(mut problems: Vec<ConfigError>) -> Option<Self> {
        problems.sort();
        problems.dedup();
        (!problems.is_empty()).then_some(Self(problems))
    }

    /// A file that could not be read at all.
    pub(crate) fn unreadable(file: &Path, error: &std::io::Error) -> Self {
        let hint = match error.kind() {
            std::io::ErrorKind::NotFound => {
                "; name the right file (--config FILE or POSTRIDER_CONF), or make one"
            }
            std::io::ErrorKind::PermissionDenied => "; let the server's user read it",
            _ => "",
        };
        Self(vec![ConfigError {
            file: file.to_owned(),
            line: 0,
            column: 0,
            key: String::new(),
            message: format!("cannot be read: {error}{hint}"),
        }])
    }

    /// The problems.
    pub fn iter(&self) -> std::slice::Iter<'_, ConfigError> {
        self.0.iter()
    }

    /// How many there are.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub const fn len(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl IntoIterator for Errors {
    type Item = ConfigError;
    type IntoIter = std::vec::IntoIter<ConfigError>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Errors {
    type Item = &'a ConfigError;
    type IntoIter = std::slice::Iter<'a, ConfigError>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}
