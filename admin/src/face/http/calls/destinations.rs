//! Sites that the queue delivers to, and what administrators want for them.

use super::super::{
    Answer, Asked,
    paging::{NAMES_MAX, OBJECTS_MAX, Paging, collect},
    parameters::body_or_default,
    problem::Problem,
    value,
};
use crate::op::{
    Single,
    destinations::{
        DestinationItem, DestinationOrder, Forget, Limit, List, ListOrders, Pause, Resume,
    },
};

pub(in super::super) async fn list(asked: Asked) -> Result<Answer, Problem> {
    let paging = Paging::new(&asked.query, OBJECTS_MAX)?;
    let target = asked.query.text("target").map(str::to_owned);
    let all = |_: &DestinationItem| true;
    let sites = collect(&asked.context, List { target }, NAMES_MAX, &all).await?;
    let list = (1..)
        .zip(&sites.items)
        .map(|(at, site)| Ok((at, value(site)?)));
    let list = list.collect::<Result<_, Problem>>()?;
    Ok(paging.answer_with(list, sites.more))
}

pub(in super::super) async fn orders(asked: Asked) -> Result<Answer, Problem> {
    let paging = Paging::new(&asked.query, OBJECTS_MAX)?;
    let all = |_: &DestinationOrder| true;
    let orders = collect(&asked.context, ListOrders {}, NAMES_MAX, &all).await?;
    let list = (1..).zip(&orders.items);
    let list = list.map(|(at, order)| Ok((at, value(order)?)));
    let list = list.collect::<Result<_, Problem>>()?;
    Ok(paging.answer_with(list, orders.more))
}

pub(in super::super) async fn get(asked: Asked) -> Result<Answer, Problem> {
    let name = asked.element(0).to_owned();
    let target = Some(name.clone());
    let all = |_: &DestinationItem| true;
    let sites = collect(&asked.context, List { target }, 1, &all).await?;
    match sites.items.first() {
        Some(site) => Ok(Answer::Data(value(site)?)),
        None => {
            let text = format!("no site is known by the name or the domain {name}");
            Err(Problem::not_found(name, text))
        }
    }
}

pub(in super::super) async fn pause(asked: Asked) -> Result<Answer, Problem> {
    let pause = Pause {
        target: asked.element(0).to_owned(),
        ..body_or_default(&asked.body)?
    };
    pause.answer(&asked.context).await?;
    Ok(Answer::null())
}

pub(in super::super) async fn resume(asked: Asked) -> Result<Answer, Problem> {
    let target = asked.element(0).to_owned();
    Resume { target }.answer(&asked.context).await?;
    Ok(Answer::null())
}

pub(in super::super) async fn limit(asked: Asked) -> Result<Answer, Problem> {
    let limit = Limit {
        target: asked.element(0).to_owned(),
        ..body_or_default(&asked.body)?
    };
    limit.answer(&asked.context).await?;
    Ok(Answer::null())
}

pub(in super::super) async fn forget(asked: Asked) -> Result<Answer, Problem> {
    let target = asked.element(0).to_owned();
    let forgotten = Forget { target }.answer(&asked.context).await?;
    Ok(Answer::Data(value(&forgotten)?))
}
