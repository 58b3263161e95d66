//! A signature as its field says it (RFC 6376 §3.5). ARC uses the same tags (RFC 8617 §4.1).

use std::{ops::Range, str};

use postrider_dns::is_within;
use postrider_smtp::{Domain, canonical::Form};
use postrider_store::Time;

use super::{
    BodyHashes, HeaderFields, MAX_NAMES, SignatureFault,
    tags::{Tags, base64, domain, number, parts, without_space},
};

/// How far the clock of a signer may be ahead of ours, in seconds.
const CLOCK_ERROR: u64 = 5 * 60;

/// The longest text of a signature that a result shows.
const SHOWN_MAX: usize = 320;

/// How a signature was made. The hash is always SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    /// RFC 8301.
    Rsa,
    /// RFC 8463.
    Ed25519,
}

/// The tags that all kinds of signature have.
#[derive(Debug)]
pub(crate) struct Signed {
    pub(crate) algorithm: Algorithm,
    /// The bytes of `b=`.
    pub(crate) signature: Vec<u8>,
    /// Where `b=` has its value, in the field as it is written.
    pub(crate) b: Range<usize>,
    /// `d=`
    pub(crate) domain: Domain,
    /// The name of the key in DNS.
    pub(crate) key_name: String,
    /// `t=`, in seconds since 1970.
    pub(crate) time: Option<u64>,
}

impl Signed {
    /// Reads the tags. `begin` says where the value of the field begins.
    pub(crate) fn read(tags: &Tags<'_>, begin: usize) -> Result<Self, SignatureFault> {
        let algorithm = algorithm(required(tags, "a")?)?;
        let signature = base64(required(tags, "b")?).ok_or(SignatureFault::Bad("b"))?;
        let b = tags.span("b").unwrap_or_default();
        let domain = domain(required(tags, "d")?).ok_or(SignatureFault::Bad("d"))?;
        let selector = str::from_utf8(required(tags, "s")?);
        let selector = selector.map_err(|_| SignatureFault::Bad("s"))?;
        // A selector is one label or more, and its last label may be a number.
        let key_name = Domain::parse(&format!("{selector}._domainkey.{domain}"));
        let key_name = key_name.map_err(|_| SignatureFault::Bad("s"))?;
        let time = optional_number(tags, "t")?;
        Ok(Self {
            algorithm,
            signature,
            b: begin + b.start..begin + b.end,
            domain,
            key_name: key_name.ascii().to_owned(),
            time,
        })
    }
}

/// The tags of a signature that covers a message: its fields by name, and its body.
#[derive(Debug)]
pub(crate) struct Covered {
    header_form: Form,
    body_form: Form,
    body_hash: [u8; 32],
    /// `l=` is there.
    has_length: bool,
    /// The value of `h=`.
    names: Vec<u8>,
    /// `t=` and `x=`, in seconds since 1970.
    time: Option<u64>,
    expires: Option<u64>,
}

impl Covered {
    /// Reads the tags. `time` is `t=`, and `default` the form without `c=`.
    ///
    /// # Errors
    /// A tag is bad, or the signature can never have been valid.
    pub(crate) fn read(
        tags: &Tags<'_>,
        time: Option<u64>,
        default: Form,
    ) -> Result<Self, SignatureFault> {
        let (header_form, body_form) = match tags.get("c") {
            None => (default, default),
            Some(forms) => both_forms(forms).ok_or(SignatureFault::Bad("c"))?,
        };
        let body_hash = base64(required(tags, "bh")?).and_then(|hash| hash.try_into().ok());
        let body_hash = body_hash.ok_or(SignatureFault::Bad("bh"))?;
        let names = required(tags, "h")?.to_vec();
        if let Some(queries) = tags.get("q")
            && !parts(queries).any(|query| query.eq_ignore_ascii_case(b"dns/txt"))
        {
            return Err(SignatureFault::Bad("q"));
        }
        let length = optional_number(tags, "l")?;
        let expires = optional_number(tags, "x")?;
        if let (Some(time), Some(expires)) = (time, expires)
            && expires < time
        {
            return Err(SignatureFault::ExpiresTooEarly);
        }
        Ok(Self {
            header_form,
            body_form,
            body_hash,
            has_length: length.is_some(),
            names,
            time,
            expires,
        })
    }

    /// Checks that the signature is valid now (RFC 6376 §3.5).
    pub(crate) fn check_time(&self, now: Time) -> Result<(), SignatureFault> {
        let now = u64::try_from(now.0 / 1_000_000).unwrap_or(0);
        if self.expires.is_some_and(|expires| expires < now) {
            return Err(SignatureFault::Expired);
        }
        match self.time {
            Some(time) if time > now.saturating_add(CLOCK_ERROR) => Err(SignatureFault::Future),
            _ => Ok(()),
        }
    }

    /// Checks the tags against rules of ours.
    pub(crate) fn acceptable(&self) -> Result<(), SignatureFault> {
        if self.has_length {
            return Err(SignatureFault::Length);
        }
        match self.names().nth(MAX_NAMES) {
            Some(_) => Err(SignatureFault::TooManyNames),
            None => Ok(()),
        }
    }

    pub(crate) const fn header_form(&self) -> Form {
        self.header_form
    }

    pub(crate) const fn body_form(&self) -> Form {
        self.body_form
    }

    /// The names in `h=`.
    pub(crate) fn names(&self) -> impl Iterator<Item = &[u8]> {
        parts(&self.names)
    }

    /// Whether `h=` has this name. Case does not matter.
    pub(crate) fn covers(&self, name: &str) -> bool {
        self.names()
            .any(|known| known.eq_ignore_ascii_case(name.as_bytes()))
    }

    /// Compares the body with the signed one.
    pub(crate) fn check_body(&self, body: &BodyHashes) -> Result<(), SignatureFault> {
        match body.of(self.body_form) {
            None => Err(SignatureFault::BodyNotRead),
            Some(hash) if hash == self.body_hash => Ok(()),
            Some(_) => Err(SignatureFault::BodyHash),
        }
    }
}

/// A DKIM signature that a key can be asked for.
#[derive(Debug)]
pub(crate) struct DkimSignature {
    /// The place of its field.
    pub(crate) place: usize,
    pub(crate) signed: Signed,
    pub(crate) covered: Covered,
    /// `i=` names a domain below `d=`.
    pub(crate) identity_is_below: bool,
}

impl DkimSignature {
    /// Reads the signature in the field at this place, and checks what needs no key.
    pub(crate) fn read(
        fields: &HeaderFields,
        place: usize,
        tags: &Tags<'_>,
        now: Time,
    ) -> Result<Self, SignatureFault> {
        if required(tags, "v")? != b"1" {
            return Err(SignatureFault::Bad("v"));
        }
        let signed = Signed::read(tags, fields.value_begins(place))?;
        let covered = Covered::read(tags, signed.time, Form::Simple)?;
        let identity = match tags.get("i") {
            None => signed.domain.clone(),
            Some(identity) => identity_domain(identity).ok_or(SignatureFault::Bad("i"))?,
        };
        if !is_within(identity.ascii(), signed.domain.ascii()) {
            return Err(SignatureFault::IdentityOutside);
        }
        if is_public_suffix(&signed.domain) {
            return Err(SignatureFault::PublicSuffix);
        }
        if !covered.covers("From") {
            return Err(SignatureFault::FromNotSigned);
        }
        covered.check_time(now)?;
        // What is wrong for good comes before what is against a rule of ours.
        covered.acceptable()?;
        if fields.too_many() {
            return Err(SignatureFault::TooManyFields);
        }
        if !covered.covers("Subject") && !fields.named(b"Subject").is_empty() {
            return Err(SignatureFault::SubjectNotSigned);
        }
        Ok(Self {
            place,
            identity_is_below: identity != signed.domain,
            signed,
            covered,
        })
    }
}

fn required<'a>(tags: &Tags<'a>, name: &'static str) -> Result<&'a [u8], SignatureFault> {
    tags.get(name).ok_or(SignatureFault::Missing(name))
}

fn optional_number(tags: &Tags<'_>, name: &'static str) -> Result<Option<u64>, SignatureFault> {
    let value = tags.get(name);
    let number = value.map(|value| number(value).ok_or(SignatureFault::Bad(name)));
    number.transpose()
}

fn algorithm(name: &[u8]) -> Result<Algorithm, SignatureFault> {
    match name.to_ascii_lowercase().as_slice() {
        b"rsa-sha256" => Ok(Algorithm::Rsa),
        b"ed25519-sha256" => Ok(Algorithm::Ed25519),
        b"rsa-sha1" => Err(SignatureFault::Sha1),
        _ => Err(SignatureFault::Bad("a")),
    }
}

/// The forms of header and body. A body without a form has the simple one (RFC 6376 §3.5).
fn both_forms(value: &[u8]) -> Option<(Form, Form)> {
    let form = |name: &[u8]| match name.to_ascii_lowercase().as_slice() {
        b"simple" => Some(Form::Simple),
        b"relaxed" => Some(Form::Relaxed),
        _ => None,
    };
    let slash = value.iter().position(|byte| *byte == b'/');
    let Some((header, body)) = slash.and_then(|slash| value.split_at_checked(slash)) else {
        return Some((form(value)?, Form::Simple));
    };
    Some((form(header)?, form(body.get(1..)?)?))
}

/// The domain of `i=`. The text before its `@` is quoted-printable (RFC 6376 §2.11).
fn identity_domain(identity: &[u8]) -> Option<Domain> {
    let identity = without_space(identity);
    let at = identity.iter().rposition(|byte| *byte == b'@')?;
    let (local, after) = identity.split_at_checked(at)?;
    let mut codes = local.split(|byte| *byte == b'=').skip(1);
    let is_code = |code: &[u8]| {
        let digits = code.get(..2).unwrap_or_default();
        digits.len() == 2 && digits.iter().all(u8::is_ascii_hexdigit)
    };
    codes.all(is_code).then_some(())?;
    domain(after.get(1..)?)
}

/// Whether many organisations have names below this one, by the rules of registries. A name that
/// the owner of a service has put on the public suffix list may sign.
fn is_public_suffix(domain: &Domain) -> bool {
    let suffix = psl::suffix(domain.ascii().as_bytes());
    suffix.is_some_and(|suffix| {
        let is_registry = suffix.typ() == Some(psl::Type::Icann);
        suffix.as_bytes() == domain.ascii().as_bytes()
            && (is_registry || !domain.ascii().contains('.'))
    })
}

/// The parts of a signature that its result shows. They may be there for a signature that is wrong
/// elsewhere.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shown {
    pub(crate) domain: Option<Domain>,
    pub(crate) selector: Option<String>,
    pub(crate) identity: Option<String>,
    pub(crate) algorithm: Option<String>,
    pub(crate) signature: String,
}

impl Shown {
    pub(crate) fn read(tags: &Tags<'_>) -> Self {
        let shown = |name| {
            let value = tags.get(name).filter(|value| value.len() <= SHOWN_MAX)?;
            String::from_utf8(without_space(value)).ok()
        };
        let signature = tags.get("b").filter(|value| base64(value).is_some());
        let signature = without_space(signature.unwrap_or_default());
        Self {
            domain: tags.get("d").and_then(domain),
            selector: shown("s"),
            identity: shown("i"),
            algorithm: shown("a"),
            signature: signature
                .iter()
                .take(64)
                .map(|byte| char::from(*byte))
                .collect(),
        }
    }
}
