//! The web pages, as a browser without JavaScript sees them.

#[path = "pages/accounts.rs"]
mod accounts;
#[path = "pages/domains.rs"]
mod domains;
#[path = "pages/figures.rs"]
mod figures;
#[path = "pages/frame.rs"]
mod frame;
#[path = "pages/hold_rules.rs"]
mod hold_rules;
#[path = "pages/holder.rs"]
mod holder;
#[path = "pages/inbox.rs"]
mod inbox;
#[path = "pages/past.rs"]
mod past;
#[path = "pages/queue.rs"]
mod queue;
#[path = "pages/second_factor.rs"]
mod second_factor;
#[path = "pages/texts.rs"]
mod texts;
#[path = "pages/who.rs"]
mod who;

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use axum::{
    Router,
    body::{Body, BodyDataStream, to_bytes},
    extract::ConnectInfo,
    http::{HeaderMap, Request, header::SET_COOKIE, request::Builder},
    response::Response,
};
use postrider_admin::{
    face::pages::{Endpoint, Pages},
    op::{Single, passwords},
};
use tokio::sync::watch;
use tower::ServiceExt;

use super::{Desk, STATICS, http::TENANTS};

/// The password of the administrator and of all accounts.
pub(super) const PASSWORD: &str = "battery staple";

/// A browser without JavaScript, on this machine.
pub(super) struct Visitor {
    pub(super) desk: Desk,
    router: Router,
    /// The cookies by their names.
    cookies: BTreeMap<String, String>,
    stop: watch::Sender<bool>,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) html: String,
}

impl Visitor {
    /// A browser that is logged in nowhere, before a server with two tenants.
    pub(super) async fn new() -> Self {
        Self::with("").await
    }

    /// The same before a server that has these words at the end of its configuration.
    async fn with(words: &str) -> Self {
        Self::of(Desk::with_admin(&format!("{STATICS}{words}"), TENANTS)).await
    }

    pub(super) async fn of(desk: Desk) -> Self {
        if let Some(file) = &desk.context.statics.admin_password_file {
            passwords::set_admin_password(file, PASSWORD).unwrap();
        }
        let stop = watch::Sender::new(false);
        let router = Pages::new(desk.context.clone(), stop.subscribe()).router(Endpoint {
            admin: Some("/admin/".to_owned()),
            account: Some("/account/".to_owned()),
            inbox: Some("/inbox/".to_owned()),
            tls: false,
            forwarded_hops: 0,
            knows_host: Arc::new(|name| name == "mail.example.org"),
        });
        Self {
            desk,
            router,
            cookies: BTreeMap::new(),
            stop,
        }
    }

    /// The administrator.
    pub(super) async fn admin() -> Self {
        Self::new().await.entering_as_admin().await
    }

    /// The same, before another server.
    pub(super) async fn entering_as_admin(mut self) -> Self {
        let login = self.get("/admin/login").await;
        let fields = [("password", PASSWORD)];
        let entered = self.send(&login, "/admin/login", &fields).await;
        self.keep(&entered);
        self
    }

    /// The holder of an account of [`TENANTS`], such as `ann`, whose login is `ann@a.test`.
    pub(super) async fn holder(account: &str, login: &str) -> Self {
        Self::new().await.entering_as(account, login).await
    }

    /// The same with these words at the end of the configuration.
    pub(super) async fn holder_with(words: &str, account: &str, login: &str) -> Self {
        Self::with(words).await.entering_as(account, login).await
    }

    /// The same, before another server.
    pub(super) async fn entering_as(mut self, account: &str, login: &str) -> Self {
        let set = passwords::Set {
            account: account.to_owned(),
            password: PASSWORD.to_owned(),
        };
        set.answer(&self.desk.context).await.unwrap();
        let page = self.get("/account/login").await;
        let fields = [("name", login), ("password", PASSWORD)];
        let entered = self.send(&page, "/account/login", &fields).await;
        self.keep(&entered);
        self
    }

    /// Keeps the cookies of an answer, as browsers do.
    pub(super) fn keep(&mut self, seen: &Seen) {
        let set = seen.headers.get_all(SET_COOKIE).iter();
        let set: Vec<&str> = set.map(|field| field.to_str().unwrap()).collect();
        assert!(!set.is_empty(), "no cookie: {} {}", seen.status, seen.html);
        for field in set {
            let (name, value) = field.split(';').next().unwrap().split_once('=').unwrap();
            match value {
                "" => self.cookies.remove(name),
                value => self.cookies.insert(name.to_owned(), value.to_owned()),
            };
        }
    }

    /// Sends a request with more header fields.
    pub(super) async fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Seen {
        let mut request = Request::builder().method(method).uri(path);
        if !headers.iter().any(|(name, _)| *name == "host") {
            request = request.header("host", "localhost:1080");
        }
        if !self.cookies.is_empty() {
            request = request.header("cookie", self.cookie());
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, body) = self.answer(request, body).await.into_parts();
        let html = to_bytes(body, usize::MAX).await.unwrap();
        Seen {
            status: parts.status.as_u16(),
            headers: parts.headers,
            html: String::from_utf8_lossy(&html).into_owned(),
        }
    }

    /// The field with all cookies.
    fn cookie(&self) -> String {
        let pairs = self.cookies.iter();
        let pairs: Vec<_> = pairs
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        pairs.join("; ")
    }

    async fn answer(&self, request: Builder, body: String) -> Response {
        let here = ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 50_000)));
        let request = request.extension(here).body(Body::from(body)).unwrap();
        self.router.clone().oneshot(request).await.unwrap()
    }

    /// Opens a stream of events. `seen` is the last event that the browser saw.
    pub(super) async fn stream(&self, path: &str, seen: Option<&str>) -> BodyDataStream {
        let mut request = Request::builder()
            .uri(path)
            .header("host", "localhost:1080");
        request = request.header("hx-request", "true");
        if !self.cookies.is_empty() {
            request = request.header("cookie", self.cookie());
        }
        if let Some(seen) = seen {
            request = request.header("last-event-id", seen);
        }
        let answer = self.answer(request, String::new()).await;
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        answer.into_body().into_data_stream()
    }

    /// The server stops.
    pub(super) fn stop(&self) {
        self.stop.send_replace(true);
    }

    pub(super) async fn get(&self, path: &str) -> Seen {
        self.request("GET", path, &[], String::new()).await
    }

    /// Sends the form of a page that goes to this path. The form's own fields are sent as they are
    /// in the page, but for these. Text areas and choices have to be given.
    pub(super) async fn send(&self, page: &Seen, action: &str, fields: &[(&str, &str)]) -> Seen {
        let mut all = page.form(action);
        for (name, _) in fields {
            all.retain(|(known, _)| known != name);
        }
        let more = fields.iter();
        all.extend(more.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let mut body = form_urlencoded::Serializer::new(String::new());
        body.extend_pairs(&all);
        self.request("POST", action, &[], body.finish()).await
    }

    /// Sends a form, and follows where it leads, until what it began has ended.
    pub(super) async fn act(&self, page: &Seen, action: &str, fields: &[(&str, &str)]) -> Seen {
        let sent = self.send(page, action, fields).await;
        assert_eq!(sent.status, 303, "{}", sent.text());
        loop {
            let seen = self.get(sent.location()).await;
            // On a busy machine a change may take longer than its page waits.
            if !seen.text().contains("Working.") {
                return seen;
            }
        }
    }
}

impl Seen {
    pub(super) fn location(&self) -> &str {
        let location = self.headers.get("location");
        location
            .unwrap_or_else(|| panic!("{self:?}"))
            .to_str()
            .unwrap()
    }

    /// What a person reads, in one line.
    pub(super) fn text(&self) -> String {
        plain(&self.html)
    }

    /// The rows of all tables: the text of each cell.
    pub(super) fn rows(&self) -> Vec<Vec<String>> {
        let bodies = self.html.split("<tbody").skip(1);
        let bodies = bodies.map(|body| body.split("</tbody>").next().unwrap());
        let rows = bodies.flat_map(|body| body.split("<tr").skip(1));
        let cells = |row: &str| {
            let row = row.replace("<th", "<td");
            let cells = row.split("<td").skip(1);
            cells.map(|cell| plain(&format!("<td{cell}"))).collect()
        };
        rows.map(cells).collect()
    }

    /// The inputs of the form that goes to this path, without boxes that are not ticked.
    fn form(&self, action: &str) -> Vec<(String, String)> {
        let wanted = format!("action=\"{action}\"");
        let mut forms = self.html.split("<form").skip(1);
        let form = forms.find(|form| form.split('>').next().unwrap().contains(&wanted));
        let form = form.unwrap_or_else(|| panic!("no form for {action}: {}", self.html));
        let form = form.split("</form>").next().unwrap();
        let inputs = form.split("<input").skip(1);
        let inputs = inputs.map(|input| input.split('>').next().unwrap());
        let ticks = |input: &str| {
            let kind = attribute(input, "type").unwrap_or_default();
            !matches!(kind.as_str(), "checkbox" | "radio") || input.contains(" checked")
        };
        let inputs = inputs.filter(|input| ticks(input));
        let pair = |input: &str| {
            let value = attribute(input, "value").unwrap_or_default();
            Some((attribute(input, "name")?, value))
        };
        inputs.filter_map(pair).collect()
    }
}

/// The value of an attribute of a tag.
fn attribute(tag: &str, name: &str) -> Option<String> {
    let begin = format!(" {name}=\"");
    let value = tag.split(&begin).nth(1)?.split('"').next()?;
    Some(unescaped(value))
}

/// HTML without its tags, its space joined.
fn plain(html: &str) -> String {
    let mut text = String::new();
    for (at, piece) in html.split('<').enumerate() {
        let shown = match at {
            0 => piece,
            _ => piece.split_once('>').map_or("", |(_, shown)| shown),
        };
        text.push_str(shown);
        text.push(' ');
    }
    let words: Vec<&str> = text.split_whitespace().collect();
    unescaped(&words.join(" "))
}

fn unescaped(text: &str) -> String {
    let text = text
        .replace("&#60;", "<")
        .replace("&#62;", ">")
        .replace("&#34;", "\"");
    let text = text
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"");
    text.replace("&#39;", "'")
        .replace("&#38;", "&")
        .replace("&amp;", "&")
}
