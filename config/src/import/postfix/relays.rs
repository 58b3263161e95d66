//! Relay hosts and transport tables: our transports and routes.

use std::collections::HashMap;

use super::{
    addresses::Model,
    context::{Context, Found, Place},
    maps::{self, Entry, Form},
    nexthop::{Delivery, Lmtp, NextHop},
};
use crate::{
    import::document::{Table, array},
    values::DomainPattern,
};

/// The transports, and the routes that lead to them in their order.
#[derive(Debug, Default)]
pub(super) struct Relays {
    pub(super) transports: Vec<Table>,
    pub(super) routes: Vec<Table>,
    /// The name of each transport, by its kind and host.
    names: HashMap<String, String>,
    /// How many transports have each wanted name.
    numbers: HashMap<String, u32>,
}

pub(super) fn read(context: &Context<'_>, model: &mut Model) -> Relays {
    let mut reading = Reading {
        context,
        logins: logins(context),
        wrapped: context.get("smtp_tls_wrappermode").is_yes(),
        no_tls: false,
        relays: Relays::default(),
    };
    let level = context.get("smtp_tls_security_level");
    if level.value == "none" {
        reading.no_tls = true;
        context.taken(
            &level.place,
            "no_starttls of each transport to a relay host",
        );
    } else if level.is_set {
        let text = "TLS is used where the other server has it, and a relay host must have a \
            valid certificate";
        context.changed(&level.place, text);
    }
    reading.own_domains(model);
    reading.transport_maps(model);
    reading.senders();
    reading.relay_host();
    reading.relays
}

/// The user names of `smtp_sasl_password_maps`, by next hop. Passwords are not kept.
fn logins(context: &Context<'_>) -> HashMap<String, (String, Place)> {
    let enabled = context.get("smtp_sasl_auth_enable");
    let found = context.get("smtp_sasl_password_maps");
    if !enabled.is_yes() {
        if !found.is_empty() {
            let text = "smtp_sasl_auth_enable is not \"yes\", so nobody logs in";
            context.left(&found.place, text);
        }
        return HashMap::new();
    }
    context.taken(&enabled.place, "auth of transports");
    let mut logins = HashMap::new();
    for entry in maps::read(context, &found, Form::Table) {
        let user = entry.value.split(':').next().unwrap_or_default();
        if entry.key.contains('@') {
            let text = "a login depends on the relay host here, not on the sender";
            context.left(&entry.place, text);
        } else {
            logins.insert(entry.key.clone(), (user.to_owned(), entry.place));
        }
    }
    logins
}

struct Reading<'a> {
    context: &'a Context<'a>,
    logins: HashMap<String, (String, Place)>,
    wrapped: bool,
    no_tls: bool,
    relays: Relays,
}

impl Reading<'_> {
    /// `virtual_transport`, `mailbox_transport` and `local_transport`: LMTP for our domains.
    fn own_domains(&mut self, model: &mut Model) {
        let mailbox = model.domains.mailbox.clone();
        let local = model.domains.local.clone();
        for (name, domains) in [
            ("virtual_transport", mailbox),
            ("mailbox_transport", local.clone()),
            ("local_transport", local),
        ] {
            let found = self.context.get(name);
            if found.is_empty() {
                continue;
            }
            match Delivery::parse(&found.value) {
                Delivery::Own => {}
                Delivery::Lmtp(place) => {
                    let transport = self.lmtp(&place);
                    for domain in domains {
                        model
                            .lmtp
                            .entry(domain)
                            .or_insert_with(|| transport.clone());
                    }
                    let text = format!("forward_lmtp = {transport:?} of the destinations");
                    self.context.taken(&found.place, text);
                }
                _ => self.context.left(
                    &found.place,
                    "only LMTP can get the mail instead of the mailboxes here",
                ),
            }
        }
    }

    fn transport_maps(&mut self, model: &mut Model) {
        let found = self.context.get("transport_maps");
        let mut default = None;
        for entry in maps::read(self.context, &found, Form::Table) {
            if entry.key == "*" {
                default = Some(entry);
            } else {
                self.transport(model, &entry);
            }
        }
        // The entry for all domains is the last resort.
        if let Some(entry) = default {
            self.transport(model, &entry);
        }
    }

    fn transport(&mut self, model: &mut Model, entry: &Entry) {
        let key = entry.key.to_ascii_lowercase();
        let all = key == "*";
        if key.contains('@') {
            let text = "a route is for a domain here, not for an address";
            self.context.left(&entry.place, text);
            return;
        }
        if !all && let Err(message) = DomainPattern::parse(&key) {
            self.context.left(&entry.place, message);
            return;
        }
        let delivery = Delivery::parse(&entry.value);
        if model.domains.is_ours(&key) {
            match delivery {
                Delivery::Own => {}
                Delivery::Lmtp(place) => {
                    let transport = self.lmtp(&place);
                    let text = format!("forward_lmtp = {transport:?} of the destinations");
                    self.context.taken(&entry.place, text);
                    model.lmtp.insert(key, transport);
                }
                _ => self.context.left(
                    &entry.place,
                    "mail to a domain of this server goes to its mailboxes or to LMTP",
                ),
            }
            return;
        }
        let transport = match delivery {
            Delivery::Smtp(Some(hop)) => self.smarthost(&hop, &entry.place),
            Delivery::Smtp(None) => self.add("direct", "direct", |_| {}),
            Delivery::Error(text) => self.fail(&text),
            Delivery::Lmtp(place) => self.lmtp(&place),
            Delivery::Own | Delivery::Other => {
                let text = "programs and other ways to deliver have no counterpart";
                self.context.left(&entry.place, text);
                return;
            }
        };
        let mut route = Table::element(&["routes"]);
        if !all {
            route.set("to_domain", array([&key]));
        }
        route.set("transport", &transport);
        self.relays.routes.push(route);
        if key.starts_with('.') {
            let text = format!("a route to {transport:?}, which is for the domain itself too");
            self.context.changed(&entry.place, text);
        } else {
            self.context
                .taken(&entry.place, format!("a route to {transport:?}"));
        }
    }

    /// `sender_dependent_relayhost_maps`.
    fn senders(&mut self) {
        let found = self.context.get("sender_dependent_relayhost_maps");
        for entry in maps::read(self.context, &found, Form::Table) {
            let Some(domain) = entry.key.strip_prefix('@') else {
                let text = "a route is for the domain of a sender here, or in the account of one";
                self.context.left(&entry.place, text);
                continue;
            };
            if let Err(message) = DomainPattern::parse(domain) {
                self.context.left(&entry.place, message);
                continue;
            }
            if entry.value == "DUNNO" {
                self.context.taken(&entry.place, "no route");
                continue;
            }
            let transport = match NextHop::parse(&entry.value) {
                Some(hop) => self.smarthost(&hop, &entry.place),
                None => {
                    self.not_a_host(&entry.place, &entry.value);
                    continue;
                }
            };
            let mut route = Table::element(&["routes"]);
            route.set("from_domain", array([domain.to_ascii_lowercase()]));
            route.set("transport", &transport);
            self.relays.routes.push(route);
            self.context
                .taken(&entry.place, format!("a route to {transport:?}"));
        }
    }

    fn relay_host(&mut self) {
        let found: Found = self.context.get("relayhost");
        if found.is_empty() {
            return;
        }
        let Some(hop) = NextHop::parse(&found.value) else {
            self.not_a_host(&found.place, &found.value);
            return;
        };
        let transport = self.smarthost(&hop, &found.place);
        let mut route = Table::element(&["routes"]);
        route.set("transport", &transport);
        self.relays.routes.push(route);
        let text = format!("transports.{transport}, and a route to it");
        self.context.taken(&found.place, text);
    }

    fn not_a_host(&self, place: &Place, value: &str) {
        self.context.left(place, format!("{value:?} is not a host"));
    }

    /// The name of the transport to a relay host.
    fn smarthost(&mut self, hop: &NextHop, place: &Place) -> String {
        if hop.mx {
            let text = format!(
                "mail goes to the host {} itself, while Postfix asks for its MX hosts",
                hop.host
            );
            self.context.changed(place, text);
        }
        let login = self.login(hop);
        let kind = match (self.wrapped, &login) {
            (true, _) => "submissions",
            (false, Some(_)) => "submission",
            (false, None) => "smtp",
        };
        let no_tls = self.no_tls && !self.wrapped;
        let wanted = format!("relay-{}", hop.host);
        let port = hop.port.unwrap_or(25);
        let key = format!("{} {port}", hop.host);
        let host = hop.host.clone();
        let name = self.add_as(&key, &wanted, kind, |table| {
            table.set("host", host);
            table.set("port", i64::from(port));
            if no_tls {
                table.set("no_starttls", true);
            }
            if let Some((user, _)) = &login {
                table.set("auth.username", user);
                table.comment("Write the password here: auth.password = \"...\"");
            }
        });
        if let Some((_, place)) = &login {
            let text = format!(
                "passwords are not taken; write it to transports.{name}.{kind}.auth.password, \
                 which is required"
            );
            self.context.changed(place, text);
        }
        if self.wrapped {
            let place = self.context.place("smtp_tls_wrappermode");
            self.context
                .taken(&place, format!("transports.{name}.submissions"));
        }
        name
    }

    /// The login for a next hop. Its key is as the hop is written, with or without the port.
    fn login(&self, hop: &NextHop) -> Option<(String, Place)> {
        let host = &hop.host;
        let named = match hop.port {
            Some(587) => Some("submission"),
            Some(465) => Some("submissions"),
            Some(25) => Some("smtp"),
            _ => None,
        };
        let ports = hop
            .port
            .map(|port| port.to_string())
            .into_iter()
            .chain(named.map(str::to_owned));
        let with_ports =
            ports.flat_map(|port| [format!("[{host}]:{port}"), format!("{host}:{port}")]);
        with_ports
            .chain([format!("[{host}]"), host.clone()])
            .find_map(|key| self.logins.get(&key).cloned())
    }

    fn lmtp(&mut self, place: &Lmtp) -> String {
        let queue = self.context.params.expand("queue_directory");
        match place {
            Lmtp::Socket(path) => {
                let queue = queue.unwrap_or_default();
                let path = std::path::Path::new(&queue).join(path);
                let path = path.display().to_string();
                self.add_as(&format!("lmtp {path}"), "lmtp", "lmtp", |table| {
                    table.set("socket", &path);
                })
            }
            Lmtp::Host(hop) => {
                let key = format!("lmtp {} {:?}", hop.host, hop.port);
                self.add_as(&key, "lmtp", "lmtp", |table| {
                    table.set("host", &hop.host);
                    table.set("port", i64::from(hop.port.unwrap_or(24)));
                })
            }
        }
    }

    /// A transport that fails all mail. The text may begin with an enhanced code.
    fn fail(&mut self, text: &str) -> String {
        let code = if text.starts_with('4') { 450 } else { 550 };
        let text = if text.is_empty() {
            "mail is not delivered"
        } else {
            text
        };
        self.add_as(&format!("fail {text}"), "fail", "fail", |table| {
            table.set("code", code);
            table.set("message", text);
        })
    }

    fn add(&mut self, wanted: &str, kind: &str, fill: impl FnOnce(&mut Table)) -> String {
        self.add_as(wanted, wanted, kind, fill)
    }

    /// The name of the transport with this key. It is made if it is not there.
    fn add_as(
        &mut self,
        key: &str,
        wanted: &str,
        kind: &str,
        fill: impl FnOnce(&mut Table),
    ) -> String {
        if let Some(name) = self.relays.names.get(key) {
            return name.clone();
        }
        let wanted: String = wanted
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .collect();
        let number = self.relays.numbers.entry(wanted.clone()).or_default();
        *number += 1;
        let name = match number {
            1 => wanted,
            // A name of a host has no two hyphens and a number at its end.
            number => format!("{wanted}--{number}"),
        };
        let mut table = Table::new(&["transports", &name, kind]);
        fill(&mut table);
        self.relays.transports.push(table);
        self.relays.names.insert(key.to_owned(), name.clone());
        name
    }
}
