//! Aggregate reports about DMARC (RFC 7489 Appendix C, RFC 9990).
//!
//! The types have the shape that clients of the management API know. The parser reads what servers
//! send: any namespace, either case, elements in any order, missing and unknown ones, and several
//! forms of dates. What cannot be is refused: a document type, too many levels or records, and a
//! text that ends too early.
//!
//! mail-auth has a parser too. It takes a text that is cut off for a whole one, loses all records
//! behind an element that it does not know, and has no limits.

mod parse;

use std::net::IpAddr;

use serde::Serialize;

pub use self::parse::parse;

/// A report.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// The version of the format; 0 if the report has none.
    pub version: f32,
    /// Who reports, and about which time.
    pub report_metadata: ReportMetadata,
    /// The policy of the domain.
    pub policy_published: PolicyPublished,
    /// The rows.
    pub record: Vec<Record>,
    /// Extensions of the whole report.
    pub extensions: Vec<Extension>,
}

/// Who reports, and about which time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ReportMetadata {
    /// The name of the reporter.
    pub org_name: String,
    /// Its address.
    pub email: String,
    /// Where to find more.
    pub extra_contact_info: Option<String>,
    /// The id of the report, given by the reporter.
    pub report_id: String,
    /// The time that the report is about.
    pub date_range: DateRange,
    /// What went wrong at the reporter.
    pub error: Vec<String>,
    /// The program that wrote the report (RFC 9990).
    pub generator: Option<String>,
}

/// A time in Unix seconds; 0 if it is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DateRange {
    /// The first second.
    pub begin: u64,
    /// The last second.
    pub end: u64,
}

/// The policy of a domain.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PolicyPublished {
    /// The domain.
    pub domain: String,
    /// The version of its record.
    pub version_published: Option<f32>,
    /// How DKIM is aligned.
    pub adkim: Alignment,
    /// How SPF is aligned.
    pub aspf: Alignment,
    /// The policy.
    pub p: Disposition,
    /// The policy for names below the domain.
    pub sp: Disposition,
    /// The policy for names that do not exist (RFC 9990).
    pub np: Disposition,
    /// The policy is tested only.
    pub testing: bool,
    /// How the record was found (RFC 9990).
    pub discovery_method: Discovery,
    /// When reports about single messages are wanted.
    pub fo: Option<String>,
}

words! {
    /// How names are compared.
    Alignment {
        /// Names of one organisation.
        Relaxed = "r" | "relaxed",
        /// Equal names.
        Strict = "s" | "strict",
    } else {
        /// The report does not say.
        Unspecified
    }

    /// What a policy asks for.
    Disposition {
        /// Nothing.
        None = "none",
        /// To take messages for suspicious.
        Quarantine = "quarantine",
        /// To refuse messages.
        Reject = "reject",
    } else {
        /// The report does not say.
        Unspecified
    }

    /// What was done with messages.
    ActionDisposition {
        /// Nothing.
        None = "none",
        /// They passed (RFC 9990).
        Pass = "pass",
        /// They were taken for suspicious.
        Quarantine = "quarantine",
        /// They were refused.
        Reject = "reject",
    } else {
        /// The report does not say.
        Unspecified
    }

    /// How a record was found.
    Discovery {
        /// By the public suffix list.
        Psl = "psl",
        /// By a walk up the tree of names (RFC 9989).
        Treewalk = "treewalk",
    } else {
        /// The report does not say.
        Unspecified
    }

    /// Whether a check passed for an aligned domain.
    DmarcResult {
        /// It did.
        Pass = "pass",
        /// It did not.
        Fail = "fail",
    } else {
        /// The report does not say.
        Unspecified
    }

    /// Why something else was done than the policy asks for.
    PolicyOverride {
        /// The message was forwarded, as far as the reporter can tell.
        Forwarded = "forwarded",
        /// The policy asks for a part of the messages only.
        SampledOut = "sampled_out",
        /// The message came from a forwarder that the reporter trusts.
        TrustedForwarder = "trusted_forwarder",
        /// The message came from a mailing list.
        MailingList = "mailing_list",
        /// The reporter has a rule of its own.
        LocalPolicy = "local_policy",
    } else {
        /// Something else.
        Other
    }

    /// The result of a DKIM signature.
    DkimResult {
        /// It is valid.
        Pass = "pass",
        /// It is not.
        Fail = "fail",
        /// A rule does not accept it.
        Policy = "policy",
        /// It can't be judged.
        Neutral = "neutral",
        /// DNS did not answer.
        TempError = "temperror",
        /// It can't be read.
        PermError = "permerror",
    } else {
        /// There is none.
        None
    }

    /// What SPF was checked for.
    SPFDomainScope {
        /// The name in EHLO.
        Helo = "helo",
        /// MAIL FROM.
        MailFrom = "mfrom" | "mailfrom",
    } else {
        /// The report does not say.
        Unspecified
    }

    /// The result of SPF.
    SpfResult {
        /// The record says nothing about the address.
        Neutral = "neutral",
        /// The address may send.
        Pass = "pass",
        /// The address may not send.
        Fail = "fail" | "hardfail",
        /// The address may probably not send.
        SoftFail = "softfail",
        /// DNS did not answer.
        TempError = "temperror" | "error",
        /// The record can't be read.
        PermError = "permerror" | "unknown",
    } else {
        /// There is no record.
        None
    }
}

/// A row: messages from one address, and what was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Record {
    /// The messages.
    pub row: Row,
    /// Their domains.
    pub identifiers: Identifier,
    /// The results of the checks.
    pub auth_results: AuthResult,
    /// Extensions of the row.
    pub extensions: Vec<Extension>,
}

/// Messages from one address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The address. None: it can't be read.
    pub source_ip: Option<IpAddr>,
    /// How many messages.
    pub count: u32,
    /// What DMARC said.
    pub policy_evaluated: PolicyEvaluated,
}

/// What DMARC said of messages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PolicyEvaluated {
    /// What was done.
    pub disposition: ActionDisposition,
    /// DKIM for an aligned domain.
    pub dkim: DmarcResult,
    /// SPF for an aligned domain.
    pub spf: DmarcResult,
    /// Why something else was done than the policy asks for.
    pub reason: Vec<PolicyOverrideReason>,
}

impl PolicyEvaluated {
    /// Whether DMARC passed.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.dkim == DmarcResult::Pass || self.spf == DmarcResult::Pass
    }
}

/// Why something else was done than the policy asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PolicyOverrideReason {
    /// The kind.
    #[serde(rename = "type_")]
    pub kind: PolicyOverride,
    /// In words.
    pub comment: Option<String>,
}

/// The domains of messages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Identifier {
    /// That of the recipient.
    pub envelope_to: Option<String>,
    /// That of MAIL FROM.
    pub envelope_from: String,
    /// That of the author.
    pub header_from: String,
}

/// The results of the checks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AuthResult {
    /// DKIM, one for each signature.
    pub dkim: Vec<DKIMAuthResult>,
    /// SPF.
    pub spf: Vec<SPFAuthResult>,
}

/// The result of a DKIM signature.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DKIMAuthResult {
    /// `d=`.
    pub domain: String,
    /// `s=`.
    pub selector: String,
    /// The result.
    pub result: DkimResult,
    /// In words.
    pub human_result: Option<String>,
}

/// The result of SPF.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SPFAuthResult {
    /// The domain.
    pub domain: String,
    /// What it was checked for.
    pub scope: SPFDomainScope,
    /// The result.
    pub result: SpfResult,
    /// In words.
    pub human_result: Option<String>,
}

/// An extension that the report names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Extension {
    /// Its name.
    pub name: String,
    /// Where it is defined.
    pub definition: String,
}
