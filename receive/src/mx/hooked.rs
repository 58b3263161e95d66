//! What outside programs say of a session and of its messages, and what they change.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use postrider_config::{Dynamic, HookStage};
use postrider_observe::metrics::By;
use postrider_queue::header::{Header, Received};
use postrider_smtp::{
    Reply,
    server::{Client, RcptTo, Transaction},
};
use tracing::warn;

use super::{MxSession, add_usage, read_clean};
use crate::{
    checks::{
        ForwardChain,
        arc::ArcChain,
        dkim::{BodyForms, HeaderFields},
    },
    decide::{Role, Stage, decide},
    facts::RecipientFacts,
    hooks::{Command, Draft, with_recipient},
    intake::{HeaderEdit, ReceivedText},
    memory::TextShare,
    observer::TakenMessage,
    reply::store_reply,
    resolve::resolve,
};

/// A message after all programs.
pub(super) struct Hooked<'a> {
    pub(super) transaction: Cow<'a, Transaction>,
    pub(super) text: ReceivedText,
    pub(super) chain: Option<ForwardChain>,
    /// The memory of a changed text.
    _memory: Option<TextShare>,
}

impl MxSession {
    /// The session is one of this listener.
    #[must_use]
    pub fn at_listener(mut self, listener: &Arc<str>) -> Self {
        self.hooks = crate::hooks::SessionHooks::new(&self.context, listener, &self.hostname);
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

    /// Asks the programs about a new client. They are told its name.
    pub(super) async fn ask_about_client(&mut self, client: &Client) -> Result<(), Reply> {
        if !self.hooks.has_programs() {
            return Ok(());
        }
        let ptr = match &self.names {
            Some(names) => names.name(super::client::RESULTS_WITHIN).await,
            None => None,
        };
        self.hooks
            .connected(&self.context.hooks, client.remote.ip(), ptr);
        self.ask_hooks(Command::of_session(HookStage::Connect, client))
            .await
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
        chain: Option<ForwardChain>,
    ) -> Result<Hooked<'a>, Reply> {
        let unchanged = |text, chain| Hooked {
            transaction: Cow::Borrowed(transaction),
            text,
            chain,
            _memory: None,
        };
        if !self.hooks.see_messages() {
            self.facts.hooks = self.hooks.facts();
            return Ok(unchanged(text, chain));
        }
        let context = self.context.clone();
        let mut draft = Draft::of(&context, transaction, &text).await?;
        let added = self.added_fields(client, transaction);
        let about = (&mut draft, added.as_bytes());
        let asked = self
            .hooks
            .ask_message(&context, &mut self.observer, client, about);
        let vote = asked.await.map_err(|error| store_reply(&error))?;
        self.decide(Stage::Hook(&vote)).answer()?;
        self.facts.hooks = self.hooks.facts();
        let (mut hooked, is_changed) = (unchanged(text, chain), draft.text_changed);
        if draft.recipients != transaction.recipients {
            self.find_recipients_again(&mut draft).await?;
        }
        if draft.mail != transaction.mail || draft.recipients != transaction.recipients {
            hooked.transaction = Cow::Owned(draft.transaction());
        }
        if is_changed {
            self.rewrite(client, &draft, &mut hooked).await?;
        }
        Ok(hooked)
    }

    /// The fields that will stand on top of a message, as far as they are known now.
    fn added_fields(&self, client: &Client, transaction: &Transaction) -> String {
        let results = self.facts.authentication.as_deref();
        let field = results.map(|results| results.field(&self.hostname, None));
        let (id, now) = (client.name().to_string(), self.context.clock.now());
        let received = Received::smtp(&self.hostname, client, transaction, id, now);
        field.unwrap_or_default() + &received.to_string()
    }

    /// Writes the text that the programs made, and reads its header section.
    async fn rewrite(
        &mut self,
        client: &Client,
        draft: &Draft,
        hooked: &mut Hooked<'_>,
    ) -> Result<(), Reply> {
        let intake = self.intake_for(client, &hooked.transaction);
        let (context, facts) = (&self.context, &mut self.facts);
        let body_forms = BodyForms {
            // Our own seal is about the text as it is now.
            relaxed: hooked.chain.is_some(),
            ..BodyForms::default()
        };
        let mut written = Bytes::new();
        let edit = |section: &Bytes| {
            written = section.clone();
            let kept = read_clean(context, facts, section)?;
            let header = facts.header.as_ref();
            Ok(HeaderEdit {
                body_forms,
                kept,
                fingerprint: header.is_none_or(|header| header.message_id().is_empty()),
                ..HeaderEdit::default()
            })
        };
        let (text, memory) = draft.write(intake, edit).await?;
        if let Some(chain) = &mut hooked.chain {
            chain.arc = ArcChain::new(Arc::new(HeaderFields::new(written)));
        }
        self.facts.size = Some(text.size);
        hooked.text = text;
        hooked._memory = Some(memory);
        Ok(())
    }

    /// Finds the meaning of all recipients again, after programs added or removed some. One that a
    /// program added and that is not ours is left out.
    async fn find_recipients_again(&mut self, draft: &mut Draft) -> Result<(), Reply> {
        let config = self.context.dynamic();
        let mut found: Vec<RecipientFacts> = Vec::new();
        let mut kept = Vec::new();
        for rcpt in std::mem::take(&mut draft.recipients) {
            let recipient = self
                .recipient(&config, &draft.mail.reverse_path, &rcpt, &found)
                .await?;
            let before = self
                .facts
                .recipients
                .iter()
                .any(|it| it.address == recipient.address);
            let policy = self.context.policy(Role::Mx, &config);
            let verdict = decide(Stage::Rcpt(&rcpt, &recipient), &self.facts, &policy);
            if let Err(reply) = verdict.answer()
                && !before
            {
                let (to, reason) = (&rcpt.forward_path, reply.text());
                warn!(%to, reason, "a recipient that a hook added is left out");
                continue;
            }
            found.push(recipient);
            kept.push(rcpt);
        }
        draft.recipients = kept;
        self.facts.recipients = found;
        Ok(())
    }

    /// The meaning of a recipient, beside those before it.
    pub(super) async fn recipient(
        &self,
        config: &Dynamic,
        from: &postrider_smtp::ReversePath,
        rcpt: &RcptTo,
        before: &[RecipientFacts],
    ) -> Result<RecipientFacts, Reply> {
        let policy = self.context.policy(Role::Mx, config);
        let returned = self
            .context
            .returned(config, from, &rcpt.forward_path)
            .await;
        let mut recipient = returned
            .map_err(|error| store_reply(&error))?
            .unwrap_or_else(|| resolve(&policy, &rcpt.forward_path))
            .joined(before);
        let learnt = add_usage(&self.context, config, &mut recipient).await;
        learnt.map_err(|error| store_reply(&error))?;
        Ok(recipient)
    }

    /// A message is dropped, since a program wants that.
    pub(super) fn dropped(
        &mut self,
        client: &Client,
        transaction: &Transaction,
        size: u64,
        begun: postrider_store::Moment,
    ) {
        let header = self.facts.header.as_ref();
        let taken = TakenMessage {
            by: By::Smtp,
            transaction,
            account: String::new(),
            queue: &[],
            mails: &[],
            message_id: header.map_or("", Header::message_id),
            size,
            verdict: "discarded",
            took: self.context.clock.moment().since(begun),
        };
        self.observer.dropped(&self.context, client, &taken);
    }
}
