//! Tests of the disks. Both keep the same contract. The simulated disk breaks everything that may
//! break.

use std::{collections::BTreeSet, sync::Arc};

use redb::{ReadableDatabase, ReadableTable, TableDefinition};

use super::{redb_backend::RedbFile, sim::SimDisk, *};

fn kind<T: fmt::Debug>(result: io::Result<T>) -> io::ErrorKind {
    result.unwrap_err().kind()
}

#[test]
fn a_real_and_a_simulated_disk_behave_alike() {
    let folder = tempfile::tempdir().unwrap();
    let real = FsDisk::open(folder.path().join("a/b")).unwrap();
    for disk in [Arc::new(real) as Arc<dyn Disk>, SimDisk::new(1).disk()] {
        disk.create_dir("d").unwrap();
        disk.create_dir("d").unwrap();
        assert_eq!(
            kind(disk.open("d/x", Open::Existing)),
            io::ErrorKind::NotFound
        );
        assert_eq!(
            kind(disk.open("none/x", Open::New)),
            io::ErrorKind::NotFound
        );
        assert_eq!(kind(disk.list("none")), io::ErrorKind::NotFound);
        assert_eq!(kind(disk.remove("d/x")), io::ErrorKind::NotFound);
        assert_eq!(kind(disk.rename("d/x", "d/y")), io::ErrorKind::NotFound);
        let file = disk.open("d/x", Open::New).unwrap();
        assert_eq!(
            kind(disk.open("d/x", Open::New)),
            io::ErrorKind::AlreadyExists
        );
        file.write_at(b"world", 6).unwrap();
        file.write_at(b"hello", 0).unwrap();
        assert_eq!(file.size().unwrap(), 11);
        let mut bytes = [0; 11];
        let same = disk.open("d/x", Open::Either).unwrap();
        same.read_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"hello\0world");
        assert_eq!(
            kind(same.read_at(&mut bytes, 1)),
            io::ErrorKind::UnexpectedEof
        );
        file.set_size(3).unwrap();
        file.set_size(5).unwrap();
        same.read_at(&mut bytes[..5], 0).unwrap();
        assert_eq!(&bytes[..5], b"hel\0\0");
        file.sync_data().unwrap();
        file.sync_all().unwrap();
        disk.open("d/y", Open::Either)
            .unwrap()
            .write_at(b"gone", 0)
            .unwrap();
        disk.rename("d/x", "d/y").unwrap();
        disk.sync_dir("d").unwrap();
        assert_eq!(disk.list("").unwrap(), ["d"]);
        assert_eq!(disk.list("d").unwrap(), ["y"]);
        disk.remove("d/y").unwrap();
        same.read_at(&mut bytes[..3], 0).unwrap();
        assert_eq!(&bytes[..3], b"hel", "a reader goes on after the removal");
        let lock = disk.lock("lock").unwrap();
        assert!(lock.is_some());
        assert!(disk.lock("lock").unwrap().is_none());
        drop(lock);
        assert!(disk.lock("lock").unwrap().is_some());
        assert!(disk.free().unwrap() > 0);
    }
}

#[test]
fn a_real_disk_makes_private_files_and_folders() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let disk = FsDisk::open(folder.path().join("data")).unwrap();
    disk.create_dir("d").unwrap();
    disk.open("d/x", Open::New).unwrap();
    for (name, expected) in [("", 0o700), ("d", 0o700), ("d/x", 0o600)] {
        let mode = std::fs::metadata(disk.root().join(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, expected, "{name}");
    }
}

#[test]
fn a_real_disk_follows_no_links() {
    let folder = tempfile::tempdir().unwrap();
    let disk = FsDisk::open(folder.path().join("data")).unwrap();
    let others = folder.path().join("others");
    std::fs::write(&others, "kept").unwrap();
    for target in [&others, &folder.path().join("missing")] {
        let link = folder.path().join("data/link");
        std::os::unix::fs::symlink(target, &link).unwrap();
        for open in [Open::Existing, Open::Either, Open::New] {
            assert!(disk.open("link", open).is_err(), "{open:?}");
        }
        assert!(disk.lock("link").is_err());
        std::fs::remove_file(link).unwrap();
    }
    assert_eq!(std::fs::read(&others).unwrap(), b"kept");
    assert!(!folder.path().join("missing").exists());
}

/// Writes to a file of four sectors and crashes, many times. Gives the different contents of the
/// sectors.
fn outcomes(write: impl Fn(&SimDisk, &dyn DiskFile)) -> BTreeSet<String> {
    (0..300)
        .map(|seed| {
            let disk = SimDisk::new(seed);
            disk.set_content("f", &[b'-'; 4 * sim::SECTOR]);
            let file = disk.open("f", Open::Existing).unwrap();
            write(&disk, &*file);
            disk.crash();
            let content = disk.content("f").unwrap();
            content
                .chunks(sim::SECTOR)
                .map(|sector| {
                    assert!(
                        sector.iter().all(|byte| *byte == sector[0]),
                        "a sector is never torn"
                    );
                    char::from(sector[0])
                })
                .collect()
        })
        .collect()
}

#[test]
fn an_unsynced_write_is_kept_lost_or_torn() {
    let after = outcomes(|_, file| file.write_at(&[b'x'; 4 * sim::SECTOR], 0).unwrap());
    assert_eq!(after.len(), 16, "any sectors: {after:?}");
    let after = outcomes(|_, file| {
        file.write_at(&[b'x'; 4 * sim::SECTOR], 0).unwrap();
        file.sync_data().unwrap();
    });
    assert_eq!(after, BTreeSet::from(["xxxx".into()]));
    let after = outcomes(|_, file| {
        file.write_at(&[b'x'; sim::SECTOR], 0).unwrap();
        file.sync_data().unwrap();
        file.write_at(&[b'y'; sim::SECTOR], 0).unwrap();
        file.write_at(&[b'z'; sim::SECTOR], 0).unwrap();
    });
    assert_eq!(after, ["x---", "y---", "z---"].map(String::from).into());
    let after = outcomes(|_, file| file.set_size(2 * sim::SECTOR as u64).unwrap());
    assert_eq!(after, ["--", "----"].map(String::from).into());
}

#[test]
fn a_sync_after_a_failed_one_proves_nothing() {
    let after = outcomes(|disk, file| {
        file.write_at(&[b'x'; sim::SECTOR], 0).unwrap();
        disk.fail_sync_after(0);
        file.sync_data().unwrap_err();
        file.sync_data().unwrap();
        let mut byte = [0];
        file.read_at(&mut byte, 0).unwrap();
        assert_eq!(byte, [b'x'], "the byte is still visible");
    });
    assert_eq!(after, ["----", "x---"].map(String::from).into());
}

/// Acts on a folder and crashes, many times. Gives the different lists of names.
fn names(act: impl Fn(&SimDisk)) -> BTreeSet<Vec<String>> {
    (0..100)
        .map(|seed| {
            let disk = SimDisk::new(seed);
            disk.set_content("a", b"a");
            disk.set_content("b", b"b");
            act(&disk);
            disk.crash();
            disk.list("").unwrap()
        })
        .collect()
}

#[test]
fn names_are_safe_after_a_sync_of_their_folder() {
    let act = |disk: &SimDisk| {
        disk.rename("a", "c").unwrap();
        disk.remove("b").unwrap();
        disk.open("d", Open::New).unwrap().sync_all().unwrap();
    };
    let all = |names: &[&[&str]]| -> BTreeSet<Vec<String>> {
        names
            .iter()
            .map(|names| names.iter().map(|name| (*name).to_owned()).collect())
            .collect()
    };
    assert_eq!(
        names(act),
        // Any part of the three changes, in the order of the names.
        all(&[
            &["a", "b"],
            &["b", "c"],
            &["a"],
            &["c"],
            &["a", "b", "d"],
            &["b", "c", "d"],
            &["a", "d"],
            &["c", "d"],
        ])
    );
    let synced = names(|disk| {
        act(disk);
        disk.sync_dir("").unwrap();
    });
    assert_eq!(synced, all(&[&["c", "d"]]));
    let replaced = SimDisk::new(1);
    replaced.set_content("a", b"new");
    replaced.set_content("b", b"old");
    replaced.rename("a", "b").unwrap();
    replaced.crash();
    let content = replaced.content("b").unwrap();
    assert!(content == b"old" && replaced.content("a").is_some() || content == b"new");
}

#[test]
fn after_a_crash_or_kill_old_handles_and_locks_are_void() {
    for crash in [true, false] {
        let disk = SimDisk::new(1);
        let file = disk.open("f", Open::New).unwrap();
        let lock = disk.lock("lock").unwrap().unwrap();
        disk.sync_dir("").unwrap();
        file.write_at(b"x", 0).unwrap();
        if crash {
            disk.crash();
        } else {
            disk.kill();
            assert_eq!(disk.content("f").unwrap(), b"x");
        }
        assert!(
            file.write_at(b"y", 0).is_err() && file.sync_all().is_err() && file.size().is_err()
        );
        let again = disk.lock("lock").unwrap();
        assert!(again.is_some());
        drop(lock);
        assert!(
            disk.lock("lock").unwrap().is_none(),
            "the drop of the dead lock does not free the new one"
        );
    }
}

#[test]
fn the_power_fails_after_the_given_number_of_changes() {
    let disk = SimDisk::new(1);
    let file = disk.open("f", Open::New).unwrap();
    disk.fail_power_after(2);
    file.write_at(b"x", 0).unwrap();
    file.sync_all().unwrap();
    assert!(file.write_at(b"x", 0).is_err());
    assert!(disk.list("").is_err());
    disk.crash();
    assert!(disk.list("").is_ok());
}

#[test]
fn a_full_disk_writes_the_bytes_that_fit() {
    let disk = SimDisk::new(1);
    let file = disk.open("f", Open::New).unwrap();
    disk.set_space(Some(10));
    file.write_at(&[1; 6], 0).unwrap();
    let error = file.write_at(&[2; 6], 6).unwrap_err();
    assert!(is_full(&error));
    assert_eq!((file.size().unwrap(), disk.free().unwrap()), (10, 0));
    file.write_at(&[3; 10], 0).unwrap();
    file.set_size(4).unwrap();
    assert_eq!(disk.free().unwrap(), 6);
    disk.remove("f").unwrap();
    assert_eq!(disk.free().unwrap(), 10);
}

/// Runs redb on a disk that loses power. Every committed row is there.
#[test]
fn redb_keeps_committed_rows() {
    const TABLE: TableDefinition<'_, u64, u64> = TableDefinition::new("numbers");
    let disk = SimDisk::new(7);
    let open = || {
        let file = disk.open("index", Open::Either).unwrap();
        disk.sync_dir("").unwrap();
        redb::Builder::new().create_with_backend(RedbFile::new(file))
    };
    let mut committed = 0;
    for round in 0..40 {
        let database = open().unwrap();
        let read = database.begin_read().unwrap();
        if committed > 0 {
            let table = read.open_table(TABLE).unwrap();
            let last = table.last().unwrap().map_or(0, |(key, _)| key.value());
            // The last commit may have succeeded or not.
            assert!(
                last == committed || last == committed + 1,
                "{last} {committed}"
            );
            committed = last;
            let all: Vec<u64> = table
                .iter()
                .unwrap()
                .map(|row| row.unwrap().1.value())
                .collect();
            assert_eq!(all, (1..=last).collect::<Vec<_>>());
        }
        drop(read);
        disk.fail_power_after(5 + round * 3);
        loop {
            let next = committed + 1;
            let commit = || -> Result<(), redb::Error> {
                let mut write = database.begin_write()?;
                write.set_quick_repair(true);
                write.open_table(TABLE)?.insert(next, next)?;
                write.commit()?;
                Ok(())
            };
            if commit().is_err() {
                break;
            }
            committed = next;
        }
        drop(database);
        disk.crash();
    }
    assert!(committed > 100, "{committed}");
}
