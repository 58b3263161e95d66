//! The result of a delivery to one recipient.
//!
//! The value is made where the result is known. It goes unchanged to the history, the webhook, the
//! DSN and the log.

use std::{borrow::Cow, fmt, net::IpAddr};

use serde::{Deserialize, Serialize};

use crate::{EnhancedCode, Reply, Stage};

/// The most bytes of a text that are kept.
const TEXT_MAX: usize = 4096;
/// The end of a text that was cut.
const CUT: &str = "...";

/// The origin of a [`DeliveryStatus`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Cause {
    /// The server replied. 2xx is a success.
    Reply,
    /// We decided, for example by policy, size or a missing extension.
    Local,
    /// The DNS.
    Dns,
    /// There was no connection.
    Connect,
    /// The TLS handshake failed, or the required TLS was not available.
    Tls,
    /// The server was too slow.
    Timeout,
    /// The connection broke.
    Lost,
    /// The server sent something that is not SMTP.
    Protocol,
}

/// The result for one recipient: success or failure.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DeliveryStatus {
    /// The origin of the result.
    pub cause: Cause,
    /// The reply code of the server. 0 without a reply.
    pub code: u16,
    /// The enhanced status code of the server, or ours.
    pub enhanced: Option<EnhancedCode>,
    /// Another try makes no sense. False for a success.
    pub permanent: bool,
    /// The text of the server without codes, or ours, on one line. Of a reply, 4 KiB at most.
    pub text: String,
    /// The server, as `name [ip]`.
    pub remote: Option<String>,
    /// The command with the reply or the failure: a verb like `RCPT`, or `greeting`, `connect` or
    /// `end of data`.
    pub command: Option<Cow<'static, str>>,
}

impl DeliveryStatus {
    /// A transient failure without a reply.
    #[must_use]
    pub fn transient(cause: Cause, enhanced: EnhancedCode, text: impl Into<String>) -> Self {
        Self {
            cause,
            code: 0,
            enhanced: Some(enhanced.with_class(4)),
            permanent: false,
            text: text.into(),
            remote: None,
            command: None,
        }
    }

    /// A permanent failure without a reply.
    #[must_use]
    pub fn permanent(cause: Cause, enhanced: EnhancedCode, text: impl Into<String>) -> Self {
        Self {
            permanent: true,
            enhanced: Some(enhanced.with_class(5)),
            ..Self::transient(cause, enhanced, text)
        }
    }

    /// The status of a server's reply to `command`. A 3xx in the place of a final reply counts as
    /// transient.
    #[must_use]
    pub fn from_reply(reply: &Reply, command: impl Into<Cow<'static, str>>) -> Self {
        let mut text = String::with_capacity(reply.text().len());
        for line in reply.lines().filter(|line| !line.is_empty()) {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(line);
        }
        cut(&mut text);
        Self {
            cause: Cause::Reply,
            code: reply.code().get(),
            enhanced: reply.enhanced(),
            permanent: reply.code().is_permanent(),
            text,
            remote: None,
            command: Some(command.into()),
        }
    }

    /// The same status of this server (`name [ip]`).
    #[must_use]
    pub fn with_remote(self, remote: impl Into<String>) -> Self {
        Self {
            remote: Some(remote.into()),
            ..self
        }
    }

    /// The same status of this command.
    #[must_use]
    pub fn with_command(self, command: impl Into<Cow<'static, str>>) -> Self {
        Self {
            command: Some(command.into()),
            ..self
        }
    }

    /// The name and the address of [`remote`](Self::remote). None if they are not known: a socket
    /// of this machine has no address, and a local failure has neither.
    #[must_use]
    pub fn host(&self) -> (Option<&str>, Option<IpAddr>) {
        let Some(remote) = self.remote.as_deref() else {
            return (None, None);
        };
        let parts = remote.strip_suffix(']');
        let parts = parts.and_then(|remote| remote.rsplit_once(" ["));
        match parts {
            Some((host, ip)) => (Some(host), ip.parse().ok()),
            None => (Some(remote), None),
        }
    }

    /// The stage of the command. None if it has none, like RSET, or without a command.
    #[must_use]
    pub fn stage(&self) -> Option<Stage> {
        Stage::of_command(self.command.as_deref()?)
    }

    /// The server has taken responsibility for the message.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        self.code >= 200 && self.code < 300
    }

    /// The delivery failed, and another try makes sense.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        !self.permanent && !self.is_success()
    }

    /// The code for the Status field of a DSN, which RFC 3464 §2.3.4 demands. X.0.0 of the right
    /// class if there is no code.
    #[must_use]
    pub fn status(&self) -> EnhancedCode {
        let class = match (self.is_success(), self.permanent) {
            (true, _) => 2,
            (_, true) => 5,
            _ => 4,
        };
        self.enhanced.unwrap_or(EnhancedCode::OK).with_class(class)
    }

    /// The server's reply on one line with its codes, for a Diagnostic-Code of type `smtp`. None
    /// without a reply.
    #[must_use]
    pub fn diagnostic(&self) -> Option<String> {
        (self.code != 0).then(|| self.codes_and_text())
    }

    fn codes_and_text(&self) -> String {
        let mut out = String::with_capacity(self.text.len().saturating_add(16));
        if self.code != 0 {
            out.push_str(&self.code.to_string());
            out.push(' ');
        }
        if let Some(enhanced) = self.enhanced {
            out.push_str(&enhanced.to_string());
            out.push(' ');
        }
        out.push_str(&self.text);
        out.truncate(out.trim_end().len());
        out
    }
}

/// Cuts a long text on a character, and says so at its end.
fn cut(text: &mut String) {
    if text.len() > TEXT_MAX {
        text.truncate(text.floor_char_boundary(TEXT_MAX.saturating_sub(CUT.len())));
        text.push_str(CUT);
        text.shrink_to_fit();
    }
}

impl fmt::Display for DeliveryStatus {
    /// One line for the log, like `mx.example.com [192.0.2.1]: RCPT: 550 5.1.1 no such user`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(remote) = &self.remote {
            write!(f, "{remote}: ")?;
        }
        if let Some(command) = &self.command {
            write!(f, "{command}: ")?;
        }
        f.write_str(&self.codes_and_text())
    }
}

impl std::error::Error for DeliveryStatus {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ReplyCode;

    #[test]
    fn keeps_what_the_remote_said() {
        let reply = Reply::new(
            ReplyCode::MAILBOX_UNAVAILABLE,
            Some(EnhancedCode::UNKNOWN_MAILBOX),
            "no\nsuch user\n",
        );
        let status =
            DeliveryStatus::from_reply(&reply, "RCPT").with_remote("mx.example.com [192.0.2.1]");
        assert!(status.permanent && !status.is_success() && !status.is_transient());
        assert_eq!(
            status.to_string(),
            "mx.example.com [192.0.2.1]: RCPT: 550 5.1.1 no such user"
        );
        assert_eq!(status.diagnostic().unwrap(), "550 5.1.1 no such user");
        assert_eq!(status.status(), EnhancedCode::UNKNOWN_MAILBOX);
    }

    #[test]
    fn the_remote_has_a_name_and_may_have_an_address() {
        for (remote, host, ip) in [
            ("mx.test [192.0.2.1]", "mx.test", Some("192.0.2.1")),
            ("mx.test [2001:db8::1]", "mx.test", Some("2001:db8::1")),
            ("192.0.2.1 [192.0.2.1]", "192.0.2.1", Some("192.0.2.1")),
            ("mx.test", "mx.test", None),
            ("/run/lmtp [1]/socket", "/run/lmtp [1]/socket", None),
        ] {
            let status = DeliveryStatus::transient(Cause::Connect, EnhancedCode::SYSTEM, "");
            assert_eq!(status.host(), (None, None));
            let ip = ip.map(|ip| ip.parse().unwrap());
            assert_eq!(status.with_remote(remote).host(), (Some(host), ip));
        }
    }

    #[test]
    fn a_long_reply_is_cut_on_a_character() {
        let kept = |text: String| {
            let reply = Reply::new(ReplyCode::MAILBOX_UNAVAILABLE, None, text);
            DeliveryStatus::from_reply(&reply, "RCPT").text
        };
        assert_eq!(kept("x".repeat(TEXT_MAX)), "x".repeat(TEXT_MAX));
        let long = kept(format!("{}\n", "x".repeat(500)).repeat(100));
        assert!(
            long.len() == TEXT_MAX && long.ends_with("xxx..."),
            "{}",
            long.len()
        );
        // Each of these has two bytes.
        let umlauts = kept("\u{fc}".repeat(3000));
        assert_eq!(umlauts.len(), TEXT_MAX - 1);
        assert!(umlauts.ends_with("\u{fc}..."));
    }

    #[test]
    fn a_status_without_a_code_gets_one_of_its_class() {
        let busy =
            DeliveryStatus::from_reply(&Reply::new(ReplyCode::LOCAL_ERROR, None, ""), "MAIL");
        assert_eq!(
            (busy.status(), busy.diagnostic().unwrap().as_str()),
            (EnhancedCode::TRANSIENT, "451")
        );
        let ours =
            DeliveryStatus::permanent(Cause::Dns, EnhancedCode::NO_ROUTE_TRANSIENT, "no MX host");
        assert_eq!(
            (ours.enhanced, ours.diagnostic()),
            (Some(EnhancedCode::NO_ROUTE), None)
        );
        assert_eq!(ours.to_string(), "5.4.4 no MX host");
        assert!(DeliveryStatus::from_reply(&Reply::ok("queued"), "end of data").is_success());
    }
}
