//! What was said to the hosts of an attempt, as the messages keep it.
//!
//! A message gets what was said on the last connection that concerned it. If none did, it gets what
//! was said on the last connection that got nowhere.

use std::{collections::HashMap, time::Duration};

use postrider_config::KeepTranscripts;
use postrider_smtp::{
    Certificate,
    client::{Connection, Direction, Line, OutgoingResult, Recorder, Recording, Remote, Unopened},
};
use postrider_store::{
    QueueId, Queued, Speaker, Time, Transcript, TranscriptCertificate, TranscriptLine,
    TranscriptTls,
};

use tokio::time::Instant;

use super::addresses::Peer;
use crate::{
    source::{Source, Via},
    tls::Rule,
};

/// The two ends of a connection, and what its TLS follows from.
#[derive(Clone, Copy)]
pub(super) struct Ends<'a> {
    /// The name of the host.
    pub(super) host: &'a str,
    pub(super) peer: &'a Peer,
    pub(super) source: &'a Source,
    pub(super) rule: Rule,
}

/// The transcripts of an attempt.
pub(super) struct Transcripts {
    keep: KeepTranscripts,
    /// What was said of messages.
    of: HashMap<QueueId, Recorded>,
    /// What was said on the last connection that got nowhere.
    nowhere: Option<Recorded>,
    /// The transcripts of messages that have their results.
    kept: Vec<(QueueId, Recorded)>,
}

/// A transcript, and the moment that its times count from.
#[derive(Clone)]
pub(super) struct Recorded {
    pub(super) transcript: Transcript,
    pub(super) since: Instant,
}

impl Transcripts {
    pub(super) fn new(keep: KeepTranscripts) -> Self {
        Self {
            keep,
            of: HashMap::new(),
            nowhere: None,
            kept: Vec::new(),
        }
    }

    /// A recorder for a connection. None: no transcript is kept.
    pub(super) fn recorder(&self) -> Option<Recorder> {
        let now = || Instant::now().into_std();
        (self.keep != KeepTranscripts::None).then(|| Recorder::new(now()))
    }

    const fn wants(&self, success: bool) -> bool {
        match self.keep {
            KeepTranscripts::All => true,
            KeepTranscripts::Failed => !success,
            KeepTranscripts::None => false,
        }
    }

    /// No session was opened.
    pub(super) fn unopened(
        &mut self,
        ends: Ends<'_>,
        unopened: &Unopened,
        recorder: Option<&Recorder>,
    ) {
        if !self.wants(false) {
            return;
        }
        let (recording, since) = match recorder {
            Some(recorder) => (recorder.recording(None), recorder.started().into()),
            // It came to no session.
            None => {
                let recording = Recording {
                    lines: vec![Line {
                        at: Duration::ZERO,
                        direction: Direction::Note,
                        text: unopened.status.text.clone(),
                    }],
                    left_out: 0,
                };
                (recording, Instant::now())
            }
        };
        let certificate = unopened
            .tls
            .as_ref()
            .and_then(|tls| tls.certificate.clone());
        let transcript = Transcript {
            certificate: certificate.map(TranscriptCertificate::from),
            ..ends.transcript(recording)
        };
        self.nowhere = Some(Recorded { transcript, since });
    }

    /// Groups of messages were sent over a connection.
    pub(super) fn sent(
        &mut self,
        ends: Ends<'_>,
        connection: &Connection,
        groups: &[Vec<Queued>],
        results: &[OutgoingResult],
    ) {
        let Some(recorder) = connection.recorder() else {
            return;
        };
        let mut facts: Option<Transcript> = None;
        for (index, (group, result)) in groups.iter().zip(results).enumerate() {
            let mut recording = None;
            for (message, result) in group.iter().zip(&result.recipients) {
                if !self.wants(result.status.is_success()) {
                    continue;
                }
                let said = recording.get_or_insert_with(|| recorder.recording(Some(index)));
                let facts = facts.get_or_insert_with(|| ends.facts(connection));
                let transcript = Transcript {
                    lines: lines(said),
                    left_out: said.left_out,
                    ..facts.clone()
                };
                let since = recorder.started().into();
                self.of.insert(message.id, Recorded { transcript, since });
            }
        }
    }

    /// The attempt of a message that began at `start` has ended.
    pub(super) fn end(&mut self, id: QueueId, start: Time, success: bool) {
        let said = self.of.remove(&id);
        if !self.wants(success) {
            return;
        }
        if let Some(mut said) = said.or_else(|| self.nowhere.clone()) {
            said.transcript.start = start;
            self.kept.push((id, said));
        }
    }

    /// What was said last of a message that has its result.
    pub(super) fn of_ended(&self, id: QueueId) -> Option<&Recorded> {
        let mut kept = self.kept.iter();
        kept.find(|(of, _)| *of == id).map(|(_, said)| said)
    }

    /// The transcripts of messages that have their results.
    pub(super) fn into_kept(self) -> Vec<(QueueId, Transcript)> {
        let kept = self.kept.into_iter();
        kept.map(|(id, said)| (id, said.transcript)).collect()
    }
}

impl Ends<'_> {
    pub(super) fn remote(&self) -> Remote {
        Remote {
            name: self.host.to_owned(),
            ip: match self.peer {
                Peer::Ip(address) => Some(address.ip()),
                Peer::Socket(_) => None,
            },
        }
    }

    /// A transcript without TLS.
    fn transcript(&self, recording: Recording) -> Transcript {
        Transcript {
            start: Time(0),
            remote: self.remote().to_string(),
            source: self.source.via.shown(),
            ehlo: self.source.ehlo.ascii().to_owned(),
            tls_rule: self.rule.name().to_owned(),
            tls: None,
            certificate: None,
            lines: lines(&recording),
            left_out: recording.left_out,
        }
    }

    /// The facts of an open connection.
    fn facts(&self, connection: &Connection) -> Transcript {
        let leaf = connection.peer_certificates().first();
        let certificate = leaf.and_then(|leaf| Certificate::read(leaf));
        Transcript {
            source: self.source_of(connection),
            tls: connection.tls().map(|tls| TranscriptTls {
                version: tls.version.clone(),
                cipher: tls.cipher.clone(),
            }),
            certificate: certificate.map(TranscriptCertificate::from),
            ..self.transcript(Recording::default())
        }
    }

    /// Where an open connection comes from; empty: it is none of TCP.
    pub(super) fn source_of(&self, connection: &Connection) -> String {
        match (&self.source.via, connection.local_ip()) {
            (Via::Any, Some(ip)) => ip.to_string(),
            (via, _) => via.shown(),
        }
    }
}

fn lines(recording: &Recording) -> Vec<TranscriptLine> {
    let lines = recording.lines.iter().map(|line| TranscriptLine {
        ms: u32::try_from(line.at.as_millis()).unwrap_or(u32::MAX),
        by: match line.direction {
            Direction::Sent => Speaker::Client,
            Direction::Received => Speaker::Server,
            Direction::Note => Speaker::Nobody,
        },
        text: line.text.clone(),
    });
    lines.collect()
}
