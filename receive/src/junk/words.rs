//! The words of a text.
//!
//! A word is a run of letters and digits, in lower case. Scripts that put no spaces between words
//! give each pair of neighbouring characters instead. Runs that no person reads as a word are left
//! out: short ones, long ones, and those of encoded data.

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization;

/// The least bytes of a word.
const SHORTEST: usize = 3;
/// The most bytes of a word.
const LONGEST: usize = 64;
/// So many consonants in a row make no word.
const CONSONANTS: usize = 6;
/// So many digits in a row make no word.
const DIGITS: usize = 4;

/// Calls `each` with each word, and with each two words that follow each other.
pub(super) fn words(text: &str, each: &mut impl FnMut(&str)) {
    let text = match text.is_ascii() {
        true => Cow::Borrowed(text),
        // Letters of another width or in ligatures are the same letters. Some signs stand for many
        // letters: these do not make the text longer.
        false => Cow::Owned(text.nfkc().take(text.len()).collect()),
    };
    let mut reader = Reader {
        run: String::new(),
        last: String::new(),
        pair: String::new(),
        dense: None,
        each,
    };
    text.chars().for_each(|letter| reader.letter(letter));
    reader.end_of_run();
}

/// Reads a text letter by letter.
struct Reader<'a, F> {
    /// The run of letters and digits so far.
    run: String,
    /// The word before it. Empty if there is none.
    last: String,
    /// Room for two words.
    pair: String,
    /// The character before, if it is of a script without spaces.
    dense: Option<char>,
    each: &'a mut F,
}

impl<F: FnMut(&str)> Reader<'_, F> {
    fn letter(&mut self, letter: char) {
        if is_dense(letter) {
            let before = self.dense.replace(letter);
            self.end_of_run();
            self.dense_pair(before, letter);
            return;
        }
        self.dense = None;
        if !letter.is_alphanumeric() {
            self.end_of_run();
        // What is too long already does not grow further.
        } else if self.run.len() <= LONGEST {
            self.run.extend(letter.to_lowercase());
        }
    }

    fn dense_pair(&mut self, before: Option<char>, letter: char) {
        self.last.clear();
        if let Some(before) = before {
            self.pair.clear();
            self.pair.extend([before, letter]);
            (self.each)(&self.pair);
        }
    }

    /// Ends a run, and gives it if it is a word.
    fn end_of_run(&mut self) {
        if self.run.is_empty() {
            return;
        }
        if is_word(&self.run) {
            (self.each)(&self.run);
            if !self.last.is_empty() {
                self.pair.clear();
                self.pair.push_str(&self.last);
                self.pair.push(' ');
                self.pair.push_str(&self.run);
                (self.each)(&self.pair);
            }
            std::mem::swap(&mut self.last, &mut self.run);
        } else {
            self.last.clear();
        }
        self.run.clear();
    }
}

fn is_word(run: &str) -> bool {
    let in_a_row = |is: fn(char) -> bool, most: usize| {
        let mut count = 0;
        run.chars().any(|letter| {
            count = if is(letter) { count + 1 } else { 0 };
            count >= most
        })
    };
    (SHORTEST..=LONGEST).contains(&run.len())
        && !in_a_row(is_consonant, CONSONANTS)
        && !in_a_row(|letter| letter.is_ascii_digit(), DIGITS)
}

fn is_consonant(letter: char) -> bool {
    letter.is_ascii_lowercase() && !"aeiouy".contains(letter)
}

/// A character of a script that puts no spaces between words: Chinese and Japanese, Thai, Lao,
/// Tibetan, Burmese, Khmer.
const fn is_dense(letter: char) -> bool {
    matches!(
        letter,
        '\u{e00}'..='\u{eff}'
            | '\u{f00}'..='\u{fff}'
            | '\u{1000}'..='\u{109f}'
            | '\u{1780}'..='\u{17ff}'
            | '\u{3041}'..='\u{30ff}'
            | '\u{3400}'..='\u{4dbf}'
            | '\u{4e00}'..='\u{9fff}'
            | '\u{f900}'..='\u{faff}'
            | '\u{20000}'..='\u{3ffff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[&str]) {
        let mut found = Vec::new();
        words(text, &mut |word| found.push(word.to_owned()));
        assert_eq!(found, expected, "{text:?}");
    }

    #[test]
    fn words_are_runs_of_letters_and_digits_alone_and_in_pairs() {
        check("", &[]);
        check(
            "Buy NOW, pay2 later!",
            &[
                "buy",
                "now",
                "buy now",
                "pay2",
                "now pay2",
                "later",
                "pay2 later",
            ],
        );
        check(
            "\u{dc}ber-Angebot",
            &["\u{fc}ber", "angebot", "\u{fc}ber angebot"],
        );
    }

    #[test]
    fn what_is_no_word_is_left_out_and_separates() {
        check("to be seen", &["seen"]);
        check("old xzbcdfgh new", &["old", "new"]);
        check("old 12345 new", &["old", "new"]);
        check("abc123 def", &["abc123", "def", "abc123 def"]);
        check(&"a".repeat(64), &[&"a".repeat(64)]);
        check(&format!("{} end", "a".repeat(65)), &["end"]);
        // Three bytes, though not three letters.
        check("\u{e4}b", &["\u{e4}b"]);
    }

    #[test]
    fn other_forms_of_letters_are_the_same_letters() {
        check("\u{ff26}\u{ff32}\u{ff25}\u{ff25}", &["free"]);
        check("o\u{fb03}ce", &["office"]);
        check("cafe\u{301}", &["caf\u{e9}"]);
    }

    #[test]
    fn scripts_without_spaces_give_pairs_of_characters() {
        check(
            "\u{4f60}\u{597d}\u{5417} ok yes\u{5417}",
            &["\u{4f60}\u{597d}", "\u{597d}\u{5417}", "yes"],
        );
        check(
            "\u{e2a}\u{e27}\u{e31}",
            &["\u{e2a}\u{e27}", "\u{e27}\u{e31}"],
        );
        check("\u{4f60} \u{597d}", &[]);
    }

    /// One sign may stand for eighteen letters.
    #[test]
    fn other_forms_of_letters_do_not_make_a_text_longer() {
        let text = "\u{fdfa}".repeat(100);
        let mut letters = 0;
        words(&text, &mut |word| {
            letters += usize::from(!word.contains(' ')) * word.chars().count();
        });
        assert!(letters > 0 && letters <= text.len(), "{letters}");
    }
}
