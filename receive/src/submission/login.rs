//! The login of a submission: what each mechanism of SASL proves, and whose account it is.

use std::sync::Arc;

use postrider_config::{Dynamic, LoginName};
use postrider_smtp::{
    EnhancedCode, Reply, ReplyCode,
    sasl::{Evidence, Login, ScramOffer, ScramRequest},
    server::Client,
};
use postrider_store::{MailTokenKind, StoreError};
use tracing::{debug, error};

use super::SubmissionSession;
use crate::{
    decide::{Refusal, Role, Stage, decide},
    facts::{LoggedIn, LoginFacts},
    login::{
        Identity, Meaning, PasswordCheck, ScramOffered, Source, address_owner, is_own_secret,
        plain_login,
    },
    refusals::reason,
};

/// The reply if nobody can say now whether a token is good.
const NO_ANSWER: Reply = Reply::fixed(
    ReplyCode::TEMPORARY_FAILURE,
    Some(EnhancedCode::SECURITY_TRANSIENT),
    "the authorization server does not answer, try again later",
)
.because(reason::TOKEN_UNCHECKED);

/// The reply if the store fails.
const UNCHECKED: Reply = Reply::fixed(
    ReplyCode::TEMPORARY_FAILURE,
    Some(EnhancedCode::SECURITY_TRANSIENT),
    "the login can't be checked now, try again later",
)
.because(reason::LOGIN_UNCHECKED);

impl SubmissionSession {
    fn source(&self, client: &Client) -> Source {
        Source {
            limiter: Arc::clone(&self.context.limiter),
            ip: client.remote.ip(),
            behind_proxy: false,
            now: self.context.clock.now(),
        }
    }

    /// The keys for an exchange of SCRAM. An unknown user gets an answer like any other.
    pub(super) async fn offer(
        &mut self,
        client: &Client,
        request: &ScramRequest,
    ) -> Result<ScramOffer, Reply> {
        // An exchange that was left without a proof counts before the next one begins.
        self.exchange = None;
        let config = self.context.dynamic();
        let source = self.source(client);
        let user = plain_login(&config, &request.user);
        let account = config.login(&request.user).map(|found| found.account);
        if let Some(wait) = source.wait(identity(&user, account)) {
            return Err(Refusal::TooManyLogins(wait).reply());
        }
        let logins = &self.context.logins;
        let offered = logins.scram_offer(&user, account, request.hash).await;
        let offered = offered.map_err(|error| unchecked(&error))?;
        let offer = offered.offer.clone();
        self.exchange = Some(ScramExchange {
            account: account.map(str::to_owned),
            offered: Some(offered),
            user,
            source,
        });
        Ok(offer)
    }

    /// Checks a login. An unknown name takes as long as a wrong password, so the time tells nobody
    /// which names exist.
    pub(super) async fn verify(
        &mut self,
        client: &Client,
        login: &Login,
    ) -> Result<LoggedIn, Reply> {
        let config = self.context.dynamic();
        let source = self.source(client);
        let (found, check) = self.check(&config, login, &source).await?;
        let account = found.as_ref().map(|found| found.account);
        let acts_as = Some(login.authorization.as_str()).filter(|name| !name.is_empty());
        let facts = LoginFacts {
            account: found.as_ref().map(|found| found.config),
            check,
            acts_as_other: acts_as.is_some_and(|name| {
                config
                    .login(name)
                    .is_none_or(|it| Some(it.account) != account)
            }),
        };
        let policy = self.context.policy(Role::Submission, &config);
        let verdict = decide(Stage::Login(&facts), &self.facts, &policy);
        verdict.answer()?;
        let found = found.ok_or_else(|| Refusal::BadCredentials.reply())?;
        // A certificate has one address. The client may name another one of the account.
        let named = match &login.evidence {
            Evidence::Certificate(_) => acts_as.and_then(|name| config.login(name)),
            _ => None,
        };
        let address = named.map_or(found.address, |named| named.address);
        Ok(LoggedIn {
            account: found.account.to_owned(),
            address,
        })
    }

    /// The account of a login, and the result of the check of its evidence.
    async fn check<'a>(
        &mut self,
        config: &'a Dynamic,
        login: &Login,
        source: &Source,
    ) -> Result<(Option<LoginName<'a>>, PasswordCheck), Reply> {
        let found = config.login(&login.user);
        let account = found.as_ref().map(|found| found.account);
        let user = plain_login(config, &login.user);
        let logins = &self.context.logins;
        let failed = |error| unchecked(&error);
        match &login.evidence {
            Evidence::Password(password) => {
                let check = logins.verify(&user, account, password, source);
                Ok((found, check.await.map_err(failed)?))
            }
            Evidence::Scram(proven) => {
                let exchange = self.exchange.take();
                let Some(offered) = exchange.and_then(ScramExchange::proof_came) else {
                    return Ok((None, PasswordCheck::Wrong));
                };
                let check = logins.prove(&user, account, &offered, *proven, source);
                Ok((found, check.await.map_err(failed)?))
            }
            Evidence::Certificate(key) => {
                let verified = logins.verify_tls_key(key, config, source).await;
                let (check, key) = verified.map_err(failed)?;
                let found = key.and_then(|key| config.login(&key.login.to_string()));
                Ok((found, check))
            }
            Evidence::Token(token) => self.check_token(config, &user, token, found, source).await,
        }
    }

    /// The account that a token stands for. The user that the client named must be of the same
    /// account. `user` is its plain form.
    async fn check_token<'a>(
        &self,
        config: &'a Dynamic,
        user: &str,
        token: &str,
        named: Option<LoginName<'a>>,
        source: &Source,
    ) -> Result<(Option<LoginName<'a>>, PasswordCheck), Reply> {
        let account = named.as_ref().map(|named| named.account);
        let identity = identity(user, account);
        if let Some(wait) = source.wait(identity) {
            return Ok((named, PasswordCheck::TooMany(wait)));
        }
        // No token can be guessed, so failures are counted afterwards. No answer is no failure of
        // the client.
        let names = self.names_of(config, token, source).await?;
        let owner = names.iter().find_map(|name| address_owner(config, name));
        let owner = owner.filter(|owner| user.is_empty() || account == Some(owner.account));
        let Some(owner) = owner else {
            if !names.is_empty() {
                debug!(
                    ?names,
                    user, "a good token is for another user, or for no account"
                );
            }
            return Ok(match source.begin(identity) {
                Ok(()) => (named, PasswordCheck::Wrong),
                Err(wait) => (named, PasswordCheck::TooMany(wait)),
            });
        };
        source.right(identity, false);
        Ok((Some(named.unwrap_or(owner)), PasswordCheck::Right))
    }

    /// The names that a token stands for. None: it is not good. What this server gave out is never
    /// sent to the authorization server.
    async fn names_of(
        &self,
        config: &Dynamic,
        token: &str,
        source: &Source,
    ) -> Result<Vec<String>, Reply> {
        let logins = &self.context.logins;
        if is_own_secret(token) {
            let kinds = [MailTokenKind::Mail];
            let found = logins.token_owner(token, &kinds, config, source.now).await;
            let found = found.map_err(|error| unchecked(&error))?;
            return Ok(found.into_iter().map(|token| token.address).collect());
        }
        let Some(oauth) = logins.oauth() else {
            return Ok(Vec::new());
        };
        let meaning = oauth.meaning(token, source.now).await;
        Ok(match meaning.map_err(|_| NO_ANSWER)? {
            Meaning::Good(holder) => holder.names,
            Meaning::Bad => Vec::new(),
        })
    }
}

/// An exchange of SCRAM whose proof is awaited. One without a proof counts as a failed login when
/// it is dropped: a client must not ask for the salts of one user after the other without end.
#[derive(Debug)]
pub(super) struct ScramExchange {
    /// None: the proof has come, and counts by itself.
    offered: Option<ScramOffered>,
    /// The login in its plain form.
    user: String,
    account: Option<String>,
    source: Source,
}

impl ScramExchange {
    /// The offer that the proof is for.
    fn proof_came(mut self) -> Option<ScramOffered> {
        self.offered.take()
    }
}

impl Drop for ScramExchange {
    fn drop(&mut self) {
        if self.offered.is_some() {
            // With too many failures it does not count.
            let _ = self
                .source
                .begin(identity(&self.user, self.account.as_deref()));
        }
    }
}

/// The identity that the failures of a login in its plain form count for.
fn identity<'a>(user: &'a str, account: Option<&'a str>) -> Identity<'a> {
    account.map_or(Identity::Unknown(user), Identity::Account)
}

/// The reply if a login can't be checked, since the store fails.
fn unchecked(store: &StoreError) -> Reply {
    error!(error = %store, "failed to check a login");
    UNCHECKED
}
