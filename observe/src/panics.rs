//! Panics: each one is counted by the part of the server where it happened, and has a line in the
//! log.
//!
//! A panic ends its task or thread only. What others see of that is up to who waits for the task.
//! Nobody waits for many tasks, so all panics are counted at one place, the hook.
//!
//! The lines of the log are written by a thread, and the process ends with the main thread. A panic
//! of one of these goes to standard error directly too: its line may come too late.
//!
//! The part of the task that runs is the one value of this program that is not passed on as an
//! argument: the hook of a process gets none.

use std::{
    io::{self, Write as _},
    panic::{self, PanicHookInfo},
    path::Path,
    sync::Arc,
    thread,
};

use tracing::error;

use crate::{
    log::WRITER,
    metrics::{Label, Metrics, PanicIn},
};

/// The name that Rust gives to the main thread.
const MAIN: &str = "main";

tokio::task_local! {
    static PART: PanicIn;
}

/// The work of a task of this part.
pub fn within<F: Future>(part: PanicIn, work: F) -> impl Future<Output = F::Output> {
    PART.scope(part, work)
}

/// Does the work of a thread of this part.
pub fn within_thread<T>(part: PanicIn, work: impl FnOnce() -> T) -> T {
    PART.sync_scope(part, work)
}

/// Has all panics of the process counted and logged from now on. With `RUST_BACKTRACE` in the
/// environment, what Rust writes itself goes to standard error too, as it is.
pub fn watch(metrics: Arc<Metrics>) {
    let before = panic::take_hook();
    let is_verbose = std::env::var_os("RUST_BACKTRACE").is_some();
    panic::set_hook(Box::new(move |info| {
        tell(&metrics, info);
        if is_verbose {
            before(info);
        }
    }));
}

fn tell(metrics: &Metrics, info: &PanicHookInfo<'_>) {
    let place = info.location();
    let part = PART.try_with(|part| *part).ok();
    let part = part.or_else(|| place.and_then(|place| part_of(Path::new(place.file()))));
    let part = part.unwrap_or(PanicIn::Other);
    metrics.panics_total.with(part).inc();
    let thread = thread::current();
    if let Some(name @ (MAIN | WRITER)) = thread.name() {
        let error = info.payload_as_str().map_or("", shown);
        let place = place.map(ToString::to_string).unwrap_or_default();
        let line = format!("postrider: panicked: thread={name} place={place} error={error:?}\n");
        // There is no place left to tell of a standard error that fails.
        let _ = io::stderr().write_all(line.as_bytes());
    }
    error!(
        part = part.text(),
        place = place.map(tracing::field::display),
        thread = thread.name(),
        error = info.payload_as_str().map(shown),
        "panicked"
    );
}

/// A message of a panic without the values that it quotes: they may be a part of a mail, or secret.
fn shown(message: &str) -> &str {
    let quotes = [" of `", "slicing `", "value: ", "\n"];
    let ends = quotes.iter().filter_map(|quote| message.find(quote));
    let end = ends.min().unwrap_or(message.len());
    message.get(..end).unwrap_or_default()
}

/// The part that a file of the program belongs to: `queue/src/run.rs` belongs to the deliveries.
/// None: it belongs to several, or to a library.
fn part_of(file: &Path) -> Option<PanicIn> {
    let mut folders = file.components().rev().map(|it| it.as_os_str());
    folders.find(|folder| *folder == "src")?;
    Some(match folders.next()?.to_str()? {
        "smtp" | "receive" => PanicIn::Session,
        "queue" => PanicIn::Delivery,
        "webhook" => PanicIn::Webhook,
        "store" => PanicIn::Store,
        "admin" | "webapi" => PanicIn::Http,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_quotes_nothing() {
        let text = "caf\u{e9} secret";
        type Work = fn(&str) -> usize;
        let cases: [(Work, &str); 3] = [
            (
                |text| text.split_at(4).1.len(),
                "end byte index 4 is not a char boundary; it is inside '\u{e9}' (bytes 3..5)",
            ),
            (
                |text| text.parse().unwrap(),
                "called `Result::unwrap()` on an `Err` ",
            ),
            (
                |text| text.find('z').unwrap(),
                "called `Option::unwrap()` on a `None` value",
            ),
        ];
        for (work, expected) in cases {
            let panic = panic::catch_unwind(|| work(text)).unwrap_err();
            let message = panic.downcast_ref::<String>().map(String::as_str);
            let message = message.or_else(|| panic.downcast_ref::<&str>().copied());
            assert_eq!(shown(message.unwrap()), expected);
        }
    }

    #[test]
    fn a_file_tells_the_part() {
        for (file, part) in [
            ("receive/src/mx.rs", Some(PanicIn::Session)),
            (
                "/build/postrider/smtp/src/server/session.rs",
                Some(PanicIn::Session),
            ),
            ("queue/src/deliver/attempt.rs", Some(PanicIn::Delivery)),
            ("webhook/src/call.rs", Some(PanicIn::Webhook)),
            ("store/src/engine/journal.rs", Some(PanicIn::Store)),
            ("admin/src/op/dns.rs", Some(PanicIn::Http)),
            ("webapi/src/send.rs", Some(PanicIn::Http)),
            ("dns/src/caching.rs", None),
            ("src/server.rs", None),
            (
                "/home/x/.cargo/registry/src/index-1/queue-1.0/src/lib.rs",
                None,
            ),
            ("/rustc/1/library/core/src/option.rs", None),
            ("lib.rs", None),
        ] {
            assert_eq!(part_of(Path::new(file)), part, "{file}");
        }
    }
}
