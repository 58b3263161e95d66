//! Origins of web pages (RFC 6454), as browsers name them in `Origin`.

use std::fmt;

/// The origin of a web page: scheme, host, and the port if it is not the usual one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin(String);

impl Origin {
    /// Reads an origin such as `https://app.example.com`. The result has the form that browsers
    /// send: the host in lower case as A-labels, without the usual port.
    ///
    /// # Errors
    /// A sentence about the text, if it is no origin of a web page.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is not an origin; write scheme and host, as in \
                 \"https://app.example.com\""
            )
        };
        let url = url::Url::parse(text).map_err(|_| wrong())?;
        let is_bare = url.path() == "/"
            && !text.ends_with(['/', '?', '#'])
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none();
        if !is_bare || !matches!(url.scheme(), "http" | "https") || text.contains('*') {
            return Err(wrong());
        }
        Ok(Self(url.origin().ascii_serialization()))
    }

    /// The form that browsers send.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins() {
        for (text, expected) in [
            ("https://App.example.com", "https://app.example.com"),
            ("https://app.example.com:443", "https://app.example.com"),
            ("http://localhost:5173", "http://localhost:5173"),
            (
                "https://b\u{fc}cher.example",
                "https://xn--bcher-kva.example",
            ),
        ] {
            assert_eq!(Origin::parse(text).unwrap().as_str(), expected);
        }
        for text in [
            "*",
            "null",
            "app.example.com",
            "https://app.example.com/",
            "https://app.example.com/x",
            "https://*.example.com",
            "https://user@app.example.com",
            "https://app.example.com?x",
            "ftp://app.example.com",
        ] {
            assert!(Origin::parse(text).is_err(), "{text}");
        }
    }
}
