//! A script whose arguments are checked, ready to run.

use super::{
    error::{Position, SieveError},
    flags::Change,
    matching::{Comparator, MatchKind, Pattern},
};

/// A script that compiled.
#[derive(Clone, Debug)]
pub struct Script {
    pub(super) commands: Vec<Step>,
    /// How many variables the commands have.
    pub(super) variables: usize,
    pub(super) warnings: Vec<SieveError>,
}

impl Script {
    /// What should be better in the script, by its place. The script works all the same.
    #[must_use]
    pub fn warnings(&self) -> &[SieveError] {
        &self.warnings
    }
}

/// A command and its place.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) at: Position,
    pub(super) command: Command,
}

#[derive(Clone, Debug)]
pub(super) enum Command {
    If {
        /// Each test with its block. The first that holds counts.
        branches: Vec<(TestAt, Vec<Step>)>,
        otherwise: Vec<Step>,
    },
    Stop,
    Keep {
        /// None: the flags of the internal variable.
        flags: Option<Vec<Text>>,
    },
    Discard,
    FileInto(FileInto),
    Redirect {
        address: Text,
        /// The implicit keep stays.
        copy: bool,
    },
    Reject {
        reason: Text,
        /// The command is `ereject`.
        in_session: bool,
    },
    Flags {
        change: Change,
        /// None: the internal variable.
        variable: Option<usize>,
        flags: Vec<Text>,
    },
    Set {
        variable: usize,
        /// In the order in which they apply.
        modifiers: Vec<Modifier>,
        value: Text,
    },
    Vacation(Box<Vacation>),
}

#[derive(Clone, Debug)]
pub(super) struct FileInto {
    pub(super) mailbox: Text,
    /// The implicit keep stays.
    pub(super) copy: bool,
    pub(super) create: bool,
    /// None: the flags of the internal variable.
    pub(super) flags: Option<Vec<Text>>,
    pub(super) special_use: Option<Text>,
}

#[derive(Clone, Debug)]
pub(super) struct Vacation {
    pub(super) days: Option<u64>,
    pub(super) subject: Option<Text>,
    pub(super) from: Option<Text>,
    pub(super) addresses: Vec<Text>,
    pub(super) mime: bool,
    pub(super) handle: Option<Text>,
    pub(super) reason: Text,
}

/// What `set` does with a value (RFC 5229 §4.1). The order is that of precedence, the first that
/// applies first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Modifier {
    Lower,
    Upper,
    LowerFirst,
    UpperFirst,
    QuoteWildcard,
    QuoteRegex,
    Length,
}

/// A test and its place.
#[derive(Clone, Debug)]
pub(super) struct TestAt {
    pub(super) at: Position,
    pub(super) test: Test,
}

#[derive(Clone, Debug)]
pub(super) enum Test {
    Constant(bool),
    Not(Box<TestAt>),
    AllOf(Vec<TestAt>),
    AnyOf(Vec<TestAt>),
    Exists(Vec<Text>),
    SizeOver(u64),
    SizeUnder(u64),
    Header {
        names: Vec<Text>,
        matcher: Matcher,
    },
    Address {
        names: Vec<Text>,
        part: AddressPart,
        matcher: Matcher,
    },
    Envelope {
        parts: Vec<EnvelopePart>,
        part: AddressPart,
        matcher: Matcher,
    },
    Date {
        source: DateSource,
        zone: Zone,
        part: DatePart,
        matcher: Matcher,
    },
    Body {
        content: BodyContent,
        matcher: Matcher,
    },
    HasFlag {
        /// Empty: the internal variable.
        variables: Vec<usize>,
        matcher: Matcher,
    },
    Text {
        values: Vec<Text>,
        matcher: Matcher,
    },
    MailboxExists(Vec<Text>),
    SpecialUseExists {
        mailbox: Option<Text>,
        uses: Vec<Text>,
    },
}

/// How values are compared with keys.
#[derive(Clone, Debug)]
pub(super) struct Matcher {
    pub(super) comparator: Comparator,
    pub(super) kind: MatchKind,
    pub(super) keys: Vec<Key>,
}

#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) text: Text,
    /// The pattern of `:regex`, if the text is constant.
    pub(super) regex: Option<Pattern>,
}

/// The part of an address that is compared (RFC 5228 §2.7.4, RFC 5233).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AddressPart {
    All,
    LocalPart,
    Domain,
    User,
    Detail,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EnvelopePart {
    From,
    To,
}

/// The text that `body` looks at (RFC 5173 §5).
#[derive(Clone, Debug)]
pub(super) enum BodyContent {
    Raw,
    /// The parts of these types, decoded.
    Types(Vec<Text>),
    Text,
}

#[derive(Clone, Debug)]
pub(super) enum DateSource {
    /// The field with this name.
    Header(Text),
    /// The time at which the script runs.
    Now,
}

#[derive(Clone, Debug)]
pub(super) enum Zone {
    /// The zone of the server.
    Local,
    /// The zone in the field.
    Original,
    /// An offset such as `+0100`.
    Offset(Text),
}

/// A part of a date, as a constant or by a name that is known when the script runs.
#[derive(Clone, Debug)]
pub(super) enum DatePart {
    Known(super::date::Part),
    Named(Text),
}

/// A text of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Text {
    Constant(String),
    /// Texts and variables in their order (RFC 5229 §3).
    Template(Vec<Piece>),
}

impl Text {
    /// The text, if it has no variable.
    pub(super) fn constant(&self) -> Option<&str> {
        match self {
            Self::Constant(text) => Some(text),
            Self::Template(_) => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Literal(String),
    /// The number of a variable.
    Variable(usize),
    /// What the group or wildcard with this number matched last.
    Match(usize),
}
