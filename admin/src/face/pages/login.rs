//! The pages for logging in and out.

use std::sync::Arc;

use askama::Template;
use axum::{
    http::{
        StatusCode,
        header::{RETRY_AFTER, SET_COOKIE},
    },
    response::IntoResponse,
};
use postrider_store::WebSessionOwner;

use super::{
    answer::{Answer, Trouble, sentence},
    asked::{Asked, header_value},
    cookies,
    form::Faults,
    frame::Frame,
    site::Area,
};
use crate::face::{
    http::{Client, by_password},
    sessions,
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
    /// The login needs a code.
    asks_code: bool,
    faults: Faults,
    /// The reason why nobody can log in this way; empty: it can be done.
    closed: &'static str,
}

/// The form.
pub(super) async fn show(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    if asked.session.is_some() {
        return Ok(Answer::SeeOther(asked.url("")));
    }
    let page = page(&asked, "", asked.query.text("to").unwrap_or_default());
    Answer::page(&page)
}

fn page(asked: &Asked, name: &str, to: &str) -> LoginPage {
    let mut frame = asked.frame("Log in");
    frame.bare = true;
    LoginPage {
        frame,
        asks_name: asked.area != Area::Admin,
        name: name.to_owned(),
        to: to.to_owned(),
        asks_code: asked.form.text("code").is_some(),
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

/// Checks what was typed, and begins a session.
pub(super) async fn enter(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let form = &asked.form;
    let to = form.text("to").unwrap_or_default();
    let name = match asked.area {
        Area::Admin => "admin",
        Area::Account | Area::Inbox => form.text("name").unwrap_or_default(),
    };
    let mut again = page(&asked, name, to);
    if !again.closed.is_empty() {
        return Answer::with(StatusCode::FORBIDDEN, &again);
    }
    let mut password = form.shown("password").to_owned();
    if let Some(code) = form.text("code") {
        password = format!("{password}${code}");
    }
    // The name of the administrator is no address, so nobody gets in by it at the other door.
    let is_wrong_door = asked.area != Area::Admin && !name.contains('@');
    let browser = &asked.browser;
    let name = if is_wrong_door { "@" } else { name };
    let client = Client {
        ip: browser.ip,
        behind_proxy: browser.behind_proxy,
        program: &browser.name,
    };
    let checked = by_password(&asked.context, name, password, &client).await;
    let (caller, account) = match checked {
        Ok(found) => found,
        Err(problem) => {
            let (text, wait) = problem.told();
            again.asks_code |= problem.is_code_missing();
            let field = if problem.is_code_missing() {
                "code"
            } else {
                ""
            };
            again.faults.list.push((field.to_owned(), sentence(text)));
            let Some(wait) = wait else {
                return Answer::again(&again);
            };
            let page = Answer::with(StatusCode::TOO_MANY_REQUESTS, &again)?;
            let mut response = page.into_response(browser.htmx);
            let seconds = header_value(&wait.as_secs().max(1).to_string());
            response.headers_mut().insert(RETRY_AFTER, seconds);
            return Ok(Answer::Other(response));
        }
    };
    let owner = account.map_or(WebSessionOwner::Admin, WebSessionOwner::Account);
    let (context, login) = (&asked.context, &caller.name);
    let begun = sessions::begin(context, owner, login, browser.ip, &browser.name).await?;
    let cookie = cookies::set(asked.area, browser, &begun.0);
    // Only a page of ours: the text comes from the query.
    let base = asked.url("");
    let to = if to.starts_with(&base) && !to.contains("//") {
        to
    } else {
        &base
    };
    let response = super::answer::see_other(to);
    Ok(Answer::Other(
        ([(SET_COOKIE, header_value(&cookie))], response).into_response(),
    ))
}

/// Ends the session.
pub(super) async fn leave(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    if let Some(session) = &asked.session {
        sessions::end(&asked.context, session).await?;
    }
    let cookie = cookies::set(asked.area, &asked.browser, "");
    let response = super::answer::see_other(&asked.url("login"));
    Ok(Answer::Other(
        ([(SET_COOKIE, header_value(&cookie))], response).into_response(),
    ))
}
