//! The stages that a check tells of.

use std::{net::IpAddr, time::Duration};

use postrider_dns::Tlsa;
use postrider_smtp::{Certificate, TlsInfo};
use tokio::{sync::mpsc, time::Instant};

use crate::{SiteView, SiteWaiting, mta_sts::Policy};

/// A part of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// The MX hosts of the domain.
    MxLookup,
    /// The MTA-STS policy of the domain.
    MtaStsFetch,
    /// Who wants reports about TLS.
    TlsRptLookup,
    /// A host. It begins, and has no end of its own.
    DeliveryAttempt,
    /// Whether the host is one of the MTA-STS policy.
    MtaStsVerify,
    /// The TLSA records of the host.
    TlsaLookup,
    /// The addresses of the host.
    IpLookup,
    /// The connection to an address.
    Connection,
    /// The greeting.
    ReadGreeting,
    /// EHLO, LHLO or HELO.
    Ehlo,
    /// STARTTLS and the handshake, or the handshake alone.
    StartTls,
    /// Whether the certificate matches the TLSA records.
    DaneVerify,
    /// The login.
    Auth,
    /// MAIL.
    MailFrom,
    /// RCPT.
    RcptTo,
    /// QUIT.
    Quit,
}

impl Step {
    /// The name in APIs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::MxLookup => "mxLookup",
            Self::MtaStsFetch => "mtaStsFetch",
            Self::TlsRptLookup => "tlsRptLookup",
            Self::DeliveryAttempt => "deliveryAttempt",
            Self::MtaStsVerify => "mtaStsVerify",
            Self::TlsaLookup => "tlsaLookup",
            Self::IpLookup => "ipLookup",
            Self::Connection => "connection",
            Self::ReadGreeting => "readGreeting",
            Self::Ehlo => "ehlo",
            Self::StartTls => "startTls",
            Self::DaneVerify => "daneVerify",
            Self::Auth => "auth",
            Self::MailFrom => "mailFrom",
            Self::RcptTo => "rcptTo",
            Self::Quit => "quit",
        }
    }
}

/// A stage.
#[derive(Clone, Debug)]
pub enum Stage {
    /// A step begins. The text is the domain, the host or the address that it is about, or empty.
    Began(Step, String),
    /// A step ends.
    Ended {
        /// The step.
        step: Step,
        /// Its outcome.
        outcome: Outcome,
        /// How long it took. None: it took no time.
        took: Option<Duration>,
    },
    /// The plan is made.
    Planned(Box<CheckedPlan>),
    /// A session is open.
    Opened(Box<CheckedSession>),
    /// The check ends.
    Completed(CheckResult),
}

/// How a step ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It worked.
    Success(Found),
    /// There is no such thing.
    NotFound,
    /// It failed, for this reason.
    Failed(String),
}

/// What a step found.
#[derive(Clone, Debug)]
pub enum Found {
    /// Nothing that is told.
    Nothing,
    /// The hosts of the domain, by preference.
    Hosts {
        /// The preference and the name of each.
        hosts: Vec<(u16, String)>,
        /// DNSSEC proves that these are the hosts.
        secure: bool,
        /// There are no MX records: the domain is its own host.
        implicit: bool,
    },
    /// An MTA-STS policy.
    Policy(StsFound),
    /// The URIs that get reports.
    Reports(Vec<String>),
    /// TLSA records that can be used. Empty: there are records, and none can be used.
    Tlsa(Vec<Tlsa>),
    /// Addresses.
    Addresses(Vec<IpAddr>),
    /// A reply.
    Reply(String),
}

/// An MTA-STS policy.
#[derive(Clone, Debug)]
pub struct StsFound {
    /// Its id; empty: it is not known.
    pub id: String,
    /// The policy.
    pub policy: Policy,
}

/// Where mail for the address goes.
#[derive(Clone, Debug)]
pub struct CheckedPlan {
    /// The site.
    pub site: String,
    /// The entry of the provider.
    pub provider: String,
    /// The transport; empty: none.
    pub transport: String,
    /// The TLS of the plan, in words.
    pub tls: String,
    /// The preference, the name and the port of each host.
    pub hosts: Vec<(u16, String, u16)>,
    /// What is known of the site.
    pub known: Option<(SiteView, SiteWaiting)>,
}

/// An open session.
#[derive(Clone, Debug)]
pub struct CheckedSession {
    /// The host, as `name [ip]`.
    pub remote: String,
    /// The address or the proxy of ours; empty: there is none.
    pub source: String,
    /// Our name in EHLO.
    pub ehlo: String,
    /// The TLS. None: the session is in clear.
    pub tls: Option<TlsInfo>,
    /// The rule that said which TLS the connection needs, in words.
    pub tls_rule: String,
    /// What the session proves: `plain`, `encrypted`, `pkix` or `dane`.
    pub proven: &'static str,
    /// The certificate of the host.
    pub certificate: Option<Certificate>,
}

/// The end of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckResult {
    /// A host takes mail for the recipient.
    pub ok: bool,
    /// The failure is permanent.
    pub permanent: bool,
    /// The class of the failure.
    pub class: Option<&'static str>,
    /// The reply code; 0: there was no reply.
    pub code: u16,
    /// The last reply, or why there was none, with host and stage.
    pub text: String,
}

impl Stage {
    /// The end of a step that began then.
    pub(crate) fn ended(step: Step, outcome: Outcome, began: Instant) -> Self {
        Self::Ended {
            step,
            outcome,
            took: Some(began.elapsed()),
        }
    }
}

/// Takes stages. A check has a limited number of hosts and addresses, and so of stages.
#[derive(Clone, Debug)]
pub struct Stages(mpsc::UnboundedSender<Stage>);

impl Stages {
    /// A taker of stages, and where they come out.
    #[must_use]
    pub fn new() -> (Self, mpsc::UnboundedReceiver<Stage>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    /// Tells a stage. Nobody needs to listen.
    pub(crate) fn tell(&self, stage: Stage) {
        let _ = self.0.send(stage);
    }
}
