//! Aliases: addresses with members. Each member gets the mail.

use postrider_config::{
    Alias,
    toml_edit::{Array, InlineTable},
};
use postrider_smtp::{Address, Domain, LocalPart};
use serde::{Deserialize, Serialize};

use super::{Edit, address, document, parse, parse_addresses};
use crate::{
    AdminError, Context,
    op::{Listed as _, Operation, Single, Sink, principals::Kind},
};

/// An alias. Addresses are in their Unicode form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "the names are those of the configuration, and say it"
)]
pub struct AliasItem {
    pub alias: String,
    pub members: Vec<String>,
    pub post_public: bool,
    pub list_members: bool,
    pub allow_msg_from: bool,
}

/// Lists aliases.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// The domain; None: all domains.
    pub domain: Option<String>,
}

impl Operation for List {
    type Item = AliasItem;

    async fn run(
        self,
        context: &Context,
        items: &mut impl Sink<AliasItem>,
    ) -> Result<(), AdminError> {
        let config = context.config.load_full();
        let wanted = self
            .domain
            .as_deref()
            .map(super::parse_domain)
            .transpose()?;
        if let Some(domain) = &wanted
            && !config.domains.contains_key(domain)
        {
            return Err(super::missing_domain(&config, domain));
        }
        for (domain, settings) in &config.domains {
            if wanted.as_ref().is_some_and(|wanted| wanted != domain) {
                continue;
            }
            let listed = settings.aliases.iter();
            let listed = listed.map(|(local, alias)| AliasItem {
                alias: address(local, domain).unicode(),
                members: alias.addresses.iter().map(Address::unicode).collect(),
                post_public: alias.post_public,
                list_members: alias.list_members,
                allow_msg_from: alias.allow_msg_from,
            });
            items.send(listed.collect()).await?;
        }
        Ok(())
    }
}

/// Reads the address of an alias.
pub(super) fn parse_alias(text: &str) -> Result<(LocalPart, Domain), AdminError> {
    let address = parse(text, "alias", Address::parse)?;
    match address.host.domain() {
        Some(domain) => Ok((address.local, domain.clone())),
        None => {
            let text = format!("{text} is at an IP address; an alias must be at a domain");
            Err(AdminError::invalid(text).at("alias"))
        }
    }
}

/// Checks new members: each is an address of an account, and none is there twice.
pub(super) fn check_members(
    edit: &Edit<'_>,
    members: &[Address],
    present: &[Address],
) -> Result<(), AdminError> {
    for (index, member) in members.iter().enumerate() {
        let shown = member.unicode();
        let same = |other: &Address| edit.before.is_same(other, member);
        if members.iter().take(index).any(same) {
            let text = format!("{shown} is given twice");
            return Err(AdminError::invalid(text).at("members"));
        }
        if present.iter().any(same) {
            let text = format!("{shown} is a member already");
            return Err(AdminError::conflict(text).at("members"));
        }
        if edit.before.destination(member).is_none() {
            let why = match edit.before.taken(member) {
                Some(owner) => owner,
                None => "no account has it as a destination; a catch-all does not count".to_owned(),
            };
            let text = format!("{shown} can't be a member: {why}");
            return Err(AdminError::invalid(text).at("members"));
        }
    }
    Ok(())
}

/// Adds an alias.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Add {
    /// The address of the alias.
    pub alias: String,
    /// The members, at least one. Each is an address of an account.
    pub members: Vec<String>,
    /// Whether senders who are not members may write to the alias.
    #[serde(default)]
    pub post_public: bool,
    /// Whether members may see each other.
    #[serde(default)]
    pub list_members: bool,
    /// Whether members may send with the alias as From.
    #[serde(default)]
    pub allow_msg_from: bool,
}

impl Single for Add {
    type Output = ();

    async fn answer(self, context: &Context) -> Result<(), AdminError> {
        let target = self.alias.clone();
        let change = move |edit: &mut Edit<'_>| {
            let (local, domain) = parse_alias(&self.alias)?;
            let (_, spelled) = edit.domain(&domain).map_err(|error| error.at("alias"))?;
            edit.check_available(&address(&local, &domain), "alias")?;
            let members = parse_addresses(&self.members, "members")?;
            check_members(edit, &members, &[])?;
            let content = table(&Alias {
                addresses: members,
                post_public: self.post_public,
                list_members: self.list_members,
                allow_msg_from: self.allow_msg_from,
                ..Alias::default()
            });
            let path = ["domains", &spelled, "aliases", &local.to_string()];
            document::add_table(edit.document, &path, content)
        };
        context.edit(Self::NAME, &target, change).await?;
        Ok(())
    }
}

/// Changes an alias. None leaves a setting as it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Update {
    /// The address of the alias.
    pub alias: String,
    /// Whether senders who are not members may write to the alias.
    #[serde(default)]
    pub post_public: Option<bool>,
    /// Whether members may see each other.
    #[serde(default)]
    pub list_members: Option<bool>,
    /// Whether members may send with the alias as From.
    #[serde(default)]
    pub allow_msg_from: Option<bool>,
}

impl Single for Update {
    type Output = ();

    async fn answer(self, context: &Context) -> Result<(), AdminError> {
        let target = self.alias.clone();
        let change = move |edit: &mut Edit<'_>| {
            let path = existing(edit, &self.alias)?.1;
            for (key, on) in [
                ("post_public", self.post_public),
                ("list_members", self.list_members),
                ("allow_msg_from", self.allow_msg_from),
            ] {
                if let Some(on) = on {
                    let path = path.iter().map(String::as_str).chain([key]);
                    document::set(edit.document, &path.collect::<Vec<_>>(), on)?;
                }
            }
            Ok(())
        };
        context.edit(Self::NAME, &target, change).await?;
        Ok(())
    }
}

/// The settings of an alias as a table of the file.
pub(super) fn table(alias: &Alias) -> InlineTable {
    let mut table = InlineTable::new();
    let members: Array = alias.addresses.iter().map(Address::unicode).collect();
    table.insert("addresses", members.into());
    for (key, on) in [
        ("post_public", alias.post_public),
        ("list_members", alias.list_members),
        ("allow_msg_from", alias.allow_msg_from),
    ] {
        if on {
            table.insert(key, on.into());
        }
    }
    if let Some(name) = &alias.name {
        table.insert("name", name.as_str().into());
    }
    if !alias.description.is_empty() {
        table.insert("description", alias.description.as_str().into());
    }
    if !alias.urls.is_empty() {
        table.insert("urls", Array::from_iter(&alias.urls).into());
    }
    table
}

/// The members of an alias, and its path in the file.
pub(super) fn existing<'a>(
    edit: &Edit<'a>,
    alias: &str,
) -> Result<(&'a [Address], [String; 4]), AdminError> {
    let (local, domain) = parse_alias(alias)?;
    let found = settings(edit, &local, &domain)?;
    let path = edit.alias(&domain, &local)?;
    let members = found.map_or(&[][..], |alias| &alias.addresses);
    Ok((members, path))
}

/// The settings of an alias before the change. None: it is in the document only.
pub(super) fn settings<'a>(
    edit: &Edit<'a>,
    local: &LocalPart,
    domain: &Domain,
) -> Result<Option<&'a Alias>, AdminError> {
    let (config, _) = edit.domain(domain).map_err(|error| error.at("alias"))?;
    let wanted = address(local, domain);
    let mut aliases = config.aliases.iter();
    let found = aliases.find(|(local, _)| edit.before.is_same(&address(local, domain), &wanted));
    Ok(found.map(|(_, alias)| alias))
}

/// Changes the members of the alias at a path. New ones go to the end.
pub(super) fn change_members(
    edit: &mut Edit<'_>,
    path: &[String; 4],
    removed: &[Address],
    added: &[Address],
) -> Result<(), AdminError> {
    let before = edit.before;
    let path = path.iter().map(String::as_str).chain(["addresses"]);
    document::change_array(edit.document, &path.collect::<Vec<_>>(), |array| {
        for member in added {
            document::push(array, member.unicode());
        }
        document::remove_elements(array, |element| {
            let element = element.as_str().map(Address::parse);
            element.is_some_and(|element| {
                element.is_ok_and(|it| removed.iter().any(|one| before.is_same(&it, one)))
            })
        });
    })
}

/// Removes an alias.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remove {
    /// The address of the alias.
    pub alias: String,
}

impl Single for Remove {
    type Output = ();

    async fn answer(self, context: &Context) -> Result<(), AdminError> {
        let target = self.alias.clone();
        let change = move |edit: &mut Edit<'_>| {
            let (_, path) = existing(edit, &self.alias)?;
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            document::remove(edit.document, &path).map(drop)
        };
        context.edit(Self::NAME, &target, change).await?;
        let name = Kind::List.known_as(&target);
        context.store.forget_principal(name).await?;
        Ok(())
    }
}

/// Adds members to an alias.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddMembers {
    /// The address of the alias.
    pub alias: String,
    /// The new members, at least one.
    pub members: Vec<String>,
}

impl Single for AddMembers {
    type Output = ();

    async fn answer(self, context: &Context) -> Result<(), AdminError> {
        let target = self.alias.clone();
        let change = move |edit: &mut Edit<'_>| {
            let (present, path) = existing(edit, &self.alias)?;
            let members = parse_addresses(&self.members, "members")?;
            check_members(edit, &members, present)?;
            change_members(edit, &path, &[], &members)
        };
        context.edit(Self::NAME, &target, change).await?;
        Ok(())
    }
}

/// Removes members of an alias. All of them must be members, and one must stay.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoveMembers {
    /// The address of the alias.
    pub alias: String,
    /// The members, at least one.
    pub members: Vec<String>,
}

impl Single for RemoveMembers {
    type Output = ();

    async fn answer(self, context: &Context) -> Result<(), AdminError> {
        let target = self.alias.clone();
        let change = move |edit: &mut Edit<'_>| {
            let (present, path) = existing(edit, &self.alias)?;
            let members = parse_addresses(&self.members, "members")?;
            let before = edit.before;
            let mut left: Vec<&Address> = present.iter().collect();
            for member in &members {
                let at = left.iter().position(|it| before.is_same(it, member));
                let Some(at) = at else {
                    let given = members.iter().filter(|it| before.is_same(it, member));
                    let text = match given.count() {
                        1 => format!("{} is not a member", member.unicode()),
                        _ => format!("{} is given twice", member.unicode()),
                    };
                    return Err(AdminError::invalid(text).at("members"));
                };
                left.remove(at);
            }
            if left.is_empty() {
                let text = "an alias needs a member; remove the alias instead";
                return Err(AdminError::invalid(text).at("members"));
            }
            change_members(edit, &path, &members, &[])
        };
        context.edit(Self::NAME, &target, change).await?;
        Ok(())
    }
}
