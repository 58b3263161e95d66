//! Aliases: addresses that pass mail on to addresses of accounts.

use postrider_config::Dynamic;
use postrider_receive::login::Reach;
use postrider_smtp::{Address, Domain, LocalPart};
use serde_json::{Value, json};

use super::{
    Answer, Asked,
    fields::{Fields, problem},
    list::List,
    target::numbered,
};
use crate::{
    face::http::problem::Problem,
    op::{Single, config::aliases, principals::Kind},
};

/// The fields of the call for those of the operation.
const NAMES: [(&str, &str); 2] = [("alias", "source"), ("members", "destination")];

/// An alias as JSON. None: it is not there any more.
fn shape(config: &Dynamic, id: u64, alias: &Address) -> Option<Value> {
    let settings = config.domains.get(alias.host.domain()?)?;
    let members = settings.aliases.get(&alias.local)?.addresses.iter();
    Some(json!({
        "id": id,
        "source": alias.unicode(),
        "destination": members.map(Address::unicode).collect::<Vec<_>>(),
    }))
}

/// Lists the aliases of a domain.
pub(super) async fn list(asked: Asked) -> Result<Answer, Problem> {
    let list = List::new(&asked.query)?;
    let (_, domain) = asked.target.domain()?;
    let context = &asked.context;
    let config = context.config.load_full();
    let locals = config.domains.get(&domain).map(|it| it.aliases.keys());
    let all = locals.into_iter().flatten().map(|local| at(local, &domain));
    let all = numbered(context, Kind::List, all.collect(), ToString::to_string).await?;
    let part = list.part(all);
    let rows = part.rows.iter();
    let items = rows.filter_map(|(id, alias)| shape(&config, *id, alias));
    Ok(Answer::of(part.answer(items.collect())))
}

fn at(local: &LocalPart, domain: &Domain) -> Address {
    Address {
        local: local.clone(),
        host: domain.clone().into(),
    }
}

/// The address of a new alias: a local-part, or an address at the domain.
fn source(fields: &mut Fields, config: &Dynamic, domain: &Domain) -> Option<Address> {
    let text = fields.needed("source");
    if text.is_empty() {
        if fields.value("source").is_some() {
            fields.wrong("source", "must not be empty");
        }
        return None;
    }
    let read = match text.contains('@') {
        true => Address::parse(&text).map_err(|error| error.to_string()),
        false => LocalPart::parse(&text)
            .map(|local| at(&local, domain))
            .map_err(|error| error.to_string()),
    };
    let address = match read {
        Ok(address) => address,
        Err(error) => {
            fields.wrong(
                "source",
                format!("{text:?} is no local-part or address: {error}"),
            );
            return None;
        }
    };
    if address.host.domain() != Some(domain) {
        fields.wrong("source", format!("{text} is not at {}", domain.unicode()));
        return None;
    }
    let separators = config
        .domains
        .get(domain)?
        .localpart_catchall_separators
        .iter();
    let mut separators = separators.filter(|it| address.local.as_str().contains(it.as_str()));
    if let Some(separator) = separators.next() {
        fields.wrong(
            "source",
            format!("has the separator {separator:?} of the domain"),
        );
        return None;
    }
    Some(address)
}

/// An address that is not at a domain of the caller, among these.
fn external<'a>(config: &Dynamic, reach: &Reach, texts: &'a [String]) -> Option<&'a String> {
    texts.iter().find(|text| {
        let address = Address::parse(text).ok();
        let domain = address.as_ref().and_then(|it| it.host.domain());
        domain.is_some_and(|it| !config.domains.contains_key(it) || !reach.sees_domain(it))
    })
}

/// Adds an alias.
pub(super) async fn add(asked: Asked) -> Result<Answer, Problem> {
    let reach = asked.manager()?.reach.clone();
    let (_, domain) = asked.target.domain()?;
    let context = &asked.context;
    let config = context.config.load_full();
    let mut fields = Fields::read(&asked.body)?;
    let source = source(&mut fields, &config, &domain);
    let members = fields.texts("destination");
    for member in &members {
        if let Err(error) = Address::parse(member) {
            fields.wrong(
                "destination",
                format!("{member:?} is not a mail address: {error}"),
            );
        }
    }
    fields.check()?;
    if let Some(external) = external(&config, &reach, &members) {
        let text = format!(
            "{external} is not at a domain here; mail goes on to it by the forward of a destination"
        );
        let errors = vec![("destination".to_owned(), text)];
        return Err(Problem::invalid(errors).coded("externalDestination"));
    }
    let source = source.ok_or_else(|| Problem::internal("no address"))?;
    let shown = source.unicode();
    if let Some(owner) = config.taken(&source) {
        let text = format!("{shown} is taken: {owner}");
        return Err(Problem::exists("source", shown, text));
    }
    let add = aliases::Add {
        alias: shown,
        members,
        // The default refuses strangers.
        post_public: true,
        list_members: false,
        allow_msg_from: true,
    };
    let added = add.answer(context).await;
    added.map_err(|error| problem(error, &NAMES))?;
    let mut made = numbered(context, Kind::List, vec![source], ToString::to_string).await?;
    let (id, source) = made.pop().ok_or_else(|| Problem::internal("no number"))?;
    let config = context.config.load_full();
    let made = shape(&config, id, &source);
    made.map(Answer::made)
        .ok_or_else(|| Problem::conflict("the alias was removed again already"))
}

/// Removes an alias.
pub(super) async fn remove(asked: Asked) -> Result<Answer, Problem> {
    let (id, alias) = asked.target.alias()?;
    let shown = alias.unicode();
    let remove = aliases::Remove {
        alias: shown.clone(),
    };
    remove.answer(&asked.context).await?;
    Ok(Answer::of(
        json!({"id": id, "source": shown, "deleted": true}),
    ))
}
