//! Finds dependencies that a `Cargo.toml` declares and that no source file of the crate names.
//!
//! The check reads words, not syntax: a dependency counts as used where its name begins a path
//! (`name::`) or follows `use`. So the check can miss an unused dependency, for example when a
//! module of ours has the same name. The check never reports a dependency that is in use, except
//! one that only a macro names, or one with another name in code: such a dependency stands in
//! [`ALLOWED`].

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::workspace::{metadata, root, rust_files};

/// Dependencies that are used without being named: the package, the dependency, and the reason.
const ALLOWED: &[(&str, &str, &str)] = &[
    (
        "postrider-smtp",
        "rustls-webpki",
        "its name in Rust code is webpki",
    ),
    (
        "postrider-queue",
        "rustls-webpki",
        "its name in Rust code is webpki",
    ),
];

/// Fails with the list of unused dependencies.
pub(crate) fn check() -> Result<()> {
    let metadata = metadata()?;
    let packages = metadata.get("packages").and_then(Value::as_array);
    let packages = packages.context("cargo metadata named no packages")?;
    let mut unused = Vec::new();
    let mut declared = BTreeSet::new();
    for package in packages {
        let package = Package::read(package)?;
        declared.extend(package.dependencies.iter().map(|one| one.name.clone()));
        unused.extend(package.unused()?);
    }
    let manifest = fs::read_to_string(root().join("Cargo.toml"))?;
    unused.extend(
        workspace_dependencies(&manifest)
            .filter(|name| !declared.contains(*name))
            .map(|name| format!("the workspace declares {name}, and no crate uses it")),
    );
    if unused.is_empty() {
        return Ok(());
    }
    unused.iter().for_each(|line| println!("{line}"));
    bail!("{} unused dependencies", unused.len());
}

/// A package of the workspace.
struct Package {
    name: String,
    folder: PathBuf,
    dependencies: Vec<Dependency>,
}

/// A declared dependency.
struct Dependency {
    /// The name of the package.
    name: String,
    /// The name in Rust code.
    identifier: String,
    /// Whether only tests, benches and examples may use it.
    dev: bool,
}

impl Package {
    /// Reads a package of `cargo metadata`.
    fn read(value: &Value) -> Result<Self> {
        let text = |value: &Value, key: &str| value.get(key)?.as_str().map(str::to_owned);
        let manifest = text(value, "manifest_path").context("a package without a manifest")?;
        let dependencies = value.get("dependencies").and_then(Value::as_array);
        let dependencies = dependencies.into_iter().flatten().filter_map(|dependency| {
            let name = text(dependency, "name")?;
            let renamed = text(dependency, "rename");
            Some(Dependency {
                identifier: renamed.unwrap_or_else(|| name.clone()).replace('-', "_"),
                dev: text(dependency, "kind").as_deref() == Some("dev"),
                name,
            })
        });
        Ok(Self {
            name: text(value, "name").context("a package without a name")?,
            folder: Path::new(&manifest)
                .parent()
                .unwrap_or(Path::new("/"))
                .into(),
            dependencies: dependencies.collect(),
        })
    }

    /// A sentence for each dependency that the package declares and does not use.
    fn unused(&self) -> Result<Vec<String>> {
        let sources = self.words(&["src", "build.rs"])?;
        let tests = self.words(&["tests", "benches", "examples"])?;
        let unused = self.dependencies.iter().filter_map(|dependency| {
            let Dependency {
                name,
                identifier,
                dev,
            } = dependency;
            let allowed = ALLOWED
                .iter()
                .any(|(package, allowed, _)| *package == self.name && allowed == name);
            let in_sources = sources.contains(identifier);
            let in_tests = tests.contains(identifier);
            match (dev, in_sources, in_tests) {
                _ if allowed => None,
                (_, true, _) | (true, _, true) => None,
                (_, false, false) => Some(format!("{} does not use {name}", self.name)),
                (false, false, true) => Some(format!(
                    "only tests of {} use {name}: it belongs to [dev-dependencies]",
                    self.name
                )),
            }
        });
        Ok(unused.collect())
    }

    /// The names that begin a path in any Rust file of these files and folders.
    fn words(&self, places: &[&str]) -> Result<BTreeSet<String>> {
        let mut words = BTreeSet::new();
        for place in places {
            for file in rust_files(&self.folder.join(place))? {
                let text = fs::read_to_string(&file)
                    .with_context(|| format!("failed to read {file:?}"))?;
                words.extend(crates_named(&text));
            }
        }
        Ok(words)
    }
}

/// The names that begin a path or follow `use`, outside of comments.
fn crates_named(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in text.lines() {
        if line.trim_start().starts_with("//") {
            continue;
        }
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let mut rest = line;
        let mut before = "";
        while let Some(start) = rest.find(is_word) {
            let (skipped, word_and_more) = rest.split_at_checked(start).unwrap_or(("", ""));
            let end = word_and_more
                .find(|c: char| !is_word(c))
                .unwrap_or(word_and_more.len());
            let (word, after) = word_and_more.split_at_checked(end).unwrap_or(("", ""));
            // In `a::b::c` only `a` names a crate. In `::a` and `{a` it is `a` too.
            let inner = skipped.ends_with("::") && skipped.len() == 2 && !before.is_empty();
            let used = matches!(before, "use" | "crate") && skipped == " ";
            if !inner && (after.starts_with("::") || used) {
                found.insert(word.to_owned());
            }
            before = word;
            rest = after;
        }
    }
    found
}

/// The names in the table `[workspace.dependencies]` of a manifest.
fn workspace_dependencies(manifest: &str) -> impl Iterator<Item = &str> {
    manifest
        .lines()
        .skip_while(|line| *line != "[workspace.dependencies]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| Some(line.split_once('=')?.0.trim()))
        .filter(|name| !name.starts_with('#'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_names(text: &str, expected: &[&str]) {
        let found = crates_named(text);
        let found: Vec<&str> = found.iter().map(String::as_str).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn names_that_begin_a_path() {
        check_names("use serde_json::Value;", &["serde_json"]);
        check_names("pub use bytes;", &["bytes"]);
        check_names("extern crate libc;", &["libc"]);
        check_names("#[tokio::main]", &["tokio"]);
        check_names("let x: ::url::Url = y;", &["url"]);
        check_names("use {url::Url, http};", &["url"]);
        check_names("f(a::b::c, d.e, rand)", &["a"]);
    }

    #[test]
    fn names_elsewhere_do_not_count() {
        check_names("crate::url::parse()", &["crate"]);
        check_names("    // bytes::Bytes", &[]);
        check_names("/// [`bytes::Bytes`]", &[]);
        check_names("let rand = 1;", &[]);
    }

    #[test]
    fn the_workspace_s_table_is_read_to_its_end() {
        let manifest =
            "[workspace.dependencies]\na = \"1\"\n# b = 2\n\nc-d = { x = 1 }\n[lints]\ne = 1\n";
        let found: Vec<_> = workspace_dependencies(manifest).collect();
        assert_eq!(found, ["a", "c-d"]);
    }

    #[test]
    fn a_dependency_belongs_where_it_is_used() {
        let dir = tempfile::tempdir().unwrap();
        for (file, text) in [("src/lib.rs", "use a::X;\n"), ("tests/t.rs", "b::y();\n")] {
            let path = dir.path().join(file);
            fs::create_dir(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let dependency = |name: &str, dev| Dependency {
            name: name.to_owned(),
            identifier: name.to_owned(),
            dev,
        };
        let package = Package {
            name: "p".to_owned(),
            folder: dir.path().to_owned(),
            dependencies: vec![
                dependency("a", false),
                dependency("b", false),
                dependency("b", true),
                dependency("c", true),
            ],
        };
        assert_eq!(
            package.unused().unwrap(),
            [
                "only tests of p use b: it belongs to [dev-dependencies]",
                "p does not use c"
            ]
        );
    }
}
