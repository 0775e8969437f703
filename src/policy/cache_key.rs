//! Naming: the key of a request, and the keys a URL may have.

use actix_web::{
    dev::{ServiceRequest, Url},
    http::header::{FORWARDED, HOST, HeaderMap, X_FORWARDED_HOST, X_FORWARDED_PROTO},
};
use smallvec::SmallVec;

use super::compiled::{CompiledPolicy, MatchedRules};
use crate::{
    entry::{key::CacheKey, url::UrlTarget},
    semantics::{
        cookies::{CookieRules, Part},
        fields::{field_lines, list_members, split, trim},
    },
};

/// The request does not say unambiguously which host it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unnameable;

impl CompiledPolicy {
    /// The key of a request.
    pub(crate) fn key(
        &self,
        request: &ServiceRequest,
        matched: &MatchedRules,
    ) -> Result<CacheKey, Unnameable> {
        let host = host(request)?;
        let scheme = scheme(request);
        let uri = request.uri();
        let mut key = match self.query(matched) {
            None => CacheKey::in_scope(&self.scope, scheme, host, uri.path(), uri.query()),
            Some(rules) => {
                let query = rules.normalized(uri.query());
                CacheKey::in_scope(&self.scope, scheme, host, uri.path(), query.as_deref())
            }
        };
        self.push_parts(&mut key, request);
        Ok(key)
    }

    /// The parts that the application adds: fields, cookies, what it makes itself.
    fn push_parts(&self, key: &mut CacheKey, request: &ServiceRequest) {
        self.push_known_parts(key, request.headers());
        for part in &self.policy.key_parts {
            let value = (part.make)(request);
            key.push_part(&format!("with {}", part.name), value.as_deref().map(str::as_bytes));
        }
    }

    fn push_known_parts(&self, key: &mut CacheKey, fields: &HeaderMap) {
        for name in &self.personal.keyed {
            let mut lines = field_lines(fields, name);
            let first = lines.next();
            match lines.next() {
                None => key.push_part(name.as_str(), first),
                Some(second) => {
                    // Lengths between the lines: two lines are not one with a comma.
                    let mut all = Vec::new();
                    for line in first.into_iter().chain([second]).chain(lines) {
                        all.extend_from_slice(format!("{}:", line.len()).as_bytes());
                        all.extend_from_slice(line);
                    }
                    key.push_part(&format!("{name}*"), Some(&all));
                }
            }
        }
        for name in &self.policy.cookies.keyed {
            match CookieRules::part(fields, name) {
                None => key.push_part(&format!("cookie {name}"), None),
                Some(Part::Value(value)) => key.push_part(&format!("cookie {name}"), Some(value)),
                Some(Part::All(all)) => key.push_part("cookies", Some(&all)),
            }
        }
    }

    /// Whether one URL has several keys.
    pub(crate) fn has_key_parts(&self) -> bool {
        !(self.personal.keyed.is_empty()
            && self.policy.cookies.keyed.is_empty()
            && self.policy.key_parts.is_empty())
    }

    /// The keys that a URL may have, but for parts that the application adds.
    pub(crate) fn keys_for_url(&self, target: &UrlTarget) -> Vec<CacheKey> {
        let uri = target.path.parse().unwrap_or_default();
        // Decoded as for routing, for rules are matched against that.
        let decoded = Url::new(uri);
        let mut keys = Vec::new();
        for scheme in ["http", "https"] {
            for query in self.queries_of(decoded.path()) {
                let sent = target.query.as_deref();
                let query = match query {
                    None => sent.map(Into::into),
                    Some(rules) => rules.normalized(sent),
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

    /// With the parts that a request with these fields has, if these tell.
    pub(crate) fn key_for_fields(&self, url: &CacheKey, fields: &HeaderMap) -> Option<CacheKey> {
        if !self.policy.key_parts.is_empty() {
            return None;
        }
        let mut key = url.clone();
        self.push_known_parts(&mut key, fields);
        Some(key)
    }
}

/// The scheme by which the request came in. Fields that claim another are anybody's to send.
pub(crate) fn scheme(request: &ServiceRequest) -> &'static str {
    if request.app_config().secure() { "https" } else { "http" }
}

/// The host that the request means: `Host`, or `:authority` in HTTP/2.
fn host(request: &ServiceRequest) -> Result<&str, Unnameable> {
    let authority = request.uri().authority().map(|authority| authority.as_str());
    let mut lines = request.headers().get_all(HOST);
    let Some(line) = lines.next() else { return authority.ok_or(Unnameable) };
    let host = line.to_str().map_err(|_| Unnameable)?;
    // Two hosts, or an absolute-form target (RFC 9112 section 3.2.2) that names another: handlers
    // may look at either.
    let agrees = authority.is_none_or(|authority| authority.eq_ignore_ascii_case(host));
    if lines.next().is_some() || !agrees {
        return Err(Unnameable);
    }
    Ok(host)
}

/// The URLs that a request may be about: one, unless it names several hosts.
pub(crate) fn target_urls(request: &ServiceRequest) -> Vec<UrlTarget> {
    let uri = request.uri();
    let lines = request.headers().get_all(HOST).filter_map(|line| line.to_str().ok());
    let authority = uri.authority().map(|authority| authority.as_str());
    let mut hosts: Vec<_> = lines.chain(authority).collect();
    hosts.dedup_by(|one, other| one.eq_ignore_ascii_case(other));
    let target = |host: &str| UrlTarget {
        host: host.to_owned(),
        path: uri.path().to_owned(),
        query: uri.query().map(str::to_owned),
    };
    hosts.into_iter().map(target).collect()
}

/// What handlers can tell requests apart by although no key says so: the cache's place among
/// nested ones, and what actix makes links from (`url_for`, `ConnectionInfo`) beside the host and
/// the scheme in the key. Empty for the outermost cache without a proxy in front.
pub(crate) fn discriminator_for(layer: u8, request: &ServiceRequest) -> SmallVec<[u8; 32]> {
    let mut text = SmallVec::new();
    if layer > 0 {
        note(&mut text, b'l', &[layer]);
    }
    // An absolute-form target and `:scheme` say what the client likes.
    if let Some(claimed) = request.uri().scheme_str().filter(|&claimed| claimed != scheme(request))
    {
        note(&mut text, b's', claimed.as_bytes());
    }
    for line in field_lines(request.headers(), &X_FORWARDED_HOST) {
        note(&mut text, b'h', line);
    }
    for line in field_lines(request.headers(), &X_FORWARDED_PROTO) {
        note(&mut text, b'p', line);
    }
    for line in field_lines(request.headers(), &FORWARDED) {
        // RFC 7239 section 4 has quoted strings, in which actix sees separators all the same:
        // what either way of reading finds is told apart.
        let by_the_rfc = list_members(line).flat_map(|element| split(element, b';'));
        let by_actix = line.split(|byte| matches!(byte, b',' | b';')).map(trim);
        for pair in by_the_rfc.chain(by_actix).filter(|pair| makes_links(pair)) {
            note(&mut text, b'f', pair);
        }
    }
    text
}

/// Whether a pair of `Forwarded` tells the host or the scheme.
fn makes_links(pair: &[u8]) -> bool {
    let name = trim(pair.split(|&byte| byte == b'=').next().unwrap_or_default());
    name.eq_ignore_ascii_case(b"host") || name.eq_ignore_ascii_case(b"proto")
}

fn note(text: &mut SmallVec<[u8; 32]>, kind: u8, value: &[u8]) {
    text.push(kind);
    text.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_be_bytes());
    text.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;
    use crate::policy::{Policy, compiled::Unmatched, query::QueryKey, rule::Rule};

    fn checked(policy: Policy, rules: Vec<Rule>) -> CompiledPolicy {
        CompiledPolicy::new(policy, rules, Unmatched::Policy, "t").unwrap()
    }

    fn key(cache: &CompiledPolicy, uri: &str, fields: &[(&str, &str)]) -> Option<CacheKey> {
        let request = fields
            .iter()
            .fold(TestRequest::with_uri(uri), |request, field| request.append_header(*field))
            .to_srv_request();
        cache.key(&request, &cache.match_rules(&request)?).ok()
    }

    const HOST_A: (&str, &str) = ("host", "a");

    #[test]
    fn requests_that_differ_in_url_or_host_have_different_keys() {
        let cache = checked(Policy::new(), vec![]);
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
            "/%78",
            "/x%3Fa=1",
            "/X",
        ];
        let mut keys: Vec<_> =
            uris.iter().map(|uri| key(&cache, uri, &[HOST_A]).unwrap()).collect();
        keys.push(key(&cache, "/x", &[("host", "b")]).unwrap());
        keys.push(key(&cache, "/x", &[("host", "a:81")]).unwrap());
        for (index, one) in keys.iter().enumerate() {
            assert!(!keys[index + 1..].contains(one), "{index} of {uris:?}");
        }
    }

    #[test]
    fn a_request_that_is_unclear_about_its_host_has_no_key() {
        let cache = checked(Policy::new(), vec![]);
        for (case, uri, fields, named) in [
            ("no host", "/", &[][..], false),
            ("two hosts", "/", &[HOST_A, ("host", "b")], false),
            ("absolute form, the same host", "http://A/", &[HOST_A], true),
            ("absolute form, another host", "http://evil/", &[HOST_A], false),
            (":authority alone", "http://a/", &[], true),
            ("an odd host", "/", &[("host", "a b,c")], true),
            ("an empty host", "/", &[("host", "")], true),
        ] {
            assert_eq!(key(&cache, uri, fields).is_some(), named, "{case}");
        }
    }

    #[test]
    fn parts_of_the_key_keep_their_values_apart() {
        let policy =
            Policy::new().key_header("x-tenant").vary_cookie("lang").key_with("path", |request| {
                request.headers().contains_key("x-vip").then(|| "1".to_owned())
            });
        let cache = checked(policy, vec![]);
        let tenant = |value| ("x-tenant", value);
        let requests: &[&[(&str, &str)]] = &[
            &[HOST_A],
            &[HOST_A, tenant("")],
            &[HOST_A, tenant("a")],
            &[HOST_A, tenant("b")],
            &[HOST_A, tenant("a"), tenant("b")],
            &[HOST_A, tenant("1:a1:b")],
            &[HOST_A, tenant("a, b")],
            &[HOST_A, ("cookie", "lang=a")],
            &[HOST_A, ("cookie", "lang=")],
            &[HOST_A, ("cookie", "lang=b; other=1")],
            &[HOST_A, ("x-vip", "")],
        ];
        let keys: Vec<_> =
            requests.iter().map(|fields| key(&cache, "/", fields).unwrap()).collect();
        for (index, one) in keys.iter().enumerate() {
            assert!(!keys[index + 1..].contains(one), "{:?}", requests[index]);
        }
        assert!(keys.iter().all(|one| one.url() == keys[0].url()));
    }

    #[test]
    fn every_key_a_url_may_have_is_found_for_purging() {
        let target = |path: &str, query: Option<&str>| UrlTarget {
            host: "a".to_owned(),
            path: path.to_owned(),
            query: query.map(str::to_owned),
        };
        let cache = checked(
            Policy::new().query(QueryKey::sorted()),
            vec![
                Rule::path("/perhaps").when(|_| true).query(QueryKey::only(["q"])),
                Rule::path("/only").query(QueryKey::only(["q"])),
            ],
        );
        for (path, query, sent) in [
            ("/x", Some("b=1&a=2"), "/x?a=2&b=1"),
            ("/only", Some("b=1&q=2"), "/only?q=2&z"),
            ("/%6Fnly", Some("b=1&q=2"), "/%6Fnly?q=2&z"),
            ("/perhaps", Some("b=1&q=2"), "/perhaps?q=2"),
        ] {
            let urls = cache.keys_for_url(&target(path, query));
            assert!(urls.contains(&key(&cache, sent, &[HOST_A]).unwrap()), "{path}");
        }
        assert!(!cache.has_key_parts());
        assert_eq!(cache.keys_for_url(&target("/perhaps", Some("b=1&q=2"))).len(), 4);

        let parted = checked(Policy::new().key_header("x-tenant").vary_cookie("a"), vec![]);
        let fields = [HOST_A, ("x-tenant", "1"), ("cookie", "a=b")];
        let whole = key(&parted, "/x", &fields).unwrap();
        let urls = parted.keys_for_url(&target("/x", None));
        let url = urls.iter().find(|url| url.as_bytes() == whole.url()).unwrap();
        let request = fields
            .iter()
            .fold(TestRequest::default(), |request, field| request.append_header(*field));
        let known = parted.key_for_fields(url, request.to_srv_request().headers());
        assert!(parted.has_key_parts() && known == Some(whole));
        let hidden = checked(Policy::new().key_with("a", |_| None), vec![]);
        assert_eq!(hidden.key_for_fields(url, &HeaderMap::new()), None);
    }

    #[test]
    fn what_links_are_made_from_splits_readers_and_nothing_else_does() {
        let at = |uri, layer, fields: &[(&'static str, &str)]| {
            let request = fields
                .iter()
                .fold(TestRequest::with_uri(uri), |request, field| request.append_header(*field))
                .to_srv_request();
            discriminator_for(layer, &request)
        };
        let split = |layer, fields: &[(&'static str, &str)]| at("/", layer, fields);
        assert!(
            split(0, &[("x-forwarded-for", "1.2.3.4"), ("forwarded", "for=1.2.3.4")]).is_empty()
        );
        let all = [
            split(0, &[]),
            split(1, &[]),
            split(0, &[("x-forwarded-host", "a")]),
            split(0, &[("x-forwarded-proto", "a")]),
            split(0, &[("x-forwarded-host", "a"), ("x-forwarded-proto", "a")]),
            split(0, &[("forwarded", "for=x;host=a")]),
            split(0, &[("forwarded", "for=y, HOST = b ; proto=http")]),
            split(0, &[("forwarded", "for=\"x;host=a\"")]),
            split(0, &[("forwarded", "for=\"x, proto=a\"")]),
            split(0, &[("forwarded", "host=\"a,b\"")]),
            split(0, &[("forwarded", "host=\"a,c\"")]),
            at("https://a/", 0, &[]),
            at("ftp://a/", 0, &[]),
        ];
        assert_eq!(at("http://a/", 0, &[]), all[0]);
        for (index, one) in all.iter().enumerate() {
            assert!(!all[index + 1..].contains(one), "{index}");
        }
        assert_eq!(
            split(0, &[("forwarded", "for=x;host=a")]),
            split(0, &[("forwarded", "for=y;host=a")])
        );
    }
}
