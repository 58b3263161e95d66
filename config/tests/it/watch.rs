//! The watcher with real files. Each step waits for the outcome that the watcher reports.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use postrider_config::{DomainsFile, Dynamic, Live, Outcome, ReadAgain, Static, Watcher};
use tokio::{sync::watch, task::JoinHandle};

use crate::support::{self, statics};

struct Running {
    file: Arc<DomainsFile>,
    dir: tempfile::TempDir,
    path: PathBuf,
    statics: Arc<Static>,
    live: Live,
    outcomes: watch::Receiver<Outcome>,
    again: ReadAgain,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// Starts a watcher. `make` makes the files in a folder and gives the path to watch.
fn start(make: impl FnOnce(&Path) -> PathBuf) -> Running {
    let dir = tempfile::tempdir().unwrap();
    let path = make(dir.path());
    let statics = Arc::new(statics(""));
    let live: Live = Arc::new(ArcSwap::from_pointee(
        Dynamic::load(&path, &statics).unwrap(),
    ));
    let file = DomainsFile::new(path.clone(), Arc::clone(&statics), Arc::clone(&live));
    let file = Arc::new(file);
    let watcher = Watcher::new(Arc::clone(&file));
    let outcomes = watcher.outcomes();
    let again = watcher.read_again();
    let (stop, stopped) = watch::channel(false);
    Running {
        task: tokio::spawn(watcher.run(stopped)),
        file,
        dir,
        path,
        statics,
        live,
        outcomes,
        again,
        stop,
    }
}

fn plain(dir: &Path) -> PathBuf {
    let path = dir.join("domains.conf");
    fs::write(&path, support::DYNAMIC).unwrap();
    path
}

fn text(description: &str) -> String {
    format!("{}description = {description:?}\n", support::DYNAMIC)
}

impl Running {
    fn description(&self) -> String {
        self.live.load().accounts["alice"].description.clone()
    }

    async fn outcome(&mut self) -> Outcome {
        self.outcomes.changed().await.unwrap();
        self.outcomes.borrow_and_update().clone()
    }

    /// Waits until the description is this. Other outcomes may come before.
    async fn becomes(&mut self, description: &str) {
        while self.description() != description {
            self.outcome().await;
        }
    }

    async fn finish(self) {
        self.stop.send(true).unwrap();
        self.task.await.unwrap();
    }
}

#[tokio::test]
async fn writing_in_place() {
    let mut running = start(plain);
    fs::write(&running.path, text("one")).unwrap();
    assert_eq!(running.outcome().await, Outcome::Applied);
    assert_eq!(running.description(), "one");
    fs::write(&running.path, text("two")).unwrap();
    assert_eq!(running.outcome().await, Outcome::Applied);
    assert_eq!(running.description(), "two");
    running.finish().await;
}

#[tokio::test]
async fn asked_to_read_the_file_again_it_tells_the_outcome_again() {
    let mut running = start(plain);
    let again = running.again.clone();
    again.ask();
    assert_eq!(running.outcome().await, Outcome::Applied);
    fs::write(&running.path, "x = ").unwrap();
    let Outcome::Refused(errors) = running.outcome().await else {
        panic!("the file is wrong");
    };
    again.ask();
    assert_eq!(running.outcome().await, Outcome::Refused(errors));
    running.finish().await;
}

#[tokio::test]
async fn another_file_is_renamed_over_it() {
    let mut running = start(plain);
    for round in 0..3 {
        let other = running.dir.path().join("4913~");
        fs::write(&other, text(&format!("round {round}"))).unwrap();
        fs::rename(&other, &running.path).unwrap();
        running.becomes(&format!("round {round}")).await;
    }
    running.finish().await;
}

#[tokio::test]
async fn gone_and_back_again() {
    let mut running = start(plain);
    let backup = running.dir.path().join("domains.conf~");
    fs::rename(&running.path, &backup).unwrap();
    let Outcome::Refused(errors) = running.outcome().await else {
        panic!();
    };
    assert!(errors.to_string().contains("cannot be read"), "{errors}");
    assert_eq!(running.live.load().accounts.len(), 1);
    fs::write(&running.path, text("back")).unwrap();
    running.becomes("back").await;
    running.finish().await;
}

#[tokio::test]
async fn a_wrong_file_changes_nothing_until_it_is_right() {
    let mut running = start(plain);
    let before = running.live.load_full();
    fs::write(&running.path, format!("{}\nfullname = 3\n", text("wrong"))).unwrap();
    let Outcome::Refused(errors) = running.outcome().await else {
        panic!();
    };
    let first = errors.iter().next().unwrap();
    assert_eq!(
        (first.line, first.key.as_str()),
        (7, "accounts.alice.fullname")
    );
    assert!(Arc::ptr_eq(&before, &running.live.load_full()));
    // Another text with the same error is reported again.
    fs::write(&running.path, format!("{}\nfullname = 4\n", text("wrong"))).unwrap();
    assert!(matches!(running.outcome().await, Outcome::Refused(_)));
    fs::write(&running.path, text("right")).unwrap();
    assert_eq!(running.outcome().await, Outcome::Applied);
    assert_eq!(running.description(), "right");
    running.finish().await;
}

#[tokio::test]
async fn a_file_that_grows_slowly_is_read_when_complete() {
    let mut running = start(plain);
    let mut file = File::create(&running.path).unwrap();
    file.write_all(support::DYNAMIC.as_bytes()).unwrap();
    for account in 0..100 {
        write!(file, "[accounts.a{account}]\ndomain = \"exam").unwrap();
        tokio::task::yield_now().await;
        file.write_all(b"ple.org\"\n").unwrap();
        tokio::task::yield_now().await;
    }
    drop(file);
    while running.live.load().accounts.len() < 101 {
        running.outcome().await;
    }
    running.finish().await;
}

#[tokio::test]
async fn links_to_files_and_folders() {
    let mut running = start(|dir| {
        // Kubernetes mounts a ConfigMap like this: the name is a link through a link to a folder
        // that is swapped.
        fs::create_dir(dir.join("..1")).unwrap();
        fs::write(dir.join("..1/domains.conf"), support::DYNAMIC).unwrap();
        symlink("..1", dir.join("..data")).unwrap();
        symlink("..data/domains.conf", dir.join("domains.conf")).unwrap();
        dir.join("domains.conf")
    });
    let dir = running.dir.path().to_owned();
    fs::create_dir(dir.join("..2")).unwrap();
    fs::write(dir.join("..2/domains.conf"), text("second")).unwrap();
    symlink("..2", dir.join("..tmp")).unwrap();
    fs::rename(dir.join("..tmp"), dir.join("..data")).unwrap();
    running.becomes("second").await;
    // The new folder is watched now.
    fs::write(dir.join("..2/domains.conf"), text("third")).unwrap();
    running.becomes("third").await;
    running.finish().await;
}

#[tokio::test]
async fn a_folder_above_is_replaced() {
    let mut running = start(|dir| {
        fs::create_dir_all(dir.join("v1/config")).unwrap();
        fs::create_dir_all(dir.join("v2/config")).unwrap();
        fs::write(dir.join("v1/config/domains.conf"), support::DYNAMIC).unwrap();
        fs::write(dir.join("v2/config/domains.conf"), text("v2")).unwrap();
        symlink(dir.join("v1"), dir.join("current")).unwrap();
        dir.join("current/config/domains.conf")
    });
    let dir = running.dir.path().to_owned();
    symlink("v2", dir.join("new")).unwrap();
    fs::rename(dir.join("new"), dir.join("current")).unwrap();
    running.becomes("v2").await;
    running.finish().await;
}

#[tokio::test]
async fn a_change_of_our_own_is_no_news() {
    let mut running = start(plain);
    let change = running.file.change("test", |document| {
        document["accounts"]["alice"]["description"] = toml_edit::value("changed");
        Ok::<_, std::convert::Infallible>(())
    });
    change.unwrap();
    assert_eq!(running.description(), "changed");
    // A later save is the first outcome.
    fs::write(&running.path, text("saved")).unwrap();
    assert_eq!(running.outcome().await, Outcome::Applied);
    assert_eq!(running.description(), "saved");
    running.finish().await;
}

#[tokio::test]
async fn bytes_that_are_not_text_have_a_line_too() {
    let running = start(plain);
    fs::write(&running.path, b"# one\n# two \xff\n").unwrap();
    let errors = Dynamic::load(&running.path, &running.statics).unwrap_err();
    let first = errors.iter().next().unwrap();
    assert_eq!((first.line, first.column), (2, 7), "{errors}");
    running.finish().await;
}
