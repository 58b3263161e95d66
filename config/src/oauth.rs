//! `oauth` of `postrider.conf`: the authorization server whose tokens log in.

use std::{fmt, path::Path, sync::Arc};

use crate::reader::Reader;

/// The largest file of a secret in bytes.
const LARGEST: u64 = 1 << 16;

/// `oauth`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Oauth {
    /// Whether this server gives out mail tokens.
    pub issuer: bool,
    /// The authorization server whose tokens log in. None: tokens of this server only.
    pub server: Option<OauthConfig>,
}

/// The keys of `oauth` about the authorization server that is asked about tokens (RFC 7662).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OauthConfig {
    /// The URL that is asked.
    pub introspection_url: String,
    /// The name with which postrider logs in there.
    pub client_id: Option<String>,
    /// The password of that name.
    pub client_secret: Option<Arc<ClientSecret>>,
    /// The scopes that a token needs, with blanks between them.
    pub scope: String,
    /// The audience that a token is meant for. None: any.
    pub audience: Option<String>,
    /// The field of the answer that has the login address. None: `username`, `email`, `sub`.
    pub username_claim: Option<String>,
    /// The field of the answer that has the tenant. None: tokens belong to users.
    pub tenant_claim: Option<String>,
}

/// The password of a client of the authorization server. Its `Debug` form hides it.
#[derive(PartialEq, Eq)]
pub struct ClientSecret(String);

impl ClientSecret {
    /// The password.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ClientSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientSecret")
    }
}

/// The keys that say nothing without an authorization server.
const OF_SERVER: [&str; 6] = [
    "client_id",
    "client_secret_file",
    "scope",
    "audience",
    "username_claim",
    "tenant_claim",
];

/// Reads `oauth`.
pub(crate) fn read(reader: &Reader<'_>) -> Oauth {
    let issuer = reader.get("issuer");
    let has_server = reader.has("introspection_url");
    if !has_server {
        for key in OF_SERVER.into_iter().filter(|key| reader.has(key)) {
            reader.wrong(key, "needs introspection_url");
        }
        if reader.is_present() && !reader.has("issuer") {
            reader.wrong_here("needs introspection_url, or issuer = true");
        }
    }
    // Without the URL this tells what else is wrong with the other keys.
    let server = read_server(reader);
    Oauth { issuer, server }
}

fn read_server(reader: &Reader<'_>) -> Option<OauthConfig> {
    let url = reader.url("introspection_url", &["https", "http"]);
    let client_id: Option<String> = reader.opt("client_id");
    let file: Option<std::path::PathBuf> = reader.opt("client_secret_file");
    match (&client_id, &file) {
        (Some(_), None) => reader.wrong("client_id", "needs client_secret_file"),
        (None, Some(_)) => reader.wrong("client_secret_file", "needs client_id"),
        _ => {}
    }
    let client_secret = file.and_then(|path| {
        let shown = path.display();
        let read = read_secret(&path).map_err(|message| format!("{shown} {message}"));
        read.inspect_err(|message| reader.wrong("client_secret_file", message.as_str()))
            .ok()
    });
    let scope: String = reader.get("scope");
    // RFC 6749 §3.3. Such a scope needs no escapes in the error that clients get.
    let is_scope = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
    if !scope.bytes().all(is_scope) {
        let text =
            "has a character that no scope has: printable ASCII without \" and \\ is allowed";
        reader.wrong("scope", text);
    }
    let audience = reader.opt("audience");
    let username_claim = reader.opt("username_claim");
    let tenant_claim = reader.opt("tenant_claim");
    Some(OauthConfig {
        introspection_url: url?,
        client_id,
        client_secret: client_secret.map(Arc::new),
        scope,
        audience,
        username_claim,
        tenant_claim,
    })
}

fn read_secret(path: &Path) -> Result<ClientSecret, String> {
    let failed = |error: std::io::Error| format!("can't be read: {error}");
    let length = std::fs::metadata(path).map_err(failed)?.len();
    if length > LARGEST {
        return Err("is too large for a file with a password".to_owned());
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    match text.lines().next().map(str::trim) {
        Some(line) if !line.is_empty() => Ok(ClientSecret(line.to_owned())),
        _ => Err("has no password in its first line".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use crate::Static;

    fn parse(oauth: &str) -> Result<Static, String> {
        let text = format!(
            "hostname = \"a.example\"\npostmaster.account = \"a\"\noauth = {{ {oauth} }}\n\
             [listeners.l]\nips = [\"127.0.0.1\"]\n"
        );
        Static::parse(&text, "postrider.conf").map_err(|errors| errors.to_string())
    }

    #[test]
    fn the_secret_is_in_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        std::fs::write(&file, " s3cret \nmore\n").unwrap();
        let url = "introspection_url = \"https://id.example/x\"";
        let with = |file: &std::path::Path| {
            parse(&format!(
                "{url}, client_id = \"me\", client_secret_file = {file:?}"
            ))
        };
        let oauth = with(&file).unwrap().oauth.server.unwrap();
        let secret = oauth.client_secret.as_ref().unwrap();
        assert_eq!(secret.as_str(), "s3cret");
        assert!(!format!("{oauth:?}").contains("s3cret"));
        std::fs::write(&file, "\n").unwrap();
        for (result, expected) in [
            (with(&file), "has no password in its first line"),
            (with(&dir.path().join("gone")), "can't be read"),
            (
                parse(&format!("{url}, client_id = \"me\"")),
                "needs client_secret_file",
            ),
            (
                parse(&format!("{url}, client_secret_file = {file:?}")),
                "needs client_id",
            ),
            (parse("scope = \"a\""), "scope: needs introspection_url"),
            (
                parse("issuer = true, tenant_claim = \"org\""),
                "tenant_claim: needs introspection_url",
            ),
            (parse(""), "needs introspection_url, or issuer = true"),
            (parse("introspection_url = \"ftp://x\""), "https://"),
            (parse(&format!("{url}, scope = 'a\"b'")), "no scope has"),
        ] {
            let error = result.unwrap_err();
            assert!(error.contains(expected), "{expected}: {error}");
        }
        let plain = parse(url).unwrap().oauth;
        assert!(!plain.issuer);
        let plain = plain.server.unwrap();
        assert_eq!((plain.scope.as_str(), plain.audience), ("", None));
        assert_eq!(plain.tenant_claim, None);
        let tenant = parse(&format!("{url}, tenant_claim = \"org\"")).unwrap();
        let claim = tenant.oauth.server.unwrap().tenant_claim;
        assert_eq!(claim.as_deref(), Some("org"));
        let issuer = parse("issuer = true").unwrap().oauth;
        assert!(issuer.issuer && issuer.server.is_none());
    }
}
