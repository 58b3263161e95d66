//! OpenDKIM and OpenDMARC of our own on Unix sockets, as Postfix has them beside it on an MX: they
//! check signatures, SPF and DMARC. They end when the value is dropped.
//!
//! OpenDMARC asks the servers in `/etc/resolv.conf`, and nothing else can be told to it. So both
//! programs run in a mount namespace with a file of ours in that place.

use std::fs;
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::programs::{present, program};

pub(crate) struct Milters {
    children: Vec<Child>,
    sockets: Vec<PathBuf>,
}

/// Fails if a program is missing.
pub(crate) fn check() -> Result<()> {
    for name in ["opendkim", "opendmarc", "unshare"] {
        ensure!(
            present(name),
            "{name} is missing (apt-get install opendkim opendmarc util-linux)"
        );
    }
    Ok(())
}

impl Milters {
    /// Starts both, with their files in this folder. They ask the DNS server at this address, on
    /// port 53. A message that fails DMARC is refused if its domain asks for that.
    pub(crate) fn start(folder: &Path, dns: IpAddr) -> Result<Self> {
        let resolv_conf = folder.join("resolv.conf");
        fs::write(&resolv_conf, format!("nameserver {dns}\n"))?;
        let socket = |name: &str| folder.join(name).with_extension("socket");
        let (dkim, dmarc) = (socket("opendkim"), socket("opendmarc"));
        let (dkim_socket, dmarc_socket) = (dkim.display(), dmarc.display());
        let mut milters = Self {
            children: Vec::new(),
            sockets: vec![dkim.clone(), dmarc.clone()],
        };
        let opendkim = format!(
            "Mode v\nSocket local:{dkim_socket}\nAuthservID peer.example\nSyslog no\nUMask 0\n\
             Nameservers {dns}\n"
        );
        milters.run(folder, "opendkim", "-x", &opendkim, &resolv_conf)?;
        let opendmarc = format!(
            "Socket local:{dmarc_socket}\nUMask 0\nAuthservID peer.example\nTrustedAuthservIDs peer.example\n\
             SPFSelfValidate true\nSPFIgnoreResults true\nRejectFailures true\nSyslog false\n"
        );
        milters.run(folder, "opendmarc", "-c", &opendmarc, &resolv_conf)?;
        milters.wait()?;
        Ok(milters)
    }

    /// Waits until both answer.
    fn wait(&self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(20);
        for socket in &self.sockets {
            while UnixStream::connect(socket).is_err() {
                ensure!(Instant::now() < deadline, "nothing answers on {socket:?}");
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        Ok(())
    }

    /// Starts a program that takes its configuration file behind `flag`.
    fn run(
        &mut self,
        folder: &Path,
        name: &str,
        flag: &str,
        config: &str,
        resolv_conf: &Path,
    ) -> Result<()> {
        let file = folder.join(name).with_extension("conf");
        fs::write(&file, config)?;
        let log = fs::File::create(file.with_extension("log"))?;
        // The shell gives way to the program, so the process id is that of the program.
        let script =
            format!("mount --bind \"$1\" /etc/resolv.conf && exec {name} -f {flag} \"$2\"");
        let child = program("unshare")
            .args(["--mount", "sh", "-c", &script, "sh"])
            .args([resolv_conf, &file])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("failed to run {name}"))?;
        self.children.push(child);
        Ok(())
    }

    /// The value of Postfix's `smtpd_milters`.
    pub(crate) fn setting(&self) -> String {
        let each = self.sockets.iter();
        let each = each.map(|socket| format!("unix:{}", socket.display()));
        each.collect::<Vec<_>>().join(", ")
    }

    /// The process ids.
    pub(crate) fn ids(&self) -> Vec<u32> {
        self.children.iter().map(Child::id).collect()
    }
}

impl Drop for Milters {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
