//! The slices in which a complete body leaves.
//!
//! A server copies each slice into a buffer of the connection. If a whole body left at once, many
//! clients that do not read would therefore take many times the memory of the stored body. A body in
//! short slices costs more CPU time, however, because the server writes more often. A slice is
//! therefore long while few long slices wait for their clients, and short otherwise.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    vec,
};

use bytes::{Bytes, BytesMut};

/// The length of a slice while many long slices wait for their clients.
const SHORT_SLICE: usize = 64 * 1024;

/// The largest length of a slice.
const LONG_SLICE: usize = 1024 * 1024;

/// The largest number of bytes of all long slices in the process that wait for their clients.
const MAX_LONG_BYTES: usize = 8 * 1024 * 1024;

static LONG_BYTES: LongBytes = LongBytes(AtomicUsize::new(0));

/// The number of bytes of long slices that wait for their clients.
#[derive(Debug)]
struct LongBytes(AtomicUsize);

impl LongBytes {
    /// Permits a long slice. Returns `None` if too many bytes of long slices wait already.
    fn permit(&'static self, bytes: usize) -> Option<LongSlice> {
        let permit = |waiting: usize| {
            waiting.checked_add(bytes).filter(|&waiting| waiting <= MAX_LONG_BYTES)
        };
        let result = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, permit);
        result.ok().map(|_| LongSlice { waiting: self, bytes })
    }
}

/// The permit for one long slice.
#[derive(Debug)]
struct LongSlice {
    waiting: &'static LongBytes,
    bytes: usize,
}

impl Drop for LongSlice {
    fn drop(&mut self) {
        self.waiting.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Parts of a body that follow each other.
#[derive(Debug)]
struct Parts {
    parts: vec::IntoIter<Bytes>,
    /// The number of bytes of all parts that are left.
    length: usize,
}

/// A complete body, or the rest of one. It may consist of several parts.
#[derive(Debug)]
pub(crate) struct Slices {
    /// The rest of the current part.
    rest: Bytes,
    /// The parts after the current one, if the body has several.
    following: Option<Box<Parts>>,
    /// The permit of the last slice, if it was long. A server asks for the next slice only when it
    /// has written most of the last one.
    last: Option<LongSlice>,
}

impl Slices {
    pub(crate) const fn new(body: Bytes) -> Self {
        Self { rest: body, following: None, last: None }
    }

    /// Makes a body of several parts.
    pub(crate) fn of_parts(parts: Vec<Bytes>) -> Self {
        let length = parts.iter().map(Bytes::len).sum();
        let following = Some(Box::new(Parts { parts: parts.into_iter(), length }));
        Self { rest: Bytes::new(), following, last: None }
    }

    /// Returns the number of bytes that are left.
    pub(crate) fn len(&self) -> usize {
        self.rest.len() + self.following.as_ref().map_or(0, |following| following.length)
    }

    /// Returns all that is left if it fits into a short slice, and the slices otherwise.
    pub(crate) fn into_short_rest(self) -> Result<Bytes, Self> {
        let length = self.len();
        if length > SHORT_SLICE {
            return Err(self);
        }
        let Some(following) = self.following else { return Ok(self.rest) };
        let mut all = BytesMut::with_capacity(length);
        all.extend_from_slice(&self.rest);
        following.parts.for_each(|part| all.extend_from_slice(&part));
        Ok(all.freeze())
    }
}

impl Iterator for Slices {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        self.last = None;
        while self.rest.is_empty() {
            let following = self.following.as_mut()?;
            self.rest = following.parts.next()?;
            following.length -= self.rest.len();
        }
        let length = self.rest.len();
        if length > SHORT_SLICE {
            self.last = LONG_BYTES.permit(length.min(LONG_SLICE));
        }
        let slice = self.last.as_ref().map_or(SHORT_SLICE, |slice| slice.bytes);
        Some(self.rest.split_to(slice.min(length)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_leave_in_order() {
        let parts = || ["ab", "", "c"].map(Bytes::from).to_vec();
        let mut slices = Slices::of_parts(parts());
        assert_eq!(slices.len(), 3);
        assert_eq!(slices.next().unwrap(), "ab");
        assert_eq!(slices.len(), 1);
        assert_eq!(slices.next().unwrap(), "c");
        assert!(slices.next().is_none() && slices.next().is_none() && slices.len() == 0);
        assert_eq!(Slices::of_parts(parts()).into_short_rest().unwrap(), "abc");
    }

    /// No other unit test has a body of more than [`SHORT_SLICE`] bytes, so this is the only test
    /// that changes the count.
    #[test]
    fn slices_are_long_until_too_many_bytes_wait() {
        let body = Bytes::from_iter((0..3 * LONG_SLICE + 5).map(|n| n.to_le_bytes()[0]));
        let mut waiting = Vec::new();
        for _ in 0..MAX_LONG_BYTES / LONG_SLICE {
            let mut slices = Slices::new(body.clone());
            assert_eq!(slices.next().unwrap().len(), LONG_SLICE);
            waiting.push(slices);
        }
        let lengths = |slices: Slices| slices.map(|slice| slice.len()).collect::<Vec<_>>();
        let short = lengths(Slices::new(body.slice(..2 * SHORT_SLICE + 1)));
        assert_eq!(short, [SHORT_SLICE, SHORT_SLICE, 1]);
        assert_eq!(lengths(Slices::new(body.slice(..SHORT_SLICE))), [SHORT_SLICE]);
        assert_eq!(lengths(Slices::new(Bytes::new())), [0; 0]);
        // The slice of the first body has been written.
        waiting.remove(0);
        let mut slices = Slices::new(body.clone());
        assert_eq!(slices.next().unwrap(), body[..LONG_SLICE]);
        assert_eq!(slices.len(), body.len() - LONG_SLICE);
        assert_eq!(slices.next().unwrap().len(), LONG_SLICE, "the next slice replaces the last");
        let slices = slices.into_short_rest().unwrap_err();
        assert_eq!(slices.len(), LONG_SLICE + 5, "a long rest stays in slices");
        drop(slices);
        let mut short = Slices::new(body.slice(..SHORT_SLICE + 3));
        short.next().unwrap();
        assert!(short.into_short_rest().unwrap().is_empty());
        drop(waiting);
        let joined: Vec<_> = Slices::new(body.clone()).flatten().collect();
        assert!(joined == body);
        assert_eq!(LONG_BYTES.0.load(Ordering::Relaxed), 0);
    }
}
