//! Checks with real mail programs. They submit messages to a `postrider localserve` of our own, as
//! its users do. Our webhook receiver must hear of the delivery of each message.
//!
//! As root on Debian the missing programs get installed. Elsewhere a missing program skips its
//! check, with a sentence that names the program.

mod checks;
mod install;
mod localserve;
mod logins;
mod nodemailer;

use anyhow::{Result, ensure};

use checks::{
    contract, curl, exports, msmtp, queue_list, reports, smtp_source, smtplib_starttls,
    smtplib_tls, swaks_starttls, swaks_tls,
};
pub(crate) use install::install_packages;
use install::{has_imap, install, perl_has_tls};
use localserve::Localserve;
use logins::{
    curl_external, curl_oauth, curl_passwords, gsasl, msmtp_external, msmtp_oauth, msmtp_passwords,
    mutt,
};

use crate::dovecot;
use crate::examples;
use crate::haproxy;
use crate::hooked;
use crate::knot;
use crate::mail_tokens;
use crate::postfix;
use crate::programs::present;
use crate::returned;
use crate::smarthost;
use crate::test::{Done, Steps};

/// The login of localserve.
const LOGIN: &str = "postrider@localhost";
const PASSWORD: &str = "postrider";

/// The checks of localserve: the program that each needs, its name, and what it does.
const CHECKS: &[(&str, &str, Check)] = &[
    (
        "python3",
        "Python's smtplib submits with STARTTLS",
        smtplib_starttls,
    ),
    ("python3", "Python's smtplib submits with TLS", smtplib_tls),
    ("swaks", "swaks submits with STARTTLS", swaks_starttls),
    ("swaks", "swaks submits with TLS", swaks_tls),
    ("msmtp", "msmtp submits", msmtp),
    (
        "msmtp",
        "msmtp logs in with LOGIN and SCRAM",
        msmtp_passwords,
    ),
    ("msmtp", "msmtp logs in with a certificate", msmtp_external),
    ("msmtp", "msmtp logs in with a token", msmtp_oauth),
    ("mutt", "mutt submits with each of its logins", mutt),
    ("curl", "curl logs in with a password", curl_passwords),
    ("curl", "curl logs in with a certificate", curl_external),
    ("curl", "curl logs in with a token", curl_oauth),
    (
        "gsasl",
        "gsasl logs in with SCRAM, bound to the channel and not",
        gsasl,
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
    for (program, name, check) in CHECKS {
        steps.step(name, || {
            let lacks_tls = *program == "swaks" && !perl_has_tls();
            let tls = lacks_tls.then(|| "Net::SSLeay is not installed".to_owned());
            with(missing(&[program]).or(tls), require, || check(&mut server))
        });
    }
    steps.step("nodemailer logs in and submits", || {
        let folder = tempfile::tempdir()?;
        let absent = missing(&["node", "npm"]).or_else(|| nodemailer::install(folder.path()));
        with(absent, require, || {
            nodemailer::check(&mut server, folder.path())
        })
    });
    for (language, name) in examples::LANGUAGES {
        steps.step(
            &format!("the examples of docs/webapi.md in {language} run"),
            || {
                with(missing(&[name]), require, || {
                    examples::run("docs/webapi.md", (language, name), server.port(1080))
                })
            },
        );
    }
    steps.step("localserve ends when told to", || {
        server.stop()?;
        Ok(Done::Passed)
    });
    steps.step("Postfix's DSNs give events", || {
        let unusable = postfix::check().err().map(|error| format!("{error:#}"));
        let unusable = unusable.or_else(|| missing(&["python3"]));
        with(unusable, require, returned::check)
    });
    steps.step("HAProxy and swaks tell the addresses of clients", || {
        with(missing(&["haproxy", "swaks"]), require, haproxy::check)
    });
    for (name, peer) in [
        ("python3", hooked::Peer::Python),
        ("node", hooked::Peer::Node),
    ] {
        let what = format!("the hook server of docs/hooks.md in {name} has its say");
        steps.step(&what, || {
            with(missing(&["swaks", name]), require, || {
                hooked::documented(peer)
            })
        });
    }
    steps.step("a milter in Python has its say", || {
        let library =
            (!hooked::has_python_milter()).then(|| "python3-milter is missing".to_owned());
        with(missing(&["swaks"]).or(library), require, hooked::milter)
    });
    steps.step("OpenDKIM signs as a milter", || {
        with(missing(&["swaks", "opendkim"]), require, hooked::opendkim)
    });
    steps.step("Dovecot gets mail by LMTP", || {
        let is_root = nix::unistd::Uid::effective().is_root();
        let rights = (!is_root).then(|| "Dovecot can be started by root only".to_owned());
        with(missing(&["dovecot"]).or(rights), require, dovecot::check)
    });
    steps.step("Dovecot takes mail tokens, which it asks about", || {
        let is_root = nix::unistd::Uid::effective().is_root();
        let rights = (!is_root).then(|| "Dovecot can be started by root only".to_owned());
        let imap = (!has_imap()).then(|| "dovecot-imapd is not installed".to_owned());
        let absent = missing(&["dovecot", "python3"]).or(imap);
        with(absent.or(rights), require, mail_tokens::check)
    });
    steps.step("Postfix and Dovecot take logins by each mechanism", || {
        let unusable = postfix::check().err().map(|error| format!("{error:#}"));
        let unusable = unusable.or_else(|| missing(&["dovecot", "python3"]));
        with(unusable, require, smarthost::check)
    });
    steps.step("dns publish writes to Knot DNS", || {
        with(missing(&["knotd", "kdig"]), require, knot::check)
    });
}

/// The first of these programs that is not installed, in a sentence.
pub(crate) fn missing(programs: &[&str]) -> Option<String> {
    let absent = programs.iter().find(|name| !present(name))?;
    Some(format!("{absent} is not installed"))
}

/// Runs a check, unless something for it is missing. With `require` that is a failure.
pub(crate) fn with(
    missing: Option<String>,
    require: bool,
    check: impl FnOnce() -> Result<()>,
) -> Result<Done> {
    if let Some(missing) = missing {
        ensure!(!require, "{missing}");
        return Ok(Done::Skipped(missing));
    }
    check()?;
    Ok(Done::Passed)
}

type Check = fn(&mut Localserve) -> Result<()>;
