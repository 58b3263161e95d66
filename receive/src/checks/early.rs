//! The checks of a client and its sender. The names of the client are asked for when it connects,
//! and SPF when it names a sender. Both go on while the text arrives.

use std::{net::IpAddr, sync::Arc, time::Duration};

use postrider_observe::metrics::TimedCheck;
use postrider_smtp::{ReversePath, server::Client};
use tokio::sync::{SetOnce, oneshot};

use super::{
    background::Background,
    iprev::{IprevOutcome, IprevResult, iprev},
    questions::{Questions, TIME_LIMIT},
    spf::{SpfCheck, SpfResult},
};

/// The check of the names of a client, which begins with its session. It ends when this value is
/// dropped, with the session.
#[derive(Debug)]
pub(crate) struct ClientCheck {
    names: ClientNames,
    /// The task ends when this is dropped. A handle of the task would keep its memory as long as
    /// the session.
    _running: oneshot::Sender<()>,
}

/// The names of a client, once they are known.
#[derive(Clone, Debug)]
struct ClientNames {
    address: IpAddr,
    /// The result, and how long it took.
    result: Arc<SetOnce<(IprevResult, Duration)>>,
}

impl ClientCheck {
    /// Starts the check. None for a client on this machine. At most six questions are asked.
    pub(crate) fn start(questions: Questions, client: &Client) -> Option<Self> {
        let Peer { address, .. } = Peer::of(client)?;
        let names = ClientNames {
            address,
            result: Arc::default(),
        };
        let result = Arc::clone(&names.result);
        let (running, ended) = oneshot::channel::<()>();
        tokio::spawn(async move {
            let begun = questions.moment();
            tokio::select! {
                names = iprev(&questions, address) => {
                    let took = questions.moment().since(begun);
                    // Nobody else sets it.
                    let _ = result.set((names, took));
                }
                _ = ended => {}
            }
        });
        Some(Self {
            names,
            _running: running,
        })
    }
}

impl ClientCheck {
    /// The name that leads back to the address. None also if it is not known after this time.
    pub(crate) async fn name(&self, within: Duration) -> Option<String> {
        let result = tokio::time::timeout(within, self.names.result.wait()).await;
        result.ok().and_then(|(names, _)| names.name.clone())
    }
}

/// Checks of a message under way.
#[derive(Debug)]
pub(super) struct EarlyChecks {
    pub(super) results: Background<(IprevResult, SpfResult)>,
    /// The check of SPF, for its explanation.
    pub(super) spf: SpfCheck,
}

/// A client as the checks see it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer<'a> {
    /// An IPv4 address is never in its IPv6 form.
    pub(super) address: IpAddr,
    /// The name in EHLO; empty: it gave none.
    pub(super) helo: &'a str,
}

impl<'a> Peer<'a> {
    /// The client of a session. None for a client on this machine: it passes on the mail of others,
    /// and its address says nothing about them.
    pub(super) fn of(client: &'a Client) -> Option<Self> {
        let helo = client.helo.as_deref().unwrap_or_default();
        let peer = Self::new(client.remote.ip(), helo);
        (!peer.address.is_loopback()).then_some(peer)
    }

    /// Any client, also one on this machine.
    pub(super) const fn new(address: IpAddr, helo: &'a str) -> Self {
        let address = address.to_canonical();
        Self { address, helo }
    }
}

/// Starts the checks of a client that gave this reverse-path. `known` has the names of the client
/// since it connected. Those without an answer are asked for again.
pub(super) fn early_checks(
    questions: &Questions,
    peer: Peer<'_>,
    reverse_path: &ReversePath,
    known: Option<&ClientCheck>,
) -> EarlyChecks {
    let Peer { address, helo } = peer;
    let questions = questions.clone();
    let spf = SpfCheck::new(questions.clone(), address, helo);
    let (check, reverse_path) = (spf.clone(), reverse_path.clone());
    let known = known.map(|known| known.names.clone());
    let known = known.filter(|names| names.address == address);
    let timing = questions.clone();
    let names = async move {
        if let Some(known) = &known {
            tokio::select! {
                known = known.result.wait() => if known.0.outcome != IprevOutcome::TempError {
                    let (result, took) = known;
                    questions.note(TimedCheck::Iprev, *took);
                    return result.clone();
                },
                () = questions.sleep(TIME_LIMIT) => {}
            }
        }
        let names = iprev(&questions, address);
        questions.timed(TimedCheck::Iprev, names).await
    };
    let results = Background::start(async move {
        let spf = timing.timed(TimedCheck::Spf, check.mail_from(&reverse_path));
        tokio::join!(names, spf)
    });
    EarlyChecks { results, spf }
}
