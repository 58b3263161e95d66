//! The fate of each setting of the other server.

use std::{
    fmt,
    path::{Path, PathBuf},
};

/// The fate of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// It is in our files with the same meaning.
    Taken,
    /// It is in our files, but not with quite the same meaning.
    Changed,
    /// We have nothing for it.
    NoCounterpart,
}

impl Fate {
    /// All fates, in the order in which people read them.
    pub const ALL: [Self; 3] = [Self::Taken, Self::Changed, Self::NoCounterpart];
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Taken => "taken",
            Self::Changed => "changed",
            Self::NoCounterpart => "no counterpart",
        })
    }
}

/// A sentence about a setting.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Note {
    /// The file that has the setting.
    pub file: PathBuf,
    /// The line, from 1. 0 means the whole file.
    pub line: usize,
    /// Its fate.
    pub fate: Fate,
    /// The name of the setting. It may be empty.
    pub key: String,
    /// Our key, or a sentence.
    pub text: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        match self.key.as_str() {
            "" => write!(f, ": {}", self.text),
            key => write!(f, ": {key}: {}", self.text),
        }
    }
}

/// The notes so far.
#[derive(Debug, Default)]
pub(super) struct Notes(Vec<Note>);

impl Notes {
    pub(super) fn add(
        &mut self,
        fate: Fate,
        (file, line): (&Path, usize),
        key: impl Into<String>,
        text: impl Into<String>,
    ) {
        self.0.push(Note {
            file: file.to_owned(),
            line,
            fate,
            key: key.into(),
            text: text.into(),
        });
    }

    /// All notes, by file and line.
    pub(super) fn finish(mut self) -> Vec<Note> {
        self.0.sort();
        self.0.dedup();
        self.0
    }
}
