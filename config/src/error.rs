//! The problems of a configuration.

use std::{
    fmt,
    path::{Path, PathBuf},
};

/// A problem: its place, and a sentence that says what is wrong and what to do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConfigError {
    /// The file, as the user named it.
    pub file: PathBuf,
    /// The line, from 1. 0 means the whole file (it cannot be read).
    pub line: usize,
    /// The column in characters, from 1. 0 with line 0.
    pub column: usize,
    /// The full key, such as `accounts.alice.domain`. Empty for a syntax error.
    pub key: String,
    /// The sentence.
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

/// All problems of a configuration, in the order of the file, never empty. The text has one line
/// per problem.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Errors(Vec<ConfigError>);

impl Errors {
    /// Sorts the problems by file and place, and removes duplicates. None if there is no problem.
    pub(crate) fn new(mut problems: Vec<ConfigError>) -> Option<Self> {
        problems.sort();
        problems.dedup();
        (!problems.is_empty()).then_some(Self(problems))
    }

    /// One problem.
    pub(crate) fn one(problem: ConfigError) -> Self {
        Self(vec![problem])
    }

    /// The error for a file that could not be read.
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

    /// The problems of both, first these.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// The problems.
    pub fn iter(&self) -> std::slice::Iter<'_, ConfigError> {
        self.0.iter()
    }

    /// The number of problems.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "there is always at least one")]
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
