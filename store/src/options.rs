//! How a store is opened.

use std::{path::PathBuf, sync::Arc, time::Duration};

use postrider_observe::Metrics;

/// The place of the data, and the memory and disk that the store uses.
#[derive(Clone, Debug)]
pub struct Options {
    /// The data folder. The store makes it if it is not there.
    pub dir: PathBuf,
    /// Bytes of a journal segment.
    pub segment_size: u64,
    /// Bytes of memory for pages of the index.
    pub cache_size: usize,
    /// The least time between two checkpoints. Many changes in memory begin one earlier.
    pub checkpoint_interval: Duration,
    /// About how many bytes of changes are held in memory before a checkpoint is begun early. At
    /// twice this, callers wait for the checkpoint.
    pub changes_in_memory: usize,
    /// The most bytes that are written and synced together.
    pub batch_size: usize,
    /// The bytes of the disk that the journal's segments and the files of texts leave free. The
    /// index needs them to finish the work that is in the queue already.
    pub min_free: u64,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

impl Options {
    /// The usual options for this folder.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            segment_size: 64 << 20,
            cache_size: 16 << 20,
            checkpoint_interval: Duration::from_millis(500),
            changes_in_memory: 4 << 20,
            batch_size: 4 << 20,
            min_free: 64 << 20,
            metrics: Arc::default(),
        }
    }
}
