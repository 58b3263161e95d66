//! One description of every key: it serves parsing (names, defaults, ranges), suggestions, `describe` and the documentation.

use std::{collections::BTreeMap, fmt, sync::LazyLock};

use toml_edit::Value;

use crate::{keys_dynamic, keys_static};

/// What is written for a key.
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
    /// A file or folder, relative to the folder of the file that names it.
    Path,
    /// A domain name, in Unicode or ASCII.
    Domain,
    /// A domain name; with a leading dot it stands for its subdomains too.
    DomainPattern,
    /// A domain name or an IP address.
    Host,
    /// A mail address.
    Address,
    /// The part of a mail address before the `@`.
    LocalPart,
    /// An IP address.
    Ip,
    /// An IP address and a port, `"192.0.2.1:53"`, `"[2001:db8::1]:53"`.
    SocketAddress,
    /// A URL.
    Url,
    /// A regular expression.
    Regexp,
    /// A reply code and text, `"550 5.1.1 no such user"`.
    Reply,
    /// `"whsec_"` and base64; or two of them in an array.
    Secret,
    /// One of these words.
    Word(&'static [&'static str]),
    /// An array.
    List(&'static Self),
    /// A table whose names and values are both of this kind.
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
            Self::Path => f.write_str("path"),
            Self::Domain => f.write_str("domain"),
            Self::DomainPattern => f.write_str("domain or .domain"),
            Self::Host => f.write_str("domain or IP address"),
            Self::Address => f.write_str("mail address"),
            Self::LocalPart => f.write_str("local-part"),
            Self::Ip => f.write_str("IP address"),
            Self::SocketAddress => f.write_str("IP:PORT"),
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

/// What holds when a key is not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Default {
    /// It must be set (inside a table that need not be there: when that table is).
    Required,
    /// This, in TOML.
    Value(&'static str),
    /// Something that depends, told in words.
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

/// One key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// The full name: a part in `<>` stands for any name, `[]` after a part for an array of tables.
    pub name: &'static str,
    /// What is written.
    pub kind: Kind,
    /// What holds when it is not set.
    pub default: Default,
    /// What it does.
    pub meaning: &'static str,
    /// Smallest and largest value, in TOML.
    pub range: Option<(&'static str, &'static str)>,
    /// Whether this version already does what it says.
    pub ready: bool,
}

impl Key {
    /// A key of this version.
    pub(crate) const fn new(
        name: &'static str,
        kind: Kind,
        default: Default,
        meaning: &'static str,
    ) -> Self {
        Self {
            name,
            kind,
            default,
            meaning,
            range: None,
            ready: true,
        }
    }

    /// Sets the range, bounds included.
    pub(crate) const fn range(mut self, min: &'static str, max: &'static str) -> Self {
        self.range = Some((min, max));
        self
    }

    /// A key that is checked, while what it does comes in a later version.
    pub(crate) const fn later(mut self) -> Self {
        self.ready = false;
        self
    }
}

/// Keys that belong together, under a heading of the documentation.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// The heading.
    pub title: &'static str,
    /// A sentence or two below it; may be empty.
    pub intro: &'static str,
    /// The keys, in groups that are told one after the other.
    pub keys: &'static [&'static [Key]],
}

impl Section {
    /// All keys of the section.
    pub fn iter(&self) -> impl Iterator<Item = &'static Key> {
        self.keys.iter().copied().flatten()
    }
}

/// A place in the tree of keys.
#[derive(Debug, std::default::Default)]
pub(crate) struct Node {
    pub(crate) key: Option<&'static Key>,
    pub(crate) default: Option<Value>,
    pub(crate) range: Option<(Value, Value)>,
    pub(crate) children: BTreeMap<&'static str, Self>,
    /// For any name.
    pub(crate) any: Option<Box<Self>>,
    /// An array of tables.
    pub(crate) repeated: bool,
}

impl Node {
    fn new(sections: &'static [Section]) -> Self {
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

    /// Whether a table stands here.
    pub(crate) fn is_table(&self) -> bool {
        self.any.is_some() || !self.children.is_empty()
    }

    /// What a name in this table stands for.
    pub(crate) fn child(&self, name: &str) -> Option<&Self> {
        self.children.get(name).or(self.any.as_deref())
    }

    /// A node that knows nothing, for a key that the schema lacks.
    pub(crate) fn nothing() -> &'static Self {
        static NOTHING: LazyLock<Node> = LazyLock::new(Node::default);
        &NOTHING
    }
}

/// The keys of `postrider.conf`, in the order of the documentation.
pub static STATIC: &[Section] = keys_static::SECTIONS;
/// The keys of `domains.conf`, in the order of the documentation.
pub static DYNAMIC: &[Section] = keys_dynamic::SECTIONS;

/// The tree of `postrider.conf`.
pub(crate) static STATIC_TREE: LazyLock<Node> = LazyLock::new(|| Node::new(STATIC));
/// The tree of `domains.conf`.
pub(crate) static DYNAMIC_TREE: LazyLock<Node> = LazyLock::new(|| Node::new(DYNAMIC));
