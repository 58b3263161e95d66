//! Mail tokens and user tokens.

use super::*;

#[tokio::test]
async fn mail_tokens_are_told_to_other_servers() {
    let mail = Mail::open("oauth.issuer = true\n").await;
    let ann = basic("ann@a.test:the password");
    let given = mail
        .send("POST auth/mail-token", &ann, "{\"email\": \"ann@a.test\"}")
        .await;
    let given = answer(&given, 200);
    assert_eq!(
        (&given["token_type"], &given["expires_in"], &given["email"]),
        (&json!("Bearer"), &json!(3600), &json!("ann@a.test"))
    );
    let token = given["access_token"].as_str().unwrap().to_owned();
    let form = format!("token={token}&token_type_hint=access_token");
    let ask = async |login: &str, form: &str| {
        let got = mail.send("POST auth/token/introspect", login, form).await;
        answer(&got, 200)
    };
    let dovecot = basic(&format!("dovecot:{}", mail.platform));
    let told = ask(&dovecot, &form).await;
    let now = mail.site.now().0 / 1_000_000;
    let expected = json!({"active": true, "username": "ann@a.test", "scope": "imap smtp",
        "token_type": "Bearer", "exp": now + 3600});
    assert_eq!(told, expected);
    let tenant = basic(&format!("x:{}", mail.tenant));
    assert_eq!(ask(&tenant, &form).await, expected);
    let inactive = json!({"active": false});
    assert_eq!(
        ask(&basic("bob@b.test:the password"), &form).await,
        inactive
    );
    assert_eq!(ask(&dovecot, "token=prm_unknown").await, inactive);
    assert_eq!(
        ask(&dovecot, &format!("token={}", mail.platform)).await,
        inactive
    );
    let got = mail
        .send("POST auth/token/introspect", "Accept: */*", &form)
        .await;
    answer(&got, 401);
    let got = mail
        .send("POST auth/token/introspect", &dovecot, "other=1")
        .await;
    answer(&got, 422);

    // Nobody gets a token for an address of somebody else, or by a mail token.
    for (login, body, status) in [
        (ann.clone(), "{\"email\": \"bob@b.test\"}", 403),
        (ann.clone(), "{\"email\": \"nonsense\"}", 422),
        (format!("Authorization: Bearer {token}"), "", 403),
        (format!("x-service-token: {}", mail.platform), "", 403),
        (basic("ann@a.test:wrong"), "", 401),
    ] {
        let got = mail.send("POST auth/mail-token", &login, body).await;
        answer(&got, status);
    }
    // Somebody else's token does not end.
    let bob = basic("bob@b.test:the password");
    answer(&mail.send("POST auth/token/revoke", &bob, &form).await, 200);
    assert_eq!(ask(&dovecot, &form).await, expected);
    let got = mail.send("POST auth/token/revoke", &ann, &form).await;
    assert_eq!(answer(&got, 200), json!({}));
    assert_eq!(ask(&dovecot, &form).await, inactive);
    answer(&mail.send("POST auth/token/revoke", &ann, &form).await, 200);
}

#[tokio::test]
async fn a_login_gives_a_token_for_this_api() {
    let mail = Mail::open("oauth.issuer = true\n").await;
    let log_in = async |body: Value| {
        let got = mail
            .send("POST auth/login", "Accept: */*", &body.to_string())
            .await;
        (got.status, got.json())
    };
    let (status, given) = log_in(json!({"email": "ann@a.test", "password": "the password"})).await;
    assert_eq!((status, &given["expires_in"]), (200, &json!(43_200)));
    assert!(given.get("email").is_none());
    let bearer = format!(
        "Authorization: Bearer {}",
        given["access_token"].as_str().unwrap()
    );
    let got = mail.send("POST auth/mail-token", &bearer, "").await;
    assert_eq!(answer(&got, 200)["email"], "ann@a.test");
    // It is no mail token.
    let dovecot = format!("x-service-token: {}", mail.platform);
    let form = format!("token={}", given["access_token"].as_str().unwrap());
    let got = mail
        .send("POST auth/token/introspect", &dovecot, &form)
        .await;
    assert_eq!(answer(&got, 200), json!({"active": false}));
    for (body, expected) in [
        (json!({"email": "ann@a.test", "password": "wrong"}), 401),
        (
            json!({"email": "who@a.test", "password": "the password"}),
            401,
        ),
        (json!({"email": "ann@a.test"}), 422),
    ] {
        assert_eq!(log_in(body.clone()).await.0, expected, "{body}");
    }
    for _ in 0..10 {
        log_in(json!({"email": "bob@b.test", "password": "wrong"})).await;
    }
    let (status, _) = log_in(json!({"email": "bob@b.test", "password": "the password"})).await;
    assert_eq!(status, 429);
}

#[tokio::test]
async fn without_the_setting_no_mail_tokens_are_given_out() {
    let mail = Mail::open("").await;
    let basic = basic("ann@a.test:the password");
    for path in ["auth/mail-token", "auth/token/introspect"] {
        let got = mail.send(&format!("POST {path}"), &basic, "").await;
        answer(&got, 404);
    }
}
