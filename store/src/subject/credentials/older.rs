//! The shapes of credentials before version 3, which had no keys for SCRAM. Before version 2 a
//! credential was the hash of one password.

use serde::{Deserialize, Serialize};

use super::{
    Amend, AppHash, AppPassword, Credential, CredentialChange, Op, Otp, Set, TakeStep, Use,
};
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

#[derive(Serialize, Deserialize)]
pub(crate) struct CredentialV2 {
    argon2: String,
    set: Time,
    app_passwords: Vec<AppPasswordV2>,
    otp: Option<Otp>,
}

impl From<CredentialV2> for Credential {
    fn from(old: CredentialV2) -> Self {
        let app_passwords = old.app_passwords.into_iter();
        Self {
            argon2: old.argon2,
            set: old.set,
            app_passwords: app_passwords.map(AppPassword::from).collect(),
            otp: old.otp,
            scram: None,
            main_keys: None,
        }
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct AppPasswordV2 {
    name: String,
    hash: AppHash,
    created: Time,
    last_used: Option<Time>,
}

impl From<AppPasswordV2> for AppPassword {
    fn from(old: AppPasswordV2) -> Self {
        Self {
            name: old.name,
            hash: old.hash,
            created: old.created,
            last_used: old.last_used,
            keys: None,
        }
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct CredentialChangeV2 {
    argon2: Option<String>,
    otp: Option<Option<Otp>>,
    remove: Vec<String>,
    add: Vec<AppPasswordV2>,
}

impl From<CredentialChangeV2> for CredentialChange {
    fn from(old: CredentialChangeV2) -> Self {
        let add = old.add.into_iter();
        Self {
            argon2: old.argon2,
            otp: old.otp,
            remove: old.remove,
            add: add.map(AppPassword::from).collect(),
            scram: None,
            main_keys: None,
        }
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) enum OpV2 {
    Set {
        account: String,
        credential: Option<CredentialV2>,
    },
    Amend {
        account: String,
        change: CredentialChangeV2,
        now: Time,
    },
    TakeStep(TakeStep),
    Use(Use),
}

impl From<OpV2> for Op {
    fn from(old: OpV2) -> Self {
        match old {
            OpV2::Set {
                account,
                credential,
            } => Self::Set(Set {
                account,
                credential: credential.map(Credential::from),
            }),
            OpV2::Amend {
                account,
                change,
                now,
            } => Self::Amend(Amend {
                account,
                change: change.into(),
                now,
            }),
            OpV2::TakeStep(take) => Self::TakeStep(take),
            OpV2::Use(used) => Self::Use(used),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        subject::Operations as _,
        table::value::{Value as _, append},
    };

    fn credential() -> CredentialV2 {
        CredentialV2 {
            argon2: "$argon2id$".into(),
            set: Time(1),
            app_passwords: vec![app_password()],
            otp: None,
        }
    }

    fn app_password() -> AppPasswordV2 {
        AppPasswordV2 {
            name: "phone".into(),
            hash: AppHash::Random([7; 32]),
            created: Time(2),
            last_used: Some(Time(3)),
        }
    }

    #[test]
    fn credentials_of_version_2_are_read() {
        let mut bytes = vec![2];
        append(&credential(), &mut bytes);
        let read = Credential::decode(&bytes).unwrap();
        assert_eq!((read.argon2.as_str(), read.set), ("$argon2id$", Time(1)));
        assert_eq!(read.app_passwords, [app_password().into()]);
        assert!(read.scram.is_none() && read.main_keys.is_none());
    }

    #[test]
    fn operations_of_version_2_are_read() {
        let change = CredentialChangeV2 {
            argon2: Some("$argon2id$".into()),
            otp: None,
            remove: vec!["laptop".into()],
            add: vec![app_password()],
        };
        let old = [
            OpV2::Set {
                account: "ann".into(),
                credential: Some(credential()),
            },
            OpV2::Amend {
                account: "ann".into(),
                change,
                now: Time(4),
            },
        ];
        for old in old {
            let mut bytes = Vec::new();
            append(&old, &mut bytes);
            let read = Op::older(2, &bytes).unwrap();
            assert_eq!(format!("{read:?}"), format!("{:?}", Op::from(old)));
        }
    }
}
