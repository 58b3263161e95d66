//! Deleted mail over HTTP.

use std::time::Duration;

use postrider_admin::op::{Single as _, config::accounts};
use postrider_store::{Accept, KeepDeleted, MailId, NewMail, NewText, Scope, TextSource, Top};
use serde_json::{Value, json};

use super::Site;

const TEXT: &str = "From: ann@elsewhere.test\r\nSubject: Hi\r\n\r\nHello\r\n";

/// Brings mail to an account, and deletes it at once, each a second later than the one before.
async fn deleted(site: &Site, account: &str, count: usize) -> Vec<MailId> {
    let store = &site.desk.context.store;
    let now = site.now();
    let mail = NewMail {
        account: account.to_owned(),
        mailbox: "Archive".to_owned(),
        top: Top::default(),
        text: TextSource::New,
        size: 100,
        received: now,
        flags: Vec::new(),
        dsn: false,
        smtp: None,
        summary: None,
    };
    let accept = Accept {
        text: Some(NewText::Inline(TEXT.into())),
        mails: vec![mail; count],
        ..Accept::default()
    };
    let mails = store.accept(accept).await.unwrap().mails;
    let keep = KeepDeleted {
        until: now.after(Duration::from_secs(1000)),
        bytes: 10_000,
    };
    for (mail, seconds) in mails.iter().zip(0..) {
        let at = now.after(Duration::from_secs(seconds));
        assert!(store.delete_mail(account, *mail, at, keep).await.unwrap());
    }
    mails
}

fn hashes(listed: &Value) -> Vec<String> {
    let items = listed["items"].as_array().unwrap().iter();
    items
        .map(|item| item["hash"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn deleted_mail_is_listed_in_pages_and_comes_back() {
    let site = Site::open().await;
    let ids = deleted(&site, "ann", 5).await;
    let path = "/api/store/undelete/ann";
    let all = site.get(path).await;
    assert_eq!((&all["total"], all.get("next")), (&json!(5), None));
    let names = hashes(&all);
    let first = &all["items"][0];
    assert_eq!(first["item"]["from"], "ann@elsewhere.test");
    assert_eq!(
        (&first["size"], &first["collection"]),
        (&json!(100), &json!("email"))
    );
    let keys: Vec<&String> = first.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        [
            "hash",
            "size",
            "deletedAt",
            "expiresAt",
            "item",
            "collection"
        ]
    );
    let page = site.get(&format!("{path}?limit=2&page=2")).await;
    assert_eq!(hashes(&page), names[2..4]);
    let cursor = page["next"].as_str().unwrap();
    let rest = site.get(&format!("{path}?limit=2&cursor={cursor}")).await;
    assert_eq!(
        (hashes(&rest), rest.get("next")),
        (names[4..].to_vec(), None)
    );

    let call = async |body: &Value| {
        let answer = site.call(&format!("POST {path}"), &body.to_string()).await;
        answer.data()
    };
    let wanted = json!([
        {"hash": names[1], "collection": "email", "restoreTime": "2027-02-01T00:00:00Z",
            "cancelDeletion": first["expiresAt"]},
        {"hash": "no name", "collection": "email", "restoreTime": null},
        {"hash": names[1]},
    ]);
    let (success, missing) = (json!({"type": "success"}), json!({"type": "notFound"}));
    assert_eq!(call(&wanted).await, json!([success, missing, missing]));
    let mail = site.desk.context.store.mail(ids[1]).await.unwrap().unwrap();
    assert_eq!(mail.mailbox, "Inbox");
    assert_eq!(mail.received.to_string(), "2027-02-01T00:00:00Z");
    assert_eq!(call(&Value::Null).await, json!(vec![success; 4]));
    assert_eq!(site.get(path).await["total"], 0);
    // A change of many is one entry.
    let audit = site.get("/api/audit?operation=undelete.restore").await;
    let after: Vec<&Value> = audit["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["after"])
        .collect();
    let [all, some] = after.as_slice() else {
        panic!("{after:?}");
    };
    assert_eq!((&all["all"], &all["count"]), (&json!(true), &json!(4)));
    assert_eq!(all["mails"].as_array().map(Vec::len), Some(4));
    assert_eq!((&some["all"], &some["count"]), (&json!(false), &json!(3)));
    assert_eq!(some["mails"][0], json!(names[1]));
    // What is not there was not restored.
    let missing = json!([{"hash": names[1]}, {"hash": "nope"}]);
    assert_eq!(call(&missing).await[1], json!({"type": "notFound"}));
    let audit = site.get("/api/audit?operation=undelete.restore").await;
    assert_eq!(audit["items"].as_array().map(Vec::len), Some(2));
    let many = vec![json!({"hash": "x"}); 1001];
    let refused = site
        .call(&format!("POST {path}"), &json!(many).to_string())
        .await;
    assert_eq!(refused.status, 422);
    assert_eq!(
        site.call("GET /api/store/undelete/none", "").await.status,
        404
    );
}

#[tokio::test]
async fn a_purge_is_for_who_may_and_for_what_they_see() {
    let site = Site::open().await;
    let tenant = site
        .make_key(&[Scope::ManageAccounts], &["a.test"], |_| {})
        .await;
    let reader = site.make_key(&[Scope::ManageRead], &[], |_| {}).await;
    let total = async |account: &str| {
        let store = &site.desk.context.store;
        store.deleted_usage(account).await.unwrap().mails
    };
    for account in ["ann", "bob"] {
        deleted(&site, account, 2).await;
    }
    for (key, request, status) in [
        (&tenant, "GET /api/store/undelete/ann", 200),
        (&tenant, "GET /api/store/undelete/bob", 404),
        (&tenant, "POST /api/store/undelete/bob", 404),
        (&tenant, "GET /api/store/purge/account", 403),
        (&tenant, "GET /api/store/purge/account/bob", 404),
        (&tenant, "GET /api/store/purge/blob", 403),
        (&tenant, "GET /api/store/purge/data", 403),
        (&reader, "GET /api/store/undelete/bob", 200),
        (&reader, "GET /api/store/purge/account/bob", 403),
        (&reader, "POST /api/store/undelete/bob", 403),
    ] {
        assert_eq!(
            site.with_key(key, request, "").await.status,
            status,
            "{request}"
        );
    }
    assert_eq!((total("ann").await, total("bob").await), (2, 2));
    let gone = async |account: &str| {
        while total(account).await > 0 {
            tokio::task::yield_now().await;
        }
    };
    let request = "GET /api/store/purge/account/ann";
    assert_eq!(
        site.with_key(&tenant, request, "").await.data(),
        Value::Null
    );
    gone("ann").await;
    assert_eq!(total("bob").await, 2);
    assert_eq!(
        site.call("GET /api/store/purge/account", "").await.data(),
        Value::Null
    );
    gone("bob").await;
    for what in ["blob", "data"] {
        let request = format!("GET /api/store/purge/{what}");
        assert_eq!(site.call(&request, "").await.data(), Value::Null);
    }
}

#[tokio::test]
async fn an_account_is_named_by_its_name_or_number_or_address() {
    let site = Site::open().await;
    let tenant = site
        .make_key(&[Scope::ManageAccounts], &["a.test"], |_| {})
        .await;
    let id = |account: &str| {
        let path = format!("/api/principal/{account}");
        let site = &site;
        async move { site.get(&path).await["id"].to_string() }
    };
    let (ann, bob) = (id("ann").await, id("bob").await);
    deleted(&site, "ann", 1).await;
    for named in [&ann, "ann", "Ann@a.test"] {
        let path = format!("/api/store/undelete/{named}");
        assert_eq!(site.get(&path).await["total"], 1, "{named}");
        let path = format!("GET {path}");
        assert_eq!(site.with_key(&tenant, &path, "").await.status, 200);
    }
    // A list and a domain have no mail, and a tenant does not see the numbers of others.
    for named in [&bob, "bob", "bob@b.test", "a.test", "999999", "nobody"] {
        let path = format!("GET /api/store/undelete/{named}");
        let answer = site.with_key(&tenant, &path, "").await;
        assert_eq!(answer.error(), (404, "notFound".to_owned()), "{named}");
    }
    let restored = site
        .call(&format!("POST /api/store/undelete/{ann}"), "")
        .await;
    assert_eq!(restored.data(), json!([{"type": "success"}]));
    deleted(&site, "ann", 1).await;
    let purge = format!("GET /api/store/purge/account/{ann}");
    let purged = site.call(&purge, "");
    assert_eq!(purged.await.data(), Value::Null);
    let store = &site.desk.context.store;
    while store.deleted_usage("ann").await.unwrap().mails > 0 {
        tokio::task::yield_now().await;
    }
    let train = format!("POST /api/spam-filter/train/spam/{ann}");
    assert_eq!(site.call(&train, TEXT).await.data(), Value::Null);
}

#[tokio::test]
async fn work_in_the_background_counts_as_calls_of_its_caller() {
    let site = Site::open().await;
    let other = site.make_key(&[Scope::Manage], &[], |_| {}).await;
    // The account is being removed, and the removal waits: so does who else wants the account.
    let context = site.desk.context.clone();
    let held = context.hold_account("ann").await.unwrap();
    let remove = accounts::Remove {
        account: "ann".to_owned(),
    };
    let removing = tokio::spawn(async move { remove.answer(&context).await });
    for _ in 0..9 {
        tokio::task::yield_now().await;
    }
    let purge = "GET /api/store/purge/account/ann";
    for call in 0..32 {
        assert_eq!(site.call(purge, "").await.status, 200, "{call}");
    }
    assert_eq!(site.call(purge, "").await.status, 429);
    let status = "GET /api/queue/status";
    assert_eq!(site.with_key(&other, status, "").await.status, 200);
    drop(held);
    removing.await.unwrap().unwrap();
    while site.call(status, "").await.status == 429 {
        tokio::task::yield_now().await;
    }
}
