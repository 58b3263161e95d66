//! Entries by filter: to read them, and to remove them.

use postrider_queue::base_address;
use postrider_smtp::Address;
use postrider_store::{Order, Suppression, SuppressionId, Time, base_in_list};
use serde::{Deserialize, Serialize};

use super::{
    super::{
        Operation, Single, Sink, count_true,
        pages::{Pages, Part, Searched, search},
    },
    SuppressionItem,
};
use crate::{AdminError, Context};

/// How many entries are removed at once.
const STEP: usize = 200;

/// Which entries. All given fields must match; without fields, all entries do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Wanted {
    /// The account; None: all accounts.
    pub account: Option<String>,
    /// An address, which stands for all its variants; or a text in the address or in the reason.
    pub text: Option<String>,
    /// The mailing list that the entry is about; empty: all mail.
    pub list: Option<String>,
    /// Whether a person added the entry.
    pub manual: Option<bool>,
}

impl Wanted {
    /// The base form of the address that is asked for; None: it is not asked for one.
    fn base(&self) -> Option<String> {
        let text = self.text.as_ref().filter(|text| !text.starts_with('@'))?;
        Address::parse(text)
            .ok()
            .map(|address| base_address(&address))
    }

    /// `base`: the base form of the address that is asked for.
    fn matches(&self, base: Option<&str>, entry: &Suppression) -> bool {
        let text = |text: &String| {
            if let Some(base) = base {
                return entry.base == base;
            }
            let text = text.to_lowercase();
            [&entry.base, &entry.original, &entry.reason]
                .into_iter()
                .any(|field| field.to_lowercase().contains(&text))
        };
        let account = |account: &String| entry.account == *account;
        self.account.as_ref().is_none_or(account)
            && self.list.as_ref().is_none_or(|list| entry.list == *list)
            && self.manual.is_none_or(|manual| entry.manual == manual)
            && self.text.as_ref().is_none_or(text)
    }

    /// The entries of a base address.
    async fn of(&self, context: &Context, base: &str) -> Result<Vec<Suppression>, AdminError> {
        let accounts: Vec<String> = match &self.account {
            Some(account) => vec![account.clone()],
            None => context.config.load().accounts.keys().cloned().collect(),
        };
        let now = context.clock.now();
        let mut found = Vec::new();
        for account in accounts {
            let entries = context.store.suppressions_of(&account, base, now).await?;
            let entries = entries.into_iter();
            found.extend(entries.filter(|entry| self.matches(Some(base), entry)));
        }
        found.sort_by_key(|entry| entry.id);
        Ok(found)
    }
}

/// All entries that match, part by part, oldest first.
struct Parts<'a> {
    which: &'a Wanted,
    now: Time,
    pages: Pages<SuppressionId>,
    /// The address to look up.
    base: Option<String>,
    /// It was looked up.
    ended: bool,
}

impl<'a> Parts<'a> {
    fn new(which: &'a Wanted, now: Time) -> Self {
        Self {
            which,
            now,
            pages: Pages::new(None),
            base: which.base(),
            ended: false,
        }
    }

    /// The next part; None at the end.
    async fn next(&mut self, context: &Context) -> Result<Option<Vec<Suppression>>, AdminError> {
        if let Some(base) = &self.base {
            if std::mem::replace(&mut self.ended, true) {
                return Ok(None);
            }
            return self.which.of(context, base).await.map(Some);
        }
        let Some((after, count)) = self.pages.next() else {
            return Ok(None);
        };
        let (account, order) = (self.which.account.as_deref(), Order::Ascending);
        let store = &context.store;
        let page = store.list_suppressions(account, self.now, after, order, count);
        let mut part = self.pages.pass(page.await?);
        part.retain(|entry| self.which.matches(None, entry));
        Ok(Some(part))
    }
}

/// Lists all entries that match, oldest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// The entries.
    pub which: Wanted,
}

impl Operation for List {
    type Item = SuppressionItem;

    async fn run(
        self,
        context: &Context,
        items: &mut impl Sink<SuppressionItem>,
    ) -> Result<(), AdminError> {
        let mut parts = Parts::new(&self.which, context.clock.now());
        while let Some(part) = parts.next(context).await? {
            items
                .send(part.iter().map(SuppressionItem::from).collect())
                .await?;
        }
        Ok(())
    }
}

/// Finds entries. An address is looked up. Any other search ends after 40 ms or 20,000 entries, and
/// tells how far it came.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Find {
    /// The entries.
    pub which: Wanted,
    /// By number, ascending or descending.
    pub order: Order,
    /// The search begins behind this entry; None: at the beginning.
    pub after: Option<SuppressionId>,
    /// The most entries.
    pub limit: usize,
}

impl Single for Find {
    type Output = Searched<SuppressionItem>;

    async fn answer(self, context: &Context) -> Result<Searched<SuppressionItem>, AdminError> {
        let (which, order) = (&self.which, self.order);
        if let Some(base) = which.base() {
            let mut found = which.of(context, &base).await?;
            if order == Order::Descending {
                found.reverse();
            }
            let is_behind = |entry: &&Suppression| {
                self.after.is_none_or(|after| match order {
                    Order::Ascending => entry.id > after,
                    Order::Descending => entry.id < after,
                })
            };
            let found = found.iter().filter(is_behind).take(self.limit);
            return Ok(Searched {
                items: found.map(SuppressionItem::from).collect(),
                reached: None,
            });
        }
        let (store, now) = (&context.store, context.clock.now());
        let account = which.account.as_deref();
        let part = Part {
            after: self.after,
            limit: self.limit,
        };
        search(
            part,
            |after, count| store.list_suppressions(account, now, after, order, count),
            |entry: &Suppression| (entry.id.0, entry.created),
            |entry| which.matches(None, entry),
        )
        .await
    }
}

/// Removes all entries that match, 200 at a time. The output has an item for each step.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clear {
    /// The entries.
    pub which: Wanted,
}

/// A step of a removal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cleared {
    /// How many entries were removed.
    pub removed: u64,
}

impl Operation for Clear {
    type Item = Cleared;

    async fn run(
        self,
        context: &Context,
        items: &mut impl Sink<Cleared>,
    ) -> Result<(), AdminError> {
        let target = self.which.account.clone().unwrap_or_default();
        let context = &context.carrying("suppression.clear", &target, &self.which);
        let cleared = self.clear(context, items).await;
        context
            .record("suppression.clear", &target, &self.which, cleared)
            .await
    }
}

impl Clear {
    async fn clear(
        &self,
        context: &Context,
        items: &mut impl Sink<Cleared>,
    ) -> Result<(), AdminError> {
        let mut parts = Parts::new(&self.which, context.clock.now());
        while let Some(part) = parts.next(context).await? {
            remove(context, &part, items).await?;
        }
        Ok(())
    }
}

async fn remove(
    context: &Context,
    entries: &[Suppression],
    items: &mut impl Sink<Cleared>,
) -> Result<(), AdminError> {
    let now = context.clock.now();
    for step in entries.chunks(STEP) {
        let names: Vec<_> = step
            .iter()
            .map(|entry| (&entry.account, base_in_list(&entry.base, &entry.list)))
            .collect();
        let removed = names
            .iter()
            .map(|(account, name)| context.store.unsuppress(account, name, now));
        let removed = count_true(removed).await?;
        items.send(vec![Cleared { removed }]).await?;
    }
    Ok(())
}
