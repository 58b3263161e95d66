//! Snapshots of a store in use, and looks at folders that nobody uses.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use redb::{Database, TableDefinition, TableHandle};

use super::samples::*;
use crate::{
    INLINE_TEXT_MAX, OpenError, Options, Outcome, QueueFilter, Snapshot, Store, StoreError,
    disk::FsDisk, engine::journal::Mode, inspect,
};

/// Small segments, so that they are used again soon.
fn options(dir: &Path) -> Options {
    Options {
        segment_size: 64 << 10,
        min_free: 0,
        ..Options::new(dir)
    }
}

/// Copies the files of a snapshot, as the command does.
fn copy(snapshot: &Snapshot, from: &Path, to: &Path) {
    for file in snapshot.files() {
        let mut bytes = fs::read(from.join(&file.source)).unwrap();
        if let Some(part) = file.part {
            bytes.truncate(usize::try_from(part.bytes).unwrap());
            bytes.resize(usize::try_from(part.len).unwrap(), 0);
        }
        let target = to.join(&file.name);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::write(target, bytes).unwrap();
    }
}

/// The files of a folder: path, content and the time of the last change.
fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>, SystemTime)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else {
            let changed = fs::metadata(&path).unwrap().modified().unwrap();
            files.push((path.clone(), fs::read(&path).unwrap(), changed));
        }
    }
    files.sort();
    files
}

async fn large(store: &Store) -> crate::NewText {
    let mut writer = store.text_writer();
    let text = vec![b'x'; INLINE_TEXT_MAX + 1];
    writer.write(&text).await.unwrap();
    writer.finish().await.unwrap()
}

/// Accepts a message with a text of 20 kB.
async fn accept(store: &Store, number: usize) {
    let text = format!("number {number}\r\n{}", "x".repeat(20_000));
    let accept = crate::Accept {
        text: Some(inline(&text)),
        ..message(&["a@x.example"])
    };
    store.accept(accept).await.unwrap();
}

/// What an administrator sees with `du`: also the segments that are made in advance.
#[tokio::test]
async fn the_use_of_the_disk_is_that_of_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(FsDisk::open(dir.path()).unwrap());
    let store = Store::open_on(disk, &options(dir.path()), Mode::Inline(1)).unwrap();
    for number in 0..3 {
        accept(&store, number).await;
    }
    let spare = dir.path().join("journal/ff.spare");
    fs::write(&spare, [0; 64 << 10]).unwrap();
    let journal = files(&dir.path().join("journal"));
    let bytes: usize = journal.iter().map(|(_, bytes, _)| bytes.len()).sum();
    let used = store.journal_size().await.unwrap();
    assert_eq!(used, bytes as u64);
    assert!(used > store.counts().await.journal_bytes);
}

/// Ends all messages that are queued.
async fn end_all(store: &Store) {
    loop {
        let claimed = store.claim(claim(at(9))).await.unwrap().messages;
        if claimed.is_empty() {
            return;
        }
        let gone = Outcome::Retire {
            success: true,
            now: at(9),
            keep_until: None,
        };
        let settles = claimed.iter().map(|queued| settle(queued, gone));
        store.settle(settles.collect()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_stays_while_the_store_goes_on() {
    let (dir, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = Store::open(options(dir.path())).unwrap();
    for number in 0..10 {
        accept(&store, number).await;
    }
    let file = crate::Accept {
        text: Some(large(&store).await),
        ..message(&["b@y.example"])
    };
    store.accept(file).await.unwrap();
    let snapshot = store.snapshot().await.unwrap();
    let second = store.snapshot().await.unwrap_err();
    assert!(matches!(second, StoreError::Invalid(_)), "{second}");

    // All messages of the snapshot go, and the segments are used again and again.
    for round in 0..20 {
        end_all(&store).await;
        for number in 0..10 {
            accept(&store, 100 * round + number).await;
        }
        store.checkpoint().await;
    }
    let newer = crate::Accept {
        text: Some(large(&store).await),
        ..message(&["c@y.example"])
    };
    store.accept(newer).await.unwrap();
    let texts = || {
        let files = files(&dir.path().join("texts"));
        files.len()
    };
    assert_eq!(texts(), 2, "the text of the snapshot, and the newer one");
    copy(&snapshot, dir.path(), to.path());
    assert!(dir.path().join("index.backup").exists());
    drop(snapshot);
    // The answer comes when the writer has done everything that was asked before.
    store.checkpoint().await;
    let third = store.snapshot().await.unwrap();
    drop(third);
    store.checkpoint().await;
    store.close().await;
    assert_eq!(texts(), 1);
    assert!(!dir.path().join("index.backup").exists());

    let found = inspect(to.path()).unwrap();
    assert_eq!(found.faults, [""; 0]);
    assert_eq!((found.counts.queued, found.orphans.len()), (11, 0));
    let store = Store::open(options(to.path())).unwrap();
    let queued = store
        .list(&QueueFilter::default(), None, crate::Order::Ascending, 99)
        .await
        .unwrap();
    assert_eq!(queued.items.len(), 11);
    for (number, queued) in queued.items.iter().take(10).enumerate() {
        let text = text(&store, queued.text).await.unwrap();
        assert!(
            text.starts_with(format!("number {number}\r\n").as_bytes()),
            "{number}"
        );
    }
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_under_load_are_sound() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(options(dir.path())).unwrap();
    let busy = {
        let store = store.clone();
        tokio::spawn(async move {
            for number in 0..300 {
                accept(&store, number).await;
                if number % 40 == 39 {
                    end_all(&store).await;
                }
            }
        })
    };
    let mut snapshots = 0;
    while !busy.is_finished() || snapshots == 0 {
        let before = store.counts().await.retired;
        let to = tempfile::tempdir().unwrap();
        let snapshot = store.snapshot().await.unwrap();
        copy(&snapshot, dir.path(), to.path());
        drop(snapshot);
        store.checkpoint().await;
        let found = inspect(to.path()).unwrap();
        assert_eq!(found.faults, [""; 0]);
        assert!(found.counts.retired >= before);
        let copy = Store::open(options(to.path())).unwrap();
        assert_eq!(copy.counts().await.queued, found.counts.queued);
        copy.close().await;
        snapshots += 1;
    }
    busy.await.unwrap();
    store.close().await;
}

/// The folder of a store that took messages and was killed.
async fn killed() -> tempfile::TempDir {
    let (dir, killed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // Without threads of its own, so that nothing changes while it is copied.
    let disk = Arc::new(FsDisk::open(dir.path()).unwrap());
    let store = Store::open_on(disk, &options(dir.path()), Mode::Inline(1)).unwrap();
    for number in 0..6 {
        accept(&store, number).await;
        if number == 3 {
            store.checkpoint().await;
        }
    }
    let file = crate::Accept {
        text: Some(large(&store).await),
        ..message(&["b@y.example"])
    };
    store.accept(file).await.unwrap();
    for (path, content, _) in files(dir.path()) {
        let target = killed.path().join(path.strip_prefix(dir.path()).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::write(target, content).unwrap();
    }
    store.close().await;
    killed
}

#[tokio::test]
async fn an_inspection_changes_nothing_and_names_orphans() {
    let dir = killed().await;
    let orphan = "texts/ff/00000000000000ff";
    fs::create_dir_all(dir.path().join("texts/ff")).unwrap();
    fs::write(dir.path().join(orphan), "x").unwrap();
    let before = files(dir.path());
    let found = inspect(dir.path()).unwrap();
    assert_eq!(found.faults, [""; 0]);
    assert_eq!(found.orphans, [Path::new(orphan)]);
    assert_eq!(found.counts.queued, 7);
    assert!(files(dir.path()) == before);

    let to = tempfile::tempdir().unwrap();
    let snapshot = Snapshot::of_folder(dir.path()).unwrap();
    let used = inspect(dir.path()).unwrap_err();
    assert!(matches!(used, OpenError::Locked { .. }), "{used}");
    copy(&snapshot, dir.path(), to.path());
    drop(snapshot);
    assert!(files(dir.path()) == before);
    let found = inspect(to.path()).unwrap();
    assert_eq!((found.faults.len(), found.orphans.len()), (0, 0));
    assert_eq!(found.counts.queued, 7);
    let nothing = tempfile::tempdir().unwrap();
    inspect(nothing.path()).unwrap_err();
    inspect(&nothing.path().join("none")).unwrap_err();
}

/// Whether an inspection finds a fault.
fn is_damaged(dir: &Path) -> bool {
    inspect(dir).map_or(true, |found| !found.faults.is_empty())
}

#[tokio::test]
async fn changed_bytes_of_the_journal_and_of_texts_are_found() {
    let dir = killed().await;
    let mut seen = 0;
    for (path, content, _) in files(dir.path()) {
        let text = path.starts_with(dir.path().join("texts"));
        // The places that have a meaning: the header of a segment, and the entries with a text.
        let places: Vec<usize> = match path.extension().is_some_and(|kind| kind == "seg") {
            true => {
                let found = content.windows(7).position(|bytes| bytes == b"number ");
                let entry = found.map_or(0..0, |at| (at - 200).max(4096)..at + 20_000);
                (0..64).step_by(7).chain(entry.step_by(389)).collect()
            }
            false if text => vec![0, content.len() / 2, content.len() - 1],
            false => continue,
        };
        for at in places {
            let mut changed = content.clone();
            changed[at] ^= 4;
            fs::write(&path, &changed).unwrap();
            assert!(is_damaged(dir.path()), "{} {at}", path.display());
            seen += 1;
        }
        if text {
            fs::write(&path, &content[1..]).unwrap();
            assert!(is_damaged(dir.path()), "a byte less");
            fs::remove_file(&path).unwrap();
            assert!(is_damaged(dir.path()), "no file");
        }
        fs::write(&path, &content).unwrap();
    }
    assert!(seen > 100, "{seen}");
    assert!(!is_damaged(dir.path()));
}

/// The tables whose rows nothing else in the store tells.
const ALONE: &[&str] = &[
    "meta",
    "answers",
    "answer_names",
    "counted",
    "sent",
    "known",
    "known_walk",
    "api_keys",
    "credentials",
    "audit",
    "events",
    // An account without a sum is counted with its next mail.
    "mail_usage",
    "expiry",
    "moved_texts",
    "claimed_hooks",
];

/// Rows that are missing in any table are found, where other tables or counters tell of it.
pub(super) fn missing_rows_are_found(dir: &Path) {
    let path = dir.join("index.redb");
    let whole = fs::read(&path).unwrap();
    let names: Vec<String> = {
        let database = Database::open(&path).unwrap();
        let read = redb::ReadableDatabase::begin_read(&database).unwrap();
        let names = read.list_tables().unwrap();
        names.map(|table| table.name().to_owned()).collect()
    };
    let (mut seen, mut unseen) = (0, Vec::new());
    for name in names.iter().filter(|name| !ALONE.contains(&name.as_str())) {
        fs::write(&path, &whole).unwrap();
        let database = Database::open(&path).unwrap();
        let write = database.begin_write().unwrap();
        let removed = {
            let definition = TableDefinition::<&[u8], &[u8]>::new(name);
            let mut table = write.open_table(definition).unwrap();
            let rows = redb::ReadableTableMetadata::len(&table).unwrap();
            table.retain(|_, _| false).unwrap();
            rows > 0
        };
        write.commit().unwrap();
        drop(database);
        if removed {
            seen += 1;
            if !is_damaged(dir) {
                unseen.push(name.as_str());
            }
        }
    }
    assert!(seen > 15, "only {seen} tables have rows");
    assert_eq!(unseen, [""; 0]);
    fs::write(&path, &whole).unwrap();
    assert!(!is_damaged(dir));
}
