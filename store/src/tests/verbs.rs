//! Each verb, on both engines.

mod claims;
mod history;
mod hooks;
mod stops;
mod texts;

use std::future::Future;

use crate::{Accept, NewHook, Options, Store};

/// Runs a test on each engine: the one in memory and the durable one.
pub(crate) async fn on_both<F: Future<Output = ()>>(test: impl Fn(Store) -> F) {
    test(Store::memory()).await;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(Options {
        segment_size: 1 << 20,
        ..Options::new(dir.path())
    })
    .unwrap();
    test(store.clone()).await;
    store.close().await;
}

/// Brings calls of webhooks.
pub(super) async fn tell(store: &Store, hooks: Vec<NewHook>) {
    let accept = Accept {
        hooks,
        ..Accept::default()
    };
    store.accept(accept).await.unwrap();
}
