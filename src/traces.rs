//! The traces of the server: the folder `traces` in the data folder, and what may be written there.

use std::sync::Arc;

use nix::sys::statvfs::statvfs;
use postrider_config::Static;
use postrider_observe::{
    Metrics, Tracer,
    trace::{Limits, Recorder, RecorderParts, Traces},
};
use postrider_store::Clock;
use tracing::error;

use crate::services::store_options;

/// The folder of the traces, in the data folder.
pub const TRACES: &str = "traces";

/// What starts, writes and reads traces.
pub(crate) struct Tracing {
    pub(crate) tracer: Tracer,
    pub(crate) traces: Traces,
    /// It writes until it is dropped. None: no traces are kept.
    recorder: Option<Recorder>,
}

impl Tracing {
    /// The traces that the configuration wants. Without them mail goes on: the log and the answer
    /// to those who ask say why there are none.
    pub(crate) fn start(statics: &Static, metrics: &Arc<Metrics>, clock: &Arc<dyn Clock>) -> Self {
        let off = |why: &str| Self {
            tracer: Tracer::off(),
            traces: Traces::off(why),
            recorder: None,
        };
        if !statics.traces.enabled {
            return off("traces are turned off by traces.enabled");
        }
        let clock = Arc::clone(clock);
        let dir = statics.data_dir.join(TRACES);
        let (folder, free_min) = (statics.data_dir.clone(), free_min(statics));
        let parts = RecorderParts {
            dir,
            limits: Limits {
                keep: statics.traces.keep,
                max_size: statics.traces.max_size.0,
            },
            sample: statics.traces.sample,
            metrics: Arc::clone(metrics),
            now: Arc::new(move || clock.now().0),
            has_room: Box::new(move || {
                let stat = statvfs(&folder);
                stat.is_ok_and(|it| {
                    it.blocks_available().saturating_mul(it.fragment_size()) >= free_min
                })
            }),
        };
        match Recorder::start(parts) {
            Ok(recorder) => Self {
                tracer: recorder.tracer().clone(),
                traces: recorder.traces().clone(),
                recorder: Some(recorder),
            },
            Err(error) => {
                error!(%error, "no traces are kept");
                off(&format!("no traces are kept: {error}"))
            }
        }
    }

    /// Writes what has ended, and ends.
    pub(crate) async fn end(self) {
        let _ = tokio::task::spawn_blocking(move || drop(self.recorder)).await;
    }
}

/// The bytes of the disk that traces leave free. The journal makes two segments in advance, and
/// leaves room itself: traces end well before mail does.
fn free_min(statics: &Static) -> u64 {
    let store = store_options(statics);
    store.min_free + 4 * store.segment_size
}
