//! A connection of the SMTP load driver: plain, with TLS, or upgraded with STARTTLS.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use memchr::memchr;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Job;
use crate::load::{proxy_header, within};

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A connection that is ready for MAIL.
pub(super) struct Connection {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// The last reply, all its lines.
    last: Vec<u8>,
    /// Text and envelope, joined for one write.
    joined: Vec<u8>,
    /// The longest wait for a reply.
    timeout: Duration,
}

impl Connection {
    /// Connects, and says EHLO. Upgrades and logs in if the job says so.
    pub(super) async fn open(job: &Job) -> io::Result<Self> {
        within(job.args.common.timeout, Self::opened(job)).await
    }

    async fn opened(job: &Job) -> io::Result<Self> {
        let args = &job.args;
        let timeout = args.common.timeout;
        let mut tcp = TcpStream::connect((args.host.as_str(), args.port)).await?;
        tcp.set_nodelay(true)?;
        if args.proxy {
            let client = job.clients.fetch_add(1, Ordering::Relaxed);
            tcp.write_all(proxy_header(client).as_bytes()).await?;
        }
        let mut connection = match &job.tls {
            Some(connector) if args.tls => Self::new(tls::connect(connector, tcp).await?, timeout),
            Some(connector) => {
                let mut clear = Clear::new(tcp);
                clear.expect(None, 220).await?;
                clear.expect(Some("EHLO load.example\r\n"), 250).await?;
                clear.expect(Some("STARTTLS\r\n"), 220).await?;
                Self::new(tls::connect(connector, clear.tcp).await?, timeout)
            }
            None => Self::new(tcp, timeout),
        };
        if !args.starttls {
            connection.expect(220).await?;
        }
        connection.write(b"EHLO load.example\r\n").await?;
        connection.expect(250).await?;
        if let (Some(login), Some(password)) = (&args.login, &args.password) {
            let token = BASE64.encode(format!("\0{login}\0{password}"));
            connection
                .write(format!("AUTH PLAIN {token}\r\n").as_bytes())
                .await?;
            connection.expect(235).await?;
        }
        Ok(connection)
    }

    fn new(stream: impl Stream + 'static, timeout: Duration) -> Self {
        Self {
            stream: Box::new(stream),
            buffer: vec![0; 8192],
            start: 0,
            end: 0,
            last: Vec::with_capacity(256),
            joined: Vec::new(),
            timeout,
        }
    }

    /// Writes bytes.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        // TLS keeps the bytes that the socket did not take. Without a flush the server might never
        // see the command whose reply we wait for.
        self.stream.flush().await
    }

    /// Writes two pieces in one write.
    pub(super) async fn write_two(&mut self, first: &[u8], second: &[u8]) -> io::Result<()> {
        self.joined.clear();
        self.joined.extend_from_slice(first);
        self.joined.extend_from_slice(second);
        self.stream.write_all(&self.joined).await?;
        self.stream.flush().await
    }

    /// Reads a whole reply, and returns its code. 421 is an error: the server then closes the
    /// connection.
    pub(super) async fn reply(&mut self) -> io::Result<u16> {
        within(self.timeout, self.read_reply()).await
    }

    async fn read_reply(&mut self) -> io::Result<u16> {
        self.last.clear();
        loop {
            let filled = self.buffer.get(self.start..self.end).unwrap_or_default();
            let Some(at) = memchr(b'\n', filled) else {
                self.fill().await?;
                continue;
            };
            let line = filled.get(..=at).unwrap_or_default();
            self.start += at + 1;
            self.last.extend_from_slice(line);
            let digits = line
                .get(..3)
                .and_then(|code| std::str::from_utf8(code).ok());
            let Some(code) = digits.and_then(|digits| digits.parse().ok()) else {
                return Err(io::Error::other(format!("no reply: {}", self.last_text())));
            };
            if line.get(3) == Some(&b'-') {
                continue;
            }
            if code == 421 {
                return Err(io::Error::other(self.last_text()));
            }
            return Ok(code);
        }
    }

    async fn fill(&mut self) -> io::Result<()> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let room = self.buffer.get_mut(self.end..).unwrap_or_default();
        if room.is_empty() {
            return Err(io::Error::other("a reply line longer than 8 KiB"));
        }
        let read = self.stream.read(room).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.end += read;
        Ok(())
    }

    async fn expect(&mut self, code: u16) -> io::Result<()> {
        if self.reply().await? == code {
            return Ok(());
        }
        Err(io::Error::other(self.last_text()))
    }

    /// The text of the last reply.
    pub(super) fn last_text(&self) -> String {
        String::from_utf8_lossy(&self.last).trim_end().to_owned()
    }

    /// Says QUIT and waits for the answer. So the end of this connection does not fall into the
    /// time of the next one.
    pub(super) async fn quit(mut self) {
        if self.write(b"QUIT\r\n").await.is_ok() {
            let _ = self.reply().await;
        }
    }
}

/// The part of a connection before STARTTLS. It must not read beyond the reply to STARTTLS.
struct Clear {
    tcp: TcpStream,
}

impl Clear {
    fn new(tcp: TcpStream) -> Self {
        Self { tcp }
    }

    async fn expect(&mut self, command: Option<&str>, code: u16) -> io::Result<()> {
        if let Some(command) = command {
            self.tcp.write_all(command.as_bytes()).await?;
        }
        loop {
            let mut line = Vec::new();
            // One byte at a time. Only a few lines are read in this way.
            while !line.ends_with(b"\n") {
                line.push(self.tcp.read_u8().await?);
            }
            if line.get(3) == Some(&b'-') {
                continue;
            }
            if line.starts_with(code.to_string().as_bytes()) {
                return Ok(());
            }
            return Err(io::Error::other(
                String::from_utf8_lossy(&line).trim_end().to_owned(),
            ));
        }
    }
}

/// TLS that trusts every certificate: the measured server is on this machine.
pub(super) mod tls {
    use super::{Arc, ServerName, TcpStream, TlsConnector, io};

    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::crypto::{CryptoProvider, aws_lc_rs};
    use rustls::pki_types::{CertificateDer, UnixTime};
    use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

    /// A connector that trusts every certificate.
    pub(in crate::load::smtp) fn connector() -> TlsConnector {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = Arc::new(TrustAll(Arc::clone(&provider)));
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap_or_else(|_| unreachable!("the default provider has the default versions"));
        let config = builder
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        TlsConnector::from(Arc::new(config))
    }

    pub(super) async fn connect(
        connector: &TlsConnector,
        tcp: TcpStream,
    ) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        connector.connect(name, tcp).await
    }

    #[derive(Debug)]
    struct TrustAll(Arc<CryptoProvider>);

    impl ServerCertVerifier for TrustAll {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.0.signature_verification_algorithms.supported_schemes()
        }
    }
}
