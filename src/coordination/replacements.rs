//! Replacements: one record that stands for several others, so that the number of records stays
//! within its bound.
//!
//! A store such as Redis keeps the records of a process outside of the process, too. It takes the
//! replacements from its coordinator, and replaces the records there.

use std::collections::HashMap;

use crate::{
    clock::Timestamp,
    entry::{
        invalidation::Invalidation,
        stamp::Stamp,
        tag::{TagFamily, TagId},
    },
};

/// The smallest number of replaced records that a store takes for one new record. A store sends a
/// command for each new record, so fewer replaced records are not worth it.
const LEAST_TAKEN: usize = 16;

/// The largest number of replaced records that are kept until a store takes them.
const MAX_KEPT: usize = 131_072;

/// The data of an invalidation: nothing for a purge, and the time since which responses are stale
/// for an expiry.
pub(super) trait Effect: Copy + PartialEq {
    /// Returns the effect of both invalidations together on one response.
    fn and(self, other: Self) -> Self;

    /// Makes the invalidation of a tag, or of all responses.
    fn invalidation(self, tag: Option<TagId>) -> Invalidation;
}

impl Effect for () {
    fn and(self, (): Self) -> Self {}

    fn invalidation(self, tag: Option<TagId>) -> Invalidation {
        tag.map_or(Invalidation::PurgeAll, |tag| Invalidation::PurgeTags(vec![tag]))
    }
}

impl Effect for Timestamp {
    /// Returns the earlier time: a response is stale since the earliest time of its expiries.
    fn and(self, other: Self) -> Self {
        let time = |this: &Self| (this.monotonic(), this.wall());
        if time(&other) < time(&self) { other } else { self }
    }

    fn invalidation(self, tag: Option<TagId>) -> Invalidation {
        match tag {
            Some(tag) => Invalidation::ExpireTags { tags: vec![tag], since: self },
            None => Invalidation::ExpireAll { since: self },
        }
    }
}

/// A new record, and the records that it replaces. A tag of `None` stands for all responses.
#[derive(Debug)]
pub(super) struct Replacement<E> {
    pub(super) tag: Option<TagId>,
    /// The latest time of the replaced records.
    pub(super) at: Stamp,
    pub(super) effect: E,
    pub(super) replaced: Vec<(Option<TagId>, E)>,
}

/// The replacements in one table that the store has not taken yet.
#[derive(Debug)]
pub(super) struct Replacements<E> {
    /// Whether a store outside of the process has the records, too. Otherwise no replacement is
    /// kept.
    pub(super) are_kept: bool,
    /// The replacements by the tag of the new record.
    by_tag: HashMap<Option<TagId>, Replacement<E>>,
    /// The number of replaced records in all of `by_tag`.
    replaced: usize,
    /// The number of those that the store does not take yet.
    waiting: usize,
}

impl<E: Effect> Replacements<E> {
    pub(super) fn new() -> Self {
        Self { are_kept: false, by_tag: HashMap::new(), replaced: 0, waiting: 0 }
    }

    /// Returns the number of replaced records that the store does not take yet.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Returns whether [`take`](Self::take) returns a replacement.
    pub(super) fn any_ready(&self) -> bool {
        self.replaced > self.waiting
    }

    /// Adds a replacement. Joins it with an earlier one that has the same tag.
    pub(super) fn add(&mut self, mut new: Replacement<E>) {
        if !self.are_kept {
            return;
        }
        if let Some(mut earlier) = self.by_tag.remove(&new.tag) {
            self.replaced -= earlier.replaced.len();
            self.waiting -= earlier.waiting();
            // The new record then applies to all responses to which one of the replaced records
            // applies.
            new.at = new.at.max(earlier.at);
            new.effect = new.effect.and(earlier.effect);
            earlier.replaced.append(&mut new.replaced);
            new.replaced = earlier.replaced;
        }
        // A store that does not take the replacements has no use for them.
        if new.replaced.len() > MAX_KEPT {
            // Half of the list, because each removal moves all of the rest.
            new.replaced.drain(..MAX_KEPT / 2);
        }
        if self.replaced + new.replaced.len() > MAX_KEPT {
            self.by_tag.clear();
            (self.replaced, self.waiting) = (0, 0);
        }
        self.replaced += new.replaced.len();
        self.waiting += new.waiting();
        self.by_tag.insert(new.tag, new);
    }

    /// Takes the replacements of tags of a family, for a record that replaces the new records of
    /// these replacements, too. Returns their replaced records.
    pub(super) fn take_family(&mut self, family: TagFamily) -> Vec<(Option<TagId>, E)> {
        let is_of_family =
            |tag: &Option<TagId>| tag.is_some_and(|tag| tag.family() == Some(family));
        let taken: Vec<_> = self.by_tag.extract_if(|tag, _| is_of_family(tag)).collect();
        self.update_totals();
        taken.into_iter().flat_map(|(_, taken)| taken.replaced).collect()
    }

    /// Forgets the replacements of tags whose records were dropped.
    pub(super) fn retain(&mut self, has_records: impl Fn(TagId) -> bool) {
        self.by_tag.retain(|tag, _| tag.is_none_or(&has_records));
        self.update_totals();
    }

    /// Takes the replacements that have enough replaced records.
    pub(super) fn take(&mut self) -> Vec<ReplacedInvalidations> {
        let taken = self.by_tag.extract_if(|_, kept| kept.waiting() == 0);
        let taken = taken.map(|(_, taken)| taken.invalidations()).collect();
        self.update_totals();
        taken
    }

    fn update_totals(&mut self) {
        self.replaced = self.by_tag.values().map(|kept| kept.replaced.len()).sum();
        self.waiting = self.by_tag.values().map(Replacement::waiting).sum();
    }
}

impl<E: Effect> Replacement<E> {
    /// Returns the number of replaced records, or 0 if there are enough for a store.
    fn waiting(&self) -> usize {
        if self.replaced.len() < LEAST_TAKEN { self.replaced.len() } else { 0 }
    }

    fn invalidations(self) -> ReplacedInvalidations {
        // The table keeps the new record itself, if it is there already.
        let own = (self.tag, self.effect);
        let replaced = self.replaced.into_iter().filter(|record| *record != own);
        ReplacedInvalidations {
            at: self.at,
            replacement: self.effect.invalidation(self.tag),
            replaced: replaced.map(|(tag, effect)| effect.invalidation(tag)).collect(),
        }
    }
}

/// Many invalidations, and one that has replaced them in the memory of the process.
///
/// [`Coordinator::take_replaced`](crate::store::Coordinator::take_replaced) returns it to a store
/// that keeps invalidations outside of the process, too.
#[derive(Debug)]
#[non_exhaustive]
pub struct ReplacedInvalidations {
    /// The logical time of the new invalidation: the latest time of the replaced ones.
    pub at: Stamp,
    /// The new invalidation. It applies to all responses to which one of the others applies.
    ///
    /// It can apply to further responses, too: one invalidation for all responses of a host
    /// replaces those of groups and path prefixes of the host, and one for all responses with
    /// names replaces those of names. The store may have this invalidation already, with an
    /// earlier time. The time must then become [`at`](Self::at).
    pub replacement: Invalidation,
    /// The invalidations that are no longer needed, unless they were repeated after `at`. Each of
    /// them has one tag, or applies to all responses. None of them is equal to `replacement`.
    pub replaced: Vec<Invalidation>,
}
