//! Tokens that this server gives out: mail tokens, for programs that read and send mail, and user
//! tokens, for the mailbox API.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use postrider_config::{Dynamic, LoginName};
use postrider_smtp::Address;
use postrider_store::{MailToken, MailTokenKind, NewMailToken, StoreError, Time};
use rand::Rng;
use sha2::{Digest, Sha256};

use super::{Logins, apikey::PREFIX as KEY_PREFIX};

/// The beginning of the text of a mail token, and of a user token. It makes a leaked token easy to
/// recognise.
const PREFIXES: [(MailTokenKind, &str); 2] =
    [(MailTokenKind::Mail, "prm_"), (MailTokenKind::User, "pru_")];
/// How long a mail token is good.
const MAIL_TIME: Duration = Duration::from_secs(60 * 60);
/// How long a user token is good.
const USER_TIME: Duration = Duration::from_secs(12 * 60 * 60);
/// The most tokens of an account in an hour.
pub(super) const TOKENS_AN_HOUR: u32 = 60;

/// A token that was just given out. Nobody can see its text again: the store keeps a hash.
pub struct GivenToken {
    /// The text.
    pub text: String,
    /// How long it is good.
    pub lifetime: Duration,
}

/// Hides the text.
impl std::fmt::Debug for GivenToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GivenToken")
            .field("lifetime", &self.lifetime)
            .finish_non_exhaustive()
    }
}

/// Why no token was given out.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The account got too many tokens. It gets another one after this time.
    #[error("the account got {TOKENS_AN_HOUR} tokens within an hour")]
    TooMany(Duration),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Whether a text looks like a key or a token of this server. No other server may see it.
#[must_use]
pub fn is_own_secret(text: &str) -> bool {
    let prefixes = PREFIXES.iter().map(|(_, prefix)| *prefix);
    prefixes.chain([KEY_PREFIX]).any(|it| text.starts_with(it))
}

/// The account whose address a text is. An authorization server has users of its own, who may
/// choose their names. So a part behind a separator and a catch-all count for nothing here.
#[must_use]
pub fn address_owner<'a>(config: &'a Dynamic, name: &str) -> Option<LoginName<'a>> {
    let address = Address::parse(name).ok()?;
    let (account, _) = config.destination(&address)?;
    let (account, config) = config.accounts.get_key_value(account)?;
    Some(LoginName {
        account,
        config,
        address,
    })
}

/// A new text of this kind, and its digest for the store: 256 random bits behind the prefix.
fn make(kind: MailTokenKind, rng: &mut impl Rng) -> (String, [u8; 32]) {
    let mut secret = [0; 32];
    rng.fill_bytes(&mut secret);
    let prefix = PREFIXES.iter().find(|(it, _)| *it == kind);
    let prefix = prefix.map_or("", |(_, prefix)| prefix);
    let text = format!("{prefix}{}", URL_SAFE_NO_PAD.encode(secret));
    let hash = Sha256::digest(&text).into();
    (text, hash)
}

impl Logins {
    /// Gives out a token for an address of an account.
    ///
    /// # Errors
    /// If the account got too many within an hour, or the store fails.
    pub async fn give_token(
        &self,
        account: &str,
        address: &Address,
        kind: MailTokenKind,
        now: Time,
    ) -> Result<GivenToken, TokenError> {
        let wait = self.calls().token_wait(account);
        if let Some(wait) = wait {
            return Err(TokenError::TooMany(wait));
        }
        let (text, hash) = make(kind, &mut rand::rng());
        let lifetime = match kind {
            MailTokenKind::Mail => MAIL_TIME,
            MailTokenKind::User => USER_TIME,
        };
        let token = NewMailToken {
            hash,
            account: account.to_owned(),
            address: address.to_string(),
            kind,
            created: now,
            until: now.after(lifetime),
        };
        self.store().give_mail_token(token).await?;
        Ok(GivenToken { text, lifetime })
    }

    /// The token with this text, if it is good and of one of these kinds: its time is not over, its
    /// address is one of its account, and the account may log in.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn token_owner(
        &self,
        text: &str,
        kinds: &[MailTokenKind],
        config: &Dynamic,
        now: Time,
    ) -> Result<Option<MailToken>, StoreError> {
        let hash: [u8; 32] = Sha256::digest(text).into();
        let found = self.store().mail_token(&hash).await?;
        Ok(found.filter(|token| {
            let owner = address_owner(config, &token.address);
            let owns = owner.is_some_and(|owner| {
                owner.account == token.account && owner.config.login_disabled.is_empty()
            });
            owns && now < token.until && kinds.contains(&token.kind)
        }))
    }

    /// Ends the token with this text, if it is of an account that is `wanted`. False: there is
    /// none.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn end_token(
        &self,
        text: &str,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<bool, StoreError> {
        let hash: [u8; 32] = Sha256::digest(text).into();
        match self.store().mail_token(&hash).await? {
            Some(token) if wanted(&token.account) => self.store().end_mail_token(token.id).await,
            _ => Ok(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    #[test]
    fn a_token_is_known_by_its_beginning() {
        let rng = &mut StdRng::seed_from_u64(1);
        for (kind, prefix) in PREFIXES {
            let (text, hash) = make(kind, rng);
            assert!(text.starts_with(prefix) && text.len() == 4 + 43, "{text}");
            assert_eq!(hash, <[u8; 32]>::from(Sha256::digest(&text)));
            assert!(is_own_secret(&text));
            assert_ne!(make(kind, rng).0, text);
        }
        assert!(is_own_secret("prk_7_x"));
        for other in ["", "eyJhbGciOi", "PRM_x", "prx_"] {
            assert!(!is_own_secret(other), "{other}");
        }
    }
}
