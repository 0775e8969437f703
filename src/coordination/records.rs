//! The records of all invalidations and removals of one store. Their number is bounded.

use super::{
    overflow::Overflow, record_table::RecordTable, removals::Removals,
    replacements::ReplacedInvalidations,
};
use crate::{
    clock::Timestamp,
    entry::{invalidation::Invalidation, stamp::Stamp},
};

/// The largest number of records of purges and expiries. An expiry has one record for each of its
/// times, as in a remote table with the same bound.
pub(super) const MAX_RECORDS: usize = 65_536;

/// The number of records at which one record replaces those of the largest family of tags. This
/// number is smaller than [`MAX_RECORDS`], so that a remote table does not fill up before.
const REPLACE_AT: usize = MAX_RECORDS / 8 * 7;

/// The smallest number of records of a family that are replaced by one record.
const LEAST_REPLACED: usize = MAX_RECORDS / 16;

/// The largest number of expiries that are recorded for one tag.
pub(super) const MAX_EXPIRY_TIMES: usize = 16;

/// The records of one store.
#[derive(Debug)]
pub(super) struct Records {
    pub(super) purged: RecordTable<()>,
    /// Each record also contains the time since which the responses with its tag are stale.
    pub(super) expired: RecordTable<Timestamp>,
    pub(super) removed: Removals,
    /// The number of records at which those of a family are replaced.
    replace_at: usize,
}

impl Records {
    /// Keeps the replacements of records from now on, because a store outside of the process has
    /// the records, too.
    pub(super) fn keep_replacements(&mut self) {
        self.purged.replacements.are_kept = true;
        self.expired.replacements.are_kept = true;
    }

    /// Returns whether [`take_replaced`](Self::take_replaced) returns a replacement.
    pub(super) fn any_replaced(&self) -> bool {
        self.purged.replacements.any_ready() || self.expired.replacements.any_ready()
    }

    pub(super) fn take_replaced(&mut self) -> Vec<ReplacedInvalidations> {
        let mut taken = self.purged.replacements.take();
        taken.extend(self.expired.replacements.take());
        taken
    }

    pub(super) fn add(&mut self, invalidation: &Invalidation, at: Stamp) -> Overflow {
        match invalidation {
            Invalidation::PurgeAll => {
                // A purge of all responses makes all earlier records superfluous.
                self.purged.drop_until(at);
                self.expired.drop_until(at);
                self.purged.add_to_floor(at, ());
            }
            Invalidation::PurgeTags(tags) => self.purged.add(tags, at, ()),
            Invalidation::ExpireAll { since } => self.expired.add_to_floor(at, *since),
            Invalidation::ExpireTags { tags, since } => self.expired.add(tags, at, *since),
        }
        self.shrink()
    }

    /// Replaces or drops records if there are too many.
    fn shrink(&mut self) -> Overflow {
        let number = self.purged.len() + self.expired.len();
        if number <= self.replace_at {
            return Overflow::None;
        }
        if self.replace_largest_family() {
            self.replace_at = REPLACE_AT;
            return Overflow::Replaced;
        }
        if number <= MAX_RECORDS {
            // Counting the families takes long, so they are not counted again at each record.
            self.replace_at = (number + LEAST_REPLACED / 4).min(MAX_RECORDS);
            return Overflow::None;
        }
        if self.purged.len() >= self.expired.len() {
            self.purged.drop_older_half();
        } else {
            self.expired.drop_older_half();
        }
        self.replace_at = REPLACE_AT;
        Overflow::Dropped
    }

    /// Replaces the records of the family with the most records by one record for the whole family.
    /// Returns `false` if no family has many records.
    ///
    /// Some applications purge by tags that one of their many tenants chooses. The tenant could
    /// otherwise fill the table, and the floor would then invalidate the responses of all tenants.
    fn replace_largest_family(&mut self) -> bool {
        let size = |family: Option<(_, usize)>| family.map_or(0, |(_, size)| size);
        let (purged, expired) = (self.purged.largest_family(), self.expired.largest_family());
        if size(purged).max(size(expired)) < LEAST_REPLACED {
            return false;
        }
        if size(purged) >= size(expired) {
            purged.into_iter().for_each(|(family, _)| self.purged.replace_family(family));
        } else {
            expired.into_iter().for_each(|(family, _)| self.expired.replace_family(family));
        }
        true
    }
}

impl Default for Records {
    fn default() -> Self {
        // Several expiries of a tag are kept, because a response is stale since the earliest expiry
        // that applies to it. Of the purges of a tag, only the last one is kept.
        Self {
            purged: RecordTable::new(1),
            expired: RecordTable::new(MAX_EXPIRY_TIMES),
            removed: Removals::default(),
            replace_at: REPLACE_AT,
        }
    }
}
