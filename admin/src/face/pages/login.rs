//! The pages for logging in and out: the password first, then the code of who needs one.

use std::{sync::Arc, time::Duration};

use askama::Template;
use axum::{
    http::{
        StatusCode,
        header::{RETRY_AFTER, SET_COOKIE},
    },
    response::{AppendHeaders, IntoResponse},
};
use postrider_store::WebSessionOwner;

use super::{
    answer::{Answer, Trouble, sentence},
    asked::{Asked, header_value},
    cookies::{self, To},
    form::{Faults, query},
    frame::Frame,
    halves::Half,
    shown::counted,
    site::Area,
};
use crate::{
    AdminError,
    face::{
        http::{Known, by_code, by_password, password_mark},
        sessions,
    },
};

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage {
    frame: Frame,
    /// The page asks for the name of an account.
    asks_name: bool,
    name: String,
    /// The page to go to afterwards.
    to: String,
    faults: Faults,
    /// The reason why nobody can log in this way; empty: it can be done.
    closed: &'static str,
}

#[derive(Template)]
#[template(path = "login_code.html")]
struct CodePage {
    frame: Frame,
    login: String,
    is_admin: bool,
    to: String,
    faults: Faults,
}

/// The form.
pub(super) async fn show(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    if asked.session.is_some() {
        return Ok(Answer::SeeOther(asked.url("")));
    }
    let page = page(&asked, "", asked.query.text("to").unwrap_or_default());
    Answer::page(&page)
}

/// The frame of a page without a menu.
fn bare(asked: &Asked, title: &str) -> Frame {
    let mut frame = asked.frame(title);
    frame.bare = true;
    frame
}

fn page(asked: &Asked, name: &str, to: &str) -> LoginPage {
    LoginPage {
        frame: bare(asked, "Log in"),
        asks_name: asked.area != Area::Admin,
        name: name.to_owned(),
        to: to.to_owned(),
        faults: Faults::default(),
        closed: match asked.browser.is_private() {
            true => "",
            false => {
                "This way is not encrypted, so nobody can log in. Use https, or come from the \
                machine itself."
            }
        },
    }
}

/// Shows a form again, with what is wrong. `wait`: the next try is checked after this time.
fn again(asked: &Asked, page: &impl Template, wait: Option<Duration>) -> Result<Answer, Trouble> {
    let Some(wait) = wait else {
        return Answer::again(page);
    };
    let page = Answer::with(StatusCode::TOO_MANY_REQUESTS, page)?;
    let mut response = page.into_response(asked.browser.htmx);
    let seconds = header_value(&wait.as_secs().max(1).to_string());
    response.headers_mut().insert(RETRY_AFTER, seconds);
    Ok(Answer::Other(response))
}

/// Checks what was typed. Begins a session, or leads to the page that asks for a code.
pub(super) async fn enter(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let form = &asked.form;
    let to = form.text("to").unwrap_or_default();
    let name = match asked.area {
        Area::Admin => "admin",
        Area::Account | Area::Inbox => form.text("name").unwrap_or_default(),
    };
    let mut page = page(&asked, name, to);
    if !page.closed.is_empty() {
        return Answer::with(StatusCode::FORBIDDEN, &page);
    }
    let password = form.shown("password").to_owned();
    // The name of the administrator is no address, so nobody gets in by it at the other door.
    let is_wrong_door = asked.area != Area::Admin && !name.contains('@');
    let name = if is_wrong_door { "@" } else { name };
    match by_password(&asked.context, name, password, &asked.client()).await {
        Ok(Known {
            owner,
            login,
            needs_code,
        }) => match needs_code {
            None => begin(&asked, owner, &login, to, None).await,
            Some(password) => {
                let half = Half {
                    owner,
                    login,
                    password,
                };
                Ok(wait_for_code(&asked, half, to))
            }
        },
        Err(problem) => {
            let (text, wait) = problem.told();
            page.faults.list.push((String::new(), sentence(text)));
            again(&asked, &page, wait)
        }
    }
}

/// Leads to the page that asks for a code. Only who has this cookie is asked.
fn wait_for_code(asked: &Asked, half: Half, to: &str) -> Answer {
    let value = asked.shared().halves.begin(half, asked.now());
    let cookie = cookies::set(asked.area, To::Half, &asked.browser, &value);
    let query = query([("to", to)]);
    let response = super::answer::see_other(&asked.url(&format!("login/code?{query}")));
    let cookie = [(SET_COOKIE, header_value(&cookie))];
    Answer::Other((cookie, response).into_response())
}

/// The login of this browser that waits for a code, and its cookie.
async fn waiting(asked: &Asked) -> Result<Option<(Half, String)>, Trouble> {
    let halves = &asked.shared().halves;
    let Some(cookie) = cookies::given(asked.area, To::Half, &asked.browser) else {
        return Ok(None);
    };
    let found = halves.find(cookie, asked.now());
    let is_here =
        |half: &Half| (half.owner == WebSessionOwner::Admin) == (asked.area == Area::Admin);
    let Some(half) = found.filter(is_here) else {
        return Ok(None);
    };
    if password_mark(&asked.context, &half.owner).await? != half.password {
        halves.end(cookie);
        return Ok(None);
    }
    Ok(Some((half, cookie.to_owned())))
}

fn code_page(asked: &Asked, half: &Half, to: &str) -> CodePage {
    CodePage {
        frame: bare(asked, "Your code"),
        login: half.login.clone(),
        is_admin: half.owner == WebSessionOwner::Admin,
        to: to.to_owned(),
        faults: Faults::default(),
    }
}

/// Leads to the first form: there is no password that waits for a code, or it waited too long.
fn anew(asked: &Asked, to: &str) -> Answer {
    let query = query([("to", to)]);
    Answer::SeeOther(asked.url(&format!("login?{query}")))
}

/// The form for a code.
pub(super) async fn show_code(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let to = asked.query.text("to").unwrap_or_default();
    match waiting(&asked).await? {
        Some((half, _)) => Answer::page(&code_page(&asked, &half, to)),
        None => Ok(anew(&asked, to)),
    }
}

/// Checks a code, and begins a session.
pub(super) async fn enter_code(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let to = asked.form.text("to").unwrap_or_default();
    let Some((half, cookie)) = waiting(&asked).await? else {
        return Ok(anew(&asked, to));
    };
    let code = asked.form.shown("code");
    let (context, client) = (&asked.context, asked.client());
    let told = match by_code(context, &half.owner, &half.login, code, &client).await {
        Ok(None) => None,
        Ok(Some(left)) => {
            let left = counted(left as u64, "recovery code is", "recovery codes are");
            Some(format!("That was a recovery code. {left} left."))
        }
        Err(problem) => {
            let (text, wait) = problem.told();
            let mut page = code_page(&asked, &half, to);
            page.faults.list.push(("code".to_owned(), sentence(text)));
            return again(&asked, &page, wait);
        }
    };
    asked.shared().halves.end(&cookie);
    begin(&asked, half.owner, &half.login, to, told).await
}

/// Begins a session, and leads to the page that was asked for. `told` is what the page tells.
async fn begin(
    asked: &Asked,
    owner: WebSessionOwner,
    login: &str,
    to: &str,
    told: Option<String>,
) -> Result<Answer, Trouble> {
    let set = begun(asked, owner, login).await?;
    // Only a page of ours: the text comes from the query.
    let base = asked.url("");
    let to = if to.starts_with(&base) && !to.contains("//") {
        to
    } else {
        &base
    };
    let answer = match told {
        None => Answer::SeeOther(to.to_owned()),
        Some(told) => asked.done_at(told, to),
    };
    let half = cookies::set(asked.area, To::Half, &asked.browser, "");
    let cookies = [&set, &half].map(|cookie| (SET_COOKIE, header_value(cookie)));
    let response = answer.into_response(asked.browser.htmx);
    Ok(Answer::Other(
        (AppendHeaders(cookies), response).into_response(),
    ))
}

/// Begins a session. Gives the field Set-Cookie.
async fn begun(asked: &Asked, owner: WebSessionOwner, login: &str) -> Result<String, AdminError> {
    let (context, browser) = (&asked.context, &asked.browser);
    let begun = sessions::begin(context, owner, login, browser.ip, &browser.name).await?;
    Ok(cookies::set(asked.area, To::Session, browser, &begun.0))
}

/// Lets the visitor stay after a new password of the account, which has ended all its sessions: if
/// that of the visitor was one of them, there is a new one.
pub(super) async fn stay(asked: &Asked, account: &str, answer: Answer) -> Result<Answer, Trouble> {
    let owner = WebSessionOwner::Account(account.to_owned());
    let session = asked.session.as_ref();
    let Some(session) = session.filter(|session| session.owner == owner) else {
        return Ok(answer);
    };
    let cookie = begun(asked, session.owner.clone(), &session.login).await?;
    let response = answer.into_response(asked.browser.htmx);
    let cookie = [(SET_COOKIE, header_value(&cookie))];
    Ok(Answer::Other((cookie, response).into_response()))
}

/// Ends the session.
pub(super) async fn leave(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    if let Some(session) = &asked.session {
        sessions::end(&asked.context, session).await?;
    }
    let cookie = cookies::set(asked.area, To::Session, &asked.browser, "");
    let response = super::answer::see_other(&asked.url("login"));
    Ok(Answer::Other(
        ([(SET_COOKIE, header_value(&cookie))], response).into_response(),
    ))
}
