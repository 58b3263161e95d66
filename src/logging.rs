//! Structured logs on standard error.

use std::io::{self, IsTerminal};

use postrider_config::{Log, LogFormat};
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// Starts the log as configured. `RUST_LOG`, if it is set, replaces the configured levels.
pub fn start(config: &Log) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| {
        let modules = config
            .modules
            .iter()
            .map(|(module, level)| format!(",postrider_{module}={}", level.as_str()));
        EnvFilter::new(
            std::iter::once(config.level.as_str().to_owned())
                .chain(modules)
                .collect::<String>(),
        )
    });
    let registry = tracing_subscriber::registry().with(filter);
    // A second start in one process (in tests) keeps the first log.
    let _ = match config.format {
        LogFormat::Json => registry
            .with(fmt::layer().json().with_writer(io::stderr))
            .try_init(),
        LogFormat::Text => registry
            .with(
                fmt::layer()
                    .with_ansi(io::stderr().is_terminal())
                    .with_writer(io::stderr),
            )
            .try_init(),
    };
}
