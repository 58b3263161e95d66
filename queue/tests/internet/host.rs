//! What a simulated mail server does: one value for each host.

use std::{net::IpAddr, time::Duration};

use super::certificates;

/// A host of the world.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) policy: HostPolicy,
}

/// What the host does with connections and commands.
#[derive(Clone, Debug)]
pub(crate) struct HostPolicy {
    /// What becomes of connections, if there are none to be had.
    pub(crate) reach: Option<(Reach, When)>,
    /// The same for one of its addresses alone.
    pub(crate) lost_address: Option<IpAddr>,
    /// The time before each reply.
    pub(crate) pace: Duration,
    pub(crate) troubles: Vec<Trouble>,
    /// More connections at once get 421.
    pub(crate) connections_max: usize,
    /// More messages in a minute get 450.
    pub(crate) rate_max: Option<usize>,
    /// The first mail from an address for a recipient gets 450 for so long.
    pub(crate) greylist: Option<Duration>,
    /// More recipients of a transaction get 452.
    pub(crate) recipients_max: usize,
    /// Who is refused by address, and when.
    pub(crate) block: Option<When>,
    pub(crate) tls: Tls,
    /// What EHLO says of SIZE.
    pub(crate) size_max: Option<usize>,
    /// EHLO says these words beside PIPELINING and ENHANCEDSTATUSCODES.
    pub(crate) words: Vec<&'static str>,
}

impl Default for HostPolicy {
    fn default() -> Self {
        Self {
            reach: None,
            lost_address: None,
            pace: Duration::from_millis(20),
            troubles: Vec::new(),
            connections_max: usize::MAX,
            rate_max: None,
            greylist: None,
            recipients_max: 100,
            block: None,
            tls: Tls::None,
            size_max: Some(10_000_000),
            words: vec!["8BITMIME", "DSN"],
        }
    }
}

impl HostPolicy {
    /// The same with something wrong at a stage.
    pub(crate) fn with(mut self, stage: Stage, act: Act, when: When) -> Self {
        self.troubles.push(Trouble { stage, act, when });
        self
    }

    /// The same for a host that can't be reached.
    pub(crate) const fn unreachable(mut self, reach: Reach, when: When) -> Self {
        self.reach = Some((reach, when));
        self
    }
}

/// Why a host is not reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// It refuses connections.
    Refused,
    /// Nothing comes back.
    BlackHole,
    /// A router says that there is no way to the host.
    NoWay,
}

/// When something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    Always,
    /// While the world has an age between these.
    Between(Duration, Duration),
    /// The first times that sessions come to it.
    First(usize),
}

/// Something wrong at a stage of a session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trouble {
    pub(crate) stage: Stage,
    pub(crate) act: Act,
    pub(crate) when: When,
}

/// The stages of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Greeting,
    Ehlo,
    StartTls,
    Mail,
    Rcpt,
    Data,
    /// The text is there, and nothing is said of it.
    EndOfData,
}

/// What a host does in the place of the reply that it owes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Act {
    /// It replies with this.
    Say(&'static str),
    /// It closes the connection.
    Drop,
    /// It says that it takes the text, and closes the connection before the reply is out.
    TakeAndDrop,
    /// It sends bytes that are no reply.
    Garbage,
    /// It sends a reply that has no end.
    Endless,
    /// It says nothing more.
    Silence,
    /// It replies so much later.
    Late(Duration),
    /// It says yes to STARTTLS, and closes the connection.
    Cut,
}

/// The TLS of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tls {
    /// Not offered.
    None,
    /// STARTTLS, with this certificate.
    Offered(certificates::Kind),
}
