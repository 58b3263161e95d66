//! The story of a message: its traces, its lines of the log and the counts tell each step.

use serde_json::Value;

use crate::support::{
    Setup,
    patience::patiently,
    program::{self, Program},
    receiver::Receiver,
    remote::{Act, Point, Remote},
    webapi,
};

/// The program with a smarthost that defers the first RCPT command and refuses the others, and a
/// webhook whose first call fails.
async fn program(dir: &std::path::Path, remote: &Remote, receiver: &Receiver) -> Program {
    let setup = Setup {
        statics: format!(
            "metrics_http = {{ enabled = true, port = 0 }}\n\
             [queue]\nretry_intervals = [\"10ms\", \"1h\"]\n\
             [transports.hub.smtp]\nhost = \"127.0.0.1\"\nport = {}\nno_starttls = true\n",
            remote.address.port()
        ),
        app: format!(
            "outgoing_webhook = {{ url = \"{}?token=secret\", events = [\"failed\"] }}\n",
            receiver.url()
        ),
        dynamics: "[[routes]]\nto_domain = [\"remote.test\"]\ntransport = \"hub\"\n".to_owned(),
        ..Setup::default()
    };
    let conf = setup.write(dir);
    let text = std::fs::read_to_string(&conf).unwrap();
    let quick = "[webhook]\nretry_intervals = [\"10ms\", \"1h\"]\n";
    std::fs::write(&conf, text.replace("[webhook]\n", quick)).unwrap();
    program::set_password(&conf);
    Program::start(&conf)
}

/// The names of the traces of a story, with the types of their events that are of interest.
fn told(story: &Value) -> Vec<(String, Vec<String>)> {
    let raw = ["delivery.raw-input", "delivery.raw-output"];
    let traces = story["traces"].as_array().unwrap().iter();
    let told = traces.map(|trace| {
        let events = trace["events"].as_array().unwrap().iter();
        let types = events.map(|event| event["type"].as_str().unwrap());
        let types = types
            .filter(|event| !raw.contains(event))
            .map(str::to_owned);
        (trace["kind"].as_str().unwrap().to_owned(), types.collect())
    });
    told.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_step_of_a_message_is_in_its_traces_in_the_log_and_in_the_counts() {
    let remote = Remote::start(|point, before| match point {
        Point::Command(line) if line.starts_with("RCPT") => Some(Act::Say(match before {
            0 => "451 4.3.0 later",
            _ => "550 5.1.1 gone",
        })),
        _ => None,
    })
    .await;
    let receiver = Receiver::start(|call| if call == 0 { 500 } else { 200 }).await;
    let dir = tempfile::tempdir().unwrap();
    let server = program(dir.path(), &remote, &receiver).await;
    let conf = dir.path().join("postrider.conf");
    let http = server.address("test.webapi_http").await;
    let request = r#"{"To": [{"Address": "gone@remote.test"}], "Subject": "x", "Text": "Hi."}"#;
    let sent = webapi(http, "app@example.org", "Send", request).await;
    let id = sent["Submissions"][0]["QueueMsgID"].to_string();
    receiver.wait_for(2).await;

    // The traces are in a file a moment after their end.
    let story = async {
        loop {
            let found = program::run(&conf, &["trace", &id, "--json"]).await;
            let stories: Value = serde_json::from_slice(&found.stdout).unwrap_or_default();
            let count = stories[0]["traces"].as_array().map_or(0, Vec::len);
            if count >= 5 {
                break stories[0].clone();
            }
        }
    };
    let story = patiently("the story", story).await;
    let attempt = |end: &[&str]| {
        let begin = [
            "delivery.attempt-start",
            "delivery.ip-lookup",
            "delivery.connect",
            "delivery.ehlo",
            "delivery.start-tls-disabled",
            "delivery.mail-from",
            "delivery.rcpt-to-rejected",
        ];
        let events = begin.iter().chain(end).map(|event| (*event).to_owned());
        ("attempt".to_owned(), events.collect::<Vec<_>>())
    };
    let call = ["postrider.webhook-start", "postrider.webhook-end"].map(str::to_owned);
    let call = || ("webhook".to_owned(), call.to_vec());
    let sent = [
        "postrider.api-start",
        "queue.queue-message-authenticated",
        "postrider.api-end",
    ];
    let sent = ("api".to_owned(), sent.map(str::to_owned).to_vec());
    let expected = [
        sent,
        attempt(&["queue.rescheduled", "delivery.attempt-end"]),
        attempt(&[
            "delivery.failed",
            "postrider.suppressed",
            "delivery.dsn-perm-fail",
            "delivery.attempt-end",
        ]),
        call(),
        call(),
    ];
    let mut found = told(&story);
    // Where the second attempt uses the connection of the first, it has no session to open.
    for (_, events) in &mut found {
        if events
            .first()
            .is_some_and(|it| it == "delivery.attempt-start")
            && !events.iter().any(|event| event == "delivery.ehlo")
        {
            let place = events.iter().position(|event| event == "delivery.connect");
            let opened = ["delivery.ehlo", "delivery.start-tls-disabled"].map(str::to_owned);
            let place = place.unwrap();
            events.splice(place + 1..place + 1, opened);
            events.insert(1, "delivery.ip-lookup".to_owned());
        }
    }
    assert_eq!(found, expected, "{story:#}");
    assert!(!story.to_string().contains("secret"), "{story:#}");

    server.logs("webhook failed", 1).await;
    let log = server.log();
    let queue = format!("queue={id}");
    let lines: Vec<&str> = log.lines().filter(|line| line.contains(&queue)).collect();
    let names = [
        "accepted ",
        "deferred ",
        "failed ",
        "suppressed ",
        "dsn sent ",
        "webhook failed ",
    ];
    for (name, line) in names.iter().zip(&lines) {
        assert!(line.contains(name), "{name}: {lines:#?}");
    }
    assert_eq!(lines.len(), names.len(), "{lines:#?}");
    for part in ["class=", "system", "code=451", "ip=127.0.0.1", "next="] {
        assert!(lines[1].contains(part), "{part}: {}", lines[1]);
    }
    assert!(!log.contains("token"), "{log}");

    let metrics = server.address("test.metrics_http").await;
    let page = reqwest::get(format!("http://{metrics}/metrics"))
        .await
        .unwrap();
    let page = page.text().await.unwrap();
    for line in [
        "postrider_accepted_messages_total{by=\"webapi\"} 1",
        "postrider_attempts_total{outcome=\"deferred\",class=\"system\"} 1",
        "postrider_attempts_total{outcome=\"failed\",class=\"unknown_mailbox\"} 1",
        "postrider_messages_ended_total{end=\"failed\"} 1",
        "postrider_suppressed_total{by=\"reply\"} 1",
        "postrider_dsns_total{action=\"failed\"} 1",
        "postrider_events_total{event=\"failed\"} 1",
        "postrider_webhook_calls_total{direction=\"outgoing\",result=\"ok\"} 1",
        "postrider_webhook_calls_total{direction=\"outgoing\",result=\"refused\"} 1",
        "postrider_webhooks_given_up_total 0",
    ] {
        assert!(page.lines().any(|it| it == line), "{line}\n{page}");
    }
    server.kill();
}
