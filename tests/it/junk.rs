//! The junk filter: the real program and the management API teach and ask a running server.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};

use crate::support::{Setup, World, program};

const OFFER: &str = "From: x@shop.test\nSubject: cheap watches\n\nBuy pills today.\n";
const LETTER: &str = "From: y@firm.test\nSubject: our meeting\n\nDear friend, until tomorrow.\n";

struct Desk {
    world: World,
    conf: PathBuf,
}

impl Desk {
    async fn open() -> Self {
        let world = World::start(Setup {
            statics: "admin_http = { enabled = true, port = 0 }\n".to_owned(),
            ..Setup::default()
        })
        .await;
        let conf = world.dir.path().join("postrider.conf");
        Self { world, conf }
    }

    /// A file with this text. Gives its path.
    fn file(&self, name: &str, text: &str) -> String {
        let path = self.world.dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    async fn says(&self, arguments: &[&str]) -> String {
        let output = program::run(&self.conf, arguments).await;
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_teach_and_ask_the_filter_and_let_it_forget() {
    let desk = Desk::open().await;
    let maildir = desk.world.dir.path().join("maildir");
    for number in 0..20 {
        desk.file(&format!("maildir/cur/{number}"), OFFER);
    }
    // A message without words does not end the run.
    desk.file("maildir/new/1", "X-Empty: 1\n\n-\n");
    let mbox = desk.file("mbox", &format!("From y Mon\n{LETTER}\n").repeat(50));
    let train = ["junk", "train", "--account", "app"];
    let spam = [&train[..], &["--spam", maildir.to_str().unwrap()]].concat();
    let said = desk.says(&spam).await;
    assert_eq!(
        said,
        "learnt 20 messages as junk, left out 1 without words\n"
    );
    let said = desk.says(&[&train[..], &["--ham", &mbox]].concat()).await;
    assert_eq!(said, "learnt 50 messages as not junk\n");
    let missing = [&train[..], &["--ham", &mbox, "/nowhere"]].concat();
    let output = program::run(&desk.conf, &missing).await;
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.contains("learnt 50 messages as not junk"),
        "it tells how far it came: {error}"
    );
    let status = desk.says(&["junk", "status", "app"]).await;
    assert!(status.contains("20 junk  100 not junk"), "{status}");

    let (offer, letter) = (desk.file("offer", OFFER), desk.file("letter", LETTER));
    let classify = ["junk", "classify", "--account", "app"];
    let judged = desk.says(&[&classify[..], &[&offer]].concat()).await;
    assert!(
        judged.starts_with("junk: the words are those of junk\n"),
        "{judged}"
    );
    let judged = desk.says(&[&classify[..], &[&letter]].concat()).await;
    assert!(judged.starts_with("taken\n"), "{judged}");

    desk.says(&["junk", "reset", "app"]).await;
    let status = desk.says(&["junk", "status", "app"]).await;
    assert!(status.contains("0 junk  0 not junk"), "{status}");
    desk.world.server.stop().await;
}

/// The management API, called with a key.
struct Api {
    base: String,
    key: String,
    http: reqwest::Client,
}

impl Api {
    /// With a new key, which these arguments describe.
    async fn open(desk: &Desk, arguments: &[&str]) -> Self {
        let address = desk.world.server.address("admin_http").unwrap();
        let key = desk.says(&[&["apikey", "add"], arguments].concat()).await;
        Self {
            base: format!("http://{address}/api/spam-filter"),
            key: key.trim_end().to_owned(),
            http: reqwest::Client::new(),
        }
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> Value {
        let answer = request.bearer_auth(&self.key).send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert_eq!(status, 200, "{text}");
        let answer: Value = serde_json::from_str(&text).unwrap();
        answer["data"].clone()
    }

    async fn get(&self, path: &str) -> Value {
        self.answer(self.http.get(format!("{}/{path}", self.base)))
            .await
    }

    /// Sends a message so many times.
    async fn teach(&self, path: &str, message: &str, times: usize) {
        let url = format!("{}/{path}", self.base);
        for _ in 0..times {
            let request = self.http.post(&url).body(message.to_owned());
            assert_eq!(self.answer(request).await, Value::Null, "{path}");
        }
    }

    /// Whether a message is junk. None: the filter has not learnt enough for a judgement by words.
    async fn judges(&self, message: &str) -> Option<bool> {
        let request = self.http.post(format!("{}/classify", self.base));
        let found = self
            .answer(request.json(&json!({"message": message})))
            .await;
        let (score, says) = (found["score"].as_f64().unwrap(), &found["disposition"]);
        assert_eq!(says["action"], "allow", "{found}");
        let is_junk = score >= 5.0;
        let yes = if is_junk { "Yes" } else { "No" };
        let field = format!("X-Spam-Status: {yes}, score={score:.2}\r\n");
        assert_eq!(says["value"], field, "{found}");
        found["tags"]["BAYES"]["value"].as_f64()?;
        Some(is_junk)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_management_api_teaches_and_asks_the_filter_by_all_its_paths() {
    let desk = Desk::open().await;
    let all = Api::open(&desk, &["tool", "--scope", "manage"]).await;
    let manage = ["apps", "--account", "app", "--scope", "manage-accounts"];
    let own = Api::open(&desk, &manage).await;
    assert_eq!(all.judges(OFFER).await, None);

    // The server's own filter judges for accounts that have not learnt enough.
    all.teach("train/spam", OFFER, 10).await;
    all.teach("upload/spam", OFFER, 10).await;
    all.teach("train/ham", LETTER, 25).await;
    all.teach("upload/ham", LETTER, 25).await;
    for api in [&all, &own] {
        assert_eq!(api.judges(OFFER).await, Some(true));
        assert_eq!(api.judges(LETTER).await, Some(false));
    }

    // The account thinks otherwise: by its name in the path, and by its key.
    all.teach("train/ham/app", OFFER, 20).await;
    all.teach("upload/ham/app", OFFER, 20).await;
    own.teach("train/ham", OFFER, 5).await;
    own.teach("upload/ham", OFFER, 5).await;
    all.teach("train/spam/app", LETTER, 8).await;
    all.teach("upload/spam/app", LETTER, 8).await;
    own.teach("train/spam", LETTER, 2).await;
    own.teach("upload/spam", LETTER, 2).await;
    let status = desk.says(&["junk", "status", "app"]).await;
    assert!(status.contains("20 junk  50 not junk"), "{status}");
    assert_eq!(own.judges(OFFER).await, Some(false));
    assert_eq!(own.judges(LETTER).await, Some(true));
    assert_eq!(all.judges(OFFER).await, Some(true));
    assert_eq!(all.judges(LETTER).await, Some(false));

    // Training is done with each call, so there is nothing to start or to wait for.
    for (call, expected) in [("start", true), ("status", false), ("stop", false)] {
        assert_eq!(all.get(&format!("train/{call}")).await, expected, "{call}");
    }
    assert_eq!(all.get("train/reset").await, true);
    assert_eq!(all.judges(OFFER).await, None);
    assert_eq!(own.judges(OFFER).await, Some(false), "another filter");
    desk.world.server.stop().await;
}
