//! The header sections of strangers' messages:
//!
//! - No section makes a reader panic.
//! - The fields are pieces of the section, in order, and together the whole section.
//! - The same section in pieces of any size has the same shape.
//!
//! The first byte is the size of the pieces.

use std::{hint::black_box, sync::Arc};

use bytes::Bytes;
use postrider_queue::header::Header;
use postrider_receive::{
    checks::{
        arc::ArcChain,
        dkim::{DkimCheck, HeaderFields},
    },
    shape::{Shape, ShapeError},
};
use postrider_smtp::{Domain, field, mime};
use postrider_store::Time;

/// Fails where one of these does not hold.
pub(crate) fn check(data: &[u8]) {
    let Some((size, text)) = data.split_first() else {
        return;
    };
    let section: Vec<u8> = field::written(text).flatten().copied().collect();
    assert!(text.starts_with(&section));
    for field in field::fields(text) {
        assert!(!field.name.is_empty() && !field.name.contains(&b'\n'));
        black_box(field::text(field.value));
        black_box(field::mailboxes(field.value));
        black_box(field::parameters(field.value));
        black_box(field::date(field.value));
        black_box(field::ids(field.value));
    }
    let ascii = field::in_ascii(&section);
    if let Some(ascii) = ascii.section {
        // A byte of a wrong charset may become two characters, in parts that repeat a name.
        assert!(ascii.len() <= 64 * section.len() + 100);
        assert_eq!(
            field::fields(&ascii).count(),
            field::fields(&section).count()
        );
    }
    black_box(Header::scan(&section));
    check_signatures(&section);
    check_shape(text, section.len(), usize::from(*size).max(1));
}

/// What the checks of signatures read, without any question to DNS.
fn check_signatures(section: &[u8]) {
    let fields = Arc::new(HeaderFields::new(Bytes::copy_from_slice(section)));
    let from = Domain::parse("a.example").ok();
    let dkim = DkimCheck::new(Arc::clone(&fields), from.as_ref(), Time(0));
    let chain = ArcChain::new(fields);
    black_box(dkim.body_forms().and(chain.body_forms()));
    assert!(chain.sealers().count() <= 50);
}

fn check_shape(text: &[u8], end: usize, size: usize) {
    let (section, body) = text.split_at_checked(end).unwrap_or_default();
    let limits = mime::Limits::default();
    let shape = |size: usize| -> Result<(), ShapeError> {
        let mut shape = Shape::new(limits);
        shape.section(section)?;
        body.chunks(size).try_for_each(|piece| shape.body(piece))
    };
    assert_eq!(shape(size), shape(text.len().max(1)));
}
