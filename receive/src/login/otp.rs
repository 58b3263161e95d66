//! One-time codes (TOTP, RFC 6238) as a second factor.

use postrider_store::{Otp, OtpAlgorithm, Time};
use rand::Rng;
use subtle::ConstantTimeEq;
use totp_rs::{Algorithm, Builder, Totp};

/// How many seconds a code may be shown.
const PERIODS: std::ops::RangeInclusive<u64> = 15..=300;
/// The length of a secret that is made here, in bytes (RFC 4226 §4).
const SECRET_LENGTH: usize = 20;
/// The longest secret, in bytes: the block of SHA-512.
const SECRET_MAX: usize = 128;

/// The reasons to refuse an `otpauth://` URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OtpError {
    /// It is no such URL, or a part of it has a wrong value.
    #[error("the URL is not usable; it needs the form otpauth://totp/NAME?secret=BASE32: {0}")]
    Url(String),
    /// The period is out of bounds.
    #[error("the period must be 15 to 300 seconds, not {0}")]
    Period(u64),
    /// The secret is too long.
    #[error("the secret has {0} bytes, and at most {SECRET_MAX} are allowed")]
    Long(usize),
}

/// Reads an `otpauth://totp/...` URL, the form in which programs for codes exchange their settings.
/// No code was taken yet.
///
/// # Errors
/// If it is not such a URL, or a value is not allowed. The secret needs at least 128 bits (RFC 4226
/// §4), and a code has 6 to 8 digits.
pub fn parse_otp(url: &str) -> Result<Otp, OtpError> {
    // A period of 0 must not reach a division.
    let totp = Totp::from_url(url).map_err(|error| OtpError::Url(error.to_string()))?;
    let secret = totp.secret().as_bytes().to_vec();
    if secret.len() > SECRET_MAX {
        return Err(OtpError::Long(secret.len()));
    }
    if !PERIODS.contains(&totp.step()) {
        return Err(OtpError::Period(totp.step()));
    }
    Ok(Otp {
        secret,
        algorithm: match totp.algorithm() {
            Algorithm::SHA1 => OtpAlgorithm::Sha1,
            Algorithm::SHA256 => OtpAlgorithm::Sha256,
            Algorithm::SHA512 => OtpAlgorithm::Sha512,
            other => {
                return Err(OtpError::Url(format!(
                    "the algorithm {other} is not supported"
                )));
            }
        },
        digits: totp.digits(),
        period: u32::try_from(totp.step()).map_err(|_| OtpError::Period(totp.step()))?,
        last_step: 0,
    })
}

/// A new generator of codes with a random secret, and its `otpauth://` URL for a program. `name`
/// and `issuer` are shown there.
///
/// # Errors
/// If a name can't stand in a URL: it is empty or has a colon.
pub fn make_otp(name: &str, issuer: &str, rng: &mut impl Rng) -> Result<(Otp, String), OtpError> {
    let mut secret = vec![0; SECRET_LENGTH];
    rng.fill_bytes(&mut secret);
    let otp = Otp {
        secret,
        algorithm: OtpAlgorithm::Sha1,
        digits: 6,
        period: 30,
        last_step: 0,
    };
    let builder = builder(&otp)
        .with_account_name(name)
        .with_issuer(Some(issuer));
    let url = builder.build().and_then(|totp| totp.to_url());
    let url = url.map_err(|error| OtpError::Url(error.to_string()))?;
    Ok((otp, url))
}

fn builder(otp: &Otp) -> Builder {
    Builder::new()
        .with_secret(otp.secret.as_slice())
        .with_algorithm(match otp.algorithm {
            OtpAlgorithm::Sha1 => Algorithm::SHA1,
            OtpAlgorithm::Sha256 => Algorithm::SHA256,
            OtpAlgorithm::Sha512 => Algorithm::SHA512,
        })
        .with_digits(otp.digits)
        .with_step_duration(u64::from(otp.period))
}

/// The code of a time step: the number of periods since 1970.
#[must_use]
pub fn otp_code(otp: &Otp, step: u64) -> Option<String> {
    let totp = builder(otp).build().ok()?;
    let time = step.saturating_mul(u64::from(otp.period));
    Some(totp.generate(time).to_string())
}

/// The time step of a code that is right at a moment, or one step before or after it (RFC 6238
/// §5.2). None: the code is wrong, or was taken before, or a later one was.
#[must_use]
pub fn otp_step(otp: &Otp, code: &str, now: Time) -> Option<u64> {
    let seconds = u64::try_from(now.0 / 1_000_000).ok()?;
    let period = u64::from(otp.period.max(1));
    let present = seconds / period;
    let steps = present.saturating_sub(1)..=present.saturating_add(1);
    let is_right = |step: &u64| {
        let right = otp_code(otp, *step).unwrap_or_default();
        !right.is_empty() && bool::from(right.as_bytes().ct_eq(code.as_bytes()))
    };
    // The same code may belong to two steps. The later one takes both.
    let found = steps.rev().find(is_right);
    found.filter(|step| *step > otp.last_step)
}

/// Splits a password and the code behind its last `$`. None: there is no code.
pub(super) fn split_code<'a>(otp: &Otp, password: &'a str) -> Option<(&'a str, &'a str)> {
    let (password, code) = password.rsplit_once('$')?;
    let is_code =
        code.len() == usize::from(otp.digits) && code.bytes().all(|it| it.is_ascii_digit());
    is_code.then_some((password, code))
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    fn at(seconds: i64) -> Time {
        Time(seconds * 1_000_000)
    }

    /// The test vectors of RFC 6238, appendix B, with the secrets of its erratum 2866.
    #[test]
    fn codes_are_those_of_the_rfc() {
        let digits = "1234567890".repeat(7);
        for (algorithm, length, codes) in [
            (OtpAlgorithm::Sha1, 20, ["94287082", "07081804", "89005924"]),
            (
                OtpAlgorithm::Sha256,
                32,
                ["46119246", "68084774", "91819424"],
            ),
            (
                OtpAlgorithm::Sha512,
                64,
                ["90693936", "25091201", "93441116"],
            ),
        ] {
            let otp = Otp {
                secret: digits.as_bytes()[..length].to_vec(),
                algorithm,
                digits: 8,
                period: 30,
                last_step: 0,
            };
            for (seconds, code) in [59, 1_111_111_109, 1_234_567_890].into_iter().zip(codes) {
                let step = seconds / 30;
                let found = |now| otp_step(&otp, code, at(now));
                let last_step = u64::try_from(step).unwrap();
                let expected = Some(last_step);
                assert_eq!(found(seconds), expected, "{algorithm:?} {seconds}");
                // One step of clock difference is allowed, and no more.
                assert_eq!(found(step * 30 + 59), expected);
                assert_eq!(found(step * 30 - 30), expected);
                assert_eq!(found(step * 30 + 60), None);
                assert_eq!(found(step * 30 - 31), None);
                let taken = Otp {
                    last_step,
                    ..otp.clone()
                };
                assert_eq!(otp_step(&taken, code, at(seconds)), None);
            }
            assert_eq!(otp_step(&otp, "00000000", at(59)), None);
            assert_eq!(otp_step(&otp, "", at(59)), None);
        }
    }

    #[test]
    fn a_url_is_read() {
        let secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
        let otp = parse_otp(&format!("otpauth://totp/ann@x.test?secret={secret}")).unwrap();
        assert_eq!(otp.secret, b"12345678901234567890");
        assert_eq!(
            (otp.digits, otp.period, otp.algorithm),
            (6, 30, OtpAlgorithm::Sha1)
        );
        let url = format!(
            "otpauth://totp/mail:ann@x.test?secret={secret}&issuer=mail&algorithm=SHA256&digits=8&period=60"
        );
        let otp = parse_otp(&url).unwrap();
        assert_eq!(
            (otp.digits, otp.period, otp.algorithm),
            (8, 60, OtpAlgorithm::Sha256)
        );
        for bad in [
            "".to_owned(),
            "otpauth://".to_owned(),
            format!("https://totp/ann?secret={secret}"),
            format!("otpauth://hotp/ann?secret={secret}"),
            "otpauth://totp/ann".to_owned(),
            "otpauth://totp/ann?secret=1".to_owned(),
            "otpauth://totp/ann?secret=GEZDGNBV".to_owned(),
            format!("otpauth://totp/ann?secret={secret}&digits=5"),
            format!("otpauth://totp/ann?secret={secret}&digits=10"),
            format!("otpauth://totp/ann?secret={secret}&period=0"),
            format!("otpauth://totp/ann?secret={secret}&period=301"),
            format!("otpauth://totp/ann?secret={secret}&algorithm=MD5"),
            format!("otpauth://totp/ann?secret={}", secret.repeat(8)),
        ] {
            assert!(parse_otp(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_new_generator_has_a_url_that_reads_the_same() {
        let rng = &mut StdRng::seed_from_u64(1);
        let (otp, url) = make_otp("ann@x.test", "mail.x.test", rng).unwrap();
        assert_eq!(parse_otp(&url).unwrap(), otp);
        assert_ne!(make_otp("ann@x.test", "mail.x.test", rng).unwrap().0, otp);
        assert!(make_otp("", "mail.x.test", rng).is_err());
    }

    #[test]
    fn a_code_is_behind_the_last_dollar() {
        let (otp, _) = make_otp("ann", "mail", &mut StdRng::seed_from_u64(1)).unwrap();
        assert_eq!(split_code(&otp, "a$b$123456"), Some(("a$b", "123456")));
        for none in ["a", "a$12345", "a$1234567", "a$12345x", "123456", "a$"] {
            assert_eq!(split_code(&otp, none), None, "{none}");
        }
    }
}
