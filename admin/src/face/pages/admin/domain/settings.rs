//! The settings of a domain.

use std::sync::Arc;

use askama::Template;

use super::Head;
use crate::{
    Code,
    face::pages::{
        answer::{Answer, Trouble},
        asked::Asked,
        command::{self, AsCommand},
        frame::Frame,
        settings::{Of, SettingsForm, save, told},
    },
};

const KEYS: &[(&str, &str)] = &[
    ("description", "Description"),
    ("client_settings_domain", "Host name for mail programs"),
    ("localpart_catchall_separators", "Separators in addresses"),
    (
        "localpart_case_sensitive",
        "Capital letters make other addresses",
    ),
    ("dmarc.account", "Account for DMARC reports"),
    (
        "dmarc.localpart",
        "Local-part of the address for DMARC reports",
    ),
    ("dmarc.mailbox", "Mailbox for DMARC reports"),
    ("tls_rpt.account", "Account for TLS reports"),
    (
        "tls_rpt.localpart",
        "Local-part of the address for TLS reports",
    ),
    ("tls_rpt.mailbox", "Mailbox for TLS reports"),
];

#[derive(Template)]
#[template(path = "admin/domain_settings.html")]
struct Settings {
    frame: Frame,
    domain: Head,
    form: SettingsForm,
}

fn page(asked: &Asked, domain: Head, form: SettingsForm) -> Settings {
    let key = Of::Domain(domain.name()).key();
    let call = command::path("/api/settings/list", &[("prefix", Some(&key))]);
    let command = AsCommand::cli(["config", "get", &key]).get(&call);
    Settings {
        frame: domain.frame(asked, "Settings").with(command),
        domain,
        form,
    }
}

/// The settings.
pub(in crate::face::pages) async fn show(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let domain = Head::of(&asked).await?;
    let form = SettingsForm::read(&asked, Of::Domain(domain.name()), KEYS).await?;
    Answer::page(&page(&asked, domain, form))
}

/// Saves the settings.
pub(in crate::face::pages) async fn change(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let domain = Head::of(&asked).await?;
    let form = SettingsForm::read(&asked, Of::Domain(domain.name()), KEYS).await?;
    let changes = form.changes(&asked.form);
    match save(&asked, Of::Domain(domain.name()), changes).await {
        Ok(count) => Ok(asked.done(told(count), &domain.path("settings"))),
        Err(error) if error.code == Code::Invalid => {
            let form = form.again(&asked.form, error);
            Answer::again(&page(&asked, domain, form))
        }
        Err(error) => Err(error.into()),
    }
}
