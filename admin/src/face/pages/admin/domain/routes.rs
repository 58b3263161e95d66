//! The routes for mail from a domain: its transports.

use std::sync::Arc;

use askama::Template;

use super::Head;
use crate::{
    Code,
    face::pages::{
        answer::{Answer, Trouble},
        asked::Asked,
        command::AsCommand,
        confirm::Confirm,
        form::Faults,
        frame::Frame,
    },
    op::config::routes::{Add, List, Remove, RouteItem, Scope},
};

#[derive(Template)]
#[template(path = "admin/domain_routes.html")]
struct Routes {
    frame: Frame,
    domain: Head,
    routes: Vec<RouteItem>,
    transport: String,
    to_domain: String,
    minimum_attempts: String,
    number: String,
    faults: Faults,
}

fn scope(domain: &Head) -> Scope {
    Scope {
        account: None,
        domain: Some(domain.name().to_owned()),
    }
}

async fn items(asked: &Asked, domain: &Head) -> Result<Vec<RouteItem>, Trouble> {
    let mut routes = asked.list(List {}).await?;
    routes.retain(|route| route.domain == domain.name());
    Ok(routes)
}

async fn page(asked: &Asked, domain: Head, faults: Faults) -> Result<Routes, Trouble> {
    let routes = items(asked, &domain).await?;
    let typed = |name| asked.form.shown(name).to_owned();
    let command = AsCommand::cli(["config", "route", "list"]);
    Ok(Routes {
        frame: domain.frame(asked, "Routes").with(command),
        domain,
        routes,
        transport: typed("transport"),
        to_domain: typed("to_domain"),
        minimum_attempts: typed("minimum_attempts"),
        number: typed("number"),
        faults,
    })
}

/// The routes, and the form for a new one.
pub(in crate::face::pages) async fn list(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let domain = Head::of(&asked).await?;
    Answer::page(&page(&asked, domain, Faults::default()).await?)
}

/// Adds a route.
pub(in crate::face::pages) async fn add(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let domain = Head::of(&asked).await?;
    let form = &asked.form;
    let to = form.shown("to_domain").split([',', ' ', '\n', '\r']);
    let numbers = form
        .parsed("minimum_attempts", "a number")
        .and_then(|attempts| {
            let number: Option<usize> = form.parsed("number", "a number")?;
            Ok((attempts.unwrap_or(0), number))
        });
    let added = match numbers {
        Ok((minimum_attempts, number)) => {
            let add = Add {
                scope: scope(&domain),
                from_domain: Vec::new(),
                to_domain: to.filter(|it| !it.is_empty()).map(str::to_owned).collect(),
                minimum_attempts,
                transport: form.text("transport").unwrap_or_default().to_owned(),
                number,
            };
            asked.run(add).await
        }
        Err(error) => Err(error),
    };
    match added {
        Ok(()) => Ok(asked.done("The route is added.", &domain.path("routes"))),
        Err(error) if matches!(error.code, Code::Invalid | Code::NotFound) => {
            Answer::again(&page(&asked, domain, Faults::of(&error)).await?)
        }
        Err(error) => Err(error.into()),
    }
}

/// The route of the path.
async fn found(asked: &Asked, domain: &Head) -> Result<RouteItem, Trouble> {
    let number: u64 = asked.element(1).parse().map_err(|_| Trouble::NoPage)?;
    let mut routes = items(asked, domain).await?.into_iter();
    let found = routes.find(|route: &RouteItem| route.number == number);
    found.ok_or(Trouble::NoPage)
}

/// Asks before a route is removed.
pub(in crate::face::pages) async fn ask_remove(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let domain = Head::of(&asked).await?;
    let route = found(&asked, &domain).await?;
    let number = route.number.to_string();
    let action = asked.url(&domain.path(&format!("routes/{number}/remove")));
    let question = format!("Remove route {number} of {}?", domain.name());
    let words = ["config", "route", "rm", &number, "--domain", domain.name()];
    let mut confirm = Confirm::new(&asked, &question, "Remove the route", &action)
        .effect(format!(
            "Mail does not go by the transport {} for it any more. The next route that matches \
             takes its place.",
            route.transport
        ))
        .effect("The routes behind it move up by one.")
        .back(asked.url(&domain.path("routes")))
        .command(AsCommand::cli(words));
    // Somebody may change the routes while this question is open.
    let fields = [("transport", &route.transport)];
    let fields = fields.map(|(name, value)| (name.to_owned(), value.clone()));
    confirm.fields.extend(fields);
    Answer::page(&confirm)
}

/// Removes a route.
pub(in crate::face::pages) async fn remove(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let domain = Head::of(&asked).await?;
    let route = found(&asked, &domain).await?;
    if asked.form.shown("transport") != route.transport {
        let text = "the routes have changed meanwhile; look again";
        return Err(crate::AdminError::conflict(text).into());
    }
    let remove = Remove {
        scope: scope(&domain),
        number: usize::try_from(route.number).map_err(|_| Trouble::NoPage)?,
    };
    asked.run(remove).await?;
    Ok(asked.done("The route is removed.", &domain.path("routes")))
}
