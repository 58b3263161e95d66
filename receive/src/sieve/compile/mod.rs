//! From the grammar of a script to a program: each argument is checked, each extension is known.
//!
//! | file | what it compiles |
//! |---|---|
//! | here | a whole script, its texts and its extensions |
//! | `arguments` | nothing: it takes arguments one by one |
//! | `commands` | commands |
//! | `conditions` | tests |
//! | `matcher` | comparators, match types, keys and parts of addresses |

mod arguments;
mod commands;
mod conditions;
mod matcher;

use self::arguments::TextAt;
use super::{
    error::{Position, SieveError, shown},
    extension::{Extension, Extensions},
    limits::{SCRIPT_MAX, VARIABLES_MAX},
    matching::MATCHES_MAX,
    parse::{Command, Test, parse},
    program::{Piece, Script, Text},
    text::{Written, decoded, pieces},
};

/// The most warnings about a script. Further ones would help nobody.
const WARNINGS_MAX: usize = 20;

impl Script {
    /// Compiles a script.
    ///
    /// # Errors
    /// The first fault of the script, with its place.
    pub fn compile(script: &[u8]) -> Result<Self, SieveError> {
        let commands = parse(readable(script)?)?;
        let mut compiler = Compiler {
            required: Extensions::default(),
            warned: Extensions::default(),
            has_variables: uses_variables(&commands),
            variables: Vec::new(),
            regexes: 0,
            warnings: Vec::new(),
        };
        let commands = compiler.script(commands)?;
        Ok(Self {
            commands,
            variables: compiler.variables.len(),
            warnings: compiler.warnings,
        })
    }
}

/// The script as text, if it has a fitting size and only characters that a script may have.
fn readable(script: &[u8]) -> Result<&str, SieveError> {
    if script.len() > SCRIPT_MAX {
        return Err(Position::START.error(format!(
            "The script has {} bytes. Make it shorter: {SCRIPT_MAX} bytes are the most.",
            script.len()
        )));
    }
    let text = match std::str::from_utf8(script) {
        Ok(text) => text,
        Err(error) => {
            let valid = script.get(..error.valid_up_to()).unwrap_or_default();
            let at = Position::START.behind(&String::from_utf8_lossy(valid));
            return Err(at.error("This byte is no UTF-8. Save the script as UTF-8."));
        }
    };
    match text.split_once('\0') {
        Some((before, _)) => Err(Position::START
            .behind(before)
            .error("This character is NUL. Remove it.")),
        None => Ok(text),
    }
}

/// Whether a command or test shows that `${...}` means a variable, though the script may not
/// require `variables`.
fn uses_variables(commands: &[Command]) -> bool {
    fn in_tests(tests: &[Test]) -> bool {
        tests
            .iter()
            .any(|test| test.name == "string" || in_tests(&test.tests))
    }
    commands.iter().any(|command| {
        let block = command.block.as_deref().unwrap_or_default();
        command.name == "set" || in_tests(&command.tests) || uses_variables(block)
    })
}

struct Compiler {
    required: Extensions,
    /// Extensions that are used without being required. Each gets one warning.
    warned: Extensions,
    /// `${...}` means a variable.
    has_variables: bool,
    /// The names of the variables, in lower case.
    variables: Vec<String>,
    regexes: usize,
    warnings: Vec<SieveError>,
}

impl Compiler {
    /// Notes that something of an extension is used. `what` names it.
    fn uses(&mut self, extension: Extension, at: Position, what: &str) {
        if !self.required.has(extension) && self.warned.add(extension) {
            let name = extension.name();
            self.warn(at.error(format!(
                "The script uses {what} without the extension {name:?}. Name it in \"require\"."
            )));
        }
    }

    fn warn(&mut self, warning: SieveError) {
        if self.warnings.len() < WARNINGS_MAX {
            self.warnings.push(warning);
        }
    }

    /// A text with its encoded characters and variables.
    fn text(&mut self, (at, text): TextAt) -> Result<Text, SieveError> {
        let text = match self.required.has(Extension::EncodedCharacter) {
            true => decoded(&text).map_err(|fault| at.error(fault))?,
            false => text,
        };
        let written = pieces(&text);
        let Some(first) = written.iter().find_map(|piece| match piece {
            Written::Variable(name) => Some(*name),
            Written::Plain(_) => None,
        }) else {
            return Ok(Text::Constant(text));
        };
        if !self.has_variables {
            let reference = shown(&format!("${{{first}}}"));
            self.warn(at.error(format!(
                "The text has {reference}, and it stays as it is. \
                 Name \"variables\" in \"require\" if it means a variable."
            )));
            return Ok(Text::Constant(text));
        }
        let pieces = written.into_iter().map(|piece| match piece {
            Written::Plain(text) => Ok(Piece::Literal(text.to_owned())),
            Written::Variable(name) => self.reference(at, name),
        });
        Ok(Text::Template(pieces.collect::<Result<_, _>>()?))
    }

    fn texts(&mut self, texts: Vec<TextAt>) -> Result<Vec<Text>, SieveError> {
        texts.into_iter().map(|text| self.text(text)).collect()
    }

    /// A variable in a text.
    fn reference(&mut self, at: Position, name: &str) -> Result<Piece, SieveError> {
        if name.contains('.') {
            return Err(at.error(format!(
                "The variable {} has a namespace, and no extension here has namespaces. \
                 Use a name without dots.",
                shown(name)
            )));
        }
        if name.starts_with(|first: char| first.is_ascii_digit()) {
            let number = name.parse::<usize>().ok();
            let number = number.filter(|number| *number < MATCHES_MAX);
            return number.map(Piece::Match).ok_or_else(|| {
                at.error(format!(
                    "The match variable {} is beyond ${{{}}}, which is the last.",
                    shown(name),
                    MATCHES_MAX - 1
                ))
            });
        }
        Ok(Piece::Variable(self.variable(at, name)?))
    }

    /// The number of a variable.
    fn variable(&mut self, at: Position, name: &str) -> Result<usize, SieveError> {
        let name = name.to_ascii_lowercase();
        if let Some(known) = self.variables.iter().position(|known| *known == name) {
            return Ok(known);
        }
        if self.variables.len() >= VARIABLES_MAX {
            return Err(at.error(format!(
                "The script has more than {VARIABLES_MAX} variables. Use fewer."
            )));
        }
        self.variables.push(name);
        Ok(self.variables.len() - 1)
    }
}
