//! `delivery ...`

use std::io::{self, Write};

use anyhow::bail;
use postrider_admin::op::delivery::{
    Check, PlanItem, ResultItem, SessionItem, StageItem,
    words::{
        certificate_text, details, plan_reason, plan_text, result_text, session_text, step_of,
    },
};

use super::{
    output::{List, until_closed},
    running::Running,
};
use crate::cli::{Delivery, DeliveryCheck};

pub(super) fn run(server: &Running, command: Delivery) -> anyhow::Result<()> {
    let Delivery::Check(DeliveryCheck {
        address,
        from,
        source,
        timeout,
        json,
    }) = command;
    let check = Check {
        to: address.clone(),
        from,
        source,
        timeout,
    };
    let mut result: Option<ResultItem> = None;
    let mut list = List::new(io::stdout().lock(), json, row);
    let written = server.call(&check, |stage| {
        result = stage.result.clone().or(result.take());
        list.add(&stage)
    })?;
    until_closed(written.and_then(|()| list.end("nothing was checked")))?;
    match result {
        Some(result) if result.ok => Ok(()),
        Some(result) => bail!("mail for {address} is not taken: {}", result.text),
        None => bail!("the check did not come to its end"),
    }
}

/// A stage for people. The beginning of a step is not shown, unless it names a host or an address.
fn row(out: &mut dyn Write, _: u64, stage: &StageItem) -> io::Result<()> {
    if let Some(host) = &stage.hostname {
        return writeln!(out, "host {host}");
    }
    if let Some(ip) = &stage.remote_ip {
        return writeln!(out, "  address {ip}");
    }
    if let Some(plan) = &stage.plan {
        return plan_row(out, plan);
    }
    if let Some(session) = &stage.session {
        return session_row(out, session);
    }
    if let Some(result) = &stage.result {
        return writeln!(out, "{}", result_text(result));
    }
    let Some((step, word)) = step_of(&stage.kind) else {
        return Ok(());
    };
    let took = stage.elapsed.map(|elapsed| format!("{elapsed} ms"));
    writeln!(
        out,
        "    {step:<18} {word:<9} {:>9}  {}",
        took.unwrap_or_default(),
        details(stage)
    )
}

fn plan_row(out: &mut dyn Write, plan: &PlanItem) -> io::Result<()> {
    writeln!(out, "{}", plan_text(plan))?;
    match plan_reason(plan) {
        Some(reason) => writeln!(out, "    reason: {reason}"),
        None => Ok(()),
    }
}

fn session_row(out: &mut dyn Write, session: &SessionItem) -> io::Result<()> {
    writeln!(out, "    {}", session_text(session))?;
    match &session.certificate {
        Some(certificate) => writeln!(out, "    certificate: {}", certificate_text(certificate)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn stages_are_lines_for_people() {
        for (stage, expected) in [
            (json!({"type": "mxLookupStart", "domain": "a.test"}), ""),
            (
                json!({"type": "mxLookupSuccess", "elapsed": 3, "secure": true, "implicit": false,
                    "mxs": [{"exchanges": ["a.test", "b.test"], "preference": 10}]}),
                "    MX                 ok             3 ms  10 a.test, 10 b.test (proven by DNSSEC)\n",
            ),
            (
                json!({"type": "mtaStsNotFound", "elapsed": 0}),
                "    MTA-STS            none           0 ms  \n",
            ),
            (
                json!({"type": "deliveryAttemptStart", "hostname": "a.test"}),
                "host a.test\n",
            ),
            (
                json!({"type": "mtaStsVerifyError", "reason": "not there"}),
                "    in MTA-STS policy  error                not there\n",
            ),
            (
                json!({"type": "tlsaLookupSuccess", "elapsed": 1, "record": {"entries": [
                    {"is_end_entity": true, "is_sha256": true, "is_spki": true, "data": [1, 255]}],
                    "has_end_entities": true, "has_intermediates": false}}),
                "    TLSA               ok             1 ms  3 1 01ff\n",
            ),
            (
                json!({"type": "rcptToError", "elapsed": 8, "reason": "550 no"}),
                "    RCPT               error          8 ms  550 no\n",
            ),
            (
                json!({"type": "quitCompleted", "elapsed": 1}),
                "    QUIT               ok             1 ms  \n",
            ),
            (
                json!({"type": "completed", "result": {"ok": false, "permanent": true,
                    "class": "unknown_mailbox", "code": 550, "text": "RCPT: 550 no"}}),
                "refused for good (unknown_mailbox): RCPT: 550 no\n",
            ),
        ] {
            let stage: StageItem = serde_json::from_value(stage).unwrap();
            let mut out = Vec::new();
            row(&mut out, 0, &stage).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{}", stage.kind);
        }
    }
}
