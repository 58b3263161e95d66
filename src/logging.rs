//! Structured logs on standard error. The last lines also stay in memory, for the management API.

use std::{
    fmt::{self, Write as _},
    io::{self, IsTerminal},
};

use postrider_admin::op::logs::{Level, LogLine, Logs};
use postrider_config::{Log, LogFormat, LogLevel};
use postrider_store::{Clock, SystemClock};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::filter_fn,
    fmt as lines,
    layer::{Context, SubscriberExt},
    util::SubscriberInitExt,
};

/// Starts the log as configured. `RUST_LOG`, if it is set, replaces the configured levels. Gives
/// the last lines of the log. They stay empty if this process has a log already, as in tests.
pub fn start(config: &Log) -> Logs {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(directives(config)));
    let logs = Logs::default();
    let kept = Kept { logs: logs.clone() };
    let registry = tracing_subscriber::registry()
        .with(filter)
        .with(kept.with_filter(filter_fn(is_kept)));
    // A second start in one process (in tests) keeps the first log.
    let _ = match config.format {
        LogFormat::Json => registry
            .with(lines::layer().json().with_writer(io::stderr))
            .try_init(),
        LogFormat::Text => registry
            .with(
                lines::layer()
                    .with_ansi(io::stderr().is_terminal())
                    .with_writer(io::stderr),
            )
            .try_init(),
    };
    logs
}

/// Lines of libraries about what a remote server gets wrong, which no administrator can mend. The
/// first library calls a certificate that it does not know an error, also where any certificate
/// will do. The second writes out each answer that DNSSEC does not prove. What follows from either
/// is in the result of an attempt.
const REMOTE_FAULTS: &str = ",rustls_platform_verifier=off,hickory_net::dnssec=error";

/// The configured levels, as `RUST_LOG` has them.
fn directives(config: &Log) -> String {
    let faults = match config.level {
        LogLevel::Error | LogLevel::Warn | LogLevel::Info => REMOTE_FAULTS,
        // Nothing is written, or all that helps to look into something.
        LogLevel::Off | LogLevel::Debug | LogLevel::Trace => "",
    };
    let modules = { config.modules.iter() }
        .map(|(module, level)| format!(",postrider_{module}={}", level.as_str()));
    [config.level.as_str().to_owned(), faults.to_owned()]
        .into_iter()
        .chain(modules)
        .collect()
}

/// Whether a line stays in memory. Below the level of warnings, only lines of our own do: libraries
/// may write out what they read and send, and that may hold secrets.
fn is_kept(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with("postrider") || *metadata.level() <= tracing::Level::WARN
}

/// Keeps the last lines of the log.
struct Kept {
    logs: Logs,
}

impl<S: Subscriber> Layer<S> for Kept {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let mut texts = Texts::default();
        event.record(&mut texts);
        self.logs.add(LogLine {
            time: SystemClock.now(),
            level: match *metadata.level() {
                tracing::Level::ERROR => Level::Error,
                tracing::Level::WARN => Level::Warn,
                tracing::Level::INFO => Level::Info,
                tracing::Level::DEBUG => Level::Debug,
                tracing::Level::TRACE => Level::Trace,
            },
            event: texts.message,
            event_id: event_id(metadata.target()),
            details: texts.details,
        });
    }
}

/// The name of the part of a program that wrote a line: its path, with dots and hyphens.
fn event_id(target: &str) -> String {
    let path = match target.strip_prefix("postrider_") {
        Some(path) => format!("postrider.{path}"),
        None => target.to_owned(),
    };
    path.replace("::", ".").replace('_', "-")
}

/// The fields of a line as texts.
#[derive(Default)]
struct Texts {
    message: String,
    details: String,
}

impl Visit for Texts {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format_args!("{value:?}"));
    }
}

impl Texts {
    fn add(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        // Writing into a string does not fail.
        let _ = match field.name() {
            "message" => self.message.write_fmt(value),
            name => {
                let comma = if self.details.is_empty() { "" } else { ", " };
                write!(self.details, "{comma}{name} = {value}")
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// The lines that are written at a level about the faults of a remote server and of ours.
    fn written(level: LogLevel) -> Vec<String> {
        let logs = Logs::default();
        let kept = Kept { logs: logs.clone() };
        let config = Log {
            level,
            format: LogFormat::Text,
            modules: BTreeMap::new(),
        };
        let filter = EnvFilter::new(directives(&config));
        let subscriber = tracing_subscriber::registry().with(filter).with(kept);
        tracing::subscriber::with_default(subscriber, || {
            tracing::error!(target: "rustls_platform_verifier::verification::others", "certificate");
            tracing::warn!(target: "hickory_net::dnssec", "answer");
            tracing::error!(target: "postrider::server", "ours");
        });
        let lines = logs.lines();
        lines.iter().map(|(_, line)| line.event.clone()).collect()
    }

    #[test]
    fn faults_of_remote_servers_are_written_for_those_who_look_into_them() {
        for level in [LogLevel::Error, LogLevel::Warn, LogLevel::Info] {
            assert_eq!(written(level), ["ours"], "{level:?}");
        }
        assert!(written(LogLevel::Off).is_empty());
        assert_eq!(written(LogLevel::Debug).len(), 3);
    }

    #[test]
    fn a_line_has_its_parts() {
        let logs = Logs::default();
        let kept = Kept { logs: logs.clone() };
        let subscriber = tracing_subscriber::registry().with(kept.with_filter(filter_fn(is_kept)));
        tracing::subscriber::with_default(subscriber, || {
            let remote = std::net::Ipv4Addr::LOCALHOST;
            tracing::info!(target: "postrider_queue::deliver::end_of", %remote, to = "a@b.test", n = 1, "sent {}", 2);
            tracing::info!(target: "hyper::proto", "authorization: Bearer prk");
            tracing::warn!(target: "hyper_util::client", "gone");
        });
        let lines: Vec<_> = logs
            .lines()
            .iter()
            .map(|(_, line)| (**line).clone())
            .collect();
        let [library, ours] = lines.as_slice() else {
            panic!("{lines:?}");
        };
        assert_eq!((&*library.event, library.level), ("gone", Level::Warn));
        assert_eq!(library.event_id, "hyper-util.client");
        assert_eq!((&*ours.event, ours.level), ("sent 2", Level::Info));
        assert_eq!(ours.event_id, "postrider.queue.deliver.end-of");
        assert_eq!(ours.details, "remote = 127.0.0.1, to = a@b.test, n = 1");
    }
}
