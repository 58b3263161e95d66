//! From tables to entries of known providers.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use postrider_smtp::{Domain, bounce::Class};

use crate::{
    error::{ConfigError, Errors},
    keys,
    providers::{
        DEFAULT, Entries, Entry, Layer, Providers, ReplyRule, ReplyRules, ReplyScope, SHIPPED,
    },
    reader::{Reader, Source, read_text},
    schema::Node,
    sources, suggest,
    values::Pattern,
};

/// The most rules of one entry.
const RULES_MAX: usize = 100;

/// The entries in the program.
pub(crate) fn shipped() -> Result<Entries, Errors> {
    let path = Path::new("providers.toml");
    parse(SHIPPED, path, Layer::Shipped, None, Some(&[]))
}

/// Reads the file of `delivery.providers_file`. `below` are the entries that it changes, and
/// `pools` the names of the pools.
///
/// # Errors
/// All problems of the file, or that it can't be read.
fn read_file(path: &Path, below: &Providers, pools: &[String]) -> Result<Entries, Errors> {
    let text = read_text(path)?;
    parse(&text, path, Layer::File, Some(below), Some(pools))
}

/// The keys below `providers` in `domains.conf` are the keys of such a file.
fn parse(
    text: &str,
    path: &Path,
    layer: Layer,
    below: Option<&Providers>,
    pools: Option<&[String]>,
) -> Result<Entries, Errors> {
    let source = Source::new(text, path);
    let document = source.document()?;
    let node = keys::DYNAMIC_TREE.child("providers");
    let root = source.root(&document, node.unwrap_or_else(Node::nothing));
    let entries = read(&root, layer, below, pools);
    source.errors().map_or(Ok(entries), Err)
}

/// Reads the entries in a table. `below` are those of weaker layers. `pools` are the names of pools
/// that an entry may have; None: they are not known.
pub(crate) fn read(
    section: &Reader<'_>,
    layer: Layer,
    below: Option<&Providers>,
    pools: Option<&[String]>,
) -> Entries {
    let mut names = Names::default();
    let mut entries = Entries::new();
    for (name, reader) in section.named() {
        if let Some(message) = name_problem(name) {
            section.wrong(name, message);
        }
        let entry = read_entry(&reader, layer, pools);
        names.check(name, &reader);
        if name == DEFAULT {
            for key in ["mx", "domains", "rollup"] {
                if reader.has(key) {
                    reader.wrong(
                        key,
                        "is not for the entry default, which is for all other hosts",
                    );
                }
            }
        } else if below.is_none_or(|below| !below.has(name)) && !matches_anything(&entry) {
            let known = below.into_iter().flat_map(Providers::names);
            let hint = suggest::did_you_mean(name, known);
            let message = format!(
                "needs mx or domains, which say whom it is for: there is no shipped entry of this \
                 name{hint}"
            );
            section.wrong(name, message);
        }
        entries.insert(name.to_owned(), entry);
    }
    entries
}

fn matches_anything(entry: &Entry) -> bool {
    let mut names = [&entry.mx, &entry.domains].into_iter().flatten();
    names.any(|(_, names)| !names.is_empty())
}

/// Names of entries are used in sites, listings and commands.
fn name_problem(name: &str) -> Option<&'static str> {
    let valid = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let is_name = (1..=64).contains(&name.len()) && name.bytes().all(valid);
    (!is_name)
        .then_some("is not the name of an entry: 1 to 64 lower-case letters, digits and hyphens")
}

/// The hosts and domains of one layer. Each belongs to one entry.
#[derive(Default)]
struct Names<'a> {
    hosts: BTreeMap<Domain, &'a str>,
    domains: BTreeMap<Domain, &'a str>,
}

impl<'a> Names<'a> {
    fn check(&mut self, entry: &'a str, reader: &Reader<'_>) {
        for (key, known) in [("mx", &mut self.hosts), ("domains", &mut self.domains)] {
            for (index, name) in reader.entries::<Domain>(key) {
                match known.get(&name) {
                    Some(other) if *other != entry => {
                        let message = format!("is in the entry {other} too; remove one");
                        reader.wrong_element(key, index, message);
                    }
                    _ => drop(known.insert(name, entry)),
                }
            }
        }
    }
}

fn read_entry(reader: &Reader<'_>, layer: Layer, pools: Option<&[String]>) -> Entry {
    let source_pool: Option<String> = reader.opt("source_pool");
    if let (Some(pool), Some(pools)) = (&source_pool, pools) {
        sources::check_pool(
            reader,
            "source_pool",
            pool,
            pools.iter().map(String::as_str),
        );
    }
    let names = |key: &str| reader.has(key).then(|| (layer, reader.set(key)));
    Entry {
        mx: names("mx"),
        domains: names("domains"),
        rollup: reader.opt("rollup"),
        connections: reader.opt("connections"),
        messages_per_connection: reader.opt("messages_per_connection"),
        recipients_per_transaction: reader.opt("recipients_per_transaction"),
        rate: reader.opt("rate"),
        connect_rate: reader.opt("connect_rate"),
        tls: reader.opt("tls"),
        chunking: reader.opt("chunking"),
        source_pool,
        from: reader.opt("from"),
        replies: reader.has("reply").then(|| read_replies(reader)),
    }
}

fn read_replies(reader: &Reader<'_>) -> Arc<ReplyRules> {
    let tables = reader.tables("reply");
    if tables.len() > RULES_MAX {
        reader.wrong("reply", format!("has more than {RULES_MAX} rules"));
        return Arc::default();
    }
    let rules = tables.iter().filter_map(|rule| {
        let pattern: Option<Pattern> = rule.opt("match");
        let class: Option<Class> = rule.opt("class");
        let scope = rule.opt("scope").unwrap_or(ReplyScope::Source);
        let rest = rule.opt("rest");
        if rest.is_some() && scope != ReplyScope::Source {
            rule.wrong(
                "rest",
                "is for rules of scope \"source\" only: other messages go on to the provider",
            );
        }
        Some(ReplyRule {
            pattern: pattern?.0.as_str().to_owned(),
            class: class?,
            scope,
            rest,
        })
    });
    match ReplyRules::new(rules.collect()) {
        Ok(rules) => Arc::new(rules),
        Err(error) => {
            reader.wrong("reply", format!("has too large patterns: {error}"));
            Arc::default()
        }
    }
}

/// Reads the file of `delivery.providers_file`, if there is one, over the shipped entries. Its
/// problems are reported beside those of the file that names it.
pub(crate) fn read_static(
    delivery: &Reader<'_>,
    shipped: Providers,
    pools: &[String],
) -> Providers {
    let key = "providers_file";
    let Some(path) = delivery.opt::<std::path::PathBuf>(key) else {
        return shipped;
    };
    match read_file(&path, &shipped, pools) {
        Ok(entries) => shipped.under(entries),
        Err(errors) => {
            for error in errors {
                match error {
                    ConfigError {
                        line: 0,
                        message,
                        file,
                        ..
                    } => {
                        delivery.wrong(key, format!("{} {message}", file.display()));
                    }
                    error => delivery.report_elsewhere(error),
                }
            }
            shipped
        }
    }
}
