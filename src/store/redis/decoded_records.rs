//! Stored responses that a thread has decoded lately.
//!
//! Each lookup reads the record of a response from Redis. If the record has the same bytes as at an
//! earlier lookup, the response of the earlier lookup is used again, and the record is not decoded a
//! second time. The comparison of all bytes takes much less time than the decoder, which also
//! computes the checksum of the record.
//!
//! Threads share no decoded responses. At each hit, they would otherwise write the counts of
//! references of the same response and of its field values.

use std::{cell::RefCell, sync::Arc};

use thread_local::ThreadLocal;

use super::records::{FoundRecord, WantedRecord};
use crate::entry::{codec, key::CacheKey, stamp::Stamp, variants::Variants};

/// The maximum number of responses of a thread. Responses with equal places replace each other.
const PLACES: usize = 256;

/// The size in bytes of the largest record that is kept, so that the records of a thread take at most
/// 2 MiB.
const MAX_SIZE: usize = 8 * 1024;

/// The maximum number of lookups of other responses after which an unused response is replaced.
const MAX_CREDIT: u8 = 3;

/// The responses that each thread has decoded lately, by the digests of their cache keys and variants.
#[derive(Default)]
pub(super) struct DecodedRecords(ThreadLocal<RefCell<Places>>);

struct Places(Box<[Place]>);

#[derive(Default)]
struct Place {
    decoded: Option<Box<DecodedRecord>>,
    /// The number of lookups of other responses in this place that do not replace the response. Each
    /// use of the response adds one. Seldom used responses therefore do not displace popular ones.
    credit: u8,
}

/// A record, and the result of decoding it.
struct DecodedRecord {
    /// The digest of the cache key, the variant and the content coding. It chooses the place.
    digest: u64,
    key: CacheKey,
    record: FoundRecord,
    /// The epoch of the invalidation table at the lookup that found the record.
    stamp: Stamp,
    variants: Arc<Variants>,
}

impl Default for Places {
    fn default() -> Self {
        Self((0..PLACES).map(|_| Place::default()).collect())
    }
}

impl Places {
    fn get_mut(&mut self, digest: u64) -> Option<&mut Place> {
        self.0.get_mut(digest as usize % PLACES)
    }
}

impl DecodedRecords {
    /// Returns the result of decoding an equal record earlier, if decoding the record again would give
    /// the same result.
    ///
    /// `stamp` is the result of the lookup. Each invalidation in Redis changes it, and each response is
    /// then decoded again. So no response that is used again keeps the result of a validity check
    /// from before an invalidation that the lookup knows.
    pub(super) fn find(
        &self,
        wanted: &WantedRecord<'_>,
        record: &FoundRecord,
        stamp: Stamp,
    ) -> Option<Arc<Variants>> {
        let digest = wanted.digest();
        let mut places = self.0.get()?.borrow_mut();
        let Place { decoded, credit } = places.get_mut(digest)?;
        let decoded = decoded.as_ref().filter(|decoded| decoded.digest == digest)?;
        *credit = credit.saturating_add(1).min(MAX_CREDIT);
        let variants = &decoded.variants;
        let has_same_time = || {
            let mut responses = variants.responses().iter();
            responses.all(|response| codec::has_same_time(response, wanted.now))
        };
        // Digests may collide, so the whole key is compared, too.
        let is_same = decoded.stamp == stamp
            && decoded.record == *record
            && decoded.key == *wanted.key
            && variants.selecting_fields() == &**wanted.selecting
            && has_same_time();
        is_same.then(|| Arc::clone(variants))
    }

    /// Keeps the result of decoding a record, unless the record is large or its place belongs to a
    /// response with more uses.
    pub(super) fn add(
        &self,
        wanted: &WantedRecord<'_>,
        record: FoundRecord,
        stamp: Stamp,
        variants: Arc<Variants>,
    ) {
        if record.size() > MAX_SIZE {
            return;
        }
        let digest = wanted.digest();
        let mut places = self.0.get_or_default().borrow_mut();
        let Some(Place { decoded, credit }) = places.get_mut(digest) else { return };
        if *credit > 0 && decoded.as_ref().is_some_and(|old| old.digest != digest) {
            *credit -= 1;
            return;
        }
        let key = wanted.key.clone();
        *decoded = Some(Box::new(DecodedRecord { digest, key, record, stamp, variants }));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use actix_web::http::header::ACCEPT;
    use bytes::Bytes;

    use super::*;
    use crate::{
        clock::Timestamp,
        entry::{
            content_coding::ContentCoding,
            fixtures::{at, stored},
        },
        store::redis::{
            keys::{EntryKey, Keys},
            records::SelectingFields,
        },
    };

    /// The data of a lookup of one variant.
    struct Case {
        key: CacheKey,
        entry: EntryKey,
        selecting: SelectingFields,
        coding: Option<ContentCoding>,
        now: Timestamp,
        stamp: Stamp,
    }

    impl Case {
        /// Makes a lookup of a key with this digest.
        fn of(path: &str, digest: u64) -> Self {
            let key = CacheKey::new("", "http", "h", path, None);
            let entry = EntryKey { digest, ..Keys::new("n").entry(&key) };
            let (selecting, stamp) = (SelectingFields::from([]), Stamp::new(1));
            Self { key, entry, selecting, coding: None, now: at(5), stamp }
        }

        fn wanted(&self) -> WantedRecord<'_> {
            let Self { key, entry, selecting, coding, now, .. } = self;
            let fields: Vec<_> = selecting.iter().map(|name| (name.clone(), None)).collect();
            let variant = stored(0, &fields).variant();
            WantedRecord { key, entry, selecting, variant, coding: *coding, now: *now }
        }

        fn add(&self, records: &DecodedRecords, record: FoundRecord) {
            let variants = Arc::new(Variants::new(&[], [Arc::new(stored(1, &[]))]));
            records.add(&self.wanted(), record, self.stamp, variants);
        }

        fn finds(&self, records: &DecodedRecords, record: &FoundRecord) -> bool {
            records.find(&self.wanted(), record, self.stamp).is_some()
        }
    }

    fn record(text: &'static str) -> FoundRecord {
        FoundRecord { record: Bytes::from_static(text.as_bytes()), copy: None }
    }

    #[test]
    fn only_an_equal_record_is_found() {
        let (records, case) = (DecodedRecords::default(), Case::of("/a", 7));
        assert!(!case.finds(&records, &record("one")));
        case.add(&records, record("one"));
        assert!(case.finds(&records, &record("one")));
        let with_copy = FoundRecord { copy: Some(Bytes::new()), ..record("one") };
        for other in [record("two"), record("on"), with_copy.clone()] {
            assert!(!case.finds(&records, &other));
        }
        case.add(&records, with_copy.clone());
        assert!(case.finds(&records, &with_copy) && !case.finds(&records, &record("one")));
    }

    #[test]
    fn another_lookup_does_not_find_the_record() {
        let (records, case) = (DecodedRecords::default(), Case::of("/a", 7));
        case.add(&records, record("one"));
        let same_place = 7 + PLACES as u64;
        for (reason, other) in [
            ("another key with an equal digest", Case::of("/b", 7)),
            ("another digest in the same place", Case::of("/a", same_place)),
            ("other selecting fields", Case { selecting: Arc::new([ACCEPT]), ..Case::of("/a", 7) }),
            ("a coding", Case { coding: Some(ContentCoding::Gzip), ..Case::of("/a", 7) }),
            ("an invalidation", Case { stamp: Stamp::new(2), ..Case::of("/a", 7) }),
        ] {
            assert!(!other.finds(&records, &record("one")), "{reason}");
        }
        assert!(case.finds(&records, &record("one")));
    }

    #[test]
    fn record_is_decoded_again_once_the_wall_clock_was_set() {
        let (records, case) = (DecodedRecords::default(), Case::of("/a", 7));
        case.add(&records, record("one"));
        for (shift, is_found) in
            [(0, true), (100, true), (-100, true), (101, false), (-101, false), (-9_000, false)]
        {
            let wall = at(50).wall().as_millis() as i64 + shift;
            let now = Timestamp::new(Duration::from_millis(wall as u64), at(50).monotonic());
            let later = Case { now, ..Case::of("/a", 7) };
            assert_eq!(later.finds(&records, &record("one")), is_found, "{shift} ms");
        }
    }

    #[test]
    fn used_response_outlasts_lookups_of_others_in_its_place() {
        let (records, used) = (DecodedRecords::default(), Case::of("/a", 7));
        let other = Case::of("/b", 7 + PLACES as u64);
        used.add(&records, record("a"));
        for _ in 0..100 {
            assert!(used.finds(&records, &record("a")));
        }
        for _ in 0..MAX_CREDIT {
            other.add(&records, record("b"));
            assert!(!other.finds(&records, &record("b")));
        }
        other.add(&records, record("b"));
        assert!(other.finds(&records, &record("b")) && !used.finds(&records, &record("a")));
    }

    #[test]
    fn large_record_is_not_kept() {
        let (records, case) = (DecodedRecords::default(), Case::of("/a", 7));
        for (size, is_kept) in [(MAX_SIZE, true), (MAX_SIZE + 1, false)] {
            let large = FoundRecord { record: Bytes::from(vec![0; size]), copy: None };
            case.add(&records, large.clone());
            assert_eq!(case.finds(&records, &large), is_kept, "{size}");
        }
    }
}
