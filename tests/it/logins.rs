//! The ways to log in for submission, and what each refusal says.

use std::{num::NonZeroU32, sync::Arc};

use aws_lc_rs::{digest, hmac, pbkdf2};
use axum::{Router, routing::post};
use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::{
    ClientConfig,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
    sign::{CertifiedKey, SingleCertAndKey},
};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use crate::support::{
    PASSWORD, Setup, World, base64,
    client::Client,
    message, program,
    tls::{Hello, client_config},
};

const USER: &str = "app@example.org";

/// A session over TLS that was greeted, and the value that its logins can be bound to
/// (`tls-exporter`, RFC 9266).
async fn over_tls(world: &World, config: Arc<ClientConfig>) -> (Client, [u8; 32]) {
    let address = world.server.address("submissions").unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(config).connect(name, stream);
    let stream = stream.await.unwrap();
    let (_, connection) = stream.get_ref();
    let exported =
        connection.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(b""));
    let client = Client::over(Box::new(stream)).greeted().await;
    (client, exported.unwrap())
}

fn without_certificate() -> Arc<ClientConfig> {
    client_config(Hello {
        name: Some("localhost"),
        alpn: &[],
    })
}

/// As [`over_tls`] without a certificate, after EHLO.
async fn session(world: &World) -> Client {
    let (mut client, _) = over_tls(world, without_certificate()).await;
    client.expect("EHLO client.test", "250").await;
    client
}

fn plain(user: &str, password: &str) -> String {
    let secret = base64(format!("\0{user}\0{password}").as_bytes());
    format!("AUTH PLAIN {secret}")
}

/// What a challenge has.
fn challenge(reply: &str) -> String {
    let text = reply.strip_prefix("334 ").unwrap();
    String::from_utf8(STANDARD.decode(text).unwrap()).unwrap()
}

/// Logs in with SCRAM-SHA-256 up to the answer to the proof. `bound` is the name and the value of
/// the channel binding. Gives what the answer has, and what it must have if all is right.
async fn scram(
    client: &mut Client,
    user: &str,
    password: &str,
    bound: Option<(&str, &[u8])>,
) -> (String, String) {
    let (plus, header, value) = match bound {
        Some((name, value)) => ("-PLUS", format!("p={name},,"), value),
        None => ("", "n,,".to_owned(), &[][..]),
    };
    let first = format!("n={user},r=client");
    let begin = base64(format!("{header}{first}").as_bytes());
    let begin = format!("AUTH SCRAM-SHA-256{plus} {begin}");
    let offer = challenge(&client.expect(&begin, "334 ").await);
    let mut fields = offer.split(',').map(|field| &field[2..]);
    let mut field = || fields.next().unwrap();
    let (nonce, salt, rounds) = (field(), field(), field());
    assert!(nonce.starts_with("client") && nonce.len() > 20, "{offer}");
    let salt = STANDARD.decode(salt).unwrap();
    let rounds: NonZeroU32 = rounds.parse().unwrap();

    let header = base64(&[header.as_bytes(), value].concat());
    let last = format!("c={header},r={nonce}");
    let signed = format!("{first},{offer},{last}");
    let mut salted = [0; 32];
    let hash = pbkdf2::PBKDF2_HMAC_SHA256;
    pbkdf2::derive(hash, rounds, &salt, password.as_bytes(), &mut salted);
    let sign = |key: &[u8], text: &[u8]| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        hmac::sign(&key, text).as_ref().to_vec()
    };
    let client_key = sign(&salted, b"Client Key");
    let stored_key = digest::digest(&digest::SHA256, &client_key);
    let signature = sign(stored_key.as_ref(), signed.as_bytes());
    let proof = client_key.iter().zip(signature).map(|(a, b)| a ^ b);
    let proof = base64(&proof.collect::<Vec<u8>>());
    let server_key = sign(&salted, b"Server Key");
    let expected = format!("v={}", base64(&sign(&server_key, signed.as_bytes())));
    let response = base64(format!("{last},p={proof}").as_bytes());
    let answer = client.command(&response).await;
    let answer = match answer.starts_with("334 ") {
        true => challenge(&answer),
        false => answer,
    };
    (answer, expected)
}

/// The session is logged in: it takes a message of the account.
async fn submits(client: &mut Client) {
    let text = message("logged in");
    let reply = client.submit(USER, &["rcpt@remote.test"], &text).await;
    assert!(reply.starts_with("250 2.0.0"), "{reply}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scram_proves_the_password_with_and_without_a_bound_channel() {
    let world = World::start(Setup::default()).await;
    let (mut client, exported) = over_tls(&world, without_certificate()).await;
    client.expect("EHLO client.test", "250").await;
    let bound = Some(("tls-exporter", &exported[..]));
    let (answer, expected) = scram(&mut client, USER, PASSWORD, bound).await;
    assert_eq!(answer, expected);
    client.expect("", "235 2.7.0").await;
    submits(&mut client).await;

    let mut client = session(&world).await;
    // The value of another connection.
    let (answer, _) = scram(&mut client, USER, PASSWORD, bound).await;
    assert_eq!(answer, "e=channel-bindings-dont-match");
    client.expect("", "535 5.7.8").await;
    let (answer, _) = scram(&mut client, USER, "wrong password", None).await;
    assert_eq!(answer, "e=invalid-proof");
    client.expect("", "535 5.7.8").await;
    let (answer, expected) = scram(&mut client, USER, PASSWORD, None).await;
    assert_eq!(answer, expected);
    client.expect("", "235 2.7.0").await;
    submits(&mut client).await;
    world.server.stop().await;
}

/// A client that shows a new certificate, and the certificate as PEM.
fn with_certificate() -> (Arc<ClientConfig>, String) {
    let made = rcgen::generate_simple_self_signed(["client.test".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let certificate: CertificateDer<'static> = made.cert.der().clone();
    let shown = CertifiedKey::from_der(vec![certificate], key, &default_provider()).unwrap();
    let mut config = (*without_certificate()).clone();
    config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(shown));
    (Arc::new(config), made.cert.pem())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_logs_in_as_long_as_it_is_known() {
    let world = World::start(Setup::default()).await;
    let conf = world.dir.path().join("postrider.conf");
    let (config, pem) = with_certificate();
    let file = world.dir.path().join("client.pem");
    std::fs::write(&file, pem).unwrap();
    let connect = async || {
        let (mut client, _) = over_tls(&world, Arc::clone(&config)).await;
        let ehlo = client.expect("EHLO client.test", "250").await;
        assert!(ehlo.contains("AUTH EXTERNAL SCRAM-SHA-256-PLUS "), "{ehlo}");
        client
    };
    let run = async |arguments: &[&str]| {
        let output = program::run(&conf, arguments).await;
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    };
    connect().await.expect("AUTH EXTERNAL =", "535 5.7.8").await;
    let added = run(&["tlspubkey", "add", USER, file.to_str().unwrap()]).await;
    let mut client = connect().await;
    let other = base64(b"other@example.org");
    client
        .expect(&format!("AUTH EXTERNAL {other}"), "535 5.7.8")
        .await;
    client.expect("AUTH EXTERNAL =", "235 2.7.0").await;
    submits(&mut client).await;
    let mut client = connect().await;
    client.expect("AUTH EXTERNAL", "334").await;
    client.expect(&base64(USER.as_bytes()), "235 2.7.0").await;
    run(&["tlspubkey", "rm", added.trim()]).await;
    connect().await.expect("AUTH EXTERNAL =", "535 5.7.8").await;
    world.server.stop().await;
}

const TOKEN: &str = "a-good-token";

/// An authorization server that knows one token. Gives the URL to ask.
async fn authorization_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/introspect", listener.local_addr().unwrap());
    let answer = async |body: String| {
        let token = format!("token={TOKEN}");
        let known = body.split('&').any(|field| field == token);
        let good = serde_json::json!({"active": true, "username": USER, "scope": "a mail"});
        match known {
            true => axum::Json(good),
            false => axum::Json(serde_json::json!({"active": false})),
        }
    };
    let router = Router::new().route("/introspect", post(answer));
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_logs_in_if_the_authorization_server_knows_it() {
    let url = authorization_server().await;
    let setup = Setup {
        statics: format!("\n[oauth]\nintrospection_url = \"{url}\"\nscope = \"mail\"\n"),
        ..Setup::default()
    };
    let world = World::start(setup).await;
    let bearer = |token: &str| {
        let response = format!("n,a={USER},\x01host=localhost\x01auth=Bearer {token}\x01\x01");
        format!("AUTH OAUTHBEARER {}", base64(response.as_bytes()))
    };
    let xoauth2 = |token: &str| {
        let response = format!("user={USER}\x01auth=Bearer {token}\x01\x01");
        format!("AUTH XOAUTH2 {}", base64(response.as_bytes()))
    };
    let bearer_says = r#"{"status":"invalid_token","scope":"mail"}"#;
    let xoauth2_says = r#"{"status":"401","schemes":"bearer"}"#;
    for (wrong, says, end, right) in [
        (bearer("wrong"), bearer_says, "AQ==", bearer(TOKEN)),
        (xoauth2("wrong"), xoauth2_says, "", xoauth2(TOKEN)),
    ] {
        let mut client = session(&world).await;
        let ehlo = client.expect("EHLO client.test", "250").await;
        assert!(ehlo.contains(" OAUTHBEARER XOAUTH2"), "{ehlo}");
        let error = challenge(&client.expect(&wrong, "334 ").await);
        assert_eq!(error, says);
        client.expect(end, "535 5.7.8").await;
        client.expect(&right, "235 2.7.0").await;
        submits(&mut client).await;
    }
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_token_of_ours_logs_in_until_it_is_revoked() {
    let setup = Setup {
        statics: "mail_api_http = { enabled = true, port = 0 }\n[oauth]\nissuer = true\n"
            .to_owned(),
        ..Setup::default()
    };
    let world = World::start(setup).await;
    let address = world.server.address("mail_api_http").unwrap();
    let call = async |path: &str, body: &str| {
        let kind = match path.contains('/') {
            true => "application/x-www-form-urlencoded",
            false => "application/json",
        };
        let answer = reqwest::Client::new()
            .post(format!("http://{address}/api/v1/auth/{path}"))
            .basic_auth(USER, Some(PASSWORD))
            .header("content-type", kind)
            .body(body.to_owned())
            .send();
        let answer = answer.await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.json::<serde_json::Value>().await.unwrap()
    };
    let given = call("mail-token", "").await;
    let token = given["access_token"].as_str().unwrap();
    let xoauth2 = format!("user={USER}\x01auth=Bearer {token}\x01\x01");
    let xoauth2 = format!("AUTH XOAUTH2 {}", base64(xoauth2.as_bytes()));
    let mut client = session(&world).await;
    let ehlo = client.expect("EHLO client.test", "250").await;
    assert!(ehlo.contains(" OAUTHBEARER XOAUTH2"), "{ehlo}");
    client.expect(&xoauth2, "235 2.7.0").await;
    submits(&mut client).await;
    call("token/revoke", &format!("token={token}")).await;
    let mut client = session(&world).await;
    client.expect("EHLO client.test", "250").await;
    client.expect(&xoauth2, "334 ").await;
    client.expect("", "535 5.7.8").await;

    // The description is there without a login, and what nobody knows is a problem.
    let get = async |path: &str| {
        let answer = reqwest::get(format!("http://{address}/api/v1/{path}"))
            .await
            .unwrap();
        (
            answer.status().as_u16(),
            answer.json::<serde_json::Value>().await.unwrap(),
        )
    };
    let (status, described) = get("openapi.json").await;
    assert_eq!(status, 200);
    assert!(described["paths"]["/api/v1/mail/domains"].is_object());
    let (status, problem) = get("nothing").await;
    assert_eq!((status, &problem["error"]), (404, &"notFound".into()));
    // The calls about the own account are at this port too. The rest of the management API is not.
    let account = async |path: &str| {
        let request = reqwest::Client::new().get(format!("http://{address}/api/{path}"));
        let answer = request.basic_auth(USER, Some(PASSWORD)).send().await;
        answer.unwrap().status().as_u16()
    };
    assert_eq!(account("account/auth").await, 200);
    assert_eq!(account("queue/status").await, 404);
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_refusal_of_a_login_has_its_code() {
    let closed = "[accounts.closed]\ndomain = \"example.org\"\n\
                  destinations.\"closed@example.org\" = {}\nlogin_disabled = \"ask Eve\"\n";
    let setup = Setup {
        dynamics: closed.to_owned(),
        ..Setup::default()
    };
    let world = World::start(setup).await;
    let closed = world.server.ensure_password("closed", PASSWORD).await;
    closed.unwrap();

    let mut client = world.client("submission").await;
    client.expect("EHLO client.test", "250").await;
    client.expect(&plain(USER, PASSWORD), "538 5.7.11").await;

    let mut client = session(&world).await;
    client
        .expect("MAIL FROM:<app@example.org>", "530 5.7.0")
        .await;
    // Without a certificate EXTERNAL is not offered.
    for mechanism in ["CRAM-MD5", "EXTERNAL", "OAUTHBEARER"] {
        client
            .expect(&format!("AUTH {mechanism}"), "504 5.5.4")
            .await;
    }
    let no_user = format!("AUTH PLAIN {}", base64(b"no user"));
    for malformed in ["AUTH PLAIN no base64", "AUTH PLAIN =x=", &no_user] {
        client.expect(malformed, "501 5.5.").await;
    }

    let mut client = session(&world).await;
    client.expect("AUTH LOGIN", "334").await;
    client.expect("no base64", "501 5.5.2").await;
    client.expect("AUTH PLAIN", "334").await;
    client.expect("*", "501 5.7.0").await;
    let long = "A".repeat(12_288);
    client
        .expect(&format!("AUTH PLAIN {long}"), "500 5.5.6")
        .await;
    client.expect("AUTH PLAIN", "334").await;
    client.expect(&long, "500 5.5.6").await;

    let mut client = session(&world).await;
    let disabled = plain("closed@example.org", PASSWORD);
    let reply = client.expect(&disabled, "525 5.7.13").await;
    assert!(reply.ends_with("ask Eve"), "{reply}");
    let wrong = plain("closed@example.org", "wrong password");
    client.expect(&wrong, "535 5.7.8").await;

    let mut client = session(&world).await;
    let (answer, _) = scram(&mut client, "closed@example.org", PASSWORD, None).await;
    assert!(answer.starts_with("525 5.7.13"), "{answer}");
    client.expect(&plain(USER, PASSWORD), "235 2.7.0").await;
    client.expect(&plain(USER, PASSWORD), "503 5.5.1").await;
    client.expect("MAIL FROM:<app@example.org>", "250").await;
    client.expect("AUTH LOGIN", "503 5.5.1").await;
    world.server.stop().await;
}
