//! The stored bodies that responses to clients keep in memory, and the limit of this memory.
//!
//! A response keeps its stored body until its client has read the body. Meanwhile, the store may
//! drop the stored response, and store other responses in its place. Clients that read slowly, or
//! not at all, could therefore keep much more memory than the limit of the store. The bytes of the
//! bodies that responses keep are limited, too. A body counts once, however many responses keep it.
//!
//! A response whose body exceeds the limit does not come from the store. The handler answers the
//! request.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;

use crate::entry::key::CacheKey;

/// The largest size of a body that does not count. The server copies a body of this size into the
/// buffer of the connection at once.
const SMALL_BODY: usize = 64 * 1024;

/// The least limit of the bodies that responses keep, in bytes.
const LEAST_LIMIT: usize = 12 * 1024 * 1024;

/// The number of bodies of one cache key and length with which a body is compared.
const MAX_COMPARED: usize = 8;

/// The bodies that responses keep in memory. Clones share one limit.
#[derive(Debug, Clone, Default)]
pub(crate) struct HeldBodies(Arc<State>);

#[derive(Debug)]
struct State {
    limit: AtomicUsize,
    table: Mutex<Table>,
    /// The digests of [`Table::bodies`]. Clients cannot make equal digests, because the digests have
    /// a random seed.
    digests: RandomState,
}

impl Default for State {
    fn default() -> Self {
        let limit = AtomicUsize::new(LEAST_LIMIT);
        Self { limit, table: Mutex::default(), digests: RandomState::new() }
    }
}

#[derive(Debug, Default)]
struct Table {
    /// The number of bytes of the bodies that count toward the usual limit.
    bytes: usize,
    /// The number of these bytes that a client was the first to keep.
    by_client: HashMap<IpAddr, usize>,
    /// The number of bytes of the bodies that requests have waited for, beyond the usual limit.
    waited_bytes: usize,
    /// The bodies by the digest of their cache key and length. The newest body is the last one.
    bodies: HashMap<u64, Vec<HeldBody>>,
}

#[derive(Debug)]
struct HeldBody {
    body: Bytes,
    count: Count,
    /// The number of handles of the body.
    handles: usize,
}

/// The limit toward which a body counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Count {
    /// No response holds the body yet. It is there for the requests that wait for it.
    Uncounted,
    /// The usual limit, and the half of it for this client, which was the first to keep the body.
    Usual(Option<IpAddr>),
    /// The limit of the bodies that requests have waited for.
    Waited,
}

impl HeldBodies {
    /// Raises the limit to `bytes`, if the limit is less.
    pub(crate) fn raise_limit(&self, bytes: usize) {
        self.0.limit.fetch_max(bytes, Ordering::Relaxed);
    }

    /// Returns whether a body counts toward the limit, because it is long enough.
    pub(crate) const fn counts(body: &Bytes) -> bool {
        body.len() > SMALL_BODY
    }

    /// Returns the number of bytes of all bodies that responses keep.
    pub(super) fn bytes(&self) -> usize {
        let table = self.0.table();
        table.bytes + table.waited_bytes
    }

    /// Returns the body for a response to `client`, the address of the client or of its proxy. The
    /// body counts until the returned value and all its slices are dropped. Returns `None` if the
    /// body exceeds the limit, or the half of the limit that one client may take. A body that other
    /// responses hold already, or that is equal to one, is within the limit.
    pub(crate) fn hold(
        &self,
        key: &CacheKey,
        body: &Bytes,
        client: Option<IpAddr>,
    ) -> Option<Bytes> {
        let limit = self.0.limit.load(Ordering::Relaxed);
        self.hold_within(limit, key, body, client).or_else(|| {
            let equal = self.find_equal(key, body)?;
            self.hold_within(limit, key, &equal, client)
        })
    }

    /// Returns the body of a response that is being stored, for the requests that wait for it. The
    /// body itself does not count. The responses that hold it then have a limit of their own, a
    /// quarter of the usual one, so that these requests do not all call the handler if the limit is
    /// reached.
    pub(crate) fn hold_new(&self, key: &CacheKey, body: &Bytes) -> Bytes {
        if !Self::counts(body) {
            return body.clone();
        }
        let digest = self.0.digest(key, body);
        self.0.table().add_uncounted(digest, body);
        self.handle(digest, body)
    }

    fn hold_within(
        &self,
        limit: usize,
        key: &CacheKey,
        body: &Bytes,
        client: Option<IpAddr>,
    ) -> Option<Bytes> {
        if !Self::counts(body) {
            return Some(body.clone());
        }
        let digest = self.0.digest(key, body);
        let is_held = self.0.table().add(digest, body, client, limit);
        is_held.then(|| self.handle(digest, body))
    }

    fn handle(&self, digest: u64, body: &Bytes) -> Bytes {
        Bytes::from_owner(Hold { state: Arc::clone(&self.0), digest, body: body.clone() })
    }

    /// Replaces `body`, a copy that a store has read from outside of the process, by an equal body of
    /// `key` that a response keeps.
    #[cfg_attr(not(feature = "redis"), expect(dead_code, reason = "for stores with copies"))]
    pub(crate) fn share(&self, key: &CacheKey, body: &mut Bytes) {
        if let Some(equal) = self.find_equal(key, body) {
            *body = equal;
        }
    }

    /// Returns a body of `key` that a response keeps and that is equal to `body`.
    fn find_equal(&self, key: &CacheKey, body: &Bytes) -> Option<Bytes> {
        if !Self::counts(body) {
            return None;
        }
        let digest = self.0.digest(key, body);
        let newest: Vec<_> = {
            let table = self.0.table();
            let group = table.bodies.get(&digest)?.iter().rev();
            group.take(MAX_COMPARED).map(|held| held.body.clone()).collect()
        };
        // Compared without the lock, because a body may be long.
        newest.into_iter().find(|held| held == body)
    }
}

impl State {
    fn digest(&self, key: &CacheKey, body: &Bytes) -> u64 {
        self.digests.hash_one((key.as_bytes(), body.len()))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Counts a response that keeps the body. Returns whether the body is within its limit.
    fn add(&mut self, digest: u64, body: &Bytes, client: Option<IpAddr>, limit: usize) -> bool {
        let known = self.find(digest, body).map(|held| held.count);
        if known.is_none_or(|count| count == Count::Uncounted) {
            let length = body.len();
            let of_client = client.and_then(|client| self.by_client.get(&client));
            let of_client = of_client.copied().unwrap_or(0);
            // A single body is within the limit, however long it is.
            let fits =
                |held: usize, limit: usize| held == 0 || held.saturating_add(length) <= limit;
            let count = if fits(self.bytes, limit) && fits(of_client, limit / 2) {
                self.bytes += length;
                if let Some(client) = client {
                    *self.by_client.entry(client).or_default() += length;
                }
                Count::Usual(client)
            } else if known.is_some() && fits(self.waited_bytes, limit / 4) {
                self.waited_bytes += length;
                Count::Waited
            } else {
                return false;
            };
            self.add_uncounted(digest, body);
            if let Some(held) = self.find(digest, body) {
                held.count = count;
            }
            return true;
        }
        self.add_uncounted(digest, body);
        true
    }

    /// Adds a handle of a body. A new body does not count yet.
    fn add_uncounted(&mut self, digest: u64, body: &Bytes) {
        match self.find(digest, body) {
            Some(held) => held.handles += 1,
            None => {
                let held = HeldBody { body: body.clone(), count: Count::Uncounted, handles: 1 };
                self.bodies.entry(digest).or_default().push(held);
            }
        }
    }

    fn find(&mut self, digest: u64, body: &Bytes) -> Option<&mut HeldBody> {
        self.bodies.get_mut(&digest)?.iter_mut().find(|held| is_same(&held.body, body))
    }

    /// Removes a handle. Returns the body that has no handle any more, so that the caller can free
    /// it without the lock.
    fn remove(&mut self, digest: u64, body: &Bytes) -> Option<HeldBody> {
        let Entry::Occupied(mut group) = self.bodies.entry(digest) else { return None };
        let at = group.get().iter().position(|held| is_same(&held.body, body))?;
        let held = group.get_mut().get_mut(at)?;
        held.handles -= 1;
        if held.handles > 0 {
            return None;
        }
        let held = group.get_mut().remove(at);
        if group.get().is_empty() {
            group.remove();
        }
        let length = held.body.len();
        match held.count {
            Count::Uncounted => {}
            Count::Waited => self.waited_bytes -= length,
            Count::Usual(client) => {
                self.bytes -= length;
                if let Some(client) = client
                    && let Entry::Occupied(mut bytes) = self.by_client.entry(client)
                {
                    *bytes.get_mut() -= length;
                    if *bytes.get() == 0 {
                        bytes.remove();
                    }
                }
            }
        }
        Some(held)
    }
}

/// Returns whether both values are the same memory.
fn is_same(one: &Bytes, other: &Bytes) -> bool {
    one.as_ptr() == other.as_ptr() && one.len() == other.len()
}

/// The owner of the bytes of a body while a response keeps them.
#[derive(Debug)]
struct Hold {
    state: Arc<State>,
    digest: u64,
    body: Bytes,
}

impl AsRef<[u8]> for Hold {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let unused = self.state.table().remove(self.digest, &self.body);
        drop(unused);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    fn key(path: &str) -> CacheKey {
        CacheKey::new("t", "http", "h", path, None)
    }

    fn body(length: usize) -> Bytes {
        vec![b'x'; length].into()
    }

    fn client(n: u8) -> Option<IpAddr> {
        Some(IpAddr::from([127, 0, 0, n]))
    }

    /// Holds bodies of 1 MiB, each for another page, until one is refused.
    fn hold_all(bodies: &HeldBodies, client: Option<IpAddr>) -> Vec<Bytes> {
        (0..).map_while(|n| bodies.hold(&key(&n.to_string()), &body(MIB), client)).collect()
    }

    #[test]
    fn body_counts_once_until_its_last_slice_is_dropped() {
        let (bodies, body) = (HeldBodies::default(), body(MIB));
        let one = bodies.hold(&key("/"), &body, client(1)).unwrap();
        let two = bodies.hold(&key("/"), &body, client(2)).unwrap();
        assert_eq!((one.len(), bodies.bytes()), (MIB, MIB));
        let slice = two.slice(5..6);
        drop((one, two));
        assert_eq!(bodies.bytes(), MIB);
        drop(slice);
        let table = bodies.0.table();
        assert!(table.bytes == 0 && table.by_client.is_empty() && table.bodies.is_empty());
    }

    #[test]
    fn small_body_does_not_count() {
        let (bodies, small) = (HeldBodies::default(), body(SMALL_BODY));
        let held = bodies.hold(&key("/"), &small, client(1)).unwrap();
        assert!(is_same(&held, &small) && bodies.bytes() == 0);
        assert!(bodies.find_equal(&key("/"), &small).is_none());
        let large = body(SMALL_BODY + 1);
        let _held = bodies.hold(&key("/"), &large, client(1)).unwrap();
        assert_eq!(bodies.bytes(), SMALL_BODY + 1);
    }

    #[test]
    fn client_holds_at_most_half_of_the_limit() {
        let bodies = HeldBodies::default();
        let one = hold_all(&bodies, client(1));
        assert_eq!(one.len(), LEAST_LIMIT / 2 / MIB);
        let two = hold_all(&bodies, client(2));
        assert_eq!(two.len(), LEAST_LIMIT / 2 / MIB);
        assert!(bodies.hold(&key("/"), &body(MIB), client(3)).is_none());
        drop(one);
        assert!(bodies.hold(&key("/"), &body(MIB), client(3)).is_some());
    }

    #[test]
    fn body_that_other_responses_hold_is_never_refused() {
        let (bodies, page) = (HeldBodies::default(), body(MIB));
        let _page = bodies.hold(&key("/"), &page, None).unwrap();
        let _others = hold_all(&bodies, None);
        assert!(bodies.hold(&key("/2"), &body(MIB), client(1)).is_none());
        let held = bodies.hold(&key("/"), &page, client(1)).unwrap();
        let equal = bodies.hold(&key("/"), &body(MIB), client(1)).unwrap();
        assert_eq!(held.as_ptr(), equal.as_ptr());
        assert_eq!(bodies.bytes(), LEAST_LIMIT);
    }

    #[test]
    fn body_that_requests_waited_for_has_a_limit_of_its_own() {
        let bodies = HeldBodies::default();
        let others = hold_all(&bodies, None);
        let new = |n: usize| bodies.hold_new(&key(&format!("/new/{n}")), &body(MIB));
        let hold = |n: usize| bodies.hold(&key(&format!("/new/{n}")), &body(MIB), client(1));
        let waited: Vec<_> = (0..)
            .map_while(|n| {
                let new = new(n);
                assert!(!others.is_empty() && new.len() == MIB);
                // A store may have made a copy of the body.
                let held = hold(n)?;
                assert_eq!(held.as_ptr(), new.as_ptr());
                Some(held)
            })
            .collect();
        assert_eq!(waited.len(), LEAST_LIMIT / 4 / MIB);
        assert_eq!(bodies.bytes(), LEAST_LIMIT + LEAST_LIMIT / 4);
        // They take no bytes from other responses.
        drop(others);
        assert_eq!(bodies.bytes(), LEAST_LIMIT / 4);
        assert!(bodies.hold(&key("/"), &body(MIB), client(1)).is_some());
        drop(waited);
        assert_eq!(bodies.bytes(), 0);
        assert!(bodies.0.table().bodies.is_empty());
    }

    #[test]
    fn body_that_no_response_holds_does_not_count() {
        let (bodies, page) = (HeldBodies::default(), body(MIB));
        let new = bodies.hold_new(&key("/"), &page);
        assert_eq!(bodies.bytes(), 0);
        let held = bodies.hold(&key("/"), &page, client(1)).unwrap();
        drop(new);
        assert_eq!(bodies.bytes(), MIB);
        drop(held);
        assert_eq!(bodies.bytes(), 0);
        assert!(bodies.0.table().bodies.is_empty());
    }

    #[test]
    fn single_body_may_exceed_the_limit() {
        let (bodies, long) = (HeldBodies::default(), body(LEAST_LIMIT + 1));
        let held = bodies.hold(&key("/"), &long, client(1)).unwrap();
        assert!(bodies.hold(&key("/2"), &body(MIB), client(2)).is_none());
        bodies.raise_limit(2 * LEAST_LIMIT);
        bodies.raise_limit(LEAST_LIMIT);
        assert!(bodies.hold(&key("/2"), &body(MIB), client(1)).is_none());
        assert!(bodies.hold(&key("/2"), &body(MIB), client(2)).is_some());
        drop(held);
        assert_eq!(bodies.bytes(), 0);
    }

    #[test]
    fn equal_body_is_found_while_a_response_holds_it() {
        let (bodies, page) = (HeldBodies::default(), body(MIB));
        let held = bodies.hold(&key("/"), &page, None).unwrap();
        let found = bodies.find_equal(&key("/"), &body(MIB)).unwrap();
        assert!(is_same(&found, &page));
        assert!(bodies.find_equal(&key("/2"), &body(MIB)).is_none());
        let mut other = vec![b'x'; MIB];
        other[MIB - 1] = b'y';
        let _newer = bodies.hold(&key("/"), &vec![b'z'; MIB].into(), None).unwrap();
        assert!(bodies.find_equal(&key("/"), &body(MIB)).is_some(), "behind a newer body");
        assert!(bodies.find_equal(&key("/"), &other.into()).is_none());
        drop(held);
        assert!(bodies.find_equal(&key("/"), &body(MIB)).is_none());
    }
}
