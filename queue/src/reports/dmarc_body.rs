//! The body of an aggregate report about DMARC (RFC 9990 §3.1): XML. Programs that only know RFC
//! 7489 read it too: what is new are further elements.

use std::fmt::{self, Write as _};

use postrider_store::{DmarcCount, DmarcPublished, DmarcResults};

use super::{Sender, schedule};

/// The program that writes reports.
pub(super) const GENERATOR: &str = concat!("postrider ", env!("CARGO_PKG_VERSION"));

/// Writes a report.
pub(super) fn write(
    (day, domain): (u32, &str),
    results: &DmarcResults,
    sender: &Sender,
    id: &str,
) -> Vec<u8> {
    let mut xml = Xml::new();
    xml.text.push_str(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <feedback xmlns=\"urn:ietf:params:xml:ns:dmarc-2.0\">\n",
    );
    xml.field("version", "1.0");
    xml.inside("report_metadata", |xml| {
        xml.field("org_name", &sender.domain);
        xml.field("email", &sender.from);
        xml.field("report_id", id);
        xml.inside("date_range", |xml| {
            xml.field("begin", schedule::begin(day).timestamp().as_second());
            xml.field("end", schedule::last_second(day).timestamp().as_second());
        });
        xml.field("generator", GENERATOR);
    });
    xml.inside("policy_published", |xml| {
        published(xml, domain, &results.published);
    });
    for count in &results.counts {
        xml.inside("record", |xml| record(xml, count));
    }
    xml.text.push_str("</feedback>\n");
    xml.text.into_bytes()
}

fn published(xml: &mut Xml, domain: &str, published: &DmarcPublished) {
    let mode = |strict: bool| if strict { "s" } else { "r" };
    let [policy, below, missing] = published.in_force();
    xml.field("domain", domain);
    xml.field("discovery_method", "treewalk");
    xml.field("p", policy.name());
    xml.field("sp", below.name());
    xml.field("np", missing.name());
    xml.field("adkim", mode(published.dkim_strict));
    xml.field("aspf", mode(published.spf_strict));
    xml.field("testing", if published.testing { "y" } else { "n" });
}

fn record(xml: &mut Xml, count: &DmarcCount) {
    let row = &count.row;
    let result = |passed: bool| if passed { "pass" } else { "fail" };
    xml.inside("row", |xml| {
        xml.field("source_ip", row.source.to_canonical());
        xml.field("count", count.count);
        xml.inside("policy_evaluated", |xml| {
            xml.field("disposition", row.disposition.name());
            xml.field("dkim", result(row.dkim_aligned));
            xml.field("spf", result(row.spf_aligned));
            for (kind, comment) in &row.overrides {
                xml.inside("reason", |xml| {
                    xml.field("type", kind.name());
                    if !comment.is_empty() {
                        xml.field("comment", comment);
                    }
                });
            }
        });
    });
    xml.inside("identifiers", |xml| {
        xml.field("header_from", &row.header_from);
        xml.field("envelope_from", &row.envelope_from);
        xml.field("envelope_to", &row.envelope_to);
    });
    xml.inside("auth_results", |xml| {
        for signature in &row.dkim {
            xml.inside("dkim", |xml| {
                xml.field("domain", &signature.domain);
                xml.field("selector", &signature.selector);
                xml.field("result", &signature.result);
            });
        }
        if let Some((domain, result)) = &row.spf {
            xml.inside("spf", |xml| {
                xml.field("domain", domain);
                // The only scope there is: a null reverse-path stands for the name in HELO.
                xml.field("scope", "mfrom");
                xml.field("result", result);
            });
        }
    });
}

/// A writer of XML. All contents are escaped.
struct Xml {
    text: String,
    depth: usize,
}

impl Xml {
    const fn new() -> Self {
        Self {
            text: String::new(),
            depth: 1,
        }
    }

    fn indent(&mut self) {
        for _ in 0..self.depth {
            self.text.push_str("  ");
        }
    }

    fn inside(&mut self, name: &str, write: impl FnOnce(&mut Self)) {
        self.indent();
        self.tag(name, "<");
        self.text.push('\n');
        self.depth += 1;
        write(self);
        self.depth -= 1;
        self.indent();
        self.tag(name, "</");
        self.text.push('\n');
    }

    fn field(&mut self, name: &str, value: impl fmt::Display) {
        self.indent();
        self.tag(name, "<");
        // Writing to memory does not fail.
        let _ = write!(Escaped(&mut self.text), "{value}");
        self.tag(name, "</");
        self.text.push('\n');
    }

    fn tag(&mut self, name: &str, start: &str) {
        self.text.push_str(start);
        self.text.push_str(name);
        self.text.push('>');
    }
}

/// Escapes what is written. XML 1.0 has no form for most control characters: they become `?`.
struct Escaped<'a>(&'a mut String);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for letter in text.chars() {
            match letter {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&apos;"),
                '\t' => self.0.push(' '),
                letter if letter.is_control() => self.0.push('?'),
                '\u{fffe}' | '\u{ffff}' => self.0.push('?'),
                letter => self.0.push(letter),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use mail_auth::report::{
        ActionDisposition, Alignment, Discovery, Disposition, DkimResult, DmarcResult,
        PolicyOverride, Report, SpfResult,
    };
    use postrider_store::{DmarcAction, DmarcOverride, DmarcRow, DmarcSignature};
    use proptest::prelude::*;

    use super::*;

    pub(in super::super) fn sender() -> Sender {
        Sender {
            domain: "here.test".into(),
            from: "postmaster@here.test".parse().unwrap(),
        }
    }

    pub(in super::super) fn results(selector: &str, comment: &str) -> DmarcResults {
        let row = DmarcRow {
            source: "::ffff:192.0.2.9".parse().unwrap(),
            disposition: DmarcAction::Quarantine,
            dkim_aligned: false,
            spf_aligned: false,
            overrides: vec![(DmarcOverride::MailingList, comment.into())],
            header_from: "mail.a.test".into(),
            envelope_from: "b.test".into(),
            envelope_to: "here.test".into(),
            dkim: vec![DmarcSignature {
                domain: "a.test".into(),
                selector: selector.into(),
                result: "fail".into(),
            }],
            spf: Some(("b.test".into(), "softfail".into())),
        };
        let passed = DmarcRow {
            source: "2001:db8::1".parse().unwrap(),
            disposition: DmarcAction::Pass,
            dkim_aligned: true,
            spf_aligned: true,
            overrides: Vec::new(),
            envelope_from: String::new(),
            dkim: Vec::new(),
            spf: None,
            ..row.clone()
        };
        let count = |row, count| DmarcCount { row, count };
        DmarcResults {
            published: DmarcPublished {
                policy: Some(DmarcAction::Reject),
                below: Some(DmarcAction::Quarantine),
                missing: None,
                dkim_strict: true,
                spf_strict: false,
                testing: true,
            },
            counts: vec![count(row, 3), count(passed, 1)],
        }
    }

    fn read(results: &DmarcResults) -> Report {
        let xml = write((20_000, "a.test"), results, &sender(), "id1");
        let text = String::from_utf8(xml).unwrap();
        Report::parse_xml(text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    #[test]
    fn a_report_is_what_another_program_reads() {
        let report = read(&results("s1", "a list"));
        assert_eq!(report.version, 1.0);
        let about = &report.report_metadata;
        assert_eq!(about.org_name, "here.test");
        assert_eq!(about.email, "postmaster@here.test");
        assert_eq!(about.report_id, "id1");
        let range = (about.date_range.begin, about.date_range.end);
        assert_eq!(range, (1_728_000_000, 1_728_086_399));
        assert!(
            about
                .generator
                .as_deref()
                .unwrap()
                .starts_with("postrider ")
        );
        let policy = &report.policy_published;
        assert_eq!(policy.domain, "a.test");
        assert_eq!(policy.p, Disposition::Reject);
        assert_eq!(policy.sp, Disposition::Quarantine);
        assert_eq!(policy.np, Disposition::Quarantine);
        assert_eq!(
            (policy.adkim, policy.aspf),
            (Alignment::Strict, Alignment::Relaxed)
        );
        assert!(policy.testing && policy.discovery_method == Discovery::Treewalk);
        let [failed, passed] = report.record.as_slice() else {
            panic!("{report:?}");
        };
        assert_eq!(failed.row.source_ip, Some([192, 0, 2, 9].into()));
        assert_eq!(failed.row.count, 3);
        let evaluated = &failed.row.policy_evaluated;
        assert_eq!(evaluated.disposition, ActionDisposition::Quarantine);
        assert_eq!(
            (evaluated.dkim, evaluated.spf),
            (DmarcResult::Fail, DmarcResult::Fail)
        );
        assert_eq!(evaluated.reason[0].type_, PolicyOverride::MailingList);
        assert_eq!(evaluated.reason[0].comment.as_deref(), Some("a list"));
        assert_eq!(failed.identifiers.header_from, "mail.a.test");
        assert_eq!(failed.identifiers.envelope_from, "b.test");
        assert_eq!(failed.identifiers.envelope_to.as_deref(), Some("here.test"));
        assert_eq!(failed.auth_results.dkim[0].selector, "s1");
        assert_eq!(failed.auth_results.dkim[0].result, DkimResult::Fail);
        assert_eq!(failed.auth_results.spf[0].result, SpfResult::SoftFail);
        assert_eq!(
            passed.row.policy_evaluated.disposition,
            ActionDisposition::Pass
        );
        assert_eq!(passed.row.policy_evaluated.dkim, DmarcResult::Pass);
        assert_eq!(passed.identifiers.envelope_from, "");
        assert!(passed.auth_results.dkim.is_empty() && passed.auth_results.spf.is_empty());
    }

    proptest! {
        /// A stranger chooses selectors and domains.
        #[test]
        fn no_content_breaks_out_of_its_element(
            selector in "([<>&'\"/a-z]|</selector>|\\PC|[\u{0}-\u{20}]){0,12}",
        ) {
            let report = read(&results(&selector, &selector));
            prop_assert_eq!(report.record.len(), 2);
            let found = &report.record[0].auth_results.dkim[0].selector;
            let cleaned: String = selector.chars().map(|letter| match letter {
                '\t' => ' ',
                letter if letter.is_control() => '?',
                '\u{fffe}' | '\u{ffff}' => '?',
                letter => letter,
            }).collect();
            let squeezed = |text: &str| text.split_whitespace().collect::<String>();
            prop_assert_eq!(squeezed(found), squeezed(&cleaned));
        }
    }
}
