//! Records that a table outside of the process has, too.

use std::collections::HashMap;

use super::*;
use crate::clock::Timestamp;

/// The table of a store that several processes share, and the log of one process.
#[derive(Default)]
struct Shared {
    log: InvalidationLog,
    /// The invalidations under their debug output, each with its time.
    table: HashMap<String, (Stamp, Invalidation)>,
    largest: usize,
}

impl Shared {
    /// Adds an invalidation of another process to the table.
    fn add(&mut self, invalidation: Invalidation) {
        let now = Stamp::new(self.log.now().get() + 2);
        self.table.insert(format!("{invalidation:?}"), (now, invalidation.clone()));
        self.largest = self.largest.max(self.table.len());
        self.log.record_remote(&[(now, invalidation)], &[], now);
        self.replace();
    }

    /// Replaces the invalidations in the table that the process has replaced.
    fn replace(&mut self) {
        for replaced in self.log.take_replaced() {
            assert!(!replaced.replaced.contains(&replaced.replacement));
            for old in &replaced.replaced {
                let name = format!("{old:?}");
                if self.table.get(&name).is_some_and(|(at, _)| *at <= replaced.at) {
                    self.table.remove(&name);
                }
            }
            let name = format!("{:?}", replaced.replacement);
            let entry = self.table.entry(name).or_insert((replaced.at, replaced.replacement));
            entry.0 = entry.0.max(replaced.at);
        }
    }

    /// Makes the log of a process that starts now.
    fn later_process(&self) -> InvalidationLog {
        let mut members: Vec<_> = self.table.values().cloned().collect();
        members.sort_by_key(|(at, _)| *at);
        let log = InvalidationLog::default();
        log.record_remote(&members, &[], self.log.now());
        log
    }

    /// Returns the validity of a response in both processes, which must be equal.
    fn validity(&self, host: &str, response: &StoredResponse) -> Validity {
        let key = CacheKey::new("shop", "http", host, "/a/b", None);
        let validity = self.log.validity(&key, &response.clone());
        let later = self.later_process();
        assert_eq!(later.validity(&key, &response.clone()), validity, "in a later process");
        validity
    }
}

fn group(host: &str, n: usize) -> TagId {
    TagId::group(b"shop", b"http", host.as_bytes(), &n.to_string())
}

fn purge_of(tag: TagId) -> Invalidation {
    Invalidation::PurgeTags(vec![tag])
}

fn expiry_of(tag: TagId, since: Timestamp) -> Invalidation {
    Invalidation::ExpireTags { tags: vec![tag], since }
}

#[test]
fn record_that_replaces_others_twice_stays_in_the_table() {
    for (case, flooding) in [
        ("purges", (|n, _| purge_of(group("evil", n))) as fn(usize, u64) -> Invalidation),
        ("expiries", |n, _| expiry_of(group("evil", n), at(7))),
        ("expiries at different times", |n, time| expiry_of(group("evil", n), at(time))),
        ("expiries with clocks that differ", |n, time| {
            expiry_of(group("evil", n), at(1_000_000 - time))
        }),
        ("expiries of names", |n, time| expiry_of(tag(n), at(1_000_000 - time))),
    ] {
        let mut shared = Shared::default();
        let response_with = |shared: &Shared| response(shared.log.now(), &[tag("x")]);
        let mut responses = vec![response_with(&shared)];
        shared.add(purge_of(TagId::prefix("shop", Some("evil"), "/")));
        shared.add(purge_of(TagId::prefix("shop", Some("good"), "/other")));
        let mut time = 0;
        while shared.log.replaced() < 3 {
            time += 1;
            shared.add(flooding(time as usize, time));
            if time % 20_000 == 0 {
                responses.push(response_with(&shared));
            }
        }
        assert!(shared.largest < MAX_RECORDS, "{case}: {}", shared.largest);
        assert!(shared.table.len() < 20, "{case}: {} members", shared.table.len());
        for response in &responses {
            assert_ne!(shared.validity("evil", response), Validity::Valid, "{case}");
        }
        if !case.contains("names") {
            assert_eq!(shared.validity("good", &responses[0]), Validity::Valid, "{case}");
        }
        let new = response_with(&shared);
        assert_eq!(shared.validity("evil", &new), Validity::Valid, "{case}");
    }
}

#[test]
fn replaced_expiries_do_not_make_a_response_less_stale() {
    let mut shared = Shared::default();
    let old = response(shared.log.now(), &[]);
    let of_group = response(shared.log.now(), &[group("evil", 2)]);
    // The clock of the process that expires the second group is behind.
    shared.add(expiry_of(group("evil", 1), at(50)));
    shared.add(expiry_of(group("evil", 2), at(30)));
    assert_eq!(shared.validity("evil", &of_group), Validity::ExpiredSince(at(30)));
    for n in 3..=MAX_RECORDS {
        shared.add(expiry_of(group("evil", n), at(60)));
    }
    assert_eq!(shared.log.replaced(), 1);
    for response in [old, of_group] {
        assert_eq!(shared.validity("evil", &response), Validity::ExpiredSince(at(30)));
    }
}

#[test]
fn repeated_expiries_of_one_tag_take_few_members_of_the_table() {
    for by_tag in [true, false] {
        let mut shared = Shared::default();
        let (old, other) = (response(shared.log.now(), &[url(1)]), response(Stamp::ZERO, &[]));
        let mut recent = old.clone();
        for n in 0..MAX_RECORDS as u64 + 500 {
            recent.stamp = shared.log.now();
            shared.add(match by_tag {
                true => expiry_of(url(1), at(n)),
                false => Invalidation::ExpireAll { since: at(n) },
            });
        }
        assert!(shared.largest < 50, "{} members", shared.largest);
        assert_eq!((shared.log.replaced(), shared.log.dropped()), (0, 0));
        assert_eq!(shared.validity("h", &old), Validity::ExpiredSince(at(0)));
        let last = at(MAX_RECORDS as u64 + 499);
        assert_eq!(shared.validity("h", &recent), Validity::ExpiredSince(last));
        let want = if by_tag { Validity::Valid } else { Validity::ExpiredSince(at(0)) };
        assert_eq!(shared.validity("h", &other), want);
    }
}

#[test]
fn table_full_of_expiries_of_one_tag_is_replaced_at_the_first_read() {
    let mut shared = Shared::default();
    for n in 0..60_000 {
        let expiry = expiry_of(url(1), at(n));
        shared.table.insert(format!("{expiry:?}"), (Stamp::new(n + 1), expiry));
    }
    shared.log.record_remote(&[], &[], Stamp::new(60_001));
    shared.log = shared.later_process();
    shared.replace();
    assert!(shared.table.len() < 50, "{} members", shared.table.len());
    let old = response(Stamp::ZERO, &[url(1)]);
    assert_eq!(shared.validity("h", &old), Validity::ExpiredSince(at(0)));
}

#[test]
fn purges_and_expiries_are_bounded_together() {
    let mut shared = Shared::default();
    let old = response(shared.log.now(), &[]);
    for n in 0..MAX_RECORDS {
        shared.add(purge_of(group("evil", n)));
        shared.add(expiry_of(group("evil", n), at(n as u64)));
        shared.add(expiry_of(group("evil", n / 2), at(n as u64 + 1)));
    }
    assert!(shared.largest < MAX_RECORDS, "{} members", shared.largest);
    assert!(shared.log.replaced() >= 2 && shared.log.dropped() == 0);
    assert_eq!(shared.validity("evil", &old), Validity::Purged);
    assert_eq!(shared.validity("good", &old), Validity::Valid);
}

#[test]
fn invalidation_in_this_process_keeps_replacements() {
    let shared = Shared::default();
    for n in 1..=MAX_RECORDS as u64 {
        let purge = purge_of(group("evil", n as usize));
        shared.log.record_remote(&[(Stamp::new(n), purge)], &[], Stamp::new(n));
    }
    super::purge(&shared.log, &[tag("a")]);
    let replaced = shared.log.take_replaced();
    let [replaced] = replaced.as_slice() else { panic!("{} replacements", replaced.len()) };
    assert_eq!(replaced.replacement, purge_of(TagId::prefix("shop", Some("evil"), "/")));
    assert_eq!(replaced.at.get(), replaced.replaced.len() as u64);
    assert!(replaced.replaced.contains(&purge_of(group("evil", 1))));
    assert!(shared.log.take_replaced().is_empty());
}

#[test]
fn store_of_one_process_keeps_no_replacements() {
    let log = InvalidationLog::default();
    for n in 0..MAX_RECORDS {
        super::purge(&log, &[group("evil", n)]);
    }
    assert_eq!((log.replaced(), log.take_replaced().len()), (1, 0));
}

#[test]
fn replacements_that_are_not_taken_are_bounded() {
    let log = InvalidationLog::default();
    for n in 0..MAX_RECORDS as u64 * 5 {
        let purge = purge_of(group("evil", n as usize));
        log.record_remote(&[(Stamp::new(n), purge)], &[], Stamp::new(n));
    }
    let kept: usize = log.take_replaced().iter().map(|replaced| replaced.replaced.len()).sum();
    assert!(log.replaced() >= 5 && kept <= MAX_RECORDS * 3, "{kept}");
}

/// The clock of a server that takes over may be behind that of the last one.
#[test]
fn record_that_is_not_later_than_the_clock_applies_to_checked_responses() {
    let key = CacheKey::new("shop", "http", "h", "/a/b", None);
    for (behind, removes) in [(0, false), (5, false), (0, true), (5, true)] {
        let log = InvalidationLog::default();
        log.record_remote(&[(Stamp::new(100), purge_of(group("other", 1)))], &[], Stamp::new(100));
        let old = response(Stamp::new(10), &[tag("a")]);
        assert_eq!(log.validity(&key, &old), Validity::Valid, "checked and remembered");
        let at = Stamp::new(100 - behind);
        let (purge, removal) =
            ([(at, purge_of(tag("a")))], [(at, Removal::Tag(TagId::url(key.url())))]);
        if removes {
            log.record_remote(&[], &removal, at);
        } else {
            log.record_remote(&purge, &[], at);
        }
        assert_eq!(log.validity(&key, &old), Validity::Purged, "{behind} {removes}");
    }
}
