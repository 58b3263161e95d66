//! The API v1 over a real socket, by our own client.

use postrider_webapi::{
    api::{EventsRequest, NameAddress, QueueStatusRequest, SendRequest, State},
    client::{Client, ClientError, Login},
};

use crate::support::{PASSWORD, World, remote::Remote};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_client_sends_and_hears_what_became_of_it() {
    let remote = Remote::start(|_, _| None).await;
    let world = World::facing(&remote, String::new()).await;
    let base = format!(
        "http://{}/webapi",
        world.server.address("webapi_http").unwrap()
    );
    let login = |password: &str| Login::Password("app@example.org".into(), password.into());
    let client = Client::new(&base, login(PASSWORD)).unwrap();
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
    // The remote has it before we know that it has.
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

    let stranger = Client::new(&base, login("wrong")).unwrap();
    match stranger.send(&request).await {
        Err(ClientError::Refused {
            status: 401, code, ..
        }) => assert_eq!(code, "unauthorized"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(
        Client::new("nowhere", login("x")),
        Err(ClientError::Url(_))
    ));
    world.server.stop().await;
}
