//! Due records, by time and *lane* (a destination, or a URL).
//!
//! A search looks at the heads of the lanes, in the order of their times. So it costs what it gives
//! and what it skips, not what there is.

use std::{
    collections::{HashMap, HashSet},
    ops::Bound,
    sync::Arc,
};

use super::{
    Ahead, Faults, Frozen, Layered, Table, Versions,
    key::{Key, Name},
    value::Value,
};
use crate::{Time, error::Fault};

impl<Id: Key + Copy> Layered for Due<Id>
where
    (Time, Id): Value,
{
    #[cfg(test)]
    fn names(&self, names: &mut Vec<&'static str>) {
        self.due.names(names);
        self.lanes.names(names);
        self.heads.names(names);
    }

    fn set_aside(&self) -> u64 {
        // Its values are ways, which are never set aside.
        0
    }

    fn check_rows(&self, faults: &mut Faults) {
        self.due.check_rows(faults);
        self.lanes.check_rows(faults);
        self.heads.check_rows(faults);
    }

    fn versions(&self, versions: &mut Versions) {
        self.due.versions(versions);
        self.lanes.versions(versions);
        self.heads.versions(versions);
    }

    fn freeze(&mut self, frozen: &mut Vec<Box<dyn Frozen>>) {
        self.due.freeze(frozen);
        self.lanes.freeze(frozen);
        self.heads.freeze(frozen);
    }

    fn rebase(&mut self, transaction: &redb::ReadTransaction) -> Result<(), Fault> {
        self.due.rebase(transaction)?;
        self.lanes.rebase(transaction)?;
        self.heads.rebase(transaction)
    }

    fn unbase(&mut self) {
        self.due.unbase();
        self.lanes.unbase();
        self.heads.unbase();
    }
}

/// Which entries to pick.
pub(crate) struct Pick<'a> {
    pub(crate) now: Time,
    pub(crate) max: usize,
    pub(crate) max_per_lane: usize,
    pub(crate) lanes: Lanes<'a>,
}

/// The lanes of a search.
#[derive(Clone, Copy)]
pub(crate) enum Lanes<'a> {
    /// These, in this order.
    Only(&'a [Name]),
    /// All but these, in the order of their first entries.
    AllBut(&'a HashSet<String>),
}

/// The places of the index that a search is going to look at.
pub(crate) struct DueAhead<Id> {
    due: Ahead<(Name, Time, Id), ()>,
    lanes: Option<Ahead<Name, (Time, Id)>>,
    /// The lanes, and the first entry of each if that is known.
    heads: Vec<(Name, Option<(Time, Id)>)>,
    now: Time,
    max: usize,
    max_per_lane: usize,
}

impl<Id: Key + Copy> DueAhead<Id>
where
    (Time, Id): Value,
{
    /// Reads these places. Gives the entries that the index has there. Some of them may have been
    /// taken since.
    pub(crate) fn look(self) -> Result<Vec<Id>, Fault> {
        let mut found = Vec::new();
        for (lane, head) in &self.heads {
            let stored = match &self.lanes {
                Some(lanes) => lanes.look(lane)?,
                None => None,
            };
            let Some((time, id)) = head.or(stored) else {
                continue;
            };
            // One more, since the search looks at the entry that is first afterwards.
            let first = (Arc::clone(lane), time, id);
            let entries = self.due.keys(&first)?;
            for entry in entries.take(self.max_per_lane.saturating_add(1)) {
                let (of, time, id) = entry?;
                if of != *lane || time > self.now {
                    break;
                }
                found.push(id);
            }
            if found.len() > self.max {
                break;
            }
        }
        Ok(found)
    }
}

/// An index of what is due. `due` has everything. `lanes` has the first entry of each lane, and
/// `heads` is `lanes` sorted by time.
pub(crate) struct Due<Id> {
    due: Table<(Name, Time, Id), ()>,
    lanes: Table<Name, (Time, Id)>,
    heads: Table<(Time, Name), ()>,
    /// No head is before this. Without it a search would walk over the tombstones of all entries
    /// that were taken since the last checkpoint.
    floor: (Time, Name),
    /// The lanes whose heads changed, with their heads, until somebody takes them. None: nobody
    /// does.
    changed: Option<HashMap<Name, Option<Time>>>,
}

impl<Id: Key + Copy> Due<Id>
where
    (Time, Id): Value,
{
    pub(crate) fn new(due: &'static str, lanes: &'static str, heads: &'static str) -> Self {
        Self {
            due: Table::new(due),
            lanes: Table::new(lanes),
            heads: Table::new(heads),
            floor: (Time(i64::MIN), "".into()),
            changed: None,
        }
    }

    /// An index that tells which heads changed.
    pub(crate) fn telling(due: &'static str, lanes: &'static str, heads: &'static str) -> Self {
        Self {
            changed: Some(HashMap::new()),
            ..Self::new(due, lanes, heads)
        }
    }

    /// The lanes whose heads changed since the last call, with their heads.
    pub(crate) fn take_changed(&mut self) -> HashMap<Name, Option<Time>> {
        self.changed
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }

    fn tell(&mut self, lane: &Name, head: Option<Time>) {
        if let Some(changed) = &mut self.changed {
            changed.insert(Arc::clone(lane), head);
        }
    }

    /// Gives all entries other lanes.
    pub(crate) fn rename(
        &mut self,
        mut name: impl FnMut(Id) -> Result<Option<Name>, Fault>,
    ) -> Result<(), Fault> {
        let mut entries = Vec::new();
        self.due.for_each(|entry, ()| {
            entries.push(entry);
            Ok(())
        })?;
        for (old, time, id) in &entries {
            self.remove(old, &[(*time, *id)])?;
        }
        for (_, time, id) in entries {
            if let Some(new) = name(id)? {
                self.insert(&new, time, id)?;
            }
        }
        Ok(())
    }

    /// Adds an entry that is not there yet.
    pub(crate) fn insert(&mut self, lane: &Name, time: Time, id: Id) -> Result<(), Fault> {
        self.due.put_new((Arc::clone(lane), time, id), ());
        match self.lanes.get(lane)? {
            Some(head) if head <= (time, id) => return Ok(()),
            Some((head, _)) => {
                self.heads.remove(&(head, Arc::clone(lane)));
                self.lanes.put(Arc::clone(lane), (time, id));
            }
            None => self.lanes.put_new(Arc::clone(lane), (time, id)),
        }
        self.add_head(lane, time);
        self.tell(lane, Some(time));
        Ok(())
    }

    fn add_head(&mut self, lane: &Name, time: Time) {
        let head = (time, Arc::clone(lane));
        if head < self.floor {
            self.floor.clone_from(&head);
        }
        self.heads.put_new(head, ());
    }

    /// Whether an entry is there.
    pub(crate) fn contains(&self, lane: &Name, time: Time, id: Id) -> Result<bool, Fault> {
        self.due.contains(&(Arc::clone(lane), time, id))
    }

    /// Compares the lanes and the heads with the entries. Gives the number of entries.
    pub(crate) fn check(&self, name: &str, faults: &mut Faults) -> Result<u64, Fault> {
        let (mut entries, mut lanes) = (0, 0);
        let mut before: Option<Name> = None;
        self.due.for_each(|(lane, time, id), ()| {
            entries += 1;
            if before.as_ref() == Some(&lane) {
                return Ok(());
            }
            lanes += 1;
            let first = self.lanes.get(&lane)?;
            let head = self.heads.contains(&(time, Arc::clone(&lane)))?;
            faults.check(head && first == Some((time, id)), || {
                format!("the head of the lane {lane:?} of {name} is not its first entry")
            });
            before = Some(lane);
            Ok(())
        })?;
        faults.compare(&format!("lanes of {name}"), self.lanes.count()?, lanes);
        faults.compare(&format!("heads of {name}"), self.heads.count()?, lanes);
        Ok(entries)
    }

    /// Removes entries that are there. One call for all entries of a lane is cheapest.
    pub(crate) fn remove(&mut self, lane: &Name, entries: &[(Time, Id)]) -> Result<(), Fault> {
        for (time, id) in entries {
            self.due.remove(&(Arc::clone(lane), *time, *id));
        }
        let Some(head) = self.lanes.get(lane)? else {
            return Ok(());
        };
        if !entries.contains(&head) {
            return Ok(());
        }
        // No entry is before the head, so the search begins behind it.
        let from = (Arc::clone(lane), head.0, head.1);
        let next = self.from(lane, Bound::Excluded(&from), |lane| lane.next().transpose())?;
        self.heads.remove(&(head.0, Arc::clone(lane)));
        match next {
            Some(((_, time, id), ())) => {
                self.lanes.put(Arc::clone(lane), (time, id));
                self.add_head(lane, time);
                self.tell(lane, Some(time));
            }
            None => {
                self.lanes.remove(lane);
                self.tell(lane, None);
            }
        }
        Ok(())
    }

    /// Looks at the entries of a lane from a key on.
    fn from<T>(
        &self,
        lane: &Name,
        from: Bound<&(Name, Time, Id)>,
        look: impl FnOnce(
            &mut dyn Iterator<Item = Result<((Name, Time, Id), ()), Fault>>,
        ) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let mut items = self
            .due
            .range(from, Bound::Unbounded)?
            .take_while(|item| item.as_ref().map_or(true, |((of, _, _), ())| of == lane));
        look(&mut items)
    }

    /// The ids of due entries: lanes in the order of their first entries, the entries of a lane
    /// together, by time.
    pub(crate) fn pick(&self, pick: &Pick<'_>) -> Result<Vec<Id>, Fault> {
        self.pick_as(pick, |_, _, id| id)
    }

    /// The same entries as [`pick`](Self::pick), as they stand in the table.
    pub(crate) fn entries(&self, pick: &Pick<'_>) -> Result<Vec<(Name, Time, Id)>, Fault> {
        self.pick_as(pick, |lane, time, id| (Arc::clone(lane), time, id))
    }

    /// The places of the index that [`pick`](Self::pick) is going to look at. This reads the heads
    /// of lanes only, which lie together.
    pub(crate) fn ahead(&self, pick: &Pick<'_>) -> Result<Option<DueAhead<Id>>, Fault> {
        let Some(due) = self.due.ahead() else {
            return Ok(None);
        };
        let mut heads = Vec::new();
        let mut add = |lane: Name| {
            let first = self.lanes.in_memory(&lane).flatten().copied();
            heads.push((lane, first));
        };
        match pick.lanes {
            Lanes::Only(lanes) => lanes.iter().for_each(|lane| add(Arc::clone(lane))),
            Lanes::AllBut(except) => {
                let (from, to) = (Bound::Included(&self.floor), Bound::Unbounded);
                let mut left = pick.max;
                for head in self.heads.range(from, to)? {
                    let ((time, lane), ()) = head?;
                    if time > pick.now || left == 0 {
                        break;
                    }
                    if !except.contains(&*lane) {
                        add(lane);
                        left -= 1;
                    }
                }
            }
        }
        Ok(Some(DueAhead {
            due,
            lanes: self.lanes.ahead(),
            heads,
            now: pick.now,
            max: pick.max,
            max_per_lane: pick.max_per_lane,
        }))
    }

    fn pick_as<T>(
        &self,
        pick: &Pick<'_>,
        make: impl Fn(&Name, Time, Id) -> T,
    ) -> Result<Vec<T>, Fault> {
        let mut picked = Vec::new();
        let except = match pick.lanes {
            Lanes::AllBut(except) => except,
            Lanes::Only(lanes) => {
                for (at, lane) in lanes.iter().enumerate() {
                    if picked.len() >= pick.max {
                        break;
                    }
                    // A lane that is named twice counts once.
                    if lanes.iter().take(at).any(|before| before == lane) {
                        continue;
                    }
                    if let Some((time, _)) = self.lanes.get(lane)? {
                        self.pick_lane(lane, time, pick, &make, &mut picked)?;
                    }
                }
                return Ok(picked);
            }
        };
        for head in self
            .heads
            .range(Bound::Included(&self.floor), Bound::Unbounded)?
        {
            let ((time, lane), ()) = head?;
            if time > pick.now || picked.len() >= pick.max {
                break;
            }
            if !except.contains(&*lane) {
                self.pick_lane(&lane, time, pick, &make, &mut picked)?;
            }
        }
        Ok(picked)
    }

    fn pick_lane<T>(
        &self,
        lane: &Name,
        head: Time,
        pick: &Pick<'_>,
        make: &impl Fn(&Name, Time, Id) -> T,
        picked: &mut Vec<T>,
    ) -> Result<(), Fault> {
        let room = pick.max_per_lane.min(pick.max - picked.len());
        let Some(first) = self.lanes.get(lane)? else {
            return Ok(());
        };
        let from = (Arc::clone(lane), head, first.1);
        self.from(lane, Bound::Included(&from), |items| {
            for item in items.take(room) {
                let ((_, time, id), ()) = item?;
                if time > pick.now {
                    break;
                }
                picked.push(make(lane, time, id));
            }
            Ok(())
        })
    }

    /// The first entry of a lane.
    pub(crate) fn head(&self, lane: &Name) -> Result<Option<(Time, Id)>, Fault> {
        self.lanes.get(lane)
    }

    /// Lanes with the times of their heads, by name: so many, behind this one.
    pub(crate) fn lanes_after(
        &self,
        after: Option<&Name>,
        limit: usize,
    ) -> Result<Vec<(Name, Time)>, Fault> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let lanes = self.lanes.range(from, Bound::Unbounded)?;
        let lanes = lanes.map(|row| row.map(|(lane, (time, _))| (lane, time)));
        lanes.take(limit).collect()
    }

    /// The due entries of a lane, by time: so many, behind this one.
    pub(crate) fn entries_after(
        &self,
        lane: &Name,
        after: Option<(Time, Id)>,
        now: Time,
        limit: usize,
    ) -> Result<Vec<(Time, Id)>, Fault> {
        let first = match after {
            Some((time, id)) => Bound::Excluded((Arc::clone(lane), time, id)),
            None => match self.head(lane)? {
                Some((time, id)) => Bound::Included((Arc::clone(lane), time, id)),
                None => return Ok(Vec::new()),
            },
        };
        self.from(lane, first.as_ref(), |items| {
            let mut found = Vec::new();
            for item in items.take(limit) {
                let ((_, time, id), ()) = item?;
                if time > now {
                    break;
                }
                found.push((time, id));
            }
            Ok(found)
        })
    }

    /// When the first entry is due that is not in an excepted lane.
    pub(crate) fn next(&mut self, except: &HashSet<String>) -> Result<Option<Time>, Fault> {
        let mut floor = None;
        let mut next = None;
        for head in self
            .heads
            .range(Bound::Included(&self.floor), Bound::Unbounded)?
        {
            let (head, ()) = head?;
            let found = !except.contains(&*head.1);
            let time = head.0;
            floor.get_or_insert(head);
            if found {
                next = Some(time);
                break;
            }
        }
        self.floor = floor.unwrap_or_else(|| (Time(i64::MAX), "".into()));
        Ok(next)
    }
}
