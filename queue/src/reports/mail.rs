//! A report as a message (RFC 8460 §5.3, RFC 9990 §3.5.2).

use std::io::{self, Write as _};

use base64::{Engine, engine::general_purpose::STANDARD};
use flate2::{Compression, write::GzEncoder};
use postrider_smtp::Address;
use postrider_store::{ReportKind, Time};

use super::{Sender, schedule};
use crate::header::{self, TLS_REQUIRED};

/// The columns of a line of Base64 (RFC 2045 §6.8).
const LINE: usize = 76;

/// A report, as all who get it see it.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) kind: ReportKind,
    pub(super) day: u32,
    /// The domain that it is about.
    pub(super) domain: String,
    /// Its id, which is the same each time that it is sent.
    pub(super) id: String,
    /// The body, compressed.
    pub(super) body: Vec<u8>,
}

/// Compresses a body (RFC 1952).
///
/// # Errors
/// Memory takes all bytes, so there are none.
pub(super) fn compressed(body: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body)?;
    encoder.finish()
}

impl Written {
    /// The subject, which is the same for each copy.
    pub(super) fn subject(&self, sender: &Sender) -> String {
        let (domain, submitter, id) = (&self.domain, &sender.domain, &self.id);
        format!("Report Domain: {domain} Submitter: {submitter} Report-ID: <{id}>")
    }

    /// The name of the file with the body.
    fn file(&self, sender: &Sender) -> String {
        let second = |time: Time| time.timestamp().as_second();
        let begin = second(schedule::begin(self.day));
        let end = second(schedule::last_second(self.day));
        let extension = match self.kind {
            ReportKind::Tls => "json.gz",
            ReportKind::Dmarc => "xml.gz",
        };
        format!(
            "{}!{}!{begin}!{end}.{extension}",
            sender.domain, self.domain
        )
    }

    /// The media type of the body.
    pub(super) const fn media_type(&self) -> &'static str {
        match self.kind {
            ReportKind::Tls => "application/tlsrpt+gzip",
            ReportKind::Dmarc => "application/gzip",
        }
    }

    /// The whole message, with CRLFs. `boundary` has letters and digits only.
    pub(super) fn message(
        &self,
        sender: &Sender,
        to: &Address,
        (message_id, boundary): (&str, &str),
        now: Time,
    ) -> Vec<u8> {
        let (domain, submitter) = (&self.domain, &sender.domain);
        let what = match self.kind {
            ReportKind::Tls => "how TLS went with the mail servers of",
            ReportKind::Dmarc => "what DMARC said of mail in the name of",
        };
        let (kind, fields) = match self.kind {
            // The report must arrive although TLS is broken (RFC 8460 §5.3).
            ReportKind::Tls => (
                "multipart/report; report-type=tlsrpt",
                format!(
                    "TLS-Report-Domain: {domain}\r\n\
                     TLS-Report-Submitter: {submitter}\r\n\
                     {TLS_REQUIRED}: No\r\n"
                ),
            ),
            ReportKind::Dmarc => ("multipart/mixed", String::new()),
        };
        let date = header::date(now);
        let day = schedule::begin(self.day).timestamp();
        let day = day.strftime("%Y-%m-%d");
        let (from, file, media) = (&sender.from, self.file(sender), self.media_type());
        let (id, about) = (&self.id, format!("{what} {domain}"));
        let mut text = format!(
            "From: <{from}>\r\n\
             To: <{to}>\r\n\
             Subject: Report Domain: {domain}\r\n Submitter: {submitter}\r\n Report-ID: <{id}>\r\n\
             Date: {date}\r\n\
             Message-ID: {message_id}\r\n\
             {fields}\
             Auto-Submitted: auto-generated\r\n\
             MIME-Version: 1.0\r\n\
             Content-Type: {kind};\r\n boundary=\"{boundary}\"\r\n\
             \r\n\
             --{boundary}\r\n\
             Content-Type: text/plain; charset=us-ascii\r\n\
             \r\n\
             This is a report of {submitter} on {day} (UTC):\r\n\
             {about}.\r\n\
             The attachment is for programs.\r\n\
             \r\n\
             --{boundary}\r\n\
             Content-Type: {media}\r\n\
             Content-Transfer-Encoding: base64\r\n\
             Content-Disposition: attachment;\r\n filename=\"{file}\"\r\n\
             \r\n"
        );
        let encoded = STANDARD.encode(&self.body);
        let mut rest = encoded.as_str();
        while !rest.is_empty() {
            let (line, behind) = rest.split_at_checked(LINE).unwrap_or((rest, ""));
            text.push_str(line);
            text.push_str("\r\n");
            rest = behind;
        }
        text.push_str(&format!("\r\n--{boundary}--\r\n"));
        text.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use mail_auth::report::{Report, tlsrpt::TlsReport};
    use mail_parser::{MessageParser, MimeHeaders};

    use super::*;

    fn message(kind: ReportKind, body: &[u8]) -> (Vec<u8>, Sender) {
        let sender = Sender {
            domain: "here.test".into(),
            from: "postmaster@here.test".parse().unwrap(),
        };
        let written = Written {
            kind,
            day: 20_000,
            domain: "a.test".into(),
            id: "20241004.1@here.test".into(),
            body: compressed(body).unwrap(),
        };
        let to = "reports@a.test".parse().unwrap();
        let ids = ("<1@here.test>", "boundary1");
        let text = written.message(&sender, &to, ids, Time(1_728_090_000_000_000));
        assert!(
            text.split(|byte| *byte == b'\n')
                .all(|line| line.len() < 200)
        );
        (text, sender)
    }

    #[test]
    fn a_report_about_tls_has_its_form() {
        let body = br#"{"report-id":"x","date-range":{"start-datetime":"2024-10-04T00:00:00Z",
            "end-datetime":"2024-10-04T23:59:59Z"},"policies":[]}"#;
        let (text, _) = message(ReportKind::Tls, body);
        let read = MessageParser::new().parse(&text).unwrap();
        let kind = read.content_type().unwrap();
        assert_eq!(
            (kind.ctype(), kind.subtype()),
            ("multipart", Some("report"))
        );
        assert_eq!(kind.attribute("report-type"), Some("tlsrpt"));
        for (name, value) in [
            ("TLS-Report-Domain", "a.test"),
            ("TLS-Report-Submitter", "here.test"),
            ("TLS-Required", "No"),
            (
                "Subject",
                "Report Domain: a.test Submitter: here.test Report-ID: <20241004.1@here.test>",
            ),
        ] {
            let found = read.header_raw(name).unwrap().replace("\r\n", "");
            assert_eq!(found.trim(), value, "{name}");
        }
        let part = read.attachment(0).unwrap();
        let media = part.content_type().unwrap();
        let media = (media.ctype(), media.subtype());
        assert_eq!(media, ("application", Some("tlsrpt+gzip")));
        let file = "here.test!a.test!1728000000!1728086399.json.gz";
        assert_eq!(part.attachment_name(), Some(file));
        let report = TlsReport::parse_rfc5322(&text, 1 << 20).unwrap();
        assert_eq!(report.report_id, "x");
    }

    #[test]
    fn an_aggregate_report_has_its_form() {
        let body = b"<feedback><report_metadata><org_name>x</org_name></report_metadata>\
                     <policy_published><domain>a.test</domain></policy_published></feedback>";
        let (text, _) = message(ReportKind::Dmarc, body);
        let read = MessageParser::new().parse(&text).unwrap();
        assert!(read.header_raw("TLS-Required").is_none());
        let part = read.attachment(0).unwrap();
        let media = part.content_type().unwrap();
        assert_eq!(
            (media.ctype(), media.subtype()),
            ("application", Some("gzip"))
        );
        let file = "here.test!a.test!1728000000!1728086399.xml.gz";
        assert_eq!(part.attachment_name(), Some(file));
        let report = Report::parse_rfc5322(&text, 1 << 20).unwrap();
        assert_eq!(report.policy_published.domain, "a.test");
    }

    #[test]
    fn the_subject_is_the_same_in_the_queue_and_in_the_message() {
        let (text, sender) = message(ReportKind::Dmarc, b"");
        let written = Written {
            kind: ReportKind::Dmarc,
            day: 20_000,
            domain: "a.test".into(),
            id: "20241004.1@here.test".into(),
            body: Vec::new(),
        };
        let header = header::Header::scan(header::section(&text));
        assert_eq!(header.subject(), written.subject(&sender));
        assert_eq!(header.message_id(), "<1@here.test>");
    }
}
