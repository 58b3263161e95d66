//! Submission: mail from applications.

use std::time::Duration;

use postrider_store::Order;
use serde_json::{Value, json};

use crate::support::{
    PASSWORD, Setup, World, base64, client::Client, message, program, receiver::Receiver,
    remote::Remote, webapi,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_is_required_and_possible_only_under_tls() {
    let world = World::start(Setup::default()).await;
    let mut client = world.client("submission").await;
    let ehlo = client.command("EHLO client.test").await;
    assert!(!ehlo.contains("AUTH"), "{ehlo}");
    client
        .expect("MAIL FROM:<app@example.org>", "530 5.7.0")
        .await;
    let plain = base64(format!("\0app@example.org\0{PASSWORD}").as_bytes());
    client.expect(&format!("AUTH PLAIN {plain}"), "5").await;
    let mut client = client.starttls().await;
    let ehlo = client.command("EHLO client.test").await;
    let offered = "AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-1-PLUS SCRAM-SHA-256 SCRAM-SHA-1 PLAIN LOGIN";
    assert!(ehlo.contains(offered), "{ehlo}");
    let wrong = base64(b"\0app@example.org\0wrong password");
    client
        .expect(&format!("AUTH PLAIN {wrong}"), "535 5.7.8")
        .await;
    client.expect("AUTH LOGIN", "334").await;
    client.expect(&base64(b"app@example.org"), "334").await;
    client
        .expect(&base64(PASSWORD.as_bytes()), "235 2.7.0")
        .await;
    client
        .expect("MAIL FROM:<other@example.org>", "550 5.7.1")
        .await;
    client.expect("MAIL FROM:<app@example.org>", "250").await;
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_from_field_must_have_an_address_of_the_account() {
    let world = World::start(Setup::default()).await;
    let mut client = world.submission().await;
    let text = message("x").replace("app@example.org", "other@example.org");
    let reply = client
        .submit("app@example.org", &["rcpt@remote.test"], &text)
        .await;
    assert!(reply.starts_with("550 5.7.1"), "{reply}");
    assert_eq!(world.server.store().counts().await.queued, 0);
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_with_too_many_wrong_logins_must_wait_or_be_unlocked() {
    let world = World::start(Setup::default()).await;
    let connect = async || {
        let mut client = world.client("submission").await;
        client.expect("EHLO client.test", "250").await;
        let mut client = client.starttls().await;
        client.expect("EHLO client.test", "250").await;
        client
    };
    let mut client = connect().await;
    let login = |user: &str, password: &str| {
        let secret = base64(format!("\0{user}@example.org\0{password}").as_bytes());
        format!("AUTH PLAIN {secret}")
    };
    for _ in 0..9 {
        client.expect(&login("app", "wrong"), "535 5.7.8").await;
    }
    // The tenth ends the session.
    client.expect(&login("app", "wrong"), "421 4.7.0").await;
    let mut client = connect().await;
    world.clock.advance(Duration::from_secs(18));
    let reply = client.command(&login("info", PASSWORD)).await;
    assert!(reply.starts_with("454 4.7.0"), "{reply}");
    assert!(reply.ends_with("try again in 42 seconds"), "{reply}");
    // All protocols count together.
    let url = world.server.address("webapi_http").unwrap();
    let call = reqwest::Client::new().post(format!("http://{url}/webapi/v0/Send"));
    let answer = call.basic_auth("app@example.org", Some(PASSWORD)).send();
    let answer = answer.await.unwrap();
    assert_eq!(answer.status(), 429);
    assert_eq!(answer.headers()["retry-after"], "42");
    // Other accounts at the same address are not concerned.
    client.expect(&login("other", PASSWORD), "235").await;

    let conf = world.dir.path().join("postrider.conf");
    let list = program::run(&conf, &["login", "list", "--json"]).await;
    let list: Vec<Value> = serde_json::from_slice(&list.stdout).unwrap();
    let row = |it: &Value| {
        let row = json!([it["account"], it["result"], it["service"], it["count"]]);
        row.to_string()
    };
    let mut rows: Vec<_> = list.iter().map(row).collect();
    rows.sort();
    assert_eq!(
        rows,
        [
            r#"["app","limited","submission",1]"#,
            r#"["app","limited","webapi",1]"#,
            r#"["app","wrong","submission",10]"#,
            r#"["other","ok","submission",1]"#,
        ]
    );
    let wrong = ["login", "list", "--account", "app", "--result", "wrong"];
    let wrong = String::from_utf8(program::run(&conf, &wrong).await.stdout).unwrap();
    for part in [
        "10 times since",
        "app@example.org",
        "client.test",
        "TLSv1.3",
    ] {
        assert!(wrong.contains(part), "{wrong}");
    }
    let unlock = program::run(&conf, &["login", "unlock", "app@example.org"]).await;
    assert_eq!(String::from_utf8_lossy(&unlock.stdout), "unlocked\n");
    world.submission().await;
    let nobody = program::run(&conf, &["login", "unlock"]).await;
    assert_eq!(nobody.status.code(), Some(2));
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_one_time_codes_a_program_needs_an_app_password() {
    let world = World::start(Setup::default()).await;
    let conf = world.dir.path().join("postrider.conf");
    let run = async |arguments: &[&str]| {
        let output = program::run(&conf, arguments).await;
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    };
    let app_password = run(&["apppassword", "add", "app", "phone"]).await;
    let url = run(&["totp", "enable", "app"]).await;
    assert!(url.starts_with("otpauth://totp/"), "{url}");
    let mut client = world.client("submission").await;
    client.expect("EHLO client.test", "250").await;
    let mut client = client.starttls().await;
    client.expect("EHLO client.test", "250").await;
    let login = |password: &str| {
        let secret = base64(format!("\0app@example.org\0{password}").as_bytes());
        format!("AUTH PLAIN {secret}")
    };
    client.expect(&login(PASSWORD), "534 5.7.9").await;
    client.expect(&login("wrong"), "535 5.7.8").await;
    client
        .expect(&login(app_password.trim()), "235 2.7.0")
        .await;
    let list = run(&["apppassword", "list", "--json"]).await;
    let list: Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list[0]["name"], "phone");
    assert!(list[0]["last_used"].is_string(), "{list}");
    run(&["apppassword", "rm", "app", "phone"]).await;
    run(&["totp", "disable", "app"]).await;
    let list = run(&["apppassword", "list"]).await;
    assert_eq!(list, "there are no app passwords\n");
    let mut client = world.client("submission").await;
    client.expect("EHLO client.test", "250").await;
    let mut client = client.starttls().await;
    client.expect("EHLO client.test", "250").await;
    client
        .expect(&login(app_password.trim()), "535 5.7.8")
        .await;
    client.expect(&login(PASSWORD), "235 2.7.0").await;
    world.server.stop().await;
}

/// A whole transaction of one recipient, with parameters of MAIL and any bytes as text. Returns the
/// last reply.
async fn submit(client: &mut Client, parameters: &str, to: &[u8], text: &[u8]) -> String {
    let mail = format!("MAIL FROM:<app@example.org>{parameters}");
    client.expect(&mail, "250").await;
    client.send(&[b"RCPT TO:<", to, b">\r\n"].concat()).await;
    let reply = client.reply().await;
    assert!(reply.starts_with("250"), "{reply}");
    client.expect("DATA", "354").await;
    client.send(&[text, b"\r\n.\r\n"].concat()).await;
    client.reply().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_time_and_the_urgency_of_a_delivery_are_kept() {
    let world = World::start(Setup::default()).await;
    let mut client = world.submission().await;
    let ehlo = client.command("EHLO client.test").await;
    for offered in [
        "FUTURERELEASE 5184000 20",
        "MT-PRIORITY MIXER",
        "DELIVERBY 60",
        "REQUIRETLS",
        "DSN",
    ] {
        assert!(ehlo.contains(offered), "{offered}: {ehlo}");
    }
    let parameters = " HOLDFOR=3600 MT-PRIORITY=4 BY=7200;R";
    let reply = submit(
        &mut client,
        parameters,
        b"x@remote.test",
        b"Subject: x\r\n\r\nx",
    )
    .await;
    assert!(reply.starts_with("250"), "{reply}");
    let filter = postrider_store::QueueFilter::default();
    let listed = world
        .server
        .store()
        .list(&filter, None, Order::Ascending, 9)
        .await;
    let queued = listed.unwrap().items;
    let [message] = queued.as_slice() else {
        panic!("{} messages", queued.len());
    };
    let common = &message.common;
    let seconds = |time: postrider_store::Time| time.since(common.queued).as_secs();
    assert_eq!(seconds(message.next_attempt), 3600);
    assert_eq!(common.future_release, "for;3600");
    assert_eq!(common.urgency.priority, 4);
    let deadline = common.urgency.deadline.unwrap();
    assert!(deadline.fails && !deadline.trace);
    assert_eq!(seconds(deadline.at), 7200);
    client.expect("MAIL FROM:<app@example.org>", "250").await;
    client
        .expect("RCPT TO:<nobody@example.org>", "550 5.1.1")
        .await;
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn smtputf8_is_demanded_only_where_it_is_needed() {
    // This remote offers 8BITMIME and no SMTPUTF8.
    let remote = Remote::start(|_, _| None).await;
    let receiver = Receiver::start(|_| 200).await;
    let app = format!(
        "[accounts.app.outgoing_webhook]\nurl = {:?}\n",
        receiver.url()
    );
    let world = World::facing(&remote, app).await;
    let mut client = world.submission().await;
    let utf8 = " SMTPUTF8";
    let both = " SMTPUTF8 BODY=8BITMIME";
    let cases: [(&str, &str, &[u8], &str, &str); 9] = [
        (
            utf8,
            "x@remote.test",
            b"Subject: plain",
            "\r\nSubject: plain\r\n",
            "",
        ),
        (
            "",
            "x@remote.test",
            "Subject: gr\u{fc}\u{df}e an b".as_bytes(),
            "\r\nSubject: =?utf-8?q?gr=C3=BC=C3=9Fe?= an b\r\n",
            "",
        ),
        (
            "",
            "x@remote.test",
            b"Subject: gr\xfc\xdfe",
            "\r\nSubject: =?utf-8?q?gr=C3=BC=C3=9Fe?=\r\n",
            "",
        ),
        (
            both,
            "x@remote.test",
            "Subject: \u{fc}\r\nTo: J\u{f6}rg <x@remote.test>".as_bytes(),
            "\r\nSubject: =?utf-8?q?=C3=BC?=\r\nTo: =?utf-8?q?J=C3=B6rg?= <x@remote.test>\r\n",
            "",
        ),
        (
            utf8,
            "x@b\u{fc}cher.test",
            "To: <x@b\u{fc}cher.test>".as_bytes(),
            "\r\nTo: <x@xn--bcher-kva.test>\r\n",
            "",
        ),
        (
            "",
            "x@b\u{fc}cher.test",
            b"Subject: no flag",
            "\r\nSubject: no flag\r\n",
            "",
        ),
        (
            "",
            "x@remote.test",
            b"X-Note: \xe4 b",
            "\r\nX-Note: =?utf-8?q?=C3=A4?= b\r\n",
            "",
        ),
        (
            "",
            "x@remote.test",
            b"Content-Type: text/plain; name=\"\xe4.txt\"",
            "\r\nContent-Type: text/plain; name*=utf-8\'\'%C3%A4.txt\r\n",
            "",
        ),
        // The body stays as it is.
        (
            both,
            "x@remote.test",
            "Subject: b\r\n\r\n\u{fc}".as_bytes(),
            "\r\n\u{fc}\r\n",
            " BODY=8BITMIME",
        ),
    ];
    for (number, (parameters, to, header, expected, body)) in cases.into_iter().enumerate() {
        let text = [
            &b"From: <app@example.org>\r\n"[..],
            header,
            b"\r\n\r\nHello.",
        ]
        .concat();
        let reply = submit(&mut client, parameters, to.as_bytes(), &text).await;
        assert!(reply.starts_with("250 2.0.0"), "{reply}");
        let received = remote.wait_for(number + 1).await;
        let received = &received[number];
        assert!(
            received.text.contains(expected),
            "{number}: {}",
            received.text
        );
        let mail = format!("MAIL FROM:<app@example.org>{body}");
        assert_eq!(received.mail, mail, "{number}");
        let to = to.replace("b\u{fc}cher", "xn--bcher-kva");
        assert_eq!(received.rcpts, [format!("RCPT TO:<{to}>")], "{number}");
    }
    // Only these can't be sent without it.
    receiver.wait_for(9).await;
    for (to, header) in [
        ("j\u{f6}rg@remote.test", "Subject: x"),
        ("x@remote.test", "Reply-To: <j\u{f6}rg@remote.test>"),
    ] {
        let text = format!("From: <app@example.org>\r\n{header}\r\n\r\nHello.");
        submit(&mut client, utf8, to.as_bytes(), text.as_bytes()).await;
    }
    let calls = receiver.wait_for(11).await;
    let events: Vec<_> = calls.iter().map(|call| &call.payload["Event"]).collect();
    assert!(
        events[..9].iter().all(|event| **event == "delivered"),
        "{events:?}"
    );
    for call in &calls[9..] {
        assert_eq!(call.payload["Event"], "failed");
        let error = call.payload["Error"].as_str().unwrap();
        assert!(error.contains("SMTPUTF8"), "{error}");
    }
    assert_eq!(remote.received().len(), 9);
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn private_fields_are_not_sent_and_missing_ones_are_added() {
    let remote = Remote::start(|_, _| None).await;
    let world = World::facing(&remote, String::new()).await;
    let mut client = world.submission().await;
    for private in [
        "Bcc: secret@remote.test,\r\n  other@remote.test",
        "bcc: <unparsable",
        "Bcc : secret@remote.test",
        "Resent-Bcc: secret@remote.test",
        "Return-Path: <secret@remote.test>",
    ] {
        let text = format!("Subject: a\r\n{private}\r\nX-A: b\r\n\r\nHello.");
        let to = ["x@remote.test"];
        let reply = client.submit("app@example.org", &to, &text).await;
        assert!(reply.starts_with("250 2.0.0"), "{reply}");
    }
    for received in remote.wait_for(5).await {
        let (header, _) = received.text.split_once("\r\n\r\n").unwrap();
        assert!(
            !header.contains("secret") && !header.contains("other@"),
            "{header}"
        );
        // An id may have these letters too.
        let lower = header.to_ascii_lowercase();
        let mut lines = lower.lines();
        assert!(
            !lines.any(|line| line.starts_with("bcc") || line.starts_with("resent-bcc")),
            "{header}"
        );
        assert!(header.contains("\r\nSubject: a\r\nX-A: b"), "{header}");
        // The login is the author.
        assert!(
            header.contains("\r\nFrom: <app@example.org>\r\n"),
            "{header}"
        );
        assert!(header.contains("\r\nMessage-Id: <") && header.contains("\r\nDate: "));
    }
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recipient_that_is_named_twice_gets_one_message() {
    let remote = Remote::start(|_, _| None).await;
    let fromids = "from_id_login_addresses = [\"app@example.org\"]\n";
    let world = World::facing(&remote, fromids.to_owned()).await;
    let mut client = world.submission().await;
    let to = [
        "x@remote.test",
        "X@remote.test",
        "x@REMOTE.test",
        "x@remote.test",
    ];
    let reply = client
        .submit("app@example.org", &to, &message("twice"))
        .await;
    assert!(reply.starts_with("250 2.0.0"), "{reply}");
    let ids: Vec<&str> = reply.rsplit(' ').next().unwrap().split(',').collect();
    assert_eq!(ids.len(), 4, "{reply}");
    assert!(
        ids[0] == ids[2] && ids[0] == ids[3] && ids[0] != ids[1],
        "{reply}"
    );
    remote.wait_for(2).await;

    let url = world.server.address("webapi_http").unwrap();
    let person = |address: &str| format!("{{\"Name\":\"\",\"Address\":{address:?}}}");
    let request = format!(
        "{{\"To\":[{},{}],\"CC\":[{}],\"BCC\":[{}],\"Text\":\"hi\"}}",
        person("y@remote.test"),
        person("z@remote.test"),
        person("y@Remote.test"),
        person("a..b@remote.test"),
    );
    let answer = webapi(url, "app@example.org", "Send", &request).await;
    let submissions = answer["Submissions"].as_array().unwrap();
    let addresses: Vec<_> = submissions
        .iter()
        .map(|it| it["Address"].as_str().unwrap())
        .collect();
    assert_eq!(
        addresses,
        [
            "y@remote.test",
            "z@remote.test",
            "y@Remote.test",
            "a..b@remote.test"
        ]
    );
    for key in ["QueueMsgID", "FromID"] {
        assert_eq!(submissions[0][key], submissions[2][key]);
        assert_ne!(submissions[0][key], submissions[1][key]);
        assert_ne!(submissions[0][key], submissions[3][key]);
    }
    let received = remote.wait_for(5).await;
    let mut rcpts: Vec<_> = received.iter().flat_map(|it| it.rcpts.clone()).collect();
    rcpts.sort();
    assert_eq!(
        rcpts,
        [
            "RCPT TO:<\"a..b\"@remote.test>",
            "RCPT TO:<X@remote.test>",
            "RCPT TO:<x@remote.test>",
            "RCPT TO:<y@remote.test>",
            "RCPT TO:<z@remote.test>",
        ]
    );
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unclear_author_is_refused() {
    let world = World::start(Setup::default()).await;
    let mut client = world.submission().await;
    for (from, expected) in [
        (
            "ceo@bank.test <app@example.org>",
            "550 5.7.1 the name in the From field has",
        ),
        (
            "App: app@example.org;",
            "550 5.6.0 the From field has a group",
        ),
        (
            "app@example.org, info@example.org",
            "550 5.6.0 the From field has several authors",
        ),
        (
            "<ceo@bank.test> <app@example.org>",
            "550 5.6.0 the From field can be read in two ways",
        ),
        (
            "app@example.org\r\nFrom : ceo@bank.test",
            "550 5.6.0 the message has several From",
        ),
        ("\"App, Ltd.\" <app@example.org> (x)", "250 2.0.0"),
    ] {
        let text = format!("From: {from}\r\nSubject: a\r\n\r\nHello.");
        let reply = client
            .submit("app@example.org", &["x@remote.test"], &text)
            .await;
        assert!(reply.starts_with(expected), "{from}: {reply}");
    }
    world.server.stop().await;
}
