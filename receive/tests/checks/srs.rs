//! Reverse-paths of forwards, and addresses that only look like them:
//!
//! - No local-part makes the reader panic. Without our keys nobody writes an address that leads
//!   back.
//! - Each sender comes back from the address that it is rewritten to, for 21 days.
//! - An address with one other character leads nowhere.
//!
//! The first byte chooses a place and a character, the second the age. The rest is a local-part and
//! a domain with an `@` between them.

use postrider_receive::forward::srs::{
    Day, Keys, Original, SrsFault, is_rewritten, original, rewrite,
};
use postrider_smtp::{Address, Host, LocalPart};
use postrider_store::Time;

/// Fails where one of these does not hold.
pub(crate) fn check(data: &[u8]) {
    let Some(([change, age], text)) = data.split_first_chunk() else {
        return;
    };
    let Ok(text) = str::from_utf8(text) else {
        return;
    };
    let keys = Keys::new(&[1; 32], Some(&[2; 32]));
    let others = Keys::new(&[3; 32], None);
    let read = original(&keys, text, day(0));
    assert!(
        read.is_err(),
        "a stranger wrote {text:?}, which leads to {read:?}"
    );
    let Some((local, host)) = text.rsplit_once('@') else {
        return;
    };
    let (Ok(local), Ok(host)) = (LocalPart::from_decoded(local), Host::parse(host)) else {
        return;
    };
    let sender = Address { local, host };
    let rewritten = rewrite(&keys, &sender, day(0));
    let written = rewritten.local.as_str();
    assert!(written.len() <= 64 && is_rewritten(written), "{written:?}");
    assert_eq!(original(&others, written, day(0)), Err(SrsFault::Forged));
    // Servers on the way may change the case.
    let lower = original(&keys, &written.to_ascii_lowercase(), day(0));
    assert!(lower.is_ok(), "{written:?} in lower case: {lower:?}");
    let back = original(&keys, written, day((*age).into()));
    let ends = written.starts_with("SRS0=");
    match (&back, &rewritten.name) {
        (Err(SrsFault::Old), _) => assert!(ends && *age > 21, "{written:?} after {age} days"),
        (Ok(_), _) if ends && *age > 21 => panic!("{written:?} leads back after {age} days"),
        (Ok(Original::Kept(name)), Some(kept)) => assert_eq!(name, kept),
        (Ok(Original::Address(address)), None) if ends => assert_eq!(*address, sender),
        (Ok(Original::Address(address)), None) => {
            assert!(address.local.as_str().starts_with("SRS0"), "{address}");
        }
        other => panic!("{written:?} leads to {other:?}"),
    }
    if let Some(changed) = changed(written, *change) {
        let read = original(&keys, &changed, day(0));
        assert!(
            read.is_err(),
            "{changed:?} for {written:?} leads to {read:?}"
        );
    }
}

/// So many days after a certain one.
fn day(number: i64) -> Day {
    Day::from(Time((20_786 + number) * 86_400_000_000))
}

/// The text with another character at one place behind `SRS0=`. None if there is no such character
/// at that place.
fn changed(text: &str, change: u8) -> Option<String> {
    let at = 5 + usize::from(change) % text.len().checked_sub(5)?;
    let found = *text.as_bytes().get(at)?;
    // The case counts for nothing.
    let other = if found.eq_ignore_ascii_case(&b'q') {
        "r"
    } else {
        "q"
    };
    let (before, after) = (text.get(..at)?, text.get(at + 1..)?);
    Some(format!("{before}{other}{after}"))
}
