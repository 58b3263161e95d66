//! Which addresses mail is redirected to: with the leave of the configuration, within the daily
//! limit of the account, and never back to where it came from.

use std::{collections::HashSet, time::Duration};

use postrider_queue::header::Header;
use postrider_smtp::Address;
use postrider_store::StoreError;
use tracing::info;

use super::Asking;
use crate::{
    SessionContext,
    checks::has_loop_when_queued,
    facts::{RecipientFacts, Target},
    sieve::Outcome,
};

const DAY: Duration = Duration::from_hours(24);

/// The accounts with the addresses that a message is redirected to. An account that is named twice
/// sends one copy to each.
pub(super) type Counted = HashSet<(String, Address)>;

/// Why mail is not redirected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NoRedirect {
    NotAllowed,
    Loop,
    Limit,
}

impl NoRedirect {
    const fn as_str(self) -> &'static str {
        match self {
            Self::NotAllowed => "the account has no allow_forward",
            Self::Loop => "it would go in a circle",
            Self::Limit => "the account has reached its daily limit",
        }
    }
}

impl SessionContext {
    /// Leaves out the addresses that the mail of an account may not be redirected to. If a script
    /// gave the message away and nothing of that is left, the message is kept.
    ///
    /// # Errors
    /// If the store can't be used.
    pub(super) async fn check_redirects(
        &self,
        asking: &Asking<'_>,
        (recipient, target): (&RecipientFacts, &Target),
        wanted: &mut Outcome,
        counted: &mut Counted,
    ) -> Result<(), StoreError> {
        if wanted.redirects.is_empty() {
            return Ok(());
        }
        let given = std::mem::take(&mut wanted.redirects);
        let account = asking.config.accounts.get(&target.account);
        let fault = match account {
            Some(account) if account.allow_forward => {
                let before = given.len();
                let fit = given
                    .into_iter()
                    .filter(|to| !goes_back(asking, recipient, to));
                let fit: Vec<Address> = fit.collect();
                let is_loop = fit.len() < before;
                let most = account.max_outgoing_messages_per_day;
                let is_new =
                    |to: &&Address| !counted.contains(&(target.account.clone(), (*to).clone()));
                let count = fit.iter().filter(is_new).count();
                match self.may_redirect(&target.account, count, most).await? {
                    true => {
                        let of_account = fit.iter().map(|to| (target.account.clone(), to.clone()));
                        counted.extend(of_account);
                        wanted.redirects = fit;
                        is_loop.then_some(NoRedirect::Loop)
                    }
                    false => Some(NoRedirect::Limit),
                }
            }
            _ => Some(NoRedirect::NotAllowed),
        };
        let Some(fault) = fault else {
            return Ok(());
        };
        info!(
            account = target.account.as_str(),
            to = %recipient.address,
            reason = fault.as_str(),
            "mail is not redirected"
        );
        let is_left = wanted.keep.is_some() || !wanted.filed.is_empty();
        if !is_left && wanted.redirects.is_empty() {
            wanted.keep = Some(Vec::new());
        }
        Ok(())
    }

    /// Counts the redirects of the day: with what the account sends itself, there are no more than
    /// it may send.
    async fn may_redirect(
        &self,
        account: &str,
        count: usize,
        most: u32,
    ) -> Result<bool, StoreError> {
        if count == 0 {
            return Ok(true);
        }
        let now = self.clock.now();
        let sent = self.store.sent(account, now.before(DAY)).await?.recipients;
        let sent = u32::try_from(sent).unwrap_or(u32::MAX);
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let left = most.saturating_sub(sent);
        self.store.take_redirects(account, count, left, now).await
    }
}

/// Whether a message was at an address before, or has come too far to go on.
fn goes_back(asking: &Asking<'_>, recipient: &RecipientFacts, to: &Address) -> bool {
    let config = asking.config;
    let header = asking.facts.header.as_ref();
    let plain = config.plain(to);
    let before = header.map_or(&[][..], Header::delivered_to);
    header.is_some_and(has_loop_when_queued)
        || plain == config.plain(&recipient.address)
        || before.iter().any(|before| config.plain(before) == plain)
}
