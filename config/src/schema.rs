//! The description of every key. Parsing takes names, defaults and ranges from it. Suggestions,
//! `describe` and the documentation use it too.

use std::{collections::BTreeMap, fmt, sync::LazyLock};

use toml_edit::Value;

use crate::{keys, suggest};

/// The kind of value that a key has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A string.
    Text,
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Integer,
    /// A number with a fraction.
    Number,
    /// `"90s"`, `"7m30s"`, `"72h"`, `"3d"`.
    Duration,
    /// `"25MB"`, `"25MiB"`, or a number of bytes.
    Size,
    /// `"100/minute"`, or `"none"`.
    Rate,
    /// A day in UTC, `2026-12-01`.
    Date,
    /// A path. It is relative to the folder of the configuration file.
    Path,
    /// A domain name, in Unicode or ASCII.
    Domain,
    /// A domain name. A leading dot includes subdomains.
    DomainPattern,
    /// A domain name or an IP address.
    Host,
    /// A mail address.
    Address,
    /// The part of a mail address before the `@`.
    LocalPart,
    /// An IP address.
    Ip,
    /// An IP address or a network, `"192.0.2.0/24"`.
    Network,
    /// An IP address and a port, `"192.0.2.1:53"`, `"[2001:db8::1]:53"`.
    SocketAddress,
    /// The origin of a web page, `"https://app.example.com"`.
    Origin,
    /// A customer: a whole number below 2^53, or a name.
    Tenant,
    /// A URL.
    Url,
    /// A regular expression.
    Regexp,
    /// A reply code and text, `"550 5.1.1 no such user"`.
    Reply,
    /// `"whsec_"` and base64, or an array of two of them.
    Secret,
    /// One of these words.
    Word(&'static [&'static str]),
    /// An array.
    List(&'static Self),
    /// A table whose names and values both have this kind.
    Map(&'static Self),
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text => f.write_str("string"),
            Self::Bool => f.write_str("true or false"),
            Self::Integer => f.write_str("whole number"),
            Self::Number => f.write_str("number"),
            Self::Duration => f.write_str("duration"),
            Self::Size => f.write_str("size"),
            Self::Rate => f.write_str("rate"),
            Self::Date => f.write_str("date"),
            Self::Path => f.write_str("path"),
            Self::Domain => f.write_str("domain"),
            Self::DomainPattern => f.write_str("domain or .domain"),
            Self::Host => f.write_str("domain or IP address"),
            Self::Address => f.write_str("mail address"),
            Self::LocalPart => f.write_str("local-part"),
            Self::Ip => f.write_str("IP address"),
            Self::Network => f.write_str("IP address or network"),
            Self::SocketAddress => f.write_str("IP:PORT"),
            Self::Origin => f.write_str("origin"),
            Self::Tenant => f.write_str("whole number or name"),
            Self::Url => f.write_str("URL"),
            Self::Regexp => f.write_str("regular expression"),
            Self::Reply => f.write_str("reply"),
            Self::Secret => f.write_str("secret, or array of two"),
            Self::Word(words) => {
                for (index, word) in words.iter().enumerate() {
                    let separator = match index {
                        0 => "",
                        _ if index + 1 == words.len() => " or ",
                        _ => ", ",
                    };
                    write!(f, "{separator}\"{word}\"")?;
                }
                Ok(())
            }
            Self::List(kind) => write!(f, "array of {kind}"),
            Self::Map(kind) => write!(f, "table of {kind} = {kind}"),
        }
    }
}

/// The value of a key that is not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Default {
    /// The key must be set. In an optional table it must be set if the table exists.
    Required,
    /// This value, in TOML.
    Value(&'static str),
    /// A value that depends on other values. The text describes it.
    Absent(&'static str),
}

impl fmt::Display for Default {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Required => f.write_str("required"),
            Self::Value(text) | Self::Absent(text) => f.write_str(text),
        }
    }
}

/// A key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// The full name. A part in `<>` stands for any name. `[]` after a part means an array of
    /// tables.
    pub name: &'static str,
    /// The kind of its value.
    pub kind: Kind,
    /// The value if the key is not set.
    pub default: Default,
    /// The effect of the key, in sentences.
    pub meaning: &'static str,
    /// The smallest and the largest value, in TOML.
    pub range: Option<(&'static str, &'static str)>,
    /// Whether this version uses the key, and not only checks it.
    pub ready: bool,
    /// Whether the value is a secret, which no listing may show.
    pub secret: bool,
}

impl Key {
    /// Sets the range. The bounds are included.
    pub(crate) const fn range(mut self, min: &'static str, max: &'static str) -> Self {
        self.range = Some((min, max));
        self
    }

    /// Marks a key whose value is a secret.
    pub(crate) const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    /// Marks a key that this version only checks.
    pub(crate) const fn later(mut self) -> Self {
        self.ready = false;
        self
    }
}

/// A key that this version uses.
pub(crate) const fn key(
    name: &'static str,
    kind: Kind,
    default: Default,
    meaning: &'static str,
) -> Key {
    Key {
        name,
        kind,
        default,
        meaning,
        range: None,
        ready: true,
        secret: false,
    }
}

/// Keys under one heading of the documentation.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// The heading.
    pub title: &'static str,
    /// Sentences below the heading. May be empty.
    pub intro: &'static str,
    /// The keys, in groups.
    pub keys: &'static [&'static [Key]],
}

impl Section {
    /// All keys of the section.
    pub fn iter(&self) -> impl Iterator<Item = &'static Key> {
        self.keys.iter().copied().flatten()
    }
}

/// A node in the tree of keys.
#[derive(Debug, std::default::Default)]
pub(crate) struct Node {
    pub(crate) key: Option<&'static Key>,
    pub(crate) default: Option<Value>,
    pub(crate) range: Option<(Value, Value)>,
    pub(crate) children: BTreeMap<&'static str, Self>,
    /// The node for a name that is not in `children`.
    pub(crate) any: Option<Box<Self>>,
    /// Whether the node is an array of tables.
    pub(crate) repeated: bool,
}

impl Node {
    pub(crate) fn new(sections: &'static [Section]) -> Self {
        let mut root = Self::default();
        for key in sections.iter().flat_map(Section::iter) {
            let node = key.name.split('.').fold(&mut root, Self::step);
            node.key = Some(key);
            if let Default::Value(text) = key.default {
                node.default = text.parse().ok();
            }
            node.range = key
                .range
                .and_then(|(min, max)| Some((min.parse().ok()?, max.parse().ok()?)));
        }
        root
    }

    /// The node of one part of a key, made if needed.
    fn step(&mut self, part: &'static str) -> &mut Self {
        if part.starts_with('<') {
            return self.any.get_or_insert_with(std::default::Default::default);
        }
        match part.strip_suffix("[]") {
            None => self.children.entry(part).or_default(),
            Some(part) => {
                let node = self.children.entry(part).or_default();
                node.repeated = true;
                node
            }
        }
    }

    /// Whether the node is a table.
    pub(crate) fn is_table(&self) -> bool {
        self.any.is_some() || !self.children.is_empty()
    }

    /// The node of a name in this table.
    pub(crate) fn child(&self, name: &str) -> Option<&Self> {
        self.children.get(name).or(self.any.as_deref())
    }

    /// The key that a path of names belongs to. A number in the path is an index in an array. Names
    /// behind the key are inside of its value.
    pub(crate) fn key_of<'a>(
        &self,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Option<&'static Key> {
        let mut names = names.into_iter();
        let mut node = self;
        while let Some(name) = names.next() {
            node = node.child(name)?;
            if node.key.is_some() {
                return node.key;
            }
            if node.repeated {
                names.next();
            }
        }
        None
    }

    /// An empty node, for a key that the schema does not have.
    pub(crate) fn nothing() -> &'static Self {
        static NOTHING: LazyLock<Node> = LazyLock::new(Node::default);
        &NOTHING
    }
}

/// The thing at a path of names in `domains.conf`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A value of this kind, and the key that it belongs to. An element of an array belongs to the
    /// key of the array.
    Value(Kind, &'static Key),
    /// A table.
    Table,
    /// An array of tables.
    Tables,
}

/// Finds a path of names in the description of `domains.conf`. A number in the path is an index in
/// an array.
///
/// # Errors
/// A sentence about a name that is not in the description.
pub fn place(path: &[&str]) -> Result<Place, String> {
    let is_index = |name: &&&str| name.parse::<usize>().is_ok();
    let mut node: &Node = &keys::DYNAMIC_TREE;
    let mut names = path.iter();
    while let Some(name) = names.next() {
        let child = node.child(name);
        node = child.ok_or_else(|| format!("{name}: {}", suggest::unknown_key(node, name)))?;
        if node.repeated {
            match names.next() {
                None => return Ok(Place::Tables),
                Some(index) if is_index(&index) => continue,
                Some(_) => return Err(format!("{name} is an array; name an element: {name}.0")),
            }
        }
        let (Some(key), Some(inner)) = (node.key, names.clone().next()) else {
            continue;
        };
        let is_last = names.clone().nth(1).is_none();
        return match key.kind {
            Kind::List(kind) if is_last && is_index(&inner) => Ok(Place::Value(*kind, key)),
            Kind::Map(kind) if is_last => Ok(Place::Value(*kind, key)),
            Kind::Secret if is_last && is_index(&inner) => Ok(Place::Value(Kind::Text, key)),
            Kind::List(_) | Kind::Secret => {
                Err(format!("{name} is an array; name an element: {name}.0"))
            }
            _ => Err(format!("{name} is a value; {inner} can't be in it")),
        };
    }
    match node.key {
        Some(key) => Ok(Place::Value(key.kind, key)),
        None => Ok(Place::Table),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_in_the_file() {
        let kind = |path: &[&str]| match place(path).unwrap() {
            Place::Value(kind, key) => format!("{kind} of {}", key.name),
            other => format!("{other:?}"),
        };
        for (path, expected) in [
            (
                &["accounts", "a", "quota"][..],
                "size of accounts.<name>.quota",
            ),
            (&["domains"], "Table"),
            (&["domains", "a.test", "routes"], "Tables"),
            (&["routes", "0"], "Table"),
            (
                &["routes", "0", "transport"],
                "string of routes[].transport",
            ),
            (
                &["domains", "a.test", "dkim", "sign", "1"],
                "string of domains.<domain>.dkim.sign",
            ),
        ] {
            assert_eq!(kind(path), expected);
        }
        for (path, error) in [
            (
                &["acounts"][..],
                "acounts: unknown key; did you mean \"accounts\"?",
            ),
            (
                &["routes", "x"],
                "routes is an array; name an element: routes.0",
            ),
            (
                &["accounts", "a", "quota", "x"],
                "quota is a value; x can't be in it",
            ),
            (
                &["domains", "a.test", "dkim", "sign", "x"],
                "sign is an array; name an element: sign.0",
            ),
        ] {
            assert_eq!(place(path).unwrap_err(), error);
        }
    }
}
