//! Transcripts on both engines.

use super::*;
use crate::{
    Outcome,
    tests::{
        samples::{at, claim, message, settle},
        verbs::on_both,
    },
};

/// The transcript of an attempt at this second.
pub(super) fn transcript(start: i64) -> Transcript {
    Transcript {
        start: at(start),
        remote: "mx.test [192.0.2.1]".into(),
        source: "192.0.2.2".into(),
        ehlo: "a.example".into(),
        tls_rule: "DANE".into(),
        tls: Some(TranscriptTls {
            version: "TLSv1.3".into(),
            cipher: "TLS_AES_256_GCM_SHA384".into(),
        }),
        certificate: Some(TranscriptCertificate {
            subject: "CN=mx.test".into(),
            issuer: "CN=ca".into(),
            names: vec!["mx.test".into()],
            not_before: 1,
            not_after: 2,
            spki_sha256: [7; 32],
        }),
        lines: vec![TranscriptLine {
            ms: 12,
            by: Speaker::Server,
            text: "220 mx.test".into(),
        }],
        left_out: 0,
    }
}

async fn starts(store: &Store, id: u64) -> Vec<Time> {
    let all = store.transcripts(QueueId(id)).await.unwrap();
    all.iter().map(|transcript| transcript.start).collect()
}

#[tokio::test]
async fn the_last_three_are_kept_and_go_with_their_message() {
    on_both(|store| async move {
        let to = ["a@x.example", "b@x.example", "c@x.example"];
        store.accept(message(&to)).await.unwrap();
        let keep = async |ids: &[u64], start| {
            let all = ids.iter().map(|id| (QueueId(*id), transcript(start)));
            store.keep_transcripts(all.collect()).await.unwrap();
        };
        keep(&[1, 2, 9], 1).await;
        assert_eq!(
            store.transcripts(QueueId(1)).await.unwrap(),
            [transcript(1)]
        );
        for start in 2..=4 {
            keep(&[1], start).await;
            store.checkpoint().await;
        }
        assert_eq!(starts(&store, 1).await, [at(2), at(3), at(4)]);
        assert_eq!(starts(&store, 2).await, [at(1)]);
        assert_eq!(starts(&store, 9).await, []);
        // One goes into the history, one leaves without a trace.
        let claimed = store.claim(claim(at(9))).await.unwrap().messages;
        let retire = |keep_until| Outcome::Retire {
            success: false,
            now: at(9),
            keep_until,
        };
        let ends = [Some(at(20)), None].map(retire);
        let ends = claimed.iter().zip(ends);
        let ends = ends.map(|(message, end)| settle(message, end)).collect();
        store.settle(ends).await.unwrap();
        keep(&[1, 2], 9).await;
        assert_eq!(starts(&store, 1).await, [at(3), at(4), at(9)]);
        assert_eq!(starts(&store, 2).await, []);
        assert_eq!(store.expire(at(20), 9).await.unwrap(), 1);
        assert_eq!(starts(&store, 1).await, []);
    })
    .await;
}

#[tokio::test]
async fn a_transcript_has_its_limit() {
    on_both(|store| async move {
        store.accept(message(&["a@x.example"])).await.unwrap();
        let line = TranscriptLine {
            ms: 1,
            by: Speaker::Client,
            text: "x".repeat(1016),
        };
        let long = Transcript {
            lines: vec![line; 10],
            left_out: 4,
            ..transcript(1)
        };
        store
            .keep_transcripts(vec![(QueueId(1), long)])
            .await
            .unwrap();
        let kept = store.transcripts(QueueId(1)).await.unwrap();
        assert_eq!((kept[0].lines.len(), kept[0].left_out), (8, 6));
    })
    .await;
}
