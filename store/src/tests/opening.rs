//! Data folders that can't be used, and a disk that fails in use.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use redb::ReadableTable;

use super::samples::*;
use crate::{
    OpenError, Options, QueueId, Store, StoreError,
    disk::{FsDisk, sim::SimDisk},
    engine::journal::Mode,
};

/// No checkpoint unless asked for, so that all is in the journal.
fn options(dir: &Path) -> Options {
    Options {
        segment_size: 1 << 20,
        checkpoint_interval: Duration::from_secs(3600),
        ..Options::new(dir)
    }
}

/// The folder of a store that took three messages and was killed.
async fn killed() -> tempfile::TempDir {
    let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // Without threads of its own, so that nothing changes while it is copied.
    let disk = Arc::new(FsDisk::open(dir.path()).unwrap());
    let store = Store::open_on(disk, &options(dir.path()), Mode::Inline(1)).unwrap();
    for number in 0..3 {
        let text = format!("Subject: number {number}\r\n\r\n");
        store
            .accept(crate::Accept {
                text: Some(inline(&text)),
                ..message(&["a@x.example"])
            })
            .await
            .unwrap();
    }
    copy_folder(dir.path(), copy.path());
    store.close().await;
    copy
}

fn copy_folder(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir_all(&to).unwrap();
            copy_folder(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn refused(dir: &Path) -> OpenError {
    match Store::open(options(dir)) {
        Ok(_) => panic!("it was opened"),
        Err(error) => error,
    }
}

/// The segment that has this text, its content and where in it that is.
fn segment_with(dir: &Path, text: &str) -> (PathBuf, Vec<u8>, usize) {
    for entry in fs::read_dir(dir.join("journal")).unwrap() {
        let path = entry.unwrap().path();
        let content = fs::read(&path).unwrap();
        let found = content
            .windows(text.len())
            .position(|window| window == text.as_bytes());
        if let Some(at) = found {
            return (path, content, at);
        }
    }
    panic!("no segment has it");
}

#[tokio::test]
async fn what_a_kill_leaves_can_be_opened() {
    let dir = killed().await;
    let store = Store::open(options(dir.path())).unwrap();
    assert_eq!(store.counts().await.queued, 3);
    assert_eq!(
        text(&store, crate::TextId(2)).await.unwrap(),
        "Subject: number 1\r\n\r\n"
    );
    store.close().await;
}

#[tokio::test]
async fn a_folder_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(options(dir.path())).unwrap();
    assert!(matches!(refused(dir.path()), OpenError::Locked { path } if path == dir.path()));
    store.close().await;
    Store::open(options(dir.path())).unwrap().close().await;
}

#[tokio::test]
async fn an_index_of_another_version() {
    let dir = killed().await;
    let path = dir.path().join("index.redb");
    let write = |version: u8| {
        let table = redb::TableDefinition::<&str, &[u8]>::new("meta");
        let database = redb::Database::open(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction
            .open_table(table)
            .unwrap()
            .insert("checkpoint", [version, 0, 0, 0, 1].as_slice())
            .unwrap();
        transaction.commit().unwrap();
    };
    write(9);
    let error = refused(dir.path());
    assert!(
        matches!(&error, OpenError::Newer { path: named, found: 9, known: 5 } if *named == path)
    );
    let said = error.to_string();
    assert!(said.contains("format 9"), "{said}");
    write(3);
    let said = refused(dir.path()).to_string();
    assert!(
        said.contains("before the first release") && said.contains("away"),
        "{said}"
    );
}

#[tokio::test]
async fn data_of_a_newer_program_in_an_index_of_this_format() {
    for key in ["subject/queue", "subject/from the future"] {
        let dir = killed().await;
        let path = dir.path().join("index.redb");
        let table = redb::TableDefinition::<&str, &[u8]>::new("meta");
        let database = redb::Database::open(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction
            .open_table(table)
            .unwrap()
            .insert(key, [9].as_slice())
            .unwrap();
        transaction.commit().unwrap();
        drop(database);
        let error = refused(dir.path());
        assert!(
            matches!(&error, OpenError::NewerData { path: named, .. } if *named == path),
            "{error}"
        );
        let said = error.to_string();
        assert!(
            said.contains("newer postrider") && !said.contains("damaged"),
            "{said}"
        );
    }
}

#[tokio::test]
async fn an_index_names_the_versions_that_it_is_written_in() {
    let table = redb::TableDefinition::<&str, &[u8]>::new("meta");
    for key in ["version/queued", "version/operations/unit", "version/rooms"] {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(options(dir.path())).unwrap();
        store.accept(message(&["a@x.example"])).await.unwrap();
        store.close().await;
        let path = dir.path().join("index.redb");
        let database = redb::Database::open(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        {
            let mut meta = transaction.open_table(table).unwrap();
            let known = meta.get(key).unwrap().map(|version| version.value()[0]);
            assert_eq!(known.is_some(), key != "version/rooms", "{key}");
            let newer = known.unwrap_or_default() + 1;
            meta.insert(key, [newer].as_slice()).unwrap();
        }
        transaction.commit().unwrap();
        drop(database);
        let journal = || fs::read_dir(dir.path().join("journal")).unwrap().count();
        let before = journal();
        let error = refused(dir.path());
        let said = error.to_string();
        assert!(
            matches!(&error, OpenError::NewerData { path: named, .. } if *named == path),
            "{said}"
        );
        assert!(said.contains("newer postrider") && !said.contains("damaged"));
        assert_eq!(journal(), before, "nothing was changed");
    }
}

#[tokio::test]
async fn a_changed_byte_amid_the_journal() {
    let dir = killed().await;
    let (segment, content, at) = segment_with(dir.path(), "number 1");
    let mut changed = content.clone();
    changed[at] ^= 1;
    fs::write(&segment, &changed).unwrap();
    let error = refused(dir.path());
    assert!(
        matches!(&error, OpenError::Corrupt { path, offset, .. } if *path == segment && *offset <= at as u64),
        "{error}"
    );
    assert_eq!(
        fs::read(&segment).unwrap(),
        changed,
        "it can still be mended"
    );
    fs::write(&segment, content).unwrap();
    let store = Store::open(options(dir.path())).unwrap();
    assert_eq!(store.counts().await.queued, 3);
    store.close().await;
}

#[tokio::test]
async fn an_index_that_is_missing_or_none() {
    let dir = killed().await;
    let path = dir.path().join("index.redb");
    fs::remove_file(&path).unwrap();
    let named =
        |error: &OpenError| matches!(error, OpenError::Index { path: named, .. } if *named == path);
    let error = refused(dir.path());
    assert!(named(&error), "{error}");
    fs::write(&path, "something else").unwrap();
    let error = refused(dir.path());
    assert!(named(&error), "{error}");
}

#[tokio::test]
async fn a_folder_that_cannot_be_one() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    for path in [file.join("below"), file] {
        let error = refused(&path);
        assert!(
            matches!(&error, OpenError::Io { path: named, .. } if *named == path),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_full_disk_refuses_new_mail_until_it_has_room() {
    let disk = SimDisk::new(1);
    let options = options(Path::new("data"));
    let store = Store::open_on(disk.disk(), &options, Mode::Inline(1)).unwrap();
    store.accept(message(&["a@x.example"])).await.unwrap();
    disk.set_space(Some(0));
    let mut refused = None;
    for _ in 0..10_000 {
        if let Err(error) = store.accept(message(&["b@x.example"])).await {
            refused = Some(error);
            break;
        }
    }
    assert!(matches!(refused, Some(StoreError::Full)), "{refused:?}");
    // Queued messages go on.
    let claimed = store.claim(claim(at(9))).await.unwrap();
    assert!(!claimed.messages.is_empty());
    let done = vec![settle(&claimed.messages[0], GONE)];
    assert_eq!(store.settle(done).await.unwrap(), [true]);
    disk.set_space(None);
    store.accept(message(&["c@x.example"])).await.unwrap();
    store.close().await;
}

#[tokio::test]
async fn a_failing_disk_stops_the_store_and_it_says_why() {
    let disk = SimDisk::new(1);
    let options = options(Path::new("data"));
    let store = Store::open_on(disk.disk(), &options, Mode::Inline(1)).unwrap();
    store.accept(message(&["a@x.example"])).await.unwrap();
    disk.fail_syncs_from(0);
    // The first to notice may be the store itself.
    let failed = store.accept(message(&["b@x.example"])).await.unwrap_err();
    assert!(
        matches!(failed, StoreError::Write(_) | StoreError::Closed),
        "{failed}"
    );
    let why = store.stopped().await;
    assert!(matches!(why, StoreError::Write(_)), "{why}");
    store.close().await;
    // The answered message is there; the other may be.
    disk.fail_syncs_from(u64::MAX);
    disk.crash();
    let store = Store::open_on(disk.disk(), &options, Mode::Inline(2)).unwrap();
    assert!(store.queued(QueueId(1)).await.unwrap().is_some());
    store.close().await;
}

#[tokio::test]
async fn an_orderly_end_is_no_failure() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(options(dir.path())).unwrap();
    store.clone().close().await;
    let why = store.stopped().await;
    assert!(matches!(why, StoreError::Closed), "{why}");
}
