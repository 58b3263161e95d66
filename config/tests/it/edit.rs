//! Rewriting `domains.conf`.

use std::{
    convert::Infallible,
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    sync::Barrier,
};

use postrider_config::{EditError, edit};
use toml_edit::{DocumentMut, value};

use crate::support::{self, statics};

const TEXT: &str = "\
# Registered in 1999.
[domains.\"example.org\"]

[accounts.alice] # she is the postmaster
domain = \"example.org\"
";

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn describe(text: &str) -> impl FnOnce(&mut DocumentMut) -> Result<(), Infallible> {
    let text = text.to_owned();
    move |document| {
        document["accounts"]["alice"]["description"] = value(text);
        Ok(())
    }
}

#[test]
fn comments_mode_and_link_stay() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("real.conf");
    let link = dir.path().join("domains.conf");
    fs::write(&file, TEXT).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    symlink("real.conf", &link).unwrap();
    let ((), config) = edit(&link, &statics(""), describe("hello")).unwrap();
    assert_eq!(config.accounts["alice"].description, "hello");
    let expected = format!("{TEXT}description = \"hello\"\n");
    assert_eq!(fs::read_to_string(&file).unwrap(), expected);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(mode(&file), 0o640);
}

#[test]
fn a_change_that_is_not_valid_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("domains.conf");
    fs::write(&path, TEXT).unwrap();
    let result = edit(&path, &statics(""), |document| {
        document.remove("accounts");
        Ok::<_, Infallible>(())
    });
    let Err(EditError::Invalid(errors)) = result else {
        panic!("{result:?}");
    };
    assert!(
        errors
            .to_string()
            .contains("postmaster.account: names account \"alice\""),
        "{errors}"
    );
    let result = edit(&path, &statics(""), |document| {
        document.clear();
        Err::<(), _>("no such account")
    });
    assert!(matches!(result, Err(EditError::Change("no such account"))));
    assert_eq!(fs::read_to_string(&path).unwrap(), TEXT);
    fs::write(&path, "[").unwrap();
    let result = edit(&path, &statics(""), describe("x"));
    assert!(matches!(result, Err(EditError::Invalid(_))), "{result:?}");
    let result = edit(&dir.path().join("none"), &statics(""), describe("x"));
    assert!(matches!(result, Err(EditError::Io { .. })), "{result:?}");
    let left: Vec<_> = fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(
        left.iter()
            .all(|name| !name.to_string_lossy().ends_with(".new")),
        "{left:?}"
    );
}

#[test]
fn a_link_in_place_of_the_lock_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("domains.conf");
    fs::write(&file, TEXT).unwrap();
    let others = dir.path().join("others");
    symlink(&others, dir.path().join(".domains.conf.lock")).unwrap();
    let result = edit(&file, &statics(""), describe("new"));
    assert!(matches!(result, Err(EditError::Io { .. })), "{result:?}");
    assert!(!others.exists());
    assert_eq!(fs::read_to_string(&file).unwrap(), TEXT);
}

#[test]
fn writers_wait_for_each_other() {
    const WRITERS: usize = 8;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("domains.conf");
    fs::write(&path, support::DYNAMIC).unwrap();
    let statics = statics("");
    let start = Barrier::new(WRITERS);
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (path, statics, start) = (&path, &statics, &start);
            scope.spawn(move || {
                start.wait();
                edit(path, statics, |document| {
                    let address = format!("user{writer}@example.org");
                    document["accounts"]["alice"]["destinations"][&address] = toml_edit::table();
                    Ok::<_, Infallible>(())
                })
                .unwrap();
            });
        }
    });
    let config = postrider_config::Dynamic::load(&path, &statics).unwrap();
    assert_eq!(config.accounts["alice"].destinations.len(), WRITERS + 1);
}
