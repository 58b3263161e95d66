//! Tokens that this server gives out: they log in for a while in the place of a password.
//!
//! A token is found by the SHA-256 digest of its text. The store never has the text itself. A new
//! password of an account ends the tokens of the account in the same operation, and so does its
//! removal.

#[cfg(any(test, feature = "memory"))]
pub(crate) mod model;
#[cfg(test)]
mod tests;

use std::{ops::Bound, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{State, next};
use crate::{
    Store, StoreError, Time,
    error::Fault,
    id::ids,
    table::{
        Faults, Table,
        key::Name,
        tables,
        value::{records, ways},
    },
};

ids! {
    /// A token that this server gave out.
    MailTokenId,
}

/// The most tokens of one kind that an account has. When one more comes, the oldest one goes.
pub const MAIL_TOKENS_MAX: usize = 20;

/// The use of a token.
///
/// The journal and the index have the place in this list, so a new one goes to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MailTokenKind {
    /// It logs in at submission, at a server for reading mail beside this one, and at the mailbox
    /// API.
    Mail,
    /// It logs in at the mailbox API only.
    User,
}

/// A token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailToken {
    /// The number.
    pub id: MailTokenId,
    /// The SHA-256 digest of its text.
    pub hash: [u8; 32],
    /// The account that it logs in to.
    pub account: String,
    /// The address of the account that it is for.
    pub address: String,
    /// Its use.
    pub kind: MailTokenKind,
    /// When it was made.
    pub created: Time,
    /// From when on it is of no use.
    pub until: Time,
}

/// Hides the digest.
impl std::fmt::Debug for MailToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MailToken")
            .field("id", &self.id)
            .field("account", &self.account)
            .field("address", &self.address)
            .field("kind", &self.kind)
            .field("created", &self.created)
            .field("until", &self.until)
            .finish_non_exhaustive()
    }
}

/// A new token. The fields are those of [`MailToken`].
#[derive(Clone, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "each is described at the field of the same name of MailToken"
)]
pub struct NewMailToken {
    pub hash: [u8; 32],
    pub account: String,
    pub address: String,
    pub kind: MailTokenKind,
    pub created: Time,
    pub until: Time,
}

/// Hides the digest.
impl std::fmt::Debug for NewMailToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewMailToken")
            .field("account", &self.account)
            .field("kind", &self.kind)
            .field("until", &self.until)
            .finish_non_exhaustive()
    }
}

impl NewMailToken {
    /// The record with this number.
    fn token(self, id: MailTokenId) -> MailToken {
        MailToken {
            id,
            hash: self.hash,
            account: self.account,
            address: self.address,
            kind: self.kind,
            created: self.created,
            until: self.until,
        }
    }
}

/// Numbers that are kept with the tables.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Counters {
    last: u64,
}

records! {
    MailToken: version 1,
}

ways! {
    MailTokenId: version 1,
}

tables! {
    /// The tokens.
    counters: Counters,
    tokens: Table<MailTokenId, MailToken> = Table::new("mail_tokens"),
    /// By the digest of the text.
    by_hash: Table<[u8; 32], MailTokenId> = Table::new("mail_token_hashes"),
    /// By account.
    by_account: Table<(Name, MailTokenId), ()> = Table::new("mail_token_accounts"),
    /// By the time when they end.
    ends: Table<(Time, MailTokenId), ()> = Table::new("mail_token_ends"),
}

subject!(
    counters Counters, keys 1,
    fn skip_ids(&mut self, by: u64) {
        self.counters.last = self.counters.last.saturating_add(by);
    },
    fn sweep(state: &mut State, now: Time, max: u64) -> Result<u64, Fault> {
        state.mail_tokens.end_old(now, max)
    }
);

impl Tables {
    fn add(&mut self, token: MailToken) {
        let id = token.id;
        self.by_hash.put(token.hash, id);
        self.by_account
            .put_new((token.account.as_str().into(), id), ());
        self.ends.put_new((token.until, id), ());
        self.tokens.put_new(id, token);
    }

    /// Ends a token. False: there is none.
    fn end(&mut self, id: MailTokenId) -> Result<bool, Fault> {
        let Some(token) = self.tokens.take(&id)? else {
            return Ok(false);
        };
        self.by_hash.remove(&token.hash);
        self.by_account.remove(&(token.account.as_str().into(), id));
        self.ends.remove(&(token.until, id));
        Ok(true)
    }

    fn of(&self, account: &str) -> Result<Vec<MailToken>, Fault> {
        let account: Name = account.into();
        let from = (Arc::clone(&account), MailTokenId(0));
        let to = (account, MailTokenId(u64::MAX));
        let mut tokens = Vec::new();
        for entry in self
            .by_account
            .range(Bound::Included(&from), Bound::Included(&to))?
        {
            let ((_, id), ()) = entry?;
            tokens.extend(self.tokens.get(&id)?);
        }
        Ok(tokens)
    }

    /// Ends the tokens of an account. Gives how many there were.
    pub(super) fn end_of(&mut self, account: &str) -> Result<u64, Fault> {
        let mut ended = 0;
        for token in self.of(account)? {
            ended += u64::from(self.end(token.id)?);
        }
        Ok(ended)
    }

    /// Ends all tokens.
    pub(super) fn end_all(&mut self) -> Result<(), Fault> {
        for (id, _) in self.tokens.all()? {
            self.end(id)?;
        }
        Ok(())
    }

    /// Removes at most `max` tokens whose time is over.
    fn end_old(&mut self, now: Time, max: u64) -> Result<u64, Fault> {
        let to = (now, MailTokenId(u64::MAX));
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        let old = self
            .ends
            .range(Bound::Unbounded, Bound::Included(&to))?
            .take(max)
            .collect::<Result<Vec<_>, Fault>>()?;
        for (end, ()) in &old {
            if !self.end(end.1)? {
                // The token could not be read.
                self.ends.remove(end);
            }
        }
        Ok(old.len() as u64)
    }
}

/// The token to end so that an account has no more than [`MAIL_TOKENS_MAX`] of a kind.
fn too_many<'a>(
    tokens: impl Iterator<Item = &'a MailToken>,
    kind: MailTokenKind,
) -> Option<MailTokenId> {
    let ids: Vec<MailTokenId> = tokens
        .filter(|it| it.kind == kind)
        .map(|it| it.id)
        .collect();
    match ids.len() > MAIL_TOKENS_MAX {
        true => ids.into_iter().min(),
        false => None,
    }
}

impl State {
    /// Compares the ways to the tokens with the tokens.
    pub(super) fn check_mail_tokens(&self, faults: &mut Faults) -> Result<(), Fault> {
        let tables = &self.mail_tokens;
        let mut count = 0;
        tables.tokens.for_each(|id, token| {
            count += 1;
            let account = token.account.as_str().into();
            let found = tables.by_hash.get(&token.hash)? == Some(id)
                && tables.by_account.contains(&(account, id))?
                && tables.ends.contains(&(token.until, id))?;
            faults.check(found, || {
                format!("the mail token {id} is not found by its text, account and end")
            });
            Ok(())
        })?;
        faults.compare("mail tokens by text", tables.by_hash.count()?, count);
        faults.compare("mail tokens by account", tables.by_account.count()?, count);
        faults.compare("ends of mail tokens", tables.ends.count()?, count);
        Ok(())
    }
}

operations! {
    MailTokens, version 1:
    GiveToken -> MailTokenId, Ordinary;
    EndToken -> bool, Reserve;
    EndTokensOf -> u64, Reserve;
}

/// Adds a token.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct GiveToken(NewMailToken);

impl GiveToken {
    fn apply(self, state: &mut State) -> Result<MailTokenId, Fault> {
        let tables = &mut state.mail_tokens;
        let id = MailTokenId(next(&mut tables.counters.last));
        let token = self.0.token(id);
        let (account, kind) = (token.account.clone(), token.kind);
        tables.add(token);
        if let Some(oldest) = too_many(tables.of(&account)?.iter(), kind) {
            tables.end(oldest)?;
        }
        Ok(id)
    }
}

/// Ends a token.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct EndToken {
    id: MailTokenId,
}

impl EndToken {
    fn apply(self, state: &mut State) -> Result<bool, Fault> {
        state.mail_tokens.end(self.id)
    }
}

/// Ends the tokens of an account.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct EndTokensOf {
    account: String,
}

impl EndTokensOf {
    fn apply(self, state: &mut State) -> Result<u64, Fault> {
        state.mail_tokens.end_of(&self.account)
    }
}

questions! {
    ask ByText<'a> { hash: &'a [u8; 32] } -> Option<MailToken>,
    |this, state| match state.mail_tokens.by_hash.get(this.hash)? {
        Some(id) => state.mail_tokens.tokens.get(&id),
        None => Ok(None),
    },
    |this, model| model.mail_tokens.find(this.hash);

    scan OfAccount { account: String } -> Vec<MailToken>,
    |this, reader| Ok(reader.state()?.mail_tokens.of(&this.account)?),
    |this, model| model.mail_tokens.of(&this.account);
}

impl Store {
    /// Adds a token. If its account has [`MAIL_TOKENS_MAX`] of this kind already, the oldest one
    /// ends.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn give_mail_token(&self, token: NewMailToken) -> Result<MailTokenId, StoreError> {
        self.change_by(GiveToken(token)).await
    }

    /// The token whose text has this digest. Its time may be over: the store removes tokens some
    /// time after their end.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn mail_token(&self, hash: &[u8; 32]) -> Result<Option<MailToken>, StoreError> {
        self.ask(ByText { hash }).await
    }

    /// Ends a token. False: there is none with this number.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn end_mail_token(&self, id: MailTokenId) -> Result<bool, StoreError> {
        self.change_by(EndToken { id }).await
    }

    /// Ends the tokens of an account, and tells how many there were.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn end_mail_tokens(&self, account: &str) -> Result<u64, StoreError> {
        let account = account.to_owned();
        self.change_by(EndTokensOf { account }).await
    }

    /// The tokens of an account, by number. The time of some may be over.
    ///
    /// # Errors
    /// If they can't be read.
    pub async fn mail_tokens(&self, account: &str) -> Result<Vec<MailToken>, StoreError> {
        let account = account.to_owned();
        self.scan(OfAccount { account }).await
    }
}

#[cfg(test)]
pub(crate) fn samples() -> Vec<Op> {
    vec![
        Op::GiveToken(GiveToken(tests::token(7, "ann", MailTokenKind::Mail))),
        Op::EndToken(EndToken { id: MailTokenId(1) }),
        Op::EndTokensOf(EndTokensOf {
            account: "ann".into(),
        }),
    ]
}
