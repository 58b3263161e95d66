//! Reading one segment alone.

use super::{JournalError, Position, recover, segment_name};
use crate::disk::sim::SimDisk;

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
