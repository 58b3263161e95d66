//! The commands and calls that do the same as a page, as a person can paste them into a shell.

use axum::http::Method;
use serde_json::Value;

use super::form::query;

/// A command of `postrider`, and the call of an API that does the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct AsCommand {
    /// Empty: no command does this.
    pub(super) cli: String,
    /// Empty: no call does this.
    pub(super) curl: String,
}

impl AsCommand {
    /// A command with these words.
    pub(super) fn cli<'a>(words: impl IntoIterator<Item = &'a str>) -> Self {
        let mut command = Self {
            cli: "postrider".to_owned(),
            curl: String::new(),
        };
        for word in words {
            command = command.word(word);
        }
        command
    }

    /// No command, only a call.
    pub(super) fn none() -> Self {
        Self::default()
    }

    /// One more word of the command; nothing if no command does this.
    pub(super) fn word(mut self, word: &str) -> Self {
        if self.cli.is_empty() {
            return self;
        }
        self.cli.push(' ');
        self.cli.push_str(&quoted(word));
        self
    }

    /// An option of the command with a value; nothing if there is no value.
    pub(super) fn option(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.word(name).word(value),
            None => self,
        }
    }

    /// Any other line for a shell, such as a call of another server.
    pub(super) fn line<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
        let words: Vec<String> = words.into_iter().map(quoted).collect();
        words.join(" ")
    }

    /// The call by GET that does the same.
    pub(super) fn get(self, path: &str) -> Self {
        self.call(&Method::GET, path, None)
    }

    /// The call that does the same, as a line for curl. `path` begins with `/api/`, with its query.
    pub(super) fn call(mut self, method: &Method, path: &str, body: Option<&Value>) -> Self {
        let mut words = bearer();
        if *method != Method::GET {
            words.push(format!("-X {method}"));
        }
        words.extend(body.map(json));
        self.curl = curl(words, path);
        self
    }

    /// The same by the login of an account, whose password curl asks for.
    pub(super) fn call_by_login(mut self, login: &str, path: &str, body: Option<&Value>) -> Self {
        let mut words = vec![format!("-u {}", quoted(login))];
        words.extend(body.map(json));
        self.curl = curl(words, path);
        self
    }

    /// The call of a method of the webapi v1 that does the same.
    pub(super) fn post(mut self, path: &str, request: &Value) -> Self {
        let mut words = bearer();
        words.push(json(request));
        self.curl = curl(words, path);
        self
    }

    /// The call of a method of the webapi v0, which takes a form, that does the same.
    pub(super) fn post_form(mut self, path: &str, request: &Value) -> Self {
        let mut words = bearer();
        let field = quoted(&format!("request={request}"));
        words.push(format!("--data-urlencode {field}"));
        self.curl = curl(words, path);
        self
    }
}

/// The words that log in with a key.
fn bearer() -> Vec<String> {
    vec!["-H \"Authorization: Bearer $KEY\"".to_owned()]
}

/// The words for a body of JSON.
fn json(body: &Value) -> String {
    format!("--json {}", quoted(&body.to_string()))
}

fn curl(words: Vec<String>, path: &str) -> String {
    let url = quoted(&format!("$URL{path}"));
    format!("curl {} {url}", words.join(" "))
}

/// The path of a call of the management API with the parameters that have a value.
pub(super) fn path(path: &str, parameters: &[(&str, Option<&str>)]) -> String {
    let given = parameters.iter();
    let given = given.filter_map(|(name, value)| Some((*name, (*value)?)));
    match query(given).as_str() {
        "" => path.to_owned(),
        query => format!("{path}?{query}"),
    }
}

/// A word for a shell. `$URL` and `$KEY` at its beginning are variables.
fn quoted(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=,@+%".contains(&byte);
    let (variable, rest) = match word.strip_prefix("$URL") {
        Some(rest) => ("\"$URL\"", rest),
        None => ("", word),
    };
    let text = match rest.bytes().all(is_plain) && !(rest.is_empty() && variable.is_empty()) {
        true => rest.to_owned(),
        false => format!("'{}'", rest.replace('\'', "'\\''")),
    };
    format!("{variable}{text}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn calls_of_the_webapi_are_posts_and_secrets_are_asked_for() {
        let request = json!({"EmailAddress": "it's@a.test"});
        let command = AsCommand::none().post_form("/webapi/v0/SuppressionAdd", &request);
        assert_eq!(
            command.curl,
            "curl -H \"Authorization: Bearer $KEY\" --data-urlencode \
             'request={\"EmailAddress\":\"it'\\''s@a.test\"}' \"$URL\"/webapi/v0/SuppressionAdd"
        );
        let command = AsCommand::none().post("/webapi/v1/QueueList", &json!({}));
        assert_eq!(
            command.curl,
            "curl -H \"Authorization: Bearer $KEY\" --json '{}' \"$URL\"/webapi/v1/QueueList"
        );
        let command = AsCommand::none().call_by_login("a b@a.test", "/api/account/auth", None);
        assert_eq!(
            command.curl,
            "curl -u 'a b@a.test' \"$URL\"/api/account/auth"
        );
    }

    #[test]
    fn words_are_quoted_for_a_shell() {
        let command = AsCommand::cli(["queue", "hold"])
            .option("--from", Some("it's <me>"))
            .option("--to", None)
            .option("--transport", Some(""));
        assert_eq!(
            command.cli,
            "postrider queue hold --from 'it'\\''s <me>' --transport ''"
        );
        let none = AsCommand::none().word("--all").option("--limit", Some("5"));
        assert_eq!(none, AsCommand::none());
        let path = "/api/queue/messages?text=a b";
        let command = command.call(&Method::PATCH, path, Some(&json!({"hold": true})));
        assert_eq!(
            command.curl,
            "curl -H \"Authorization: Bearer $KEY\" -X PATCH --json '{\"hold\":true}' \
             \"$URL\"'/api/queue/messages?text=a b'"
        );
    }
}
