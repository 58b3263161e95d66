//! Both files together, the copy of the last good `domains.conf`, and warnings.

use std::{fs, path::Path};

use postrider_config::{Dynamic, Loaded, keep_good, last_good};

use crate::support::{self, dynamic, statics};

fn write(dir: &Path, statics: &str, dynamic: &str) -> std::path::PathBuf {
    let conf = dir.join("postrider.conf");
    fs::write(&conf, statics).unwrap();
    fs::write(dir.join("domains.conf"), dynamic).unwrap();
    conf
}

/// The lines and keys of all problems.
fn problems(statics: &str, dynamic: &str) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let conf = write(dir.path(), statics, dynamic);
    let errors = Loaded::read(&conf).both().unwrap_err();
    let name = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
    errors
        .iter()
        .map(|error| format!("{}:{}:{}", name(&error.file), error.line, error.key))
        .collect()
}

#[test]
fn the_mistakes_of_both_files_are_told_at_once() {
    let wrong = format!("{}descripton = 1\n", support::DYNAMIC);
    let key = "domains:5:accounts.alice.descripton";
    // Without a valid postrider.conf nobody knows its transports and its postmaster. So nothing
    // is said of them.
    let routed = format!("routes = [{{ transport = \"relay\" }}]\n{wrong}");
    let routed_key = "domains:6:accounts.alice.descripton";
    let misspelt = format!("{}[limits]\nconections = 5\n", support::STATIC);
    assert_eq!(
        problems(&misspelt, &routed),
        ["postrider:6:limits.conections", routed_key]
    );
    assert_eq!(problems("x = ", &wrong), ["postrider:1:", key]);
    assert_eq!(
        problems("", support::DYNAMIC).first().unwrap(),
        "postrider:1:hostname"
    );
    assert_eq!(problems(support::STATIC, &wrong), [key]);
    let unknown = problems(
        support::STATIC,
        &format!(
            "routes = [{{ transport = \"relay\" }}]\n{}",
            support::DYNAMIC
        ),
    );
    assert_eq!(unknown, ["domains:1:routes[0].transport"]);
}

#[test]
fn a_missing_file_is_told_beside_the_mistakes_of_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let conf = write(dir.path(), support::STATIC, "x = 1\n");
    fs::remove_file(&conf).unwrap();
    let text = Loaded::read(&conf).both().unwrap_err().to_string();
    assert!(text.contains("postrider.conf: cannot be read"), "{text}");
    assert!(text.contains("domains.conf:1:1: x: "), "{text}");
}

#[test]
fn the_last_good_file_is_kept_and_found() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    fs::create_dir(&data).unwrap();
    let mut statics = statics("");
    statics.data_dir = data.clone();
    let file = dir.path().join("domains.conf");
    assert!(last_good(&statics, &file).is_none());
    let good = dynamic(support::DYNAMIC, &statics);
    keep_good(&statics, &good).unwrap();
    let found = last_good(&statics, &file).unwrap();
    assert_eq!(found.config.text(), support::DYNAMIC);
    assert_eq!(found.config.path, file);
    assert!(found.saved.is_some());
    // A copy with errors is of no use, for example if a key file has gone.
    fs::write(data.join("domains.conf.last-good"), "x = ").unwrap();
    assert!(last_good(&statics, &file).is_none());
}

/// The warnings without their places.
fn warnings(account: &str, webhook: &str) -> Vec<String> {
    let statics = statics(webhook);
    let text = format!("{}{account}", support::DYNAMIC);
    let read: Dynamic = dynamic(&text, &statics);
    let warnings = read.warnings().iter();
    warnings
        .map(|warning| warning.split(": ").nth(1).unwrap().to_owned())
        .collect()
}

#[test]
fn webhooks_at_private_addresses_are_told() {
    for (url, warns) in [
        ("http://127.0.0.1:8000/x", true),
        ("https://[fd00::1]/x", true),
        ("http://localhost/x", true),
        ("http://app.LOCALHOST./x", true),
        ("https://example.com/x", false),
        ("https://9.9.9.9/x", false),
    ] {
        let hook = format!("outgoing_webhook.url = {url:?}\n");
        let expected: &[&str] = match warns {
            true => &["accounts.alice.outgoing_webhook.url"],
            false => &[],
        };
        assert_eq!(warnings(&hook, ""), expected, "{url}");
        let allowed = "[webhook]\nallow_private_addresses = true\n";
        assert!(warnings(&hook, allowed).is_empty(), "{url}");
    }
    let hook = "incoming_webhook.url = \"http://10.0.0.1/\"\n";
    assert_eq!(warnings(hook, ""), ["accounts.alice.incoming_webhook.url"]);
}

/// Such a mailbox gets no mail.
#[test]
fn a_mailbox_of_an_address_that_passes_mail_on_is_told() {
    let lmtp = "[transports.dovecot.lmtp]\nsocket = \"/run/lmtp\"\n";
    let of = |keys: &str| format!("destinations.\"a@example.org\" = {{ {keys} }}\n");
    let rule =
        |more: &str| format!("rulesets = [{{ mailbox = \"X\", msg_from_regexp = \"x\"{more} }}]");
    let place = "accounts.alice.destinations.\"a@example.org\"";
    for way in ["forward = [\"x@x.test\"]", "forward_lmtp = \"dovecot\""] {
        let told = |keys: &str| warnings(&of(&format!("{way}, {keys}")), lmtp);
        assert_eq!(told("mailbox = \"X\""), [format!("{place}.mailbox")]);
        assert_eq!(told(&rule("")), [format!("{place}.rulesets[0].mailbox")]);
        for more in [
            ", list_allow_domain = \"x.test\"",
            ", accept_rejects_to_mailbox = \"R\"",
        ] {
            assert!(told(&rule(more)).is_empty(), "{more}");
        }
        assert!(warnings(&of(way), lmtp).is_empty());
    }
    let here = of(&format!("mailbox = \"X\", {}", rule("")));
    assert!(warnings(&here, lmtp).is_empty());
}

#[test]
fn a_destination_that_forwards_to_itself_is_an_error() {
    let statics = statics("");
    for (domain, key, to, is_own) in [
        ("", "a@example.org", "A@Example.ORG", true),
        (
            "localpart_catchall_separators = [\"+\"]\n",
            "a@example.org",
            "a+x@example.org",
            true,
        ),
        ("", "a@example.org", "a+x@example.org", false),
        ("", "@example.org", "any@example.org", true),
        ("", "@example.org", "alice@example.org", false),
        ("", "a@example.org", "alice@example.org", false),
    ] {
        let text = support::DYNAMIC.replace("[accounts", &format!("{domain}[accounts"));
        let text = format!("{text}destinations.{key:?} = {{ forward = [{to:?}] }}\n");
        let found = Dynamic::parse(&text, "domains.conf", &statics);
        let told = found
            .err()
            .map(|errors| errors.to_string())
            .unwrap_or_default();
        let expected = format!("accounts.alice.destinations.{key:?}.forward: has ");
        assert_eq!(told.contains(&expected), is_own, "{key} to {to}: {told}");
        assert_eq!(told.is_empty(), !is_own, "{key} to {to}: {told}");
    }
}

#[test]
fn an_account_without_destinations_is_told() {
    let account = "[accounts.bob]\ndomain = \"example.org\"\n";
    assert_eq!(warnings(account, ""), ["accounts.bob.destinations"]);
}

#[test]
fn events_that_the_version_of_the_payloads_does_not_have_are_told() {
    let told = "accounts.alice.outgoing_webhook.events";
    for (events, version, expected) in [
        ("\"failed\", \"complained\"", "", &[told][..]),
        (
            "\"unsubscribed\"",
            "outgoing_webhook.version = 0\n",
            &[told],
        ),
        (
            "\"unsubscribed\", \"complained\"",
            "outgoing_webhook.version = 1\n",
            &[],
        ),
        ("\"failed\"", "", &[]),
        ("", "", &[]),
    ] {
        let hook = format!(
            "outgoing_webhook.url = \"https://example.com/\"\noutgoing_webhook.events = [{events}]\n{version}"
        );
        assert_eq!(warnings(&hook, ""), expected, "{events} {version}");
    }
}
