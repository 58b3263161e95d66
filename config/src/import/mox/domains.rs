//! The domains of mox: `Domains` in `domains.conf`.

use std::path::{Path, PathBuf};

use super::{
    Wide,
    rules::{Convert, Form, Rule},
    sconf::Node,
    transports::routes,
};
use crate::{
    dkim_key::DkimKey,
    import::{
        PrivateFile,
        document::{Document, Table, array},
        files::below,
    },
};

pub(super) const GENERAL: &[Rule] = &[("MonitorDNSBLs", "monitor_dnsbls", Form::List)];

const DOMAIN: &[Rule] = &[
    ("Disabled", "disabled", Form::Bool),
    ("Description", "description", Form::Text),
    ("ClientSettingsDomain", "client_settings_domain", Form::Text),
    (
        "LocalpartCaseSensitive",
        "localpart_case_sensitive",
        Form::Bool,
    ),
];

const MTA_STS: &[Rule] = &[
    ("PolicyID", "mta_sts.policy_id", Form::Text),
    ("Mode", "mta_sts.mode", Form::Text),
    ("MaxAge", "mta_sts.max_age", Form::Duration),
    ("MX", "mta_sts.mx", Form::List),
];

const DMARC: &[Rule] = &[
    ("Localpart", "dmarc.localpart", Form::Text),
    ("Domain", "dmarc.domain", Form::Text),
    ("Account", "dmarc.account", Form::Text),
    ("Mailbox", "dmarc.mailbox", Form::Text),
];

const TLS_RPT: &[Rule] = &[
    ("Localpart", "tls_rpt.localpart", Form::Text),
    ("Domain", "tls_rpt.domain", Form::Text),
    ("Account", "tls_rpt.account", Form::Text),
    ("Mailbox", "tls_rpt.mailbox", Form::Text),
];

const SELECTOR: &[Rule] = &[
    ("Hash", "hash", Form::Text),
    ("Headers", "headers", Form::List),
    ("DontSealHeaders", "dont_seal_headers", Form::Bool),
];

const ALIAS: &[Rule] = &[
    ("Addresses", "addresses", Form::List),
    ("PostPublic", "post_public", Form::Bool),
    ("ListMembers", "list_members", Form::Bool),
    ("AllowMsgFrom", "allow_msg_from", Form::Bool),
];

pub(super) fn convert(
    convert: &mut Convert<'_>,
    domain: &Node,
    wide: &Wide,
    document: &mut Document,
) {
    let name = domain.key.as_str();
    let path = ["domains", name];
    let mut table = Table::new(&path);
    convert.taken(domain, table.name_of(""));
    convert.apply(domain, &mut table, DOMAIN);
    if !table.has("client_settings_domain") {
        table.set("client_settings_domain", &wide.hostname);
    }
    separators(convert, domain, &mut table);
    for (key, rules) in [("DMARC", DMARC), ("TLSRPT", TLS_RPT), ("MTASTS", MTA_STS)] {
        if let Some(node) = domain.get(key) {
            convert.apply(node, &mut table, rules);
        }
    }
    let dkim = domain.get("DKIM");
    if let Some(dkim) = dkim {
        convert.apply(dkim, &mut table, &[("Sign", "dkim.sign", Form::List)]);
    }
    document.push(table);
    let selectors = dkim.and_then(|dkim| dkim.get("Selectors"));
    for node in selectors.into_iter().flat_map(Node::all) {
        let mut table = Table::new(&["domains", name, "dkim", "selectors", &node.key]);
        selector(convert, node, &mut table);
        document.push(table);
    }
    let aliases = domain.get("Aliases");
    for node in aliases.into_iter().flat_map(Node::all) {
        let mut table = Table::new(&["domains", name, "aliases", &node.key]);
        convert.apply(node, &mut table, ALIAS);
        document.push(table);
    }
    routes(convert, domain, &path, document);
}

fn separators(convert: &mut Convert<'_>, domain: &Node, to: &mut Table) {
    const OURS: &str = "localpart_catchall_separators";
    let one = domain.get("LocalpartCatchallSeparator");
    if let Some(node) = one.filter(|node| !node.value.is_empty()) {
        to.set(OURS, array([&node.value]));
        convert.taken(node, to.name_of(OURS));
        return;
    }
    let rule: Rule = ("LocalpartCatchallSeparators", OURS, Form::List);
    convert.apply(domain, to, &[rule]);
}

fn selector(convert: &mut Convert<'_>, node: &Node, to: &mut Table) {
    if let Some(file) = node.get("PrivateKeyFile") {
        let path = key_file(convert, file);
        to.set("private_key_file", path.display().to_string());
    }
    convert.apply(node, to, SELECTOR);
    let canonicalization = node.get("Canonicalization");
    let word = |key: &str| match canonicalization.is_some_and(|node| node.is(key)) {
        true => "relaxed",
        false => "simple",
    };
    let both = format!("{}/{}", word("HeaderRelaxed"), word("BodyRelaxed"));
    to.set("canonicalization", both);
    convert.taken(
        canonicalization.unwrap_or(node),
        to.name_of("canonicalization"),
    );
    let rule: Rule = ("Expiration", "expiration", Form::Duration);
    convert.apply(node, to, &[rule]);
    if !to.has("expiration") {
        // Without a period, signatures of mox do not expire.
        to.set("expiration", "0s");
    }
}

/// Copies a key file. Gives the path of the copy.
fn key_file(convert: &mut Convert<'_>, node: &Node) -> PathBuf {
    let source = below(convert.folder, &node.value);
    let name = match Path::new(&node.value).file_name() {
        Some(name) => name.to_string_lossy().into_owned(),
        None => "privatekey.pkcs8.pem".to_owned(),
    };
    if let Some(copy) = convert.copies.get(&source).cloned() {
        convert.taken(node, format!("copied to {}", copy.display()));
        return copy;
    }
    let folder = Path::new("dkim");
    let content = match convert.files.read(&source) {
        Ok(content) => content,
        Err(error) => {
            let shown = source.display();
            convert.left(
                node,
                format!("{shown} cannot be read, so the key is missing: {error}"),
            );
            return folder.join(name);
        }
    };
    if let Err(message) = DkimKey::from_pem(&String::from_utf8_lossy(&content)) {
        convert.changed(node, format!("the key is copied, but it {message}"));
    }
    let mut path = folder.join(&name);
    // Files of different folders may have the same name.
    if convert.private.iter().any(|file| file.path == path) {
        path = folder.join(format!("{name}.{}", convert.private.len()));
    }
    convert.taken(node, format!("copied to {}", path.display()));
    convert.copies.insert(source, path.clone());
    convert.private.push(PrivateFile {
        path: path.clone(),
        content,
    });
    path
}
