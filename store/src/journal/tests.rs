//! Tests of the journal.

use std::sync::Arc;

use super::*;
use crate::disk::{FsDisk, sim::SimDisk};

fn options() -> JournalOptions {
    JournalOptions {
        segment_size: 32 * 1024,
        reserve_size: 16 * 1024,
        keep: 2,
        background: false,
        seed: Some(1),
    }
}

type Read = Vec<(Vec<u8>, Option<BodyPlace>)>;

fn open_with(
    disk: Arc<dyn Disk>,
    options: JournalOptions,
    from: Option<Position>,
) -> Result<(Journal, Read), JournalError> {
    let mut read = Vec::new();
    let journal = Journal::open(disk, options, from, &mut |entry| {
        read.push((entry.op.to_vec(), entry.body));
        Ok(())
    })?;
    Ok((journal, read))
}

fn open(disk: &SimDisk, from: Option<Position>) -> Result<(Journal, Read), JournalError> {
    open_with(disk.disk(), options(), from)
}

fn batch(ops: &[(&str, &[u8])]) -> Batch {
    let mut batch = Batch::new();
    for (op, body) in ops {
        batch.push(1, op.as_bytes(), body);
    }
    batch
}

fn ops(read: &Read) -> Vec<&str> {
    read.iter()
        .map(|(op, _)| std::str::from_utf8(op).unwrap())
        .collect()
}

#[test]
fn what_is_appended_is_read_back_in_order_with_its_bodies() {
    for real in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = if real {
            Arc::new(FsDisk::open(folder.path().join("data")).unwrap())
        } else {
            SimDisk::new(1).disk()
        };
        let options = JournalOptions {
            background: real,
            ..options()
        };
        let (mut journal, read) = open_with(Arc::clone(&disk), options.clone(), None).unwrap();
        assert_eq!(ops(&read), [""; 0]);
        let body = vec![b'x'; 5000];
        for number in 0..40 {
            let (one, two) = (format!("a{number}"), format!("b{number}"));
            let appended = journal
                .append(&mut batch(&[(&one, &body), (&two, b"")]), Room::Ordinary)
                .unwrap();
            let place = appended.bodies[0].unwrap();
            assert_eq!(appended.bodies[1], None);
            assert_eq!(journal.reader().read(place, 0..5000).unwrap(), body);
            assert_eq!(
                journal.reader().read(place, 4990..9999).unwrap(),
                body[4990..]
            );
        }
        assert!(journal.segments().len() > 5);
        drop(journal);
        let (_journal, read) = open_with(disk, options, None).unwrap();
        let expected: Vec<String> = (0..40)
            .flat_map(|number| [format!("a{number}"), format!("b{number}")])
            .collect();
        assert_eq!(ops(&read), expected);
    }
}

#[test]
fn a_second_opener_is_refused() {
    let disk = SimDisk::new(1);
    let (journal, _) = open(&disk, None).unwrap();
    assert!(matches!(open(&disk, None), Err(JournalError::InUse)));
    drop(journal);
    open(&disk, None).unwrap();
}
