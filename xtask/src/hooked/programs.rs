//! The programs that are asked, each with its lines of `postrider.conf`.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::{PYTHON, Peer};
use crate::ports::{free_port, wait_for_port};
use crate::programs::program;
use crate::workspace::{Kept, root};

/// How long a program has to open its socket.
const PATIENCE: Duration = Duration::from_secs(60);

/// The password of rspamd's controller.
pub(super) const RSPAMD_PASSWORD: &str = "lessons";

/// A program that runs until it is dropped.
pub(super) struct Programs {
    /// Its lines of `postrider.conf`.
    pub(super) conf: String,
    child: Kept,
}

impl Drop for Programs {
    /// The workers of rspamd end with it only if it has the time to end them.
    fn drop(&mut self) {
        let Kept(child) = &mut self.child;
        let _ = program("kill").arg(child.id().to_string()).status();
        let deadline = Instant::now() + Duration::from_secs(10);
        while matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The hook server of docs/hooks.md in this language.
fn example(language: &str) -> Result<String> {
    let text = fs::read_to_string(root().join("docs/hooks.md"))?;
    let begin = format!("```{language} hook\n");
    let code = text
        .split_once(&begin)
        .and_then(|(_, rest)| rest.split_once("```\n"));
    let (code, _) = code.with_context(|| format!("docs/hooks.md has no hook in {language}"))?;
    Ok(code.to_owned())
}

impl Programs {
    /// Starts the program, with its files in this folder.
    pub(super) fn start(peer: Peer, folder: &Path) -> Result<Self> {
        match peer {
            Peer::Python => documented(folder, "python", "python3"),
            Peer::Node => documented(folder, "js", "node"),
            Peer::Milter => milter(folder),
            Peer::OpenDkim => opendkim(folder),
            Peer::Rspamd => rspamd(folder),
        }
    }
}

fn documented(folder: &Path, language: &str, name: &str) -> Result<Programs> {
    let file = folder.join("hook").with_extension(language);
    fs::write(&file, example(language)?)?;
    let port = free_port()?;
    let child = program(name).arg(&file).arg(port.to_string()).spawn()?;
    let child = Kept(child);
    wait_for_port(port)?;
    Ok(Programs {
        conf: format!("[hooks.peer]\nurl = \"http://127.0.0.1:{port}/\"\n"),
        child,
    })
}

fn milter(folder: &Path) -> Result<Programs> {
    let socket = folder.join("milter.socket");
    let script = root().join("xtask/peers/decides.py");
    let child = program(PYTHON).arg(script).arg(&socket).spawn()?;
    of_socket(Kept(child), &socket)
}

fn opendkim(folder: &Path) -> Result<Programs> {
    let socket = folder.join("opendkim.socket");
    let key = folder.join("peer.private");
    crate::keys::create_dkim_key(&key, true)?;
    let conf = folder.join("opendkim.conf");
    fs::write(
        &conf,
        format!(
            "Mode s\nSocket local:{}\nDomain app.example\nSelector peer\nKeyFile {}\n\
             Syslog no\nUMask 0\nRequireSafeKeys no\nInternalHosts 127.0.0.1\n",
            socket.display(),
            key.display()
        ),
    )?;
    let child = program("opendkim")
        .args(["-f", "-x"])
        .arg(&conf)
        .stdin(Stdio::null())
        .spawn()?;
    of_socket(Kept(child), &socket)
}

/// The milter at a Unix socket, once it listens there.
fn of_socket(child: Kept, socket: &Path) -> Result<Programs> {
    let mut child = child;
    let begun = Instant::now();
    while UnixStream::connect(socket).is_err() {
        ensure_runs(&mut child.0)?;
        ensure!(
            begun.elapsed() < PATIENCE,
            "{} is not there",
            socket.display()
        );
        thread::sleep(Duration::from_millis(50));
    }
    Ok(Programs {
        conf: format!("[milters.peer]\nsocket = \"unix:{}\"\n", socket.display()),
        child,
    })
}

fn ensure_runs(child: &mut Child) -> Result<()> {
    if let Some(status) = child.try_wait()? {
        bail!("the program ended with {status}");
    }
    Ok(())
}

fn rspamd(folder: &Path) -> Result<Programs> {
    let (port, controller) = (free_port()?, free_port()?);
    let conf = folder.join("rspamd.conf");
    let data = folder.join("rspamd");
    fs::create_dir(&data)?;
    // The real list takes it half a minute.
    fs::write(data.join("tld"), "example\n")?;
    fs::write(data.join("secret"), RSPAMD_PASSWORD)?;
    fs::write(
        &conf,
        format!(
            "options {{ pidfile = \"{data}/pid\"; dns {{ nameserver = [\"127.0.0.1:9\"]; timeout = 0.1s; \
             retransmits = 1; }} cache_file = \"\"; url_tld = \"{data}/tld\"; }}\n\
             logging {{ type = \"console\"; level = \"error\"; }}\n\
             worker \"normal\" {{ bind_socket = \"127.0.0.1:{port}\"; count = 1; }}\n\
             worker \"controller\" {{ bind_socket = \"127.0.0.1:{controller}\"; count = 1; \
             password = \"{RSPAMD_PASSWORD}\"; secure_ip = []; }}\n\
             classifier \"bayes\" {{ tokenizer {{ name = \"osb\"; }} backend = \"sqlite3\"; \
             min_tokens = 1; cache {{ path = \"{data}/learned\"; }} \
             statfile {{ symbol = \"BAYES_HAM\"; path = \"{data}/ham\"; spam = false; }} \
             statfile {{ symbol = \"BAYES_SPAM\"; path = \"{data}/spam\"; spam = true; }} }}\n\
             actions {{ reject = 15; add_header = 6; greylist = 4; }}\n\
             gtube_patterns = \"reject\";\n",
            data = data.display()
        ),
    )?;
    let child = program("rspamd")
        .args(["-f", "-i", "-c"])
        .arg(&conf)
        .env("DBDIR", &data)
        .env("RUNDIR", &data)
        .stdin(Stdio::null())
        .spawn()?;
    let child = Kept(child);
    wait_for_port(port)?;
    wait_for_port(controller)?;
    Ok(Programs {
        conf: format!(
            "[hooks.peer]\nkind = \"rspamd\"\nurl = \"http://127.0.0.1:{port}\"\n\
             on_error = \"tempfail\"\nlearn = true\n\
             controller = {{ url = \"http://127.0.0.1:{controller}\", \
             password_file = \"{}\" }}\n",
            data.join("secret").display()
        ),
        child,
    })
}
