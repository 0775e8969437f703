//! Tells the application of purges and expiries
//! ([`CacheBuilder::on_purge`](crate::CacheBuilder::on_purge)).

use super::{
    effect::Effect,
    error::PurgeError,
    target::{PurgeTarget, Scope},
    target_tags::{group_host, locate},
};
use crate::{
    entry::url::UrlTarget,
    purge_event::{PurgeAction, PurgeCause, PurgeEvent, PurgeScope, PurgeState},
    shared::Shared,
    store::interface::StoreError,
};

/// Tells the application of a purge or an expiry by a handle, unless it failed or has no target.
pub(super) fn report_by_handle<T>(
    shared: &Shared,
    own_host: Option<&str>,
    target: &PurgeTarget,
    effect: Effect,
    result: &Result<T, PurgeError>,
) {
    let state = match result {
        Ok(_) => PurgeState::Confirmed,
        Err(PurgeError::Queued(_)) => PurgeState::Queued,
        Err(_) => return,
    };
    if shared.settings.on_purge.is_some()
        && let Some(scope) = scope(own_host, target)
    {
        report(shared, (effect.action(), PurgeCause::Handle), state, scope);
    }
}

/// Tells the application of a purge by an unsafe request, unless it failed.
pub(crate) fn report_by_request<T>(
    shared: &Shared,
    result: &Result<T, StoreError>,
    scope: impl FnOnce() -> PurgeScope,
) {
    let state = match result {
        Ok(_) => PurgeState::Confirmed,
        Err(error) if error.is_queued() => PurgeState::Queued,
        Err(_) => return,
    };
    if shared.settings.on_purge.is_some() {
        report(shared, (PurgeAction::Purge, PurgeCause::Request), state, scope());
    }
}

fn report(
    shared: &Shared,
    (action, cause): (PurgeAction, PurgeCause),
    state: PurgeState,
    scope: PurgeScope,
) {
    if let Some(on_purge) = &shared.settings.on_purge {
        let namespace = shared.settings.namespace.to_string();
        on_purge(&PurgeEvent { namespace, action, cause, state, scope });
    }
}

/// Returns the scope of a URL.
pub(crate) fn url_scope(host: Option<String>, url: &UrlTarget) -> PurgeScope {
    PurgeScope::Url { host, path_and_query: path_and_query(url) }
}

fn path_and_query(url: &UrlTarget) -> String {
    match &url.query {
        Some(query) => format!("{}?{query}", url.path),
        None => url.path.clone(),
    }
}

/// Returns the scope of a target. Returns `None` if the target includes no responses.
fn scope(own_host: Option<&str>, target: &PurgeTarget) -> Option<PurgeScope> {
    Some(match &target.scope {
        Scope::All => PurgeScope::All,
        Scope::Url(url) => {
            let (url, host) = locate(own_host, target, url).ok()?;
            match &target.fields {
                Some(fields) if host.is_some() => PurgeScope::Variant {
                    host,
                    path_and_query: path_and_query(&url),
                    fields: fields.clone(),
                },
                _ => url_scope(host, &url),
            }
        }
        Scope::Path(path) => {
            let (url, host) = locate(own_host, target, path).ok()?;
            PurgeScope::Path { host, path: url.path }
        }
        Scope::Prefix(prefix) => {
            let (url, host) = locate(own_host, target, prefix).ok()?;
            PurgeScope::Prefix { host, path: url.path }
        }
        Scope::Tags(tags) => PurgeScope::Tags(Some(tags).filter(|tags| !tags.is_empty())?.clone()),
        Scope::User(id) => PurgeScope::User(id.clone()),
        Scope::Group(group) => {
            let host = group_host(own_host, target).ok()?.to_owned();
            PurgeScope::Group { host, group: group.clone() }
        }
    })
}
