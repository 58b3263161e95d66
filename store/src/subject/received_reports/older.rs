//! What older versions wrote.
//!
//! Before version 2 of a report, a complaint was of the domains that it names, and not of all
//! accounts that have to do with it. So whoever saw these domains saw addresses of others. Such a
//! complaint is of no domain from now on: only those who see all domains see it.

use serde::Deserialize;

use super::{Op, ReceivedKind, ReceivedReport, ReportSummary};
use crate::table::value::{Unreadable, exactly};

/// A report of version 1. It has the shape of version 2.
#[derive(Deserialize)]
pub(super) struct ReceivedReportV1(ReceivedReport);

impl From<ReceivedReportV1> for ReceivedReport {
    fn from(ReceivedReportV1(mut old): ReceivedReportV1) -> Self {
        hide(&mut old.about);
        old
    }
}

/// Reads an operation of version 1 or 2, which have the shape of version 3.
pub(super) fn operation(version: u8, bytes: &[u8]) -> Result<Op, Unreadable> {
    let mut op = match version {
        1 | 2 => exactly(bytes)?,
        _ => return Err(Unreadable::Older(version)),
    };
    if let Op::Read(read) = &mut op
        && let Some(report) = &mut read.report
    {
        hide(&mut report.about);
    }
    Ok(op)
}

fn hide(about: &mut ReportSummary) {
    if about.kind == ReceivedKind::Arf {
        about.domains.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        TextId,
        subject::{
            Op as AnyOp,
            received_reports::{Read, ReceivedFilter, ReceivedReportId, ReportRoom, tests},
            tag,
        },
        table::value::{Value as _, append},
        tests::samples::at,
    };

    fn shown(report: &ReceivedReport) -> bool {
        let filter = ReceivedFilter {
            domains: Some(["a.test".to_owned()].into()),
            ..ReceivedFilter::default()
        };
        assert!(ReceivedFilter::default().matches(report));
        filter.matches(report)
    }

    #[test]
    fn a_complaint_of_an_older_version_is_of_no_domain() {
        for (kind, version, is_shown) in [
            (ReceivedKind::Arf, 1, false),
            (ReceivedKind::Arf, 2, true),
            (ReceivedKind::Dmarc, 1, true),
            (ReceivedKind::Tls, 1, true),
        ] {
            let mut about = tests::report("x", 1).about;
            about.kind = kind;
            let report = ReceivedReport {
                id: ReceivedReportId(7),
                text: TextId(1),
                size: 8,
                received: at(1),
                keep_until: at(100),
                about,
            };
            let mut bytes = vec![version];
            append(&report, &mut bytes);
            let read = ReceivedReport::decode(&bytes).unwrap();
            assert_eq!(shown(&read), is_shown, "{kind:?} {version}");
        }
    }

    /// It may still be in the journal when the new version starts.
    #[test]
    fn so_is_one_of_an_older_operation() {
        for (version, domains) in [(1, 0), (2, 0), (3, 1)] {
            let mut report = tests::report("x", 1);
            report.about.kind = ReceivedKind::Arf;
            let op = Op::Read(Read {
                id: ReceivedReportId(1),
                report: Some(Box::new(report)),
                room: ReportRoom(1 << 20),
            });
            let mut bytes = vec![tag::received_reports, version];
            append(&op, &mut bytes);
            let AnyOp::ReceivedReports(Op::Read(read)) = AnyOp::decode(&bytes).unwrap() else {
                panic!("another operation");
            };
            let about = read.report.unwrap().about;
            assert_eq!(about.domains.len(), domains, "{version}");
        }
    }
}
