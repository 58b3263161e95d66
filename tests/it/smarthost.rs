//! Mail that goes by a transport of postrider.conf.

use std::{fmt::Write as _, net::IpAddr};

use crate::support::{
    PASSWORD, Setup, World, dns::Zone, message, remote::Remote, socks::SocksServer, webapi,
};

/// The address of the host that gets mail at last.
const REMOTE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 2));

/// Another postrider is the smarthost. Each domain has a transport with one mechanism.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_smarthost_is_logged_in_at_by_each_mechanism() {
    let mechanisms = [
        "SCRAM-SHA-256-PLUS",
        "SCRAM-SHA-1-PLUS",
        "SCRAM-SHA-256",
        "SCRAM-SHA-1",
        "PLAIN",
        "LOGIN",
    ];
    let remote = Remote::start(|_, _| None).await;
    let domains = (0..mechanisms.len()).map(|number| format!("d{number}.test"));
    let domains: Vec<String> = domains.collect();
    let zone = domains.iter().fold(Zone::default(), |zone, domain| {
        zone.mx(domain, 10, "mx.remote.test")
    });
    let zone = zone.address("mx.remote.test", REMOTE);
    let smarthost = World::start(Setup {
        dns: Some(zone.serve().await),
        ..Setup::default()
    })
    .await;
    smarthost.dialer.lead(REMOTE, remote.address);
    let submission = smarthost.server.address("submission").unwrap();

    let (mut statics, mut dynamics) = (String::new(), String::new());
    for (domain, mechanism) in domains.iter().zip(mechanisms) {
        let _ = writeln!(
            statics,
            "[transports.{mechanism}.submission]\nhost = \"127.0.0.1\"\ninsecure_skip_verify = true\n\
             auth = {{ username = \"app@example.org\", password = \"{PASSWORD}\", \
             mechanisms = [\"{mechanism}\"] }}"
        );
        let _ = writeln!(
            dynamics,
            "[[routes]]\nto_domain = [\"{domain}\"]\ntransport = \"{mechanism}\""
        );
    }
    let world = World::start(Setup {
        statics,
        dynamics,
        ..Setup::default()
    })
    .await;
    world.dialer.lead(submission.ip(), submission);
    let http = world.server.address("webapi_http").unwrap();
    for (domain, mechanism) in domains.iter().zip(mechanisms) {
        let request = format!(
            "{{\"To\": [{{\"Address\": \"x@{domain}\"}}], \"Subject\": \"{mechanism}\", \"Text\": \"Hi.\"}}"
        );
        webapi(http, "app@example.org", "Send", &request).await;
    }
    let got = remote.wait_for(mechanisms.len()).await;
    let texts: Vec<&str> = got.iter().map(|got| got.text.as_str()).collect();
    for mechanism in mechanisms {
        let subject = format!("Subject: {mechanism}\r\n");
        let text = texts.iter().find(|text| text.contains(&subject)).unwrap();
        // ESMTP over TLS, with a login.
        assert!(text.contains("with ESMTPSA"), "{text}");
    }
    world.server.stop().await;
    smarthost.server.stop().await;
}

/// The proxy of the configuration is the only one that connects to the hosts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_goes_through_a_socks_proxy() {
    let remote = Remote::start(|_, _| None).await;
    let to = remote.address;
    let proxy = SocksServer::start(move |address| match address.ip() == REMOTE {
        true => Ok(to),
        false => Err(4),
    })
    .await;
    let setup = Setup {
        statics: "[transports.out.socks]\naddress = \"127.0.0.3:1080\"\n\
                  remote_hostname = \"out.example.net\"\n"
            .into(),
        dynamics: "[[routes]]\ntransport = \"out\"\n".into(),
        ..Setup::default()
    };
    let world = World::facing_with(&remote, setup).await;
    // Only the proxy knows the way to the remote.
    world.dialer.lead(REMOTE, "127.0.0.1:9".parse().unwrap());
    world.dialer.lead([127, 0, 0, 3].into(), proxy.address);
    let mut client = world.submission().await;
    client.expect("MAIL FROM:<app@example.org>", "250").await;
    client.expect("RCPT TO:<x@remote.test>", "250").await;
    client.expect("DATA", "354").await;
    let text = message("through a proxy");
    client.expect(&format!("{text}\r\n."), "250").await;
    let got = remote.wait_for(1).await;
    assert!(
        got[0].text.contains("Subject: through a proxy\r\n"),
        "{got:?}"
    );
    assert_eq!(proxy.asked().len(), 1);
    world.server.stop().await;
}
