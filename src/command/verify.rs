//! `verify DIR`: checks a backup, or the folder of a server that does not run. It writes nothing.

use std::path::{Path, PathBuf};

use anyhow::bail;
use postrider_config::Loaded;
use postrider_store::inspect;

use super::{
    config::{self, Findings},
    output::{bytes, count, print},
    visible,
};
use crate::{
    backup::{MANIFEST, Manifest},
    cli,
};

/// What was found in a folder.
#[derive(Debug, Default)]
pub(super) struct Verified {
    pub(super) faults: Vec<String>,
    pub(super) warnings: Vec<String>,
    /// How much there is, in words.
    pub(super) content: String,
}

pub(super) fn run(options: &cli::Verify) -> anyhow::Result<()> {
    let found = verify(&options.dir)?;
    for warning in &found.warnings {
        print(&format!("warning: {warning}\n"))?;
    }
    if found.faults.is_empty() {
        return print(&format!("OK: {}\n", found.content));
    }
    let faults = found.faults.join("\n");
    bail!(
        "{} has faults:\n{}",
        options.dir.display(),
        visible::lines(&faults)
    )
}

/// Checks a folder.
pub(super) fn verify(dir: &Path) -> anyhow::Result<Verified> {
    let mut found = Verified::default();
    let is_backup = dir.join(MANIFEST).exists();
    let (config, data) = if is_backup {
        let list = match Manifest::read(dir) {
            Ok(list) => list,
            Err(error) => {
                found.faults.push(format!("{error:#}"));
                return Ok(found);
            }
        };
        found.faults.extend(list.compare(dir));
        (Some(dir.join(&list.config)), dir.join(&list.data))
    } else {
        stopped(dir)?
    };
    let check = match is_backup {
        true => config::check_backup,
        false => config::check,
    };
    let accounts = config.as_deref();
    let accounts = accounts.and_then(|conf| found.check_config(conf, check(conf)));
    found.check_store(&data, accounts);
    Ok(found)
}

/// The configuration and the data folder of a server that does not run.
fn stopped(dir: &Path) -> anyhow::Result<(Option<PathBuf>, PathBuf)> {
    let index = "index.redb";
    let confs = [
        "config/postrider.conf",
        "postrider.conf",
        "../config/postrider.conf",
    ];
    let conf = confs
        .map(|conf| dir.join(conf))
        .into_iter()
        .find(|conf| conf.is_file());
    if dir.join(index).exists() {
        return Ok((conf, dir.to_owned()));
    }
    let named = conf
        .as_ref()
        .and_then(|conf| Loaded::read(conf).statics.ok());
    let data = named.map_or_else(|| dir.join("data"), |statics| statics.data_dir);
    if !data.join(index).exists() {
        bail!(
            "{} is no backup ({MANIFEST} is missing), and no folder of a server ({} is missing)",
            dir.display(),
            data.join(index).display()
        );
    }
    Ok((conf, data))
}

impl Verified {
    /// Takes what was found about the configuration and the keys. Gives the number of accounts.
    fn check_config(&mut self, conf: &Path, checked: Findings) -> Option<usize> {
        self.faults.extend(checked.errors);
        self.warnings.extend(checked.warnings);
        let loaded = Loaded::read(conf).dynamic.ok();
        loaded.map(|dynamic| dynamic.accounts.len())
    }

    fn check_store(&mut self, data: &Path, accounts: Option<usize>) {
        let found = match inspect(data) {
            Ok(found) => found,
            Err(error) => {
                self.faults.push(error.to_string());
                return;
            }
        };
        self.faults.extend(found.faults);
        for orphan in found.orphans {
            let orphan = data.join(orphan);
            self.warnings.push(format!(
                "{}: nothing refers to this file; the next start removes it",
                orphan.display()
            ));
        }
        let counts = found.counts;
        let accounts = match accounts {
            Some(accounts) => format!("{}, ", count(accounts as u64, "account", "accounts")),
            None => String::new(),
        };
        let size = bytes(counts.text_bytes);
        self.content = format!("{} queued, {accounts}{size}", counts.queued);
    }
}
