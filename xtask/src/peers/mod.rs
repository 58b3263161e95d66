//! Checks with real mail programs. They submit messages to a `postrider localserve` of our own, as
//! its users do. Our webhook receiver must hear of the delivery of each message.
//!
//! As root on Debian the missing programs get installed. Elsewhere a missing program skips its
//! check, with a sentence that names the program.

mod checks;
mod install;
mod localserve;
mod logins;

use anyhow::{Result, ensure};

use checks::{
    contract, curl, exports, msmtp, queue_list, reports, smtp_source, smtplib_starttls,
    smtplib_tls, swaks_starttls, swaks_tls,
};
pub(crate) use install::install_packages;
use install::{install, perl_has_tls};
use localserve::Localserve;
use logins::{curl_oauth, gsasl_plus, msmtp_external, msmtp_oauth, msmtp_scram};

use crate::dovecot;
use crate::examples;
use crate::haproxy;
use crate::knot;
use crate::postfix;
use crate::programs::present;
use crate::returned;
use crate::test::{Done, Steps};

/// The login of localserve.
const LOGIN: &str = "postrider@localhost";
const PASSWORD: &str = "postrider";

/// Runs all checks. With `require` a missing program is a failure.
pub(crate) fn run(steps: &mut Steps, require: bool) {
    steps.step("install real mail programs", install);
    let mut server = None;
    let started = steps.step("start postrider localserve", || {
        server = Some(Localserve::start()?);
        Ok(Done::Passed)
    });
    let Some(mut server) = server.filter(|_| started) else {
        return;
    };
    let checks: &[(&str, &str, Check)] = &[
        (
            "python3",
            "Python's smtplib submits with STARTTLS",
            smtplib_starttls,
        ),
        ("python3", "Python's smtplib submits with TLS", smtplib_tls),
        ("swaks", "swaks submits with STARTTLS", swaks_starttls),
        ("swaks", "swaks submits with TLS", swaks_tls),
        ("msmtp", "msmtp submits", msmtp),
        ("msmtp", "msmtp logs in with SCRAM", msmtp_scram),
        ("msmtp", "msmtp logs in with a certificate", msmtp_external),
        ("msmtp", "msmtp logs in with a token", msmtp_oauth),
        ("curl", "curl logs in with a token", curl_oauth),
        (
            "gsasl",
            "gsasl logs in with SCRAM, bound to the channel",
            gsasl_plus,
        ),
        ("curl", "the printed curl line sends", curl),
        ("smtp-source", "Postfix's smtp-source delivers", smtp_source),
        ("curl", "queue list shows a message that waits", queue_list),
        (
            "python3",
            "reports composed by Python's email package give events",
            reports,
        ),
        ("python3", "Python reads exported mail", exports),
        ("go", "a client in Go calls every method of v0", contract),
    ];
    for (program, name, check) in checks {
        steps.step(name, || {
            let missing = if !present(program) {
                Some(*program)
            } else if *program == "swaks" && !perl_has_tls() {
                Some("Net::SSLeay")
            } else {
                None
            };
            if let Some(missing) = missing {
                ensure!(!require, "{missing} is not installed");
                return Ok(Done::Skipped(format!("{missing} is not installed")));
            }
            check(&mut server)?;
            Ok(Done::Passed)
        });
    }
    for (language, name) in examples::LANGUAGES {
        steps.step(
            &format!("the examples of docs/webapi.md in {language} run"),
            || {
                if !present(name) {
                    ensure!(!require, "{name} is not installed");
                    return Ok(Done::Skipped(format!("{name} is not installed")));
                }
                examples::run("docs/webapi.md", (language, name), server.port(1080))?;
                Ok(Done::Passed)
            },
        );
    }
    steps.step("localserve ends when told to", || {
        server.stop()?;
        Ok(Done::Passed)
    });
    steps.step("Postfix's DSNs give events", || {
        let usable = postfix::check().and_then(|()| {
            ensure!(present("python3"), "python3 is not installed");
            Ok(())
        });
        if let Err(error) = usable {
            ensure!(!require, "{error:#}");
            return Ok(Done::Skipped(format!("{error:#}")));
        }
        returned::check()?;
        Ok(Done::Passed)
    });
    steps.step("HAProxy and swaks tell the addresses of clients", || {
        for name in ["haproxy", "swaks"] {
            if !present(name) {
                ensure!(!require, "{name} is not installed");
                return Ok(Done::Skipped(format!("{name} is not installed")));
            }
        }
        haproxy::check()?;
        Ok(Done::Passed)
    });
    steps.step("Dovecot gets mail by LMTP", || {
        let root = nix::unistd::Uid::effective().is_root();
        let missing = match (present("dovecot"), root) {
            (true, true) => None,
            (false, _) => Some("dovecot is not installed"),
            (true, false) => Some("Dovecot can be started by root only"),
        };
        if let Some(missing) = missing {
            ensure!(!require, "{missing}");
            return Ok(Done::Skipped(missing.to_owned()));
        }
        dovecot::check()?;
        Ok(Done::Passed)
    });
    steps.step("dns publish writes to Knot DNS", || {
        for name in ["knotd", "kdig"] {
            if !present(name) {
                ensure!(!require, "{name} is not installed");
                return Ok(Done::Skipped(format!("{name} is not installed")));
            }
        }
        knot::check()?;
        Ok(Done::Passed)
    });
}

type Check = fn(&mut Localserve) -> Result<()>;
