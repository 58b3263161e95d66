//! A disk that counts what fails on it, and how long the journal waits for it.

use std::{io, sync::Arc, time::Instant};

use postrider_observe::{Metrics, metrics::StoreOperation};

use super::{Disk, DiskFile, DiskLock, Open, is_full};

/// Another disk, with counts of it. A disk without room has not failed, so that is not counted.
#[derive(Debug)]
pub(crate) struct CountedDisk {
    disk: Arc<dyn Disk>,
    metrics: Arc<Metrics>,
}

impl CountedDisk {
    pub(crate) fn new(disk: Arc<dyn Disk>, metrics: Arc<Metrics>) -> Self {
        Self { disk, metrics }
    }

    /// Counts the result of a call about a name. That a file is or is not there is an answer.
    fn named<T>(&self, name: &str, result: io::Result<T>) -> io::Result<T> {
        let is_answer = |error: &io::Error| {
            use io::ErrorKind::{AlreadyExists, NotFound};
            matches!(error.kind(), NotFound | AlreadyExists)
        };
        if !result.as_ref().is_err_and(is_answer) {
            let operation = Part::of(name).operation(StoreOperation::Append);
            count(&self.metrics, operation, &result);
        }
        result
    }
}

impl Disk for CountedDisk {
    fn open(&self, name: &str, open: Open) -> io::Result<Box<dyn DiskFile>> {
        let part = Part::of(name);
        let file = self.named(name, self.disk.open(name, open))?;
        Ok(Box::new(CountedFile {
            file,
            part,
            metrics: Arc::clone(&self.metrics),
        }))
    }

    fn create_dir(&self, name: &str) -> io::Result<()> {
        self.named(name, self.disk.create_dir(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.named(to, self.disk.rename(from, to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.named(name, self.disk.remove(name))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.named(dir, self.disk.list(dir))
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let result = self.disk.sync_dir(dir);
        count(&self.metrics, StoreOperation::Sync, &result);
        result
    }

    fn free(&self) -> io::Result<u64> {
        self.disk.free()
    }

    fn lock(&self, name: &str) -> io::Result<Option<Box<dyn DiskLock>>> {
        self.disk.lock(name)
    }
}

/// What a file belongs to.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Part {
    Journal,
    Index,
    Texts,
}

#[derive(Debug)]
struct CountedFile {
    file: Box<dyn DiskFile>,
    part: Part,
    metrics: Arc<Metrics>,
}

impl Part {
    fn of(name: &str) -> Self {
        match name.split('/').next() {
            Some("journal") => Self::Journal,
            Some("texts") => Self::Texts,
            _ => Self::Index,
        }
    }

    /// What a change of a file of this part is for.
    const fn operation(self, in_journal: StoreOperation) -> StoreOperation {
        match self {
            Self::Journal => in_journal,
            Self::Index => StoreOperation::Checkpoint,
            Self::Texts => StoreOperation::Body,
        }
    }
}

impl CountedFile {
    /// Counts the result of a write or a sync.
    fn written(&self, in_journal: StoreOperation, result: io::Result<()>) -> io::Result<()> {
        count(&self.metrics, self.part.operation(in_journal), &result);
        result
    }
}

fn count<T>(metrics: &Metrics, operation: StoreOperation, result: &io::Result<T>) {
    if result.as_ref().is_err_and(|error| !is_full(error)) {
        metrics.store_errors_total.with(operation).inc();
    }
}

impl DiskFile for CountedFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let result = self.file.read_at(buf, offset);
        count(&self.metrics, StoreOperation::Read, &result);
        result
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let result = self.file.write_at(buf, offset);
        self.written(StoreOperation::Append, result)
    }

    fn size(&self) -> io::Result<u64> {
        let result = self.file.size();
        count(&self.metrics, StoreOperation::Read, &result);
        result
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        let result = self.file.set_size(size);
        self.written(StoreOperation::Append, result)
    }

    /// The journal syncs its batches so, and nothing else.
    fn sync_data(&self) -> io::Result<()> {
        let begun = Instant::now();
        let result = self.file.sync_data();
        if self.part == Part::Journal {
            let duration = &self.metrics.store_sync_duration_seconds;
            duration.observe(begun.elapsed());
        }
        self.written(StoreOperation::Sync, result)
    }

    fn sync_all(&self) -> io::Result<()> {
        let result = self.file.sync_all();
        self.written(StoreOperation::Sync, result)
    }
}

#[cfg(test)]
mod tests {
    use postrider_observe::metrics::Label;

    use super::{
        super::sim::{Calls, SimDisk},
        *,
    };

    fn errors(metrics: &Metrics) -> Vec<(&'static str, u64)> {
        let all = StoreOperation::ALL.iter();
        let counts = all.map(|operation| {
            (
                operation.text(),
                metrics.store_errors_total.with(*operation),
            )
        });
        let counts = counts.map(|(text, count)| (text, count.get()));
        counts.filter(|(_, count)| *count > 0).collect()
    }

    #[test]
    fn failures_count_by_what_they_interrupt() {
        for (name, call, expected) in [
            ("journal/1.seg", Calls::Write, "append"),
            ("journal/1.seg", Calls::Sync, "sync"),
            ("journal/1.seg", Calls::Read, "read"),
            ("index.redb", Calls::Write, "checkpoint"),
            ("index.redb", Calls::Sync, "checkpoint"),
            ("texts/00/1", Calls::Write, "body"),
        ] {
            let sim = Arc::new(SimDisk::new(1));
            let metrics = Arc::<Metrics>::default();
            let disk = CountedDisk::new(sim.clone(), Arc::clone(&metrics));
            for folder in ["journal", "texts", "texts/00"] {
                disk.create_dir(folder).unwrap();
            }
            let file = disk.open(name, Open::New).unwrap();
            file.write_at(b"text", 0).unwrap();
            file.sync_data().unwrap();
            assert_eq!(errors(&metrics), []);
            let syncs = u64::from(name.starts_with("journal"));
            assert_eq!(metrics.store_sync_duration_seconds.count(), syncs);
            sim.fail_call_after(call, 0);
            let failed = match call {
                Calls::Write => file.write_at(b"text", 4),
                Calls::Sync => file.sync_data(),
                _ => file.read_at(&mut [0; 4], 0),
            };
            assert!(failed.is_err(), "{name} {expected}");
            assert_eq!(errors(&metrics), [(expected, 1)], "{name}");
        }
    }

    #[test]
    fn failures_of_names_count_and_answers_do_not() {
        let sim = Arc::new(SimDisk::new(1));
        let metrics = Arc::<Metrics>::default();
        let disk = CountedDisk::new(sim.clone(), Arc::clone(&metrics));
        disk.create_dir("journal").unwrap();
        drop(disk.open("journal/1.seg", Open::New).unwrap());
        // There is such a file, and there is none.
        assert!(disk.open("journal/1.seg", Open::New).is_err());
        assert!(disk.open("journal/2.seg", Open::Existing).is_err());
        assert_eq!(errors(&metrics), []);
        let failing: [(Calls, &dyn Fn() -> bool, _); 4] = [
            (
                Calls::Open,
                &|| disk.open("journal/2.seg", Open::New).is_err(),
                ("append", 1),
            ),
            (
                Calls::Open,
                &|| disk.list("journal").is_err(),
                ("append", 2),
            ),
            (
                Calls::Name,
                &|| disk.rename("journal/1.seg", "journal/3.seg").is_err(),
                ("append", 3),
            ),
            (
                Calls::Name,
                &|| disk.remove("journal/1.seg").is_err(),
                ("append", 4),
            ),
        ];
        for (call, fails, expected) in failing {
            sim.fail_call_after(call, 0);
            assert!(fails(), "{expected:?}");
            assert_eq!(errors(&metrics), [expected]);
        }
    }

    #[test]
    fn a_full_disk_is_no_failure() {
        let metrics = Metrics::default();
        let full = Err::<(), _>(io::ErrorKind::StorageFull.into());
        count(&metrics, StoreOperation::Append, &full);
        assert_eq!(errors(&metrics), []);
    }
}
