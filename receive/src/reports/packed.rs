//! Packed reports: gzip, ZIP, or not packed at all. The first bytes decide, since names and types
//! of parts are often wrong.

use std::{
    borrow::Cow,
    io::{ErrorKind, Read},
};

use flate2::read::GzDecoder;

use super::{
    fault::{Limit, PACKED_MAX, Patience, ReportFault, UNPACKED_MAX},
    zip,
};

/// The beginning of a gzip file (RFC 1952 §2.3.1).
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// The bytes that are read at once.
const PIECE: usize = 64 << 10;

/// Whether something is packed.
pub(super) fn is_packed(content: &[u8]) -> bool {
    content.starts_with(&GZIP) || content.starts_with(&zip::ENTRY)
}

/// The files in packed content; content that is not packed as it is. All of them together have
/// [`UNPACKED_MAX`] bytes at most.
pub(super) fn unpack<'a>(
    content: &'a [u8],
    patience: Patience<'_>,
) -> Result<Vec<Cow<'a, [u8]>>, ReportFault> {
    if !is_packed(content) {
        return match content.len() > UNPACKED_MAX {
            true => Err(Limit::UnpackedSize.into()),
            false => Ok(vec![Cow::Borrowed(content)]),
        };
    }
    if content.len() > PACKED_MAX {
        return Err(Limit::PackedSize.into());
    }
    let files = match content.starts_with(&GZIP) {
        true => {
            let open = || GzDecoder::new(content);
            vec![read_within(open, UNPACKED_MAX, patience)?]
        }
        false => zip::unpack(content, UNPACKED_MAX, patience)?,
    };
    match files.iter().any(|file| is_packed(file)) {
        true => Err(ReportFault::PackedTwice),
        false => Ok(files.into_iter().map(Cow::Owned).collect()),
    }
}

/// Reads to the end: at most `room` bytes. It reads twice: first to count, so that what is too much
/// takes no memory, and no memory is asked for twice.
pub(super) fn read_within<R: Read>(
    open: impl Fn() -> R,
    room: usize,
    patience: Patience<'_>,
) -> Result<Vec<u8>, ReportFault> {
    let mut size = 0;
    in_pieces(open(), patience, |piece| {
        size += piece.len();
        match size > room {
            true => Err(Limit::UnpackedSize.into()),
            false => Ok(()),
        }
    })?;
    let mut content = Vec::with_capacity(size);
    in_pieces(open(), patience, |piece| {
        content.extend_from_slice(piece);
        Ok(())
    })?;
    Ok(content)
}

/// Reads to the end, piece by piece.
fn in_pieces(
    mut from: impl Read,
    patience: Patience<'_>,
    mut take: impl FnMut(&[u8]) -> Result<(), ReportFault>,
) -> Result<(), ReportFault> {
    let mut piece = vec![0; PIECE];
    loop {
        patience.check()?;
        let read = from.read(&mut piece).map_err(|error| {
            ReportFault::Packed(match error.kind() {
                ErrorKind::UnexpectedEof => "it is cut off",
                _ => "it is damaged",
            })
        })?;
        if read == 0 {
            return Ok(());
        }
        take(piece.get(..read).unwrap_or_default())?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reports::samples::{
        deflated_zeros, gzip, gzip_of, zip as archive, zip_of, zip_stored,
    };

    fn files(content: &[u8]) -> Result<Vec<String>, ReportFault> {
        let never = || false;
        let files = unpack(content, Patience::until(&never))?;
        let text = |file: &Cow<'_, [u8]>| String::from_utf8_lossy(file).into_owned();
        Ok(files.iter().map(text).collect())
    }

    const DAMAGED: ReportFault = ReportFault::Packed("the archive is damaged");

    #[test]
    fn the_first_bytes_say_how_a_report_is_packed() {
        assert_eq!(files(b"<feedback/>").unwrap(), ["<feedback/>"]);
        assert_eq!(files(&gzip(b"<feedback/>")).unwrap(), ["<feedback/>"]);
        let one = archive(&[("a.xml", b"<feedback/>")]);
        assert_eq!(files(&one).unwrap(), ["<feedback/>"]);
        let stored = zip_stored(&[("a.xml", b"<feedback/>")]);
        assert_eq!(files(&stored).unwrap(), ["<feedback/>"]);
        let folders = archive(&[("r/", b""), ("r/a.xml", b"<a/>"), ("x\\", b"")]);
        assert_eq!(files(&folders).unwrap(), ["<a/>"]);
        // What stands behind a gzip file is no part of it. An archive may have a beginning of its
        // own, and a comment.
        let mut padded = gzip(b"<a/>");
        padded.extend([0; 600]);
        assert_eq!(files(&padded).unwrap(), ["<a/>"]);
        let mut commented = one;
        let length = commented.len();
        commented[length - 2] = 5;
        commented.extend(b"hello");
        assert_eq!(files(&commented).unwrap(), ["<feedback/>"]);
    }

    #[test]
    fn damaged_files_are_told_apart_from_large_ones() {
        let whole = gzip(&b"<feedback/>".repeat(100));
        let cut = &whole[..whole.len() - 9];
        assert_eq!(files(cut), Err(ReportFault::Packed("it is cut off")));
        let mut wrong = whole.clone();
        let at = wrong.len() - 6;
        wrong[at] ^= 1;
        assert_eq!(files(&wrong), Err(ReportFault::Packed("it is damaged")));
        let whole = archive(&[("a.xml", b"<feedback/>")]);
        for cut in [10, 40, whole.len() - 4] {
            assert_eq!(files(&whole[..cut]), Err(DAMAGED), "{cut}");
        }
        let twice = gzip(&gzip(b"<a/>"));
        assert_eq!(files(&twice), Err(ReportFault::PackedTwice));
        let twice = archive(&[("a", &whole)]);
        assert_eq!(files(&twice), Err(ReportFault::PackedTwice));
        let many: Vec<(String, &[u8])> = (0..5).map(|it| (it.to_string(), &b"x"[..])).collect();
        let many: Vec<(&str, &[u8])> = many.iter().map(|(name, it)| (&**name, *it)).collect();
        let mut five = archive(&many);
        assert_eq!(files(&five), Err(Limit::Entries.into()));
        // It says that it has fewer.
        let end = five.len() - 22;
        for lie in [0, 4] {
            five[end + 8] = lie;
            five[end + 10] = lie;
            assert_eq!(files(&five), Err(Limit::Entries.into()), "{lie}");
        }
        let few = archive(many.get(..4).unwrap());
        assert_eq!(files(&few).unwrap(), ["x"; 4]);
        let (mut locked, mut other) = (whole.clone(), whole.clone());
        let list = memchr::memmem::find(&whole, b"PK\x01\x02").unwrap();
        locked[list + 8] |= 1;
        let fault = ReportFault::Packed("the archive is encrypted");
        assert_eq!(files(&locked), Err(fault));
        other[list + 10] = 9;
        assert!(matches!(files(&other), Err(ReportFault::Packed(_))));
        let mut wrong = whole;
        wrong[list + 16] ^= 1;
        assert_eq!(files(&wrong), Err(DAMAGED));
    }

    #[test]
    fn content_that_is_too_large_is_not_read() {
        let large = vec![b' '; UNPACKED_MAX + 1];
        assert_eq!(files(&large), Err(Limit::UnpackedSize.into()));
        let mut large = gzip(b"<a/>");
        large.resize(PACKED_MAX + 1, 0);
        assert_eq!(files(&large), Err(Limit::PackedSize.into()));
        // Two entries share the room.
        let half = vec![b' '; UNPACKED_MAX / 2 + 1];
        let both = archive(&[("a", &half), ("b", &half)]);
        assert_eq!(files(&both), Err(Limit::UnpackedSize.into()));
    }

    /// Files that would unpack to 10 GB.
    #[test]
    fn a_bomb_is_given_up_at_the_limit() {
        use std::sync::atomic::{AtomicUsize, Ordering};

        let deflated = deflated_zeros(10 << 10);
        assert!(deflated.len() < PACKED_MAX, "{}", deflated.len());
        let reads = AtomicUsize::new(0);
        let count = || {
            reads.fetch_add(1, Ordering::Relaxed);
            false
        };
        for bomb in [gzip_of(&deflated), zip_of(&[("a", 8, 0, &deflated)])] {
            reads.store(0, Ordering::Relaxed);
            let fault = unpack(&bomb, Patience::until(&count)).unwrap_err();
            assert_eq!(fault, Limit::UnpackedSize.into());
            // Nearly each read fills its piece.
            let reads = reads.load(Ordering::Relaxed);
            assert!(reads < 2 * UNPACKED_MAX / PIECE, "{reads}");
        }
    }

    /// The memory of this process in KiB: what it has, and the most that it ever had.
    fn memory() -> (u64, u64) {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let value = |name: &str| {
            let mut lines = status.lines();
            let value = lines.find_map(|line| line.strip_prefix(name)).unwrap();
            value.split_whitespace().next().unwrap().parse().unwrap()
        };
        (value("VmRSS:"), value("VmHWM:"))
    }

    /// Each of the bombs would unpack to 10 GB. Whoever kept what it unpacks up to the limit would
    /// take 32 MiB for each of them, 640 MiB for those of one moment.
    #[test]
    #[ignore = "it measures the memory of the process; `cargo xtask test --full` runs it alone"]
    fn many_bombs_at_once_take_little_memory() {
        const THREADS: usize = 20;
        const BOMBS: usize = 500;
        let deflated = deflated_zeros(10 << 10);
        let bombs = [gzip_of(&deflated), zip_of(&[("a", 8, 0, &deflated)])];
        let (before, _) = memory();
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for bomb in bombs.iter().cycle().take(BOMBS / THREADS) {
                        let fault = unpack(bomb, Patience::until(&|| false)).unwrap_err();
                        assert_eq!(fault, Limit::UnpackedSize.into());
                    }
                });
            }
        });
        let (_, most) = memory();
        println!("{before} KiB before, {most} KiB at most");
        assert!(most < before + (32 << 10), "{before} KiB, then {most} KiB");
    }

    #[test]
    fn time_is_limited() {
        let over = || true;
        let packed = gzip(b"<a/>");
        let fault = unpack(&packed, Patience::until(&over));
        assert_eq!(fault, Err(Limit::Time.into()));
    }
}
