//! The rules of the mailbox API, in the words of its clients. Each becomes a script.
//!
//! | file | what it does |
//! |---|---|
//! | here | the parts of a rule |
//! | `read` | a rule from JSON, with all its faults |
//! | `script` | the script of a rule |

mod read;
mod script;

use serde::Serialize;

/// The most rules of an account.
pub const RULES_MAX: usize = 100;

/// A rule: conditions, and what happens with the mail that meets them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// The name, for people.
    pub name: String,
    /// A rule that is not enabled does nothing.
    pub enabled: bool,
    /// The rule with the lowest number runs first.
    pub priority: i64,
    /// How many conditions must hold.
    #[serde(rename = "match")]
    pub quantity: Quantity,
    /// The conditions. Without one the rule applies to all mail.
    pub conditions: Vec<Condition>,
    /// At least one action.
    pub actions: Vec<Action>,
    /// No rule or script runs after this rule, if it applied.
    pub stop_processing: bool,
}

/// How many conditions must hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Quantity {
    /// Each of them.
    #[default]
    All,
    /// One of them.
    Any,
}

/// A condition of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Condition {
    /// The part of the message.
    pub field: Field,
    /// The comparison.
    pub operator: Operator,
    /// What the part is compared with. For sizes a number, perhaps with K, M or G. Empty for
    /// [`Operator::Exists`].
    pub value: String,
    /// The name of the header field, for [`Field::Header`] only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header_name: Option<String>,
    /// The case of letters counts.
    pub case_sensitive: bool,
}

/// A part of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Field {
    /// The senders in the header, as written and by their addresses.
    From,
    /// The recipients in To, as written and by their addresses.
    To,
    /// The recipients in Cc, as written and by their addresses.
    Cc,
    /// The subject.
    Subject,
    /// The field that `header_name` names.
    Header,
    /// The texts of the body.
    Body,
    /// The bytes of the message.
    Size,
    /// The mailing list (RFC 2919).
    ListId,
}

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Operator {
    /// The value is within the part.
    Contains,
    /// The part is the value.
    Equals,
    /// The part begins with the value.
    StartsWith,
    /// The part ends with the value.
    EndsWith,
    /// The part has a match of the regular expression.
    Regex,
    /// The value is not within the part.
    NotContains,
    /// The message is larger.
    Larger,
    /// The message is smaller.
    Smaller,
    /// The field is there.
    Exists,
}

/// What happens with a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Action {
    /// The kind of the action.
    pub action_type: ActionType,
    /// The mailbox, address, reason or label. Empty for the other kinds.
    pub value: String,
}

/// A kind of action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ActionType {
    /// Into this mailbox, instead of the Inbox.
    Move,
    /// Into this mailbox too.
    Copy,
    /// The message gets `\Seen`.
    MarkRead,
    /// The message gets `\Flagged`.
    MarkFlagged,
    /// To this address, instead of the Inbox.
    Forward,
    /// The message is refused for this reason.
    Reject,
    /// Into the mailbox for deleted mail.
    Delete,
    /// The message is not kept.
    Discard,
    /// The message gets this keyword.
    Label,
}
