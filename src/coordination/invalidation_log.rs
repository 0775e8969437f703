//! What was invalidated, and when: the whole of it, at a cost that does not grow with what is stored.
//!
//! Nobody keeps a list of what has a tag. A store has a logical clock; each invalidation moves it on,
//! and leaves the new time as a mark at what it names. A response carries the time that the clock
//! showed **before its handler ran**, and is valid while no mark at anything it is named by is
//! younger than that.
//!
//! # Why no order of events breaks it
//!
//! Let an application change something, and then invalidate `g`; and let `F` be a response made of
//! what it changes, whose handler runs after the clock was read as `t`. The invalidation moves the
//! clock to `s`. All changes of the clock and of marks are made under one lock, so that one of the
//! two comes first:
//!
//! 1. The clock was moved before it was read: `t >= s`. `F` stays valid, and rightly so, for its
//!    handler began after the change was made.
//! 2. The clock was read before it was moved: `t < s`. When the invalidation returns, the mark is
//!    there. Whoever asks after that finds it, and with it that `F` is invalid: whether `F` was
//!    stored before the mark was made, is stored after it, or is stored much later over something
//!    younger. Nothing has to be known of `F` in the moment of the invalidation, neither that it
//!    exists nor that `g` is one of its names: these may come with the handler's answer.
//!
//! So what is old can cost a miss, never be served; and an answer that was not the old one can be
//! refused, where case 2 meets a handler that read late. Requests that come after an invalidation
//! join no flight from before it: they say the time at which they looked, and flights of another
//! time are not theirs.
//!
//! 3. **InvalidationLog are forgotten**, oldest first, when there are too many. Everything that is older than
//!    the youngest of them is then invalid at once (the floor), whatever its names are.
//! 4. **Looking is not repeated.** A response that was found valid is noted to be so up to the time
//!    that the clock showed under the lock. Until the clock moves, no mark is made, so that nothing
//!    can have become invalid; when it moves, everything is looked at again.
//! 5. **What is stale** from a moment on is the same with marks of another kind: what they reach is
//!    not refused, but no longer fresh. What was fetched before is stored, and stale at once.
//! 6. **One URL** whose keys can be told needs no mark: stores remove it, and check under the lock
//!    of the key that the fill they store was not overtaken ([`Coordinator::invalidate_fills`]).
//!
//! [`Coordinator::invalidate_fills`]: super::Coordinator::invalidate_fills

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use smallvec::SmallVec;

use crate::{
    clock::Timestamp,
    entry::invalidation::Invalidation,
    entry::key::CacheKey,
    entry::response::{StoredResponse, Validity},
    entry::stamp::Stamp,
    entry::tag::{Kinds, TagId, implied},
};

/// Tags that are remembered at once, of each of the two kinds of marks.
const MAX_MARKS: usize = 65_536;

/// Times at which one name was made stale that are told apart.
const MAX_TIMES: usize = 16;

/// How long a mark at one key counts, in the microseconds of stores of several processes: those alone
/// make such marks, and take nothing from a fill that is older.
pub(crate) const KEY_WINDOW: u64 = 120_000_000;

/// All invalidations of one store.
#[derive(Debug)]
pub(super) struct InvalidationLog {
    /// What tells this store from others to a response.
    id: u64,
    /// Logical time: larger after each invalidation. Moved under the lock only.
    clock: AtomicU64,
    tables: RwLock<Tables>,
}

#[derive(Debug)]
struct Tables {
    purged: Table<()>,
    stale: Table<Timestamp>,
}

/// InvalidationLog of one kind.
#[derive(Debug)]
struct Table<W> {
    marks: HashMap<TagId, Mark<W>>,
    /// At everything.
    floor: Mark<W>,
    /// The kinds of tags that may be marked.
    kinds: Kinds,
    /// Times that a mark tells apart.
    times: usize,
}

/// When something was marked, oldest first.
#[derive(Debug)]
struct Mark<W>(SmallVec<[(Stamp, W); 1]>);

impl Default for InvalidationLog {
    fn default() -> Self {
        let id = RandomState::new().hash_one(()) | 1;
        Self { id, clock: AtomicU64::default(), tables: RwLock::default() }
    }
}

impl InvalidationLog {
    pub(super) fn now(&self) -> Stamp {
        Stamp::new(self.clock.load(Ordering::Acquire))
    }

    pub(super) fn len(&self) -> usize {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        tables.purged.marks.len() + tables.stale.marks.len()
    }

    pub(super) fn validity(&self, key: &CacheKey, response: &StoredResponse) -> Validity {
        // Nothing was invalidated since it was made, or last looked at: the common case.
        let now = self.now();
        if response.stamp >= now || response.validity_check.holds(self.id, now) {
            return Validity::Valid;
        }
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        let implied = implied(key, response, tables.purged.kinds.and(tables.stale.kinds));
        let names = || response.tags.iter().chain(&implied);
        if tables.purged.younger(response.stamp, names()).next().is_some() {
            return Validity::Purged;
        }
        let stale = tables.stale.younger(response.stamp, names());
        if let Some(first) = stale.min_by_key(|since| (since.monotonic(), since.wall())) {
            return Validity::ExpiredSince(first);
        }
        // It does not move while the lock is held.
        response.validity_check.extend(self.id, self.now());
        Validity::Valid
    }

    pub(super) fn invalidate(&self, what: &Invalidation) {
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        let next = Stamp::new(self.clock.load(Ordering::Acquire) + 1);
        tables.note(what, next);
        // Last: whoever reads the new time finds the marks that made it.
        self.clock.store(next.get(), Ordering::Release);
    }

    /// Takes over what was invalidated elsewhere, at times of a clock that is not ours; `until` is
    /// the time up to which that is all there is.
    pub(super) fn learn(&self, news: &[(Stamp, Invalidation)], until: Stamp) {
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        for (at, what) in news {
            tables.note(what, *at);
        }
        self.clock.fetch_max(until.get(), Ordering::Release);
    }
}

impl Tables {
    fn note(&mut self, what: &Invalidation, at: Stamp) {
        match what {
            Invalidation::PurgeAll => {
                // Nothing that they say is left to be said.
                self.purged.marks.retain(|_, mark| mark.youngest() > at);
                self.purged.mark_all(at, ());
            }
            Invalidation::PurgeTags(tags) => self.purged.mark(tags, at, ()),
            Invalidation::ExpireAll { since } => self.stale.mark_all(at, *since),
            Invalidation::ExpireTags { tags, since } => self.stale.mark(tags, at, *since),
        }
    }
}

impl Default for Tables {
    fn default() -> Self {
        // That something was purged last says it all; what became stale did so when it was first said.
        Self { purged: Table::new(1), stale: Table::new(MAX_TIMES) }
    }
}

impl<W: Copy> Mark<W> {
    fn new() -> Self {
        Self(SmallVec::new())
    }

    fn add(&mut self, at: Stamp, what: W, times: usize) {
        self.0.push((at, what));
        self.0.sort_by_key(|(stamp, _)| *stamp);
        if self.0.len() > times {
            // As far as the younger one reaches, by what was said first.
            let (_, first) = self.0.remove(0);
            if let Some((_, what)) = self.0.first_mut() {
                *what = first;
            }
        }
    }

    fn youngest(&self) -> Stamp {
        self.0.last().map_or(Stamp::ZERO, |(stamp, _)| *stamp)
    }
}

impl<W: Copy> Table<W> {
    fn new(times: usize) -> Self {
        Self { marks: HashMap::new(), floor: Mark::new(), kinds: Kinds::default(), times }
    }

    /// What the marks say that are younger than `stamp`, of these names and of everything.
    fn younger<'a>(
        &'a self,
        stamp: Stamp,
        names: impl Iterator<Item = &'a TagId>,
    ) -> impl Iterator<Item = W> {
        let named = names.filter_map(|name| self.marks.get(name));
        let all = [&self.floor].into_iter().chain(named).flat_map(|mark| &mark.0);
        all.filter(move |(mark, _)| *mark > stamp).map(|&(_, what)| what)
    }

    fn mark_all(&mut self, at: Stamp, what: W) {
        self.floor.add(at, what, self.times);
    }

    fn mark(&mut self, tags: &[TagId], at: Stamp, what: W) {
        for tag in tags {
            self.kinds = self.kinds.and(tag.kinds());
            self.marks.entry(*tag).or_insert_with(Mark::new).add(at, what, self.times);
        }
        if self.marks.len() > MAX_MARKS {
            self.forget_removals(at);
        }
        if self.marks.len() > MAX_MARKS {
            self.forget_older_half();
        }
    }

    /// InvalidationLog at single keys are of no use once every fill from before them has ended.
    fn forget_removals(&mut self, now: Stamp) {
        let over = Stamp::new(now.get().saturating_sub(KEY_WINDOW));
        self.marks.retain(|tag, mark| !tag.is_key() || mark.youngest() >= over);
    }

    /// What they were about is then marked as a whole.
    fn forget_older_half(&mut self) {
        let mut youngest: Vec<_> = self.marks.values().map(Mark::youngest).collect();
        youngest.sort_unstable();
        let Some(&floor) = youngest.get(youngest.len() / 2) else { return };
        let forgotten = self.marks.extract_if(|_, mark| mark.youngest() <= floor);
        let first = forgotten.flat_map(|(_, mark)| mark.0).min_by_key(|(stamp, _)| *stamp);
        if let Some((_, first)) = first {
            self.mark_all(floor, first);
        }
        let kinds = self.marks.keys().map(|tag| tag.kinds());
        self.kinds = kinds.fold(Kinds::default(), Kinds::and);
    }
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::entry::response::tests::{at, stored};

    fn key() -> CacheKey {
        CacheKey::new("4:shop,", "http", "h", "/a/b", None)
    }

    fn tag(name: impl ToString) -> TagId {
        TagId::tag("shop", &name.to_string())
    }

    fn response(stamp: Stamp, tags: &[TagId]) -> StoredResponse {
        StoredResponse { stamp, tags: tags.iter().copied().collect(), ..stored(0, &[]) }
    }

    fn purge(marks: &InvalidationLog, tags: &[TagId]) {
        marks.invalidate(&Invalidation::PurgeTags(tags.to_vec()));
    }

    #[test]
    fn what_began_before_an_invalidation_of_its_tag_is_invalid() {
        let marks = InvalidationLog::default();
        let (a, b) = (tag("a"), tag("b"));
        let before = marks.now();
        purge(&marks, &[a]);
        let after = marks.now();
        let valid = |stamp, tags: &[TagId]| {
            marks.validity(&key(), &response(stamp, tags)) == Validity::Valid
        };
        for (stamp, tags, want) in [
            (before, &[a][..], false),
            (before, &[b], true),
            (before, &[], true),
            (before, &[b, a], false),
            (after, &[a], true),
        ] {
            assert_eq!(valid(stamp, tags), want, "{stamp:?} {tags:?}");
        }
        marks.invalidate(&Invalidation::PurgeAll);
        assert!(!valid(after, &[]));
        assert!(valid(marks.now(), &[a]));
    }

    #[test]
    fn what_a_key_implies_is_invalidated_without_being_carried() {
        for (name, named) in [
            (TagId::url(key().url()), true),
            (TagId::path(&key().url_parts().unwrap()), true),
            (TagId::prefix("shop", Some("h"), "/a"), true),
            (TagId::prefix("shop", None, "/"), true),
            (TagId::variant(&key(), stored(0, &[]).selecting.into_iter()), true),
            (TagId::prefix("shop", Some("h"), "/b"), false),
            (TagId::prefix("shop", Some("g"), "/a"), false),
            (TagId::prefix("other", None, "/"), false),
        ] {
            let marks = InvalidationLog::default();
            let old = response(marks.now(), &[]);
            purge(&marks, &[name]);
            let want = if named { Validity::Purged } else { Validity::Valid };
            assert_eq!(marks.validity(&key(), &old), want, "{name:?}");
        }
    }

    #[test]
    fn what_was_made_stale_is_so_since_the_first_time_and_what_was_purged_is_gone() {
        let marks = InvalidationLog::default();
        let (a, b) = (tag("a"), tag("b"));
        let old = response(marks.now(), &[a, b]);
        let stale = |tag, second| Invalidation::ExpireTags { tags: vec![tag], since: at(second) };
        marks.invalidate(&stale(a, 5));
        marks.invalidate(&stale(b, 7));
        assert_eq!(marks.validity(&key(), &old), Validity::ExpiredSince(at(5)));
        let newer = response(Stamp::new(1), &[a, b]);
        assert_eq!(marks.validity(&key(), &newer), Validity::ExpiredSince(at(7)));
        let newest = response(marks.now(), &[a, b]);
        assert_eq!(marks.validity(&key(), &newest), Validity::Valid);
        marks.invalidate(&stale(a, 8));
        assert_eq!(marks.validity(&key(), &old), Validity::ExpiredSince(at(5)), "said again");
        assert_eq!(marks.validity(&key(), &newest), Validity::ExpiredSince(at(8)));
        let newest = response(marks.now(), &[a, b]);
        marks.invalidate(&Invalidation::ExpireAll { since: at(9) });
        assert_eq!(marks.validity(&key(), &newest), Validity::ExpiredSince(at(9)));
        purge(&marks, &[b]);
        assert_eq!(marks.validity(&key(), &old), Validity::Purged);
    }

    #[test]
    fn many_times_when_everything_became_stale_are_told_apart_and_bounded() {
        let marks = InvalidationLog::default();
        let old: Vec<_> = (0..40)
            .map(|n| {
                let response = response(marks.now(), &[]);
                marks.invalidate(&Invalidation::ExpireAll { since: at(n) });
                response
            })
            .collect();
        assert_eq!(marks.tables.read().unwrap().stale.floor.0.len(), MAX_TIMES);
        for (n, old) in (0..40).zip(&old) {
            // Of those long ago the first counts: what was stale does not become less so.
            let first = if n < 40 - MAX_TIMES as u64 + 1 { 0 } else { n };
            assert_eq!(marks.validity(&key(), old), Validity::ExpiredSince(at(first)), "{n}");
        }
    }

    #[test]
    fn what_was_found_valid_is_looked_at_again_after_each_invalidation() {
        let marks = InvalidationLog::default();
        let old = response(marks.now(), &[tag("a")]);
        for n in 0..3 {
            purge(&marks, &[tag(n)]);
            assert_eq!(marks.validity(&key(), &old), Validity::Valid);
            assert!(old.validity_check.holds(marks.id, marks.now()));
        }
        purge(&marks, &[tag("a")]);
        assert_eq!(marks.validity(&key(), &old), Validity::Purged);
        assert_eq!(marks.validity(&key(), &old.clone()), Validity::Purged);
    }

    #[test]
    fn one_store_does_not_vouch_for_another() {
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
    fn the_oldest_marks_are_forgotten_and_what_is_older_is_marked_as_a_whole() {
        for stale in [false, true] {
            let marks = InvalidationLog::default();
            let mark = |n: usize| {
                marks.invalidate(&if stale {
                    Invalidation::ExpireTags { tags: vec![tag(n)], since: at(n as u64) }
                } else {
                    Invalidation::PurgeTags(vec![tag(n)])
                });
            };
            let first = response(marks.now(), &[tag("x")]);
            (0..MAX_MARKS).for_each(mark);
            let last = response(marks.now(), &[tag("x"), tag(MAX_MARKS)]);
            assert_eq!(marks.validity(&key(), &first), Validity::Valid, "all fit");
            mark(MAX_MARKS);
            assert!(marks.len() <= MAX_MARKS / 2 + 1);
            assert_ne!(marks.validity(&key(), &first), Validity::Valid, "too much is forgotten");
            assert_ne!(marks.validity(&key(), &last), Validity::Valid, "what is young is not");
            let other = response(last.stamp, &[tag("x")]);
            assert_eq!(marks.validity(&key(), &other), Validity::Valid);
            (0..MAX_MARKS * 2).for_each(mark);
            assert!(marks.len() <= MAX_MARKS + 1);
        }
    }
}
