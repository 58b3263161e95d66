//! The checks of a client and its sender. They start at MAIL, and go on while the text arrives.

use postrider_smtp::{ReversePath, server::Client};
use tokio::task::JoinHandle;
use tracing::error;

use super::{
    iprev::{IprevResult, iprev},
    questions::Questions,
    results::AuthenticationResults,
    spf::{SpfCheck, SpfResult},
};

/// Checks under way. They end when this value is dropped, as by RSET.
#[derive(Debug)]
pub(crate) struct EarlyChecks {
    task: JoinHandle<(IprevResult, SpfResult)>,
}

impl EarlyChecks {
    /// Starts the checks of a client that gave this reverse-path. None for a client on this
    /// machine: it passes on the mail of others, and its address says nothing about them.
    pub(crate) fn start(
        questions: Questions,
        client: &Client,
        reverse_path: &ReversePath,
    ) -> Option<Self> {
        let address = client.remote.ip().to_canonical();
        if address.is_loopback() {
            return None;
        }
        let helo = client.helo.as_deref().unwrap_or_default();
        let spf = SpfCheck::new(questions.clone(), address, helo);
        let reverse_path = reverse_path.clone();
        let checks =
            async move { tokio::join!(iprev(&questions, address), spf.mail_from(&reverse_path)) };
        Some(Self {
            task: tokio::spawn(checks),
        })
    }

    /// Waits for the results. The deadline of the questions ends the wait.
    pub(crate) async fn results(mut self) -> AuthenticationResults {
        match (&mut self.task).await {
            Ok((iprev, spf)) => AuthenticationResults {
                iprev: Some(iprev),
                spf: Some(spf),
                ..AuthenticationResults::default()
            },
            Err(error) => {
                error!(%error, "the checks of a message failed");
                AuthenticationResults::default()
            }
        }
    }
}

impl Drop for EarlyChecks {
    fn drop(&mut self) {
        self.task.abort();
    }
}
