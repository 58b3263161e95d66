//! The script of a rule.

use super::{Action, ActionType, Condition, Field, Operator, Quantity, Rule};
use crate::sieve::quote::{comment, literal, quoted};

/// What a script of a rule may use.
const REQUIRE: &str = "require [\"fileinto\", \"copy\", \"imap4flags\", \"reject\", \"regex\", \
    \"body\", \"mailbox\", \"special-use\"];\n";

impl Rule {
    /// The rule as a script. That of a rule that is not enabled does nothing.
    #[must_use]
    pub fn script(&self) -> String {
        let name = comment(&self.name);
        if !self.enabled {
            return format!("# Rule: {name}\n# The rule is not enabled.\n");
        }
        let mut script = format!("{REQUIRE}\n# Rule: {name}\n");
        let commands = self.commands();
        if self.conditions.is_empty() {
            for command in commands {
                script.push_str(&format!("{command}\n"));
            }
            return script;
        }
        let conditions: Vec<String> = self.conditions.iter().map(Condition::test).collect();
        let quantity = match self.quantity {
            Quantity::All => "allof",
            Quantity::Any => "anyof",
        };
        let conditions = conditions.join(",\n    ");
        script.push_str(&format!("if {quantity} (\n    {conditions}\n) {{\n"));
        for command in commands {
            script.push_str(&format!("    {command}\n"));
        }
        script.push_str("}\n");
        script
    }

    /// The commands in an order in which each has its effect: flags come before the mailboxes that
    /// get the message with them, and what ends the script comes last.
    fn commands(&self) -> Vec<String> {
        let mut actions: Vec<&Action> = self.actions.iter().collect();
        actions.sort_by_key(|action| match action.action_type {
            ActionType::MarkRead | ActionType::MarkFlagged | ActionType::Label => 0,
            ActionType::Reject | ActionType::Discard => 2,
            _ => 1,
        });
        let commands = actions.into_iter().map(Action::command);
        let stop = self.stop_processing.then(|| "stop;".to_owned());
        commands.chain(stop).collect()
    }
}

impl Action {
    fn command(&self) -> String {
        let value = quoted(&self.value);
        match self.action_type {
            ActionType::Move => format!("fileinto :create {value};"),
            ActionType::Copy => format!("fileinto :copy :create {value};"),
            ActionType::MarkRead => r#"addflag "\\Seen";"#.to_owned(),
            ActionType::MarkFlagged => r#"addflag "\\Flagged";"#.to_owned(),
            ActionType::Forward => format!("redirect {value};"),
            ActionType::Reject => format!("reject {value};"),
            ActionType::Delete => r#"fileinto :specialuse "\\Trash" :create "Trash";"#.to_owned(),
            ActionType::Discard => "discard;".to_owned(),
            ActionType::Label => format!("addflag {value};"),
        }
    }
}

impl Condition {
    fn test(&self) -> String {
        let test = match self.field {
            Field::Size => return self.size(),
            Field::Body => format!("body :text {}", self.comparison(None)),
            Field::From => self.of_addresses("From"),
            Field::To => self.of_addresses("To"),
            Field::Cc => self.of_addresses("Cc"),
            Field::Subject => self.of_header("Subject"),
            Field::ListId => self.of_header("List-Id"),
            Field::Header => self.of_header(self.header_name.as_deref().unwrap_or_default()),
        };
        match self.operator {
            Operator::NotContains => format!("not {test}"),
            _ => test,
        }
    }

    fn size(&self) -> String {
        let tag = match self.operator {
            Operator::Smaller => ":under",
            _ => ":over",
        };
        format!("size {tag} {}", self.value)
    }

    fn of_header(&self, name: &str) -> String {
        if self.operator == Operator::Exists {
            return format!("exists {}", quoted(name));
        }
        format!("header {}", self.comparison(Some(name)))
    }

    /// People write a name or an address, so both are compared: the field, and the addresses in it.
    fn of_addresses(&self, name: &str) -> String {
        if self.operator == Operator::Exists {
            return self.of_header(name);
        }
        let compared = self.comparison(Some(name));
        format!("anyof (header {compared}, address :all {compared})")
    }

    /// The match type, the name of a field if there is one, and the key.
    fn comparison(&self, name: Option<&str>) -> String {
        let (kind, key) = match self.operator {
            Operator::Equals => (":is", self.value.clone()),
            Operator::StartsWith => (":matches", format!("{}*", literal(&self.value))),
            Operator::EndsWith => (":matches", format!("*{}", literal(&self.value))),
            Operator::Regex => (":regex", self.value.clone()),
            _ => (":contains", self.value.clone()),
        };
        let comparator = match self.case_sensitive {
            true => " :comparator \"i;octet\"",
            false => "",
        };
        let name = name.map_or(String::new(), |name| format!(" {}", quoted(name)));
        format!("{kind}{comparator}{name} {}", quoted(&key))
    }
}
