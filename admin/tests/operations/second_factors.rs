//! Second factors of the administrator and of account holders.

use postrider_admin::op::second_factors::{Begin, Confirm, Renew, Reset, Show, Shown};
use postrider_receive::login::{SecondCheck, otp_code, parse_otp};
use postrider_store::WebSessionOwner;

use super::*;

#[tokio::test]
async fn codes_are_set_up_by_their_first_one() {
    let desk = Desk::open();
    for of in [
        WebSessionOwner::Admin,
        WebSessionOwner::Account("app".to_owned()),
    ] {
        let of = || of.clone();
        let show = async || desk.ask(Show { of: of() }).await;
        let shown = |enabled, recovery_codes_left| Shown {
            enabled,
            required: false,
            recovery_codes_left,
        };
        let confirm = |code: &str| Confirm {
            of: of(),
            code: code.to_owned(),
        };
        assert_eq!(show().await, shown(false, 0));
        let early = desk.context.clone();
        let early = confirm("123456").answer(&early).await.unwrap_err();
        assert_eq!(early.code, Code::NotFound);
        desk.refuses(Renew { of: of() }, Code::NotFound, "of").await;
        desk.refuses(Reset { of: of() }, Code::NotFound, "of").await;
        let otp = parse_otp(&desk.ask(Begin { of: of() }).await.url).unwrap();
        desk.refuses(confirm("no code"), Code::Invalid, "code")
            .await;
        assert_eq!(show().await, shown(false, 0));
        let now = desk.clock.now();
        let code = |later| {
            let step = u64::try_from(now.0).unwrap() / 30_000_000 + later;
            otp_code(&otp, step).unwrap()
        };
        let first = desk.ask(confirm(&code(0))).await.recovery_codes;
        assert_eq!(show().await, shown(true, 10));
        let again = Begin { of: of() }.answer(&desk.context).await;
        assert_eq!(again.unwrap_err().code, Code::Conflict);
        let second = desk.ask(Renew { of: of() }).await.recovery_codes;
        let source = Source {
            limiter: Arc::clone(&desk.context.limiter),
            ip: [192, 0, 2, 1].into(),
            behind_proxy: false,
            now,
        };
        let check = async |code: &str| {
            let (logins, of) = (&desk.context.logins, of());
            logins.check_code(&of, code, &source).await.unwrap()
        };
        // The first code was taken when it was confirmed, and the first recovery codes are old.
        assert_eq!(check(&code(0)).await, SecondCheck::Wrong);
        assert_eq!(check(&first[0]).await, SecondCheck::Wrong);
        assert_eq!(check(&code(1)).await, SecondCheck::Code);
        assert_eq!(check(&second[0]).await, SecondCheck::Recovery(9));
        assert_eq!(show().await, shown(true, 9));
        desk.ask(Reset { of: of() }).await;
        assert_eq!(show().await, shown(false, 0));
    }
    let nobody = WebSessionOwner::Account("none".to_owned());
    desk.refuses(Begin { of: nobody }, Code::NotFound, "account")
        .await;
}

#[tokio::test]
async fn a_secret_waits_an_hour_for_its_first_code() {
    let desk = Desk::open();
    let of = WebSessionOwner::Admin;
    let otp = parse_otp(&desk.ask(Begin { of: of.clone() }).await.url).unwrap();
    desk.clock
        .set(desk.clock.now().after(Duration::from_secs(60 * 60)));
    let step = u64::try_from(desk.clock.now().0).unwrap() / 30_000_000;
    let code = otp_code(&otp, step).unwrap();
    let late = Confirm { of, code }.answer(&desk.context).await;
    assert_eq!(late.unwrap_err().code, Code::NotFound);
}

#[tokio::test]
async fn the_configuration_says_who_must_have_codes() {
    for (words, admin, account) in [
        ("", false, false),
        ("[web]\nrequire_totp = \"none\"\n", false, false),
        ("[web]\nrequire_totp = \"admin\"\n", true, false),
        ("[web]\nrequire_totp = \"all\"\n", true, true),
    ] {
        let desk = Desk::with(&format!("{STATICS}{words}"), DYNAMICS);
        for (of, expected) in [
            (WebSessionOwner::Admin, admin),
            (WebSessionOwner::Account("app".to_owned()), account),
        ] {
            assert_eq!(desk.ask(Show { of }).await.required, expected, "{words}");
        }
    }
}
