//! The web pages: below `/admin/` for administrators, below `/account/` for holders of accounts,
//! and in localserve below `/inbox/` for developers. They work without JavaScript.
//!
//! - `site`: the list of all pages: method, area, path, and the function that answers.
//! - `asked`: a request whose visitor is known. `answer`: what a function answers.
//! - `browser`: what a request says of its browser, and who may not ask.
//! - `cookies`: the cookies of [sessions](super::sessions). `login`: the pages for logging in.
//!   `halves`: logins that wait for a code.
//! - `form`: the fields of a form. `repeats`: a form that was sent twice acts once. `recent`: what
//!   came lately.
//! - `frame`: the frame around each page. `shown`: times, sizes and counts for people.
//! - `command`: the commands and calls that do the same as a page. `webapi`: those that the holder
//!   of an account can use.
//! - `list`: pages of long lists. `live`: parts of pages that are kept up to date.
//! - `job`: work on many things that goes on, and can be stopped.
//! - `confirm`: what a change will do, before it is done.
//! - `owner`: whose page it is, where administrators and holders of accounts have the same one.
//!   `credentials`, `settings`: such pages. `tabs`: the tabs of a thing.
//! - `second_factor`, `logins`, `web_sessions`: how a visitor logs in, and where. `qr`: QR codes.
//! - `assets`: the files for browsers.
//! - `admin`, `account`, `inbox`: the pages. `past`: those that administrators and holders of
//!   accounts share. Each translates a request into operations, and their output into HTML by a
//!   template in `admin/templates`.

mod account;
mod admin;
mod answer;
mod asked;
mod assets;
mod browser;
mod command;
mod confirm;
mod cookies;
mod credentials;
mod form;
mod frame;
mod halves;
mod inbox;
mod job;
mod list;
mod live;
mod login;
mod logins;
mod owner;
mod past;
mod qr;
mod recent;
mod repeats;
mod second_factor;
mod settings;
mod shown;
mod site;
mod tabs;
mod web_sessions;
mod webapi;

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::{ConnectInfo, DefaultBodyLimit, Request, State},
    http::{Method, StatusCode},
    response::{IntoResponse, Response},
    routing::any,
};
use postrider_webhook::Places;
use tokio::sync::watch;

use self::{
    answer::Trouble, asked::Asked, browser::Browser, frame::Notices, halves::Halves, job::Jobs,
    live::Lives, repeats::Repeats, site::Area,
};
use crate::Context;

/// The most live streams at a time, in all and of one visitor.
const STREAMS: (u32, u32) = (200, 10);

/// The web pages. All listeners share their sessions and limits.
#[derive(Clone)]
pub struct Pages {
    shared: Arc<Shared>,
}

/// The parts that all listeners share.
struct Shared {
    context: Context,
    repeats: Repeats,
    notices: Notices,
    halves: Halves,
    streams: Places,
    lives: Lives,
    jobs: Jobs,
    stopping: watch::Receiver<bool>,
}

/// Whether a listener has this name.
pub type KnowsHost = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// The pages of one port.
#[derive(Clone)]
pub struct Endpoint {
    /// The path of the pages for administrators, with a slash at both ends; None: it has none.
    pub admin: Option<String>,
    /// The path of the pages for holders of accounts.
    pub account: Option<String>,
    /// The path of localserve's inbox.
    pub inbox: Option<String>,
    /// Requests come over TLS.
    pub tls: bool,
    /// The number of trusted proxies, each of which adds an address to X-Forwarded-For.
    pub forwarded_hops: usize,
    /// The names of the port, beside localhost and IP addresses.
    pub knows_host: KnowsHost,
}

#[derive(Clone)]
struct Served {
    shared: Arc<Shared>,
    endpoint: Arc<Endpoint>,
}

impl Pages {
    /// The pages of a running server. When `stopping` is true, live streams end.
    #[must_use]
    pub fn new(context: Context, stopping: watch::Receiver<bool>) -> Self {
        Self {
            shared: Arc::new(Shared {
                context,
                repeats: Repeats::default(),
                notices: Notices::default(),
                halves: Halves::default(),
                streams: Places::new(STREAMS.0, STREAMS.1),
                lives: Lives::default(),
                jobs: Jobs::default(),
                stopping,
            }),
        }
    }

    /// The routes of a port. A request needs the extension [`ConnectInfo`] with the address of the
    /// client.
    pub fn router(&self, endpoint: Endpoint) -> Router {
        let mut router = Router::new()
            .route("/", any(answer))
            .route("/assets/{name}", any(answer));
        for area in Area::ALL {
            let Some(base) = area.base(&endpoint).map(str::to_owned) else {
                continue;
            };
            router = router
                .route(&format!("{base}{{*rest}}"), any(answer))
                .route(&base, any(answer));
            let without_slash = base.trim_end_matches('/');
            if !without_slash.is_empty() {
                router = router.route(without_slash, any(answer));
            }
        }
        router
            .layer(DefaultBodyLimit::disable())
            .with_state(Served {
                shared: Arc::clone(&self.shared),
                endpoint: Arc::new(endpoint),
            })
    }
}

async fn answer(State(served): State<Served>, request: Request) -> Response {
    let mut response = answered(&served, request).await;
    browser::protect(response.headers_mut());
    response
}

async fn answered(served: &Served, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    if let Some(name) = path.strip_prefix("/assets/") {
        return assets::file(name, request.headers());
    }
    let connected = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let connected = connected.map(|ConnectInfo(address)| address.ip().to_canonical());
    let browser = match Browser::new(&request, connected, &served.endpoint) {
        Ok(browser) => browser,
        Err(refusal) => return refusal.into_response(),
    };
    if path == "/" {
        return site::front(&served.endpoint, request.method());
    }
    let Some((area, rest)) = Area::of(&served.endpoint, &path) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let Some(rest) = rest else {
        let base = area.base(&served.endpoint).unwrap_or("/");
        return answer::see_other(base);
    };
    if !matches!(*request.method(), Method::GET | Method::HEAD | Method::POST) {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    match Asked::admit(served, area, rest, browser, request).await {
        Ok((page, asked)) => asked::run(page, asked).await,
        Err(refused) => refused,
    }
}

/// What a visitor reads of trouble without a page around it.
fn plain(trouble: &Trouble) -> Response {
    let (status, text) = (trouble.status(), trouble.text());
    (status, format!("{text}\n")).into_response()
}
