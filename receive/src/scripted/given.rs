//! What a run of scripts gets: the text of the message, and the mailboxes of the account.

use std::{borrow::Cow, cell::Cell, collections::BTreeMap, io};

use postrider_config::Dynamic;
use postrider_queue::header;
use postrider_store::{INBOX, NewText, Queued, SpecialUse, Store, StoreError};

use super::Text;
use crate::{
    SessionContext,
    sieve::{KnownMailbox, MessageText, READ_MAX},
};

/// Where the text of a message is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source<'a> {
    /// It came in just now.
    New(&'a NewText),
    /// It is in our queue.
    Queued(&'a Queued),
}

/// The text of a message, as far as it was read.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    /// The beginning, with the whole header section. None: nothing was read yet.
    beginning: Option<Text>,
    /// The beginning has all that scripts may read.
    is_all: bool,
}

impl Loaded {
    /// Reads the header section.
    pub(super) async fn read_header(
        &mut self,
        context: &SessionContext,
        source: Source<'_>,
    ) -> Result<(), StoreError> {
        if self.beginning.is_some() {
            return Ok(());
        }
        // A text in memory costs nothing.
        if let Source::New(NewText::Inline(text)) = source {
            self.beginning = Some(text.clone());
            self.is_all = true;
            return Ok(());
        }
        let most = context.statics.limits.header_size.0;
        self.beginning = Some(read(context, source, most).await?);
        Ok(())
    }

    /// Reads all that scripts may read.
    pub(super) async fn read_all(
        &mut self,
        context: &SessionContext,
        source: Source<'_>,
    ) -> Result<(), StoreError> {
        let most = context.statics.limits.header_size.0.max(READ_MAX as u64);
        self.beginning = Some(read(context, source, most).await?);
        self.is_all = true;
        Ok(())
    }

    /// The header section, with the end of its last line.
    pub(super) fn header(&self) -> &[u8] {
        self.beginning
            .as_ref()
            .map_or(&[], |text| header::section(text))
    }

    pub(super) fn text(&self) -> LoadedText<'_> {
        let text = self.beginning.as_ref().filter(|_| self.is_all);
        LoadedText {
            text: text.map(|text| &**text),
            is_missing: Cell::new(false),
        }
    }
}

async fn read(context: &SessionContext, source: Source<'_>, most: u64) -> Result<Text, StoreError> {
    match source {
        Source::New(text) => context.store.beginning(text, most).await,
        Source::Queued(message) => {
            let most = most.saturating_add(message.top.len());
            context
                .store
                .queued_message(message)
                .await?
                .beginning(most)
                .await
        }
    }
}

/// The text for one run.
pub(super) struct LoadedText<'a> {
    /// None: nobody has read it yet.
    text: Option<&'a [u8]>,
    is_missing: Cell<bool>,
}

impl LoadedText<'_> {
    /// A script asked for the text, and it was not there.
    pub(super) const fn is_missing(&self) -> bool {
        self.is_missing.get()
    }

    pub(super) fn len(&self) -> usize {
        self.text.map_or(0, <[u8]>::len)
    }
}

impl MessageText for LoadedText<'_> {
    fn read(&self, most: usize) -> io::Result<Cow<'_, [u8]>> {
        let Some(text) = self.text else {
            self.is_missing.set(true);
            return Err(io::ErrorKind::WouldBlock.into());
        };
        Ok(Cow::Borrowed(text.get(..most).unwrap_or(text)))
    }
}

/// The mailboxes of an account, for scripts that ask for them: those that are there, and those that
/// the configuration names.
///
/// # Errors
/// If the store can't be read.
pub async fn known_mailboxes(
    store: &Store,
    config: &Dynamic,
    account: &str,
) -> Result<Vec<KnownMailbox>, StoreError> {
    let mut known: BTreeMap<String, Option<SpecialUse>> = BTreeMap::new();
    for folder in store.folders(account).await? {
        known.insert(folder.name, folder.special_use);
    }
    let mut add = |name: &str, special_use: Option<SpecialUse>| {
        if !name.is_empty() && !known.contains_key(name) {
            // A mailbox that is there may have the use already.
            let is_taken = special_use.is_some() && known.values().any(|it| *it == special_use);
            let special_use = special_use.filter(|_| !is_taken);
            known.insert(name.to_owned(), special_use);
        }
    };
    add(INBOX, None);
    if let Some(account) = config.accounts.get(account) {
        add(&account.junk_mailbox, Some(SpecialUse::Junk));
        add(&account.rejects_mailbox, None);
        for destination in account.destinations.values() {
            add(&destination.mailbox, None);
            for ruleset in &destination.rulesets {
                add(&ruleset.mailbox, None);
                add(&ruleset.accept_rejects_to_mailbox, None);
            }
        }
    }
    let known = known.into_iter().map(|(name, special_use)| KnownMailbox {
        name,
        special_use: special_use.map(|it| it.name().to_owned()),
    });
    Ok(known.collect())
}
