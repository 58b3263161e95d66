//! The servers that a check connects to: SMTP, HTTPS and submission, on loopback.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
};

use postrider_queue::{Dialer, Dialing};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

/// The names that the certificates are for.
const NAMES: [&str; 4] = [
    "mail.example.org",
    "smtp.example.org",
    "mta-sts.example.org",
    "autoconfig.example.org",
];

/// The year in which the certificates end. Their verification goes by the real time.
pub(super) const ENDS: i32 = 3000;

/// How the servers behave.
#[derive(Clone)]
pub(super) struct Behaviour {
    pub(super) starttls: bool,
    pub(super) certificate: Shown,
    pub(super) policy: String,
    pub(super) policy_status: u16,
    pub(super) settings_status: u16,
    /// Connections to these ports are refused.
    pub(super) refused: Vec<u16>,
}

/// The certificate that the servers show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    Good,
    /// Of an unknown CA.
    Untrusted,
    /// For other names.
    OtherName,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            starttls: true,
            certificate: Shown::Good,
            policy: "version: STSv1\nmode: enforce\nmx: mail.example.org\nmax_age: 1209600\n"
                .to_owned(),
            policy_status: 200,
            settings_status: 200,
            refused: Vec::new(),
        }
    }
}

/// The servers, and the dialer that leads to them.
#[derive(Clone)]
pub(super) struct Servers {
    shared: Arc<Shared>,
}

struct Shared {
    behaviour: Mutex<Behaviour>,
    smtp: SocketAddr,
    https: SocketAddr,
    tls: SocketAddr,
    certificates: Vec<(Shown, Arc<ServerConfig>)>,
    ca: String,
    untrusted: [u8; 32],
}

impl Servers {
    pub(super) async fn start() -> Self {
        let ca_key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&ca_key).unwrap().pem();
        let issuer = Issuer::new(params, ca_key);
        let other_key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let other = Issuer::new(params, other_key);
        let good = certificate(&issuer, &NAMES);
        let untrusted = certificate(&other, &NAMES);
        let other_name = certificate(&issuer, &["www.example.org"]);
        let listeners = [bind().await, bind().await, bind().await];
        let [smtp, https, tls] = [0, 1, 2].map(|at: usize| listeners[at].local_addr().unwrap());
        let untrusted_digest = untrusted.1;
        let shared = Arc::new(Shared {
            behaviour: Mutex::default(),
            smtp,
            https,
            tls,
            certificates: vec![
                (Shown::Good, good.0),
                (Shown::Untrusted, untrusted.0),
                (Shown::OtherName, other_name.0),
            ],
            ca,
            untrusted: untrusted_digest,
        });
        let [smtp, https, tls] = listeners;
        serve(smtp, Arc::clone(&shared), |shared, stream| async move {
            smtp_session(&shared, stream).await
        });
        serve(https, Arc::clone(&shared), |shared, stream| async move {
            https_session(&shared, stream).await
        });
        serve(tls, Arc::clone(&shared), |shared, stream| async move {
            shared.acceptor().accept(stream).await.map(drop)
        });
        Self { shared }
    }

    /// The certificate of the CA in PEM.
    pub(super) fn ca(&self) -> &str {
        &self.shared.ca
    }

    /// The digest of the key of [`Shown::Untrusted`].
    pub(super) fn untrusted_digest(&self) -> [u8; 32] {
        self.shared.untrusted
    }

    pub(super) fn behave(&self, behaviour: Behaviour) {
        *self.shared.behaviour.lock().unwrap() = behaviour;
    }

    pub(super) fn dialer(&self) -> Arc<dyn Dialer> {
        Arc::new(self.clone())
    }
}

impl Dialer for Servers {
    fn dial(&self, address: SocketAddr, _: Option<IpAddr>) -> Dialing {
        let behaviour = self.shared.behaviour();
        let target = match address.port() {
            port if behaviour.refused.contains(&port) => None,
            25 => Some(self.shared.smtp),
            443 => Some(self.shared.https),
            465 => Some(self.shared.tls),
            port => panic!("a connection to port {port}"),
        };
        Box::pin(async move {
            match target {
                Some(target) => Ok(TcpStream::connect(target).await?.into()),
                None => Err(std::io::ErrorKind::ConnectionRefused.into()),
            }
        })
    }
}

impl Shared {
    fn behaviour(&self) -> Behaviour {
        self.behaviour.lock().unwrap().clone()
    }

    fn acceptor(&self) -> TlsAcceptor {
        let shown = self.behaviour().certificate;
        let mut certificates = self.certificates.iter();
        let found = certificates.find(|(kind, _)| *kind == shown);
        TlsAcceptor::from(Arc::clone(&found.unwrap().1))
    }
}

async fn bind() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

fn serve<F: Future<Output = std::io::Result<()>> + Send + 'static>(
    listener: TcpListener,
    shared: Arc<Shared>,
    session: fn(Arc<Shared>, TcpStream) -> F,
) {
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(session(Arc::clone(&shared), stream));
        }
    });
}

/// The TLS configuration for these names, and the digest of its key.
fn certificate(issuer: &Issuer<'_, KeyPair>, names: &[&str]) -> (Arc<ServerConfig>, [u8; 32]) {
    use sha2::{Digest, Sha256};

    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.not_after = rcgen::date_time_ymd(ENDS, 1, 1);
    let key = KeyPair::generate().unwrap();
    let made = params.signed_by(&key, issuer).unwrap();
    let der: CertificateDer<'static> = made.der().clone();
    let digest = {
        let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
        Sha256::digest(parsed.public_key().raw).into()
    };
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![der], key)
        .unwrap();
    (Arc::new(config), digest)
}

async fn smtp_session(shared: &Shared, stream: TcpStream) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    stream.write_all(b"220 mail.example.org ESMTP\r\n").await?;
    if !commands(&mut stream, shared.behaviour().starttls).await? {
        return Ok(());
    }
    let stream = shared.acceptor().accept(stream.into_inner()).await?;
    commands(&mut BufReader::new(stream), false).await.map(drop)
}

/// Answers commands. True after STARTTLS.
async fn commands<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut BufReader<S>,
    starttls: bool,
) -> std::io::Result<bool> {
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(false);
        }
        let reply = match line.split_whitespace().next().unwrap_or_default() {
            "EHLO" if starttls => "250-mail.example.org\r\n250 STARTTLS\r\n",
            "EHLO" => "250 mail.example.org\r\n",
            "STARTTLS" if starttls => "220 go ahead\r\n",
            "QUIT" => "221 bye\r\n",
            _ => "500 what\r\n",
        };
        stream.write_all(reply.as_bytes()).await?;
        if reply.starts_with("220") {
            return Ok(true);
        }
    }
}

async fn https_session(shared: &Shared, stream: TcpStream) -> std::io::Result<()> {
    let mut stream = shared.acceptor().accept(stream).await?;
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => request.push(byte),
            Err(_) => return Ok(()),
        }
    }
    let request = String::from_utf8_lossy(&request).to_lowercase();
    let behaviour = shared.behaviour();
    let policy = request.starts_with("get /.well-known/mta-sts.txt ")
        && request.contains("\r\nhost: mta-sts.example.org\r\n");
    let settings = request.starts_with("get /mail/config-v1.1.xml ")
        && request.contains("\r\nhost: autoconfig.example.org\r\n");
    let (status, body) = if policy {
        (behaviour.policy_status, behaviour.policy.as_str())
    } else if settings {
        (behaviour.settings_status, "<clientConfig/>")
    } else {
        (404, "")
    };
    let length = body.len();
    let answer = format!("HTTP/1.1 {status} x\r\nContent-Length: {length}\r\n\r\n{body}");
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}
