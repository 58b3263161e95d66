//! How a line is written out.

use std::io::{self, Write};

use jiff::Timestamp;

use super::line::{Level, Line, Value, part};

/// How lines are written out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Form {
    /// One JSON object for each line; otherwise text for people.
    pub json: bool,
    /// The reader is the journal of systemd, which has a time of its own and reads the priority at
    /// the start of a line, as in `<6>` (sd-daemon(3)).
    pub journal: bool,
    /// The levels have colours, for a terminal.
    pub colours: bool,
}

impl Form {
    /// Writes a line with its line end.
    ///
    /// # Errors
    /// If `out` fails.
    pub fn write(self, line: &Line, out: &mut impl Write) -> io::Result<()> {
        if self.journal {
            write!(out, "<{}>", priority(line.level))?;
        }
        match self.json {
            true => json(line, out)?,
            false => self.text(line, out)?,
        }
        out.write_all(b"\n")
    }

    /// `2026-03-01T09:00:00.123Z INFO accepted session=7h3kq0v9x2mc.1 by=webapi`
    fn text(self, line: &Line, out: &mut impl Write) -> io::Result<()> {
        if !self.journal {
            write!(out, "{} ", time(line))?;
        }
        let name = line.level.name();
        match self.colours {
            true => write!(out, "\u{1b}[{}m{name}\u{1b}[0m", colour(line.level))?,
            false => out.write_all(name.as_bytes())?,
        }
        write!(out, " {}", line.message)?;
        for (name, value) in &line.fields {
            write!(out, " {name}=")?;
            match value {
                Value::Text(text) => quoted(text, out)?,
                value => write!(out, "{value}")?,
            }
        }
        match has_module(line) {
            true => write!(out, " module={}", part(&line.target)),
            false => Ok(()),
        }
    }
}

/// Lines of the levels below info say which part of the program wrote them, and so do those of
/// libraries. The others are told apart by their text.
fn has_module(line: &Line) -> bool {
    line.level > Level::Info || !super::levels::is_ours(&line.target)
}

/// The time with milliseconds (RFC 3339, in UTC).
fn time(line: &Line) -> String {
    let time = Timestamp::from_microsecond(line.micros).unwrap_or_default();
    format!("{time:.3}")
}

/// The priority of syslog (RFC 5424, section 6.2.1).
const fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

/// The colour of a level on a terminal (ECMA-48, select graphic rendition).
const fn colour(level: Level) -> u8 {
    match level {
        Level::Error => 31,
        Level::Warn => 33,
        Level::Info => 32,
        Level::Debug => 34,
        Level::Trace => 35,
    }
}

/// Texts with a space, a quotation mark or an equals sign stand in quotation marks, and so does an
/// empty text.
fn quoted(text: &str, out: &mut impl Write) -> io::Result<()> {
    if !text.is_empty() && !text.contains([' ', '"', '=']) {
        return out.write_all(text.as_bytes());
    }
    write!(out, "\"{}\"", text.replace('"', "\\\""))
}

fn json(line: &Line, out: &mut impl Write) -> io::Result<()> {
    write!(
        out,
        "{{\"time\":\"{}\",\"level\":\"{}\",\"message\":",
        time(line),
        line.level.word()
    )?;
    serde_json::to_writer(&mut *out, &line.message)?;
    for (name, value) in &line.fields {
        // The names of the line itself come once.
        let underscore = match *name {
            "time" | "level" | "message" | "module" => "_",
            _ => "",
        };
        write!(out, ",\"{name}{underscore}\":")?;
        match value {
            Value::Text(text) => serde_json::to_writer(&mut *out, text)?,
            // JSON has neither infinity nor what is no number: null.
            Value::Float(number) => serde_json::to_writer(&mut *out, number)?,
            value => write!(out, "{value}")?,
        }
    }
    if has_module(line) {
        out.write_all(b",\"module\":")?;
        serde_json::to_writer(&mut *out, &part(&line.target))?;
    }
    out.write_all(b"}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(level: Level) -> Line {
        Line {
            micros: 1_772_355_600_123_456,
            level,
            target: "postrider_webapi::send".into(),
            message: "accepted".to_owned(),
            event: None,
            fields: vec![
                ("session", Value::Text("7h3kq0v9x2mc.1".into())),
                ("from", Value::Text("".into())),
                ("helo", Value::Text("a \"b\" \\n".into())),
                ("queue", Value::Unsigned(7301)),
                ("ratio", Value::Float(f64::NAN)),
                ("tls", Value::Flag(true)),
                ("level", Value::Signed(-1)),
            ],
        }
    }

    fn written(form: Form, line: &Line) -> String {
        let mut out = Vec::new();
        form.write(line, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    const TEXT: &str = "accepted session=7h3kq0v9x2mc.1 from=\"\" helo=\"a \\\"b\\\" \\n\" \
        queue=7301 ratio=NaN tls=true level=-1";

    #[test]
    fn a_line_for_people() {
        let form = Form::default();
        let expected = format!("2026-03-01T09:00:00.123Z INFO {TEXT}\n");
        assert_eq!(written(form, &line(Level::Info)), expected);
        let expected =
            format!("2026-03-01T09:00:00.123Z DEBUG {TEXT} module=postrider.webapi.send\n");
        assert_eq!(written(form, &line(Level::Debug)), expected);
        let library = Line {
            target: "hyper_util::client".into(),
            ..line(Level::Warn)
        };
        let text = written(form, &library);
        assert!(text.ends_with(" module=hyper-util.client\n"), "{text}");
    }

    #[test]
    fn a_line_for_the_journal_has_a_priority_and_no_time() {
        let form = Form {
            journal: true,
            ..Form::default()
        };
        for (level, start) in [
            (Level::Error, "<3>ERROR "),
            (Level::Warn, "<4>WARN "),
            (Level::Info, "<6>INFO "),
        ] {
            assert_eq!(written(form, &line(level)), format!("{start}{TEXT}\n"));
        }
        assert!(written(form, &line(Level::Debug)).starts_with("<7>DEBUG "));
        assert!(written(form, &line(Level::Trace)).starts_with("<7>TRACE "));
    }

    #[test]
    fn a_terminal_gets_colours() {
        let form = Form {
            colours: true,
            ..Form::default()
        };
        let text = written(form, &line(Level::Error));
        assert!(
            text.contains(" \u{1b}[31mERROR\u{1b}[0m accepted"),
            "{text}"
        );
    }

    #[test]
    fn a_line_for_programs() {
        let form = Form {
            json: true,
            ..Form::default()
        };
        let expected = "{\"time\":\"2026-03-01T09:00:00.123Z\",\"level\":\"info\",\
            \"message\":\"accepted\",\"session\":\"7h3kq0v9x2mc.1\",\"from\":\"\",\
            \"helo\":\"a \\\"b\\\" \\\\n\",\"queue\":7301,\"ratio\":null,\"tls\":true,\
            \"level_\":-1}\n";
        let text = written(form, &line(Level::Info));
        assert_eq!(text, expected);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["queue"], 7301);
        let debug = written(form, &line(Level::Debug));
        let value: serde_json::Value = serde_json::from_str(&debug).unwrap();
        assert_eq!(value["module"], "postrider.webapi.send");
    }
}
