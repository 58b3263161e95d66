//! Texts, and units that bring them.

use super::on_both;

use crate::tests::samples::*;
use crate::{
    Accept, Event, INLINE_TEXT_MAX, MailId, NewHookKind, NewMessage, NewText, QueueId, Settle,
    StoreError, TextId, TextSource, Top,
};

#[tokio::test]
async fn mail_and_events_come_with_the_settlement() {
    on_both(|store| async move {
        store.accept(message(&["a@x.example"])).await.unwrap();
        let queued = store.claim(claim(at(9))).await.unwrap().messages.remove(0);
        let end = Settle {
            text: Some(inline("a DSN")),
            mails: vec![
                mail("Inbox", TextSource::New),
                mail("Sent", TextSource::Existing(queued.text)),
            ],
            hooks: vec![
                hook("http://h/", event(Event::Failed, queued.id), at(9)),
                hook("http://h/", NewHookKind::Incoming(1), at(9)),
            ],
            ..settle(&queued, KEPT)
        };
        let stale = Settle {
            fence: 0,
            ..settle(&queued, GONE)
        };
        assert_eq!(store.settle(vec![stale, end]).await.unwrap(), [false, true]);
        assert_eq!(
            store.mail(MailId(1)).await.unwrap().unwrap().mailbox,
            "Inbox"
        );
        assert_eq!(text(&store, TextId(2)).await.unwrap(), "a DSN");
        assert_eq!(
            text(&store, queued.text).await.unwrap(),
            "Hi!\r\n",
            "the text lives on in the mailbox"
        );
        assert_eq!(store.counts().await.hooks, 2);
        let all = store.list_mails("ann", None, None, 10).await.unwrap();
        assert_eq!(all.items.len(), 2);
        let sent = store
            .list_mails("ann", Some("Sent"), None, 10)
            .await
            .unwrap();
        assert_eq!(
            sent.items.iter().map(|mail| mail.id).collect::<Vec<_>>(),
            [MailId(2)]
        );
        assert_eq!(
            store.list_mails("bob", None, None, 10).await.unwrap().items,
            []
        );
    })
    .await;
}

#[tokio::test]
async fn a_unit_that_makes_no_sense_is_refused_as_a_whole() {
    on_both(|store| async move {
        let mut no_text = message(&["a@x.example"]);
        no_text.text = None;
        assert!(matches!(
            store.accept(no_text).await,
            Err(StoreError::Invalid(_))
        ));
        assert!(matches!(
            store.accept(message(&[])).await,
            Err(StoreError::Invalid(_))
        ));
        let mut unknown = message(&["a@x.example"]);
        unknown.mails = vec![mail("Inbox", TextSource::Existing(TextId(7)))];
        assert!(matches!(
            store.accept(unknown).await,
            Err(StoreError::NoText(TextId(7)))
        ));
        let hooks = vec![hook("http://h/", NewHookKind::Incoming(0), at(1))];
        assert!(matches!(
            store
                .accept(Accept {
                    hooks,
                    ..Accept::default()
                })
                .await,
            Err(StoreError::Invalid(_))
        ));
        assert_eq!(
            store.counts().await.queued + store.counts().await.mails + store.counts().await.hooks,
            0
        );
        assert_eq!(
            store.accept(message(&["a@x.example"])).await.unwrap().queue,
            [QueueId(1)]
        );
    })
    .await;
}

#[tokio::test]
async fn large_texts_too() {
    on_both(|store| async move {
        let size = 3 * INLINE_TEXT_MAX + 7;
        let bytes: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
        let mut writer = store.text_writer();
        for piece in bytes.chunks(10_000) {
            writer.write(piece).await.unwrap();
        }
        assert_eq!(writer.len(), size as u64);
        let new = writer.finish().await.unwrap();
        store
            .accept(Accept {
                text: Some(new),
                ..message(&["a@x.example"])
            })
            .await
            .unwrap();
        // One that was not written piece by piece.
        let new = NewText::Inline(bytes.clone().into());
        store
            .accept(Accept {
                text: Some(new),
                ..message(&["a@x.example"])
            })
            .await
            .unwrap();
        for id in [TextId(1), TextId(2)] {
            assert_eq!(text(&store, id).await.unwrap(), bytes);
            let stored = store.text(id).await.unwrap();
            assert_eq!(stored.read(1000..1010).await.unwrap(), bytes[1000..1010]);
            assert_eq!(
                stored.read(size as u64 - 2..u64::MAX).await.unwrap(),
                bytes[size - 2..]
            );
        }
        let open = store.text(TextId(1)).await.unwrap();
        for queued in store.claim(claim(at(9))).await.unwrap().messages {
            assert_eq!(
                store.settle(vec![settle(&queued, GONE)]).await.unwrap(),
                [true]
            );
        }
        assert!(store.text(TextId(1)).await.is_err());
        assert_eq!(
            open.read(0..u64::MAX).await.unwrap(),
            bytes,
            "who has it open can read on"
        );
        assert_eq!(store.counts().await.text_bytes, 0);
    })
    .await;
}

#[tokio::test]
async fn an_empty_text_is_one() {
    on_both(|store| async move {
        store
            .accept(Accept {
                text: Some(inline("")),
                ..message(&["a@x.example"])
            })
            .await
            .unwrap();
        assert_eq!(text(&store, TextId(1)).await.unwrap(), "");
    })
    .await;
}

#[tokio::test]
async fn a_text_can_be_used_again_while_it_lives() {
    on_both(|store| async move {
        store.accept(message(&["a@x.example"])).await.unwrap();
        let resend = Accept {
            queue: vec![NewMessage {
                common: common(),
                top: Top::EMPTY,
                text: TextSource::Existing(TextId(1)),
                recipients: vec![recipient("b@x.example", at(1))],
            }],
            ..Accept::default()
        };
        store.accept(resend).await.unwrap();
        let messages = store.claim(claim(at(9))).await.unwrap().messages;
        assert_eq!(
            store
                .settle(vec![settle(&messages[0], GONE)])
                .await
                .unwrap(),
            [true]
        );
        assert!(text(&store, TextId(1)).await.is_some());
        assert_eq!(
            store
                .settle(vec![settle(&messages[1], GONE)])
                .await
                .unwrap(),
            [true]
        );
        assert!(text(&store, TextId(1)).await.is_none());
    })
    .await;
}
