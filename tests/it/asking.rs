//! Checks by hand: SPF, DKIM, DMARC and DNS, through the running server and without one.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Setup, World, dkim::DkimKey, dns::Zone, program};

const IP: &str = "192.0.2.7";
const TEXT: &str = "From: <a@good.test>\r\nSubject: Hi\r\n\r\nHello\r\n";

/// What a command prints that ends with this code, and its errors.
async fn says(conf: &Path, code: i32, arguments: &[&str]) -> (String, String) {
    let output = program::run(conf, arguments).await;
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {errors}");
    (String::from_utf8(output.stdout).unwrap(), errors)
}

/// Runs all commands. Gives the results of the message as JSON.
async fn ask(conf: &Path, signed: &str, forged: &str) -> Value {
    let client = [
        "--ip",
        IP,
        "--from",
        "a@good.test",
        "--helo",
        "mx.good.test",
    ];
    let other = ["--ip", "192.0.2.8", "--from", "a@good.test"];
    let spf = [&["spf", "check"][..], &client].concat();
    let (found, _) = says(conf, 0, &spf).await;
    assert!(
        found.contains("ip4:192.0.2.7 matches in the record of good.test"),
        "{found}"
    );
    let spf = [&["spf", "check", "--json"][..], &other].concat();
    let (found, errors) = says(conf, 1, &spf).await;
    let found: Value = serde_json::from_str(&found).unwrap();
    assert_eq!(found["mail_from"]["mechanism"], "-all");
    assert!(
        errors.contains("SPF does not pass for MAIL FROM: fail"),
        "{errors}"
    );

    let (found, _) = says(conf, 0, &["dkim", "verify", signed, "--json"]).await;
    let found: Vec<Value> = serde_json::from_str(&found).unwrap();
    assert_eq!(
        (&found[0]["result"], &found[0]["domain"]),
        (&json!("pass"), &json!("good.test"))
    );
    let (found, errors) = says(conf, 1, &["dkim", "verify", forged]).await;
    assert!(found.contains("body hash did not verify"), "{found}");
    assert!(errors.contains("no signature passes"), "{errors}");

    let dmarc = [&["dmarc", "check", forged][..], &other].concat();
    let (found, errors) = says(conf, 1, &dmarc).await;
    let line = "DMARC          fail       good.test, policy reject: SPF fail, no aligned DKIM";
    assert!(found.contains(line), "{found}");
    assert!(errors.contains("DMARC does not pass"), "{errors}");

    let (found, _) = says(conf, 0, &["dns", "lookup", "mx", "good.test"]).await;
    assert!(
        found.starts_with("good.test. MX 10 mx.good.test.\n"),
        "{found}"
    );
    let (found, _) = says(conf, 1, &["dns", "lookup", "AAAA", "none.test", "--json"]).await;
    let found: Value = serde_json::from_str(&found).unwrap();
    assert_eq!(found["reason"], "the name does not exist");
    let (_, errors) = says(conf, 1, &["dns", "lookup", "SOA", "good.test"]).await;
    assert!(errors.contains("is none of A AAAA"), "{errors}");

    let dmarc = [&["dmarc", "check", signed, "--json"][..], &client].concat();
    let (found, _) = says(conf, 0, &dmarc).await;
    let mut found: Value = serde_json::from_str(&found).unwrap();
    found["elapsed"] = Value::Null;
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checks_by_hand_say_the_same_with_and_without_a_server() {
    let key = DkimKey::new();
    let dns = Zone::default()
        .txt("good.test", "v=spf1 ip4:192.0.2.7 -all")
        .txt("_dmarc.good.test", "v=DMARC1; p=reject")
        .txt("k._domainkey.good.test", &key.record())
        .mx("good.test", 10, "mx.good.test")
        .host("mx.good.test", IP.parse().unwrap());
    let world = World::start(Setup {
        dns: Some(dns.serve().await),
        statics: "admin_http = { enabled = true, port = 0 }\n".to_owned(),
        ..Setup::default()
    })
    .await;
    let dir = world.dir.path().to_owned();
    let conf = dir.join("postrider.conf");
    let signed = key.sign("good.test", "k", TEXT);
    let write = |name: &str, text: String| {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let forged = write("forged.eml", signed.replace("Hello", "Hallo"));
    let file = write("signed.eml", signed.replace("\r\n", "\n"));
    let by_server = ask(&conf, &file, &forged).await;
    assert_eq!(by_server["dmarcPass"], true, "{by_server}");
    assert_eq!(by_server["ipRevPtr"], json!(["mx.good.test"]));

    // The same over HTTP, without what only we tell.
    let apikey = ["apikey", "add", "t", "--scope", "manage-observe"];
    let (printed, _) = says(&conf, 0, &apikey).await;
    let api_key = printed.trim_end();
    let address = world.server.address("admin_http").unwrap();
    let request = json!({"remoteIp": IP, "ehloDomain": "mx.good.test", "mailFrom": "a@good.test",
        "body": signed});
    let answer = reqwest::Client::new()
        .post(format!("http://{address}/api/troubleshoot/dmarc"))
        .bearer_auth(api_key)
        .body(request.to_string())
        .send()
        .await
        .unwrap();
    let mut over_http: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    let mut over_http = over_http["data"].take();
    over_http["elapsed"] = Value::Null;
    let mut expected = by_server.clone();
    expected.as_object_mut().unwrap().remove("details").unwrap();
    assert_eq!(over_http, expected);

    world.server.stop().await;
    assert_eq!(ask(&conf, &file, &forged).await, by_server);
}
