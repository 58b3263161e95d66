//! TLS connections and HTTPS requests of a check.

use std::sync::Arc;

use postrider_dns::Resolver;
use postrider_queue::https::{HttpsAnswer, HttpsClient, HttpsError};
use rustls::{ClientConfig, pki_types::ServerName};

use super::{CONNECTION_TIME, Subject, tls::Shown};

impl Subject<'_> {
    /// Makes a TLS connection to a name, and gives its certificate.
    ///
    /// # Errors
    /// A sentence without a full stop.
    pub(super) async fn certificate(
        &self,
        name: &str,
        port: u16,
        resolver: &dyn Resolver,
    ) -> Result<Shown, String> {
        let client = self.client(self.tls.any(), resolver);
        let connected = client.connect(name, port).await;
        let stream = connected.map_err(|error| error.to_string())?;
        let certificates = stream.get_ref().1.peer_certificates();
        let server = ServerName::try_from(name).map_err(|error| error.to_string())?;
        let shown = self.tls.judge(certificates.unwrap_or_default(), &server);
        shown.ok_or_else(|| "the server showed no certificate".to_owned())
    }

    /// Fetches a page over HTTPS. The certificate must be trusted.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(super) async fn get(
        &self,
        name: &str,
        port: u16,
        path: &str,
        resolver: &dyn Resolver,
    ) -> Result<HttpsAnswer, HttpsError> {
        let client = self.client(self.tls.verifying(), resolver);
        client.get(name, port, path).await
    }

    fn client<'a>(&'a self, tls: Arc<ClientConfig>, resolver: &'a dyn Resolver) -> HttpsClient<'a> {
        HttpsClient {
            resolver,
            dialer: &*self.world.dialer,
            tls,
            limit: CONNECTION_TIME,
            // The administrator names the host.
            only_public: false,
        }
    }
}
