//! A queue of invalidations that did not reach the server of a remote store.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::circuit_breaker::CircuitBreaker;
use crate::entry::invalidation::Invalidation;

/// A bounded queue of invalidations that did not reach the server.
///
/// The queue and a [`CircuitBreaker`] work together, so that the store reads no response from the
/// server while an invalidation is queued. [`push`](Self::push) opens the breaker, and
/// [`close_if_empty`](Self::close_if_empty) closes the breaker only if the queue is empty. Each of
/// these methods accesses the queue and the breaker under one lock. Close the breaker only by
/// `close_if_empty`.
///
/// Once more than [`max_tags`](Self::new) tags are queued, one [`Invalidation::PurgeAll`] replaces
/// all queued invalidations. The queue is only in memory: a process that ends loses its queue.
#[derive(Debug)]
pub struct RetryQueue {
    max_tags: usize,
    pending: Mutex<Pending>,
}

#[derive(Debug, Default)]
struct Pending {
    queue: VecDeque<QueuedInvalidation>,
    tags: usize,
    next_id: u64,
    /// The id of the invalidation that is being sent, which is the one that [`RetryQueue::first`]
    /// returned last.
    in_flight: Option<u64>,
}

/// An invalidation in a [`RetryQueue`].
#[derive(Debug, Clone)]
pub struct QueuedInvalidation {
    id: u64,
    invalidation: Invalidation,
}

impl QueuedInvalidation {
    /// Returns the invalidation to send to the server.
    #[must_use]
    pub const fn invalidation(&self) -> &Invalidation {
        &self.invalidation
    }
}

impl RetryQueue {
    /// The maximum number of tags in a [`default`](Self::default) queue.
    pub const DEFAULT_MAX_TAGS: usize = 4096;

    /// Makes an empty queue of at most `max_tags` tags. An invalidation of all responses counts as
    /// one tag.
    #[must_use]
    pub fn new(max_tags: usize) -> Self {
        Self { max_tags, pending: Mutex::default() }
    }

    /// Queues an invalidation, and opens `breaker`. Returns whether `breaker` was closed before.
    ///
    /// An invalidation that is already queued is not queued again. The exception is an invalidation
    /// that is being sent: the server may have applied it already, so it may not apply to responses
    /// that were made since then.
    pub fn push(&self, invalidation: Invalidation, breaker: &CircuitBreaker) -> bool {
        let mut pending = self.lock();
        pending.push(invalidation, self.max_tags);
        breaker.open()
    }

    /// Returns the oldest queued invalidation without removing it from the queue.
    ///
    /// Only one task at a time should send invalidations.
    #[must_use]
    pub fn first(&self) -> Option<QueuedInvalidation> {
        let mut pending = self.lock();
        let first = pending.queue.front().cloned();
        pending.in_flight = first.as_ref().map(|first| first.id);
        first
    }

    /// Removes an invalidation that [`first`](Self::first) returned. Call this method once the
    /// server has confirmed the invalidation.
    ///
    /// The method does nothing if the invalidation is no longer queued: an
    /// [`Invalidation::PurgeAll`] may have replaced it.
    pub fn remove(&self, sent: &QueuedInvalidation) {
        self.lock().remove(sent);
    }

    /// Closes `breaker` if the queue is empty. Returns whether the queue is empty.
    pub fn close_if_empty(&self, breaker: &CircuitBreaker) -> bool {
        let pending = self.lock();
        let is_empty = pending.queue.is_empty();
        if is_empty {
            breaker.close();
        }
        is_empty
    }

    /// Returns the number of queued invalidations.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().queue.len()
    }

    /// Returns whether no invalidation is queued.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for RetryQueue {
    /// Makes a queue of at most [`DEFAULT_MAX_TAGS`](Self::DEFAULT_MAX_TAGS) tags.
    fn default() -> Self {
        Self::new(Self::DEFAULT_MAX_TAGS)
    }
}

impl Pending {
    fn push(&mut self, invalidation: Invalidation, max_tags: usize) {
        let is_queued = self
            .queue
            .iter()
            .any(|queued| queued.invalidation == invalidation && self.in_flight != Some(queued.id));
        if is_queued {
            return;
        }
        let tags = self.tags + tag_count(&invalidation);
        if tags <= max_tags && invalidation != Invalidation::PurgeAll {
            self.push_back(invalidation);
            return;
        }
        if tags > max_tags {
            log::debug!(
                "more than {max_tags} tags queued for invalidation: all responses are purged instead"
            );
        }
        // A purge of all responses includes all queued invalidations.
        self.queue.clear();
        self.tags = 0;
        self.push_back(Invalidation::PurgeAll);
    }

    fn push_back(&mut self, invalidation: Invalidation) {
        self.tags += tag_count(&invalidation);
        self.queue.push_back(QueuedInvalidation { id: self.next_id, invalidation });
        self.next_id += 1;
    }

    fn remove(&mut self, sent: &QueuedInvalidation) {
        if self.queue.front().is_some_and(|first| first.id == sent.id) {
            self.queue.pop_front();
            self.tags = self.tags.saturating_sub(tag_count(&sent.invalidation));
        }
        self.in_flight = None;
    }
}

fn tag_count(invalidation: &Invalidation) -> usize {
    match invalidation {
        Invalidation::PurgeTags(tags) | Invalidation::ExpireTags { tags, .. } => tags.len().max(1),
        Invalidation::PurgeAll | Invalidation::ExpireAll { .. } => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::tag::TagId;

    const MAX_TAGS: usize = 10;

    fn purge(n: usize) -> Invalidation {
        Invalidation::PurgeTags(vec![TagId::tag("t", &n.to_string())])
    }

    fn queue_of(invalidations: impl IntoIterator<Item = Invalidation>) -> RetryQueue {
        let queue = RetryQueue::new(MAX_TAGS);
        for invalidation in invalidations {
            queue.push(invalidation, &CircuitBreaker::default());
        }
        queue
    }

    fn first(queue: &RetryQueue) -> Option<Invalidation> {
        queue.first().map(|first| first.invalidation)
    }

    fn send_first(queue: &RetryQueue) -> Invalidation {
        let first = queue.first().unwrap();
        queue.remove(&first);
        first.invalidation
    }

    #[test]
    fn queue_keeps_each_invalidation_once_and_in_order() {
        let queue = queue_of([1, 2, 1].map(purge));
        assert_eq!(first(&queue), Some(purge(1)), "the first stays until it is removed");
        assert_eq!([send_first(&queue), send_first(&queue)], [purge(1), purge(2)]);
        assert!(queue.is_empty());
        assert_eq!(queue.lock().tags, 0);
    }

    #[test]
    fn invalidation_pushed_while_it_is_sent_is_queued_again() {
        for invalidation in [purge(1), Invalidation::PurgeAll] {
            let queue = queue_of([invalidation.clone()]);
            let sent = queue.first().unwrap();
            queue.push(invalidation.clone(), &CircuitBreaker::default());
            queue.remove(&sent);
            assert_eq!((queue.len(), first(&queue)), (1, Some(invalidation)));
        }
    }

    #[test]
    fn queue_overflows_into_a_purge_of_everything() {
        let queue = queue_of((0..MAX_TAGS).map(purge));
        assert_eq!(queue.len(), MAX_TAGS);
        let sent = queue.first().unwrap();
        queue.push(purge(MAX_TAGS), &CircuitBreaker::default());
        queue.remove(&sent);
        assert_eq!((queue.len(), first(&queue)), (1, Some(Invalidation::PurgeAll)));
        send_first(&queue);
        assert_eq!(queue.lock().tags, 0);
    }

    #[test]
    fn purge_of_everything_replaces_all_earlier_invalidations() {
        let queue = queue_of([purge(1), purge(2), Invalidation::PurgeAll]);
        assert_eq!((queue.len(), first(&queue)), (1, Some(Invalidation::PurgeAll)));
        let queue = queue_of([Invalidation::PurgeAll, purge(1), Invalidation::PurgeAll]);
        assert_eq!([send_first(&queue), send_first(&queue)], [Invalidation::PurgeAll, purge(1)]);
        assert!(queue.is_empty());
        assert_eq!(queue.lock().tags, 0);
    }

    #[test]
    fn breaker_is_open_while_an_invalidation_is_queued() {
        let (queue, breaker) = (RetryQueue::default(), CircuitBreaker::default());
        assert!(queue.push(purge(1), &breaker) && !queue.push(purge(2), &breaker));
        for _ in 0..2 {
            assert!(!queue.close_if_empty(&breaker) && breaker.is_open());
            send_first(&queue);
        }
        assert!(queue.close_if_empty(&breaker) && !breaker.is_open());
    }
}
