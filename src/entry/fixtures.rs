//! Stored responses, cache keys and timestamps for unit tests.

use std::time::Duration;

use actix_web::http::{
    StatusCode,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use bytes::Bytes;
use httpdate::fmt_http_date;

use crate::{
    clock::Timestamp,
    entry::{
        key::CacheKey,
        lifetime::{Lifetime, LifetimeSource, Staleness},
        response::{Audience, EtagSource, StoredResponse, WeakTag},
        stamp::Stamp,
        stored_fields::StoredFields,
        uses::Uses,
        validity::ValidityCheck,
    },
};

/// Returns the timestamp that is `seconds` after the beginning of a test.
pub(crate) const fn at(seconds: u64) -> Timestamp {
    Timestamp::new(Duration::from_secs(1_000_000 + seconds), Duration::from_secs(seconds))
}

/// Returns [`at`]`(second)` in the format of `Date` and `Expires`.
pub(crate) fn http_date(second: u64) -> String {
    fmt_http_date(at(second).system_time())
}

pub(crate) fn header_map(fields: &[(HeaderName, String)]) -> HeaderMap {
    let field = |(name, value): &(HeaderName, String)| {
        (name.clone(), HeaderValue::from_str(value).unwrap())
    };
    fields.iter().map(field).collect()
}

/// Makes a response that was received at [`at`]`(second)` and is fresh for a minute. The request
/// for which it was made had these selecting fields.
pub(crate) fn stored(second: u64, selecting: &[(HeaderName, Option<&str>)]) -> StoredResponse {
    let copied = |(name, value): &(HeaderName, Option<&str>)| {
        (name.clone(), value.map(|value| Bytes::copy_from_slice(value.as_bytes())))
    };
    StoredResponse {
        status: StatusCode::OK,
        fields: StoredFields::default(),
        body: Bytes::from_static(b"body"),
        lifetime: Lifetime {
            response_time: at(second),
            initial_age: Duration::ZERO,
            freshness: Duration::from_secs(60),
            source: LifetimeSource::Policy,
            staleness: Staleness::default(),
            retention: Duration::ZERO,
        },
        stated: None,
        selecting: selecting.iter().map(copied).collect(),
        discriminator: Box::default(),
        audience: Audience::Everyone,
        permits_sharing: false,
        tags: Box::default(),
        stamp: Stamp::ZERO,
        client_ttl: None,
        original_fields: None,
        etag_source: EtagSource::Handler,
        coded: None,
        weak_tag: WeakTag::default(),
        validity_check: ValidityCheck::default(),
        uses: Uses::default(),
        received: at(second).monotonic(),
    }
}

/// Makes the key of a path, for all tenants or for one of them.
pub(crate) fn tenant_key(path: &str, tenant: Option<usize>) -> CacheKey {
    let mut key = CacheKey::new("t", "http", "h", path, None);
    if let Some(tenant) = tenant {
        key.push_part("tenant", Some(tenant.to_string().as_bytes()));
    }
    key
}
