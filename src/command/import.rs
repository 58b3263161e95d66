//! `config import-mox`, `config import-postfix`, `config import-stalwart`

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use nix::unistd::{User, geteuid};
use postrider_admin::op::config::hooks::{self, SecretFile};
use postrider_config::{
    Errors, Static,
    import::{Disk, Fate, Import, Note, PrivateFile, mox, postfix, stalwart},
};

use super::{
    desk::Desk,
    output::{count, print},
};
use crate::cli::{ImportFolder, ImportHooks};

/// The file in which the kernel shows the name of this machine.
const HOSTNAME: &str = "/proc/sys/kernel/hostname";

/// Imports the folder of mox. Gives the path of the new postrider.conf.
pub(super) fn from_mox(conf: &Path, options: &ImportFolder) -> anyhow::Result<PathBuf> {
    let import = mox(&Disk, &absolute(&options.from)?);
    write(conf, options, import)
}

/// Imports the folder of Postfix. Gives the path of the new postrider.conf.
pub(super) fn from_postfix(conf: &Path, options: &ImportFolder) -> anyhow::Result<PathBuf> {
    let hostname = std::fs::read_to_string(HOSTNAME).unwrap_or_default();
    let hostname = Some(hostname.trim()).filter(|name| !name.is_empty());
    let import = postfix(&Disk, &absolute(&options.from)?, hostname);
    write(conf, options, import)
}

fn write(
    conf: &Path,
    options: &ImportFolder,
    import: Result<Import, Errors>,
) -> anyhow::Result<PathBuf> {
    let shown = options.from.display();
    let import = import.with_context(|| format!("{shown} can't be imported"))?;
    let (folder, new) = match &options.dir {
        Some(folder) => (folder.clone(), folder.join("postrider.conf")),
        // The command writes files with these names, and the server needs them both.
        None if conf
            .file_name()
            .is_some_and(|name| name == "postrider.conf") =>
        {
            (parent(conf).to_owned(), conf.to_owned())
        }
        None => bail!("name the folder for postrider.conf and domains.conf with --dir"),
    };
    // The file names the user. If it has errors, the user is the usual one.
    let statics = Static::parse(&import.statics, &new);
    let user = statics.map_or_else(|_| "postrider".to_owned(), |statics| statics.user);
    import.write(&folder, owner(&user)?)?;
    print(&notes(&import.notes))?;
    let keys = match import.files.len() {
        0 => String::new(),
        number => format!(
            ", and {}",
            count(
                u64::try_from(number).unwrap_or(u64::MAX),
                "key file",
                "key files"
            )
        ),
    };
    print(&format!(
        "wrote postrider.conf and domains.conf to {}{keys}\n",
        folder.display()
    ))?;
    Ok(new)
}

/// Prints the hooks and milters of a file, or adds them to postrider.conf. Says whether it added
/// them.
pub(super) fn from_stalwart(conf: &Path, options: &ImportHooks) -> anyhow::Result<bool> {
    let shown = options.from.display();
    let fragment = stalwart(&Disk, &options.from);
    let fragment = fragment.with_context(|| format!("{shown} can't be imported"))?;
    if !options.write {
        // Comments, so that the whole output can be added to postrider.conf.
        let notes = notes(&fragment.notes);
        for line in notes.lines() {
            print(&format!("# {line}\n"))?;
        }
        print(&format!("\n{}", fragment.text))?;
        for file in &fragment.files {
            let path = file.path.display();
            print(&format!("# With --write the command also writes {path}.\n"))?;
        }
        return Ok(false);
    }
    let text = |file: PrivateFile| {
        let content = String::from_utf8(file.content);
        Ok(SecretFile {
            path: file.path.to_string_lossy().into_owned(),
            content: content.context("a secret is not in UTF-8")?,
        })
    };
    let files: anyhow::Result<Vec<SecretFile>> = fragment.files.into_iter().map(text).collect();
    let (text, files) = (fragment.text, files?);
    Desk::of(conf)?.ask(&hooks::Import { text, files })?;
    print(&notes(&fragment.notes))?;
    print(&format!(
        "added the hooks and milters to {}; they take effect at the next start\n",
        conf.display()
    ))?;
    Ok(true)
}

/// The path from the root on. Our files name files of the other server by it.
fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("{} is no path", path.display()))
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// The user and group of the server, for the files that root writes. None if this process is not
/// root, or there is no such user.
fn owner(user: &str) -> anyhow::Result<Option<(u32, u32)>> {
    if !geteuid().is_root() || user.is_empty() {
        return Ok(None);
    }
    let user = User::from_name(user).with_context(|| format!("failed to look up {user:?}"))?;
    Ok(user.map(|user| (user.uid.as_raw(), user.gid.as_raw())))
}

/// All notes, by what became of the settings.
fn notes(notes: &[Note]) -> String {
    let mut text = String::new();
    for fate in Fate::ALL {
        let mut of_fate = notes.iter().filter(|note| note.fate == fate).peekable();
        if of_fate.peek().is_some() {
            let _ = writeln!(text, "{fate}:");
        }
        for note in of_fate {
            let _ = writeln!(text, "  {note}");
        }
    }
    text
}
