//! Our ARC set for a forward (RFC 8617 §5.1).

use postrider_config::{DkimAlgorithm, DkimSelector, Dynamic};
use postrider_smtp::Domain;
use tracing::warn;

use crate::{
    SessionContext,
    checks::{
        ForwardChain,
        arc::{SealError, Sealer, SigningKey, names_to_sign},
        dkim::BodyHashes,
    },
    deliver::Incoming,
};

/// Fields that servers on the way add. A signature over them does not last.
const ADDED_ON_THE_WAY: [&str; 3] = ["received", "return-path", "delivered-to"];

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

/// The key that seals: RSA before Ed25519, which few verifiers of ARC know.
fn sealing_key<'a>(config: &'a Dynamic, domain: &Domain) -> Option<(&'a Domain, &'a DkimSelector)> {
    let keys = config.domains.get(domain)?.dkim.signing();
    keys.min_by_key(|(_, settings)| settings.algorithm != DkimAlgorithm::Rsa)
}

fn seal(
    chain: &ForwardChain,
    (domain, selector, settings): (&Domain, &Domain, &DkimSelector),
    results: &str,
    body: &BodyHashes,
    now: postrider_store::Time,
) -> Result<String, SealError> {
    let key = SigningKey::new(&settings.key)?;
    let lasting = |name: &&String| !ADDED_ON_THE_WAY.contains(&&*name.to_ascii_lowercase());
    let names: Vec<String> = settings.headers.iter().filter(lasting).cloned().collect();
    let names = names_to_sign(&names, !settings.dont_seal_headers, chain.arc.fields());
    let sealer = Sealer {
        domain,
        selector,
        key: &key,
        names: &names,
    };
    let fields = chain
        .arc
        .seal(&chain.verified, &sealer, results, body, now)?;
    let fields = fields.and_then(|fields| String::from_utf8(fields).ok());
    Ok(fields.unwrap_or_default())
}
