//! The real program, as a process of its own.

use std::{
    io::Write,
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use tokio::net::TcpStream;

use super::PASSWORD;

/// The server; killed when dropped.
pub struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Program {
    /// Starts `postrider serve` and waits until it listens at these.
    pub async fn start(conf: &Path, addresses: &[SocketAddr]) -> Self {
        let child = postrider(conf)
            .arg("serve")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let program = Self(child);
        for address in addresses {
            while TcpStream::connect(address).await.is_err() {
                tokio::task::yield_now().await;
            }
        }
        program
    }

    /// SIGKILL, at once.
    pub fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// The program with a configuration, to which a command is to be added.
pub fn postrider(conf: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postrider"));
    command.arg("--config").arg(conf);
    command
}

/// Runs a command to its end, while the server under test goes on.
pub async fn run(conf: &Path, arguments: &[&str]) -> Output {
    let mut command = postrider(conf);
    command.args(arguments).stdin(Stdio::null());
    tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap()
}

/// Sets the password of the account `app`.
pub fn set_password(conf: &Path) {
    let mut child = postrider(conf)
        .args(["setpassword", "app"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(format!("{PASSWORD}\n").as_bytes())
        .unwrap();
    assert!(child.wait().unwrap().success());
}

/// A port that is free now.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}
