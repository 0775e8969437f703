//! How what is stored is forgotten: by hand, and by unsafe requests.

use std::{fmt, future::poll_fn, pin::pin, sync::Arc, task::Poll, time::Duration};

use actix_web::{
    ResponseError,
    error::UrlGenerationError,
    http::{
        StatusCode, Uri,
        header::{HeaderMap, HeaderName, HeaderValue},
        uri::Authority,
    },
    rt::time::timeout,
};

use crate::{
    clock::Timestamp,
    entry::invalidation::Invalidation,
    entry::key::CacheKey,
    entry::selector::Selector,
    entry::tag::TagId,
    entry::url::{UrlTarget, default_port, normalize_host, normalized_hosts},
    entry::url_keys::UrlKeys,
    purge::handle::CacheHandle,
    purge::target::{Host, PurgeTarget, What},
    shared::{ComparedFields, Shared},
    store::interface::StoreError,
};

/// How long one purge may take of a request's time.
const PURGE_LIMIT: Duration = Duration::from_millis(250);

type Tags = Vec<TagId>;

/// What a purge did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Purged {
    /// Stored responses that were found one by one. Those that a mark is about are not counted: it
    /// is made without looking at them.
    pub responses: usize,
}

/// What becomes of pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    Purge,
    Expire { since: Timestamp },
}

impl Effect {
    const fn verb(self) -> &'static str {
        match self {
            Self::Purge => "purge",
            Self::Expire { .. } => "expire",
        }
    }

    fn on_all(self) -> Invalidation {
        match self {
            Self::Purge => Invalidation::PurgeAll,
            Self::Expire { since } => Invalidation::ExpireAll { since },
        }
    }

    fn on(self, tags: Tags) -> Invalidation {
        match self {
            Self::Purge => Invalidation::PurgeTags(tags),
            Self::Expire { since } => Invalidation::ExpireTags { tags, since },
        }
    }
}

/// Invalidates pages in all caches that share store and namespace.
pub(crate) async fn invalidate(
    handle: &CacheHandle,
    pages: &PurgeTarget,
    effect: Effect,
) -> Result<Purged, PurgeError> {
    let shared = &*handle.shared;
    let namespace = &*shared.settings.namespace;
    let (kind, tags) = match &pages.what {
        What::All => {
            within(shared.store.invalidate(&effect.on_all())).await?;
            log::debug!("{} all", effect.verb());
            return Ok(Purged::default());
        }
        What::Url(url) => {
            let (target, host) = located(handle, pages, url)?;
            if host.is_some() {
                let fields = pages.fields.as_deref().map(read).transpose()?;
                let purged = of_url(shared, &target, fields.as_ref(), effect).await?;
                return Ok(purged);
            }
            let urls =
                caches(shared).flat_map(|cache| cache.keys_for_url(&target)).collect::<Vec<_>>();
            let paths = urls.iter().filter_map(CacheKey::url_parts);
            ("url on any host", paths.map(|url| TagId::path(&url)).collect())
        }
        What::Prefix(prefix) => {
            let (target, host) = located(handle, pages, prefix)?;
            if target.query.is_some() {
                return Err(PurgeError::Url);
            }
            let tag = |host: Option<&str>| TagId::prefix(namespace, host, &target.path);
            let tags: Tags = match host {
                Some(host) => normalized_hosts(&host).iter().map(|host| tag(Some(host))).collect(),
                None => vec![tag(None)],
            };
            ("prefix", tags)
        }
        What::Tags(tags) => ("tag", tags.iter().map(|tag| TagId::tag(namespace, tag)).collect()),
        What::Group(group) => {
            let host = match &pages.host {
                Host::Own => handle.host.as_deref(),
                Host::Named(host) => Some(host.as_str()),
                Host::Any => None,
            };
            let host = host.ok_or(PurgeError::NoHost)?;
            let tag = |scheme| group_of(shared, scheme, host, group);
            ("group", ["http", "https"].into_iter().map(tag).collect())
        }
    };
    let mut tags: Tags = tags;
    tags.sort_unstable();
    tags.dedup();
    if !tags.is_empty() {
        within(shared.store.invalidate(&effect.on(tags))).await?;
    }
    log::debug!("{} {kind}", effect.verb());
    Ok(Purged::default())
}

/// The tag of a group of one origin.
pub(crate) fn group_of(shared: &Shared, scheme: &str, host: &str, group: &str) -> TagId {
    let host = normalize_host(scheme, host).to_ascii_lowercase();
    let namespace = shared.settings.namespace.as_bytes();
    TagId::group(namespace, scheme.as_bytes(), host.as_bytes(), group)
}

/// Makes what carries one of these tags invalid.
pub(crate) async fn purge_tags(shared: &Shared, tags: Tags) -> Result<(), StoreError> {
    within(shared.store.invalidate(&Invalidation::PurgeTags(tags))).await
}

/// Where a URL leads; without a host, to that path on any.
fn located(
    handle: &CacheHandle,
    pages: &PurgeTarget,
    url: &str,
) -> Result<(UrlTarget, Option<String>), PurgeError> {
    let uri: Uri = url.parse().map_err(|_| PurgeError::Url)?;
    let own = match (uri.scheme_str(), uri.authority()) {
        // Without a scheme a host would be taken for all of the URL, and nothing be purged.
        (Some(scheme @ ("http" | "https")), Some(authority)) => Some(named_by(scheme, authority)),
        (None, None) if url.starts_with('/') => None,
        _ => return Err(PurgeError::Url),
    };
    let host = match &pages.host {
        Host::Any => None,
        Host::Named(host) => Some(own.unwrap_or(host)),
        Host::Own => Some(own.or(handle.host.as_deref()).ok_or(PurgeError::NoHost)?),
    };
    let target = UrlTarget {
        host: host.unwrap_or_default().to_owned(),
        path: uri.path().to_owned(),
        query: uri.query().map(str::to_owned),
    };
    Ok((target, host.map(str::to_owned)))
}

/// The host that a URL names, as clients send it: without the user's name and without the port
/// that its scheme implies, for a page stored under the other scheme has another.
fn named_by<'a>(scheme: &str, authority: &'a Authority) -> &'a str {
    let host = authority.as_str();
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    host.strip_suffix(default_port(scheme)).unwrap_or(host)
}

fn read(fields: &[(String, String)]) -> Result<HeaderMap, PurgeError> {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| PurgeError::Field)?;
        map.append(name, HeaderValue::from_str(value).map_err(|_| PurgeError::Field)?);
    }
    Ok(map)
}

/// All caches that share store and namespace.
fn caches(shared: &Shared) -> impl Iterator<Item = Arc<dyn UrlKeys>> {
    let all = shared.store.coordinator().registered_caches().into_iter();
    all.filter(|cache| *cache.namespace() == *shared.settings.namespace)
}

/// Forgets a URL in all caches that share store and namespace. Fills of `spared` go on.
pub(crate) async fn purge_url(
    shared: &Shared,
    target: &UrlTarget,
    spared: Option<&CacheKey>,
) -> Result<Purged, StoreError> {
    let store = &*shared.store;
    let (mut keys, mut tags) = (Vec::new(), Tags::new());
    for cache in caches(shared) {
        let urls = cache.keys_for_url(target);
        // Keys with parts cannot be listed; their URL's tag reaches them all.
        if cache.has_key_parts() {
            tags.extend(urls.iter().map(|url| TagId::url(url.url())));
        } else {
            keys.extend(urls);
        }
    }
    keys.sort_unstable();
    keys.dedup();
    tags.sort_unstable();
    tags.dedup();
    // First of all: what is being made now must not be stored once we have returned.
    let others = keys.iter().filter(|key| Some(*key) != spared);
    others.for_each(|key| store.coordinator().invalidate_fills(key));
    let mut purged = Purged::default();
    let mut result = Ok(());
    for key in &keys {
        // One that fails keeps the others from nothing.
        match within(store.remove(key)).await {
            Ok(responses) => purged.responses += responses,
            Err(error) => result = Err(error),
        }
    }
    if !tags.is_empty() {
        result = purge_tags(shared, tags).await.and(result);
    }
    log::debug!("purge url responses={}", purged.responses);
    result.map(|()| purged)
}

async fn of_url(
    shared: &Shared,
    target: &UrlTarget,
    fields: Option<&HeaderMap>,
    effect: Effect,
) -> Result<Purged, StoreError> {
    if fields.is_none() && effect == Effect::Purge {
        return purge_url(shared, target, None).await;
    }
    let mut tags = Tags::new();
    let mut purged = Purged::default();
    for cache in caches(shared) {
        for url in cache.keys_for_url(target) {
            let named =
                fields.and_then(|fields| Some((cache.key_for_fields(&url, fields)?, fields)));
            let Some((key, fields)) = named else {
                tags.push(TagId::url(url.url()));
                continue;
            };
            let (tag, responses) = variant(shared, &*cache, &key, fields, effect).await?;
            purged.responses += responses;
            tags.extend(tag);
        }
    }
    tags.sort_unstable();
    tags.dedup();
    if !tags.is_empty() {
        within(shared.store.invalidate(&effect.on(tags))).await?;
    }
    log::debug!("{} url responses={}", effect.verb(), purged.responses);
    Ok(purged)
}

/// What reaches all that a request with these fields would select, and how much there is of it now;
/// nothing where all of it is forgotten already.
async fn variant(
    shared: &Shared,
    cache: &dyn UrlKeys,
    key: &CacheKey,
    fields: &HeaderMap,
    effect: Effect,
) -> Result<(Option<TagId>, usize), StoreError> {
    let coordinator = shared.store.coordinator();
    // Before looking: which variant a fill makes is known when it is stored. One that begins from
    // now on makes a page of what is there now.
    match effect {
        Effect::Purge => coordinator.invalidate_fills(key),
        Effect::Expire { .. } if coordinator.is_filling(key) => {
            return Ok((Some(TagId::key(key)), 0));
        }
        Effect::Expire { .. } => {}
    }
    let compared = ComparedFields { fields, cache };
    let selector = Selector::new(&compared, &[], shared.settings.clock.now());
    let Some(found) = within(shared.store.lookup(key, &selector)).await?.variants else {
        // Nothing tells what selects among what others may be making.
        if effect == Effect::Purge {
            within(shared.store.remove(key)).await?;
            return Ok((None, 0));
        }
        return Ok((Some(TagId::key(key)), 0));
    };
    let selected = found.responses().iter().filter(|stored| {
        let mut selecting = stored.selecting.iter();
        coordinator.is_valid(key, stored)
            && selecting
                .all(|(name, value)| cache.value(fields, name).as_deref() == value.as_deref())
    });
    let selecting =
        found.selecting_fields().iter().map(|name| (name.clone(), cache.value(fields, name)));
    Ok((Some(TagId::variant(key, selecting)), selected.count()))
}

/// Waits for a store that is to forget something, for no longer than a request can wait.
pub(crate) async fn within<T>(
    call: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let mut call = pin!(call);
    // Without a timer first: a store that answers at once can be purged from any thread, whether
    // it has a runtime or not.
    if let Poll::Ready(result) = poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await {
        return result;
    }
    timeout(PURGE_LIMIT, call).await.unwrap_or_else(|_| Err(StoreError::new("it took too long")))
}

/// Nothing is known to be purged.
#[derive(Debug)]
#[non_exhaustive]
pub enum PurgeError {
    /// The URL cannot be read.
    Url,
    /// It has no host, and neither has the handle.
    NoHost,
    /// There is no such route, or its parameters are not these.
    Route(UrlGenerationError),
    /// The fields of a variant cannot be those of a request.
    Field,
    /// The store failed.
    Store(StoreError),
}

impl fmt::Display for PurgeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url => f.write_str(
                "this is no URL to purge: use \"/path?query\" or \"https://host/path?query\", \
                 percent-encoded",
            ),
            Self::NoHost => f.write_str(
                "outside of a request a URL, prefix or group to purge needs its host: use \
                 \"https://host/path?query\", or on_host()",
            ),
            Self::Route(error) => write!(f, "this is no route to purge: {error}"),
            Self::Field => f.write_str("a variant is named by fields that no request can have"),
            Self::Store(error) => write!(f, "nothing is known to be purged: {error}"),
        }
    }
}

impl std::error::Error for PurgeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Store(error) => Some(error),
            Self::Url | Self::NoHost | Self::Route(_) | Self::Field => None,
        }
    }
}

impl From<StoreError> for PurgeError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl ResponseError for PurgeError {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::Url | Self::NoHost | Self::Route(_) | Self::Field => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
            Self::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}
