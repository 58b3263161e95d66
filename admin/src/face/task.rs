//! Tasks that work for a request over HTTP.

use postrider_observe::{metrics::PanicIn, panics};
use tokio::task::JoinHandle;

/// Begins work in a task of its own. Its panics count as those of HTTP.
pub(super) fn begin<F>(work: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    tokio::spawn(panics::within(PanicIn::Http, work))
}

#[cfg(test)]
mod tests {
    use std::{process::Command, sync::Arc};

    use bytes::Bytes;
    use postrider_observe::Metrics;

    use super::*;

    /// The hook for panics belongs to the process, so the test runs itself again in one of its own.
    /// The panic is in a library: its place does not tell whose work it was.
    #[test]
    fn a_panic_in_a_library_counts_as_one_of_http() {
        const NAME: &str = "face::task::tests::a_panic_in_a_library_counts_as_one_of_http";
        const ALONE: &str = "POSTRIDER_TEST_ALONE";
        if std::env::var_os(ALONE).is_none() {
            let mut again = Command::new(std::env::current_exe().unwrap());
            again.args(["--exact", NAME, "--nocapture"]).env(ALONE, "1");
            let ended = again.output().unwrap();
            let text = String::from_utf8_lossy(&ended.stdout);
            assert!(ended.status.success(), "{text}");
            assert!(text.contains("1 passed"), "{text}");
            return;
        }
        let metrics = Arc::new(Metrics::default());
        panics::watch(Arc::clone(&metrics));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let ended = runtime
            .block_on(async { begin(async { Bytes::from_static(b"short").split_to(6) }).await });
        assert!(ended.unwrap_err().is_panic());
        assert_eq!(metrics.panics_total.with(PanicIn::Http).get(), 1);
        assert_eq!(metrics.panics_total.with(PanicIn::Other).get(), 0);
    }
}
