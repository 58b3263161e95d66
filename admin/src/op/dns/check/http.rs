//! TLS connections and HTTPS requests of a check.

use std::sync::Arc;

use postrider_dns::Resolver;
use postrider_queue::https::{HttpsAnswer, HttpsClient, HttpsError};
use rustls::ClientConfig;

use super::{CONNECTION_TIME, Subject, tls::Certificate};

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
    ) -> Result<Certificate, String> {
        let (config, watch) = self.tls.watch()?;
        let connected = self.client(config, resolver).connect(name, port).await;
        connected.map_err(|error| error.to_string())?;
        let certificate = watch.certificate();
        certificate.ok_or_else(|| "the server showed no certificate".to_owned())
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
        }
    }
}
