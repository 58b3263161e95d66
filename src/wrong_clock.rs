//! A clock that is probably wrong, told at the start of a server.
//!
//! The times of the queue, of the history and of certificates follow the clock of the system. A
//! machine without a battery begins in the past, and a slip of the hand sets the clock to another
//! year. The files of the data folder show when a server last wrote there.

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use jiff::Timestamp;

use crate::files::DATA_MARK;

/// A difference to the past that needs no word: clocks are set back by a little.
const BACK: Duration = Duration::from_secs(60 * 60);
/// The longest time for which a server rests, as a rule.
const AHEAD: Duration = Duration::from_secs(180 * 24 * 60 * 60);
/// This program was not there before (2026-01-01T00:00:00Z).
const PROGRAM: Duration = Duration::from_secs(1_767_225_600);

/// A sentence about the clock, if it does not go with the data folder.
pub(crate) fn warning(data_dir: &Path, now: SystemTime) -> Option<String> {
    judge(last_written(data_dir), now)
}

fn judge(written: Option<SystemTime>, now: SystemTime) -> Option<String> {
    let set = "set the clock (timedatectl) and start the server again";
    let shown = time(now);
    if let Some(written) = written {
        let at = time(written);
        if now + BACK < written {
            return Some(format!(
                "the clock says {shown}, but the data folder was written at {at}: the clock is \
                 slow, and messages wait for the time that it showed before; {set}"
            ));
        }
        if now > written + AHEAD {
            return Some(format!(
                "the clock says {shown}, and the data folder was last written at {at}: if the \
                 clock is fast, queued messages and the history end too early; stop the server, \
                 {set}"
            ));
        }
    }
    (now < SystemTime::UNIX_EPOCH + PROGRAM)
        .then(|| format!("the clock says {shown}, when this program was not written yet; {set}"))
}

/// When a server last wrote in the data folder. None: never.
fn last_written(data_dir: &Path) -> Option<SystemTime> {
    let folders = [data_dir.to_owned(), data_dir.join(DATA_MARK)];
    let entries = folders
        .iter()
        .filter_map(|folder| fs::read_dir(folder).ok());
    let files = entries.flatten().filter_map(Result::ok);
    let files = files.filter_map(|file| file.metadata().ok().filter(fs::Metadata::is_file));
    files.filter_map(|file| file.modified().ok()).max()
}

fn time(time: SystemTime) -> String {
    Timestamp::try_from(time).map_or_else(
        |_| "a time far away".to_owned(),
        |time| time.strftime("%Y-%m-%d %H:%M UTC").to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_does_not_go_with_the_data_is_told() {
        let at = |text: &str| SystemTime::from(text.parse::<Timestamp>().unwrap());
        let written = || Some(at("2026-11-29T12:00:00Z"));
        for (written, now, expected) in [
            (written(), "2026-11-29T12:00:00Z", None),
            (written(), "2026-11-29T11:30:00Z", None),
            (written(), "2027-03-01T00:00:00Z", None),
            (written(), "2026-11-29T10:59:59Z", Some("the clock is slow")),
            (
                written(),
                "1970-01-01T00:00:00Z",
                Some("says 1970-01-01 00:00 UTC, but"),
            ),
            (
                written(),
                "2040-01-01T00:00:00Z",
                Some("if the clock is fast"),
            ),
            (None, "2026-11-29T12:00:00Z", None),
            (None, "2001-01-01T00:00:00Z", Some("not written yet")),
        ] {
            let found = judge(written, at(now));
            match expected {
                None => assert_eq!(found, None, "{now}"),
                Some(text) => assert!(found.clone().unwrap().contains(text), "{found:?}"),
            }
        }
    }

    #[test]
    fn the_time_of_the_data_is_that_of_its_newest_file() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(last_written(dir.path()), None);
        fs::create_dir(dir.path().join(DATA_MARK)).unwrap();
        assert_eq!(last_written(dir.path()), None);
        let later = SystemTime::UNIX_EPOCH + PROGRAM * 2;
        for (name, time) in [("index.redb", later - BACK), ("journal/1.seg", later)] {
            let file = fs::File::create(dir.path().join(name)).unwrap();
            file.set_modified(time).unwrap();
            assert_eq!(last_written(dir.path()), Some(time));
        }
        let now = SystemTime::UNIX_EPOCH + PROGRAM;
        assert!(warning(dir.path(), now).is_some());
        assert_eq!(warning(dir.path(), later), None);
    }
}
