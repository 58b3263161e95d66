//! The accounts of mox: `Accounts` in `domains.conf`.

use toml_edit::InlineTable;

use super::{
    Wide,
    rules::{Convert, Form, Rule},
    sconf::Node,
    transports::routes,
};
use crate::{
    import::document::{Document, Table},
    quantity::Size,
};

const ACCOUNT: &[Rule] = &[
    ("Domain", "domain", Form::Text),
    ("Description", "description", Form::Text),
    ("FullName", "full_name", Form::Text),
    ("LoginDisabled", "login_disabled", Form::Text),
    (
        "FromIDLoginAddresses",
        "from_id_login_addresses",
        Form::List,
    ),
    (
        "KeepRetiredMessagePeriod",
        "keep_retired_message_period",
        Form::Duration,
    ),
    (
        "KeepRetiredWebhookPeriod",
        "keep_retired_webhook_period",
        Form::Duration,
    ),
    ("RejectsMailbox", "rejects_mailbox", Form::Text),
    ("KeepRejects", "keep_rejects", Form::Bool),
    (
        "MaxOutgoingMessagesPerDay",
        "max_outgoing_messages_per_day",
        Form::Number,
    ),
    (
        "MaxFirstTimeRecipientsPerDay",
        "max_first_time_recipients_per_day",
        Form::Number,
    ),
    ("NoFirstTimeSenderDelay", "first_time_delay", Form::Inverse),
    ("NoCustomPassword", "no_custom_password", Form::Bool),
];

const OUTGOING_WEBHOOK: &[Rule] = &[
    ("URL", "outgoing_webhook.url", Form::Text),
    (
        "Authorization",
        "outgoing_webhook.authorization",
        Form::Text,
    ),
    ("Events", "outgoing_webhook.events", Form::List),
];

const INCOMING_WEBHOOK: &[Rule] = &[
    ("URL", "incoming_webhook.url", Form::Text),
    (
        "Authorization",
        "incoming_webhook.authorization",
        Form::Text,
    ),
];

const DESTINATION: &[Rule] = &[
    ("Mailbox", "mailbox", Form::Text),
    (
        "MessageAuthRequiredSMTPError",
        "message_auth_required_smtp_error",
        Form::Text,
    ),
    ("FullName", "full_name", Form::Text),
];

const RULESET: &[Rule] = &[
    ("SMTPMailFromRegexp", "mail_from_regexp", Form::Text),
    ("MsgFromRegexp", "msg_from_regexp", Form::Text),
    ("VerifiedDomain", "verified_domain", Form::Text),
    ("IsForward", "is_forward", Form::Bool),
    ("ListAllowDomain", "list_allow_domain", Form::Text),
    (
        "AcceptRejectsToMailbox",
        "accept_rejects_to_mailbox",
        Form::Text,
    ),
    ("Mailbox", "mailbox", Form::Text),
];

pub(super) fn convert(
    convert: &mut Convert<'_>,
    account: &Node,
    wide: &Wide,
    document: &mut Document,
) {
    let name = account.key.as_str();
    let path = ["accounts", name];
    let mut table = Table::new(&path);
    convert.taken(account, table.name_of(""));
    convert.apply(account, &mut table, ACCOUNT);
    if !table.has("rejects_mailbox") {
        // Without the key, mox keeps no refused mail.
        table.set("rejects_mailbox", "");
    }
    match account.get("JunkFilter") {
        Some(filter) => convert.taken(filter, table.name_of("junk_filter")),
        None => table.set("junk_filter", false),
    }
    quota(convert, account, wide, &mut table);
    for (key, rules) in [
        ("OutgoingWebhook", OUTGOING_WEBHOOK),
        ("IncomingWebhook", INCOMING_WEBHOOK),
    ] {
        if let Some(node) = account.get(key) {
            convert.apply(node, &mut table, rules);
        }
    }
    let domain = account.text("Domain").unwrap_or_default();
    let mut further = Vec::new();
    let destinations = account.get("Destinations");
    for node in destinations.into_iter().flat_map(Node::all) {
        let address = match node.key.contains('@') {
            true => node.key.clone(),
            false => {
                let address = format!("{}@{domain}", node.key);
                convert.changed(
                    node,
                    format!("is {address}: our destinations are addresses"),
                );
                address
            }
        };
        let tables = destination(convert, node, name, &address);
        if tables.len() == 1 && tables.iter().all(Table::is_empty) {
            table.set_exact(&["destinations", &address], InlineTable::new());
        } else {
            further.extend(tables);
        }
        convert.taken(node, format!("accounts.{name}.destinations"));
    }
    document.push(table);
    for table in further {
        document.push(table);
    }
    routes(convert, account, &path, document);
}

fn quota(convert: &mut Convert<'_>, account: &Node, wide: &Wide, to: &mut Table) {
    let own = account.get("QuotaMessageSize");
    let bytes = match own.map(|node| (node, node.value.parse::<i64>())) {
        Some((node, Err(_))) if !node.value.is_empty() => {
            convert.left(node, format!("{:?} is not a number of bytes", node.value));
            return;
        }
        Some((node, Ok(bytes))) if bytes != 0 => {
            let text = match bytes {
                ..0 => "no quota for this account".to_owned(),
                _ => to.name_of("quota"),
            };
            convert.taken(node, text);
            bytes
        }
        _ => wide.quota,
    };
    if let Ok(bytes @ 1..) = u64::try_from(bytes) {
        to.set("quota", Size(bytes).to_string());
    }
}

/// The table of a destination, and one for each of its rulesets.
fn destination(convert: &mut Convert<'_>, node: &Node, account: &str, address: &str) -> Vec<Table> {
    let path = ["accounts", account, "destinations", address];
    let mut table = Table::new(&path);
    convert.apply(node, &mut table, DESTINATION);
    if let Some(error) = node.get("SMTPError") {
        smtp_error(convert, error, &mut table);
    }
    let mut tables = vec![table];
    let rulesets = node.get("Rulesets");
    for node in rulesets.into_iter().flat_map(Node::all) {
        let mut table = Table::element(&[&path[..], &["rulesets"]].concat());
        if let Some(comment) = node.text("Comment") {
            table.comment(comment);
        }
        convert.apply(node, &mut table, RULESET);
        if let Some(patterns) = node.get("HeadersRegexp") {
            for pattern in patterns.all() {
                table.set_exact(&["headers_regexp", &pattern.key], &pattern.value);
            }
            convert.taken(patterns, table.name_of("headers_regexp"));
        }
        tables.push(table);
    }
    tables
}

/// mox takes the codes 421 and 550. A reply of ours has an enhanced code too, and 421 would end
/// the session.
fn smtp_error(convert: &mut Convert<'_>, node: &Node, to: &mut Table) {
    let (code, text) = match node.value.split_once(' ') {
        Some((code, text)) => (code, text.trim()),
        None => (node.value.as_str(), ""),
    };
    let (start, default) = match code {
        "" => return,
        "421" => ("451 4.3.0", "try again later"),
        "550" => ("550 5.1.1", "no such user"),
        _ => {
            let text = format!("{:?} does not begin with 421 or 550", node.value);
            convert.left(node, text);
            return;
        }
    };
    let text = if text.is_empty() { default } else { text };
    let reply = format!("{start} {text}");
    convert.changed(node, format!("{} is {reply:?}", to.name_of("smtp_error")));
    to.set("smtp_error", reply);
}
