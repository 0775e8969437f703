//! The coded copies that are being made, and limits on this work: all caches over one store make each
//! copy once, a few copies at a time.

use std::{
    collections::{
        HashMap,
        hash_map::{Entry, RandomState},
    },
    hash::BuildHasher as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::available_parallelism,
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    clock::Timestamp,
    entry::{content_coding::ContentCoding, key::CacheKey, response::StoredResponse},
};

/// The largest number of copies that are being made or wait for their turn.
const MAX_JOBS: usize = 64;

/// The largest number of bytes of the bodies of these copies together. A single body may be larger.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// The largest number of copies that are made at the same time.
const MAX_TURNS: usize = 4;

/// The time for which a copy is not made again. A store can drop a copy at once, for example because
/// its response is evicted, or can fail to keep it.
const PAUSE: Duration = Duration::from_secs(10);

/// The largest number of copies that are remembered for this time.
const MAX_PAUSED: usize = 4096;

/// The copies that are being made. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct CopyJobs(Arc<State>);

#[derive(Debug)]
struct State {
    table: Mutex<Table>,
    turns: Arc<Semaphore>,
    /// The digests in the table. Clients cannot make equal digests, because the digests have a random
    /// seed.
    digests: RandomState,
}

#[derive(Debug, Default)]
struct Table {
    /// The digests of the copies that are being made, with the lengths of their bodies.
    running: HashMap<u64, usize>,
    /// The number of bytes of these bodies.
    bytes: usize,
    /// The digests of the copies that were made lately, and the times (by the monotonic clock) until
    /// which they are not made again.
    paused: HashMap<u64, Duration>,
}

impl Default for CopyJobs {
    fn default() -> Self {
        // Half of the processors remain for requests.
        let processors = available_parallelism().map_or(1, usize::from);
        let turns = Arc::new(Semaphore::new((processors / 2).clamp(1, MAX_TURNS)));
        Self(Arc::new(State { table: Mutex::default(), turns, digests: RandomState::new() }))
    }
}

impl CopyJobs {
    /// Begins to make a copy. Returns `None` if the copy is being made or was made lately, or if too
    /// many copies wait for their turn.
    pub(crate) fn begin(
        &self,
        key: &CacheKey,
        response: &StoredResponse,
        coding: ContentCoding,
        now: Timestamp,
    ) -> Option<CopyJob> {
        let content = response.coded.as_ref()?.content();
        let digest =
            self.0.digests.hash_one((key.as_bytes(), &*response.discriminator, content, coding));
        let length = response.body.len();
        let mut table = self.0.table();
        if table.is_paused(digest, now) || table.running.len() >= MAX_JOBS {
            return None;
        }
        if table.bytes > 0 && table.bytes.saturating_add(length) > MAX_BYTES {
            return None;
        }
        let Entry::Vacant(place) = table.running.entry(digest) else { return None };
        place.insert(length);
        table.bytes += length;
        Some(CopyJob { state: Arc::clone(&self.0), digest })
    }
}

impl State {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn is_paused(&self, digest: u64, now: Timestamp) -> bool {
        self.paused.get(&digest).is_some_and(|until| *until > now.monotonic())
    }

    fn pause(&mut self, digest: u64, now: Timestamp) {
        if self.paused.len() >= MAX_PAUSED {
            self.paused.retain(|_, until| *until > now.monotonic());
        }
        if self.paused.len() < MAX_PAUSED {
            self.paused.insert(digest, now.monotonic().saturating_add(PAUSE));
        }
    }
}

/// The work for one copy. Dropping the value ends the work.
#[derive(Debug)]
pub(crate) struct CopyJob {
    state: Arc<State>,
    digest: u64,
}

impl CopyJob {
    /// Waits for the turn of this copy. The turn ends when the returned value is dropped.
    pub(crate) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.state.turns).acquire_owned().await.ok()
    }

    /// Ends the work, and remembers for some seconds that the copy need not be made again.
    pub(crate) fn finish(self, now: Timestamp) {
        self.state.table().pause(self.digest, now);
    }
}

impl Drop for CopyJob {
    fn drop(&mut self) {
        let mut table = self.state.table();
        if let Some(length) = table.running.remove(&self.digest) {
            table.bytes -= length;
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::FutureExt as _;

    use super::*;
    use crate::entry::fixtures::{at, stored};

    fn key(n: usize) -> CacheKey {
        CacheKey::new("t", "http", "h", &format!("/{n}"), None)
    }

    fn codable(length: usize) -> StoredResponse {
        let mut response = StoredResponse { body: Bytes::from(vec![0; length]), ..stored(0, &[]) };
        response.allow_coded_copies(None);
        response
    }

    #[test]
    fn copy_is_made_once_at_a_time_and_not_again_for_some_seconds() {
        let (jobs, response) = (CopyJobs::default(), codable(9));
        let begin = |coding, second| jobs.begin(&key(0), &response, coding, at(second));
        let job = begin(ContentCoding::Gzip, 0).unwrap();
        assert!(begin(ContentCoding::Gzip, 0).is_none());
        let other = begin(ContentCoding::Brotli, 0).unwrap();
        assert!(jobs.begin(&key(1), &response, ContentCoding::Gzip, at(0)).is_some());
        drop(other);
        assert!(begin(ContentCoding::Brotli, 0).is_some(), "dropped without a copy");
        job.finish(at(0));
        assert!(begin(ContentCoding::Gzip, 9).is_none());
        assert!(begin(ContentCoding::Gzip, 10).is_some());
        let other_content = codable(10);
        assert!(jobs.begin(&key(0), &other_content, ContentCoding::Gzip, at(0)).is_some());
        let plain = stored(0, &[]);
        assert!(jobs.begin(&key(0), &plain, ContentCoding::Gzip, at(0)).is_none());
    }

    #[test]
    fn number_and_bytes_of_waiting_copies_are_limited() {
        let jobs = CopyJobs::default();
        let begin = |n, response: &StoredResponse| {
            jobs.begin(&key(n), response, ContentCoding::Gzip, at(0))
        };
        let small = codable(9);
        let held: Vec<_> = (0..).map_while(|n| begin(n, &small)).collect();
        assert_eq!(held.len(), MAX_JOBS);
        drop(held);
        let large = codable(MAX_BYTES / 4 + 1);
        let held: Vec<_> = (0..).map_while(|n| begin(n, &large)).collect();
        assert_eq!(held.len(), 3);
        drop(held);
        let huge = codable(MAX_BYTES + 1);
        let _held = begin(0, &huge).unwrap();
        assert!(begin(1, &small).is_none());
        let table = jobs.0.table();
        assert_eq!((table.running.len(), table.bytes), (1, MAX_BYTES + 1));
    }

    #[test]
    fn number_of_remembered_copies_is_limited() {
        let (jobs, response) = (CopyJobs::default(), codable(9));
        let finish = |n, second| {
            let job = jobs.begin(&key(n), &response, ContentCoding::Gzip, at(second));
            job.unwrap().finish(at(second));
            jobs.0.table().paused.len()
        };
        for n in 0..=MAX_PAUSED {
            finish(n, 0);
        }
        assert_eq!(jobs.0.table().paused.len(), MAX_PAUSED);
        assert_eq!(finish(0, 10), 1, "the time of the others is over");
    }

    #[actix_web::test]
    async fn some_copies_are_made_at_the_same_time() {
        let (jobs, response) = (CopyJobs::default(), codable(9));
        let begin = |n| jobs.begin(&key(n), &response, ContentCoding::Gzip, at(0)).unwrap();
        let number = jobs.0.turns.available_permits();
        assert!((1..=MAX_TURNS).contains(&number));
        let mut turns = Vec::new();
        for n in 0..number {
            turns.push(begin(n).turn().await.unwrap());
        }
        let next = begin(number);
        let mut waiting = Box::pin(next.turn());
        assert!(waiting.as_mut().now_or_never().is_none());
        turns.pop();
        assert!(waiting.await.is_some());
    }
}
