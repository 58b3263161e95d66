//! The keys of `oauth` in `postrider.conf`.

use crate::schema::{
    Default::{Absent, Value},
    Kind::{Bool, Path, Text, Url},
    Section, key,
};

pub(crate) const SECTION: Section = Section {
    title: "Logins with OAuth tokens: `oauth`",
    intro: "Submission takes tokens of an authorization server (OAUTHBEARER, RFC 7628, and XOAUTH2). \
        The server says whether a token is good, and whose it is (RFC 7662). With `issuer` this \
        server gives out mail tokens itself.",
    keys: &[KEYS],
};

static KEYS: &[crate::schema::Key] = &[
    key(
        "oauth.introspection_url",
        Url,
        Absent("only tokens of this server are taken"),
        "The URL that is asked about a token. The keys below, but for issuer, need it.",
    ),
    key(
        "oauth.client_id",
        Text,
        Absent("none"),
        "The name with which postrider logs in to the authorization server. It needs \
            client_secret_file.",
    ),
    key(
        "oauth.client_secret_file",
        Path,
        Absent("none"),
        "The file with the password for client_id, as its first line.",
    ),
    key(
        "oauth.scope",
        Text,
        Value("\"\""),
        "The scopes that a token needs, with blanks between them.",
    ),
    key(
        "oauth.audience",
        Text,
        Absent("any"),
        "A token must be meant for this audience (aud).",
    ),
    key(
        "oauth.username_claim",
        Text,
        Absent("username, email and sub are tried"),
        "The field of the answer that has the login address. Name one that users can't choose. \
         email counts only if email_verified is absent or true.",
    ),
    key(
        "oauth.tenant_claim",
        Text,
        Absent("none"),
        "The field of the answer that names the tenant, as the key tenant of its domains does. A token \
         with this field manages these domains in the mailbox API.",
    ),
    key(
        "oauth.issuer",
        Bool,
        Value("false"),
        "Give out mail tokens (`/api/v1/auth/mail-token`), and tell other servers whether one is \
         good.",
    ),
];
