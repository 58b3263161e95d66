//! The list of all calls. Requests are led by it, callers are checked by it, and the description
//! for programs is made from it.

use std::pin::Pin;

use axum::http::Method;

use super::{Answer, Asked, accounts, aliases, domains, target::Kind, tokens};
use crate::face::http::problem::Problem;

/// The future of a call.
pub(super) type Work = Pin<Box<dyn Future<Output = Result<Answer, Problem>> + Send>>;

/// The parts of the API that are here. The paths of all calls begin so.
pub(super) const PARTS: [&str; 4] = ["mail/domains", "mail/accounts", "mail/aliases", "auth"];

/// Who may make a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum For {
    /// The platform.
    Platform,
    /// The platform, and tenants.
    Manager,
    /// The holder of an account.
    User,
    /// Whoever logs in.
    Anyone,
    /// Everybody: the call is a login itself.
    Everybody,
}

/// The type of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyKind {
    /// There is none.
    None,
    /// An object in JSON.
    Json,
    /// A form, as browsers send it.
    Form,
}

/// A call.
pub(super) struct Call {
    pub(super) method: Method,
    /// The path below the base. An element in braces is variable.
    pub(super) path: &'static str,
    pub(super) who: For,
    /// It changes nothing.
    pub(super) reads: bool,
    /// The thing that the variable element names.
    pub(super) target: Option<Kind>,
    pub(super) kind: BodyKind,
    /// It is there only where this server gives out mail tokens.
    pub(super) needs_issuer: bool,
    /// The schema of its body; empty: it has none.
    pub(super) body: &'static str,
    /// The schema of its answer; `[NAME]` is a list.
    pub(super) answer: &'static str,
    /// It makes something (201).
    pub(super) makes: bool,
    /// One sentence for people.
    pub(super) summary: &'static str,
    pub(super) run: fn(Asked) -> Work,
}

/// The call for a request, and the variable elements of its path.
pub(super) fn find(method: &Method, path: &[&str]) -> Option<(&'static Call, Vec<String>)> {
    CALLS.iter().find_map(|call| {
        let elements = crate::face::path::elements(call.path, path);
        let elements = elements.filter(|_| call.method == *method)?;
        Some((call, elements))
    })
}

/// A line of the list: what the call does, method, path, who, what the path names, body and answer,
/// summary, function.
macro_rules! calls {
    ($($does:ident $method:ident $path:literal $who:ident $target:tt
        ($kind:ident $body:literal -> $answer:literal) $summary:literal => $run:path;)*) => {
        &[$(Call {
            method: Method::$method,
            path: $path,
            who: For::$who,
            reads: calls!(@reads $does),
            target: calls!(@target $target),
            kind: BodyKind::$kind,
            needs_issuer: calls!(@issuer $does),
            body: $body,
            answer: $answer,
            makes: calls!(@makes $does),
            summary: $summary,
            run: |asked| Box::pin($run(asked)),
        },)*]
    };
    (@reads read) => { true };
    (@reads ask) => { true };
    (@reads $other:ident) => { false };
    (@makes make) => { true };
    (@makes $other:ident) => { false };
    (@issuer ask) => { true };
    (@issuer issue) => { true };
    (@issuer $other:ident) => { false };
    (@target _) => { None };
    (@target $kind:ident) => { Some(Kind::$kind) };
}

/// All calls. A fixed element stands before a variable one.
pub(super) static CALLS: &[Call] = calls! {
    read GET "mail/domains" Manager _ (None "" -> "[Domain]")
        "List domains." => domains::list;
    make POST "mail/domains" Platform _ (Json "NewDomain" -> "Domain")
        "Add a domain with keys for DKIM. Its records are written where dns_update has the zone."
        => domains::add;
    read GET "mail/domains/{id}" Manager Domain (None "" -> "Domain")
        "Get a domain by its number or its name." => domains::get;
    change DELETE "mail/domains/{id}" Platform Domain (None "" -> "Deleted")
        "Remove a domain that nothing refers to." => domains::remove;
    read GET "mail/domains/{id}/dns" Manager Domain (None "" -> "DnsChecked")
        "Compare DNS with the records that a domain should have." => domains::check;
    read GET "mail/domains/{id}/accounts" Manager Domain (None "" -> "[Account]")
        "List the accounts of a domain." => accounts::list;
    make POST "mail/domains/{id}/accounts" Manager Domain (Json "NewAccount" -> "Account")
        "Add an account with an address at a domain." => accounts::add;
    read GET "mail/domains/{id}/aliases" Manager Domain (None "" -> "[Alias]")
        "List the aliases of a domain." => aliases::list;
    make POST "mail/domains/{id}/aliases" Manager Domain (Json "NewAlias" -> "Alias")
        "Add an alias, which passes mail on to addresses of accounts." => aliases::add;
    read GET "mail/accounts/{id}" Manager Account (None "" -> "Account")
        "Get an account by its number, its name or an address." => accounts::get;
    change PUT "mail/accounts/{id}" Manager Account (Json "AccountChange" -> "Account")
        "Change the password, the quota or the name of the holder of an account."
        => accounts::change;
    change DELETE "mail/accounts/{id}" Manager Account (None "" -> "Deleted")
        "Remove an account with its mail. Its queued messages fail." => accounts::remove;
    change POST "mail/accounts/{id}/suspend" Manager Account (Json "?Suspend" -> "Account")
        "Refuse logins of an account, and end its tokens. It still receives mail."
        => accounts::suspend;
    change POST "mail/accounts/{id}/unsuspend" Manager Account (Json "?Empty" -> "Account")
        "Let an account log in again." => accounts::unsuspend;
    change DELETE "mail/aliases/{id}" Manager Alias (None "" -> "Deleted")
        "Remove an alias by its number or its address." => aliases::remove;
    issue POST "auth/mail-token" User _ (Json "?MailTokenRequest" -> "Token")
        "Get a token with which mail programs log in for an hour." => tokens::mail_token;
    ask POST "auth/token/introspect" Anyone _ (Form "TokenForm" -> "Introspection")
        "Ask whether a mail token is good (RFC 7662)." => tokens::introspect;
    change POST "auth/token/revoke" Anyone _ (Form "TokenForm" -> "Empty")
        "End a token (RFC 7009)." => tokens::revoke;
    change POST "auth/login" Everybody _ (Json "Login" -> "Token")
        "Get a token for this API with an address and a password." => tokens::log_in;
};

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_call_stands_there_once_and_below_a_part() {
        let mut seen = BTreeSet::new();
        for call in CALLS {
            let is_new = seen.insert((call.path, call.method.as_str()));
            assert!(is_new, "{} {}", call.method, call.path);
            let below = |part: &&str| {
                let rest = call.path.strip_prefix(*part);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            };
            assert!(PARTS.iter().any(below), "{}", call.path);
            assert_eq!(call.path.contains('{'), call.target.is_some());
            assert_eq!(call.kind == BodyKind::None, call.body.is_empty());
            let is_question = call.path.ends_with("introspect");
            assert!(!call.reads || is_question || call.method == Method::GET);
        }
    }
}
