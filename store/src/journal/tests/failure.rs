//! Tests of failing syncs and full disks.

use super::{super::*, SEGMENT, batch, expect, open, open_with, options, put};
use crate::disk::sim::SimDisk;

#[test]
fn a_failed_sync_seals_the_segment_and_cancels_the_batch() {
    for power in [false, true] {
        let disk = SimDisk::new(1);
        let (mut journal, _) = open(&disk, None).unwrap();
        let kept = put(&mut journal, "a", b"kept").unwrap().texts[0].unwrap();
        let sealed = journal.end().generation;
        disk.fail_sync_after(0);
        assert!(matches!(
            put(&mut journal, "b", b"canceled"),
            Err(AppendError::Failed(_))
        ));
        assert_eq!(journal.end().generation, sealed + 1);
        assert_eq!(journal.reader().read(kept, 0..4).unwrap(), "kept");
        if power {
            disk.crash();
            drop(journal);
            let mut journal = expect(&disk, None, &["a"]);
            put(&mut journal, "c", b"").unwrap();
        } else {
            let sealed_file = disk.content(&segment_name(sealed)).unwrap();
            put(&mut journal, "c", b"").unwrap();
            assert_eq!(disk.content(&segment_name(sealed)).unwrap(), sealed_file);
            disk.crash();
        }
        let journal = expect(&disk, None, &["a", "c"]);
        assert_eq!(journal.reader().read(kept, 0..4).unwrap(), "kept");
    }
}

/// The first append has three syncs: two prepare the next segment, one makes the batch durable.
#[test]
fn a_first_batch_whose_sync_fails_is_canceled_too() {
    for (after, expected) in [
        (0, ["a", "b"].as_slice()),
        (1, &["a", "b"]),
        (2, &["b"]),
        (3, &["a"]),
    ] {
        let disk = SimDisk::new(1);
        let (mut journal, _) = open(&disk, None).unwrap();
        disk.fail_sync_after(after);
        for name in ["a", "b"] {
            let result = put(&mut journal, name, b"");
            assert_eq!(
                result.is_ok(),
                expected.contains(&name),
                "{after}: {result:?}"
            );
        }
        disk.crash();
        drop(journal);
        expect(&disk, None, expected);
    }
}

#[test]
fn a_second_failure_closes_the_journal() {
    let disk = SimDisk::new(1);
    let (mut journal, _) = open(&disk, None).unwrap();
    put(&mut journal, "a", b"").unwrap();
    for expected in ["failed", "closed"] {
        disk.fail_sync_after(0);
        let error = put(&mut journal, "b", b"").unwrap_err();
        assert_eq!(
            matches!(error, AppendError::Closed(_)),
            expected == "closed",
            "{error}"
        );
        if expected == "failed" {
            put(&mut journal, "c", b"").unwrap();
        }
    }
    assert!(matches!(
        put(&mut journal, "d", b""),
        Err(AppendError::Closed(_))
    ));
    drop(journal);
    // The same holds when the start of the next segment fails.
    let disk = SimDisk::new(1);
    let (mut journal, _) = open(&disk, None).unwrap();
    put(&mut journal, "a", b"").unwrap();
    disk.fail_syncs_from(0);
    assert!(matches!(
        put(&mut journal, "b", b""),
        Err(AppendError::Closed(_))
    ));
}

#[test]
fn a_failed_segment_is_not_recycled() {
    let disk = SimDisk::new(1);
    let (mut journal, _) = open(&disk, None).unwrap();
    put(&mut journal, "a", b"").unwrap();
    let sealed = journal.end().generation;
    disk.fail_sync_after(0);
    put(&mut journal, "b", b"").unwrap_err();
    put(&mut journal, "c", b"").unwrap();
    let spares = |disk: &SimDisk| {
        disk.list(DIR)
            .unwrap()
            .iter()
            .filter(|name| name.ends_with(".spare"))
            .count()
    };
    let before = spares(&disk);
    assert!(journal.release(sealed));
    assert_eq!(spares(&disk), before);
    assert_eq!(disk.content(&segment_name(sealed)), None);
}

#[test]
fn a_full_disk_refuses_new_mail_and_has_a_reserve_for_the_rest() {
    let disk = SimDisk::new(1);
    let (mut journal, _) = open(&disk, None).unwrap();
    disk.set_space(Some(1000));
    let mut names = Vec::new();
    let mut number = 0;
    let error = loop {
        let name = format!("n{number}");
        number += 1;
        match put(&mut journal, &name, &[0; 3000]) {
            Ok(_) => names.push(name),
            Err(error) => break error,
        }
    };
    // The preallocated segments were used up.
    assert!(names.len() > 5);
    assert!(matches!(error, AppendError::Full(_)), "{error}");
    for name in ["r1", "r2"] {
        journal
            .append(&mut batch(&[(name, b"")]), Space::Reserve)
            .unwrap();
        names.push(name.into());
    }
    assert!(
        matches!(put(&mut journal, "no", b""), Err(AppendError::Full(_))),
        "the reserve is not for new mail"
    );
    // The reserve can be used up too.
    let mut error = None;
    while error.is_none() {
        error = match journal.append(&mut batch(&[("r", &[0; 3000])]), Space::Reserve) {
            Ok(_) => {
                names.push("r".into());
                None
            }
            Err(error) => Some(error),
        };
    }
    assert!(matches!(error, Some(AppendError::Full(_))));
    disk.set_space(Some(10 * SEGMENT));
    put(&mut journal, "again", b"").unwrap();
    names.push("again".into());
    disk.crash();
    drop(journal);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    expect(&disk, None, &names);
}

#[test]
fn a_released_segment_gives_space_on_a_full_disk() {
    let disk = SimDisk::new(1);
    let (mut journal, _) = open(&disk, None).unwrap();
    while journal.segments().len() < 3 {
        put(&mut journal, "x", &[0; 3000]).unwrap();
    }
    disk.set_space(Some(0));
    while put(&mut journal, "x", &[0; 3000]).is_ok() {}
    let oldest = journal.segments()[0].generation;
    assert!(journal.release(oldest));
    put(&mut journal, "y", &[0; 3000]).unwrap();
}

#[test]
fn the_journal_leaves_the_free_space_that_its_options_name() {
    let disk = SimDisk::new(1);
    disk.set_space(Some(10 * SEGMENT));
    let options = JournalOptions {
        min_free: 5 * SEGMENT,
        ..options()
    };
    let (mut journal, _) = open_with(disk.disk(), options, None).unwrap();
    while put(&mut journal, "x", &[0; 3000]).is_ok() {}
    assert!(disk.free().unwrap() >= 5 * SEGMENT);
    assert!(journal.segments().len() >= 3);
}

/// On a file system where a write over a file takes space, a write can stop in the middle.
#[test]
fn a_full_copy_on_write_disk_cancels_the_batch() {
    let disk = SimDisk::new(1);
    let (mut journal, _) = open(&disk, None).unwrap();
    put(&mut journal, "a", b"").unwrap();
    disk.set_copy_on_write(true);
    disk.set_space(Some(10_000));
    assert!(matches!(
        put(&mut journal, "b", &[0; 20_000]),
        Err(AppendError::Full(_))
    ));
    assert!(matches!(
        put(&mut journal, "c", &[0; 20_000]),
        Err(AppendError::Full(_))
    ));
    disk.set_space(Some(100 * SEGMENT));
    put(&mut journal, "d", b"").unwrap();
    disk.kill();
    drop(journal);
    expect(&disk, None, &["a", "d"]);
}

/// After `kill -9` the kernel may still show a batch that never reached the disk. The start has
/// read the batch, and later batches rely on it. So a power cut must not lose it.
#[test]
fn a_batch_that_was_read_after_a_kill_survives_a_power_cut() {
    for seed in 0..50 {
        let disk = SimDisk::new(seed);
        let (mut journal, _) = open(&disk, None).unwrap();
        put(&mut journal, "a", b"").unwrap();
        // The write succeeds, the sync fails.
        disk.fail_power_after(1);
        put(&mut journal, "b", &[0; 9000]).unwrap_err();
        disk.kill();
        drop(journal);
        let mut journal = expect(&disk, None, &["a", "b"]);
        put(&mut journal, "c", b"").unwrap();
        disk.crash();
        drop(journal);
        expect(&disk, None, &["a", "b", "c"]);
    }
}
