//! Finds the tags of a purge target. An invalidation of these tags purges or expires all responses
//! of the target.
//!
//! The cache derives these tags from the URL of each response, or from its `Cache-Groups` field. In
//! this file, `own_host` is the host of the current request, for targets that name no host.

use std::sync::Arc;

use actix_web::http::{Uri, uri::Authority};

use super::{
    error::PurgeError,
    target::{Host, PurgeTarget},
};
use crate::{
    entry::{
        key::{CacheKey, SEVERAL_QUERIES},
        tag::TagId,
        url::{UrlTarget, default_port, normalize_host, normalized_hosts},
        url_keys::UrlKeys,
    },
    shared::Shared,
};

/// Returns the tags of a path and its query on every host.
pub(super) fn any_host_tags(shared: &Shared, url: &UrlTarget) -> Vec<TagId> {
    let keys = url_keys(shared, url);
    keys.iter().filter_map(CacheKey::url_parts).map(|url| TagId::path(&url)).collect()
}

/// Returns one cache key for each URL under which the store may have responses for the target. These
/// are the URL of the target itself, and the URL with the query as each cache in this process
/// normalizes it, and the URL of the responses with `No-Vary-Search`, which answer several queries.
/// The default port of `http` or `https` is removed from the host, so there can be two hosts. No two
/// of the keys have the same URL.
pub(super) fn url_keys(shared: &Shared, target: &UrlTarget) -> Vec<CacheKey> {
    let sent = keys_with_query(shared, target, target.query.as_deref());
    let normalized = caches(shared).flat_map(|cache| cache.keys_for_url(target)).map(|url| url.key);
    let several = keys_with_query(shared, target, Some(SEVERAL_QUERIES));
    different_urls(sent.into_iter().chain(normalized).chain(several))
}

/// Returns one cache key for each URL under which the store may have responses with
/// `No-Vary-Search` for the path of the target. These responses answer several queries. A process
/// knows only the fields that it has learnt, so it does not know which of the responses answer the
/// target.
pub(super) fn keys_of_several_queries(shared: &Shared, target: &UrlTarget) -> Vec<CacheKey> {
    different_urls(keys_with_query(shared, target, Some(SEVERAL_QUERIES)).into_iter())
}

/// Returns the keys of a host and a path with this query, for both schemes.
fn keys_with_query(shared: &Shared, target: &UrlTarget, query: Option<&str>) -> [CacheKey; 2] {
    let namespace = &*shared.settings.namespace;
    ["http", "https"]
        .map(|scheme| CacheKey::new(namespace, scheme, &target.host, &target.path, query))
}

/// Leaves out each key that has the URL of an earlier one.
fn different_urls(keys: impl Iterator<Item = CacheKey>) -> Vec<CacheKey> {
    let mut different: Vec<CacheKey> = Vec::new();
    for key in keys {
        if !different.iter().any(|other| other.url() == key.url()) {
            different.push(key);
        }
    }
    different
}

/// Returns the tags of a path and all paths below it, on one host or on every host.
pub(super) fn prefix_tags(
    shared: &Shared,
    own_host: Option<&str>,
    target: &PurgeTarget,
    prefix: &str,
) -> Result<Vec<TagId>, PurgeError> {
    let (path, host) = locate_path(own_host, target, prefix)?;
    let tag = |host: Option<&str>| TagId::prefix(&shared.settings.namespace, host, &path);
    Ok(on_hosts(host.as_deref(), tag))
}

/// Returns the tags of one path with every query, on one host or on every host.
pub(super) fn path_tags(
    shared: &Shared,
    own_host: Option<&str>,
    target: &PurgeTarget,
    path: &str,
) -> Result<Vec<TagId>, PurgeError> {
    let (path, host) = locate_path(own_host, target, path)?;
    Ok(tags_of_path(shared, host.as_deref(), &path))
}

/// Returns the tags of one path with every query. `host` is `None` for every host.
pub(crate) fn tags_of_path(shared: &Shared, host: Option<&str>, path: &str) -> Vec<TagId> {
    let namespace = &*shared.settings.namespace;
    on_hosts(host, |host| TagId::path_with_any_query(namespace, host, path))
}

/// Returns the tag for each form of a host in cache keys, or the tag for all hosts.
fn on_hosts(host: Option<&str>, tag: impl Fn(Option<&str>) -> TagId) -> Vec<TagId> {
    match host {
        Some(host) => normalized_hosts(host).iter().map(|host| tag(Some(host))).collect(),
        None => vec![tag(None)],
    }
}

/// Parses a path or prefix, which has no query, and finds its host, as [`locate`] does.
fn locate_path(
    own_host: Option<&str>,
    target: &PurgeTarget,
    path: &str,
) -> Result<(String, Option<String>), PurgeError> {
    let (url, host) = locate(own_host, target, path)?;
    if url.query.is_some() {
        return Err(PurgeError::Url(path.to_owned()));
    }
    Ok((url.path, host))
}

/// Returns the tags of a group (RFC 9875) on one host: one tag for `http`, and one for `https`.
pub(super) fn group_tags(
    shared: &Shared,
    own_host: Option<&str>,
    target: &PurgeTarget,
    group: &str,
) -> Result<Vec<TagId>, PurgeError> {
    let host = group_host(own_host, target)?;
    Ok(["http", "https"].map(|scheme| group_tag(shared, scheme, host, group)).to_vec())
}

/// Returns the host of a group.
pub(super) fn group_host<'a>(
    own_host: Option<&'a str>,
    target: &'a PurgeTarget,
) -> Result<&'a str, PurgeError> {
    let host = match &target.host {
        Host::Own => own_host,
        Host::Named(host) => Some(host.as_str()),
        Host::Any => None,
    };
    host.ok_or(PurgeError::MissingHost)
}

/// Returns the tag of a group of one origin (RFC 9875 section 2.1).
pub(crate) fn group_tag(shared: &Shared, scheme: &str, host: &str, group: &str) -> TagId {
    let host = normalize_host(scheme, host).to_ascii_lowercase();
    let namespace = shared.settings.namespace.as_bytes();
    TagId::group(namespace, scheme.as_bytes(), host.as_bytes(), group)
}

/// Parses the URL of a target and finds the host of the target. The host is `None` if the target is
/// on every host.
pub(super) fn locate(
    own_host: Option<&str>,
    target: &PurgeTarget,
    url: &str,
) -> Result<(UrlTarget, Option<String>), PurgeError> {
    let invalid = || PurgeError::Url(url.to_owned());
    let uri: Uri = url.parse().map_err(|_| invalid())?;
    let named = match (uri.scheme_str(), uri.authority()) {
        (Some(scheme @ ("http" | "https")), Some(authority)) => Some(host_of(scheme, authority)),
        // Refuse a host and path without a scheme, such as `example.com/a`. As a path, it would
        // match no response, and nothing would be purged.
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

/// Returns the host and port of a URL as clients send them in `Host`: without user information, and
/// without the default port of the scheme. The default port must be removed, because a purge of the
/// URL also applies to the other scheme, which has another default port.
fn host_of<'a>(scheme: &str, authority: &'a Authority) -> &'a str {
    let host = authority.as_str();
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    host.strip_suffix(default_port(scheme)).unwrap_or(host)
}

/// Returns all caches that share the store and the namespace.
pub(super) fn caches(shared: &Shared) -> impl Iterator<Item = Arc<dyn UrlKeys>> {
    let all = shared.store.coordinator().registered_caches().into_iter();
    all.filter(|cache| *cache.namespace() == *shared.settings.namespace)
}
