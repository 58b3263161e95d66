//! Changes of the secrets of an account, one after the other, as one change of its credential.
//!
//! Clients made for Stalwart write a secret as text: `$app$NAME$PASSWORD` is an app password, an
//! `otpauth://` URL asks for one-time codes, `$argon2id$...` is the hash of a password, and all
//! else is a password.

use std::fmt;

use postrider_receive::login::{
    APP_PASSWORD_MIN_LENGTH, HashError, check_hash, hash_password_beside, matches_hash, parse_otp,
    scram_keys,
};
use postrider_store::{
    APP_PASSWORDS_MAX, AppHash, AppPassword, Credential, CredentialChange, Otp, ScramSalts, Time,
};
use serde::{Deserialize, Serialize};

use super::{check_name, taken};
use crate::{AdminError, op::passwords};

/// The beginning of an app password as text.
const APP: &str = "$app$";
/// The beginning of the URL of one-time codes.
const OTP: &str = "otpauth://";

/// A change of the secrets of an account.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretChange {
    /// Sets the main password.
    SetPassword(String),
    /// Sets the main password by its Argon2id hash, which another program made.
    SetHash(String),
    /// Adds an app password that somebody chose.
    AddAppPassword {
        /// The name.
        name: String,
        /// The password: at least 16 characters.
        password: String,
    },
    /// Removes the app password with exactly this name.
    RemoveAppPassword(String),
    /// Removes the app passwords whose names begin so.
    RemoveAppPasswords(String),
    /// Removes all app passwords but those with these names, which must exist.
    KeepAppPasswords(Vec<String>),
    /// Lets the main password need the codes of this `otpauth://` URL.
    EnableOtp(String),
    /// Lets the main password be enough. With a URL, only if it has the secret of the codes.
    DisableOtp(Option<String>),
    /// Checks that the main password needs codes.
    KeepOtp,
}

/// Hides the secrets.
impl fmt::Debug for SecretChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SetPassword(_) => "SetPassword",
            Self::SetHash(_) => "SetHash",
            Self::AddAppPassword { .. } => "AddAppPassword",
            Self::RemoveAppPassword(_) => "RemoveAppPassword",
            Self::RemoveAppPasswords(_) => "RemoveAppPasswords",
            Self::KeepAppPasswords(_) => "KeepAppPasswords",
            Self::EnableOtp(_) => "EnableOtp",
            Self::DisableOtp(_) => "DisableOtp",
            Self::KeepOtp => "KeepOtp",
        })
    }
}

impl SecretChange {
    /// The change that adds a secret.
    ///
    /// # Errors
    /// If it is a hash of an unknown kind, or an app password without a password.
    pub fn add(secret: &str) -> Result<Self, AdminError> {
        if let Some(app) = secret.strip_prefix(APP) {
            let (name, password) = app.split_once('$').unwrap_or((app, ""));
            if password.is_empty() {
                let text = format!("the app password {name:?} has no password");
                return Err(AdminError::invalid(text).at("secrets"));
            }
            let (name, password) = (name.to_owned(), password.to_owned());
            return Ok(Self::AddAppPassword { name, password });
        }
        match secret {
            "" => Err(AdminError::invalid("a secret is empty").at("secrets")),
            _ if secret.starts_with(OTP) => Ok(Self::EnableOtp(secret.to_owned())),
            _ if secret.starts_with(['$', '{']) => match check_hash(secret) {
                Ok(()) => Ok(Self::SetHash(secret.to_owned())),
                Err(error) => Err(hash_refused(&error)),
            },
            password => Ok(Self::SetPassword(password.to_owned())),
        }
    }

    /// The changes that remove a secret. An empty one stands for all but the password.
    ///
    /// # Errors
    /// If it is not a secret that can be removed: a password can only be replaced.
    pub fn remove(secret: &str) -> Result<Vec<Self>, AdminError> {
        if let Some(app) = secret.strip_prefix(APP) {
            return Ok(vec![match app.split_once('$') {
                Some((name, _)) => Self::RemoveAppPassword(name.to_owned()),
                None => Self::RemoveAppPasswords(app.to_owned()),
            }]);
        }
        match secret {
            "" => Ok(vec![
                Self::RemoveAppPasswords(String::new()),
                Self::DisableOtp(None),
            ]),
            OTP => Ok(vec![Self::DisableOtp(None)]),
            url if url.starts_with(OTP) => Ok(vec![Self::DisableOtp(Some(url.to_owned()))]),
            _ => {
                let text = "a password can't be removed; add another one, which replaces it";
                Err(AdminError::invalid(text).at("secrets"))
            }
        }
    }

    /// The changes after which an account has just these secrets. Secrets as they are shown,
    /// `$app$NAME$` and `otpauth://`, stay as they are. So does the password, if none is given.
    ///
    /// # Errors
    /// As [`add`](Self::add), or if there are two passwords.
    pub fn replace(secrets: &[String]) -> Result<Vec<Self>, AdminError> {
        let (mut kept, mut added) = (Vec::new(), Vec::new());
        let mut keeps_otp = false;
        for secret in secrets {
            let shown = secret.strip_prefix(APP).and_then(|it| it.strip_suffix('$'));
            match shown.filter(|name| !name.contains('$')) {
                Some(name) => kept.push(name.to_owned()),
                None if secret == OTP => keeps_otp = true,
                None => added.push(Self::add(secret)?),
            }
        }
        let is_password = |it: &&Self| matches!(it, Self::SetPassword(_) | Self::SetHash(_));
        if added.iter().filter(is_password).count() > 1 {
            let text = "an account has one password";
            return Err(AdminError::invalid(text).at("secrets"));
        }
        let mut changes = vec![Self::KeepAppPasswords(kept)];
        changes.push(match keeps_otp {
            true => Self::KeepOtp,
            false => Self::DisableOtp(None),
        });
        changes.extend(added);
        Ok(changes)
    }
}

fn hash_refused(error: &HashError) -> AdminError {
    match error {
        HashError::Kind => AdminError::unsupported(error),
        HashError::Form | HashError::Parameters => AdminError::invalid(error),
    }
    .at("secrets")
}

/// An app password while changes are made.
struct Entry {
    name: String,
    /// None: it is new.
    stored: Option<AppPassword>,
    /// The password, if it is known.
    password: Option<String>,
}

/// A new main password.
enum Main {
    Plain(String),
    Hash(String),
}

/// The secrets of an account while changes are made. Hashes are computed at the end.
struct Secrets {
    before: Credential,
    main: Option<Main>,
    otp: Option<Otp>,
    entries: Vec<Entry>,
}

/// Makes changes of a credential, one after the other, and gives them as one. `salts` are those of
/// the account. It computes slow hashes, for two seconds at most.
pub(super) fn prepare(
    before: Credential,
    salts: ScramSalts,
    changes: Vec<SecretChange>,
    now: Time,
) -> Result<CredentialChange, AdminError> {
    let entries = before.app_passwords.iter().map(|it| Entry {
        name: it.name.clone(),
        stored: Some(it.clone()),
        password: None,
    });
    let mut secrets = Secrets {
        entries: entries.collect(),
        otp: before.otp.clone(),
        main: None,
        before,
    };
    for change in changes {
        let applied = secrets.apply(change);
        applied.map_err(|error| AdminError {
            field: Some("secrets".to_owned()),
            ..error
        })?;
    }
    secrets.change(salts, now)
}

impl Secrets {
    fn apply(&mut self, change: SecretChange) -> Result<(), AdminError> {
        let entries = &mut self.entries;
        match change {
            SecretChange::SetPassword(password) => {
                passwords::check(&password)?;
                self.main = Some(Main::Plain(password));
            }
            SecretChange::SetHash(hash) => {
                check_hash(&hash).map_err(|error| hash_refused(&error))?;
                self.main = Some(Main::Hash(hash));
            }
            SecretChange::AddAppPassword { name, password } => self.add(name, password)?,
            SecretChange::RemoveAppPassword(name) => entries.retain(|it| it.name != name),
            SecretChange::RemoveAppPasswords(beginning) => {
                entries.retain(|it| !it.name.starts_with(&beginning));
            }
            SecretChange::KeepAppPasswords(names) => {
                let missing = names
                    .iter()
                    .find(|name| !entries.iter().any(|it| it.name == **name));
                if let Some(name) = missing {
                    let text = format!("there is no app password {name:?}, and none is given");
                    return Err(AdminError::invalid(text));
                }
                entries.retain(|it| names.contains(&it.name));
            }
            SecretChange::EnableOtp(url) => self.enable(&url)?,
            SecretChange::DisableOtp(url) => self.disable(url.as_deref()),
            SecretChange::KeepOtp if self.otp.is_none() => {
                let text = "the account has no one-time codes, and the URL has no secret";
                return Err(AdminError::invalid(text));
            }
            SecretChange::KeepOtp => {}
        }
        Ok(())
    }

    fn add(&mut self, name: String, password: String) -> Result<(), AdminError> {
        check_name(&name)?;
        let length = password.chars().count();
        if length < APP_PASSWORD_MIN_LENGTH || password.chars().any(char::is_control) {
            return Err(AdminError::invalid(format!(
                "an app password has at least {APP_PASSWORD_MIN_LENGTH} characters and no control \
                 character"
            )));
        }
        if let Some(present) = self.entries.iter_mut().find(|it| it.name == name) {
            let is_same = match (&present.password, &present.stored) {
                (Some(known), _) => *known == password,
                (None, Some(stored)) => matches_hash(&password, &stored.hash),
                (None, None) => false,
            };
            if !is_same {
                return Err(taken(&name));
            }
            present.password = Some(password);
            return Ok(());
        }
        if self.entries.len() >= APP_PASSWORDS_MAX {
            let text = format!("an account has at most {APP_PASSWORDS_MAX} app passwords");
            return Err(AdminError::invalid(text));
        }
        self.entries.push(Entry {
            name,
            stored: None,
            password: Some(password),
        });
        Ok(())
    }

    fn enable(&mut self, url: &str) -> Result<(), AdminError> {
        let mut otp = parse_otp(url).map_err(AdminError::invalid)?;
        // A code that was taken must not be taken again after the same codes are set again.
        if let Some(before) = self
            .before
            .otp
            .as_ref()
            .filter(|it| it.secret == otp.secret)
            && before.period == otp.period
        {
            otp.last_step = before.last_step;
        }
        self.otp = Some(otp);
        Ok(())
    }

    fn disable(&mut self, url: Option<&str>) {
        let is_meant = |otp: &Otp| match url.map(parse_otp) {
            None => true,
            Some(Ok(given)) => given.secret == otp.secret,
            Some(Err(_)) => false,
        };
        if self.otp.as_ref().is_some_and(is_meant) {
            self.otp = None;
        }
    }

    /// The change of the credential.
    fn change(self, salts: ScramSalts, now: Time) -> Result<CredentialChange, AdminError> {
        let mut hashes: Vec<String> = self.before.argon2_hashes().map(str::to_owned).collect();
        let mut hash = |password: &str| {
            let others: Vec<&str> = hashes.iter().map(String::as_str).collect();
            let hash = hash_password_beside(password, &others);
            let hash = hash.map_err(|error| AdminError::invalid(error).at("secrets"))?;
            hashes.push(hash.clone());
            Ok::<_, AdminError>(hash)
        };
        let (argon2, main_keys) = match self.main {
            Some(Main::Plain(password)) => {
                (Some(hash(&password)?), Some(scram_keys(&password, &salts)))
            }
            // The keys are made at the next use of the password.
            Some(Main::Hash(hash)) => (Some(hash), None),
            None => (None, None),
        };
        let mut add = Vec::new();
        for entry in self.entries.iter().filter(|it| it.stored.is_none()) {
            let password = entry.password.as_deref().unwrap_or_default();
            add.push(AppPassword {
                name: entry.name.clone(),
                hash: AppHash::Chosen(hash(password)?),
                created: now,
                last_used: None,
                keys: Some(scram_keys(password, &salts)),
            });
        }
        let stays = |name: &String| {
            let mut entries = self.entries.iter();
            entries.any(|it| it.stored.is_some() && it.name == *name)
        };
        let before = self.before.app_passwords.into_iter().map(|it| it.name);
        Ok(CredentialChange {
            argon2,
            otp: (self.otp != self.before.otp).then_some(self.otp),
            remove: before.filter(|name| !stays(name)).collect(),
            scram: (main_keys.is_some() || !add.is_empty()).then_some(salts),
            main_keys,
            add,
        })
    }
}
