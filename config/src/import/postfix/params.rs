//! `main.cf`: parameters, and values that refer to other parameters (postconf(5)).

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

use crate::{
    error::{ConfigError, Errors},
    import::{
        lines::{Logical, unbraced},
        problem,
    },
};

/// Parameters that refer to parameters: the most steps.
const DEEPEST: usize = 50;

/// The most bytes of all values together, after expansion.
const LARGEST: usize = 64 << 20;

/// A parameter as it is written.
#[derive(Debug)]
pub(super) struct Setting {
    pub(super) value: String,
    pub(super) line: usize,
    pub(super) used: Cell<bool>,
}

/// All parameters of a file.
pub(super) struct Params {
    pub(super) path: PathBuf,
    pub(super) set: BTreeMap<String, Setting>,
    builtin: HashMap<&'static str, String>,
    expanded: RefCell<HashMap<String, String>>,
    size: Cell<usize>,
}

/// Values of Postfix for parameters that are not set.
const BUILTIN: &[(&str, &str)] = &[
    ("alias_maps", "hash:/etc/aliases"),
    ("config_directory", "/etc/postfix"),
    ("data_directory", "/var/lib/postfix"),
    ("default_database_type", "hash"),
    ("inet_interfaces", "all"),
    ("inet_protocols", "all"),
    (
        "mydestination",
        "$myhostname, localhost.$mydomain, localhost",
    ),
    ("myorigin", "$myhostname"),
    ("queue_directory", "/var/spool/postfix"),
    ("smtpd_tls_key_file", "$smtpd_tls_cert_file"),
    ("smtpd_tls_eckey_file", "$smtpd_tls_eccert_file"),
    ("message_size_limit", "10240000"),
];

impl Params {
    /// Reads the lines of `main.cf`. `hostname` is the name of the machine.
    ///
    /// # Errors
    /// All lines that are wrong, and all values that cannot be expanded.
    pub(super) fn read(
        lines: Vec<Logical>,
        path: &Path,
        hostname: Option<&str>,
    ) -> Result<Self, Errors> {
        let mut problems: Vec<ConfigError> = Vec::new();
        let mut set = BTreeMap::new();
        for Logical { line, text } in lines {
            match assignment(&text) {
                Ok((name, value)) => {
                    let setting = Setting {
                        value: value.to_owned(),
                        line,
                        used: Cell::new(false),
                    };
                    // The last one counts.
                    set.insert(name.to_owned(), setting);
                }
                Err(message) => problems.push(problem(path, line, message)),
            }
        }
        let builtin = BUILTIN
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()));
        let mut params = Self {
            path: path.to_owned(),
            set,
            builtin: builtin.collect(),
            expanded: RefCell::default(),
            size: Cell::new(0),
        };
        if let Some(hostname) = hostname {
            params.builtin.insert("myhostname", hostname.to_owned());
        }
        let hostname = params.expand("myhostname").unwrap_or_default();
        let domain = match hostname.split_once('.') {
            Some((_, domain)) => domain,
            None => "localdomain",
        };
        params.builtin.insert("mydomain", domain.to_owned());
        params.expanded.borrow_mut().clear();
        for (name, setting) in &params.set {
            if let Err(message) = params.expand(name) {
                problems.push(problem(path, setting.line, message));
            }
        }
        match Errors::new(problems) {
            Some(errors) => Err(errors),
            None => Ok(params),
        }
    }

    /// The value of a parameter, expanded. Empty if there is none.
    ///
    /// # Errors
    /// If it refers to itself, is not well-formed or is too large.
    pub(super) fn expand(&self, name: &str) -> Result<String, String> {
        self.value(name, &mut Vec::new())
    }

    /// A text with its references expanded.
    ///
    /// # Errors
    /// See [`Self::expand`].
    pub(super) fn expand_text(&self, text: &str) -> Result<String, String> {
        self.text(text, &mut Vec::new())
    }

    fn value(&self, name: &str, above: &mut Vec<String>) -> Result<String, String> {
        if let Some(known) = self.expanded.borrow().get(name) {
            return Ok(known.clone());
        }
        if above.iter().any(|other| other == name) {
            return Err(format!("${name} refers to itself"));
        }
        if above.len() >= DEEPEST {
            return Err(format!(
                "refers to ${name} through more than {DEEPEST} parameters"
            ));
        }
        let set = self.set.get(name).map(|setting| &setting.value);
        let Some(written) = set.or_else(|| self.builtin.get(name)) else {
            return Ok(String::new());
        };
        above.push(name.to_owned());
        let value = self.text(written, above);
        above.pop();
        let value = value?;
        let mut expanded = self.expanded.borrow_mut();
        expanded.insert(name.to_owned(), value.clone());
        Ok(value)
    }

    /// Expands the references of a text. `above` are the parameters that led here.
    fn text(&self, text: &str, above: &mut Vec<String>) -> Result<String, String> {
        if above.len() > DEEPEST {
            return Err(format!("nests references more than {DEEPEST} deep"));
        }
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once('$') {
            out.push_str(before);
            if let Some(tail) = behind.strip_prefix('$') {
                out.push('$');
                rest = tail;
            } else if behind.starts_with(['{', '(']) {
                let (inner, tail) = bracketed(behind)
                    .ok_or_else(|| format!("has a reference without its end: ${behind}"))?;
                let value = self.reference(inner.trim(), above)?;
                self.count(value.len())?;
                out.push_str(&value);
                rest = tail;
            } else {
                let (name, tail) = split_name(behind);
                if name.is_empty() {
                    return Err("has a $ without a name; write $$ for a dollar sign".to_owned());
                }
                let value = self.value(name, above)?;
                self.count(value.len())?;
                out.push_str(&value);
                rest = tail;
            }
        }
        out.push_str(rest);
        Ok(out)
    }

    /// Notes the size of a value, and refuses one that grows without end.
    fn count(&self, bytes: usize) -> Result<(), String> {
        let size = self.size.get().saturating_add(bytes);
        self.size.set(size);
        if size > LARGEST {
            return Err("is too large with its references expanded".to_owned());
        }
        Ok(())
    }

    /// The inside of `${...}`: a name or a comparison, with `?` and `:` before the texts
    /// for both cases.
    fn reference(&self, inner: &str, above: &mut Vec<String>) -> Result<String, String> {
        above.push(String::new());
        let result = self.reference_within(inner, above);
        above.pop();
        result
    }

    fn reference_within(&self, inner: &str, above: &mut Vec<String>) -> Result<String, String> {
        let (holds, value, tail) = if inner.starts_with('{') {
            let (holds, tail) = self.comparison(inner, above)?;
            // A comparison alone has no value.
            (holds, String::new(), tail)
        } else {
            let (name, tail) = split_name(inner);
            if name.is_empty() {
                return Err(format!("has a reference without a name: ${{{inner}}}"));
            }
            let value = self.value(name, above)?;
            (!value.is_empty(), value, tail.trim_start())
        };
        if tail.is_empty() {
            return Ok(value);
        }
        let (yes, no) = branches(tail)
            .ok_or_else(|| format!("has a reference that is not understood: ${{{inner}}}"))?;
        let branch = if holds { yes } else { no };
        branch.map_or(Ok(String::new()), |text| self.text(text, above))
    }

    /// `{left} OPERATOR {right}`, and the rest of the text.
    fn comparison<'t>(
        &self,
        inner: &'t str,
        above: &mut Vec<String>,
    ) -> Result<(bool, &'t str), String> {
        let wrong = || format!("has a comparison that is not understood: ${{{inner}}}");
        let (left, tail) = bracketed(inner).ok_or_else(wrong)?;
        let tail = tail.trim_start();
        let end = tail.find('{').ok_or_else(wrong)?;
        let (operator, tail) = tail.split_at_checked(end).ok_or_else(wrong)?;
        let (right, tail) = bracketed(tail).ok_or_else(wrong)?;
        let left = self.text(left.trim(), above)?;
        let right = self.text(right.trim(), above)?;
        let order = match (left.parse::<i64>(), right.parse::<i64>()) {
            (Ok(left), Ok(right)) => left.cmp(&right),
            _ => left.cmp(&right),
        };
        let holds = match operator.trim() {
            "==" => order.is_eq(),
            "!=" => order.is_ne(),
            "<" => order.is_lt(),
            "<=" => order.is_le(),
            ">" => order.is_gt(),
            ">=" => order.is_ge(),
            _ => return Err(wrong()),
        };
        Ok((holds, tail.trim_start()))
    }
}

/// `name = value`.
pub(super) fn assignment(text: &str) -> Result<(&str, &str), String> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| format!("{text:?} is not of the form \"name = value\""))?;
    let name = name.trim();
    if name.is_empty() || name.contains(char::is_whitespace) {
        return Err(format!("{name:?} is not the name of a parameter"));
    }
    Ok((name, value.trim()))
}

/// The name at the beginning of a text, and the rest.
fn split_name(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .unwrap_or(text.len());
    text.split_at(end)
}

/// The inside of the brackets at the beginning of a text, and the rest.
fn bracketed(text: &str) -> Option<(&str, &str)> {
    let (open, close) = match text.chars().next()? {
        '{' => ('{', '}'),
        '(' => ('(', ')'),
        _ => return None,
    };
    let mut depth = 0_usize;
    for (at, c) in text.char_indices() {
        if c == open {
            depth += 1;
        } else if c == close {
            depth -= 1;
            if depth == 0 {
                return Some((text.get(1..at)?, text.get(at + 1..)?));
            }
        }
    }
    None
}

/// `?yes`, `:no`, `?{yes}:{no}`: the text if the condition holds, and the text if not.
fn branches(text: &str) -> Option<(Option<&str>, Option<&str>)> {
    if let Some(no) = text.strip_prefix(':') {
        let no = no.trim();
        return Some((None, Some(unbraced(no).unwrap_or(no))));
    }
    let yes = text.strip_prefix('?')?.trim_start();
    if !yes.starts_with('{') {
        return Some((Some(yes), None));
    }
    let (yes, tail) = bracketed(yes)?;
    let no = match tail.trim() {
        "" => None,
        tail => {
            let no = tail.strip_prefix(':')?.trim();
            Some(unbraced(no).unwrap_or(no))
        }
    };
    Some((Some(yes.trim()), no))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::lines::logical;

    fn read(text: &str) -> Result<Params, String> {
        let lines = logical(text);
        Params::read(lines, Path::new("main.cf"), Some("mx.example.org")).map_err(|e| e.to_string())
    }

    fn check(text: &str, expected: &str) {
        let params = read("empty =\nfull = f\nn = 9\n").unwrap();
        assert_eq!(params.expand_text(text).as_deref(), Ok(expected), "{text}");
    }

    #[test]
    fn references() {
        check("a $full b", "a f b");
        check("$full.x ${full}x $(full)x $$full", "f.x fx fx $full");
        check("$empty$none|", "|");
        check("${full?yes $full}${empty?no}", "yes f");
        check("${full:no}${empty:yes $full}", "yes f");
        check("${full?{a}:{b}} ${empty ? {a} : {${full}}}", "a f");
        check("${{$full} == {f} ? {same} : {other}}", "same");
        check("${{$full} != {f} ? {same} : {other}}", "other");
        check("${{$n} < {10} ? {less}}${{a} >= {b}?{more}}", "less");
        check(
            "$myhostname $mydomain $myorigin",
            "mx.example.org example.org mx.example.org",
        );
    }

    #[test]
    fn what_cannot_be_expanded_is_told_with_its_line() {
        let error = read("a = $b\nb = ${c}\n\nc = x\n  $a\nd = ok\n")
            .err()
            .unwrap();
        let lines: Vec<&str> = error.lines().collect();
        assert_eq!(
            lines,
            [
                "main.cf:1:1: $a refers to itself",
                "main.cf:2:1: $b refers to itself",
                "main.cf:4:1: $c refers to itself",
            ]
        );
        for (text, expected) in [
            ("a = ${b", "has a reference without its end: ${b"),
            (
                "a = b $",
                "has a $ without a name; write $$ for a dollar sign",
            ),
            ("a = ${?b}", "has a reference without a name: ${?b}"),
            (
                "a = ${b!c}",
                "has a reference that is not understood: ${b!c}",
            ),
            (
                "a = ${{b} = {c}}",
                "has a comparison that is not understood: ${{b} = {c}}",
            ),
            ("a", "\"a\" is not of the form \"name = value\""),
            ("a b = c", "\"a b\" is not the name of a parameter"),
        ] {
            let error = read(text).err().unwrap();
            assert_eq!(error, format!("main.cf:1:1: {expected}"), "{text}");
        }
    }

    #[test]
    fn values_do_not_grow_without_end() {
        // Each value is ten times as long as the one before.
        let mut text = "p0 = 0123456789\n".to_owned();
        for n in 1..30 {
            let before = format!("$p{}", n - 1);
            text += &format!("p{n} = {}\n", before.repeat(10));
        }
        let error = read(&text).err().unwrap();
        assert!(
            error.contains("is too large with its references expanded"),
            "{error}"
        );
        let chain: String = (0..1000).map(|n| format!("q{n} = $q{}\n", n + 1)).collect();
        let error = read(&chain).err().unwrap();
        assert!(error.contains("through more than 50 parameters"), "{error}");
        let nested = format!("a = {}{}", "${b:".repeat(1000), "}".repeat(1000));
        let error = read(&nested).err().unwrap();
        assert!(error.contains("more than 50"), "{error}");
    }

    #[test]
    fn the_last_setting_counts() {
        let params = read("a = 1\na = 2\n").unwrap();
        assert_eq!(params.expand("a").as_deref(), Ok("2"));
    }
}
