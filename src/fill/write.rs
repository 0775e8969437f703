//! Writes complete responses to the store.

use std::{
    sync::{Arc, Weak},
    task::{Context, Waker},
};

use actix_web::rt::spawn;
use bytes::Bytes;
use futures_util::{FutureExt as _, future::LocalBoxFuture};
use smallvec::SmallVec;
use tokio::time::timeout;

use super::{
    candidate::{Candidate, WriteCoding},
    coded_copies::make_coded_copy,
    whole_body::WholeBody,
};
use crate::{
    coordination::held_bodies::HeldBodies,
    entry::{coded_copy::ContentDigest, content_coding::ContentCoding, response::StoredResponse},
    policy::compiled::CompiledPolicy,
    semantics::content_tag::content_tag,
    store::interface::{Put, StoreError},
};

/// The work that stores a response. The cache starts it once the outcome of the request is reported.
pub(crate) enum StoreWork {
    /// The response is complete.
    Write(Write),
    /// A task receives the body of the response, and then writes the response.
    Receive(LocalBoxFuture<'static, ()>),
}

impl StoreWork {
    /// Starts the work.
    pub(crate) fn start(self) {
        match self {
            Self::Write(write) => write.start(),
            // A server sends the head of a response at once if its body has nothing ready, and the
            // kernel may then hold the body back until the client acknowledges the head. So what the
            // handler has ready is received before the head leaves. A task is polled when it starts,
            // so this poll needs no waker.
            Self::Receive(mut task) => {
                if (&mut task).now_or_never().is_none() {
                    spawn(task);
                }
            }
        }
    }
}

/// A response that will be stored, and the data that the cache needs to write it to the store.
pub(crate) struct Write {
    /// The request whose response will be stored.
    pub(crate) candidate: Box<Candidate>,
    pub(crate) draft: Arc<StoredResponse>,
    /// The stored response that this one replaces, while it is in memory.
    pub(crate) replaced: Weak<StoredResponse>,
}

impl Write {
    /// Makes the write that stores `draft`, a response to the request of `candidate`. Its body may still
    /// be missing.
    pub(crate) fn new(candidate: Box<Candidate>, draft: Arc<StoredResponse>) -> Self {
        Self { candidate, draft, replaced: Weak::new() }
    }

    /// Returns the policy that applies to the request.
    pub(crate) fn policy(&self) -> &CompiledPolicy {
        self.candidate.policy()
    }

    /// Sets the body of the response that will be stored, and its entity tag if the cache makes it.
    pub(crate) fn with_body(self, body: Bytes) -> Self {
        let replaced = self.replaced.upgrade().filter(|replaced| replaced.body == body);
        match replaced {
            Some(replaced) => self.with_body_of(&replaced),
            None => self.with_new_body(body),
        }
    }

    /// Sets the body to that of a stored response, which is not copied and not read again.
    pub(crate) fn with_body_of(mut self, stored: &StoredResponse) -> Self {
        let known = stored.coded.as_ref().map(|coded| coded.content());
        Arc::make_mut(&mut self.draft).body = stored.body.clone();
        self.complete(known)
    }

    /// Sets the body to the whole body of the handler. The draft has a copy of it already, if it must be
    /// copied.
    pub(super) fn with_whole_body(self, body: &WholeBody) -> Self {
        match body {
            WholeBody::Stored(_, stored) => self.with_body_of(stored),
            WholeBody::Kept(bytes) => self.with_new_body(bytes.clone()),
            WholeBody::Copied(_) | WholeBody::TooLarge(_) => self.complete(None),
        }
    }

    fn with_new_body(mut self, body: Bytes) -> Self {
        Arc::make_mut(&mut self.draft).body = body;
        self.complete(None)
    }

    /// Completes the draft by what follows from its body. `known` is the digest of the body, if it is
    /// known.
    fn complete(mut self, known: Option<ContentDigest>) -> Self {
        let makes_tag = self.policy().makes_content_tags();
        if let Some(tag) = makes_tag.then(|| content_tag(&self.draft)).flatten() {
            Arc::make_mut(&mut self.draft).add_etag_of_cache(tag);
        }
        let min_size = self.policy().compression().map(|compression| compression.min_size);
        let is_large = min_size.is_some_and(|least| self.draft.body.len() >= least);
        if matches!(self.candidate.coding, WriteCoding::ByCache { .. }) && is_large {
            Arc::make_mut(&mut self.draft).allow_coded_copies(known);
        }
        self
    }

    /// Returns the content codings in which copies of the new response are made at once: the one that
    /// the client prefers, and those of the copies of the replaced response.
    fn wanted_codings(&self) -> SmallVec<[ContentCoding; 3]> {
        let WriteCoding::ByCache { preferred } = self.candidate.coding else {
            return SmallVec::new();
        };
        let replaced = self.replaced.upgrade();
        let of_replaced = |coding: &ContentCoding| {
            replaced.as_ref().is_some_and(|stored| stored.usable_copy(*coding).is_some())
        };
        let others = ContentCoding::ALL.into_iter().filter(|coding| Some(*coding) != preferred);
        preferred.into_iter().chain(others.filter(of_replaced)).collect()
    }

    /// Starts the write. If the store answers at once (as a memory store does), the response is
    /// stored when this method returns. Otherwise, a task completes the write while the client
    /// already receives the response.
    pub(crate) fn start(self) {
        let store = &self.candidate.shared.store;
        let Some(permit) = store.coordinator().try_begin_write(self.draft.body.len()) else {
            log::trace!("not stored: too many writes are in progress");
            return;
        };
        let body = self.hold_body();
        if let Some(result) = store.put_now(&self.candidate.key, &self.draft, &self.candidate.fill)
        {
            self.finish(result, body);
            return;
        }
        let limit = self.candidate.shared.settings.store_timeout;
        let mut work = Box::pin(async move {
            let _permit = permit;
            let response = Arc::clone(&self.draft);
            let result = self
                .candidate
                .shared
                .store
                .put(&self.candidate.key, response, &self.candidate.fill)
                .await;
            self.finish(result, body);
        });
        // A task polls a pending write again, so this poll needs no waker.
        let mut context = Context::from_waker(Waker::noop());
        if work.as_mut().poll(&mut context).is_pending() {
            // The task is spawned by tokio, because `actix_web::rt::spawn` needs a `LocalSet`.
            // Tests of applications may run without a `LocalSet`.
            tokio::spawn(timeout(limit, work));
        }
    }

    /// Returns the body for the followers of the flight. `None` if there is no flight, or if the body is
    /// too small to count as held.
    fn hold_body(&self) -> Option<Bytes> {
        let body = &self.draft.body;
        let is_counted = self.candidate.leader.is_some() && HeldBodies::counts(body);
        let held_bodies = self.candidate.shared.store.coordinator().held_bodies();
        is_counted.then(|| held_bodies.hold_new(&self.candidate.key, body))
    }

    /// Ends the flight after the result of the write, and begins to make coded copies of the stored
    /// response. `body` is its body for the followers of the flight.
    fn finish(mut self, result: Result<Put, StoreError>, body: Option<Bytes>) {
        let coordinator = self.candidate.shared.store.coordinator();
        match result {
            Ok(Put::Stored) => {
                let lifetime = &self.draft.lifetime;
                let ttl = || lifetime.remaining(lifetime.response_time).unwrap_or_default();
                log::debug!("store ttl={}", ttl().as_secs());
                if let Some(compression) = self.policy().compression() {
                    for coding in self.wanted_codings() {
                        let (shared, level) = (&self.candidate.shared, compression.level);
                        make_coded_copy(shared, level, &self.candidate.key, &self.draft, coding);
                    }
                }
                if let Some(leader) = self.candidate.leader {
                    leader.finish_stored(body);
                }
            }
            Ok(Put::TooLarge) => {
                log::debug!("not stored: the response is larger than the store accepts");
                let now = self.candidate.shared.now();
                coordinator.mark_too_large(&self.candidate.key, now);
                if let Some(leader) = &mut self.candidate.leader {
                    leader.mark_hit_for_miss(coordinator, &self.candidate.key, now);
                }
            }
            Ok(Put::Outdated) => {
                log::debug!("not stored: the resource was invalidated during the fill");
            }
            Err(error) => self.candidate.shared.warn_about_store(&error),
        }
    }
}
