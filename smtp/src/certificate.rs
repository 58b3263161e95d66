//! The facts of a server's certificate, for texts and records.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use x509_parser::{
    extensions::GeneralName, parse_x509_certificate, prelude::X509Certificate, x509::X509Name,
};

/// The most names that are kept.
const NAMES_MAX: usize = 8;
/// The most characters of a subject, an issuer or a name that are kept.
const TEXT_MAX: usize = 200;

/// What a certificate (RFC 5280) says, as far as it tells a reader which one it is. Its Display
/// form is one line for a failure's text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Certificate {
    /// The subject, like `CN=mx.example.com`. May be empty.
    pub subject: String,
    /// The issuer, in the same form.
    pub issuer: String,
    /// The host names and addresses of the subjectAltName, 8 at most.
    pub names: Vec<String>,
    /// The first second of its validity, since 1970.
    pub not_before: i64,
    /// The last second of its validity, since 1970.
    pub not_after: i64,
    /// The SHA-256 digest of the SubjectPublicKeyInfo, as in TLSA records with selector 1 (RFC 6698
    /// §2.1.2).
    pub spki_sha256: [u8; 32],
}

impl Certificate {
    /// Reads a certificate in DER. None if it is not one.
    #[must_use]
    pub fn read(der: &[u8]) -> Option<Self> {
        let (_, parsed) = parse_x509_certificate(der).ok()?;
        let spki = digest(&SHA256, parsed.public_key().raw);
        Some(Self {
            subject: name(parsed.subject()),
            issuer: name(parsed.issuer()),
            names: names(&parsed),
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
            spki_sha256: spki.as_ref().try_into().ok()?,
        })
    }
}

impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (date(self.not_before), date(self.not_after));
        write!(
            f,
            "subject \"{}\", issuer \"{}\", ",
            self.subject, self.issuer
        )?;
        match self.names.is_empty() {
            true => f.write_str("no names, ")?,
            false => write!(f, "names {}, ", self.names.join(" "))?,
        }
        write!(f, "valid {from} to {to}, SPKI SHA-256 ")?;
        let mut bytes = self.spki_sha256.iter();
        bytes.try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

fn date(seconds: i64) -> String {
    match jiff::Timestamp::from_second(seconds) {
        Ok(time) => time.strftime("%Y-%m-%d").to_string(),
        Err(_) => seconds.to_string(),
    }
}

fn name(name: &X509Name<'_>) -> String {
    clean(&name.to_string())
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let names = extension.value.general_names.iter();
    let hosts = names.filter_map(|name| match name {
        GeneralName::DNSName(host) => Some(clean(host)),
        GeneralName::IPAddress(bytes) => address(bytes),
        _ => None,
    });
    hosts.take(NAMES_MAX).collect()
}

fn address(bytes: &[u8]) -> Option<String> {
    let v4 = <[u8; 4]>::try_from(bytes).map(std::net::IpAddr::from);
    let address = v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(std::net::IpAddr::from));
    Some(address.ok()?.to_string())
}

/// A stranger wrote this text. It goes into logs and reports on one line.
fn clean(text: &str) -> String {
    let shown = text.chars().map(|char| match char {
        '"' => '\'',
        char if char.is_control() => ' ',
        char => char,
    });
    shown.take(TEXT_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(names: &[&str], common_name: &str) -> Vec<u8> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, common_name);
        params.not_before = rcgen::date_time_ymd(2026, 1, 2);
        params.not_after = rcgen::date_time_ymd(2026, 4, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn a_certificate_is_told_on_one_line() {
        let der = made(&["mx.test", "192.0.2.1"], "mx \"one\"\r\n");
        let certificate = Certificate::read(&der).unwrap();
        assert_eq!(certificate.names, ["mx.test", "192.0.2.1"]);
        assert_eq!(certificate.not_before, 1_767_312_000);
        let shown = certificate.to_string();
        let (text, digest) = shown.rsplit_once(' ').unwrap();
        assert_eq!(
            text,
            "subject \"CN=mx 'one'  \", issuer \"CN=mx 'one'  \", names mx.test 192.0.2.1, \
             valid 2026-01-02 to 2026-04-01, SPKI SHA-256"
        );
        assert!(digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()));
    }

    #[test]
    fn a_long_certificate_is_cut() {
        let many: Vec<String> = (0..50).map(|number| format!("{number}.test")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let certificate = Certificate::read(&made(&many, &"x".repeat(5000))).unwrap();
        assert_eq!(certificate.names.len(), NAMES_MAX);
        assert_eq!(certificate.subject.len(), TEXT_MAX);
        assert_eq!(Certificate::read(b"x"), None);
    }
}
