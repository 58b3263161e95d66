//! The metrics and what is built on them, read by the tools of Prometheus.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use super::steps::{Done, Steps, run_command};
use crate::peers::install_packages;
use crate::ports::{free_port, wait_for_port};
use crate::programs::program;
use crate::workspace::{Profile, build_postrider, root, serve};

/// The alerts, and the tests of each, below the root of the workspace.
const ALERTS: &str = "docs/alerts.yml";
const ALERT_TESTS: &str = "testdata/prometheus/alerts.yml";
/// The time limit for the page.
const LIMIT: Duration = Duration::from_secs(30);

const DOMAINS: &str = "[domains.\"example.org\"]\n[accounts.app]\ndomain = \"example.org\"\n\
    destinations.\"app@example.org\" = {}\n";

/// Checks the page of a running server, the rules, and when they fire.
pub(super) fn run(steps: &mut Steps) {
    let installed = steps.step("promtool", || {
        install_packages(&["promtool"], &["prometheus"])
    });
    if !installed {
        return;
    }
    steps.step("alerts are rules of Prometheus", || {
        promtool(&["check", "rules", ALERTS])
    });
    steps.step("each alert fires, and stays quiet", || {
        promtool(&["test", "rules", ALERT_TESTS])
    });
    steps.step("promtool has nothing to say of the page of metrics", page);
}

fn promtool(arguments: &[&str]) -> Result<Done> {
    run_command(program("promtool").args(arguments).current_dir(root()))
}

fn page() -> Result<Done> {
    let binary = build_postrider(Profile::Dev)?;
    let folder = TempDir::new().context("failed to make a temporary folder")?;
    let config = folder.path().join("config");
    fs::create_dir(&config)?;
    let port = free_port()?;
    let conf = config.join("postrider.conf");
    fs::write(
        &conf,
        format!(
            "hostname = \"mail.example.org\"\nuser = \"\"\npostmaster.account = \"app\"\n\
             [hooks.scan]\nurl = \"http://127.0.0.1:9/\"\n\
             [listeners.l]\nips = [\"127.0.0.1\"]\nmetrics_http = {{ port = {port} }}\n"
        ),
    )?;
    fs::write(config.join("domains.conf"), DOMAINS)?;
    let mut server = serve(&binary, &conf).stdout(Stdio::null()).spawn()?;
    let page = wait_for_port(port).and_then(|()| read(port));
    server.kill()?;
    server.wait()?;
    let page = page?;
    let mut check = program("promtool");
    check.args(["check", "metrics"]).stdin(Stdio::piped());
    let mut check = check.spawn().context("failed to run promtool")?;
    let mut input = check.stdin.take().context("promtool has no input")?;
    input.write_all(page.as_bytes())?;
    drop(input);
    let status = check.wait()?;
    ensure!(status.success(), "promtool ended with {status}");
    Ok(Done::Passed)
}

/// The page of metrics at this port.
fn read(port: u16) -> Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, page) = answer.split_once("\r\n\r\n").context("no answer")?;
    ensure!(head.starts_with("HTTP/1.0 200"), "the answer is {head:?}");
    ensure!(
        page.contains("postrider_build_info"),
        "the page has no metrics"
    );
    Ok(page.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_are_there() {
        for file in [ALERTS, ALERT_TESTS] {
            assert!(root().join(file).is_file(), "{file}");
        }
    }
}
