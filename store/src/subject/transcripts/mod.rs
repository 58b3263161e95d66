//! Transcripts: what was said in the last attempts to deliver a message.
//!
//! A message has them while it is in the queue or in the history. They come with the results of
//! attempts, and go with the message.

#[cfg(any(test, feature = "memory"))]
pub(crate) mod model;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use super::State;
use crate::{
    QueueId, Store, StoreError, Time,
    error::Fault,
    table::{Table, tables, value::records},
};

/// Of how many attempts a message keeps the transcripts. When one more comes, the oldest goes.
pub const TRANSCRIPTS_MAX: usize = 3;
/// The most bytes of the lines of a transcript, where each line counts 8 bytes beside its text. The
/// store drops the last lines of a longer one.
pub const TRANSCRIPT_MAX: usize = 8 * 1024;

/// What was said on the connection that an attempt ended with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transcript {
    /// When the attempt began.
    pub start: Time,
    /// The host, as `name [ip]`; empty: none was reached.
    pub remote: String,
    /// The address or the proxy of ours; empty: the system chose the address.
    pub source: String,
    /// Our name in EHLO.
    pub ehlo: String,
    /// The rule that said which TLS the connection needs, in words.
    pub tls_rule: String,
    /// The TLS of the connection. None: it was in clear.
    pub tls: Option<TranscriptTls>,
    /// The certificate of the host.
    pub certificate: Option<TranscriptCertificate>,
    /// What was said.
    pub lines: Vec<TranscriptLine>,
    /// So many lines are missing behind the first ones.
    pub left_out: u64,
}

/// The TLS of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TranscriptTls {
    /// The version, for example `TLSv1.3`.
    pub version: String,
    /// The cipher suite by its registered name.
    pub cipher: String,
}

/// What the certificate of a host says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TranscriptCertificate {
    /// The subject. May be empty.
    pub subject: String,
    /// The issuer.
    pub issuer: String,
    /// The names of hosts.
    pub names: Vec<String>,
    /// The first second of its validity, since 1970.
    pub not_before: i64,
    /// The last second of its validity, since 1970.
    pub not_after: i64,
    /// The SHA-256 digest of the SubjectPublicKeyInfo.
    pub spki_sha256: [u8; 32],
}

impl From<postrider_smtp::Certificate> for TranscriptCertificate {
    fn from(certificate: postrider_smtp::Certificate) -> Self {
        Self {
            subject: certificate.subject,
            issuer: certificate.issuer,
            names: certificate.names,
            not_before: certificate.not_before,
            not_after: certificate.not_after,
            spki_sha256: certificate.spki_sha256,
        }
    }
}

/// A line of a transcript.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TranscriptLine {
    /// Milliseconds since the connection was begun.
    pub ms: u32,
    /// Who wrote it.
    pub by: Speaker,
    /// The line, without secrets and texts of messages.
    pub text: String,
}

/// Who wrote a line of a transcript.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Speaker {
    /// This server.
    Client,
    /// The host.
    Server,
    /// Nobody: the line tells what happened.
    Nobody,
}

impl Transcript {
    /// The transcript within its limit.
    fn cut(mut self) -> Self {
        let mut room = TRANSCRIPT_MAX;
        let mut kept = 0;
        for line in &self.lines {
            match room.checked_sub(line.text.len() + 8) {
                Some(left) => room = left,
                None => break,
            }
            kept += 1;
        }
        self.left_out += (self.lines.len() - kept) as u64;
        self.lines.truncate(kept);
        self
    }
}

/// The transcripts of a message, oldest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Kept {
    transcripts: Vec<Transcript>,
}

impl Kept {
    fn add(&mut self, transcript: Transcript) {
        self.transcripts.push(transcript.cut());
        let over = self.transcripts.len().saturating_sub(TRANSCRIPTS_MAX);
        self.transcripts.drain(..over);
    }
}

/// Numbers that are kept with the tables.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Counters {
    /// The messages with transcripts.
    messages: u64,
}

records! {
    Kept: version 1,
}

tables! {
    counters: Counters,
    /// By message.
    transcripts: Table<QueueId, Kept> = Table::new("transcripts"),
}

subject!(counters Counters, keys 1);

operations! {
    Transcripts, version 1 weighed by weigh:
    KeepTranscripts -> (), Ordinary;
}

/// Keeps transcripts of messages. Those of messages that are gone are dropped.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct KeepTranscripts {
    all: Vec<(QueueId, Transcript)>,
}

fn weigh(op: &Op) -> usize {
    let Op::KeepTranscripts(keep) = op;
    keep.all.len()
}

impl Tables {
    /// The message is gone, and so are its transcripts.
    pub(super) fn forget_message(&mut self, id: QueueId) -> Result<(), Fault> {
        // Most servers deliver most messages without one.
        if self.counters.messages > 0 && self.transcripts.take(&id)?.is_some() {
            self.counters.messages -= 1;
        }
        Ok(())
    }
}

impl KeepTranscripts {
    fn apply(self, state: &mut State) -> Result<(), Fault> {
        for (id, transcript) in self.all {
            let queue = &state.queue;
            if !queue.queued.contains(&id)? && !queue.retired.contains(&id)? {
                continue;
            }
            let tables = &mut state.transcripts;
            let known = tables.transcripts.get(&id)?;
            tables.counters.messages += u64::from(known.is_none());
            let mut kept = known.unwrap_or_default();
            kept.add(transcript);
            tables.transcripts.put(id, kept);
        }
        Ok(())
    }
}

questions! {
    ask Transcripts { id: QueueId } -> Vec<Transcript>,
    |this, state| {
        let kept = state.transcripts.transcripts.get(&this.id)?;
        Ok(kept.unwrap_or_default().transcripts)
    },
    |this, model| model.transcripts.of(&model.queue, this.id);
}

impl Store {
    /// What was said in the last attempts of a message, oldest first: [`TRANSCRIPTS_MAX`] at most.
    /// Empty if nothing is kept, or if there is no such message.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn transcripts(&self, id: QueueId) -> Result<Vec<Transcript>, StoreError> {
        self.ask(Transcripts { id }).await
    }

    /// Keeps what was said in attempts. A message that is neither in the queue nor in the history
    /// keeps nothing.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn keep_transcripts(
        &self,
        all: Vec<(QueueId, Transcript)>,
    ) -> Result<(), StoreError> {
        self.change_by(KeepTranscripts { all }).await
    }
}

#[cfg(test)]
pub(crate) fn samples() -> Vec<Op> {
    vec![Op::KeepTranscripts(KeepTranscripts {
        all: vec![(QueueId(1), tests::transcript(1))],
    })]
}
