//! Answers of an authorization server, and the memory of them.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::net::TcpListener;

use super::*;

const SECOND: i64 = 1_000_000;

fn settings(more: &str) -> OauthConfig {
    let text = format!(
        "hostname = \"a.example\"\npostmaster.account = \"a\"\n\
         oauth.introspection_url = \"https://a.example/introspect\"\n{more}\n\
         [listeners.l]\nips = [\"127.0.0.1\"]\n"
    );
    Static::parse(&text, "postrider.conf")
        .unwrap()
        .oauth
        .server
        .unwrap()
}

#[test]
fn answers_are_judged() {
    let check = |more: &str, answer: &str, expected: Result<&[&str], ()>| {
        let parsed: Answer = serde_json::from_str(answer).unwrap();
        let settings = settings(more);
        let found = judge(&settings, parsed, Time(100 * SECOND)).meaning;
        let found = match found.within(&settings.scope) {
            Meaning::Good(holder) => Ok(holder.names),
            Meaning::Bad => Err(()),
        };
        let expected = expected.map(|names| names.iter().map(|&name| name.to_owned()).collect());
        assert_eq!(found, expected, "{more} {answer}");
    };
    let ann: Result<&[&str], ()> = Ok(&["ann@x.org"]);
    check("", r#"{"active": true, "username": "ann@x.org"}"#, ann);
    check(
        "",
        r#"{"active": true, "sub": "7", "email": "ann@x.org", "exp": 101}"#,
        Ok(&["ann@x.org", "7"]),
    );
    check("", r#"{"active": false, "username": "ann@x.org"}"#, Err(()));
    check(
        "",
        r#"{"active": true, "username": "a", "exp": 100}"#,
        Err(()),
    );
    check("", r#"{"active": true, "username": 7}"#, Ok(&[]));
    let email = |verified: &str| {
        format!("{{\"active\": true, \"sub\": \"7\", \"email\": \"ann@x.org\"{verified}}}")
    };
    let both: Result<&[&str], ()> = Ok(&["ann@x.org", "7"]);
    for (verified, claim, expected) in [
        ("", "", both),
        (", \"email_verified\": true", "", both),
        (", \"email_verified\": \"true\"", "", both),
        (", \"email_verified\": false", "", Ok(&["7"])),
        (", \"email_verified\": \"false\"", "", Ok(&["7"])),
        (", \"email_verified\": null", "", Ok(&["7"])),
        (", \"email_verified\": true", "email", ann),
        (", \"email_verified\": false", "email", Ok(&[])),
        (", \"email_verified\": false", "sub", Ok(&["7"])),
    ] {
        let claim = match claim {
            "" => String::new(),
            claim => format!("oauth.username_claim = {claim:?}"),
        };
        check(&claim, &email(verified), expected);
    }
    let scope = "oauth.scope = \"mail send\"";
    let with = |scope: &str| {
        format!("{{\"active\": true, \"email\": \"ann@x.org\", \"scope\": \"{scope}\"}}")
    };
    check(scope, &with("openid send mail"), ann);
    check(scope, &with("mail"), Err(()));
    check(scope, r#"{"active": true, "email": "ann@x.org"}"#, Err(()));
    let audience = "oauth.audience = \"postrider\"";
    let aud = |aud: &str| format!("{{\"active\": true, \"email\": \"ann@x.org\", \"aud\": {aud}}}");
    check(audience, &aud("\"postrider\""), ann);
    check(audience, &aud("[\"other\", \"postrider\"]"), ann);
    check(audience, &aud("\"other\""), Err(()));
    check(audience, &with(""), Err(()));
    check(
        "oauth.username_claim = \"login\"",
        r#"{"active": true, "email": "bob@x.org", "login": "ann@x.org"}"#,
        ann,
    );
}

#[test]
fn a_tenant_is_a_text_or_a_number() {
    let tenant = |claim: &str, answer: &str| {
        let parsed: Answer = serde_json::from_str(answer).unwrap();
        match judge(&settings(claim), parsed, Time(0)).meaning {
            Meaning::Good(holder) => holder.tenant,
            Meaning::Bad => panic!("{answer}"),
        }
    };
    let org = "oauth.tenant_claim = \"org\"";
    for (claim, answer, expected) in [
        (org, r#"{"active": true, "org": "acme"}"#, Some("acme")),
        (org, r#"{"active": true, "org": 42}"#, Some("42")),
        (org, r#"{"active": true, "org": ["acme"]}"#, None),
        (org, r#"{"active": true}"#, None),
        ("", r#"{"active": true, "org": "acme"}"#, None),
    ] {
        assert_eq!(tenant(claim, answer).as_deref(), expected, "{answer}");
    }
}

#[test]
fn a_good_answer_counts_until_the_token_expires() {
    let until = |answer: &str| {
        let parsed: Answer = serde_json::from_str(answer).unwrap();
        judge(&settings(""), parsed, Time(100 * SECOND)).until.0 / SECOND
    };
    assert_eq!(until(r#"{"active": true}"#), 400);
    assert_eq!(until(r#"{"active": true, "exp": 160}"#), 160);
    assert_eq!(until(r#"{"active": true, "exp": 1e300}"#), 400);
    assert_eq!(until(r#"{"active": false}"#), 130);
}

/// An authorization server that gives this answer. It counts the questions, and checks them.
async fn server(answer: &str) -> (String, Arc<AtomicUsize>) {
    let answer = answer.to_owned();
    testing::server(move |request| {
        assert!(request.starts_with("POST /introspect "), "{request}");
        // RFC 6749 §2.3.1: `id:a%3Asecret`.
        let basic = "authorization: Basic aWQ6YSUzQXNlY3JldA==";
        assert!(request.contains(basic), "{request}");
        assert!(request.contains("token=the+token"), "{request}");
        answer.clone()
    })
    .await
}

async fn oauth(url: &str) -> Oauth {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret");
    std::fs::write(&file, "a:secret\n").unwrap();
    let text = format!(
        "hostname = \"a.example\"\npostmaster.account = \"a\"\n\
         oauth = {{ introspection_url = \"{url}\", client_id = \"id\", client_secret_file = {file:?} }}\n\
         [listeners.l]\nips = [\"127.0.0.1\"]\n"
    );
    let statics = Static::parse(&text, "postrider.conf").unwrap();
    Oauth::new(&statics).unwrap().unwrap()
}

#[tokio::test]
async fn an_answer_is_asked_for_once() {
    let body = r#"{"active": true, "username": "ann@x.org"}"#;
    let (url, asked) = server(&testing::ok(body)).await;
    let oauth = oauth(&url).await;
    let good = Meaning::Good(Holder {
        names: vec!["ann@x.org".to_owned()],
        ..Holder::default()
    });
    for seconds in [1, 2, 300] {
        let found = oauth.meaning("the token", Time(seconds * SECOND)).await;
        assert_eq!(found.unwrap(), good);
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    let found = oauth.meaning("the token", Time(301 * SECOND)).await;
    assert_eq!(found.unwrap(), good);
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_server_that_fails_is_no_answer() {
    for answer in [
        "HTTP/1.1 500 Oh\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        "HTTP/1.1 401 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        "HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nnope",
    ] {
        let (url, asked) = server(answer).await;
        let oauth = oauth(&url).await;
        let fails = async |asked_before: usize| {
            let found = oauth.meaning("the token", Time(1)).await;
            assert!(found.is_err(), "{answer}");
            assert_eq!(asked.load(Ordering::SeqCst), asked_before, "{answer}");
        };
        fails(1).await;
        // It is not asked about the same token at once.
        tokio::time::pause();
        fails(1).await;
        tokio::time::advance(NO_ANSWER).await;
        tokio::time::resume();
        fails(2).await;
        // It may know other tokens.
        let other = oauth.meaning("the token 2", Time(1)).await;
        assert!(other.is_err(), "{answer}");
        assert_eq!(asked.load(Ordering::SeqCst), 3, "{answer}");
    }
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", closed.local_addr().unwrap());
    drop(closed);
    let oauth = oauth(&url).await;
    let found = async |token: &str| oauth.meaning(token, Time(1)).await.unwrap_err();
    assert!(matches!(found("one").await, NoAnswer::Unreachable(_)));
    tokio::time::pause();
    // No token has an answer from a server that can't be reached.
    assert!(matches!(found("two").await, NoAnswer::Recently));
    tokio::time::advance(NO_ANSWER).await;
    tokio::time::resume();
    assert!(matches!(found("two").await, NoAnswer::Unreachable(_)));
}

#[test]
fn missing_answers_have_few_lines_of_the_log() {
    let start = Instant::now();
    let mut silence = Silence::default();
    assert_eq!(silence.count(start), Some(1));
    for _ in 0..1000 {
        assert_eq!(silence.count(start + TOLD / 2), None);
    }
    assert_eq!(silence.count(start + TOLD), Some(1001));
}

#[tokio::test]
async fn few_questions_are_asked_at_a_time() {
    // Nobody takes the connections, so no question has an end.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let oauth = oauth(&format!("http://{}/", listener.local_addr().unwrap())).await;
    let oauth = Arc::new(oauth);
    let questions: Vec<_> = (0..2 * QUESTIONS_MAX)
        .map(|token| {
            let oauth = Arc::clone(&oauth);
            tokio::spawn(async move { oauth.meaning(&token.to_string(), Time(1)).await })
        })
        .collect();
    while oauth.questions.available_permits() > 0 {
        tokio::task::yield_now().await;
    }
    // Those that wait are not asked any more once the first ones got no answer.
    tokio::time::pause();
    let mut silent = 0;
    for question in questions {
        let error = question.await.unwrap().unwrap_err();
        silent += usize::from(matches!(error, NoAnswer::Unreachable(_)));
    }
    assert_eq!(silent, QUESTIONS_MAX);
}
