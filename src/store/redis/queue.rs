//! Invalidations that Redis could not be told of yet.

use std::collections::VecDeque;

use crate::entry::invalidation::Invalidation;

/// Tags that wait at most; beyond, everything is invalidated instead.
const MOST: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: VecDeque<Invalidation>,
    tags: usize,
}

impl Queue {
    pub(super) fn push(&mut self, what: Invalidation) {
        if self.waiting.contains(&what) {
            return;
        }
        self.tags += size(&what);
        if what == Invalidation::PurgeAll || self.tags > MOST {
            log::debug!("too many invalidations wait for Redis: all will be invalid");
            self.waiting.clear();
            self.tags = 1;
            self.waiting.push_back(Invalidation::PurgeAll);
            return;
        }
        self.waiting.push_back(what);
    }

    pub(super) fn first(&self) -> Option<Invalidation> {
        self.waiting.front().cloned()
    }

    /// Takes out what was done, unless it is no longer there.
    pub(super) fn remove(&mut self, what: &Invalidation) {
        if self.waiting.front() == Some(what) {
            self.waiting.pop_front();
            self.tags -= size(what);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }
}

fn size(what: &Invalidation) -> usize {
    match what {
        Invalidation::PurgeTags(tags) | Invalidation::ExpireTags { tags, .. } => tags.len().max(1),
        Invalidation::PurgeAll | Invalidation::ExpireAll { .. } => 1,
    }
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::entry::tag::TagId;

    fn tag(n: usize) -> Invalidation {
        Invalidation::PurgeTags(vec![TagId::tag("t", &n.to_string())])
    }

    #[test]
    fn what_waits_is_worked_off_in_its_order_and_once() {
        let mut queue = Queue::default();
        for n in [1, 2, 1] {
            queue.push(tag(n));
        }
        for n in [1, 2] {
            assert_eq!(queue.first(), Some(tag(n)));
            queue.remove(&tag(7));
            queue.remove(&tag(n));
        }
        assert!(queue.is_empty() && queue.tags == 0);
    }

    #[test]
    fn too_much_becomes_all_and_all_covers_the_rest() {
        let mut queue = Queue::default();
        (0..=MOST).for_each(|n| queue.push(tag(n)));
        assert_eq!((queue.len(), queue.first()), (1, Some(Invalidation::PurgeAll)));
        queue.push(tag(1));
        assert_eq!(queue.len(), 2);
        queue.push(Invalidation::PurgeAll);
        assert_eq!(queue.len(), 2, "it waits already");
        queue.remove(&Invalidation::PurgeAll);
        queue.remove(&tag(1));
        assert!(queue.is_empty() && queue.tags == 0);
    }
}
