//! The lines that differ between two texts.

/// The lines around a difference that are shown.
const AROUND: usize = 3;
/// The most pairs of lines that are compared. Longer parts are shown as replaced.
const PAIRS_MAX: usize = 4_000_000;

/// What became of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Became {
    Same,
    Removed,
    Added,
    /// Lines that are the same are left out here.
    Skipped,
}

/// A line of the comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) became: Became,
    /// Its number in the text that has it, from 1; the new one for lines of both.
    pub(super) number: usize,
    pub(super) text: String,
}

impl Line {
    pub(super) const fn is_added(&self) -> bool {
        matches!(self.became, Became::Added)
    }

    pub(super) const fn is_removed(&self) -> bool {
        matches!(self.became, Became::Removed)
    }

    pub(super) const fn is_skipped(&self) -> bool {
        matches!(self.became, Became::Skipped)
    }
}

/// Compares two texts line by line. Empty: they are the same.
pub(super) fn difference(before: &str, after: &str) -> Vec<Line> {
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    if old == new {
        return Vec::new();
    }
    let both = || old.iter().zip(&new);
    let start = both().take_while(|(old, new)| old == new).count();
    let rest = old.len().min(new.len()) - start;
    let ends = old.iter().rev().zip(new.iter().rev()).take(rest);
    let end = ends.take_while(|(old, new)| old == new).count();
    let part = |lines: &[&str]| {
        let lines = lines.get(start..lines.len() - end).unwrap_or_default();
        lines
            .iter()
            .map(|line| (*line).to_owned())
            .collect::<Vec<_>>()
    };
    let mut all = Vec::new();
    for (at, text) in new.iter().take(start).enumerate() {
        all.push(line(Became::Same, at, text));
    }
    changed(&part(&old), &part(&new), start, &mut all);
    for (at, text) in new.iter().enumerate().skip(new.len() - end) {
        all.push(line(Became::Same, at, text));
    }
    shortened(all)
}

fn line(became: Became, at: usize, text: &str) -> Line {
    Line {
        became,
        number: at + 1,
        text: text.to_owned(),
    }
}

/// Adds the lines of two parts that begin at the same line, by their longest common subsequence.
fn changed(old: &[String], new: &[String], start: usize, all: &mut Vec<Line>) {
    let width = new.len() + 1;
    let is_large = old.len().saturating_mul(new.len()) > PAIRS_MAX;
    // How many lines are common to what follows in both.
    let mut common = vec![0_u32; if is_large { 0 } else { (old.len() + 1) * width }];
    let at = |common: &[u32], row: usize, column: usize| {
        common.get(row * width + column).copied().unwrap_or(0)
    };
    if !is_large {
        for (row, old) in old.iter().enumerate().rev() {
            for (column, new) in new.iter().enumerate().rev() {
                let count = match old == new {
                    true => at(&common, row + 1, column + 1) + 1,
                    false => at(&common, row + 1, column).max(at(&common, row, column + 1)),
                };
                if let Some(cell) = common.get_mut(row * width + column) {
                    *cell = count;
                }
            }
        }
    }
    let (mut row, mut column) = (0, 0);
    loop {
        match (old.get(row), new.get(column)) {
            (Some(old), Some(new)) if !is_large && old == new => {
                all.push(line(Became::Same, start + column, new));
                (row, column) = (row + 1, column + 1);
            }
            (Some(old), Some(_))
                if at(&common, row + 1, column) >= at(&common, row, column + 1) =>
            {
                all.push(line(Became::Removed, start + row, old));
                row += 1;
            }
            (Some(old), None) => {
                all.push(line(Became::Removed, start + row, old));
                row += 1;
            }
            (_, Some(new)) => {
                all.push(line(Became::Added, start + column, new));
                column += 1;
            }
            (None, None) => return,
        }
    }
}

/// Leaves out lines that are far from each difference.
fn shortened(all: Vec<Line>) -> Vec<Line> {
    let is_changed: Vec<bool> = all.iter().map(|it| it.became != Became::Same).collect();
    let is_near = |at: usize| {
        let around = at.saturating_sub(AROUND)..is_changed.len().min(at + AROUND + 1);
        let around = is_changed.get(around).unwrap_or_default();
        around.iter().any(|changed| *changed)
    };
    let mut kept: Vec<Line> = Vec::new();
    for (at, shown) in all.into_iter().enumerate() {
        if is_near(at) {
            kept.push(shown);
        } else if !kept.last().is_some_and(Line::is_skipped) {
            kept.push(line(Became::Skipped, at, ""));
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(before: &str, after: &str) -> Vec<String> {
        let lines = difference(before, after).into_iter();
        let mark = |line: &Line| match line.became {
            Became::Same => ' ',
            Became::Removed => '-',
            Became::Added => '+',
            Became::Skipped => '~',
        };
        lines
            .map(|line| format!("{}{}{}", mark(&line), line.number, line.text))
            .collect()
    }

    #[test]
    fn lines_that_differ_stand_with_their_neighbours() {
        assert!(told("a\nb\n", "a\nb").is_empty());
        assert_eq!(told("a\nb\nc\n", "a\nx\nc\n"), [" 1a", "-2b", "+2x", " 3c"]);
        assert_eq!(told("", "a\n"), ["+1a"]);
        assert_eq!(told("a\nb\n", "b\n"), ["-1a", " 1b"]);
        assert_eq!(
            told("1\n2\n3\n4\n5\n6\n7\n8", "1\n2\n3\n4\n5\n6\n7\n9\n8"),
            ["~1", " 55", " 66", " 77", "+89", " 98"]
        );
    }

    #[test]
    fn two_differences_keep_what_is_between() {
        assert_eq!(
            told("a\nb\nc\nd\n", "b\nc\nx\nd\ny\n"),
            ["-1a", " 1b", " 2c", "+3x", " 4d", "+5y"]
        );
    }

    #[test]
    fn long_parts_are_replaced_as_a_whole() {
        let lines = |mark: char| {
            (0..2500)
                .map(|at| format!("{mark}{at}\n"))
                .collect::<String>()
        };
        let found = difference(&lines('a'), &lines('b'));
        assert_eq!(found.len(), 5000);
        assert!(found.iter().take(2500).all(Line::is_removed));
    }
}
