//! More segments than files may be open.

use std::{fs, path::Path, sync::Arc};

use super::{super::*, open_with, options, put};
use crate::disk::FsDisk;

/// The number of files of this folder that the process has open.
fn open_files(folder: &Path) -> usize {
    let handles = fs::read_dir("/proc/self/fd").unwrap();
    let targets = handles.filter_map(|handle| fs::read_link(handle.ok()?.path()).ok());
    targets.filter(|target| target.starts_with(folder)).count()
}

#[test]
fn a_thousand_segments_need_a_few_open_files() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().canonicalize().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(FsDisk::open(&folder).unwrap());
    let options = JournalOptions {
        open_files: 8,
        ..options()
    };
    let (mut journal, _) = open_with(Arc::clone(&disk), options.clone(), None).unwrap();
    let text = |number: usize| vec![u8::try_from(number % 251).unwrap(); 20_000];
    let places: Vec<TextPlace> = (0..1000)
        .map(|number| put(&mut journal, "text", &text(number)).unwrap().texts[0].unwrap())
        .collect();
    assert!(journal.segments().len() >= 1000);
    // The lock and the segment that is written to are open too, and one that is prepared.
    let most = 8 + 4;
    assert!(open_files(&folder) <= most);
    drop(journal);
    let (mut journal, read) = open_with(disk, options, None).unwrap();
    assert_eq!(read.len(), 1000);
    assert!(open_files(&folder) <= most);
    let reader = journal.reader();
    // This text stays readable, whatever else is read, and after its segment is released.
    let kept = reader.text(places[0]).unwrap();
    for (number, place) in places.iter().enumerate() {
        assert_eq!(reader.read(*place, 0..20_000).unwrap(), text(number));
    }
    assert!(open_files(&folder) <= most + 1);
    assert!(journal.release(places[0].generation));
    assert!(matches!(
        reader.text(places[0]),
        Err(ReadError::Released { .. })
    ));
    assert_eq!(kept.read(0..20_000).unwrap(), text(0));
}
