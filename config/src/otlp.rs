//! `otlp` of `postrider.conf`: a collector that gets the log and the traces.

use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Arc};

use crate::{
    reader::Reader,
    schema::{
        Default::{Absent, Required, Value},
        Kind::{Bool, Path, Url},
        Section, key,
    },
    secret_file::read_secret_file,
};

pub(crate) const SECTION: Section = Section {
    title: "Export of the log and of traces: `otlp`",
    intro: "Lines of the log and traces also go to a collector of OpenTelemetry, by OTLP over HTTP. \
        What the collector does not take in time is dropped and counted.",
    keys: &[KEYS],
};

static KEYS: &[crate::schema::Key] = &[
    key(
        "otlp.endpoint",
        Url,
        Required,
        "The URL of the collector, for example \"http://127.0.0.1:4318\". The paths v1/logs and \
            v1/traces are added to it.",
    ),
    key(
        "otlp.headers_file",
        Path,
        Absent("none"),
        "The file with header fields for each request, one \"Name: value\" in a line. It may hold \
            a token, so other users must not be able to read it.",
    ),
    key("otlp.traces", Bool, Value("true"), "Send traces."),
    key("otlp.logs", Bool, Value("true"), "Send lines of the log."),
];

/// `otlp`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtlpConfig {
    /// The URL of the collector, without `/v1/logs` and without a slash at the end.
    pub endpoint: String,
    /// Header fields for each request.
    pub headers: Arc<OtlpHeaders>,
    /// Whether traces are sent.
    pub traces: bool,
    /// Whether lines of the log are sent.
    pub logs: bool,
}

/// Header fields for requests to a collector. The `Debug` form hides their values.
#[derive(Default, PartialEq, Eq)]
pub struct OtlpHeaders(BTreeMap<String, String>);

impl OtlpHeaders {
    /// The names, in lower case, and the values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// Reads one field in each line. Empty lines, and lines that begin with `#`, have none.
    fn parse(text: &str) -> Result<Self, String> {
        // RFC 9110 §5.6.2.
        let is_token =
            |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let is_value = |byte: u8| matches!(byte, b' '..=b'~' | b'\t');
        let mut fields = BTreeMap::new();
        for (number, line) in (1..).zip(text.lines().map(str::trim)) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = || format!("line {number} is no header field: write \"Name: value\"");
            let (name, value) = line.split_once(':').ok_or_else(wrong)?;
            let value = value.trim();
            if name.is_empty() || !name.bytes().all(is_token) || !value.bytes().all(is_value) {
                return Err(wrong());
            }
            fields.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        Ok(Self(fields))
    }
}

impl fmt::Debug for OtlpHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Reads `otlp`.
pub(crate) fn read(reader: &Reader<'_>) -> Option<OtlpConfig> {
    let endpoint = reader.url("endpoint", &["https", "http"]);
    if endpoint
        .as_deref()
        .is_some_and(|url| url.contains(['?', '#', '@']))
    {
        reader.wrong("endpoint", "must have no login, no query and no fragment");
    }
    let file: Option<PathBuf> = reader.opt("headers_file");
    let headers = file.and_then(|path| {
        let read = read_secret_file(&path).map_err(|error| format!("{} {error}", path.display()));
        let headers = read.and_then(|bytes| {
            let text = std::str::from_utf8(&bytes).map_err(|_| "is not UTF-8".to_owned())?;
            OtlpHeaders::parse(text)
        });
        headers
            .inspect_err(|message| reader.wrong("headers_file", message.as_str()))
            .ok()
    });
    let (traces, logs) = (reader.get("traces"), reader.get("logs"));
    Some(OtlpConfig {
        endpoint: endpoint?.trim_end_matches('/').to_owned(),
        headers: Arc::new(headers.unwrap_or_default()),
        traces,
        logs,
    })
}

#[cfg(test)]
mod tests {
    use std::{fs::Permissions, os::unix::fs::PermissionsExt as _};

    use crate::Static;

    fn parse(otlp: &str) -> Result<Static, String> {
        let text = format!(
            "hostname = \"a.example\"\npostmaster.account = \"a\"\notlp = {{ {otlp} }}\n\
             [listeners.l]\nips = [\"127.0.0.1\"]\n"
        );
        Static::parse(&text, "postrider.conf").map_err(|errors| errors.to_string())
    }

    #[test]
    fn the_collector_has_an_address_and_header_fields() {
        let plain = parse("endpoint = \"http://127.0.0.1:4318/\", traces = false").unwrap();
        let plain = plain.otlp.unwrap();
        assert_eq!(plain.endpoint, "http://127.0.0.1:4318");
        assert_eq!((plain.traces, plain.logs), (false, true));
        assert_eq!(plain.headers.iter().count(), 0);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("headers");
        let with = |text: &str, mode: u32| {
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            parse(&format!(
                "endpoint = \"https://c.example/otlp\", headers_file = {file:?}"
            ))
        };
        let otlp = with(
            "# Ours\n\nAuthorization: Bearer s3cret\nX-Scope: a:b\n",
            0o600,
        );
        let otlp = otlp.unwrap().otlp.unwrap();
        let fields: Vec<_> = otlp.headers.iter().collect();
        assert_eq!(
            fields,
            [("authorization", "Bearer s3cret"), ("x-scope", "a:b")]
        );
        assert!(!format!("{otlp:?}").contains("s3cret"));
        for (result, expected) in [
            (with("Authorization", 0o600), "line 1 is no header field"),
            (with("\nA B: c", 0o600), "line 2 is no header field"),
            (with("A: \u{e9}", 0o600), "line 1 is no header field"),
            (with("A: b", 0o644), "headers_file"),
            (parse("logs = true"), "endpoint"),
            (parse("endpoint = \"grpc://x\""), "https://"),
            (parse("endpoint = \"http://x/?a=b\""), "no login"),
        ] {
            let error = result.unwrap_err();
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }
}
