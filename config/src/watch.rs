//! The file as it changes: from being saved to being in force.
//!
//! Editors save in many ways: they write in place (so that for a moment half of the file is there), they write another file and
//! rename it, and deployment tools swap symbolic links to files or folders. Therefore the folders are watched and not the file,
//! every folder through which links lead included; an event only says "look again"; and what counts is whether the bytes differ
//! from those in force.
//!
//! A file that is being written in place may be valid and yet cut short. So after an event that says "written to", the look waits for
//! the one that says "closed", or for a while of quiet where there are no such events.

use std::{
    collections::BTreeSet,
    path::{Component, Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use notify::{
    EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode, ModifyKind},
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};

use crate::{Live, dynamics::Dynamic, error::Errors, reader::read_text, statics::Static};

/// How long after a write the file is looked at when nothing says that it was closed.
const QUIET: Duration = Duration::from_millis(500);
/// How long writes that never end may put off a look.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often the file is looked at without any event: for network file systems, which give none, and for key files that came later.
const LOOK: Duration = Duration::from_secs(10);
/// Chains of links longer than this are circles.
const LINKS_MAX: usize = 40;

/// What became of the last change of the file.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Outcome {
    /// Nothing changed yet.
    #[default]
    Unchanged,
    /// The file as it is now is in force.
    Applied,
    /// It is refused, and what was in force stays.
    Refused(Errors),
}

/// Reads the file again and puts it in force if it is right. `Ok(false)`: it says the same as before, to the byte.
///
/// # Errors
/// With everything that is wrong with it; what was in force stays.
pub fn reload(path: &Path, statics: &Static, live: &Live) -> Result<bool, Errors> {
    let text = read_text(path)?;
    let same = live.load().text() == text;
    // Key files may have changed though this one has not.
    let read = Dynamic::parse(&text, path, statics)?;
    live.store(Arc::new(read));
    Ok(!same)
}

/// Watches `path` until `shutdown` says true or its sender is gone: applies what is valid, refuses what is not, and logs both.
pub async fn watch(
    path: PathBuf,
    statics: Arc<Static>,
    live: Live,
    shutdown: watch::Receiver<bool>,
) {
    Watcher::new(path, statics, live).run(shutdown).await;
}

/// What `watch` does, for those who want to know what became of each change.
#[derive(Debug)]
pub struct Watcher {
    path: PathBuf,
    statics: Arc<Static>,
    live: Live,
    outcome: watch::Sender<Outcome>,
    /// The last text that was refused and why, so that each is logged once.
    refused: Option<(String, Errors)>,
}

impl Watcher {
    /// A watcher of a file that `live` was made from. It does nothing until it runs.
    #[must_use]
    pub fn new(path: PathBuf, statics: Arc<Static>, live: Live) -> Self {
        Self {
            path,
            statics,
            live,
            outcome: watch::Sender::new(Outcome::Unchanged),
            refused: None,
        }
    }

    /// Moves whenever a change was applied or refused.
    #[must_use]
    pub fn outcomes(&self) -> watch::Receiver<Outcome> {
        self.outcome.subscribe()
    }

    /// Runs until `shutdown` says true or its sender is gone.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        // A few waiting notes are enough: each means "look again", however many events it stands for.
        let (events, mut changed) = mpsc::channel(16);
        let mut folders = Folders::new(events);
        folders.follow(&self.path);
        let mut due = Due::default();
        // At once, since what was saved between the first reading and now had no watcher.
        let mut routine = Instant::now();
        loop {
            let at = due.at.map_or(routine, |at| at.min(routine));
            tokio::select! {
                () = stopped(&mut shutdown) => return,
                Some(change) = changed.recv() => due.put_off(change, Instant::now()),
                () = sleep_until(at) => {
                    // Before the look, so that whatever changes after it makes an event.
                    folders.follow(&self.path);
                    if due.has_come(Instant::now()) {
                        due = Due::default();
                        self.look().await;
                    } else if self.differs().await {
                        // No event told of it: it may be half written, and is looked at once more.
                        due.put_off(Change::Going, Instant::now());
                    }
                    routine = Instant::now() + LOOK;
                }
            }
        }
    }

    async fn differs(&self) -> bool {
        let text = tokio::fs::read_to_string(&self.path).await;
        // What was refused may be right by now without a change in this file, because a key file has come.
        self.refused.is_some() || text.map_or(true, |text| self.live.load().text() != text)
    }

    /// Reads the file, and if it is not what is in force, applies or refuses it.
    async fn look(&mut self) {
        let path = self.path.clone();
        let statics = Arc::clone(&self.statics);
        let refused = self.refused.is_some();
        let live = Arc::clone(&self.live);
        // Key files are read and checked, which takes a while where there are many.
        let read = tokio::task::spawn_blocking(move || {
            let text = read_text(&path).map_err(|errors| (String::new(), errors))?;
            if !refused && live.load().text() == text {
                return Ok(None);
            }
            let read = Dynamic::parse(&text, &path, &statics);
            read.map(Some).map_err(|errors| (text, errors))
        });
        match read.await {
            Ok(Ok(None)) => {}
            Ok(Ok(Some(config))) => self.apply(config),
            Ok(Err((text, errors))) => self.refuse(text, errors),
            Err(error) => tracing::error!(%error, "cannot look at the configuration"),
        }
    }

    fn apply(&mut self, config: Dynamic) {
        self.refused = None;
        for warning in config.warnings() {
            tracing::warn!("{warning}");
        }
        tracing::info!(
            file = %self.path.display(),
            domains = config.domains.len(),
            accounts = config.accounts.len(),
            "changed configuration is in force"
        );
        self.live.store(Arc::new(config));
        self.outcome.send_replace(Outcome::Applied);
    }

    fn refuse(&mut self, text: String, errors: Errors) {
        let refused = Some((text, errors.clone()));
        if self.refused == refused {
            return;
        }
        for error in &errors {
            tracing::error!(
                file = %error.file.display(),
                line = error.line,
                key = error.key,
                "changed configuration refused: {}",
                error.message
            );
        }
        self.refused = refused;
        self.outcome.send_replace(Outcome::Refused(errors));
    }
}

/// Ends when the server stops, or nobody is left who could say so.
async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    // What it gives holds a lock, and must not live on.
    let _ = shutdown.wait_for(|stop| *stop).await;
}

/// What an event says about the file.
#[derive(Clone, Copy, Debug)]
enum Change {
    /// It may be complete.
    Done,
    /// More may be coming.
    Going,
}

/// When the next look is due.
#[derive(Clone, Copy, Debug, Default)]
struct Due {
    at: Option<Instant>,
    /// No later than this, whatever happens.
    limit: Option<Instant>,
}

impl Due {
    fn put_off(&mut self, change: Change, now: Instant) {
        let limit = *self.limit.get_or_insert(now + PATIENCE);
        let at = match change {
            Change::Done => now,
            Change::Going => now + QUIET,
        };
        self.at = Some(at.min(limit));
    }

    fn has_come(self, now: Instant) -> bool {
        self.at.is_some_and(|at| at <= now)
    }
}

/// The watched folders.
struct Folders {
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
    /// Files, links and folders whose events matter; the folders hold others too.
    names: Arc<Mutex<BTreeSet<PathBuf>>>,
}

impl Folders {
    fn new(events: mpsc::Sender<Change>) -> Self {
        let names = Arc::new(Mutex::new(BTreeSet::new()));
        let wanted = Arc::clone(&names);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let wanted = wanted.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(change) = meaning(&event, &wanted) {
                // Full: others are waiting, and a look comes after the last of them.
                let _ = events.try_send(change);
            }
        });
        let watcher = watcher
            .map_err(|error| tracing::warn!(%error, "cannot watch for changed files; looking at them every 10 s"))
            .ok();
        Self {
            watcher,
            watched: BTreeSet::new(),
            names,
        }
    }

    /// Watches all folders through which a path leads now, and no others.
    fn follow(&mut self, path: &Path) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        let mut names = steps(path);
        let parents = names.iter().filter_map(|name| name.parent());
        let wanted: BTreeSet<PathBuf> = parents.map(Path::to_owned).collect();
        for folder in self.watched.difference(&wanted) {
            // It fails when the folder is gone, which is as good.
            let _ = watcher.unwatch(folder);
        }
        names.extend(wanted.iter().cloned());
        *self.names.lock().unwrap_or_else(PoisonError::into_inner) = names;
        // A folder may have been replaced by another one of the same name. To watch it again costs little.
        let watching = wanted.into_iter().filter(|folder| {
            let result = watcher.watch(folder, RecursiveMode::NonRecursive);
            result.is_ok()
        });
        self.watched = watching.collect();
    }
}

/// What an event means for us; `None` for other files, and for mere reading, which our own looks do.
fn meaning(event: &notify::Result<notify::Event>, names: &BTreeSet<PathBuf>) -> Option<Change> {
    let Ok(event) = event else {
        return Some(Change::Done);
    };
    let ours = event.paths.iter().any(|path| names.contains(path));
    if !ours && !event.need_rescan() {
        return None;
    }
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => Some(Change::Done),
        EventKind::Access(_) => None,
        // A new file is empty at first, and is closed later; a new link is complete, which cannot be told apart here.
        EventKind::Create(_) | EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Any) => {
            Some(Change::Going)
        }
        _ => Some(Change::Done),
    }
}

/// The file that a path leads to, and all links on the way: what can be replaced so that the path leads elsewhere.
fn steps(path: &Path) -> BTreeSet<PathBuf> {
    let mut steps = BTreeSet::new();
    let mut left: Vec<std::ffi::OsString> = Vec::new();
    let mut done = std::env::current_dir().unwrap_or_default();
    let mut links = 0;
    push(&mut left, path);
    while let Some(name) = left.pop() {
        let component = Path::new(&name);
        if component.has_root() {
            done = PathBuf::from(component);
            continue;
        }
        if name == ".." {
            done.pop();
            continue;
        }
        let full = done.join(component);
        match std::fs::read_link(&full) {
            Ok(target) if links < LINKS_MAX => {
                links += 1;
                steps.insert(full);
                push(&mut left, &target);
            }
            _ => {
                if left.is_empty() {
                    steps.insert(full.clone());
                }
                done = full;
            }
        }
    }
    steps
}

/// Puts the names of a path on the stack, the first on top.
fn push(left: &mut Vec<std::ffi::OsString>, path: &Path) {
    let names = path.components().rev();
    left.extend(
        names
            .filter(|component| *component != Component::CurDir)
            .map(|component| component.as_os_str().to_owned()),
    );
}

#[cfg(test)]
mod tests {
    use notify::event::{CreateKind, DataChange, Flag, RenameMode};

    use super::*;

    #[test]
    fn looks_wait_for_the_end_of_writing() {
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        let mut due = Due::default();
        assert!(!due.has_come(after(100_000)));
        due.put_off(Change::Going, start);
        assert!(!due.has_come(after(499)) && due.has_come(after(500)));
        due.put_off(Change::Going, after(400));
        assert!(!due.has_come(after(899)) && due.has_come(after(900)));
        due.put_off(Change::Done, after(450));
        assert!(due.has_come(after(450)));
    }

    #[test]
    fn writing_without_end_does_not_put_off_looks_for_ever() {
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        let mut due = Due::default();
        for millis in (0..5_000).step_by(100) {
            due.put_off(Change::Going, after(millis));
            assert!(!due.has_come(after(millis)));
        }
        assert!(due.has_come(after(5_000)));
    }

    #[test]
    fn events_are_told_apart() {
        let names = BTreeSet::from([PathBuf::from("/etc/domains.conf"), PathBuf::from("/etc")]);
        let check = |kind, path: &str, expected| {
            let event = notify::Event::new(kind).add_path(path.into());
            let found = meaning(&Ok(event), &names).map(|change| matches!(change, Change::Done));
            assert_eq!(found, expected, "{kind:?} {path}");
        };
        let closed = EventKind::Access(AccessKind::Close(AccessMode::Write));
        let written = EventKind::Modify(ModifyKind::Data(DataChange::Any));
        let renamed = EventKind::Modify(ModifyKind::Name(RenameMode::To));
        check(closed, "/etc/domains.conf", Some(true));
        check(closed, "/etc/.domains.conf.lock", None);
        check(written, "/etc/domains.conf", Some(false));
        check(renamed, "/etc/domains.conf", Some(true));
        check(
            EventKind::Create(CreateKind::File),
            "/etc/domains.conf",
            Some(false),
        );
        check(
            EventKind::Access(AccessKind::Open(AccessMode::Any)),
            "/etc/domains.conf",
            None,
        );
        check(
            EventKind::Remove(notify::event::RemoveKind::Folder),
            "/etc",
            Some(true),
        );
        let lost = notify::Event::new(EventKind::Other).set_flag(Flag::Rescan);
        assert!(matches!(meaning(&Ok(lost), &names), Some(Change::Done)));
        let error = notify::Error::generic("x");
        assert!(matches!(meaning(&Err(error), &names), Some(Change::Done)));
    }

    #[test]
    fn circles_of_links_end() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        std::os::unix::fs::symlink(&one, &two).unwrap();
        std::os::unix::fs::symlink(&two, &one).unwrap();
        assert!(steps(&one).contains(&two));
        assert!(steps(Path::new("/")).is_empty());
    }
}
