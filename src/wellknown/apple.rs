//! Configuration profiles for the mail programs of Apple
//! (<https://developer.apple.com/documentation/devicemanagement/mail>).

use std::fmt::Write as _;

use axum::{
    extract::Request,
    http::{
        Method, StatusCode,
        header::{CONTENT_DISPOSITION, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
};
use postrider_config::{Dynamic, Static};
use quick_xml::escape::escape;
use sha2::{Digest, Sha256};

use super::{
    parameter, plain,
    program::{Program, Service, address, program},
    refusal,
};

/// The most addresses in a profile.
const ADDRESSES_MAX: usize = 20;

/// Answers a request. Its parameters are `addresses`, with a comma between two, and `name`, the
/// name of the user.
pub(super) fn answer(statics: &Static, config: &Dynamic, request: &Request) -> Response {
    if let Some(refusal) = refusal(request, &[Method::GET, Method::HEAD]) {
        return refusal;
    }
    let name = parameter(request, "name").unwrap_or_default();
    let name: String = name.chars().filter(|char| !char.is_control()).collect();
    let addresses = parameter(request, "addresses").unwrap_or_default();
    let mut accounts = String::new();
    let mut first = None;
    for text in addresses.split(',').take(ADDRESSES_MAX) {
        let Some((address, domain)) = address(text) else {
            let text = "the parameter addresses has no mail address, or one that is wrong\n";
            return plain(StatusCode::BAD_REQUEST, text);
        };
        let Some(program) = program(statics, config, &domain) else {
            return plain(
                StatusCode::NOT_FOUND,
                "there are no settings for this domain\n",
            );
        };
        let Some(account) = account(&address.to_string(), &name, &program) else {
            let text = "there is no profile for this domain, since its configuration names no IMAP server \
                 (client_settings.imap)\n";
            return plain(StatusCode::NOT_FOUND, text);
        };
        accounts += &account;
        first.get_or_insert((address.to_string(), domain));
    }
    let Some((address, domain)) = first else {
        return plain(
            StatusCode::BAD_REQUEST,
            "the parameter addresses is missing\n",
        );
    };
    let text = profile(&accounts, &address, domain.ascii(), &addresses);
    let file = format!("attachment; filename=\"{}.mobileconfig\"", domain.ascii());
    let fields = [
        (CONTENT_TYPE, "application/x-apple-aspen-config".to_owned()),
        (CONTENT_DISPOSITION, file),
    ];
    (fields, text).into_response()
}

fn profile(accounts: &str, address: &str, domain: &str, addresses: &str) -> String {
    let mut all = String::new();
    for (key, value) in [
        ("PayloadDisplayName", address),
        ("PayloadIdentifier", &identifier(domain, addresses)),
        ("PayloadOrganization", domain),
        ("PayloadType", "Configuration"),
        ("PayloadUUID", &uuid("profile", addresses)),
    ] {
        string(&mut all, key, value);
    }
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n\
         <plist version=\"1.0\">\n<dict>\n\
         <key>PayloadContent</key>\n<array>\n{accounts}</array>\n\
         {all}\
         <key>PayloadVersion</key>\n<integer>1</integer>\n\
         </dict>\n</plist>\n"
    )
}

/// The part of one address. None: a program of Apple needs a server of mailboxes, and one that
/// takes mail.
fn account(address: &str, name: &str, program: &Program) -> Option<String> {
    let (imap, submission) = (program.imap.as_ref()?, program.submission.first()?);
    let mut all = String::from("<dict>\n");
    for (key, value) in [
        ("EmailAccountDescription", address),
        ("EmailAccountName", name),
        ("EmailAccountType", "EmailTypeIMAP"),
        ("EmailAddress", address),
        ("PayloadDisplayName", address),
        ("PayloadIdentifier", &identifier("account", address)),
        ("PayloadType", "com.apple.mail.managed"),
        ("PayloadUUID", &uuid("account", address)),
    ] {
        if !value.is_empty() {
            string(&mut all, key, value);
        }
    }
    server(&mut all, "Incoming", imap, address);
    server(&mut all, "Outgoing", submission, address);
    all.push_str(
        "<key>OutgoingPasswordSameAsIncomingPassword</key>\n<true/>\n\
         <key>PayloadVersion</key>\n<integer>1</integer>\n</dict>\n",
    );
    Some(all)
}

/// The keys of a server. A program of Apple finds out itself whether TLS begins at once.
fn server(all: &mut String, side: &str, service: &Service, login: &str) {
    let key = |name: &str| format!("{side}MailServer{name}");
    string(all, &key("Authentication"), "EmailAuthPassword");
    string(all, &key("HostName"), &service.host);
    string(all, &key("Username"), login);
    let (port, tls) = (key("PortNumber"), key("UseSSL"));
    let number = service.port;
    let _ = write!(
        all,
        "<key>{port}</key>\n<integer>{number}</integer>\n<key>{tls}</key>\n<true/>\n"
    );
}

fn string(all: &mut String, key: &str, value: &str) {
    let value = escape(value);
    let _ = write!(all, "<key>{key}</key>\n<string>{value}</string>\n");
}

/// A name that stays the same for the same addresses, so that a new profile replaces the old one.
fn identifier(of: &str, addresses: &str) -> String {
    let uuid = uuid("identifier", addresses);
    format!("postrider.{of}.{uuid}")
}

/// A UUID that follows from a text (version 8, RFC 9562 §5.8).
fn uuid(kind: &str, text: &str) -> String {
    let hash = Sha256::digest(format!("{kind} {text}"));
    let mut hex = String::new();
    for (at, byte) in hash.iter().take(16).enumerate() {
        let byte = match at {
            6 => byte & 0x0f | 0x80,
            8 => byte & 0x3f | 0x80,
            _ => *byte,
        };
        if [4, 6, 8, 10].contains(&at) {
            hex.push('-');
        }
        let _ = write!(hex, "{byte:02X}");
    }
    hex
}
