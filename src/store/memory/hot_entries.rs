//! Entries that a thread looks up often.
//!
//! A lookup in the store counts the entry for the eviction policy, and a hit counts the references to the
//! stored response, to its body and to each of its field values. If several threads send one page, they
//! take turns in writing these counts. So a thread keeps the entries that it looks up most. It answers most
//! lookups of them without the store, while no entry of their URLs changes. If other threads read the
//! store, too, the thread makes a copy of each of them; the threads still share the bytes of copies in
//! content codings.

use std::{
    cell::RefCell,
    ptr,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::{entries::Entry, entry_key::EntryKey};
use crate::entry::variants::Variants;

/// The number of entries that a thread keeps. Entries with equal places replace each other.
const PLACES: usize = 64;

/// The number of lookups after which a thread keeps an entry.
const HOT: u8 = 8;

/// The largest number of lookups that a place counts. As many lookups of other entries replace a kept
/// entry.
const MAX_LOOKUPS: u8 = 32;

/// The number of lookups that a thread answers by a kept entry, until the next one reads the store. The
/// eviction policy of the store sees that lookup.
const ANSWERS: u8 = 15;

/// The weight in bytes of the largest entry that is kept, so that those of a thread take at most 512 KiB.
const MAX_WEIGHT: usize = 8 * 1024;

thread_local! {
    static PLACES_OF_THREAD: RefCell<[Place; PLACES]> =
        const { RefCell::new([const { Place::EMPTY }; PLACES]) };
}

/// A lookup of an entry.
#[derive(Clone, Copy)]
pub(super) struct EntryLookup<'a> {
    /// The id of the store in the process.
    pub(super) store: u64,
    pub(super) key: &'a EntryKey,
    /// The version of the URL before the lookup
    /// ([`UrlIndex::version`](crate::entry::url_index::UrlIndex::version)).
    pub(super) version: u64,
    /// The number of the current tick.
    pub(super) now: u32,
}

/// A place for one of the entries whose digests have equal remainders.
struct Place {
    /// The address of the entry that this thread looks up most.
    entry: usize,
    lookups: u8,
    kept: Option<Kept>,
}

/// An entry that a thread keeps.
struct Kept {
    /// While this reference exists, no other entry gets the address of this one.
    _entry: Weak<Variants>,
    /// The entry, or the copy of this thread.
    variants: Arc<Variants>,
    store: u64,
    key: EntryKey,
    /// The version and the end of the entry when this thread last read the store.
    version: u64,
    end: u32,
    /// The number of lookups that are answered before the next one reads the store.
    answers: u8,
}

impl Kept {
    /// Returns the entry, if it is that of the lookup and has not changed.
    fn answer(&mut self, lookup: EntryLookup<'_>) -> Option<Arc<Variants>> {
        let is_current = self.version == lookup.version
            && self.store == lookup.store
            && self.key == *lookup.key
            && lookup.now < self.end;
        if !is_current {
            return None;
        }
        self.answers = self.answers.checked_sub(1)?;
        Some(Arc::clone(&self.variants))
    }
}

impl Place {
    const EMPTY: Self = Self { entry: 0, lookups: 0, kept: None };

    /// Returns the kept entry, if the lookup need not read the store.
    fn answer(&mut self, lookup: EntryLookup<'_>) -> Option<Arc<Variants>> {
        let answer = self.kept.as_mut()?.answer(lookup)?;
        self.count_lookup();
        Some(answer)
    }

    /// Counts a lookup of the entry that this thread looks up most.
    fn count_lookup(&mut self) {
        self.lookups = self.lookups.saturating_add(1).min(MAX_LOOKUPS);
    }

    /// Counts an entry that a lookup has found in the store. Returns the kept form of the entry.
    fn count(
        &mut self,
        lookup: EntryLookup<'_>,
        found: &Entry,
        is_shared: bool,
    ) -> Option<Arc<Variants>> {
        let entry = Arc::as_ptr(&found.variants).addr();
        if self.entry != entry {
            self.lookups = self.lookups.saturating_sub(1);
            if self.lookups == 0 {
                *self = Self { entry, lookups: 1, kept: None };
            }
            return None;
        }
        self.count_lookup();
        let own =
            |found: &Arc<Variants>| if is_shared { found.copied().map(Arc::new) } else { None };
        if let Some(kept) = &mut self.kept {
            let is_entry = Arc::ptr_eq(&kept.variants, &found.variants);
            if is_entry && let Some(copy) = own(&found.variants) {
                kept.variants = copy;
            } else if !is_entry {
                // Some uses of the copy count for the stored response. Its count is soon only read.
                found.variants.responses().iter().for_each(|response| response.uses.add());
            }
            (kept.version, kept.end, kept.answers) = (lookup.version, found.end, ANSWERS);
            return Some(Arc::clone(&kept.variants));
        }
        if self.lookups == HOT && found.variants.weight() <= MAX_WEIGHT {
            self.kept = Some(Kept {
                _entry: Arc::downgrade(&found.variants),
                variants: own(&found.variants).unwrap_or_else(|| Arc::clone(&found.variants)),
                store: lookup.store,
                key: lookup.key.clone(),
                version: lookup.version,
                end: found.end,
                answers: ANSWERS,
            });
        }
        None
    }
}

fn with_place<T>(lookup: EntryLookup<'_>, read: impl FnOnce(&mut Place) -> Option<T>) -> Option<T> {
    PLACES_OF_THREAD.with_borrow_mut(|places| {
        let place = (lookup.key.digest() >> 32) as usize % PLACES;
        places.get_mut(place).and_then(read)
    })
}

/// Returns the entry that this thread keeps for a lookup, if the lookup need not read the store.
pub(super) fn kept_entry(lookup: EntryLookup<'_>) -> Option<Arc<Variants>> {
    with_place(lookup, |place| place.answer(lookup))
}

/// Returns the responses of an entry that a lookup has found in the store, or the copy of this thread.
/// `is_shared` says whether other threads read the store, too.
pub(super) fn responses_for_thread(
    lookup: EntryLookup<'_>,
    found: Entry,
    is_shared: bool,
) -> Arc<Variants> {
    with_place(lookup, |place| place.count(lookup, &found, is_shared)).unwrap_or(found.variants)
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

    fn variants(body: &Bytes) -> Arc<Variants> {
        let response = StoredResponse { body: body.clone(), ..stored(0, &[]) };
        Arc::new(Variants::new(&[], [Arc::new(response)]))
    }

    fn body(variants: &Variants) -> &Bytes {
        variants.responses()[0].body()
    }

    /// A store with one entry, as the functions of this module see it. Entries of different `places` do
    /// not displace each other.
    struct OneEntry {
        id: u64,
        key: EntryKey,
        variants: Arc<Variants>,
        version: u64,
        now: u32,
        is_shared: bool,
    }

    impl OneEntry {
        fn new(place: usize, variants: Arc<Variants>) -> Self {
            let key = EntryKey::with_digest((place as u64) << 32);
            Self { id: 1, key, variants, version: 0, now: 0, is_shared: true }
        }

        fn lookup(&self) -> EntryLookup<'_> {
            EntryLookup { store: self.id, key: &self.key, version: self.version, now: self.now }
        }

        /// Returns the kept entry, if the lookup need not read the store.
        fn kept(&self) -> Option<Arc<Variants>> {
            kept_entry(self.lookup())
        }

        /// Looks up the entry in the store.
        fn read(&self) -> Arc<Variants> {
            let entry = Entry::until(Arc::clone(&self.variants), 100);
            let found = responses_for_thread(self.lookup(), entry, self.is_shared);
            assert_eq!(body(&found), body(&self.variants));
            found
        }

        /// Looks up the entry in the store, and returns whether the thread has a copy.
        fn is_copied(&self) -> bool {
            !Arc::ptr_eq(&self.read(), &self.variants)
        }

        fn make_hot(&self) {
            for _ in 0..=MAX_LOOKUPS + HOT {
                self.read();
            }
            assert!(self.kept().is_some());
        }
    }

    #[test]
    fn hot_entry_is_copied_and_shares_no_memory_with_its_copy() {
        let bytes = Bytes::from(vec![b'x'; 100]);
        let hot = OneEntry::new(1, variants(&bytes));
        for lookup in 1..100 {
            assert_eq!(hot.kept().is_some(), lookup > HOT, "{lookup}");
            assert_eq!(hot.is_copied(), lookup > HOT, "{lookup}");
        }
        assert_eq!(hot.variants.responses()[0].uses.get(), 15, "the uses of the copy count");
        assert_ne!(body(&hot.read()).as_ptr(), bytes.as_ptr());
        drop(hot);
        assert!(bytes.is_unique());
    }

    #[test]
    fn entry_that_one_thread_reads_is_kept_without_a_copy_until_another_thread_reads() {
        let mut hot =
            OneEntry { is_shared: false, ..OneEntry::new(2, variants(&Bytes::from_static(b"a"))) };
        hot.make_hot();
        assert!(!hot.is_copied());
        assert!(hot.kept().is_some_and(|kept| Arc::ptr_eq(&kept, &hot.variants)));
        hot.is_shared = true;
        assert!(hot.is_copied());
        assert!(hot.kept().is_some_and(|kept| !Arc::ptr_eq(&kept, &hot.variants)));
    }

    #[test]
    fn kept_entry_answers_some_lookups_and_then_one_reads_the_store() {
        let hot = OneEntry::new(3, variants(&Bytes::from_static(b"a")));
        hot.make_hot();
        while hot.kept().is_some() {}
        for _ in 0..3 {
            assert!(hot.kept().is_none());
            hot.read();
            let answers = (0..100).take_while(|_| hot.kept().is_some()).count();
            assert_eq!(answers, usize::from(ANSWERS));
        }
    }

    #[test]
    fn kept_entry_answers_no_lookup_of_another_store_key_or_version_or_after_its_end() {
        let hot = || {
            let hot = OneEntry::new(4, variants(&Bytes::from_static(b"a")));
            hot.make_hot();
            hot
        };
        let other_key = EntryKey::with_digest(4 << 32 | 1);
        for (case, changed) in [
            ("store", OneEntry { id: 2, ..hot() }),
            ("key", OneEntry { key: other_key, ..hot() }),
            ("version", OneEntry { version: 1, ..hot() }),
            ("end", OneEntry { now: 100, ..hot() }),
        ] {
            assert!(changed.kept().is_none(), "{case}");
        }
        assert!(OneEntry { now: 99, ..hot() }.kept().is_some());
        let changed = OneEntry { version: 1, ..hot() };
        changed.read();
        assert!(changed.kept().is_some(), "the store still has the entry");
    }

    #[test]
    fn replaced_entry_is_not_answered_by_the_copy() {
        let old = OneEntry::new(5, variants(&Bytes::from_static(b"old")));
        old.make_hot();
        let new =
            OneEntry { version: 1, ..OneEntry::new(5, variants(&Bytes::from_static(b"new"))) };
        drop(old);
        for _ in 0..3 * MAX_LOOKUPS {
            assert!(new.kept().is_none_or(|kept| body(&kept) == "new"));
            new.read();
        }
        assert!(new.is_copied());
    }

    #[test]
    fn seldom_used_entries_displace_no_kept_entry() {
        let page = |place| OneEntry::new(place, variants(&Bytes::from_static(b"a")));
        let (hot, other) = (page(6), page(6 + PLACES));
        hot.make_hot();
        for _ in 0..100 {
            assert!(!other.is_copied());
            assert!(hot.is_copied());
        }
        other.make_hot();
        assert!(other.is_copied() && !hot.is_copied());
    }

    /// The other entry is looked up in the store each time, and the kept one seldom.
    #[test]
    fn lookups_that_a_kept_entry_answers_count() {
        let page = |place| OneEntry::new(place, variants(&Bytes::from_static(b"a")));
        let (hot, other) = (page(9), page(9 + PLACES));
        hot.make_hot();
        let (mut kept, mut read) = (0, 0);
        for _ in 0..1000 {
            for _ in 0..2 {
                match hot.kept() {
                    Some(_) => kept += 1,
                    None => {
                        assert!(hot.is_copied(), "it is still kept");
                        read += 1;
                    }
                }
            }
            assert!(!other.is_copied());
        }
        assert_eq!((kept, read), (1875, 125));
    }

    #[test]
    fn large_entry_is_not_kept_and_entry_with_several_variants_is_kept_without_a_copy() {
        let large = OneEntry::new(7, variants(&Bytes::from(vec![0; MAX_WEIGHT])));
        let response = || Arc::new(stored(0, &[]));
        let several = Arc::new(Variants::new(&[], [response(), response()]));
        let several = OneEntry::new(8, several);
        for _ in 0..100 {
            assert!(!large.is_copied() && large.kept().is_none());
            assert!(!several.is_copied());
        }
        assert!(several.kept().is_some_and(|kept| Arc::ptr_eq(&kept, &several.variants)));
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
