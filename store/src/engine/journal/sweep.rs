//! The files of large texts that earlier processes left.

use std::{
    io, thread,
    time::{Duration, Instant},
};

use super::{Shared, inbox::Request};
use crate::{StoreError, error::Fault};

/// The longest pause between two files.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// Why a sweep ended early.
#[derive(Debug, thiserror::Error)]
enum SweepError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Gives the writer the files of earlier processes that no record refers to: no record ever will.
/// The writer removes them, but not from under a snapshot. The sweep ends with the store, and the
/// next start does what is left. After a look-up it pauses as long as the look-up took, so that it
/// never takes more than half of what the disk can do.
pub(super) fn sweep(shared: &Shared) {
    let mut count = 0_u64;
    let swept = shared.files.each_old(|file| {
        let start = Instant::now();
        if !is_known(shared, file)? {
            count += 1;
            shared.inbox.push(Request::RemoveFile(file))?;
        }
        thread::sleep(start.elapsed().min(LONGEST_PAUSE));
        Ok::<(), SweepError>(())
    });
    if count > 0 {
        tracing::debug!(files = count, "left-over texts removed");
    }
    match swept {
        Ok(()) | Err(SweepError::Store(StoreError::Closed)) => {}
        Err(error) => tracing::warn!(
            %error,
            "left-over texts not all looked at"
        ),
    }
}

/// Whether a record refers to a file.
fn is_known(shared: &Shared, file: u64) -> Result<bool, SweepError> {
    // A store that has stopped has let go of its index and knows no file. It is not readable.
    let state = shared.readable()?;
    Ok(state.texts.files.contains(&file)?)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        Options,
        disk::sim::SimDisk,
        engine::{
            Engine as _,
            journal::{JournalEngine, Mode},
        },
    };

    #[tokio::test]
    async fn a_store_that_has_stopped_calls_no_file_unknown() {
        let disk = SimDisk::new(1);
        let options = Options::new("unused");
        let engine = JournalEngine::open_on(disk.disk(), &options, Mode::Inline(1)).unwrap();
        let shared = Arc::clone(&engine.shared);
        assert!(!is_known(&shared, 7).unwrap());
        engine.close().await;
        let known = is_known(&shared, 7);
        assert!(matches!(known, Err(SweepError::Store(StoreError::Closed))));
    }
}
