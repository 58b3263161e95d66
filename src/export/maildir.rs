//! Maildir++: a folder for each mailbox with a file for each mail. The inbox is the root.
//!
//! The name of a file has the time, the number of the mail, its size and its flags. The time of the
//! file is when the mail came. Texts stay as they are, with CRLF line ends. Keywords are small
//! letters in the names, and the file `dovecot-keywords` of each folder says which.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Write},
    path::PathBuf,
    time::{Duration, UNIX_EPOCH},
};

use postrider_admin::op::export::ExportedMail;

use super::{names::Names, new_file, new_folder, sync_folder};

/// The flags with letters of their own, in the order of the letters.
const FLAGS: [(&str, char); 6] = [
    ("\\draft", 'D'),
    ("\\flagged", 'F'),
    ("$forwarded", 'P'),
    ("\\answered", 'R'),
    ("\\seen", 'S'),
    ("\\deleted", 'T'),
];

#[derive(Debug)]
pub(super) struct Maildir {
    root: PathBuf,
    host: String,
    names: Names,
    folders: HashMap<String, Folder>,
    /// The file of the present mail, its path, and the time when it came.
    open: Option<(File, PathBuf, Duration)>,
}

#[derive(Debug)]
struct Folder {
    path: PathBuf,
    /// The first has the letter `a`.
    keywords: Vec<String>,
}

impl Maildir {
    pub(super) fn new(root: PathBuf, host: &str) -> Self {
        Self {
            root,
            // A name has no `/` and no `:`.
            host: host.to_owned(),
            names: Names::default(),
            folders: HashMap::new(),
            open: None,
        }
    }

    pub(super) fn begin(&mut self, mail: &ExportedMail) -> io::Result<()> {
        let came = Duration::from_micros(mail.received.0.max(0).cast_unsigned());
        let (seconds, micros) = (came.as_secs(), came.subsec_micros());
        let (id, host, size) = (mail.id, self.host.clone(), mail.size);
        let folder = self.folder(&mail.mailbox)?;
        let letters = folder.letters(&mail.flags);
        let name = format!("{seconds}.M{micros}P{id}.{host},S={size}:2,{letters}");
        let path = folder.path.join("cur").join(name);
        self.open = Some((new_file(&path)?, path, came));
        Ok(())
    }

    pub(super) fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        match &mut self.open {
            Some((file, ..)) => file.write_all(piece),
            None => Ok(()),
        }
    }

    pub(super) fn end(&mut self) -> io::Result<()> {
        let Some((file, _, came)) = self.open.take() else {
            return Ok(());
        };
        file.set_modified(UNIX_EPOCH + came)?;
        file.sync_all()
    }

    /// Takes the present mail away.
    pub(super) fn discard(&mut self) -> io::Result<()> {
        match self.open.take() {
            Some((_, path, _)) => fs::remove_file(path),
            None => Ok(()),
        }
    }

    /// Writes the keywords. Gives the name that a reader looks for.
    pub(super) fn finish(&mut self) -> io::Result<Option<&'static str>> {
        // An account without mail has an inbox.
        self.folder("Inbox")?;
        for folder in self.folders.values() {
            if !folder.keywords.is_empty() {
                let mut file = new_file(&folder.path.join("dovecot-keywords"))?;
                for (number, keyword) in folder.keywords.iter().enumerate() {
                    writeln!(file, "{number} {keyword}")?;
                }
                file.sync_all()?;
            }
            sync_folder(&folder.path.join("cur"))?;
            sync_folder(&folder.path)?;
        }
        Ok(Some("cur"))
    }

    fn folder(&mut self, mailbox: &str) -> io::Result<&mut Folder> {
        let is_inbox = mailbox.eq_ignore_ascii_case("inbox");
        let key = if is_inbox { "Inbox" } else { mailbox };
        if !self.folders.contains_key(key) {
            let path = match is_inbox {
                true => self.root.clone(),
                false => self.root.join(format!(".{}", self.names.name(mailbox))),
            };
            for name in ["cur", "new", "tmp"] {
                new_folder(&path.join(name))?;
            }
            if !is_inbox {
                new_file(&path.join("maildirfolder"))?.sync_all()?;
            }
            let folder = Folder {
                path,
                keywords: Vec::new(),
            };
            self.folders.insert(key.to_owned(), folder);
        }
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        self.folders.get_mut(key).ok_or_else(missing)
    }
}

impl Folder {
    /// The letters of flags, in order. A folder has 26 keywords at most, and others are left out.
    fn letters(&mut self, flags: &[String]) -> String {
        let has = |flag: &str| flags.iter().any(|known| known == flag);
        let known = FLAGS.iter().filter(|(flag, _)| has(flag));
        let mut letters: Vec<char> = known.map(|(_, letter)| *letter).collect();
        let keywords = flags.iter().filter(|flag| {
            let is_system = flag.starts_with('\\');
            !is_system && FLAGS.iter().all(|(known, _)| known != flag)
        });
        for keyword in keywords {
            let place = self.keywords.iter().position(|known| known == keyword);
            let place = place.unwrap_or_else(|| {
                if self.keywords.len() < 26 {
                    self.keywords.push(keyword.clone());
                    return self.keywords.len() - 1;
                }
                26
            });
            letters.extend(('a'..='z').nth(place));
        }
        letters.sort_unstable();
        letters.into_iter().collect()
    }
}
