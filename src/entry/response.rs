//! What is stored: a response with what reuse is judged by, and the variants of a resource.

use std::{sync::Arc, time::Duration};

use crate::{
    clock::Timestamp,
    entry::stamp::{Stamp, ValidityCheck},
    entry::tag::TagId,
};
use actix_web::http::{
    StatusCode,
    header::{CACHE_CONTROL, DATE, EXPIRES, HeaderName, HeaderValue, VARY},
};
use bytes::{Bytes, BytesMut};

/// The fields that the cache may complete for clients.
pub(crate) const ANNOTATED_FIELDS: [HeaderName; 4] = [CACHE_CONTROL, DATE, EXPIRES, VARY];

/// Variants kept of one resource: what is beyond is oldest first forgotten.
pub(crate) const MAX_VARIANTS: usize = 64;

/// What a freshness lifetime rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LifetimeSource {
    /// The response's `Cache-Control`, a field targeted at this cache, or `Expires` (RFC 9111
    /// section 4.2.1, RFC 9213).
    Explicit,
    /// The response's `Last-Modified` (RFC 9111 section 4.2.2).
    Heuristic,
    /// What the handler told this cache about this response, beside its fields.
    Handler,
    /// A rule or the policy; the response itself said nothing.
    Policy,
}

impl LifetimeSource {
    /// Whether clients read the same from the response's own fields.
    pub(crate) const fn is_stated(self) -> bool {
        matches!(self, Self::Explicit | Self::Heuristic)
    }
}

/// How long a response may be reused, decided once when it is stored (RFC 9111 section 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lifetime {
    /// When the response's head was known.
    pub response: Timestamp,
    /// `corrected_initial_age` of RFC 9111 section 4.2.3.
    pub initial_age: Duration,
    /// `freshness_lifetime` of RFC 9111 section 4.2.1; 2^31 seconds, some 68 years, at most.
    pub freshness: Duration,
    /// What the freshness lifetime rests on.
    pub source: LifetimeSource,
    /// When it may be reused without being fresh, and when not although it is.
    pub staleness: Staleness,
    /// How long after its freshness lifetime it is still of use: for validation, or where a stale
    /// response is better than none.
    pub retention: Duration,
}

/// What a response says of its reuse without validation (RFC 9111 sections 4.2.4 and 5.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Staleness {
    /// When validation must come first.
    pub validation: Validation,
    /// `stale-while-revalidate` (RFC 5861 section 3), if it says so itself.
    pub while_revalidate: Option<Duration>,
    /// `stale-if-error` (RFC 5861 section 4), if it says so itself.
    pub if_error: Option<Duration>,
}

/// When a stored response must be validated before it is reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Validation {
    /// Once stale, unless something allows otherwise: the response, the client or the policy.
    #[default]
    OnceStale,
    /// Once stale, whatever the client or the policy would allow: `must-revalidate`,
    /// `proxy-revalidate`, `s-maxage` (RFC 9111 section 4.2.4).
    Strict,
    /// Always: `no-cache` (RFC 9111 section 5.2.2.4).
    Always,
}

impl Lifetime {
    /// `current_age` (RFC 9111 section 4.2.3).
    #[must_use]
    pub fn age(&self, now: Timestamp) -> Duration {
        self.initial_age.saturating_add(now.since(self.response))
    }

    /// What is left of the freshness lifetime; `None` once it is spent. A response is fresh while
    /// its lifetime is greater than its age (RFC 9111 section 4.2).
    #[must_use]
    pub fn left(&self, now: Timestamp) -> Option<Duration> {
        self.freshness.checked_sub(self.age(now)).filter(|left| !left.is_zero())
    }

    /// How long the freshness lifetime is over; nothing while it is not.
    #[must_use]
    pub fn over(&self, now: Timestamp) -> Duration {
        self.age(now).saturating_sub(self.freshness)
    }
}

/// The value a request had for each field that selects among variants; `None` where absent.
pub(crate) type Selecting = Box<[(HeaderName, Option<Bytes>)]>;

/// A complete response, and what its reuse is judged by.
///
/// Stores keep it as it is: nothing of it can be changed, and all of it is copied from the
/// exchange, so that it pins no larger buffer.
#[derive(Debug, Clone)]
pub struct StoredResponse {
    pub(crate) status: StatusCode,
    pub(crate) fields: Box<[(HeaderName, HeaderValue)]>,
    pub(crate) body: Bytes,
    pub(crate) lifetime: Lifetime,
    /// The freshness lifetime that the response itself states, whatever `lifetime` rests on.
    pub(crate) stated: Option<Duration>,
    pub(crate) selecting: Selecting,
    pub(crate) discriminator: Box<[u8]>,
    pub(crate) tags: Box<[TagId]>,
    pub(crate) stamp: Stamp,
    pub(crate) client_ttl: Option<Duration>,
    /// Fields as the handler sent them, of those that the cache completed for clients: what a
    /// validation starts from. Nothing where none was.
    pub(crate) original_fields: Option<Box<[(HeaderName, HeaderValue)]>>,
    pub(crate) validity_check: ValidityCheck,
    /// When this process came by it, by its monotonic clock.
    pub(crate) received: Duration,
}

/// What invalidations left of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Validity {
    Valid,
    /// Valid, and stale since then if it was not before.
    ExpiredSince(Timestamp),
    Purged,
}

impl Validity {
    /// When it became stale by invalidation.
    pub(crate) const fn expired_since(self) -> Option<Timestamp> {
        match self {
            Self::ExpiredSince(since) => Some(since),
            Self::Valid | Self::Purged => None,
        }
    }
}

impl StoredResponse {
    /// Its status code.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// Its body.
    #[must_use]
    pub const fn body(&self) -> &Bytes {
        &self.body
    }

    /// Its freshness.
    #[must_use]
    pub const fn lifetime(&self) -> &Lifetime {
        &self.lifetime
    }

    /// The tags it can be invalidated by.
    #[must_use]
    pub fn tags(&self) -> &[TagId] {
        &self.tags
    }

    /// The store's logical time when the fill that made it began.
    #[must_use]
    pub const fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// The lines of a field, in their order.
    pub(crate) fn lines<'a>(&'a self, name: &HeaderName) -> impl Iterator<Item = &'a HeaderValue> {
        self.fields.iter().filter(move |(found, _)| found == name).map(|(_, value)| value)
    }

    /// Its fields as the handler sent them: without what the cache completed for clients.
    pub(crate) fn as_handler_sent(&self) -> impl Iterator<Item = &(HeaderName, HeaderValue)> {
        let completed =
            |name: &HeaderName| self.original_fields.is_some() && ANNOTATED_FIELDS.contains(name);
        let kept = self.fields.iter().filter(move |(name, _)| !completed(name));
        kept.chain(self.original_fields.iter().flat_map(|fields| fields.iter()))
    }

    /// The bytes it takes, its bookkeeping included.
    #[must_use]
    pub fn weight(&self) -> usize {
        let fields: usize = self.fields.iter().map(|(name, value)| pair(name, value.len())).sum();
        let selecting: usize = self
            .selecting
            .iter()
            .map(|(name, value)| pair(name, value.as_ref().map_or(0, Bytes::len)))
            .sum();
        let original_fields: usize = self
            .original_fields
            .iter()
            .flat_map(|fields| fields.iter())
            .map(|(name, value)| pair(name, value.len()))
            .sum();
        let tags = size_of_val(&*self.tags);
        let parts = fields + selecting + original_fields + tags;
        size_of::<Self>() + self.body.len() + parts + self.discriminator.len()
    }

    /// How long it is of use from `now` on: fresh, or stale but fit for validation or need.
    #[must_use]
    pub fn useful_for(&self, now: Timestamp) -> Duration {
        let useful = self.lifetime.freshness.saturating_add(self.lifetime.retention);
        useful.saturating_sub(self.lifetime.age(now))
    }

    /// Whether a request that selected `self` would have selected `other`.
    pub(crate) fn same_selection(&self, other: &Self) -> bool {
        let recorded = |name: &HeaderName| {
            other.selecting.iter().find(|(found, _)| found == name).map(|(_, value)| value)
        };
        self.discriminator == other.discriminator
            && self.selecting.len() == other.selecting.len()
            && self.selecting.iter().all(|(name, value)| recorded(name) == Some(value))
    }
}

/// What one field takes: its text, two fat handles, and a share of allocations.
fn pair(name: &HeaderName, value: usize) -> usize {
    size_of::<(HeaderName, HeaderValue)>() + name.as_str().len() + value
}

/// Copies fields out of the exchange: all values into one allocation, in the given order.
pub(crate) fn copy_fields(
    fields: &[(&HeaderName, &HeaderValue)],
) -> Box<[(HeaderName, HeaderValue)]> {
    let total = fields.iter().map(|(_, value)| value.len()).sum();
    let mut blob = BytesMut::with_capacity(total);
    for (_, value) in fields {
        blob.extend_from_slice(value.as_bytes());
    }
    let mut blob = blob.freeze();
    fields
        .iter()
        .map(|&(name, value)| {
            let bytes = blob.split_to(value.len());
            let copy = HeaderValue::from_maybe_shared(bytes).unwrap_or_else(|_| value.clone());
            (copy_name(name), copy)
        })
        .collect()
}

/// A name that is no slice of a larger buffer.
fn copy_name(name: &HeaderName) -> HeaderName {
    HeaderName::from_bytes(name.as_str().as_bytes()).unwrap_or_else(|_| name.clone())
}

/// All stored responses of one resource, newest first, and the fields that select among them.
///
/// A field that one response of the resource was selected by counts for all of them: a handler
/// that forgets `Vary` on one of its ways cannot hand a German page to a French reader.
#[derive(Debug, Clone, Default)]
pub struct Variants {
    responses: Vec<Arc<StoredResponse>>,
    names: Box<[HeaderName]>,
}

impl Variants {
    /// The resource's variants after `response` joined them: what it replaces, what is no longer
    /// of use, and the oldest beyond 64 or beyond `max_weight` bytes leave.
    ///
    /// `None` if another response taught the resource to select by a field that `response` has no
    /// record of; it cannot be stored then, and the next one will know.
    #[must_use]
    pub fn add(
        existing: Option<&Self>,
        response: Arc<StoredResponse>,
        max_weight: usize,
    ) -> Option<Self> {
        let now = response.lifetime.response;
        let names: Box<[HeaderName]> =
            response.selecting.iter().map(|(name, _)| name.clone()).collect();
        let known = existing.map_or(&[][..], |variants| &variants.names);
        if known.iter().any(|name| !names.contains(name)) {
            return None;
        }
        let mut weight = response.weight();
        let mut responses = vec![response];
        for old in existing.map_or(&[][..], |variants| &variants.responses) {
            let replaced = responses.iter().any(|new| new.same_selection(old));
            let unknown = old.selecting.len() != names.len();
            if replaced || unknown || old.useful_for(now).is_zero() {
                continue;
            }
            weight = weight.saturating_add(old.weight());
            if responses.len() == MAX_VARIANTS || weight > max_weight {
                break;
            }
            responses.push(Arc::clone(old));
        }
        Some(Self { responses, names })
    }

    /// What a store found: some of a resource's responses, newest first, and the fields that select
    /// among all of them.
    #[must_use]
    pub fn new(
        names: &[HeaderName],
        responses: impl IntoIterator<Item = Arc<StoredResponse>>,
    ) -> Self {
        Self { responses: responses.into_iter().collect(), names: Box::from(names) }
    }

    /// Those of the responses that `keep` accepts; nothing if it accepts none.
    pub(crate) fn retain(&self, keep: impl Fn(&StoredResponse) -> bool) -> Option<Self> {
        let kept = self.responses.iter().filter(|response| keep(response));
        let responses: Vec<_> = kept.cloned().collect();
        (!responses.is_empty()).then(|| Self { responses, names: self.names.clone() })
    }

    /// The responses, newest first.
    #[must_use]
    pub fn responses(&self) -> &[Arc<StoredResponse>] {
        &self.responses
    }

    /// The fields that select among them.
    #[must_use]
    pub fn names(&self) -> &[HeaderName] {
        &self.names
    }

    /// The bytes they take together.
    #[must_use]
    pub fn weight(&self) -> usize {
        let responses: usize = self.responses.iter().map(|response| response.weight()).sum();
        size_of::<Self>() + responses + self.names.len() * size_of::<HeaderName>()
    }

    /// How long any of them is of use from `now` on.
    #[must_use]
    pub fn useful_for(&self, now: Timestamp) -> Duration {
        self.responses.iter().map(|response| response.useful_for(now)).max().unwrap_or_default()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use actix_web::http::header::{ACCEPT, ACCEPT_LANGUAGE};

    use super::*;

    pub(crate) const fn at(seconds: u64) -> Timestamp {
        Timestamp::new(Duration::from_secs(1_000_000 + seconds), Duration::from_secs(seconds))
    }

    pub(crate) fn stored(second: u64, selecting: &[(HeaderName, Option<&str>)]) -> StoredResponse {
        StoredResponse {
            status: StatusCode::OK,
            fields: Box::default(),
            body: Bytes::from_static(b"body"),
            lifetime: Lifetime {
                response: at(second),
                initial_age: Duration::ZERO,
                freshness: Duration::from_secs(60),
                source: LifetimeSource::Policy,
                staleness: Staleness::default(),
                retention: Duration::ZERO,
            },
            stated: None,
            selecting: selecting
                .iter()
                .map(|(name, value)| {
                    (name.clone(), value.map(|value| Bytes::copy_from_slice(value.as_bytes())))
                })
                .collect(),
            discriminator: Box::default(),
            tags: Box::default(),
            stamp: Stamp::ZERO,
            client_ttl: None,
            original_fields: None,
            validity_check: ValidityCheck::default(),
            received: at(second).monotonic(),
        }
    }

    fn add(
        to: Option<&Variants>,
        second: u64,
        by: &[(HeaderName, Option<&str>)],
    ) -> Option<Variants> {
        Variants::add(to, Arc::new(stored(second, by)), usize::MAX)
    }

    fn seconds(variants: &Variants) -> Vec<u64> {
        let second = |r: &Arc<StoredResponse>| r.lifetime.response.monotonic().as_secs();
        variants.responses().iter().map(second).collect()
    }

    #[test]
    fn a_response_is_fresh_while_its_lifetime_exceeds_its_age() {
        let lifetime = Lifetime {
            response: at(0),
            initial_age: Duration::from_secs(20),
            freshness: Duration::from_secs(60),
            source: LifetimeSource::Explicit,
            staleness: Staleness::default(),
            retention: Duration::ZERO,
        };
        for (second, age, left) in
            [(0, 20, Some(40)), (39, 59, Some(1)), (40, 60, None), (999, 1019, None)]
        {
            assert_eq!(lifetime.age(at(second)).as_secs(), age);
            assert_eq!(lifetime.left(at(second)).map(|left| left.as_secs()), left);
        }
    }

    #[test]
    fn the_newest_variant_comes_first_and_replaces_its_equal() {
        let de = [(ACCEPT, Some("de"))];
        let fr = [(ACCEPT, Some("fr"))];
        let one = add(None, 1, &de).unwrap();
        let two = add(Some(&one), 2, &fr).unwrap();
        assert_eq!(seconds(&two), [2, 1]);
        let three = add(Some(&two), 3, &de).unwrap();
        assert_eq!(seconds(&three), [3, 2]);
        assert_eq!(seconds(&add(Some(&two), 3, &[(ACCEPT, None)]).unwrap()), [3, 2, 1]);
    }

    #[test]
    fn what_is_retained_is_of_use_beyond_its_freshness() {
        let mut response = stored(0, &[]);
        response.lifetime.retention = Duration::from_secs(40);
        for (second, left) in [(0, 100), (60, 40), (99, 1), (100, 0), (500, 0)] {
            assert_eq!(response.useful_for(at(second)).as_secs(), left, "at {second}");
        }
        assert_eq!(response.lifetime.over(at(59)).as_secs(), 0);
        assert_eq!(response.lifetime.over(at(75)).as_secs(), 15);
    }

    #[test]
    fn what_is_of_no_use_leaves_when_another_joins() {
        let one = add(None, 1, &[(ACCEPT, Some("de"))]).unwrap();
        assert_eq!(seconds(&add(Some(&one), 61, &[(ACCEPT, Some("fr"))]).unwrap()), [61]);
    }

    #[test]
    fn a_field_learnt_from_one_response_holds_for_the_resource() {
        let plain = add(None, 1, &[]).unwrap();
        let learnt = add(Some(&plain), 2, &[(ACCEPT, Some("de"))]).unwrap();
        assert_eq!(seconds(&learnt), [2], "what has no record of the field leaves");
        assert!(add(Some(&learnt), 3, &[]).is_none(), "and cannot come back");
        assert!(add(Some(&learnt), 3, &[(ACCEPT_LANGUAGE, None)]).is_none());
    }

    #[test]
    fn variants_are_bounded_in_number_and_weight() {
        let mut variants = Variants::default();
        let names: Vec<String> = (0..100).map(|n| n.to_string()).collect();
        for name in &names {
            variants = add(Some(&variants), 1, &[(ACCEPT, Some(name))]).unwrap();
        }
        assert_eq!(variants.responses().len(), MAX_VARIANTS);
        let next = Arc::new(stored(1, &[(ACCEPT, Some("next"))]));
        let limit = next.weight() * 3;
        let bounded = Variants::add(Some(&variants), next, limit).unwrap();
        assert!(bounded.weight() <= limit + 200 && bounded.responses().len() >= 2);
    }

    #[test]
    fn copied_fields_keep_lines_and_order_and_pin_nothing() {
        let big = Bytes::from(vec![b'x'; 10_000]);
        let value = HeaderValue::from_maybe_shared(big.slice(0..3)).unwrap();
        let name = HeaderName::from_static("link");
        let fields = [(&name, &value), (&name, &value)];
        let copy = copy_fields(&fields);
        assert_eq!(copy.len(), 2);
        assert!(copy.iter().all(|(found, copied)| *found == name && *copied == value));
        drop((value, copy));
        assert!(big.is_unique());
    }

    #[test]
    fn only_what_stands_in_the_response_can_be_read_there() {
        for (source, stated) in [
            (LifetimeSource::Explicit, true),
            (LifetimeSource::Heuristic, true),
            (LifetimeSource::Handler, false),
            (LifetimeSource::Policy, false),
        ] {
            assert_eq!(source.is_stated(), stated, "{source:?}");
        }
    }

    fn fields(lines: &[(&HeaderName, &'static str)]) -> Box<[(HeaderName, HeaderValue)]> {
        let line = |(name, value): &(&HeaderName, &'static str)| {
            ((*name).clone(), HeaderValue::from_static(value))
        };
        lines.iter().map(line).collect()
    }

    #[test]
    fn fields_that_were_completed_are_known_as_the_handler_sent_them() {
        let other = HeaderName::from_static("x-a");
        let mut response = stored(0, &[]);
        response.fields =
            fields(&[(&CACHE_CONTROL, "max-age=5"), (&other, "1"), (&EXPIRES, "0"), (&other, "2")]);
        let sent = |response: &StoredResponse| {
            let line = |(name, value): &(HeaderName, HeaderValue)| {
                format!("{name}: {}", value.to_str().unwrap())
            };
            response.as_handler_sent().map(line).collect::<Vec<_>>()
        };
        let all = ["cache-control: max-age=5", "x-a: 1", "expires: 0", "x-a: 2"];
        assert_eq!(sent(&response), all, "nothing was completed");
        response.original_fields = Some(fields(&[(&CACHE_CONTROL, "public")]));
        assert_eq!(sent(&response), ["x-a: 1", "x-a: 2", "cache-control: public"]);
        let lines: Vec<_> = response.lines(&other).collect();
        assert_eq!(lines, ["1", "2"], "lines keep their order");
        assert_eq!(response.lines(&DATE).count(), 0);
    }

    #[test]
    fn all_of_a_response_weighs() {
        let plain = stored(0, &[]);
        let line = || fields(&[(&DATE, "123")]);
        let pair = size_of::<(HeaderName, HeaderValue)>() + "date".len() + 3;
        assert_eq!(plain.weight(), size_of::<StoredResponse>() + 4);
        for (case, response, more) in [
            ("body", StoredResponse { body: Bytes::from_static(b"123456"), ..plain.clone() }, 2),
            ("field", StoredResponse { fields: line(), ..plain.clone() }, pair),
            ("completed", StoredResponse { original_fields: Some(line()), ..plain.clone() }, pair),
            ("split", StoredResponse { discriminator: Box::from(&b"xyz"[..]), ..plain.clone() }, 3),
            ("selecting", stored(0, &[(DATE, Some("123"))]), pair),
            ("absent", stored(0, &[(DATE, None)]), pair - 3),
        ] {
            assert_eq!(response.weight(), plain.weight() + more, "{case}");
        }
        let variants = add(None, 1, &[(ACCEPT, None)]).unwrap();
        let response: usize = variants.responses().iter().map(|response| response.weight()).sum();
        assert_eq!(variants.weight(), size_of::<Variants>() + response + size_of::<HeaderName>());
    }

    #[test]
    fn variants_fill_what_they_may_weigh_to_the_byte() {
        let one = add(None, 1, &[(ACCEPT, Some("a"))]).unwrap();
        let next = || Arc::new(stored(2, &[(ACCEPT, Some("b"))]));
        let both = next().weight() * 2;
        assert_eq!(seconds(&Variants::add(Some(&one), next(), both).unwrap()), [2, 1]);
        assert_eq!(seconds(&Variants::add(Some(&one), next(), both - 1).unwrap()), [2]);
        assert_eq!(seconds(&Variants::add(None, next(), 0).unwrap()), [2], "the newest stays");
    }

    #[test]
    fn readers_that_differ_in_what_splits_have_variants_of_their_own() {
        let one = add(None, 1, &[]).unwrap();
        let mut other = stored(2, &[]);
        other.discriminator = Box::from(&b"x"[..]);
        let two = Variants::add(Some(&one), Arc::new(other), usize::MAX).unwrap();
        assert_eq!(seconds(&two), [2, 1]);
        assert_eq!(seconds(&add(Some(&two), 3, &[]).unwrap()), [3, 2]);
    }

    #[test]
    fn variants_are_of_use_as_long_as_one_of_them_is() {
        assert_eq!(Variants::default().useful_for(at(0)), Duration::ZERO);
        let one = add(None, 0, &[(ACCEPT, None)]).unwrap();
        let two = add(Some(&one), 20, &[(ACCEPT, Some("a"))]).unwrap();
        assert_eq!(two.names(), [ACCEPT]);
        for (second, left) in [(20, 60), (70, 10), (80, 0)] {
            assert_eq!(two.useful_for(at(second)).as_secs(), left, "at {second}");
        }
    }
}
