//! Changes of domains.conf while the server runs.

use std::fs;

use nix::sys::signal::Signal;

use crate::support::{Setup, World, program};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_saved_change_takes_effect_and_a_bad_one_changes_nothing() {
    let setup = Setup::default();
    let text = setup.dynamic_conf();
    let world = World::start(setup).await;
    let path = world.dir.path().join("domains.conf");
    let has =
        |world: &World, account: &str| world.server.config().load().accounts.contains_key(account);
    assert!(!has(&world, "third"));

    fs::write(&path, format!("{text}\n[accounts.bad]\nno_such_key = 1\n")).unwrap();
    let third =
        "\n[accounts.third]\ndomain = \"example.org\"\ndestinations.\"third@example.org\" = {}\n";
    // Editors save like this: they write a new file and rename it over the old one.
    let new = world.dir.path().join("domains.conf.new");
    fs::write(&new, format!("{text}{third}")).unwrap();
    fs::rename(&new, &path).unwrap();
    let mut client = world.client("smtp").await;
    client.expect("EHLO sender.elsewhere.test", "250").await;
    client
        .expect("MAIL FROM:<someone@elsewhere.test>", "250")
        .await;
    // The server notices the change some time later. Ask until it does.
    while client
        .command("RCPT TO:<third@example.org>")
        .await
        .starts_with("550")
    {
        client = world.client("smtp").await;
        client.expect("EHLO sender.elsewhere.test", "250").await;
        client
            .expect("MAIL FROM:<someone@elsewhere.test>", "250")
            .await;
    }
    assert!(!has(&world, "bad"));
    world.server.stop().await;
}

#[test]
fn a_bad_file_is_refused_with_file_line_and_key() {
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup {
        statics: "[limits]\nconections = 5\n".into(),
        ..Setup::default()
    };
    let conf = setup.write(dir.path());
    let error = postrider_config::Static::load(&conf)
        .unwrap_err()
        .to_string();
    assert!(error.contains("postrider.conf:"), "{error}");
    assert!(
        error.contains("limits.conections") && error.contains("connections"),
        "{error}"
    );
}

#[tokio::test]
async fn a_start_with_a_broken_domains_conf_uses_the_last_good_one() {
    let dir = tempfile::tempdir().unwrap();
    let conf = Setup::default().write(dir.path());
    let path = dir.path().join("domains.conf");
    let good = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{good}\ntypo = 1\n")).unwrap();
    let refused = program::run(&conf, &["serve"]).await;
    assert_eq!(refused.status.code(), Some(1), "there is no good one yet");
    let error = String::from_utf8(refused.stderr).unwrap();
    assert!(
        error.contains("domains.conf:") && error.contains("typo"),
        "{error}"
    );

    fs::write(&path, &good).unwrap();
    let server = program::Program::start(&conf);
    server.address("test.smtp").await;
    server.kill();
    fs::write(&path, format!("{good}\ntypo = 1\n")).unwrap();
    let server = program::Program::start(&conf);
    server.logs("last good copy", 1).await;
    server.address("test.smtp").await;
    // Once at the start, and once by the watcher.
    server.logs("configuration refused", 2).await;
    fs::write(&path, &good).unwrap();
    server.logs("configuration loaded", 2).await;
    server.kill();
}

#[tokio::test]
async fn sighup_reads_the_files_again_and_never_ends_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup {
        statics: "[queue]\nretry_spread = 0.2\n".into(),
        ..Setup::default()
    };
    let conf = setup.write(dir.path());
    let server = program::Program::start(&conf);
    server.address("test.smtp").await;
    server.logs("INFO started version=", 1).await;
    server.signal(Signal::SIGHUP);
    server.logs("configuration loaded", 2).await;
    server.logs("certificate loaded", 1).await;
    let text = fs::read_to_string(&conf).unwrap();
    fs::write(&conf, text.replace("0.2", "0.3")).unwrap();
    server.signal(Signal::SIGHUP);
    server.logs("takes effect at the next start", 1).await;
    fs::write(dir.path().join("domains.conf"), "x = ").unwrap();
    server.signal(Signal::SIGHUP);
    server.logs("configuration refused", 1).await;
    server.signal(Signal::SIGTERM);
    server.logs("stopped", 1).await;
}

/// The standard output and error of `config test`, and its exit code.
async fn config_test(setup: &Setup, prepare: impl FnOnce(&std::path::Path)) -> (i32, String) {
    let dir = tempfile::tempdir().unwrap();
    let conf = setup.write(dir.path());
    prepare(dir.path());
    let output = program::run(&conf, &["config", "test"]).await;
    let told = [output.stdout, output.stderr].concat();
    let told = String::from_utf8(told).unwrap();
    (output.status.code().unwrap(), told)
}

#[tokio::test]
async fn config_test_finds_what_serve_would_refuse_or_ignore() {
    let (code, told) = config_test(&Setup::default(), |_| {}).await;
    assert_eq!((code, told.as_str()), (0, "config OK\n"));

    let warned = Setup {
        app: "outgoing_webhook.url = \"http://127.0.0.1:8000/\"\n".into(),
        dynamics: "[accounts.idle]\ndomain = \"example.org\"\nno_custom_password = true\n".into(),
        ..Setup::default()
    };
    let (code, told) = config_test(&warned, |dir| {
        let conf = fs::read_to_string(dir.join("postrider.conf")).unwrap();
        let conf = conf.replace("allow_private_addresses = true", "");
        fs::write(dir.join("postrider.conf"), conf).unwrap();
    })
    .await;
    assert_eq!(code, 0, "{told}");
    for warning in [
        "outgoing_webhook.url: is at a private address",
        "accounts.idle.destinations: is empty",
        "accounts.idle.no_custom_password is set, but this version does not use it yet",
    ] {
        assert!(told.contains(warning), "{warning}: {told}");
    }
    assert_eq!(told.matches("warning: ").count(), 3, "{told}");

    let (code, told) = config_test(&Setup::default(), |dir| {
        use std::os::unix::fs::PermissionsExt;
        let open = fs::Permissions::from_mode(0o644);
        fs::set_permissions(dir.join("localserve.key"), open).unwrap();
    })
    .await;
    assert_eq!(code, 1, "{told}");
    assert!(
        told.contains("localserve.key is open to every user of this machine (mode 0644)"),
        "{told}"
    );

    let wrong = Setup {
        statics: "[limits]\nconections = 5\n".into(),
        dynamics: "[accounts.idle]\ndomian = \"example.org\"\n".into(),
        ..Setup::default()
    };
    let (code, told) = config_test(&wrong, |_| {}).await;
    assert_eq!(code, 1);
    assert!(
        told.contains("conections") && told.contains("domian"),
        "{told}"
    );
    let (code, told) = config_test(&Setup::default(), |dir| {
        fs::write(dir.join("localserve.crt"), "no certificate").unwrap();
    })
    .await;
    assert_eq!(code, 1);
    assert!(told.contains("localserve.crt"), "{told}");
}
