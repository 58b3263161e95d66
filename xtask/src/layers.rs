//! A test that dependencies between our crates point down only: what ARCHITECTURE.md says of the layers, checked.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::workspace::metadata;

/// Each crate, and the crates of ours that it may use.
const LAYERS: &[(&str, &[&str])] = &[
    ("postrider-smtp", &[]),
    ("postrider-config", &["postrider-smtp"]),
    ("postrider-store", &["postrider-smtp"]),
    (
        "postrider-webhook",
        &["postrider-store", "postrider-config", "postrider-smtp"],
    ),
    (
        "postrider-queue",
        &[
            "postrider-store",
            "postrider-webhook",
            "postrider-config",
            "postrider-smtp",
        ],
    ),
    (
        "postrider-receive",
        &[
            "postrider-queue",
            "postrider-store",
            "postrider-webhook",
            "postrider-config",
            "postrider-smtp",
        ],
    ),
    (
        "postrider-webapi",
        &[
            "postrider-receive",
            "postrider-queue",
            "postrider-store",
            "postrider-webhook",
            "postrider-config",
            "postrider-smtp",
        ],
    ),
    (
        "postrider-admin",
        &[
            "postrider-receive",
            "postrider-queue",
            "postrider-store",
            "postrider-webhook",
            "postrider-config",
            "postrider-smtp",
        ],
    ),
    (
        "postrider",
        &[
            "postrider-admin",
            "postrider-webapi",
            "postrider-receive",
            "postrider-queue",
            "postrider-store",
            "postrider-webhook",
            "postrider-config",
            "postrider-smtp",
        ],
    ),
    // The tasks meet the server from outside only.
    ("xtask", &[]),
];

/// Each package of the workspace with those of its dependencies, of any kind, that are our own.
fn arrows() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = metadata().unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let name = |value: &Value| value["name"].as_str().unwrap().to_owned();
    let ours: BTreeSet<String> = packages.iter().map(name).collect();
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().unwrap();
            let used = dependencies
                .iter()
                .map(name)
                .filter(|dependency| ours.contains(dependency))
                // A crate's own tests may name it.
                .filter(|dependency| *dependency != name(package))
                .collect();
            (name(package), used)
        })
        .collect()
}

#[test]
fn dependencies_point_down_only() {
    let allowed: BTreeMap<&str, &[&str]> = LAYERS.iter().copied().collect();
    for (package, used) in arrows() {
        let Some(may_use) = allowed.get(package.as_str()) else {
            panic!("{package} has no layer yet: give it one in this test and in ARCHITECTURE.md");
        };
        for dependency in used {
            assert!(
                may_use.contains(&dependency.as_str()),
                "{package} may not use {dependency}"
            );
        }
    }
}

#[test]
fn the_layers_themselves_have_no_circle() {
    // Taking away, again and again, what uses nothing that is left must end with nothing.
    let mut left: BTreeMap<&str, BTreeSet<&str>> = LAYERS
        .iter()
        .map(|(package, uses)| (*package, uses.iter().copied().collect()))
        .collect();
    while !left.is_empty() {
        let names: BTreeSet<&str> = left.keys().copied().collect();
        let before = left.len();
        left.retain(|_, uses| !uses.is_disjoint(&names));
        assert!(left.len() < before, "a circle among {names:?}");
    }
}
