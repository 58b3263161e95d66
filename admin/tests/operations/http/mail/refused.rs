//! Requests that are refused: bad input, missing rights, too many calls.

use super::*;

#[tokio::test]
async fn bad_input_is_refused_by_its_field() {
    let mail = Mail::open("").await;
    let accounts = "POST mail/domains/a.test/accounts";
    let aliases = "POST mail/domains/a.test/aliases";
    let long = "x".repeat(257);
    for (request, body, status, expected) in [
        ("POST mail/domains", json!({}), 422, "domain"),
        ("POST mail/domains", json!({"domain": "a b"}), 422, "domain"),
        ("POST mail/domains", json!({"domain": ""}), 422, "domain"),
        (
            "POST mail/domains",
            json!({"domain": "co.uk"}),
            422,
            "domain",
        ),
        (
            "POST mail/domains",
            json!({"domain": 7, "customer_id": 1.5}),
            422,
            "domain,customer_id",
        ),
        (
            "POST mail/domains",
            json!({"domain": "x.test", "customer_id": -1}),
            422,
            "customer_id",
        ),
        (
            "POST mail/domains",
            json!({"domain": "x.test", "customer_id": []}),
            422,
            "customer_id",
        ),
        (
            "POST mail/domains",
            json!({"domain": "A.test"}),
            409,
            "fieldAlreadyExists",
        ),
        (accounts, json!({}), 422, "local_part,password"),
        (
            accounts,
            json!({"local_part": "a+b", "password": "a good one"}),
            422,
            "local_part",
        ),
        (
            accounts,
            json!({"local_part": "a@b", "password": "a good one"}),
            422,
            "local_part",
        ),
        (
            accounts,
            json!({"local_part": "", "password": "a good one"}),
            422,
            "local_part",
        ),
        (
            accounts,
            json!({"local_part": "x", "password": "seven77"}),
            422,
            "password",
        ),
        (
            accounts,
            json!({"local_part": "x", "password": long}),
            422,
            "password",
        ),
        (
            accounts,
            json!({"local_part": "x", "password": "a good\none"}),
            422,
            "password",
        ),
        (
            accounts,
            json!({"local_part": "x", "password": "a good one", "quota_mb": "3"}),
            422,
            "quota_mb",
        ),
        (
            accounts,
            json!({"local_part": "x", "password": "a good one", "quota_mb": 9_007_199_254_740_993_u64}),
            422,
            "quota_mb",
        ),
        (
            accounts,
            json!({"local_part": "ANN", "password": "a good one"}),
            409,
            "fieldAlreadyExists",
        ),
        (aliases, json!({}), 422, "source,destination"),
        (
            aliases,
            json!({"source": "x", "destination": []}),
            422,
            "destination",
        ),
        (
            aliases,
            json!({"source": "x", "destination": [7]}),
            422,
            "destination",
        ),
        (
            aliases,
            json!({"source": "x", "destination": "no address"}),
            422,
            "destination",
        ),
        (
            aliases,
            json!({"source": "x@b.test", "destination": "ann@a.test"}),
            422,
            "source",
        ),
        (
            aliases,
            json!({"source": "x+y", "destination": "ann@a.test"}),
            422,
            "source",
        ),
        (
            aliases,
            json!({"source": "x", "destination": "who@a.test"}),
            422,
            "destination",
        ),
        (
            aliases,
            json!({"source": "x", "destination": "out@elsewhere.example"}),
            422,
            "externalDestination destination",
        ),
        (
            aliases,
            json!({"source": "ann", "destination": "ann@a.test"}),
            409,
            "fieldAlreadyExists",
        ),
        ("PUT mail/accounts/ann", json!({}), 422, "password"),
        (
            "PUT mail/accounts/ann",
            json!({"password": 7}),
            422,
            "password",
        ),
        (
            "POST mail/accounts/ann/suspend",
            json!({"hold_queue": "yes"}),
            422,
            "hold_queue",
        ),
        ("POST mail/domains", json!([]), 422, ""),
        ("GET mail/domains?page=0", Value::Null, 422, "page"),
        (
            "GET mail/domains?per_page=201&cursor=x",
            Value::Null,
            422,
            "per_page,cursor",
        ),
        (
            "GET mail/domains?page=201",
            Value::Null,
            422,
            "useCursor page",
        ),
        ("PATCH mail/domains/a.test", Value::Null, 404, "notFound"),
        ("GET mail/domains/99", Value::Null, 404, "notFound"),
        ("GET mail/accounts/nobody", Value::Null, 404, "notFound"),
    ] {
        let got = mail.platform(request, body.clone()).await;
        assert_eq!(
            (got.status, told(&got)),
            (status, expected.to_owned()),
            "{request} {body}"
        );
    }
    let config = mail.site.desk.context.config.load_full();
    assert_eq!((config.domains.len(), config.accounts.len()), (4, 4));
}

#[tokio::test]
async fn checks_come_in_the_order_of_the_contract() {
    let mail = Mail::open("").await;
    let reader = mail.site.make_key(&[Scope::ManageRead], &[], |_| {}).await;
    let queue = mail.site.make_key(&[Scope::ManageQueue], &[], |_| {}).await;
    let (platform, tenant) = (mail.platform.clone(), mail.tenant.clone());
    let service = |key: &str| format!("x-service-token: {key}\r\n");
    let json = "Content-Type: application/json; charset=utf-8\r\n";
    let other = "Content-Type: text/plain\r\n";
    let large = "x".repeat((1 << 20) + 1);
    for (request, login, kind, body, status) in [
        // 401 comes before everything, also for a path that is not there.
        ("GET mail/domains/9/9", String::new(), "", "", 401),
        ("POST mail/domains", service("prk_1_x"), other, "{", 401),
        // The service token never gives way to the other one.
        (
            "GET mail/domains",
            format!("{}Authorization: Bearer {platform}\r\n", service("wrong")),
            "",
            "",
            401,
        ),
        ("GET mail/domains/9/9", service(&platform), "", "", 404),
        ("POST mail/domains", service(&tenant), other, "{", 403),
        ("GET mail/domains", service(&queue), "", "", 403),
        ("GET mail/domains", service(&reader), "", "", 200),
        (
            "POST mail/domains/99/accounts",
            service(&reader),
            json,
            "{}",
            403,
        ),
        (
            "POST mail/domains/99/accounts",
            service(&platform),
            other,
            "{",
            404,
        ),
        ("POST mail/domains", service(&platform), other, "{", 415),
        ("POST mail/domains", service(&platform), json, "{", 400),
        (
            "POST mail/domains",
            service(&platform),
            json,
            large.as_str(),
            413,
        ),
        ("POST mail/domains", service(&platform), json, "{}", 422),
        ("GET mail/domains/%ff", service(&platform), "", "", 400),
    ] {
        let request = request.replacen(' ', &format!(" {BASE}"), 1);
        let got = mail
            .site
            .send(&request, &format!("{login}{kind}"), body)
            .await;
        let shown = String::from_utf8_lossy(&got.bytes);
        assert_eq!(got.status, status, "{request} {kind} {shown}");
        if status == 401 {
            assert!(
                got.headers.to_lowercase().contains("www-authenticate:"),
                "{}",
                got.headers
            );
        }
    }
}

#[tokio::test]
async fn a_key_has_a_number_of_calls_a_minute() {
    let mail = Mail::open("").await;
    let bearer = format!("Authorization: Bearer {}", mail.tenant);
    let logins = &mail.site.desk.context.logins;
    let found = mail.site.desk.context.store.api_keys().await.unwrap();
    let key = found.iter().find(|key| key.tenant == "7").unwrap();
    let caller = postrider_receive::login::CallsOf::Manager(format!("key {}", key.id));
    for _ in 0..1200 {
        logins.calls().begin(caller.clone()).unwrap();
    }
    let got = mail.send("GET mail/domains", &bearer, "").await;
    answer(&got, 429);
    assert!(
        got.headers.to_lowercase().contains("retry-after:"),
        "{}",
        got.headers
    );
    answer(&mail.platform("GET mail/domains", Value::Null).await, 200);
}
