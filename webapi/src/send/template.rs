//! The templates of a batch: a part of Jinja that takes no more memory and time than the caller's
//! own text.
//!
//! There are variables and their parts, `if`, `for`, comparisons, tests and a few filters. Nothing
//! gives a name to a new value that is made of others (`set`, `+`, `*`, `~`, macros, `for` over a
//! list of variables): with these a short text could double a value until the memory is full.
//!
//! [`Templates::fill`] computes for a while, so it belongs on a thread that may block.

mod check;
mod work;

use std::{borrow::Cow, collections::BTreeSet, io, sync::Arc, time::Duration};

use minijinja::{
    Environment, ErrorKind, State, UndefinedBehavior, escape_formatter, filters, tests,
    value::{StringInput, Value as Any},
};
use postrider_store::{Clock, Moment};
use serde_json::{Map, Value};

use self::{
    check::check,
    work::{TOO_MUCH, Variables, Work},
};
use super::Draft;
use crate::error::{ApiError, Code};

/// The most letters that the filter `trim` takes.
const TRIM_MAX: usize = 100;
/// The most bytes of the variables of a recipient, as JSON.
const VARIABLES_MAX: usize = 64 << 10;
/// The most time for filling in the templates of a batch.
pub(super) const FILLING_MAX: Duration = Duration::from_secs(30);

/// The templates of a batch.
pub(super) struct Templates {
    environment: Environment<'static>,
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

impl Templates {
    /// Reads the templates. A filled-in text has at most `max_size` bytes.
    ///
    /// # Errors
    /// If a template has an error, or a part of the language that is not available.
    pub(super) fn new(
        common: &Draft,
        max_size: u64,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ApiError> {
        let work = Arc::new(Work::new(clock));
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
                .add_template_owned(name, text.clone())
                .map_err(|error| wrong(described(&error)))?;
        }
        Ok(Self {
            environment,
            max_size: usize::try_from(max_size).unwrap_or(usize::MAX),
            work,
            joins,
        })
    }

    /// The names of the variables that the templates use, sorted.
    pub(super) fn variables(&self) -> Vec<String> {
        let templates = self.environment.templates();
        let names = templates.flat_map(|(_, template)| template.undeclared_variables(false));
        let names: BTreeSet<String> = names.collect();
        names.into_iter().collect()
    }

    /// Fills in a template for one recipient, until this moment at most.
    ///
    /// # Errors
    /// If the template does not fit the variables, or if filling it in takes too much time or
    /// memory.
    pub(super) fn fill(
        &mut self,
        field: &str,
        name: &str,
        variables: &Map<String, Value>,
        until: Moment,
    ) -> Result<String, ApiError> {
        let wrong = |text: String| ApiError::user(format!("{field}: {text}"));
        self.work.refill(until);
        let values = Variables::new(variables, &self.work);
        self.environment.set_fuel(Some(values.fuel(self.joins)));
        let template = self.environment.get_template(name);
        let template = template.map_err(|error| wrong(described(&error)))?;
        let mut out = LimitedText::new(self.max_size);
        let rendered = template.render_captured_to(values.root, &mut out).map(drop);
        if self.work.is_late() {
            return Err(too_slow());
        }
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

/// The error when the time for the templates of a batch is over.
fn too_slow() -> ApiError {
    ApiError::user(format!(
        "filling in the templates of the batch takes longer than {} seconds; make the templates \
         simpler, or the batches smaller",
        FILLING_MAX.as_secs()
    ))
}

/// The engine, with only these filters and tests. The time is looked at where a step may take long:
/// at each access to a list or an object, in the filters that go through a text, and when a value
/// is written.
fn environment(work: &Arc<Work>) -> Environment<'static> {
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(minijinja::default_auto_escape_callback);
    let in_time = Arc::clone(work);
    environment.set_formatter(move |out, state, value| {
        in_time.check_time()?;
        escape_formatter(out, state, value)
    });
    for (name, filter) in [
        ("upper", filters::upper as fn(StringInput<'_>) -> Any),
        ("lower", filters::lower),
        ("capitalize", filters::capitalize),
        ("title", title),
    ] {
        let work = Arc::clone(work);
        environment.add_filter(name, move |text: StringInput<'_>| {
            work.check_time().map(|()| filter(text))
        });
    }
    let in_time = Arc::clone(work);
    environment.add_filter(
        "trim",
        move |text: StringInput<'_>, letters: Option<Cow<'_, str>>| {
            in_time.check_time()?;
            trim(text, letters)
        },
    );
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

/// The filter of Jinja.
fn title(text: StringInput<'_>) -> Any {
    Any::from(filters::title(text.as_str().into()))
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
    use postrider_store::SystemClock;
    use serde_json::json;

    use super::*;

    fn filled(text: &str, variables: &Value) -> Result<String, String> {
        let common = Draft {
            text: text.to_owned(),
            html: text.to_owned(),
            ..Draft::default()
        };
        let variables = variables.as_object().unwrap();
        Templates::new(&common, 10_000, Arc::new(SystemClock))
            .and_then(|mut templates| templates.fill("Text", TEXT, variables, ALWAYS))
            .map_err(|error| error.message)
    }

    /// A moment that never comes.
    const ALWAYS: Moment = Moment(Duration::MAX);

    fn templates(common: &Draft, max_size: u64) -> Templates {
        Templates::new(common, max_size, Arc::new(SystemClock)).unwrap()
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
        let mut templates = templates(&common, 1000);
        let html = templates.fill("HTML", HTML, variables.as_object().unwrap(), ALWAYS);
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
            ("{% for b in [a, a] %}{% endfor %}", LIST),
            ("{% for b in ((([a]))) %}{% endfor %}", LIST),
            ("{% for b in (a, a) %}{% endfor %}", LIST),
            ("{% for b in a, a %}{% endfor %}", LIST),
            ("{% for b in {\"x\": a} %}{% endfor %}", LIST),
            ("{% for b in none|default([a]) %}{% endfor %}", LIST),
            ("{%- for b in [many[0]] -%}{% endfor %}", LIST),
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
        // A list of variables that has no name can't grow. Neither can one without variables.
        for text in [
            "{% if a in [a, many] %}yes{% endif %}",
            "{% for b in [\"yes\"] %}{{ b }}{% endfor %}",
            "{% for b in [\"yes\", true] if b in [a, \"yes\"] %}{{ b }}{% endfor %}",
            "{% for b in nothing|default([], true) %}{% else %}yes{% endfor %}",
            "{% for b in many[:1] %}{% for (c, d) in [[1, \"yes\"]] %}{{ d }}{% endfor %}{% endfor %}",
        ] {
            assert_eq!(filled(text, &variables).as_deref(), Ok("yes"), "{text}");
        }
        let long = format!("{{{{ \"{}\" }}}}", "x".repeat(2000));
        assert!(filled(&long, &variables).unwrap_err().contains("long text"));
    }

    /// Each list has the one before many times, so the memory would be full soon, or the stack.
    #[test]
    fn nested_lists_do_not_grow() {
        let variables = json!({"a": "x".repeat(1000)});
        let names = ["a", "b", "c", "d", "e", "f", "g"];
        let (mut wide, mut deep) = (String::new(), String::new());
        for pair in names.windows(2) {
            let list = vec![pair[0]; 140].join(",");
            wide += &format!("{{% for {} in [[{list}]] %}}", pair[1]);
            let (open, close) = ("[".repeat(140), "]".repeat(140));
            deep += &format!("{{% for {} in {open}{}{close} %}}", pair[1], pair[0]);
        }
        let end = "{% endfor %}".repeat(names.len() - 1);
        for text in [
            format!("{wide}{{{{ [g]|join }}}}{end}"),
            format!("{deep}{{{{ g }}}}{end}"),
        ] {
            let error = filled(&text, &variables).unwrap_err();
            assert!(error.contains(LIST), "{error}");
        }
    }

    /// A part of the error for a new list with a name.
    const LIST: &str = "a list of variables in {% for %}";

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
                LIST,
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
        let mut templates = templates(&common, 100_000);
        let filled = templates.fill("Text", TEXT, variables.as_object().unwrap(), ALWAYS);
        assert!(filled.unwrap().len() > 45_000);
    }
}
