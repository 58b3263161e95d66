//! All pages of the menu answer, and the commands and calls that they show are true.

use std::collections::BTreeSet;

use clap::Parser;
use postrider::cli::Cli;
use postrider_admin::op::passwords::set_admin_password;
use reqwest::{
    Client, Response,
    header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, COOKIE, SET_COOKIE},
    redirect::Policy,
};

use crate::support::{PASSWORD, Setup, World, dns::Zone, message, program};

const ADMIN: &str = "administrator's password";
/// The login of the account.
const LOGIN: &str = "app@example.org";
/// The methods of the webapi that change nothing.
const READS: [&str; 4] = ["QueueList", "QueueStatus", "Events", "SuppressionList"];

/// A browser without JavaScript that is logged in.
struct Browser {
    http: Client,
    base: String,
    cookie: String,
}

impl Browser {
    async fn enter(base: String, area: &str, fields: &[(&str, &str)]) -> Self {
        let http = Client::builder().redirect(Policy::none());
        let http = http.build().unwrap();
        let login = http.post(format!("{base}{area}login")).form(fields);
        let answer = login.send().await.unwrap();
        assert_eq!(answer.status(), 303);
        let cookie = answer.headers()[SET_COOKIE].to_str().unwrap();
        let cookie = cookie.split(';').next().unwrap().to_owned();
        Self { http, base, cookie }
    }

    async fn get(&self, path: &str) -> Response {
        let url = format!("{}{path}", self.base);
        let request = self.http.get(url).header(COOKIE, &self.cookie);
        request.send().await.unwrap()
    }

    async fn page(&self, path: &str) -> String {
        let answer = self.get(path).await;
        let status = answer.status();
        assert!(answer.headers().contains_key(CONTENT_SECURITY_POLICY));
        let html = answer.text().await.unwrap();
        assert_eq!(status, 200, "{path}: {html}");
        html
    }
}

/// The values of an attribute in all tags that begin so.
fn values<'a>(html: &'a str, tag: &'a str, attribute: &'a str) -> impl Iterator<Item = String> {
    let tags = html.split(tag).skip(1);
    let tags = tags.map(|rest| rest.split('>').next().unwrap_or_default());
    tags.filter_map(move |tag| {
        let value = tag.split(&format!("{attribute}=\"")).nth(1)?;
        let value = value.split('"').next()?;
        let value = value.replace("&#34;", "\"").replace("&#39;", "'");
        let value = value.replace("&#60;", "<").replace("&#62;", ">");
        Some(value.replace("&#38;", "&"))
    })
}

/// The words of a line for a shell.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut any) = (Vec::new(), String::new(), None, false);
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match (letter, quoted) {
            ('\'' | '"', None) => (quoted, any) = (Some(letter), true),
            (quote, Some(open)) if quote == open => quoted = None,
            ('\\', None) => word.extend(letters.next()),
            (' ', None) => {
                if any || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                any = false;
            }
            (letter, _) => word.push(letter),
        }
    }
    if any || !word.is_empty() {
        words.push(word);
    }
    words
}

async fn world() -> World {
    let zone = Zone::default().mx("remote.test", 10, "mx.remote.test");
    let setup = Setup {
        dns: Some(zone.serve().await),
        statics: "admin_http = { enabled = true, port = 0 }\n\
                  account_http = { enabled = true, port = 0 }\n"
            .to_owned(),
        ..Setup::default()
    };
    let dir = tempfile::tempdir().unwrap();
    setup.write_with_admin(dir.path());
    set_admin_password(&dir.path().join("adminpasswd"), ADMIN).unwrap();
    let world = World::start_in(dir).await;
    let mut client = world.submission().await;
    let to = &["a@remote.test"];
    client.submit(LOGIN, to, &message("for a")).await;
    world
}

fn url(world: &World, service: &str) -> String {
    format!("http://{}", world.server.address(service).unwrap())
}

/// The pages that a page leads to by its menu and its tabs and rows, without those that ask.
fn links(html: &str, base: &str) -> BTreeSet<String> {
    let all = values(html, "<a ", "href");
    let own = all.filter(|link| link.starts_with(base) && !link.contains('?'));
    own.collect()
}

#[tokio::test]
async fn each_page_of_administrators_answers_and_its_commands_are_true() {
    let world = world().await;
    let base = url(&world, "admin_http");
    let browser = Browser::enter(base.clone(), "/admin/", &[("password", ADMIN)]).await;
    let mut open = links(&browser.page("/admin/").await, "/admin/");
    let mut seen = BTreeSet::new();
    let (mut commands, mut calls) = (0, 0);
    while let Some(path) = open.pop_first() {
        // DNS checks ask servers that are not there, and downloads are no pages.
        let is_left_out = ["/raw", "zone-file", "export", "/check", "/dns"];
        if is_left_out.iter().any(|end| path.contains(end)) || !seen.insert(path.clone()) {
            continue;
        }
        let html = browser.page(&path).await;
        open.extend(links(&html, "/admin/").difference(&seen).cloned());
        for line in values(&html, "class=\"copy\"", "data-copy") {
            let words = words(&line);
            match words.first().map(String::as_str) {
                Some("postrider") => {
                    let read = Cli::try_parse_from(&words);
                    assert!(read.is_ok(), "{path}: {line}: {:?}", read.err());
                    commands += 1;
                }
                Some("curl") if !words.iter().any(|word| word == "-X") => {
                    let call = words.last().unwrap().replace("$URL", &base);
                    let request = browser.http.get(&call).basic_auth("admin", Some(ADMIN));
                    let status = request.send().await.unwrap().status();
                    assert!(status.is_success(), "{path}: {line}: {status}");
                    calls += 1;
                }
                _ => {}
            }
        }
    }
    assert!(seen.len() > 40 && commands > 20 && calls > 10, "{seen:?}");
}

/// A key of the account.
async fn key(world: &World) -> String {
    let conf = world.dir.path().join("postrider.conf");
    let made = program::run(&conf, &["apikey", "add", "shop", "--account", "app"]).await;
    let errors = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "{errors}");
    String::from_utf8(made.stdout)
        .unwrap()
        .trim_end()
        .to_owned()
}

/// Makes the call of a line for curl, if it changes nothing. Gives whether it was made.
async fn make(world: &World, key: &str, line: &str) -> bool {
    let words = words(line);
    let option = |name: &str| {
        let at = words.iter().position(|word| word == name)?;
        words.get(at + 1)
    };
    let url_of_call = words.last().unwrap();
    let (body, form) = (option("--json"), option("--data-urlencode"));
    let method = url_of_call.rsplit('/').next().unwrap();
    let is_post = body.is_some() || form.is_some();
    if is_post && !READS.contains(&method) {
        return false;
    }
    let service = match url_of_call.contains("/webapi/") {
        true => "webapi_http",
        false => "admin_http",
    };
    let target = url_of_call.replace("$URL", &url(world, service));
    let http = Client::new();
    let request = match is_post {
        true => http.post(target),
        false => http.get(target),
    };
    let request = match (option("-u"), option("-H")) {
        (Some(login), None) => request.basic_auth(login, Some(PASSWORD)),
        (None, Some(field)) => {
            assert_eq!(field, "Authorization: Bearer $KEY");
            request.bearer_auth(key)
        }
        both => panic!("{line}: {both:?}"),
    };
    let request = match (body, form) {
        (Some(body), None) => request
            .header(CONTENT_TYPE, "application/json")
            .body(body.clone()),
        (None, Some(field)) => request.form(&[field.split_once('=').unwrap()]),
        _ => request,
    };
    let answer = request.send().await.unwrap();
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    assert!(status.is_success(), "{line}: {status}: {text}");
    true
}

#[tokio::test]
async fn each_page_of_an_account_answers_to_its_holder_only_and_its_commands_are_true() {
    let world = world().await;
    let base = url(&world, "account_http");
    let fields = [("name", LOGIN), ("password", PASSWORD)];
    let browser = Browser::enter(base.clone(), "/account/", &fields).await;
    let mut open = links(&browser.page("/account/").await, "/account/");
    let key = key(&world).await;
    let mut seen = BTreeSet::new();
    let (mut commands, mut calls) = (0, 0);
    while let Some(path) = open.pop_first() {
        if path.contains("export") || !seen.insert(path.clone()) {
            continue;
        }
        let html = browser.page(&path).await;
        open.extend(links(&html, "/account/").difference(&seen).cloned());
        for line in values(&html, "class=\"copy\"", "data-copy") {
            match line.split(' ').next() {
                Some("postrider") => {
                    let read = Cli::try_parse_from(words(&line));
                    assert!(read.is_ok(), "{path}: {line}: {:?}", read.err());
                    commands += 1;
                }
                Some("curl") => calls += u32::from(make(&world, &key, &line).await),
                _ => {}
            }
        }
        let stranger = Client::builder().redirect(Policy::none()).build().unwrap();
        let answer = stranger.get(format!("{base}{path}")).send().await.unwrap();
        assert_eq!(answer.status(), 303, "{path}");
    }
    let is_some = commands > 4 && calls > 5;
    assert!(seen.len() > 10 && is_some, "{commands} {calls} {seen:?}");
    assert_eq!(browser.get("/account/messages/999").await.status(), 404);
}
