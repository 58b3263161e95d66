//! App passwords, one-time codes and hashes of passwords.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use postrider_admin::op::{
    Single, audit, config::accounts::Suspend, credentials, login_attempts, passwords,
};
use postrider_observe::metrics::{LoginMechanism, LoginResult, LoginService};
use postrider_receive::login::{PasswordCheck, Source, otp_code, parse_otp};
use serde_json::{Value, json};
use tracing_subscriber::layer::SubscriberExt;

use super::Site;

const AUTH: &str = "GET /api/account/auth";
const CHANGE: &str = "POST /api/account/auth";
const URL: &str = "otpauth://totp/ann?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
/// A hash of "correct horse battery staple" that another program made.
const HASH: &str = "$argon2id$v=19$m=65536,t=3,p=4$MIIRqgvgQbgj220jfp0MPA$\
                    YfwJSVjtjSU0zzV/P3S9nnQ/USre2wvJMjfCIjrTQbg";

fn login(password: &str) -> String {
    let text = STANDARD.encode(format!("ann@a.test:{password}"));
    format!("Authorization: Basic {text}\r\n")
}

impl Site {
    async fn with_password(&self) -> &Self {
        let set = passwords::Set {
            account: "ann".to_owned(),
            password: "battery staple".to_owned(),
        };
        set.answer(&self.desk.context).await.unwrap();
        self
    }

    /// The result of a login of ann over SMTP or to the webapi.
    async fn checks(&self, password: &str) -> PasswordCheck {
        let source = Source {
            limiter: self.desk.context.limiter.clone(),
            ip: [192, 0, 2, 1].into(),
            behind_proxy: false,
            now: self.now(),
        };
        let logins = &self.desk.context.logins;
        let check = logins.verify("ann@a.test", Some("ann"), password, &source);
        check.await.unwrap()
    }

    /// The code that is shown now.
    fn code(&self) -> String {
        let step = u64::try_from(self.now().0 / 30_000_000).unwrap();
        otp_code(&parse_otp(URL).unwrap(), step).unwrap()
    }

    /// The lines of the log about logins, the oldest first.
    fn logins(&self) -> Vec<String> {
        let lines = self.desk.context.logs.newest(None);
        let logins = lines.iter().rev().map(|(_, line)| line);
        let logins = logins.filter(|line| line.message.starts_with("login"));
        logins
            .map(|line| format!("{}: {}", line.message, line.details()))
            .collect()
    }

    async fn secrets(&self) -> Value {
        let mut ann = self.get("/api/principal/ann").await;
        ann.get_mut("secrets").map(Value::take).unwrap()
    }

    async fn patch_secrets(&self, action: &str, value: Value) -> super::Got {
        let change = json!([{"action": action, "field": "secrets", "value": value}]);
        self.call("PATCH /api/principal/ann", &change.to_string())
            .await
    }
}

#[tokio::test]
async fn app_passwords_come_and_go_and_log_in() {
    let site = Site::open().await;
    site.with_password().await;
    let changes = json!([
        {"type": "addAppPassword", "name": "phone", "password": "a password of the phone"},
        {"type": "addAppPassword", "name": "phablet", "password": "another password here"},
    ])
    .to_string();
    let got = site.send(CHANGE, &login("battery staple"), &changes).await;
    assert_eq!(got.data(), Value::Null);
    let shown = json!({"otpEnabled": false, "appPasswords": ["phone", "phablet"]});
    let phone = login("a password of the phone");
    assert_eq!(site.send(AUTH, &phone, "").await.data(), shown);
    assert_eq!(
        site.secrets().await,
        json!(["$app$phone$", "$app$phablet$"])
    );
    assert_eq!(
        site.checks("a password of the phone").await,
        PasswordCheck::Right
    );
    // The same again is no error. Another password under the same name is.
    let got = site.send(CHANGE, &login("battery staple"), &changes).await;
    assert_eq!(got.status, 200);
    let other = changes.replace("of the phone", "of a thief");
    let got = site.send(CHANGE, &login("battery staple"), &other).await;
    assert_eq!(got.error(), (409, "fieldAlreadyExists".to_owned()));
    // An app password changes nothing.
    let remove = json!([{"type": "removeAppPassword", "name": "phone"}]).to_string();
    let got = site.send(CHANGE, &phone, &remove).await;
    assert_eq!(got.error(), (422, "other".to_owned()));
    // A key of the account may change app passwords, and no password.
    let key = site
        .make_key(&[postrider_store::Scope::ManageAccounts], &[], |add| {
            add.account = "ann".to_owned();
        })
        .await;
    assert_eq!(
        site.with_key(&key, CHANGE, &remove).await.data(),
        Value::Null
    );
    let set = json!([{"type": "setPassword", "password": "something new"}]).to_string();
    let got = site.with_key(&key, CHANGE, &set).await;
    assert_eq!(got.error(), (422, "other".to_owned()));
    assert_eq!(site.send(AUTH, &phone, "").await.status, 401);
    assert_eq!(site.secrets().await, json!(["$app$phablet$"]));
    let all = json!([{"type": "removeAppPassword"}]).to_string();
    let got = site.send(CHANGE, &login("battery staple"), &all).await;
    assert_eq!(got.data(), Value::Null);
    assert_eq!(site.secrets().await, json!([]));
    for (wrong, status, word) in [
        (
            json!({"type": "addAppPassword", "name": "x", "password": "too short"}),
            422,
            "other",
        ),
        (
            json!({"type": "addAppPassword", "name": "a$b", "password": "long enough for this"}),
            422,
            "other",
        ),
        (
            json!({"type": "addAppPassword", "name": "x", "password": "$6$salt$hash-of-a-password"}),
            422,
            "unsupported",
        ),
        (
            json!({"type": "addAppPassword", "password": "long enough for this"}),
            422,
            "fieldMissing",
        ),
        (json!({"type": "nothing"}), 400, "other"),
    ] {
        let good =
            json!({"type": "addAppPassword", "name": "good", "password": "long enough for this"});
        let body = json!([good, wrong]).to_string();
        let got = site.send(CHANGE, &login("battery staple"), &body).await;
        assert_eq!(got.error(), (status, word.to_owned()), "{wrong}");
    }
    assert_eq!(site.secrets().await, json!([]));
}

#[tokio::test]
async fn with_codes_a_login_needs_the_next_code() {
    let site = Site::open().await;
    site.with_password().await;
    let (main, enable) = (
        login("battery staple"),
        json!([
            {"type": "enableOtpAuth", "url": URL},
            {"type": "addAppPassword", "name": "phone", "password": "a password of the phone"},
        ]),
    );
    let enable = enable.to_string();
    assert_eq!(site.send(CHANGE, &main, &enable).await.data(), Value::Null);
    let shown = json!({"otpEnabled": true, "appPasswords": ["phone"]});
    let got = site.send(AUTH, &main, "").await;
    assert_eq!(got.status, 402);
    assert_eq!(got.json()["error"], json!("other"));
    let with_code = || login(&format!("battery staple${}", site.code()));
    assert_eq!(site.send(AUTH, &with_code(), "").await.data(), shown);
    // A code is taken once.
    assert_eq!(site.send(AUTH, &with_code(), "").await.status, 401);
    let wrong = login("battery staple$000000");
    assert_eq!(site.send(AUTH, &wrong, "").await.status, 401);
    let phone = login("a password of the phone");
    assert_eq!(site.send(AUTH, &phone, "").await.data(), shown);
    assert_eq!(site.checks("battery staple").await, PasswordCheck::TooWeak);
    assert_eq!(
        site.checks("a password of the phone").await,
        PasswordCheck::Right
    );
    assert_eq!(site.secrets().await, json!(["$app$phone$", "otpauth://"]));
    // Another URL ends nothing. This one does.
    let disable = |url: &str| json!([{"type": "disableOtpAuth", "url": url}]).to_string();
    let other = URL.replace("GEZD", "GEZE");
    for (url, enabled) in [(other.as_str(), true), (URL, false)] {
        site.desk.clock.advance(Duration::from_secs(30));
        let got = site.send(CHANGE, &with_code(), &disable(url)).await;
        assert_eq!(got.data(), Value::Null);
        let shown = site.send(AUTH, &phone, "").await.data();
        assert_eq!(shown["otpEnabled"], json!(enabled), "{url}");
    }
    assert_eq!(site.checks("battery staple").await, PasswordCheck::Right);
    for url in ["", "https://x", "otpauth://totp/x"] {
        let bad = json!([{"type": "enableOtpAuth", "url": url}]).to_string();
        assert_eq!(site.send(CHANGE, &main, &bad).await.status, 422, "{url}");
    }
}

#[tokio::test]
async fn secrets_of_a_principal_are_set_added_and_removed() {
    let site = Site::open().await;
    site.with_password().await;
    let app = |name: &str| format!("$app${name}$a password for {name}");
    let new = json!([app("phone"), app("phablet"), app("tv"), URL]);
    assert_eq!(site.patch_secrets("addItem", new).await.data(), Value::Null);
    let all = json!(["$app$phone$", "$app$phablet$", "$app$tv$", "otpauth://"]);
    assert_eq!(site.secrets().await, all);
    let got = site.patch_secrets("removeItem", json!("$app$nobody")).await;
    assert_eq!(got.data(), Value::Null);
    // As a client that knows what is shown sends it back, with a change.
    let kept = json!(["$app$tv$", "$app$phone$", "otpauth://", "a new password"]);
    assert_eq!(site.patch_secrets("set", kept).await.data(), Value::Null);
    let shown = json!(["$app$phone$", "$app$tv$", "otpauth://"]);
    assert_eq!(site.secrets().await, shown);
    assert_eq!(
        site.checks("a password for phone").await,
        PasswordCheck::Right
    );
    assert_eq!(
        site.checks("a password for phablet").await,
        PasswordCheck::Wrong
    );
    assert_eq!(site.checks("a new password").await, PasswordCheck::TooWeak);
    // What begins so.
    let add = site.patch_secrets("addItem", json!(app("phablet"))).await;
    assert_eq!(add.data(), Value::Null);
    let got = site.patch_secrets("removeItem", json!("$app$ph")).await;
    assert_eq!(got.data(), Value::Null);
    assert_eq!(site.secrets().await, json!(["$app$tv$", "otpauth://"]));
    // The hash of a password is taken as one. All but the password goes.
    let got = site.patch_secrets("addItem", json!(HASH)).await;
    assert_eq!(got.data(), Value::Null);
    let got = site.patch_secrets("removeItem", json!("")).await;
    assert_eq!(got.data(), Value::Null);
    assert_eq!(site.secrets().await, json!([]));
    assert_eq!(
        site.checks("correct horse battery staple").await,
        PasswordCheck::Right
    );
    let costly = HASH.replace("65536", "4194304");
    for (action, value, status, word) in [
        ("addItem", json!("$6$salt$hash"), 422, "unsupported"),
        ("addItem", json!("{SSHA}x"), 422, "unsupported"),
        ("addItem", json!(costly), 422, "other"),
        ("addItem", json!("$app$x$"), 422, "other"),
        ("addItem", json!("$app$x"), 422, "other"),
        ("addItem", json!("short"), 422, "other"),
        (
            "addItem",
            json!("otpauth://totp/x?secret=AAAA"),
            422,
            "other",
        ),
        ("set", json!(["$app$unknown$"]), 422, "other"),
        ("set", json!(["otpauth://"]), 422, "other"),
        (
            "set",
            json!(["one password", "two passwords"]),
            422,
            "other",
        ),
        ("removeItem", json!("a password"), 422, "other"),
    ] {
        // With a change of the file before it: all or nothing.
        let first = json!({"action": "set", "field": "description", "value": "Changed"});
        let wrong = json!({"action": action, "field": "secrets", "value": value});
        let body = json!([first, wrong]).to_string();
        let got = site.call("PATCH /api/principal/ann", &body).await;
        assert_eq!(got.error(), (status, word.to_owned()), "{wrong}");
    }
    let many: Vec<String> = (0..51)
        .map(|n| format!("$app$n{n}$long enough for all"))
        .collect();
    let got = site.patch_secrets("addItem", json!(many)).await;
    assert_eq!(got.error(), (422, "other".to_owned()));
    assert_eq!(site.secrets().await, json!([]));
    let ann = site.get("/api/principal/ann").await;
    assert_eq!(ann["description"], json!(""));
}

#[tokio::test]
async fn a_new_account_has_its_secrets() {
    let site = Site::open().await;
    let list = json!({"type": "list", "name": "team@a.test", "members": ["ann"]});
    let got = site.call("POST /api/principal", &list.to_string()).await;
    assert_eq!(got.status, 200);
    let new = json!({
        "type": "individual", "name": "eve", "emails": ["eve@a.test"], "lists": ["team@a.test"],
        "urls": ["https://a.test/eve"], "secrets": [HASH, "$app$phone$a password of the phone", URL],
    });
    let got = site.call("POST /api/principal", &new.to_string()).await;
    assert_eq!(got.status, 200, "{:?}", got.json());
    let eve = site.get("/api/principal/eve").await;
    assert_eq!(eve["secrets"], json!(["$app$phone$", "otpauth://"]));
    assert_eq!(eve["lists"], json!(["team@a.test"]));
    assert_eq!(eve["urls"], json!(["https://a.test/eve"]));
    let unsupported = json!({
        "type": "individual", "name": "max", "emails": ["max@a.test"], "secrets": ["$6$salt$hash"],
    });
    let got = site
        .call("POST /api/principal", &unsupported.to_string())
        .await;
    assert_eq!(got.error(), (422, "unsupported".to_owned()));
    assert_eq!(site.call("GET /api/principal/max", "").await.status, 404);
    // An account of the same name that comes later has none of it.
    assert_eq!(site.call("DELETE /api/principal/eve", "").await.status, 200);
    let plain = json!({"type": "individual", "name": "eve", "emails": ["eve@a.test"]});
    let got = site.call("POST /api/principal", &plain.to_string()).await;
    assert_eq!(got.status, 200);
    assert_eq!(site.get("/api/principal/eve").await["secrets"], json!([]));
}

#[tokio::test]
async fn the_audit_log_has_changes_of_secrets_without_them() {
    let site = Site::open().await;
    site.with_password().await;
    let context = &site.desk.context;
    let add = credentials::AddAppPassword {
        account: "ann".to_owned(),
        name: "made".to_owned(),
    };
    let made = add.clone().answer(context).await.unwrap().password;
    assert_eq!(site.checks(&made).await, PasswordCheck::Right);
    let again = add.answer(context).await.unwrap_err();
    assert_eq!(again.field.as_deref(), Some("name"));
    let secrets = json!(["a new password", "$app$given$a password that is given", URL]);
    assert_eq!(site.patch_secrets("addItem", secrets).await.status, 200);
    let remove = credentials::RemoveAppPassword {
        account: "ann".to_owned(),
        name: "made".to_owned(),
    };
    remove.answer(context).await.unwrap();
    let listed = credentials::ListAppPasswords { account: None };
    let listed = site.desk.list(listed).await;
    let [given] = listed.as_slice() else {
        panic!("{listed:?}")
    };
    assert_eq!(
        (given.account.as_str(), given.name.as_str()),
        ("ann", "given")
    );
    assert_eq!(given.last_used, None);
    let entries = site.desk.list(audit::List::default()).await;
    let text = format!("{entries:?}");
    for secret in ["a new password", "that is given", "GEZDGNBV", made.as_str()] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    let change = entries
        .iter()
        .find(|it| it.operation == "credential.change");
    assert_eq!(
        change.unwrap().after,
        json!({"password": "****", "otp": "****", "app_passwords_added": {"given": "****"}})
    );
    let codes = credentials::DisableOtp {
        account: "ann".to_owned(),
    };
    codes.clone().answer(context).await.unwrap();
    assert!(codes.answer(context).await.is_err());
    let enable = credentials::EnableOtp {
        account: "ann".to_owned(),
        url: None,
    };
    let url = enable.clone().answer(context).await.unwrap().url;
    assert!(parse_otp(&url).is_ok() && enable.answer(context).await.is_err());
}

/// The line of a login and its count say the same.
#[tokio::test]
async fn a_login_has_one_result() {
    let site = Site::open().await;
    site.with_password().await;
    let layer = site.desk.context.logs.layer();
    let logging = tracing_subscriber::registry().with(layer);
    let _logging = tracing::subscriber::set_default(logging);
    let basic = |name: &str| {
        let text = STANDARD.encode(format!("{name}:battery staple"));
        format!("Authorization: Basic {text}\r\n")
    };
    let ann = basic("ann@a.test");
    let refused = async |headers: &str, status: u16| {
        assert_eq!(site.send(AUTH, headers, "").await.status, status);
    };
    assert_eq!(site.send(AUTH, &ann, "").await.status, 200);
    refused(&basic("admin"), 401).await;
    // Some clients send a secret in the place of the name.
    refused(&basic("prk_1_AAAA"), 401).await;
    refused("Authorization: Bearer x\r\n", 401).await;
    let wrong = format!("Authorization: Bearer {}\r\n", site.wrong_key());
    refused(&wrong, 401).await;
    let codes = json!([{"type": "enableOtpAuth", "url": URL}]).to_string();
    assert_eq!(site.send(CHANGE, &ann, &codes).await.status, 200);
    refused(&ann, 402).await;
    let suspend = Suspend {
        account: "ann".to_owned(),
        message: None,
    };
    suspend.answer(&site.desk.context).await.unwrap();
    let with_code = login(&format!("battery staple${}", site.code()));
    refused(&with_code, 401).await;

    let by = |service: &str| format!("service = {service}, remote = 127.0.0.1");
    let (of_ann, admin) = (by("account"), by("admin"));
    let right =
        format!("login: {of_ann}, login = ann@a.test, account = ann@a.test, mechanism = basic");
    assert_eq!(
        site.logins(),
        [
            right.clone(),
            format!("login refused: {admin}, login = admin, mechanism = basic, reason = wrong"),
            format!("login refused: {of_ann}, mechanism = basic, reason = wrong"),
            format!("login refused: {admin}, mechanism = bearer, reason = malformed"),
            format!("login refused: {admin}, mechanism = bearer, reason = wrong"),
            right,
            format!(
                "login refused: {of_ann}, login = ann@a.test, mechanism = basic, reason = weak"
            ),
            format!(
                "login refused: {of_ann}, login = ann@a.test, mechanism = basic, reason = disabled"
            ),
        ]
    );
    let metrics = &site.desk.context.metrics;
    for (service, result, count) in [
        (LoginService::Account, LoginResult::Ok, 2),
        (LoginService::Account, LoginResult::Wrong, 1),
        (LoginService::Account, LoginResult::Weak, 1),
        (LoginService::Account, LoginResult::Disabled, 1),
        (LoginService::Admin, LoginResult::Wrong, 2),
        (LoginService::Admin, LoginResult::Malformed, 1),
    ] {
        let found = metrics.authentications_total.with((service, result)).get();
        assert_eq!(found, count, "{service:?} {result:?}");
    }
    let mechanisms = &metrics.authentication_mechanisms_total;
    assert_eq!(mechanisms.with(LoginMechanism::Basic).get(), 2);

    let noted = site.desk.list(login_attempts::List::default()).await;
    let row = |it: &login_attempts::LoginItem| {
        let (kind, service) = (&it.kind, &it.service);
        format!(
            "{kind} {service} {} {} {}",
            it.mechanism, it.result, it.count
        )
    };
    let mut rows: Vec<_> = noted.iter().map(row).collect();
    rows.sort();
    assert_eq!(
        rows,
        [
            "account account basic disabled 1",
            "account account basic ok 2",
            "account account basic weak 1",
            "admin admin basic wrong 1",
            "admin admin bearer malformed 1",
            "admin admin bearer wrong 1",
            "nobody account basic wrong 1",
        ]
    );

    // The limiter refuses what is not checked any more.
    for _ in 0..200 {
        if site.send(AUTH, &basic("admin"), "").await.status == 429 {
            break;
        }
    }
    let limited = format!("logins limited: {admin}, login = admin, mechanism = basic");
    assert_eq!(site.logins().last(), Some(&limited));
    let limited = (LoginService::Admin, LoginResult::Limited);
    assert_eq!(metrics.authentications_total.with(limited).get(), 1);
}
