//! The removals of single cache keys and URLs that other processes, or this process, made in a store
//! that several processes share.
//!
//! A removal deletes the stored responses of a key or a URL, so it needs no record for them. The
//! record is for a fill (a handler call whose response may be stored) that began before the removal
//! and stores its response after it. A fill ends within a limited time, so a record is needed for a
//! limited time only.
//!
//! # Proof: a removal reaches no other URL, whatever clients do
//!
//! Clients can cause removals: each successful unsafe request (a `POST`) removes the responses of
//! its URL, and a client can invent URLs. The number of records is therefore bounded. If there are
//! too many, the older half is dropped, and the latest dropped time becomes the **floor**. The floor
//! only affects responses that are about to be stored: a response with an earlier stamp is not
//! stored, because a dropped record may apply to it. A response that is already stored is checked
//! only against the records of its own key and its own URL. So no number of removals makes a stored
//! response of another URL invalid. If a copy in the memory of a tiered store is older than the
//! floor, the copy is read from the far store again, where the removal has deleted it.
//!
//! No removed response is served although its record was dropped. The removal has deleted the
//! responses that were stored before it. A response of an earlier handler call can only be written
//! while the removal runs or after it. The process that writes it reads the records and the floor
//! before the write and again after it, and deletes the response if a record applies, or if the
//! stamp is earlier than the floor. Between the write and this check, the record is still there: the
//! newer half of the records is kept, and no server makes so many removals within one write.

use std::collections::HashMap;

use super::overflow::Overflow;
use crate::entry::{
    stamp::Stamp,
    tag::{TagId, TagKinds},
};

/// The time for which the record of a removal is needed, in microseconds. Stores that record
/// removals count their stamps in microseconds. They store no response of a fill that is older than
/// this time.
pub(crate) const REMOVAL_LIFETIME: u64 = 180_000_000;

/// The largest number of records.
pub(crate) const MAX_REMOVALS: usize = 131_072;

/// The removal of the responses of single cache keys or URLs, as a shared store records it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Removal {
    /// The removal of a URL. Contains its tag ([`TagId::url`]).
    Tag(TagId),
    /// Earlier removals, whose records were dropped. No fill that began before may store its
    /// response.
    Dropped,
}

/// The records of removals.
#[derive(Debug, Default)]
pub(super) struct Removals {
    /// The logical time of the last removal of each tag.
    times: HashMap<TagId, Stamp>,
    /// The logical time of the latest removal whose record was dropped.
    floor: Stamp,
    /// The kinds of the tags that may have records.
    kinds: TagKinds,
}

impl Removals {
    pub(super) fn kinds(&self) -> TagKinds {
        self.kinds
    }

    pub(super) fn floor(&self) -> Stamp {
        self.floor
    }

    pub(super) fn len(&self) -> usize {
        self.times.len()
    }

    /// Returns whether a key or URL with one of these tags was removed later than `stamp`.
    pub(super) fn any_later_than<'a>(
        &self,
        stamp: Stamp,
        mut tags: impl Iterator<Item = &'a TagId>,
    ) -> bool {
        tags.any(|tag| self.times.get(tag).is_some_and(|&at| at > stamp))
    }

    pub(super) fn add(&mut self, at: Stamp, removal: Removal) -> Overflow {
        match removal {
            Removal::Dropped => {
                self.floor = self.floor.max(at);
                return Overflow::None;
            }
            Removal::Tag(tag) => {
                self.kinds = self.kinds.with(tag.kinds());
                let time = self.times.entry(tag).or_insert(at);
                *time = at.max(*time);
            }
        }
        if self.times.len() <= MAX_REMOVALS {
            return Overflow::None;
        }
        let oldest = Stamp::new(at.get().saturating_sub(REMOVAL_LIFETIME));
        if self.drop_until(oldest) && self.times.len() <= MAX_REMOVALS / 2 {
            return Overflow::None;
        }
        let mut times: Vec<_> = self.times.values().copied().collect();
        times.sort_unstable();
        let median = times.get(times.len() / 2).copied().unwrap_or_default();
        self.drop_until(median);
        Overflow::Dropped
    }

    /// Drops the records up to a logical time, which becomes the floor. Returns whether there were
    /// any.
    fn drop_until(&mut self, latest: Stamp) -> bool {
        let before = self.times.len();
        self.times.retain(|_, at| *at > latest);
        let dropped = self.times.len() < before;
        if dropped {
            self.floor = self.floor.max(latest);
        }
        dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(n: usize) -> TagId {
        TagId::tag("t", &n.to_string())
    }

    #[test]
    fn removal_applies_to_its_tag_and_to_earlier_stamps() {
        let mut removals = Removals::default();
        assert_eq!(removals.add(Stamp::new(5), Removal::Tag(tag(1))), Overflow::None);
        assert_eq!(removals.add(Stamp::new(3), Removal::Tag(tag(1))), Overflow::None);
        let applies = |stamp, n| removals.any_later_than(Stamp::new(stamp), [tag(n)].iter());
        assert!(applies(4, 1) && !applies(5, 1) && !applies(4, 2));
        assert_eq!((removals.len(), removals.floor()), (1, Stamp::ZERO));
    }

    #[test]
    fn dropped_records_move_the_floor_and_no_other_record() {
        let mut removals = Removals::default();
        for n in 0..MAX_REMOVALS {
            assert_eq!(
                removals.add(Stamp::new(n as u64 + 1), Removal::Tag(tag(n))),
                Overflow::None
            );
        }
        let last = Stamp::new(MAX_REMOVALS as u64 + 1);
        assert_eq!(removals.add(last, Removal::Tag(tag(MAX_REMOVALS))), Overflow::Dropped);
        assert!(removals.len() <= MAX_REMOVALS / 2 + 1);
        let median = Stamp::new(MAX_REMOVALS as u64 / 2 + 1);
        assert_eq!(removals.floor(), median);
        assert!(!removals.any_later_than(Stamp::ZERO, [tag(0)].iter()), "the record is dropped");
        assert!(removals.any_later_than(median, [tag(MAX_REMOVALS)].iter()), "the last is kept");
        assert!(!removals.any_later_than(Stamp::ZERO, [tag(MAX_REMOVALS + 9)].iter()), "no tag");
    }

    #[test]
    fn records_that_are_not_needed_any_longer_are_dropped_first() {
        let mut removals = Removals::default();
        for n in 0..MAX_REMOVALS {
            let _ = removals.add(Stamp::new(1), Removal::Tag(tag(n)));
        }
        let later = Stamp::new(REMOVAL_LIFETIME + 2);
        assert_eq!(removals.add(later, Removal::Tag(tag(MAX_REMOVALS))), Overflow::None);
        assert_eq!(removals.len(), 1);
    }

    #[test]
    fn floor_of_another_process_is_adopted() {
        let mut removals = Removals::default();
        for at in [7, 6] {
            assert_eq!(removals.add(Stamp::new(at), Removal::Dropped), Overflow::None);
        }
        assert_eq!(removals.floor(), Stamp::new(7));
    }
}
