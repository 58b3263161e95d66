//! The commands of administrators: the real program against the control socket of a running server.

use std::{path::PathBuf, time::Duration};

use serde_json::Value;

use crate::support::{Setup, World, message, program, receiver::Receiver, remote::Remote};

struct Desk {
    world: World,
    conf: PathBuf,
}

impl Desk {
    async fn open(remote: &Remote, receiver: &Receiver) -> Self {
        let app = format!(
            "keep_retired_webhook_period = \"24h\"\noutgoing_webhook = {{ url = {:?} }}\n",
            receiver.url()
        );
        let world = World::facing(remote, app).await;
        let conf = world.dir.path().join("postrider.conf");
        Self { world, conf }
    }

    async fn send(&self, to: &str) {
        let text = message("desk");
        let reply = self
            .world
            .submission()
            .await
            .submit("app@example.org", &[to], &text)
            .await;
        assert!(reply.starts_with("250 2.0.0"), "{reply}");
    }

    /// The text that a successful command prints.
    async fn says(&self, arguments: &[&str]) -> String {
        let output = program::run(&self.conf, arguments).await;
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    async fn list(&self, arguments: &[&str]) -> Vec<Value> {
        let arguments = [arguments, &["--json"]].concat();
        serde_json::from_str(&self.says(&arguments).await).unwrap()
    }

    /// The text on standard error of a command that ends with this exit code.
    async fn ends(&self, code: i32, arguments: &[&str]) -> String {
        let output = program::run(&self.conf, arguments).await;
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// The text on standard error of a command that fails.
    async fn refuses(&self, arguments: &[&str]) -> String {
        self.ends(1, arguments).await
    }

    /// The text on standard error of a command line that is wrong.
    async fn misunderstands(&self, arguments: &[&str]) -> String {
        self.ends(2, arguments).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_held_inspected_released_and_dropped() {
    let remote = Remote::start(|_, _| None).await;
    let receiver = Receiver::start(|_| 200).await;
    let mut desk = Desk::open(&remote, &receiver).await;
    let added = desk.says(&["queue", "hold-rules", "add"]).await;
    assert_eq!(added, "hold rule 1 added; it holds 0 queued messages\n");
    for to in ["a@remote.test", "b@remote.test", "c@remote.test"] {
        desk.send(to).await;
    }
    // The rule also holds after a restart.
    desk.world = desk.world.restart().await;
    desk.send("d@remote.test").await;
    let queued = desk.list(&["queue", "list"]).await;
    assert_eq!(queued.len(), 4);
    for item in &queued {
        assert_eq!(item["held"], true);
        let state = item["state"].as_str().unwrap();
        assert!(state.contains("hold rule 1"), "{state}");
    }
    let id = |index: usize| queued[index]["id"].to_string();
    let why = desk.says(&["queue", "explain", &id(0)]).await;
    assert!(why.contains("hold rule 1"), "{why}");
    let text = desk.says(&["queue", "dump", &id(0)]).await;
    assert!(text.contains("\r\nSubject: desk\r\n"), "{text}");

    let which = desk.misunderstands(&["queue", "drop"]).await;
    assert!(which.contains("--all"), "{which}");
    let nowhere = ["queue", "transport", "nowhere", "--ids", &id(0)];
    let unknown = desk.refuses(&nowhere).await;
    assert!(unknown.contains("nowhere"), "{unknown}");

    let kicked = desk.says(&["queue", "kick", "--ids", &id(0)]).await;
    assert_eq!(
        kicked,
        "1 message changed\n1 message still held; \"queue release\" lets it go\n"
    );
    let dropped = desk.says(&["queue", "drop", "--to", "b@"]).await;
    assert_eq!(dropped, "1 message dropped\n");
    let failed = desk.says(&["queue", "fail", "--ids", &id(2)]).await;
    assert_eq!(failed, "1 message failed\n");
    desk.says(&["queue", "hold-rules", "remove", "1"]).await;
    assert_eq!(
        desk.world.server.store().counts().await.queued,
        2,
        "the messages stay held without the rule"
    );
    let released = desk.says(&["queue", "release", "--hold", "true"]).await;
    assert_eq!(released, "2 messages changed\n");
    let calls = receiver.wait_for(4).await;
    let mut events: Vec<_> = calls
        .iter()
        .map(|call| call.payload["Event"].as_str().unwrap())
        .collect();
    events.sort_unstable();
    assert_eq!(events, ["canceled", "delivered", "delivered", "failed"]);
    let retired = desk.list(&["queue", "retired", "list"]).await;
    assert_eq!(retired.len(), 4);
    let delivered = ["queue", "retired", "list", "--success", "true"];
    let delivered = desk.list(&delivered).await;
    assert_eq!(delivered.len(), 2);
    let attempt = &delivered[0]["results"][0];
    assert_eq!(
        (&attempt["success"], &attempt["code"]),
        (&true.into(), &250.into())
    );

    // A rule can take what it held along.
    desk.says(&["queue", "hold-rules", "add"]).await;
    desk.send("e@remote.test").await;
    let remove = ["queue", "hold-rules", "remove", "2", "--release"];
    let removed = desk.says(&remove).await;
    assert_eq!(removed, "hold rule 2 removed; 1 message released\n");
    receiver.wait_for(5).await;
    desk.world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destination_is_paused_also_over_a_restart() {
    let remote = Remote::start(|_, _| None).await;
    let receiver = Receiver::start(|_| 200).await;
    let mut desk = Desk::open(&remote, &receiver).await;
    let pause = ["queue", "destinations", "pause", "Remote.test"];
    let terms = ["--for", "2h", "--reason", "they move"];
    let paused = desk.says(&[&pause[..], &terms[..]].concat()).await;
    assert_eq!(paused, "Remote.test is paused for 2h\n");
    desk.send("a@remote.test").await;
    desk.world = desk.world.restart().await;
    let orders = desk.list(&["queue", "destinations", "orders"]).await;
    assert_eq!(orders.len(), 1);
    assert_eq!(orders[0]["target"], "remote.test");
    assert_eq!(orders[0]["reason"], "they move");
    let queued = desk.list(&["queue", "list"]).await;
    let state = queued[0]["state"].as_str().unwrap();
    assert!(
        state.contains("deliveries to remote.test are paused"),
        "{state}"
    );
    let unknown = desk
        .refuses(&["queue", "destinations", "forget", "other.test"])
        .await;
    assert!(unknown.contains("other.test"), "{unknown}");
    let resumed = desk
        .says(&["queue", "destinations", "resume", "remote.test"])
        .await;
    assert_eq!(resumed, "deliveries to remote.test go on\n");
    remote.wait_for(1).await;
    let sites = desk.list(&["queue", "destinations", "remote.test"]).await;
    assert_eq!(sites.len(), 1);
    assert_eq!(sites[0]["domains"], serde_json::json!(["remote.test"]));
    let forgotten = desk
        .says(&["queue", "destinations", "forget", "remote.test"])
        .await;
    assert!(forgotten.starts_with("forgotten:\n"), "{forgotten}");
    desk.world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_found_by_message_id_subject_and_time() {
    let remote = Remote::start(|_, _| None).await;
    let receiver = Receiver::start(|_| 200).await;
    let desk = Desk::open(&remote, &receiver).await;
    desk.says(&["queue", "hold-rules", "add"]).await;
    desk.send("a@remote.test").await;
    let text = "From: app@example.org\r\nSubject: Invoice \u{202e}\u{1b}[2J 7\r\n\
                Message-ID: <invoice7@example.org>\r\n\r\nhello\r\n";
    let reply = desk
        .world
        .submission()
        .await
        .submit("app@example.org", &["b@remote.test"], text)
        .await;
    assert!(reply.starts_with("250 2.0.0"), "{reply}");
    for found in [
        ["--message-id", "invoice7@example.org"],
        ["--message-id", "<invoice7@example.org>"],
        ["--subject", "INVOICE"],
    ] {
        let found = desk.list(&[&["queue", "list"], &found[..]].concat()).await;
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0]["to"], "b@remote.test");
    }
    let none = ["queue", "list", "--message-id", "other@example.org"];
    assert!(desk.list(&none).await.is_empty());
    let both = [
        "queue",
        "list",
        "--message-id",
        "invoice7@example.org",
        "--to",
        "a@",
    ];
    assert!(desk.list(&both).await.is_empty());
    let at = "2100-01-02T03:04:05Z";
    let moved = ["queue", "schedule", "--at", at, "--subject", "invoice"];
    let moved = desk.says(&moved).await;
    assert!(moved.starts_with("1 message changed\n"), "{moved}");
    let later = ["queue", "list", "--next-attempt", ">2099-01-01"];
    let later = desk.list(&later).await;
    assert_eq!(later.len(), 1);
    assert_eq!(later[0]["next_attempt"], at);
    let ended = desk.says(&["queue", "drop", "--subject", "invoice"]).await;
    assert_eq!(ended, "1 message dropped\n");
    let retired = ["queue", "retired", "list", "--subject", "invoice"];
    assert_eq!(desk.list(&retired).await.len(), 1);
    desk.world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_command_line_ends_with_2_and_a_failure_with_1() {
    let remote = Remote::start(|_, _| None).await;
    let receiver = Receiver::start(|_| 200).await;
    let desk = Desk::open(&remote, &receiver).await;
    for (wrong, problem) in [
        (&["queue", "lsit"][..], "lsit"),
        (&["queue", "list", "--submitted", "1h"], "\"<\" (before)"),
        (
            &["queue", "list", "--next-attempt", "<1x"],
            "\"1x\" is not a time",
        ),
        (&["queue", "schedule", "--at", "soon", "--all"], "\"soon\""),
        (&["queue", "hold", "--all", "--ids", "1"], "exclude"),
        (
            &[
                "apikey",
                "add",
                "shop",
                "--account",
                "app",
                "--expires",
                "x",
            ],
            "not a duration",
        ),
        (&["webapi", "NoSuchMethod"], "NoSuchMethod"),
        (
            &["webapi", "Send", "{a}", "--key", "k"],
            "the request is not JSON",
        ),
        (
            &["queue", "hold-rules", "add", "--sender", "nobody"],
            "nobody",
        ),
        (
            &["queue", "hold-rules", "add", "--sender-domain", "a..b"],
            "a..b",
        ),
        (&["queue", "suppress", "add", "app", "nobody"], "nobody"),
        (&["queue", "kick"], "--all"),
        (&["queue", "list", "--submitted", "yesterday"], "\"<\""),
        (&["localserve", "--port-offset", "65000"], "--port-offset"),
        (&["localserve", "--deliver", "--ip", "0.0.0.0"], "relay"),
    ] {
        let error = desk.misunderstands(wrong).await;
        assert!(error.contains(problem), "{wrong:?}: {error}");
    }
    for (refused, problem) in [
        (&["queue", "explain", "7"][..], "no message 7"),
        (&["queue", "hold-rules", "remove", "7"], "no hold rule 7"),
        (&["apikey", "rm", "7"], "no key 7"),
        (
            &["apikey", "add", "shop", "--account", "nobody"],
            "no account nobody",
        ),
        (
            &["queue", "suppress", "remove", "app", "a@remote.test"],
            "not on the list",
        ),
    ] {
        let error = desk.refuses(refused).await;
        assert!(error.contains(problem), "{refused:?}: {error}");
    }
    assert_eq!(
        desk.says(&["queue", "retired", "list", "--json"]).await,
        "[\n]\n"
    );
    let Desk { world, conf } = desk;
    world.server.stop().await;
    let output = program::run(&conf, &["queue", "list", "--json"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("postrider serve"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_is_suppressed_by_hand_and_allowed_again() {
    let remote = Remote::start(|_, _| None).await;
    let receiver = Receiver::start(|_| 200).await;
    let desk = Desk::open(&remote, &receiver).await;
    let add = [
        "queue",
        "suppress",
        "add",
        "app",
        "User.Name@remote.test",
        "--reason",
        "asked to",
    ];
    desk.says(&add).await;
    let again = desk.refuses(&add).await;
    assert!(again.contains("already"), "{again}");
    let listed = desk.list(&["queue", "suppress", "list"]).await;
    assert_eq!(listed[0]["base_address"], "username@remote.test");
    assert_eq!(listed[0]["reason"], "asked to");
    let lists = async |options: &[&str]| {
        let list = [&["queue", "suppress", "list"][..], options].concat();
        desk.list(&list).await.len()
    };
    for (options, expected) in [
        (&["--text", "user.name+x@remote.test"][..], 1),
        (&["--text", "asked", "--manual", "true"], 1),
        (&["--manual", "false"], 0),
        (&["--list", "news"], 0),
    ] {
        assert_eq!(lists(options).await, expected, "{options:?}");
    }
    desk.send("username+news@remote.test").await;
    assert_eq!(receiver.wait_for(1).await[0].payload["Event"], "suppressed");
    assert!(remote.received().is_empty());
    desk.says(&["queue", "suppress", "remove", "app", "username@remote.test"])
        .await;
    desk.send("username+news@remote.test").await;
    assert_eq!(receiver.wait_for(2).await[1].payload["Event"], "delivered");
    desk.world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn webhook_calls_are_listed_kicked_replayed_and_canceled() {
    let remote = Remote::start(|_, _| None).await;
    let receiver = Receiver::start(|number| match number {
        0 | 1 | 6 => 500,
        _ => 200,
    })
    .await;
    let desk = Desk::open(&remote, &receiver).await;
    // The commands use the clock of the machine. The clock of the server must never be behind it.
    let century = Duration::from_secs(100 * 365 * 24 * 3600);
    desk.world.clock.advance(century);
    let list = ["queue", "webhook", "list"];
    // The server stores the result of a call after the receiver has seen the call.
    let listed = async |attempts: usize| loop {
        let calls = desk.list(&list).await;
        let results = calls
            .first()
            .map(|call| call["results"].as_array().unwrap().len());
        if results == Some(attempts) {
            return calls;
        }
    };
    desk.send("a@remote.test").await;
    let calls = listed(1).await;
    for (failed, expected) in [("true", 1), ("false", 0)] {
        let options = [&list[..], &["--failed", failed]].concat();
        assert_eq!(desk.list(&options).await.len(), expected, "{failed}");
    }
    assert_eq!(
        (&calls[0]["event"], &calls[0]["queue_msg_id"]),
        (&"delivered".into(), &1.into())
    );
    assert_eq!(calls[0]["results"][0]["code"], 500);
    let moved = desk
        .says(&[
            "queue",
            "webhook",
            "schedule",
            "--by",
            "1h",
            "--message",
            "1",
        ])
        .await;
    assert_eq!(moved, "1 call moved\n");
    desk.world.clock.advance(Duration::from_secs(2 * 3600));
    listed(2).await;
    let none = desk.misunderstands(&["queue", "webhook", "kick"]).await;
    assert!(none.contains("--all"), "{none}");
    desk.says(&["queue", "webhook", "kick", "--all"]).await;
    receiver.wait_for(3).await;
    let retired = async |count: usize| loop {
        let calls = desk.list(&["queue", "webhook", "retired", "list"]).await;
        if calls.len() == count {
            return calls;
        }
    };
    let calls = retired(1).await;
    assert_eq!(
        (&calls[0]["success"], &calls[0]["attempts"]),
        (&true.into(), &3.into())
    );

    let replayed = desk
        .says(&["queue", "webhook", "replay", "--event", "delivered"])
        .await;
    assert_eq!(replayed, "1 call to be made again\n");
    let calls = receiver.wait_for(4).await;
    assert_eq!(calls[3].payload, calls[0].payload);
    assert_ne!(
        calls[3].headers["x-mox-webhook-id"],
        calls[0].headers["x-mox-webhook-id"]
    );
    // A replay does not repeat calls that an earlier replay made.
    retired(2).await;
    let replayed = desk
        .says(&["queue", "webhook", "replay", "--event", "delivered"])
        .await;
    assert_eq!(replayed, "1 call to be made again\n");
    receiver.wait_for(5).await;
    retired(3).await;
    let tested = desk.says(&["queue", "webhook", "test", "app"]).await;
    assert!(tested.contains(" answered 200 "), "{tested}");
    assert_eq!(receiver.wait_for(6).await[5].payload["Event"], "delivered");
    let nothing = desk.refuses(&["queue", "webhook", "test", "other"]).await;
    assert!(
        nothing.contains("accounts.other.outgoing_webhook"),
        "{nothing}"
    );

    desk.send("b@remote.test").await;
    listed(1).await;
    let canceled = desk
        .says(&["queue", "webhook", "cancel", "--account", "app"])
        .await;
    assert_eq!(canceled, "1 call canceled\n");
    let failed = ["queue", "webhook", "retired", "list", "--success", "false"];
    let calls = desk.list(&failed).await;
    assert_eq!(calls[0]["results"][1]["error"], "canceled by admin");
    assert!(desk.list(&list).await.is_empty());
    desk.world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deliveries_stop_and_start() {
    let remote = Remote::start(|_, _| None).await;
    let receiver = Receiver::start(|_| 200).await;
    let desk = Desk::open(&remote, &receiver).await;
    let stopped = desk.says(&["queue", "stop"]).await;
    assert!(stopped.contains("deliveries  stopped since "), "{stopped}");
    assert!(stopped.contains("webhooks    stopped since "), "{stopped}");
    desk.send("a@remote.test").await;
    let accepted = desk.list(&["queue", "list"]).await.len();
    assert!(accepted > 0);
    let webhooks = desk.says(&["queue", "start", "--only", "webhooks"]).await;
    assert!(webhooks.contains("webhooks    running"), "{webhooks}");
    assert!(webhooks.contains("deliveries  stopped"), "{webhooks}");
    assert_eq!(desk.list(&["queue", "list"]).await.len(), accepted);
    let status = desk.says(&["queue", "status", "--json"]).await;
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["deliveries"], false);
    assert_eq!(status["webhooks"], true);
    let started = desk.says(&["queue", "start"]).await;
    assert_eq!(started, "deliveries  running\nwebhooks    running\n");
    receiver.wait_for(accepted).await;
    desk.world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_are_counted_by_reason() {
    let world = World::start(Setup::default()).await;
    let conf = world.dir.path().join("postrider.conf");
    assert!(program::refusals(&conf).await.is_empty());
    let mut sender = world.client("smtp").await;
    sender.expect("NONSENSE", "500 5.5.1").await;
    sender.expect("EHLO sender.test", "250").await;
    sender.expect("MAIL FROM:<joe@sender.test>", "250 ").await;
    for _ in 0..2 {
        sender.expect("RCPT TO:<x@example.org>", "550 5.1.1").await;
    }
    sender.expect("RCPT TO:<app@example.org>", "250 ").await;
    sender.expect("DATA", "354").await;
    sender.send(b"From: <joe@sender.test>\r\n\r\na\nb").await;
    sender.expect("\r\n.", "554 5.5.2").await;
    let mut application = world.client("submission").await;
    application.expect("EHLO app.test", "250").await;
    application
        .expect("MAIL FROM:<app@example.org>", "530")
        .await;
    let counted = [
        ("bare_newline", 1),
        ("login_required", 1),
        ("unknown_command", 1),
        ("unknown_recipient", 2),
    ];
    let expected = counted.map(|(reason, count)| (reason.to_owned(), count));
    assert_eq!(program::refusals(&conf).await, expected.into());
    let output = program::run(&conf, &["refusals"]).await;
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines = text.lines().map(str::trim_start);
    assert!(
        lines.clone().any(|line| line == "2  unknown_recipient"),
        "{text}"
    );
    assert!(lines.all(|line| !line.starts_with("0 ")), "{text}");
    let output = program::run(&conf, &["refusals", "--all"]).await;
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines = text.lines().map(str::trim_start);
    assert!(lines.any(|line| line == "0  greylisted"), "{text}");
}
