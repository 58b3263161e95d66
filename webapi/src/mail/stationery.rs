//! The shelves on which signatures and templates lie: those of the account, of its domain, and of
//! the server.

use std::collections::BTreeSet;

use postrider_store::{
    StationeryChange, StationeryId, StationeryItem, StationeryKind, StationeryOwner,
    StationeryShelf,
};
use serde::{Serialize, de::DeserializeOwned};

use super::{asked::Asked, problem::Problem};
use crate::error::{ApiError, Code};

/// The most bytes of the texts of an item.
pub(super) const TEXT_MAX: usize = 64 << 10;
/// The most bytes of a name.
const NAME_MAX: usize = 255;

/// A kind of items.
pub(super) trait Paper: Serialize + DeserializeOwned {
    const KIND: StationeryKind;
    /// The most items of a shelf.
    const MOST: u64;
    /// The name for people.
    const NAME: &'static str;
}

/// An item with its place.
#[derive(Debug)]
pub(super) struct Kept<P> {
    pub(super) shelf: StationeryShelf,
    pub(super) item: StationeryItem,
    pub(super) paper: P,
}

/// The owners whose items an account sees, its own first.
pub(super) fn owners(asked: &Asked) -> Vec<StationeryOwner> {
    let account = StationeryOwner::Account(asked.account().to_owned());
    let domain = asked.user.login.host.domain();
    let domain = domain.map(|it| StationeryOwner::Domain(it.ascii().to_owned()));
    let owners = std::iter::once(account).chain(domain);
    owners.chain([StationeryOwner::Server]).collect()
}

/// The shelf of an owner.
pub(super) fn shelf_of<P: Paper>(owner: StationeryOwner) -> StationeryShelf {
    StationeryShelf {
        kind: P::KIND,
        owner,
    }
}

/// All items of a shelf. One that can't be read is left out: a newer version of the server wrote
/// it.
pub(super) async fn on_shelf<P: Paper>(
    asked: &Asked,
    shelf: &StationeryShelf,
) -> Result<Vec<Kept<P>>, Problem> {
    let items = asked.context.store.stationery(shelf).await?.into_iter();
    Ok(items.filter_map(|item| kept(shelf, item)).collect())
}

/// The item with this number among those that the account sees.
pub(super) async fn find<P: Paper>(
    asked: &Asked,
    number: &str,
    version: Option<u64>,
) -> Result<Kept<P>, Problem> {
    let missing = || Problem::not_found(format!("there is no {} {number:?}", P::NAME));
    let id = StationeryId(number.parse().map_err(|_| missing())?);
    for owner in owners(asked) {
        let shelf = shelf_of::<P>(owner);
        let store = &asked.context.store;
        if let Some(item) = store.stationery_item(&shelf, id, version).await? {
            return kept(&shelf, item).ok_or_else(missing);
        }
    }
    Err(match version {
        Some(version) => Problem::not_found(format!(
            "there is no version {version} of the {} {number:?}; the last {} are kept",
            P::NAME,
            postrider_store::STATIONERY_VERSIONS
        )),
        None => missing(),
    })
}

fn kept<P: Paper>(shelf: &StationeryShelf, item: StationeryItem) -> Option<Kept<P>> {
    let paper = serde_json::from_str(&item.text).ok()?;
    let shelf = shelf.clone();
    Some(Kept { shelf, item, paper })
}

/// Adds an item, and changes others at the same time. Gives its number.
pub(super) async fn add<P: Paper>(
    asked: &Asked,
    shelf: &StationeryShelf,
    paper: &P,
    others: Vec<StationeryChange>,
) -> Result<StationeryId, Problem> {
    let text = json(paper)?;
    let store = &asked.context.store;
    let added = store.add_stationery(shelf, text, others, P::MOST, asked.now());
    added.await?.ok_or_else(|| {
        let text = format!(
            "there are {} {}s already, which is the most",
            P::MOST,
            P::NAME
        );
        Problem::conflict("tooMany", text)
    })
}

/// The change that gives an item this content.
pub(super) fn change<P: Paper>(id: StationeryId, paper: &P) -> Result<StationeryChange, Problem> {
    let text = json(paper)?;
    Ok(StationeryChange { id, text })
}

fn json(paper: &impl Serialize) -> Result<String, Problem> {
    serde_json::to_string(paper)
        .map_err(|error| ApiError::new(Code::Server, error.to_string()).into())
}

/// Checks the name of an item.
pub(super) fn check_name(name: &str) -> Result<(), Problem> {
    let fine = (1..=NAME_MAX).contains(&name.len()) && !name.contains(char::is_control);
    match fine {
        true => Ok(()),
        false => Err(Problem::field(
            "name",
            format!("give 1 to {NAME_MAX} bytes without control characters"),
        )),
    }
}

/// Checks that some text is there, and not too much.
pub(super) fn check_texts(texts: &[(&str, &str)]) -> Result<(), Problem> {
    let names: BTreeSet<&str> = texts.iter().map(|(name, _)| *name).collect();
    let names = names.into_iter().collect::<Vec<_>>().join(" or ");
    let size: usize = texts.iter().map(|(_, text)| text.len()).sum();
    if size > TEXT_MAX {
        let text = format!("the texts have {size} bytes, more than {TEXT_MAX}");
        return Err(Problem::field(&names, text));
    }
    match size {
        0 => Err(Problem::field(&names, "give a text")),
        _ => Ok(()),
    }
}

/// The name of an owner for programs.
pub(super) const fn scope(owner: &StationeryOwner) -> &'static str {
    match owner {
        StationeryOwner::Account(_) => "account",
        StationeryOwner::Domain(_) => "domain",
        StationeryOwner::Server => "all",
    }
}
