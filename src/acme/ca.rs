//! The connection to a CA, and the account there.

use std::{
    fmt,
    future::Future,
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use axum::{
    body::Body,
    http::{
        Request, Response,
        header::{CONTENT_TYPE, RETRY_AFTER},
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use instant_acme::{
    Account, AccountCredentials, BodyWrapper, BytesResponse, Error, ExternalAccountKey, HttpClient,
    NewAccount,
};
use postrider_config::{Acme as Settings, Static, read_secret_file};
use postrider_smtp::Domain;
use postrider_store::{AcmeAccount, Store, Time};
use tracing::{info, warn};

use super::{order::Failure, wall};

/// The time limits of a request to a CA.
const CONNECT: Duration = Duration::from_secs(10);
const REQUEST: Duration = Duration::from_secs(30);
/// The largest answer of a CA. A chain has some thousand bytes.
const ANSWER_MAX: usize = 1 << 20;

/// A CA, and our account there.
pub(super) struct Ca {
    /// The name of the account in the configuration.
    pub(super) name: String,
    /// The URL of the directory.
    pub(super) directory: String,
    /// The domain that names the CA in CAA records.
    pub(super) issuer: Option<Domain>,
    /// How long before its end a certificate is renewed.
    pub(super) renew_before: Duration,
    contact: String,
    eab: Option<Eab>,
    client: Client,
}

struct Eab {
    key_id: String,
    key: ExternalAccountKey,
}

impl Ca {
    /// Reads the files of an account.
    ///
    /// # Errors
    /// If a file can't be read, or has no certificate or key.
    pub(super) fn new(name: &str, settings: &Settings, statics: &Static) -> anyhow::Result<Self> {
        let eab = settings.eab.as_ref();
        let eab = eab.map(|eab| {
            let key = read_eab_key(&eab.key_file)?;
            anyhow::Ok(Eab {
                key_id: eab.key_id.clone(),
                key: ExternalAccountKey::new(eab.key_id.clone(), &key),
            })
        });
        Ok(Self {
            name: name.to_owned(),
            directory: settings.directory_url.clone(),
            issuer: settings.issuer.clone(),
            renew_before: settings.renew_before,
            contact: settings.contact_email.clone(),
            eab: eab.transpose()?,
            client: Client::new(settings, statics)?,
        })
    }

    /// How long the CA wants to be left alone, if it said so since the last call.
    pub(super) fn wished_pause(&self) -> Option<Duration> {
        self.client.pause().take()
    }

    /// The account: the stored one, or else a new one.
    ///
    /// # Errors
    /// If the CA can't be reached, or refuses.
    pub(super) async fn account(&self, store: &Store, now: Time) -> Result<Account, Failure> {
        let stored = store.acme_account(&self.directory).await;
        let stored = stored.map_err(|error| Failure::ours(error.to_string()))?;
        let eab = self.eab.as_ref().map_or("", |eab| eab.key_id.as_str());
        let stored = stored.filter(|account| account.eab_key_id == eab);
        let read = |account: AcmeAccount| serde_json::from_str(&account.credentials).ok();
        let Some(credentials) = stored.and_then(read) else {
            return self.register(store, now).await;
        };
        let builder = Account::builder_with_http(Box::new(self.client.clone()));
        let account = builder.from_credentials(credentials).await;
        account.map_err(|error| Failure::of_ca(&error))
    }

    /// Makes a new account at the CA, and keeps it.
    ///
    /// # Errors
    /// If the CA can't be reached, or refuses.
    pub(super) async fn register(&self, store: &Store, now: Time) -> Result<Account, Failure> {
        let contact = format!("mailto:{}", self.contact);
        let contacts = [contact.as_str()];
        let new = NewAccount {
            contact: if self.contact.is_empty() {
                &[]
            } else {
                &contacts
            },
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        let builder = Account::builder_with_http(Box::new(self.client.clone()));
        let key = self.eab.as_ref().map(|eab| &eab.key);
        let made = builder.create(&new, self.directory.clone(), key).await;
        let (account, credentials) = made.map_err(|error| Failure::of_ca(&error))?;
        info!(
            acme = self.name,
            directory = self.directory,
            "ACME account made"
        );
        if let Err(error) = self.keep(store, now, &credentials).await {
            // The account works until the next start, which makes another one.
            warn!(acme = self.name, %error, "ACME account not kept");
        }
        Ok(account)
    }

    async fn keep(
        &self,
        store: &Store,
        now: Time,
        credentials: &AccountCredentials,
    ) -> anyhow::Result<()> {
        let account = AcmeAccount {
            directory: self.directory.clone(),
            eab_key_id: self
                .eab
                .as_ref()
                .map(|eab| eab.key_id.clone())
                .unwrap_or_default(),
            credentials: serde_json::to_string(credentials)?,
            created: now,
        };
        Ok(store.set_acme_account(account).await?)
    }
}

/// Hides the keys.
impl fmt::Debug for Ca {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ca")
            .field("name", &self.name)
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

/// Reads the key of an external account binding: base64, as RFC 4648 §4 or §5 have it, with or
/// without padding.
fn read_eab_key(file: &Path) -> anyhow::Result<Vec<u8>> {
    let shown = file.display();
    let bytes = read_secret_file(file).map_err(|error| anyhow!("eab.key_file: {shown} {error}"))?;
    let text = String::from_utf8_lossy(&bytes);
    let text = text
        .trim()
        .trim_end_matches('=')
        .replace('+', "-")
        .replace('/', "_");
    let key = URL_SAFE_NO_PAD.decode(text);
    let key = key.with_context(|| format!("eab.key_file: {shown} is not base64"))?;
    if key.is_empty() {
        bail!("eab.key_file: {shown} is empty");
    }
    Ok(key)
}

/// An HTTP client for CAs. It remembers how long the CA wants to be left alone.
#[derive(Clone)]
struct Client {
    http: reqwest::Client,
    pause: Arc<Mutex<Option<Duration>>>,
}

impl Client {
    fn new(settings: &Settings, statics: &Static) -> anyhow::Result<Self> {
        let builder = reqwest::Client::builder()
            .user_agent(concat!("postrider/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .timeout(REQUEST)
            .no_proxy();
        let builder = match &settings.ca_file {
            Some(file) => builder.tls_certs_only(read_roots(file).context("ca_file")?),
            None => {
                let mut roots = Vec::new();
                for file in &statics.tls.ca_files {
                    roots.extend(read_roots(file).context("tls.ca_files")?);
                }
                match roots.is_empty() {
                    true => builder,
                    false => builder.tls_certs_merge(roots),
                }
            }
        };
        let http = builder.build().context("failed to set up TLS for the CA")?;
        Ok(Self {
            http,
            pause: Arc::default(),
        })
    }

    fn pause(&self) -> std::sync::MutexGuard<'_, Option<Duration>> {
        self.pause.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send(
        self,
        request: Request<BodyWrapper<bytes::Bytes>>,
    ) -> Result<BytesResponse, Error> {
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(Body::new(body), usize::MAX).await;
        let body = body.map_err(|error| Error::Other(error.into()))?;
        let request = self
            .http
            .request(parts.method, parts.uri.to_string())
            .headers(parts.headers)
            .body(body);
        let mut answer = request
            .send()
            .await
            .map_err(|error| Error::Other(causes(&error).into()))?;
        let status = answer.status();
        let header = |name| answer.headers().get(name)?.to_str().ok();
        if status.as_u16() == 429 || status.as_u16() == 503 {
            *self.pause() = header(RETRY_AFTER).and_then(retry_after);
        }
        let is_json = header(CONTENT_TYPE).is_some_and(|kind| kind.contains("json"));
        if !status.is_success() && !is_json {
            return Err(Error::Other(format!("the CA answered {status}").into()));
        }
        let mut whole = Vec::new();
        while let Some(piece) = answer
            .chunk()
            .await
            .map_err(|error| Error::Other(causes(&error).into()))?
        {
            whole.extend_from_slice(&piece);
            if whole.len() > ANSWER_MAX {
                return Err(Error::Other("the answer of the CA is too long".into()));
            }
        }
        let mut response = Response::new(());
        *response.status_mut() = status;
        *response.headers_mut() = answer.headers().clone();
        Ok(BytesResponse {
            parts: response.into_parts().0,
            body: Box::new(bytes::Bytes::from(whole)),
        })
    }
}

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<bytes::Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        Box::pin(self.clone().send(request))
    }
}

/// The certificates of a file that are trusted.
pub(crate) fn read_roots(file: &Path) -> anyhow::Result<Vec<reqwest::Certificate>> {
    let shown = file.display();
    let pem = std::fs::read(file).with_context(|| format!("failed to read {shown}"))?;
    let roots = reqwest::Certificate::from_pem_bundle(&pem);
    let roots = roots.with_context(|| format!("{shown} is not PEM"))?;
    if roots.is_empty() {
        bail!("{shown} has no certificate");
    }
    Ok(roots)
}

/// An error with all its causes. The first one of reqwest says little.
pub(crate) fn causes(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// The time in a Retry-After field: seconds, or a date (RFC 9110 §10.2.3).
fn retry_after(value: &str) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(value.trim()).ok()?;
    let date = std::time::SystemTime::from(date.timestamp());
    Some(date.duration_since(wall()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_seconds_or_a_date() {
        assert_eq!(retry_after(" 120 "), Some(Duration::from_secs(120)));
        assert_eq!(
            retry_after("Fri, 31 Dec 1999 23:59:59 GMT"),
            Some(Duration::ZERO)
        );
        assert!(retry_after("Fri, 31 Dec 2100 23:59:59 GMT") > Some(Duration::from_secs(1 << 20)));
        assert_eq!(retry_after("soon"), None);
    }

    #[test]
    fn the_key_of_a_binding_is_read_in_any_base64() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("eab");
        for text in ["+/8", "-_8", "+/8=\n", "  -_8=\r\n"] {
            postrider_config::replace_private(&file, text.as_bytes()).unwrap();
            assert_eq!(read_eab_key(&file).unwrap(), [0xfb, 0xff], "{text}");
        }
        for text in ["", "no base64", "a"] {
            postrider_config::replace_private(&file, text.as_bytes()).unwrap();
            let error = format!("{:#}", read_eab_key(&file).unwrap_err());
            assert!(error.contains("eab.key_file"), "{error}");
        }
    }
}
