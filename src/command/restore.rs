//! `restore BACKUP DIR`: makes the folder of a server from a backup.

use std::path::Path;

use anyhow::{Context, bail};
use nix::unistd::geteuid;
use postrider_config::Static;
use postrider_store::{Clock as _, Options, Store, SystemClock};

use super::{
    output::{bytes, print},
    runtime,
    verify::verify,
    visible,
};
use crate::{
    backup::{
        Manifest, config_folder,
        copy::{Copier, Owner, Way, check_room},
        empty_folder,
    },
    cli,
    services::store_options,
};

pub(super) fn run(options: &cli::Restore) -> anyhow::Result<()> {
    let (backup, dir) = (&options.backup, &options.dir);
    let list = Manifest::read(backup)?;
    let found = verify(backup)?;
    if !found.faults.is_empty() {
        let faults = found.faults.join("\n");
        bail!(
            "{} has faults, nothing was restored:\n{}",
            backup.display(),
            visible::lines(&faults)
        );
    }
    if is_inside(dir, backup) {
        bail!(
            "{} is in the backup {}; choose another place",
            dir.display(),
            backup.display()
        );
    }
    empty_folder(dir)?;
    restore(&list, backup, dir)
        .with_context(|| format!("{} is not complete; remove the folder", dir.display()))
}

fn is_inside(dir: &Path, backup: &Path) -> bool {
    let absolute = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    let there = absolute
        .ancestors()
        .find_map(|path| path.canonicalize().ok());
    let backup = backup.canonicalize().ok();
    there
        .zip(backup)
        .is_some_and(|(there, backup)| there.starts_with(backup))
}

fn restore(list: &Manifest, backup: &Path, dir: &Path) -> anyhow::Result<()> {
    check_room(dir, list.size())?;
    let mut copier = Copier::new(dir, None);
    for file in &list.files {
        copier.take(&backup.join(&file.name), &file.name, None, Way::Copy)?;
        if copier.files().last() != Some(file) {
            bail!("{} changed while it was copied", file.name);
        }
    }
    copier.finish()?;
    let (conf, data) = (dir.join(&list.config), dir.join(&list.data));
    let statics = Static::load(&conf)?;
    runtime()?.block_on(begin(&statics, &data))?;
    if let Some(owner) = Owner::named(&statics.user) {
        owner.give_all(dir)?;
    }
    print(&format!(
        "restored to {}: {}; deliveries and webhook calls are stopped, since messages that went \
         out after the backup would go out again\n",
        dir.display(),
        bytes(list.size())
    ))?;
    print_next(&statics, &conf, &data, dir)
}

/// Marks the store as restored. The numbers of new records are higher, and no work begins.
async fn begin(statics: &Static, data: &Path) -> anyhow::Result<()> {
    let options = Options {
        dir: data.to_owned(),
        ..store_options(statics)
    };
    let store = tokio::task::spawn_blocking(move || Store::open(options)).await??;
    let restored = store.restored(SystemClock.now()).await;
    store.close().await;
    Ok(restored?)
}

/// Tells what is left to do.
fn print_next(statics: &Static, conf: &Path, data: &Path, dir: &Path) -> anyhow::Result<()> {
    let real = |path: &Path| path.canonicalize().ok();
    if real(&statics.data_dir) != real(data) {
        print(&format!(
            "{}: data_dir names {}; set it to {}\n",
            conf.display(),
            statics.data_dir.display(),
            std::path::absolute(data)?.display()
        ))?;
    }
    let outside = dir.join(config_folder::OUTSIDE);
    if outside.exists() {
        print(&format!(
            "{} has files that were outside of the configuration folder; put them back where the \
             configuration names them\n",
            outside.display()
        ))?;
    }
    let user = &statics.user;
    if geteuid().is_root() && !user.is_empty() && Owner::named(user).is_none() {
        let dir = std::path::absolute(dir)?;
        let dir = dir.display();
        print(&format!(
            "there is no user {user} here: useradd --system --home-dir {dir} {user}; chown -R \
             {user}: {dir}\n"
        ))?;
    }
    let conf = conf.display();
    print(&format!(
        "next: postrider --config {conf} serve; then postrider --config {conf} queue start\n"
    ))
}
