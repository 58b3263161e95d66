//! Links in messages that lead to this server. Tracked ones have no path of their own in the
//! configuration.

use axum::Router;
use postrider_config::{Listener, Static};
use postrider_receive::SessionContext;
use postrider_webapi::{Endpoint, HostNames};

use super::{Apis, HttpPort, Service};

/// The services whose ports everybody may reach.
const PUBLIC: [Service; 8] = [
    Service::WebapiHttp,
    Service::WebapiHttps,
    Service::AccountHttp,
    Service::AccountHttps,
    Service::MailApiHttp,
    Service::MailApiHttps,
    Service::AutoconfigHttps,
    Service::MtaStsHttps,
];

impl HttpPort<'_> {
    /// The tracked links, if everybody may reach the port.
    pub(super) fn tracked_links(&self, shared: &SessionContext, apis: &Apis) -> Router {
        if !PUBLIC.iter().any(|it| self.services.contains(it)) {
            return Router::new();
        }
        apis.webapi.tracking_router(Endpoint {
            hostname: self.listener.hostname.clone(),
            hosts: HostNames::default(),
            max_message_size: self.listener.max_message_size.0,
            path: "/t/".to_owned(),
            public_url: public_url(&shared.statics, self.listener),
            forwarded_hops: 0,
            tls: self.services.iter().any(|service| service.is_https()),
        })
    }
}

/// The public URL of the webapi: over TLS if any listener offers that, or else as this listener
/// offers it.
pub(super) fn public_url(statics: &Static, listener: &Listener) -> String {
    let over_tls = statics
        .listeners
        .values()
        .find(|listener| listener.webapi_https.enabled);
    let (scheme, host, service, usual) = match over_tls {
        Some(listener) => ("https", &listener.hostname, &listener.webapi_https, 443),
        None => ("http", &listener.hostname, &listener.webapi_http, 80),
    };
    let port = match service.port {
        port if port == usual => String::new(),
        port => format!(":{port}"),
    };
    format!("{scheme}://{}{port}{}", host.ascii(), service.path)
}
