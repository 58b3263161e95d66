//! Work that takes long for a large text.

use tokio::runtime::{Handle, RuntimeFlavor};

/// The longest text whose reading holds up no other session for a time that matters.
const SHORT: usize = 16 << 10;

/// Does work for that many bytes. If they are many, other tasks of this thread go on in another
/// thread meanwhile.
pub(crate) fn long_work<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    let others = Handle::try_current().is_ok_and(|runtime| {
        // Another kind of runtime has no other thread for them.
        runtime.runtime_flavor() == RuntimeFlavor::MultiThread
    });
    match others && bytes > SHORT {
        true => tokio::task::block_in_place(work),
        false => work(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The runtime has one thread, which the work blocks until another task has run.
    #[test]
    fn other_tasks_go_on_meanwhile() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        let work = runtime.spawn(async move {
            tokio::spawn(async move { sender.send(7).unwrap() });
            long_work(SHORT + 1, || receiver.recv().unwrap())
        });
        assert_eq!(runtime.block_on(work).unwrap(), 7);
        assert_eq!(long_work(SHORT + 1, || 8), 8, "without a runtime");
    }

    #[tokio::test]
    async fn a_runtime_of_one_thread_does_the_work_there() {
        assert_eq!(long_work(SHORT + 1, || 9), 9);
    }
}
