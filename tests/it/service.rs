//! The real program as a service: what it tells systemd, and its sandbox.

use nix::sys::signal::Signal;
use tokio::net::UnixDatagram;

use crate::support::{Setup, patience::patiently, program};

#[tokio::test]
async fn systemd_is_told_and_the_server_confines_itself() {
    let dir = tempfile::tempdir().unwrap();
    let conf = Setup::default().write(dir.path());
    let socket = dir.path().join("notify");
    let told = UnixDatagram::bind(&socket).unwrap();
    let mut command = program::postrider(&conf);
    command
        .arg("serve")
        .env("NOTIFY_SOCKET", &socket)
        .env("WATCHDOG_USEC", "100000");
    let server = program::Program::spawn(command);
    server.address("test.smtp").await;
    let next = async || {
        let mut buffer = [0; 100];
        let length = patiently("a message", told.recv(&mut buffer))
            .await
            .unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    let mut seen = Vec::new();
    while !(seen.contains(&"READY=1\n".to_owned()) && seen.contains(&"WATCHDOG=1\n".to_owned())) {
        seen.push(next().await);
    }
    // Huge pages would take a fifth more memory.
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    assert!(!status.contains("THP_enabled:\t1"), "{status}");
    let log = server.log();
    assert!(log.contains("INFO sandbox on"), "{log}");
    server.signal(Signal::SIGTERM);
    while next().await != "STOPPING=1\n" {}
    server.logs("stopped", 1).await;
}
