//! Changes of `domains.conf` by programs, alone and beside an editor.

use std::{
    convert::Infallible,
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    sync::{
        Arc, Barrier,
        atomic::{AtomicUsize, Ordering},
    },
};

use arc_swap::ArcSwap;
use postrider_config::{Changed, Difference, DomainsFile, Dynamic, EditError, Outcome, Watcher};
use tokio::sync::watch;
use toml_edit::{DocumentMut, value};

use crate::support::{self, statics};

const TEXT: &str = "\
# Registered in 1999.
[domains.\"example.org\"]

[accounts.alice] # she is the postmaster
domain = \"example.org\"
";

/// The file of a server that read it just now.
fn file(path: &Path) -> DomainsFile {
    let statics = Arc::new(statics(""));
    let live = Dynamic::load(path, &statics).unwrap();
    DomainsFile::new(
        path.to_owned(),
        statics,
        Arc::new(ArcSwap::from_pointee(live)),
    )
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn describe(text: &str) -> impl Fn(&mut DocumentMut) -> Result<(), Infallible> {
    let text = text.to_owned();
    move |document| {
        document["accounts"]["alice"]["description"] = value(&text);
        Ok(())
    }
}

#[test]
fn comments_mode_and_link_stay() {
    let dir = tempfile::tempdir().unwrap();
    let real = dir.path().join("real.conf");
    let link = dir.path().join("domains.conf");
    fs::write(&real, TEXT).unwrap();
    fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
    symlink("real.conf", &link).unwrap();
    let domains = file(&link);
    let applied = domains.applied();
    let changed = domains.change("test", describe("hello")).unwrap();
    assert!(applied.has_changed().unwrap());
    let Changed {
        before,
        after,
        differences,
        ..
    } = changed;
    assert_eq!(before.accounts["alice"].description, "");
    assert_eq!(after.accounts["alice"].description, "hello");
    assert!(Arc::ptr_eq(&after, &domains.live().load_full()));
    let expected = Difference {
        key: "accounts.alice.description".to_owned(),
        before: None,
        after: Some("hello".to_owned()),
    };
    assert_eq!(differences, [expected]);
    let expected = format!("{TEXT}description = \"hello\"\n");
    assert_eq!(fs::read_to_string(&real).unwrap(), expected);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(mode(&real), 0o640);
}

#[test]
fn a_change_that_is_not_valid_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("domains.conf");
    fs::write(&path, TEXT).unwrap();
    let domains = file(&path);
    let before = domains.live().load_full();
    let result = domains.change("test", |document| {
        document.remove("accounts");
        Ok::<_, Infallible>(())
    });
    let Err(EditError::Invalid(errors)) = result else {
        panic!("{result:?}");
    };
    assert!(
        errors
            .to_string()
            .contains("postmaster.account: names account \"alice\""),
        "{errors}"
    );
    let result = domains.change("test", |document| {
        document.clear();
        Err::<(), _>("no such account")
    });
    assert!(matches!(result, Err(EditError::Change("no such account"))));
    assert_eq!(fs::read_to_string(&path).unwrap(), TEXT);
    fs::write(&path, "[").unwrap();
    let result = domains.change("test", describe("x"));
    assert!(matches!(result, Err(EditError::Invalid(_))), "{result:?}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "[");
    fs::remove_file(&path).unwrap();
    let result = domains.change("test", describe("x"));
    assert!(matches!(result, Err(EditError::Io { .. })), "{result:?}");
    assert!(Arc::ptr_eq(&before, &domains.live().load_full()));
    let left: Vec<_> = fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(
        left.iter()
            .all(|name| !name.to_string_lossy().ends_with(".new")),
        "{left:?}"
    );
}

#[test]
fn a_save_that_the_server_has_not_read_yet_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("domains.conf");
    fs::write(&path, TEXT).unwrap();
    let domains = file(&path);
    fs::write(&path, format!("{TEXT}full_name = \"Alice\"\n")).unwrap();
    let changed = domains.change("test", describe("hello")).unwrap();
    let alice = &changed.after.accounts["alice"];
    assert_eq!((&*alice.full_name, &*alice.description), ("Alice", "hello"));
}

#[test]
fn an_editor_that_saves_during_a_change_is_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("domains.conf");
    fs::write(&path, TEXT).unwrap();
    let domains = file(&path);
    let runs = AtomicUsize::new(0);
    let changed = domains.change("test", |document| {
        // An editor saves after the file was read, and before it is written.
        if runs.fetch_add(1, Ordering::Relaxed) < 3 {
            let saved = runs.load(Ordering::Relaxed).to_string();
            fs::write(&path, format!("{TEXT}full_name = \"{saved}\"\n")).unwrap();
        }
        describe("hello")(document)
    });
    let alice = &changed.unwrap().after.accounts["alice"];
    assert_eq!((&*alice.full_name, &*alice.description), ("3", "hello"));
    assert_eq!(runs.into_inner(), 4);
}

/// An editor loads the file, an operation changes it, and the editor saves what it loaded.
#[tokio::test]
async fn an_older_copy_is_refused_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("domains.conf");
    fs::write(&path, TEXT).unwrap();
    let domains = Arc::new(file(&path));
    let watcher = Watcher::new(Arc::clone(&domains));
    let mut outcomes = watcher.outcomes();
    let mut applied = domains.applied();
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(watcher.run(stopped));
    let description = || domains.live().load().accounts["alice"].description.clone();
    domains
        .change("account.set alice", describe("hello"))
        .unwrap();

    let older = format!("{TEXT}full_name = \"Alice\"\n");
    fs::write(&path, &older).unwrap();
    outcomes.changed().await.unwrap();
    let Outcome::Refused(errors) = outcomes.borrow_and_update().clone() else {
        panic!("refused");
    };
    assert!(
        errors.to_string().contains("(account.set alice)"),
        "{errors}"
    );
    assert_eq!(description(), "hello");
    applied.mark_unchanged();
    // No operation builds on such a file either.
    let result = domains.change("account.set alice", describe("x"));
    assert!(matches!(result, Err(EditError::Invalid(_))), "{result:?}");

    // A file with both changes is taken.
    fs::write(&path, format!("{older}description = \"hello\"\n")).unwrap();
    outcomes.changed().await.unwrap();
    assert_eq!(*outcomes.borrow_and_update(), Outcome::Applied);
    assert!(applied.has_changed().unwrap());

    // To save the older copy twice takes the change back.
    fs::write(&path, &older).unwrap();
    outcomes.changed().await.unwrap();
    assert!(matches!(*outcomes.borrow_and_update(), Outcome::Refused(_)));
    assert_eq!(description(), "hello");
    let again = dir.path().join("again");
    fs::write(&again, &older).unwrap();
    fs::rename(&again, &path).unwrap();
    outcomes.changed().await.unwrap();
    assert_eq!(*outcomes.borrow_and_update(), Outcome::Applied);
    assert_eq!(description(), "");
    stop.send(true).unwrap();
    task.await.unwrap();
}

#[test]
fn a_link_in_place_of_the_lock_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("domains.conf");
    fs::write(&path, TEXT).unwrap();
    let others = dir.path().join("others");
    symlink(&others, dir.path().join(".domains.conf.lock")).unwrap();
    let result = file(&path).change("test", describe("new"));
    assert!(matches!(result, Err(EditError::Io { .. })), "{result:?}");
    assert!(!others.exists());
    assert_eq!(fs::read_to_string(&path).unwrap(), TEXT);
}

#[test]
fn writers_wait_for_each_other() {
    const WRITERS: usize = 8;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("domains.conf");
    fs::write(&path, support::DYNAMIC).unwrap();
    let start = Barrier::new(WRITERS);
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (path, start) = (&path, &start);
            scope.spawn(move || {
                // Each is a process of its own, as it were.
                let domains = file(path);
                start.wait();
                let added = domains.change("test", |document| {
                    let address = format!("user{writer}@example.org");
                    document["accounts"]["alice"]["destinations"][&address] = toml_edit::table();
                    Ok::<_, Infallible>(())
                });
                added.unwrap();
            });
        }
    });
    let config = Dynamic::load(&path, &statics("")).unwrap();
    assert_eq!(config.accounts["alice"].destinations.len(), WRITERS + 1);
}
