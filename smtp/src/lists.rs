//! Lists in lines of the log, which are short.

use std::fmt;

use tracing::{Value, field::Empty};

/// How many things of a list are shown.
const SHOWN: usize = 5;

/// The first five things of a list with blanks between them, and `+N` for N more.
#[derive(Clone, Copy, Debug)]
pub struct FirstOf<I>(pub I);

impl<T: fmt::Display, I: Iterator<Item = T> + Clone> fmt::Display for FirstOf<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut things = self.0.clone();
        for (at, thing) in things.by_ref().take(SHOWN).enumerate() {
            let blank = if at == 0 { "" } else { " " };
            write!(f, "{blank}{thing}")?;
        }
        match things.count() {
            0 => Ok(()),
            more => write!(f, " +{more}"),
        }
    }
}

/// Ids as the value of a field: nothing, a number, or the text of [`FirstOf`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShownIds {
    /// There are none.
    None,
    /// There is one.
    One(u64),
    /// There are several.
    Several(String),
}

impl ShownIds {
    /// The value for these ids.
    #[must_use]
    pub fn of(ids: &[u64]) -> Self {
        match ids {
            [] => Self::None,
            [id] => Self::One(*id),
            ids => Self::Several(FirstOf(ids.iter()).to_string()),
        }
    }

    /// The value for a line of the log.
    #[must_use]
    pub fn value(&self) -> &dyn Value {
        match self {
            Self::None => &Empty,
            Self::One(id) => id,
            Self::Several(ids) => ids,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_is_shown_by_its_beginning() {
        for (count, shown) in [
            (0, ""),
            (1, "0"),
            (5, "0 1 2 3 4"),
            (6, "0 1 2 3 4 +1"),
            (10_000, "0 1 2 3 4 +9995"),
        ] {
            assert_eq!(FirstOf(0..count).to_string(), shown);
        }
    }

    #[test]
    fn one_id_is_a_number() {
        for (ids, shown) in [
            (&[][..], ShownIds::None),
            (&[7], ShownIds::One(7)),
            (&[7, 8], ShownIds::Several("7 8".to_owned())),
            (
                &[1, 2, 3, 4, 5, 6, 7],
                ShownIds::Several("1 2 3 4 5 +2".to_owned()),
            ),
        ] {
            assert_eq!(ShownIds::of(ids), shown);
        }
    }
}
