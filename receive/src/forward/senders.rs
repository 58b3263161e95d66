//! Rewritten senders with the store: the keys, the senders that are kept, and the way back.

use std::time::Duration;

use postrider_config::{Dynamic, Match, Target as Owner};
use postrider_smtp::{Address, Domain, ForwardPath, Host, ReversePath};
use postrider_store::{SrsKey, SrsSender, StoreError};
use rand::Rng;

use super::srs::{self, Day, Keys, Original, SrsFault};
use crate::{
    SessionContext,
    facts::{RecipientFacts, Resolution, ReturnFault, Target},
    resolve::is_disabled,
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a key writes addresses. The key before it proves them for as long again, and no address
/// counts for longer than 21 days.
const KEY_TIME: Duration = DAY.saturating_mul(30);
/// How long a sender is kept.
const KEEP: Duration = DAY.saturating_mul(30);

/// Whether somebody has the address by configuration, though it looks like a rewritten sender. A
/// catch-all does not count.
fn is_configured(config: &Dynamic, address: &Address) -> bool {
    let found = config.lookup(address);
    found.is_some_and(|found| match found.target {
        Owner::Account { by, .. } => by != Match::CatchAll,
        Owner::Alias { .. } => true,
    })
}

impl SessionContext {
    async fn srs_keys(&self) -> Result<Keys, StoreError> {
        let now = self.clock.now();
        let before = now.before(KEY_TIME);
        let mut keys = self.store.srs_keys().await?;
        if keys.first().is_none_or(|key| key.since < before) {
            let mut secret = [0; 32];
            rand::rng().fill_bytes(&mut secret);
            let key = SrsKey { secret, since: now };
            keys = self.store.rotate_srs_key(key, before).await?;
        }
        let mut secrets = keys.iter().map(|key| &key.secret);
        match (secrets.next(), secrets.next()) {
            (Some(newest), before) => Ok(Keys::new(newest, before)),
            (None, _) => Err(StoreError::Invalid("there is no key for senders")),
        }
    }

    /// The reverse-path of a forward. The null reverse-path stays.
    ///
    /// # Errors
    /// If the store can't be used.
    pub(super) async fn forward_path(
        &self,
        sender: &ReversePath,
        domain: &Domain,
    ) -> Result<ReversePath, StoreError> {
        let ReversePath::Mailbox(sender) = sender else {
            return Ok(ReversePath::Null);
        };
        let (keys, now) = (self.srs_keys().await?, self.clock.now());
        let rewritten = srs::rewrite(&keys, sender, Day::from(now));
        if let Some(name) = &rewritten.name {
            let known = self.store.srs_sender(name).await?;
            // A sender that comes often is written once a day.
            let enough = now.after(KEEP - DAY);
            if known.is_none_or(|known| known.keep_until < enough) {
                let kept = SrsSender {
                    address: sender.clone(),
                    keep_until: now.after(KEEP),
                };
                self.store.keep_srs_sender(name, kept).await?;
            }
        }
        Ok(ReversePath::Mailbox(Address {
            local: rewritten.local,
            host: Host::Domain(domain.clone()),
        }))
    }

    /// The facts of a recipient that has the form of a rewritten sender at one of our domains. None
    /// for any other recipient. `from` is the reverse-path of the message.
    ///
    /// # Errors
    /// If the store can't be used.
    pub(crate) async fn returned(
        &self,
        config: &Dynamic,
        from: &ReversePath,
        path: &ForwardPath,
    ) -> Result<Option<RecipientFacts>, StoreError> {
        let Some(address) = path.address() else {
            return Ok(None);
        };
        let local = address.local.as_str();
        if !srs::is_rewritten(local)
            || !config.is_local(&address.host)
            || is_configured(config, address)
        {
            return Ok(None);
        }
        let resolution = match from {
            _ if is_disabled(config, &address.host) => Resolution::DisabledDomain,
            ReversePath::Mailbox(_) => Resolution::BadReturn(ReturnFault::NoReport),
            ReversePath::Null => match self.original(local).await? {
                Ok(to) => Resolution::Return {
                    target: Target {
                        account: self.statics.postmaster.account.clone(),
                        destination: None,
                        mailbox: self.statics.postmaster.mailbox.clone(),
                        takes_all: false,
                        member: None,
                        used: None,
                        junk: None,
                    },
                    to,
                },
                Err(SrsFault::Forged) => Resolution::BadReturn(ReturnFault::Forged),
                Err(SrsFault::Old) => Resolution::BadReturn(ReturnFault::Old),
            },
        };
        Ok(Some(RecipientFacts::new(address.clone(), resolution)))
    }

    /// The sender that an address stands for.
    async fn original(&self, local: &str) -> Result<Result<Address, SrsFault>, StoreError> {
        let keys = self.srs_keys().await?;
        let found = srs::original(&keys, local, Day::from(self.clock.now()));
        Ok(match found {
            Ok(Original::Address(address)) => Ok(address),
            Ok(Original::Kept(name)) => {
                let kept = self.store.srs_sender(&name).await?;
                kept.map(|kept| kept.address).ok_or(SrsFault::Old)
            }
            Err(fault) => Err(fault),
        })
    }
}
