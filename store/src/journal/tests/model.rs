//! Random courses of appends, failures and crashes, compared with a model.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{super::*, SEGMENT, active, open};
use crate::disk::{Disk, sim::SimDisk};

/// A journal with the knowledge of its caller: the entries that must be there, and the entries that
/// may be.
struct Rig {
    disk: SimDisk,
    journal: Option<Journal>,
    checkpoint: Position,
    /// The entries acknowledged since the checkpoint.
    acknowledged: Vec<String>,
    /// The entries of the batch that is unsettled since the start, with the places of their texts.
    unsettled: Vec<(String, Option<TextPlace>)>,
    /// The batches with an unknown fate. The process died in the middle of the append, or the batch
    /// was refused and not canceled yet.
    unknown: Vec<Vec<String>>,
    /// The texts that are alive.
    texts: BTreeMap<String, (TextPlace, Vec<u8>)>,
    next: u64,
}

#[derive(Clone, Debug)]
enum Action {
    /// Appends texts of these lengths. The flag permits the reserve.
    Append(Vec<u16>, bool),
    Checkpoint,
    /// Ends the life of all texts in the oldest segment and releases the segment.
    Release,
    FailSync(u64),
    Space(Option<u64>),
    CopyOnWrite(bool),
    /// The power fails after this number of changes.
    Power(u64),
    Crash,
    Kill,
    /// A clean restart.
    Restart,
}

fn text_of(name: &str, len: u16) -> Vec<u8> {
    name.bytes().cycle().take(len.into()).collect()
}

impl Rig {
    fn new(seed: u64) -> Self {
        let mut rig = Self {
            disk: SimDisk::new(seed),
            journal: None,
            checkpoint: Position::START,
            acknowledged: Vec::new(),
            unsettled: Vec::new(),
            unknown: Vec::new(),
            texts: BTreeMap::new(),
            next: 0,
        };
        rig.open();
        rig
    }

    fn append(&mut self, lens: &[u16], space: Space) {
        let mut batch = Batch::new();
        let mut names = Vec::new();
        for len in lens {
            let name = self.next.to_string();
            self.next += 1;
            batch.push(1, name.as_bytes(), &text_of(&name, *len));
            names.push(name);
        }
        let Some(journal) = &mut self.journal else {
            return;
        };
        let before = journal.end();
        let result = journal.append(&mut batch, space);
        let began_another = journal.end().generation != before.generation;
        if !journal.is_unsettled() {
            for (name, place) in std::mem::take(&mut self.unsettled) {
                self.acknowledge(name, place);
            }
        }
        match result {
            Ok(appended) => {
                for (name, place) in names.into_iter().zip(appended.texts) {
                    self.acknowledge(name, place);
                }
                // This cancels every batch that was refused before.
                self.unknown.clear();
            }
            // Another segment was begun. That cancels the batch.
            Err(AppendError::Failed(_)) if began_another => self.unknown.clear(),
            Err(AppendError::TooLarge { .. }) => {}
            Err(_) => self.unknown.push(names),
        }
    }

    /// The entry is durable.
    fn acknowledge(&mut self, name: String, place: Option<TextPlace>) {
        if let Some(place) = place {
            let len = u16::try_from(place.len).unwrap();
            let text = text_of(&name, len);
            self.texts.insert(name.clone(), (place, text));
        }
        self.acknowledged.push(name);
    }

    fn run(&mut self, action: &Action) {
        match action {
            Action::Append(lens, reserve) => {
                self.append(
                    lens,
                    if *reserve {
                        Space::Reserve
                    } else {
                        Space::Ordinary
                    },
                );
            }
            Action::Checkpoint => {
                if let Some(journal) = &self.journal
                    && !journal.is_unsettled()
                {
                    self.checkpoint = journal.end();
                    self.acknowledged.clear();
                }
            }
            Action::Release => {
                if let Some(journal) = &mut self.journal
                    && let Some(oldest) = journal.segments().first()
                    && oldest.generation < self.checkpoint.generation
                {
                    self.texts
                        .retain(|_, (place, _)| place.generation != oldest.generation);
                    journal.release(oldest.generation);
                }
            }
            Action::FailSync(after) => self.disk.fail_sync_after(*after),
            Action::Space(space) => self.disk.set_space(*space),
            Action::CopyOnWrite(on) => self.disk.set_copy_on_write(*on),
            Action::Power(after) => self.disk.fail_power_after(*after),
            Action::Crash | Action::Kill | Action::Restart => {
                match action {
                    Action::Crash => self.disk.crash(),
                    Action::Kill => self.disk.kill(),
                    _ => {}
                }
                self.journal = None;
                self.open();
            }
        }
    }

    /// Opens the journal and compares. If the power fails meanwhile, the machine is started again.
    fn open(&mut self) {
        let (mut journal, read) = loop {
            match open(&self.disk, Some(self.checkpoint)) {
                // A background step may meet the fault too, and reports nothing.
                Ok(opened) if self.disk.free().is_ok() => break opened,
                // An injected fault of the disk. The machine is started again, on the same disk.
                Ok(_) | Err(JournalError::Io { .. }) => self.disk.crash(),
                Err(error) => panic!("{error}"),
            }
        };
        let names: Vec<String> = read.iter().map(|(name, _)| name.clone()).collect();
        assert!(
            names.starts_with(&self.acknowledged),
            "{names:?} does not begin with {:?}",
            self.acknowledged
        );
        let rest = &names[self.acknowledged.len()..];
        let unsettled = self.unsettled.drain(..).map(|(name, _)| name).collect();
        self.unknown.push(unsettled);
        assert!(
            rest.is_empty() || self.unknown.iter().any(|batch| batch.starts_with(rest)),
            "{rest:?} were never acknowledged, and the batches with an unknown fate are {:?}",
            self.unknown
        );
        self.unknown.clear();
        for (name, place) in read.into_iter().skip(self.acknowledged.len()) {
            if journal.is_unsettled() {
                self.unsettled.push((name, place));
            } else {
                // From now on it counts as acknowledged.
                self.acknowledge(name, place);
            }
        }
        for (place, text) in self.texts.values() {
            assert_eq!(
                journal
                    .reader()
                    .read(*place, 0..u64::from(place.len))
                    .unwrap(),
                text
            );
        }
        // A crash may have undone a release.
        for segment in journal.segments() {
            let alive = self
                .texts
                .values()
                .any(|(place, _)| place.generation == segment.generation);
            if segment.generation < self.checkpoint.generation && !alive {
                journal.release(segment.generation);
            }
        }
        self.journal = Some(journal);
    }

    fn end(mut self) {
        self.disk.set_space(None);
        self.run(&Action::Crash);
        let before = self.acknowledged.len();
        self.append(&[10, 0], Space::Ordinary);
        assert_eq!(
            self.acknowledged.len(),
            before + 2,
            "the journal works after the whole course"
        );
        self.run(&Action::Kill);
        self.run(&Action::Crash);
    }
}

fn action() -> impl Strategy<Value = Action> {
    let len = prop_oneof![Just(0), 1..600_u16, 600..9000_u16];
    prop_oneof![
        20 => (prop::collection::vec(len, 1..5), prop::bool::weighted(0.2))
            .prop_map(|(lens, reserve)| Action::Append(lens, reserve)),
        4 => Just(Action::Checkpoint),
        4 => Just(Action::Release),
        1 => (0..4_u64).prop_map(Action::FailSync),
        1 => prop::option::of(0..100_000_u64).prop_map(Action::Space),
        1 => any::<bool>().prop_map(Action::CopyOnWrite),
        4 => (0..30_u64).prop_map(Action::Power),
        4 => Just(Action::Crash),
        2 => Just(Action::Kill),
        2 => Just(Action::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_acknowledged_entry_is_there_once_and_in_order(
        seed in any::<u64>(),
        actions in prop::collection::vec(action(), 1..60),
    ) {
        let mut rig = Rig::new(seed);
        for action in &actions {
            rig.run(action);
        }
        rig.end();
    }

    #[test]
    fn a_damaged_segment_gives_the_first_entries_or_an_error(
        batches in prop::collection::vec(prop::collection::vec(0..3000_u16, 1..4), 1..5),
        flips in prop::collection::vec((0..SEGMENT as usize, any::<u8>()), 1..4),
    ) {
        let disk = SimDisk::new(1);
        let (mut journal, _) = open(&disk, None).unwrap();
        let mut names = Vec::new();
        for lens in &batches {
            let mut batch = Batch::new();
            for len in lens {
                names.push(names.len().to_string());
                batch.push(1, names[names.len() - 1].as_bytes(), &text_of("text", *len));
            }
            journal.append(&mut batch, Space::Ordinary).unwrap();
        }
        let file = active(&journal);
        drop(journal);
        let mut content = disk.content(&file).unwrap();
        for (at, flip) in &flips {
            content[*at] ^= flip;
        }
        disk.set_content(&file, &content);
        if let Ok((_, read)) = open(&disk, None) {
            let last = batches[batches.len() - 1].len();
            prop_assert!(names.starts_with(&read.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>()));
            // Two flips could damage both the start of the segment and the evidence that it was
            // begun.
            let enough = flips.len() > 1 || read.len() >= names.len() - last;
            prop_assert!(enough, "only the last batch may count as torn");
        }
    }

    #[test]
    fn any_image_is_read_or_refused(image in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(check(&image).is_err());
    }
}

/// A batch whose sync failed is visible after a kill. The disk is too full to write it again. So it
/// counts as there only when an append could settle it.
#[test]
fn a_batch_that_cannot_be_written_again_is_settled_by_the_next_append() {
    for seed in 0..50 {
        let mut rig = Rig::new(seed);
        rig.run(&Action::Append(vec![10], false));
        rig.run(&Action::FailSync(0));
        rig.disk.set_copy_on_write(true);
        // The batch is written. There is no space for the next segment, which would cancel it.
        rig.run(&Action::Space(Some(4096)));
        rig.run(&Action::Append(vec![9, 9], false));
        rig.run(&Action::Kill);
        let unsettled = |rig: &Rig| rig.journal.as_ref().unwrap().is_unsettled();
        assert!(unsettled(&rig));
        rig.run(&Action::Append(vec![20], true));
        assert!(unsettled(&rig));
        if seed % 2 == 0 {
            rig.run(&Action::Space(None));
            rig.run(&Action::Append(vec![20], false));
            assert!(!unsettled(&rig));
            assert_eq!(rig.acknowledged, ["0", "1", "2", "4"]);
        }
        rig.end();
    }
}

/// A fixed course with all events in the life of a segment. The power fails at each change of the
/// disk in turn.
#[test]
fn the_power_may_fail_at_every_point() {
    let course = |rig: &mut Rig| {
        for round in 0..12_u16 {
            rig.run(&Action::Append(vec![4000, 0, 500 * round], false));
            rig.run(&Action::Append(vec![10], true));
            if round % 3 == 2 {
                rig.run(&Action::Checkpoint);
                rig.run(&Action::Release);
            }
            if round == 6 {
                rig.run(&Action::Restart);
            }
        }
    };
    let mut rig = Rig::new(0);
    course(&mut rig);
    let changes = rig.disk.counts().changes;
    rig.end();
    assert!(changes > 60, "{changes}");
    for after in 0..changes {
        for seed in 0..4 {
            let mut rig = Rig::new(seed);
            rig.run(&Action::Power(after));
            course(&mut rig);
            rig.end();
        }
    }
}
