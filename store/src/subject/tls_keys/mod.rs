//! Public keys of client certificates that log in to accounts (AUTH EXTERNAL).

#[cfg(any(test, feature = "memory"))]
pub(crate) mod model;
#[cfg(test)]
mod tests;

use postrider_smtp::Address;
use serde::{Deserialize, Serialize};

use super::State;
use crate::{
    Store, StoreError, Time,
    error::Fault,
    table::{Table, key::Name, tables, value::records, values},
};

/// The public key of a client certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsKey {
    /// The fingerprint: SHA-256 of the SubjectPublicKeyInfo, in base64url without padding.
    pub fingerprint: String,
    /// The kind of the key, for people: `ed25519`, `ecdsa-p256`, `rsa-2048` and the like.
    pub kind: String,
    /// The name, for people.
    pub name: String,
    /// The certificate that it was taken from, in DER.
    pub certificate: Vec<u8>,
    /// The account that the key logs in to.
    pub account: String,
    /// The login address.
    pub login: Address,
    /// When it was added.
    pub created: Time,
    /// When it was last used, within some minutes; None: never.
    pub last_used: Option<Time>,
}

records! {
    TlsKey: version 1,
}

tables! {
    /// The keys.
    counters: (),
    /// By fingerprint.
    keys: Table<Name, TlsKey> = Table::new("tls_keys"),
}

subject!(counters (), keys 1);

operations! {
    TlsKeys, version 1:
    Add -> bool, Ordinary;
    Remove -> bool, Reserve;
    Use -> (), Reserve;
}

/// Adds a key, unless it is there.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Add(TlsKey);

impl Add {
    fn apply(self, state: &mut State) -> Result<bool, Fault> {
        let fingerprint: Name = self.0.fingerprint.as_str().into();
        let keys = &mut state.tls_keys.keys;
        let is_new = !keys.contains(&fingerprint)?;
        if is_new {
            keys.put_new(fingerprint, self.0);
        }
        Ok(is_new)
    }
}

/// Removes a key.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Remove {
    fingerprint: String,
}

impl Remove {
    fn apply(self, state: &mut State) -> Result<bool, Fault> {
        let fingerprint: Name = self.fingerprint.into();
        Ok(state.tls_keys.keys.take(&fingerprint)?.is_some())
    }
}

/// Notes the use of a key.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Use {
    fingerprint: String,
    now: Time,
}

impl Use {
    fn apply(self, state: &mut State) -> Result<(), Fault> {
        let fingerprint: Name = self.fingerprint.into();
        let keys = &mut state.tls_keys.keys;
        if let Some(mut key) = keys.get(&fingerprint)? {
            key.last_used = key.last_used.max(Some(self.now));
            keys.put(fingerprint, key);
        }
        Ok(())
    }
}

questions! {
    ask One<'a> { fingerprint: &'a str } -> Option<TlsKey>,
    |this, state| state.tls_keys.keys.get(&this.fingerprint.into()),
    |this, model| model.tls_keys.keys.get(this.fingerprint).cloned();

    scan All {} -> Vec<TlsKey>,
    |_this, reader| Ok(values(reader.state()?.tls_keys.keys.all()?)),
    |_this, model| model.tls_keys.keys.values().cloned().collect();
}

impl Store {
    /// Adds the key of a client certificate. False: it is there already.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn add_tls_key(&self, key: TlsKey) -> Result<bool, StoreError> {
        self.change_by(Add(key)).await
    }

    /// Removes a key. False: there is none with this fingerprint.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn remove_tls_key(&self, fingerprint: &str) -> Result<bool, StoreError> {
        let fingerprint = fingerprint.to_owned();
        self.change_by(Remove { fingerprint }).await
    }

    /// Notes that a key was used.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn use_tls_key(&self, fingerprint: &str, now: Time) -> Result<(), StoreError> {
        let fingerprint = fingerprint.to_owned();
        self.change_by(Use { fingerprint, now }).await
    }

    /// The key with a fingerprint.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn tls_key(&self, fingerprint: &str) -> Result<Option<TlsKey>, StoreError> {
        self.ask(One { fingerprint }).await
    }

    /// All keys, by fingerprint.
    ///
    /// # Errors
    /// If they can't be read.
    pub async fn tls_keys(&self) -> Result<Vec<TlsKey>, StoreError> {
        self.scan(All {}).await
    }
}

#[cfg(test)]
pub(crate) fn samples() -> Vec<Op> {
    let fingerprint = || "print".to_owned();
    let now = Time(2);
    vec![
        Op::Add(Add(tests::key("print"))),
        Op::Use(Use {
            fingerprint: fingerprint(),
            now,
        }),
        Op::Remove(Remove {
            fingerprint: fingerprint(),
        }),
    ]
}
