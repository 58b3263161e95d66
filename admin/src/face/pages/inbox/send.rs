//! A test message: an ordinary one, or one whose delivery fails.

use std::sync::Arc;

use askama::Template;
use axum::http::uri::Authority;
use postrider_config::Account;
use serde_json::json;

use super::{
    super::{
        answer::{Answer, Trouble},
        asked::Asked,
        command::AsCommand,
        form::{Faults, Fields},
        frame::Frame,
    },
    account,
};
use crate::{
    AdminError, Code,
    op::{
        inbox::{Foresee, Foreseen, SendTest, Simulated, Stage},
        suppression::Remove,
    },
};

/// The kinds of failures that have names.
const KINDS: [(&str, &str); 4] = [
    ("permerror", "permanent error (550)"),
    ("temperror", "temporary error (451)"),
    ("timeout", "no answer"),
    ("code", "a code of your choice"),
];

#[derive(Template)]
#[template(path = "inbox/send.html")]
struct Page {
    frame: Frame,
    stage: String,
    kind: String,
    code: String,
    kinds: [(&'static str, &'static str); 4],
    stages: [(&'static str, &'static str); 5],
    to: String,
    subject: String,
    text: String,
    foreseen: Foreseen,
    simulates: bool,
    settings: Settings,
    faults: Faults,
}

/// What a program needs to send to this server.
struct Settings {
    host: String,
    smtp: Option<u16>,
    submission: Option<u16>,
    submissions: Option<u16>,
    login: String,
    curl: String,
    curl_smtp: String,
    python: String,
    node: String,
}

/// The stages: name and what it is.
const STAGES: [(&str, &str); 5] = [
    ("", "none: an ordinary message"),
    ("data", "at the end of the message"),
    ("rcptto", "at RCPT TO"),
    ("mailfrom", "at MAIL FROM"),
    ("queue", "in the queue, after a submission was taken"),
];

/// The failure that a form or a query asks for. None: none.
fn failure(fields: &Fields) -> Result<Option<Simulated>, AdminError> {
    let Some(stage) = fields.text("stage") else {
        return Ok(None);
    };
    let stage = Stage::ALL.into_iter().find(|it| it.name() == stage);
    let stage = stage.ok_or_else(|| AdminError::invalid("there is no such stage").at("stage"))?;
    let kind = match fields.text("kind") {
        Some("code") => fields.needed("code")?,
        Some(kind) => kind,
        None => "permerror",
    };
    let kind = kind.to_owned();
    Ok(Some(Simulated { stage, kind }))
}

/// A fault of the kind is one of the code, if that was typed.
fn at_field(error: AdminError, fields: &Fields) -> AdminError {
    match (error.field.as_deref(), fields.text("kind")) {
        (Some("kind"), Some("code")) => error.at("code"),
        _ => error,
    }
}

async fn page(asked: &Asked, fields: &Fields, mut faults: Faults) -> Result<Page, Trouble> {
    let foresee = |failure| Foresee {
        account: account(asked),
        failure,
    };
    let wanted = match failure(fields) {
        Ok(failure) => asked
            .run(foresee(failure.clone()))
            .await
            .map(|it| (failure, it)),
        Err(error) => Err(error),
    };
    let (failure, foreseen) = match wanted {
        Ok(wanted) => wanted,
        Err(error) if error.code == Code::Invalid => {
            if faults.is_empty() {
                faults = Faults::of(&at_field(error, fields));
            }
            (None, asked.run(foresee(None)).await?)
        }
        Err(error) => return Err(error.into()),
    };
    let subject = match fields.raw("subject") {
        Some(subject) => subject.to_owned(),
        None => match &failure {
            Some(failure) => format!("Failure {} at {}", failure.kind, failure.stage.name()),
            None => "A test message".to_owned(),
        },
    };
    let typed = |name: &str, usual: &str| fields.raw(name).unwrap_or(usual).to_owned();
    let settings = Settings::new(asked, &foreseen, &subject);
    let request = settings.request(&foreseen, &subject);
    let command = AsCommand::cli(["webapi", "Send", &request]);
    Ok(Page {
        frame: asked.frame("Send a test message").with(command),
        stage: fields.shown("stage").to_owned(),
        kind: typed("kind", "permerror"),
        code: typed("code", "550"),
        kinds: KINDS,
        stages: STAGES,
        to: typed("to", &foreseen.to),
        subject,
        text: typed("text", "This is a test message of postrider.\n"),
        simulates: failure.is_some(),
        foreseen,
        settings,
        faults,
    })
}

impl Settings {
    fn new(asked: &Asked, foreseen: &Foreseen, subject: &str) -> Self {
        let browser = asked.browser.host.parse::<Authority>().ok();
        let host = browser
            .as_ref()
            .map_or("127.0.0.1", Authority::host)
            .to_owned();
        let listeners = asked.context.statics.listeners.values();
        let mut ports = [None; 3];
        for listener in listeners {
            let services = [
                (listener.smtp.enabled, listener.smtp.port),
                (listener.submission.enabled, listener.submission.port),
                (listener.submissions.enabled, listener.submissions.port),
            ];
            for (found, (enabled, port)) in ports.iter_mut().zip(services) {
                if enabled && found.is_none() {
                    *found = Some(port);
                }
            }
        }
        let [smtp, submission, submissions] = ports;
        let config = asked.context.config.load();
        let account = config.accounts.get(&foreseen.account);
        let login = account.and_then(Account::first_address);
        let login = login.map(ToString::to_string).unwrap_or_default();
        let mut settings = Self {
            host,
            smtp,
            submission,
            submissions,
            login,
            curl: String::new(),
            curl_smtp: String::new(),
            python: String::new(),
            node: String::new(),
        };
        settings.write(asked, foreseen, subject);
        settings
    }

    /// The request of the webapi that sends the same message.
    fn request(&self, foreseen: &Foreseen, subject: &str) -> String {
        let mut request = json!({
            "To": [{"Address": foreseen.to}],
            "Subject": subject,
            "Text": "Hello.",
        });
        if foreseen.from != self.login
            && let Some(fields) = request.as_object_mut()
        {
            fields.insert("From".to_owned(), json!([{"Address": foreseen.from}]));
        }
        request.to_string()
    }

    /// Writes the lines that do the same in other languages. The password is that of a
    /// new folder, or is in the environment.
    fn write(&mut self, asked: &Asked, foreseen: &Foreseen, subject: &str) {
        let scheme = if asked.browser.encrypted {
            "https"
        } else {
            "http"
        };
        let (host, login) = (&self.host, &self.login);
        let (from, to) = (&foreseen.from, &foreseen.to);
        let request = self.request(foreseen, subject);
        let quoted = request.replace('\'', "'\\''");
        self.curl = format!(
            "curl --user {login}:${{PASSWORD:-postrider}} --data-urlencode request='{quoted}' {scheme}://{}/webapi/v0/Send",
            asked.browser.host
        );
        let Some(port) = self.submission.or(self.smtp) else {
            return;
        };
        let words = |text: &str| json!(text).to_string();
        self.curl_smtp = format!(
            "printf 'From: <{from}>\\r\\nTo: <{to}>\\r\\nSubject: test\\r\\n\\r\\nHello.\\r\\n' | \
             curl --url smtp://{host}:{port} --user {login}:${{PASSWORD:-postrider}} --mail-from {from} --mail-rcpt {to} --upload-file -"
        );
        self.python = format!(
            "import os, smtplib\n\
             from email.message import EmailMessage\n\
             \n\
             message = EmailMessage()\n\
             message[\"From\"] = {from}\n\
             message[\"To\"] = {to}\n\
             message[\"Subject\"] = {subject}\n\
             message.set_content(\"Hello.\")\n\
             with smtplib.SMTP({host}, {port}) as server:\n\
             \x20   server.login({login}, os.environ.get(\"PASSWORD\", \"postrider\"))\n\
             \x20   server.send_message(message)\n",
            from = words(from),
            to = words(to),
            subject = words(subject),
            host = words(host.trim_matches(['[', ']'])),
            login = words(login),
        );
        self.node = format!(
            "const nodemailer = require(\"nodemailer\");\n\
             \n\
             const transport = nodemailer.createTransport({{\n\
             \x20 host: {host}, port: {port}, secure: false, ignoreTLS: true,\n\
             \x20 auth: {{ user: {login}, pass: process.env.PASSWORD || \"postrider\" }},\n\
             }});\n\
             transport.sendMail({{ from: {from}, to: {to}, subject: {subject}, text: \"Hello.\" }});\n",
            from = words(from),
            to = words(to),
            subject = words(subject),
            host = words(host.trim_matches(['[', ']'])),
            login = words(login),
        );
    }
}

/// The form.
pub(in super::super) async fn show(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let page = page(&asked, &asked.query, Faults::default()).await?;
    match page.faults.is_empty() {
        true => Answer::page(&page),
        false => Answer::again(&page),
    }
}

/// Sends the message, and leads to what becomes of it.
pub(in super::super) async fn send(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let form = &asked.form;
    let send = failure(form).map(|failure| SendTest {
        account: account(&asked),
        to: form.text("to").map(str::to_owned),
        subject: form.text("subject").unwrap_or_default().to_owned(),
        text: form.shown("text").to_owned(),
        failure,
    });
    let sent = match send {
        Ok(send) => asked.run(send).await,
        Err(error) => Err(error),
    };
    match sent {
        Ok(sent) => {
            let told = format!("The message to {} is on its way.", sent.to);
            Ok(asked.done(told, &format!("{}/happened", sent.id)))
        }
        Err(error)
            if matches!(
                error.code,
                Code::Invalid | Code::Conflict | Code::Unsupported
            ) =>
        {
            let faults = Faults::of(&at_field(error, form));
            Answer::again(&page(&asked, form, faults).await?)
        }
        Err(error) => Err(error.into()),
    }
}

/// Takes the recipient off the suppression list, so that a failure can be seen again.
pub(in super::super) async fn unsuppress(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let failure = failure(&asked.form)?;
    let foresee = Foresee {
        account: account(&asked),
        failure,
    };
    let foreseen = asked.run(foresee).await?;
    let told = format!("{} is on the suppression list no more.", foreseen.to);
    asked
        .run(Remove {
            account: foreseen.account,
            address: foreseen.to,
            list: String::new(),
        })
        .await?;
    let query = asked.form.query(&["token", "form"], &[]);
    Ok(asked.done(told, &format!("send?{query}")))
}
