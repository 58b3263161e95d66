//! Quickstart on made-up machines.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::Arc,
};

use postrider_dns::{FakeResolver, Record};
use postrider_queue::{Dialer, Dialing};
use postrider_receive::login::{LoginLimiter, Logins, PasswordCheck, Source};
use postrider_store::{Clock as _, Store, SystemClock};
use tempfile::TempDir;

use super::*;

/// Connects to nobody: either each connection opens, to a listener of the test, or none does.
struct Network {
    open: Option<SocketAddr>,
}

impl Dialer for Network {
    fn dial(&self, _: SocketAddr, _: Option<IpAddr>) -> Dialing {
        let open = self.open;
        Box::pin(async move {
            match open {
                Some(address) => Ok(tokio::net::TcpStream::connect(address).await?.into()),
                None => Err(std::io::ErrorKind::TimedOut.into()),
            }
        })
    }
}

fn machine(addresses: &[&str], resolver: Option<FakeResolver>) -> Machine {
    Machine {
        system_name: Some("mail.example.org".to_owned()),
        addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
        servers: "127.0.0.1".to_owned(),
        resolver: resolver.map(|resolver| Arc::new(resolver) as _),
        dialer: Arc::new(Network { open: None }),
        is_free: |_| true,
        now: "2026-03-01T09:00:00+01:00[Europe/Berlin]".parse().unwrap(),
    }
}

/// A zone in which all is well for a host at 198.51.99.7.
fn zone() -> FakeResolver {
    let resolver = FakeResolver::default();
    resolver.add("com", Record::Txt(b"x".to_vec()));
    resolver.add_address("mail.example.org", "198.51.99.7");
    resolver.add(
        "7.99.51.198.in-addr.arpa",
        Record::Ptr("mail.example.org".to_owned()),
    );
    resolver.set_mx("gmail.com", &[(5, "mx.gmail.example")]);
    resolver.add_address("mx.gmail.example", "203.0.114.9");
    resolver
}

fn options(dir: &Path) -> cli::Quickstart {
    cli::Quickstart {
        address: "jane@example.org".to_owned(),
        dir: dir.to_owned(),
        hostname: None,
        skip_dns: false,
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// The lines of the report.
async fn report(machine: &Machine) -> Vec<String> {
    let domain = "example.org".parse().unwrap();
    let facts = gather(machine, &domain, None).await.unwrap();
    let line = |finding: &Finding| {
        let word = if finding.good { "ok" } else { "warning" };
        format!("{word} {}", finding.text)
    };
    facts.report.iter().map(line).collect()
}

#[tokio::test]
async fn a_machine_where_all_is_well() {
    let dir = TempDir::new().unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut machine = machine(&["198.51.99.7", "10.0.0.7"], Some(zone()));
    machine.dialer = Arc::new(Network {
        open: Some(listener.local_addr().unwrap()),
    });
    let done = run(&options(dir.path()), &machine).await.unwrap();
    for line in [
        "postrider quickstart for jane@example.org\n",
        "  ok       DNSSEC works through the DNS server 127.0.0.1\n",
        "  ok       host name mail.example.org (from the system): 198.51.99.7, on this machine\n",
        "  ok       198.51.99.7 has the reverse name mail.example.org\n",
        "  ok       port 25 outwards is open\n",
        "  ok       no own address is on a block list\n",
        "written  config/ (DKIM keys 2026a, 2026b sign; 2026c, 2026d wait), data/, postrider.service\n",
    ] {
        assert!(done.text.contains(line), "{line}{}", done.text);
    }
    assert!(!done.text.contains("warning"), "{}", done.text);
    for record in [
        "\nexample.org. MX 10 mail.example.org.\n",
        "\n2026d._domainkey.example.org. TXT v=DKIM1; k=rsa;",
        "\n_dmarc.example.org. TXT v=DMARC1;",
    ] {
        assert!(done.text.contains(record), "{record}{}", done.text);
    }

    assert_eq!(
        names(dir.path()),
        ["config", "data", "postrider.service", "quickstart.txt"]
    );
    let config = dir.path().join("config");
    assert_eq!(
        names(&config.join("dkim")),
        [
            "2026a._domainkey.example.org.20260301T090000.ed25519.privatekey.pkcs8.pem",
            "2026b._domainkey.example.org.20260301T090000.rsa2048.privatekey.pkcs8.pem",
            "2026c._domainkey.example.org.20260301T090000.ed25519.privatekey.pkcs8.pem",
            "2026d._domainkey.example.org.20260301T090000.rsa2048.privatekey.pkcs8.pem",
        ]
    );
    for (name, expected) in [
        ("postrider.conf", 0o640),
        ("domains.conf", 0o640),
        ("adminpasswd", 0o600),
        ("dkim", 0o700),
        ("hostkeys", 0o700),
        ("../data", 0o700),
        ("../postrider.service", 0o644),
        ("../quickstart.txt", 0o600),
    ] {
        assert_eq!(mode(&config.join(name)), expected, "{name}");
    }
    let (statics, dynamic) = check(&config).unwrap();
    let public = &statics.listeners["public"];
    assert_eq!(public.ips, ["198.51.99.7".parse::<IpAddr>().unwrap()]);
    assert_eq!(dynamic.accounts["jane"].destinations.len(), 1);
    let [domain] = &*dynamic.domains.values().collect::<Vec<_>>() else {
        panic!("one domain");
    };
    assert_eq!(domain.dkim.sign.len(), 2);
    assert_eq!(domain.dkim.selectors.len(), 4);
    assert_eq!(
        domain.mta_sts.as_ref().unwrap().policy_id,
        "20260301T080000"
    );

    // The password that was shown is the account's, and no file has it.
    let shown = done
        .text
        .lines()
        .find(|line| line.starts_with("Passwords"))
        .unwrap();
    let own = shown.rsplit(' ').next().unwrap();
    let store = Store::open(crate::services::store_options(&statics)).unwrap();
    let source = Source {
        limiter: Arc::<LoginLimiter>::default(),
        ip: [127, 0, 0, 1].into(),
        behind_proxy: false,
        now: SystemClock.now(),
    };
    let logins = Logins::new(store.clone());
    let checked = logins
        .verify("jane", Some("jane"), own, &source)
        .await
        .unwrap();
    assert!(matches!(checked, PasswordCheck::Right), "{checked:?}");
    drop(logins);
    store.close().await;
    let kept = fs::read_to_string(dir.path().join("quickstart.txt")).unwrap();
    assert!(
        kept.contains("Next:") && !kept.contains("Passwords"),
        "{kept}"
    );

    // A second run changes nothing.
    let before = fs::read(config.join("domains.conf")).unwrap();
    let again = run(&options(dir.path()), &machine).await.unwrap();
    assert!(again.text.starts_with("nothing to do: "), "{}", again.text);
    assert_eq!(fs::read(config.join("domains.conf")).unwrap(), before);
    fs::remove_dir_all(&config).unwrap();
    let error = run(&options(dir.path()), &machine)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("already: data, postrider.service, quickstart.txt"),
        "{error}"
    );
    assert_eq!(
        names(dir.path()),
        ["data", "postrider.service", "quickstart.txt"]
    );
}

#[tokio::test]
async fn each_problem_has_its_warning() {
    let resolver = zone();
    resolver.distrust("com");
    resolver.add(
        "2.0.0.127.sbl.spamhaus.org",
        Record::A([127, 0, 0, 2].into()),
    );
    resolver.add(
        "7.99.51.198.bl.spamcop.net",
        Record::A([127, 0, 0, 2].into()),
    );
    let mut machine = machine(&["198.51.99.7"], Some(resolver));
    machine.is_free = |address| ![443, 25].contains(&address.port());
    let report = report(&machine).await;
    for begin in [
        "warning the DNS server 127.0.0.1 does not pass DNSSEC on",
        "warning no mail server answers at port 25",
        "warning 198.51.99.7 is on the block list bl.spamcop.net",
        "warning another program has the port 443 and 25: ",
    ] {
        assert!(
            report.iter().any(|line| line.starts_with(begin)),
            "{begin}: {report:?}"
        );
    }
    assert!(
        !report.iter().any(|line| line.contains("sbl.spamhaus.org")),
        "{report:?}"
    );
}

#[tokio::test]
async fn a_host_behind_a_router_or_elsewhere_or_nowhere() {
    let behind = machine(&["10.0.0.7"], Some(zone()));
    let domain = "example.org".parse().unwrap();
    let facts = gather(&behind, &domain, None).await.unwrap();
    assert_eq!(facts.listen, ["10.0.0.7".parse::<IpAddr>().unwrap()]);
    assert_eq!(facts.nat, ["198.51.99.7".parse::<IpAddr>().unwrap()]);

    let elsewhere = report(&machine(&["198.51.99.8"], Some(zone()))).await;
    assert!(
        elsewhere
            .iter()
            .any(|line| line.contains("has the addresses 198.51.99.7, but")),
        "{elsewhere:?}"
    );
    let mut nowhere = machine(&["198.51.99.7"], Some(FakeResolver::default()));
    nowhere.system_name = Some("box".to_owned());
    let nowhere = report(&nowhere).await;
    assert!(
        nowhere.iter().any(|line| line.starts_with(
            "warning host name box.example.org (made of the system's name and the domain) has no \
             address in the DNS yet"
        )),
        "{nowhere:?}"
    );
}

#[tokio::test]
async fn the_reverse_name_of_an_address_is_the_host_name() {
    let mut machine = machine(&["198.51.99.7"], Some(zone()));
    machine.system_name = Some("box".to_owned());
    let facts = gather(&machine, &"example.org".parse().unwrap(), None)
        .await
        .unwrap();
    assert_eq!(facts.hostname.ascii(), "mail.example.org");
}

#[tokio::test]
async fn without_a_network_nobody_is_asked() {
    let dir = TempDir::new().unwrap();
    let mut machine = machine(&["10.0.0.7"], None);
    machine.is_free = |_| false;
    let done = run(&options(dir.path()), &machine).await.unwrap();
    assert!(done.text.contains("nobody was asked"), "{}", done.text);
    let (statics, dynamic) = check(&dir.path().join("config")).unwrap();
    assert!(statics.acme.is_empty());
    assert!(!statics.listeners["public"].submissions.enabled);
    assert!(
        dynamic
            .domains
            .values()
            .all(|domain| domain.mta_sts.is_none())
    );
}

#[tokio::test]
async fn odd_addresses_and_folders() {
    let dir = TempDir::new().unwrap();
    let machine = machine(&["10.0.0.7"], None);
    for (address, account) in [
        ("\"a b\"@example.org", "ab"),
        (".@example.org", "account"),
        ("Jane+x@example.org", "jane+x"),
        ("jane@[192.0.2.1]", ""),
        ("jane", ""),
    ] {
        let dir = dir.path().join(format!("x{}", address.len()));
        let mut options = options(&dir);
        options.address = address.to_owned();
        match run(&options, &machine).await {
            Ok(_) => {
                let (_, dynamic) = check(&dir.join("config")).unwrap();
                assert!(dynamic.accounts.contains_key(account), "{address}");
            }
            Err(error) => {
                assert_eq!(account, "", "{address}: {error:#}");
                assert!(!dir.join("config").exists());
            }
        }
    }
    let error = run(&options(&dir.path().join("with blank")), &machine)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("it has a blank"), "{error}");
}
