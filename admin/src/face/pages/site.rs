//! The list of all pages. Requests are led by it, and the tests visit all that is in it.

use std::{pin::Pin, sync::Arc};

use axum::{
    http::{Method, StatusCode},
    response::{IntoResponse, Response},
};

use super::{
    Endpoint, account, admin,
    answer::{self, Answer, Trouble},
    asked::Asked,
    credentials, inbox, job, login, logins, past, second_factor, settings, web_sessions,
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
    open Admin GET "login/code" => login::show_code;
    open Admin POST "login/code" => login::enter_code;
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
    login Admin GET "messages/{id}" => past::message::show;
    login Admin POST "messages/{id}/text" => past::message::show_text;
    login Admin GET "work/{id}" => job::show;
    login Admin POST "work/{id}/stop" => job::stop;
    login Admin GET "hold-rules" => admin::hold_rules::list;
    login Admin POST "hold-rules" => admin::hold_rules::add;
    login Admin GET "hold-rules/{id}/remove" => admin::hold_rules::ask_remove;
    login Admin POST "hold-rules/{id}/remove" => admin::hold_rules::remove;
    login Admin GET "domains" => admin::domains::list;
    login Admin GET "domains/@new" => admin::domains::ask_add;
    login Admin POST "domains/@new" => admin::domains::add;
    login Admin GET "domains/{d}" => admin::domain::show;
    login Admin GET "domains/{d}/disable" => admin::domain::ask_disable;
    login Admin POST "domains/{d}/disable" => admin::domain::disable;
    login Admin POST "domains/{d}/enable" => admin::domain::enable;
    login Admin GET "domains/{d}/remove" => admin::domain::ask_remove;
    login Admin POST "domains/{d}/remove" => admin::domain::remove;
    login Admin GET "domains/{d}/dns" => admin::domain::dns::show;
    login Admin GET "domains/{d}/dns/zone-file" => admin::domain::dns::zone_file;
    login Admin GET "domains/{d}/dns/publish" => admin::domain::dns::ask_publish;
    login Admin POST "domains/{d}/dns/publish" => admin::domain::dns::do_publish;
    login Admin GET "domains/{d}/dkim" => admin::domain::dkim::show;
    login Admin POST "domains/{d}/dkim" => admin::domain::dkim::add;
    login Admin POST "domains/{d}/dkim/rotate" => admin::domain::dkim::rotate;
    login Admin POST "domains/{d}/dkim/{selector}/sign" => admin::domain::dkim::sign;
    login Admin POST "domains/{d}/dkim/{selector}/stop" => admin::domain::dkim::stop;
    login Admin GET "domains/{d}/dkim/{selector}/remove" => admin::domain::dkim::ask_remove;
    login Admin POST "domains/{d}/dkim/{selector}/remove" => admin::domain::dkim::remove;
    login Admin GET "domains/{d}/mta-sts" => admin::domain::mta_sts::show;
    login Admin POST "domains/{d}/mta-sts" => admin::domain::mta_sts::save;
    login Admin GET "domains/{d}/mta-sts/remove" => admin::domain::mta_sts::ask_remove;
    login Admin POST "domains/{d}/mta-sts/remove" => admin::domain::mta_sts::remove;
    login Admin GET "domains/{d}/aliases" => admin::domain::aliases::list;
    login Admin POST "domains/{d}/aliases" => admin::domain::aliases::add;
    login Admin GET "domains/{d}/aliases/{localpart}" => admin::domain::alias::show;
    login Admin POST "domains/{d}/aliases/{localpart}" => admin::domain::alias::change;
    login Admin POST "domains/{d}/aliases/{localpart}/members" => admin::domain::alias::add_members;
    login Admin GET "domains/{d}/aliases/{localpart}/members/{address}/remove" => admin::domain::alias::ask_remove_member;
    login Admin POST "domains/{d}/aliases/{localpart}/members/{address}/remove" => admin::domain::alias::remove_member;
    login Admin GET "domains/{d}/aliases/{localpart}/remove" => admin::domain::alias::ask_remove;
    login Admin POST "domains/{d}/aliases/{localpart}/remove" => admin::domain::alias::remove;
    login Admin GET "domains/{d}/routes" => admin::domain::routes::list;
    login Admin POST "domains/{d}/routes" => admin::domain::routes::add;
    login Admin GET "domains/{d}/routes/{number}/remove" => admin::domain::routes::ask_remove;
    login Admin POST "domains/{d}/routes/{number}/remove" => admin::domain::routes::remove;
    login Admin GET "domains/{d}/settings" => admin::domain::settings::show;
    login Admin POST "domains/{d}/settings" => admin::domain::settings::change;
    login Admin GET "accounts" => admin::accounts::list;
    login Admin GET "accounts/@new" => admin::accounts::ask_add;
    login Admin POST "accounts/@new" => admin::accounts::add;
    login Admin GET "accounts/{a}" => admin::account::show;
    login Admin GET "accounts/{a}/suspend" => admin::account::ask_suspend;
    login Admin POST "accounts/{a}/suspend" => admin::account::suspend;
    login Admin POST "accounts/{a}/unsuspend" => admin::account::unsuspend;
    login Admin GET "accounts/{a}/remove" => admin::account::ask_remove;
    login Admin POST "accounts/{a}/remove" => admin::account::remove;
    login Admin GET "accounts/{a}/addresses" => admin::account::addresses::list;
    login Admin POST "accounts/{a}/addresses" => admin::account::addresses::add;
    login Admin GET "accounts/{a}/addresses/{address}/remove" => admin::account::addresses::ask_remove;
    login Admin POST "accounts/{a}/addresses/{address}/remove" => admin::account::addresses::remove;
    login Admin GET "accounts/{a}/password" => credentials::password::show;
    login Admin POST "accounts/{a}/password" => credentials::password::set;
    login Admin GET "accounts/{a}/password/generate" => credentials::password::ask_generate;
    login Admin POST "accounts/{a}/password/generate" => credentials::password::generate;
    login Admin GET "accounts/{a}/app-passwords" => credentials::app_passwords::list;
    login Admin POST "accounts/{a}/app-passwords" => credentials::app_passwords::add;
    login Admin GET "accounts/{a}/app-passwords/{name}/remove" => credentials::app_passwords::ask_remove;
    login Admin POST "accounts/{a}/app-passwords/{name}/remove" => credentials::app_passwords::remove;
    login Admin GET "accounts/{a}/keys" => credentials::keys::list;
    login Admin POST "accounts/{a}/keys" => credentials::keys::add;
    login Admin GET "accounts/{a}/keys/{id}/remove" => credentials::keys::ask_remove;
    login Admin POST "accounts/{a}/keys/{id}/remove" => credentials::keys::remove;
    login Admin GET "accounts/{a}/tls-keys" => credentials::tls_keys::list;
    login Admin POST "accounts/{a}/tls-keys" => credentials::tls_keys::add;
    login Admin GET "accounts/{a}/tls-keys/{fingerprint}/remove" => credentials::tls_keys::ask_remove;
    login Admin POST "accounts/{a}/tls-keys/{fingerprint}/remove" => credentials::tls_keys::remove;
    login Admin GET "accounts/{a}/limits" => settings::account::show_limits;
    login Admin POST "accounts/{a}/limits" => settings::account::change_limits;
    login Admin GET "accounts/{a}/settings" => settings::account::show;
    login Admin POST "accounts/{a}/settings" => settings::account::change;
    login Admin GET "accounts/{a}/webhooks" => settings::webhooks::show;
    login Admin POST "accounts/{a}/webhooks" => settings::webhooks::change;
    login Admin POST "accounts/{a}/webhooks/{kind}/test" => settings::webhooks::test;
    login Admin GET "accounts/{a}/webhooks/{kind}/secret" => settings::webhooks::ask_rotate;
    login Admin POST "accounts/{a}/webhooks/{kind}/secret" => settings::webhooks::rotate;
    login Admin GET "keys" => admin::keys::list;
    login Admin POST "keys" => admin::keys::add;
    login Admin GET "keys/{id}/remove" => admin::keys::ask_remove;
    login Admin POST "keys/{id}/remove" => admin::keys::remove;
    login Admin GET "history" => past::history::list;
    login Admin GET "history/export" => past::history::export;
    login Admin GET "history/{id}/send-again" => past::history::ask_send_again;
    login Admin POST "history/{id}/send-again" => past::history::send_again;
    login Admin GET "history/{id}/replay" => past::history::ask_replay;
    login Admin POST "history/{id}/replay" => past::history::replay;
    login Admin GET "events" => past::events::list;
    login Admin GET "suppressions" => past::suppressions::list;
    login Admin GET "suppressions/add" => past::suppressions::ask_add;
    login Admin POST "suppressions/add" => past::suppressions::add;
    login Admin GET "suppressions/remove" => past::suppressions::ask_remove;
    login Admin POST "suppressions/remove" => past::suppressions::remove;
    login Admin GET "suppressions/clear" => past::clear::ask;
    login Admin POST "suppressions/clear" => past::clear::act;
    login Admin GET "suppressions/export" => past::suppressions::export;
    login Admin GET "suppressions/import" => past::import::ask;
    login Admin POST "suppressions/import" => past::import::act;
    login Admin GET "webhooks" => past::calls::list;
    login Admin GET "webhooks/history" => past::calls::history;
    login Admin GET "webhooks/now" => past::change_calls::ask_now;
    login Admin POST "webhooks/now" => past::change_calls::now;
    login Admin POST "webhooks/schedule" => past::change_calls::schedule;
    login Admin GET "webhooks/cancel" => past::change_calls::ask_cancel;
    login Admin POST "webhooks/cancel" => past::change_calls::cancel;
    login Admin GET "webhooks/replay" => past::change_calls::ask_replay;
    login Admin POST "webhooks/replay" => past::change_calls::replay;
    login Admin GET "webhooks/test" => past::webhook_test::show;
    login Admin POST "webhooks/test" => past::webhook_test::act;
    login Admin GET "webhooks/{id}" => past::call::show;
    login Admin GET "webhooks/{id}/body" => past::call::body;
    login Admin GET "2fa" => second_factor::show;
    login Admin POST "2fa/begin" => second_factor::begin;
    login Admin POST "2fa/confirm" => second_factor::confirm;
    login Admin GET "2fa/renew" => second_factor::ask_renew;
    login Admin POST "2fa/renew" => second_factor::renew;
    login Admin GET "2fa/off" => second_factor::ask_off;
    login Admin POST "2fa/off" => second_factor::turn_off;
    login Admin GET "accounts/{a}/2fa" => second_factor::show_of;
    login Admin GET "accounts/{a}/2fa/reset" => second_factor::ask_reset;
    login Admin POST "accounts/{a}/2fa/reset" => second_factor::reset;
    login Admin GET "accounts/{a}/logins" => logins::list;
    login Admin GET "accounts/{a}/sessions" => web_sessions::list;
    login Admin POST "accounts/{a}/sessions/{id}/end" => web_sessions::end;
    login Admin GET "accounts/{a}/sessions/end-others" => web_sessions::ask_end_others;
    login Admin POST "accounts/{a}/sessions/end-others" => web_sessions::end_others;
    login Admin GET "audit" => admin::audit::list;
    login Admin GET "check" => admin::check::show;
    login Admin GET "check/{domain}" => admin::check::domain;
    login Admin GET "config" => admin::config::show;
    login Admin GET "config/domains" => admin::config_domains::show;
    login Admin POST "config/domains" => admin::config_domains::act;
    login Admin POST "config/domains/open" => admin::config_domains::open;
    login Admin GET "config/domains/versions/{id}" => admin::config_domains::compare;
    login Admin POST "config/domains/versions/{id}/restore" => admin::config_domains::restore;
    login Admin GET "logs" => admin::logs::list;
    login Admin POST "logs/level" => admin::logs::set;
    login Admin POST "logs/reset" => admin::logs::reset;
    login Admin GET "logins" => admin::logins::list;
    login Admin POST "logins/unlock" => admin::logins::unlock;
    login Admin GET "metrics" => admin::metrics::show;
    login Admin GET "reports/{type}" => admin::reports::list;
    login Admin GET "reports/{type}/{id}" => admin::report::show;
    login Admin GET "reports/{type}/{id}/raw" => admin::report::raw;
    login Admin GET "reports/{type}/{id}/remove" => admin::report::ask_remove;
    login Admin POST "reports/{type}/{id}/remove" => admin::report::remove;
    login Admin GET "sessions" => admin::sessions::list;
    login Admin GET "sessions/end" => admin::sessions::ask_end_all;
    login Admin POST "sessions/end" => admin::sessions::end_all;
    login Admin GET "sessions/{id}/end" => admin::sessions::ask_end;
    login Admin POST "sessions/{id}/end" => admin::sessions::end;
    login Admin GET "traces" => admin::traces::list;
    login Admin GET "traces/story" => admin::traces::story;
    login Admin GET "traces/{id}" => admin::traces::show;
    login Admin GET "troubleshoot/delivery" => admin::dry_run::show;
    login Admin POST "troubleshoot/delivery" => admin::dry_run::run;
    login Admin GET "troubleshoot/dmarc" => admin::message_check::show;
    login Admin POST "troubleshoot/dmarc" => admin::message_check::run;
    open Account GET "login" => login::show;
    open Account POST "login" => login::enter;
    open Account GET "login/code" => login::show_code;
    open Account POST "login/code" => login::enter_code;
    login Account POST "logout" => login::leave;
    login Account GET "work/{id}" => job::show;
    login Account POST "work/{id}/stop" => job::stop;
    login Account GET "messages" => past::waiting::list;
    login Account GET "messages/past" => past::history::list;
    login Account GET "messages/past/export" => past::history::export;
    login Account GET "messages/past/{id}/send-again" => past::history::ask_send_again;
    login Account POST "messages/past/{id}/send-again" => past::history::send_again;
    login Account GET "messages/past/{id}/replay" => past::history::ask_replay;
    login Account POST "messages/past/{id}/replay" => past::history::replay;
    login Account GET "messages/{id}" => past::message::show;
    login Account POST "messages/{id}/try" => past::waiting::try_now;
    login Account POST "messages/{id}/schedule" => past::waiting::schedule;
    login Account GET "messages/{id}/cancel" => past::waiting::ask_cancel;
    login Account POST "messages/{id}/cancel" => past::waiting::cancel;
    login Account GET "events" => past::events::list;
    login Account GET "suppressions" => past::suppressions::list;
    login Account GET "suppressions/add" => past::suppressions::ask_add;
    login Account POST "suppressions/add" => past::suppressions::add;
    login Account GET "suppressions/remove" => past::suppressions::ask_remove;
    login Account POST "suppressions/remove" => past::suppressions::remove;
    login Account GET "suppressions/clear" => past::clear::ask;
    login Account POST "suppressions/clear" => past::clear::act;
    login Account GET "suppressions/export" => past::suppressions::export;
    login Account GET "suppressions/import" => past::import::ask;
    login Account POST "suppressions/import" => past::import::act;
    login Account GET "webhooks" => past::calls::list;
    login Account GET "webhooks/history" => past::calls::history;
    login Account GET "webhooks/now" => past::change_calls::ask_now;
    login Account POST "webhooks/now" => past::change_calls::now;
    login Account POST "webhooks/schedule" => past::change_calls::schedule;
    login Account GET "webhooks/cancel" => past::change_calls::ask_cancel;
    login Account POST "webhooks/cancel" => past::change_calls::cancel;
    login Account GET "webhooks/replay" => past::change_calls::ask_replay;
    login Account POST "webhooks/replay" => past::change_calls::replay;
    login Account GET "webhooks/test" => past::webhook_test::show;
    login Account POST "webhooks/test" => past::webhook_test::act;
    login Account GET "webhooks/{id}" => past::call::show;
    login Account GET "webhooks/{id}/body" => past::call::body;
    login Account GET "" => account::overview::show;
    login Account GET "password" => credentials::password::show;
    login Account POST "password" => credentials::password::set;
    login Account GET "password/generate" => credentials::password::ask_generate;
    login Account POST "password/generate" => credentials::password::generate;
    login Account GET "2fa" => second_factor::show;
    login Account POST "2fa/begin" => second_factor::begin;
    login Account POST "2fa/confirm" => second_factor::confirm;
    login Account GET "2fa/renew" => second_factor::ask_renew;
    login Account POST "2fa/renew" => second_factor::renew;
    login Account GET "2fa/off" => second_factor::ask_off;
    login Account POST "2fa/off" => second_factor::turn_off;
    login Account GET "app-passwords" => credentials::app_passwords::list;
    login Account POST "app-passwords" => credentials::app_passwords::add;
    login Account GET "app-passwords/{name}/remove" => credentials::app_passwords::ask_remove;
    login Account POST "app-passwords/{name}/remove" => credentials::app_passwords::remove;
    login Account GET "keys" => credentials::keys::list;
    login Account POST "keys" => credentials::keys::add;
    login Account GET "keys/{id}/remove" => credentials::keys::ask_remove;
    login Account POST "keys/{id}/remove" => credentials::keys::remove;
    login Account GET "tls-keys" => credentials::tls_keys::list;
    login Account POST "tls-keys" => credentials::tls_keys::add;
    login Account GET "tls-keys/{fingerprint}/remove" => credentials::tls_keys::ask_remove;
    login Account POST "tls-keys/{fingerprint}/remove" => credentials::tls_keys::remove;
    login Account GET "logins" => logins::list;
    login Account GET "sessions" => web_sessions::list;
    login Account POST "sessions/{id}/end" => web_sessions::end;
    login Account GET "sessions/end-others" => web_sessions::ask_end_others;
    login Account POST "sessions/end-others" => web_sessions::end_others;
    login Account GET "settings" => settings::account::show;
    login Account POST "settings" => settings::account::change;
    open Inbox GET "login" => login::show;
    open Inbox POST "login" => login::enter;
    open Inbox GET "login/code" => login::show_code;
    open Inbox POST "login/code" => login::enter_code;
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
