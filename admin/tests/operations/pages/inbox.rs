//! The inbox of localserve by its pages.

use axum::http::{Request, request::Builder};
use futures_util::StreamExt;
use postrider_queue::DeliveryMode;
use postrider_smtp::{Address, ReversePath};
use postrider_store::{Accept, Arrival, MailId, NewMail, NewText, TextSource, Top};

use super::{super::Desk, Seen, Visitor};

const STATICS: &str = "hostname = \"localhost\"\n[postmaster]\naccount = \"postrider\"\n\
    [listeners.l]\nips = [\"127.0.0.1\"]\nsmtp = { enabled = true, port = 1025 }\n\
    [queue]\nretry_intervals = [\"10s\", \"30s\"]\n";
const DYNAMICS: &str = "[domains.\"localhost\"]\n\
    [accounts.other]\ndomain = \"localhost\"\ndestinations.\"other@localhost\" = {}\n\
    [accounts.postrider]\ndomain = \"localhost\"\ndestinations.\"postrider@localhost\" = {}\n\
    destinations.\"@localhost\" = {}\nkeep_retired_message_period = \"1h\"\n";

/// A message with all that a page shows, and all that it must not.
const HOSTILE: &str = "From: \"<b>Ann</b>\" <ann@a.test>\r\nTo: x@b.test\r\n\
    Subject: <script>alert(1)</script>\r\nMessage-ID: <1@a.test>\r\n\
    Date: Mon, 30 Nov 2026 10:00:00 +0000\r\nList-Id: <list.a.test>\r\n\
    Content-Type: multipart/mixed; boundary=a\r\n\r\n\
    --a\r\nContent-Type: multipart/related; boundary=b\r\n\r\n\
    --b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n\
    <script>alert(2)</script><p onclick=x>The bill</p><img src=\"cid:logo@a\">\
    <a href=\"http://evil.test/\">https://bank.test</a>\r\n\
    --b\r\nContent-Type: image/png\r\nContent-ID: <logo@a>\r\n\
    Content-Transfer-Encoding: base64\r\n\r\nAAEC\r\n--b--\r\n\
    --a\r\nContent-Type: text/html\r\nContent-Disposition: attachment; filename=\"<i>.html\"\r\n\r\n\
    <script>alert(3)</script>\r\n--a--\r\n";

async fn localserve() -> Visitor {
    let desk = Desk::delivering(DeliveryMode::Local, STATICS, DYNAMICS);
    Visitor::of(desk).await
}

impl Visitor {
    /// Puts a mail into a mailbox.
    async fn receive(&self, account: &str, text: &str) -> MailId {
        let address = |text| Address::parse(text).unwrap();
        let context = &self.desk.context;
        let mail = NewMail {
            account: account.to_owned(),
            mailbox: "Inbox".to_owned(),
            top: Top::EMPTY,
            text: TextSource::New,
            size: text.len() as u64,
            received: context.clock.now(),
            flags: Vec::new(),
            dsn: false,
            summary: None,
            smtp: Some(Arrival {
                mail_from: ReversePath::Mailbox(address("bounce@a.test")),
                rcpt_to: address("x@b.test"),
                msg_from: None,
                mail_from_validated: false,
                msg_from_validated: false,
                dkim_domains: Vec::new(),
                remote_ip: None,
            }),
        };
        let accept = Accept {
            text: Some(NewText::Inline(text.to_owned().into())),
            mails: vec![mail],
            ..Accept::default()
        };
        let accepted = context.store.accept(accept).await.unwrap();
        self.desk.clock.advance(std::time::Duration::from_secs(1));
        accepted.mails.first().copied().unwrap()
    }

    async fn receive_many(&self, count: usize) {
        for at in 1..=count {
            let text = format!("From: a@a.test\r\nSubject: number {at}\r\n\r\nHello {at}\r\n");
            self.receive("postrider", &text).await;
        }
    }
}

fn subjects(seen: &Seen) -> Vec<String> {
    seen.rows()
        .into_iter()
        .map(|row| row.get(3).cloned().unwrap())
        .collect()
}

#[tokio::test]
async fn a_mail_is_shown_and_nothing_of_it_acts() {
    let visitor = localserve().await;
    let empty = visitor.get("/inbox/").await;
    assert!(
        empty.text().contains("Nothing came in yet."),
        "{}",
        empty.html
    );
    visitor.receive("postrider", HOSTILE).await;
    let list = visitor.get("/inbox/").await;
    assert_eq!(list.status, 200);
    assert!(!list.html.contains("<script>alert"), "{}", list.html);
    let row = &list.rows()[0];
    assert_eq!(row[0], "received , unread");
    assert_eq!(row[1], "<b>Ann</b> <ann@a.test>");
    assert_eq!(row[2..4], ["x@b.test", "<script>alert(1)</script>"]);
    assert_eq!(row[6], "1");

    let page = visitor.get("/inbox/m1").await;
    assert!(
        page.html
            .contains("sandbox=\"allow-popups allow-popups-to-escape-sandbox\"")
    );
    assert!(
        page.html.contains("src=\"/inbox/m1/frame\""),
        "{}",
        page.html
    );
    // Who looks at it has read it.
    assert_eq!(visitor.get("/inbox/").await.rows()[0][0], "received");
    let unread = visitor.act(&page, "/inbox/m1/unread", &[]).await;
    assert_eq!(unread.rows()[0][0], "received , unread");

    let frame = visitor.get("/inbox/m1/frame").await;
    let policy = frame.headers["content-security-policy"].to_str().unwrap();
    assert!(
        policy.starts_with(
            "sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none';"
        )
    );
    assert!(policy.contains("frame-ancestors 'self'"), "{policy}");
    assert!(!frame.html.contains("alert"), "{}", frame.html);
    assert!(
        frame
            .html
            .contains("<img src=\"data:image/png;base64,AAEC\">")
    );
    assert!(
        frame
            .html
            .contains("target=\"_blank\" rel=\"noopener noreferrer\"")
    );

    let files = visitor.get("/inbox/m1/files").await.rows();
    assert_eq!(files.len(), 2);
    assert_eq!(files[1][0..2], ["<i>.html", "text/html"]);
    assert_eq!(files[1][4].len(), 64);
    let file = visitor.get("/inbox/m1/files/1").await;
    assert!(file.html.contains("alert(3)"));
    assert_eq!(file.headers["x-content-type-options"], "nosniff");
    assert_eq!(file.headers["content-type"], "application/octet-stream");
    let disposition = file.headers["content-disposition"].to_str().unwrap();
    assert!(disposition.starts_with("attachment; "), "{disposition}");
    assert_eq!(visitor.get("/inbox/m1/files/7").await.status, 404);

    let eml = visitor.get("/inbox/m1/message.eml").await;
    assert_eq!(eml.html, HOSTILE);
    assert_eq!(eml.headers["content-type"], "message/rfc822");
    assert_eq!(visitor.get("/inbox/m1/message.txt").await.status, 404);

    let links = visitor.get("/inbox/m1/links").await.text();
    assert!(
        links.contains("the text says bank.test, the link leads to evil.test"),
        "{links}"
    );
    let hints = visitor.get("/inbox/m1/hints").await.text();
    for hint in [
        "There is no text part",
        "1 images have no alt text",
        "one-click unsubscribe",
    ] {
        assert!(hints.contains(hint), "{hints}");
    }
    let headers = visitor.get("/inbox/m1/headers?filter=list").await;
    assert_eq!(
        headers.rows(),
        [["List-Id", "<list.a.test>", "<list.a.test>"]]
    );
    for tab in ["text", "source", "happened", "html?width=w320&scheme=dark"] {
        let page = visitor.get(&format!("/inbox/m1/{tab}")).await;
        assert_eq!(page.status, 200, "{tab}: {}", page.text());
        assert!(!page.html.contains("<script>alert"), "{tab}");
    }
    for path in ["m2", "q1", "x", "m1/other", "m1/files/a"] {
        assert_eq!(
            visitor.get(&format!("/inbox/{path}")).await.status,
            404,
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_search_finds_and_leads_to_the_newest_match() {
    let visitor = localserve().await;
    visitor.receive_many(60).await;
    let all = visitor.get("/inbox/").await;
    assert_eq!(subjects(&all).len(), 50);
    assert_eq!(subjects(&all)[0], "number 60");
    let next = |seen: &Seen, rel: &str| {
        let link = seen.html.split(&format!("rel=\"{rel}\" href=\"")).nth(1);
        let link = link.unwrap_or_else(|| panic!("{}", seen.html));
        format!(
            "/inbox/{}",
            link.split('"').next().unwrap().replace("&#38;", "&")
        )
    };
    let second = visitor.get(&next(&all, "next")).await;
    assert_eq!(subjects(&second)[0], "number 10");
    assert_eq!(subjects(&second).len(), 10);
    let back = visitor.get(&next(&second, "prev")).await;
    assert_eq!(subjects(&back), subjects(&all));

    for (query, expected) in [
        ("%22number+7%22", "number 7"),
        ("subject:number+%22hello+12%22", "number 12"),
        ("from:a.test+-6+-5", "number 49"),
        ("is:unread+to:b.test", "number 60"),
    ] {
        let found = visitor.get(&format!("/inbox/?q={query}")).await;
        assert_eq!(subjects(&found)[0], expected, "{query}: {}", found.text());
    }
    let latest = visitor.get("/inbox/latest?q=%22hello+12%22").await;
    assert_eq!((latest.status, latest.location()), (303, "/inbox/m12"));
    assert_eq!(visitor.get("/inbox/latest?q=nobody").await.status, 404);
    let wrong = visitor.get("/inbox/?q=larger:big").await;
    assert_eq!(wrong.status, 422);
    assert!(
        wrong.text().contains("larger:big is no size"),
        "{}",
        wrong.text()
    );

    let read = visitor.act(&all, "/inbox/read", &[]).await;
    assert!(read.text().contains("60 mails are marked as read."));
    let unread = visitor.get("/inbox/?q=is:unread").await;
    assert!(unread.text().contains("Nothing matches."));
}

#[tokio::test]
async fn a_failure_is_foreseen_sent_and_cleared() {
    let visitor = localserve().await;
    visitor.receive_many(3).await;
    let ordinary = visitor.get("/inbox/send").await;
    let text = ordinary.text();
    assert!(text.contains("port 1025"), "{text}");
    assert!(text.contains("smtplib.SMTP(\"localhost\", 1025)"), "{text}");
    let wrong = visitor
        .get("/inbox/send?stage=data&kind=code&code=700")
        .await;
    assert_eq!(wrong.status, 422);
    assert!(wrong.html.contains("id=\"e-code\""), "{}", wrong.html);
    let late = visitor
        .get("/inbox/send?stage=queue&kind=temperror")
        .await
        .text();
    assert!(late.contains("queue.temperror@example.com"), "{late}");
    assert!(late.contains("Submission takes the message."), "{late}");
    assert!(
        late.contains("event delayed , after each attempt but the last"),
        "{late}"
    );
    assert!(late.contains("10s, 30s"), "{late}");

    let path = "/inbox/send?stage=rcptto&kind=code&code=550";
    let form = visitor.get(path).await;
    let text = form.text();
    assert!(
        text.contains("Submission refuses at once: 550 5.0.0"),
        "{text}"
    );
    assert!(
        text.contains("it puts the recipient on the suppression list"),
        "{text}"
    );
    let fields = [("subject", "Caf\u{e9}"), ("text", "Hello")];
    let sent = visitor.act(&form, "/inbox/send", &fields).await;
    assert!(
        sent.text()
            .contains("The message to rcptto.550@example.com is on its way.")
    );
    assert!(
        sent.text().contains("Accepted for delivery"),
        "{}",
        sent.text()
    );
    let list = visitor.get("/inbox/").await;
    assert_eq!(subjects(&list)[0], "Caf\u{e9}");
    assert_eq!(list.rows()[0][0], "queued");
    // The other account sends: it is the first one.
    assert_eq!(list.rows()[0][7], "other");
    let found = visitor.get("/inbox/?q=login:other+caf%C3%A9").await;
    assert_eq!(found.rows().len(), 1);
    assert!(visitor.get("/inbox/q1/text").await.text().contains("Hello"));

    let ask = visitor.get("/inbox/clear?q=is:sent").await;
    let text = ask.text();
    assert!(text.contains("1 message waits and is canceled."), "{text}");
    let cleared = visitor.act(&ask, "/inbox/clear", &[]).await;
    assert!(
        cleared.text().contains("1 message is removed."),
        "{}",
        cleared.text()
    );
    assert_eq!(visitor.get("/inbox/").await.rows().len(), 3);
    let ask = visitor.get("/inbox/m3/remove").await;
    let removed = visitor.act(&ask, "/inbox/m3/remove", &[]).await;
    assert_eq!(subjects(&removed), ["number 2", "number 1"]);
    assert_eq!(visitor.get("/inbox/m3").await.status, 404);
    let ask = visitor.get("/inbox/clear").await;
    assert!(ask.text().contains("2 mails are removed for good."));
    let cleared = visitor.act(&ask, "/inbox/clear", &[]).await;
    assert!(
        cleared.text().contains("Nothing came in yet."),
        "{}",
        cleared.text()
    );
}

#[tokio::test]
async fn new_mail_comes_into_the_list_by_itself() {
    let visitor = localserve().await;
    let page = visitor.get("/inbox/?q=subject:number&rows=25").await;
    let stream = page.html.split("hx-sse:connect=\"").nth(1).unwrap();
    let stream = stream.split('"').next().unwrap().replace("&#38;", "&");
    let mut events = visitor.stream(&stream, None).await;
    visitor.receive_many(30).await;
    let mut seen = String::new();
    while !seen.contains("number 30") {
        let event = events.next().await.unwrap().unwrap();
        seen.push_str(std::str::from_utf8(&event).unwrap());
    }
    // Its links are those of the page.
    assert!(!seen.contains("live="), "{seen}");
    let sent = visitor.get("/inbox/send").await;
    visitor.act(&sent, "/inbox/send", &[("text", "Hi")]).await;
    let happened = visitor.get("/inbox/q1/happened").await;
    assert!(
        happened
            .html
            .contains("hx-sse:connect=\"/inbox/q1/happened?live="),
        "{}",
        happened.html
    );
}

#[tokio::test]
async fn a_page_that_stays_open_reads_a_mail_once() {
    let visitor = localserve().await;
    visitor.receive_many(1).await;
    let path = "/inbox/m1/happened";
    let page = visitor.get(path).await;
    let is_unread = async || {
        let rows = visitor.get("/inbox/").await.rows();
        rows[0][0].contains("unread")
    };
    assert!(!is_unread().await);
    visitor.act(&page, "/inbox/m1/unread", &[]).await;
    // The browser asks for what is new.
    for query in ["live=0", "part=1"] {
        let part = visitor.answer(part_of(path, query), String::new()).await;
        assert!(part.status().is_success(), "{query}");
        assert!(is_unread().await, "{query}");
    }
    visitor.get(path).await;
    assert!(!is_unread().await);
}

fn part_of(path: &str, query: &str) -> Builder {
    let request = Request::builder().uri(format!("{path}?{query}"));
    request.header("host", "localhost:1080")
}
