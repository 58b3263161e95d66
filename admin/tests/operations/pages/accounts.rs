//! The pages of accounts, and how they log in.

use std::time::Duration;

use postrider_admin::op::{credentials::ListAppPasswords, keys};
use postrider_store::{LoginAttempt, LoginAttemptId, LoginOf};

use super::{PASSWORD, Seen, Visitor};

/// The secret that a page shows.
fn secret(page: &Seen) -> String {
    let begin = "shown this once only.</p>";
    let rest = page
        .html
        .split(begin)
        .nth(1)
        .unwrap_or_else(|| panic!("{}", page.html));
    let code = rest.split("<code>").nth(1).unwrap();
    code.split("</code>").next().unwrap().to_owned()
}

#[tokio::test]
async fn an_account_is_added_disabled_and_removed() {
    let visitor = Visitor::admin().await;
    let list = visitor.get("/admin/accounts").await;
    assert_eq!(list.rows().len(), 4, "{}", list.html);
    let form = visitor.get("/admin/accounts/@new").await;
    let fields = [("account", "eve"), ("address", "eve@nowhere.test")];
    let again = visitor.send(&form, "/admin/accounts/@new", &fields).await;
    assert_eq!(again.status, 422, "{}", again.text());
    let fields = [
        ("account", "eve"),
        ("address", "eve@a.test"),
        ("period", "168h"),
    ];
    let added = visitor.act(&form, "/admin/accounts/@new", &fields).await;
    assert!(added.text().contains("Password of eve"), "{}", added.text());

    let config = visitor.desk.context.config.load_full();
    let period = config.accounts["eve"].keep_retired_message_period;
    assert_eq!(period, Duration::from_hours(168));

    let path = "/admin/accounts/eve/suspend";
    let ask = visitor.get(path).await;
    let off = visitor.act(&ask, path, &[]).await;
    assert!(off.text().contains("Nobody can log in"), "{}", off.text());
    let on = visitor
        .act(&off, "/admin/accounts/eve/unsuspend", &[])
        .await;
    assert!(on.text().contains("eve can log in again."), "{}", on.text());

    let path = "/admin/accounts/eve/remove";
    let ask = visitor.get(path).await;
    assert_eq!(visitor.send(&ask, path, &[]).await.status, 422);
    let gone = visitor.act(&ask, path, &[("typed", "eve")]).await;
    assert!(
        gone.text().contains("The account eve is removed."),
        "{}",
        gone.text()
    );
    assert_eq!(visitor.get("/admin/accounts/eve").await.status, 404);

    // The postmaster's account stays.
    let path = "/admin/accounts/app/remove";
    let ask = visitor.get(path).await;
    let refused = visitor.send(&ask, path, &[("typed", "app")]).await;
    assert_eq!(refused.status, 422);
    assert!(refused.text().contains("postmaster"), "{}", refused.text());
}

#[tokio::test]
async fn addresses_come_and_go() {
    const PATH: &str = "/admin/accounts/both/addresses";
    let visitor = Visitor::admin().await;
    let page = visitor.get(PATH).await;
    assert_eq!(page.rows().len(), 2);
    let taken = visitor
        .send(&page, PATH, &[("address", "ann@a.test")])
        .await;
    assert_eq!(taken.status, 422);
    assert!(taken.text().contains("taken"), "{}", taken.text());
    let added = visitor
        .act(&page, PATH, &[("address", "two+x@a.test")])
        .await;
    assert_eq!(added.rows().len(), 3, "{}", added.html);
    let remove = format!("{PATH}/two+x@a.test/remove");
    let ask = visitor.get(&remove).await;
    let gone = visitor.act(&ask, &remove, &[]).await;
    assert_eq!(gone.rows().len(), 2);
    // The address of another account is not to be had by this way.
    assert_eq!(
        visitor
            .get(&format!("{PATH}/ann@a.test/remove"))
            .await
            .status,
        404
    );
}

#[tokio::test]
async fn a_password_is_set_or_made() {
    const PATH: &str = "/admin/accounts/ann/password";
    let visitor = Visitor::admin().await;
    let page = visitor.get(PATH).await;
    let fields = [("password", "correct horse"), ("again", "correct hose")];
    let again = visitor.send(&page, PATH, &fields).await;
    assert_eq!(again.status, 422);
    assert!(!again.html.contains("correct ho"), "{}", again.html);
    let fields = [("password", PASSWORD), ("again", PASSWORD)];
    let set = visitor.act(&page, PATH, &fields).await;
    assert!(
        set.text().contains("The password is set."),
        "{}",
        set.text()
    );
    let make = format!("{PATH}/generate");
    let ask = visitor.get(&make).await;
    let made = visitor.act(&ask, &make, &[]).await;
    let password = secret(&made);
    assert_eq!(password.len(), 23, "{password}");
    let later = visitor.get(PATH).await;
    assert!(!later.html.contains(&password));
}

#[tokio::test]
async fn what_changes_secrets_needs_the_password_again_after_a_while() {
    const PATH: &str = "/admin/accounts/ann/app-passwords";
    let visitor = Visitor::admin().await;
    visitor.desk.clock.advance(Duration::from_secs(16 * 60));
    let page = visitor.get(PATH).await;
    let again = visitor.send(&page, PATH, &[("name", "phone")]).await;
    assert_eq!(again.status, 422);
    assert!(again.html.contains("name=\"proof\""), "{}", again.html);
    let fields = [("name", "phone"), ("proof", PASSWORD)];
    let made = visitor.act(&again, PATH, &fields).await;
    assert!(secret(&made).starts_with("pra_"), "{}", made.html);
    let account = Some("ann".to_owned());
    let known = visitor.desk.list(ListAppPasswords { account }).await;
    assert_eq!(known.len(), 1);
    let remove = format!("{PATH}/phone/remove");
    let ask = visitor.get(&remove).await;
    let gone = visitor.act(&ask, &remove, &[]).await;
    assert!(gone.text().contains("is removed."), "{}", gone.text());
    assert_eq!(visitor.get(&remove).await.status, 404);
}

impl Visitor {
    /// A program logs in with a key of this name.
    async fn use_key(&self, key: &str, of: LoginOf, ip: &str) {
        let now = self.desk.context.clock.now();
        let login = LoginAttempt {
            id: LoginAttemptId(0),
            of,
            result: "ok".to_owned(),
            service: "webapi".to_owned(),
            mechanism: "bearer".to_owned(),
            client: String::new(),
            network: ip.to_owned(),
            key: key.to_owned(),
            login: String::new(),
            ip: ip.parse().unwrap(),
            tls: String::new(),
            first: now,
            last: now,
            count: 1,
        };
        let store = &self.desk.context.store;
        store.note_logins(vec![login]).await.unwrap();
    }
}

#[tokio::test]
async fn keys_are_made_shown_once_and_revoked() {
    const PATH: &str = "/admin/accounts/ann/keys";
    let visitor = Visitor::admin().await;
    let page = visitor.get(PATH).await;
    // An account has no key for management, whatever a browser sends.
    let fields = [("name", "shop"), ("scopes", "manage"), ("lifetime", "30")];
    let again = visitor.send(&page, PATH, &fields).await;
    assert_eq!(again.status, 422);
    assert!(again.html.contains("value=\"shop\""), "{}", again.html);
    let fields = [("name", "<b>shop"), ("scopes", "send"), ("lifetime", "30")];
    let made = visitor.act(&page, PATH, &fields).await;
    assert!(!made.html.contains("<b>shop"), "{}", made.html);
    let key = secret(&made);
    let rows = visitor.get(PATH).await.rows();
    assert_eq!((rows.len(), &*rows[0][2]), (1, "send"));
    assert!(!visitor.get(PATH).await.html.contains(&key));
    let all = visitor.get("/admin/keys").await;
    assert_eq!(all.rows().len(), 1);
    let id = visitor.desk.list(keys::List { account: None }).await[0].id;
    // Bob has no such key.
    let foreign = format!("/admin/accounts/bob/keys/{id}/remove");
    assert_eq!(visitor.get(&foreign).await.status, 404);

    let fields = [
        ("name", "watch"),
        ("scopes", "manage-read"),
        ("lifetime", "0"),
        ("domains", "a.test"),
    ];
    let made = visitor.act(&all, "/admin/keys", &fields).await;
    assert_eq!(made.rows().len(), 2, "{}", made.html);
    visitor.use_key("watch", LoginOf::Admin, "192.0.2.7").await;
    // A key of another account has the same name.
    let bob = LoginOf::Account("bob".to_owned());
    visitor.use_key("<b>shop", bob, "192.0.2.8").await;
    let used = visitor.get("/admin/keys").await;
    let used: Vec<_> = used.rows().iter().map(|row| row[7].clone()).collect();
    assert_eq!(used, ["never", "now from 192.0.2.7"]);
    let managing = visitor.get("/admin/keys?kind=management").await;
    assert_eq!(managing.rows()[0][4], "a.test", "{:?}", managing.rows());
    let remove = format!("/admin/keys/{id}/remove");
    let ask = visitor.get(&remove).await;
    let gone = visitor.act(&ask, &remove, &[]).await;
    assert!(gone.text().contains("is revoked."), "{}", gone.text());
    assert_eq!(gone.rows().len(), 1);
}

#[tokio::test]
async fn tls_keys_are_for_logins_of_the_account() {
    const PATH: &str = "/admin/accounts/ann/tls-keys";
    let visitor = Visitor::admin().await;
    let page = visitor.get(PATH).await;
    let made = rcgen::generate_simple_self_signed(vec!["program.test".to_owned()]).unwrap();
    let pem = made.cert.pem();
    let fields = [("login", "bob@b.test"), ("certificate", pem.as_str())];
    let again = visitor.send(&page, PATH, &fields).await;
    assert_eq!(again.status, 422);
    assert!(
        again.text().contains("is not an address of the account"),
        "{}",
        again.text()
    );
    let fields = [
        ("login", "ann@a.test"),
        ("certificate", pem.as_str()),
        ("name", "robot"),
    ];
    let added = visitor.act(&page, PATH, &fields).await;
    let rows = added.rows();
    assert_eq!((&*rows[0][0], &*rows[0][1]), ("robot", "ann@a.test"));
    let remove = format!("{PATH}/{}/remove", rows[0][3]);
    let ask = visitor.get(&remove).await;
    let gone = visitor.act(&ask, &remove, &[]).await;
    assert!(gone.rows().is_empty(), "{}", gone.html);
}

#[tokio::test]
async fn settings_limits_and_webhooks_of_an_account() {
    let visitor = Visitor::admin().await;
    let path = "/admin/accounts/ann/limits";
    let page = visitor.get(path).await;
    let again = visitor.send(&page, path, &[("quota", "much")]).await;
    assert_eq!(again.status, 422, "{}", again.text());
    let saved = visitor.act(&page, path, &[("quota", "1GB")]).await;
    assert!(saved.text().contains("Saved."), "{}", saved.text());
    let same = visitor.act(&saved, path, &[]).await;
    assert!(
        same.text().contains("nothing has changed"),
        "{}",
        same.text()
    );

    let path = "/admin/accounts/ann/settings";
    let page = visitor.get(path).await;
    assert!(
        page.text().contains("Sent messages have no history"),
        "{}",
        page.text()
    );
    let fields = [
        ("keep_retired_message_period", "30d"),
        ("failure_dsn", "event"),
    ];
    let saved = visitor.act(&page, path, &fields).await;
    assert!(
        !saved.text().contains("Sent messages have no history"),
        "{}",
        saved.text()
    );

    let path = "/admin/accounts/ann/webhooks";
    let page = visitor.get(path).await;
    let fields = [
        ("outgoing_webhook.url", "http://127.0.0.1:9/hook"),
        ("outgoing_webhook.authorization", "Bearer hidden"),
        ("outgoing_webhook.events", "failed\r\ndelayed"),
    ];
    let saved = visitor.act(&page, path, &fields).await;
    assert!(!saved.html.contains("Bearer"), "{}", saved.html);
    let secrets = format!("{path}/outgoing/secret");
    let ask = visitor.get(&secrets).await;
    let one = visitor.act(&ask, &secrets, &[]).await;
    let first = secret(&one);
    let ask = visitor.get(&secrets).await;
    let two = visitor.act(&ask, &secrets, &[]).await;
    assert_ne!(secret(&two), first);
    assert!(
        two.text().contains("Two secrets sign calls."),
        "{}",
        two.text()
    );
    let ask = visitor.get(&secrets).await;
    let left = visitor.act(&ask, &secrets, &[]).await;
    assert!(
        left.text().contains("The older secret is dropped."),
        "{}",
        left.text()
    );
    let conf = std::fs::read_to_string(visitor.desk.path().join("domains.conf")).unwrap();
    assert!(!conf.contains(&first), "{conf}");
    // Without its URL the webhook goes.
    let page = visitor.get(path).await;
    let gone = visitor
        .act(&page, path, &[("outgoing_webhook.url", "")])
        .await;
    assert!(
        !gone.text().contains("Secret that signs calls"),
        "{}",
        gone.text()
    );
}
