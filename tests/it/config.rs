//! Changes of domains.conf while the server runs.

use crate::support::{Setup, World};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_saved_change_takes_effect_and_a_bad_one_changes_nothing() {
    let setup = Setup::default();
    let text = setup.dynamic_conf();
    let world = World::start(setup).await;
    let path = world.dir.path().join("domains.conf");
    let has =
        |world: &World, account: &str| world.server.config().load().accounts.contains_key(account);
    assert!(!has(&world, "third"));

    std::fs::write(&path, format!("{text}\n[accounts.bad]\nno_such_key = 1\n")).unwrap();
    let third =
        "\n[accounts.third]\ndomain = \"example.org\"\ndestinations.\"third@example.org\" = {}\n";
    // Editors save like this: they write a new file and rename it over the old one.
    let new = world.dir.path().join("domains.conf.new");
    std::fs::write(&new, format!("{text}{third}")).unwrap();
    std::fs::rename(&new, &path).unwrap();
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
