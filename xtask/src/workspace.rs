//! The workspace: its folders and files, and the commands that build it.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

/// The folder that holds the workspace's `Cargo.toml`.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// A `cargo` command that runs in the workspace's folder.
pub(crate) fn cargo() -> Command {
    // cargo tells its children its own path. So the same toolchain is used.
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(root());
    command
}

/// The output of `cargo metadata` for the packages of the workspace.
pub(crate) fn metadata() -> Result<Value> {
    let output = cargo()
        .args(["metadata", "--format-version=1", "--no-deps", "--locked"])
        .output()
        .context("failed to run cargo metadata")?;
    ensure!(
        output.status.success(),
        "cargo metadata failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    serde_json::from_slice(&output.stdout).context("cargo metadata printed no JSON")
}

/// Makes a file that only its owner can read. postrider refuses keys that others can read.
pub(crate) fn write_private(file: &Path, contents: &[u8]) -> Result<()> {
    let mut options = fs::OpenOptions::new();
    let opened = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(file);
    let written = opened.and_then(|mut opened| opened.write_all(contents));
    written.with_context(|| format!("failed to write {}", file.display()))
}

/// All Rust files below a folder, or the folder itself if it is a Rust file.
pub(crate) fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    files(folder, ".rs")
}

/// All files below a folder whose names have this end, in order. Build folders and hidden folders
/// are left out. A folder that does not exist has no files.
pub(crate) fn files(folder: &Path, end: &str) -> Result<Vec<PathBuf>> {
    if folder.is_file() {
        return Ok(vec![folder.to_owned()]);
    }
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    let entries = fs::read_dir(folder).with_context(|| format!("failed to read {folder:?}"))?;
    let mut entries: Vec<_> = entries.collect::<Result<_, _>>()?;
    entries.sort_unstable_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if entry.file_type()?.is_dir() {
            if name != "target" && !name.starts_with('.') {
                files.extend(self::files(&entry.path(), end)?);
            }
        } else if name.ends_with(end) {
            files.push(entry.path());
        }
    }
    Ok(files)
}

/// A profile of cargo.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Unoptimised, for tests.
    Dev,
    /// Optimised, and quick to build.
    Release,
    /// The binary that is shipped: link-time optimised and stripped.
    Dist,
}

/// The command that serves a configuration.
pub(crate) fn serve(binary: &Path, conf: &Path) -> Command {
    let mut command = Command::new(binary);
    command.arg("--config").arg(conf).arg("serve");
    command.stdin(Stdio::null());
    command
}

/// Sets the password of an account.
pub(crate) fn set_password(
    binary: &Path,
    conf: &Path,
    account: &str,
    password: &str,
) -> Result<()> {
    give_password(binary, conf, &["setpassword", account], password)
}

/// Sets the password of the administrator.
pub(crate) fn set_admin_password(binary: &Path, conf: &Path, password: &str) -> Result<()> {
    give_password(binary, conf, &["setadminpassword"], password)
}

/// Runs a command that reads a password.
fn give_password(binary: &Path, conf: &Path, command: &[&str], password: &str) -> Result<()> {
    let mut child = Command::new(binary)
        .arg("--config")
        .arg(conf)
        .args(command)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .with_context(|| format!("failed to run {binary:?}"))?;
    if let Some(mut input) = child.stdin.take() {
        writeln!(input, "{password}")?;
    }
    let ended = child.wait()?;
    ensure!(ended.success(), "postrider {} failed", command.join(" "));
    Ok(())
}

/// A process that ends with this value.
pub(crate) struct Kept(pub(crate) Child);

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Builds the `postrider` binary and returns its path.
pub(crate) fn build_postrider(profile: Profile) -> Result<PathBuf> {
    let (name, folder) = match profile {
        Profile::Dev => ("dev", "debug"),
        Profile::Release => ("release", "release"),
        Profile::Dist => ("dist", "dist"),
    };
    let status = cargo()
        .args(["build", "--quiet", "--locked", "--package=postrider"])
        .args(["--bin=postrider", "--profile", name])
        .status()
        .context("failed to run cargo build")?;
    ensure!(status.success(), "building postrider failed");
    Ok(target()?.join(folder).join("postrider"))
}

/// The folder in which cargo builds.
pub(crate) fn target() -> Result<PathBuf> {
    let metadata = metadata()?;
    let Some(target) = metadata.get("target_directory").and_then(Value::as_str) else {
        bail!("cargo metadata named no target_directory");
    };
    Ok(target.into())
}

/// Fails in a debug build of the tasks: the driver itself would use most of the CPU time.
pub(crate) fn refuse_debug_build(task: &str) -> Result<()> {
    ensure!(
        !cfg!(debug_assertions),
        "{task} measures nothing useful in a debug build; run: cargo run --release -p xtask -- {task} ..."
    );
    Ok(())
}

/// Warns in a debug build of the tasks that the figures mean little.
pub(crate) fn warn_of_debug_build() {
    if cfg!(debug_assertions) {
        eprintln!(
            "this is a debug build, whose figures mean little; measure with cargo run --release -p xtask"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_listed_without_build_folders() {
        let dir = tempfile::tempdir().unwrap();
        for file in ["b/c.rs", "a.rs", "a.md", "target/d.rs", ".git/e.rs"] {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let found = rust_files(dir.path()).unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|file| file.strip_prefix(dir.path()).unwrap())
            .collect();
        assert_eq!(found, [Path::new("a.rs"), Path::new("b/c.rs")]);
        let one = dir.path().join("a.rs");
        assert_eq!(rust_files(&one).unwrap(), [one]);
        assert!(rust_files(&dir.path().join("absent")).unwrap().is_empty());
    }
}
