//! Live parts of pages, by server-sent events.
//!
//! The page itself has the part as it is now. The browser then asks the same page with `live` in
//! its query, and gets the part again whenever it changed. A part is made once for all who may see
//! the same. So it must not have anything of one visitor: its forms stand outside of it, and their
//! buttons name them by the attribute `form`.
//!
//! When there are too many streams, the browser asks for the part each ten seconds instead. Without
//! JavaScript there is a link that loads the page again.

use std::{
    collections::HashMap,
    convert::Infallible,
    fmt::{self, Display, Formatter},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use askama::{Template, filters::HtmlSafe};
use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use postrider_observe::metrics::{OpenStream, StreamKind};
use postrider_store::Counts;
use postrider_webhook::Share;
use sha2::{Digest, Sha256};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

use super::{
    Shared,
    answer::{Answer, RETRY, Trouble},
    asked::Asked,
    form::Fields,
};
use crate::{
    AdminError, Code, Context,
    face::{sessions::Session, task},
};

/// The parameter of a request for a stream. Its value is the id of the part that the page has.
const LIVE: &str = "live";
/// The parameter of a request for the part alone.
const PART: &str = "part";
/// The parameters that say nothing of what a page shows.
const OWN: [&str; 3] = [LIVE, PART, "told"];
/// A part that changed is made again after this time at the earliest, and events are gathered for
/// it.
const GATHERED: Duration = Duration::from_millis(250);
/// A part of the store is made again after this time, also if the store did not change.
const AT_LATEST: Duration = Duration::from_secs(10);
/// The server looks again after this time whether the visitor is still logged in. In a silence the
/// browser gets a comment then.
const LOOK: Duration = Duration::from_secs(15);
/// The longest stream. The browser then asks for another one.
const LONGEST: Duration = Duration::from_secs(15 * 60);
/// The time between two requests of a browser that gets no stream, in seconds.
const POLLED: u64 = 10;
/// The last event: nothing changes any more.
const END: &str = "event: end\ndata: end\n\n";
/// What a browser gets in a silence.
const COMMENT: &str = ": nothing new\n\n";

/// A part of a page, as HTML.
#[derive(Clone, Debug)]
pub(super) struct Part {
    html: String,
    /// Nothing of it will change any more.
    is_final: bool,
}

impl Part {
    /// A part that may change.
    ///
    /// # Errors
    /// If the template can't be filled in.
    pub(super) fn new(template: &impl Template) -> Result<Self, Trouble> {
        Ok(Self {
            html: template.render().map_err(AdminError::internal)?,
            is_final: false,
        })
    }

    /// The same part, if nothing of it changes any more.
    pub(super) const fn ending(mut self, is_final: bool) -> Self {
        self.is_final = is_final;
        self
    }

    /// The id of the part as it is now. How far away times are does not count: the browser tells
    /// that by itself.
    fn id(&self) -> String {
        let mut hash = Sha256::new();
        let mut pieces = self.html.split("<time ");
        hash.update(pieces.next().unwrap_or_default());
        for piece in pieces {
            let (open, rest) = piece.split_once('>').unwrap_or((piece, ""));
            let (_, rest) = rest.split_once("</time>").unwrap_or(("", rest));
            hash.update(open);
            hash.update(rest);
        }
        let hash = hash.finalize();
        URL_SAFE_NO_PAD.encode(hash.get(..9).unwrap_or_default())
    }
}

/// HTML of a template.
#[derive(Clone, Debug)]
struct Html(String);

impl HtmlSafe for Html {}

impl Display for Html {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A part within its page. A template writes it by its name alone: `{{ live }}`.
#[derive(Template)]
#[template(
    source = r##"{% if is_final %}<div id="live">{{ html }}</div>{% else %}<noscript><p><a class="button" href="{{ here }}">Refresh</a></p></noscript>
<div id="live" hx-sse:connect="{{ stream }}" hx-sse:close="end" hx-swap="innerMorph">{{ html }}</div>{% endif %}"##,
    ext = "html"
)]
pub(super) struct Live {
    html: Html,
    is_final: bool,
    /// The page.
    here: String,
    /// The stream.
    stream: String,
}

impl HtmlSafe for Live {}

/// What stands below a part that is asked for again and again.
#[derive(Template)]
#[template(
    source = r##"{{ html }}{% if !is_final %}<div hx-get="{{ url }}" hx-trigger="every {{ seconds }}s" hx-target="#live" hx-swap="innerMorph"></div>{% endif %}"##,
    ext = "html"
)]
struct Polled {
    html: Html,
    is_final: bool,
    url: String,
    seconds: u64,
}

/// What a page with a live part answers.
pub(super) enum Shown {
    /// The page, with its part.
    Page(Live),
    /// The browser asked for the part alone.
    Part(Answer),
}

/// What a part is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    /// What the store has, and figures that change by themselves.
    Store,
    /// The lines of the log.
    Log,
}

/// How far that was when a part was made.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Store(Counts),
    /// The number of the last line.
    Log(u64),
}

impl Of {
    async fn seen(self, context: &Context) -> Seen {
        match self {
            Self::Store => Seen::Store(context.store.counts().await),
            Self::Log => Seen::Log(context.logs.last()),
        }
    }
}

/// Shows a part of a page, and keeps it up to date: it is made again when the store changed, at
/// most each `every`, and in any case each ten seconds.
///
/// # Errors
/// If the part can't be made.
pub(super) async fn shown<R, F>(
    asked: &Arc<Asked>,
    every: Duration,
    render: R,
) -> Result<Shown, Trouble>
where
    R: Fn(Arc<Asked>) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Part, Trouble>> + Send + 'static,
{
    shown_of(asked, Of::Store, every, render).await
}

/// The same for a part that is made of something else. One of the log is made again when there are
/// new lines, and else not at all.
///
/// # Errors
/// If the part can't be made.
pub(super) async fn shown_of<R, F>(
    asked: &Arc<Asked>,
    of: Of,
    every: Duration,
    render: R,
) -> Result<Shown, Trouble>
where
    R: Fn(Arc<Asked>) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Part, Trouble>> + Send + 'static,
{
    let for_all = Arc::new(for_all(asked));
    let Some(seen) = asked.query.text(LIVE) else {
        let part = render(for_all).await?;
        return Ok(match asked.query.flag(PART) {
            true => Shown::Part(polled(asked, StatusCode::OK, part)?),
            false => Shown::Page(Live {
                here: url(asked, None),
                stream: url(asked, Some((LIVE, &part.id()))),
                html: Html(part.html),
                is_final: part.is_final,
            }),
        });
    };
    let Some(place) = place(asked) else {
        let part = render(for_all).await?;
        let status = StatusCode::SERVICE_UNAVAILABLE;
        return Ok(Shown::Part(polled(asked, status, part)?));
    };
    let render: Render = Box::new(move |asked| Box::pin(render(asked)));
    let news = asked.shared().lives.join(for_all, of, every, render);
    let sent = asked.browser.last_event.as_deref().unwrap_or(seen);
    let listener = Listener {
        news,
        sent: sent.to_owned(),
        rest: Rest::new(asked, place),
        has_ended: false,
    };
    let events = stream::unfold(listener, |mut listener| async move {
        let event = listener.next().await?;
        Some((event, listener))
    });
    Ok(Shown::Part(Answer::Other(streamed(events))))
}

/// The request for the page, whether a browser asks for it or for its stream, without what is of
/// one visitor. So the part is the same for all, and its links lead to pages.
fn for_all(asked: &Asked) -> Asked {
    let mut page = asked.for_all();
    page.query = Fields::parse(asked.query.query(&OWN, &[]).as_bytes());
    page.target = url(asked, None);
    page
}

/// A part as it is now, for a form that is shown again: the address has no stream.
pub(super) fn still(asked: &Asked, part: Part) -> Live {
    Live {
        here: url(asked, None),
        stream: String::new(),
        html: Html(part.html),
        is_final: true,
    }
}

/// A part for a browser that gets no stream.
fn polled(asked: &Asked, status: StatusCode, part: Part) -> Result<Answer, Trouble> {
    let polled = Polled {
        url: url(asked, Some((PART, "1"))),
        is_final: part.is_final,
        html: Html(part.html),
        seconds: POLLED,
    };
    let answer = Answer::with(status, &polled)?;
    let mut response = answer.into_response(true);
    response.headers_mut().insert(RETRY, POLLED.into());
    Ok(Answer::Other(response))
}

/// The address of the page, with one more parameter.
fn url(asked: &Asked, more: Option<(&str, &str)>) -> String {
    let path = asked.target.split('?').next().unwrap_or_default();
    let query = asked.query.query(&OWN, more.as_slice());
    match query.as_str() {
        "" => path.to_owned(),
        query => format!("{path}?{query}"),
    }
}

/// A place among the streams. None: the visitor has too many, or there are too many in all.
fn place(asked: &Asked) -> Option<Share> {
    let visitor = match (&asked.session, asked.browser.ip) {
        (Some(session), _) => session.id.to_string(),
        (None, Some(ip)) => ip.to_string(),
        (None, None) => String::new(),
    };
    asked.shared().streams.try_take(&visitor, 1)
}

/// Whether a browser asks for a page, and not for its stream or its part alone.
pub(super) fn is_page(asked: &Asked) -> bool {
    !is_asked(asked) && !asked.query.flag(PART)
}

/// Whether a browser asks for a stream. For pages that answer by [`follow`].
pub(super) fn is_asked(asked: &Asked) -> bool {
    asked.query.text(LIVE).is_some()
}

/// The address of the stream of a page that answers by [`follow`]. `seen` is the id of the last
/// piece that the page has.
pub(super) fn address(asked: &Asked, seen: &str) -> String {
    let seen = if seen.is_empty() { "0" } else { seen };
    url(asked, Some((LIVE, seen)))
}

/// The id of the last piece that a browser has of a stream of [`follow`].
pub(super) fn seen(asked: &Asked) -> &str {
    let last = asked.browser.last_event.as_deref();
    last.or_else(|| asked.query.text(LIVE)).unwrap_or("0")
}

/// Sends pieces of HTML with their ids to one visitor, as they come. Those that come within a short
/// time go as one event, the newest first if `newest_first`. When there are too many streams, the
/// visitor gets a sentence instead.
pub(super) fn follow(
    asked: &Asked,
    newest_first: bool,
    pieces: impl Stream<Item = (String, String)> + Send + 'static,
) -> Answer {
    let Some(place) = place(asked) else {
        return Answer::Html(
            StatusCode::OK,
            "<p class=\"notice warn\">Too many live pages are open, so this one stays as it is. \
             Close others, and load it again.</p>"
                .to_owned(),
        );
    };
    let follower = Follower {
        pieces: Box::pin(pieces.fuse()),
        newest_first,
        rest: Rest::new(asked, place),
    };
    let events = stream::unfold(follower, |mut follower| async move {
        let event = follower.next().await?;
        Some((event, follower))
    });
    Answer::Other(streamed(events))
}

fn streamed(events: impl Stream<Item = Bytes> + Send + 'static) -> Response {
    let body = Body::from_stream(events.map(Ok::<_, Infallible>));
    let kind = HeaderValue::from_static("text/event-stream");
    let mut response = ([("x-accel-buffering", "no")], body).into_response();
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// HTML as an event.
fn event(id: &str, html: &str) -> String {
    let mut event = format!("id: {id}\n");
    for line in html.split(['\n', '\r']) {
        event.push_str("data: ");
        event.push_str(line);
        event.push('\n');
    }
    event.push('\n');
    event
}

/// What ends a stream or keeps it going, beside its events.
struct Rest {
    asked: Asked,
    until: Instant,
    /// When to look again whether the visitor is still logged in.
    look: Instant,
    stopping: watch::Receiver<bool>,
    _place: Share,
    _counted: OpenStream,
}

impl Rest {
    fn new(asked: &Asked, place: Share) -> Self {
        Self {
            asked: asked.clone(),
            until: Instant::now() + LONGEST,
            look: Instant::now() + LOOK,
            stopping: asked.shared().stopping.clone(),
            _place: place,
            _counted: OpenStream::new(&asked.context.metrics, StreamKind::Pages),
        }
    }

    /// Whether the stream goes on. A stream asks before each event, so that one with an event at
    /// all times ends with its session too.
    async fn goes_on(&mut self) -> bool {
        let now = Instant::now();
        if *self.stopping.borrow() || self.until <= now {
            return false;
        }
        if now < self.look {
            return true;
        }
        let goes_on = self.asked.is_still_logged_in().await;
        // Set after the answer: an event may end this wait, and then the next event has to ask.
        self.look = Instant::now() + LOOK;
        goes_on
    }

    /// Waits for the end of the stream (None) or for the next look at the session.
    async fn over(&mut self) -> Option<Bytes> {
        tokio::select! {
            _ = self.stopping.wait_for(|stop| *stop) => return None,
            () = sleep_until(self.until.min(self.look)) => {}
        }
        let goes_on = self.goes_on().await;
        goes_on.then(|| Bytes::from_static(COMMENT.as_bytes()))
    }
}

/// The stream of a part.
struct Listener {
    news: watch::Receiver<Made>,
    /// The id of the part that the browser has.
    sent: String,
    rest: Rest,
    has_ended: bool,
}

impl Listener {
    async fn next(&mut self) -> Option<Bytes> {
        if self.has_ended || !self.rest.goes_on().await {
            return None;
        }
        loop {
            let made = self.news.borrow_and_update().clone();
            self.has_ended = made.is_final;
            if !made.id.is_empty() && made.id != self.sent {
                self.sent = made.id;
                return Some(made.event);
            }
            if made.is_final {
                return Some(Bytes::from_static(END.as_bytes()));
            }
            tokio::select! {
                changed = self.news.changed() => changed.ok()?,
                over = self.rest.over() => return over,
            }
        }
    }
}

/// The stream of pieces.
struct Follower {
    pieces: Pin<Box<dyn Stream<Item = (String, String)> + Send>>,
    newest_first: bool,
    rest: Rest,
}

impl Follower {
    async fn next(&mut self) -> Option<Bytes> {
        if !self.rest.goes_on().await {
            return None;
        }
        let first = tokio::select! {
            piece = self.pieces.next() => piece?,
            over = self.rest.over() => return over,
        };
        let (mut id, mut pieces) = (first.0, vec![first.1]);
        let gathered = Instant::now() + GATHERED;
        while let Ok(Some(piece)) = tokio::time::timeout_at(gathered, self.pieces.next()).await {
            id = piece.0;
            pieces.push(piece.1);
        }
        if self.newest_first {
            pieces.reverse();
        }
        Some(event(&id, &pieces.concat()).into())
    }
}

type Making = Pin<Box<dyn Future<Output = Result<Part, Trouble>> + Send>>;
type Render = Box<dyn Fn(Arc<Asked>) -> Making + Send + Sync>;

/// A part as it was last made.
#[derive(Clone, Debug, Default)]
struct Made {
    /// Empty: it was not made yet.
    id: String,
    event: Bytes,
    is_final: bool,
}

/// The parts that somebody sees at this time.
#[derive(Default)]
pub(super) struct Lives {
    parts: Mutex<HashMap<String, watch::Receiver<Made>>>,
}

impl Lives {
    /// Follows a part. The first follower begins to make it.
    fn join(
        &self,
        asked: Arc<Asked>,
        of: Of,
        every: Duration,
        render: Render,
    ) -> watch::Receiver<Made> {
        let key = key(&asked);
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(news) = parts.get(&key).filter(|news| news.has_changed().is_ok()) {
            return news.clone();
        }
        let (made, news) = watch::channel(Made::default());
        parts.insert(key.clone(), news.clone());
        drop(parts);
        let shared = Arc::clone(asked.shared());
        task::begin(keep(shared, (key, asked), of, every, render, made));
        news
    }

    /// Forgets a part that nobody follows.
    fn is_over(&self, key: &str, made: &watch::Sender<Made>) -> bool {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = made.receiver_count() <= 1;
        if is_over {
            parts.remove(key);
        }
        is_over
    }
}

/// What a part depends on: what the visitor may see, and the page.
fn key(asked: &Asked) -> String {
    let right = match asked.session.as_ref().map(Session::account) {
        Some(None) => "admin",
        Some(Some(account)) => account,
        None => "",
    };
    format!("{:?} {right} {}", asked.area, url(asked, None))
}

/// Makes a part again and again, until nobody follows it.
async fn keep(
    shared: Arc<Shared>,
    (key, asked): (String, Arc<Asked>),
    of: Of,
    every: Duration,
    render: Render,
    made: watch::Sender<Made>,
) {
    let mut stopping = shared.stopping.clone();
    let mut last: Option<(Instant, Seen)> = None;
    while !shared.lives.is_over(&key, &made) {
        let seen = of.seen(&shared.context).await;
        let is_due = last
            .as_ref()
            .is_none_or(|(at, before)| match (seen == *before, of) {
                (true, Of::Store) => at.elapsed() >= AT_LATEST.max(every),
                (true, Of::Log) => false,
                (false, _) => at.elapsed() >= every,
            });
        if is_due {
            match render(Arc::clone(&asked)).await {
                Ok(part) => {
                    made.send_if_modified(|before| before.renew(&part));
                }
                Err(trouble) if is_gone(&trouble) => {
                    made.send_modify(|before| before.is_final = true);
                }
                // It may go better later.
                Err(_) => {}
            }
            last = Some((Instant::now(), seen));
        }
        tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            () = sleep(GATHERED) => {}
        }
    }
}

const fn is_gone(trouble: &Trouble) -> bool {
    match trouble {
        Trouble::NoPage => true,
        Trouble::Failed(error) => matches!(error.code, Code::NotFound),
        _ => false,
    }
}

impl Made {
    /// Takes over a part. Gives whether anything of it changed.
    fn renew(&mut self, part: &Part) -> bool {
        let id = part.id();
        let is_new = id != self.id || part.is_final != self.is_final;
        if is_new {
            let end = if part.is_final { END } else { "" };
            self.event = format!("{}{end}", event(&id, &part.html)).into();
            self.id = id;
            self.is_final = part.is_final;
        }
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(html: &str) -> Part {
        Part {
            html: html.to_owned(),
            is_final: false,
        }
    }

    #[test]
    fn the_distance_of_a_time_is_no_news() {
        let time = |at: &str, told: &str| {
            part(&format!(
                "<p>Next <time datetime=\"{at}\" title=\"x\">{told}</time>, then</p>"
            ))
        };
        let before = time("2026-11-30T10:00:00Z", "in 5 min").id();
        assert_eq!(time("2026-11-30T10:00:00Z", "in 4 min").id(), before);
        assert_ne!(time("2026-11-30T10:00:01Z", "in 5 min").id(), before);
        assert_ne!(part("<p>Next</p>").id(), part("<p>Then</p>").id());
    }

    #[test]
    fn a_part_is_sent_when_it_changed() {
        let mut made = Made::default();
        assert!(made.renew(&part("<p>\n1\r2</p>")));
        let id = made.id.clone();
        let sent = format!("id: {id}\ndata: <p>\ndata: 1\ndata: 2</p>\n\n");
        assert_eq!(made.event, sent);
        assert!(!made.renew(&part("<p>\n1\r2</p>")));
        assert!(made.renew(&part("<p>\n1\r2</p>").ending(true)));
        assert_eq!(made.event, format!("{sent}{END}"));
    }
}
