//! `config ...`

use std::path::Path;

use anyhow::bail;
use postrider_config::{Dynamic, Static, describe_text};

use super::{dynamic_path, output::print};
use crate::{cli::Config, privileges, services::check_certificates};

pub(super) fn run(conf: &Path, command: Config) -> anyhow::Result<()> {
    match command {
        Config::Test => test(conf),
        Config::Describe => print(&describe_text()),
    }
}

fn test(conf: &Path) -> anyhow::Result<()> {
    let mut problems = Vec::new();
    match Static::load(conf) {
        Err(errors) => problems.push(errors.to_string()),
        Ok(statics) => {
            warn(statics.warnings())?;
            match Dynamic::load(dynamic_path(conf), &statics) {
                Err(errors) => problems.push(errors.to_string()),
                Ok(dynamic) => warn(dynamic.warnings())?,
            }
            for checked in [
                check_certificates(&statics),
                privileges::check(&statics.user),
            ] {
                if let Err(error) = checked {
                    problems.push(format!("{error:#}"));
                }
            }
        }
    }
    if problems.is_empty() {
        return print("config OK\n");
    }
    bail!("the configuration has errors:\n{}", problems.join("\n"))
}

/// Prints warnings: a value is allowed, but somebody should look at it.
fn warn(warnings: &[String]) -> anyhow::Result<()> {
    warnings
        .iter()
        .try_for_each(|warning| print(&format!("warning: {warning}\n")))
}
