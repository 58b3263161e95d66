//! Requests that are too large for memory. They are in files while they are carried out, and the
//! files go away afterwards.

use std::{fs, path::Path};

use base64::{Engine, engine::general_purpose::STANDARD};
use mail_parser::{MessageParser, MimeHeaders};
use serde_json::{Value, json};

use crate::{
    methods::receive,
    patience::patiently,
    support::{PASSWORD, World},
};

/// Bytes that are no text, and too many for memory.
fn content(seed: u8) -> Vec<u8> {
    (0..1_500_000_u32)
        .map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes()[0] ^ seed)
        .collect()
}

/// The names and contents of the files in all queued messages.
async fn files(world: &World) -> Vec<Vec<(String, Vec<u8>)>> {
    let mut texts = Vec::new();
    for queued in world.queued().await {
        texts.push(world.text(&queued).await);
    }
    let files = |text: String| {
        let message = MessageParser::default().parse(text.as_bytes()).unwrap();
        let parts = message.parts.iter();
        let file = |part: &mail_parser::MessagePart<'_>| {
            Some((part.attachment_name()?.to_owned(), part.contents().to_vec()))
        };
        parts.filter_map(file).collect()
    };
    texts.into_iter().map(files).collect()
}

/// The number of texts with a file of their own.
fn text_files(folder: &Path) -> usize {
    let folders = fs::read_dir(folder.join("texts")).unwrap();
    let count = |folder: fs::DirEntry| fs::read_dir(folder.path()).unwrap().count();
    folders.map(|folder| count(folder.unwrap())).sum()
}

/// Waits until `count` texts have a file of their own. The files of a call go away soon after it.
async fn has(folder: &Path, count: usize) {
    let settled = async {
        while text_files(folder) != count {
            tokio::task::yield_now().await;
        }
    };
    patiently("files that go", settled).await;
}

fn to() -> Value {
    json!([{"Address": "b@example.com"}])
}

#[tokio::test]
async fn uploads_reach_the_message_in_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::on_disk(folder.path()).await;
    let request =
        json!({"To": to(), "Text": "see", "AttachedFiles": [{"Name": "json", "Data": "aGk="}]});
    let mut body = Vec::new();
    for (name, file) in [
        ("attachedfile", "a"),
        ("other", "x"),
        ("inlinefile", "i"),
        ("attachedfile", "b"),
    ] {
        let head = format!(
            "--b\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{file}\"\r\n\r\n"
        );
        body.extend(head.into_bytes());
        body.extend(content(file.as_bytes()[0]));
        body.extend(b"\r\n");
    }
    let field = format!(
        "--b\r\nContent-Disposition: form-data; name=\"request\"\r\n\r\n{request}\r\n--b--\r\n"
    );
    body.extend(field.into_bytes());
    let login = format!("ann@example.org:{PASSWORD}");
    let kind = "multipart/form-data; boundary=b";
    let answer = world.post(&login, kind, body.clone()).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let name = |name: &str, data: &[u8]| (name.to_owned(), data.to_vec());
    let expected = [
        name("i", &content(b'i')),
        name("json", b"hi"),
        name("a", &content(b'a')),
        name("b", &content(b'b')),
    ];
    assert_eq!(files(&world).await, [expected]);
    has(folder.path(), 1).await;
    // A message that becomes too large leaves no file.
    let part = body.len() - 1000;
    let four = [&body[..part], b"\r\n", &body[..]].concat();
    let answer = world.post(&login, kind, four).await;
    assert_eq!(answer.json()["Code"], "messageTooLarge", "{}", answer.body);
    has(folder.path(), 1).await;
}

#[tokio::test]
async fn files_in_json_reach_the_message() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::on_disk(folder.path()).await;
    let file =
        |name: &str, data: &str| json!({"Name": name, "Data": data, "ContentType": "image/png"});
    let mut data = STANDARD.encode(content(b'a'));
    data.insert_str(76, "\r\n");
    let request = json!({
        "To": to(), "Text": "see", "Date": null, "CC": null, "IdempotencyKey": "large",
        "AttachedFiles": [file("a", &data), file("0", "aGk="), file("b", &STANDARD.encode(content(b'b')))],
        "InlineFiles": [file("i", "")],
    });
    let first = world.call_v1("Send", &request).await;
    assert_eq!(first.status, 200, "{}", first.body);
    let name = |name: &str, data: &[u8]| (name.to_owned(), data.to_vec());
    let expected = [
        name("i", b""),
        name("a", &content(b'a')),
        name("0", b"hi"),
        name("b", &content(b'b')),
    ];
    assert_eq!(files(&world).await, [expected]);
    // The same request again, and a request that differs only at its end.
    assert_eq!(world.call_v1("Send", &request).await.body, first.body);
    let mut other = request.clone();
    other["AttachedFiles"][2]["Data"] = STANDARD.encode(&content(b'b')[..1_499_999]).into();
    let answer = world.call_v1("Send", &other).await;
    assert_eq!(answer.json()["Code"], "idempotencyConflict");
    assert_eq!(world.queued().await.len(), 1);

    for (change, code) in [
        (("Data", json!(format!("{data}!"))), "user"),
        (("Data", json!(["not a string"])), "protocol"),
        (("Unknown", json!("")), "protocol"),
    ] {
        let mut wrong = request.clone();
        wrong["IdempotencyKey"] = "".into();
        wrong["AttachedFiles"][0][change.0] = change.1;
        let answer = world.call_v1("Send", &wrong).await;
        assert_eq!(answer.json()["Code"], code, "{}", answer.body);
    }
    let text = json!({"To": to(), "Text": "x".repeat(10 << 20)});
    let answer = world.call_v1("Send", &text).await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()["Code"].as_str()),
        (413, Some("messageTooLarge"))
    );
    has(folder.path(), 1).await;
}

#[tokio::test]
async fn the_messages_of_a_batch_have_the_same_files() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::on_disk(folder.path()).await;
    let recipients: Vec<Value> = (0..5)
        .map(|at| json!({"To": {"Address": format!("r{at}@example.com")}, "Variables": {"name": at}}))
        .collect();
    let request = json!({
        "Recipients": recipients, "Subject": "{{ name }}", "Text": "see",
        "AttachedFiles": [{"Name": "a", "Data": STANDARD.encode(content(b'a'))}],
    });
    let answer = world.call_v1("SendBatch", &request).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(
        files(&world).await,
        vec![vec![("a".to_owned(), content(b'a'))]; 5]
    );
    has(folder.path(), 5).await;
}

#[tokio::test]
async fn a_long_part_is_given_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::on_disk(folder.path()).await;
    let line = STANDARD.encode([b'x'; 57]);
    let text = format!(
        "Subject: hi\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n{}",
        format!("{line}\r\n").repeat(10_000)
    );
    let id = receive(&world, "ann", &text).await.0;
    let request = json!({"MsgID": id, "PartPath": []}).to_string();
    let answer = world.call("MessagePartGet", &request).await;
    assert_eq!(answer.body, "x".repeat(570_000));
    assert_eq!(answer.headers["content-length"], "570000");
    let answer = world
        .call("MessageRawGet", &json!({"MsgID": id}).to_string())
        .await;
    assert_eq!(answer.body, text);
}

#[tokio::test]
async fn a_form_with_much_outside_of_parts_is_refused() {
    let world = World::start().await;
    let login = format!("ann@example.org:{PASSWORD}");
    let request = json!({"To": to(), "Text": "x"});
    let field =
        format!("--b\r\nContent-Disposition: form-data; name=\"request\"\r\n\r\n{request}\r\n");
    let junk = "x".repeat(3_000_000);
    let name = "n".repeat(200_000);
    let part =
        |head: &str| format!("--b\r\nContent-Disposition: form-data; name=\"{head}\r\n\r\n\r\n");
    for (what, body) in [
        (
            "before the first part",
            format!("{junk}\r\n{field}--b--\r\n"),
        ),
        (
            "a header",
            format!("{field}{}--b--\r\n", part(&format!("{junk}\""))),
        ),
        ("names", {
            let file = part(&format!("inlinefile\"; filename=\"{name}\""));
            format!("{field}{}--b--\r\n", file.repeat(6))
        }),
        (
            "parts",
            format!("{field}{}--b--\r\n", part("x\"").repeat(10_000)),
        ),
    ] {
        let answer = world
            .post(&login, "multipart/form-data; boundary=b", body)
            .await;
        assert_eq!(answer.status, 400, "{what}: {}", answer.body);
        assert_eq!(answer.json()["Code"], "protocol", "{what}: {}", answer.body);
    }
    assert!(world.queued().await.is_empty());
    let fine = format!("{field}--b--\r\n");
    let answer = world
        .post(&login, "multipart/form-data; boundary=b", fine)
        .await;
    assert_eq!(answer.status, 200, "{}", answer.body);
}

#[tokio::test]
async fn pages_of_long_rows_are_short() {
    let world = World::start().await;
    let request = json!({
        "To": to(), "Text": "x", "Extra": {"k": "v".repeat(60_000)}, "FutureRelease": "2023-11-15T00:00:00Z",
    });
    for _ in 0..60 {
        assert_eq!(world.send(&request).await.status, 200);
    }
    let (mut after, mut pages, mut rows) = (json!(0), 0, 0);
    while !after.is_null() {
        let page = world
            .call_v1("QueueList", &json!({"Limit": 1000, "After": after}))
            .await;
        let page = page.json();
        rows += page["Messages"].as_array().unwrap().len();
        after = page["Next"].clone();
        pages += 1;
    }
    assert_eq!((rows, pages), (60, 2));
}
