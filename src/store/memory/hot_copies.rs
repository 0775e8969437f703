//! Copies of hot entries, for each thread its own.
//!
//! A hit counts the references to the stored response, to its body and to each of its field values. If
//! several threads send one page, they take turns in writing these counts. So a thread makes a copy of
//! an entry that it looks up often. Then only the lookup itself uses the shared entry, and the threads
//! still share the bytes of copies in content codings. Each lookup reads the entry in the store, and a
//! copy of an entry that was replaced or removed is not used.

use std::{
    cell::RefCell,
    ptr,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::entry::variants::Variants;

/// The number of entries of which a thread keeps copies. Entries with equal places replace each other.
const PLACES: usize = 64;

/// The number of lookups after which a thread copies an entry.
const HOT: u8 = 8;

/// The largest number of lookups that a place counts. As many lookups of other entries replace a copy.
const MAX_LOOKUPS: u8 = 32;

/// The weight in bytes of the largest entry that is copied, so that the copies of a thread take at most
/// 512 KiB.
const MAX_WEIGHT: usize = 8 * 1024;

thread_local! {
    static COPIES: RefCell<[Place; PLACES]> = const { RefCell::new([const { Place::EMPTY }; PLACES]) };
}

/// A place for the copy of one of the entries whose digests have equal remainders.
struct Place {
    /// The address of the entry that this thread looks up most.
    entry: usize,
    lookups: u8,
    copy: Option<HotCopy>,
}

struct HotCopy {
    /// While this reference exists, no other entry gets the address of the copied one.
    _entry: Weak<Variants>,
    copy: Arc<Variants>,
}

impl Place {
    const EMPTY: Self = Self { entry: 0, lookups: 0, copy: None };

    fn look_up(&mut self, found: &Arc<Variants>) -> Option<Arc<Variants>> {
        let entry = Arc::as_ptr(found).addr();
        if self.entry != entry {
            self.lookups = self.lookups.saturating_sub(1);
            if self.lookups == 0 {
                *self = Self { entry, lookups: 1, copy: None };
            }
            return None;
        }
        self.lookups = self.lookups.saturating_add(1).min(MAX_LOOKUPS);
        if let Some(HotCopy { copy, .. }) = &self.copy {
            // A use of the copy counts for the stored response. Its count is soon only read.
            found.responses().iter().for_each(|response| response.uses.add());
            return Some(Arc::clone(copy));
        }
        if self.lookups == HOT && found.weight() <= MAX_WEIGHT {
            let copy = found.copied()?;
            self.copy = Some(HotCopy { _entry: Arc::downgrade(found), copy: Arc::new(copy) });
        }
        None
    }
}

/// Returns the copy of an entry that this thread has, or the entry itself. `digest` is the digest of its
/// key.
pub(super) fn copy_of_thread(digest: u64, found: Arc<Variants>) -> Arc<Variants> {
    COPIES.with_borrow_mut(|places| {
        let place = places.get_mut((digest >> 32) as usize % PLACES);
        place.and_then(|place| place.look_up(&found)).unwrap_or(found)
    })
}

/// The threads that read a store.
#[derive(Debug, Default)]
pub(super) struct Readers(AtomicUsize);

impl Readers {
    const SEVERAL: usize = usize::MAX;

    /// Returns whether other threads than this one have read the store, too.
    pub(super) fn are_several(&self) -> bool {
        thread_local! {
            static MARKER: u8 = const { 0 };
        }
        let this = MARKER.with(|marker| ptr::from_ref(marker).addr());
        match self.0.load(Ordering::Relaxed) {
            Self::SEVERAL => true,
            first if first == this => false,
            0 => {
                // If two threads are the first ones at the same time, a later call finds both.
                self.0.store(this, Ordering::Relaxed);
                false
            }
            _ => {
                self.0.store(Self::SEVERAL, Ordering::Relaxed);
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use bytes::Bytes;

    use super::*;
    use crate::entry::{fixtures::stored, response::StoredResponse};

    fn entry(body: &Bytes) -> Arc<Variants> {
        let response = StoredResponse { body: body.clone(), ..stored(0, &[]) };
        Arc::new(Variants::new(&[], [Arc::new(response)]))
    }

    fn body(variants: &Variants) -> &Bytes {
        variants.responses()[0].body()
    }

    /// Looks up an entry, and returns whether the thread has a copy. Entries of different `places` do not
    /// displace each other.
    fn is_copied(place: usize, entry: &Arc<Variants>) -> bool {
        let found = copy_of_thread((place as u64) << 32, Arc::clone(entry));
        assert_eq!(body(&found), body(entry));
        !Arc::ptr_eq(&found, entry)
    }

    #[test]
    fn hot_entry_is_copied_and_shares_no_memory_with_its_copy() {
        let bytes = Bytes::from(vec![b'x'; 100]);
        let hot = entry(&bytes);
        for lookup in 1..100 {
            assert_eq!(is_copied(1, &hot), lookup > HOT, "{lookup}");
        }
        assert_eq!(hot.responses()[0].uses.get(), 15, "the uses of the copy count");
        let copy = copy_of_thread(1 << 32, Arc::clone(&hot));
        assert_ne!(body(&copy).as_ptr(), bytes.as_ptr());
        drop(hot);
        assert!(bytes.is_unique());
    }

    #[test]
    fn replaced_entry_is_not_answered_by_the_copy() {
        let old = entry(&Bytes::from_static(b"old"));
        while !is_copied(2, &old) {}
        let new = entry(&Bytes::from_static(b"new"));
        drop(old);
        for _ in 0..3 * MAX_LOOKUPS {
            let found = copy_of_thread(2 << 32, Arc::clone(&new));
            assert_eq!(body(&found), "new");
        }
        assert!(is_copied(2, &new));
    }

    #[test]
    fn seldom_used_entries_displace_no_copy() {
        let (hot, other) = (entry(&Bytes::from_static(b"a")), entry(&Bytes::from_static(b"b")));
        while !is_copied(3, &hot) {}
        for _ in 0..100 {
            assert!(!is_copied(3 + PLACES, &other));
            assert!(is_copied(3, &hot));
        }
        for _ in 0..MAX_LOOKUPS + HOT {
            is_copied(3 + PLACES, &other);
        }
        assert!(is_copied(3 + PLACES, &other) && !is_copied(3, &hot));
    }

    #[test]
    fn large_entry_and_entry_with_several_variants_are_not_copied() {
        let large = entry(&Bytes::from(vec![0; MAX_WEIGHT]));
        let response = || Arc::new(stored(0, &[]));
        let several = Arc::new(Variants::new(&[], [response(), response()]));
        for (place, entry) in [(4, large), (5, several)] {
            for _ in 0..100 {
                assert!(!is_copied(place, &entry));
            }
        }
    }

    #[test]
    fn readers_are_several_once_a_second_thread_reads() {
        let readers = Readers::default();
        assert!(!readers.are_several() && !readers.are_several());
        thread::scope(|scope| {
            assert!(scope.spawn(|| readers.are_several()).join().unwrap());
        });
        assert!(readers.are_several());
    }
}
