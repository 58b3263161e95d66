//! The log of the real program: what an administrator looks for at night.

use crate::support::{
    Setup,
    client::Client,
    message,
    program::{self, Program},
};

#[tokio::test]
async fn each_refusal_and_each_mail_is_one_line_with_its_facts() {
    let dir = tempfile::tempdir().unwrap();
    let conf = Setup::default().write(dir.path());
    let server = Program::start(&conf);
    let mut client = Client::connect(server.address("test.smtp").await).await;
    client.expect("EHLO sender.elsewhere.test", "250").await;
    client.expect("MAIL FROM:<a@elsewhere.test>", "250").await;
    client.expect("RCPT TO:<nobody@example.org>", "550").await;
    client.expect("NONSENSE", "500").await;
    client.expect("RSET", "250").await;
    let to = ["app@example.org", "other@example.org"];
    let taken = client
        .submit("a@elsewhere.test", &to, &message("night"))
        .await;
    assert!(taken.starts_with("250"), "{taken}");
    let name = client.name.as_str();
    assert!(name.len() == 14 && name.ends_with(".2"), "{name}");
    server.logs("accepted ", 1).await;
    let log = server.log();
    let lines = |text: &str| -> Vec<&str> {
        let lines = log.lines();
        lines.filter(|line| line.contains(text)).collect()
    };
    let refused = lines("refused ");
    assert_eq!(refused.len(), 2, "{log}");
    let first = name.replace(".2", ".1");
    for part in [
        &*format!("session={first}"),
        "remote=127.0.0.1",
        "sender.elsewhere.test",
        "a@elsewhere.test",
        "nobody@example.org",
        "unknown",
        "code=550",
        "enhanced=5.1.1",
    ] {
        assert!(refused[0].contains(part), "{part}: {}", refused[0]);
    }
    for part in ["syntax", "code=500", "enhanced=5.5.1"] {
        assert!(refused[1].contains(part), "{part}: {}", refused[1]);
    }
    let accepted = lines("accepted ");
    assert_eq!(accepted.len(), 1, "{log}");
    for part in [
        &*format!("session={name}"),
        "smtp",
        "app other",
        "a@elsewhere.test",
        "app@example.org other@example.org",
        "mail=",
        "inbox",
    ] {
        assert!(accepted[0].contains(part), "{part}: {}", accepted[0]);
    }
    server.kill();
}

/// Some clients send a key in the place of a login's name. Neither a key nor a password may stand
/// in the log.
#[tokio::test]
async fn a_refused_login_of_the_webapi_is_one_line_without_secrets() {
    let dir = tempfile::tempdir().unwrap();
    let conf = Setup::default().write(dir.path());
    let server = Program::start(&conf);
    let address = server.address("test.webapi_http").await;
    let url = format!("http://{address}/webapi/v0/SuppressionList");
    let secret = "s".repeat(43);
    let key = format!("prk_7_{secret}");
    let client = reqwest::Client::new();
    let call = || client.post(&url).form(&[("request", "{}")]);
    let basic = |name: &str, password: &str| call().basic_auth(name, Some(password));
    let calls = [
        basic(&key, ""),
        basic(&key, &key),
        basic("app@example.org", &key),
        basic("app@example.org", "hidden"),
        call().bearer_auth(&key),
    ];
    let count = calls.len();
    for call in calls {
        assert_eq!(call.send().await.unwrap().status(), 401);
    }
    server.logs("login refused", count).await;
    let log = server.log();
    for secret in [&*secret, "hidden"] {
        assert!(!log.contains(secret), "{log}");
    }
    let refused = log.lines().filter(|line| line.contains("login refused"));
    let named = refused.filter(|line| line.contains("app@example.org"));
    assert_eq!(named.count(), 2, "{log}");
    server.kill();
}

/// A report that does not come with the null reverse-path, which may have one recipient only.
const REPORT: &str = "From: reports@elsewhere.test\r\n\
    Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n\
    --b\r\n\r\nnight\r\n--b--";

/// A mail is read as a report once, however many mailboxes get it.
#[tokio::test]
async fn a_report_to_many_is_read_once() {
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup {
        statics: "[log.modules]\nreceive = \"debug\"\n".to_owned(),
        ..Setup::default()
    };
    let server = Program::start(&setup.write(dir.path()));
    let mut client = Client::connect(server.address("test.smtp").await).await;
    client.expect("EHLO sender.elsewhere.test", "250").await;
    let to = ["app@example.org", "info@example.org", "other@example.org"];
    let taken = client.submit("reports@elsewhere.test", &to, REPORT).await;
    assert!(taken.starts_with("250"), "{taken}");
    server.logs("accepted ", 1).await;
    let log = server.log();
    assert_eq!(log.matches("mail read as a report").count(), 1, "{log}");
    server.kill();
}

/// What is ordered at run time holds at once, is in the audit log, and goes with `reset`.
#[tokio::test]
async fn levels_change_while_the_server_runs() {
    let dir = tempfile::tempdir().unwrap();
    let conf = Setup::default().write(dir.path());
    let server = Program::start(&conf);
    let address = server.address("test.smtp").await;
    let says = async |arguments: &[&str]| {
        let output = program::run(&conf, arguments).await;
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    };
    let session = async || {
        let mut client = Client::connect(address).await;
        client.expect("EHLO sender.elsewhere.test", "250").await;
        client.expect("QUIT", "221").await;
    };
    let set = says(&["loglevel", "smtp=trace", "--for", "10m"]).await;
    assert_eq!(set, "smtp: trace for 10m\n");
    session().await;
    server.logs(" TRACE ", 1).await;
    says(&["loglevel", "trace", "--remote", "127.0.0.0/8"]).await;
    let shown = says(&["loglevel"]).await;
    for part in [
        "info   all  (configured)\n",
        "trace  postrider_smtp  (until ",
        "trace  about 127.0.0.0/8  (until the next start)\n",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert_eq!(
        says(&["loglevel", "reset"]).await,
        "2 levels are taken back\n"
    );
    // Lines come in the order in which they were made: the last one shows that there are no others.
    server.logs("operation=log.reset_levels", 1).await;
    let count = || server.log().matches(" TRACE ").count();
    let before = count();
    session().await;
    says(&["login", "unlock", "app"]).await;
    server.logs("operation=login.unlock target=app", 1).await;
    assert_eq!(count(), before, "{}", server.log());
    let audit = says(&["audit", "list", "--operation", "log.set_level"]).await;
    assert!(
        audit.contains("127.0.0.0/8") && audit.contains("smtp"),
        "{audit}"
    );
    let found = says(&["logs", "--filter", "LOGIN.UNLOCK"]).await;
    assert_eq!(found.lines().count(), 1, "{found}");
    assert!(found.contains(" INFO changed  who = "), "{found}");
    let found = says(&["logs", "--limit", "1", "--json"]).await;
    let found: Vec<serde_json::Value> = serde_json::from_str(&found).unwrap();
    assert_eq!(found.len(), 1);
    server.kill();
}
