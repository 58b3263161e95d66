//! The words of the content filter: how often each stood in the mail that an account called junk,
//! and in the mail that it called good.
//!
//! The store knows no words, only hashes of them under a secret key. An account has at most
//! [`JUNK_TOKENS`] of them. When it has learnt from [`JUNK_MESSAGES`] messages, all its counts are
//! halved, so that what it says today outweighs what it said long ago. A token is halved when it is
//! next looked at: until then it notes how often it was.
//!
//! An account that forgets all begins a new epoch. What was learnt from a mail in an earlier epoch
//! is gone: it is not taken back, and may be learnt again.

#[cfg(any(test, feature = "memory"))]
pub(crate) mod model;
#[cfg(test)]
mod tests;

use std::{ops::Bound, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{PORTION, Reader, State};
use crate::{
    Store, StoreError, Time,
    error::Fault,
    table::{
        Faults, Table,
        key::Name,
        tables,
        value::{records, ways},
    },
};

/// The most tokens of an account.
pub const JUNK_TOKENS: u64 = 200_000;
/// All counts of an account are halved when it has learnt from so many messages.
pub const JUNK_MESSAGES: u32 = 20_000;
/// A token that stood in one message only goes first, if that was more than so many days ago.
const SINGLE_DAYS: u16 = 90;
/// Tokens that the search for one to be removed looks at.
const LOOKED: usize = 16;
/// The most tokens that an operation looks at for that.
const LOOKED_MAX: usize = 4096;
/// Tokens that one operation forgets.
const FORGOTTEN_AT_ONCE: usize = 1000;

/// The secret key under which words are hashed.
pub type JunkKey = [u8; 16];

/// How often a token stood in messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TokenCount {
    /// In junk.
    pub spam: u16,
    /// In other mail.
    pub ham: u16,
}

impl TokenCount {
    fn of(&mut self, junk: bool) -> &mut u16 {
        match junk {
            true => &mut self.spam,
            false => &mut self.ham,
        }
    }

    /// How many messages it stood in.
    #[must_use]
    pub const fn messages(self) -> u32 {
        self.spam as u32 + self.ham as u32
    }
}

/// What an account has learnt about some tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JunkCounts {
    /// How many messages of junk the counts stand for.
    pub spam: u32,
    /// How many other messages the counts stand for.
    pub ham: u32,
    /// How many messages of junk it learnt from in all. Halving changes nothing in this.
    pub ever_spam: u32,
    /// How many other messages it learnt from in all.
    pub ever_ham: u32,
    /// One count for each token, in the order of the question.
    pub tokens: Vec<TokenCount>,
}

/// A token of an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Token {
    count: TokenCount,
    /// The day of the last message that it stood in, in days since 1970.
    day: u16,
    /// How often the account had been halved when the token was last changed.
    halved: u16,
}

impl Token {
    /// The count as it is after that many halvings of the account.
    fn count(self, halved: u16) -> TokenCount {
        let by = u32::from(halved.saturating_sub(self.halved));
        let half = |count: u16| count.checked_shr(by).unwrap_or(0);
        TokenCount {
            spam: half(self.count.spam),
            ham: half(self.count.ham),
        }
    }

    /// The order in which tokens go.
    fn rank(self, account: &Account, today: u16) -> Rank {
        match self.count(account.halved).messages() {
            0 => Rank::Useless,
            1 if self.day.saturating_add(SINGLE_DAYS) < today => Rank::OldSingle,
            1 => Rank::Single,
            _ => Rank::Other,
        }
    }
}

/// The order in which tokens go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Useless,
    OldSingle,
    Single,
    Other,
}

/// What an account has learnt, in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Account {
    spam: u32,
    ham: u32,
    tokens: u64,
    /// How often all counts were halved.
    halved: u16,
    /// The search for tokens to be removed goes on behind this one.
    hand: u64,
    /// How often the account forgot all.
    epoch: u32,
    /// How many messages of junk it learnt from since then, without halving.
    ever_spam: u32,
    /// How many other messages.
    ever_ham: u32,
}

/// The shape before version 2, which knew no epochs and no messages but those of the counts.
#[derive(Serialize, Deserialize)]
struct AccountV1 {
    spam: u32,
    ham: u32,
    tokens: u64,
    halved: u16,
    hand: u64,
}

impl From<AccountV1> for Account {
    fn from(old: AccountV1) -> Self {
        // At least so many, if counts were halved.
        let ever = |count: u32| count.saturating_mul(1 << old.halved.min(16));
        Self {
            spam: old.spam,
            ham: old.ham,
            tokens: old.tokens,
            halved: old.halved,
            hand: old.hand,
            epoch: 0,
            ever_spam: ever(old.spam),
            ever_ham: ever(old.ham),
        }
    }
}

impl Account {
    fn ever_of(&mut self, junk: bool) -> &mut u32 {
        match junk {
            true => &mut self.ever_spam,
            false => &mut self.ever_ham,
        }
    }

    /// Takes back that a message was counted.
    fn uncount(&mut self, junk: bool) {
        *self.of(junk) = self.of(junk).saturating_sub(1);
        *self.ever_of(junk) = self.ever_of(junk).saturating_sub(1);
    }

    /// Begins another epoch, in which nothing is learnt. The tokens have to go.
    fn forget(&mut self) {
        (self.spam, self.ham) = (0, 0);
        (self.ever_spam, self.ever_ham) = (0, 0);
        self.epoch = self.epoch.saturating_add(1);
    }

    fn of(&mut self, junk: bool) -> &mut u32 {
        match junk {
            true => &mut self.spam,
            false => &mut self.ham,
        }
    }

    /// Counts a message.
    fn count(&mut self, junk: bool) {
        *self.of(junk) += 1;
        *self.ever_of(junk) = self.ever_of(junk).saturating_add(1);
        if self.spam.saturating_add(self.ham) >= JUNK_MESSAGES {
            self.spam /= 2;
            self.ham /= 2;
            self.halved = self.halved.saturating_add(1);
        }
    }

    /// Changes the count of a token.
    fn change(&self, token: Token, learn: Learn, today: u16) -> Token {
        let mut count = token.count(self.halved);
        let of = count.of(learn.junk);
        *of = match learn.forget {
            true => of.saturating_sub(1),
            false => of.saturating_add(1),
        };
        Token {
            count,
            day: match learn.forget {
                true => token.day,
                false => today,
            },
            halved: self.halved,
        }
    }

    /// How many tokens there are too many.
    fn excess(&self) -> usize {
        usize::try_from(self.tokens.saturating_sub(JUNK_TOKENS)).unwrap_or(usize::MAX)
    }

    /// Looks at the next tokens behind the hand, and gives those that go: as many as are too many,
    /// and all that are of no use.
    fn choose(
        &mut self,
        next: impl Iterator<Item = Result<(u64, Token), Fault>>,
        today: u16,
    ) -> Result<Vec<u64>, Fault> {
        let excess = self.excess();
        let looked = excess.saturating_mul(LOOKED).min(LOOKED_MAX).max(excess);
        let mut seen = Vec::new();
        for item in next.take(looked) {
            let (hash, token) = item?;
            self.hand = hash;
            seen.push((token.rank(self, today), token.day, hash));
        }
        seen.sort_unstable();
        let going = seen.into_iter().enumerate();
        let going = going.take_while(|(at, (rank, ..))| *at < excess || *rank < Rank::Single);
        Ok(going.map(|(_, (.., hash))| hash).collect())
    }
}

/// How a message is learnt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Learn {
    /// It is junk.
    pub(super) junk: bool,
    /// It was learnt as such, and this is taken back.
    pub(super) forget: bool,
}

/// The day, as tokens have it.
fn token_day(day: u32) -> u16 {
    u16::try_from(day).unwrap_or(u16::MAX)
}

/// Numbers that are kept with the tables.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Counters {
    key: Option<JunkKey>,
}

records! {
    Token: version 1,
}

ways! {
    Account: version 2 [1 => AccountV1],
}

tables! {
    /// The content filter.
    counters: Counters,
    /// By account and hash.
    tokens: Table<(Name, u64), Token> = Table::new("junk_tokens"),
    /// What each account has learnt.
    accounts: Table<Name, Account> = Table::new("junk_accounts"),
}

subject!(counters Counters, keys 1);

impl Tables {
    /// Learns from a message, or takes that back.
    pub(super) fn learn(
        &mut self,
        account: &Name,
        tokens: &[u64],
        learn: Learn,
        day: u32,
    ) -> Result<(), Fault> {
        let today = token_day(day);
        let mut of_account = self.accounts.get(account)?.unwrap_or_default();
        for hash in tokens {
            let key = (Arc::clone(account), *hash);
            let before = self.tokens.get(&key)?;
            let after = of_account.change(before.unwrap_or_default(), learn, today);
            match (before.is_some(), after.count.messages() > 0) {
                (true, true) => self.tokens.put(key, after),
                (true, false) => {
                    self.tokens.remove(&key);
                    of_account.tokens -= 1;
                }
                (false, true) => {
                    self.tokens.put_new(key, after);
                    of_account.tokens += 1;
                }
                (false, false) => {}
            }
        }
        match learn.forget {
            true => of_account.uncount(learn.junk),
            false => of_account.count(learn.junk),
        }
        if of_account.excess() > 0 {
            let next = self.behind(account, of_account.hand)?;
            let going = of_account.choose(next, today)?;
            for hash in going {
                self.tokens.remove(&(Arc::clone(account), hash));
                of_account.tokens -= 1;
            }
        }
        self.accounts.put(Arc::clone(account), of_account);
        Ok(())
    }

    /// How often an account forgot all.
    pub(super) fn epoch(&self, account: &Name) -> Result<u32, Fault> {
        Ok(self.accounts.get(account)?.unwrap_or_default().epoch)
    }

    /// The tokens of an account behind one, and then those before it.
    fn behind(
        &self,
        account: &Name,
        hand: u64,
    ) -> Result<impl Iterator<Item = Result<(u64, Token), Fault>>, Fault> {
        let key = |hash| (Arc::clone(account), hash);
        let later = self
            .tokens
            .range(Bound::Excluded(&key(hand)), Bound::Included(&key(u64::MAX)))?;
        let earlier = self
            .tokens
            .range(Bound::Included(&key(0)), Bound::Included(&key(hand)))?;
        let all = later.chain(earlier);
        Ok(all.map(|item| item.map(|((_, hash), token)| (hash, token))))
    }

    /// The number of tokens of each account, as it should be.
    pub(super) fn check(&self, faults: &mut Faults) -> Result<(), Fault> {
        let mut counts = std::collections::BTreeMap::<Name, u64>::new();
        self.tokens.for_each(|(account, _), _| {
            *counts.entry(account).or_default() += 1;
            Ok(())
        })?;
        self.accounts.for_each(|account, of_account| {
            let count = counts.remove(&account).unwrap_or_default();
            faults.compare("words of an account", of_account.tokens, count);
            Ok(())
        })?;
        let left = counts.len() as u64;
        faults.compare("accounts with words that are not counted", 0, left);
        Ok(())
    }
}

operations! {
    Junk, version 1 weighed by weigh:
    SetKey -> (), Reserve;
    Train -> (), Ordinary;
    ForgetWords -> u64, Reserve;
}

fn weigh(op: &Op) -> usize {
    match op {
        Op::Train(train) => 1 + train.tokens.len(),
        Op::SetKey(_) => 1,
        Op::ForgetWords(_) => FORGOTTEN_AT_ONCE,
    }
}

/// Sets the key, if there is none.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SetKey(JunkKey);

impl SetKey {
    fn apply(self, state: &mut State) -> Result<(), Fault> {
        state.junk.counters.key.get_or_insert(self.0);
        Ok(())
    }
}

/// Learns from a message that is in no mailbox.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Train {
    account: String,
    tokens: Vec<u64>,
    junk: bool,
    day: u32,
}

impl Train {
    const fn how(&self) -> Learn {
        Learn {
            junk: self.junk,
            forget: false,
        }
    }

    fn apply(self, state: &mut State) -> Result<(), Fault> {
        let account: Name = self.account.as_str().into();
        state
            .junk
            .learn(&account, &self.tokens, self.how(), self.day)
    }
}

/// Begins another epoch of an account, and forgets some of its tokens. Gives how many.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ForgetWords {
    account: String,
}

impl ForgetWords {
    fn apply(self, state: &mut State) -> Result<u64, Fault> {
        let tables = &mut state.junk;
        let account: Name = self.account.into();
        // Its mail may have been learnt before an earlier program forgot the account.
        let mut of_account = tables.accounts.get(&account)?.unwrap_or_default();
        let all = tables.behind(&account, u64::MAX)?;
        let going = all
            .take(FORGOTTEN_AT_ONCE)
            .collect::<Result<Vec<_>, Fault>>()?;
        for (hash, _) in &going {
            tables.tokens.remove(&(Arc::clone(&account), *hash));
        }
        of_account.tokens -= going.len() as u64;
        of_account.forget();
        tables.accounts.put(account, of_account);
        Ok(going.len() as u64)
    }
}

questions! {
    ask GetKey {} -> Option<JunkKey>,
    |_this, state| Ok(state.junk.counters.key),
    |_this, model| model.junk.key;

    scan CountedTokens { account: String, tokens: Vec<u64> } -> JunkCounts,
    |this, reader| this.count(reader),
    |this, model| model.junk.counted(this);
}

impl CountedTokens {
    fn count(&self, reader: &Reader<'_>) -> Result<JunkCounts, StoreError> {
        let account: Name = self.account.as_str().into();
        let of_account = reader.state()?.junk.accounts.get(&account)?;
        let of_account = of_account.unwrap_or_default();
        let mut tokens = Vec::with_capacity(self.tokens.len());
        for portion in self.tokens.chunks(PORTION) {
            let state = reader.state()?;
            for hash in portion {
                let token = state.junk.tokens.get(&(Arc::clone(&account), *hash))?;
                let token = token.unwrap_or_default();
                tokens.push(token.count(of_account.halved));
            }
        }
        Ok(JunkCounts {
            spam: of_account.spam,
            ham: of_account.ham,
            ever_spam: of_account.ever_spam,
            ever_ham: of_account.ever_ham,
            tokens,
        })
    }
}

impl Store {
    /// The key under which words are hashed. The first caller brings it.
    ///
    /// # Errors
    /// If it can't be read, or a new one can't be made durable.
    pub async fn junk_key(&self, new: impl FnOnce() -> JunkKey) -> Result<JunkKey, StoreError> {
        if let Some(key) = self.ask(GetKey {}).await? {
            return Ok(key);
        }
        self.change_by(SetKey(new())).await?;
        // Another caller may have set another one meanwhile.
        Ok(self.ask(GetKey {}).await?.unwrap_or_default())
    }

    /// What an account has learnt about tokens.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn junk_counts(
        &self,
        account: &str,
        tokens: Vec<u64>,
    ) -> Result<JunkCounts, StoreError> {
        let account = account.to_owned();
        self.scan(CountedTokens { account, tokens }).await
    }

    /// Learns from a message that is in no mailbox. Each token stands there once.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn train_junk(
        &self,
        account: &str,
        tokens: Vec<u64>,
        junk: bool,
        now: Time,
    ) -> Result<(), StoreError> {
        self.change_by(Train {
            account: account.to_owned(),
            tokens,
            junk,
            day: now.day(),
        })
        .await
    }

    /// Forgets all that an account has learnt from messages. Gives how many tokens.
    ///
    /// # Errors
    /// If the change can't be made durable. Then a part may be forgotten.
    pub async fn forget_junk(&self, account: &str) -> Result<u64, StoreError> {
        let mut forgotten = 0;
        loop {
            let account = account.to_owned();
            match self.change_by(ForgetWords { account }).await? {
                0 => return Ok(forgotten),
                some => forgotten += some,
            }
        }
    }
}

#[cfg(test)]
pub(crate) fn samples() -> Vec<Op> {
    let account = || "ann".to_owned();
    vec![
        Op::SetKey(SetKey([7; 16])),
        Op::Train(Train {
            account: account(),
            tokens: vec![1, u64::MAX],
            junk: true,
            day: 20_000,
        }),
        Op::ForgetWords(ForgetWords { account: account() }),
    ]
}
