//! Invalidating one variant of a cache key.

use std::sync::Arc;

use actix_web::http::header::HeaderMap;

use super::effect::Effect;
use crate::{
    entry::{key::CacheKey, selector::Selector, tag::TagId, url_keys::UrlKeys},
    shared::{ComparedFields, Shared},
    store::interface::StoreError,
};

/// The invalidation of a variant that remains to be recorded.
pub(super) struct VariantInvalidation {
    /// The tag that reaches the variant; `None` if there is nothing to record, as the key was
    /// removed.
    pub(super) tag: Option<TagId>,
    /// The number of its responses that are stored now; `None` if the tag reaches the whole key.
    pub(super) responses: Option<usize>,
}

/// Finds the tag of the variant that a request with these fields selects. A purge also ends the
/// fills of the key.
pub(super) async fn invalidate_variant(
    shared: &Shared,
    cache: &dyn UrlKeys,
    key: &CacheKey,
    fields: &HeaderMap,
    effect: Effect,
) -> Result<VariantInvalidation, StoreError> {
    let coordinator = shared.store.coordinator();
    let whole_key = VariantInvalidation { tag: Some(TagId::key(key)), responses: None };
    // Before the lookup: the variant that a fill makes is known only when the fill is stored.
    match effect {
        Effect::Purge => coordinator.invalidate_fills(key),
        Effect::Expire { .. } if coordinator.is_filling(key) => return Ok(whole_key),
        Effect::Expire { .. } => {}
    }
    let compared = ComparedFields { fields, cache };
    let selector = Selector::new(&compared, &[], shared.now());
    let found = shared.within_store_timeout(shared.store.lookup(key, &selector)).await?;
    let Some(found) = found.variants else {
        // No response is stored here, so the selecting fields of responses in other processes are
        // unknown.
        if effect == Effect::Purge {
            shared.within_store_timeout(shared.store.remove(key)).await?;
            return Ok(VariantInvalidation { tag: None, responses: Some(0) });
        }
        return Ok(VariantInvalidation { responses: Some(0), ..whole_key });
    };
    // The discriminator does not count: a variant is purged behind every proxy.
    let is_selected =
        |stored: &&Arc<_>| coordinator.is_valid(key, stored) && selector.matches_fields(stored);
    let responses = found.responses().iter().filter(is_selected).count();
    let selecting =
        found.selecting_fields().iter().map(|name| (name.clone(), cache.value(fields, name)));
    let tag = TagId::variant(key, selecting);
    Ok(VariantInvalidation { tag: Some(tag), responses: Some(responses) })
}
