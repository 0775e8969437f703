//! Replays of a trace against an engine.

use crate::traces::Trace;

/// A trace, and what its pages weigh in a store.
pub(crate) struct Load {
    pub(crate) trace: Trace,
    /// The bytes that a store counts for an entry besides the body.
    overhead: u32,
    /// The weight of all requested pages together.
    pub(crate) distinct: u64,
    pub(crate) pages: usize,
}

impl Load {
    pub(crate) fn new(trace: Trace, overhead: u32) -> Self {
        let mut load = Self { trace, overhead, distinct: 0, pages: 0 };
        let mut is_requested = vec![false; load.trace.sizes.len()];
        for &page in &load.trace.requests {
            is_requested[page as usize] = true;
        }
        let requested = || (0..).zip(&is_requested).filter(|(_, requested)| **requested);
        load.pages = requested().count();
        load.distinct = requested().map(|(page, _)| u64::from(load.weight(page))).sum();
        load
    }

    /// Returns the weight of a page, in bytes.
    pub(crate) fn weight(&self, page: u32) -> u32 {
        self.trace.sizes[page as usize] + self.overhead
    }

    /// Returns the bytes of the bodies of all requests.
    pub(crate) fn bytes(&self) -> u64 {
        let size = |&page: &u32| u64::from(self.trace.sizes[page as usize]);
        self.trace.requests.iter().map(size).sum()
    }

    /// Returns the bytes of the bodies of all requested pages.
    pub(crate) fn distinct_bodies(&self) -> u64 {
        self.distinct - u64::from(self.overhead) * self.pages as u64
    }

    /// Returns the mean weight of a page that is requested.
    pub(crate) fn mean_weight(&self) -> u64 {
        self.distinct / self.pages.max(1) as u64
    }

    /// Returns the hits of an engine of `capacity` bytes.
    ///
    /// No engine gets responses above an eighth of its capacity, because `MemoryStore` refuses
    /// them.
    pub(crate) fn replay(&self, capacity: u64, engine: &mut impl Engine) -> Hits {
        let mut hits = Hits::default();
        for &page in &self.trace.requests {
            let weight = self.weight(page);
            if engine.finds(page) {
                hits.add(self.trace.sizes[page as usize]);
            } else if u64::from(weight) <= capacity / 8 {
                engine.insert(page, weight);
            }
        }
        hits
    }
}

/// A cache that evicts entries.
pub(crate) trait Engine {
    /// Looks up a page, and returns whether it was found.
    fn finds(&mut self, page: u32) -> bool;

    /// Inserts a page that was not found.
    fn insert(&mut self, page: u32, weight: u32);
}

/// The requests that were answered from memory, and the bytes of their bodies. Upper bounds can be
/// fractions.
#[derive(Clone, Copy, Default)]
pub(crate) struct Hits {
    pub(crate) requests: f64,
    pub(crate) bytes: f64,
}

impl Hits {
    pub(crate) fn add(&mut self, size: u32) {
        self.requests += 1.0;
        self.bytes += f64::from(size);
    }
}
