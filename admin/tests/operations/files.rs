//! Both files as texts, and earlier texts of domains.conf.

use std::fs;

use postrider_admin::op::config::{
    accounts,
    file::{
        DomainsCheck, DomainsRestore, DomainsSave, DomainsShow, DomainsVersion, DomainsVersions,
        FileText, StaticShow, keep_versions,
    },
};

use super::*;

impl Desk {
    async fn show(&self) -> FileText {
        self.ask(DomainsShow::default()).await
    }

    async fn versions(&self) -> Vec<(u64, String, String, bool)> {
        let all = self.list(DomainsVersions {}).await;
        let rows = all
            .into_iter()
            .map(|it| (it.id, it.who, it.what, it.in_force));
        rows.collect()
    }
}

fn save(text: &str, hash: &str) -> DomainsSave {
    DomainsSave {
        text: text.to_owned(),
        hash: hash.to_owned(),
    }
}

fn with_webhook(secret: &str) -> String {
    format!(
        "{DYNAMICS}# a remark\n[accounts.app.outgoing_webhook]\nurl = \"https://x.test/\"\n\
         authorization = \"{secret}\"\n"
    )
}

#[tokio::test]
async fn a_text_is_saved_if_the_edited_one_is_still_there() {
    let desk = Desk::open();
    let before = desk.show().await;
    assert_eq!((before.text.as_str(), before.differs), (DYNAMICS, false));
    let text = with_webhook("Basic abc");
    let saved = desk.ask(save(&text, &before.hash)).await;
    let keys: Vec<_> = saved.changes.iter().map(|it| it.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "accounts.app.outgoing_webhook.authorization",
            "accounts.app.outgoing_webhook.url"
        ]
    );
    assert_eq!(saved.changes[0].after.as_deref(), Some("****"));
    assert_eq!(
        fs::read_to_string(desk.path().join("domains.conf")).unwrap(),
        text
    );
    assert_eq!(desk.context.config.load().text(), text);
    let after = desk.show().await;
    assert_eq!((after.text, after.hash), (text.clone(), saved.hash.clone()));
    // Whoever edited the older text learns of the newer one.
    desk.refuses(save(DYNAMICS, &before.hash), Code::Conflict, "hash")
        .await;
    for wrong in ["no toml", "[domains]\nunknown = 1\n", &with_webhook("****")] {
        desk.refuses(save(wrong, &saved.hash), Code::Invalid, "text")
            .await;
    }
    assert_eq!(desk.show().await.hash, saved.hash);
    let hidden = DomainsShow { hide_secrets: true };
    let hidden = desk.ask(hidden).await;
    assert_eq!(hidden.text, with_webhook("****"));
    assert_eq!(hidden.hash, saved.hash);
    let all = AuditFilter::default();
    let entries = desk
        .context
        .store
        .list_audit(&all, None, Order::Descending, 9);
    let entries = entries.await.unwrap().items;
    assert_eq!(entries.len(), 5);
    let first = entries.last().unwrap();
    assert_eq!(
        (first.operation.as_str(), first.refusal.as_str()),
        ("config.domains_save", "")
    );
    assert!(!first.after.contains("abc"), "{}", first.after);
}

#[tokio::test]
async fn a_check_tells_all_problems_and_changes_nothing() {
    let desk = Desk::open();
    let check = |text: &str| DomainsCheck {
        text: text.to_owned(),
    };
    let bad = desk
        .ask(check(
            "[accounts.app]\ndomain = \"none.test\"\nquota = \"x\"\n",
        ))
        .await;
    let keys: Vec<_> = bad
        .problems
        .iter()
        .map(|it| (it.line, it.key.as_str()))
        .collect();
    assert!(keys.contains(&(3, "accounts.app.quota")), "{keys:?}");
    assert!(keys.len() > 1, "{keys:?}");
    let none = desk.ask(check("no toml")).await;
    assert_eq!((none.problems[0].line, none.changes.len()), (1, 0));
    let hidden = desk.ask(check(&with_webhook("****"))).await;
    assert_eq!(
        hidden.problems[0].key,
        "accounts.app.outgoing_webhook.authorization"
    );
    let good = desk.ask(check(&with_webhook("Basic abc"))).await;
    assert!(
        good.problems.is_empty() && good.changes.len() == 2,
        "{good:?}"
    );
    assert_eq!(desk.show().await.text, DYNAMICS);
}

#[tokio::test]
async fn texts_are_kept_whoever_brought_them_and_restored() {
    let desk = Desk::open();
    let (stop, stopped) = watch::channel(false);
    let keeping = tokio::spawn(keep_versions(desk.context.clone(), stopped));
    let until = async |count| {
        while desk.versions().await.len() < count {
            tokio::task::yield_now().await;
        }
    };
    until(1).await;
    desk.ask(accounts::Add {
        account: "new".to_owned(),
        address: "new@example.org".to_owned(),
    })
    .await;
    let who = desk.list(DomainsVersions {}).await[0].who.clone();
    assert!(!who.is_empty());
    let text = with_webhook("Basic abc");
    let changed = desk.context.domains.change("test", |document| {
        *document = text.parse().unwrap();
        Ok::<_, AdminError>(())
    });
    changed.unwrap();
    until(3).await;
    let row = |id, who: &str, what: &str, in_force| (id, who.to_owned(), what.to_owned(), in_force);
    assert_eq!(
        desk.versions().await,
        [
            row(3, "", "", true),
            row(2, &who, "account.add new", false),
            row(1, "", "", false)
        ]
    );
    let version = |id, hide_secrets| DomainsVersion { id, hide_secrets };
    assert_eq!(desk.ask(version(3, false)).await.text, text);
    let hidden = desk.ask(version(3, true)).await;
    assert_eq!((hidden.text, hidden.differs), (with_webhook("****"), false));
    let restore = |id, hash: Option<&str>| DomainsRestore {
        id,
        hash: hash.map(str::to_owned),
    };
    desk.refuses(restore(9, None), Code::NotFound, "id").await;
    desk.refuses(restore(1, Some("none")), Code::Conflict, "hash")
        .await;
    let hash = desk.show().await.hash;
    desk.ask(restore(1, Some(&hash))).await;
    assert_eq!(desk.show().await.text, DYNAMICS);
    assert_eq!(
        desk.versions().await[0],
        row(4, &who, "config.domains_restore domains.conf", true)
    );
    stop.send_replace(true);
    keeping.await.unwrap();
}

#[tokio::test]
async fn the_static_file_is_shown_without_secrets_and_says_whether_it_waits() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("postrider.conf");
    let mut desk = Desk::open();
    let text = format!(
        "{STATICS}[transports.relay.submission]\nhost = \"mail.remote.test\"\n\
         auth = {{ username = \"me\", password = \"geheim\" }}\n"
    );
    fs::write(&path, &text).unwrap();
    desk.context.statics = Arc::new(Static::load(&path).unwrap());
    let show = async || StaticShow {}.answer(&desk.context).await.unwrap();
    let shown = show().await;
    assert_eq!(shown.text, text.replace("geheim", "****"));
    assert!(!shown.differs);
    fs::write(&path, text.replace("mail.remote.test", "other.remote.test")).unwrap();
    assert!(show().await.differs);
    // A remark changes nothing.
    fs::write(&path, format!("# remark\n{text}")).unwrap();
    assert!(!show().await.differs);
}
