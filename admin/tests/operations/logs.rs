//! The newest lines of the log.

use postrider_admin::op::logs;
use postrider_observe::log::{Level, Line};

use super::*;

/// Takes items, and waits for nothing.
struct Kept(Vec<logs::LogItem>);

impl Sink<logs::LogItem> for Kept {
    async fn send(&mut self, items: Vec<logs::LogItem>) -> Result<(), AdminError> {
        self.0.extend(items);
        Ok(())
    }
}

/// A filter that matches nothing looks through all lines, up to 16 MiB of them.
#[tokio::test]
async fn a_search_in_the_log_lets_others_run() {
    let desk = Desk::open();
    for number in 0..5000 {
        desk.context.logs.add(Line {
            micros: number,
            level: Level::Debug,
            target: "postrider_queue".into(),
            message: format!("line {number}"),
            event: None,
            fields: Vec::new(),
        });
    }
    let mut kept = Kept(Vec::new());
    let list = logs::List {
        filter: Some("LINE 4999".to_owned()),
        ..logs::List::default()
    };
    let mut turns = 0;
    let others = async {
        loop {
            turns += 1;
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        listed = list.run(&desk.context, &mut kept) => listed.unwrap(),
        () = others => {}
    }
    assert_eq!(kept.0.len(), 1);
    assert!(turns >= 9, "{turns}");
}
