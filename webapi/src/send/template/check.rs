//! Refuses templates that could grow, before the engine reads them.

use minijinja::{
    machinery::{Token, tokenize},
    syntax::SyntaxConfig,
};

/// The most words and signs within a tag. The engine reads nested ones by recursion.
const TAG_MAX: usize = 300;
/// The most `elif`. The engine nests each in the one before.
const ELIF_MAX: usize = 100;
/// The most bytes of a string within a tag.
const LITERAL_MAX: usize = 1024;

/// Facts about a template.
#[derive(Debug, Default)]
pub(super) struct Checked {
    /// It has a filter that can make one text of all variables.
    pub(super) joins: bool,
}

/// Refuses templates that could grow.
///
/// # Errors
/// A sentence with the part of the language that is not available, and its line.
pub(super) fn check(text: &str) -> Result<Checked, String> {
    let mut checked = Checked::default();
    let mut begins = false;
    let (mut in_tag, mut elifs) = (0, 0);
    let mut in_for: Option<ForTag> = None;
    let tokens = tokenize(text, false, SyntaxConfig::default());
    for token in tokens {
        // The engine reports the error.
        let Ok((token, span)) = token else {
            return Ok(checked);
        };
        let line = span.start_line;
        let no = |what: &str| {
            Err(format!(
                "{what} is not available in templates (line {line})"
            ))
        };
        in_tag = match token {
            Token::BlockStart | Token::VariableStart | Token::TemplateData(_) => 0,
            _ => in_tag + 1,
        };
        if in_tag > TAG_MAX {
            return Err(format!(
                "a tag has more than {TAG_MAX} words and signs (line {line})"
            ));
        }
        let is_first = std::mem::replace(&mut begins, matches!(token, Token::BlockStart));
        if in_tag == 0 {
            in_for = None;
        }
        if in_for.as_mut().is_some_and(|tag| tag.names_a_list(&token)) {
            return no("a list of variables in {% for %}");
        }
        match token {
            Token::Ident("for") if is_first => in_for = Some(ForTag::default()),
            Token::Ident(word)
                if is_first && !["if", "elif", "else", "endif", "endfor"].contains(&word) =>
            {
                return no(&format!("{{% {word} %}}"));
            }
            Token::Ident("elif") if is_first && elifs >= ELIF_MAX => {
                return Err(format!("there are more than {ELIF_MAX} elif (line {line})"));
            }
            Token::Ident("elif") if is_first => elifs += 1,
            Token::Ident("recursive") => return no("recursive"),
            Token::Ident("join" | "escape" | "e") => checked.joins = true,
            Token::Plus => return no("the operator +"),
            Token::Mul => return no("the operator *"),
            Token::Pow => return no("the operator **"),
            Token::Tilde => return no("the operator ~"),
            Token::Str(literal) if literal.len() > LITERAL_MAX => {
                return no("such a long text within a tag");
            }
            Token::String(literal) if literal.len() > LITERAL_MAX => {
                return no("such a long text within a tag");
            }
            _ => {}
        }
    }
    Ok(checked)
}

/// The part of a `for` tag that was read so far.
///
/// A `for` gives names to the items of its list. If the list could be made of variables, each `for`
/// within another could name a list with many times the former one.
#[derive(Debug, Default)]
struct ForTag {
    part: ForPart,
    /// The brackets that are open.
    open: Vec<Open>,
    /// The last token ends a value, so that a bracket behind it belongs to the value.
    value: bool,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum ForPart {
    /// The names, up to `in`.
    #[default]
    Names,
    /// The list.
    List,
    /// The condition behind the list.
    Condition,
}

/// An open bracket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    /// Of a list or an object.
    Literal,
    /// Of the arguments of a filter, or of the key behind a value.
    Argument,
    /// Around an expression. With a comma it is a list too.
    Group,
}

impl ForTag {
    /// Reads a token. True if the tag names items of a list that it makes of variables.
    fn names_a_list(&mut self, token: &Token<'_>) -> bool {
        match (&self.part, token) {
            (ForPart::Names, Token::Ident("in")) => self.part = ForPart::List,
            (ForPart::List, token) => return self.makes_a_list(token),
            (ForPart::Names | ForPart::Condition, _) => {}
        }
        false
    }

    fn makes_a_list(&mut self, token: &Token<'_>) -> bool {
        let was_value = std::mem::replace(&mut self.value, false);
        match token {
            Token::BracketOpen | Token::ParenOpen if was_value => self.open.push(Open::Argument),
            Token::BracketOpen | Token::BraceOpen => self.open.push(Open::Literal),
            Token::ParenOpen => self.open.push(Open::Group),
            Token::BracketClose | Token::BraceClose | Token::ParenClose => {
                self.open.pop();
                self.value = true;
            }
            Token::Comma => return matches!(self.open.last(), None | Some(Open::Group)),
            Token::Ident("if") if self.open.is_empty() => self.part = ForPart::Condition,
            Token::Ident("and" | "or" | "not" | "in" | "is" | "if" | "else") => {}
            Token::Ident(word) => {
                self.value = true;
                let constant = ["true", "false", "none", "True", "False", "None"].contains(word);
                return !constant && self.open.contains(&Open::Literal);
            }
            Token::Str(_) | Token::String(_) | Token::Int(_) | Token::Float(_) => self.value = true,
            _ => {}
        }
        false
    }
}
