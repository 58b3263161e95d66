//! A text as a QR code (ISO/IEC 18004), drawn as SVG.

use std::fmt::{self, Display, Formatter, Write};

use askama::filters::HtmlSafe;
use qrcode::{Color, EcLevel, QrCode};

/// The light modules around a code.
const MARGIN: usize = 4;

/// A QR code. It writes its own HTML: dark modules on a light ground, also in the dark scheme.
#[derive(Clone)]
pub(super) struct Qr {
    /// Whether each module is dark, row by row.
    modules: Vec<bool>,
    width: usize,
    label: &'static str,
}

impl Qr {
    /// The code of a text. None: the text is too long for one. `label` says what it is for.
    pub(super) fn new(text: &str, label: &'static str) -> Option<Self> {
        let code = QrCode::with_error_correction_level(text, EcLevel::M).ok()?;
        let width = code.width();
        let modules = code.into_colors().into_iter();
        Some(Self {
            modules: modules.map(|color| color == Color::Dark).collect(),
            width,
            label,
        })
    }

    /// The outlines of the dark modules: a rectangle for each run of them in a row.
    fn path(&self) -> String {
        let mut path = String::new();
        for (y, row) in self.modules.chunks(self.width.max(1)).enumerate() {
            let mut x = 0;
            for run in row.chunk_by(|one, other| one == other) {
                if run.first() == Some(&true) {
                    let (left, top, length) = (x + MARGIN, y + MARGIN, run.len());
                    let _ = write!(path, "M{left} {top}h{length}v1h-{length}z");
                }
                x += run.len();
            }
        }
        path
    }
}

impl HtmlSafe for Qr {}

impl Display for Qr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (size, path, label) = (self.width + 2 * MARGIN, self.path(), self.label);
        write!(
            f,
            "<svg class=\"qr\" role=\"img\" aria-label=\"{label}\" viewBox=\"0 0 {size} {size}\" \
            shape-rendering=\"crispEdges\"><path fill=\"#fff\" d=\"M0 0h{size}v{size}h-{size}z\"/>\
            <path fill=\"#000\" d=\"{path}\"/></svg>"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_drawn_row_by_row() {
        let qr = Qr::new("otpauth://totp/mail:ann?secret=ABCDEFGH", "For the program").unwrap();
        assert!(qr.width >= 21 && qr.modules.len() == qr.width * qr.width);
        let html = qr.to_string();
        // The first row begins with the upper edge of a finder pattern: seven dark modules.
        assert!(html.contains("d=\"M4 4h7v1h-7z"), "{html}");
        // The runs cover each dark module once.
        let runs = html.split('M').skip(2);
        let lengths = runs.map(|run| run.split(['h', 'v']).nth(1).unwrap());
        let covered: usize = lengths.map(|length| length.parse::<usize>().unwrap()).sum();
        let dark = qr.modules.iter().filter(|dark| **dark).count();
        assert_eq!(covered, dark);
        assert!(!html.contains("style="));
        assert!(Qr::new(&"x".repeat(5000), "").is_none());
    }
}
