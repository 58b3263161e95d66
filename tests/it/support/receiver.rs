//! A receiver of webhooks on a loopback port. It records all calls.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use serde_json::Value;
use tokio::{net::TcpListener, sync::watch};

use super::{patience::patiently, strict};

/// A call that was received.
#[derive(Clone, Debug)]
pub struct Call {
    /// The header fields.
    pub headers: HeaderMap,
    /// The payload.
    pub payload: Value,
    /// The payload as it came.
    pub body: Bytes,
}

/// A running receiver.
#[derive(Clone)]
pub struct Receiver {
    /// Its address.
    pub address: SocketAddr,
    calls: Arc<watch::Sender<Vec<Call>>>,
}

struct Shared {
    calls: Arc<watch::Sender<Vec<Call>>>,
    status: Box<dyn Fn(usize) -> u16 + Send + Sync>,
}

impl Receiver {
    /// Starts a receiver. It answers its n-th call (from 0) with the status `status(n)`, and not at
    /// all if that is 0.
    pub async fn start(status: impl Fn(usize) -> u16 + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let calls = Arc::new(watch::Sender::new(Vec::new()));
        let shared = Arc::new(Shared {
            calls: Arc::clone(&calls),
            status: Box::new(status),
        });
        let router = Router::new()
            .route("/{*path}", post(take))
            .with_state(shared);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, calls }
    }

    /// The URL of the receiver.
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// Waits until `count` calls have come. Returns all calls.
    pub async fn wait_for(&self, count: usize) -> Vec<Call> {
        let mut calls = self.calls.subscribe();
        let what = format!("{count} calls of the webhook");
        patiently(&what, calls.wait_for(|calls| calls.len() >= count))
            .await
            .unwrap()
            .clone()
    }
}

async fn take(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let payload = strict::payload(&body);
    let mut number = 0;
    shared.calls.send_modify(|calls| {
        number = calls.len();
        calls.push(Call {
            headers,
            payload,
            body,
        });
    });
    match (shared.status)(number) {
        0 => std::future::pending().await,
        status => StatusCode::from_u16(status).unwrap(),
    }
}
