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
//!    counts as invalidated, whatever its tags are. If many of the records are for groups and path
//!    prefixes of one host, or for names, one record for all responses of the host, or for all
//!    responses with names, **replaces** them instead. The new record has their latest time and the
//!    effect of all of them, so it applies to each response to which one of them applies.
//! 4. **A check is not repeated while the records are unchanged.** If a check finds a response valid,
//!    the response remembers how often records had been added, which is read under the lock. While
//!    this number is unchanged, no further invalidation has completed, so the response is still
//!    valid. The logical time would not do: a record from outside of this process may have an
//!    earlier time than the clock, for example after the clock of a server was set back.
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

use std::sync::{
    PoisonError, RwLock,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use super::{
    overflow::Overflow,
    records::{MAX_RECORDS, Records},
    removals::{MAX_REMOVALS, Removal},
    replacements::{Effect as _, ReplacedInvalidations},
};
use crate::entry::{
    implied_tags::implied_tags, invalidation::Invalidation, key::CacheKey,
    response::StoredResponse, stamp::Stamp, validity::Validity,
};

/// The purges and expiries of one store.
#[derive(Debug)]
pub(super) struct InvalidationLog {
    /// The id of the store, random and not zero. If a check finds that no invalidation of this
    /// store applies to a stored response, the response keeps this id and the logical time of the
    /// check. Another store has other invalidations, so it does not rely on the check.
    store_id: u64,
    /// The logical time, which changes only while the lock of `records` is held.
    clock: AtomicU64,
    /// How often records were added. The number changes only while the lock of `records` is held.
    changes: AtomicU64,
    records: RwLock<Records>,
    /// The floor of the removals. No response with an earlier stamp may be stored.
    removal_floor: AtomicU64,
    /// How often the log has dropped its older records because there were too many.
    dropped: AtomicU64,
    /// How often one record has replaced the records of many tags.
    replaced: AtomicU64,
    /// Whether there are replacements to take.
    any_replaced: AtomicBool,
}

impl Default for InvalidationLog {
    fn default() -> Self {
        let store_id = fastrand::u64(1..);
        Self {
            store_id,
            clock: AtomicU64::default(),
            changes: AtomicU64::default(),
            records: RwLock::default(),
            removal_floor: AtomicU64::default(),
            dropped: AtomicU64::default(),
            replaced: AtomicU64::default(),
            any_replaced: AtomicBool::default(),
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

    /// Returns how often one record has replaced the records of many tags.
    pub(super) fn replaced(&self) -> u64 {
        self.replaced.load(Ordering::Relaxed)
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
        let changes = self.changes.load(Ordering::Acquire);
        if response.stamp >= self.now() || response.validity_check.holds(self.store_id, changes) {
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
        if let Some(first) = expired.reduce(|one, other| one.and(other)) {
            return Validity::ExpiredSince(first);
        }
        // The number cannot change here, because the lock of the records is held.
        response.validity_check.extend(self.store_id, self.changes.load(Ordering::Acquire));
        Validity::Valid
    }

    /// Records an invalidation and moves the clock by one.
    pub(super) fn invalidate(&self, invalidation: &Invalidation) {
        let mut records = self.records.write().unwrap_or_else(PoisonError::into_inner);
        let next = Stamp::new(self.clock.load(Ordering::Acquire) + 1);
        let overflow = records.add(invalidation, next);
        // The number and the clock change last. A thread that reads the new time therefore finds the
        // records of that time.
        self.changes.fetch_add(1, Ordering::Release);
        self.clock.store(next.get(), Ordering::Release);
        self.note_replaced(&records);
        drop(records);
        self.report_tags(overflow);
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
        records.keep_replacements();
        let (mut tags, mut urls) = (Overflow::None, Overflow::None);
        for (at, invalidation) in invalidations {
            tags = tags.or(records.add(invalidation, *at));
        }
        for (at, removal) in removals {
            urls = urls.or(records.removed.add(*at, *removal));
        }
        self.removal_floor.fetch_max(records.removed.floor().get(), Ordering::Release);
        if !invalidations.is_empty() || !removals.is_empty() {
            self.changes.fetch_add(1, Ordering::Release);
        }
        self.clock.fetch_max(until.get(), Ordering::Release);
        self.note_replaced(&records);
        drop(records);
        self.report_tags(tags);
        self.report_urls(urls);
    }

    /// Notes whether there are replacements to take, so that a call without any needs no lock.
    fn note_replaced(&self, records: &Records) {
        self.any_replaced.store(records.any_replaced(), Ordering::Relaxed);
    }

    /// Takes the replacements of records since the last call, if this log has records from outside
    /// of this process.
    pub(super) fn take_replaced(&self) -> Vec<ReplacedInvalidations> {
        if !self.any_replaced.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let mut records = self.records.write().unwrap_or_else(PoisonError::into_inner);
        self.any_replaced.store(false, Ordering::Relaxed);
        records.take_replaced()
    }

    /// Counts and logs that records of tags were dropped or replaced.
    fn report_tags(&self, overflow: Overflow) {
        if overflow == Overflow::Replaced {
            self.replaced.fetch_add(1, Ordering::Relaxed);
            log::warn!(
                "too many tags of one kind were purged or expired: the cache has replaced their \
                 records by one for all responses of the host, or for all responses with names. \
                 Purge fewer different tags, and do not let clients choose them"
            );
        }
        if overflow == Overflow::Dropped {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            log::warn!(
                "more than {MAX_RECORDS} tags were purged or expired: the cache has dropped the older \
                 half of its records, and all responses from before count as purged or expired. \
                 Purge fewer different tags, and do not let clients choose them"
            );
        }
    }

    /// Counts and logs that records of removed URLs were dropped.
    fn report_urls(&self, overflow: Overflow) {
        if overflow == Overflow::Dropped {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            log::warn!(
                "more than {MAX_REMOVALS} URLs were purged within some minutes: the cache has \
                 dropped the older half of its records, and responses of handlers that were called \
                 before are not stored. Stored responses are not affected"
            );
        }
    }
}

#[cfg(test)]
mod tests;
