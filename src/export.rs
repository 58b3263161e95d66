//! The mail of an account as files that other programs read: Maildir and mbox.
//!
//! - `names`: mailboxes as names of files.
//! - `maildir`, `mbox`: the two forms.
//!
//! The files are made in a folder inside of the new one. They move to their places when all are
//! there, so nobody takes a part for the whole. A folder that exists is never written to.

mod maildir;
mod mbox;
mod names;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use postrider_admin::op::export::{DamagedMail, ExportItem, ExportedMail};
use postrider_store::MailId;

use crate::backup::copy::Owner;
use maildir::Maildir;
use mbox::Mbox;

/// Where the files are until all are there.
const UNFINISHED: &str = "unfinished";

/// A form of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A file for each mail, a folder for each mailbox (Maildir++).
    Maildir,
    /// A file for each mailbox (mboxrd).
    Mbox,
}

#[derive(Debug)]
enum Files {
    Maildir(Maildir),
    Mbox(Mbox),
}

/// Writes the mail of one account into a new folder.
#[derive(Debug)]
pub struct Exporter {
    dir: PathBuf,
    files: Files,
    /// The bytes of the present mail that are still to come. None before the first mail.
    left: Option<u64>,
    /// The number of the present mail. None before the first mail.
    present: Option<MailId>,
    exported: Exported,
}

/// What an export wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// The number of mails.
    pub mails: u64,
    /// The mails that can't be read. They are in no file.
    pub damaged: Vec<DamagedMail>,
}

impl Exporter {
    /// Makes the folder. If `owner` is given, it belongs to them.
    ///
    /// # Errors
    /// The folder exists, or the system fails.
    pub fn new(dir: &Path, form: Form, host: &str, owner: Option<Owner>) -> anyhow::Result<Self> {
        fs::create_dir(dir).with_context(|| {
            let shown = dir.display();
            format!("failed to make the folder {shown}; name one that does not exist")
        })?;
        private(dir)?;
        if let Some(owner) = owner {
            owner.give(dir)?;
        }
        let work = dir.join(UNFINISHED);
        let files = match form {
            Form::Maildir => Files::Maildir(Maildir::new(work, host)),
            Form::Mbox => Files::Mbox(Mbox::new(work)),
        };
        Ok(Self {
            dir: dir.to_owned(),
            files,
            left: None,
            present: None,
            exported: Exported::default(),
        })
    }

    /// Takes the next part.
    ///
    /// # Errors
    /// The files can't be written, or a mail is not whole.
    pub fn add(&mut self, item: &ExportItem) -> io::Result<()> {
        match item {
            ExportItem::Mail(mail) => {
                self.end_mail()?;
                self.left = Some(mail.size);
                self.present = Some(mail.id);
                self.exported.mails += 1;
                self.begin(mail)
            }
            ExportItem::Damaged(mail) => {
                if self.present == Some(mail.id) && self.left.take().is_some() {
                    self.exported.mails = self.exported.mails.saturating_sub(1);
                    self.discard()?;
                }
                self.exported.damaged.push(mail.clone());
                Ok(())
            }
            ExportItem::Piece(piece) => {
                let length = piece.0.len() as u64;
                let left = self.left.and_then(|left| left.checked_sub(length));
                self.left = Some(left.ok_or_else(|| invalid("a mail is longer than its size"))?);
                match &mut self.files {
                    Files::Maildir(maildir) => maildir.write(&piece.0),
                    Files::Mbox(mbox) => mbox.write(&piece.0),
                }
            }
        }
    }

    fn begin(&mut self, mail: &ExportedMail) -> io::Result<()> {
        match &mut self.files {
            Files::Maildir(maildir) => maildir.begin(mail),
            Files::Mbox(mbox) => mbox.begin(mail),
        }
    }

    /// Takes the present mail away.
    fn discard(&mut self) -> io::Result<()> {
        match &mut self.files {
            Files::Maildir(maildir) => maildir.discard(),
            Files::Mbox(mbox) => mbox.discard(),
        }
    }

    fn end_mail(&mut self) -> io::Result<()> {
        match self.left.take() {
            None => return Ok(()),
            Some(0) => {}
            Some(_) => return Err(invalid("a mail is shorter than its size")),
        }
        match &mut self.files {
            Files::Maildir(maildir) => maildir.end(),
            Files::Mbox(mbox) => mbox.end(),
        }
    }

    /// Ends the export: moves the files to their places. Tells what is in them, and what is not.
    ///
    /// # Errors
    /// The last mail is not whole, or the system fails.
    pub fn finish(mut self) -> io::Result<Exported> {
        self.end_mail()?;
        let last = match &mut self.files {
            Files::Maildir(maildir) => maildir.finish()?,
            Files::Mbox(mbox) => mbox.finish()?,
        };
        let work = self.dir.join(UNFINISHED);
        let mut names = Vec::new();
        for entry in fs::read_dir(&work)? {
            names.push(entry?.file_name());
        }
        // A reader looks for the last one, so all others are there when it appears.
        names.sort_by_key(|name| last.is_some_and(|last| name == last));
        for name in names {
            fs::rename(work.join(&name), self.dir.join(&name))?;
        }
        fs::remove_dir(&work)?;
        sync_folder(&self.dir)?;
        Ok(self.exported)
    }

    /// Removes what there is of an export that failed.
    pub fn give_up(dir: &Path) {
        // The error of the export is what is told.
        let _ = fs::remove_dir_all(dir);
    }
}

fn invalid(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// Nobody else may read mail.
fn private(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
}

/// A new file that only its owner reads.
fn new_file(path: &Path) -> io::Result<fs::File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

/// Makes a folder, and those above it.
fn new_folder(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use postrider_admin::op::queue::Piece;
    use postrider_store::{MailId, Time};

    use super::*;

    fn mail(id: u64, mailbox: &str, flags: &[&str], text: &str) -> Vec<ExportItem> {
        let mut items = vec![ExportItem::Mail(ExportedMail {
            id: MailId(id),
            mailbox: mailbox.to_owned(),
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            received: Time(1_800_000_000_123_456),
            sender: if id == 1 { "" } else { "bob@remote.test" }.to_owned(),
            size: text.len() as u64,
        })];
        // Small pieces cut lines anywhere.
        for piece in text.as_bytes().chunks(3) {
            items.push(ExportItem::Piece(Piece(piece.to_vec())));
        }
        items
    }

    /// Exports these mails. Gives the files with their content, by name.
    fn export(form: Form, mails: &[Vec<ExportItem>]) -> Vec<(String, String)> {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("out");
        let mut exporter = Exporter::new(&target, form, "mail.example.org", None).unwrap();
        for item in mails.iter().flatten() {
            exporter.add(item).unwrap();
        }
        let exported = exporter.finish().unwrap();
        assert_eq!(exported.mails, mails.len() as u64);
        assert!(exported.damaged.is_empty());
        let mut files = Vec::new();
        list(&target, "", &mut files);
        files.sort();
        files
    }

    fn list(dir: &Path, below: &str, files: &mut Vec<(String, String)>) {
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{below}{}", entry.file_name().to_str().unwrap());
            match entry.file_type().unwrap().is_dir() {
                true => list(&entry.path(), &format!("{name}/"), files),
                false => files.push((name, fs::read_to_string(entry.path()).unwrap())),
            }
        }
    }

    #[test]
    fn a_maildir_has_a_folder_for_each_mailbox_and_flags_in_names() {
        let text = "Subject: x\r\n\r\nFrom here\r\n";
        let files = export(
            Form::Maildir,
            &[
                mail(1, "Inbox", &["\\answered", "\\seen"], text),
                mail(2, "Work/J\u{fc}rg", &["$junk", "\\draft"], text),
            ],
        );
        let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                ".Work.J&APw-rg/cur/1800000000.M123456P2.mail.example.org,S=25:2,Da",
                ".Work.J&APw-rg/dovecot-keywords",
                ".Work.J&APw-rg/maildirfolder",
                "cur/1800000000.M123456P1.mail.example.org,S=25:2,RS",
            ]
        );
        assert_eq!(files[0].1, text);
        assert_eq!(files[1].1, "0 $junk\n");
    }

    #[test]
    fn the_date_of_a_maildir_file_is_when_the_mail_came() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("out");
        let mut exporter = Exporter::new(&target, Form::Maildir, "h.test", None).unwrap();
        for item in mail(1, "Inbox", &[], "A: b\r\n") {
            exporter.add(&item).unwrap();
        }
        exporter.finish().unwrap();
        let file = fs::read_dir(target.join("cur")).unwrap().next().unwrap();
        let modified = file.unwrap().metadata().unwrap().modified().unwrap();
        let since = modified.duration_since(std::time::UNIX_EPOCH).unwrap();
        assert_eq!(since.as_micros(), 1_800_000_000_123_456);
        for name in ["new", "tmp"] {
            assert!(target.join(name).is_dir());
        }
    }

    #[test]
    fn an_mbox_quotes_lines_that_look_like_the_beginning_of_a_mail() {
        let text = "Subject: x\r\n\r\nFrom here\r\n>From there\r\n>>From\r\nFro";
        let files = export(
            Form::Mbox,
            &[
                mail(1, "Inbox", &["\\seen", "\\flagged", "$junk"], text),
                mail(2, "Inbox", &[], "A: b\r\n\r\nFrom\rx\r\n"),
                mail(3, "Work/J\u{fc}rg", &[], ""),
            ],
        );
        let date = "Fri Jan 15 08:00:00 2027";
        let expected = format!(
            "From MAILER-DAEMON {date}\nStatus: RO\nX-Status: F\nX-Keywords: $junk\n\
             Subject: x\n\n>From here\n>>From there\n>>From\nFro\n\n\
             From bob@remote.test {date}\nStatus: O\nA: b\n\nFrom\rx\n\n"
        );
        assert_eq!(files[0], ("Inbox.mbox".to_owned(), expected));
        let empty = format!("From bob@remote.test {date}\nStatus: O\n\n");
        assert_eq!(files[1], ("Work.J&APw-rg.mbox".to_owned(), empty));
    }

    /// The mail itself could tell its reader of flags that it does not have.
    #[test]
    fn fields_of_a_mail_set_no_flags_in_an_mbox() {
        let text = "status : R\r\n\tO\r\nA: Status: x\r\nX-STATUS: F\r\nX-Keywords: a\r\n b\r\n\
                    X-Keywords-Too: c\r\n folded\r\nno field\r\nStatus: RO\r\n\r\nStatus: body\r\n";
        let kept = "A: Status: x\nX-Keywords-Too: c\n folded\nno field\n\nStatus: body\n";
        let files = export(
            Form::Mbox,
            &[
                mail(1, "Inbox", &[], text),
                mail(2, "Inbox", &[], "X-Status: F"),
                mail(3, "Inbox", &[], "X-Status"),
                mail(4, "Inbox", &[], "A: b\r\nStatus: R\r\n"),
            ],
        );
        let heads = "Fri Jan 15 08:00:00 2027\nStatus: O\n";
        let expected = format!(
            "From MAILER-DAEMON {heads}{kept}\nFrom bob@remote.test {heads}\n\
             From bob@remote.test {heads}X-Status\n\nFrom bob@remote.test {heads}A: b\n\n"
        );
        assert_eq!(files, [("Inbox.mbox".to_owned(), expected)]);
    }

    #[test]
    fn a_damaged_mail_is_left_out_and_the_others_are_there() {
        let damaged = |id, mailbox: &str| DamagedMail {
            id: MailId(id),
            mailbox: mailbox.to_owned(),
            received: Time(0),
            error: "damaged data".to_owned(),
        };
        for (form, names) in [
            (
                Form::Maildir,
                &[
                    "cur/1800000000.M123456P1.h.test,S=6:2,",
                    "cur/1800000000.M123456P4.h.test,S=6:2,",
                ][..],
            ),
            (Form::Mbox, &["Inbox.mbox", "Work.mbox"]),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let target = dir.path().join("out");
            let mut exporter = Exporter::new(&target, form, "h.test", None).unwrap();
            let mut half = mail(2, "Inbox", &[], "Damaged: x\r\n\r\nFrom");
            half.pop();
            let mut other = mail(3, "Work", &[], "Damaged: y\r\n");
            other.pop();
            let items = [
                mail(1, "Inbox", &[], "A: b\r\n"),
                half,
                vec![ExportItem::Damaged(damaged(2, "Inbox"))],
                other,
                vec![ExportItem::Damaged(damaged(3, "Work"))],
                // Its beginning can't be read either.
                vec![ExportItem::Damaged(damaged(5, "Inbox"))],
                mail(4, "Inbox", &[], "C: d\r\n"),
                vec![ExportItem::Damaged(damaged(6, "Inbox"))],
            ];
            for item in items.iter().flatten() {
                exporter.add(item).unwrap();
            }
            let exported = exporter.finish().unwrap();
            assert_eq!(exported.mails, 2);
            let ids: Vec<u64> = exported.damaged.iter().map(|mail| mail.id.0).collect();
            assert_eq!(ids, [2, 3, 5, 6]);
            let mut files = Vec::new();
            list(&target, "", &mut files);
            files.retain(|(name, _)| !name.ends_with("maildirfolder"));
            files.sort();
            let found: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(found, names);
            let all: String = files.iter().map(|(_, text)| text.as_str()).collect();
            assert!(all.contains("A: b") && all.contains("C: d"), "{all}");
            assert!(!all.contains("Damaged"), "{all}");
        }
    }

    #[test]
    fn nothing_is_overwritten_and_a_part_is_not_taken_for_the_whole() {
        let dir = tempfile::tempdir().unwrap();
        let error = Exporter::new(dir.path(), Form::Mbox, "h.test", None).unwrap_err();
        assert!(error.to_string().contains("does not exist"), "{error}");
        for form in [Form::Maildir, Form::Mbox] {
            let target = dir.path().join("out");
            let mut exporter = Exporter::new(&target, form, "h.test", None).unwrap();
            let mut items = mail(1, "Inbox", &[], "A: b\r\n");
            items.pop();
            for item in &items {
                exporter.add(item).unwrap();
            }
            let names: Vec<_> = fs::read_dir(&target).unwrap().collect();
            assert_eq!(names.len(), 1, "all is in one folder until the end");
            let error = exporter.finish().unwrap_err();
            assert!(error.to_string().contains("shorter"), "{error}");
            Exporter::give_up(&target);
            assert!(!target.exists());
        }
    }
}
