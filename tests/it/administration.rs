//! Changes of domains.conf from the command line, with and without a running server.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::support::{Setup, World, dns::Zone, program};

/// The text that a successful command prints.
async fn says(conf: &Path, arguments: &[&str]) -> String {
    let output = program::run(conf, arguments).await;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// The text on standard error of a command that ends with this exit code.
async fn ends(conf: &Path, code: i32, arguments: &[&str]) -> String {
    let output = program::run(conf, arguments).await;
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {errors}");
    errors
}

async fn json(conf: &Path, arguments: &[&str]) -> Value {
    let arguments = [arguments, &["--json"]].concat();
    serde_json::from_str(&says(conf, &arguments).await).unwrap()
}

/// Changes everything once.
async fn administer(conf: &Path) {
    let added = says(
        conf,
        &["config", "domain", "add", "new.test", "mira", "mira"],
    )
    .await;
    assert!(
        added.starts_with(
            "domain new.test added\nmira@new.test is an address of account mira\n\
            account mira is new; set its password: postrider setpassword mira\n"
        ),
        "{added}"
    );
    assert_eq!(
        added
            .matches("._domainkey.new.test. TXT v=DKIM1; k=")
            .count(),
        4
    );
    let error = ends(conf, 1, &["config", "domain", "add", "new.test", "mira"]).await;
    assert_eq!(error, "postrider: there is a domain new.test already\n");

    says(conf, &["config", "account", "add", "joe", "joe@new.test"]).await;
    let set = [
        "config",
        "account",
        "set",
        "joe",
        "quota=1GB",
        "full_name=Joe Doe",
    ];
    assert_eq!(says(conf, &set).await, "account joe changed\n");
    says(
        conf,
        &["config", "account", "set", "joe", "--unset", "quota"],
    )
    .await;
    says(conf, &["config", "account", "suspend", "joe"]).await;
    says(conf, &["config", "account", "unsuspend", "joe"]).await;
    says(conf, &["config", "address", "add", "@new.test", "joe"]).await;
    says(conf, &["config", "address", "add", "j@new.test", "joe"]).await;
    says(conf, &["config", "address", "rm", "j@new.test"]).await;
    let team = "team@new.test";
    says(
        conf,
        &[
            "config",
            "alias",
            "add",
            team,
            "joe@new.test",
            "--post-public",
        ],
    )
    .await;
    says(
        conf,
        &["config", "alias", "add-members", team, "mira@new.test"],
    )
    .await;
    says(
        conf,
        &["config", "alias", "rm-members", team, "joe@new.test"],
    )
    .await;
    says(
        conf,
        &["config", "alias", "set", team, "--list-members", "true"],
    )
    .await;
    let key = [
        "config",
        "dkim",
        "add",
        "new.test",
        "mail",
        "--algorithm",
        "ed25519",
    ];
    let made = says(conf, &key).await;
    assert!(
        made.starts_with("key mail made; it does not sign yet."),
        "{made}"
    );
    let removed = says(conf, &["config", "dkim", "rm", "new.test", "mail"]).await;
    assert!(
        removed.contains("/dkim/old/mail._domainkey.new.test."),
        "{removed}"
    );
    let route = [
        "config", "route", "add", "relay", "--domain", "new.test", "--to", "a.test",
    ];
    says(conf, &route).await;
    says(conf, &["config", "set", "monitor_dnsbls", "dnsbl.test"]).await;
    let zones = json(conf, &["config", "get", "monitor_dnsbls"]).await;
    assert_eq!(
        zones,
        json!([{"key": "monitor_dnsbls.0", "value": "dnsbl.test"}])
    );

    let accounts = json(conf, &["config", "account", "get", "joe"]).await;
    assert_eq!(
        accounts[0]["addresses"],
        json!(["joe@new.test", "@new.test"])
    );
    assert_eq!(accounts[0]["full_name"], "Joe Doe");
    let aliases = json(conf, &["config", "alias", "list"]).await;
    let expected = json!([{
        "alias": team,
        "members": ["mira@new.test"],
        "post_public": true,
        "list_members": true,
        "allow_msg_from": false,
    }]);
    assert_eq!(aliases, expected);
    let keys = json(conf, &["config", "dkim", "list", "new.test"]).await;
    assert_eq!(keys.as_array().unwrap().len(), 4);
    let routes = says(conf, &["config", "route", "list"]).await;
    assert_eq!(routes, "domain new.test  1: from any to a.test: relay\n");
    let audit = json(
        conf,
        &[
            "audit",
            "list",
            "--operation",
            "account.set",
            "--limit",
            "1",
        ],
    )
    .await;
    assert_eq!(audit[0]["target"], "joe");
    assert_eq!(audit[0]["before"], json!({"accounts.joe.quota": "1GB"}));
    assert_eq!(
        (&audit[0]["after"], &audit[0]["outcome"]),
        (&Value::Null, &json!("done"))
    );

    says(
        conf,
        &["config", "route", "rm", "1", "--domain", "new.test"],
    )
    .await;
    says(conf, &["config", "unset", "monitor_dnsbls"]).await;
    says(conf, &["config", "alias", "rm", team]).await;
    says(conf, &["config", "account", "rm", "joe"]).await;
    says(conf, &["config", "domain", "disable", "new.test"]).await;
    let shown = says(conf, &["config", "domain", "list"]).await;
    assert!(
        shown.contains("new.test                        1 address, 0 aliases  (disabled)"),
        "{shown}"
    );
    let error = ends(conf, 1, &["config", "domain", "rm", "new.test"]).await;
    assert!(
        error.contains("accounts.mira.domain: names domain new.test"),
        "{error}"
    );
    let usage = ends(conf, 2, &["config", "account", "set", "mira", "quota"]).await;
    assert!(usage.contains("KEY=VALUE"), "{usage}");
}

fn setup() -> Setup {
    Setup {
        statics: "[transports.relay.smtp]\nhost = \"relay.test\"\nport = 25\n".into(),
        ..Setup::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_server_changes_its_configuration() {
    let world = World::start(setup()).await;
    let conf = world.dir.path().join("postrider.conf");
    administer(&conf).await;
    // The change is in force when the command ends.
    let config = world.server.config().load();
    assert!(config.accounts.contains_key("mira"));
    assert!(!config.accounts.contains_key("joe"));
    world.server.stop().await;
}

#[tokio::test]
async fn without_a_server_the_files_are_changed() {
    let dir = tempfile::tempdir().unwrap();
    let conf = setup().write(dir.path());
    says(
        &conf,
        &["config", "domain", "add", "new.test", "mira", "mira"],
    )
    .await;
    says(&conf, &["config", "account", "add", "joe", "joe@new.test"]).await;
    let error = ends(&conf, 1, &["config", "account", "add", "joe", "j@new.test"]).await;
    assert_eq!(error, "postrider: there is an account joe already\n");
    says(&conf, &["config", "account", "rm", "joe"]).await;
    program::set_password(&conf);
    let key = "accounts.app.description";
    program::feed(&conf, &["config", "set", key, "-"], "not for others");
    let found = json(&conf, &["config", "get", key]).await;
    assert_eq!(found[0]["value"], "not for others");
    let audit = json(&conf, &["audit", "list"]).await;
    let audit = audit.as_array().unwrap().iter();
    let audit: Vec<_> = audit
        .map(|it| (it["operation"].clone(), it["outcome"].clone()))
        .collect();
    let refused = "there is an account joe already";
    let entries = [
        ("setting.set", "done"),
        ("password.set", "done"),
        ("account.remove", "done"),
        ("account.add", refused),
        ("account.add", "done"),
        ("domain.add", "done"),
    ];
    let entries = entries.map(|(operation, outcome)| (json!(operation), json!(outcome)));
    assert_eq!(audit, entries);
    assert_eq!(says(&conf, &["config", "test"]).await, "config OK\n");
    // A file with errors is refused, and stays.
    let path = dir.path().join("domains.conf");
    let broken = fs::read_to_string(&path).unwrap() + "typo = 1\n";
    fs::write(&path, &broken).unwrap();
    let error = ends(&conf, 1, &["config", "account", "suspend", "mira"]).await;
    assert!(
        error.contains("domains.conf:") && error.contains("typo"),
        "{error}"
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), broken);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_rotate_when_dns_has_their_records() {
    let rotate = ["config", "dkim", "rotate", "example.org"];
    let dir = tempfile::tempdir().unwrap();
    let conf = setup().write(dir.path());
    let made = says(&conf, &rotate).await;
    assert!(made.contains("they wait. Publish their records:"), "{made}");
    let keys = json(&conf, &["config", "dkim", "list", "example.org"]).await;
    let zone = keys
        .as_array()
        .unwrap()
        .iter()
        .fold(Zone::default(), |zone, key| {
            let name = key["name"].as_str().unwrap().trim_end_matches('.');
            zone.txt(name, key["content"].as_str().unwrap())
        });
    let conf_with = |dns| {
        let setup = Setup {
            dns: Some(dns),
            ..setup()
        };
        fs::write(&conf, setup.static_conf()).unwrap();
    };
    conf_with(Zone::default().serve().await);
    let output = program::run(&conf, &rotate).await;
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(told.starts_with("publish these records:\n"), "{told}");
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.contains("_domainkey.example.org has no TXT record"),
        "{error}"
    );

    conf_with(zone.serve().await);
    let switched = says(&conf, &rotate).await;
    assert!(switched.contains(" sign now\n"), "{switched}");
    let keys = json(&conf, &["config", "dkim", "list"]).await;
    let signing: Vec<_> = keys
        .as_array()
        .unwrap()
        .iter()
        .map(|key| &key["signs"])
        .collect();
    assert_eq!(signing, [true, true, false, false]);
}
