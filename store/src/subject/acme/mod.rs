//! ACME (RFC 8555): accounts at CAs, the certificates that they issued, and the last failed try to
//! get each certificate.

#[cfg(any(test, feature = "memory"))]
pub(crate) mod model;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use super::State;
use crate::{
    Store, StoreError, Time,
    error::Fault,
    table::{Table, key::Name, tables, value::records, values},
};

/// An account at a CA.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcmeAccount {
    /// The URL of the CA's directory. There is one account for each directory.
    pub directory: String,
    /// The key id of the external account binding (RFC 8555 §7.3.4). Empty: there was none.
    pub eab_key_id: String,
    /// The URL and the private key of the account, in the form of the ACME library.
    pub credentials: String,
    /// When the account was made.
    pub created: Time,
}

/// A certificate that a CA issued.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcmeCertificate {
    /// The directory of the CA that issued the certificate.
    pub directory: String,
    /// The domain name in ASCII.
    pub name: String,
    /// The name of the key: empty for a key of the certificate's own, or the hash of a host key.
    pub key_id: String,
    /// The chain in PEM, with the certificate of the name first.
    pub chain: String,
    /// The private key, PKCS#8 in DER. Empty for a host key, which stays in its file.
    pub key: Vec<u8>,
    /// When the certificate begins to be valid.
    pub begins: Time,
    /// When the certificate ends.
    pub ends: Time,
}

/// The last try to get a certificate. It failed, or has not ended yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcmeTry {
    /// The directory of the CA.
    pub directory: String,
    /// The domain name in ASCII. Empty for the CA itself: then the pause holds for all names.
    pub name: String,
    /// The name of the key, as in [`AcmeCertificate`].
    pub key_id: String,
    /// The number of tries since the last success.
    pub tries: u32,
    /// When the next try may begin.
    pub next: Time,
    /// The reason of the failure, in a sentence.
    pub reason: String,
}

/// Hides the key, so that no log line has it.
impl std::fmt::Debug for AcmeAccount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AcmeAccount")
            .field("directory", &self.directory)
            .field("created", &self.created)
            .finish_non_exhaustive()
    }
}

/// Hides the key, so that no log line has it.
impl std::fmt::Debug for AcmeCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AcmeCertificate")
            .field("directory", &self.directory)
            .field("name", &self.name)
            .field("key_id", &self.key_id)
            .field("ends", &self.ends)
            .finish_non_exhaustive()
    }
}

records! {
    AcmeAccount: version 1,
    AcmeCertificate: version 1,
    AcmeTry: version 1,
}

tables! {
    /// Accounts by directory. Certificates and tries by directory, name and name of the key.
    counters: (),
    accounts: Table<Name, AcmeAccount> = Table::new("acme_accounts"),
    certificates: Table<Name, AcmeCertificate> = Table::new("acme_certificates"),
    tries: Table<Name, AcmeTry> = Table::new("acme_tries"),
}

subject!(counters (), keys 1);

operations! {
    Acme, version 1:
    SetAccount -> (), Ordinary;
    SetCertificate -> (), Ordinary;
    SetTry -> (), Reserve;
    Remove -> (), Reserve;
}

/// The key of a certificate, and of the tries to get it. None of the parts has a space in it.
fn key(directory: &str, name: &str, key_id: &str) -> Name {
    format!("{directory} {name} {key_id}").into()
}

/// Keeps an account in the place of the one at the same directory.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SetAccount(AcmeAccount);

/// Keeps a certificate in the place of the one before, and ends the tries to get it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SetCertificate(AcmeCertificate);

/// Keeps a try.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SetTry(AcmeTry);

/// Removes a certificate and the tries to get it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Remove {
    directory: String,
    name: String,
    key_id: String,
}

impl SetAccount {
    fn apply(self, state: &mut State) -> Result<(), Fault> {
        let key = self.0.directory.as_str().into();
        state.acme.accounts.put(key, self.0);
        Ok(())
    }
}

impl SetCertificate {
    fn apply(self, state: &mut State) -> Result<(), Fault> {
        let key = key(&self.0.directory, &self.0.name, &self.0.key_id);
        state.acme.tries.remove(&key);
        state.acme.certificates.put(key, self.0);
        Ok(())
    }
}

impl SetTry {
    fn apply(self, state: &mut State) -> Result<(), Fault> {
        let key = key(&self.0.directory, &self.0.name, &self.0.key_id);
        state.acme.tries.put(key, self.0);
        Ok(())
    }
}

impl Remove {
    fn apply(self, state: &mut State) -> Result<(), Fault> {
        let key = key(&self.directory, &self.name, &self.key_id);
        state.acme.tries.remove(&key);
        state.acme.certificates.remove(&key);
        Ok(())
    }
}

questions! {
    ask Account<'a> { directory: &'a str } -> Option<AcmeAccount>,
    |this, state| state.acme.accounts.get(&this.directory.into()),
    |this, model| model.acme.accounts.get(this.directory).cloned();

    scan Certificates {} -> Vec<AcmeCertificate>,
    |_this, reader| Ok(values(reader.state()?.acme.certificates.all()?)),
    |_this, model| model.acme.certificates.values().cloned().collect();

    scan Tries {} -> Vec<AcmeTry>,
    |_this, reader| Ok(values(reader.state()?.acme.tries.all()?)),
    |_this, model| model.acme.tries.values().cloned().collect();
}

impl Store {
    /// The account at the CA with this directory.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn acme_account(&self, directory: &str) -> Result<Option<AcmeAccount>, StoreError> {
        self.ask(Account { directory }).await
    }

    /// Keeps an account in the place of the one at the same directory.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn set_acme_account(&self, account: AcmeAccount) -> Result<(), StoreError> {
        self.change_by(SetAccount(account)).await
    }

    /// All certificates, at most one for each directory, name and key.
    ///
    /// # Errors
    /// If they can't be read.
    pub async fn acme_certificates(&self) -> Result<Vec<AcmeCertificate>, StoreError> {
        self.scan(Certificates {}).await
    }

    /// Keeps a certificate in the place of the one before, and ends the tries to get it.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn set_acme_certificate(
        &self,
        certificate: AcmeCertificate,
    ) -> Result<(), StoreError> {
        self.change_by(SetCertificate(certificate)).await
    }

    /// The last try for each certificate that was tried after the last success.
    ///
    /// # Errors
    /// If they can't be read.
    pub async fn acme_tries(&self) -> Result<Vec<AcmeTry>, StoreError> {
        self.scan(Tries {}).await
    }

    /// Keeps a try in the place of the one before.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn set_acme_try(&self, last: AcmeTry) -> Result<(), StoreError> {
        self.change_by(SetTry(last)).await
    }

    /// Removes a certificate and the tries to get it.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn remove_acme(
        &self,
        directory: &str,
        name: &str,
        key_id: &str,
    ) -> Result<(), StoreError> {
        self.change_by(Remove {
            directory: directory.to_owned(),
            name: name.to_owned(),
            key_id: key_id.to_owned(),
        })
        .await
    }
}

#[cfg(test)]
pub(crate) fn samples() -> Vec<Op> {
    let (directory, name) = ("https://ca.example/directory", "mail.example");
    vec![
        Op::SetAccount(SetAccount(AcmeAccount {
            directory: directory.into(),
            eab_key_id: "kid".into(),
            credentials: "{}".into(),
            created: Time(1),
        })),
        Op::SetCertificate(SetCertificate(AcmeCertificate {
            directory: directory.into(),
            name: name.into(),
            key_id: String::new(),
            chain: "-----BEGIN CERTIFICATE-----".into(),
            key: vec![1, 2],
            begins: Time(1),
            ends: Time(2),
        })),
        Op::SetTry(SetTry(AcmeTry {
            directory: directory.into(),
            name: name.into(),
            tries: 1,
            next: Time(3),
            reason: "it did not answer".into(),
            ..AcmeTry::default()
        })),
        Op::Remove(Remove {
            directory: directory.into(),
            name: name.into(),
            key_id: String::new(),
        }),
    ]
}
