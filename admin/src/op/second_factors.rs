//! Second factors (TOTP) of the administrator and of account holders, as the pages set them up: the
//! server makes a secret, the program of the person shows its codes, and the first right code puts
//! them in force. Recovery codes come with that.
//!
//! `otp.enable` and `otp.disable` do the same for an account at once, without a first code.

use std::{fmt, time::Duration};

use postrider_config::RequireTotp;
use postrider_receive::login::{make_otp, make_recovery_codes, otp_step};
use postrider_store::{PendingOtp, SecondFactor, SecondFactorChange, WebSessionOwner};
use serde::{Deserialize, Serialize};

use super::{Listed as _, Single};
use crate::{AdminError, Context};

/// How long the first right code is waited for.
const FIRST_CODE: Duration = Duration::from_secs(60 * 60);

async fn factor(context: &Context, of: &WebSessionOwner) -> Result<SecondFactor, AdminError> {
    context.check_owner(of)?;
    Ok(context.store.second_factor(of).await?)
}

/// Makes a change that was checked.
async fn change(
    context: &Context,
    of: &WebSessionOwner,
    change: SecondFactorChange,
) -> Result<(), AdminError> {
    match context
        .store
        .change_second_factor(of.clone(), change)
        .await?
    {
        true => Ok(()),
        false => Err(AdminError::conflict("the codes were changed meanwhile")),
    }
}

/// Shows what somebody needs beside the password.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Show {
    /// `admin`, or `{"account": NAME}`.
    pub of: WebSessionOwner,
}

/// What somebody needs beside the password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// One-time codes are needed.
    pub enabled: bool,
    /// The pages must not go on without them (`web.require_totp`).
    pub required: bool,
    /// How many recovery codes were not used yet.
    pub recovery_codes_left: usize,
}

/// Whether the configuration lets somebody use the pages only with codes (`web.require_totp`).
pub(crate) fn is_required(context: &Context, of: &WebSessionOwner) -> bool {
    match (context.statics.web.require_totp, of) {
        (RequireTotp::None, _) | (RequireTotp::Admin, WebSessionOwner::Account(_)) => false,
        (RequireTotp::Admin, WebSessionOwner::Admin) | (RequireTotp::All, _) => true,
    }
}

impl Single for Show {
    type Output = Shown;

    async fn answer(self, context: &Context) -> Result<Shown, AdminError> {
        let factor = factor(context, &self.of).await?;
        Ok(Shown {
            enabled: factor.otp.is_some(),
            required: is_required(context, &self.of),
            recovery_codes_left: factor.recovery.len(),
        })
    }
}

/// Makes a secret for codes. They are needed from the first right code on: see [`Confirm`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Begin {
    /// `admin`, or `{"account": NAME}`.
    pub of: WebSessionOwner,
}

/// A secret that waits for its first right code.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// The `otpauth://` URL for the program that shows the codes. It has the secret.
    pub url: String,
}

/// Hides the secret in the URL.
impl fmt::Debug for Begun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Begun").finish_non_exhaustive()
    }
}

impl Single for Begin {
    type Output = Begun;

    async fn answer(self, context: &Context) -> Result<Begun, AdminError> {
        let target = self.of.name().to_owned();
        let context = &context.carrying(Self::NAME, &target, &());
        let begun = self.begin(context).await;
        context.record(Self::NAME, &target, &(), begun).await
    }
}

impl Begin {
    async fn begin(self, context: &Context) -> Result<Begun, AdminError> {
        if factor(context, &self.of).await?.otp.is_some() {
            let text = "there are one-time codes already; reset them first";
            return Err(AdminError::conflict(text));
        }
        let issuer = context.statics.hostname.unicode();
        let made = make_otp(self.of.name(), &issuer, &mut rand::rng());
        let (otp, url) = made.map_err(AdminError::internal)?;
        let until = context.clock.now().after(FIRST_CODE);
        let begin = SecondFactorChange::Begin(PendingOtp { otp, until });
        change(context, &self.of, begin).await?;
        Ok(Begun { url })
    }
}

/// Puts the codes in force whose secret was made last, if this is one of them.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confirm {
    /// `admin`, or `{"account": NAME}`.
    pub of: WebSessionOwner,
    /// The code that the program shows now.
    pub code: String,
}

/// Hides the code.
impl fmt::Debug for Confirm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Confirm")
            .field("of", &self.of)
            .finish_non_exhaustive()
    }
}

/// New recovery codes. Each stands in for a one-time code once. Nobody can see them again.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveryCodes {
    /// The codes.
    pub recovery_codes: Vec<String>,
}

/// Hides the codes.
impl fmt::Debug for RecoveryCodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecoveryCodes").finish_non_exhaustive()
    }
}

impl Single for Confirm {
    type Output = RecoveryCodes;

    async fn answer(self, context: &Context) -> Result<RecoveryCodes, AdminError> {
        let target = self.of.name().to_owned();
        let context = &context.carrying(Self::NAME, &target, &());
        let confirmed = self.confirm(context).await;
        context.record(Self::NAME, &target, &(), confirmed).await
    }
}

impl Confirm {
    async fn confirm(self, context: &Context) -> Result<RecoveryCodes, AdminError> {
        let now = context.clock.now();
        let pending = factor(context, &self.of).await?.pending;
        let Some(PendingOtp { otp, .. }) = pending.filter(|it| it.until > now) else {
            let text = "no secret waits for its first code; begin anew";
            return Err(AdminError::not_found(text));
        };
        let Some(step) = otp_step(&otp, &self.code, now) else {
            let text = "the code is wrong; look at the clock of the device if it stays so";
            return Err(AdminError::invalid(text).at("code"));
        };
        let (recovery_codes, recovery) = make_recovery_codes(&mut rand::rng());
        let confirm = SecondFactorChange::Confirm {
            secret: otp.secret,
            step,
            recovery,
            now,
        };
        change(context, &self.of, confirm).await?;
        Ok(RecoveryCodes { recovery_codes })
    }
}

/// Makes new recovery codes. The earlier ones are worthless from then on.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Renew {
    /// `admin`, or `{"account": NAME}`.
    pub of: WebSessionOwner,
}

impl Single for Renew {
    type Output = RecoveryCodes;

    async fn answer(self, context: &Context) -> Result<RecoveryCodes, AdminError> {
        let target = self.of.name().to_owned();
        let context = &context.carrying(Self::NAME, &target, &());
        let renewed = self.renew(context).await;
        context.record(Self::NAME, &target, &(), renewed).await
    }
}

impl Renew {
    async fn renew(self, context: &Context) -> Result<RecoveryCodes, AdminError> {
        if factor(context, &self.of).await?.otp.is_none() {
            return Err(no_codes());
        }
        let (recovery_codes, recovery) = make_recovery_codes(&mut rand::rng());
        change(context, &self.of, SecondFactorChange::Renew(recovery)).await?;
        Ok(RecoveryCodes { recovery_codes })
    }
}

fn no_codes() -> AdminError {
    AdminError::not_found("there are no one-time codes").at("of")
}

/// Lets the password be enough again. What was begun ends too.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reset {
    /// `admin`, or `{"account": NAME}`.
    pub of: WebSessionOwner,
}

impl Single for Reset {
    type Output = ();

    async fn answer(self, context: &Context) -> Result<(), AdminError> {
        let target = self.of.name().to_owned();
        let context = &context.carrying(Self::NAME, &target, &());
        let reset = self.reset(context).await;
        context.record(Self::NAME, &target, &(), reset).await
    }
}

impl Reset {
    async fn reset(self, context: &Context) -> Result<(), AdminError> {
        factor(context, &self.of).await?;
        let reset = SecondFactorChange::Reset;
        let made = context.store.change_second_factor(self.of, reset).await?;
        match made {
            true => Ok(()),
            false => Err(no_codes()),
        }
    }
}
