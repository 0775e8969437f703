//! `PolicyChanges`: changes to a policy in a file.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::{Deserialize, Deserializer, de::Error};

use super::values::{Enabled, Headers, Status, Texts, Time};
use crate::{
    policy::{compression::Compression, query::QueryKey, settings::Policy},
    semantics::client_lifetime::ClientHeaders,
};

/// Changes to a [`Policy`] in a file.
///
/// The keys have the names of the setters of [`Policy`]. All setters without a function as argument
/// can be used. All keys are optional, and unknown keys are errors. Settings that the file does not
/// have remain as they are.
///
/// | argument of the setter | value |
/// |---|---|
/// | none, as in `heuristic_freshness` | `true` |
/// | a time, as in `default_ttl` | text with units, such as `"90s"`, `"5m"` or `"1h 30m"` |
/// | a text or a list, as in `tag` or `ignore_cookies` | a text or a list of texts |
/// | a status code and a time, as in `status_ttl` | a table, such as `{ 404 = "10s", 410 = "1h" }` |
/// | a number, as in `max_body_size` | a number, in the unit of the setter |
/// | `client_headers` | `"with_lifetime"` or `"untouched"` |
/// | `compress` | a table with any of `codings` (such as `["br", "gzip"]`), `level` (`"fast"`, `"balanced"` or `"smallest"`), `min_size` and `types` |
/// | `query` | a table with `only`, or with `ignoring` and `tracking_parameters = true`; and with `sorted = true` |
///
/// The key `rfc9111 = true` begins with the preset [`Policy::rfc9111`].
///
/// ```toml
/// default_ttl = "5m"
/// status_ttl = { 404 = "10s" }
/// ignore_cookies = ["_ga*"]
/// query = { only = ["q", "page"], sorted = true }
/// heuristic_freshness = true
/// ```
///
/// # Errors
///
/// Deserialization returns an error for keys that exclude each other, such as `default_ttl` and
/// `explicit_only`. Values are checked by [`CacheBuilder::build`](crate::CacheBuilder::build).
#[derive(Debug, Clone, Default)]
pub struct PolicyChanges(Arc<Fields>);

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename = "policy")]
struct Fields {
    rfc9111: Option<Enabled>,
    default_ttl: Option<Time>,
    status_ttl: BTreeMap<Status, Time>,
    override_ttl: Option<Time>,
    override_status_ttl: BTreeMap<Status, Time>,
    explicit_only: Option<Enabled>,
    heuristic_freshness: Option<Enabled>,
    client_ttl: Option<Time>,
    cdn_ttl: Option<Time>,
    client_headers: Option<Headers>,
    jitter: Option<u8>,
    never_store_status: Vec<u16>,
    stale_while_revalidate: Option<Time>,
    stale_if_error: Option<Time>,
    refresh_ahead: Option<u8>,
    keep_stale: Option<Time>,
    wait_limit: Option<Time>,
    background_limit: Option<Time>,
    drain_limit: Option<Time>,
    max_body_size: Option<usize>,
    leave_out: Texts,
    no_content_tags: Option<Enabled>,
    compress: Option<Compression>,
    no_compression: Option<Enabled>,
    fetch_on_head: Option<Enabled>,
    cache_queries: Option<usize>,
    pass_queries: Option<Enabled>,
    cache_posts_by_body: Option<usize>,
    request_body_limit: Option<Time>,
    ignore_no_vary_search: Option<Enabled>,
    query: Option<QueryKey>,
    vary_cookie: Texts,
    key_header: Texts,
    fold_language_case: Option<Enabled>,
    vary_languages: Option<Texts>,
    vary_codings: Option<Texts>,
    replay_set_cookie: Option<Enabled>,
    share_despite_cookies: Option<Enabled>,
    ignore_cookies: Texts,
    credentials: Texts,
    ignore_credentials: Texts,
    trusted_proxies: Option<Texts>,
    share_authorized: Option<Enabled>,
    anonymous_only: Option<Enabled>,
    honor_request_directives: Option<Enabled>,
    targeted_fields: Option<Texts>,
    remove_targeted_fields: Option<Enabled>,
    honor_qualified_directives: Option<Enabled>,
    no_compress_outside: Option<Enabled>,
    no_purge_by_requests: Option<Enabled>,
    no_purge_by_redirects: Option<Enabled>,
    no_purge_by_location: Option<Enabled>,
    purge_paths_by_requests: Option<Enabled>,
    tag: Texts,
    tag_fields: Option<Texts>,
    remove_tag_fields: Option<Enabled>,
    emit_tags: Texts,
}

impl<'de> Deserialize<'de> for PolicyChanges {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields = Fields::deserialize(deserializer)?;
        for (one, other, are_both) in [
            ("default_ttl", "explicit_only", {
                fields.default_ttl.is_some() && fields.explicit_only.is_some()
            }),
            ("compress", "no_compression", {
                fields.compress.is_some() && fields.no_compression.is_some()
            }),
            ("cache_queries", "pass_queries", {
                fields.cache_queries.is_some() && fields.pass_queries.is_some()
            }),
            ("fold_language_case", "vary_languages", {
                fields.fold_language_case.is_some() && fields.vary_languages.is_some()
            }),
        ] {
            if are_both {
                return Err(D::Error::custom(format!(
                    "`{one}` and `{other}` exclude each other: remove one of them"
                )));
            }
        }
        Ok(Self(Arc::new(fields)))
    }
}

impl PolicyChanges {
    /// Returns the changed policy.
    pub fn apply(&self, policy: Policy) -> Policy {
        let fields = &*self.0;
        let policy = if fields.rfc9111.is_some() { Policy::rfc9111() } else { policy };
        let policy = fields.change_lifetimes(policy);
        let policy = fields.change_staleness_and_limits(policy);
        let policy = fields.change_requests(policy);
        let policy = fields.change_key(policy);
        let policy = fields.change_credentials(policy);
        let policy = fields.change_directives(policy);
        fields.change_invalidation(policy)
    }
}

impl Fields {
    fn change_lifetimes(&self, policy: Policy) -> Policy {
        let policy = time(policy, self.default_ttl, Policy::default_ttl);
        let policy = time(policy, self.override_ttl, Policy::override_ttl);
        let policy = time(policy, self.client_ttl, Policy::client_ttl);
        let policy = time(policy, self.cdn_ttl, Policy::cdn_ttl);
        let headers = self.client_headers.map(ClientHeaders::from);
        let policy = set(policy, headers, Policy::client_headers);
        let policy = statuses(policy, &self.status_ttl, Policy::status_ttl);
        let policy = statuses(policy, &self.override_status_ttl, Policy::override_status_ttl);
        let policy = flag(policy, self.explicit_only, Policy::explicit_only);
        let policy = flag(policy, self.heuristic_freshness, Policy::heuristic_freshness);
        let policy = set(policy, self.jitter, Policy::jitter);
        policy.never_store_status(self.never_store_status.iter().copied())
    }

    fn change_staleness_and_limits(&self, policy: Policy) -> Policy {
        let policy = time(policy, self.stale_while_revalidate, Policy::stale_while_revalidate);
        let policy = time(policy, self.stale_if_error, Policy::stale_if_error);
        let policy = set(policy, self.refresh_ahead, Policy::refresh_ahead);
        let policy = time(policy, self.keep_stale, Policy::keep_stale);
        let policy = time(policy, self.wait_limit, Policy::wait_limit);
        let policy = time(policy, self.background_limit, Policy::background_limit);
        let policy = time(policy, self.drain_limit, Policy::drain_limit);
        let policy = policy.leave_out(self.leave_out.0.clone());
        let policy = flag(policy, self.no_content_tags, Policy::no_content_tags);
        let policy = set(policy, self.compress.clone(), Policy::compress);
        let policy = flag(policy, self.no_compression, Policy::no_compression);
        set(policy, self.max_body_size, Policy::max_body_size)
    }

    fn change_requests(&self, policy: Policy) -> Policy {
        let policy = flag(policy, self.fetch_on_head, Policy::fetch_on_head);
        let policy = set(policy, self.cache_queries, Policy::cache_queries);
        let policy = flag(policy, self.pass_queries, Policy::pass_queries);
        let policy = set(policy, self.cache_posts_by_body, Policy::cache_posts_by_body);
        time(policy, self.request_body_limit, Policy::request_body_limit)
    }

    fn change_key(&self, policy: Policy) -> Policy {
        let policy = set(policy, self.query.clone(), Policy::query);
        let policy = flag(policy, self.ignore_no_vary_search, Policy::ignore_no_vary_search);
        let policy = each(policy, &self.vary_cookie, Policy::vary_cookie);
        let policy = each(policy, &self.key_header, Policy::key_header);
        let policy = flag(policy, self.fold_language_case, Policy::fold_language_case);
        let policy = texts(policy, self.vary_languages.as_ref(), Policy::vary_languages);
        texts(policy, self.vary_codings.as_ref(), Policy::vary_codings)
    }

    fn change_credentials(&self, policy: Policy) -> Policy {
        let policy = flag(policy, self.replay_set_cookie, Policy::replay_set_cookie);
        let policy = flag(policy, self.share_despite_cookies, Policy::share_despite_cookies);
        let policy = flag(policy, self.share_authorized, Policy::share_authorized);
        let policy = flag(policy, self.anonymous_only, Policy::anonymous_only);
        let policy = policy.ignore_cookies(self.ignore_cookies.0.clone());
        let policy = policy.credentials(self.credentials.0.clone());
        let policy = policy.ignore_credentials(&self.ignore_credentials.0);
        texts(policy, self.trusted_proxies.as_ref(), Policy::trusted_proxies)
    }

    fn change_directives(&self, policy: Policy) -> Policy {
        let policy = flag(policy, self.honor_request_directives, Policy::honor_request_directives);
        let policy = texts(policy, self.targeted_fields.as_ref(), Policy::targeted_fields);
        let policy = flag(policy, self.remove_targeted_fields, Policy::remove_targeted_fields);
        let policy =
            flag(policy, self.honor_qualified_directives, Policy::honor_qualified_directives);
        flag(policy, self.no_compress_outside, Policy::no_compress_outside)
    }

    fn change_invalidation(&self, policy: Policy) -> Policy {
        let policy = flag(policy, self.no_purge_by_requests, Policy::no_purge_by_requests);
        let policy = flag(policy, self.no_purge_by_redirects, Policy::no_purge_by_redirects);
        let policy = flag(policy, self.no_purge_by_location, Policy::no_purge_by_location);
        let policy = flag(policy, self.purge_paths_by_requests, Policy::purge_paths_by_requests);
        let policy = each(policy, &self.tag, Policy::tag);
        let policy = each(policy, &self.emit_tags, Policy::emit_tags);
        let policy = texts(policy, self.tag_fields.as_ref(), Policy::tag_fields);
        flag(policy, self.remove_tag_fields, Policy::remove_tag_fields)
    }
}

fn set<T>(policy: Policy, value: Option<T>, setter: impl FnOnce(Policy, T) -> Policy) -> Policy {
    match value {
        Some(value) => setter(policy, value),
        None => policy,
    }
}

fn flag(policy: Policy, value: Option<Enabled>, setter: fn(Policy) -> Policy) -> Policy {
    set(policy, value, |policy, Enabled| setter(policy))
}

fn time(policy: Policy, value: Option<Time>, setter: fn(Policy, Duration) -> Policy) -> Policy {
    set(policy, value, |policy, Time(time)| setter(policy, time))
}

fn texts(
    policy: Policy,
    value: Option<&Texts>,
    setter: fn(Policy, Vec<String>) -> Policy,
) -> Policy {
    set(policy, value, |policy, Texts(texts)| setter(policy, texts.clone()))
}

/// Calls a setter whose calls add up.
fn each(policy: Policy, Texts(texts): &Texts, setter: fn(Policy, String) -> Policy) -> Policy {
    texts.iter().cloned().fold(policy, setter)
}

fn statuses(
    policy: Policy,
    values: &BTreeMap<Status, Time>,
    setter: fn(Policy, u16, Duration) -> Policy,
) -> Policy {
    let values = values.iter();
    values.fold(policy, |policy, (Status(code), Time(ttl))| setter(policy, *code, *ttl))
}
