//! Answers of hooks and of rspamd:
//!
//! - No answer makes a reader panic.
//! - A reply has a code that goes with its vote, and one line of text.
//! - Changes come at the end of a message alone, and not too many of them.
//! - A header section after the changes has whole fields and nothing else, and a new body has lines
//!   that end in CRLF. Nothing in an answer ends the header section or a line of an envelope.
//!
//! The first byte chooses the reader. The rest is the answer.

use bytes::Bytes;
use postrider_config::HookStage;
use postrider_receive::hooks::{
    answer::{Answer, CHANGES_MAX, Change, Vote},
    edit::{Edit, Section},
    rspamd, stage,
};
use postrider_smtp::{Reply, field};

const SECTION: &[u8] = b"A: 1\r\nB: 2\r\n\tb\r\nA: 3\r\nSubject: s\r\nX-Spam: no\r\n";

/// Fails where one of these does not hold.
pub(crate) fn check(data: &[u8]) {
    let Some((reader, body)) = data.split_first() else {
        return;
    };
    let stages = HookStage::ALL;
    let reader = usize::from(*reader) % (stages.len() + 2);
    let (answer, has_changes) = match stages.get(reader) {
        Some(stage) => (stage::read(*stage, body), *stage == HookStage::Data),
        None if reader == stages.len() => (rspamd::read(body).map(|read| read.answer), true),
        None => {
            let _ = rspamd::learn::read(body);
            return;
        }
    };
    match answer {
        Ok(answer) => check_answer(&answer, has_changes),
        Err(failure) => {
            let text = failure.to_string();
            assert!(
                text.len() <= 300 && !text.contains(char::is_control),
                "{text:?}"
            );
        }
    }
}

fn check_answer(answer: &Answer, has_changes: bool) {
    let is_taken = match &answer.vote {
        Vote::Refuse(reply) => {
            check_reply(
                reply,
                !reply.code().is_positive() && !reply.code().is_intermediate(),
            );
            false
        }
        Vote::Discard(reply) => {
            check_reply(reply, reply.code().is_positive());
            false
        }
        Vote::Accept | Vote::Quarantine(_) | Vote::Junk(_) => true,
    };
    if let Some(reply) = &answer.reply {
        check_reply(reply, reply.code().is_positive() && is_taken);
    }
    assert!(answer.changes.is_empty() || (has_changes && is_taken));
    // A message in quarantine gets one field more.
    assert!(answer.changes.len() <= CHANGES_MAX + 1);
    let mut edits: Vec<&Edit> = Vec::new();
    for change in &answer.changes {
        match change {
            Change::Header(edit) => edits.push(edit),
            Change::Body(body) => check_lines(body),
            Change::Sender(path, parameters) => {
                check_line(&path.to_string());
                check_line(parameters.as_deref().unwrap_or_default());
            }
            Change::AddRecipient(address, parameters) => {
                check_line(&address.to_string());
                check_line(parameters.as_deref().unwrap_or_default());
            }
            Change::DeleteRecipient(_) => {}
        }
    }
    let mut section = Section::read(&Bytes::from_static(SECTION));
    section.apply(edits);
    check_section(&section);
}

fn check_reply(reply: &Reply, fits: bool) {
    assert!(fits, "a reply with another code: {reply}");
    assert!(!reply.text().contains(['\r', '\n', '\0']), "{reply}");
}

fn check_line(text: &str) {
    assert!(!text.contains(char::is_control), "{text:?}");
}

/// Every CR and LF is part of a CRLF.
fn check_lines(text: &[u8]) {
    let mut before = b' ';
    for byte in text.iter().copied().chain([b' ']) {
        assert_eq!(
            before == b'\r',
            byte == b'\n',
            "a line end that is not CRLF"
        );
        before = byte;
    }
}

fn check_section(section: &Section) {
    let written = section.written();
    check_lines(&written);
    assert!(!written.contains(&0));
    assert!(written.is_empty() || written.ends_with(b"\r\n"));
    let read = field::written(&written);
    assert_eq!(
        read.collect::<Vec<_>>(),
        section.fields().collect::<Vec<_>>(),
        "the fields are not those of the section"
    );
    for line in written.split(|byte| *byte == b'\n').rev().skip(1) {
        // The first line of a field has its name, so only a continuation could be blank.
        assert!(!line.trim_ascii().is_empty(), "a blank line");
    }
    assert!(field::fields(&written).count() == section.fields().count());
}
