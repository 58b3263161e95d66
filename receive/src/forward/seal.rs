//! Our ARC set for a forward (RFC 8617 §5.1).

use postrider_config::{DkimSelector, Dynamic};
use postrider_smtp::Domain;
use tracing::warn;

use crate::{
    SessionContext,
    checks::{
        ForwardChain,
        arc::{SealError, Sealer, names_to_sign},
        dkim::BodyHashes,
    },
    deliver::Incoming,
};

impl SessionContext {
    /// The fields of our set by the key of a domain. Empty if the domain has no key that signs, the
    /// chain is broken or full, or the message was not checked.
    pub(super) fn seal(
        &self,
        config: &Dynamic,
        domain: &Domain,
        incoming: &Incoming<'_>,
    ) -> String {
        let Some(chain) = incoming.chain else {
            return String::new();
        };
        let Some((selector, settings)) = sealing_key(config, domain) else {
            return String::new();
        };
        let results = incoming.facts.authentication.as_deref();
        let field = results.map(|results| results.field(incoming.hostname, None));
        let field = field.unwrap_or_default();
        let (_, value) = field.split_once(':').unwrap_or_default();
        let sealed = seal(
            chain,
            (domain, selector, settings),
            value,
            &incoming.text.body_hashes,
            self.clock.now(),
        );
        match sealed {
            Ok(fields) => fields,
            Err(error) => {
                warn!(%domain, %selector, %error, "a forward goes without an ARC seal");
                String::new()
            }
        }
    }
}

/// The key that seals: RSA if there is one, since few verifiers of ARC know Ed25519.
fn sealing_key<'a>(config: &'a Dynamic, domain: &Domain) -> Option<(&'a Domain, &'a DkimSelector)> {
    let keys = config.domains.get(domain)?.dkim.signing();
    let (name, selector) = keys.first()?;
    Some((name, selector))
}

fn seal(
    chain: &ForwardChain,
    (domain, selector, settings): (&Domain, &Domain, &DkimSelector),
    results: &str,
    body: &BodyHashes,
    now: postrider_store::Time,
) -> Result<String, SealError> {
    let names = names_to_sign(settings, chain.arc.fields());
    let sealer = Sealer {
        domain,
        selector,
        key: settings.key.signing()?,
        names: &names,
    };
    let fields = chain
        .arc
        .seal(&chain.verified, &sealer, results, body, now)?;
    let fields = fields.and_then(|fields| String::from_utf8(fields).ok());
    Ok(fields.unwrap_or_default())
}
