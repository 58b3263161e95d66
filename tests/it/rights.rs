//! The real program, started by root: it becomes another user, and each feature that reads or
//! writes files works after that. Other users can't start it so, and skip these tests.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
};

use nix::{
    sys::signal::Signal,
    unistd::{User, geteuid},
};
use tempfile::TempDir;

use crate::support::{
    Setup,
    program::{self, Program},
};

/// A user that most systems have.
const USER: &str = "nobody";

/// A folder of a server for another user.
struct Place {
    dir: TempDir,
    conf: PathBuf,
    user: User,
}

impl Place {
    /// None: this process is not root, or there is no such user.
    fn new() -> Option<Self> {
        let user = User::from_name(USER).unwrap();
        let Some(user) = user.filter(|_| geteuid().is_root()) else {
            eprintln!("skipped: only root becomes the user {USER}");
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let config = dir.path().join("config");
        fs::create_dir(&config).unwrap();
        let conf = Setup::default().write(&config);
        let text = fs::read_to_string(&conf).unwrap();
        // Neither the data folder nor the folder above it exists.
        let text = text
            .replace("user = \"\"", &format!("user = \"{USER}\""))
            .replace("\"data\"", "\"../var/mail/data\"");
        fs::write(&conf, text).unwrap();
        let place = Self { dir, conf, user };
        place.give(&config);
        for entry in fs::read_dir(&config).unwrap() {
            place.give(&entry.unwrap().path());
        }
        Some(place)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Gives a file to the user.
    fn give(&self, path: &Path) {
        let (uid, gid) = (self.user.uid.as_raw(), self.user.gid.as_raw());
        chown(path, Some(uid), Some(gid)).unwrap();
    }

    /// Root runs a command.
    async fn says(&self, arguments: &[&str]) -> String {
        let output = program::run(&self.conf, arguments).await;
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Nothing below these folders belongs to root.
    fn all_are_the_users(&self, folders: &[&str]) {
        let mut paths: Vec<PathBuf> = folders.iter().map(|name| self.path(name)).collect();
        while let Some(path) = paths.pop() {
            let found = fs::symlink_metadata(&path).unwrap();
            assert_eq!(found.uid(), self.user.uid.as_raw(), "{}", path.display());
            if found.is_dir() {
                paths.extend(fs::read_dir(&path).unwrap().map(|it| it.unwrap().path()));
            }
        }
    }
}

/// The value of a line in the status of a process.
fn status(pid: u32, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let mut lines = text.lines().filter_map(|line| line.split_once(":\t"));
    let (_, value) = lines.find(|(found, _)| *found == name).unwrap();
    value.to_owned()
}

#[tokio::test]
async fn root_is_given_up_and_files_of_root_are_usable_after_it() {
    let Some(place) = Place::new() else { return };
    let server = Program::start(&place.conf);
    server.address("test.smtp").await;
    let pid = server.pid();
    let uid = place.user.uid;
    assert_eq!(status(pid, "Uid"), format!("{uid}\t{uid}\t{uid}\t{uid}"));
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(status(pid, set), "0000000000000000", "{set}");
    }
    assert_eq!(status(pid, "NoNewPrivs"), "1");
    place.all_are_the_users(&["config", "var"]);

    // Root changes the configuration through the server.
    let dkim = [
        "config",
        "dkim",
        "add",
        "example.org",
        "a",
        "--algorithm",
        "ed25519",
    ];
    place.says(&dkim).await;
    place
        .says(&["config", "dkim", "rm", "example.org", "a"])
        .await;
    place
        .says(&["config", "domain", "disable", "example.org"])
        .await;
    place
        .says(&["config", "domain", "enable", "example.org"])
        .await;
    program::set_password(&place.conf);
    place.all_are_the_users(&["config", "var"]);

    // An editor of root leaves a file that the user can't read. What ran keeps running.
    let file = place.path("config/domains.conf");
    let text = fs::read_to_string(&file).unwrap();
    fs::remove_file(&file).unwrap();
    fs::write(&file, text.replace("Info", "News")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    server.signal(Signal::SIGHUP);
    server.logs("let the server's user read it", 1).await;
    place.says(&["queue", "status"]).await;
    place.give(&file);
    server.signal(Signal::SIGHUP);
    server.logs("configuration loaded", 2).await;
    let address = place
        .says(&["config", "get", "accounts.app.destinations"])
        .await;
    assert!(address.contains("News"), "{address}");

    // A backup goes to a folder where only root writes and reads.
    let private = place.path("private");
    fs::create_dir(&private).unwrap();
    fs::set_permissions(&private, fs::Permissions::from_mode(0o700)).unwrap();
    let backup = place.path("private/backup");
    let backup = backup.to_str().unwrap();
    place.says(&["backup", backup]).await;
    let ok = place.says(&["verify", backup]).await;
    assert!(ok.contains("OK: 0 queued, 2 accounts"), "{ok}");
    place
        .says(&["restore", backup, place.path("restored").to_str().unwrap()])
        .await;
    place.all_are_the_users(&["restored"]);
}

/// Without a server, commands of root work on the files as the user.
#[tokio::test]
async fn commands_of_root_leave_no_file_of_root() {
    let Some(place) = Place::new() else { return };
    place
        .says(&["config", "domain", "add", "a.test", "app"])
        .await;
    let audited = place.says(&["audit", "list"]).await;
    assert!(
        audited.contains("  socket root  domain.add a.test: done\n"),
        "{audited}"
    );
    program::set_password(&place.conf);
    place.all_are_the_users(&["config", "var"]);
}

/// Another machine has other users, and not the files that lay outside of the folder.
#[tokio::test]
async fn a_backup_is_verified_and_restored_on_another_machine() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("config");
    let outside = dir.path().join("outside");
    fs::create_dir(&config).unwrap();
    fs::create_dir(&outside).unwrap();
    let conf = Setup::default().write(&config);
    let mut text = fs::read_to_string(&conf).unwrap();
    for name in ["localserve.crt", "localserve.key"] {
        let path = outside.join(name);
        fs::rename(config.join(name), &path).unwrap();
        text = text.replace(name, path.to_str().unwrap());
    }
    fs::write(&conf, &text).unwrap();
    let server = Program::start(&conf);
    server.address("test.smtp").await;
    fs::write(
        &conf,
        text.replace("user = \"\"", "user = \"not-on-this-machine\""),
    )
    .unwrap();
    let backup = dir.path().join("backup");
    let backup = backup.to_str().unwrap();
    let run = async |arguments: &[&str]| {
        let output = program::run(&conf, arguments).await;
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    };
    run(&["backup", backup]).await;
    server.kill();
    fs::remove_dir_all(&outside).unwrap();

    let ok = run(&["verify", backup]).await;
    assert!(
        ok.contains("warning: ") && ok.contains("localserve.crt"),
        "{ok}"
    );
    assert!(ok.contains("OK: 0 queued, 2 accounts"), "{ok}");
    let restored = dir.path().join("restored");
    let says = run(&["restore", backup, restored.to_str().unwrap()]).await;
    assert!(says.contains("put them back"), "{says}");
    let user = "there is no user not-on-this-machine here: useradd --system";
    assert_eq!(says.contains(user), geteuid().is_root(), "{says}");
}
