//! What outside programs say of a submission, and what they change.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use postrider_config::HookStage;
use postrider_smtp::{
    Reply,
    sasl::Login,
    server::{Client, RcptTo, Transaction},
};

use super::{
    SubmissionSession,
    header_section::{Fields, complete_header},
};
use crate::{
    decide::Stage,
    hooks::{Command, Draft, KnownLogin, SessionHooks, with_recipient},
    intake::ReceivedText,
    memory::TextShare,
    reply::store_reply,
    work::long_work,
};

/// A submission after all programs.
pub(super) struct Hooked<'a> {
    pub(super) transaction: Cow<'a, Transaction>,
    pub(super) text: ReceivedText,
    pub(super) fields: Fields,
    /// The memory of a changed text.
    _memory: Option<TextShare>,
}

impl SubmissionSession {
    /// The session is one of this listener.
    #[must_use]
    pub fn at_listener(mut self, listener: &Arc<str>) -> Self {
        self.hooks = SessionHooks::new(&self.context, listener, &self.hostname);
        self
    }

    /// Asks the programs about a command.
    ///
    /// # Errors
    /// The refusal.
    pub(super) async fn ask_hooks(&mut self, command: Command<'_>) -> Result<(), Reply> {
        let asked = self.hooks.ask(&self.context, &mut self.observer, command);
        let vote = asked.await.map_err(|error| store_reply(&error))?;
        self.decide(Stage::Hook(&vote)).answer()
    }

    /// Asks the programs about a new client.
    pub(super) async fn ask_about_client(&mut self, client: &Client) -> Result<(), Reply> {
        let hooks = &self.context.hooks;
        self.hooks.connected(hooks, client.remote.ip(), None);
        self.ask_hooks(Command::of_session(HookStage::Connect, client))
            .await
    }

    /// Asks the programs about a login that is right. A refusal undoes the login.
    pub(super) async fn ask_about_login(
        &mut self,
        client: &Client,
        user: &str,
        login: &Login,
    ) -> Result<(), Reply> {
        self.hooks.logged_in(KnownLogin {
            user: user.to_owned(),
            mechanism: login.mechanism,
        });
        let asked = self
            .ask_hooks(Command::of_session(HookStage::Auth, client))
            .await;
        asked.inspect_err(|_| self.hooks.logged_out())
    }

    /// Asks the programs about a recipient.
    pub(super) async fn ask_about_recipient(
        &mut self,
        client: &Client,
        transaction: &Transaction,
        rcpt: &RcptTo,
    ) -> Result<(), Reply> {
        if !self.hooks.asks_at(HookStage::Rcpt) {
            return Ok(());
        }
        let recipients = with_recipient(transaction, rcpt);
        let command = Command::of_recipient(client, transaction, &recipients);
        self.ask_hooks(command).await
    }

    /// Asks the programs about a whole message, and makes the changes that they want.
    ///
    /// # Errors
    /// The refusal.
    pub(super) async fn hooked<'a>(
        &mut self,
        client: &Client,
        transaction: &'a Transaction,
        text: ReceivedText,
        fields: Fields,
    ) -> Result<Hooked<'a>, Reply> {
        let mut hooked = Hooked {
            transaction: Cow::Borrowed(transaction),
            text,
            fields,
            _memory: None,
        };
        if self.hooks.see_messages() {
            let context = self.context.clone();
            let mut draft = Draft::of(&context, transaction, &hooked.text).await?;
            let added = self.trace(client, transaction);
            let about = (&mut draft, added.bytes().as_ref());
            let asked = self
                .hooks
                .ask_message(&context, &mut self.observer, client, about);
            let vote = asked.await.map_err(|error| store_reply(&error))?;
            self.decide(Stage::Hook(&vote)).answer()?;
            if draft.text_changed {
                self.rewrite(client, &draft, &mut hooked).await?;
            }
            hooked.transaction = Cow::Owned(draft.transaction());
        }
        self.facts.hooks = self.hooks.facts();
        Ok(hooked)
    }

    /// Writes the text that the programs made, and reads its header section.
    async fn rewrite(
        &mut self,
        client: &Client,
        draft: &Draft,
        hooked: &mut Hooked<'_>,
    ) -> Result<(), Reply> {
        let intake = self.intake_for(client);
        let (context, facts) = (&self.context, &mut self.facts);
        let mut fields = Fields::default();
        let edit = |section: &Bytes| {
            let complete = || complete_header(context, facts, section, &mut fields);
            long_work(section.len(), complete)
        };
        let (text, memory) = draft.write(intake, edit).await?;
        // The application's own data was taken out before.
        let extra = std::mem::take(&mut hooked.fields.extra);
        fields.extra.extend(extra);
        hooked.fields = fields;
        hooked.text = text;
        hooked._memory = Some(memory);
        Ok(())
    }
}
