//! Keys for DKIM: add, remove, list, rotate.

mod rotate;
mod selector;
mod status;
mod stop;

use std::path::Path;

use jiff::tz::TimeZone;
use postrider_config::{
    DkimAlgorithm, DkimSelector, Dynamic, toml_edit::Array, toml_edit::InlineTable,
};
use postrider_smtp::Domain;
use postrider_store::Time;
use serde::{Deserialize, Serialize};

pub use self::rotate::{Rotate, Rotated, Step};
pub(super) use self::selector::next_selectors;
pub(in crate::op) use self::selector::waiting;
pub use self::status::{KeyState, Part, Rotation, Status};
pub use self::stop::Stop;
use super::{
    Edit, document,
    keyfile::{self, NewKey},
    missing, missing_domain, parse, parse_domain, target, to_its_end,
};
use crate::{
    AdminError, Context,
    op::{Listed as _, Operation, Single, Sink},
};

/// The kinds of the keys of a pair.
pub(super) const PAIR: [DkimAlgorithm; 2] = [DkimAlgorithm::Ed25519, DkimAlgorithm::Rsa];

/// A key for DKIM, with its record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DkimItem {
    /// The domain in its Unicode form.
    pub domain: String,
    /// The selector.
    pub selector: String,
    /// `ed25519` or `rsa`.
    pub algorithm: String,
    /// The bits of the key.
    pub bits: usize,
    /// Whether the key signs.
    pub signs: bool,
    /// The path of the file with the private key.
    pub private_key_file: String,
    /// The name of the TXT record, with a dot at its end.
    pub name: String,
    /// The text of the TXT record.
    pub content: String,
}

impl DkimItem {
    fn new(domain: &Domain, selector: &Domain, key: &DkimSelector, signs: bool) -> Self {
        Self {
            domain: domain.unicode(),
            selector: selector.ascii().to_owned(),
            algorithm: key.algorithm.to_string(),
            bits: key.key.bits(),
            signs,
            private_key_file: key.private_key_file.display().to_string(),
            name: format!("{}._domainkey.{}.", selector.ascii(), domain.ascii()),
            content: key.record(),
        }
    }
}

/// The keys of a domain that `is_meant` chooses.
pub(super) fn items(
    config: &Dynamic,
    domain: &Domain,
    is_meant: impl Fn(&Domain) -> bool,
) -> Vec<DkimItem> {
    let Some(settings) = config.domains.get(domain) else {
        return Vec::new();
    };
    let dkim = &settings.dkim;
    let meant = dkim.selectors.iter().filter(|(name, _)| is_meant(name));
    meant
        .map(|(name, key)| DkimItem::new(domain, name, key, dkim.sign.contains(name)))
        .collect()
}

/// Lists keys with their records.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// The domain; None: all domains.
    pub domain: Option<String>,
}

impl Operation for List {
    type Item = DkimItem;

    async fn run(
        self,
        context: &Context,
        sink: &mut impl Sink<DkimItem>,
    ) -> Result<(), AdminError> {
        let config = context.config.load_full();
        let wanted = self.domain.as_deref().map(parse_domain).transpose()?;
        if let Some(domain) = &wanted
            && !config.domains.contains_key(domain)
        {
            return Err(missing_domain(&config, domain));
        }
        for domain in config.domains.keys() {
            if wanted.as_ref().is_none_or(|wanted| wanted == domain) {
                sink.send(items(&config, domain, |_| true)).await?;
            }
        }
        Ok(())
    }
}

/// The kind of a new key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// Ed25519 (RFC 8463).
    Ed25519,
    /// RSA with 2048 bits.
    Rsa,
}

impl From<Algorithm> for DkimAlgorithm {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Ed25519 => Self::Ed25519,
            Algorithm::Rsa => Self::Rsa,
        }
    }
}

/// Makes a key. The settings are those of the configuration; None: their defaults.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Add {
    /// The domain.
    pub domain: String,
    /// The selector; None: the next one in the order of year and letters.
    #[serde(default)]
    pub selector: Option<String>,
    /// The kind of the key.
    pub algorithm: Algorithm,
    /// Whether the key signs from now on. Its record should be in DNS before.
    #[serde(default)]
    pub sign: bool,
    /// `sha256` or `sha1`.
    #[serde(default)]
    pub hash: Option<String>,
    /// The canonicalization of header and body, such as `relaxed/relaxed`.
    #[serde(default)]
    pub canonicalization: Option<String>,
    /// The header fields that are signed; empty: the usual ones.
    #[serde(default)]
    pub headers: Vec<String>,
    /// Whether other servers may add such fields without breaking the signature.
    #[serde(default)]
    pub dont_seal_headers: bool,
    /// How long a signature is valid, such as `72h`.
    #[serde(default)]
    pub expiration: Option<String>,
}

impl Single for Add {
    type Output = DkimItem;

    async fn answer(self, context: &Context) -> Result<DkimItem, AdminError> {
        let context = context.clone();
        to_its_end(async move { self.make(&context).await }).await
    }
}

impl Add {
    async fn make(self, context: &Context) -> Result<DkimItem, AdminError> {
        let target = target(&self.domain);
        // The change itself finds a refusal again, and the audit log gets it there.
        let year = year(context.clock.now());
        let keys = match self.check(&context.config.load(), year) {
            Ok((domain, selector)) => {
                let wanted = vec![(selector, self.algorithm.into())];
                Some(keyfile::make(context, &domain, wanted).await?)
            }
            Err(_) => None,
        };
        let made = keys.as_ref().map(|keys| keys.keys.clone());
        let change = move |edit: &mut Edit<'_>| {
            let (domain, selector) = self.check(edit.before, year)?;
            for key in made.as_deref().ok_or_else(changed_meanwhile)? {
                if key.selector != selector {
                    return Err(changed_meanwhile());
                }
                insert(edit, &domain, key, self.settings())?;
            }
            if self.sign {
                let path = dkim_path(edit, &domain)?;
                let path = path.iter().map(String::as_str).chain(["sign"]);
                document::change_array(edit.document, &path.collect::<Vec<_>>(), |sign| {
                    document::push(sign, selector.ascii());
                })?;
            }
            Ok((domain, selector))
        };
        let changed = context.edit(Self::NAME, &target, change).await?;
        keys.into_iter().for_each(keyfile::NewKeys::keep);
        let (domain, selector) = &changed.result;
        let mut items = items(&changed.after, domain, |name| name == selector);
        items.pop().ok_or_else(changed_meanwhile)
    }
}

impl Add {
    /// The domain and the selector. `year` is for a selector that is not given.
    fn check(&self, config: &Dynamic, year: i16) -> Result<(Domain, Domain), AdminError> {
        let domain = parse_domain(&self.domain)?;
        let settings = config.domains.get(&domain);
        let settings = settings.ok_or_else(|| missing_domain(config, &domain))?;
        let selector = match &self.selector {
            Some(selector) => parse(selector, "selector", Domain::parse)?,
            None => next_selectors(&settings.dkim, year, 1)
                .pop()
                .ok_or_else(|| AdminError::internal("there is no next selector"))?,
        };
        if settings.dkim.selectors.contains_key(&selector) {
            let text = format!("{} has a selector {selector} already", domain.unicode());
            return Err(AdminError::conflict(text).at("selector"));
        }
        Ok((domain, selector))
    }

    fn settings(&self) -> InlineTable {
        let mut table = InlineTable::new();
        for (key, value) in [
            ("hash", &self.hash),
            ("canonicalization", &self.canonicalization),
            ("expiration", &self.expiration),
        ] {
            if let Some(value) = value {
                table.insert(key, value.into());
            }
        }
        if !self.headers.is_empty() {
            table.insert("headers", self.headers.iter().collect::<Array>().into());
        }
        if self.dont_seal_headers {
            table.insert("dont_seal_headers", true.into());
        }
        table
    }
}

/// The year of new selectors, by the local calendar.
pub(super) fn year(now: Time) -> i16 {
    now.timestamp().to_zoned(TimeZone::system()).year()
}

pub(super) fn changed_meanwhile() -> AdminError {
    AdminError::conflict("somebody else changed the domain at the same time; try again")
}

/// The path of the table `dkim` of a domain.
fn dkim_path(edit: &Edit<'_>, domain: &Domain) -> Result<[String; 3], AdminError> {
    let (_, spelled) = edit.domain(domain)?;
    Ok(["domains".to_owned(), spelled, "dkim".to_owned()])
}

/// Writes a selector with its key file into the file.
pub(super) fn insert(
    edit: &mut Edit<'_>,
    domain: &Domain,
    key: &NewKey,
    settings: InlineTable,
) -> Result<(), AdminError> {
    let path = dkim_path(edit, domain)?;
    insert_at(edit, &path.each_ref().map(String::as_str), key, settings)
}

/// Writes a selector with its key file below the path of a table `dkim`.
pub(super) fn insert_at(
    edit: &mut Edit<'_>,
    dkim: &[&str],
    key: &NewKey,
    settings: InlineTable,
) -> Result<(), AdminError> {
    let selector = key.selector.ascii();
    let path: Vec<&str> = dkim
        .iter()
        .copied()
        .chain(["selectors", selector])
        .collect();
    let mut content = InlineTable::from_iter([("private_key_file", key.file.as_str())]);
    content.extend(settings);
    document::add_table(edit.document, &path, content)
}

/// Removes a key. Its file goes to the folder `old` beside it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remove {
    /// The domain.
    pub domain: String,
    /// The selector.
    pub selector: String,
}

/// A key was removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// Where the file with the private key lies now; None if another selector uses the file, so
    /// that it stays.
    pub file: Option<String>,
}

impl Single for Remove {
    type Output = Removed;

    async fn answer(self, context: &Context) -> Result<Removed, AdminError> {
        let context = context.clone();
        to_its_end(async move { self.make(&context).await }).await
    }
}

impl Remove {
    async fn make(self, context: &Context) -> Result<Removed, AdminError> {
        let target = target(&self.domain);
        let change = move |edit: &mut Edit<'_>| {
            let domain = parse_domain(&self.domain)?;
            let selector = parse(&self.selector, "selector", Domain::parse)?;
            let (settings, _) = edit.domain(&domain)?;
            let key = settings.dkim.selectors.get(&selector).ok_or_else(|| {
                let known = settings.dkim.selectors.keys().map(Domain::unicode);
                missing("selector", selector.ascii(), known).at("selector")
            })?;
            remove(edit, &domain, &selector)?;
            Ok(key.private_key_file.clone())
        };
        let changed = context.edit(Self::NAME, &target, change).await?;
        let moved = keyfile::retire(changed.result, changed.after).await?;
        Ok(Removed {
            file: moved.as_deref().map(text),
        })
    }
}

/// A path as text.
pub(super) fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Takes a selector out of the file.
fn remove(edit: &mut Edit<'_>, domain: &Domain, selector: &Domain) -> Result<(), AdminError> {
    let dkim = dkim_path(edit, domain)?;
    let dkim: Vec<&str> = dkim.iter().map(String::as_str).collect();
    let is_meant = |name: &str| Domain::parse(name).is_ok_and(|name| name == *selector);
    let below = |name| dkim.iter().copied().chain([name]).collect::<Vec<&str>>();
    let selectors = below("selectors");
    let (settings, _) = edit.domain(domain)?;
    if settings.dkim.sign.contains(selector) {
        document::change_array(edit.document, &below("sign"), |sign| {
            document::remove_elements(sign, |name| name.as_str().is_some_and(is_meant));
        })?;
    }
    if let Some(name) = document::spelled(edit.document, &selectors, is_meant) {
        let path: Vec<&str> = selectors.iter().copied().chain([name.as_str()]).collect();
        document::remove(edit.document, &path)?;
    }
    Ok(())
}
