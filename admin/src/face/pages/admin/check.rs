//! Whether the server is set up rightly: this host at once, and the DNS of each domain.

use std::{sync::Arc, time::Duration};

use askama::Template;

use super::super::{
    answer::{Answer, Trouble},
    asked::Asked,
    command::AsCommand,
    frame::Frame,
    shown::counted,
};
use crate::op::{
    config::domains,
    dns::{self, CheckItem, Verdict},
    setup::{Check, SetupItem, State},
};

/// The most domains that are looked at by themselves. A click looks at each of the others.
const AT_ONCE: usize = 10;
/// How long a look at DNS may take. It has a limit of its own, and so has a page.
const DNS_TIME: Duration = Duration::from_secs(28);

#[derive(Template)]
#[template(path = "admin/watch/check.html")]
struct Page {
    frame: Frame,
    /// The worst of this host.
    worst: State,
    rows: Vec<Row>,
    /// The domains, and whether each is looked at by itself.
    domains: Vec<(String, bool)>,
}

struct Row {
    item: SetupItem,
    word: &'static str,
    class: &'static str,
}

/// This host, and the list of the domains.
pub(in super::super) async fn show(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let items = asked.list(Check {}).await?;
    let domains = asked.list(domains::List { domain: None }).await?;
    let domains = domains.into_iter().enumerate();
    let all = [State::Wrong, State::Warning, State::Unknown];
    let has = |state: &State| items.iter().any(|item| item.state == *state);
    Answer::page(&Page {
        frame: asked
            .frame("Is it set up rightly?")
            .with(AsCommand::cli(["config", "test"])),
        worst: all.into_iter().find(has).unwrap_or(State::Ok),
        rows: items.into_iter().map(row).collect(),
        domains: domains.map(|(at, it)| (it.name, at < AT_ONCE)).collect(),
    })
}

impl Page {
    fn is_wrong(&self) -> bool {
        self.worst == State::Wrong
    }

    fn is_right(&self) -> bool {
        matches!(self.worst, State::Ok | State::Unknown)
    }
}

fn row(item: SetupItem) -> Row {
    let (word, class) = match item.state {
        State::Ok => ("right", "good"),
        State::Warning => ("look at it", "warn"),
        State::Wrong => ("wrong", "bad"),
        State::Unknown => ("not known", "soft"),
    };
    Row { item, word, class }
}

/// What DNS says of a domain. A browser with JavaScript puts the part into the page.
#[derive(Template)]
#[template(path = "admin/watch/check_domain.html")]
struct DomainPage {
    frame: Frame,
    part: DomainPart,
}

#[derive(Template)]
#[template(path = "admin/watch/check_part.html")]
struct DomainPart {
    domain: String,
    /// The page of the domain's DNS; empty: there is none.
    dns: String,
    /// The result in words.
    told: String,
    class: &'static str,
    /// What is not right.
    faults: Vec<DnsRow>,
    /// What is right.
    right: Vec<String>,
}

impl askama::filters::HtmlSafe for DomainPart {}

struct DnsRow {
    item: CheckItem,
    word: &'static str,
    class: &'static str,
}

/// Looks at the DNS of a domain.
pub(in super::super) async fn domain(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let domain = asked.element(0).to_owned();
    let check = dns::Check {
        domain: domain.clone(),
    };
    let found = tokio::time::timeout(DNS_TIME, asked.list(check)).await;
    let items = found.map_err(|_| Trouble::Busy(DNS_TIME))??;
    let part = part(&asked, domain, items);
    if asked.browser.htmx {
        return Answer::page(&part);
    }
    let domain = &part.domain;
    let path = format!("/api/dns/check/{domain}");
    let command = AsCommand::cli(["dns", "check", domain]).get(&path);
    Answer::page(&DomainPage {
        frame: asked.frame(&format!("DNS of {domain}")).with(command),
        part,
    })
}

/// What is not right in a sentence, and its class. What DNS does not answer is not known, and
/// therefore not wrong.
fn result(faults: &[CheckItem]) -> (String, &'static str) {
    let (mut wrong, mut unknown, mut left) = (0_u64, 0, 0);
    for item in faults {
        let count = match (item.verdict, item.needed) {
            (Verdict::Error, _) => &mut unknown,
            (_, true) => &mut wrong,
            (_, false) => &mut left,
        };
        *count += 1;
    }
    let told: Vec<String> = [
        (wrong, "thing is wrong", "things are wrong"),
        (unknown, "thing is not known", "things are not known"),
        (left, "thing to look at", "things to look at"),
    ]
    .into_iter()
    .filter(|(count, ..)| *count > 0)
    .map(|(count, one, many)| counted(count, one, many))
    .collect();
    match (wrong, told.is_empty()) {
        (_, true) => ("all is right".to_owned(), "good"),
        (0, false) => (told.join(", "), "warn"),
        (_, false) => (told.join(", "), "bad"),
    }
}

fn part(asked: &Asked, domain: String, items: Vec<CheckItem>) -> DomainPart {
    let (right, faults): (Vec<_>, Vec<_>) = items
        .into_iter()
        .partition(|item| item.verdict == Verdict::Ok);
    let (told, class) = result(&faults);
    let row = |item: CheckItem| {
        let word = match item.verdict {
            Verdict::Ok => "right",
            Verdict::Missing => "missing",
            Verdict::Differs => "differs",
            Verdict::Extra => "extra",
            Verdict::Error => "not known",
        };
        DnsRow {
            word,
            class: match item.verdict {
                Verdict::Error => "soft",
                _ if item.needed => "bad",
                _ => "warn",
            },
            item,
        }
    };
    DomainPart {
        dns: asked.url(&format!("domains/{domain}/dns")),
        domain,
        told,
        class,
        faults: faults.into_iter().map(row).collect(),
        right: right
            .into_iter()
            .map(|item| format!("{} {}", item.check, item.name))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_dns_does_not_answer_is_not_wrong() {
        let item = |(verdict, needed): &(Verdict, bool)| CheckItem {
            record_type: "TXT".to_owned(),
            name: "a.test.".to_owned(),
            wanted: String::new(),
            found: Vec::new(),
            verdict: *verdict,
            advice: String::new(),
            check: "SPF".to_owned(),
            needed: *needed,
        };
        for (items, text, class) in [
            (&[][..], "all is right", "good"),
            (&[(Verdict::Error, true)], "1 thing is not known", "warn"),
            (&[(Verdict::Missing, true)], "1 thing is wrong", "bad"),
            (
                &[
                    (Verdict::Error, true),
                    (Verdict::Differs, true),
                    (Verdict::Error, false),
                    (Verdict::Missing, false),
                ],
                "1 thing is wrong, 2 things are not known, 1 thing to look at",
                "bad",
            ),
        ] {
            let faults: Vec<CheckItem> = items.iter().map(item).collect();
            assert_eq!(result(&faults), (text.to_owned(), class));
        }
    }
}
