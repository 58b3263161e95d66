//! The method Send of v0.

use std::time::Duration;

use futures_util::future::join_all;
use mail_parser::{MessageParser, MimeHeaders};
use serde_json::json;

use crate::support::{PASSWORD, World};

#[tokio::test]
async fn errors_have_the_codes_and_the_order_of_the_contract() {
    let world = World::start().await;
    let to = json!([{"Address": "b@example.com"}]);
    for (request, code) in [
        (json!({"To": [{"Address": "bad"}]}), "missingBody"),
        (
            json!({"Text": "x", "From": [{"Address": "a"}, {"Address": "b"}]}),
            "multipleFrom",
        ),
        (
            json!({"Text": "x", "From": [{"Address": "bad"}]}),
            "badAddress",
        ),
        (
            json!({"Text": "x", "To": [{"Address": "bad"}], "From": [{"Address": "x@else.example"}]}),
            "badAddress",
        ),
        (
            json!({"Text": "x", "From": [{"Address": "ann@off.example"}]}),
            "domainDisabled",
        ),
        (
            json!({"Text": "x", "From": [{"Address": "x@else.example"}]}),
            "badFrom",
        ),
        (json!({"Text": "x"}), "noRecipients"),
        (
            json!({"Text": "x", "To": to, "ReplyTo": [{"Address": "bad"}]}),
            "badAddress",
        ),
        (json!({"Text": "x", "To": to, "Subject": "a\nb"}), "user"),
        (
            json!({"Text": "x", "BCC": [{"Name": "a\r\nX: y", "Address": "b@example.com"}], "SaveSent": true}),
            "user",
        ),
        (
            json!({"Text": "x", "To": to, "Date": "-000100-01-01T00:00:00Z"}),
            "protocol",
        ),
        (
            json!({"Text": "x", "To": to, "Headers": [["X-A", "b\r\nc"]]}),
            "user",
        ),
        (
            json!({"Text": "x", "To": to, "Extra": {"k": "v".repeat(65_536)}}),
            "user",
        ),
        (
            json!({"Text": "x", "To": to, "Subject": "s".repeat(300_000)}),
            "user",
        ),
        (
            json!({"Text": "x", "To": to, "AttachedFiles": [{"Data": "!"}]}),
            "user",
        ),
        (
            json!({"Text": "x", "To": to, "MessageID": "1@x"}),
            "malformedMessageID",
        ),
        (
            json!({"Text": "x".repeat(100_001), "To": to}),
            "messageTooLarge",
        ),
        (
            json!({"Text": "x", "To": to, "FutureRelease": "2024-01-20T00:00:00Z"}),
            "user",
        ),
    ] {
        let answer = world.send(&request).await;
        assert_eq!(answer.status, 400, "{}", answer.body);
        assert_eq!(answer.json()["Code"], code, "{}", answer.body);
        assert!(!answer.json()["Message"].as_str().unwrap().is_empty());
    }
    assert!(world.queued().await.is_empty());
}

#[tokio::test]
async fn a_message_is_queued_for_each_recipient() {
    let world = World::start().await;
    let answer = world
        .send(&json!({
            "to": [{"name": "B", "ADDRESS": "b@Example.com"}], "CC": [{"Address": "c@example.com"}],
            "BCC": [{"Address": "b@Example.com"}], "Subject": "Hi", "Text": "Hello", "Extra": {"Order": "7"},
            "RequireTLS": false, "FutureRelease": "2023-11-15T00:00:00Z", "From": null,
        }))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(
        answer.headers["content-type"],
        "application/json; charset=utf-8"
    );
    let json = answer.json();
    let addresses: Vec<&str> = json["Submissions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["Address"].as_str().unwrap())
        .collect();
    assert_eq!(
        addresses,
        ["b@Example.com", "c@example.com", "b@Example.com"]
    );
    let queued = world.queued().await;
    let ids: Vec<u64> = queued.iter().map(|queued| queued.id.0).collect();
    // An address that is there twice gets the message once.
    let numbers = [ids[0], ids[0] + 1];
    assert_eq!(ids, numbers);
    assert_eq!(json["Submissions"][0]["QueueMsgID"], numbers[0]);
    assert_eq!(json["Submissions"][1]["QueueMsgID"], numbers[1]);
    assert_eq!(json["Submissions"][2]["QueueMsgID"], numbers[0]);
    assert_eq!(json["Submissions"][0]["FromID"], "");
    let first = &queued[0];
    assert_eq!(first.common.message_id, json["MessageID"].as_str().unwrap());
    assert_eq!(first.common.extra["Order"], "7");
    assert_eq!(first.common.require_tls, Some(false));
    assert_eq!(first.next_attempt.to_string(), "2023-11-15T00:00:00Z");
    assert_eq!(first.reverse_path.to_string(), "ann@example.org");
    let text = world.text(first).await;
    assert_eq!(first.common.size, text.len() as u64);
    assert_eq!(text.matches("TLS-Required: No\r\n").count(), 1, "{text}");
    assert!(
        text.starts_with("Received: from mail.example.org by mail.example.org\r\n\twith HTTP id "),
        "{text}"
    );
    assert!(
        !text.contains("\r\n\tfor <") && !text.contains("Bcc"),
        "{text}"
    );
    assert!(text.contains("\r\nFrom: Ann Lee <ann@example.org>\r\nTo: B <b@example.com>\r\nCc: <c@example.com>\r\nSubject: Hi\r\n"), "{text}");
}

#[tokio::test]
async fn configured_logins_get_fromids() {
    let world = World::start().await;
    let request = json!({"To": [{"Address": "b@example.com"}], "Text": "x"});
    let json = world.send_as("ann+id@example.org", &request).await.json();
    let from_id = json["Submissions"][0]["FromID"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(from_id.len(), 22);
    assert_eq!(
        world.queued().await[0].reverse_path.to_string(),
        format!("ann+{from_id}@example.org")
    );
}

#[tokio::test]
async fn a_copy_is_kept_on_request_and_names_blind_copies() {
    let world = World::start().await;
    let request = json!({"BCC": [{"Address": "b@example.com"}], "Text": "x", "SaveSent": true});
    assert_eq!(world.send(&request).await.status, 200);
    let mails = world
        .store
        .list_mails("ann", Some("Sent"), None, 10)
        .await
        .unwrap()
        .items;
    assert_eq!(mails[0].flags, ["$notjunk", "\\seen"]);
    let stored = world.store.mail_message(&mails[0]).await.unwrap();
    let text = String::from_utf8(stored.whole().await.unwrap().to_vec()).unwrap();
    let copied = text.strip_prefix("Bcc: <b@example.com>\r\n").unwrap();
    let sent = world.text(&world.queued().await[0]).await;
    assert!(
        copied.starts_with("From: ") && sent.ends_with(copied),
        "{sent}"
    );
}

#[tokio::test]
async fn files_come_in_the_json_and_as_uploads() {
    let world = World::start().await;
    let request = json!({
        "To": [{"Address": "b@example.com"}], "Text": "see", "HTML": "<p>see</p>",
        "AttachedFiles": [{"Name": "a.txt", "Data": "aGVs\r\nbG8="}],
    });
    let body = format!(
        "--b\r\nContent-Disposition: form-data; name=\"attachedfile\"; filename=\"b.bin\"\r\n\r\n\u{1}\u{2}\r\n\
         --b\r\nContent-Disposition: form-data; name=\"other\"; filename=\"x\"\r\n\r\nignored\r\n\
         --b\r\nContent-Disposition: form-data; name=\"request\"\r\n\r\n{request}\r\n\
         --b\r\nContent-Disposition: form-data; name=\"inlinefile\"; filename=\"i.png\"\r\n\
         Content-Type: image/png\r\nContent-ID: <i@x>\r\n\r\npng\r\n--b--\r\n"
    );
    let login = format!("ann@example.org:{PASSWORD}");
    let answer = world
        .post(&login, "multipart/form-data; boundary=b", body)
        .await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let text = world.text(&world.queued().await[0]).await;
    let message = MessageParser::default().parse(text.as_bytes()).unwrap();
    let files: Vec<(&str, &[u8])> = message
        .parts
        .iter()
        .filter_map(|part| Some((part.attachment_name()?, part.contents())))
        .collect();
    assert_eq!(
        files,
        [
            ("i.png", &b"png"[..]),
            ("a.txt", b"hello"),
            ("b.bin", b"\x01\x02")
        ]
    );

    let large = format!(
        "--b\r\nContent-Disposition: form-data; name=\"attachedfile\"; filename=\"b\"\r\n\r\n{}\r\n--b--\r\n",
        "x".repeat(100_001)
    );
    let answer = world
        .post(&login, "multipart/form-data; boundary=b", large)
        .await;
    assert_eq!(answer.json()["Code"], "messageTooLarge", "{}", answer.body);
}

#[tokio::test]
async fn uploads_keep_their_names_also_in_forms_with_other_line_ends() {
    let world = World::start().await;
    let login = format!("ann@example.org:{PASSWORD}");
    let form = "--b\nContent-Disposition: form-data; name=\"request\"\n\n\
        {\"To\": [{\"Address\": \"b@example.com\"}], \"Text\": \"see\"}\n\
        --b\nContent-Disposition: form-data; name=\"attachedfile\"; filename*=UTF-8''unic%C3%B8de.txt\n\n1\n2\n\
        --b\nContent-Disposition: form-data; NAME=attachedfile; filename=\"/etc/x.txt\"\n\n\n--b--\n";
    for form in [form.to_owned(), form.replace('\n', "\r\n")] {
        let lines = if form.contains('\r') {
            "1\r\n2"
        } else {
            "1\n2"
        };
        let answer = world
            .post(&login, "multipart/form-data; boundary=b", form)
            .await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let text = world.text(world.queued().await.last().unwrap()).await;
        let message = MessageParser::default().parse(text.as_bytes()).unwrap();
        let files: Vec<_> = message
            .attachments()
            .map(|part| (part.attachment_name().unwrap(), part.contents()))
            .collect();
        assert_eq!(files, [("unicøde.txt", lines.as_bytes()), ("x.txt", b"")]);
    }
}

#[tokio::test]
async fn addresses_with_other_alphabets_need_smtputf8() {
    let world = World::start().await;
    let request = json!({"To": [{"Name": "J\u{f6}rg", "Address": "j\u{f6}rg@example.com"}], "Text": "x", "Subject": "\u{e4}"});
    assert_eq!(world.send(&request).await.status, 200);
    let queued = world.queued().await;
    assert!(queued[0].common.smtputf8);
    let text = world.text(&queued[0]).await;
    assert!(
        text.contains("Subject: \u{e4}\r\n") && text.contains("<j\u{f6}rg@example.com>"),
        "{text}"
    );
}

#[tokio::test]
async fn references_with_other_alphabets_need_smtputf8() {
    let world = World::start().await;
    let request =
        json!({"To": [{"Address": "b@example.com"}], "Text": "x", "References": ["<j\u{f6}@x>"]});
    assert_eq!(world.send(&request).await.status, 200);
    assert!(world.queued().await[0].common.smtputf8);
}

#[tokio::test]
async fn the_login_is_the_default_of_from() {
    let world = World::start().await;
    let request = json!({"To": [{"Address": "b@example.com"}], "Text": "x"});
    for (login, from) in [
        ("Ann+x@example.org", "From: Ann Lee <Ann+x@example.org>\r\n"),
        ("help@example.org", "From: Helpdesk <help@example.org>\r\n"),
    ] {
        let answer = world.send_as(login, &request).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let queued = world.queued().await;
        let text = world.text(queued.last().unwrap()).await;
        assert!(text.contains(from), "{text}");
    }
}

#[tokio::test]
async fn received_names_an_only_recipient() {
    let world = World::start().await;
    let request = json!({"To": [{"Address": "b@example.com"}], "Text": "x"});
    assert_eq!(world.send(&request).await.status, 200);
    let text = world.text(&world.queued().await[0]).await;
    assert!(text.contains("\r\n\tfor <b@example.com>;"), "{text}");
}

#[tokio::test]
async fn recipients_of_a_day_are_limited() {
    let world = World::start().await;
    let send = async |to: &[&str]| {
        let to: Vec<_> = to.iter().map(|to| json!({ "Address": to })).collect();
        let request = json!({"To": to, "Text": "x"});
        let answer = world.send_as("bob@example.org", &request).await;
        match answer.status.as_u16() {
            200 => "ok".to_owned(),
            _ => answer
                .json()
                .get("Code")
                .unwrap()
                .as_str()
                .unwrap()
                .to_owned(),
        }
    };
    // Bob may send to five recipients a day, three of them new.
    assert_eq!(send(&["a@x.example", "b@x.example"]).await, "ok");
    assert_eq!(
        send(&["c@x.example", "d@x.example"]).await,
        "recipientLimitReached"
    );
    assert_eq!(send(&["A@x.example", "c@x.example"]).await, "ok");
    assert_eq!(send(&["d@x.example"]).await, "recipientLimitReached");
    assert_eq!(
        send(&["a@x.example", "b@x.example"]).await,
        "messageLimitReached"
    );
    assert_eq!(send(&["a@x.example", "a@x.example"]).await, "ok");
    assert_eq!(send(&["a@x.example"]).await, "messageLimitReached");
    world.clock.advance(Duration::from_secs(26 * 60 * 60));
    assert_eq!(
        send(&["a@x.example", "d@x.example", "e@x.example"]).await,
        "ok"
    );
}

#[tokio::test]
async fn limits_hold_for_calls_at_the_same_moment() {
    let world = World::start().await;
    let send = |to: String| {
        let world = &world;
        async move {
            let request = json!({"To": [{"Address": to}], "Text": "x"});
            world.send_as("bob@example.org", &request).await.status
        }
    };
    // A message that is being added may count twice, so fewer may be accepted, but never more.
    join_all((0..20).map(|at| send(format!("new{at}@x.example")))).await;
    assert!((1..=3).contains(&world.queued().await.len()));
    let known = world.queued().await[0].recipient.to_string();
    join_all((0..20).map(|_| send(known.clone()))).await;
    while send(known.clone()).await == 200 {}
    assert_eq!(world.queued().await.len(), 5);
}

#[tokio::test]
async fn a_request_with_a_key_is_sent_once() {
    let world = World::start().await;
    let request = |subject: &str| {
        let to = [
            json!({"Address": "a@x.example"}),
            json!({"Address": "b@x.example"}),
        ];
        json!({"To": to, "Subject": subject, "Text": "x"})
    };
    let send = async |login: &str, key: &str, subject: &str| {
        world.send_once(login, key, &request(subject)).await
    };
    let ann = "ann+id@example.org";
    let first = send(ann, "order 7", "one").await;
    assert_eq!(first.status, 200, "{}", first.body);
    assert_eq!(send(ann, "order 7", "one").await.body, first.body);
    assert_eq!(world.queued().await.len(), 2);
    let other = send(ann, "order 7", "two").await;
    assert_eq!(
        (other.status.as_u16(), &other.json()["Code"]),
        (400, &json!("idempotencyConflict"))
    );
    // The login is the default of From, so the same request from another login is another request.
    let helpdesk = send("help@example.org", "order 7", "one").await;
    assert_eq!(helpdesk.json()["Code"], "idempotencyConflict");
    let (third, fourth) = tokio::join!(send(ann, "order 8", "one"), send(ann, "order 8", "one"));
    assert_eq!(third.body, fourth.body);
    assert_ne!(third.body, first.body);
    // A repeated request does not count for the limits: bob may have three new recipients.
    let bob = "bob@example.org";
    let (fifth, sixth) = tokio::join!(send(bob, "order 6", "one"), send(bob, "order 6", "one"));
    assert_eq!((fifth.status.as_u16(), &fifth.body), (200, &sixth.body));
    // Another account has its own keys, and after a day a key is forgotten.
    assert_eq!(send(bob, "order 7", "two").await.status, 200);
    world.clock.advance(Duration::from_secs(24 * 60 * 60));
    assert_eq!(send(ann, "order 7", "two").await.status, 200);
    assert_eq!(world.queued().await.len(), 10);
    let long = "k".repeat(256);
    for bad in ["", &long] {
        assert_eq!(send(ann, bad, "one").await.json()["Code"], "user");
    }
}
