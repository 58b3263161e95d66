//! Tests of the bytes on disk, and of damage to them.

use std::collections::BTreeMap;

use super::{super::*, SEGMENT, active, batch, expect, open, ops, put};
use crate::{
    disk::sim::SimDisk,
    journal::frame::{ENTRY_HEADER, EntryHeader, Kind, SegmentHeader},
};

/// The expected image is written by hand, following `docs/store-format.md`.
#[test]
fn the_format_is_as_documented() {
    let disk = SimDisk::new(1);
    let (mut journal, _) = open(&disk, None).unwrap();
    journal
        .append(
            &mut batch(&[("op", b"text"), ("123", b"")]),
            Space::Ordinary,
        )
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
    let mut entry = |at: u32, kind: u8, last: u8, batch: u8, op: &[u8], text: &[u8]| {
        let mut header = vec![kind, 1, last, 0, batch, 0, 0, 0, 0, 0, 0, 0];
        header.extend(u32::try_from(op.len()).unwrap().to_le_bytes());
        header.extend(u32::try_from(text.len()).unwrap().to_le_bytes());
        header.extend(crc32c::crc32c(op).to_le_bytes());
        header.extend(crc32c::crc32c(text).to_le_bytes());
        let crc = crc32c::crc32c(
            &[
                &seed,
                &[1, 0, 0, 0, 0, 0, 0, 0][..],
                &at.to_le_bytes(),
                &header,
            ]
            .concat(),
        );
        let bytes = [&crc.to_le_bytes()[..], &header, op, text].concat();
        image[at as usize..at as usize + bytes.len()].copy_from_slice(&bytes);
    };
    entry(4096, 1, 0, 1, &[0; 24], b"");
    entry(4096 + 56, 2, 0, 1, b"op", b"text");
    entry(4096 + 56 + 40, 2, 1, 1, b"123", b"");
    entry(8192, 2, 1, 2, b"x", b"");
    assert_eq!(content, image);
}

#[test]
fn a_newer_version_is_named_and_not_changed() {
    let disk = SimDisk::new(1);
    let (mut journal, _) = open(&disk, None).unwrap();
    put(&mut journal, "a", b"").unwrap();
    let file = active(&journal);
    drop(journal);
    let mut content = disk.content(&file).unwrap();
    content[8] = 2;
    // A later version may change all other bytes.
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
    let seed = SegmentHeader::decode(&content).unwrap().seed();
    let header = EntryHeader {
        kind: Kind::Unknown(9),
        version: 1,
        last: true,
        batch: end.batch,
        op_len: 0,
        text_len: 0,
        op_crc: 0,
        text_crc: 0,
    };
    let at = end.offset as usize;
    content[at..at + ENTRY_HEADER].copy_from_slice(&header.encode(seed, end.offset));
    disk.set_content(&file, &content);
    let error = open(&disk, None).unwrap_err();
    assert!(
        matches!(error, JournalError::UnknownEntry { offset, .. } if offset == u64::from(end.offset))
    );
}

/// Writes three batches. A wrong bit in the first two is damage at a known place. A wrong bit in
/// the last is a torn tail.
#[test]
fn damage_in_the_middle_is_an_error_and_at_the_end_a_torn_tail() {
    let disk = SimDisk::new(1);
    let (mut journal, _) = open(&disk, None).unwrap();
    let mut starts = Vec::new();
    for names in [["a", "b"], ["c", "d"], ["e", "f"]] {
        let place = journal.append(
            &mut batch(&[(names[0], b"some text"), (names[1], b"more")]),
            Space::Ordinary,
        );
        let texts = place.unwrap().texts;
        starts.extend(texts.iter().map(|text| text.unwrap().offset - 33));
    }
    let file = active(&journal);
    drop(journal);
    let content = disk.content(&file).unwrap();
    let names = ["a", "b", "c", "d", "e", "f"];
    for (number, start) in starts.iter().enumerate() {
        // Header, op, and a text of 9 or 4 bytes.
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
    // Damage in the start entry and in the segment's header.
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
        let place = put(&mut journal, "x", &[3; 5000]).unwrap().texts[0].unwrap();
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
    // A replay from a checkpoint behind the segment does not read it.
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
    assert!(
        !journal.release(end.generation),
        "the newest segment is kept"
    );
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

/// The file is used again with the same layout. So each old entry lies where a new entry could
/// begin.
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
    // Only few files were ever made. So most segments are recycled and full of old entries behind
    // the end.
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

/// A message may hold bytes that look like entries of a later batch. They make a torn tail look
/// like damage only with the segment's salt and at the place that they were made for. A mailed copy
/// of a segment has them at another place.
#[test]
fn a_text_that_looks_like_entries_is_not_read_as_entries() {
    for (salt, place, taken) in [
        (true, true, true),
        (false, true, false),
        (true, false, false),
    ] {
        let disk = SimDisk::new(1);
        let (mut journal, _) = open(&disk, None).unwrap();
        put(&mut journal, "a", b"").unwrap();
        let (file, end) = (active(&journal), journal.end());
        let mut header = SegmentHeader::decode(&disk.content(&file).unwrap()).unwrap();
        header.salt ^= u64::from(!salt);
        let forged = EntryHeader {
            kind: Kind::Op,
            version: 1,
            last: true,
            batch: end.batch + 1,
            op_len: 0,
            text_len: 0,
            op_crc: 0,
            text_crc: 0,
        };
        // The op fills the entry up to a multiple of 8.
        let offset = end.offset + 40 + if place { 0 } else { 8 };
        let text = forged.encode(header.seed(), offset);
        put(&mut journal, "12345678", &text).unwrap();
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
fn a_changed_text_is_an_error() {
    let disk = SimDisk::new(1);
    let (mut journal, _) = open(&disk, None).unwrap();
    let place = put(&mut journal, "a", b"text").unwrap().texts[0].unwrap();
    let file = active(&journal);
    let mut content = disk.content(&file).unwrap();
    content[place.offset as usize] ^= 1;
    disk.set_content(&file, &content);
    assert!(matches!(
        journal.reader().read(place, 0..4),
        Err(ReadError::Corrupt { .. })
    ));
    assert_eq!(journal.reader().read(place, 1..4).unwrap(), "ext");
    disk.fail_reads(Some(DIR));
    assert!(matches!(
        journal.reader().read(place, 0..4),
        Err(ReadError::Io { .. })
    ));
}
