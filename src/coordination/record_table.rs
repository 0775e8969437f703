//! The records of the purges, or of the expiries, of one store.

use std::collections::HashMap;

use smallvec::{SmallVec, smallvec};

use super::replacements::{Effect, Replacement, Replacements};
use crate::entry::{
    stamp::Stamp,
    tag::{FieldsDigest, KeyDigest, TagFamily, TagId, TagKinds},
};

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
    /// The number of invalidations in `tags`.
    invalidations: usize,
    /// The latest replacements of records, for stores that also keep the records elsewhere.
    pub(super) replacements: Replacements<E>,
}

/// The invalidations of variants of one key, by the names of the selecting fields of the variants.
type VariantHistories<E> = SmallVec<[(FieldsDigest, History<E>); 1]>;

/// The logical times at which one tag was invalidated, oldest first. Each time has the effect of
/// its invalidation.
#[derive(Debug)]
pub(super) struct History<E>(pub(super) SmallVec<[(Stamp, E); 1]>);

/// The two oldest invalidations of a tag, which were joined into one. The joined invalidation has
/// the later logical time, so that it applies to the responses of both. It has the effect of both
/// together, so that no response becomes less stale.
struct Joined<E> {
    at: Stamp,
    effect: E,
    /// The effect that the joined invalidation does not have.
    replaced: E,
}

impl<E: Effect> History<E> {
    fn new() -> Self {
        Self(SmallVec::new())
    }

    /// Adds an invalidation. If there are too many, joins the two oldest ones. Invalidations with
    /// equal effects are one, with the latest of their times.
    fn add(&mut self, at: Stamp, effect: E, max_times: usize) -> Option<Joined<E>> {
        match self.0.iter_mut().find(|(_, known)| *known == effect) {
            Some((latest, _)) => *latest = at.max(*latest),
            None => self.0.push((at, effect)),
        }
        self.0.sort_by_key(|(stamp, _)| *stamp);
        if self.0.len() <= max_times {
            return None;
        }
        let (_, oldest) = self.0.remove(0);
        let (at, joined) = self.0.first_mut()?;
        let effect = oldest.and(*joined);
        let replaced = if effect == oldest { *joined } else { oldest };
        *joined = effect;
        Some(Joined { at: *at, effect, replaced })
    }

    fn latest(&self) -> Stamp {
        self.0.last().map_or(Stamp::ZERO, |(stamp, _)| *stamp)
    }
}

impl<E: Effect> RecordTable<E> {
    pub(super) fn new(max_times: usize) -> Self {
        Self {
            tags: HashMap::new(),
            variants: HashMap::new(),
            floor: History::new(),
            kinds: TagKinds::default(),
            max_times,
            invalidations: 0,
            replacements: Replacements::new(),
        }
    }

    /// Returns the number of records, with those that were replaced here and that a store outside
    /// of the process does not replace yet.
    pub(super) fn len(&self) -> usize {
        self.invalidations + self.replacements.waiting()
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
        if let Some(joined) = self.floor.add(at, effect, self.max_times) {
            self.record_join(None, &joined);
        }
    }

    pub(super) fn add(&mut self, tags: &[TagId], at: Stamp, effect: E) {
        for tag in tags {
            self.kinds = self.kinds.with(tag.kinds());
            let history = self.tags.entry(*tag).or_insert_with(History::new);
            self.invalidations -= history.0.len();
            let joined = history.add(at, effect, self.max_times);
            self.invalidations += history.0.len();
            if let Some(joined) = joined {
                self.record_join(Some(*tag), &joined);
            }
            if let Some((key, fields)) = tag.variant_parts() {
                self.add_variant(key, fields, at, effect);
            }
        }
    }

    fn record_join(&mut self, tag: Option<TagId>, joined: &Joined<E>) {
        let &Joined { at, effect, replaced } = joined;
        self.replacements.add(Replacement { tag, at, effect, replaced: vec![(tag, replaced)] });
    }

    fn add_variant(&mut self, key: KeyDigest, fields: FieldsDigest, at: Stamp, effect: E) {
        let of_key = self.variants.entry(key).or_default();
        match of_key.iter_mut().find(|(known, _)| *known == fields) {
            Some((_, history)) => {
                history.add(at, effect, self.max_times);
            }
            None => of_key.push((fields, History(smallvec![(at, effect)]))),
        }
    }

    /// Drops the records of tags that were not invalidated later than `last`.
    pub(super) fn drop_until(&mut self, last: Stamp) {
        self.tags.retain(|_, history| history.latest() > last);
        self.variants.retain(|_, of_key| {
            of_key.retain(|(_, history)| history.latest() > last);
            !of_key.is_empty()
        });
        self.replacements.retain(|tag| self.tags.contains_key(&tag));
        self.update_totals();
    }

    fn update_totals(&mut self) {
        self.invalidations = self.tags.values().map(|history| history.0.len()).sum();
        let kinds = self.tags.keys().map(|tag| tag.kinds());
        self.kinds = kinds.fold(TagKinds::default(), TagKinds::with);
    }

    /// Drops the older half of the records. The latest time among the dropped records becomes the
    /// floor: all responses with an earlier stamp then count as invalidated.
    pub(super) fn drop_older_half(&mut self) {
        let mut latest: Vec<_> = self.tags.values().map(History::latest).collect();
        latest.sort_unstable();
        let Some(&floor) = latest.get(latest.len() / 2) else { return };
        let dropped = self.tags.values().filter(|history| history.latest() <= floor);
        let effects = dropped.flat_map(|history| &history.0).map(|(_, effect)| *effect);
        if let Some(effect) = effects.reduce(E::and) {
            self.add_to_floor(floor, effect);
        }
        self.drop_until(floor);
    }

    /// Returns the family whose tags have the most records, and the number of these records.
    pub(super) fn largest_family(&self) -> Option<(TagFamily, usize)> {
        let mut sizes: HashMap<TagFamily, usize> = HashMap::new();
        for (tag, history) in &self.tags {
            if let Some(family) = tag.family() {
                *sizes.entry(family).or_default() += history.0.len();
            }
        }
        sizes.into_iter().max_by_key(|(_, size)| *size)
    }

    /// Replaces the records of a family of tags by one record for the whole family.
    pub(super) fn replace_family(&mut self, family: TagFamily) {
        let records = self.tags.extract_if(|tag, _| tag.family() == Some(family));
        let records: Vec<(TagId, Stamp, E)> = records
            .flat_map(|(tag, history)| history.0.into_iter().map(move |(at, e)| (tag, at, e)))
            .collect();
        let latest = records.iter().map(|(_, at, _)| *at).max();
        let effect = records.iter().map(|(_, _, effect)| *effect).reduce(E::and);
        let Some((at, effect)) = latest.zip(effect) else { return };
        // The tag of the whole family is the tag of the root path of a host, or of all names. The
        // root path is in the family itself, so its earlier records are among the replaced ones.
        let tag = TagId::of_family(family);
        let history = self.tags.entry(tag).or_insert_with(History::new);
        let joined = history.add(at, effect, self.max_times);
        self.update_totals();
        if self.replacements.are_kept {
            let mut replaced = self.replacements.take_family(family);
            replaced.extend(records.into_iter().map(|(tag, _, effect)| (Some(tag), effect)));
            self.replacements.add(Replacement { tag: Some(tag), at, effect, replaced });
        }
        if let Some(joined) = joined {
            self.record_join(Some(tag), &joined);
        }
    }
}
