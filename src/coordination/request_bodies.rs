//! The limit of the memory for the bodies of requests that are part of cache keys.
//!
//! The cache reads such a body before it looks up the store, and keeps it until the handler is not
//! called again for the request. Many slow clients could therefore keep much memory. If the limit is
//! reached, the handler gets further requests without a lookup.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;

/// The largest number of bytes of all these bodies over one store.
const LIMIT: usize = 16 * 1024 * 1024;

/// The number of bytes of the request bodies in memory. Clones share one limit.
#[derive(Debug, Clone, Default)]
pub(crate) struct RequestBodies(Arc<AtomicUsize>);

impl RequestBodies {
    /// Begins a body.
    pub(super) fn begin(&self) -> RequestBody {
        RequestBody { bytes: Vec::new(), total: Arc::clone(&self.0) }
    }

    /// Returns the number of bytes of all bodies.
    pub(super) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// The part of a request body that has arrived. Its bytes count until it is dropped.
#[derive(Debug)]
pub(crate) struct RequestBody {
    bytes: Vec<u8>,
    total: Arc<AtomicUsize>,
}

/// The error if a body would exceed the limit of all bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoRoom;

impl RequestBody {
    pub(crate) const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Appends bytes to the body, or nothing if there is no room for them.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), NoRoom> {
        let add = |total: usize| total.checked_add(bytes.len()).filter(|total| *total <= LIMIT);
        let added = self.total.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        added.map_err(|_| NoRoom)?;
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Returns the bytes, which count until all their clones and slices are dropped.
    pub(crate) fn freeze(mut self) -> Bytes {
        self.bytes.shrink_to_fit();
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for RequestBody {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        self.total.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_count_until_the_last_clone_is_dropped() {
        let bodies = RequestBodies::default();
        let mut body = bodies.begin();
        body.append(b"ab").unwrap();
        body.append(b"c").unwrap();
        assert_eq!((body.len(), bodies.bytes()), (3, 3));
        let bytes = body.freeze();
        let clone = bytes.slice(1..);
        drop(bytes);
        assert_eq!((&clone[..], bodies.bytes()), (&b"bc"[..], 3));
        drop(clone);
        assert_eq!(bodies.bytes(), 0);
    }

    #[test]
    fn all_bodies_share_one_limit() {
        let bodies = RequestBodies::default();
        let (mut one, mut other) = (bodies.begin(), bodies.begin());
        one.append(&vec![0; LIMIT - 1]).unwrap();
        assert_eq!(other.append(b"ab"), Err(NoRoom));
        assert_eq!(other.append(b"a"), Ok(()));
        assert_eq!(one.append(b"b"), Err(NoRoom));
        assert_eq!(bodies.bytes(), LIMIT);
        drop(other.freeze());
        assert_eq!((one.append(b"b"), bodies.bytes()), (Ok(()), LIMIT));
    }
}
