//! The junk filter: the real program teaches and asks a running server.

use std::{fs, path::PathBuf};

use crate::support::{Setup, World, program};

const OFFER: &str = "From: x@shop.test\nSubject: cheap watches\n\nBuy pills today.\n";
const LETTER: &str = "From: y@firm.test\nSubject: our meeting\n\nDear friend, until tomorrow.\n";

struct Desk {
    world: World,
    conf: PathBuf,
}

impl Desk {
    async fn open() -> Self {
        let world = World::start(Setup::default()).await;
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
