//! The limits on connections and open files, with the real program.

use crate::support::{
    PASSWORD, Setup,
    client::Client,
    message,
    program::{Program, refusals, run, set_password, with_files},
    webapi,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_to_the_mx_never_lock_out_applications() {
    let dir = tempfile::tempdir().unwrap();
    let conf = Setup::default().write(dir.path());
    set_password(&conf);
    let server = Program::start_with_files(&conf, 400);
    let mx = server.address("test.smtp").await;
    // The places of 56 connections, without those that submission and HTTP have for themselves.
    let mut idle = Vec::new();
    for _ in 0..42 {
        idle.push(Client::connect(mx).await);
    }
    let refusal = Client::refused(mx).await;
    assert!(refusal.starts_with("421 4.3.2 "), "{refusal}");
    let refused = "service=smtp reason=connections code=421 enhanced=4.3.2 text=\"too many \
                   connections, try again later\" limit=limits.connections";
    server.logs(refused, 1).await;
    let traced = run(&conf, &["trace", "127.0.0.1"]).await;
    let traced = String::from_utf8(traced.stdout).unwrap();
    let shown = "  too many connections: 421, too many connections, try again later, policy \
                 limits.connections, rule connections\n";
    assert!(traced.contains(shown), "{traced}");
    let counted = refusals(&conf).await;
    assert_eq!(counted, [("connections".to_owned(), 1)].into());
    let limits = "open_files=400 raised_from=400 connections=56";
    server.logs(limits, 1).await;

    let submission = Client::connect(server.address("test.submission").await).await;
    let mut submission = submission.login("app@example.org", PASSWORD).await;
    let reply = submission
        .submit("app@example.org", &["rcpt@remote.test"], &message("full"))
        .await;
    assert!(reply.starts_with("250 2.0.0"), "{reply}");
    let http = server.address("test.webapi_http").await;
    let sent = webapi(
        http,
        "app@example.org",
        "Send",
        r#"{"To": [{"Address": "rcpt@remote.test"}], "Text": "full"}"#,
    )
    .await;
    assert!(sent["MessageID"].is_string(), "{sent}");
    let queued = run(&conf, &["queue", "list", "--json"]).await;
    assert!(queued.status.success(), "{queued:?}");
    // A place that is free again can be taken.
    idle.pop().unwrap().expect("QUIT", "221").await;
    Client::connect_when_free(mx).await;
}

#[tokio::test]
async fn too_few_open_files_are_an_error_that_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let conf = Setup::default().write(dir.path());
    let mut command = with_files(&conf, 200);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = output.await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("may open only 200 files"), "{text}");
    assert!(text.contains("LimitNOFILE"), "{text}");
    assert!(!dir.path().join("data").exists(), "nothing was made");
}

/// Two hundred clients stop amid a command or a text. The server has a few threads, whose number
/// has nothing to do with theirs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_clients_cost_no_thread() {
    let dir = tempfile::tempdir().unwrap();
    let conf = Setup::default().write(dir.path());
    let server = Program::start(&conf);
    let mx = server.address("test.smtp").await;
    let tasks = format!("/proc/{}/task", server.pid());
    let threads = || std::fs::read_dir(&tasks).unwrap().count();
    let text = "From: <joe@elsewhere.test>\r\nSubject: x\r\n\r\nHello.";
    let mut client = Client::connect(mx).await;
    client.expect("EHLO elsewhere.test", "250").await;
    let reply = client.submit("joe@elsewhere.test", &["app@example.org"], text);
    assert!(reply.await.starts_with("250"));
    let before = threads();
    let mut slow = Vec::new();
    for number in 0..200 {
        let mut client = Client::connect(mx).await;
        client.expect("EHLO elsewhere.test", "250").await;
        client.expect("MAIL FROM:<joe@elsewhere.test>", "250").await;
        if number % 2 == 0 {
            client.send(b"RCPT TO:<app@exam").await;
        } else {
            client.expect("RCPT TO:<app@example.org>", "250").await;
            client.expect("DATA", "354").await;
            client
                .send(b"From: <joe@elsewhere.test>\r\nSubject: x\r\n\r\nHel")
                .await;
        }
        slow.push(client);
    }
    let after = threads();
    assert!(after < before + 20, "{after} threads, and {before} before");
    // Others are served meanwhile.
    let reply = client.submit("joe@elsewhere.test", &["app@example.org"], text);
    assert!(reply.await.starts_with("250"));
}
