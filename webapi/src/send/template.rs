//! The templates of a batch: a part of Jinja that takes no more memory and time than the caller's
//! own text.
//!
//! There are variables and their parts, `if`, `for`, comparisons, tests and a few filters. There is
//! nothing that makes new values (`set`, `+`, `*`, `~`, macros): with these a short text could
//! double a value until the memory is full.

mod work;

use std::{borrow::Cow, io, sync::Arc};

use minijinja::{
    Environment, ErrorKind, State, UndefinedBehavior, filters,
    machinery::{Token, tokenize},
    syntax::SyntaxConfig,
    tests,
    value::{StringInput, Value as Any},
};
use serde_json::{Map, Value};

use self::work::{TOO_MUCH, Variables, Work};
use super::Draft;
use crate::error::{ApiError, Code};

/// The most words and signs within a tag. The engine reads nested ones by recursion.
const TAG_MAX: usize = 300;
/// The most `elif`. The engine nests each in the one before.
const ELIF_MAX: usize = 100;
/// The most bytes of a string within a tag.
const LITERAL_MAX: usize = 1024;
/// The most letters that the filter `trim` takes.
const TRIM_MAX: usize = 100;
/// The most bytes of the variables of a recipient, as JSON.
const VARIABLES_MAX: usize = 64 << 10;

/// The templates of a batch.
pub(super) struct Templates<'a> {
    environment: Environment<'a>,
    /// The most bytes of a filled-in text.
    max_size: usize,
    /// The work that is left for a text.
    work: Arc<Work>,
    /// A template has a filter that can make one text of all variables.
    joins: bool,
}

/// The name of the template of the subject. By its name the engine knows which text is HTML, where
/// values need escapes.
pub(super) const SUBJECT: &str = "subject.txt";
/// The name of the template of the text.
pub(super) const TEXT: &str = "text.txt";
/// The name of the template of the HTML.
pub(super) const HTML: &str = "text.html";

impl<'a> Templates<'a> {
    pub(super) fn new(common: &'a Draft, max_size: u64) -> Result<Self, ApiError> {
        let work = Arc::default();
        let mut environment = environment(&work);
        let mut joins = false;
        let templates = [
            ("Subject", SUBJECT, &common.subject),
            ("Text", TEXT, &common.text),
            ("HTML", HTML, &common.html),
        ];
        for (field, name, text) in templates {
            let wrong = |text: String| ApiError::user(format!("{field}: {text}"));
            joins |= check(text).map_err(wrong)?.joins;
            environment
                .add_template(name, text)
                .map_err(|error| wrong(described(&error)))?;
        }
        Ok(Self {
            environment,
            max_size: usize::try_from(max_size).unwrap_or(usize::MAX),
            work,
            joins,
        })
    }

    /// Fills in a template for one recipient.
    pub(super) fn fill(
        &mut self,
        field: &str,
        name: &str,
        variables: &Map<String, Value>,
    ) -> Result<String, ApiError> {
        let wrong = |text: String| ApiError::user(format!("{field}: {text}"));
        self.work.refill();
        let values = Variables::new(variables, &self.work);
        self.environment.set_fuel(Some(values.fuel(self.joins)));
        let template = self.environment.get_template(name);
        let template = template.map_err(|error| wrong(described(&error)))?;
        let mut out = LimitedText::new(self.max_size);
        let rendered = template.render_captured_to(values.root, &mut out).map(drop);
        if out.full {
            return Err(wrong(
                "the text becomes larger than a message may be".into(),
            ));
        }
        if self.work.is_used_up() {
            return Err(wrong(TOO_MUCH.to_owned()));
        }
        rendered.map_err(|error| {
            let mut text = described(&error);
            if error.kind() == ErrorKind::UndefinedError {
                let used = template.undeclared_variables(false).into_iter();
                let mut missing: Vec<_> = used
                    .filter(|variable| !variables.contains_key(variable))
                    .collect();
                missing.sort_unstable();
                if !missing.is_empty() {
                    text = format!("{text}; Variables has no {}", missing.join(", "));
                }
            }
            wrong(text)
        })?;
        String::from_utf8(out.text).map_err(|error| ApiError::new(Code::Server, error.to_string()))
    }
}

/// The engine, with only these filters and tests.
fn environment<'a>(work: &Arc<Work>) -> Environment<'a> {
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(minijinja::default_auto_escape_callback);
    environment.add_filter("upper", filters::upper);
    environment.add_filter("lower", filters::lower);
    environment.add_filter("title", filters::title);
    environment.add_filter("capitalize", filters::capitalize);
    environment.add_filter("trim", trim);
    for name in ["default", "d"] {
        environment.add_filter(name, filters::default);
    }
    for name in ["length", "count"] {
        environment.add_filter(name, filters::length);
    }
    for name in ["escape", "e"] {
        let work = Arc::clone(work);
        let escape = move |state: &mut State<'_, '_>, value: &Any| escape(&work, state, value);
        environment.add_filter(name, escape);
    }
    environment.add_filter("first", filters::first);
    environment.add_filter("last", filters::last);
    environment.add_filter("round", filters::round);
    environment.add_filter("int", filters::int);
    let work = Arc::clone(work);
    let join = move |list: &Any, between: Option<&str>| join(&work, list, between);
    environment.add_filter("join", join);
    environment.add_test("defined", tests::is_defined);
    environment.add_test("undefined", tests::is_undefined);
    environment.add_test("none", tests::is_none);
    environment
}

/// The filter of Jinja, with a limit on its result.
fn join(work: &Work, list: &Any, between: Option<&str>) -> Result<String, minijinja::Error> {
    let between = between.unwrap_or_default();
    let mut joined = String::new();
    for (at, item) in list.try_iter()?.enumerate() {
        if at > 0 {
            joined.push_str(between);
        }
        joined.push_str(&item.to_string());
        limited(&joined, "joined")?;
    }
    work.made(&joined)?;
    Ok(joined)
}

/// The filter of Jinja, with a limit on its result.
fn escape(work: &Work, state: &mut State<'_, '_>, value: &Any) -> Result<Any, minijinja::Error> {
    let escaped = filters::escape(state, value)?;
    let text = escaped.as_str().unwrap_or_default();
    limited(text, "escaped")?;
    work.made(text)?;
    Ok(escaped)
}

/// The filter of Jinja, with a limit on the letters that it looks for in the text.
fn trim(value: StringInput<'_>, letters: Option<Cow<'_, str>>) -> Result<Any, minijinja::Error> {
    if letters
        .as_ref()
        .is_some_and(|letters| letters.len() > TRIM_MAX)
    {
        let text = format!("trim takes at most {TRIM_MAX} letters");
        return Err(minijinja::Error::new(ErrorKind::InvalidOperation, text));
    }
    Ok(filters::trim(value, letters))
}

/// Refuses a text that a filter made of the variables, if it is too long.
fn limited(text: &str, how: &str) -> Result<(), minijinja::Error> {
    if text.len() <= 2 * VARIABLES_MAX {
        return Ok(());
    }
    let text = format!("the {how} text becomes too long");
    Err(minijinja::Error::new(ErrorKind::InvalidOperation, text))
}

/// Facts about a template.
#[derive(Debug, Default)]
struct Checked {
    /// It has a filter that can make one text of all variables.
    joins: bool,
}

/// Refuses templates that could grow.
fn check(text: &str) -> Result<Checked, String> {
    let mut checked = Checked::default();
    let mut begins = false;
    let (mut in_tag, mut elifs) = (0, 0);
    let tokens = tokenize(text, false, SyntaxConfig::default());
    for token in tokens {
        // The engine reports the error.
        let Ok((token, span)) = token else {
            return Ok(checked);
        };
        let line = span.start_line;
        let no = |what: &str| {
            Err(format!(
                "{what} is not available in templates (line {line})"
            ))
        };
        in_tag = match token {
            Token::BlockStart | Token::VariableStart | Token::TemplateData(_) => 0,
            _ => in_tag + 1,
        };
        if in_tag > TAG_MAX {
            return Err(format!(
                "a tag has more than {TAG_MAX} words and signs (line {line})"
            ));
        }
        let is_first = std::mem::replace(&mut begins, matches!(token, Token::BlockStart));
        match token {
            Token::Ident(word)
                if is_first
                    && !["if", "elif", "else", "endif", "for", "endfor"].contains(&word) =>
            {
                return no(&format!("{{% {word} %}}"));
            }
            Token::Ident("elif") if is_first && elifs >= ELIF_MAX => {
                return Err(format!("there are more than {ELIF_MAX} elif (line {line})"));
            }
            Token::Ident("elif") if is_first => elifs += 1,
            Token::Ident("recursive") => return no("recursive"),
            Token::Ident("join" | "escape" | "e") => checked.joins = true,
            Token::Plus => return no("the operator +"),
            Token::Mul => return no("the operator *"),
            Token::Pow => return no("the operator **"),
            Token::Tilde => return no("the operator ~"),
            Token::Str(literal) if literal.len() > LITERAL_MAX => {
                return no("such a long text within a tag");
            }
            Token::String(literal) if literal.len() > LITERAL_MAX => {
                return no("such a long text within a tag");
            }
            _ => {}
        }
    }
    Ok(checked)
}

/// Refuses variables that are too long.
pub(super) fn check_size(variables: &Map<String, Value>) -> Result<(), ApiError> {
    serde_json::to_writer(LimitedText::new(VARIABLES_MAX), variables)
        .map_err(|_| ApiError::user(format!("Variables has more than {VARIABLES_MAX} bytes")))
}

/// Takes text up to a limit.
struct LimitedText {
    text: Vec<u8>,
    left: usize,
    /// There was more text.
    full: bool,
}

impl LimitedText {
    const fn new(left: usize) -> Self {
        Self {
            text: Vec::new(),
            left,
            full: false,
        }
    }
}

impl io::Write for LimitedText {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(left) = self.left.checked_sub(bytes.len()) else {
            self.full = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        };
        self.left = left;
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An error with its line.
fn described(error: &minijinja::Error) -> String {
    let line = error.line().map(|line| format!(" (line {line})"));
    let detail = error.detail().map_or_else(
        || error.kind().to_string(),
        |detail| format!("{}: {detail}", error.kind()),
    );
    format!("{detail}{}", line.unwrap_or_default())
}

#[cfg(test)]
mod template_tests {
    use serde_json::json;

    use super::*;

    fn filled(text: &str, variables: &Value) -> Result<String, String> {
        let common = Draft {
            text: text.to_owned(),
            html: text.to_owned(),
            ..Draft::default()
        };
        let variables = variables.as_object().unwrap();
        Templates::new(&common, 10_000)
            .and_then(|mut templates| templates.fill("Text", TEXT, variables))
            .map_err(|error| error.message)
    }

    #[test]
    fn common_templates_work() {
        let variables =
            json!({"name": "Ann <a@b>", "items": ["x", "y"], "order": {"id": 7, "paid": true}});
        let text = "{{ name|upper }}: {% for item in items %}{{ loop.index }}. {{ item }}{% if not loop.last %}, {% endif %}\
            {% else %}nothing{% endfor %} {{ items|join(\" - \") }} {{ items|length }} \
            {% if order.paid and order.id > 3 %}paid {{ order.id }}{% elif order.id %}no{% endif %} {{ nick is defined }} \
            {{ nick|default(\"you\") }}{# remark #}{% raw %}{{ * }}{% endraw %} a * b + c ~ d";
        let expected = "ANN <A@B>: 1. x, 2. y x - y 2 paid 7 False you{{ * }} a * b + c ~ d";
        assert_eq!(filled(text, &variables).unwrap(), expected);
        let common = Draft {
            html: "{{ name }}".into(),
            ..Draft::default()
        };
        let mut templates = Templates::new(&common, 1000).unwrap();
        let html = templates.fill("HTML", HTML, variables.as_object().unwrap());
        assert_eq!(html.unwrap(), "Ann &lt;a@b&gt;");
    }

    #[test]
    fn nesting_is_limited() {
        let variables = json!({"a": {"a": true}});
        for (begin, again, end) in [
            ("{{ ", "-", "a }}"),
            ("{{ ", "not ", "a }}"),
            ("{{ a", ".a", " }}"),
            ("{{ a", "[0]", " }}"),
            ("{{ a", "()", " }}"),
            ("{{ a", "|upper", " }}"),
            ("{{ a", " and a", " }}"),
            ("{{ a", " or a", " }}"),
            ("{{ a", " is defined", " }}"),
            ("{{ a", " if a else a", " }}"),
            ("{{ a", " == a", " }}"),
            ("{{ a", " in a", " }}"),
            ("{{ ", "(", "a }}"),
            ("{{ ", "[", "a }}"),
            ("{% for ", "(", "a in a %}{% endfor %}"),
            ("{{ a", "|default(a", " }}"),
            ("{% if a %}", "{% elif a %}", "{% endif %}"),
            ("", "{% if a %}", ""),
            ("", "{% for b in a %}", ""),
        ] {
            // Below the limit the engine may accept or refuse a template, but must survive it.
            for count in [50, 99, 149, 299, 10_000, 100_000] {
                let text = format!("{begin}{}{end}", again.repeat(count));
                let filled = filled(&text, &variables);
                assert!(filled.is_err() || count < 300, "{begin}{again}: {count}");
            }
        }
    }

    #[test]
    fn templates_that_could_grow_are_refused() {
        let variables = json!({"a": "x".repeat(1000), "many": vec!["x".repeat(100); 500]});
        for (text, problem) in [
            ("{{ a|indent(100000000000000000) }}", "unknown filter"),
            ("{{ ((1,) * 100000000)|length }}", "operator *"),
            ("{{ 10 ** 10 }}", "operator **"),
            ("{{ a ~ a }}", "operator ~"),
            ("{{ a + a }}", "operator +"),
            ("{% set b = a %}", "{% set %}"),
            ("{%- set b = a -%}", "{% set %}"),
            ("{%\n with b = a %}{% endwith %}", "{% with %}"),
            ("{% include \"text.txt\" %}", "{% include %}"),
            (
                "{% for b in many recursive %}{{ loop(many) }}{% endfor %}",
                "recursive",
            ),
            ("{% for i in range(10) %}{% endfor %}", "range"),
            ("{{ many|join(a) }}", "too long"),
            (
                "{% for b in many %}{{ a }}{% endfor %}",
                "larger than a message",
            ),
            (
                "{% for b in many %}{% for c in many %}{% endfor %}{% endfor %}",
                "fuel",
            ),
        ] {
            let error = filled(text, &variables).unwrap_err();
            assert!(error.contains(problem), "{text}: {error}");
        }
        let long = format!("{{{{ \"{}\" }}}}", "x".repeat(2000));
        assert!(filled(&long, &variables).unwrap_err().contains("long text"));
    }

    #[test]
    fn steps_that_go_through_much_are_counted() {
        let text = "&".repeat(20_000);
        let many = vec![1; 20_000];
        let variables = json!({"text": text, "same": text, "many": many, "equal": many,
            "object": {"a": many}, "times": vec![0; 400]});
        for (body, problem) in [
            ("{% if many == equal %}{% endif %}", TOO_MUCH),
            ("{% if 2 in many %}{% endif %}", TOO_MUCH),
            ("{% if many < equal %}{% endif %}", TOO_MUCH),
            ("{% if [many] == [equal] %}{% endif %}", TOO_MUCH),
            ("{% if object == {\"a\": equal} %}{% endif %}", TOO_MUCH),
            ("{% if many|join(\",\") %}{% endif %}", TOO_MUCH),
            ("{% if (text|e) == \"\" %}{% endif %}", TOO_MUCH),
            (
                "{% for c in [text|e|upper|e|upper|e] %}{% if c in text %}{% endif %}{% endfor %}",
                TOO_MUCH,
            ),
            (
                "{% if text|trim(same) == same %}{% endif %}",
                "at most 100 letters",
            ),
            (
                "{% for i in times %}{% if same in text %}{% endif %}{% endfor %}",
                "fuel",
            ),
        ] {
            let text = format!("{{% for t in times %}}{body}{{% endfor %}}");
            let error = filled(&text, &variables).err().unwrap_or_default();
            assert!(error.contains(problem), "{body}: {error}");
        }
        // A list of common size with common words is filled in.
        let variables = json!({"items": vec![json!({"name": "x".repeat(90), "price": 7}); 500]});
        let text = "{% for item in items %}{% if item.price > 3 and item in items %}{{ item.name|title }}: \
            {{ item.price|default(0) }}{% endif %}{% if not loop.last %}, {% endif %}{% endfor %}";
        let common = Draft {
            text: text.into(),
            ..Draft::default()
        };
        let mut templates = Templates::new(&common, 100_000).unwrap();
        let filled = templates.fill("Text", TEXT, variables.as_object().unwrap());
        assert!(filled.unwrap().len() > 45_000);
    }
}
