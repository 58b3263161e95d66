//! `domains.conf` of a server: its content in force, and changes by programs.
//!
//! Two kinds of writers change the file. Operations change it through [`DomainsFile::change`], one
//! after the other. People save it with an editor, and nothing keeps them waiting. No change is
//! lost:
//!
//! | what happens | outcome |
//! |---|---|
//! | an editor saves while an operation works | the operation begins anew on the saved file |
//! | an editor saved, and an operation follows before the server has read the file | the operation works on the saved file, and both changes come into force |
//! | the saved file has errors | the operation is refused with the errors |
//! | an operation changes the file while it is open in an editor, and the editor saves the old content | the saved file is refused once: it takes back the operation. To save it again confirms it |

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};
use toml_edit::DocumentMut;

use crate::{
    Live,
    dynamics::Dynamic,
    error::{ConfigError, Errors},
    file::{beside, replace_if},
    last_good::keep_good,
    reader::read_text,
    settings::{Difference, Settings, differences, settings},
    statics::Static,
};

/// How long the change of an operation is guarded against an editor with an older copy.
const GUARDED: Duration = Duration::from_secs(60 * 60);
/// The most guarded changes. The oldest give way.
const GUARDED_MAX: usize = 1000;
/// How often a change begins anew because an editor saved meanwhile.
const TRIES: usize = 10;

/// Why a change was not made. The file is as before.
#[derive(Debug, thiserror::Error)]
pub enum EditError<E> {
    /// The change is not possible.
    #[error("{0}")]
    Change(E),
    /// The file has errors, or the changed one would have.
    #[error("{0}")]
    Invalid(Errors),
    /// The file could not be read or written.
    #[error("failed to change {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

/// A change that was made.
#[derive(Clone, Debug)]
pub struct Changed<T> {
    /// The result of the function that changed the document.
    pub result: T,
    /// The configuration before the change.
    pub before: Arc<Dynamic>,
    /// The configuration after the change.
    pub after: Arc<Dynamic>,
    /// The values that changed, without secrets.
    pub differences: Vec<Difference>,
}

/// A change by an operation that an editor with an older copy would take back.
#[derive(Debug)]
struct Guarded {
    at: Instant,
    /// The operation, for the error.
    what: String,
    differences: Vec<Difference>,
}

/// A saved file that was refused.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Refused {
    text: String,
    stamp: Option<Stamp>,
    /// The reasons.
    pub(crate) errors: Errors,
}

impl Refused {
    /// Whether this file was refused because it takes a change back, and the same text was saved
    /// once more.
    fn is_saved_again(&self, text: &str, stamp: Option<Stamp>) -> bool {
        let takes_back = self.errors.iter().any(|error| error.key == TAKES_BACK);
        takes_back && self.text == text && self.stamp != stamp
    }
}

/// Tells one saving of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    seconds: i64,
    nanoseconds: i64,
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            inode: metadata.ino(),
            seconds: metadata.mtime(),
            nanoseconds: metadata.mtime_nsec(),
        })
    }
}

/// `domains.conf` of a server: its path, its content in force, and the way to change it.
#[derive(Debug)]
pub struct DomainsFile {
    path: PathBuf,
    statics: Arc<Static>,
    live: Live,
    /// One change at a time in this process. The lock file is for other processes.
    guarded: Mutex<Vec<Guarded>>,
    /// Changes when a configuration was put in force.
    applied: watch::Sender<()>,
}

impl DomainsFile {
    /// The file that `live` was read from.
    #[must_use]
    pub fn new(path: PathBuf, statics: Arc<Static>, live: Live) -> Self {
        Self {
            path,
            statics,
            live,
            guarded: Mutex::new(Vec::new()),
            applied: watch::Sender::new(()),
        }
    }

    /// Changes when another configuration was put in force.
    #[must_use]
    pub fn applied(&self) -> watch::Receiver<()> {
        self.applied.subscribe()
    }

    fn apply(&self, config: &Arc<Dynamic>) {
        self.keep(config);
        self.live.store(Arc::clone(config));
        self.applied.send_replace(());
    }

    /// The path, as the server was given it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The static configuration that the file belongs to.
    #[must_use]
    pub const fn statics(&self) -> &Arc<Static> {
        &self.statics
    }

    /// The configuration in force.
    #[must_use]
    pub const fn live(&self) -> &Live {
        &self.live
    }

    /// Changes the document with a function, checks the whole result, replaces the file, and puts
    /// the result in force. Comments and order stay. `what` names the operation.
    ///
    /// There is one writer at a time. A second writer, also in another process, waits for the
    /// first. The function runs again if an editor saves the file meanwhile. This method blocks. An
    /// async caller uses `spawn_blocking`.
    ///
    /// # Errors
    /// If the function refuses, the file or the result is not valid, or the disk fails. Then
    /// nothing changes.
    pub fn change<T, E>(
        &self,
        what: &str,
        change: impl Fn(&mut DocumentMut) -> Result<T, E>,
    ) -> Result<Changed<T>, EditError<E>> {
        let failed = |source| EditError::Io {
            path: self.path.clone(),
            source,
        };
        let mut guarded = self.guarded();
        // Follow links, so that the link stays and the file behind it changes.
        let target = fs::canonicalize(&self.path).map_err(failed)?;
        let _lock = lock(&target).map_err(failed)?;
        for _ in 0..TRIES {
            let old = read_text(&self.path).map_err(EditError::Invalid)?;
            let before = self.base(&old, &guarded).map_err(EditError::Invalid)?;
            let mut document = self.document(&old)?;
            let old_settings = settings(&document);
            let result = change(&mut document).map_err(EditError::Change)?;
            let new = document.to_string();
            let config = Dynamic::parse(&new, &self.path, &self.statics);
            let after = Arc::new(config.map_err(EditError::Invalid)?);
            let differences = differences(&old_settings, &settings(&document));
            let written = new == old
                || replace_if(&target, old.as_bytes(), new.as_bytes()).map_err(failed)?;
            if !written {
                continue;
            }
            self.apply(&after);
            guard(&mut guarded, what, &differences);
            let differences = differences.into_iter();
            return Ok(Changed {
                result,
                before,
                after,
                differences: differences.map(Difference::without_secrets).collect(),
            });
        }
        Err(failed(io::Error::other(
            "an editor saves the file again and again; try again later",
        )))
    }

    /// Does work on other files in the folder of the configuration, while no operation changes the
    /// file, also in another process. This method blocks.
    ///
    /// # Errors
    /// If the lock can't be had. Then the work was not done.
    pub fn alone<T>(&self, work: impl FnOnce() -> T) -> io::Result<T> {
        let _guarded = self.guarded();
        let _lock = lock(&fs::canonicalize(&self.path)?)?;
        Ok(work())
    }

    /// The configuration that a change begins with: the one in force, or a saved one that the
    /// server has not read yet.
    fn base(&self, text: &str, guarded: &[Guarded]) -> Result<Arc<Dynamic>, Errors> {
        let live = self.live.load_full();
        if live.text() == text {
            return Ok(live);
        }
        let read = Dynamic::parse(text, &self.path, &self.statics)?;
        match undone(guarded, text) {
            Some(what) => Err(self.takes_back(what)),
            None => Ok(Arc::new(read)),
        }
    }

    fn document<E>(&self, text: &str) -> Result<DocumentMut, EditError<E>> {
        text.parse().map_err(|error| {
            // Our parser reports the error with file and line.
            match Dynamic::parse(text, &self.path, &self.statics) {
                Err(errors) => EditError::Invalid(errors),
                Ok(_) => EditError::Io {
                    path: self.path.clone(),
                    source: io::Error::other(error),
                },
            }
        })
    }

    /// Reads the file as an editor saved it, and puts it in force. None: nothing has changed. With
    /// `force` it also reads a file with the same text, because key files may have changed.
    /// `refused` is the file that was refused last.
    ///
    /// # Errors
    /// The refused file with its errors. It may take back the change of an operation.
    pub(crate) fn look(
        &self,
        force: bool,
        refused: Option<&Refused>,
    ) -> Result<Option<Arc<Dynamic>>, Refused> {
        // Holding this, no operation changes the file or what is in force.
        let mut guarded = self.guarded();
        let stamp = Stamp::of(&self.path);
        let text = read_text(&self.path).map_err(|errors| Refused {
            text: String::new(),
            stamp,
            errors,
        })?;
        if !force && self.live.load().text() == text {
            return Ok(None);
        }
        let read = Dynamic::parse(&text, &self.path, &self.statics);
        let read = read.and_then(|read| match undone(&guarded, &text) {
            // To save the same text again means to take the change back.
            Some(_) if refused.is_some_and(|it| it.is_saved_again(&text, stamp)) => {
                guarded.clear();
                Ok(read)
            }
            Some(what) => Err(self.takes_back(what)),
            None => Ok(read),
        });
        match read {
            Ok(read) => {
                let read = Arc::new(read);
                self.apply(&read);
                Ok(Some(read))
            }
            Err(errors) => Err(Refused {
                text,
                stamp,
                errors,
            }),
        }
    }

    fn keep(&self, config: &Dynamic) {
        if let Err(error) = keep_good(&self.statics, config) {
            tracing::warn!(%error, "domains.conf not copied for the next start");
        }
    }

    fn takes_back(&self, what: &str) -> Errors {
        let message = format!(
            "takes back a change that was made meanwhile ({what}): an older copy was saved, it \
             seems. The configuration in force, with that change, is in {}. To take the change \
             back on purpose, save the file once more",
            crate::last_good::path(&self.statics).display()
        );
        Errors::one(ConfigError {
            file: self.path.clone(),
            line: 0,
            column: 0,
            key: TAKES_BACK.to_owned(),
            message,
        })
    }

    fn guarded(&self) -> MutexGuard<'_, Vec<Guarded>> {
        // A panic while the lock is held leaves the list whole.
        self.guarded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The key of the error of a text that takes back a change. No key of the file has this name.
const TAKES_BACK: &str = "(saved file)";

/// Guards the differences of a change. They replace older guards of the same keys.
fn guard(guarded: &mut Vec<Guarded>, what: &str, differences: &[Difference]) {
    let now = Instant::now();
    for older in guarded.iter_mut() {
        let newer = |it: &Difference| differences.iter().any(|newer| newer.key == it.key);
        older.differences.retain(|it| !newer(it));
    }
    guarded.retain(|it| !it.differences.is_empty() && now.duration_since(it.at) < GUARDED);
    if guarded.len() >= GUARDED_MAX {
        guarded.remove(0);
    }
    guarded.push(Guarded {
        at: now,
        what: what.to_owned(),
        differences: differences.to_vec(),
    });
}

/// The guarded change that a text takes back.
fn undone<'a>(guarded: &'a [Guarded], text: &str) -> Option<&'a str> {
    let recent = |it: &&Guarded| it.at.elapsed() < GUARDED;
    if !guarded.iter().any(|it| recent(&it)) {
        return None;
    }
    let saved: Settings = settings(&text.parse().ok()?);
    let takes_back = |it: &&Guarded| {
        let old = |it: &Difference| saved.get(&it.key) == it.before.as_ref();
        it.differences.iter().any(old)
    };
    let found = guarded.iter().filter(recent).find(takes_back)?;
    Some(&found.what)
}

/// Waits until no other writer has the lock. The lock file stays: if it were removed, two writers
/// could have a lock at once.
fn lock(target: &Path) -> io::Result<File> {
    let lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(nix::fcntl::OFlag::O_NOFOLLOW.bits())
        .open(beside(target, ".lock"))?;
    lock.lock()?;
    Ok(lock)
}
