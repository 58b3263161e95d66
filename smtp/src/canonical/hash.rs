//! The hashes of a body that signatures cover, made while it comes in.

use aws_lc_rs::digest::{Context, Digest, SHA256};

use super::{Body, Form};

/// The forms of the body that signatures of a message need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BodyForms {
    /// The simple form (RFC 6376 §3.4.3).
    pub simple: bool,
    /// The relaxed form (RFC 6376 §3.4.4).
    pub relaxed: bool,
}

impl BodyForms {
    /// Adds a form.
    pub const fn add(&mut self, form: Form) {
        match form {
            Form::Simple => self.simple = true,
            Form::Relaxed => self.relaxed = true,
        }
    }

    /// The forms of both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            simple: self.simple || other.simple,
            relaxed: self.relaxed || other.relaxed,
        }
    }
}

/// Hashes a body in the forms that are needed, while it comes in pieces.
#[derive(Debug)]
pub struct BodyHasher {
    simple: Option<OneHasher>,
    relaxed: Option<OneHasher>,
}

impl BodyHasher {
    /// The hasher of an empty body.
    #[must_use]
    pub fn new(forms: BodyForms) -> Self {
        Self {
            simple: forms.simple.then(|| OneHasher::new(Form::Simple)),
            relaxed: forms.relaxed.then(|| OneHasher::new(Form::Relaxed)),
        }
    }

    /// Takes the next bytes of the body: those behind the blank line that ends the header section.
    pub fn write(&mut self, piece: &[u8]) {
        for hasher in [&mut self.simple, &mut self.relaxed].into_iter().flatten() {
            hasher.write(piece);
        }
    }

    /// The hashes of the whole body.
    #[must_use]
    pub fn finish(self) -> BodyHashes {
        BodyHashes {
            simple: self.simple.map(OneHasher::finish),
            relaxed: self.relaxed.map(OneHasher::finish),
        }
    }
}

struct OneHasher {
    body: Body,
    context: Context,
}

impl OneHasher {
    fn new(form: Form) -> Self {
        Self {
            body: Body::new(form),
            context: Context::new(&SHA256),
        }
    }

    fn write(&mut self, piece: &[u8]) {
        let context = &mut self.context;
        self.body.write(piece, &mut |bytes| context.update(bytes));
    }

    fn finish(mut self) -> [u8; 32] {
        let context = &mut self.context;
        self.body.finish(&mut |bytes| context.update(bytes));
        bytes(&self.context.finish())
    }
}

impl std::fmt::Debug for OneHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.body.fmt(f)
    }
}

/// The SHA-256 hashes of a body. A form that no signature needs is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BodyHashes {
    simple: Option<[u8; 32]>,
    relaxed: Option<[u8; 32]>,
}

impl BodyHashes {
    /// The hashes of a body in both forms.
    #[must_use]
    pub const fn new(simple: [u8; 32], relaxed: [u8; 32]) -> Self {
        Self {
            simple: Some(simple),
            relaxed: Some(relaxed),
        }
    }

    /// The hash of the body in this form. None if it was not computed.
    #[must_use]
    pub const fn of(&self, form: Form) -> Option<[u8; 32]> {
        match form {
            Form::Simple => self.simple,
            Form::Relaxed => self.relaxed,
        }
    }
}

fn bytes(digest: &Digest) -> [u8; 32] {
    digest.as_ref().try_into().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::digest::digest;

    use super::*;

    #[test]
    fn only_the_needed_forms_are_hashed() {
        let mut forms = BodyForms::default();
        forms.add(Form::Relaxed);
        let mut hasher = BodyHasher::new(forms);
        hasher.write(b"a \r");
        hasher.write(b"\n\r\n");
        let hashes = hasher.finish();
        let expected = bytes(&digest(&SHA256, b"a\r\n"));
        assert_eq!(
            (hashes.of(Form::Relaxed), hashes.of(Form::Simple)),
            (Some(expected), None)
        );
        forms.add(Form::Simple);
        // RFC 6376 §3.4.3 and §3.4.4 have the hashes of an empty body.
        let empty = BodyHasher::new(forms).finish();
        assert_eq!(
            empty.of(Form::Simple),
            Some(bytes(&digest(&SHA256, b"\r\n")))
        );
        assert_eq!(empty.of(Form::Relaxed), Some(bytes(&digest(&SHA256, b""))));
        assert_eq!(BodyForms::default().and(forms), forms);
    }
}
