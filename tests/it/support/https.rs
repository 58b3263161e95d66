//! A CA of the test, and a host on a loopback port that answers over HTTPS.

use std::{net::SocketAddr, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_rustls::TlsAcceptor;

/// A CA, which is trusted where the test says so.
pub struct Ca {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    /// A new CA.
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            pem,
            issuer: Issuer::new(params, key),
        }
    }

    /// Its own certificate, in PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The TLS of a server with a certificate for these names.
    pub fn server(&self, names: &[&str]) -> Arc<ServerConfig> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(names).unwrap();
        let made = params.signed_by(&key, &self.issuer).unwrap();
        let der: CertificateDer<'static> = made.der().clone();
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![der], key)
            .unwrap();
        Arc::new(config)
    }
}

/// What a host answers.
#[derive(Clone, Debug)]
pub enum Answer {
    /// These bytes, after the request came.
    Bytes(Vec<u8>),
    /// Nothing. The connection stays open.
    Silence,
}

impl Answer {
    /// An answer with a status and a content.
    pub fn of(status: u16, body: &str) -> Self {
        let length = body.len();
        let answer = format!("HTTP/1.1 {status} x\r\nContent-Length: {length}\r\n\r\n{body}");
        Self::Bytes(answer.into_bytes())
    }
}

/// A running host. Clones are the same host.
#[derive(Clone)]
pub struct HttpsHost {
    /// Its address.
    pub address: SocketAddr,
    answer: Arc<watch::Sender<Answer>>,
    requests: Arc<watch::Sender<Vec<String>>>,
}

impl HttpsHost {
    /// Starts a host that answers each request with `answer`.
    pub async fn start(tls: Arc<ServerConfig>, answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = Self {
            address: listener.local_addr().unwrap(),
            answer: Arc::new(watch::Sender::new(answer)),
            requests: Arc::default(),
        };
        let (acceptor, running) = (TlsAcceptor::from(tls), host.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, host) = (acceptor.clone(), running.clone());
                tokio::spawn(async move {
                    // In many tests the client hangs up, so an error is no failure.
                    let _ = host.serve(acceptor, stream).await;
                });
            }
        });
        host
    }

    /// From now on, requests get this answer. So do those that have none yet.
    pub fn answer(&self, answer: Answer) {
        self.answer.send_replace(answer);
    }

    /// Waits for so many requests, and gives all.
    pub async fn requests(&self, count: usize) -> Vec<String> {
        let mut requests = self.requests.subscribe();
        let requests = requests.wait_for(|requests| requests.len() >= count).await;
        requests.unwrap().clone()
    }

    async fn serve(&self, acceptor: TlsAcceptor, stream: TcpStream) -> std::io::Result<()> {
        let mut stream = acceptor.accept(stream).await?;
        let request = read_request(&mut stream).await?;
        self.requests.send_modify(|requests| requests.push(request));
        let mut answer = self.answer.subscribe();
        let speaks = answer.wait_for(|answer| !matches!(answer, Answer::Silence));
        let bytes = match &*speaks.await.map_err(std::io::Error::other)? {
            Answer::Bytes(bytes) => bytes.clone(),
            Answer::Silence => Vec::new(),
        };
        stream.write_all(&bytes).await?;
        stream.shutdown().await
    }
}

/// The head of a request, and its content if it has a Content-Length.
async fn read_request(stream: &mut (impl AsyncReadExt + Unpin)) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&bytes).to_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let length = length.map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    bytes.extend(body);
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
