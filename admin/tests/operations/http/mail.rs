//! The administrative half of the mailbox API: each call by a platform, by a tenant, and with bad
//! input.

#[path = "mail/refused.rs"]
mod refused;
#[path = "mail/tokens.rs"]
mod tokens;

use std::collections::BTreeSet;

use base64::{Engine, engine::general_purpose::STANDARD};
use postrider_admin::face::mail::{MailApi, describe};
use postrider_receive::login::hash_password;
use postrider_store::{Credential, Scope};
use serde_json::{Value, json};

use super::{Endpoint, Got, Site, TcpListener};
use crate::{Desk, STATICS};

const BASE: &str = "/api/v1/";
/// Two tenants, the first with two domains, and a domain of nobody.
const DOMAINS: &str = "[domains.\"example.org\"]\n\
    [domains.\"a.test\"]\ntenant = 7\nlocalpart_catchall_separators = [\"+\"]\n\
    [domains.\"c.test\"]\ntenant = 7\n[domains.\"b.test\"]\ntenant = \"acme\"\n\
    aliases.team = { addresses = [\"bob@b.test\"] }\n\
    [accounts.app]\ndomain = \"example.org\"\ndestinations.\"app@example.org\" = {}\n\
    [accounts.ann]\ndomain = \"a.test\"\ndestinations.\"ann@a.test\" = {}\n\
    [accounts.bob]\ndomain = \"b.test\"\ndestinations.\"bob@b.test\" = {}\n\
    [accounts.both]\ndomain = \"a.test\"\ndestinations.\"both@a.test\" = {}\n\
    destinations.\"both@b.test\" = {}\n";

/// A server of the mailbox API, with keys of a platform and of the tenant 7.
struct Mail {
    site: Site,
    platform: String,
    tenant: String,
}

impl Mail {
    async fn open(statics: &str) -> Self {
        let statics = format!("{statics}{STATICS}");
        let desk = Desk::with_admin(&statics, DOMAINS);
        for account in ["ann", "bob"] {
            let credential = Credential {
                argon2: hash_password("the password").unwrap(),
                ..Credential::default()
            };
            let store = &desk.context.store;
            store
                .set_credential(account, Some(credential))
                .await
                .unwrap();
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = MailApi::new(desk.context.clone()).router(Endpoint::default(), BASE, false);
        let service = router.into_make_service_with_connect_info::<std::net::SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, service).await });
        let site = Site::at(desk, address);
        let scopes = [Scope::ManageAccounts];
        let platform = site.make_key(&scopes, &[], |_| {}).await;
        let tenant = site
            .make_key(&scopes, &[], |add| add.tenant = "7".to_owned())
            .await;
        Self {
            site,
            platform,
            tenant,
        }
    }

    /// A request `METHOD PATH`, whose path is below the base, with this header line.
    async fn send(&self, request: &str, login: &str, body: &str) -> Got {
        let (method, path) = request.split_once(' ').unwrap();
        let kind = match path.contains("token/") {
            true => "application/x-www-form-urlencoded",
            false => "application/json",
        };
        let headers = format!("{login}\r\nContent-Type: {kind}\r\n");
        let request = format!("{method} {BASE}{path}");
        self.site.send(&request, &headers, body).await
    }

    async fn platform(&self, request: &str, body: Value) -> Got {
        let login = format!("x-service-token: {}", self.platform);
        self.send(request, &login, &text(&body)).await
    }

    async fn tenant(&self, request: &str, body: Value) -> Got {
        let login = format!("Authorization: Bearer {}", self.tenant);
        self.send(request, &login, &text(&body)).await
    }

    async fn id(&self, path: &str) -> u64 {
        let got = self.platform(&format!("GET {path}"), Value::Null).await;
        got.json()["id"].as_u64().unwrap()
    }
}

/// The header line of a login with a name and a password.
fn basic(login: &str) -> String {
    format!("Authorization: Basic {}", STANDARD.encode(login))
}

/// Nothing for null.
fn text(body: &Value) -> String {
    match body {
        Value::Null => String::new(),
        body => body.to_string(),
    }
}

/// The answer, which has this status.
fn answer(got: &Got, status: u16) -> Value {
    let shown = String::from_utf8_lossy(&got.bytes);
    assert_eq!(got.status, status, "{shown}");
    let kind = match status {
        200 | 201 => "content-type: application/json",
        _ => "content-type: application/problem+json",
    };
    assert!(got.headers.contains(kind), "{}", got.headers);
    got.json()
}

/// The words of an error: its fields, or its word.
fn told(got: &Got) -> String {
    let body = got.json();
    assert_eq!(body["status"], got.status, "{body}");
    assert!(
        body["detail"].is_string() && body["title"].is_string(),
        "{body}"
    );
    let errors = body["errors"].as_array().into_iter().flatten();
    let fields: Vec<&str> = errors.map(|it| it["field"].as_str().unwrap()).collect();
    let word = body["error"].as_str().unwrap();
    match (fields.as_slice(), word) {
        ([], word) => word.to_owned(),
        (fields, "other") => fields.join(","),
        (fields, word) => format!("{word} {}", fields.join(",")),
    }
}

/// The names of the items of a list.
fn names(list: &Value, member: &str) -> Vec<String> {
    let items = list["items"].as_array().unwrap().iter();
    items
        .map(|it| it[member].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn a_platform_makes_domains_accounts_and_aliases() {
    let mail = Mail::open("").await;
    let new = json!({"domain": "new.test", "customer_id": 9, "plan": "gold"});
    let domain = answer(&mail.platform("POST mail/domains/", new).await, 201);
    let id = domain["id"].as_u64().unwrap();
    assert_eq!(
        (
            &domain["domain"],
            &domain["customer_id"],
            &domain["disabled"]
        ),
        (&json!("new.test"), &json!(9), &json!(false))
    );
    assert_eq!(
        (&domain["accounts"], &domain["aliases"]),
        (&json!(0), &json!(0))
    );
    let records = domain["dns_records"].as_array().unwrap();
    let mx = records.iter().find(|it| it["type"] == "MX").unwrap();
    assert_eq!(
        (&mx["name"], &mx["priority"]),
        (&json!("new.test."), &json!(10))
    );
    assert_eq!(
        (&mx["content"], &mx["ttl"]),
        (&json!("mail.example.org."), &json!(300))
    );
    let is_key = |it: &&Value| it["name"].as_str().unwrap().contains("._domainkey.");
    assert_eq!(records.iter().filter(is_key).count(), 4);
    for named in [
        id.to_string(),
        "new.test".to_owned(),
        "NEW.test/".to_owned(),
    ] {
        let got = mail
            .platform(&format!("GET mail/domains/{named}"), Value::Null)
            .await;
        assert_eq!(answer(&got, 200), domain);
    }

    let accounts = format!("POST mail/domains/{id}/accounts");
    let new = json!({"local_part": "Jane", "password": "a good one", "quota_mb": 3});
    let jane = answer(&mail.platform(&accounts, new).await, 201);
    assert_eq!(
        (&jane["name"], &jane["email"]),
        (&json!("jane.new.test"), &json!("Jane@new.test"))
    );
    assert_eq!(
        (&jane["quota_mb"], &jane["used_mb"]),
        (&json!(3), &json!(0))
    );
    assert_eq!(jane["suspended"], false);
    assert!(jane["created"].is_string(), "{jane}");
    let config = mail.site.desk.context.config.load_full();
    assert_eq!(config.accounts["jane.new.test"].quota.unwrap().0, 3 << 20);
    let login = basic("Jane@new.test:a good one");
    let got = mail.send("GET mail/domains", &login, "").await;
    assert_eq!(
        got.status, 403,
        "the password is right, and a holder manages nothing"
    );

    let change = json!({"password": "another one", "quota_mb": 0, "full_name": "Jane Doe"});
    let path = format!("mail/accounts/{}", jane["id"]);
    let changed = answer(&mail.platform(&format!("PUT {path}"), change).await, 200);
    assert_eq!(
        (&changed["quota_mb"], &changed["full_name"]),
        (&json!(0), &json!("Jane Doe"))
    );
    assert_eq!(mail.send("GET mail/domains", &login, "").await.status, 401);
    let by_address = mail
        .platform("GET mail/accounts/jane@new.test", Value::Null)
        .await;
    assert_eq!(answer(&by_address, 200), changed);

    let aliases = format!("POST mail/domains/{id}/aliases");
    let new = json!({"source": "info", "destination": "jane@new.test"});
    let info = answer(&mail.platform(&aliases, new).await, 201);
    assert_eq!(info["source"], "info@new.test");
    assert_eq!(info["destination"], json!(["jane@new.test"]));
    let config = mail.site.desk.context.config.load_full();
    let settings = config.domains.values().flat_map(|it| it.aliases.values());
    let made = settings.clone().find(|it| it.post_public).unwrap();
    assert!(made.allow_msg_from && !made.list_members);
    let all = mail
        .platform(&format!("GET mail/domains/{id}/aliases"), Value::Null)
        .await;
    assert_eq!(names(&answer(&all, 200), "source"), ["info@new.test"]);

    for (request, status) in [
        (format!("DELETE mail/domains/{id}"), 409),
        (format!("DELETE {path}"), 409),
        (format!("DELETE mail/aliases/{}", info["id"]), 200),
        (format!("DELETE mail/aliases/{}", info["id"]), 404),
        (format!("DELETE {path}"), 200),
        (format!("DELETE {path}"), 404),
        (format!("DELETE mail/domains/{id}"), 200),
        (format!("DELETE mail/domains/{id}"), 404),
    ] {
        let got = mail.platform(&request, Value::Null).await;
        let body = answer(&got, status);
        match status {
            200 => assert_eq!(body["deleted"], true, "{request}"),
            409 => assert_eq!(body["error"], "inUse", "{request}"),
            _ => assert_eq!(body["error"], "notFound", "{request}"),
        }
    }
}

#[tokio::test]
async fn a_suspended_account_logs_in_nowhere_and_its_queue_may_be_held() {
    let mail = Mail::open("oauth.issuer = true\n").await;
    let basic = basic("ann@a.test:the password");
    let given = mail.send("POST auth/mail-token", &basic, "").await;
    let token = answer(&given, 200)["access_token"]
        .as_str()
        .unwrap()
        .to_owned();
    let bearer = format!("Authorization: Bearer {token}");
    assert_eq!(mail.send("GET mail/domains", &bearer, "").await.status, 403);
    let store = &mail.site.desk.context.store;
    for (call, body, suspended, rules) in [
        ("suspend", json!({}), true, 0),
        ("suspend", json!({"hold_queue": true}), true, 1),
        ("suspend", json!({"hold_queue": true}), true, 1),
        ("unsuspend", Value::Null, false, 0),
        ("unsuspend", Value::Null, false, 0),
    ] {
        let got = mail
            .tenant(&format!("POST mail/accounts/ann/{call}"), body)
            .await;
        assert_eq!(answer(&got, 200)["suspended"], suspended, "{call}");
        assert_eq!(store.hold_rules().await.unwrap().len(), rules, "{call}");
        if suspended {
            assert_eq!(mail.send("GET mail/domains", &basic, "").await.status, 401);
            let got = mail.send("POST auth/mail-token", &basic, "").await;
            answer(&got, 409);
        }
    }
    assert_eq!(mail.send("GET mail/domains", &basic, "").await.status, 403);
    // The token ended with the suspension.
    assert_eq!(mail.send("GET mail/domains", &bearer, "").await.status, 401);
}

#[tokio::test]
async fn a_tenant_sees_nothing_of_others() {
    let mail = Mail::open("").await;
    let list = async |path: &str, member: &str| {
        let got = mail.tenant(&format!("GET {path}"), Value::Null).await;
        names(&answer(&got, 200), member)
    };
    assert_eq!(list("mail/domains", "domain").await, ["a.test", "c.test"]);
    // One of the accounts has an address at a domain of another tenant.
    assert_eq!(list("mail/domains/a.test/accounts", "name").await, ["ann"]);
    let (foreign, account) = (
        mail.id("mail/domains/b.test").await,
        mail.id("mail/accounts/bob").await,
    );
    let all = mail
        .platform("GET mail/domains/b.test/aliases", Value::Null)
        .await;
    let alias = answer(&all, 200)["items"][0]["id"].as_u64().unwrap();
    let new = json!({"local_part": "x", "password": "a good one"});
    for (request, body) in [
        (format!("GET mail/domains/{foreign}"), Value::Null),
        ("GET mail/domains/b.test".to_owned(), Value::Null),
        ("GET mail/domains/b.test/dns".to_owned(), Value::Null),
        (
            "GET mail/domains/example.org/accounts".to_owned(),
            Value::Null,
        ),
        ("POST mail/domains/b.test/accounts".to_owned(), new),
        ("GET mail/domains/b.test/aliases".to_owned(), Value::Null),
        ("POST mail/domains/b.test/aliases".to_owned(), json!({})),
        (format!("GET mail/accounts/{account}"), Value::Null),
        ("GET mail/accounts/bob@b.test".to_owned(), Value::Null),
        ("GET mail/accounts/both".to_owned(), Value::Null),
        (
            "PUT mail/accounts/bob".to_owned(),
            json!({"password": "a good one"}),
        ),
        ("DELETE mail/accounts/bob".to_owned(), Value::Null),
        ("POST mail/accounts/bob/suspend".to_owned(), Value::Null),
        ("POST mail/accounts/bob/unsuspend".to_owned(), Value::Null),
        (format!("DELETE mail/aliases/{alias}"), Value::Null),
        ("DELETE mail/aliases/team@b.test".to_owned(), Value::Null),
    ] {
        let got = mail.tenant(&request, body).await;
        assert_eq!(
            (got.status, told(&got)),
            (404, "notFound".to_owned()),
            "{request}"
        );
    }
    for (request, body) in [
        ("POST mail/domains", json!({"domain": "more.test"})),
        ("DELETE mail/domains/c.test", Value::Null),
    ] {
        assert_eq!(mail.tenant(request, body).await.status, 403, "{request}");
    }
    // A local address of somebody else is not local for this tenant.
    let new = json!({"source": "info", "destination": ["ann@a.test", "bob@b.test"]});
    let got = mail.tenant("POST mail/domains/a.test/aliases", new).await;
    assert_eq!(told(&got), "externalDestination destination");
    // A domain that the tenant gets later is there at once.
    let new = json!({"domain": "later.test", "customer_id": "7"});
    let made = mail.platform("POST mail/domains", new).await;
    assert_eq!(answer(&made, 201)["customer_id"], 7);
    assert_eq!(
        list("mail/domains", "domain").await,
        ["a.test", "c.test", "later.test"]
    );
}

/// Each call of the description is answered by something that knows it.
#[tokio::test]
async fn each_call_of_the_description_is_there() {
    let mail = Mail::open("oauth.issuer = true\n").await;
    let described = describe(BASE, true, std::iter::empty());
    let mut seen = BTreeSet::new();
    for (path, operations) in &described.paths {
        for method in operations.as_object().unwrap().keys() {
            let path = path.strip_prefix(BASE).unwrap().replace("{id}", "absent");
            let request = format!("{} {path}", method.to_uppercase());
            let got = mail.platform(&request, Value::Null).await;
            let no_call = format!("there is no call {}", method.to_uppercase());
            let detail = got.json()["detail"].as_str().unwrap_or_default().to_owned();
            assert!(!detail.starts_with(&no_call), "{request} {detail}");
            seen.insert(request);
        }
    }
    assert_eq!(seen.len(), 19, "{seen:?}");
}
