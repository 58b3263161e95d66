//! `backup DIR`: copies the configuration and the store, with or without a running server.
//!
//! This process copies, since the server may write in its own folders only. A running server keeps
//! the files of one position of its journal while the connection lasts.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use postrider_admin::{
    face::client::{self, Answer, CallError},
    op::backup::{Backup, BackupItem},
};
use postrider_config::{Loaded, Static};
use postrider_store::{
    Clock as _, STORE_FORMAT, Snapshot, StoreFile, SystemClock, journal::Position,
};

use super::{
    load_static,
    output::{bytes, print},
    runtime,
};
use crate::{
    backup::{
        MANIFEST, Manifest, config_folder,
        copy::{Copier, Owner, Way, check_room},
        empty_folder,
    },
    cli,
    files::write_private,
    services::all_certificates,
    traces::TRACES,
};

/// How long to look whether the server ended the connection.
const LOOK: Duration = Duration::from_millis(50);
/// What the store has in its folder, and what belongs to a process. The list of the store's files
/// names the first.
const NOT_OTHER: &[&str] = &["journal", "texts", "lock", TRACES];

/// Keeps the files of the store while they are copied.
enum Source {
    Running(Answer<Backup>),
    Stopped(Snapshot),
}

/// The files of the store.
struct Files {
    list: Vec<StoreFile>,
    position: Position,
    source: Source,
}

pub(super) fn run(conf: &Path, options: &cli::Backup) -> anyhow::Result<()> {
    let statics = load_static(conf)?;
    let places = Places::of(conf, &statics)?;
    places.check_target(&options.dir)?;
    empty_folder(&options.dir)?;
    let made = runtime()?.block_on(make(conf, &statics, &places, options));
    made.with_context(|| {
        let dir = options.dir.display();
        format!("the backup in {dir} is not complete, it has no {MANIFEST}; remove the folder")
    })
}

async fn make(
    conf: &Path,
    statics: &Static,
    places: &Places,
    options: &cli::Backup,
) -> anyhow::Result<()> {
    let dir = &options.dir;
    let files = files(&statics.data_dir).await?;
    let owner = Owner::of(&places.data)?;
    let mut copier = Copier::new(dir, owner);
    check_room(dir, room(&places.data, dir, &files.list))?;
    config_folder::take(
        &mut copier,
        &places.config,
        std::slice::from_ref(&places.data),
    )?;
    let named = named_files(conf, statics);
    let outside = config_folder::take_outside(&mut copier, &places.config, named)?;
    for file in &files.list {
        let way = match file.is_final {
            true => Way::Link,
            false => Way::Copy,
        };
        let name = format!("{}/{}", places.name, file.name);
        copier.take(&places.data.join(&file.source), &name, file.part, way)?;
    }
    take_others(&mut copier, places, options.traces)?;
    let position = files.position;
    files.source.end().await?;
    let manifest = Manifest {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        format: STORE_FORMAT,
        made: SystemClock.now().to_string(),
        position,
        config: format!("config/{}", places.conf_name),
        data: places.name.clone(),
        files: copier.finish()?,
        seal: String::new(),
    };
    let (count, size) = (manifest.files.len(), manifest.size());
    let list = dir.join(MANIFEST);
    write_private(&list, &manifest.sealed()?)?;
    if let Some(owner) = owner {
        owner.give(&list)?;
    }
    for file in outside {
        print(&format!(
            "{} is outside of the configuration folder; a copy is in {}/{}\n",
            file.display(),
            dir.display(),
            config_folder::OUTSIDE
        ))?;
    }
    print(&format!(
        "backup in {}: {count} files, {}; \"postrider verify\" checks it\n",
        dir.display(),
        bytes(size)
    ))
}

/// The folders of a server, without links in their paths, and their places in a backup.
struct Places {
    config: PathBuf,
    conf_name: String,
    data: PathBuf,
    /// The path of the data folder in the backup. A relative `data_dir` leads there too.
    name: String,
}

impl Places {
    fn of(conf: &Path, statics: &Static) -> anyhow::Result<Self> {
        let real = |path: &Path| {
            let real = fs::canonicalize(path);
            real.with_context(|| format!("failed to look at {}", path.display()))
        };
        let folder = match conf.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let (config, data) = (real(folder)?, real(&statics.data_dir)?);
        let below = data.strip_prefix(&config).ok().and_then(Path::to_str);
        let beside = data.parent() == config.parent();
        let own_name = data.file_name().and_then(|name| name.to_str());
        let name = match (below, own_name) {
            (Some(below), _) if !below.is_empty() => format!("config/{below}"),
            (None, Some(name)) if beside && name != "config" => name.to_owned(),
            _ => "data".to_owned(),
        };
        let conf_name = conf.file_name().and_then(|name| name.to_str());
        Ok(Self {
            conf_name: conf_name
                .context("the name of the file is not in UTF-8")?
                .to_owned(),
            config,
            data,
            name,
        })
    }

    /// A backup in one of the folders would have itself as a part.
    fn check_target(&self, dir: &Path) -> anyhow::Result<()> {
        let absolute = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
        let there = absolute
            .ancestors()
            .find_map(|path| fs::canonicalize(path).ok());
        let inside = [&self.config, &self.data].into_iter().find(|folder| {
            there
                .as_ref()
                .is_some_and(|there| there.starts_with(folder))
        });
        if let Some(folder) = inside {
            bail!(
                "{} is in the folder {}, which is a part of the backup; choose another place",
                dir.display(),
                folder.display()
            );
        }
        Ok(())
    }
}

/// The files of the store, from the running server or from its folder.
async fn files(data: &Path) -> anyhow::Result<Files> {
    let mut answer = match client::call(data, &Backup {}).await {
        Ok(answer) => answer,
        Err(CallError::NotRunning { .. }) => {
            let snapshot = Snapshot::of_folder(data)?;
            return Ok(Files {
                list: snapshot.files().collect(),
                position: snapshot.position(),
                source: Source::Stopped(snapshot),
            });
        }
        Err(error) => return Err(error.into()),
    };
    let mut list = Vec::new();
    loop {
        match answer.next().await? {
            Some(BackupItem::File(file)) => list.push(file),
            Some(BackupItem::Ready(position)) => {
                let source = Source::Running(answer);
                return Ok(Files {
                    list,
                    position,
                    source,
                });
            }
            None => bail!("the server ended the list of files early"),
        }
    }
}

impl Source {
    /// Ends the snapshot. An error says that the server did so before.
    async fn end(self) -> anyhow::Result<()> {
        match self {
            Self::Stopped(snapshot) => drop(snapshot),
            Self::Running(mut answer) => {
                // The server says nothing more while it keeps the files.
                if tokio::time::timeout(LOOK, answer.next()).await.is_ok() {
                    bail!("the server ended while its files were copied; try again");
                }
            }
        }
        Ok(())
    }
}

/// The bytes that the copies of the store's files take. Links take none.
fn room(data: &Path, dir: &Path, list: &[StoreFile]) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let device = |path: &Path| fs::metadata(path).map(|found| found.dev()).ok();
    let same = device(data) == device(dir);
    let bytes = list.iter().filter(|file| !(file.is_final && same));
    let bytes = bytes.map(|file| match file.part {
        Some(part) => part.bytes,
        None => fs::metadata(data.join(&file.source)).map_or(0, |found| found.len()),
    });
    bytes.sum()
}

/// The files that the configuration names.
fn named_files(conf: &Path, statics: &Static) -> Vec<PathBuf> {
    let mut named: Vec<PathBuf> = statics.admin_password_file.iter().cloned().collect();
    for certificates in all_certificates(statics).flatten() {
        named.extend(certificates.files().map(Path::to_owned));
    }
    // A file with errors is copied as it is.
    if let Ok(dynamic) = Loaded::read(conf).dynamic {
        named.extend(dynamic.key_files().map(Path::to_owned));
    }
    named
}

/// Copies what others keep in the data folder, such as keys.
fn take_others(copier: &mut Copier, places: &Places, traces: bool) -> anyhow::Result<()> {
    let mut names = vec![PathBuf::new()];
    while let Some(below) = names.pop() {
        let folder = places.data.join(&below);
        let entries = fs::read_dir(&folder);
        let entries = entries.with_context(|| format!("failed to list {}", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            let name = below.join(entry.file_name());
            let Some(text) = name.to_str() else {
                continue;
            };
            let is_traces = name.starts_with(TRACES);
            // A file that is being made under another name.
            let is_new = text.ends_with(".new") && (text.starts_with('.') || is_traces);
            let is_wanted = is_traces && traces;
            if NOT_OTHER.contains(&text) && !is_wanted || text.starts_with("index.") || is_new {
                continue;
            }
            let kind = entry.file_type()?;
            if kind.is_dir() {
                names.push(name);
            } else if kind.is_file() {
                let target = format!("{}/{text}", places.name);
                let taken = copier.take(&entry.path(), &target, None, Way::Copy);
                // The oldest traces go while the server runs. A segment that grows is taken as far
                // as it is.
                let is_gone = is_traces && !entry.path().exists();
                if !is_gone {
                    taken?;
                }
            }
        }
    }
    Ok(())
}
