//! Suppressions: the addresses that accounts do not send to.

use std::sync::Arc;

use askama::Template;
use axum::http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use postrider_store::{Order, SuppressionId};
use serde_json::json;

use super::{
    super::{
        answer::{Answer, Trouble},
        asked::Asked,
        command::{self, AsCommand},
        confirm::Confirm,
        form::{self, Faults, Fields},
        frame::Frame,
        list::{Found, Listing},
        shown::When,
        webapi,
    },
    filter::{self, Filter, Input, is_holder},
    history::yes,
    streamed::{self, CSV},
};
use crate::{
    AdminError, Code, csv,
    op::suppression::{Add, Find, List, Lookup, Remove, SuppressionItem, Wanted, import},
};

/// The path of the list.
pub(super) const HERE: &str = "suppressions";

/// Who added an entry, as choices.
const BY: [(&str, &str); 3] = [
    ("", "Anyone"),
    ("true", "A person"),
    ("false", "The server"),
];

/// Which entries the fields ask for.
pub(super) fn wanted(asked: &Asked, fields: &Fields) -> Result<Wanted, AdminError> {
    Ok(Wanted {
        account: filter::account(asked, fields),
        text: fields.text("text").map(str::to_owned),
        list: fields.text("list").map(str::to_owned),
        manual: fields.parsed("manual", "true or false")?,
    })
}

/// The command that lists the same.
fn lists(asked: &Asked, which: &Wanted) -> AsCommand {
    if is_holder(asked) {
        // The call gives all entries.
        let all = Wanted {
            account: filter::scope(asked),
            ..Wanted::default()
        };
        return match *which == all {
            true => webapi::v0(asked, "SuppressionList", &json!({})),
            false => AsCommand::none(),
        };
    }
    let given = [
        ("account", which.account.as_deref()),
        ("text", which.text.as_deref()),
        ("list", which.list.as_deref()),
        ("manual", which.manual.map(yes)),
    ];
    let command = AsCommand::cli(["queue", "suppress", "list"]);
    let command = given.iter().fold(command, |command, (name, value)| {
        command.option(&format!("--{name}"), *value)
    });
    command.get(&command::path("/api/queue/suppressions", &given))
}

#[derive(Template)]
#[template(path = "past/suppressions.html")]
struct Page {
    frame: Frame,
    filter: Filter,
    faults: Faults,
    found: Found<Row>,
    /// The query of the filter.
    query: String,
    /// The query of the export: the account.
    export: String,
    is_holder: bool,
    is_filtered: bool,
}

struct Row {
    item: SuppressionItem,
    since: When,
    /// None: for ever.
    until: Option<When>,
    /// The query of the page that removes it.
    remove: String,
}

impl Row {
    fn new(item: SuppressionItem, asked: &Asked) -> Self {
        let remove = form::query([
            ("account", item.account.as_str()),
            ("address", &item.base_address),
            ("list", &item.list),
        ]);
        let now = asked.now();
        Self {
            since: When::new(&item.created, now),
            until: item.expires.as_ref().map(|time| When::new(time, now)),
            remove,
            item,
        }
    }
}

/// The entries, newest first.
pub(in super::super) async fn list(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let (which, faults) = match wanted(&asked, &asked.query) {
        Ok(which) => (Some(which), Faults::default()),
        Err(error) => (None, Faults::of(&error)),
    };
    let mut main = vec![Input::text(
        &asked.query,
        "text",
        "Search",
        "an address with all its variants, @domain, or a part of address or reason",
    )];
    main.extend(filter::account_input(&asked));
    main.push(Input::text(&asked.query, "list", "Mailing list", ""));
    main.push(Input::choice(&asked.query, "manual", "Added by", &BY));
    let mut frame = asked.frame("Suppressions");
    if let Some(which) = &which {
        frame = frame.with(lists(&asked, which));
    }
    let listing = Listing::new(&asked.query);
    let filter = Filter::new(main, Vec::new(), asked.url(HERE));
    let mut page = Page {
        frame,
        is_filtered: filter.is_used(),
        filter,
        faults,
        found: Found::default(),
        query: listing.filters(),
        export: form::query(asked.query.text("account").map(|it| ("account", it))),
        is_holder: is_holder(&asked),
    };
    let Some(which) = which else {
        return Answer::again(&page);
    };
    let find = Find {
        which,
        order: listing.order(Order::Descending),
        after: listing.after().map(SuppressionId),
        limit: listing.limit(),
    };
    let (found, now) = (asked.run(find).await?, asked.now());
    page.found = listing.found(found, now, |item| item.id, |item| Row::new(item, &asked));
    Answer::page(&page)
}

#[derive(Template)]
#[template(path = "past/suppress.html")]
struct AddPage {
    frame: Frame,
    faults: Faults,
    account: String,
    address: String,
    reason: String,
    list: String,
    is_holder: bool,
}

/// The command that adds the entry of the fields, as soon as they name one.
fn add_command(asked: &Asked, fields: &Fields) -> AsCommand {
    let add = adding(asked, fields);
    if add.account.is_empty() || add.address.is_empty() {
        return AsCommand::none();
    }
    if is_holder(asked) {
        let request = json!({"EmailAddress": add.address, "Manual": true, "Reason": add.reason});
        return match add.list.as_str() {
            "" => webapi::v0(asked, "SuppressionAdd", &request),
            _ => AsCommand::none(),
        };
    }
    let body = json!({
        "account": add.account,
        "address": add.address,
        "reason": add.reason,
        "list": add.list,
    });
    let command = match add.list.as_str() {
        "" => AsCommand::cli(["queue", "suppress", "add", &add.account, &add.address])
            .option("--reason", Some(&add.reason)),
        _ => AsCommand::none(),
    };
    command.call(&Method::POST, "/api/queue/suppressions", Some(&body))
}

fn add_page(asked: &Asked, fields: &Fields, faults: Faults) -> AddPage {
    let shown = |name| fields.shown(name).to_owned();
    AddPage {
        frame: asked
            .frame("Suppress an address")
            .with(add_command(asked, fields)),
        faults,
        account: shown("account"),
        address: shown("address"),
        reason: shown("reason"),
        list: shown("list"),
        is_holder: is_holder(asked),
    }
}

fn adding(asked: &Asked, fields: &Fields) -> Add {
    let text = |name| fields.text(name).unwrap_or_default().to_owned();
    let reason = fields.text("reason").unwrap_or(match is_holder(asked) {
        true => "added by the account",
        false => "added by an administrator",
    });
    Add {
        account: filter::account(asked, fields).unwrap_or_default(),
        address: text("address"),
        reason: reason.to_owned(),
        list: text("list"),
    }
}

/// The form for a new entry.
pub(in super::super) async fn ask_add(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    Answer::page(&add_page(&asked, &asked.query, Faults::default()))
}

/// Adds an entry.
pub(in super::super) async fn add(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let again =
        |error: &AdminError| Answer::again(&add_page(&asked, &asked.form, Faults::of(error)));
    let needed = match is_holder(&asked) {
        true => &["address"][..],
        false => &["account", "address"],
    };
    for name in needed {
        if let Err(error) = asked.form.needed(name) {
            return again(&error);
        }
    }
    let add = adding(&asked, &asked.form);
    let told = format!("{} is suppressed for {}.", add.address, add.account);
    match asked.run(add).await {
        Ok(()) => Ok(asked.done(told, HERE)),
        Err(error) => match error.code {
            Code::Invalid | Code::Conflict | Code::NotFound => again(&error),
            _ => Err(error.into()),
        },
    }
}

/// The entry that the fields name: account, address and list.
fn named(asked: &Asked, fields: &Fields) -> Result<Remove, AdminError> {
    let account = filter::account(asked, fields);
    let missing = || AdminError::invalid("an account is missing").at("account");
    Ok(Remove {
        account: account.ok_or_else(missing)?,
        address: fields.needed("address")?.to_owned(),
        list: fields.text("list").unwrap_or_default().to_owned(),
    })
}

/// Asks before an entry is removed.
pub(in super::super) async fn ask_remove(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let Remove {
        account,
        address,
        list,
    } = named(&asked, &asked.query)?;
    let lookup = Lookup {
        account: account.clone(),
        address: address.clone(),
        list: list.clone(),
    };
    let entry = asked.run(lookup).await?.ok_or(Trouble::NoPage)?;
    let action = asked.url("suppressions/remove");
    let confirm = Confirm::new(&asked, "Remove a suppression?", "Remove it", &action)
        .effect(format!("{account} can send to {address} again."))
        .effect("If the address still does not exist, new failures harm the name of the server.")
        .examples(vec![format!(
            "{}: {}",
            entry.original_address, entry.reason
        )])
        .repeating(&asked.query)
        .back(asked.url(HERE))
        .command(remove_command(&asked, &entry).await?);
    Answer::page(&confirm)
}

/// The command that removes an entry.
async fn remove_command(asked: &Asked, entry: &SuppressionItem) -> Result<AsCommand, Trouble> {
    let (account, address) = (entry.account.as_str(), entry.base_address.as_str());
    if is_holder(asked) {
        // The call removes the entries of all mailing lists too.
        let find = Find {
            which: Wanted {
                account: Some(account.to_owned()),
                text: Some(address.to_owned()),
                ..Wanted::default()
            },
            order: Order::Descending,
            after: None,
            limit: 2,
        };
        let found = asked.run(find).await?;
        let is_only = found.items.len() == 1 && found.reached.is_none();
        let request = json!({"EmailAddress": address});
        return Ok(match is_only && entry.list.is_empty() {
            true => webapi::v0(asked, "SuppressionRemove", &request),
            false => AsCommand::none(),
        });
    }
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let path = format!(
        "/api/queue/suppressions/{}/{}",
        encoded(account),
        encoded(address)
    );
    let list = Some(entry.list.as_str()).filter(|list| !list.is_empty());
    let path = command::path(&path, &[("list", list)]);
    let command = AsCommand::cli(["queue", "suppress", "remove", account, address]);
    let command = command.option("--list", list);
    Ok(command.call(&Method::DELETE, &path, None))
}

/// Removes an entry.
pub(in super::super) async fn remove(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let remove = named(&asked, &asked.form)?;
    let told = format!("{} can send to {} again.", remove.account, remove.address);
    asked.run(remove).await?;
    Ok(asked.done(told, HERE))
}

/// The list of an account, or of all accounts, as a file that can be imported.
pub(in super::super) async fn export(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let which = Wanted {
        account: filter::account(&asked, &asked.query),
        ..Wanted::default()
    };
    let is_of_all = which.account.is_none();
    let mut columns = import::COLUMNS.to_vec();
    columns.extend(is_of_all.then_some("account"));
    let line = move |item: &SuppressionItem| {
        let mut cells = vec![
            item.original_address.as_str(),
            &item.reason,
            &item.list,
            &item.created,
        ];
        cells.extend(is_of_all.then_some(item.account.as_str()));
        csv::line(cells)
    };
    let named = ("suppressions.csv", CSV);
    Ok(streamed::file(
        &asked,
        named,
        csv::line(columns),
        List { which },
        line,
    ))
}
