//! Accounts.

use postrider_config::{Account, Dynamic};
use postrider_smtp::{Address, Domain, LocalPart};
use postrider_store::{HoldFilter, HoldRule};
use serde_json::{Value, json};

use super::{
    Answer, Asked,
    fields::{Fields, problem},
    list::List,
    target::numbered,
};
use crate::{
    Code, Context,
    face::http::problem::Problem,
    op::{
        Single,
        config::{
            accounts,
            principals::{Changes, Update},
        },
        credentials::SecretChange,
        hold_rules,
        principals::{Kind, SHARED_MAILBOX, Usage},
    },
};

/// Bytes in a unit of `quota_mb` and `used_mb`.
const MB: u64 = 1 << 20;
/// The largest quota, in the same unit: that of the configuration.
const QUOTA_MAX: u64 = 1000 << 20;
/// The characters of a password.
const PASSWORD: std::ops::RangeInclusive<usize> = 8..=256;
/// The most bytes of the name of an account.
const NAME_MAX: usize = 128;
/// The fields of the calls for those of the operations.
const NAMES: [(&str, &str); 5] = [
    ("secrets", "password"),
    ("quota", "quota_mb"),
    ("address", "local_part"),
    ("emails", "local_part"),
    ("account", "local_part"),
];

/// These accounts as JSON.
async fn shapes(context: &Context, accounts: &[(u64, String)]) -> Result<Vec<Value>, Problem> {
    let config = context.config.load_full();
    let names = accounts.iter();
    let names: Vec<_> = names
        .map(|(_, name)| Kind::Individual.known_as(name))
        .collect();
    let made = context.store.principals_made(&names).await?;
    let mut shapes = Vec::new();
    for ((id, name), made) in accounts.iter().zip(made) {
        let Some(account) = config.accounts.get(name) else {
            continue;
        };
        let usage = Usage {
            account: name.clone(),
        };
        let used = usage.answer(context).await?.bytes;
        shapes.push(json!({
            "id": id,
            "name": name,
            "email": email(account).map(Address::unicode),
            "full_name": account.full_name,
            "quota_mb": account.quota.map_or(0, |quota| quota.0.div_ceil(MB)),
            "used_mb": used.div_ceil(MB),
            "suspended": is_suspended(account),
            "created": made.map(|time| time.to_string()),
        }));
    }
    Ok(shapes)
}

/// The main address: the first one at the own domain of the account.
fn email(account: &Account) -> Option<&Address> {
    let mut addresses = account.destinations.keys().filter_map(|key| match key {
        postrider_config::DestinationAddress::Address(address) => Some(address),
        postrider_config::DestinationAddress::CatchAll(_) => None,
    });
    let own = addresses.find(|address| address.host.domain() == Some(&account.domain));
    own.or_else(|| account.first_address())
}

async fn one(context: &Context, id: u64, name: String) -> Result<Value, Problem> {
    let missing = Problem::missing(name.clone(), format!("there is no account {name}"));
    let mut found = shapes(context, &[(id, name)]).await?;
    found.pop().ok_or(missing)
}

/// Lists the accounts whose own domain is that of the path.
pub(super) async fn list(asked: Asked) -> Result<Answer, Problem> {
    let list = List::new(&asked.query)?;
    let reach = asked.manager()?.reach.clone();
    let (_, domain) = asked.target.domain()?;
    let config = asked.context.config.load_full();
    let own = config.accounts.iter();
    let own = own.filter(|(_, account)| account.domain == domain && reach.sees(account));
    let own: Vec<String> = own.map(|(name, _)| name.clone()).collect();
    let all = numbered(&asked.context, Kind::Individual, own, Clone::clone).await?;
    let part = list.part(all);
    let items = shapes(&asked.context, &part.rows).await?;
    Ok(Answer::of(part.answer(items)))
}

/// Gets an account.
pub(super) async fn get(asked: Asked) -> Result<Answer, Problem> {
    let (id, name) = asked.target.account()?;
    Ok(Answer::of(one(&asked.context, id, name).await?))
}

/// A password, if it is in the body.
fn password(fields: &mut Fields) -> Option<String> {
    let password = fields.text("password")?;
    if !PASSWORD.contains(&password.chars().count()) {
        let (least, most) = (PASSWORD.start(), PASSWORD.end());
        fields.wrong(
            "password",
            format!("must have {least} to {most} characters"),
        );
    } else if password.chars().any(char::is_control) {
        fields.wrong("password", "must not have control characters");
    }
    Some(password)
}

/// A quota in bytes, if it is in the body. 0: no limit.
fn quota(fields: &mut Fields) -> Option<u64> {
    let quota = fields.number("quota_mb")?;
    if quota > QUOTA_MAX {
        fields.wrong("quota_mb", format!("must be at most {QUOTA_MAX}"));
        return None;
    }
    Some(quota * MB)
}

/// The address of a new account at a domain, if the local-part can be one.
fn address(fields: &mut Fields, config: &Dynamic, domain: &Domain) -> Option<Address> {
    let text = fields.needed("local_part");
    if text.is_empty() {
        if fields.value("local_part").is_some() {
            fields.wrong("local_part", "must not be empty");
        }
        return None;
    }
    let local = match LocalPart::parse(&text) {
        Ok(local) => local,
        Err(error) => {
            fields.wrong(
                "local_part",
                format!("{text:?} is not a local-part: {error}"),
            );
            return None;
        }
    };
    let settings = config.domains.get(domain)?;
    let mut separators = settings.localpart_catchall_separators.iter();
    if let Some(separator) = separators.find(|it| local.as_str().contains(it.as_str())) {
        let text = format!(
            "has the separator {separator:?} of the domain, so mail to it would go to the address \
             without the part from there on"
        );
        fields.wrong("local_part", text);
        return None;
    }
    Some(Address {
        local,
        host: domain.clone().into(),
    })
}

/// The name of a new account: the address with a dot in the place of the @, with a number if that
/// is taken.
fn name(config: &Dynamic, address: &Address, domain: &Domain) -> String {
    let is_plain = |c: char| !c.is_control() && !matches!(c, '/' | '\\' | '@' | '"' | ' ');
    let local = address.local.as_str().to_lowercase();
    let local: String = local
        .chars()
        .map(|c| if is_plain(c) { c } else { '-' })
        .collect();
    let mut name = format!("{}.{}", local.trim_start_matches('.'), domain.unicode());
    while name.len() > NAME_MAX - 8 {
        name.remove(0);
    }
    let name = name.trim_start_matches('.').to_owned();
    let numbered = (2_u64..).map(|number| format!("{name}-{number}"));
    let mut names = std::iter::once(name.clone()).chain(numbered);
    let free = names.find(|name| !config.accounts.contains_key(name));
    free.unwrap_or(name)
}

/// Adds an account with an address at the domain of the path.
pub(super) async fn add(asked: Asked) -> Result<Answer, Problem> {
    let (_, domain) = asked.target.domain()?;
    let context = &asked.context;
    let config = context.config.load_full();
    let mut fields = Fields::read(&asked.body)?;
    let address = address(&mut fields, &config, &domain);
    if fields.value("password").is_none() {
        fields.wrong("password", "is missing");
    }
    let password = password(&mut fields).unwrap_or_default();
    let quota = quota(&mut fields);
    let full_name = fields.text("full_name");
    fields.check()?;
    let address = address.ok_or_else(|| Problem::internal("no address"))?;
    let shown = address.unicode();
    if let Some(owner) = config.taken(&address) {
        let text = format!("{shown} is taken: {owner}");
        return Err(Problem::exists("local_part", shown, text));
    }
    let name = name(&config, &address, &domain);
    let add = accounts::Add {
        account: name.clone(),
        address: shown,
    };
    add.answer(context)
        .await
        .map_err(|error| problem(error, &NAMES))?;
    let changes = Changes {
        full_name: full_name.filter(|it| !it.is_empty()),
        quota: quota.filter(|quota| *quota > 0),
        secrets: vec![SecretChange::SetPassword(password)],
        ..Changes::default()
    };
    let update = Update {
        kind: Kind::Individual,
        name: name.clone(),
        changes,
    };
    if let Err(error) = update.answer(context).await {
        // An account that is only half there would be in the way of the next try.
        let remove = accounts::Remove { account: name };
        remove.answer(context).await?;
        return Err(problem(error, &NAMES));
    }
    let mut made = numbered(context, Kind::Individual, vec![name], Clone::clone).await?;
    let (id, name) = made.pop().ok_or_else(|| Problem::internal("no number"))?;
    Ok(Answer::made(one(context, id, name).await?))
}

/// Changes an account. A new password ends its sessions and tokens.
pub(super) async fn change(asked: Asked) -> Result<Answer, Problem> {
    let (id, name) = asked.target.account()?;
    let mut fields = Fields::read(&asked.body)?;
    let password = password(&mut fields);
    let quota = quota(&mut fields);
    let full_name = fields.text("full_name");
    if password.is_none() && quota.is_none() && full_name.is_none() {
        fields.wrong("password", "is missing, and so are quota_mb and full_name");
    }
    fields.check()?;
    let secrets = password.map(SecretChange::SetPassword);
    let update = Update {
        kind: Kind::Individual,
        name: name.clone(),
        changes: Changes {
            full_name,
            quota,
            secrets: secrets.into_iter().collect(),
            ..Changes::default()
        },
    };
    let context = &asked.context;
    let updated = update.answer(context).await;
    updated.map_err(|error| problem(error, &NAMES))?;
    Ok(Answer::of(one(context, id, name).await?))
}

/// Removes an account.
pub(super) async fn remove(asked: Asked) -> Result<Answer, Problem> {
    let (id, name) = asked.target.account()?;
    let remove = accounts::Remove {
        account: name.clone(),
    };
    match remove.answer(&asked.context).await {
        Ok(_) => Ok(Answer::of(json!({"id": id, "name": name, "deleted": true}))),
        Err(error) if matches!(error.code, Code::Invalid | Code::Conflict) => {
            Err(Problem::in_use(vec![error.text]))
        }
        Err(error) => Err(error.into()),
    }
}

/// The rule that holds what an account sends, and nothing else. None: there is none.
async fn rule_of(context: &Context, account: &str) -> Result<Option<HoldRule>, Problem> {
    let wanted = HoldFilter {
        account: Some(account.to_owned()),
        ..HoldFilter::default()
    };
    let rules = context.store.hold_rules().await?;
    Ok(rules.into_iter().find(|rule| rule.filter == wanted))
}

/// Refuses logins of an account.
pub(super) async fn suspend(asked: Asked) -> Result<Answer, Problem> {
    let (id, name) = asked.target.account()?;
    let context = &asked.context;
    let mut fields = Fields::read(&asked.body)?;
    let holds = fields.flag("hold_queue");
    fields.check()?;
    if may_log_in(context, &name)? {
        let suspend = accounts::Suspend {
            account: name.clone(),
            message: None,
        };
        suspend.answer(context).await?;
    }
    if holds && rule_of(context, &name).await?.is_none() {
        let hold = hold_rules::Add {
            account: Some(name.clone()),
            ..hold_rules::Add::default()
        };
        hold.answer(context).await?;
    }
    Ok(Answer::of(one(context, id, name).await?))
}

/// Lets an account log in again, and releases what its suspension held.
pub(super) async fn unsuspend(asked: Asked) -> Result<Answer, Problem> {
    let (id, name) = asked.target.account()?;
    let context = &asked.context;
    Fields::read(&asked.body)?;
    if !may_log_in(context, &name)? {
        let account = name.clone();
        accounts::Unsuspend { account }.answer(context).await?;
        if let Some(rule) = rule_of(context, &name).await? {
            let remove = hold_rules::Remove {
                id: rule.id,
                release: true,
            };
            remove.answer(context).await?;
        }
    }
    Ok(Answer::of(one(context, id, name).await?))
}

/// Whether logins of an account are refused that may be taken again.
fn is_suspended(account: &Account) -> bool {
    !account.login_disabled.is_empty() && account.login_disabled != SHARED_MAILBOX
}

/// Whether an account takes logins.
///
/// # Errors
/// If it is a shared mailbox, which never takes any.
fn may_log_in(context: &Context, name: &str) -> Result<bool, Problem> {
    let config = context.config.load();
    let account = config.accounts.get(name);
    if account.is_some_and(|account| account.login_disabled == SHARED_MAILBOX) {
        return Err(Problem::conflict("nobody logs in to a shared mailbox"));
    }
    Ok(account.is_some_and(|account| !is_suspended(account)))
}
