//! Invalidates one variant of a cache key.
//!
//! A fill is one call of a handler whose response may be stored. The selecting fields of a key are
//! the request fields whose values choose the variant, for example those in `Vary`.

use std::sync::Arc;

use actix_web::http::header::HeaderMap;

use super::effect::Effect;
use crate::{
    entry::{
        key::CacheKey,
        selector::Selector,
        tag::TagId,
        url_keys::{AppliedRule, UrlKeys},
    },
    shared::{ComparedFields, Shared},
    store::interface::StoreError,
};

/// The invalidation of a variant, which the caller still has to record in the store.
pub(super) struct VariantInvalidation {
    /// The tag of the variant. If the variant is not known yet, because a fill of the key is in
    /// progress, the tag of the whole key. `None` if there is nothing to record, because all
    /// responses of the key were removed.
    pub(super) tag: Option<TagId>,
    /// The number of stored responses of the variant. `None` if they were not looked up, because a
    /// fill of the key is in progress.
    pub(super) responses: Option<usize>,
}

/// Finds the tag of the variant that a request with these header fields selects, and counts the
/// stored responses of this variant. A purge also invalidates the fills of the key.
pub(super) async fn invalidate_variant(
    shared: &Shared,
    cache: &dyn UrlKeys,
    rule: AppliedRule,
    key: &CacheKey,
    fields: &HeaderMap,
    effect: Effect,
) -> Result<VariantInvalidation, StoreError> {
    let coordinator = shared.store.coordinator();
    let whole_key = VariantInvalidation { tag: Some(TagId::key(key)), responses: None };
    // Handle fills before the lookup, because a fill may be for this variant. The variant of a fill
    // is known only when its response is stored.
    match effect {
        Effect::Purge => coordinator.invalidate_fills(key),
        Effect::Expire { .. } if coordinator.is_filling(key) => return Ok(whole_key),
        Effect::Expire { .. } => {}
    }
    let compared = ComparedFields { fields, cache, rule, offered: &[] };
    let selector = Selector::new(&compared, &[], shared.now());
    let found = shared.within_store_timeout(shared.store.lookup(key, &selector)).await?;
    let Some(found) = found.variants else {
        // The store has no response for the key, so the selecting fields are unknown. Another
        // process may be about to store a response, so the whole key is purged or expired.
        if effect == Effect::Purge {
            shared.within_store_timeout(shared.store.remove(key)).await?;
            return Ok(VariantInvalidation { tag: None, responses: Some(0) });
        }
        return Ok(VariantInvalidation { responses: Some(0), ..whole_key });
    };
    // Ignore the discriminator, which contains the forwarded host and scheme: the invalidation
    // applies to the responses for all proxies.
    let is_selected =
        |stored: &&Arc<_>| coordinator.is_valid(key, stored) && selector.matches_fields(stored);
    let responses = found.responses().iter().filter(is_selected).count();
    let selecting =
        found.selecting_fields().iter().map(|name| (name.clone(), cache.value(rule, fields, name)));
    // The store may have more responses than it has found: the memory of a process may have copies
    // with former selecting fields. The invalidation log applies the tag to these copies too.
    let tag = TagId::variant(key, selecting);
    Ok(VariantInvalidation { tag: Some(tag), responses: Some(responses) })
}
