//! Logins of a session.

use postrider_observe::{
    metrics::{Label, LoginMechanism, LoginResult, LoginService},
    trace::{EventType, Key, Term},
};
use postrider_smtp::{
    sasl::{Evidence, Login, Mechanism, ScramHash},
    server::{Client, RefusedLogin},
};
use tracing::{info, warn};

use super::{Observer, given};
use crate::{SessionContext, facts::LoggedIn, login::Attempt, refusals::Meaning};

impl Observer {
    /// A client has logged in.
    pub(crate) fn logged_in(
        &mut self,
        context: &SessionContext,
        client: &Client,
        proof: &Login,
        login: &LoggedIn,
    ) {
        let mechanism = proof.mechanism;
        let metrics = &context.metrics;
        let labels = (LoginService::Submission, LoginResult::Ok);
        metrics.authentications_total.with(labels).inc();
        let by = &metrics.authentication_mechanisms_total;
        by.with(mechanism_of(mechanism)).inc();
        info!(
            service = LoginService::Submission.text(),
            remote = %client.remote.ip().to_canonical(),
            login = %login.address,
            account = login.account,
            mechanism = mechanism.name(),
            "login"
        );
        context.logins.note(&Attempt {
            account: Some(&login.account),
            key: match &proof.evidence {
                Evidence::Certificate(fingerprint) => fingerprint,
                _ => "",
            },
            login: &login.address.to_string(),
            ..attempt(context, client, mechanism, LoginResult::Ok)
        });
        self.trace.belongs_to(&login.account);
        self.account.clone_from(&login.account);
        self.add(context, EventType::AuthSuccess, |data| {
            data.text(Key::AccountName, &login.account);
            data.display(Key::Id, &login.address);
            data.text(Key::Type, mechanism.name());
        });
    }

    /// A login was refused, for the reason with this name. Gives the account that it was for.
    pub(super) fn login_refused(
        &mut self,
        context: &SessionContext,
        client: &Client,
        login: &RefusedLogin,
        name: &str,
        meaning: Meaning,
    ) -> Option<String> {
        let result = result_of(name);
        let labels = (LoginService::Submission, result);
        context.metrics.authentications_total.with(labels).inc();
        let config = context.dynamic();
        let found = config.login(&login.user);
        let account = found.map(|found| found.account.to_owned());
        let remote = client.remote.ip().to_canonical();
        let service = LoginService::Submission.text();
        let (user, mechanism) = (given(&login.user), login.mechanism.name());
        let (session, event) = (client.name(), meaning.event.name());
        match result {
            LoginResult::Limited => warn!(
                %session,
                service,
                %remote,
                login = user,
                account = account.as_deref(),
                mechanism,
                trace.event = event,
                "logins limited"
            ),
            result => warn!(
                %session,
                service,
                %remote,
                login = user,
                account = account.as_deref(),
                mechanism,
                reason = result.text(),
                trace.event = event,
                "login refused"
            ),
        }
        context.logins.note(&Attempt {
            account: account.as_deref(),
            login: &login.user,
            ..attempt(context, client, login.mechanism, result)
        });
        if let Some(account) = &account {
            self.trace.index(Term::Account(account));
        }
        account
    }
}

/// A login of this client. Whose it is stays open.
fn attempt<'a>(
    context: &SessionContext,
    client: &'a Client,
    mechanism: Mechanism,
    result: LoginResult,
) -> Attempt<'a> {
    Attempt {
        account: None,
        result,
        service: LoginService::Submission,
        mechanism: mechanism_of(mechanism),
        client: client.helo.as_deref().unwrap_or_default(),
        key: "",
        login: "",
        ip: client.remote.ip(),
        tls: client.tls.as_ref().map_or("", |tls| &tls.version),
        now: context.clock.now(),
    }
}

/// What the name of a refusal says about a login.
fn result_of(name: &str) -> LoginResult {
    match name {
        "login_disabled" => LoginResult::Disabled,
        "password_too_weak" => LoginResult::Weak,
        "too_many_logins" => LoginResult::Limited,
        "no_scram_keys" | "token_unchecked" | "login_unchecked" => LoginResult::Unavailable,
        "login_syntax" | "login_given_up" | "line_too_long" | "syntax" => LoginResult::Malformed,
        _ => LoginResult::Wrong,
    }
}

const fn mechanism_of(mechanism: Mechanism) -> LoginMechanism {
    match mechanism {
        Mechanism::External => LoginMechanism::External,
        Mechanism::ScramPlus(ScramHash::Sha256) => LoginMechanism::ScramSha256Plus,
        Mechanism::ScramPlus(ScramHash::Sha1) => LoginMechanism::ScramSha1Plus,
        Mechanism::Scram(ScramHash::Sha256) => LoginMechanism::ScramSha256,
        Mechanism::Scram(ScramHash::Sha1) => LoginMechanism::ScramSha1,
        Mechanism::Plain => LoginMechanism::Plain,
        Mechanism::Login => LoginMechanism::Login,
        Mechanism::OauthBearer => LoginMechanism::OauthBearer,
        Mechanism::Xoauth2 => LoginMechanism::Xoauth2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mechanism_counts_under_its_own_name() {
        for mechanism in Mechanism::ALL {
            let label = mechanism_of(mechanism).text();
            assert!(label.eq_ignore_ascii_case(mechanism.name()), "{label}");
        }
    }

    #[test]
    fn a_name_tells_the_result() {
        for (name, result) in [
            ("bad_credentials", LoginResult::Wrong),
            ("may_not_act_as", LoginResult::Wrong),
            ("too_many_failed_logins", LoginResult::Wrong),
            ("too_many_logins", LoginResult::Limited),
            ("password_too_weak", LoginResult::Weak),
            ("login_disabled", LoginResult::Disabled),
            ("token_unchecked", LoginResult::Unavailable),
            ("login_given_up", LoginResult::Malformed),
        ] {
            assert_eq!(result_of(name), result, "{name}");
        }
    }
}
