//! Logins by each kind of evidence, and the recipients and times that are refused.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use arc_swap::ArcSwap;
use postrider_config::{Dynamic, Static};
use postrider_dns::FakeResolver;
use postrider_queue::{DeliveryMode, Queue, QueueParts, TcpDialer};
use postrider_smtp::{
    Address, Hold,
    sasl::{Evidence, Mechanism, ScramHash},
    server::SessionId,
};
use postrider_store::{MailTokenKind, ManualClock, Order, Store, TlsKey};
use rand::{SeedableRng, rngs::StdRng};
use tokio::net::TcpListener;

use super::*;
use crate::{
    login::{
        LoginLimiter, LoginLimits, Logins, Oauth, hash_password, oauth::testing, scram_keys,
        scram_salts,
    },
    memory::TextMemory,
};

const DYNAMICS: &str = r#"[domains."example.org"]
localpart_catchall_separators = ["+"]
[domains."routed.example"]
[domains."all.example"]
[accounts.ann]
domain = "example.org"
destinations."ann@example.org" = {}
destinations."second@example.org" = {}
destinations."@all.example" = {}
routes = [{ to_domain = ["routed.example"], transport = "other" }]
[accounts.bob]
domain = "example.org"
destinations."bob@example.org" = {}
login_disabled = "ask Eve"
"#;

const PASSWORD: &str = "correct horse";

/// A server of submission.
struct World {
    context: SessionContext,
}

impl World {
    async fn start(more: &str) -> Self {
        let statics = format!(
            "hostname = \"mail.example.org\"\npostmaster.account = \"ann\"\n{more}\n\
             [listeners.l]\nips = [\"127.0.0.1\"]\n\
             [transports.other.smtp]\nhost = \"127.0.0.2\"\n"
        );
        let statics = Arc::new(Static::parse(&statics, "postrider.conf").unwrap());
        let dynamic = Dynamic::parse(DYNAMICS, "domains.conf", &statics).unwrap();
        let config = Arc::new(ArcSwap::from_pointee(dynamic));
        let (store, clock) = (
            Store::memory(),
            ManualClock::new(Time(1_800_000_000_000_000)),
        );
        let resolver: Arc<dyn postrider_dns::Resolver> = Arc::new(FakeResolver::default());
        let queue = Queue::new(QueueParts {
            metrics: Arc::default(),
            store: store.clone(),
            tracer: postrider_observe::Tracer::off(),
            config: Arc::clone(&config),
            statics: Arc::clone(&statics),
            clock: Arc::new(clock.clone()),
            resolver: Arc::clone(&resolver),
            dialer: Arc::new(TcpDialer),
            delivery: DeliveryMode::Remote,
            rng: StdRng::seed_from_u64(1),
        });
        let oauth = Oauth::new(&statics).unwrap();
        for account in ["ann", "bob"] {
            let none = postrider_store::Credential::default();
            let salts = scram_salts(&store, account, &none).await.unwrap();
            let set = postrider_store::CredentialChange {
                argon2: Some(hash_password(PASSWORD).unwrap()),
                scram: Some(salts),
                main_keys: Some(scram_keys(PASSWORD, &salts)),
                ..Default::default()
            };
            let set = store.change_credential(account, set, Time(0)).await;
            assert!(set.unwrap());
        }
        let clock: Arc<dyn postrider_store::Clock> = Arc::new(clock);
        let zones = Arc::clone(&resolver);
        let guards = crate::Guards::new(&statics, Arc::clone(&clock), zones);
        let context = SessionContext {
            hooks: Arc::default(),
            scripts: Arc::new(crate::sieve::ready::Scripts::new(store.clone())),
            metrics: Arc::default(),
            guards: Arc::new(guards),
            config,
            queue: Arc::new(queue.unwrap()),
            logins: Arc::new(Logins::with_oauth(store.clone(), oauth)),
            limiter: Arc::new(LoginLimiter::new(LoginLimits::default())),
            memory: TextMemory::new(1 << 20),
            clock,
            simulate: false,
            store,
            tracer: postrider_observe::Tracer::off(),
            resolver,
            statics,
        };
        Self { context }
    }

    fn session(&self) -> SubmissionSession {
        SubmissionSession::new(self.context.clone(), "mail.example.org".to_owned())
    }

    async fn log_in(&self, login: &Login) -> String {
        shown(self.session().login(&client(), login).await)
    }
}

fn shown(verdict: Verdict) -> String {
    verdict.unwrap_or_else(|reply| {
        let code = reply.code().get();
        reply
            .enhanced()
            .map_or_else(|| code.to_string(), |it| format!("{code} {it}"))
    })
}

fn client() -> Client {
    let remote: SocketAddr = "192.0.2.9:2525".parse().unwrap();
    Client::new(SessionId::of(1), remote, remote)
}

fn login(mechanism: Mechanism, user: &str, evidence: Evidence) -> Login {
    Login {
        mechanism,
        authorization: String::new(),
        user: user.to_owned(),
        evidence,
    }
}

fn token(user: &str, token: &str) -> Login {
    let evidence = Evidence::Token(token.to_owned().into());
    login(Mechanism::OauthBearer, user, evidence)
}

fn password(user: &str, password: &str) -> Login {
    let evidence = Evidence::Password(password.to_owned().into());
    login(Mechanism::Plain, user, evidence)
}

fn certificate(key: &str, acts_as: &str) -> Login {
    Login {
        authorization: acts_as.to_owned(),
        ..login(
            Mechanism::External,
            "",
            Evidence::Certificate(key.to_owned()),
        )
    }
}

#[tokio::test]
async fn right_logins_are_noted_with_their_client() {
    let world = World::start("").await;
    let mut client = client();
    client.helo = Some("client.test".to_owned());
    let mut session = world.session();
    let right = password("ann@example.org", PASSWORD);
    assert!(session.login(&client, &right).await.is_ok());
    world.context.logins.write_attempts().await;
    let all = postrider_store::LoginAttemptFilter::default();
    let noted = world
        .context
        .store
        .list_logins(&all, None, Order::Descending, 9)
        .await;
    let noted = noted.unwrap().items;
    let [noted] = noted.as_slice() else {
        panic!("{noted:?}");
    };
    let ann = postrider_store::LoginOf::Account("ann".to_owned());
    assert_eq!((&noted.of, noted.result.as_str()), (&ann, "ok"));
    assert_eq!(
        (noted.mechanism.as_str(), noted.client.as_str()),
        ("plain", "client.test")
    );
    assert_eq!(
        (noted.login.as_str(), noted.ip),
        ("ann@example.org", client.remote.ip())
    );
}

#[tokio::test]
async fn scram_logs_in_with_the_keys_that_were_offered() {
    let world = World::start("").await;
    let prove = async |user: &str, proven| {
        let mut session = world.session();
        let hash = ScramHash::Sha256;
        let request = ScramRequest {
            user: user.to_owned(),
            hash,
        };
        let offer = session.scram_keys(&client(), &request).await.unwrap();
        let login = login(Mechanism::Scram(hash), user, Evidence::Scram(proven));
        let verdict = shown(session.login(&client(), &login).await);
        (offer.keys.len(), verdict)
    };
    let ann = "ann@example.org";
    assert_eq!(prove(ann, Some(0)).await, (1, ann.to_owned()));
    assert_eq!(prove(ann, None).await, (1, "535 5.7.8".to_owned()));
    let nobody = "nobody@example.org";
    assert_eq!(prove(nobody, None).await, (0, "535 5.7.8".to_owned()));
    let disabled = prove("bob@example.org", Some(0)).await;
    assert_eq!(disabled, (1, "525 5.7.13".to_owned()));
    let wrong = prove("bob@example.org", None).await;
    assert_eq!(wrong, (1, "535 5.7.8".to_owned()));
    // A proof without an offer before it.
    let stray = login(
        Mechanism::Scram(ScramHash::Sha1),
        ann,
        Evidence::Scram(Some(0)),
    );
    assert_eq!(world.log_in(&stray).await, "535 5.7.8");
}

async fn offer(
    session: &mut SubmissionSession,
    client: &Client,
    user: &str,
) -> Result<ScramOffer, Reply> {
    let request = ScramRequest {
        user: user.to_owned(),
        hash: ScramHash::Sha256,
    };
    session.scram_keys(client, &request).await
}

#[tokio::test]
async fn the_spellings_of_a_login_have_one_salt_whether_it_exists_or_not() {
    let world = World::start("").await;
    let salt = async |user: &str| {
        let offer = offer(&mut world.session(), &client(), user).await;
        offer.unwrap().salt
    };
    let spellings = |local: &str| {
        [
            format!("{local}@example.org"),
            format!("{}@Example.ORG", local.to_uppercase()),
            format!("{local}+1@example.org"),
            format!("\"{local}\"@example.org"),
        ]
    };
    for local in ["ann", "nobody"] {
        let plain = salt(&format!("{local}@example.org")).await;
        for user in spellings(local) {
            assert_eq!(salt(&user).await, plain, "{user}");
        }
    }
    assert_ne!(
        salt("ann@example.org").await,
        salt("nobody@example.org").await
    );
    // A domain in Unicode and in A-labels.
    let (unicode, ascii) = ("x@b\u{fc}cher.example", "x@xn--bcher-kva.example");
    assert_eq!(salt(unicode).await, salt(ascii).await);
    // Failures of all spellings count together, too.
    for local in ["ann", "nobody"] {
        let world = World::start("").await;
        for user in spellings(local).iter().cycle().take(10) {
            assert_eq!(world.log_in(&password(user, "wrong")).await, "535 5.7.8");
        }
        let user = format!("{local}+2@example.org");
        assert_eq!(world.log_in(&password(&user, "wrong")).await, "454 4.7.0");
    }
}

#[tokio::test]
async fn an_offer_without_a_proof_is_a_failed_login() {
    for user in ["ann@example.org", "nobody@example.org"] {
        let world = World::start("").await;
        // In one session the next offer shows it, and at its end the session.
        let mut session = world.session();
        for _ in 0..9 {
            offer(&mut session, &client(), user).await.unwrap();
        }
        drop(session);
        offer(&mut world.session(), &client(), user).await.unwrap();
        let refused = offer(&mut world.session(), &client(), user).await;
        assert_eq!(refused.unwrap_err().code().get(), 454, "{user}");
        let guessed = world.log_in(&password(user, "wrong")).await;
        assert_eq!(guessed, "454 4.7.0", "{user}");
    }
    // A right proof takes its offer back.
    let world = World::start("").await;
    let ann = "ann@example.org";
    let hash = ScramHash::Sha256;
    for _ in 0..12 {
        let mut session = world.session();
        offer(&mut session, &client(), ann).await.unwrap();
        let login = login(Mechanism::Scram(hash), ann, Evidence::Scram(Some(0)));
        assert_eq!(session.login(&client(), &login).await.unwrap(), ann);
    }
}

/// A client on this machine, whose answers are never late.
fn near() -> Client {
    let remote: SocketAddr = "127.0.0.1:2525".parse().unwrap();
    Client::new(SessionId::of(1), remote, remote)
}

#[tokio::test]
async fn a_session_that_only_fails_ends() {
    let world = World::start("").await;
    let ann = "ann@example.org";
    let mut session = world.session();
    // Ten failures at most count for the account. Then nothing is checked any more.
    let mut replies = Vec::new();
    for _ in 0..10 {
        let verdict = session.login(&near(), &password(ann, "wrong")).await;
        replies.push(shown(verdict));
    }
    assert_eq!(replies.pop().unwrap(), "421 4.7.0");
    assert!(replies.iter().all(|it| it == "535 5.7.8"), "{replies:?}");
    // A login that is not checked is a failure of the session, too: with a password or with SCRAM.
    let mut session = world.session();
    for times in 1..=10 {
        let verdict = match times % 2 {
            0 => session.login(&near(), &password(ann, PASSWORD)).await,
            _ => match offer(&mut session, &near(), ann).await {
                Ok(_) => panic!("no offer is made"),
                Err(reply) => Err(reply),
            },
        };
        let expected = if times < 10 { "454 4.7.0" } else { "421 4.7.0" };
        assert_eq!(shown(verdict), expected, "{times}");
    }
}

#[tokio::test]
async fn to_act_as_another_user_is_refused_as_a_wrong_password_is() {
    let world = World::start("").await;
    let refused = async |authorization: &str, text: &str| {
        let mut login = password("ann@example.org", text);
        login.authorization = authorization.to_owned();
        let verdict = world.session().login(&client(), &login).await;
        verdict.unwrap_err().to_string()
    };
    let other = refused("bob@example.org", PASSWORD).await;
    assert_eq!(other, refused("", "wrong").await);
    assert_eq!(other, refused("nobody", PASSWORD).await);
}

#[tokio::test]
async fn a_known_certificate_logs_in() {
    let world = World::start("").await;
    let store = &world.context.store;
    let key = |fingerprint: &str, account: &str, login: &str| TlsKey {
        fingerprint: fingerprint.into(),
        kind: "ed25519".into(),
        name: "laptop".into(),
        certificate: vec![1],
        account: account.into(),
        login: login.parse().unwrap(),
        created: Time(0),
        last_used: None,
    };
    for key in [
        key("of ann", "ann", "ann@example.org"),
        key("of bob", "bob", "bob@example.org"),
        // The address is another account's by now.
        key("moved", "bob", "ann@example.org"),
        key("gone", "ann", "gone@example.org"),
    ] {
        assert!(store.add_tls_key(key).await.unwrap());
    }
    for (key, acts_as, expected) in [
        ("of ann", "", "ann@example.org"),
        ("of ann", "second@example.org", "second@example.org"),
        ("of ann", "bob@example.org", "535 5.7.8"),
        ("of ann", "nobody", "535 5.7.8"),
        ("of bob", "", "525 5.7.13"),
        ("moved", "", "535 5.7.8"),
        ("gone", "", "535 5.7.8"),
        ("unknown", "", "535 5.7.8"),
    ] {
        let found = world.log_in(&certificate(key, acts_as)).await;
        assert_eq!(found, expected, "{key} {acts_as}");
    }
    let used = store.tls_key("of ann").await.unwrap().unwrap().last_used;
    assert_eq!(used, Some(world.context.clock.now()));
    let unused = store.tls_key("moved").await.unwrap().unwrap().last_used;
    assert_eq!(unused, None);
}

/// An authorization server that knows the token `good`, which stands for Ann, and tokens of
/// strangers.
async fn authorization_server() -> (String, Arc<AtomicUsize>) {
    testing::server(|request| {
        let user = |text: &str| request.contains(&format!("token={text}&"));
        testing::ok(match () {
            () if user("good") => r#"{"active": true, "username": "ann@example.org"}"#,
            () if user("spelled") => r#"{"active": true, "username": "ANN@Example.org"}"#,
            () if user("any") => r#"{"active": true, "username": "stranger@all.example"}"#,
            () if user("tail") => r#"{"active": true, "username": "ann+x@example.org"}"#,
            () if user("unproved") => {
                r#"{"active": true, "email": "ann@example.org", "email_verified": false}"#
            }
            () => r#"{"active": false}"#,
        })
    })
    .await
}

#[tokio::test]
async fn a_token_logs_in_the_user_that_it_stands_for() {
    let (url, asked) = authorization_server().await;
    let world = World::start(&format!("oauth.introspection_url = \"{url}\"")).await;
    for (user, text, expected) in [
        ("ann@example.org", "good", "ann@example.org"),
        ("second@example.org", "good", "second@example.org"),
        ("", "good", "ann@example.org"),
        ("", "spelled", "ANN@example.org"),
        // The client may name any address of the account that the token stands for.
        ("x@all.example", "good", "x@all.example"),
        ("ann+x@example.org", "good", "ann+x@example.org"),
        ("bob@example.org", "good", "535 5.7.8"),
        ("nobody@example.org", "good", "535 5.7.8"),
        ("ann@example.org", "bad", "535 5.7.8"),
        // A user of the authorization server whose name only the catch-all or the separator leads
        // to Ann.
        ("", "any", "535 5.7.8"),
        ("stranger@all.example", "any", "535 5.7.8"),
        ("", "tail", "535 5.7.8"),
        ("", "unproved", "535 5.7.8"),
    ] {
        let found = world.log_in(&token(user, text)).await;
        assert_eq!(found, expected, "{user} {text}");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 6);
    // Without an authorization server no token is good.
    let none = World::start("").await;
    assert_eq!(
        none.log_in(&token("ann@example.org", "good")).await,
        "535 5.7.8"
    );
}

/// The server gave the token out itself, so it asks nobody else.
#[tokio::test]
async fn a_mail_token_logs_in_the_account_that_it_is_for() {
    let (url, asked) = authorization_server().await;
    let world = World::start(&format!("oauth.introspection_url = \"{url}\"")).await;
    let logins = &world.context.logins;
    let ann = Address::parse("ann@example.org").unwrap();
    let now = world.context.clock.now();
    let give = async |kind| {
        logins
            .give_token("ann", &ann, kind, now)
            .await
            .unwrap()
            .text
    };
    let (mail, user) = (
        give(MailTokenKind::Mail).await,
        give(MailTokenKind::User).await,
    );
    for (name, text, expected) in [
        ("ann@example.org", mail.as_str(), "ann@example.org"),
        ("second@example.org", &mail, "second@example.org"),
        ("", &mail, "ann@example.org"),
        ("bob@example.org", &mail, "535 5.7.8"),
        ("ann@example.org", &user, "535 5.7.8"),
        ("ann@example.org", "prm_unknown", "535 5.7.8"),
        ("ann@example.org", "prk_1_unknown", "535 5.7.8"),
    ] {
        let found = world.log_in(&token(name, text)).await;
        assert_eq!(found, expected, "{name} {text}");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn an_authorization_server_that_is_down_is_nobodys_failure() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", closed.local_addr().unwrap());
    drop(closed);
    let world = World::start(&format!("oauth.introspection_url = \"{url}\"")).await;
    let ann = "ann@example.org";
    for _ in 0..12 {
        assert_eq!(world.log_in(&token(ann, "good")).await, "454 4.7.0");
    }
    assert_eq!(world.log_in(&password(ann, PASSWORD)).await, ann);
    // Bad tokens and wrong passwords count together.
    let (url, _) = authorization_server().await;
    let world = World::start(&format!("oauth.introspection_url = \"{url}\"")).await;
    for _ in 0..10 {
        assert_eq!(world.log_in(&token(ann, "bad")).await, "535 5.7.8");
    }
    assert_eq!(world.log_in(&password(ann, PASSWORD)).await, "454 4.7.0");
    assert_eq!(world.log_in(&token(ann, "good")).await, "454 4.7.0");
}

#[tokio::test]
async fn an_unknown_recipient_of_ours_is_refused_at_once() {
    let world = World::start("").await;
    let mut session = world.session();
    let login = password("ann@example.org", PASSWORD);
    session.login(&client(), &login).await.unwrap();
    let mail = MailFrom {
        reverse_path: "ann@example.org".parse().unwrap(),
        size: None,
        body: postrider_smtp::BodyType::SevenBit,
        smtputf8: false,
        require_tls: false,
        ret: None,
        envid: None,
        delivery: Default::default(),
    };
    session.mail(&client(), &mail).await.unwrap();
    let transaction = Transaction {
        mail,
        recipients: Vec::new(),
    };
    for (to, expected) in [
        ("bob@example.org", ""),
        ("x@remote.test", ""),
        ("x@[192.0.2.1]", ""),
        // A route leads to another server, which knows its own recipients.
        ("x@routed.example", ""),
        (
            "nobody@example.org",
            "550 5.1.1 there is no nobody@example.org here",
        ),
    ] {
        let rcpt = RcptTo {
            forward_path: ForwardPath::Mailbox(to.parse().unwrap()),
            notify: None,
            orcpt: None,
        };
        let verdict = session.rcpt(&client(), &transaction, &rcpt).await;
        let shown = verdict.map_or_else(|reply| reply.to_string(), |()| String::new());
        assert_eq!(shown, expected, "{to}");
    }
    let mut mail = transaction.mail;
    mail.delivery.hold = Some(Hold::For(61 * 86_400));
    let refused = session.mail(&client(), &mail).await.unwrap_err();
    assert_eq!(refused.code().get(), 554);
}

#[tokio::test]
async fn a_connection_counts_before_its_handshake_and_once() {
    let world = World::start("").await;
    for _ in 0..300 {
        let mut session = world.session();
        session.connecting(&client()).unwrap();
        session.greeting(&client()).await.unwrap();
    }
    let refused = world.session().connecting(&client()).unwrap_err();
    assert_eq!(refused.reason(), Some("too_many_connections"));
    let refused = world.session().greeting(&client()).await.unwrap_err();
    assert_eq!(refused.reason(), Some("too_many_connections"));
}
