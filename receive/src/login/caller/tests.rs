//! Callers of the mailbox API: keys, tokens of this server and of another one, passwords.

use std::sync::{Arc, atomic::Ordering};

use postrider_config::Static;
use postrider_smtp::Domain;
use postrider_store::{Credential, CredentialChange, NewApiKey, Store, Time};

use super::*;
use crate::login::{
    LoginLimiter, Oauth, TokenError, hash_password,
    oauth::testing::{ok, server},
};

const SECOND: i64 = 1_000_000;
const DOMAINS: &str = "[domains.\"a.test\"]\ntenant = 7\n[domains.\"b.test\"]\n\
    [accounts.ann]\ndomain = \"a.test\"\ndestinations.\"ann@a.test\" = {}\n\
    [accounts.bob]\ndomain = \"b.test\"\ndestinations.\"bob@b.test\" = {}\n\
    login_disabled = \"moved\"\n";

struct World {
    logins: Logins,
    config: Dynamic,
    limiter: Arc<LoginLimiter>,
}

impl World {
    async fn start(oauth: &str) -> Self {
        let text = format!(
            "hostname = \"a.test\"\npostmaster.account = \"ann\"\n{oauth}\n[listeners.l]\n\
             ips = [\"127.0.0.1\"]\n"
        );
        let statics = Static::parse(&text, "postrider.conf").unwrap();
        let store = Store::memory();
        let credential = Credential {
            argon2: hash_password("the password").unwrap(),
            ..Credential::default()
        };
        for account in ["ann", "bob"] {
            let credential = Some(credential.clone());
            store.set_credential(account, credential).await.unwrap();
        }
        Self {
            logins: Logins::with_oauth(store, Oauth::new(&statics).unwrap()),
            config: Dynamic::parse(DOMAINS, "domains.conf", &statics).unwrap(),
            limiter: Arc::default(),
        }
    }

    fn source(&self, now: i64) -> Source {
        Source {
            limiter: Arc::clone(&self.limiter),
            ip: [192, 0, 2, 1].into(),
            behind_proxy: false,
            now: Time(now * SECOND),
        }
    }

    async fn key(&self, account: &str, scopes: &[Scope], tenant: &str) -> String {
        let (secret, hash) = KeyText::secret(&mut rand::rng());
        let key = NewApiKey {
            name: "shop".into(),
            account: account.into(),
            hash,
            scopes: scopes.to_vec(),
            created: Time(0),
            expires: None,
            domains: Vec::new(),
            legacy_status: false,
            tenant: tenant.into(),
        };
        let id = self.logins.store().add_api_key(key).await.unwrap();
        KeyText::new(id, secret).to_string()
    }

    async fn token(&self, kind: MailTokenKind) -> String {
        let address = Address::parse("ann@a.test").unwrap();
        let given = self.logins.give_token("ann", &address, kind, Time(0));
        given.await.unwrap().text
    }

    /// The caller in a few words, or the reason of a refusal.
    async fn ask(&self, credentials: &ApiCredentials, now: i64) -> String {
        let source = self.source(now);
        let caller = self.logins.api_caller(&self.config, credentials, &source);
        match caller.await {
            Ok(ApiCaller::Manager(manager)) if manager.is_platform() => "platform".to_owned(),
            Ok(ApiCaller::Manager(manager)) => {
                let domains = manager.reach.domains.iter().map(Domain::unicode);
                let domains: Vec<String> = domains.collect();
                let (manages, mail) = (manager.may_manage(false), manager.may_use_mail());
                format!("tenant of {} {manages} {mail}", domains.join(" "))
            }
            Ok(ApiCaller::User(user)) => format!("user {}", user.login),
            Err(refusal) => format!("{:?}", refusal.result()),
        }
    }

    async fn bearer(&self, text: &str) -> String {
        let credentials = ApiCredentials::Bearer(text.to_owned());
        self.ask(&credentials, 1).await
    }

    async fn service(&self, text: &str) -> String {
        let credentials = ApiCredentials::Service(text.to_owned());
        self.ask(&credentials, 1).await
    }
}

#[test]
fn the_service_token_comes_first() {
    let read = |service: Option<&str>, authorization: Option<&str>| {
        ApiCredentials::read(service.map(str::as_bytes), authorization.map(str::as_bytes))
    };
    let bearer = |text: &str| Some(ApiCredentials::Bearer(text.to_owned()));
    let service = |text: &str| Some(ApiCredentials::Service(text.to_owned()));
    for (first, second, expected) in [
        (Some("key"), Some("Bearer other"), service("key")),
        (Some(""), Some("Bearer other"), service("")),
        (None, Some("bearer  tok "), bearer("tok")),
        (
            None,
            Some("Basic YW5uQGEudGVzdDpwOnc="),
            Some(ApiCredentials::Basic("ann@a.test".into(), "p:w".into())),
        ),
        (None, Some("Basic !"), None),
        (None, Some("Digest x"), None),
        (None, Some("Bearer"), None),
        (None, None, None),
    ] {
        assert_eq!(read(first, second), expected, "{first:?} {second:?}");
    }
    // A value that is no text is not as if it was absent.
    assert_eq!(ApiCredentials::read(Some(&[0xff]), Some(b"Bearer x")), None);
}

#[tokio::test]
async fn keys_and_passwords_tell_who_calls() {
    let world = World::start("").await;
    let platform = world.key("", &[Scope::Manage], "").await;
    let mail = world
        .key("", &[Scope::ManageAccounts, Scope::ManageMail], "7")
        .await;
    let reads = world.key("", &[Scope::ManageRead], "8").await;
    let messages = world.key("ann", &[Scope::Messages], "").await;
    let suspended = world.key("bob", &[Scope::Messages], "").await;
    assert_eq!(world.service(&platform).await, "platform");
    assert_eq!(world.bearer(&platform).await, "platform");
    assert_eq!(world.bearer(&mail).await, "tenant of a.test true true");
    assert_eq!(world.service(&reads).await, "tenant of  false false");
    assert_eq!(world.bearer(&messages).await, "user ann@a.test");
    assert_eq!(world.service(&messages).await, "Wrong");
    assert_eq!(world.bearer(&suspended).await, "Disabled");
    assert_eq!(world.bearer("prk_99_x").await, "Wrong");
    assert_eq!(world.service("nonsense").await, "Malformed");
    assert_eq!(world.bearer("eyJhbGciOi").await, "Malformed");
    let basic = async |name: &str, password: &str| {
        let credentials = ApiCredentials::Basic(name.to_owned(), password.to_owned());
        world.ask(&credentials, 1).await
    };
    assert_eq!(basic("ann@a.test", "the password").await, "user ann@a.test");
    assert_eq!(basic("ann@a.test", "another one").await, "Wrong");
    assert_eq!(basic("bob@b.test", "the password").await, "Disabled");
    assert_eq!(basic("ann@a.test", &messages).await, "user ann@a.test");
    assert_eq!(basic("bob@b.test", &messages).await, "Wrong");
    assert_eq!(basic("dovecot", &platform).await, "platform");
}

#[tokio::test]
async fn wrong_passwords_and_keys_are_limited_and_right_keys_never() {
    let world = World::start("").await;
    let right = world.key("ann", &[Scope::Messages], "").await;
    let wrong = ApiCredentials::Basic("ann@a.test".into(), "no".into());
    for _ in 0..10 {
        assert_eq!(world.ask(&wrong, 1).await, "Wrong");
    }
    assert_eq!(world.ask(&wrong, 1).await, "Limited");
    assert_eq!(world.bearer(&right).await, "user ann@a.test");
}

#[tokio::test]
async fn a_token_of_ours_is_good_for_its_time_and_ends_with_the_password() {
    let world = World::start("").await;
    let mail = world.token(MailTokenKind::Mail).await;
    let user = world.token(MailTokenKind::User).await;
    let bearer = |text: &str| ApiCredentials::Bearer(text.to_owned());
    for (text, now, expected) in [
        (&mail, 3599, "user ann@a.test"),
        (&mail, 3600, "Wrong"),
        (&user, 43_199, "user ann@a.test"),
        (&user, 43_200, "Wrong"),
    ] {
        assert_eq!(world.ask(&bearer(text), now).await, expected, "{now}");
    }
    let kinds = [MailTokenKind::Mail];
    let logins = &world.logins;
    let found = async |text: &str, config: &Dynamic| {
        let found = logins.token_owner(text, &kinds, config, Time(1));
        found.await.unwrap().is_some()
    };
    assert!(found(&mail, &world.config).await);
    // A user token is no mail token.
    assert!(!found(&user, &world.config).await);
    assert!(!found("prm_unknown", &world.config).await);
    let statics = Static::parse(
        "hostname = \"a.test\"\npostmaster.account = \"ann\"\n[listeners.l]\nips = [\"127.0.0.1\"]\n",
        "postrider.conf",
    );
    let statics = statics.unwrap();
    for (from, to) in [
        (
            "destinations.\"ann@a.test\" = {}",
            "login_disabled = \"gone\"\ndestinations.\"ann@a.test\" = {}",
        ),
        ("ann@a.test", "other@a.test"),
    ] {
        let changed = DOMAINS.replace(from, to);
        let changed = Dynamic::parse(&changed, "domains.conf", &statics).unwrap();
        assert!(!found(&mail, &changed).await, "{to}");
    }
    let change = CredentialChange {
        argon2: Some(hash_password("a new password").unwrap()),
        ..CredentialChange::default()
    };
    let store = logins.store();
    assert!(
        store
            .change_credential("ann", change, Time(2))
            .await
            .unwrap()
    );
    assert!(!found(&mail, &world.config).await);
    let mail = world.token(MailTokenKind::Mail).await;
    assert!(
        !logins
            .end_token(&mail, |account| account == "bob")
            .await
            .unwrap()
    );
    assert!(
        logins
            .end_token(&mail, |account| account == "ann")
            .await
            .unwrap()
    );
    assert!(!found(&mail, &world.config).await);
}

#[tokio::test(start_paused = true)]
async fn an_account_gets_sixty_tokens_an_hour() {
    let world = World::start("").await;
    for _ in 0..60 {
        world.token(MailTokenKind::Mail).await;
    }
    let address = Address::parse("ann@a.test").unwrap();
    let given = world
        .logins
        .give_token("ann", &address, MailTokenKind::Mail, Time(0));
    let error = given.await.unwrap_err();
    assert!(
        matches!(error, TokenError::TooMany(wait) if !wait.is_zero()),
        "{error}"
    );
}

#[tokio::test]
async fn tokens_of_the_authorization_server_name_a_user_or_a_tenant() {
    let (url, asked) = server(|request| {
        let is = |text: &str| request.contains(&format!("token={text}&"));
        ok(match () {
            () if is("ann") => r#"{"active":true,"username":"ann@a.test","scope":"mail smtp"}"#,
            () if is("smtp") => r#"{"active":true,"username":"ann@a.test","scope":"smtp"}"#,
            () if is("bob") => r#"{"active":true,"username":"bob@b.test","scope":"mail"}"#,
            () if is("tenant") => r#"{"active":true,"sub":"x","org":7,"scope":"mail"}"#,
            () if is("wide") => r#"{"active":true,"org":"7","scope":"mail manage-mail"}"#,
            () if is("other") => r#"{"active":true,"username":"x@y.test","scope":"mail"}"#,
            () => r#"{"active":false}"#,
        })
    })
    .await;
    let oauth = format!("oauth = {{ introspection_url = {url:?}, tenant_claim = \"org\" }}");
    let world = World::start(&oauth).await;
    for (text, expected) in [
        ("ann", "user ann@a.test"),
        ("smtp", "Wrong"),
        ("bob", "Disabled"),
        ("tenant", "tenant of a.test true false"),
        ("wide", "tenant of a.test true true"),
        ("other", "Wrong"),
        ("bad", "Wrong"),
    ] {
        assert_eq!(world.bearer(text).await, expected, "{text}");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 7);
    // What this server gave out is never sent to the other one, also if it is not good any more.
    for text in ["prm_unknown", "pru_unknown", "prk_7_unknown"] {
        assert_eq!(world.bearer(text).await, "Wrong", "{text}");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 7);
}

#[tokio::test]
async fn an_authorization_server_that_is_down_refuses_nobody_as_wrong() {
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", closed.local_addr().unwrap());
    drop(closed);
    let world = World::start(&format!("oauth.introspection_url = {url:?}")).await;
    assert_eq!(world.bearer("ann").await, "Unavailable");
}
