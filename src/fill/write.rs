//! Writes complete responses to the store.

use std::{
    sync::{Arc, Weak},
    task::Context,
};

use bytes::Bytes;
use tokio::time::timeout;

use crate::{
    coordination::{fills::Fill, leader::Leader},
    entry::{key::CacheKey, response::StoredResponse, url_keys::AppliedRule},
    policy::compiled::CompiledPolicy,
    semantics::content_tag::content_tag,
    shared::Shared,
    store::interface::Put,
};

/// A response that will be stored, and the data that the cache needs to write it to the store.
pub(crate) struct Write {
    pub(crate) shared: Arc<Shared>,
    /// The rule whose policy applies to the request.
    pub(crate) rule: AppliedRule,
    pub(crate) key: CacheKey,
    pub(crate) fill: Fill,
    pub(crate) leader: Option<Leader>,
    pub(crate) draft: StoredResponse,
    /// The stored response that this one replaces, while it is in memory.
    pub(crate) replaced: Weak<StoredResponse>,
}

impl Write {
    /// Returns the policy that applies to the request.
    pub(crate) fn policy(&self) -> &CompiledPolicy {
        self.shared.policy(self.rule)
    }

    /// Sets the body of the response that will be stored, and its entity tag if the cache makes it.
    pub(crate) fn with_body(mut self, body: Bytes) -> Self {
        self.draft.body = self.replaced_body(&body).unwrap_or(body);
        let makes_tag = self.policy().makes_content_tags();
        if let Some(tag) = makes_tag.then(|| content_tag(&self.draft)).flatten() {
            self.draft.add_etag_of_cache(tag);
        }
        self
    }

    /// Returns the body of the replaced response if its bytes are equal to these, so that both
    /// responses share memory.
    pub(super) fn replaced_body(&self, bytes: &[u8]) -> Option<Bytes> {
        let replaced = self.replaced.upgrade()?;
        (*replaced.body == *bytes).then(|| replaced.body.clone())
    }

    /// Starts the write. If the store answers at once (as a memory store does), the response is
    /// stored when this method returns. Otherwise, a task completes the write while the client
    /// already receives the response.
    pub(crate) fn start(self, cx: &mut Context<'_>) {
        let length = self.draft.body.len();
        let Some(permit) = self.shared.store.coordinator().try_begin_write(length) else {
            log::trace!("not stored: too many writes are in progress");
            return;
        };
        let limit = self.shared.settings.store_timeout;
        let mut work = Box::pin(async move {
            let _permit = permit;
            self.put().await;
        });
        if work.as_mut().poll(cx).is_pending() {
            // The task is spawned by tokio, because `actix_web::rt::spawn` needs a `LocalSet`.
            // Tests of applications may run without a `LocalSet`.
            tokio::spawn(timeout(limit, work));
        }
    }

    async fn put(mut self) {
        let ttl =
            self.draft.lifetime.remaining(self.draft.lifetime.response_time).unwrap_or_default();
        let store = &self.shared.store;
        let held_bodies = store.coordinator().held_bodies();
        let body = self.leader.is_some().then(|| held_bodies.hold_new(&self.key, &self.draft.body));
        match store.put(&self.key, Arc::new(self.draft), &self.fill).await {
            Ok(Put::Stored) => {
                log::debug!("store ttl={}", ttl.as_secs());
                if let Some(leader) = self.leader {
                    leader.finish_stored(body);
                }
            }
            Ok(Put::TooLarge) => {
                log::debug!("not stored: the response is larger than the store accepts");
                let now = self.shared.now();
                store.coordinator().mark_too_large(&self.key, now);
                if let Some(leader) = &mut self.leader {
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
