//! Tokens that this server gives out, in the model.

use std::collections::BTreeMap;

use super::{EndToken, EndTokensOf, GiveToken, MailToken, MailTokenId, too_many};
use crate::{
    Time,
    subject::{ModelPart, ModelState, next},
};

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    last: u64,
    tokens: BTreeMap<MailTokenId, MailToken>,
}

impl ModelPart for Model {
    fn skip_ids(&mut self, by: u64) {
        self.last = self.last.saturating_add(by);
    }

    fn sweep(&mut self, now: Time, max: u64) -> u64 {
        let tokens = self.tokens.values();
        let mut old: Vec<_> = tokens.map(|it| (it.until, it.id)).collect();
        old.sort_unstable();
        old.retain(|(until, _)| *until <= now);
        old.truncate(usize::try_from(max).unwrap_or(usize::MAX));
        for (_, id) in &old {
            self.tokens.remove(id);
        }
        old.len() as u64
    }
}

impl Model {
    pub(super) fn find(&self, hash: &[u8; 32]) -> Option<MailToken> {
        let mut tokens = self.tokens.values();
        tokens.find(|it| it.hash == *hash).cloned()
    }

    pub(super) fn of(&self, account: &str) -> Vec<MailToken> {
        let tokens = self.tokens.values();
        tokens.filter(|it| it.account == account).cloned().collect()
    }

    pub(crate) fn end_of(&mut self, account: &str) -> u64 {
        let before = self.tokens.len();
        self.tokens.retain(|_, it| it.account != account);
        (before - self.tokens.len()) as u64
    }

    pub(crate) fn end_all(&mut self) {
        self.tokens.clear();
    }
}

impl GiveToken {
    pub(super) fn apply_to_model(self, model: &mut ModelState) -> MailTokenId {
        let model = &mut model.mail_tokens;
        let id = MailTokenId(next(&mut model.last));
        let token = self.0.token(id);
        let (account, kind) = (token.account.clone(), token.kind);
        model.tokens.insert(id, token);
        if let Some(oldest) = too_many(model.of(&account).iter(), kind) {
            model.tokens.remove(&oldest);
        }
        id
    }
}

impl EndToken {
    pub(super) fn apply_to_model(self, model: &mut ModelState) -> bool {
        model.mail_tokens.tokens.remove(&self.id).is_some()
    }
}

impl EndTokensOf {
    pub(super) fn apply_to_model(self, model: &mut ModelState) -> u64 {
        model.mail_tokens.end_of(&self.account)
    }
}
