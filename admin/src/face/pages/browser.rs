//! What a request says of its browser, and which requests no page answers.

use std::net::IpAddr;

use axum::http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode,
    header::{
        CACHE_CONTROL, CONTENT_SECURITY_POLICY, COOKIE, HOST, ORIGIN, REFERRER_POLICY, USER_AGENT,
        X_CONTENT_TYPE_OPTIONS,
    },
    uri::Authority,
};

use super::Endpoint;
use crate::face::http::client_address;

/// No script, style, image or frame from elsewhere, and no page of ours in another's frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; form-action 'self'; frame-src 'self'; frame-ancestors 'none'; \
    base-uri 'none'";

/// The most characters that are kept of a browser's name.
const NAME_MAX: usize = 160;

/// A request that no page answers, and why.
pub(super) type Refusal = (StatusCode, &'static str);

/// What a request says of its browser.
#[derive(Clone, Debug)]
pub(super) struct Browser {
    /// The address of the client. None: the proxy does not give it.
    pub(super) ip: Option<IpAddr>,
    /// A trusted proxy stands before the server.
    pub(super) behind_proxy: bool,
    /// The browser speaks HTTPS, to us or to the proxy.
    pub(super) encrypted: bool,
    /// The name of the browser, shortened.
    pub(super) name: String,
    /// htmx made the request, and puts the answer into a page.
    pub(super) htmx: bool,
    /// The name and port that the browser asked.
    pub(super) host: String,
    /// The last event of a live stream that the browser saw.
    pub(super) last_event: Option<String>,
    cookies: Vec<(String, String)>,
}

impl Browser {
    /// Reads a request that came from `connected`.
    ///
    /// # Errors
    /// If the request asks for a name that is not ours (DNS rebinding), or if a page of another
    /// site sends a form.
    pub(super) fn new<B>(
        request: &Request<B>,
        connected: Option<IpAddr>,
        endpoint: &Endpoint,
    ) -> Result<Self, Refusal> {
        let headers = request.headers();
        // HTTP/2 has the host in its URI.
        let host = request.uri().authority().map(Authority::as_str);
        let host = host.or_else(|| text(headers, HOST)).unwrap_or_default();
        if !is_known(host, endpoint) {
            let text = "the Host of the request is not a name of this server\n";
            return Err((StatusCode::NOT_FOUND, text));
        }
        if *request.method() == Method::POST && !is_own(headers, host) {
            let text = "a page of another site sent this form\n";
            return Err((StatusCode::FORBIDDEN, text));
        }
        let behind_proxy = endpoint.forwarded_hops > 0;
        let proto = HeaderName::from_static("x-forwarded-proto");
        let by_proxy = behind_proxy && text(headers, proto).is_some_and(|it| it == "https");
        let name = text(headers, USER_AGENT).unwrap_or_default();
        Ok(Self {
            ip: client_address(headers, connected, endpoint.forwarded_hops),
            behind_proxy,
            encrypted: endpoint.tls || by_proxy,
            name: name.chars().take(NAME_MAX).collect(),
            htmx: headers.contains_key("hx-request"),
            host: host.to_owned(),
            last_event: text(headers, HeaderName::from_static("last-event-id")).map(str::to_owned),
            cookies: cookies(headers),
        })
    }

    /// A cookie that the browser sent.
    pub(super) fn cookie(&self, name: &str) -> Option<&str> {
        let mut cookies = self.cookies.iter();
        let found = cookies.find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The way to the browser hides passwords: HTTPS, or this machine itself.
    pub(super) fn is_private(&self) -> bool {
        self.encrypted || self.is_here()
    }

    /// The browser is on this machine.
    pub(super) fn is_here(&self) -> bool {
        !self.behind_proxy && self.ip.is_some_and(|ip| ip.is_loopback())
    }
}

/// Whether a Host is one of ours: a name of the port, `localhost`, or an IP address.
fn is_known(host: &str, endpoint: &Endpoint) -> bool {
    let Ok(authority) = host.parse::<Authority>() else {
        return false;
    };
    let name = authority.host().trim_matches(['[', ']']);
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok()
        || (endpoint.knows_host)(name)
}

/// Whether a page of ours sent a form, as far as the browser says it (Fetch Metadata, RFC 6454).
fn is_own(headers: &HeaderMap, host: &str) -> bool {
    if let Some(site) = text(headers, HeaderName::from_static("sec-fetch-site")) {
        return site == "same-origin" || site == "none";
    }
    let Some(origin) = text(headers, ORIGIN) else {
        return true;
    };
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
}

fn cookies(headers: &HeaderMap) -> Vec<(String, String)> {
    let fields = headers.get_all(COOKIE).iter();
    let fields = fields.filter_map(|field| field.to_str().ok());
    let pairs = fields.flat_map(|field| field.split(';'));
    let pairs = pairs.filter_map(|pair| pair.trim().split_once('='));
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// Adds the header fields that protect a page, where the page has no others.
pub(super) fn protect(headers: &mut HeaderMap) {
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-store"),
    ] {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn endpoint() -> Endpoint {
        Endpoint {
            admin: Some("/admin/".to_owned()),
            account: None,
            inbox: None,
            tls: false,
            forwarded_hops: 0,
            knows_host: Arc::new(|name| name == "mail.example.org"),
        }
    }

    fn asked(method: Method, fields: &[(&str, &str)]) -> Result<Browser, Refusal> {
        let mut request = Request::builder().method(method).uri("/admin/");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let here = Some(IpAddr::from([127, 0, 0, 1]));
        Browser::new(&request.body(()).unwrap(), here, &endpoint())
    }

    #[test]
    fn only_our_names_are_answered() {
        for host in [
            "localhost:1080",
            "127.0.0.1",
            "[::1]:80",
            "mail.example.org",
        ] {
            assert!(asked(Method::GET, &[("host", host)]).is_ok(), "{host}");
        }
        for host in ["evil.example", "mail.example.org.evil.example", "", "a b"] {
            let status = asked(Method::GET, &[("host", host)]).unwrap_err().0;
            assert_eq!(status, StatusCode::NOT_FOUND, "{host}");
        }
    }

    #[test]
    fn forms_of_other_sites_are_refused() {
        let host = ("host", "localhost:1080");
        for (field, is_own) in [
            (("origin", "http://localhost:1080"), true),
            (("origin", "http://evil.example"), false),
            (("origin", "null"), false),
            (("sec-fetch-site", "same-origin"), true),
            (("sec-fetch-site", "same-site"), false),
            (("sec-fetch-site", "cross-site"), false),
        ] {
            assert_eq!(
                asked(Method::POST, &[host, field]).is_ok(),
                is_own,
                "{field:?}"
            );
            assert!(asked(Method::GET, &[host, field]).is_ok());
        }
    }

    #[test]
    fn cookies_are_found_by_name() {
        let fields = [
            ("host", "localhost"),
            ("cookie", "a=1; postrider=x=y"),
            ("cookie", "b=2"),
        ];
        let browser = asked(Method::GET, &fields).unwrap();
        assert_eq!(browser.cookie("postrider"), Some("x=y"));
        assert_eq!(browser.cookie("b"), Some("2"));
        assert_eq!(browser.cookie("c"), None);
    }
}
