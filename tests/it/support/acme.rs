//! A CA that speaks ACME (RFC 8555) on loopback. It checks the names by connecting to the server of
//! the test, and looks at no signature.

use std::{
    collections::HashMap,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path as Part, State},
    http::{HeaderMap, HeaderValue, StatusCode, header::LOCATION},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use postrider_store::{Clock, ManualClock};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, IsCa, Issuer, KeyPair,
    date_time_ymd,
};
use rustls::pki_types::{CertificateSigningRequestDer, PrivateKeyDer};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_rustls::TlsAcceptor;

use super::{
    patience::patiently,
    tls::{Hello, handshake},
};

const PROBLEM: &str = "urn:ietf:params:acme:error:";

/// A refusal of each new order.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The name of the problem.
    pub problem: &'static str,
    /// The text for people.
    pub detail: &'static str,
    /// The Retry-After field, in seconds.
    pub retry_after: Option<u64>,
}

/// What happened at the CA so far.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The number of accounts.
    pub accounts: usize,
    /// The names of orders, refused ones too.
    pub ordered: Vec<String>,
    /// The names of certificates with the kind of the check.
    pub issued: Vec<(String, String)>,
}

/// A CA.
pub struct Ca {
    /// The URL of the directory.
    pub directory: String,
    inner: Arc<Inner>,
}

struct Inner {
    base: String,
    issuer: Issuer<'static, KeyPair>,
    root: String,
    clock: ManualClock,
    /// Where the server of the test answers: by TLS, and by HTTP.
    server: watch::Sender<Option<(SocketAddr, SocketAddr)>>,
    state: Mutex<Inside>,
    seen: watch::Sender<Seen>,
}

#[derive(Default)]
struct Inside {
    /// The kinds of checks that are offered.
    kinds: Vec<&'static str>,
    refusal: Option<Refusal>,
    thumbprint: String,
    orders: HashMap<usize, Order>,
}

#[derive(Clone, Default)]
struct Order {
    name: String,
    status: &'static str,
    kind: String,
    error: Option<Value>,
    chain: String,
}

impl Ca {
    /// Starts a CA. Its certificate is in `root.pem` of the folder.
    pub async fn start(dir: &Path, clock: &ManualClock) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!(
            "https://localhost:{}",
            listener.local_addr().unwrap().port()
        );
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(dir.join("root.pem"), certificate.pem()).unwrap();
        // The certificate of a CA is none for a server.
        let issuer = Issuer::new(params, key);
        let (own_key, own) = (KeyPair::generate().unwrap(), ["localhost".to_owned()]);
        let own = CertificateParams::new(own)
            .unwrap()
            .signed_by(&own_key, &issuer)
            .unwrap();
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(
            rustls::crypto::aws_lc_rs::default_provider(),
        ))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![own.der().clone()],
            PrivateKeyDer::try_from(own_key.serialize_der()).unwrap(),
        )
        .unwrap();
        let inner = Arc::new(Inner {
            base: base.clone(),
            issuer,
            root: certificate.pem(),
            clock: clock.clone(),
            server: watch::Sender::new(None),
            state: Mutex::new(Inside {
                kinds: vec!["tls-alpn-01", "http-01"],
                ..Inside::default()
            }),
            seen: watch::Sender::new(Seen::default()),
        });
        tokio::spawn(serve(
            listener,
            TlsAcceptor::from(Arc::new(config)),
            router(&inner),
        ));
        Self {
            directory: format!("{base}/directory"),
            inner,
        }
    }

    /// From now on the CA checks names at these addresses. Until then it waits.
    pub fn check_at(&self, tls: SocketAddr, http: SocketAddr) {
        self.inner.server.send_replace(Some((tls, http)));
    }

    /// Offers checks of these kinds only.
    pub fn offer(&self, kinds: &[&'static str]) {
        self.inner.inside().kinds = kinds.to_vec();
    }

    /// Refuses each order, or none any more.
    pub fn refuse(&self, refusal: Option<Refusal>) {
        self.inner.inside().refusal = refusal;
    }

    /// Waits until what happened is as wanted.
    pub async fn until(&self, what: &str, wanted: impl Fn(&Seen) -> bool) -> Seen {
        let mut seen = self.inner.seen.subscribe();
        let found = seen.wait_for(|seen| wanted(seen));
        patiently(what, found).await.unwrap().clone()
    }
}

impl Inner {
    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.state.lock().unwrap()
    }

    fn order(&self, number: usize) -> Order {
        self.inside().orders[&number].clone()
    }

    fn state_of(&self, number: usize) -> Value {
        let (base, order) = (&self.base, self.order(number));
        let mut state = json!({
            "status": order.status,
            "identifiers": [{"type": "dns", "value": order.name}],
            "authorizations": [format!("{base}/authorization/{number}")],
            "finalize": format!("{base}/finalize/{number}"),
        });
        if order.status == "valid" {
            state["certificate"] = format!("{base}/certificate/{number}").into();
        }
        state
    }

    fn challenge(&self, number: usize, kind: &str) -> Value {
        let order = self.order(number);
        let base = &self.base;
        let status = match order.status {
            "pending" | "invalid" => order.status,
            _ => "valid",
        };
        let mut challenge = json!({
            "type": kind,
            "url": format!("{base}/challenge/{number}/{kind}"),
            "token": format!("token-{number}"),
            "status": status,
        });
        if let Some(error) = order.error {
            challenge["error"] = error;
        }
        challenge
    }

    /// Connects to the server of the test. The error is the text of a problem.
    async fn check(&self, number: usize, kind: &str) -> Result<(), String> {
        let mut server = self.server.subscribe();
        let (tls, http) = server.wait_for(Option::is_some).await.unwrap().unwrap();
        let order = self.order(number);
        let thumbprint = self.inside().thumbprint.clone();
        let wanted = format!("token-{number}.{thumbprint}");
        if kind == "http-01" {
            let url = format!("http://{http}/.well-known/acme-challenge/token-{number}");
            let asked = reqwest::Client::new()
                .get(url)
                .header("host", &order.name)
                .send()
                .await;
            let text = asked.unwrap().text().await.unwrap();
            return if text == wanted {
                Ok(())
            } else {
                Err(format!("found {text:?}"))
            };
        }
        let hello = Hello {
            name: Some(&order.name),
            alpn: &[b"acme-tls/1"],
        };
        let stream = TcpStream::connect(tls)
            .await
            .map_err(|error| error.to_string())?;
        let stream = handshake(Box::new(stream), hello)
            .await
            .map_err(|error| error.to_string())?;
        let (_, connection) = stream.get_ref();
        let certificate = connection.peer_certificates().unwrap()[0].to_vec();
        let (_, parsed) = x509_parser::parse_x509_certificate(&certificate).unwrap();
        let mut extensions = parsed.extensions().iter();
        let proof = extensions.find(|it| it.oid.to_id_string() == "1.3.6.1.5.5.7.1.31");
        let digest = Sha256::digest(wanted);
        match proof {
            Some(proof) if proof.critical && proof.value[2..] == digest[..] => Ok(()),
            _ => Err("the certificate has no proof".to_owned()),
        }
    }

    /// A certificate that began long ago, and ends 90 days after the time of the test.
    fn issue(&self, request: &[u8]) -> String {
        let request = CertificateSigningRequestDer::from(request);
        let mut request = CertificateSigningRequestParams::from_der(&request).unwrap();
        let now = u64::try_from(self.clock.now().0 / 1_000_000).unwrap();
        let days = |days: u64| Duration::from_secs(days * 24 * 3600);
        request.params.not_before = date_time_ymd(2020, 1, 1);
        request.params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(now) + days(90);
        let issued = request.signed_by(&self.issuer).unwrap();
        format!("{}{}", issued.pem(), self.root)
    }
}

type Shared = State<Arc<Inner>>;

fn router(inner: &Arc<Inner>) -> Router {
    let nonce = axum::middleware::map_response(async |mut response: Response| {
        let fields = response.headers_mut();
        fields.insert("replay-nonce", HeaderValue::from_static("bm9uY2U"));
        response
    });
    Router::new()
        .route("/directory", get(directory))
        .route("/nonce", get(async || ()))
        .route("/account", post(account))
        .route("/order", post(new_order))
        .route("/order/{number}", post(order))
        .route("/authorization/{number}", post(authorization))
        .route("/challenge/{number}/{kind}", post(challenge))
        .route("/finalize/{number}", post(finalize))
        .route("/certificate/{number}", post(certificate))
        .layer(nonce)
        .with_state(Arc::clone(inner))
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, router: Router) {
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, router) = (acceptor.clone(), router.clone());
        tokio::spawn(async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                let service = TowerToHyperService::new(router);
                let http = hyper::server::conn::http1::Builder::new();
                let _ = http.serve_connection(TokioIo::new(stream), service).await;
            }
        });
    }
}

/// The parts of a JWS (RFC 8555 §6.2).
fn parts(body: &Bytes) -> (Value, Value) {
    let body: Value = serde_json::from_slice(body).unwrap();
    let part = |name: &str| {
        let bytes = URL_SAFE_NO_PAD
            .decode(body[name].as_str().unwrap())
            .unwrap();
        serde_json::from_slice(&bytes).unwrap_or_default()
    };
    (part("protected"), part("payload"))
}

async fn directory(State(ca): Shared) -> Json<Value> {
    let base = &ca.base;
    Json(json!({
        "newNonce": format!("{base}/nonce"),
        "newAccount": format!("{base}/account"),
        "newOrder": format!("{base}/order"),
    }))
}

async fn account(State(ca): Shared, body: Bytes) -> Response {
    let (protected, payload) = parts(&body);
    assert_eq!(payload["termsOfServiceAgreed"], true);
    let jwk = |name: &str| protected["jwk"][name].as_str().unwrap().to_owned();
    let [crv, kty, x, y] = ["crv", "kty", "x", "y"].map(jwk);
    let text = format!(r#"{{"crv":"{crv}","kty":"{kty}","x":"{x}","y":"{y}"}}"#);
    ca.inside().thumbprint = URL_SAFE_NO_PAD.encode(Sha256::digest(text));
    ca.seen.send_modify(|seen| seen.accounts += 1);
    let location = [(LOCATION, format!("{}/account/1", ca.base))];
    (
        StatusCode::CREATED,
        location,
        Json(json!({"status": "valid"})),
    )
        .into_response()
}

async fn new_order(State(ca): Shared, body: Bytes) -> Response {
    let (_, payload) = parts(&body);
    let name = payload["identifiers"][0]["value"]
        .as_str()
        .unwrap()
        .to_owned();
    ca.seen.send_modify(|seen| seen.ordered.push(name.clone()));
    if let Some(refusal) = ca.inside().refusal.clone() {
        let problem = json!({
            "type": format!("{PROBLEM}{}", refusal.problem),
            "detail": refusal.detail,
        });
        let mut fields = HeaderMap::new();
        fields.insert(
            "content-type",
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(seconds) = refusal.retry_after {
            fields.insert("retry-after", seconds.into());
        }
        let status = StatusCode::TOO_MANY_REQUESTS;
        return (status, fields, problem.to_string()).into_response();
    }
    let number = ca.seen.borrow().ordered.len();
    let order = Order {
        name,
        status: "pending",
        ..Order::default()
    };
    ca.inside().orders.insert(number, order);
    let location = [(LOCATION, format!("{}/order/{number}", ca.base))];
    (StatusCode::CREATED, location, Json(ca.state_of(number))).into_response()
}

async fn order(State(ca): Shared, Part(number): Part<usize>) -> Json<Value> {
    Json(ca.state_of(number))
}

async fn authorization(State(ca): Shared, Part(number): Part<usize>) -> Json<Value> {
    let kinds = ca.inside().kinds.clone();
    let challenges: Vec<Value> = kinds
        .iter()
        .map(|kind| ca.challenge(number, kind))
        .collect();
    let order = ca.order(number);
    let status = match order.status {
        "ready" => "valid",
        status => status,
    };
    Json(json!({
        "status": status,
        "identifier": {"type": "dns", "value": order.name},
        "challenges": challenges,
    }))
}

async fn challenge(State(ca): Shared, Part((number, kind)): Part<(usize, String)>) -> Json<Value> {
    let checking = Arc::clone(&ca);
    tokio::spawn(async move {
        let checked = checking.check(number, &kind).await;
        let mut inside = checking.inside();
        let order = inside.orders.get_mut(&number).unwrap();
        order.kind = kind;
        order.status = match checked {
            Ok(()) => "ready",
            Err(detail) => {
                let problem = format!("{PROBLEM}unauthorized");
                order.error = Some(json!({"type": problem, "detail": detail}));
                "invalid"
            }
        };
    });
    Json(ca.challenge(number, "any"))
}

async fn finalize(State(ca): Shared, Part(number): Part<usize>, body: Bytes) -> Json<Value> {
    let (_, payload) = parts(&body);
    let request = URL_SAFE_NO_PAD
        .decode(payload["csr"].as_str().unwrap())
        .unwrap();
    let chain = ca.issue(&request);
    if let Some(order) = ca.inside().orders.get_mut(&number) {
        order.status = "valid";
        order.chain = chain;
    }
    Json(ca.state_of(number))
}

async fn certificate(State(ca): Shared, Part(number): Part<usize>) -> String {
    let order = ca.order(number);
    ca.seen
        .send_modify(|seen| seen.issued.push((order.name, order.kind)));
    order.chain
}
