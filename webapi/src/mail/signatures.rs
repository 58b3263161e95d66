//! Signatures: kept for an account, a domain or all, chosen by the recipient, and added to messages
//! that this API sends.

use axum::{http::StatusCode, response::Response};
use postrider_config::Dynamic;
use postrider_smtp::{Address, Domain};
use postrider_store::{StationeryChange, StationeryKind, StationeryOwner, StationeryShelf};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    asked::Asked,
    problem::Problem,
    stationery::{self, Kept, Paper},
};
use crate::{
    http::answer::{json as answer, ok},
    send::Draft,
};

/// The most rules of a signature.
const RULES_MAX: usize = 100;

/// A signature.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Signature {
    pub(super) name: String,
    pub(super) html: String,
    /// Empty: made of the HTML.
    pub(super) plain: String,
    pub(super) position: Position,
    pub(super) is_default: bool,
    pub(super) rules: Vec<Rule>,
}

impl Paper for Signature {
    const KIND: StationeryKind = StationeryKind::Signature;
    const MOST: u64 = 50;
    const NAME: &'static str = "signature";
}

/// Where a signature stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Position {
    /// At the end of the text.
    #[default]
    End,
    /// Before the text that a reply quotes, or at the end if there is none.
    BeforeQuote,
}

/// A rule: which recipients a signature is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rule {
    match_type: MatchType,
    #[serde(default)]
    match_value: String,
}

/// What a rule compares, the closest match first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum MatchType {
    /// The address of the recipient.
    Address,
    /// The domain of the recipient, exactly.
    Domain,
    /// The domain of the recipient is one of the same customer at this server.
    Internal,
    /// Nothing: any recipient matches.
    Any,
}

impl Rule {
    /// Checks the rule, and brings its value into its one form.
    fn check(&mut self, at: usize) -> Result<(), Problem> {
        let field = format!("rules[{at}].match_value");
        let value = self.match_value.trim();
        self.match_value = match self.match_type {
            MatchType::Address => Address::parse(value)
                .map_err(|error| Problem::field(&field, error))?
                .to_string(),
            MatchType::Domain => Domain::parse(value)
                .map_err(|error| Problem::field(&field, error))?
                .ascii()
                .to_owned(),
            MatchType::Internal | MatchType::Any => String::new(),
        };
        Ok(())
    }

    fn matches(&self, to: &Recipient) -> bool {
        match self.match_type {
            MatchType::Address => {
                let own = Address::parse(&self.match_value);
                own.is_ok_and(|own| {
                    own.to_string()
                        .eq_ignore_ascii_case(&to.address.to_string())
                })
            }
            MatchType::Domain => {
                let domain = to.address.host.domain();
                domain.is_some_and(|domain| domain.ascii() == self.match_value)
            }
            MatchType::Internal => to.is_internal,
            MatchType::Any => true,
        }
    }
}

/// The recipient that decides which signature a message gets.
pub(super) struct Recipient {
    address: Address,
    is_internal: bool,
}

impl Recipient {
    /// Reads the first recipient of a message. None if there is none, or it is no address.
    fn of(asked: &Asked, first: &str) -> Option<Self> {
        let read = postrider_smtp::field::mailboxes(first.as_bytes());
        let address = read.first().map_or(first.trim(), |it| it.address.as_str());
        let address = Address::parse(address).ok()?;
        let config = asked.context.config.load();
        Some(Self {
            is_internal: is_internal(&config, &asked.user.login, &address),
            address,
        })
    }
}

/// Whether two addresses are at domains of this server with the same tenant.
fn is_internal(config: &Dynamic, own: &Address, other: &Address) -> bool {
    let settings = |address: &Address| config.domains.get(address.host.domain()?);
    match (settings(own), settings(other)) {
        (Some(own), Some(other)) => own.tenant == other.tenant,
        _ => false,
    }
}

/// The signature for a recipient: that of the closest rule, else the default.
fn chosen<'a>(
    signatures: impl Iterator<Item = &'a Signature> + Clone,
    to: Option<&Recipient>,
) -> Option<&'a Signature> {
    let closeness = |signature: &Signature| {
        let rules = signature.rules.iter();
        let matching = rules.filter(|rule| to.is_some_and(|to| rule.matches(to)));
        matching.map(|rule| rule.match_type).min()
    };
    let by_rule = signatures
        .clone()
        .filter_map(|it| Some((closeness(it)?, it)))
        .min_by_key(|(closeness, _)| *closeness);
    let by_rule = by_rule.map(|(_, signature)| signature);
    by_rule.or_else(|| signatures.clone().find(|it| it.is_default))
}

/// Whether a signature of a domain or of all goes to a recipient.
fn goes_to(signature: &Signature, to: Option<&Recipient>) -> bool {
    let mut rules = signature.rules.iter();
    signature.rules.is_empty() || to.is_some_and(|to| rules.any(|rule| rule.matches(to)))
}

/// The signature that a caller of Send wants.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(super) enum Wanted {
    #[default]
    None,
    Number(u64),
    /// A number, or `auto` for the one that matches.
    Text(String),
}

/// Adds signatures to a message: the wanted one, then those of the domain and of all.
pub(super) async fn add_to(
    asked: &Asked,
    wanted: &Wanted,
    draft: &mut Draft,
) -> Result<(), Problem> {
    let first = [&draft.to, &draft.cc, &draft.bcc]
        .into_iter()
        .flatten()
        .next();
    let to = first.and_then(|it| Recipient::of(asked, &it.address));
    let number = match wanted {
        Wanted::None => None,
        Wanted::Text(text) if text.is_empty() => None,
        Wanted::Number(number) => Some(number.to_string()),
        Wanted::Text(text) => Some(text.clone()),
    };
    match number.as_deref() {
        None => {}
        Some("auto") => {
            if let Some(signature) = matching(asked, to.as_ref()).await? {
                sign(draft, &signature.paper);
            }
        }
        Some(number) => {
            let found = stationery::find::<Signature>(asked, number, None).await;
            let found = found.map_err(|_| {
                Problem::field("signature", format!("there is no signature {number:?}"))
            })?;
            sign(draft, &found.paper);
        }
    }
    for owner in stationery::owners(asked).into_iter().skip(1) {
        let shelf = stationery::shelf_of::<Signature>(owner);
        for kept in stationery::on_shelf::<Signature>(asked, &shelf).await? {
            if goes_to(&kept.paper, to.as_ref()) {
                sign(draft, &kept.paper);
            }
        }
    }
    Ok(())
}

/// The account's own signature for a recipient.
async fn matching(
    asked: &Asked,
    to: Option<&Recipient>,
) -> Result<Option<Kept<Signature>>, Problem> {
    let shelf = own_shelf(asked);
    let mut all = stationery::on_shelf::<Signature>(asked, &shelf).await?;
    let chosen = chosen(all.iter().map(|it| &it.paper), to).cloned();
    let at = all.iter().position(|it| Some(&it.paper) == chosen.as_ref());
    Ok(at.map(|at| all.swap_remove(at)))
}

fn own_shelf(asked: &Asked) -> StationeryShelf {
    let owner = StationeryOwner::Account(asked.account().to_owned());
    stationery::shelf_of::<Signature>(owner)
}

/// Puts a signature under a message. A message without HTML gets none.
fn sign(draft: &mut Draft, signature: &Signature) {
    let plain = match signature.plain.is_empty() {
        true => mail_parser::decoders::html::html_to_text(&signature.html),
        false => signature.plain.clone(),
    };
    if !draft.text.is_empty() {
        // The line before a signature (RFC 3676 §4.3).
        let block = format!("-- \n{}\n", plain.trim_end());
        let at = match signature.position {
            Position::End => draft.text.len(),
            Position::BeforeQuote => quote_in_text(&draft.text),
        };
        insert(&mut draft.text, at, &block, "\n");
    }
    if !draft.html.is_empty() {
        let html = match signature.html.is_empty() {
            true => html_of(&signature.plain),
            false => signature.html.clone(),
        };
        let block = format!("<div class=\"signature\">{html}</div>\n");
        let at = match signature.position {
            Position::End => end_of_body(&draft.html),
            Position::BeforeQuote => quote_in_html(&draft.html),
        };
        insert(&mut draft.html, at, &block, "\n");
    }
}

/// Puts a block into a text at a place that is one. What stands before ends with `end`.
fn insert(text: &mut String, at: usize, block: &str, end: &str) {
    let (before, after) = text.split_at_checked(at).unwrap_or((text, ""));
    let end = match before.is_empty() || before.ends_with(end) {
        true => "",
        false => end,
    };
    *text = format!("{before}{end}{block}{after}");
}

/// The beginning of the quoted part of a text: the first line with `>`, and the line before it if
/// that ends with a colon, as in "Ann wrote:".
fn quote_in_text(text: &str) -> usize {
    let mut at = 0;
    let mut before = None;
    for line in text.split_inclusive('\n') {
        if line.starts_with('>') {
            return before.unwrap_or(at);
        }
        let trimmed = line.trim_end();
        before = match trimmed.is_empty() {
            // An empty line may stand between.
            true => before,
            false => trimmed.ends_with(':').then_some(at),
        };
        at += line.len();
    }
    text.len()
}

/// The place of the first `<blockquote` in HTML, else of its end.
fn quote_in_html(html: &str) -> usize {
    let lower = html.to_ascii_lowercase();
    lower
        .find("<blockquote")
        .unwrap_or_else(|| end_of_body(html))
}

/// The place of the last `</body` in HTML, else of the last `</html`, else of its end.
fn end_of_body(html: &str) -> usize {
    let lower = html.to_ascii_lowercase();
    let tag = lower.rfind("</body").or_else(|| lower.rfind("</html"));
    tag.unwrap_or(html.len())
}

/// Plain text as HTML.
fn html_of(text: &str) -> String {
    let mut html = String::with_capacity(text.len() + text.len() / 8);
    for letter in text.trim_end().chars() {
        match letter {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '\n' => html.push_str("<br>\n"),
            '\r' => {}
            letter => html.push(letter),
        }
    }
    html
}

/// A signature, as callers get it.
fn shown(kept: &Kept<Signature>) -> Value {
    let Signature {
        name,
        html,
        plain,
        position,
        is_default,
        rules,
    } = &kept.paper;
    json!({
        "id": kept.item.id.0,
        "name": name,
        "html": html,
        "plain": plain,
        "position": position,
        "is_default": is_default,
        "rules": rules,
        "scope": stationery::scope(&kept.shelf.owner),
        "version": kept.item.version,
        "created": kept.item.created.to_string(),
        "changed": kept.item.changed.to_string(),
    })
}

/// What a caller wants to be so. An absent field stays as it is.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Change {
    name: Option<String>,
    html: Option<String>,
    plain: Option<String>,
    position: Option<Position>,
    is_default: Option<bool>,
    rules: Option<Vec<Rule>>,
    /// Only for a new signature.
    scope: Option<Scope>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Scope {
    Account,
    Domain,
    All,
}

impl Change {
    fn apply(self, to: Signature) -> Result<Signature, Problem> {
        let mut signature = Signature {
            name: self.name.unwrap_or(to.name),
            html: self.html.unwrap_or(to.html),
            plain: self.plain.unwrap_or(to.plain),
            position: self.position.unwrap_or(to.position),
            is_default: self.is_default.unwrap_or(to.is_default),
            rules: self.rules.unwrap_or(to.rules),
        };
        stationery::check_name(&signature.name)?;
        let texts = [
            ("html", signature.html.as_str()),
            ("plain", signature.plain.as_str()),
        ];
        stationery::check_texts(&texts)?;
        if signature.rules.len() > RULES_MAX {
            let text = format!("a signature has {RULES_MAX} rules at most");
            return Err(Problem::field("rules", text));
        }
        for (at, rule) in signature.rules.iter_mut().enumerate() {
            rule.check(at)?;
        }
        Ok(signature)
    }
}

/// The owner for a scope. Only managers write what is not for one account.
fn owner(asked: &Asked, scope: Scope) -> Result<StationeryOwner, Problem> {
    let forbidden = |text| Err(Problem::forbidden(text));
    let is_manager = asked.manager.is_some();
    match scope {
        Scope::Account => Ok(StationeryOwner::Account(asked.account().to_owned())),
        Scope::Domain if !is_manager => {
            forbidden("only a management key writes signatures of a domain")
        }
        Scope::Domain => match asked.user.login.host.domain() {
            Some(domain) => Ok(StationeryOwner::Domain(domain.ascii().to_owned())),
            None => Err(Problem::field("scope", "the address has no domain")),
        },
        Scope::All if !asked.sees_all() => {
            forbidden("only a management key that sees everything writes signatures of all")
        }
        Scope::All => Ok(StationeryOwner::Server),
    }
}

/// Checks that the caller may change an item of this owner.
fn check_owner(asked: &Asked, of: &StationeryOwner) -> Result<(), Problem> {
    let scope = match of {
        StationeryOwner::Account(_) => Scope::Account,
        StationeryOwner::Domain(_) => Scope::Domain,
        StationeryOwner::Server => Scope::All,
    };
    owner(asked, scope).map(drop)
}

/// The changes by which no other signature of the shelf is the default.
async fn others_no_default(
    asked: &Asked,
    shelf: &StationeryShelf,
    except: u64,
) -> Result<Vec<StationeryChange>, Problem> {
    let all = stationery::on_shelf::<Signature>(asked, shelf).await?;
    let others = all.into_iter();
    let others = others.filter(|it| it.paper.is_default && it.item.id.0 != except);
    let changes = others.map(|it| {
        let paper = Signature {
            is_default: false,
            ..it.paper
        };
        stationery::change(it.item.id, &paper)
    });
    changes.collect()
}

/// Lists the signatures that the account has or gets.
pub(super) async fn list(asked: Asked) -> Result<Response, Problem> {
    let mut items = Vec::new();
    for owner in stationery::owners(&asked) {
        let shelf = stationery::shelf_of::<Signature>(owner);
        let kept = stationery::on_shelf::<Signature>(&asked, &shelf).await?;
        items.extend(kept.iter().map(shown));
    }
    Ok(ok(&super::whole_list(items)))
}

/// Adds a signature.
pub(super) async fn add(asked: Asked) -> Result<Response, Problem> {
    let change: Change = asked.json().await?;
    let owner = owner(&asked, change.scope.unwrap_or(Scope::Account))?;
    let signature = change.apply(Signature::default())?;
    let shelf = stationery::shelf_of::<Signature>(owner);
    let others = match signature.is_default {
        true => others_no_default(&asked, &shelf, 0).await?,
        false => Vec::new(),
    };
    let id = stationery::add(&asked, &shelf, &signature, others).await?;
    one(&asked, id.0, StatusCode::CREATED).await
}

async fn one(asked: &Asked, id: u64, status: StatusCode) -> Result<Response, Problem> {
    let kept = stationery::find::<Signature>(asked, &id.to_string(), None).await?;
    Ok(answer(status, &shown(&kept)))
}

/// Gets a signature.
pub(super) async fn get(asked: Asked) -> Result<Response, Problem> {
    let kept = stationery::find::<Signature>(&asked, asked.element(0), None).await?;
    Ok(ok(&shown(&kept)))
}

/// Changes a signature.
pub(super) async fn change(asked: Asked) -> Result<Response, Problem> {
    let kept = stationery::find::<Signature>(&asked, asked.element(0), None).await?;
    check_owner(&asked, &kept.shelf.owner)?;
    let change: Change = asked.json().await?;
    let wanted = change.scope.map(|scope| owner(&asked, scope)).transpose()?;
    if wanted.is_some_and(|wanted| wanted != kept.shelf.owner) {
        let text = "a signature keeps its scope; add another signature";
        return Err(Problem::field("scope", text));
    }
    let id = kept.item.id;
    let signature = change.apply(kept.paper)?;
    let mut changes = match signature.is_default {
        true => others_no_default(&asked, &kept.shelf, id.0).await?,
        false => Vec::new(),
    };
    changes.push(stationery::change(id, &signature)?);
    let store = &asked.context.store;
    store
        .change_stationery(&kept.shelf, changes, asked.now())
        .await?;
    one(&asked, id.0, StatusCode::OK).await
}

/// Removes a signature.
pub(super) async fn remove(asked: Asked) -> Result<Response, Problem> {
    let kept = stationery::find::<Signature>(&asked, asked.element(0), None).await?;
    check_owner(&asked, &kept.shelf.owner)?;
    let store = &asked.context.store;
    store.remove_stationery(&kept.shelf, kept.item.id).await?;
    Ok(ok(&json!({"removed": kept.item.id.0})))
}

/// The signature that a message to some recipients would get, or `null`.
pub(super) async fn match_to(asked: Asked) -> Result<Response, Problem> {
    let to = asked.query.text("to").unwrap_or_default();
    let first = to.split(',').next().unwrap_or_default();
    let to = Recipient::of(&asked, first)
        .ok_or_else(|| Problem::field("to", "give the address of a recipient"))?;
    let found = matching(&asked, Some(&to)).await?;
    Ok(ok(&found.as_ref().map(shown)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(match_type: MatchType, match_value: &str) -> Rule {
        Rule {
            match_type,
            match_value: match_value.to_owned(),
        }
    }

    fn signature(name: &str, rules: Vec<Rule>) -> Signature {
        Signature {
            name: name.into(),
            plain: name.into(),
            rules,
            ..Signature::default()
        }
    }

    #[test]
    fn the_closest_rule_chooses() {
        let all = [
            signature("any", vec![rule(MatchType::Any, "")]),
            signature("internal", vec![rule(MatchType::Internal, "")]),
            signature("domain", vec![rule(MatchType::Domain, "x.example")]),
            signature("second", vec![rule(MatchType::Domain, "x.example")]),
            signature(
                "address",
                vec![
                    rule(MatchType::Domain, "z.example"),
                    rule(MatchType::Address, "ann@x.example"),
                ],
            ),
            Signature {
                is_default: true,
                ..signature("default", Vec::new())
            },
        ];
        let name = |from: usize, address: &str, is_internal| {
            let to = Recipient {
                address: address.parse().unwrap(),
                is_internal,
            };
            chosen(all[from..].iter(), Some(&to)).map(|it| it.name.as_str())
        };
        assert_eq!(name(0, "Ann@X.example", true), Some("address"));
        assert_eq!(name(0, "bob@x.example", true), Some("domain"));
        assert_eq!(name(0, "bob@sub.x.example", true), Some("internal"));
        assert_eq!(name(0, "bob@y.example", false), Some("any"));
        assert_eq!(name(1, "bob@y.example", false), Some("default"));
        assert_eq!(chosen(all.iter(), None).unwrap().name, "default");
        assert_eq!(chosen(all[..5].iter(), None), None);
        assert!(goes_to(&all[5], None) && !goes_to(&all[0], None));
    }

    #[test]
    fn values_of_rules_are_checked_and_get_one_form() {
        let mut fine = rule(MatchType::Domain, " B\u{fc}cher.Example ");
        fine.check(0).unwrap();
        assert_eq!(fine.match_value, "xn--bcher-kva.example");
        for (kind, value) in [
            (MatchType::Address, "nobody"),
            (MatchType::Address, ""),
            (MatchType::Domain, "a b"),
            (MatchType::Domain, "*.example"),
        ] {
            assert!(rule(kind, value).check(0).is_err(), "{value}");
        }
        let mut any = rule(MatchType::Any, "what ever");
        any.check(0).unwrap();
        assert_eq!(any.match_value, "");
    }

    #[test]
    fn a_signature_stands_at_its_place() {
        let sign_text = |text: &str, position| {
            let mut draft = Draft {
                text: text.into(),
                ..Draft::default()
            };
            let signature = Signature {
                position,
                ..signature("Ann", Vec::new())
            };
            sign(&mut draft, &signature);
            (draft.text, draft.html)
        };
        for (text, position, expected) in [
            ("Hi", Position::End, "Hi\n-- \nAnn\n"),
            ("Hi\n", Position::BeforeQuote, "Hi\n-- \nAnn\n"),
            (
                "Hi\n\nBob wrote:\n> x\n",
                Position::BeforeQuote,
                "Hi\n\n-- \nAnn\nBob wrote:\n> x\n",
            ),
            ("Hi\n> x\n", Position::BeforeQuote, "Hi\n-- \nAnn\n> x\n"),
            ("> x\n", Position::BeforeQuote, "-- \nAnn\n> x\n"),
            ("> x\n", Position::End, "> x\n-- \nAnn\n"),
            ("", Position::End, ""),
        ] {
            let signed = sign_text(text, position);
            assert_eq!(signed, (expected.to_owned(), String::new()), "{text:?}");
        }
    }

    #[test]
    fn html_is_signed_within_its_body() {
        let sign_html = |html: &str, position| {
            let mut draft = Draft {
                html: html.into(),
                ..Draft::default()
            };
            let signature = Signature {
                position,
                plain: "A & <B>\nC".into(),
                ..Signature::default()
            };
            sign(&mut draft, &signature);
            draft.html
        };
        let block = "<div class=\"signature\">A &amp; &lt;B&gt;<br>\nC</div>\n";
        for (html, position, expected) in [
            ("<p>Hi", Position::End, format!("<p>Hi\n{block}")),
            (
                "<BODY>Hi</BODY></html>",
                Position::End,
                format!("<BODY>Hi\n{block}</BODY></html>"),
            ),
            (
                "Hi\n<Blockquote>x</Blockquote>",
                Position::BeforeQuote,
                format!("Hi\n{block}<Blockquote>x</Blockquote>"),
            ),
            // Letters that have another length in lower case.
            (
                "\u{130}</html>",
                Position::End,
                format!("\u{130}\n{block}</html>"),
            ),
        ] {
            assert_eq!(sign_html(html, position), expected);
        }
    }

    #[test]
    fn the_html_of_a_signature_makes_its_text() {
        let mut draft = Draft {
            text: "Hi".into(),
            html: "<p>Hi</p>".into(),
            ..Draft::default()
        };
        let signature = Signature {
            html: "<b>Ann</b>".into(),
            ..Signature::default()
        };
        sign(&mut draft, &signature);
        assert_eq!(draft.text, "Hi\n-- \nAnn\n");
        assert!(draft.html.contains("<b>Ann</b></div>"));
    }

    #[test]
    fn a_wanted_signature_is_a_number_or_auto() {
        let read = |text: &str| serde_json::from_str::<Wanted>(text).unwrap();
        assert_eq!(read("null"), Wanted::None);
        assert_eq!(read("7"), Wanted::Number(7));
        assert_eq!(read("\"auto\""), Wanted::Text("auto".into()));
    }
}
