//! Operations that change `domains.conf`.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use postrider_admin::{
    Code,
    face::client,
    op::{
        audit,
        config::{accounts, addresses, aliases, dkim, domains, routes, settings},
    },
};
use postrider_config::replace_private;
use serde_json::json;

use super::Desk;

pub(super) const STATICS: &str = r#"hostname = "mail.example.org"
[postmaster]
account = "app"
[listeners.l]
ips = ["127.0.0.1"]
mta_sts_https = { enabled = true }
tls.certs = [{ cert_file = "a", key_file = "b" }]
[transports.relay.smtp]
host = "relay.test"
port = 25
[transports.other.direct]
"#;

/// A private key.
const KEY: &str = include_str!("../../../testdata/config/dynamic/keys/ed25519.pem");

pub(super) const DYNAMICS: &str = r#"# Our domains.

# The main one.
[domains."example.org"]
localpart_catchall_separators = ["+"] # as people know it
dmarc = { account = "reports" }
aliases.team = { addresses = ["app@example.org", "jane@example.org"] }
aliases.one = { addresses = ["jane@example.org"] }

[domains."bücher.test"]
description = "Books"

[accounts.app]
domain = "example.org"
destinations."app@example.org" = {}
destinations."info@example.org" = { mailbox = "Info" } # for all
from_id_login_addresses = ["app@example.org", "info+x@example.org"]

# Jane works from home.
[accounts.jane]
domain = "example.org"
destinations."jane@example.org" = {}

[accounts.reports]
domain = "example.org"
destinations."reports@example.org" = {}
"#;

impl Desk {
    pub(super) fn domains() -> Self {
        Self::with(STATICS, DYNAMICS)
    }

    pub(super) fn text(&self) -> String {
        fs::read_to_string(self.path().join("domains.conf")).unwrap()
    }

    /// The files in the folder of keys and in the folder of old keys.
    pub(super) fn key_files(&self) -> [Vec<PathBuf>; 2] {
        ["dkim", "dkim/old"].map(|folder| {
            let found = fs::read_dir(self.path().join(folder));
            let paths = found.into_iter().flatten().map(|it| it.unwrap().path());
            let mut files: Vec<PathBuf> = paths.filter(|path| path.is_file()).collect();
            files.sort();
            files
        })
    }

    pub(super) async fn audited(&self) -> Vec<audit::AuditItem> {
        self.list(audit::List::default()).await
    }
}

/// The file after some changes of [`DYNAMICS`].
fn changed(changes: &[(&str, &str)]) -> String {
    changes
        .iter()
        .fold(DYNAMICS.to_owned(), |text, (old, new)| {
            assert_eq!(text.matches(old).count(), 1, "{old}");
            text.replace(old, new)
        })
}

#[tokio::test]
async fn a_domain_comes_with_keys_and_reports_and_goes_with_its_files() {
    let desk = Desk::domains();
    let added = desk
        .ask(domains::Add {
            domain: "New.Test".to_owned(),
            account: "mira".to_owned(),
            localpart: Some("mira".to_owned()),
            disabled: false,
            tenant: String::new(),
        })
        .await;
    assert_eq!(added.address.as_deref(), Some("mira@new.test"));
    assert!(added.new_account);
    assert_eq!((added.published, added.publish_problem), (None, None));
    let names: Vec<_> = added.records.iter().map(|it| &*it.name).collect();
    for name in [
        "new.test.",
        "2027a._domainkey.new.test.",
        "2027d._domainkey.new.test.",
    ] {
        assert!(names.contains(&name), "{names:?}");
    }
    let keys = added.keys.iter().map(|key| {
        (
            key.selector.as_str(),
            key.algorithm.as_str(),
            key.bits,
            key.signs,
        )
    });
    let keys: Vec<_> = keys.collect();
    assert_eq!(
        keys,
        [
            ("2027a", "ed25519", 256, true),
            ("2027b", "rsa", 2048, true),
            ("2027c", "ed25519", 256, false),
            ("2027d", "rsa", 2048, false),
        ]
    );
    assert_eq!(added.keys[0].name, "2027a._domainkey.new.test.");
    assert!(
        added.keys[1]
            .content
            .starts_with("v=DKIM1; k=rsa; h=sha256; p=MIIBIjAN")
    );
    let [files, old] = desk.key_files();
    assert_eq!((files.len(), old.len()), (4, 0));
    for file in &files {
        assert_eq!(
            fs::metadata(file).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
    let name = |index: usize| {
        files[index]
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned()
    };
    let expected = format!(
        r#"
[domains."new.test"]
localpart_catchall_separators = ["+"]
dmarc = {{ account = "mira" }}
tls_rpt = {{ account = "mira" }}
mta_sts = {{ policy_id = "20270115T080000", mode = "enforce", max_age = "24h", mx = ["mail.example.org"] }}

[domains."new.test".dkim]
sign = ["2027a", "2027b"]
selectors.2027a.private_key_file = "dkim/{}"
selectors.2027b.private_key_file = "dkim/{}"
selectors.2027c.private_key_file = "dkim/{}"
selectors.2027d.private_key_file = "dkim/{}"
"#,
        name(0),
        name(1),
        name(2),
        name(3),
    );
    let books = "description = \"Books\"\n";
    let reports = "destinations.\"reports@example.org\" = {}\n";
    let mira = "\n[accounts.mira]\ndomain = \"new.test\"\ndestinations.\"mira@new.test\" = {}\n";
    let after = changed(&[
        (books, &format!("{books}{expected}")),
        (reports, &format!("{reports}{mira}")),
    ]);
    assert_eq!(desk.text(), after);

    // Accounts stay, so the account must not be of the domain.
    let remove = |domain: &str| domains::Remove {
        domain: domain.to_owned(),
    };
    assert!(client::ask(desk.path(), &remove("new.test")).await.is_err());
    assert_eq!(desk.text(), after);
    desk.ask(accounts::Set {
        account: "mira".to_owned(),
        settings: vec![
            setting("domain", Some("example.org")),
            setting("destinations.\"MIRA@new.test\"", None),
            setting("destinations.\"mira@example.org\"", Some("{}")),
        ],
    })
    .await;
    let removed = desk.ask(remove("NEW.test")).await;
    assert_eq!(removed.files.len(), 4);
    let [files, old] = desk.key_files();
    assert_eq!((files.len(), old.len()), (0, 4));
    let mira = "\n[accounts.mira]\ndomain = \"example.org\"\n\
        destinations.\"mira@example.org\" = {}\n";
    assert_eq!(
        desk.text(),
        changed(&[(reports, &format!("{reports}{mira}"))])
    );
}

#[tokio::test]
async fn a_domain_is_added_also_if_its_records_cannot_be_published() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key");
    replace_private(&key, b"c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IHNlY3I=").unwrap();
    // Nobody listens at this port.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = free.local_addr().unwrap();
    drop(free);
    let update = format!(
        "[dns_update.\"new.test\"]\nserver = \"{server}\"\nkey_name = \"k\"\nkey_file = {key:?}\n"
    );
    let desk = Desk::with(&format!("{STATICS}{update}"), DYNAMICS);
    let added = desk
        .ask(domains::Add {
            domain: "new.test".to_owned(),
            account: "jane".to_owned(),
            localpart: None,
            disabled: false,
            tenant: String::new(),
        })
        .await;
    assert_eq!(added.published, None);
    let problem = added.publish_problem.unwrap();
    assert!(problem.contains(&server.to_string()), "{problem}");
    assert!(desk.text().contains("[domains.\"new.test\"]"));
    let audited = desk.audited().await;
    let audited: Vec<_> = audited
        .iter()
        .map(|it| (&*it.operation, &*it.outcome))
        .collect();
    assert_eq!(
        audited,
        [("dns.publish", &*problem), ("domain.add", "done")]
    );
}

#[tokio::test]
async fn an_account_that_exists_gets_postmaster_at_a_new_domain() {
    let desk = Desk::domains();
    let add = |domain: &str, account: &str| domains::Add {
        domain: domain.to_owned(),
        account: account.to_owned(),
        localpart: None,
        disabled: true,
        tenant: String::new(),
    };
    let added = desk.ask(add("b\u{fc}ro.test", "jane")).await;
    assert_eq!(added.address.as_deref(), Some("postmaster@b\u{fc}ro.test"));
    // The postmaster of the server gets such mail anyway.
    let added = desk.ask(add("c.test", "app")).await;
    assert_eq!((added.address, added.new_account), (None, false));
    let listed = desk.list(domains::List { domain: None }).await;
    let shown: Vec<_> = listed
        .iter()
        .map(|item| (item.name.as_str(), item.disabled, item.addresses))
        .collect();
    assert_eq!(
        shown,
        [
            ("c.test", true, 0),
            ("example.org", false, 4),
            ("b\u{fc}cher.test", false, 0),
            ("b\u{fc}ro.test", true, 1),
        ]
    );
    let one = domains::List {
        domain: Some("xn--bro-hoa.test".to_owned()),
    };
    let one = &desk.list(one).await[0];
    assert_eq!(one.dmarc.as_deref(), Some("dmarcreports@b\u{fc}ro.test"));
    assert_eq!(one.signing, ["2027a", "2027b"]);
}

pub(super) fn setting(key: &str, value: Option<&str>) -> settings::Setting {
    settings::Setting {
        key: key.to_owned(),
        value: value.map(str::to_owned),
    }
}

#[tokio::test]
async fn accounts_and_addresses_come_and_go() {
    let desk = Desk::domains();
    let jane = "destinations.\"jane@example.org\" = {}\n";
    desk.ask(accounts::Add {
        account: "mira".to_owned(),
        address: "mira@B\u{dc}CHER.test".to_owned(),
    })
    .await;
    for address in ["m@example.org", "@xn--bcher-kva.test"] {
        desk.ask(addresses::Add {
            address: address.to_owned(),
            account: "mira".to_owned(),
        })
        .await;
    }
    let taken = addresses::Add {
        address: "@b\u{fc}cher.test".to_owned(),
        account: "jane".to_owned(),
    };
    desk.refuses(taken, Code::Conflict, "address").await;
    let listed = desk.list(addresses::List {
        account: Some("mira".to_owned()),
    });
    let listed: Vec<String> = listed.await.into_iter().map(|it| it.address).collect();
    assert_eq!(
        listed,
        [
            "m@example.org",
            "mira@b\u{fc}cher.test",
            "@b\u{fc}cher.test"
        ]
    );
    for address in ["M@Example.org", "@b\u{fc}cher.test", "INFO@example.org"] {
        desk.ask(addresses::Remove {
            address: address.to_owned(),
        })
        .await;
    }
    let reports = "destinations.\"reports@example.org\" = {}\n";
    let mira = "\n[accounts.mira]\ndomain = \"b\u{fc}cher.test\"\n\
        destinations.\"mira@b\u{fc}cher.test\" = {}\n";
    let info = "destinations.\"info@example.org\" = { mailbox = \"Info\" } # for all\n";
    assert_eq!(
        desk.text(),
        changed(&[
            (reports, &format!("{reports}{mira}")),
            (info, ""),
            (", \"info+x@example.org\"", ""),
        ])
    );

    desk.ask(accounts::Suspend {
        account: "jane".to_owned(),
        message: None,
    })
    .await;
    let shown = desk.list(accounts::List {
        account: Some("jane".to_owned()),
    });
    let shown = &shown.await[0];
    assert_eq!(
        (shown.suspended, &*shown.login_disabled),
        (true, "this account is suspended")
    );
    assert_eq!(shown.aliases, ["one@example.org", "team@example.org"]);
    desk.ask(accounts::Unsuspend {
        account: "jane".to_owned(),
    })
    .await;
    assert!(desk.text().contains(&format!("{jane}\n[accounts.reports]")));
}

#[tokio::test]
async fn members_of_aliases_come_and_go() {
    let desk = Desk::domains();
    let alias = "Office@example.org".to_owned();
    desk.ask(aliases::Add {
        alias: alias.clone(),
        members: vec!["APP@example.org".to_owned()],
        post_public: true,
        list_members: false,
        allow_msg_from: false,
    })
    .await;
    desk.ask(aliases::AddMembers {
        alias: "office@EXAMPLE.org".to_owned(),
        members: vec!["jane@example.org".to_owned(), "info@example.org".to_owned()],
    })
    .await;
    desk.ask(aliases::RemoveMembers {
        alias: alias.clone(),
        members: vec!["app@example.org".to_owned()],
    })
    .await;
    desk.ask(aliases::Update {
        alias: alias.clone(),
        post_public: Some(false),
        list_members: Some(true),
        allow_msg_from: None,
    })
    .await;
    let one = "aliases.one = { addresses = [\"jane@example.org\"] }\n";
    let office = "aliases.Office = { addresses = [\"jane@example.org\", \"info@example.org\"], \
        post_public = false, list_members = true }\n";
    assert_eq!(desk.text(), changed(&[(one, &format!("{one}{office}"))]));
    let listed = desk.list(aliases::List { domain: None }).await;
    let listed: Vec<_> = listed.iter().map(|item| item.alias.as_str()).collect();
    assert_eq!(
        listed,
        ["Office@example.org", "one@example.org", "team@example.org"]
    );
    let alias = "one@example.org".to_owned();
    desk.ask(aliases::Remove { alias }).await;
    assert_eq!(desk.text(), changed(&[(one, office)]));
}

#[tokio::test]
async fn routes_have_places() {
    let desk = Desk::domains();
    let add = |to: &str, transport: &str, number| routes::Add {
        scope: routes::Scope::default(),
        from_domain: Vec::new(),
        to_domain: vec![to.to_owned()],
        minimum_attempts: 0,
        transport: transport.to_owned(),
        number,
    };
    desk.ask(add("a.test", "relay", None)).await;
    desk.ask(add("b.test", "relay", None)).await;
    desk.ask(add(".c.test", "other", Some(1))).await;
    let scope = routes::Scope {
        account: Some("jane".to_owned()),
        domain: None,
    };
    desk.ask(routes::Add {
        scope: scope.clone(),
        minimum_attempts: 2,
        ..add("a.test", "other", None)
    })
    .await;
    let listed = desk.list(routes::List {}).await;
    let shown: Vec<_> = listed
        .iter()
        .map(|it| (&*it.account, it.number, &*it.to_domain[0], &*it.transport))
        .collect();
    assert_eq!(
        shown,
        [
            ("", 1, ".c.test", "other"),
            ("", 2, "a.test", "relay"),
            ("", 3, "b.test", "relay"),
            ("jane", 1, "a.test", "other"),
        ]
    );
    desk.ask(routes::Remove {
        scope: routes::Scope::default(),
        number: 2,
    })
    .await;
    desk.ask(routes::Remove { scope, number: 1 }).await;
    let text = desk.text();
    let routes = "routes = [{ to_domain = [\".c.test\"], transport = \"other\" }, \
        { to_domain = [\"b.test\"], transport = \"relay\" }]\n";
    assert!(text.contains(routes), "{text}");
    assert_eq!(text.replace(routes, ""), DYNAMICS);
}

#[tokio::test]
async fn any_setting_is_read_and_changed_by_its_key() {
    let desk = Desk::domains();
    desk.ask(settings::Set {
        settings: vec![
            setting("accounts.jane.quota", Some("1GB")),
            setting("accounts.jane.max_outgoing_messages_per_day", Some("7")),
            setting(
                "accounts.jane.outgoing_webhook.url",
                Some("https://hook.test/"),
            ),
            setting(
                "accounts.jane.outgoing_webhook.authorization",
                Some("geheim"),
            ),
            setting("accounts.jane.outgoing_webhook.events.0", Some("failed")),
            setting("accounts.jane.routes.0.transport", Some("relay")),
            setting("domains.\"xn--bcher-kva.test\".description", None),
            setting(
                "domains.\"example.org\".localpart_catchall_separators",
                Some("-"),
            ),
            setting("accounts.app.from_id_login_addresses.1", None),
            setting("monitor_dnsbls", Some("[\"a.test\", \"b.test\"]")),
        ],
    })
    .await;
    let jane = "destinations.\"jane@example.org\" = {}\n";
    let new = format!(
        "{jane}quota = \"1GB\"\nmax_outgoing_messages_per_day = 7\n\
        outgoing_webhook.url = \"https://hook.test/\"\n\
        outgoing_webhook.authorization = \"geheim\"\noutgoing_webhook.events = [\"failed\"]\n\
        routes = [{{ transport = \"relay\" }}]\n"
    );
    let expected = changed(&[
        (
            "# Our domains.\n",
            "monitor_dnsbls = [\"a.test\", \"b.test\"]\n# Our domains.\n",
        ),
        (jane, &new),
        ("description = \"Books\"\n", ""),
        ("= [\"+\"] #", "= [\"-\"] #"),
        (", \"info+x@example.org\"", ""),
    ]);
    assert_eq!(desk.text(), expected);
    let get = |key: &str| settings::Get {
        key: key.to_owned(),
    };
    let found = desk.list(get("accounts.jane.outgoing_webhook")).await;
    let found: Vec<_> = found.iter().map(|it| (&*it.key, &*it.value)).collect();
    assert_eq!(
        found,
        [
            ("accounts.jane.outgoing_webhook.authorization", "****"),
            ("accounts.jane.outgoing_webhook.events.0", "failed"),
            ("accounts.jane.outgoing_webhook.url", "https://hook.test/"),
        ]
    );
    for (key, text) in [
        (
            "accounts.app.quota",
            "accounts.app.quota is not set (no limit)",
        ),
        (
            "accounts.app.keep_rejects",
            "accounts.app.keep_rejects is not set; it is false",
        ),
    ] {
        let request = json!({"operation": "setting.get", "input": {"key": key}}).to_string();
        assert_eq!(desk.lines(&request).await[0]["error"]["text"], text);
    }
    // What a listing shows in the place of a secret changes nothing.
    desk.ask(settings::Set {
        settings: vec![setting(
            "accounts.jane.outgoing_webhook.authorization",
            Some("****"),
        )],
    })
    .await;
    assert_eq!(desk.text(), expected);
    let audited = desk.audited().await;
    let after = &audited[1].after;
    assert_eq!(
        after["accounts.jane.outgoing_webhook.authorization"],
        "****"
    );
    assert_eq!(after["accounts.jane.quota"], "1GB");
    assert_eq!(
        audited[1].before["domains.\"b\u{fc}cher.test\".description"],
        "Books"
    );
    assert_eq!(audited[1].who.kind, "socket");
    assert!(!audited[1].who.name.is_empty());
}

#[tokio::test]
async fn changes_at_the_same_time_are_all_kept() {
    let desk = Desk::domains();
    let mut all = tokio::task::JoinSet::new();
    for number in 0..8 {
        let path = desk.path().to_owned();
        all.spawn(async move {
            let add = accounts::Add {
                account: format!("a{number}"),
                address: format!("a{number}@example.org"),
            };
            client::ask(&path, &add).await.unwrap();
        });
    }
    while let Some(done) = all.join_next().await {
        done.unwrap();
    }
    let config = desk.context.config.load_full();
    assert_eq!(config.accounts.len(), 3 + 8);
    assert_eq!(config.text(), desk.text());
    assert_eq!(desk.audited().await.len(), 8);
}

#[tokio::test]
async fn a_key_is_made_and_its_file_goes_to_the_old_ones() {
    let desk = Desk::domains();
    let add = |selector: &str| dkim::Add {
        domain: "B\u{dc}CHER.test".to_owned(),
        selector: Some(selector.to_owned()),
        algorithm: dkim::Algorithm::Ed25519,
        sign: true,
        hash: None,
        canonicalization: Some("simple/relaxed".to_owned()),
        headers: vec!["From".to_owned(), "Subject".to_owned()],
        dont_seal_headers: true,
        expiration: Some("24h".to_owned()),
    };
    let next = desk.ask(dkim::Add {
        selector: None,
        ..add("")
    });
    assert_eq!(next.await.selector, "2027a");
    desk.ask(dkim::Remove {
        domain: "b\u{fc}cher.test".to_owned(),
        selector: "2027a".to_owned(),
    })
    .await;
    assert_eq!(desk.text(), DYNAMICS);
    fs::remove_file(&desk.key_files()[1][0]).unwrap();
    let added = desk.ask(add("one")).await;
    assert_eq!((&*added.selector, added.signs), ("one", true));
    let again = desk.refuses(add("ONE"), Code::Conflict, "selector").await;
    assert_eq!(again, "b\u{fc}cher.test has a selector one already");
    let [files, _] = desk.key_files();
    let file = files[0].file_name().unwrap().to_str().unwrap();
    let books = "description = \"Books\"\n";
    let dkim = format!(
        "{books}dkim.selectors.one = {{ private_key_file = \"dkim/{file}\", \
        canonicalization = \"simple/relaxed\", expiration = \"24h\", \
        headers = [\"From\", \"Subject\"], dont_seal_headers = true }}\ndkim.sign = [\"one\"]\n"
    );
    assert_eq!(desk.text(), changed(&[(books, &dkim)]));

    // A second selector uses the same file, so the file stays.
    let text = desk.text()
        + &format!(
            "[domains.\"example.org\".dkim.selectors.two]\nprivate_key_file = \"dkim/../dkim/{file}\"\n"
        );
    fs::write(desk.path().join("domains.conf"), text).unwrap();
    let remove = |domain: &str, selector: &str| dkim::Remove {
        domain: domain.to_owned(),
        selector: selector.to_owned(),
    };
    let removed = desk.ask(remove("xn--bcher-kva.test", "One")).await;
    assert_eq!(removed.file, None);
    let removed = desk.ask(remove("example.org", "two")).await;
    let old = desk.path().join("dkim/../dkim/old").join(file);
    assert_eq!(removed.file, Some(old.display().to_string()));
    assert_eq!(desk.key_files().map(|files| files.len()), [0, 1]);
    assert_eq!(desk.text(), DYNAMICS);
}

#[tokio::test]
async fn a_key_file_that_cannot_be_moved_is_named() {
    let desk = Desk::domains();
    let path = desk.path().join("key.pem");
    replace_private(&path, KEY.as_bytes()).unwrap();
    fs::write(desk.path().join("old"), "not a folder").unwrap();
    desk.ask(settings::Set {
        settings: vec![setting(
            "domains.\"example.org\".dkim.selectors.s.private_key_file",
            Some("key.pem"),
        )],
    })
    .await;
    let request = json!({
        "operation": "dkim.remove",
        "input": {"domain": "example.org", "selector": "s"},
    });
    let error = &desk.lines(&request.to_string()).await[0]["error"];
    assert_eq!(error["code"], "internal");
    let text = error["text"].as_str().unwrap();
    assert!(
        text.contains(path.to_str().unwrap()) && text.contains("still there"),
        "{text}"
    );
    assert!(path.exists());
    assert_eq!(desk.text(), DYNAMICS);
}
