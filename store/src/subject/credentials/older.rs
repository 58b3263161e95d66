//! The shapes of credentials before version 2: the hash of one password.

use serde::{Deserialize, Serialize};

use super::{Credential, Op, Set};
use crate::Time;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CredentialV1 {
    argon2: String,
    set: Time,
}

impl From<CredentialV1> for Credential {
    fn from(old: CredentialV1) -> Self {
        Self {
            argon2: old.argon2,
            set: old.set,
            ..Self::default()
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SetV1 {
    account: String,
    credential: Option<CredentialV1>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum OpV1 {
    Set(SetV1),
}

impl From<OpV1> for Op {
    fn from(OpV1::Set(old): OpV1) -> Self {
        Self::Set(Set {
            account: old.account,
            credential: old.credential.map(Credential::from),
        })
    }
}
