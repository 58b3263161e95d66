//! OAUTHBEARER (RFC 7628) and XOAUTH2: the client sends a token of an authorization server.
//!
//! Both send `auth=Bearer TOKEN` among fields that end with the byte 1. OAUTHBEARER names the user
//! in the header of GS2, XOAUTH2 in a field of its own.

use zeroize::Zeroizing;

use super::{
    Evidence, Login, Mechanism, Pending, Step, Terms, Then, malformed, scram, wrong_credentials,
};

/// The byte between fields.
const SEPARATOR: char = '\u{1}';

/// The fields of a response.
struct Fields<'a> {
    user: String,
    auth: Option<&'a str>,
}

pub(super) fn respond(mechanism: Mechanism, response: &[u8], terms: Terms<'_>) -> Step {
    let text = std::str::from_utf8(response).ok();
    let fields = text.and_then(|text| match mechanism {
        Mechanism::Xoauth2 => xoauth2(text),
        _ => bearer(text),
    });
    let Some(fields) = fields else {
        return malformed(match mechanism {
            Mechanism::Xoauth2 => "not a response of XOAUTH2",
            _ => "not a response of OAUTHBEARER",
        });
    };
    let login = Login {
        mechanism,
        authorization: String::new(),
        user: fields.user,
        evidence: Evidence::Token(Zeroizing::new(token(fields.auth).to_owned())),
    };
    let scope = terms.oauth_scope.unwrap_or_default();
    let pending = Pending {
        login,
        then: Then::OauthError(error(mechanism, scope)),
    };
    match token(fields.auth) {
        // A client without a token asks for the needed scope (RFC 7628 §4.3).
        "" => pending.verdict(Err(wrong_credentials())),
        _ => Step::Decide(Box::new(pending)),
    }
}

/// The response of OAUTHBEARER: `n,a=USER,` and then fields.
fn bearer(text: &str) -> Option<Fields<'_>> {
    let (header, rest) = text.split_once(SEPARATOR)?;
    let mut parts = header.split(',');
    // The mechanism has no channel binding, so the client says that it wants none.
    parts.next().filter(|flag| matches!(*flag, "n" | "y"))?;
    let user = match parts.next()? {
        "" => String::new(),
        name => scram::decode_name(name.strip_prefix("a=")?)?,
    };
    (parts.next() == Some("") && parts.next().is_none()).then_some(())?;
    let auth = fields(rest)?.find_map(|(name, value)| (name == "auth").then_some(value));
    Some(Fields { user, auth })
}

/// The response of XOAUTH2: fields.
fn xoauth2(text: &str) -> Option<Fields<'_>> {
    let find = |wanted: &str| {
        let mut fields = fields(text)?;
        fields.find_map(|(name, value)| (name == wanted).then_some(value))
    };
    let user = find("user").filter(|user| !user.is_empty())?.to_owned();
    let auth = find("auth");
    Some(Fields { user, auth })
}

/// The fields of a text. None if it does not end as it must.
fn fields(text: &str) -> Option<impl Iterator<Item = (&str, &str)>> {
    let inner = text.strip_suffix(SEPARATOR)?;
    let inner = inner.strip_suffix(SEPARATOR).unwrap_or(inner);
    let fields = inner.split(SEPARATOR);
    Some(fields.filter_map(|field| field.split_once('=')))
}

/// The token in `Bearer TOKEN`. Empty if there is none.
fn token(auth: Option<&str>) -> &str {
    match auth.and_then(|auth| auth.split_once(' ')) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
        _ => "",
    }
}

/// The error that a client gets whose token is refused (RFC 7628 §3.2.2).
fn error(mechanism: Mechanism, scope: &str) -> String {
    match mechanism {
        Mechanism::Xoauth2 => "{\"status\":\"401\",\"schemes\":\"bearer\"}".to_owned(),
        // A scope has neither quotes nor backslashes (RFC 6749 §3.3).
        _ => format!("{{\"status\":\"invalid_token\",\"scope\":\"{scope}\"}}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(mechanism: Mechanism, response: &str) -> String {
        let terms = Terms {
            oauth_scope: Some("mail"),
            ..Terms::default()
        };
        match respond(mechanism, response.as_bytes(), terms) {
            Step::Decide(pending) => match &pending.login().evidence {
                Evidence::Token(token) => format!("{} {}", pending.login().user, token.as_str()),
                _ => panic!("another kind of evidence"),
            },
            Step::Challenge(_, challenge) => String::from_utf8(challenge).unwrap(),
            Step::Refused { reply, .. } => reply.to_string(),
            step @ (Step::Keys(_) | Step::Done(_)) => panic!("{step:?}"),
        }
    }

    #[test]
    fn responses_of_oauthbearer() {
        let check = |response: &str, expected: &str| {
            assert_eq!(
                shown(Mechanism::OauthBearer, response),
                expected,
                "{response:?}"
            );
        };
        let error = "{\"status\":\"invalid_token\",\"scope\":\"mail\"}";
        let malformed = "501 5.5.2 not a response of OAUTHBEARER";
        // RFC 7628 §4.1.
        check(
            "n,a=user@example.com,\u{1}host=server.example.com\u{1}port=143\u{1}\
             auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\u{1}\u{1}",
            "user@example.com vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==",
        );
        check("n,,\u{1}auth=bearer x\u{1}\u{1}", " x");
        check(
            "y,a=u=2Cv=3D@x.org,\u{1}auth=BEARER x\u{1}\u{1}",
            "u,v=@x.org x",
        );
        // RFC 7628 §4.3: the client asks what it needs.
        check(
            "n,a=user@example.com,\u{1}host=a\u{1}auth=\u{1}\u{1}",
            error,
        );
        check("n,,\u{1}\u{1}", error);
        check("n,,\u{1}auth=Basic x\u{1}\u{1}", error);
        for bad in [
            "",
            "\u{1}",
            "n,a=x",
            "n,\u{1}auth=Bearer x\u{1}\u{1}",
            "n,b=x,\u{1}auth=Bearer x\u{1}\u{1}",
            "n,a=x,y,\u{1}auth=Bearer x\u{1}\u{1}",
            "p=tls-exporter,,\u{1}auth=Bearer x\u{1}\u{1}",
            "n,a=x=2,\u{1}auth=Bearer x\u{1}\u{1}",
            "n,,\u{1}auth=Bearer x",
        ] {
            check(bad, malformed);
        }
    }

    #[test]
    fn responses_of_xoauth2() {
        let check = |response: &str, expected: &str| {
            assert_eq!(
                shown(Mechanism::Xoauth2, response),
                expected,
                "{response:?}"
            );
        };
        let error = "{\"status\":\"401\",\"schemes\":\"bearer\"}";
        check(
            "user=u@x.org\u{1}auth=Bearer ya29.x\u{1}\u{1}",
            "u@x.org ya29.x",
        );
        check("user=u@x.org\u{1}auth=Bearer \u{1}\u{1}", error);
        check("user=u@x.org\u{1}\u{1}", error);
        for bad in [
            "",
            "user=\u{1}auth=Bearer x\u{1}\u{1}",
            "auth=Bearer x\u{1}\u{1}",
            "user=u",
        ] {
            check(bad, "501 5.5.2 not a response of XOAUTH2");
        }
    }
}
