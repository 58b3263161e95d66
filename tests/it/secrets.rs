//! Secrets are in no line of the log, also at the level trace.
//!
//! The test brings a secret to each place that takes one: logins over SMTP and HTTP, right and
//! wrong, those of the server at a smarthost, webhooks, keys, cookies, queries of URLs, and the
//! text of mail. Then it looks for all of them, as they are and as they were encoded.

use std::path::Path;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{
    PASSWORD, Setup, base64,
    client::Client,
    program::{self, Program},
    receiver::Receiver,
};

/// Secrets of this test. Each is found in no other text.
const ADMIN_PASSWORD: &str = "Zadmin-4d1f-password";
const WRONG: &str = "Zwrong-5b0c-password";
const HOOK_AUTHORIZATION: &str = "Zhook-9e2a-authorization";
const HOOK_SECRET: &str = "Wmhvb2stc2lnbmluZy1rZXktOGM3ZC1zZWNyZXQh";
const QUERY: &str = "Zquery-1c6b-secret";
const COOKIE: &str = "Zcookie-7f3e-secret";
const BODY: &str = "Zbody-2a9d-secret";
const SUBJECT: &str = "Zsubject-6e4f-secret";

fn plain(user: &str, password: &str) -> String {
    base64(format!("\0{user}\0{password}").as_bytes())
}

/// Two servers at the level trace: the second one is the smarthost of the first.
struct Servers {
    conf: std::path::PathBuf,
    server: Program,
    smarthost: Program,
}

async fn servers(dir: &Path, receiver: &Receiver) -> Servers {
    let there = dir.join("smarthost");
    std::fs::create_dir(&there).unwrap();
    let trace = "[log]\nlevel = \"trace\"\n";
    let setup = Setup {
        statics: trace.to_owned(),
        ..Setup::default()
    };
    let conf = setup.write(&there);
    program::set_password(&conf);
    let smarthost = Program::start(&conf);
    let port = smarthost.address("test.submission").await.port();
    let here = dir.join("server");
    std::fs::create_dir(&here).unwrap();
    let url = format!("{}?key={QUERY}", receiver.url());
    let hook = format!(
        "url = {url:?}, authorization = \"Bearer {HOOK_AUTHORIZATION}\", secret = \"whsec_{HOOK_SECRET}\""
    );
    let mechanisms = ["PLAIN", "LOGIN", "SCRAM-SHA-256"];
    let transports = mechanisms.map(|mechanism| {
        format!(
            "[transports.{mechanism}.submission]\nhost = \"127.0.0.1\"\nport = {port}\n\
             insecure_skip_verify = true\nauth = {{ username = \"app@example.org\", \
             password = \"{PASSWORD}\", mechanisms = [\"{mechanism}\"] }}\n"
        )
    });
    let routes = mechanisms.map(|mechanism| {
        format!(
            "[[routes]]\nto_domain = [\"{}.test\"]\ntransport = \"{mechanism}\"\n",
            mechanism.to_lowercase()
        )
    });
    let setup = Setup {
        statics: format!(
            "admin_http = {{ enabled = true, port = 0 }}\n{trace}{}",
            transports.concat()
        ),
        app: format!("outgoing_webhook = {{ {hook} }}\nincoming_webhook = {{ {hook} }}\n"),
        dynamics: routes.concat(),
        ..Setup::default()
    };
    let conf = setup.write_with_admin(&here);
    program::set_password(&conf);
    program::feed(&conf, &["setadminpassword"], ADMIN_PASSWORD);
    let server = Program::start(&conf);
    Servers {
        conf,
        server,
        smarthost,
    }
}

/// Logs in over SMTP in all ways that bring a password.
async fn logins_over_smtp(server: &Program) {
    let submission = server.address("test.submission").await;
    let mut client = Client::connect(submission).await;
    client.expect("EHLO client.test", "250").await;
    // Before TLS, a client may send it all the same.
    client
        .command(&format!(
            "AUTH PLAIN {}",
            plain("app@example.org", PASSWORD)
        ))
        .await;
    client.command("AUTH LOGIN").await;
    client.command(&base64(b"app@example.org")).await;
    client.command(&base64(PASSWORD.as_bytes())).await;
    let mut client = Client::connect(submission).await;
    client.expect("EHLO client.test", "250").await;
    let mut client = client.starttls().await;
    client.expect("EHLO client.test", "250").await;
    client
        .expect(
            &format!("AUTH PLAIN {}", plain("app@example.org", WRONG)),
            "535",
        )
        .await;
    client.expect("AUTH LOGIN", "334").await;
    client.expect(&base64(b"app@example.org"), "334").await;
    client.expect(&base64(WRONG.as_bytes()), "535").await;
    client.expect("AUTH PLAIN", "334").await;
    client
        .expect(&plain("app@example.org", PASSWORD), "235")
        .await;
    let mut client = Client::connect(server.address("test.smtp").await).await;
    client.expect("EHLO client.test", "250").await;
    client
        .command(&format!(
            "AUTH PLAIN {}",
            plain("app@example.org", PASSWORD)
        ))
        .await;
    client.command("QUIT").await;
}

/// Sends mail with all of its secrets.
async fn mail(server: &Program) {
    let mut client = Client::connect(server.address("test.submission").await)
        .await
        .login("app@example.org", PASSWORD)
        .await;
    let text = format!("From: app@example.org\r\nSubject: {SUBJECT}\r\n\r\n{BODY}");
    let taken = client
        .submit("app@example.org", &["app@example.org"], &text)
        .await;
    assert!(taken.starts_with("250"), "{taken}");
}

/// Calls the webapi and the management API in all ways that bring a secret. Gives the secrets that
/// the server made.
async fn calls(servers: &Servers) -> Vec<String> {
    let (conf, server) = (&servers.conf, &servers.server);
    let made = program::run(conf, &["apikey", "add", "manager", "--scope", "manage"]).await;
    let made = String::from_utf8(made.stdout).unwrap();
    let key = made
        .split_whitespace()
        .find(|word| word.starts_with("prk_"));
    let key = key.unwrap_or_else(|| panic!("{made}")).to_owned();
    let secret = key.rsplit('_').next().unwrap().to_owned();
    let client = reqwest::Client::new();
    let webapi = format!(
        "http://{}/webapi/v0",
        server.address("test.webapi_http").await
    );
    for mechanism in ["plain", "login", "scram-sha-256"] {
        let request = format!(
            "{{\"To\": [{{\"Address\": \"x@{mechanism}.test\"}}], \"Subject\": \"{SUBJECT}\", \"Text\": \"{BODY}\"}}"
        );
        let call = client
            .post(format!("{webapi}/Send"))
            .form(&[("request", request)]);
        let call = call.basic_auth("app@example.org", Some(PASSWORD));
        let answer = call
            .header("cookie", format!("session={COOKIE}"))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
    }
    let call = || {
        client
            .post(format!("{webapi}/SuppressionList?token={QUERY}"))
            .form(&[("request", "{}")])
    };
    for call in [
        call().basic_auth("app@example.org", Some(WRONG)),
        call().basic_auth(WRONG, Some(WRONG)),
        call().bearer_auth(WRONG),
        call().bearer_auth(format!("{key}x")),
    ] {
        assert_eq!(call.send().await.unwrap().status(), 401);
    }
    let api = format!("http://{}/api", server.address("test.admin_http").await);
    let get = |path: &str| client.get(format!("{api}/{path}"));
    for call in [
        get("logs").basic_auth("admin", Some(WRONG)),
        get("logs").bearer_auth(WRONG),
        get(&format!("logs?token={QUERY}")),
    ] {
        assert_eq!(call.send().await.unwrap().status(), 401);
    }
    let named = format!("api_{}", base64(format!("manager:{key}").as_bytes()));
    for call in [
        get("logs").basic_auth("admin", Some(ADMIN_PASSWORD)),
        get("logs").bearer_auth(&named),
        get("logs")
            .bearer_auth(&key)
            .header("cookie", format!("a={COOKIE}")),
        get(&format!("logs?filter={QUERY}")).bearer_auth(&key),
    ] {
        assert_eq!(call.send().await.unwrap().status(), 200);
    }
    let password =
        format!("[{{\"action\": \"set\", \"field\": \"secrets\", \"value\": [{WRONG:?}]}}]");
    let patch = client
        .patch(format!("{api}/principal/other"))
        .bearer_auth(&key)
        .body(password);
    assert_eq!(patch.send().await.unwrap().status(), 200);
    let token = get("troubleshoot/token")
        .bearer_auth(&key)
        .send()
        .await
        .unwrap();
    let token: Value = serde_json::from_str(&token.text().await.unwrap()).unwrap();
    let token = token["data"].as_str().unwrap().to_owned();
    let stages = get(&format!("troubleshoot/delivery/nowhere.test?token={token}"));
    stages.send().await.unwrap().text().await.unwrap();
    vec![secret, named, token]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_line_at_any_level_has_a_secret() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(|call| if call == 0 { 500 } else { 200 }).await;
    let servers = servers(dir.path(), &receiver).await;
    logins_over_smtp(&servers.server).await;
    mail(&servers.server).await;
    let mut secrets = calls(&servers).await;
    // An incoming message, and three that went to the smarthost.
    receiver.wait_for(4).await;
    secrets.extend(
        [
            ADMIN_PASSWORD,
            PASSWORD,
            WRONG,
            HOOK_AUTHORIZATION,
            HOOK_SECRET,
        ]
        .map(str::to_owned),
    );
    secrets.extend([QUERY, COOKIE, BODY, SUBJECT].map(str::to_owned));
    for password in [PASSWORD, WRONG, ADMIN_PASSWORD] {
        secrets.push(base64(password.as_bytes()));
        secrets.push(plain("app@example.org", password));
        secrets.push(base64(format!("admin:{password}").as_bytes()));
        secrets.push(base64(format!("app@example.org:{password}").as_bytes()));
    }
    for server in [servers.server, servers.smarthost] {
        server.signal(Signal::SIGTERM);
        server.logs("INFO stopped", 1).await;
        let log = server.log();
        assert!(log.contains(" TRACE "), "{log}");
        for secret in &secrets {
            let lines = log.lines().filter(|line| line.contains(secret));
            let lines: Vec<&str> = lines.collect();
            assert!(lines.is_empty(), "{secret}: {lines:#?}");
        }
    }
}
