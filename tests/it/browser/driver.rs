//! WebDriver (<https://www.w3.org/TR/webdriver2/>): the process that drives the browser, and its
//! commands as values of JSON.
//!
//! The tests need a dozen commands of this small protocol. A client library would bring ten crates,
//! and has no command for the browser's log.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, TcpStream},
    process::{Child, Command, Stdio},
    time::Duration,
};

use reqwest::Method;
use serde_json::{Value, json};

use super::Look;
use crate::support::patience::patiently;

/// How long the driver looks for an element before a command fails. It is far longer than any page
/// takes on the slowest machine.
pub const LIMIT: Duration = Duration::from_secs(90);

/// The name under which WebDriver gives the id of an element (section 12.2).
pub const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A driver with one browser. Both end when this value is dropped.
#[derive(Debug)]
pub struct Driver {
    child: Child,
    client: reqwest::Client,
    port: u16,
    session: String,
}

/// Why the driver did not do something.
#[derive(Debug)]
pub struct Refusal {
    /// The error code of WebDriver (section 6.6).
    pub code: String,
    /// For people.
    pub message: String,
}

impl Refusal {
    /// The page changed while the driver used it, so that another try can succeed.
    pub fn passes(&self) -> bool {
        // So chromedriver calls an element whose page goes at this moment.
        let is_of_past = self.code == "unknown error"
            && self.message.contains("does not belong to the document");
        is_of_past
            || [
                "stale element reference",
                "element click intercepted",
                "element not interactable",
                "move target out of bounds",
            ]
            .contains(&self.code.as_str())
    }
}

impl Driver {
    /// Starts a driver on a port of its choice, and a browser.
    pub async fn start(look: Look) -> Self {
        let (child, mut output, port) = loop {
            let mut child = Command::new("chromedriver")
                .arg("--port=0")
                .env("TZ", "UTC")
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .expect(
                    "chromedriver is not installed; `cargo xtask test --full browser-all` installs \
                     it",
                );
            let mut output = BufReader::new(child.stdout.take().unwrap());
            if let Some(port) = port(&mut output) {
                break (child, output, port);
            }
            child.wait().unwrap();
        };
        // The pipe is read to its end, so that the driver never waits for a reader.
        std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
        let mut driver = Self {
            child,
            client: reqwest::Client::builder().no_proxy().build().unwrap(),
            port,
            session: String::new(),
        };
        let opened = driver.post("/session", &capabilities(look)).await.unwrap();
        driver.session = format!("/session/{}", opened["sessionId"].as_str().unwrap());
        driver
    }

    /// A command that changes something. The path is below that of the session.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, Refusal> {
        self.command(Method::POST, path, Some(body)).await
    }

    /// A question. The path is below that of the session.
    pub async fn get(&self, path: &str) -> Result<Value, Refusal> {
        self.command(Method::GET, path, None).await
    }

    /// A command of the DevTools protocol, which chromedriver passes on.
    pub async fn devtools(&self, command: &str, parameters: Value) -> Value {
        let body = json!({"cmd": command, "params": parameters});
        self.post("/goog/cdp/execute", &body).await.unwrap()
    }

    /// Runs a script in the page, in spite of its policy and with scripts forbidden too. Gives what
    /// the script returns.
    pub async fn script(&self, script: &str, arguments: Value) -> Value {
        let body = json!({"script": script, "args": arguments});
        self.post("/execute/sync", &body).await.unwrap()
    }

    /// Runs a script that calls its last argument with the result. It needs a page that may run
    /// scripts.
    pub async fn script_later(&self, script: &str, arguments: Value) -> Value {
        let body = json!({"script": script, "args": arguments});
        self.post("/execute/async", &body).await.unwrap()
    }

    /// The paths of the elements that an expression of XPath selects. Waits until there is one.
    pub async fn find(&self, xpath: &str) -> Result<Vec<String>, Refusal> {
        let body = json!({"using": "xpath", "value": xpath});
        let found = self.post("/elements", &body).await?;
        let ids = found.as_array().unwrap().iter();
        Ok(ids
            .map(|element| format!("/element/{}", element[ELEMENT].as_str().unwrap()))
            .collect())
    }

    async fn command(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Refusal> {
        let url = format!("http://127.0.0.1:{}{}{path}", self.port, self.session);
        let mut request = self.client.request(method, url);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = async { request.send().await.unwrap().json().await.unwrap() };
        let mut answer: Value = patiently(path, answer).await;
        let value = answer["value"].take();
        match value["error"].as_str() {
            Some(code) => Err(Refusal {
                code: code.to_owned(),
                message: value["message"].as_str().unwrap_or_default().to_owned(),
            }),
            None => Ok(value),
        }
    }

    /// Asks the driver to end the browser and to remove its folder, and waits for the answer.
    fn end_session(&self) -> std::io::Result<()> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_read_timeout(Some(LIMIT))?;
        write!(
            stream,
            "DELETE {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            self.session
        )?;
        stream.read_exact(&mut [0])
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.end_session();
        // The browser ends with its pipe to the driver, even if it did not listen.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads what the driver prints at its start, up to its port. None: it chose a port for IPv6 that
/// somebody else has for IPv4, and ends.
fn port(output: &mut impl BufRead) -> Option<u16> {
    let mut printed = String::new();
    loop {
        let mut line = String::new();
        if output.read_line(&mut line).unwrap() == 0 {
            let is_taken = printed.contains("port not available");
            assert!(is_taken, "chromedriver ended: {printed}");
            return None;
        }
        if let Some((_, port)) = line.split_once("was started successfully on port ") {
            return Some(port.trim().trim_end_matches('.').parse().unwrap());
        }
        printed.push_str(&line);
    }
}

/// What the browser is to be like.
fn capabilities(look: Look) -> Value {
    // 1: scripts may run. 2: they may not.
    let scripts = if look.without_scripts { 2 } else { 1 };
    json!({"capabilities": {"alwaysMatch": {
        "acceptInsecureCerts": true,
        "unhandledPromptBehavior": "ignore",
        "goog:loggingPrefs": {"browser": "ALL"},
        "timeouts": {
            "implicit": LIMIT.as_millis(),
            "script": LIMIT.as_millis(),
            "pageLoad": LIMIT.as_millis(),
        },
        "goog:chromeOptions": {
            "args": [
                "--headless=new",
                // Root has no sandbox, and the tests show only pages of ours.
                "--no-sandbox",
                "--remote-debugging-pipe",
                "--disable-dev-shm-usage",
                "--window-size=1280,900",
                "--lang=en-US",
                // Letters in shades of one colour make smaller pictures.
                "--disable-lcd-text",
                // A page that asks another host is found out, and nothing leaves the machine.
                "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
            ],
            "prefs": {
                "profile.managed_default_content_settings.javascript": scripts,
                "profile.password_manager_leak_detection": false,
                "credentials_enable_service": false,
            },
        },
    }}})
}
