//! Steps that change scripts, rules and secrets, and send automatic answers.

use std::time::Duration;

use super::{World, steps::Step};
use crate::{
    AppHash, AppPassword, CredentialChange, NewMessage, NewSieveAnswer, Otp, OtpAlgorithm,
    SieveRule, SieveRuleId, SieveScript, SieveScriptChange, Store, StoreError, TextSource, Time,
    tests::samples::message,
};

impl World {
    /// Takes a step about scripts, rules and answers. False: it is another step, or nothing more is
    /// to be done.
    pub(super) async fn take_sieve_step(&mut self, step: &Step) -> bool {
        match step {
            Step::Answer(hash) => {
                let Some(text) = self.staged.pop() else {
                    return true;
                };
                let answer = answer(*hash, self.now, TextSource::Existing(text));
                self.durable(async |store| store.answer_once(answer.clone()).await)
                    .await;
            }
            Step::Sieve { account, what } => {
                let (account, now) = (["ann", "bob"][usize::from(*account)], self.now);
                self.durable(async |store| change_sieve(store, account, *what, now).await)
                    .await;
            }
            _ => return false,
        }
        true
    }
}

/// An automatic answer of an account that may go out again a minute later, at most twice a day.
fn answer(hash: u8, now: Time, text: TextSource) -> NewSieveAnswer {
    NewSieveAnswer {
        account: "ann".into(),
        hash: [hash; 32],
        now,
        until: now.after(Duration::from_secs(60)),
        most: 2,
        message: NewMessage {
            text,
            ..message(&["x@a.example"]).queue.remove(0)
        },
    }
}

/// Changes what an account wants of its mail.
async fn change_sieve(
    store: &Store,
    account: &str,
    what: u8,
    now: Time,
) -> Result<u64, StoreError> {
    let change = |name: &str, text: Option<&str>| SieveScriptChange {
        account: account.into(),
        name: name.into(),
        script: text.map(|text| SieveScript {
            name: name.into(),
            text: text.into(),
            enabled: true,
            changed: now,
        }),
    };
    let rule = SieveRule {
        id: SieveRuleId(1),
        priority: now.0,
        text: "{}".into(),
        changed: now,
    };
    match what {
        0 => {
            let both = vec![change("a", Some("keep;")), change("b", Some("stop;"))];
            store.set_sieve_scripts(both).await
        }
        1 => store.set_sieve_scripts(vec![change("a", None)]).await,
        2 => Ok(store.add_sieve_rule(account, rule).await?.0),
        3 => store.change_sieve_rules(account, vec![rule]).await,
        4 => Ok(store
            .remove_sieve_rule(account, SieveRuleId(1))
            .await?
            .into()),
        _ => store.forget_sieve(account).await,
    }
}

/// A change of a credential: a new app password, a removed one, codes from now on, and no codes
/// from now on.
pub(super) fn secrets(what: u8, now: Time) -> CredentialChange {
    let app_password = AppPassword {
        name: "phone".into(),
        hash: AppHash::Chosen("hash".into()),
        created: now,
        last_used: None,
        keys: None,
    };
    let otp = Otp {
        secret: vec![1; 20],
        algorithm: OtpAlgorithm::Sha256,
        digits: 8,
        period: 60,
        last_step: 0,
    };
    let nothing = CredentialChange::default();
    match what {
        2 => CredentialChange {
            add: vec![app_password],
            ..nothing
        },
        3 => CredentialChange {
            remove: vec!["phone".into()],
            ..nothing
        },
        4 => CredentialChange {
            otp: Some(Some(otp)),
            ..nothing
        },
        _ => CredentialChange {
            otp: Some(None),
            ..nothing
        },
    }
}
