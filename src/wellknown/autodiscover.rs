//! Autodiscover in plain XML, the format of Outlook (MS-OXDSCLI).

use axum::{
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use postrider_config::{Dynamic, Static};
use quick_xml::{
    Reader,
    escape::{escape, resolve_predefined_entity},
    events::Event,
};

use super::{
    plain,
    program::{Program, Protection, Service, address, program},
};

/// Answers the body of a request.
pub(super) fn answer(statics: &Static, config: &Dynamic, body: &[u8]) -> Response {
    let Some((address, domain)) = email_address(body).as_deref().and_then(address) else {
        let text = "the request has no EMailAddress with a mail address\n";
        return plain(StatusCode::BAD_REQUEST, text);
    };
    let Some(program) = program(statics, config, &domain) else {
        return plain(
            StatusCode::NOT_FOUND,
            "there are no settings for this domain\n",
        );
    };
    let text = document(&address.to_string(), &program);
    ([(CONTENT_TYPE, "application/xml; charset=utf-8")], text).into_response()
}

/// The text of the first element `EMailAddress`. None: there is none, or the bytes are not XML.
fn email_address(body: &[u8]) -> Option<String> {
    let mut reader = Reader::from_reader(body);
    let (mut buffer, mut found) = (Vec::new(), None::<String>);
    loop {
        buffer.clear();
        match (reader.read_event_into(&mut buffer).ok()?, &mut found) {
            (Event::Eof, _) => return None,
            (Event::Start(start), None) if start.local_name().as_ref() == "EMailAddress" => {
                found = Some(String::new());
            }
            (Event::Text(text), Some(found)) => found.push_str(&text.xml10_content()),
            (Event::CData(text), Some(found)) => found.push_str(&text.xml10_content()),
            (Event::GeneralRef(name), Some(found)) => {
                found.push_str(resolve_predefined_entity(&name.into_inner())?);
            }
            (Event::End(_), Some(found)) => return Some(std::mem::take(found)),
            (Event::Start(_), Some(_)) => return None,
            _ => {}
        }
    }
}

fn document(login: &str, program: &Program) -> String {
    let mut protocols = String::new();
    if let Some(imap) = &program.imap {
        protocols += &protocol("IMAP", imap, login);
    }
    // Outlook takes one server of a type.
    if let Some(service) = program.submission.first() {
        protocols += &protocol("SMTP", service, login);
    }
    let login = escape(login);
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n\
         <Autodiscover xmlns=\"http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006\">\n\
         \x20 <Response xmlns=\"http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a\">\n\
         \x20   <User>\n\
         \x20     <DisplayName>{login}</DisplayName>\n\
         \x20   </User>\n\
         \x20   <Account>\n\
         \x20     <AccountType>email</AccountType>\n\
         \x20     <Action>settings</Action>\n\
         {protocols}\
         \x20   </Account>\n\
         \x20 </Response>\n\
         </Autodiscover>\n"
    )
}

fn protocol(kind: &str, service: &Service, login: &str) -> String {
    // SSL says whether TLS begins at once. Encryption, which newer versions know, overrides it.
    let (ssl, encryption) = match service.protection {
        Protection::Tls => ("on", "SSL"),
        Protection::StartTls => ("off", "TLS"),
    };
    let (host, port, login) = (escape(service.host.as_str()), service.port, escape(login));
    format!(
        "      <Protocol>\n\
         \x20       <Type>{kind}</Type>\n\
         \x20       <Server>{host}</Server>\n\
         \x20       <Port>{port}</Port>\n\
         \x20       <LoginName>{login}</LoginName>\n\
         \x20       <DomainRequired>off</DomainRequired>\n\
         \x20       <SPA>off</SPA>\n\
         \x20       <SSL>{ssl}</SSL>\n\
         \x20       <Encryption>{encryption}</Encryption>\n\
         \x20       <AuthRequired>on</AuthRequired>\n\
         \x20     </Protocol>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_a_request_is_found() {
        let outlook = r#"<?xml version="1.0" encoding="utf-8"?>
            <Autodiscover xmlns="http://schemas.microsoft.com/exchange/autodiscover/outlook/requestschema/2006">
              <Request><EMailAddress>ann@d.example</EMailAddress>
              <AcceptableResponseSchema>x</AcceptableResponseSchema></Request></Autodiscover>"#;
        for (body, expected) in [
            (outlook, Some("ann@d.example")),
            (
                "<a:EMailAddress>r&amp;d@d.example</a:EMailAddress>",
                Some("r&d@d.example"),
            ),
            (
                "<EMailAddress><![CDATA[ann@d.example]]></EMailAddress>",
                Some("ann@d.example"),
            ),
            ("<EMailAddress></EMailAddress>", Some("")),
            ("<EMailAddress>&evil;</EMailAddress>", None),
            ("<EMailAddress><b>x</b></EMailAddress>", None),
            ("<EMailAddress>ann", None),
            ("<EMailAddress/>", None),
            ("{}", None),
            ("<<<", None),
            ("", None),
        ] {
            assert_eq!(
                email_address(body.as_bytes()).as_deref(),
                expected,
                "{body}"
            );
        }
        assert_eq!(email_address(b"<EMailAddress>\xff</EMailAddress>"), None);
    }
}
