//! A request for a page whose visitor is known.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::Request,
    http::{
        HeaderValue, Method, StatusCode,
        header::{CONTENT_TYPE, RETRY_AFTER},
    },
    response::{IntoResponse, Response},
};
use percent_encoding::percent_decode_str;
use postrider_store::{Actor, Time};
use tracing::error;

use super::{
    Served, Shared,
    answer::{self, Answer, Trouble},
    browser::Browser,
    cookies,
    form::{FORM_MAX, Fields, query},
    frame::{self, Frame},
    second_factor,
    site::{self, Area, Page},
};
use crate::{
    AdminError, Caller, Context,
    face::{
        http::{Client, by_password, read_whole},
        sessions::{self, Session},
        task,
    },
    op::{Operation, Single, Sink, second_factors},
};

/// How long a page may take. A check of DNS takes up to 40 s when servers do not answer.
const PAGE_TIMEOUT: Duration = Duration::from_secs(60);

/// The field of a form with the token of the session.
const TOKEN: &str = "token";
/// The field of a form with the password, once more.
const PROOF: &str = "proof";
/// The field of a form with a number of its own.
const NUMBER: &str = "form";
/// The path of the form that ends a session.
const LOGOUT: &str = "logout";

/// A request for a page whose visitor is known.
#[derive(Clone)]
pub(super) struct Asked {
    /// With the visitor as the caller.
    pub(super) context: Context,
    pub(super) area: Area,
    /// The variable elements of the path, decoded.
    elements: Vec<String>,
    pub(super) query: Fields,
    /// The fields of a form that was sent.
    pub(super) form: Fields,
    pub(super) browser: Browser,
    /// None: the page needs no login.
    pub(super) session: Option<Session>,
    pub(super) served: Served,
    /// The path and the query.
    pub(super) target: String,
    method: Method,
}

impl Asked {
    /// Finds the page and the visitor of a request, and reads the form.
    ///
    /// # Errors
    /// The answer, if there is no such page, the visitor has to log in first, or the form does not
    /// come from a page of ours.
    pub(super) async fn admit(
        served: &Served,
        area: Area,
        path: &str,
        browser: Browser,
        request: Request,
    ) -> Result<(&'static Page, Self), Response> {
        let method = request.method().clone();
        let found = decoded(path).and_then(|elements| {
            let elements: Vec<&str> = elements.iter().map(String::as_str).collect();
            site::find(area, &method, &elements)
        });
        let shared = &served.shared;
        let session = match cookies::given(area, cookies::To::Session, &browser) {
            None => None,
            Some(cookie) => {
                let pages = cookies::pages(area);
                let found = sessions::find(&shared.context, pages, cookie, browser.ip).await;
                found.map_err(|error| Trouble::Failed(error).into_response())?
            }
        };
        let query = Fields::parse(request.uri().query().unwrap_or_default().as_bytes());
        let target = request.uri().path_and_query();
        let target = target.map(|target| target.as_str().to_owned());
        let mut asked = Self {
            context: shared.context.clone(),
            area,
            elements: Vec::new(),
            query,
            form: Fields::default(),
            browser,
            session,
            served: served.clone(),
            target: target.unwrap_or_default(),
            method,
        };
        asked.context.caller = asked.caller();
        // Localserve's inbox is open to this machine.
        let is_open = area == Area::Inbox && asked.browser.is_here();
        let needs_login = !is_open && asked.session.is_none();
        let Some((page, elements)) = found else {
            // Who is not logged in learns nothing of the pages that there are.
            return Err(match needs_login {
                true => asked.to_login(),
                false => asked.trouble(Trouble::NoPage),
            });
        };
        asked.elements = elements;
        if needs_login && !page.open {
            return Err(asked.to_login());
        }
        if asked
            .owes_second_factor(page)
            .await
            .map_err(|it| it.into_response())?
        {
            return Err(asked.to_second_factor());
        }
        if asked.method == Method::POST {
            let kind = request.headers().get(CONTENT_TYPE);
            let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
            let kind = kind.to_owned();
            let body = match read_whole(request.into_body(), FORM_MAX).await {
                Ok(body) => body,
                Err(refusal) => return Err(refusal),
            };
            asked.form = Fields::of_body(&kind, &body);
            let given = asked.form.text(TOKEN).unwrap_or_default();
            let takes = |session: &Session| session.takes(given);
            if !page.open && !asked.session.as_ref().is_none_or(takes) {
                return Err(asked.trouble(Trouble::Forged));
            }
        }
        Ok((page, asked))
    }

    fn caller(&self) -> Caller {
        match &self.session {
            Some(session) => session.caller(),
            None => Caller {
                actor: Actor::Account,
                name: "inbox".to_owned(),
                from: self.browser.ip,
            },
        }
    }

    /// The configuration asks for a second factor (`web.require_totp`), and the visitor has none.
    /// Only the pages that set it up are open then.
    async fn owes_second_factor(&self, page: &Page) -> Result<bool, Trouble> {
        let Some(session) = &self.session else {
            return Ok(false);
        };
        let is_open = page.open || page.path == LOGOUT || second_factor::is_for_it(page.path);
        if is_open || !second_factors::is_required(&self.context, &session.owner) {
            return Ok(false);
        }
        let of = session.owner.clone();
        Ok(!self.run(second_factors::Show { of }).await?.enabled)
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.served.shared
    }

    /// A variable element of the path.
    pub(super) fn element(&self, at: usize) -> &str {
        self.elements.get(at).map_or("", String::as_str)
    }

    /// A variable element of the path that is a number.
    ///
    /// # Errors
    /// If it is none: there is no such page.
    pub(super) fn number(&self, at: usize) -> Result<u64, Trouble> {
        self.element(at).parse().map_err(|_| Trouble::NoPage)
    }

    /// The account of the visitor; empty for others.
    pub(super) fn account(&self) -> &str {
        let session = self.session.as_ref();
        session.and_then(Session::account).unwrap_or_default()
    }

    pub(super) fn now(&self) -> Time {
        self.context.clock.now()
    }

    /// The path of a page in the visitor's area.
    pub(super) fn url(&self, rest: &str) -> String {
        let base = self.area.base(&self.served.endpoint).unwrap_or("/");
        format!("{base}{rest}")
    }

    /// The token of the session's forms. Forms of the inbox have none: it has no login, and the
    /// check of the origin stands in its place.
    pub(super) fn token(&self) -> &str {
        self.session.as_ref().map_or("", Session::token)
    }

    /// The same request without what is of this visitor alone: the token of the session, and the
    /// notice.
    pub(super) fn for_all(&self) -> Self {
        let mut asked = self.clone();
        asked.session = asked.session.map(Session::without_token);
        asked.browser.htmx = true;
        asked
    }

    /// Whether the visitor is still logged in. This is no use of the session.
    pub(super) async fn is_still_logged_in(&self) -> bool {
        if self.session.is_none() {
            return true;
        }
        let cookie = cookies::given(self.area, cookies::To::Session, &self.browser);
        let cookie = cookie.unwrap_or_default();
        let pages = cookies::pages(self.area);
        // A store that can't be read ends nobody's session.
        let found = sessions::goes_on(&self.context, pages, cookie).await;
        found.unwrap_or(true)
    }

    /// The frame of a page with this title.
    pub(super) fn frame(&self, title: &str) -> Frame {
        let notice = match self.browser.htmx {
            true => None,
            false => self.shared().notices.take(self.query.text("told")),
        };
        Frame::new(self, title, notice)
    }

    /// Leads to a page, which tells what was done.
    pub(super) fn done(&self, told: impl Into<String>, rest: &str) -> Answer {
        self.done_at(told, &self.url(rest))
    }

    /// The same with the whole path of the page.
    pub(super) fn done_at(&self, told: impl Into<String>, target: &str) -> Answer {
        let key = self.shared().notices.keep(told.into());
        let target = frame::without_told(target);
        let sign = if target.contains('?') { '&' } else { '?' };
        Answer::SeeOther(format!("{target}{sign}told={key}"))
    }

    /// Whether the visitor gave the password lately. What changes passwords, keys and secrets
    /// needs that. Localserve's inbox has no login, and nothing of that kind.
    pub(super) fn is_proven(&self) -> bool {
        let session = self.session.as_ref();
        session.is_some_and(|session| session.is_proven(self.now()))
    }

    /// Checks that the visitor gave the password lately, or gives it with this form
    /// (`parts::proof`).
    ///
    /// # Errors
    /// If the password is missing or wrong. The field is `proof`.
    pub(super) async fn prove(&self) -> Result<(), AdminError> {
        if self.is_proven() {
            return Ok(());
        }
        let wrong = |text: &str| AdminError::invalid(text).at(PROOF);
        let (Some(session), Some(password)) = (&self.session, self.form.raw(PROOF)) else {
            return Err(wrong("give your password once more"));
        };
        let (login, password) = (&session.login, password.to_owned());
        match by_password(&self.context, login, password, &self.client()).await {
            // The session began with a code, so the password is enough now.
            Ok(known) if known.owner == session.owner => {
                sessions::prove(&self.context, &mut session.clone()).await
            }
            Ok(_) => Err(wrong("this is the password of somebody else")),
            Err(problem) => Err(wrong(problem.told().0)),
        }
    }

    /// Where a login comes from.
    pub(super) fn client(&self) -> Client<'_> {
        Client {
            ip: self.browser.ip,
            behind_proxy: self.browser.behind_proxy,
            program: &self.browser.name,
        }
    }

    /// Runs an operation with one output.
    ///
    /// # Errors
    /// Those of the operation.
    pub(super) async fn run<O: Single>(&self, operation: O) -> Result<O::Output, AdminError> {
        operation.answer(&self.context).await
    }

    /// Runs an operation with one output for a visitor who gave the password lately, or gives it
    /// with this form.
    ///
    /// # Errors
    /// Those of [`prove`](Self::prove) and of the operation.
    pub(super) async fn run_proven<O: Single>(
        &self,
        operation: O,
    ) -> Result<O::Output, AdminError> {
        self.prove().await?;
        self.run(operation).await
    }

    /// Runs an operation with a list as its output. The operation has to have a limit.
    ///
    /// # Errors
    /// Those of the operation.
    pub(super) async fn list<O: Operation>(
        &self,
        operation: O,
    ) -> Result<Vec<O::Item>, AdminError> {
        let mut items = Collected(Vec::new());
        operation.run(&self.context, &mut items).await?;
        Ok(items.0)
    }

    /// Leads to the login and back. A form that htmx sent stays on the page.
    fn to_login(&self) -> Response {
        let back = match self.method {
            Method::GET | Method::HEAD => self.target.as_str(),
            _ => "",
        };
        let login = self.url(&format!("login?{}", query([("to", back)])));
        if !self.browser.htmx {
            return answer::see_other(&login);
        }
        let link = format!(
            "<p class=\"notice bad\" role=\"alert\">Your session is over. \
            <a href=\"{login}\" target=\"_blank\">Log in again</a>, then repeat.</p>"
        );
        let link = Answer::Html(StatusCode::UNAUTHORIZED, link);
        link.into_response(true)
    }

    /// Leads to the pages that set up a second factor. The inbox has none of its own: its visitor
    /// is the holder of an account.
    fn to_second_factor(&self) -> Response {
        let area = match self.area {
            Area::Inbox => Area::Account,
            area => area,
        };
        match area.base(&self.served.endpoint) {
            Some(base) => {
                let page = format!("{base}{}", second_factor::PATH);
                Answer::SeeOther(page).into_response(self.browser.htmx)
            }
            None => {
                let text = "this server asks for a second factor (web.require_totp); set it up on \
                            the pages of your account, and come back";
                self.trouble(AdminError::conflict(text).into())
            }
        }
    }

    /// The page that tells of trouble.
    pub(super) fn trouble(&self, trouble: Trouble) -> Response {
        let status = trouble.status();
        let page = frame::TroublePage {
            frame: self.frame(status.canonical_reason().unwrap_or("Trouble")),
            text: trouble.text(),
        };
        let mut response = match Answer::with(status, &page) {
            Ok(page) => page.into_response(self.browser.htmx),
            Err(trouble) => super::plain(&trouble),
        };
        if let Some(wait) = trouble.retry_after() {
            response.headers_mut().insert(RETRY_AFTER, wait);
        }
        response
    }
}

/// Answers a request. A form acts to its end, also if its browser goes away, and once.
pub(super) async fn run(page: &'static Page, asked: Asked) -> Response {
    let asked = Arc::new(asked);
    let answered = match asked.method {
        Method::POST => {
            let visitor = asked.session.as_ref().map_or(0, |session| session.id);
            let number = asked
                .form
                .text(NUMBER)
                .map(|number| format!("{visitor} {number}"));
            let worked = Arc::clone(&asked);
            let work = async move {
                let shared = Arc::clone(worked.shared());
                match number {
                    None => (page.run)(worked).await,
                    Some(number) => shared.repeats.once(number, (page.run)(worked)).await,
                }
            };
            task::begin(work).await.unwrap_or_else(|_| {
                error!("a form panicked");
                Err(AdminError::internal("a form panicked").into())
            })
        }
        _ => {
            let work = tokio::time::timeout(PAGE_TIMEOUT, (page.run)(Arc::clone(&asked))).await;
            work.unwrap_or(Err(Trouble::Busy(PAGE_TIMEOUT)))
        }
    };
    match answered {
        Ok(answer) => answer.into_response(asked.browser.htmx),
        Err(trouble) => asked.trouble(trouble),
    }
}

/// The elements of a path, decoded. None: it is not UTF-8.
fn decoded(path: &str) -> Option<Vec<String>> {
    let elements = path.split('/').map(|element| {
        let text = percent_decode_str(element).decode_utf8().ok()?;
        Some(text.into_owned())
    });
    elements.collect()
}

struct Collected<T>(Vec<T>);

impl<T: Send> Sink<T> for Collected<T> {
    async fn send(&mut self, items: Vec<T>) -> Result<(), AdminError> {
        self.0.extend(items);
        Ok(())
    }
}

/// A key that nobody guesses: of a form, of a notice, or of work.
pub(super) fn random_key() -> String {
    use rand::Rng;
    format!("{:016x}", rand::rng().next_u64())
}

/// A field of a header, for answers that are made by hand.
pub(super) fn header_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

impl IntoResponse for Trouble {
    fn into_response(self) -> Response {
        super::plain(&self)
    }
}
