//! Credentials: how accounts prove who they are.

#[cfg(any(test, feature = "memory"))]
pub(crate) mod model;

use serde::{Deserialize, Serialize};

use super::State;
use crate::{
    Store, StoreError, Time,
    error::Fault,
    table::{Table, key::Name, tables, value::records},
};

/// How an account proves who it is. The store never has the password itself.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    /// An Argon2id hash in PHC string form (RFC 9106).
    pub argon2: String,
    /// When it was set.
    pub set: Time,
}

/// Hides the hash, so that no log line has it.
impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential")
            .field("set", &self.set)
            .finish_non_exhaustive()
    }
}

records! {
    Credential: version 1,
}

tables! {
    /// The credentials.
    counters: (),
    credentials: Table<Name, Credential> = Table::new("credentials"),
}

subject!(counters (), keys 1);

operations! {
    Credentials, version 1:
    Set -> (), Ordinary;
}

/// Sets the credential of an account, or removes it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Set {
    account: String,
    credential: Option<Credential>,
}

impl Set {
    fn apply(self, state: &mut State) -> Result<(), Fault> {
        let account: Name = self.account.into();
        match self.credential {
            Some(credential) => state.credentials.credentials.put(account, credential),
            None => state.credentials.credentials.remove(&account),
        }
        Ok(())
    }
}

questions! {
    ask Of<'a> { account: &'a str } -> Option<Credential>,
    |this, state| state.credentials.credentials.get(&this.account.into()),
    |this, model| model.credentials.credentials.get(this.account).cloned();
}

impl Store {
    /// The credential of an account. None if no password was set.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn credential(&self, account: &str) -> Result<Option<Credential>, StoreError> {
        self.ask(Of { account }).await
    }

    /// Sets or removes the credential of an account.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn set_credential(
        &self,
        account: &str,
        credential: Option<Credential>,
    ) -> Result<(), StoreError> {
        let account = account.to_owned();
        self.change_by(Set {
            account,
            credential,
        })
        .await
    }
}

#[cfg(test)]
pub(crate) fn samples() -> Vec<Op> {
    vec![Op::Set(Set {
        account: "ann".into(),
        credential: Some(Credential {
            argon2: "$argon2id$".into(),
            set: Time(1),
        }),
    })]
}
