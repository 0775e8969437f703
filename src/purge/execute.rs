//! Carries out the purges and expiries that the application requests, and the purges that follow
//! from unsafe requests such as `PUT`.
//!
//! A fill is one call of a handler whose response may be stored.

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};

use super::{
    effect::Effect,
    error::PurgeError,
    purged::Purged,
    report::report_by_handle,
    target::{PurgeTarget, Scope},
    target_tags::{
        any_host_tags, caches, group_tags, keys_of_several_queries, locate, path_tags, prefix_tags,
        url_keys,
    },
    variant::invalidate_variant,
};
use crate::{
    entry::{invalidation::Invalidation, key::CacheKey, tag::TagId, url::UrlTarget},
    shared::Shared,
    store::interface::StoreError,
};

/// Purges or expires the responses of a target, in all caches that share the store and the
/// namespace, and tells the application of it. `own_host` is the host of the current request, for
/// targets that name no host.
pub(super) async fn invalidate(
    shared: &Shared,
    own_host: Option<&str>,
    target: &PurgeTarget,
    effect: Effect,
) -> Result<Purged, PurgeError> {
    let result = invalidate_target(shared, own_host, target, effect).await;
    report_by_handle(shared, own_host, target, effect, &result);
    result
}

async fn invalidate_target(
    shared: &Shared,
    own_host: Option<&str>,
    target: &PurgeTarget,
    effect: Effect,
) -> Result<Purged, PurgeError> {
    if target.fields.is_some() && !matches!(target.scope, Scope::Url(_)) {
        return Err(PurgeError::VariantWithoutUrl);
    }
    let (kind, tags) = match &target.scope {
        Scope::All => {
            record(shared, &effect.on_all()).await?;
            log::debug!("{} all", effect.verb());
            return Ok(Purged::RECORDED);
        }
        Scope::Url(url) => match locate(own_host, target, url)? {
            (url, Some(_)) => {
                let fields = target.fields.as_deref().map(parse_fields).transpose()?;
                return Ok(invalidate_url(shared, &url, fields.as_ref(), effect).await?);
            }
            (url, None) => ("url on any host", any_host_tags(shared, &url)),
        },
        Scope::Path(path) => ("path", path_tags(shared, own_host, target, path)?),
        Scope::Prefix(prefix) => ("prefix", prefix_tags(shared, own_host, target, prefix)?),
        Scope::Tags(tags) => {
            let namespace = &*shared.settings.namespace;
            ("tag", tags.iter().map(|tag| TagId::tag(namespace, tag)).collect())
        }
        Scope::User(id) => ("user", vec![TagId::user(&shared.settings.namespace, id)]),
        Scope::Group(group) => ("group", group_tags(shared, own_host, target, group)?),
    };
    invalidate_tags(shared, tags, effect).await?;
    log::debug!("{} {kind}", effect.verb());
    Ok(Purged::RECORDED)
}

/// Purges all responses that have at least one of these tags.
pub(crate) async fn purge_tags(shared: &Shared, tags: Vec<TagId>) -> Result<(), StoreError> {
    invalidate_tags(shared, tags, Effect::Purge).await
}

async fn invalidate_tags(
    shared: &Shared,
    mut tags: Vec<TagId>,
    effect: Effect,
) -> Result<(), StoreError> {
    tags.sort_unstable();
    tags.dedup();
    if tags.is_empty() {
        return Ok(());
    }
    record(shared, &effect.on_tags(tags)).await
}

async fn record(shared: &Shared, invalidation: &Invalidation) -> Result<(), StoreError> {
    shared.within_store_timeout(shared.store.invalidate(invalidation)).await
}

fn parse_fields(fields: &[(String, String)]) -> Result<HeaderMap, PurgeError> {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        let invalid = || PurgeError::Field(name.clone());
        let field = HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid())?;
        map.append(field, HeaderValue::from_str(value).map_err(|_| invalid())?);
    }
    Ok(map)
}

/// Purges all responses for a URL, in all caches that share the store and the namespace. The fills
/// of the key `kept` stay valid, because the response to the current unsafe request is stored under
/// this key.
pub(crate) async fn purge_url(
    shared: &Shared,
    url: &UrlTarget,
    kept: Option<&CacheKey>,
) -> Result<Purged, StoreError> {
    remove_urls(shared, &url_keys(shared, url), kept).await
}

/// Purges all responses for the URLs of these keys. See [`purge_url`].
async fn remove_urls(
    shared: &Shared,
    urls: &[CacheKey],
    kept: Option<&CacheKey>,
) -> Result<Purged, StoreError> {
    let store = &*shared.store;
    // Invalidate the fills before the removal, so that a fill in progress cannot store its response
    // after the purge.
    for url in urls {
        store.coordinator().invalidate_fills_of_url(url.url(), kept);
    }
    let mut responses = 0;
    let mut result = Ok(());
    for url in urls {
        // If the removal of one URL fails, the other URLs are still removed.
        match shared.within_store_timeout(store.remove_url(url.url())).await {
            Ok(removed) => responses += removed,
            Err(error) => result = worse(result, Err(error)),
        }
    }
    let purged = Purged::counted(responses);
    log::debug!("purge url: {purged}");
    result.map(|()| purged)
}

/// Returns the worse of two results: an invalidation that is lost is worse than one that is queued.
fn worse(one: Result<(), StoreError>, other: Result<(), StoreError>) -> Result<(), StoreError> {
    match (one, other) {
        (Err(one), Err(other)) => Err(if one.is_queued() { other } else { one }),
        (one, other) => one.and(other),
    }
}

async fn invalidate_url(
    shared: &Shared,
    url: &UrlTarget,
    fields: Option<&HeaderMap>,
    effect: Effect,
) -> Result<Purged, StoreError> {
    let Some(fields) = fields else {
        if effect == Effect::Purge {
            return purge_url(shared, url, None).await;
        }
        let keys = url_keys(shared, url);
        let tags = keys.iter().map(|key| TagId::url(key.url())).collect();
        invalidate_tags(shared, tags, effect).await?;
        return Ok(Purged::RECORDED);
    };
    let mut tags = Vec::new();
    let mut counted = Some(0);
    let mut keys = Vec::new();
    for cache in caches(shared) {
        for url in cache.keys_for_url(url) {
            let Some(key) = cache.key_for_fields(&url, fields) else {
                tags.push(TagId::url(url.key.url()));
                counted = None;
                continue;
            };
            // Policies with equal fingerprints have equal keys.
            if keys.contains(&key) {
                continue;
            }
            keys.push(key.clone());
            let variant =
                invalidate_variant(shared, &*cache, url.rule, &key, fields, effect).await?;
            counted = counted.zip(variant.responses).map(|(sum, responses)| sum + responses);
            tags.extend(variant.tag);
        }
    }
    // No process knows all of the fields by which responses answer several queries, so all variants
    // of these responses are purged or expired.
    let several = keys_of_several_queries(shared, url);
    if effect == Effect::Purge {
        let recorded = invalidate_tags(shared, tags, effect).await;
        let removed = remove_urls(shared, &several, None).await;
        let responses = removed.as_ref().ok().and_then(|removed| removed.responses);
        counted = counted.zip(responses).map(|(sum, responses)| sum + responses);
        worse(recorded, removed.map(drop))?;
    } else {
        tags.extend(several.iter().map(|key| TagId::url(key.url())));
        invalidate_tags(shared, tags, effect).await?;
    }
    let purged = counted.map_or(Purged::RECORDED, Purged::counted);
    log::debug!("{} url: {purged}", effect.verb());
    Ok(purged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_invalidation_is_worse_than_a_queued_one() {
        let lost = || Err(StoreError::new("lost"));
        let queued = || Err(StoreError::queued("queued"));
        for (one, other, want) in [
            (Ok(()), Ok(()), None),
            (Ok(()), queued(), Some(true)),
            (lost(), Ok(()), Some(false)),
            (queued(), queued(), Some(true)),
            (queued(), lost(), Some(false)),
            (lost(), queued(), Some(false)),
        ] {
            let got = worse(one, other).err().map(|error| error.is_queued());
            assert_eq!(got, want);
        }
    }
}
