//! The addresses of programs.
//!
//! Each look-up of the system takes a thread. Only a few are made at once, so a thousand sessions
//! that ask a program take no thousand threads.

use std::{io, net::SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::{net::lookup_host, sync::Semaphore};

/// The look-ups that are made at once.
static LOOK_UPS: Semaphore = Semaphore::const_new(4);

/// The addresses of a host, each with this port.
///
/// # Errors
/// If the host has none.
pub(super) async fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    // Nobody closes it.
    let _permit = LOOK_UPS.acquire().await.map_err(io::Error::other)?;
    Ok(lookup_host((host, port)).await?.collect())
}

/// The same for HTTP.
#[derive(Debug)]
pub(super) struct FewAtOnce;

impl Resolve for FewAtOnce {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = look_up(name.as_str(), 0).await?;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}
