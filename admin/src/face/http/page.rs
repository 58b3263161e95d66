//! The page of metrics for Prometheus. Who may read it is a matter of the network, not of a login.

use std::net::SocketAddr;

use axum::{
    Router,
    extract::{ConnectInfo, Request, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use postrider_observe::metrics;

use super::{Endpoint, Management, Served, login};

impl Management {
    /// The routes of a listener that has the metrics at this path.
    pub fn metrics(&self, endpoint: Endpoint, path: &str) -> Router {
        Router::new()
            .route(path, get(page))
            .with_state(self.served(endpoint))
    }
}

async fn page(State(served): State<Served>, request: Request) -> Response {
    let client = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let client = client.map(|ConnectInfo(address)| address.ip().to_canonical());
    let client = login::address(request.headers(), client, served.endpoint.forwarded_hops);
    let context = &served.shared.context;
    let allow = &context.statics.metrics.allow;
    let is_allowed = client.is_some_and(|ip| allow.iter().any(|network| network.contains(ip)));
    if !is_allowed {
        let text =
            "the metrics are for other networks; metrics.allow in postrider.conf names them\n";
        return (StatusCode::FORBIDDEN, text).into_response();
    }
    let page = context.metrics_page().await;
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], page).into_response()
}
