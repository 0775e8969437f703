mod remote;

use std::slice;

use actix_web::http::header::{ACCEPT, ACCEPT_LANGUAGE, HeaderName};

use super::*;
use crate::{
    coordination::records::MAX_EXPIRY_TIMES,
    entry::{
        fixtures::{at, stored},
        tag::TagId,
    },
};

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
fn invalidation_of_a_variant_applies_to_responses_that_other_fields_select() {
    let variant = |selecting: &[(HeaderName, Option<&str>)]| {
        TagId::variant(&key(), stored(0, selecting).selecting.into_iter())
    };
    let (one, other) = ((ACCEPT, Some("1")), (ACCEPT, Some("2")));
    let both = [one.clone(), (ACCEPT_LANGUAGE, None)];
    let purge_tag = |tag| Invalidation::PurgeTags(vec![tag]);
    let expire_tag = |tag| Invalidation::ExpireTags { tags: vec![tag], since: at(5) };
    for (invalidation, effect) in [
        (purge_tag as fn(TagId) -> Invalidation, Validity::Purged),
        (expire_tag, Validity::ExpiredSince(at(5))),
    ] {
        let log = InvalidationLog::default();
        let before = log.now();
        let validity = |stamp, selecting: &[(HeaderName, Option<&str>)]| {
            log.validity(&key(), &StoredResponse { stamp, ..stored(0, selecting) })
        };
        log.invalidate(&invalidation(variant(slice::from_ref(&one))));
        let after = log.now();
        for (selecting, want) in [
            (slice::from_ref(&one), effect),
            (slice::from_ref(&other), Validity::Valid),
            (&[(ACCEPT, None)], Validity::Valid),
            (&both, effect),
            (&[(ACCEPT_LANGUAGE, None)], effect),
            (&[], effect),
        ] {
            assert_eq!(validity(before, selecting), want, "{selecting:?}");
            assert_eq!(validity(after, selecting), Validity::Valid, "{selecting:?}");
        }
        let elsewhere = CacheKey::new("shop", "http", "h", "/other", None);
        let response = StoredResponse { stamp: before, ..stored(0, &[]) };
        assert_eq!(log.validity(&elsewhere, &response), Validity::Valid);
        // The first invalidation still counts after the selecting fields have changed.
        log.invalidate(&invalidation(variant(&both)));
        assert_eq!(validity(before, &[other.clone(), (ACCEPT_LANGUAGE, None)]), effect);
        assert_eq!(validity(after, &[other.clone(), (ACCEPT_LANGUAGE, None)]), Validity::Valid);
        assert_eq!(validity(after, slice::from_ref(&other)), effect);
    }
}

#[test]
fn records_of_variants_are_dropped_with_their_tags() {
    let log = InvalidationLog::default();
    let tags = |n: usize| {
        let key = CacheKey::new("shop", "http", "h", &format!("/{n}"), None);
        vec![TagId::variant(&key, stored(0, &[]).selecting.into_iter())]
    };
    for n in 0..=MAX_RECORDS {
        log.invalidate(&Invalidation::PurgeTags(tags(n)));
    }
    let sizes = || {
        let records = log.records.read().unwrap();
        (records.purged.tags.len(), records.purged.variants.len())
    };
    let (tags, variants) = sizes();
    assert!(tags == variants && tags <= MAX_RECORDS / 2 + 1, "{tags} {variants}");
    log.invalidate(&Invalidation::PurgeAll);
    assert_eq!(sizes(), (0, 0));
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
        // The earliest effect of the joined expiries counts, so no response becomes less stale.
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
        assert!(old.validity_check.holds(log.store_id, log.changes.load(Ordering::Relaxed)));
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

/// A tag that belongs to no family.
fn url(n: usize) -> TagId {
    TagId::url(CacheKey::new("shop", "http", "h", &format!("/{n}"), None).url())
}

#[test]
fn tags_of_one_host_or_names_do_not_invalidate_other_responses() {
    let group =
        |host: &str, n: usize| TagId::group(b"shop", b"http", host.as_bytes(), &n.to_string());
    let prefix = |host: &str, n: usize| TagId::prefix("shop", Some(host), &format!("/{n}"));
    let names = |_: &str, n: usize| tag(n);
    let key_of = |host: &str| CacheKey::new("shop", "http", host, "/a/b", None);
    for expires in [false, true] {
        for (case, flooding) in
            [("groups", group as fn(&str, usize) -> TagId), ("prefixes", prefix), ("names", names)]
        {
            let log = InvalidationLog::default();
            let (plain, named) = (response(log.now(), &[]), response(log.now(), &[tag("x")]));
            // Tags of other families, which are older, keep their records.
            let earlier = (response(log.now(), &[url(1)]), key_of("good"));
            purge(&log, &[url(1), prefix("other", 1)]);
            let mut largest = 0;
            for n in 0..MAX_RECORDS * 3 {
                let tags = vec![flooding("evil", n)];
                log.invalidate(&match expires {
                    true => Invalidation::ExpireTags { tags, since: at(7) },
                    false => Invalidation::PurgeTags(tags),
                });
                largest = largest.max(log.len());
            }
            let case = format!("{case}, expires: {expires}");
            assert!(largest < MAX_RECORDS, "{case}: {largest} records");
            assert!(log.replaced() >= 3, "{case}");
            let effect = if expires { Validity::ExpiredSince(at(7)) } else { Validity::Purged };
            let is_by_name = case.starts_with("names");
            let of_victim = |response| log.validity(&key_of("good"), response);
            assert_eq!(of_victim(&plain), Validity::Valid, "{case}");
            let want = if is_by_name { effect } else { Validity::Valid };
            assert_eq!(of_victim(&named), want, "{case}");
            assert_eq!(log.validity(&earlier.1, &earlier.0), Validity::Purged, "{case}");
            let of_host = log.validity(&key_of("evil"), &plain.clone());
            assert_eq!(of_host, if is_by_name { Validity::Valid } else { effect }, "{case}");
            let now = response(log.now(), &[tag("x")]);
            assert_eq!(log.validity(&key_of("evil"), &now), Validity::Valid, "{case}");
        }
    }
}

#[test]
fn dropped_records_become_a_floor_for_all_responses() {
    for expires in [false, true] {
        let log = InvalidationLog::default();
        let invalidate = |n: usize| {
            log.invalidate(&if expires {
                Invalidation::ExpireTags { tags: vec![url(n)], since: at(n as u64) }
            } else {
                Invalidation::PurgeTags(vec![url(n)])
            });
        };
        let first = response(log.now(), &[tag("x")]);
        (0..MAX_RECORDS).for_each(invalidate);
        let last = response(log.now(), &[tag("x"), url(MAX_RECORDS)]);
        assert_eq!(log.validity(&key(), &first), Validity::Valid, "no record is dropped yet");
        invalidate(MAX_RECORDS);
        assert!(log.len() <= MAX_RECORDS / 2 + 1);
        assert_ne!(log.validity(&key(), &first), Validity::Valid, "older than the floor");
        assert_ne!(log.validity(&key(), &last), Validity::Valid, "the last record is kept");
        let other = response(last.stamp, &[tag("x")]);
        assert_eq!(log.validity(&key(), &other), Validity::Valid);
        (0..MAX_RECORDS * 2).for_each(invalidate);
        assert!(log.len() <= MAX_RECORDS + 1);
    }
}
