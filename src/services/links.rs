//! Links in messages that lead to this server.

use postrider_config::{Listener, Static};

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
