//! The negotiation: what the filter may change, what it wants to be told, and which macros it
//! wants.

use bytes::Bytes;

use super::{
    super::answer::Failure,
    macros::{self, Macro},
    reply::FilterReply,
};

/// The version of the protocol that is offered.
pub(super) const VERSION: u32 = 6;
/// The oldest version that is taken.
const VERSION_MIN: u32 = 2;
/// The first version that has the command for DATA.
const VERSION_WITH_DATA: u32 = 4;

/// All actions: what a filter may do.
pub(super) const ACTIONS: u32 = 0x1ff;

/// The wishes and abilities about the conversation that are offered: all commands may be unwanted
/// or without a reply, and the two larger data sizes.
pub(super) const PROTOCOL: u32 = 0x1f_ffff | DATA_SIZE_256K | DATA_SIZE_1M;

const SKIP: u32 = 0x400;
const REJECTED_RECIPIENTS: u32 = 0x800;
const LEADING_SPACE: u32 = 0x10_0000;
const DATA_SIZE_256K: u32 = 0x1000_0000;
const DATA_SIZE_1M: u32 = 0x2000_0000;

/// The most lists of macros in a reply. There are seven stages.
pub(super) const LISTS_MAX: usize = 64;

/// An action that a filter must negotiate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Fields may be added and inserted.
    AddHeaders = 0x01,
    /// The body may be replaced.
    ChangeBody = 0x02,
    /// Recipients may be added.
    AddRecipients = 0x04,
    /// Recipients may be removed.
    DeleteRecipients = 0x08,
    /// Fields may be changed and removed.
    ChangeHeaders = 0x10,
    /// The message may be held.
    Quarantine = 0x20,
    /// The reverse-path may be changed.
    ChangeSender = 0x40,
    /// Recipients may be added with parameters.
    AddRecipientsWithParameters = 0x80,
}

/// A command to the filter that has a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// `C`: the connection of the client.
    Connect,
    /// `H`: EHLO or HELO.
    Helo,
    /// `M`: MAIL.
    Mail,
    /// `R`: RCPT.
    Rcpt,
    /// `T`: DATA.
    Data,
    /// `L`: a field.
    Header,
    /// `N`: the end of the header section.
    EndOfHeader,
    /// `B`: a piece of the body.
    Body,
    /// `E`: the end of the message.
    EndOfMessage,
}

impl Stage {
    /// The letter of the command.
    #[must_use]
    pub(super) const fn command(self) -> u8 {
        match self {
            Self::Connect => b'C',
            Self::Helo => b'H',
            Self::Mail => b'M',
            Self::Rcpt => b'R',
            Self::Data => b'T',
            Self::Header => b'L',
            Self::EndOfHeader => b'N',
            Self::Body => b'B',
            Self::EndOfMessage => b'E',
        }
    }

    /// The bit by which a filter does not want the command.
    const fn unwanted(self) -> u32 {
        match self {
            Self::Connect => 0x01,
            Self::Helo => 0x02,
            Self::Mail => 0x04,
            Self::Rcpt => 0x08,
            Self::Body => 0x10,
            Self::Header => 0x20,
            Self::EndOfHeader => 0x40,
            Self::Data => 0x200,
            Self::EndOfMessage => 0,
        }
    }

    /// The bit by which a filter sends no reply to the command.
    const fn silent(self) -> u32 {
        match self {
            Self::Header => 0x80,
            Self::Connect => 0x1000,
            Self::Helo => 0x2000,
            Self::Mail => 0x4000,
            Self::Rcpt => 0x8000,
            Self::Data => 0x1_0000,
            Self::EndOfHeader => 0x4_0000,
            Self::Body => 0x8_0000,
            Self::EndOfMessage => 0,
        }
    }

    /// The number of the list of macros. Fields have the list of the end of the header section.
    /// None: no macros go before the command.
    const fn list(self) -> Option<usize> {
        match self {
            Self::Connect => Some(0),
            Self::Helo => Some(1),
            Self::Mail => Some(2),
            Self::Rcpt => Some(3),
            Self::Data => Some(4),
            Self::EndOfMessage => Some(5),
            Self::Header | Self::EndOfHeader => Some(6),
            Self::Body => None,
        }
    }
}

/// The macros that a filter wants at a stage, as they are on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SymbolList {
    /// The number of the stage.
    pub(super) stage: u32,
    /// The names with blanks between them.
    pub(super) names: Bytes,
}

/// What a filter and the server have agreed upon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreed {
    version: u32,
    actions: u32,
    protocol: u32,
    /// The macros of each list. None: the usual ones.
    lists: [Option<Vec<Macro>>; 7],
}

impl Agreed {
    /// What is agreed by a filter's reply to the offer. `earlier` are the lists of macros that came
    /// before the reply.
    ///
    /// The bits of all versions are honoured, whatever the version of the reply: filters that say 2
    /// and mean 6 are about.
    ///
    /// # Errors
    /// If the reply is not one to an offer, has another version, or bits that were not offered.
    pub(super) fn read(reply: FilterReply, earlier: &[SymbolList]) -> Result<Self, Failure> {
        let FilterReply::Options {
            version,
            actions,
            protocol,
            symbols,
        } = reply
        else {
            let letter = reply.letter();
            return Err(Failure::invalid(format_args!(
                "the filter answers the negotiation with \"{letter}\""
            )));
        };
        if !(VERSION_MIN..=VERSION).contains(&version) {
            return Err(Failure::invalid(format_args!(
                "the filter speaks version {version} of the protocol, and not one from \
                 {VERSION_MIN} to {VERSION}"
            )));
        }
        for (what, given, offered) in [
            ("actions", actions, ACTIONS),
            ("protocol bits", protocol, PROTOCOL),
        ] {
            let unknown = given & !offered;
            if unknown != 0 {
                return Err(Failure::invalid(format_args!(
                    "the filter wants {what} that were not offered, 0x{unknown:x}"
                )));
            }
        }
        let mut agreed = Self {
            version,
            actions,
            protocol,
            lists: Default::default(),
        };
        for list in earlier.iter().chain(&symbols).take(LISTS_MAX) {
            agreed.set_list(list);
        }
        Ok(agreed)
    }

    /// A stage that is not known here has no list.
    fn set_list(&mut self, list: &SymbolList) {
        let place = usize::try_from(list.stage).ok();
        if let Some(place) = place.and_then(|place| self.lists.get_mut(place)) {
            *place = Some(macros::named(&list.names));
        }
    }

    /// Whether the filter may do this.
    #[must_use]
    pub(super) const fn allows(&self, action: Action) -> bool {
        self.actions & action as u32 != 0
    }

    /// Whether the filter is told of this.
    #[must_use]
    pub(super) const fn wants(&self, stage: Stage) -> bool {
        let known = self.version >= VERSION_WITH_DATA || !matches!(stage, Stage::Data);
        known && self.protocol & stage.unwanted() == 0
    }

    /// Whether the filter replies to the command.
    #[must_use]
    pub(super) const fn replies(&self, stage: Stage) -> bool {
        self.protocol & stage.silent() == 0
    }

    /// Whether the filter may ask for no more pieces of a body.
    #[must_use]
    pub(super) const fn skips(&self) -> bool {
        self.protocol & SKIP != 0
    }

    /// Whether the filter is told of recipients that were refused already.
    #[must_use]
    pub(super) const fn wants_rejected(&self) -> bool {
        self.protocol & REJECTED_RECIPIENTS != 0
    }

    /// Whether the values of fields have the space behind the colon, in both directions.
    #[must_use]
    pub(super) const fn keeps_space(&self) -> bool {
        self.protocol & LEADING_SPACE != 0
    }

    /// The most bytes of data in a command.
    #[must_use]
    pub(super) const fn data_size(&self) -> usize {
        if self.protocol & DATA_SIZE_1M != 0 {
            1024 * 1024
        } else if self.protocol & DATA_SIZE_256K != 0 {
            256 * 1024
        } else {
            65535
        }
    }

    /// The macros that go before the command. None: no packet with macros goes before it.
    #[must_use]
    pub(super) fn macros(&self, stage: Stage) -> Option<&[Macro]> {
        let list = self.lists.get(stage.list()?)?.as_deref();
        Some(list.unwrap_or_else(|| macros::usual(stage)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(version: u32, actions: u32, protocol: u32) -> FilterReply {
        FilterReply::Options {
            version,
            actions,
            protocol,
            symbols: Vec::new(),
        }
    }

    fn agreed(version: u32, actions: u32, protocol: u32) -> Agreed {
        Agreed::read(reply(version, actions, protocol), &[]).unwrap()
    }

    #[test]
    fn wrong_replies_are_refused() {
        for (reply, text) in [
            (FilterReply::Continue, "answers the negotiation with \"c\""),
            (FilterReply::Reject, "answers the negotiation with \"r\""),
            (reply(1, 0, 0), "speaks version 1 of the protocol"),
            (reply(7, 0, 0), "speaks version 7 of the protocol"),
            (reply(u32::MAX, 0, 0), "not one from 2 to 6"),
            (
                reply(6, 0x201, 0),
                "wants actions that were not offered, 0x200",
            ),
            (
                reply(6, 0, 0x4020_0001),
                "wants protocol bits that were not offered, 0x40200000",
            ),
        ] {
            let error = Agreed::read(reply, &[]).unwrap_err();
            assert!(matches!(error, Failure::Invalid(_)));
            assert!(error.to_string().contains(text), "{error}");
        }
    }

    #[test]
    fn each_bit_has_its_effect() {
        const ALL: [Stage; 9] = [
            Stage::Connect,
            Stage::Helo,
            Stage::Mail,
            Stage::Rcpt,
            Stage::Data,
            Stage::Header,
            Stage::EndOfHeader,
            Stage::Body,
            Stage::EndOfMessage,
        ];
        let letters = |of: &Agreed, has: fn(&Agreed, Stage) -> bool| -> String {
            let stages = ALL.iter().filter(|stage| has(of, **stage));
            stages.map(|stage| char::from(stage.command())).collect()
        };
        for (version, protocol, told, replied) in [
            (6, 0, "CHMRTLNBE", "CHMRTLNBE"),
            (4, 0, "CHMRTLNBE", "CHMRTLNBE"),
            (3, 0, "CHMRLNBE", "CHMRTLNBE"),
            (2, 0, "CHMRLNBE", "CHMRTLNBE"),
            (6, 0x01, "HMRTLNBE", "CHMRTLNBE"),
            (6, 0x02, "CMRTLNBE", "CHMRTLNBE"),
            (6, 0x04, "CHRTLNBE", "CHMRTLNBE"),
            (6, 0x08, "CHMTLNBE", "CHMRTLNBE"),
            (6, 0x10, "CHMRTLNE", "CHMRTLNBE"),
            (6, 0x20, "CHMRTNBE", "CHMRTLNBE"),
            (6, 0x40, "CHMRTLBE", "CHMRTLNBE"),
            (6, 0x100, "CHMRTLNBE", "CHMRTLNBE"),
            (6, 0x200, "CHMRLNBE", "CHMRTLNBE"),
            (6, 0x80, "CHMRTLNBE", "CHMRTNBE"),
            (6, 0x1000, "CHMRTLNBE", "HMRTLNBE"),
            (6, 0x2000, "CHMRTLNBE", "CMRTLNBE"),
            (6, 0x4000, "CHMRTLNBE", "CHRTLNBE"),
            (6, 0x8000, "CHMRTLNBE", "CHMTLNBE"),
            (6, 0x1_0000, "CHMRTLNBE", "CHMRLNBE"),
            (6, 0x2_0000, "CHMRTLNBE", "CHMRTLNBE"),
            (6, 0x4_0000, "CHMRTLNBE", "CHMRTLBE"),
            (6, 0x8_0000, "CHMRTLNBE", "CHMRTLNE"),
            (6, PROTOCOL, "E", "E"),
        ] {
            let agreed = agreed(version, 0, protocol);
            assert_eq!(letters(&agreed, Agreed::wants), told, "0x{protocol:x}");
            assert_eq!(letters(&agreed, Agreed::replies), replied, "0x{protocol:x}");
        }
        type Has = fn(&Agreed) -> bool;
        let others: [(u32, Has); 3] = [
            (0x400, Agreed::skips),
            (0x800, Agreed::wants_rejected),
            (0x10_0000, Agreed::keeps_space),
        ];
        for (bit, has) in others {
            assert!(has(&agreed(6, 0, bit)) && !has(&agreed(6, 0, PROTOCOL & !bit)));
        }
        for (protocol, size) in [
            (0, 65535),
            (DATA_SIZE_256K, 256 * 1024),
            (DATA_SIZE_1M, 1024 * 1024),
            (DATA_SIZE_1M | DATA_SIZE_256K, 1024 * 1024),
        ] {
            assert_eq!(agreed(6, 0, protocol).data_size(), size);
        }
    }

    #[test]
    fn each_action_has_its_bit() {
        for (bit, action) in [
            (0x01, Action::AddHeaders),
            (0x02, Action::ChangeBody),
            (0x04, Action::AddRecipients),
            (0x08, Action::DeleteRecipients),
            (0x10, Action::ChangeHeaders),
            (0x20, Action::Quarantine),
            (0x40, Action::ChangeSender),
            (0x80, Action::AddRecipientsWithParameters),
        ] {
            assert!(agreed(6, bit, 0).allows(action), "{action:?}");
            assert!(!agreed(6, ACTIONS & !bit, 0).allows(action), "{action:?}");
        }
    }

    #[test]
    fn a_filter_may_choose_its_macros() {
        let list = |stage, names: &'static str| SymbolList {
            stage,
            names: Bytes::from_static(names.as_bytes()),
        };
        let reply = FilterReply::Options {
            version: 6,
            actions: 0,
            protocol: 0,
            symbols: vec![
                list(0, "j {client_addr},unknown_macro  {unknown}"),
                list(5, ""),
                list(7, "i"),
                list(u32::MAX, "i"),
            ],
        };
        let agreed = Agreed::read(reply, &[list(0, "v"), list(1, "i")]).unwrap();
        let names = |stage| {
            let macros = agreed.macros(stage)?.iter().map(|it| it.name());
            Some(macros.collect::<Vec<_>>().join(" "))
        };
        for (stage, expected) in [
            (Stage::Connect, Some("j {client_addr}")),
            (Stage::Helo, Some("i")),
            (Stage::Rcpt, Some("i {rcpt_addr} {rcpt_host} {rcpt_mailer}")),
            (Stage::Data, Some("i")),
            (Stage::Header, Some("i")),
            (Stage::EndOfHeader, Some("i")),
            (Stage::Body, None),
            (Stage::EndOfMessage, Some("")),
        ] {
            assert_eq!(names(stage).as_deref(), expected, "{stage:?}");
        }
    }
}
