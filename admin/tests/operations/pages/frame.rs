//! Logins, tokens, and what no page answers.

use std::time::Duration;

use postrider_store::Clock;

use super::{PASSWORD, Seen, Visitor, attribute};

#[tokio::test]
async fn a_login_leads_back_to_the_page_that_was_asked_for() {
    let mut visitor = Visitor::new().await;
    let asked = visitor.get("/admin/hold-rules?rows=25").await;
    assert_eq!(asked.status, 303);
    assert_eq!(
        asked.location(),
        "/admin/login?to=%2Fadmin%2Fhold-rules%3Frows%3D25"
    );
    let login = visitor.get(asked.location()).await;
    let wrong = [("password", "wrong horse")];
    let wrong = visitor.send(&login, "/admin/login", &wrong).await;
    assert_eq!(wrong.status, 422);
    assert!(
        wrong.text().contains("Wrong name or password."),
        "{}",
        wrong.text()
    );
    assert!(!wrong.html.contains("wrong horse"));
    let right = [("password", PASSWORD)];
    let entered = visitor.send(&wrong, "/admin/login", &right).await;
    assert_eq!(
        (entered.status, entered.location()),
        (303, "/admin/hold-rules?rows=25")
    );
    let cookie = entered.headers["set-cookie"].to_str().unwrap();
    assert!(cookie.contains("HttpOnly; SameSite=Strict"), "{cookie}");
    visitor.keep(&entered);
    assert_eq!(visitor.get("/admin/hold-rules").await.status, 200);

    let page = visitor.get("/admin/").await;
    // Scripts tell times by the clock of the server.
    let now = format!("data-now=\"{}\"", visitor.desk.clock.now());
    assert!(page.html.contains(&now), "{now}");
    let left = visitor.send(&page, "/admin/logout", &[]).await;
    assert_eq!(left.location(), "/admin/login");
    assert_eq!(visitor.get("/admin/").await.status, 303);
}

#[tokio::test]
async fn a_login_leads_to_no_other_site() {
    let visitor = Visitor::new().await;
    for to in [
        "//evil.example/",
        "https://evil.example/",
        "/admin//evil.example",
        "/account/",
    ] {
        let login = visitor.get("/admin/login").await;
        let fields = [("password", PASSWORD), ("to", to)];
        let entered = visitor.send(&login, "/admin/login", &fields).await;
        assert_eq!(entered.location(), "/admin/", "{to}");
    }
}

#[tokio::test]
async fn each_area_has_its_own_visitors() {
    let holder = Visitor::holder("ann", "ann@a.test").await;
    assert_eq!(holder.get("/account/login").await.location(), "/account/");
    assert_eq!(holder.get("/admin/hold-rules").await.status, 303);
    // The administrator's password opens no account, and his name is none.
    let page = Visitor::new().await.get("/account/login").await;
    let fields = [("name", "admin"), ("password", PASSWORD)];
    assert_eq!(
        holder.send(&page, "/account/login", &fields).await.status,
        422
    );
}

#[tokio::test]
async fn a_session_ends_after_its_time() {
    let visitor = Visitor::admin().await;
    let clock = visitor.desk.clock.clone();
    for _ in 0..2 {
        clock.advance(Duration::from_secs(11 * 60 * 60));
        assert_eq!(visitor.get("/admin/").await.status, 200);
    }
    clock.advance(Duration::from_secs(3 * 60 * 60));
    assert_eq!(visitor.get("/admin/").await.status, 303, "24 hours in all");
    let visitor = Visitor::admin().await;
    visitor
        .desk
        .clock
        .advance(Duration::from_secs(13 * 60 * 60));
    assert_eq!(
        visitor.get("/admin/").await.status,
        303,
        "12 hours without a request"
    );
}

#[tokio::test]
async fn forms_without_the_token_and_foreign_requests_are_refused() {
    let visitor = Visitor::admin().await;
    let path = "/admin/hold-rules";
    let page = visitor.get(path).await;
    let forged = visitor
        .send(&page, path, &[("token", "x"), ("account", "ann")])
        .await;
    assert_eq!(forged.status, 403);
    for field in [
        ("origin", "http://evil.example"),
        ("sec-fetch-site", "cross-site"),
    ] {
        let seen = visitor.request("POST", path, &[field], String::new()).await;
        assert_eq!(seen.status, 403, "{field:?}");
    }
    let host = [("host", "evil.example")];
    assert_eq!(
        visitor
            .request("GET", path, &host, String::new())
            .await
            .status,
        404
    );
    assert_eq!(visitor.get("/admin/nothing").await.status, 404);
    assert_eq!(
        visitor
            .request("PUT", path, &[], String::new())
            .await
            .status,
        405
    );
    assert!(
        visitor
            .get(path)
            .await
            .text()
            .contains("No rule holds anything.")
    );
}

#[tokio::test]
async fn pages_are_protected_and_files_are_kept_for_good() {
    let visitor = Visitor::admin().await;
    let page = visitor.get("/admin/").await;
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(
        policy.starts_with("default-src 'none'; script-src 'self';"),
        "{policy}"
    );
    assert_eq!(page.headers["cache-control"], "no-store");
    let style = page
        .html
        .split("href=\"")
        .find(|it| it.starts_with("/assets/style."));
    let style = style.unwrap().split('"').next().unwrap();
    let style = visitor.get(style).await;
    assert_eq!(style.headers["content-type"], "text/css; charset=utf-8");
    let kept = style.headers["cache-control"].to_str().unwrap();
    assert!(kept.ends_with("immutable"), "{kept}");
}

#[tokio::test]
async fn many_wrong_logins_have_to_wait() {
    let visitor = Visitor::new().await;
    let login = visitor.get("/admin/login").await;
    let mut last = None;
    for _ in 0..50 {
        let seen = visitor
            .send(&login, "/admin/login", &[("password", "wrong")])
            .await;
        if seen.status == 429 {
            last = Some(seen);
            break;
        }
    }
    let wait = last.unwrap().headers["retry-after"]
        .to_str()
        .unwrap()
        .parse::<u64>();
    assert!(wait.unwrap() >= 1);
}

#[tokio::test]
async fn a_page_shows_no_command_that_lists_more_than_it() {
    let visitor = Visitor::admin().await;
    for (path, filter) in [
        ("accounts", "q=ann"),
        ("keys", "kind=management"),
        ("queue/destinations", "failing=1"),
        ("logins", "ip=192.0.2.1"),
    ] {
        let all = visitor.get(&format!("/admin/{path}")).await;
        assert!(all.html.contains("<code>postrider "), "{path}");
        let some = visitor.get(&format!("/admin/{path}?{filter}")).await;
        assert_eq!(some.status, 200, "{path}");
        assert!(!some.html.contains("class=\"command\""), "{path}");
    }
    let some = visitor.get("/admin/domains?q=a.test").await;
    assert!(!some.html.contains("<code>postrider "));
    assert!(some.text().contains("?types=domain&filter=a.test"));
    let newest = visitor.get("/admin/queue?order=newest").await;
    assert!(newest.text().contains("postrider queue list --reverse"));
}

#[tokio::test]
async fn a_password_stands_beside_its_name_for_programs_that_keep_passwords() {
    let names = |page: &Seen| {
        let inputs = page.html.split("<input").skip(1);
        let inputs = inputs.map(|input| input.split('>').next().unwrap());
        let inputs = inputs.filter(|input| input.contains("autocomplete=\"username\""));
        // Programs do not see fields of the type hidden.
        let names = inputs.inspect(|input| assert!(input.contains(" type=\"text\""), "{input}"));
        let names = names.map(|input| attribute(input, "value").unwrap());
        names.collect::<Vec<_>>()
    };
    let visitor = Visitor::admin().await;
    let login = Visitor::new().await.get("/admin/login").await;
    assert_eq!(names(&login), ["admin"]);
    visitor.desk.clock.advance(Duration::from_secs(16 * 60));
    let page = visitor.get("/admin/2fa").await;
    assert!(page.html.contains("name=\"proof\""), "{}", page.html);
    assert_eq!(names(&page), ["admin"]);
    let visitor = Visitor::holder("ann", "ann@a.test").await;
    let page = visitor.get("/account/password").await;
    assert_eq!(names(&page), ["ann@a.test"]);
}
