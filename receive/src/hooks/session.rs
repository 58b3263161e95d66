//! The programs of one SMTP session.
//!
//! At each stage they are asked one after the other. The first refusal ends the round, and so does
//! a program that wants the message dropped. What they say of a message beside refusals is kept
//! until its end.

use std::{borrow::Cow, net::IpAddr, sync::Arc};

use postrider_config::{HookQuarantine, HookStage, Static};
use postrider_smtp::{
    Reply,
    server::{Client, MailFrom, RcptTo, Transaction},
};
use postrider_store::StoreError;

use super::{
    Hooks,
    answer::{Answer, Change, Vote},
    asked::{Asked, KnownLogin},
    draft::{Draft, DraftLimits},
    edit::{Edit, NewField},
    http::AnswerMemory,
    milter::MilterClient,
    presence::Present,
    program::{NotTold, Program, Seen, Told},
};
use crate::{SessionContext, facts::HookFacts, observer::Observer, reply::store_reply};

/// The programs that a session asks. Without any it costs nothing.
#[derive(Debug, Default)]
pub(crate) struct SessionHooks {
    asking: Option<Box<Asking>>,
}

/// A session with at least one program.
#[derive(Debug)]
struct Asking {
    listener: Arc<str>,
    hostname: String,
    programs: Vec<Member>,
    login: Option<KnownLogin>,
    /// The first name that leads back to the client's address.
    ptr: Option<String>,
    /// The connections from the client's address.
    present: Option<Present>,
    limits: DraftLimits,
    /// What was said before MAIL counts for all messages of the session.
    of_session: HookFacts,
    of_message: HookFacts,
}

/// A program, and how far the session with it is.
#[derive(Debug)]
struct Member {
    program: Arc<Program>,
    /// The conversation with a milter. None: the program is called over HTTP.
    milter: Option<MilterClient>,
}

/// A command that the programs are asked about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Command<'a> {
    pub(crate) stage: HookStage,
    pub(crate) client: &'a Client,
    /// The name in EHLO or HELO, also the one in question.
    pub(crate) helo: Option<&'a str>,
    pub(crate) mail: Option<&'a MailFrom>,
    /// The recipients, with the one in question.
    pub(crate) recipients: &'a [RcptTo],
}

impl<'a> Command<'a> {
    /// A command outside of a transaction.
    pub(crate) fn of_session(stage: HookStage, client: &'a Client) -> Self {
        Self {
            stage,
            client,
            helo: client.helo.as_deref(),
            mail: None,
            recipients: &[],
        }
    }

    /// A recipient of a transaction. `recipients` are those of [`with_recipient`].
    pub(crate) fn of_recipient(
        client: &'a Client,
        transaction: &'a Transaction,
        recipients: &'a [RcptTo],
    ) -> Self {
        Self {
            mail: Some(&transaction.mail),
            recipients,
            ..Self::of_session(HookStage::Rcpt, client)
        }
    }
}

/// The recipients of a transaction, and the one in question.
pub(crate) fn with_recipient(transaction: &Transaction, rcpt: &RcptTo) -> Vec<RcptTo> {
    let recipients = transaction.recipients.iter();
    recipients.chain([rcpt]).cloned().collect()
}

impl SessionHooks {
    /// The programs that are asked at a listener.
    pub(crate) fn new(context: &SessionContext, listener: &Arc<str>, hostname: &str) -> Self {
        let programs = context.hooks.at(listener);
        let programs: Vec<Member> = programs
            .map(|it| Member::new(it, &context.statics))
            .collect();
        let asking = (!programs.is_empty()).then(|| {
            Box::new(Asking {
                listener: Arc::clone(listener),
                hostname: hostname.to_owned(),
                programs,
                login: None,
                ptr: None,
                present: None,
                limits: limits_at(context, listener),
                of_session: HookFacts::default(),
                of_message: HookFacts::default(),
            })
        });
        Self { asking }
    }

    /// Whether there is a program at all.
    pub(crate) const fn has_programs(&self) -> bool {
        self.asking.is_some()
    }

    /// Whether a program is asked at this stage.
    pub(crate) fn asks_at(&self, stage: HookStage) -> bool {
        let programs = self.asking.iter().flat_map(|asking| &asking.programs);
        let mut stages = programs.flat_map(|member| member.program.stages());
        stages.any(|asked| *asked == stage)
    }

    /// Whether the programs see whole messages, or mark one.
    pub(crate) fn see_messages(&self) -> bool {
        let is_marked = self.asking.as_ref().is_some_and(|it| it.is_marked());
        is_marked || self.asks_at(HookStage::Data)
    }

    /// The client is there, and its names are known or not.
    pub(crate) fn connected(&mut self, hooks: &Hooks, client: IpAddr, ptr: Option<String>) {
        if let Some(asking) = &mut self.asking {
            asking.present = Some(hooks.presence().enter(client));
            asking.ptr = ptr;
        }
    }

    /// The client logged in.
    pub(crate) fn logged_in(&mut self, login: KnownLogin) {
        if let Some(asking) = &mut self.asking {
            asking.login = Some(login);
        }
    }

    /// The client is not logged in.
    pub(crate) fn logged_out(&mut self) {
        if let Some(asking) = &mut self.asking {
            asking.login = None;
        }
    }

    /// What the programs said of the message so far, beside refusals.
    pub(crate) fn facts(&self) -> HookFacts {
        let Some(asking) = &self.asking else {
            return HookFacts::default();
        };
        let (session, message) = (&asking.of_session, &asking.of_message);
        HookFacts {
            discard: session.discard.clone().or_else(|| message.discard.clone()),
            quarantine: stricter(session.quarantine, message.quarantine),
            is_marked: session.is_marked || message.is_marked,
            reply: message.reply.clone().or_else(|| session.reply.clone()),
            closes: session.closes || message.closes,
        }
    }

    /// The transaction is over. A milter hears of that before the next one.
    pub(crate) fn reset(&mut self) {
        if let Some(asking) = &mut self.asking {
            asking.of_message = HookFacts::default();
        }
    }

    /// Another client takes the place of the one before.
    pub(crate) fn restart(&mut self) {
        if let Some(asking) = &mut self.asking {
            asking.login = None;
            asking.of_session = HookFacts::default();
            asking.of_message = HookFacts::default();
            let milters = asking.programs.iter_mut();
            for milter in milters.filter_map(|member| member.milter.as_mut()) {
                milter.restart();
            }
        }
    }

    /// Asks the programs about a command. Gives a refusal, or accepts.
    ///
    /// # Errors
    /// If our own store fails.
    pub(crate) async fn ask(
        &mut self,
        context: &SessionContext,
        observer: &mut Observer,
        command: Command<'_>,
    ) -> Result<Vote, StoreError> {
        let Some(asking) = self.asking.as_deref_mut() else {
            return Ok(Vote::Accept);
        };
        if asking.is_dropped() {
            return Ok(Vote::Accept);
        }
        for at in 0..asking.programs.len() {
            let Some((program, told)) = asking.told(context, at, command, None, &[]).await? else {
                continue;
            };
            observer.asked(context, &program, command.stage, &told);
            let marks = match command.stage {
                HookStage::Mail | HookStage::Rcpt | HookStage::Data => &mut asking.of_message,
                HookStage::Connect | HookStage::Ehlo | HookStage::Auth => &mut asking.of_session,
            };
            match mark(marks, &program, told.answer) {
                Marked::Refused(reply) => return Ok(Vote::Refuse(reply)),
                Marked::Dropped => break,
                Marked::GoesOn => {}
            }
        }
        Ok(Vote::Accept)
    }

    /// Tells the milters that want to know it of a recipient that we refused with this reply. They
    /// have no say. Gives the reply, or that for a failure of our own store.
    pub(crate) async fn refused(
        &mut self,
        context: &SessionContext,
        observer: &mut Observer,
        client: &Client,
        about: (&Transaction, &RcptTo),
        reply: Reply,
    ) -> Reply {
        let told = self.tell_refused(context, observer, client, about, &reply);
        match told.await {
            Ok(()) => reply,
            Err(error) => store_reply(&error),
        }
    }

    async fn tell_refused(
        &mut self,
        context: &SessionContext,
        observer: &mut Observer,
        client: &Client,
        (transaction, rcpt): (&Transaction, &RcptTo),
        reply: &Reply,
    ) -> Result<(), StoreError> {
        let Some(asking) = self.asking.as_deref_mut() else {
            return Ok(());
        };
        if asking.is_dropped() || !asking.programs.iter().any(Member::may_want_refused) {
            return Ok(());
        }
        let recipients = with_recipient(transaction, rcpt);
        let command = Command::of_recipient(client, transaction, &recipients);
        for at in 0..asking.programs.len() {
            let (member, asked) = asking.question(at, command, None, &[]);
            let Some(member) = member.filter(|it| it.may_want_refused() && it.is_asked(&asked))
            else {
                continue;
            };
            let Some(milter) = &mut member.milter else {
                continue;
            };
            let tell = async {
                let told = milter.tell_rejected(&asked, reply).await;
                Ok(told.map(|()| Answer::ACCEPT)?)
            };
            let told = member.program.told(context, tell).await?;
            if told.failure.is_some() {
                observer.asked(context, &member.program, command.stage, &told);
            }
        }
        Ok(())
    }

    /// Asks the programs about a whole message, which they may change. `added` has the fields that
    /// the server will put on top of it. Gives a refusal, or accepts.
    ///
    /// # Errors
    /// If our own store fails.
    pub(crate) async fn ask_message(
        &mut self,
        context: &SessionContext,
        observer: &mut Observer,
        client: &Client,
        (draft, added): (&mut Draft, &[u8]),
    ) -> Result<Vote, StoreError> {
        let Some(asking) = self.asking.as_deref_mut() else {
            return Ok(Vote::Accept);
        };
        if asking.is_dropped() {
            return Ok(Vote::Accept);
        }
        let command = Command::of_session(HookStage::Data, client);
        let received = draft.clone();
        let mut is_marked = false;
        for at in 0..asking.programs.len() {
            asking.write_mark(draft, &mut is_marked);
            let about = match asking.sees_received(at) && draft.text_changed {
                true => Cow::Owned(received.with_envelope_of(draft)),
                false => Cow::Borrowed(&*draft),
            };
            let told = asking.told(context, at, command, Some(&about), added);
            let Some((program, mut told)) = told.await? else {
                continue;
            };
            if let Err(failure) = draft.apply(&told.answer.changes, &asking.limits) {
                told = program.cannot(failure);
            }
            observer.asked(context, &program, HookStage::Data, &told);
            match mark(&mut asking.of_message, &program, told.answer) {
                Marked::Refused(reply) => return Ok(Vote::Refuse(reply)),
                Marked::Dropped => return Ok(Vote::Accept),
                Marked::GoesOn => {}
            }
        }
        asking.write_mark(draft, &mut is_marked);
        if draft.recipients.is_empty() {
            let Vote::Discard(reply) = Vote::discard() else {
                return Ok(Vote::Accept);
            };
            asking.of_message.discard = Some(reply);
        }
        Ok(Vote::Accept)
    }
}

/// The limits of a message that programs change.
fn limits_at(context: &SessionContext, listener: &str) -> DraftLimits {
    let statics = &context.statics;
    let listener = statics.listeners.get(listener);
    DraftLimits {
        section: statics.limits.header_size.0,
        text: listener.map_or(u64::MAX, |listener| listener.max_message_size.0),
        recipients: statics.limits.recipients_per_message,
    }
}

impl Asking {
    /// A program wants the message dropped.
    const fn is_dropped(&self) -> bool {
        self.of_session.discard.is_some() || self.of_message.discard.is_some()
    }

    /// A program wants the message marked.
    const fn is_marked(&self) -> bool {
        self.of_session.is_marked || self.of_message.is_marked
    }

    /// Writes the field by which a message shows that it was quarantined, once.
    fn write_mark(&self, draft: &mut Draft, is_written: &mut bool) {
        if self.is_marked() && !std::mem::replace(is_written, true) {
            // A field that is too much is left out: the message has its place anyway.
            let _ = draft.apply(&quarantine_field(), &self.limits);
        }
    }

    /// Whether a program sees the text of a message as it came.
    fn sees_received(&self, at: usize) -> bool {
        let member = self.programs.get(at);
        member.is_some_and(|member| member.program.sees_received())
    }

    /// A program, and what it may be asked.
    fn question<'a>(
        &'a mut self,
        at: usize,
        command: Command<'a>,
        draft: Option<&'a Draft>,
        added: &'a [u8],
    ) -> (Option<&'a mut Member>, Asked<'a>) {
        let asked = Asked {
            stage: command.stage,
            listener: &self.listener,
            hostname: &self.hostname,
            client: command.client,
            helo: command.helo,
            ptr: self.ptr.as_deref(),
            connections: self.present.as_ref().map_or(1, Present::count),
            login: self.login.as_ref(),
            mail: command.mail,
            recipients: command.recipients,
            draft,
            added,
        };
        (self.programs.get_mut(at), asked)
    }

    /// Asks one program. None: it is not asked this.
    async fn told(
        &mut self,
        context: &SessionContext,
        at: usize,
        command: Command<'_>,
        draft: Option<&Draft>,
        added: &[u8],
    ) -> Result<Option<(Arc<Program>, Told)>, StoreError> {
        let (member, asked) = self.question(at, command, draft, added);
        let Some(member) = member.filter(|member| member.is_asked(&asked)) else {
            return Ok(None);
        };
        let program = Arc::clone(&member.program);
        let told = match &mut member.milter {
            Some(milter) => {
                let ask = async { milter.ask(&asked).await.map_err(NotTold::Failed) };
                program.told(context, ask).await?
            }
            None => {
                let mut memory = AnswerMemory::new(context.memory.share(asked.remote()));
                let mut seen = Seen::default();
                let call = program.call(&context.store, &asked, &mut memory, &mut seen);
                program.told(context, call).await?
            }
        };
        Ok(Some((program, told)))
    }
}

impl Member {
    /// Whether the program is asked this question.
    fn is_asked(&self, asked: &Asked<'_>) -> bool {
        self.program.is_asked(asked)
    }

    /// Whether the program may want to be told of recipients that we refused.
    fn may_want_refused(&self) -> bool {
        let milter = self.milter.as_ref();
        milter.is_some_and(MilterClient::may_want_rejected)
    }

    fn new(program: &Arc<Program>, statics: &Static) -> Self {
        Self {
            milter: program
                .milter()
                .map(|milter| MilterClient::new(milter, statics)),
            program: Arc::clone(program),
        }
    }
}

/// What an answer means for the round.
enum Marked {
    Refused(Reply),
    Dropped,
    GoesOn,
}

/// Keeps what an answer says beside a refusal.
fn mark(marks: &mut HookFacts, program: &Program, answer: Answer) -> Marked {
    let Answer {
        vote,
        closes,
        reply,
        changes: _,
    } = answer;
    let last = |reply: Reply| match closes {
        true => reply.closing(),
        false => reply,
    };
    match vote {
        Vote::Accept => {}
        Vote::Refuse(reply) => return Marked::Refused(last(reply)),
        Vote::Discard(reply) => {
            marks.discard = Some(last(reply));
            return Marked::Dropped;
        }
        Vote::Junk(_) => {
            marks.quarantine = stricter(marks.quarantine, Some(HookQuarantine::Junk));
        }
        Vote::Quarantine(_) => {
            marks.quarantine = stricter(marks.quarantine, Some(program.quarantine()));
            marks.is_marked = true;
            marks.reply = reply.or_else(|| marks.reply.take());
            marks.closes |= closes;
        }
    }
    Marked::GoesOn
}

/// The stricter of two ways. A message on hold is with nobody.
fn stricter(a: Option<HookQuarantine>, b: Option<HookQuarantine>) -> Option<HookQuarantine> {
    match (a, b) {
        (Some(HookQuarantine::Hold), _) | (_, Some(HookQuarantine::Hold)) => {
            Some(HookQuarantine::Hold)
        }
        (a, b) => a.or(b),
    }
}

/// The field by which a message shows that it was quarantined.
fn quarantine_field() -> Vec<Change> {
    let field = NewField::new(b"X-Quarantine", b"true");
    let edit = field.map(|field| Change::Header(Edit::OnTop(field)));
    edit.into_iter().collect()
}
