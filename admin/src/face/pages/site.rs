//! The list of all pages. Requests are led by it, and the tests visit all that is in it.

use std::{pin::Pin, sync::Arc};

use axum::{
    http::{Method, StatusCode},
    response::{IntoResponse, Response},
};

use super::{
    Endpoint, admin,
    answer::{self, Answer, Trouble},
    asked::Asked,
    inbox, job, login,
};

/// A part of the pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Area {
    /// For administrators.
    Admin,
    /// For the holder of an account.
    Account,
    /// For developers, in localserve.
    Inbox,
}

impl Area {
    pub(super) const ALL: [Self; 3] = [Self::Admin, Self::Account, Self::Inbox];

    /// Where its pages are, with a slash at both ends. None: the port does not have them.
    pub(super) fn base(self, endpoint: &Endpoint) -> Option<&str> {
        match self {
            Self::Admin => endpoint.admin.as_deref(),
            Self::Account => endpoint.account.as_deref(),
            Self::Inbox => endpoint.inbox.as_deref(),
        }
    }

    /// The area of a path, and the path within it; None: the slash at its end is missing.
    pub(super) fn of<'a>(endpoint: &Endpoint, path: &'a str) -> Option<(Self, Option<&'a str>)> {
        let mut found: Option<(usize, Self, Option<&str>)> = None;
        for area in Self::ALL {
            let Some(base) = area.base(endpoint) else {
                continue;
            };
            let rest = match path.strip_prefix(base) {
                Some(rest) => Some(rest),
                None if path == base.trim_end_matches('/') => None,
                None => continue,
            };
            if found
                .as_ref()
                .is_none_or(|(longest, ..)| base.len() > *longest)
            {
                found = Some((base.len(), area, rest));
            }
        }
        found.map(|(_, area, rest)| (area, rest))
    }
}

/// The future of a page.
pub(super) type Work = Pin<Box<dyn Future<Output = Result<Answer, Trouble>> + Send>>;

/// A page, or what a form leads to.
pub(super) struct Page {
    pub(super) area: Area,
    pub(super) method: Method,
    /// The path within the area. An element in braces is variable.
    pub(super) path: &'static str,
    /// Visitors need no login.
    pub(super) open: bool,
    pub(super) run: fn(Arc<Asked>) -> Work,
}

impl Page {
    /// The variable elements of a path, if the path is one of this page.
    fn elements(&self, path: &[&str]) -> Option<Vec<String>> {
        crate::face::path::elements(self.path, path)
    }
}

/// The page for a request, and the variable elements of its path.
pub(super) fn find(
    area: Area,
    method: &Method,
    path: &[&str],
) -> Option<(&'static Page, Vec<String>)> {
    // A browser that asks for the head of a page gets what GET gives, without the body.
    let method = if *method == Method::HEAD {
        &Method::GET
    } else {
        method
    };
    PAGES.iter().find_map(|page| {
        let elements = page.elements(path)?;
        (page.area == area && page.method == *method).then_some((page, elements))
    })
}

macro_rules! pages {
    ($($open:ident $area:ident $method:ident $path:literal => $run:path;)*) => {
        &[$(Page {
            area: Area::$area,
            method: Method::$method,
            path: $path,
            open: pages!(@$open),
            run: |asked| Box::pin($run(asked)),
        },)*]
    };
    (@open) => { true };
    (@login) => { false };
}

pub(super) static PAGES: &[Page] = pages! {
    open Admin GET "login" => login::show;
    open Admin POST "login" => login::enter;
    login Admin POST "logout" => login::leave;
    login Admin GET "" => admin::overview::show;
    login Admin GET "queue/stop/{work}" => admin::overview::ask_stop;
    login Admin POST "queue/stop/{work}" => admin::overview::stop;
    login Admin POST "queue/start/{work}" => admin::overview::start;
    login Admin GET "queue" => admin::queue::list;
    login Admin GET "queue/act" => admin::queue::to_list;
    login Admin POST "queue/act" => admin::queue::act;
    login Admin GET "queue/destinations" => admin::destinations::list;
    login Admin GET "queue/destinations/{site}" => admin::destinations::show;
    login Admin POST "queue/destinations/{site}" => admin::destinations::act;
    login Admin GET "messages/{id}" => admin::message::show;
    login Admin POST "messages/{id}/text" => admin::message::show_text;
    login Admin GET "work/{id}" => job::show;
    login Admin POST "work/{id}/stop" => job::stop;
    login Admin GET "hold-rules" => admin::hold_rules::list;
    login Admin POST "hold-rules" => admin::hold_rules::add;
    login Admin GET "hold-rules/{id}/remove" => admin::hold_rules::ask_remove;
    login Admin POST "hold-rules/{id}/remove" => admin::hold_rules::remove;
    open Account GET "login" => login::show;
    open Account POST "login" => login::enter;
    login Account POST "logout" => login::leave;
    open Inbox GET "login" => login::show;
    open Inbox POST "login" => login::enter;
    login Inbox POST "logout" => login::leave;
    login Inbox GET "" => inbox::list::show;
    login Inbox GET "latest" => inbox::list::latest;
    login Inbox POST "read" => inbox::list::mark_all;
    login Inbox GET "clear" => inbox::list::ask_clear;
    login Inbox POST "clear" => inbox::list::clear;
    login Inbox GET "send" => inbox::send::show;
    login Inbox POST "send" => inbox::send::send;
    login Inbox POST "send/unsuppress" => inbox::send::unsuppress;
    login Inbox GET "{id}" => inbox::message::show;
    login Inbox POST "{id}/unread" => inbox::message::mark_unread;
    login Inbox GET "{id}/remove" => inbox::message::ask_remove;
    login Inbox POST "{id}/remove" => inbox::message::remove;
    login Inbox GET "{id}/{tab}" => inbox::message::show;
    login Inbox GET "{id}/files/{part}" => inbox::download::file;
};

/// The page at `/`: the inbox of localserve, or the pages of the port.
pub(super) fn front(endpoint: &Endpoint, method: &Method) -> Response {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let bases = [&endpoint.inbox, &endpoint.account, &endpoint.admin];
    match bases.into_iter().flatten().next() {
        Some(base) => answer::see_other(base),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
