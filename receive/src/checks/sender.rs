//! The check of the sender's domain: somebody can answer to it.
//!
//! A reply or a DSN to a domain that takes no mail would be lost. So we do not take mail that asks
//! for one (RFC 5321 §2.3.5, RFC 7505 §4.2).

use postrider_smtp::Host;

use super::questions::Questions;

/// What DNS says about the domain of a reverse-path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SenderDomain {
    /// It has a host for mail, or an address.
    TakesMail,
    /// It is an address literal.
    Literal,
    /// It has no MX record and no address.
    Nothing,
    /// Its MX record says that it takes no mail (RFC 7505).
    NullMx,
    /// There is no answer for now.
    NoAnswer,
}

/// Looks a domain up. Asks at most three questions.
pub async fn sender_domain(questions: &Questions, host: &Host) -> SenderDomain {
    let Host::Domain(domain) = host else {
        return SenderDomain::Literal;
    };
    let domain = domain.ascii();
    let without_mx = match questions.ask(|dns| dns.mx(domain)).await {
        Ok(answer) => {
            let mut hosts = answer.records.iter().map(|mx| mx.host.as_str());
            return match hosts.all(|host| host.is_empty() || host == ".") {
                true => SenderDomain::NullMx,
                false => SenderDomain::TakesMail,
            };
        }
        Err(postrider_dns::DnsError::NoName(_)) => return SenderDomain::Nothing,
        Err(error) => error,
    };
    // An address is as good as an MX record (RFC 5321 §5.1). It also answers for servers that never
    // answer a question for MX records.
    let (v4, v6) = tokio::join!(
        questions.ask(|dns| dns.a(domain)),
        questions.ask(|dns| dns.aaaa(domain))
    );
    let no_answer = |error: &postrider_dns::DnsError| error.negative().is_none();
    match (&v4, &v6) {
        (Ok(_), _) | (_, Ok(_)) => SenderDomain::TakesMail,
        (Err(v4), Err(v6)) if [v4, v6, &without_mx].into_iter().any(no_answer) => {
            SenderDomain::NoAnswer
        }
        _ => SenderDomain::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use postrider_dns::{FakeResolver, RecordType};

    use super::*;
    use crate::checks::questions::tests::questions;

    #[tokio::test]
    async fn a_domain_takes_mail_or_does_not() {
        let fake = FakeResolver::default();
        fake.set_mx("mx.test", &[(10, "mail.mx.test")]);
        fake.add_address("four.test", "192.0.2.1");
        fake.add_address("six.test", "2001:db8::1");
        fake.set_mx("null.test", &[(0, "")]);
        fake.set_mx("half.test", &[(0, ""), (10, "mail.mx.test")]);
        fake.exist("empty.test");
        fake.fail("silent.test");
        fake.fail_question("odd.test", RecordType::Mx);
        fake.add_address("odd.test", "192.0.2.1");
        fake.fail_question("deaf.test", RecordType::Mx);
        fake.exist("deaf.test");
        fake.fail_question("lame.test", RecordType::Aaaa);
        fake.exist("lame.test");
        fake.set_mx("xn--mller-kva.test", &[(10, "mail.mx.test")]);
        for (domain, expected, asked) in [
            ("mx.test", SenderDomain::TakesMail, 1),
            ("four.test", SenderDomain::TakesMail, 3),
            ("six.test", SenderDomain::TakesMail, 3),
            ("m\u{fc}ller.test", SenderDomain::TakesMail, 1),
            ("half.test", SenderDomain::TakesMail, 1),
            ("null.test", SenderDomain::NullMx, 1),
            ("empty.test", SenderDomain::Nothing, 3),
            ("missing.test", SenderDomain::Nothing, 1),
            ("silent.test", SenderDomain::NoAnswer, 3),
            ("odd.test", SenderDomain::TakesMail, 3),
            ("deaf.test", SenderDomain::NoAnswer, 3),
            ("lame.test", SenderDomain::NoAnswer, 3),
            ("[192.0.2.1]", SenderDomain::Literal, 0),
        ] {
            let (questions, _clock) = questions(&fake);
            let host = Host::parse(domain).unwrap();
            assert_eq!(sender_domain(&questions, &host).await, expected, "{domain}");
            assert_eq!(questions.asked(), asked, "{domain}");
        }
    }
}
