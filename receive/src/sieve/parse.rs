//! The grammar of scripts (RFC 5228 §8.2): commands, tests and arguments, without their meaning.

use super::{
    LEVELS_MAX,
    error::{Position, SieveError, shown},
    lexer::{Lexer, Token},
};

/// A command with all that belongs to it.
#[derive(Debug)]
pub(super) struct Command {
    /// The name in lower case.
    pub(super) name: String,
    pub(super) at: Position,
    pub(super) arguments: Vec<Argument>,
    pub(super) tests: Vec<Test>,
    /// None: a semicolon ends the command.
    pub(super) block: Option<Vec<Self>>,
}

/// A test with all that belongs to it.
#[derive(Debug)]
pub(super) struct Test {
    /// The name in lower case.
    pub(super) name: String,
    pub(super) at: Position,
    pub(super) arguments: Vec<Argument>,
    pub(super) tests: Vec<Self>,
}

/// An argument of a command or a test.
#[derive(Debug)]
pub(super) struct Argument {
    pub(super) at: Position,
    pub(super) value: Value,
}

#[derive(Debug)]
pub(super) enum Value {
    /// In lower case, without the colon.
    Tag(String),
    Number(u64),
    Text(String),
    /// Each text with its place.
    List(Vec<(Position, String)>),
}

/// Parses a script.
pub(super) fn parse(script: &str) -> Result<Vec<Command>, SieveError> {
    let mut lexer = Lexer::new(script);
    let (token, at) = lexer.next()?;
    let mut parser = Parser { lexer, token, at };
    let commands = parser.commands(0)?;
    match parser.token {
        Token::End => Ok(commands),
        // Commands end at a brace that closes, or at the end.
        _ => Err(parser
            .at
            .error("This \"}\" closes no block. Remove it, or open a block with \"{\" before it.")),
    }
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    /// The token that comes.
    token: Token,
    at: Position,
}

impl Parser<'_> {
    /// Takes the token that comes.
    fn take(&mut self) -> Result<Token, SieveError> {
        let (token, at) = self.lexer.next()?;
        self.at = at;
        Ok(std::mem::replace(&mut self.token, token))
    }

    fn is(&self, sign: char) -> bool {
        self.token == Token::Sign(sign)
    }

    /// Takes this sign, if it comes.
    fn takes(&mut self, sign: char) -> Result<bool, SieveError> {
        let is_there = self.is(sign);
        if is_there {
            self.take()?;
        }
        Ok(is_there)
    }

    /// The commands up to the end of a block, whose level this is.
    fn commands(&mut self, level: usize) -> Result<Vec<Command>, SieveError> {
        let mut commands = Vec::new();
        while !self.is('}') && self.token != Token::End {
            commands.push(self.command(level)?);
        }
        Ok(commands)
    }

    fn command(&mut self, level: usize) -> Result<Command, SieveError> {
        let (name, at) = self.name("a command")?;
        let arguments = self.arguments()?;
        let tests = self.tests(1)?;
        let block = self.block(&name, at, level)?;
        Ok(Command {
            name,
            at,
            arguments,
            tests,
            block,
        })
    }

    /// The end of a command: a semicolon or a block.
    fn block(
        &mut self,
        name: &str,
        begun: Position,
        level: usize,
    ) -> Result<Option<Vec<Command>>, SieveError> {
        if self.takes(';')? {
            return Ok(None);
        }
        let at = self.at;
        if !self.takes('{')? {
            return Err(at.error(format!(
                "The command {} at line {}, column {} does not end before {}. \
                 Write \";\" behind it, or a block in \"{{\" and \"}}\".",
                shown(name),
                begun.line,
                begun.column,
                self.token.shown()
            )));
        }
        if level >= LEVELS_MAX {
            return Err(at.error(format!(
                "Blocks nest more than {LEVELS_MAX} deep. Take some of them apart."
            )));
        }
        let commands = self.commands(level + 1)?;
        if !self.takes('}')? {
            return Err(at.error("This block does not end. Close it with \"}\"."));
        }
        Ok(Some(commands))
    }

    fn name(&mut self, of: &str) -> Result<(String, Position), SieveError> {
        let at = self.at;
        match self.take()? {
            Token::Identifier(name) => Ok((name.to_ascii_lowercase(), at)),
            other => Err(at.error(format!(
                "The name of {of} is expected here, and not {}.",
                other.shown()
            ))),
        }
    }

    fn arguments(&mut self) -> Result<Vec<Argument>, SieveError> {
        let mut arguments = Vec::new();
        loop {
            let at = self.at;
            let value = match &self.token {
                Token::Sign('[') => self.list()?,
                Token::Tag(_) | Token::Number(_) | Token::Text(_) => match self.take()? {
                    Token::Tag(name) => Value::Tag(name),
                    Token::Number(number) => Value::Number(number),
                    Token::Text(text) => Value::Text(text),
                    _ => return Ok(arguments),
                },
                _ => return Ok(arguments),
            };
            arguments.push(Argument { at, value });
        }
    }

    fn list(&mut self) -> Result<Value, SieveError> {
        let begun = self.at;
        self.take()?;
        let mut texts = Vec::new();
        loop {
            let at = self.at;
            match self.take()? {
                Token::Text(text) => texts.push((at, text)),
                Token::End => {
                    return Err(begun.error("This list does not end. Close it with \"]\"."));
                }
                other => {
                    return Err(at.error(format!(
                        "A text in double quotes is expected in a list, and not {}.",
                        other.shown()
                    )));
                }
            }
            if self.takes(']')? {
                return Ok(Value::List(texts));
            }
            if !self.takes(',')? {
                return Err(self.at.error(format!(
                    "A list needs \",\" between its texts and \"]\" at its end, and not {}.",
                    self.token.shown()
                )));
            }
        }
    }

    /// No test, one test, or a list of tests. The outermost test has level 1.
    fn tests(&mut self, level: usize) -> Result<Vec<Test>, SieveError> {
        match &self.token {
            Token::Identifier(_) => Ok(vec![self.test(level)?]),
            Token::Sign('(') => {
                self.take()?;
                let mut tests = Vec::new();
                loop {
                    tests.push(self.test(level)?);
                    if self.takes(')')? {
                        return Ok(tests);
                    }
                    if !self.takes(',')? {
                        return Err(self.at.error(format!(
                            "Tests need \",\" between them and \")\" behind the last, and not {}.",
                            self.token.shown()
                        )));
                    }
                }
            }
            _ => Ok(Vec::new()),
        }
    }

    fn test(&mut self, level: usize) -> Result<Test, SieveError> {
        let (name, at) = self.name("a test")?;
        if level > LEVELS_MAX {
            return Err(at.error(format!(
                "Tests nest more than {LEVELS_MAX} deep. Take some of them apart."
            )));
        }
        Ok(Test {
            name,
            at,
            arguments: self.arguments()?,
            tests: self.tests(level + 1)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_read_with_its_parts() {
        let script = "a; B :c 1 [\"x\", \"y\"] \"z\" d (e, f \"g\" h) { i; j { } }";
        let commands = parse(script).unwrap();
        assert_eq!(commands.len(), 2);
        let b = &commands[1];
        assert_eq!((b.name.as_str(), b.arguments.len()), ("b", 4));
        assert!(matches!(&b.arguments[2].value, Value::List(texts) if texts.len() == 2));
        let d = &b.tests[0];
        assert_eq!((d.name.as_str(), d.tests.len()), ("d", 2));
        assert_eq!(d.tests[1].tests[0].name, "h");
        let block = b.block.as_ref().unwrap();
        assert!(block[0].block.is_none() && block[1].block.is_some());
        assert!(parse("").unwrap().is_empty());
    }

    #[test]
    fn what_is_not_in_the_grammar_is_an_error_with_its_place() {
        for (script, line, column, words) in [
            ("keep", 1, 5, "does not end before the end of the script"),
            ("keep\n{ stop", 2, 7, "\"stop\" at line 2"),
            ("if true { keep;", 1, 9, "Close it with \"}\""),
            ("keep; }", 1, 7, "closes no block"),
            ("\"a\";", 1, 1, "name of a command"),
            ("if anyof ( { }", 1, 12, "name of a test"),
            ("if anyof (true; true) { }", 1, 15, "between them"),
            ("a [];", 1, 4, "expected in a list"),
            ("a [\"x\" \"y\"];", 1, 8, "between its texts"),
            ("a [\"x\",", 1, 3, "does not end"),
        ] {
            let error = parse(script).unwrap_err();
            assert_eq!((error.line, error.column), (line, column), "{error}");
            assert!(error.text.contains(words), "{error}");
        }
    }

    #[test]
    fn blocks_and_tests_nest_fifteen_deep() {
        let blocks = |depth| format!("{}{}", "if true { ".repeat(depth), "}".repeat(depth));
        assert!(parse(&blocks(15)).is_ok());
        let error = parse(&blocks(16)).unwrap_err();
        assert!(error.text.contains("15 deep"), "{error}");
        let tests = |depth| format!("if {}true {{ }}", "not ".repeat(depth));
        assert!(parse(&tests(14)).is_ok());
        assert!(parse(&tests(15)).unwrap_err().text.contains("15 deep"));
        let lists = |depth| {
            format!(
                "if {}true{} {{ }}",
                "anyof (".repeat(depth),
                ")".repeat(depth)
            )
        };
        assert!(parse(&lists(14)).is_ok());
        assert!(parse(&lists(3000)).is_err() && parse(&blocks(6000)).is_err());
    }
}
