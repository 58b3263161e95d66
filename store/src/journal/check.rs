//! Reading segments without opening a journal.

use std::sync::{Arc, RwLock};

use super::{
    Apply, Handles, JournalError, JournalReader, Position, SegmentInfo,
    frame::{Link, align_block},
    recover, segment_name,
};
use crate::disk::{Disk, sim::SimDisk};

/// The segments whose files stay open.
const OPEN_FILES: usize = 16;

/// A journal that was read and is not written to.
pub(crate) struct ReadBack {
    pub(crate) reader: JournalReader,
    /// The segments that were begun and not released, oldest first.
    pub(crate) segments: Vec<SegmentInfo>,
    /// The position behind the last entry.
    pub(crate) end: Position,
}

/// Gives `apply` every entry from a position on, as [`Journal::open`](super::Journal::open) does.
/// The disk is one that changes nothing.
///
/// # Errors
/// See [`JournalError`].
pub(crate) fn read_back(
    disk: &Arc<dyn Disk>,
    from: Position,
    apply: &mut Apply<'_>,
) -> Result<ReadBack, JournalError> {
    let recovered = recover::recover(&**disk, from, apply)?;
    let Link {
        generation,
        end,
        batch,
    } = recovered.tail.link;
    let segments = recovered.segments.values();
    let segments = segments.map(|segment| SegmentInfo {
        generation: segment.generation,
        size: segment.size,
    });
    Ok(ReadBack {
        segments: segments.collect(),
        reader: JournalReader {
            segments: Arc::new(RwLock::new(recovered.segments)),
            handles: Handles::new(Arc::clone(disk), OPEN_FILES),
        },
        end: Position {
            generation,
            offset: u32::try_from(align_block(u64::from(end))).unwrap_or(end),
            batch: from.batch.max(batch.saturating_add(1)),
        },
    })
}

/// Reads every entry of all segments, also those that no replay needs. Gives the faults.
///
/// # Errors
/// If the folder can't be read, or a segment has no valid beginning.
pub(crate) fn check_frames(disk: &dyn Disk) -> Result<Vec<JournalError>, JournalError> {
    recover::check_all(disk)
}

/// The content that [`check`] found in a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// The number of entries that validate.
    pub entries: u64,
    /// The bytes of their ops and texts.
    pub bytes: u64,
}

/// Reads the image of one segment file as a journal that has no other segment. Tools and fuzzing
/// use it.
///
/// # Errors
/// See [`JournalError`].
pub fn check(image: &[u8]) -> Result<Checked, JournalError> {
    let generation = image
        .get(16..)
        .and_then(|rest| rest.first_chunk())
        .map_or(1, |bytes| u64::from_le_bytes(*bytes));
    let disk = SimDisk::new(0);
    disk.set_content(&segment_name(generation), image);
    let mut checked = Checked::default();
    recover::recover(&disk, Position::START, &mut |entry| {
        checked.entries += 1;
        checked.bytes += entry.op.len() as u64 + entry.text.map_or(0, |text| u64::from(text.len));
        Ok(())
    })?;
    Ok(checked)
}
