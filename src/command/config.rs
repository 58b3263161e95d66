//! `config ...`

mod accounts;
mod addresses;
mod aliases;
mod dkim;
mod domains;
mod principals;
mod routes;
mod settings;

use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::bail;
use postrider_config::{Dynamic, Hook, HookAuth, Loaded, Static, describe_text};
use postrider_observe::Metrics;
use postrider_receive::Hooks;

use super::{desk::Desk, import, load_static, output::print, runtime, visible};
use crate::{acme::Acme, cli::Config, files, privileges, services::all_certificates};

pub(super) fn run(conf: &Path, command: Config) -> anyhow::Result<()> {
    match command {
        Config::Test { hooks } => test(conf, hooks),
        Config::Describe => print(&describe_text()),
        // What was written is tested, and the errors are those of the command.
        Config::ImportMox(options) => test(&import::from_mox(conf, &options)?, false),
        Config::ImportPostfix(options) => test(&import::from_postfix(conf, &options)?, false),
        Config::ImportStalwart(options) => match import::from_stalwart(conf, &options)? {
            true => test(conf, false),
            false => Ok(()),
        },
        Config::Domain(command) => domains::run(&Desk::of(conf)?, command),
        Config::Account(command) => accounts::run(&Desk::of(conf)?, command),
        Config::Address(command) => addresses::run(&Desk::of(conf)?, command),
        Config::Alias(command) => aliases::run(&Desk::of(conf)?, command),
        Config::Principal(command) => principals::run(&Desk::of(conf)?, command),
        Config::Dkim(command) => dkim::run(&Desk::of(conf)?, command),
        Config::Route(command) => routes::run(&Desk::of(conf)?, command),
        Config::Get { key, json } => settings::get(&Desk::of(conf)?, key, json),
        Config::Set { key, value } => settings::set(&Desk::of(conf)?, key, value),
        Config::Unset { keys } => settings::unset(&Desk::of(conf)?, keys),
    }
}

/// What a check of the configuration found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// The server would refuse to start, or to read the files again.
    pub(super) errors: Vec<String>,
    /// The server would start, but something is ignored or will fail.
    pub(super) warnings: Vec<String>,
}

fn test(conf: &Path, hooks: bool) -> anyhow::Result<()> {
    let mut found = check(conf);
    if hooks && found.errors.is_empty() {
        let statics = load_static(conf)?;
        runtime()?.block_on(found.reach_hooks(&statics))?;
    }
    for warning in &found.warnings {
        print(&format!("warning: {warning}\n"))?;
    }
    if found.errors.is_empty() {
        return print("config OK\n");
    }
    let errors = found.errors.join("\n");
    bail!("the configuration has errors:\n{}", visible::lines(&errors))
}

/// Checks the configuration, and whether this machine can run a server with it.
pub(super) fn check(conf: &Path) -> Findings {
    let (mut found, loaded) = check_files(conf);
    if let Ok(statics) = &loaded.statics {
        found.host(statics, loaded.dynamic.as_ref().ok());
    }
    found
}

/// Checks the configuration in a backup. Another machine has other users, and need not have the
/// files that lie outside of the configuration folder.
pub(super) fn check_backup(conf: &Path) -> Findings {
    let (mut found, loaded) = check_files(conf);
    let Ok(statics) = &loaded.statics else {
        return found;
    };
    let now = SystemTime::now();
    for certificates in all_certificates(statics) {
        match certificates {
            Ok(certificates) => found.warnings.extend(certificates.warnings(now)),
            Err(error) => found.warnings.push(format!("{error:#}")),
        }
    }
    found
}

/// The files with the secrets of a hook that is in use.
fn hook_secrets(hook: &Hook) -> impl Iterator<Item = PathBuf> {
    let secret = hook.auth.as_ref().map(|auth| match auth {
        HookAuth::Basic { password_file, .. } => password_file,
        HookAuth::Bearer(file) => file,
    });
    let controller = hook.learns.as_ref();
    let password = controller.and_then(|controller| controller.password_file.as_ref());
    let secrets = secret.into_iter().chain(password);
    secrets.filter(|_| hook.enabled).cloned()
}

/// Reads both files.
fn check_files(conf: &Path) -> (Findings, Loaded) {
    let mut found = Findings::default();
    let loaded = Loaded::read(conf);
    match &loaded.statics {
        Err(errors) => found.errors.push(errors.to_string()),
        Ok(statics) => {
            found.warnings.extend(statics.warnings().iter().cloned());
            found.without_effect(statics.not_yet());
        }
    }
    match &loaded.dynamic {
        Err(errors) => found.errors.push(errors.to_string()),
        Ok(dynamic) => {
            found.warnings.extend(dynamic.warnings().iter().cloned());
            found.without_effect(dynamic.not_yet());
        }
    }
    (found, loaded)
}

impl Findings {
    /// Connects to all outside programs.
    async fn reach_hooks(&mut self, statics: &Static) -> anyhow::Result<()> {
        let hooks = Hooks::new(statics, &Metrics::default())?;
        for program in hooks.programs() {
            let (name, kind, place) = (program.name(), program.kind(), program.place());
            match program.reach(statics).await {
                Ok(()) => print(&format!("{kind} {name} at {place} takes connections\n"))?,
                Err(error) => {
                    let text = format!("{kind} {name} at {place} can't be reached: {error}");
                    self.errors.push(text);
                }
            }
        }
        Ok(())
    }

    fn without_effect(&mut self, keys: Vec<String>) {
        let sentence = |key| format!("{key} is set, but this version does not use it yet");
        self.warnings.extend(keys.into_iter().map(sentence));
    }

    /// Looks at the files that the configuration names, as the user of the server sees them.
    fn host(&mut self, statics: &Static, dynamic: Option<&Dynamic>) {
        // The server looks at these at its start, and refuses to start if its user can't read them.
        let mut needed = vec![statics.domains_file()];
        if let Some(dynamic) = dynamic {
            needed.extend(dynamic.key_files().map(Path::to_owned));
        }
        needed.extend(statics.hooks.values().flat_map(hook_secrets));
        // It reads these later, or again when they change.
        let mut later: Vec<PathBuf> = statics.admin_password_file.iter().cloned().collect();
        for certificates in all_certificates(statics) {
            match certificates {
                Ok(certificates) => {
                    self.warnings
                        .extend(certificates.warnings(SystemTime::now()));
                    later.extend(certificates.files().map(Path::to_owned));
                }
                Err(error) => self.errors.push(format!("{error:#}")),
            }
        }
        let of_acme = Acme::files(statics);
        let own = std::iter::once(&statics.path).chain(&needed).chain(&later);
        let own = own.chain(&of_acme);
        match files::check_folders(own.map(PathBuf::as_path)) {
            Ok(warnings) => self.warnings.extend(warnings),
            Err(error) => self.errors.push(error.to_string()),
        }
        if let Err(error) = Acme::prepare(statics) {
            self.errors.push(format!("{error:#}"));
        }
        let user = &statics.user;
        let checked = privileges::unreadable(user, &needed)
            .and_then(|needed| Ok((needed, privileges::unreadable(user, &later)?)));
        match checked {
            Ok((needed, later)) => {
                self.errors.extend(needed);
                self.warnings.extend(later);
            }
            Err(error) => self.errors.push(format!("{error:#}")),
        }
    }
}
