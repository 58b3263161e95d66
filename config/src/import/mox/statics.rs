//! `mox.conf` to `postrider.conf`, without listeners and transports.

use std::path::Path;

use super::{
    Wide, listeners,
    rules::{Convert, Form, Rule},
    sconf::Node,
    transports,
};
use crate::{
    import::document::{Document, Table, array},
    values::LogLevel,
};

const GENERAL: &[Rule] = &[
    ("Hostname", "hostname", Form::Text),
    ("User", "user", Form::Text),
];

const POSTMASTER: &[Rule] = &[
    ("Account", "postmaster.account", Form::Text),
    ("Mailbox", "postmaster.mailbox", Form::Text),
];

const HOST_TLS_RPT: &[Rule] = &[
    ("Account", "host_tls_rpt.account", Form::Text),
    ("Mailbox", "host_tls_rpt.mailbox", Form::Text),
    ("Localpart", "host_tls_rpt.localpart", Form::Text),
];

const ACME: &[Rule] = &[
    ("DirectoryURL", "directory_url", Form::Text),
    ("RenewBefore", "renew_before", Form::Duration),
    ("ContactEmail", "contact_email", Form::Text),
    ("IssuerDomainName", "issuer", Form::Text),
];

const EAB: &[Rule] = &[
    ("KeyID", "eab.key_id", Form::Text),
    ("KeyFile", "eab.key_file", Form::Path),
];

pub(super) fn convert(convert: &mut Convert<'_>, root: &Node, document: &mut Document) -> Wide {
    let mut plain = Table::new::<&str>(&[]);
    data_dir(convert, root, &mut plain);
    convert.apply(root, &mut plain, GENERAL);
    log(convert, root, &mut plain);
    if let Some(node) = root.get("AdminPasswordFile")
        && !node.value.is_empty()
    {
        plain.set("admin_password_file", "adminpasswd");
        convert.left(
            node,
            "the password is not taken; admin_password_file is \"adminpasswd\", and \
             \"postrider setadminpassword\" writes it",
        );
    }
    for (key, rules) in [("Postmaster", POSTMASTER), ("HostTLSRPT", HOST_TLS_RPT)] {
        if let Some(node) = root.get(key) {
            convert.apply(node, &mut plain, rules);
        }
    }
    authorities(convert, root, &mut plain);
    mailboxes(convert, root, &mut plain);
    reports(convert, root, &mut plain);
    let quota = quota(convert, root);
    let listeners = listeners::convert(convert, root, &mut plain);
    document.push(plain);
    acme(convert, root, document);
    for listener in listeners {
        document.push(listener);
    }
    transports::convert(convert, root, document);
    Wide {
        hostname: root.text("Hostname").unwrap_or_default().to_owned(),
        quota,
    }
}

/// The folder is not shared with mox: a relative path leads to another folder, beside our files.
fn data_dir(convert: &mut Convert<'_>, root: &Node, to: &mut Table) {
    let Some(node) = root.get("DataDir") else {
        return;
    };
    if node.value.is_empty() {
        return;
    }
    if Path::new(&node.value).is_absolute() {
        convert.changed(
            node,
            "data_dir is \"../data\", beside the configuration: the folder of mox stays its own, \
             and mail in it is not taken",
        );
        return;
    }
    to.set("data_dir", &node.value);
    convert.changed(
        node,
        "data_dir, below our folder of the configuration; mail in the folder of mox is not taken",
    );
}

fn log(convert: &mut Convert<'_>, root: &Node, to: &mut Table) {
    if let Some(node) = root.get("LogLevel")
        && !node.value.is_empty()
    {
        log_level(convert, node, to, &["log", "level"]);
    }
    let Some(packages) = root.get("PackageLogLevels") else {
        return;
    };
    for package in packages.all() {
        let module = match package.key.as_str() {
            "queue" => "postrider_queue",
            "smtpclient" => "postrider_smtp",
            "smtpserver" => "postrider_receive",
            "store" => "postrider_store",
            "dns" => "postrider_dns",
            "webapisrv" => "postrider_webapi",
            "config" | "mox-" => "postrider_config",
            _ => {
                let text = "no part of this server corresponds to the package; log.modules sets \
                    levels of ours";
                convert.left(package, text);
                continue;
            }
        };
        log_level(convert, package, to, &["log", "modules", module]);
    }
}

fn log_level(convert: &mut Convert<'_>, node: &Node, to: &mut Table, key: &[&str]) {
    let name = key.join(".");
    if to.has(&name) {
        convert.left(node, format!("{name} is set already"));
        return;
    }
    let level = node.value.as_str();
    if matches!(level, "traceauth" | "tracedata") {
        to.set_exact(key, "trace");
        let text = format!("{name} is \"trace\", which shows neither passwords nor messages");
        convert.changed(node, text);
    } else if LogLevel::from_word(level).is_some() {
        to.set_exact(key, level);
        convert.taken(node, name);
    } else {
        let text = format!("there is no level {level:?}; {name} has its default");
        convert.left(node, text);
    }
}

fn authorities(convert: &mut Convert<'_>, root: &Node, to: &mut Table) {
    let Some(authorities) = root.get("TLS").and_then(|tls| tls.get("CA")) else {
        return;
    };
    convert.apply(
        authorities,
        to,
        &[("CertFiles", "tls.ca_files", Form::Paths)],
    );
    if to.has("tls.ca_files") && !authorities.is("AdditionalToSystem") {
        let text = "these CAs are trusted beside those of the system, not in their place";
        convert.changed(authorities, text);
    }
}

fn mailboxes(convert: &mut Convert<'_>, root: &Node, to: &mut Table) {
    let mut names = vec!["Inbox".to_owned()];
    let mut place = None;
    if let Some(initial) = root.get("InitialMailboxes") {
        place = Some(initial);
        if let Some(special) = initial.get("SpecialUse") {
            for role in special.all().filter(|role| !role.value.is_empty()) {
                names.push(role.value.clone());
                if role.value != role.key && !(role.key == "Draft" && role.value == "Drafts") {
                    let text = "is one of default_mailboxes; its special use is not kept";
                    convert.changed(role, text);
                }
            }
        }
        if let Some(regular) = initial.get("Regular") {
            names.extend(regular.items().into_iter().map(str::to_owned));
        }
    } else if let Some(default) = root.get("DefaultMailboxes") {
        place = Some(default);
        names.extend(default.items().into_iter().map(str::to_owned));
    }
    let mut seen = Vec::new();
    names.retain(|name| {
        let lower = name.to_lowercase();
        let new = !name.is_empty() && !seen.contains(&lower);
        seen.push(lower);
        new
    });
    if let Some(place) = place
        && names.len() > 1
    {
        to.set("default_mailboxes", array(names));
        convert.taken(place, "default_mailboxes");
    }
}

fn reports(convert: &mut Convert<'_>, root: &Node, to: &mut Table) {
    if let Some(node) = root.get("NoOutgoingDMARCReports")
        && node.value == "true"
    {
        to.set("reports.dmarc", false);
        convert.taken(node, "reports.dmarc");
    }
    let all = root.get("OutgoingTLSReportsForAllSuccess");
    let none = root.get("NoOutgoingTLSReports");
    if let Some(node) = none.filter(|node| node.value == "true") {
        to.set("reports.tls", "none");
        convert.taken(node, "reports.tls");
    } else if let Some(node) = all.filter(|node| node.value == "true") {
        to.set("reports.tls", "all");
        convert.taken(node, "reports.tls");
    }
}

fn quota(convert: &mut Convert<'_>, root: &Node) -> i64 {
    let Some(node) = root.get("QuotaMessageSize") else {
        return 0;
    };
    match node.value.parse::<i64>() {
        Ok(quota) if quota > 0 => {
            convert.changed(node, "quota of each account without one of its own");
            quota
        }
        Ok(_) => 0,
        Err(_) => {
            convert.left(node, format!("{:?} is not a number of bytes", node.value));
            0
        }
    }
}

fn acme(convert: &mut Convert<'_>, root: &Node, document: &mut Document) {
    let Some(all) = root.get("ACME") else {
        return;
    };
    for account in all.all() {
        let mut table = Table::new(&["acme", account.key.as_str()]);
        convert.apply(account, &mut table, ACME);
        if let Some(binding) = account.get("ExternalAccountBinding") {
            convert.apply(binding, &mut table, EAB);
        }
        document.push(table);
    }
}
