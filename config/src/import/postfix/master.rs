//! `master.cf`: the services, and the parameters that `-o` sets for one of them (master(5)).

use std::{cell::Cell, collections::BTreeMap, path::Path};

use super::params::{Setting, assignment};
use crate::{
    error::Errors,
    import::{
        lines::{Logical, unbraced, words},
        problem,
    },
};

/// A service.
#[derive(Debug)]
pub(super) struct Service {
    /// The first field: a port, a host with a port, or a name.
    pub(super) name: String,
    /// `inet`, `unix`, `fifo` or `pass`.
    pub(super) kind: String,
    /// The program.
    pub(super) command: String,
    pub(super) line: usize,
    /// The parameters that `-o` sets.
    pub(super) overrides: BTreeMap<String, Setting>,
}

/// Reads the lines of `master.cf`.
///
/// # Errors
/// All lines that are wrong.
pub(super) fn read(lines: &[Logical], path: &Path) -> Result<Vec<Service>, Errors> {
    let mut services = Vec::new();
    let mut problems = Vec::new();
    for Logical { line, text } in lines {
        match service(text, *line) {
            Ok(service) => services.push(service),
            Err(message) => problems.push(problem(path, *line, message)),
        }
    }
    match Errors::new(problems) {
        Some(errors) => Err(errors),
        None => Ok(services),
    }
}

fn service(text: &str, line: usize) -> Result<Service, String> {
    let fields = words(text, &[]);
    let [name, kind, _, _, _, _, _, command, arguments @ ..] = fields.as_slice() else {
        return Err("has less than eight fields".to_owned());
    };
    let mut overrides = BTreeMap::new();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let assigned = match argument.strip_prefix("-o") {
            Some("") => arguments.next().copied(),
            Some(joined) => Some(joined),
            None => continue,
        };
        let assigned = assigned.ok_or("ends with -o")?;
        let (name, value) = assignment(unbraced(assigned).unwrap_or(assigned))?;
        let setting = Setting {
            value: value.to_owned(),
            line,
            used: Cell::new(false),
        };
        overrides.insert(name.to_owned(), setting);
    }
    Ok(Service {
        name: (*name).to_owned(),
        kind: (*kind).to_owned(),
        command: (*command).to_owned(),
        line,
        overrides,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::lines::logical;

    #[test]
    fn services_and_their_parameters() {
        let text = "smtp inet n - y - - smtpd\nsubmission inet n - y - - smtpd\n  -o syslog_name=postfix/submission -v\n  -o { smtpd_milters = inet:a:1, inet:b:2 }\n  -osmtpd_tls_wrappermode=yes\n";
        let services = read(&logical(text), Path::new("master.cf")).unwrap();
        let [smtp, submission] = services.as_slice() else {
            panic!("{services:?}");
        };
        assert_eq!((smtp.name.as_str(), smtp.kind.as_str()), ("smtp", "inet"));
        assert!(smtp.overrides.is_empty());
        assert_eq!(submission.line, 2);
        let value = |name: &str| submission.overrides[name].value.as_str();
        assert_eq!(value("syslog_name"), "postfix/submission");
        assert_eq!(value("smtpd_milters"), "inet:a:1, inet:b:2");
        assert_eq!(value("smtpd_tls_wrappermode"), "yes");
    }

    #[test]
    fn wrong_lines() {
        let text = "smtp inet n -\nsmtp inet n - y - - smtpd -o\nsmtp inet n - y - - smtpd -o x\n";
        let errors = read(&logical(text), Path::new("master.cf")).unwrap_err();
        assert_eq!(
            errors.to_string(),
            "master.cf:1:1: has less than eight fields\nmaster.cf:2:1: ends with -o\nmaster.cf:3:1: \"x\" is not of the form \"name = value\""
        );
    }
}
