//! The way of a new administrator, with the real program: from an empty folder to a server that
//! was backed up, restored and upgraded.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Stdio,
};

use nix::sys::signal::Signal;
use toml_edit::{DocumentMut, value};

use crate::support::{client::Client, dns::Zone, program, program::Program};

/// The text that a successful command prints.
async fn says(conf: &Path, arguments: &[&str]) -> String {
    let output = program::run(conf, arguments).await;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Ports from the system, and this machine's addresses only. There is no CA for certificates.
fn for_a_test(conf: &Path, dns: Option<std::net::SocketAddr>) {
    let text = fs::read_to_string(conf).unwrap();
    let mut document: DocumentMut = text.parse().unwrap();
    document["user"] = value("");
    document.remove("acme");
    if let Some(dns) = dns {
        document["resolver"]["servers"] = value(toml_edit::Array::from_iter([dns.to_string()]));
    }
    let listeners: DocumentMut = "[public]\nips = [\"127.0.0.1\"]\n\
        smtp = { enabled = true, port = 0 }\n\
        [internal]\nips = [\"127.0.0.1\"]\nhostname = \"localhost\"\n\
        webapi_http = { enabled = true, port = 0 }\n"
        .parse()
        .unwrap();
    document["listeners"] = listeners.as_item().clone();
    fs::write(conf, document.to_string()).unwrap();
}

/// A zone with all TXT records that a domain should have.
async fn zone_of(conf: &Path, domain: &str) -> std::net::SocketAddr {
    let records = says(conf, &["dns", "records", domain, "--json"]).await;
    let records: serde_json::Value = serde_json::from_str(&records).unwrap();
    let mut zone = Zone::default();
    for record in records.as_array().unwrap() {
        if record["type"] == "TXT" {
            let name = record["name"].as_str().unwrap().trim_end_matches('.');
            zone = zone.txt(name, record["content"].as_str().unwrap());
        }
    }
    zone.serve().await
}

async fn mail_arrives(server: &Program, to: &str, subject: &str) {
    let mut client = Client::connect(server.address("public.smtp").await).await;
    client.expect("EHLO mx.remote.test", "250").await;
    let text = format!("From: <x@remote.test>\r\nSubject: {subject}\r\n\r\nx");
    let reply = client.submit("x@remote.test", &[to], &text).await;
    assert!(reply.starts_with("250 2.0.0"), "{reply}");
    client.expect("QUIT", "221").await;
}

fn sign(conf: &Path) -> Vec<String> {
    let text = fs::read_to_string(conf.with_file_name("domains.conf")).unwrap();
    let document: DocumentMut = text.parse().unwrap();
    let sign = document["domains"]["example.org"]["dkim"]["sign"]
        .as_array()
        .unwrap();
    sign.iter()
        .map(|name| name.as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_an_empty_folder_to_a_restored_server() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("server");
    let conf = home.join("config/postrider.conf");
    let folder = home.to_str().unwrap();
    let printed = says(
        &conf,
        &[
            "quickstart",
            "jane@example.org",
            "--dir",
            folder,
            "--hostname",
            "mail.example.org",
            "--skip-dns",
        ],
    )
    .await;
    assert!(printed.contains("Passwords, shown once:"), "{printed}");
    for_a_test(&conf, None);
    let dns = zone_of(&conf, "example.org").await;
    for_a_test(&conf, Some(dns));
    assert!(
        says(&conf, &["config", "test"])
            .await
            .ends_with("config OK\n")
    );

    let server = Program::start(&conf);
    mail_arrives(&server, "jane@example.org", "first").await;
    says(&conf, &["config", "domain", "add", "second.test", "jane"]).await;
    says(
        &conf,
        &["config", "account", "add", "joe", "joe@second.test"],
    )
    .await;
    set_password(&conf, "joe");
    mail_arrives(&server, "joe@second.test", "to joe").await;

    // The pair that waits has its records, so it signs at once.
    let before = sign(&conf);
    let rotated = says(&conf, &["config", "dkim", "rotate", "example.org"]).await;
    let after = sign(&conf);
    assert_eq!((before.len(), after.len()), (2, 2), "{rotated}");
    assert!(before.iter().all(|name| !after.contains(name)), "{rotated}");

    // An editor saves something wrong, then something right.
    let domains = conf.with_file_name("domains.conf");
    let good = fs::read_to_string(&domains).unwrap();
    fs::write(&domains, format!("{good}typo = 1\n")).unwrap();
    server.logs("configuration refused", 1).await;
    mail_arrives(&server, "joe@second.test", "still there").await;
    fs::write(&domains, format!("{good}\n# A comment.\n")).unwrap();
    server.logs("configuration loaded", 2).await;
    let audit = says(&conf, &["audit", "list"]).await;
    assert!(
        audit.contains("second.test") && audit.contains("example.org"),
        "{audit}"
    );

    let (backup, restored) = (dir.path().join("backup"), dir.path().join("restored"));
    says(&conf, &["backup", backup.to_str().unwrap()]).await;
    mail_arrives(&server, "joe@second.test", "after the backup").await;
    server.signal(Signal::SIGTERM);
    server.logs("stopped", 1).await;
    let verified = says(&conf, &["verify", backup.to_str().unwrap()]).await;
    assert!(verified.contains("OK: 0 queued, 2 accounts"), "{verified}");
    let paths = [backup.to_str().unwrap(), restored.to_str().unwrap()];
    says(&conf, &["restore", paths[0], paths[1]]).await;

    let conf = restored.join("config/postrider.conf");
    let server = Program::start(&conf);
    mail_arrives(&server, "joe@second.test", "to the restored server").await;
    assert_eq!(sign(&conf), after);
    let accounts = says(&conf, &["config", "account", "list"]).await;
    assert!(accounts.contains("joe"), "{accounts}");
    says(&conf, &["queue", "start"]).await;
    server.signal(Signal::SIGTERM);
    server.logs("stopped", 1).await;
}

#[tokio::test]
async fn a_data_folder_of_an_earlier_format_is_upgraded() {
    let dir = tempfile::tempdir().unwrap();
    let conf = crate::support::Setup::default().write(dir.path());
    unpack("testdata/store/format-4", &dir.path().join("data"));
    let server = Program::start(&conf);
    server.address("test.smtp").await;
    says(&conf, &["queue", "list", "--json"]).await;
    server.signal(Signal::SIGTERM);
    server.logs("stopped", 1).await;
}

/// Unpacks a data folder that the tests of the store keep: by name the length of a file, and its
/// blocks with the number of their repetitions, without the zeros at their end.
fn unpack(sample: &str, to: &Path) {
    const BLOCK: usize = 4096;
    type Packed = BTreeMap<PathBuf, (u64, Vec<(u64, Vec<u8>)>)>;
    let bytes = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(sample)).unwrap();
    let packed: Packed = postcard::from_bytes(&bytes).unwrap();
    for (name, (length, blocks)) in packed {
        let path = to.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut content = Vec::new();
        for (count, block) in &blocks {
            for _ in 0..*count {
                let end = content.len() + BLOCK;
                content.extend_from_slice(block);
                content.resize(end, 0);
            }
        }
        content.resize(usize::try_from(length).unwrap(), 0);
        fs::write(path, content).unwrap();
    }
}

fn set_password(conf: &Path, account: &str) {
    let mut command = program::postrider(conf);
    command.args(["setpassword", account]).stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    writeln!(input, "{}", crate::support::PASSWORD).unwrap();
    drop(input);
    assert!(child.wait().unwrap().success());
}
