//! Mails for reports, and what is kept of them.

mod hostile;
mod samples;
mod work;

use std::sync::Arc;

use arc_swap::ArcSwap;
use postrider_config::{Dynamic, Static};
use postrider_smtp::Address;
use postrider_store::{
    ArrivedReport, ManualClock, NewReceivedReport, ReceivedReportId, Store, TextId, Time,
};

use super::{
    ReportsParts,
    fault::Patience,
    find::{self, MailReading},
    summary::{self, Ours},
};

const STATICS: &str = r#"
hostname = "mail.example.org"
data_dir = "data"
[postmaster]
account = "ann"
[host_tls_rpt]
account = "ann"
[listeners.local]
ips = ["127.0.0.1"]
smtp = { port = 25 }
"#;

const DYNAMICS: &str = r#"
[domains."example.com"]
dmarc = { account = "ann" }
tls_rpt = { account = "ann" }
[domains."other.test"]
[domains."third.test"]
[accounts.ann]
domain = "example.com"
destinations = { "ann@example.com" = {}, "fbl@example.com" = {} }
[accounts.bob]
domain = "other.test"
destinations = { "bob@other.test" = {} }
[accounts.eve]
domain = "third.test"
destinations = { "eve@third.test" = {}, "eve@other.test" = {} }
"#;

/// The time at which all mails come in: 2023-11-16.
pub(super) const NOW: Time = Time(1_700_103_600_000_000);

pub(super) fn parts() -> ReportsParts {
    let statics = Static::parse(STATICS, "postrider.conf").unwrap();
    let dynamic = Dynamic::parse(DYNAMICS, "domains.conf", &statics).unwrap();
    ReportsParts {
        store: Store::memory(),
        statics: Arc::new(statics),
        config: Arc::new(ArcSwap::from_pointee(dynamic)),
        clock: Arc::new(ManualClock::new(NOW)),
        metrics: Arc::default(),
        tracer: postrider_observe::Tracer::off(),
    }
}

/// A mail to this address, whose author is proven in each way.
pub(super) fn arrived(to: &str, from: Option<&str>) -> ArrivedReport {
    let address = |text| Address::parse(text).unwrap();
    ArrivedReport {
        id: ReceivedReportId(1),
        text: TextId(1),
        size: 1000,
        received: NOW,
        rcpt_to: vec![address(to)],
        for_reports: to.contains("reports@"),
        from: from.map(address),
        from_passed: true,
        signed_for_tls: true,
        queue_id: None,
    }
}

pub(super) fn read(mail: &[u8]) -> MailReading {
    let never = || false;
    let limits = postrider_smtp::mime::Limits::default();
    find::read(mail, mail.len() as u64, limits, Patience::until(&never))
}

/// What is kept of a mail to the address in its To field. If it is about a message of our queue,
/// ann sent that.
pub(super) fn kept(
    mail: &[u8],
    change: impl FnOnce(&mut ArrivedReport),
) -> Option<NewReceivedReport> {
    let header = postrider_queue::header::Header::scan(postrider_queue::header::section(mail));
    let from = header.from().map(ToString::to_string);
    let text = String::from_utf8_lossy(mail);
    let to = text.lines().find_map(|line| line.strip_prefix("To: "));
    let mut arrived = arrived(to.unwrap().trim(), from.as_deref());
    change(&mut arrived);
    let parts = parts();
    let config = parts.config.load_full();
    let ours = Ours {
        statics: &parts.statics,
        config: &config,
    };
    summary::kept(&arrived, &read(mail), Some("ann"), ours)
}
