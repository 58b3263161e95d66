//! Second factors: the one-time codes of the administrator, codes that wait for their first right
//! one, and recovery codes.
//!
//! The codes of an account are in its credential. What belongs to them beside that is here, and
//! goes when they change in another way.

#[cfg(any(test, feature = "memory"))]
pub(crate) mod model;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use super::State;
use crate::{
    Otp, Store, StoreError, Time, WebSessionOwner,
    error::Fault,
    table::{Table, key::Name, tables, value::records},
};

/// A generator of codes that counts from its first right code on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingOtp {
    /// The generator.
    pub otp: Otp,
    /// How long its first code is waited for.
    pub until: Time,
}

/// What somebody needs beside a password.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecondFactor {
    /// The generator of codes that are needed. None: the password is enough.
    pub otp: Option<Otp>,
    /// The generator that waits for its first right code.
    pub pending: Option<PendingOtp>,
    /// The SHA-256 digests of the recovery codes that were not used yet.
    pub recovery: Vec<[u8; 32]>,
}

/// Hides the digests.
impl std::fmt::Debug for SecondFactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecondFactor")
            .field("otp", &self.otp)
            .field("pending", &self.pending)
            .field("recovery", &self.recovery.len())
            .finish()
    }
}

/// A change of a second factor.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SecondFactorChange {
    /// This generator waits for its first right code from now on.
    Begin(PendingOtp),
    /// The first code of the generator that waits was right. It is needed from now on.
    Confirm {
        /// The secret of the generator that the code was checked with.
        secret: Vec<u8>,
        /// The time step of the code, which is taken with that.
        step: u64,
        /// The digests of new recovery codes.
        recovery: Vec<[u8; 32]>,
        /// The time.
        now: Time,
    },
    /// These are the recovery codes from now on.
    Renew(Vec<[u8; 32]>),
    /// The code of a time step is taken, unless one of this step or a later one was.
    TakeStep(u64),
    /// The recovery code with this digest is taken.
    TakeRecovery([u8; 32]),
    /// The password is enough from now on.
    Reset,
}

/// Hides secrets and digests.
impl std::fmt::Debug for SecondFactorChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Begin(_) => "Begin",
            Self::Confirm { .. } => "Confirm",
            Self::Renew(_) => "Renew",
            Self::TakeStep(_) => "TakeStep",
            Self::TakeRecovery(_) => "TakeRecovery",
            Self::Reset => "Reset",
        })
    }
}

impl SecondFactorChange {
    /// Changes a second factor. False: the change does not fit, and nothing was changed.
    fn apply_to(self, factor: &mut SecondFactor) -> bool {
        match self {
            Self::Begin(pending) => {
                factor.pending = Some(pending);
                true
            }
            Self::Confirm {
                secret,
                step,
                recovery,
                now,
            } => {
                let pending = factor.pending.take_if(|it| it.otp.secret == secret);
                let Some(PendingOtp { otp, .. }) = pending.filter(|it| it.until > now) else {
                    return false;
                };
                factor.otp = Some(Otp {
                    last_step: step,
                    ..otp
                });
                factor.recovery = recovery;
                true
            }
            Self::Renew(recovery) => {
                if factor.otp.is_some() {
                    factor.recovery = recovery;
                }
                factor.otp.is_some()
            }
            Self::TakeStep(step) => match &mut factor.otp {
                Some(otp) if step > otp.last_step => {
                    otp.last_step = step;
                    true
                }
                _ => false,
            },
            Self::TakeRecovery(hash) => {
                let before = factor.recovery.len();
                if factor.otp.is_some() {
                    factor.recovery.retain(|it| *it != hash);
                }
                factor.recovery.len() < before
            }
            Self::Reset => {
                let was = std::mem::take(factor);
                was != SecondFactor::default()
            }
        }
    }
}

records! {
    SecondFactor: version 1,
}

tables! {
    /// Second factors.
    counters: (),
    /// By owner. The codes of an account are not here.
    factors: Table<Name, SecondFactor> = Table::new("second_factors"),
}

subject!(counters (), keys 1);

impl Tables {
    /// The codes of an account changed in another way, or its credential is gone.
    pub(super) fn forget_account(&mut self, account: &str) {
        let owner = WebSessionOwner::Account(account.to_owned());
        self.factors.remove(&owner.key());
    }
}

impl State {
    fn second_factor(&self, owner: &WebSessionOwner) -> Result<SecondFactor, Fault> {
        let factor = self.second_factors.factors.get(&owner.key())?;
        let mut factor = factor.unwrap_or_default();
        if let WebSessionOwner::Account(account) = owner {
            let credentials = &self.credentials.credentials;
            let credential = credentials.get(&account.as_str().into())?;
            factor.otp = credential.and_then(|credential| credential.otp);
        }
        Ok(factor)
    }

    fn set_second_factor(
        &mut self,
        owner: &WebSessionOwner,
        mut factor: SecondFactor,
    ) -> Result<(), Fault> {
        if let WebSessionOwner::Account(account) = owner {
            let account: Name = account.as_str().into();
            let credentials = &mut self.credentials.credentials;
            let mut credential = credentials.get(&account)?.unwrap_or_default();
            let otp = factor.otp.take();
            if credential.otp != otp {
                credential.otp = otp;
                credentials.put(account, credential);
            }
        }
        let factors = &mut self.second_factors.factors;
        match factor == SecondFactor::default() {
            true => factors.remove(&owner.key()),
            false => factors.put(owner.key(), factor),
        }
        Ok(())
    }
}

operations! {
    SecondFactors, version 1:
    ChangeFactor -> bool, Reserve;
}

/// Changes the second factor of an owner.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ChangeFactor {
    owner: WebSessionOwner,
    change: SecondFactorChange,
}

impl ChangeFactor {
    fn apply(self, state: &mut State) -> Result<bool, Fault> {
        let mut factor = state.second_factor(&self.owner)?;
        let is_made = self.change.apply_to(&mut factor);
        if is_made {
            state.set_second_factor(&self.owner, factor)?;
        }
        Ok(is_made)
    }
}

questions! {
    ask FactorOf<'a> { owner: &'a WebSessionOwner } -> SecondFactor,
    |this, state| state.second_factor(this.owner),
    |this, model| model.second_factor(this.owner);
}

impl Store {
    /// What somebody needs beside a password. For an account, its generator of codes is that of
    /// its credential.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn second_factor(&self, owner: &WebSessionOwner) -> Result<SecondFactor, StoreError> {
        self.ask(FactorOf { owner }).await
    }

    /// Changes what somebody needs beside a password. False: the change does not fit, for example
    /// because a code was taken before. Then nothing was changed.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn change_second_factor(
        &self,
        owner: WebSessionOwner,
        change: SecondFactorChange,
    ) -> Result<bool, StoreError> {
        self.change_by(ChangeFactor { owner, change }).await
    }
}

#[cfg(test)]
pub(crate) fn samples() -> Vec<Op> {
    let owner = || WebSessionOwner::Account("ann".into());
    let changes = [
        SecondFactorChange::Begin(tests::pending(1)),
        SecondFactorChange::Confirm {
            secret: vec![1; 20],
            step: 7,
            recovery: vec![[1; 32]],
            now: Time(1),
        },
        SecondFactorChange::Renew(vec![[2; 32]]),
        SecondFactorChange::TakeStep(8),
        SecondFactorChange::TakeRecovery([2; 32]),
        SecondFactorChange::Reset,
    ];
    let op = |change| {
        Op::ChangeFactor(ChangeFactor {
            owner: owner(),
            change,
        })
    };
    changes.map(op).into()
}
