//! The parameters, the files and the notes, for all parts of the import.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{
    advice::without_counterpart,
    master::Service,
    params::{Params, Setting},
};
use crate::import::{
    Files,
    lines::words,
    notes::{Fate, Notes},
};

/// A character that stands for bytes that are not UTF-8.
const NOT_UTF8: char = '\u{fffd}';

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) file: PathBuf,
    /// The line, from 1. 0 means the whole file.
    pub(super) line: usize,
    /// The parameter or the key of a table.
    pub(super) key: String,
}

/// The value of a parameter, with its references expanded.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) value: String,
    pub(super) place: Place,
    /// Whether a file sets it. If not, Postfix has this value built in.
    pub(super) is_set: bool,
}

impl Found {
    /// The elements of a list.
    pub(super) fn list(&self) -> Vec<&str> {
        words(&self.value, &[','])
    }

    pub(super) fn is_empty(&self) -> bool {
        self.value.is_empty()
    }

    pub(super) fn is_yes(&self) -> bool {
        self.value.eq_ignore_ascii_case("yes")
    }
}

pub(super) struct Context<'a> {
    pub(super) files: &'a dyn Files,
    pub(super) folder: &'a Path,
    pub(super) params: Params,
    master: PathBuf,
    notes: RefCell<Notes>,
    /// The path of each file that a parameter names.
    resolved: RefCell<BTreeMap<(String, bool), PathBuf>>,
}

impl<'a> Context<'a> {
    pub(super) fn new(
        files: &'a dyn Files,
        folder: &'a Path,
        params: Params,
        master: PathBuf,
    ) -> Self {
        Self {
            files,
            folder,
            params,
            master,
            notes: RefCell::default(),
            resolved: RefCell::default(),
        }
    }

    fn note(&self, fate: Fate, place: &Place, text: impl Into<String>) {
        let mut notes = self.notes.borrow_mut();
        notes.add(fate, (&place.file, place.line), &place.key, text);
    }

    pub(super) fn taken(&self, place: &Place, text: impl Into<String>) {
        self.note(Fate::Taken, place, text);
    }

    pub(super) fn changed(&self, place: &Place, text: impl Into<String>) {
        self.note(Fate::Changed, place, text);
    }

    pub(super) fn left(&self, place: &Place, text: impl Into<String>) {
        self.note(Fate::NoCounterpart, place, text);
    }

    pub(super) fn into_notes(self) -> Notes {
        self.notes.into_inner()
    }

    /// The place of a parameter of main.cf.
    pub(super) fn place(&self, name: &str) -> Place {
        Place {
            file: self.params.path.clone(),
            line: self.params.set.get(name).map_or(0, |set| set.line),
            key: name.to_owned(),
        }
    }

    /// The place of a service in master.cf.
    pub(super) fn service_place(&self, service: &Service, key: &str) -> Place {
        let key = match key {
            "" => service.name.clone(),
            key => format!("{} -o {key}", service.name),
        };
        Place {
            file: self.master.clone(),
            line: service.line,
            key,
        }
    }

    pub(super) fn master_place(&self) -> Place {
        Place {
            file: self.master.clone(),
            line: 0,
            key: String::new(),
        }
    }

    /// The value of a parameter. The caller notes its fate.
    pub(super) fn get(&self, name: &str) -> Found {
        let set = self.params.set.get(name);
        if let Some(setting) = set {
            setting.used.set(true);
        }
        let place = self.place(name);
        let value = self.params.expand(name).unwrap_or_default();
        self.found(value, place, set.is_some())
    }

    /// The value of a parameter for a service.
    pub(super) fn get_for(&self, service: Option<&Service>, name: &str) -> Found {
        let overridden = service.and_then(|service| Some((service, service.overrides.get(name)?)));
        let Some((service, setting)) = overridden else {
            return self.get(name);
        };
        setting.used.set(true);
        let place = self.service_place(service, name);
        match self.params.expand_text(&setting.value) {
            Ok(value) => self.found(value, place, true),
            Err(message) => {
                self.left(&place, message);
                self.found(String::new(), place, true)
            }
        }
    }

    fn found(&self, value: String, place: Place, is_set: bool) -> Found {
        if !value.contains(NOT_UTF8) {
            return Found {
                value,
                place,
                is_set,
            };
        }
        self.left(&place, "the value is not UTF-8");
        Found {
            value: String::new(),
            place,
            is_set,
        }
    }

    /// The path of a file that Postfix names. A file of the folder goes first, so that a copy of
    /// the folder can be read elsewhere. A path that no file sets is looked for in the folder only,
    /// unless the folder is that of this machine's Postfix.
    pub(super) fn resolve(&self, path: &str, is_set: bool) -> PathBuf {
        let cached = (path.to_owned(), is_set);
        if let Some(known) = self.resolved.borrow().get(&cached) {
            return known.clone();
        }
        let written = Path::new(path);
        let home = self.params.expand("config_directory").unwrap_or_default();
        let below = [home.as_str(), "/etc/postfix"]
            .iter()
            .find_map(|home| written.strip_prefix(home).ok())
            .map(|rest| self.folder.join(rest));
        let relative = written.strip_prefix("/").unwrap_or(written);
        let elsewhere = is_set || self.folder == Path::new("/etc/postfix");
        let named = written.file_name().map(|name| self.folder.join(name));
        let candidates = [
            below.clone(),
            Some(self.folder.join(relative)),
            named,
            (written.is_absolute() && elsewhere).then(|| written.to_owned()),
        ];
        let found = candidates
            .into_iter()
            .flatten()
            .find(|path| self.files.read(path).is_ok());
        let missing = if is_set { written } else { relative };
        let path_found = found.or(below).unwrap_or_else(|| self.folder.join(missing));
        let mut resolved = self.resolved.borrow_mut();
        resolved.insert(cached, path_found.clone());
        path_found
    }

    /// Notes all parameters that no caller asked for.
    pub(super) fn left_over(&self, services: Option<&[Service]>) {
        for (name, setting) in &self.params.set {
            if !setting.used.get() {
                self.left(&self.place(name), without_counterpart(name));
            }
        }
        for service in services.into_iter().flatten() {
            let left = |setting: &Setting| !setting.used.get();
            for (name, _) in service.overrides.iter().filter(|(_, set)| left(set)) {
                let place = self.service_place(service, name);
                self.left(&place, without_counterpart(name));
            }
        }
    }
}
