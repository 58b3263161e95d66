//! Real programs that have a say: the hook servers of docs/hooks.md in Python and Node, a milter in
//! Python, OpenDKIM, and rspamd. Each is asked at a listener of its own. swaks is the client.

mod programs;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;

use self::programs::{Programs, RSPAMD_PASSWORD};
use crate::peers::{install_packages, missing, with};
use crate::ports::{free_port, wait_for_port};
use crate::programs::{finish, program};
use crate::test::Steps;
use crate::workspace::{Kept, Profile, build_postrider, serve, set_password};

/// The account, which is a login and a recipient.
const APP: &str = "app@app.example";
const PASSWORD: &str = "a password among hooks";

/// Debian's Python, which has Debian's library for milters. Another one may come before it.
pub(crate) const PYTHON: &str = "/usr/bin/python3";

/// A program at the door of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// The hook server of the documentation in Python.
    Python,
    /// The same in Node.
    Node,
    /// The milter in Python.
    Milter,
    /// OpenDKIM, which signs submissions.
    OpenDkim,
    /// rspamd over HTTP.
    Rspamd,
}

/// A postrider with one program.
struct Place {
    port: u16,
    binary: PathBuf,
    conf: PathBuf,
    dir: TempDir,
    _postrider: Kept,
    _programs: Programs,
}

impl Place {
    fn start(peer: Peer) -> Result<Self> {
        let binary = build_postrider(Profile::Dev)?;
        let dir = tempfile::Builder::new().prefix("hooked-").tempdir()?;
        let programs = Programs::start(peer, dir.path())?;
        let port = free_port()?;
        let conf = dir.path().join("postrider.conf");
        let service = match peer {
            Peer::OpenDkim => "submission = { require_tls = false, port = PORT }",
            _ => "smtp = { port = PORT }",
        };
        let service = service.replace("PORT", &port.to_string());
        fs::write(
            &conf,
            format!(
                "hostname = \"mail.app.example\"\nuser = \"\"\ndata_dir = \"data\"\nlog.level = \"warn\"\n\
                 postmaster.account = \"app\"\n\
                 policy = {{ greylist = false, first_time_sender_delay = \"0s\" }}\n\
                 resolver = {{ servers = [\"127.0.0.1:9\"], timeout = \"100ms\" }}\n\
                 [listeners.peer]\nips = [\"127.0.0.1\"]\n{service}\n{}\n",
                programs.conf
            ),
        )?;
        fs::write(
            dir.path().join("domains.conf"),
            format!(
                "[domains.\"app.example\"]\n[accounts.app]\ndomain = \"app.example\"\n\
                 destinations.\"{APP}\" = {{}}\n"
            ),
        )?;
        set_password(&binary, &conf, "app", PASSWORD)?;
        let child = serve(&binary, &conf).spawn();
        let postrider = Kept(child.with_context(|| format!("failed to run {binary:?}"))?);
        wait_for_port(port)?;
        Ok(Self {
            port,
            binary,
            conf,
            dir,
            _postrider: postrider,
            _programs: programs,
        })
    }

    /// Sends a message. Gives what swaks says.
    fn send(&self, subject: &str, more: &[&str]) -> Result<String> {
        let mut swaks = program("swaks");
        swaks.args(["--server", "127.0.0.1", "--port", &self.port.to_string()]);
        swaks.args(["--from", "joe@elsewhere.example", "--to", APP]);
        swaks
            .args(["--h-Subject", subject, "--body", "hello"])
            .args(more);
        let said = swaks.output().context("failed to run swaks")?;
        Ok(String::from_utf8_lossy(&said.stdout).into_owned())
    }

    /// The message must be answered so.
    fn expect(&self, subject: &str, more: &[&str], reply: &str) -> Result<()> {
        let said = self.send(subject, more)?;
        ensure!(said.contains(reply), "{subject}: no {reply:?} in {said}");
        Ok(())
    }

    fn postrider(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg("--config").arg(&self.conf).args(arguments);
        command
    }

    /// All mail of a mailbox. Each call needs another name.
    fn mails(&self, name: &str, mailbox: &str) -> Result<Vec<String>> {
        let folder = self.dir.path().join(name);
        let mut export = self.postrider(&["export", "mbox"]);
        finish(export.arg(&folder).arg("app"))?;
        let file = folder.join(format!("{mailbox}.mbox"));
        if !file.exists() {
            return Ok(Vec::new());
        }
        let text = fs::read_to_string(&file)?;
        let mails = text.split("\nFrom ").map(str::to_owned);
        Ok(mails.collect())
    }

    /// rspamd must come to have learned from so many messages.
    fn rspamd_has_learned(&self, expected: u32) -> Result<()> {
        let host = fs::read_to_string(&self.conf)?;
        let host = host.split_once("controller = { url = \"http://");
        let host = host.and_then(|(_, rest)| rest.split('"').next());
        let host = host.context("the configuration has no controller")?;
        let expected = format!("Messages learned: {expected}\n");
        let mut said = String::new();
        for _ in 0..100 {
            let mut rspamc = program("rspamc");
            let stat = rspamc.args(["-h", host, "-P", RSPAMD_PASSWORD, "stat"]);
            said = String::from_utf8_lossy(&stat.output()?.stdout).into_owned();
            if said.contains(&expected) {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(100));
        }
        bail!("no {expected:?} in {said}")
    }

    /// A mail of the mailbox must have this text.
    fn has(&self, name: &str, mailbox: &str, text: &str) -> Result<()> {
        let mails = self.mails(name, mailbox)?;
        let found = mails
            .iter()
            .any(|mail| mail.replace('\r', "").contains(text));
        ensure!(found, "no {text:?} in {mails:#?}");
        Ok(())
    }
}

/// A hook server of the documentation refuses one message and marks another.
pub(crate) fn documented(peer: Peer) -> Result<()> {
    let place = Place::start(peer)?;
    place.expect("the Lottery", &[], "550 5.7.1 No lotteries.")?;
    place.expect("a letter", &[], "250 2.0.0 delivered as")?;
    place.has("mail", "Inbox", "X-Seen-By: hook\n")?;
    let tested = place.postrider(&["hooks", "test", "peer"]).output()?;
    let said = String::from_utf8_lossy(&tested.stdout);
    ensure!(
        tested.status.success() && said.contains("change: on top: X-Seen-By: hook"),
        "hooks test: {said}{}",
        String::from_utf8_lossy(&tested.stderr)
    );
    finish(&mut place.postrider(&["config", "test", "--hooks"]))?;
    Ok(())
}

/// The milter in Python does all that a milter can do.
pub(crate) fn milter() -> Result<()> {
    let place = Place::start(Peer::Milter)?;
    place.expect("plain", &[], "250 2.0.0 delivered as")?;
    place.expect("refuse it", &[], "554 5.7.1 the milter refuses")?;
    place.expect("drop it", &[], "250 2.0.0 Message queued for delivery.")?;
    place.expect("hold it", &[], "250 2.0.0 queued as")?;
    place.expect("change it", &[], "250 2.0.0 delivered as")?;
    for text in [
        "X-Milter: seen as True\n",
        "Subject: changed by the milter\n",
        "\n\nAnother body.\n",
        "Return-Path: <other@elsewhere.example>\n",
    ] {
        place.has(&format!("mail-{}", text.len()), "Inbox", text)?;
    }
    let all = place.mails("all", "Inbox")?;
    let dropped = all.iter().any(|mail| mail.contains("Subject: drop it"));
    ensure!(!dropped, "a message that was dropped is there");
    let held = place
        .postrider(&["queue", "list", "--hold", "true"])
        .output()?;
    let held = String::from_utf8_lossy(&held.stdout);
    ensure!(held.contains(APP), "nothing is held: {held}");
    finish(&mut place.postrider(&["config", "test", "--hooks"]))?;
    Ok(())
}

/// OpenDKIM signs what a login submits.
pub(crate) fn opendkim() -> Result<()> {
    let place = Place::start(Peer::OpenDkim)?;
    let login = [
        "--from",
        APP,
        "--auth",
        "PLAIN",
        "--auth-user",
        APP,
        "--auth-password",
        PASSWORD,
    ];
    place.expect("signed", &login, "250 2.0.0 queued as")?;
    for attempt in 0..100 {
        if !place.mails(&format!("mail-{attempt}"), "Inbox")?.is_empty() {
            break;
        }
        thread::sleep(Duration::from_millis(100));
    }
    place.has("signed", "Inbox", "d=app.example; s=peer;")
}

/// Installs rspamd, and lets it decide.
pub(crate) fn with_rspamd(steps: &mut Steps, require: bool) {
    steps.step("install rspamd", || {
        install_packages(&["rspamd", "swaks"], &["rspamd", "swaks"])
    });
    steps.step("rspamd decides about incoming mail", || {
        with(missing(&["rspamd", "swaks"]), require, rspamd)
    });
}

/// rspamd refuses its test message, takes another one, and learns from it.
fn rspamd() -> Result<()> {
    let place = Place::start(Peer::Rspamd)?;
    let gtube = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X";
    place.expect("spam", &["--body", gtube], "554 5.7.1 Gtube pattern")?;
    place.expect("a letter", &[], "250 2.0.0 delivered as")?;
    let tested = place.postrider(&["hooks", "test", "peer"]).output()?;
    let said = String::from_utf8_lossy(&tested.stdout);
    ensure!(said.contains("\"required_score\""), "hooks test: {said}");
    // It learns what is called junk, once, and what is called good after that.
    for (kind, learned) in [("--spam", 1), ("--spam", 1), ("--ham", 2)] {
        let train = [
            "junk",
            "train",
            kind,
            "--account",
            "app",
            "--mailbox",
            "Inbox",
        ];
        finish(&mut place.postrider(&train))?;
        place.rspamd_has_learned(learned)?;
    }
    Ok(())
}

/// Whether Python has the library for milters.
pub(crate) fn has_python_milter() -> bool {
    let imported = program(PYTHON).args(["-c", "import Milter"]).output();
    imported.is_ok_and(|imported| imported.status.success())
}
