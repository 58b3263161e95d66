//! The outside programs that have a say in what is accepted.

use super::super::{
    Answer, Asked,
    paging::{NAMES_MAX, OBJECTS_MAX, Paging, collect},
    parameters::body,
    problem::Problem,
    value,
};
use crate::op::{
    Single,
    hooks::{List, ProgramItem, Test},
};

pub(in super::super) async fn list(asked: Asked) -> Result<Answer, Problem> {
    let paging = Paging::new(&asked.query, OBJECTS_MAX)?;
    let all = |_: &ProgramItem| true;
    let programs = collect(&asked.context, List {}, NAMES_MAX, &all).await?;
    let list = (1..).zip(&programs.items);
    let list = list.map(|(at, program)| Ok((at, value(program)?)));
    let list = list.collect::<Result<_, Problem>>()?;
    Ok(paging.answer_with(list, programs.more))
}

pub(in super::super) async fn test(asked: Asked) -> Result<Answer, Problem> {
    let test: Test = match asked.body.is_empty() {
        true => Test::default(),
        false => body(&asked.body)?,
    };
    let name = asked.element(0).to_owned();
    let tested = Test { name, ..test }.answer(&asked.context).await?;
    Ok(Answer::Data(value(&tested)?))
}
