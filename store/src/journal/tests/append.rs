//! Tests of appending, reading and releasing.

use std::sync::Arc;

use super::{super::*, SEGMENT, active, batch, expect, open, open_with, ops, options, put};
use crate::disk::{FsDisk, sim::SimDisk};

#[test]
fn entries_are_read_back_in_order_with_their_texts() {
    for real in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = if real {
            Arc::new(FsDisk::open(folder.path().join("data")).unwrap())
        } else {
            SimDisk::new(1).disk()
        };
        let options = JournalOptions {
            background: real,
            ..options()
        };
        let (mut journal, read) = open_with(Arc::clone(&disk), options.clone(), None).unwrap();
        assert_eq!(ops(&read), [""; 0]);
        let text = vec![b'x'; 5000];
        for number in 0..40 {
            let (one, two) = (format!("a{number}"), format!("b{number}"));
            let mut batch = batch(&[(&one, &text), (&two, b"")]);
            let appended = journal.append(&mut batch, Space::Ordinary).unwrap();
            let place = appended.texts[0].unwrap();
            assert_eq!(appended.texts[1], None);
            assert_eq!(journal.reader().read(place, 0..5000).unwrap(), text);
            assert_eq!(
                journal.reader().read(place, 4990..9999).unwrap(),
                text[4990..]
            );
        }
        assert!(journal.segments().len() > 5);
        drop(journal);
        let (_journal, read) = open_with(disk, options, None).unwrap();
        let expected: Vec<String> = (0..40)
            .flat_map(|number| [format!("a{number}"), format!("b{number}")])
            .collect();
        assert_eq!(ops(&read), expected);
    }
}

#[test]
fn a_batch_costs_one_write_and_one_sync() {
    let disk = SimDisk::new(1);
    let (mut journal, _) = open(&disk, None).unwrap();
    put(&mut journal, "first", b"").unwrap();
    let before = disk.counts();
    let mut batch = batch(&[("a", &[1; 3000]), ("b", &[2; 300]), ("c", b"")]);
    journal.append(&mut batch, Space::Ordinary).unwrap();
    let after = disk.counts();
    assert_eq!(
        (after.writes - before.writes, after.syncs - before.syncs),
        (1, 1)
    );
    assert_eq!(after.dir_syncs, before.dir_syncs);
}

#[test]
fn a_batch_can_be_appended_again() {
    let disk = SimDisk::new(1);
    let (mut journal, _) = open(&disk, None).unwrap();
    let mut batch = batch(&[("a", b"text")]);
    let size = batch.size();
    journal.append(&mut batch, Space::Ordinary).unwrap();
    assert_eq!(batch.size(), size);
    journal.append(&mut batch, Space::Ordinary).unwrap();
    batch.clear();
    assert!(batch.is_empty());
    journal.append(&mut batch, Space::Ordinary).unwrap();
    drop(journal);
    expect(&disk, None, &["a", "a"]);
}

#[test]
fn replay_begins_at_the_given_position() {
    let disk = SimDisk::new(1);
    let (mut journal, _) = open(&disk, None).unwrap();
    let start = journal.end();
    let mut ends = vec![start];
    let names: Vec<String> = (0..20).map(|number| number.to_string()).collect();
    for name in &names {
        let appended = put(&mut journal, name, &[0; 4000]).unwrap();
        assert_eq!(appended.end, journal.end());
        ends.push(journal.end());
    }
    drop(journal);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for (number, end) in ends.iter().enumerate() {
        expect(&disk, Some(*end), &names[number..]);
    }
    // The position of an idle journal stays valid over restarts, with and without appends.
    let end = *ends.last().unwrap();
    let mut journal = expect(&disk, Some(end), &[]);
    assert_eq!(journal.end(), end);
    put(&mut journal, "more", b"").unwrap();
    let later = journal.end();
    drop(journal);
    expect(&disk, Some(end), &["more"]);
    expect(&disk, Some(later), &[]);
}

#[test]
fn a_batch_fills_a_segment_or_is_refused() {
    let disk = SimDisk::new(1);
    let (mut journal, _) = open(&disk, None).unwrap();
    let max = journal.max_batch();
    let text = vec![7; max - Batch::entry_size(1, 0)];
    let place = put(&mut journal, "a", &text).unwrap().texts[0].unwrap();
    put(&mut journal, "b", b"").unwrap();
    assert_eq!(journal.reader().read(place, 0..u64::MAX).unwrap(), text);
    let text = vec![7; max - Batch::entry_size(1, 0) + 8];
    match put(&mut journal, "c", &text) {
        Err(AppendError::TooLarge { bytes, max: most }) => {
            assert_eq!((bytes, most), (max + 8, max))
        }
        other => panic!("{other:?}"),
    }
    put(&mut journal, "d", b"").unwrap();
    drop(journal);
    expect(&disk, None, &["a", "b", "d"]);
}

#[test]
fn a_second_opener_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for disk in [
        SimDisk::new(1).disk(),
        Arc::new(FsDisk::open(folder.path()).unwrap()),
    ] {
        let (journal, _) = open_with(Arc::clone(&disk), options(), None).unwrap();
        assert!(matches!(
            open_with(Arc::clone(&disk), options(), None),
            Err(JournalError::InUse)
        ));
        drop(journal);
        open_with(disk, options(), None).unwrap();
    }
}

#[test]
fn the_callers_error_is_given_back_with_the_place() {
    let disk = SimDisk::new(1);
    let (mut journal, _) = open(&disk, None).unwrap();
    put(&mut journal, "a", b"").unwrap();
    let offset = put(&mut journal, "b", b"text").unwrap().texts[0]
        .unwrap()
        .offset;
    drop(journal);
    let result = Journal::open(disk.disk(), options(), None, &mut |entry| {
        if entry.op == b"b" {
            Err("no such op".into())
        } else {
            Ok(())
        }
    });
    match result {
        Err(JournalError::Apply {
            offset: at, error, ..
        }) => {
            assert_eq!(
                (at, error.to_string()),
                (u64::from(offset) - 33, "no such op".into())
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_reader_can_go_on_in_a_released_segment() {
    let disk = SimDisk::new(1);
    let (mut journal, _) = open(&disk, None).unwrap();
    let place = put(&mut journal, "a", b"kept").unwrap().texts[0].unwrap();
    let text = journal.reader().text(place).unwrap();
    while journal.end().generation == place.generation {
        put(&mut journal, "b", &[0; 5000]).unwrap();
    }
    assert!(journal.release(place.generation));
    assert!(matches!(
        journal.reader().text(place),
        Err(ReadError::Released { .. })
    ));
    for _ in 0..30 {
        put(&mut journal, "b", &[0; 5000]).unwrap();
        for segment in journal.segments() {
            journal.release(segment.generation);
        }
    }
    assert_eq!(text.read(0..4).unwrap(), "kept");
}

#[test]
fn other_files_in_the_folder_stay_as_they_are() {
    let disk = SimDisk::new(1);
    for name in ["journal/notes.txt", "journal/12.seg", "journal/lost+found"] {
        disk.set_content(name, b"mine");
    }
    let (mut journal, _) = open(&disk, None).unwrap();
    put(&mut journal, "a", b"").unwrap();
    drop(journal);
    expect(&disk, None, &["a"]);
    assert_eq!(disk.content("journal/12.seg").unwrap(), b"mine");
}

#[test]
fn a_changed_segment_size_takes_effect_and_old_segments_stay_readable() {
    let disk = SimDisk::new(1);
    let (mut journal, _) = open(&disk, None).unwrap();
    let place = put(&mut journal, "a", b"old").unwrap().texts[0].unwrap();
    drop(journal);
    let options = JournalOptions {
        segment_size: 2 * SEGMENT,
        ..options()
    };
    let (mut journal, read) = open_with(disk.disk(), options, None).unwrap();
    assert_eq!(ops(&read), ["a"]);
    put(&mut journal, "b", b"").unwrap();
    assert_eq!(journal.segments().last().unwrap().size, 2 * SEGMENT);
    assert_eq!(journal.reader().read(place, 0..3).unwrap(), "old");
}

#[test]
fn a_segments_image_can_be_checked() {
    let disk = SimDisk::new(1);
    let (mut journal, _) = open(&disk, None).unwrap();
    put(&mut journal, "a", b"text").unwrap();
    put(&mut journal, "bc", b"").unwrap();
    let content = disk.content(&active(&journal)).unwrap();
    assert_eq!(
        check(&content).unwrap(),
        Checked {
            entries: 2,
            bytes: 7
        }
    );
    assert!(matches!(
        check(&[]),
        Err(JournalError::Corrupt { offset: 0, .. })
    ));
    assert!(matches!(
        check(&content[..content.len() - 1]),
        Err(JournalError::Corrupt { offset: 0, .. })
    ));
}
