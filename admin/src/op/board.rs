//! The board of destinations: the sites with most messages, as they were counted lately.

use std::{
    cmp::Reverse,
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use postrider_queue::{SiteView, SiteWaiting};
use postrider_store::StoreError;
use serde::{Deserialize, Serialize};

use super::{Single, destinations::DestinationItem};
use crate::{AdminError, Context};

/// The most sites of a board.
const SITES: usize = 500;
/// Messages are counted in at most one part in so many of the time.
const COUNT_SHARE: u32 = 20;
/// Numbers that are younger than this are good enough.
const FRESH: Duration = Duration::from_secs(2);
/// How long who asks waits for a new count.
const PATIENCE: Duration = Duration::from_millis(30);

/// Lists the sites with most messages, most first.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GetBoard {
    /// Only sites that take no mail, or whose last attempt failed.
    pub failing: bool,
}

/// The sites with most messages.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Board {
    /// The sites, most messages first; 500 at most.
    pub sites: Vec<DestinationItem>,
    /// How many other sites there are.
    pub others: u64,
    /// The messages that wait for those.
    pub others_waiting: u64,
    /// The messages are not counted yet.
    pub is_counting: bool,
}

/// How much waited for each site when it was last counted.
#[derive(Debug, Default)]
pub struct Kept {
    last: Mutex<Option<Counted>>,
    /// The one that counts holds it.
    counting: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Clone, Debug)]
struct Counted {
    at: Instant,
    took: Duration,
    by_site: Arc<Vec<(String, SiteWaiting)>>,
}

impl Kept {
    fn last(&self) -> Option<Counted> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.clone()
    }

    /// How much waits for each site. Who asks waits a moment for a new count if that is due, and
    /// gets the last one if that takes longer. None: nothing was counted yet.
    async fn waiting(self: &Arc<Self>, context: &Context) -> Option<Counted> {
        let is_fresh = self.last().is_some_and(|last| {
            let good_for = FRESH.max(last.took * COUNT_SHARE);
            last.at.elapsed() < good_for
        });
        if !is_fresh && let Ok(held) = Arc::clone(&self.counting).try_lock_owned() {
            let (kept, context) = (Arc::clone(self), context.clone());
            let count = tokio::spawn(async move {
                let counted = kept.count(&context).await;
                drop(held);
                counted
            });
            let _ = tokio::time::timeout(PATIENCE, count).await;
        }
        self.last()
    }

    async fn count(&self, context: &Context) -> Result<(), StoreError> {
        let begun = Instant::now();
        let views: Vec<SiteView> = context.queue.site_views(None);
        let waiting = context.queue.waiting_at(&views).await?;
        let by_site = views.into_iter().map(|view| view.site).zip(waiting);
        let mut by_site: Vec<_> = by_site.collect();
        by_site.sort_by_key(|(_, it)| Reverse(it.waiting + it.held));
        let counted = Counted {
            at: Instant::now(),
            took: begun.elapsed(),
            by_site: Arc::new(by_site),
        };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(counted);
        Ok(())
    }
}

impl Single for GetBoard {
    type Output = Board;

    async fn answer(self, context: &Context) -> Result<Board, AdminError> {
        let counted = context.figures.board.waiting(context).await;
        let mut board = Board {
            is_counting: counted.is_none(),
            ..Board::default()
        };
        let mut views: HashMap<String, SiteView> = context
            .queue
            .site_views(None)
            .into_iter()
            .filter(|view| !self.failing || is_failing(view))
            .map(|view| (view.site.clone(), view))
            .collect();
        let by_site = counted.map(|counted| counted.by_site).unwrap_or_default();
        let mut add = |view: SiteView, waiting: SiteWaiting| {
            if board.sites.len() < SITES {
                board.sites.push((view, waiting).into());
            } else {
                board.others += 1;
                board.others_waiting += waiting.waiting + waiting.held;
            }
        };
        for (site, waiting) in by_site.iter() {
            if let Some(view) = views.remove(site) {
                add(view, *waiting);
            }
        }
        // Those that came since.
        let mut rest: Vec<SiteView> = views.into_values().collect();
        rest.sort_by(|a, b| a.site.cmp(&b.site));
        for view in rest {
            add(view, SiteWaiting::default());
        }
        Ok(board)
    }
}

/// Whether a site takes no mail, or its last attempts failed.
fn is_failing(view: &SiteView) -> bool {
    let error = view.last_error.as_ref().map(|error| error.time);
    view.state.is_halt() || error > view.last_success && error.is_some()
}
