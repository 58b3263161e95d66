//! Webhook calls by their pages.

use std::{io::ErrorKind, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::{
    super::{super::Desk, Seen, Visitor, unescaped},
    called, commands, end_hook, fail_once, hook, hook_of, is_escaped, visitor,
};

const STATICS: &str = "hostname = \"mail.example.org\"\n[postmaster]\naccount = \"app\"\n\
    [webhook]\nallow_private_addresses = true\n[listeners.l]\nips = [\"127.0.0.1\"]\n";

/// An administrator of accounts with webhooks at this URL.
async fn admin(url: &str) -> Visitor {
    let dynamics = format!(
        "[domains.\"example.org\"]\n[accounts.app]\ndomain = \"example.org\"\n\
        destinations.\"app@example.org\" = {{}}\nkeep_retired_webhook_period = \"7d\"\n\
        outgoing_webhook = {{ url = \"{url}\", authorization = \"Bearer very secret\" }}\n"
    );
    let visitor = Visitor::of(Desk::with_admin(STATICS, &dynamics)).await;
    visitor.entering_as_admin().await
}

#[tokio::test]
async fn receivers_and_calls_are_shown_moved_canceled_and_made_again() {
    let url = "http://127.0.0.1:9/hook";
    let visitor = admin(url).await;
    let desk = &visitor.desk;
    let (first, second) = (hook(desk, "app", url).await, hook(desk, "app", url).await);
    let page = visitor.get("/admin/webhooks").await;
    let rows = page.rows();
    assert_eq!(
        rows[0][..4],
        ["app , its calls", "events of sent messages", url, "2"]
    );
    assert_eq!(rows.len(), 3);
    assert!(rows[1][1].starts_with(&first.to_string()));
    let none = visitor.get("/admin/webhooks?failed=1").await;
    assert!(none.text().contains("No call that waits matches."));

    let one = visitor.get(&format!("/admin/webhooks/{first}")).await;
    assert!(one.text().contains("There was no try yet."));
    assert!(one.html.contains("authorization"));
    assert!(!one.html.contains("very secret"), "a secret is shown");
    assert!(one.html.contains("curl -X POST"));
    let body = visitor.get(&format!("/admin/webhooks/{first}/body")).await;
    let body: serde_json::Value = serde_json::from_str(&body.html).unwrap();
    assert_eq!(body["Event"], "failed");
    let path = "/admin/webhooks/schedule";
    let wrong = visitor.send(&one, path, &[("when", "soon")]).await;
    assert_eq!(wrong.status, 422);
    assert!(wrong.html.contains("value=\"soon\""));
    let moved = visitor.act(&one, path, &[("when", "2h")]).await;
    assert!(
        moved.text().contains("1 call is to be made at"),
        "{}",
        moved.text()
    );
    let now = visitor.act(&one, "/admin/webhooks/now", &[]).await;
    assert!(
        now.text()
            .contains("1 call is to be made as soon as there is room.")
    );

    let cancel = "/admin/webhooks/cancel";
    let ask = visitor.get(&format!("{cancel}?id={first}")).await;
    assert!(
        ask.html
            .contains(&format!("postrider queue webhook cancel --ids {first}"))
    );
    let canceled = visitor.act(&ask, cancel, &[]).await;
    assert!(
        canceled.text().contains("1 call is canceled."),
        "{}",
        canceled.text()
    );
    end_hook(desk, second).await;
    assert_eq!(visitor.get(&format!("{cancel}?id=999")).await.status, 404);

    let past = visitor.get("/admin/webhooks/history?success=false").await;
    assert_eq!(past.rows().len(), 2);
    assert!(
        past.html
            .contains("queue webhook retired list --success false --limit 50")
    );
    let failing = visitor.get("/admin/webhooks").await;
    assert!(
        failing.rows()[0][4].starts_with("Failing since"),
        "{:?}",
        failing.rows()
    );
    let paths = [
        "/admin/webhooks".to_owned(),
        "/admin/webhooks/history".to_owned(),
        format!("/admin/webhooks/{second}"),
    ];
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    is_escaped(&visitor, &paths).await;

    let replay = "/admin/webhooks/replay";
    assert_eq!(
        visitor.get(&format!("{replay}?success=false")).await.status,
        422
    );
    let ask = visitor
        .get(&format!("{replay}?success=false&after=1h"))
        .await;
    assert!(
        ask.text().contains("2 calls will be made again"),
        "{}",
        ask.text()
    );
    let done = visitor.act(&ask, replay, &[]).await;
    assert!(
        done.text().contains("2 calls are to be made again."),
        "{}",
        done.text()
    );
    let ask = visitor.get(cancel).await;
    assert_eq!(visitor.send(&ask, cancel, &[]).await.status, 422);
    let typed = [("typed", "everything")];
    let canceled = visitor.act(&ask, cancel, &typed).await;
    assert!(canceled.text().contains("2 calls are canceled."));
}

#[tokio::test]
async fn a_test_sends_what_was_typed_and_tells_the_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let visitor = admin(&url).await;
    let path = "/admin/webhooks/test";
    let form = visitor
        .get(&format!("{path}?account=app&kind=failed"))
        .await;
    assert!(form.html.contains("no such user here"), "{}", form.text());
    assert!(!form.html.contains("very secret"));
    let wrong = visitor.send(&form, path, &[("body", "{")]).await;
    assert_eq!(wrong.status, 422);
    assert!(wrong.text().contains("the body is not JSON"));
    let receiver = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"{\"mine\":1}") {
            let mut piece = [0; 4096];
            match stream.read(&mut piece).await {
                Ok(0) => break,
                Ok(count) => request.extend(&piece[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("{error}"),
            }
        }
        let answer = b"HTTP/1.1 418 Teapot\r\nContent-Length: 5\r\n\r\nshort";
        stream.write_all(answer).await.unwrap();
        String::from_utf8(request).unwrap()
    });
    let tested = visitor.send(&form, path, &[("body", "{\"mine\":1}")]).await;
    assert_eq!(tested.status, 200);
    assert!(
        tested.text().contains("The call failed. Status 418"),
        "{}",
        tested.text()
    );
    assert!(tested.text().contains("short"));
    let request = receiver.await.unwrap();
    assert!(request.contains("Bearer very secret"), "{request}");
    // Nobody listens any more.
    let refused = visitor.send(&form, path, &[("body", "{}")]).await;
    assert!(
        refused.text().contains("The call failed. It ended after"),
        "{}",
        refused.text()
    );
    assert!(
        visitor
            .get("/admin/webhooks/history")
            .await
            .rows()
            .is_empty()
    );
}

#[tokio::test]
async fn commands_and_calls_select_what_the_page_selects() {
    let visitor = admin("http://127.0.0.1:9/hook").await;
    let now = visitor.desk.context.clock.now();
    let ago = now.before(Duration::from_secs(3600)).to_string();
    let coded = ago.replace(':', "%3A");
    let list = "postrider queue webhook list";
    let path = "/api/queue/webhooks";
    for (query, cli, call) in [
        (
            "",
            format!("{list} --limit 50"),
            Some(format!("{path}?limit=50")),
        ),
        (
            "account=app&event=failed&message=7&before=1h&failed=1",
            format!(
                "{list} --account app --event failed --message 7 --submitted '<{ago}' \
                 --failed true --limit 50"
            ),
            Some(format!(
                "{path}?account=app&event=failed&message=7&before={coded}&failed=true&limit=50"
            )),
        ),
        // The command has one bound, and the call no numbers.
        (
            "before=1h&after=1h",
            String::new(),
            Some(format!("{path}?after={coded}&before={coded}&limit=50")),
        ),
        ("id=7&id=9", format!("{list} --ids 7,9 --limit 50"), None),
    ] {
        let page = visitor.get(&format!("/admin/webhooks?{query}")).await;
        let shown = commands(&page);
        let has_cli = |it: &String| it.starts_with("postrider ");
        let found = shown.iter().find(|it| has_cli(it)).cloned();
        assert_eq!(found.unwrap_or_default(), cli, "{query}");
        match call {
            Some(call) => assert_eq!(called(&shown), call, "{query}"),
            None => assert!(shown.iter().all(has_cli), "{query}: {shown:?}"),
        }
    }
    let past = "/admin/webhooks/history?success=false&before=1h";
    let shown = commands(&visitor.get(past).await);
    assert_eq!(
        shown[0],
        format!(
            "postrider queue webhook retired list --success false --last-activity '<{ago}' \
             --limit 50"
        )
    );
    assert_eq!(
        called(&shown),
        format!("{path}/retired?success=false&before={coded}&limit=50&sort=-id")
    );
    let ask = visitor.get("/admin/webhooks/cancel?failed=1").await;
    assert_eq!(ask.status, 409, "nothing is asked about no calls");
    assert!(ask.text().contains("No call that waits matches."));
    let failed = hook(&visitor.desk, "app", "http://127.0.0.1:9/hook").await;
    fail_once(&visitor.desk, failed).await;
    let ask = visitor.get("/admin/webhooks/cancel?failed=1").await;
    let shown = commands(&ask);
    assert_eq!(shown[0], "postrider queue webhook cancel --failed true");
    assert!(shown[1].contains(" -X DELETE "), "{shown:?}");
    assert_eq!(called(&shown), format!("{path}?failed=true"));
}

#[tokio::test]
async fn calls_that_failed_before_are_moved_and_the_others_stay() {
    let url = "http://127.0.0.1:9/hook";
    let visitor = admin(url).await;
    let desk = &visitor.desk;
    let (failed, other) = (hook(desk, "app", url).await, hook(desk, "app", url).await);
    fail_once(desk, failed).await;
    let page = visitor.get("/admin/webhooks?failed=1").await;
    let rows = page.rows();
    assert!(rows[1][1].starts_with(&failed.to_string()), "{rows:?}");
    let cancel = "/admin/webhooks/cancel";
    let ask = visitor.get(&format!("{cancel}?failed=1")).await;
    assert!(ask.text().contains("1 call will end as failed"));
    // Nothing has to be typed: these are not all.
    let done = visitor.act(&ask, cancel, &[]).await;
    assert!(done.text().contains("1 call is canceled."));
    let left = visitor.get(&format!("/admin/webhooks/{other}")).await;
    assert!(left.text().contains("There was no try yet."));
}

#[tokio::test]
async fn the_next_receivers_begin_with_the_first_calls() {
    let mut dynamics = "[domains.\"example.org\"]\n".to_owned();
    for number in 10..62 {
        let account = if number == 10 {
            "app".to_owned()
        } else {
            format!("b{number}")
        };
        dynamics.push_str(&format!(
            "[accounts.{account}]\ndomain = \"example.org\"\n\
            destinations.\"{account}@example.org\" = {{}}\n\
            outgoing_webhook.url = \"http://127.0.0.1:9/\"\n"
        ));
    }
    let visitor = Visitor::of(Desk::with_admin(STATICS, &dynamics)).await;
    let visitor = visitor.entering_as_admin().await;
    for _ in 0..30 {
        hook(&visitor.desk, "app", "http://127.0.0.1:9/").await;
    }
    let link = |page: &Seen, text: &str| {
        let before = page.html.split(&format!(">{text}</a>")).next().unwrap();
        let href = before.rsplit("href=\"").next().unwrap();
        unescaped(href.split('"').next().unwrap())
    };
    let first = visitor.get("/admin/webhooks?rows=25").await;
    let next = format!("/admin/webhooks{}", link(&first, "Next page"));
    let more = link(&visitor.get(&next).await, "More receivers");
    assert!(!more.contains("cursor="), "{more}");
    let more = visitor.get(&format!("/admin/webhooks{more}")).await;
    assert!(
        !more.text().contains("the list begins anew"),
        "{}",
        more.text()
    );
    assert_eq!(more.rows().len(), 2 + 25);
}

#[tokio::test]
async fn the_own_account_narrows_nothing() {
    let visitor = visitor().await.entering_as("ann", "ann@a.test").await;
    for (path, text) in [
        ("webhooks", "No call waits."),
        ("webhooks/history", "No past call is kept."),
        ("messages", "No message waits."),
        ("messages/past", "No message is in the history."),
        ("events", "There are no events."),
        ("suppressions", "No address is suppressed."),
    ] {
        for query in ["", "?account=ann", "?account=bob"] {
            let page = visitor.get(&format!("/account/{path}{query}")).await;
            assert!(page.text().contains(text), "{path}{query}: {}", page.text());
        }
    }
    let none = visitor.get("/account/events?code=550").await;
    assert!(none.text().contains("No event matches."));
    let desk = &visitor.desk;
    let id = hook(desk, "ann", "http://a.test/").await;
    end_hook(desk, id).await;
    // All past calls are not made again by mistake.
    for query in ["account=ann", "account=ann&success=false"] {
        let ask = visitor
            .get(&format!("/account/webhooks/replay?{query}"))
            .await;
        assert_eq!(ask.status, 422, "{query}");
    }
    let ask = visitor.get("/account/webhooks/replay?event=failed").await;
    assert_eq!(ask.status, 200);
    hook(desk, "ann", "http://a.test/").await;
    let cancel = "/account/webhooks/cancel";
    let ask = visitor.get(&format!("{cancel}?account=ann")).await;
    assert_eq!(visitor.send(&ask, cancel, &[]).await.status, 422);
}

#[tokio::test]
async fn a_try_without_an_answer_has_no_status() {
    let visitor = visitor().await.entering_as("ann", "ann@a.test").await;
    let desk = &visitor.desk;
    let id = super::failed(desk, "ann", "ann@a.test").await;
    let call = hook_of(desk, "ann", "http://a.test/", id).await;
    fail_once(desk, call).await;
    let page = visitor.get(&format!("/account/messages/{id}")).await;
    let text = page.text();
    let tried = "Waits: http://a.test/, 1 try, no answer";
    assert!(text.contains(tried), "{text}");
}

#[tokio::test]
async fn calls_of_others_are_absent() {
    let visitor = visitor().await.entering_as("ann", "ann@a.test").await;
    let desk = &visitor.desk;
    let own = hook(desk, "ann", "http://a.test/").await;
    let foreign = hook(desk, "bob", "http://b.test/").await;
    let page = visitor.get("/account/webhooks?account=bob").await;
    assert_eq!(page.rows().len(), 1, "{}", page.text());
    for path in [
        format!("/account/webhooks/{foreign}"),
        format!("/account/webhooks/{foreign}/body"),
        format!("/account/webhooks/cancel?id={foreign}"),
    ] {
        assert_eq!(visitor.get(&path).await.status, 404, "{path}");
    }
    let one = visitor.get(&format!("/account/webhooks/{own}")).await;
    let id = foreign.to_string();
    let fields = [("id", id.as_str())];
    let sent = visitor.send(&one, "/account/webhooks/now", &fields).await;
    assert_eq!(sent.status, 404);
    // All that match are the own ones.
    let cancel = "/account/webhooks/cancel";
    let ask = visitor.get(&format!("{cancel}?event=failed")).await;
    let done = visitor.act(&ask, cancel, &[]).await;
    assert!(done.text().contains("1 call is canceled."));
    let left = visitor.get(&format!("/account/webhooks/{foreign}")).await;
    assert_eq!(left.status, 404);
    end_hook(&visitor.desk, foreign).await;
    let replay = format!("/account/webhooks/replay?id={foreign}");
    assert_eq!(visitor.get(&replay).await.status, 404);
}
