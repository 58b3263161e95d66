//! Files that are damaged, and those that the disk does not give.

use super::*;

/// Puts a folder where a file was: it is there, and reading it fails.
fn make_unreadable(path: &Path) {
    fs::remove_file(path).unwrap();
    fs::create_dir(path).unwrap();
}

/// Three segments that are sealed, with one trace each.
fn three_segments(dir: &TempDir) {
    let files = open(dir);
    for number in 1..4 {
        add(&files, &records(number..number + 1));
        files.close().unwrap();
    }
}

#[test]
fn an_index_that_is_missing_or_damaged_is_made_again() {
    for damage in ["missing", "short", "changed", "body", "last", "other"] {
        let dir = tempdir().unwrap();
        seal(&dir, 1..4);
        let path = &names(&dir, "index")[0];
        let whole = fs::read(path).unwrap();
        let mut bytes = whole.clone();
        match damage {
            "missing" => fs::remove_file(path).unwrap(),
            "short" => fs::write(path, &bytes[..bytes.len() - 1]).unwrap(),
            "body" => {
                // A place that leads nowhere.
                bytes[66] ^= 1;
                fs::write(path, &bytes).unwrap();
            }
            "last" => {
                let last = bytes.len() - 6;
                bytes[last] ^= 1;
                fs::write(path, &bytes).unwrap();
            }
            "changed" => {
                bytes[20] ^= 1;
                fs::write(path, &bytes).unwrap();
            }
            _ => fs::write(path, b"something else").unwrap(),
        }
        assert_eq!(all(&Files::read(dir.path()).unwrap()), [3, 2, 1]);
        let files = open(&dir);
        assert_eq!(find(&files, &of_queue(2)), [2], "{damage}");
        assert_eq!(all(&files), [3, 2, 1], "{damage}");
        files.expire(5, true).unwrap();
        assert_eq!(names(&dir, "index").len(), 1);
        assert_eq!(fs::read(path).unwrap(), whole, "{damage}");
    }
}

/// A start reads the heads of indexes only. The first search finds the damage behind it.
#[test]
fn a_start_does_not_read_whole_indexes() {
    let dir = tempdir().unwrap();
    three_segments(&dir);
    let path = index_path(dir.path(), 1);
    let whole = fs::read(&path).unwrap();
    let mut bytes = whole.clone();
    let last = bytes.len() - 6;
    bytes[last] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let files = open(&dir);
    files.expire(5, true).unwrap();
    assert_eq!(fs::read(&path).unwrap(), bytes, "nobody has looked yet");
    assert_eq!(all(&files), [3, 2, 1]);
    files.expire(5, true).unwrap();
    assert_eq!(fs::read(&path).unwrap(), whole);
    assert_eq!(all(&files), [3, 2, 1]);
}

#[test]
fn an_index_that_the_disk_does_not_give_is_made_anew() {
    let dir = tempdir().unwrap();
    three_segments(&dir);
    let path = index_path(dir.path(), 1);
    make_unreadable(&path);
    assert_eq!(all(&Files::read(dir.path()).unwrap()), [3, 2, 1]);
    let files = open(&dir);
    assert_eq!(all(&files), [3, 2, 1], "it could not be written either");
    fs::remove_dir(&path).unwrap();
    files.expire(5, true).unwrap();
    assert!(path.is_file());
    // It fails later too.
    make_unreadable(&path);
    assert_eq!(find(&files, &of_queue(2)), [2]);
    assert_eq!(all(&files), [3, 2, 1]);
    assert!(files.expire(5, true).is_err());
    assert_eq!(all(&files), [3, 2, 1]);
}

#[test]
fn a_segment_that_the_disk_does_not_give_hides_its_own_traces_only() {
    let dir = tempdir().unwrap();
    three_segments(&dir);
    let files = open(&dir);
    let size = files.size();
    let path = segment_path(dir.path(), 1);
    make_unreadable(&path);
    assert_eq!(all(&files), [3, 1]);
    drop(files);
    for files in [Files::read(dir.path()).unwrap(), open(&dir)] {
        assert_eq!(all(&files), [3, 1]);
        assert_eq!(files.earliest(), Some(1));
    }
    // It takes room, and goes in time.
    let length = 4 << 20;
    fs::remove_dir(&path).unwrap();
    fs::write(&path, b"").unwrap();
    let segment = OpenOptions::new().write(true).open(&path).unwrap();
    segment.set_len(length).unwrap();
    let metadata = segment.metadata().unwrap();
    let mut state = State::read(dir.path()).unwrap();
    state.unsealed.clear();
    state.sealed.insert(1, Sealed::unreadable(&metadata));
    let files = Files {
        dir: dir.path().to_owned(),
        limits: limits(1, 1 << 30),
        state: Mutex::new(state),
    };
    assert!(files.size() > size / 2 + length);
    let written = metadata.mtime() * 1_000_000;
    files.expire(written + HOUR, true).unwrap();
    assert!(path.exists());
    files.expire(written + HOUR + 1, true).unwrap();
    assert!(!path.exists());
}
