//! The calls for accounts, lists, domains, keys and DKIM.

use postrider_store::Scope;
use serde_json::{Value, json};

use super::Site;

const PATH: &str = "/api/principal";

async fn refused(site: &Site, body: &Value) -> Value {
    let got = site.call(&format!("POST {PATH}"), &body.to_string()).await;
    assert_ne!(got.status, 200, "{body}");
    let mut error = got.json();
    let error = error.as_object_mut().unwrap();
    for name in ["type", "title", "detail"] {
        error.remove(name);
    }
    json!(error)
}

#[tokio::test]
async fn an_account_comes_changes_and_goes() {
    let site = Site::open().await;
    let new = json!({
        "type": "individual", "name": "Info", "description": "Info",
        "emails": ["info@a.test", "sales@a.test"], "quota": 1000, "secrets": ["correct horse"],
        "roles": ["user"], "id": 7, "usedQuota": 7,
    });
    let id = site.add(&new).await;
    let info = site.get(&format!("{PATH}/info")).await;
    let mut expected = json!({
        "id": id, "type": "individual", "name": "info", "description": "Info",
        "emails": ["info@a.test", "sales@a.test"], "quota": 1000, "usedQuota": 0,
        "roles": ["user"], "memberOf": [], "lists": [], "members": [], "secrets": [], "urls": [],
        "suspended": false, "scopes": [], "domains": [],
    });
    assert_eq!(info, expected);
    for name in [id.to_string(), "sales%40a.test".to_owned()] {
        assert_eq!(site.get(&format!("{PATH}/{name}")).await, expected);
    }
    let number = id.to_string();
    let changes = json!([
        {"action": "set", "field": "description", "value": "All"},
        {"action": "set", "field": "quota", "value": 0},
        {"action": "addItem", "field": "emails", "value": "help@b.test"},
        {"action": "addItem", "field": "emails", "value": "info@a.test"},
        {"action": "removeItem", "field": "emails", "value": "sales@a.test"},
        {"action": "addItem", "field": "secrets", "value": "battery staple"},
    ]);
    let changed = site.patch(&number, &changes).await;
    assert_eq!(changed.json(), json!({"data": null}));
    expected["description"] = json!("All");
    expected["quota"] = json!(0);
    expected["emails"] = json!(["info@a.test", "help@b.test"]);
    assert_eq!(site.get(&format!("{PATH}/info")).await, expected);
    // One wrong change, and none is made.
    let wrong = [
        (
            json!({"action": "set", "field": "emails", "value": ["ann@a.test"]}),
            409,
            "fieldAlreadyExists",
        ),
        (
            json!({"action": "set", "field": "emails", "value": ["x@no.test"]}),
            404,
            "notFound",
        ),
        (
            json!({"action": "set", "field": "emails", "value": []}),
            422,
            "other",
        ),
        (
            json!({"action": "set", "field": "quota", "value": "much"}),
            422,
            "other",
        ),
        (
            json!({"action": "set", "field": "roles", "value": ["admin"]}),
            422,
            "unsupported",
        ),
        (
            json!({"action": "set", "field": "secrets", "value": "{SSHA}x"}),
            422,
            "unsupported",
        ),
        (
            json!({"action": "set", "field": "secrets", "value": "short"}),
            422,
            "other",
        ),
        (
            json!({"action": "set", "field": "nothing", "value": "x"}),
            422,
            "other",
        ),
        (
            json!({"action": "put", "field": "quota", "value": 1}),
            400,
            "other",
        ),
    ];
    site.refuses(&number, wrong).await;
    assert_eq!(site.get(&format!("{PATH}/info")).await, expected);

    let suspend = async |name: &str| {
        let request = format!("POST {PATH}/info/{name}");
        site.call(&request, "").await.data()
    };
    assert_eq!(suspend("suspend").await, Value::Null);
    assert_eq!(
        site.get(&format!("{PATH}/info")).await["suspended"],
        json!(true)
    );
    assert_eq!(suspend("unsuspend").await, Value::Null);
    let remove = format!("DELETE {PATH}/info");
    assert_eq!(site.call(&remove, "").await.data(), Value::Null);
    assert_eq!(
        site.call(&remove, "").await.error(),
        (404, "notFound".to_owned())
    );
    // A number is never used again.
    assert!(site.add(&new).await > id);
    // The account of the postmaster stays.
    let got = site.call(&format!("DELETE {PATH}/app"), "").await;
    assert_eq!(got.error(), (422, "other".to_owned()));
}

#[tokio::test]
async fn a_new_principal_that_is_not_right_is_refused() {
    let site = Site::open().await;
    let mut account = json!({"type": "individual", "name": "info", "emails": ["info@a.test"]});
    let mut with = |field: &str, value: Value| {
        let before = account.clone();
        account[field] = value;
        std::mem::replace(&mut account, before)
    };
    for (body, expected) in [
        (
            with("name", json!("")),
            json!({"status": 422, "error": "fieldMissing", "field": "name"}),
        ),
        (
            with("name", json!("ann")),
            json!({"status": 409, "error": "fieldAlreadyExists", "field": "name", "value": "ann"}),
        ),
        (
            with("emails", json!([])),
            json!({"status": 422, "error": "fieldMissing", "field": "emails"}),
        ),
        (
            with("emails", json!("info@no.test")),
            json!({"status": 404, "error": "notFound", "item": "no.test"}),
        ),
        (
            with("emails", json!(["ann@a.test"])),
            json!({"status": 409, "error": "fieldAlreadyExists", "field": "emails", "value": "ann@a.test"}),
        ),
        (
            with("tenant", json!("x")),
            json!({"status": 422, "error": "unsupported", "details": "tenant is not supported"}),
        ),
        (
            with("type", json!("role")),
            json!({"status": 422, "error": "unsupported", "details": "there are no principals of type role"}),
        ),
        (
            json!({"type": "list", "name": "all@a.test", "members": ["nobody"]}),
            json!({"status": 404, "error": "notFound", "item": "nobody"}),
        ),
        (
            json!({"type": "list", "name": "all@a.test"}),
            json!({"status": 422, "error": "fieldMissing", "field": "members"}),
        ),
    ] {
        assert_eq!(refused(&site, &body).await, expected, "{body}");
    }
    for (body, status) in [
        (with("nothing", json!(1)), 400),
        (with("type", json!("x")), 400),
        (with("name", json!("123")), 422),
        (with("description", json!("x".repeat(513))), 422),
        (with("secrets", json!(["short"])), 422),
    ] {
        assert_eq!(
            refused(&site, &body).await["status"],
            json!(status),
            "{body}"
        );
    }
    // Nothing is left of an account whose password was refused.
    let got = site.call(&format!("GET {PATH}/info"), "").await;
    assert_eq!(got.status, 404);
}

#[tokio::test]
async fn lists_domains_and_keys_are_principals() {
    let site = Site::open().await;
    let list = json!({"type": "list", "name": "Team@a.test", "members": ["ann", "bob@b.test"]});
    let id = site.add(&list).await;
    let team = site.get(&format!("{PATH}/{id}")).await;
    assert_eq!(team["members"], json!(["ann", "bob"]));
    assert_eq!(
        (&team["name"], &team["emails"]),
        (&json!("team@a.test"), &json!(["team@a.test"]))
    );
    let ann = site.get(&format!("{PATH}/ann")).await;
    assert_eq!(ann["lists"], json!(["team@a.test"]));
    let changes = json!([
        {"action": "addItem", "field": "members", "value": "app"},
        {"action": "removeItem", "field": "members", "value": "bob"},
    ]);
    let patch = format!("PATCH {PATH}/{id}");
    let got = site.call(&patch, &changes.to_string()).await;
    assert_eq!(got.data(), Value::Null);
    let team = site.get(&format!("{PATH}/{id}")).await;
    assert_eq!(team["members"], json!(["ann", "app"]));

    let domain = json!({"type": "domain", "name": "new.test", "description": "New"});
    let id = site.add(&domain).await;
    let domain = site.get(&format!("{PATH}/{id}")).await;
    assert_eq!(domain["description"], json!("New"));
    assert!(domain["members"].is_u64(), "{domain}");
    let key = site.get("/api/dkim/ed25519-new.test").await;
    assert_eq!(key.as_str().unwrap().len(), 44, "{key}");
    let dkim = r#"{"algorithm": "Ed25519", "domain": "new.test"}"#;
    let got = site.call("POST /api/dkim", dkim).await;
    assert_eq!(got.error(), (409, "fieldAlreadyExists".to_owned()));
    let dkim = r#"{"algorithm": "Ed25519", "domain": "new.test", "selector": "x1"}"#;
    assert_eq!(site.call("POST /api/dkim", dkim).await.data(), Value::Null);
    let other = site.get("/api/dkim/x1._domainkey.new.test").await;
    assert_ne!(other, key);
    for id in ["rsa-no.test", "nothing", "x9._domainkey.new.test"] {
        let got = site.call(&format!("GET /api/dkim/{id}"), "").await;
        assert_eq!(got.error(), (404, "notFound".to_owned()), "{id}");
    }
    let records = site.get("/api/dns/records/new.test").await;
    let records = records.as_array().unwrap();
    let mx = records
        .iter()
        .find(|record| record["type"] == "MX")
        .unwrap();
    assert_eq!(mx["name"], json!("new.test."));
    let got = site.call("GET /api/dns/records/no.test", "").await;
    assert_eq!(got.error(), (404, "notFound".to_owned()));

    let key = json!({"type": "apiKey", "name": "monitor", "scopes": ["manage-queue"], "domains": ["a.test"]});
    let got = site
        .call(&format!("POST {PATH}"), &key.to_string())
        .await
        .json();
    let (text, id) = (got["key"].as_str().unwrap(), &got["data"]);
    let list = site.with_key(text, "GET /api/queue/messages", "").await;
    assert_eq!(list.status, 200);
    let monitor = site.get(&format!("{PATH}/{id}")).await;
    assert_eq!(monitor["scopes"], json!(["manage-queue"]));
    assert_eq!(
        site.call(&format!("DELETE {PATH}/{id}"), "").await.data(),
        Value::Null
    );
    assert_eq!(
        site.with_key(text, "GET /api/queue/messages", "")
            .await
            .status,
        401
    );
}

#[tokio::test]
async fn principals_are_listed_by_type_and_text() {
    let site = Site::open().await;
    let names = async |query: &str| {
        let data = site.get(&format!("{PATH}?{query}")).await;
        let items = data["items"].as_array().unwrap().iter();
        let names = items.map(|item| item["name"].as_str().unwrap().to_owned());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    };
    let accounts = names("types=individual,list").await;
    assert_eq!(accounts, ["ann", "app", "bob", "both"]);
    assert_eq!(
        names("type=domain").await,
        ["a.test", "b.test", "example.org"]
    );
    assert_eq!(names("filter=both%20b.test").await, ["both"]);
    assert_eq!(names("types=group").await, [""; 0]);
    assert_eq!(names("types=individual&limit=2&page=2").await.len(), 2);
    let count = site.get(&format!("{PATH}?types=individual&count=1")).await;
    assert_eq!(count, json!({"items": [], "total": 4}));
    let few = site
        .get(&format!("{PATH}?filter=ann&fields=name,emails"))
        .await;
    let id = few["items"][0]["id"].clone();
    assert_eq!(
        few["items"],
        json!([{"id": id, "type": "individual", "name": "ann", "emails": ["ann@a.test"]}])
    );
}

#[tokio::test]
async fn a_tenant_manages_its_own_principals_only() {
    let site = Site::open().await;
    let key = site
        .make_key(&[Scope::ManageAccounts], &["a.test"], |_| {})
        .await;
    let call =
        async |request: &str, body: &Value| site.with_key(&key, request, &body.to_string()).await;
    let none = json!(null);
    let list = call(&format!("GET {PATH}"), &none).await.data();
    let names: Vec<&str> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["name"].as_str().unwrap())
        .collect();
    assert!(
        names.contains(&"ann") && names.contains(&"a.test"),
        "{names:?}"
    );
    assert!(
        !names.contains(&"both") && !names.contains(&"b.test"),
        "{names:?}"
    );
    for name in ["bob", "both", "b.test", "app"] {
        for verb in ["GET", "DELETE"] {
            let got = call(&format!("{verb} {PATH}/{name}"), &none).await;
            assert_eq!(got.error(), (404, "notFound".to_owned()), "{verb} {name}");
        }
    }
    let new = json!({"type": "individual", "name": "eve", "emails": ["eve@b.test"]});
    let got = call(&format!("POST {PATH}"), &new).await;
    assert_eq!(got.error(), (404, "notFound".to_owned()));
    assert_eq!(got.json()["item"], json!("b.test"));
    let domain = json!({"type": "domain", "name": "c.test"});
    assert_eq!(call(&format!("POST {PATH}"), &domain).await.status, 403);
    for wide in [
        json!({"type": "apiKey", "name": "x", "scopes": ["manage"], "domains": ["a.test"]}),
        json!({"type": "apiKey", "name": "x", "scopes": ["manage-accounts"]}),
        json!({"type": "apiKey", "name": "x", "scopes": ["manage-accounts"], "domains": ["b.test"]}),
    ] {
        assert_eq!(
            call(&format!("POST {PATH}"), &wide).await.status,
            403,
            "{wide}"
        );
    }
    let member = json!({"type": "list", "name": "l@a.test", "members": ["bob"]});
    assert_eq!(call(&format!("POST {PATH}"), &member).await.status, 404);
    let emails = json!([{"action": "addItem", "field": "emails", "value": "ann@b.test"}]);
    let got = call(&format!("PATCH {PATH}/ann"), &emails).await;
    assert_eq!(got.error(), (404, "notFound".to_owned()));
    assert_eq!(
        call("GET /api/dkim/ed25519-b.test", &none).await.status,
        404
    );
    assert_eq!(call("GET /api/dns/records/b.test", &none).await.status, 404);
    let settings = call("GET /api/settings/list", &none).await.data();
    assert_eq!(settings["total"], json!(0));
    assert_eq!(call("GET /api/reload", &none).await.status, 403);
}

#[tokio::test]
async fn a_shared_mailbox_has_members_and_no_login() {
    let site = Site::open().await;
    let new = json!({
        "type": "group", "name": "Support", "emails": ["support@a.test"], "members": ["ann", "bob"],
    });
    let id = site.add(&new).await;
    let shown = site.get(&format!("{PATH}/support")).await;
    assert_eq!(
        (&shown["id"], &shown["type"]),
        (&json!(id), &json!("group"))
    );
    assert_eq!(
        (&shown["members"], &shown["roles"]),
        (&json!(["ann", "bob"]), &json!([]))
    );
    assert_eq!(shown["suspended"], false);
    let groups = site.get(&format!("{PATH}?types=group&fields=name")).await;
    assert_eq!(groups["total"], 1);
    let people = site.get(&format!("{PATH}?types=individual")).await;
    assert_eq!(people["total"], 4);
    let right = |site: &Site, name: &str| {
        let config = site.desk.context.config.load_full();
        config.accounts["support"].right_of(name)
    };
    assert_eq!(right(&site, "ann"), Some(postrider_config::Right::Send));
    let changes = json!([
        {"action": "removeItem", "field": "members", "value": "ann"},
        {"action": "addItem", "field": "members", "value": "app@example.org"},
        {"action": "addItem", "field": "members", "value": "bob"},
        {"action": "removeItem", "field": "members", "value": "nobody"},
    ]);
    assert_eq!(site.patch("support", &changes).await.data(), Value::Null);
    assert_eq!(right(&site, "ann"), None);
    assert_eq!(right(&site, "app"), Some(postrider_config::Right::Send));
    let shown = site.get(&format!("{PATH}/support")).await;
    assert_eq!(shown["members"], json!(["app", "bob"]));
    let item = |action: &str, field: &str, value: &str| json!({"action": action, "field": field, "value": value});
    let wrong = [
        (item("addItem", "members", "nobody"), 404, "notFound"),
        (item("addItem", "members", "support"), 422, "other"),
        (item("addItem", "secrets", "a good password"), 422, "other"),
    ];
    site.refuses("support", wrong).await;
    for call in ["suspend", "unsuspend"] {
        let got = site.call(&format!("POST {PATH}/support/{call}"), "").await;
        assert_eq!(got.error(), (422, "unsupported".to_owned()));
    }
    for (change, word) in [
        (json!({"members": ["nobody"]}), "notFound"),
        (json!({"secrets": ["a good password"]}), "other"),
        (json!({"emails": []}), "fieldMissing"),
    ] {
        let mut new = json!({"type": "group", "name": "other", "emails": ["other@a.test"]});
        let members = new.as_object_mut().unwrap();
        members.extend(change.as_object().unwrap().clone());
        assert_eq!(refused(&site, &new).await["error"], word, "{change}");
    }
    // A member that goes leaves the shared mailbox.
    let got = site.call(&format!("DELETE {PATH}/bob"), "").await;
    assert_eq!(got.status, 200);
    assert_eq!(right(&site, "bob"), None);
}

#[tokio::test]
async fn a_key_with_a_tenant_makes_no_wider_key() {
    let site = Site::open().await;
    let scopes = [Scope::ManageAccounts];
    let tenant = |tenant: &'static str| {
        move |add: &mut postrider_admin::op::keys::Add| {
            add.tenant = tenant.to_owned();
        }
    };
    let key = site.make_key(&scopes, &[], tenant("7")).await;
    let sees = async |key: &str| {
        let got = site
            .with_key(key, &format!("GET {PATH}?types=domain"), "")
            .await;
        got.data()["total"].as_u64().unwrap()
    };
    // A tenant without a domain sees nothing.
    assert_eq!(sees(&key).await, 0);
    let set = json!([{"type": "insert", "prefix": null, "assert_empty": false,
        "values": [["domains.\"a.test\".tenant", "7"]]}]);
    let got = site.call("POST /api/settings", &set.to_string()).await;
    assert_eq!(got.status, 200, "{got:?}");
    assert_eq!(sees(&key).await, 1);
    for (new, status) in [
        (json!({"tenant": 7}), 200),
        (json!({"tenant": "7", "domains": ["a.test"]}), 200),
        (json!({"domains": ["a.test"]}), 200),
        (json!({"domains": ["b.test"]}), 403),
        (json!({"tenant": 8}), 403),
        (json!({}), 403),
        (json!({"tenant": "007"}), 422),
    ] {
        let mut body = json!({"type": "apiKey", "name": "k", "scopes": ["manage-accounts"]});
        body.as_object_mut()
            .unwrap()
            .extend(new.as_object().unwrap().clone());
        let got = site
            .with_key(&key, &format!("POST {PATH}"), &body.to_string())
            .await;
        assert_eq!(got.status, status, "{new}");
    }
}
