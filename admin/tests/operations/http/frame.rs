//! Logins, scopes, tenants, errors, repeated requests and limits.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use postrider_admin::op::{Single, passwords};
use postrider_store::{ApiKeyId, Scope};
use serde_json::{Value, json};

use super::Site;

fn basic(name: &str, password: &str) -> String {
    let text = STANDARD.encode(format!("{name}:{password}"));
    format!("Authorization: Basic {text}\r\n")
}

#[tokio::test]
async fn a_key_the_administrator_and_an_account_log_in() {
    let site = Site::open().await;
    let status = "GET /api/queue/status";
    let got = site.send(status, "", "").await;
    assert_eq!(got.error(), (401, "other".to_owned()));
    let headers = got.headers.to_lowercase();
    assert!(headers.contains("www-authenticate: bearer"), "{headers}");
    assert!(headers.contains("content-type: application/problem+json"));
    assert_eq!(site.call(status, "").await.data(), json!(true));
    let named = STANDARD.encode(format!("tool:{}", site.key));
    let got = site.with_key(&format!("api_{named}"), status, "").await;
    assert_eq!(got.status, 200);
    let named = STANDARD.encode(format!("other:{}", site.key));
    let got = site.with_key(&format!("api_{named}"), status, "").await;
    assert_eq!(got.status, 401);
    for wrong in ["prk_1_AAAA", "x", "api_x"] {
        assert_eq!(site.with_key(wrong, status, "").await.status, 401);
    }

    let file = site.desk.context.statics.admin_password_file.clone();
    passwords::set_admin_password(&file.unwrap(), "correct horse").unwrap();
    let got = site
        .send(status, &basic("admin", "correct horse"), "")
        .await;
    assert_eq!(got.data(), json!(true));
    let got = site.send(status, &basic("admin", "wrong horse"), "").await;
    assert_eq!(got.status, 401);
    let page = basic("admin", "correct horse") + "Sec-Fetch-Site: cross-site\r\n";
    assert_eq!(site.send(status, &page, "").await.status, 403);

    let set = passwords::Set {
        account: "ann".to_owned(),
        password: "battery staple".to_owned(),
    };
    set.answer(&site.desk.context).await.unwrap();
    let ann = basic("ann@a.test", "battery staple");
    let got = site.send(status, &ann, "").await;
    assert_eq!(got.error(), (403, "other".to_owned()));
}

#[tokio::test]
async fn many_wrong_keys_lock_out_the_others_but_no_valid_key() {
    let site = Site::open().await;
    let status = "GET /api/queue/status";
    let wrong = site.wrong_key();
    let mut statuses = Vec::new();
    for _ in 0..200 {
        let got = site.with_key(&wrong, status, "").await;
        statuses.push(got.status);
        if got.status == 429 {
            assert!(got.headers.to_lowercase().contains("retry-after: "));
            break;
        }
    }
    assert_eq!((statuses[0], *statuses.last().unwrap()), (401, 429));
    assert_eq!(site.call(status, "").await.status, 200);
}

#[tokio::test]
async fn an_expired_or_removed_key_is_refused() {
    let site = Site::open().await;
    let expires = site.now().after(Duration::from_secs(60));
    let key = site
        .make_key(&[Scope::Manage], &[], |add| add.expires = Some(expires))
        .await;
    let status = "GET /api/queue/status";
    assert_eq!(site.with_key(&key, status, "").await.status, 200);
    site.desk.clock.advance(Duration::from_secs(61));
    let got = site.with_key(&key, status, "").await;
    assert_eq!(got.error(), (401, "other".to_owned()));
    let detail = got.json()["detail"].clone();
    assert_eq!(detail, json!("the key is wrong or has expired"));
    site.desk
        .context
        .store
        .remove_api_key(ApiKeyId(1))
        .await
        .unwrap();
    assert_eq!(site.call(status, "").await.status, 401);
}

#[tokio::test]
async fn a_scope_allows_its_calls_only() {
    let site = Site::open().await;
    let calls = [
        "GET /api/queue/status",
        "PATCH /api/queue/status/start",
        "GET /api/queue/messages",
        "POST /api/queue/hold-rules",
    ];
    for (scope, expected) in [
        (Scope::Manage, [200, 200, 200, 200]),
        (Scope::ManageQueue, [200, 200, 200, 200]),
        (Scope::ManageRead, [200, 403, 200, 403]),
        (Scope::ManageAccounts, [403, 403, 403, 403]),
        (Scope::ManageObserve, [403, 403, 403, 403]),
    ] {
        let key = site.make_key(&[scope], &[], |_| {}).await;
        let mut statuses = Vec::new();
        for call in calls {
            statuses.push(site.with_key(&key, call, "{}").await.status);
        }
        assert_eq!(statuses, expected, "{scope:?}");
    }
    let webapi = site
        .make_key(&[Scope::Send], &[], |add| add.account = "ann".to_owned())
        .await;
    assert_eq!(site.with_key(&webapi, calls[0], "").await.status, 403);
    // Stopping is for those who see everything.
    let tenant = site.make_key(&[Scope::Manage], &["a.test"], |_| {}).await;
    let got = site
        .with_key(&tenant, "PATCH /api/queue/status/stop", "")
        .await;
    assert_eq!(got.error(), (403, "other".to_owned()));
}

#[tokio::test]
async fn paths_methods_and_bodies_that_nobody_knows_are_refused() {
    let site = Site::open().await;
    let got = site.call("GET /api/no/such/call", "").await;
    assert_eq!(got.error(), (404, "notFound".to_owned()));
    assert_eq!(got.json()["item"], json!("/api/no/such/call"));
    assert_eq!(site.call("PUT /api/queue/messages", "").await.status, 404);
    let got = site.send("OPTIONS /api/queue/messages", "", "").await;
    assert_eq!((got.status, got.bytes.len()), (204, 0));
    assert_eq!(site.call("GET /api/queue/status/", "").await.status, 200);
    for body in ["", "{", "{\"nothing\": 1}", "[]"] {
        let got = site.call("POST /api/queue/suppressions", body).await;
        assert_eq!(got.error(), (400, "other".to_owned()), "{body}");
    }
    let large = format!("{{\"account\": \"{}\"}}", "x".repeat(1 << 20));
    let got = site.call("POST /api/queue/suppressions", &large).await;
    assert_eq!(got.error(), (413, "other".to_owned()));
}

#[tokio::test]
async fn old_clients_get_status_200_for_the_errors_that_they_expect_so() {
    let site = Site::open().await;
    let key = site
        .make_key(&[Scope::Manage], &[], |add| add.legacy_status = true)
        .await;
    let body = r#"{"account": "nobody", "address": "x@y.test"}"#;
    let request = "POST /api/queue/suppressions";
    let got = site.with_key(&key, request, body).await;
    assert_eq!(got.error(), (200, "notFound".to_owned()));
    assert!(
        got.headers
            .to_lowercase()
            .contains("content-type: application/json")
    );
    assert_eq!(
        got.json(),
        json!({"type": "about:blank", "title": "Not Found", "status": 404,
            "detail": "there is no account nobody", "error": "notFound", "item": "nobody"})
    );
    let got = site.call(request, body).await;
    assert_eq!(got.error(), (404, "notFound".to_owned()));
    // A missing message has status 404 for all, and so have requests that can't be read.
    let got = site.with_key(&key, "GET /api/queue/messages/7", "").await;
    assert_eq!(got.error(), (404, "notFound".to_owned()));
    assert_eq!(site.with_key(&key, request, "{").await.status, 400);
}

#[tokio::test]
async fn a_repeated_request_gets_the_same_answer_and_another_one_none() {
    let site = Site::open().await;
    let request = "POST /api/queue/hold-rules";
    let with_key = format!(
        "Authorization: Bearer {}\r\nIdempotency-Key: one\r\n",
        site.key
    );
    let body = r#"{"account": "ann"}"#;
    let first = site.send(request, &with_key, body).await;
    let again = site.send(request, &with_key, body).await;
    assert_eq!(first.data(), again.data());
    let other = site.send(request, &with_key, r#"{"account": "bob"}"#).await;
    assert_eq!(other.error(), (409, "other".to_owned()));
    let rules = site.get("/api/queue/hold-rules").await;
    assert_eq!(rules["total"], json!(1), "{rules}");
    site.desk
        .clock
        .advance(Duration::from_secs(24 * 60 * 60 + 1));
    let later = site.send(request, &with_key, body).await.data();
    assert_ne!(first.data(), later);
    let long = with_key.replace("one", &"x".repeat(256));
    assert_eq!(site.send(request, &long, body).await.status, 400);
}

#[tokio::test]
async fn the_description_has_each_call() {
    let site = Site::open().await;
    let got = site.send("GET /api/openapi.json", "", "").await;
    let document = got.json();
    assert_eq!(document["openapi"], json!("3.1.0"));
    let status = &document["paths"]["/api/queue/status"]["get"];
    assert!(status["responses"]["200"].is_object(), "{status}");
    let operations = document["paths"].as_object().unwrap().values();
    let operations = operations.flat_map(|path| path.as_object().unwrap().values());
    for operation in operations {
        assert!(operation["operationId"].is_string(), "{operation}");
        assert!(operation["responses"]["401"] != Value::Null, "{operation}");
    }
}
