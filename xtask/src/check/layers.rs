//! A test that dependencies between our crates point down only, as the table in ARCHITECTURE.md
//! says.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::Value;

use crate::workspace::{metadata, root};

/// The heading of the table that says which crates a crate may use.
const HEADING: &str = "| crate | may use |";

/// The prefix of the package names. The root package has the prefix without the hyphen as its name.
const PREFIX: &str = "postrider-";

/// The folder that ARCHITECTURE.md names for the root package.
const ROOT: &str = "src";

/// Each crate by its folder, and the folders of the crates that it may use.
fn layers(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let rows = text
        .lines()
        .skip_while(|line| *line != HEADING)
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let mut layers: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
        let [crates, uses] = cells[..] else {
            panic!("{row:?} has not two cells");
        };
        for name in names(crates) {
            layers.insert(name, names(uses).collect());
        }
    }
    // "all" means every other crate of the table, and "none" no crate.
    let all: BTreeSet<String> = layers.keys().cloned().collect();
    for (name, uses) in &mut layers {
        if uses.remove("all") {
            *uses = all.iter().filter(|other| *other != name).cloned().collect();
        }
        uses.remove("none");
    }
    // The tasks meet the server from outside only.
    layers.insert("xtask".to_owned(), BTreeSet::new());
    layers
}

/// The names in a cell: separated by commas, perhaps in backticks.
fn names(cell: &str) -> impl Iterator<Item = String> {
    cell.split(',')
        .map(|name| name.trim().trim_matches('`').to_owned())
}

/// Each package of the workspace by its folder, with its dependencies, of any kind, that are ours.
fn arrows() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = metadata().unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let folder = |value: &Value| {
        let name = value["name"].as_str().unwrap();
        match name.strip_prefix(PREFIX) {
            Some(folder) => folder.to_owned(),
            None if name == PREFIX.trim_end_matches('-') => ROOT.to_owned(),
            None => name.to_owned(),
        }
    };
    let ours: BTreeSet<String> = packages.iter().map(folder).collect();
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().unwrap();
            let used = dependencies
                .iter()
                .map(folder)
                .filter(|dependency| ours.contains(dependency))
                // The tests of a crate may name the crate itself.
                .filter(|dependency| *dependency != folder(package))
                .collect();
            (folder(package), used)
        })
        .collect()
}

fn architecture() -> String {
    fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap()
}

#[test]
fn dependencies_point_down_only() {
    let layers = layers(&architecture());
    for (package, used) in arrows() {
        let Some(may_use) = layers.get(&package) else {
            panic!("{package} has no layer yet: give it one in ARCHITECTURE.md");
        };
        for dependency in used {
            assert!(
                may_use.contains(&dependency),
                "{package} may not use {dependency}"
            );
        }
    }
}

#[test]
fn the_layers_themselves_have_no_circle() {
    let mut left = layers(&architecture());
    assert!(left.len() > 8, "ARCHITECTURE.md has no table of layers");
    // Remove the crates that use no crate that is left, again and again. No crate may stay.
    while !left.is_empty() {
        let names: BTreeSet<String> = left.keys().cloned().collect();
        let before = left.len();
        left.retain(|_, uses| !uses.is_disjoint(&names));
        assert!(left.len() < before, "a circle among {names:?}");
    }
}

#[test]
fn the_table_is_read_with_its_words_for_all_and_none() {
    let text = format!(
        "x\n\n{HEADING}\n|---|---|\n| `src` | all |\n| `a`, `b` | c |\n| `c` | none |\n\n| `d` | c |\n"
    );
    let set = |names: &[&str]| -> BTreeSet<String> { names.iter().map(|&s| s.into()).collect() };
    let found = layers(&text);
    assert_eq!(found["src"], set(&["a", "b", "c"]));
    assert_eq!(found["b"], set(&["c"]));
    assert_eq!(found["c"], set(&[]));
    assert_eq!(found.get("d"), None);
}
