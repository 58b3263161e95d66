//! Calls of servers that behave well and badly, over loopback sockets.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use postrider_config::Static;
use postrider_store::{Options, Store};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;
use crate::memory::TextMemory;

/// What a server does with a request.
#[derive(Clone, Debug)]
pub(in crate::hooks) enum Does {
    /// Answers with these bytes, and keeps the connection.
    Says(String),
    /// The same, and closes the connection.
    SaysAndCloses(String),
    /// Closes the connection without a word.
    Closes,
    /// Never answers.
    Waits,
}

/// A server with a script. Each request takes the next entry, the last one for good.
pub(in crate::hooks) struct Server {
    pub(in crate::hooks) url: String,
    pub(in crate::hooks) requests: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
}

/// Reads one request with a body of known length.
async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut request = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&request);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                let is_length = name.eq_ignore_ascii_case("content-length");
                is_length.then(|| value.parse::<usize>().unwrap())
            });
            if body.len() >= length.unwrap_or(0) {
                return Some(text.into_owned());
            }
        }
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return None,
            Ok(read) => request.extend_from_slice(&buffer[..read]),
        }
    }
}

pub(in crate::hooks) async fn server(script: impl IntoIterator<Item = Does>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = Server {
        url: format!("http://{}/hook", listener.local_addr().unwrap()),
        requests: Arc::default(),
        connections: Arc::default(),
    };
    let (requests, connections) = (
        Arc::clone(&server.requests),
        Arc::clone(&server.connections),
    );
    let script: Arc<Vec<Does>> = Arc::new(script.into_iter().collect());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            connections.fetch_add(1, Ordering::SeqCst);
            let (requests, script) = (Arc::clone(&requests), Arc::clone(&script));
            tokio::spawn(async move {
                while let Some(request) = read_request(&mut stream).await {
                    let number = {
                        let mut requests = requests.lock().unwrap();
                        requests.push(request);
                        requests.len()
                    };
                    let does = script.get(number - 1).or(script.last()).unwrap();
                    let (text, closes) = match does.clone() {
                        Does::Says(text) => (text, false),
                        Does::SaysAndCloses(text) => (text, true),
                        Does::Closes => return,
                        Does::Waits => std::future::pending().await,
                    };
                    // The client may have gone.
                    let _ = stream.write_all(text.as_bytes()).await;
                    if closes {
                        return;
                    }
                }
            });
        }
    });
    server
}

pub(in crate::hooks) fn answer(status: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}")
}

pub(in crate::hooks) fn ok(body: &str) -> Does {
    Does::Says(answer("200 OK", body))
}

impl Server {
    fn endpoint(&self, keys: &str) -> Endpoint {
        self.try_endpoint(keys).unwrap()
    }

    fn try_endpoint(&self, keys: &str) -> Result<Endpoint, SetupError> {
        let text = format!(
            "hostname = \"mail.example.org\"\npostmaster.account = \"alice\"\n\
             [listeners.a]\nips = [\"127.0.0.1\"]\nsmtp = {{}}\n\
             [hooks.scan]\nurl = \"{}\"\n{keys}\n",
            self.url
        );
        let statics = Static::parse(&text, "postrider.conf").unwrap();
        Endpoint::new("scan", &statics.hooks["scan"], &[])
    }

    pub(in crate::hooks) fn count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

fn memory() -> AnswerMemory {
    AnswerMemory::new(TextMemory::new(1 << 20).share([192, 0, 2, 1].into()))
}

async fn post(endpoint: &Endpoint, body: &str) -> Result<String, Failure> {
    let body = Scratch::from(Bytes::copy_from_slice(body.as_bytes()));
    let answer = endpoint
        .post(&HeaderMap::new(), &body, &mut memory())
        .await?;
    Ok(String::from_utf8(answer.to_vec()).unwrap())
}

fn unavailable(text: &str) -> Result<String, Failure> {
    Err(Failure::Unavailable(text.to_owned()))
}

fn invalid(text: &str) -> Result<String, Failure> {
    Err(Failure::Invalid(text.to_owned()))
}

#[tokio::test]
async fn a_call_has_its_fields_and_its_length_and_the_connection_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    fs::write(&secret, "pa:ss \nmore\n").unwrap();
    let server = server([ok("{}")]).await;
    let secret = secret.display();
    let endpoint = server.endpoint(&format!(
        "headers = {{ \"X-Key\" = \"k\" }}\n\
         auth = {{ username = \"joe\", password_file = \"{secret}\" }}"
    ));
    for _ in 0..2 {
        assert_eq!(post(&endpoint, "body").await.as_deref(), Ok("{}"));
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
    let request = server.requests.lock().unwrap()[1].to_lowercase();
    for line in [
        "post /hook http/1.1\r\n",
        "\r\nx-key: k\r\n",
        "\r\nauthorization: basic am9lonbhonnz\r\n",
        "\r\ncontent-length: 4\r\n",
        "\r\n\r\nbody",
    ] {
        assert!(request.contains(line), "{line:?} in {request}");
    }
    let bearer = server.endpoint(&format!("auth.bearer_file = \"{secret}\""));
    post(&bearer, "").await.unwrap();
    let request = server.requests.lock().unwrap()[2].to_lowercase();
    assert!(request.contains("\r\nauthorization: bearer pa:ss\r\n"));
    assert!(!format!("{endpoint:?}").contains("am9l"));
    assert_eq!(endpoint.shown_url(), server.url);
}

#[tokio::test]
async fn a_secret_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let server = server([ok("{}")]).await;
    let file = folder.path().join("none");
    let keys = format!("auth.bearer_file = \"{}\"", file.display());
    let error = server.try_endpoint(&keys).unwrap_err().to_string();
    assert!(
        error.starts_with("hooks.scan.auth.bearer_file: "),
        "{error}"
    );
    fs::write(&file, "\n").unwrap();
    let error = server.try_endpoint(&keys).unwrap_err().to_string();
    assert!(error.ends_with("the first line is empty"), "{error}");
}

#[tokio::test]
async fn a_long_body_comes_from_its_file_with_its_length() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(Options::new(folder.path())).unwrap();
    let mut writer = store.text_writer();
    let long = "x".repeat(1_000_000);
    writer.write(long.as_bytes()).await.unwrap();
    let body = writer.into_scratch().await.unwrap();
    assert!(body.in_memory().is_none());
    let server = server([ok("taken")]).await;
    let endpoint = server.endpoint("");
    let answer = endpoint
        .post(&HeaderMap::new(), &body, &mut memory())
        .await
        .unwrap();
    assert_eq!(answer, "taken");
    let request = server.requests.lock().unwrap()[0].clone();
    let request = request.to_lowercase();
    assert!(request.contains("content-length: 1000000\r\n"));
    assert!(!request.contains("transfer-encoding") && request.ends_with(&long));
    store.close().await;
}

#[tokio::test]
async fn answers_that_do_not_count() {
    let chunked =
        |body: &str| format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
    let long = "x".repeat(2000);
    let lies = |length: u64, body: &str| {
        format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}")
    };
    let too_long = invalid("its answer is longer than 1024 bytes");
    for (does, expected) in [
        (Does::Says(answer("204 No Content", "")), Ok(String::new())),
        (
            Does::Says(answer("404 Not Found", "")),
            unavailable("it answered 404 Not Found"),
        ),
        (
            Does::Says(answer("302 Found\r\nLocation: /elsewhere", "")),
            unavailable("it answered 302 Found; redirects are not followed"),
        ),
        (ok(&long), too_long.clone()),
        (Does::Says(lies(5_000_000_000, "{}")), too_long.clone()),
        (
            Does::Says(chunked(&format!("7d0\r\n{long}\r\n0\r\n\r\n"))),
            too_long,
        ),
        (Does::Waits, Err(Failure::Timeout)),
        // A body that is shorter than it says.
        (Does::Says(lies(100, "{}")), Err(Failure::Timeout)),
    ] {
        let server = server([does.clone()]).await;
        let timeout = match expected {
            Err(Failure::Timeout) => "300ms",
            _ => "30s",
        };
        let keys = format!("max_response_size = \"1KiB\"\ntimeout = \"{timeout}\"");
        let endpoint = server.endpoint(&keys);
        assert_eq!(post(&endpoint, "").await, expected, "{does:?}");
        assert_eq!(server.count(), 1, "{does:?}");
    }
    let server = server([Does::SaysAndCloses(lies(100, "{}"))]).await;
    let error = post(&server.endpoint(""), "").await.unwrap_err();
    assert!(matches!(&error, Failure::Invalid(text) if text.starts_with("its answer ends early")));
    assert!(!error.to_string().contains("127.0.0.1"), "{error}");
}

#[tokio::test]
async fn a_program_that_is_not_there_is_unavailable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = Server {
        url: format!("http://{}/", listener.local_addr().unwrap()),
        requests: Arc::default(),
        connections: Arc::default(),
    };
    drop(listener);
    let error = post(&server.endpoint(""), "").await.unwrap_err();
    let Failure::Unavailable(text) = error else {
        panic!("{error}");
    };
    assert!(text.starts_with("no connection: "), "{text}");
}

#[tokio::test]
async fn further_tries_follow_a_5xx_or_a_silence_and_nothing_else() {
    let retry = "retry = { max = 2, delay = \"0s\" }";
    let busy = Does::Says(answer("503 Service Unavailable", ""));
    let gone = Does::Says(answer("410 Gone", ""));
    for (script, expected, count) in [
        (vec![busy.clone(), busy.clone(), ok("a")], Ok("a".into()), 3),
        (
            vec![busy.clone()],
            unavailable("it answered 503 Service Unavailable"),
            3,
        ),
        (vec![gone], unavailable("it answered 410 Gone"), 1),
        (vec![Does::Waits, ok("a")], Ok("a".into()), 2),
    ] {
        let script_waits = matches!(script.first(), Some(Does::Waits));
        let server = server(script).await;
        let timeout = match script_waits {
            true => "3s",
            false => "30s",
        };
        let endpoint = server.endpoint(&format!("{retry}\ntimeout = \"{timeout}\""));
        assert_eq!(post(&endpoint, "").await, expected);
        assert_eq!(server.count(), count, "{expected:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_memory_is_no_answer() {
    let server = server([ok(&"x".repeat(100_000))]).await;
    let endpoint = server.endpoint("");
    let mut none = AnswerMemory::new(TextMemory::new(16 << 10).share([192, 0, 2, 1].into()));
    let body = Scratch::from(Bytes::new());
    let answer = endpoint.post(&HeaderMap::new(), &body, &mut none).await;
    let text = "there is no memory for its answer now";
    assert_eq!(answer, Err(Failure::Unavailable(text.to_owned())));
}

/// The server closes a connection that was kept, as it takes the next request. That request goes
/// over another connection, also without further tries.
#[tokio::test]
async fn a_kept_connection_that_is_closed_is_replaced() {
    let server = server([ok("a"), Does::Closes, ok("b")]).await;
    let endpoint = server.endpoint("");
    assert_eq!(post(&endpoint, "").await.as_deref(), Ok("a"));
    assert_eq!(post(&endpoint, "").await.as_deref(), Ok("b"));
    assert_eq!(server.connections.load(Ordering::SeqCst), 2);
    assert_eq!(server.count(), 3);
}
