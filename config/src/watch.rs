//! Watching `domains.conf`, from a change of the file to the new configuration in force.
//!
//! Editors save in many ways. Some write in place, so that for a moment the file is incomplete.
//! Some write another file and rename it. Deployment tools swap symbolic links to files or folders.
//! So this module watches folders and not the file, and every folder that the links of the path
//! lead through. An event only means "look again". A look compares the bytes with those in force.
//!
//! A file that is being written may be valid and yet incomplete. So after an event that says
//! "written", the look waits for an event that says "closed". Where there is no such event, it
//! waits for a moment of quiet.

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
    sync::{Notify, mpsc, watch},
    time::{Instant, sleep_until},
};

use crate::{
    domains_file::{DomainsFile, Refused},
    dynamics::Dynamic,
    error::Errors,
};

/// The time from the last write to the look, if no event says that the file was closed.
const QUIET: Duration = Duration::from_millis(500);
/// The longest time by which writes without end delay a look.
const PATIENCE: Duration = Duration::from_secs(5);
/// The time between looks without events. Network file systems give no events, and a key file may
/// come later.
const LOOK: Duration = Duration::from_secs(10);
/// A longer chain of links counts as a circle.
const LINKS_MAX: usize = 40;

/// The result of the last change of the file.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Outcome {
    /// There was no change yet.
    #[default]
    Unchanged,
    /// The new configuration is in force.
    Applied,
    /// The file has errors. The old configuration stays in force.
    Refused(Errors),
}

/// Asks a watcher to read the file again, even if it has not changed. Clones ask the same watcher.
#[derive(Clone, Debug, Default)]
pub struct ReadAgain(Arc<Notify>);

impl ReadAgain {
    /// Asks. The watcher logs the outcome.
    pub fn ask(&self) {
        self.0.notify_one();
    }
}

/// A watcher of `domains.conf`. It applies a valid file, refuses a file with errors, and logs both.
#[derive(Debug)]
pub struct Watcher {
    file: Arc<DomainsFile>,
    outcome: watch::Sender<Outcome>,
    again: ReadAgain,
    /// The last file that was refused, so that its problems are logged once.
    refused: Option<Refused>,
}

impl Watcher {
    /// A watcher. It does nothing until it runs.
    #[must_use]
    pub fn new(file: Arc<DomainsFile>) -> Self {
        Self {
            file,
            outcome: watch::Sender::new(Outcome::Unchanged),
            again: ReadAgain::default(),
            refused: None,
        }
    }

    /// A receiver of the outcomes of all changes.
    #[must_use]
    pub fn outcomes(&self) -> watch::Receiver<Outcome> {
        self.outcome.subscribe()
    }

    /// The handle that asks this watcher to read the file again.
    #[must_use]
    pub fn read_again(&self) -> ReadAgain {
        self.again.clone()
    }

    /// Runs until `shutdown` says true or its sender is dropped.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        // A short channel is enough. Each entry means "look again", for any number of events.
        let (events, mut changed) = mpsc::channel(16);
        let mut folders = Folders::new(events);
        folders.follow(self.file.path());
        let mut due = Due::default();
        // The first look is at once. A change between the first read and now made no event.
        let mut routine = Instant::now();
        let again = self.again.clone();
        loop {
            let at = due.at.map_or(routine, |at| at.min(routine));
            tokio::select! {
                () = stopped(&mut shutdown) => return,
                Some(change) = changed.recv() => due.delay(change, Instant::now()),
                () = again.0.notified() => {
                    // A file with the same errors as before is worth another line now.
                    self.refused = None;
                    self.look(true).await;
                }
                () = sleep_until(at) => {
                    // Watch before the look, so that a change after it makes an event.
                    folders.follow(self.file.path());
                    if due.has_come(Instant::now()) {
                        due = Due::default();
                        self.look(false).await;
                    } else if self.differs().await {
                        // No event announced this change. The file may be incomplete, so look once
                        // more.
                        due.delay(Change::Going, Instant::now());
                    }
                    routine = Instant::now() + LOOK;
                }
            }
        }
    }

    async fn differs(&self) -> bool {
        let text = tokio::fs::read_to_string(self.file.path()).await;
        // A refused file may be right now without a change, if a key file has come.
        self.refused.is_some() || text.map_or(true, |text| self.file.live().load().text() != text)
    }

    /// Reads the file. If it differs from the configuration in force, applies or refuses it. With
    /// `force`, also if it does not differ: key files may have changed.
    async fn look(&mut self, force: bool) {
        let file = Arc::clone(&self.file);
        let force = force || self.refused.is_some();
        let refused = self.refused.clone();
        // This reads and checks the key files. With many files it takes a while.
        let looked = tokio::task::spawn_blocking(move || file.look(force, refused.as_ref()));
        match looked.await {
            Ok(Ok(None)) => {}
            Ok(Ok(Some(config))) => self.applied(&config),
            Ok(Err(refused)) => self.refuse(refused),
            Err(error) => tracing::error!(%error, "configuration refused"),
        }
    }

    fn applied(&mut self, config: &Dynamic) {
        self.refused = None;
        for warning in config.warnings() {
            tracing::warn!(reason = warning, "configuration has a warning");
        }
        tracing::info!(
            file = %self.file.path().display(),
            domains = config.domains.len(),
            accounts = config.accounts.len(),
            "configuration loaded"
        );
        self.outcome.send_replace(Outcome::Applied);
    }

    fn refuse(&mut self, refused: Refused) {
        if self.refused.as_ref() == Some(&refused) {
            return;
        }
        for error in &refused.errors {
            tracing::error!(
                file = %error.file.display(),
                line = error.line,
                key = error.key,
                error = error.message,
                "configuration refused"
            );
        }
        let errors = refused.errors.clone();
        self.refused = Some(refused);
        self.outcome.send_replace(Outcome::Refused(errors));
    }
}

/// Ends when the server stops, or when the sender is dropped.
async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    // The result holds a lock, so it must be dropped here.
    let _ = shutdown.wait_for(|stop| *stop).await;
}

/// The meaning of an event for the file.
#[derive(Clone, Copy, Debug)]
enum Change {
    /// The file may be complete.
    Done,
    /// More writes may follow.
    Going,
}

/// The time of the next look.
#[derive(Clone, Copy, Debug, Default)]
struct Due {
    at: Option<Instant>,
    /// The latest time of the look.
    limit: Option<Instant>,
}

impl Due {
    fn delay(&mut self, change: Change, now: Instant) {
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
    /// The files, links and folders whose events matter. The watched folders have other files too.
    names: Arc<Mutex<BTreeSet<PathBuf>>>,
}

impl Folders {
    fn new(events: mpsc::Sender<Change>) -> Self {
        let names = Arc::new(Mutex::new(BTreeSet::new()));
        let wanted = Arc::clone(&names);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let wanted = wanted.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(change) = meaning(&event, &wanted) {
                // If the channel is full, a look follows after its last entry.
                let _ = events.try_send(change);
            }
        });
        let watcher = watcher
            .map_err(|error| tracing::warn!(%error, "configuration files not watched, but read every 10 s"))
            .ok();
        Self {
            watcher,
            watched: BTreeSet::new(),
            names,
        }
    }

    /// Watches all folders that a path leads through now, and no others.
    fn follow(&mut self, path: &Path) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        let mut names = steps(path);
        let parents = names.iter().filter_map(|name| name.parent());
        let wanted: BTreeSet<PathBuf> = parents.map(Path::to_owned).collect();
        for folder in self.watched.difference(&wanted) {
            // An error means that the folder does not exist any more.
            let _ = watcher.unwatch(folder);
        }
        names.extend(wanted.iter().cloned());
        *self.names.lock().unwrap_or_else(PoisonError::into_inner) = names;
        // Another folder of the same name may have replaced this one. So watch it again.
        let watching = wanted.into_iter().filter(|folder| {
            let result = watcher.watch(folder, RecursiveMode::NonRecursive);
            result.is_ok()
        });
        self.watched = watching.collect();
    }
}

/// The meaning of an event. None for other files, and for reads, which our own looks cause.
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
        // A new file is empty at first and is closed later. A new link is complete, but looks the
        // same here.
        EventKind::Create(_) | EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Any) => {
            Some(Change::Going)
        }
        _ => Some(Change::Done),
    }
}

/// The file that a path leads to, and all links on the way. If one of them is replaced, the path
/// leads to another file.
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

/// Pushes the names of a path on a stack, the first on top.
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
    fn a_look_waits_for_the_end_of_writing() {
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        let mut due = Due::default();
        assert!(!due.has_come(after(100_000)));
        due.delay(Change::Going, start);
        assert!(!due.has_come(after(499)) && due.has_come(after(500)));
        due.delay(Change::Going, after(400));
        assert!(!due.has_come(after(899)) && due.has_come(after(900)));
        due.delay(Change::Done, after(450));
        assert!(due.has_come(after(450)));
    }

    #[test]
    fn writing_without_end_does_not_delay_a_look_for_ever() {
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        let mut due = Due::default();
        for millis in (0..5_000).step_by(100) {
            due.delay(Change::Going, after(millis));
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
    fn a_circle_of_links_ends() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        std::os::unix::fs::symlink(&one, &two).unwrap();
        std::os::unix::fs::symlink(&two, &one).unwrap();
        assert!(steps(&one).contains(&two));
        assert!(steps(Path::new("/")).is_empty());
    }
}
