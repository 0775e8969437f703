//! Computes the cache key of a request, and the cache keys that requests for a URL can have.

use std::borrow::Cow;

use actix_web::{
    dev::ServiceRequest,
    http::header::{
        CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LOCATION, CONTENT_TYPE, HOST, HeaderMap,
        HeaderName,
    },
};
use sha2::{Digest as _, Sha256};

use super::{
    compiled::CompiledPolicy,
    recent_keys::UrlOfRequest,
    request_url::{AmbiguousHost, host, scheme},
};
use crate::{
    entry::{
        key::{CacheKey, KeyBuilder, SEVERAL_QUERIES},
        length_prefixed::append_part,
        url::UrlTarget,
    },
    semantics::{
        cookies::{CookieRules, Part},
        fields::field_lines,
        no_vary_search::NoVarySearch,
        requester::Sharing,
    },
};

/// The cache key of a request, and the clients that may share the response stored under it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestKey {
    pub(crate) key: CacheKey,
    pub(crate) sharing: Sharing,
}
/// The fields that describe the body of a request (RFC 9110 section 8), except its length, which
/// follows from the body.
const DESCRIPTIVE_FIELDS: [HeaderName; 4] =
    [CONTENT_TYPE, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LOCATION];

impl CompiledPolicy {
    /// Returns the cache key of a request to which this policy applies. `variance` is the
    /// `No-Vary-Search` of the path, as far as the cache knows it.
    pub(crate) fn key(
        &self,
        request: &ServiceRequest,
        variance: Option<&NoVarySearch>,
    ) -> Result<RequestKey, AmbiguousHost> {
        if variance.is_none()
            && self.makes_keys_of_urls_alone()
            && let Some(url) = url_of_request(self.id, request)
        {
            let make =
                || Ok(self.key_with_query(request, self.query(request).as_deref())?.finish());
            return Ok(RequestKey { key: url.key(make)?, sharing: Sharing::Everybody });
        }
        let query = self.query(request);
        let mut key = match variance {
            None => self.key_with_query(request, query.as_deref())?,
            Some(variance) => {
                let mut key = self.key_with_query(request, Some(SEVERAL_QUERIES))?;
                // The names of fields have no space, so these parts differ from all others.
                key.push_part("no vary search", Some(&variance.encode()));
                key.push_part("significant query", Some(&variance.normalize(query.as_deref())));
                key
            }
        };
        self.push_fields(&mut key, request.headers());
        for part in &self.policy.key_parts {
            let value = part.value.of(request);
            key.push_part(&format!("with {}", part.name), value.as_deref().map(str::as_bytes));
        }
        let sharing = self.push_sharing(&mut key, request);
        Ok(RequestKey { key: key.finish(), sharing })
    }

    /// Returns whether cache keys contain nothing of a request but its URL.
    fn makes_keys_of_urls_alone(&self) -> bool {
        self.identity.keyed.is_empty()
            && self.policy.cookies.keyed.is_empty()
            && self.policy.key_parts.is_empty()
            && !self.has_parts_by_sharing()
    }

    /// Returns the query of a request as the cache key contains it.
    fn query<'a>(&self, request: &'a ServiceRequest) -> Option<Cow<'a, str>> {
        let query = request.uri().query();
        match &self.policy.query {
            None => query.map(Cow::Borrowed),
            Some(rules) => rules.normalize(query),
        }
    }

    /// Returns the key of the path of a request: what the keys of all queries have in common.
    pub(crate) fn path_key(&self, request: &ServiceRequest) -> Result<CacheKey, AmbiguousHost> {
        Ok(self.key_with_query(request, Some(SEVERAL_QUERIES))?.finish())
    }

    fn key_with_query(
        &self,
        request: &ServiceRequest,
        query: Option<&str>,
    ) -> Result<KeyBuilder, AmbiguousHost> {
        let (host, path) = (host(request)?, request.uri().path());
        Ok(KeyBuilder::new(&self.scope, scheme(request), host, path, query))
    }

    /// Returns the cache key of a request whose body is part of the key. RFC 10008 section 2.7: the
    /// key of a `QUERY` contains the body and the fields that describe it.
    pub(crate) fn key_with_body(
        &self,
        request: &ServiceRequest,
        variance: Option<&NoVarySearch>,
        body: &[u8],
    ) -> Result<RequestKey, AmbiguousHost> {
        let RequestKey { key, sharing } = self.key(request, variance)?;
        let mut key = KeyBuilder::from_key(&key);
        // The names of fields have no space, so these parts differ from all others.
        key.push_part("request method", Some(request.method().as_str().as_bytes()));
        key.push_part("request body", Some(&Sha256::digest(body)));
        for name in &DESCRIPTIVE_FIELDS {
            push_field(&mut key, name, request.headers());
        }
        Ok(RequestKey { key: key.finish(), sharing })
    }

    /// Adds the request fields and cookies that are part of the cache key to `key`.
    fn push_fields(&self, key: &mut KeyBuilder, fields: &HeaderMap) {
        for name in &self.identity.keyed {
            push_field(key, name, fields);
        }
        for name in &self.policy.cookies.keyed {
            match CookieRules::part(fields, name) {
                None => key.push_part(&format!("cookie {name}"), None),
                Some(Part::Value(value)) => key.push_part(&format!("cookie {name}"), Some(value)),
                Some(Part::All(all)) => key.push_part("cookies", Some(&all)),
            }
        }
    }

    /// Returns the cache key of requests for a URL to which this policy applies. Request fields,
    /// cookies and computed values are not added to the key.
    pub(super) fn key_for_url(&self, scheme: &str, target: &UrlTarget) -> CacheKey {
        let sent = target.query.as_deref();
        let query = match &self.policy.query {
            None => sent.map(Into::into),
            Some(rules) => rules.normalize(sent),
        };
        let (host, path) = (&target.host, &target.path);
        KeyBuilder::new(&self.scope, scheme, host, path, query.as_deref()).finish()
    }

    /// Returns the cache key `url`, a result of [`key_for_url`](Self::key_for_url), completed
    /// with the fields and cookies of a request that are part of cache keys. `None` if cache keys
    /// also contain values that the application computes, because the computation needs the whole
    /// request.
    pub(crate) fn key_for_fields(&self, url: &CacheKey, fields: &HeaderMap) -> Option<CacheKey> {
        if !self.policy.key_parts.is_empty() || self.has_parts_by_sharing() {
            return None;
        }
        let mut key = KeyBuilder::from_key(url);
        self.push_fields(&mut key, fields);
        Some(key.finish())
    }
}

/// Returns the URL of a request if `Host` alone names its host, and the id of the policy that makes
/// its key.
fn url_of_request(policy: u64, request: &ServiceRequest) -> Option<UrlOfRequest<'_>> {
    let mut lines = request.headers().get_all(HOST);
    let (host, uri) = (lines.next()?.as_bytes(), request.uri());
    if lines.next().is_some() || uri.authority().is_some() {
        return None;
    }
    let target = uri.path_and_query()?.as_str().as_bytes();
    Some(UrlOfRequest { policy, scheme: scheme(request), host, target })
}

/// Adds all lines of a request field to a cache key.
fn push_field(key: &mut KeyBuilder, name: &HeaderName, fields: &HeaderMap) {
    let mut lines = field_lines(fields, name);
    let first = lines.next();
    match lines.next() {
        None => key.push_part(name.as_str(), first),
        Some(second) => {
            // Two lines of a field and one line with both values make different keys, because a
            // handler may read only the first line.
            let mut encoded = Vec::new();
            for line in first.into_iter().chain([second]).chain(lines) {
                append_part(&mut encoded, line);
            }
            key.push_part(&format!("{name}*"), Some(&encoded));
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::{
        http::{Version, header::HeaderValue},
        test::TestRequest,
    };

    use super::{
        super::{query::QueryKey, settings::Policy},
        *,
    };

    fn compile(policy: Policy) -> CompiledPolicy {
        CompiledPolicy::new(policy, None, "t").unwrap()
    }

    fn key(policy: &CompiledPolicy, uri: &str, fields: &[(&str, &str)]) -> Option<CacheKey> {
        let request = fields
            .iter()
            .fold(TestRequest::with_uri(uri), |request, field| request.append_header(*field))
            .to_srv_request();
        policy.key(&request, None).ok().map(|request_key| request_key.key)
    }

    const HOST_A: (&str, &str) = ("host", "a");

    #[test]
    fn requests_that_differ_in_method_body_or_its_description_have_different_keys() {
        let policy = compile(Policy::new().key_header("content-type"));
        let request = |method: &str, uri: &str, fields: &[(&str, &str)]| {
            let request = TestRequest::with_uri(uri).method(method.parse().unwrap());
            let request = request.insert_header(HOST_A);
            let fields = fields.iter();
            fields.fold(request, |request, field| request.append_header(*field)).to_srv_request()
        };
        let key = |method: &str, fields: &[(&str, &str)], body: &[u8]| {
            policy.key_with_body(&request(method, "/", fields), None, body).unwrap()
        };
        let (json, form) = (("content-type", "application/json"), ("content-type", "text/plain"));
        let keys = [
            policy.key(&request("GET", "/", &[]), None).unwrap(),
            policy.key(&request("GET", "/", &[json]), None).unwrap(),
            key("QUERY", &[], b""),
            key("QUERY", &[], b"a"),
            key("POST", &[], b"a"),
            key("QUERY", &[json], b"a"),
            key("QUERY", &[form], b"a"),
            key("QUERY", &[json, form], b"a"),
            key("QUERY", &[json, ("content-encoding", "gzip")], b"a"),
            key("QUERY", &[json, ("content-language", "gzip")], b"a"),
            key("QUERY", &[json, ("content-location", "gzip")], b"a"),
            policy.key_with_body(&request("QUERY", "/?", &[]), None, b"a").unwrap(),
        ];
        for (index, one) in keys.iter().enumerate() {
            assert!(!keys[index + 1..].contains(one), "{index}");
        }
        assert!(key("QUERY", &[json, ("accept", "x")], b"a") == keys[5]);
        assert!(keys[..11].iter().all(|one| one.key.url() == keys[0].key.url()));
    }

    #[test]
    fn requests_that_differ_in_url_or_host_have_different_keys() {
        let policy = compile(Policy::new());
        let uris = [
            "/",
            "/x",
            "/x?",
            "/x?a=1",
            "/x?a=2",
            "/x?b=1&a=1",
            "/x?a=1&b=1",
            "/x/",
            "//x",
            "/%2Fx",
            "/%2fx",
            "/x%3Fa=1",
            "/X",
        ];
        let mut keys: Vec<_> =
            uris.iter().map(|uri| key(&policy, uri, &[HOST_A]).unwrap()).collect();
        keys.push(key(&policy, "/x", &[("host", "b")]).unwrap());
        keys.push(key(&policy, "/x", &[("host", "a:81")]).unwrap());
        for (index, one) in keys.iter().enumerate() {
            assert!(!keys[index + 1..].contains(one), "{index} of {uris:?}");
        }
    }

    #[test]
    fn request_with_contradicting_hosts_has_no_key() {
        let policy = compile(Policy::new());
        for (case, uri, fields, has_key) in [
            ("no host", "/", &[][..], true),
            ("two hosts", "/", &[HOST_A, ("host", "b")], false),
            ("absolute form, the same host", "http://a/", &[HOST_A], false),
            ("absolute form, another host", "http://evil/", &[HOST_A], false),
            ("absolute form without Host", "http://a/", &[], false),
            ("an odd host", "/", &[("host", "a b,c")], true),
            ("an empty host", "/", &[("host", "")], true),
        ] {
            assert_eq!(key(&policy, uri, fields).is_some(), has_key, "{case}");
        }
        for (host, has_key) in [(None, true), (Some("A"), true), (Some("evil"), false)] {
            let request = TestRequest::with_uri("http://a/").version(Version::HTTP_2);
            let request = host
                .into_iter()
                .fold(request, |request, host| request.append_header(("host", host)));
            let request = request.to_srv_request();
            assert_eq!(policy.key(&request, None).is_ok(), has_key, "HTTP/2 with {host:?}");
        }
    }

    #[test]
    fn different_values_of_a_key_part_make_different_keys() {
        let policy =
            Policy::new().key_header("x-tenant").vary_cookie("lang").key_with("vip", |request| {
                request.headers().contains_key("x-vip").then(|| "1".to_owned())
            });
        let policy = compile(policy);
        let tenant = |value| ("x-tenant", value);
        let requests: &[&[(&str, &str)]] = &[
            &[HOST_A],
            &[HOST_A, tenant("")],
            &[HOST_A, tenant("a")],
            &[HOST_A, tenant("b")],
            &[HOST_A, tenant("a"), tenant("b")],
            &[HOST_A, tenant("1:a1:b")],
            &[HOST_A, tenant("b"), tenant("a")],
            &[HOST_A, tenant("ab"), tenant("")],
            &[HOST_A, tenant("a, b")],
            &[HOST_A, ("cookie", "lang=a")],
            &[HOST_A, ("cookie", "lang=")],
            &[HOST_A, ("cookie", "lang=b; other=1")],
            &[HOST_A, ("x-vip", "")],
        ];
        let keys: Vec<_> =
            requests.iter().map(|fields| key(&policy, "/", fields).unwrap()).collect();
        for (index, one) in keys.iter().enumerate() {
            assert!(!keys[index + 1..].contains(one), "{:?}", requests[index]);
        }
        assert!(keys.iter().all(|one| one.url() == keys[0].url()));
    }

    #[test]
    fn key_by_no_vary_search_has_the_significant_query_and_the_rule() {
        let variance = |value: &'static str| {
            let mut fields = HeaderMap::new();
            let name = HeaderName::from_static("no-vary-search");
            fields.insert(name, HeaderValue::from_static(value));
            NoVarySearch::of(&fields)
        };
        let policy = compile(Policy::new().query(QueryKey::ignoring(["ignored"])));
        let key = |uri: &str, value| {
            let request = TestRequest::with_uri(uri).insert_header(HOST_A).to_srv_request();
            policy.key(&request, variance(value).as_ref()).unwrap()
        };
        let one = key("/x?a=1&utm=2", "params=(\"utm\")");
        assert!(one == key("/x?utm=3&a=1&ignored=9", "params=(\"utm\")"));
        let others = [
            key("/x?a=1", ""),
            key("/x?a=1", "key-order"),
            key("/x?a=2", "params=(\"utm\")"),
            key("/y?a=1", "params=(\"utm\")"),
        ];
        assert!(!others.contains(&one));
        // A purge of the path reaches both.
        assert!(one.key.url() == others[1].key.url() && one.key.url() != others[0].key.url());
        assert!(one.key.of_path() == others[0].key.of_path());
    }

    #[test]
    fn key_of_a_url_is_completed_with_fields_and_cookies() {
        let target = |query: Option<&str>| UrlTarget {
            host: "a".to_owned(),
            path: "/x".to_owned(),
            query: query.map(str::to_owned),
        };
        let sorted = compile(Policy::new().query(QueryKey::sorted()));
        let url = sorted.key_for_url("http", &target(Some("b=1&a=2")));
        assert!(Some(url) == key(&sorted, "/x?a=2&b=1", &[HOST_A]));
        let with_parts = compile(Policy::new().key_header("x-tenant").vary_cookie("a"));
        let fields = [HOST_A, ("x-tenant", "1"), ("cookie", "a=b")];
        let want = key(&with_parts, "/x", &fields).unwrap();
        let url = with_parts.key_for_url("http", &target(None));
        let request = fields
            .iter()
            .fold(TestRequest::default(), |request, field| request.append_header(*field));
        let got = with_parts.key_for_fields(&url, request.to_srv_request().headers());
        assert!(got == Some(want));
        let computed = compile(Policy::new().key_with("a", |_| None));
        assert_eq!(computed.key_for_fields(&url, &HeaderMap::new()), None);
    }
}
