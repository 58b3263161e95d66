//! The junk filter, on the paths of Stalwart's spam filter.

use std::net::IpAddr;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::{Answer, Asked, parameters::body, problem::Problem};
use crate::{
    Code,
    op::{
        Single,
        junk::{Classified, Classify, Disposition, Reset, Train},
        queue::Piece,
    },
};

impl Asked {
    /// The account whose filter the call is about: that of the path, else that of the key. None:
    /// the server's own filter.
    async fn filter(&self) -> Result<Option<String>, Problem> {
        let account = match self.element(0) {
            "" => self.access.account.clone(),
            wanted => Some(self.account_of(wanted).await?),
        };
        match &account {
            Some(account) => self.check_account(account)?,
            None if self.access.is_tenant() => {
                let text = "name an account: the server's own filter is not yours";
                return Err(Problem::refused(text));
            }
            None => {}
        }
        Ok(account)
    }

    async fn train(self, junk: bool) -> Result<Answer, Problem> {
        let account = self.filter().await?;
        let train = Train {
            account: account.clone(),
            junk,
            message: Piece(self.body.to_vec()),
        };
        match train.answer(&self.context).await {
            Err(error) if error.code == Code::NotFound => {
                Err(Problem::not_found(account.unwrap_or_default(), error))
            }
            trained => {
                trained?;
                Ok(Answer::null())
            }
        }
    }
}

pub(in super::super) async fn train_spam(asked: Asked) -> Result<Answer, Problem> {
    asked.train(true).await
}

pub(in super::super) async fn train_ham(asked: Asked) -> Result<Answer, Problem> {
    asked.train(false).await
}

/// Training is done with each call, so it need not be started, and never runs.
pub(in super::super) async fn start(_: Asked) -> Result<Answer, Problem> {
    Ok(Answer::Data(Value::Bool(true)))
}

pub(in super::super) async fn is_running(_: Asked) -> Result<Answer, Problem> {
    Ok(Answer::Data(Value::Bool(false)))
}

/// Lets the server's own filter forget. A GET that changes something needs more than the scope to
/// read.
pub(in super::super) async fn forget(asked: Asked) -> Result<Answer, Problem> {
    let reset = Reset { account: None };
    reset.answer(&asked.context).await?;
    Ok(Answer::Data(Value::Bool(true)))
}

/// A message to be judged. Only the message is needed.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub(in super::super) struct ClassifyRequest {
    /// The message.
    message: String,
    /// The address of the client. Without it, nothing is checked in DNS.
    #[serde(default)]
    #[cfg_attr(test, schema(value_type = Option<String>))]
    remote_ip: Option<IpAddr>,
    /// The name in EHLO.
    #[serde(default)]
    ehlo_domain: Option<String>,
    /// The login of the client. It is not looked at.
    #[serde(default)]
    #[expect(dead_code, reason = "clients send it")]
    authenticated_as: Option<String>,
    /// The client used TLS.
    #[serde(default)]
    is_tls: Option<bool>,
    /// MAIL FROM.
    #[serde(default)]
    env_from: String,
    /// The flags of MAIL FROM. They are not looked at.
    #[serde(default)]
    #[expect(dead_code, reason = "clients send it")]
    env_from_flags: Option<u64>,
    /// The recipients.
    #[serde(default)]
    env_rcpt_to: Vec<String>,
}

pub(in super::super) async fn classify(asked: Asked) -> Result<Answer, Problem> {
    let account = asked.filter().await?;
    let request: ClassifyRequest = body(&asked.body)?;
    let classify = Classify {
        account,
        message: Piece(request.message.into_bytes()),
        remote_ip: request.remote_ip,
        helo: request.ehlo_domain,
        tls: request.is_tls,
        mail_from: request.env_from,
        recipients: request.env_rcpt_to,
    };
    let found = classify.answer(&asked.context).await?;
    Ok(Answer::Data(classified(&found)))
}

/// The answer, as clients of Stalwart know it.
fn classified(found: &Classified) -> Value {
    let tags = found.tags.iter();
    let tags = tags.map(|(name, score)| {
        let tag = json!({"action": "allow", "value": score});
        (name.clone(), tag)
    });
    let spam = match found.disposition {
        Disposition::Accept => "No",
        Disposition::Junk | Disposition::Refuse => "Yes",
    };
    let disposition = match found.disposition {
        Disposition::Refuse => json!({"action": "reject"}),
        Disposition::Accept | Disposition::Junk => json!({
            "action": "allow",
            "value": format!("X-Spam-Status: {spam}, score={:.2}\r\n", found.score),
        }),
    };
    json!({
        "score": found.score,
        "tags": tags.collect::<Map<_, _>>(),
        "disposition": disposition,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_the_shape_that_clients_know() {
        let found = Classified {
            disposition: Disposition::Junk,
            reason: "words".to_owned(),
            score: 7.1,
            tags: [("BAYES".to_owned(), 7.1)].into(),
        };
        let expected = json!({
            "score": 7.1,
            "tags": {"BAYES": {"action": "allow", "value": 7.1}},
            "disposition": {"action": "allow", "value": "X-Spam-Status: Yes, score=7.10\r\n"},
        });
        assert_eq!(classified(&found), expected);
        let refused = Classified {
            disposition: Disposition::Refuse,
            ..found
        };
        assert_eq!(
            classified(&refused)["disposition"],
            json!({"action": "reject"})
        );
    }
}
