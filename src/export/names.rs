//! Mailboxes as names of files, in the form that IMAP servers with Maildir++ use.

use std::collections::HashSet;

use base64::{Engine, alphabet, engine::GeneralPurpose, engine::general_purpose::NO_PAD};

/// The longest name in bytes. File systems take 255, and an ending follows.
const NAME_MAX: usize = 200;

/// The names that are in use, by mailbox.
#[derive(Debug, Default)]
pub(super) struct Names {
    used: HashSet<String>,
}

impl Names {
    /// A name for a mailbox, which no other mailbox has: `/` becomes `.`, a dot becomes `_`, and
    /// other characters than printable ASCII are written in modified UTF-7 (RFC 3501 §5.1.3).
    pub(super) fn name(&mut self, mailbox: &str) -> String {
        let plain = encode(mailbox);
        let mut name = plain.clone();
        let mut number = 1;
        while !self.used.insert(name.clone()) {
            number += 1;
            name = format!("{plain}_{number}");
        }
        name
    }
}

fn encode(mailbox: &str) -> String {
    let mut name = String::new();
    let mut other = String::new();
    for c in mailbox.chars() {
        if matches!(c, ' '..='~') {
            end_other(&mut other, &mut name);
            match c {
                '/' => name.push('.'),
                '.' => name.push('_'),
                '&' => name.push_str("&-"),
                c => name.push(c),
            }
        } else {
            other.push(c);
        }
        if name.len() + other.len() > NAME_MAX {
            break;
        }
    }
    end_other(&mut other, &mut name);
    name
}

/// Writes characters in modified base64.
fn end_other(other: &mut String, name: &mut String) {
    if other.is_empty() {
        return;
    }
    let bytes: Vec<u8> = other.encode_utf16().flat_map(u16::to_be_bytes).collect();
    let engine = GeneralPurpose::new(&alphabet::IMAP_MUTF7, NO_PAD);
    name.push('&');
    engine.encode_string(bytes, name);
    name.push('-');
    other.clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mailbox_has_a_name_of_its_own_that_leads_nowhere_else() {
        let mut names = Names::default();
        for (mailbox, expected) in [
            ("Work", "Work"),
            ("Work/2026", "Work.2026"),
            ("Work.2026", "Work_2026"),
            ("Work_2026", "Work_2026_2"),
            ("../../etc", "__.__.etc"),
            ("a&b", "a&-b"),
            ("~peter/\u{53f0}\u{5317}", "~peter.&U,BTFw-"),
            ("a\nb\u{0}", "a&AAo-b&AAA-"),
        ] {
            assert_eq!(names.name(mailbox), expected);
        }
        let long = names.name(&"\u{53f0}".repeat(1000));
        assert!(long.len() < 250 && !long.contains('/'), "{long}");
    }
}
