//! The second factor of a visitor: set up, asked for, lost, turned off.

use std::time::Duration;

use postrider_admin::op::{Single, passwords};
use postrider_receive::login::{PasswordCheck, Source, otp_code, parse_otp};
use postrider_store::{Clock, Otp};

use super::{super::Desk, PASSWORD, Seen, Visitor};

/// The generator on a page that sets a second factor up.
fn scanned(page: &Seen, area: &str) -> Otp {
    let fields = page.form(&format!("{area}2fa/confirm"));
    let url = fields.iter().find(|(name, _)| name == "url");
    parse_otp(&url.unwrap().1).unwrap()
}

/// The code of a generator now, or so many steps later.
fn code(desk: &Desk, otp: &Otp, later: u64) -> String {
    let step = u64::try_from(desk.clock.now().0).unwrap() / 30_000_000 + later;
    otp_code(otp, step).unwrap()
}

/// The recovery codes on a page.
fn recovery(page: &Seen) -> Vec<String> {
    let codes = page.html.split("<li><code>").skip(1);
    let codes = codes.map(|rest| rest.split('<').next().unwrap().to_owned());
    codes.collect()
}

/// Sets a second factor up. Gives its generator and the recovery codes.
async fn set_up(visitor: &Visitor, area: &str) -> (Otp, Vec<String>) {
    let begin = format!("{area}2fa/begin");
    let confirm = format!("{area}2fa/confirm");
    let page = visitor.get(&format!("{area}2fa")).await;
    let setup = visitor.send(&page, &begin, &[]).await;
    assert_eq!(setup.status, 200, "{}", setup.text());
    assert!(setup.html.contains("<svg class=\"qr\""));
    let otp = scanned(&setup, area);
    let wrong = visitor.send(&setup, &confirm, &[("code", "12")]).await;
    assert_eq!(wrong.status, 422);
    assert_eq!(scanned(&wrong, area), otp, "the picture is there again");
    let right = code(&visitor.desk, &otp, 0);
    let on = visitor.act(&wrong, &confirm, &[("code", &right)]).await;
    assert!(
        on.text().contains("The second factor is on."),
        "{}",
        on.text()
    );
    let codes = recovery(&on);
    assert_eq!(codes.len(), 10, "{}", on.text());
    let again = visitor.get(&format!("{area}2fa")).await;
    assert!(recovery(&again).is_empty(), "they are shown once");
    assert!(!again.html.contains("otpauth:"));
    (otp, codes)
}

/// Logs in with the password. Gives what it led to.
async fn by_password(visitor: &mut Visitor, area: &str, name: &str) -> Seen {
    visitor.cookies.clear();
    let login = format!("{area}login");
    let page = visitor.get(&format!("{login}?to={area}logins")).await;
    let fields = [("name", name), ("password", PASSWORD)];
    let entered = visitor.send(&page, &login, &fields).await;
    visitor.keep(&entered);
    visitor.get(entered.location()).await
}

#[tokio::test]
async fn a_login_asks_for_a_code_and_takes_a_recovery_code_once() {
    let mut visitor = Visitor::holder("ann", "ann@a.test").await;
    let (otp, codes) = set_up(&visitor, "/account/").await;
    visitor.desk.clock.advance(Duration::from_secs(60));
    let path = "/account/login/code";
    let asked = by_password(&mut visitor, "/account/", "ann@a.test").await;
    assert!(
        asked
            .text()
            .contains("The password of ann@a.test is right.")
    );
    // The password alone opens nothing.
    assert_eq!(visitor.get("/account/").await.status, 303);
    assert!(!asked.html.contains(PASSWORD));
    let wrong = visitor.send(&asked, path, &[("code", "000000")]).await;
    assert_eq!(wrong.status, 422);
    let right = code(&visitor.desk, &otp, 0);
    let entered = visitor.send(&wrong, path, &[("code", &right)]).await;
    assert_eq!(entered.location(), "/account/logins");
    visitor.keep(&entered);
    let logins = visitor.get("/account/logins").await;
    assert!(logins.text().contains("right password, without the code"));
    assert!(logins.text().contains("wrong password, code or key"));
    // The same login does not wait any longer, and the same code is taken no more.
    assert_eq!(visitor.get(path).await.location(), "/account/login?to=");
    let asked = by_password(&mut visitor, "/account/", "ann@a.test").await;
    let again = visitor.send(&asked, path, &[("code", &right)]).await;
    assert_eq!(again.status, 422);
    let lost = [("code", codes[3].as_str())];
    let entered = visitor.send(&again, path, &lost).await;
    visitor.keep(&entered);
    let page = visitor.get(entered.location()).await;
    assert!(
        page.text().contains("9 recovery codes are left."),
        "{}",
        page.text()
    );
    let asked = by_password(&mut visitor, "/account/", "ann@a.test").await;
    assert_eq!(visitor.send(&asked, path, &lost).await.status, 422);
    // It waits for ten minutes.
    visitor.desk.clock.advance(Duration::from_secs(600));
    let late = visitor.send(&asked, path, &[("code", &codes[4])]).await;
    assert!(late.location().starts_with("/account/login?"));
}

#[tokio::test]
async fn a_login_waits_no_longer_when_the_password_changes_elsewhere() {
    for (area, name) in [("/account/", "ann@a.test"), ("/admin/", "admin")] {
        let mut visitor = match area {
            "/admin/" => Visitor::admin().await,
            _ => Visitor::holder("ann", name).await,
        };
        let (_, codes) = set_up(&visitor, area).await;
        let asked = by_password(&mut visitor, area, name).await;
        let path = format!("{area}login/code");
        let context = &visitor.desk.context;
        let new = "another long one";
        match area {
            "/admin/" => {
                let file = context.statics.admin_password_file.clone().unwrap();
                passwords::set_admin_password(&file, new).unwrap();
            }
            _ => {
                let set = passwords::Set {
                    account: "ann".to_owned(),
                    password: new.to_owned(),
                };
                set.answer(context).await.unwrap();
            }
        }
        let right = [("code", codes[0].as_str())];
        let late = visitor.send(&asked, &path, &right).await;
        let begin = format!("{area}login?");
        assert!(late.location().starts_with(&begin), "{}", late.location());
        let again = visitor.get(&path).await;
        assert!(again.location().starts_with(&begin), "{area}");
    }
}

#[tokio::test]
async fn many_wrong_codes_have_to_wait() {
    let mut visitor = Visitor::holder("ann", "ann@a.test").await;
    set_up(&visitor, "/account/").await;
    let asked = by_password(&mut visitor, "/account/", "ann@a.test").await;
    let mut last = None;
    for _ in 0..50 {
        let wrong = [("code", "000000")];
        let seen = visitor.send(&asked, "/account/login/code", &wrong).await;
        if seen.status == 429 {
            last = Some(seen);
            break;
        }
    }
    assert!(last.unwrap().headers.contains_key("retry-after"));
}

#[tokio::test]
async fn with_a_second_factor_programs_need_passwords_of_their_own() {
    let visitor = Visitor::holder("ann", "ann@a.test").await;
    let source = |desk: &Desk| Source {
        limiter: desk.context.limiter.clone(),
        ip: [192, 0, 2, 1].into(),
        behind_proxy: false,
        now: desk.clock.now(),
    };
    let check = async |password: &str| {
        let desk = &visitor.desk;
        let source = source(desk);
        let logins = &desk.context.logins;
        let checked = logins.verify("ann@a.test", Some("ann"), password, &source);
        checked.await.unwrap()
    };
    assert_eq!(check(PASSWORD).await, PasswordCheck::Right);
    set_up(&visitor, "/account/").await;
    assert_eq!(check(PASSWORD).await, PasswordCheck::TooWeak);
    let path = "/account/app-passwords";
    let page = visitor.get(path).await;
    let made = visitor.act(&page, path, &[("name", "phone")]).await;
    let shown = made.html.split("data-copy=\"").nth(1).unwrap();
    let app = shown.split('"').next().unwrap().to_owned();
    assert_eq!(check(&app).await, PasswordCheck::Right);
    assert!(
        !visitor.get(path).await.html.contains(&app),
        "it is shown once"
    );
    // It opens no pages, though it needs no code.
    let login = Visitor::new().await.get("/account/login").await;
    let fields = [("name", "ann@a.test"), ("password", app.as_str())];
    let refused = visitor.send(&login, "/account/login", &fields).await;
    assert_eq!(refused.status, 422);
    assert!(refused.text().contains("password of a single program"));
    let ask = visitor.get(&format!("{path}/phone/remove")).await;
    visitor
        .act(&ask, &format!("{path}/phone/remove"), &[])
        .await;
    assert_eq!(check(&app).await, PasswordCheck::Wrong);
}

#[tokio::test]
async fn turning_off_and_new_recovery_codes_need_the_password_once_more() {
    for area in ["/admin/", "/account/"] {
        let visitor = match area {
            "/admin/" => Visitor::admin().await,
            _ => Visitor::holder("ann", "ann@a.test").await,
        };
        let (_, codes) = set_up(&visitor, area).await;
        visitor.desk.clock.advance(Duration::from_secs(16 * 60));
        let renew = format!("{area}2fa/renew");
        let ask = visitor.get(&renew).await;
        let wrong = [("proof", "wrong horse")];
        assert_eq!(visitor.send(&ask, &renew, &wrong).await.status, 422);
        let renewed = visitor.act(&ask, &renew, &[("proof", PASSWORD)]).await;
        let new = recovery(&renewed);
        assert!(new.len() == 10 && new != codes);
        let off = format!("{area}2fa/off");
        let ask = visitor.get(&off).await;
        let gone = visitor.act(&ask, &off, &[]).await;
        assert!(gone.text().contains("The second factor is off."));
        visitor.desk.clock.advance(Duration::from_secs(16 * 60));
        let page = visitor.get(&format!("{area}2fa")).await;
        let begin = format!("{area}2fa/begin");
        assert_eq!(visitor.send(&page, &begin, &wrong).await.status, 422);
    }
}

#[tokio::test]
async fn who_must_have_a_second_factor_sets_it_up_first() {
    let words = "[web]\nrequire_totp = \"all\"\n";
    let visitor = Visitor::holder_with(words, "ann", "ann@a.test").await;
    for path in ["/account/", "/account/keys", "/account/nothing"] {
        let led = visitor.get(path).await;
        let expected = if path == "/account/nothing" { 404 } else { 303 };
        assert_eq!(led.status, expected, "{path}");
    }
    // The inbox is that of the account, and asks for the same.
    for path in ["/account/", "/inbox/", "/inbox/send", "/inbox/m1"] {
        assert_eq!(visitor.get(path).await.location(), "/account/2fa", "{path}");
    }
    set_up(&visitor, "/account/").await;
    assert_eq!(visitor.get("/account/").await.status, 200);
    assert_eq!(visitor.get("/inbox/").await.status, 200);
    let ask = visitor.get("/account/2fa/off").await;
    assert_eq!(
        visitor.send(&ask, "/account/2fa/off", &[]).await.status,
        409
    );
}

#[tokio::test]
async fn the_administrator_resets_a_second_factor() {
    let visitor = Visitor::holder("ann", "ann@a.test").await;
    set_up(&visitor, "/account/").await;
    let mut visitor = visitor;
    visitor.cookies.clear();
    by_password(&mut visitor, "/admin/", "admin").await;
    let page = visitor.get("/admin/accounts/ann/2fa").await;
    assert!(
        page.text().contains("10 recovery codes are left."),
        "{}",
        page.text()
    );
    let reset = "/admin/accounts/ann/2fa/reset";
    let ask = visitor.get(reset).await;
    assert!(ask.text().contains("postrider totp disable ann"));
    let gone = visitor.act(&ask, reset, &[]).await;
    assert!(gone.text().contains("The password of ann is enough again."));
    assert_eq!(visitor.get("/admin/accounts/none/2fa").await.status, 404);
}
