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
const LEAST_LIMIT: usize = 16 * 1024 * 1024;

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
    /// The number of bytes of all bodies.
    bytes: usize,
    /// The number of bytes of the bodies that a client was the first to keep.
    by_client: HashMap<IpAddr, usize>,
    /// The bodies by the digest of their cache key and length. The newest body is the last one.
    bodies: HashMap<u64, Vec<HeldBody>>,
}

#[derive(Debug)]
struct HeldBody {
    body: Bytes,
    /// The number of bytes that count toward the limit: the length of the body, or zero.
    counted: usize,
    /// The number of responses that keep the body.
    responses: usize,
    /// The client that was the first to keep the body.
    client: Option<IpAddr>,
}

impl HeldBodies {
    /// Raises the limit to `bytes`, if the limit is less.
    pub(crate) fn raise_limit(&self, bytes: usize) {
        self.0.limit.fetch_max(bytes, Ordering::Relaxed);
    }

    /// Returns the number of bytes of all bodies that responses keep.
    pub(super) fn bytes(&self) -> usize {
        self.0.table().bytes
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
        let limit = Some(self.0.limit.load(Ordering::Relaxed));
        self.hold_within(limit, key, body, client).or_else(|| {
            let equal = self.find_equal(key, body)?;
            self.hold_within(limit, key, &equal, client)
        })
    }

    /// Returns the body of the response of a handler. Responses to further clients can hold it then.
    /// The body does not count toward the limit, because the handler's response keeps it in memory
    /// anyway.
    pub(crate) fn hold_new(&self, key: &CacheKey, body: Bytes) -> Bytes {
        self.hold_within(None, key, &body, None).unwrap_or(body)
    }

    /// Without a limit, the body does not count.
    fn hold_within(
        &self,
        limit: Option<usize>,
        key: &CacheKey,
        body: &Bytes,
        client: Option<IpAddr>,
    ) -> Option<Bytes> {
        if body.len() <= SMALL_BODY {
            return Some(body.clone());
        }
        let digest = self.0.digest(key, body);
        let is_held = self.0.table().add(digest, body, client, limit);
        is_held.then(|| {
            Bytes::from_owner(Hold { state: Arc::clone(&self.0), digest, body: body.clone() })
        })
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
        if body.len() <= SMALL_BODY {
            return None;
        }
        let digest = self.0.digest(key, body);
        let newest = self.0.table().bodies.get(&digest)?.last()?.body.clone();
        // Compared without the lock, because a body may be long.
        (newest == *body).then_some(newest)
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
    /// Counts a response that keeps the body. Returns whether the body is within the limit. Without a
    /// limit, the bytes of the body do not count.
    fn add(
        &mut self,
        digest: u64,
        body: &Bytes,
        client: Option<IpAddr>,
        limit: Option<usize>,
    ) -> bool {
        let held = self.bodies.get_mut(&digest).and_then(|held| find(held, body));
        if let Some(held) = held {
            held.responses += 1;
            return true;
        }
        let length = if limit.is_some() { body.len() } else { 0 };
        let limit = limit.unwrap_or(usize::MAX);
        let of_client = client.and_then(|client| self.by_client.get(&client)).copied().unwrap_or(0);
        // A single body is within the limit, however long it is.
        let fits = |taken: usize, limit: usize| taken == 0 || taken.saturating_add(length) <= limit;
        if !fits(self.bytes, limit) || !fits(of_client, limit / 2) {
            return false;
        }
        self.bytes += length;
        if let Some(client) = client {
            *self.by_client.entry(client).or_default() += length;
        }
        let held = HeldBody { body: body.clone(), counted: length, responses: 1, client };
        self.bodies.entry(digest).or_default().push(held);
        true
    }

    /// Ends the count of one response. Returns the body that no response keeps any more, so that the
    /// caller can free it without the lock.
    fn remove(&mut self, digest: u64, body: &Bytes) -> Option<HeldBody> {
        let Entry::Occupied(mut group) = self.bodies.entry(digest) else { return None };
        let at = group.get().iter().position(|held| is_same(&held.body, body))?;
        let held = group.get_mut().get_mut(at)?;
        held.responses -= 1;
        if held.responses > 0 {
            return None;
        }
        let held = group.get_mut().remove(at);
        if group.get().is_empty() {
            group.remove();
        }
        let length = held.counted;
        self.bytes -= length;
        if let Some(client) = held.client
            && let Entry::Occupied(mut bytes) = self.by_client.entry(client)
        {
            *bytes.get_mut() -= length;
            if *bytes.get() == 0 {
                bytes.remove();
            }
        }
        Some(held)
    }
}

fn find<'a>(held: &'a mut [HeldBody], body: &Bytes) -> Option<&'a mut HeldBody> {
    held.iter_mut().find(|held| is_same(&held.body, body))
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
    fn new_body_beyond_the_limit_can_be_shared() {
        let bodies = HeldBodies::default();
        let _others = hold_all(&bodies, None);
        let new = bodies.hold_new(&key("/"), body(MIB));
        assert_eq!(bodies.bytes(), LEAST_LIMIT, "it takes no bytes from other responses");
        // The store has made a copy of the body.
        let shared = bodies.hold(&key("/"), &body(MIB), client(2)).unwrap();
        assert_eq!((shared.as_ptr(), bodies.bytes()), (new.as_ptr(), LEAST_LIMIT));
        drop((new, shared));
        assert!(bodies.hold(&key("/"), &body(MIB), client(2)).is_none());
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
        assert!(bodies.find_equal(&key("/"), &other.into()).is_none());
        drop(held);
        assert!(bodies.find_equal(&key("/"), &body(MIB)).is_none());
    }
}
