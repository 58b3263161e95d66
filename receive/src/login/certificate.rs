//! Logins with the certificate of a TLS client (AUTH EXTERNAL).

use postrider_config::Dynamic;
use postrider_store::{StoreError, Time, TlsKey};
use tracing::warn;

use super::{
    limiter::{Identity, Source},
    logins::{Logins, PasswordCheck, USE_NOTED},
};

impl Logins {
    /// The key with a fingerprint, if it logs in to an account of the configuration. Without one,
    /// the failure is counted.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn verify_tls_key(
        &self,
        fingerprint: &str,
        config: &Dynamic,
        source: &Source,
    ) -> Result<(PasswordCheck, Option<TlsKey>), StoreError> {
        let identity = Identity::Unknown(fingerprint);
        if let Err(wait) = source.begin(identity) {
            return Ok((PasswordCheck::TooMany(wait), None));
        }
        let key = self.store().tls_key(fingerprint).await?;
        // The address of the key may have gone to another account.
        let key = key.filter(|key| config.owner(&key.login) == Some(key.account.as_str()));
        let Some(key) = key else {
            return Ok((PasswordCheck::Wrong, None));
        };
        source.right(identity, true);
        let is_noted = |at: Time| source.now < at.after(USE_NOTED);
        if !key.last_used.is_some_and(is_noted)
            && let Err(error) = self.store().use_tls_key(fingerprint, source.now).await
        {
            warn!(%error, fingerprint, "failed to note the use of a TLS key");
        }
        Ok((PasswordCheck::Right, Some(key)))
    }
}
