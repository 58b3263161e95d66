//! The sets of a chain as their fields say them (RFC 8617 §4.1 and §4.2).

use postrider_smtp::canonical::Form;

use super::ArcOutcome;
use crate::checks::dkim::{
    DkimOutcome, HeaderFields, SignatureFault,
    signature::{Covered, Signed},
    tags::{Tags, number},
};

/// The most sets of a chain (RFC 8617 §4.2.1).
pub const MAX_SETS: usize = 50;

/// Why a chain does not pass. Its text is for the `reason` in Authentication-Results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArcFault {
    /// The header section has too many fields.
    #[error("too many header fields")]
    TooManyFields,
    /// The chain has too many sets.
    #[error("too many sets")]
    TooManySets,
    /// A field has no instance, or one that can't be.
    #[error("a field has a bad i=")]
    Instance,
    /// A set has two fields of a kind.
    #[error("set {0} has a field twice")]
    Duplicate(usize),
    /// A set has not all of its fields.
    #[error("set {0} is not whole")]
    Missing(usize),
    /// The seal says that the chain was broken before.
    #[error("seal {0} tells of a broken chain")]
    Broken(usize),
    /// The seal has a `cv=` that can't be there.
    #[error("seal {0} has a bad cv=")]
    Validation(usize),
    /// A seal has `h=` (RFC 8617 §4.1.3).
    #[error("seal {0} has h=")]
    SealNamesFields(usize),
    /// The message signature covers seals (RFC 8617 §4.1.2).
    #[error("message signature {0} covers seals")]
    CoversSeals(usize),
    /// A seal can't be read, or is wrong.
    #[error("seal {0}: {1}")]
    Seal(usize, SignatureFault),
    /// A message signature can't be read, or is wrong.
    #[error("message signature {0}: {1}")]
    Message(usize, SignatureFault),
}

impl ArcFault {
    /// The outcome of a chain with this fault.
    pub(super) fn outcome(self) -> ArcOutcome {
        match self {
            Self::Seal(_, fault) | Self::Message(_, fault)
                if fault.outcome() == DkimOutcome::TempError =>
            {
                ArcOutcome::TempError
            }
            _ => ArcOutcome::Fail,
        }
    }
}

/// One set.
#[derive(Debug)]
pub(super) struct Set {
    pub(super) results: Results,
    pub(super) message: MessageSignature,
    pub(super) seal: Seal,
}

impl Set {
    /// The names of the keys of the set.
    pub(super) fn key_names(&self) -> [&str; 2] {
        [&self.message.signed.key_name, &self.seal.signed.key_name]
    }
}

/// An ARC-Authentication-Results field.
#[derive(Debug)]
pub(super) struct Results {
    pub(super) place: usize,
    /// Where in the value, behind the instance, the results begin.
    pub(super) begins: usize,
}

/// An ARC-Message-Signature field.
#[derive(Debug)]
pub(super) struct MessageSignature {
    pub(super) place: usize,
    pub(super) signed: Signed,
    pub(super) covered: Covered,
}

/// An ARC-Seal field.
#[derive(Debug)]
pub(super) struct Seal {
    pub(super) place: usize,
    pub(super) signed: Signed,
}

/// What a seal says about the chain before it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Validation {
    None,
    Pass,
    Fail,
}

/// The sets of a message from instance 1 on. Empty without any field of ARC.
pub(super) fn read(fields: &HeaderFields) -> Result<Vec<Set>, ArcFault> {
    let names = [
        "ARC-Authentication-Results",
        "ARC-Message-Signature",
        "ARC-Seal",
    ];
    let [results, messages, seals] = names.map(|name| fields.named(name.as_bytes()));
    if fields.too_many() {
        // A part of a chain may be among the fields that were left out.
        return Err(ArcFault::TooManyFields);
    }
    let count = results.len().max(messages.len()).max(seals.len());
    if count > MAX_SETS {
        return Err(ArcFault::TooManySets);
    }
    let results = ordered(results, |place| results_instance(fields.value(place)))?;
    let messages = ordered(messages, |place| tagged_instance(fields.value(place)))?;
    let seals = ordered(seals, |place| tagged_instance(fields.value(place)))?;
    let whole = results.len().min(messages.len()).min(seals.len());
    if whole < count {
        return Err(ArcFault::Missing(whole + 1));
    }
    let mut sets = Vec::with_capacity(count);
    for (((results, message), seal), index) in results.into_iter().zip(messages).zip(seals).zip(1..)
    {
        let validation = read_seal(fields, seal, index)?;
        sets.push((index, results, message, validation));
    }
    // The newest seal decides whether the chain was broken before.
    if let Some((index, _, _, (Validation::Fail, _))) = sets.last() {
        return Err(ArcFault::Broken(*index));
    }
    sets.into_iter()
        .map(|(index, place, message, (validation, seal))| {
            let expected = match index {
                1 => Validation::None,
                _ => Validation::Pass,
            };
            if validation != expected {
                return Err(ArcFault::Validation(index));
            }
            let begins = results_begin(fields.value(place)).unwrap_or_default();
            Ok(Set {
                results: Results { place, begins },
                message: read_message(fields, message, index)?,
                seal,
            })
        })
        .collect()
}

/// The fields of one kind by instance. There have to be all instances from 1 on.
fn ordered(
    places: &[usize],
    instance: impl Fn(usize) -> Option<usize>,
) -> Result<Vec<usize>, ArcFault> {
    let mut found = vec![None; places.len()];
    for place in places {
        let instance = instance(*place).ok_or(ArcFault::Instance)?;
        let Some(slot) = found.get_mut(instance - 1) else {
            // A lower instance is missing, since there are fewer fields than instances.
            continue;
        };
        if slot.replace(*place).is_some() {
            return Err(ArcFault::Duplicate(instance));
        }
    }
    let whole = found
        .iter()
        .zip(1..)
        .map(|(place, instance)| place.ok_or(instance));
    let whole: Result<Vec<usize>, usize> = whole.collect();
    whole.map_err(ArcFault::Missing)
}

/// An instance from 1 on.
fn instance(value: &[u8]) -> Option<usize> {
    let instance = usize::try_from(number(value)?).ok()?;
    (instance > 0).then_some(instance)
}

fn tagged_instance(value: &[u8]) -> Option<usize> {
    instance(Tags::parse(value).ok()?.get("i")?)
}

/// The instance stands before everything else in this field (RFC 8617 §4.1.1).
fn results_instance(value: &[u8]) -> Option<usize> {
    let end = results_begin(value)?.checked_sub(1)?;
    let spec = value.get(..end)?.trim_ascii().strip_prefix(b"i")?;
    instance(spec.trim_ascii().strip_prefix(b"=")?.trim_ascii())
}

fn results_begin(value: &[u8]) -> Option<usize> {
    let semicolon = value.iter().position(|byte| *byte == b';')?;
    Some(semicolon + 1)
}

fn read_seal(
    fields: &HeaderFields,
    place: usize,
    index: usize,
) -> Result<(Validation, Seal), ArcFault> {
    let fault = |fault| ArcFault::Seal(index, fault);
    let tags = Tags::parse(fields.value(place)).map_err(|tags| fault(tags.into()))?;
    let validation = match tags.get("cv") {
        Some(b"none") => Validation::None,
        Some(b"pass") => Validation::Pass,
        Some(b"fail") => Validation::Fail,
        _ => return Err(ArcFault::Validation(index)),
    };
    if tags.get("h").is_some() {
        return Err(ArcFault::SealNamesFields(index));
    }
    let signed = Signed::read(&tags, fields.value_begins(place)).map_err(fault)?;
    Ok((validation, Seal { place, signed }))
}

fn read_message(
    fields: &HeaderFields,
    place: usize,
    index: usize,
) -> Result<MessageSignature, ArcFault> {
    let fault = |fault| ArcFault::Message(index, fault);
    let tags = Tags::parse(fields.value(place)).map_err(|tags| fault(tags.into()))?;
    let signed = Signed::read(&tags, fields.value_begins(place)).map_err(fault)?;
    // RFC 8617 names no form for a signature without `c=`. The test suite of ARC takes the relaxed
    // one.
    let covered = Covered::read(&tags, signed.time, Form::Relaxed).map_err(fault)?;
    if covered.covers("ARC-Seal") {
        return Err(ArcFault::CoversSeals(index));
    }
    Ok(MessageSignature {
        place,
        signed,
        covered,
    })
}
