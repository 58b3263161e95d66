//! The time limits, by a clock that goes on when all wait.

use tokio::{
    io::{DuplexStream, duplex},
    time::sleep,
};

use super::*;

impl Socket for DuplexStream {}

/// The seconds until a filter fails that does this after it was told of the letters, at the stage.
/// `limit` is the one of the configuration.
async fn failing<F: Future<Output = ()> + Send + 'static>(
    limit: u64,
    letters: &str,
    step: (HookStage, usize),
    then: impl FnOnce(DuplexStream) -> F,
) -> (Result<Answer, Failure>, u64) {
    // The pipe is too small for a body.
    let (ours, mut theirs) = duplex(4096);
    let script = script(0, letters);
    let task = async move {
        let mut reader = PacketReader::default();
        for (letter, reply) in script {
            let packet = next(&mut theirs, &mut reader).await.unwrap();
            assert_eq!(char::from(packet.kind), letter);
            theirs.write_all(&reply).await.unwrap();
        }
        theirs
    };
    let place = Place {
        socket: MilterSocket::Unix("".into()),
        limit: Duration::from_secs(limit),
        body_max: BODY_MAX,
    };
    let mut world = world();
    world.draft.body = Bytes::from(vec![b'x'; 100_000]).into();
    let filter = tokio::spawn(task);
    let mut connection = place.negotiate(Box::new(ours)).await.unwrap();
    // All but the last question is answered.
    let last = ALL.iter().position(|it| *it == step).unwrap();
    for earlier in &ALL[..last] {
        ask(&mut connection, &world, *earlier).await.unwrap();
    }
    let start = Instant::now();
    let question = tokio::spawn(async move { ask(&mut connection, &world, step).await });
    let filter = filter.await.unwrap();
    let filter = tokio::spawn(then(filter));
    let answer = question.await.unwrap();
    filter.abort();
    (answer, start.elapsed().as_secs())
}

async fn silent(filter: DuplexStream) {
    std::future::pending::<()>().await;
    drop(filter);
}

/// Reads all that comes.
async fn deaf(mut filter: DuplexStream) {
    let mut bytes = BytesMut::new();
    while filter.read_buf(&mut bytes).await.unwrap_or(0) > 0 {
        bytes.clear();
    }
}

/// Sends these bytes every so many seconds, and reads all that comes.
async fn sends(filter: DuplexStream, bytes: Vec<Vec<u8>>, seconds: u64) {
    let (mut read, mut write) = tokio::io::split(filter);
    let reading = tokio::spawn(async move {
        let mut bytes = BytesMut::new();
        while read.read_buf(&mut bytes).await.unwrap_or(0) > 0 {
            bytes.clear();
        }
    });
    for piece in bytes {
        sleep(Duration::from_secs(seconds)).await;
        write.write_all(&piece).await.unwrap();
    }
    reading.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_silent_filter_fails_in_time() {
    for (limit, letters, step, seconds) in [
        (30, "", (Connect, 0), 30),
        (5, "C", (Ehlo, 0), 5),
        (30, "CHM", (Rcpt, 1), 30),
        (30, "CHMRRTL", (Data, 0), 30),
        (30, "CHMRRTLL", (Data, 0), 30),
        (30, "CHMRRTLLN", (Data, 0), 300),
        (30, "CHMRRTLLNBB", (Data, 0), 300),
        (5, "CHMRRTLLNBB", (Data, 0), 50),
    ] {
        let (answer, took) = failing(limit, letters, step, deaf).await;
        assert_eq!(
            (answer, took),
            (Err(Failure::Timeout), seconds),
            "{letters}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_filter_that_does_not_read_fails_in_time() {
    let (answer, took) = failing(30, "CHMRRTLLN", (Data, 0), silent).await;
    assert_eq!((answer, took), (Err(Failure::Timeout), 300));
}

#[tokio::test(start_paused = true)]
async fn a_filter_that_works_on_has_more_time() {
    let progress = |count: usize| vec![framed(b"p"); count];
    let then_continues = |count| [progress(count), vec![framed(b"c")]].concat();
    for (replies, seconds, answer, expected) in [
        (then_continues(5), 20, Ok(Answer::ACCEPT), 120),
        (progress(5), 20, Err(Failure::Timeout), 130),
        (progress(1), 31, Err(Failure::Timeout), 30),
        // No filter works on for ever.
        (progress(1000), 20, Err(Failure::Timeout), 3600),
        // Bytes that are no whole packet are no progress.
        (vec![vec![0]; 4], 10, Err(Failure::Timeout), 30),
    ] {
        let then = |filter| sends(filter, replies, seconds);
        let outcome = failing(30, "CHM", (Rcpt, 1), then).await;
        assert_eq!(outcome, (answer, expected));
    }
}

#[tokio::test(start_paused = true)]
async fn the_negotiation_has_a_limit() {
    let place = Place {
        socket: MilterSocket::Unix("".into()),
        limit: Duration::from_secs(7),
        body_max: BODY_MAX,
    };
    for (replies, expected) in [
        (vec![], 7),
        (vec![framed(b"p"); 2], 17),
        (vec![framed(b"p"); 1000], 3600),
    ] {
        let (ours, theirs) = duplex(4096);
        let filter = tokio::spawn(sends(theirs, replies, 5));
        let start = Instant::now();
        let failure = place.negotiate(Box::new(ours)).await.unwrap_err();
        assert_eq!(
            (failure, start.elapsed().as_secs()),
            (Failure::Timeout, expected)
        );
        filter.abort();
    }
}
