//! The queue by its pages: what waits, one message, destinations, the overview, and live parts.

use std::{collections::BTreeMap, time::Duration};

use axum::body::BodyDataStream;
use futures_util::StreamExt;
use postrider_admin::op::audit;
use postrider_store::{
    Accept, Common, NewMessage, NewRecipient, NewText, Notify, Origin, TextSource, Top, Urgency,
};

use super::{Seen, Visitor};

const QUEUE: &str = "/admin/queue";
const ACT: &str = "/admin/queue/act";

/// Something of a test that is queued.
struct Mail {
    account: &'static str,
    to: &'static str,
    subject: &'static str,
    text: &'static str,
    extra: Option<(&'static str, &'static str)>,
    message_id: &'static str,
}

const MAIL: Mail = Mail {
    account: "ann",
    to: "a@remote.test",
    subject: "Hello",
    text: "From: ann@a.test\r\nSubject: Hello\r\n\r\nThe secret text\r\n",
    extra: None,
    message_id: "<1@a.test>",
};

impl Visitor {
    /// Queues so many copies.
    async fn queue(&self, mail: &Mail, copies: usize) {
        let now = self.desk.context.clock.now();
        let extra = mail.extra.iter();
        let extra = extra.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let common = Common {
            account: mail.account.to_owned(),
            queued: now,
            from: Some("ann@a.test".parse().unwrap()),
            message_id: mail.message_id.to_owned(),
            subject: mail.subject.to_owned(),
            size: mail.text.len() as u64,
            needs: Default::default(),
            smtputf8: false,
            require_tls: None,
            future_release: String::new(),
            ret_full: None,
            envid: String::new(),
            list: String::new(),
            extra: extra.collect::<BTreeMap<_, _>>(),
            origin: Origin::Sent,
            urgency: Urgency::default(),
        };
        let recipient = NewRecipient {
            reverse_path: "ann@a.test".parse().unwrap(),
            from_id: String::new(),
            recipient: mail.to.parse().unwrap(),
            notify: Notify::default(),
            orcpt: String::new(),
            transport: String::new(),
            route: String::new(),
            hold: false,
            next_attempt: now.after(Duration::from_secs(60)),
        };
        let accept = Accept {
            text: Some(NewText::Inline(mail.text.as_bytes().to_vec().into())),
            queue: vec![NewMessage {
                common,
                top: Top::EMPTY,
                text: TextSource::New,
                recipients: vec![recipient; copies],
            }],
            ..Accept::default()
        };
        self.desk.context.store.accept(accept).await.unwrap();
    }

    /// The numbers of the messages of a page of the queue.
    async fn numbers(&self, query: &str) -> Vec<u64> {
        numbers(&self.get(&format!("{QUEUE}{query}")).await)
    }

    /// The events of a stream.
    async fn events(&self, path: &str, seen: Option<&str>) -> Events {
        Events {
            body: self.stream(path, seen).await,
            rest: String::new(),
        }
    }

    /// Sends the form of a page with ticked messages.
    async fn tick(&self, page: &Seen, ids: &[&str], fields: &[(&str, &str)]) -> Seen {
        let ids = ids.iter().map(|id| ("ids", *id));
        let all: Vec<_> = fields.iter().copied().chain(ids).collect();
        self.send(page, ACT, &all).await
    }
}

fn numbers(page: &Seen) -> Vec<u64> {
    assert_eq!(page.status, 200, "{}", page.text());
    let rows = page.rows().into_iter();
    rows.map(|row| row[1].trim_start_matches("Message ").parse().unwrap())
        .collect()
}

async fn visitor() -> Visitor {
    let visitor = Visitor::admin().await;
    visitor.queue(&MAIL, 1).await;
    let other = Mail {
        account: "bob",
        to: "b@other.test",
        subject: "<script>alert(1)</script>",
        extra: Some(("order", "7")),
        message_id: "<2@b.test>",
        ..MAIL
    };
    visitor.queue(&other, 1).await;
    visitor
}

#[tokio::test]
async fn one_box_and_filters_find_messages() {
    let visitor = visitor().await;
    let page = visitor.get(QUEUE).await;
    assert!(
        page.html.contains("<span class=\"state wrap "),
        "{}",
        page.html
    );
    assert_eq!(numbers(&page), [1, 2]);
    let row = &page.rows()[0];
    let seen = (row[2].as_str(), row[3].as_str(), row[4].as_str());
    assert_eq!(seen, ("a@remote.test", "ann@a.test", "ann"));
    assert!(page.text().contains("2 messages in the queue, 0 held"));
    for (query, found) in [
        ("?q=2", vec![2]),
        ("?q=%3C1%40a.test%3E", vec![1]),
        ("?q=a%40remote.test", vec![1]),
        ("?q=%40other.test", vec![2]),
        ("?q=order%3D7", vec![2]),
        ("?q=order%3D8", vec![]),
        ("?q=remote", vec![1]),
        ("?q=ann", vec![1, 2]),
        ("?account=bob", vec![2]),
        ("?subject=HELLO", vec![1]),
        ("?chip=held", vec![]),
        ("?chip=due", vec![]),
        ("?chip=old", vec![]),
        ("?order=newest", vec![2, 1]),
    ] {
        assert_eq!(visitor.numbers(query).await, found, "{query}");
    }
    visitor.desk.clock.advance(Duration::from_secs(5 * 60 * 60));
    assert_eq!(visitor.numbers("?chip=due").await, [1, 2]);
    assert_eq!(visitor.numbers("?chip=old").await, [1, 2]);
    let wrong = visitor.get(&format!("{QUEUE}?submitted=4h")).await;
    assert_eq!(wrong.status, 422);
    assert!(wrong.html.contains("aria-describedby=\"e-submitted\""));
    let none = visitor.get(&format!("{QUEUE}?q=99")).await;
    assert!(none.html.contains("href=\"/admin/messages/99\""));
    // What is not queued any more is found among past messages.
    for (search, past) in [
        ("q=jo%40remote.test", "to=jo%40remote.test"),
        ("q=%3C9%40a.test%3E", "message_id=%3C9%40a.test%3E"),
        ("q=order%3D9", "extra=order%3D9"),
        ("account=ann&q=%40a.test", "account=ann&#38;to=%40a.test"),
    ] {
        let none = visitor.get(&format!("{QUEUE}?{search}")).await;
        let link = format!("href=\"/admin/history?{past}\"");
        assert!(none.html.contains(&link), "{search}: {}", none.html);
    }
    let none = visitor.get(&format!("{QUEUE}?q=no-such-word")).await;
    assert!(!none.html.contains("/admin/history?"), "{}", none.html);
}

#[tokio::test]
async fn an_entry_of_many_messages_is_looked_for_until_the_end() {
    let visitor = Visitor::admin().await;
    let many = Mail {
        extra: Some(("order", "7")),
        ..MAIL
    };
    for _ in 0..11 {
        visitor.queue(&many, 100).await;
        visitor.queue(&MAIL, 1).await;
    }
    let mut found = Vec::new();
    let mut query = "?q=order%3D7&rows=250".to_owned();
    loop {
        let page = visitor.get(&format!("{QUEUE}{query}")).await;
        found.extend(numbers(&page));
        // A full page leads on, and so does one whose search took too long.
        let link = |text: &str| {
            let (before, _) = page.html.split_once(&format!(">{text}</a>"))?;
            let href = before.rsplit("href=\"").next()?.split('"').next()?;
            Some(href.replace("&#38;", "&"))
        };
        match link("Next page").or_else(|| link("Go on")) {
            Some(next) => query = next,
            None => break,
        }
    }
    assert_eq!(found.len(), 1100);
    assert!(found.is_sorted());
}

#[tokio::test]
async fn pages_of_the_queue_lead_on_and_back() {
    let visitor = Visitor::admin().await;
    visitor.queue(&MAIL, 60).await;
    let first = visitor.get(&format!("{QUEUE}?rows=25")).await;
    assert_eq!(numbers(&first), (1..=25).collect::<Vec<_>>());
    let next = first.html.split("rel=\"next\" href=\"").nth(1).unwrap();
    let next = next.split('"').next().unwrap().replace("&#38;", "&");
    // What leaves the queue meanwhile shifts nothing.
    let asked = visitor.tick(&first, &["25"], &[("do", "drop")]).await;
    visitor.act(&asked, ACT, &[]).await;
    let second = visitor.get(&format!("{QUEUE}{next}")).await;
    assert_eq!(numbers(&second), (26..=50).collect::<Vec<_>>());
}

#[tokio::test]
async fn ticked_messages_are_changed() {
    let visitor = visitor().await;
    let page = visitor.get(QUEUE).await;
    // One message is held at once, several after a question.
    let done = visitor.tick(&page, &["1"], &[("do", "hold")]).await;
    let done = visitor.get(done.location()).await;
    assert!(done.text().contains("1 message held."), "{}", done.text());
    assert_eq!(visitor.numbers("?chip=held").await, [1]);
    let page = visitor.get(QUEUE).await;
    let none = visitor.send(&page, ACT, &[("do", "hold")]).await;
    assert_eq!(none.status, 422);
    let ids = [("ids", "1"), ("ids", "2"), ("do", "release")];
    let asked = visitor.send(&page, ACT, &ids).await;
    assert_eq!(asked.status, 200);
    assert!(
        asked.text().contains("Release 2 messages?"),
        "{}",
        asked.text()
    );
    assert!(asked.text().contains("postrider queue release --ids 1,2"));
    assert_eq!(visitor.numbers("?chip=held").await, [1]);
    let done = visitor.act(&asked, ACT, &[]).await;
    assert!(done.text().contains("2 messages released."));
    assert_eq!(visitor.numbers("?chip=held").await, [] as [u64; 0]);
    for fields in [
        vec![("do", "schedule"), ("by", "+1h")],
        vec![("do", "schedule"), ("at", "2h")],
        vec![("do", "transport"), ("via", "-")],
        vec![("do", "tls"), ("policy", "yes")],
        vec![("do", "now")],
    ] {
        let page = visitor.get(QUEUE).await;
        let done = visitor.tick(&page, &["2"], &fields).await;
        assert_eq!(done.status, 303, "{fields:?}: {}", done.text());
    }
    let message = visitor.get("/admin/messages/2").await;
    assert!(message.text().contains("verified TLS only"));
    let wrong = visitor
        .tick(&page, &["2"], &[("do", "schedule"), ("at", "soon")])
        .await;
    assert_eq!(wrong.status, 422);
}

#[tokio::test]
async fn a_hold_rule_goes_and_what_it_alone_held_is_released() {
    const RULES: &str = "/admin/hold-rules";
    let visitor = visitor().await;
    let of_bob = Mail {
        account: "bob",
        ..MAIL
    };
    visitor.queue(&of_bob, 1).await;
    let page = visitor.get(RULES).await;
    let both = visitor.act(&page, RULES, &[("recipient_domain", "remote.test")]);
    assert!(both.await.text().contains("Rule 1 holds 2 queued messages"));
    let page = visitor.get(RULES).await;
    visitor.act(&page, RULES, &[("account", "ann")]).await;
    assert_eq!(visitor.numbers("?chip=held").await, [1, 3]);
    // Messages that somebody else holds are held by no rule.
    let page = visitor.get(QUEUE).await;
    visitor.tick(&page, &["2"], &[("do", "hold")]).await;
    let rules = visitor.get(RULES).await;
    let held: Vec<_> = rules.rows().iter().map(|row| row[2].clone()).collect();
    assert_eq!(held, ["2 held by rule 1", "1 held by rule 2"]);
    for query in ["hold=yes&#38;to=%40remote.test", "hold=yes&#38;account=ann"] {
        assert!(rules.html.contains(query), "{query}: {}", rules.html);
    }
    assert_eq!(visitor.numbers("?hold=yes&to=%40remote.test").await, [1, 3]);
    let page = visitor.get(QUEUE).await;
    visitor.tick(&page, &["2"], &[("do", "release")]).await;

    let path = "/admin/hold-rules/1/remove";
    let ask = visitor.get(path).await;
    assert!(ask.text().contains(": 2 now."), "{}", ask.text());
    assert!(ask.html.contains("hold-rules remove 1 --release"));
    let gone = visitor.act(&ask, path, &[("release", "1")]).await;
    let told = "Rule 1 is removed. 1 message is released.";
    assert!(gone.text().contains(told), "{}", gone.text());
    assert_eq!(visitor.numbers("?chip=held").await, [1]);
    let path = "/admin/hold-rules/2/remove";
    let ask = visitor.get(path).await;
    let gone = visitor.act(&ask, path, &[]).await;
    assert!(gone.text().contains("stay held until you release them."));
    assert_eq!(visitor.numbers("?chip=held").await, [1]);
}

#[tokio::test]
async fn messages_end_after_a_question_that_says_who_is_told() {
    let visitor = visitor().await;
    let page = visitor.get(QUEUE).await;
    let asked = visitor.tick(&page, &["1"], &[("do", "fail")]).await;
    let text = asked.text();
    assert!(
        text.contains("Let fail 1 message?") && text.contains("gets a DSN"),
        "{text}"
    );
    assert!(text.contains("1 from ann@a.test to a@remote.test"));
    visitor.act(&asked, ACT, &[]).await;
    assert_eq!(visitor.numbers("").await.first(), Some(&2));
    let asked = visitor.tick(&page, &["2"], &[("do", "drop")]).await;
    assert!(asked.text().contains("The senders are not told."));
    // Sent twice, the form acts once.
    let first = visitor.send(&asked, ACT, &[]).await;
    let second = visitor.send(&asked, ACT, &[]).await;
    assert_eq!(first.location(), second.location());
    let past = visitor.get("/admin/messages/2").await;
    assert!(past.status == 404 || past.text().contains("left the queue"));
}

#[tokio::test]
async fn all_that_match_end_and_the_whole_queue_only_when_typed() {
    let visitor = visitor().await;
    let filtered = visitor.get(&format!("{QUEUE}?account=bob")).await;
    let fields = [("which", "all"), ("do", "drop")];
    let asked = visitor.send(&filtered, ACT, &fields).await;
    let text = asked.text();
    assert!(text.contains("Drop 1 message?"), "{text}");
    assert!(text.contains("postrider queue drop --account bob"));
    let done = visitor.act(&asked, ACT, &[]).await;
    assert!(
        done.text().contains("1 message dropped."),
        "{}",
        done.text()
    );
    assert_eq!(visitor.numbers("").await, [1]);

    let all = visitor.get(QUEUE).await;
    let asked = visitor.send(&all, ACT, &fields).await;
    assert!(asked.text().contains("Type everything to confirm"));
    let wrong = visitor.send(&asked, ACT, &[("typed", "all")]).await;
    assert_eq!(wrong.status, 422);
    assert_eq!(visitor.numbers("").await, [1]);
    let done = visitor.act(&wrong, ACT, &[("typed", "everything")]).await;
    assert!(
        done.text().contains("Nothing is queued."),
        "{}",
        done.text()
    );
}

#[tokio::test]
async fn a_message_shows_its_parts_and_its_text_is_noted() {
    let visitor = visitor().await;
    let page = visitor.get("/admin/messages/1").await;
    let text = page.text();
    assert!(text.contains("is not to be sent before"), "{text}");
    assert!(text.contains("Accepted") && text.contains("sent by the account"));
    assert!(!text.contains("The secret text"));
    let headers = visitor.get("/admin/messages/1?tab=headers").await;
    assert!(
        headers
            .rows()
            .contains(&vec!["Subject".to_owned(), "Hello".to_owned()])
    );
    let structure = visitor.get("/admin/messages/1?tab=structure").await;
    assert_eq!(structure.rows().len(), 1);
    for tab in ["text", "source"] {
        let hidden = visitor.get(&format!("/admin/messages/1?tab={tab}")).await;
        assert!(!hidden.text().contains("The secret text"));
        let shown = visitor.send(&hidden, "/admin/messages/1/text", &[]).await;
        assert!(shown.text().contains("The secret text"), "{}", shown.text());
    }
    let noted = audit::List {
        operation: Some("queue.look".to_owned()),
        ..audit::List::default()
    };
    let noted = visitor.desk.list(noted).await;
    let noted = noted.iter();
    let noted: Vec<_> = noted
        .map(|it| (it.target.as_str(), it.who.name.as_str()))
        .collect();
    assert_eq!(noted, [("1", "admin"), ("1", "admin")]);

    let hostile = visitor.get("/admin/messages/2").await;
    assert!(!hostile.html.contains("<script>alert"), "{}", hostile.html);
    assert!(hostile.text().contains("Extra order"));
    for missing in [
        "/admin/messages/99",
        "/admin/messages/x",
        "/admin/messages/1?tab=x",
    ] {
        assert_eq!(visitor.get(missing).await.status, 404, "{missing}");
    }
}

#[tokio::test]
async fn the_page_of_a_message_acts_on_it() {
    let visitor = visitor().await;
    let page = visitor.get("/admin/messages/1").await;
    let held = visitor.act(&page, ACT, &[("do", "hold")]).await;
    assert!(
        held.text().contains("is held until it is released"),
        "{}",
        held.text()
    );
    let asked = visitor.send(&held, ACT, &[("do", "fail")]).await;
    // Leaving it as it is leads back to the message.
    assert!(asked.html.contains("href=\"/admin/messages/1\""));
    let failed = visitor.act(&asked, ACT, &[]).await;
    assert!(
        failed.text().contains("1 message failed."),
        "{}",
        failed.text()
    );
    assert!(failed.html.contains("<h1>Queue</h1>"));
    let page = visitor.get(QUEUE).await;
    let gone = visitor.tick(&page, &["1"], &[("do", "now")]).await;
    assert_eq!(gone.status, 303);
    let gone = visitor.get(gone.location()).await;
    assert!(
        gone.text().contains("0 messages due now."),
        "{}",
        gone.text()
    );
}

#[tokio::test]
async fn the_overview_tells_what_needs_attention() {
    let visitor = visitor().await;
    let page = visitor.get("/admin/").await;
    assert!(
        page.text().contains("Nothing needs attention."),
        "{}",
        page.text()
    );
    assert!(page.text().contains("2 queued"));
    let asked = visitor.get("/admin/queue/stop/deliveries").await;
    let stopped = visitor
        .act(&asked, "/admin/queue/stop/deliveries", &[])
        .await;
    assert!(stopped.text().contains("The deliveries are stopped."));
    assert!(stopped.text().contains("All deliveries are stopped."));
    let on = visitor
        .act(&stopped, "/admin/queue/start/deliveries", &[])
        .await;
    assert!(on.text().contains("Nothing needs attention."));
    assert_eq!(visitor.get("/admin/queue/stop/all").await.status, 404);

    // Mail that is held without a rule is not forgotten.
    let page = visitor.get(QUEUE).await;
    visitor.tick(&page, &["1"], &[("do", "hold")]).await;
    let page = visitor.get("/admin/").await;
    let told = "1 message is held, and no hold rule is in force. Held messages";
    assert!(page.text().contains(told), "{}", page.text());
}

#[tokio::test]
async fn an_attempt_now_tells_that_deliveries_are_stopped() {
    let visitor = visitor().await;
    let path = "/admin/queue/stop/deliveries";
    let asked = visitor.get(path).await;
    visitor.act(&asked, path, &[]).await;
    let page = visitor.get(QUEUE).await;
    let told = visitor.tick(&page, &["1"], &[("do", "now")]).await;
    let told = visitor.get(told.location()).await;
    let wanted = "1 message due now. All deliveries are stopped, so nothing happens";
    assert!(told.text().contains(wanted), "{}", told.text());
}

#[tokio::test]
async fn destinations_that_are_not_known_are_not_found() {
    let visitor = visitor().await;
    let page = visitor.get("/admin/queue/destinations").await;
    assert!(page.text().contains("Nothing was sent since the start."));
    for name in ["nowhere.test", "%3Cscript%3E"] {
        let path = format!("/admin/queue/destinations/{name}");
        assert_eq!(visitor.get(&path).await.status, 404, "{name}");
    }
}

/// The events of a stream, each as the lines before a blank one.
struct Events {
    body: BodyDataStream,
    rest: String,
}

impl Events {
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some((event, rest)) = self.rest.split_once("\n\n") {
                let event = event.to_owned();
                self.rest = rest.to_owned();
                return Some(event);
            }
            let bytes = self.body.next().await?.unwrap();
            self.rest.push_str(std::str::from_utf8(&bytes).unwrap());
        }
    }
}

/// The address of the stream of a page.
fn stream(page: &Seen) -> String {
    let address = page.html.split("hx-sse:connect=\"").nth(1).unwrap();
    address.split('"').next().unwrap().replace("&#38;", "&")
}

#[tokio::test]
async fn a_page_follows_what_changes_and_gives_away_no_token() {
    let visitor = visitor().await;
    let page = visitor.get(QUEUE).await;
    let mut events = visitor.events(&stream(&page), None).await;
    let done = visitor.tick(&page, &["1"], &[("do", "hold")]).await;
    assert_eq!(done.status, 303);
    let event = events.next().await.unwrap();
    assert!(
        event.starts_with("id: ") && event.contains("1 held"),
        "{event}"
    );
    assert!(
        !event.contains("name=\"token\"") && !event.contains("live="),
        "{event}"
    );
    let id = event
        .lines()
        .next()
        .unwrap()
        .strip_prefix("id: ")
        .unwrap()
        .to_owned();
    // Who saw that already gets only what comes later.
    let mut later = visitor.events(&stream(&page), Some(&id)).await;
    let page = visitor.get(QUEUE).await;
    visitor.tick(&page, &["1"], &[("do", "release")]).await;
    let event = later.next().await.unwrap();
    assert!(event.contains(" 0 held"), "{event}");
    // The server stops: streams end.
    visitor.stop();
    while events.next().await.is_some() {}
    while later.next().await.is_some() {}
}

#[tokio::test]
async fn buttons_follow_what_can_be_done() {
    let visitor = visitor().await;
    let page = visitor.get("/admin/messages/1").await;
    let mut message = visitor.events(&stream(&page), None).await;
    let overview = visitor.get("/admin/").await;
    let mut figures = visitor.events(&stream(&overview), None).await;
    // Each event has buttons with these words, and none with those.
    let changes = async |events: &mut Events, wanted: &str, gone: &str| {
        let event = events.next().await.unwrap();
        let (has, had) = (event.contains(wanted), event.contains(gone));
        assert!(has && !had, "{wanted}, not {gone}: {event}");
    };
    assert!(page.html.contains("value=\"hold\">Hold"));
    visitor.send(&page, ACT, &[("do", "hold")]).await;
    changes(&mut message, "value=\"release\">Release", ">Hold<").await;
    visitor
        .send(&page, ACT, &[("do", "drop"), ("sure", "1")])
        .await;
    let mut gone = message.next().await.unwrap();
    while gone.contains("value=\"release\"") {
        gone = message.next().await.unwrap();
    }
    assert!(!gone.contains("value=\"drop\""), "{gone}");

    assert!(overview.html.contains(">Stop deliveries<"));
    let stop = "/admin/queue/stop/deliveries";
    let asked = visitor.get(stop).await;
    visitor.send(&asked, stop, &[]).await;
    let mut stopped = figures.next().await.unwrap();
    while !stopped.contains("form=\"start-deliveries\"") {
        stopped = figures.next().await.unwrap();
    }
    assert!(!stopped.contains(">Stop deliveries<"), "{stopped}");
    assert!(stopped.contains(">Stop webhooks<"), "{stopped}");
}

#[tokio::test]
async fn a_stream_with_an_event_at_all_times_ends_with_its_session() {
    let visitor = visitor().await;
    let page = visitor.get(QUEUE).await;
    let mut events = visitor.events(&stream(&page), None).await;
    // Something happens, and the next look at the session is due.
    let goes_on = async || {
        visitor.queue(&MAIL, 1).await;
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(16)).await;
        tokio::time::resume();
    };
    for _ in 0..2 {
        goes_on().await;
        let event = events.next().await.unwrap();
        assert!(event.starts_with("id: "), "{event}");
    }
    visitor.send(&page, "/admin/logout", &[]).await;
    goes_on().await;
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn too_many_streams_of_a_visitor_are_polled() {
    let visitor = visitor().await;
    let page = visitor.get(QUEUE).await;
    let mut open = Vec::new();
    for _ in 0..10 {
        open.push(visitor.events(&stream(&page), None).await);
    }
    let refused = visitor.get(&stream(&page)).await;
    assert_eq!(refused.status, 503);
    assert_eq!(refused.headers["retry-after"], "10");
    assert!(refused.text().contains("2 messages in the queue"));
    let polled = refused.html.split("hx-get=\"").nth(1).unwrap();
    let polled = polled.split('"').next().unwrap().replace("&#38;", "&");
    let polled = visitor.get(&polled).await;
    assert_eq!((polled.status, polled.html.contains("<html")), (200, false));
    drop(open);
}
