//! The facts about a mail, from the store.

use std::collections::HashSet;

use postrider_smtp::{
    ReversePath,
    field::{self, Field},
    mime::Limits,
};
use postrider_store::{JunkKey, NewText, Store, StoreError};

use super::{
    content::{has_learnt_enough, probability},
    history::{self, History, Known},
    senders::Senders,
    tokens::{READ_MAX, tokens},
};
use crate::work::long_work;

/// The name under which the server's own filter keeps what it has learnt. No account has it.
pub const SERVER: &str = "";

/// The most addressees that are read.
const ADDRESSEES_MAX: usize = 1000;

/// The content of a mail, as far as the filter needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Letter {
    /// The hashes of its words.
    pub tokens: Vec<u64>,
    /// The addresses in To and Cc, in lower case and in their Unicode form.
    pub addressees: HashSet<String>,
}

impl Letter {
    /// Reads a message, or the beginning of one.
    #[must_use]
    pub fn read(message: &[u8], limits: Limits, key: &JunkKey) -> Self {
        long_work(message.len(), || {
            let fields = field::fields(message);
            let to = fields.filter(|field: &Field<'_>| field.is("To") || field.is("Cc"));
            let mailboxes = to.flat_map(|field| field::mailboxes(field.value));
            let addresses = mailboxes.map(|mailbox| mailbox.address.to_lowercase());
            Self {
                addressees: addresses.take(ADDRESSEES_MAX).collect(),
                tokens: tokens(message, limits, key),
            }
        })
    }

    /// Whether To or Cc names an address.
    #[must_use]
    pub fn is_addressed_to(&self, address: &str) -> bool {
        let address = address.to_lowercase();
        self.addressees.contains(&address)
    }
}

/// What earlier mail says about a mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    /// The first kind of sender that has a history decides.
    pub history: History,
    /// A domain that DKIM or SPF validated has a good history, whoever the author is.
    pub good_domain_passes: bool,
}

/// The filter over a store.
#[derive(Clone, Copy, Debug)]
pub struct Filter<'a> {
    /// The store with what was learnt.
    pub store: &'a Store,
    /// The limits for reading messages.
    pub limits: Limits,
}

impl Filter<'_> {
    /// The key under which words are hashed.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn key(&self) -> Result<JunkKey, StoreError> {
        self.store.junk_key(rand::random).await
    }

    /// Reads a message that comes in with this reverse-path. The beginning is enough.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn letter(
        &self,
        reverse_path: &ReversePath,
        text: &NewText,
    ) -> Result<Letter, StoreError> {
        let text = self.store.beginning(text, READ_MAX as u64).await?;
        self.letter_of(reverse_path, &text).await
    }

    /// Reads a message, or the beginning of one, that comes in with this reverse-path.
    ///
    /// # Errors
    /// If the store fails.
    pub(crate) async fn letter_of(
        &self,
        reverse_path: &ReversePath,
        text: &[u8],
    ) -> Result<Letter, StoreError> {
        let key = self.key().await?;
        // In the mailbox the message has this field too, so training sees the same words.
        let mut message = format!("Return-Path: <{reverse_path}>\r\n").into_bytes();
        message.extend_from_slice(text);
        Ok(Letter::read(&message, self.limits, &key))
    }

    /// Who has learnt enough to judge mail of an account by its words: the account itself, else the
    /// server.
    ///
    /// # Errors
    /// If the store fails.
    pub(crate) async fn teacher<'n>(
        &self,
        account: &'n str,
    ) -> Result<Option<&'n str>, StoreError> {
        for name in [account, SERVER] {
            let counts = self.store.junk_counts(name, Vec::new()).await?;
            if has_learnt_enough(&counts) {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    /// The probability that a message with these tokens is junk for an account. None: neither the
    /// account nor the server has learnt enough.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn probability(
        &self,
        account: &str,
        tokens: &[u64],
    ) -> Result<Option<f64>, StoreError> {
        match self.teacher(account).await? {
            Some(teacher) => self.probability_by(teacher, tokens).await,
            None => Ok(None),
        }
    }

    /// The probability that a message with these tokens is junk, by what a teacher has learnt.
    ///
    /// # Errors
    /// If the store fails.
    pub(crate) async fn probability_by(
        &self,
        teacher: &str,
        tokens: &[u64],
    ) -> Result<Option<f64>, StoreError> {
        let counts = self.store.junk_counts(teacher, tokens.to_vec()).await?;
        Ok(probability(&counts))
    }

    /// What earlier mail of an account says about a mail of these senders. `today` is in days since
    /// 1970.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn history(
        &self,
        account: &str,
        senders: &Senders,
        today: u32,
    ) -> Result<Judged, StoreError> {
        let mut known = self.marks(account, senders).await?;
        if let Some(author) = &senders.author {
            let host = &author.from.host;
            known.wrote_to_author = self.store.is_known(account, &author.from).await?;
            known.wrote_to_domain = self.store.is_known_domain(account, host).await?;
        }
        Ok(Judged {
            history: history::judge(senders, &known, today),
            good_domain_passes: history::good_domain_passes(senders, &known, today),
        })
    }

    /// Whether an account knows good mail of a client, by what the client says before its mail
    /// comes. `today` is in days since 1970.
    ///
    /// # Errors
    /// If the store fails.
    pub(crate) async fn has_met(
        &self,
        account: &str,
        senders: &Senders,
        today: u32,
    ) -> Result<bool, StoreError> {
        let known = self.marks(account, senders).await?;
        Ok(history::is_met(senders, &known, today))
    }

    async fn marks(&self, account: &str, senders: &Senders) -> Result<Known, StoreError> {
        let keys = senders.asked();
        let marks = self.store.history(account, &keys).await?;
        Ok(Known {
            marks: keys.into_iter().zip(marks).collect(),
            ..Known::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use postrider_store::Time;

    use super::*;
    use crate::junk::content::{LEAST_HAM, LEAST_SPAM};

    fn letter(text: &str) -> Letter {
        let message = format!("To: Ann <Ann@X.example>\r\nCC: b@x.example\r\n\r\n{text}\r\n");
        Letter::read(message.as_bytes(), Limits::default(), &[1; 16])
    }

    #[test]
    fn addressees_are_those_of_to_and_cc() {
        let letter = letter("Hi");
        assert!(letter.is_addressed_to("ann@x.example"));
        assert!(letter.is_addressed_to("B@x.example"));
        assert!(!letter.is_addressed_to("c@x.example"));
    }

    #[tokio::test]
    async fn the_server_judges_for_accounts_that_have_not_learnt_enough() {
        let store = Store::memory();
        let filter = Filter {
            store: &store,
            limits: Limits::default(),
        };
        let (offer, friend) = (letter("cheap offer").tokens, letter("dear friend").tokens);
        let probability = async || filter.probability("ann", &offer).await.unwrap();
        let train = async |account, count, junk| {
            let tokens = if junk { &offer } else { &friend };
            for _ in 0..count {
                let learnt = store.train_junk(account, tokens.clone(), junk, Time(0));
                learnt.await.unwrap();
            }
        };
        assert_eq!(probability().await, None);
        train(SERVER, LEAST_SPAM, true).await;
        train(SERVER, LEAST_HAM - 1, false).await;
        assert_eq!(probability().await, None);
        assert_eq!(filter.teacher("ann").await.unwrap(), None);
        train(SERVER, 1, false).await;
        assert_eq!(filter.teacher("ann").await.unwrap(), Some(SERVER));
        assert!(probability().await.unwrap() > 0.99);
        // The account has learnt that such mail is good.
        for _ in 0..LEAST_HAM {
            let learnt = store.train_junk("ann", offer.clone(), false, Time(0));
            learnt.await.unwrap();
        }
        for _ in 0..LEAST_SPAM {
            let learnt = store.train_junk("ann", friend.clone(), true, Time(0));
            learnt.await.unwrap();
        }
        assert!(probability().await.unwrap() < 0.01);
    }
}
