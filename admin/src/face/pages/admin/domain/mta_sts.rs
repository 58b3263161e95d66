//! The MTA-STS policy of a domain: other servers remember it, so its end takes time.

use std::{sync::Arc, time::Duration};

use askama::Template;
use postrider_config::parse_duration;
use postrider_store::Time;
use serde_json::json;

use super::Head;
use crate::{
    AdminError, Code,
    face::pages::{
        answer::{Answer, Trouble},
        asked::Asked,
        command::{self, AsCommand},
        confirm::{Confirm, check_typed},
        form::Faults,
        frame::Frame,
        settings::{Of, values},
        shown::When,
    },
    op::config::{domains::Set, settings::Setting},
};

#[derive(Template)]
#[template(path = "admin/domain_mta_sts.html")]
struct MtaSts {
    frame: Frame,
    domain: Head,
    /// None: the domain has none.
    policy: Option<Policy>,
    /// When the policy was saved, if its id says so.
    saved: When,
    /// Other servers may remember an earlier policy until then.
    until: When,
    /// The policy says none, and all have forgotten the one before.
    may_go: bool,
    modes: [(&'static str, &'static str); 3],
    mode: String,
    max_age: String,
    mx: String,
    faults: Faults,
}

/// A policy, as the file has it.
struct Policy {
    id: String,
    mode: String,
    max_age: String,
    mx: Vec<String>,
}

const MODES: [(&str, &str); 3] = [
    ("enforce", "enforce: without valid TLS, mail waits"),
    ("testing", "testing: problems are reported, mail goes on"),
    ("none", "none: the domain has no policy any more"),
];

/// The ages of policies without one in the file.
const MAX_AGE: &str = "24h";

/// How ids of policies are made: from the time.
const ID: &str = "%Y%m%dT%H%M%S";

impl Policy {
    async fn of(asked: &Asked, domain: &Head) -> Result<Option<Self>, AdminError> {
        let Some(id) = domain.item.mta_sts.clone() else {
            return Ok(None);
        };
        let values = values(asked, Of::Domain(domain.name())).await?;
        let value = |key: &str| values.get(&format!("mta_sts.{key}")).cloned();
        let below = values
            .iter()
            .filter(|(key, _)| key.starts_with("mta_sts.mx."));
        Ok(Some(Self {
            id,
            mode: value("mode").unwrap_or_else(|| "enforce".to_owned()),
            max_age: value("max_age").unwrap_or_else(|| MAX_AGE.to_owned()),
            mx: below.map(|(_, host)| host.clone()).collect(),
        }))
    }

    /// When it was saved. None: the id is of another form.
    fn saved(&self) -> Option<Time> {
        let civil = jiff::civil::DateTime::strptime(ID, &self.id).ok()?;
        let time = civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
        Some(Time(time.timestamp().as_microsecond()))
    }

    /// Until when other servers may remember the policy before. None: nobody knows.
    fn remembered_until(&self) -> Option<Time> {
        let age: Duration = parse_duration(&self.max_age).ok()?;
        Some(self.saved()?.after(age))
    }

    /// Whether nobody remembers a policy that demands something.
    fn may_go(&self, now: Time) -> bool {
        self.mode == "none" && self.remembered_until().is_some_and(|until| until <= now)
    }
}

async fn page(asked: &Asked, domain: Head, faults: Faults) -> Result<MtaSts, Trouble> {
    let now = asked.now();
    let policy = Policy::of(asked, &domain).await?;
    let saved = policy.as_ref().and_then(Policy::saved);
    let until = policy.as_ref().and_then(Policy::remembered_until);
    let typed = |name: &str, now: Option<String>| match faults.is_empty() {
        true => now.unwrap_or_default(),
        false => asked.form.shown(name).to_owned(),
    };
    let of = |value: fn(&Policy) -> String| policy.as_ref().map(value);
    let key = format!("{}.mta_sts", Of::Domain(domain.name()).key());
    let call = command::path("/api/settings/list", &[("prefix", Some(&key))]);
    let command = AsCommand::cli(["config", "get", &key]).get(&call);
    Ok(MtaSts {
        frame: domain.frame(asked, "MTA-STS").with(command),
        saved: When::maybe(saved.map(|time| time.to_string()).as_ref(), now),
        until: When::maybe(until.map(|time| time.to_string()).as_ref(), now),
        may_go: policy.as_ref().is_some_and(|policy| policy.may_go(now)),
        modes: MODES,
        mode: typed(
            "mode",
            of(|it| it.mode.clone()).or(Some("testing".to_owned())),
        ),
        max_age: typed(
            "max_age",
            of(|it| it.max_age.clone()).or(Some(MAX_AGE.to_owned())),
        ),
        mx: typed("mx", of(|it| it.mx.join("\n"))),
        domain,
        policy,
        faults,
    })
}

/// The policy, and the form for it.
pub(in crate::face::pages) async fn show(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let domain = Head::of(&asked).await?;
    Answer::page(&page(&asked, domain, Faults::default()).await?)
}

/// The settings of the policy of a form.
fn settings(asked: &Asked, before: Option<&Policy>) -> Vec<Setting> {
    let now = asked.now().timestamp().to_zoned(jiff::tz::TimeZone::UTC);
    let mode = asked.form.text("mode").unwrap_or("testing");
    let typed = asked.form.text("max_age").unwrap_or(MAX_AGE);
    // Others remember the policy before for its age, and the end is counted by it.
    let max_age = match before {
        Some(before) if mode == "none" => before.max_age.as_str(),
        _ => typed,
    };
    let hosts = asked.form.shown("mx").split_whitespace();
    let hosts: Vec<&str> = hosts.collect();
    let set = |key: &str, value: Option<String>| Setting {
        key: format!("mta_sts.{key}"),
        value,
    };
    vec![
        set("policy_id", Some(now.strftime(ID).to_string())),
        set("mode", Some(mode.to_owned())),
        set("max_age", Some(max_age.to_owned())),
        set("mx", (!hosts.is_empty()).then(|| json!(hosts).to_string())),
    ]
}

/// Saves the policy, with a new id.
pub(in crate::face::pages) async fn save(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let domain = Head::of(&asked).await?;
    let before = Policy::of(&asked, &domain).await?;
    let set = Set {
        domain: domain.name().to_owned(),
        settings: settings(&asked, before.as_ref()),
    };
    match asked.run(set).await {
        Ok(()) => {
            let told = "The policy is saved under a new id. Next: the record _mta-sts in DNS has \
                to name the new id.";
            Ok(asked.done(told, &domain.path("mta-sts")))
        }
        Err(error) if error.code == Code::Invalid => {
            Answer::again(&page(&asked, domain, Faults::of(&at_field(error))).await?)
        }
        Err(error) => Err(error.into()),
    }
}

/// The same error at the field of the form.
fn at_field(error: AdminError) -> AdminError {
    let fields = ["max_age", "mode", "mx"];
    let key = error.field.clone().unwrap_or_default();
    let named = fields.into_iter().find(|field| {
        key == format!("mta_sts.{field}") || error.text.contains(&format!("mta_sts.{field}"))
    });
    match named {
        Some(field) => error.at(field),
        None => error,
    }
}

fn removal(asked: &Asked, domain: &Head, policy: &Policy) -> Confirm {
    let name = domain.name();
    let action = asked.url(&domain.path("mta-sts/remove"));
    let question = format!("Remove the MTA-STS policy of {name}?");
    let key = format!("{}.mta_sts", Of::Domain(name).key());
    let confirm = Confirm::new(asked, &question, "Remove the policy", &action)
        .back(asked.url(&domain.path("mta-sts")))
        .command(AsCommand::cli(["config", "unset", &key]));
    if policy.may_go(asked.now()) {
        return confirm
            .effect("Nobody remembers an earlier policy any more.")
            .effect("Remove the record _mta-sts and the name mta-sts from DNS too.");
    }
    let effect = match policy.mode.as_str() {
        "none" => "Other servers may still remember the policy before this one, and fetch it anew.",
        _ => "Other servers remember the policy. Without the page they go on to demand TLS by it.",
    };
    confirm
        .effect(effect)
        .effect(format!(
            "It is safe to set the mode to none first, and to remove the policy {} later.",
            policy.max_age
        ))
        .typing(name)
}

/// Asks before the policy is removed.
pub(in crate::face::pages) async fn ask_remove(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let domain = Head::of(&asked).await?;
    let policy = Policy::of(&asked, &domain).await?.ok_or(Trouble::NoPage)?;
    Answer::page(&removal(&asked, &domain, &policy))
}

/// Removes the policy.
pub(in crate::face::pages) async fn remove(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let domain = Head::of(&asked).await?;
    let policy = Policy::of(&asked, &domain).await?.ok_or(Trouble::NoPage)?;
    let ask = removal(&asked, &domain, &policy);
    if !ask.typed.is_empty()
        && let Err(error) = check_typed(&asked.form, domain.name())
    {
        return ask.again(&error);
    }
    let gone = Setting {
        key: "mta_sts".to_owned(),
        value: None,
    };
    let set = Set {
        domain: domain.name().to_owned(),
        settings: vec![gone],
    };
    asked.run(set).await?;
    let told = "The policy is removed. Remove its records from DNS too.";
    Ok(asked.done(told, &domain.path("mta-sts")))
}
