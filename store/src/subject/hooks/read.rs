//! Questions about calls of webhooks.

use super::{Hook, HookFilter, HookId, RetiredHook, RetiredHookFilter};
use crate::{Order, Page, Store, StoreError, subject::Listing};

questions! {
    ask One { id: HookId } -> Option<Hook>,
    |this, state| state.hooks.hooks.get(&this.id),
    |this, model| model.hooks.hooks.get(&this.id).cloned();

    scan List { filter: HookFilter, after: Option<HookId>, order: Order, limit: usize }
        -> Page<Hook, HookId>,
    |this, reader| reader.list(
        &this.filter.ids,
        Listing {
            group: this.filter.account.clone(),
            after: this.after,
            order: this.order,
            limit: this.limit,
        },
        |state| &state.hooks.hooks,
        |hook| this.filter.matches_but_for_ids(hook),
    ),
    |this, model| model.hooks.list(this);

    scan ListRetired { filter: RetiredHookFilter, after: Option<HookId>, order: Order, limit: usize }
        -> Page<RetiredHook, HookId>,
    |this, reader| reader.list(
        &this.filter.ids,
        Listing {
            group: this.filter.account.clone(),
            after: this.after,
            order: this.order,
            limit: this.limit,
        },
        |state| &state.hooks.retired,
        |retired| this.filter.matches_but_for_ids(retired),
    ),
    |this, model| model.hooks.list_retired(this);
}

impl Store {
    /// A call that is to be made.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn hook(&self, id: HookId) -> Result<Option<Hook>, StoreError> {
        self.ask(One { id }).await
    }

    /// Calls that are to be made, by number in either order, beginning behind `after`.
    ///
    /// # Errors
    /// If they can't be read.
    pub async fn list_hooks(
        &self,
        filter: &HookFilter,
        after: Option<HookId>,
        order: Order,
        limit: usize,
    ) -> Result<Page<Hook, HookId>, StoreError> {
        let filter = filter.clone();
        self.scan(List {
            filter,
            after,
            order,
            limit,
        })
        .await
    }

    /// Calls in the history, by number in either order, beginning behind `after`.
    ///
    /// # Errors
    /// If they can't be read.
    pub async fn list_retired_hooks(
        &self,
        filter: &RetiredHookFilter,
        after: Option<HookId>,
        order: Order,
        limit: usize,
    ) -> Result<Page<RetiredHook, HookId>, StoreError> {
        let filter = filter.clone();
        self.scan(ListRetired {
            filter,
            after,
            order,
            limit,
        })
        .await
    }
}
