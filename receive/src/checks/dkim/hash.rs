//! The hash of the header fields that a signature covers.

use std::ops::Range;

use aws_lc_rs::digest::{Digest, SHA256, digest};
use postrider_smtp::canonical::{self, Form, HeaderFields};

/// The hash of the selected fields and of the signature's own field without its `b=`
/// (RFC 6376 §3.7). `own` is the field as it is written, and `b` says where its `b=` has a value.
pub(crate) fn header_digest(
    fields: &HeaderFields,
    form: Form,
    selected: &[usize],
    own: &[u8],
    b: &Range<usize>,
) -> Digest {
    let mut covered = Vec::with_capacity(4096);
    for place in selected {
        canonical::field(form, fields.written(*place), &mut covered);
    }
    append_unsigned(form, own, b, &mut covered);
    digest(&SHA256, &covered)
}

/// Appends a signature's own field as it was before it was signed: `b=` is empty, and no CRLF ends
/// it.
pub(crate) fn append_unsigned(form: Form, own: &[u8], b: &Range<usize>, covered: &mut Vec<u8>) {
    let mut unsigned = own.get(..b.start).unwrap_or_default().to_vec();
    unsigned.extend_from_slice(own.get(b.end..).unwrap_or_default());
    canonical::field(form, &unsigned, covered);
    covered.truncate(covered.len().saturating_sub(2));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_field_is_covered_without_its_signature() {
        let (before, b, after) = ("DKIM-Signature: a=b;  b=", " QUJD\r\n\tREVG ", "; c=d\r\n");
        let own = [before, b, after].concat();
        let (own, b) = (own.as_bytes(), before.len()..before.len() + b.len());
        let mut covered = Vec::new();
        append_unsigned(Form::Simple, own, &b, &mut covered);
        assert_eq!(covered, b"DKIM-Signature: a=b;  b=; c=d");
        covered.clear();
        append_unsigned(Form::Relaxed, own, &b, &mut covered);
        assert_eq!(covered, b"dkim-signature:a=b; b=; c=d");
    }
}
