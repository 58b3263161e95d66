//! Tracked messages: the links in them, and the events that they make.

use postrider_store::{Event, EventFilter, Order};
use reqwest::{Client, Response, redirect::Policy};

use crate::support::{
    Setup, World,
    patience::patiently,
    remote::{Received, Remote},
};

const TRACKING: &str = "[domains.\"example.org\".tracking]\nhost = \"go.example.org\"\n\
    opens = true\nclicks = true\n";
const TEXT: &str = "From: <app@example.org>\r\nTo: <a@remote.test>\r\nSubject: News\r\n\
    X-Postrider-Track: opens, clicks\r\nMIME-Version: 1.0\r\nContent-Type: text/html\r\n\r\n\
    <body><a href=\"https://shop.test/?a=1&amp;b=2\">Buy</a></body>\r\n";
const PERSON: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0";

/// The paths of the tracked links of a message, the image last.
fn links(message: &Received) -> Vec<String> {
    // Quoted-printable cuts long lines.
    let text = message.text.replace("=\r\n", "").replace("=3D", "=");
    let links = text.split("https://go.example.org").skip(1);
    links
        .map(|rest| rest.split('"').next().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openings_and_clicks_of_a_tracked_message_are_told() {
    let remote = Remote::start(|_, _| None).await;
    let setup = Setup {
        dynamics: TRACKING.to_owned(),
        ..Setup::default()
    };
    let world = World::facing_with(&remote, setup).await;
    let mut client = world.submission().await;
    let reply = client
        .submit("app@example.org", &["a@remote.test", "b@remote.test"], TEXT)
        .await;
    assert!(reply.starts_with("250"), "{reply}");
    let got = remote.wait_for(2).await;
    for message in &got {
        assert!(
            !message.text.contains("X-Postrider-Track"),
            "{}",
            message.text
        );
        assert!(!message.text.contains("shop.test"), "{}", message.text);
        assert_eq!(message.rcpts.len(), 1);
    }
    let (first, second) = (links(&got[0]), links(&got[1]));
    assert_eq!((first.len(), second.len()), (2, 2));
    assert_ne!(first, second, "each recipient has links of its own");

    let address = world.server.address("webapi_http").unwrap();
    let http = Client::builder().redirect(Policy::none()).build().unwrap();
    let follow = async |path: &str, fields: &[(&str, &str)]| -> Response {
        let mut request = http.get(format!("http://{address}{path}"));
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap()
    };
    let image = follow(&first[1], &[("user-agent", PERSON)]).await;
    assert_eq!(image.headers()["content-type"], "image/gif");
    assert_eq!(image.headers()["cache-control"], "no-store");
    let click = follow(&first[0], &[("user-agent", PERSON)]).await;
    assert_eq!(click.status(), 302);
    assert_eq!(click.headers()["location"], "https://shop.test/?a=1&b=2");
    assert_eq!(click.headers()["referrer-policy"], "no-referrer");
    follow(&second[1], &[("user-agent", "GoogleImageProxy")]).await;
    let quiet = follow(&second[0], &[("user-agent", PERSON), ("sec-gpc", "1")]).await;
    assert_eq!(quiet.status(), 302);
    let mut changed = first[0].clone();
    changed.pop();
    for wrong in [changed.as_str(), "/t/", "/t/x"] {
        assert_eq!(follow(wrong, &[]).await.status(), 404, "{wrong}");
    }
    let posted = http
        .post(format!("http://{address}{}", first[0]))
        .send()
        .await;
    assert_eq!(posted.unwrap().status(), 405);

    let filter = EventFilter {
        account: Some("app".into()),
        events: vec![Event::Opened, Event::Clicked],
        ..EventFilter::default()
    };
    let store = world.server.store();
    let events = store
        .list_events(&filter, None, Order::Ascending, 200)
        .await;
    let shown: Vec<_> = events
        .unwrap()
        .items
        .iter()
        .map(|event| {
            let extra = |key| event.told.extra.get(key).cloned().unwrap_or_default();
            (event.told.event, extra("URL"), extra("Machine"))
        })
        .collect();
    let url = "https://shop.test/?a=1&b=2".to_owned();
    assert_eq!(
        shown,
        [
            (Event::Opened, String::new(), String::new()),
            (Event::Clicked, url, String::new()),
            (Event::Opened, String::new(), "true".to_owned()),
        ]
    );
    // A message makes only so many.
    let flood = async {
        for _ in 0..120 {
            follow(&first[1], &[("user-agent", PERSON)]).await;
        }
    };
    patiently("120 openings", flood).await;
    let events = store
        .list_events(&filter, None, Order::Ascending, 200)
        .await;
    assert_eq!(events.unwrap().items.len(), 101);
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_tracked_unless_the_domain_wants_it() {
    let remote = Remote::start(|_, _| None).await;
    let world = World::facing(&remote, String::new()).await;
    let mut client = world.submission().await;
    let reply = client
        .submit("app@example.org", &["a@remote.test"], TEXT)
        .await;
    assert!(reply.starts_with("250"), "{reply}");
    let wrong = TEXT.replace("opens, clicks", "everything");
    let mut client = world.submission().await;
    let reply = client
        .submit("app@example.org", &["a@remote.test"], &wrong)
        .await;
    assert!(reply.starts_with("554 5.6.0"), "{reply}");
    let got = &remote.wait_for(1).await[0];
    assert!(
        got.text.contains("shop.test") && !got.text.contains("/t/"),
        "{}",
        got.text
    );
    assert!(!got.text.contains("X-Postrider-Track"));
    world.server.stop().await;
}
