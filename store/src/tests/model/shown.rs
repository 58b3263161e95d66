//! All that a store shows.
//!
//! An error says that the store stopped in the meantime.

use std::{collections::BTreeSet, ops::AsyncFn};

use bytes::Bytes;

use super::steps::{DOMAINS, FOLDERS, ONCE, senders};
use crate::tests::samples::{at, common};
use crate::{
    AccountSieve, Answered, ApiKey, AuditEntry, AuditFilter, Counted, Counts, Credential,
    DeletedMail, Event, EventFilter, Folder, HoldRule, Hook, HookFilter, JunkCounts, LoggedEvent,
    Mail, MailUsage, Mark, Order, Page, QueueFilter, QueueId, Queued, Reference, Retired,
    RetiredFilter, RetiredHook, RetiredHookFilter, RowFilter, RowPage, Sent, SieveDay, Store,
    StoreError, Suppression, Time, Trained,
};

/// All that a store shows.
#[derive(Debug, PartialEq)]
pub(super) struct Shown {
    queued: Vec<Queued>,
    retired: Vec<Retired>,
    hooks: Vec<Hook>,
    retired_hooks: Vec<RetiredHook>,
    mails: Vec<Mail>,
    archived: Vec<Mail>,
    deleted: Vec<DeletedMail>,
    /// The mailboxes of each account, and what is in those of one.
    folders: (Vec<Vec<Folder>>, Vec<Option<RowPage>>),
    /// How much mail each account has, how much refused mail, and how much deleted mail.
    usage: Vec<[MailUsage; 3]>,
    last_text: u64,
    api_keys: Vec<ApiKey>,
    events: Vec<Vec<LoggedEvent>>,
    counted: Vec<Vec<(Counted, u64)>>,
    answered: Vec<Option<Answered>>,
    sieve: Vec<(AccountSieve, SieveDay)>,
    sent: Vec<Sent>,
    known: Vec<bool>,
    learnt: (JunkCounts, Vec<Vec<Mark>>, Vec<Option<Trained>>),
    texts: Vec<Option<Bytes>>,
    audit: [Vec<AuditEntry>; 2],
    credentials: Vec<Option<Credential>>,
    suppressions: Vec<Suppression>,
    hold_rules: Vec<HoldRule>,
    /// The result of each filter, in both orders.
    listed: Vec<Vec<QueueId>>,
    listed_retired: Vec<Vec<QueueId>>,
    /// Messages by their names.
    found: Vec<BTreeSet<QueueId>>,
    counts: Counts,
}

/// All that a filter finds, page by page.
pub(super) async fn pages<T>(
    page: impl AsyncFn(Option<QueueId>) -> Result<Page<T, QueueId>, StoreError>,
    id: fn(&T) -> QueueId,
) -> Result<Vec<QueueId>, StoreError> {
    let mut ids = Vec::new();
    let mut after = None;
    loop {
        let page = page(after).await?;
        ids.extend(page.items.iter().map(id));
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(ids),
        }
    }
}

pub(super) async fn listed(store: &Store) -> Result<Vec<Vec<QueueId>>, StoreError> {
    let any = QueueFilter::default;
    let filters = [
        QueueFilter {
            account: Some("bob".into()),
            ..any()
        },
        QueueFilter {
            to: Some("@b.example".into()),
            ..any()
        },
        QueueFilter {
            from: Some("@example.org".into()),
            hold: Some(false),
            ..any()
        },
        QueueFilter {
            hold: Some(true),
            ..any()
        },
        QueueFilter {
            transport: Some("other".into()),
            ..any()
        },
        QueueFilter {
            ids: (1..9).map(QueueId).collect(),
            ..any()
        },
        any(),
    ];
    let mut listed = Vec::new();
    for filter in &filters {
        for order in [Order::Ascending, Order::Descending] {
            let page = async |after| store.list(filter, after, order, 3).await;
            listed.push(pages(page, |queued| queued.id).await?);
        }
    }
    Ok(listed)
}

pub(super) async fn listed_retired(store: &Store) -> Result<Vec<Vec<QueueId>>, StoreError> {
    let any = RetiredFilter::default;
    let filters = [
        RetiredFilter {
            account: Some("bob".into()),
            ..any()
        },
        RetiredFilter {
            to: Some("@b.example".into()),
            ..any()
        },
        RetiredFilter {
            recipient: Some("x@a.example".into()),
            ..any()
        },
        RetiredFilter {
            success: Some(false),
            ..any()
        },
        RetiredFilter {
            success: Some(true),
            ..any()
        },
    ];
    let mut listed = Vec::new();
    for filter in &filters {
        for order in [Order::Ascending, Order::Descending] {
            let page = async |after| store.list_retired(filter, after, order, 2).await;
            listed.push(pages(page, |retired| retired.message.id).await?);
        }
    }
    Ok(listed)
}

pub(super) async fn found(store: &Store) -> Result<Vec<BTreeSet<QueueId>>, StoreError> {
    let ids: Vec<String> = (0..8).map(|id| format!("id{id}")).collect();
    let common = common();
    let by_id = ids.iter().map(|id| (Reference::FromId(id), None, None));
    let message_id = Reference::MessageId(&common.message_id);
    let others = [
        (message_id, None, None),
        (message_id, None, Some("bob")),
        (message_id, Some("X@A.example"), None),
        (Reference::Envid("given"), None, None),
        (Reference::Transaction("own0"), None, None),
        (Reference::Transaction("own1"), Some("x@a.example"), None),
        (Reference::Transaction("own2"), None, Some("bob")),
    ];
    let mut all = Vec::new();
    for (reference, recipient, account) in by_id.chain(others) {
        let found = store.find(reference, recipient, account, 10_000).await;
        let found = found?;
        all.push(found.iter().map(|found| found.message().id).collect());
    }
    Ok(all)
}

/// The mailboxes of each account, and their mails in pages.
async fn folders(store: &Store) -> Result<(Vec<Vec<Folder>>, Vec<Option<RowPage>>), StoreError> {
    let (mut all, mut pages) = (Vec::new(), Vec::new());
    for account in ["ann", "bob"] {
        all.push(store.folders(account).await?);
        for mailbox in FOLDERS {
            let folder = (account, mailbox);
            let unseen = RowFilter {
                unseen: true,
                ..RowFilter::default()
            };
            for (filter, below, part) in [
                (RowFilter::default(), None, (0, 1000)),
                (RowFilter::default(), Some(6), (1, 2)),
                (unseen, None, (1, 3)),
            ] {
                pages.push(store.list_rows(folder, filter, below, part).await?);
            }
        }
    }
    Ok((all, pages))
}

pub(super) async fn shown(store: &Store) -> Result<Shown, StoreError> {
    let queued = store
        .list(&QueueFilter::default(), None, Order::Ascending, 10_000)
        .await?
        .items;
    let retired = store
        .list_retired(&RetiredFilter::default(), None, Order::Ascending, 10_000)
        .await?
        .items;
    let hooks = store
        .list_hooks(&HookFilter::default(), None, Order::Ascending, 10_000)
        .await?
        .items;
    let mut mails = Vec::new();
    for account in ["ann", "bob"] {
        mails.extend(store.list_mails(account, None, None, 10_000).await?.items);
    }
    let archived = store.list_mails("ann", Some("Archive"), None, 10_000).await;
    let texts = queued.iter().map(|queued| queued.text);
    let texts = texts.chain(retired.iter().map(|retired| retired.message.text));
    let texts = texts.chain(mails.iter().map(|mail| mail.text));
    let deleted = store.list_deleted("ann", None, 10_000).await?.items;
    let texts = texts.chain(deleted.iter().map(|it| it.mail.text));
    let mut read = Vec::new();
    for id in texts {
        read.push(match store.text(id).await {
            Ok(text) => Some(text.read(0..text.len()).await?),
            Err(StoreError::NoText(_)) => None,
            Err(error) => return Err(error),
        });
    }
    let mut credentials = Vec::new();
    let mut counted = Vec::new();
    let mut sent = Vec::new();
    let mut usage = Vec::new();
    for account in ["ann", "bob"] {
        let kept = store.kept_rejects(account).await?;
        let deleted = store.deleted_usage(account).await?;
        usage.push([store.mail_usage(account).await?, kept, deleted]);
        credentials.push(store.credential(account).await?);
        counted.push(store.counted_events(account, 0..=9).await?);
        sent.push(store.sent(account, Time(0)).await?);
    }
    let mut sieve = Vec::new();
    for account in ["ann", "bob"] {
        let day = store.sieve_day(account, at(100)).await?;
        sieve.push((store.sieve(account).await?, day));
    }
    let mut answered = Vec::new();
    for key in ONCE {
        answered.push(store.answered("ann", key, Time(0)).await?);
    }
    let mut known = Vec::new();
    for domain in DOMAINS {
        let recipient = format!("x@{domain}").parse().unwrap();
        known.push(store.is_known("ann", &recipient).await?);
    }
    let mut trained = Vec::new();
    for mail in &mails {
        trained.push(store.trained(mail.id).await?);
    }
    let learnt = (
        store.junk_counts("ann", (0..5).collect()).await?,
        store.history("ann", &senders()).await?,
        trained,
    );
    let subject = AuditFilter {
        target: Some("target 1".into()),
        ..AuditFilter::default()
    };
    let all = store
        .list_audit(&AuditFilter::default(), None, Order::Descending, 10_000)
        .await;
    let some = store
        .list_audit(&subject, None, Order::Descending, 10_000)
        .await;
    Ok(Shown {
        audit: [all?.items, some?.items],
        learnt,
        texts: read,
        retired_hooks: store
            .list_retired_hooks(
                &RetiredHookFilter::default(),
                None,
                Order::Ascending,
                10_000,
            )
            .await?
            .items,
        credentials,
        counts: Counts {
            journal_bytes: 0,
            ..store.counts().await
        },
        suppressions: store
            .list_suppressions(None, Time(0), None, Order::Ascending, 10_000)
            .await?
            .items,
        hold_rules: store.hold_rules().await?,
        listed: listed(store).await?,
        listed_retired: listed_retired(store).await?,
        found: found(store).await?,
        queued,
        retired,
        hooks,
        archived: archived?.items,
        deleted,
        folders: folders(store).await?,
        usage,
        last_text: store.last_text(),
        api_keys: store.api_keys().await?,
        events: logged_events(store).await?,
        counted,
        answered,
        sieve,
        sent,
        known,
        mails,
    })
}

/// The result of each filter in the logs.
pub(super) async fn logged_events(store: &Store) -> Result<Vec<Vec<LoggedEvent>>, StoreError> {
    let any = || EventFilter {
        account: Some("ann".into()),
        ..EventFilter::default()
    };
    let filters = [
        EventFilter::default(),
        any(),
        EventFilter {
            account: Some("bob".into()),
            ..EventFilter::default()
        },
        EventFilter {
            recipient: Some(format!("x@{}", DOMAINS[1])),
            ..any()
        },
        EventFilter {
            message_id: Some("<1@x.example>".into()),
            ..any()
        },
        EventFilter {
            events: vec![Event::Failed, Event::Delayed],
            since: Some(at(200)),
            before: Some(at(900)),
            ..any()
        },
    ];
    let mut each = Vec::new();
    for filter in &filters {
        for order in [Order::Ascending, Order::Descending] {
            let page = store.list_events(filter, None, order, 10_000).await;
            each.push(page?.items);
        }
    }
    Ok(each)
}
