//! `config import-...`, as an administrator runs it.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Output,
};

use nix::unistd::{User, geteuid};

use crate::support::program;

fn samples(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/import");
    root.join(name)
}

/// The exit code, the standard output and the standard error.
fn told(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let code = output.status.code().unwrap();
    (code, text(output.stdout), text(output.stderr))
}

/// All files of a folder with their contents.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            found.insert(path.clone(), fs::read(path).unwrap());
        }
    }
    found
}

fn copy(from: &Path, to: &Path) {
    for (path, content) in contents(from) {
        let path = to.join(path.strip_prefix(from).unwrap());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

#[tokio::test]
async fn mox_is_imported_once_and_the_result_passes_the_test() {
    let dir = tempfile::tempdir().unwrap();
    let from = dir.path().join("mox");
    copy(&samples("mox/small/in"), &from);
    // The user of the server must exist, and root is no such user. It must reach its files.
    let user = match geteuid().is_root() {
        true => "nobody".to_owned(),
        false => User::from_uid(geteuid()).unwrap().unwrap().name,
    };
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let statics = fs::read_to_string(from.join("mox.conf")).unwrap();
    // Without its public listener the server needs no certificate.
    let (before, public) = statics.split_once("\tpublic:\n").unwrap();
    let (_, behind) = public.split_once("\tinternal:\n").unwrap();
    let statics = format!("User: {user}\n{before}\tinternal:\n{behind}");
    fs::write(from.join("mox.conf"), statics).unwrap();
    let before = contents(&from);
    let conf = dir.path().join("new/config/postrider.conf");
    let arguments = ["config", "import-mox", from.to_str().unwrap()];

    let (code, out, err) = told(program::run(&conf, &arguments).await);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    for expected in [
        "taken:\n",
        "changed:\n",
        "no counterpart:\n",
        "mox.conf:5: Hostname: hostname\n",
        "and 2 key files\n",
        "config OK\n",
    ] {
        assert!(out.contains(expected), "{expected}: {out}");
    }
    let folder = conf.parent().unwrap();
    let keys: Vec<PathBuf> = contents(&folder.join("dkim")).into_keys().collect();
    assert_eq!(keys.len(), 2);
    for key in keys {
        let mode = fs::metadata(&key).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", key.display());
    }
    assert_eq!(contents(&from), before, "the files of mox are only read");

    let written = contents(folder);
    let (code, _, err) = told(program::run(&conf, &arguments).await);
    assert_eq!(code, 1);
    assert!(
        err.contains("postrider.conf") && err.contains("already"),
        "{err}"
    );
    assert_eq!(contents(folder), written, "nothing is overwritten");
}

#[tokio::test]
async fn a_password_that_is_missing_is_told_and_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("config");
    // The folder of Postfix is relative to the folder in which the command runs.
    let from = "testdata/import/postfix/relay/in";
    let target = folder.to_str().unwrap();
    let arguments = ["config", "import-postfix", from, "--dir", target];
    let conf = dir.path().join("elsewhere/postrider.conf");
    let (code, out, err) = told(program::run(&conf, &arguments).await);
    assert_eq!(code, 1, "{out}");
    let missing = "relay-smtp-relay-example.submission.auth: needs a password or a token_file";
    assert!(err.contains(missing), "{err}");
    let statics = fs::read_to_string(folder.join("postrider.conf")).unwrap();
    let key = samples("postfix/relay/in/key.pem");
    assert!(statics.contains(key.to_str().unwrap()), "{statics}");
    for text in [out, err, statics] {
        assert!(!text.contains("not-to-be-taken"), "{text}");
    }
}

#[tokio::test]
async fn a_folder_without_the_files_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let conf = dir.path().join("config/postrider.conf");
    for (command, file) in [
        ("import-mox", "mox.conf"),
        ("import-postfix", "main.cf"),
        ("import-stalwart", ""),
    ] {
        let from = dir.path().join("nothing");
        let arguments = ["config", command, from.to_str().unwrap()];
        let (code, out, err) = told(program::run(&conf, &arguments).await);
        assert_eq!((code, out.as_str()), (1, ""));
        assert!(
            err.contains(file) && err.contains("cannot be read"),
            "{err}"
        );
        assert!(!conf.parent().unwrap().exists());
    }
}

#[tokio::test]
async fn hooks_of_stalwart_are_printed_or_added() {
    let dir = tempfile::tempdir().unwrap();
    let conf = dir.path().join("postrider.conf");
    let statics = "data_dir = \"data\"\nhostname = \"h.example\"\nuser = \"\"\n\
        postmaster.account = \"a\"\n[listeners.l]\nips = [\"127.0.0.1\"]\nsmtp = {}\n";
    fs::write(&conf, statics).unwrap();
    let dynamic = "[domains.\"h.example\"]\n[accounts.a]\ndomain = \"h.example\"\n";
    fs::write(dir.path().join("domains.conf"), dynamic).unwrap();
    let from = samples("stalwart/hooks/config.toml");
    let arguments = ["config", "import-stalwart", from.to_str().unwrap()];

    let (code, fragment, err) = told(program::run(&conf, &arguments).await);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(fragment.contains("\n[hooks.spam-scan]\n"), "{fragment}");
    assert!(!fragment.contains("hook-secret"), "{fragment}");
    assert_eq!(fs::read_to_string(&conf).unwrap(), statics);
    // What is printed can be added by hand.
    let both = format!("{statics}\n{fragment}");
    postrider_config::Static::parse(&both, &conf).unwrap();

    let write = [&arguments[..], &["--write"]].concat();
    let (code, out, err) = told(program::run(&conf, &write).await);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(
        out.contains("; they take effect at the next start\n"),
        "{out}"
    );
    assert!(out.ends_with("config OK\n"), "{out}");
    let (_, audited, _) = told(program::run(&conf, &["audit", "list"]).await);
    let entry = "hooks.import postrider.conf: done\n";
    assert!(audited.contains(entry), "{audited}");
    assert!(audited.contains("hooks.spam-scan"), "{audited}");
    assert!(!audited.contains("hook-secret"), "{audited}");
    let secret = dir.path().join("hooks/spam-scan.secret");
    assert_eq!(fs::read_to_string(&secret).unwrap(), "hook-secret-1\n");
    let mode = fs::metadata(&secret).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let written = fs::read_to_string(&conf).unwrap();
    assert!(written.starts_with(statics), "{written}");

    let (code, _, err) = told(program::run(&conf, &write).await);
    assert_eq!(code, 1);
    assert!(
        err.contains("hooks.spam-scan") && err.contains("already"),
        "{err}"
    );
    assert_eq!(fs::read_to_string(&conf).unwrap(), written);
}
