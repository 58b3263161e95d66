//! Mail that a user deletes comes back, or goes for good when its time is over.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Setup, World, dns::Zone, program, webapi};

const TEXT: &str = "From: Ann <ann@elsewhere.test>\r\nSubject: =?utf-8?q?Caf=C3=A9?=\r\n\r\nHello.";

async fn says(conf: &Path, code: i32, arguments: &[&str]) -> String {
    let output = program::run(conf, arguments).await;
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

async fn list(conf: &Path) -> Vec<Value> {
    let listed = says(conf, 0, &["undelete", "list", "app", "--json"]).await;
    serde_json::from_str(&listed).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleted_mail_is_listed_restored_and_purged() {
    let world = World::start(Setup {
        dns: Some(Zone::default().serve().await),
        statics: "admin_http = { enabled = true, port = 0 }\n[undelete]\nkeep = \"2d\"\n"
            .to_owned(),
        ..Setup::default()
    })
    .await;
    let conf = world.dir.path().join("postrider.conf");
    let mut client = world.client("smtp").await;
    client.command("EHLO sender.elsewhere.test").await;
    for _ in 0..3 {
        let reply = client
            .submit("ann@elsewhere.test", &["app@example.org"], TEXT)
            .await;
        assert!(reply.starts_with("250 2.0.0"), "{reply}");
    }
    let http = world.server.address("webapi_http").unwrap();
    for id in 1..=3 {
        let request = json!({"MsgID": id}).to_string();
        webapi(http, "app@example.org", "MessageDelete", &request).await;
    }
    assert!(world.mails("Inbox").await.is_empty());
    let deleted = list(&conf).await;
    assert_eq!(deleted.len(), 3);
    let item = json!({"type": "email", "from": "Ann <ann@elsewhere.test>",
        "subject": "Caf\u{e9}", "received_at": "2027-01-15T08:00:00Z"});
    assert_eq!(deleted[0]["item"], item);
    assert_eq!(deleted[0]["deletedAt"], "2027-01-15T08:00:00Z");
    assert_eq!(deleted[0]["expiresAt"], "2027-01-17T08:00:00Z");
    let name = |index: usize| deleted[index]["hash"].as_str().unwrap();

    // By the command, over HTTP, and after a restart.
    let restore = ["undelete", "restore", "app", name(0), "ZDk5"];
    let said = says(&conf, 1, &restore).await;
    assert!(
        said.contains("is in the inbox") && said.contains("no such deleted mail"),
        "{said}"
    );
    assert_eq!(world.mails("Inbox").await.len(), 1);
    let world = world.restart().await;
    let apikey = ["apikey", "add", "t", "--scope", "manage-accounts"];
    let printed = says(&conf, 0, &apikey).await;
    let key = printed.trim_end();
    let address = world.server.address("admin_http").unwrap();
    let path = format!("http://{address}/api/store/undelete/app");
    let http = reqwest::Client::new();
    let listed = http.get(&path).bearer_auth(key).send().await.unwrap();
    let listed: Value = serde_json::from_str(&listed.text().await.unwrap()).unwrap();
    assert_eq!(listed["data"]["items"], json!(deleted[1..]));
    let request = json!([{"hash": name(1), "collection": "email",
        "restoreTime": "2027-01-15T09:00:00Z"}]);
    let restored = http.post(&path).bearer_auth(key).body(request.to_string());
    let restored = restored.send().await.unwrap().text().await.unwrap();
    let restored: Value = serde_json::from_str(&restored).unwrap();
    assert_eq!(restored["data"], json!([{"type": "success"}]));
    assert_eq!(world.mails("Inbox").await.len(), 2);

    assert_eq!(
        says(&conf, 0, &["purge", "account", "app"]).await,
        "removed 1 deleted mail\n"
    );
    assert!(list(&conf).await.is_empty());
    says(&conf, 0, &["purge", "data"]).await;
    says(&conf, 0, &["purge", "blob"]).await;
    let audit = says(&conf, 0, &["audit", "list", "--target", "app", "--json"]).await;
    let audit: Vec<Value> = serde_json::from_str(&audit).unwrap();
    let operations: Vec<&str> = audit
        .iter()
        .filter_map(|it| it["operation"].as_str())
        .collect();
    assert_eq!(
        operations,
        ["purge.account", "undelete.restore", "undelete.restore"]
    );
    world.server.stop().await;
}
