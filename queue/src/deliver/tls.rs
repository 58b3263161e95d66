//! How a connection to a host is protected.

use std::sync::Arc;

use postrider_smtp::client::{Tls, TlsMode};
use rustls::pki_types::ServerName;

use crate::{
    Queue,
    next_hop::{Hop, TlsRule},
    route::SmarthostTls,
};

impl Queue {
    /// How to speak to a host. `verified`: some message asks for verified TLS.
    pub(super) fn tls_for(&self, hop: &Hop, rule: TlsRule, verified: bool) -> TlsMode {
        let Ok(name) = ServerName::try_from(hop.name.clone()) else {
            return TlsMode::Never;
        };
        let with = |config: &Arc<rustls::ClientConfig>| Tls {
            config: Arc::clone(config),
            name,
        };
        match rule {
            TlsRule::Opportunistic if verified => TlsMode::Required(with(&self.verifying_tls)),
            TlsRule::Opportunistic => TlsMode::Opportunistic(with(&self.any_tls)),
            TlsRule::Smarthost { tls, verify } => {
                let config = match verify {
                    true => &self.verifying_tls,
                    false => &self.any_tls,
                };
                match tls {
                    SmarthostTls::Implicit => TlsMode::Implicit(with(config)),
                    SmarthostTls::StartTls => TlsMode::Required(with(config)),
                    SmarthostTls::Never => TlsMode::Never,
                }
            }
        }
    }
}

/// Whether a connection with this TLS proves the server's name, or goes where the administrator
/// said.
pub(super) fn is_verifying(tls: &TlsMode, rule: TlsRule) -> bool {
    matches!(rule, TlsRule::Smarthost { .. }) || matches!(tls, TlsMode::Required(_))
}
