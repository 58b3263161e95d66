//! A rule from JSON, with all its faults.

use postrider_smtp::Address;
use serde_json::Value;

use super::{Action, ActionType, Condition, Field, Operator, Quantity, Rule};
use crate::sieve::{
    Script,
    fields::{FieldError, Fields},
    flags, mailbox,
    matching::{Comparator, Pattern},
};

/// The most conditions of a rule.
const CONDITIONS_MAX: usize = 50;
/// The most actions of a rule.
const ACTIONS_MAX: usize = 20;
/// The most bytes of a name or a value.
const TEXT_MAX: usize = 4096;

const QUANTITIES: &[(&str, Quantity)] = &[("all", Quantity::All), ("any", Quantity::Any)];

const FIELDS: &[(&str, Field)] = &[
    ("from", Field::From),
    ("to", Field::To),
    ("cc", Field::Cc),
    ("subject", Field::Subject),
    ("header", Field::Header),
    ("body", Field::Body),
    ("size", Field::Size),
    ("list_id", Field::ListId),
];

const OPERATORS: &[(&str, Operator)] = &[
    ("contains", Operator::Contains),
    ("equals", Operator::Equals),
    ("startsWith", Operator::StartsWith),
    ("endsWith", Operator::EndsWith),
    ("regex", Operator::Regex),
    ("notContains", Operator::NotContains),
    ("larger", Operator::Larger),
    ("smaller", Operator::Smaller),
    ("exists", Operator::Exists),
];

const ACTIONS: &[(&str, ActionType)] = &[
    ("move", ActionType::Move),
    ("copy", ActionType::Copy),
    ("mark_read", ActionType::MarkRead),
    ("mark_flagged", ActionType::MarkFlagged),
    ("forward", ActionType::Forward),
    ("reject", ActionType::Reject),
    ("delete", ActionType::Delete),
    ("discard", ActionType::Discard),
    ("label", ActionType::Label),
];

impl Rule {
    /// Reads a rule. Fields that a rule has not are ignored.
    ///
    /// # Errors
    /// All faults of the rule, each with its field.
    pub fn read(value: &Value) -> Result<Self, Vec<FieldError>> {
        let mut fields = Fields::new(value, String::new());
        let name = short_text(&mut fields, "name").unwrap_or_default();
        let enabled = fields.boolean("enabled", true);
        let priority = fields.integer("priority").unwrap_or_default();
        let quantity = fields.word("match", QUANTITIES).unwrap_or_default();
        let stop_processing = fields.boolean("stop_processing", false);
        let conditions = entries(&mut fields, "conditions", CONDITIONS_MAX, condition);
        let actions = entries(&mut fields, "actions", ACTIONS_MAX, action);
        if fields.errors.is_empty() {
            check_together(&mut fields, &actions);
        }
        if !fields.errors.is_empty() {
            return Err(fields.errors);
        }
        let rule = Self {
            name,
            enabled,
            priority,
            quantity,
            conditions,
            actions,
            stop_processing,
        };
        // Only the size of all parts together can be wrong now.
        match Script::compile(rule.script().as_bytes()) {
            Ok(_) => Ok(rule),
            Err(fault) => Err(vec![FieldError {
                field: String::new(),
                detail: fault.text,
            }]),
        }
    }
}

/// A text that is not too long.
fn short_text(fields: &mut Fields<'_>, name: &str) -> Option<String> {
    let text = fields.text(name)?;
    if text.len() > TEXT_MAX {
        fields.error(
            name,
            format!("It has more than {TEXT_MAX} bytes. Make it shorter."),
        );
        return None;
    }
    Some(text)
}

/// The entries of a list, each read by `read`.
fn entries<T>(
    fields: &mut Fields<'_>,
    name: &str,
    most: usize,
    read: fn(&mut Fields<'_>) -> Option<T>,
) -> Vec<T> {
    let mut entries = Vec::new();
    for (number, entry) in fields.array(name, most).iter().enumerate() {
        let mut inner = Fields::new(entry, fields.named(&format!("{name}[{number}]")));
        entries.extend(read(&mut inner));
        fields.errors.append(&mut inner.errors);
    }
    entries
}

fn condition(fields: &mut Fields<'_>) -> Option<Condition> {
    let field = fields.word("field", FIELDS);
    let operator = fields.word("operator", OPERATORS);
    if field.is_none() {
        fields.missing("field");
    }
    if operator.is_none() {
        fields.missing("operator");
    }
    let case_sensitive = fields.boolean("case_sensitive", false);
    let header_name = header_name(fields, field);
    let (field, operator) = (field?, operator?);
    check_operator(fields, field, operator);
    let value = match operator {
        Operator::Exists => String::new(),
        Operator::Larger | Operator::Smaller => size(fields)?,
        _ => text_value(fields)?,
    };
    if operator == Operator::Regex
        && let Err(fault) = Pattern::new(Comparator::Octet, &value)
    {
        fields.error(
            "value",
            format!("The regular expression is wrong: {fault}."),
        );
    }
    Some(Condition {
        field,
        operator,
        value,
        header_name,
        case_sensitive,
    })
}

/// The name of the field that a condition is about, if it has one.
fn header_name(fields: &mut Fields<'_>, field: Option<Field>) -> Option<String> {
    if field != Some(Field::Header) {
        return None;
    }
    let name = short_text(fields, "header_name");
    let Some(name) = name else {
        fields.missing("header_name");
        return None;
    };
    // RFC 5322 §3.6.8.
    let is_name = |byte: u8| byte.is_ascii_graphic() && byte != b':';
    if name.is_empty() || !name.bytes().all(is_name) {
        fields.error(
            "header_name",
            "It is no name of a header field. Use letters and hyphens.",
        );
        return None;
    }
    Some(name)
}

fn check_operator(fields: &mut Fields<'_>, field: Field, operator: Operator) {
    let is_of_size = matches!(operator, Operator::Larger | Operator::Smaller);
    if field == Field::Size && !is_of_size {
        fields.error(
            "operator",
            "A size is compared by larger or smaller. Use one of them.",
        );
    } else if field != Field::Size && is_of_size {
        fields.error(
            "operator",
            "Only the field size can be larger or smaller. Use contains.",
        );
    } else if field == Field::Body && operator == Operator::Exists {
        fields.error("operator", "Only a header field can exist. Use contains.");
    }
}

fn text_value(fields: &mut Fields<'_>) -> Option<String> {
    let value = short_text(fields, "value");
    match value {
        Some(value) if value.is_empty() => {
            fields.error("value", "It is empty. Send a text.");
            None
        }
        Some(value) => Some(value),
        None => {
            fields.missing("value");
            None
        }
    }
}

/// A number of bytes: a JSON number, or a text that may end with K, M or G.
fn size(fields: &mut Fields<'_>) -> Option<String> {
    let text = match fields.value("value") {
        Some(Value::Number(number)) => number.to_string(),
        _ => fields.text("value").unwrap_or_default(),
    };
    let size = text.trim().to_ascii_uppercase();
    let digits = size.strip_suffix(['K', 'M', 'G']).unwrap_or(&size);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number || digits.len() > 9 {
        let detail = "It is no size. Send a number of bytes, perhaps with K, M or G behind it.";
        fields.error("value", detail);
        return None;
    }
    Some(size)
}

fn action(fields: &mut Fields<'_>) -> Option<Action> {
    let Some(action_type) = fields.word("action_type", ACTIONS) else {
        fields.missing("action_type");
        return None;
    };
    use ActionType::{Copy, Delete, Discard, Forward, Label, MarkFlagged, MarkRead, Move, Reject};
    let value = match action_type {
        MarkRead | MarkFlagged | Delete | Discard => String::new(),
        Move | Copy | Forward | Reject | Label => text_value(fields)?,
    };
    let fault = match action_type {
        Move | Copy => mailbox::name(&value).err(),
        Forward => {
            let fault = Address::parse(&value).err();
            fault.map(|fault| format!("The address is wrong: {fault}."))
        }
        Label => (flags::canonical(&value) != Some(value.as_str()) || value.starts_with('\\'))
            .then(|| "It is no keyword. Use ASCII letters, digits and hyphens.".to_owned()),
        _ => None,
    };
    if let Some(fault) = fault {
        fields.error("value", fault);
        return None;
    }
    Some(Action { action_type, value })
}

/// Checks whether the actions can stand together.
fn check_together(fields: &mut Fields<'_>, actions: &[Action]) {
    use ActionType::{Copy, Delete, Discard, Forward, Move, Reject};
    if actions.is_empty() {
        return fields.error("actions", "It has no action. Send at least one.");
    }
    let rejects = actions
        .iter()
        .filter(|action| action.action_type == Reject)
        .count();
    let delivers =
        |action: &Action| matches!(action.action_type, Copy | Delete | Discard | Forward | Move);
    if rejects > 1 || rejects == 1 && actions.iter().any(delivers) {
        fields.error(
            "actions",
            "A message that is refused goes nowhere. Remove reject, or the other actions.",
        );
    }
}
