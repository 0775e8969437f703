//! The log of invalidations of one store. An invalidation is a purge or an expiry (soft purge). The
//! time that an invalidation takes does not depend on the number of stored responses.
//!
//! A store does not record which responses have a tag. Instead, the store has a logical clock: a
//! number that grows with each invalidation. The **logical time** is the number that the clock
//! shows. Each invalidation increases the logical time, and the log records the new time for each
//! tag of the invalidation. A pair of tag and time is an **invalidation record**. Each response
//! carries a **stamp**, which is the logical time before its handler ran. A response is valid while
//! no record of its tags is later than its stamp.
//!
//! # Proof: no purged response is served, in any order of events
//!
//! An application changes data and then purges the tag `g`. Let `F` be a response with the tag `g`
//! that a handler makes from that data. Let `t` be the stamp of `F`: the logical time that was read
//! before the handler ran. Let `s` be the logical time of the purge. The purge writes its records
//! and moves the clock under one lock, so `t` was read either after or before the purge moved the
//! clock:
//!
//! 1. `t` was read after the purge: `t >= s`. `F` rightly stays valid, because the handler of `F`
//!    began after the data was changed.
//! 2. `t` was read before the purge: `t < s`. Once the purge has returned, the log holds a record
//!    of `g` at `s`. Every later check of `F` finds this record and rejects `F`. This is true
//!    whether `F` was stored before the purge, is stored after the purge, or replaces a newer
//!    response much later. The purge need not know that `F` exists or that `F` has the tag `g`. The
//!    tag may become known only when the handler responds.
//!
//! An outdated response is therefore never served after the purge has returned. In case 2 the
//! handler may nevertheless have read the data after the change. The check then rejects a response
//! that is not outdated. The only effect is a cache miss.
//!
//! A flight is one handler call whose response several requests may share. A request that arrives
//! after an invalidation joins no flight that began before the invalidation, because two requests
//! share a flight only if their lookups returned equal stamps.
//!
//! # Further rules that the proof needs
//!
//! 3. **The log is bounded.** If the log has too many records, the oldest records are dropped. The
//!    time of the latest dropped record becomes the **floor**: every response with an earlier stamp
//!    counts as invalidated, whatever its tags are.
//! 4. **A check is not repeated while the logical time is unchanged.** If a check finds a response
//!    valid, the response remembers the logical time of the check, which is read under the lock.
//!    While the clock shows this time, no further invalidation has completed, so the response is
//!    still valid. Once the clock has moved, the response is checked again.
//! 5. **Expiries have their own records.** If the stamp of a response is earlier than the record of
//!    an expiry of one of its tags, the response is not rejected, but is stale. The record holds
//!    the time since which the response is stale. If a handler was called before the expiry and
//!    responds after it, the response is stored and is stale from the start.
//! 6. **The removal of a key or a URL needs no record** in a store that only one process uses. The
//!    store removes all responses of the key or the URL. Before the store adds a response, it checks
//!    that the call of the handler for this response was not invalidated meanwhile
//!    (`Coordinator::invalidate_fills`). The store makes this check under the lock of the key. A
//!    store that several processes share records removals for a short time. These records have a
//!    bound and a floor of their own (`removals`), so that no number of removals invalidates the
//!    stored responses of other URLs.
//! 7. **A record of a variant also applies to responses that other request fields select.** The tag
//!    of a variant contains the selecting fields that the key had at the time of the invalidation.
//!    If the handler has changed `Vary`, a copy in the memory of a process has other selecting
//!    fields, and the tag does not tell whether the invalidation is meant for this copy. The log
//!    therefore counts the copy as invalidated.

use std::{
    collections::HashMap,
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use smallvec::SmallVec;

use super::removals::{Floor, MAX_REMOVALS, Removal, Removals};
use crate::{
    clock::Timestamp,
    entry::{
        implied_tags::implied_tags,
        invalidation::Invalidation,
        key::CacheKey,
        response::StoredResponse,
        stamp::Stamp,
        tag::{FieldsDigest, KeyDigest, TagId, TagKinds},
        validity::Validity,
    },
};

/// The largest number of tags with purge records, and also the largest number of tags with expiry
/// records.
const MAX_TAGS: usize = 65_536;

/// The largest number of expiries that are recorded for one tag.
const MAX_EXPIRY_TIMES: usize = 16;

/// The purges and expiries of one store.
#[derive(Debug)]
pub(super) struct InvalidationLog {
    /// The id of the store, random and not zero. If a check finds that no invalidation of this
    /// store applies to a stored response, the response keeps this id and the logical time of the
    /// check. Another store has other invalidations, so it does not rely on the check.
    store_id: u64,
    /// The logical time, which changes only while the lock of `records` is held.
    clock: AtomicU64,
    records: RwLock<Records>,
    /// The floor of the removals. No response with an earlier stamp may be stored.
    removal_floor: AtomicU64,
    /// How often the log has dropped its older records because there were too many.
    dropped: AtomicU64,
}

#[derive(Debug)]
struct Records {
    purged: RecordTable<()>,
    /// Each record also contains the time since which the responses with its tag are stale.
    expired: RecordTable<Timestamp>,
    removed: Removals,
}

/// All records of purges, or all records of expiries. `E` is the data of each invalidation: nothing
/// for a purge, and the time since which responses are stale for an expiry.
#[derive(Debug)]
struct RecordTable<E> {
    tags: HashMap<TagId, History<E>>,
    /// For each key with records of variants, the invalidations of all its variants that have the
    /// same selecting fields. There are at most as many histories as tags.
    variants: HashMap<KeyDigest, VariantHistories<E>>,
    /// The invalidations of all responses, whatever their tags are.
    floor: History<E>,
    /// The kinds of the tags that may have records.
    kinds: TagKinds,
    /// The largest number of invalidations that are kept for one tag.
    max_times: usize,
}

/// The invalidations of variants of one key, by the names of the selecting fields of the variants.
type VariantHistories<E> = SmallVec<[(FieldsDigest, History<E>); 1]>;

/// The logical times at which one tag was invalidated, oldest first. Each time has the effect of
/// its invalidation.
#[derive(Debug)]
struct History<E>(SmallVec<[(Stamp, E); 1]>);

impl Default for InvalidationLog {
    fn default() -> Self {
        let store_id = fastrand::u64(1..);
        Self {
            store_id,
            clock: AtomicU64::default(),
            records: RwLock::default(),
            removal_floor: AtomicU64::default(),
            dropped: AtomicU64::default(),
        }
    }
}

impl InvalidationLog {
    /// Makes an empty log whose logical time begins at `start`.
    pub(super) fn starting_at(start: Stamp) -> Self {
        Self { clock: AtomicU64::new(start.get()), ..Self::default() }
    }

    /// Returns the current logical time.
    pub(super) fn now(&self) -> Stamp {
        Stamp::new(self.clock.load(Ordering::Acquire))
    }

    /// Returns the number of tags with records. A tag that was both purged and expired counts
    /// twice.
    pub(super) fn len(&self) -> usize {
        let records = self.records.read().unwrap_or_else(PoisonError::into_inner);
        records.purged.tags.len() + records.expired.tags.len() + records.removed.len()
    }

    /// Returns how often records were dropped because there were too many.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Returns whether a response may be stored: no purge and no removal applies to it, and no
    /// dropped record of a removal may apply to it.
    pub(super) fn may_store(&self, key: &CacheKey, response: &StoredResponse) -> bool {
        response.stamp.get() >= self.removal_floor.load(Ordering::Acquire)
            && self.validity(key, response) != Validity::Purged
    }

    /// Returns the effect that all invalidations so far have on a response.
    pub(super) fn validity(&self, key: &CacheKey, response: &StoredResponse) -> Validity {
        // In the common case, the store had no invalidation since the handler was called or since
        // the last check of the response.
        let now = self.now();
        if response.stamp >= now || response.validity_check.holds(self.store_id, now) {
            return Validity::Valid;
        }
        let records = self.records.read().unwrap_or_else(PoisonError::into_inner);
        let kinds = records.purged.kinds.with(records.expired.kinds).with(records.removed.kinds());
        let implied = implied_tags(key, response, kinds);
        if records.removed.any_later_than(response.stamp, implied.iter()) {
            return Validity::Purged;
        }
        let tags = || response.tags.iter().chain(&implied);
        if records.purged.later_than(response.stamp, tags()).next().is_some() {
            return Validity::Purged;
        }
        let expired = records.expired.later_than(response.stamp, tags());
        if let Some(first) = expired.min_by_key(|since| (since.monotonic(), since.wall())) {
            return Validity::ExpiredSince(first);
        }
        // The logical time cannot change here, because the lock of the records is held.
        response.validity_check.extend(self.store_id, self.now());
        Validity::Valid
    }

    /// Records an invalidation and moves the clock by one.
    pub(super) fn invalidate(&self, invalidation: &Invalidation) {
        let mut records = self.records.write().unwrap_or_else(PoisonError::into_inner);
        let next = Stamp::new(self.clock.load(Ordering::Acquire) + 1);
        let floor = records.add(invalidation, next);
        // The clock moves last. A thread that reads the new time therefore finds the records of
        // that time.
        self.clock.store(next.get(), Ordering::Release);
        drop(records);
        self.report_tags(floor);
    }

    /// Records invalidations and removals whose logical times come from outside of this process.
    /// The lists are complete up to the logical time `until`.
    pub(super) fn record_remote(
        &self,
        invalidations: &[(Stamp, Invalidation)],
        removals: &[(Stamp, Removal)],
        until: Stamp,
    ) {
        let mut records = self.records.write().unwrap_or_else(PoisonError::into_inner);
        let (mut tags, mut urls) = (Floor::Unchanged, Floor::Unchanged);
        for (at, invalidation) in invalidations {
            tags = tags.or(records.add(invalidation, *at));
        }
        for (at, removal) in removals {
            urls = urls.or(records.removed.add(*at, *removal));
        }
        self.removal_floor.fetch_max(records.removed.floor().get(), Ordering::Release);
        self.clock.fetch_max(until.get(), Ordering::Release);
        drop(records);
        self.report_tags(tags);
        self.report_urls(urls);
    }

    /// Counts and logs that records of tags were dropped.
    fn report_tags(&self, floor: Floor) {
        if floor == Floor::Moved {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            log::warn!(
                "more than {MAX_TAGS} tags were purged or expired: the cache has dropped the older \
                 half of its records, and all responses from before count as purged or expired. \
                 Purge fewer different tags, and do not let clients choose them"
            );
        }
    }

    /// Counts and logs that records of removed URLs were dropped.
    fn report_urls(&self, floor: Floor) {
        if floor == Floor::Moved {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            log::warn!(
                "more than {MAX_REMOVALS} URLs were purged within some minutes: the cache has \
                 dropped the older half of its records, and responses of handlers that were called \
                 before are not stored. Stored responses are not affected"
            );
        }
    }
}

impl Records {
    fn add(&mut self, invalidation: &Invalidation, at: Stamp) -> Floor {
        match invalidation {
            Invalidation::PurgeAll => {
                // A purge of all responses makes all earlier purge records of tags superfluous.
                self.purged.drop_until(at);
                self.purged.add_to_floor(at, ());
                Floor::Unchanged
            }
            Invalidation::PurgeTags(tags) => self.purged.add(tags, at, ()),
            Invalidation::ExpireAll { since } => {
                self.expired.add_to_floor(at, *since);
                Floor::Unchanged
            }
            Invalidation::ExpireTags { tags, since } => self.expired.add(tags, at, *since),
        }
    }
}

impl Default for Records {
    fn default() -> Self {
        // Only the last purge of a tag is kept, because it applies to all responses to which an
        // earlier purge of the tag applies. Several expiries of a tag are kept, because a response
        // is stale since the earliest expiry that applies to it.
        Self {
            purged: RecordTable::new(1),
            expired: RecordTable::new(MAX_EXPIRY_TIMES),
            removed: Removals::default(),
        }
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
            // The two oldest invalidations are joined into one. The joined invalidation has the
            // later logical time, so that it applies to the responses of both. It has the effect of
            // the earlier one, so that no response becomes less stale.
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
        Self {
            tags: HashMap::new(),
            variants: HashMap::new(),
            floor: History::new(),
            kinds: TagKinds::default(),
            max_times,
        }
    }

    /// Returns the effects of all invalidations that are later than `stamp` and name one of these
    /// tags or all responses.
    fn later_than<'a>(
        &'a self,
        stamp: Stamp,
        tags: impl Iterator<Item = &'a TagId>,
    ) -> impl Iterator<Item = E> {
        let by_tag = tags.flat_map(|tag| self.of_tag(*tag));
        let all = [&self.floor].into_iter().chain(by_tag).flat_map(|history| &history.0);
        all.filter(move |(at, _)| *at > stamp).map(|&(_, effect)| effect)
    }

    /// Returns the invalidations of a tag. For the tag of a variant, also returns those of all
    /// variants of the key that have other selecting fields.
    fn of_tag(&self, tag: TagId) -> impl Iterator<Item = &History<E>> {
        let variant = tag.variant_parts();
        let of_key = variant.and_then(|(key, _)| self.variants.get(&key)).into_iter().flatten();
        let other_fields = of_key
            .filter(move |(fields, _)| variant.is_some_and(|(_, own)| own != *fields))
            .map(|(_, history)| history);
        self.tags.get(&tag).into_iter().chain(other_fields)
    }

    fn add_to_floor(&mut self, at: Stamp, effect: E) {
        self.floor.add(at, effect, self.max_times);
    }

    fn add(&mut self, tags: &[TagId], at: Stamp, effect: E) -> Floor {
        for tag in tags {
            self.kinds = self.kinds.with(tag.kinds());
            let history = self.tags.entry(*tag).or_insert_with(History::new);
            history.add(at, effect, self.max_times);
            if let Some((key, fields)) = tag.variant_parts() {
                self.add_variant(key, fields, at, effect);
            }
        }
        if self.tags.len() <= MAX_TAGS {
            return Floor::Unchanged;
        }
        self.drop_older_half();
        Floor::Moved
    }

    fn add_variant(&mut self, key: KeyDigest, fields: FieldsDigest, at: Stamp, effect: E) {
        let of_key = self.variants.entry(key).or_default();
        match of_key.iter_mut().find(|(known, _)| *known == fields) {
            Some((_, history)) => history.add(at, effect, self.max_times),
            None => {
                let mut history = History::new();
                history.add(at, effect, self.max_times);
                of_key.push((fields, history));
            }
        }
    }

    /// Drops the records of tags that were not invalidated later than `last`.
    fn drop_until(&mut self, last: Stamp) {
        self.tags.retain(|_, history| history.latest() > last);
        self.variants.retain(|_, of_key| {
            of_key.retain(|(_, history)| history.latest() > last);
            !of_key.is_empty()
        });
    }

    /// Drops the older half of the records. The latest time among the dropped records becomes the
    /// floor: all responses with an earlier stamp then count as invalidated.
    fn drop_older_half(&mut self) {
        let mut latest: Vec<_> = self.tags.values().map(History::latest).collect();
        latest.sort_unstable();
        let Some(&floor) = latest.get(latest.len() / 2) else { return };
        let dropped = self.tags.values().filter(|history| history.latest() <= floor);
        let oldest = dropped.flat_map(|history| &history.0).min_by_key(|(stamp, _)| *stamp);
        if let Some(&(_, effect)) = oldest {
            self.add_to_floor(floor, effect);
        }
        self.drop_until(floor);
        let kinds = self.tags.keys().map(|tag| tag.kinds());
        self.kinds = kinds.fold(TagKinds::default(), TagKinds::with);
    }
}

#[cfg(test)]
mod tests;
