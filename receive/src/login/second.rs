//! Second factors: the codes that the administrator and account holders need beside a password,
//! and the recovery codes that stand in for them.

use std::time::Duration;

use postrider_store::{SecondFactorChange, StoreError, WebSessionOwner};
use rand::Rng;
use sha2::{Digest as _, Sha256};

use super::{
    Logins,
    limiter::{Identity, Source},
    logins::{ADMIN, CodeCheck, PasswordCheck},
    otp::{otp_step, split_code},
    random_groups,
};

/// How many recovery codes are made at once.
const RECOVERY_CODES: usize = 10;
/// A recovery code has so many groups of four letters: 80 random bits.
const GROUPS: usize = 4;

/// The result of the check of a second factor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecondCheck {
    /// The code is right.
    Code,
    /// It is a recovery code, and so many are left.
    Recovery(usize),
    /// It is wrong, or was used before. The failure was counted.
    Wrong,
    /// Not checked: there were too many failures. The next code is checked after this time.
    TooMany(Duration),
}

/// New recovery codes, and their digests for the store.
#[must_use]
pub fn make_recovery_codes(rng: &mut impl Rng) -> (Vec<String>, Vec<[u8; 32]>) {
    let codes: Vec<String> = (0..RECOVERY_CODES)
        .map(|_| random_groups::<4>(GROUPS, rng))
        .collect();
    let hashes = codes.iter().map(|code| hash(code)).collect();
    (codes, hashes)
}

/// The digest of a recovery code, however it is typed.
fn hash(code: &str) -> [u8; 32] {
    let plain: String = code
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|it| it.to_ascii_lowercase())
        .collect();
    Sha256::digest(plain).into()
}

impl Logins {
    /// Checks the one-time code or the recovery code of somebody whose password was right. Each is
    /// taken once. Wrong ones have a count of their own, which no right password takes back.
    ///
    /// # Errors
    /// If the store can't be read, or can't note that the code was taken.
    pub async fn check_code(
        &self,
        owner: &WebSessionOwner,
        code: &str,
        source: &Source,
    ) -> Result<SecondCheck, StoreError> {
        let codes = Identity::Code(owner.account().unwrap_or(ADMIN));
        if let Err(wait) = source.begin(codes) {
            return Ok(SecondCheck::TooMany(wait));
        }
        let store = self.store();
        let factor = store.second_factor(owner).await?;
        let Some(otp) = &factor.otp else {
            return Ok(SecondCheck::Wrong);
        };
        let digits: String = code.chars().filter(|it| !it.is_whitespace()).collect();
        let (change, right) = match otp_step(otp, &digits, source.now) {
            Some(step) => (SecondFactorChange::TakeStep(step), SecondCheck::Code),
            None => {
                let hash = hash(code);
                if !factor.recovery.contains(&hash) {
                    return Ok(SecondCheck::Wrong);
                }
                let left = factor.recovery.len().saturating_sub(1);
                let change = SecondFactorChange::TakeRecovery(hash);
                (change, SecondCheck::Recovery(left))
            }
        };
        // Of two logins with one code, the store lets one pass.
        if !store.change_second_factor(owner.clone(), change).await? {
            return Ok(SecondCheck::Wrong);
        }
        source.right(codes, true);
        Ok(right)
    }

    /// Checks the password of the administrator, as [`verify_admin`](Self::verify_admin). If the
    /// administrator has one-time codes, the password needs one: behind it and a `$`.
    ///
    /// # Errors
    /// If the store can't be read, or can't note that the code was taken.
    pub async fn verify_admin_with_code(
        &self,
        hash: Option<String>,
        password: &str,
        source: &Source,
    ) -> Result<CodeCheck, StoreError> {
        let owner = WebSessionOwner::Admin;
        let otp = self.store().second_factor(&owner).await?.otp;
        let split = otp.as_ref().and_then(|otp| split_code(otp, password));
        let (password, code) = split.map_or((password, None), |(it, code)| (it, Some(code)));
        match self.verify_admin(hash, password, source).await? {
            PasswordCheck::Right => {}
            PasswordCheck::TooWeak | PasswordCheck::Wrong => return Ok(CodeCheck::Wrong),
            PasswordCheck::TooMany(wait) => return Ok(CodeCheck::TooMany(wait)),
        }
        let code = match (otp, code) {
            (None, _) => return Ok(CodeCheck::Password),
            (Some(_), None) => return Ok(CodeCheck::CodeMissing),
            (Some(_), Some(code)) => code,
        };
        Ok(match self.check_code(&owner, code, source).await? {
            SecondCheck::Code | SecondCheck::Recovery(_) => CodeCheck::Password,
            SecondCheck::Wrong => CodeCheck::Wrong,
            SecondCheck::TooMany(wait) => CodeCheck::TooMany(wait),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use postrider_store::{PendingOtp, Store, Time};
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;
    use crate::login::{LoginLimiter, hash_password, make_otp, otp_code};

    const NOW: Time = Time(1_000_000 * 30 * 100);

    fn source() -> Source {
        Source {
            limiter: Arc::<LoginLimiter>::default(),
            ip: [192, 0, 2, 1].into(),
            behind_proxy: false,
            now: NOW,
        }
    }

    /// Lets somebody need codes. Gives the code of a step, and the recovery codes.
    async fn enable(
        store: &Store,
        owner: &WebSessionOwner,
    ) -> (impl Fn(u64) -> String, Vec<String>) {
        let rng = &mut StdRng::seed_from_u64(1);
        let (otp, _) = make_otp("ann", "mail", rng).unwrap();
        let (codes, recovery) = make_recovery_codes(rng);
        let pending = PendingOtp {
            otp: otp.clone(),
            until: Time(i64::MAX),
        };
        let confirm = SecondFactorChange::Confirm {
            secret: otp.secret.clone(),
            step: 1,
            recovery,
            now: NOW,
        };
        for change in [SecondFactorChange::Begin(pending), confirm] {
            let made = store.change_second_factor(owner.clone(), change).await;
            assert!(made.unwrap());
        }
        (move |step| otp_code(&otp, step).unwrap(), codes)
    }

    #[test]
    fn recovery_codes_are_read_however_they_are_typed() {
        let (codes, hashes) = make_recovery_codes(&mut StdRng::seed_from_u64(1));
        assert_eq!((codes.len(), hashes.len()), (10, 10));
        for (code, expected) in codes.iter().zip(hashes) {
            assert_eq!((code.len(), code.matches('-').count()), (19, 3), "{code}");
            let typed = code.replace('-', " ").to_uppercase();
            assert_eq!(hash(&typed), expected);
        }
        assert_ne!(codes[0], codes[1]);
    }

    #[tokio::test]
    async fn each_code_is_taken_once() {
        for owner in [
            WebSessionOwner::Admin,
            WebSessionOwner::Account("ann".into()),
        ] {
            let store = Store::memory();
            let logins = Logins::new(store.clone());
            let source = source();
            let check = async |code: &str| logins.check_code(&owner, code, &source).await.unwrap();
            // Who needs no codes has none.
            assert_eq!(check("123456").await, SecondCheck::Wrong);
            let (code, recovery) = enable(&store, &owner).await;
            let spaced = format!("{} {}", &code(100)[..3], &code(100)[3..]);
            assert_eq!(check(&spaced).await, SecondCheck::Code);
            assert_eq!(check(&code(100)).await, SecondCheck::Wrong);
            assert_eq!(check(&code(99)).await, SecondCheck::Wrong);
            assert_eq!(check(&code(101)).await, SecondCheck::Code);
            assert_eq!(check(&recovery[3]).await, SecondCheck::Recovery(9));
            assert_eq!(check(&recovery[3]).await, SecondCheck::Wrong);
            assert_eq!(check(&recovery[4]).await, SecondCheck::Recovery(8));
            assert_eq!(check("").await, SecondCheck::Wrong);
            // A right code takes back the failures of its own count only.
            for _ in 0..9 {
                assert_eq!(check("000000").await, SecondCheck::Wrong);
            }
            assert!(matches!(check("000000").await, SecondCheck::TooMany(_)));
            assert!(matches!(check(&recovery[5]).await, SecondCheck::TooMany(_)));
        }
    }

    #[tokio::test]
    async fn the_password_of_the_administrator_needs_a_code_if_there_are_codes() {
        let store = Store::memory();
        let logins = Logins::new(store.clone());
        let source = source();
        let hash = hash_password("correct horse").unwrap();
        let check = async |password: &str| {
            let checked = logins.verify_admin_with_code(Some(hash.clone()), password, &source);
            checked.await.unwrap()
        };
        assert_eq!(check("correct horse").await, CodeCheck::Password);
        assert_eq!(check("wrong horse").await, CodeCheck::Wrong);
        let (code, _) = enable(&store, &WebSessionOwner::Admin).await;
        assert_eq!(check("correct horse").await, CodeCheck::CodeMissing);
        let with_code = format!("correct horse${}", code(100));
        assert_eq!(check(&with_code).await, CodeCheck::Password);
        assert_eq!(check(&with_code).await, CodeCheck::Wrong);
        let wrong = format!("wrong horse${}", code(101));
        assert_eq!(check(&wrong).await, CodeCheck::Wrong);
    }
}
