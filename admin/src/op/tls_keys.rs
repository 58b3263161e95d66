//! Public keys of client certificates, with which programs log in to submission (AUTH EXTERNAL).

use postrider_smtp::sasl::{KeyError, LoginKey, login_key};
use postrider_store::TlsKey;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde::{Deserialize, Serialize};
use serde_json::json;
use x509_parser::{certificate::X509Certificate, parse_x509_certificate};

use super::{Listed as _, Operation, Single, Sink};
use crate::{AdminError, Context};

/// The most bytes of a certificate as text.
const CERTIFICATE_MAX: usize = 64 * 1024;
/// The most characters of a name.
const NAME_MAX: usize = 64;

/// A key of a client certificate. Times are RFC 3339.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsKeyItem {
    /// SHA-256 of the SubjectPublicKeyInfo, in base64url without padding.
    pub fingerprint: String,
    /// `ed25519`, `ecdsa-p256`, `rsa-2048` and the like.
    pub kind: String,
    /// The name, for people.
    pub name: String,
    /// The account.
    pub account: String,
    /// The login address.
    pub login: String,
    /// When it was added.
    pub created: String,
    /// When it was last used, within some minutes; None: never.
    pub last_used: Option<String>,
}

impl From<TlsKey> for TlsKeyItem {
    fn from(key: TlsKey) -> Self {
        Self {
            fingerprint: key.fingerprint,
            kind: key.kind,
            name: key.name,
            account: key.account,
            login: key.login.unicode(),
            created: key.created.to_string(),
            last_used: key.last_used.map(|time| time.to_string()),
        }
    }
}

/// Lists keys of client certificates.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// The account; None: all accounts.
    pub account: Option<String>,
}

impl Operation for List {
    type Item = TlsKeyItem;

    async fn run(
        self,
        context: &Context,
        items: &mut impl Sink<TlsKeyItem>,
    ) -> Result<(), AdminError> {
        if let Some(account) = &self.account {
            context.check_account(account)?;
        }
        let keys = context.store.tls_keys().await?.into_iter();
        let wanted = |key: &TlsKey| self.account.as_ref().is_none_or(|it| *it == key.account);
        items
            .send(keys.filter(wanted).map(TlsKeyItem::from).collect())
            .await
    }
}

/// Lets the key of a certificate log in to an account.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Add {
    /// The login address. It decides the account.
    pub login: String,
    /// The name, for people; None: the common name in the certificate, or else its serial number.
    #[serde(default)]
    pub name: Option<String>,
    /// The certificate: one PEM block `CERTIFICATE`. Its issuer and its dates do not matter.
    pub certificate: String,
}

impl Single for Add {
    type Output = TlsKeyItem;

    async fn answer(self, context: &Context) -> Result<TlsKeyItem, AdminError> {
        let described = json!({"login": self.login, "name": self.name});
        let config = context.config.load_full();
        let account = config.login(&self.login).map(|found| found.account);
        let target = account.unwrap_or(&self.login);
        let context = &context.carrying(Self::NAME, target, &described);
        let added = self.add(context).await;
        context.record(Self::NAME, target, &described, added).await
    }
}

impl Add {
    async fn add(&self, context: &Context) -> Result<TlsKeyItem, AdminError> {
        let config = context.config.load_full();
        let Some(found) = config.login(&self.login) else {
            let text = format!("{} is not a login address of an account", self.login);
            return Err(AdminError::not_found(text).at("login"));
        };
        let certificate = read_certificate(&self.certificate)?;
        let refused = |error: KeyError| AdminError::invalid(error.to_string()).at("certificate");
        let LoginKey { kind, fingerprint } = login_key(&certificate).map_err(refused)?;
        let parsed = parse_x509_certificate(&certificate);
        let (_, parsed) = parsed.map_err(|_| refused(KeyError::Unreadable))?;
        let name = match &self.name {
            Some(name) => checked_name(name)?,
            None => own_name(&parsed),
        };
        let key = TlsKey {
            fingerprint,
            kind,
            name,
            certificate: certificate.to_vec(),
            account: found.account.to_owned(),
            login: found.address,
            created: context.clock.now(),
            last_used: None,
        };
        if !context.store.add_tls_key(key.clone()).await? {
            let text = format!(
                "the key {} logs in already; remove it first",
                key.fingerprint
            );
            return Err(AdminError::conflict(text).at("certificate"));
        }
        Ok(key.into())
    }
}

/// Reads one PEM block.
fn read_certificate(text: &str) -> Result<CertificateDer<'static>, AdminError> {
    let refused = |text: String| Err(AdminError::invalid(text).at("certificate"));
    if text.len() > CERTIFICATE_MAX {
        return refused(format!(
            "the certificate is longer than {CERTIFICATE_MAX} bytes"
        ));
    }
    let mut blocks = CertificateDer::pem_slice_iter(text.as_bytes());
    match (blocks.next(), blocks.next()) {
        (Some(Ok(certificate)), None) => Ok(certificate),
        (Some(Ok(_)), Some(_)) => {
            refused("there are several certificates; give the client's alone".to_owned())
        }
        (Some(Err(error)), _) => refused(format!("the certificate is not PEM: {error}")),
        (None, _) => refused("there is no PEM block CERTIFICATE".to_owned()),
    }
}

/// The name in the certificate.
fn own_name(certificate: &X509Certificate<'_>) -> String {
    let mut names = certificate.subject().iter_common_name();
    let name = names.next().and_then(|name| name.as_str().ok());
    let name: String = name
        .unwrap_or_default()
        .chars()
        .filter(|it| !it.is_control())
        .take(NAME_MAX)
        .collect();
    match name.trim() {
        "" => certificate.raw_serial_as_string(),
        name => name.to_owned(),
    }
}

fn checked_name(name: &str) -> Result<String, AdminError> {
    let is_good = !name.trim().is_empty()
        && name.chars().count() <= NAME_MAX
        && !name.chars().any(char::is_control);
    match is_good {
        true => Ok(name.to_owned()),
        false => {
            let text = format!("a name has 1 to {NAME_MAX} characters, none of them a control one");
            Err(AdminError::invalid(text).at("name"))
        }
    }
}

/// Removes a key. Its certificate logs in no more.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remove {
    /// The fingerprint.
    pub fingerprint: String,
}

impl Single for Remove {
    type Output = ();

    async fn answer(self, context: &Context) -> Result<(), AdminError> {
        let fingerprint = self.fingerprint.as_str();
        let context = &context.carrying(Self::NAME, fingerprint, &());
        let removed = match context.store.remove_tls_key(fingerprint).await {
            Ok(true) => Ok(()),
            Ok(false) => {
                let text = format!("there is no key with the fingerprint {fingerprint}");
                Err(AdminError::not_found(text).at("fingerprint"))
            }
            Err(error) => Err(error.into()),
        };
        context.record(Self::NAME, fingerprint, &(), removed).await
    }
}
