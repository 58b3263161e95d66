//! Mailboxes as records, and what lists show of a mail.

use serde::{Deserialize, Serialize};

use crate::{
    Mail, MailId, Time,
    id::ids,
    subject::next,
    table::value::{records, ways},
};

ids! {
    /// A mailbox of an account. No two mailboxes of a store have the same number, also if one is
    /// removed and made again.
    FolderId,
}

/// The special use of a mailbox (RFC 6154 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SpecialUse {
    /// `\Archive`.
    Archive,
    /// `\Drafts`.
    Drafts,
    /// `\Junk`.
    Junk,
    /// `\Sent`.
    Sent,
    /// `\Trash`.
    Trash,
}

/// The mailbox to which mail comes.
pub const INBOX: &str = "Inbox";

impl SpecialUse {
    /// All special uses.
    pub const ALL: [Self; 5] = [
        Self::Archive,
        Self::Drafts,
        Self::Junk,
        Self::Sent,
        Self::Trash,
    ];

    /// The name, with the backslash.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Archive => "\\Archive",
            Self::Drafts => "\\Drafts",
            Self::Junk => "\\Junk",
            Self::Sent => "\\Sent",
            Self::Trash => "\\Trash",
        }
    }

    /// The special use with this name, in any case of the letters.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|it| it.name().eq_ignore_ascii_case(name))
    }

    /// The special use that a mailbox of this name gets when it is made.
    pub(crate) fn usual(mailbox: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|it| it.name().strip_prefix('\\') == Some(mailbox))
    }
}

/// A mailbox of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// The number of the record.
    pub id: FolderId,
    /// The name of the mailbox, for example `Inbox`.
    pub name: String,
    /// Its special use.
    pub special_use: Option<SpecialUse>,
    /// The next mail that enters gets this UID, or a higher one.
    pub uid_next: u32,
    /// How many mails are in it.
    pub exists: u64,
    /// How many of them lack the flag `\seen`.
    pub unseen: u64,
    /// The sum of their sizes in bytes.
    pub size: u64,
    /// The number of the last change in it. Later changes of any mailbox have higher numbers.
    pub changed: u64,
}

impl Folder {
    /// The value that UIDs of this mailbox are valid with (RFC 9051 §2.3.1.1).
    #[must_use]
    pub const fn uid_validity(&self) -> u32 {
        uid_validity(self.id)
    }
}

/// As [`Folder::uid_validity`]. It is never 0.
const fn uid_validity(id: FolderId) -> u32 {
    let bytes = id.0.to_le_bytes();
    let low = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    if low == 0 { 1 } else { low }
}

/// The parts of a mail that lists show. Whoever makes one keeps it below about 1 KiB.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// The address of the author; empty if there is none.
    pub from_addr: String,
    /// The display name of the author; empty if there is none.
    pub from_name: String,
    /// The recipients of the To field: addresses, with their display names in front of them.
    pub to: Vec<String>,
    /// The subject, decoded.
    pub subject: String,
    /// The time of the Date field.
    pub date: Option<Time>,
    /// The Message-ID, with its angle brackets.
    pub message_id: String,
    /// The mail has attachments.
    pub has_attachments: bool,
    /// The beginning of the text, in one line.
    pub preview: String,
}

impl Summary {
    /// Whether the author, a recipient or the subject has these letters in it, in any case.
    #[must_use]
    pub fn has(&self, lower: &str) -> bool {
        let texts = [&self.from_addr, &self.from_name, &self.subject];
        let mut texts = texts.into_iter().chain(&self.to);
        texts.any(|text| text.to_lowercase().contains(lower))
    }
}

/// What is kept of a mailbox. The key has its account and its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(super) id: FolderId,
    pub(super) special_use: Option<SpecialUse>,
    pub(super) uid_next: u32,
    /// How much of [`Counters::skipped`] is in `uid_next`.
    pub(super) skipped: u32,
    pub(super) exists: u64,
    pub(super) unseen: u64,
    pub(super) size: u64,
    pub(super) changed: u64,
}

impl Record {
    pub(super) const fn new(id: FolderId, special_use: Option<SpecialUse>, skipped: u32) -> Self {
        Self {
            id,
            special_use,
            uid_next: 1,
            skipped,
            exists: 0,
            unseen: 0,
            size: 0,
            changed: 0,
        }
    }

    /// The next UID, with this much skipped in all.
    pub(super) const fn uid_next(&self, skipped: u32) -> u32 {
        let more = skipped.saturating_sub(self.skipped);
        self.uid_next.saturating_add(more)
    }

    /// Takes the next UID. None: there are no more.
    pub(super) const fn take_uid(&mut self, skipped: u32) -> Option<u32> {
        let uid = self.uid_next(skipped);
        if uid == u32::MAX {
            return None;
        }
        self.uid_next = uid + 1;
        self.skipped = skipped;
        Some(uid)
    }

    pub(super) fn count_in(&mut self, mail: &Mail) {
        self.exists += 1;
        self.unseen += u64::from(!is_seen(mail));
        self.size = self.size.saturating_add(mail.size);
    }

    pub(super) fn count_out(&mut self, mail: &Mail) {
        self.exists = self.exists.saturating_sub(1);
        self.unseen = self.unseen.saturating_sub(u64::from(!is_seen(mail)));
        self.size = self.size.saturating_sub(mail.size);
    }

    pub(super) fn folder(&self, name: &str, skipped: u32) -> Folder {
        Folder {
            id: self.id,
            name: name.to_owned(),
            special_use: self.special_use,
            uid_next: self.uid_next(skipped),
            exists: self.exists,
            unseen: self.unseen,
            size: self.size,
            changed: self.changed,
        }
    }

    #[cfg(test)]
    pub(super) const fn with_uid_next(self, uid_next: u32) -> Self {
        Self { uid_next, ..self }
    }
}

/// Whether a mail was read.
pub(super) fn is_seen(mail: &Mail) -> bool {
    mail.flags.iter().any(|flag| flag == "\\seen")
}

/// A place that a mail has, or had: the mailbox and its UID there.
pub(super) type Spot = (FolderId, u32);

/// The most places that are kept of a mail beside its present one.
pub(super) const SPOTS_MAX: usize = 8;

/// What is kept of a mail beside its record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(super) spot: Spot,
    /// The places that it had before, oldest first.
    pub(super) was: Vec<Spot>,
    /// None: nobody has made it yet.
    pub(super) summary: Option<Box<Summary>>,
}

/// The mail at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct At(pub(super) MailId);

records! {
    Record: version 1,
    Entry: version 1,
}

ways! {
    At: version 1,
}

/// Numbers that are kept with the tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counters {
    last: u64,
    changes: u64,
    /// By how much the UIDs of all mailboxes are higher than they would be by themselves.
    pub(super) skipped: u32,
}

impl Counters {
    pub(super) fn next_folder(&mut self) -> FolderId {
        FolderId(next(&mut self.last))
    }

    pub(super) fn next_change(&mut self) -> u64 {
        next(&mut self.changes)
    }

    /// Makes all later numbers higher by this much.
    pub(super) fn skip(&mut self, by: u64) {
        self.last = self.last.saturating_add(by);
        self.changes = self.changes.saturating_add(by);
        let by = u32::try_from(by).unwrap_or(u32::MAX);
        self.skipped = self.skipped.saturating_add(by);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_uses_have_their_names() {
        for special_use in SpecialUse::ALL {
            assert_eq!(SpecialUse::named(special_use.name()), Some(special_use));
        }
        assert_eq!(SpecialUse::named("\\junk"), Some(SpecialUse::Junk));
        assert_eq!(SpecialUse::named("Junk"), None);
        assert_eq!(SpecialUse::usual("Junk"), Some(SpecialUse::Junk));
        assert_eq!(SpecialUse::usual(INBOX), None);
    }

    #[test]
    fn a_uid_validity_is_not_zero_and_has_32_bits() {
        assert_eq!(uid_validity(FolderId(7)), 7);
        assert_eq!(uid_validity(FolderId(1 << 32)), 1);
        assert_eq!(uid_validity(FolderId((1 << 32) + 9)), 9);
    }

    #[test]
    fn uids_end_before_the_highest_number() {
        let mut record = Record::new(FolderId(1), None, 0).with_uid_next(u32::MAX - 1);
        assert_eq!(record.take_uid(0), Some(u32::MAX - 1));
        assert_eq!(record.take_uid(0), None);
    }

    #[test]
    fn skipped_uids_are_skipped_once() {
        let mut record = Record::new(FolderId(1), None, 0);
        assert_eq!(record.take_uid(10), Some(11));
        assert_eq!(record.take_uid(10), Some(12));
        assert_eq!(record.uid_next(13), 16);
    }

    #[test]
    fn letters_are_found_in_any_case() {
        let summary = Summary {
            from_name: "Ann \u{c4}hrlich".into(),
            to: vec!["Bob <bob@x.example>".into()],
            subject: "Your Invoice".into(),
            ..Summary::default()
        };
        for (text, expected) in [
            ("\u{e4}hr", true),
            ("bob@", true),
            ("invoice", true),
            ("carl", false),
        ] {
            assert_eq!(summary.has(text), expected, "{text}");
        }
    }
}
