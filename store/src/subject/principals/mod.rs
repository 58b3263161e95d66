//! The numbers of principals: accounts, lists, domains and keys. `domains.conf` knows names only.
//! Clients of the management API keep numbers. So each name gets a number when it is first seen.

#[cfg(any(test, feature = "memory"))]
pub(crate) mod model;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use super::{State, next};
use crate::{
    Store, StoreError, Time,
    error::Fault,
    id::ids,
    table::{Table, key::Name, tables, value::records},
};

ids! {
    /// A principal. No other principal ever has the same number.
    PrincipalId,
}

/// A kind of principals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum PrincipalKind {
    /// An account.
    Account,
    /// An alias with members.
    List,
    /// A domain.
    Domain,
    /// A key for the management API.
    Key,
}

/// A principal as other records know it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PrincipalName {
    /// Its kind.
    pub kind: PrincipalKind,
    /// The name of an account, the address of a list, a domain, or the number of a key.
    pub name: String,
}

impl PrincipalName {
    /// The key in the table.
    fn key(&self) -> (Name, Name) {
        let kind = match self.kind {
            PrincipalKind::Account => "account",
            PrincipalKind::List => "list",
            PrincipalKind::Domain => "domain",
            PrincipalKind::Key => "key",
        };
        (kind.into(), self.name.as_str().into())
    }
}

/// Numbers that are kept with the tables.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Counters {
    last: u64,
}

records! {
    PrincipalId: version 1,
    Time: version 1,
}

tables! {
    /// The numbers.
    counters: Counters,
    /// By kind and name.
    numbers: Table<(Name, Name), PrincipalId> = Table::new("principals"),
    /// When principals were made, by kind and name. Only those that were made since this is noted.
    made: Table<(Name, Name), Time> = Table::new("principals_made"),
}

subject!(
    counters Counters, keys 1,
    fn skip_ids(&mut self, by: u64) {
        self.counters.last = self.counters.last.saturating_add(by);
    }
);

operations! {
    Principals, version 3 since 1:
    Number -> (), Reserve;
    Forget -> bool, Reserve;
    Rename -> bool, Reserve;
    NoteMade -> (), Reserve;
}

/// Gives numbers to principals that have none.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Number(Vec<PrincipalName>);

impl Number {
    fn apply(self, state: &mut State) -> Result<(), Fault> {
        for name in self.0 {
            let key = name.key();
            if !state.principals.numbers.contains(&key)? {
                let id = PrincipalId(next(&mut state.principals.counters.last));
                state.principals.numbers.put_new(key, id);
            }
        }
        Ok(())
    }
}

/// Forgets the number of a principal that is gone. A later one of the same name gets another.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Forget(PrincipalName);

impl Forget {
    fn apply(self, state: &mut State) -> Result<bool, Fault> {
        let key = self.0.key();
        state.principals.made.remove(&key);
        Ok(state.principals.numbers.take(&key)?.is_some())
    }
}

/// Gives the number of a principal to its new name.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Rename {
    from: PrincipalName,
    to: PrincipalName,
}

impl Rename {
    fn apply(self, state: &mut State) -> Result<bool, Fault> {
        let principals = &mut state.principals;
        let Some(id) = principals.numbers.take(&self.from.key())? else {
            return Ok(false);
        };
        principals.numbers.put(self.to.key(), id);
        if let Some(made) = principals.made.take(&self.from.key())? {
            principals.made.put(self.to.key(), made);
        }
        Ok(true)
    }
}

/// Notes when a principal was made.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NoteMade {
    name: PrincipalName,
    now: Time,
}

impl NoteMade {
    fn apply(self, state: &mut State) -> Result<(), Fault> {
        state.principals.made.put(self.name.key(), self.now);
        Ok(())
    }
}

questions! {
    ask Numbers<'a> { names: &'a [PrincipalName] } -> Vec<Option<PrincipalId>>,
    |this, state| {
        let names = this.names.iter();
        names.map(|name| state.principals.numbers.get(&name.key())).collect()
    },
    |this, model| this.names.iter().map(|name| model.principals.number(name)).collect();

    ask Made<'a> { names: &'a [PrincipalName] } -> Vec<Option<Time>>,
    |this, state| {
        let names = this.names.iter();
        names.map(|name| state.principals.made.get(&name.key())).collect()
    },
    |this, model| this.names.iter().map(|name| model.principals.made(name)).collect();
}

impl Store {
    /// The numbers of principals, in the same order. A principal without a number gets one.
    ///
    /// # Errors
    /// If they can't be read, or a new one can't be made durable.
    pub async fn principal_ids(
        &self,
        names: &[PrincipalName],
    ) -> Result<Vec<PrincipalId>, StoreError> {
        let found = self.ask(Numbers { names }).await?;
        let without = names.iter().zip(&found).filter(|(_, id)| id.is_none());
        let without: Vec<_> = without.map(|(name, _)| name.clone()).collect();
        let found = match without.is_empty() {
            true => found,
            false => {
                self.change_by(Number(without)).await?;
                self.ask(Numbers { names }).await?
            }
        };
        // All have a number now, unless another call forgot one meanwhile.
        Ok(found.into_iter().map(Option::unwrap_or_default).collect())
    }

    /// Notes when a principal was made.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn note_principal_made(
        &self,
        name: PrincipalName,
        now: Time,
    ) -> Result<(), StoreError> {
        self.change_by(NoteMade { name, now }).await
    }

    /// When principals were made, in the same order. None: nobody noted it.
    ///
    /// # Errors
    /// If they can't be read.
    pub async fn principals_made(
        &self,
        names: &[PrincipalName],
    ) -> Result<Vec<Option<Time>>, StoreError> {
        self.ask(Made { names }).await
    }

    /// Forgets the number of a principal that is gone. False: it had none.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn forget_principal(&self, name: PrincipalName) -> Result<bool, StoreError> {
        self.change_by(Forget(name)).await
    }

    /// Lets a principal keep its number under a new name. False: it had none.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn rename_principal(
        &self,
        from: PrincipalName,
        to: PrincipalName,
    ) -> Result<bool, StoreError> {
        self.change_by(Rename { from, to }).await
    }
}

#[cfg(test)]
pub(crate) fn samples() -> Vec<Op> {
    let name = PrincipalName {
        kind: PrincipalKind::Account,
        name: "ann".into(),
    };
    vec![
        Op::Number(Number(vec![name.clone()])),
        Op::Forget(Forget(name.clone())),
        Op::Rename(Rename {
            from: name.clone(),
            to: name.clone(),
        }),
        Op::NoteMade(NoteMade { name, now: Time(1) }),
    ]
}
