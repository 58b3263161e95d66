//! The log of the process: what the configuration and the surroundings say about it.

use std::{
    io::{self, IsTerminal},
    os::{fd::AsFd, unix::fs::MetadataExt},
    sync::Arc,
    time::Duration,
};

use postrider_config::{LogFormat, LogLevel};
use postrider_observe::log::{Form, Level, Levels, Log, Threshold};
use postrider_store::{Clock, SystemClock};
use tracing_subscriber::{layer::SubscriberExt, util::SubscriberInitExt};

/// How long a process that ends waits for a slow reader of its last lines.
const LAST_LINES: Duration = Duration::from_secs(2);

/// Starts the log as configured, on standard error. `RUST_LOG`, if it is set, replaces the
/// configured levels: `info,postrider_queue=debug`. Gives the log. It stays empty if this process
/// has a log already, as in tests.
pub fn start(config: &postrider_config::Log) -> Log {
    let from_environment = std::env::var("RUST_LOG").ok();
    let from_environment = from_environment.as_deref().and_then(Levels::parse);
    let levels = from_environment.unwrap_or_else(|| levels(config));
    let log = Log::new(levels, Arc::new(|| SystemClock.now().0));
    let registry = tracing_subscriber::registry().with(log.layer());
    // A second start in one process (in tests) keeps the first log.
    if registry.try_init().is_ok() {
        let journal = is_journal(std::env::var("JOURNAL_STREAM").ok().as_deref());
        let form = Form {
            json: config.format == LogFormat::Json,
            journal,
            colours: !journal && io::stderr().is_terminal(),
        };
        log.write_to(form, Box::new(io::stderr()));
    }
    log
}

/// Waits until the last lines are out. The process ends after that.
pub fn end(log: &Log) {
    log.flush(LAST_LINES);
}

/// The configured levels.
fn levels(config: &postrider_config::Log) -> Levels {
    let modules = config.modules.iter();
    modules.fold(
        Levels::new(threshold(config.level)),
        |levels, (module, level)| levels.with(module, threshold(*level)),
    )
}

const fn threshold(level: LogLevel) -> Threshold {
    match level {
        LogLevel::Off => None,
        LogLevel::Error => Some(Level::Error),
        LogLevel::Warn => Some(Level::Warn),
        LogLevel::Info => Some(Level::Info),
        LogLevel::Debug => Some(Level::Debug),
        LogLevel::Trace => Some(Level::Trace),
    }
}

/// Whether standard error leads to the journal of systemd. `stream` has the device and the inode of
/// the journal's end, as `DEVICE:INODE` (systemd.exec(5), `JOURNAL_STREAM`).
fn is_journal(stream: Option<&str>) -> bool {
    let Some((device, inode)) = stream.and_then(|stream| stream.split_once(':')) else {
        return false;
    };
    let Ok(own) = io::stderr().as_fd().try_clone_to_owned() else {
        return false;
    };
    std::fs::File::from(own)
        .metadata()
        .is_ok_and(|own| device.parse() == Ok(own.dev()) && inode.parse() == Ok(own.ino()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_configuration_says_what_is_written() {
        let config = postrider_config::Log {
            level: LogLevel::Warn,
            format: LogFormat::Text,
            modules: BTreeMap::from([
                ("queue".to_owned(), LogLevel::Debug),
                ("postrider_receive".to_owned(), LogLevel::Off),
            ]),
        };
        let levels = levels(&config);
        assert_eq!(levels.general(), Some(Level::Warn));
        let modules: Vec<_> = levels.modules().collect();
        assert_eq!(
            modules,
            [
                ("postrider_receive", None),
                ("postrider_queue", Some(Level::Debug))
            ]
        );
    }

    #[test]
    fn the_journal_is_known_by_its_device_and_inode() {
        let own = std::fs::File::from(io::stderr().as_fd().try_clone_to_owned().unwrap());
        let own = own.metadata().unwrap();
        let stream = format!("{}:{}", own.dev(), own.ino());
        assert!(is_journal(Some(&stream)));
        assert!(!is_journal(Some(&format!(
            "{}:{}",
            own.dev(),
            own.ino() + 1
        ))));
        assert!(!is_journal(Some("journal")) && !is_journal(None));
    }
}
