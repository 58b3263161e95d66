//! Reports about single messages: complaints, and failures of authentication (RFC 5965, RFC 6591).
//!
//! The type has the shape that clients of the management API know.

use std::net::IpAddr;

use postrider_smtp::field;
use serde::Serialize;

/// The most bytes of a value that are kept.
const VALUE_MAX: usize = 1024;
/// The most values of a field that may come several times.
const VALUES_MAX: usize = 100;
/// The most bytes of the message, or of its header section.
const MESSAGE_MAX: usize = 64 << 10;

/// A report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Feedback {
    /// What happened.
    pub feedback_type: FeedbackType,
    /// When the message came to the reporter, in Unix seconds.
    pub arrival_date: Option<i64>,
    /// Its Authentication-Results.
    pub authentication_results: Vec<String>,
    /// How often it happened.
    pub incidents: u32,
    /// ENVID of the message.
    pub original_envelope_id: Option<String>,
    /// Its MAIL FROM.
    pub original_mail_from: Option<String>,
    /// Its recipient.
    pub original_rcpt_to: Option<String>,
    /// The domains that the report is about.
    pub reported_domain: Vec<String>,
    /// The addresses that the report is about.
    pub reported_uri: Vec<String>,
    /// The server of the reporter.
    pub reporting_mta: Option<String>,
    /// The address that the message came from.
    pub source_ip: Option<IpAddr>,
    /// The program that made the report.
    pub user_agent: Option<String>,
    /// The version of the format.
    pub version: u32,
    /// The port that the message came from.
    pub source_port: u32,
    /// Which check failed.
    pub auth_failure: AuthFailureType,
    /// What became of the message.
    pub delivery_result: DeliveryResult,
    /// The ADSP record.
    pub dkim_adsp_dns: Option<String>,
    /// The canonical body.
    pub dkim_canonicalized_body: Option<String>,
    /// The canonical header section.
    pub dkim_canonicalized_header: Option<String>,
    /// `d=`.
    pub dkim_domain: Option<String>,
    /// `i=`.
    pub dkim_identity: Option<String>,
    /// `s=`.
    pub dkim_selector: Option<String>,
    /// The record of the key.
    pub dkim_selector_dns: Option<String>,
    /// The SPF record.
    pub spf_dns: Option<String>,
    /// What was not aligned (RFC 7489 §7.3).
    pub identity_alignment: IdentityAlignment,
    /// The beginning of the message, if the report has it.
    pub message: Option<String>,
    /// The beginning of its header section, if the report has only that.
    pub headers: Option<String>,
}

words! {
    /// What happened.
    FeedbackType {
        /// The recipient calls it spam.
        Abuse = "abuse",
        /// A check failed.
        AuthFailure = "auth-failure",
        /// It deceives.
        Fraud = "fraud",
        /// The recipient says that it is no spam.
        NotSpam = "not-spam",
        /// It has a virus.
        Virus = "virus",
    } else {
        /// Anything else.
        Other
    }

    /// Which check failed.
    AuthFailureType {
        /// ADSP.
        Adsp = "adsp",
        /// The body hash of a signature.
        BodyHash = "bodyhash",
        /// The key was revoked.
        Revoked = "revoked",
        /// The signature.
        Signature = "signature",
        /// SPF.
        Spf = "spf",
        /// DMARC.
        Dmarc = "dmarc",
    } else {
        /// The report does not say.
        Unspecified
    }

    /// What became of a message.
    DeliveryResult {
        /// It was delivered.
        Delivered = "delivered",
        /// It was delivered as spam.
        Spam = "spam",
        /// A rule decided.
        Policy = "policy",
        /// It was refused.
        Reject = "reject",
        /// Something else.
        Other = "other",
    } else {
        /// The report does not say.
        Unspecified
    }

    /// What was aligned.
    IdentityAlignment {
        /// Nothing.
        None = "none",
        /// SPF.
        Spf = "spf",
        /// DKIM.
        Dkim = "dkim",
        /// Both.
        DkimSpf = "dkim,spf" | "spf,dkim" | "dkim, spf" | "spf, dkim",
    } else {
        /// The report does not say.
        Unspecified
    }
}

impl FeedbackType {
    /// The word of the field.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Abuse => "abuse",
            Self::AuthFailure => "auth-failure",
            Self::Fraud => "fraud",
            Self::NotSpam => "not-spam",
            Self::Virus => "virus",
            Self::Other => "other",
        }
    }
}

fn cut(text: &str, max: usize) -> String {
    let end = text.floor_char_boundary(max);
    text.get(..end).unwrap_or_default().to_owned()
}

/// An address without what stands around it.
fn address(value: &str) -> &str {
    let value = value.trim();
    let value = value.strip_prefix("rfc822;").unwrap_or(value).trim();
    let inner = value.strip_prefix('<').and_then(|it| it.strip_suffix('>'));
    inner.unwrap_or(value)
}

/// Reads the fields of a report.
#[must_use]
pub fn parse(fields: &[u8]) -> Feedback {
    let mut feedback = Feedback {
        incidents: 1,
        ..Feedback::default()
    };
    for field in field::fields(fields) {
        let value = field::decode(None, field.value);
        let value = value.trim();
        let name = String::from_utf8_lossy(field.name)
            .trim()
            .to_ascii_lowercase();
        feedback.set(&name, value);
    }
    feedback
}

impl Feedback {
    fn set(&mut self, name: &str, value: &str) {
        let text = || Some(cut(value, VALUE_MAX));
        let few = |values: &mut Vec<String>| {
            if values.len() < VALUES_MAX {
                values.push(cut(value, VALUE_MAX));
            }
        };
        match name {
            "feedback-type" => self.feedback_type = FeedbackType::named(value),
            "arrival-date" | "received-date" => {
                let date = mail_parser::DateTime::parse_rfc822(value);
                self.arrival_date = date.map(|date| date.to_timestamp());
            }
            "authentication-results" => few(&mut self.authentication_results),
            "incidents" => self.incidents = value.parse().unwrap_or(1),
            "original-envelope-id" => self.original_envelope_id = text(),
            "original-mail-from" => {
                self.original_mail_from = Some(cut(address(value), VALUE_MAX));
            }
            "original-rcpt-to" if self.original_rcpt_to.is_none() => {
                self.original_rcpt_to = Some(cut(address(value), VALUE_MAX));
            }
            "reported-domain" => few(&mut self.reported_domain),
            "reported-uri" => few(&mut self.reported_uri),
            "reporting-mta" => {
                let host = value.strip_prefix("dns;").unwrap_or(value).trim();
                self.reporting_mta = Some(cut(host, VALUE_MAX));
            }
            "source-ip" => {
                let ip = value.trim_matches(['[', ']']);
                self.source_ip = ip.strip_prefix("IPv6:").unwrap_or(ip).parse().ok();
            }
            "source-port" => self.source_port = value.parse().unwrap_or(0),
            "user-agent" => self.user_agent = text(),
            "version" => self.version = value.parse().unwrap_or(0),
            "auth-failure" => self.auth_failure = AuthFailureType::named(value),
            "delivery-result" => self.delivery_result = DeliveryResult::named(value),
            "dkim-adsp-dns" => self.dkim_adsp_dns = text(),
            "dkim-canonicalized-body" => self.dkim_canonicalized_body = text(),
            "dkim-canonicalized-header" => self.dkim_canonicalized_header = text(),
            "dkim-domain" => self.dkim_domain = text(),
            "dkim-identity" => self.dkim_identity = text(),
            "dkim-selector" => self.dkim_selector = text(),
            "dkim-selector-dns" => self.dkim_selector_dns = text(),
            "spf-dns" => self.spf_dns = text(),
            "identity-alignment" => self.identity_alignment = IdentityAlignment::named(value),
            _ => {}
        }
    }

    /// Adds the message, or its header section.
    pub(super) fn add_message(&mut self, text: &[u8], is_whole: bool) {
        let text = text.get(..text.len().min(MESSAGE_MAX)).unwrap_or_default();
        let text = Some(String::from_utf8_lossy(text).into_owned());
        match is_whole {
            true => self.message = text,
            false => self.headers = text,
        }
    }
}
