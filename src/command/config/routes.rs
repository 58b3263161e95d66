//! `config route ...`

use std::io::{self, Write};

use postrider_admin::op::config::routes::{self, Add, List, Remove, RouteItem};

use crate::{
    cli::{Route, Scope},
    command::{desk::Desk, output::print},
};

pub(super) fn run(desk: &Desk, command: Route) -> anyhow::Result<()> {
    match command {
        Route::Add {
            transport,
            scope,
            from,
            to,
            minimum_attempts,
            number,
        } => {
            desk.ask(&Add {
                scope: scope.into(),
                from_domain: from,
                to_domain: to,
                minimum_attempts,
                transport,
                number,
            })?;
            print("route added\n")
        }
        Route::Rm { number, scope } => {
            let scope = scope.into();
            desk.ask(&Remove { scope, number })?;
            print("route removed\n")
        }
        Route::List { json } => desk.print_list(&List {}, json, "there are no routes", row),
    }
}

impl From<Scope> for routes::Scope {
    fn from(scope: Scope) -> Self {
        let Scope { account, domain } = scope;
        Self { account, domain }
    }
}

fn row(out: &mut dyn Write, _: u64, item: &RouteItem) -> io::Result<()> {
    let scope = match (item.account.as_str(), item.domain.as_str()) {
        ("", "") => "all mail".to_owned(),
        ("", domain) => format!("domain {domain}"),
        (account, _) => format!("account {account}"),
    };
    let any = |domains: &[String]| match domains {
        [] => "any".to_owned(),
        domains => domains.join(","),
    };
    let attempts = match item.minimum_attempts {
        0 => String::new(),
        attempts => format!(", from attempt {} on", u64::from(attempts) + 1),
    };
    writeln!(
        out,
        "{scope}  {}: from {} to {}{attempts}: {}",
        item.number,
        any(&item.from_domain),
        any(&item.to_domain),
        item.transport,
    )
}
