//! Messages of strangers in another form:
//!
//! - No text makes the conversion panic, or grow without limit.
//! - The way to cut the text does not matter.
//! - The new text has the form: it has no 8-bit bytes, no 8-bit bytes in its header section, or
//!   nothing that DATA can't carry.
//! - A text that has the form stays as it is, if it was made of lines.
//!
//! The first byte is the size of the pieces, and the second one chooses the form.

use postrider_smtp::{
    convert::{Conversion, Form, NeedsScan, Survey, TextNeeds, Unconvertible},
    field,
};

/// Fails where one of these does not hold.
pub(crate) fn check(data: &[u8]) {
    let [size, form, text @ ..] = data else {
        return;
    };
    let form = match form % 3 {
        0 => Form::Lines,
        1 => Form::AsciiHeader,
        _ => Form::SevenBit,
    };
    let whole = converted(text, form, text.len().max(1));
    let pieces = converted(text, form, usize::from(*size).max(1));
    assert!(pieces == whole, "{}", text.escape_ascii());
    let Ok(Some(new)) = whole else {
        return;
    };
    assert!(new.len() <= 100 * text.len() + 1000, "{}", new.len());
    let needs = needs_of(&new);
    assert!(!needs.binary);
    assert!(form < Form::SevenBit || !needs.eight_bit);
    assert!(form < Form::AsciiHeader || field::written(&new).all(<[u8]>::is_ascii));
    if !needs_of(text).binary {
        // A NUL in a field may hide its meaning, until it goes.
        let again = converted(&new, form, 1000);
        assert!(again == Ok(None), "{}", new.escape_ascii());
    }
}

fn needs_of(text: &[u8]) -> TextNeeds {
    let mut scan = NeedsScan::of_binary();
    scan.write(text);
    scan.finish()
}

fn converted(text: &[u8], form: Form, size: usize) -> Result<Option<Vec<u8>>, Unconvertible> {
    let mut survey = Survey::new(form);
    text.chunks(size)
        .try_for_each(|piece| survey.write(piece))?;
    let Some(plan) = survey.finish()? else {
        return Ok(None);
    };
    let mut conversion = Conversion::new(plan);
    let mut all = Vec::new();
    for piece in text.chunks(size) {
        all.extend_from_slice(conversion.write(piece)?);
    }
    all.extend(conversion.finish()?);
    Ok(Some(all))
}
