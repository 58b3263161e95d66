//! The subjects: the kinds of things that the store keeps.
//!
//! Each subject has a folder with its records, its operations, its tables, its questions and its
//! part of the model. The list at the end of this file names all subjects, once. The state, the
//! encoding of the operations and the model are made from that list. A subject that is not in the
//! list does not compile into the store, and one that is in the list has to bring all its parts.
//!
//! The list also declares the folders as modules, so `cargo fmt` does not see them. Format them
//! with `rustfmt --edition 2024 store/src/subject/*/*.rs`.
//!
//! A new subject costs one folder and one line. Its tag must be a new one: the journal and the
//! history refer to it.

#[macro_use]
mod macros;
mod check;
mod parts;

pub(crate) use self::parts::*;
pub(crate) use crate::engine::journal::read::{Listing, PORTION, Reader};

#[cfg(any(test, feature = "memory"))]
use crate::{NewText, TextId};
use crate::{
    Time,
    error::Fault,
    journal::{Space, TextPlace},
    table::{
        Faults, Frozen, Layered, Versions,
        value::{Unreadable, append, exactly, version},
    },
    textfile::TextFilePlace,
};

/// The version of an operation's envelope: the tag of the subject, the version of its operations,
/// the operation.
pub(crate) const ENVELOPE: u8 = 2;

/// Makes the state, the operations and the model out of the list of subjects.
macro_rules! subjects {
    ($($tag:literal $name:ident $variant:ident,)*) => {
        $(pub(crate) mod $name;)*

        /// The public names of each subject.
        pub(crate) mod exports {
            $(
                #[allow(
                    unused_imports,
                    unreachable_pub,
                    reason = "a subject may show nothing, and lib.rs shows the rest"
                )]
                pub use super::$name::*;
            )*
        }

        /// The state of a store. Each record is in one table. The other tables are sorted ways to
        /// the records, and follow from them.
        pub(crate) struct State {
            $(pub(crate) $name: $name::Tables,)*
            pub(crate) effects: Effects,
            /// The subjects whose keys in the index are of an older version.
            older_keys: Vec<u8>,
        }

        impl State {
            pub(crate) fn new() -> Self {
                Self {
                    $($name: $name::Tables::new(),)*
                    effects: Effects::default(),
                    older_keys: Vec::new(),
                }
            }

            /// Sets apart what changed since the last time, to be written to the index. The part
            /// that was set apart before must be in the index by then.
            pub(crate) fn freeze(&mut self) -> Vec<Box<dyn Frozen>> {
                let mut frozen = Vec::new();
                $(self.$name.freeze(&mut frozen);)*
                frozen
            }

            /// Takes the index as it is now, which has what was frozen.
            pub(crate) fn rebase(&mut self, transaction: &redb::ReadTransaction) -> Result<(), Fault> {
                $(self.$name.rebase(transaction)?;)*
                Ok(())
            }

            /// Lets go of the index, so that it can be closed.
            pub(crate) fn unbase(&mut self) {
                $(self.$name.unbase();)*
            }

            /// The counters of each subject, encoded, to be kept with the tables.
            pub(crate) fn counters(&self) -> Vec<(&'static str, Vec<u8>)> {
                vec![$((stringify!($name), encode_counters(&self.$name)),)*]
            }

            /// Sets the counters of a subject.
            pub(crate) fn set_counters(&mut self, name: &str, bytes: &[u8]) -> Result<(), Unreadable> {
                match name {
                    $(stringify!($name) => {
                        if decode_counters(&mut self.$name, bytes)? {
                            self.older_keys.push($tag);
                        }
                        Ok(())
                    })*
                    _ => Err(Unreadable::NewerName),
                }
            }

            /// Derives the keys anew that are of an older version. To be called when the index is
            /// there, and before the journal is replayed: its operations are for the new keys.
            pub(crate) fn renew_keys(&mut self) -> Result<(), Fault> {
                for tag in std::mem::take(&mut self.older_keys) {
                    match tag {
                        $($tag => $name::Tables::renew_keys(self)?,)*
                        _ => {}
                    }
                }
                Ok(())
            }

            /// What the index and the journal are written in: the version of each table, by its
            /// name, and of the operations of each subject.
            pub(crate) fn versions(&self) -> Versions {
                let mut versions = Versions::new();
                $(
                    self.$name.versions(&mut versions);
                    let operations = <$name::Op as Operations>::VERSION;
                    versions.insert(concat!("operations/", stringify!($name)).into(), operations);
                )*
                versions
            }

            /// Gives the next records of each subject numbers that are this much higher.
            pub(crate) fn skip_ids(&mut self, by: u64) {
                $(self.$name.skip_ids(by);)*
            }

            /// Removes a record of the history whose time is over.
            pub(crate) fn forget(&mut self, tag: u8, number: u64) -> Result<(), Fault> {
                match tag {
                    $($tag => $name::Tables::forget(self, number),)*
                    _ => Ok(()),
                }
            }

            /// Removes at most `max` records that are too old.
            pub(crate) fn sweep(&mut self, now: Time, max: u64) -> Result<u64, Fault> {
                let mut removed = 0;
                $(removed += $name::Tables::sweep(self, now, max - removed)?;)*
                Ok(removed)
            }

            /// Reads all rows of the index.
            fn check_rows(&self, faults: &mut Faults) {
                $(self.$name.check_rows(faults);)*
            }

            /// How many records were set aside, since they could not be read.
            pub(crate) fn set_aside(&self) -> u64 {
                0 $(+ self.$name.set_aside())*
            }

            /// The names of all tables in the index.
            #[cfg(test)]
            pub(crate) fn table_names(&self) -> Vec<&'static str> {
                let mut names = Vec::new();
                $(self.$name.names(&mut names);)*
                names
            }
        }

        /// A change of the state, as a value: what the journal's entries are.
        #[derive(Debug)]
        #[allow(
            clippy::large_enum_variant,
            reason = "nearly all operations are the large one; a box would cost an allocation per message"
        )]
        pub(crate) enum Op {
            $($variant($name::Op),)*
        }

        impl Op {
            pub(crate) fn encode(&self) -> Vec<u8> {
                match self {
                    $(Self::$variant(op) => encode_op($tag, op),)*
                }
            }

            pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
                let Some(([tag, version], rest)) = bytes.split_first_chunk() else {
                    return Err(Unreadable::Senseless);
                };
                match *tag {
                    $($tag => decode_op(*version, rest).map(Self::$variant),)*
                    tag => Err(Unreadable::NewerTag(tag)),
                }
            }

            /// Carries the operation out. A fault leaves the state half changed.
            pub(crate) fn apply(
                self,
                state: &mut State,
                place: Option<TextPlace>,
            ) -> Result<Applied, Fault> {
                match self {
                    $(Self::$variant(op) => op.apply(state, place),)*
                }
            }

            #[cfg(any(test, feature = "memory"))]
            pub(crate) fn apply_to_model(
                self,
                model: &mut ModelState,
                text: Option<NewText>,
            ) -> Applied {
                match self {
                    $(Self::$variant(op) => op.apply_to_model(model, text),)*
                }
            }

            pub(crate) fn changes(&self) -> usize {
                match self {
                    $(Self::$variant(op) => op.changes(),)*
                }
            }

            pub(crate) fn space(&self) -> Space {
                match self {
                    $(Self::$variant(op) => op.space(),)*
                }
            }

            pub(crate) fn set_file(&mut self, place: TextFilePlace) {
                match self {
                    $(Self::$variant(op) => op.set_file(place),)*
                }
            }
        }

        /// The tag of each subject.
        pub(crate) mod tag {
            $(
                #[allow(non_upper_case_globals, dead_code, reason = "the names are those of the subjects")]
                pub(crate) const $name: u8 = $tag;
            )*
        }

        /// The state of the model.
        #[cfg(any(test, feature = "memory"))]
        #[derive(Clone, Default)]
        pub(crate) struct ModelState {
            $(pub(crate) $name: $name::model::Model,)*
        }

        #[cfg(any(test, feature = "memory"))]
        impl ModelState {
            /// Whether a record refers to this text.
            pub(crate) fn uses(&self, text: TextId) -> bool {
                false $(|| self.$name.uses(text))*
            }

            /// The records of the history: when the time of each is over, the tag of its subject,
            /// its number.
            pub(crate) fn history(&self) -> Vec<(Time, u8, u64)> {
                let mut all = Vec::new();
                $(all.extend(self.$name.history().into_iter().map(|(time, number)| (time, $tag, number)));)*
                all
            }

            pub(crate) fn skip_ids(&mut self, by: u64) {
                $(self.$name.skip_ids(by);)*
            }

            pub(crate) fn forget(&mut self, tag: u8, number: u64) {
                match tag {
                    $($tag => self.$name.forget(number),)*
                    _ => {}
                }
            }

            pub(crate) fn sweep(&mut self, now: Time, max: u64) -> u64 {
                let mut removed = 0;
                $(removed += self.$name.sweep(now, max - removed);)*
                removed
            }
        }

        /// Samples of the operations of each subject.
        #[cfg(test)]
        pub(crate) fn samples() -> Vec<(&'static str, Vec<Op>)> {
            vec![$({
                let samples = $name::samples();
                let has_operations = size_of::<$name::Op>() > 0;
                assert_eq!(has_operations, !samples.is_empty(), stringify!($name));
                (stringify!($name), samples.into_iter().map(Op::$variant).collect())
            },)*]
        }
    };
}

fn encode_op<O: Operations>(tag: u8, op: &O) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(512);
    bytes.extend([tag, O::VERSION]);
    append(op, &mut bytes);
    bytes
}

fn decode_op<O: Operations>(found: u8, bytes: &[u8]) -> Result<O, Unreadable> {
    match found {
        found if found > O::VERSION => Err(Unreadable::Newer {
            found,
            known: O::VERSION,
        }),
        found if found >= O::SINCE => exactly(bytes),
        found => O::older(found, bytes),
    }
}

fn encode_counters<S: Subject>(subject: &S) -> Vec<u8> {
    let mut bytes = vec![S::KEYS];
    append(&subject.counters(), &mut bytes);
    bytes
}

/// Gives whether the keys of the subject are of an older version.
fn decode_counters<S: Subject>(subject: &mut S, bytes: &[u8]) -> Result<bool, Unreadable> {
    let (found, rest) = version(bytes, S::KEYS)?;
    subject.set_counters(match found < S::KEYS_SINCE {
        true => S::older_counters(found, rest)?,
        false => exactly(rest)?,
    });
    Ok(found < S::KEYS)
}

subjects! {
    1 unit Unit,
    2 queue Queue,
    3 hooks Hooks,
    4 mail Mail,
    5 texts Texts,
    6 history History,
    7 once Once,
    8 events Events,
    9 sent Sent,
    10 suppression Suppression,
    11 hold_rules HoldRules,
    12 keys Keys,
    13 credentials Credentials,
    14 audit Audit,
    15 acme Acme,
    16 stops Stops,
    17 principals Principals,
    18 greylist Greylist,
    19 reputation Reputation,
    20 junk Junk,
    21 srs Srs,
    22 rejects Rejects,
    23 tls_keys TlsKeys,
    24 sites Sites,
    27 mta_sts MtaSts,
    28 tls_results TlsResults,
    29 dmarc_results DmarcResults,
    30 reports Reports,
    31 transcripts Transcripts,
    32 metrics Metrics,
    33 received_reports ReceivedReports,
    34 undelete Undelete,
    35 web_sessions WebSessions,
    36 login_attempts LoginAttempts,
    37 config_versions ConfigVersions,
    38 second_factors SecondFactors,
    39 folders Folders,
    40 sieve Sieve,
    41 mail_tokens MailTokens,
    43 stationery Stationery,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn tables_have_names_of_their_own() {
        let names = State::new().table_names();
        let distinct: BTreeSet<_> = names.iter().collect();
        assert_eq!(names.len(), distinct.len(), "{names:?}");
        assert!(!distinct.contains(&"meta"), "meta belongs to the index");
    }

    #[test]
    fn operations_come_back_as_they_were() {
        for (subject, operations) in samples() {
            for op in operations {
                let bytes = op.encode();
                let again = Op::decode(&bytes).unwrap();
                assert_eq!(format!("{op:?}"), format!("{again:?}"), "{subject}");
                let mut newer = bytes.clone();
                newer[1] += 1;
                assert!(
                    matches!(Op::decode(&newer), Err(Unreadable::Newer { .. })),
                    "{subject}"
                );
            }
        }
        assert!(matches!(
            Op::decode(&[255, 1]),
            Err(Unreadable::NewerTag(255))
        ));
        assert!(matches!(Op::decode(&[1]), Err(Unreadable::Senseless)));
    }

    /// What brings something new waits for room. What ends something, or frees room, may use the
    /// reserve.
    #[test]
    fn each_operation_says_which_space_it_may_use() {
        let mut waiting = Vec::new();
        for (subject, operations) in samples() {
            for op in operations.iter().filter(|op| op.space() == Space::Ordinary) {
                let text = format!("{op:?}");
                let name: String = text.split_inclusive(&['(', ' ', '{']).take(2).collect();
                waiting.push(format!("{subject} {name}"));
            }
        }
        assert_eq!(
            waiting,
            [
                "unit Unit(Accept(",
                "unit Unit(AcceptAll ",
                "mail Mail(ChangeOne(",
                "mail Mail(Learn(",
                "texts Texts(Stage ",
                "once Once(Keep(",
                "suppression Suppression(Add(",
                "keys Keys(Add(",
                "credentials Credentials(Set(",
                "credentials Credentials(Amend(",
                "audit Audit(Carry(",
                "acme Acme(SetAccount(",
                "acme Acme(SetCertificate(",
                "greylist Greylist(Try(",
                "greylist Greylist(SetSecret(",
                "junk Junk(Train(",
                "srs Srs(Keep(",
                "tls_keys TlsKeys(Add(",
                "mta_sts MtaSts(Keep(",
                "tls_results TlsResults(NoteTls(",
                "dmarc_results DmarcResults(NoteDmarc(",
                "transcripts Transcripts(KeepTranscripts(",
                "metrics Metrics(KeepMetrics(",
                "undelete Undelete(Restore(",
                "login_attempts LoginAttempts(NoteLogins(",
                "config_versions ConfigVersions(KeepVersion(",
                "folders Folders(Make(",
                "folders Folders(Rename(",
                "folders Folders(ChangeMails(",
                "folders Folders(Summarize(",
                "sieve Sieve(SetScripts(",
                "sieve Sieve(AddRule(",
                "sieve Sieve(ChangeRules(",
                "sieve Sieve(SetResponder(",
                "sieve Sieve(Answer(",
                "sieve Sieve(TakeRedirects(",
                "mail_tokens MailTokens(GiveToken(",
                "stationery Stationery(AddItem(",
                "stationery Stationery(ChangeItems(",
            ]
        );
    }

    #[test]
    fn an_operation_weighs_as_many_records_as_it_makes() {
        use crate::tests::samples;
        let mut accept = samples::message(&["a@x.example"; 1000]);
        accept.notes = vec![crate::Note {
            id: crate::QueueId(1),
            result: samples::attempt(Time(1), true),
        }];
        let (op, _) = unit::Op::accept(accept);
        assert_eq!(op.changes(), 1001);
        let messages: Vec<_> = (0..3)
            .flat_map(|_| samples::message(&["a@x.example"; 5]).queue)
            .collect();
        let once = None;
        assert_eq!(unit::Op::AcceptAll { messages, once }.changes(), 15);
    }

    #[test]
    fn counters_come_back_and_are_versioned() {
        let mut state = State::new();
        for (name, bytes) in State::new().counters() {
            state.set_counters(name, &bytes).unwrap();
            let mut newer = bytes.clone();
            newer[0] += 1;
            let error = state.set_counters(name, &newer).unwrap_err();
            assert!(matches!(error, Unreadable::Newer { .. }), "{name}");
        }
        assert!(state.set_counters("from the future", &[1]).is_err());
    }
}
