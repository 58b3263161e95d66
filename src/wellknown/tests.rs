//! Requests to a port with all answers.

use arc_swap::ArcSwap;
use axum::{body::Body, http::Request, routing::any};
use tower::ServiceExt;

use super::*;

const STATIC: &str = r#"
hostname = "mx.example"
postmaster.account = "ann"
acme.ca = {}
listeners.inside = { ips = ["127.0.0.1"], submission = { port = 1587, require_tls = false } }
listeners.public = { ips = ["192.0.2.1"], tls.acme = "ca", submission = {}, submissions = {}, autoconfig_https = {} }
"#;

const DYNAMIC: &str = r#"
web.redirects = { "old.example" = "www.bücher.example", "d.example" = "www.example" }
[domains."bücher.example"]
client_settings.imap = "imap.example.net:993"
client_settings_domain = "mail.example.net"
[domains."d.example"]
mta_sts = { policy_id = "1", mx = ["mx.example"] }
[accounts.ann]
domain = "d.example"
"#;

fn router() -> Router {
    let statics = Static::parse(STATIC, "postrider.conf").unwrap();
    let dynamic = Dynamic::parse(DYNAMIC, "domains.conf", &statics).unwrap();
    let known = WellKnown {
        statics: Arc::new(statics),
        config: Arc::new(ArcSwap::from_pointee(dynamic)),
        challenges: None,
        autoconfig: true,
        mta_sts: true,
    };
    known.before(Router::new().route("/webapi/", any(async || "webapi")))
}

/// The status and the body of an answer.
async fn ask(request: Request<Body>) -> (u16, String) {
    let answer = router().oneshot(request).await.unwrap();
    let status = answer.status().as_u16();
    let location = answer.headers().get(LOCATION).cloned();
    let body = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
    let body = String::from_utf8(body.to_vec()).unwrap();
    match location {
        Some(location) => (status, location.to_str().unwrap().to_owned()),
        None => (status, body),
    }
}

async fn get(host: &str, path: &str) -> (u16, String) {
    ask(Request::get(path)
        .header(HOST, host)
        .body(Body::empty())
        .unwrap())
    .await
}

#[tokio::test]
async fn a_policy_is_at_its_own_host_only() {
    let policy = "version: STSv1\r\nmode: enforce\r\nmx: mx.example\r\nmax_age: 86400\r\n";
    for host in [
        "mta-sts.d.example",
        "MTA-STS.D.example:443",
        "mta-sts.d.example.",
    ] {
        assert_eq!(get(host, POLICY).await, (200, policy.into()), "{host}");
    }
    for host in [
        "mta-sts.xn--bcher-kva.example",
        "mta-sts.other.example",
        "mx.example",
        "192.0.2.1",
    ] {
        assert_eq!(get(host, POLICY).await.0, 404, "{host}");
    }
    let post = Request::post(POLICY).header(HOST, "mta-sts.d.example");
    let (status, text) = ask(post.body(Body::empty()).unwrap()).await;
    assert_eq!((status, text.as_str()), (405, "use GET, HEAD\n"));
    // HTTP/2 has the host in the URI.
    let uri = format!("https://mta-sts.d.example{POLICY}");
    assert_eq!(
        ask(Request::get(uri).body(Body::empty()).unwrap()).await.0,
        200
    );
}

#[tokio::test]
async fn redirects_keep_the_path_and_leave_other_hosts_alone() {
    for (host, path, expected) in [
        (
            "old.example",
            "/",
            (308, "https://www.xn--bcher-kva.example/"),
        ),
        (
            "OLD.example:80",
            "/a%20b?x=1",
            (308, "https://www.xn--bcher-kva.example/a%20b?x=1"),
        ),
        (
            "old.example",
            "/webapi/",
            (308, "https://www.xn--bcher-kva.example/webapi/"),
        ),
        ("mx.example", "/webapi/", (200, "webapi")),
        ("sub.old.example", "/", (404, "")),
        ("", "/", (404, "")),
        // The settings of a domain come before the redirect of its web pages.
        ("d.example", "/x", (308, "https://www.example/x")),
    ] {
        let (status, text) = get(host, path).await;
        assert_eq!((status, text.as_str()), expected, "{host} {path}");
    }
    let settings = get("d.example", "/.well-known/autoconfig/mail/config-v1.1.xml").await;
    assert_eq!(settings.0, 200);
}

#[tokio::test]
async fn autoconfig_names_the_servers_of_the_domain() {
    let path = |address: &str| format!("{}?emailaddress={address}", AUTOCONFIG[0]);
    let (status, text) = get("autoconfig.d.example", &path("r%26d@xn--bcher-kva.example")).await;
    assert_eq!(status, 200, "{text}");
    for part in [
        "<emailProvider id=\"xn--bcher-kva.example\">",
        "<displayName>bücher.example</displayName>",
        "<incomingServer type=\"imap\">\n      <hostname>imap.example.net</hostname>\n      <port>993</port>\n      <socketType>SSL</socketType>",
        "<hostname>mail.example.net</hostname>\n      <port>465</port>\n      <socketType>SSL</socketType>",
        "<hostname>mail.example.net</hostname>\n      <port>587</port>\n      <socketType>STARTTLS</socketType>",
        "<username>r&amp;d@",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // Without an address, the program fills it in. Without IMAP, there is no such server.
    let (status, text) = get("autoconfig.d.example", AUTOCONFIG[0]).await;
    assert_eq!(status, 200);
    assert!(
        text.contains("id=\"d.example\"") && !text.contains("imap"),
        "{text}"
    );
    assert!(
        text.contains("<username>%EMAILADDRESS%</username>"),
        "{text}"
    );
    for (host, address, expected) in [
        ("mx.example", "ann@d.example", 200),
        ("mail.example.net", "ann@d.example", 200),
        ("autodiscover.d.example", "ann@d.example", 200),
        ("autoconfig.d.example", "ann@elsewhere.example", 404),
        ("autoconfig.d.example", "ann", 400),
        ("autoconfig.d.example", "ann@[192.0.2.1]", 400),
        ("evil.example", "ann@d.example", 404),
        ("192.0.2.1", "ann@d.example", 404),
    ] {
        assert_eq!(
            get(host, &path(address)).await.0,
            expected,
            "{host} {address}"
        );
    }
}

#[tokio::test]
async fn autodiscover_answers_outlook() {
    let request = |address: &str, path: &str| {
        let body = format!(
            "<Autodiscover><Request><EMailAddress>{address}</EMailAddress></Request></Autodiscover>"
        );
        Request::post(path)
            .header(HOST, "mx.example")
            .body(Body::from(body))
            .unwrap()
    };
    for path in [AUTODISCOVER, "/Autodiscover/Autodiscover.xml"] {
        let (status, text) = ask(request("ann@xn--bcher-kva.example", path)).await;
        assert_eq!(status, 200, "{text}");
        for part in [
            "<Type>IMAP</Type>\n        <Server>imap.example.net</Server>\n        <Port>993</Port>",
            "<Type>SMTP</Type>\n        <Server>mail.example.net</Server>\n        <Port>465</Port>",
            "<Encryption>SSL</Encryption>",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
    for (address, expected) in [("ann@elsewhere.example", 404), ("", 400), ("<x/>", 400)] {
        assert_eq!(
            ask(request(address, AUTODISCOVER)).await.0,
            expected,
            "{address}"
        );
    }
    let large = request(&"x".repeat(REQUEST_MAX), AUTODISCOVER);
    assert_eq!(ask(large).await.0, 413);
    assert_eq!(get("mx.example", AUTODISCOVER).await.0, 405);
}

#[tokio::test]
async fn a_profile_has_an_account_for_each_address() {
    let path = |query: &str| format!("{PROFILE}?{query}");
    let two = "name=Ann%20%3CA%3E&addresses=ann@xn--bcher-kva.example,bob@xn--bcher-kva.example";
    let (status, text) = get("mx.example", &path(two)).await;
    assert_eq!(status, 200, "{text}");
    assert_eq!(text.matches("com.apple.mail.managed").count(), 2);
    for part in [
        "<key>EmailAccountName</key>\n<string>Ann &lt;A&gt;</string>",
        "<key>IncomingMailServerHostName</key>\n<string>imap.example.net</string>",
        "<key>OutgoingMailServerPortNumber</key>\n<integer>465</integer>",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(
        get("mx.example", &path(two)).await.1,
        text,
        "it is always the same"
    );
    for (query, expected) in [
        ("", 400),
        ("addresses=", 400),
        ("addresses=ann@xn--bcher-kva.example,x", 400),
        ("addresses=ann@elsewhere.example", 404),
        ("addresses=ann@d.example", 404),
    ] {
        assert_eq!(get("mx.example", &path(query)).await.0, expected, "{query}");
    }
}

#[tokio::test]
async fn a_port_without_these_services_has_none_of_them() {
    let statics = Static::parse(STATIC, "postrider.conf").unwrap();
    let dynamic = Dynamic::parse(DYNAMIC, "domains.conf", &statics).unwrap();
    let known = WellKnown {
        statics: Arc::new(statics),
        config: Arc::new(ArcSwap::from_pointee(dynamic)),
        challenges: None,
        autoconfig: false,
        mta_sts: false,
    };
    let router = known.before(Router::new());
    for (host, path) in [
        ("mta-sts.d.example", POLICY),
        ("mx.example", AUTOCONFIG[0]),
        ("mx.example", PROFILE),
    ] {
        let request = Request::get(path)
            .header(HOST, host)
            .body(Body::empty())
            .unwrap();
        assert_eq!(
            router.clone().oneshot(request).await.unwrap().status(),
            404,
            "{path}"
        );
    }
}
