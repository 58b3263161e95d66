//! Messages in files, for the junk filter: a file each, an mbox file, or a maildir folder. Of each
//! message the beginning is kept, as much as the filter reads.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

use anyhow::Context;
use postrider_admin::op::junk::READ_MAX;

/// The longest line that is held in memory. A longer one is read in pieces.
const LINE_MAX: u64 = 64 << 10;
/// The first words of a line between the messages of an mbox file.
const SEPARATOR: &[u8] = b"From ";

/// What takes the messages.
type Take<'a> = &'a mut dyn FnMut(Vec<u8>) -> anyhow::Result<()>;

/// One message from standard input.
pub(super) fn of_input(take: Take<'_>) -> anyhow::Result<()> {
    let message = beginning(&mut io::stdin().lock()).context("failed to read standard input")?;
    take(message)
}

/// The messages in a file, an mbox file or a maildir folder; "-" is standard input.
pub(super) fn of_path(path: &Path, take: Take<'_>) -> anyhow::Result<()> {
    if path == Path::new("-") {
        return of_input(take);
    }
    match fs::metadata(path)?.is_dir() {
        true => of_maildir(path, take),
        false => of_file(path, take),
    }
}

/// The messages in the folders `cur` and `new`.
fn of_maildir(path: &Path, take: Take<'_>) -> anyhow::Result<()> {
    let mut found = false;
    for folder in ["cur", "new"].map(|name| path.join(name)) {
        if !folder.is_dir() {
            continue;
        }
        found = true;
        let entries = fs::read_dir(&folder)?.collect::<io::Result<Vec<_>>>()?;
        let mut files: Vec<_> = entries.iter().map(fs::DirEntry::path).collect();
        files.sort();
        for file in files.iter().filter(|file| file.is_file()) {
            let read = File::open(file).and_then(|mut opened| beginning(&mut opened));
            let message = read.with_context(|| format!("failed to read {}", file.display()))?;
            take(message)?;
        }
    }
    anyhow::ensure!(found, "it is no maildir folder: it has neither cur nor new");
    Ok(())
}

/// One message, or those of an mbox file.
pub(super) fn of_file(path: &Path, take: Take<'_>) -> anyhow::Result<()> {
    let mut file = BufReader::new(File::open(path)?);
    match file.fill_buf()?.starts_with(SEPARATOR) {
        true => of_mbox(&mut file, take),
        false => take(beginning(&mut file)?),
    }
}

/// The messages of an mbox file. A line that begins with "From " behind an empty line separates
/// them. A `>` before such a line of a message is taken away.
fn of_mbox(file: &mut impl BufRead, take: Take<'_>) -> anyhow::Result<()> {
    let mut message: Option<Vec<u8>> = None;
    let mut line = Vec::new();
    let (mut begins_line, mut behind_empty) = (true, true);
    loop {
        line.clear();
        if file.take(LINE_MAX).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        if begins_line && behind_empty && line.starts_with(SEPARATOR) {
            if let Some(whole) = message.replace(Vec::new()) {
                take(whole)?;
            }
        } else if let Some(message) = &mut message {
            let quoted = line.iter().skip_while(|byte| **byte == b'>');
            let is_quoted =
                begins_line && line.starts_with(b">") && quoted.take(SEPARATOR.len()).eq(SEPARATOR);
            let text = line.get(usize::from(is_quoted)..).unwrap_or_default();
            let room = READ_MAX - message.len();
            message.extend_from_slice(text.get(..room).unwrap_or(text));
        }
        behind_empty = begins_line && matches!(line.as_slice(), b"\n" | b"\r\n");
        begins_line = line.ends_with(b"\n");
    }
    message.map_or(Ok(()), take)
}

fn beginning(read: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut message = Vec::new();
    read.take(READ_MAX as u64).read_to_end(&mut message)?;
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(read: impl FnOnce(Take<'_>) -> anyhow::Result<()>) -> Vec<String> {
        let mut found = Vec::new();
        let mut take = |message: Vec<u8>| {
            found.push(String::from_utf8(message).unwrap());
            Ok(())
        };
        read(&mut take).unwrap();
        found
    }

    #[test]
    fn an_mbox_file_has_a_message_behind_each_separator() {
        let text = "From a@x Mon\nSubject: 1\n\none\n\nFrom b@x Tue\nSubject: 2\n\n>From here\n>>From \
                    there\n> From\nFrom now on\n\n";
        let found = all(|take| of_mbox(&mut text.as_bytes(), take));
        let second = "Subject: 2\n\nFrom here\n>From there\n> From\nFrom now on\n\n";
        assert_eq!(found, ["Subject: 1\n\none\n\n", second]);
    }

    #[test]
    fn a_long_line_is_read_in_pieces() {
        let long = "x".repeat(LINE_MAX as usize);
        let text = format!("From a\n{long}From b\n\nFrom c\nend\n");
        let found = all(|take| of_mbox(&mut text.as_bytes(), take));
        assert_eq!(found, [format!("{long}From b\n\n"), "end\n".to_owned()]);
    }

    #[test]
    fn the_beginning_of_each_message_is_kept() {
        let long = "y".repeat(READ_MAX + 9);
        let text = format!("From a\n{long}\n\nFrom c\nend\n");
        let found = all(|take| of_mbox(&mut text.as_bytes(), take));
        assert_eq!(
            found.iter().map(String::len).collect::<Vec<_>>(),
            [READ_MAX, 4]
        );
    }

    #[test]
    fn files_and_maildir_folders_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let error = of_path(dir.path(), &mut |_| Ok(())).unwrap_err();
        assert!(error.to_string().contains("neither cur nor new"));
        for (name, text) in [
            ("cur/b", "2"),
            ("cur/a", "1"),
            ("new/c", "3"),
            ("one", "Subject: x\n"),
        ] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        assert_eq!(all(|take| of_path(dir.path(), take)), ["1", "2", "3"]);
        assert_eq!(
            all(|take| of_path(&dir.path().join("one"), take)),
            ["Subject: x\n"]
        );
        assert!(of_path(&dir.path().join("none"), &mut |_| Ok(())).is_err());
    }
}
