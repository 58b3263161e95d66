//! The methods of v0 for suppression lists and mailboxes, case by case as in the contract.

use std::sync::Arc;

use postrider_config::Dynamic;
use postrider_observe::metrics::{LoginResult, LoginService};
use postrider_store::{Accept, Arrival, MailId, NewMail, NewText, Order, TextSource, Time, Top};
use serde_json::{Value, json};

use crate::{patience::patiently, support::World};

const MIXED: &str = "From: =?utf-8?q?J=C3=B6rg?= <j@example.com>\r\nTo: ann@example.org\r\nSubject: hi\r\n\
    Message-ID: <1@x>\r\nIn-Reply-To: <0@x>\r\nReferences: <a@x>\r\nMIME-Version: 1.0\r\n\
    Content-Type: multipart/mixed; boundary=m\r\n\r\n--m\r\nContent-Type: text/plain; charset=iso-8859-1\r\n\
    Content-Transfer-Encoding: quoted-printable\r\n\r\nh=E4\r\n--m\r\nContent-Type: text/csv\r\n\
    Content-Transfer-Encoding: base64\r\n\r\nYSxiCg==\r\n--m--\r\n";

/// Puts a mail into the Inbox of an account.
pub(crate) async fn receive(world: &World, account: &str, text: &str) -> MailId {
    let accept = Accept {
        text: Some(NewText::Inline(text.to_owned().into())),
        mails: vec![NewMail {
            account: account.into(),
            mailbox: "Inbox".into(),
            top: Top::EMPTY,
            text: TextSource::New,
            size: text.len() as u64,
            received: Time(0),
            flags: vec!["zebra".into()],
            dsn: false,
            summary: None,
            smtp: Some(Arrival {
                mail_from: "j@example.com".parse().unwrap(),
                rcpt_to: "ann@example.org".parse().unwrap(),
                msg_from: Some("j@example.com".parse().unwrap()),
                mail_from_validated: false,
                msg_from_validated: false,
                dkim_domains: Vec::new(),
                remote_ip: Some([192, 0, 2, 1].into()),
            }),
        }],
        ..Accept::default()
    };
    world.store.accept(accept).await.unwrap().mails.remove(0)
}

/// Calls a method with each request. Each call must give the status and the code of the error, or
/// the answer.
async fn cases(world: &World, table: &[(&str, &str, u16, &str)]) {
    for (method, request, status, expected) in table {
        let answer = world.call(method, request).await;
        let case = format!("{method} {request}: {} {}", answer.status, answer.body);
        assert_eq!(answer.status, *status, "{case}");
        match status {
            200 => assert_eq!(answer.body.trim_end(), *expected, "{case}"),
            _ => {
                let error = answer.json();
                assert_eq!(error.get("Code").unwrap(), *expected, "{case}");
                assert!(error.get("Message").unwrap().is_string(), "{case}");
            }
        }
    }
}

#[tokio::test]
async fn suppression_lists() {
    let world = World::start().await;
    let all = r#"{"Suppressions":[]}"#;
    cases(
        &world,
        &[
            ("SuppressionList", "{}", 200, all),
            ("SuppressionList", "null", 200, all),
            (
                "SuppressionList",
                r#"{"EmailAddress": ""}"#,
                400,
                "protocol",
            ),
            (
                "SuppressionPresent",
                r#"{"emailaddress": "A.B@x.example"}"#,
                200,
                r#"{"Present":false}"#,
            ),
            (
                "SuppressionAdd",
                r#"{"EmailAddress": "A.B-c+d@xn--74h.example", "Reason": "why"}"#,
                200,
                "{}",
            ),
            (
                "SuppressionAdd",
                r#"{"EmailAddress": "ab@☺.example", "Manual": true}"#,
                400,
                "error",
            ),
            (
                "SuppressionPresent",
                r#"{"EmailAddress": "ab+x@☺.example"}"#,
                200,
                r#"{"Present":true}"#,
            ),
            (
                "SuppressionAdd",
                r#"{"EmailAddress": "no address"}"#,
                400,
                "badAddress",
            ),
            ("SuppressionAdd", "{}", 400, "badAddress"),
            ("SuppressionAdd", r#"{"EmailAddress": 7}"#, 400, "protocol"),
            (
                "SuppressionAdd",
                r#"{"EmailAddress": "a@b.example", "Until": ""}"#,
                400,
                "protocol",
            ),
            (
                "SuppressionRemove",
                r#"{"EmailAddress": "other@x.example"}"#,
                400,
                "error",
            ),
            (
                "SuppressionRemove",
                r#"{"EmailAddress": "@"}"#,
                400,
                "badAddress",
            ),
            (
                "SuppressionPresent",
                r#"{"EmailAddress": ""}"#,
                400,
                "badAddress",
            ),
        ],
    )
    .await;
    let listed = world.call("SuppressionList", "{}").await.json();
    let expected = json!({
        "ID": 1,
        "Created": "2023-11-14T22:13:20Z",
        "Account": "ann",
        "BaseAddress": "ab@☺.example",
        "OriginalAddress": "A.B-c+d@☺.example",
        "Manual": false,
        "Reason": "why",
    });
    assert_eq!(listed["Suppressions"], json!([expected]));
    // Another account has its own list.
    let other = world
        .call_as("bob@example.org", "SuppressionList", "{}")
        .await;
    assert_eq!(other.body.trim_end(), all);
    cases(
        &world,
        &[
            (
                "SuppressionRemove",
                r#"{"EmailAddress": "AB@☺.example"}"#,
                200,
                "{}",
            ),
            (
                "SuppressionRemove",
                r#"{"EmailAddress": "AB@☺.example"}"#,
                400,
                "error",
            ),
            ("SuppressionList", "{}", 200, all),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_message_is_given_described_whole_and_in_parts() {
    let world = World::start().await;
    let id = receive(&world, "ann", MIXED).await;
    assert_eq!(id, MailId(1));
    let shown = world.call("MessageGet", r#"{"MsgID": 1}"#).await.json();
    let message = &shown["Message"];
    assert_eq!(
        message["From"],
        json!([{"Name": "J\u{f6}rg", "Address": "j@example.com"}])
    );
    assert_eq!(message["References"], json!(["<0@x>", "<a@x>"]));
    assert_eq!(
        (&message["Text"], &message["Date"]),
        (&json!("h\u{e4}"), &Value::Null)
    );
    let fields: Vec<_> = message.as_object().unwrap().keys().collect();
    assert_eq!(fields.len(), 11, "{fields:?}");
    assert_eq!(shown["Structure"]["Parts"][1]["ContentType"], "text/csv");
    let expected = json!({
        "Size": MIXED.len(),
        "DSN": false,
        "Flags": ["zebra"],
        "MailFrom": "j@example.com",
        "MailFromValidated": false,
        "RcptTo": "ann@example.org",
        "MsgFrom": "j@example.com",
        "MsgFromValidated": false,
        "DKIMVerifiedDomains": [],
        "RemoteIP": "192.0.2.1",
        "MailboxName": "Inbox",
    });
    assert_eq!(shown["Meta"], expected);

    let raw = world.call("MessageRawGet", r#"{"MsgID": 1}"#).await;
    assert_eq!(
        (raw.body.as_str(), &raw.headers["content-type"]),
        (MIXED, &"text/plain".parse().unwrap())
    );
    let part = world
        .call("MessagePartGet", r#"{"MsgID": 1, "PartPath": [1]}"#)
        .await;
    assert_eq!(part.body, "a,b\n");
    let whole = world
        .call("MessagePartGet", r#"{"MsgID": 1, "PartPath": []}"#)
        .await;
    assert!(whole.body.starts_with("--m\r\n"), "{}", whole.body);
    cases(
        &world,
        &[
            (
                "MessagePartGet",
                r#"{"MsgID": 1, "PartPath": [2]}"#,
                400,
                "partNotFound",
            ),
            (
                "MessagePartGet",
                r#"{"MsgID": 1, "PartPath": [-1]}"#,
                400,
                "partNotFound",
            ),
            (
                "MessagePartGet",
                r#"{"MsgID": 1, "PartPath": [1, 0]}"#,
                400,
                "partNotFound",
            ),
            (
                "MessagePartGet",
                r#"{"MsgID": 1, "PartPath": ["1"]}"#,
                400,
                "protocol",
            ),
            (
                "MessagePartGet",
                r#"{"MsgID": 1, "PartPath": 1}"#,
                400,
                "protocol",
            ),
        ],
    )
    .await;
    // This text is longer than a piece.
    let long = format!("Subject: x\r\n\r\n{}", "0123456789abcdef".repeat(20_000));
    receive(&world, "ann", &long).await;
    assert_eq!(
        world.call("MessageRawGet", r#"{"MsgID": 2}"#).await.body,
        long
    );
}

#[tokio::test]
async fn a_message_is_flagged_moved_and_removed() {
    let world = World::start().await;
    receive(&world, "ann", "Subject: x\r\n\r\ny\r\n").await;
    receive(&world, "bob", "Subject: x\r\n\r\ny\r\n").await;
    let flags = async || {
        let shown = world.call("MessageGet", r#"{"MsgID": 1}"#).await.json();
        shown["Meta"]["Flags"].clone()
    };
    cases(
        &world,
        &[
            (
                "MessageFlagsAdd",
                r#"{"MsgID": 1, "Flags": ["Apple", "\\Seen", "$JUNK"]}"#,
                200,
                "{}",
            ),
            (
                "MessageFlagsAdd",
                r#"{"MsgID": 1, "Flags": ["apple"]}"#,
                200,
                "{}",
            ),
            (
                "MessageFlagsAdd",
                r#"{"MsgID": 1, "Flags": ["fine", "\\recent"]}"#,
                400,
                "user",
            ),
        ],
    )
    .await;
    assert_eq!(flags().await, json!(["$junk", "\\seen", "apple", "zebra"]));
    // The junk filter learns what the flags and the moves say.
    let learnt = async || {
        let trained = world.store.trained(MailId(1)).await.unwrap();
        trained.map(|trained| trained.junk)
    };
    assert_eq!(learnt().await, Some(true));
    cases(
        &world,
        &[
            (
                "MessageFlagsRemove",
                r#"{"MsgID": 1, "Flags": ["$junk", "zebra", "other"]}"#,
                200,
                "{}",
            ),
            ("MessageFlagsRemove", r#"{"MsgID": 1}"#, 200, "{}"),
            (
                "MessageFlagsRemove",
                r#"{"MsgID": 1, "Flags": "x"}"#,
                400,
                "protocol",
            ),
        ],
    )
    .await;
    assert_eq!(flags().await, json!(["\\seen", "apple"]));
    assert_eq!(learnt().await, None);
    cases(
        &world,
        &[
            (
                "MessageMove",
                r#"{"MsgID": 1, "DestMailboxName": "Archive"}"#,
                200,
                "{}",
            ),
            (
                "MessageMove",
                r#"{"MsgID": 1, "DestMailboxName": "Archive"}"#,
                400,
                "user",
            ),
            (
                "MessageMove",
                r#"{"MsgID": 1, "DestMailboxName": "Nowhere"}"#,
                400,
                "user",
            ),
            (
                "MessageMove",
                r#"{"MsgID": 1, "DestMailboxName": "Shop"}"#,
                400,
                "user",
            ),
            ("MessageMove", r#"{"MsgID": 1}"#, 400, "user"),
        ],
    )
    .await;
    let archived = world
        .store
        .list_mails("ann", Some("Archive"), None, 9)
        .await
        .unwrap();
    assert_eq!(archived.items.len(), 1);
    assert_eq!(flags().await, json!(["$notjunk", "\\seen", "apple"]));
    assert_eq!(learnt().await, Some(false));
    // A mailbox of a destination exists without mail.
    let moved = r#"{"MsgID": 2, "DestMailboxName": "Shop"}"#;
    let answer = world.call_as("bob@example.org", "MessageMove", moved).await;
    assert_eq!(answer.status, 200, "{}", answer.body);

    cases(&world, &[("MessageDelete", r#"{"MsgID": 1}"#, 200, "{}")]).await;
    assert_eq!(world.store.counts().await.mails, 1);
    let requests = [
        ("MessageGet", "{}", "messageNotFound"),
        ("MessageRawGet", "{}", "messageNotFound"),
        ("MessagePartGet", "{}", "messageNotFound"),
        ("MessageDelete", "{}", "user"),
        ("MessageFlagsAdd", "{}", "user"),
        ("MessageFlagsRemove", "{}", "user"),
        ("MessageMove", r#"{"DestMailboxName": "Archive"}"#, "user"),
    ];
    for (method, request, removed) in requests {
        let with = |id: i64| {
            let mut request: Value = serde_json::from_str(request).unwrap();
            request["MsgID"] = id.into();
            request.to_string()
        };
        // A removed message, another account's message, a number that was never used, and negative
        // numbers.
        for (id, code) in [
            (1, removed),
            (2, "messageNotFound"),
            (3, "messageNotFound"),
            (-1, "messageNotFound"),
            (0, "user"),
        ] {
            cases(&world, &[(method, &with(id), 400, code)]).await;
        }
        cases(&world, &[(method, r#"{"MsgID": 1.5}"#, 400, "protocol")]).await;
        cases(
            &world,
            &[(
                method,
                r#"{"MsgID": 99999999999999999999}"#,
                400,
                "protocol",
            )],
        )
        .await;
    }
    let answer = world.call("MessageDelete", r#"{"MsgID": 1}"#).await.json();
    assert_eq!(answer["Message"], "message was removed");
}

/// The call has logged in, and then the account is removed.
#[tokio::test]
async fn a_call_leaves_nothing_for_an_account_that_is_removed_meanwhile() {
    let send = r#"{"To": [{"Address": "x@remote.example"}], "Text": "Hello."}"#;
    let batch = r#"{"Text": "Hello.", "Recipients": [{"To": {"Address": "x@remote.example"}}]}"#;
    for (method, request) in [
        ("SuppressionAdd", r#"{"EmailAddress": "x@remote.example"}"#),
        ("Send", send),
        ("SendBatch", batch),
    ] {
        let world = World::start().await;
        let alone = world.queue.have_accounts_alone(["ann"]).await;
        let removed = async {
            let labels = (LoginService::Webapi, LoginResult::Ok);
            let logins = world.metrics.authentications_total.with(labels);
            let logged_in = async {
                while logins.get() == 0 {
                    tokio::task::yield_now().await;
                }
            };
            patiently("the login", logged_in).await;
            let mut config = Dynamic::clone(&world.config.load());
            config.accounts.remove("ann");
            world.config.store(Arc::new(config));
            drop(alone);
        };
        let call = async {
            match method {
                "SendBatch" => {
                    let request = serde_json::from_str(request).unwrap();
                    world.call_v1(method, &request).await
                }
                _ => world.call(method, request).await,
            }
        };
        let (answer, ()) = tokio::join!(call, removed);
        assert!(answer.status.is_client_error(), "{method}: {}", answer.body);
        let listed = world
            .store
            .list_suppressions(None, Time(0), None, Order::Ascending, 10);
        assert_eq!(listed.await.unwrap().items, [], "{method}");
        assert!(world.queued().await.is_empty(), "{method}");
    }
}
