//! The records of the purges, or of the expiries, of one store. Their number is bounded.

use std::collections::HashMap;

use smallvec::SmallVec;

use super::removals::Floor;
use crate::entry::{
    stamp::Stamp,
    tag::{FieldsDigest, KeyDigest, TagFamily, TagId, TagKinds},
};

/// The largest number of tags with purge records, and also the largest number of tags with expiry
/// records.
pub(super) const MAX_TAGS: usize = 65_536;

/// The number of tags at which the records of the largest family are replaced by one record. This
/// number is smaller than [`MAX_TAGS`], so that a remote table with the same bound does not fill up
/// before.
const FOLD_AT: usize = MAX_TAGS / 8 * 7;

/// The smallest number of tags that are replaced by one record.
const LEAST_FOLD: usize = MAX_TAGS / 16;

/// The largest number of replacements that are kept until they are taken.
const MAX_FOLDS: usize = 4;

/// The replacement of the records of a family of tags by one record.
#[derive(Debug)]
pub(super) struct Fold<E> {
    /// The tag of the new record.
    pub(super) into: TagId,
    /// The time of the new record: the latest time of the replaced records.
    pub(super) at: Stamp,
    pub(super) effect: E,
    pub(super) replaced: Vec<(TagId, E)>,
}

/// All records of purges, or all records of expiries. `E` is the data of each invalidation: nothing
/// for a purge, and the time since which responses are stale for an expiry.
#[derive(Debug)]
pub(super) struct RecordTable<E> {
    pub(super) tags: HashMap<TagId, History<E>>,
    /// For each key with records of variants, the invalidations of all its variants that have the
    /// same selecting fields. There are at most as many histories as tags.
    pub(super) variants: HashMap<KeyDigest, VariantHistories<E>>,
    /// The invalidations of all responses, whatever their tags are.
    pub(super) floor: History<E>,
    /// The kinds of the tags that may have records.
    pub(super) kinds: TagKinds,
    /// The largest number of invalidations that are kept for one tag.
    max_times: usize,
    /// The number of tags at which the records of a family are replaced.
    fold_at: usize,
    /// The latest replacements of records, for stores that also keep the records elsewhere.
    folds: Vec<Fold<E>>,
}

/// The invalidations of variants of one key, by the names of the selecting fields of the variants.
type VariantHistories<E> = SmallVec<[(FieldsDigest, History<E>); 1]>;

/// The logical times at which one tag was invalidated, oldest first. Each time has the effect of
/// its invalidation.
#[derive(Debug)]
pub(super) struct History<E>(pub(super) SmallVec<[(Stamp, E); 1]>);

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
    pub(super) fn new(max_times: usize) -> Self {
        Self {
            tags: HashMap::new(),
            variants: HashMap::new(),
            floor: History::new(),
            kinds: TagKinds::default(),
            max_times,
            fold_at: FOLD_AT,
            folds: Vec::new(),
        }
    }

    /// Returns the effects of all invalidations that are later than `stamp` and name one of these
    /// tags or all responses.
    pub(super) fn later_than<'a>(
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

    pub(super) fn add_to_floor(&mut self, at: Stamp, effect: E) {
        self.floor.add(at, effect, self.max_times);
    }

    pub(super) fn add(&mut self, tags: &[TagId], at: Stamp, effect: E) -> Floor {
        for tag in tags {
            self.kinds = self.kinds.with(tag.kinds());
            let history = self.tags.entry(*tag).or_insert_with(History::new);
            history.add(at, effect, self.max_times);
            if let Some((key, fields)) = tag.variant_parts() {
                self.add_variant(key, fields, at, effect);
            }
        }
        if self.tags.len() > self.fold_at {
            if self.fold_largest_family() {
                self.fold_at = FOLD_AT;
                return Floor::Folded;
            }
            // Counting the families takes long, so they are not counted again at each record.
            self.fold_at = self.tags.len() + LEAST_FOLD / 4;
        }
        if self.tags.len() <= MAX_TAGS {
            return Floor::Unchanged;
        }
        self.drop_older_half();
        self.fold_at = FOLD_AT;
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
    pub(super) fn drop_until(&mut self, last: Stamp) {
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
    /// Replaces the records of the family with the most tags by one record for the whole family.
    /// Returns `false` if no family has many tags.
    ///
    /// Some applications purge by tags that one of their many tenants chooses. The tenant could
    /// otherwise fill the table, and the floor would then invalidate the responses of all tenants.
    fn fold_largest_family(&mut self) -> bool {
        let mut sizes: HashMap<TagFamily, usize> = HashMap::new();
        for family in self.tags.keys().filter_map(|tag| tag.family()) {
            *sizes.entry(family).or_default() += 1;
        }
        let largest = sizes.into_iter().max_by_key(|(_, size)| *size);
        let Some((family, _)) = largest.filter(|(_, size)| *size >= LEAST_FOLD) else {
            return false;
        };
        let folded = self.tags.extract_if(|tag, _| tag.family() == Some(family));
        let replaced: Vec<(TagId, Stamp, E)> = folded
            .flat_map(|(tag, history)| history.0.into_iter().map(move |(at, e)| (tag, at, e)))
            .collect();
        let latest = replaced.iter().map(|(_, at, _)| *at).max();
        let oldest = replaced.iter().min_by_key(|(_, at, _)| *at).map(|(_, _, effect)| *effect);
        let Some((at, effect)) = latest.zip(oldest) else { return false };
        let into = TagId::of_family(family);
        let history = self.tags.entry(into).or_insert_with(History::new);
        history.add(at, effect, self.max_times);
        self.kinds = self.tags.keys().fold(TagKinds::default(), |all, tag| all.with(tag.kinds()));
        if self.folds.len() == MAX_FOLDS {
            self.folds.remove(0);
        }
        let replaced = replaced.into_iter().map(|(tag, _, effect)| (tag, effect)).collect();
        self.folds.push(Fold { into, at, effect, replaced });
        true
    }

    /// Takes the replacements of records since the last call. Only some of them are kept.
    pub(super) fn take_folds(&mut self) -> Vec<Fold<E>> {
        std::mem::take(&mut self.folds)
    }
}
