//! A response on its way into the store.

use std::{sync::Arc, task::Context, time::Duration};

use bytes::Bytes;
use tokio::time::timeout;

use crate::{
    coordination::fills::Fill,
    entry::key::CacheKey,
    entry::response::StoredResponse,
    service::collapse::Leader,
    shared::Shared,
    store::interface::{Put, StoreError},
};

/// How long a response may take to be written once its body is complete.
const PUT_LIMIT: Duration = Duration::from_millis(250);

/// Writes that may outlive their requests at once; what is beyond is not stored.
const MAX_WRITES: usize = 256;

/// A response that is going to be stored.
pub(crate) struct Write {
    pub(crate) shared: Arc<Shared>,
    pub(crate) key: CacheKey,
    pub(crate) fill: Fill,
    pub(crate) leading: Option<Leader>,
    pub(crate) draft: StoredResponse,
}

impl Write {
    /// With its body.
    pub(crate) fn of(self, body: Bytes) -> Self {
        Self { draft: StoredResponse { body, ..self.draft }, ..self }
    }

    /// Stores: at once if the store does not wait, else while the client is served already.
    pub(crate) fn start(self, cx: &mut Context<'_>) {
        let Some(place) = self.shared.store.coordinator().try_begin_write(MAX_WRITES) else {
            log::trace!("not stored: too many writes at once");
            return;
        };
        let mut work = Box::pin(async move {
            let _place = place;
            self.put().await;
        });
        if work.as_mut().poll(cx).is_pending() {
            // Not actix's spawn, which wants a local set: tests have none.
            tokio::spawn(timeout(PUT_LIMIT, work));
        }
    }

    async fn put(mut self) {
        let ttl =
            self.draft.lifetime.remaining(self.draft.lifetime.response_time).unwrap_or_default();
        let store = &self.shared.store;
        match store.put(&self.key, Arc::new(self.draft), &self.fill).await {
            Ok(Put::Stored) => {
                log::debug!("store ttl={}", ttl.as_secs());
                if let Some(leading) = self.leading {
                    leading.stored();
                }
            }
            Ok(Put::TooLarge) => {
                log::debug!("not stored: larger than the store keeps");
                if let Some(leading) = &mut self.leading {
                    let now = self.shared.settings.clock.now();
                    leading.mark_hit_for_miss(store.coordinator(), &self.key, now);
                }
            }
            Ok(Put::Outdated) => log::debug!("not stored: overtaken by an invalidation"),
            Err(error) => warn(&self.shared, &error),
        }
    }
}

/// Store trouble, at most once an interval.
pub(crate) fn warn(shared: &Shared, error: &StoreError) {
    if shared.store.coordinator().should_warn_about_store(shared.settings.clock.now()) {
        log::warn!("{}; requests go to their handlers", error.with_cause());
    } else {
        log::trace!("{}", error.with_cause());
    }
}
