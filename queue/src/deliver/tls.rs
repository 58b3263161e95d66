//! How a connection to a host is protected, and what is done when that fails.

use postrider_smtp::{
    Cause, DeliveryStatus, EnhancedCode,
    client::{Connection, Tls, TlsMode},
};
use rustls::pki_types::ServerName;
use tracing::debug;

use super::{
    addresses::Peer,
    attempt::OngoingAttempt,
    endpoint::{Endpoint, Unconnected},
};
use crate::{
    next_hop::Hop,
    tls::{
        Check, Demand, Facts, KeyShares, MtaStsFact, Proven, Refusal, Requested, Start, TlsaFact,
        demand,
    },
};

/// The TLS of the connections to a host.
#[derive(Clone, Debug)]
pub(super) struct Protection {
    demand: Demand,
    /// The host's name. None: no certificate can have it, so there is no TLS.
    name: Option<ServerName<'static>>,
}

impl Protection {
    /// Plain text, for a socket of this machine.
    pub(super) const NONE: Self = Self {
        demand: Demand::PLAIN,
        name: None,
    };

    /// The least that a connection must prove.
    pub(super) const fn least(&self) -> Proven {
        self.demand.least()
    }
}

impl OngoingAttempt<'_> {
    /// The TLS for the messages of this attempt at a host. `stays`: what is sent there does not
    /// leave this machine.
    ///
    /// # Errors
    /// Why there is to be no connection.
    pub(super) fn protection(&self, hop: &Hop, stays: bool) -> Result<Protection, Refusal> {
        let facts = Facts {
            requested: match stays {
                true => Requested::Unsaid,
                false => self.requested,
            },
            rule: self.plan.tls,
            tlsa: TlsaFact::Absent,
            mta_sts: MtaStsFact::Absent,
        };
        let demand = demand(&facts)?;
        let name = ServerName::try_from(hop.name.clone()).ok();
        if name.is_none() && demand.least() > Proven::Plain {
            let text = format!(
                "{} demands TLS, and no certificate can have the name {:?}",
                demand.rule.name(),
                hop.name
            );
            let code = EnhancedCode::NO_SECURITY_FEATURE;
            return Err(Refusal::ForNow(DeliveryStatus::transient(
                Cause::Tls,
                code,
                text,
            )));
        }
        Ok(Protection { demand, name })
    }

    /// Opens a session that is protected as the endpoint says, and tells what it proves. A
    /// handshake that hangs or is reset is tried again without the post-quantum key share. Then TLS
    /// that is not demanded is left out (RFC 7435 §3). What helped is remembered.
    pub(super) async fn connect_protected(
        &self,
        endpoint: &Endpoint<'_>,
    ) -> Result<(Connection, Proven), Unconnected> {
        let (habits, address) = (&self.queue.habits, &endpoint.address);
        let now = || self.queue.clock.moment();
        let optional = endpoint.protection.demand.start == Start::IfOffered;
        if optional && habits.is_plain(address, now()) {
            return self.open_in_clear(endpoint).await;
        }
        let shares = match habits.is_classical(address, now()) {
            true => KeyShares::Classical,
            false => KeyShares::PostQuantum,
        };
        let mut opened = self.open_with(endpoint, shares).await;
        if let Err(Unconnected::Theirs(unopened)) = &opened
            && let Some(fault) = &unopened.tls
            && fault.kind.is_silence()
            && shares == KeyShares::PostQuantum
        {
            debug!(status = %unopened.status, "once more without a post-quantum key share");
            opened = self.open_with(endpoint, KeyShares::Classical).await;
            if opened.is_ok() {
                habits.was_classical(address.clone(), now());
            }
        }
        match opened {
            Err(Unconnected::Theirs(unopened)) if optional && unopened.tls.is_some() => {
                debug!(status = %unopened.status, "TLS failed, once more without");
                let opened = self.open_in_clear(endpoint).await;
                if opened.is_ok() {
                    habits.was_plain(address.clone(), now());
                }
                opened
            }
            Err(Unconnected::Theirs(mut unopened)) if unopened.tls.is_some() => {
                let rule = endpoint.protection.demand.rule.name();
                let text = &unopened.status.text;
                unopened.status.text = format!("{rule} demands TLS: {text}");
                Err(Unconnected::Theirs(unopened))
            }
            opened => opened,
        }
    }

    async fn open_in_clear(
        &self,
        endpoint: &Endpoint<'_>,
    ) -> Result<(Connection, Proven), Unconnected> {
        let connection = self.connect(endpoint, TlsMode::Never).await?;
        Ok((connection, Proven::Plain))
    }

    async fn open_with(
        &self,
        endpoint: &Endpoint<'_>,
        shares: KeyShares,
    ) -> Result<(Connection, Proven), Unconnected> {
        let Protection { demand, name } = &endpoint.protection;
        let Some(name) = name else {
            return self.open_in_clear(endpoint).await;
        };
        let tls = Tls {
            config: self.queue.tls.of(demand.check, shares),
            name: name.clone(),
        };
        let mode = match demand.start {
            Start::Never => TlsMode::Never,
            Start::IfOffered => TlsMode::Opportunistic(tls),
            Start::Upgrade => TlsMode::Required(tls),
            Start::Implicit => TlsMode::Implicit(tls),
        };
        let connection = self.connect(endpoint, mode).await?;
        let proven = self.proven(&connection, demand.check, name);
        Ok((connection, proven))
    }

    /// What an open session proves. A certificate that nobody demanded is checked too, so that more
    /// messages may use the connection, and so that the log tells.
    fn proven(&self, connection: &Connection, check: Check, name: &ServerName<'_>) -> Proven {
        if connection.tls().is_none() {
            return Proven::Plain;
        }
        match check {
            Check::Dane => Proven::Dane,
            Check::Pkix => Proven::Pkix,
            Check::Lenient | Check::Encrypted => {
                match self
                    .queue
                    .tls
                    .check_pkix(connection.peer_certificates(), name)
                {
                    Ok(()) => Proven::Pkix,
                    Err(fault) => {
                        debug!(%fault, "encrypted, and the host is not proven");
                        Proven::Encrypted
                    }
                }
            }
        }
    }

    /// Whether what is sent to a peer does not leave this machine, and is not passed on: it needs
    /// no TLS.
    pub(super) fn stays(&self, peer: &Peer) -> bool {
        self.plan.way.is_last() && peer.is_on_this_machine()
    }
}
