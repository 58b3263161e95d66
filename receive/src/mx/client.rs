//! What a client is asked for before its text: how much it sends, whose mail, and to whom.

use std::{net::IpAddr, sync::Arc, time::Duration};

use postrider_config::Dynamic;
use postrider_observe::metrics::{Greylisted, Label};
use postrider_smtp::{
    Domain, Reply, ReversePath,
    server::{Client, MailFrom, RcptTo},
};
use postrider_store::Greyness;

use super::MxSession;
use crate::{
    SessionContext,
    checks::{
        ClientCheck, MessageChecks, greylist::is_doubtful, questions::Questions, spf::SpfCheck,
    },
    decide::{Refusal, Role, Stage, Verdict, decide},
    facts::{RecipientFacts, Target},
    junk::{Listed, senders::Senders},
    observer::{Doubt, Observer},
    rates::{Exceeded, RateCounter},
    reply::store_reply,
    resolve::reports_to,
};

/// How long a refusal waits for the explanation of the domain that SPF failed for.
const EXPLAINED_WITHIN: Duration = Duration::from_secs(5);
/// The recipients of a transaction whose attempts the greylist remembers. Two that come again make
/// the whole network known, so the others need no row of their own.
const REMEMBERED: u32 = 20;
/// How long a recipient waits for the results about its client and its sender.
pub(super) const RESULTS_WITHIN: Duration = Duration::from_secs(5);

impl SessionContext {
    /// Counts a new connection.
    ///
    /// # Errors
    /// The refusal, if the client's network makes too many.
    pub(crate) fn count_connection(&self, client: &Client) -> Result<(), Reply> {
        let connections = &self.guards.rates.connections;
        let refusal = |exceeded: Exceeded| Refusal::TooManyConnections(exceeded.network);
        self.count(connections, client.remote.ip(), 1, refusal)
    }

    /// Counts what comes from the networks of an address.
    ///
    /// # Errors
    /// The reply of the refusal, if one of them has reached its limit.
    fn count(
        &self,
        rate: &RateCounter,
        remote: IpAddr,
        amount: u64,
        refusal: impl FnOnce(Exceeded) -> Refusal,
    ) -> Result<(), Reply> {
        let counted = rate.count(remote, None, amount, self.clock.moment());
        counted.map_err(|exceeded| refusal(exceeded).reply())
    }

    /// Questions to DNS with limits of their own.
    fn questions(&self) -> Questions {
        Questions::new(Arc::clone(&self.resolver), Arc::clone(&self.clock))
    }
}

impl MxSession {
    /// Begins a session: counts the connection, and starts to ask for the names of the client.
    pub(super) fn connected(&mut self, client: &Client) -> Result<(), Reply> {
        self.names = None;
        self.context.count_connection(client)?;
        if !self.context.simulate {
            self.names = ClientCheck::start(self.context.questions(), client);
        }
        Ok(())
    }

    /// The reply of a refusal of a message. If SPF failed, and the refusal comes of that, the
    /// domain may explain it in a second line.
    pub(super) async fn refuse_explained(
        &self,
        refusal: &Refusal,
        check: Option<&SpfCheck>,
    ) -> Reply {
        let reply = refusal.reply();
        let results = self.facts.authentication.as_deref();
        let spf = results.and_then(|results| results.spf.as_ref());
        let comes_of_spf = matches!(
            refusal,
            Refusal::DmarcFail { .. } | Refusal::AuthorNotProved(_)
        );
        let (Some(check), Some(spf), true) = (check, spf, comes_of_spf) else {
            return reply;
        };
        let (check, now) = (check.within(EXPLAINED_WITHIN), self.context.clock.now());
        match check.explain(spf, &self.hostname, now).await {
            Some(explanation) => {
                let text = format!("{}\n{explanation}", reply.text());
                Reply::new(reply.code(), reply.enhanced(), text).because(refusal.name())
            }
            None => reply,
        }
    }

    /// Begins a transaction: counts it, starts the checks of its client and its sender, and waits
    /// for what DNS says about the domain of the sender.
    pub(super) async fn begin(&mut self, client: &Client, mail: &MailFrom) -> Result<(), Reply> {
        let context = &self.context;
        self.facts.has_null_path = mail.reverse_path == ReversePath::Null;
        self.met.clear();
        self.facts.needs_tls = self.rules.require_starttls && client.tls.is_none();
        // Localserve works without DNS, and from this machine.
        if !context.simulate {
            let (rates, remote) = (&context.guards.rates, client.remote.ip());
            context.count(&rates.messages, remote, 1, Refusal::TooManyMessages)?;
            // A text that would be refused for its first byte need not come.
            let looked = rates.bytes.look(remote, None, context.clock.moment());
            looked.map_err(|exceeded| Refusal::TooManyBytes(exceeded).reply())?;
            let (from, names) = (&mail.reverse_path, self.names.as_ref());
            let checks = MessageChecks::start(context.questions(), client, from, names);
            self.facts.client_is_local = checks.is_of_this_machine();
            self.checks = Some(Box::new(checks));
        }
        let of_strangers = self.checks.as_ref().filter(|it| !it.is_of_this_machine());
        if let (Some(checks), Some(sender)) = (of_strangers, mail.reverse_path.address()) {
            self.facts.sender = Some(checks.sender_domain(&sender.host).await);
        }
        self.decide(Stage::Mail(mail)).answer()
    }

    /// Counts a recipient, before anything is asked about it.
    ///
    /// # Errors
    /// The refusal, if the client's network names too many.
    pub(super) fn count_recipient(&self, client: &Client) -> Result<(), Reply> {
        let context = &self.context;
        if context.simulate {
            return Ok(());
        }
        let (recipients, remote) = (&context.guards.rates.recipients, client.remote.ip());
        context.count(recipients, remote, 1, Refusal::TooManyRecipients)
    }

    /// Counts bytes of a text.
    ///
    /// # Errors
    /// The refusal, if the client's network sends too many.
    pub(super) fn count_bytes(&self, bytes: usize) -> Result<(), Reply> {
        let context = &self.context;
        let Some(remote) = self.remote.filter(|_| !context.simulate) else {
            return Ok(());
        };
        let counter = &context.guards.rates.bytes;
        context.count(counter, remote, bytes as u64, Refusal::TooManyBytes)
    }

    /// Refuses an unknown recipient. Who names several waits longer each time.
    pub(super) async fn refuse_unknown(&mut self, client: &Client, refusal: Refusal) -> Reply {
        match self.context.punish(client, &mut self.unknown).await {
            true => Refusal::TooManyUnknown.reply(),
            false => refusal.reply(),
        }
    }

    /// The meaning of a recipient that we would take.
    ///
    /// # Errors
    /// The refusal.
    pub(super) async fn known_recipient(
        &mut self,
        client: &Client,
        config: &Dynamic,
        from: &ReversePath,
        rcpt: &RcptTo,
    ) -> Result<RecipientFacts, Reply> {
        self.count_recipient(client)?;
        let recipient = self.recipient(config, from, rcpt, &self.facts.recipients);
        let recipient = recipient.await?;
        let policy = self.context.policy(Role::Mx, config);
        match decide(Stage::Rcpt(rcpt, &recipient), &self.facts, &policy) {
            Verdict::Refuse(refusal @ Refusal::UnknownRecipient(_)) => {
                Err(self.refuse_unknown(client, refusal).await)
            }
            verdict => verdict.answer().map(|()| recipient),
        }
    }

    /// Lets a doubtful stranger try again later.
    ///
    /// # Errors
    /// The refusal.
    pub(super) async fn ask_greylist(
        &mut self,
        client: &Client,
        from: &ReversePath,
        recipient: &RecipientFacts,
        config: &Dynamic,
    ) -> Result<(), Reply> {
        let context = &self.context;
        let policy = context.policy(Role::Mx, config);
        // Who is not checked is not doubted.
        let strangers = self.checks.as_mut().filter(|it| !it.is_of_this_machine());
        let (Some(checks), Some(from)) = (strangers, from.address()) else {
            return Ok(());
        };
        let takes_all = |target: &Target| target.takes_all;
        let is_off = !policy.statics.policy.greylist;
        let takes_all = || {
            let reports = reports_to(&recipient.address, &policy);
            reports.any() || recipient.targets().iter().any(takes_all)
        };
        if is_off || takes_all() {
            return Ok(());
        }
        let remote = client.remote.ip();
        let (iprev, spf) = checks.early(RESULTS_WITHIN).await;
        let has_tls = client.tls.is_some();
        if !is_doubtful(iprev, spf, remote, has_tls) {
            return Ok(());
        }
        let doubt = Doubt {
            iprev: iprev.map(|iprev| iprev.outcome.as_str()),
            spf: spf.map(|spf| spf.outcome.as_str()),
            has_tls,
        };
        let (observer, parties) = (&mut self.observer, (from, &recipient.address));
        let filter = context.filter();
        let senders = Senders::of_session(from, client.helo.as_deref(), remote);
        let today = context.clock.now().day();
        for target in recipient.targets() {
            let account = target.account.as_str();
            // The client says the same to all recipients.
            let has_met = match self.met.get(account) {
                Some(has_met) => *has_met,
                None => {
                    let asked = filter.has_met(account, &senders, today).await;
                    let has_met = asked.map_err(|error| store_reply(&error))?;
                    self.met.insert(account.to_owned(), has_met);
                    has_met
                }
            };
            if has_met {
                observer.greylisted(context, parties, &doubt, "met before");
                return Ok(());
            }
        }
        if self.greylisted >= REMEMBERED {
            observer.greylisted(context, parties, &doubt, "deferred");
            context
                .metrics
                .greylist_total
                .with(Greylisted::Deferred)
                .inc();
            return Err(Refusal::Greylisted.reply());
        }
        let (greylist, counts) = (&context.guards.greylist, &context.metrics.greylist_total);
        let (domain, to) = (from.host.ascii(), &recipient.address);
        // Names behind a separator are without number.
        let to = config.canonical(to).unwrap_or_else(|| config.plain(to));
        let attempt = greylist.attempt(&context.store, remote, &domain, &to, context.clock.now());
        let result = match attempt.await.map_err(|error| store_reply(&error))? {
            Greyness::Known => Greylisted::Known,
            Greyness::Passes => Greylisted::Passed,
            Greyness::Waits => Greylisted::Deferred,
        };
        counts.with(result).inc();
        observer.greylisted(context, parties, &doubt, result.text());
        if result == Greylisted::Deferred {
            self.greylisted += 1;
            return Err(Refusal::Greylisted.reply());
        }
        Ok(())
    }

    /// Counts a message for the accounts of its recipients, whatever they do with it.
    ///
    /// # Errors
    /// The refusal, if one of them gets too much from the client's network.
    pub(super) fn count_for_accounts(&self, client: &Client) -> Result<(), Reply> {
        let context = &self.context;
        let accounts = self.facts.limited_accounts();
        let size = self.facts.size.unwrap_or_default();
        let (remote, now) = (client.remote.ip(), context.clock.moment());
        let rates = &context.guards.rates;
        let counted = rates.take_message(remote, accounts.iter().copied(), size, now);
        counted.map_err(|exceeded| Refusal::AccountFlooded(exceeded).reply())
    }
}

/// The first of these zones that lists the client.
pub(super) async fn listed(
    context: &SessionContext,
    observer: &mut Observer,
    zones: &[Domain],
    client: &Client,
) -> Option<Listed> {
    if zones.is_empty() {
        return None;
    }
    let begun = context.clock.moment();
    let dnsbls = &context.guards.dnsbls;
    let listed = dnsbls.look_up(zones, client.remote.ip()).await;
    let took = context.clock.moment().since(begun);
    observer.looked_up(context, listed.as_ref(), took);
    listed
}
