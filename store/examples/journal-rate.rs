//! Measures appends and syncs of the journal on a real disk.
//!
//! `cargo run --release -p postrider-store --example journal-rate -- FOLDER [SECONDS]`
//!
//! The program writes entries of 300 bytes with texts of 4 KiB into FOLDER, in batches of several
//! sizes. It makes FOLDER if needed; remove it afterwards. It releases each old segment, so that
//! segments are recycled. For comparison it measures the disk alone: it overwrites 8 KiB of a file
//! and syncs, again and again.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use postrider_store::{
    disk::{Disk, FsDisk, Open},
    journal::{Batch, Journal, JournalOptions, Space},
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Prints a line: the rate, and the time of each sync.
#[expect(
    clippy::print_stdout,
    reason = "the output is the purpose of this program"
)]
fn report(name: &str, entries: u64, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |part: f64| {
        times
            .get((times.len() as f64 * part) as usize)
            .copied()
            .unwrap_or_default()
            .as_secs_f64()
            * 1e3
    };
    let all: Duration = times.iter().sum();
    println!(
        "{name:<28} {:>9.0} entries/s  {:>7.0} syncs/s  p50 {:>6.3} ms  p99 {:>6.3} ms",
        entries as f64 / all.as_secs_f64(),
        times.len() as f64 / all.as_secs_f64(),
        at(0.5),
        at(0.99),
    );
}

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let folder = PathBuf::from(args.next().ok_or("give a folder to write to")?);
    let each = Duration::from_secs_f64(args.next().map_or(Ok(2.0), |seconds| seconds.parse())?);
    let disk: Arc<dyn Disk> = Arc::new(FsDisk::open(&folder)?);
    for _ in 0..2 {
        raw(&*disk, each)?;
        for size in [1_u64, 8, 32, 100, 500] {
            appends(&disk, each, size)?;
        }
    }
    Ok(())
}

fn raw(disk: &dyn Disk, each: Duration) -> Result<()> {
    let file = disk.open("raw", Open::Either)?;
    let size = 64 * 1024 * 1024;
    file.write_at(&vec![0; size], 0)?;
    file.sync_all()?;
    let block = [1; 8192];
    let mut times = Vec::new();
    let begin = Instant::now();
    while begin.elapsed() < each {
        let start = Instant::now();
        file.write_at(&block, times.len() as u64 * 8192 % size as u64)?;
        file.sync_data()?;
        times.push(start.elapsed());
    }
    report("two blocks, overwritten", times.len() as u64, times);
    disk.remove("raw")?;
    Ok(())
}

fn appends(disk: &Arc<dyn Disk>, each: Duration, size: u64) -> Result<()> {
    let mut journal = Journal::open(
        Arc::clone(disk),
        JournalOptions::default(),
        None,
        &mut |_| Ok(()),
    )?;
    let (op, text) = ([b'o'; 300], [b'b'; 4096]);
    let mut batch = Batch::new();
    let mut times = Vec::new();
    let begin = Instant::now();
    while begin.elapsed() < each {
        let start = Instant::now();
        batch.clear();
        for _ in 0..size {
            batch.push(1, &op, &text);
        }
        let end = journal.append(&mut batch, Space::Ordinary)?.end;
        if let Some(oldest) = journal.segments().first()
            && oldest.generation < end.generation
        {
            journal.release(oldest.generation);
        }
        times.push(start.elapsed());
    }
    report(
        &format!("batches of {size}"),
        times.len() as u64 * size,
        times,
    );
    drop(journal);
    // Each run has its own journal.
    for name in disk.list("journal")? {
        disk.remove(&format!("journal/{name}"))?;
    }
    Ok(())
}
