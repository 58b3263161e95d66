//! The calls for settings, for the account of the caller, and for the server.

use std::fs;

use base64::{Engine, engine::general_purpose::STANDARD};
use postrider_admin::op::{Single, passwords};
use postrider_store::Scope;
use serde_json::{Value, json};

use super::{Site, TENANTS};

impl Site {
    fn file(&self) -> String {
        fs::read_to_string(self.desk.context.domains.path()).unwrap()
    }

    async fn change(&self, changes: Value) -> super::Got {
        self.call("POST /api/settings", &changes.to_string()).await
    }
}

#[tokio::test]
async fn settings_are_read_by_key_prefix_and_group() {
    let site = Site::open().await;
    let keys = site
        .get("/api/settings/keys?keys=accounts.ann.domain,accounts.ann.quota&prefixes=accounts.bob")
        .await;
    assert_eq!(keys["accounts.ann.domain"], json!("a.test"));
    assert_eq!(keys["accounts.bob.domain"], json!("b.test"));
    assert_eq!(keys.get("accounts.ann.quota"), None);
    let list = site.get("/api/settings/list?prefix=accounts.ann").await;
    assert_eq!(list["items"]["domain"], json!("a.test"));
    let group = site
        .get("/api/settings/group?prefix=accounts&suffix=domain")
        .await;
    let ids: Vec<&Value> = group["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["_id"])
        .collect();
    assert_eq!(ids, ["ann", "app", "bob", "both"]);
    assert_eq!(group["items"][0]["domain"], json!("a.test"));
    let group = site.get("/api/settings/group?prefix=accounts.ann").await;
    let first = json!({"_id": "domain", "_value": "a.test"});
    assert!(
        group["items"].as_array().unwrap().contains(&first),
        "{group}"
    );
}

#[tokio::test]
async fn settings_are_changed_all_or_none() {
    let site = Site::open().await;
    let done = site
        .change(json!([
            {"type": "insert", "prefix": "accounts.ann", "values": [["description", "Ann"], ["quota", "1GB"]],
             "assert_empty": false},
            {"type": "set", "prefix": "accounts.bob.description", "value": "Bob"},
        ]))
        .await;
    assert_eq!(done.json(), json!({"data": null}));
    let before = site.file();
    assert!(before.contains("description = \"Bob\""), "{before}");
    for (change, status, word) in [
        (
            json!({"type": "set", "prefix": "accounts.ann.nothing", "value": "x"}),
            422,
            "other",
        ),
        (
            json!({"type": "set", "prefix": "accounts.ann.quota", "value": "much"}),
            422,
            "other",
        ),
        (
            json!({"type": "set", "prefix": "accounts.ann.domain", "value": "no.test"}),
            422,
            "other",
        ),
        (
            json!({"type": "insert", "prefix": "accounts.ann", "values": [["full_name", "A"]], "assert_empty": true}),
            409,
            "assertFailed",
        ),
        (json!({"type": "clear", "prefix": ""}), 422, "other"),
        (json!({"type": "put"}), 400, "other"),
    ] {
        let first =
            json!({"type": "set", "prefix": "accounts.ann.description", "value": "Changed"});
        let got = site.change(json!([first, change])).await;
        assert_eq!(got.error(), (status, word.to_owned()), "{change}");
        assert_eq!(site.file(), before, "{change}");
    }
    let got = site
        .change(json!([{"type": "set", "prefix": "accounts.ann.quota", "value": "much"}]))
        .await;
    assert_eq!(got.json()["field"], json!("accounts.ann.quota"));
    let done = site
        .change(json!([
            {"type": "delete", "keys": ["accounts.bob.description"]},
            {"type": "clear", "prefix": "accounts.ann", "filter": "quota"},
        ]))
        .await;
    assert_eq!(done.data(), Value::Null);
    let removed = site
        .call("DELETE /api/settings/accounts.ann.description", "")
        .await;
    assert_eq!(removed.data(), Value::Null);
    let gone = site
        .call("DELETE /api/settings/accounts.ann.description", "")
        .await;
    assert_eq!(gone.error(), (404, "notFound".to_owned()));
    assert_eq!(site.file(), TENANTS);
}

#[tokio::test]
async fn a_reload_tells_errors_and_changes_nothing_then() {
    let site = Site::open().await;
    let path = site.desk.context.domains.path().to_owned();
    fs::write(&path, TENANTS.replace("bob@b.test", "bob@no.test")).unwrap();
    let got = site.get("/api/reload").await;
    assert_eq!(got["warnings"], json!({}));
    let errors = got["errors"].as_object().unwrap();
    assert!(
        errors.values().all(|error| error["type"] == "build"),
        "{errors:?}"
    );
    assert!(!errors.is_empty());
    fs::write(
        &path,
        TENANTS.replace(
            "domain = \"b.test\"",
            "domain = \"b.test\"\ndescription = \"B\"",
        ),
    )
    .unwrap();
    let none = json!({"warnings": {}, "errors": {}});
    assert_eq!(site.get("/api/reload?dry-run=1").await, none);
    let description = || {
        site.desk.context.config.load().accounts["bob"]
            .description
            .clone()
    };
    assert_eq!(description(), "");
    assert_eq!(site.get("/api/reload").await, none);
    assert_eq!(description(), "B");
    let audit = site.get("/api/audit?operation=server.reload").await;
    assert_eq!(
        audit["items"][0]["who"],
        json!({"kind": "key", "name": "tool"})
    );
    assert_eq!(audit["total"], json!(1));
}

#[tokio::test]
async fn the_holder_of_an_account_changes_the_password() {
    let site = Site::open().await;
    let account = "ann".to_owned();
    let password = "battery staple".to_owned();
    let set = passwords::Set { account, password };
    set.answer(&site.desk.context).await.unwrap();
    let login = |password: &str| {
        let text = STANDARD.encode(format!("ann@a.test:{password}"));
        format!("Authorization: Basic {text}\r\n")
    };
    let (auth, change) = ("GET /api/account/auth", "POST /api/account/auth");
    let got = site.send(auth, &login("battery staple"), "").await.data();
    assert_eq!(got, json!({"otpEnabled": false, "appPasswords": []}));
    let new = r#"[{"type": "setPassword", "password": "correct horse"}]"#;
    let got = site.send(change, &login("battery staple"), new).await;
    assert_eq!(got.data(), Value::Null);
    assert_eq!(
        site.send(auth, &login("battery staple"), "").await.status,
        401
    );
    assert_eq!(
        site.send(auth, &login("correct horse"), "").await.status,
        200
    );
    let crypto = site
        .send("GET /api/account/crypto", &login("correct horse"), "")
        .await;
    assert_eq!(crypto.data(), json!({"type": "disabled"}));
    let pgp = r#"{"type": "pGP", "algo": "Aes256", "certs": ""}"#;
    let got = site
        .send("POST /api/account/crypto", &login("correct horse"), pgp)
        .await;
    assert_eq!(got.error(), (422, "unsupported".to_owned()));
    // A key without an account has none of its own.
    assert_eq!(site.call(auth, "").await.error(), (422, "other".to_owned()));
}

#[tokio::test]
async fn scripts_are_settings_too() {
    let site = Site::open().await;
    let script = |key: &str, value: &str| json!([{"type": "set", "prefix": key, "value": value}]);
    let keep = "require \"fileinto\"; fileinto \"Lists\";";
    // The forms of the key that clients use.
    for (key, shown) in [
        ("sieve.scripts.ann.lists", "ann.lists"),
        ("sieve.scripts.ann_vacation", "ann.vacation"),
        ("sieve.scripts.ann_filter_7", "ann.filter_7"),
    ] {
        site.change(script(key, keep)).await.data();
        let list = site.get("/api/settings/list?prefix=sieve.scripts").await;
        assert_eq!(list["items"][shown], json!(keep), "{list}");
    }
    let number = site.get("/api/principal/ann").await["id"].to_string();
    let by_number = format!("sieve.scripts.{number}.byid");
    site.change(script(&by_number, "keep;")).await.data();
    let keys = site
        .get("/api/settings/keys?keys=sieve.scripts.ann.byid")
        .await;
    assert_eq!(keys["sieve.scripts.ann.byid"], json!("keep;"));
    assert!(!site.file().contains("sieve"), "they are in the store");

    for (key, value, word) in [
        ("sieve.scripts.ann.lists", "kep;", "line 1, column 1"),
        ("sieve.scripts.none.lists", "keep;", "names no account"),
        ("sieve.scripts.ann.", "keep;", "names no account"),
    ] {
        // Nothing else of the call is kept either.
        let changes = json!([
            {"type": "set", "prefix": "accounts.ann.description", "value": "Other"},
            {"type": "set", "prefix": key, "value": value},
        ]);
        let got = site.change(changes).await;
        assert_eq!(got.status, 422, "{key}");
        let body = got.json().to_string();
        assert!(body.contains(word), "{key}: {body}");
        assert!(!site.file().contains("Other"));
    }
    let there = json!([{"type": "insert", "prefix": "sieve.scripts.ann",
        "values": [["lists", "keep;"]], "assert_empty": true}]);
    assert_eq!(site.change(there).await.error().1, "assertFailed");
    // An empty value removes a script, and so does delete.
    site.change(script("sieve.scripts.ann.lists", ""))
        .await
        .data();
    let delete = json!([{"type": "delete", "keys": ["sieve.scripts.ann.vacation"]}]);
    site.change(delete).await.data();
    site.call("DELETE /api/settings/sieve.scripts.ann.byid", "")
        .await
        .data();
    let clear = json!([{"type": "clear", "prefix": "sieve.scripts.ann"}]);
    site.change(clear).await.data();
    let list = site.get("/api/settings/list?prefix=sieve.scripts").await;
    assert_eq!(list["total"], json!(0), "{list}");

    // A tenant sets scripts of its accounts, and nothing else.
    let scopes = [Scope::ManageAccounts];
    let tenant = site.make_key(&scopes, &["a.test"], |_| {}).await;
    let set = async |key: &str| {
        let change = script(key, "keep;").to_string();
        site.with_key(&tenant, "POST /api/settings", &change).await
    };
    set("sieve.scripts.ann.own").await.data();
    assert_eq!(set("sieve.scripts.bob.foreign").await.status, 422);
    assert_eq!(set("accounts.ann.description").await.status, 403);
    let list = site.with_key(&tenant, "GET /api/settings/list", "").await;
    assert_eq!(list.data()["total"], json!(1));
}
