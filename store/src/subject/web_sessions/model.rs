//! Sessions of web pages in the model.

use std::collections::BTreeMap;

use super::{Begin, End, EndOf, Use, WebSession, WebSessionId, WebSessionOwner, too_many};
use crate::{
    Time,
    subject::{ModelPart, ModelState, next},
};

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    last: u64,
    sessions: BTreeMap<WebSessionId, WebSession>,
}

impl ModelPart for Model {
    fn skip_ids(&mut self, by: u64) {
        self.last = self.last.saturating_add(by);
    }

    fn sweep(&mut self, now: Time, max: u64) -> u64 {
        let sessions = self.sessions.values();
        let mut old: Vec<_> = sessions.map(|it| (it.until, it.id)).collect();
        old.sort_unstable();
        old.retain(|(until, _)| *until <= now);
        old.truncate(usize::try_from(max).unwrap_or(usize::MAX));
        for (_, id) in &old {
            self.sessions.remove(id);
        }
        old.len() as u64
    }
}

impl Model {
    pub(super) fn find(&self, hash: &[u8; 32]) -> Option<WebSession> {
        let mut sessions = self.sessions.values();
        sessions.find(|it| it.hash == *hash).cloned()
    }

    pub(super) fn list(&self, owner: Option<&WebSessionOwner>) -> Vec<WebSession> {
        let sessions = self.sessions.values();
        let wanted = sessions.filter(|it| owner.is_none_or(|owner| it.owner == *owner));
        wanted.cloned().collect()
    }

    pub(crate) fn end_of(&mut self, owner: &WebSessionOwner, except: Option<WebSessionId>) -> u64 {
        let before = self.sessions.len();
        self.sessions
            .retain(|id, it| it.owner != *owner || Some(*id) == except);
        (before - self.sessions.len()) as u64
    }

    pub(crate) fn end_all(&mut self) {
        self.sessions.clear();
    }
}

impl Begin {
    pub(super) fn apply_to_model(self, model: &mut ModelState) -> WebSessionId {
        let model = &mut model.web_sessions;
        let id = WebSessionId(next(&mut model.last));
        let session = self.0.session(id);
        let owner = session.owner.clone();
        model.sessions.insert(id, session);
        if let Some(oldest) = too_many(model.list(Some(&owner)).iter()) {
            model.sessions.remove(&oldest);
        }
        id
    }
}

impl Use {
    pub(super) fn apply_to_model(self, model: &mut ModelState) -> bool {
        let session = model.web_sessions.sessions.get_mut(&self.0.id);
        session.is_some_and(|session| {
            self.0.note(session);
            true
        })
    }
}

impl End {
    pub(super) fn apply_to_model(self, model: &mut ModelState) -> bool {
        model.web_sessions.sessions.remove(&self.id).is_some()
    }
}

impl EndOf {
    pub(super) fn apply_to_model(self, model: &mut ModelState) -> u64 {
        model.web_sessions.end_of(&self.owner, self.except)
    }
}
