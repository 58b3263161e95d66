//! The content filter in the model.

use std::{collections::BTreeMap, ops::Bound};

use super::{
    Account, CountedTokens, FORGOTTEN_AT_ONCE, ForgetWords, JunkCounts, JunkKey, Learn, SetKey,
    Token, Train, token_day,
};
use crate::{
    error::Fault,
    subject::{ModelPart, ModelState},
};

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(super) key: Option<JunkKey>,
    accounts: BTreeMap<String, (Account, BTreeMap<u64, Token>)>,
}

impl ModelPart for Model {}

impl Model {
    pub(crate) fn learn(&mut self, account: &str, hashes: &[u64], learn: Learn, day: u32) {
        let today = token_day(day);
        let (account, tokens) = self.accounts.entry(account.to_owned()).or_default();
        for hash in hashes {
            let before = tokens.get(hash).copied().unwrap_or_default();
            let after = account.change(before, learn, today);
            match after.count.messages() {
                0 => tokens.remove(hash),
                _ => tokens.insert(*hash, after),
            };
        }
        match learn.forget {
            true => account.uncount(learn.junk),
            false => account.count(learn.junk),
        }
        account.tokens = tokens.len() as u64;
        if account.excess() > 0 {
            let later = tokens.range((Bound::Excluded(account.hand), Bound::Unbounded));
            let all = later.chain(tokens.range(..=account.hand));
            let all = all.map(|(hash, token)| Ok::<_, Fault>((*hash, *token)));
            for hash in account.choose(all, today).unwrap_or_default() {
                tokens.remove(&hash);
            }
            account.tokens = tokens.len() as u64;
        }
    }

    pub(crate) fn epoch(&self, account: &str) -> u32 {
        self.accounts
            .get(account)
            .map_or(0, |(account, _)| account.epoch)
    }

    pub(super) fn counted(&self, asked: &CountedTokens) -> JunkCounts {
        let Some((account, tokens)) = self.accounts.get(&asked.account) else {
            let tokens = vec![Default::default(); asked.tokens.len()];
            return JunkCounts {
                tokens,
                ..JunkCounts::default()
            };
        };
        let count = |hash| {
            let token = tokens.get(hash).copied().unwrap_or_default();
            token.count(account.halved)
        };
        JunkCounts {
            spam: account.spam,
            ham: account.ham,
            ever_spam: account.ever_spam,
            ever_ham: account.ever_ham,
            tokens: asked.tokens.iter().map(count).collect(),
        }
    }
}

impl SetKey {
    pub(super) fn apply_to_model(self, model: &mut ModelState) {
        model.junk.key.get_or_insert(self.0);
    }
}

impl Train {
    pub(super) fn apply_to_model(self, model: &mut ModelState) {
        let how = self.how();
        model.junk.learn(&self.account, &self.tokens, how, self.day);
    }
}

impl ForgetWords {
    pub(super) fn apply_to_model(self, model: &mut ModelState) -> u64 {
        let (account, tokens) = model.junk.accounts.entry(self.account).or_default();
        let going: Vec<u64> = tokens.keys().copied().take(FORGOTTEN_AT_ONCE).collect();
        for hash in &going {
            tokens.remove(hash);
        }
        account.tokens = tokens.len() as u64;
        account.forget();
        going.len() as u64
    }
}
