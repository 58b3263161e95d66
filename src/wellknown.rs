//! The answers that stand before the services of an HTTP port, at paths and names that standards
//! fix:
//! - answers to a CA that checks a name ([`crate::acme`]);
//! - the MTA-STS policy of a domain at `mta-sts.DOMAIN` (RFC 8461 §3.3);
//! - settings for mail programs: [`autoconfig`], [`autodiscover`], [`apple`];
//! - domains that lead to others (`web.redirects`).
//!
//! All but the first look at the host of the request. A name that is not ours gets nothing, so that
//! a page of another site whose name leads to this server (DNS rebinding) learns nothing.

mod apple;
mod autoconfig;
mod autodiscover;
mod program;

use std::sync::Arc;

use axum::{
    Router,
    body::to_bytes,
    extract::{Request, State},
    http::{
        Method, StatusCode,
        header::{ALLOW, CONTENT_TYPE, HOST, LOCATION},
        uri::Authority,
    },
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
};
use postrider_config::{Dynamic, Live, Static};
use postrider_smtp::Domain;

use crate::acme::Challenges;

/// The path of a policy.
const POLICY: &str = "/.well-known/mta-sts.txt";
/// The paths of autoconfig. Programs ask for the second at the domain itself.
const AUTOCONFIG: [&str; 2] = [
    "/mail/config-v1.1.xml",
    "/.well-known/autoconfig/mail/config-v1.1.xml",
];
/// The path of autodiscover. Programs write it in any case.
const AUTODISCOVER: &str = "/autodiscover/autodiscover.xml";
/// The path of a profile for Apple's programs.
const PROFILE: &str = "/profile.mobileconfig";
/// The largest request of autodiscover. Real ones have some hundred bytes.
const REQUEST_MAX: usize = 64 * 1024;

/// What an HTTP port answers before its services.
#[derive(Clone, Debug)]
pub struct WellKnown {
    /// The static configuration: it has the ports of submission.
    pub statics: Arc<Static>,
    /// The domains.
    pub config: Live,
    /// The answers to CAs. None: no listener has ACME.
    pub challenges: Option<Arc<Challenges>>,
    /// The port serves settings for mail programs.
    pub autoconfig: bool,
    /// The port serves MTA-STS policies.
    pub mta_sts: bool,
}

impl WellKnown {
    /// The router of a port, with these answers before its own.
    pub fn before(self, router: Router) -> Router {
        router.layer(from_fn_with_state(Arc::new(self), answer))
    }

    /// The settings for mail programs at this path. None: there are none there.
    fn settings(&self, path: &str) -> Option<Settings> {
        if !self.autoconfig {
            None
        } else if AUTOCONFIG.contains(&path) {
            Some(Settings::Autoconfig)
        } else if path.eq_ignore_ascii_case(AUTODISCOVER) {
            Some(Settings::Autodiscover)
        } else {
            (path == PROFILE).then_some(Settings::Profile)
        }
    }
}

/// The form of settings for mail programs.
#[derive(Clone, Copy)]
enum Settings {
    Autoconfig,
    Autodiscover,
    Profile,
}

async fn answer(State(known): State<Arc<WellKnown>>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let challenge = known.challenges.as_ref().and_then(|it| it.http(path));
    if let Some(content) = challenge {
        return ([(CONTENT_TYPE, "application/octet-stream")], content).into_response();
    }
    let settings = known.settings(path);
    let is_policy = known.mta_sts && path == POLICY;
    // Most requests are for a service, and cost no more than this.
    let any = is_policy || settings.is_some() || !known.config.load().web_redirects.is_empty();
    let Some(host) = any.then(|| host(&request)).flatten() else {
        return next.run(request).await;
    };
    let config = known.config.load_full();
    if is_policy && let Some(policy) = policy(&config, &host) {
        let refused = refusal(&request, &[Method::GET, Method::HEAD]);
        return refused.unwrap_or_else(|| plain(StatusCode::OK, policy));
    }
    if let Some(settings) = settings
        && is_own(&known.statics, &config, &host)
    {
        return match settings {
            Settings::Autoconfig => autoconfig::answer(&known.statics, &config, &host, &request),
            Settings::Profile => apple::answer(&known.statics, &config, &request),
            Settings::Autodiscover => {
                if let Some(refusal) = refusal(&request, &[Method::POST]) {
                    return refusal;
                }
                match to_bytes(request.into_body(), REQUEST_MAX).await {
                    Ok(body) => autodiscover::answer(&known.statics, &config, &body),
                    Err(_) => plain(StatusCode::PAYLOAD_TOO_LARGE, "the request is too large\n"),
                }
            }
        };
    }
    match redirect(&config, &host, &request) {
        Some(to) => (StatusCode::PERMANENT_REDIRECT, [(LOCATION, to)]).into_response(),
        None => next.run(request).await,
    }
}

/// The name of the host that a request is for. None: it has none, or an IP address.
fn host(request: &Request) -> Option<Domain> {
    let header = || request.headers().get(HOST)?.to_str().ok()?.parse().ok();
    let authority: Authority = request.uri().authority().cloned().or_else(header)?;
    let host = authority.host();
    let is_address = host.starts_with('[') || host.parse::<std::net::IpAddr>().is_ok();
    (!is_address).then(|| Domain::parse(host).ok())?
}

/// The domain behind a first label of a host name.
fn behind(host: &Domain, label: &str) -> Option<Domain> {
    let rest = host.ascii().strip_prefix(label)?.strip_prefix('.')?;
    Domain::parse(rest).ok()
}

/// The policy of the domain whose policies are at this host.
fn policy(config: &Dynamic, host: &Domain) -> Option<String> {
    let domain = config.domains.get(&behind(host, "mta-sts")?)?;
    domain
        .mta_sts
        .as_ref()
        .map(postrider_config::MtaSts::policy)
}

/// Whether mail programs find settings at this name: a hostname, a domain, `autoconfig.DOMAIN` or
/// `autodiscover.DOMAIN`, or a name that the settings name.
fn is_own(statics: &Static, config: &Dynamic, host: &Domain) -> bool {
    let mut listeners = statics.listeners.values();
    let below = ["autoconfig", "autodiscover"].into_iter();
    let mut below = below.filter_map(|label| behind(host, label));
    let mut domains = config.domains.values();
    *host == statics.hostname
        || listeners.any(|listener| listener.hostname == *host)
        || config.domains.contains_key(host)
        || below.any(|domain| config.domains.contains_key(&domain))
        || domains.any(|domain| domain.client_settings_domain == *host)
}

/// The URL to which a host leads.
fn redirect(config: &Dynamic, host: &Domain, request: &Request) -> Option<String> {
    let mut redirects = config.web_redirects.iter();
    let (_, to) = redirects.find(|(from, _)| from == host)?;
    let path = request.uri().path_and_query();
    let path = path.map_or("/", |path| path.as_str());
    Some(format!("https://{}{path}", to.ascii()))
}

/// The refusal of a request with another method than these.
fn refusal(request: &Request, methods: &[Method]) -> Option<Response> {
    if methods.contains(request.method()) {
        return None;
    }
    let methods: Vec<&str> = methods.iter().map(Method::as_str).collect();
    let methods = methods.join(", ");
    let text = format!("use {methods}\n");
    Some((StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, methods)], text).into_response())
}

fn plain(status: StatusCode, text: impl Into<String>) -> Response {
    let kind = [(CONTENT_TYPE, "text/plain; charset=utf-8")];
    (status, kind, text.into()).into_response()
}

/// The first value of a parameter of the query.
fn parameter(request: &Request, name: &str) -> Option<String> {
    let query = request.uri().query().unwrap_or_default();
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    pairs
        .find(|(found, _)| found == name)
        .map(|(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests;
