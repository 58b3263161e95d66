use std::{fs::OpenOptions, io::Write as _, os::unix::fs::PermissionsExt as _};

use tempfile::{TempDir, tempdir};

use super::*;
use crate::trace::{EventType, Key, Kind, Term, segment};

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

fn spans(page: &Page) -> Vec<u64> {
    page.records.iter().map(|record| record.span).collect()
}

fn find(files: &Files, query: &Query<'_>) -> Vec<u64> {
    spans(&files.search(query, &mut || false).unwrap())
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
    files.add(&records[..2]).unwrap();
    files.add(&records[2..]).unwrap();
    let check = |files: &Files| {
        let page = files.search(&Query::any(10), &mut || false).unwrap();
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
fn terms_are_anded_and_their_alternatives_are_ored() {
    let dir = tempdir().unwrap();
    let files = open(&dir);
    // Three segments: two that are sealed, and the open one.
    for numbers in [1..4, 4..7, 7..10] {
        files.add(&records(numbers.clone())).unwrap();
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
        allows: &|record| record.span > 7,
        ..Query::any(100)
    };
    assert_eq!(find(&files, &query), [9, 8]);
}

/// Indexes in files are read in blocks.
#[test]
fn many_traces_of_a_segment_are_found_by_its_index() {
    let dir = tempdir().unwrap();
    let files = open(&dir);
    files.add(&records(1..257)).unwrap();
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
    files.add(&records(1..5)).unwrap();
    files.close().unwrap();
    files.add(&records(5..9)).unwrap();
    let mut query = Query::any(3);
    let mut found = Vec::new();
    for round in 0.. {
        let page = files.search(&query, &mut || false).unwrap();
        found.push(spans(&page));
        let Some(next) = page.next else { break };
        query.cursor = Some(next.to_string().parse().unwrap());
        files.add(&records(10 + round..11 + round)).unwrap();
    }
    assert_eq!(found, [vec![8, 7, 6], vec![5, 4, 3], vec![2, 1]]);
}

#[test]
fn a_search_that_takes_too_long_tells_where_it_goes_on() {
    let dir = tempdir().unwrap();
    let files = open(&dir);
    files.add(&records(1..10)).unwrap();
    let mut left = 4;
    let mut query = Query {
        allows: &|record| record.span < 5,
        ..Query::any(100)
    };
    let page = files.search(&query, &mut || {
        left -= 1;
        left < 0
    });
    let page = page.unwrap();
    assert!(spans(&page).is_empty(), "nothing was found in that time");
    query.cursor = page.next;
    assert!(page.next.is_some());
    assert_eq!(find(&files, &query), [4, 3, 2, 1]);
}

#[test]
fn what_is_torn_at_the_end_is_cut() {
    let whole = tempdir().unwrap();
    let files = open(&whole);
    files.add(&records(1..4)).unwrap();
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
        files.add(&records(7..8)).unwrap();
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
    files.add(&records).unwrap();
    files.close().unwrap();
    let path = &names(&dir, "traces")[0];
    let mut bytes = fs::read(path).unwrap();
    let chunk = (bytes.len() - segment::HEADER) / 3;
    bytes[segment::HEADER + chunk + chunk / 2] ^= 1;
    fs::write(path, &bytes).unwrap();
    assert_eq!(all(&files), [3, 1]);
    drop(files);
    assert_eq!(all(&open(&dir)), [3, 1]);
}

#[test]
fn an_index_that_is_missing_or_damaged_is_made_again() {
    for damage in ["missing", "short", "changed", "other"] {
        let dir = tempdir().unwrap();
        let files = open(&dir);
        files.add(&records(1..4)).unwrap();
        files.close().unwrap();
        drop(files);
        let path = &names(&dir, "index")[0];
        let mut bytes = fs::read(path).unwrap();
        match damage {
            "missing" => fs::remove_file(path).unwrap(),
            "short" => fs::write(path, &bytes[..bytes.len() - 1]).unwrap(),
            "changed" => {
                bytes[20] ^= 1;
                fs::write(path, &bytes).unwrap();
            }
            _ => fs::write(path, b"something else").unwrap(),
        }
        assert_eq!(all(&Files::read(dir.path()).unwrap()), [3, 2, 1]);
        let files = open(&dir);
        assert_eq!(all(&files), [3, 2, 1], "{damage}");
        assert_eq!(find(&files, &of_queue(2)), [2], "{damage}");
        assert_eq!(names(&dir, "index").len(), 1);
    }
}

#[test]
fn a_newer_format_is_refused_with_a_sentence() {
    for (ending, magic) in [("traces", b"PRTRACES"), ("index", b"PRTRINDX")] {
        let dir = tempdir().unwrap();
        let files = open(&dir);
        files.add(&records(1..4)).unwrap();
        files.close().unwrap();
        drop(files);
        let path = &names(&dir, ending)[0];
        let mut bytes = fs::read(path).unwrap();
        assert_eq!(&bytes[..8], magic);
        bytes[8] = 9;
        fs::write(path, &bytes).unwrap();
        if ending == "traces" {
            fs::remove_file(&names(&dir, "index")[0]).unwrap();
        }
        for error in [
            Files::open(dir.path(), limits(1, 1 << 30)).unwrap_err(),
            Files::read(dir.path()).unwrap_err(),
        ] {
            let text = error.to_string();
            assert!(text.contains("has format 9 of traces"), "{text}");
            assert!(text.contains("use the newer version"), "{text}");
        }
        assert_eq!(fs::read(path).unwrap(), bytes, "nothing changed");
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
        files.add(&records).unwrap();
        files.expire(1).unwrap();
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
        files.add(&[trace(hour as u64, now, 10)]).unwrap();
        files.expire(now).unwrap();
        let left = all(&files);
        let oldest = *left.last().unwrap() as i64;
        assert!(hour - oldest <= 18, "{hour}: {oldest}");
        assert!(hour - oldest >= 16.min(hour), "{hour}: {oldest}");
        assert_eq!(files.earliest(), Some(oldest * HOUR));
    }
    files.expire(100 * HOUR).unwrap();
    files.expire(100 * HOUR).unwrap();
    assert_eq!(all(&files), [0; 0], "also when none come");
    assert!(names(&dir, "traces").is_empty());
}

#[test]
fn a_write_that_fails_begins_another_segment() {
    let dir = tempdir().unwrap();
    let files = open(&dir);
    files.add(&records(1..3)).unwrap();
    let (moved, place) = (dir.path().join("moved"), dir.path().join("00000001.traces"));
    // The next segment can't be made, since something has its name.
    fs::create_dir(&place).unwrap();
    files.close().unwrap();
    files.add(&records(3..4)).unwrap_err();
    assert_eq!(all(&files), [2, 1]);
    fs::rename(&place, &moved).unwrap();
    files.add(&records(4..5)).unwrap();
    assert_eq!(all(&files), [4, 2, 1]);
}

/// As after a power cut: the file of an index is there under its new name, but not its bytes.
#[test]
fn files_that_are_not_of_the_server_are_left_alone() {
    let dir = tempdir().unwrap();
    let mut other = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(dir.path().join("note.txt"))
        .unwrap();
    other.write_all(b"hello").unwrap();
    fs::write(dir.path().join("00000001.new"), b"half").unwrap();
    let files = open(&dir);
    files.add(&records(1..3)).unwrap();
    files.close().unwrap();
    files.expire(i64::MAX).unwrap();
    assert_eq!(all(&files), [0; 0]);
    assert_eq!(fs::read(dir.path().join("note.txt")).unwrap(), b"hello");
}
