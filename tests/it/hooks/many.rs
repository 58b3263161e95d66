//! A thousand sessions that wait for a hook at the same time.

use std::{fs, path::PathBuf, sync::Arc};

use axum::{Router, routing::post};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

use super::letter;
use crate::support::{
    Setup,
    client::Client,
    patience::patiently,
    program::{Program, set_password},
};

const SESSIONS: usize = 1000;

/// A hook server that accepts each message, but only when it may. Gives its URL and the number of
/// calls that came.
async fn late(may_answer: watch::Receiver<bool>) -> (String, watch::Receiver<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    // The name is looked up for each connection.
    let url = format!(
        "http://localhost:{}/",
        listener.local_addr().unwrap().port()
    );
    let (asked, calls) = watch::channel(0);
    let asked = Arc::new(asked);
    let answer = async move || {
        asked.send_modify(|count| *count += 1);
        may_answer.clone().wait_for(|may| *may).await.unwrap();
        "{\"action\": \"accept\"}"
    };
    let router = Router::new().route("/", post(answer));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, calls)
}

/// The threads and the open files of a process.
fn used(pid: u32) -> (usize, usize) {
    let folder = PathBuf::from(format!("/proc/{pid}"));
    let status = fs::read_to_string(folder.join("status")).unwrap();
    let threads = status
        .lines()
        .find_map(|line| line.strip_prefix("Threads:"));
    let files = fs::read_dir(folder.join("fd")).unwrap().count();
    (threads.unwrap().trim().parse().unwrap(), files)
}

/// A session up to its text, which only lacks its end.
async fn up_to_the_end(mx: std::net::SocketAddr) -> Client {
    let mut client = Client::connect(mx).await;
    client.expect("EHLO client.test", "250").await;
    client.expect("MAIL FROM:<a@remote.test>", "250").await;
    client.expect("RCPT TO:<app@example.org>", "250").await;
    client.expect("DATA", "354").await;
    client.send(letter("late").as_bytes()).await;
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_sessions_wait_for_a_late_hook() {
    // This process has both other ends.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let (answers, may_answer) = watch::channel(true);
    let (url, mut calls) = late(may_answer).await;
    let dir = tempfile::tempdir().unwrap();
    let statics = format!(
        "[limits]\nconnections_per_network = 2000\nmessages_per_network = 2000\n\
         [hooks.late]\nurl = \"{url}\"\ntimeout = \"4m\"\n"
    );
    let setup = Setup {
        statics,
        ..Setup::default()
    };
    let conf = setup.write(dir.path());
    set_password(&conf);
    let server = Program::start(&conf);
    let mx = server.address("test.smtp").await;
    // All parts of the server have worked once.
    let mut first = up_to_the_end(mx).await;
    assert!(first.command("\r\n.").await.starts_with("250"));
    answers.send(false).unwrap();

    let mut sessions = Vec::new();
    for _ in 0..SESSIONS {
        sessions.push(up_to_the_end(mx).await);
    }
    let (threads_before, files_before) = used(server.pid());
    let mut ends = JoinSet::new();
    for mut client in sessions {
        ends.spawn(async move { (client.command("\r\n.").await, client) });
    }
    let all = calls.wait_for(|count| *count == SESSIONS + 1);
    patiently("a call of each session", all).await.unwrap();
    let (threads, files) = used(server.pid());
    // Another one is served meanwhile.
    assert!(first.command("NOOP").await.starts_with("250"));
    assert!(
        threads < threads_before + 20,
        "{threads} threads, and {threads_before} before"
    );
    // Each has one connection to the hook.
    let most = files_before + SESSIONS + 50;
    assert!(files <= most, "{files} files, and {files_before} before");

    answers.send(true).unwrap();
    let mut clients = Vec::new();
    while let Some(ended) = patiently("the end of each message", ends.join_next()).await {
        let (reply, client) = ended.unwrap();
        assert!(reply.starts_with("250 2.0.0 delivered as "), "{reply}");
        clients.push(client);
    }
    assert_eq!(clients.len(), SESSIONS);
    // The connections to the hook close, but for a few.
    let closed = async {
        while used(server.pid()).1 > files_before + 50 {
            tokio::task::yield_now().await;
        }
    };
    patiently("the end of the calls", closed).await;
}
