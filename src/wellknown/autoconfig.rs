//! Autoconfig, the format of Thunderbird that most other programs read as well
//! (<https://datatracker.ietf.org/doc/html/draft-ietf-mailmaint-autoconfig>).

use axum::{
    extract::Request,
    http::{Method, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use postrider_config::{Dynamic, Static};
use postrider_smtp::Domain;
use quick_xml::escape::escape;

use super::{
    behind, parameter, plain,
    program::{Program, Protection, Service, address, program},
    refusal,
};

/// Programs put the address of their user in the place of this word.
const PLACEHOLDER: &str = "%EMAILADDRESS%";

/// Answers a request. Without an address the settings are for the domain of the host.
pub(super) fn answer(
    statics: &Static,
    config: &Dynamic,
    host: &Domain,
    request: &Request,
) -> Response {
    if let Some(refusal) = refusal(request, &[Method::GET, Method::HEAD]) {
        return refusal;
    }
    let (login, domain) = match parameter(request, "emailaddress") {
        Some(text) => match address(&text) {
            Some((address, domain)) => (address.to_string(), domain),
            None => {
                let text = "the parameter emailaddress is not a mail address\n";
                return plain(StatusCode::BAD_REQUEST, text);
            }
        },
        None => {
            let domain = behind(host, "autoconfig").unwrap_or_else(|| host.clone());
            (PLACEHOLDER.to_owned(), domain)
        }
    };
    let Some(program) = program(statics, config, &domain) else {
        return plain(
            StatusCode::NOT_FOUND,
            "there are no settings for this domain\n",
        );
    };
    let text = document(&domain, &login, &program);
    ([(CONTENT_TYPE, "application/xml; charset=utf-8")], text).into_response()
}

fn document(domain: &Domain, login: &str, program: &Program) -> String {
    let name = domain.ascii();
    let mut servers = String::new();
    if let Some(imap) = &program.imap {
        servers += &server(
            "incomingServer type=\"imap\"",
            "incomingServer",
            imap,
            login,
        );
    }
    for service in &program.submission {
        servers += &server(
            "outgoingServer type=\"smtp\"",
            "outgoingServer",
            service,
            login,
        );
    }
    let shown = domain.unicode();
    let shown = escape(shown.as_str());
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <clientConfig version=\"1.1\">\n\
         \x20 <emailProvider id=\"{name}\">\n\
         \x20   <domain>{name}</domain>\n\
         \x20   <displayName>{shown}</displayName>\n\
         \x20   <displayShortName>{shown}</displayShortName>\n\
         {servers}\
         \x20 </emailProvider>\n\
         \x20 <clientConfigUpdate url=\"https://autoconfig.{name}/mail/config-v1.1.xml\"/>\n\
         </clientConfig>\n"
    )
}

fn server(open: &str, close: &str, service: &Service, login: &str) -> String {
    let socket = match service.protection {
        Protection::Tls => "SSL",
        Protection::StartTls => "STARTTLS",
    };
    let (host, port, login) = (escape(service.host.as_str()), service.port, escape(login));
    // The password is clear within TLS only.
    format!(
        "    <{open}>\n\
         \x20     <hostname>{host}</hostname>\n\
         \x20     <port>{port}</port>\n\
         \x20     <socketType>{socket}</socketType>\n\
         \x20     <username>{login}</username>\n\
         \x20     <authentication>password-cleartext</authentication>\n\
         \x20   </{close}>\n"
    )
}
