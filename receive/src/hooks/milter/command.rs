//! The data of the commands to a filter.

use std::net::IpAddr;

use postrider_smtp::{
    field::Field,
    server::{MailFrom, RcptTo},
};

use super::{
    super::asked::Asked,
    macros::{Known, Macro},
    options::Stage,
};

/// The data of a command: mostly strings, each with a NUL at its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Strings {
    bytes: Vec<u8>,
}

impl Strings {
    /// All bytes.
    #[must_use]
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Appends a string. A NUL in it would end it, so it has none.
    fn push(&mut self, string: &[u8]) {
        let bytes = string.iter().filter(|byte| **byte != 0);
        self.bytes.extend(bytes);
        self.bytes.push(0);
    }

    fn parameters(&mut self, parameters: Vec<(&'static str, Option<String>)>) {
        for (keyword, value) in parameters {
            match value {
                Some(value) => self.push(format!("{keyword}={value}").as_bytes()),
                None => self.push(keyword.as_bytes()),
            }
        }
    }
}

/// The client: its name, or else its address in brackets, and its address with the port.
#[must_use]
pub(super) fn connect(asked: &Asked<'_>) -> Strings {
    let mut data = Strings::default();
    let address = asked.remote();
    match asked.ptr {
        Some(name) => data.push(name.as_bytes()),
        None => data.push(format!("[{address}]").as_bytes()),
    }
    data.bytes.push(match address {
        IpAddr::V4(_) => b'4',
        IpAddr::V6(_) => b'6',
    });
    let port = asked.client.remote.port();
    data.bytes.extend_from_slice(&port.to_be_bytes());
    data.push(address.to_string().as_bytes());
    data
}

/// The name in EHLO or HELO.
#[must_use]
pub(super) fn helo(asked: &Asked<'_>) -> Strings {
    let mut data = Strings::default();
    data.push(asked.helo.unwrap_or_default().as_bytes());
    data
}

/// The reverse-path and its parameters.
#[must_use]
pub(super) fn mail(mail: &MailFrom) -> Strings {
    let mut data = Strings::default();
    data.push(format!("<{}>", mail.reverse_path).as_bytes());
    data.parameters(mail.parameters());
    data
}

/// The recipient and its parameters.
#[must_use]
pub(super) fn rcpt(rcpt: &RcptTo) -> Strings {
    let mut data = Strings::default();
    data.push(format!("<{}>", rcpt.forward_path).as_bytes());
    data.parameters(rcpt.parameters());
    data
}

/// A field as it is written, with at most `size` bytes: a longer value is cut. Line ends within the
/// value are LF. One space behind the colon goes, unless the filter keeps it. None for a line that
/// is no field.
#[must_use]
pub(super) fn header(written: &[u8], size: usize, keeps_space: bool) -> Option<Strings> {
    let Field { name, value } = Field::read(written)?;
    let value = value.strip_suffix(b"\n").unwrap_or(value);
    let value = value.strip_suffix(b"\r").unwrap_or(value);
    let value = match keeps_space {
        true => value,
        false => value.strip_prefix(b" ").unwrap_or(value),
    };
    let mut data = Strings::default();
    data.push(name);
    let room = size.saturating_sub(data.bytes.len() + 1);
    let mut lines = Vec::with_capacity(value.len());
    for line in value.split_inclusive(|byte| *byte == b'\n') {
        match line.strip_suffix(b"\r\n") {
            Some(line) => {
                lines.extend_from_slice(line);
                lines.push(b'\n');
            }
            None => lines.extend_from_slice(line),
        }
    }
    lines.truncate(room);
    data.push(&lines);
    Some(data)
}

/// The macros before a command: its letter, and names and values. None if no macro has a value.
#[must_use]
pub(super) fn macros(stage: Stage, macros: &[Macro], known: &Known<'_>) -> Option<Strings> {
    let mut data = Strings::default();
    data.bytes.push(stage.command());
    for one in macros {
        if let Some(value) = one.value(known) {
            data.push(one.name().as_bytes());
            data.push(value.as_bytes());
        }
    }
    (data.bytes.len() > 1).then_some(data)
}

#[cfg(test)]
mod tests {
    use postrider_config::HookStage;
    use postrider_smtp::{Notify, Ret, ReversePath};

    use super::{
        super::support::{World, shown_packet},
        *,
    };

    fn text(data: &Strings) -> String {
        shown_packet(b'-', data.bytes())[2..].to_owned()
    }

    #[test]
    fn the_client_is_its_name_and_its_address() {
        let mut world = World::new("", "");
        for (remote, ptr, expected) in [
            ("192.0.2.1:1025", None, "[192.0.2.1]|4\\x04\\x01192.0.2.1|"),
            (
                "192.0.2.1:1025",
                Some("c.test"),
                "c.test|4\\x04\\x01192.0.2.1|",
            ),
            (
                "[2001:db8::1]:65535",
                None,
                "[2001:db8::1]|6\\xff\\xff2001:db8::1|",
            ),
            ("[::ffff:192.0.2.1]:48", None, "[192.0.2.1]|4|0192.0.2.1|"),
        ] {
            world.client.remote = remote.parse().unwrap();
            world.ptr = ptr.map(str::to_owned);
            let asked = world.asked(HookStage::Connect, 0);
            assert_eq!(text(&connect(&asked)), expected);
        }
        assert_eq!(text(&helo(&world.asked(HookStage::Ehlo, 0))), "c.test|");
        assert_eq!(text(&helo(&world.asked(HookStage::Connect, 0))), "|");
    }

    #[test]
    fn paths_have_brackets_and_parameters_a_string_each() {
        let mut world = World::new("", "");
        let given = |mail_from: &MailFrom| text(&mail(mail_from));
        assert_eq!(given(&world.mail), "<a@s.test>|SIZE=9|BODY=8BITMIME|");
        world.mail.reverse_path = ReversePath::Null;
        world.mail.size = None;
        world.mail.smtputf8 = true;
        world.mail.ret = Some(Ret::Headers);
        world.mail.envid = Some("a\0b".into());
        let expected = "<>|BODY=8BITMIME|RET=HDRS|ENVID=a+00b|SMTPUTF8|";
        assert_eq!(given(&world.mail), expected);
        let mut to = world.recipients[0].clone();
        assert_eq!(text(&rcpt(&to)), "<b@d.test>|");
        to.notify = Some(Notify::NEVER);
        to.orcpt = Some("rfc822;x@y".into());
        let expected = "<b@d.test>|NOTIFY=NEVER|ORCPT=rfc822;x@y|";
        assert_eq!(text(&rcpt(&to)), expected);
    }

    #[test]
    fn fields_are_names_and_values() {
        for (written, spaced, expected) in [
            ("A: b\r\n", false, Some("A|b|")),
            ("A: b\r\n", true, Some("A| b|")),
            ("A:  b \r\n", false, Some("A| b |")),
            ("A:b\r\n", false, Some("A|b|")),
            ("A:b\r\n", true, Some("A|b|")),
            ("A:\tb\r\n", false, Some("A|\\tb|")),
            ("A:\r\n", false, Some("A||")),
            ("A : b\r\n", false, Some("A|b|")),
            ("A: b\r\n c\r\n\td\r\n", false, Some("A|b\\n c\\n\\td|")),
            ("A:\r\n b\r\n", false, Some("A|\\n b|")),
            ("A: b\n c\n", false, Some("A|b\\n c|")),
            ("A: b\0c\r\n", false, Some("A|bc|")),
            ("A: b\rc\r\n", false, Some("A|b\\rc|")),
            ("no field\r\n", false, None),
            (": b\r\n", false, None),
            ("", false, None),
        ] {
            let data = header(written.as_bytes(), 100, spaced);
            assert_eq!(data.as_ref().map(text).as_deref(), expected, "{written:?}");
        }
    }

    #[test]
    fn a_long_field_is_cut() {
        let written = format!("Name: {}\r\n", "x".repeat(100));
        for (size, expected) in [
            (0, 6),
            (5, 6),
            (6, 6),
            (7, 7),
            (50, 50),
            (106, 106),
            (200, 106),
        ] {
            let data = header(written.as_bytes(), size, false).unwrap();
            assert_eq!(data.bytes().len(), expected, "{size}");
            assert!(data.bytes().starts_with(b"Name\0") && data.bytes().ends_with(b"\0"));
        }
    }
}
