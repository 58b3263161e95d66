//! All changes of a principal at once, lists, and the removal of many principals.

use postrider_admin::op::{Single, audit, config::principals::RemoveAll, principals::Kind};
use postrider_store::Scope;
use serde_json::{Value, json};

use super::Site;

const PATH: &str = "/api/principal";

#[tokio::test]
async fn a_list_changes_its_name_address_and_members_and_keeps_its_number() {
    let site = Site::open().await;
    let new = json!({
        "type": "list", "name": "Team", "emails": ["team@a.test"], "members": ["ann", "bob"],
        "description": "The team", "urls": ["https://a.test/team"],
    });
    let id = site.add(&new).await;
    let mut expected = json!({
        "id": id, "type": "list", "name": "team", "description": "The team",
        "emails": ["team@a.test"], "quota": 0, "usedQuota": 0, "roles": [], "memberOf": [],
        "lists": [], "members": ["ann", "bob"], "secrets": [], "urls": ["https://a.test/team"],
        "suspended": false, "scopes": [], "domains": [],
    });
    for name in ["team", "team%40a.test", &id.to_string()] {
        assert_eq!(
            site.get(&format!("{PATH}/{name}")).await,
            expected,
            "{name}"
        );
    }
    assert_eq!(
        site.get(&format!("{PATH}/ann")).await["lists"],
        json!(["team"])
    );
    let app = site.get(&format!("{PATH}/app")).await["id"].take();
    let changes = json!([
        {"action": "set", "field": "name", "value": "Crew"},
        {"action": "set", "field": "description", "value": "The crew"},
        {"action": "set", "field": "emails", "value": ["crew@b.test"]},
        {"action": "addItem", "field": "members", "value": app.to_string()},
        {"action": "addItem", "field": "members", "value": "ann@a.test"},
        {"action": "removeItem", "field": "members", "value": "bob@b.test"},
        {"action": "removeItem", "field": "members", "value": "nobody"},
        {"action": "removeItem", "field": "urls", "value": "https://a.test/team"},
        {"action": "addItem", "field": "urls", "value": "https://b.test/crew"},
    ]);
    assert_eq!(site.patch("team", &changes).await.data(), Value::Null);
    expected["name"] = json!("crew");
    expected["description"] = json!("The crew");
    expected["emails"] = json!(["crew@b.test"]);
    expected["members"] = json!(["ann", "app"]);
    expected["urls"] = json!(["https://b.test/crew"]);
    assert_eq!(site.get(&format!("{PATH}/crew")).await, expected);
    assert_eq!(site.get(&format!("{PATH}/{id}")).await, expected);
    let other = json!({"type": "list", "name": "other@a.test", "members": ["ann"]});
    site.add(&other).await;
    let wrong = [
        (
            json!({"action": "set", "field": "name", "value": "other@a.test"}),
            409,
            "fieldAlreadyExists",
        ),
        (
            json!({"action": "set", "field": "name", "value": "77"}),
            422,
            "other",
        ),
        (
            json!({"action": "set", "field": "name", "value": ""}),
            422,
            "fieldMissing",
        ),
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
            json!({"action": "addItem", "field": "emails", "value": "second@a.test"}),
            422,
            "other",
        ),
        (
            json!({"action": "set", "field": "members", "value": []}),
            422,
            "other",
        ),
        (
            json!({"action": "set", "field": "members", "value": ["nobody"]}),
            404,
            "notFound",
        ),
        (
            json!({"action": "set", "field": "secrets", "value": ["a password"]}),
            422,
            "other",
        ),
        (
            json!({"action": "set", "field": "quota", "value": 1}),
            422,
            "other",
        ),
        (
            json!({"action": "set", "field": "memberOf", "value": ["x"]}),
            422,
            "unsupported",
        ),
    ];
    site.refuses("crew", wrong).await;
    let nothing = json!([
        {"action": "set", "field": "memberOf", "value": []},
        {"action": "set", "field": "picture", "value": ""},
        {"action": "addItem", "field": "members", "value": "ann"},
    ]);
    assert_eq!(site.patch("crew", &nothing).await.data(), Value::Null);
    assert_eq!(site.get(&format!("{PATH}/crew")).await, expected);
    let request = format!("DELETE {PATH}/crew");
    assert_eq!(site.call(&request, "").await.data(), Value::Null);
    assert_eq!(
        site.get(&format!("{PATH}/ann")).await["lists"],
        json!(["other@a.test"])
    );
}

#[tokio::test]
async fn an_account_joins_and_leaves_lists() {
    let site = Site::open().await;
    for (name, members) in [
        ("one@a.test", json!(["ann"])),
        ("two@a.test", json!(["ann", "bob"])),
    ] {
        site.add(&json!({"type": "list", "name": name, "members": members}))
            .await;
    }
    let lists = async |name: &str| site.get(&format!("{PATH}/{name}")).await["lists"].take();
    let change =
        |action: &str, value: Value| json!([{"action": action, "field": "lists", "value": value}]);
    let got = site
        .patch("bob", &change("addItem", json!("one@a.test")))
        .await;
    assert_eq!(got.data(), Value::Null);
    assert_eq!(lists("bob").await, json!(["one@a.test", "two@a.test"]));
    let got = site
        .patch("bob", &change("addItem", json!("two@a.test")))
        .await;
    assert_eq!(got.data(), Value::Null);
    let got = site.patch("ann", &change("set", json!([]))).await;
    assert_eq!(got.data(), Value::Null);
    assert_eq!(lists("ann").await, json!([]));
    // The last member stays, and the other list too.
    let got = site.patch("bob", &change("set", json!([]))).await;
    assert_eq!(got.error(), (422, "other".to_owned()));
    assert_eq!(lists("bob").await, json!(["one@a.test", "two@a.test"]));
    let got = site
        .patch("bob", &change("addItem", json!("no@a.test")))
        .await;
    assert_eq!(got.error(), (404, "notFound".to_owned()));
    let got = site
        .patch("bob", &change("removeItem", json!("no@a.test")))
        .await;
    assert_eq!(got.data(), Value::Null);
    // An address that goes leaves its lists as well. The new address may join at once.
    let changes = json!([
        {"action": "set", "field": "emails", "value": ["ann@b.test"]},
        {"action": "addItem", "field": "lists", "value": "one@a.test"},
    ]);
    assert_eq!(site.patch("ann", &changes).await.data(), Value::Null);
    let ann = site.get(&format!("{PATH}/ann")).await;
    assert_eq!(
        (&ann["emails"], &ann["lists"]),
        (&json!(["ann@b.test"]), &json!(["one@a.test"]))
    );
    let many: Vec<Value> = (0..1001)
        .map(|_| json!({"action": "set", "field": "description", "value": "x"}))
        .collect();
    assert_eq!(site.patch("ann", &json!(many)).await.status, 400);
}

#[tokio::test]
async fn a_tenant_sees_and_changes_no_memberships_of_others() {
    let site = Site::open().await;
    for (name, members) in [
        ("in@a.test", json!(["ann", "bob"])),
        ("out@b.test", json!(["ann", "bob"])),
    ] {
        site.add(&json!({"type": "list", "name": name, "members": members}))
            .await;
    }
    let key = site
        .make_key(&[Scope::ManageAccounts], &["a.test"], |_| {})
        .await;
    let ann = site.with_key(&key, &format!("GET {PATH}/ann"), "").await;
    assert_eq!(ann.data()["lists"], json!(["in@a.test"]));
    let list = site
        .with_key(&key, &format!("GET {PATH}/in%40a.test"), "")
        .await;
    assert_eq!(list.data()["members"], json!(["ann"]));
    let set = async |name: &str, field: &str, value: Value, status: u16| {
        let changes = json!([{"action": "set", "field": field, "value": value}]).to_string();
        let got = site
            .with_key(&key, &format!("PATCH {PATH}/{name}"), &changes)
            .await;
        assert_eq!(got.status, status, "{field} {value}");
    };
    set("ann", "lists", json!(["out@b.test"]), 404).await;
    set("in%40a.test", "members", json!(["bob"]), 404).await;
    set("in%40a.test", "emails", json!(["in@b.test"]), 404).await;
    set("ann", "lists", json!([]), 200).await;
    assert_eq!(
        site.get(&format!("{PATH}/ann")).await["lists"],
        json!(["out@b.test"])
    );
    assert_eq!(
        site.get(&format!("{PATH}/in%40a.test")).await["members"],
        json!(["bob"])
    );
}

#[tokio::test]
async fn many_principals_are_removed_all_or_none() {
    let site = Site::open().await;
    for name in ["test1", "test2", "other"] {
        let emails = [format!("{name}@a.test")];
        site.add(&json!({"type": "individual", "name": name, "emails": emails}))
            .await;
    }
    let list = json!({"type": "list", "name": "l@a.test", "members": ["test1", "test2", "ann"]});
    site.add(&list).await;
    let remove = async |query: &str| site.call(&format!("DELETE {PATH}{query}"), "").await;
    for query in [
        "",
        "?confirm=true",
        "?type=individual",
        "?type=individual&confirm=no",
        "?type=nothing&confirm=true",
        "?type=individual&filter=&confirm=true",
        "?type=individual&filtre=test&confirm=true",
    ] {
        assert_eq!(remove(query).await.status, 400, "{query}");
    }
    let none = remove("?type=individual&filter=nobody&confirm=true").await;
    assert_eq!(none.data(), json!(false));
    // The account of the postmaster is one of them.
    let all = remove("?type=individual&confirm=true").await;
    assert_eq!(all.error(), (422, "other".to_owned()));
    let count = async |kind: &str| {
        let path = format!("{PATH}?types={kind}&count=1");
        site.get(&path).await["total"].take()
    };
    assert_eq!(count("individual").await, json!(7));
    // A list would have no member.
    let pair = json!({"type": "list", "name": "p@a.test", "members": ["test1", "test2"]});
    site.add(&pair).await;
    let query = "?type=individual&filter=test&confirm=true";
    let domain = remove("?type=individual&filter=test%201&confirm=true").await;
    assert_eq!(domain.data(), json!(true));
    let again = json!({"type": "individual", "name": "test1", "emails": ["test1@a.test"]});
    site.add(&again).await;
    let both = json!([{"action": "addItem", "field": "members", "value": "test1"}]);
    assert_eq!(site.patch("p%40a.test", &both).await.status, 200);
    assert_eq!(
        remove("?type=individual&filter=test1&confirm=true")
            .await
            .data(),
        json!(true)
    );
    let last = remove("?type=individual&filter=test2&confirm=true").await;
    assert_eq!(last.error(), (422, "other".to_owned()));
    assert_eq!(count("individual").await, json!(6));
    assert_eq!(
        remove("?types=individual,list&filter=p%40a.test&confirm=true")
            .await
            .data(),
        json!(true)
    );
    assert_eq!(remove(query).await.error(), (422, "other".to_owned()));
    assert_eq!(
        remove("?type=individual&filter=test2&confirm=true")
            .await
            .data(),
        json!(true)
    );
    assert_eq!(
        site.get(&format!("{PATH}/l%40a.test")).await["members"],
        json!(["ann"])
    );
    let entries = audit::List {
        operation: Some("principal.remove_all".to_owned()),
        ..audit::List::default()
    };
    let entries = site.desk.list(entries).await;
    let last = entries.first().unwrap();
    assert_eq!(last.target, "individual test2");
    assert_eq!(
        last.after,
        json!({"type": ["individual"], "filter": "test2", "count": 1})
    );
    assert!(entries.iter().any(|it| it.outcome.contains("postmaster")));
}

#[tokio::test]
async fn too_many_principals_are_not_removed_at_once() {
    let site = Site::open().await;
    let remove = RemoveAll {
        accounts: (0..1001).map(|n| n.to_string()).collect(),
        lists: Vec::new(),
        domains: Vec::new(),
        keys: Vec::new(),
        kinds: vec![Kind::Individual],
        filter: String::new(),
    };
    let refused = remove.answer(&site.desk.context).await.unwrap_err();
    assert_eq!(refused.field.as_deref(), Some("filter"));
}

#[tokio::test]
async fn a_tenant_removes_only_its_own() {
    let site = Site::open().await;
    let key = site
        .make_key(&[Scope::ManageAccounts], &["b.test"], |_| {})
        .await;
    let remove = async |query: &str| {
        let request = format!("DELETE {PATH}?{query}&confirm=true");
        site.with_key(&key, &request, "").await
    };
    assert_eq!(remove("type=domain").await.status, 403);
    assert_eq!(
        remove("type=individual&filter=ann").await.data(),
        json!(false)
    );
    assert_eq!(remove("type=individual,list").await.data(), json!(true));
    let left = site
        .get(&format!("{PATH}?types=individual&fields=name"))
        .await;
    let names: Vec<&str> = left["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["name"].as_str().unwrap())
        .collect();
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(!names.contains(&"bob"), "{names:?}");
    // Keys too, and the domain when nobody is there any more.
    let keys = site
        .call(
            &format!("DELETE {PATH}?type=apiKey&filter=tool&confirm=true"),
            "",
        )
        .await;
    assert_eq!(keys.data(), json!(true));
    assert_eq!(remove("type=list").await.status, 401);
}
