//! Data folders of each stored format, as a killed process left them.
//!
//! `testdata/store/format-N` is a folder, packed into a file, that a program of format N wrote with
//! [`fill`]. A test opens each and looks at what it shows. [`write_a_sample`] writes one.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{super::backup::missing_rows_are_found, shown::shown, steps::*};
use crate::{
    Accept, AuditFilter, Credential, EventFilter, HoldFilter, HookFilter, INLINE_TEXT_MAX,
    NewApiKey, NewHookKind, NextAttempt, Options, Order, Outcome, QueueFilter, RetiredFilter,
    RetiredHookFilter, Scope, Store, TextId, TextSource,
    disk::FsDisk,
    engine::journal::{FORMAT, Mode, OLDEST},
    inspect,
    table::value::append,
    tests::samples::*,
};

/// Bytes that are stored together.
const BLOCK: usize = 4096;

/// The files of a folder: the name of each, and its content as blocks that stand so many times.
/// Zeros at the end of a block are left out.
type Packed = BTreeMap<String, (u64, Vec<(u32, Vec<u8>)>)>;

fn pack(dir: &Path, below: &str, packed: &mut Packed) {
    for entry in fs::read_dir(dir.join(below)).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{below}{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            pack(dir, &format!("{name}/"), packed);
            continue;
        }
        let content = fs::read(entry.path()).unwrap();
        let mut blocks: Vec<(u32, Vec<u8>)> = Vec::new();
        for block in content.chunks(BLOCK) {
            let len = block
                .iter()
                .rposition(|byte| *byte != 0)
                .map_or(0, |at| at + 1);
            match blocks.last_mut() {
                Some((count, last)) if *last == block[..len] => *count += 1,
                _ => blocks.push((1, block[..len].to_vec())),
            }
        }
        packed.insert(name, (content.len() as u64, blocks));
    }
}

fn unpack(packed: &Packed, dir: &Path) {
    for (name, (len, blocks)) in packed {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut content = Vec::new();
        for (count, block) in blocks {
            for _ in 0..*count {
                let end = content.len() + BLOCK;
                content.extend_from_slice(block);
                content.resize(end, 0);
            }
        }
        content.resize(usize::try_from(*len).unwrap(), 0);
        fs::write(path, content).unwrap();
    }
}

fn options(dir: &Path) -> Options {
    Options {
        segment_size: 64 << 10,
        checkpoint_interval: Duration::MAX,
        changes_in_memory: 1 << 20,
        ..Options::new(dir)
    }
}

/// Brings records of all kinds, and ends some of them. The first half goes to the index, the second
/// half stays in the journal.
async fn fill(store: &Store) {
    for half in 0..2_u8 {
        let from = u64::from(half) * 8;
        let now = at(100 + i64::from(half));
        let mut accept = message(&["x@a.example", "Y@b.example", "\"a b\"@[192.0.2.1]"]);
        for message in &mut accept.queue {
            message.common.envid = format!("envid {half}");
            for (number, recipient) in (from..).zip(&mut message.recipients) {
                recipient.from_id = format!("id{number}");
            }
        }
        accept.mails = vec![mail("Inbox", TextSource::New)];
        accept.hooks = vec![
            hook(URLS[0], NewHookKind::Incoming(0), now),
            hook(
                URLS[1],
                event(crate::Event::Delivered, crate::QueueId(1)),
                now,
            ),
        ];
        accept.suppress = vec![suppression(half, now)];
        accept.events = vec![logged(1, now), logged(2, now)];
        accept.once = Some(done_once(half, now));
        store.accept(accept).await.unwrap();
        let mut writer = store.text_writer();
        writer
            .write(&vec![b'x'; INLINE_TEXT_MAX + 1])
            .await
            .unwrap();
        let large = Accept {
            text: Some(writer.finish().await.unwrap()),
            ..message(&["held@c.example"])
        };
        store.accept(large).await.unwrap();
        let staged = store.stage(inline("Staged\r\n")).await.unwrap();
        let mut batch = message(&["z@a.example"]).queue.remove(0);
        batch.text = TextSource::Existing(staged);
        store.accept_all(vec![batch], None).await.unwrap();
        let rule = HoldFilter {
            account: Some("bob".into()),
            ..HoldFilter::default()
        };
        store.add_hold_rule(rule, now).await.unwrap();
        store.add_api_key(key(now)).await.unwrap();
        let credential = Credential {
            argon2: "hash".into(),
            set: now,
            ..Credential::default()
        };
        store.set_credential("ann", Some(credential)).await.unwrap();
        store.audit(audited(half, now)).await.unwrap();

        let claimed = store.claim(claim(now)).await.unwrap().messages;
        let fates = [KEPT, GONE, Outcome::Retry(at(500)), Outcome::Release];
        let settles = claimed.iter().zip(fates);
        let settles =
            settles.map(|(queued, outcome)| settlement(queued, outcome, true, Some(2), None, now));
        store.settle(settles.collect()).await.unwrap();
        let hooks = store.claim_hooks(claim_hooks(now)).await.unwrap().hooks;
        let settles = hooks.iter().zip([KEPT, Outcome::Retry(at(600))]);
        let settles = settles.map(|(hook, outcome)| settle_hook(hook, outcome));
        store.settle_hooks(settles.collect()).await.unwrap();
        let later = NextAttempt::Shift(1_000_000);
        let hooks = vec![crate::HookId(from / 2 + 2)];
        store.schedule_hooks(hooks, later).await.unwrap();
        if half == 0 {
            store.checkpoint().await;
        }
    }
}

fn key(created: crate::Time) -> NewApiKey {
    NewApiKey {
        name: "a key".into(),
        account: "ann".into(),
        hash: [7; 32],
        scopes: vec![Scope::Send],
        created,
        expires: None,
        domains: Vec::new(),
        legacy_status: false,
        tenant: String::new(),
    }
}

/// What a store shows of everything, in words that do not depend on the shape of a record.
async fn facts(store: &Store) -> Vec<String> {
    let up = Order::Ascending;
    let mut facts = Vec::new();
    let page = store.list(&QueueFilter::default(), None, up, 99).await;
    for it in page.unwrap().items {
        let (id, text) = (it.id, text(store, it.text).await.map(|text| text.len()));
        let to = it.recipient.to_string();
        facts.push(format!(
            "queued {id} {to} {} {:?} {} {} {} {} {text:?}",
            it.common.subject,
            it.common.extra,
            it.next_attempt,
            it.attempts,
            it.results.len(),
            it.from_id
        ));
    }
    let page = store
        .list_retired(&RetiredFilter::default(), None, up, 99)
        .await;
    for it in page.unwrap().items {
        let to = it.message.recipient.to_string();
        let results = it.message.results.len();
        facts.push(format!(
            "retired {} {to} {} {} {results}",
            it.message.id, it.success, it.keep_until
        ));
    }
    let page = store.list_hooks(&HookFilter::default(), None, up, 99).await;
    for it in page.unwrap().items {
        let (id, url, due) = (it.id, it.url, it.next_attempt);
        facts.push(format!("hook {id} {url} {due} {}", it.results.len()));
    }
    let page = store
        .list_retired_hooks(&RetiredHookFilter::default(), None, up, 99)
        .await;
    for it in page.unwrap().items {
        facts.push(format!("retired hook {} {}", it.hook.id, it.success));
    }
    let page = store.list_mails("ann", None, None, 99).await.unwrap();
    for it in page.items {
        facts.push(format!(
            "mail {} {} {:?} {}",
            it.id, it.mailbox, it.flags, it.text
        ));
    }
    let usage = store.mail_usage("ann").await.unwrap();
    facts.push(format!("usage {} {}", usage.mails, usage.bytes));
    for account in ["ann", "bob"] {
        let page = store
            .list_suppressions(Some(account), at(100), None, Order::Ascending, 99)
            .await;
        for it in page.unwrap().items {
            facts.push(format!(
                "suppressed {} {} {}",
                it.account, it.base, it.created
            ));
        }
        let filter = EventFilter {
            account: Some(account.into()),
            ..EventFilter::default()
        };
        let page = store.list_events(&filter, None, up, 99).await;
        for it in page.unwrap().items {
            facts.push(format!(
                "event {} {} {:?}",
                it.id, it.recipient, it.told.event
            ));
        }
    }
    for (lane, head) in store.lanes(None, 99).await.unwrap() {
        facts.push(format!("lane {lane} {head}"));
    }
    for it in store.hold_rules().await.unwrap() {
        facts.push(format!("rule {} {:?}", it.id, it.filter.account));
    }
    for it in store.api_keys().await.unwrap() {
        facts.push(format!("key {} {}", it.id, it.created));
    }
    let page = store
        .list_audit(&AuditFilter::default(), None, Order::Descending, 99)
        .await;
    for it in page.unwrap().items {
        facts.push(format!("audit {} {}", it.id, it.target));
    }
    let credential = store.credential("ann").await.unwrap();
    facts.push(format!("credential {:?}", credential.map(|it| it.set)));
    facts.push(format!("{:?}", text(store, TextId(1)).await));
    facts
}

fn packed(format: u32) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/store");
    root.join(format!("format-{format}"))
}

/// Opens the folder of a format.
fn open(format: u32, dir: &Path) -> Store {
    let path = packed(format);
    let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    unpack(&postcard::from_bytes(&bytes).unwrap(), dir);
    let disk = Arc::new(FsDisk::open(dir).unwrap());
    let opened = Store::open_on(disk, &options(dir), Mode::Inline(2));
    opened.unwrap_or_else(|error| panic!("format {format}: {error}"))
}

/// The same content in the model, after the end of the process that made it.
async fn model() -> Store {
    let model = Store::memory();
    fill(&model).await;
    model.crash();
    model
}

/// Writes the sample of the present format. A sample of a released format is never written again:
/// so a changed record without a new version fails the tests below.
#[tokio::test]
#[ignore = "it writes the sample of a new format"]
async fn write_a_sample() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(FsDisk::open(dir.path()).unwrap());
    let store = Store::open_on(disk, &options(dir.path()), Mode::Inline(1)).unwrap();
    fill(&store).await;
    let mut files = Packed::new();
    pack(dir.path(), "", &mut files);
    store.close().await;
    let path = packed(FORMAT);
    assert!(!path.exists(), "{} is there", path.display());
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut bytes = Vec::new();
    append(&files, &mut bytes);
    fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn a_folder_of_each_format_shows_what_was_stored() {
    let expected = facts(&model().await).await;
    for format in OLDEST..=FORMAT {
        let dir = tempfile::tempdir().unwrap();
        for start in ["the first", "a later"] {
            let store = match start {
                "the first" => open(format, dir.path()),
                _ => Store::open(options(dir.path())).unwrap(),
            };
            assert_eq!(facts(&store).await, expected, "{format}, {start} start");
            assert_eq!(store.set_aside().await, 0);
            store.close().await;
        }
    }
}

#[tokio::test]
async fn a_folder_of_the_present_format_shows_exactly_what_the_model_shows() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(FORMAT, dir.path());
    let (shows, expected) = (shown(&store).await, shown(&model().await).await);
    assert_eq!(shows.unwrap(), expected.unwrap());
    store.close().await;
}

#[tokio::test]
async fn folders_of_each_format_are_sound_and_missing_rows_are_found() {
    for format in OLDEST..=FORMAT {
        let dir = tempfile::tempdir().unwrap();
        let bytes = fs::read(packed(format)).unwrap();
        unpack(&postcard::from_bytes(&bytes).unwrap(), dir.path());
        let found = inspect(dir.path()).unwrap();
        assert_eq!(found.faults, [""; 0], "{format}");
        if format == FORMAT {
            // No entry of the journal puts a row back when the index has them all.
            Store::open(options(dir.path())).unwrap().close().await;
            missing_rows_are_found(dir.path());
        }
    }
}

#[test]
fn a_packed_folder_comes_back() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut mixed = vec![7; BLOCK * 3 + 5];
    mixed[BLOCK..BLOCK * 2].fill(0);
    let files = [
        ("zeros", vec![0; BLOCK * 2 + 1]),
        ("a/mixed", mixed),
        ("a/b/empty", Vec::new()),
        ("short", b"text\0".to_vec()),
        ("same", vec![1; BLOCK * 4]),
    ];
    for (name, content) in &files {
        let path = from.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let mut packed = Packed::new();
    pack(from.path(), "", &mut packed);
    unpack(&packed, to.path());
    for (name, content) in files {
        assert_eq!(fs::read(to.path().join(name)).unwrap(), content, "{name}");
    }
}
