//! `webapi`: calls a method of the webapi over HTTP, as an application does.

use std::{
    fs,
    io::{IsTerminal, Read},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use futures_util::StreamExt;
use postrider_webapi::{
    api::{methods_v0, methods_v1},
    client::{Client, Login},
};
use serde_json::Value;

use super::{
    Usage,
    output::{print, print_bytes, print_json, print_pretty_json},
    runtime,
};
use crate::cli::Webapi;

/// The shortest life of a stream that ends in good order. A stream that ends earlier is not opened
/// again.
const STREAM_MIN: Duration = Duration::from_secs(60);
/// The method whose answer has no end.
const EVENT_STREAM: &str = "EventStream";

pub(super) fn run(options: Webapi) -> anyhow::Result<()> {
    let Some(method) = &options.method else {
        return print(&list());
    };
    let v1 = methods_v1().any(|name| name == method);
    if !v1 && method != EVENT_STREAM && !methods_v0().any(|name| name == method) {
        bail!(Usage(format!(
            "there is no method {method:?}; without a method, this command lists all"
        )));
    }
    let trusted = match &options.ca {
        Some(file) => certificates(file).with_context(|| format!("--ca {}", file.display()))?,
        None => String::new(),
    };
    let client = Client::trusting(&options.url, login(&options)?, trusted.as_bytes())?;
    runtime()?.block_on(async {
        if method == EVENT_STREAM {
            return follow(&client, options.after).await;
        }
        let request = request(options.request.as_deref())?;
        // Both versions have some methods. Their requests have more in v1.
        if v1 {
            let answer: Value = client.call(method, &request).await?;
            return print_pretty_json(&answer);
        }
        let answer = client.call_v0(method, &request).await?;
        match serde_json::from_slice::<Value>(&answer) {
            Ok(answer) if !method.ends_with("RawGet") && !method.ends_with("PartGet") => {
                print_pretty_json(&answer)
            }
            _ => print_bytes(&answer),
        }
    })
}

/// The certificates of a file.
fn certificates(file: &Path) -> anyhow::Result<String> {
    let text = fs::read_to_string(file)?;
    if !text.contains("BEGIN CERTIFICATE") {
        bail!("the file has no certificate");
    }
    Ok(text)
}

fn list() -> String {
    let lines = |names: &[&str]| {
        names
            .iter()
            .map(|name| format!("  {name}\n"))
            .collect::<String>()
    };
    let v1: Vec<_> = methods_v1().collect();
    let only_v0: Vec<_> = methods_v0().filter(|name| !v1.contains(name)).collect();
    format!(
        "Methods whose requests /webapi/v1/openapi.json describes:\n{}  \
         {EVENT_STREAM} (a line for each event, when it happens)\n\
         and those with a page below /webapi/v0/:\n{}",
        lines(&v1),
        lines(&only_v0)
    )
}

fn login(options: &Webapi) -> anyhow::Result<Login> {
    let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let key = match &options.key_file {
        Some(file) => Some(secret(file)?),
        None => options.key.clone(),
    };
    let (key, user) = match (key, options.user.clone()) {
        (None, None) => (set("POSTRIDER_KEY"), set("POSTRIDER_USER")),
        given => given,
    };
    if let Some(key) = key {
        return Ok(Login::Key(key));
    }
    let Some(user) = user else {
        bail!(Usage(
            "no login is given: use --user ADDRESS or --key-file FILE, or set POSTRIDER_USER or POSTRIDER_KEY; \
             for localserve: --user postrider@localhost:postrider"
                .to_owned()
        ));
    };
    if let Some(file) = &options.password_file {
        return Ok(Login::Password(user, secret(file)?));
    }
    Ok(match user.split_once(':') {
        Some((address, password)) => Login::Password(address.into(), password.into()),
        None => {
            let prompt = format!("password of {user}: ");
            let password =
                rpassword::prompt_password(prompt).context("failed to read the password")?;
            Login::Password(user, password)
        }
    })
}

/// The first line of a file with a secret.
fn secret(file: &Path) -> anyhow::Result<String> {
    let text = fs::read_to_string(file)
        .with_context(|| format!("failed to read the secret in {}", file.display()))?;
    match text.lines().next().map(str::trim_end) {
        None | Some("") => bail!("the first line of {} is empty", file.display()),
        Some(secret) => Ok(secret.to_owned()),
    }
}

/// The given request, or else the request on standard input. From a terminal it is the empty
/// request.
fn request(given: Option<&str>) -> anyhow::Result<Value> {
    let text = match given {
        Some(text) if text != "-" => text.to_owned(),
        None if std::io::stdin().is_terminal() => "{}".to_owned(),
        _ => {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .context("failed to read the request from standard input")?;
            text
        }
    };
    let text = if text.trim().is_empty() { "{}" } else { &text };
    let request = serde_json::from_str(text);
    Ok(request.map_err(|error| Usage(format!("the request is not JSON: {error}")))?)
}

async fn follow(client: &Client, after: Option<u64>) -> anyhow::Result<()> {
    let mut after = after;
    loop {
        let begun = Instant::now();
        let mut events = client.follow(after).await?;
        while let Some(event) = events.next().await {
            let event =
                event.context("the stream broke off; --after with the last ID continues it")?;
            after = Some(event.id);
            print_json(&event)?;
        }
        // The server ends a stream from time to time, so that the login is checked again.
        if begun.elapsed() < STREAM_MIN {
            bail!("the server ended the stream; --after with the last ID continues it");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_from_what_was_given() {
        assert_eq!(request(Some(" ")).unwrap(), serde_json::json!({}));
        assert_eq!(request(Some("{\"a\": 1}")).unwrap()["a"], 1);
        let error = request(Some("{a}")).unwrap_err();
        assert!(error.is::<Usage>(), "{error}");
        let text = error.to_string();
        assert!(text.starts_with("the request is not JSON: "), "{text}");
    }

    #[test]
    fn a_secret_is_the_first_line_of_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        fs::write(&file, "prk_1 \r\nmore\n").unwrap();
        assert_eq!(secret(&file).unwrap(), "prk_1");
        fs::write(&file, "\nx").unwrap();
        assert!(secret(&file).unwrap_err().to_string().contains("is empty"));
        let error = secret(&dir.path().join("none")).unwrap_err();
        assert!(error.to_string().contains("none"), "{error}");
    }

    #[test]
    fn a_method_is_listed_once() {
        let list = list();
        for name in ["Send", "SendBatch", "MessageGet", "EventStream"] {
            let lines = list
                .lines()
                .filter(|line| line.split_whitespace().next() == Some(name));
            assert_eq!(lines.count(), 1, "{name}");
        }
    }
}
