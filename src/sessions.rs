//! The SMTP sessions of a socket: which policy each of them has.

use std::{pin::Pin, sync::Arc};

use postrider_config::Network;
use postrider_observe::{metrics::PanicIn, panics};
use postrider_receive::{LocalSession, MxRules, MxSession, SessionContext, SubmissionSession};
use postrider_smtp::{
    sasl::TlsProof,
    server::{self as smtp, Client, ServeError, SessionConfig, SessionId},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_rustls::server::TlsStream;
use tracing::debug;

use crate::{
    gate::{Door, Full},
    listener::{self, Accepted, Ends, Entrance, RefusedConnections},
    services::Service,
    tls::HandshakeFailures,
};

/// The answer of a service to a client without a place. A client that waits for TLS can read none.
pub(crate) fn refusal(service: Service) -> fn(Full) -> Vec<u8> {
    match service {
        Service::Submissions => |_| Vec::new(),
        _ => reply,
    }
}

/// The reply to a client without a place.
pub(crate) fn reply(full: Full) -> Vec<u8> {
    let text = match full {
        Full::All => "421 4.3.2 too many connections, try again later\r\n".to_owned(),
        Full::Network(network) => {
            let network = network.with_prefix();
            format!("421 4.7.0 too many connections from {network}, try again later\r\n")
        }
    };
    text.into_bytes()
}

/// The sessions of one service of a listener.
pub(crate) struct Sessions {
    pub(crate) shared: SessionContext,
    pub(crate) service: Service,
    /// The name of the listener in the configuration.
    pub(crate) listener: Arc<str>,
    pub(crate) hostname: String,
    /// The rules of the MX.
    pub(crate) rules: MxRules,
    pub(crate) config: Arc<SessionConfig>,
    pub(crate) tls: Option<Arc<rustls::ServerConfig>>,
    /// The peers that may use XCLIENT.
    pub(crate) xclient_from: Arc<[Network]>,
    pub(crate) handshakes: Arc<HandshakeFailures>,
}

/// Submission at a port for HTTPS.
pub(crate) struct OnHttps {
    pub(crate) sessions: Sessions,
    /// The way to a place as a client of submission.
    pub(crate) door: Door,
    /// Where clients without a place are counted.
    pub(crate) refusals: RefusedConnections,
}

impl Sessions {
    pub(crate) async fn serve(
        self,
        socket: TcpListener,
        entrance: Entrance,
        stop: watch::Receiver<bool>,
    ) {
        // Each session holds a receiver. When the last receiver is gone, all sessions have ended.
        let running = watch::Sender::new(());
        listener::accept(socket, entrance, stop.clone(), |accepted| {
            let Accepted {
                stream,
                ends,
                place,
            } = accepted;
            let client = self.client(ends);
            let name = client.session;
            let session = self.session(client, stream, stop.clone());
            let held = (place, running.subscribe());
            let handshakes = Arc::clone(&self.handshakes);
            let session = async move {
                if let Err(error) = session.await {
                    tell(name, &error, ends, &handshakes);
                }
                drop(held);
            };
            tokio::spawn(panics::within(PanicIn::Session, session));
        })
        .await;
        running.closed().await;
    }

    /// A session. Each kind is in a box of its own size. A future that moves into another one would
    /// take its memory twice.
    fn session(
        &self,
        client: Box<Client>,
        stream: TcpStream,
        stop: watch::Receiver<bool>,
    ) -> Pin<Box<dyn Future<Output = Result<(), ServeError>> + Send>> {
        let (shared, hostname) = (self.shared.clone(), self.hostname.clone());
        let (config, tls) = (Arc::clone(&self.config), self.tls.clone());
        match self.service {
            Service::Smtp if config.auth => {
                let handler = LocalSession::new(shared, hostname).at_listener(&self.listener);
                Box::pin(smtp::serve(
                    client, stream, config, tls, false, handler, stop,
                ))
            }
            Service::Smtp => {
                let handler = MxSession::new(shared, hostname).with_rules(self.rules.clone());
                let handler = handler.at_listener(&self.listener);
                Box::pin(smtp::serve(
                    client, stream, config, tls, false, handler, stop,
                ))
            }
            service => {
                let implicit = service == Service::Submissions;
                let handler = SubmissionSession::new(shared, hostname);
                let handler = handler.at_listener(&self.listener);
                let handler = match implicit {
                    true => handler.under_tls(),
                    false => handler,
                };
                Box::pin(smtp::serve(
                    client, stream, config, tls, implicit, handler, stop,
                ))
            }
        }
    }

    fn client(&self, ends: Ends) -> Box<Client> {
        let id = SessionId::of(rand::random());
        let mut client = Client::new(id, ends.remote, ends.local);
        let peer = ends.remote.ip().to_canonical();
        client.xclient = self
            .xclient_from
            .iter()
            .any(|network| network.contains(peer));
        Box::new(client)
    }
}

impl OnHttps {
    /// Counts a client that gets no place.
    pub(crate) fn count(&self, full: Full) {
        self.refusals.count(full.reason());
    }

    /// Serves a connection whose handshake is done, and proved this.
    pub(crate) async fn serve(
        &self,
        stream: TlsStream<TcpStream>,
        proof: TlsProof,
        ends: Ends,
        stop: watch::Receiver<bool>,
    ) {
        let sessions = &self.sessions;
        let handler = SubmissionSession::new(sessions.shared.clone(), sessions.hostname.clone());
        let handler = handler.on_https().at_listener(&sessions.listener);
        let (client, config) = (sessions.client(ends), Arc::clone(&sessions.config));
        let name = client.session;
        let served = smtp::serve_secured(client, stream, proof, config, handler, stop);
        if let Err(error) = panics::within(PanicIn::Session, served).await {
            tell(name, &error, ends, &sessions.handshakes);
        }
    }
}

fn tell(session: SessionId, error: &ServeError, ends: Ends, handshakes: &HandshakeFailures) {
    match error {
        ServeError::Handshake(error) => handshakes.tell(ends.remote, error),
        ServeError::Connection(error) => {
            let remote = ends.remote.ip().to_canonical();
            debug!(%session, %remote, %error, "session ended early");
        }
    }
}
