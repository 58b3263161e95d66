use std::{fs::OpenOptions, io::Write as _, os::unix::fs::PermissionsExt as _};

use tempfile::{TempDir, tempdir};

use super::*;
use crate::trace::{EventType, Key, Kind, Page, Term, segment};

mod bad_disk;
mod format;

const HOUR: i64 = 3_600_000_000;

/// A trace with this number, of a message with the same id.
fn trace(number: u64, started: i64, size: usize) -> Record {
    let (tracer, handed_over) = crate::trace::Tracer::new(crate::trace::TracerSettings {
        sample: 1.0,
        first_span: number,
    });
    let mut trace = tracer.start(Kind::Attempt, started);
    trace.index(Term::Queue(number));
    trace.index(Term::Account(["even", "odd"][number as usize % 2]));
    trace.event(started, EventType::DeliveryRawInput, |data| {
        data.text(Key::Contents, &"x".repeat(size));
    });
    tracer.finish(trace, crate::trace::Keep::Always);
    handed_over.take().remove(0)
}

fn limits(hours: u64, max_size: u64) -> Limits {
    Limits {
        keep: Duration::from_secs(hours * 3600),
        max_size,
    }
}

fn open(dir: &TempDir) -> Files {
    Files::open(dir.path(), limits(24, 1 << 30)).unwrap()
}

/// Writes traces, all of them.
fn add(files: &Files, records: &[Record]) {
    let (count, written) = files.add(records);
    written.unwrap();
    assert_eq!(count, records.len());
}

/// A segment that is sealed, with these traces.
fn seal(dir: &TempDir, numbers: std::ops::Range<u64>) {
    let files = open(dir);
    add(&files, &records(numbers));
    files.close().unwrap();
}

fn spans(page: &Page) -> Vec<u64> {
    page.records.iter().map(|record| record.span).collect()
}

fn search(files: &Files, query: &Query<'_>, is_over: &mut dyn FnMut() -> bool) -> Page {
    let mut page = Page::default();
    let reached = files.search(query, is_over, &mut |record| page.records.push(record));
    page.next = reached.unwrap().next;
    page
}

fn find(files: &Files, query: &Query<'_>) -> Vec<u64> {
    spans(&search(files, query, &mut || false))
}

fn all(files: &Files) -> Vec<u64> {
    find(files, &Query::any(usize::MAX))
}

fn of_queue(id: u64) -> Query<'static> {
    Query {
        terms: vec![vec![Term::Queue(id)]],
        ..Query::any(10)
    }
}

/// The files in the folder with this ending, in order.
fn names(dir: &TempDir, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir.path()).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut names: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|it| it == ending))
        .collect();
    names.sort();
    names
}

fn records(numbers: std::ops::Range<u64>) -> Vec<Record> {
    numbers
        .map(|number| trace(number, number as i64, 10))
        .collect()
}

#[test]
fn traces_come_back_whole_and_newest_first() {
    let dir = tempdir().unwrap();
    let files = open(&dir);
    let records = records(1..6);
    add(&files, &records[..2]);
    add(&files, &records[2..]);
    let check = |files: &Files| {
        let page = search(files, &Query::any(10), &mut || false);
        let newest_first: Vec<_> = records.iter().rev().cloned().collect();
        assert_eq!(page.records, newest_first);
        assert_eq!(page.next, None);
        assert_eq!(files.earliest(), Some(1));
        assert_eq!(files.largest_span(), 5);
    };
    check(&files);
    check(&Files::read(dir.path()).unwrap());
    files.close().unwrap();
    check(&files);
    drop(files);
    check(&open(&dir));
    check(&Files::read(dir.path()).unwrap());
    for path in names(&dir, "traces").iter().chain(&names(&dir, "index")) {
        let mode = fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", path.display());
    }
}

#[test]
fn no_more_than_numbers_is_read_if_the_index_tells_the_rest() {
    let dir = tempdir().unwrap();
    let files = open(&dir);
    add(&files, &records(1..4));
    files.close().unwrap();
    add(&files, &records(4..7));
    let check = |after, is_whole: &[bool]| {
        let query = Query {
            terms: vec![vec![Term::Account("odd")]],
            after,
            only_numbers: true,
            ..Query::any(10)
        };
        let found = search(&files, &query, &mut || false).records;
        let whole: Vec<_> = found.iter().map(|it| it.events().count() > 0).collect();
        assert_eq!(whole, is_whole);
        spans(&Page {
            records: found,
            next: None,
        })
    };
    assert_eq!(check(None, &[false; 3]), [5, 3, 1]);
    // Some of a segment are too old.
    assert_eq!(check(Some(2), &[false, true]), [5, 3]);
}

#[test]
fn terms_are_anded_and_their_alternatives_are_ored() {
    let dir = tempdir().unwrap();
    let files = open(&dir);
    // Three segments: two that are sealed, and the open one.
    for numbers in [1..4, 4..7, 7..10] {
        add(&files, &records(numbers.clone()));
        if numbers.end < 10 {
            files.close().unwrap();
        }
    }
    let odd = Term::Account("odd");
    let queues = |ids: &[u64]| ids.iter().map(|id| Term::Queue(*id)).collect::<Vec<_>>();
    for (terms, expected) in [
        (vec![vec![odd]], vec![9, 7, 5, 3, 1]),
        (vec![queues(&[5])], vec![5]),
        (vec![queues(&[2, 5, 8, 99])], vec![8, 5, 2]),
        (vec![queues(&[2, 5, 7]), vec![odd]], vec![7, 5]),
        (vec![queues(&[2]), vec![odd]], vec![]),
        (vec![vec![]], vec![]),
        (vec![vec![Term::Span(4)]], vec![4]),
        (vec![vec![Term::Type(EventType::SmtpEhlo)]], vec![]),
    ] {
        let query = Query {
            terms: terms.clone(),
            ..Query::any(100)
        };
        assert_eq!(find(&files, &query), expected, "{terms:?}");
    }
    for (after, before, expected) in [
        (Some(8), None, vec![9, 8]),
        (None, Some(3), vec![2, 1]),
        (Some(3), Some(5), vec![4, 3]),
        (Some(10), None, vec![]),
    ] {
        let query = Query {
            after,
            before,
            ..Query::any(100)
        };
        assert_eq!(find(&files, &query), expected, "{after:?} {before:?}");
    }
    let query = Query {
        kind: Some(Kind::Session),
        ..Query::any(100)
    };
    assert!(find(&files, &query).is_empty());
    let query = Query {
        allows: Some(&|record| record.span > 7),
        ..Query::any(100)
    };
    assert_eq!(find(&files, &query), [9, 8]);
}

/// Indexes in files are read in blocks.
#[test]
fn many_traces_of_a_segment_are_found_by_its_index() {
    let dir = tempdir().unwrap();
    let files = open(&dir);
    add(&files, &records(1..257));
    files.close().unwrap();
    let newest_first = |all: &dyn Fn(&u64) -> bool| (1..257).rev().filter(all).collect::<Vec<_>>();
    let queues = [1, 2, 64, 65, 66, 200, 256].map(Term::Queue).to_vec();
    for (terms, expected) in [
        (vec![], newest_first(&|_| true)),
        (
            vec![vec![Term::Type(EventType::DeliveryRawInput)]],
            newest_first(&|_| true),
        ),
        // Exactly two blocks.
        (
            vec![vec![Term::Account("odd")]],
            newest_first(&|number| number % 2 == 1),
        ),
        (vec![queues], vec![256, 200, 66, 65, 64, 2, 1]),
        (vec![vec![Term::Queue(257)]], vec![]),
    ] {
        let query = Query {
            terms: terms.clone(),
            ..Query::any(1000)
        };
        assert_eq!(find(&files, &query), expected, "{terms:?}");
    }
}

#[test]
fn pages_go_on_where_the_last_one_ended_also_when_traces_come_and_go() {
    let dir = tempdir().unwrap();
    let files = open(&dir);
    add(&files, &records(1..5));
    files.close().unwrap();
    add(&files, &records(5..9));
    let mut query = Query::any(3);
    let mut found = Vec::new();
    for round in 0.. {
        let page = search(&files, &query, &mut || false);
        found.push(spans(&page));
        let Some(next) = page.next else { break };
        query.cursor = Some(next.to_string().parse().unwrap());
        add(&files, &records(10 + round..11 + round));
    }
    assert_eq!(found, [vec![8, 7, 6], vec![5, 4, 3], vec![2, 1]]);
}

#[test]
fn what_matches_is_counted_before_and_behind_the_page() {
    let dir = tempdir().unwrap();
    let files = open(&dir);
    for numbers in [1..11, 11..21, 21..31] {
        add(&files, &records(numbers.clone()));
        if numbers.end < 31 {
            files.close().unwrap();
        }
    }
    let odd = || vec![vec![Term::Account("odd")]];
    let count = |query: &Query<'_>, is_over: &mut dyn FnMut() -> bool| {
        let mut found = Vec::new();
        let reached = files.search(query, is_over, &mut |record| found.push(record.span));
        (found, reached.unwrap())
    };
    let any = Query {
        skip: 4,
        count: 100,
        ..Query::any(3)
    };
    // With a condition that the index does not tell, traces are read for the count.
    let allows = |record: &Record| record.span > 5;
    for (terms, after, allows, expected, total) in [
        (vec![], None, None, [26, 25, 24], 30),
        (odd(), None, None, [21, 19, 17], 15),
        (vec![], Some(15), None, [26, 25, 24], 16),
        (odd(), Some(11), None, [21, 19, 17], 10),
        (vec![], None, Some(&allows), [26, 25, 24], 25),
    ] {
        let mut query = Query {
            terms: terms.clone(),
            after,
            allows: allows.map(|it| it as &dyn Fn(&Record) -> bool),
            ..any_of(&any)
        };
        let (found, reached) = count(&query, &mut || false);
        let what = format!("{terms:?} {after:?} {}", allows.is_some());
        assert_eq!(found, expected, "{what}");
        assert_eq!((reached.total, reached.is_total), (total, true), "{what}");
        // The next page knows what is before it.
        query.skip = 0;
        query.cursor = reached.next;
        let (found, reached) = count(&query, &mut || false);
        assert_eq!((reached.total, reached.is_total), (total, true), "{what}");
        let last = found[0];
        assert!(last < expected[2] && last + 3 > expected[2], "{what}");
        // Counting ends beyond the wanted number.
        query.count = 8;
        let (_, reached) = count(&query, &mut || false);
        assert!(
            reached.total > 8 && !reached.is_total,
            "{what}: {}",
            reached.total
        );
    }
    let mut left = 20;
    let mut is_over = || {
        left -= 1;
        left < 0
    };
    let query = Query {
        allows: Some(&allows),
        ..any_of(&any)
    };
    let (found, reached) = count(&query, &mut is_over);
    assert_eq!(
        (reached.total, reached.is_total),
        (19, false),
        "as far as it came"
    );
    assert_eq!(found, [26, 25, 24]);
    let whole = Query {
        skip: 29,
        ..any_of(&any)
    };
    let (found, reached) = count(&whole, &mut || false);
    assert_eq!((found, reached.next, reached.total), (vec![1], None, 30));
}

/// The same limits, and no conditions.
fn any_of(query: &Query<'_>) -> Query<'static> {
    Query {
        skip: query.skip,
        count: query.count,
        ..Query::any(query.limit)
    }
}

#[test]
fn a_search_that_takes_too_long_tells_where_it_goes_on() {
    let dir = tempdir().unwrap();
    let files = open(&dir);
    add(&files, &records(1..10));
    let mut left = 4;
    let mut query = Query {
        allows: Some(&|record| record.span < 5),
        ..Query::any(100)
    };
    let page = search(&files, &query, &mut || {
        left -= 1;
        left < 0
    });
    assert!(spans(&page).is_empty(), "nothing was found in that time");
    query.cursor = page.next;
    assert!(page.next.is_some());
    assert_eq!(find(&files, &query), [4, 3, 2, 1]);
}

/// Also segments in which nothing is found take time.
#[test]
fn a_search_that_finds_nothing_may_take_too_long() {
    let dir = tempdir().unwrap();
    let files = open(&dir);
    for number in 1..6 {
        add(&files, &records(number..number + 1));
        files.close().unwrap();
    }
    let mut query = of_queue(99);
    let mut rounds = 0;
    loop {
        let page = search(&files, &query, &mut || true);
        assert!(spans(&page).is_empty());
        rounds += 1;
        query.cursor = match page.next {
            Some(next) => Some(next.to_string().parse().unwrap()),
            None => break,
        };
    }
    assert_eq!(rounds, 5, "each goes on where the last one ended");
    query = Query {
        cursor: Some(Cursor::before_segment(3)),
        ..Query::any(10)
    };
    assert_eq!(find(&files, &query), [4, 3, 2, 1]);
}

#[test]
fn what_is_torn_at_the_end_is_cut() {
    let whole = tempdir().unwrap();
    let files = open(&whole);
    add(&files, &records(1..4));
    drop(files);
    let bytes = fs::read(&names(&whole, "traces")[0]).unwrap();
    let last = bytes.len() - 1;
    for (end, more, expected) in [
        (bytes.len(), &b""[..], vec![3, 2, 1]),
        (bytes.len(), b"garbage", vec![3, 2, 1]),
        (bytes.len(), &[0; 4096], vec![3, 2, 1]),
        (bytes.len(), &[0xff; 100], vec![3, 2, 1]),
        (last, b"", vec![2, 1]),
        (last, b"y", vec![2, 1]),
        (segment::HEADER + 3, b"", vec![]),
        (segment::HEADER, b"", vec![]),
        (3, b"", vec![]),
        (0, b"", vec![]),
    ] {
        let dir = tempdir().unwrap();
        let path = segment_path(dir.path(), 0);
        fs::write(&path, [&bytes[..end], more].concat()).unwrap();
        assert_eq!(all(&Files::read(dir.path()).unwrap()), expected, "{end}");
        let files = open(&dir);
        assert_eq!(all(&files), expected, "{end}");
        add(&files, &records(7..8));
        assert_eq!(all(&files)[0], 7, "and it goes on");
        drop(files);
        assert_eq!(all(&open(&dir)).len(), expected.len() + 1);
    }
}

#[test]
fn damage_hides_the_trace_that_has_it_only() {
    let dir = tempdir().unwrap();
    let files = open(&dir);
    let records = records(1..4);
    add(&files, &records);
    files.close().unwrap();
    let path = &names(&dir, "traces")[0];
    let mut bytes = fs::read(path).unwrap();
    let chunk = (bytes.len() - segment::HEADER) / 3;
    bytes[segment::HEADER + chunk + chunk / 2] ^= 1;
    fs::write(path, &bytes).unwrap();
    assert_eq!(all(&files), [3, 1]);
    drop(files);
    assert_eq!(all(&open(&dir)), [3, 1]);
    // Without its index too, as after a crash.
    fs::remove_file(&names(&dir, "index")[0]).unwrap();
    assert_eq!(all(&Files::read(dir.path()).unwrap()), [3, 1]);
    assert_eq!(all(&open(&dir)), [3, 1]);
}

/// Whatever is damaged in a segment without an index, the traces behind it are found.
#[test]
fn what_is_behind_damage_is_found() {
    let whole = tempdir().unwrap();
    let files = open(&whole);
    let records: Vec<_> = (1..40).map(|number| trace(number, 1, 1500)).collect();
    for record in &records {
        add(&files, std::slice::from_ref(record));
    }
    drop(files);
    let bytes = fs::read(&names(&whole, "traces")[0]).unwrap();
    let mut starts = vec![segment::HEADER];
    while *starts.last().unwrap() < bytes.len() {
        let start = *starts.last().unwrap();
        let length = u32::from_le_bytes(*bytes[start..].first_chunk().unwrap());
        starts.push(start + 8 + length as usize);
    }
    let start = starts[10];
    for (what, damage) in [
        ("length", &b"\xff\xff\xff\xff"[..]),
        ("length and checksum", &[0; 8]),
        ("a sector", &[0; 512]),
        ("many sectors", &[0x5a; 8192]),
    ] {
        let mut bytes = bytes.clone();
        bytes[start..start + damage.len()].copy_from_slice(damage);
        let dir = tempdir().unwrap();
        fs::write(segment_path(dir.path(), 0), &bytes).unwrap();
        let end = start + damage.len();
        let first_whole = 1 + starts.iter().position(|it| *it >= end).unwrap() as u64;
        let expected = (1..40).rev().filter(|it| !(11..first_whole).contains(it));
        let expected: Vec<u64> = expected.collect();
        assert_eq!(all(&Files::read(dir.path()).unwrap()), expected, "{what}");
        let files = open(&dir);
        assert_eq!(all(&files), expected, "{what}");
        assert_eq!(find(&files, &of_queue(39)), [39], "{what}");
    }
}

#[test]
fn the_oldest_go_by_size() {
    let dir = tempdir().unwrap();
    let max_size = 4 << 20;
    let files = Files::open(dir.path(), limits(1000, max_size)).unwrap();
    let mut newest = 0;
    for _ in 0..100 {
        let records: Vec<_> = (0..100).map(|at| trace(newest + at + 1, 1, 1500)).collect();
        newest += 100;
        add(&files, &records);
        files.expire(1, true).unwrap();
        let paths = names(&dir, "traces")
            .into_iter()
            .chain(names(&dir, "index"));
        let size: u64 = paths.map(|path| fs::metadata(path).unwrap().len()).sum();
        assert!(size <= max_size, "{size}");
    }
    let left = all(&files);
    assert_eq!(left[0], newest);
    let contiguous = (newest - left.len() as u64 + 1..=newest).rev();
    assert_eq!(left, contiguous.collect::<Vec<_>>(), "the newest are there");
    assert!(
        left.len() as u64 * 1500 > max_size * 3 / 4,
        "{}",
        left.len()
    );
    assert!(find(&files, &of_queue(1)).is_empty(), "the oldest is not");
}

#[test]
fn the_oldest_go_by_age() {
    let dir = tempdir().unwrap();
    let files = Files::open(dir.path(), limits(16, 1 << 30)).unwrap();
    for hour in 0..40 {
        let now = hour * HOUR;
        add(&files, &[trace(hour as u64, now, 10)]);
        files.expire(now, true).unwrap();
        let left = all(&files);
        let oldest = *left.last().unwrap() as i64;
        assert!(hour - oldest <= 18, "{hour}: {oldest}");
        assert!(hour - oldest >= 16.min(hour), "{hour}: {oldest}");
        assert_eq!(files.earliest(), Some(oldest * HOUR));
    }
    files.expire(100 * HOUR, true).unwrap();
    files.expire(100 * HOUR, true).unwrap();
    assert_eq!(all(&files), [0; 0], "also when none come");
    assert!(names(&dir, "traces").is_empty());
}

#[test]
fn a_write_that_fails_begins_another_segment() {
    let dir = tempdir().unwrap();
    let files = open(&dir);
    add(&files, &records(1..3));
    let (moved, place) = (dir.path().join("moved"), dir.path().join("00000001.traces"));
    // The next segment can't be made, since something has its name.
    fs::create_dir(&place).unwrap();
    files.close().unwrap();
    let (count, failed) = files.add(&records(3..4));
    assert_eq!((count, failed.is_err()), (0, true));
    assert_eq!(all(&files), [2, 1]);
    fs::rename(&place, &moved).unwrap();
    add(&files, &records(4..5));
    assert_eq!(all(&files), [4, 2, 1]);
}

/// A segment whose index can't be written is searched, counted, and sealed later.
#[test]
fn a_segment_that_is_not_sealed_is_there_all_the_same() {
    let dir = tempdir().unwrap();
    let files = Files::open(dir.path(), limits(16, 1 << 30)).unwrap();
    add(&files, &[trace(1, 0, 10), trace(2, 0, 10)]);
    // The index can't be made, since something has its name.
    let place = dir.path().join("00000000.new");
    fs::create_dir(&place).unwrap();
    let size = files.size();
    assert!(size > 0);
    files.expire(2 * HOUR, true).unwrap_err();
    add(&files, &[trace(3, 2 * HOUR, 10)]);
    assert_eq!(all(&files), [3, 2, 1]);
    assert_eq!(find(&files, &of_queue(2)), [2]);
    assert_eq!(files.earliest(), Some(0));
    assert!(files.size() > size);
    assert!(names(&dir, "index").is_empty());
    fs::remove_dir(&place).unwrap();
    // It is not tried all the time.
    files.expire(2 * HOUR + 1, true).unwrap();
    assert!(names(&dir, "index").is_empty());
    files.expire(2 * HOUR + REST, true).unwrap();
    assert_eq!(names(&dir, "index").len(), 1);
    assert_eq!(all(&files), [3, 2, 1]);
    // One that is never sealed goes too.
    fs::create_dir(dir.path().join("00000001.new")).unwrap();
    files.expire(40 * HOUR, true).unwrap_err();
    assert_eq!(all(&files), [0; 0]);
    assert_eq!(names(&dir, "traces").len(), 0);
}

/// A full disk, where each try fails, is not filled with files.
#[test]
fn a_failure_leaves_no_files() {
    let dir = tempdir().unwrap();
    let files = open(&dir);
    add(&files, &records(1..3));
    let place = dir.path().join("00000000.index");
    // The name of the index can't be given.
    fs::create_dir(&place).unwrap();
    files.close().unwrap_err();
    assert!(names(&dir, "new").is_empty());
    assert_eq!(all(&files), [2, 1]);
    drop(files);
    fs::remove_dir(&place).unwrap();
    fs::write(dir.path().join("00000007.new"), b"half").unwrap();
    let files = open(&dir);
    assert!(names(&dir, "new").is_empty(), "as after a crash");
    assert_eq!(all(&files), [2, 1]);
}

/// Of a batch that fails in its middle, what was written before counts.
#[test]
fn a_batch_is_written_in_part() {
    let dir = tempdir().unwrap();
    let files = Files::open(dir.path(), limits(24, 1 << 20)).unwrap();
    fs::create_dir(dir.path().join("00000001.traces")).unwrap();
    let records: Vec<_> = (1..101).map(|number| trace(number, 1, 1500)).collect();
    let (count, failed) = files.add(&records);
    assert!(failed.is_err());
    assert!((30..60).contains(&count), "{count}");
    assert_eq!(all(&files).len(), count);
}

/// A lack of room, looked at five times a second.
#[test]
fn without_room_the_oldest_go_slowly_and_never_all() {
    let dir = tempdir().unwrap();
    let max_size = 1 << 20;
    let files = Files::open(dir.path(), limits(1000, max_size)).unwrap();
    for number in 1..501 {
        add(&files, &[trace(number, 1, 1500)]);
    }
    files.expire(1, true).unwrap();
    let count = names(&dir, "traces").len();
    assert!((11..15).contains(&count), "{count}");
    let mut now = 0;
    let mut lack = |seconds: i64| {
        for _ in 0..5 * seconds {
            files.expire(now, false).unwrap();
            now += 200_000;
        }
        count - names(&dir, "traces").len()
    };
    assert_eq!(lack(1), 1);
    assert_eq!(lack(28), 1);
    assert_eq!(lack(32), 3);
    assert_eq!(lack(1000), 4, "it did not help");
    for _ in 0..5 {
        files.expire(1, true).unwrap();
        lack(1000);
    }
    let size = files.size();
    assert!(size >= max_size / 4 && size < max_size / 2, "{size}");
    assert_eq!(all(&files)[0], 500, "the newest are kept");
}

#[test]
fn files_that_are_not_of_the_server_are_left_alone() {
    let dir = tempdir().unwrap();
    let mut other = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(dir.path().join("note.txt"))
        .unwrap();
    other.write_all(b"hello").unwrap();
    fs::write(dir.path().join("note.new"), b"half").unwrap();
    let files = open(&dir);
    add(&files, &records(1..3));
    files.close().unwrap();
    files.expire(i64::MAX, true).unwrap();
    assert_eq!(all(&files), [0; 0]);
    assert!(dir.path().join("note.new").exists());
    assert_eq!(fs::read(dir.path().join("note.txt")).unwrap(), b"hello");
}
