//! Tests of the journal, most of them on a simulated disk.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};

use proptest::prelude::*;

use super::*;
use crate::disk::{FsDisk, sim::SimDisk};

const SEGMENT: u64 = 32 * 1024;

fn options() -> JournalOptions {
    // Salts never repeat, as with true randomness.
    static SEED: AtomicU64 = AtomicU64::new(0);
    JournalOptions {
        segment_size: SEGMENT,
        reserve_size: 16 * 1024,
        keep: 2,
        min_free: 0,
        background: false,
        seed: Some(SEED.fetch_add(1, Ordering::Relaxed)),
    }
}

type Read = Vec<(String, Option<BodyPlace>)>;

fn open_with(
    disk: Arc<dyn Disk>,
    options: JournalOptions,
    from: Option<Position>,
) -> Result<(Journal, Read), JournalError> {
    let mut read = Vec::new();
    let journal = Journal::open(disk, options, from, &mut |entry| {
        read.push((String::from_utf8(entry.op.to_vec())?, entry.body));
        Ok(())
    })?;
    Ok((journal, read))
}

fn open(disk: &SimDisk, from: Option<Position>) -> Result<(Journal, Read), JournalError> {
    open_with(disk.disk(), options(), from)
}

fn batch(entries: &[(&str, &[u8])]) -> Batch {
    let mut batch = Batch::new();
    for (op, body) in entries {
        batch.push(1, op.as_bytes(), body);
    }
    batch
}

fn put(journal: &mut Journal, op: &str, body: &[u8]) -> Result<Appended, AppendError> {
    journal.append(&mut batch(&[(op, body)]), Room::Ordinary)
}

fn ops(read: &Read) -> Vec<&str> {
    read.iter().map(|(op, _)| op.as_str()).collect()
}

fn active(journal: &Journal) -> String {
    segment_name(journal.segments().last().unwrap().generation)
}

/// Opens it again, expects these ops, and gives the journal.
fn expect(disk: &SimDisk, from: Option<Position>, expected: &[&str]) -> Journal {
    let (journal, read) = open(disk, from).unwrap();
    assert_eq!(ops(&read), expected);
    journal
}

#[test]
fn what_is_appended_is_read_back_in_order_with_its_bodies() {
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
        let body = vec![b'x'; 5000];
        for number in 0..40 {
            let (one, two) = (format!("a{number}"), format!("b{number}"));
            let mut batch = batch(&[(&one, &body), (&two, b"")]);
            let appended = journal.append(&mut batch, Room::Ordinary).unwrap();
            let place = appended.bodies[0].unwrap();
            assert_eq!(appended.bodies[1], None);
            assert_eq!(journal.reader().read(place, 0..5000).unwrap(), body);
            assert_eq!(
                journal.reader().read(place, 4990..9999).unwrap(),
                body[4990..]
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
    journal.append(&mut batch, Room::Ordinary).unwrap();
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
    let mut batch = batch(&[("a", b"body")]);
    let size = batch.size();
    journal.append(&mut batch, Room::Ordinary).unwrap();
    assert_eq!(batch.size(), size);
    journal.append(&mut batch, Room::Ordinary).unwrap();
    batch.clear();
    assert!(batch.is_empty());
    journal.append(&mut batch, Room::Ordinary).unwrap();
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
    // The position of an idle journal stays good over restarts that append nothing, and some that do.
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
    let body = vec![7; max - Batch::entry_size(1, 0)];
    let place = put(&mut journal, "a", &body).unwrap().bodies[0].unwrap();
    put(&mut journal, "b", b"").unwrap();
    assert_eq!(journal.reader().read(place, 0..u64::MAX).unwrap(), body);
    let body = vec![7; max - Batch::entry_size(1, 0) + 8];
    match put(&mut journal, "c", &body) {
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
fn a_newer_version_is_named_and_left_alone() {
    let disk = SimDisk::new(1);
    let (mut journal, _) = open(&disk, None).unwrap();
    put(&mut journal, "a", b"").unwrap();
    let file = active(&journal);
    drop(journal);
    let mut content = disk.content(&file).unwrap();
    content[8] = 2;
    // A later version may do as it likes with the rest.
    content[12..64].fill(0xee);
    disk.set_content(&file, &content);
    let error = open(&disk, None).unwrap_err();
    assert!(matches!(&error, JournalError::Newer { file: named, version: 2 } if *named == file));
    assert!(error.to_string().contains("made by a newer postrider"));
    assert_eq!(disk.content(&file).unwrap(), content);
}

#[test]
fn an_unknown_kind_of_entry_is_named() {
    let disk = SimDisk::new(1);
    let (mut journal, _) = open(&disk, None).unwrap();
    put(&mut journal, "a", b"").unwrap();
    let (file, end) = (active(&journal), journal.end());
    drop(journal);
    let mut content = disk.content(&file).unwrap();
    let seed = frame::SegmentHeader::decode(&content).unwrap().seed();
    let header = EntryHeader {
        kind: Kind::Unknown(9),
        version: 1,
        last: true,
        batch: end.batch,
        op_len: 0,
        body_len: 0,
        op_crc: 0,
        body_crc: 0,
    };
    let at = end.offset as usize;
    content[at..at + ENTRY_HEADER].copy_from_slice(&header.encode(seed, end.offset));
    disk.set_content(&file, &content);
    let error = open(&disk, None).unwrap_err();
    assert!(
        matches!(error, JournalError::UnknownEntry { offset, .. } if offset == u64::from(end.offset))
    );
}

/// Three batches; any bit that is wrong in the first two is damage at a known place, any in the last is a torn tail.
#[test]
fn damage_in_the_middle_is_an_error_and_at_the_end_a_torn_tail() {
    let disk = SimDisk::new(1);
    let (mut journal, _) = open(&disk, None).unwrap();
    let mut starts = Vec::new();
    for names in [["a", "b"], ["c", "d"], ["e", "f"]] {
        let place = journal.append(
            &mut batch(&[(names[0], b"some text"), (names[1], b"more")]),
            Room::Ordinary,
        );
        let bodies = place.unwrap().bodies;
        starts.extend(bodies.iter().map(|body| body.unwrap().offset - 33));
    }
    let file = active(&journal);
    drop(journal);
    let content = disk.content(&file).unwrap();
    let names = ["a", "b", "c", "d", "e", "f"];
    for (number, start) in starts.iter().enumerate() {
        // Header, op and body of 9 or 4 bytes.
        let len = 33 + if number % 2 == 0 { 9 } else { 4 };
        for at in 0..len {
            let mut content = content.clone();
            content[*start as usize + at] ^= 0x10;
            let disk = SimDisk::new(1);
            disk.set_content(&file, &content);
            match open(&disk, None) {
                Ok((_, read)) => {
                    assert!(number >= 4, "{number} {at}");
                    assert_eq!(ops(&read), names[..number]);
                }
                Err(JournalError::Corrupt {
                    file: named,
                    offset,
                }) => {
                    assert!(number < 4, "{number} {at}");
                    assert_eq!((named, offset), (file.clone(), u64::from(*start)));
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
    // The start entry and the segment's header too.
    for at in [0, 9, 17, 30, 40, 4096, 4100, 4096 + 40] {
        let mut content = content.clone();
        content[at] ^= 0x10;
        let disk = SimDisk::new(1);
        disk.set_content(&file, &content);
        match open(&disk, None) {
            Err(JournalError::Corrupt { offset, .. }) => {
                assert_eq!(offset, at as u64 / 4096 * 4096)
            }
            Err(JournalError::Newer { .. }) => assert_eq!(at, 9),
            other => panic!("{at}: {other:?}"),
        }
    }
}

#[test]
fn damage_in_an_older_segment_is_an_error_even_at_its_end() {
    let disk = SimDisk::new(1);
    let (mut journal, _) = open(&disk, None).unwrap();
    let mut last = BTreeMap::new();
    while journal.segments().len() < 3 {
        let place = put(&mut journal, "x", &[3; 5000]).unwrap().bodies[0].unwrap();
        last.insert(place.generation, place);
    }
    drop(journal);
    let (generation, place) = last.first_key_value().unwrap();
    let file = segment_name(*generation);
    let mut content = disk.content(&file).unwrap();
    content[place.offset as usize] ^= 1;
    disk.set_content(&file, &content);
    match open(&disk, None) {
        Err(JournalError::Corrupt {
            file: named,
            offset,
        }) => {
            assert_eq!((named, offset), (file, u64::from(place.offset) - 33));
        }
        other => panic!("{other:?}"),
    }
    // A checkpoint behind it has no need of it.
    let second = Position {
        generation: generation + 1,
        offset: 4096,
        batch: 0,
    };
    assert!(
        !matches!(open(&disk, Some(second)), Err(JournalError::Corrupt { file, .. }) if file == segment_name(1))
    );
}

#[test]
fn a_missing_segment_is_named() {
    let disk = SimDisk::new(1);
    let (mut journal, _) = open(&disk, None).unwrap();
    let mut first = None;
    while journal.segments().len() < 3 {
        put(&mut journal, "x", &[3; 5000]).unwrap();
        first.get_or_insert(journal.end());
    }
    let (first, end) = (first.unwrap(), journal.end());
    assert!(journal.release(first.generation));
    assert!(!journal.release(first.generation));
    assert!(!journal.release(end.generation), "the newest is kept");
    drop(journal);
    for from in [None, Some(first)] {
        let missing = open(&disk, from).unwrap_err();
        assert!(
            matches!(missing, JournalError::Missing { generation } if generation == first.generation)
        );
    }
    open(&disk, Some(end)).unwrap();
    let ahead = Position {
        generation: end.generation + 1,
        ..end
    };
    assert!(matches!(
        open(&disk, Some(ahead)),
        Err(JournalError::Missing { .. })
    ));
    assert!(matches!(
        open(&SimDisk::new(1), Some(end)),
        Err(JournalError::Missing { .. })
    ));
}

#[test]
fn the_callers_error_is_given_back_with_the_place() {
    let disk = SimDisk::new(1);
    let (mut journal, _) = open(&disk, None).unwrap();
    put(&mut journal, "a", b"").unwrap();
    let offset = put(&mut journal, "b", b"body").unwrap().bodies[0]
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

/// The file is used again with the same layout, so that each old entry lies where a new one could be expected.
#[test]
fn entries_left_over_from_an_earlier_life_do_not_validate() {
    let disk = SimDisk::new(1);
    let (mut journal, _) = open(&disk, None).unwrap();
    let mut lives: BTreeMap<u64, u32> = BTreeMap::new();
    let mut names = Vec::new();
    for number in 0..100 {
        let name = format!("{number:03}");
        put(&mut journal, &name, &[b'x'; 1000]).unwrap();
        *lives.entry(journal.end().generation).or_default() += 1;
        names.push(name);
        for segment in journal.segments() {
            journal.release(segment.generation);
        }
    }
    // Only few files were ever made, so most segments are recycled ones, full of old entries behind the end.
    assert!(lives.len() > 10);
    let end = journal.end();
    let content = disk.content(&active(&journal)).unwrap();
    assert!(
        content[end.offset as usize..]
            .windows(10)
            .any(|window| window == b"xxxxxxxxxx")
    );
    let newest = end.generation;
    drop(journal);
    let from = Position {
        generation: newest,
        offset: 0,
        batch: end.batch - u64::from(lives[&newest]),
    };
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    expect(
        &disk,
        Some(from),
        &names[names.len() - lives[&newest] as usize..],
    );
}

/// A message may hold what looks like entries of a later batch. Without the segment's salt, or at another place than they
/// were made for (in a mailed copy of a segment), they do not make a torn tail look like damage. With both they would.
#[test]
fn a_body_that_looks_like_entries_is_not_taken_for_some() {
    for (salt, place, taken) in [
        (true, true, true),
        (false, true, false),
        (true, false, false),
    ] {
        let disk = SimDisk::new(1);
        let (mut journal, _) = open(&disk, None).unwrap();
        put(&mut journal, "a", b"").unwrap();
        let (file, end) = (active(&journal), journal.end());
        let mut header = frame::SegmentHeader::decode(&disk.content(&file).unwrap()).unwrap();
        header.salt ^= u64::from(!salt);
        let forged = EntryHeader {
            kind: Kind::Op,
            version: 1,
            last: true,
            batch: end.batch + 1,
            op_len: 0,
            body_len: 0,
            op_crc: 0,
            body_crc: 0,
        };
        // The op fills the entry up to a multiple of 8.
        let offset = end.offset + 40 + if place { 0 } else { 8 };
        let body = forged.encode(header.seed(), offset);
        put(&mut journal, "12345678", &body).unwrap();
        drop(journal);
        let mut content = disk.content(&file).unwrap();
        content[end.offset as usize + 32] ^= 1;
        disk.set_content(&file, &content);
        match open(&disk, None) {
            Ok((_, read)) => assert!(!taken && ops(&read) == ["a"]),
            Err(error) => assert!(
                taken && matches!(error, JournalError::Corrupt { .. }),
                "{error}"
            ),
        }
    }
}

#[test]
fn a_failed_sync_seals_the_segment_and_cancels_the_batch() {
    for power in [false, true] {
        let disk = SimDisk::new(1);
        let (mut journal, _) = open(&disk, None).unwrap();
        let kept = put(&mut journal, "a", b"kept").unwrap().bodies[0].unwrap();
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

/// The syncs of the first append: two to prepare the next segment, one of the batch.
#[test]
fn a_failed_sync_of_a_first_batch_is_canceled_too() {
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
fn a_second_failure_closes() {
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
    // Likewise when the canceling itself fails.
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
fn a_released_segment_can_be_read_by_who_has_a_body_of_it_open() {
    let disk = SimDisk::new(1);
    let (mut journal, _) = open(&disk, None).unwrap();
    let place = put(&mut journal, "a", b"kept").unwrap().bodies[0].unwrap();
    let body = journal.reader().body(place).unwrap();
    while journal.end().generation == place.generation {
        put(&mut journal, "b", &[0; 5000]).unwrap();
    }
    assert!(journal.release(place.generation));
    assert!(matches!(
        journal.reader().body(place),
        Err(ReadError::Released { .. })
    ));
    for _ in 0..30 {
        put(&mut journal, "b", &[0; 5000]).unwrap();
        for segment in journal.segments() {
            journal.release(segment.generation);
        }
    }
    assert_eq!(body.read(0..4).unwrap(), "kept");
}

#[test]
fn a_changed_body_is_not_given_out() {
    let disk = SimDisk::new(1);
    let (mut journal, _) = open(&disk, None).unwrap();
    let place = put(&mut journal, "a", b"body").unwrap().bodies[0].unwrap();
    let file = active(&journal);
    let mut content = disk.content(&file).unwrap();
    content[place.offset as usize] ^= 1;
    disk.set_content(&file, &content);
    assert!(matches!(
        journal.reader().read(place, 0..4),
        Err(ReadError::Corrupt { .. })
    ));
    assert_eq!(journal.reader().read(place, 1..4).unwrap(), "ody");
    disk.fail_reads(Some(DIR));
    assert!(matches!(
        journal.reader().read(place, 0..4),
        Err(ReadError::Io { .. })
    ));
}

#[test]
fn a_full_disk_refuses_what_is_new_and_leaves_room_for_what_must_go_on() {
    let disk = SimDisk::new(1);
    let (mut journal, _) = open(&disk, None).unwrap();
    disk.set_room(Some(1000));
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
    // What was preallocated was used up.
    assert!(names.len() > 5);
    assert!(matches!(error, AppendError::Full(_)), "{error}");
    for name in ["r1", "r2"] {
        journal
            .append(&mut batch(&[(name, b"")]), Room::Reserve)
            .unwrap();
        names.push(name.into());
    }
    assert!(
        matches!(put(&mut journal, "no", b""), Err(AppendError::Full(_))),
        "the reserve is not for new mail"
    );
    // The reserve has an end as well.
    let mut error = None;
    while error.is_none() {
        error = match journal.append(&mut batch(&[("r", &[0; 3000])]), Room::Reserve) {
            Ok(_) => {
                names.push("r".into());
                None
            }
            Err(error) => Some(error),
        };
    }
    assert!(matches!(error, Some(AppendError::Full(_))));
    disk.set_room(Some(10 * SEGMENT));
    put(&mut journal, "again", b"").unwrap();
    names.push("again".into());
    disk.crash();
    drop(journal);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    expect(&disk, None, &names);
}

#[test]
fn a_released_segment_gives_room_on_a_full_disk() {
    let disk = SimDisk::new(1);
    let (mut journal, _) = open(&disk, None).unwrap();
    while journal.segments().len() < 3 {
        put(&mut journal, "x", &[0; 3000]).unwrap();
    }
    disk.set_room(Some(0));
    while put(&mut journal, "x", &[0; 3000]).is_ok() {}
    let oldest = journal.segments()[0].generation;
    assert!(journal.release(oldest));
    put(&mut journal, "y", &[0; 3000]).unwrap();
}

#[test]
fn some_room_is_left_to_others() {
    let disk = SimDisk::new(1);
    disk.set_room(Some(10 * SEGMENT));
    let options = JournalOptions {
        min_free: 5 * SEGMENT,
        ..options()
    };
    let (mut journal, _) = open_with(disk.disk(), options, None).unwrap();
    while put(&mut journal, "x", &[0; 3000]).is_ok() {}
    assert!(disk.free().unwrap() >= 5 * SEGMENT);
    assert!(journal.segments().len() >= 3);
}

/// Where writing over a file takes room, a write can stop in the middle.
#[test]
fn a_full_copy_on_write_disk_cancels_the_batch() {
    let disk = SimDisk::new(1);
    let (mut journal, _) = open(&disk, None).unwrap();
    put(&mut journal, "a", b"").unwrap();
    disk.set_copy_on_write(true);
    disk.set_room(Some(10_000));
    assert!(matches!(
        put(&mut journal, "b", &[0; 20_000]),
        Err(AppendError::Full(_))
    ));
    assert!(matches!(
        put(&mut journal, "c", &[0; 20_000]),
        Err(AppendError::Full(_))
    ));
    disk.set_room(Some(100 * SEGMENT));
    put(&mut journal, "d", b"").unwrap();
    disk.kill();
    drop(journal);
    expect(&disk, None, &["a", "d"]);
}

/// After `kill -9` the kernel may still show a batch that never reached the disk. What was read must not be lost by a power
/// cut once something was built on it.
#[test]
fn what_was_read_after_a_kill_survives_a_power_cut() {
    for seed in 0..50 {
        let disk = SimDisk::new(seed);
        let (mut journal, _) = open(&disk, None).unwrap();
        put(&mut journal, "a", b"").unwrap();
        // The write gets through, the sync does not.
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

#[test]
fn other_files_in_the_folder_are_left_alone() {
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
    let place = put(&mut journal, "a", b"old").unwrap().bodies[0].unwrap();
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
    put(&mut journal, "a", b"body").unwrap();
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

/// Written by hand after `docs/store-format.md`.
#[test]
fn the_format_is_as_written_down() {
    let disk = SimDisk::new(1);
    let (mut journal, _) = open(&disk, None).unwrap();
    journal
        .append(&mut batch(&[("op", b"body"), ("123", b"")]), Room::Ordinary)
        .unwrap();
    put(&mut journal, "x", b"").unwrap();
    let content = disk.content("journal/0000000000000001.seg").unwrap();

    let mut image = vec![0; SEGMENT as usize];
    image[..8].copy_from_slice(b"postrJNL");
    image[8] = 1;
    image[16] = 1;
    image[24..32].copy_from_slice(&content[24..32]);
    image[32..40].copy_from_slice(&SEGMENT.to_le_bytes());
    let crc = crc32c::crc32c(&[&image[..12], &image[16..64]].concat());
    image[12..16].copy_from_slice(&crc.to_le_bytes());
    let seed = image[24..32].to_vec();
    let mut entry = |at: u32, kind: u8, last: u8, batch: u8, op: &[u8], body: &[u8]| {
        let mut header = vec![kind, 1, last, 0, batch, 0, 0, 0, 0, 0, 0, 0];
        header.extend(u32::try_from(op.len()).unwrap().to_le_bytes());
        header.extend(u32::try_from(body.len()).unwrap().to_le_bytes());
        header.extend(crc32c::crc32c(op).to_le_bytes());
        header.extend(crc32c::crc32c(body).to_le_bytes());
        let crc = crc32c::crc32c(
            &[
                &seed,
                &[1, 0, 0, 0, 0, 0, 0, 0][..],
                &at.to_le_bytes(),
                &header,
            ]
            .concat(),
        );
        let bytes = [&crc.to_le_bytes()[..], &header, op, body].concat();
        image[at as usize..at as usize + bytes.len()].copy_from_slice(&bytes);
    };
    entry(4096, 1, 0, 1, &[0; 24], b"");
    entry(4096 + 56, 2, 0, 1, b"op", b"body");
    entry(4096 + 56 + 40, 2, 1, 1, b"123", b"");
    entry(8192, 2, 1, 2, b"x", b"");
    assert_eq!(content, image);
}

/// What a caller of the journal knows: what must be there, what may.
struct Rig {
    disk: SimDisk,
    journal: Option<Journal>,
    checkpoint: Position,
    /// Acknowledged since the checkpoint.
    acknowledged: Vec<String>,
    /// Of one batch whose fate is not known: the process died in the middle, or it was refused and nothing canceled it yet.
    unknown: Vec<Vec<String>>,
    /// Bodies that are alive.
    bodies: BTreeMap<String, (BodyPlace, Vec<u8>)>,
    next: u64,
}

#[derive(Clone, Debug)]
enum Action {
    /// Bodies' lengths.
    Append(Vec<u16>, bool),
    Checkpoint,
    /// Ends the life of all bodies in the oldest segment, and releases it.
    Release,
    FailSync(u64),
    Room(Option<u64>),
    CopyOnWrite(bool),
    /// The power fails after so many changes, the machine comes back.
    Power(u64),
    Crash,
    Kill,
    /// Clean.
    Restart,
}

fn body_of(name: &str, len: u16) -> Vec<u8> {
    name.bytes().cycle().take(len.into()).collect()
}

impl Rig {
    fn new(seed: u64) -> Self {
        let mut rig = Self {
            disk: SimDisk::new(seed),
            journal: None,
            checkpoint: Position::START,
            acknowledged: Vec::new(),
            unknown: Vec::new(),
            bodies: BTreeMap::new(),
            next: 0,
        };
        rig.open();
        rig
    }

    fn append(&mut self, lens: &[u16], room: Room) {
        let mut batch = Batch::new();
        let mut names = Vec::new();
        for len in lens {
            let name = self.next.to_string();
            self.next += 1;
            batch.push(1, name.as_bytes(), &body_of(&name, *len));
            names.push(name);
        }
        let Some(journal) = &mut self.journal else {
            return;
        };
        let before = journal.end();
        match journal.append(&mut batch, room) {
            Ok(appended) => {
                for ((name, len), place) in names.iter().zip(lens).zip(appended.bodies) {
                    if let Some(place) = place {
                        self.bodies
                            .insert(name.clone(), (place, body_of(name, *len)));
                    }
                }
                self.acknowledged.extend(names);
                // Anything refused before is canceled now.
                self.unknown.clear();
            }
            // Another segment was begun, so it is canceled.
            Err(AppendError::Failed(_)) if journal.end().generation != before.generation => {
                self.unknown.clear()
            }
            Err(AppendError::TooLarge { .. }) => {}
            Err(_) => self.unknown.push(names),
        }
    }

    fn run(&mut self, action: &Action) {
        match action {
            Action::Append(lens, reserve) => {
                self.append(
                    lens,
                    if *reserve {
                        Room::Reserve
                    } else {
                        Room::Ordinary
                    },
                );
            }
            Action::Checkpoint => {
                if let Some(journal) = &self.journal {
                    self.checkpoint = journal.end();
                    self.acknowledged.clear();
                }
            }
            Action::Release => {
                if let Some(journal) = &mut self.journal
                    && let Some(oldest) = journal.segments().first()
                    && oldest.generation < self.checkpoint.generation
                {
                    self.bodies
                        .retain(|_, (place, _)| place.generation != oldest.generation);
                    journal.release(oldest.generation);
                }
            }
            Action::FailSync(after) => self.disk.fail_sync_after(*after),
            Action::Room(room) => self.disk.set_room(*room),
            Action::CopyOnWrite(on) => self.disk.set_copy_on_write(*on),
            Action::Power(after) => self.disk.fail_power_after(*after),
            Action::Crash | Action::Kill | Action::Restart => {
                match action {
                    Action::Crash => self.disk.crash(),
                    Action::Kill => self.disk.kill(),
                    _ => {}
                }
                self.journal = None;
                self.open();
            }
        }
    }

    /// Opens, dying again on the way when the power fails then too, and compares.
    fn open(&mut self) {
        let (mut journal, read) = loop {
            match open(&self.disk, Some(self.checkpoint)) {
                // What is done in the background may meet the fault too, and says nothing.
                Ok(opened) if self.disk.free().is_ok() => break opened,
                // An injected fault of the disk: the machine is started again, on the same disk.
                Ok(_) | Err(JournalError::Io { .. }) => self.disk.crash(),
                Err(error) => panic!("{error}"),
            }
        };
        let names: Vec<String> = read.iter().map(|(name, _)| name.clone()).collect();
        assert!(
            names.starts_with(&self.acknowledged),
            "{names:?} lacks some of {:?}",
            self.acknowledged
        );
        let rest = &names[self.acknowledged.len()..];
        assert!(
            rest.is_empty() || self.unknown.iter().any(|batch| batch.starts_with(rest)),
            "{rest:?} were never acknowledged, and {:?} alone are not known",
            self.unknown
        );
        self.unknown.clear();
        for (name, place) in &read[self.acknowledged.len()..] {
            if let Some(place) = place {
                let len = u16::try_from(place.len).unwrap();
                self.bodies
                    .insert(name.clone(), (*place, body_of(name, len)));
            }
        }
        // From now on they are as good as the others.
        self.acknowledged = names;
        for (place, body) in self.bodies.values() {
            assert_eq!(
                journal
                    .reader()
                    .read(*place, 0..u64::from(place.len))
                    .unwrap(),
                body
            );
        }
        // What was released before the crash may be back.
        for segment in journal.segments() {
            let alive = self
                .bodies
                .values()
                .any(|(place, _)| place.generation == segment.generation);
            if segment.generation < self.checkpoint.generation && !alive {
                journal.release(segment.generation);
            }
        }
        self.journal = Some(journal);
    }

    fn end(mut self) {
        self.disk.set_room(None);
        self.run(&Action::Crash);
        let before = self.acknowledged.len();
        self.append(&[10, 0], Room::Ordinary);
        assert_eq!(
            self.acknowledged.len(),
            before + 2,
            "it goes on after all that"
        );
        self.run(&Action::Kill);
        self.run(&Action::Crash);
    }
}

fn action() -> impl Strategy<Value = Action> {
    let len = prop_oneof![Just(0), 1..600_u16, 600..9000_u16];
    prop_oneof![
        20 => (prop::collection::vec(len, 1..5), prop::bool::weighted(0.2))
            .prop_map(|(lens, reserve)| Action::Append(lens, reserve)),
        4 => Just(Action::Checkpoint),
        4 => Just(Action::Release),
        1 => (0..4_u64).prop_map(Action::FailSync),
        1 => prop::option::of(0..100_000_u64).prop_map(Action::Room),
        1 => any::<bool>().prop_map(Action::CopyOnWrite),
        4 => (0..30_u64).prop_map(Action::Power),
        4 => Just(Action::Crash),
        2 => Just(Action::Kill),
        2 => Just(Action::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_acknowledged_entry_is_there_once_and_in_order(
        seed in any::<u64>(),
        actions in prop::collection::vec(action(), 1..60),
    ) {
        let mut rig = Rig::new(seed);
        for action in &actions {
            rig.run(action);
        }
        rig.end();
    }

    #[test]
    fn a_damaged_segment_gives_the_first_entries_or_an_error(
        batches in prop::collection::vec(prop::collection::vec(0..3000_u16, 1..4), 1..5),
        flips in prop::collection::vec((0..SEGMENT as usize, any::<u8>()), 1..4),
    ) {
        let disk = SimDisk::new(1);
        let (mut journal, _) = open(&disk, None).unwrap();
        let mut names = Vec::new();
        for lens in &batches {
            let mut batch = Batch::new();
            for len in lens {
                names.push(names.len().to_string());
                batch.push(1, names[names.len() - 1].as_bytes(), &body_of("text", *len));
            }
            journal.append(&mut batch, Room::Ordinary).unwrap();
        }
        let file = active(&journal);
        drop(journal);
        let mut content = disk.content(&file).unwrap();
        for (at, flip) in &flips {
            content[*at] ^= flip;
        }
        disk.set_content(&file, &content);
        if let Ok((_, read)) = open(&disk, None) {
            let last = batches[batches.len() - 1].len();
            prop_assert!(names.starts_with(&read.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>()));
            // More damage than one could take away both what begins the segment and what shows that it was begun.
            let enough = flips.len() > 1 || read.len() >= names.len() - last;
            prop_assert!(enough, "only the last batch may be taken for torn");
        }
    }

    #[test]
    fn any_image_is_read_or_refused(image in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(check(&image).is_err());
    }
}

/// A fixed course through all that happens to segments, with the power failing at each change of the disk in turn.
#[test]
fn the_power_may_fail_at_every_point() {
    let course = |rig: &mut Rig| {
        for round in 0..12_u16 {
            rig.run(&Action::Append(vec![4000, 0, 500 * round], false));
            rig.run(&Action::Append(vec![10], true));
            if round % 3 == 2 {
                rig.run(&Action::Checkpoint);
                rig.run(&Action::Release);
            }
            if round == 6 {
                rig.run(&Action::Restart);
            }
        }
    };
    let mut rig = Rig::new(0);
    course(&mut rig);
    let changes = rig.disk.counts().changes;
    rig.end();
    assert!(changes > 60, "{changes}");
    for after in 0..changes {
        for seed in 0..4 {
            let mut rig = Rig::new(seed);
            rig.run(&Action::Power(after));
            course(&mut rig);
            rig.end();
        }
    }
}
