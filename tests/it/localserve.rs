//! `postrider localserve` as a user runs it: the real program.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Read},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use crate::support::{base64, client::Client, patience::patiently, receiver::Receiver};

/// The program. It stops when this value is dropped.
pub struct Program {
    child: Child,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts localserve. Returns the text that it printed, or None if a port was not free.
fn start(dir: &Path, offset: u16) -> Option<(Program, String)> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_postrider"))
        .args(["localserve", "--port-offset", &offset.to_string()])
        .args(["--host", "mail_server", "--dir"])
        .arg(dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut printed = String::new();
    while !printed.contains("queue list") {
        if output.read_line(&mut printed).unwrap() == 0 {
            let mut errors = String::new();
            child
                .stderr
                .take()
                .unwrap()
                .read_to_string(&mut errors)
                .unwrap();
            let _ = child.wait();
            assert!(errors.contains("failed to listen"), "{errors}");
            return None;
        }
    }
    // The log must not fill the pipe.
    let mut errors = child.stderr.take().unwrap();
    std::thread::spawn(move || std::io::copy(&mut errors, &mut std::io::sink()));
    Some((Program { child }, printed))
}

/// Localserve has fixed ports plus an offset. Tries offsets until all five ports are free.
pub fn start_somewhere(dir: &Path) -> (Program, String, u16) {
    let base = u16::try_from(std::process::id() % 20_000).unwrap() + 10_000;
    (0..50)
        .map(|n| base + n * 7)
        .find_map(|offset| start(dir, offset).map(|(program, printed)| (program, printed, offset)))
        .expect("some ports are free")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_printed_curl_line_sends_and_causes_events() {
    let dir = tempfile::tempdir().unwrap();
    let (_program, printed, offset) = start_somewhere(dir.path());
    let receiver = Receiver::start(|_| 200).await;
    let domains = dir.path().join("config/domains.conf");
    let text = std::fs::read_to_string(&domains).unwrap();
    let url = receiver.url();
    std::fs::write(
        &domains,
        format!(
            "{text}\n[accounts.postrider.outgoing_webhook]\nurl = {url:?}\n\
             [accounts.postrider.incoming_webhook]\nurl = {url:?}\n"
        ),
    )
    .unwrap();
    let curl = printed
        .lines()
        .find(|line| line.starts_with("curl "))
        .unwrap()
        .to_owned();
    // The server notices the change of the file some time later. A message that is sent before
    // causes no event, or only one of the two.
    let (outgoing, incoming) = loop {
        let output = Command::new("sh")
            .args(["-c", &format!("{curl} -s")])
            .output()
            .unwrap();
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(answer["Submissions"][0]["QueueMsgID"].is_u64(), "{answer}");
        let wait =
            tokio::time::timeout(std::time::Duration::from_secs(1), receiver.wait_for(2)).await;
        let calls = wait.unwrap_or_default();
        let (outgoing, incoming): (Vec<_>, Vec<_>) = calls
            .into_iter()
            .map(|call| call.payload)
            .partition(|payload| payload["Event"].is_string());
        if let (Some(outgoing), Some(incoming)) = (outgoing.first(), incoming.first()) {
            break (outgoing.clone(), incoming.clone());
        }
    };
    assert_eq!(outgoing["Event"], "delivered");
    assert_eq!(incoming["Subject"], "Hello");
    assert_eq!(incoming["Meta"]["RcptTo"], "user@example.com");

    let url = format!("http://127.0.0.1:{}/webapi/v0/Send", 1080 + offset);
    let send = |to: &str| {
        let request = format!(r#"{{"To":[{{"Address":"{to}"}}],"Text":"x"}}"#);
        let url = url.clone();
        async move {
            let client = reqwest::Client::new();
            let call = client
                .post(url)
                .basic_auth("postrider@localhost", Some("postrider"));
            call.form(&[("request", request)])
                .send()
                .await
                .unwrap()
                .json::<Value>()
                .await
                .unwrap()
        }
    };
    let failing = send("x+550@example.com").await;
    let id = &failing["Submissions"][0]["QueueMsgID"];
    let mut known = 0;
    let failed = loop {
        let calls = receiver.wait_for(known + 1).await;
        known = calls.len();
        if let Some(call) = calls
            .into_iter()
            .find(|call| call.payload["QueueMsgID"] == *id)
        {
            break call;
        }
    };
    assert_eq!(
        (&failed.payload["Event"], &failed.payload["SMTPCode"]),
        (&"failed".into(), &550.into())
    );

    // After a temporary failure the message is still queued, and the command lists it. The address
    // x is on the suppression list now, with all its variants, so this is another address.
    let waiting = send("y+451@example.com").await["Submissions"][0]["QueueMsgID"].clone();
    let conf = dir.path().join("config/postrider.conf");
    let listed = Command::new(env!("CARGO_BIN_EXE_postrider"))
        .arg("--config")
        .arg(&conf)
        .args(["queue", "list", "--to", "y+451@", "--json"])
        .output()
        .unwrap();
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed[0]["id"], waiting);
    assert_eq!(listed[0]["to"], "y+451@example.com");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_at_the_smtp_port_makes_it_a_submission_from_any_address() {
    let dir = tempfile::tempdir().unwrap();
    let (_program, _, offset) = start_somewhere(dir.path());
    let address = |port: u16| std::net::SocketAddr::from(([127, 0, 0, 1], port + offset));
    let mut client = Client::connect(address(1025)).await;
    let hello = client.expect("EHLO client.test", "250").await;
    assert!(!hello.contains("STARTTLS"), "{hello}");
    let text = "From: Shop <shop@company.example>\r\nSubject: any sender\r\n\r\nHello.";
    // Without a login it is mail from a stranger, for any recipient.
    let taken = client
        .submit("shop@company.example", &["jane@example.com"], text)
        .await;
    assert!(taken.starts_with("250 2.0.0"), "{taken}");
    assert!(!taken.contains("queued"), "{taken}");
    let secret = base64(b"\0postrider@localhost\0wrong");
    client.expect(&format!("AUTH PLAIN {secret}"), "535").await;
    let secret = base64(b"\0postrider@localhost\0postrider");
    client.expect(&format!("AUTH PLAIN {secret}"), "235").await;
    let queued = client
        .submit("shop@company.example", &["jane@example.com"], text)
        .await;
    assert!(queued.starts_with("250 2.0.0 queued"), "{queued}");
    // The port for submission keeps STARTTLS.
    let mut submission = Client::connect(address(1587)).await;
    let hello = submission.expect("EHLO client.test", "250").await;
    assert!(hello.contains("STARTTLS"), "{hello}");

    let request = r#"{"From": [{"Address": "shop@company.example"}], "Text": "Hello.",
                      "To": [{"Address": "jane@example.com"}]}"#;
    for (host, status) in [
        ("mail_server", 200),
        ("localhost", 200),
        ("other_server", 404),
        ("evil.example", 404),
    ] {
        let url = format!("http://127.0.0.1:{}/webapi/v0/Send", 1080 + offset);
        let answer = reqwest::Client::new()
            .post(url)
            .header("Host", host)
            .basic_auth("postrider@localhost", Some("postrider"))
            .form(&[("request", request)])
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), status, "{host}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_printed_lines_reach_the_management_api_and_the_metrics() {
    let dir = tempfile::tempdir().unwrap();
    let (_program, printed, offset) = start_somewhere(dir.path());
    let answer = |path: &str| {
        let lines = printed.lines();
        let mut lines = lines.filter(|line| line.starts_with("curl ") && line.contains(path));
        let curl = format!("{} -s", lines.next().unwrap());
        let output = Command::new("sh").args(["-c", &curl]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let messages: Value = serde_json::from_str(&answer("/api/")).unwrap();
    assert_eq!(messages["data"]["total"], 0, "{messages}");
    assert!(answer("/metrics").contains("\npostrider_build_info{"));

    // A page of another site may lead a name of its own here, and knows the password.
    let call = |host: &'static str, path: &str| {
        let url = format!("http://127.0.0.1:{}{path}", 1080 + offset);
        let call = reqwest::Client::new().get(url).header("Host", host);
        let call = call.basic_auth("admin", Some("postrider-admin")).send();
        async { call.await.unwrap().status().as_u16() }
    };
    for path in ["/api/queue/messages", "/metrics"] {
        for (host, status) in [
            ("localhost", 200),
            ("mail_server", 200),
            ("[::1]:1080", 200),
            ("evil.example", 404),
        ] {
            assert_eq!(call(host, path).await, status, "{path} {host}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_inbox_shows_what_came_in_and_what_was_sent() {
    let dir = tempfile::tempdir().unwrap();
    let (_program, _, offset) = start_somewhere(dir.path());
    let smtp = std::net::SocketAddr::from(([127, 0, 0, 1], 1025 + offset));
    let mut client = Client::connect(smtp).await;
    client.expect("EHLO client.test", "250").await;
    let text = |subject: &str| format!("From: a@company.example\r\nSubject: {subject}\r\n\r\nHi.");
    let to = ["jane@example.com"];
    client
        .submit("a@company.example", &to, &text("of a stranger"))
        .await;
    let secret = base64(b"\0postrider@localhost\0postrider");
    client.expect(&format!("AUTH PLAIN {secret}"), "235").await;
    client
        .submit("a@company.example", &to, &text("with a login"))
        .await;

    let http = reqwest::Client::new();
    let url = |path: &str| format!("http://127.0.0.1:{}{path}", 1080 + offset);
    let form = [
        ("stage", "rcptto"),
        ("kind", "permerror"),
        ("subject", "it fails"),
    ];
    let sent = http
        .post(url("/inbox/send"))
        .form(&form)
        .send()
        .await
        .unwrap();
    // It leads to what becomes of the message.
    assert!(sent.url().path().ends_with("/happened"), "{}", sent.url());
    assert_eq!(sent.status(), 200);
    let states = [
        ("subject:stranger is:received", "m"),
        ("subject:\"with a login\" is:delivered login:postrider", "m"),
        ("\"it fails\" is:failed", "q"),
        // The report about it comes into the mailbox.
        ("is:report", "m"),
    ];
    for (query, kind) in states {
        let encoded = query.replace(' ', "+").replace('"', "%22");
        let latest = url(&format!("/inbox/latest?q={encoded}"));
        let found = patiently(query, async {
            loop {
                let call = http.get(&latest).send();
                let answer = call.await.unwrap();
                if answer.status() == 200 {
                    break answer.url().path().to_owned();
                }
            }
        });
        let found = found.await;
        assert!(
            found.starts_with(&format!("/inbox/{kind}")),
            "{query}: {found}"
        );
        let page = http
            .get(url(&format!("{found}/happened")))
            .send()
            .await
            .unwrap();
        assert_eq!(page.status(), 200, "{query}");
    }
    let front = http.get(url("/")).send().await.unwrap();
    assert_eq!(front.url().path(), "/inbox/");
    let foreign = http
        .post(url("/inbox/clear"))
        .header("Origin", "http://evil.example");
    assert_eq!(foreign.send().await.unwrap().status(), 403);
}

/// The bytes that a folder takes on the disk.
fn on_disk(path: &Path) -> u64 {
    let found = std::fs::symlink_metadata(path).unwrap();
    let below = match found.is_dir() {
        true => std::fs::read_dir(path)
            .unwrap()
            .map(|entry| on_disk(&entry.unwrap().path()))
            .sum(),
        false => 0,
    };
    found.blocks() * 512 + below
}

#[tokio::test]
async fn a_fresh_folder_is_small_and_private() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fresh");
    // A folder that is there and that others may enter is made private.
    std::fs::create_dir_all(path.join("data")).unwrap();
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(path.join("data"), open).unwrap();
    let (program, _, _) = start_somewhere(&path);
    let segments = || {
        let names = std::fs::read_dir(path.join("data/journal")).unwrap();
        let kinds = names.filter_map(|name| name.unwrap().path().extension().map(OsStr::to_owned));
        kinds
            .filter(|kind| kind == "seg" || kind == "spare")
            .count()
    };
    // The segment in use, the next one, and the one for a full disk.
    let made = async {
        while segments() < 3 {
            tokio::task::yield_now().await
        }
    };
    patiently("the segments", made).await;
    drop(program);
    let size = on_disk(&path);
    assert!(size <= 16 << 20, "{size}");
    for folder in ["data", "config", "config/dkim"] {
        let mode = std::fs::metadata(path.join(folder)).unwrap().mode();
        assert_eq!(mode & 0o777, 0o700, "{folder}");
    }
}
