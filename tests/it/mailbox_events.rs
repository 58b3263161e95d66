//! The live events of the mailbox API: over a WebSocket, and as server-sent events.

use reqwest::{Client, Response};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{PASSWORD, Setup, World, patience::patiently};

const APP: &str = "app@example.org";
const PATH: &str = "/api/v1/mail/events";

async fn start() -> World {
    let setup = Setup {
        statics: "mail_api_http = { enabled = true, port = 0 }\n\
                  [mail_api]\norigins = [\"https://app.test\"]\n[policy]\ngreylist = false\n\
                  first_time_sender_delay = \"0s\"\n"
            .to_owned(),
        ..Setup::default()
    };
    World::start(setup).await
}

/// Takes a message with this subject from a stranger.
async fn deliver(world: &World, subject: &str) {
    let text = format!("From: <ann@stranger.test>\r\nSubject: {subject}\r\n\r\nHi\r\n");
    let mut client = world.client("smtp").await;
    client.expect("EHLO client.test", "250").await;
    let reply = client.submit("ann@stranger.test", &[APP], &text).await;
    assert!(reply.starts_with("250"), "{reply}");
}

async fn token(world: &World) -> String {
    let address = world.server.address("mail_api_http").unwrap();
    let request = Client::new().post(format!("http://{address}{PATH}/token"));
    let answer = request
        .basic_auth(APP, Some(PASSWORD))
        .send()
        .await
        .unwrap();
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(answer["expires_in"], 60);
    answer["token"].as_str().unwrap().to_owned()
}

/// The head of the answer to a request for a WebSocket, and the connection.
async fn upgrade(world: &World, query: &str, origin: &str) -> (String, TcpStream) {
    let address = world.server.address("mail_api_http").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET {PATH}?{query} HTTP/1.1\r\nHost: mail.test\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: {origin}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    (String::from_utf8(head).unwrap(), stream)
}

/// The next text of a WebSocket, or the code with which it is closed. Pings are left out.
async fn next(stream: &mut TcpStream) -> Result<Value, u16> {
    loop {
        let kind = stream.read_u8().await.unwrap() & 0x0f;
        let length = match stream.read_u8().await.unwrap() {
            126 => usize::from(stream.read_u16().await.unwrap()),
            length => usize::from(length),
        };
        let mut bytes = vec![0; length];
        stream.read_exact(&mut bytes).await.unwrap();
        match kind {
            1 => return Ok(serde_json::from_slice(&bytes).unwrap()),
            8 => return Err(u16::from_be_bytes([bytes[0], bytes[1]])),
            _ => {}
        }
    }
}

/// Frames up to that about a new message with this subject.
async fn until(stream: &mut TcpStream, subject: &str) -> Value {
    let comes = async {
        loop {
            let frame = next(stream).await.unwrap();
            if frame["data"]["message"]["subject"] == subject {
                return frame;
            }
        }
    };
    patiently(subject, comes).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_web_socket_tells_what_happens_and_goes_on_later() {
    let world = start().await;
    let given = token(&world).await;
    let query = format!("token={given}");
    let (head, mut stream) = upgrade(&world, &query, "https://app.test").await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    deliver(&world, "one").await;
    let frame = until(&mut stream, "one").await;
    assert_eq!(frame["type"], "mail.new_message");
    assert_eq!(frame["data"]["folder"], "INBOX");
    let updated = patiently("the counts", next(&mut stream)).await.unwrap();
    assert_eq!(updated["type"], "mail.folder_update");
    assert_eq!(updated["data"]["unseen"], 1);
    let id = updated["id"].as_str().unwrap().to_owned();
    drop(stream);

    // A token is good once, and only pages of named origins may use one.
    let (head, _) = upgrade(&world, &query, "https://app.test").await;
    assert!(head.starts_with("HTTP/1.1 401"), "{head}");
    let query = format!("token={}", token(&world).await);
    let (head, _) = upgrade(&world, &query, "https://evil.test").await;
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");

    deliver(&world, "two").await;
    let query = format!("token={}&after={id}", token(&world).await);
    let (_, mut stream) = upgrade(&world, &query, "https://app.test").await;
    let first = patiently("the message that was missed", next(&mut stream))
        .await
        .unwrap();
    assert_eq!(first["data"]["message"]["subject"], "two");
    // A client that says too much is shown out: a text of 2,000 bytes, masked with zeros.
    let mut said = vec![0x81, 0x80 | 126, 0x07, 0xd0, 0, 0, 0, 0];
    said.resize(said.len() + 2000, b'x');
    stream.write_all(&said).await.unwrap();
    let closed = async {
        loop {
            if let Err(code) = next(&mut stream).await {
                return code;
            }
        }
    };
    assert_eq!(patiently("the end", closed).await, 1008);
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_sent_events_tell_the_same() {
    let world = start().await;
    let address = world.server.address("mail_api_http").unwrap();
    let open = async || -> Response {
        let request = Client::new().get(format!("http://{address}{PATH}"));
        request
            .basic_auth(APP, Some(PASSWORD))
            .send()
            .await
            .unwrap()
    };
    let mut stream = open().await;
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let mut text = String::new();
    deliver(&world, "three").await;
    let comes = async {
        while !text.contains("mail.folder_update") {
            let piece = stream.chunk().await.unwrap().unwrap();
            text.push_str(std::str::from_utf8(&piece).unwrap());
        }
    };
    patiently("both events", comes).await;
    assert!(text.contains("\"subject\":\"three\""), "{text}");
    assert!(
        text.contains("\nid: 1-") || text.starts_with("id: "),
        "{text}"
    );

    // One account has only so many streams.
    let mut open_streams = Vec::new();
    for _ in 0..19 {
        let stream = open().await;
        assert_eq!(stream.status(), 200);
        open_streams.push(stream);
    }
    let more = open().await;
    assert_eq!(more.status(), 429);
    assert!(more.headers().contains_key("retry-after"));
    let request = Client::new().get(format!("http://{address}/api/v1/mail/watcher/status"));
    let status = request
        .basic_auth(APP, Some(PASSWORD))
        .send()
        .await
        .unwrap();
    let status: Value = status.json().await.unwrap();
    assert_eq!(
        (&status["connections"], &status["method"]),
        (&20.into(), &"store".into())
    );
    world.server.stop().await;
}
