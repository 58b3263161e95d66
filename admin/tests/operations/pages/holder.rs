//! The pages of the holder of an account.

use postrider_admin::op::queue::Modify;
use postrider_observe::metrics::{LoginMechanism, LoginResult, LoginService};
use postrider_receive::login::Attempt;
use postrider_store::{Change, Clock, QueueFilter, QueueId};

use super::{super::accounts::queue, PASSWORD, Seen, Visitor};

/// The secret that a page shows.
fn secret(page: &Seen) -> String {
    let shown = page.html.split("data-copy=\"").nth(1);
    let shown = shown.unwrap_or_else(|| panic!("no secret: {}", page.text()));
    shown.split('"').next().unwrap().to_owned()
}

async fn holder() -> Visitor {
    Visitor::holder("ann", "ann@a.test").await
}

/// Logs in with another browser. Gives the cookies of the one before.
async fn other_browser(visitor: &mut Visitor, password: &str) -> super::BTreeMap<String, String> {
    let before = std::mem::take(&mut visitor.cookies);
    let login = visitor.get("/account/login").await;
    let fields = [("name", "ann@a.test"), ("password", password)];
    let entered = visitor.send(&login, "/account/login", &fields).await;
    visitor.keep(&entered);
    before
}

#[tokio::test]
async fn the_first_page_says_what_waits_and_what_to_do() {
    let visitor = holder().await;
    let page = visitor.get("/account/").await;
    assert_eq!(page.status, 200);
    let text = page.text();
    assert!(text.contains("Nothing waits"), "{text}");
    assert!(text.contains("keeps no history"), "{text}");
    assert!(text.contains("The second factor is off"), "{text}");
    for (account, sender) in [
        ("ann", "ann@a.test"),
        ("ann", "ann@a.test"),
        ("bob", "bob@b.test"),
    ] {
        queue(&visitor.desk, account, sender).await;
    }
    let hold = Modify {
        filter: QueueFilter {
            ids: vec![QueueId(1)],
            ..QueueFilter::default()
        },
        change: Change {
            hold: Some(true),
            ..Change::default()
        },
    };
    visitor.desk.ask(hold).await;
    let page = visitor.get("/account/").await;
    let text = page.text();
    assert!(
        text.contains("2 waiting") && text.contains("1 held"),
        "{text}"
    );
    assert!(text.contains("1 message is held"), "{text}");
}

#[tokio::test]
async fn a_key_is_made_shown_once_and_revoked() {
    let visitor = holder().await;
    let path = "/account/keys";
    let page = visitor.get(path).await;
    assert!(
        !page.html.contains("value=\"manage\""),
        "no key of a holder manages the server"
    );
    let fields = [("name", "shop"), ("scopes", "send"), ("lifetime", "30")];
    let made = visitor.act(&page, path, &fields).await;
    let key = secret(&made);
    let rows = made.rows();
    assert!(
        rows[0][0].contains("shop") && rows[0][2].contains("send"),
        "{rows:?}"
    );
    let unused = visitor.get(path).await;
    assert!(!unused.html.contains(&key) && unused.rows()[0][5].contains("never"));
    visitor.desk.context.logins.note(&Attempt {
        account: Some("ann"),
        result: LoginResult::Ok,
        service: LoginService::Webapi,
        mechanism: LoginMechanism::Bearer,
        client: "shop 1.0",
        key: "shop",
        login: "",
        ip: [192, 0, 2, 7].into(),
        tls: "",
        now: visitor.desk.clock.now(),
    });
    let used = visitor.get(path).await.rows();
    assert!(used[0][5].contains("now from 192.0.2.7"), "{used:?}");
    let scope = [("name", "root"), ("scopes", "manage")];
    let page = visitor.get(path).await;
    assert_eq!(visitor.send(&page, path, &scope).await.status, 422);
    let id = rows[0][1].clone();
    let keys = visitor.desk.context.store.api_keys().await.unwrap();
    assert_eq!((keys.len(), keys[0].account.as_str()), (1, "ann"));
    let revoke = format!("{path}/{id}/remove");
    let ask = visitor.get(&revoke).await;
    visitor.act(&ask, &revoke, &[]).await;
    let keys = visitor.desk.context.store.api_keys().await.unwrap();
    assert!(keys.is_empty());
}

#[tokio::test]
async fn what_is_of_others_is_not_there() {
    let visitor = holder().await;
    let key = postrider_admin::op::keys::Add {
        name: "of bob".to_owned(),
        account: "bob".to_owned(),
        scopes: vec![postrider_store::Scope::Send],
        expires: None,
        domains: Vec::new(),
        legacy_status: false,
        tenant: String::new(),
    };
    let key = visitor.desk.ask(key).await;
    for path in [
        &format!("/account/keys/{}/remove", key.id),
        "/account/accounts/bob",
        "/account/accounts/bob/keys",
        "/account/app-passwords/none/remove",
        "/account/tls-keys/none/remove",
    ] {
        assert_eq!(visitor.get(path).await.status, 404, "{path}");
    }
    assert!(visitor.get("/account/keys").await.rows().is_empty());
    let page = visitor.get("/account/sessions").await;
    let token = page.form("/account/logout");
    let mut body = form_urlencoded::Serializer::new(String::new());
    body.extend_pairs(&token);
    let end = visitor.request("POST", "/account/sessions/99/end", &[], body.finish());
    assert_eq!(end.await.status, 404);
}

#[tokio::test]
async fn a_new_password_ends_all_sessions_but_this_one() {
    let mut visitor = holder().await;
    let other = other_browser(&mut visitor, PASSWORD).await;
    let path = "/account/password";
    let page = visitor.get(path).await;
    let differ = [("password", "correct horse"), ("again", "correct house")];
    assert_eq!(visitor.send(&page, path, &differ).await.status, 422);
    let same = [("password", "correct horse"), ("again", "correct horse")];
    let set = visitor.send(&page, path, &same).await;
    visitor.keep(&set);
    let page = visitor.get(set.location()).await;
    assert!(
        page.text().contains("The password is set"),
        "{}",
        page.text()
    );
    let now = std::mem::replace(&mut visitor.cookies, other);
    assert_eq!(visitor.get("/account/").await.status, 303);
    visitor.cookies = now;
    let sessions = visitor.get("/account/sessions").await;
    assert_eq!(sessions.rows().len(), 1, "{}", sessions.text());
    // The server makes one too.
    let path = "/account/password/generate";
    let ask = visitor.get(path).await;
    let made = visitor.send(&ask, path, &[]).await;
    visitor.keep(&made);
    let password = secret(&visitor.get(made.location()).await);
    other_browser(&mut visitor, &password).await;
    assert_eq!(visitor.get("/account/").await.status, 200);
}

#[tokio::test]
async fn sessions_are_ended_one_by_one_or_all_others() {
    let mut visitor = holder().await;
    other_browser(&mut visitor, PASSWORD).await;
    other_browser(&mut visitor, PASSWORD).await;
    let path = "/account/sessions";
    let page = visitor.get(path).await;
    assert_eq!(page.rows().len(), 3);
    let others: Vec<u64> = visitor
        .desk
        .context
        .store
        .web_sessions(None)
        .await
        .unwrap()
        .iter()
        .map(|session| session.id.0)
        .collect();
    let (first, own) = (others.iter().min().unwrap(), others.iter().max().unwrap());
    let one = visitor
        .act(&page, &format!("{path}/{first}/end"), &[])
        .await;
    assert!(one.text().contains("The session has ended."));
    let all = format!("{path}/end-others");
    let ask = visitor.get(&all).await;
    assert!(
        ask.text().contains("1 browser has to log in again."),
        "{}",
        ask.text()
    );
    let ended = visitor.act(&ask, &all, &[]).await;
    assert_eq!(ended.rows().len(), 1);
    let left = visitor
        .send(&ended, &format!("{path}/{own}/end"), &[])
        .await;
    assert_eq!(left.location(), "/account/login");
    assert_eq!(visitor.get("/account/").await.status, 303);
}

#[tokio::test]
async fn logins_are_found_by_their_result() {
    let mut visitor = holder().await;
    let login = visitor.get("/account/logins").await;
    assert!(login.rows()[0][1].contains("logged in"), "{}", login.text());
    let before = std::mem::take(&mut visitor.cookies);
    let page = visitor.get("/account/login").await;
    let wrong = [("name", "ann@a.test"), ("password", "<script>")];
    visitor.send(&page, "/account/login", &wrong).await;
    visitor.cookies = before;
    let wrong = visitor.get("/account/logins?result=wrong").await;
    assert_eq!(wrong.rows().len(), 1, "{}", wrong.text());
    let none = visitor.get("/account/logins?service=webapi").await;
    assert!(none.text().contains("No login is like that."));
}

#[tokio::test]
async fn a_holder_changes_own_settings_only() {
    let visitor = holder().await;
    let path = "/account/settings";
    let page = visitor.get(path).await;
    assert!(!page.html.contains("name=\"quota\""));
    assert!(page.text().contains("Junk and refused mail"));
    assert!(!page.text().contains("For the administrator"));
    let wrong = [("keep_retired_message_period", "often")];
    assert_eq!(visitor.send(&page, path, &wrong).await.status, 422);
    let fields = [
        ("full_name", "Ann <b>"),
        ("junk_filter", "false"),
        ("junk_mailbox", "Spam"),
        ("rejects_mailbox", "\"\""),
        ("keep_retired_message_period", "7d"),
        ("quota", "1GB"),
    ];
    let saved = visitor.act(&page, path, &fields).await;
    assert!(saved.html.contains("Ann &#60;b&#62;"), "{}", saved.html);
    let config = visitor.desk.context.config.load_full();
    let ann = &config.accounts["ann"];
    assert_eq!((ann.full_name.as_str(), ann.quota), ("Ann <b>", None));
    let junk = (ann.junk_filter, &*ann.junk_mailbox, &*ann.rejects_mailbox);
    assert_eq!(junk, (false, "Spam", ""));
    assert!(!ann.keep_rejects);
    assert!(
        !visitor
            .get("/account/")
            .await
            .text()
            .contains("keeps no history")
    );
}
