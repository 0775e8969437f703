//! Writing a complete response to the store.

use std::{sync::Arc, task::Context};

use bytes::Bytes;
use tokio::time::timeout;

use crate::{
    coordination::{fills::Fill, leader::Leader},
    entry::{key::CacheKey, response::StoredResponse},
    shared::Shared,
    store::interface::Put,
};

/// Writes that may outlive their requests at once. A response beyond that number is not stored.
const MAX_WRITES: usize = 256;

/// A response that is going to be stored.
pub(crate) struct Write {
    pub(crate) shared: Arc<Shared>,
    pub(crate) key: CacheKey,
    pub(crate) fill: Fill,
    pub(crate) leader: Option<Leader>,
    pub(crate) draft: StoredResponse,
}

impl Write {
    /// The write with the body of the response.
    pub(crate) fn with_body(self, body: Bytes) -> Self {
        Self { draft: StoredResponse { body, ..self.draft }, ..self }
    }

    /// Starts to write. A store that answers at once has stored the response when this returns; any
    /// other stores it while the client is already served.
    pub(crate) fn start(self, cx: &mut Context<'_>) {
        let Some(permit) = self.shared.store.coordinator().try_begin_write(MAX_WRITES) else {
            log::trace!("not stored: {MAX_WRITES} writes are in progress");
            return;
        };
        let limit = self.shared.settings.store_timeout;
        let mut work = Box::pin(async move {
            let _permit = permit;
            self.put().await;
        });
        if work.as_mut().poll(cx).is_pending() {
            // `spawn` of tokio, because `spawn` of actix needs a `LocalSet`, which tests of
            // applications lack.
            tokio::spawn(timeout(limit, work));
        }
    }

    async fn put(mut self) {
        let ttl =
            self.draft.lifetime.remaining(self.draft.lifetime.response_time).unwrap_or_default();
        let store = &self.shared.store;
        match store.put(&self.key, Arc::new(self.draft), &self.fill).await {
            Ok(Put::Stored) => {
                log::debug!("store ttl={}", ttl.as_secs());
                if let Some(leader) = self.leader {
                    leader.finish_stored();
                }
            }
            Ok(Put::TooLarge) => {
                log::debug!("not stored: the response is larger than the store accepts");
                if let Some(leader) = &mut self.leader {
                    let now = self.shared.now();
                    leader.mark_hit_for_miss(store.coordinator(), &self.key, now);
                }
            }
            Ok(Put::Outdated) => {
                log::debug!("not stored: the resource was invalidated during the fill");
            }
            Err(error) => self.shared.warn_about_store(&error),
        }
    }
}
