//! Configuration files with their expected errors. `NAME.errors` is beside `NAME.toml`. A file
//! without it has no errors.
//!
//! `POSTRIDER_BLESS=1 cargo test -p postrider-config` writes the errors of today. Read the diff
//! before you commit it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use postrider_config::{Dynamic, Errors, Static};

use crate::support::private_copies;

fn folder() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    root.join("testdata/config")
}

fn check(kind: &str, parse: impl Fn(&str, &Path) -> Result<(), Errors>) {
    let folder = folder().join(kind);
    // The texts are read as if they lay here, beside keys that only their owner can read.
    let root = tempfile::tempdir().unwrap();
    let place = root.path().join(kind);
    for kind in ["static", "dynamic"] {
        fs::create_dir(root.path().join(kind)).unwrap();
    }
    private_copies(
        &self::folder().join("dynamic/keys"),
        &root.path().join("dynamic/keys"),
    );
    let bless = std::env::var_os("POSTRIDER_BLESS").is_some();
    let mut seen = 0;
    let mut wrong = String::new();
    for entry in fs::read_dir(&folder).unwrap() {
        let entry = entry.unwrap();
        let path = entry.path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        seen += 1;
        let text = fs::read_to_string(&path).unwrap();
        let found = match parse(&text, &place.join(entry.file_name())) {
            Ok(()) => String::new(),
            // The folders of today are not a part of the expected text.
            Err(errors) => format!("{errors}\n")
                .replace(&format!("{}/", place.display()), "")
                .replace(&format!("{}/", root.path().display()), "../")
                .replace(&format!("{}/", self::folder().display()), "../"),
        };
        let expected_path = path.with_extension("errors");
        if bless {
            match found.is_empty() {
                true => drop(fs::remove_file(&expected_path)),
                false => fs::write(&expected_path, &found).unwrap(),
            }
        }
        let expected = fs::read_to_string(&expected_path).unwrap_or_default();
        if found != expected {
            wrong += &format!("{}\nfound:\n{found}expected:\n{expected}\n", path.display());
        }
    }
    assert!(seen > 0, "no cases in {}", folder.display());
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn postrider_conf() {
    check("static", |text, path| Static::parse(text, path).map(drop));
}

#[test]
fn domains_conf() {
    let statics = Static::load(folder().join("base.conf")).unwrap();
    check("dynamic", |text, path| {
        // Every file needs the postmaster's account. It is added at the end, so that line numbers
        // stay.
        let text = if text.contains("no postmaster account") {
            text.to_owned()
        } else {
            format!(
                "{text}\n[domains.\"base.example\"]\n[accounts.base]\ndomain = \"base.example\"\n"
            )
        };
        Dynamic::parse(&text, path, &statics).map(drop)
    });
}
