//! Lessons for a controller with a script, over loopback sockets.

use postrider_config::Static;
use postrider_store::{Accept, NewMail, NewText, SystemClock, TextSource, Time, Top};

use super::{
    super::http::tests::{Does, Server, answer, ok, server},
    *,
};

const TEXT: &str = "From: jane@shop.example\r\nSubject: offer\r\n\r\nbuy now\r\n";

const LEARNED: &str = r#"{"success":true}"#;

/// The teacher of a hook with these keys. It makes no pauses.
fn teacher(url: &str, keys: &str) -> Option<Arc<Teacher>> {
    let text = format!(
        "hostname = \"mail.example.org\"\npostmaster.account = \"alice\"\n\
         [listeners.a]\nips = [\"127.0.0.1\"]\nsmtp = {{}}\n\
         [hooks.scan]\nkind = \"rspamd\"\nurl = \"{url}\"\n{keys}\n"
    );
    let statics = Static::parse(&text, "postrider.conf").unwrap();
    let teacher = Teacher::of_hook("scan", &statics.hooks["scan"], &[]).unwrap();
    teacher.map(|mut teacher| {
        teacher.pause = Duration::ZERO;
        Arc::new(teacher)
    })
}

/// A teacher whose controller is this server.
fn at(server: &Server) -> Arc<Teacher> {
    let keys = format!("learn = true\ncontroller.url = \"{}\"", server.url);
    teacher("http://127.0.0.1:1/checkv2", &keys).unwrap()
}

struct World {
    store: Store,
    clock: Arc<dyn Clock>,
    mail: Mail,
}

impl World {
    async fn new() -> Self {
        let store = Store::memory();
        let mail = NewMail {
            account: "ann".into(),
            mailbox: "Inbox".into(),
            top: Top::new("Return-Path: <b@shop.example>\r\n").unwrap(),
            text: TextSource::New,
            size: TEXT.len() as u64,
            received: Time(0),
            flags: Vec::new(),
            dsn: false,
            smtp: None,
            summary: None,
        };
        let accept = Accept {
            text: Some(NewText::Inline(TEXT.into())),
            mails: vec![mail],
            ..Accept::default()
        };
        let id = store.accept(accept).await.unwrap().mails[0];
        let mail = store.mail(id).await.unwrap().unwrap();
        let clock = Arc::new(SystemClock);
        Self { store, clock, mail }
    }

    fn teach(&self, teacher: &Arc<Teacher>, lesson: Lesson) {
        teacher.teach(&self.store, &self.clock, (&self.mail, lesson));
    }
}

/// Waits until there is no lesson left.
async fn done(teacher: &Teacher) {
    while teacher.waiting().is_worked_on {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_controller_gets_the_message_with_the_password() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, "pass\n").unwrap();
    let server = server([ok(LEARNED)]).await;
    let keys = format!(
        "learn = true\ncontroller = {{ url = \"{}\", password_file = \"{}\" }}",
        server.url,
        file.display()
    );
    let teacher = teacher("http://127.0.0.1:1/", &keys).unwrap();
    let world = World::new().await;
    world.teach(&teacher, Lesson::Spam);
    world.teach(&teacher, Lesson::Ham);
    done(&teacher).await;
    // A task that had ended begins again.
    world.teach(&teacher, Lesson::Spam);
    done(&teacher).await;
    let requests = server.requests.lock().unwrap().clone();
    let paths = requests.iter().map(|request| request.split(' ').nth(1));
    let paths: Vec<_> = paths.flatten().collect();
    assert_eq!(
        paths,
        ["/hook/learnspam", "/hook/learnham", "/hook/learnspam"]
    );
    for request in &requests {
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        assert!(head.to_lowercase().contains("\r\npassword: pass"), "{head}");
        assert_eq!(body, format!("Return-Path: <b@shop.example>\r\n{TEXT}"));
    }
}

#[tokio::test]
async fn without_a_url_the_controller_is_beside_the_scanner() {
    for (url, expected) in [
        (
            "http://192.0.2.1:11333/checkv2",
            "http://192.0.2.1:11334/learnham",
        ),
        (
            "https://[2001:db8::1]",
            "https://[2001:db8::1]:11334/learnham",
        ),
    ] {
        let teacher = teacher(url, "learn = true").unwrap();
        assert_eq!(teacher.ham.shown_url(), expected);
    }
    assert!(teacher("http://192.0.2.1/", "").is_none());
    assert!(teacher("http://192.0.2.1/", "learn = false").is_none());
}

#[tokio::test]
async fn a_lesson_is_given_again_until_it_has_an_answer() {
    let no = || Does::Says(answer("500 No", ""));
    let known = r#"{"error":"<1@x.test> has been already learned as spam, ignore it"}"#;
    let not_found = |body: &str| Does::Says(answer("404 Not Found", body));
    for (script, requests, condition) in [
        (vec![no(), no(), ok(LEARNED)], 3, Condition::Up),
        // rspamd has an answer: it knows the message.
        (vec![ok(known)], 1, Condition::Up),
        (vec![not_found(known)], 1, Condition::Up),
        (vec![not_found("<html>")], 1, Condition::Down),
        (vec![ok("")], 1, Condition::Up),
        (vec![no()], TRIES as usize, Condition::Down),
        (vec![ok("pong")], 1, Condition::Down),
    ] {
        let server = server(script).await;
        let (teacher, world) = (at(&server), World::new().await);
        world.teach(&teacher, Lesson::Spam);
        done(&teacher).await;
        assert_eq!(server.count(), requests);
        assert_eq!(teacher.watch.health().condition, condition);
    }
}

#[tokio::test]
async fn a_mail_that_is_gone_teaches_nothing() {
    let server = server([ok(LEARNED)]).await;
    let (teacher, world) = (at(&server), World::new().await);
    let other = World {
        store: Store::memory(),
        ..world
    };
    other.teach(&teacher, Lesson::Spam);
    done(&teacher).await;
    assert_eq!(server.count(), 0);
}

/// The controller does not answer. Those who have something to tell do not wait for it.
#[tokio::test]
async fn the_queue_has_bounds() {
    let server = server([Does::Waits]).await;
    let (teacher, world) = (at(&server), World::new().await);
    for _ in 0..WAITING_MAX + 10 {
        world.teach(&teacher, Lesson::Spam);
    }
    assert_eq!(teacher.waiting().tasks.len(), WAITING_MAX);
    assert!(teacher.waiting().is_full);
}
