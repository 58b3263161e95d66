//! What is kept of a report: a summary, its name, and what it adds to the sums.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    time::Duration,
};

use postrider_config::{Account, DestinationAddress, Dynamic, Static};
use postrider_dns::is_within;
use postrider_smtp::{Address, Domain};
use postrider_store::{
    ArrivedReport, NewReceivedReport, NewSum, NewSums, OTHER_SOURCES, REPORT_SOURCES_MAX,
    ReceivedKind, ReportSum, ReportSummary, ReportedMessage, Time,
};

use super::{
    arf::Feedback,
    dmarc::{self, ActionDisposition},
    fault::{Limit, RANGE_MAX, ReportFault},
    find::{Found, MailReading},
    tls,
};
use crate::{
    network::{Network, Size},
    resolve::{is_report_address, reports_at},
};

/// How far ahead of us the clock of a reporter may be, or its zone.
const AHEAD: Duration = Duration::from_secs(24 * 60 * 60);
/// A day in microseconds.
const DAY: i64 = 24 * 60 * 60 * 1_000_000;
/// The most bytes of a name or an id that are kept.
const TEXT_MAX: usize = 256;
/// The most recipients of a mail that are kept.
const RECIPIENTS_MAX: usize = 100;
/// The most domains of a report that are kept.
const DOMAINS_MAX: usize = 100;

/// The parts of the configuration that say what is ours.
#[derive(Clone, Copy)]
pub(super) struct Ours<'a> {
    pub(super) statics: &'a Static,
    pub(super) config: &'a Dynamic,
}

/// What is kept of a mail that was read. None: it is no report. `sent_by` is the account that sent
/// the message of our queue that the mail complains about.
pub(super) fn kept(
    arrived: &ArrivedReport,
    reading: &MailReading,
    sent_by: Option<&str>,
    ours: Ours<'_>,
) -> Option<NewReceivedReport> {
    let keep_until = arrived.received.after(ours.statics.reports.keep);
    let recipients = arrived.rcpt_to.iter().take(RECIPIENTS_MAX);
    let mut about = ReportSummary {
        kind: ReceivedKind::Dmarc,
        from: reading.from.clone(),
        to: recipients.map(Address::unicode).collect(),
        subject: reading.subject.clone(),
        reporter: arrived.from.as_ref().map_or_else(String::new, domain_of),
        organization: String::new(),
        report_id: String::new(),
        domains: Vec::new(),
        begin: None,
        end: None,
        verified: false,
        error: String::new(),
        passed: 0,
        failed: 0,
        message: None,
    };
    let checked = match reading.report.as_ref()? {
        // A mail to other addresses is a report only if it says so.
        Ok(found) if !arrived.for_reports && found.kind() != ReceivedKind::Arf => return None,
        Ok(Found::Dmarc(report)) => of_dmarc(&mut about, report, ours),
        Ok(Found::Tls(report)) => of_tls(&mut about, report, ours),
        Ok(Found::Arf(report)) => of_arf(&mut about, report, arrived, ours),
        Err(faulty) => {
            about.kind = faulty.kind.unwrap_or_else(|| address_kind(arrived, ours));
            Err(faulty.fault.clone())
        }
    };
    about.verified = match about.kind {
        ReceivedKind::Tls => arrived.signed_for_tls,
        ReceivedKind::Dmarc | ReceivedKind::Arf => arrived.from_passed,
    };
    let keep = ours.statics.reports.keep;
    let checked = checked.and_then(|()| check_range(&about, arrived.received, keep));
    if let Err(fault) = &checked {
        about.error = fault.to_string();
    }
    let mut domains = BTreeSet::from_iter(std::mem::take(&mut about.domains));
    if domains.is_empty() {
        domains = address_domains(arrived, ours);
    }
    if about.kind == ReceivedKind::Arf {
        match domains_of_parties(arrived, sent_by, &domains, ours) {
            Some(parties) => domains.extend(parties),
            None => domains.clear(),
        }
    }
    about.domains = few(domains);
    let is_good = checked.is_ok();
    let sums = match reading.report.as_ref()? {
        Ok(Found::Dmarc(report)) if is_good && about.verified => sums(&about, report, keep),
        _ => None,
    };
    Some(NewReceivedReport {
        name: is_good.then(|| name(&about)).flatten(),
        keep_until,
        sums,
        about,
    })
}

/// Whether a mail was over a limit.
pub(super) const fn is_over_limit(reading: &MailReading) -> bool {
    match &reading.report {
        Some(Err(faulty)) => matches!(faulty.fault, ReportFault::Limit(_)),
        _ => false,
    }
}

fn domain_of(address: &Address) -> String {
    address.host.ascii()
}

fn cut(text: &str) -> String {
    let text = text.trim();
    let end = text.floor_char_boundary(TEXT_MAX);
    text.get(..end).unwrap_or_default().to_owned()
}

/// A name as a domain.
fn parsed(name: &str) -> Option<Domain> {
    Domain::parse(name.trim().trim_end_matches('.')).ok()
}

/// The domain of the configuration that a name is, or is below.
fn our_domain(name: &str, ours: Ours<'_>) -> Option<String> {
    let name = parsed(name)?;
    let mut labels = Some(name.ascii());
    while let Some(rest) = labels {
        let domain = Domain::parse(rest).ok()?;
        if ours.config.domains.contains_key(&domain) {
            return Some(domain.ascii().to_owned());
        }
        labels = rest.split_once('.').map(|(_, rest)| rest);
    }
    None
}

/// The same for reports about TLS. A host of ours is about itself, unless it is a domain.
fn our_domain_or_host(name: &str, ours: Ours<'_>) -> Option<String> {
    let parsed = parsed(name)?;
    if ours.config.domains.contains_key(&parsed) {
        return Some(parsed.ascii().to_owned());
    }
    let listeners = ours.statics.listeners.values();
    let mut hosts = listeners
        .map(|listener| &listener.hostname)
        .chain([&ours.statics.hostname]);
    let host = hosts.find(|host| is_within(parsed.ascii(), host.ascii()));
    match host {
        Some(host) => Some(host.ascii().to_owned()),
        None => our_domain(name, ours),
    }
}

fn foreign(name: &str) -> ReportFault {
    ReportFault::Foreign(cut(name))
}

fn time_of(seconds: u64) -> Option<Time> {
    let micros = i64::try_from(seconds).ok()?.checked_mul(1_000_000)?;
    Some(Time(micros))
}

fn of_dmarc(
    about: &mut ReportSummary,
    report: &dmarc::Report,
    ours: Ours<'_>,
) -> Result<(), ReportFault> {
    let metadata = &report.report_metadata;
    about.kind = ReceivedKind::Dmarc;
    about.organization = cut(&metadata.org_name);
    about.report_id = cut(&metadata.report_id);
    about.begin = time_of(metadata.date_range.begin);
    about.end = time_of(metadata.date_range.end);
    for record in &report.record {
        let count = u64::from(record.row.count);
        match record.row.policy_evaluated.passed() {
            true => about.passed += count,
            false => about.failed += count,
        }
    }
    let domain = &report.policy_published.domain;
    let ours = our_domain(domain, ours).ok_or_else(|| foreign(domain))?;
    about.domains = vec![ours];
    Ok(())
}

fn of_tls(
    about: &mut ReportSummary,
    report: &tls::Report,
    ours: Ours<'_>,
) -> Result<(), ReportFault> {
    about.kind = ReceivedKind::Tls;
    about.organization = cut(&report.organization_name);
    about.report_id = cut(&report.report_id);
    about.begin = moment(&report.date_range.start_datetime);
    about.end = moment(&report.date_range.end_datetime);
    (about.passed, about.failed) = report.sessions();
    let mut domains = BTreeSet::new();
    for policy in &report.policies {
        let name = &policy.policy.policy_domain;
        domains.insert(our_domain_or_host(name, ours).ok_or_else(|| foreign(name))?);
        if domains.len() > DOMAINS_MAX {
            return Err(Limit::Domains.into());
        }
    }
    about.domains = domains.into_iter().collect();
    match about.begin.is_none() || about.end.is_none() {
        true => Err(ReportFault::Without("date-range with dates")),
        false => Ok(()),
    }
}

/// A date of RFC 3339; one without a zone is in UTC.
fn moment(date: &str) -> Option<Time> {
    let date = date.trim();
    let timestamp = date.parse::<jiff::Timestamp>().ok().or_else(|| {
        let civil = date.parse::<jiff::civil::DateTime>().ok()?;
        Some(civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
    })?;
    Some(Time(timestamp.as_microsecond()))
}

fn of_arf(
    about: &mut ReportSummary,
    report: &Feedback,
    arrived: &ArrivedReport,
    ours: Ours<'_>,
) -> Result<(), ReportFault> {
    about.kind = ReceivedKind::Arf;
    about.organization = cut(report.user_agent.as_deref().unwrap_or_default());
    about.begin = report
        .arrival_date
        .and_then(|seconds| seconds.checked_mul(1_000_000))
        .map(Time);
    about.end = about.begin;
    about.failed = 1;
    let sender = report.original_mail_from.clone().unwrap_or_default();
    about.message = Some(ReportedMessage {
        feedback_type: report.feedback_type.as_str().to_owned(),
        source: report
            .source_ip
            .map_or_else(String::new, |ip| ip.to_string()),
        recipients: report.original_rcpt_to.iter().map(|it| cut(it)).collect(),
        queue_id: arrived.queue_id,
        sender: cut(&sender),
    });
    let host = sender.rsplit_once('@').map(|(_, host)| host);
    let named = report.reported_domain.iter().map(String::as_str);
    let signed = report.dkim_domain.as_deref();
    let names = named.chain(signed).chain(host);
    let names: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
    let found = names.iter().filter_map(|name| our_domain(name, ours));
    let found: BTreeSet<String> = found.collect();
    // A complaint about a message of our queue is ours, whatever it names.
    match names.first() {
        Some(first) if found.is_empty() && arrived.queue_id.is_none() => Err(foreign(first)),
        _ => {
            about.domains = found.into_iter().collect();
            Ok(())
        }
    }
}

/// The domains of all who have to do with a report about one message, beside those that it names:
/// of the accounts that got it, and of the account that sent the message. The report has addresses
/// of people, and the message perhaps. So whoever sees one of these domains only must not see it.
/// None: the account that sent the message is gone, so it has none.
fn domains_of_parties(
    arrived: &ArrivedReport,
    sent_by: Option<&str>,
    named: &BTreeSet<String>,
    ours: Ours<'_>,
) -> Option<BTreeSet<String>> {
    let accounts = &ours.config.accounts;
    let mut domains = BTreeSet::new();
    if arrived.queue_id.is_some() {
        domains.extend(domains_of(accounts.get(sent_by?)?));
    }
    for address in &arrived.rcpt_to {
        // The reports about a domain may go to the account of another one.
        if !reported_at(address, ours).is_disjoint(named) {
            continue;
        }
        let account = ours.config.lookup(address);
        let account = account.and_then(|found| accounts.get(found.account()?));
        match account {
            Some(account) => domains.extend(domains_of(account)),
            None => drop(domains.insert(domain_of(address))),
        }
    }
    Some(domains)
}

/// The domains of the addresses of an account.
fn domains_of(account: &Account) -> impl Iterator<Item = String> {
    let destinations = account.destinations.keys();
    let domains = destinations.filter_map(|destination| match destination {
        DestinationAddress::Address(address) => address.host.domain(),
        DestinationAddress::CatchAll(domain) => Some(domain),
    });
    let domains = domains.chain([&account.domain]);
    domains.map(|domain| domain.ascii().to_owned())
}

/// These domains, or none if they are too many. A tenant sees a report if all its domains are of
/// the tenant, so a part of them would show it to others.
fn few(domains: BTreeSet<String>) -> Vec<String> {
    match domains.len() > DOMAINS_MAX {
        true => Vec::new(),
        false => domains.into_iter().collect(),
    }
}

/// Reporters may name any time. Sums are kept by day, so the days have to be few: those for which
/// reports are kept.
fn check_range(about: &ReportSummary, received: Time, keep: Duration) -> Result<(), ReportFault> {
    let (Some(begin), Some(end)) = (about.begin, about.end) else {
        return Ok(());
    };
    if end < begin {
        return Err(ReportFault::Backwards);
    }
    if end > received.after(AHEAD) {
        return Err(ReportFault::Future);
    }
    // People may complain about an old message.
    if about.kind == ReceivedKind::Arf {
        return Ok(());
    }
    if end > begin.after(RANGE_MAX) {
        return Err(ReportFault::Long);
    }
    match end.after(keep) < received {
        true => Err(ReportFault::Old),
        false => Ok(()),
    }
}

/// The domains whose report addresses are among the recipients; if there are none, those of the
/// recipients.
fn address_domains(arrived: &ArrivedReport, ours: Ours<'_>) -> BTreeSet<String> {
    let recipients = arrived.rcpt_to.iter();
    let domains: BTreeSet<String> = recipients
        .clone()
        .flat_map(|address| reported_at(address, ours))
        .collect();
    match domains.is_empty() {
        true => recipients.map(domain_of).collect(),
        false => domains,
    }
}

/// The domains whose reports come to an address.
fn reported_at(address: &Address, ours: Ours<'_>) -> BTreeSet<String> {
    let domains = ours.config.domains.iter();
    let domains = domains.filter(|(_, domain)| {
        let mut reports = domain.dmarc.iter().chain(&domain.tls_rpt);
        reports.any(|report| is_report_address(address, report))
    });
    domains.map(|(name, _)| name.ascii().to_owned()).collect()
}

/// The kind of report that the recipients are for.
fn address_kind(arrived: &ArrivedReport, ours: Ours<'_>) -> ReceivedKind {
    let mut reports = arrived
        .rcpt_to
        .iter()
        .map(|address| reports_at(address, ours.statics, ours.config));
    match reports.any(|reports| reports.dmarc) {
        true => ReceivedKind::Dmarc,
        false => ReceivedKind::Tls,
    }
}

/// The name of a report: who sends it, its id, its domains, its time. What is not verified has
/// names of its own, so that a stranger can't keep out the report of somebody else.
fn name(about: &ReportSummary) -> Option<String> {
    if about.report_id.is_empty() {
        return None;
    }
    let proof = match about.verified {
        true => "verified",
        false => "unverified",
    };
    let begin = about.begin.map_or(0, |time| time.0);
    let parts = [
        about.kind.as_str(),
        proof,
        &about.reporter,
        &about.organization,
        &about.report_id,
        &about.domains.join(","),
    ];
    Some(format!("{} {begin}", parts.join("\n")))
}

/// The network of a source: /24 or /64.
fn network(ip: IpAddr) -> String {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            format!("{a}.{b}.{c}.0/24")
        }
        ip @ IpAddr::V6(_) => Network::of(Size::Address, ip).to_string(),
    }
}

/// The author's domain in ASCII; empty: it is none.
fn author(domain: &str) -> String {
    parsed(domain).map_or_else(String::new, |domain| domain.ascii().to_owned())
}

fn sums(about: &ReportSummary, report: &dmarc::Report, keep: Duration) -> Option<NewSums> {
    let mut rows: HashMap<(String, String), ReportSum> = HashMap::new();
    for record in &report.record {
        let source = record
            .row
            .source_ip
            .map_or_else(|| OTHER_SOURCES.to_owned(), network);
        let from = author(&record.identifiers.header_from);
        let count = u64::from(record.row.count);
        let evaluated = &record.row.policy_evaluated;
        let mut sum = ReportSum {
            messages: count,
            ..ReportSum::default()
        };
        if evaluated.passed() {
            sum.passed = count;
        }
        match evaluated.disposition {
            ActionDisposition::Quarantine => sum.quarantined = count,
            ActionDisposition::Reject => sum.rejected = count,
            ActionDisposition::None | ActionDisposition::Pass | ActionDisposition::Unspecified => {
                sum.none = count;
            }
        }
        rows.entry((source, from)).or_default().add(&sum);
    }
    let mut rows: Vec<NewSum> = rows
        .into_iter()
        .map(|((source, from), sum)| NewSum { source, from, sum })
        .collect();
    rows.sort_by(|one, other| {
        let by_size = other.sum.messages.cmp(&one.sum.messages);
        by_size.then_with(|| (&one.source, &one.from).cmp(&(&other.source, &other.from)))
    });
    let max = usize::try_from(REPORT_SOURCES_MAX).unwrap_or(usize::MAX);
    let others = rows.split_off(rows.len().min(max));
    if !others.is_empty() {
        let mut sum = ReportSum::default();
        others.iter().for_each(|other| sum.add(&other.sum));
        rows.push(NewSum {
            source: OTHER_SOURCES.to_owned(),
            from: String::new(),
            sum,
        });
    }
    let day = about.begin?.day();
    let day_ends = Time((i64::from(day) + 1) * DAY);
    Some(NewSums {
        domain: about.domains.first()?.clone(),
        day,
        reporter: about.reporter.clone(),
        keep_until: day_ends.after(keep),
        rows,
    })
}
