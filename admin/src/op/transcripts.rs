//! Transcripts: what was said in the last attempts to deliver a message.

use postrider_store::{Speaker, Time, Transcript, TranscriptCertificate};
use serde::{Deserialize, Serialize};

use super::hex;

/// What was said on the connection that an attempt ended with. Passwords and texts are not in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct TranscriptItem {
    /// When the attempt began, in RFC 3339, as in its result.
    pub start: String,
    /// The host as `name [ip]`; empty if none was reached.
    pub remote: String,
    /// The address or the proxy of ours; empty if the system chose an address and no session was
    /// opened.
    pub source: String,
    /// Our name in EHLO.
    pub ehlo: String,
    /// The rule that said which TLS the connection needs.
    pub tls_rule: String,
    /// The version of TLS, such as `TLSv1.3`; null in clear.
    pub tls_version: Option<String>,
    /// The cipher suite by its registered name; null in clear.
    pub tls_cipher: Option<String>,
    /// The certificate of the host.
    pub certificate: Option<CertificateItem>,
    /// What was said. Together the lines have 8 KiB at most.
    pub lines: Vec<TranscriptLineItem>,
    /// So many lines are missing behind the first ones.
    pub left_out: u64,
}

/// What the certificate of a host says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct CertificateItem {
    /// The subject. May be empty.
    pub subject: String,
    /// The issuer.
    pub issuer: String,
    /// The names of hosts, 8 at most.
    pub names: Vec<String>,
    /// The beginning of its validity, in RFC 3339.
    pub not_before: String,
    /// The end of its validity, in RFC 3339.
    pub not_after: String,
    /// The SHA-256 digest of the SubjectPublicKeyInfo, in hexadecimal.
    pub spki_sha256: String,
}

/// A line of a transcript.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct TranscriptLineItem {
    /// Milliseconds since the connection was begun.
    pub ms: u32,
    /// `client` (we), `server`, or `note` for a line that tells what happened.
    pub by: String,
    /// The line. `***` stands for a secret.
    pub text: String,
}

impl From<Transcript> for TranscriptItem {
    fn from(transcript: Transcript) -> Self {
        let (tls_version, tls_cipher) = match transcript.tls {
            Some(tls) => (Some(tls.version), Some(tls.cipher)),
            None => (None, None),
        };
        let lines = transcript.lines.into_iter().map(|line| TranscriptLineItem {
            ms: line.ms,
            by: match line.by {
                Speaker::Client => "client",
                Speaker::Server => "server",
                Speaker::Nobody => "note",
            }
            .to_owned(),
            text: line.text,
        });
        Self {
            start: transcript.start.to_string(),
            remote: transcript.remote,
            source: transcript.source,
            ehlo: transcript.ehlo,
            tls_rule: transcript.tls_rule,
            tls_version,
            tls_cipher,
            certificate: transcript.certificate.map(CertificateItem::from),
            lines: lines.collect(),
            left_out: transcript.left_out,
        }
    }
}

impl From<TranscriptCertificate> for CertificateItem {
    fn from(certificate: TranscriptCertificate) -> Self {
        Self {
            subject: certificate.subject,
            issuer: certificate.issuer,
            names: certificate.names,
            not_before: seconds(certificate.not_before),
            not_after: seconds(certificate.not_after),
            spki_sha256: hex(certificate.spki_sha256),
        }
    }
}

/// Seconds since 1970, in RFC 3339.
fn seconds(seconds: i64) -> String {
    Time(seconds.saturating_mul(1_000_000)).to_string()
}
