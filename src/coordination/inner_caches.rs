//! The keys whose requests an inner cache handles, which is nested inside another cache.

use super::key_marks::KeyMarks;
use crate::{clock::Timestamp, entry::key::CacheKey};

/// The mark of a key whose requests an inner cache handles.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InnerCacheMark(u64);

/// The marks of keys whose requests an inner cache handles. Each mark lasts for some seconds.
#[derive(Debug, Default)]
pub(super) struct InnerCaches {
    handled: KeyMarks,
    /// The marks of `handled` that a request without an inner cache has ended.
    ended: KeyMarks,
}

impl InnerCaches {
    /// Marks a key, unless its mark was ended within the last few seconds.
    pub(super) fn mark(&self, key: &CacheKey, discriminator: &[u8], now: Timestamp) {
        let mark = self.handled.digest((key.as_bytes(), discriminator));
        if !self.ended.is_marked(mark, now) {
            self.handled.mark_digest(mark, now);
        }
    }

    /// Returns the mark of a key, unless it was ended within the last few seconds.
    pub(super) fn find(
        &self,
        key: &CacheKey,
        discriminator: &[u8],
        now: Timestamp,
    ) -> Option<InnerCacheMark> {
        let mark = self.handled.marked_digest((key.as_bytes(), discriminator), now)?;
        let is_ended = self.ended.is_marked(mark, now);
        (!is_ended).then_some(InnerCacheMark(mark))
    }

    pub(super) fn end(&self, mark: InnerCacheMark, now: Timestamp) {
        self.ended.mark(mark.0, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::fixtures::at;

    #[test]
    fn ended_mark_is_not_made_again_for_some_seconds() {
        let caches = InnerCaches::default();
        let key = CacheKey::new("t", "http", "h", "/", None);
        assert!(caches.find(&key, b"a", at(0)).is_none());
        caches.mark(&key, b"a", at(0));
        let mark = caches.find(&key, b"a", at(1)).unwrap();
        assert!(caches.find(&key, b"b", at(1)).is_none(), "of another discriminator");

        caches.end(mark, at(1));
        caches.mark(&key, b"a", at(2));
        assert!(caches.find(&key, b"a", at(2)).is_none());
        caches.mark(&key, b"a", at(12));
        assert!(caches.find(&key, b"a", at(12)).is_some());
    }
}
