//! Signatures of ours, verified by another implementation (mail-auth).

use std::{collections::HashMap, time::Instant};

use mail_auth::{
    AuthenticatedMessage, DkimResult, MessageAuthenticator, Parameters, ResolverCache, Txt,
    common::{parse::TxtRecordParser, verify::DomainKey},
    hickory_resolver::config::{ResolverConfig, ResolverOpts},
};

/// The DNS records of keys, by selector. All are of example.org.
pub struct DkimRecords(Records);

struct Records(HashMap<Box<str>, Txt>);

impl ResolverCache<Box<str>, Txt> for Records {
    fn get<Q>(&self, name: &Q) -> Option<Txt>
    where
        Box<str>: std::borrow::Borrow<Q>,
        Q: std::hash::Hash + Eq + ?Sized,
    {
        self.0.get(name).cloned()
    }

    fn remove<Q>(&self, _: &Q) -> Option<Txt>
    where
        Box<str>: std::borrow::Borrow<Q>,
        Q: std::hash::Hash + Eq + ?Sized,
    {
        None
    }

    fn insert(&self, _: Box<str>, _: Txt, _: Instant) {}
}

impl DkimRecords {
    /// These records.
    pub fn new<const N: usize>(records: [(&str, String); N]) -> Self {
        let records = records.map(|(selector, text)| {
            let key = DomainKey::parse(text.as_bytes()).unwrap();
            let name = format!("{selector}._domainkey.example.org.");
            (name.into_boxed_str(), Txt::from(key))
        });
        Self(Records(records.into()))
    }

    /// The result and selector of each signature, sorted.
    pub async fn verify(&self, text: &str) -> Vec<String> {
        let authenticator =
            MessageAuthenticator::new(ResolverConfig::default(), ResolverOpts::default()).unwrap();
        let message = AuthenticatedMessage::parse(text.as_bytes()).unwrap();
        let parameters = Parameters::from(&message).with_txt_cache(&self.0);
        let results = authenticator.verify_dkim(parameters).await;
        let mut results: Vec<String> = results
            .iter()
            .map(|output| {
                let word = match output.result() {
                    DkimResult::Pass => "pass",
                    _ => "not",
                };
                format!("{word} {}", output.signature().unwrap().s)
            })
            .collect();
        results.sort();
        results
    }
}
