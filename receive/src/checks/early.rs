//! The checks of a client and its sender. They start at MAIL, and go on while the text arrives.

use postrider_smtp::{ReversePath, server::Client};

use super::{
    background::Background,
    iprev::{IprevResult, iprev},
    questions::Questions,
    spf::{SpfCheck, SpfResult},
};

/// Checks under way.
pub(super) type EarlyChecks = Background<(IprevResult, SpfResult)>;

/// Starts the checks of a client that gave this reverse-path. None for a client on this machine: it
/// passes on the mail of others, and its address says nothing about them.
pub(super) fn early_checks(
    questions: &Questions,
    client: &Client,
    reverse_path: &ReversePath,
) -> Option<EarlyChecks> {
    let address = client.remote.ip().to_canonical();
    if address.is_loopback() {
        return None;
    }
    let helo = client.helo.as_deref().unwrap_or_default();
    let questions = questions.clone();
    let spf = SpfCheck::new(questions.clone(), address, helo);
    let reverse_path = reverse_path.clone();
    Some(Background::start(async move {
        tokio::join!(iprev(&questions, address), spf.mail_from(&reverse_path))
    }))
}
