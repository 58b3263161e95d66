//! Text from bytes of a charset.
//!
//! Most charsets are those of the WHATWG standard. Mail has more names for them, and a few
//! charsets more.

use encoding_rs::{
    BIG5, EUC_JP, EUC_KR, Encoding, GB18030, GBK, ISO_2022_JP, REPLACEMENT, SHIFT_JIS, UTF_8,
    WINDOWS_1252,
};
use mail_parser::decoders::charsets::map::charset_decoder;
use oem_cp::{
    code_table::DECODING_TABLE_CP_MAP, code_table_type::TableType,
    decode_string_incomplete_table_lossy,
};

/// The bytes of HTML that may name its charset.
const PRESCAN: usize = 4096;

/// The text of bytes in a charset with this name.
///
/// Without a known name the text is UTF-8 if it can be, else windows-1252. `us-ascii` counts as no
/// name: many programs write it without a look at the text.
#[must_use]
pub fn decode(charset: Option<&str>, bytes: &[u8]) -> String {
    charset
        .and_then(find)
        .map_or_else(|| guess(bytes), |charset| charset.decode(bytes))
}

/// Like [`decode`], for HTML, which may name its charset itself.
#[must_use]
pub fn decode_html(charset: Option<&str>, bytes: &[u8]) -> String {
    if let Some(charset) = charset.and_then(find) {
        return charset.decode(bytes);
    }
    let own = meta_charset(bytes).and_then(|name| find(&name));
    // What could be read as ASCII is not in an encoding of two bytes.
    own.filter(|own| !own.has_two_bytes())
        .map_or_else(|| guess(bytes), |own| own.decode(bytes))
}

/// UTF-8, else windows-1252.
fn guess(bytes: &[u8]) -> String {
    if let Some((encoding, _)) = Encoding::for_bom(bytes) {
        return encoding.decode(bytes).0.into_owned();
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => WINDOWS_1252
            .decode_without_bom_handling(bytes)
            .0
            .into_owned(),
    }
}

#[derive(Clone, Copy)]
enum Charset {
    Standard(&'static Encoding),
    /// A code page of DOS.
    CodePage(&'static TableType),
    /// A charset that the parser of messages knows.
    Other(fn(&[u8]) -> String),
}

impl Charset {
    fn decode(self, bytes: &[u8]) -> String {
        match self {
            Self::Standard(encoding) => encoding.decode(bytes).0.into_owned(),
            Self::CodePage(TableType::Complete(table)) => {
                oem_cp::decode_string_complete_table(bytes, table)
            }
            Self::CodePage(TableType::Incomplete(table)) => {
                decode_string_incomplete_table_lossy(bytes, table)
            }
            Self::Other(decode) => decode(bytes),
        }
    }

    fn has_two_bytes(self) -> bool {
        matches!(self, Self::Standard(encoding) if !encoding.is_ascii_compatible()
            && encoding != ISO_2022_JP)
    }
}

/// The charset with a name. None if nobody can know it.
fn find(name: &str) -> Option<Charset> {
    // A language may follow (RFC 2231 §5).
    let name = name.split('*').next().unwrap_or_default();
    let name = name.trim_matches(|letter: char| !letter.is_ascii_alphanumeric());
    let name = name.to_ascii_lowercase();
    let squeezed: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    if is_ascii_name(&squeezed) {
        return None;
    }
    let known = |name: &str| {
        Encoding::for_label(name.as_bytes()).filter(|encoding| *encoding != REPLACEMENT)
    };
    let standard = known(&name).or_else(|| match squeezed.as_str() {
        "cp932" | "ms932" | "ibm943" | "ibm943c" | "cp943" | "cp943c" | "shiftjis" | "xmscp932" => {
            Some(SHIFT_JIS)
        }
        "eucjp" | "eucjpms" | "cp51932" => Some(EUC_JP),
        "cp50220" | "cp50221" | "cp50222" => Some(ISO_2022_JP),
        other if other.starts_with("iso2022jp") => Some(ISO_2022_JP),
        "cp936" | "ms936" | "gb2312" | "gb231280" | "euccn" | "gbk" => Some(GBK),
        "cp54936" | "gb18030" => Some(GB18030),
        "cp949" | "ms949" | "uhc" | "ksc56011987" | "ksc5601" => Some(EUC_KR),
        "cp950" | "ms950" | "big5hkscs" => Some(BIG5),
        "cp65001" | "utf8mb3" | "utf8mb4" | "utf8" => Some(UTF_8),
        other => spelled(other).and_then(|label| known(&label)),
    });
    if let Some(encoding) = standard {
        return Some(Charset::Standard(encoding));
    }
    if squeezed.ends_with("utf7") || squeezed == "cp65000" {
        return charset_decoder(b"utf-7").map(Charset::Other);
    }
    let page = ["cp", "ibm", "dos", "pc"];
    let page = page.iter().find_map(|prefix| squeezed.strip_prefix(prefix));
    let page = page.unwrap_or(&squeezed).parse().ok();
    if let Some(table) = page.and_then(|page: u16| DECODING_TABLE_CP_MAP.get(&page)) {
        return Some(Charset::CodePage(table));
    }
    // The standard replaces the text of some charsets by a single sign.
    let lost = Encoding::for_label(name.as_bytes()) == Some(REPLACEMENT);
    let other = charset_decoder(name.as_bytes()).filter(|_| !lost);
    other.map(Charset::Other)
}

/// Names of ASCII, and names that say nothing.
fn is_ascii_name(squeezed: &str) -> bool {
    matches!(
        squeezed,
        "" | "ascii"
            | "usascii"
            | "ansix341968"
            | "iso646us"
            | "us"
            | "cp367"
            | "default"
            | "unknown"
            | "unknown8bit"
            | "xunknown"
            | "8bit"
            | "7bit"
            | "binary"
            | "none"
    )
}

/// The label of a name with other signs in it, for example `iso-8859-2` for `iso88592`.
fn spelled(squeezed: &str) -> Option<String> {
    let number = |prefix: &str| {
        let number = squeezed.strip_prefix(prefix)?;
        (1..=4).contains(&number.len()).then_some(number)
    };
    let windows = ["windows", "win", "cp", "ms", "xcp"];
    let windows = windows.iter().find_map(|prefix| number(prefix));
    match number("iso8859") {
        Some(part) => Some(format!("iso-8859-{part}")),
        None => match number("latin") {
            Some(part) => Some(format!("latin{part}")),
            None => windows.map(|page| format!("windows-{page}")),
        },
    }
}

/// The charset that a `meta` of HTML names.
fn meta_charset(html: &[u8]) -> Option<String> {
    let begin = html.get(..html.len().min(PRESCAN))?.to_ascii_lowercase();
    let mut rest = begin.as_slice();
    loop {
        let at = memchr::memmem::find(rest, b"<meta")?;
        rest = rest.get(at + 5..)?;
        let end = memchr::memchr(b'>', rest).unwrap_or(rest.len());
        let tag = rest.get(..end)?;
        if let Some(at) = memchr::memmem::find(tag, b"charset")
            && let Some(value) = tag.get(at + 7..)?.trim_ascii_start().strip_prefix(b"=")
        {
            let value = value.trim_ascii_start();
            let value = value
                .strip_prefix(b"\"")
                .or(value.strip_prefix(b"'"))
                .unwrap_or(value);
            let ends = |byte: &u8| byte.is_ascii_whitespace() || b"\"'>/;".contains(byte);
            let end = value.iter().position(ends).unwrap_or(value.len());
            let name = value.get(..end)?;
            if !name.is_empty() {
                return String::from_utf8(name.to_vec()).ok();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_charsets() {
        for (name, bytes, text) in [
            ("cp932", &b"\x83n\x83\x8D\x81[\x87\x40"[..], "ハロー①"),
            ("Windows-31J", b"\x83n", "ハ"),
            ("iso-2022-jp-ms", b"\x1b$B%O\x1b(B!", "ハ!"),
            ("ISO-2022-JP", b"\x1b$B%O\x1b(B!", "ハ!"),
            ("unicode-1-1-utf-7", b"+ZYeB9A-!", "文致!"),
            ("utf-7", b"+ZYeB9A-!", "文致!"),
            ("ibm437", b"\x84\x94\x81\xe1", "äöüß"),
            ("CP437", b"\x84", "ä"),
            ("ibm850", b"\x84\x9b", "äø"),
            ("cp866", b"\x8f\xe0", "Пр"),
            ("iso-8859-1", b"\xe4\x80", "ä€"),
            ("ISO 8859-15", b"\xa4", "€"),
            ("iso8859_2", b"\xb1", "ą"),
            ("latin-1", b"\xe4", "ä"),
            ("windows1251", b"\xcf", "П"),
            ("CP-1251", b"\xcf", "П"),
            ("\"koi8-r\"", b"\xf0", "П"),
            ("gb2312", b"\xc4\xe3\xba\xc3", "你好"),
            ("gb_2312-80", b"\xc4\xe3", "你"),
            ("ks_c_5601-1987", b"\xbe\xc8", "안"),
            ("utf-8*de", b"\xc3\xa4", "ä"),
            ("UTF8", b"\xc3\xa4\xff", "ä\u{fffd}"),
            ("utf-16le", b"a\0\xe4\0", "aä"),
            // Names that tell nothing.
            ("us-ascii", b"\xc3\xa4", "ä"),
            ("ascii", b"\xc3\xa4", "ä"),
            ("us-ascii", b"\xe4", "ä"),
            ("default", b"\xe4", "ä"),
            ("unknown-8bit", b"\xe4", "ä"),
            ("x-no-such", b"\xe4\x93", "ä\u{201c}"),
            ("", b"\xc3\xa4", "ä"),
            ("iso-2022-kr", b"a", "a"),
        ] {
            assert_eq!(decode(Some(name), bytes), text, "{name}");
        }
        assert_eq!(decode(None, b"\xc3\xa4"), "ä");
        assert_eq!(decode(None, b"\xe4 \x80"), "ä €");
        assert_eq!(decode(None, b"\xef\xbb\xbfa"), "a");
    }

    #[test]
    fn html_may_name_its_charset() {
        for (charset, html, text) in [
            (
                None,
                &b"<META http-equiv=x content=\"text/html; charset=iso-8859-2\">\xb1"[..],
                "ą",
            ),
            (None, b"<meta charset='windows-1251'/>\xcf", "П"),
            (None, b"<meta name=x><meta charset = koi8-r>\xf0", "П"),
            (None, b"<meta charset=utf-16>\xe4", "ä"),
            (None, b"<meta charset=x-no-such>\xc3\xa4", "ä"),
            (None, b"<p>charset=koi8-r</p>\xe4", "ä"),
            (Some("us-ascii"), b"<meta charset=koi8-r>\xf0", "П"),
            (Some("iso-8859-1"), b"<meta charset=koi8-r>\xe4", "ä"),
        ] {
            let found = decode_html(charset, html);
            assert!(found.ends_with(&format!(">{text}")), "{found}");
        }
    }
}
