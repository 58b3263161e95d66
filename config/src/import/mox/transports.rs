//! Transports and routes.

use super::{
    rules::{Convert, Form, Rule},
    sconf::Node,
};
use crate::import::document::{Document, Table, array};

const SMARTHOST: &[Rule] = &[
    ("Host", "host", Form::Text),
    ("Port", "port", Form::Number),
    (
        "STARTTLSInsecureSkipVerify",
        "insecure_skip_verify",
        Form::Bool,
    ),
    ("NoSTARTTLS", "no_starttls", Form::Bool),
];

/// A kind of mox, our kind, and its keys.
const KINDS: &[(&str, &str, &[Rule])] = &[
    ("Submissions", "submissions", SMARTHOST),
    ("Submission", "submission", SMARTHOST),
    ("SMTP", "smtp", SMARTHOST),
    (
        "Socks",
        "socks",
        &[
            ("Address", "address", Form::Text),
            ("RemoteIPs", "remote_ips", Form::List),
            ("RemoteHostname", "remote_hostname", Form::Text),
        ],
    ),
    (
        "Direct",
        "direct",
        &[
            ("DisableIPv4", "disable_ipv4", Form::Bool),
            ("DisableIPv6", "disable_ipv6", Form::Bool),
        ],
    ),
    (
        "Fail",
        "fail",
        &[
            ("SMTPCode", "code", Form::Number),
            ("SMTPMessage", "message", Form::Text),
        ],
    ),
];

const ROUTE: &[Rule] = &[
    ("FromDomain", "from_domain", Form::List),
    ("ToDomain", "to_domain", Form::List),
    ("MinimumAttempts", "minimum_attempts", Form::Number),
    ("Transport", "transport", Form::Text),
];

pub(super) fn convert(convert: &mut Convert<'_>, root: &Node, document: &mut Document) {
    let Some(transports) = root.get("Transports") else {
        return;
    };
    for transport in transports.all() {
        let name = transport.key.as_str();
        let mut found = false;
        for (theirs, ours, rules) in KINDS {
            let Some(node) = transport.get(theirs) else {
                continue;
            };
            found = true;
            let mut table = Table::new(&["transports", name, ours]);
            convert.apply(node, &mut table, rules);
            if let Some(auth) = node.get("Auth") {
                login(convert, auth, &mut table);
            }
            document.push(table);
        }
        if !found {
            document.push(Table::new(&["transports", name, "direct"]));
            convert.taken(transport, format!("transports.{name}.direct"));
        }
    }
}

/// The login at a smarthost, without its password.
fn login(convert: &mut Convert<'_>, auth: &Node, to: &mut Table) {
    convert.apply(auth, to, &[("Username", "auth.username", Form::Text)]);
    if let Some(mechanisms) = auth.get("Mechanisms") {
        let all = mechanisms.items();
        let kept: Vec<&str> = all.iter().copied().filter(|m| *m != "CRAM-MD5").collect();
        if kept.len() < all.len() {
            let text = "CRAM-MD5 is left out, since its hash can be turned back into the password";
            convert.changed(mechanisms, text);
        }
        if !kept.is_empty() {
            to.set("auth.mechanisms", array(kept));
            convert.taken(mechanisms, to.name_of("auth.mechanisms"));
        }
    }
    let name = to.name_of("auth.password");
    to.comment("Write the password here: auth.password = \"...\"");
    let place = auth.get("Password").unwrap_or(auth);
    convert.changed(
        place,
        format!("passwords are not taken; write it to {name}, which is required"),
    );
}

/// The routes of the whole file, of a domain or of an account.
pub(super) fn routes(
    convert: &mut Convert<'_>,
    from: &Node,
    path: &[&str],
    document: &mut Document,
) {
    let Some(routes) = from.get("Routes") else {
        return;
    };
    for route in routes.all() {
        let mut full = path.to_vec();
        full.push("routes");
        let mut table = Table::element(&full);
        convert.apply(route, &mut table, ROUTE);
        document.push(table);
    }
}
