//! The stored variants of one resource: the responses of one cache key.
//!
//! The selecting fields of a resource are the request fields whose values choose the variant, for
//! example those in `Vary`.

use std::{sync::Arc, time::Duration};

use actix_web::http::header::HeaderName;
use bytes::Bytes;
use smallvec::SmallVec;

use crate::{
    clock::Timestamp,
    entry::{
        coded_copy::CodedCopy, content_coding::ContentCoding, discriminator::is_chosen_by_client,
        response::StoredResponse, url_index::Registration,
    },
};

/// The largest number of stored variants of one resource.
pub(crate) const MAX_VARIANTS: usize = 64;

/// The time after which earlier uses of a variant count half as much.
const HALVING_TIME: Duration = Duration::from_secs(60);

/// The responses of one resource. Most resources have one.
type Responses = SmallVec<[Arc<StoredResponse>; 1]>;

/// The stored responses of one resource, newest first, and the selecting fields of the resource.
///
/// If one response of a resource names a request field in `Vary`, the cache compares this field for
/// all responses of the resource. So even if a handler forgets `Vary` on some of its responses, the
/// cache does not serve a German page to a client that asks for French.
#[derive(Debug, Clone, Default)]
pub struct Variants {
    responses: Responses,
    selecting_fields: Box<[HeaderName]>,
    /// The time at which the numbers of uses were last halved.
    halved: Option<Timestamp>,
    /// The registration of the key in the index of the store, if the key needs one. It lasts for as long
    /// as the store holds the variants.
    registration: Option<Registration>,
}

impl Variants {
    /// Adds a response to the existing variants of its resource, and drops old variants.
    ///
    /// A variant is dropped if the new response replaces it, if the variant lacks a selecting field
    /// of the new response, or if its freshness lifetime and retention have ended. The new response
    /// is always kept.
    ///
    /// If more than 64 variants remain, or more than `max_weight` bytes
    /// ([`StoredResponse::weight`]), further variants are dropped in this order, so that no client
    /// displaces popular responses by unusual requests: first the variants for requests with
    /// forwarded fields that any client can send, then the variants with the fewest recent uses,
    /// then the oldest.
    ///
    /// Returns `None` if the existing variants have a selecting field that `response` lacks. A
    /// response that does not record each selecting field must not be stored, because the cache
    /// could serve the response to the wrong client. The response to the next request records the
    /// value of this field and can be stored.
    #[must_use]
    pub fn add(
        existing: Option<&Self>,
        response: Arc<StoredResponse>,
        max_weight: usize,
    ) -> Option<Self> {
        let now = response.lifetime.response_time;
        let response = take_over(existing, response, max_weight);
        let mut added = Self::merge(existing, response)?;
        added.halved = Some(age_uses(existing, now));
        drop_least_useful(&mut added.responses, max_weight);
        Some(added)
    }

    /// Adds a response as [`add`](Self::add) does, but without a limit of the weight, and without a
    /// change of the numbers of uses. The result is for one request, and is not stored.
    pub(crate) fn merge(existing: Option<&Self>, response: Arc<StoredResponse>) -> Option<Self> {
        let now = response.lifetime.response_time;
        let selecting_fields: Box<[HeaderName]> =
            response.selecting.iter().map(|(name, _)| name.clone()).collect();
        let known = existing.map_or(&[][..], |variants| &variants.selecting_fields);
        if known.iter().any(|name| !selecting_fields.contains(name)) {
            return None;
        }
        let mut responses = Responses::from([response]);
        for old in existing.map_or(&[][..], Self::responses) {
            let is_replaced = responses.iter().any(|new| new.same_selection(old));
            let lacks_a_field = old.selecting.len() != selecting_fields.len();
            if !is_replaced && !lacks_a_field && !old.useful_for(now).is_zero() {
                responses.push(Arc::clone(old));
            }
        }
        let halved = existing.and_then(|existing| existing.halved);
        Some(Self { responses, selecting_fields, halved, registration: None })
    }

    /// Makes variants from the result of a store. `responses` are some or all responses of a
    /// resource, newest first. `selecting_fields` are the fields that select among all responses of
    /// the resource.
    #[must_use]
    pub fn new(
        selecting_fields: &[HeaderName],
        responses: impl IntoIterator<Item = Arc<StoredResponse>>,
    ) -> Self {
        Self {
            responses: responses.into_iter().collect(),
            selecting_fields: Box::from(selecting_fields),
            halved: None,
            registration: None,
        }
    }

    /// Sets the registration of the key, if it needs one.
    #[must_use]
    pub(crate) fn registered(self, registration: Option<Registration>) -> Self {
        Self { registration, ..self }
    }

    /// Returns the variants that `keep` accepts, or `None` if `keep` accepts none.
    pub(crate) fn retain(&self, keep: impl Fn(&StoredResponse) -> bool) -> Option<Self> {
        let kept = self.responses.iter().filter(|response| keep(response));
        let responses: Responses = kept.cloned().collect();
        (!responses.is_empty()).then(|| Self {
            responses,
            selecting_fields: self.selecting_fields.clone(),
            halved: self.halved,
            registration: self.registration.clone(),
        })
    }

    /// Returns a copy that shares neither its body nor its field values with these variants. It has no
    /// registration, so it must not be stored. `None` if there are several variants.
    pub(crate) fn copied(&self) -> Option<Self> {
        let [response] = &*self.responses else { return None };
        Some(Self {
            responses: Responses::from([Arc::new(response.copied())]),
            selecting_fields: self.selecting_fields.clone(),
            halved: self.halved,
            registration: None,
        })
    }

    /// Adds a coded copy to the variant of `response`. If the copy would make the variants heavier
    /// than `max_weight` bytes, it is added without its bytes, so that the cache does not make it
    /// again.
    ///
    /// Returns `None` if the variant has another body than the one from which the copy was made, or
    /// is not stored any more.
    #[must_use]
    pub fn with_coded_copy(
        &self,
        response: &StoredResponse,
        copy: &CodedCopy,
        max_weight: usize,
    ) -> Option<Self> {
        let is_of_copy = |stored: &&Arc<StoredResponse>| {
            stored.same_selection(response) && copy.belongs_to(stored)
        };
        let stored = self.responses.iter().find(is_of_copy)?;
        let fits = self.weight().saturating_add(copy.bytes().map_or(0, Bytes::len)) <= max_weight;
        let mut changed = StoredResponse::clone(stored);
        changed.add_coded_copy(if fits { copy.clone() } else { copy.without_bytes() });
        let changed = Arc::new(changed);
        let replace = |old: &Arc<StoredResponse>| {
            Arc::clone(if Arc::ptr_eq(old, stored) { &changed } else { old })
        };
        Some(Self { responses: self.responses.iter().map(replace).collect(), ..self.clone() })
    }

    /// Returns the coded copy of the variant of `response`, if the variant has the same body. The copy
    /// may be one without bytes.
    #[must_use]
    pub fn find_coded_copy(
        &self,
        response: &StoredResponse,
        coding: ContentCoding,
    ) -> Option<&CodedCopy> {
        let content = response.coded.as_ref()?.content();
        let mut variants = self.responses.iter().filter(|stored| stored.same_selection(response));
        variants.find_map(|stored| {
            let mut copies = stored.coded.as_ref()?.iter();
            copies.find(|copy| copy.coding() == coding && copy.content() == content)
        })
    }

    /// Returns the responses, newest first.
    #[must_use]
    pub fn responses(&self) -> &[Arc<StoredResponse>] {
        &self.responses
    }

    /// Returns the request fields that select among the responses.
    #[must_use]
    pub fn selecting_fields(&self) -> &[HeaderName] {
        &self.selecting_fields
    }

    /// Returns the size of all responses in memory, in bytes.
    #[must_use]
    pub fn weight(&self) -> usize {
        let responses: usize = self.responses.iter().map(|response| response.weight()).sum();
        size_of::<Self>() + responses + self.selecting_fields.len() * size_of::<HeaderName>()
    }

    /// Returns the time from `now` until the freshness lifetimes and retentions of all responses
    /// have ended: the longest [`StoredResponse::useful_for`].
    #[must_use]
    pub fn useful_for(&self, now: Timestamp) -> Duration {
        self.responses.iter().map(|response| response.useful_for(now)).max().unwrap_or_default()
    }
}

/// Returns the new response with the number of uses, and the coded copies, of the response that it
/// replaces. The copies are left out if they would make the response heavier than `max_weight`.
fn take_over(
    existing: Option<&Variants>,
    mut response: Arc<StoredResponse>,
    max_weight: usize,
) -> Arc<StoredResponse> {
    let existing = existing.iter().flat_map(|existing| &existing.responses);
    for old in existing {
        if !old.same_selection(&response) {
            continue;
        }
        let with_copies = response.with_copies_of(old);
        if let Some(more) = with_copies.filter(|more| more.weight() <= max_weight) {
            response = Arc::new(more);
        }
        response.uses.take_over(&old.uses);
    }
    response
}

/// Halves the uses of the existing variants if it is time to. Returns the time of the last halving.
fn age_uses(existing: Option<&Variants>, now: Timestamp) -> Timestamp {
    let last = existing.and_then(|variants| variants.halved);
    let is_recent =
        |last: &Timestamp| now.monotonic().saturating_sub(last.monotonic()) < HALVING_TIME;
    if let Some(last) = last.filter(is_recent) {
        return last;
    }
    for response in existing.map_or(&[][..], Variants::responses) {
        response.uses.halve();
    }
    now
}

/// Drops responses until their number and their weight are within the limits. The first response
/// is the new one, and is kept.
fn drop_least_useful(responses: &mut Responses, max_weight: usize) {
    // Most often there is only the new response, whose weight need not be computed.
    if responses.len() == 1 {
        return;
    }
    let mut weight: usize = responses.iter().map(|response| response.weight()).sum();
    while responses.len() > MAX_VARIANTS || weight > max_weight {
        // Among equals, `min_by_key` finds the first one, so the search begins at the oldest.
        let candidates = responses.iter().enumerate().skip(1).rev();
        let dropped = candidates.min_by_key(|(_, response)| {
            (!is_chosen_by_client(&response.discriminator), response.uses.get())
        });
        let Some((index, _)) = dropped else { return };
        weight = weight.saturating_sub(responses.remove(index).weight());
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{ACCEPT, ACCEPT_LANGUAGE};

    use super::*;
    use crate::entry::{
        discriminator::{Discriminator, Property, append},
        fixtures::{at, stored},
    };

    fn add(
        existing: Option<&Variants>,
        second: u64,
        selecting: &[(HeaderName, Option<&str>)],
    ) -> Option<Variants> {
        Variants::add(existing, Arc::new(stored(second, selecting)), usize::MAX)
    }

    /// Returns the seconds at which the responses of `variants` were received.
    fn seconds(variants: &Variants) -> Vec<u64> {
        let second = |r: &Arc<StoredResponse>| r.lifetime.response_time.monotonic().as_secs();
        variants.responses().iter().map(second).collect()
    }

    #[test]
    fn newest_variant_comes_first_and_replaces_its_equal() {
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
    fn useless_variant_is_dropped_when_another_is_added() {
        let one = add(None, 1, &[(ACCEPT, Some("de"))]).unwrap();
        assert_eq!(seconds(&add(Some(&one), 61, &[(ACCEPT, Some("fr"))]).unwrap()), [61]);
    }

    #[test]
    fn field_that_selects_one_response_selects_among_all() {
        let plain = add(None, 1, &[]).unwrap();
        let selected = add(Some(&plain), 2, &[(ACCEPT, Some("de"))]).unwrap();
        assert_eq!(seconds(&selected), [2], "a response without the field is dropped");
        assert!(add(Some(&selected), 3, &[]).is_none(), "and cannot be added again");
        assert!(add(Some(&selected), 3, &[(ACCEPT_LANGUAGE, None)]).is_none());
    }

    #[test]
    fn variants_are_bounded_in_number_and_weight() {
        let mut variants = Variants::default();
        let values: Vec<String> = (0..100).map(|n| n.to_string()).collect();
        for value in &values {
            variants = add(Some(&variants), 1, &[(ACCEPT, Some(value))]).unwrap();
        }
        assert_eq!(variants.responses().len(), MAX_VARIANTS);
        let next = Arc::new(stored(1, &[(ACCEPT, Some("next"))]));
        let limit = next.weight() * 3;
        let bounded = Variants::add(Some(&variants), next, limit).unwrap();
        assert!(bounded.weight() <= limit + 200 && bounded.responses().len() >= 2);
    }

    #[test]
    fn used_variants_stay_and_those_of_forged_fields_are_dropped_first() {
        let forged = |n: usize| {
            let mut discriminator = Discriminator::new();
            append(&mut discriminator, Property::ForwardedHost, n.to_string().as_bytes());
            Arc::new(StoredResponse { discriminator: Box::from(&*discriminator), ..stored(1, &[]) })
        };
        let page = Arc::new(stored(1, &[]));
        let mut variants = Variants::add(None, Arc::clone(&page), usize::MAX).unwrap();
        for n in 0..1000 {
            variants = Variants::add(Some(&variants), forged(n), usize::MAX).unwrap();
            variants.responses()[0].uses.add();
        }
        assert_eq!(variants.responses().len(), MAX_VARIANTS);
        assert!(variants.responses().iter().any(|kept| kept.same_selection(&page)), "unused page");

        let values: Vec<String> = (0..1000).map(|n| n.to_string()).collect();
        let mut variants = add(None, 1, &[(ACCEPT, Some("popular"))]).unwrap();
        let popular = Arc::clone(&variants.responses()[0]);
        popular.uses.add();
        for value in &values {
            variants = add(Some(&variants), 1, &[(ACCEPT, Some(value))]).unwrap();
        }
        assert!(variants.responses().iter().any(|kept| Arc::ptr_eq(kept, &popular)));

        // A response that replaces the popular one is popular at once.
        let next = add(Some(&variants), 2, &[(ACCEPT, Some("popular"))]).unwrap();
        assert_eq!(next.responses()[0].uses.get(), 1);
        let limit = popular.weight() * 2;
        let tiny = Variants::add(Some(&next), forged(1), limit);
        assert!(tiny.is_none(), "the forged response lacks a selecting field");
        let last = Arc::new(stored(2, &[(ACCEPT, Some("last"))]));
        let bounded = Variants::add(Some(&next), last, limit + 2 * "popular".len()).unwrap();
        assert!(bounded.responses()[1].same_selection(&popular), "the heavier one stays");
    }

    #[test]
    fn earlier_uses_count_less_with_time() {
        let mut first = stored(0, &[(ACCEPT, Some("a"))]);
        first.lifetime.freshness = Duration::from_secs(1000);
        let mut variants = Variants::add(None, Arc::new(first), usize::MAX).unwrap();
        let first = Arc::clone(&variants.responses()[0]);
        for _ in 0..8 {
            first.uses.add();
        }
        for (second, want) in [(1, 8), (59, 8), (60, 4), (100, 4), (121, 2), (1_000, 1)] {
            variants = add(Some(&variants), second, &[(ACCEPT, Some("b"))]).unwrap();
            assert_eq!(first.uses.get(), want, "at {second}");
        }
    }

    #[test]
    fn variants_use_their_weight_limit_to_the_byte() {
        let one = add(None, 1, &[(ACCEPT, Some("a"))]).unwrap();
        let next = || Arc::new(stored(2, &[(ACCEPT, Some("b"))]));
        let both = next().weight() * 2;
        assert_eq!(seconds(&Variants::add(Some(&one), next(), both).unwrap()), [2, 1]);
        assert_eq!(seconds(&Variants::add(Some(&one), next(), both - 1).unwrap()), [2]);
        assert_eq!(seconds(&Variants::add(None, next(), 0).unwrap()), [2], "the newest is kept");
    }

    #[test]
    fn responses_with_different_discriminators_are_different_variants() {
        let one = add(None, 1, &[]).unwrap();
        let mut other = stored(2, &[]);
        other.discriminator = Box::from(&b"x"[..]);
        let two = Variants::add(Some(&one), Arc::new(other), usize::MAX).unwrap();
        assert_eq!(seconds(&two), [2, 1]);
        assert_eq!(seconds(&add(Some(&two), 3, &[]).unwrap()), [3, 2]);
    }

    #[test]
    fn variants_are_useful_as_long_as_one_of_them_is() {
        assert_eq!(Variants::default().useful_for(at(0)), Duration::ZERO);
        let one = add(None, 0, &[(ACCEPT, None)]).unwrap();
        let two = add(Some(&one), 20, &[(ACCEPT, Some("a"))]).unwrap();
        assert_eq!(two.selecting_fields(), [ACCEPT]);
        for (second, left) in [(20, 60), (70, 10), (80, 0)] {
            assert_eq!(two.useful_for(at(second)).as_secs(), left, "at {second}");
        }
    }

    #[test]
    fn weight_counts_responses_and_selecting_fields() {
        let variants = add(None, 1, &[(ACCEPT, None)]).unwrap();
        let response: usize = variants.responses().iter().map(|response| response.weight()).sum();
        assert_eq!(variants.weight(), size_of::<Variants>() + response + size_of::<HeaderName>());
    }
}
