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
    /// The epoch of the account's words in which it was learnt.
    pub epoch: u32,
}

/// The shape before version 2, which knew no epochs.
#[derive(Serialize, Deserialize)]
pub(super) struct TrainedV1 {
    junk: bool,
    tokenizer: u8,
}

impl From<TrainedV1> for Trained {
    fn from(TrainedV1 { junk, tokenizer }: TrainedV1) -> Self {
        Self {
            junk,
            tokenizer,
            epoch: 0,
        }
    }
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

/// What changes if a mail is learnt.
#[derive(Default)]
struct Taught {
    /// What is kept of the mail from now on.
    after: Option<Trained>,
    /// What the marks of its senders lose and get.
    marks: Vec<junk::Learn>,
    /// What the words lose and get.
    words: Vec<junk::Learn>,
}

impl Lesson {
    /// What changes if a mail is learnt as its flags call it. None: nothing. `before` is what was
    /// learnt from it, and `epoch` the epoch of the account.
    fn teach(&self, mail: &Mail, before: Option<Trained>, epoch: u32) -> Option<Taught> {
        let wanted = called_junk(&mail.flags);
        let said = before.map(|trained| trained.junk);
        let is_same = said == wanted;
        // Its words are there, and the lesson knows them.
        let had = before.is_some_and(|trained| {
            self.tokenizer != 0 && trained.tokenizer == self.tokenizer && trained.epoch == epoch
        });
        let has_words = self.tokenizer != 0;
        if is_same && (had || !has_words || wanted.is_none()) {
            return None;
        }
        let learn = |junk: Option<bool>, forget| junk.map(|junk| junk::Learn { junk, forget });
        let change = |forgets: bool, learns: bool| {
            let lost = learn(said.filter(|_| forgets), true);
            let got = learn(wanted.filter(|_| learns), false);
            lost.into_iter().chain(got).collect()
        };
        Some(Taught {
            after: wanted.map(|junk| Trained {
                junk,
                tokenizer: self.tokenizer,
                epoch,
            }),
            marks: change(!is_same, !is_same),
            words: change(had, has_words),
        })
    }

    fn mark(&self, mail: &Mail, junk: bool) -> Mark {
        Mark {
            day: mail.received.day(),
            junk,
            author: self.author,
        }
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
        let account: Name = account.into();
        let epoch = state.junk.epoch(&account)?;
        let Some(taught) = lesson.teach(&mail, before, epoch) else {
            return Ok(true);
        };
        match taught.after {
            Some(trained) => state.mail.trained.put(id, trained),
            None => state.mail.trained.remove(&id),
        }
        for learn in taught.marks {
            let mark = lesson.mark(&mail, learn.junk);
            for sender in &lesson.senders {
                match learn.forget {
                    true => state.reputation.unmark(&account, sender, mark)?,
                    false => state.reputation.mark(&account, sender, mark)?,
                }
            }
        }
        for learn in taught.words {
            let (tokens, today) = (&lesson.tokens, lesson.today);
            state.junk.learn(&account, tokens, learn, today)?;
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
        let epoch = model.junk.epoch(&account);
        let trained = &mut model.mail.trained;
        let Some(taught) = lesson.teach(&mail, trained.get(&id).copied(), epoch) else {
            return true;
        };
        match taught.after {
            Some(after) => trained.insert(id, after),
            None => trained.remove(&id),
        };
        let name: Name = account.as_str().into();
        for learn in taught.marks {
            let mark = lesson.mark(&mail, learn.junk);
            for sender in &lesson.senders {
                match learn.forget {
                    true => model.reputation.unmark(&name, sender, mark),
                    false => model.reputation.mark(&name, sender, mark),
                }
            }
        }
        for learn in taught.words {
            let (tokens, today) = (&lesson.tokens, lesson.today);
            model.junk.learn(&account, tokens, learn, today);
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
        Accept, HistoryKind, TextSource, Time, TokenCount,
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

    /// A mail in the store.
    async fn accepted(store: &Store) -> MailId {
        let accept = Accept {
            text: Some(inline("Hi\r\n")),
            mails: vec![mail("Inbox", TextSource::New)],
            ..Accept::default()
        };
        store.accept(accept).await.unwrap().mails[0]
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
            let id = accepted(&store).await;
            let teach = async |change, lesson| {
                let learnt = store.learn_mail("ann", id, change, lesson).await;
                assert!(learnt.unwrap());
                store.trained(id).await.unwrap()
            };
            let count = |spam, ham| TokenCount { spam, ham };
            let nothing = (0, 0, count(0, 0), Vec::new());
            let trained = |junk, tokenizer| {
                Some(Trained {
                    junk,
                    tokenizer,
                    epoch: 0,
                })
            };

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
    async fn what_was_forgotten_is_learnt_again_and_not_taken_back() {
        on_both(|store| async move {
            let id = accepted(&store).await;
            let teach = async |change, lesson| {
                let learnt = store.learn_mail("ann", id, change, lesson).await;
                assert!(learnt.unwrap());
            };
            let count = |spam, ham| TokenCount { spam, ham };
            let marks = || vec![(7, true)];
            let junk = || flags(&["$junk"], &[]);
            // The filter is off at first.
            teach(junk(), lesson(0)).await;
            assert_eq!(learnt(&store).await, (0, 0, count(0, 0), marks()));
            teach(junk(), lesson(1)).await;
            assert_eq!(learnt(&store).await, (1, 0, count(1, 0), marks()));
            // It is off again, and says nothing new.
            teach(junk(), lesson(0)).await;
            teach(junk(), lesson(1)).await;
            assert_eq!(learnt(&store).await, (1, 0, count(1, 0), marks()));
            store.forget_junk("ann").await.unwrap();
            assert_eq!(learnt(&store).await, (0, 0, count(0, 0), marks()));
            store.checkpoint().await;
            teach(junk(), lesson(1)).await;
            assert_eq!(learnt(&store).await, (1, 0, count(1, 0), marks()));
            store.forget_junk("ann").await.unwrap();
            // Another mail with the word.
            let other = store.train_junk("ann", vec![1], true, Time(0));
            other.await.unwrap();
            teach(flags(&[], &["$junk"]), lesson(1)).await;
            assert_eq!(learnt(&store).await, (1, 0, count(1, 0), Vec::new()));
        })
        .await;
    }

    #[test]
    fn what_an_earlier_program_learnt_is_read() {
        use crate::table::value::Value;
        let old = Trained::decode(&[1, 1, 3]).unwrap();
        let expected = Trained {
            junk: true,
            tokenizer: 3,
            epoch: 0,
        };
        assert_eq!(old, expected);
    }

    #[tokio::test]
    async fn without_words_only_the_senders_are_learnt() {
        on_both(|store| async move {
            let id = accepted(&store).await;
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
                epoch: 0,
            };
            assert_eq!(store.trained(id).await.unwrap(), Some(trained));
            assert!(store.remove_mail("ann", id).await.unwrap());
            assert_eq!(store.trained(id).await.unwrap(), None);
            assert_eq!(learnt(&store).await.3, [(7, true)], "what was learnt stays");
        })
        .await;
    }
}
