//! Operations over the control socket: outputs and errors come back as types.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that fails says where"
)]

#[path = "operations/accounts.rs"]
mod accounts;
#[path = "operations/audited.rs"]
mod audited;
#[path = "operations/config.rs"]
mod config;
#[path = "operations/files.rs"]
mod files;
#[path = "operations/http.rs"]
mod http;
#[path = "operations/logs.rs"]
mod logs;
#[path = "operations/pages.rs"]
mod pages;
#[path = "operations/published.rs"]
mod published;
#[path = "operations/refusals.rs"]
mod refusals;
#[path = "operations/rotate.rs"]
mod rotate;
#[path = "operations/second_factors.rs"]
mod second_factors;
#[path = "operations/tls_keys.rs"]
mod tls_keys;
#[path = "operations/web_sessions.rs"]
mod web_sessions;

use std::{path::Path, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use postrider_admin::{
    AdminError, Caller, Code, Context,
    face::{
        SOCKET_NAME,
        client::{self, CallError},
        socket,
    },
    op::{
        Gone, Operation, Single, Sink, hold_rules, keys, logins, passwords, queue, server,
        suppression,
    },
};
use postrider_config::{DomainsFile, Dynamic, Static, toml_edit};
use postrider_dns::FakeResolver;
use postrider_observe::{
    log::Log,
    trace::{Limits, Recorder, RecorderParts},
};
use postrider_queue::{DeliveryMode, Queue, TcpDialer};
use postrider_receive::{
    Reports, ReportsParts,
    login::{Identity, LoginLimiter, Logins, Source},
};
use postrider_store::{
    ApiKeyId, AuditFilter, Clock, HoldRuleId, ManualClock, NewSuppression, Options, Order, QueueId,
    Scope, Store, SuppressingReply, Time,
};
use postrider_webhook::WebhookParts;
use rand::{SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::watch,
    task::JoinSet,
};

const STATICS: &str = "hostname = \"mail.example.org\"\n[postmaster]\naccount = \"app\"\n\
    [listeners.l]\nips = [\"127.0.0.1\"]\n";
const DYNAMICS: &str = "[domains.\"example.org\"]\n[accounts.app]\ndomain = \"example.org\"\n\
    destinations.\"app@example.org\" = {}\n";

/// A control socket with all that operations need. Nothing is delivered.
struct Desk {
    dir: TempDir,
    context: Context,
    resolver: Arc<FakeResolver>,
    clock: Arc<ManualClock>,
    recorder: Recorder,
    _stop: watch::Sender<bool>,
}

impl Desk {
    fn open() -> Self {
        Self::with(STATICS, DYNAMICS)
    }

    /// A desk with these files.
    fn with(statics: &str, dynamics: &str) -> Self {
        Self::delivering(DeliveryMode::Remote, statics, dynamics)
    }

    /// A desk with these files, where the administrator can have a password.
    fn with_admin(statics: &str, dynamics: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("adminpasswd");
        let statics = format!("admin_password_file = {file:?}\n{statics}");
        Self::in_folder(dir, DeliveryMode::Remote, &statics, dynamics)
    }

    /// A desk with these files, whose queue would deliver in this way.
    fn delivering(delivery: DeliveryMode, statics: &str, dynamics: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::in_folder(dir, delivery, statics, dynamics)
    }

    fn in_folder(dir: TempDir, delivery: DeliveryMode, statics: &str, dynamics: &str) -> Self {
        let statics = Static::parse(statics, "postrider.conf").unwrap();
        let path = dir.path().join("domains.conf");
        std::fs::write(&path, dynamics).unwrap();
        let dynamic = Dynamic::load(&path, &statics).unwrap();
        let config = Arc::new(ArcSwap::from_pointee(dynamic));
        let clock = Arc::new(ManualClock::new(Time(1_800_000_000_000_000)));
        let store = Store::open(Options::new(dir.path())).unwrap();
        let statics = Arc::new(statics);
        let resolver = Arc::new(FakeResolver::default());
        let webhooks = postrider_webhook::Runner::new(WebhookParts {
            metrics: Arc::default(),
            store: store.clone(),
            tracer: postrider_observe::Tracer::off(),
            config: Arc::clone(&config),
            statics: Arc::clone(&statics),
            clock: Arc::clone(&clock) as _,
        });
        let queue = Queue::new(postrider_queue::QueueParts {
            metrics: Arc::default(),
            store: store.clone(),
            tracer: postrider_observe::Tracer::off(),
            config: Arc::clone(&config),
            statics: Arc::clone(&statics),
            clock: Arc::clone(&clock) as _,
            resolver: resolver.clone(),
            dialer: Arc::new(TcpDialer),
            delivery,
            rng: StdRng::seed_from_u64(1),
        });
        let now = Arc::clone(&clock);
        let recorder = Recorder::start(RecorderParts {
            dir: dir.path().join("traces"),
            limits: Limits {
                keep: Duration::from_secs(7 * 24 * 60 * 60),
                max_size: 16 << 20,
            },
            sample: 1.0,
            metrics: Arc::default(),
            now: Arc::new(move || now.now().0),
            has_room: Box::new(|| true),
        });
        let recorder = recorder.unwrap();
        let reports = Arc::new(Reports::new(ReportsParts {
            store: store.clone(),
            config: Arc::clone(&config),
            statics: Arc::clone(&statics),
            clock: Arc::clone(&clock) as _,
            metrics: Arc::default(),
            tracer: postrider_observe::Tracer::off(),
        }));
        let context = Context {
            metrics: Arc::default(),
            traces: recorder.traces().clone(),
            queue: Arc::new(queue.unwrap()),
            logins: Arc::new(Logins::new(store.clone())),
            limiter: Arc::<LoginLimiter>::default(),
            store,
            domains: Arc::new(DomainsFile::new(
                path,
                Arc::clone(&statics),
                Arc::clone(&config),
            )),
            statics,
            config,
            resolver: resolver.clone(),
            checks: resolver.clone(),
            dialer: Arc::new(TcpDialer),
            reports,
            webhooks: Arc::new(webhooks.unwrap().operator()),
            logs: Log::default(),
            figures: Arc::default(),
            verdicts: Arc::default(),
            hooks: Arc::default(),
            refusals: Arc::default(),
            certificates: Arc::new(()),
            clock: clock.clone(),
            caller: Caller::default(),
        };
        let (stop, stopped) = watch::channel(false);
        let listener = socket::bind(dir.path()).unwrap();
        tokio::spawn(socket::serve(listener, context.clone(), stopped));
        Self {
            dir,
            context,
            resolver,
            clock,
            recorder,
            _stop: stop,
        }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    async fn ask<S: Single>(&self, operation: S) -> S::Output {
        client::ask(self.path(), &operation).await.unwrap()
    }

    async fn list<O: Operation>(&self, operation: O) -> Vec<O::Item> {
        let mut answer = client::call(self.path(), &operation).await.unwrap();
        let mut items = Vec::new();
        while let Some(item) = answer.next().await.unwrap() {
            items.push(item);
        }
        items
    }

    /// The operation is refused with this code, for this field. Gives the text.
    async fn refuses<O: Operation>(&self, operation: O, code: Code, field: &str) -> String {
        let answer = client::call(self.path(), &operation).await;
        match answer.unwrap().next().await {
            Err(CallError::Refused(error)) => {
                assert_eq!((error.code, error.field.as_deref()), (code, Some(field)));
                error.text
            }
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("not refused"),
        }
    }

    /// The lines of the answer to a request line.
    async fn lines(&self, request: &str) -> Vec<Value> {
        let mut stream = UnixStream::connect(self.path().join(SOCKET_NAME))
            .await
            .unwrap();
        stream
            .write_all(format!("{request}\n").as_bytes())
            .await
            .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

fn address(address: &str) -> suppression::Add {
    suppression::Add {
        account: "app".to_owned(),
        address: address.to_owned(),
        reason: "asked to".to_owned(),
        list: String::new(),
    }
}

#[tokio::test]
async fn lines_of_the_socket_are_as_documented() {
    let desk = Desk::open();
    let version = env!("CARGO_PKG_VERSION");
    let lines = desk.lines(r#"{"operation": "server.ping", "input": {}}"#);
    assert_eq!(
        lines.await,
        [json!({"item": {"version": version}}), json!({"done": true})]
    );
    let lines = desk.lines(r#"{"operation": "hold_rule.remove", "input": {"id": 7}}"#);
    let error = json!({"code": "not_found", "field": "id", "text": "there is no hold rule 7"});
    assert_eq!(lines.await, [json!({"error": error})]);
    for wrong in [
        "",
        "[]",
        r#"{"operation": "no.such", "input": {}}"#,
        r#"{"operation": "server.ping", "input": {"no_such_field": 1}}"#,
        r#"{"operation": "hold_rule.remove", "input": {}}"#,
    ] {
        let lines = desk.lines(wrong).await;
        assert_eq!(lines.len(), 1, "{wrong}");
        assert_eq!(lines[0]["error"]["code"], "invalid", "{wrong}");
    }
    assert_eq!(desk.ask(server::Ping {}).await.version, version);
}

#[tokio::test]
async fn a_suppression_is_added_once_looked_up_and_removed() {
    let desk = Desk::open();
    desk.ask(address("User.Name@remote.test")).await;
    let again = desk.refuses(address("username@remote.test"), Code::Conflict, "address");
    assert_eq!(
        again.await,
        "username@remote.test is on the list of app already"
    );
    desk.refuses(address("no address"), Code::Invalid, "address")
        .await;
    let other = suppression::Add {
        account: "other".to_owned(),
        ..address("a@remote.test")
    };
    desk.refuses(other, Code::NotFound, "account").await;
    let lookup = |address: &str| suppression::Lookup {
        account: "app".to_owned(),
        address: address.to_owned(),
        list: String::new(),
    };
    let found = desk.ask(lookup("user.name+x@remote.test")).await.unwrap();
    assert_eq!(found.original_address, "User.Name@remote.test");
    assert_eq!(desk.ask(lookup("other@remote.test")).await, None);
    let remove = || suppression::Remove {
        account: "app".to_owned(),
        address: "username@remote.test".to_owned(),
        list: String::new(),
    };
    desk.ask(remove()).await;
    desk.refuses(remove(), Code::NotFound, "address").await;
}

#[tokio::test]
async fn a_suppression_shows_the_reply_that_made_it_and_its_end() {
    let desk = Desk::open();
    let now = desk.context.clock.now();
    let end = now.after(Duration::from_secs(60));
    let new = |base: &str, until| NewSuppression {
        account: "app".to_owned(),
        base: base.to_owned(),
        list: String::new(),
        original: base.to_owned(),
        created: now,
        manual: false,
        reason: "queue: 550, 5.1.1".to_owned(),
        reply: Some(SuppressingReply {
            code: 550,
            enhanced: Some("5.1.1".parse().unwrap()),
            text: "no such user".to_owned(),
            host: "mx.remote.test [192.0.2.1]".to_owned(),
        }),
        until: Some(until),
    };
    let store = &desk.context.store;
    assert!(store.suppress(new("a@remote.test", end)).await.unwrap());
    assert!(store.suppress(new("over@remote.test", now)).await.unwrap());
    let listed = desk.list(suppression::List::default()).await;
    assert_eq!(listed.len(), 1, "the other entry has expired");
    let item = serde_json::to_value(&listed[0]).unwrap();
    assert_eq!(item["expires"], end.to_string());
    let reply = json!({
        "code": 550,
        "enhanced_code": "5.1.1",
        "text": "no such user",
        "host": "mx.remote.test [192.0.2.1]",
    });
    assert_eq!(item["reply"], reply);
}

#[tokio::test]
async fn a_hold_rule_names_the_field_that_is_wrong() {
    let desk = Desk::open();
    let wrong = hold_rules::Add {
        sender_domain: Some("not a domain".to_owned()),
        ..hold_rules::Add::default()
    };
    let text = desk.refuses(wrong, Code::Invalid, "sender_domain").await;
    assert!(
        text.starts_with("sender domain \"not a domain\": "),
        "{text}"
    );
    let rule = hold_rules::Add {
        recipient: Some("a@remote.test".to_owned()),
        ..hold_rules::Add::default()
    };
    assert_eq!(desk.ask(rule).await, hold_rules::Added { id: 1, held: 0 });
    let rules = desk.list(hold_rules::List {}).await;
    assert_eq!((rules.len(), &*rules[0].recipient), (1, "a@remote.test"));
    let remove = || hold_rules::Remove {
        id: HoldRuleId(1),
        release: false,
    };
    desk.ask(remove()).await;
    desk.refuses(remove(), Code::NotFound, "id").await;
}

#[tokio::test]
async fn keys_and_passwords_stay_secret() {
    let desk = Desk::open();
    let add = |account: &str| keys::Add {
        name: "shop".to_owned(),
        account: account.to_owned(),
        scopes: vec![Scope::Send],
        expires: None,
        domains: Vec::new(),
        legacy_status: false,
        tenant: String::new(),
    };
    desk.refuses(add("other"), Code::NotFound, "account").await;
    let added = desk.ask(add("app")).await;
    assert!(!format!("{added:?}").contains(&added.key));
    let listed = desk.list(keys::List { account: None }).await;
    assert_eq!((listed.len(), listed[0].id), (1, added.id));
    let remove = || keys::Remove {
        id: ApiKeyId(added.id),
    };
    desk.ask(remove()).await;
    desk.refuses(remove(), Code::NotFound, "id").await;

    let set = |account: &str, password: &str| passwords::Set {
        account: account.to_owned(),
        password: password.to_owned(),
    };
    assert!(!format!("{:?}", set("app", "correct horse")).contains("horse"));
    desk.refuses(set("app", "short"), Code::Invalid, "password")
        .await;
    desk.refuses(set("other", "correct horse"), Code::NotFound, "account")
        .await;
    desk.ask(set("app", "correct horse")).await;
}

#[tokio::test]
async fn a_message_that_is_not_queued_is_not_found() {
    let desk = Desk::open();
    let explain = queue::Explain { id: QueueId(7) };
    let text = desk.refuses(explain, Code::NotFound, "id").await;
    assert_eq!(text, "there is no message 7 in the queue");
    let modify = queue::Modify {
        filter: Default::default(),
        change: postrider_store::Change {
            transport: Some("nowhere".to_owned()),
            ..Default::default()
        },
    };
    desk.refuses(modify, Code::Invalid, "transport").await;
}

#[test]
fn without_a_server_the_error_says_how_to_start_one() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let error = runtime.block_on(client::ask(dir.path(), &server::Ping {}));
    let error = error.unwrap_err();
    assert!(matches!(error, CallError::NotRunning { .. }));
    assert!(error.to_string().contains("postrider serve"), "{error}");
}

/// More entries than a page has.
const MANY: usize = 1203;

async fn suppress_many(store: &Store) {
    let mut adding = JoinSet::new();
    for number in 0..MANY {
        let store = store.clone();
        adding.spawn(async move {
            let address = format!("user{number}@remote.test");
            let new = NewSuppression {
                account: "app".to_owned(),
                base: address.clone(),
                list: String::new(),
                original: address,
                created: Time(0),
                manual: true,
                reason: String::new(),
                reply: None,
                until: None,
            };
            store.suppress(new).await.unwrap()
        });
    }
    assert!(adding.join_all().await.into_iter().all(|added| added));
}

#[tokio::test]
async fn a_long_list_comes_whole_page_by_page() {
    let desk = Desk::open();
    suppress_many(&desk.context.store).await;
    let listed = desk.list(suppression::List::default()).await;
    let addresses: std::collections::BTreeSet<_> =
        listed.iter().map(|item| &item.base_address).collect();
    assert_eq!((listed.len(), addresses.len()), (MANY, MANY));
}

/// A caller that goes away after the first page.
#[derive(Default)]
struct Impatient {
    pages: usize,
}

impl<T: Send> Sink<T> for Impatient {
    async fn send(&mut self, _: Vec<T>) -> Result<(), AdminError> {
        self.pages += 1;
        Err(Gone.into())
    }
}

#[tokio::test]
async fn a_list_ends_when_the_caller_goes_away() {
    let desk = Desk::open();
    suppress_many(&desk.context.store).await;
    let mut sink = Impatient::default();
    let list = suppression::List::default();
    let error = list.run(&desk.context, &mut sink).await.unwrap_err();
    assert_eq!((error.code, sink.pages), (Code::Unavailable, 1));
}

#[tokio::test]
async fn failed_logins_are_forgotten_by_account_and_by_network() {
    let desk = Desk::open();
    let source = Source {
        limiter: Arc::clone(&desk.context.limiter),
        ip: [192, 0, 2, 1].into(),
        behind_proxy: false,
        now: desk.context.clock.now(),
    };
    let app = Identity::Account("app");
    for (account, ip) in [
        (Some("app"), None),
        (Some("app@example.org"), None),
        (Some("app"), Some(source.ip)),
        (None, Some(source.ip)),
    ] {
        while source.begin(app).is_ok() {}
        let account = account.map(str::to_owned);
        let unlocked = desk.ask(logins::Unlock { account, ip }).await;
        assert_ne!(unlocked.counts, 0);
        assert_eq!(source.wait(app), None, "{ip:?}");
    }
    let unlock = |account: Option<&str>| logins::Unlock {
        account: account.map(str::to_owned),
        ip: None,
    };
    assert_eq!(desk.ask(unlock(Some("app"))).await.counts, 0);
    desk.refuses(unlock(None), Code::Invalid, "account").await;
    desk.refuses(unlock(Some("none")), Code::NotFound, "account")
        .await;
}

#[tokio::test]
async fn a_change_of_domains_conf_and_a_refused_one_are_in_the_audit_log() {
    let desk = Desk::open();
    let path = desk.path().join("domains.conf");
    std::fs::write(&path, DYNAMICS).unwrap();
    let context = Context {
        caller: Caller {
            name: "jane".to_owned(),
            ..Caller::default()
        },
        ..desk.context.clone()
    };
    let describe = |text: &'static str| {
        move |document: &mut toml_edit::DocumentMut| {
            let Some(app) = document
                .get_mut("accounts")
                .and_then(|it| it.get_mut("app"))
            else {
                return Err(AdminError::not_found("no account app"));
            };
            app["description"] = toml_edit::value(text);
            app["outgoing_webhook"]["authorization"] = toml_edit::value("secret");
            Ok(())
        }
    };
    // The webhook has no URL, so the whole is not valid.
    let refused = context.change_domains("account.set", "app", describe("one"));
    let refused = refused.await.unwrap_err();
    assert_eq!(refused.code, Code::Invalid);
    assert!(refused.text.contains("outgoing_webhook"), "{refused}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), DYNAMICS);

    let changed = context.change_domains("account.set", "app", move |document| {
        document["accounts"]["app"]["outgoing_webhook"]["url"] = toml_edit::value("http://a.test/");
        describe("two")(document)
    });
    changed.await.unwrap();
    assert_eq!(context.config.load().accounts["app"].description, "two");

    let filter = AuditFilter::default();
    let audit = context
        .store
        .list_audit(&filter, None, Order::Descending, 10);
    let entries = audit.await.unwrap().items;
    let [done, refused_entry] = &*entries else {
        panic!("{entries:?}");
    };
    assert_eq!(
        (&*done.name, &*done.operation, &*done.target),
        ("jane", "account.set", "app")
    );
    assert_eq!((&*done.before, &*done.refusal), ("", ""));
    let after: Value = serde_json::from_str(&done.after).unwrap();
    let expected = json!({
        "accounts.app.description": "two",
        "accounts.app.outgoing_webhook.authorization": "****",
        "accounts.app.outgoing_webhook.url": "http://a.test/",
    });
    assert_eq!(after, expected);
    assert_eq!(refused_entry.refusal, refused.text);
    assert_eq!(refused_entry.after, "");
}
