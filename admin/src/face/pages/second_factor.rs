//! One-time codes (TOTP) of the visitor: set up, new recovery codes, turned off. The administrator
//! has the same pages, and resets those of accounts.

use std::sync::Arc;

use askama::Template;
use postrider_store::WebSessionOwner;
use serde_json::json;

use super::{
    answer::{Answer, Trouble},
    asked::Asked,
    command::AsCommand,
    confirm::Confirm,
    credentials::{reveal, revealed},
    form::Faults,
    frame::Frame,
    owner::Owner,
    qr::Qr,
    site::Area,
    webapi,
};
use crate::{
    AdminError, Code,
    op::second_factors::{self as op, Begin, Renew, Reset, Show, Shown},
};

/// The path of the pages within an area.
pub(super) const PATH: &str = "2fa";
/// The hidden field with the URL of a generator that waits for its first code. Nobody but this
/// browser has it, and it sends it back so that the QR code is shown again after a wrong code.
const URL: &str = "url";
/// So few recovery codes are a reason to make new ones.
pub(super) const FEW: usize = 3;

#[derive(Template)]
#[template(path = "login/second_factor.html")]
struct SecondFactor {
    frame: Frame,
    shown: Shown,
    is_admin: bool,
    /// New recovery codes, which are shown this once.
    codes: Vec<String>,
    few: usize,
    faults: Faults,
}

#[derive(Template)]
#[template(path = "login/second_factor_setup.html")]
struct Setup {
    frame: Frame,
    qr: Option<Qr>,
    url: String,
    /// The secret for who types it.
    secret: String,
    faults: Faults,
}

#[derive(Template)]
#[template(path = "login/second_factor_of.html")]
struct OfAccount {
    frame: Frame,
    owner: Owner,
    shown: Shown,
}

/// Whether a page within an area is one of those that set up a second factor.
pub(super) fn is_for_it(path: &str) -> bool {
    path.split('/').next() == Some(PATH)
}

/// Whose codes the pages are about.
fn own(asked: &Asked) -> Result<WebSessionOwner, Trouble> {
    let session = asked.session.as_ref().ok_or(Trouble::NoPage)?;
    Ok(session.owner.clone())
}

async fn page(asked: &Asked, faults: Faults) -> Result<SecondFactor, Trouble> {
    let of = own(asked)?;
    let is_admin = of == WebSessionOwner::Admin;
    let shown = asked.run(Show { of }).await?;
    let codes = revealed(asked);
    let codes = codes.iter().flat_map(|codes| codes.split_whitespace());
    let frame = asked.frame("Second factor");
    let frame = frame.with(match (is_admin, shown.enabled) {
        (false, _) => webapi::auth(asked, None),
        (true, true) => AsCommand::cli(["totp", "disable", "--admin"]),
        (true, false) => AsCommand::none(),
    });
    Ok(SecondFactor {
        frame,
        shown,
        is_admin,
        codes: codes.map(str::to_owned).collect(),
        few: FEW,
        faults,
    })
}

/// Whether codes are needed, and what can be done.
pub(super) async fn show(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    Answer::page(&page(&asked, Faults::default()).await?)
}

/// Makes a secret, and asks for its first code.
pub(super) async fn begin(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let of = own(&asked)?;
    match asked.run_proven(Begin { of }).await {
        Ok(begun) => Answer::page(&setup(&asked, begun.url, Faults::default())),
        Err(error) if error.code == Code::Invalid => {
            Answer::again(&page(&asked, Faults::of(&error)).await?)
        }
        Err(error) => Err(error.into()),
    }
}

fn setup(asked: &Asked, url: String, faults: Faults) -> Setup {
    Setup {
        frame: asked.frame("Set up a second factor"),
        qr: Qr::new(&url, "QR code for a program that shows one-time codes"),
        secret: secret(&url),
        url,
        faults,
    }
}

/// The secret in an `otpauth://` URL, in groups of four.
fn secret(url: &str) -> String {
    let (_, query) = url.split_once('?').unwrap_or_default();
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    let found = pairs.find(|(name, _)| name == "secret");
    let secret = found.map_or_else(String::new, |(_, value)| value.into_owned());
    let letters: Vec<char> = secret.chars().collect();
    let groups = letters.chunks(4).map(|group| group.iter().collect());
    groups.collect::<Vec<String>>().join(" ")
}

/// Checks the first code. From then on codes are needed.
pub(super) async fn confirm(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let confirm = op::Confirm {
        of: own(&asked)?,
        code: asked.form.text("code").unwrap_or_default().replace(' ', ""),
    };
    match asked.run(confirm).await {
        Ok(made) => Ok(codes(
            &asked,
            "The second factor is on. The next login asks for a code.",
            &made.recovery_codes,
        )),
        Err(error) if error.code == Code::Invalid => {
            let url = asked.form.shown(URL);
            // A code of another page would be shown as it is, so it has to look like one of ours.
            let url = if url.starts_with("otpauth://totp/") {
                url
            } else {
                ""
            };
            Answer::again(&setup(&asked, url.to_owned(), Faults::of(&error)))
        }
        Err(error) => Err(error.into()),
    }
}

/// Leads to the page that shows new recovery codes, once.
fn codes(asked: &Asked, told: &str, codes: &[String]) -> Answer {
    reveal(asked, told.to_owned(), codes.join(" "), PATH)
}

/// Asks before the recovery codes are replaced.
pub(super) async fn ask_renew(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    Answer::page(&renewing(&asked))
}

fn renewing(asked: &Asked) -> Confirm {
    let action = asked.url("2fa/renew");
    Confirm::new(asked, "Make new recovery codes?", "Make new ones", &action)
        .effect("The codes that you have are worthless from then on.")
        .effect("You see the ten new ones once.")
        .back(asked.url(PATH))
        .proving()
}

/// Makes new recovery codes.
pub(super) async fn renew(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    if let Err(error) = asked.prove().await {
        return renewing(&asked).again(&error);
    }
    let made = asked.run(Renew { of: own(&asked)? }).await?;
    let told = "There are new recovery codes.";
    Ok(codes(&asked, told, &made.recovery_codes))
}

/// Asks before the second factor is turned off.
pub(super) async fn ask_off(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    Answer::page(&turning_off(&asked))
}

fn turning_off(asked: &Asked) -> Confirm {
    let action = asked.url("2fa/off");
    let question = "Turn the second factor off?";
    let confirm = Confirm::new(asked, question, "Turn it off", &action)
        .effect("The password is enough again, for who has it.")
        .effect("The recovery codes are worthless from then on.")
        .back(asked.url(PATH))
        .proving();
    match asked.area {
        Area::Admin => confirm.command(AsCommand::cli(["totp", "disable", "--admin"])),
        _ => confirm
            .effect("Programs may log in with the password again.")
            .command(webapi::auth(
                asked,
                Some(&json!([{"type": "disableOtpAuth"}])),
            )),
    }
}

/// Turns the second factor off, unless the configuration asks for it.
pub(super) async fn turn_off(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let of = own(&asked)?;
    if asked.run(Show { of: of.clone() }).await?.required {
        let text = "this server asks for a second factor (web.require_totp)";
        return Err(AdminError::conflict(text).into());
    }
    if let Err(error) = asked.prove().await {
        return turning_off(&asked).again(&error);
    }
    asked.run(Reset { of }).await?;
    Ok(asked.done("The second factor is off.", PATH))
}

/// The second factor of an account, for the administrator.
pub(super) async fn show_of(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let owner = Owner::of(&asked).await?;
    let of = WebSessionOwner::Account(owner.account.clone());
    let shown = asked.run(Show { of }).await?;
    let mut frame = asked.frame(&owner.title("Second factor"));
    if shown.enabled {
        frame = frame.with(resetting(&owner));
    }
    Answer::page(&OfAccount {
        frame,
        owner,
        shown,
    })
}

/// The command that resets the second factor of an account.
fn resetting(owner: &Owner) -> AsCommand {
    AsCommand::cli(["totp", "disable", &owner.account])
}

/// Asks before the second factor of an account is reset.
pub(super) async fn ask_reset(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let owner = Owner::of(&asked).await?;
    Answer::page(&asks_reset(&asked, &owner))
}

fn asks_reset(asked: &Asked, owner: &Owner) -> Confirm {
    let question = format!("Reset the second factor of {}?", owner.account);
    let action = asked.url(&owner.path("2fa/reset"));
    Confirm::new(asked, &question, "Reset it", &action)
        .effect("The password is enough again, for who has it.")
        .effect("Make sure that it is the holder who asks for it.")
        .back(asked.url(&owner.path(PATH)))
        .command(resetting(owner))
        .proving()
}

/// Resets the second factor of an account.
pub(super) async fn reset(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let owner = Owner::of(&asked).await?;
    if let Err(error) = asked.prove().await {
        return asks_reset(&asked, &owner).again(&error);
    }
    let of = WebSessionOwner::Account(owner.account.clone());
    asked.run(Reset { of }).await?;
    let told = format!("The password of {} is enough again.", owner.account);
    Ok(asked.done(told, &owner.path(PATH)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_shown_in_groups() {
        let url = "otpauth://totp/mail:ann?secret=ABCDEFGHIJ&issuer=mail";
        assert_eq!(secret(url), "ABCD EFGH IJ");
        assert_eq!(secret("otpauth://totp/x"), "");
    }
}
