//! Who wants reports about TLS (RFC 8460 §3).

use postrider_dns::{DnsError, Resolver};
use postrider_smtp::Domain;

use super::{Found, Outcome};
use crate::reports;

/// The URIs that get reports about the TLS of deliveries to a domain.
pub(super) async fn wanted(resolver: &dyn Resolver, domain: &Domain) -> Outcome {
    let name = format!("_smtp._tls.{}", domain.ascii());
    let texts = match resolver.txt(&name).await {
        Ok(answer) => answer.records,
        Err(DnsError::NoName(_) | DnsError::NoRecords(_)) => return Outcome::NotFound,
        Err(error) => return Outcome::Failed(format!("looking up {name}: {error}")),
    };
    let uris = reports::tls_uris(&texts);
    match uris.is_empty() {
        true => Outcome::NotFound,
        false => Outcome::Success(Found::Reports(uris)),
    }
}
