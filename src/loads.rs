//! How often the files of the configuration were read, and how it went, for the metrics.

use std::sync::Arc;

use postrider_config::Outcome;
use postrider_observe::{
    Metrics,
    metrics::{ConfigFile, LoadResult},
};
use tokio::sync::watch;

/// Counts that both files were read at the start.
pub(crate) fn at_start(metrics: &Metrics) {
    note(metrics, ConfigFile::Postrider, true);
    // If a copy stands for a file with errors, the first look of the watcher tells so.
    note(metrics, ConfigFile::Domains, true);
}

/// Counts the outcomes of all changes of domains.conf, until the server stops.
pub(crate) async fn count(
    metrics: Arc<Metrics>,
    mut outcomes: watch::Receiver<Outcome>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        tokio::select! {
            Ok(()) = outcomes.changed() => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        let is_good = match &*outcomes.borrow_and_update() {
            Outcome::Unchanged => continue,
            Outcome::Applied => true,
            Outcome::Refused(_) => false,
        };
        note(&metrics, ConfigFile::Domains, is_good);
    }
}

/// Counts that a file was read.
pub(crate) fn note(metrics: &Metrics, file: ConfigFile, is_good: bool) {
    let result = match is_good {
        true => LoadResult::Ok,
        false => LoadResult::Refused,
    };
    metrics.config_loads_total.with((file, result)).inc();
    let last = metrics.config_last_load_successful.with(file);
    last.set(i64::from(is_good));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_outcome_counts() {
        let metrics = Arc::<Metrics>::default();
        let outcomes = watch::Sender::new(Outcome::Unchanged);
        let stop = watch::Sender::new(false);
        let counting = count(Arc::clone(&metrics), outcomes.subscribe(), stop.subscribe());
        let counting = tokio::spawn(counting);
        let last = metrics
            .config_last_load_successful
            .with(ConfigFile::Domains);
        let errors = postrider_config::Static::parse("", "postrider.conf").unwrap_err();
        for (outcome, expected, result) in [
            (Outcome::Applied, 1, LoadResult::Ok),
            (Outcome::Refused(errors), 0, LoadResult::Refused),
            (Outcome::Applied, 1, LoadResult::Ok),
        ] {
            let counter = metrics
                .config_loads_total
                .with((ConfigFile::Domains, result));
            let before = counter.get();
            outcomes.send_replace(outcome);
            while counter.get() == before {
                tokio::task::yield_now().await;
            }
            assert_eq!(last.get(), expected);
        }
        stop.send(true).unwrap();
        counting.await.unwrap();
    }
}
