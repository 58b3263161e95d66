//! The webapi over a real socket, called by our own client.

use futures_util::StreamExt;
use postrider_webapi::{
    api::{EventsRequest, MessageListRequest, NameAddress, QueueStatusRequest, SendRequest, State},
    client::{Client, ClientError, Login},
};

use crate::support::{
    PASSWORD, Setup, World,
    dkim::DkimKey,
    dkim_records::DkimRecords,
    message,
    patience::patiently,
    program,
    remote::{Act, Point, Remote},
    webapi,
};

fn base(world: &World) -> String {
    let address = world.server.address("webapi_http").unwrap();
    format!("http://{address}/webapi")
}

fn client(world: &World, password: &str) -> Client {
    let login = Login::Password("app@example.org".into(), password.into());
    Client::new(&base(world), login).unwrap()
}

/// A server without 8BITMIME may cut the eighth bit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_in_utf8_reaches_a_server_for_ascii_with_a_signature_over_what_it_gets() {
    let remote = Remote::start(|point, _| match point {
        Point::Command(line) if line.starts_with("EHLO") => {
            Some(Act::Say("250-remote.test\r\n250 SIZE 1000000"))
        }
        _ => None,
    })
    .await;
    let key = DkimKey::new();
    let folder = tempfile::tempdir().unwrap();
    let pem = folder.path().join("s.pem");
    postrider_config::replace_private(&pem, key.pem().as_bytes()).unwrap();
    let setup = Setup {
        dynamics: format!(
            "[domains.\"example.org\".dkim]\nsign = [\"s\"]\n\
             selectors.s.private_key_file = {pem:?}\n"
        ),
        ..Setup::default()
    };
    let world = World::facing_with(&remote, setup).await;
    let request = SendRequest {
        to: vec![NameAddress {
            name: "J\u{f6}rg".into(),
            address: "rcpt@remote.test".into(),
        }],
        subject: "Gr\u{fc}\u{df}e".into(),
        text: "Sch\u{f6}ne Gr\u{fc}\u{df}e aus der weiten Ferne = x\r\n".into(),
        ..SendRequest::default()
    };
    client(&world, PASSWORD).send(&request).await.unwrap();
    let got = remote.wait_for(1).await.remove(0);
    let size = format!("SIZE={}", got.text.len());
    assert!(got.mail.ends_with(&size), "{got:?}");
    assert!(got.text.is_ascii(), "{got:?}");
    for part in [
        "\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n",
        "\r\nContent-Transfer-Encoding: quoted-printable\r\n",
        "\r\n\r\nSch=C3=B6ne Gr=C3=BC=C3=9Fe aus der weiten Ferne =3D x\r\n",
    ] {
        assert!(got.text.contains(part), "{part}: {got:?}");
    }
    let records = DkimRecords::new([("s", key.record())]);
    assert_eq!(records.verify(&got.text).await, ["pass s"], "{got:?}");
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_client_sends_and_reads_status_and_events() {
    let remote = Remote::start(|_, _| None).await;
    let world = World::facing(&remote, String::new()).await;
    let client = client(&world, PASSWORD);
    let request = SendRequest {
        to: vec![NameAddress {
            name: "R".into(),
            address: "rcpt@remote.test".into(),
        }],
        subject: "by the client".into(),
        text: "Hello.".into(),
        extra: [("OrderID".to_owned(), "7".to_owned())].into(),
        idempotency_key: "order 7".into(),
        ..SendRequest::default()
    };
    let sent = client.send(&request).await.unwrap();
    let again = client.send(&request).await.unwrap();
    assert_eq!(again.message_id, sent.message_id);
    let received = remote.wait_for(1).await;
    assert!(received[0].text.contains("\r\nSubject: by the client\r\n"));
    // The remote has the message before the server knows it.
    let asked = QueueStatusRequest {
        extra: request.extra.clone(),
        ..QueueStatusRequest::default()
    };
    let status = loop {
        let found = client
            .queue_status(&asked)
            .await
            .unwrap()
            .messages
            .remove(0);
        if found.state != State::Queued {
            break found;
        }
    };
    assert_eq!(status.state, State::Delivered);
    assert_eq!(status.queue_msg_id, sent.submissions[0].queue_msg_id);
    let events = client
        .events(&EventsRequest::default())
        .await
        .unwrap()
        .events;
    assert_eq!(events.len(), 1);
    assert_eq!(
        (events[0].event.as_str(), events[0].recipient.as_str()),
        ("delivered", "rcpt@remote.test")
    );

    match self::client(&world, "wrong").send(&request).await {
        Err(ClientError::Refused {
            status: 401, code, ..
        }) => assert_eq!(code, "unauthorized"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(
        Client::new("nowhere", Login::Key("x".into())),
        Err(ClientError::Url(_))
    ));
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_client_reads_mail_and_changes_the_suppression_list() {
    let remote = Remote::start(|_, _| None).await;
    let world = World::facing(&remote, String::new()).await;
    let client = client(&world, PASSWORD);
    let mut mx = world.client("smtp").await;
    mx.expect("EHLO sender.test", "250").await;
    let text = message("to be read");
    let reply = mx
        .submit("who@else.test", &["info@example.org"], &text)
        .await;
    assert!(reply.starts_with("250"), "{reply}");

    let wanted = |mailbox: &str| MessageListRequest {
        mailbox_name: mailbox.into(),
        ..MessageListRequest::default()
    };
    let listed = client.message_list(&wanted("Info")).await.unwrap();
    assert_eq!((listed.messages.len(), listed.next), (1, None));
    assert_eq!(listed.messages[0].msg_id, 1);
    assert_eq!(listed.messages[0].meta.rcpt_to, "info@example.org");
    let others = client.message_list(&wanted("Inbox")).await.unwrap();
    assert!(others.messages.is_empty());

    let read = client.message_get(1).await.unwrap();
    assert_eq!(read.message.subject, "to be read");
    assert_eq!(read.meta.rcpt_to, "info@example.org");
    assert_eq!(read.structure.content_type, "text/plain");
    let raw = client.message_raw_get(1).await.unwrap();
    assert!(raw.ends_with(format!("{text}\r\n").as_bytes()));
    let part = client.message_part_get(1, &[]).await.unwrap();
    assert_eq!(&part[..], b"Hello.\r\n");
    client
        .message_flags_add(1, &["\\seen", "read"])
        .await
        .unwrap();
    client.message_flags_remove(1, &["\\seen"]).await.unwrap();
    client.message_move(1, "Archive").await.unwrap();
    let meta = client.message_get(1).await.unwrap().meta;
    assert_eq!(
        (meta.flags, meta.mailbox_name.as_str()),
        (vec!["$notjunk".to_owned(), "read".to_owned()], "Archive")
    );
    client.message_delete(1).await.unwrap();
    match client.message_get(1).await {
        Err(ClientError::Refused {
            status: 400, code, ..
        }) => assert_eq!(code, "messageNotFound"),
        other => panic!("{other:?}"),
    }

    client
        .suppression_add("No.Body+1@remote.test", "asked")
        .await
        .unwrap();
    assert!(
        client
            .suppression_present("nobody@remote.test")
            .await
            .unwrap()
    );
    let listed = client.suppression_list().await.unwrap();
    assert_eq!(
        (listed.len(), listed[0].reason.as_str(), listed[0].manual),
        (1, "asked", true)
    );
    client
        .suppression_remove("nobody@remote.test")
        .await
        .unwrap();
    assert!(
        !client
            .suppression_present("nobody@remote.test")
            .await
            .unwrap()
    );

    match self::client(&world, "wrong").suppression_list().await {
        Err(ClientError::Refused {
            status: 401, code, ..
        }) => assert_eq!(code, "unauthorized"),
        other => panic!("{other:?}"),
    }
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_calls_the_api_and_follows_events() {
    let remote = Remote::start(|_, _| None).await;
    let world = World::facing(&remote, String::new()).await;
    let conf = world.dir.path().join("postrider.conf");
    let webapi = async |password: &str, arguments: &[&str]| {
        let (url, user) = (base(&world), format!("app@example.org:{password}"));
        let mut all = vec!["webapi", "--url", &url, "--user", &user];
        all.extend(arguments);
        let output = program::run(&conf, &all).await;
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (
            output.status.success(),
            text(output.stdout),
            text(output.stderr),
        )
    };
    let listed = webapi(PASSWORD, &[]).await.1;
    assert!(
        listed.contains("SendBatch") && listed.contains("MessageRawGet"),
        "{listed}"
    );

    let request = r#"{"To": [{"Address": "rcpt@remote.test"}], "Text": "x"}"#;
    let (well, sent, error) = webapi(PASSWORD, &["Send", request]).await;
    assert!(well && sent.contains("\"QueueMsgID\": 1"), "{sent} {error}");
    remote.wait_for(1).await;

    let mut events = client(&world, PASSWORD).follow(Some(0)).await.unwrap();
    let event = patiently("an event", events.next()).await.unwrap().unwrap();
    assert_eq!((event.event.as_str(), event.queue_msg_id), ("delivered", 1));

    for (password, arguments, problem) in [
        (PASSWORD, &["Send", "{}"][..], "missingBody: "),
        (PASSWORD, &["Send", "{"], "the request is not JSON"),
        (PASSWORD, &["Sent", "{}"], "there is no method \"Sent\""),
        (
            PASSWORD,
            &["MessageRawGet", r#"{"MsgID": 7}"#],
            "messageNotFound: ",
        ),
        ("wrong", &["Stats", "{}"], "unauthorized: "),
    ] {
        let (well, _, error) = webapi(password, arguments).await;
        assert!(!well && error.contains(problem), "{arguments:?}: {error}");
    }
    world.server.stop().await;
    match patiently("the end of the stream", events.next()).await {
        None | Some(Err(_)) => {}
        Some(Ok(event)) => panic!("{event:?}"),
    }
}

/// The listener for this machine has a hostname that means nothing to others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_has_the_name_of_the_server_and_not_of_the_listener() {
    let remote = Remote::start(|_, _| None).await;
    let setup = Setup {
        statics: "[listeners.inner]\nips = [\"127.0.0.1\"]\nhostname = \"localhost\"\n\
            webapi_http = { enabled = true, port = 0 }\n"
            .to_owned(),
        ..Setup::default()
    };
    let world = World::facing_with(&remote, setup).await;
    let mut services = world.server.addresses().iter();
    let (_, inner) = services
        .find(|(name, _)| name == "inner.webapi_http")
        .unwrap();
    let request = r#"{"To": [{"Address": "rcpt@remote.test"}], "Text": "Hello."}"#;
    let sent = webapi(*inner, "app@example.org", "Send", request).await;
    let id = sent["MessageID"].as_str().unwrap();
    assert!(id.ends_with("@mail.example.org>"), "{id}");
    let received = remote.wait_for(1).await;
    let text = &received[0].text;
    assert!(text.contains(" by mail.example.org\r\n"), "{text}");
    assert!(!text.contains("localhost"), "{text}");
}
