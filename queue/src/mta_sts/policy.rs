//! The text of a policy (RFC 8461 §3.2), and the hosts that it is for (§4.1).

use std::{fmt, time::Duration};

use postrider_config::MtaStsMode;

/// The longest time that a policy holds (RFC 8461 §3.2).
const MAX_AGE_MAX: Duration = Duration::from_secs(31_557_600);
/// How many patterns of hosts a policy may have. It only bounds memory.
const MX_MAX: usize = 100;
/// The longest name of a host (RFC 1035 §2.3.4).
const NAME_MAX: usize = 253;
/// The longest label of a name.
const LABEL_MAX: usize = 63;
/// The longest name of a field that is not known.
const FIELD_MAX: usize = 32;

/// A policy of a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What happens to mail if the policy can't be followed.
    pub mode: MtaStsMode,
    /// The MX hosts in lower case, in the order of the text: a name, or `*.` and a name for all
    /// hosts one label below it. There is at least one unless the mode is none.
    pub mx: Vec<String>,
    /// How long the policy holds after it was fetched.
    pub max_age: Duration,
}

/// Why a text is no policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// The text is not UTF-8.
    #[error("it is not UTF-8")]
    NotUtf8,
    /// A line is no field.
    #[error("line {0} is no field")]
    Line(usize),
    /// The field version is missing, or has not the value STSv1.
    #[error("the version is not STSv1")]
    Version,
    /// The field mode is missing, or has none of its three values.
    #[error("the mode is none of enforce, testing and none")]
    Mode,
    /// The field `max_age` is missing, or is no number of seconds.
    #[error("max_age is not a number of seconds with at most 10 digits")]
    MaxAge,
    /// A field mx is not the name of a host.
    #[error("the mx of line {0} is not the name of a host")]
    Mx(usize),
    /// There is no field mx, though the mode needs one.
    #[error("it has no mx")]
    NoMx,
    /// There are too many fields mx.
    #[error("it has more than {MX_MAX} mx")]
    ManyMx,
}

impl Policy {
    /// Reads the text of a policy. Lines end with LF or CRLF. Of a field that stands twice the
    /// first counts, but for mx. Fields that are not known do not count. A longer `max_age` than
    /// the longest possible one is that one.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &[u8]) -> Result<Self, PolicyError> {
        let text = std::str::from_utf8(text).map_err(|_| PolicyError::NotUtf8)?;
        let (mut version, mut mode, mut max_age, mut mx) = (None, None, None, Vec::new());
        for (number, line) in (1..).zip(text.split('\n')) {
            let line = line.strip_suffix('\r').unwrap_or(line);
            // Many policies end with empty lines.
            if line.is_empty() {
                continue;
            }
            let (name, value) = field(line).ok_or(PolicyError::Line(number))?;
            match name {
                "version" => version = version.or(Some(value)),
                "mode" => mode = mode.or(Some(value)),
                "max_age" => max_age = max_age.or(Some(value)),
                "mx" => {
                    let pattern = pattern(value).ok_or(PolicyError::Mx(number))?;
                    mx.push(pattern);
                }
                _ => {}
            }
        }
        if version != Some("STSv1") {
            return Err(PolicyError::Version);
        }
        let mode = mode.and_then(mode_of).ok_or(PolicyError::Mode)?;
        let max_age = max_age.and_then(seconds).ok_or(PolicyError::MaxAge)?;
        if mx.len() > MX_MAX {
            return Err(PolicyError::ManyMx);
        }
        if mx.is_empty() && mode != MtaStsMode::None {
            return Err(PolicyError::NoMx);
        }
        Ok(Self {
            mode,
            mx,
            max_age: max_age.min(MAX_AGE_MAX),
        })
    }

    /// Whether the policy is for this MX host. The name is compared without regard to case.
    #[must_use]
    pub fn allows(&self, host: &str) -> bool {
        self.mx.iter().any(|pattern| matches(pattern, host))
    }

    /// The lines of the policy, without their ends.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let first = ["version: STSv1".to_owned(), format!("mode: {}", self.mode)];
        let hosts = self.mx.iter().map(|pattern| format!("mx: {pattern}"));
        let last = format!("max_age: {}", self.max_age.as_secs());
        first.into_iter().chain(hosts).chain([last])
    }
}

/// The text of the policy. Reading it gives the policy again.
impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// Whether a pattern of a policy stands for a host: a name for itself, `*.` for exactly one label
/// (RFC 8461 §4.1).
#[must_use]
pub fn matches(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix("*.") {
        Some(parent) => host
            .split_once('.')
            .is_some_and(|(label, above)| !label.is_empty() && above.eq_ignore_ascii_case(parent)),
        None => pattern.eq_ignore_ascii_case(host),
    }
}

/// The name and the value of a field. Spaces and tabs around the value do not count.
fn field(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once(':')?;
    let mut bytes = name.bytes();
    let begins = bytes.next()?.is_ascii_alphanumeric();
    let goes_on = bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    let value = value.trim_matches([' ', '\t']);
    // A CR that is no part of the end of a line would be read in another way by others.
    let is_field = begins && goes_on && name.len() <= FIELD_MAX && !value.contains('\r');
    is_field.then_some((name, value))
}

fn mode_of(value: &str) -> Option<MtaStsMode> {
    let all = [MtaStsMode::Enforce, MtaStsMode::Testing, MtaStsMode::None];
    all.into_iter().find(|mode| mode.as_str() == value)
}

fn seconds(value: &str) -> Option<Duration> {
    let digits = (1..=10).contains(&value.len()) && value.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = digits.then(|| value.parse().ok())??;
    Some(Duration::from_secs(seconds))
}

/// A pattern of hosts in lower case. Labels with `_` are taken, since MX hosts have them.
fn pattern(value: &str) -> Option<String> {
    let name = value.strip_prefix("*.").unwrap_or(value);
    let is_label = |label: &str| {
        let mut bytes = label.bytes();
        (1..=LABEL_MAX).contains(&label.len())
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
    };
    let is_name = value.len() <= NAME_MAX && name.split('.').all(is_label);
    is_name.then(|| value.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: Result<&str, PolicyError>) {
        let read = Policy::parse(text.as_bytes()).map(|policy| {
            let lines: Vec<String> = policy.lines().skip(1).collect();
            lines.join(", ")
        });
        assert_eq!(read, expected.map(str::to_owned), "{text:?}");
    }

    #[test]
    fn policies_are_read() {
        let one = "mode: enforce, mx: mx.a.test, max_age: 86400";
        for text in [
            "version: STSv1\nmode: enforce\nmx: mx.a.test\nmax_age: 86400\n",
            "version: STSv1\r\nmode: enforce\r\nmx: mx.a.test\r\nmax_age: 86400\r\n",
            "version: STSv1\nmode: enforce\nmx: mx.a.test\nmax_age: 86400",
            "mx:MX.A.test \nmax_age:\t86400\nmode:enforce\nversion:STSv1\n\n\r\n",
            "version: STSv1\nmode: enforce\nmode: none\nmx: mx.a.test\nmax_age: 86400\n\
             max_age: never\nversion: STSv2\nother.field-1_: \u{e9}: x\n",
        ] {
            check(text, Ok(one));
        }
        check(
            "version: STSv1\nmode: testing\nmx: b.test\nmx: *._mx.a.test\nmax_age: 0\n",
            Ok("mode: testing, mx: b.test, mx: *._mx.a.test, max_age: 0"),
        );
        check(
            "version: STSv1\nmode: none\nmax_age: 9999999999\n",
            Ok("mode: none, max_age: 31557600"),
        );
    }

    #[test]
    fn other_texts_are_no_policies() {
        let wrong = |from: &str, to: &str, error| {
            let right = "version: STSv1\nmode: enforce\nmx: a.test\nmax_age: 1\n";
            assert!(right.contains(from));
            check(&right.replace(from, to), Err(error));
        };
        wrong("version: STSv1\n", "", PolicyError::Version);
        wrong("STSv1", "stsv1", PolicyError::Version);
        wrong("version", "Version", PolicyError::Version);
        wrong("enforce", "Enforce", PolicyError::Mode);
        wrong("enforce", "", PolicyError::Mode);
        wrong("mode: enforce\n", "", PolicyError::Mode);
        wrong("max_age: 1\n", "", PolicyError::MaxAge);
        for age in ["", "-1", "+1", "1.5", "1d", "12345678901"] {
            wrong(
                "max_age: 1",
                &format!("max_age: {age}"),
                PolicyError::MaxAge,
            );
        }
        wrong("mx: a.test\n", "", PolicyError::NoMx);
        for mx in [
            "",
            "*",
            "*.",
            "a..test",
            ".a.test",
            "a.test.",
            "*.*.a.test",
            "x.*.test",
            "a b",
        ] {
            wrong("mx: a.test", &format!("mx: {mx}"), PolicyError::Mx(3));
        }
        let long = "x".repeat(64);
        wrong(
            "mx: a.test",
            &format!("mx: {long}.test"),
            PolicyError::Mx(3),
        );
        wrong(
            "mx: a.test",
            &"mx: a.test\n".repeat(101),
            PolicyError::ManyMx,
        );
        for line in [
            "a line", ": x", "a b: x", "_x: y", "mode : x", "x: a\rb", " x: y",
        ] {
            wrong("mx: a.test", line, PolicyError::Line(3));
        }
        wrong(
            "mx: a.test",
            &format!("{}: x", "x".repeat(33)),
            PolicyError::Line(3),
        );
        check("<html>", Err(PolicyError::Line(1)));
        check("", Err(PolicyError::Version));
        assert_eq!(Policy::parse(b"\xff"), Err(PolicyError::NotUtf8));
    }

    #[test]
    fn a_star_stands_for_one_label() {
        for (pattern, host, expected) in [
            ("a.test", "A.test", true),
            ("a.test", "b.a.test", false),
            ("*.a.test", "mx.A.TEST", true),
            ("*.a.test", "a.test", false),
            ("*.a.test", ".a.test", false),
            ("*.a.test", "x.mx.a.test", false),
            ("*.a.test", "*.a.test", true),
        ] {
            assert_eq!(matches(pattern, host), expected, "{pattern} {host}");
        }
    }

    fn any_policy() -> impl Strategy<Value = Policy> {
        let mode = prop_oneof![
            Just(MtaStsMode::Enforce),
            Just(MtaStsMode::Testing),
            Just(MtaStsMode::None)
        ];
        let mx = prop::collection::vec("(\\*\\.)?[a-z0-9_-]{1,9}(\\.[a-z]{1,5}){0,3}", 1..9);
        (mode, mx, 0..=31_557_600_u64).prop_map(|(mode, mx, seconds)| Policy {
            mode,
            mx,
            max_age: Duration::from_secs(seconds),
        })
    }

    proptest! {
        #[test]
        fn a_policy_that_is_written_comes_back(policy in any_policy()) {
            prop_assert_eq!(Policy::parse(policy.to_string().as_bytes()), Ok(policy.clone()));
            let crlf = policy.to_string().replace('\n', "\r\n");
            prop_assert_eq!(Policy::parse(crlf.as_bytes()), Ok(policy));
        }

        #[test]
        fn what_is_read_can_be_written(text in "((version|mode|mx|max_age|x): ?(STSv1|enforce|none|[a-z*.]{0,8}|[0-9]{0,11})\r?\n){0,8}") {
            if let Ok(policy) = Policy::parse(text.as_bytes()) {
                prop_assert_eq!(Policy::parse(policy.to_string().as_bytes()), Ok(policy));
            }
        }
    }
}
