//! The remedy for a failure, in a sentence for the administrator.

use super::{ca::Ca, challenges::Way, order::Failure};

/// The remedy for a failure to get a certificate for a name. `way` is the way in which the CA
/// checked the name.
pub(super) fn remedy(failure: &Failure, ca: &Ca, name: &str, way: Option<Way>) -> String {
    let port = match way {
        Some(Way::Http) => 80,
        _ => 443,
    };
    let acme = format!("acme.{}", ca.name);
    match failure.problem.as_str() {
        "dns" => format!(
            "correct the DNS records of {name}: it needs an A or AAAA record that leads to this server"
        ),
        "connection" | "tls" => format!(
            "let port {port} of {name} reach this server from the internet; look at firewalls, at port \
             forwarding, and at AAAA records that lead elsewhere"
        ),
        "unauthorized" | "incorrectResponse" => format!(
            "another server answers at port {port} of {name}; let the A and AAAA records lead to this \
             server, or take the name out of the configuration"
        ),
        "caa" => {
            let issuer = ca
                .issuer
                .as_ref()
                .map_or_else(|| "the CA".to_owned(), ToString::to_string);
            format!(
                "allow this CA in the CAA record of {name} or of the domain above it: 0 issue \"{issuer}\""
            )
        }
        "rateLimited" => "wait; the server tries again by itself".to_owned(),
        "rejectedIdentifier" | "unsupportedIdentifier" => format!(
            "the CA gives no certificates for {name}; take the name out of the configuration, or use another CA"
        ),
        "externalAccountRequired" => format!(
            "set {acme}.eab.key_id and {acme}.eab.key_file to the values that the CA gave you"
        ),
        "userActionRequired" => "do what the CA asks for".to_owned(),
        "invalidContact" | "unsupportedContact" => format!("correct {acme}.contact_email"),
        "badCSR" | "badPublicKey" => "use other host keys, RSA with 2048 bits or P-256".to_owned(),
        _ if failure.scope == super::schedule::Scope::Ca => format!(
            "check that this server reaches {} over HTTPS, and the page of the CA about its state",
            ca.directory
        ),
        _ => "the server tries again by itself".to_owned(),
    }
}
