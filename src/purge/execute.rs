//! Carrying out purges and expiries, by hand and by unsafe requests.

use std::sync::Arc;

use actix_web::http::{
    Uri,
    header::{HeaderMap, HeaderName, HeaderValue},
    uri::Authority,
};

use super::{
    effect::Effect,
    error::PurgeError,
    purged::Purged,
    target::{Host, PurgeTarget, Scope},
    variant::invalidate_variant,
};
use crate::{
    entry::{
        invalidation::Invalidation,
        key::CacheKey,
        tag::TagId,
        url::{UrlTarget, default_port, normalize_host, normalized_hosts},
        url_keys::UrlKeys,
    },
    shared::Shared,
    store::interface::StoreError,
};

/// Invalidates a target in all caches that share store and namespace. `own_host` is the host of the
/// current request.
pub(super) async fn invalidate(
    shared: &Shared,
    own_host: Option<&str>,
    target: &PurgeTarget,
    effect: Effect,
) -> Result<Purged, PurgeError> {
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
        Scope::Prefix(prefix) => ("prefix", prefix_tags(shared, own_host, target, prefix)?),
        Scope::Tags(tags) => {
            let namespace = &*shared.settings.namespace;
            ("tag", tags.iter().map(|tag| TagId::tag(namespace, tag)).collect())
        }
        Scope::Group(group) => ("group", group_tags(shared, own_host, target, group)?),
    };
    invalidate_tags(shared, tags, effect).await?;
    log::debug!("{} {kind}", effect.verb());
    Ok(Purged::RECORDED)
}

/// The tags of a path and its query on every host.
fn any_host_tags(shared: &Shared, url: &UrlTarget) -> Vec<TagId> {
    let keys = caches(shared).flat_map(|cache| cache.keys_for_url(url)).collect::<Vec<_>>();
    keys.iter().filter_map(CacheKey::url_parts).map(|url| TagId::path(&url)).collect()
}

/// The tags of a path and all paths below it.
fn prefix_tags(
    shared: &Shared,
    own_host: Option<&str>,
    target: &PurgeTarget,
    prefix: &str,
) -> Result<Vec<TagId>, PurgeError> {
    let (url, host) = locate(own_host, target, prefix)?;
    if url.query.is_some() {
        return Err(PurgeError::Url(prefix.to_owned()));
    }
    let tag = |host: Option<&str>| TagId::prefix(&shared.settings.namespace, host, &url.path);
    Ok(match host {
        Some(host) => normalized_hosts(&host).iter().map(|host| tag(Some(host))).collect(),
        None => vec![tag(None)],
    })
}

/// The tags of a group under either scheme.
fn group_tags(
    shared: &Shared,
    own_host: Option<&str>,
    target: &PurgeTarget,
    group: &str,
) -> Result<Vec<TagId>, PurgeError> {
    let host = match &target.host {
        Host::Own => own_host,
        Host::Named(host) => Some(host.as_str()),
        Host::Any => None,
    };
    let host = host.ok_or(PurgeError::MissingHost)?;
    Ok(["http", "https"].map(|scheme| group_tag(shared, scheme, host, group)).to_vec())
}

/// The tag of a group of one origin.
pub(crate) fn group_tag(shared: &Shared, scheme: &str, host: &str, group: &str) -> TagId {
    let host = normalize_host(scheme, host).to_ascii_lowercase();
    let namespace = shared.settings.namespace.as_bytes();
    TagId::group(namespace, scheme.as_bytes(), host.as_bytes(), group)
}

/// Purges all responses with one of these tags.
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

/// The URL that a target means, and its host; without a host the path on every host.
fn locate(
    own_host: Option<&str>,
    target: &PurgeTarget,
    url: &str,
) -> Result<(UrlTarget, Option<String>), PurgeError> {
    let invalid = || PurgeError::Url(url.to_owned());
    let uri: Uri = url.parse().map_err(|_| invalid())?;
    let named = match (uri.scheme_str(), uri.authority()) {
        (Some(scheme @ ("http" | "https")), Some(authority)) => Some(host_of(scheme, authority)),
        // A host without a scheme would be taken for a path, and nothing would be purged.
        (None, None) if url.starts_with('/') => None,
        _ => return Err(invalid()),
    };
    let host = match &target.host {
        Host::Any => None,
        Host::Named(host) => Some(named.unwrap_or(host)),
        Host::Own => Some(named.or(own_host).ok_or(PurgeError::MissingHost)?),
    };
    let url = UrlTarget {
        host: host.unwrap_or_default().to_owned(),
        path: uri.path().to_owned(),
        query: uri.query().map(str::to_owned),
    };
    Ok((url, host.map(str::to_owned)))
}

/// The host of a URL as clients send it: without user information, and without the default port of
/// the scheme, since the same page stored under the other scheme has another default port.
fn host_of<'a>(scheme: &str, authority: &'a Authority) -> &'a str {
    let host = authority.as_str();
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    host.strip_suffix(default_port(scheme)).unwrap_or(host)
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

/// All caches that share store and namespace.
fn caches(shared: &Shared) -> impl Iterator<Item = Arc<dyn UrlKeys>> {
    let all = shared.store.coordinator().registered_caches().into_iter();
    all.filter(|cache| *cache.namespace() == *shared.settings.namespace)
}

/// Purges a URL in all caches that share store and namespace. Fills of the key `kept` continue.
pub(crate) async fn purge_url(
    shared: &Shared,
    url: &UrlTarget,
    kept: Option<&CacheKey>,
) -> Result<Purged, StoreError> {
    let store = &*shared.store;
    let (mut keys, mut tags) = (Vec::new(), Vec::new());
    for cache in caches(shared) {
        let urls = cache.keys_for_url(url);
        // Keys with parts of the application cannot be listed; the tag of their URL reaches them.
        if cache.has_key_parts() {
            tags.extend(urls.iter().map(|url| TagId::url(url.url())));
        } else {
            keys.extend(urls);
        }
    }
    keys.sort_unstable();
    keys.dedup();
    // Before anything else: a fill in progress must not store its response after this returns.
    let others = keys.iter().filter(|key| Some(*key) != kept);
    others.for_each(|key| store.coordinator().invalidate_fills(key));
    let mut responses = 0;
    let mut result = Ok(());
    for key in &keys {
        // The failure of one key does not keep the others from being removed.
        match shared.within_store_timeout(store.remove(key)).await {
            Ok(removed) => responses += removed,
            Err(error) => result = Err(error),
        }
    }
    let purged = if tags.is_empty() { Purged::counted(responses) } else { Purged::RECORDED };
    result = purge_tags(shared, tags).await.and(result);
    log::debug!("purge url: {purged}");
    result.map(|()| purged)
}

async fn invalidate_url(
    shared: &Shared,
    url: &UrlTarget,
    fields: Option<&HeaderMap>,
    effect: Effect,
) -> Result<Purged, StoreError> {
    if fields.is_none() && effect == Effect::Purge {
        return purge_url(shared, url, None).await;
    }
    let mut tags = Vec::new();
    let mut counted = Some(0);
    for cache in caches(shared) {
        for url in cache.keys_for_url(url) {
            let key = fields.and_then(|fields| Some((cache.key_for_fields(&url, fields)?, fields)));
            let Some((key, fields)) = key else {
                tags.push(TagId::url(url.url()));
                counted = None;
                continue;
            };
            let variant = invalidate_variant(shared, &*cache, &key, fields, effect).await?;
            counted = counted.zip(variant.responses).map(|(sum, responses)| sum + responses);
            tags.extend(variant.tag);
        }
    }
    invalidate_tags(shared, tags, effect).await?;
    let purged = counted.map_or(Purged::RECORDED, Purged::counted);
    log::debug!("{} url: {purged}", effect.verb());
    Ok(purged)
}
