//! The fields of a request.

use postrider_smtp::server::{MailFrom, RcptTo};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use crate::hooks::asked::Asked;

/// The path of a scan.
pub const CHECK_PATH: &str = "/checkv2";

/// The most recipients that rspamd is told of. It takes no more than 1024 itself.
const RECIPIENTS_MAX: usize = 1000;

/// The fields of a scan. Their names are in lower case, as HTTP/2 has them; rspamd knows no case.
///
/// A value is UTF-8 in the bytes of the field. Control characters become `?`.
#[must_use]
pub fn fields(asked: &Asked<'_>) -> HeaderMap {
    let mut fields = Fields::default();
    fields.add("flags", Some("milter"));
    fields.add("queue-id", Some(&asked.id()));
    fields.add("mta-name", Some(asked.hostname));
    fields.add("ip", Some(&asked.remote().to_string()));
    fields.add("helo", asked.helo);
    fields.add("hostname", asked.ptr);
    fields.add("user", asked.login.map(|login| login.user.as_str()));
    let tls = asked.client.tls.as_ref();
    fields.add("tls-version", tls.map(|tls| tls.version.as_str()));
    fields.add("tls-cipher", tls.map(|tls| tls.cipher.as_str()));
    let mail = asked.draft.map(|draft| &draft.mail).or(asked.mail);
    if let Some(mail) = mail {
        fields.add_sender(mail);
    }
    let recipients = asked.to();
    for (number, rcpt) in recipients.iter().take(RECIPIENTS_MAX).enumerate() {
        fields.add_recipient(number, rcpt);
    }
    // The statistics and settings of a user are those of a single recipient.
    if let [rcpt] = recipients {
        fields.add("deliver-to", Some(&rcpt.forward_path.to_string()));
    }
    fields.0
}

/// The fields of a request.
#[derive(Default)]
pub(super) struct Fields(pub(super) HeaderMap);

impl Fields {
    /// One more field, if there is a value for it.
    pub(super) fn add(&mut self, name: &'static str, value: Option<&str>) {
        if let Some(value) = value.and_then(safe) {
            // There is no room for more than 32,768 fields. Nobody has so many.
            let _ = self.0.try_append(HeaderName::from_static(name), value);
        }
    }

    fn add_sender(&mut self, mail: &MailFrom) {
        self.add("from", Some(&format!("<{}>", mail.reverse_path)));
        for (keyword, value) in mail.parameters() {
            let parameter = format!("{keyword}={}", value.unwrap_or_default());
            self.add("x-rspamd-mail-esmtp-args", Some(&parameter));
        }
    }

    fn add_recipient(&mut self, number: usize, rcpt: &RcptTo) {
        self.add("rcpt", Some(&format!("<{}>", rcpt.forward_path)));
        for (keyword, value) in rcpt.parameters() {
            let parameter = format!("{number}:{keyword}={}", value.unwrap_or_default());
            self.add("x-rspamd-rcpt-esmtp-args", Some(&parameter));
        }
    }
}

/// A value of a field of HTTP (RFC 9110 §5.5). None for an empty one.
fn safe(value: &str) -> Option<HeaderValue> {
    let value = value.replace(char::is_control, "?");
    match value.trim() {
        "" => None,
        value => HeaderValue::from_bytes(value.as_bytes()).ok(),
    }
}

#[cfg(test)]
mod tests {
    use postrider_config::HookStage;
    use postrider_smtp::{Notify, Ret, TlsInfo, sasl::Mechanism};

    use super::*;
    use crate::hooks::{
        asked::KnownLogin,
        testing::{asked, client, draft, mail, rcpt},
    };

    fn lines(fields: &HeaderMap) -> Vec<String> {
        let line = |(name, value): (&HeaderName, &HeaderValue)| {
            let value = String::from_utf8(value.as_bytes().to_vec()).unwrap();
            format!("{name}: {value}")
        };
        fields.iter().map(line).collect()
    }

    #[tokio::test]
    async fn a_client_without_anything() {
        let client = client("[::ffff:192.0.2.7]:1");
        let draft = draft("A: b\r\n\r\n").await;
        let asked = Asked {
            draft: Some(&draft),
            ..asked(HookStage::Data, &client)
        };
        let expected = [
            "flags: milter",
            "queue-id: 000000000001.2",
            "mta-name: mx.example.org",
            "ip: 192.0.2.7",
            "from: <a@example.net>",
            "rcpt: <b@example.org>",
            "rcpt: <c@example.org>",
        ];
        assert_eq!(lines(&fields(&asked)), expected);
    }

    #[test]
    fn all_that_is_known_is_told() {
        let mut client = client("[2001:db8::7]:1");
        client.tls = Some(TlsInfo {
            version: "TLSv1.3".into(),
            cipher: "TLS_AES_128_GCM_SHA256".into(),
        });
        let login = KnownLogin {
            user: "j\u{fc}rgen\r\nPass: all\0\u{7f}\u{9b}".into(),
            mechanism: Mechanism::Plain,
        };
        let mut mail = mail("");
        mail.ret = Some(Ret::Full);
        mail.smtputf8 = true;
        let mut recipients = [rcpt("\"a, b\"@\u{fc}.test")];
        recipients[0].notify = Some(Notify::NEVER);
        let asked = Asked {
            helo: Some("mx.example.net"),
            ptr: Some("host.example.net"),
            login: Some(&login),
            mail: Some(&mail),
            recipients: &recipients,
            ..asked(HookStage::Data, &client)
        };
        let expected = [
            "flags: milter",
            "queue-id: 000000000001.2",
            "mta-name: mx.example.org",
            "ip: 2001:db8::7",
            "helo: mx.example.net",
            "hostname: host.example.net",
            "user: j\u{fc}rgen??Pass: all???",
            "tls-version: TLSv1.3",
            "tls-cipher: TLS_AES_128_GCM_SHA256",
            "from: <>",
            "x-rspamd-mail-esmtp-args: RET=FULL",
            "x-rspamd-mail-esmtp-args: SMTPUTF8=",
            "rcpt: <\"a, b\"@xn--tda.test>",
            "x-rspamd-rcpt-esmtp-args: 0:NOTIFY=NEVER",
            "deliver-to: \"a, b\"@xn--tda.test",
        ];
        assert_eq!(lines(&fields(&asked)), expected);
    }

    #[test]
    fn many_recipients_are_cut() {
        let client = client("192.0.2.7:1");
        let recipients = vec![rcpt("a@example.org"); RECIPIENTS_MAX + 1];
        let asked = Asked {
            recipients: &recipients,
            ..asked(HookStage::Data, &client)
        };
        let fields = fields(&asked);
        assert_eq!(fields.get_all("rcpt").iter().count(), RECIPIENTS_MAX);
        assert!(!fields.contains_key("deliver-to"));
    }
}
