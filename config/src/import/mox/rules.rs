//! Keys of mox that differ from ours in name and form only, and the notes about all keys.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use toml_edit::Value;

use super::sconf::Node;
use crate::{
    duration::parse_duration,
    import::{
        Files, PrivateFile,
        document::{Table, array},
        files::below,
        notes::{Fate, Notes},
    },
    quantity::{Size, format_duration},
};

/// The form of a value in both files.
#[derive(Clone, Copy)]
pub(super) enum Form {
    /// Text.
    Text,
    /// `true` or `false`.
    Bool,
    /// `true` is our `false`.
    Inverse,
    /// A whole number. 0 means the default.
    Number,
    /// A duration. 0s means the default.
    Duration,
    /// A number of bytes. 0 means the default.
    Bytes,
    /// A path.
    Path,
    /// A list of texts.
    List,
    /// A list of paths.
    Paths,
}

/// A key of mox, our key, and the form of its value.
pub(super) type Rule = (&'static str, &'static str, Form);

/// The conversion of one folder.
pub(super) struct Convert<'a> {
    pub(super) files: &'a dyn Files,
    /// The folder of mox.conf.
    pub(super) folder: &'a Path,
    /// The file that is being converted.
    pub(super) file: PathBuf,
    pub(super) notes: Notes,
    pub(super) private: Vec<PrivateFile>,
    /// Where each file of `private` comes from, and its path there.
    pub(super) copies: HashMap<PathBuf, PathBuf>,
}

impl<'a> Convert<'a> {
    pub(super) fn new(files: &'a dyn Files, folder: &'a Path, file: &Path) -> Self {
        Self {
            files,
            folder,
            file: file.to_owned(),
            notes: Notes::default(),
            private: Vec::new(),
            copies: HashMap::new(),
        }
    }

    fn note(&mut self, fate: Fate, node: &Node, text: impl Into<String>) {
        let place = (self.file.as_path(), node.line);
        self.notes.add(fate, place, &node.path, text);
    }

    /// Notes that a key is our key `text`.
    pub(super) fn taken(&mut self, node: &Node, text: impl Into<String>) {
        self.note(Fate::Taken, node, text);
    }

    pub(super) fn changed(&mut self, node: &Node, text: impl Into<String>) {
        self.note(Fate::Changed, node, text);
    }

    pub(super) fn left(&mut self, node: &Node, text: impl Into<String>) {
        self.note(Fate::NoCounterpart, node, text);
    }

    /// Converts the keys of `from` that have a rule.
    pub(super) fn apply(&mut self, from: &Node, to: &mut Table, rules: &[Rule]) {
        for rule in rules {
            self.apply_as(from, to, *rule, rule.1);
        }
    }

    /// Converts one key, to a key of ours that may differ from that of the rule.
    pub(super) fn apply_as(
        &mut self,
        from: &Node,
        to: &mut Table,
        (theirs, _, form): Rule,
        ours: &str,
    ) {
        let Some(node) = from.get(theirs) else {
            return;
        };
        match value(node, form, self.folder) {
            Ok(Some(value)) => {
                to.set(ours, value);
                self.taken(node, to.name_of(ours));
            }
            Ok(None) => {}
            Err(message) => self.left(node, message),
        }
    }

    /// Notes all keys that no caller asked for.
    pub(super) fn left_over(&mut self, root: &Node) {
        for child in &root.children {
            if !child.is_left() {
                self.left_over(child);
            } else if !child.is_default() {
                let key = child.path.rsplit('.').next().unwrap_or("");
                self.left(child, without_counterpart(key));
            }
        }
    }
}

/// A value in our form. None if it is the default.
fn value(node: &Node, form: Form, folder: &Path) -> Result<Option<Value>, String> {
    let list = matches!(form, Form::List | Form::Paths);
    if list {
        let flat = |item: &Node| item.key.is_empty() && item.children.is_empty();
        if !node.value.is_empty() || !node.children.iter().all(flat) {
            return Err("must be a list of lines \"- item\"".to_owned());
        }
    } else if !node.children.is_empty() {
        return Err("must be one value, with nothing nested below it".to_owned());
    }
    let text = node.value.as_str();
    if text.is_empty() && !list {
        return Ok(None);
    }
    let path = |text: &str| below(folder, text).display().to_string();
    let number = || {
        text.parse::<i64>()
            .map_err(|_| format!("{text:?} is not a whole number"))
    };
    Ok(match form {
        Form::Text => Some(text.into()),
        Form::Path => Some(path(text).into()),
        Form::Bool | Form::Inverse => match text {
            "true" => Some(matches!(form, Form::Bool).into()),
            "false" => None,
            _ => return Err(format!("{text:?} is neither true nor false")),
        },
        Form::Number => Some(number()?).filter(|n| *n != 0).map(Value::from),
        Form::Bytes => match u64::try_from(number()?) {
            Ok(0) => None,
            Ok(bytes) => Some(Size(bytes).to_string().into()),
            Err(_) => return Err("must not be negative".to_owned()),
        },
        Form::Duration => {
            let duration = parse_duration(text)?;
            (!duration.is_zero()).then(|| format_duration(duration).into())
        }
        Form::List | Form::Paths => {
            let items = node.items().into_iter().filter(|item| !item.is_empty());
            let items: Vec<String> = match form {
                Form::Paths => items.map(path).collect(),
                _ => items.map(str::to_owned).collect(),
            };
            (!items.is_empty()).then(|| array(items))
        }
    })
}

/// The sentence about a key of mox that has no counterpart.
fn without_counterpart(key: &str) -> &'static str {
    match key {
        "IMAP" | "IMAPS" => {
            "there is no IMAP server here; Dovecot serves IMAP and gets the mail by LMTP, or \
             applications read it through the webapi"
        }
        "WebmailHTTP" | "WebmailHTTPS" => "there is no webmail here",
        "PprofHTTP" => "there is no profiling over HTTP here",
        "WebserverHTTP" | "WebserverHTTPS" | "WebHandlers" => {
            "there is no web server for other pages here; use a web server of its own"
        }
        "CheckUpdates" => "updates come from the packages of the system",
        "Pedantic" => "the protocols are always strict here",
        "NoFixPermissions" => "permissions are checked, but only those of private folders change",
        "NonTLS" => "these pages are served over TLS only",
        "IPsNATed" => "name the public addresses in nat_ips",
        "Port" => "ACME is validated at the ports 80 and 443 of the listener",
        "SubjectPass" => "there are no passes in subjects here",
        "AutomaticJunkFlags" => "moving mail to and from the junk mailbox trains the filter",
        "Introbox" | "IncludeIntrobox" => "new accounts have no mailbox for introductions here",
        "IMAPCapabilitiesDisabled" => "there is no IMAP server here",
        "RateLimitDisabled" => "limits are for all ports alike",
        "Threshold" | "Params" => "the junk filter has no such setting for one account",
        _ => "this import does not know the key; mox may have added it later",
    }
}
