//! What the other tests here rest on: each step does what it says, and each fault of a page is
//! found. The pages are those of a small server in this file.

use axum::{
    Router,
    http::{StatusCode, Uri, header},
    response::{Html, IntoResponse, Response},
};
use futures_util::FutureExt;
use tokio::net::TcpListener;

use super::{Look, browse, pictures};

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; form-action 'self'; \
                      frame-src 'self'; img-src 'self'";

/// A page with a bit of everything, without a fault.
const GOOD: &str = r##"<h1>Trip to <b>Rome</b></h1>
<noscript><p>No scripts here</p></noscript>
<p class="light">A light page</p><p class="dark">A dark page</p>
<template>Never shown</template>
<details><summary>More</summary><p>It's folded</p></details>
<form action="/answer">
<label for="name">Name</label> <input id="name" name="name" value="old">
<label>Class <select name="class"><option>first</option><option>second</option></select></label>
<label><input type="checkbox" name="window"> At the window</label>
<label><input type="radio" name="meal" value="a"> Soup</label>
<label><input type="radio" name="meal" value="b"> Salad</label>
<label for="ticket">Ticket</label> <input type="file" id="ticket" name="ticket">
<button>Book</button></form>
<form action="/answer"><table><caption>Trains</caption>
<thead><tr><th scope="col">Pick</th><th scope="col">Train</th><th scope="col">Act</th></tr></thead>
<tbody><tr><td><input type="checkbox" name="t" value="1" aria-label="Pick 1"></td>
<td><a href="/answer?train=1">Night 1</a></td><td><button name="hold" value="1">Hold</button></td></tr>
<tr><td><input type="checkbox" name="t" value="2" aria-label="Pick 2"></td>
<td><a href="/answer?train=2">Day 2</a></td><td><button name="hold" value="2">Hold</button></td></tr>
</tbody></table><button>All</button></form>
<p><a href="/answer?by=link">Timetable</a></p><iframe title="Map" src="/map"></iframe>
<script src="/good.js"></script>"##;

/// Text that comes later than the page.
const GOOD_SCRIPT: &str = "fetch; requestAnimationFrame(() => { const late = document.createElement('p'); \
    late.textContent = 'It came late'; document.querySelector('main').append(late); });";

const STYLE: &str = ".dark, h2 { display: none } \
    @media (prefers-color-scheme: dark) { body { background: #111; color: #eee } a { color: #9cf } \
    .dark { display: block } .light { display: none } } \
    .wide { width: 2000px } iframe { width: 100px; height: 50px } \
    a, button, input, select { min-height: 24px; display: inline-block }";

/// Serves the pages. Gives the URL without a path.
pub(super) async fn serve() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().fallback(answer);
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

async fn answer(uri: Uri) -> Response {
    let script = |text: &'static str| ([(header::CONTENT_TYPE, "text/javascript")], text);
    let (status, body) = match uri.path() {
        "/good.js" => return script(GOOD_SCRIPT).into_response(),
        "/error.js" => return script("throw new Error('broken script')").into_response(),
        "/style.css" => return ([(header::CONTENT_TYPE, "text/css")], STYLE).into_response(),
        "/good" => (StatusCode::OK, GOOD.to_owned()),
        "/answer" => (
            StatusCode::UNPROCESSABLE_ENTITY,
            format!(
                "<h1>{}</h1>",
                uri.query().unwrap_or_default().replace('&', " ")
            ),
        ),
        "/map" => (StatusCode::OK, "<h1>The map</h1>".to_owned()),
        "/error" => (
            StatusCode::OK,
            "<h1>E</h1><script src='/error.js'></script>".to_owned(),
        ),
        "/inline" => (
            StatusCode::OK,
            "<h1>I</h1><script>hello()</script>".to_owned(),
        ),
        "/styled" => (StatusCode::OK, "<h1 style='color:red'>S</h1>".to_owned()),
        "/remote" => (
            StatusCode::OK,
            "<h1>R</h1><img alt='' src='http://a.test/'>".to_owned(),
        ),
        "/failed" => (StatusCode::INTERNAL_SERVER_ERROR, "<h1>F</h1>".to_owned()),
        "/barriers" => (
            StatusCode::OK,
            "<h1>B</h1><input id='nameless'><p class='wide'>x</p>\
             <button>One</button><button tabindex='0' id='trap'>Two</button>\
             <script src='/trap.js'></script>"
                .to_owned(),
        ),
        "/trap.js" => {
            let trap = "document.querySelector('#trap').addEventListener('focus', \
                        () => document.querySelector('#nameless').focus(), true); \
                        document.querySelector('#nameless').addEventListener('keydown', \
                        event => event.preventDefault())";
            return script(trap).into_response();
        }
        _ => (StatusCode::NOT_FOUND, "<h1>Not here</h1>".to_owned()),
    };
    let page = format!(
        "<!doctype html><html lang='en'><head><title>T</title>\
         <meta name='viewport' content='width=device-width'>\
         <link rel='stylesheet' href='/style.css'></head><body><main>{body}</main></body></html>"
    );
    (
        status,
        [(header::CONTENT_SECURITY_POLICY, POLICY)],
        Html(page),
    )
        .into_response()
}

#[tokio::test]
#[ignore = "it needs Chromium"]
async fn each_step_does_what_it_says() {
    let base = serve().await;
    for look in Look::BOTH {
        browse(&base, look, async |page| {
            page.go("/good").await;
            page.see("Trip to Rome").await;
            page.see_no("Paris").await;
            assert!(!page.text().await.contains("It's folded"));
            page.press("More").await;
            page.see("It's folded").await;
            assert_eq!(
                page.rows("Trains").await,
                [["", "Night 1", "Hold"], ["", "Day 2", "Hold"]]
            );

            assert_eq!(page.value("Name").await, "old");
            page.fill("Name", "Ann").await;
            page.choose("Class", "second").await;
            page.tick("At the window").await;
            page.tick("Salad").await;
            let dir = tempfile::tempdir().unwrap();
            let ticket = dir.path().join("ticket.csv");
            std::fs::write(&ticket, "a").unwrap();
            page.upload("Ticket", &ticket).await;
            page.press("Book").await;
            page.see("name=Ann class=second window=on meal=b ticket=ticket.csv")
                .await;
            assert!(page.path().await.starts_with("/answer?name=Ann&"));

            page.go("/good").await;
            page.tick_row("Day 2").await;
            page.press_in("Night 1", "Hold").await;
            page.see("hold=1 t=2").await;
            page.go("/good").await;
            page.follow_in("Day 2").await;
            page.see("train=2").await;
            page.go("/good").await;
            page.enter_frame("Map").await;
            page.see("The map").await;
            page.leave_frame().await;
            page.follow("Timetable").await;
            page.see("by=link").await;
        })
        .await;
    }
}

#[tokio::test]
#[ignore = "it needs Chromium"]
async fn a_browser_has_scripts_and_colours_as_asked() {
    let base = serve().await;
    browse(&base, Look::default(), async |page| {
        page.go("/good").await;
        page.see("It came late").await;
        page.see("A light page").await;
        let text = page.text().await;
        assert!(
            !text.contains("No scripts") && !text.contains("A dark page"),
            "{text}"
        );
    })
    .await;
    browse(&base, Look::WITHOUT_SCRIPTS, async |page| {
        page.go("/good").await;
        page.see("No scripts here").await;
        page.see_no("It came late").await;
    })
    .await;
    browse(&base, Look::DARK_PHONE, async |page| {
        page.go("/good").await;
        page.see("A dark page").await;
        let width = page
            .driver
            .script("return innerWidth", serde_json::json!([]));
        assert_eq!(width.await, 390);
    })
    .await;
}

#[tokio::test]
#[ignore = "it needs Chromium"]
async fn the_log_tells_of_each_fault() {
    let base = serve().await;
    browse(&base, Look::default(), async |page| {
        for (path, complaint) in [
            ("/error", "broken script"),
            ("/inline", "script-src"),
            ("/styled", "style-src"),
            ("/remote", "img-src"),
            ("/failed", "status of 500"),
        ] {
            page.go(path).await;
            let complaints = page.complaints().await;
            assert!(
                complaints.len() == 1 && complaints[0].contains(complaint),
                "{path}: {complaints:?}"
            );
        }
        // A visitor who sees that something is not there has seen no fault.
        page.go("/nothing").await;
        page.see("Not here").await;
    })
    .await;
    let faulty = browse(&base, Look::default(), async |page| page.go("/error").await);
    let fails = std::panic::AssertUnwindSafe(faulty).catch_unwind().await;
    assert!(fails.is_err(), "a story with an error in the log ends well");
    browse(&base, Look::default(), async |page| {
        page.expect("broken script");
        page.go("/error").await;
    })
    .await;
}

#[tokio::test]
#[ignore = "it needs Chromium"]
async fn a_picture_shows_the_page() {
    let base = serve().await;
    let file = pictures().join("itself.png");
    browse(&base, Look::DARK_PHONE, async |page| {
        page.go("/good").await;
        page.picture(&file).await;
    })
    .await;
    // The width and the height are after the signature and the head of the first chunk (PNG,
    // 11.2.1).
    let picture = std::fs::read(&file).unwrap();
    assert!(picture.starts_with(b"\x89PNG"));
    assert_eq!(picture[16..20], 390_u32.to_be_bytes());
}
