//! Commands.

use postrider_smtp::Address;

use super::{
    Compiler,
    arguments::{Arguments, TextAt},
};
use crate::sieve::{
    error::{SieveError, shown},
    extension::Extension,
    flags::Change,
    mailbox, parse,
    program::{Command, FileInto, Modifier, Step, TestAt, Text, Vacation},
    text::is_name,
};

impl Compiler {
    /// A whole script. `require` may stand only at its beginning (RFC 5228 §3.2).
    pub(super) fn script(
        &mut self,
        commands: Vec<parse::Command>,
    ) -> Result<Vec<Step>, SieveError> {
        let begin = commands
            .iter()
            .position(|command| command.name != "require");
        let mut required = commands;
        let rest = required.split_off(begin.unwrap_or(required.len()));
        for command in required {
            self.require(command)?;
        }
        self.block(rest)
    }

    fn require(&mut self, command: parse::Command) -> Result<(), SieveError> {
        let mut arguments = plain(command)?;
        for (at, name) in arguments.texts("names of extensions")? {
            let Some(extension) = Extension::named(&name) else {
                return Err(at.error(format!(
                    "The extension {} is not supported. Remove it; there are: {}.",
                    shown(&name),
                    Extension::all()
                )));
            };
            self.required.add(extension);
            self.has_variables |= extension == Extension::Variables;
        }
        arguments.end()
    }

    fn block(&mut self, commands: Vec<parse::Command>) -> Result<Vec<Step>, SieveError> {
        let mut steps: Vec<Step> = Vec::with_capacity(commands.len());
        // The last command is an `if` that may go on.
        let mut is_open = false;
        for command in commands {
            let at = command.at;
            let name = command.name.clone();
            if !matches!(name.as_str(), "elsif" | "else") {
                let command = match name.as_str() {
                    "if" => Command::If {
                        branches: vec![self.branch(command)?],
                        otherwise: Vec::new(),
                    },
                    _ => self.command(command)?,
                };
                steps.push(Step { at, command });
                is_open = name == "if";
                continue;
            }
            let last = steps.last_mut().map(|step| &mut step.command);
            let Some(Command::If {
                branches,
                otherwise,
            }) = last.filter(|_| is_open)
            else {
                return Err(at.error(format!(
                    "There is no \"if\" before this {}. Put it behind the block of an \"if\".",
                    shown(&name)
                )));
            };
            is_open = name == "elsif";
            match is_open {
                true => branches.push(self.branch(command)?),
                false => *otherwise = self.otherwise(command)?,
            }
        }
        Ok(steps)
    }

    /// A test and its block.
    fn branch(&mut self, command: parse::Command) -> Result<(TestAt, Vec<Step>), SieveError> {
        let parse::Command {
            name,
            at,
            arguments,
            mut tests,
            block,
        } = command;
        Arguments::new("command", &name, at, arguments).end()?;
        let test = match (tests.pop(), tests.is_empty()) {
            (Some(test), true) => self.test(test)?,
            _ => {
                return Err(at.error(format!(
                    "The command {} needs one test. Combine tests by allof (...) or anyof (...).",
                    shown(&name)
                )));
            }
        };
        let block = block.ok_or_else(|| no_block(&name, at))?;
        Ok((test, self.block(block)?))
    }

    fn otherwise(&mut self, command: parse::Command) -> Result<Vec<Step>, SieveError> {
        let parse::Command {
            name,
            at,
            arguments,
            tests,
            block,
        } = command;
        Arguments::new("command", &name, at, arguments).end()?;
        if let Some(test) = tests.first() {
            return Err(test
                .at
                .error("The command \"else\" takes no test. Use \"elsif\"."));
        }
        self.block(block.ok_or_else(|| no_block(&name, at))?)
    }

    fn command(&mut self, command: parse::Command) -> Result<Command, SieveError> {
        let at = command.at;
        let name = command.name.clone();
        let mut arguments = plain(command)?;
        let command = match name.as_str() {
            "stop" => Command::Stop,
            "discard" => Command::Discard,
            "keep" => self.keep(&mut arguments)?,
            "fileinto" => Command::FileInto(self.fileinto(&mut arguments)?),
            "redirect" => self.redirect(&mut arguments)?,
            "reject" | "ereject" => self.reject(&name, &mut arguments)?,
            "setflag" => self.change_flags(Change::Set, &mut arguments)?,
            "addflag" => self.change_flags(Change::Add, &mut arguments)?,
            "removeflag" => self.change_flags(Change::Remove, &mut arguments)?,
            "set" => self.set(&mut arguments)?,
            "vacation" => Command::Vacation(Box::new(self.vacation(&mut arguments)?)),
            "require" => {
                return Err(at.error(
                    "The command \"require\" must stand before all other commands. Move it there.",
                ));
            }
            _ => {
                return Err(at.error(format!(
                    "There is no command {}. Correct the name.",
                    shown(&name)
                )));
            }
        };
        arguments.end()?;
        Ok(command)
    }

    fn keep(&mut self, arguments: &mut Arguments) -> Result<Command, SieveError> {
        let mut flags = None;
        while let Some(tag) = arguments.tag()? {
            match tag.1.as_str() {
                "flags" => flags = Some(self.flags(&tag, arguments)?),
                _ => return Err(arguments.unknown_tag(&tag)),
            }
        }
        Ok(Command::Keep { flags })
    }

    fn flags(&mut self, tag: &TextAt, arguments: &mut Arguments) -> Result<Vec<Text>, SieveError> {
        self.uses(Extension::Imap4flags, tag.0, "\":flags\"");
        let flags = arguments.texts("flags")?;
        self.texts(flags)
    }

    fn fileinto(&mut self, arguments: &mut Arguments) -> Result<FileInto, SieveError> {
        self.uses(Extension::Fileinto, arguments.at, "\"fileinto\"");
        let (mut copy, mut create, mut flags, mut special_use) = (false, false, None, None);
        while let Some(tag) = arguments.tag()? {
            match tag.1.as_str() {
                "copy" => {
                    self.uses(Extension::Copy, tag.0, "\":copy\"");
                    copy = true;
                }
                "create" => {
                    self.uses(Extension::Mailbox, tag.0, "\":create\"");
                    create = true;
                }
                "flags" => flags = Some(self.flags(&tag, arguments)?),
                "specialuse" => {
                    self.uses(Extension::SpecialUse, tag.0, "\":specialuse\"");
                    let text = arguments.text("a special use such as \"\\\\Junk\"")?;
                    special_use = Some(self.text(text)?);
                }
                _ => return Err(arguments.unknown_tag(&tag)),
            }
        }
        let mailbox = arguments.text("the name of a mailbox")?;
        let at = mailbox.0;
        let mailbox = self.text(mailbox)?;
        if let Some(name) = mailbox.constant() {
            mailbox::name(name).map_err(|fault| at.error(fault))?;
        }
        Ok(FileInto {
            mailbox,
            copy,
            create,
            flags,
            special_use,
        })
    }

    fn redirect(&mut self, arguments: &mut Arguments) -> Result<Command, SieveError> {
        let mut copy = false;
        while let Some(tag) = arguments.tag()? {
            if tag.1 != "copy" {
                return Err(arguments.unknown_tag(&tag));
            }
            self.uses(Extension::Copy, tag.0, "\":copy\"");
            copy = true;
        }
        let address = arguments.text("an address")?;
        let at = address.0;
        let address = self.text(address)?;
        if let Some(text) = address.constant()
            && let Err(fault) = Address::parse(text)
        {
            let address = shown(text);
            return Err(at.error(format!("The address {address} is wrong: {fault}.")));
        }
        Ok(Command::Redirect { address, copy })
    }

    fn reject(&mut self, name: &str, arguments: &mut Arguments) -> Result<Command, SieveError> {
        let in_session = name == "ereject";
        let extension = if in_session {
            Extension::Ereject
        } else {
            Extension::Reject
        };
        self.uses(extension, arguments.at, &format!("{name:?}"));
        let reason = arguments.text("the reason")?;
        Ok(Command::Reject {
            reason: self.text(reason)?,
            in_session,
        })
    }

    fn change_flags(
        &mut self,
        change: Change,
        arguments: &mut Arguments,
    ) -> Result<Command, SieveError> {
        self.uses(Extension::Imap4flags, arguments.at, "commands for flags");
        let variable = match arguments.count() {
            2.. => Some(arguments.text("the name of a variable")?),
            _ => None,
        };
        let flags = arguments.texts("flags")?;
        Ok(Command::Flags {
            change,
            variable: variable
                .map(|name| self.variable_named(&name))
                .transpose()?,
            flags: self.texts(flags)?,
        })
    }

    /// The variable with a name that a command or test gives as a text.
    pub(super) fn variable_named(&mut self, (at, name): &TextAt) -> Result<usize, SieveError> {
        if !is_name(name) {
            return Err(at.error(format!(
                "{} can't be the name of a variable. Use letters, digits and underscores, \
                 a letter first.",
                shown(name)
            )));
        }
        self.variable(*at, name)
    }

    fn set(&mut self, arguments: &mut Arguments) -> Result<Command, SieveError> {
        self.uses(Extension::Variables, arguments.at, "\"set\"");
        let mut modifiers: Vec<Modifier> = Vec::new();
        while let Some(tag) = arguments.tag()? {
            let Some(modifier) = Modifier::named(&tag.1) else {
                return Err(arguments.unknown_tag(&tag));
            };
            if modifier == Modifier::QuoteRegex {
                self.uses(Extension::Regex, tag.0, "\":quoteregex\"");
            }
            let same = |other: &Modifier| other.precedence() == modifier.precedence();
            if modifiers.iter().any(same) {
                return Err(tag.0.error(format!(
                    "The tag :{} can't stand with another of its kind. Remove one of them.",
                    tag.1
                )));
            }
            modifiers.push(modifier);
        }
        modifiers.sort();
        let name = arguments.text("the name of a variable")?;
        let value = arguments.text("a value")?;
        Ok(Command::Set {
            variable: self.variable_named(&name)?,
            modifiers,
            value: self.text(value)?,
        })
    }

    fn vacation(&mut self, arguments: &mut Arguments) -> Result<Vacation, SieveError> {
        self.uses(Extension::Vacation, arguments.at, "\"vacation\"");
        let mut vacation = Vacation {
            days: None,
            subject: None,
            from: None,
            addresses: Vec::new(),
            mime: false,
            handle: None,
            reason: Text::Constant(String::new()),
        };
        while let Some(tag) = arguments.tag()? {
            match tag.1.as_str() {
                "days" => vacation.days = Some(arguments.number("days")?),
                "mime" => vacation.mime = true,
                "addresses" => {
                    let addresses = arguments.texts("addresses")?;
                    vacation.addresses = self.texts(addresses)?;
                }
                "subject" => vacation.subject = Some(self.tag_text(arguments, "a subject")?),
                "from" => vacation.from = Some(self.tag_text(arguments, "an address")?),
                "handle" => vacation.handle = Some(self.tag_text(arguments, "a handle")?),
                _ => return Err(arguments.unknown_tag(&tag)),
            }
        }
        let reason = arguments.text("the answer")?;
        vacation.reason = self.text(reason)?;
        Ok(vacation)
    }

    fn tag_text(&mut self, arguments: &mut Arguments, what: &str) -> Result<Text, SieveError> {
        let text = arguments.text(what)?;
        self.text(text)
    }
}

/// The arguments of a command that has no test and no block.
fn plain(command: parse::Command) -> Result<Arguments, SieveError> {
    let parse::Command {
        name,
        at,
        arguments,
        tests,
        block,
    } = command;
    if let Some(test) = tests.first() {
        return Err(test.at.error(format!(
            "The command {} takes no test. End the command with \";\" before this word.",
            shown(&name)
        )));
    }
    if block.is_some() {
        return Err(at.error(format!(
            "The command {} takes no block. End it with \";\".",
            shown(&name)
        )));
    }
    Ok(Arguments::new("command", &name, at, arguments))
}

fn no_block(name: &str, at: crate::sieve::error::Position) -> SieveError {
    at.error(format!(
        "The command {} needs a block in \"{{\" and \"}}\" behind it.",
        shown(name)
    ))
}
