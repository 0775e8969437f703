//! The log of invalidations of one store. The cost of an invalidation does not depend on the number
//! of stored responses.
//!
//! A store does not record which responses have a tag. It has a logical clock instead. Each
//! invalidation moves the clock on, and the log records the new time for each tag that the
//! invalidation names: an **invalidation record**. Each response carries its **stamp**: the time that
//! the clock showed before the response's handler ran. A response is valid while no record of any of
//! its tags is later than its stamp.
//!
//! # Proof: no purged response is served, in any order of events
//!
//! An application changes data and then purges the tag `g`. Let `F` be a response with the tag `g`
//! that a handler made from that data. The clock was read as `t` before the handler ran, and the
//! purge moves the clock to `s`. The clock and the records change under one lock, so that one of the
//! two comes first:
//!
//! 1. The clock moved before it was read: `t >= s`. `F` stays valid. This is right, because its
//!    handler began after the data was changed.
//! 2. The clock was read before it moved: `t < s`. Once the purge has returned, the log holds a record
//!    of `g` at `s`. Every later check of `F` finds this record and rejects `F`. It does so whether
//!    `F` was stored before the purge, is stored after it, or is stored much later over a newer
//!    response. The purge needs to know nothing about `F`: neither that it exists, nor that it has
//!    the tag `g`, which may become known only with the handler's response.
//!
//! A purge can therefore cost a miss, but an outdated response is never served. The miss is needless
//! in case 2 if the handler read the data after the change.
//!
//! A request that arrives after an invalidation joins no flight that began before it, because the
//! stamp of its lookup is part of what keeps flights apart.
//!
//! # Further rules that the proof needs
//!
//! 3. **The log is bounded.** If it has too many records, the oldest are dropped. The time of the
//!    latest dropped record becomes the **floor**: every response with an earlier stamp is invalid,
//!    whatever its tags.
//! 4. **Checks are not repeated.** A response that was found valid remembers the time that the clock
//!    showed under the lock. While the clock stands, no record is added, so that the response stays
//!    valid. Once the clock moves, the response is checked again.
//! 5. **Expired responses** have records of a second kind. A response with an earlier stamp is not
//!    rejected, but stale since the time that the record holds. A response that was fetched before
//!    the invalidation and arrives after it is stored, and is stale at once.
//! 6. **A single key needs no record** in a store of one process. The store removes the key's
//!    entry. Before it stores a response it checks, under the lock of the key, that the fill was not
//!    invalidated (`Coordinator::invalidate_fills`).

use std::{
    collections::HashMap,
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use smallvec::SmallVec;

use crate::{
    clock::Timestamp,
    entry::{
        implied_tags::implied_tags,
        invalidation::Invalidation,
        key::CacheKey,
        response::StoredResponse,
        stamp::Stamp,
        tag::{TagId, TagKinds},
        validity::Validity,
    },
};

/// The most tags with records, for each of the two kinds of records.
const MAX_TAGS: usize = 65_536;

/// The most times of expiry that are recorded for one tag.
const MAX_EXPIRY_TIMES: usize = 16;

/// How long the record of a single key is needed, in microseconds. Only stores that several processes
/// share record single keys; their stamps are microseconds, and they store no response of an older
/// fill.
pub(crate) const KEY_RECORD_LIFETIME: u64 = 120_000_000;

/// All invalidations of one store.
#[derive(Debug)]
pub(super) struct InvalidationLog {
    /// Identifies the store in the validity checks of responses. It is not zero.
    store_id: u64,
    /// The logical time, which moves only under the lock of `records`.
    clock: AtomicU64,
    records: RwLock<Records>,
}

#[derive(Debug)]
struct Records {
    purged: RecordTable<()>,
    /// With the time since which responses are stale.
    expired: RecordTable<Timestamp>,
}

/// The records of one kind of invalidation.
#[derive(Debug)]
struct RecordTable<E> {
    tags: HashMap<TagId, History<E>>,
    /// Invalidations of everything.
    floor: History<E>,
    /// The kinds of tags that may have records.
    kinds: TagKinds,
    /// The most times that are kept for one tag.
    max_times: usize,
}

/// The times at which one tag was invalidated, oldest first, with the effect of each invalidation.
#[derive(Debug)]
struct History<E>(SmallVec<[(Stamp, E); 1]>);

impl Default for InvalidationLog {
    fn default() -> Self {
        let store_id = fastrand::u64(1..);
        Self { store_id, clock: AtomicU64::default(), records: RwLock::default() }
    }
}

impl InvalidationLog {
    /// The logical time.
    pub(super) fn now(&self) -> Stamp {
        Stamp::new(self.clock.load(Ordering::Acquire))
    }

    /// The number of tags with records.
    pub(super) fn len(&self) -> usize {
        let records = self.records.read().unwrap_or_else(PoisonError::into_inner);
        records.purged.tags.len() + records.expired.tags.len()
    }

    /// The effect of all invalidations so far on a response.
    pub(super) fn validity(&self, key: &CacheKey, response: &StoredResponse) -> Validity {
        // The common case: no invalidation since the response was made or last checked.
        let now = self.now();
        if response.stamp >= now || response.validity_check.holds(self.store_id, now) {
            return Validity::Valid;
        }
        let records = self.records.read().unwrap_or_else(PoisonError::into_inner);
        let kinds = records.purged.kinds.with(records.expired.kinds);
        let implied = implied_tags(key, response, kinds);
        let tags = || response.tags.iter().chain(&implied);
        if records.purged.later_than(response.stamp, tags()).next().is_some() {
            return Validity::Purged;
        }
        let expired = records.expired.later_than(response.stamp, tags());
        if let Some(first) = expired.min_by_key(|since| (since.monotonic(), since.wall())) {
            return Validity::ExpiredSince(first);
        }
        // The clock does not move while the lock is held.
        response.validity_check.extend(self.store_id, self.now());
        Validity::Valid
    }

    /// Records an invalidation at a new logical time.
    pub(super) fn invalidate(&self, invalidation: &Invalidation) {
        let mut records = self.records.write().unwrap_or_else(PoisonError::into_inner);
        let next = Stamp::new(self.clock.load(Ordering::Acquire) + 1);
        records.add(invalidation, next);
        // The clock moves last: a thread that reads the new time finds the records of that time.
        self.clock.store(next.get(), Ordering::Release);
    }

    /// Records invalidations at logical times that are not made here. The list is complete up to
    /// `until`.
    pub(super) fn record_remote(&self, invalidations: &[(Stamp, Invalidation)], until: Stamp) {
        let mut records = self.records.write().unwrap_or_else(PoisonError::into_inner);
        for (at, invalidation) in invalidations {
            records.add(invalidation, *at);
        }
        self.clock.fetch_max(until.get(), Ordering::Release);
    }
}

impl Records {
    fn add(&mut self, invalidation: &Invalidation, at: Stamp) {
        match invalidation {
            Invalidation::PurgeAll => {
                // The floor replaces all earlier records of tags.
                self.purged.tags.retain(|_, history| history.latest() > at);
                self.purged.add_to_floor(at, ());
            }
            Invalidation::PurgeTags(tags) => self.purged.add(tags, at, ()),
            Invalidation::ExpireAll { since } => self.expired.add_to_floor(at, *since),
            Invalidation::ExpireTags { tags, since } => self.expired.add(tags, at, *since),
        }
    }
}

impl Default for Records {
    fn default() -> Self {
        // Of several purges of a tag only the last counts: it applies to all responses that earlier
        // ones applied to. Of several expiries the first that applies to a response counts.
        Self { purged: RecordTable::new(1), expired: RecordTable::new(MAX_EXPIRY_TIMES) }
    }
}

impl<E: Copy> History<E> {
    fn new() -> Self {
        Self(SmallVec::new())
    }

    fn add(&mut self, at: Stamp, effect: E, max_times: usize) {
        self.0.push((at, effect));
        self.0.sort_by_key(|(stamp, _)| *stamp);
        if self.0.len() > max_times {
            // The oldest two become one: with the later time, so that it applies to all responses of
            // both, and with the earlier effect.
            let (_, oldest) = self.0.remove(0);
            if let Some((_, effect)) = self.0.first_mut() {
                *effect = oldest;
            }
        }
    }

    fn latest(&self) -> Stamp {
        self.0.last().map_or(Stamp::ZERO, |(stamp, _)| *stamp)
    }
}

impl<E: Copy> RecordTable<E> {
    fn new(max_times: usize) -> Self {
        Self { tags: HashMap::new(), floor: History::new(), kinds: TagKinds::default(), max_times }
    }

    /// The effects of invalidations later than `stamp`, of these tags and of everything.
    fn later_than<'a>(
        &'a self,
        stamp: Stamp,
        tags: impl Iterator<Item = &'a TagId>,
    ) -> impl Iterator<Item = E> {
        let by_tag = tags.filter_map(|tag| self.tags.get(tag));
        let all = [&self.floor].into_iter().chain(by_tag).flat_map(|history| &history.0);
        all.filter(move |(at, _)| *at > stamp).map(|&(_, effect)| effect)
    }

    fn add_to_floor(&mut self, at: Stamp, effect: E) {
        self.floor.add(at, effect, self.max_times);
    }

    fn add(&mut self, tags: &[TagId], at: Stamp, effect: E) {
        for tag in tags {
            self.kinds = self.kinds.with(tag.kinds());
            let history = self.tags.entry(*tag).or_insert_with(History::new);
            history.add(at, effect, self.max_times);
        }
        if self.tags.len() > MAX_TAGS {
            self.drop_expired_keys(at);
        }
        if self.tags.len() > MAX_TAGS {
            self.drop_older_half();
        }
    }

    /// Drops records of single keys that no fill needs any longer.
    fn drop_expired_keys(&mut self, now: Stamp) {
        let oldest = Stamp::new(now.get().saturating_sub(KEY_RECORD_LIFETIME));
        self.tags.retain(|tag, history| !tag.is_key() || history.latest() >= oldest);
    }

    /// Drops the older half of the records and raises the floor to the latest of them.
    fn drop_older_half(&mut self) {
        let mut latest: Vec<_> = self.tags.values().map(History::latest).collect();
        latest.sort_unstable();
        let Some(&floor) = latest.get(latest.len() / 2) else { return };
        let dropped = self.tags.extract_if(|_, history| history.latest() <= floor);
        let oldest = dropped.flat_map(|(_, history)| history.0).min_by_key(|(stamp, _)| *stamp);
        if let Some((_, effect)) = oldest {
            self.add_to_floor(floor, effect);
        }
        let kinds = self.tags.keys().map(|tag| tag.kinds());
        self.kinds = kinds.fold(TagKinds::default(), TagKinds::with);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::fixtures::{at, stored};

    fn key() -> CacheKey {
        CacheKey::new("shop", "http", "h", "/a/b", None)
    }

    fn tag(name: impl ToString) -> TagId {
        TagId::tag("shop", &name.to_string())
    }

    fn response(stamp: Stamp, tags: &[TagId]) -> StoredResponse {
        StoredResponse { stamp, tags: tags.iter().copied().collect(), ..stored(0, &[]) }
    }

    fn purge(log: &InvalidationLog, tags: &[TagId]) {
        log.invalidate(&Invalidation::PurgeTags(tags.to_vec()));
    }

    #[test]
    fn purge_applies_to_responses_with_the_tag_and_an_earlier_stamp() {
        let log = InvalidationLog::default();
        let (a, b) = (tag("a"), tag("b"));
        let before = log.now();
        purge(&log, &[a]);
        let after = log.now();
        let is_valid =
            |stamp, tags: &[TagId]| log.validity(&key(), &response(stamp, tags)) == Validity::Valid;
        for (stamp, tags, want) in [
            (before, &[a][..], false),
            (before, &[b], true),
            (before, &[], true),
            (before, &[b, a], false),
            (after, &[a], true),
        ] {
            assert_eq!(is_valid(stamp, tags), want, "{stamp:?} {tags:?}");
        }
        log.invalidate(&Invalidation::PurgeAll);
        assert!(!is_valid(after, &[]));
        assert!(is_valid(log.now(), &[a]));
    }

    #[test]
    fn purge_applies_to_tags_that_the_key_implies() {
        for (tag, implied) in [
            (TagId::url(key().url()), true),
            (TagId::path(&key().url_parts().unwrap()), true),
            (TagId::prefix("shop", Some("h"), "/a"), true),
            (TagId::prefix("shop", None, "/"), true),
            (TagId::variant(&key(), stored(0, &[]).selecting.into_iter()), true),
            (TagId::prefix("shop", Some("h"), "/b"), false),
            (TagId::prefix("shop", Some("g"), "/a"), false),
            (TagId::prefix("other", None, "/"), false),
        ] {
            let log = InvalidationLog::default();
            let old = response(log.now(), &[]);
            purge(&log, &[tag]);
            let want = if implied { Validity::Purged } else { Validity::Valid };
            assert_eq!(log.validity(&key(), &old), want, "{tag:?}");
        }
    }

    #[test]
    fn response_is_expired_since_the_first_expiry_until_it_is_purged() {
        let log = InvalidationLog::default();
        let (a, b) = (tag("a"), tag("b"));
        let old = response(log.now(), &[a, b]);
        let expire = |tag, second| Invalidation::ExpireTags { tags: vec![tag], since: at(second) };
        log.invalidate(&expire(a, 5));
        log.invalidate(&expire(b, 7));
        assert_eq!(log.validity(&key(), &old), Validity::ExpiredSince(at(5)));
        let newer = response(Stamp::new(1), &[a, b]);
        assert_eq!(log.validity(&key(), &newer), Validity::ExpiredSince(at(7)));
        let newest = response(log.now(), &[a, b]);
        assert_eq!(log.validity(&key(), &newest), Validity::Valid);
        log.invalidate(&expire(a, 8));
        assert_eq!(log.validity(&key(), &old), Validity::ExpiredSince(at(5)), "expired again");
        assert_eq!(log.validity(&key(), &newest), Validity::ExpiredSince(at(8)));
        let newest = response(log.now(), &[a, b]);
        log.invalidate(&Invalidation::ExpireAll { since: at(9) });
        assert_eq!(log.validity(&key(), &newest), Validity::ExpiredSince(at(9)));
        purge(&log, &[b]);
        assert_eq!(log.validity(&key(), &old), Validity::Purged);
    }

    #[test]
    fn times_of_expiry_are_bounded() {
        let log = InvalidationLog::default();
        let old: Vec<_> = (0..40)
            .map(|n| {
                let response = response(log.now(), &[]);
                log.invalidate(&Invalidation::ExpireAll { since: at(n) });
                response
            })
            .collect();
        assert_eq!(log.records.read().unwrap().expired.floor.0.len(), MAX_EXPIRY_TIMES);
        for (n, old) in (0..40).zip(&old) {
            // The first of the joined times counts: no response becomes less stale.
            let first = if n < 40 - MAX_EXPIRY_TIMES as u64 + 1 { 0 } else { n };
            assert_eq!(log.validity(&key(), old), Validity::ExpiredSince(at(first)), "{n}");
        }
    }

    #[test]
    fn valid_response_is_checked_again_after_each_invalidation() {
        let log = InvalidationLog::default();
        let old = response(log.now(), &[tag("a")]);
        for n in 0..3 {
            purge(&log, &[tag(n)]);
            assert_eq!(log.validity(&key(), &old), Validity::Valid);
            assert!(old.validity_check.holds(log.store_id, log.now()));
        }
        purge(&log, &[tag("a")]);
        assert_eq!(log.validity(&key(), &old), Validity::Purged);
        assert_eq!(log.validity(&key(), &old.clone()), Validity::Purged);
    }

    #[test]
    fn validity_check_counts_for_one_store_only() {
        let (one, other) = (InvalidationLog::default(), InvalidationLog::default());
        let old = response(Stamp::ZERO, &[tag("a")]);
        for _ in 0..9 {
            purge(&one, &[tag("b")]);
        }
        assert_eq!(one.validity(&key(), &old), Validity::Valid);
        purge(&other, &[tag("a")]);
        assert_eq!(other.validity(&key(), &old), Validity::Purged);
        assert_eq!(one.validity(&key(), &old), Validity::Valid);
    }

    #[test]
    fn dropped_records_become_a_floor_for_all_responses() {
        for expires in [false, true] {
            let log = InvalidationLog::default();
            let invalidate = |n: usize| {
                log.invalidate(&if expires {
                    Invalidation::ExpireTags { tags: vec![tag(n)], since: at(n as u64) }
                } else {
                    Invalidation::PurgeTags(vec![tag(n)])
                });
            };
            let first = response(log.now(), &[tag("x")]);
            (0..MAX_TAGS).for_each(invalidate);
            let last = response(log.now(), &[tag("x"), tag(MAX_TAGS)]);
            assert_eq!(log.validity(&key(), &first), Validity::Valid, "no record is dropped yet");
            invalidate(MAX_TAGS);
            assert!(log.len() <= MAX_TAGS / 2 + 1);
            assert_ne!(log.validity(&key(), &first), Validity::Valid, "older than the floor");
            assert_ne!(log.validity(&key(), &last), Validity::Valid, "the last record is kept");
            let other = response(last.stamp, &[tag("x")]);
            assert_eq!(log.validity(&key(), &other), Validity::Valid);
            (0..MAX_TAGS * 2).for_each(invalidate);
            assert!(log.len() <= MAX_TAGS + 1);
        }
    }
}
