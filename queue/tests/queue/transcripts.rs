//! Transcripts of attempts: what is kept, and of which.

use postrider_store::{Event, QueueId, Speaker, Transcript};

use crate::{
    remote::{Act, Point, Remote, RemoteTls},
    support::{Message, Setup, World},
};

/// A world whose mail for remote.test goes to mx.test.
fn world(keep: &str, remote: Option<&Remote>) -> World {
    let statics = format!("[queue]\nkeep_transcripts = \"{keep}\"\n");
    let world = World::start(Setup {
        statics: &statics,
        ..Setup::default()
    });
    world.mx("remote.test", &[(10, "mx.test")]);
    world.host("mx.test", "192.0.2.1");
    if let Some(remote) = remote {
        world.lead("192.0.2.1", remote);
    }
    world
}

/// A remote that does not know `no@`.
async fn picky(tls: Option<RemoteTls>) -> Remote {
    Remote::start_with(tls, |point, _| match point {
        Point::Command(line) if line.starts_with("RCPT TO:<no@") => {
            Some(Act::Say("550 5.1.1 nobody here"))
        }
        _ => None,
    })
    .await
}

async fn kept(world: &World, id: QueueId) -> Vec<Transcript> {
    world.store.transcripts(id).await.unwrap()
}

/// The lines, as a dialog.
fn dialog(transcript: &Transcript) -> Vec<String> {
    let lines = transcript.lines.iter().map(|line| {
        let by = match line.by {
            Speaker::Client => "C",
            Speaker::Server => "S",
            Speaker::Nobody => "*",
        };
        format!("{by} {}", line.text)
    });
    lines.collect()
}

#[tokio::test]
async fn the_configuration_says_of_which_attempts() {
    for (keep, of_success, of_failure) in [("failed", 0, 1), ("all", 1, 1), ("none", 0, 0)] {
        let remote = picky(None).await;
        let world = world(keep, Some(&remote));
        let [yes, no] = world
            .add(Message::to(&["yes@remote.test", "no@remote.test"]))
            .await;
        world.events(2).await;
        assert_eq!(kept(&world, yes).await.len(), of_success, "{keep}");
        assert_eq!(kept(&world, no).await.len(), of_failure, "{keep}");
        world.stop().await;
    }
}

#[tokio::test]
async fn a_transcript_tells_of_the_connection_and_what_was_said() {
    let tls = RemoteTls::new(&["other.test"], "");
    let remote = picky(Some(tls)).await;
    let world = world("failed", Some(&remote));
    let [id] = world.add(Message::to(&["no@remote.test"])).await;
    assert_eq!(world.events(1).await, [(id, Event::Failed)]);
    let [transcript] = &kept(&world, id).await[..] else {
        panic!("one transcript");
    };
    let retired = world.store.retired(id).await.unwrap().unwrap();
    assert_eq!(transcript.start, retired.message.results[0].start);
    assert_eq!(transcript.remote, "mx.test [192.0.2.1]");
    assert_eq!(transcript.source, "127.0.0.1");
    assert_eq!(transcript.ehlo, "mail.example.org");
    assert_eq!(transcript.tls_rule, "opportunistic TLS");
    let tls = transcript.tls.as_ref().unwrap();
    assert_eq!(tls.version, "TLSv1.3");
    assert!(tls.cipher.starts_with("TLS_"), "{}", tls.cipher);
    let certificate = transcript.certificate.as_ref().unwrap();
    assert_eq!(certificate.names, ["other.test"]);
    let said = dialog(transcript);
    for line in [
        "* connected from 127.0.0.1 to mx.test [192.0.2.1]",
        "C EHLO mail.example.org",
        "C STARTTLS",
        "* the TLS handshake is done",
        "C RCPT TO:<no@remote.test>",
        "S 550 5.1.1 nobody here",
    ] {
        assert!(said.iter().any(|it| it == line), "{line}: {said:#?}");
    }
    assert!(!said.iter().any(|line| line.contains("Hi.")), "{said:#?}");
    world.stop().await;
}

#[tokio::test]
async fn a_host_that_is_not_reached_leaves_a_note() {
    let world = world("failed", None);
    let [id] = world.add(Message::to(&["x@remote.test"])).await;
    world
        .queued_until(|queued| queued.iter().any(|message| message.attempts == 1))
        .await;
    let [transcript] = &kept(&world, id).await[..] else {
        panic!("one transcript");
    };
    assert_eq!(transcript.remote, "mx.test [192.0.2.1]");
    let said = dialog(transcript);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].starts_with("* connecting to port 25"), "{said:?}");
    world.stop().await;
}
