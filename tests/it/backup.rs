//! Backups of a running and of a killed server, checks of them, and servers that are restored.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    crash::{load, subject},
    support::{
        PASSWORD, Setup,
        client::Client,
        message,
        program::{self, Program, set_password},
        remote::Remote,
    },
};

/// The folders of a test.
struct Place {
    dir: TempDir,
    conf: PathBuf,
}

impl Place {
    fn new(remote: &Remote) -> Self {
        let setup = Setup {
            statics: format!(
                "[listeners.crash]\nips = [\"127.0.0.1\"]\ntls.certs = [{{ cert_file = \"localserve.crt\", key_file = \"localserve.key\" }}]\n\
                 submission = {{ enabled = true, port = 0, require_tls = false }}\n\
                 [transports.remote.smtp]\nhost = \"127.0.0.1\"\nport = {}\nno_starttls = true\n\
                 [queue]\nretry_intervals = [\"1s\", \"1s\", \"1s\", \"1s\", \"1s\", \"1s\"]\n\
                 [store]\nsegment_size = \"4MiB\"\n",
                remote.address.port()
            ),
            dynamics: "[[routes]]\ntransport = \"remote\"\n".into(),
            ..Setup::default()
        };
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("server");
        fs::create_dir(&folder).unwrap();
        let conf = setup.write(&folder);
        set_password(&conf);
        Self { dir, conf }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    /// The text that a successful command prints.
    async fn says(&self, arguments: &[&str]) -> String {
        says(&self.conf, arguments).await
    }

    /// The text on standard error of a command that fails.
    async fn refuses(&self, arguments: &[&str]) -> String {
        let output = program::run(&self.conf, arguments).await;
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    }
}

async fn says(conf: &Path, arguments: &[&str]) -> String {
    let output = program::run(conf, arguments).await;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// The files of a backup by their list.
fn listed(backup: &str) -> Vec<PathBuf> {
    let list = fs::read(Path::new(backup).join("backup.json")).unwrap();
    let list: Value = serde_json::from_slice(&list).unwrap();
    let files = list["files"].as_array().unwrap();
    let names = files.iter().map(|file| file["name"].as_str().unwrap());
    names.map(|name| Path::new(backup).join(name)).collect()
}

/// Waits until the remote has all of these messages.
async fn all_arrive(remote: &Remote, mut missing: HashSet<String>) {
    let mut checked = 0;
    remote
        .wait_until("every message of the backup", |received| {
            for message in received.iter().skip(checked) {
                missing.remove(subject(&message.text).unwrap_or_default());
            }
            checked = received.len();
            missing.is_empty()
        })
        .await;
}

async fn submit(program: &Program, subject: &str, bytes: usize) {
    let mut client = Client::connect(program.address("test.submission").await)
        .await
        .login("app@example.org", PASSWORD)
        .await;
    let text = format!(
        "{}\r\n{}",
        message(subject),
        "0123456789\r\n".repeat(bytes / 12)
    );
    let reply = client
        .submit("app@example.org", &["rcpt@remote.test"], &text)
        .await;
    assert!(reply.starts_with("250"), "{reply}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_a_running_server_is_verified_restored_and_served() {
    let remote = Remote::start(|_, _| None).await;
    let place = Place::new(&remote);
    let program = Program::start(&place.conf);
    let address = program.address("crash.submission").await;
    place.says(&["queue", "stop"]).await;
    submit(&program, "large", 400_000).await;
    let mut before = load(address, 0, 0, 5).await;
    before.push("large".into());
    assert_eq!(before.len(), 6);
    let busy = tokio::spawn(load(address, 1, 0, 150));
    let backup = place.path("backup");
    let made = place.says(&["backup", &backup]).await;
    assert!(made.contains("backup in "), "{made}");
    busy.await.unwrap();
    let inside = place
        .refuses(&["backup", &place.path("server/backup")])
        .await;
    assert!(inside.contains("part of the backup"), "{inside}");
    let again = place.refuses(&["backup", &backup]).await;
    assert!(again.contains("not empty"), "{again}");
    let used = place.refuses(&["verify", &place.path("server")]).await;
    assert!(used.contains("in use"), "{used}");
    let kept = place.says(&["queue", "list", "--json"]).await;
    let kept: Value = serde_json::from_str(&kept).unwrap();
    assert_eq!(kept.as_array().unwrap().len(), 156, "the server goes on");
    program.kill();

    let ok = place.says(&["verify", &backup]).await;
    let queued: u64 = ok
        .lines()
        .last()
        .and_then(|ok| ok.strip_prefix("OK: "))
        .and_then(|ok| ok.split_once(" queued, 2 accounts, "))
        .and_then(|(queued, _)| queued.parse().ok())
        .unwrap_or_else(|| panic!("{ok}"));
    assert!((6..=156).contains(&queued), "{ok}");
    let stopped = place.says(&["verify", &place.path("server")]).await;
    assert!(stopped.contains("OK: 156 queued, 2 accounts"), "{stopped}");

    let restored = place.path("restored");
    let says = place.says(&["restore", &backup, &restored]).await;
    assert!(says.contains("are stopped"), "{says}");
    let conf = Path::new(&restored).join("config/postrider.conf");
    assert!(says.contains(conf.to_str().unwrap()), "{says}");
    let ok = place.says(&["verify", &restored]).await;
    assert!(ok.contains(&format!("OK: {queued} queued")), "{ok}");
    assert_eq!(remote.received().len(), 0, "nothing went out so far");
    serve_restored(&conf, before, &remote).await;
}

/// Serves a restored folder: work is stopped, numbers are higher, and the messages go out.
async fn serve_restored(conf: &Path, before: Vec<String>, remote: &Remote) {
    let program = Program::start(conf);
    program.address("crash.submission").await;
    let status = says(conf, &["queue", "status"]).await;
    assert_eq!(status.matches("stopped since").count(), 2, "{status}");
    program.logs("work=deliveries", 1).await;
    submit(&program, "new", 10).await;
    let list = says(conf, &["queue", "list", "--json"]).await;
    let list: Value = serde_json::from_str(&list).unwrap();
    let ids = list.as_array().unwrap().iter();
    let largest = ids.map(|item| item["id"].as_u64().unwrap()).max();
    assert!(largest > Some(1_000_000), "{largest:?}");
    let id = largest.unwrap_or_default().to_string();
    let why = says(conf, &["queue", "explain", &id]).await;
    assert!(why.contains("all deliveries are stopped"), "{why}");
    says(conf, &["queue", "start"]).await;
    let mut all: HashSet<String> = before.into_iter().collect();
    all.insert("new".into());
    all_arrive(remote, all).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_after_kill_9_has_every_acknowledged_message() {
    let remote = Remote::start(|_, _| None).await;
    let place = Place::new(&remote);
    let program = Program::start(&place.conf);
    let address = program.address("crash.submission").await;
    let loads: Vec<_> = (0..3)
        .map(|session| tokio::spawn(load(address, 0, session, 100)))
        .collect();
    remote.wait_for(20).await;
    program.kill();
    let mut acknowledged = HashSet::new();
    for load in loads {
        acknowledged.extend(load.await.unwrap());
    }
    let backup = place.path("backup");
    place.says(&["backup", &backup]).await;
    place.says(&["verify", &backup]).await;
    let restored = place.path("restored");
    place.says(&["restore", &backup, &restored]).await;
    let conf = Path::new(&restored).join("config/postrider.conf");
    let program = Program::start(&conf);
    program.address("crash.submission").await;
    says(&conf, &["queue", "start"]).await;
    all_arrive(&remote, acknowledged).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_changed_byte_of_a_backup_is_found() {
    let remote = Remote::start(|_, _| None).await;
    let place = Place::new(&remote);
    let program = Program::start(&place.conf);
    program.address("test.submission").await;
    place.says(&["queue", "stop"]).await;
    submit(&program, "large", 300_000).await;
    let backup = place.path("backup");
    place.says(&["backup", &backup]).await;
    drop(program);
    let files = listed(&backup);
    assert!(files.iter().any(|file| file.ends_with("index.redb")));
    let texts = Path::new(&backup).join("config/data/texts");
    assert!(files.iter().any(|file| file.starts_with(&texts)));
    for file in files {
        let content = fs::read(&file).unwrap();
        let len = content.len();
        for at in [0, len / 3, len.saturating_sub(1)]
            .into_iter()
            .filter(|at| *at < len)
        {
            let mut changed = content.clone();
            changed[at] ^= 1;
            // The file of a large text is also that of the server.
            fs::remove_file(&file).unwrap();
            fs::write(&file, &changed).unwrap();
            let faults = place.refuses(&["verify", &backup]).await;
            let name = file.file_name().unwrap().to_str().unwrap();
            assert!(faults.contains(name), "{name} {at}: {faults}");
        }
        fs::write(&file, &content).unwrap();
    }
    place.says(&["verify", &backup]).await;
    let target = place.path("restored");
    let list = Path::new(&backup).join("backup.json");
    fs::rename(&list, place.path("elsewhere")).unwrap();
    let incomplete = place.refuses(&["restore", &backup, &target]).await;
    assert!(incomplete.contains("incomplete"), "{incomplete}");
    fs::rename(place.path("elsewhere"), &list).unwrap();
    fs::write(Path::new(&backup).join("config/domains.conf"), "[").unwrap();
    let damaged = place.refuses(&["restore", &backup, &target]).await;
    assert!(damaged.contains("nothing was restored"), "{damaged}");
    assert!(!Path::new(&target).exists());
}
