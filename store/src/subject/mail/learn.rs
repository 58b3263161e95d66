//! Changes of mail from which the account's junk filter learns.

use serde::{Deserialize, Serialize};

use super::{Mail, MailChange, MailId};
#[cfg(any(test, feature = "memory"))]
use crate::subject::ModelState;
use crate::{
    HistoryKey, Mark, Store, StoreError,
    error::Fault,
    subject::{State, junk},
    table::key::Name,
};

/// The flag of a mail that the account calls junk.
pub const JUNK_FLAG: &str = "$junk";
/// The flag of a mail that the account calls good.
pub const NOT_JUNK_FLAG: &str = "$notjunk";

/// What the junk filter has learnt from a mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trained {
    /// The mail was learnt as junk, or as good mail.
    pub junk: bool,
    /// The version of the tokenizer that made the words. 0: only the history of its sender was
    /// learnt.
    pub tokenizer: u8,
}

/// What there is to learn from a mail.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lesson {
    /// The version of the tokenizer. 0: the words are not learnt.
    pub tokenizer: u8,
    /// The hashes of the words, each once.
    pub tokens: Vec<u64>,
    /// The senders of the mail.
    pub senders: Vec<HistoryKey>,
    /// The number of the author, as in [`Mark::author`].
    pub author: u32,
    /// The day of the lesson, in days since 1970.
    pub today: u32,
}

/// What the flags of a mail call it: junk, good, or neither of both (None).
#[must_use]
pub fn called_junk(flags: &[String]) -> Option<bool> {
    let has = |flag| flags.iter().any(|it| it == flag);
    match (has(JUNK_FLAG), has(NOT_JUNK_FLAG)) {
        (true, false) => Some(true),
        (false, true) => Some(false),
        (false, false) | (true, true) => None,
    }
}

/// A mail before and after a change, as far as the filter is concerned.
struct Taught {
    before: Option<Trained>,
    after: Option<Trained>,
}

impl Lesson {
    /// What changes if a mail is learnt as its flags call it. None: nothing. `before` is what was
    /// learnt from it.
    fn teach(&self, mail: &Mail, before: Option<Trained>) -> Option<Taught> {
        let wanted = called_junk(&mail.flags);
        if before.map(|trained| trained.junk) == wanted {
            return None;
        }
        let after = wanted.map(|junk| Trained {
            junk,
            tokenizer: self.tokenizer,
        });
        Some(Taught { before, after })
    }

    fn mark(&self, mail: &Mail, junk: bool) -> Mark {
        Mark {
            day: mail.received.day(),
            junk,
            author: self.author,
        }
    }

    /// Whether words of this version are those of the lesson.
    const fn has_words(&self, trained: Trained) -> bool {
        self.tokenizer != 0 && trained.tokenizer == self.tokenizer
    }
}

impl Taught {
    /// What was learnt and is taken back, then what is learnt.
    fn steps(&self) -> impl Iterator<Item = (Trained, junk::Learn)> {
        let step = |trained: Option<Trained>, forget| {
            trained.map(|trained| {
                let junk = trained.junk;
                (trained, junk::Learn { junk, forget })
            })
        };
        let steps = [step(self.before, true), step(self.after, false)];
        steps.into_iter().flatten()
    }
}

/// Changes a mail of an account, and learns it as its flags call it then.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Learn {
    account: String,
    id: MailId,
    change: MailChange,
    lesson: Lesson,
}

impl Learn {
    /// How many records change.
    pub(super) fn changes(&self) -> usize {
        1 + self.lesson.tokens.len() + 4 * self.lesson.senders.len()
    }

    pub(super) fn apply(self, state: &mut State) -> Result<bool, Fault> {
        let Self {
            account,
            id,
            change,
            lesson,
        } = self;
        let Some(mail) = state.change_mail(&account, id, &change)? else {
            return Ok(false);
        };
        let before = state.mail.trained.get(&id)?;
        let Some(taught) = lesson.teach(&mail, before) else {
            return Ok(true);
        };
        match taught.after {
            Some(trained) => state.mail.trained.put(id, trained),
            None => state.mail.trained.remove(&id),
        }
        let account: Name = account.into();
        for (trained, learn) in taught.steps() {
            let mark = lesson.mark(&mail, learn.junk);
            for sender in &lesson.senders {
                match learn.forget {
                    true => state.reputation.unmark(&account, sender, mark)?,
                    false => state.reputation.mark(&account, sender, mark)?,
                }
            }
            if lesson.has_words(trained) {
                let (tokens, today) = (&lesson.tokens, lesson.today);
                state.junk.learn(&account, tokens, learn, today)?;
            }
        }
        Ok(true)
    }

    #[cfg(any(test, feature = "memory"))]
    pub(super) fn apply_to_model(self, model: &mut ModelState) -> bool {
        let Self {
            account,
            id,
            change,
            lesson,
        } = self;
        let Some(mail) = model.change_mail(&account, id, &change) else {
            return false;
        };
        let trained = &mut model.mail.trained;
        let Some(taught) = lesson.teach(&mail, trained.get(&id).copied()) else {
            return true;
        };
        match taught.after {
            Some(after) => trained.insert(id, after),
            None => trained.remove(&id),
        };
        let name: Name = account.as_str().into();
        for (trained, learn) in taught.steps() {
            let mark = lesson.mark(&mail, learn.junk);
            for sender in &lesson.senders {
                match learn.forget {
                    true => model.reputation.unmark(&name, sender, mark),
                    false => model.reputation.mark(&name, sender, mark),
                }
            }
            if lesson.has_words(trained) {
                let (tokens, today) = (&lesson.tokens, lesson.today);
                model.junk.learn(&account, tokens, learn, today);
            }
        }
        true
    }
}

questions! {
    ask HasTrained { id: MailId } -> Option<Trained>,
    |this, state| state.mail.trained.get(&this.id),
    |this, model| model.mail.trained.get(&this.id).copied();
}

impl Store {
    /// Changes a mail of an account, and learns it as its flags call it then (see
    /// [`called_junk`]). What was learnt from it as something else is taken back. All of this is
    /// one change. False: the account has no mail with this number.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn learn_mail(
        &self,
        account: &str,
        id: MailId,
        change: MailChange,
        lesson: Lesson,
    ) -> Result<bool, StoreError> {
        let account = account.to_owned();
        self.change_by(Learn {
            account,
            id,
            change,
            lesson,
        })
        .await
    }

    /// What the junk filter has learnt from a mail. None: nothing.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn trained(&self, id: MailId) -> Result<Option<Trained>, StoreError> {
        self.ask(HasTrained { id }).await
    }
}

#[cfg(test)]
pub(super) fn sample() -> Learn {
    use crate::HistoryKind;

    Learn {
        account: "ann".into(),
        id: MailId(1),
        change: MailChange::default(),
        lesson: Lesson {
            tokenizer: 1,
            tokens: vec![1, 2],
            senders: vec![HistoryKey {
                kind: HistoryKind::FromDomain,
                name: "x.example".into(),
                validated: true,
            }],
            author: 7,
            today: 20_000,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Accept, HistoryKind, TextSource, TokenCount,
        tests::{
            samples::{inline, mail},
            verbs::on_both,
        },
    };

    fn flags(add: &[&str], remove: &[&str]) -> MailChange {
        let owned = |flags: &[&str]| flags.iter().map(|it| (*it).to_owned()).collect();
        MailChange {
            add_flags: owned(add),
            remove_flags: owned(remove),
            mailbox: None,
        }
    }

    fn lesson(tokenizer: u8) -> Lesson {
        Lesson {
            tokenizer,
            ..sample().lesson
        }
    }

    #[test]
    fn both_flags_together_say_nothing() {
        let called = |flags: &[&str]| {
            let flags: Vec<_> = flags.iter().map(|it| (*it).to_owned()).collect();
            called_junk(&flags)
        };
        assert_eq!(called(&["$junk", "\\seen"]), Some(true));
        assert_eq!(called(&["$notjunk"]), Some(false));
        assert_eq!(called(&["$junk", "$notjunk"]), None);
        assert_eq!(called(&[]), None);
    }

    /// What an account has learnt: messages, the first token, the marks of the sender.
    async fn learnt(store: &Store) -> (u32, u32, TokenCount, Vec<(u32, bool)>) {
        let counts = store.junk_counts("ann", vec![1]).await.unwrap();
        let senders = lesson(1).senders;
        let marks = store.history("ann", &senders).await.unwrap().remove(0);
        let marks = marks.iter().map(|mark| (mark.author, mark.junk)).collect();
        (counts.spam, counts.ham, counts.tokens[0], marks)
    }

    #[tokio::test]
    async fn a_change_of_mind_takes_back_what_was_learnt() {
        on_both(|store| async move {
            let accept = Accept {
                text: Some(inline("Hi\r\n")),
                mails: vec![mail("Inbox", TextSource::New)],
                ..Accept::default()
            };
            let id = store.accept(accept).await.unwrap().mails[0];
            let teach = async |change, lesson| {
                let learnt = store.learn_mail("ann", id, change, lesson).await;
                assert!(learnt.unwrap());
                store.trained(id).await.unwrap()
            };
            let count = |spam, ham| TokenCount { spam, ham };
            let nothing = (0, 0, count(0, 0), Vec::new());
            let trained = |junk, tokenizer| Some(Trained { junk, tokenizer });

            let seen = teach(flags(&["\\flagged"], &[]), lesson(1)).await;
            assert_eq!(seen, None);
            assert_eq!(learnt(&store).await, nothing);

            let junk = teach(flags(&["$junk"], &[]), lesson(1)).await;
            assert_eq!(junk, trained(true, 1));
            let as_junk = (1, 0, count(1, 0), vec![(7, true)]);
            assert_eq!(learnt(&store).await, as_junk);
            teach(flags(&["$junk"], &[]), lesson(1)).await;
            assert_eq!(learnt(&store).await, as_junk, "said again");
            store.checkpoint().await;

            let good = teach(flags(&["$notjunk"], &["$junk"]), lesson(1)).await;
            assert_eq!(good, trained(false, 1));
            let as_good = (0, 1, count(0, 1), vec![(7, false)]);
            assert_eq!(learnt(&store).await, as_good);

            // Words of an older tokenizer are not known any more, so they stay.
            let newer = teach(flags(&["$junk"], &["$notjunk"]), lesson(2)).await;
            assert_eq!(newer, trained(true, 2));
            let both = (1, 1, count(1, 1), vec![(7, true)]);
            assert_eq!(learnt(&store).await, both);

            let neither = teach(flags(&[], &["$junk"]), lesson(2)).await;
            assert_eq!(neither, None);
            assert_eq!(learnt(&store).await, (0, 1, count(0, 1), Vec::new()));

            let other = store.learn_mail("bob", id, flags(&["$junk"], &[]), lesson(1));
            assert!(!other.await.unwrap(), "it is in another account");
        })
        .await;
    }

    #[tokio::test]
    async fn without_words_only_the_senders_are_learnt() {
        on_both(|store| async move {
            let accept = Accept {
                text: Some(inline("Hi\r\n")),
                mails: vec![mail("Inbox", TextSource::New)],
                ..Accept::default()
            };
            let id = store.accept(accept).await.unwrap().mails[0];
            let change = flags(&["$junk"], &[]);
            store
                .learn_mail("ann", id, change, lesson(0))
                .await
                .unwrap();
            let (spam, ham, token, marks) = learnt(&store).await;
            assert_eq!((spam, ham, token.messages()), (0, 0, 0));
            assert_eq!(marks, [(7, true)]);
            let senders = [HistoryKey {
                kind: HistoryKind::Organisation,
                ..lesson(1).senders.remove(0)
            }];
            assert_eq!(store.history("ann", &senders).await.unwrap(), [vec![]]);
            let trained = Trained {
                junk: true,
                tokenizer: 0,
            };
            assert_eq!(store.trained(id).await.unwrap(), Some(trained));
            assert!(store.remove_mail("ann", id).await.unwrap());
            assert_eq!(store.trained(id).await.unwrap(), None);
            assert_eq!(learnt(&store).await.3, [(7, true)], "what was learnt stays");
        })
        .await;
    }
}
