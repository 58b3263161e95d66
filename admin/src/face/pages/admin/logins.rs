//! What became of logins, and failures that are forgotten.

use std::{net::IpAddr, sync::Arc};

use askama::Template;
use postrider_store::{Order, Time};

use super::super::{
    answer::{Answer, Trouble},
    asked::Asked,
    command::AsCommand,
    form::Faults,
    frame::Frame,
    list::{Found, Listing},
    past::filter,
    shown::{Count, When, counted},
};
use crate::{
    AdminError, Code,
    op::{
        login_attempts::{Find, List, LoginItem, Whose},
        logins::Unlock,
    },
};

#[derive(Template)]
#[template(path = "admin/watch/logins.html")]
struct Page {
    frame: Frame,
    /// Names and values of the filter.
    whose: String,
    account: String,
    result: String,
    service: String,
    ip: String,
    since: String,
    is_filtered: bool,
    faults: Faults,
    found: Found<Row>,
    /// The form that forgets failures, as it was typed.
    unlock_account: String,
    unlock_ip: String,
    unlock_faults: Faults,
}

struct Row {
    item: LoginItem,
    last: When,
    first: When,
    count: Count,
    /// The class of the result.
    class: &'static str,
    /// The result in words.
    result: &'static str,
    /// The login failed, so it counts against its account and network.
    failed: bool,
}

/// The logins that match, newest first.
pub(in super::super) async fn list(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let listing = Listing::new(&asked.query);
    match found(&asked, &listing).await {
        Ok(page) => Answer::page(&page),
        Err(error) if error.field.is_some() => {
            let mut page = page(&asked);
            page.faults = Faults::of(&error);
            Answer::again(&page)
        }
        Err(error) => Err(error.into()),
    }
}

fn page(asked: &Asked) -> Page {
    let shown = |name| asked.query.shown(name).to_owned();
    let names = ["whose", "account", "result", "service", "ip", "since"];
    Page {
        frame: asked.frame("Logins"),
        whose: shown("whose"),
        account: shown("account"),
        result: shown("result"),
        service: shown("service"),
        ip: shown("ip"),
        since: shown("since"),
        is_filtered: names.iter().any(|name| asked.query.text(name).is_some()),
        faults: Faults::default(),
        found: Found::default(),
        unlock_account: asked.form.shown("unlock_account").to_owned(),
        unlock_ip: asked.form.shown("unlock_ip").to_owned(),
        unlock_faults: Faults::default(),
    }
}

async fn found(asked: &Asked, listing: &Listing) -> Result<Page, AdminError> {
    let query = &asked.query;
    let text = |name| query.text(name).map(str::to_owned);
    let of = match (text("account"), query.text("whose")) {
        (Some(account), _) => Some(Whose::Account(account)),
        (None, Some("admin")) => Some(Whose::Admin),
        (None, Some("nobody")) => Some(Whose::Nobody),
        (None, _) => None,
    };
    let which = List {
        of,
        result: text("result"),
        service: text("service"),
        since: filter::past(query, "since", asked.now())?,
        after: listing.after(),
        limit: Some(listing.limit()),
    };
    let ip = query.parsed::<IpAddr>("ip", "an IP address")?;
    let mut page = page(asked);
    // The command has no address.
    if ip.is_none() {
        page.frame = page.frame.with(command(&which));
    }
    let found = asked.run(Find {
        which,
        order: listing.order(Order::Descending),
        ip,
    });
    let (found, now) = (found.await?, asked.now());
    page.found = listing.found(found, now, |item| item.id, |item| row(item, now));
    Ok(page)
}

fn command(which: &List) -> AsCommand {
    let since = which.since.map(|time| time.to_string());
    let command = AsCommand::cli(["login", "list"]);
    let command = match &which.of {
        None => command,
        Some(Whose::Admin) => command.word("--admin"),
        Some(Whose::Nobody) => command.word("--nobody"),
        Some(Whose::Account(account)) => command.option("--account", Some(account)),
    };
    command
        .option("--result", which.result.as_deref())
        .option("--service", which.service.as_deref())
        .option("--after", since.as_deref())
}

fn row(item: LoginItem, now: Time) -> Row {
    let (class, result) = match item.result.as_str() {
        "ok" => ("good", "right"),
        "wrong" => ("bad", "wrong"),
        "disabled" => ("bad", "disabled"),
        "weak" => ("bad", "right password, without the code that is needed too"),
        "limited" => ("warn", "refused: too many failures"),
        "unavailable" => ("warn", "not checked: try again"),
        _ => ("bad", "malformed"),
    };
    Row {
        last: When::new(&item.last, now),
        first: When::new(&item.first, now),
        count: Count(item.count),
        class,
        result,
        failed: matches!(item.result.as_str(), "wrong" | "limited" | "weak"),
        item,
    }
}

/// Forgets failures.
pub(in super::super) async fn unlock(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    match unlocked(&asked).await {
        Ok(told) => Ok(asked.done(told, "logins")),
        Err(error) if matches!(error.code, Code::Invalid | Code::NotFound) => {
            let mut page = page(&asked);
            page.unlock_faults = Faults::of(&named(error));
            Answer::again(&page)
        }
        Err(error) => Err(error.into()),
    }
}

async fn unlocked(asked: &Asked) -> Result<String, AdminError> {
    let account = asked.form.text("unlock_account").map(str::to_owned);
    let ip = asked.form.parsed::<IpAddr>("unlock_ip", "an IP address")?;
    let of = match (&account, ip) {
        (Some(account), Some(ip)) => format!("of {account} from {ip}"),
        (Some(account), None) => format!("of {account}"),
        (None, Some(ip)) => format!("from {ip}"),
        (None, None) => String::new(),
    };
    let unlocked = asked.run(Unlock { account, ip }).await?;
    let counts = counted(unlocked.counts, "count is", "counts are");
    Ok(format!(
        "{counts} forgotten. The next login {of} is checked again."
    ))
}

/// The fields of the form have names of their own, since the filter has them too.
fn named(mut error: AdminError) -> AdminError {
    let field = error.field.take().map(|field| match field.as_str() {
        "account" => "unlock_account".to_owned(),
        "ip" => "unlock_ip".to_owned(),
        _ => field,
    });
    error.field = field;
    error
}
