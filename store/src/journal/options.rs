//! How a journal keeps its files.

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::frame::BLOCK;

/// How a journal keeps its files.
#[derive(Clone, Debug)]
pub struct JournalOptions {
    /// The length of a segment in bytes. It is rounded down to whole blocks and clamped to 16 KiB
    /// .. 4 GiB.
    pub segment_size: u64,
    /// The length in bytes of the segment that is kept for a full disk, rounded and clamped in the
    /// same way. 0 means that there is no such segment.
    pub reserve_size: u64,
    /// How many released segments are kept for recycling. More are deleted.
    pub keep: usize,
    /// The bytes of the disk that the journal leaves free. It makes no segment that would take
    /// them. The rest of the store needs this space to finish the work that is in the queue
    /// already.
    pub min_free: u64,
    /// The most segments whose files stay open. Texts that are being read keep theirs open beyond
    /// that.
    pub open_files: usize,
    /// Prepare segments in a thread. Without the thread, appends prepare them when needed. Tests
    /// use that to run alike each time.
    pub background: bool,
    /// The seed of the segments' salts. None takes them from the system's randomness. A test may
    /// give a number, a new one for each journal.
    pub seed: Option<u64>,
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self {
            segment_size: 64 * 1024 * 1024,
            reserve_size: 8 * 1024 * 1024,
            keep: 4,
            min_free: 64 * 1024 * 1024,
            open_files: 64,
            background: true,
            seed: None,
        }
    }
}

impl JournalOptions {
    const MIN_SIZE: u64 = 4 * BLOCK;
    /// Offsets have 32 bits, and the end of the file is an offset.
    pub(super) const MAX_SIZE: u64 = u32::MAX as u64 / BLOCK * BLOCK;

    /// The options with sizes that a journal can use.
    pub(super) fn normal(mut self) -> Self {
        let size = |size: u64| size.clamp(Self::MIN_SIZE, Self::MAX_SIZE) / BLOCK * BLOCK;
        self.segment_size = size(self.segment_size);
        if self.reserve_size > 0 {
            self.reserve_size = size(self.reserve_size);
            if self.reserve_size == self.segment_size {
                // The size of a file tells which kind of segment it is.
                self.reserve_size += BLOCK;
            }
        }
        self
    }

    /// The salt of a segment.
    pub(super) fn salt(&self, generation: u64) -> u64 {
        self.seed.map_or_else(rand::random, |seed| {
            StdRng::seed_from_u64(seed ^ generation.rotate_left(32)).random()
        })
    }
}
