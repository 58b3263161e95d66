//! Reports that came in: about DMARC, about TLS, and about single messages.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use askama::Template;
use postrider_smtp::{Address, Domain};
use postrider_store::{Order, QueueId, Time};

use super::{
    super::{
        answer::{Answer, Trouble},
        asked::Asked,
        command::{self, AsCommand},
        form,
        frame::Frame,
        list::{Links, Listing},
        shown::{Count, When},
    },
    bar::Bar,
};
use crate::{
    AdminError, Code,
    op::{
        config::domains,
        messages::Get,
        received::{
            List, ReceivedReportItem, ReceivedSelection, ReceivedType, ReportSumItem,
            ReportedMessageItem, Sums, SumsBy,
        },
        suppression::{Find, Wanted},
    },
};

/// The periods of the sums: days, and what they are called.
const PERIODS: [(u64, &str); 4] = [
    (7, "7 days"),
    (30, "30 days"),
    (90, "90 days"),
    (365, "a year"),
];
/// The most domains with a bar.
const DOMAINS: usize = 100;
/// The most sources of a domain.
const SOURCES: usize = 200;
/// The most reports about TLS that are summed up.
const SUMMED: usize = 2000;
/// The most entries of a suppressed address.
const ENTRIES: usize = 20;
/// The links between the three kinds.
pub(super) const KINDS: [(&str, &str); 3] =
    [("dmarc", "DMARC"), ("tls", "TLS"), ("arf", "Complaints")];

#[derive(Template)]
#[template(path = "admin/watch/reports.html")]
struct Page {
    frame: Frame,
    kind: &'static str,
    kinds: [(&'static str, &'static str); 3],
    text: String,
    domain: String,
    /// The chosen period.
    days: u64,
    periods: [(u64, &'static str); 4],
    /// Sums by domain, or by day for one domain.
    sums: Vec<Sum>,
    /// There are more domains, or more reports about TLS.
    is_cut: bool,
    sources: Vec<Source>,
    reporters: Vec<Sum>,
    rows: Vec<Row>,
    links: Links,
}

/// What passed and what failed of something.
struct Sum {
    name: String,
    bar: Bar,
}

/// The messages of a network.
struct Source {
    item: ReportSumItem,
    bar: Bar,
    none: Count,
    quarantined: Count,
    rejected: Count,
}

struct Row {
    item: ReceivedReportItem,
    /// What is known of the recipient that complained.
    suppressed: Vec<Suppressed>,
    received: When,
    bar: Bar,
    /// What it is about: `2026-11-28 to 2026-11-29`.
    period: String,
}

/// The kind in the path.
pub(super) fn kind(asked: &Asked) -> Result<(ReceivedType, &'static str), Trouble> {
    let name = asked.element(0);
    let known = KINDS.iter().find(|(known, _)| *known == name);
    let (name, _) = known.ok_or(Trouble::NoPage)?;
    let kind = ReceivedType::named(name).ok_or(Trouble::NoPage)?;
    Ok((kind, name))
}

/// The title of the pages of a kind.
pub(super) fn title(kind: ReceivedType) -> &'static str {
    match kind {
        ReceivedType::Dmarc => "DMARC reports",
        ReceivedType::Tls => "TLS reports",
        ReceivedType::Arf => "Complaints",
    }
}

/// The sums, and the reports that match, newest first.
pub(in super::super) async fn list(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let (kind, name) = kind(&asked)?;
    let listing = Listing::new(&asked.query);
    let text = asked.query.text("text").map(str::to_owned);
    let filter = ReceivedSelection {
        kind: Some(kind),
        text: text.clone(),
        ..ReceivedSelection::default()
    };
    let found = asked.list(List {
        filter,
        after: listing.after(),
        order: listing.order(Order::Descending),
        limit: Some(listing.limit()),
    });
    let (items, links) = listing.arrange(found.await?, |item| item.id.to_string());
    let days = asked
        .query
        .parsed("days", "a number of days")
        .ok()
        .flatten();
    let known = |days: &u64| PERIODS.iter().any(|(known, _)| known == days);
    let days = days.filter(known).unwrap_or(30);
    let call = command::path(
        &format!("/api/reports/{name}"),
        &[("text", text.as_deref())],
    );
    let command = AsCommand::cli(["report", "list", "--type", name])
        .option("--text", text.as_deref())
        .get(&call);
    let now = asked.now();
    let mut page = Page {
        frame: asked.frame(title(kind)).with(command),
        kind: name,
        kinds: KINDS,
        text: text.unwrap_or_default(),
        domain: asked.query.text("domain").unwrap_or_default().to_owned(),
        days,
        periods: PERIODS,
        sums: Vec::new(),
        is_cut: false,
        sources: Vec::new(),
        reporters: Vec::new(),
        rows: Vec::new(),
        links,
    };
    for item in items {
        let suppressed = suppressed(&asked, item.message.as_ref(), 0).await?;
        page.rows.push(row(item, suppressed, now));
    }
    let since = now.before(Duration::from_secs(days * 86_400));
    match kind {
        ReceivedType::Dmarc => dmarc(&asked, &mut page, since).await?,
        ReceivedType::Tls => tls(&asked, &mut page, since).await?,
        ReceivedType::Arf => {}
    }
    Answer::page(&page)
}

/// Whether an address is suppressed now.
pub(super) struct Suppressed {
    pub(super) address: String,
    /// For which accounts, and the query of the list of the entries. None: it is not.
    pub(super) entries: Option<(String, String)>,
}

/// Whether the recipient of a reported message is suppressed now, for the account that sent the
/// message. Of a message that is not found here, so many recipients are looked up for all accounts.
/// A report about no message tells of none.
pub(super) async fn suppressed(
    asked: &Asked,
    message: Option<&ReportedMessageItem>,
    recipients: usize,
) -> Result<Vec<Suppressed>, AdminError> {
    let Some(message) = message else {
        return Ok(Vec::new());
    };
    let found = match message.queue_id {
        None => None,
        Some(id) => match asked.run(Get { id: QueueId(id) }).await {
            Ok(found) => Some(found.message),
            Err(error) if error.code == Code::NotFound => None,
            Err(error) => return Err(error),
        },
    };
    if let Some(found) = found {
        return Ok(vec![look_up(asked, Some(found.account), found.to).await?]);
    }
    let mut looked_up = Vec::new();
    for address in message.recipients.iter().take(recipients) {
        if Address::parse(address).is_ok() {
            looked_up.push(look_up(asked, None, address.clone()).await?);
        }
    }
    Ok(looked_up)
}

/// Whether an address is suppressed for an account, or for any.
async fn look_up(
    asked: &Asked,
    account: Option<String>,
    address: String,
) -> Result<Suppressed, AdminError> {
    let mut query = vec![("text", address.as_str())];
    query.extend(account.as_deref().map(|account| ("account", account)));
    let query = form::query(query);
    let find = Find {
        which: Wanted {
            account,
            text: Some(address.clone()),
            ..Wanted::default()
        },
        order: Order::Ascending,
        after: None,
        limit: ENTRIES,
    };
    let found = asked.run(find).await?.items;
    let accounts: BTreeSet<&str> = found.iter().map(|entry| entry.account.as_str()).collect();
    let accounts: Vec<&str> = accounts.into_iter().collect();
    Ok(Suppressed {
        address,
        entries: (!found.is_empty()).then(|| (accounts.join(", "), query)),
    })
}

fn row(item: ReceivedReportItem, suppressed: Vec<Suppressed>, now: Time) -> Row {
    let date = |time: &Option<String>| {
        let time = time.as_deref().unwrap_or_default();
        time.get(..10).unwrap_or_default().to_owned()
    };
    let (begin, end) = (date(&item.begin), date(&item.end));
    Row {
        suppressed,
        received: When::new(&item.received, now),
        bar: Bar::new(item.passed, item.failed),
        period: match begin == end || end.is_empty() {
            true => begin,
            false => format!("{begin} to {end}"),
        },
        item,
    }
}

/// A domain in ASCII, as sums have it.
fn ascii(domain: String) -> String {
    match Domain::parse(&domain) {
        Ok(domain) => domain.ascii().to_owned(),
        Err(_) => domain,
    }
}

/// The sums about DMARC: of each domain, or of one by day, network and reporter.
async fn dmarc(asked: &Asked, page: &mut Page, since: Time) -> Result<(), Trouble> {
    let sums = |domain: &str, by| Sums {
        domain: Some(domain.to_owned()),
        since: Some(since),
        by,
        ..Sums::default()
    };
    if page.domain.is_empty() {
        let mut domains = asked.list(domains::List { domain: None }).await?;
        page.is_cut = domains.len() > DOMAINS;
        domains.truncate(DOMAINS);
        for domain in domains {
            let name = ascii(domain.name);
            let days = asked.list(sums(&name, SumsBy::Day)).await?;
            let passed = days.iter().map(|sum| sum.passed).sum();
            let failed = days.iter().map(|sum| sum.failed).sum();
            page.sums.push(Sum {
                name,
                bar: Bar::new(passed, failed),
            });
        }
        return Ok(());
    }
    let domain = ascii(page.domain.clone());
    let named = |name: Option<String>, item: &ReportSumItem| Sum {
        name: name.unwrap_or_default(),
        bar: Bar::new(item.passed, item.failed),
    };
    let days = asked.list(sums(&domain, SumsBy::Day)).await?;
    page.sums = days
        .iter()
        .rev()
        .map(|it| named(it.day.clone(), it))
        .collect();
    let reporters = asked.list(sums(&domain, SumsBy::Reporter)).await?;
    let reporters = reporters.iter().take(SOURCES);
    page.reporters = reporters.map(|it| named(it.reporter.clone(), it)).collect();
    let sources = asked.list(sums(&domain, SumsBy::Source)).await?;
    page.is_cut = sources.len() > SOURCES;
    let source = |item: ReportSumItem| Source {
        bar: Bar::new(item.passed, item.failed),
        none: Count(item.none),
        quarantined: Count(item.quarantined),
        rejected: Count(item.rejected),
        item,
    };
    page.sources = sources.into_iter().take(SOURCES).map(source).collect();
    let days = format!("-{}d", page.days);
    let path = command::path(
        "/api/reports/dmarc/sums",
        &[
            ("domain", Some(&domain)),
            ("after", Some(&since.to_string())),
        ],
    );
    let command = AsCommand::cli(["report", "sums", &domain])
        .option("--after", Some(&days))
        .get(&path);
    page.frame = page.frame.clone().with(command);
    Ok(())
}

/// The sessions of each domain, as the newest reports tell.
async fn tls(asked: &Asked, page: &mut Page, since: Time) -> Result<(), Trouble> {
    let reports = asked.list(List {
        filter: ReceivedSelection {
            kind: Some(ReceivedType::Tls),
            readable: true,
            ..ReceivedSelection::default()
        },
        limit: Some(SUMMED),
        ..List::default()
    });
    let reports = reports.await?;
    page.is_cut = reports.len() == SUMMED;
    let is_new = |time: &Option<String>| {
        let time = time.as_deref().and_then(|time| time.parse().ok());
        time.is_some_and(|time: jiff::Timestamp| Time::from(time) >= since)
    };
    let mut sums: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for report in reports {
        if !report.verified || !is_new(&report.end) {
            continue;
        }
        let in_one = match page.domain.is_empty() {
            true => report.domains.join(", "),
            false if report.domains.contains(&page.domain) => {
                let day = report.end.unwrap_or_default();
                day.get(..10).unwrap_or_default().to_owned()
            }
            false => continue,
        };
        let sum = sums.entry(in_one).or_default();
        sum.0 += report.passed;
        sum.1 += report.failed;
    }
    let sum = |(name, (passed, failed)): (String, (u64, u64))| Sum {
        name,
        bar: Bar::new(passed, failed),
    };
    page.sums = sums.into_iter().map(sum).collect();
    if !page.domain.is_empty() {
        page.sums.reverse();
    }
    Ok(())
}
