//! A new domain in a zone of `dns_update`: its records are published at once, and a failure of the
//! server does not hold up the domain.

use postrider_admin::op::{audit, config::domains, dns};
use postrider_dns::{FakePrimary, KeyAlgorithm, RecordType, UpdateKey};
use postrider_store::AcmeAccount;
use serde_json::json;
use tokio::net::TcpListener;

use super::Desk;

const DYNAMICS: &str = "[domains.\"example.org\"]\n[accounts.app]\ndomain = \"example.org\"\n\
    destinations.\"app@example.org\" = {}\n";

const KEY: UpdateKey<'_> = UpdateKey {
    name: "postrider",
    algorithm: KeyAlgorithm::HmacSha256,
    secret: b"a secret",
};

async fn add(desk: &Desk, domain: &str) -> domains::Added {
    desk.ask(domains::Add {
        domain: domain.to_owned(),
        account: "app".to_owned(),
        localpart: None,
        disabled: false,
        tenant: String::new(),
    })
    .await
}

#[tokio::test]
async fn a_new_domain_is_published_at_once() {
    let primary = FakePrimary::new("new.test", KEY, 1_800_000_000).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = primary.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            server.serve(stream).await.unwrap();
        }
    });
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = gone.local_addr().unwrap();
    drop(gone);
    let keys = tempfile::tempdir().unwrap();
    let key = keys.path().join("tsig.key");
    postrider_config::replace_private(&key, b"YSBzZWNyZXQ=").unwrap();
    let zone = |zone: &str, server| {
        format!(
            "[dns_update.{zone:?}]\nserver = \"{server}\"\nkey_name = \"postrider\"\n\
            key_file = {key:?}\n"
        )
    };
    let statics = format!(
        "hostname = \"mail.example.org\"\n[postmaster]\naccount = \"app\"\n\
        [listeners.l]\nips = [\"192.0.2.10\"]\nsmtp = {{}}\n{}{}",
        zone("new.test", address),
        zone("dead.test", nobody)
    );
    let desk = Desk::with(&statics, DYNAMICS);

    let added = add(&desk, "new.test").await;
    assert_eq!(added.publish_problem, None);
    assert!(added.published.unwrap().written);
    assert_eq!(primary.updates(), 1);
    assert_eq!(primary.records("new.test", RecordType::Mx).len(), 1);
    for key in &added.keys {
        assert_eq!(
            primary.records(&key.name, RecordType::Txt).len(),
            1,
            "{}",
            key.name
        );
    }
    let log = desk
        .list(audit::List {
            who: None,
            operation: Some("dns.publish".to_owned()),
            target: None,
            since: None,
            before: None,
            limit: None,
        })
        .await;
    let entry = log.iter().find(|entry| entry.operation == "dns.publish");
    let entry = entry.unwrap();
    assert_eq!(entry.target, "new.test");
    assert!(
        serde_json::to_string(entry)
            .unwrap()
            .contains("new.test. MX"),
        "{entry:?}"
    );

    // The domain is there all the same.
    let added = add(&desk, "dead.test").await;
    assert_eq!(added.published, None);
    let reason = added.publish_problem.unwrap();
    assert!(reason.contains("zone dead.test at 127.0.0.1:"), "{reason}");
    let config = desk.context.config.load();
    assert!(config.domains.contains_key(&"dead.test".parse().unwrap()));

    // Without a zone nothing is tried.
    let added = add(&desk, "plain.test").await;
    assert_eq!((added.published, added.publish_problem), (None, None));
}

/// The account at the CA is in the store. Its URI narrows the CAA records.
#[tokio::test]
async fn the_records_name_the_account_at_the_ca() {
    let statics = "hostname = \"mail.example.org\"\n[postmaster]\naccount = \"app\"\n\
        [acme.le]\ncontact_email = \"app@example.org\"\n\
        [listeners.l]\nips = [\"192.0.2.10\"]\nsmtp = {}\nautoconfig_https = {}\n\
        tls.acme = \"le\"\n";
    let desk = Desk::with(statics, DYNAMICS);
    let caa = async || {
        let domain = "example.org".to_owned();
        let records = desk.list(dns::Records { domain }).await.into_iter();
        let caa = records.filter(|record| record.record_type == "CAA");
        caa.map(|record| (record.content, record.later))
            .collect::<Vec<_>>()
    };
    let usual = ("0 issue \"letsencrypt.org\"".to_owned(), false);
    assert_eq!(caa().await, std::slice::from_ref(&usual));
    let uri = "https://acme-v02.api.letsencrypt.org/acme/acct/7";
    let account = AcmeAccount {
        directory: "https://acme-v02.api.letsencrypt.org/directory".to_owned(),
        eab_key_id: String::new(),
        credentials: json!({"id": uri, "key_pkcs8": "", "directory": null}).to_string(),
        created: desk.context.clock.now(),
    };
    desk.context.store.set_acme_account(account).await.unwrap();
    let narrow = format!(
        "0 issue \"letsencrypt.org; accounturi={uri}; validationmethods=tls-alpn-01,http-01\""
    );
    assert_eq!(caa().await, [usual, (narrow, true)]);
}
