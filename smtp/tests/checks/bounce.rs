//! Mail that may be a report: no bytes make the reader panic, and its results are short and on one
//! line.

use postrider_smtp::bounce::{Reading, read};
use postrider_smtp::mime::Limits;

/// Fails where this does not hold.
pub(crate) fn check(data: &[u8]) {
    match read(data, Limits::default()) {
        Reading::Report(report) => {
            assert!(!report.recipients.is_empty() && report.recipients.len() <= 1000);
            assert!(report.result_for("somebody@example.org").is_some());
            for recipient in &report.recipients {
                assert!(
                    recipient.final_recipient.is_some() || recipient.original_recipient.is_some()
                );
                let addresses = [&recipient.final_recipient, &recipient.original_recipient];
                for address in addresses.into_iter().flatten() {
                    assert!(address.contains('@') && !address.contains(char::is_control));
                    assert!(address.chars().count() <= 320, "{address:?}");
                }
                let diagnostic = &recipient.diagnostic;
                assert!(!diagnostic.is_empty() && diagnostic.chars().count() <= 501);
                assert!(!diagnostic.contains(char::is_control), "{diagnostic:?}");
                assert!(recipient.code == 0 || (200..600).contains(&recipient.code));
            }
        }
        Reading::Complaint(complaint) => assert!(complaint.original_rcpt_to.len() <= 100),
        Reading::Unusable(_) | Reading::Other => {}
    }
}
