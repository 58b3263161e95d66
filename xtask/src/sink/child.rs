//! The sink as a child process, for tasks that need one.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

/// A sink that runs as a child process. It is killed when the value is dropped.
pub(crate) struct SinkProcess {
    child: Child,
    /// The SMTP port.
    pub(crate) port: u16,
    /// Address and port for questions.
    control: String,
}

impl SinkProcess {
    /// Starts a sink in clear. A stalled sink accepts connections and never greets.
    pub(crate) fn start(stalled: bool) -> Result<Self> {
        Self::start_with(if stalled {
            &["--greeting-delay=24h"]
        } else {
            &[]
        })
    }

    /// Starts a sink that offers STARTTLS.
    pub(crate) fn with_tls() -> Result<Self> {
        Self::start_with(&["--starttls"])
    }

    fn start_with(more: &[&str]) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["sink", "--port=0", "--control=0", "--pipelining"]);
        command.args(more);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().context("the sink has no output")?;
        let mut lines = BufReader::new(output).lines();
        let mut port = None;
        let mut control = None;
        while port.is_none() || control.is_none() {
            let line = lines.next().context("the sink ended")??;
            if let Some(address) = line.strip_prefix("smtp 127.0.0.1:") {
                port = Some(address.parse()?);
            }
            if let Some(url) = line.strip_prefix("control http://") {
                control = Some(url.trim_end_matches("/count").to_owned());
            }
        }
        let (Some(port), Some(control)) = (port, control) else {
            bail!("the sink did not say where it listens");
        };
        Ok(Self {
            child,
            port,
            control,
        })
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks a question on the control port, and returns the body of the answer.
    pub(crate) fn ask(&self, target: &str) -> Result<String> {
        let mut stream = TcpStream::connect(&self.control)?;
        stream.set_read_timeout(Some(Duration::from_secs(300)))?;
        write!(stream, "GET {target} HTTP/1.1\r\nConnection: close\r\n\r\n")?;
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut answer = String::new();
        stream
            .read_to_string(&mut answer)
            .with_context(|| format!("the sink did not answer {target}"))?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        ensure!(
            head.contains(" 200 "),
            "the sink answered {target}: {answer}"
        );
        Ok(body.to_owned())
    }

    /// Waits until this many messages have come, for up to five minutes.
    pub(crate) fn wait_for(&self, messages: u64) -> Result<()> {
        self.ask(&format!("/wait?messages={messages}")).map(drop)
    }
}

impl Drop for SinkProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
