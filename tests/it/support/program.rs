//! The real program in a process of its own.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use nix::{sys::signal::Signal, unistd::Pid};
use serde_json::Value;
use tokio::sync::watch;

use super::{PASSWORD, patience::patiently};

/// The server. It is killed when this value is dropped.
pub struct Program {
    child: Child,
    /// The log so far. The channel closes when the program ends.
    log: watch::Receiver<String>,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Program {
    /// Starts `postrider serve`.
    pub fn start(conf: &Path) -> Self {
        let mut command = postrider(conf);
        command.arg("serve");
        Self::spawn(command)
    }

    /// Starts `postrider serve` in a process that may open this many files.
    pub fn start_with_files(conf: &Path, files: u32) -> Self {
        Self::spawn(with_files(conf, files))
    }

    /// Starts a command that runs the server.
    pub fn spawn(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, log) = watch::channel(String::new());
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                sender.send_modify(|log| log.extend([&line, "\n"]));
            }
        });
        Self { child, log }
    }

    /// The address of a service (`LISTENER.SERVICE`). Waits until the service listens.
    pub async fn address(&self, service: &str) -> SocketAddr {
        let line = format!("listening service={service} address=");
        let mut log = self.log.clone();
        let listens = log.wait_for(|log| log.contains(&line));
        let Ok(log) = patiently(&line, listens).await else {
            panic!("the server ended: {}", *self.log.borrow());
        };
        let (_, address) = log.split_once(&line).unwrap();
        address.lines().next().unwrap().parse().unwrap()
    }

    /// Waits until the log has this text, so many times.
    pub async fn logs(&self, text: &str, times: usize) {
        let mut log = self.log.clone();
        let logged = log.wait_for(|log| log.matches(text).count() >= times);
        if patiently(text, logged).await.is_err() {
            panic!("the server ended: {}", *self.log.borrow());
        }
    }

    /// The log so far.
    pub fn log(&self) -> String {
        self.log.borrow().clone()
    }

    /// The number of the process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).unwrap();
        nix::sys::signal::kill(Pid::from_raw(pid), signal).unwrap();
    }

    /// Kills the program with SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// The program with a configuration. The caller adds a command.
pub fn postrider(conf: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postrider"));
    command.arg("--config").arg(conf);
    command
}

/// `postrider serve` in a process that may open this many files.
pub fn with_files(conf: &Path, files: u32) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -n $0; exec \"$@\""])
        .arg(files.to_string())
        .arg(env!("CARGO_BIN_EXE_postrider"))
        .arg("--config")
        .arg(conf)
        .arg("serve");
    command
}

/// Runs a command to its end, while the server under test continues.
pub async fn run(conf: &Path, arguments: &[&str]) -> Output {
    let mut command = postrider(conf);
    command.args(arguments).stdin(Stdio::null());
    tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap()
}

/// The refusals that the server has counted, by reason.
pub async fn refusals(conf: &Path) -> BTreeMap<String, u64> {
    let output = run(conf, &["refusals", "--all", "--json"]).await;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let list: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let counts = list.iter().map(|item| {
        let reason = item["reason"].as_str().unwrap();
        (reason.to_owned(), item["count"].as_u64().unwrap())
    });
    let counts: BTreeMap<_, _> = counts.collect();
    assert!(
        counts.contains_key("greylisted"),
        "zeros are told: {counts:?}"
    );
    counts.into_iter().filter(|(_, count)| *count > 0).collect()
}

/// Sets the password of the account `app`.
pub fn set_password(conf: &Path) {
    feed(conf, &["setpassword", "app"], PASSWORD);
}

/// Runs a command that reads one line from standard input. It must succeed.
pub fn feed(conf: &Path, arguments: &[&str], line: &str) {
    let mut child = postrider(conf)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(format!("{line}\n").as_bytes()).unwrap();
    drop(stdin);
    assert!(child.wait().unwrap().success());
}
