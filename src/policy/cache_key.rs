//! Computes the cache key of a request, and the cache keys that requests for a URL can have.

use actix_web::{
    dev::{ServiceRequest, Url},
    http::header::{HeaderMap, HeaderName},
};

use super::{
    compiled::CompiledPolicy,
    matched::MatchedRules,
    request_url::{AmbiguousHost, host, scheme},
};
use crate::{
    entry::{key::CacheKey, length_prefixed::append_part, url::UrlTarget},
    semantics::{
        cookies::{CookieRules, Part},
        fields::field_lines,
    },
};

impl CompiledPolicy {
    /// Returns the cache key of a request. `matched` are the rules that match the request.
    pub(crate) fn key(
        &self,
        request: &ServiceRequest,
        matched: &MatchedRules,
    ) -> Result<CacheKey, AmbiguousHost> {
        let host = host(request)?;
        let scheme = scheme(request);
        let uri = request.uri();
        let mut key = match self.query(matched) {
            None => CacheKey::in_scope(&self.scope, scheme, host, uri.path(), uri.query()),
            Some(rules) => {
                let query = rules.normalize(uri.query());
                CacheKey::in_scope(&self.scope, scheme, host, uri.path(), query.as_deref())
            }
        };
        self.push_fields(&mut key, request.headers());
        for part in &self.policy.key_parts {
            let value = part.value.of(request);
            key.push_part(&format!("with {}", part.name), value.as_deref().map(str::as_bytes));
        }
        Ok(key)
    }

    /// Adds the request fields and cookies that are part of the cache key to `key`.
    fn push_fields(&self, key: &mut CacheKey, fields: &HeaderMap) {
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

    /// Returns the cache keys that requests for a URL can have. Request fields, cookies and
    /// computed values are not added to these keys.
    ///
    /// There are several keys because the scheme is not known, and because a rule with a predicate
    /// may apply to some requests only and select other query parameters for the key.
    pub(crate) fn keys_for_url(&self, target: &UrlTarget) -> Vec<CacheKey> {
        let uri = target.path.parse().unwrap_or_default();
        // Rules match the path that actix has decoded for routing.
        let decoded = Url::new(uri);
        let mut keys = Vec::new();
        for scheme in ["http", "https"] {
            for query in self.queries_of_path(decoded.path()) {
                let sent = target.query.as_deref();
                let query = match query {
                    None => sent.map(Into::into),
                    Some(rules) => rules.normalize(sent),
                };
                let key = CacheKey::in_scope(
                    &self.scope,
                    scheme,
                    &target.host,
                    &target.path,
                    query.as_deref(),
                );
                if !keys.contains(&key) {
                    keys.push(key);
                }
            }
        }
        keys
    }

    /// Returns the cache key `url`, a result of [`keys_for_url`](Self::keys_for_url), completed
    /// with the fields and cookies of a request that are part of cache keys. `None` if cache keys
    /// also contain values that the application computes, because the computation needs the whole
    /// request.
    pub(crate) fn key_for_fields(&self, url: &CacheKey, fields: &HeaderMap) -> Option<CacheKey> {
        if !self.policy.key_parts.is_empty() {
            return None;
        }
        let mut key = url.clone();
        self.push_fields(&mut key, fields);
        Some(key)
    }
}

/// Adds all lines of a request field to a cache key.
fn push_field(key: &mut CacheKey, name: &HeaderName, fields: &HeaderMap) {
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
    use actix_web::{http::Version, test::TestRequest};

    use super::{
        super::{compiled::Unmatched, query::QueryKey, rule::Rule, settings::Policy},
        *,
    };

    fn compile(policy: Policy, rules: Vec<Rule>) -> CompiledPolicy {
        CompiledPolicy::new(policy, rules, Unmatched::Policy, "t").unwrap()
    }

    fn key(policy: &CompiledPolicy, uri: &str, fields: &[(&str, &str)]) -> Option<CacheKey> {
        let request = fields
            .iter()
            .fold(TestRequest::with_uri(uri), |request, field| request.append_header(*field))
            .to_srv_request();
        policy.key(&request, &policy.match_rules(&request)?).ok()
    }

    const HOST_A: (&str, &str) = ("host", "a");

    #[test]
    fn requests_that_differ_in_url_or_host_have_different_keys() {
        let policy = compile(Policy::new(), vec![]);
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
        let policy = compile(Policy::new(), vec![]);
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
            let matched = policy.match_rules(&request).unwrap();
            assert_eq!(policy.key(&request, &matched).is_ok(), has_key, "HTTP/2 with {host:?}");
        }
    }

    #[test]
    fn different_values_of_a_key_part_make_different_keys() {
        let policy =
            Policy::new().key_header("x-tenant").vary_cookie("lang").key_with("vip", |request| {
                request.headers().contains_key("x-vip").then(|| "1".to_owned())
            });
        let policy = compile(policy, vec![]);
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
    fn keys_of_a_url_contain_the_key_of_every_request_for_it() {
        let target = |path: &str, query: Option<&str>| UrlTarget {
            host: "a".to_owned(),
            path: path.to_owned(),
            query: query.map(str::to_owned),
        };
        let policy = compile(
            Policy::new().query(QueryKey::sorted()),
            vec![
                Rule::path("/maybe").when(|_| true).query(QueryKey::only(["q"])),
                Rule::path("/only").query(QueryKey::only(["q"])),
            ],
        );
        for (path, query, sent) in [
            ("/x", Some("b=1&a=2"), "/x?a=2&b=1"),
            ("/only", Some("b=1&q=2"), "/only?q=2&z"),
            ("/%6Fnly", Some("b=1&q=2"), "/%6Fnly?q=2&z"),
            ("/maybe", Some("b=1&q=2"), "/maybe?q=2"),
        ] {
            let urls = policy.keys_for_url(&target(path, query));
            assert!(urls.contains(&key(&policy, sent, &[HOST_A]).unwrap()), "{path}");
        }
        assert_eq!(policy.keys_for_url(&target("/maybe", Some("b=1&q=2"))).len(), 4);

        let with_parts = compile(Policy::new().key_header("x-tenant").vary_cookie("a"), vec![]);
        let fields = [HOST_A, ("x-tenant", "1"), ("cookie", "a=b")];
        let want = key(&with_parts, "/x", &fields).unwrap();
        let urls = with_parts.keys_for_url(&target("/x", None));
        let url = urls.iter().find(|url| want.as_bytes().starts_with(url.as_bytes())).unwrap();
        let request = fields
            .iter()
            .fold(TestRequest::default(), |request, field| request.append_header(*field));
        let got = with_parts.key_for_fields(url, request.to_srv_request().headers());
        assert!(got == Some(want));
        let computed = compile(Policy::new().key_with("a", |_| None), vec![]);
        assert_eq!(computed.key_for_fields(url, &HeaderMap::new()), None);
    }
}
